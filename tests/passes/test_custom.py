"""Calls with a rule for their gradient in the IR: text, checks, halves, what is kept; barrier."""

import mpmath
import numpy as np
import pytest

from cellc.errors import IRFault, TypeFault
from cellc.ir.check import check, same
from cellc.ir.graph import Builder
from cellc.ir.interpret import interpret
from cellc.ir.prims import control, elementwise
from cellc.ir.text import print_graph, read
from cellc.ir.types import ScalarType, TensorType, f32, f64
from cellc.passes import cse, inline, simplify
from cellc.passes.grad import tidy, value_and_grad_graph
from cellc.passes.pipeline import run
from cellc.passes.rebuild import restricted

X = ScalarType(f64)
T = TensorType(f32, (64, 64))


def graph_of(function, *types, name="f"):
    with Builder(name) as b:
        return b.finish(function(*(b.input(t, f"x{i}") for i, t in enumerate(types))))


SINE = """
graph @sine(%x: f64) -> f64 {
  %y = sin(%x) : f64
  return %y
}

graph @sine.bprop(%x: f64, %y: f64, %dy: f64) -> (f64,) {
  %m = mul(%dy, %y) : f64
  %n = mul(%m, %x) : f64
  %t = tuple(%n) : (f64,)
  return %t
}

graph @sine.fwd(%x: f64) -> (f64, f64) {
  %y = sin(%x) : f64
  %e = exp(%x) : f64
  %t = tuple(%y, %e) : (f64, f64)
  return %t
}

graph @sine.no(%x: f64) -> (f32, f64) {
  %y = cast(%x) {dtype=f32} : f32
  %t = tuple(%y, %x) : (f32, f64)
  return %t
}

graph @sine.bwd(%e: f64, %dy: f64) -> (f64,) {
  %m = mul(%dy, %e) : f64
  %t = tuple(%m) : (f64,)
  return %t
}

graph @kept(%x: f64) -> f64 {
  %y = call(%x) {graph=@sine, bwd=@sine.bprop, wrt=(0,)} : f64
  return %y
}

graph @given(%x: f64) -> f64 {
  %y = call(%x) {graph=@sine, bwd=@sine.bwd, fwd=@sine.fwd, wrt=(0,)} : f64
  return %y
}
"""


def graphs():
    from cellc.ir.text import read_all

    return read_all(SINE)


@pytest.mark.parametrize("name", ["kept", "given"])
def test_the_text_reads_back(name):
    graph = graphs()[name]
    check(graph)
    assert same(read(print_graph(graph)), graph)
    assert interpret(graph, 0.5) == np.sin(0.5), "a call is what its graph gives"


@pytest.mark.parametrize("change, message", [
    (("bwd=@sine.bprop, wrt=(0,)", "bwd=@sine.bwd, wrt=(0,)"), "expected 2"),
    (("bwd=@sine.bprop, wrt=(0,)", "bwd=@sine.bprop, wrt=()"), r"expected \(\)"),
    (("fwd=@sine.fwd", "fwd=@sine.bwd"), "expected 2"),
    (("bwd=@sine.bwd, fwd", "bwd=@sine.bprop, fwd"), "expected 3"),
    (("fwd=@sine.fwd", "fwd=@sine.no"), r"gives \(f32, f64\), expected it to begin with \(f64,\)"),
])
def test_rules_that_do_not_fit(change, message):
    with pytest.raises(IRFault, match=message):
        read(SINE.replace(*change))


def derivative(graph):
    both = value_and_grad_graph(graph, (0,))
    check(both)
    return tidy(graph_of(lambda x: control.item(control.call(x, graph=both), index=1), X))


def test_a_rule_of_results_holds_at_every_order():
    """y' = y x by the rule: y'' = y' x + y = y x^2 + y, y''' = y x^3 + 3 y x."""
    graph, y, x = graphs()["kept"], np.sin(0.7), 0.7
    for expected in (y * x, y * x**2 + y, y * x**3 + 3 * y * x):
        graph = derivative(graph)
        assert float(interpret(graph, x)) == pytest.approx(expected, rel=1e-12)
        assert float(interpret(run(graph), x)) == pytest.approx(expected, rel=1e-12)


def test_a_rule_with_residuals_of_its_own():
    graph = graphs()["given"]
    for order in range(1, 4):
        graph = derivative(graph)
        assert float(interpret(graph, 0.7)) == pytest.approx(float(mpmath.exp(0.7)), rel=1e-12)
        assert not any(n.prim.name == "sin" for n in run(graph).body), order


def test_the_pipeline_drops_rules_and_gradients_keep_them():
    graph = graphs()["kept"]
    assert "bwd" in tidy(graph).body[0].attrs
    assert [n.prim.name for n in inline.run(graph).body] == ["sin"]


def test_only_what_a_rule_reads_is_kept():
    """bwd reads no operand and no result here: the backward half takes the cotangent alone."""
    bwd = graph_of(lambda x, y, d: control.tuple(d * 2.0), X, X, X, name="bwd")
    found, used = restricted(bwd, (0,))
    assert used == [2] and len(found.inputs) == 1
    graph = graph_of(lambda x: control.call(
        elementwise.exp(x), graph=graph_of(elementwise.sin, X, name="g"), bwd=bwd, wrt=(0,)), X)
    names = [n.prim.name for n in run(value_and_grad_graph(graph, (0,))).body]
    assert names.count("sin") == 1 and "cos" not in names


def test_what_has_no_rule_is_refused():
    bwd = graph_of(lambda x, w, y, d: control.tuple(d), X, X, X, X, name="g.bprop")
    inner = graph_of(lambda x, w: x * w, X, X, name="g")
    graph = graph_of(lambda x, w: control.call(x, w, graph=inner, bwd=bwd, wrt=(0,)), X, X)
    assert interpret(value_and_grad_graph(graph, (0,)), 2.0, 3.0)[1] == 1.0
    with pytest.raises(TypeFault, match=r"g.bprop gives no gradient by x1 \(f64\)"):
        value_and_grad_graph(graph, (0, 1))


# -- barrier ---------------------------------------------------------------------------------------

def test_a_barrier_keeps_equal_applies_apart():
    def twice(x, d):
        held = control.barrier(x, d)
        return elementwise.tanh(x) + elementwise.tanh(held) * d

    graph = run(graph_of(twice, T, T))
    check(graph)
    text = print_graph(graph)
    assert text.count("= tanh(") == 2 and text.count("= barrier(") == 1
    x = np.ones((64, 64), np.float32)
    np.testing.assert_array_equal(interpret(graph, x, x), 2 * np.tanh(x))


def test_equal_barriers_are_one():
    def twice(x, d):
        return elementwise.tanh(control.barrier(x, d)) + elementwise.tanh(control.barrier(x, d))

    graph = cse.run(simplify.run(graph_of(twice, T, T)))
    assert [n.prim.name for n in graph.body] == ["barrier", "tanh", "add"]


def test_a_barrier_waits():
    """What is computed behind it stands behind what it waits for, whatever fusion would like."""
    def f(x, y):
        d = elementwise.exp(y)
        return elementwise.tanh(x) + elementwise.tanh(control.barrier(x, d)) * d

    graph = run(graph_of(f, T, T))
    place = {n.prim.name: i for i, n in reversed(list(enumerate(graph.body)))}
    groups = [(i, n.attrs["graph"]) for i, n in enumerate(graph.body) if n.prim.name == "fused"]
    exp_at = min(i for i, g in groups if any(a.prim.name == "exp" for a in g.body))
    behind = max(i for i, g in groups if any(a.prim.name == "tanh" for a in g.body))
    assert exp_at < place["barrier"] < behind


def test_the_gradient_goes_through_a_barrier():
    graph = graph_of(lambda x, d: control.barrier(x, d) * x, X, X)
    assert interpret(value_and_grad_graph(graph, (0, 1)), 3.0, 5.0)[1:] == (6.0, 0.0)
