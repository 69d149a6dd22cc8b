"""Numbers in a host function: division by a constant is division."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cellc
from cellc.kernels import register_ops

DIVISORS = [3.0, 5.0, -7.0, 40.0, 6.0, 10.0, 100.0, 1.5, 0.75, -0.375, 1e6, 255.0, float(2**50 - 1),
            3 * 2.0**80, 3 * 2.0**-80, 3 * 2.0**110, 0.1, 1 / 3, 8.0, 0.0, float("inf")]
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 2.0**-1022, 2.0**-1021,
                    2.0**-700, 2.0**-701, 2.0**700, 2.0**701, 1.7976931348623157e308])


def by_constant(y):
    """Each element of a vector, divided in the host function."""
    @cellc.jit
    def divide(x):
        out = cellc.ops.zeros_like(x)
        for i in range(x.shape[0]):
            out[i] = float(x[i]) / y
        return out

    return divide


def divided(y, x):
    with np.errstate(all="ignore"):
        return x / y


def near_middles(y, rng, n=20_000):
    """x whose quotients are as near as can be to the middle between two doubles."""
    middles = rng.integers(1 << 53, 1 << 54, n) | 1
    exact = [int(m) * abs(int(y)) for m in middles]
    return np.array([np.ldexp(float(v), -60) for v in exact])


@pytest.mark.parametrize("y", DIVISORS)
def test_by_a_constant(y):
    rng = np.random.default_rng(0)
    x = np.ldexp(rng.uniform(-2, 2, 20_000), rng.integers(-1074, 1023, 20_000))
    x = np.concatenate([SPECIAL, x, rng.integers(-1000, 1000, 5000).astype(float)])
    if y.is_integer() and y:
        x = np.concatenate([x, near_middles(y, rng)])
    divide, x = by_constant(y), cellc.Tensor(x)
    assert ("@llvm.fma.f64(double" in cellc.inspect(divide, x).llvm) == bool(
        register_ops.reciprocal(y))
    found, x = divide(x).asnumpy(), x.asnumpy()
    np.testing.assert_array_equal(found.view(np.int64)[~np.isnan(found)],
                                  divided(y, x).view(np.int64)[~np.isnan(found)])
    np.testing.assert_array_equal(np.isnan(found), np.isnan(divided(y, x)))


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 2**49 - 1), st.integers(-50, 50),
       st.lists(st.floats(2.0**-600, 2.0**600), min_size=20, max_size=20))
def test_the_parts_of_a_reciprocal(half, exponent, xs):
    """What the program does, with fused multiply-add by whole numbers."""
    y = math.ldexp(2 * half + 1, exponent)
    high, low = register_ops.reciprocal(y)
    for x in xs:
        assert float(Fraction(x) * Fraction(high) + Fraction(x * low)) == x / y


def test_which_divisors():
    assert all(register_ops.reciprocal(y) for y in (3.0, -5.0, 0.75, float(2**50 - 1)))
    assert not any(register_ops.reciprocal(y) for y in (
        0.0, -0.0, 1.0, 8.0, 0.25, 0.1, float(2**50 + 1), 3 * 2.0**101, 3 * 2.0**-103,
        float("inf"), float("nan")))


def test_it_is_a_multiplication():
    for y, how in [(3.0, "@llvm.fma.f64(double"), (0.1, "fdiv")]:
        assert how in cellc.inspect(cellc.jit(lambda x: x / y), 1.0).llvm
