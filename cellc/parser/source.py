"""The AST of a function, found in its file.

Only the lines of the function are parsed, behind as many empty ones as come before it, so that
lines and columns are the user's. A lambda, of which a line may hold several, is found in the whole
file by the columns of its instructions, and so is a function whose lines alone do not parse. What
is found is converted to gast, in which Python versions look alike.
"""

from __future__ import annotations

import ast
import linecache
import os
import time
from types import CodeType

import gast

from cellc.errors import Loc, SourceFault
from cellc.parser import liveness
from cellc.record import fresh, record

_STARTED = time.time()
_ANY_STRING = "<string>"    # what `exec` calls any text; from 3.13 on, linecache has python -c's
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@record
class _File:
    """One parsed file: its lines, and its functions and lambdas by first line."""

    lines: list[str]
    functions: dict[tuple[int, str], ast.AST]
    lambdas: dict[int, list[ast.Lambda]]


@record(eq=False)
class Source:
    """A function's syntax and what is known of its names.

    `locals` are the names the function binds; `nonlocals` and `globals` those it declares so.
    `last_read` says for each name the last place it is read at, and `captured` which names
    functions defined inside read: both tell which variables matter after a branch; after a
    statement `liveness` does.
    """

    node: gast.AST
    file: str
    lines: list[str]
    name: str
    locals: set[str] = fresh(set)
    nonlocals: set[str] = fresh(set)
    globals: set[str] = fresh(set)
    captured: set[str] = fresh(set)
    last_read: dict[str, tuple[int, int]] = fresh(dict)
    assigns_items: bool = False
    generator: gast.AST | None = None       # the first yield, which makes it a generator function
    class_name: str = ""                    # of the class around it, for names like self.__x

    def loc(self, node) -> Loc:
        """The place of a node; columns count characters where the AST counts bytes."""
        found = getattr(node, "_loc", None)
        if found is None:
            text = self.lines[node.lineno - 1] if node.lineno <= len(self.lines) else ""
            col = node.col_offset
            if not text.isascii():
                col = len(text.encode()[:col].decode(errors="ignore"))
            found = node._loc = Loc(self.file, node.lineno, col + 1)
        return found


_files: dict[str, _File] = {}
_sources: dict[CodeType, Source] = {}


def source_of(function) -> Source:
    """The Source of a Python function; SourceFault where its text cannot be found."""
    code = function.__code__
    found = _sources.get(code)
    if found is None:
        lines = linecache.getlines(code.co_filename)
        if not lines:
            raise _fault(code, "cannot be found")
        found = _sources[code] = analyse(
            gast.ast_to_gast(_node(code, lines)), code.co_filename, lines, code.co_name)
        outer = code.co_qualname.split(".")[-2:-1]
        found.class_name = outer[0].lstrip("_") if outer and outer[0] != "<locals>" else ""
    return found


def _fault(code: CodeType, why: str) -> SourceFault:
    name = "a lambda" if code.co_name == "<lambda>" else f"the function {code.co_name}"
    return SourceFault(f"the source of {name} ({code.co_filename}:{code.co_firstlineno}) {why}",
                       "put it into a file and import it from there")


def _node(code: CodeType, lines: list[str]) -> ast.AST:
    found = _alone(code, lines) or _in_file(code, lines)
    if found is None or not _same_arguments(code, found.args) or not _unedited(code, lines):
        raise _fault(code, "cannot be found" if code.co_filename == _ANY_STRING
                     else "has changed since it was loaded")
    return found


def _alone(code: CodeType, lines: list[str]) -> ast.AST | None:
    """The function parsed from its own lines; None for a lambda or where they do not parse.

    It ends where a line that is no deeper than its first follows its last instruction.
    """
    first, last = code.co_firstlineno, _last_line(code)
    if code.co_name == "<lambda>" or last > len(lines):
        return None
    depth = _depth(lines[first - 1])
    while last < len(lines) and (_depth(lines[last]) > depth or _blank(lines[last])):
        last += 1
    before = "\n" * (first - 2) + "if 1:\n" if depth else "\n" * (first - 1)
    try:
        node = ast.parse(before + "".join(lines[first - 1:last])).body[0]
    except (SyntaxError, IndexError):
        return None
    node = node.body[0] if depth and isinstance(node, ast.If) else node
    return node if isinstance(node, _FUNCTIONS) and node.name == code.co_name else None


def _last_line(code: CodeType) -> int:
    own = (end for _, end, _, _ in code.co_positions() if end)
    return max(code.co_firstlineno, *own, *(_last_line(c) for c in code.co_consts
                                            if isinstance(c, CodeType)))


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _blank(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _in_file(code: CodeType, lines: list[str]) -> ast.AST | None:
    file = _file(code, lines)
    if code.co_name == "<lambda>":
        return _lambda(code, file.lambdas.get(code.co_firstlineno, []))
    return file.functions.get((code.co_firstlineno, code.co_name))


def _file(code: CodeType, lines: list[str]) -> _File:
    found = _files.get(code.co_filename)
    if found is not None and found.lines is lines:
        return found
    try:
        tree = ast.parse("".join(lines), code.co_filename)
    except SyntaxError as error:
        raise _fault(code, f"does not parse any more ({error.msg})") from None
    functions, lambdas = {}, {}
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS):
            first = node.decorator_list[0] if node.decorator_list else node
            functions[first.lineno, node.name] = node
        elif isinstance(node, ast.Lambda):
            lambdas.setdefault(node.lineno, []).append(node)
    found = _files[code.co_filename] = _File(lines, functions, lambdas)
    return found


def _lambda(code: CodeType, candidates: list[ast.Lambda]) -> ast.Lambda | None:
    """The smallest lambda whose body spans all the instructions that have a place in it."""
    if len(candidates) == 1:
        return candidates[0]
    spans = [(line, col, end_line, end_col) for line, end_line, col, end_col in code.co_positions()
             if None not in (line, end_line, col, end_col) and end_col > 0]
    best = None
    for node in candidates:
        body = node.body
        inside = all((line, col) >= (body.lineno, body.col_offset)
                     and (end_line, end_col) <= (body.end_lineno, body.end_col_offset)
                     for line, col, end_line, end_col in spans)
        if inside and (best is None or _starts_after(node, best)):
            best = node
    return best


def _starts_after(a: ast.AST, b: ast.AST) -> bool:
    return (a.lineno, a.col_offset) > (b.lineno, b.col_offset)


def _same_arguments(code: CodeType, args: ast.arguments) -> bool:
    names = [a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
    return tuple(names) == code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _unedited(code: CodeType, lines: list[str]) -> bool:
    """Is the text what the code was made from? Asked only of files written since we began, and of
    the text of `python -c`, whose name other strings share."""
    try:
        if os.stat(code.co_filename).st_mtime <= _STARTED:
            return True
    except OSError:
        if code.co_filename != _ANY_STRING:
            return True         # no file: the lines of a terminal, which do not change
    module = compile("".join(lines), code.co_filename, "exec", dont_inherit=True)
    return any(_alike(code, other) for other in _codes(module))


def _codes(code: CodeType):
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield value
            yield from _codes(value)


def _alike(a: CodeType, b: CodeType) -> bool:
    if (a.co_code, a.co_names, a.co_firstlineno, len(a.co_consts)) != (
            b.co_code, b.co_names, b.co_firstlineno, len(b.co_consts)):
        return False
    return all(_alike(x, y) if isinstance(x, CodeType) and isinstance(y, CodeType)
               else type(x) is type(y) and x == y
               for x, y in zip(a.co_consts, b.co_consts, strict=True))


# -- what a function does with its names -----------------------------------------------------------

def analyse(node: gast.AST, file: str, lines: list[str], name: str) -> Source:
    """The Source of a function, lambda or comprehension given as a gast node."""
    source = Source(node, file, lines, name)
    if isinstance(node, (gast.FunctionDef, gast.AsyncFunctionDef, gast.Lambda)):
        arguments = node.args
        for arg in (*arguments.args, *arguments.posonlyargs, *arguments.kwonlyargs,
                    arguments.vararg, arguments.kwarg):
            if arg is not None:
                source.locals.add(arg.id)
        body = node.body if isinstance(node.body, list) else [node.body]
        for statement in body:
            _scan(source, statement, inner=False)
        _number_loops(body, 0)
        if not isinstance(node, gast.Lambda):
            liveness.note(body)
    source.locals -= source.nonlocals | source.globals
    return source


def _number_loops(body: list, depth: int) -> None:
    """Note on each loop how many it is within, itself included; on `break` which loop it leaves.

    The `else` of a loop is outside it.
    """
    for node in body:
        kind = type(node)
        if kind in (gast.For, gast.While):
            node._depth = depth + 1
            _number_loops(node.body, depth + 1)
            _number_loops(node.orelse, depth)
        elif kind in (gast.Break, gast.Continue):
            node._depth = depth
        elif isinstance(node, gast.stmt) and kind not in _DEFINITIONS:
            for part in ("body", "orelse", "finalbody"):
                _number_loops(getattr(node, part, ()), depth)
            for part in (*getattr(node, "cases", ()), *getattr(node, "handlers", ())):
                _number_loops(part.body, depth)


def names_in(source: Source, statements: list) -> Source:
    """What some statements of a function do with its names, as a Source of their own."""
    part = Source(source.node, source.file, source.lines, source.name)
    for statement in statements:
        _scan(part, statement, inner=False)
    part.locals &= source.locals
    return part


_DEFINITIONS = (gast.FunctionDef, gast.AsyncFunctionDef, gast.ClassDef)
_FUNCTION_NODES = (gast.FunctionDef, gast.AsyncFunctionDef, gast.Lambda, gast.GeneratorExp)
_COMPREHENSIONS = (gast.ListComp, gast.SetComp, gast.DictComp)


def _scan(source: Source, node: gast.AST, inner: bool | str, own: bool = True) -> None:
    """Note every name that `node` binds or reads.

    `inner`: it sits in a function defined inside, which may run later than it stands ("expression"
    where that is a generator expression). `own`: what
    it binds belongs to this function, not to a comprehension.
    """
    kind = type(node)
    if kind is gast.Name:
        if isinstance(node.ctx, gast.Load):
            place = (node.lineno, node.col_offset)
            source.last_read[node.id] = max(place, source.last_read.get(node.id, place))
            if inner:
                source.captured.add(node.id)
        elif own and not inner:
            source.locals.add(node.id)
        return
    if kind is gast.Subscript and isinstance(node.ctx, gast.Store):
        source.assigns_items = True
    if kind is gast.AugAssign and isinstance(node.target, gast.Name):
        place = (node.lineno, node.col_offset)      # x += 1 reads x
        source.last_read[node.target.id] = max(place, source.last_read.get(node.target.id, place))
    if not inner:
        if kind in (gast.FunctionDef, gast.AsyncFunctionDef, gast.ClassDef):
            source.locals.add(node.name)
        elif kind is gast.Global:
            source.globals.update(node.names)
        elif kind is gast.Nonlocal:
            source.nonlocals.update(node.names)
        elif kind in (gast.Yield, gast.YieldFrom):
            source.generator = source.generator or node
        elif kind in (gast.Import, gast.ImportFrom):
            source.locals.update((a.asname or a.name.split(".")[0]) for a in node.names)
        elif kind in (gast.MatchAs, gast.MatchStar) and node.name:
            source.locals.add(node.name)
        elif kind is gast.MatchMapping and node.rest:
            source.locals.add(node.rest)
    if kind is gast.NamedExpr and inner is not True:    # one in a generator expression as well
        source.locals.add(node.target.id)
    if kind in _FUNCTION_NODES:
        inner = inner or "expression" if kind is gast.GeneratorExp else True
    own = own and kind not in _COMPREHENSIONS
    for child in gast.iter_child_nodes(node):
        _scan(source, child, inner, own)
