"""Indices that are numbers: one place, known now or when the program runs."""

from __future__ import annotations

from cellc.errors import IndexFault
from cellc.ir import arith
from cellc.ir.graph import Constant
from cellc.ir.prims import shape as s
from cellc.ir.types import Dim, ScalarType, TensorType, i64
from cellc.ops.common import building


def is_traced(part) -> bool:
    return isinstance(getattr(part, "type", None), (TensorType, ScalarType))


def place_at(i: int, n, axis: int):
    """A known int index, counted from the left."""
    if isinstance(n, Dim) and i < 0:
        return n + i                       # not known: SymbolicFault
    if not -n <= i < n if not isinstance(n, Dim) else not i < n:
        raise IndexFault(f"index {i} of axis {axis} of size {n}", f"{-n} to {n - 1}" if n else "")
    return i + n if i < 0 else i


def place_of(x, index) -> list | None:
    """The leading indices, as numbers of the program, where they name one element, or are numbers
    of which one is known only when the program runs, with whole axes behind; else None."""
    if not building():
        return None
    parts = list(index) if isinstance(index, tuple) else [index]
    while parts and (parts[-1] is Ellipsis or isinstance(parts[-1], slice)
                     and parts[-1] == slice(None)):
        parts.pop()
    if not parts or len(parts) > len(x.shape) or not all(map(_is_number, parts)):
        return None
    if len(parts) < len(x.shape) and not any(map(is_traced, parts)) and not any(
            map(arith.is_found, x.shape[:len(parts)])):
        return None                             # a view of x, which can be fused
    return [_number_at(part, n, axis) for axis, (part, n) in enumerate(
        zip(parts, x.shape, strict=False))]


def _is_number(part) -> bool:
    if is_traced(part):
        t = arith.type_of(part)
        return t.shape == () and t.dtype.is_int
    return isinstance(part, int) and not isinstance(part, bool)


def _number_at(part, n, axis: int):
    """An index counted from the left, as an i64 number."""
    if not is_traced(part):
        return _known_at(part, n, axis)
    if isinstance(arith.type_of(part), TensorType):
        part = s.to_scalar(part)
    part = arith.cast(part, i64)
    if isinstance(part, Constant):
        return _known_at(int(part.value), n, axis)
    size = arith.size_number(n) if isinstance(n, Dim) else n
    return arith.where(arith.less(part, 0), arith.add(part, size), part)


def _known_at(i: int, n, axis: int):
    """A known index; of an axis whose size the program finds, to be checked when it runs."""
    if not arith.is_found(n):
        return place_at(i, n, axis)
    return i if i >= 0 else arith.add(arith.size_number(n), i)
