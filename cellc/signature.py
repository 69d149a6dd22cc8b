"""The arguments of a compiled call: what is traced, what is known, and the signature they give.

Tensors, arrays, floats and ints are *traced* leaves: only their types matter to the program.
Tuples, lists, dicts and named tuples are looked into. Everything else (None, strings, bools,
dtypes, cells, functions) is known: the program is made for that very value. So is a Parameter,
which the program may assign. An int turns known where the program needs it while compiling (a
size, an axis), or where 64 bits do not hold it.
"""

from __future__ import annotations

import sys

import numpy as np

from cellc.errors import TypeFault
from cellc.ir.types import Dim, ScalarType, TensorType, dtype, f64, i64
from cellc.parameter import Parameter
from cellc.parser.guards import same
from cellc.record import record
from cellc.tensor import Tensor

MAX_NESTING = 100       # of the containers among the arguments
_INTS = range(-(1 << 63), 1 << 63)


@record(frozen=True)
class Known:
    """An argument the program is made for, compared by type and value, else by identity."""

    value: object

    def __eq__(self, other):
        return isinstance(other, Known) and same(self.value, other.value)

    def __hash__(self):
        return hash(type(self.value))


@record(frozen=True)
class Container:
    """A container: its kind, its keys (of a dict), its items."""

    kind: type
    keys: tuple
    items: tuple


def flatten(value, leaves: list, depth: int = 0):
    """The structure of an argument; its traced leaves are appended to `leaves`."""
    kind = type(value)
    if kind is float or (kind is int and value in _INTS) or isinstance(
            value, (Tensor, np.ndarray, np.generic)) and not isinstance(value, Parameter):
        leaves.append(value)
        return None
    if kind not in (tuple, list, dict) and not (isinstance(value, tuple)
                                                and hasattr(value, "_fields")):
        return Known(value)
    if depth > MAX_NESTING:
        raise TypeFault(f"an argument holds containers more than {MAX_NESTING} deep, or holds "
                        "itself", "pass its tensors in one tuple, list or dict")
    keys, items = (tuple(value), value.values()) if kind is dict else ((), value)
    return Container(kind, keys, tuple(flatten(v, leaves, depth + 1) for v in items))


def plain(leaf):
    """A traced leaf as every program takes it: a number as it is, else an array as NumPy's own
    allocations are (C order, aligned, this machine's bytes), copied only where it is not so."""
    if type(leaf) in (float, int):
        return leaf
    array = leaf._array if isinstance(leaf, Tensor) else leaf
    if _is_masked(array):
        raise TypeFault("found a masked array among the arguments: a tensor has no mask",
                        "x.filled(value)")
    try:
        own = dtype(array.dtype)
    except TypeFault as fault:
        raise TypeFault(f"found an array of dtype {array.dtype} among the arguments",
                        fault.hint) from None
    array = np.asarray(array, own.numpy, order="C")
    return array if array.flags.aligned else array.copy()


def _is_masked(array) -> bool:
    """Asked without importing `np.ma`, which takes longer than many a program's compilation."""
    masked = sys.modules.get("numpy.ma")
    return masked is not None and isinstance(array, masked.MaskedArray)


def rebuild(structure, leaves):
    """The argument again, with the next items of the iterator `leaves` in the leaves' places."""
    if structure is None:
        return next(leaves)
    if isinstance(structure, Known):
        return structure.value
    items = [rebuild(s, leaves) for s in structure.items]
    if structure.kind is dict:
        return dict(zip(structure.keys, items, strict=True))
    return structure.kind(*items) if hasattr(structure.kind, "_fields") else structure.kind(items)


def fix(structure, leaves: list, positions: frozenset):
    """The structure with the leaves at `positions` known for their values, and the other leaves."""
    count, kept = iter(range(len(leaves))), []

    def visit(s):
        if s is None:
            i = next(count)
            if i in positions:
                return Known(leaves[i])
            kept.append(leaves[i])
            return None
        if isinstance(s, Known):
            return s
        return Container(s.kind, s.keys, tuple(map(visit, s.items)))

    return visit(structure), kept


def without_text(structure):
    """The structure with the class of each known string in its place."""
    if isinstance(structure, Known) and isinstance(structure.value, (str, bytes)):
        return type(structure.value)
    if isinstance(structure, Container):
        return Container(structure.kind, structure.keys, tuple(map(without_text, structure.items)))
    return structure


def quick_key(args: tuple) -> tuple | None:
    """What two calls of one plan have in common; None where it takes longer to find out."""
    key: list = []
    for x in args:
        kind = type(x)
        if kind is Tensor:
            key.append((x._array.dtype, x._array.ndim))
        elif isinstance(x, np.generic):
            key.append((x.dtype, 0))
        elif kind is float or kind is int and -1 << 63 <= x < 1 << 63:
            key.append(kind)
        elif kind is bool or x is None:
            key.append((kind, x))
        else:
            return None
    return tuple(key)


def leaf_type(value) -> TensorType | ScalarType:
    """The type by which a traced argument, made `plain`, is known."""
    if isinstance(value, np.ndarray):
        return TensorType(dtype(value.dtype), tuple(value.shape))
    return ScalarType(f64 if type(value) is float else i64)


def symbolic(old: tuple, new: tuple) -> tuple | None:
    """Leaf types that cover both signatures with one symbolic leading dimension, or None.

    They must differ in leading dimensions only, all by the same two sizes, both at least 2. (Where
    the old one is symbolic itself it was asked already, and does not cover the new one.)
    """
    sizes = None
    result = []
    for a, b in zip(old, new, strict=True):
        if a == b:
            result.append(a)
            continue
        if not (isinstance(a, TensorType) and isinstance(b, TensorType) and a.dtype is b.dtype
                and a.ndim == b.ndim and a.shape[1:] == b.shape[1:]):
            return None
        pair = (a.shape[0], b.shape[0])
        if isinstance(pair[0], Dim) or min(pair) < 2 or (sizes is not None and sizes != pair):
            return None
        sizes = pair
        result.append(a)
    if sizes is None:
        return None
    n = Dim("n")
    return tuple(t.with_shape((n, *t.shape[1:])) if isinstance(t, TensorType) and t.ndim
                 and t.shape[0] == sizes[0] and s.shape[0] == sizes[1] else t
                 for t, s in zip(result, new, strict=True))


def covers(types: tuple, actual: tuple) -> bool:
    """Whether a program for `types` serves arguments of the `actual` types."""
    sizes: dict[str, int] = {}
    return len(types) == len(actual) and all(
        t == a or _covers(t, a, sizes) for t, a in zip(types, actual, strict=True))


def _covers(type, actual, sizes: dict[str, int]) -> bool:
    if not (isinstance(type, TensorType) and isinstance(actual, TensorType)
            and type.dtype is actual.dtype and type.ndim == actual.ndim):
        return False
    for d, n in zip(type.shape, actual.shape, strict=True):
        if isinstance(d, Dim):
            if n < 2 or sizes.setdefault(d.name, n) != n:
                return False
        elif d != n:
            return False
    return True
