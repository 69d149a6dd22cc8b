"""What one parse read of the world outside the compiled call, so that a change there is noticed.

A Guard says: this read, done again, gives the same. Reads of cellc, NumPy and the standard library
need none. A Record holds the reads of one call of a cell; another instance of the class may use the
same graph when each read, done on it, gives what is equivalent (`Record.match`).
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import MappingView
from types import (
    BuiltinFunctionType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import numpy as np

from cellc.ir.types import DType
from cellc.parser import hooks
from cellc.parser.values import SIMPLE
from cellc.record import fresh, record

MISSING = type("Missing", (), {"__repr__": lambda self: "<missing>"})()
_STEADY = frozenset(sys.stdlib_module_names) | {"cellc", "numpy", "cupy"}
_PLAIN = (*SIMPLE, DType)


@record(frozen=True, eq=False)
class Guard:
    """One read: `kind` says how it was done, on `owner` (and `name`), and that it gave `value`.

    global     owner[name], owner a module's dictionary; MISSING where only builtins have it
    closure    owner.cell_contents
    default    getattr(owner, name): a function's __defaults__ or __kwdefaults__
    cell_attr  getattr(owner, name), owner a Cell
    attr       getattr(owner, name), owner any other object
    contents   the items of a list, dict, set or CellList (`value` is a tuple of them), or of a
               NumPy array (`value` is a copy)
    entry      what the class of owner holds under the name, unbound: a classmethod
    listing    what a method of a Cell without arguments lists, such as trainable_params()
    """

    kind: str
    owner: Any
    name: str
    value: Any

    def holds(self) -> bool:
        """Does the read still give the same?"""
        return same(self.value, look(self.kind, self.owner, self.name))

    def again(self) -> Guard:
        """The guard for what is there now."""
        return Guard(self.kind, self.owner, self.name, look(self.kind, self.owner, self.name))

    def __str__(self) -> str:
        what = {"global": self.name, "closure": f"the closure variable {self.name}",
                "default": "a default value", "contents": f"the items of a "
                f"{type(self.owner).__name__}"}.get(self.kind)
        return what or f"{type(self.owner).__name__}.{self.name}"

    def __repr__(self) -> str:
        return f"Guard({self.kind}: {self})"


def look(kind: str, owner, name: str):
    """Do a read (again)."""
    if kind == "global":
        return owner.get(name, MISSING)
    if kind == "closure":
        try:
            return owner.cell_contents
        except ValueError:          # the variable was deleted
            return MISSING
    if kind == "contents":
        if isinstance(owner, np.ndarray):
            return owner.copy()
        return tuple(owner.items() if hasattr(type(owner), "items") else owner)
    if kind == "listing":
        found = getattr(owner, name)()
        return tuple(found.items() if hasattr(type(found), "items") else found)
    if kind == "entry":
        return inspect.getattr_static(
            owner if isinstance(owner, type) else type(owner), name, MISSING)
    return getattr(owner, name, MISSING)


def same(old, new) -> bool:
    """The same object, or equal numbers, strings, dtypes, tuples of them; -0.0 is not 0.0."""
    if old is new:
        return True
    if type(old) is not type(new):
        return False
    if isinstance(old, float):
        return (old == new and math.copysign(1, old) == math.copysign(1, new)
                or old != old and new != new)
    if isinstance(old, _PLAIN):
        return old == new
    if isinstance(old, (tuple, frozenset)):
        return len(old) == len(new) and all(map(same, old, new))
    if isinstance(old, MethodType):
        return old.__func__ is new.__func__ and old.__self__ is new.__self__
    if isinstance(old, np.ndarray):
        return (old.dtype == new.dtype and old.shape == new.shape
                and old.tobytes() == new.tobytes())
    return False


_HOLD_NOTHING = (*_PLAIN, type, FunctionType, BuiltinFunctionType, ModuleType, np.generic, np.dtype,
                 np.ufunc)


def place_of(value):
    """The container or dictionary where a value keeps what it holds and what may change unseen;
    None where there is none. Tensors and Cells are looked after otherwise."""
    if isinstance(value, (list, dict, set, np.ndarray)):
        return value
    if isinstance(value, (*_HOLD_NOTHING, tuple, frozenset, *hooks.traced, hooks.Cell)):
        return None
    kind = type(value)
    if is_steady(kind.__module__):
        if (kind.__module__.partition(".")[0] == "cellc" or hasattr(kind, "__next__")
                or isinstance(value, MappingView)):     # of a dictionary that was looked at
            return None
        if hasattr(kind, "__len__") and hasattr(kind, "__iter__"):
            return value                # a deque, the environment
    return getattr(value, "__dict__", None)


def items_in(place):
    """The items of such a place; of an array none, whose elements hold nothing."""
    if isinstance(place, np.ndarray):
        return ()
    return place.values() if hasattr(type(place), "values") else place


def slots_of(kind: type) -> list[str]:
    """The attributes that a user's class keeps outside of a dictionary."""
    return [name for base in kind.__mro__ if not is_steady(base.__module__)
            for name, held in vars(base).items() if isinstance(held, MemberDescriptorType)]


def is_steady(module_name: str | None) -> bool:
    """Is the module one that no program changes while it runs: of cellc, NumPy, the library?"""
    return bool(module_name) and module_name.partition(".")[0] in _STEADY


@record(eq=False)
class Record:
    """The reads of one call of a cell, or of the whole parse, in order and each once."""

    reads: list[Guard] = fresh(list)
    seen: set[tuple[str, int, str]] = fresh(set)

    def add(self, guard: Guard) -> None:
        key = (guard.kind, id(guard.owner), guard.name)
        if key not in self.seen:
            self.seen.add(key)
            self.reads.append(guard)

    def match(self, old, new) -> tuple[dict[int, Any], list[Guard]] | None:
        """Would the cell `new` have been parsed as `old` was?

        Each read is done again with what `new` has in place of what `old` had; what was reached
        through `old` must be reached through `new`, one object for one object, and plain values
        must be equal. Returns the map from ids of old objects to new ones, and the reads of `new`.
        """
        pairs = _Pairs()
        pairs.join(old, new)
        reads = []
        for read in self.reads:
            owner = pairs.new_for(read.owner)
            if owner is read.owner:
                if read.kind != "contents" and not pairs.equivalent(read.value, read.value):
                    return None
                continue
            value = look(read.kind, owner, read.name)
            if not pairs.equivalent(read.value, value):
                return None
            reads.append(Guard(read.kind, owner, read.name, value))
        return pairs.old_to_new, reads


class _Pairs:
    """A one-to-one map between the objects of two instances, grown read by read."""

    def __init__(self):
        self.old_to_new: dict[int, Any] = {}
        self.new_to_old: dict[int, Any] = {}

    def new_for(self, old):
        return self.old_to_new.get(id(old), old)

    def join(self, old, new) -> bool:
        if hasattr(old, "__dict__") and hasattr(new, "__dict__"):
            self.old_to_new.setdefault(id(vars(old)), vars(new))
        return (self.old_to_new.setdefault(id(old), new) is new
                and self.new_to_old.setdefault(id(new), old) is old)

    def equivalent(self, old, new) -> bool:
        kind = type(old)
        if kind is not type(new):
            return False
        if isinstance(old, _PLAIN):
            return same(old, new)
        if isinstance(old, (tuple, frozenset)):
            return len(old) == len(new) and all(map(self.equivalent, old, new))
        if isinstance(old, MethodType):
            return old.__func__ is new.__func__ and self.equivalent(old.__self__, new.__self__)
        if isinstance(old, hooks.Tensor):
            alike = (old.type == new.type
                     and getattr(old, "requires_grad", None) == getattr(new, "requires_grad", None))
            return alike and self.join(old, new)
        if isinstance(old, hooks.Cell):
            return self.join(old, new)
        if old is new or isinstance(old, (FunctionType, type, ModuleType)):
            return old is new and self.join(old, new)
        if is_steady(kind.__module__) and kind.__module__ != "builtins":
            return self.join(old, new) and self._same_fields(old, new)
        return self.join(old, new)      # a container or an object: what was read of it is compared

    def _same_fields(self, old, new) -> bool:
        """Library objects run as they are, unread by the parser: all their fields count."""
        if not hasattr(old, "__dict__"):
            return False
        first, second = vars(old), vars(new)
        return first.keys() == second.keys() and all(
            self.equivalent(first[key], second[key]) for key in first)
