"""Derivatives in two steps: the second gives what one step gives, and repeats nothing."""

import numpy as np
import pytest

from cellc.ir import arith
from cellc.ir.check import check
from cellc.ir.graph import Builder, Graph
from cellc.ir.interpret import interpret
from cellc.ir.prims import control, elementwise
from cellc.ir.types import ScalarType, TensorType, f64
from cellc.passes.grad import value_and_grad_graph
from cellc.passes.jvp import jvp_graph
from cellc.passes.linearize import linearize_graphs, vjp_graphs
from tests.passes.test_grad import REFERENCES, graph_of
from tests.passes.test_jvp import rounds
from tests.prims import cases
from tests.prims.test_gradients import CASES, floats, results

X = ScalarType(f64)


def in_two(split, arrays, directions):
    """What both graphs give, one after the other."""
    check(split.early), check(split.late)
    first = results(split.early, arrays)
    pool = {"input": arrays, "result": first}
    second = results(split.late, [*directions, *(pool[kind][i] for kind, i in split.residuals)])
    return [*first[:split.count], *second]


def draw(arrays, seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=np.shape(x)) for x in arrays]


@pytest.mark.parametrize("case", CASES)
def test_every_primitive(case):
    prim, operands, attrs = CASES[case]
    graph, wrt = cases.graph_of(prim, operands, attrs), floats(operands)
    directions = draw([operands[i] for i in wrt], 0)
    expected = results(jvp_graph(graph, wrt, (0,)), [*operands, *directions])
    found = in_two(linearize_graphs(graph, wrt, (0,)), operands, directions)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    cotangent = draw(expected[:1], 1)
    expected = results(value_and_grad_graph(graph, wrt, sens=True), [*operands, *cotangent])
    found = in_two(vjp_graphs(graph, wrt, (0,)), operands, cotangent)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("function, reference", REFERENCES,
                         ids=["tanh", "branch", "call", "branch in call"])
@pytest.mark.parametrize("at", [0.7, -0.4])
def test_control_and_second_order(function, reference, at):
    graph = graph_of(function, X)
    both = jvp_graph(graph, (0,), (0,))
    second = jvp_graph(both, (0, 1), (0, 1))
    for g, wrt, outputs, arrays in ((graph, (0,), (0,), [at]), (both, (0, 1), (1,), [at, 0.3]),
                                    (second, (0, 1, 2, 3), (3,), [at, 0.3, 0.2, 0.1])):
        directions = draw(arrays, 2)
        expected = results(jvp_graph(g, wrt, outputs), [*arrays, *directions])
        found = in_two(linearize_graphs(g, wrt, outputs), arrays, directions)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_large_call_stays_a_call():
    """Its graphs are split, and shared by both uses."""
    def long(x):
        for _ in range(200):
            x = elementwise.sin(x) * 1.01
        return x

    g = graph_of(long, X, name="long")
    graph = graph_of(lambda x: control.call(control.call(x, graph=g), graph=g), X)
    split = linearize_graphs(graph, (0,), (0,))
    assert [n.prim.name for n in split.early.body].count("call") == 2
    late = {n.prim.name for inner in split.late.reachable() for n in inner.body}
    assert "sin" not in late and "cos" not in late
    expected = [float(y) for y in interpret(jvp_graph(graph, (0,), (0,)), 0.3, 2.0)]
    np.testing.assert_allclose(in_two(split, [0.3], [2.0]), expected)


def test_the_late_graph_repeats_nothing():
    t = TensorType(f64, (3,))
    split = linearize_graphs(graph_of(lambda x: elementwise.exp(elementwise.tanh(x)), t), (0,),
                             (0,))
    assert {n.prim.name for n in split.late.body} == {"mul", "tuple"}


def test_results_that_do_not_depend():
    graph = graph_of(lambda x, y: control.tuple(elementwise.exp(y), x * y, y), X, X)
    split = linearize_graphs(graph, (0,), (0, 1, 2))
    found = in_two(split, [2.0, 3.0], [5.0])
    np.testing.assert_allclose(found, [np.exp(3.0), 6, 3, 0, 15, 0])
    found = in_two(vjp_graphs(graph, (0,), (0, 1, 2)), [2.0, 3.0], [1.0, 1.0, 1.0])
    np.testing.assert_allclose(found, [np.exp(3.0), 6, 3, 3])


def test_a_loop_runs_again_but_what_is_before_and_behind_it_does_not():
    def f(x):
        y = rounds(elementwise.exp(x), 5)
        return elementwise.tanh(y) * y

    graph = graph_of(f, X)
    expected = results(jvp_graph(graph, (0,), (0,)), [0.3, 2.0])
    split = linearize_graphs(graph, (0,), (0,))
    np.testing.assert_allclose(in_two(split, [0.3], [2.0]), expected, rtol=1e-12)
    assert [n.prim.name for n in split.early.body].count("while") == 1
    late = [n.prim.name for n in split.late.body]
    assert late.count("while") == 1 and "tanh" not in late and "exp" not in late


def test_a_graph_that_calls_itself_begins_anew():
    with Builder("f") as b:
        x = b.input(X, "x")
        f = Graph.declare("f", b.inputs, X)
        more = graph_of(lambda x: elementwise.sin(x) * control.call(x - 1.0, graph=f), X)
        last = graph_of(elementwise.exp, X, name="last")
        f.define(b.body, control.cond(arith.greater(x, 0.0), x, then=more, orelse=last))
    expected = results(jvp_graph(f, (0,), (0,)), [2.5, 2.0])
    found = in_two(linearize_graphs(f, (0,), (0,)), [2.5], [2.0])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
