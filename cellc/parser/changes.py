"""A tensor has changed in place: what is this tensor becomes the changed one, wherever it is held.
And which objects the state of a loop may be: see `aliases`.
"""

from __future__ import annotations

from functools import partial
from types import MethodType

from cellc.errors import TypeFault
from cellc.ir.graph import Constant, Node
from cellc.parser import reach
from cellc.parser.iteration import Items, Iterator
from cellc.parser.session import fields_of
from cellc.parser.values import LISTS, Closure, Maybe

_HOLDING = frozenset([Maybe, MethodType, partial])      # beside tuples


def replace(session, old, new) -> None:
    """All that is `old` becomes `new`: in variables, containers and objects of this graph."""
    for holder in list(reach.holders(session)):
        if isinstance(holder, (Iterator, Closure)):
            _replace_within(session, holder, old, new)
            continue
        items = holder if isinstance(holder, (*LISTS, dict)) else fields_of(holder)
        pairs = enumerate(items) if isinstance(items, LISTS) else items.items()
        for key, before in [(k, x) for k, x in pairs if x is old or type(x) in _HOLDING or
                            isinstance(x, tuple)]:
            x = renewed(before, old, new)
            if x is before:
                continue
            session.journal(holder)
            if isinstance(holder, (*LISTS, dict)):
                holder[key] = x
            else:
                object.__setattr__(holder, key, x)


def renewed(value, old, new):
    """The value, where what cannot be changed in place holds the new tensor for the old one."""
    if value is old:
        return new
    kind = type(value)
    if isinstance(value, tuple) and value:
        items = [renewed(x, old, new) for x in value]
        if all(x is y for x, y in zip(items, value, strict=True)):
            return value
        return value._make(items) if hasattr(value, "_make") else kind(items)
    if kind is Maybe and value.value is old:
        return Maybe(new, value.flag, value.unbound)
    if kind is MethodType and value.__self__ is old:
        return MethodType(value.__func__, new)
    if kind is partial:
        args = renewed(value.args, old, new)
        named = {key: renewed(x, old, new) for key, x in value.keywords.items()}
        if args is not value.args or any(named[key] is not x for key, x in value.keywords.items()):
            return partial(value.func, *args, **named)
    return value


def _replace_within(session, holder, old, new) -> None:
    """Replace it in what an iterator holds, or a function's defaults."""
    for name, value in list(vars(holder).items()):
        if isinstance(value, dict):
            found = {key: renewed(x, old, new) for key, x in value.items()}
            if all(x is y for x, y in zip(found.values(), value.values(), strict=True)):
                continue
        else:
            found = renewed(value, old, new) if isinstance(value, tuple) else value
        if found is value or isinstance(holder, Items) and holder.index >= len(holder.items):
            continue
        if isinstance(holder, Iterator) and session.journals and (
                not session.owned.is_of_this_branch(holder)):
            raise TypeFault("an item of a tensor is assigned under a condition known only when the "
                            "program runs, and an iterator made before holds the tensor",
                            "work on a copy: x = x.copy()")
        session.journal(holder)
        setattr(holder, name, found)


def is_held(session, value) -> bool:
    """Does a variable or container of this graph's code hold it?"""
    for holder in reach.holders(session):
        items = holder if isinstance(holder, LISTS) else (
            holder if isinstance(holder, dict) else fields_of(holder)).values()
        if any(renewed(x, value, None) is not x for x in items):
            return True
    return False


class LoopObjects:
    """Which objects a loop's state may be, as attempts at its round find it out."""

    def __init__(self, session):
        self.session, self.aliases = session, session.aliases
        self.made_before = len(session.owned)
        self.found: tuple = ((), frozenset())   # of the slots, then of the containers
        self.containers: list = []              # their structures
        self.grown: list = []                   # what a round appends to lists
        self.lasting: set[int] = set()          # those of it that rounds before it have, too
        self.shape: tuple = ()                  # which of them are one

    def settled(self, joiner, structures: list, grown: list) -> bool:
        """Note what the round has made of its state; is it as it was assumed?"""
        pairs = [pair[:2] for pair in joiner.pairs]
        pairs += [(a, b) for _, a, b in joiner.containers()]
        before = self.found, self.shape
        self.grown = grown
        self.lasting = {id(x) for x in grown if any(
            self.aliases.meet(self.aliases.origins(now), self.aliases.origins(x))
            for now, _ in pairs)}
        pairs += [(None, x) for x in grown]
        self.found = self.aliases.after_round(pairs, self._is_outside)
        self.shape = tuple(_identities(structures, {}))
        self.containers = [structure for structure, _, _ in joiner.containers()]
        return (self.found, self.shape) == before

    def ids(self) -> frozenset[int]:
        """The structures of the containers, each of which a round finds as one of its own."""
        return frozenset(map(id, self.containers))

    def _is_outside(self, value) -> bool:
        """Was it there before the loop?"""
        if isinstance(value, Constant):
            return is_held(self.session, value)
        if isinstance(value, Node):
            return any(b.owns(value) for b in (*self.session.builders, self.session.builder))
        return not self.session.owned.is_made_since(value, self.made_before)

    def note(self, leaves: list, shared: dict, behind: bool = False) -> None:
        """The state is these leaves, and the containers in `shared`, now: in a round, or behind
        the loop."""
        objects = [shared.get(id(x), (None, x))[1] for x in self.containers]
        self.aliases.note_state([*leaves, *objects, *[None] * len(self.grown)], *self.found)
        n = len(leaves) + len(objects)
        for i, j in self.found[1] if behind else ():
            if i < n <= j:
                self.aliases.relate_values((*leaves, *objects)[i], self.grown[j - n])

    def leave_grown(self, leaves: list, rows: list) -> None:
        """Behind the loop the rows are what a round appended as `leaves`, of one round each."""
        for leaf, row in zip(leaves, rows, strict=True):
            if id(leaf) in self.lasting:
                self.aliases.joined(row, leaf, leaf)
            else:
                self.aliases.relate_values(row, leaf)


def _identities(structure, known: dict):
    """A number for each container in it, the same for the same one."""
    if isinstance(structure, (*LISTS, dict)) or hasattr(structure, "__dict__"):
        yield known.setdefault(id(structure), len(known))
    parts = structure.values() if isinstance(structure, dict) else structure if isinstance(
        structure, (tuple, *LISTS)) else (structure.value,) if isinstance(structure, Maybe) else ()
    for part in parts:
        yield from _identities(part, known)
