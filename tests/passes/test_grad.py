"""The gradient pass: against closed forms, central differences, and through calls and branches."""

import mpmath
import numpy as np
import pytest

from cellc.errors import TypeFault
from cellc.ir import arith
from cellc.ir.check import check
from cellc.ir.graph import Builder
from cellc.ir.interpret import interpret
from cellc.ir.prims import contraction, control, elementwise, reduce
from cellc.ir.types import ScalarType, TensorType, f32, f64, i64
from cellc.passes.grad import tidy, value_and_grad_graph

X = ScalarType(f64)


def graph_of(function, *types, name="f"):
    with Builder(name) as b:
        return b.finish(function(*(b.input(t, f"x{i}") for i, t in enumerate(types))))


def derivative(graph):
    """x -> f'(x), by a call of the gradient graph, as the parser makes it."""
    both = value_and_grad_graph(graph, (0,))
    check(both)
    return tidy(graph_of(lambda x: control.item(control.call(x, graph=both), index=1), X))


def branchy(x):
    """sin(y) y for positive x, exp(y) else, at y = x * x."""
    then = graph_of(lambda y: elementwise.sin(y) * y, X, name="then")
    orelse = graph_of(elementwise.exp, X, name="orelse")
    return control.cond(arith.greater(x, 0.0), x * x, then=then, orelse=orelse)


def called_twice(x):
    """g(g(x)) with g a call, so that one pair of halves serves both."""
    g = graph_of(lambda y: elementwise.tanh(y) + y * y, X, name="g")
    return control.call(control.call(x, graph=g), graph=g)


def branch_in_call(x):
    return control.call(x * 0.5, graph=graph_of(branchy, X, name="inner"))


REFERENCES = [
    (elementwise.tanh, mpmath.tanh),
    (branchy, lambda x: mpmath.sin(x * x) * x * x if x > 0 else mpmath.exp(x * x)),
    (called_twice, lambda x: (lambda g: g(g(x)))(lambda y: mpmath.tanh(y) + y * y)),
    (branch_in_call, lambda x: mpmath.sin(x * x / 4) * x * x / 4 if x > 0
     else mpmath.exp(x * x / 4)),
]


@pytest.mark.parametrize("function, reference", REFERENCES,
                         ids=["tanh", "branch", "call", "branch in call"])
@pytest.mark.parametrize("at", [0.7, -0.4])
def test_derivatives_to_order_four(function, reference, at):
    graph = graph_of(function, X)
    for order in range(1, 5):
        graph = derivative(graph)
        expected = float(mpmath.diff(reference, at, order))
        assert float(interpret(graph, at)) == pytest.approx(expected, rel=1e-10), order


def test_order_six_of_tanh():
    graph = graph_of(elementwise.tanh, X)
    for order in range(1, 7):
        graph = derivative(graph)
        expected = float(mpmath.diff(mpmath.tanh, 0.3, order))
        assert float(interpret(graph, 0.3)) == pytest.approx(expected, rel=1e-10)
    assert len(graph.body) < 150, "repeated gradients are simplified between the orders"


def network(x, w, v):
    h = elementwise.tanh(contraction.dot(x, w, contract=((1,), (0,)), batch=((), ())))
    y = contraction.dot(h, v, contract=((1,), (0,)), batch=((), ()))
    return reduce.reduce_sum(y * y, axes=(0, 1))


def test_gradient_of_a_small_network_against_central_differences():
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s) for s in ((3, 4), (4, 5), (5, 2))]
    graph = graph_of(network, *(TensorType(f64, a.shape) for a in arrays))
    value, *grads = interpret(value_and_grad_graph(graph, (0, 1, 2)), *arrays)
    assert value == interpret(graph, *arrays)
    for i, grad in enumerate(grads):
        direction = rng.normal(size=arrays[i].shape)

        def moved(step, i=i, direction=direction):
            shifted = [a + step * direction if k == i else a for k, a in enumerate(arrays)]
            return float(interpret(graph, *shifted))

        slope = (moved(1e-6) - moved(-1e-6)) / 2e-6
        assert np.sum(grad * direction) == pytest.approx(slope, rel=1e-7)


def test_sensitivity_is_a_further_input():
    t = TensorType(f32, (3,))
    graph = value_and_grad_graph(graph_of(elementwise.exp, t), (0,), sens=True)
    x, dy = np.float32([0, 1, 2]), np.float32([1, 0, 2])
    assert np.allclose(interpret(graph, x, dy)[1], np.exp(x) * dy)


def test_an_input_that_does_not_matter_gets_zeros():
    t = TensorType(f32, (3,))
    graph = value_and_grad_graph(graph_of(lambda x, y: elementwise.exp(x), t, t), (0, 1))
    x = np.float32([0, 1, 2])
    assert np.array_equal(interpret(graph, x, x)[2], np.zeros(3, np.float32))


def test_values_that_need_no_gradient_get_no_cotangent():
    t = TensorType(f32, (3,))
    graph = value_and_grad_graph(graph_of(lambda x, y: x * elementwise.sin(y), t, t), (0,))
    assert [n.prim.name for n in graph.body] == ["sin", "mul", "tuple"]


def test_integers_are_refused():
    graph = graph_of(lambda n: arith.mul(n, 2.0), TensorType(i64, (3,)))
    with pytest.raises(TypeFault, match=r"float argument, found i64\[3\]"):
        value_and_grad_graph(graph, (0,))


def test_a_branch_keeps_only_its_own_residuals():
    """The backward half of a branch reads nothing of the other: `empty` fills its places."""
    graph = value_and_grad_graph(graph_of(branchy, X), (0,))
    conds = [n for n in graph.body if n.prim.name == "cond"]
    assert len(conds) == 2
    blanks = [n for branch in ("then", "orelse") for n in conds[0].attrs[branch].body
              if n.prim.name == "empty"]
    assert blanks
