"""Functions that call themselves as often as data say: graph mode, eager mode and interpreter
agree, and so do gradients, to order 3, with central differences."""

import math

import numpy as np
import pytest

import cellc
from cellc import Parameter, Tensor, context, nn, ops
from cellc.errors import RecursionFault, SyntaxFault, TypeFault
from tests.lang.same import same_everywhere


@pytest.fixture(autouse=True)
def graph_mode():
    context.set_context(mode=context.GRAPH_MODE)


def factorial(n):
    if n <= 1:
        return 1
    return n * factorial(n - 1)


def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def even(n):
    if n == 0:
        return True
    return odd(n - 1)


def odd(n):
    if n == 0:
        return False
    return even(n - 1)


def ackermann(m, n):
    if m == 0:
        return n + 1
    if n == 0:
        return ackermann(m - 1, 1)
    return ackermann(m - 1, ackermann(m, n - 1))


def grown(x, depth=0):
    """The depth is known at each call, and another at each."""
    if x > 100.0:
        return x * depth
    return grown(x * 1.5, depth + 1)


def pair(x, n):
    """Two results, of which one is an int at the bottom and a float elsewhere."""
    if n == 0:
        return x, 0
    y, total = pair(x * 0.5, n - 1)
    return y + 1.0, total + y


@pytest.mark.parametrize("function, arguments", [
    (factorial, (10,)), (factorial, (0,)), (fibonacci, (15,)), (even, (10,)), (even, (7,)),
    (ackermann, (2, 3)), (grown, (1.0,)), (grown, (200.0,)), (pair, (3.0, 5))])
def test_values(function, arguments):
    expected = function(*arguments)
    found = cellc.jit(function)(*arguments)
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(expected, float), rtol=1e-12)


def sines(x, n):
    if n == 0:
        return x
    return ops.sin(sines(x, n - 1) * 1.1)


def power(x, n):
    """Two calls in one activation, of which one is a branch not taken."""
    if n == 0:
        return x * 0.0 + 1.0
    half = power(x, n // 2)
    return half * half * x if n % 2 == 1 else half * half


def central(f, x, h=1e-5):
    return (f(x + h) - f(x - h)) / (2 * h)


@pytest.mark.parametrize("function, x, n", [(sines, 0.5, 4), (power, 1.2, 7), (power, 0.8, 0)])
def test_gradients_to_order_three(function, x, n):
    f = function
    for _ in range(3):
        gradient = cellc.grad(f)
        np.testing.assert_allclose(
            gradient(x, n), central(lambda v, f=f: cellc.jit(f)(v, n), x), rtol=2e-5, atol=1e-6)
        f = gradient


class Tree(nn.Cell):
    """A method that calls itself, with a weight, on trees given as arrays of children."""

    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor(np.eye(3, dtype=np.float32) * 0.5), name="w")

    def node(self, i, left, right, x):
        if left[i] < 0:
            return ops.tanh(ops.matmul(self.w, x[i]))
        children = self.node(left[i], left, right, x) + self.node(right[i], left, right, x)
        return ops.tanh(ops.matmul(self.w, children + x[i]))

    def construct(self, left, right, x):
        return self.node(0, left, right, x).sum()


def test_a_tree_in_a_cell_and_its_gradients():
    left, right = (Tensor(np.array(a, np.int64)) for a in ([1, 3, -1, -1, -1], [2, 4, -1, -1, -1]))
    x = Tensor(np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32))
    net, found = Tree(), {}
    for mode in (context.GRAPH_MODE, context.PYNATIVE_MODE):
        context.set_context(mode=mode)
        value, (dx, dw) = cellc.value_and_grad(net, 2, weights=net.trainable_params())(
            left, right, x)
        found[mode] = [np.asarray(value), dx.asnumpy(), dw[0].asnumpy()]
    for a, b in zip(*found.values()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@same_everywhere((1.5, 3), (0.25, 6))
def test_a_nested_function_that_calls_itself(x, n):
    scale = x * 2

    def inner(k):
        if k <= 0:
            return scale
        return inner(k - 1) + x

    return inner(n)


def test_ten_thousand_levels_and_their_gradient():
    assert abs(cellc.jit(sines)(0.5, 10_000)) < 1
    assert np.isfinite(cellc.grad(sines)(0.5, 10_000))


def test_too_deep_is_an_error_and_nothing_is_lost():
    compiled, gradient = cellc.jit(sines), cellc.grad(sines)
    for _ in range(3):
        for call in (compiled, gradient):
            with pytest.raises(RecursionFault, match="deeper than the stack"):
                call(0.5, 10**8)
    assert np.isfinite(compiled(0.5, 100))


def endless(x):
    if x > 0:
        return endless(x + 1)
    return endless(x - 1)


def two_types(x, n):
    if n == 0:
        return x
    return ops.stack([two_types(x, n - 1), two_types(x, n - 1)])


def test_refusals():
    with pytest.raises(SyntaxFault, match="calls itself on every way"):
        cellc.jit(endless)(1.0)
    with pytest.raises(TypeFault):
        cellc.jit(two_types)(Tensor(np.ones(2, np.float32)), 2)


class ByMethod(nn.Cell):
    def construct(self, x, n):
        return self.deeper(x, n)

    def deeper(self, x, n):
        if n == 0:
            return x
        return 0.5 * ops.sin(self.deeper(x, n - 1)) + x


class ByItself(nn.Cell):
    def construct(self, x, n):
        if n == 0:
            return x
        return 0.5 * ops.sin(self(x, n - 1)) + x


@pytest.mark.parametrize("cell", [ByMethod, ByItself])
def test_a_method_and_a_cell_ten_thousand_deep(cell):
    value, slope = 0.7, 1.0
    for _ in range(10_000):
        value, slope = 0.5 * math.sin(value) + 0.7, 0.5 * math.cos(value) * slope + 1.0
    assert cell()(0.7, 10_000) == pytest.approx(value, rel=1e-12)
    assert cellc.grad(cell())(0.7, 10_000) == pytest.approx(slope, rel=1e-12)
