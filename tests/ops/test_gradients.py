"""grad, value_and_grad and GradOperation in both modes: what they return, nest and refuse."""

import math

import numpy as np
import pytest

import cellc
from cellc import Parameter, ParameterTuple, Tensor, context, nn, ops
from cellc.errors import TypeFault, ValueFault
from cellc.ops.composite import GradOperation


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.z = Parameter(Tensor([1.0]), name="z")
        self.w = Parameter(Tensor([2.0]), name="w")

    def construct(self, x, y):
        return ops.matmul(x * self.z, y) * self.w


X = Tensor([[0.5, 0.6, 0.4], [1.2, 1.3, 1.1]])
Y = Tensor([[0.01, 0.3, 1.1], [0.1, 0.2, 1.3], [2.1, 1.2, 3.3]])
SENS = Tensor(np.arange(6, dtype=np.float32).reshape(2, 3))


@pytest.fixture(params=["eager", "graph"])
def mode(request):
    if request.param == "graph":
        pytest.importorskip("cellc.compile")
        context.set_mode(context.GRAPH_MODE)
    yield request.param
    context.set_mode(context.PYNATIVE_MODE)


def expected(sens):
    """dx, dy, dz, dw of sum(sens * net)."""
    x, y = X.asnumpy(), Y.asnumpy()
    product = (sens * (x @ y)).sum()
    return [2 * sens @ y.T, 2 * x.T @ sens, [2 * product], [product]]


@pytest.mark.parametrize("sens_param", [False, True])
@pytest.mark.parametrize("get_by_list", [False, True])
@pytest.mark.parametrize("get_all", [False, True])
def test_grad_operation(mode, get_all, get_by_list, sens_param):
    net = Net()
    weights = ParameterTuple([net.z, net.w])
    args = (X, Y, SENS) if sens_param else (X, Y)
    found = GradOperation(get_all, get_by_list, sens_param)(
        net, *([weights] if get_by_list else []))(*args)
    dx, dy, dz, dw = expected(SENS.asnumpy() if sens_param else np.ones((2, 3), np.float32))
    wanted = {(False, False): dx, (True, False): (dx, dy), (False, True): (dz, dw),
              (True, True): ((dx, dy), (dz, dw))}[get_all, get_by_list]
    check(found, wanted)


def check(found, wanted):
    if isinstance(wanted, tuple):
        assert type(found) is tuple and len(found) == len(wanted)
        for a, b in zip(found, wanted):
            check(a, b)
    else:
        np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-5)


def test_weights_alone_together_and_by_default(mode):
    net = Net()
    _, _, dz, dw = expected(np.ones((2, 3), np.float32))
    check(GradOperation(get_by_list=True)(net, net.z)(X, Y), dz)
    check(GradOperation(get_by_list=True)(net)(X, Y), (dz, dw))
    check(cellc.grad(net, None, net.trainable_params())(X, Y), (dz, dw))
    dx = expected(np.ones((2, 3), np.float32))[0]
    check(cellc.grad(net, 0, net.w)(X, Y), (dx, dw))
    check(cellc.grad(net, (0,), [net.w])(X, Y), (dx, (dw,)))
    check(cellc.grad(net, argnums=(0,), weights=[net.w])(X, Y), ((dx,), (dw,)))


def f(x, y):
    return x * y + x, y * 2.0, 3


def test_values_positions_and_aux(mode):
    def g(x, y):
        return x * x * y

    a, b = Tensor(3.0), Tensor(2.0)
    check(cellc.grad(g)(a, b), 12)
    check(cellc.grad(g, (1, 0))(a, b), (9, 12))
    check(cellc.grad(g, argnums=-1)(a, b), 9)
    check(cellc.value_and_grad(g, (0, 1))(a, b), (18, (12, 9)))
    gradient, aux = cellc.grad(f, has_aux=True)(a, b)
    check(gradient, 3)
    assert aux[1] == 3 and len(aux) == 2 and float(aux[0]) == 4
    value, gradient = cellc.value_and_grad(f, has_aux=True)(a, b)
    assert len(value) == 3 and float(value[0]) == 9 and float(gradient) == 3
    check(cellc.grad(g, 1)(3.0, 2.0), 9)
    assert type(cellc.grad(g, 1)(3.0, 2.0)) is float


def tanh_derivatives(x, n):
    """The first n derivatives of tanh: polynomials in t = tanh(x), p' = p'(t) (1 - t^2)."""
    t, p, found = math.tanh(x), np.polynomial.Polynomial([0, 1]), []
    for _ in range(n):
        p = p.deriv() * np.polynomial.Polynomial([1, 0, -1])
        found.append(p(t))
    return found


def test_six_derivatives_of_tanh(mode):
    derivative = ops.tanh
    for exact in tanh_derivatives(0.7, 6):
        derivative = cellc.grad(derivative)
        assert derivative(0.7) == pytest.approx(exact, rel=1e-10)
        assert derivative(Tensor(0.7, "float64")).item() == pytest.approx(exact, rel=1e-10)
        assert derivative(Tensor(0.7)).item() == pytest.approx(exact, rel=1e-5)
    assert cellc.grad(ops.tanh)(2.0) == pytest.approx(0.07065082485316443, rel=1e-12)


def test_a_gradient_inside_a_function_and_of_a_closure(mode):
    def outer(x):
        return x * cellc.grad(lambda y: x * y * y)(2.0)         # x * 2 x y = 4 x^2

    check(cellc.grad(outer)(Tensor(3.0)), 24)
    # perturbations do not mix: d/dy (x + y) = 1
    check(cellc.grad(lambda x: x * cellc.grad(lambda y: x + y)(1.0))(Tensor(5.0)), 1)


def test_structures_of_tensors(mode):
    def total(weights, x):
        return (weights["a"] * x + weights["b"][0] * 2.0).sum()

    x = Tensor([1.0, 2.0])
    found = cellc.grad(total)({"a": Tensor([3.0, 4.0]), "b": [Tensor([1.0, 1.0])]}, x)
    assert set(found) == {"a", "b"} and type(found["b"]) is list
    check(found["a"], [1, 2])
    check(found["b"][0], [2, 2])


def test_what_nothing_depends_on_is_zero(mode):
    check(cellc.grad(lambda x, y: x * 2.0, 1)(Tensor(1.0), Tensor([1.0, 2.0])), [0, 0])
    check(cellc.grad(lambda x: ops.stop_gradient(x) * x)(Tensor(3.0)), 3)
    ints = GradOperation(get_all=True)(lambda x, i: x * i)(Tensor([2.0]), Tensor([3]))
    check(ints, ([3], [0]))
    assert ints[1].dtype.name == "i64"


def test_frozen_weights_can_be_differentiated_by(mode):
    net = Net()
    net.z.requires_grad = False
    check(GradOperation(get_by_list=True)(net, ParameterTuple([net.z]))(X, Y),
          (expected(np.ones((2, 3), np.float32))[2],))
    assert not net.z.requires_grad


@pytest.mark.parametrize("call, fault, message", [
    (lambda: cellc.grad(3), TypeFault, "gradient of int"),
    (lambda: cellc.grad(f, None), ValueFault, "both None"),
    (lambda: cellc.grad(f, 1.5), TypeFault, "argnums is 1.5"),
    (lambda: cellc.grad(f, (0, 0)), ValueFault, "twice"),
    (lambda: cellc.grad(f, 0, argnums=1), TypeFault, "two names for one thing"),
    (lambda: cellc.grad(f, 0, [1]), TypeFault, "found int in a ParameterTuple"),
    (lambda: GradOperation(get_all=1), TypeFault, "get_all is 1"),
    (lambda: GradOperation(get_by_list=True)(f), ValueFault, "needs the weights"),
    (lambda: cellc.grad(ops.tanh, 3)(1.0), TypeFault, "argument 3 of a call with 1"),
    (lambda: cellc.grad(ops.abs)(2), TypeFault, "float"),
    (lambda: cellc.grad(ops.abs)(Tensor([2])), TypeFault, "float"),
    (lambda: cellc.grad(ops.argmax)(Tensor([2.0])), TypeFault, "gradient of a result of type i64"),
    (lambda: cellc.grad(ops.exp, has_aux=True)(1.0), TypeFault, "has_aux"),
])
def test_what_is_refused(mode, call, fault, message):
    with pytest.raises(fault, match=message):
        call()


def test_nothing_stays_on_the_tape():
    value, gradient = cellc.value_and_grad(lambda x: (x * x).sum())(Tensor([1.0, 2.0]))
    for x in (value, gradient):
        assert not x.requires_grad and x._record is None
