"""Attributes and items: reading them (which is noted for the guards) and setting them.

Where a value lies decides what reading means: a node has the attributes of a Tensor; a cell's or
any other outside object's attribute is read now, and a guard remembers it; what the parsed code
made itself needs no guard. Properties written in Python are interpreted like any method.
"""

from __future__ import annotations

import difflib
import functools
from collections import defaultdict
from types import FunctionType, MethodType, ModuleType

from cellc.errors import AttributeFault, IndexFault, KeyFault, TypeFault
from cellc.ir.graph import Node
from cellc.ir.prims import shape
from cellc.ir.types import ScalarType
from cellc.parser import hooks, list_methods, lists, operators
from cellc.parser.guards import MISSING, is_steady, look, place_of
from cellc.parser.text import METHODS, Text, TextMethod, unseen
from cellc.parser.values import describe, need_sizes, traced_in, unknown

_BUILTIN_VALUES = frozenset((str, int, float, bool, complex, bytes, list, dict, tuple, set,
                             frozenset, range, slice, type(None)))
_METADATA = frozenset(("shape", "dtype", "ndim", "size", "type", "name", "requires_grad"))
_NODE_FIELDS = {"shape": lambda x: x.type.shape, "dtype": lambda x: x.type.dtype,
                "ndim": lambda x: x.type.ndim, "size": lambda x: x.type.size}
_NOT_WHILE_COMPILING = {
    "asnumpy": "return the tensor and call asnumpy() on the result",
    "numpy": "return the tensor and call numpy() on the result",
    "tolist": "return the tensor and call tolist() on the result",
    "backward": "use cellc.grad or cellc.value_and_grad",
    "grad": "use cellc.grad or cellc.value_and_grad",
}


def load(session, value, name: str):
    """`value.name`."""
    if isinstance(value, Node):
        return _of_node(value, name)
    kind = type(value)
    if kind in _BUILTIN_VALUES:
        return _plain(value, name)
    if isinstance(value, hooks.Tensor):
        return _of_tensor(session, value, name)
    if kind is super:
        return _plain(value, name)
    if kind is Text:
        if name not in METHODS:
            raise unseen()
        return TextMethod(value, name)
    if kind is ModuleType:
        found = _plain(value, name)
        if not is_steady(value.__name__) or place_of(found) is not None:
            session.read("global", vars(value), name, found)
        else:
            session.library.add((value.__name__, name))
        return found
    return _of_object(session, value, name)


def exists(session, value, name: str) -> bool:
    """`hasattr(value, name)`."""
    from cellc.parser.frame import UserRaise

    try:
        load(session, value, name)
    except (AttributeFault, UserRaise) as error:
        if not isinstance(getattr(error, "error", error), AttributeError):
            raise
        if not isinstance(value, hooks.traced) and type(value) not in _BUILTIN_VALUES:
            session.read(_read_kind(value), value, name, MISSING)
        return False
    return True


def _plain(value, name: str):
    try:
        return getattr(value, name)
    except AttributeError:
        raise missing(value, name) from None


def missing(value, name: str) -> AttributeFault:
    """The fault for an attribute that is not there, with the nearest one that is."""
    what = {True: f"the class {getattr(value, '__name__', '')}"}.get(
        isinstance(value, type), f"{_article(type(value).__name__)}")
    if isinstance(value, ModuleType):
        what = f"the module {value.__name__}"
    elif isinstance(value, Node):
        what = f"a tensor ({value.type})" if not isinstance(
            value.type, ScalarType) else f"a number ({value.type})"
    names = dir(hooks.Tensor) if isinstance(value, Node) else dir(value)
    close = difflib.get_close_matches(name, [n for n in names if not n.startswith("__")], n=1)
    hint = f"did you mean .{close[0]}?" if close else (
        f"set self.{name} in __init__" if isinstance(value, hooks.Cell) else "")
    return AttributeFault(f"{what} has no attribute {name}", hint)


def _article(word: str) -> str:
    return f"{'an' if word[:1] in 'AEIOUaeiou' else 'a'} {word}"


# -- tensors ---------------------------------------------------------------------------------------

def _of_node(value: Node, name: str):
    """What a Tensor has, for a node: its methods and properties are functions over operations."""
    if isinstance(value.type, ScalarType):
        raise missing(value, name)
    field = _NODE_FIELDS.get(name)
    if field is not None:
        return field(value)
    if name in _NOT_WHILE_COMPILING:
        raise TypeFault(f".{name} needs the values of a tensor, which are known only when the "
                        "program runs", _NOT_WHILE_COMPILING[name])
    if name == "item":
        return functools.partial(_item, value)
    found = _on_class(hooks.Tensor, name)
    if found is None or (name.startswith("_") and not name.endswith("__")):
        raise missing(value, name)
    if isinstance(found, property):
        return found.fget(value)
    if isinstance(found, FunctionType):
        return MethodType(found, value)
    raise missing(value, name)


def _item(value: Node, *index) -> Node:
    """`x.item()`: one element as a number."""
    element = hooks.getitem(value, index) if index else value
    if element.type.size != 1:
        raise TypeFault(f"item() of {element.type}", "x[i].item() takes one element")
    return shape.to_scalar(shape.reshape(element, shape=()) if element.type.shape else element)


def _of_tensor(session, value, name: str):
    """A Tensor or Parameter from outside: what it is now, what it holds when the program runs."""
    if name in _METADATA:
        return _plain(value, name)
    own = _on_class(type(value), name)
    if own is None:
        return _plain(value, name)          # raises, or an attribute someone set on it
    if _on_class(hooks.Tensor, name) is own:
        return _of_node(session.lift(value), name)
    return own.fget(value) if isinstance(own, property) else _plain(value, name)


def _on_class(kind: type, name: str):
    for base in kind.__mro__:
        if name in vars(base):
            return vars(base)[name]
    return None


# -- objects ---------------------------------------------------------------------------------------

def _read_kind(value) -> str:
    return "cell_attr" if isinstance(value, hooks.Cell) else "attr"


def _of_object(session, value, name: str):
    kind = value if isinstance(value, type) else type(value)
    on_class = _on_class(kind, name)
    if isinstance(on_class, property) and not isinstance(value, type):
        if on_class.fget is not None and not is_steady(on_class.fget.__module__):
            session.read("attr", kind, name, on_class)
            return session.call(on_class.fget, [value])
    elif isinstance(on_class, functools.cached_property) and name not in vars(value):
        return _computed_once(session, value, name, on_class)
    getter = operators.user_special(on_class, "__get__")
    if getter is not None and not _is_own(value, name, on_class):
        session.read("attr", kind, name, on_class)
        instance = None if isinstance(value, type) else value
        return session.call(getter, [on_class, instance, kind])
    try:
        found = object.__getattribute__(value, name) if operators.user_special(
            value, "__getattr__") else _plain(value, name)
    except AttributeError:
        return _not_found(session, value, name)
    if value in session.owned:
        return found
    if isinstance(found, MethodType):
        _read_method(session, value, kind, name, on_class, found)
    elif not is_steady(kind.__module__) or isinstance(value, hooks.Cell) or _is_stored(value, name):
        session.read(_read_kind(value), value, name, found)
        if isinstance(value, hooks.Cell) and name not in vars(value) and not is_steady(
                kind.__module__):
            session.read("attr", kind, name, on_class)      # setting it there raises no epoch
    return found


def _is_stored(value, name: str) -> bool:
    """Is it an attribute that can be set anew: of an `argparse.Namespace`, or of a function?"""
    return name in getattr(value, "__dict__", ()) and not isinstance(value, type)


def _computed_once(session, value, name: str, on_class):
    """A cached_property: kept in the object where the parsed code made it, else computed anew."""
    found = session.call(on_class.func, [value])
    if value in session.owned:
        session.journal(value)
        vars(value)[name] = found
    else:
        session.read("attr", type(value), name, on_class)
    return found


def _is_own(value, name: str, on_class) -> bool:
    """Does the object's own attribute come before this descriptor of its class?"""
    return name in getattr(value, "__dict__", ()) and not hasattr(type(on_class), "__set__")


def _not_found(session, value, name: str):
    """What a class's `__getattr__` gives for an attribute that is not there."""
    function = operators.user_special(value, "__getattr__")
    if function is None or isinstance(value, hooks.Cell):
        raise missing(value, name) from None
    if value not in session.owned:
        session.read(_read_kind(value), value, name, getattr(value, name, MISSING))
    return session.call(function, [value, name])


def _read_method(session, value, kind: type, name: str, on_class, found: MethodType) -> None:
    """Note what a method was: as the class has it, and that the object has none of its own.

    A bound method is a new object at each look, so it is never compared itself where a compiled
    call looks; attributes of cells are covered otherwise.
    """
    if isinstance(value, hooks.Cell):
        session.read("cell_attr", value, name, found)
    elif isinstance(value, type) or not isinstance(on_class, FunctionType):
        session.read("entry", value, name, on_class)
        return
    elif not is_steady(kind.__module__) and hasattr(value, "__dict__"):
        session.read("global", vars(value), name, MISSING)
    if isinstance(on_class, FunctionType) and not is_steady(kind.__module__):
        session.read("attr", kind, name, on_class)


def store(session, value, name: str, new) -> None:
    """`value.name = new`."""
    if isinstance(value, hooks.traced):
        raise TypeFault(f"an attribute {name} set on a tensor", "use a variable")
    if value in session.owned:
        _store_own(session, value, name, new)
        return
    held = getattr(value, name, None)
    if isinstance(held, hooks.Parameter):
        session.read(_read_kind(value), value, name, held)
        if new is not held:
            assign(session, held, new)
        return
    raise TypeFault(
        f"{describe(value)}.{name} is assigned inside the compiled call, which would happen once, "
        "while compiling, and not at each call",
        f"make it a Parameter: self.{name} = Parameter(Tensor(0.0), name={name!r})"
        if isinstance(value, hooks.Cell) else "return the new value instead")


def _store_own(session, value, name: str, new) -> None:
    """Set an attribute of an object that the parsed code made, as its class says."""
    function = operators.user_special(value, "__setattr__")
    if is_frozen(type(value)):
        raise AttributeFault(f"{type(value).__name__} is frozen: {name} cannot be set",
                             "dataclasses.replace(x, ...) makes a changed copy")
    if function is not None:
        session.call(function, [value, name, new])
    else:
        store_plainly(session, value, name, new)


def is_frozen(cls: type) -> bool:
    """Is it a dataclass whose objects do not change?"""
    return hasattr(cls, "__dataclass_params__") and cls.__dataclass_params__.frozen


def store_plainly(session, value, name: str, new) -> None:
    """`object.__setattr__(value, name, new)`: a property or descriptor, else the attribute."""
    if value not in session.owned:
        store(session, value, name, new)
        return
    on_class = _on_class(type(value), name)
    setter = on_class.fset if isinstance(on_class, property) else None
    if isinstance(setter, FunctionType):
        session.call(setter, [value, new])
        return
    setter = operators.user_special(on_class, "__set__")
    if setter is not None:
        session.call(setter, [on_class, value, new])
        return
    session.aliases.check(session, value, f"the attribute {name} of an object is set")
    session.journal(value)
    object.__setattr__(value, name, new)


def delete(session, value, name: str) -> None:
    """`del value.name` of an object that the parsed code made."""
    if isinstance(value, hooks.traced) or value not in session.owned:
        raise TypeFault(f"an attribute {name} of {describe(value)}, made outside, is deleted "
                        "inside the compiled call", "delete it outside, or set it to None")
    function = operators.user_special(value, "__delattr__")
    on_class = _on_class(type(value), name)
    if isinstance(on_class, property) and isinstance(on_class.fdel, FunctionType):
        session.call(on_class.fdel, [value])
    elif function is not None:
        session.call(function, [value, name])
    elif operators.user_special(on_class, "__delete__") is not None:
        session.call(operators.user_special(on_class, "__delete__"), [on_class, value])
    else:
        session.aliases.check(session, value, f"the attribute {name} of an object is deleted")
        session.journal(value)
        object.__delattr__(value, name)


def assign(session, parameter, value) -> Node:
    """A Parameter gets a value: an effect of the program."""
    if not isinstance(value, hooks.traced) and not isinstance(value, (bool, int, float)):
        if not hasattr(value, "__array_interface__"):
            raise TypeFault(f"the Parameter {parameter.name} is assigned {describe(value)}",
                            "assign a tensor or a number")
        value = session.lift(value)
    return session.builder.assign(parameter, value)


# -- items -----------------------------------------------------------------------------------------

def load_item(session, value, index):
    """`value[index]`."""
    if isinstance(value, hooks.traced):
        return hooks.getitem(session.lift(value), index)
    if lists.on_tape(value) is not None:
        what = list_methods.part if isinstance(index, slice) else lists.item
        return what(session, value, index)
    session.look_at(value)
    if isinstance(index, hooks.traced):
        found = lists.chosen(session, value, index)
        if found is not None:
            return found
        raise unknown(
            session.lift(index), f"{_article(type(value).__name__)} is indexed by a number known "
            "only when the program runs",
            "stack the items into one tensor with ops.stack and index that")
    kind = type(value)
    if kind is list and isinstance(index, slice) and traced_in((index.start, index.stop)):
        found = list_methods.part_by_numbers(session, value, index)
        if found is not None:
            return found
    if kind not in _BUILTIN_VALUES and isinstance(value, hooks.Cell):
        session.read("contents", value, "", look("contents", value, ""))
        return value[index]
    function = _on_class(kind, "__getitem__")
    if isinstance(function, FunctionType) and not is_steady(function.__module__):
        return session.call(function, [value, index])
    if isinstance(value, type) and value is hooks.Tensor:
        return value[index]
    if kind is dict:
        need_sizes(index, "a key")
    if isinstance(value, defaultdict) and value in session.owned and index not in value:
        session.journal(value)
        if value.default_factory is not None:
            value[index] = session.call(value.default_factory)
    if kind not in _BUILTIN_VALUES:
        session.look_over(value)
    try:
        found = value[index]
    except IndexError as error:
        fault = IndexFault(f"index {index} of a {kind.__name__} of {len(value)} items")
        fault.python = error
        raise fault from None
    except KeyError as error:
        close = ", ".join(map(repr, list(value)[:8]))
        fault = KeyFault(f"no key {index!r} in the {kind.__name__}", f"one of {close}")
        fault.python = error
        raise fault from None
    if isinstance(index, slice) and isinstance(found, list):
        session.owned.add(found)
    return found


def store_item(session, value, index, new) -> None:
    """`value[index] = new` for a container of the parsed code."""
    if lists.on_tape(value) is not None:
        lists.store(session, value, index, new)
        return
    if isinstance(index, hooks.traced):
        if lists.store_chosen(session, value, index, new):
            return
        raise unknown(
            session.lift(index), f"{_article(type(value).__name__)} is assigned at an index known "
            "only when the program runs", "use one tensor instead of a list of them")
    function = _on_class(type(value), "__setitem__")
    if isinstance(function, FunctionType) and not is_steady(function.__module__):
        session.call(function, [value, index, new])
        return
    session.about_to_change(value, "item assignment")
    value[index] = new


def delete_item(session, value, index) -> None:
    """`del value[index]` for a container of the parsed code."""
    function = operators.user_special(value, "__delitem__")
    if function is not None:
        session.call(function, [value, index])
        return
    if lists.on_tape(value) is not None and not isinstance(index, slice) or (
            type(value) is list and isinstance(index, hooks.traced)
            and list_methods.by_a_number(session, "pop", value, [index])):
        list_methods.delete(session, value, index)
        return
    session.look_at(value)
    session.about_to_change(value, "del")
    del value[index]
