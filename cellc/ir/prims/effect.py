"""Effects: what a program does besides giving its results, in the order in which it stands.

`check` ends the call with a fault where its condition does not hold; `show` prints. What either
says is made by a Python object that the parser registers, `MESSAGES[message]`, from the values of
the operands: `.show(values)` prints them, `.fault(values, loc)` gives the exception to raise.
"""

from __future__ import annotations

import itertools
import weakref

from cellc.errors import TypeFault
from cellc.ir.graph import primitive
from cellc.ir.types import ScalarType, TapeType, TupleType, boolean

MESSAGES: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)


def register(message) -> int:
    """The number by which an apply knows the message; whoever registers it keeps it alive."""
    number = next(_numbers)
    MESSAGES[number] = message
    return number


def _check_types(condition, *xs, message):
    if condition != ScalarType(boolean):
        raise TypeFault(f"check: found the condition {condition}, expected a bool number")
    return _show_types(*xs, message=message)


def _show_types(*xs, message):
    if any(isinstance(x, TapeType) for x in xs):
        raise TypeFault("a list whose length is known only when the program runs is part of a text",
                        "print ops.stack of it, or its items one by one")
    return TupleType(())


def _check(condition, *xs, message):
    if not condition:
        raise MESSAGES[message].fault(xs)
    return ()


def _show(*xs, message):
    MESSAGES[message].show(xs)
    return ()


check = primitive(
    "check", "condition *xs", doc="End the call with a fault unless the condition holds.",
    kind="control", types=_check_types, eval=_check, vjp=None, effect=True)
show = primitive(
    "show", "*xs", doc="Print a text made of these values.", kind="control",
    types=_show_types, eval=_show, vjp=None, effect=True)
