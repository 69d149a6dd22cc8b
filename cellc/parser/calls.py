"""Calls: what kind of thing is called, how arguments are bound, what runs as it is.

The user's functions, methods and lambdas are interpreted, in place. Cells become closed graphs
(`cells`). Functions of cellc run as they are: given nodes, they append to the graph. Python's
builtins have their own table (`builtins`). Functions of NumPy and the standard library run now, on
known values. Anything else is refused by name.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import sys
from functools import partial
from types import (
    BuiltinFunctionType,
    BuiltinMethodType,
    FunctionType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)

import gast
import numpy as np

from cellc.errors import SyntaxFault, TypeFault
from cellc.ir.graph import Node
from cellc.parser import hooks, lists
from cellc.parser.control import FunctionRest, run_block
from cellc.parser.frame import Frame
from cellc.parser.guards import is_steady
from cellc.parser.iteration import Items, Iterator, items_of
from cellc.parser.source import Source
from cellc.parser.syntax import refusal
from cellc.parser.values import Closure, describe, is_instance_of_dataclass, need_sizes, traced_in

# id of a callable that lives for ever -> (session, args, kwargs) -> value
special: dict[int, object] = {}
named: set[tuple[str, str]] = set()     # their modules and names
# (class, name) of a method that C code binds anew at each look -> such a handler
class_methods: dict[tuple[type, str], object] = {}

# Modules whose functions depend on their arguments alone. With traced arguments only those that
# move values about, and do not look at them, still make sense.
_PURE = frozenset([
    "builtins", "math", "cmath", "operator", "_operator", "functools", "_functools",
    "itertools", "collections", "_collections", "dataclasses", "copy", "string", "re",
    "numbers", "statistics", "fractions", "decimal", "typing", "enum", "numpy", "types",
    "bisect", "heapq", "textwrap",
])
_FILES = frozenset(["load", "loadtxt", "genfromtxt", "fromfile", "fromregex", "memmap",
                    "open_memmap", "DataSource", "save", "savez", "savez_compressed",
                    "savetxt"])         # of NumPy
# Modules whose objects hold nothing that changes by itself, beside those above.
_STILL = frozenset(["cellc", "contextlib", "datetime", "pathlib", "abc", "calendar", "uuid"])
_STILL |= _PURE
MOVES_VALUES = frozenset([
    "functools", "_functools", "itertools", "collections", "_collections", "dataclasses",
    "typing",
])

# Methods of Cell that look at the whole cell, and those that change it.
_LISTS = frozenset([
    "parameters_and_names", "get_parameters", "trainable_params", "untrainable_params",
    "parameters_dict", "cells", "name_cells", "cells_and_names", "keys", "values", "items",
])
_CHANGES_CELL = frozenset([
    "insert_child_to_cell", "insert_param_to_cell", "apply", "update_parameters_name",
    "register_buffer", "set_train", "set_grad", "append", "extend", "insert", "pop", "clear",
    "update",
])

_CONTAINERS = (list, dict, set)
CONTEXT_FUNCTION = contextlib.contextmanager(lambda: None).__code__     # of all such functions


def handle(handler, *functions, taken: bool = True):
    """Calls of these are done by `handler(session, args, kwargs)`; not `taken`: it refuses them."""
    for function in functions:
        special[id(function)] = handler
        if taken:
            module = getattr(function, "__module__", None) or "builtins"
            named.add((module.lstrip("_"), function.__qualname__))
    return handler


class Interpreted:
    """A user's function handed to code that calls it itself: the call is interpreted."""

    def __init__(self, session, function):
        self.session, self.function = session, function
        self.__name__ = getattr(function, "__name__", "function")

    def __call__(self, *args, **kwargs):
        return self.session.call(self.function, args, kwargs)


def call(session, function, args: list, kwargs: dict):
    """The value of `function(*args, **kwargs)`."""
    if session.growing and not isinstance(function, (FunctionType, MethodType, Closure)):
        for value in (*args, *kwargs.values()):
            session.look_at(value)
    handler = special.get(id(function))
    if handler is not None:
        return handler(session, args, kwargs)
    kind = type(function)
    if kind is MethodType:
        return _call_method(session, function, args, kwargs)
    if kind is FunctionType:
        of_a_cell = bool(args) and isinstance(args[0], hooks.Cell)  # cellc's cells are parsed too
        if is_steady(function.__globals__.get("__name__")) and not of_a_cell:
            if function.__code__ is CONTEXT_FUNCTION:
                return _enterable(session, function, args, kwargs)
            return run_now(session, function, args, kwargs)
        return interpret(session, function, args, kwargs)
    if kind is Closure:
        return run_closure(session, function, args, kwargs)
    if isinstance(function, hooks.Cell):
        from cellc.parser import cells

        return cells.call(session, function, args, kwargs)
    if isinstance(function, hooks.Transform):
        from cellc.parser import transforms

        return transforms.call(session, function, args, kwargs)
    if isinstance(function, (hooks.CustomVjp, hooks.Recomputed)):
        from cellc.parser import custom

        return custom.call(session, function, args, kwargs)
    if isinstance(function, type):
        from cellc.parser import objects

        return objects.construct(session, function, args, kwargs)
    if kind is Interpreted:
        return call(session, function.function, args, kwargs)
    if kind is partial:
        return call(session, function.func, [*function.args, *args], function.keywords | kwargs)
    if kind in (BuiltinFunctionType, BuiltinMethodType, np.ufunc):
        return run_now(session, function, args, kwargs)
    return _call_object(session, function, args, kwargs)


def _call_method(session, method: MethodType, args: list, kwargs: dict):
    owner, function = method.__self__, method.__func__
    if not isinstance(function, FunctionType):
        return call(session, function, [owner, *args], kwargs)
    if is_steady(function.__globals__.get("__name__")):
        if function.__code__ is CONTEXT_FUNCTION:
            return _enterable(session, function, [owner, *args], kwargs)
        if not isinstance(owner, hooks.Cell):
            return run_now(session, method, args, kwargs)
        if function.__name__ in _LISTS or function.__name__ in _CHANGES_CELL:
            return _list_cell(session, method, args, kwargs)
    return interpret(session, function, [owner, *args], kwargs)


def _enterable(session, function, args: list, kwargs: dict):
    """A call of a function under `@contextmanager`."""
    from cellc.parser import managers

    return managers.call_context_function(session, function.__wrapped__, args, kwargs)


def _list_cell(session, method: MethodType, args: list, kwargs: dict):
    """A method of Cell itself that lists what the cell has."""
    name, cell = method.__name__, method.__self__
    if name in _CHANGES_CELL:
        raise SyntaxFault(f"{type(cell).__name__}.{name}() changes the cell inside the compiled "
                          "call, which would happen once, while compiling", "call it outside")
    found = method(*args, **kwargs)
    listed = found if isinstance(found, (list, tuple, dict)) else list(found)
    items = tuple(listed.items() if isinstance(listed, dict) else listed)
    if not args and not kwargs:
        session.read("listing", cell, name, items)
    return listed if isinstance(listed, tuple) else session.owned.add(listed)


def _call_object(session, value, args: list, kwargs: dict):
    """An object whose class defines `__call__`."""
    kind = type(value)
    if kind in _GETTERS:
        return _GETTERS[kind](session, value, *args)
    if isinstance(getattr(value, "__origin__", None), type):     # List[int](...)
        return call(session, value.__origin__, args, kwargs)
    if kind is MethodWrapperType and value.__name__ == "__init__":      # super().__init__(...)
        session.journal(value.__self__)
        args = [items_of(session, x) if isinstance(x, Iterator) else x for x in args]
        return value(*args, **kwargs)
    if kind is MethodWrapperType and value.__name__ in ("__setattr__", "__delattr__"):
        from cellc.parser import attributes

        # super().__setattr__(name, x)
        change = (attributes.store_plainly if value.__name__ == "__setattr__"
                  else attributes.delete)
        return change(session, value.__self__, *args)
    if hasattr(kind, "call_parsed"):
        return value.call_parsed(session, args, kwargs)
    if isinstance(value, Node) or not callable(value):
        raise TypeFault(f"{describe(value)} is called, and is no function",
                        "call a function, a class, a cell or an object with __call__")
    wrapped = getattr(value, "__wrapped__", None)       # cellc.jit(f), functools.lru_cache(f)
    if isinstance(wrapped, FunctionType) and is_steady(kind.__module__):
        return call(session, wrapped, args, kwargs)
    found = kind.__call__
    if isinstance(found, FunctionType) and not is_steady(found.__globals__.get("__name__")):
        return interpret(session, found, [value, *args], kwargs)
    return run_now(session, value, args, kwargs)


def _items(session, getter, value):
    """`itemgetter(...)(value)`."""
    from cellc.parser import attributes

    found = tuple(attributes.load_item(session, value, i) for i in getter.__reduce__()[1])
    return found if len(found) > 1 else found[0]


def _attributes(session, getter, value):
    """`attrgetter(...)(value)`."""
    from cellc.parser import attributes

    found = tuple(functools.reduce(partial(attributes.load, session), path.split("."), value)
                  for path in getter.__reduce__()[1])
    return found if len(found) > 1 else found[0]


def _method(session, caller, value):
    """`methodcaller(...)(value)`."""
    from cellc.parser import attributes

    kind, (name, *args) = caller.__reduce__()
    kwargs = kind.keywords if isinstance(kind, partial) else {}
    args = [*kind.args[1:], *args] if isinstance(kind, partial) else args
    name = kind.args[0] if isinstance(kind, partial) else name
    return session.call(attributes.load(session, value, name), args, kwargs)


_GETTERS = {operator.itemgetter: _items, operator.attrgetter: _attributes,
            operator.methodcaller: _method}


# -- running things as they are --------------------------------------------------------------------

def run_now(session, function, args: list, kwargs: dict):
    """Call what needs no interpreting: cellc's own functions, pure functions of known values."""
    from cellc.parser.objects import builtin_method

    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and (owner, function.__name__) in class_methods:
        return class_methods[owner, function.__name__](session, args, kwargs)
    if type(function) in (BuiltinFunctionType, BuiltinMethodType) and owner is not None and not (
            isinstance(owner, (ModuleType, type))):
        return builtin_method(session, function, owner, args, kwargs)
    module = _module_of(function)
    top = module.partition(".")[0]
    if any(lists.on_tape(x) is not None for x in (*args, *kwargs.values())):
        return lists.taken(session, function, args, kwargs)
    if top != "cellc":
        _check_pure(function, module, top, args, kwargs)
        session.look_into(owner)
        if top not in MOVES_VALUES or top == "dataclasses":
            session.look_into(*args, *kwargs.values())
        args = [items_of(session, x) if isinstance(x, Iterator) else x for x in args]
    args = [callable_outside(session, x) for x in args]
    kwargs = {key: callable_outside(session, x) for key, x in kwargs.items()}
    result = function(*args, **kwargs)
    if top != "cellc":
        return of_library(session, result)
    return session.owned.add(result) if isinstance(result, hooks.Tensor) else result


def of_library(session, result):
    """What Python's own code made here; an iterator of its as one whose place can be put back."""
    if hasattr(type(result), "__next__") and not isinstance(result, Iterator):
        return Items(session, tuple(result))
    if isinstance(result, (*_CONTAINERS, hooks.Tensor)) or hasattr(type(result), "popleft"):
        session.owned.add(result)
    return result


def _module_of(function) -> str:
    if isinstance(function, MethodType):
        function = function.__func__
    if isinstance(function, FunctionType):
        return function.__globals__.get("__name__") or ""
    if isinstance(function, np.ufunc):
        return "numpy"
    return getattr(function, "__module__", None) or type(function).__module__ or ""


def _check_pure(function, module: str, top: str, args, kwargs) -> None:
    name = getattr(function, "__name__", type(function).__name__)
    where = top if top == "numpy" else module.lstrip("_")
    shown = name if module == "builtins" else f"{where}.{name}"
    if top not in _PURE or module.startswith("numpy.random") or (
            top == "numpy" and name in _FILES):
        raise _in_python(shown)
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and is_steady(owner.__module__):
        if owner.__module__.partition(".")[0] not in _PURE:     # datetime.datetime.now
            raise _in_python(f"{owner.__module__}.{owner.__name__}.{name}")
    elif owner is not None and not isinstance(owner, ModuleType):
        check_still(type(owner), f"{type(owner).__name__}.{name}")
    if top not in MOVES_VALUES and name != "prod":
        need_sizes((args, kwargs), shown)
    if top not in MOVES_VALUES and (traced_in(args) or traced_in(kwargs)):
        raise TypeFault(f"{shown} does not take {_first_traced(args, kwargs)}, whose values are "
                        "known only when the program runs", _replacement(name))


def _in_python(shown: str) -> SyntaxFault:
    return SyntaxFault(f"{shown} runs in Python, and a compiled call runs none of it",
                       "call it outside, and pass in its result")


def check_still(cls: type, shown: str) -> None:
    """Refuse what is done with objects of a class of the library that reach into the world, or
    change from call to call: files, random numbers, locks, the environment."""
    module = cls.__module__
    if is_steady(module) and (module.partition(".")[0] not in _STILL
                              or module.startswith("numpy.random")):
        raise _in_python(shown)


def _first_traced(args, kwargs) -> str:
    return describe(next(x for x in (*args, *kwargs.values()) if traced_in(x)))


def _replacement(name: str) -> str:
    ops = sys.modules.get("cellc.ops")
    return f"use ops.{name}" if hasattr(ops, name) else "use an operation of cellc.ops"


def callable_outside(session, value):
    """A user's function as one that may be called by code that is not interpreted."""
    if type(value) is FunctionType and not is_steady(value.__globals__.get("__name__")):
        return Interpreted(session, value)
    if type(value) is MethodType and type(value.__func__) is FunctionType and not is_steady(
            value.__func__.__globals__.get("__name__")):
        return Interpreted(session, value)
    return value


# -- interpreting ----------------------------------------------------------------------------------

def interpret(session, function: FunctionType, args: list, kwargs: dict):
    """Run a Python function's syntax in place."""
    if function.__code__.co_filename == "<string>" and args and is_instance_of_dataclass(args[0]):
        from cellc.parser import objects

        return objects.call_generated(session, function, args, kwargs)
    from cellc.parser import recursion

    return recursion.call(session, function, args, kwargs)


def run_closure(session, closure: Closure, args: list, kwargs: dict):
    """Run a function that the parsed code defined."""
    from cellc.parser import recursion

    return recursion.call(session, closure, args, kwargs)


def activation(session, function, args: list, kwargs: dict) -> Frame:
    """A frame for a call, with the arguments bound."""
    if isinstance(function, Closure):
        frame = Frame(session, function.source, parent=function.frame)
        frame.variables = bind(session, function.source, args, kwargs, function)
        return frame
    source = session.source_of(function)
    frame = Frame(session, source, function=function)
    frame.variables = bind(session, source, args, kwargs, function)
    _check_hints(function, frame)
    return frame


def run_body(session, frame: Frame):
    """The value that a frame with bound arguments returns."""
    node = frame.source.node
    if frame.source.generator is not None and not isinstance(node, gast.Lambda):
        from cellc.parser import generators

        return generators.of_call(session, frame)
    if isinstance(node, gast.AsyncFunctionDef):
        raise refusal(node).at(frame.loc(node))
    session.enter(frame)
    try:
        if isinstance(node, gast.Lambda):
            return frame.run_lambda()
        return run_block(frame, node.body, FunctionRest()).result()
    finally:
        session.frames.pop()


def _check_hints(function: FunctionType, frame: Frame) -> None:
    if function.__annotations__:
        from cellc.parser import hints

        hints.check(function, frame.variables)


def bind(session, source: Source, args: list, kwargs: dict, function) -> dict:
    """Arguments to parameters as Python binds them; TypeFault where the counts do not fit."""
    arguments = source.node.args
    names = [a.id for a in (*arguments.posonlyargs, *arguments.args)]
    only_by_place = {a.id for a in arguments.posonlyargs}
    bound = dict(zip(names, args, strict=False))
    if len(args) > len(names):
        if arguments.vararg is None:
            own = names[:1] == ["self"]
            raise TypeFault(f"{source.name} takes {_count(len(names) - own)}, "
                            f"found {len(args) - own}", _listed(names))
        bound[arguments.vararg.id] = tuple(args[len(names):])
    elif arguments.vararg is not None:
        bound[arguments.vararg.id] = ()
    by_name = {a.id for a in arguments.kwonlyargs}
    extra = {}
    for name, value in kwargs.items():
        if name in bound and name in names and name not in only_by_place:
            raise TypeFault(f"{source.name} is given the argument {name} twice")
        if (name in names and name not in only_by_place) or name in by_name:
            bound[name] = value
        elif arguments.kwarg is not None:
            extra[name] = value
        else:
            raise TypeFault(f"{source.name} has no argument {name}",
                            _listed([*names, *sorted(by_name)]))
    if arguments.kwarg is not None:
        bound[arguments.kwarg.id] = session.owned.add(extra)
    _fill_defaults(session, source, names, bound, function)
    return bound


def _fill_defaults(session, source, names, bound, function) -> None:
    missing = [name for name in names if name not in bound]
    missing_by_name = [a.id for a in source.node.args.kwonlyargs if a.id not in bound]
    if not missing and not missing_by_name:
        return
    if isinstance(function, Closure):
        defaults, named = function.defaults, function.kw_defaults
    else:
        defaults, named = function.__defaults__ or (), function.__kwdefaults__ or {}
        if not is_steady(function.__globals__.get("__name__")):
            session.read("default", function, "__defaults__", function.__defaults__)
            if missing_by_name:
                session.read("default", function, "__kwdefaults__", function.__kwdefaults__)
    first = len(names) - len(defaults)
    for name in missing:
        i = names.index(name) - first
        if i < 0:
            raise TypeFault(f"{source.name} is called without its argument {name}",
                            _listed(names))
        bound[name] = defaults[i]
    for name in missing_by_name:
        if name not in named:
            raise TypeFault(f"{source.name} is called without its argument {name}")
        bound[name] = named[name]


def _listed(names: list[str]) -> str:
    own = names[1:] if names[:1] == ["self"] else names
    return f"its arguments are {', '.join(own)}" if own else "it takes none"


def _count(n: int) -> str:
    return f"{n} argument{'s' if n != 1 else ''}" if n else "no arguments"
