"""parts: how a vector loop walks an axis of known size.

    even(size)      whole unrolled vectors, then single ones, the last one masked if need be
    known(size)     the same where guards depend on the axis (zeros around an image): a few vectors
                    are a part each, for which it is known now what the guards let through; or there
                    is a stretch all along which they hold, whose vectors do not ask them
"""

from __future__ import annotations

from cellc.kernels.text import is_literal
from cellc.record import record

WIDE = 4                # copies; of more than these the rest is a body of its own
FEW = 4                 # vectors whose guards are decided one by one


@record(frozen=True)
class Part:
    """Part of the vector axis: a loop, or one round."""

    start: str
    stop: str
    step: int
    copies: int
    masked: bool
    inside: frozenset = frozenset()     # the guards that hold in all of it

    @property
    def single(self) -> bool:
        """Whether it is known to have one round."""
        return (is_literal(self.start) and is_literal(self.stop)
                and 0 < int(self.stop) - int(self.start) <= self.step)


def known(size: int, n: int, unroll: int, stretches: dict, bodies: float) -> list[Part]:
    """The parts of an axis in vectors of `n` lanes, `unroll` at a time, at most so many of them
    written out. `stretches` says of each guard from where to where it holds; None: nobody knows."""
    if not stretches:
        return even(size, n, unroll)
    if -(-size // n) <= min(FEW, bodies):
        return each_vector(0, size, n)
    low, high, inside = 0, size, set()
    for guard, stretch in stretches.items():
        if stretch is not None:
            first, end = max(low, stretch[0]), min(high, stretch[1])
            if end - first >= 2 * n:
                low, high = first, end
                inside.add(guard)
    low, high = -(-low // n) * n, high // n * n
    if not inside or high <= low:
        return even(size, n, unroll)
    copies = min(unroll, (high - low) // n)
    high = low + (high - low) // (copies * n) * (copies * n)
    main = Part(str(low), str(high), copies * n, copies, False, frozenset(inside))
    return [*_few(0, low, n), main, *_few(high, size, n)]


def even(size: int, n: int, unroll: int) -> list[Part]:
    step = n * unroll
    main = size // step * step
    found = [Part("0", str(main), step, unroll, False)] if main else []
    left = (size - main) // n if unroll > WIDE or size % n else 0
    if unroll > 1 and left > 1:
        whole = size // n * n
        copies = left if unroll > WIDE else 1
        found.append(Part(str(main), str(whole), copies * n, copies, False))
        main = whole
    return found + ([Part(str(main), str(size), n, 1, bool(size % n))] if main < size else [])


def each_vector(start: int, size: int, n: int) -> list[Part]:
    return [Part(str(i), str(min(i + n, size)), n, 1, i + n > size) for i in range(start, size, n)]


def _few(start: int, size: int, n: int) -> list[Part]:
    """What is left beside a stretch."""
    if size - start <= n:
        return each_vector(start, size, n)
    return [Part(str(start), str(size), n, 1, bool((size - start) % n))]
