"""What a loop may go through without being unrolled: ranges, rows of tensors, and both combined.

A Sequence has a length, known or a number of the program, and an item for each place, which may be
a number of the program as well. Where its length is known it is an iterable like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cellc.errors import TypeFault, ValueFault
from cellc.ir import arith
from cellc.ir.prims import element, elementwise
from cellc.ir.types import Dim, TensorType, i64
from cellc.parser import hooks
from cellc.parser.values import describe, unknown


class Sequence:
    """`length` items; `item(i)` is the one at place i, an int or a node."""

    def __init__(self, length, item: Callable[[Any], Any]):
        self.length, self.item = length, item

    def __iter__(self):
        if not isinstance(self.length, int):
            raise unknown(self.length, "the number of items is known only when the program runs",
                          "go through them with a `for` statement")
        return map(self.item, range(self.length))

    def __len__(self) -> int:
        return len(range(self.length)) if isinstance(self.length, int) else self.length.__index__()


def sequence_of(session, value) -> Sequence | None:
    """The value as a Sequence, where it is something that need not be unrolled."""
    if isinstance(value, Sequence):
        return value
    if hasattr(type(value), "take"):        # an iterator over one
        return value.take()
    if type(value) is list:
        from cellc.parser import lists

        return lists.Items(session, value) if lists.on_tape(value) is not None else None
    if isinstance(value, range):
        return of_range(value.start, value.stop, value.step, len(value))
    if isinstance(value, hooks.traced):
        node = session.lift(value)
        if isinstance(node.type, TensorType) and node.type.shape:
            return rows(node)
    return None


def of_range(start, stop, step, length) -> Sequence:
    def item(i):
        if not isinstance(i, int):
            i = i if step == 1 and isinstance(step, int) else arith.mul(i, step)
            return i if isinstance(start, int) and start == 0 else arith.add(i, start)
        return start + i * step

    return Sequence(length, item)


def traced_range(session, args) -> Sequence:
    """`range` of numbers of which one is known only when the program runs."""
    numbers = [arith.size_number(x) if arith.is_found(x) else x if isinstance(x, (int, Dim))
               else _whole(session, x) for x in args]
    start, stop, step = (0, numbers[0], 1) if len(numbers) == 1 else (*numbers, 1)[:3]
    if isinstance(step, int):
        if step == 0:
            raise ValueFault("range() arg 3 must not be zero", "give a step of 1, or of -1")
        ahead = arith.sub(stop, start) if step > 0 else arith.sub(start, stop)
        size = abs(step)
        length = ahead if size == 1 else arith.floordiv(arith.add(ahead, size - 1), size)
    else:
        from cellc.parser.text import Raised, check

        check(session, arith.not_equal(step, 0),
              Raised(session, (ValueFault, ("range() arg 3 must not be zero",))))
        length = _count(start, stop, step)
    return of_range(start, stop, step, arith.maximum(length, 0))


def _count(start, stop, step):
    """The number of items for a step whose sign is not known."""
    forward = arith.greater(step, 0)
    size = elementwise.max(elementwise.abs(step), arith.cast(1, i64))
    ahead = arith.where(forward, arith.sub(stop, start), arith.sub(start, stop))
    return arith.floordiv(arith.add(ahead, arith.sub(size, 1)), size)


def _whole(session, value):
    """A bound of a range: a whole number, or a tensor of one."""
    from cellc.parser.builtins import as_scalar

    node = as_scalar(session, value)
    if not node.type.dtype.is_int:
        raise TypeFault(f"range() of {describe(value)}", "convert it: range(int(n))")
    return arith.cast(node, i64)


def rows(node) -> Sequence:
    """The items of a tensor's first axis."""
    def item(i):
        if isinstance(i, int):
            return hooks.getitem(node, i)
        return element.read(node, i, checked=False)

    return Sequence(node.type.shape[0], item)


def enumerated(sequence: Sequence, start) -> Sequence:
    return Sequence(sequence.length, lambda i: (
        i + start if isinstance(i, int) and isinstance(start, int) else arith.add(i, start),
        sequence.item(i)))


def zipped(sequences: list[Sequence]) -> Sequence:
    lengths = [s.length for s in sequences]
    shortest = lengths[0]
    for n in lengths[1:]:
        known = isinstance(n, int) and isinstance(shortest, int)
        shortest = min(n, shortest) if known else n if n is shortest else arith.minimum(shortest, n)
    return Sequence(shortest, lambda i: tuple(s.item(i) for s in sequences))


def backwards(sequence: Sequence) -> Sequence:
    n = sequence.length

    def item(i):
        if isinstance(n, int) and isinstance(i, int):
            return sequence.item(n - 1 - i)
        return sequence.item(arith.sub(arith.sub(n, 1), i))

    return Sequence(n, item)
