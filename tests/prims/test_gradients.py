"""Gradient rules against central differences in f64, to order 2, and their values at edges."""

import numpy as np
import pytest

from cellc.ir.check import check
from cellc.ir.graph import PRIMITIVES, Builder, fill
from cellc.ir.interpret import interpret
from cellc.ir.prims import control
from cellc.ir.text import print_graph
from cellc.ir.types import f16, f32, f64
from cellc.passes.grad import tidy, value_and_grad_graph
from tests.prims.cases import graph_of, samples, type_of

STEP = 1e-5


def floats(operands):
    return tuple(i for i, x in enumerate(operands) if x.dtype == np.float64)


CASES = {f"{name}-{i}": (PRIMITIVES[name], operands, attrs)
         for name, i, operands, attrs in samples()
         if PRIMITIVES[name].vjp and floats(operands) and attrs.get("dtype", f64) is f64}


def gradients(graph, wrt):
    """(x..., dy) -> the gradients alone, of the first results that `graph` has."""
    count = len(graph.results)
    both = value_and_grad_graph(graph, wrt, tuple(range(count)), sens=True)
    with Builder("gradients") as b:
        xs = [b.input(x.type, x.name) for x in both.inputs]
        whole = control.call(*xs, graph=both)
        return b.finish(control.tuple(*(control.item(whole, index=count + i)
                                        for i in range(len(wrt)))))


def results(graph, arrays):
    found = interpret(graph, *arrays)
    return found if isinstance(found, tuple) else (found,)


def agrees(graph, wrt, arrays, seed) -> None:
    """Each result weighted at random; its slope along a random direction, two ways."""
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=r.shape) for r in results(graph, arrays)]
    directions = {i: rng.normal(size=arrays[i].shape) for i in wrt}
    slopes = gradients(graph, wrt)
    check(slopes)
    found = sum(np.vdot(g, directions[i]) for i, g in zip(
        wrt, results(slopes, [*arrays, *weights]), strict=True))

    def along(step):
        moved = [x + step * directions[i] if i in directions else x for i, x in enumerate(arrays)]
        return sum(np.vdot(w, r) for w, r in zip(weights, results(graph, moved), strict=True))

    expected = (along(STEP) - along(-STEP)) / (2 * STEP)
    scale = sum(np.abs(w).sum() for w in weights) + abs(expected)
    assert abs(found - expected) <= 1e-6 * scale + 1e-7, (found, expected)


@pytest.mark.parametrize("case", CASES)
def test_first_order(case):
    prim, operands, attrs = CASES[case]
    for seed in range(2):
        agrees(graph_of(prim, operands, attrs), floats(operands), operands, seed)


@pytest.mark.parametrize("case", CASES)
def test_second_order(case):
    """The gradient of the gradient, by all operands and by the cotangent too."""
    prim, operands, attrs = CASES[case]
    graph = graph_of(prim, operands, attrs)
    slopes = gradients(graph, floats(operands))
    cotangent = np.random.default_rng(5).normal(size=interpret(graph, *operands).shape)
    arrays = [*operands, cotangent]
    agrees(slopes, floats(arrays), arrays, 3)


def gradient_at(prim, *operands, dy=None, **attrs):
    """The gradients of a primitive at arrays."""
    operands = [np.asarray(x) for x in operands]
    graph = graph_of(prim, operands, attrs)
    if dy is None:
        dy = np.ones(graph.type.shape, graph.type.dtype.numpy)
    return results(gradients(graph, tuple(range(len(operands)))), [*operands, dy])


@pytest.mark.parametrize("name", ["min", "max"])
def test_a_tie_of_two_is_shared_evenly(name):
    dx, dy = gradient_at(PRIMITIVES[name], [1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    first = [0.5, 1.0, 0.0] if name == "min" else [0.5, 0.0, 1.0]
    assert dx.tolist() == first and dy.tolist() == [1 - v for v in first]


@pytest.mark.parametrize("name", ["reduce_min", "reduce_max"])
def test_a_tie_of_many_is_shared_evenly(name):
    x = [[2.0, 2.0, 2.0, 2.0], [5.0, 1.0, 5.0, 1.0]]
    (dx,) = gradient_at(PRIMITIVES[name], x, dy=np.array([1.0, 4.0]), axes=(1,))
    wins = [0, 2, 0, 2] if name == "reduce_min" else [2, 0, 2, 0]
    assert dx.tolist() == [[0.25] * 4, wins]


def test_edges():
    zero = np.zeros(1)
    assert gradient_at(PRIMITIVES["abs"], zero)[0] == 0
    assert gradient_at(PRIMITIVES["sqrt"], zero)[0] == np.inf
    dx, dy = gradient_at(PRIMITIVES["pow"], zero, zero)
    assert dx == 0 and dy == 0
    dx, dy = gradient_at(PRIMITIVES["pow"], np.array([-2.0, 0.0]), np.array([3.0, 2.0]))
    assert dx.tolist() == [12.0, 0.0] and dy.tolist() == [0.0, 0.0]
    (dx,) = gradient_at(PRIMITIVES["tanh"], np.array([400.0, -400.0]))
    assert dx.tolist() == [0.0, 0.0]
    (dx,) = gradient_at(PRIMITIVES["logistic"], np.array([-900.0, 900.0]))
    assert dx.tolist() == [0.0, 0.0]


def test_a_constant_power_loses_one_each_time():
    x = np.array([0.0, 2.0, -3.0])
    with Builder("cube") as b:
        node = b.input(type_of(x), "x")
        graph = b.finish(PRIMITIVES["pow"](node, fill(node.type, 3.0)))
    for expected in ([0.0, 12.0, 27.0], [0.0, 12.0, -18.0], [6.0] * 3, [0.0] * 3):
        both = value_and_grad_graph(graph, (0,))
        with Builder("slope") as b:
            found = control.call(b.input(type_of(x), "x"), graph=both)
            graph = tidy(b.finish(control.item(found, index=1)))
        assert interpret(graph, x).tolist() == expected
        assert "select" not in print_graph(graph)


def test_select_lets_no_nan_through():
    """The branch not taken contributes zero, not zero times NaN."""
    c = np.array([True, False])
    with Builder("safe") as b:
        x = b.input(type_of(np.zeros(2)), "x")
        graph = b.finish(PRIMITIVES["select"](
            b.input(type_of(c), "c"), PRIMITIVES["stop_gradient"](PRIMITIVES["sqrt"](x)), x))
    (dx,) = results(gradients(graph, (0,)), [np.array([-1.0, 2.0]), c, np.ones(2)])
    assert dx.tolist() == [0.0, 1.0]


def test_product_with_zeros_to_third_order():
    """x y z: only the third derivative is left at the origin."""
    x = np.zeros(3)
    graph = graph_of(PRIMITIVES["reduce_prod"], [x], {"axes": (0,)})
    first = gradients(graph, (0,))
    one, e0, e1 = np.ones(()), np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    assert results(first, [x, one])[0].tolist() == [0, 0, 0]
    second = gradients(first, (0,))
    assert results(second, [x, one, e0])[0].tolist() == [0, 0, 0]
    third = gradients(second, (0,))
    assert results(third, [x, one, e0, e1])[0].tolist() == [0, 0, 1]


def test_products_over_several_axes_and_of_one_element():
    x = np.random.default_rng(0).normal(size=(2, 3, 1))
    for axes in ((0, 1), (2,), (2, 0), ()):
        graph = graph_of(PRIMITIVES["reduce_prod"], [x], {"axes": axes})
        agrees(graph, (0,), [x], 1)


@pytest.mark.parametrize("of, to", [(f32, f64), (f64, f32), (f32, f16)])
def test_casts_between_floats_cast_back(of, to):
    x = np.ones(2, of.numpy)
    (dx,) = gradient_at(PRIMITIVES["cast"], x, dtype=to)
    assert dx.dtype == of.numpy and dx.tolist() == [1, 1]
