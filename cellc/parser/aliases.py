"""Which tensors and containers are, or may be, one object.

Tensors are values in the program, and objects in Python: after `y[0] = 1` all that is `y` has the
new value, under every name and in every container. What is one object for certain is one node, and
a change replaces the node wherever it is held (`changes`). What is so only on some ways to a place
(`old = y`, then `y = y * 2 if c else y`) has no one meaning: a change is refused where the other
can still be seen (`check`).

What is not noted is an object of its own, known by its id. A join has *origins*, the objects that
it may be; so has a tensor after `y[i] = v`, those of y before. The state of a loop is an object of
its own in each round, *related* to those that it may be: to what was there before the loop, and
to other state, where it may have been one with it before the first round or after any.
"""

from __future__ import annotations

from typing import Any

from cellc.errors import TypeFault
from cellc.ir.graph import Node
from cellc.ir.types import TapeType, TensorType
from cellc.parser import hooks
from cellc.parser.values import LISTS, Side, is_instance_of_dataclass

NONE: frozenset[int] = frozenset()


class Aliases:
    """What one parse knows of this."""

    def __init__(self):
        self._origins: dict[int, tuple[Any, frozenset[int]]] = {}
        self._shared: set[int] = set()              # objects that something noted may be
        self._related: dict[int, set[int]] = {}
        self._states: set[int] = set()              # objects that stand for others in a round
        self._captured: dict[int, tuple[Node, Any]] = {}
        self._grown: dict[int, tuple[list, frozenset[int]]] = {}
        self._kept: dict[int, Any] = {}             # objects by id, which stays theirs

    def captured(self, node: Node, value) -> None:
        """In a graph of its own the node stands for a value from outside."""
        self._captured[id(node)] = node, value

    def itself(self, value):
        """The value that a captured one stands for."""
        while id(value) in self._captured:
            value = self._captured[id(value)][1]
        return value

    def origins(self, value) -> frozenset[int]:
        """Which objects it may be; of a list's tape, and of a list that is to be put on one, also
        which its items may be."""
        if isinstance(value, Side):
            return NONE.union(*map(self.origins, value.parts()))
        if not _has_identity(value):
            return NONE
        value = self.itself(value)
        found = self._origins.get(id(value))
        if found is not None:
            return found[1]
        self._kept[id(value)] = value
        return frozenset([id(value)])

    def joined(self, value, a, b) -> None:
        """The value is a on one way and b on the other."""
        value = self.itself(value)
        if value is not self.itself(a) or value is not self.itself(b):
            origins = self.origins(a) | self.origins(b)
            self._origins[id(value)] = value, origins
            self._shared |= origins

    def pushed(self, new, old, items: list) -> None:
        """The tape `new` is `old` with these items on top."""
        self.changed(old, new)
        found = NONE.union(*map(self.origins, items))
        self._origins[id(new)] = new, self.origins(old) | found
        self._shared |= found

    def changed(self, old, new) -> None:
        """The same object, with another value."""
        self._origins[id(new)] = new, self.origins(old)
        self._kept[id(new)] = new

    def relate(self, a: int, b: int) -> None:
        """The two objects may be one."""
        self._related.setdefault(a, set()).add(b)
        self._related.setdefault(b, set()).add(a)

    def relate_values(self, a, b) -> None:
        """The two values may be one object."""
        if self.itself(a) is not self.itself(b):
            for x in self.related(self.origins(a)):
                for y in self.related(self.origins(b)):
                    self.relate(x, y)

    def is_made_here(self, session, value) -> bool:
        """Is all that it may be made by the code that is being parsed?"""
        return session.is_made_here(value) and all(
            x in self._states or session.is_made_here(self._kept[x])
            for x in self.related(self.origins(value)))

    def related(self, origins) -> frozenset[int]:
        """The objects, and all that they may be."""
        return origins.union(*(self._related.get(x, ()) for x in origins))

    def meet(self, first: frozenset[int], second: frozenset[int]) -> bool:
        """May something of the one be something of the other?"""
        return not self.related(first).isdisjoint(second)

    def may_be_one(self, a, b) -> bool:
        """May they be one object, though they are not the same here?"""
        return self.itself(a) is not self.itself(b) and self.is_shared(a) and self.meet(
            self.origins(a), self.origins(b))

    def is_shared(self, value) -> bool:
        """May it be the same as something else?"""
        origins = self.origins(value)
        return len(origins) > 1 or any(x in self._shared or x in self._related for x in origins)

    # -- lists that grow in a loop -----------------------------------------------------------------
    def grow(self, value: list, leaves: list) -> None:
        """The list holds what such leaves were in each round of a loop."""
        self._grown[id(value)] = value, NONE.union(*map(self.origins, leaves))

    def _is_growing(self, session, value) -> bool:
        """May a list that grows in a loop around here hold it?"""
        return any(self.meet(self._grown[key][1], self.origins(value))
                   for key in session.growing if key in self._grown)

    # -- loops -------------------------------------------------------------------------------------
    def after_round(self, pairs: list, is_outside) -> tuple[list[frozenset], frozenset]:
        """What the state of a loop may be, of what is outside it; and which parts of it may be one:
        from the values before and after a round."""
        sides = [list(map(self.origins, side)) for side in zip(*pairs, strict=True)]
        outside = [frozenset(x for x in self.related(a | b) if is_outside(self._kept[x]))
                   for a, b in zip(*sides, strict=True)]
        one = frozenset((i, j) for j in range(len(pairs)) for i in range(j)
                        if any(self.meet(side[i], side[j]) for side in sides))
        return outside, one

    def note_state(self, values: list, outside: list[frozenset], one: frozenset) -> None:
        """The state of a loop as it is found in a round, or behind the loop."""
        for value, origins in zip(values, outside, strict=bool(outside)):
            if _has_identity(value):
                self._kept[id(value)] = value
                self._states.add(id(value))
                self._origins.pop(id(value), None)
                for origin in origins - {id(value)}:
                    self.relate(id(value), origin)
        for i, j in one:
            if values[i] is not None and values[j] is not None:
                self.relate(id(values[i]), id(values[j]))

    # -- changing ----------------------------------------------------------------------------------
    def check(self, session, value, what: str, written=None) -> None:
        """Refuse a change of what may be, or may not be, the same as something that can be seen.

        `written`: the statement or target that has just been assigned to.
        """
        grown = self._grown and self._is_growing(session, value)
        if not grown and not self.is_shared(value):
            return
        from cellc.parser import reach

        other = "a list that grows in a loop" if grown else reach.may_be_seen(
            session, written, lambda x: self.may_be_one(x, value))
        if other is not None:
            raise TypeFault(
                f"{what}, and {other} may be the same object: whether it is, is known only when "
                "the program runs, and where it is, Python changes both",
                "make a copy where the two part, such as old = y.copy(), or old = list(y)")


def _has_identity(value) -> bool:
    """Is it something that can be changed in place?"""
    if isinstance(value, hooks.traced):
        return isinstance(value.type, (TensorType, TapeType))
    return isinstance(value, (*LISTS, dict, set)) or is_instance_of_dataclass(value) or hasattr(
        value, "__dict__")
