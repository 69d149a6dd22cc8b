"""Classes called in parsed code, and the methods of Python's own containers and strings."""

from __future__ import annotations

import dataclasses
from types import FunctionType

import gast

from cellc.errors import SyntaxFault, TypeFault
from cellc.ir import arith
from cellc.parser import hooks, list_methods, lists, operators
from cellc.parser.calls import MOVES_VALUES, callable_outside, check_still, handle, of_library
from cellc.parser.guards import is_steady
from cellc.parser.iteration import Iterator, items_of
from cellc.parser.text import METHODS, text
from cellc.parser.values import describe, need_sizes, traced_in

_CHANGES = frozenset([
    "append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse", "update",
    "popitem", "setdefault", "add", "discard", "difference_update", "intersection_update",
    "symmetric_difference_update", "__setitem__", "__delitem__", "__iadd__", "__ior__",
    "appendleft", "extendleft", "popleft", "rotate", "move_to_end", "subtract",
])
_STORES = frozenset([           # what they are given, without a look at it
    "append", "appendleft", "extend", "extendleft", "insert", "update", "setdefault",
])
_FRESH = frozenset([
    "copy", "split", "rsplit", "splitlines", "union", "intersection", "difference",
    "symmetric_difference", "most_common",
])
_LOOKS_FOR = frozenset(("index", "count", "remove"))
_COMPARISONS = {"__eq__": gast.Eq, "__lt__": gast.Lt, "__le__": gast.LtE, "__gt__": gast.Gt,
                "__ge__": gast.GtE}


def builtin_method(session, method, owner, args: list, kwargs: dict):
    """`owner.method(...)` where Python's own C code implements it."""
    name = method.__name__
    if isinstance(owner, str):
        need_sizes((args, kwargs), "the text")
    if isinstance(owner, str) and name == "join":
        args = [items_of(session, x) for x in args]
    if isinstance(owner, str) and traced_in([args, kwargs]):
        if name in METHODS:
            return text("method", name, (owner, *args), kwargs)
        raise TypeFault(f"str.{name} of values known only when the program runs",
                        "a string of such values can be printed or raised, and not looked at")
    if type(owner) is list and name in list_methods.METHODS and (
            lists.on_tape(owner) is not None
            or list_methods.by_a_number(session, name, owner, args)):
        return list_methods.METHODS[name](session, owner, *args, **kwargs)
    if name == "extend" and type(owner) is list and args and lists.on_tape(args[0]) is not None:
        return list_methods.extend(session, owner, *args)
    if isinstance(owner, (list, dict, set)) or hasattr(type(owner), "popleft"):
        if name not in ("append", "extend"):
            session.look_at(owner)
        if name in _CHANGES:
            session.about_to_change(owner, f".{name}()")
    elif not isinstance(owner, (str, bytes, tuple, frozenset, int, float, complex, range, slice,
                                dict)):
        shown = f"{type(owner).__name__}.{name}"
        if not is_steady(type(owner).__module__):
            raise SyntaxFault(f"{shown} runs in Python, and a compiled call runs none of it",
                              "call it outside, and pass in its result")
        check_still(type(owner), shown)
        session.look_over(owner)
    if name in _LOOKS_FOR:
        session.look_into(owner)
    if name not in _STORES:
        session.look_into(*args, *kwargs.values())
    if name in _LOOKS_FOR and isinstance(owner, (list, tuple)) and traced_in([owner, args]):
        return _look_for(session, owner, name, *args)
    if name == "sort":
        owner[:] = session.call(sorted, [owner], kwargs)
        return None
    if isinstance(owner, (dict, set, frozenset)):
        need_sizes(args[:1], "a key")
    if traced_in([args, kwargs]) and isinstance(owner, (set, frozenset)) or (
            isinstance(owner, dict) and args and traced_in(args[0]) and name != "update"):
        raise TypeFault("found a value known only when the program runs as a key",
                        "use strings, numbers or tuples of them as keys")
    result = method(*args, **kwargs)
    if name in _FRESH and isinstance(result, (list, dict, set)):
        session.owned.add(result)
    return result


def _look_for(session, items, name: str, value, start=0, stop=None):
    """`index`, `count` or `remove` of a list with traced items, where each comparison is known."""
    at = []
    for i, item in list(enumerate(items))[start:stop]:
        found = item is value or operators.truth(session, operators.equal(session, item, value))
        if not isinstance(found, bool):
            raise TypeFault(f".{name}() compares values known only when the program runs",
                            "compare them with == and combine with ops.where")
        if found:
            at.append(i)
        if at and name != "count":
            break
    if name == "count":
        return len(at)
    if not at:
        raise ValueError(f"list.{name}(x): x not in list")
    return at[0] if name == "index" else items.__delitem__(at[0])


def construct(session, cls: type, args: list, kwargs: dict):
    """`cls(*args, **kwargs)`."""
    if issubclass(cls, hooks.Parameter):
        raise SyntaxFault("a Parameter is made inside the compiled call, anew at each call",
                          "make it in __init__")
    if issubclass(cls, hooks.Tensor):
        return _tensor(session, cls, args, kwargs)
    if issubclass(cls, hooks.Cell):
        return _cell(cls, args, kwargs)
    if issubclass(cls, tuple) and hasattr(cls, "_fields") or _is_enum(cls):
        return cls(*args, **kwargs)
    if is_steady(cls.__module__):
        return _of_library(session, cls, args, kwargs)
    if type(cls).__call__ is not type.__call__:
        raise SyntaxFault(f"the class {cls.__name__} makes its objects in its own way, by a "
                          "metaclass", "make the object outside")
    value = _new(session, cls, args, kwargs)
    if not isinstance(value, cls):
        return value
    if dataclasses.is_dataclass(cls) and "__init__" in vars(cls) and is_generated(cls.__init__):
        _fill_dataclass(session, cls, value, args, kwargs)
    elif isinstance(cls.__init__, FunctionType):
        session.call(cls.__init__, [value, *args], kwargs)
    elif isinstance(value, (list, dict, set, BaseException)):
        args = [items_of(session, x) if isinstance(x, Iterator) else x for x in args]
        cls.__init__(value, *args, **kwargs)
    elif (args or kwargs) and not isinstance(cls.__new__, FunctionType):
        raise TypeFault(f"{cls.__name__} takes no arguments, found {len(args) + len(kwargs)}")
    return value


def _new(session, cls: type, args: list, kwargs: dict):
    """What `__new__` gives: the user's is interpreted, Python's own makes an empty object."""
    if isinstance(cls.__new__, FunctionType) and not is_steady(cls.__new__.__module__):
        return session.call(cls.__new__, [cls, *args], kwargs)
    if issubclass(cls, (int, float, str, tuple, frozenset, bytes)):
        raise SyntaxFault(f"the class {cls.__name__} is derived from a value of Python's own",
                          "make the object outside, or keep the value in an attribute")
    given = args if issubclass(cls, BaseException) else ()
    return session.owned.add(cls.__new__(cls, *given))


handle(lambda session, args, kwargs: session.owned.add(object.__new__(args[0])), object.__new__)


def _is_enum(cls: type) -> bool:
    import enum

    return issubclass(cls, enum.Enum)


def is_generated(function) -> bool:
    """Is it a method that `dataclass` made, of which there is no source?"""
    return isinstance(function, FunctionType) and function.__code__.co_filename == "<string>"


def call_generated(session, function, args: list, kwargs: dict):
    """A method that `dataclass` made."""
    name, value = function.__name__, args[0]
    if name == "__init__":
        _fill_dataclass(session, type(value), value, args[1:], kwargs)
        return None
    session.look_into(*args)
    if name in _COMPARISONS:
        other = args[1]
        if type(other) is not type(value):
            return NotImplemented
        mine, others = ([getattr(x, f.name) for f in dataclasses.fields(x) if f.compare]
                        for x in args)
        return operators.compare(session, _COMPARISONS[name], tuple(mine), tuple(others))
    if traced_in(value) and name == "__repr__":
        return text("format", "{!r}", (value,))
    if traced_in([args, kwargs]):
        raise TypeFault(f"{type(value).__name__}.{name} of values known only when the program runs",
                        "use the attributes themselves")
    return function(*args, **kwargs)


def _fill_dataclass(session, cls: type, value, args: list, kwargs: dict) -> None:
    """What the generated `__init__` of a dataclass does."""
    fields = [f for f in dataclasses.fields(cls) if f.init]
    by_place = [f for f in fields if not f.kw_only]
    if len(args) > len(by_place):
        raise TypeFault(f"{cls.__name__} takes {len(by_place)} arguments, found {len(args)}")
    given = {f.name: x for f, x in zip(by_place, args, strict=False)}
    for name, item in kwargs.items():
        if name in given or name not in {f.name for f in fields}:
            raise TypeFault(f"{cls.__name__} has no argument {name}" if name not in given
                            else f"{cls.__name__} is given the argument {name} twice")
        given[name] = item
    for field in dataclasses.fields(cls):
        if field.name in given:
            item = given[field.name]
        elif field.default is not dataclasses.MISSING:
            item = field.default
        elif field.default_factory is not dataclasses.MISSING:
            item = session.call(field.default_factory)
        elif not field.init:
            continue
        else:
            raise TypeFault(f"{cls.__name__} is called without its argument {field.name}")
        object.__setattr__(value, field.name, item)
    if hasattr(cls, "__post_init__"):
        session.call(cls.__post_init__, [value])


def _tensor(session, cls: type, args: list, kwargs: dict):
    """`Tensor(data, dtype)`: of known data a constant; of one traced value that value, cast."""
    if not traced_in([args, kwargs]):
        return session.owned.add(session.constant(cls, *args, **kwargs))
    values = dict(zip(("input_data", "dtype"), args, strict=False)) | kwargs
    data, dtype = values.get("input_data"), values.get("dtype")
    if not isinstance(data, hooks.traced):
        raise TypeFault(f"Tensor() of {describe(data)}: a tensor of values known only when the "
                        "program runs is put together by an operation", "use ops.stack")
    from cellc.ir.prims import shape
    from cellc.ir.types import ScalarType, f32, f64
    from cellc.ir.types import dtype as dtype_of

    node = session.lift(data)
    if isinstance(node.type, ScalarType):
        node = shape.from_scalar(node)
        dtype = dtype or (f32 if node.type.dtype is f64 else None)
    return node if dtype is None else arith.cast(node, dtype_of(dtype))


def _cell(cls: type, args: list, kwargs: dict):
    """A layer without weights may be made on the spot: `nn.ReLU()(x)`."""
    if is_steady(cls.__module__):
        cell = cls(*args, **kwargs)
        if not any(True for _ in cell.get_parameters()):
            return cell
    raise SyntaxFault(f"the cell {cls.__name__} is made inside the compiled call, anew each time",
                      "make it in __init__ and keep it in an attribute of self")


def _of_library(session, cls: type, args: list, kwargs: dict):
    check_still(cls, f"{cls.__module__.lstrip('_')}.{cls.__name__}")
    if cls.__module__.partition(".")[0] not in MOVES_VALUES:
        session.look_into(*args, *kwargs.values())
    if traced_in([args, kwargs]) and not cls.__module__.startswith(("cellc", "collections",
                                                                    "builtins", "functools",
                                                                    "itertools")):
        raise TypeFault(f"{cls.__name__} does not take values known only when the program runs",
                        "use an operation of cellc.ops")
    args = [items_of(session, x) if isinstance(x, Iterator) else callable_outside(session, x)
            for x in args]
    return of_library(session, cls(*args, **kwargs))
