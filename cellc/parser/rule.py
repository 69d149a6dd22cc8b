"""Rule: who gives the gradient of a call where that is the user, and what must be given."""

from __future__ import annotations

import functools
from dataclasses import fields

from cellc.errors import CellcError, Loc, TypeFault
from cellc.ir import arith
from cellc.parser import hooks
from cellc.parser.values import Closure, describe, is_instance_of_dataclass
from cellc.record import record


@record(frozen=True)
class Rule:
    """Who gives cotangents for which arguments: what an error about them says."""

    name: str                   # "bprop of Net"
    place: Loc | None
    arguments: tuple[str, ...]  # the names of what it answers for

    def fault(self, message: str, hint: str = "") -> TypeFault:
        return TypeFault(f"{self.name} {message}", hint, self.place)

    def answers(self, args, returned) -> list:
        """The cotangents of the float leaves of `args`, in order; None for one that is zero.

        `returned` has one entry for each argument, of its structure: values of the leaves' types,
        or None or 0 for no gradient. What it says of other arguments does not matter.
        """
        if not isinstance(returned, (tuple, list)) and len(args) == 1:
            returned = (returned,)
        listed = ", ".join(self.arguments)
        if not isinstance(returned, (tuple, list)):
            raise self.fault(f"returns {describe(returned)}, expected a tuple of {len(args)} "
                             f"gradients, by {listed}")
        if len(returned) != len(args):
            several = "s" * (len(returned) != 1)
            raise self.fault(f"returns {len(returned)} gradient{several}, expected {len(args)}, "
                             f"by {listed}", "return None where there is none")
        found: list = []
        for x, given, name in zip(args, returned, self.arguments, strict=True):
            self._answer(x, given, name, found)
        return found

    def _answer(self, x, given, name: str, found: list) -> None:
        if isinstance(x, hooks.traced):
            if x.type.dtype.is_float:
                found.append(self._typed(x, given, name))
            return
        parts = parts_by_key(x)
        if not parts:
            return
        nothing = given is None or _is_zero(given)
        own = dict.fromkeys(parts) if nothing else parts_by_key(given)
        if own.keys() != parts.keys():
            raise self.fault(f"gives {describe(given)} for the gradient by {name}, expected a "
                             f"{type(x).__name__} of {len(parts)}, as {name} is")
        for key, part in parts.items():
            self._answer(part, own[key], f"{name}[{key!r}]", found)

    def _typed(self, x, given, name: str):
        if given is None or _is_zero(given):
            return None
        if not isinstance(given, (*hooks.traced, bool, int, float)):
            found = describe(given)
        else:
            found = arith.type_of(given)
            if found == x.type:
                return given
        raise self.fault(f"gives {found} for the gradient by {name}, expected {x.type}",
                         "a gradient has the dtype and shape of what it is the gradient by")


def _is_zero(given) -> bool:
    return type(given) in (int, float) and given == 0


def parts_by_key(value) -> dict:
    """The items of a container by key; nothing for anything else."""
    if isinstance(value, (tuple, list)):
        return dict(enumerate(value))
    if isinstance(value, dict):
        return value
    if is_instance_of_dataclass(value):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    return {}


def place_of(function) -> Loc | None:
    """Where a function is written."""
    if isinstance(function, Closure):
        return function.source.loc(function.source.node)
    if isinstance(function, functools.partial):
        function = function.args[0]         # of InsertGradientOf
    function = getattr(function, "__func__", function)
    function = getattr(function, "__wrapped__", function)
    from cellc.parser.source import source_of  # here: few programs ask

    try:
        source = source_of(function)
    except (CellcError, AttributeError):
        return None
    return source.loc(source.node)
