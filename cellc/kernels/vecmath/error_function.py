"""The error function, its complement and its inverse."""

from __future__ import annotations

from cellc.kernels.vecmath import tables
from cellc.kernels.vecmath.exponential import exp_parts, scale
from cellc.kernels.vecmath.lanes import (
    Lanes,
    absolute,
    at_most,
    copysign,
    entries_at_once,
    fma,
    horner,
    intrinsic,
    lookup,
    polynomial,
    select,
)
from cellc.kernels.vecmath.logarithm import INF, log

ERF_IS_ONE = 3.93           # from here on, in single precision
ERFC_RANGE = {"float": 10.5, "double": 28.0}        # beyond: 0
TAIL_CENTER = {"float": 3.0, "double": 4.0}


def erf(x: Lanes) -> Lanes:
    return copysign({"float": erf_f32, "double": erf_f64}[x.element](absolute(x)), x)


def erf_f32(t: Lanes) -> Lanes:
    t = at_most(t, ERF_IS_ONE)
    entries = entries_at_once(t)
    return erf_by_table(t, *tables.ERF_PIECES[entries]) if entries else erf_by_two_polynomials(t)


def erf_by_table(t: Lanes, a_unit: float, rows: tuple[tuple[float, ...], ...]) -> Lanes:
    """t P(d), with another P for each of 16 or 8 pieces; d is the distance from the middle of one.

    The middle's value is there in two numbers: only the last addition rounds visibly.
    """
    middle = fma(t, a_unit, t.format.magic)
    d, piece = fma(t, a_unit, t.format.magic - middle), middle.bits()
    value, rest, *slopes = (lookup(table, piece) for table in rows)
    total = slopes.pop()
    while slopes:
        total = fma(total, d, slopes.pop())
    return fma(t, value, t * fma(total, d, rest))


def erf_by_two_polynomials(t: Lanes) -> Lanes:
    """t + t P(t^2) near 0, further out 1 + Q(t - 5/2); t >= 0.

    Both by one Horner scheme: each lane takes the coefficients of its own polynomial.
    """
    is_near = t < 1.0
    x = select(is_near, t * t, t - 2.5)
    near, far = tables.ERF_F32, tables.ERF_FAR_F32
    total = select(is_near, near[-1], horner(x, far[len(near) - 1:]))
    for k in reversed(range(len(near) - 1)):
        total = fma(total, x, select(is_near, x.like(near[k]), far[k]))
    factor = select(is_near, t, 1.0)
    return fma(factor, total, factor)


def erf_f64(t: Lanes) -> Lanes:
    t = at_most(t, 7.0)
    near = fma(t, polynomial(t * t, tables.ERF_F64), t)
    return select(t < 1.0, near, 1.0 - erfc_tail(t))


def erfc(x: Lanes) -> Lanes:
    """1 - erf near 0; further out the tail, or 2 minus it on the left."""
    t = absolute(x)
    near = 1.0 - fma(x, polynomial(x * x, tables.of("ERF", x)), x)
    tail = erfc_tail(at_most(t, ERFC_RANGE[x.element]))
    return select(t < 0.5, near, select(x < 0.0, 2.0 - tail, tail))


def erfc_tail(t: Lanes) -> Lanes:
    """erfc(t), t >= 1/2, as e^(-t^2) P(q) / (1 + 2t) with q = (t - k)/(t + k)."""
    center = TAIL_CENTER[t.element]
    square = t * t
    p, n = exp_parts(-square, -fma(t, t, -square))
    shape = polynomial((t - center) / (t + center), tables.of("ERFCX", t)) / fma(t, 2.0, 1.0)
    return scale(fma(p, shape, shape), n)


def erfinv(x: Lanes) -> Lanes:
    """x P(w) with w = -log(1 - x^2), further out x P(sqrt w); infinite at 1 and -1, NaN beyond.

    Source: M. Giles, Approximating the erfinv function, GPU Computing Gems 2, 2012.
    """
    w = -log((1.0 - x) * (x + 1.0))
    s = intrinsic("sqrt", w)
    quotient = {"float": erfinv_quotient_f32, "double": erfinv_quotient_f64}[x.element](w, s)
    return select(absolute(x).equals(1.0), x * INF, x * quotient)


def erfinv_quotient_f32(w: Lanes, s: Lanes) -> Lanes:
    return select(w < 5.0, polynomial(w, tables.ERFINV_F32),
                  polynomial(s - 3.0, tables.ERFINV_FAR_F32))


def erfinv_quotient_f64(w: Lanes, s: Lanes) -> Lanes:
    far = select(w < 16.0, polynomial(s - 3.25, tables.ERFINV_FAR_F64),
                 polynomial(s - 5.0, tables.ERFINV_FURTHER_F64))
    return select(w < 6.25, polynomial(w, tables.ERFINV_F64), far)
