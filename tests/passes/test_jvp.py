"""Forward derivatives: the whole table of primitives, and through calls and branches.

Each rule against central differences in f64, and against the reverse rule: <u, J v> = <J' u, v>.
"""

import mpmath
import numpy as np
import pytest

from cellc.errors import TypeFault
from cellc.ir import arith
from cellc.ir.check import check, same
from cellc.ir.graph import PRIMITIVES, Builder, Graph
from cellc.ir.interpret import interpret
from cellc.ir.prims import control, element, elementwise, shape
from cellc.ir.prims import tape as tapes
from cellc.ir.text import print_graph, read
from cellc.ir.types import ScalarType, TensorType, f32, f64, i64
from cellc.passes.grad import value_and_grad_graph
from cellc.passes.jvp import jvp_graph
from tests.passes.test_grad import REFERENCES, X, branchy, graph_of
from tests.prims import cases
from tests.prims.test_gradients import CASES, floats, results

STEP = 1e-5


def draw(arrays, seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=x.shape) for x in arrays]


def pushed(graph, wrt):
    """(x..., dx...) -> dy... for all the results of a graph."""
    count = len(graph.results)
    both = jvp_graph(graph, wrt, tuple(range(count)))
    check(both)
    with Builder("pushed") as b:
        whole = control.call(*(b.input(x.type, x.name) for x in both.inputs), graph=both)
        return b.finish(control.tuple(*(control.item(whole, index=count + i)
                                        for i in range(count))))


def agrees(graph, wrt, arrays, seed) -> list:
    """The tangents along random directions are the slopes of the results; returns them."""
    directions = draw([arrays[i] for i in wrt], seed)
    found = results(pushed(graph, wrt), [*arrays, *directions])

    def moved(step):
        shifted = list(arrays)
        for i, d in zip(wrt, directions, strict=True):
            shifted[i] = shifted[i] + step * d
        return results(graph, shifted)

    for dy, plus, minus in zip(found, moved(STEP), moved(-STEP), strict=True):
        expected = (np.asarray(plus) - minus) / (2 * STEP)
        scale = 1 + np.abs(expected).max(initial=0)
        np.testing.assert_allclose(dy, expected, rtol=0, atol=2e-6 * scale)
    return found


@pytest.mark.parametrize("case", CASES)
def test_first_order(case):
    prim, operands, attrs = CASES[case]
    agrees(cases.graph_of(prim, operands, attrs), floats(operands), operands, 0)


@pytest.mark.parametrize("case", CASES)
def test_second_order(case):
    """Forward over forward, by the tangents too."""
    prim, operands, attrs = CASES[case]
    wrt = floats(operands)
    first = pushed(cases.graph_of(prim, operands, attrs), wrt)
    arrays = [*operands, *draw([operands[i] for i in wrt], 1)]
    agrees(first, floats(arrays), arrays, 2)


@pytest.mark.parametrize("case", CASES)
def test_reverse_is_the_transpose_of_forward(case):
    prim, operands, attrs = CASES[case]
    graph, wrt = cases.graph_of(prim, operands, attrs), floats(operands)
    directions = draw([operands[i] for i in wrt], 3)
    (dy,) = results(pushed(graph, wrt), [*operands, *directions])
    u = np.random.default_rng(4).normal(size=np.shape(dy))
    _, *back = interpret(value_and_grad_graph(graph, wrt, sens=True), *operands, u)
    expected = sum(np.vdot(g, v) for g, v in zip(back, directions, strict=True))
    np.testing.assert_allclose(np.vdot(u, dy), expected, rtol=1e-9, atol=1e-9)


def test_a_rule_forwards_where_there_is_one_backwards():
    for prim in PRIMITIVES.values():
        assert (prim.jvp is None) == (prim.vjp is None), prim.name


@pytest.mark.parametrize("function, reference", REFERENCES,
                         ids=["tanh", "branch", "call", "branch in call"])
@pytest.mark.parametrize("at", [0.7, -0.4])
def test_derivatives_to_order_four(function, reference, at):
    graph = graph_of(function, X)
    for order in range(1, 5):
        both = jvp_graph(graph, (0,), (0,))
        check(both)
        graph = graph_of(
            lambda x, g=both: control.item(control.call(x, 1.0, graph=g), index=1), X)
        expected = float(mpmath.diff(reference, at, order))
        assert float(interpret(graph, at)) == pytest.approx(expected, rel=1e-10), order


@pytest.mark.parametrize("at", [0.7, -0.4])
def test_forward_over_reverse_and_reverse_over_forward(at):
    graph = graph_of(branchy, X)
    reverse = value_and_grad_graph(graph, (0,))
    over = jvp_graph(reverse, (0,), (1,))
    forward = jvp_graph(graph, (0,), (0,))
    under = value_and_grad_graph(forward, (0,), (1,))
    expected = float(mpmath.diff(REFERENCES[1][1], at, 2))
    assert float(interpret(over, at, 1.0)[-1]) == pytest.approx(expected, rel=1e-10)
    assert float(interpret(under, at, 1.0)[-1]) == pytest.approx(expected, rel=1e-10)


def test_a_tangent_that_only_one_branch_has_is_zero_in_the_other():
    then = graph_of(lambda x, y: control.tuple(x * x, y), X, X, name="then")
    orelse = graph_of(lambda x, y: control.tuple(y, 2.0 * x), X, X, name="orelse")

    def f(x, y):
        both = control.cond(arith.greater(x, 0.0), x, y, then=then, orelse=orelse)
        return control.tuple(control.item(both, index=0), control.item(both, index=1))

    both = jvp_graph(graph_of(f, X, X), (0,), (0, 1))
    assert [float(v) for v in interpret(both, 3.0, 5.0, 1.0)] == [9, 5, 6, 0]
    assert [float(v) for v in interpret(both, -3.0, 5.0, 1.0)] == [5, -6, 0, 2]


def test_what_does_not_depend_has_no_tangent_at_run_time():
    t = TensorType(f32, (3,))
    graph = jvp_graph(graph_of(lambda x, y: x * elementwise.sin(y), t, t), (0,), (0,))
    assert [n.prim.name for n in graph.body] == ["sin", "mul", "mul", "tuple"]


def test_a_result_that_does_not_depend_gets_zeros():
    t = TensorType(f32, (3,))
    graph = jvp_graph(graph_of(lambda x, y: elementwise.exp(y), t, t), (0,), (0,))
    x = np.float32([0, 1, 2])
    assert np.array_equal(interpret(graph, x, x, x)[1], np.zeros(3, np.float32))


def test_integers_are_refused():
    graph = graph_of(lambda n: arith.mul(n, 2.0), TensorType(i64, (3,)))
    with pytest.raises(TypeFault, match=r"the tangent needs a float argument, found i64\[3\]"):
        jvp_graph(graph, (0,), (0,))
    graph = graph_of(lambda x: elementwise.cast(x, dtype=i64), ScalarType(f64))
    with pytest.raises(TypeFault, match="float result, found i64"):
        jvp_graph(graph, (0,), (0,))


# -- calls with a rule of their own, loops, tapes, element access ----------------------------------

def test_a_rule_of_its_own_holds_forwards_too():
    """A bwd that gives three times the gradient: the tangent is three times that as well."""
    g = graph_of(lambda x: x * x, X, name="square")
    bwd = graph_of(lambda x, y, dy: control.tuple(dy * x * 6.0), X, X, X, name="rule")
    graph = graph_of(lambda x: control.call(x, graph=g, bwd=bwd, wrt=(0,)), X)
    both = jvp_graph(graph, (0,), (0,))
    check(both)
    assert [float(v) for v in interpret(both, 2.0, 5.0)] == [4.0, 60.0]
    again = jvp_graph(both, (0,), (1,))
    assert float(interpret(again, 2.0, 5.0, 1.0)[-1]) == pytest.approx(30.0)


def rounds(x, n):
    """x -> sin(x) x + 1, n times: how often is known when the program runs."""
    test = graph_of(lambda i, x, n: arith.less(i, n), ScalarType(i64), X, ScalarType(i64))
    body = graph_of(lambda i, x, n: control.tuple(i + 1, elementwise.sin(x) * x + 1.0),
                    ScalarType(i64), X, ScalarType(i64))
    return control.item(control.while_(0, x, n, test=test, body=body), index=1)


def unrolled(x, n):
    for _ in range(n):
        x = mpmath.sin(x) * x + 1
    return x


@pytest.mark.parametrize("n", [0, 1, 5])
def test_through_a_loop_to_order_three(n):
    graph = graph_of(lambda x: rounds(x, n), X)
    for order in range(1, 4):
        both = jvp_graph(graph, (0,), (0,))
        check(both)
        graph = graph_of(
            lambda x, g=both: control.item(control.call(x, 1.0, graph=g), index=1), X)
        expected = float(mpmath.diff(lambda x: unrolled(x, n), 0.4, order))
        assert float(interpret(graph, 0.4)) == pytest.approx(expected, rel=1e-8, abs=1e-9)


def test_a_loop_in_which_a_tangent_arises_late():
    """z depends on y, y on x: the tangent of z is there after two rounds only."""
    types = [ScalarType(i64), X, X, X]
    test = graph_of(lambda i, y, z, x: arith.less(i, 2), *types)
    body = graph_of(lambda i, y, z, x: control.tuple(i + 1, x * 3.0, z + y * y), *types)

    def f(x):
        return control.item(control.while_(0, 1.0, 0.0, x, test=test, body=body), index=2)

    both = jvp_graph(graph_of(f, X), (0,), (0,))
    check(both)
    assert [float(v) for v in interpret(both, 2.0, 1.0)] == [37.0, 36.0]


def test_tapes_have_tangents():
    def f(x):
        tape = tapes.push(tapes.push(tapes.tape_new(), x * x, 7), elementwise.sin(x), 3)
        first = tapes.pop(tape, types=(X, ScalarType(i64)))
        second = tapes.pop(control.item(first, index=0), types=(X, ScalarType(i64)))
        tapes.tape_end(control.item(second, index=0))
        return control.item(first, index=1) * control.item(second, index=1)

    both = jvp_graph(graph_of(f, X), (0,), (0,))
    check(both)
    assert same(read(print_graph(both)), both)
    expected = float(mpmath.diff(lambda x: mpmath.sin(x) * x * x, 0.6))
    assert float(interpret(both, 0.6, 1.0)[1]) == pytest.approx(expected)


def test_element_access():
    t = TensorType(f64, (3, 2))

    def f(x, v):
        x = element.write(x, element.read(x, 1) * v, 2)
        x = element.accumulate(x, shape.from_scalar(v), 0, 1)
        return x * x

    agrees(graph_of(f, t, X), (0, 1), [np.arange(6.0).reshape(3, 2) + 1, np.asarray(0.5)], 0)
    agrees(graph_of(f, t, X), (1,), [np.arange(6.0).reshape(3, 2) + 1, np.asarray(0.5)], 0)


def test_a_graph_that_calls_itself():
    """f(x, n) = x where n == 0, else sin(f(x, n - 1)) x."""
    n_type = ScalarType(i64)
    with Builder("f") as b:
        x, n = b.input(X, "x"), b.input(n_type, "n")
        f = Graph.declare("f", b.inputs, X)
        last = graph_of(lambda x, n: x, X, n_type, name="last")
        more = graph_of(lambda x, n: elementwise.sin(control.call(x, n - 1, graph=f)) * x, X,
                        n_type, name="more")
        y = control.cond(arith.equal(n, 0), x, n, then=last, orelse=more)
        f.define(b.body, y)
    both = jvp_graph(f, (0,), (0,))

    def reference(x, n=4):
        return x if n == 0 else mpmath.sin(reference(x, n - 1)) * x

    expected = float(mpmath.diff(reference, 0.8))
    assert float(interpret(both, 0.8, 4, 1.0)[1]) == pytest.approx(expected)
