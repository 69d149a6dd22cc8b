"""Gradients behind `where`: zero where the other branch was taken, whatever the branch would give;
and what that costs in the graph."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cellc
from cellc import Tensor, context, grad, nn, ops
from cellc.ir.check import check
from cellc.ir.graph import Builder
from cellc.ir.interpret import interpret
from cellc.ir.prims import elementwise as e
from cellc.ir.types import TensorType, f32
from cellc.passes.grad import value_and_grad_graph
from cellc.passes.masked import Literal, both, either
from cellc.passes.pipeline import run


def where(f, ok=lambda x: x > 0, other=0.0):
    return lambda x: ops.where(ok(x), f(x), other)


class Root(nn.Cell):
    def construct(self, x):
        return ops.sqrt(x)


class Twice(nn.Cell):
    def __init__(self):
        super().__init__()
        self.root = Root()

    def construct(self, x):
        return self.root(x) * 2.0


twice = Twice()


def below(x):
    return x < 0


def direction(x):
    """x over its norm, 0 where that is 0: the mask goes through a broadcast and two sums."""
    rows = ops.reshape(x, (-1, 2))
    size = ops.sqrt((rows * rows).sum(-1, keepdims=True))
    return ops.where(size > 0, rows / size, 0.0) * Tensor(np.float32([1, 3]))


def both_of_one(x):
    root = ops.sqrt(x)
    return ops.where(x > 0, root, 0.0) * 2.0 + ops.where(x > 0.5, root * root * root, 0.0)


# name -> (function, the same written so that the branch not taken is harmless)
PAIRS = {
    "sqrt": (where(ops.sqrt), where(lambda x: ops.sqrt(ops.where(x > 0, x, 1.0)))),
    "log": (where(ops.log), where(lambda x: ops.log(ops.where(x > 0, x, 1.0)))),
    "division": (where(lambda x: 1.0 / x), where(lambda x: 1.0 / ops.where(x > 0, x, 1.0))),
    "power": (where(lambda x: x ** 0.5), where(lambda x: ops.where(x > 0, x, 1.0) ** 0.5)),
    "powers": (where(lambda x: ops.pow(x, x)),
               where(lambda x: ops.pow(*[ops.where(x > 0, x, 1.0)] * 2))),
    "product": (where(lambda x: x * ops.log(x)),
                where(lambda x: x * ops.log(ops.where(x > 0, x, 1.0)))),
    "rsqrt": (where(ops.rsqrt), where(lambda x: ops.rsqrt(ops.where(x > 0, x, 1.0)))),
    "arccos": (where(lambda x: ops.acos(x + 1.0), below),
               where(lambda x: ops.acos(ops.where(x < 0, x, -0.5) + 1.0), below)),
    "overflow": (where(lambda x: ops.exp(200.0 * x) * x, below),
                 where(lambda x: (lambda s: ops.exp(200.0 * s) * s)(ops.where(x < 0, x, -1.0)),
                       below)),
    "nested": (where(lambda x: ops.where(x > 1.0, ops.sqrt(x - 1.0), ops.log(x))),
               where(lambda x: ops.where(x > 1.0, ops.sqrt(ops.where(x > 1.0, x - 1.0, 1.0)),
                                         ops.log(ops.where(x > 0, x, 1.0))))),
    "chain": (where(lambda x: ops.tanh(ops.sqrt(x) * ops.log(x) + ops.sin(1.0 / x))),
              where(lambda x: (lambda s: ops.tanh(ops.sqrt(s) * ops.log(s) + ops.sin(1.0 / s)))(
                  ops.where(x > 0, x, 1.0)))),
    "shared": (both_of_one, lambda x: both_of_one(ops.where(x > 0, x, 1.0)) *
               ops.where(x > 0, 1.0, 0.0)),
    "other branch": (lambda x: ops.where(x <= 0, x * x, ops.sqrt(x)),
                     lambda x: ops.where(x <= 0, x * x, ops.sqrt(ops.where(x > 0, x, 1.0)))),
    "relu": (lambda x: ops.relu(ops.log(x)),
             lambda x: ops.relu(ops.log(ops.where(x > 0, x, 0.5)))),
    "cell": (where(twice), where(lambda x: 2.0 * ops.sqrt(ops.where(x > 0, x, 1.0)))),
    "views": (lambda x: ops.where(ops.reshape(x, (-1, 1)) > 0, ops.reshape(ops.sqrt(x), (-1, 1)),
                                  0.0), where(lambda x: ops.sqrt(ops.where(x > 0, x, 1.0)))),
}
VALUES = np.array([0.0, -1.0, 0.7, 0.0, 2.5, 0.3, -0.5, 1.7], np.float32)


def derivatives(f, x):
    """The first and the second derivative of the sum of f."""
    def total(v):
        return f(v).sum() if hasattr(f(v), "shape") else f(v)

    def slope(v):
        return grad(total)(v).sum() if hasattr(v, "shape") else grad(total)(v)

    return grad(total)(x), grad(slope)(x)


@pytest.fixture(params=["eager", "graph"])
def mode(request):
    context.set_mode(context.GRAPH_MODE if request.param == "graph" else context.PYNATIVE_MODE)
    yield
    context.set_mode(context.PYNATIVE_MODE)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_as_the_careful_version(mode, name):
    bold, careful = PAIRS[name]
    for found, expected in zip(derivatives(bold, Tensor(VALUES)),
                               derivatives(careful, Tensor(VALUES)), strict=True):
        assert np.isfinite(found.asnumpy()).all()
        np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["sqrt", "log", "power", "product", "nested"])
@pytest.mark.parametrize("x", [0.0, 0.7, -1.0])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers(mode, name, x):
    bold, careful = PAIRS[name]
    np.testing.assert_allclose(derivatives(bold, x), derivatives(careful, x), rtol=1e-9)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_masks_of_rows(mode):
    x = Tensor(np.float32([0, 0, 3, 4, 0, -2]))
    first, second = derivatives(direction, x)
    # of (a + 3 b) / |(a, b)|: (b^2 - 3 a b, 3 a^2 - a b) / |(a, b)|^3
    np.testing.assert_allclose(first.asnumpy(), [0, 0, -20 / 125, 15 / 125, 4 / 8, 0], atol=1e-6)
    assert np.isfinite(second.asnumpy()).all()


def test_nan_in_the_data(mode):
    """A masked loss over targets with gaps."""
    target = Tensor(np.float32([1, np.nan, 3]))

    def loss(x):
        return ops.where(target == target, (x - target) ** 2, 0.0).sum()

    assert grad(loss)(Tensor(np.float32([2, 2, 2]))).asnumpy().tolist() == [2, 0, -2]


@pytest.mark.parametrize("name", ["sqrt", "log", "product", "nested"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_under_vmap(mode, name):
    bold, careful = PAIRS[name]
    for slope in (grad, lambda f: grad(grad(f))):
        np.testing.assert_allclose(cellc.vmap(slope(bold))(Tensor(VALUES)).asnumpy(),
                                   cellc.vmap(slope(careful))(Tensor(VALUES)).asnumpy(), rtol=1e-5)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_result_that_is_not_asked_for_is_not_differentiated(mode):
    """The second derivative of x log x is 1 / x where the function itself is nan."""
    x = Tensor(np.array([-1.5, 0.4]))
    found = grad(lambda v: grad(lambda u: (u * ops.log(u)).sum())(v).sum())(x)
    np.testing.assert_allclose(found.asnumpy(), [-1 / 1.5, 2.5])


# -- what it costs ---------------------------------------------------------------------------------

T = TensorType(f32, (8,))


def applies(function):
    with Builder("f") as b:
        graph = b.finish(function(b.input(T, "x"), b.input(T, "y")))
    graph = run(value_and_grad_graph(graph, (0, 1)))
    check(graph)
    return [n.prim.name for g in graph.reachable() for n in g.body
            if n.prim.name not in ("fused", "tuple", "item")]


ZERO = e.zero


@pytest.mark.parametrize("function, selects", [
    # nothing selected, nothing added
    (lambda x, y: e.sqrt(e.log(x * y)), 0),
    # one select forward, and one at the end of the chain
    (lambda x, y: e.select(e.gt(y, ZERO(y)), e.sqrt(x), ZERO(x)), 2),
    (lambda x, y: e.select(e.gt(y, ZERO(y)), e.tanh(e.log(e.sqrt(x))), ZERO(x)), 2),
    # a relu is masked at once, and products behind it are not masked again
    (lambda x, y: e.select(e.gt(x, ZERO(x)), x, ZERO(x)) * y, 2),
    (lambda x, y: (lambda z: e.select(e.gt(z, ZERO(z)), z, ZERO(z)))(x * y), 2),
    # both branches together cover everything
    (lambda x, y: (lambda z: e.select(e.gt(y, ZERO(y)), e.sin(z), e.cos(z)))(e.exp(x)), 3),
], ids=["none", "one", "chain", "relu", "behind relu", "covered"])
def test_selects(function, selects):
    assert applies(function).count("select") == selects


def test_a_pooling_and_the_relu_ahead_of_it_keep_one_mask():
    """Zeros of the first are not put in place for the second, which moves them and adds its own."""
    def loss(x):
        y = ops.relu(x * 2.0)
        return (ops.max_pool2d(y, 2, 2) ** 2).sum()

    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((2, 3, 6, 8)).astype(np.float32))
    forward, both_ways = ([node.prim.name for g in cellc.inspect(f, x).graph.reachable()
                           for node in g.body].count("select") for f in (loss, grad(loss)))
    assert both_ways == forward + 1
    expected = np.zeros(x.shape)
    for i, j, r, c in np.ndindex(2, 3, 3, 4):
        tile = x.asnumpy()[i, j, 2 * r:2 * r + 2, 2 * c:2 * c + 2]
        if tile.max() > 0:
            at = np.unravel_index(tile.argmax(), (2, 2))
            expected[i, j, 2 * r + at[0], 2 * c + at[1]] = 8 * tile.max()
    np.testing.assert_allclose(cellc.jit(grad(loss))(x).asnumpy(), expected, 1e-6)


def test_masks():
    with Builder("f") as b:
        p, q = (b.input(T.with_dtype(e.boolean), n) for n in "pq")
        yes, no, other = Literal(p, True, False), Literal(p, False, False), Literal(q, True, False)
        assert both(None, yes) is yes and both(yes, yes) is yes
        assert both(both(yes, other), other).key == both(yes, other).key
        assert either(yes, no) is None and either(yes, None) is None and either(yes, yes) is yes
        assert not b.body, "masks are made when they are asked for"
        graph = b.finish(either(both(yes, other), no).node())
    values = [np.array(v, bool).repeat(4)[:8] for v in ([1, 0], [1, 0])]
    values[1] = np.array([1, 0] * 4, bool)
    found = interpret(graph, *values)
    np.testing.assert_array_equal(found, values[0] & values[1] | ~values[0])


def test_integers_and_branches_not_taken_cost_nothing():
    """The gradient's graph holds nothing of what is computed in integers, and the branch that is
    not taken while compiling is not there at all; of one that is known when running, only the side
    taken is computed."""
    def f(x, n):
        for _ in range(3):
            n = n * 2 + 1
        if x.ndim > 1:
            x = ops.exp(x)
        return (x * n.astype(cellc.float32)).sum()

    x, n = Tensor(VALUES), Tensor(np.arange(8, dtype=np.int32))
    names = [a.prim.name for g in cellc.inspect(grad(f), x, n).graph.reachable() for a in g.body]
    assert "exp" not in names and names.count("mul") <= 3
    assert not {"reduce_sum", "dot"} & set(names), "the value is not computed"

    def g(x):
        if x.sum() > 0:
            return (x * ops.sin(x)).sum()
        return ops.exp(x).sum()

    graph = cellc.inspect(grad(g), x).graph
    for inner in graph.reachable():
        found = {a.prim.name for a in inner.body}
        assert not {"exp", "cos"} <= found, "each side in a graph of its own"


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
def test_a_number_in_the_places_of_a_tensor(mode):
    """The mask goes with the cotangent from a tensor to a number; two of them add up."""
    context.set_context(mode=mode)

    def filled(x):
        root = ops.sin(x)
        out = ops.zeros((3,), dtype=cellc.float64)
        for i in range(3):
            out[i] = root * (i + 1.0)
        return out.sum()

    assert grad(filled)(0.5) == pytest.approx(6 * np.cos(0.5), rel=1e-12)
    holds = Tensor(np.array(True))
    assert grad(lambda x: ops.where(holds, x, 0.0) + ops.where(holds, x * x, 1.0))(
        0.5) == pytest.approx(2)

# -- generated -------------------------------------------------------------------------------------

UNARY = {"sqrt": ops.sqrt, "log": ops.log, "rsqrt": ops.rsqrt, "exp": ops.exp, "sin": ops.sin,
         "tanh": ops.tanh, "neg": lambda x: -x, "reciprocal": lambda x: 1.0 / x,
         "cube": lambda x: x ** 3.0, "root": lambda x: x ** 0.5, "relu": ops.relu}
BINARY = {"add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y,
          "div": lambda x, y: x / y, "max": ops.maximum, "min": ops.minimum}
POINTS = [0.0, -1.5, 0.4, 2.5, -0.3, 1.0]
LIMITS = [-1.0, 0.0, 0.7, 2.0]

x_itself = st.just(("x",))
trees = st.recursive(x_itself, lambda inner: st.one_of(
    st.tuples(st.sampled_from(sorted(UNARY)), inner),
    st.tuples(st.sampled_from(sorted(BINARY)), inner, inner),
    st.tuples(st.just("where"), st.sampled_from(LIMITS), inner, st.one_of(inner, st.just(0.5))),
), max_leaves=6)


def evaluate(tree, x, choose):
    """The tree's value; `choose(limit, first, second)` does its `where`, of pieces of work."""
    if isinstance(tree, float):
        return tree
    if tree == ("x",):
        return x
    if tree[0] == "where":
        return choose(tree[1], *((lambda t=t: evaluate(t, x, choose)) for t in tree[2:]))
    return (UNARY | BINARY)[tree[0]](*(evaluate(t, x, choose) for t in tree[1:]))


def taken_alone(tree):
    """The same, of which only the branches taken are computed: Python's own `if`."""
    def f(x):
        return evaluate(tree, x, lambda limit, a, b: a() if x > limit else b()) + 0.0 * x
    return f


def all_selected(tree):
    def f(x):
        return evaluate(tree, x, lambda limit, a, b: ops.where(x > limit, a(), b())) + 0.0 * x
    return f


def slope(f):
    """The derivative of a number's function, or of an elementwise one at every place."""
    return grad(lambda x: f(x).sum() if hasattr(x, "shape") and x.shape else f(x))


@given(trees)
@settings(max_examples=60, deadline=None)
def test_the_gradient_is_that_of_what_is_taken(tree):
    x = Tensor(np.array(POINTS))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for order in (1, 2):
            alone, selected = taken_alone(tree), all_selected(tree)
            for _ in range(order):
                alone, selected = slope(alone), slope(selected)
            expected = np.array([float(alone(v)) for v in POINTS])
            fine = np.isfinite(expected)
            for found in (selected(x), cellc.jit(selected)(x)):
                np.testing.assert_allclose(found.asnumpy()[fine], expected[fine], rtol=1e-6,
                                           atol=1e-9, err_msg=f"order {order}")
