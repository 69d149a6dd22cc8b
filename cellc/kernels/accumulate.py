"""Accumulators of reductions: what loops carry, how a lane takes an element, how lanes meet.

An accumulator is a list of parts, one Element each: the value, and for argmax and argmin also the
index of the best so far. Maxima and minima keep a NaN they have met; ties go to the lower index.
"""

from __future__ import annotations

from cellc.ir.prims.reduce import highest, lowest
from cellc.ir.types import i64
from cellc.kernels.loops import Reduction
from cellc.kernels.scalar_ops import Element, ScalarOps
from cellc.kernels.text import Function
from cellc.kernels.vectors import picked, vector

Parts = list[Element]


def neutral(ops: ScalarOps, r: Reduction, n: int) -> Parts:
    """The accumulator that has met nothing."""
    of = r.operand.dtype
    if r.position is None:
        return [ops.spread(ops.const(r.neutral, of), n)]
    worst = highest(of) if r.op == "argmin" else lowest(of)
    return [ops.spread(ops.const(worst, of), n), ops.spread(ops.const(0, i64), n)]


def take(ops: ScalarOps, r: Reduction, so_far: Parts, x: Element, index: Element | None,
         mask: str | None) -> Parts:
    """The accumulator after element x (at `index`), in the lanes of the mask."""
    n = so_far[0].n
    x = ops.spread(Element(x.text, so_far[0].dtype, x.n, x.value), n)
    if r.position is None:
        if mask is not None:
            bits = Element(mask, x.dtype, n)
            x = _choose(ops.f, bits, x, neutral(ops, r, n)[0])
        return [getattr(ops, r.op)(so_far[0], x)]
    better = _beats(ops, r.op, x, so_far[0])
    if mask is not None:
        better = Element(ops.f.op(f"and {better.ty} {better.text}, {mask}"), better.dtype, n)
    return [ops.select(better, x, so_far[0]),
            ops.select(better, ops.spread(index, n), so_far[1])]


def _choose(f: Function, mask: Element, x: Element, y: Element) -> Element:
    text = f.op(f"select {vector('i1', x.n)} {mask.text}, {x.ty} {x.text}, {y.ty} {y.text}")
    return Element(text, x.dtype, x.n)


def _beats(ops: ScalarOps, op: str, x: Element, best: Element) -> Element:
    better = (ops.gt if op == "argmax" else ops.lt)(x, best)
    if x.dtype.is_float:
        first_nan = ops.bit_and(ops.ne(x, x), ops.eq(best, best))
        better = ops.bit_or(better, first_nan)
    return better


def combine(ops: ScalarOps, r: Reduction, a: Parts, b: Parts) -> Parts:
    """Two accumulators of disjoint elements in one."""
    if r.position is None:
        return [getattr(ops, r.op)(a[0], b[0])]
    better, worse = _beats(ops, r.op, b[0], a[0]), _beats(ops, r.op, a[0], b[0])
    tie = ops.bit_not(ops.bit_or(better, worse))
    taken = ops.bit_or(better, ops.bit_and(tie, ops.lt(b[1], a[1])))
    return [ops.select(taken, b[0], a[0]), ops.select(taken, b[1], a[1])]


def combine_all(ops: ScalarOps, r: Reduction, copies: list[Parts]) -> Parts:
    """A tree over copies."""
    while len(copies) > 1:
        copies = [combine(ops, r, copies[i], copies[i + 1]) if i + 1 < len(copies) else copies[i]
                  for i in range(0, len(copies), 2)]
    return copies[0]


def across_lanes(ops: ScalarOps, r: Reduction, parts: Parts) -> Parts:
    """A tree over the lanes of a vector: halves meet until one lane is left."""
    n = parts[0].n
    while n > 1:
        half = n // 2
        low, high = ([_part(ops.f, x, start, half) for x in parts] for start in (0, half))
        parts, n = combine(ops, r, low, high), half
    return parts


def _part(f: Function, x: Element, start: int, n: int) -> Element:
    if n == 1:
        return Element(f.op(f"extractelement {x.ty} {x.text}, i64 {start}"), x.dtype, 1)
    return Element(picked(f, x.ty, x.text, "poison", range(start, start + n)), x.dtype, n)
