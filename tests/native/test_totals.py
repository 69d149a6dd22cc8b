"""Sums of columns in kernels that walk rows, against f64."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cellc
from cellc import Tensor, inspect, ops


def scale_and_shift(x, g):
    """What a layer does with rows, and the gradients of its vectors."""
    y = x - x.mean(1, keepdims=True)
    z = ops.tanh(y * g)
    return z, (z * y).sum(0), z.sum(0)


def elementwise(x, g):
    y = ops.exp(-x * x) * g
    return y, y.sum(0)


def of_two_axes(x, g):
    y = x * g
    return ops.tanh(y), (y * y).sum((0, 1))


def with_rows(x, g):
    y = ops.exp(x - x.max(1, keepdims=True))
    p = y / y.sum(1, keepdims=True)
    return p, (p * g).sum(0), (p * p).sum(1)


def columns_first(x, g):
    """Columns are summed for what is stored, and of what is stored: no walk along rows."""
    d = x - x.mean(0)
    y = ops.relu(d / ops.sqrt((d * d).mean(0) + 1e-3) * g)
    return y, y.sum(0), (y * d).sum(0)


def of_both_sides(x, g):
    """The first result shares nothing with what is summed up, but through the last ones."""
    y = ops.tanh(x - g)
    top = y.max(1)
    p = ops.exp(y - top.reshape(-1, 1)) * g
    return top * top, p.sum(0), (p * y).sum(0), p.sum(1)


SHAPES = ((4096, 768), (1000, 300), (257, 1025), (70_001, 17), (128, 4000), (300_001, 3))


def exactly(fn, x, g):
    """The function on f64, by the tape."""
    cellc.context.set_context(mode=cellc.context.PYNATIVE_MODE)
    try:
        return fn(Tensor(x.astype(np.float64)), Tensor(g.astype(np.float64)))
    finally:
        cellc.context.set_context(mode=cellc.context.GRAPH_MODE)


@pytest.mark.parametrize("fn", [scale_and_shift, elementwise, with_rows, columns_first,
                                of_both_sides])
@pytest.mark.parametrize("shape, dtype", [
    *itertools.product(SHAPES, (np.float32, np.float64)), ((4096, 768), np.float16)])
def test_against_f64(fn, shape, dtype):
    draw = np.random.default_rng(3)
    x = draw.standard_normal(shape).astype(dtype)
    g = draw.standard_normal(shape[1]).astype(dtype)
    bits = {np.float32: 2e-6, np.float64: 1e-13, np.float16: 4e-3}[dtype]
    for found, exact in zip(cellc.jit(fn)(Tensor(x), Tensor(g)), exactly(fn, x, g), strict=True):
        exact = exact.asnumpy()
        if exact.shape == g.shape:          # of many terms: relative to what was added up
            np.testing.assert_allclose(found.asnumpy(), exact, bits * 10, bits * shape[0])
        else:
            np.testing.assert_allclose(found.asnumpy(), exact, bits * 100, bits * 10)


def test_of_two_axes():
    draw = np.random.default_rng(4)
    x, g = draw.standard_normal((30, 50, 200)), draw.standard_normal(200)
    for found, exact in zip(cellc.jit(of_two_axes)(Tensor(x), Tensor(g)), (
            np.tanh(x * g), ((x * g) ** 2).sum((0, 1))), strict=True):
        np.testing.assert_allclose(found.asnumpy(), exact, 1e-12, 1e-12)


@pytest.mark.parametrize("fn", [scale_and_shift, elementwise, with_rows, of_both_sides])
def test_one_kernel_does_it(fn):
    x, g = Tensor(np.ones((4096, 768), np.float32)), Tensor(np.ones(768, np.float32))
    groups = str(inspect(fn, x, g).graph).count("fused(")
    assert groups == 1, inspect(fn, x, g).graph


PROGRAM = """
import hashlib
import numpy as np
import cellc
from cellc import Tensor
from tests.native.test_totals import scale_and_shift
x = np.random.default_rng(1).standard_normal((5000, 200)).astype(np.float32)
for found in cellc.jit(scale_and_shift)(Tensor(x), Tensor(np.ones(200, np.float32))):
    print(hashlib.sha256(found.asnumpy()).hexdigest())
"""


def test_it_is_the_same_with_any_number_of_threads():
    found = [subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | {"CELLC_THREADS": threads},
        cwd=Path(__file__).parents[2], check=True, capture_output=True).stdout
        for threads in ("1", "2")]
    assert len(found[0].split()) == 3 and found[0] == found[1]


def test_nothing_else_is_stored():
    def totals_only(x, g):
        p = ops.softmax(x) * g
        return p.sum(0), (p * p).sum(0)

    x = np.random.default_rng(2).standard_normal((2000, 300))
    g = np.ones(300)
    found = cellc.jit(totals_only)(Tensor(x), Tensor(g))
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    np.testing.assert_allclose(found[0].asnumpy(), p.sum(0), 1e-12)
    np.testing.assert_allclose(found[1].asnumpy(), (p * p).sum(0), 1e-12)
    assert str(inspect(totals_only, Tensor(x), Tensor(g)).graph).count("fused(") == 1
