"""Statements of a function as a Python function of their own, which runs them as Python does.

The code is made of the user's syntax, with its lines, its file, its globals and its closure. The
variables the statements name are its arguments; at their end it hands all its variables back. Those
that functions defined inside read or bind live in cells that belong to the call, so that such a
function sees what is assigned later, as it does in Python.

    for line in text:           def outer(cell variables, end, locals):
        total += float(line)        def f(text, total):
                                        for line in text:
                                            total += float(line)
                                        return end(locals())
"""

from __future__ import annotations
import __future__

import ast
import builtins
import copy
from collections.abc import Callable
from types import CellType, CodeType, FunctionType

import gast

from cellc.parser.source import Source, names_in

_FUTURE = 0
for _name in __future__.all_feature_names:
    _FUTURE |= getattr(__future__, _name).compiler_flag


class Fell:
    """The statements came to their end, with these variables."""

    __slots__ = ("variables",)

    def __init__(self, variables: dict):
        self.variables = variables


_STEP, _END, _LOCALS = ".step", ".end", ".locals"       # no names of the user's
_CALL = ".call"


def shared_names(source: Source) -> frozenset[str]:
    """The local variables that functions defined inside read or bind."""
    found = set(source.captured)
    for node in ast.walk(gast.gast_to_ast(source.node)):
        if isinstance(node, ast.Nonlocal):
            found.update(node.names)
    return frozenset(found & source.locals)


class Excerpt:
    """Some statements of a function, to be run by Python.

    names    the variables they name, the function's first argument first (for `super()`)
    bound    those of them that they bind
    call     what stands for the call of a name, no builtin's, or attribute: `f(x)` is `call(f, x)`
    """

    def __init__(self, function: FunctionType, source: Source, statements: list,
                 shared: frozenset[str], call: Callable):
        self.function, self.source, self.statements = function, source, statements
        self.shared = shared
        self.ours = {_END: CellType(Fell), _LOCALS: CellType(builtins.locals),
                     _CALL: CellType(call)}
        part = names_in(source, statements)
        self.bound = frozenset(part.locals)
        mentioned = (part.locals | set(part.last_read)) & source.locals
        first = function.__code__.co_varnames[:1]
        if first and first[0] in source.locals:
            mentioned.add(first[0])
        self.names = tuple(sorted(mentioned, key=lambda name: (name not in first, name)))
        self._codes: dict[tuple[str, ...], CodeType] = {}

    def run(self, variables: dict, cells: dict[str, CellType]):
        """Run on the variables, which are changed; (whether it returned, what)."""
        given = tuple([n for n in self.names if n in variables])
        code = self._codes.get(given)
        if code is None:
            code = self._codes[given] = self._compile(given)
        fn = self.function
        around = dict(zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True))
        closure = tuple([self.ours.get(n) or cells.get(n) or around[n] for n in code.co_freevars])
        step = FunctionType(code, fn.__globals__, fn.__name__, None, closure)
        found = step(*[variables[n] for n in given])
        if type(found) is not Fell:
            return True, found
        for name in self.names:
            if name in self.shared:
                continue
            if name in found.variables:
                variables[name] = found.variables[name]
            else:
                variables.pop(name, None)
        return False, None

    def _compile(self, given: tuple[str, ...]) -> CodeType:
        """The code, for a call where these variables have a value."""
        source, own = self.source, self.function.__code__
        body = [_Caller().visit(x) for x in _as_ast(self.statements)]
        if source.class_name:
            body = [_Mangler(source.class_name).visit(x) for x in body]
        around = [n for n in self.names if n in self.shared]
        nonlocals = [*around, *(source.nonlocals & set(own.co_freevars))]
        head: list = [ast.Nonlocal(nonlocals)] if nonlocals else []
        head += [ast.Global(sorted(source.globals))] if source.globals else []
        load = ast.Load()
        end = ast.Return(ast.Call(ast.Name(_END, load), [
            ast.Call(ast.Name(_LOCALS, load), [], [])], []))
        # never run: it makes all of these variables of the function
        local = [ast.Assign([ast.Name(n, ast.Store())], ast.Constant(None))
                 for n in self.names if n not in self.shared]
        step = _define(_STEP, given, [*head, *body, end, *local])
        outer = _define("outer", (*dict.fromkeys([*own.co_freevars, *around]), *self.ours),
                        [step])
        first, last = body[0].lineno, body[-1].end_lineno
        for node in ast.walk(outer):
            if "lineno" in node._attributes and not hasattr(node, "lineno"):
                line = first if node in (outer, step) else last
                node.lineno = node.end_lineno = line
                node.col_offset = node.end_col_offset = 0
        tree = ast.fix_missing_locations(ast.Module([outer], []))
        whole = compile(tree, own.co_filename, "exec", flags=own.co_flags & _FUTURE,
                        dont_inherit=True)
        code = _inner(_inner(whole))
        return code.replace(co_name=own.co_name, co_qualname=own.co_qualname)


def bind(function: FunctionType, source: Source, args: tuple, kwargs: dict) -> dict:
    """The function's variables at the beginning of a call; TypeError as Python raises it."""
    binder = getattr(source, "_binder", None)
    if binder is None:
        arguments = copy.deepcopy(gast.gast_to_ast(source.node).args)
        arguments.defaults, arguments.kw_defaults = [], [None] * len(arguments.kwonlyargs)
        for arg in ast.walk(arguments):
            if isinstance(arg, ast.arg):
                arg.annotation = None
        step = _define(source.name, (), [ast.Return(ast.Call(ast.Name(_LOCALS, ast.Load()),
                                                             [], []))])
        step.args = arguments
        tree = ast.fix_missing_locations(ast.Module([step], []))
        binder = source._binder = _inner(compile(tree, source.file, "exec"))
    bound = FunctionType(binder, {_LOCALS: builtins.locals}, function.__name__,
                         function.__defaults__)
    bound.__kwdefaults__ = function.__kwdefaults__
    return bound(*args, **kwargs)


def _as_ast(statements: list) -> list:
    return gast.gast_to_ast(gast.Module(statements, [])).body


def _define(name: str, parameters, body: list) -> ast.FunctionDef:
    arguments = ast.arguments([], [ast.arg(n) for n in parameters], None, [], [], None, [])
    return ast.FunctionDef(name, arguments, body, [])


def _inner(code: CodeType) -> CodeType:
    return next(x for x in code.co_consts if isinstance(x, CodeType))


class _Caller(ast.NodeTransformer):
    """`f(x)` becomes `.call(f, x)`; builtins are called as they stand, some look at their caller.
    """

    def visit_Call(self, node):
        self.generic_visit(node)
        if not isinstance(node.func, (ast.Name, ast.Attribute)) or hasattr(
                builtins, getattr(node.func, "id", "")):
            return node
        call = ast.copy_location(ast.Name(_CALL, ast.Load()), node.func)
        return ast.copy_location(ast.Call(call, [node.func, *node.args], node.keywords), node)


class _Mangler(ast.NodeTransformer):
    """`__x` inside a class means `_Class__x`; the code is made outside of it."""

    def __init__(self, class_name: str):
        self.class_name = class_name

    def visit_Attribute(self, node):
        self.generic_visit(node)
        if node.attr.startswith("__") and not node.attr.endswith("__"):
            node.attr = f"_{self.class_name}{node.attr}"
        return node

    def visit_ClassDef(self, node):
        return node         # has a name of its own
