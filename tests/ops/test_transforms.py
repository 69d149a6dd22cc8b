"""jvp, vjp, linearize, jacfwd, jacrev, hessian and vmap, in both modes and in one another.

Each against what it means: central differences in f64, the identities between them, and one lane
after another.
"""

import itertools
import time
from dataclasses import dataclass

import mpmath
import numpy as np
import pytest

import cellc
from cellc import Parameter, Tensor, context, nn, ops
from cellc.errors import CellcError, ShapeFault, SyntaxFault, TypeFault, ValueFault

STEP = 1e-6


@pytest.fixture(params=["graph", "eager", "jit"])
def run(request):
    """How a function is called: compiled by mode, at once, or compiled by decorator."""
    context.set_context(mode=context.GRAPH_MODE if request.param == "graph"
                        else context.PYNATIVE_MODE)
    yield cellc.jit if request.param == "jit" else lambda function: function
    context.set_context(mode=context.PYNATIVE_MODE)


@pytest.fixture(params=["graph", "eager"])
def mode(request):
    context.set_context(mode=context.GRAPH_MODE if request.param == "graph"
                        else context.PYNATIVE_MODE)
    yield
    context.set_context(mode=context.PYNATIVE_MODE)


def draw(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).uniform(0.3, 1.5, shape))


W = Parameter(Tensor(np.random.default_rng(9).normal(size=(3, 2))), name="w")
WEIGHTS = Tensor(np.arange(1.0, 4.0))


def chain(x):
    return ops.tanh(x) * ops.exp(-x * x) + ops.sqrt(x)


def product(x, y):
    return ops.tanh(ops.matmul(x, y)) * 2.0


def normalized(x):
    return ops.softmax(x, -1) * ops.log(x)


def branches(x):
    if x.sum() > 3.0:
        return ops.sin(x) * x
    return ops.cos(x) / x


def several(x, y):
    return {"a": x * y, "b": (ops.sin(x).sum(), ops.cumsum(y, 0))}


def gathered(x):
    return x[1:] * x[0] + ops.gather(x, Tensor([2, 0]), 0)


def weighted(x):
    return ops.relu(ops.matmul(x, W) - 0.7) + WEIGHTS[:2]


def numbers(a, x):
    return a * x + a ** 3


FUNCTIONS = [
    (chain, (draw(3),)), (product, (draw(2, 3), draw(3, 2, seed=1))), (normalized, (draw(2, 3),)),
    (branches, (draw(3),)), (branches, (draw(3) * 3.0,)), (several, (draw(3), draw(3, seed=1))),
    (gathered, (draw(3),)), (weighted, (draw(4, 3),)), (numbers, (0.7, draw(3))),
]
IDS = [f"{f.__name__}-{i}" for i, (f, _) in enumerate(FUNCTIONS)]


def leaves(value):
    """The arrays of a result, in order."""
    if isinstance(value, dict):
        return [x for part in value.values() for x in leaves(part)]
    if isinstance(value, (tuple, list)):
        return [x for part in value for x in leaves(part)]
    return [np.asarray(value.asnumpy() if isinstance(value, Tensor) else value)]


def near(found, expected, rtol=1e-9, atol=1e-11):
    a, b = leaves(found), leaves(expected)
    assert [x.shape for x in a] == [x.shape for x in b]
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


def like(args, seed):
    """A direction: one random array or number for each argument."""
    rng = np.random.default_rng(seed)
    return tuple(float(rng.normal()) if isinstance(x, float) else Tensor(rng.normal(size=x.shape))
                 for x in args)


def dot(a, b):
    return sum(float(np.vdot(x, y)) for x, y in zip(leaves(a), leaves(b), strict=True))


def cotangent(value, seed):
    if isinstance(value, dict):
        return {key: cotangent(x, seed + i) for i, (key, x) in enumerate(value.items())}
    if isinstance(value, tuple):
        return tuple(cotangent(x, seed + 10 + i) for i, x in enumerate(value))
    return Tensor(np.random.default_rng(seed).normal(size=value.shape))


@pytest.mark.parametrize("f, args", FUNCTIONS, ids=IDS)
def test_jvp_is_the_slope(run, f, args):
    directions = like(args, 1)
    y, dy = run(lambda *xs: cellc.jvp(f, xs[:len(xs) // 2], xs[len(xs) // 2:]))(*args, *directions)
    near(y, f(*args), rtol=1e-12)
    plus, minus = (leaves(f(*(x + h * d for x, d in zip(args, directions)))) for h in (STEP, -STEP))
    expected = [(p - m) / (2 * STEP) for p, m in zip(plus, minus)]
    near(leaves(dy), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("f, args", FUNCTIONS, ids=IDS)
def test_the_pullback_is_the_transpose(run, f, args):
    """<u, J v> = <J' u, v>, for vjp, jvp and linearize; the linear functions can be repeated."""
    v = like(args, 2)
    y = f(*args)
    u = cotangent(y, 3)

    def both(args, v, u):
        y, pullback = cellc.vjp(f, *args)
        z, derivative = cellc.linearize(f, *args)
        return y, pullback(u), pullback(u), z, derivative(*v), derivative(*v)

    first, back, again, second, along, once_more = run(both)(args, v, u)
    near(first, y, rtol=1e-12), near(second, y, rtol=1e-12)
    near(back, again, rtol=0), near(along, once_more, rtol=0)
    near(along, run(lambda xs, dxs: cellc.jvp(f, xs, dxs))(args, v)[1])
    np.testing.assert_allclose(dot(u, along), dot(back, v), rtol=1e-9)


@pytest.mark.parametrize("f, args", FUNCTIONS, ids=IDS)
def test_jacobians_agree(run, f, args):
    by = tuple(range(len(args)))
    forward = run(lambda *xs: cellc.jacfwd(f, argnums=by)(*xs))(*args)
    backward = run(lambda *xs: cellc.jacrev(f, argnums=by)(*xs))(*args)
    near(forward, backward)
    v = like(args, 4)
    parts = iter(leaves(forward))
    for dy in leaves(cellc.jvp(f, args, v)[1]):
        found = sum(np.tensordot(j, d, d.ndim) for j, d in (
            (next(parts), np.asarray(d)) for d in leaves(v)))
        np.testing.assert_allclose(found, dy, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("f, args", FUNCTIONS, ids=IDS)
def test_vmap_is_one_lane_after_another(run, f, args):
    n = 4
    axes = tuple(None if isinstance(x, float) else 0 for x in args)
    stacked = [x if axis is None else Tensor(np.stack([x.asnumpy() * (0.5 + i) for i in range(n)]))
               for x, axis in zip(args, axes)]
    found = run(lambda *xs: cellc.vmap(f, axes)(*xs))(*stacked)
    each = [leaves(f(*(x if axis is None else x[i] for x, axis in zip(stacked, axes))))
            for i in range(n)]
    near(leaves(found), [np.stack(column) for column in zip(*each)], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("f", [chain, branches, normalized, gathered])
def test_the_hessian_is_symmetric_and_the_slope_of_the_gradient(run, f):
    def total(x):
        return f(x).sum()

    x = draw(3)
    found = run(lambda x: cellc.hessian(total)(x))(x).asnumpy()
    np.testing.assert_allclose(found, found.T, rtol=1e-9, atol=1e-12)
    v = np.random.default_rng(5).normal(size=3)
    plus, minus = (cellc.grad(total)(Tensor(x.asnumpy() + h * v)).asnumpy()
                   for h in (1e-5, -1e-5))
    np.testing.assert_allclose(found @ v, (plus - minus) / 2e-5, rtol=1e-6, atol=1e-8)
    other = run(lambda x: cellc.jacrev(cellc.jacfwd(total))(x))(x)
    np.testing.assert_allclose(other.asnumpy(), found, rtol=1e-9, atol=1e-12)


# -- in one another --------------------------------------------------------------------------------

def by_grad(f):
    return cellc.grad(f)


def by_jvp(f):
    return lambda x: cellc.jvp(f, (x,), (1.0,))[1]


def by_vjp(f):
    return lambda x: cellc.vjp(f, x)[1](1.0)[0]


def by_linearize(f):
    return lambda x: cellc.linearize(f, x)[1](1.0)


def by_jacfwd(f):
    return cellc.jacfwd(f)


def by_jacrev(f):
    return cellc.jacrev(f)


def by_lanes(f):
    """The gradient of a sum over lanes, of which there is one."""
    def one(x):
        return cellc.vmap(f)(ops.reshape(ops.stack([x]), (1,)))[0]
    return cellc.grad(one)


def by_lanes_of_slopes(f):
    def slopes(x):
        return cellc.vmap(cellc.grad(f))(ops.stack([x, x]))[1]
    return slopes


WAYS = [by_grad, by_jvp, by_vjp, by_linearize, by_jacfwd, by_jacrev, by_lanes, by_lanes_of_slopes]


def curve(x):
    """Its two pieces meet at 0, which nobody asks about."""
    if x > 0.0:
        return ops.sin(x) * ops.exp(x * 0.5)
    return x * x * x - ops.cos(x)


def reference(x):
    return mpmath.sin(x) * mpmath.exp(x * 0.5) if x > 0 else x ** 3 - mpmath.cos(x)


def number(x):
    return float(x.asnumpy() if isinstance(x, Tensor) else x)


@pytest.mark.parametrize("ways", list(itertools.product(WAYS, WAYS)),
                         ids=lambda ways: "-".join(way.__name__[3:] for way in ways))
def test_every_derivative_of_every_derivative(mode, ways):
    inner, outer = ways
    for at in (0.7, -0.4):
        found = outer(inner(curve))(Tensor(np.float64(at)))
        assert number(found) == pytest.approx(float(mpmath.diff(reference, at, 2)), rel=1e-8)


@pytest.mark.parametrize("ways", [
    (by_grad, by_jvp, by_lanes), (by_jvp, by_lanes_of_slopes, by_grad),
    (by_linearize, by_vjp, by_linearize), (by_lanes, by_lanes, by_lanes),
    (by_jacfwd, by_grad, by_jvp), (by_lanes_of_slopes, by_jacrev, by_vjp),
    (by_vjp, by_linearize, by_grad), (by_jvp, by_jvp, by_jvp)],
    ids=lambda ways: "-".join(way.__name__[3:] for way in ways))
def test_three_deep(run, ways):
    a, b, c = ways
    for at in (0.7, -0.4):
        found = run(lambda x: c(b(a(curve)))(x))(Tensor(np.float64(at)))
        assert number(found) == pytest.approx(float(mpmath.diff(reference, at, 3)), rel=1e-7)


def test_an_outer_variable_is_differentiated_too(run):
    """The derivative by x of (the derivative by y of x y^2 at y = x) is d(2 x x)/dx."""
    def f(x):
        return cellc.jvp(lambda y: x * y * y, (x,), (1.0,))[1]

    assert number(run(lambda x: cellc.grad(f)(x))(3.0)) == pytest.approx(12.0)

    def g(x):
        return cellc.vjp(lambda y: x * y * y, x)[1](1.0)[0]

    assert number(run(lambda x: cellc.jvp(g, (x,), (1.0,))[1])(3.0)) == pytest.approx(12.0)


# -- linear functions as values --------------------------------------------------------------------

def test_a_linear_function_leaves_the_compiled_call(run):
    """What vjp and linearize return inside can be called outside."""
    def step(x):
        return cellc.vjp(chain, x), cellc.linearize(chain, x)

    compiled = run(step)
    for scale in (1.0, 2.0):
        x, v = draw(3) * scale, draw(3, seed=5)
        (y, pullback), (z, derivative) = compiled(x)
        near(y, chain(x)), near(z, y)
        near(pullback(v)[0], cellc.grad(chain)(x) * v)
        near(derivative(v), cellc.grad(chain)(x) * v)


def test_a_pullback_by_weights(run):
    net = nn.Dense(3, 2)
    net.weight.set_data(Tensor(np.float32([[1, 2, 3], [4, 5, 6]])))
    x = Tensor(np.float32([[1, 0, 2]]))

    def f(x, u):
        y, pullback = cellc.vjp(net, x, weights=net.trainable_params())
        return pullback(u)

    (dx,), (dw, db) = run(f)(x, Tensor(np.float32([[1, 10]])))
    assert dx.asnumpy().tolist() == [[41, 52, 63]]
    assert dw.asnumpy().tolist() == [[1, 0, 2], [10, 0, 20]] and db.asnumpy().tolist() == [1, 10]


def test_aux_is_handed_on(run):
    def f(x):
        return (x * x).sum(), x + 1.0

    x = draw(3)
    value, tangent, aux = run(lambda x: cellc.jvp(f, (x,), (x,), has_aux=True))(x)
    near((value, aux), f(x)), near(tangent, (x * x * 2.0).sum())

    def inside(x):
        y, pullback, aux = cellc.vjp(f, x, has_aux=True)
        return y, pullback(1.0), aux

    value, (dx,), aux = run(inside)(x)
    near((value, aux), f(x)), near(dx, x * 2.0)
    for jacobian in (cellc.jacfwd, cellc.jacrev):
        near(run(lambda x, j=jacobian: j(f, has_aux=True)(x))(x), (x * 2.0, x + 1.0))
    second, aux = run(lambda x: cellc.hessian(f, has_aux=True)(x))(x)
    near(second, 2.0 * np.eye(3)), near(aux, x + 1.0)


# -- MindSpore's ways of calling -------------------------------------------------------------------

def cube_and(x, y):
    return x ** 3 + y


def test_mindspore_examples(run):
    x = Tensor(np.array([[1, 2], [3, 4]], np.float32))
    v = Tensor(np.ones((2, 2), np.float32))
    output, along = run(lambda x, v: cellc.jvp(cube_and, (x, x), (v, v)))(x, v)
    assert output.asnumpy().tolist() == [[2, 10], [30, 68]]
    assert along.asnumpy().tolist() == [[4, 13], [28, 49]]
    output, along = run(lambda x, v: cellc.jvp(ops.square, x, v))(x, v)
    assert along.asnumpy().tolist() == [[2, 4], [6, 8]]

    def tangents_in_a_tuple(x, v):
        y, derivative = cellc.linearize(cube_and, (x, x))
        return derivative((v, v))

    assert run(tangents_in_a_tuple)(x, v).asnumpy().tolist() == [[4, 13], [28, 49]]

    def cotangents_as_arguments(x, v):
        y, pullback = cellc.vjp(lambda a, b: (2 * a + b, b ** 3), x, x)
        return pullback(v, v)

    dx, dy = run(cotangents_as_arguments)(x, v)
    assert dx.asnumpy().tolist() == [[2, 2], [2, 2]]
    assert dy.asnumpy().tolist() == [[4, 13], [28, 49]]


# -- structures, integers, numbers -----------------------------------------------------------------

def test_structures(run):
    def f(p, n):
        return {"sum": p["a"] * p["b"][0] * n, "n": n, "none": None}

    p = {"a": draw(2), "b": [draw(2, seed=1), 3.0]}
    dp = {"a": Tensor(np.ones(2)), "b": [None, None]}
    y, dy = run(lambda p, d: cellc.jvp(f, (p, 2), (d, None)))(p, dp)
    near(dy["sum"], p["b"][0] * 2.0)
    assert dy["n"] == 0 and dy["none"] is None and y["none"] is None

    def g(p):
        return cellc.vjp(lambda p: f(p, 2)["sum"], p)[1](1.0)[0]

    found = run(g)(p)
    near(found["a"], p["b"][0] * 2.0)
    assert number(found["b"][1]) == 0.0


def test_a_result_that_does_not_depend(run):
    x = draw(3)
    y, dy = run(lambda x: cellc.jvp(lambda x: (WEIGHTS, 2.0), (x,), (x,)))(x)
    near(dy, (np.zeros(3), 0.0))
    (dx,) = run(lambda x: cellc.vjp(lambda x: WEIGHTS * 2.0, x)[1](WEIGHTS))(x)
    near(dx, np.zeros(3))
    near(run(lambda x: cellc.linearize(lambda x: WEIGHTS * 1.0, x)[1](x))(x), np.zeros(3))
    near(run(lambda x: cellc.jacfwd(lambda x: WEIGHTS * 1.0)(x))(x), np.zeros((3, 3)))


def test_a_number_by_a_number_is_a_number(run):
    for jacobian in (cellc.jacfwd, cellc.jacrev):
        found = run(lambda a, j=jacobian: j(lambda a: a * a)(a))(3.0)
        assert isinstance(found, float) and found == 6.0
    found = run(lambda a: cellc.hessian(lambda a: a ** 3)(a))(2.0)
    assert isinstance(found, float) and found == pytest.approx(12.0)
    assert run(lambda a, x: cellc.jacfwd(numbers)(a, x))(0.5, draw(3)).shape == (3,)
    assert run(lambda a, x: cellc.jacrev(numbers, argnums=(0, 1))(a, x))(0.5, draw(3))[1].shape == (
        3, 3)


# -- lanes -----------------------------------------------------------------------------------------

def test_axes_in_and_out(run):
    a, b = draw(3, 4), draw(4, 5, seed=1)
    expected = a.asnumpy() @ b.asnumpy()
    rows = run(lambda a, b: cellc.vmap(ops.matmul, (0, None))(a, b))(a, b)
    near(rows, expected)
    columns = run(lambda a, b: cellc.vmap(ops.matmul, in_axes=(None, 1), out_axes=1)(a, b))(a, b)
    near(columns, expected)
    both = run(lambda a, b: cellc.vmap(cellc.vmap(ops.dot, (None, 1)), (0, None))(a, b))(a, b)
    near(both, expected)
    last = run(lambda a, b: cellc.vmap(ops.matmul, in_axes=(None, -1), out_axes=-1)(a, b))(a, b)
    near(last, expected)


def test_axes_of_structures(run):
    def f(p, s):
        return p["x"] * s[0] + p["c"], s[1]

    p = {"x": draw(5, 3), "c": draw(3, seed=2)}
    s = (draw(3, 5, seed=3), 2.0)

    def mapped(p, s):
        return cellc.vmap(f, in_axes=({"x": 0, "c": None}, (1, None)), out_axes=(1, None))(p, s)

    y, two = run(mapped)(p, s)
    near(y, (p["x"].asnumpy() * s[0].asnumpy().T + p["c"].asnumpy()).T)
    assert two == 2.0


def test_results_that_lanes_share(run):
    def f(x):
        return x.sum(), 3, WEIGHTS, None

    y, n, w, none = run(lambda x: cellc.vmap(f)(x))(draw(4, 2))
    assert y.shape == (4,) and n.asnumpy().tolist() == [3] * 4 and w.shape == (4, 3)
    assert none is None and n.dtype is cellc.int64


def test_axis_size(run):
    y = run(lambda x: cellc.vmap(lambda x: x * 2.0, in_axes=None, axis_size=3)(x))(draw(2))
    assert y.shape == (3, 2)


def test_branches_of_each_lane(run):
    """The lanes that a branch is not for cannot fail in it, nor make the gradient a NaN."""
    table = Tensor(np.arange(4.0))

    def f(x, i):
        if i < 4:
            return table[i] * ops.sqrt(x)
        elif x > 2.0:
            return x / (x - 2.0)
        return -x

    x, i = Tensor(np.array([1.0, 4.0, 0.5, 3.0, 2.0])), Tensor(np.array([3, 2, 7, 9, 4]))
    each = [f(x[k], i[k]) for k in range(5)]
    near(run(lambda x, i: cellc.vmap(f)(x, i))(x, i), ops.stack(each))
    slopes = [cellc.grad(f)(x[k], i[k]) for k in range(5)]
    near(run(lambda x, i: cellc.vmap(cellc.grad(f))(x, i))(x, i), ops.stack(slopes))
    found = run(lambda x, i: cellc.grad(lambda x: cellc.vmap(f)(x, i).sum())(x))(x, i)
    near(found, ops.stack(slopes))


def test_a_cell_in_lanes(run):
    net = nn.Dense(3, 2)
    xs = Tensor(np.float32(np.random.default_rng(0).normal(size=(5, 3))))
    near(run(lambda xs: cellc.vmap(net)(xs))(xs), net(xs), rtol=1e-5, atol=1e-6)

    def example(x):
        return (net(x) ** 2).sum()

    def per_example(xs):
        return cellc.vmap(cellc.grad(example, None, net.trainable_params()))(xs)

    dw, db = run(per_example)(xs)
    assert dw.shape == (5, 2, 3)
    whole = cellc.grad(lambda: (net(xs) ** 2).sum(), None, net.trainable_params())()
    near((dw.sum(0), db.sum(0)), whole, rtol=1e-4, atol=1e-5)


def test_lanes_draw_independent_numbers_and_the_same_in_both_modes():
    def f(x):
        return x + ops.rand(2, 3, dtype=cellc.float64)

    found = {}
    for mode in (context.GRAPH_MODE, context.PYNATIVE_MODE):
        context.set_context(mode=mode)
        cellc.set_seed(3)
        found[mode] = [cellc.vmap(f)(Tensor(np.zeros(4))).asnumpy(),
                       cellc.vmap(f)(Tensor(np.zeros(4))).asnumpy(),
                       ops.rand(3).asnumpy()]
    first, second, _ = found[context.GRAPH_MODE]
    assert len(np.unique(np.stack([first, second]))) == 48
    for a, b in zip(*found.values(), strict=True):
        np.testing.assert_array_equal(a, b)


# -- errors ----------------------------------------------------------------------------------------

A2, A23, A32 = draw(2), draw(2, 3), draw(3, 2)


def assigns(x):
    ops.assign(W, W * 2.0)
    return x


@pytest.mark.parametrize("call, fault, text", [
    (lambda x: cellc.jvp(chain, (x,), (x, x)), TypeFault, "the tangent is"),
    (lambda x: cellc.jvp(chain, (Tensor([1, 2]),), (x,)), TypeFault, "type i64"),
    (lambda x: cellc.jvp(chain, (x,), (A2,)), ShapeFault, "does not broadcast"),
    (lambda x: cellc.vjp(several, x, x)[1](x), TypeFault, "dict with keys 'a', 'b'"),
    (lambda x: cellc.jvp(chain, (x,), (x,), has_aux=True), TypeFault, "has_aux"),
    (lambda x: cellc.jacfwd(chain)(Tensor([1, 2])), TypeFault, "i64"),
    (lambda x: cellc.jacfwd(chain, argnums=1)(x), TypeFault, "argument 1"),
    (lambda x: cellc.vmap(product)(A23, A32), ShapeFault, "over 2 lanes, and over 3"),
    (lambda x: cellc.vmap(chain, 1)(x), ShapeFault, r"in_axes 1 for f64\[3\]"),
    (lambda x: cellc.vmap(chain, None)(x), TypeFault, "no argument has lanes"),
    (lambda x: cellc.vmap(product, (0,))(x, x), TypeFault, "in_axes"),
    (lambda x: cellc.vmap(numbers)(2.0, x), TypeFault, "no axes"),
    (lambda x: cellc.vmap(chain, 0, None)(x), TypeFault, "differs between the lanes"),
    (lambda x: cellc.vmap(chain, 0, 1)(x), ShapeFault, "out_axes 1"),
    (lambda x: cellc.vmap(chain, "0")(x), TypeFault, "expected an int or None"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_refusals(run, call, fault, text):
    with pytest.raises(fault, match=text):
        run(call)(draw(3))


def test_what_compiled_lanes_cannot_do():
    jitted = cellc.jit(lambda x: cellc.vmap(assigns)(x))
    with pytest.raises(SyntaxFault, match="assigns the Parameter w"):
        jitted(draw(3))


def test_refused_before_the_call():
    for make in (cellc.vmap, cellc.jacfwd, cellc.jacrev, cellc.hessian):
        with pytest.raises(CellcError, match="expected a function or a cell"):
            make(3)
    with pytest.raises(TypeFault):
        cellc.jvp(3, (1.0,), (1.0,))


# -- loops that depend on data ---------------------------------------------------------------------

def newton(a):
    """The square root, in as many rounds as it takes."""
    x = a
    while ops.abs(x * x - a) > 1e-13 * a:
        x = 0.5 * (x + a / x)
    return x


def collatz(n):
    rounds = 0
    while n > 1:
        if n % 2 == 0:
            n = n // 2
        else:
            n = 3 * n + 1
        rounds = rounds + 1
    return rounds


def power(x, n):
    y = ops.ones_like(x)
    for _ in range(n):
        y = y * ops.sin(x)
    return y


A = Tensor(np.array([0.5, 2.0, 9.0, 1e6]))


def test_lanes_leave_a_loop_when_they_are_done(run):
    near(run(lambda a: cellc.vmap(newton)(a))(A), np.sqrt(A.asnumpy()), rtol=1e-12)
    found = run(lambda n: cellc.vmap(collatz)(n))(Tensor(np.array([1, 2, 27, 7, 97])))
    assert found.asnumpy().tolist() == [0, 1, 111, 16, 118]


def test_tangents_of_loops(run):
    y, dy = run(lambda a: cellc.jvp(newton, (a,), (1.0,)))(A[2])
    assert number(y) == pytest.approx(3.0) and number(dy) == pytest.approx(1 / 6)
    slopes = run(lambda a: cellc.vmap(lambda a: cellc.jvp(newton, (a,), (1.0,))[1])(a))(A)
    near(slopes, 0.5 / np.sqrt(A.asnumpy()), rtol=1e-9)
    near(run(lambda a: cellc.jvp(cellc.vmap(newton), (a,), (np.ones(4),)))(A)[1], slopes)
    near(run(lambda a: cellc.jacfwd(cellc.vmap(newton))(a))(A), np.diag(slopes.asnumpy()))
    second = run(lambda a: cellc.jvp(lambda a: cellc.jvp(newton, (a,), (1.0,))[1], (a,), (1.0,)))(
        A[1])[1]
    assert number(second) == pytest.approx(-0.25 * 2.0 ** -1.5, rel=1e-7)


def nested(x, n):
    """sin(sin(... x) x) x, n deep."""
    if n < 1:
        return x
    return ops.sin(nested(x, n - 1)) * x


def test_recursion(run):
    x, n = Tensor(np.array([0.5, 0.9, 1.4])), Tensor(np.array([3, 0, 2]))
    values = [nested(float(a), int(k)) for a, k in zip(x.asnumpy(), n.asnumpy())]
    slopes = [cellc.grad(nested)(float(a), int(k)) for a, k in zip(x.asnumpy(), n.asnumpy())]
    near(run(lambda x, n: cellc.vmap(nested)(x, n))(x, n), np.array(values))
    near(run(lambda x, n: cellc.vmap(cellc.grad(nested))(x, n))(x, n), np.array(slopes))
    same_depth = [cellc.grad(nested)(float(a), 3) for a in x.asnumpy()]
    near(run(lambda x, n: cellc.vmap(cellc.grad(nested), (0, None))(x, n))(x, n[0]),
         np.array(same_depth))
    near(run(lambda x, n: cellc.jvp(nested, (x, n), (1.0, None))[1])(x, n[0]),
         np.array(same_depth))
    near(run(lambda x, n: cellc.linearize(nested, x, n)[1](1.0, None))(x, n[0]),
         np.array(same_depth))


def test_a_count_that_is_an_argument(run):
    x = draw(3)
    y, dy = run(lambda x, n: cellc.jvp(power, (x, n), (x, None)))(x, 4)
    s, c = np.sin(x.asnumpy()), np.cos(x.asnumpy())
    near((y, dy), (s ** 4, 4 * s ** 3 * c * x.asnumpy()))
    rows = run(lambda x, n: cellc.vmap(power, (None, 0))(x, n))(x, Tensor(np.array([0, 3, 1])))
    near(rows, np.stack([s ** 0, s ** 3, s]))
    lin = run(lambda x, n: cellc.linearize(power, x, n)[1](x, None))(x, 4)
    near(lin, dy)


def test_gradients_of_loops_in_lanes_and_lanes_of_their_gradients(run):
    expected = 0.5 / np.sqrt(A.asnumpy())
    near(run(lambda a: cellc.vmap(cellc.grad(newton))(a))(A), expected, rtol=1e-9)
    near(run(lambda a: cellc.grad(lambda a: cellc.vmap(newton)(a).sum())(a))(A), expected,
         rtol=1e-9)
    near(run(lambda a: cellc.vmap(cellc.grad(cellc.grad(newton)))(a))(A),
         -0.25 * A.asnumpy() ** -1.5, rtol=1e-6)
    near(run(lambda a: cellc.hessian(lambda a: cellc.vmap(newton)(a).sum())(a))(A[:3]),
         np.diag(-0.25 * A.asnumpy()[:3] ** -1.5), rtol=1e-6)
    found = run(lambda a: cellc.jvp(cellc.grad(newton), (a,), (1.0,))[1])(A[1])
    assert number(found) == pytest.approx(-0.25 * 2.0 ** -1.5, rel=1e-7)
    found = run(lambda a: cellc.grad(lambda a: cellc.jvp(newton, (a,), (1.0,))[1])(a))(A[1])
    assert number(found) == pytest.approx(-0.25 * 2.0 ** -1.5, rel=1e-7)


def test_a_pullback_through_a_loop_can_be_repeated(run):
    def both(a, n):
        y, pullback = cellc.vjp(power, a, n)
        return pullback(a)[0], pullback(a * 2.0)[0]

    x = draw(3)
    slope = 4 * np.sin(x.asnumpy()) ** 3 * np.cos(x.asnumpy()) * x.asnumpy()
    near(run(both)(x, 4), (slope, 2 * slope))
    near(run(lambda x, n: cellc.jacrev(power)(x, n))(x, 4), run(
        lambda x, n: cellc.jacfwd(power)(x, n))(x, 4))


@pytest.mark.parametrize("f", [chain, newton, collatz, normalized, branches])
def test_any_number_of_lanes(f):
    """After a few sizes one program is made for all."""
    mapped = cellc.jit(lambda x: cellc.vmap(f)(x))
    for n in (2, 3, 4, 5, 700, 7):
        if f is collatz:
            x = Tensor(np.arange(1, n + 1))
        else:
            x = draw(n, seed=n) if f is newton else draw(n, 3, seed=n)
        near(mapped(x), ops.stack([cellc.ops.stack([f(row)])[0] for row in x]) if f is not collatz
             else np.array([f(int(k)) for k in x.asnumpy()]))


def slow(x, n):
    for _ in range(n):
        x = ops.sin(x) + 0.5
    return x


def test_a_thousand_lanes():
    a = Tensor(np.random.default_rng(0).uniform(0.1, 1e4, 1000))
    near(cellc.jit(lambda a: cellc.vmap(newton)(a))(a), np.sqrt(a.asnumpy()), rtol=1e-11)
    near(cellc.jit(lambda a: cellc.vmap(cellc.grad(newton))(a))(a), 0.5 / np.sqrt(a.asnumpy()),
         rtol=1e-8)


def test_lanes_cost_the_sum_of_their_rounds():
    """One lane of a million rounds among 20000 of one: in step they would be 2e10 rounds."""
    many = np.ones(20_000, np.int64)
    many[7] = 1_000_000
    alone, lanes = cellc.jit(slow), cellc.jit(lambda x, n: cellc.vmap(slow)(x, n))
    x = Tensor(np.zeros(20_000))
    expected = alone(x[7], 1_000_000), lanes(x, Tensor(many))[7]
    near(*expected)
    seconds = []
    for call in (lambda: alone(x[7], 1_000_000), lambda: lanes(x, Tensor(many))):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    assert seconds[1] < 30 * seconds[0]


def test_an_eager_gradient_through_a_compiled_pullback_is_refused():
    context.set_context(mode=context.PYNATIVE_MODE)
    _, pullback = cellc.jit(lambda x: cellc.vjp(chain, x))(draw(3))
    near(pullback(draw(3)), (cellc.grad(chain)(draw(3)) * draw(3),))
    with pytest.raises(ValueFault, match="which a compiled call returned"):
        cellc.grad(lambda v: pullback(v)[0].sum())(draw(3))


def filled(x, n):
    """Element assignment in a loop: y[i] = x^i; more elements than are compared one by one."""
    y = ops.zeros(40, cellc.float64)
    power = ops.ones_like(x)
    for i in range(n):
        y[i] = power
        power = power * x
    return y


def test_elements_assigned_in_a_loop(run):
    x, n = Tensor(np.array([0.5, 1.5])), Tensor(np.array([3, 2]))
    each = np.stack([[v ** i if i < k else 0 for i in range(40)] for v, k in ((0.5, 3), (1.5, 2))])
    near(run(lambda x, n: cellc.vmap(filled)(x, n))(x, n), each)
    near(run(lambda x, n: cellc.vmap(filled, (0, None))(x, n))(x, n[0])[0], each[0])
    slopes = np.stack([[i * v ** (i - 1) if 0 < i < k else 0 for i in range(40)]
                       for v, k in ((0.5, 3), (1.5, 2))])
    near(run(lambda x, n: cellc.vmap(cellc.jacfwd(filled))(x, n))(x, n), slopes)
    near(run(lambda x, n: cellc.vmap(cellc.grad(lambda x, n: filled(x, n).sum()))(x, n))(x, n),
         slopes.sum(1))
    near(run(lambda x, n: cellc.grad(
        lambda x: cellc.vmap(filled, (0, None))(x, n).sum())(x))(x, n[0]),
        np.array([1 + 2 * 0.5, 1 + 2 * 1.5]))


# -- along a curve ---------------------------------------------------------------------------------

def exp_sin(x):
    return ops.exp(ops.sin(x))


def test_mindspore_examples_of_higher_order(run):
    x = Tensor(np.array([[1, 2], [3, 4]], np.float32))
    ones, none = np.ones((2, 2)), np.zeros((2, 2))
    series = Tensor(np.float32(np.stack([ones, none, none])))
    expected = np.array([[[1.2533808, -1.0331168], [-1.1400385, -0.3066662]],
                         [[-1.2748207, -1.8274734], [0.966121, 0.55551505]],
                         [[-4.0515366, 3.6724353], [0.5053504, -0.52061415]]])
    y, found = run(lambda x, s: ops.jet(exp_sin, x, s))(x, series)
    near(y, np.exp(np.sin(x.asnumpy())), rtol=1e-6)
    near(found, expected, rtol=2e-5)
    y, found = run(lambda x: ops.derivative(exp_sin, x, 3))(x)
    near(found, expected[2], rtol=2e-5)


def bent(x, y):
    """A branch, so that fn is read and not only run."""
    if x.sum() > 0.0:
        return x * y, x
    return y, y


def test_jets_of_several_arguments(run):
    """x(t) = 1 + 2 t + 3 t^2 / 2, y(t) = 4 + 5 t + 6 t^2 / 2."""
    x, y = Tensor(np.array([1.0])), Tensor(np.array([4.0]))
    s, r = Tensor(np.array([[2.0], [3.0]])), Tensor(np.array([[5.0], [6.0]]))
    (value, same), (found, own) = run(lambda *a: ops.jet(bent, a[:2], a[2:]))(x, y, s, r)
    near(value, 4.0 * np.ones(1)), near(same, x), near(own, s)
    near(found, np.array([[2 * 4 + 5.0], [3 * 4 + 2 * 2 * 5 + 6.0]]))
    assert run(lambda a: ops.derivative(ops.sin, a, 3))(0.0) == (0.0, -1.0)


def test_jets_refuse():
    with pytest.raises(ValueFault, match="order 0"):
        ops.derivative(ops.sin, 1.0, 0)
    with pytest.raises(ShapeFault, match="expected .orders, 3."):
        ops.jet(ops.sin, draw(3), draw(3))


def test_another_pullback_of_one_program_compiles_nothing(monkeypatch):
    from cellc import compile

    context.set_context(mode=context.GRAPH_MODE)
    basis = Tensor(np.eye(3))
    try:
        def rows(x):
            y, pullback = cellc.vjp(chain, x)
            return pullback(y)[0], cellc.vmap(pullback)(basis)[0]

        rows(draw(3))
        monkeypatch.setattr(compile, "build", None)
        x = draw(3, seed=5)
        found = rows(x)
    finally:
        context.set_context(mode=context.PYNATIVE_MODE)
    slopes = cellc.grad(chain)(x)
    near(found, (slopes * chain(x), np.diag(slopes.asnumpy())))


def frugal(x, n):
    return cellc.recompute(power, x, n, checkpoint="log")


def test_loops_that_keep_few_of_their_states(run):
    """checkpoint='log' says how a gradient saves memory, whatever else is made of the loop."""
    x = draw(3)
    s, c = np.sin(x.asnumpy()), np.cos(x.asnumpy())
    slope, second = 4 * s ** 3 * c, 12 * s ** 2 * c ** 2 - 4 * s ** 4
    near(run(lambda x, n: cellc.jvp(frugal, (x, n), (x, None))[1])(x, 4), slope * x.asnumpy())
    near(run(lambda x, n: cellc.vjp(frugal, x, n)[1](x)[0])(x, 4), slope * x.asnumpy())
    near(run(lambda x, n: cellc.linearize(frugal, x, n)[1](x, None))(x, 4), slope * x.asnumpy())
    for axes, m in (((0, None), 4), ((0, 0), Tensor(np.array([4, 4, 4])))):
        found = run(lambda x, n, axes=axes: cellc.vmap(cellc.grad(frugal), axes)(x, n))(x, m)
        near(found, slope)
    near(run(lambda x, n: cellc.grad(lambda x: cellc.vmap(frugal, (0, None))(x, n).sum())(x))(
        x, 4), slope)
    found = run(lambda x, n: cellc.jvp(lambda x: cellc.grad(lambda x: frugal(x, n).sum())(x),
                                       (x,), (np.ones(3),))[1])(x, 4)
    near(found, second)


@dataclass
class Pair:
    first: Tensor
    second: object


def of_pair(p):
    return Pair(p.first * p.second, ops.sin(p.first))


def test_dataclasses(run):
    p = Pair(Tensor(np.array([1.0, 2.0])), Tensor(np.array([3.0, 4.0])))
    y = run(lambda p: cellc.vmap(of_pair)(p))(p)
    near((y.first, y.second), (np.array([3.0, 8.0]), np.sin([1.0, 2.0])))
    dp = Pair(p.second, None)
    _, dy = run(lambda p, dp: cellc.jvp(of_pair, (p,), (dp,)))(p, dp)
    near((dy.first, dy.second), (np.array([9.0, 16.0]), np.cos([1.0, 2.0]) * [3.0, 4.0]))
    (back,) = run(lambda p, ct: cellc.vjp(of_pair, p)[1](ct))(p, Pair(p.first, None))
    near((back.first, back.second), (np.array([3.0, 8.0]), np.array([1.0, 4.0])))
    with pytest.raises(TypeFault, match="the Pair it belongs to"):
        run(lambda p: cellc.jvp(of_pair, (p,), (p.first,)))(p)


def test_a_function_out_of_lanes_is_refused():
    with pytest.raises(TypeFault, match="is vmapped returns"):
        cellc.jit(lambda x: cellc.vmap(lambda x: cellc.vjp(chain, x)[1])(x))(draw(2, 3))


def test_numbers_become_what_they_are_for(run):
    """A Python number as cotangent or tangent takes the dtype of what it belongs to."""
    x = Tensor(np.float32(0.5))
    (dx,) = run(lambda x: cellc.vjp(ops.sin, x)[1](1.0))(x)
    dy = run(lambda x: cellc.jvp(ops.sin, (x,), (1,))[1])(x)
    assert dx.dtype is cellc.float32 and dy.dtype is cellc.float32
    slope = run(lambda x: cellc.GradOperation(sens_param=True)(ops.sin)(x, 2.0))(x)
    assert slope.dtype is cellc.float32
