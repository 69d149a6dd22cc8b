"""The tape: a stack on which the forward half of a loop leaves what its backward half needs.

A tape is a value: `push` gives a longer one, `pop` the one before and what lies on top. Each is the
other's adjoint, a cotangent of a tape being a tape of cotangents of its floats, so the gradient of
a gradient through a loop is loops again. `tape_new` and `tape_end` are adjoint to each other too.

The gradient of a `pop` is in passes/grad_loops.py, since it pushes what else would be None.

A back end may keep all tapes that stem from one `tape_new` in one stack and change it in place:
passes make no program that pushes twice on one tape, or on one from which was popped while what
lay above is still used. `tape_end` says that the stack is not needed any more.
"""

from __future__ import annotations

from cellc.errors import TypeFault
from cellc.ir.graph import fill, primitive
from cellc.ir.prims import control
from cellc.ir.types import TapeType, TupleType

TAPE = TapeType()


def _takes_tape(prim: str, t) -> TapeType:
    if not isinstance(t, TapeType):
        raise TypeFault(f"{prim}: found {t}, expected a tape")
    return t


def _push_types(tape, *xs):
    if any(isinstance(x, (TupleType, TapeType)) for x in xs):
        raise TypeFault(f"push: found {', '.join(map(str, xs))}, expected tensors and numbers")
    return _takes_tape("push", tape)


def _pop_types(tape, types):
    return TupleType((_takes_tape("pop", tape), *types))


def _push_vjp(g, y, tape, *xs):
    """One pop gives the cotangents of all floats that were pushed."""
    types = tuple(x.type for x in xs if control.is_differentiable(x.type))
    popped = pop(g, types=types)
    found = iter([control.item(popped, index=i + 1) for i in range(len(types))])
    return [control.item(popped, index=0),
            *(next(found) if control.is_differentiable(x.type) else None for x in xs)]


def _push_jvp(dxs, y, tape, *xs):
    """A tape has a tangent from the start: a tape of the tangents of its floats."""
    return push(dxs[0], *(
        fill(x.type, 0) if dx is None else dx for x, dx in zip(xs, dxs[1:], strict=True)
        if control.is_differentiable(x.type)))


tape_new = primitive(
    "tape_new", "", doc="An empty tape.", kind="control", types=lambda: TAPE,
    eval=lambda: (), vjp=None, effect=True)
push = primitive(
    "push", "tape *xs", doc="The tape with these values on top.", kind="control",
    types=_push_types, eval=lambda tape, *xs: (tape, xs), vjp=_push_vjp, jvp=_push_jvp)
pop = primitive(
    "pop", "tape", doc="The tape below the values of the last push, and these.", kind="control",
    types=_pop_types, eval=lambda tape, types: (tape[0], *tape[1]), vjp=None)
tape_end = primitive(
    "tape_end", "tape", doc="Let go of an emptied tape.", kind="control",
    types=lambda tape: (_takes_tape("tape_end", tape), TupleType(()))[1], eval=lambda tape: (),
    vjp=None, effect=True)
