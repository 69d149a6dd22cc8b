"""Accumulators of reductions: what loops carry, how a lane takes an element, how lanes meet.

An accumulator is a list of parts, one Element each: the value, and for argmax and argmin also the
index of the best so far. Maxima and minima keep a NaN they have met; ties go to the lower index.

The maximum of floats leaves NaNs out and has a second part, the largest |x| met, as the integer of
the same bits, which is above infinity's where there was a NaN. So a step is one compare in each
part. To keep the NaN in the value itself takes three that wait for one another.
"""

from __future__ import annotations

import math

from cellc.ir.prims.reduce import highest, lowest
from cellc.ir.types import DType, i32, i64
from cellc.kernels.loops import Reduction
from cellc.kernels.scalar_ops import Element, ScalarOps
from cellc.kernels.text import Function
from cellc.kernels.vectors import picked, vector

Parts = list[Element]


def neutral(ops: ScalarOps, r: Reduction, n: int) -> Parts:
    """The accumulator that has met nothing."""
    of = r.operand.dtype
    if r.position is None:
        value = ops.spread(ops.const(r.neutral, of), n)
        return [value, ops.spread(ops.const(0, _twin(of)), n)] if _watches(r) else [value]
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
        if _watches(r):
            return [_extremum(ops, r, x, so_far[0]), ops.max(so_far[1], _magnitude(ops, x))]
        return [getattr(ops, r.op)(so_far[0], x)]
    better = _beats(ops, r.op, x, so_far[0])
    if mask is not None:
        better = Element(ops.f.op(f"and {better.ty} {better.text}, {mask}"), better.dtype, n)
    return [ops.select(better, x, so_far[0]),
            ops.select(better, ops.spread(index, n), so_far[1])]


def _watches(r: Reduction) -> bool:
    """Whether NaNs are watched for in a part of their own."""
    return r.op in ("max", "min") and r.operand.dtype.is_float


def _twin(of: DType) -> DType:
    """The integers of a float's width."""
    return i32 if of.compute.bits == 32 else i64


def _magnitude(ops: ScalarOps, x: Element) -> Element:
    """The bits of |x|: the larger, the further from 0, and NaN beyond infinity."""
    bits = ops.bitcast(Element(x.text, x.dtype.compute, x.n, x.value), _twin(x.dtype))
    return ops.bit_and(bits, ops.const((1 << (bits.dtype.bits - 1)) - 1, bits.dtype))


def _extremum(ops: ScalarOps, r: Reduction, x: Element, y: Element) -> Element:
    """The larger, or smaller, and y where either is NaN."""
    return ops.select((ops.gt if r.op == "max" else ops.lt)(x, y), x, y)


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
    if _watches(r):
        return [_extremum(ops, r, a[0], b[0]), ops.max(a[1], b[1])]
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


def result(ops: ScalarOps, r: Reduction, parts: Parts) -> Element:
    """What an accumulator has come to."""
    if _watches(r):
        value, largest = parts
        infinity = _magnitude(ops, ops.spread(ops.const(math.inf, value.dtype), value.n))
        nan = ops.const(math.nan, value.dtype)
        return ops.select(ops.gt(largest, infinity), nan, value)
    return parts[1 if r.position is not None else 0]


def _part(f: Function, x: Element, start: int, n: int) -> Element:
    if n == 1:
        return Element(f.op(f"extractelement {x.ty} {x.text}, i64 {start}"), x.dtype, 1)
    return Element(picked(f, x.ty, x.text, "poison", range(start, start + n)), x.dtype, n)
