"""binding: a compiled program as the native entry wants it described.

Arguments, lifted objects, guards and results of a variant become `kernels.entry` records. `direct`
variants take the user's own arguments; where those hold a dict or keywords, or the result holds
something the entry cannot build, the `flat` form takes and gives plain leaves.
"""

from __future__ import annotations

import numpy as np

from cellc.ir.types import Dim, ScalarType, TensorType
from cellc.kernels import entry
from cellc.kernels.native_layout import SCALARS
from cellc.parser import hooks
from cellc.parser.guards import MISSING, Guard, is_steady
from cellc.parser.values import SIMPLE, Slot
from cellc.signature import Container, Known
from cellc.tensor import Tensor


def dims(shape: tuple, symbols: tuple[str, ...]) -> tuple:
    """A shape in the entry's terms."""
    return tuple(_dim(d, symbols) if isinstance(d, Dim) else d for d in shape)


def _dim(d: Dim, symbols: tuple[str, ...]):
    symbol = entry.Symbol(symbols.index(d.name))
    return symbol if d.coef == 1 else entry.Size.of(d.coef, symbol)


def leaf_arg(type, symbols: tuple[str, ...], kind: type = np.ndarray) -> entry.Arg:
    """How a traced argument is checked and passed; `kind` is the class of a tensor."""
    if isinstance(type, ScalarType):
        return {"f": entry.FloatArg, "i": entry.IntArg, "b": entry.BoolArg}[type.dtype.kind]()
    return entry.TensorArg(type.dtype.numpy, dims(type.shape, symbols), kind)


def taken_as_is(leaf, plain) -> bool:
    """Whether the entry takes the leaf itself and not only `plain`, which was made of it."""
    return (leaf is plain or type(leaf) in SCALARS
            or (type(leaf) is Tensor and leaf._array is plain))


def structured_args(structure, leaves) -> list[entry.Arg] | None:
    """The entry's form of positional arguments, `leaves` yielding that of each leaf; None where
    a container is not one it looks into."""
    found = [_structured(s, leaves) for s in structure.items]
    return None if any(a is None for a in found) else found


def _structured(structure, leaves) -> entry.Arg | None:
    if structure is None:
        return next(leaves)
    if isinstance(structure, Known):
        return entry.KnownArg(structure.value)
    if not isinstance(structure, Container) or structure.kind not in (tuple, list):
        return None
    items = [_structured(s, leaves) for s in structure.items]
    if any(a is None for a in items):
        return None
    return entry.SequenceArg(tuple(items), structure.kind)


def result_out(type, symbols: tuple[str, ...]) -> entry.Out:
    """How one result is handed over."""
    if isinstance(type, TensorType):
        return entry.TensorOut(type.dtype.numpy, dims(type.shape, symbols), Tensor)
    return {"f": entry.FloatOut, "i": entry.IntOut, "b": entry.BoolOut}[type.dtype.kind]()


def structured_out(structure, outs: list[entry.Out], order: list[int]) -> entry.Out | None:
    """The entry's form of the result; `order` collects the slots as they occur. None where the
    result holds something the entry cannot build."""
    if isinstance(structure, Slot):
        order.append(structure.index)
        return outs[structure.index]
    if type(structure) in (tuple, list):
        items = [structured_out(s, outs, order) for s in structure]
        return None if any(i is None for i in items) else entry.TupleOut(tuple(items),
                                                                         type(structure))
    return entry.ObjectOut(structure) if isinstance(structure, SIMPLE) else None


def natively_checked(guards: list[Guard]) -> bool:
    """Whether the entry can look at all that was read. It cannot look into sets, arrays, the
    dictionaries of classes, and containers that iterate in a way of their own."""
    return not any(g.kind == "entry" or (g.kind == "contents" and not _plain_items(g.owner))
                   for g in guards)


def _plain_items(owner) -> bool:
    """Whether a list or dict has just the items it stores, or a Cell those in its attributes."""
    kind = type(owner)
    return kind in (list, dict) or (isinstance(owner, hooks.Cell)
                                    and is_steady(getattr(kind, "__iter__", kind).__module__))


BY_EPOCH = ("cell_attr", "listing")


def native_guards(guards: list[Guard], moment: int) -> tuple[list[entry.Guard], list[entry.Lifted]]:
    """The guards that the entry checks at each call. `moment` is the epoch in which they were seen
    to hold: it covers attributes of cells. The items of outside lists are looked at as lifted
    objects are."""
    found: list[entry.Guard] = [entry.EpochGuard(moment)]
    watched: list[entry.Lifted] = []
    for g in guards:
        if g.kind in BY_EPOCH:
            continue
        g = g.again()       # what is there now may equal what was read, and yet be another object
        value = entry.MISSING if g.value is MISSING else g.value
        if g.kind == "global":
            found.append(entry.DictGuard(g.owner, g.name, value))
        elif g.kind == "closure":
            found.append(entry.CellGuard(g.owner, value))
        elif g.kind in ("default", "attr"):
            found.append(entry.AttributeGuard(g.owner, g.name, value))
        elif g.kind == "contents" and type(g.owner) is list:
            items = tuple(map(entry.KnownArg, g.value))
            watched.append(entry.Lifted(g.owner, entry.SequenceArg(items, list)))
        elif g.kind == "contents" and type(g.owner) is dict:
            found.append(entry.ItemsGuard(g.owner, g.value))
    return found, watched


def arena_size(arena: dict[str, int], symbols: tuple[str, ...]) -> entry.Dim:
    """The bytes of a program's arena: a literal, or linear in the symbolic dimensions."""
    terms = tuple((count, (symbols.index(unit),)) for unit, count in arena.items()
                  if unit and count)
    fixed = arena.get("", 0)
    return entry.Size(terms, offset=fixed) if terms else fixed
