"""delay: which sums of products are made for several rounds at once, and the same numbers."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, ops
from cellc.ir.check import check
from cellc.ir.interpret import interpret
from cellc.ir.types import TensorType


@pytest.fixture(autouse=True)
def graph_mode():
    context.set_context(mode=context.GRAPH_MODE)


def recurrent(x, w, u, rounds):
    """A recurrent layer over the rows of x, as many of them as there are rounds."""
    h = x[0] * 0.0
    for t in range(rounds):
        h = ops.tanh(ops.matmul(x[t], w) + ops.matmul(h, u))
    return (h * h).sum()


def while_small(x, w, u, bound):
    """The number of rounds depends on the data; w is used twice in each."""
    h = ops.matmul(x[0], w)
    t = 0
    while ops.abs(h).sum() < bound and t < 100:
        h = h + 0.1 * ops.tanh(ops.matmul(ops.matmul(x[1], w), w)) + ops.matmul(x[2] * 0.01, u)
        t = t + 1
    return (h * h).sum()


def values(batch, n, rows, dtype=np.float64):
    rng = np.random.default_rng(0)
    return [(rng.standard_normal(shape) * 0.08).astype(dtype)
            for shape in ((rows, batch, n), (n, n), (n, n))]


def kept(graph):
    """The arrays in which loops keep what several rounds multiply."""
    return [x.type for g in graph.reachable() for node in g.body if node.prim.name == "while"
            for x in node.attrs["body"].inputs
            if x.name == "kept" and isinstance(x.type, TensorType)]


def gradient(f, wrt=(0, 1, 2)):
    return cellc.grad(f, wrt)


def agree(f, args, atol=1e-9):
    """The pass changes no numbers, compiled or interpreted; compiled is as eager."""
    tensors = [Tensor(x) if isinstance(x, np.ndarray) else x for x in args]
    found = cellc.inspect(gradient(f), *tensors).stages
    before, after = found["hoist"], found["delay"]
    check(after)
    given = [np.int64(x) if isinstance(x, int) else x for x in args]
    context.set_context(mode=context.PYNATIVE_MODE)
    expected = [x.asnumpy() for x in gradient(f)(*tensors)]
    context.set_context(mode=context.GRAPH_MODE)
    compiled = [x.asnumpy() for x in gradient(f)(*tensors)]
    for result in (interpret(before, *given), interpret(after, *given), compiled):
        for value, want in zip(result, expected, strict=True):
            assert np.allclose(value, want, rtol=1e-8, atol=atol)
    return after


@pytest.mark.parametrize("rounds", [1, 2, 63, 64, 65, 130])
def test_any_number_of_rounds(rounds):
    """64 rounds of one sequence are kept: less, as many, one more, twice as many and some."""
    after = agree(recurrent, [*values(1, 64, 130), rounds])
    if rounds > 8:          # else the loop is unrolled
        assert all(t.shape[0] == 64 for t in kept(after)) and kept(after)


@pytest.mark.parametrize("batch, n, length", [(2, 64, 64), (5, 64, 52), (16, 64, 16),
                                              (17, 64, None), (2, 32, None), (32, 363, 8)])
def test_which_are_worth_it(batch, n, length):
    """Few terms and a large sum; more terms where no cache holds it."""
    after = agree(recurrent, [*values(batch, n, 20), 20], 1e-8)
    assert {t.shape[0] for t in kept(after)} == ({length} if length else set())


@pytest.mark.parametrize("bound", [0.0, 3.0, 9.0])
def test_rounds_that_depend_on_data_and_two_products_in_one_sum(bound):
    after = agree(while_small, [*values(3, 64, 3), bound])
    assert kept(after)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-5), (np.float16, 2e-2)])
def test_other_dtypes(dtype, tolerance):
    args = values(4, 64, 70, dtype)
    wide = cellc.grad(recurrent, (1, 2))(*(Tensor(x.astype(np.float64)) for x in args), 70)
    found = cellc.grad(recurrent, (1, 2))(*map(Tensor, args), 70)
    for value, want in zip(found, wide, strict=True):
        scale = np.abs(want.asnumpy()).max()
        assert np.abs(value.asnumpy() - want.asnumpy()).max() <= tolerance * scale


def watched(x, rounds):
    """The sum is looked at in each round: nothing can wait."""
    s = ops.zeros((64, 64), cellc.float64)
    seen = 0.0
    i = 0
    while i < rounds:
        s = s + ops.matmul(x[i].T, x[i])
        seen = seen + s[0, 0]
        i = i + 1
    return s, seen


def test_a_sum_that_is_looked_at_does_not_wait():
    x, = values(2, 64, 70)[:1]
    graph = cellc.inspect(cellc.jit(watched), Tensor(x), 70).stages["delay"]
    assert not kept(graph)
    s, seen = cellc.jit(watched)(Tensor(x), 70)
    parts = np.cumsum(np.einsum("tki,tkj->tij", x, x), 0)
    assert np.allclose(s.asnumpy(), parts[-1])
    assert np.allclose(float(seen), parts[:, 0, 0].sum())


def test_not_a_number_in_an_early_round_stays_where_it_is():
    """What is kept of earlier rounds does not get into the products of the last ones."""
    x, w, u = values(1, 64, 70)
    x[0, 0, 3] = np.inf
    found, _ = cellc.grad(of_all_rounds, (1, 2))(Tensor(x), Tensor(w), Tensor(u))
    context.set_context(mode=context.PYNATIVE_MODE)
    expected, _ = cellc.grad(of_all_rounds, (1, 2))(Tensor(x), Tensor(w), Tensor(u))
    assert np.array_equal(np.isnan(found.asnumpy()), np.isnan(expected.asnumpy()))


def of_all_rounds(x, w, u):
    total = 0.0
    for t in range(70):
        total = total + ops.tanh(ops.matmul(x[t], w) + x[t] * u[0]).sum()
    return total
