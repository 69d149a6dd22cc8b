"""record: classes of named fields, made in a tenth of the time `dataclasses` takes.

    @record(frozen=True)
    class Symbol:
        index: int

The compiler has a hundred such classes, and `dataclass` writes and compiles up to six methods for
each when it is imported: a quarter of the time a program waits for the compiler to load. Here
`__init__` is written when the first object is made, and all else is shared. Fields, inherited ones
first, defaults, `frozen`, `eq`, `repr` and `__post_init__` mean what they mean there; a default
that is made anew for each object is `fresh(list)`. A record has a `__dict__`: what there are
thousands of is better a slotted dataclass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, dataclass_transform


class fresh:
    """A default made by calling `factory` for each object."""

    def __init__(self, factory: Callable[[], Any]):
        self.factory = factory


@dataclass_transform(field_specifiers=(fresh,))
def record(cls: type | None = None, *, frozen: bool = False, eq: bool = True):
    """Make a class a record; without `eq`, an object equals only itself."""
    if cls is None:
        return lambda cls: record(cls, frozen=frozen, eq=eq)
    own = cls.__dict__
    fields = own.get("__annotations__", {})
    cls._defaults = (getattr(cls, "_defaults", {})
                     | {name: own[name] for name in fields if name in own})
    cls.__match_args__ = tuple(dict.fromkeys((*getattr(cls, "__match_args__", ()), *fields)))
    cls.__init__ = _first_init
    methods = {"__repr__": _repr} if cls.__repr__ is object.__repr__ else {}
    if eq:
        methods |= {"__eq__": _eq, "__hash__": _hash if frozen else None}
    if frozen:
        methods |= {"__setattr__": _refuse, "__delattr__": _refuse}
    for name, method in methods.items():
        if name not in own or own[name] is None:        # a class with __eq__ has None as __hash__
            setattr(cls, name, method)
    return cls


def changed(value: Any, /, **fields) -> Any:
    """A copy of a record with other values in some fields."""
    return type(value)(**{name: value.__dict__[name] for name in value.__match_args__} | fields)


def _first_init(self, *args, **kwargs) -> None:
    """Write the `__init__` of the class, and go on with it."""
    cls = type(self)
    heads, lines, scope = ["self"], ["_own = self.__dict__"], {"fresh": fresh}
    for name in cls.__match_args__:
        head, value = name, name
        if name in cls._defaults:
            scope[f"default_{name}"] = default = cls._defaults[name]
            head = f"{name}=default_{name}"
            if isinstance(default, fresh):
                value = f"{name}.factory() if {name}.__class__ is fresh else {name}"
        heads.append(head)
        lines.append(f"_own[{name!r}] = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    exec(f"def __init__({', '.join(heads)}):\n " + "\n ".join(lines), scope)
    cls.__init__ = scope["__init__"]
    cls.__init__(self, *args, **kwargs)


def _repr(self) -> str:
    shown = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self.__match_args__)
    return f"{type(self).__qualname__}({shown})"


def _eq(self, other) -> bool:
    if self is other:
        return True
    if type(self) is not type(other):
        return NotImplemented
    return all(self.__dict__[name] == other.__dict__[name] for name in self.__match_args__)


def _hash(self) -> int:
    return hash(tuple(map(self.__dict__.__getitem__, self.__match_args__)))


def _refuse(self, name: str, *value) -> None:
    raise AttributeError(f"a {type(self).__name__} does not change")
