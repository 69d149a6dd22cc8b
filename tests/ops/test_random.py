"""Random numbers: their distributions, the seed, and dropout."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, ops
from cellc.errors import TypeFault, ValueFault

N = 20_000


@pytest.fixture(autouse=True)
def seed():
    cellc.set_seed(11)


@pytest.mark.parametrize("make, mean, deviation", [
    (lambda: ops.rand(N), 0.5, 12 ** -0.5),
    (lambda: ops.rand(N, dtype="float64"), 0.5, 12 ** -0.5),
    (lambda: ops.uniform((N,), -1.0, 3.0), 1.0, 4 * 12 ** -0.5),
    (lambda: ops.randn(N), 0.0, 1.0),
    (lambda: ops.normal((N,), 2.0, 3.0), 2.0, 3.0),
    (lambda: ops.cast(ops.randint(-2, 4, (N,)), "float32"), 0.5, (35 / 12) ** 0.5),
    (lambda: ops.bernoulli(ops.zeros(N), 0.3), 0.3, 0.21 ** 0.5),
])
def test_distribution(make, mean, deviation):
    values = make().asnumpy().astype(np.float64)
    assert values.shape == (N,)
    assert abs(values.mean() - mean) < 5 * deviation / N ** 0.5
    assert values.std() == pytest.approx(deviation, rel=0.03)


def test_bounds():
    for kind in ("float16", "bfloat16", "float32", "float64"):
        values = ops.rand(N, dtype=kind).asnumpy().astype(np.float64)
        assert values.min() >= 0 and values.max() < 1, kind
    assert set(ops.randint(-2, 4, (N,)).tolist()) == {-2, -1, 0, 1, 2, 3}
    assert np.isfinite(ops.randn(N).asnumpy()).all()
    assert sorted(ops.randperm(100).tolist()) == list(range(100))


def test_the_seed_starts_over():
    first, second = ops.rand(5).tolist(), ops.rand(5).tolist()
    assert first != second
    cellc.set_seed(11)
    assert ops.rand(5).tolist() == first and ops.rand(5).tolist() == second


def test_dropout():
    x = Tensor(np.ones(N, np.float32))
    y = ops.dropout(x, 0.3).asnumpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.7)}
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.02)
    assert ops.dropout(x, 0.3, training=False) is x and ops.dropout(x, 0.0) is x
    assert ops.dropout(x, 1.0).sum().item() == 0
    cellc.set_seed(1)
    y = ops.dropout(x, 0.3).asnumpy()
    cellc.set_seed(1)
    np.testing.assert_array_equal(cellc.grad(lambda v: ops.dropout(v, 0.3))(x).asnumpy(), y)


@pytest.mark.parametrize("call, fault, message", [
    (lambda: ops.dropout(Tensor([1.0]), 2.0), ValueFault, "found p 2.0"),
    (lambda: ops.rand(3, dtype="int32"), TypeFault, "use randint"),
    (lambda: ops.randint(4, 4, (2,)), ValueFault, "found 4 to 4"),
])
def test_what_is_refused(call, fault, message):
    with pytest.raises(fault, match=message):
        call()
