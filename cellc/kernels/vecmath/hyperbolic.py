"""Hyperbolic functions and their inverses (tanh is with the exponentials)."""

from __future__ import annotations

from cellc.kernels.vecmath import tables
from cellc.kernels.vecmath.exponential import half_exp
from cellc.kernels.vecmath.lanes import Lanes, absolute, copysign, fma, polynomial, select
from cellc.kernels.vecmath.logarithm import ABSORBS_ONE, NAN, log1p_parts, log_joined, log_specials
from cellc.kernels.vecmath.power import sqrt


def sinh(x: Lanes) -> Lanes:
    """Near 0 a polynomial, elsewhere (e^|x| - e^-|x|) / 2."""
    t = absolute(x)
    square = x * x
    near = fma(t * square, polynomial(square, tables.of("SINH", x)), t)
    e = half_exp(t)
    return copysign(select(t < 1.0, near, e - 0.25 / e), x)


def cosh(x: Lanes) -> Lanes:
    e = half_exp(absolute(x))
    return e + 0.25 / e


def asinh(x: Lanes) -> Lanes:
    """log(t + sqrt(t^2 + 1)) = log1p(t + t^2 / (1 + sqrt(t^2 + 1))), t = |x|."""
    t = absolute(x)
    square = t * t
    return copysign(log1p_or_log_of_twice(t, t + square / (sqrt(square + 1.0) + 1.0)), x)


def acosh(x: Lanes) -> Lanes:
    """log1p(t + sqrt(t (t + 2))), t = x - 1."""
    t = x - 1.0
    return select(x < 1.0, NAN, log1p_or_log_of_twice(x, t + sqrt(t * (t + 2.0))))


def log1p_or_log_of_twice(x: Lanes, argument: Lanes) -> Lanes:
    """log1p(argument), or log(2x) where x is so large that they agree and x^2 may overflow."""
    large = x > ABSORBS_ONE
    argument = select(large, x, argument)
    n, f = log1p_parts(argument)
    n = select(large, n + 1.0, n)
    return log_specials(argument + 1.0, log_joined(n, f))


def atanh(x: Lanes) -> Lanes:
    """log1p(2t / (1 - t)) / 2, t = |x|; beyond 1 log1p gives NaN, and at 1 infinity."""
    t = absolute(x)
    argument = t * 2.0 / (1.0 - t)
    result = log_specials(argument + 1.0, log_joined(*log1p_parts(argument)))
    return copysign(result * 0.5, x)
