"""Iterators of parsed code, and what can be gone through.

An iterator has a place, and the place can be put back: both branches of a traced `if` start from
it. Where they leave it at two places, it cannot be asked for more.
"""

from __future__ import annotations

from functools import partial

from cellc.errors import SyntaxFault, TypeFault
from cellc.parser import hooks, lists, operators
from cellc.parser.guards import look
from cellc.parser.sequence import Sequence, sequence_of
from cellc.parser.session import MAX_UNROLLED
from cellc.parser.values import describe

_AT_HAND = (tuple, str, bytes, range, frozenset)


class Iterator:
    """What `iter(...)` gives: a Python iterator that a traced branch can put back."""

    def __init__(self, session):
        self.session, self.home, self.lost = session, session.owned, False
        self.about = None           # what of the user's it holds, where that is in no field
        session.owned.add(self)

    def __iter__(self):
        return self

    def __next__(self):
        self.arrive()
        return self.advance()

    def arrive(self) -> None:
        """Note the place for the other branch; refuse where there is no one place."""
        if self.home is not self.session.owned:
            raise TypeFault("an iterator made outside this cell or differentiated function is "
                            "asked for its next item", "pass list(...) of it")
        if self.lost:
            raise TypeFault("the two branches of an `if` on a value known only when the program "
                            "runs have taken different numbers of items from this iterator",
                            "go through a list or a tuple instead")
        self.session.journal(self)

    def advance(self):
        """The next item; StopIteration where there is none."""
        raise NotImplementedError

    def place(self):
        """Where it stands."""

    def put(self, place) -> None:
        """Stand there again."""

    def within(self) -> tuple:
        """The iterators it takes its items from."""
        return ()

    def state(self):
        """All that `restore` needs; None where it has no one place."""
        if self.lost:
            return None
        return self.place(), [(inner, inner.state()) for inner in self.within()]

    def restore(self, state) -> None:
        self.lost = state is None
        if not self.lost:
            self.put(state[0])
            for inner, held in state[1]:
                inner.restore(held)

    def joined(self, first, second, joiner):
        """The state after two branches; those within have been joined by themselves."""
        alike = first is not None and second is not None and first[0] == second[0]
        return (first[0], []) if alike else None


class Items(Iterator):
    """Over a sequence, which may change meanwhile; of a dict or set the keys there were."""

    def __init__(self, session, value):
        super().__init__(session)
        self.index, self.sized = 0, value if isinstance(value, (dict, set)) else None
        self.items = value if hasattr(type(value), "__getitem__") and not isinstance(
            value, dict) else tuple(value)

    def advance(self):
        if lists.on_tape(self.items) is not None:
            raise lists.Grown(self.items)
        if self.sized is not None and len(self.sized) != len(self.items):
            raise RuntimeError(f"{type(self.sized).__name__} changed size during iteration")
        if self.index >= len(self.items):
            self.index = max(self.index, MAX_UNROLLED)      # at its end for ever
            raise StopIteration
        self.index += 1
        return self.items[self.index - 1]

    def place(self):
        return self.index

    def put(self, place) -> None:
        self.index = place


class Rows(Iterator):
    """Over a Sequence, which a `for` may take as a whole and make a loop of the program."""

    def __init__(self, session, sequence: Sequence):
        super().__init__(session)
        self.sequence, self.index = sequence, 0

    def advance(self):
        if isinstance(self.sequence.length, hooks.traced):
            iter(self.sequence)         # refuses
        if self.index >= len(self.sequence):
            raise StopIteration
        self.index += 1
        return self.sequence.item(self.index - 1)

    def place(self):
        return self.index

    def put(self, place) -> None:
        self.index = place

    def take(self) -> Sequence | None:
        """All of it, where nothing has been taken yet; nothing is left."""
        if self.index:
            return None
        self.arrive()
        self.index = MAX_UNROLLED + 1
        return self.sequence


class Enumerate(Iterator):
    """Pairs of a number and an item."""

    def __init__(self, session, inner, start=0):
        super().__init__(session)
        self.inner, self.count = inner, start

    def advance(self):
        item = next(self.inner)
        self.count += 1
        return self.count - 1, item

    def place(self):
        return self.count

    def put(self, place) -> None:
        self.count = place

    def within(self) -> tuple:
        return (self.inner,)


class Zip(Iterator):
    """Tuples of items, until one of the iterators ends."""

    def __init__(self, session, parts, strict: bool = False):
        super().__init__(session)
        self.parts, self.strict = tuple(parts), strict

    def advance(self):
        items = []
        for i, part in enumerate(self.parts):
            try:
                items.append(next(part))
            except StopIteration:
                if self.strict:
                    self._check_length(i)
                raise
        if not items:
            raise StopIteration
        return tuple(items)

    def _check_length(self, short: int) -> None:
        """The iterator `short` has ended: the others must have ended as well."""
        end = object()
        if short:
            self._refuse(short, "shorter")
        for i, part in enumerate(self.parts[1:], 1):
            if next(part, end) is not end:
                self._refuse(i, "longer")

    def _refuse(self, i: int, how: str):
        before = "argument 1" if i == 1 else f"arguments 1-{i}"
        raise ValueError(f"zip() argument {i + 1} is {how} than {before}")

    def within(self) -> tuple:
        return self.parts


class Map(Iterator):
    """What a function gives for the items of iterators side by side."""

    def __init__(self, session, function, *parts):
        super().__init__(session)
        self.function, self.rows = function, Zip(session, parts)

    def advance(self):
        return self.function(*next(self.rows))

    def within(self) -> tuple:
        return (self.rows,)


class Filter(Iterator):
    """The items for which a test holds."""

    def __init__(self, session, test, inner):
        super().__init__(session)
        self.test, self.inner = test, inner

    def advance(self):
        while True:
            item = next(self.inner)
            if self.test(item):
                return item

    def within(self) -> tuple:
        return (self.inner,)


class Calls(Iterator):
    """The values of a function called again and again: an object's `__next__`, or `iter(f, end)`.

    What the function changes is noted where it happens.
    """

    def __init__(self, session, function, end=StopIteration):
        super().__init__(session)
        self.function, self.end = function, end

    def advance(self):
        from cellc.parser.frame import UserRaise

        try:
            value = self.function()
        except UserRaise as raised:
            if not isinstance(raised.error, StopIteration):
                raise
            raise raised.error from None
        if self.end is not StopIteration:
            found = operators.truth(self.session, operators.equal(self.session, value, self.end))
            if not isinstance(found, bool):
                raise TypeFault("whether iter(f, end) has reached its end is known only when the "
                                "program runs", "loop over a known range")
            if found:
                raise StopIteration
        return value


# -- what can be gone through ----------------------------------------------------------------------

def iterate(session, value):
    """An iterator over the items of a known container or of a tensor's first axis."""
    if isinstance(value, Iterator):
        return value
    if lists.on_tape(value) is not None:
        return Rows(session, lists.Items(session, value))
    session.look_at(value)
    if isinstance(value, hooks.traced) and session.lift(value).type.ndim == 0:
        raise TypeFault(f"found {describe(value)} where something to go through is needed",
                        "loop over a range, or over a tensor with at least one axis")
    if isinstance(value, (Sequence, *hooks.traced)):
        return Rows(session, sequence_of(session, value))
    if isinstance(value, hooks.Cell):
        session.read("contents", value, "", look("contents", value, ""))
        return Items(session, tuple(value))
    if type(value) in _AT_HAND or isinstance(value, (list, dict, set)):
        return Items(session, value)
    function = operators.user_special(value, "__iter__")
    if function is not None:
        found = session.call(function, [value])
        return iterate(session, found) if found is not value else _own_next(session, value)
    if operators.user_special(value, "__next__") is not None:
        return _own_next(session, value)
    if operators.user_special(value, "__getitem__") is not None:
        return _by_index(session, value)
    session.look_over(value)
    return Items(session, _taken(session, value))


def _own_next(session, value) -> Iterator:
    """An object that is its own iterator."""
    function = operators.user_special(value, "__next__")
    if function is None:
        raise TypeFault(f"iter() of {describe(value)} gives no iterator", "define __next__")
    return Calls(session, partial(session.call, function, [value]))


def _by_index(session, value):
    """An object with `__getitem__` only: its items from 0 on, until an IndexError."""
    from cellc.parser import attributes
    from cellc.parser.frame import UserRaise

    def item(i):
        try:
            return attributes.load_item(session, value, i)
        except (IndexError, UserRaise) as error:
            if isinstance(getattr(error, "error", error), IndexError):
                raise StopIteration from None
            raise

    found = Map(session, item, Items(session, range(MAX_UNROLLED + 1)))
    found.about = value
    return found


def _taken(session, value) -> tuple:
    """All items of another of Python's own objects; an iterator from outside is not used up."""
    if hasattr(type(value), "__next__"):
        raise TypeFault(f"an iterator ({type(value).__name__}) made outside the compiled call is "
                        "gone through, which would use it up once, while compiling, and not at "
                        "each call", "pass a list or tuple of its items")
    try:
        return tuple(value)
    except TypeError:
        raise TypeFault(f"found {describe(value)}, which cannot be gone through",
                        "loop over a list, a tuple, a range or a tensor") from None


def items_of(session, value) -> list:
    """All items at once; refused where how many there are is known only at run time."""
    found = []
    for item in iterate(session, value):
        found.append(item)
        if len(found) > MAX_UNROLLED:
            raise SyntaxFault(f"a loop of more than {MAX_UNROLLED} rounds is not unrolled",
                              "use operations on whole tensors instead")
    return found


def rounds_of(session, value):
    """What a `for` goes through: a list where nothing can change meanwhile, else an Iterator."""
    found = iterate(session, value)
    if isinstance(found, Items) and found is not value and value not in session.owned:
        return items_of(session, found)
    return found
