"""plan_memory: every array a program needs for a while gets an offset in one arena.

Lifetimes are intervals of positions in the list of applies. Two blocks may share bytes where their
intervals do not overlap. Large blocks are placed first, each at the lowest offset that is free for
its whole life (the greedy-by-size order of Pisarchyk and Lee, 2020). Blocks of one life, such as
all that a call gives its gradient, are placed side by side as one. A size that depends on a
symbolic dimension `n` is `bytes * n`; such blocks are planned apart, in units of n, so that one
plan serves every n.
"""

from __future__ import annotations

from bisect import insort

from cellc.errors import SymbolicFault
from cellc.ir.types import Dim, TensorType
from cellc.record import record

ALIGNMENT = 64


def byte_size(type: TensorType) -> tuple[str, int]:
    """The bytes of an array as (unit, count): unit "" for a known size, else a dimension's name."""
    size = type.size
    if isinstance(size, Dim):
        return size.name, size.coef * type.dtype.itemsize
    if not isinstance(size, int):
        raise SymbolicFault(f"an array of {size} elements")
    return "", size * type.dtype.itemsize


@record(eq=False)
class Block:
    """Bytes wanted from position `start` to `end`, both included; `offset` is the answer."""

    unit: str
    size: int
    start: int
    end: int
    offset: int = 0


def plan(blocks: list[Block]) -> dict[str, int]:
    """Set every block's offset; returns the bytes needed for each unit."""
    totals: dict[str, int] = {}
    placed: dict[str, list[tuple]] = {}     # of each unit (offset, its end, life), by offset
    together: dict[tuple[str, int, int], list[Block]] = {}
    for block in blocks:
        together.setdefault((block.unit, block.start, block.end), []).append(block)
    sizes = {life: sum(_aligned(b.size) for b in group) for life, group in together.items()}
    for life in sorted(sizes, key=lambda life: (-sizes[life], life[1])):
        unit, first, last = life
        others = placed.setdefault(unit, [])
        offset = _lowest(others, first, last, sizes[life])
        insort(others, (offset, offset + sizes[life], first, last))
        for block in together[life]:
            block.offset = offset
            offset += _aligned(block.size)
        totals[unit] = max(totals.get(unit, 0), offset)
    return totals


def _lowest(placed: list[tuple], first: int, last: int, size: int) -> int:
    """The lowest offset at which so many bytes are free from `first` to `last`."""
    offset = 0
    for low, high, start, end in placed:
        if start <= last and first <= end:
            if offset + size <= low:
                break
            if high > offset:
                offset = high
    return offset


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
