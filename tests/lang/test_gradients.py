"""Gradients met by the parser: every way to ask for them, structures, states, nesting."""

import math

import numpy as np
import pytest
from same import assert_same, f32, interpreted, same_everywhere

import cellc
from cellc import GradOperation, Parameter, ParameterTuple, Tensor, grad, nn, ops, value_and_grad


@same_everywhere((f32(3),), 0.7)
def test_grad(x):
    return grad(lambda v: (ops.tanh(v) * v))(x)


def loss(x, w, k=2):
    y = ops.tanh(x @ w["a"]) + w["b"] * k
    return (y * y).sum()


@same_everywhere((f32(2, 3), f32(3, 2), f32(2)))
def test_structures_and_positions(x, a, b):
    w = {"a": a, "b": b}
    return (grad(loss, 1)(x, w), grad(loss, (0, 1))(x, w), value_and_grad(loss, 0)(x, w, k=3),
            grad(loss, argnums=(1,))(x, w))


@same_everywhere((f32(3),))
def test_aux(x):
    def f(v):
        y = v * v
        return y.sum(), y, {"n": v.ndim}

    return grad(f, has_aux=True)(x), value_and_grad(f, has_aux=True)(x)


@same_everywhere((f32(3), f32(3)))
def test_closures_are_differentiated(x, y):
    scaled = x * y

    def f(v):
        return (v * scaled).sum()

    return grad(f)(y), grad(lambda v: grad(lambda u: (u * v * u).sum())(v).sum())(x)


@same_everywhere((f32(3),), 2.0)
def test_constants_have_the_gradient_zero(x):
    return grad(lambda v: 3.0)(x), value_and_grad(lambda v: (1.0, v), has_aux=True)(x)


@same_everywhere(1.0, -1.0)
def test_through_a_traced_if(x):
    def f(v):
        if v > 0:
            return v * v
        return ops.exp(v)

    return grad(f)(x), grad(grad(f))(x)


@pytest.mark.parametrize("order", range(1, 7))
def test_derivatives_of_tanh(order):
    f = ops.tanh
    for _ in range(order):
        f = grad(f)
    found = interpreted(lambda x: f(x), 0.7)
    t = math.tanh(0.7)
    polynomial = np.polynomial.Polynomial([0, 1])
    for _ in range(order):
        polynomial = polynomial.deriv() * np.polynomial.Polynomial([1, 0, -1])
    assert found == pytest.approx(polynomial(t), rel=1e-10)


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.matmul = ops.operations.P.MatMul() if hasattr(ops.operations, "P") else \
            ops.operations.MatMul()
        self.z = Parameter(Tensor(np.array([1.0], np.float32)), name="z")
        self.unused = Parameter(Tensor(np.ones(2, np.float32)), name="unused")
        self.steps = Parameter(Tensor(np.float32(0)), name="steps", requires_grad=False)

    def construct(self, x, y):
        self.steps += 1
        x = x * self.z
        return self.matmul(x, y)


class GradNet(nn.Cell):
    def __init__(self, net, **flags):
        super().__init__()
        self.net = net
        self.weights = ParameterTuple(net.trainable_params())
        self.grad_op = GradOperation(**flags)
        self.by_list = flags.get("get_by_list", False)

    def construct(self, *args):
        if self.by_list:
            return self.grad_op(self.net, self.weights)(*args)
        gradient_function = self.grad_op(self.net)
        return gradient_function(*args)


X = Tensor(np.float32([[0.5, 0.6, 0.4], [1.2, 1.3, 1.1]]))
Y = Tensor(np.float32([[0.01, 0.3, 1.1], [0.1, 0.2, 1.3], [2.1, 1.2, 3.3]]))


def test_the_gradient_of_a_cell():
    found = interpreted(GradNet(Net()), X, Y)
    np.testing.assert_allclose(found.asnumpy(), [[1.41, 1.6, 6.6]] * 2, rtol=1e-5)


@pytest.mark.parametrize("get_all", [False, True])
@pytest.mark.parametrize("get_by_list", [False, True])
@pytest.mark.parametrize("sens_param", [False, True])
def test_grad_operation(get_all, get_by_list, sens_param):
    flags = {"get_all": get_all, "get_by_list": get_by_list, "sens_param": sens_param}
    args = (X, Y, f32(2, 3)) if sens_param else (X, Y)
    graph, plain = GradNet(Net(), **flags), GradNet(Net(), **flags)
    assert_same(interpreted(graph, *args), plain(*args))
    assert graph.net.steps.asnumpy() == plain.net.steps.asnumpy() == 1


def test_weights():
    net = Net()

    def f(x, y):
        return value_and_grad(net, None, weights=net.trainable_params())(x, y)

    found = interpreted(f, X, Y)
    assert_same(found, f(X, Y))
    assert len(found[1]) == 2 and found[1][1].shape == (2,)


def test_a_train_step():
    class Step(nn.Cell):
        def __init__(self, net):
            super().__init__()
            self.net = net
            self.weights = net.trainable_params()
            self.rate = 0.1

        def construct(self, x, y):
            value, grads = value_and_grad(self.loss, None, self.weights)(x, y)
            for w, g in zip(self.weights, grads):
                ops.assign(w, w - self.rate * g)
            return value

        def loss(self, x, y):
            return (self.net(x, y) ** 2).mean()

    graph, plain = Step(Net()), Step(Net())
    for _ in range(3):
        assert_same(interpreted(graph, X, Y), plain(X, Y))
    assert_same(Tensor(graph.net.z), Tensor(plain.net.z))
    assert cellc.grad is grad
