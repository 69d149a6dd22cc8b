"""The gamma function's relatives over the scalar operations of a back end.

All three compute in f64 whatever the dtype: the recurrences cancel, and f32 would lose the answer.
The error is about 1e-14, absolute near the zeros of lgamma at 1 and 2, else relative. The formulas
are those of `cellc.ir.numerics`, where their source is named.
"""

from __future__ import annotations

import math

from cellc.ir.numerics import BERNOULLI, cotangent_derivative
from cellc.ir.types import f64


class _Wide:
    """f64 arithmetic with literals, to keep the formulas below readable."""

    def __init__(self, b):
        self.b = b

    def number(self, x):
        return self.b.const(x, f64) if isinstance(x, (int, float)) else x

    def __getattr__(self, name):
        method = getattr(self.b, name)
        return lambda *operands: method(*map(self.number, operands))

    def power(self, x, n: int):
        """x ** n by repeated squaring."""
        result = None
        while n:
            if n & 1:
                result = x if result is None else self.mul(result, x)
            n >>= 1
            x = self.mul(x, x) if n else x
        return result

    def series(self, z, weights, more: int):
        """sum(w_k / z**(2 k + more)), k from 1, more >= -1, by Horner's rule in 1 / z**2."""
        inverse = self.div(1, z)
        square = self.mul(inverse, inverse)
        total = self.number(weights[-1])
        for weight in reversed(weights[:-1]):
            total = self.fma(total, square, weight)
        return self.mul(total, self.power(inverse, 2 + more))


def _climb(w, z, limit: int, first, combine):
    """Apply z -> z + 1 up to `limit` times while z < limit, folding each z left behind."""
    total = w.number(first)
    for _ in range(limit):
        small = w.lt(z, limit)
        total = w.select(small, combine(total, z), total)
        z = w.select(small, w.add(z, 1), z)
    return total, z


def lgamma(b, x):
    """log|gamma|: Stirling's series above 10, the product below it, reflection for x <= 0."""
    w, of = _Wide(b), b.dtype(x)
    x = b.cast(x, f64)
    below = w.le(x, 0)
    z = w.select(below, w.sub(1, x), x)
    product, z = _climb(w, z, 10, 1, w.mul)
    weights = [value / (2 * k * (2 * k - 1)) for k, value in enumerate(BERNOULLI, 1)]
    stirling = w.add(w.sub(w.mul(w.sub(z, 0.5), w.log(z)), z), 0.5 * math.log(2 * math.pi))
    stirling = w.select(w.is_finite(z), stirling, z)
    result = w.sub(w.add(stirling, w.series(z, weights, -1)), w.log(product))
    fraction = w.sub(x, w.floor(x))
    sine = w.abs(w.sin(w.mul(math.pi, fraction)))
    reflected = w.sub(w.log(w.div(math.pi, sine)), result)
    reflected = w.select(w.is_finite(x), reflected, math.inf)
    return b.cast(w.select(below, reflected, result), of)


def digamma(b, x):
    """The recurrence up to 10, then the asymptotic series; reflection for x <= 0."""
    w, of = _Wide(b), b.dtype(x)
    x = b.cast(x, f64)
    below = w.le(x, 0)
    fraction = w.sub(x, w.floor(x))
    angle = w.tan(w.mul(math.pi, fraction))
    reflected = w.select(w.eq(fraction, 0), math.nan, w.div(-math.pi, angle))
    total, z = _climb(w, w.select(below, w.sub(1, x), x), 10, 0, lambda t, z: w.sub(t, w.div(1, z)))
    weights = [value / (2 * k) for k, value in enumerate(BERNOULLI, 1)]
    result = w.sub(w.sub(w.add(total, w.log(z)), w.div(0.5, z)), w.series(z, weights, 0))
    result = w.select(below, w.add(result, reflected), result)
    return b.cast(w.select(w.eq(x, 0), w.div(-1, x), result), of)


def polygamma(b, x, n: int):
    """The recurrence up to 10 + n, then the asymptotic series; reflection for x <= 0."""
    w, of = _Wide(b), b.dtype(x)
    x = b.cast(x, f64)
    below, fraction = w.le(x, 0), w.sub(x, w.floor(x))
    cotangent = w.div(1, w.tan(w.mul(math.pi, fraction)))
    *rest, reflected = cotangent_derivative(n)
    for coefficient in reversed(rest):
        reflected = w.fma(reflected, cotangent, coefficient)
    reflected = w.select(w.eq(fraction, 0), math.nan, w.mul(math.pi ** (n + 1), reflected))
    scale = math.factorial(n)
    total, z = _climb(w, w.select(below, w.sub(1, x), x), 10 + n, 0,
                      lambda t, z: w.add(t, w.div(scale, w.power(z, n + 1))))
    first = w.div(math.factorial(n - 1), w.power(z, n))
    second = w.div(scale / 2, w.power(z, n + 1))
    weights = [value * math.factorial(2 * k + n - 1) / math.factorial(2 * k)
               for k, value in enumerate(BERNOULLI, 1)]
    total = w.add(w.add(total, first), w.add(second, w.series(z, weights, n)))
    total = w.select(below, w.sub(w.neg(total), reflected), w.mul((-1) ** (n + 1), total))
    return b.cast(total, of)
