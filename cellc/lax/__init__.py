"""jit_syntax_level=LAX: what the compiler does not take is run by Python between compiled pieces.

Where parsing a callable meets what is refused, its body is divided at the statement it comes from
(that of the callable itself, though the place may lie in a function it calls):

    what is before     a compiled piece (parser/pieces.py)
    the statement      a Python function (steps.py), whole, if it is compound
    what follows       a compiled piece, divided in the same way when it is refused

Nothing has run when a piece is refused, so nothing runs twice. The variables pass from one part to
the next as Python objects. A compiled piece cannot be given what only Python knows (an array, a
file, an object made at this call): the statements that name such a variable are run by Python too.

Where no statement can be named, the whole callable is run by Python. A gradient, or any other
transform, of what must be divided is taken in eager mode: on the tape, every operation recorded.

What Python runs is not on the tape, as nothing in graph mode is; where an argument requires a
gradient, the whole callable runs in eager mode, so that `backward` finds everything.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CellType, FunctionType, MethodType

import gast

from cellc import context, eager
from cellc.errors import CellcError, SourceFault, SyntaxFault, TypeFault
from cellc.lax.calls import FunctionCalls
from cellc.lax.report import LaxWarning, Report
from cellc.lax.steps import Excerpt, bind, shared_names
from cellc.lax.values import can_be_given, described, mutable_parts, with_tensors
from cellc.parser import hooks
from cellc.parser.control import COMPOUND
from cellc.parser.guards import is_steady
from cellc.parser.pieces import GONE, RETURNED, Apart, Made, Piece, culprit
from cellc.parser.source import Source, names_in, source_of
from cellc.parser.transformed import Transform
from cellc.tensor import Tensor

__all__ = ["LaxWarning", "Plan", "plan_of"]

MANY = 8        # variants of one piece, after which another string or size makes no more of them
TOO_MANY = 32   # variants of one piece, after which Python runs it
_COST = "nothing is fused across it, and a gradient of the whole runs on the eager tape"
_REFUSALS = (SyntaxFault, SourceFault, TypeFault)       # KnownFault is a TypeFault


def plan_of(fn, fault: CellcError, compiled: Callable) -> Plan | None:
    """How to run what was refused; None where it is to be refused.

    compiled(fn) is a callable's Compiled. None also where `fn` belongs to a plan, which decides.
    """
    if not (context.is_lax() and _is_refusal(fault)) or isinstance(fn, (Piece, Apart)):
        return None
    return Plan(fn, fault, compiled)


def _is_refusal(fault: CellcError) -> bool:
    """Is it something that the compiler does not take, rather than a mistake of the caller's?"""
    if getattr(fault, "crossed", None) is not None:     # of a branch that may not be taken
        return bool(fault.trail)
    if not isinstance(fault, _REFUSALS):
        return False
    return bool(fault.trail) or fault.of_result or isinstance(fault, (SyntaxFault, SourceFault))


class Plan:
    """A callable as parts, some compiled, some run by Python."""

    def __init__(self, fn, fault: CellcError, compiled: Callable):
        self.fn, self.compiled = fn, compiled
        self.function, self.leading = _function_of(fn)
        self.reports: list[Report] = []
        self.source = self._source()
        self.root: _Section | None = None
        if self.source is not None:
            self.shared = shared_names(self.source)
            self.definitions = _definitions(self.source)
            self.root = _Section(self, 0, len(self.body))
            self.root.divide(fault)
        else:
            self.whole = self._whole_report(fault)

    @property
    def body(self) -> list:
        return self.source.node.body

    def _source(self) -> Source | None:
        """The syntax that can be divided; None where all of it is run by Python."""
        if self.function is None:
            return None
        try:
            source = source_of(self.function)
        except SourceFault:
            return None
        usual = isinstance(source.node, gast.FunctionDef) and source.generator is None
        return source if usual else None

    def run(self, args: tuple, kwargs: dict):
        """The value of a call."""
        args = with_tensors(args)
        kwargs = kwargs and {k: with_tensors(v) for k, v in kwargs.items()}
        if self.root is None:
            return self.whole.measured(self._run_whole, args, kwargs)
        if eager.is_taping(args):
            with context.eagerly():
                return self.function(*self.leading, *args, **kwargs)
        call = _Call(bind(self.function, self.source, (*self.leading, *args), kwargs), self.shared)
        self.root.run(call)
        return call.value

    def _run_whole(self, args: tuple, kwargs: dict):
        if isinstance(self.fn, Transform):
            with context.eagerly():
                return self.fn.eager(args, kwargs)
        with eager.no_grad():
            if self.function is not None:
                return self.function(*self.leading, *args, **kwargs)
            with context.eagerly():
                return self.fn(*args, **kwargs)

    def _whole_report(self, fault: CellcError) -> Report:
        name = getattr(self.fn, "__name__", type(self.fn).__name__)
        if isinstance(self.fn, Transform):
            what = f"the {name} runs on the eager tape, operation by operation"
            cost = "every operation runs alone, and is recorded"
        else:
            what = f"{name} is run by Python as a whole, not compiled"
            cost = "every operation runs alone"
        report = Report((name, fault.loc), what, fault.loc, fault, cost)
        self.reports.append(report)
        return report

    def report(self, statements: list, fault: CellcError) -> Report:
        """The report of some statements that Python runs.

        Cellc's own code (a cell around the user's) means nothing to the user: there the place is
        the fault's.
        """
        what = "this statement is" if len(statements) == 1 else (
            f"these {len(statements)} statements are")
        loc = self.source.loc(statements[0])
        if is_steady(self.function.__globals__.get("__name__")):
            what = f"what {type(self.fn).__name__} does around this is"
            loc = fault.loc
        cost = _COST
        if any(isinstance(x, COMPOUND) for x in statements):
            cost += ("; what it holds runs operation by operation, but for cells, and functions of "
                     "a module, that are called there: these are compiled")
        report = Report((self.function.__code__, loc),
                        f"{what} run by Python, between compiled pieces", loc, fault, cost)
        self.reports.append(report)
        return report

    def pieces(self) -> int:
        """How many pieces are compiled, each signature by itself."""
        def count(part) -> int:
            if part.parts is not None:
                return sum(map(count, part.parts))
            return sum(len(piece.variants) for piece in part.pieces.values())

        return count(self.root) if self.root is not None else 0

    def is_empty(self, start: int, stop: int) -> bool:
        """Are these statements only definitions that are made where they are used, or words?"""
        return all(isinstance(x, gast.FunctionDef) and x.name in self.definitions
                   or isinstance(x, gast.Expr) and isinstance(x.value, gast.Constant)
                   for x in self.body[start:stop])

    def with_definitions(self, statements: list) -> list:
        """The statements behind the definitions of the functions that they name: these are parsed
        or made where they are used, so that they need not be handed on."""
        wanted: dict[str, gast.FunctionDef] = {}
        todo = statements
        while todo:
            named = names_in(self.source, todo).last_read.keys()
            todo = [self.definitions[n] for n in named
                    if n in self.definitions and n not in wanted]
            wanted |= {node.name: node for node in todo}
        found = [x for x in wanted.values() if x not in statements]
        return [*sorted(found, key=lambda node: node.lineno), *statements]


def _function_of(fn) -> tuple[FunctionType | None, tuple]:
    """The Python function behind a callable, and the arguments that come before the call's."""
    if isinstance(fn, hooks.Cell):
        fn = MethodType(type(fn).construct, fn)
    if isinstance(fn, FunctionType):
        return fn, ()
    if isinstance(fn, MethodType) and isinstance(fn.__func__, FunctionType):
        return fn.__func__, (fn.__self__,)
    return None, ()


def _definitions(source: Source) -> dict[str, gast.FunctionDef]:
    """The functions defined at the top of the body that are the same wherever they are defined:
    without defaults and decorators, and changing no variable of the function around."""
    found: dict[str, gast.FunctionDef] = {}
    for node in source.node.body:
        for name in names_in(source, [node]).locals:
            if name in found:               # bound a second time
                del found[name]
            elif isinstance(node, gast.FunctionDef) and not (
                    node.decorator_list or node.args.defaults
                    or any(x is not None for x in node.args.kw_defaults)
                    or any(isinstance(x, gast.Nonlocal) for x in gast.walk(node))):
                found[name] = node
    return found


# -- one call --------------------------------------------------------------------------------------

class _Call:
    """The variables of one call; those that functions defined inside share are in cells."""

    def __init__(self, variables: dict, shared: frozenset[str]):
        self.variables = variables
        self.cells = {name: CellType() for name in shared}
        self.strange: set[str] = set()      # hold what no compiled piece is given
        self.value = None
        for name in shared & variables.keys():
            self.cells[name].cell_contents = variables.pop(name)

    def has(self, name: str) -> bool:
        if name not in self.cells:
            return name in self.variables
        try:
            self.cells[name].cell_contents  # noqa: B018  (raises where it is empty)
        except ValueError:
            return False
        return True

    def get(self, name: str):
        cell = self.cells.get(name)
        return self.variables[name] if cell is None else cell.cell_contents

    def given(self, wanted: tuple[str, ...]) -> tuple[tuple[str, ...], list]:
        """Those of the names that have a value, and their values."""
        variables = self.variables
        if self.cells:
            names = tuple([n for n in wanted if self.has(n)])
            return names, [self.get(n) for n in names]
        try:
            return wanted, [variables[n] for n in wanted]
        except KeyError:
            names = tuple([n for n in wanted if n in variables])
            return names, [variables[n] for n in names]

    def set(self, name: str, value) -> None:
        if name in self.cells:
            self.cells[name].cell_contents = value
        else:
            self.variables[name] = value
        self.strange.discard(name)

    def take(self, found: dict[str, Made], values: tuple) -> None:
        """Set the variables that a piece has handed on."""
        made: dict = {}
        built = [(name, how is GONE or how.build(values, self.get, made), how)
                 for name, how in found.items()]        # of what was given, before that changes
        for name, value, how in built:
            if how is GONE:
                self.delete(name)
            else:
                self.set(name, value)

    def delete(self, name: str) -> None:
        if name in self.cells:
            del self.cells[name].cell_contents
        else:
            self.variables.pop(name, None)

    def look_at(self, excerpt: Excerpt) -> None:
        """What Python has made or changed."""
        for name in excerpt.names:
            if self.has(name) and (name in excerpt.bound or name in self.strange):
                (self.strange.discard if can_be_given(self.get(name)) else self.strange.add)(name)


# -- the parts -------------------------------------------------------------------------------------

class _Section:
    """Statements that are compiled; or, where some of them cannot be, the parts of that."""

    def __init__(self, plan: Plan, start: int, stop: int):
        self.plan, self.start, self.stop = plan, start, stop
        self.statements = plan.with_definitions(plan.body[start:stop])
        part = names_in(plan.source, self.statements)
        later = names_in(plan.source, plan.body[stop:])
        own = plan.definitions.keys()
        self.names = tuple(sorted((part.locals | set(part.last_read)) & plan.source.locals - own))
        read_later = set(later.last_read) | later.locals | plan.shared
        self.wanted = frozenset(part.locals & read_later - own)
        self.last = stop == len(plan.body)
        self.pieces: dict[tuple[str, ...], object] = {}
        self.parts: list | None = None

    def run(self, call: _Call) -> bool:
        """Run on the variables of the call; whether it returned."""
        if self.parts is None:
            found = self._run_compiled(call)
            if found is not None:
                return found
        return any(part.run(call) for part in self.parts)

    def _run_compiled(self, call: _Call) -> bool | None:
        names, values = call.given(self.names)
        piece = self.pieces.get(names)
        if piece is None:
            piece = self.pieces[names] = self.plan.compiled(Piece(
                self.plan.function, self.plan.source, self.statements, names, self.wanted,
                self.last))
        if self._cannot_be_given(call, names, values, piece):
            return None
        try:
            first, second = piece.call(*values)
        except CellcError as fault:
            if not _is_refusal(fault):
                raise
            self.divide(fault)
            return None
        if first is RETURNED:
            call.value = second
            return True
        call.take(piece.fn.kept[first], second)
        return False

    def _cannot_be_given(self, call: _Call, names, values, piece) -> bool:
        """Divide where a variable holds what a piece cannot be given."""
        kinds: tuple = ()       # of which there are too many values to compile for each
        if len(piece.variants) >= MANY:
            kinds = (str, bytes, int, float) if piece.compiles_numbers else (str, bytes)
            if len(piece.variants) >= TOO_MANY:
                self._cut(None, SyntaxFault(
                    f"a piece was compiled {len(piece.variants)} times, since what it reads "
                    "outside or its shapes differ from call to call",
                    "pass what differs as tensors of one shape").at(
                        self.plan.source.loc(self.statements[0])))
                return True
        containers = False
        for name, value in zip(names, values, strict=True):
            kind = type(value)
            if kind is Tensor:
                continue
            if kind in (list, dict, tuple):
                containers = True
            if name in call.strange or kind in kinds or (
                    kind in (list, dict, tuple) and not can_be_given(value)):
                self._divide_by(name, value)
                return True
        parts: list[int] = []
        if containers:
            mutable_parts(values, parts)
        if len(set(parts)) < len(parts):
            self.divide(SyntaxFault("a list or dict has two names, or is in two places, where a "
                                    "compiled piece begins, which would see two of them",
                                    "make a copy: list(x)"))
            return True
        return False

    def _divide_by(self, name: str, value) -> None:
        """Python runs the first statement that names the variable."""
        statements = self.plan.body[self.start:self.stop]
        for i, statement in enumerate(statements):
            part = names_in(self.plan.source, self.plan.with_definitions([statement]))
            if name in part.locals or name in part.last_read:
                self._cut(i, SyntaxFault(
                    f"{name} is {described(value)}, made by Python, which no compiled piece can "
                    "be given", "make a tensor or a number of it where it is made").at(
                        self.plan.source.loc(statement)))
                return
        raise AssertionError("a piece is given only what its statements name")

    def divide(self, fault: CellcError) -> None:
        """Into the statement that the fault comes from, and what is before and after it."""
        own = self.plan.body[self.start:self.stop]
        found = culprit(fault, self.plan.source, own)
        if found is None and fault.of_result and self.last and isinstance(own[-1], gast.Return):
            found = len(own) - 1
        self._cut(found, fault)

    def _cut(self, index: int | None, fault: CellcError) -> None:
        plan, start, stop = self.plan, self.start, self.stop
        if index is None:
            self.parts = [_Step(plan, start, stop, fault)]
            return
        at = start + index
        parts: list = [_Step(plan, at, at + 1, fault)]
        if not plan.is_empty(start, at):
            parts.insert(0, _Section(plan, start, at))
        if not plan.is_empty(at + 1, stop):
            parts.append(_Section(plan, at + 1, stop))
        self.parts = parts


class _Step:
    """Statements that Python runs."""

    parts: tuple = ()

    def __init__(self, plan: Plan, start: int, stop: int, fault: CellcError):
        own = plan.body[start:stop]
        self.excerpt = Excerpt(plan.function, plan.source, plan.with_definitions(own), plan.shared,
                               FunctionCalls(plan.compiled))
        self.report = plan.report(own, fault)

    def run(self, call: _Call) -> bool:
        state = eager.state
        before, state.recording = state.recording, False
        try:
            returned, value = self.report.measured(self.excerpt.run, call.variables, call.cells)
        finally:
            state.recording = before
        if returned:
            call.value = value
            return True
        call.look_at(self.excerpt)
        return False
