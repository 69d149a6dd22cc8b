"""Values that several sweeps of a row need, kept between them, however the row is walked."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, ops


@pytest.fixture(autouse=True)
def graph_mode():
    context.set_context(mode=context.GRAPH_MODE)


def with_sum(x, y):
    e = ops.exp(-(x * y) * (x * y))
    return e + e.sum()


def with_rows(x, y):
    e = ops.exp(x * y - 1)
    return e / e.sum(axis=(-2, -1), keepdims=True)


def of_two(x, y):
    e, t = ops.exp(-x * y), ops.tanh(x + y)
    return e * t.sum() + t * e.sum()


@pytest.mark.parametrize("function", [with_sum, with_rows, of_two])
@pytest.mark.parametrize("inner", [1, 2, 3, 4, 5, 16])
@pytest.mark.parametrize("rows", [7, 16, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lanes_apart(function, inner, rows, dtype):
    """One operand lies along the rows, the other along a short axis: lanes are `inner` apart."""
    draw = np.random.default_rng(rows)
    for left, right in ((5, rows, 1), (5, 1, inner)), ((5, 1, inner), (5, rows, 1)):
        x, y = draw.standard_normal(left), draw.standard_normal(right)
        found = cellc.jit(function)(Tensor(x.astype(dtype)), Tensor(y.astype(dtype))).asnumpy()
        context.set_context(mode=context.PYNATIVE_MODE)
        exact = function(Tensor(x), Tensor(y)).asnumpy()
        context.set_context(mode=context.GRAPH_MODE)
        bits = 1e-4 if dtype is np.float32 else 1e-12
        np.testing.assert_allclose(found, exact, rtol=bits, atol=bits * abs(exact).max())
