"""Roots and general powers."""

from __future__ import annotations

from cellc.kernels.vecmath import tables
from cellc.kernels.vecmath.exponential import (
    EXP_RANGE,
    exp_parts,
    power_of_two,
    round_to_integer,
    scale,
)
from cellc.kernels.vecmath.lanes import (
    Lanes,
    absolute,
    at_least,
    at_most,
    copysign,
    fma,
    intrinsic,
    is_integer,
    polynomial,
    select,
)
from cellc.kernels.vecmath.logarithm import (
    INF,
    NAN,
    exponent_and_mantissa,
    log_double_double,
    small_integer_to_float,
)

# An exponent beyond this gives 0, 1 or infinity with every base; being finite it meets no 0 * inf.
LARGEST_EXPONENT = {"float": 1e30, "double": 1e300}


def sqrt(x: Lanes) -> Lanes:
    return intrinsic("sqrt", x)


def rsqrt(x: Lanes) -> Lanes:
    return 1.0 / intrinsic("sqrt", x)


def pow(x: Lanes, y: Lanes) -> Lanes:
    """|x|^y by logarithms in higher precision, then the cases of IEEE 754, the strongest last."""
    largest = LARGEST_EXPONENT[x.element]
    base, exponent = absolute(x), at_least(at_most(y, largest), -largest)
    result = {"float": power_f32, "double": power_f64}[x.element](base, exponent)
    flip = select(y < 0.0, x.like(INF).bits(), 0)                  # exchanges 0 and infinity
    at_the_ends = base.equals(0.0) | base.equals(INF)
    result = select(at_the_ends, (base.bits() ^ flip).from_bits(x.ty), result)
    whole = is_integer(y)
    odd = whole & ~is_integer(y * 0.5)
    result = select(odd, copysign(result, x), result)
    result = select((x < 0.0) & (x > -INF) & ~whole, NAN, result)
    result = select(x.is_nan() | y.is_nan(), NAN, result)
    return select(x.equals(1.0) | y.equals(0.0), 1.0, result)


def power_f32(base: Lanes, exponent: Lanes) -> Lanes:
    """2^(y log2 x) in doubles by log2(1 + f) = f P(f) and 2^r = 1 + r Q(r).

    Rounding to single precision makes the infinities and the subnormal numbers.
    """
    wide, y = base.convert("fpext", "double"), exponent.convert("fpext", "double")
    n, mantissa = exponent_and_mantissa(wide)
    n = small_integer_to_float(n, wide.ty, wide.like(wide.format.magic))
    f = mantissa - 1.0
    logarithm = fma(f, polynomial(f, tables.LOG2_WIDE_F64), n)
    product = at_least(at_most(y * logarithm, 200.0), -200.0)
    whole, whole_bits = round_to_integer(product, 1.0)
    r = product - whole
    fraction = fma(r, polynomial(r, tables.EXP2_WIDE_F64), 1.0)
    return (fraction * power_of_two(whole_bits, wide.ty)).convert("fptrunc", "float")


def power_f64(base: Lanes, exponent: Lanes) -> Lanes:
    """e^(y log x) with log x and the product as sums of two doubles."""
    high, low = log_double_double(base)
    product = exponent * high
    rest = fma(exponent, high, -product) + exponent * low
    floor, ceiling = EXP_RANGE["double"]
    rest = select(absolute(product) < -floor, rest, 0.0)
    p, n = exp_parts(at_least(at_most(product, ceiling), floor), rest)
    return scale(p + 1.0, n)
