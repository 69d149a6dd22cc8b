"""Numbers as the IR means them: how NumPy arrays hold bf16, round, cast, and special functions.

Primitives' `eval` functions are written with these. f16 and bf16 are computed in f32 and rounded
once per primitive; float to integer saturates and takes NaN to 0: neither C nor NumPy says.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from cellc.ir.types import DTYPES, DType, bf16, boolean, dtype

_NATIVE = {d.numpy: d for d in DTYPES}
_QUIET = {"all": "ignore"}      # what NumPy would warn of (overflow, 0/0) has a meaning here


def dtype_of(array) -> DType:
    """The DType of an array or NumPy scalar."""
    return _NATIVE.get(array.dtype) or dtype(array.dtype)


def to_compute(array) -> np.ndarray:
    """The array in the dtype in which it is computed: f16 and bf16 widen to f32 (exactly)."""
    array = np.asarray(array)
    if array.dtype.itemsize != 2 or array.dtype.kind not in "fV":
        return array
    if array.dtype.kind == "V":
        bits = np.asarray(array["bfloat16"].astype(np.uint32) << 16)    # 0-d stays an array
        return bits.view(np.float32)
    return array.astype(np.float32)


def from_compute(array, to: DType) -> np.ndarray:
    """Round to `to`, ties to even; for dtypes that compute as themselves this changes nothing."""
    array = np.asarray(array)
    if array.dtype is to.numpy:
        return array
    with np.errstate(**_QUIET):
        return _round_bf16(array) if to is bf16 else array.astype(to.numpy)


def _round_bf16(array: np.ndarray) -> np.ndarray:
    narrow = array.astype(np.float32)
    if array.dtype == np.float64:
        narrow = _round_to_odd(array, narrow)
    bits = narrow.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    rounded = np.where(np.isnan(narrow), (bits >> 16) | 0x40, rounded)
    result = np.empty(array.shape, bf16.numpy)
    result["bfloat16"] = rounded
    return result


def _round_to_odd(wide: np.ndarray, narrow: np.ndarray) -> np.ndarray:
    """f64 to f32 so that rounding once more, to bf16, is as good as rounding once.

    An inexact result is moved toward zero and its last bit set: it then never looks like a tie.
    """
    back = narrow.astype(np.float64)
    away = np.isfinite(wide) & (np.abs(back) > np.abs(wide))
    toward = np.where(away, np.nextafter(narrow, np.float32(0)), narrow)
    inexact = np.isfinite(wide) & (toward.astype(np.float64) != wide)
    return (toward.view(np.uint32) | inexact).view(np.float32)


def cast(array, to: DType) -> np.ndarray:
    """The array in another dtype.

    To bool: is it nonzero. Integer to integer wraps. Float to integer truncates, saturates, and
    takes NaN to 0. To float rounds, ties to even.
    """
    array = to_compute(array)
    if to.kind == "b":
        return np.asarray(array != 0)
    if to.is_float:
        return from_compute(array, to)
    if array.dtype.kind == "f":
        return _saturate(array, to)
    return array.astype(to.numpy)


def _saturate(array: np.ndarray, to: DType) -> np.ndarray:
    limits = np.iinfo(to.numpy)
    low, high = float(limits.min), float(limits.max)      # `high` may round up to a power of two
    inside = (array >= low) & (array < high)
    if inside.all():
        return array.astype(to.numpy)
    result = np.where(inside, array, 0).astype(to.numpy)
    result = np.where(array >= high, limits.max, result)
    result = np.where(array <= low, limits.min, result)
    return result.astype(to.numpy)


def full(shape, value, of: DType) -> np.ndarray:
    """An array with `value` in every place, bf16 too. Read-only: one element is stored."""
    if of is boolean or of.is_int:
        one = np.asarray(value).astype(of.numpy)
    else:
        one = from_compute(np.float64(value), of)
    return np.broadcast_to(one, shape)


def rounded(function):
    """An eval that widens the operands, computes, and rounds to the first operand's dtype."""

    @functools.wraps(function)
    def evaluate(*arrays, **attrs):
        with np.errstate(**_QUIET):
            result = function(*map(to_compute, arrays), **attrs)
        return from_compute(result, dtype_of(arrays[0]))

    return evaluate


def asked(function):
    """An eval for questions (comparisons): operands widened, the answer bool."""

    @functools.wraps(function)
    def evaluate(*arrays, **attrs):
        with np.errstate(**_QUIET):
            return np.asarray(function(*map(to_compute, arrays), **attrs), np.bool_)

    return evaluate


def total(array, axes, function=np.sum) -> np.ndarray:
    """Sum or product over axes: floats accumulate in f64 and round once, integers wrap."""
    wide = np.float64 if array.dtype.kind == "f" else array.dtype
    return np.asarray(function(array, axis=tuple(axes), dtype=wide))


# -- special functions -------------------------------------------------------------------------

def _each(function):
    """A NumPy function from one of Python's floats."""

    def over(array):
        values = np.fromiter(map(function, array.reshape(-1).tolist()), np.float64, array.size)
        return values.reshape(array.shape).astype(array.dtype)

    return over


def _lgamma(x: float) -> float:
    return math.inf if x <= 0 and x % 1 == 0 else math.lgamma(x)


def _erfinv(x: float) -> float:
    """Halley's method on erfc, from S. Winitzki's approximation (2008)."""
    t = abs(x)
    if not t < 1:
        return math.copysign(math.inf, x) if t == 1 else math.nan
    log = math.log1p(-t * t)
    middle = 2 / (math.pi * 0.147) + log / 2
    y = math.sqrt(max(math.sqrt(middle * middle - log / 0.147) - middle, 0.0))
    for _ in range(4):
        off = math.erf(y) - t if t < 0.5 else (1 - t) - math.erfc(y)
        step = off * math.exp(y * y) * math.sqrt(math.pi) / 2
        y -= step / (1 + y * step)
    return math.copysign(y, x)


erf, erfc, erfinv, lgamma = _each(math.erf), _each(math.erfc), _each(_erfinv), _each(_lgamma)

# Bernoulli numbers B_2, B_4, ... of the asymptotic series of the gamma function's relatives.
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)


def digamma(x) -> np.ndarray:
    """The derivative of lgamma: recurrence up to 10, asymptotic series, reflection below 0.

    Source: Abramowitz and Stegun 6.3.5, 6.3.7, 6.3.18.
    """
    z = x.astype(np.float64)
    with np.errstate(**_QUIET):
        below = z <= 0
        fraction = z - np.round(z)       # exact, and near a pole small: tan loses no digits
        reflected = -math.pi / np.tan(math.pi * fraction)
        reflected = np.where(fraction == 0, np.nan, reflected)
        z = np.where(below, 1 - z, z)
        result = np.zeros_like(z)
        for _ in range(10):
            small = z < 10
            result = result - np.where(small, 1 / z, 0)
            z = np.where(small, z + 1, z)
        series = sum(b / (2 * k * z ** (2 * k)) for k, b in enumerate(BERNOULLI, 1))
        result = result + np.log(z) - 0.5 / z - series
        result = np.where(below, result + reflected, result)
        result = np.where(x == 0, np.copysign(np.inf, -x.astype(np.float64)), result)
    return result.astype(x.dtype)


def cotangent_derivative(n: int) -> list[float]:
    """The polynomial p, lowest coefficient first, with d^n/dx^n cot(x) = p(cot(x)).

    The derivative of p(cot) is -(1 + cot^2) p'(cot).
    """
    p = [0.0, 1.0]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(p)][1:]
        p = [-(a + b) for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    return p


def polygamma(x, n: int) -> np.ndarray:
    """The n-th derivative of digamma: recurrence to 10 + n, asymptotic series, reflection below 0.

    NaN at the poles 0, -1, ... Source: Abramowitz and Stegun 6.4.6, 6.4.7, 6.4.11.
    """
    z = x.astype(np.float64)
    limit = 10 + n
    with np.errstate(**_QUIET):
        below, fraction = z <= 0, z - np.round(z)
        cotangent = np.where(fraction == 0, np.nan, 1 / np.tan(math.pi * fraction))
        reflected = math.pi ** (n + 1) * np.polyval(cotangent_derivative(n)[::-1], cotangent)
        z = np.where(below, 1 - z, z)
        result = np.zeros_like(z)
        for _ in range(limit):
            small = z < limit
            result = result + np.where(small, math.factorial(n) / z ** (n + 1), 0)
            z = np.where(small, z + 1, z)
        result = result + math.factorial(n - 1) / z**n + math.factorial(n) / (2 * z ** (n + 1))
        for k, b in enumerate(BERNOULLI, 1):
            weight = b * math.factorial(2 * k + n - 1) / math.factorial(2 * k)
            result = result + weight / z ** (2 * k + n)
        result = np.where(below, -result - reflected, result * (-1) ** (n + 1))
    return result.astype(x.dtype)


def integer_power(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x ** y for integers, wrapping; a negative power truncates 1 / x**-y: 0 but for 1 and -1."""
    y_up = np.where(y < 0, 0, y).astype(y.dtype)
    result = np.power(x, y_up)
    if y.dtype.kind == "u":
        return result
    odd = np.where(y & 1, x, np.ones_like(x))
    unit = (x == 1) | (x == x.dtype.type(0) - 1 if x.dtype.kind == "i" else False)
    return np.where(y < 0, np.where(unit, odd, 0), result).astype(x.dtype)
