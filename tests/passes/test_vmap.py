"""Batches: every primitive, with every choice of operands that have lanes, and control.

The definition: f on lanes gives what f gives on each lane, one beside the other.
"""

import itertools

import numpy as np
import pytest

from cellc.errors import IndexFault, SyntaxFault, ValueFault
from cellc.ir import arith
from cellc.ir import numerics as num
from cellc.ir.check import check
from cellc.ir.graph import PRIMITIVES, Builder, Graph
from cellc.ir.interpret import interpret
from cellc.ir.prims import contraction, control, effect, elementwise, gather, shape
from cellc.ir.prims import tape as tapes
from cellc.ir.types import ScalarType, TensorType, f64, i64
from cellc.passes import lane_pool
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


# -- loops -----------------------------------------------------------------------------------------

INT = ScalarType(i64)


def halving(x, n):
    """(rounds until x < 1, or n of them; x then); a state of two numbers."""
    types = [INT, X, INT]
    test = graph_of(lambda i, x, n: elementwise.bit_and(arith.greater_equal(x, 1.0),
                                                        arith.less(i, n)), *types)
    body = graph_of(lambda i, x, n: control.tuple(i + 1, x * 0.5), *types)
    both = control.while_(0, x, n, test=test, body=body)
    return control.tuple(control.item(both, index=0), control.item(both, index=1))


def growing(x, n):
    """One tensor as the state, which doubles n times: the test does not depend on it."""
    t = TensorType(f64, (2,))
    test = graph_of(lambda i, x, n: arith.less(i, n), INT, t, INT)
    body = graph_of(lambda i, x, n: control.tuple(i + 1, x + x), INT, t, INT)
    return control.item(control.while_(0, x, n, test=test, body=body), index=1)


def alone(x):
    """A state of one number, no tuple."""
    return control.while_(x, test=graph_of(lambda x: arith.less(x, 10.0), X),
                          body=graph_of(lambda x: x * 3.0, X))


def names(graph):
    return [n.prim.name for g in graph.reachable() for n in g.body]


def test_a_loop_that_each_lane_leaves_when_it_is_done():
    graph = graph_of(halving, X, INT)
    xs, ns = np.array([0.5, 1000.0, 3.0, 1e300]), np.array([5, 50, 0, 7])
    for own in choices(2):
        stacks(graph, own, [xs if own[0] else xs[1], ns if own[1] else ns[1]], 4)
    stacks(graph_of(alone, X), (True,), [xs], 4)
    stacks(graph_of(lambda x: alone(x) + alone(x + 1.0), X), (True,), [xs], 4)
    assert "select" not in names(batch_graph(graph, (True, True), 4).graph)


def test_a_loop_that_all_lanes_leave_together_stays_one_loop():
    graph = graph_of(growing, TensorType(f64, (2,)), INT)
    x = np.arange(6.0).reshape(3, 2)
    stacks(graph, (True, False), [x, np.asarray(3)], 3)
    made = batch_graph(graph, (True, False), 3).graph
    assert names(made).count("while") == 1 and "read" not in names(made)
    stacks(graph, (True, True), [x, np.array([0, 3, 1])], 3)
    stacks(graph, (False, True), [x[0], np.array([0, 3, 1])], 3)


def test_lanes_that_arise_in_a_round():
    """y depends on z, z on x: the lanes reach y after two rounds only."""
    types = [INT, X, X, X]
    test = graph_of(lambda i, y, z, x: arith.less(i, 3), *types)
    body = graph_of(lambda i, y, z, x: control.tuple(i + 1, z + 1.0, z + x), *types)

    def f(x):
        return control.item(control.while_(0, 1.0, 0.0, x, test=test, body=body), index=1)

    stacks(graph_of(f, X), (True,), [POINTS], 4)


def test_a_loop_in_a_branch_of_some_lanes():
    """The lanes outside of the branch could loop for ever."""
    def f(x):
        then = graph_of(alone, X, name="then")
        orelse = graph_of(lambda x: x, X, name="orelse")
        return control.cond(arith.greater(x, 0.0), x, then=then, orelse=orelse)

    stacks(graph_of(f, X), (True,), [POINTS], 4)


def test_lanes_of_lanes_of_a_loop():
    graph = graph_of(halving, X, INT)
    inner = batch_graph(graph, (True, False), 4).graph
    xs = np.array([[1.0, 7, 100, 0], [3, 1e9, 2, 5]])
    stacks(inner, (True, True), [xs, np.array([3, 40])], 2)
    stacks(inner, (False, True), [xs[0], np.array([3, 40])], 2)


def test_tangents_of_lanes_and_lanes_of_tangents_of_a_loop():
    graph = graph_of(lambda x, n: control.item(control.call(x, n, graph=graph_of(
        halving, X, INT)), index=1), X, INT)
    pushed = jvp_graph(graph, (0,), (0,))
    xs, ns = np.array([0.5, 1000.0, 3.0]), np.array([5, 50, 0])
    each = stacks(pushed, (True, True, False), [xs, ns, 1.0], 3)
    lanes = batch_graph(graph, (True, True), 3).graph
    found = interpret(jvp_graph(lanes, (0,), (0,)), xs, ns, np.ones(3))
    for a, b in zip(found, each, strict=True):
        np.testing.assert_allclose(a, b)


# -- tapes, element access, checks, recursion, rules -----------------------------------------------

def taped(x, n):
    """What a gradient of a loop looks like: n pushes, then n pops. x^(2^n) by its last factors."""
    t = tapes.TAPE
    go = graph_of(lambda i, x, t, n: arith.less(i, n), INT, X, t, INT)
    up = graph_of(lambda i, x, t, n: control.tuple(i + 1, x * x, tapes.push(t, x, i)),
                  INT, X, t, INT)
    first = control.while_(0, x, tapes.tape_new(), n, test=go, body=up)

    def back(i, g, t):
        popped = tapes.pop(t, types=(X, INT))
        return control.tuple(i - 1, g * control.item(popped, index=1) * 2.0,
                             control.item(popped, index=0))

    more = graph_of(lambda i, g, t: arith.greater(i, 0), INT, X, t)
    second = control.while_(control.item(first, index=0), 1.0, control.item(first, index=2),
                            test=more, body=graph_of(back, INT, X, t))
    tapes.tape_end(control.item(second, index=2))
    return control.item(second, index=1)


def test_tapes_with_lanes():
    graph = graph_of(taped, X, INT)
    xs = np.array([0.5, 1.5, 2.0])
    assert interpret(graph, 0.5, 3) == pytest.approx(8 * 0.5 ** 7)
    stacks(graph, (True, False), [xs, np.asarray(3)], 3)
    assert names(batch_graph(graph, (True, False), 3).graph).count("while") == 2
    stacks(graph, (True, True), [xs, np.array([3, 0, 2])], 3)
    stacks(graph, (False, True), [xs[1], np.array([3, 0, 2])], 3)


@pytest.mark.parametrize("shape_", [(3, 2), (3, 20, 2)])
@pytest.mark.parametrize("name", ["read", "write", "accumulate"])
def test_element_access(name, shape_):
    rng = np.random.default_rng(0)
    prim, n_index = PRIMITIVES[name], len(shape_) - 1
    at = [rng.integers(0, size, N) for size in shape_[:n_index]]
    x = rng.normal(size=(N, *shape_))
    v = [] if name == "read" else [rng.normal(size=(N, *shape_[n_index:]))]
    operands = [x, *v, *at]
    types = [TensorType(f64, o.shape[1:]) for o in [x, *v]] + [INT] * n_index
    graph = graph_of(lambda *xs: prim(*xs), *types)
    for own in choices(len(operands)):
        stacks(graph, own, [o if has else o[0] for o, has in zip(operands, own, strict=True)], N)
    at[-1][1] = shape_[n_index - 1]
    made = batch_graph(graph, (False,) * (1 + len(v)) + (True,) * n_index, N).graph
    with pytest.raises(IndexFault):
        interpret(made, x[0], *(o[0] for o in v), *at)


class Message:
    def fault(self, values, loc=None):
        return ValueFault(f"found {values[0]} and {values[1]}")

    def show(self, values):
        raise AssertionError("nothing is shown")


def test_a_check_speaks_of_the_first_lane_that_fails():
    message = Message()
    number = effect.register(message)

    def f(x, y):
        effect.check(arith.less(x, y), x, y, message=number)
        return x + y

    graph = graph_of(f, X, X)
    stacks(graph, (True, False), [POINTS, np.asarray(5.0)], 4)
    with pytest.raises(ValueFault, match="found 4.0 and 1.5"):
        interpret(batch_graph(graph, (True, False), 4).graph, POINTS[::-1].copy(), 1.5)
    with pytest.raises(ValueFault, match="found 1.5 and 1.0"):
        interpret(batch_graph(graph, (False, True), 4).graph, 1.5, np.abs(POINTS[[0, 2, 3, 3]]))

    def shows(x):
        effect.show(x, message=number)
        return x

    with pytest.raises(SyntaxFault, match="print"):
        batch_graph(graph_of(shows, X), (True,), 4)


def test_a_graph_that_calls_itself():
    """The sum of sin over x, x - 1, ... while positive: each lane as deep as it goes."""
    with Builder("f") as b:
        x = b.input(X, "x")
        f = Graph.declare("f", b.inputs, X)
        more = graph_of(lambda x: elementwise.sin(x) + control.call(x - 1.0, graph=f), X)
        done = graph_of(lambda x: x * 0.0, X, name="done")
        f.define(b.body, control.cond(arith.greater(x, 0.0), x, then=more, orelse=done))
    stacks(f, (True,), [np.array([4.0, -3.0, 1.5])], 3)


@pytest.mark.parametrize("own", choices(2))
def test_a_rule_for_the_gradient_holds_in_lanes(own):
    """bwd gives ten times the gradient; of what lanes share, the sum over them."""
    g = graph_of(lambda x, y: x * y, X, X, name="product")
    bwd = graph_of(lambda x, y, z, dz: control.tuple(dz * y * 10.0, dz * x * 10.0), X, X, X, X)
    graph = graph_of(lambda x, y: control.call(x, y, graph=g, bwd=bwd, wrt=(0, 1)), X, X)
    arrays = [POINTS if has else np.asarray(3.0) for has in own]
    stacks(graph, own, arrays, 4)
    lanes = batch_graph(graph, own, 4).graph
    _, *found = interpret(value_and_grad_graph(lanes, (0, 1)), *arrays)
    for i, has in enumerate(own):
        other = np.broadcast_to(arrays[1 - i], 4) * 10.0
        np.testing.assert_allclose(found[i], other if has else other.sum())
    stacks(value_and_grad_graph(graph, (0, 1)), own, arrays, 4)


# -- many lanes in step ----------------------------------------------------------------------------

def costly(x, y, n):
    """A state of a number and a pair; n rounds, or until x is large."""
    pair = TensorType(f64, (2,))
    types = [INT, X, pair, INT]
    test = graph_of(lambda i, x, y, n: elementwise.bit_and(
        arith.less(i, n), arith.less(x, 50.0)), *types)
    body = graph_of(lambda i, x, y, n: control.tuple(
        i + 1, x + elementwise.exp(elementwise.sin(x)), elementwise.sin(y) + y), *types)
    both = control.while_(0, x, y, n, test=test, body=body)
    return control.tuple(*(control.item(both, index=i) for i in range(3)))


def one_number(x):
    return control.while_(x, test=graph_of(lambda x: arith.greater(x, 1.0), X),
                          body=graph_of(lambda x: elementwise.sqrt(x) - 0.1, X))


@pytest.mark.parametrize("own", choices(3))
@pytest.mark.parametrize("n", [64, 100])
def test_lanes_take_seats(own, n, monkeypatch):
    monkeypatch.setattr(lane_pool, "SEATS", 16)
    rng = np.random.default_rng(n)
    operands = [rng.uniform(0, 9, n), rng.normal(size=(n, 2)),
                np.exp(rng.uniform(0, 5, n)).astype(np.int64) - 1]
    graph = graph_of(costly, X, TensorType(f64, (2,)), INT)
    arrays = [x if has else x[0] for x, has in zip(operands, own, strict=True)]
    stacks(graph, own, arrays, n, rtol=1e-9)
    if own[2] or own[0]:
        made = batch_graph(graph, own, n).graph
        assert any(g.name.startswith("lanes.") for g in made.reachable())


def test_gradients_of_lanes_with_seats(monkeypatch):
    monkeypatch.setattr(lane_pool, "SEATS", 4)
    xs = np.random.default_rng(0).uniform(0.5, 1e6, 20)
    graph = graph_of(one_number, X)
    lanes = batch_graph(graph, (True,), 20).graph
    assert any(g.name.startswith("lanes.") for g in lanes.reachable())
    _, slopes = stacks(jvp_graph(graph, (0,), (0,)), (True, False), [xs, 1.0], 20)
    for made in (value_and_grad_graph(lanes, (0,)), jvp_graph(lanes, (0,), (0,))):
        more = [np.ones(20)] if len(made.inputs) > 1 else []
        np.testing.assert_allclose(interpret(made, xs, *more)[1], slopes, rtol=1e-9)


def test_products_of_lanes_with_seats():
    """Rows of lanes instead of one; the weights are shared."""
    t, w_type = TensorType(f64, (3,)), TensorType(f64, (3, 3))
    types = [INT, t, w_type, INT]
    test = graph_of(lambda i, x, w, n: arith.less(i, n), *types)
    body = graph_of(lambda i, x, w, n: control.tuple(i + 1, elementwise.tanh(contraction.dot(
        w, x, contract=((1,), (0,)), batch=((), ())))), *types)
    graph = graph_of(lambda x, w, n: control.item(control.while_(
        0, x, w, n, test=test, body=body), index=1), t, w_type, INT)
    rng = np.random.default_rng(0)
    n = np.exp(rng.uniform(0, 4, 70)).astype(np.int64)
    arrays = [rng.normal(size=(70, 3)), rng.normal(size=(3, 3)), n]
    stacks(graph, (True, False, True), arrays, 70, rtol=1e-9)
    made = batch_graph(graph, (True, False, True), 70).graph
    rounds = next(g for g in made.reachable() if g.name.startswith("lanes.round"))
    assert any(n.prim.name == "dot" and n.shape in ((8, 3), (3, 8)) for n in rounds.body)
