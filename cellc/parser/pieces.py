"""A piece of a function's body as a callable: what is compiled before and after a statement that
Python runs (`cellc/lax.py`).

A piece is given the variables that its statements name, and hands on those they bind. It is parsed
in a frame of the function itself, with the user's syntax, so that every place and every name is
what it is in the function. Its value is one of

    (True, x)           a `return x` ended the function
    (k, values)         the statements came to their end; `kept[k]` says for each variable what it
                        is now, as a Made, over `values`, which are tensors and numbers

One object under two names, or in two containers, is one object afterwards as well: a Made names
each by its place. What a compiled call cannot return is refused, and the trail of the refusal names
the statement that bound it, which Python then runs.
"""

from __future__ import annotations

from typing import Any

from cellc.errors import CellcError, SyntaxFault
from cellc.ir.graph import Node
from cellc.ir.types import Dim
from cellc.parser import hooks
from cellc.parser.control import NEVER, RETURN, FunctionRest, run_block
from cellc.parser.frame import Frame
from cellc.parser.guards import MISSING
from cellc.parser.source import Source, names_in
from cellc.parser.trace import check_result
from cellc.parser.values import SIMPLE, Conflict, Maybe, describe, on_tape, traced_in
from cellc.record import record

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
        self.kept: list[dict[str, Made]] = []
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


class Apart:
    """A function that a statement run by Python calls, as a callable that is never divided."""

    def __init__(self, function):
        self.function = function
        self.__name__ = function.__name__

    def call_parsed(self, session, args: list, kwargs: dict):
        """The value of the call; what it was given, the caller must have back itself."""
        value = session.call(self.function, args, kwargs)
        given = {id(x) for x in (*args, *kwargs.values()) if not isinstance(x, SIMPLE)}
        for part in value if isinstance(value, tuple) else (value,):
            if id(part) in given:
                fault = SyntaxFault("the function returns an argument itself",
                                    "return what is computed from it")
                fault.of_result = True
                raise fault
        return value


class _Cut:
    """The end of a piece, which a branch cannot pass."""

    def resume(self, frame, outcome, target: int):
        if outcome.rank in (RETURN, NEVER):
            return outcome
        raise SyntaxFault("`return` under a condition known only when the program runs, before a "
                          "statement that Python runs",
                          "assign the result, and return it at the end")


@record(frozen=True)
class Made:
    """How Python makes a value that a piece hands on. `how` says what `what` is:

    known       the object itself, from outside, or a plain value
    value       the index of one of the piece's values
    given       (name, keys...): a variable that was given, or a part of it
    list, dict  (key, parts): a new one, of further Mades; `key` tells the same one again
    tuple       the parts, and their class
    """

    how: str
    what: Any

    def build(self, values: tuple, given, made: dict):
        """The value; `given(name)` is a variable, `made` holds the containers made already."""
        how, what = self.how, self.what
        if how == "known":
            return what
        if how == "value":
            return values[what]
        if how == "given":
            found = given(what[0])
            for key in what[1:]:
                found = found[key]
            return found
        if how == "tuple":
            parts, kind = what
            items = [x.build(values, given, made) for x in parts]
            return tuple(items) if kind is tuple else kind._make(items)
        key, parts = what
        if key not in made:
            if how == "list":
                made[key] = new = []
                new.extend(x.build(values, given, made) for x in parts)
            else:
                made[key] = new = {}
                new.update((k, x.build(values, given, made)) for k, x in parts)
        return made[key]


GONE = Made("gone", None)       # the variable has no value any more


class _Handing:
    """How the variables at the end of a piece are handed on."""

    def __init__(self, piece: Piece, frame: Frame, args: list):
        self.piece, self.frame = piece, frame
        self.owned = frame.session.owned
        self.given: dict[int, tuple] = {}
        for name, x in zip(piece.names, args, strict=True):
            self._note(x, (name,))
        self.containers: dict[int, int] = {}    # made here: id -> key
        self.values: dict[int, int] = {}        # id of a node -> index
        self.nodes: list = []

    def _note(self, value, path: tuple) -> None:
        """Where the parts of what was given are."""
        if isinstance(value, (list, dict, tuple)):
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            for key, part in parts:
                self._note(part, (*path, key))
        if not isinstance(value, SIMPLE):
            self.given.setdefault(id(value), path)

    def all(self):
        found = {}
        variables, before = self.frame.variables, set(self.piece.names)
        for name in sorted(self.piece.wanted):
            value = variables.get(name, MISSING)
            if value is not MISSING:
                found[name] = self._made_or_refused(name, value)
            elif name in before:
                found[name] = GONE
        self.piece.kept.append(found)
        return len(self.piece.kept) - 1, tuple(self.nodes)

    def _made_or_refused(self, name: str, value) -> Made:
        try:
            if isinstance(value, Conflict):
                value.refuse(name)
            if isinstance(value, Maybe) and value.flag is True:
                value = value.value
            if isinstance(value, Maybe):
                raise SyntaxFault(f"whether {name} has a value is known only when the program "
                                  "runs", f"give {name} a value before")
            check_result(value)
            return self._made(name, value)
        except CellcError as fault:
            raise self._placed(fault, name) from None

    def _made(self, name: str, value) -> Made:
        if isinstance(value, SIMPLE):
            return Made("known", value)
        if id(value) in self.given:
            return Made("given", self.given[id(value)])
        if isinstance(value, (Node, Dim)) or isinstance(value, hooks.Tensor) and (
                value in self.owned):
            if id(value) not in self.values:
                self.values[id(value)] = len(self.nodes)
                self.nodes.append(value)
            return Made("value", self.values[id(value)])
        if isinstance(value, tuple) and (type(value) is tuple or hasattr(value, "_make")):
            return Made("tuple", (tuple(self._made(name, x) for x in value), type(value)))
        if value not in self.owned and not traced_in(value):
            return Made("known", value)     # from outside
        if on_tape(value) is not None:
            raise SyntaxFault(f"{name} is {describe(value)}, which no compiled piece can hand to "
                              "the statements after it", "hand on ops.stack of it")
        if type(value) not in (list, dict) or value not in self.owned:
            raise SyntaxFault(f"{name} holds an object of the class {type(value).__name__}, which "
                              "no compiled piece can hand to the statements after it",
                              "keep tensors and numbers in variables, tuples, lists or dicts")
        known = id(value) in self.containers
        key = self.containers.setdefault(id(value), len(self.containers))
        parts: tuple = ()
        if not known and isinstance(value, dict):
            parts = tuple((k, self._made(name, x)) for k, x in value.items())
        elif not known:
            parts = tuple(self._made(name, x) for x in value)
        return Made(type(value).__name__, (key, parts))

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
