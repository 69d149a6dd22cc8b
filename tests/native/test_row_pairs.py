"""Rows that go through several sweeps, two at a time or long ones, against f64."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, inspect, ops
from cellc.kernels.group import describe
from cellc.kernels.target import host


@pytest.fixture(autouse=True)
def graph_mode():
    context.set_context(mode=context.GRAPH_MODE)


def softmax(x, g):
    e = ops.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def network(x, g):
    """What a row keeps, what it reads once more, and columns that all rows share."""
    p = softmax(x, g)
    d = p - p.mean(-1, keepdims=True)
    y = d * ops.rsqrt((d * d).mean(-1, keepdims=True) + 1e-5) * g
    return x + ops.gelu(y)


def of_two_axes(x, g):
    e = ops.exp(ops.tanh(x * g) - x.max((-2, -1), keepdims=True))
    return e / e.sum((-2, -1), keepdims=True), e.min((-2, -1))


def rows_as_well(x, g):
    """Numbers of a row beside rows, one of them a place."""
    p = softmax(x, g)
    return ops.sin(p) * (p * p).sum(-1, keepdims=True), p.argmax(-1), x.sum(-1)


def shifted(x, g):
    """Rows read at another place than they are written, and beyond their ends."""
    s = softmax(ops.pad(x, (1, 2)), g)
    return s[..., ::-1] * ops.exp(s)


FUNCTIONS = (softmax, network, of_two_axes, rows_as_well, shifted)
SHAPES = ((2, 40), (7, 64), (4, 1), (16, 5), (64, 33), (6, 1000), (3, 4, 129), (2, 5, 2, 24),
          (400, 256), (2100, 768),
          (3, 20000), (2, 70001))


def listed(found):
    return [x.asnumpy() for x in (found if isinstance(found, tuple) else (found,))]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_against_f64(function, shape, dtype):
    draw = np.random.default_rng(len(shape))
    x = draw.standard_normal(shape).astype(dtype)
    g = draw.standard_normal(shape[-1]).astype(dtype)
    found = listed(cellc.jit(function)(Tensor(x), Tensor(g)))
    context.set_context(mode=context.PYNATIVE_MODE)
    exact = listed(function(Tensor(x.astype(np.float64)), Tensor(g.astype(np.float64))))
    bits = {np.float32: 2e-5, np.float64: 1e-12, np.float16: 2e-2}[dtype]
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=bits, atol=bits * max(1, abs(b).max()))


@pytest.mark.parametrize("function", [f for f in FUNCTIONS if f is not of_two_axes])
def test_infinities_stay_in_their_rows(function):
    x = np.random.default_rng(1).standard_normal((8, 50)).astype(np.float32)
    g = np.ones(50, np.float32)
    clean = listed(cellc.jit(function)(Tensor(x), Tensor(g)))
    x[3, 7], x[4, 0] = np.nan, np.inf
    for a, b in zip(clean, listed(cellc.jit(function)(Tensor(x), Tensor(g))), strict=True):
        keep = [0, 1, 2, 5, 6, 7]
        assert (a[keep] == b[keep]).all() and (a != b).any()


def test_which_rows_go_together():
    """Those of an even number, with much to compute, that fit into the cache two by two."""
    def together(*shape):
        x, g = Tensor(np.ones(shape, np.float32)), Tensor(np.ones(shape[-1], np.float32))
        group, = inspect(softmax, x, g).groups
        return "2 rows together" in describe(group, host())

    assert together(64, 100) and together(2, 5, 8, 100)
    assert not together(63, 100) and not together(64, 100_000)
