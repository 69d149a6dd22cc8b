"""Logarithms: x = 2^n (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)); log x = n ln 2 + log(1 + f)."""

from __future__ import annotations

from cellc.kernels.vecmath import tables
from cellc.kernels.vecmath.exponential import power_of_two
from cellc.kernels.vecmath.lanes import Lanes, copysign, fast_two_sum, fma, polynomial, select

INF, NAN = float("inf"), float("nan")
SQRT_HALF_BITS = {"float": 0x3F3504F3, "double": 0x3FE6A09E667F3BCD}
ABSORBS_ONE = 2.0**60               # x + 1 is x from here on; x^2 is still finite


def exponent_and_mantissa(x: Lanes) -> tuple[Lanes, Lanes]:
    """Integer n and m in [sqrt(1/2), sqrt(2)) with x = 2^n m, for normal positive x."""
    start = SQRT_HALF_BITS[x.element]
    offset = x.bits() - start
    mantissa = ((offset & ((1 << x.format.mantissa) - 1)) + start).from_bits(x.ty)
    return offset >> x.format.mantissa, mantissa


def small_integer_to_float(n: Lanes, ty: str, magic: Lanes) -> Lanes:
    """n as a float: the inverse of `round_to_integer`, with `magic` taken off again."""
    return (n + magic.format.magic_bits).from_bits(ty) - magic


def log_parts(x: Lanes) -> tuple[Lanes, Lanes]:
    """n (a float) and f, for any x > 0 and finite; a subnormal x is lifted first."""
    lift = x.format.mantissa + 2
    subnormal = x < x.format.smallest_normal
    n, mantissa = exponent_and_mantissa(select(subnormal, x * 2.0**lift, x))
    magic = select(subnormal, x.like(x.format.magic + lift), x.format.magic)
    return small_integer_to_float(n, x.ty, magic), mantissa - 1.0


def log_tail(f: Lanes, square: Lanes) -> Lanes:
    """log(1 + f) - f + f^2/2.

    In double precision by log(1+f) = 2 atanh(s), s = f/(2+f): that is s (f^2/2 + 2 atanh(s)/s - 2),
    and half as many coefficients are worth a division.
    """
    if f.element == "float":
        return square * f * polynomial(f, tables.LOG1P_F32)
    s = f / (f + 2.0)
    z = s * s
    return s * fma(z, polynomial(z, tables.ATANH_F64), square * 0.5)


def log_joined(n: Lanes, f: Lanes) -> Lanes:
    """n ln 2 + log(1 + f), the small terms first."""
    ln2 = tables.split("LN2", f)
    square = f * f
    small = fma(square, -0.5, fma(n, ln2[1], log_tail(f, square)))
    return fma(n, ln2[0], f + small)


def log_specials(x: Lanes, result: Lanes) -> Lanes:
    """log at and outside the ends of its domain."""
    result = select(x < INF, result, x)
    result = select(x.equals(0.0), -INF, result)
    return select(x < 0.0, NAN, result)


def log(x: Lanes) -> Lanes:
    return log_specials(x, log_joined(*log_parts(x)))


def log1p_parts(x: Lanes) -> tuple[Lanes, Lanes]:
    """n (a float) and f with 1 + x = 2^n (1 + f).

    1 + x rounded gives n; then f = x 2^-n + (2^-n - 1) is rounded once. Where 2^-n would be
    subnormal, x has long absorbed the 1.
    """
    n, mantissa = exponent_and_mantissa(x + 1.0)
    shrink = power_of_two(0 - n, x.ty)
    f = select(x < ABSORBS_ONE, fma(x, shrink, shrink - 1.0), mantissa - 1.0)
    return small_integer_to_float(n, x.ty, x.like(x.format.magic)), f


def log1p(x: Lanes) -> Lanes:
    """The sign is that of x, which matters for -0.0."""
    return copysign(log_specials(x + 1.0, log_joined(*log1p_parts(x))), x)


def log2(x: Lanes) -> Lanes:
    n, f = log_parts(x)
    return log_specials(x, other_base(n, f, (1.0, 0.0), tables.split("ONE_OVER_LN2", x)))


def log10(x: Lanes) -> Lanes:
    n, f = log_parts(x)
    return log_specials(x, other_base(n, f, tables.split("LOG10_2", x),
                                      tables.split("ONE_OVER_LN10", x)))


def other_base(n: Lanes, f: Lanes, doubling: tuple, factor: tuple) -> Lanes:
    """n * doubling + log(1 + f) * factor; both constants and the logarithm are sums of two.

    n * doubling[0] must be exact.
    """
    square = f * f
    high, low = fast_two_sum(f, square * -0.5)
    low = low + fma(f * -0.5, f, square * 0.5) + log_tail(f, square)
    product = high * factor[0]
    rest = fma(high, factor[0], -product) + fma(high, factor[1], low * factor[0])
    total, error = fast_two_sum(n * doubling[0], product)
    return total + (error + fma(n, doubling[1], rest))


def log_double_double(x: Lanes) -> tuple[Lanes, Lanes]:
    """log x, x > 0 and finite, as an unevaluated sum with about 65 good bits.

    log(1+f) = 2s (1 + T), s = f/(2+f), T = s^2/3 + s^4 R(s^2). Only R is evaluated plainly.
    """
    n, f = log_parts(x)
    denominator, denominator_low = two_plus(f)
    inverse = 1.0 / denominator
    s = f * inverse
    s_low = (fma(-s, denominator, f) - s * denominator_low) * inverse
    z = s * s
    z_low = fma(s, s, -z) + s * 2.0 * s_low
    third, third_low = tables.split("THIRD", x)
    cubic = z * third
    cubic_low = fma(z, third, -cubic) + fma(z, third_low, z_low * third)
    t, t_low = fast_two_sum(cubic, z * z * polynomial(z, tables.ATANH_TAIL_F64))
    t_low = t_low + cubic_low
    twice, twice_low = s * 2.0, s_low * 2.0
    bend = twice * t
    bend_low = fma(twice, t, -bend) + fma(twice, t_low, twice_low * t)
    high, low = fast_two_sum(twice, bend)
    low = low + (twice_low + bend_low)
    short_ln2, rest_of_ln2 = tables.split("SHORT_LN2", x)
    high, error = fast_two_sum(n * short_ln2, high)
    return fast_two_sum(high, fma(n, rest_of_ln2, low) + error)


def two_plus(f: Lanes) -> tuple[Lanes, Lanes]:
    """2 + f and its rounding error, |f| < 2."""
    return fast_two_sum(f.like(2.0), f)
