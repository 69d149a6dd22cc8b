"""Exponentials: e^x = 2^n (1 + p), n the nearest integer to x / ln 2 and p = expm1 of the rest."""

from __future__ import annotations

from cellc.kernels.text import element_type
from cellc.kernels.vecmath import tables
from cellc.kernels.vecmath.lanes import (
    FORMATS,
    Lanes,
    absolute,
    at_least,
    at_most,
    copysign,
    fma,
    has_avx512,
    horner,
    polynomial,
    scaled,
    select,
)

EXP_RANGE = {"float": (-104.0, 89.0), "double": (-746.0, 710.0)}    # outside: 0 and infinity
EXP2_RANGE = {"float": (-151.0, 129.0), "double": (-1076.0, 1025.0)}
EXPM1_FLOOR = {"float": -18.0, "double": -38.0}                     # below: -1
TANH_CEILING = {"float": 18.4, "double": 40.0}                      # of 2x, above: 1


def round_to_integer(x: Lanes, factor: float) -> tuple[Lanes, Lanes]:
    """The integer nearest to x * factor, as a float, and in the low bits of integers; it must be
    small.

    Adding 1.5 * 2^mantissa leaves it there: no conversion, and NaN is harmless.
    """
    shifted = fma(x, factor, x.format.magic)
    return shifted - x.format.magic, shifted.bits()


def power_of_two(n: Lanes, ty: str) -> Lanes:
    """2^n for integers n in the normal range; only their low bits count."""
    fmt = FORMATS[element_type(ty)]
    return ((n + fmt.bias) << fmt.mantissa).from_bits(ty)


def scale(y: Lanes, n: Lanes) -> Lanes:
    """y * 2^n for y around 1, n as `round_to_integer` leaves it.

    AVX-512 has an instruction for it. Elsewhere 2^n alone may overflow or vanish. So it is made
    smaller by a power of two and the product larger again, or where n is negative the other way
    round; that rounds again below the normal numbers only.
    """
    n_float = n.from_bits(y.ty) - y.format.magic
    if has_avx512(y):
        return scaled(y, n_float)
    lift, bias = y.format.bias // 2, y.format.bias
    negative = n_float.bits().below(0)          # a sign, by which lanes are chosen as it is
    power = (n + select(negative, n.like(lift + bias), bias - 1)) << y.format.mantissa
    return y * power.from_bits(y.ty) * select(negative, y.like(2.0**-lift), 2.0)


def exp_parts(x: Lanes, rest: Lanes | None = None, fit: str = "EXP") -> tuple[Lanes, Lanes]:
    """p and n with e^(x + rest) = 2^n (1 + p), -0.3 < p < 0.42.

    `rest` is what x lost when it was rounded. The fit is best for 1 + p, or for p with "EXPM1".
    """
    r, n = rest_and_power(x, rest)
    return fma(r * r, polynomial(r, tables.of(fit, x)), r), n


def rest_and_power(x: Lanes, rest: Lanes | None = None) -> tuple[Lanes, Lanes]:
    """r and n with x + rest = n ln 2 + r, |r| < 0.35."""
    ln2 = tables.split("LN2", x)
    n_float, n = round_to_integer(x, tables.ONE_OVER_LN2)
    r = fma(n_float, -ln2[0], x)
    r = fma(n_float, -ln2[1], r) if rest is None else r + fma(n_float, -ln2[1], rest)
    return r, n


def exp(x: Lanes) -> Lanes:
    low, high = EXP_RANGE[x.element]
    x = at_least(at_most(x, high), low)
    if x.element == "float":            # so few terms are shorter one after the other
        r, n = rest_and_power(x)
        return scale(horner(r, (1.0, 1.0, *tables.EXP_F32)), n)
    p, n = exp_parts(x)
    return scale(p + 1.0, n)


def exp2(x: Lanes) -> Lanes:
    low, high = EXP2_RANGE[x.element]
    x = at_least(at_most(x, high), low)
    n_float, n = round_to_integer(x, 1.0)
    r = x - n_float
    return scale(fma(r, polynomial(r, tables.of("EXP2", x)), 1.0), n)


def expm1_bounded(x: Lanes) -> Lanes:
    """e^x - 1 = 2^n p + (2^n - 1) while 2^n is a normal number; loses the sign of -0.0."""
    p, n = exp_parts(x, fit="EXPM1")
    power = power_of_two(n, x.ty)
    return fma(power, p, power - 1.0)


def expm1(x: Lanes) -> Lanes:
    """At half size, so that 2^n does not overflow before the result does; tiny x is its own."""
    bounded = at_least(at_most(x, EXP_RANGE[x.element][1]), EXPM1_FLOOR[x.element])
    p, n = exp_parts(bounded, fit="EXPM1")
    power = power_of_two(n - 1, x.ty)
    return select(absolute(x) < 2.0**-60, x, fma(power, p, power - 0.5) * 2.0)


def tanh(x: Lanes) -> Lanes:
    """e / (e + 2) with e = expm1(2|x|), and the sign put back."""
    e = expm1_bounded(at_most(absolute(x) * 2.0, TANH_CEILING[x.element]))
    return copysign(e / (e + 2.0), x)


def logistic(x: Lanes) -> Lanes:
    """1 / (1 + e), or for negative x e / (1 + e), e = e^-|x|: the small tail stays accurate.

    With e made larger by a power of two, which the result gives back: there are no subnormal
    numbers on the way.
    """
    p, n = exp_parts(at_least(-absolute(x), EXP_RANGE[x.element][0]))
    lift = x.format.bias // 2
    power = power_of_two(n + lift, x.ty)
    e = fma(power, p, power)
    return select(x < 0.0, e, 2.0**lift) / fma(e, 2.0**-lift, 1.0) * 2.0**-lift


def half_exp(x: Lanes) -> Lanes:
    """e^x / 2 for x >= 0, which overflows a little later than e^x."""
    p, n = exp_parts(at_most(x, EXP_RANGE[x.element][1] + 1.0))
    return scale(p + 1.0, n - 1)
