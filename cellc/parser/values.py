"""Values that only the parser knows: markers, functions of the parsed code, structures.

A *structure* is a nesting of tuples, lists, dicts and objects whose traced parts are replaced by
`Slot(i)`: the i-th of a list of nodes kept beside it. Arguments, results and the two sides of an
`if` pass through it.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any

from cellc.errors import Loc, NameFault, SymbolicFault, TypeFault
from cellc.ir.graph import KnownFault, Node
from cellc.ir.types import Dim, ScalarType, Type
from cellc.parser import hooks
from cellc.record import record

if TYPE_CHECKING:
    from cellc.parser.source import Source

LISTS = (list, deque)
SIMPLE = (int, float, str, bool, type(None), complex, bytes, type(...), slice, range)


@record(frozen=True)
class Leaf:
    """In the arguments given to `trace`: a tensor or number of this type, known when called."""

    type: Type


@record(frozen=True)
class Slot:
    """In a structure: the place of the index-th traced value."""

    index: int


@record(frozen=True)
class Itself:
    """In a structure: a container that is to be found in its place, not a copy of it."""

    value: Any


@record(frozen=True)
class Unbound:
    """What to say of a variable that is read where the way taken has not bound it. As a message of
    a program it takes no values."""

    name: str
    what: str                   # `if`, `while` or `for`
    bound_at: Loc | None
    at: Loc | None              # where that statement is
    types = ()

    def fault(self, values=()) -> NameFault:
        return NameFault(f"{self.name} is read, and has no value: it is bound only in the "
                         f"`{self.what}` at {self.at} (at {self.bound_at}), on a way that was not "
                         "taken", f"give {self.name} a value before the `{self.what}`")


@record(frozen=True)
class Maybe:
    """The value of a variable that not every way to this place has bound: `flag` says whether it
    is, when the program runs, and `unbound` what to say where it is not."""

    value: Any
    flag: Any
    unbound: Unbound


@record(frozen=True)
class Conflict:
    """The value of a variable whose two values, from the branches of a traced `if` or from before a
    loop and after its round, do not meet. `what` is the statement."""

    what: str
    first: str
    first_at: Loc | None
    second: str
    second_at: Loc | None

    def refuse(self, name: str):
        if self.what == "if":
            raise TypeFault(f"the two branches give {name} no one type: {self.first} "
                            f"at {self.first_at}, {self.second} at {self.second_at}",
                            "make both branches give the same dtype and shape")
        raise TypeFault(f"the rounds of the `{self.what}` give {name} no one type: {self.first} "
                        f"before it, at {self.first_at}, {self.second} after a round, at "
                        f"{self.second_at}", "give it the dtype and shape before the loop that it "
                        "has after a round")


@record(eq=False)
class OnTape:
    """All that a list holds whose length only the running program knows: the tape with its items.
    A record has values of these types, and `item` is a structure over them. See lists.py."""

    tape: Any
    item: Any
    types: tuple


@record(frozen=True, eq=False)
class HeldBy:
    """A list on a tape in what a loop of the program returns: the one that the variable holds."""

    name: str

    def within(self, variables: dict):
        held = variables[self.name]
        return held.value if isinstance(held, Maybe) else held


@record(eq=False)
class Side:
    """The contents of a list on one of two ways that meet, to be put on a tape, with records of
    these types."""

    items: list
    types: tuple

    def held(self):
        """What the same list is known by: its tape, or its items."""
        found = on_tape(self.items)
        return self.items if found is None else found.tape

    def parts(self) -> list:
        """The traced parts of the items, or the tape that they are on."""
        leaves: list = []
        flatten(self.items, leaves, lambda x: x)
        return leaves


@record(eq=False)
class Listed:
    """Such a list as a result of the program: the values of all items, as rows of tensors."""

    item: Any
    types: tuple
    rows: tuple

    def items(self, rows) -> list:
        """What the user gets, of the tensors that came out."""
        columns = [x.asnumpy().tolist() if isinstance(t, ScalarType) else list(x)
                   for x, t in zip(rows, self.types, strict=True)]
        return [unflatten(self.item, values) for values in zip(*columns, strict=True)]


@record(eq=False)
class Closure:
    """A function or lambda defined in parsed code; `frame` is the activation it was defined in."""

    source: Source
    frame: Any
    defaults: tuple
    kw_defaults: dict[str, Any]

    @property
    def __name__(self) -> str:
        return self.source.name

    def __call__(self, *args, **kwargs):
        """Called by Python itself (a `key=` function): interpreted all the same."""
        return self.frame.session.call(self, args, kwargs)


class Owned:
    """Which containers and objects were made by the parsed code, and so may be changed by it.

    Kept by identity together with the object, so that an id is never another object's. For what is
    made in a traced branch, `journals` (the session's) says in which.
    """

    def __init__(self, journals: list):
        self._objects: dict[int, Any] = {}
        self.held: list[list] = []              # what `holding` keeps
        self._journals = journals
        self._made_in: dict[int, dict] = {}     # id of an object -> the journal of its branch
        self._order: dict[int, int] = {}        # id of an object -> how many were made before it
        self._made = 0

    def add(self, value):
        if self._journals and id(value) not in self._objects:
            self._made_in[id(value)] = self._journals[-1]
        if id(value) not in self._order:
            self._order[id(value)] = self._made
            self._made += 1
        self._objects[id(value)] = value
        return value

    def __len__(self) -> int:
        return self._made

    def is_made_since(self, value, n: int) -> bool:
        """Was it made when there were n objects, or later?"""
        return self._order.get(id(value), -1) >= n

    def is_of_this_branch(self, value) -> bool:
        """Was it made in the innermost traced branch, so that no other branch knows it?"""
        return self.made_in(value, self._journals[-1])

    def made_in(self, value, journal: dict) -> bool:
        """Was it made in the branch of this journal?"""
        return self._made_in.get(id(value)) is journal

    def adopt(self, journal: dict) -> None:
        """What was made in an inner branch counts as made in the one around it."""
        for key, made_in in self._made_in.items():
            if made_in is journal:
                self._made_in[key] = self._journals[-1]

    @contextmanager
    def holding(self, *values):
        """For a while, a list of the parser's own is one that can be seen, as what an expression
        has computed so far; `values` are its first items."""
        held = list(values)
        self.held.append(self.add(held))
        try:
            yield held
        finally:
            self.held.pop()
            for found in (self._objects, self._made_in, self._order):
                found.pop(id(held), None)

    def of_kind(self, *kinds: type) -> list:
        """All that are of these classes."""
        return [x for x in self._objects.values() if isinstance(x, kinds)]

    def __contains__(self, value) -> bool:
        return id(value) in self._objects


# -- structures ------------------------------------------------------------------------------------

def flatten(value, leaves: list, lift, shared: dict | None = None):
    """The structure of `value`; its traced parts are appended to `leaves` as `lift(part)`.

    With `shared`, a container found twice has one structure.
    """
    kind = type(value)
    if kind in SIMPLE or kind is Itself:
        return value
    if isinstance(value, hooks.traced):
        leaves.append(lift(value))
        return Slot(len(leaves) - 1)
    if shared is not None and id(value) in shared:
        return shared[id(value)][1]
    structure = value
    if isinstance(value, (tuple, *LISTS)):
        structure = same_kind(value, [flatten(x, leaves, lift, shared) for x in value])
    elif isinstance(value, dict):
        structure = _same_dict(value, {k: flatten(x, leaves, lift, shared)
                                       for k, x in value.items()})
    elif kind is Maybe:
        return Maybe(flatten(value.value, leaves, lift, shared),
                     flatten(value.flag, leaves, lift, shared), value.unbound)
    elif kind is OnTape:
        return OnTape(flatten(value.tape, leaves, lift), value.item, value.types)
    elif kind is Listed:
        return Listed(value.item, value.types, flatten(value.rows, leaves, lift))
    elif is_instance_of_dataclass(value) and traced_in(value):
        structure = same_object(value, {
            f.name: flatten(getattr(value, f.name), leaves, lift, shared) for f in fields(value)})
    if shared is not None:
        shared[id(value)] = value, structure
    return structure


def unflatten(structure, leaves, known=None, made=None, keep: bool = False,
              shared: dict | None = None, anew: frozenset[int] = frozenset()):
    """The value of a structure: slots filled from `leaves`, known parts through `known`.

    Containers are new ones, and `made` is told of each; with `keep`, those without slots stay, but
    for those whose ids are in `anew`. With `shared`, a structure found twice gives one container.
    """
    kind = type(structure)
    if kind is Slot:
        return leaves[structure.index]
    if kind is Itself:
        return structure.value
    if kind in SIMPLE or (keep and not slots_in(structure) and not (
            anew and _is_in(structure, anew))):
        return structure
    if shared is not None and id(structure) in shared:
        return shared[id(structure)][1]
    again = (known, made, keep, shared, anew)
    if isinstance(structure, (tuple, *LISTS)):
        result = same_kind(structure, [unflatten(x, leaves, *again) for x in structure])
    elif kind is Maybe:
        return Maybe(unflatten(structure.value, leaves, *again),
                     unflatten(structure.flag, leaves, *again), structure.unbound)
    elif kind is OnTape:
        return OnTape(unflatten(structure.tape, leaves), structure.item, structure.types)
    elif kind is Listed:
        return structure.items(unflatten(structure.rows, leaves))
    elif isinstance(structure, dict):
        result = _same_dict(structure, {k: unflatten(x, leaves, *again)
                                        for k, x in structure.items()})
    elif is_instance_of_dataclass(structure) and (
            slots_in(structure) or id(structure) in anew):
        result = same_object(structure, {
            f.name: unflatten(getattr(structure, f.name), leaves, *again)
            for f in fields(structure)})
    else:
        return known(structure) if known else structure
    if made is not None and not isinstance(result, tuple):
        made(result)
    if shared is not None:
        shared[id(structure)] = structure, result
    return result


def on_tape(value) -> OnTape | None:
    """What a list has instead of items, where its length is not known."""
    if type(value) is list and len(value) == 1 and type(value[0]) is OnTape:
        return value[0]
    return None


def refuse_whole(tape: Node, what: str):
    """Refuse what would look at all of such a list."""
    raise unknown(tape, f"found {what} of a list whose length is known only when the program "
                  "runs", "it can be appended to, popped, indexed, gone through with a for, and "
                  "given to ops.stack")


def _is_in(structure, ids: frozenset[int]) -> bool:
    return id(structure) in ids or any(_is_in(x, ids) for x in _parts(structure))


def is_instance_of_dataclass(value) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def same_kind(old, items: list):
    if type(old) is tuple:
        return tuple(items)
    if hasattr(old, "_make"):           # a namedtuple
        return old._make(items)
    return deque(items, old.maxlen) if isinstance(old, deque) else type(old)(items)


def _same_dict(old, items: dict):
    return items if type(old) is dict else type(old)(items)


def same_object(old, items: dict):
    new = object.__new__(type(old))
    for name, value in items.items():
        object.__setattr__(new, name, value)
    return new


def _parts(value):
    if isinstance(value, (tuple, *LISTS, set, frozenset)):
        return value
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, slice):
        return (value.start, value.stop, value.step)
    if type(value) is Maybe:
        return (value.value, value.flag)
    if type(value) is OnTape:
        return (value.tape,)
    if is_instance_of_dataclass(value):
        return [getattr(value, f.name, None) for f in fields(value)]
    return ()


def traced_in(value) -> bool:
    """Is there a traced value in it, at any depth of containers, slices and dataclasses?"""
    if isinstance(value, hooks.traced) or getattr(type(value), "holds_traced", False):
        return True
    return any(map(traced_in, _parts(value)))


def slots_in(structure) -> bool:
    return type(structure) is Slot or any(map(slots_in, _parts(structure)))


def unknown(node: Node, message: str, hint: str) -> KnownFault:
    """The fault for a value that must be known while compiling.

    The driver answers it by compiling for the value of the number that it came from; where it came
    from a tensor, the user sees it.
    """
    fault = KnownFault(node)
    fault.message, fault.hint = message, hint
    return fault


def need_sizes(value, what: str) -> None:
    """SymbolicFault where a size in `value` is symbolic and `what` needs its number."""
    if isinstance(value, Dim):
        raise SymbolicFault(f"the program needs {what} of {value}, which depends on the size of "
                            f"dimension {value.name}")
    for part in _parts(value):
        need_sizes(part, what)


def describe(value) -> str:
    """A value in the user's terms: its type where it is traced, else itself, shortened."""
    if isinstance(value, Node):
        return str(value.type)
    if isinstance(value, hooks.traced):
        return str(value.type)
    if isinstance(value, Closure):
        return f"the function {value.source.name}"
    if isinstance(value, FunctionType):
        return f"the function {value.__name__}"
    if on_tape(value) is not None:
        return "a list whose length is known only when the program runs"
    if isinstance(value, (tuple, list)) and traced_in(value):
        inner = ", ".join(map(describe, value))
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    if isinstance(value, hooks.Cell):
        return f"the cell {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
