"""hoist: what moves ahead of loops, what stays, and that the numbers are the same."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, ops
from cellc.errors import CellcError
from cellc.ir.check import check
from cellc.ir.interpret import interpret

N = 32


@pytest.fixture(autouse=True)
def graph_mode():
    context.set_context(mode=context.GRAPH_MODE)


def arrays(*shapes, dtype=np.float64):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) * 0.3 for shape in shapes]


def stages(f, *args):
    return cellc.inspect(f, *[Tensor(x) if isinstance(x, np.ndarray) else x for x in args]).stages


def in_rounds(graph):
    """The names of what loops do in a round."""
    return [node.prim.name for g in graph.reachable() for loop in g.body
            if loop.prim.name == "while" for node in loop.attrs["body"].body]


def same_numbers(f, *args):
    """Interpreted before and after, compiled, and eager; the eager result."""
    found = stages(f, *args)
    before, after = found["sums"], found["hoist"]
    check(after)
    given = [x if isinstance(x, np.ndarray) else np.int64(x) for x in args]
    tensors = [Tensor(x) if isinstance(x, np.ndarray) else x for x in args]
    context.set_context(mode=context.PYNATIVE_MODE)
    expected = f(*tensors).asnumpy()
    context.set_context(mode=context.GRAPH_MODE)
    compiled = cellc.jit(f)(*tensors).asnumpy()
    for value in (interpret(before, *given), interpret(after, *given), compiled):
        assert np.allclose(value, expected, rtol=1e-9, atol=1e-12)
    return after


def dear(x, w, n):
    i = 0
    while i < n:
        x = ops.tanh(ops.matmul(x, ops.exp(w)) + ops.softmax(w[0]))
        i = i + 1
    return x


def cheap(x, w, n):
    i = 0
    while i < n:
        x = x * 0.5 + (w + w * w)
        i = i + 1
    return x


def from_state(x, w, n):
    i = 0
    while i < n:
        x = ops.sin(x) + ops.cos(x * w)
        i = i + 1
    return x


def outer(x, w, n):
    """The product of two vectors is larger than they are; what is dear in it is not."""
    i = 0
    while i < n:
        x = x * 0.5 + ops.exp(w[0]).reshape((N, 1)) * w[1]
        i = i + 1
    return x


def nested(x, w, n):
    i = 0
    while i < n:
        j = 0
        while j < 3:
            x = x * 0.5 + ops.exp(w)
            j = j + 1
        i = i + 1
    return x


MOVED = [(dear, {"exp", "reduce_max"}), (cheap, {"add"}), (from_state, set()), (outer, {"exp"}),
         (nested, {"exp"})]


@pytest.mark.parametrize("rounds", [0, 1, 5])
@pytest.mark.parametrize("f, moved", MOVED, ids=lambda x: getattr(x, "__name__", None))
def test_what_is_the_same_in_all_rounds_moves(f, moved, rounds):
    x, w = arrays((N, N), (N, N))
    after = same_numbers(f, x, w, rounds)
    before = in_rounds(stages(f, x, w, rounds)["sums"])
    left = in_rounds(after)
    for name in moved:
        assert left.count(name) < before.count(name)
    if not moved:
        assert left == before
    if f is outer:
        assert left.count("mul") == before.count("mul")


def rows_of(x, w, k, n):
    i = 0
    while i < n:
        x = x + ops.gather(w, k, 0).sum(axis=0)
        i = i + 1
    return x


def test_what_may_fail_stays():
    """A loop without rounds does not look at the indices."""
    x, w = map(Tensor, arrays((3,), (4, 3)))
    k = Tensor(np.int64([9, 0, 0]))
    f = cellc.jit(rows_of)
    assert np.array_equal(f(x, w, k, 0).asnumpy(), x.asnumpy())
    with pytest.raises(CellcError, match="range"):
        f(x, w, k, 1)


# -- products that turn an operand -----------------------------------------------------------------

def transposed(x, w, n):
    i = 0
    while i < n:
        x = ops.tanh(ops.matmul(x, w.T))
        i = i + 1
    return x


def batched(x, w, n):
    i = 0
    while i < n:
        x = ops.tanh(ops.matmul(x, w.swapaxes(-1, -2)))
        i = i + 1
    return x


def computed(x, w, n):
    i = 0
    while i < n:
        x = ops.tanh(ops.matmul(x, (w * w).T))
        i = i + 1
    return x


SHAPES = [(transposed, (8, 32), (32, 32), True), (transposed, (5, 40), (40, 40), True),
          (transposed, (16, 64), (64, 64), True), (transposed, (4, 32), (32, 32), False),
          (transposed, (17, 32), (32, 32), False), (transposed, (8, 8), (8, 8), False),
          (batched, (3, 8, 32), (3, 32, 32), True), (computed, (8, 32), (32, 32), True)]


@pytest.mark.parametrize("f, x, w, moved", SHAPES)
def test_a_right_operand_is_turned_once(f, x, w, moved):
    after = same_numbers(f, *arrays(x, w), 3)
    loop, = (node for node in after.body if node.prim.name == "while")
    product, = (node for node in loop.attrs["body"].body if node.prim.name == "dot")
    assert (product.operands[1].name == "same") is moved


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-5), (np.float16, 2e-2)])
def test_other_dtypes(dtype, tolerance):
    x, w = arrays((8, 64), (64, 64), dtype=dtype)
    expected = x.astype(np.float64)
    for _ in range(4):
        expected = np.tanh(expected @ w.astype(np.float64).T)
    found = cellc.jit(transposed)(Tensor(x), Tensor(w), 4).asnumpy()
    assert found.dtype == dtype and np.allclose(found, expected, atol=tolerance)
