"""Functions made of functions: the records that say what to make of which function.

Where the parser meets a call of a Transform, `transforms` has the rule. Outside of compiled code
the call is that of `hooks.outside`, which the library sets: it compiles the call in graph mode, and
runs it at once in eager mode. What both ways of calling do alike is here as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from cellc.errors import TypeFault
from cellc.ir import arith
from cellc.ir.graph import Graph, current_builder
from cellc.parser import hooks
from cellc.parser.structures import pairs
from cellc.parser.values import describe


def call_function(fn, *args):
    """What a Transform that is written over others calls functions with: fn may be the user's."""
    session = getattr(current_builder(), "session", None)
    return fn(*args) if session is None else session.call(fn, args)


class Transform:
    """A function made of another. `kind` chooses the rule in RULES; a class of the library adds
    `eager(args, kwargs)`."""

    kind = ""

    def _cellc_aside(self, *args, **kwargs):
        session = getattr(current_builder(), "session", None)
        if session is not None:
            return session.call(self, args, kwargs)
        return hooks.outside(self, args, kwargs)

    __call__ = _cellc_aside       # and machine code, once it was compiled: see kernels/front.py

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key != "_cellc_front"}

    def __repr__(self):
        return f"<{self.__name__}>"


hooks.register_transform(Transform)


class LinearProgram(Transform):
    """The linear graph behind the functions that `vjp` and `linearize` return; what they share.

    Called with residuals and vectors. `given` is the structure of the vectors: slots are the
    graph's first inputs, of the types listed; parts without a slot do not matter. `made` is that of
    the result: slots are the graph's results; of what has no derivative, zeros.
    """

    kind = "linear"

    def __init__(self, name: str, what: str, graph: Graph | None, given, types, made, messages):
        self.__name__, self.what, self.graph = name, what, graph
        self.given, self.types, self.made = given, types, made
        self.messages = messages        # what the graph may say lives as long as it does


def vectors_of(expected, what: str, given: tuple) -> list[tuple]:
    """(leaf, vector) for each leaf of what a linear function expects; None is zero.

    Cotangents are one argument, built like the value; MindSpore gives the parts of a tuple as
    arguments. Tangents are arguments, one for each primal; MindSpore gives them in one tuple.
    """
    if what == "cotangent":
        given = given[0] if len(given) == 1 else given
    elif len(given) == 1 and len(expected) != 1 and isinstance(given[0], (tuple, list)):
        given = tuple(given[0])
    return pairs(expected, given, f"the {what}")


@dataclass(eq=False, repr=False)
class LinearFunction:
    """The function that `vjp` or `linearize` returns: a linear program and its residuals."""

    program: LinearProgram
    residuals: tuple

    def __repr__(self):
        return f"<{self.program.__name__}>"

    def __call__(self, *vectors):
        return self.program(self.residuals, *vectors)


# -- what calls do alike ---------------------------------------------------------------------------

def main_part(record, value):
    """What is differentiated of a result, or of its structure: all, or the first with `has_aux`."""
    if not record.has_aux:
        return value
    if not isinstance(value, tuple) or len(value) < 2:
        raise TypeFault("has_aux: the function must return a tuple (value, aux, ...)")
    return value[0]


def apart(record, value, *derived):
    """(value, derived...), and aux after them where there is one: one alone, else a tuple."""
    if not record.has_aux:
        return (value, *derived)
    return (value[0], *derived, value[1] if len(value) == 2 else tuple(value[1:]))


def zero_like(x):
    """The derivative of a known value: 0.0 of a float, None of what has none."""
    return 0.0 if type(x) is float else 0 if type(x) is int else None


def check_tangents(primals, tangents) -> None:
    """TypeFault where one is given to what has none, or they are not built alike."""
    for x, dx in pairs(primals, tangents, "the tangent"):
        if dx is None:
            continue
        if not isinstance(x, (bool, int, float)) and not hasattr(x, "dtype"):
            raise TypeFault(f"a tangent for an argument that is {describe(x)}",
                            "give it the tangent None, or pass a float")
        refuse_integers(arith.type_of(x), "tangent")


def refuse_integers(type, what: str) -> None:
    if not type.dtype.is_float:
        raise TypeFault(f"a {what} for an argument of type {type}, which has none",
                        "give it the tangent None, or cast it to a float" if what == "tangent"
                        else "pass a float, or differentiate by another argument")
