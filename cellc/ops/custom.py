"""Functions with a rule of their own for the gradient: `custom_vjp`, `recompute`; a cell's `bprop`.

In graph mode the parser makes calls of them (`parser/custom.py`). Here is what eager mode does: the
function runs, and what it recorded on the tape is thrown away. In its place comes one Joint, whose
sources are the arguments on the tape and whatever else the function used that is on it. When a
cotangent arrives there, the rule runs as ordinary code; where gradients nest it is recorded, so it
can be differentiated again.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import threading

import numpy as np

from cellc.errors import TypeFault, ValueFault
from cellc.ir import arith
from cellc.ir.graph import current_builder
from cellc.ir.types import ScalarType
from cellc.parameter import as_before, noting_assignments
from cellc.parser import hooks
from cellc.parser.rule import Rule, place_of
from cellc.parser.structures import rebuilt
from cellc.tensor import Tensor, wrap


class CustomVjp:
    """A function whose gradient is what `defvjp` says. See `custom_vjp`."""

    def __init__(self, fn, nondiff_argnums=()):
        self.__name__ = getattr(fn, "__name__", None) or type(fn).__name__
        self.__doc__, self.__module__ = fn.__doc__, getattr(fn, "__module__", __name__)
        self.fn, self.fwd, self.bwd = fn, None, None
        self.nondiff_argnums = tuple(nondiff_argnums)
        self._running = threading.local()       # the call of fwd that is the call of fn

    def defvjp(self, fwd, bwd):
        """Set the rule; returns self.

        fwd: of fn's arguments; gives (fn's result, residuals), any structure of tensors and others.
        bwd: of the arguments in nondiff_argnums, the residuals, the cotangent of the result; gives
             a tuple with one gradient, or None, for each of the other arguments.
        """
        self.fwd, self.bwd = fwd, bwd
        return self

    def check(self) -> None:
        if self.bwd is None:
            raise ValueFault(f"the gradient of {self.__name__}, a custom_vjp without a rule",
                             f"{self.__name__}.defvjp(fwd, bwd)")

    def pair(self, value, place):
        """What fwd gave, which must be (result, residuals)."""
        if not isinstance(value, tuple) or len(value) != 2:
            raise TypeFault(f"fwd of {self.__name__} returns no pair",
                            "return (result, residuals)", place)
        return value

    def __call__(self, *args, **kwargs):
        if current_builder() is not None or getattr(self._running, "on", False):
            return self.fn(*args, **kwargs)
        args, names = positional(self.fn, args, kwargs)
        if not _may_tape(args):
            return self.fn(*args)
        self.check()
        held: list = []

        def run(*given):
            self._running.on = True
            try:
                value, residuals = self.pair(self.fwd(*given), place_of(self.fwd))
            finally:
                self._running.on = False
            held[:] = [rebuilt(residuals, off_tape)]
            return value

        fixed = [i for i in self.nondiff_argnums if i < len(args)]
        moving = [i for i in range(len(args)) if i not in fixed]
        rule = Rule(f"bwd of {self.__name__}", place_of(self.bwd), tuple(names[i] for i in moving))

        def backward(given, out, dout, again: bool):
            residuals = self.fwd(*given)[1] if again else held[0]
            returned = self.bwd(*(given[i] for i in fixed), residuals, dout)
            return rule.answers([given[i] for i in moving], returned)

        return with_rule(run, args, backward, moving, rule)

    def __get__(self, instance, owner=None):
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self):
        return f"<custom_vjp of {self.__name__}>"


class InsertGradientOf(CustomVjp):
    """x itself, whose cotangent is what `f` makes of it: `clip = ops.InsertGradientOf(clip_by_one)`
    and then `x = clip(x)`."""

    def __init__(self, f):
        super().__init__(_itself)
        self.__name__ = f"InsertGradientOf({getattr(f, '__name__', type(f).__name__)})"
        self.defvjp(_itself_and_nothing, functools.partial(_cotangent_by, f))


def _itself(x):
    return x


def _itself_and_nothing(x):
    return x, None


def _cotangent_by(f, kept, g):
    return (f(g),)


class Recomputed:
    """A function or cell that is computed again in the backward pass. See `recompute`."""

    def __init__(self, fn, checkpoint: str | None = None):
        self.fn, self.checkpoint = fn, checkpoint
        self.__name__ = getattr(fn, "__name__", None) or type(fn).__name__

    def __call__(self, *args, **kwargs):
        if current_builder() is not None or self.checkpoint:
            return self.fn(*args, **kwargs)
        return recomputing(self.fn, args, kwargs)

    def __getattr__(self, name):
        if name == "fn":        # not there yet
            raise AttributeError(name)
        return getattr(self.fn, name)       # trainable_params() and the like of a cell

    def __repr__(self):
        return f"<recompute of {self.__name__}>"


hooks.register_rules(CustomVjp, Recomputed)


# -- what users call ------------------------------------------------------------------------------

def custom_vjp(fn=None, nondiff_argnums=()):
    """Give a function a gradient of your own, as JAX does.

        @cellc.custom_vjp
        def safe_norm(x):
            return ops.sqrt((x * x).sum())

        def fwd(x):
            y = safe_norm(x)
            return y, (x, y)

        def bwd(residuals, g):
            x, y = residuals
            return (g * x / ops.maximum(y, 1e-9),)

        safe_norm.defvjp(fwd, bwd)

    nondiff_argnums: positions of arguments that have no gradient and go to bwd in front, such as
                     functions and options.
    The rule holds for gradients of every order; it is differentiated as any other code.
    Errors: TypeFault at the rule's line for a gradient of another number, dtype or shape, or one by
            what the function uses and does not take as an argument.
    """
    if fn is None:
        return functools.partial(custom_vjp, nondiff_argnums=nondiff_argnums)
    if not callable(fn):
        raise TypeFault(f"custom_vjp of {type(fn).__name__}, expected a function")
    return CustomVjp(fn, nondiff_argnums)


def recompute(block, *args, checkpoint=None, **kwargs):
    """A function or cell whose call is computed again in the backward pass.

    Between the two passes only its arguments are kept, and not what it computes on the way: less
    memory for more time. `recompute(f)` is such a function; `recompute(f, x)` calls it, as in
    MindSpore. `cell.recompute()` says it of a cell once and for all.

    With `checkpoint="log"` it is the loops of the function whose rounds are computed again: their
    gradient halves the rounds again and again, and keeps the state before each half, as many as
    the logarithm of their number. In eager mode that changes nothing.

    Source: Griewank and Walther, Algorithm 799: revolve, ACM TOMS 26, 2000 (by halves, since how
            many rounds there will be is not known before).
    """
    if not callable(block):
        raise TypeFault(f"recompute of {type(block).__name__}, expected a function or a cell")
    if checkpoint not in (None, "log"):
        raise ValueFault(f"recompute: found checkpoint={checkpoint!r}", "checkpoint='log', or none")
    made = Recomputed(block, checkpoint)
    return made(*args, **kwargs) if args or kwargs else made


# -- on the tape ----------------------------------------------------------------------------------

def _leaves(structure) -> list:
    found: list = []
    rebuilt(structure, lambda x: found.append(x) or x)
    return found


def off_tape(x):
    """The value without its record."""
    if not isinstance(x, Tensor) or not x.requires_grad:
        return x
    from cellc.eager import to_value

    return to_value(wrap(x._array, x.type))


def _may_tape(args) -> bool:
    from cellc import eager

    return eager.state.recording and (eager.state.depth > 0 or any(
        isinstance(x, Tensor) and x.requires_grad for x in _leaves(args)))


def positional(function, args: tuple, kwargs: dict) -> tuple[list, list[str]]:
    """The arguments of a call by position, defaults filled in, and their names."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeFault(f"{function.__name__}: {error}", "", place_of(function)) from None
    bound.apply_defaults()
    if bound.kwargs:
        raise TypeFault(f"{function.__name__} has a rule for its gradient, and takes arguments by "
                        "keyword only", "make them positional", place_of(function))
    names = []
    for name, p in inspect.signature(function).parameters.items():
        many = p.kind is p.VAR_POSITIONAL
        names += [f"{name}[{i}]" for i in range(len(bound.arguments[name]))] if many else [name]
    return list(bound.args), names


def with_bprop(cell, args: tuple, kwargs: dict):
    """A call of a cell that has a bprop."""
    from cellc import eager

    if not eager.state.recording:
        return cell.construct(*args, **kwargs)
    args, names = positional(cell.construct, args, kwargs)
    rule = Rule(f"bprop of {type(cell).__name__}", place_of(cell.bprop), tuple(names))

    def backward(given, out, dout, again: bool):
        return rule.answers(given, cell.bprop(*given, out, dout))

    return with_rule(cell.construct, args, backward, range(len(args)), rule)


def with_rule(run, args: list, backward, moving, rule: Rule):
    """run(*args) as one Joint; backward(args, out, dout, again) gives the cotangents of the float
    leaves of the arguments in `moving`; `again`: its work is recorded."""
    from cellc import eager

    result = run(*args)
    answered = [x for i in moving for x in _leaves(args[i])
                if isinstance(x, Tensor) and x.type.dtype.is_float]

    def pull(args, out, dout, used, useful):
        for x in used:
            if id(x) in useful:
                raise rule.fault(f"gives no gradient by {getattr(x, 'name', 'a tensor')} "
                                 f"({x.type}), which the function uses and does not take",
                                 "pass it as an argument")
        return backward(args, out, dout, eager.state.recording)

    return _joint(result, args, answered, pull, every=True)


def recomputing(fn, args: tuple, kwargs: dict):
    """fn(*args, **kwargs), of which the tape keeps the arguments only."""
    from cellc import eager

    with noting_assignments() as notes:
        result = fn(*args, **kwargs)
    if not eager.state.recording:
        return result
    flat = [*args, *kwargs.values()]
    answered = [x for x in _leaves(flat) if isinstance(x, Tensor) and x.requires_grad]

    def pull(given, out, dout, used, useful):
        nested = eager.state.recording
        positional_args = given[:len(args)]
        named = dict(zip(kwargs, given[len(args):], strict=True))
        marks: list = []
        marked, named = rebuilt((positional_args, named), lambda x: _stand_in(x, marks))
        with eager.enable_grad(), as_before(notes):
            again = fn(*marked, **named)
        outputs, cotangents = [], []
        for y, g in zip(_leaves(again), _leaves(dout), strict=True):
            if isinstance(y, Tensor) and y.requires_grad:
                outputs.append(y)
                cotangents.append(g)
        return eager.pullback(outputs, cotangents, [*marks, *used], create_graph=nested)

    return _joint(result, flat, answered, pull)


def _stand_in(x, marks: list):
    """A value of its own on the tape, linked to x where that is recorded now."""
    from cellc import eager
    from cellc.ir.prims import elementwise as e

    if not isinstance(x, Tensor) or not x.requires_grad:
        return x
    if eager.state.recording:
        new = e.cast(x, dtype=x.type.dtype)
    else:
        new = wrap(x._array, x.type)
        new.requires_grad = True
    marks.append(new)
    return new


def _joint(result, args, answered: list, rule, every: bool = False):
    """The result with one Joint in the place of all that was recorded since the arguments; `every`
    float of it depends on them, whether what was recorded says so or not.

    rule(args, out, dout, used, useful) gives a cotangent for each of `answered`, leaves of the
    arguments, and, where it has any, for each of `used`: what else the function used of the tape.
    """
    from cellc import eager

    own = list(filter(_on_tape, answered))
    recorded = list(filter(_on_tape, _leaves(result)))
    if not eager.state.recording or not recorded and not (every and own):
        return result
    used = list(eager.reachable(recorded, {id(eager.source_of(x)) for x in own})[1].values())
    held = [(eager.as_it_is(x), eager.source_of(x)) for x in _leaves(args)]
    numbers_too = any(isinstance(x.type, ScalarType) for x in own)
    result = rebuilt(result, lambda y: _without_record(y, every and bool(own), numbers_too))
    del recorded

    def run(cotangents: dict, useful: set[int]) -> list:
        given, numbers, more = iter(held), itertools.count(), itertools.count()
        with eager.outside_vjp():
            found = rule(
                rebuilt(args, lambda _: _linked(*next(given))),
                rebuilt(result, lambda y: joint.part(next(numbers), y) if _on_tape(y) else y),
                rebuilt(result, lambda y: _cotangent(
                    y, cotangents.get(next(more)) if _on_tape(y) else None)), used, useful)
        return [*found, *[None] * (len(answered) + len(used) - len(found))]

    joint = eager.Joint(run, held, [*map(eager.source_of, answered), *used])
    count = itertools.count()
    return rebuilt(result, lambda y: joint.part(next(count), y) if _on_tape(y) else y)


def _without_record(y, every: bool, numbers_too: bool):
    """A result that belongs on the tape as a leaf there, so that what was recorded can go."""
    if every and numbers_too and type(y) is float:
        y = wrap(np.asarray(y), arith.type_of(y))
    elif not _on_tape(y) and not (every and isinstance(y, Tensor) and y.type.dtype.is_float):
        return y
    new = wrap(y._array, y.type)
    new.requires_grad = True
    return new


def _on_tape(x) -> bool:
    return isinstance(x, Tensor) and x.requires_grad


def _linked(x, source):
    from cellc import eager

    return x if source is None else eager.linked(x, source)


def _cotangent(y, g):
    """What a rule gets for one part of the result: zeros where no cotangent has come."""
    from cellc import eager

    if g is not None:
        return eager.to_value(g)
    if isinstance(y, (Tensor, bool, int, float)):
        return eager.to_value(eager.zeros_like(y))
    return None
