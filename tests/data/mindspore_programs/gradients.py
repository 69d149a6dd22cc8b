"""Gradients: GradOperation in all its forms, grad and value_and_grad, nested, with structures."""

from itertools import product

from mindspore_programs.surface import (
    GradOperation,
    P,
    Parameter,
    ParameterTuple,
    Tensor,
    data,
    error,
    ms,
    mstype,
    nn,
    np,
    ops,
    program,
)

X = [[0.5, 0.6, 0.4], [1.2, 1.3, 1.1]]
Y = [[0.01, 0.3, 1.1], [0.1, 0.2, 1.3], [2.1, 1.2, 3.3]]


class Net(nn.Cell):
    def __init__(self):
        super(Net, self).__init__()
        self.matmul = P.MatMul()
        self.z = Parameter(Tensor(np.array([1.0], np.float32)), name='z')

    def construct(self, x, y):
        x = x * self.z
        return self.matmul(x, y)


class GradNet(nn.Cell):
    def __init__(self, net):
        super(GradNet, self).__init__()
        self.net = net
        self.grad_op = GradOperation()

    def construct(self, x, y):
        gradient_function = self.grad_op(self.net)
        return gradient_function(x, y)


class TwoWeights(nn.Cell):
    def __init__(self):
        super().__init__()
        self.matmul = P.MatMul()
        self.z = Parameter(Tensor(np.array([0.7], np.float32)), name='z')
        self.w = Parameter(Tensor(np.array([[0.1, -0.3, 0.4]], np.float32)), name='w')

    def construct(self, x, y):
        return self.matmul(x * self.z + self.w, y)


class GradOf(nn.Cell):
    def __init__(self, net, grad_op, weights=None):
        super().__init__()
        self.net = net
        self.grad_op = grad_op
        self.weights = weights

    def construct(self, *inputs):
        if self.weights is None:
            return self.grad_op(self.net)(*inputs)
        return self.grad_op(self.net, self.weights)(*inputs)


def inputs():
    return Tensor(X, mstype.float32), Tensor(Y, mstype.float32)


@program()
def net_alone():
    return Net()(*inputs())


@program()
def grad_net():
    return GradNet(Net())(*inputs())


def _combination(get_all, get_by_list, sens_param):
    def run():
        net = TwoWeights()
        op = GradOperation(get_all=get_all, get_by_list=get_by_list, sens_param=sens_param)
        weights = ParameterTuple(net.trainable_params()) if get_by_list else None
        sens = (data(2, 3, seed=5),) if sens_param else ()
        in_a_cell = GradOf(net, op, weights)(*inputs(), *sens)
        function = op(net, weights) if get_by_list else op(net)
        return in_a_cell, function(*inputs(), *sens)

    return run


for flags in product((False, True), repeat=3):
    named = "_".join(name for name, flag in zip(("all", "list", "sens"), flags) if flag)
    program("grad_operation_" + (named or "plain"))(_combination(*flags))


@program()
def grad_operation_weights_as_list_and_alone():
    net = TwoWeights()
    op = GradOperation(get_by_list=True)
    x, y = inputs()
    return (op(net, [net.z, net.w])(x, y), op(net, ParameterTuple([net.w]))(x, y),
            op(net, net.z)(x, y), op(net, ParameterTuple(net.trainable_params()))(x, y))


@program(instead="grad_operation_list",
         note="without weights MindSpore gives an empty tuple, not the gradients of all weights")
def grad_operation_without_weights():
    net = TwoWeights()
    op = GradOperation(get_by_list=True)
    return GradOf(net, op)(*inputs()), op(net)(*inputs())


@program()
def grad_operation_frozen_weight():
    net = TwoWeights()
    net.z.requires_grad = False
    x, y = inputs()
    op = GradOperation(get_by_list=True)
    return op(net, ParameterTuple(net.trainable_params()))(x, y)


@program()
def grad_operation_get_all_of_numbers():
    class Scaled(nn.Cell):
        def construct(self, x, k, y):
            return x * k + y

    x = data(2, 3)
    return GradOperation(get_all=True)(Scaled())(x, 3, data(2, 3, seed=1))


@program(instead={"tuple": [
    {"dtype": "float32", "shape": [2, 3], "values": [4.0, -8.0, 12.0, 16.0, 10.0, 0.0]},
    {"dtype": "int32", "shape": [2, 3], "values": [0] * 6}]},
    note="MindSpore rounds the gradient by an integer tensor to an integer; there is none")
def grad_operation_get_all_of_integers():
    class Weighted(nn.Cell):
        def construct(self, x, n):
            return x * x * n

    x = Tensor(np.array([[2, -2, 2], [2, 1, 0]], np.float32))
    n = Tensor(np.array([[1, 2, 3], [4, 5, 6]], np.int32))
    return GradOperation(get_all=True)(Weighted())(x, n)


@program()
def grad_operation_one_input():
    class Square(nn.Cell):
        def construct(self, x):
            return x * x

    net, x = Square(), data(2, 3)
    return (GradOperation()(net)(x), GradOperation(get_all=True)(net)(x),
            GradOperation(get_all=True, sens_param=True)(net)(x, data(2, 3, seed=4)))


@program()
def grad_operation_of_several_results():
    class Several(nn.Cell):
        def construct(self, x, y):
            return x * y, x + y

    x, y = data(2, 3), data(2, 3, seed=1)
    sens = (data(2, 3, seed=2), data(2, 3, seed=3))
    return (GradOperation(get_all=True)(Several())(x, y),
            GradOperation(get_all=True, sens_param=True)(Several())(x, y, sens))


@program()
def second_gradient():
    class Cube(nn.Cell):
        def construct(self, x):
            return x * x * x

    class Grad(nn.Cell):
        def __init__(self, net):
            super().__init__()
            self.net = net
            self.grad_op = GradOperation()

        def construct(self, x):
            return self.grad_op(self.net)(x)

    x = data(4)
    first = Grad(Cube())
    return first(x), Grad(first)(x), Grad(Grad(first))(x)


def _forward(x, y):
    return ops.tanh(x) * y + ops.sin(y)


def _with_aux(x, y):
    return ops.tanh(x) * y, x + 1, y * 2


def _positions(position):
    def run():
        x, y = data(2, 3), data(2, 3, seed=1)
        return (ms.grad(_forward, position)(x, y), ops.grad(_forward, grad_position=position)(x, y),
                ms.value_and_grad(_forward, position)(x, y))

    return run


for position in (0, 1, (0,), (1,), (0, 1), (1, 0)):
    program(f"grad_position_{position}")(_positions(position))


def _weighted(position, chosen):
    def run():
        net = TwoWeights()
        weights = {"one": net.z, "tuple": ParameterTuple(net.trainable_params()),
                   "list": net.trainable_params(), "tuple of one": (net.w,)}[chosen]
        x, y = inputs()
        return (ms.grad(net, position, weights)(x, y),
                ms.value_and_grad(net, position, weights)(x, y))

    return run


for position, chosen in product((None, 0, (0, 1)), ("one", "tuple", "list", "tuple of one")):
    program(f"grad_weights_{position}_{chosen}")(_weighted(position, chosen))


@program()
def grad_has_aux():
    x, y = data(2, 3), data(2, 3, seed=1)
    return (ms.grad(_with_aux, 0, has_aux=True)(x, y),
            ms.grad(_with_aux, (0, 1), has_aux=True)(x, y),
            ms.value_and_grad(_with_aux, 0, has_aux=True)(x, y),
            ms.value_and_grad(_with_aux, (0, 1), has_aux=True)(x, y))


@program()
def grad_has_aux_with_weights():
    net = TwoWeights()

    def forward(x, y):
        out = net(x, y)
        return out.sum(), out

    weights = ParameterTuple(net.trainable_params())
    x, y = inputs()
    return (ms.grad(forward, None, weights, has_aux=True)(x, y),
            ms.value_and_grad(forward, 0, weights, has_aux=True)(x, y))


@program()
def grad_functional_training():
    net = nn.Dense(3, 2, weight_init=Tensor([[0.1, 0.2, 0.3], [0.3, -0.2, 0.1]], mstype.float32),
                   bias_init="zeros")
    loss_fn = nn.MSELoss()
    optimizer = nn.SGD(net.trainable_params(), learning_rate=0.1)

    def forward_fn(x, y):
        logits = net(x)
        return loss_fn(logits, y), logits

    grad_fn = ms.value_and_grad(forward_fn, None, optimizer.parameters, has_aux=True)
    losses = []
    for _ in range(3):
        (loss, _), grads = grad_fn(data(4, 3), data(4, 2, seed=1))
        optimizer(grads)
        losses.append(loss)
    return losses, net.weight, net.bias


@program()
def grad_in_construct():
    class Inner(nn.Cell):
        def __init__(self):
            super().__init__()
            self.w = Parameter(Tensor([2.0, 3.0], mstype.float32), name="w")

        def construct(self, x):
            return ops.exp(x * self.w).sum()

    class Penalty(nn.Cell):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def construct(self, x):
            slope = ms.grad(self.net)(x)
            return (slope * slope).sum()

    net = Penalty(Inner())
    x = data(2)
    weights = ParameterTuple(net.trainable_params())
    return net(x), GradOperation(get_all=True, get_by_list=True)(net, weights)(x)


@program()
def gradient_stopped():
    def forward(x, y):
        return ops.stop_gradient(x * y) * x

    return ms.grad(forward, (0, 1))(data(3), data(3, seed=1))


@program()
def gradient_of_tuple_argument():
    class Pair(nn.Cell):
        def construct(self, pair, k):
            a, b = pair
            return a * b * k

    pair = ms.mutable((data(3), data(3, seed=1)))
    return GradOperation()(Pair())(pair, data(3, seed=2))


@program()
def gradient_of_unused_argument():
    def forward(x, y):
        return x * 2

    return ms.grad(forward, (0, 1))(data(3), data(3, seed=1))


@program()
def gradient_through_if():
    class Chosen(nn.Cell):
        def construct(self, x):
            if x.sum() > 0:
                return x * x
            return ops.exp(x)

    net = Chosen()
    x = data(3)
    return (GradOperation()(net)(ops.abs(x)), GradOperation()(net)(-ops.abs(x)))


@program(instead={"dtype": "float32", "shape": [], "values": [6.0]},
         note="MindSpore gives 0 for the gradient by a number made mutable; it is x + x")
def gradient_of_number():
    def square(x):
        return x * x

    return Tensor(ms.grad(square)(3.0), mstype.float32)


@program()
def gradient_refusals():
    return error(GradOperation, 1), error(lambda: GradOperation(get_all="yes"))
