"""A piece of a function's body as a callable: what is compiled before and after a statement that
Python runs (`cellc/lax.py`).

A piece is given the variables that its statements name, and hands on those they bind. It is parsed
in a frame of the function itself, with the user's syntax, so that every place and every name is
what it is in the function. Its value is one of

    (True, x)                 a `return x` ended the function
    (ways, values)            the statements came to their end; for each name handed on, `ways` says
                              how: "a" is the next of `values`, "a=b" is the object that b is,
                              "a@2" is `kept[2]`, an object from outside; "-a" has no value any more

What is handed on must be what Python would have: one object under two names, or in two containers,
would become two, so that is refused, as is what a compiled call cannot return. The refusal's trail
names the statement that bound it, which Python then runs.
"""

from __future__ import annotations

from typing import Any

from cellc.errors import CellcError, SyntaxFault
from cellc.ir.graph import Node
from cellc.ir.types import ScalarType
from cellc.parser import hooks
from cellc.parser.calls import Interpreted
from cellc.parser.control import NEVER, RETURN, FunctionRest, run_block
from cellc.parser.frame import Frame
from cellc.parser.guards import MISSING
from cellc.parser.iteration import Iterator
from cellc.parser.source import Source, names_in
from cellc.parser.trace import check_result
from cellc.parser.values import SIMPLE, Closure, Conflict, Maybe, traced_in

RETURNED = True


class Piece:
    """Some statements of a function, called with the values of `names`.

    wanted   the variables that are handed on where these statements bind them
    last     nothing follows: the end of the statements is the end of the function
    """

    def __init__(self, function, source: Source, statements: list, names: tuple[str, ...],
                 wanted: frozenset[str], last: bool):
        self.function, self.source, self.statements = function, source, statements
        self.names, self.wanted, self.last = names, wanted, last
        self.kept: list[Any] = []
        self.__name__ = source.name

    def call_parsed(self, session, args: list, kwargs: dict):
        """The value of the piece, parsed in the session."""
        frame = Frame(session, self.source, function=self.function)
        frame.variables = dict(zip(self.names, args, strict=True))
        rest = FunctionRest() if self.last else _Cut()
        session.enter(frame)
        try:
            outcome = run_block(frame, self.statements, rest)
            if self.last or outcome.rank in (RETURN, NEVER):
                check_result(outcome.value)
                return RETURNED, outcome.value
            return _Handing(self, frame, args).all()
        finally:
            session.frames.pop()


class _Cut:
    """The end of a piece, which a branch cannot pass."""

    def resume(self, frame, outcome, target: int):
        if outcome.rank in (RETURN, NEVER):
            return outcome
        raise SyntaxFault("`return` under a condition known only when the program runs, before a "
                          "statement that Python runs",
                          "assign the result, and return it at the end")


class _Handing:
    """How the variables at the end of a piece are handed on."""

    def __init__(self, piece: Piece, frame: Frame, args: list):
        self.piece, self.frame = piece, frame
        self.owned = frame.session.owned
        self.holder = {id(x): name for name, x in zip(piece.names, args, strict=True)
                       if not isinstance(x, SIMPLE)}
        self.parts = set(self.holder)       # ids of what is handed on already, at any depth

    def all(self):
        ways, values = [], []
        given, variables = set(self.piece.names), self.frame.variables
        for name in sorted(self.piece.wanted):
            value = variables.get(name, MISSING)
            if value is MISSING:
                ways += [f"-{name}"] if name in given else []
            elif self.holder.get(id(value)) == name:
                pass                        # as it was given
            elif id(value) in self.holder:
                ways.append(f"{name}={self.holder[id(value)]}")
            elif self._is_outside(value):
                self.piece.kept.append(value)
                ways.append(f"{name}@{len(self.piece.kept) - 1}")
            else:
                self._check(name, value)
                self.holder[id(value)] = name
                ways.append(name)
                values.append(value)
        return tuple(ways), tuple(values)

    def _is_outside(self, value) -> bool:
        """Is it an object that was there before the call, and will be at the next?"""
        return not isinstance(value, (*SIMPLE, Node, Maybe, Conflict, Closure, Interpreted,
                                      Iterator, tuple)) and (
            value not in self.owned and not traced_in(value)
            or isinstance(value, hooks.Tensor) and value not in self.owned)

    def _check(self, name: str, value) -> None:
        try:
            if isinstance(value, Conflict):
                value.refuse(name)
            if isinstance(value, Maybe):
                raise SyntaxFault(f"whether {name} has a value is known only when the program "
                                  "runs", f"give {name} a value before")
            check_result(value)
            self._check_parts(name, value)
        except CellcError as fault:
            raise self._placed(fault, name) from None

    def _check_parts(self, name: str, value) -> None:
        if isinstance(value, SIMPLE) or isinstance(getattr(value, "type", None), ScalarType):
            return
        if isinstance(value, tuple):
            for part in value:
                self._check_parts(name, part)
            return
        if id(value) in self.parts:
            raise SyntaxFault(f"{name} holds an object that has another name as well, and a "
                              "statement that follows is run by Python, which could change it",
                              "make the container where it is used")
        self.parts.add(id(value))
        if isinstance(value, Node) or isinstance(value, hooks.Tensor) and value in self.owned:
            return
        if type(value) not in (list, dict) or value not in self.owned:
            raise SyntaxFault(f"{name} holds an object of the class {type(value).__name__}, which "
                              "no compiled piece can hand to the statements after it",
                              "keep tensors and numbers in variables, tuples, lists or dicts")
        for part in value.values() if isinstance(value, dict) else value:
            self._check_parts(name, part)

    def _placed(self, fault: CellcError, name: str) -> CellcError:
        """The fault, of the last statement that binds the name."""
        for statement in reversed(self.piece.statements):
            if name in names_in(self.piece.source, [statement]).locals:
                fault.trail = ((self.frame, statement),)
                return fault.at(self.frame.loc(statement))
        return fault


def culprit(fault: CellcError, source: Source, statements: list) -> int | None:
    """Which of the statements of the function that was parsed the fault comes out of."""
    if not fault.trail:
        return None
    outermost = fault.trail[-1][0]
    if outermost.source is not source:
        return None
    for frame, node in fault.trail:
        if frame is outermost:
            for i, statement in enumerate(statements):
                if statement is node:
                    return i
    return None
