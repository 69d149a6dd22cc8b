"""Lists whose length only the running program knows.

    outputs = []
    while norm(x) > limit:
        x = step(x)
        outputs.append(x)           # in the program: a push on a tape
    return ops.stack(outputs)       # a tensor f32[?n,...], whose size the program finds

Such a list holds one thing, an OnTape: the tape on which the program has its items, each a record
of values of the same types. A list becomes one where two ways meet (the branches of an `if`, a loop
before and after a round) that give it different lengths. What can be done with it is here; all else
is refused. Whatever uses the tape gives the list another, since a tape is used once: so a branch or
round that only reads an item counts as one that changes the list.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from cellc.errors import CellcError, TypeFault
from cellc.ir import arith
from cellc.ir.graph import Node, scalar
from cellc.ir.prims import size, tape
from cellc.ir.prims.tape import TAPE
from cellc.ir.types import Dim, ScalarType, i64
from cellc.parser import hooks
from cellc.parser.sequence import Sequence
from cellc.parser.text import Raised, check
from cellc.parser.values import (
    Listed,
    OnTape,
    Side,
    Slot,
    describe,
    flatten,
    is_instance_of_dataclass,
    on_tape,
    refuse_whole,
    unflatten,
)

FEW_NUMBERS = 32        # of which one is chosen by comparing


class Grown(TypeFault):
    """A list that is gone through has come to be on a tape: better to put it there before."""

    def __init__(self, xs: list):
        self.xs = xs
        super().__init__("a list that is gone through changes its length, and how it does is known "
                         "only when the program runs", "go through it with a `for` statement")


def held(session, xs: list) -> OnTape:
    """What a list has instead of items, where its length is not known."""
    if xs not in session.owned:
        raise TypeFault("a list whose length is known only when the program runs is used in "
                        "another cell or differentiated function than the one that made it",
                        "pass ops.stack of it")
    return xs[0]


def refuse_tapes(leaves: list, what: str) -> None:
    """Refuse what would look at a list on a tape, which may be a part of something."""
    for x in leaves:
        if x.type == TAPE:
            refuse_whole(x, what)


# -- items as records ------------------------------------------------------------------------------

def record_of(session, item) -> tuple[Any, list]:
    """How an item is made of values, as a structure over slots, and the values."""
    leaves: list = []
    structure = flatten(_with_nodes(session, item), leaves, session.lift_anywhere)
    return structure, leaves


def _with_nodes(session, item):
    """The item with its numbers as values of the program."""
    if isinstance(item, (bool, int, float)) and not isinstance(item, hooks.traced):
        return session.lift(item)
    if isinstance(item, Dim):
        return arith.size_number(item)
    if isinstance(item, tuple):
        items = [_with_nodes(session, x) for x in item]
        return item._make(items) if hasattr(item, "_make") else tuple(items)
    if isinstance(item, (list, dict, set)) or is_instance_of_dataclass(item):
        raise TypeFault(f"{describe(item)} is an item of a list whose length is known only when "
                        "the program runs, and would be another object each time it is read",
                        "append tensors, numbers, or tuples of them")
    return item


def meeting(session, first: list, second: list) -> tuple[Any, tuple] | None:
    """The structure and types that all items of two lists have in common; None where they have
    none, or where both lists may stay as they are."""
    if len(first) == len(second) and on_tape(first) is on_tape(second) is None:
        return None
    kinds = [_kind(session, x) for x in (*first, *second)]
    if None in kinds or any(repr(kind[0]) != repr(kinds[0][0]) for kind in kinds):
        return None
    types = reduce(_meet, (kind[1] for kind in kinds))
    if any(type(x) is OnTape and x.types != types for x in (*first, *second)):
        return None         # what lies on a tape has its type
    return None if types is None else (kinds[0][0], types)


def _kind(session, item) -> tuple[Any, tuple] | None:
    if type(item) is OnTape:
        return item.item, item.types
    try:
        structure, leaves = record_of(session, item)
    except CellcError:
        return None
    return structure, tuple(x.type for x in leaves)


def _meet(first: tuple | None, second: tuple) -> tuple | None:
    """The one type of each of two records' values: numbers meet as they do in arithmetic."""
    if first == second:
        return first
    if first is None or len(first) != len(second):
        return None
    found = []
    for a, b in zip(first, second, strict=True):
        if a != b and not (isinstance(a, ScalarType) and isinstance(b, ScalarType)):
            return None
        found.append(a if a == b else ScalarType(arith.result_dtype(a, b)))
    return tuple(found)


def tape_of(session, side: Side):
    """The tape of a list's contents, in the graph that is being built."""
    found = on_tape(side.items)
    if found is not None:
        return session.builder.lift(found.tape)
    made = tape.tape_new()
    for item in side.items:
        made = _pushed(session, made, record_of(session, item)[1], side.types)
    return made


def _pushed(session, onto, leaves: list, types: tuple):
    made = tape.push(onto, *_in_types(leaves, types))
    session.aliases.pushed(made, onto, leaves)
    return made


def _in_types(leaves: list, types: tuple) -> list:
    return [x if x.type == t else arith.cast(x, t.dtype)
            for x, t in zip(leaves, types, strict=True)]


def laid_out(session, xs: list, more=()) -> OnTape | None:
    """The items of a list of known length on a tape, which will hold `more`; None where there are
    none, or of many types."""
    found = meeting(session, [*xs, *more], [])
    return None if found is None else OnTape(tape_of(session, Side(xs, found[1])), *found)


def put_on_tape(session, xs: list, more=()) -> bool:
    """Put a list of known length on a tape, where it can lie on one with `more`."""
    made = laid_out(session, xs, more)
    if made is not None:
        session.journal(xs)
        xs[:] = [made]
    return made is not None


# -- what a list can do ----------------------------------------------------------------------------

def _put(session, xs: list, now) -> None:
    """The list has this tape from now on."""
    session.journal(xs)
    xs[:] = [OnTape(now, xs[0].item, xs[0].types)]


def _taken(session, xs: list, found):
    """The item that a pop or a read gives beside another tape: it is the object in the list."""
    on = xs[0]
    now, *values = session.parts(found, len(on.types) + 1)
    for x in values:
        session.aliases.joined(x, on.tape, on.tape)
    session.aliases.changed(on.tape, now)
    _put(session, xs, now)
    return unflatten(on.item, values)


def length(session, xs: list):
    """`len(xs)`."""
    on = held(session, xs)
    return tape.tape_len(on.tape, types=on.types)


def to_change(session, xs: list) -> OnTape:
    on = held(session, xs)
    session.about_to_change(xs, "this")
    return on


def append(session, xs: list, item) -> None:
    """`xs.append(item)`."""
    on = to_change(session, xs)
    leaves = _leaves(session, on, item, "appended to")
    _put(session, xs, _pushed(session, on.tape, leaves, on.types))


def _leaves(session, on: OnTape, item, what: str) -> list:
    """The values of an item that is made as the list's other items are."""
    structure, leaves = record_of(session, item)
    if repr(structure) != repr(on.item) or _meet(
            on.types, tuple(x.type for x in leaves)) != on.types:
        raise TypeFault(f"{describe(item)} is {what} a list of {_shown(on)}, whose length is known "
                        "only when the program runs", "give all items one type")
    return leaves


def _shown(on: OnTape) -> str:
    return describe(on.types[0]) if on.item == Slot(0) else repr(unflatten(on.item, on.types))


def pop(session, xs: list):
    """`xs.pop()`."""
    on = to_change(session, xs)
    must_hold(session, arith.greater(length(session, xs), 0), IndexError("pop from empty list"))
    found = tape.pop(on.tape, types=on.types, bottomless=True)
    return _taken(session, xs, found)


def item(session, xs: list, index):
    """`xs[index]`, of an int or a number of the program."""
    on = held(session, xs)
    found = tape.tape_read(on.tape, _place(session, xs, index), types=on.types)
    return _taken(session, xs, found)


def store(session, xs: list, index, new) -> None:
    """`xs[index] = new`."""
    if isinstance(index, slice):
        refuse_whole(xs[0].tape, "an assignment to a slice")
    on = to_change(session, xs)
    leaves = _leaves(session, on, new, "assigned in")
    place = _place(session, xs, index)
    checked = tape.tape_read(on.tape, place, types=on.types)    # where there is an item
    changed = tape.tape_put(session.parts(checked, len(on.types) + 1)[0], place,
                            *_in_types(leaves, on.types))
    session.aliases.pushed(changed, on.tape, leaves)
    _put(session, xs, changed)


def _place(session, xs: list, index):
    """Where an item is, counted from the end."""
    session.check_uncaught(IndexError, session.builder.loc)
    if isinstance(index, int):
        index = int(index)
        return scalar(-index) if index < 0 else arith.sub(length(session, xs), index)
    index = whole(session, index)
    return arith.where(arith.less(index, 0), arith.negative(index),
                       arith.sub(length(session, xs), index))


def chosen(session, items, index):
    """`items[index]` of a list or tuple of a few numbers, by a number of the program; None of
    others, whose items have no one type or would all be copied."""
    one = _of_numbers(items)
    if one is None:
        return None
    at = _known_place(session, items, index)
    found, *others = _in_types([session.lift(x) for x in items], (one,) * len(items))
    for i, x in enumerate(others, start=1):
        found = arith.where(arith.equal(at, i), x, found)
    return found


def store_chosen(session, items: list, index, new) -> bool:
    """`items[index] = new` of such a list; False of others."""
    one = _of_numbers([*items, new])
    if one is None:
        return False
    at = _known_place(session, items, index)
    *values, new = _in_types([session.lift(x) for x in (*items, new)], (one,) * (len(items) + 1))
    session.about_to_change(items, "item assignment")
    items[:] = [arith.where(arith.equal(at, i), new, x) for i, x in enumerate(values)]
    return True


def _of_numbers(items) -> ScalarType | None:
    """The one type of a few numbers; None of others."""
    if not isinstance(items, (list, tuple)) or not 0 < len(items) <= FEW_NUMBERS or not all(
            isinstance(x, (bool, int, float, Node)) for x in items):
        return None
    types = [arith.type_of(x) for x in items]
    met = reduce(_meet, ((t,) for t in types)) if TAPE not in types else None
    return met[0] if met and isinstance(met[0], ScalarType) else None


def _known_place(session, items, index):
    """An index counted from the beginning, which is checked."""
    at, n = whole(session, index), len(items)
    must_hold(session, is_place(at, n),
               IndexError(f"{type(items).__name__} index out of range"))
    return arith.where(arith.less(at, 0), arith.add(at, n), at)


def is_place(at, n):
    return arith.bitwise_and(arith.greater_equal(at, arith.negative(n)), arith.less(at, n))


def whole(session, index):
    from cellc.parser.builtins import as_scalar

    node = as_scalar(session, index)
    if not node.type.dtype.is_int:
        raise TypeFault(f"a list is indexed by {describe(index)}", "convert it: int(i)")
    return arith.cast(node, i64)


def must_hold(session, condition, error: Exception) -> None:
    session.check_uncaught(type(error), session.builder.loc)
    check(session, condition, Raised(session, (type(error), error.args)))


class Items(Sequence):
    """The items of a list as a `for` goes through them: to its end, wherever that is by then."""

    def __init__(self, session, xs: list):
        self.session, self.xs = session, xs

    @property
    def length(self):
        return length(self.session, self.xs)

    def item(self, i):
        return item(self.session, self.xs, i)


# -- as tensors ------------------------------------------------------------------------------------

def rows(session, xs: list) -> list:
    """The items as one tensor for each of their values, of a size that the program finds."""
    on = held(session, xs)
    n = length(session, xs)
    dim = session.fresh_size()
    size.set_size(n, dim=dim)
    found = session.parts(tape.tape_rows(on.tape, n, types=on.types, dim=dim), len(on.types))
    again = tape.tape_of(*found, types=on.types)
    session.aliases.changed(on.tape, again)
    _put(session, xs, again)
    return found


def stack(session, xs: list, axis=0):
    """`ops.stack(xs, axis)`."""
    found = _stacked(session, xs, "stack")
    return found if axis == 0 else hooks.Tensor.moveaxis(found, 0, axis)


def _stacked(session, xs: list, name: str):
    on = held(session, xs)
    if on.item != Slot(0):
        raise TypeFault(f"ops.{name} of a list of {_shown(on)}", "keep a list for each part")
    must_hold(session, arith.greater(length(session, xs), 0), TypeFault(
        f"{name}: expected a tuple or list of tensors, and at least one"))
    return rows(session, xs)[0]


def concat(session, xs: list, axis=0):
    """`ops.concat(xs, axis)`."""
    found = _stacked(session, xs, "concat")
    if axis < 0:
        axis += found.type.ndim - 1
    if not 0 <= axis < found.type.ndim - 1:
        raise TypeFault(f"concat of {found.type.ndim - 1}-d tensors along axis {axis}",
                        "ops.stack makes a new axis")
    moved = hooks.Tensor.moveaxis(found, 0, axis) if axis else found
    n, m = moved.type.shape[axis:axis + 2]
    return hooks.Tensor.reshape(moved, (*moved.type.shape[:axis], n * m,
                                        *moved.type.shape[axis + 2:]))


_WHOLE = {"stack": stack, "concat": concat, "cat": concat}


def taken(session, function, args: list, kwargs: dict):
    """What a function of cellc gives for arguments with a list among them that lies on a tape."""
    name = getattr(function, "__name__", "")
    xs, *rest = args or [kwargs.pop("tensors", None)]
    if name not in _WHOLE or on_tape(xs) is None:
        on = next(on for x in (*args, *kwargs.values(), xs) if (on := on_tape(x)) is not None)
        refuse_whole(on.tape, f"{name}()")
    return _WHOLE[name](session, xs, *rest, **kwargs)


def handed_out(session, xs: list) -> Listed:
    """The list as a result of the program."""
    on = held(session, xs)
    return Listed(on.item, on.types, tuple(rows(session, xs)))
