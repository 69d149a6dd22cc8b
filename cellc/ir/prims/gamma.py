"""polygamma over the scalar operations of a back end.

It computes in f64 whatever the dtype: the recurrence cancels, and f32 would lose the answer. The
relative error is about 1e-13. The formulas and their source are those of `numerics.polygamma`.
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
        """x ** n, n >= 1, by repeated squaring."""
        result = None
        while n:
            if n & 1:
                result = x if result is None else self.mul(result, x)
            n >>= 1
            x = self.mul(x, x) if n else x
        return result

    def polynomial(self, x, coefficients):
        """Horner's rule, lowest coefficient first."""
        *rest, total = coefficients
        for coefficient in reversed(rest):
            total = self.fma(total, x, coefficient)
        return total


def polygamma(b, x, n: int):
    """The recurrence up to 10 + n, then the asymptotic series; reflection for x <= 0."""
    w, of = _Wide(b), b.dtype(x)
    x = b.cast(x, f64)
    below = w.le(x, 0)
    right = _positive(w, w.select(below, w.sub(1, x), x), n)
    fraction = w.sub(x, w.round(x))
    cotangent = w.div(1, w.tan(w.mul(math.pi, fraction)))
    reflected = w.mul(math.pi ** (n + 1), w.polynomial(cotangent, cotangent_derivative(n)))
    reflected = w.select(w.eq(fraction, 0), math.nan, reflected)
    left = w.sub(w.neg(right), reflected)
    return b.cast(w.select(below, left, w.mul((-1) ** (n + 1), right)), of)


def _positive(w: _Wide, z, n: int):
    """The absolute value of polygamma for z > 0."""
    total = w.number(0)
    for _ in range(10 + n):
        small = w.lt(z, 10 + n)
        term = w.div(math.factorial(n), w.power(z, n + 1))
        total = w.select(small, w.add(total, term), total)
        z = w.select(small, w.add(z, 1), z)
    first = w.div(math.factorial(n - 1), w.power(z, n))
    second = w.div(math.factorial(n) / 2, w.power(z, n + 1))
    weights = [value * math.factorial(2 * k + n - 1) / math.factorial(2 * k)
               for k, value in enumerate(BERNOULLI, 1)]
    inverse = w.div(1, z)
    series = w.mul(w.polynomial(w.mul(inverse, inverse), weights), w.power(inverse, n + 2))
    return w.add(w.add(total, first), w.add(second, series))
