"""Two products and what stands between them as one kernel, against f64 and the interpreter."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, inspect, ops
from cellc.ir.interpret import interpret
from tests.kernel_runner import Compiled


@pytest.fixture(autouse=True)
def graph_mode():
    context.set_context(mode=context.GRAPH_MODE)


def attention(q, k, v):
    return ops.matmul(ops.softmax(ops.matmul(q, ops.swapaxes(k, -1, -2)) * 0.125, -1), v)


def with_mask(q, k, v, mask):
    scores = ops.matmul(q, ops.swapaxes(k, -1, -2)) * 0.125 + mask
    return ops.matmul(ops.softmax(scores, -1), v)


def causal(q, k, v):
    scores = ops.matmul(q, ops.swapaxes(k, -1, -2)) * 0.125
    n, m = scores.shape[-2:]
    seen = ops.arange(n).reshape(n, 1) >= ops.arange(m)
    return ops.matmul(ops.softmax(ops.where(seen, scores, -1e9), -1), v)


def with_bias(q, k, v, bias):
    return ops.tanh(attention(q, k, v) + bias)


def dropped_out(q, k, v, kept):
    """What stands between reads another array of the scores' shape."""
    p = ops.softmax(ops.matmul(q, ops.swapaxes(k, -1, -2)) * 0.125, -1)
    return ops.matmul(p * kept, v)


def normalised(q, k, v):
    """Rows of scores over their length: no softmax."""
    scores = ops.matmul(q, ops.swapaxes(k, -1, -2))
    return ops.matmul(scores * ops.rsqrt((scores * scores).sum(-1, keepdims=True) + 1), v)


def heads_inside(q, k, v):
    """As models hold them: [batch, steps, heads, width], the result too."""
    q, k, v = (ops.swapaxes(x, 1, 2) for x in (q, k, v))
    return ops.swapaxes(attention(q, k, v), 1, 2)


def one_key_for_all(q, k, v):
    """Queries of many heads, keys and values of one."""
    shape = (*q.shape[:2], *k.shape[2:])
    return attention(q, ops.broadcast_to(k, shape), ops.broadcast_to(v, shape))


# function, shapes of its arguments
CASES = [
    (attention, ((2, 3, 64, 16), (2, 3, 70, 16), (2, 3, 70, 24))),
    (attention, ((1, 2, 333, 40), (1, 2, 129, 40), (1, 2, 129, 40))),
    (attention, ((200, 64), (300, 64), (300, 1))),
    (attention, ((5, 100, 8), (5, 200, 8), (5, 200, 100))),
    (attention, ((1, 1, 40, 500), (1, 1, 4000, 500), (1, 1, 4000, 3))),
    (attention, ((37, 37, 32), (37, 37, 32), (37, 37, 32))),
    (with_mask, ((2, 3, 64, 16), (2, 3, 70, 16), (2, 3, 70, 24), (64, 70))),
    (with_mask, ((2, 3, 65, 16), (2, 3, 70, 16), (2, 3, 70, 24), (2, 1, 1, 70))),
    (with_mask, ((2, 3, 65, 16), (2, 3, 70, 16), (2, 3, 70, 24), (2, 3, 65, 70))),
    (dropped_out, ((2, 3, 65, 16), (2, 3, 70, 16), (2, 3, 70, 24), (2, 3, 65, 70))),
    (dropped_out, ((2, 3, 65, 16), (2, 3, 70, 16), (2, 3, 70, 24), (65, 70))),
    (causal, ((2, 3, 150, 16), (2, 3, 150, 16), (2, 3, 150, 16))),
    (with_bias, ((2, 3, 65, 16), (2, 3, 70, 16), (2, 3, 70, 24), (24,))),
    (with_bias, ((2, 3, 65, 16), (2, 3, 70, 16), (2, 3, 70, 24), (2, 3, 65, 24))),
    (normalised, ((3, 130, 20), (3, 90, 20), (3, 90, 30))),
    (heads_inside, ((2, 65, 3, 16), (2, 130, 3, 16), (2, 130, 3, 16))),
    (one_key_for_all, ((2, 4, 65, 16), (2, 1, 130, 16), (2, 1, 130, 16))),
]
BITS = {"float32": 2e-6, "float64": 1e-13, "float16": 2e-3}


def arguments(shapes, dtype):
    draw = np.random.default_rng(5)
    return [draw.standard_normal(s).astype(dtype) for s in shapes]


def chain_of(function, arrays):
    made = inspect(function, *map(Tensor, arrays))
    chains = [node for node in made.graph.body if node.prim.name == "fused"
              and node.attrs["graph"].name == "chain"]
    return chains[0] if chains else None


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("function, shapes", CASES)
def test_against_f64(function, shapes, dtype):
    arrays = arguments(shapes, dtype)
    assert chain_of(function, arrays) is not None
    found = cellc.jit(function)(*map(Tensor, arrays)).asnumpy()
    assert found.dtype == dtype
    context.set_context(mode=context.PYNATIVE_MODE)
    exact = function(*(Tensor(x.astype(np.float64)) for x in arrays)).asnumpy()
    np.testing.assert_allclose(found, exact, rtol=40 * BITS[dtype], atol=10 * BITS[dtype])


@pytest.mark.parametrize("function, shapes", CASES)
def test_tasks_share_the_blocks(function, shapes):
    """Any number of tasks, in any order, give the same bits, and what the interpreter gives."""
    arrays = arguments(shapes, "float32")
    node = chain_of(function, arrays)
    compiled, graph = Compiled(node), node.attrs["graph"]
    arrays = arguments([x.shape for x in graph.inputs], "float32")
    arrays = [x.astype(np.int64) if y.dtype.is_int else x
              for x, y in zip(arrays, graph.inputs, strict=True)]
    found = [compiled(*arrays, n_tasks=n) for n in (1, 2, 3, 8)]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
    np.testing.assert_allclose(found[0], interpret(graph, *arrays), rtol=1e-4, atol=2e-5)


def test_nan_stays_in_its_row():
    q, k, v = arguments([(2, 100, 16), (2, 120, 16), (2, 120, 16)], "float32")
    q[1, 40, 3] = np.nan
    found = cellc.jit(attention)(Tensor(q), Tensor(k), Tensor(v)).asnumpy()
    assert np.isnan(found[1, 40]).all() and np.isnan(found).sum() == 16


def gives_its_scores(q, k, v):
    p = ops.softmax(ops.matmul(q, ops.swapaxes(k, -1, -2)), -1)
    return ops.matmul(p, v), p


def sums_its_columns(q, k, v):
    """A row of scores does not say what is to be done with it."""
    scores = ops.matmul(q, ops.swapaxes(k, -1, -2))
    return ops.matmul(scores / (1 + (scores * scores).sum(-2, keepdims=True)), v)


def wide(q, k, v):
    """Each block would pack both again, for scores that are few beside them."""
    tall = ops.concat([q] * 40, -1)
    return attention(tall, tall, v)


def small(q, k, v):
    return attention(q[:, :8], k[:, :8], v[:, :8])


@pytest.mark.parametrize("function", [gives_its_scores, sums_its_columns, small, wide])
def test_what_is_no_chain(function):
    arrays = arguments([(3, 100, 16)] * 3, "float32")
    assert chain_of(function, arrays) is None
    found = cellc.jit(function)(*map(Tensor, arrays))
    context.set_context(mode=context.PYNATIVE_MODE)
    exact = function(*(Tensor(x.astype(np.float64)) for x in arrays))
    for x, y in zip(*((t if isinstance(t, tuple) else (t,)) for t in (found, exact)), strict=True):
        np.testing.assert_allclose(x.asnumpy(), y.asnumpy(), rtol=1e-3, atol=1e-4)


def test_a_gradient_keeps_what_it_needs():
    """The backward pass reads the scores, so they are in memory; the numbers are the same."""
    arrays = arguments([(2, 64, 16)] * 3, "float64")

    def loss(q, k, v):
        return (attention(q, k, v) ** 2).sum()

    found = cellc.grad(loss, (0, 1, 2))(*map(Tensor, arrays))
    step = 1e-5
    for i, g in enumerate(found):
        draw = np.random.default_rng(i).standard_normal(arrays[i].shape)
        moved = [[x + s * step * draw if j == i else x for j, x in enumerate(arrays)]
                 for s in (1, -1)]
        up, down = (float(cellc.jit(loss)(*map(Tensor, m)).asnumpy()) for m in moved)
        np.testing.assert_allclose((g.asnumpy() * draw).sum(), (up - down) / (2 * step), rtol=1e-6)
