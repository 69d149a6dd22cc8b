"""Batches: every primitive, with every choice of operands that have lanes, and control.

The definition: f on lanes gives what f gives on each lane, one beside the other.
"""

import itertools

import numpy as np
import pytest

from cellc.errors import IndexFault
from cellc.ir import arith
from cellc.ir import numerics as num
from cellc.ir.check import check
from cellc.ir.graph import PRIMITIVES, Builder
from cellc.ir.interpret import interpret
from cellc.ir.prims import contraction, control, elementwise, gather, shape
from cellc.ir.types import ScalarType, TensorType, f64, i64
from cellc.passes.grad import value_and_grad_graph
from cellc.passes.jvp import jvp_graph
from cellc.passes.vmap import batch_graph
from tests.passes.test_grad import graph_of
from tests.prims import cases

X = ScalarType(f64)
N = 3


def choices(n):
    """Which of n operands have lanes: every choice but none of them."""
    return [c for c in itertools.product([True, False], repeat=n) if any(c)]


def operands_of(name, operands):
    """The sample in the widest dtype that the primitive takes."""
    kinds = cases.kinds_taken(name)
    if name in cases.OWN_DTYPES or "f" in kinds:
        return operands
    return cases.as_dtype(name, operands, num.dtype("i64" if "i" in kinds else "bool"))


CASES = {f"{name}-{i}-{''.join('01'[has] for has in own)}": (
    PRIMITIVES[name], operands_of(name, operands), attrs, own)
         for name, i, operands, attrs in cases.samples() if operands
         for own in choices(len(operands))}


def lanes_of(x, n, seed):
    """n lanes like an array: the same values in another order in each, so that domains hold."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(x.reshape(-1)).reshape(x.shape) for _ in range(n)])


def as_tuple(found):
    return found if isinstance(found, tuple) else (found,)


def stacks(graph, lanes, arrays, n, rtol=1e-12):
    """The batched graph gives the lanes' results, one beside the other; returns them."""
    made = batch_graph(graph, lanes, n)
    check(made.graph)
    found = as_tuple(interpret(made.graph, *arrays))
    each = [as_tuple(interpret(graph, *(x[i] if own else x for x, own in
                                        zip(arrays, lanes, strict=True)))) for i in range(n)]
    for k, (y, own) in enumerate(zip(found, made.results, strict=True)):
        expected = np.stack([lane[k] for lane in each])
        if not own:
            assert all(np.array_equal(y, e, equal_nan=True) for e in expected)
            continue
        assert num.dtype_of(y) is num.dtype_of(expected) and y.shape == expected.shape
        np.testing.assert_allclose(num.to_compute(y), num.to_compute(expected), rtol=rtol,
                                   atol=1e-12)
    return found


@pytest.mark.parametrize("case", CASES)
def test_every_primitive(case):
    prim, operands, attrs, own = CASES[case]
    arrays = [lanes_of(x, N, i) if has else x for i, (x, has) in
              enumerate(zip(operands, own, strict=True))]
    stacks(cases.graph_of(prim, operands, attrs), own, arrays, N)


@pytest.mark.parametrize("name", [n for n, p in PRIMITIVES.items() if p.kind == "elementwise"
                                  and p.operands and n not in ("from_scalar", "mulhi")])
def test_numbers_of_each_lane_are_tensors(name):
    """Scalar operands, with lanes or without."""
    prim = PRIMITIVES[name]
    operands, attrs = prim.samples()[0]
    if name == "bitcast":
        attrs = {"dtype": num.dtype("f64")}
    wanted = "f64" if "f" in cases.kinds_taken(name) and name != "bitcast" else "i64"
    columns = []
    for i, x in enumerate(operands):
        of = "bool" if name == "select" and i == 0 else wanted
        columns.append(num.cast(np.resize(np.asarray(x), (N,)), num.dtype(of)))
    types = [TensorType(num.dtype_of(c)) if name == "to_scalar" else ScalarType(num.dtype_of(c))
             for c in columns]
    graph = graph_of(lambda *xs: prim(*xs, **attrs), *types)
    for own in choices(len(columns)):
        stacks(graph, own, [c if has else c[0] for c, has in zip(columns, own, strict=True)], N)


def test_every_primitive_with_operands_has_a_rule():
    for prim in PRIMITIVES.values():
        if prim.kind != "control":
            assert (prim.batch is None) == (not prim.operands), prim.name


def test_no_lane_reads_or_writes_in_another():
    x, index = np.arange(6.0).reshape(2, 3), np.array([0, 3])
    for bad in (3, -1, 7):
        index[1] = bad
        for prim, operands, attrs in (
                (gather.gather, [x, index], {"axis": 0}),
                (gather.scatter_add, [index, np.ones(2)], {"axis": 0, "size": 3})):
            graph = cases.graph_of(prim, [o[0] for o in operands], attrs)
            with pytest.raises(IndexFault):
                interpret(batch_graph(graph, (True, True), 2).graph, *operands)


# -- control ---------------------------------------------------------------------------------------

def signed(x):
    """sqrt(x) for positive x, 1 / x else: each branch is bad where it is not taken."""
    then = graph_of(elementwise.sqrt, X, name="then")
    orelse = graph_of(lambda y: arith.div(1.0, y - 1.0), X, name="orelse")
    return control.cond(arith.greater(x, 0.0), x, then=then, orelse=orelse)


def cheap(x):
    return control.cond(arith.greater(x, 0.0), x, then=graph_of(lambda y: y * y, X, name="then"),
                        orelse=graph_of(lambda y: -y, X, name="orelse"))


def called(x):
    inner = graph_of(signed, X, name="inner")
    return control.call(control.call(x, graph=inner) + 0.5, graph=inner)


POINTS = np.array([4.0, -3.0, 1.0, -0.5])


@pytest.mark.parametrize("function", [signed, cheap, called])
def test_a_choice_of_each_lane(function):
    with np.errstate(all="raise"):
        stacks(graph_of(function, X), (True,), [POINTS], 4)
        stacks(graph_of(function, X), (True,), [POINTS[:1]], 1)
        stacks(graph_of(function, X), (True,), [np.abs(POINTS)], 4)


@pytest.mark.parametrize("function", [signed, cheap, called])
def test_gradients_of_lanes_and_lanes_of_gradients(function):
    """All orders of the three transforms, twice; nothing not taken comes in as a NaN."""
    graph = graph_of(function, X)
    slopes = value_and_grad_graph(graph, (0,))
    with np.errstate(all="raise"):
        each = stacks(slopes, (True,), [POINTS], 4)[1]
        pushed = jvp_graph(graph, (0,), (0,))
        found = stacks(pushed, (True, False), [POINTS, 1.0], 4)[1]
        np.testing.assert_allclose(found, each)
        lanes = batch_graph(graph, (True,), 4).graph
        np.testing.assert_allclose(interpret(value_and_grad_graph(lanes, (0,)), POINTS)[1], each)
        np.testing.assert_allclose(
            interpret(jvp_graph(lanes, (0,), (0,)), POINTS, np.ones(4))[1], each)
        curvature = stacks(value_and_grad_graph(slopes, (0,), (1,)), (True,), [POINTS], 4)[2]
        lanes = batch_graph(slopes, (True,), 4).graph
        found = interpret(value_and_grad_graph(lanes, (0,), (1,)), POINTS)[2]
        np.testing.assert_allclose(found, curvature)


def test_a_choice_that_all_lanes_share_stays_a_branch():
    then = graph_of(lambda y, z: elementwise.exp(y), X, X, name="then")
    orelse = graph_of(lambda y, z: z, X, X, name="orelse")

    def f(p, x, z):
        return control.cond(arith.greater(p, 0.0), x, z, then=then, orelse=orelse)

    graph = graph_of(f, X, X, X)
    for p in (1.0, -1.0):
        stacks(graph, (False, True, False), [np.asarray(p), POINTS, np.asarray(7.0)], 4)
    made = batch_graph(graph, (False, True, False), 4).graph
    assert [n.prim.name for n in made.body].count("cond") == 1


def test_a_branch_that_no_lane_takes_does_not_run():
    """Each guard is on `any`; the index of the branch not taken would be a fault."""
    t, index = TensorType(f64, (3,)), ScalarType(i64)

    def inside(x, i):
        return shape.to_scalar(gather.gather(x, shape.from_scalar(i), axis=0))

    def f(x, i):
        return control.cond(arith.less(i, 3), x, i, then=graph_of(inside, t, index, name="read"),
                            orelse=graph_of(lambda x, i: arith.cast(i, f64), t, index, name="no"))

    graph = graph_of(f, t, index)
    row = np.array([1.0, 2, 4])
    for places in ([0, 2, 5, 7], [5, 6, 7, 8], [0, 1, 2, 0]):
        stacks(graph, (False, True), [row, np.array(places)], 4)
        stacks(graph, (True, True), [np.stack([row] * 4), np.array(places)], 4)


def test_what_all_lanes_share_is_computed_once():
    t = TensorType(f64, (3, 3))
    graph = graph_of(lambda x, w: elementwise.exp(w) * x, t, t)
    made = batch_graph(graph, (True, False), 5).graph
    assert next(n for n in made.body if n.prim.name == "exp").shape == (3, 3)
    made = batch_graph(graph, (False, True), 5)
    assert made.results == (True,)
    made = batch_graph(graph_of(lambda x, w: elementwise.exp(w), t, t), (True, False), 5)
    assert made.results == (False,)


def test_lanes_of_lanes():
    a, b = TensorType(f64, (2, 3)), TensorType(f64, (3, 4))
    graph = graph_of(lambda x, y: contraction.dot(x, y, contract=((1,), (0,)), batch=((), ())),
                     a, b)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 2, 3)), rng.normal(size=(6, 3, 4))
    inner = batch_graph(graph, (True, False), 5).graph
    found = interpret(batch_graph(inner, (False, True), 6).graph, x, y)
    np.testing.assert_allclose(found, np.einsum("aij,bjk->baik", x, y))


def test_lanes_of_no_lane():
    graph = graph_of(called, X)
    assert interpret(batch_graph(graph, (True,), 0).graph, np.zeros(0)).shape == (0,)


def test_tuples_are_taken_apart():
    with Builder("f") as b:
        x, y = b.input(X, "x"), b.input(X, "y")
        both = control.tuple(x * y, y)
        graph = b.finish(control.tuple(control.item(both, index=1), control.item(both, index=0)))
    made = batch_graph(graph, (True, False), 4)
    assert made.results == (False, True)
    assert as_tuple(interpret(made.graph, POINTS, 2.0))[1].tolist() == (POINTS * 2).tolist()
