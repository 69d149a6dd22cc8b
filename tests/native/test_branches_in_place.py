"""Arrays that one way of a branch changes or gives on, and the other makes anew, in loops.

They share a place, and what is read late must still be there.
"""

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, ops


@pytest.fixture(autouse=True)
def graph_mode():
    context.set_context(mode=context.GRAPH_MODE)


def kept_or_new(a, b, n):
    for i in range(n):
        if a[0, 0] + b[0, 0] > 0:
            a = ops.tanh(a + b)
        b = b - 0.7
    return a, b


def kept_or_product(a, b, n):
    for i in range(n):
        if i % 3 == 1:
            a = a * 0.5 + ops.matmul(b, b)
        b = b * 0.9
    return a, b


def read_elsewhere(a, b, n):
    """The new value reads the old one at other places."""
    for i in range(n):
        if i % 2 == 0:
            a = a.T + ops.matmul(a, b)
        else:
            a = a * 1.0
    return a, b


def exchanged(a, b, n):
    for i in range(n):
        if i % 2 == 0:
            a, b = b, a + b
        else:
            a = b * 0.5
    return a, b


def best_so_far(a, b, n):
    best = a
    for i in range(n):
        a = ops.sin(a * 1.3 + b)
        if a.sum() > best.sum():
            best = a
    return best, a


def one_for_two(a, b, n):
    """Both results come from one operand in one way."""
    for i in range(n):
        if i % 2 == 0:
            a, b = a, a
        else:
            a, b = a + 1.0, b * 2.0
    return a, b


def partly(a, b, n):
    a, b = a.copy(), b.copy()
    for i in range(n):
        if i % 3 == 0:
            a[i % 4] = b[0]
        elif i % 3 == 1:
            a = ops.cos(a)
        b[1] = a[2]
    return a, b


def nested(a, b, n):
    for i in range(n):
        if i % 2 == 0:
            if a[1, 1] > 0:
                a = a - b
            else:
                b = b + a * 0.1
        else:
            a = ops.matmul(a, b) * 0.1
    return a, b


@pytest.mark.parametrize("n", [0, 1, 2, 9, 40])
@pytest.mark.parametrize("size", [4, 32])
@pytest.mark.parametrize("f", [kept_or_new, kept_or_product, read_elsewhere, exchanged, best_so_far,
                               one_for_two, partly, nested], ids=lambda f: f.__name__)
def test_as_in_eager_mode(f, size, n):
    rng = np.random.default_rng(size)
    a, b = rng.standard_normal((2, size, size)) * 0.3
    context.set_context(mode=context.PYNATIVE_MODE)
    expected = [x.asnumpy() for x in f(Tensor(a), Tensor(b), n)]
    context.set_context(mode=context.GRAPH_MODE)
    jitted = cellc.jit(f)
    for _ in range(2):
        given = Tensor(a), Tensor(b)
        for x, want in zip(jitted(*given, n), expected, strict=True):
            assert np.allclose(x.asnumpy(), want, rtol=1e-10, atol=1e-12)
