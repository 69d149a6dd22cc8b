"""Loops whose gradient keeps the logarithm of their states give the gradients that others give."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, ops
from cellc.passes import grad_halves


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    """So few that small loops are halved."""
    context.set_context(mode=context.GRAPH_MODE)
    monkeypatch.setattr(grad_halves, "TAPE_BYTES", 64)
    monkeypatch.setattr(grad_halves, "FEWEST", 3)


def numbers(x, w, n):
    i = 0
    while i < n:
        x = x * 0.99 + 0.1 * ops.sin(x * w)
        i += 1
    return x


def tensors(x, w, n):
    h = x * 0.5
    for _ in range(n):
        h, x = ops.tanh(ops.matmul(w, h) + x), x * 0.9
        if h.sum() > 2.0:
            break
    return h.sum()


SMALL = Tensor(np.random.default_rng(0).standard_normal(4))
WEIGHT = Tensor(np.random.default_rng(1).standard_normal((4, 4)) * 0.7)


@pytest.mark.parametrize("f, x, w", [(numbers, 0.7, 1.3), (tensors, SMALL, WEIGHT)])
@pytest.mark.parametrize("n", [0, 1, 3, 4, 50, 129])
def test_gradients_are_the_same(f, x, w, n):
    def halved(x, w, n):
        return cellc.recompute(f, checkpoint="log")(x, w, n)

    expected, found = cellc.grad(f, (0, 1))(x, w, n), cellc.grad(halved, (0, 1))(x, w, n)
    for a, b in zip(expected, found):
        np.testing.assert_allclose(np.asarray(b), np.asarray(a), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n", [2, 40])
def test_second_order(n):
    def halved(x, w, n):
        return cellc.recompute(numbers, checkpoint="log")(x, w, n)

    expected = cellc.grad(cellc.grad(numbers))(0.7, 1.3, n)
    np.testing.assert_allclose(cellc.grad(cellc.grad(halved))(0.7, 1.3, n), expected, rtol=1e-10)


def test_another_word_is_refused():
    with pytest.raises(cellc.errors.ValueFault, match="checkpoint"):
        cellc.recompute(numbers, checkpoint="sqrt")
