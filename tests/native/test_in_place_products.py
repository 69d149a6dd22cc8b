"""Products whose result lies over what is added to them: sums of loops, steps of descent.

Sizes are such that some products have whole tiles and one block of terms, and so may be written
over what they read, and that others have not: rows past the last tile, sums in several blocks or
cut in parts, one row, results of another dtype. All must give what NumPy gives.
"""

import numpy as np
import pytest

import cellc
from cellc import Parameter, Tensor, context, nn, ops

SIZES = [(m, k, n) for m in (1, 5, 32, 97, 128) for k in (1, 8, 60, 700) for n in (1, 16, 33, 512)]


@pytest.fixture(autouse=True)
def graph_mode():
    context.set_context(mode=context.GRAPH_MODE)


def added_up(s, a, b, rounds):
    i = 0
    while i < rounds:
        s = s * 0.5 + ops.matmul(a, b)
        i = i + 1
    return s


@pytest.mark.parametrize("m, k, n", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sum_of_products_in_a_loop(m, k, n, dtype):
    rng = np.random.default_rng(0)
    s, a, b = (rng.standard_normal(size).astype(dtype) for size in ((m, n), (m, k), (k, n)))
    f = cellc.jit(added_up)
    for rounds in (0, 1, 4):
        expected = s.astype(np.float64)
        for _ in range(rounds):
            expected = expected * 0.5 + a.astype(np.float64) @ b
        found = f(Tensor(s), Tensor(a), Tensor(b), rounds).asnumpy()
        assert np.allclose(found, expected, rtol=1e-4, atol=1e-4 if dtype == np.float32 else 1e-10)


def read_across(s, a, rounds):
    i = 0
    while i < rounds:
        s = s.T * 0.5 + ops.matmul(a, a)
        i = i + 1
    return s


@pytest.mark.parametrize("n", [8, 32, 96])
def test_what_is_read_at_another_place_is_not_written_over(n):
    rng = np.random.default_rng(1)
    s, a = rng.standard_normal((n, n)), rng.standard_normal((n, n))
    expected = s
    for _ in range(3):
        expected = expected.T * 0.5 + a @ a
    found = cellc.jit(read_across)(Tensor(s), Tensor(a), 3).asnumpy()
    assert np.allclose(found, expected)


class Descent(nn.Cell):
    """A linear model and a step of its descent, written out."""

    def __init__(self, w):
        super().__init__()
        self.w = Parameter(Tensor(w), name="w")

    def construct(self, x, y):
        left = ops.matmul(x, self.w) - y
        self.w = self.w - 0.01 * ops.matmul(x.T, left)
        return (left * left).sum()


@pytest.mark.parametrize("rows, n, m", [(3, 8, 16), (32, 128, 64), (700, 97, 33), (64, 1, 5)])
def test_a_step_of_descent(rows, n, m):
    rng = np.random.default_rng(2)
    x, y, w = (rng.standard_normal(size) * 0.1 for size in ((rows, n), (rows, m), (n, m)))
    net = Descent(w)
    for _ in range(3):
        left = x @ w - y
        w = w - 0.01 * (x.T @ left)
        assert np.allclose(net(Tensor(x), Tensor(y)).asnumpy(), (left * left).sum())
        assert np.allclose(net.w.asnumpy(), w)
