"""One activation of a function: its variables, how names are found, how its syntax is walked."""

from __future__ import annotations

import builtins
from typing import Any

import gast

from cellc.errors import (
    AttributeFault,
    CellcError,
    IndexFault,
    KeyFault,
    Loc,
    NameFault,
    TypeFault,
    ValueFault,
)
from cellc.ir.graph import scalar
from cellc.ir.prims import effect
from cellc.parser.guards import MISSING, is_steady
from cellc.parser.source import Source
from cellc.parser.syntax import evaluators, executors
from cellc.parser.values import Conflict, Maybe, Unbound

_FAULTS = {AttributeError: AttributeFault, TypeError: TypeFault, IndexError: IndexFault,
           KeyError: KeyFault, ValueError: ValueFault, NameError: NameFault}
_BUILTINS = vars(builtins)
_NOTE = "while compiling"


def bound_in(loop) -> dict[str, Any]:
    """The names that a loop binds, each with the first place that does."""
    found: dict[str, Any] = {}
    for node in gast.walk(loop):
        if isinstance(node, gast.Name) and isinstance(node.ctx, gast.Store):
            found.setdefault(node.id, node)
    return found


class Signal(Exception):
    """Raised by the parser for the parser: no error, and nothing that the user could catch."""


class NeedsTape(Signal):
    """Two ways give a list different lengths, in a loop that is tried without that: lists.py."""


class UserRaise(Exception):
    """Carries an exception of the user's own `raise` through the parser, to be raised as it is."""

    crossed = None      # the traced condition whose branch it has left
    trail = ()          # as a fault's

    def __init__(self, error: BaseException, loc: Loc | None = None):
        self.error, self.loc = error, loc
        super().__init__(str(error))


class Unsettled(Signal):
    """The result of a call of a graph under construction is not known yet."""


class Ended(Unsettled):
    """A call never returns: the program raises in it, whatever way it takes."""


class Frame:
    """Variables and the way to what lies outside them.

    `variables` are this activation's own. `parent` is the frame a nested function was defined in,
    or the one around a comprehension; where there is none, `function` is the Python function, with
    its closure cells and globals. `bound_at` remembers the statement that bound each variable last.
    """

    __slots__ = ("session", "source", "variables", "parent", "function", "cells", "bound_at",
                 "names", "loops", "rolled", "home", "comprehension", "depth",
                 "library", "pinned", "handling", "entered", "callee", "given", "traced_depth",
                 "node")

    def __init__(self, session, source: Source, function=None, parent: Frame | None = None,
                 names: set[str] | None = None, comprehension: bool = False):
        self.session, self.source = session, source
        self.variables: dict[str, Any] = {}
        self.parent, self.function = parent, function
        self.cells = {}
        if function is not None and function.__closure__:
            self.cells = dict(zip(function.__code__.co_freevars, function.__closure__, strict=True))
        self.bound_at: dict[str, Any] = {}
        self.names = source.locals if names is None else names
        self.comprehension = comprehension
        self.loops: list[Any] = []          # the loops around the statement being run
        self.rolled: list[Any] = []         # those of them that the program runs (loops.Rolled)
        self.home = session.owned           # which closed graph this activation belongs to
        self.library = parent.library if parent is not None else is_steady(
            function.__globals__.get("__name__"))   # whose lines mean nothing to the user
        self.depth = 0                      # traced branches of this activation around here
        self.entered: int | None = None     # how much the parsed code had made when it began
        self.callee = self.given = None     # the function and its arguments: see recursion.py
        self.traced_depth = 0               # traced branches around the call
        self.pinned = 0     # blocks around here whose state no shared continuation can have
        self.handling: list[BaseException] = []     # what `except` clauses around here caught
        self.node = None    # the statement that is being run, where that is known

    # -- walking -----------------------------------------------------------------------------------

    def loc(self, node) -> Loc | None:
        """The place of a node in the user's source; None in cellc's own."""
        return None if self.library else self.source.loc(node)

    def eval(self, node):
        """The value of an expression; a fault on the way gets the innermost expression's place."""
        try:
            return evaluators[node.__class__](self, node)
        except Exception as error:
            fault = self.fault_of(error, node)
            if fault is error:
                raise
            raise fault from error

    def guarded(self, work, node):
        """`work()`; what goes wrong in it gets the place of the node."""
        try:
            return work()
        except Exception as error:
            fault = self.fault_of(error, node)
            if fault is error:
                raise
            raise fault from error

    def fault_of(self, error: Exception, node) -> Exception:
        """The error as it goes on: what Python raised in work on known values becomes a fault."""
        if isinstance(error, CellcError):
            return error.at(self.loc(node))
        if isinstance(error, (UserRaise, RecursionError, Signal)):
            return error
        if isinstance(error, StopIteration):    # which would end a generator of the parser's own
            return UserRaise(noted(error, self.loc(node)), self.loc(node))
        return placed(error, self.loc(node))

    def execute(self, node, rest):
        """Run a statement; what follows it is `rest`, for a branch that must go on by itself."""
        self.node = node
        try:
            return executors[node.__class__](self, node, rest)
        except Exception as error:
            fault = self.passed(error, node)
            if fault is error:
                raise
            raise fault from error

    def here(self, node) -> None:
        """The applies that follow come from this node."""
        if not self.library:
            self.session.builder.loc = self.source.loc(node)

    def run_lambda(self):
        """The value of the lambda that this is an activation of."""
        node = self.source.node
        try:
            return self.eval(node.body)
        except CellcError as fault:
            raise self.passed(fault, node)      # noqa: B904  (the same)

    def passed(self, error: Exception, node) -> Exception:
        """`fault_of`; the fault notes that it has come out of this statement, or this lambda."""
        fault = self.fault_of(error, node)
        if isinstance(fault, (CellcError, UserRaise)):
            fault.trail = (*fault.trail, (self, node))
        return fault

    # -- names -------------------------------------------------------------------------------------

    def load(self, name: str, node=None):
        """The value of a name as Python finds it: local, enclosing, global, builtin."""
        found = self.variables.get(name, MISSING)
        if found is not MISSING:
            if type(found) is Maybe:
                return self._checked(name, found, node)
            if type(found) is Conflict:
                found.refuse(name)
            return found
        if name in self.names:
            raise self._unbound(name, node)
        if self.parent is not None:
            return self.parent.load(name, node)
        return self._load_outside(name)

    def _unbound(self, name: str, node) -> Exception:
        """A local name has no value. Under a traced condition in a loop that binds it, another
        round may give it one: there it is the program that fails, and only if it comes here."""
        loop = next((x for x in self.loops if name in bound_in(x)), None) if self.depth else None
        if loop is None:
            fault = NameFault(f"{name} is read before anything is assigned to it",
                              f"assign {name} first")
            fault.python = UnboundLocalError(
                f"cannot access local variable '{name}' where it is not associated with a value")
            return fault
        self.session.check_uncaught(UnboundLocalError, self.loc(node or loop))
        self.here(node or loop)
        what = Unbound(name, "while" if isinstance(loop, gast.While) else "for",
                       self.loc(bound_in(loop)[name]), self.loc(loop))
        effect.check(scalar(False), message=self.session.message(what))
        return Ended()

    def _checked(self, name: str, found: Maybe, node):
        """The value of a variable that may have none: the program checks that it has."""
        if found.flag is not True:
            if node is not None:
                self.here(node)
            effect.check(found.flag, message=self.session.message(found.unbound))
            if name in self.variables:      # and from here on it is known to have one
                self.session.journal(self.variables)
                self.variables[name] = found.value
        return found.value

    def _load_outside(self, name: str):
        session = self.session
        if name in self.cells:
            cell = self.cells[name]
            try:
                value = cell.cell_contents
            except ValueError:
                raise NameFault(f"the closure variable {name} has no value yet",
                                f"assign {name} before the call") from None
            if name != "__class__":
                session.read("closure", cell, name, value)
            return value
        scope = self.function.__globals__
        steady = is_steady(scope.get("__name__"))
        if name in scope:
            value = scope[name]
            if not steady:
                session.read("global", scope, name, value)
            return value
        value = _BUILTINS.get(name, MISSING)
        if value is MISSING:
            raise NameFault(f"the name {name} is not defined", _suggest(name, self._visible()))
        if not steady:
            session.read("global", scope, name, MISSING)
        return value

    def _visible(self) -> set[str]:
        frame, names = self, set(_BUILTINS)
        while frame.parent is not None:
            names |= set(frame.variables)
            frame = frame.parent
        return names | set(frame.variables) | set(frame.function.__globals__) | set(frame.cells)

    def store(self, name: str, value, node) -> None:
        """Bind a name in the frame it belongs to."""
        frame = self.owner_of(name)
        if frame is not self:
            if frame.home is not self.session.owned:
                raise TypeFault(f"`nonlocal {name}` reaches out of a cell or a differentiated "
                                "function", "return the value instead")
            self.session.journal(frame.variables)
        frame.variables[name] = value
        frame.bound_at[name] = node

    def owner_of(self, name: str) -> Frame:
        """The frame whose variable an assignment to `name` here binds."""
        if name in self.source.globals:
            raise TypeFault(f"`global {name}` assigned in a compiled call would change the module "
                            "once, while compiling, and not at each call",
                            "return the value, or keep it in a Parameter")
        frame = self
        while frame.parent is not None and name not in frame.names:
            frame = frame.parent
        if name not in frame.names:
            raise TypeFault(f"`nonlocal {name}` assigned in a compiled call would change a "
                            "function outside it once, while compiling, and not at each call",
                            "return the value, or keep it in a Parameter")
        return frame

    def root(self) -> Frame:
        """The frame of the Python function all this is written in."""
        frame = self
        while frame.parent is not None:
            frame = frame.parent
        return frame


def _suggest(name: str, names) -> str:
    import difflib

    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"define or import {name}"


def placed(error: Exception, loc: Loc | None) -> Exception:
    """An error of Python's own, raised by work on known values, as a fault at the user's line."""
    kind = next((k for k in type(error).__mro__ if k in _FAULTS), None)
    if kind is None:
        return noted(error, loc)
    text = f"no key {error.args[0]!r}" if kind is KeyError and error.args else str(error)
    return _FAULTS[kind](text, loc=loc)


def noted(error: Exception, loc: Loc | None) -> Exception:
    """The error, with the innermost place it passed in the user's source as a note."""
    if loc is not None and not any(
            note.startswith(_NOTE) for note in getattr(error, "__notes__", ())):
        error.add_note(f"{_NOTE} {loc}{loc.snippet()}")
    return error
