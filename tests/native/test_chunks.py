"""Reductions to few rows, and of columns, whose sweeps are cut into chunks; against f64."""

import gc
import itertools

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, ops


@pytest.fixture(autouse=True)
def graph_mode():
    context.set_context(mode=context.GRAPH_MODE)


@pytest.fixture(autouse=True, scope="module")
def nothing_left_behind():
    """A compiled function and what it runs in refer to one another, and here they are large."""
    yield
    gc.collect()


def sums(x, axes):
    return x.sum(axes), (x * ops.sin(x)).mean(axes)


def extrema(x, axes):
    return x.max(axes), x.min(axes)


def variance(x, axes):
    return x.var(axes)


def normalised(x, axes):
    """Two sweeps, and a third that writes."""
    d = x - x.mean(axes, keepdims=True)
    v = (d * d).mean(axes, keepdims=True)
    return d * ops.rsqrt(v + 1e-5), x.mean(axes), v


def softmax(x, axes):
    e = ops.exp(x - x.max(axes, keepdims=True))
    return e / e.sum(axes, keepdims=True)


def softmax_of_softmax(x, axes):
    """Four sweeps, with what a row has at hand after each of them."""
    p = softmax(softmax(x, axes) * x.max(axes, keepdims=True), axes)
    return p, (p * p).sum(axes), x.min(axes)


def places(x, axes):
    """Not cut: where the largest is."""
    return x.argmax(axes), x.max(axes)


def moments(x, axes):
    """What is made of reductions and not of elements is read by all later sweeps."""
    d = x - x.mean(axes, keepdims=True)
    z = d / ops.sqrt((d * d).mean(axes, keepdims=True) + 0.1)
    skew = (z * z * z).mean(axes, keepdims=True)
    return ops.tanh(z - ops.exp(skew)), (z * skew).std(axes), skew


FUNCTIONS = (sums, extrema, variance, normalised, softmax, softmax_of_softmax, moments)
SHAPES = (((2048, 300), 0), ((3001, 160), 0), ((20_011, 7), 0), ((20_000, 64), 0),
          ((3, 100_000), 1), ((1, 200_003), 1), ((300_009,), 0), ((9, 70, 700), (0, 1)),
          ((4, 5000, 33), 1), ((40, 3, 50, 60), (0, 2, 3)), ((3, 50_000, 2), 1))


def listed(found):
    return [x.asnumpy() for x in (found if isinstance(found, tuple) else (found,))]


def compiled(function, x, axes):
    return listed(cellc.jit(lambda x: function(x, axes))(Tensor(x)))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("shape, axes", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_against_f64(function, shape, axes, dtype):
    x = np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)
    found = compiled(function, x, axes)
    context.set_context(mode=context.PYNATIVE_MODE)
    exact = listed(function(Tensor(x.astype(np.float64)), axes))
    bits = {np.float32: 1e-5, np.float64: 1e-12, np.float16: 1e-2}[dtype]
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=bits, atol=bits * max(1, abs(b).max()))


@pytest.mark.parametrize("shape, axis", [((2048, 300), 0), ((3, 100_000), 1), ((20_000, 64), 0)])
def test_places(shape, axis):
    x = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    where, value = compiled(places, x, axis)
    assert (where == x.argmax(axis)).all() and (value == x.max(axis)).all()


@pytest.mark.parametrize("function", [extrema, softmax, normalised])
def test_nans_stay_in_their_columns(function):
    x = np.random.default_rng(6).standard_normal((5000, 200)).astype(np.float32)
    clean = compiled(function, x, 0)
    x[4321, 17] = np.nan
    for a, b in zip(clean, compiled(function, x, 0), strict=True):
        same = (a == b).reshape(-1, 200).all(0)
        assert not same[17] and same.sum() == 199


@pytest.mark.parametrize("function", FUNCTIONS)
def test_any_number_of_threads_gives_the_same_bits(function):
    for (shape, axes), threads in itertools.product(SHAPES[:10:2], (1, 2, 5)):
        x = np.random.default_rng(7).standard_normal(shape).astype(np.float32)
        context.set_context(max_device_threads=threads)
        found = compiled(function, x, axes)
        if threads == 1:
            first = found
        assert all((a == b).all() for a, b in zip(first, found, strict=True)), (shape, threads)


def test_gradients():
    """Of long rows and columns, with central differences in f64."""
    x = np.random.default_rng(8).standard_normal((3000, 70))
    for axis in (0, 1):
        def loss(x, axis=axis):
            return (softmax(x, axis) * ops.sin(x)).sum()

        found = cellc.grad(loss)(Tensor(x)).asnumpy()
        for i, j in ((0, 0), (2999, 69), (1234, 5)):
            low, high = x.copy(), x.copy()
            low[i, j] -= 1e-4
            high[i, j] += 1e-4
            slope = (float(loss(Tensor(high))) - float(loss(Tensor(low)))) / 2e-4
            assert abs(found[i, j] - slope) < 1e-6
