"""Lists that grow by the same items in every round of a rolled loop of known length.

    outputs = []
    for t in range(64):
        ...
        outputs.append(h)           # in the program: outputs[t] = h, in one array of 64 rows

Within the loop such a list can only be appended to; what else is done with it there ends the
attempt, and the loop is unrolled. Behind the loop it is an ordinary list again, of the rows. Where
the loop may end early, or a round may append nothing, see lists.py.
"""

from __future__ import annotations

from typing import Any

from cellc.ir.graph import Node
from cellc.ir.prims import control, element, shape
from cellc.ir.types import ScalarType, TensorType
from cellc.parser import hooks
from cellc.parser.session import contents, restore
from cellc.parser.values import flatten, on_tape, unflatten
from cellc.record import record


@record(eq=False)
class Grown:
    """One list: how the items of a round are made of traced values, and these values' types."""

    owner: list
    items: Any = None
    types: tuple = ()
    arrays: list = None         # the inputs of the graph being built that hold the rows
    round: tuple = None         # of the last round that was parsed: the leaves, arrays and place


class Growing:
    """All such lists of one loop."""

    def __init__(self, loop):
        self.loop, self.session = loop, loop.session
        self.lists: list[Grown] = []
        self._changed = False
        self._at: Node | None = None

    def takes(self, value, now, later) -> bool:
        """Is a changed container a list that has only grown? Notes what it has grown by."""
        known = next((g for g in self.lists if g.owner is value), None)
        if known is not None and on_tape(later) is not None:    # not in all rounds by the same
            self.lists.remove(known)
            known, self._changed = None, True
        if type(value) is not list or (known is None and not self._has_grown(now, later)):
            return False
        if known is None:
            known = Grown(value)
            self.lists.append(known)
        items = later if known.arrays is not None else later[len(now):]
        leaves: list = []
        structure = flatten(items, leaves, self.session.lift_anywhere)
        types = tuple(x.type for x in leaves)
        if repr(structure) != repr(known.items) or types != known.types or known.arrays is None:
            known.items, known.types, self._changed = structure, types, True
        known.round = leaves, known.arrays, self._at
        self.session.aliases.grow(value, leaves)
        return True

    def _has_grown(self, now, later) -> bool:
        length = getattr(self.loop.sequence, "length", None)
        return (isinstance(length, int) and not self.loop.exits.numbers and len(later) > len(now)
                and on_tape(later) is None
                and all(a is b for a, b in zip(now, later, strict=False)))

    def settled(self) -> bool:
        """Did the last round grow the lists by what was known?"""
        changed, self._changed = self._changed, False
        return not changed

    def leaves(self) -> list:
        """What the last round has added."""
        return [x for g in self.lists for x in g.round[0]]

    def size(self) -> int:
        return sum(len(g.types) for g in self.lists)

    def _rows(self, type) -> TensorType:
        return TensorType(type.dtype, (self.loop.sequence.length, *type.shape))

    def empty(self) -> list[Node]:
        """The arrays before the loop."""
        return [control.empty(type=self._rows(t)) for g in self.lists for t in g.types]

    def bind(self) -> None:
        """Give the arrays inputs of the graph being built, and let the lists look empty."""
        session, builder = self.session, self.session.builder
        self._at = self.loop.frame.variables.get(self.loop.index)
        for g in self.lists:
            g.arrays = [builder.input(self._rows(t), "rows") for t in g.types]
            session.journal(g.owner)
            restore(g.owner, [])
            session.growing[id(g.owner)] = g.owner

    def written(self) -> list[Node]:
        """The arrays after the round that was parsed last, in its graph."""
        found = []
        for g in self.lists:
            leaves, arrays, at = g.round
            for array, x, type in zip(arrays, leaves, g.types, strict=True):
                if isinstance(type, ScalarType):
                    x = shape.from_scalar(x)
                found.append(element.write(array, x, at, checked=False))
        return found

    def leave(self, arrays: list[Node]) -> None:
        """The lists behind the loop: what they had, and what each round has added."""
        rest = iter(arrays)
        for g in self.lists:
            own = [next(rest) for _ in g.types]
            grown = []
            for i in range(self.loop.start, self.loop.sequence.length):
                leaves = [hooks.getitem(a, i) for a in own]
                leaves = [shape.to_scalar(x) if isinstance(t, ScalarType) else x
                          for x, t in zip(leaves, g.types, strict=True)]
                self.loop.objects.leave_grown(g.round[0], leaves)
                grown += unflatten(g.items, leaves, made=self.session.owned.add)
            self.session.journal(g.owner)
            restore(g.owner, [*contents(g.owner), *grown])
