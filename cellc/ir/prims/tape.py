"""The tape: a stack that grows while the program runs.

On tapes the forward half of a loop leaves what its backward half needs, and on tapes lie the lists
of the user's program whose length depends on data. A tape is a value: `push` gives a longer one,
`pop` the one before and what lies on top. A push is a *record* of one or more values.

Each primitive has its adjoint among the others, a cotangent of a tape being a tape of cotangents of
its floats, so the gradient of a gradient through a loop is loops again:

    tape_new   tape_end            tape_rows   tape_of
    push       pop                 tape_read   tape_add        tape_put    itself, and tape_read

Those that take a tape use it up. A back end may keep all tapes that stem from one `tape_new` in one
stack and change it in place: passes make no program that uses one tape twice. Only `tape_len` just
looks, at a tape that is not used up yet. `tape_end` says that the stack is not needed any more;
`passes/tape_ends.py` puts it where a tape is dropped.

A cotangent that nobody asked for is an empty tape, and one that was asked for late is a short one:
what is not there is zero. So the pops that gradients make are *bottomless*, and records are counted
from the top, 1 being the topmost.

The gradients of `pop`, `tape_read` and `tape_rows` are in passes/grad_loops.py, since they give
what else would be None.
"""

from __future__ import annotations

import numpy as np

from cellc.errors import IndexFault, TypeFault
from cellc.ir import numerics as num
from cellc.ir.graph import fill, primitive
from cellc.ir.prims import control
from cellc.ir.types import Dim, ScalarType, TapeType, TensorType, TupleType, i64

TAPE = TapeType()
NUMBER = ScalarType(i64)


def floats(types) -> tuple:
    """Those types of a record's values that have cotangents."""
    return tuple(filter(control.is_differentiable, types))


def row_types(types, size) -> tuple[TensorType, ...]:
    """The types of `size` records as one tensor for each of their values."""
    return tuple(TensorType(t.dtype, (size, *t.shape)) for t in types)


def used_twice() -> TypeFault:
    return TypeFault("a list whose length is known only when the program runs is held twice, and "
                     "both are used where they may have come to differ",
                     "use one of them, or make a copy where the two part: old = list(xs)")


# -- types -----------------------------------------------------------------------------------------

def _takes_tape(prim: str, t) -> TapeType:
    if not isinstance(t, TapeType):
        raise TypeFault(f"{prim}: found {t}, expected a tape")
    return t


def _takes_number(prim: str, n) -> None:
    if n != NUMBER:
        raise TypeFault(f"{prim}: found {n}, expected an i64")


def _push_types(tape, *xs):
    if any(isinstance(x, (TupleType, TapeType)) for x in xs):
        raise TypeFault(f"push: found {', '.join(map(str, xs))}, expected tensors and numbers")
    return _takes_tape("push", tape)


def _pop_types(tape, types, bottomless=False):
    return TupleType((_takes_tape("pop", tape), *types))


def _len_types(tape, types):
    _takes_tape("tape_len", tape)
    return NUMBER


def _rows_types(tape, n, types, dim):
    _takes_tape("tape_rows", tape), _takes_number("tape_rows", n)
    return TupleType(row_types(types, dim))


def _of_types(*rows, types):
    size = rows[0].shape[0] if rows and rows[0].ndim else None
    if size is None or rows != row_types(types, size):
        raise TypeFault(f"tape_of: found {', '.join(map(str, rows))}, expected a row for each "
                        f"record of {', '.join(map(str, types))}")
    return TAPE


def _read_types(tape, place, types, checked=True):
    _takes_tape("tape_read", tape), _takes_number("tape_read", place)
    return TupleType((TAPE, *types))


def _change_types(tape, place, *xs):
    _takes_tape("tape_add", tape), _takes_number("tape_add", place)
    return TAPE


# -- meaning: a tape is () or (the tape below, the values of a record) -----------------------------

def _zeros(types) -> tuple:
    return tuple(num.full(t.shape, 0, t.dtype) for t in types)


def _pop(tape, types, bottomless=False):
    below, xs = tape if tape or not bottomless else ((), _zeros(types))
    return below, *xs


def _records(tape) -> list:
    """From the top."""
    found = []
    while tape:
        tape, xs = tape
        found.append(xs)
    return found


def _stack(records) -> tuple:
    """The tape of these records, from the bottom."""
    tape = ()
    for xs in records:
        tape = tape, xs
    return tape


def _rows(tape, n, types, dim):
    records = _records(tape)[::-1]
    records = [_zeros(types)] * (int(n) - len(records)) + records
    columns = zip(*records, strict=True) if records else [()] * len(types)
    return tuple(np.stack(column) if column else num.full(t.shape, 0, t.dtype)
                 for column, t in zip(columns, row_types(types, int(n)), strict=True))


def _read(tape, place, types, checked=True):
    records, place = _records(tape), int(place)
    if 1 <= place <= len(records):
        return tape, *records[place - 1]
    if checked:
        raise IndexFault(f"index {len(records) - place} is out of range for a size of "
                         f"{len(records)}", f"indices from 0 to {len(records) - 1}")
    return tape, *_zeros(types)


def _add(tape, place, *xs):
    records, place = _records(tape), int(place)
    zeros = tuple(num.full(np.shape(x), 0, num.dtype_of(x)) for x in xs)
    records += [zeros] * (place - len(records))
    records[place - 1] = tuple(
        num.from_compute(np.asarray(num.to_compute(a) + num.to_compute(b)), num.dtype_of(b))
        for a, b in zip(records[place - 1], xs, strict=True))
    return _stack(records[::-1])


def _put(tape, place, *xs):
    records, place = _records(tape), int(place)
    if place <= len(records):       # else it is zero already
        records[place - 1] = xs
    return _stack(records[::-1])


# -- gradients -------------------------------------------------------------------------------------

def _cotangents(given, xs, first: int) -> list:
    """The items of `given` from `first` on for the floats among xs, None for the rest."""
    found = iter(range(first, len(xs) + first))
    return [control.item(given, index=next(found)) if control.is_differentiable(x.type) else None
            for x in xs]


def _push_vjp(g, y, tape, *xs):
    """One pop gives the cotangents of all floats that were pushed."""
    popped = pop(g, types=floats(x.type for x in xs), bottomless=True)
    return [control.item(popped, index=0), *_cotangents(popped, xs, 1)]


def _tangents(xs, dxs) -> list:
    """The tangents of the floats."""
    return [fill(x.type, 0) if dx is None else dx for x, dx in zip(xs, dxs, strict=True)
            if control.is_differentiable(x.type)]


def _push_jvp(dxs, y, tape, *xs):
    """A tape has a tangent from the start: a tape of the tangents of its floats."""
    return push(dxs[0], *_tangents(xs, dxs[1:]))


def _of_vjp(g, y, *rows, types):
    if not floats(types):
        return [None] * len(rows)
    n = rows[0].shape[0]
    count = size_of(n)
    return _cotangents(tape_rows(g, count, types=floats(types), dim=n), rows, 0)


def _of_jvp(dxs, y, *rows, types):
    return tape_of(*_tangents(rows, dxs), types=floats(types)) if floats(types) else tape_new()


def _add_vjp(g, y, tape, place, *xs):
    found = tape_read(g, place, types=floats(x.type for x in xs), checked=False)
    return [control.item(found, index=0), None, *_cotangents(found, xs, 1)]


def _put_vjp(g, y, tape, place, *xs):
    found = tape_read(g, place, types=floats(x.type for x in xs), checked=False)
    below = tape_put(control.item(found, index=0), place,
                     *(fill(x.type, 0) for x in xs if control.is_differentiable(x.type)))
    return [below, None, *_cotangents(found, xs, 1)]


def _put_jvp(dxs, y, tape, place, *xs):
    return tape_put(dxs[0], place, *_tangents(xs, dxs[2:]))


def _add_jvp(dxs, y, tape, place, *xs):
    return tape_add(dxs[0], place, *_tangents(xs, dxs[2:]))


def size_of(n):
    """A size as a number of the program."""
    from cellc.ir import arith

    return arith.size_number(n) if isinstance(n, Dim) else n


tape_new = primitive(
    "tape_new", "", doc="An empty tape.", kind="control", types=lambda: TAPE,
    eval=lambda: (), vjp=None, effect=True)
push = primitive(
    "push", "tape *xs", doc="The tape with these values on top.", kind="control",
    types=_push_types, eval=lambda tape, *xs: (tape, xs), vjp=_push_vjp, jvp=_push_jvp)
pop = primitive(
    "pop", "tape", doc="The tape below the values of the last push, and these.", kind="control",
    types=_pop_types, eval=_pop, vjp=None)
tape_end = primitive(
    "tape_end", "tape", doc="Let go of a tape.", kind="control",
    types=lambda tape: (_takes_tape("tape_end", tape), TupleType(()))[1], eval=lambda tape: (),
    vjp=None, effect=True)
tape_len = primitive(
    "tape_len", "tape", doc="How many records of values of these types the tape has.",
    kind="control", types=_len_types, vjp=None,
    eval=lambda tape, types: np.asarray(len(_records(tape)), np.int64))
tape_rows = primitive(
    "tape_rows", "tape n", doc="Each value of the n records of a tape as one tensor, whose first "
    "axis, of size dim = n, counts them from the bottom.", kind="control", types=_rows_types,
    eval=_rows, vjp=None)
tape_of = primitive(
    "tape_of", "*rows", doc="A tape whose records have values of these types, which are the rows.",
    kind="control", types=_of_types, vjp=_of_vjp, jvp=_of_jvp,
    eval=lambda *rows, types: _stack(zip(*rows, strict=True)))
tape_read = primitive(
    "tape_read", "tape place", doc="The tape again, and the values of a record, counted from the "
    "top.", kind="control", types=_read_types, eval=_read, vjp=None)
tape_add = primitive(
    "tape_add", "tape place *xs", doc="The tape with xs added to a record, counted from the top.",
    kind="control", types=_change_types, eval=_add, vjp=_add_vjp, jvp=_add_jvp)
tape_put = primitive(
    "tape_put", "tape place *xs", doc="The tape with xs in the place of a record there is, counted "
    "from the top.", kind="control", types=_change_types, eval=_put, vjp=_put_vjp, jvp=_put_jvp)
