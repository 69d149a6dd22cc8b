"""Calls of the user's functions from statements that Python runs: compiled where all of it can be.

A cell that such a statement calls compiles itself. A function is compiled here, where it is one of
a module (and so the same at the next call), and takes and gives nothing that could be changed in
place: tensors, numbers, strings, cells. What the compiler refuses of it, Python runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType

from cellc import context
from cellc.errors import CellcError
from cellc.lax.values import can_be_given
from cellc.parser import hooks
from cellc.parser.guards import is_steady
from cellc.parser.pieces import Apart
from cellc.tensor import Tensor

MANY = 8            # variants of one function, after which Python runs it: each takes milliseconds
_SUSPENDED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_made: dict[FunctionType, object] = {}      # a Compiled, or None for a function that Python runs


class FunctionCalls:
    """Stands in the code of a statement for the call of a name: `f(x)` is `calls(f, x)`."""

    def __init__(self, compiled: Callable):
        self.compiled = compiled

    def __call__(self, fn, /, *args, **kwargs):
        if type(fn) is FunctionType and context.is_graph():
            made = _made.get(fn, self)
            if made is self:
                made = _made[fn] = self.compiled(Apart(fn)) if _may_be_compiled(fn) else None
            if made is not None and _fit((*args, *kwargs.values())):
                try:
                    if len(made.variants) < MANY:
                        return made.call(*args, **kwargs)
                except CellcError as fault:
                    if not (fault.trail or fault.of_result):
                        raise               # it has run
                _made[fn] = None
        return fn(*args, **kwargs)


def _may_be_compiled(fn: FunctionType) -> bool:
    return (can_be_given(fn) and not fn.__code__.co_flags & _SUSPENDED
            and not is_steady(fn.__globals__.get("__name__")))


def _fit(args: tuple) -> bool:
    """Are these arguments a compiled function's, one tensor at least among them?"""
    tensors = 0
    for x in args:
        kind = type(x)
        if kind is Tensor:
            tensors += 1
            if x.requires_grad:
                return False
        elif kind not in (float, int, bool, str) and x is not None and not isinstance(
                x, (hooks.Cell, hooks.Parameter)):
            return False
    return tensors > 0
