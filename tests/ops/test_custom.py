"""custom_vjp, bprop and recompute on the tape, and the memory that recomputing saves."""

import tracemalloc

import numpy as np
import pytest

import cellc
from cellc import Parameter, Tensor, context, custom_vjp, grad, nn, ops, recompute
from cellc.errors import TypeFault

N = 128
WEIGHTS = [Tensor(np.random.default_rng(i).normal(size=(N, N)).astype(np.float32) / N**0.5)
           for i in range(6)]
DATA = Tensor(np.random.default_rng(9).normal(size=(N, N)).astype(np.float32))


def step(x, w):
    for _ in range(4):
        x = ops.sin(x @ w)
    return x


step_again = recompute(step)


def plain(x):
    for w in WEIGHTS:
        x = step(x, w)
    return x.sum()


def recomputing(x):
    for w in WEIGHTS:
        x = step_again(x, w)
    return x.sum()


@pytest.fixture(params=["eager", "graph"])
def mode(request):
    context.set_mode(context.GRAPH_MODE if request.param == "graph" else context.PYNATIVE_MODE)
    yield request.param
    context.set_mode(context.PYNATIVE_MODE)


def test_recompute_gives_the_same(mode):
    first, second = grad(plain)(DATA), grad(recomputing)(DATA)
    np.testing.assert_allclose(second.asnumpy(), first.asnumpy(), rtol=1e-5, atol=1e-6)


def test_a_compiled_program_needs_less_memory():
    """24 results are kept between the passes, or 6 arguments and the results of one step."""
    sizes = [cellc.inspect(grad(f), DATA).arena[""] for f in (plain, recomputing)]
    array = N * N * 4
    assert sizes[0] > 24 * array
    assert sizes[1] < 15 * array


def test_second_derivatives_need_less_memory_too():
    def twice(f):
        first = grad(f)
        return grad(lambda x: (first(x) * x).sum())

    sizes = [cellc.inspect(twice(f), DATA).arena[""] for f in (plain, recomputing)]
    assert sizes[1] < 0.7 * sizes[0]


class Block(nn.Cell):
    def __init__(self):
        super().__init__()
        self.wide, self.narrow = nn.Dense(16, 64), nn.Dense(64, 16)

    def construct(self, x):
        return x + self.narrow(ops.tanh(self.wide(ops.tanh(x))))


class Stack(nn.Cell):
    def __init__(self, depth, again):
        super().__init__()
        self.blocks = nn.SequentialCell([Block().recompute(again) for _ in range(depth)])

    def construct(self, x):
        return self.blocks(x).sum()


class Gradient(nn.Cell):
    def __init__(self, net):
        super().__init__()
        self.net, self.weights = net, cellc.ParameterTuple(net.trainable_params())

    def construct(self, x):
        return cellc.GradOperation(get_all=True, get_by_list=True)(self.net, self.weights)(x)


def test_a_deep_stack_of_cells():
    """Each further block costs its argument alone."""
    x = Tensor(np.random.default_rng(0).normal(size=(256, 16)).astype(np.float32))

    def size(depth, again):
        return cellc.inspect(Gradient(Stack(depth, again)), x).arena[""]

    argument, hidden = 256 * 16 * 4, 256 * 64 * 4
    assert (size(16, True) - size(8, True)) / 8 < 1.5 * argument
    assert (size(16, False) - size(8, False)) / 8 > hidden
    nets = []
    for again in (False, True):
        cellc.set_seed(3)
        nets.append(Gradient(Stack(8, again)))
    context.set_mode(context.GRAPH_MODE)
    try:
        found = [[g.asnumpy() for part in net(x) for g in part] for net in nets]
    finally:
        context.set_mode(context.PYNATIVE_MODE)
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_the_tape_needs_less_memory():
    peaks = []
    for f in (plain, recomputing):
        tracemalloc.start()
        grad(f)(DATA)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 0.6 * peaks[0]


def test_the_tape_runs_a_recomputed_function_twice():
    calls = []

    def f(x):
        calls.append(1)
        return ops.tanh(x)

    x = Tensor([1.0, 2.0], requires_grad=True)
    y = recompute(f)(x)
    assert len(calls) == 1
    y.sum().backward()
    assert len(calls) == 2
    np.testing.assert_allclose(x.grad.asnumpy(), 1 - np.tanh([1, 2]) ** 2, rtol=1e-5)


def test_weights_of_a_recomputed_cell():
    net = nn.Dense(3, 2)
    x = Tensor(np.float32([[1, 2, 3]]))
    recompute(net)(x).sum().backward()
    np.testing.assert_allclose(net.weight.grad.asnumpy(), [[1, 2, 3]] * 2)
    assert recompute(net).trainable_params() == net.trainable_params()
    assert recompute(net, x).asnumpy().tolist() == net(x).asnumpy().tolist()


def clip(dx):
    if dx.max() > 1:
        return dx * 0.0 + 1.0
    return dx


def test_insert_gradient_of(mode):
    insert = ops.InsertGradientOf(clip)
    x = Tensor([0.5, -3.0])
    assert grad(lambda v: (insert(v) * 0.5).sum())(x).asnumpy().tolist() == [0.5, 0.5]
    assert grad(lambda v: (insert(v) * 5.0).sum())(x).asnumpy().tolist() == [1, 1]


# -- rules on the tape -----------------------------------------------------------------------------

class Two(nn.Cell):
    """Two results, of whose cotangents the rule needs both at once."""

    def construct(self, x):
        return x * 2.0, x * 3.0

    def bprop(self, x, out, dout):
        return dout[0] * dout[1]


@pytest.mark.parametrize("used, expected", [(lambda a, b: (a * 5.0 + b * 7.0).sum(), 35),
                                            (lambda a, b: (a * 5.0).sum(), 0)])
def test_results_with_one_rule(used, expected):
    x = Tensor([1.0, 2.0], requires_grad=True)
    used(*Two()(x)).backward()
    assert x.grad.asnumpy().tolist() == [expected, expected]
    found = grad(lambda v: used(*Two()(v)))(Tensor([1.0, 2.0]))
    assert found.asnumpy().tolist() == [expected, expected]


def test_create_graph_goes_through_a_rule():
    cube = custom_vjp(lambda x: x * x * x)
    cube.defvjp(lambda x: (cube(x), x), lambda x, g: (g * 3.0 * x * x,))
    x = Tensor([2.0], requires_grad=True)
    cube(x).backward(create_graph=True)
    first = x.grad
    x.grad = None
    first.backward()
    assert first.item() == 12.0 and x.grad.item() == 12.0


def test_nothing_is_recorded_without_need():
    calls = []
    f = custom_vjp(lambda x: x * 2.0)
    f.defvjp(lambda x: calls.append(1) or (x * 2.0, None), lambda kept, g: (g,))
    assert f(Tensor([1.0])).asnumpy().tolist() == [2.0] and not calls
    with cellc.no_grad():
        f(Tensor([1.0], requires_grad=True))
    assert not calls
    y = f(Tensor([1.0], requires_grad=True))
    assert calls == [1] and y.requires_grad


def test_weights_that_a_rule_does_not_answer_for():
    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.w = Parameter(Tensor([3.0]), name="w")

        def construct(self, x):
            return x * self.w

        def bprop(self, x, out, dout):
            return dout * 2.0

    net = Net()
    with pytest.raises(TypeFault, match=r"bprop of Net gives no gradient by w \(f32\[1\]\)"):
        net(Tensor([1.0], requires_grad=True)).backward()


@pytest.mark.parametrize("order", [1, 2, 3])
def test_stop_gradient_at_every_order(mode, order):
    """d/dx (sg(x^2) x) = sg(x^2): constant at the next order, unless x^2 is outside the sg."""
    def stopped(x):
        return cellc.stop_gradient(x * x) * x

    def partly(x):
        return ops.operations.StopGradient()(x) * x * x * x + x.detach()

    expected = {1: (4.0, 24.0), 2: (0.0, 24.0), 3: (0.0, 12.0)}[order]
    for f, value in zip((stopped, partly), expected, strict=True):
        for _ in range(order):
            f = grad(f)
        assert float(f(Tensor(2.0)).asnumpy()) == value


def test_wrong_arguments_of_a_cell_with_a_rule(mode):
    with pytest.raises(TypeFault, match="construct"):
        grad(lambda x: two(x, x)[0].sum())(Tensor([1.0]))


two = Two()
