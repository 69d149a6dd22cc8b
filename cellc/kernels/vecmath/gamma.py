"""The logarithm of the gamma function and its derivative, in doubles for either precision.

Both have three ranges on the positive axis: from STIRLING_FROM on an asymptotic series, below it
the recurrence gamma(x + 1) = x gamma(x); and the reflection formula gives the negative axis.
"""

from __future__ import annotations

from collections.abc import Callable

from cellc.kernels.vecmath import tables
from cellc.kernels.vecmath.lanes import (
    Lanes,
    absolute,
    copysign,
    fma,
    intrinsic,
    is_integer,
    polynomial,
    select,
)
from cellc.kernels.vecmath.logarithm import INF, NAN, log

STIRLING_FROM = 6                   # as in the fit of the two series
POLE_ONLY = 2.0**-60                # |x| below: gamma(x) is 1/x to the last bit


def lgamma(x: Lanes) -> Lanes:
    """log|gamma(x)|; infinity at the poles."""
    return in_doubles(lgamma_f64, x)


def digamma(x: Lanes) -> Lanes:
    """gamma'(x) / gamma(x); NaN at the poles, but an infinity at 0, whose sign has a meaning."""
    return in_doubles(digamma_f64, x)


def in_doubles(function: Callable, x: Lanes) -> Lanes:
    if x.element == "double":
        return function(x)
    return function(x.convert("fpext", "double")).convert("fptrunc", x.element)


def sin_pi(x: Lanes) -> Lanes:
    """sin(pi x) for |x| <= 1/2."""
    return x * polynomial(x * x, tables.SINPI_F64)


def from_integer(t: Lanes) -> Lanes:
    """t minus the integer nearest to it."""
    return t - intrinsic("rint", t)


def lgamma_f64(x: Lanes) -> Lanes:
    """On the left log(pi / |x sin(pi x)|) - lgamma(-x)."""
    t = absolute(x)
    right = lgamma_positive(t)
    left = tables.LOG_PI - log(t * absolute(sin_pi(from_integer(t)))) - right
    result = select(x < -POLE_ONLY, left, right)
    return select((x < 0.0) & is_integer(x), INF, result)


def lgamma_positive(t: Lanes) -> Lanes:
    """With t = w + 1 + k, 0 <= w <= 1: lgamma(w + 1) = w (w - 1) P(w - 1/2), exactly 0 at 1 and 2.

    Each step from w + 1 up to t multiplies gamma by a factor; for t < 1 there is one step down.
    """
    below_one, asymptotic = t < 1.0, ~(t < float(STIRLING_FROM))
    w = select(below_one, t, t - 1.0)
    product = t.like(1.0)
    for _ in range(STIRLING_FROM - 2):
        again = ~(w < 1.0)
        product = select(again, product * w, product)
        w = select(again, w - 1.0, w)
    logarithm = log(select(below_one | asymptotic, t, product))
    near = w * (w - 1.0) * polynomial(w - 0.5, tables.LGAMMA_QUOTIENT_F64)
    near = select(below_one, near - logarithm, near + logarithm)
    u = 1.0 / t
    series = fma(u, polynomial(u * u, tables.LGAMMA_STIRLING_F64), tables.HALF_LOG_TWO_PI - 0.5)
    return select(asymptotic, fma(t - 0.5, logarithm - 1.0, series), near)


def digamma_f64(x: Lanes) -> Lanes:
    """On the left digamma(-x) - 1/x - pi cot(pi x)."""
    t = absolute(x)
    right = digamma_positive(t)
    f = from_integer(t)
    cotangent = sin_pi(0.5 - absolute(f)) / sin_pi(f)
    inverse = 1.0 / t
    left = select(is_integer(x), NAN, fma(cotangent, tables.PI, right + inverse))
    result = select(x < 0.0, left, right)
    return select(t < POLE_ONLY, copysign(inverse, -x), result)


def digamma_positive(t: Lanes) -> Lanes:
    """The series at z = t + k >= STIRLING_FROM, less 1/t + ... + 1/(z - 1) as one fraction."""
    z, numerator, denominator = t, t.like(0.0), t.like(1.0)
    for _ in range(STIRLING_FROM):
        small = z < float(STIRLING_FROM)
        numerator = select(small, fma(numerator, z, denominator), numerator)
        denominator = select(small, denominator * z, denominator)
        z = select(small, z + 1.0, z)
    u = 1.0 / z
    series = fma(u * u, polynomial(u * u, tables.DIGAMMA_STIRLING_F64), u * -0.5)
    return log(z) + (series - numerator / denominator)
