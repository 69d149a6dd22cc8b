"""The workloads as Cells, once, for MindSpore and for cellc: the two speak the same names.

`define(framework)` makes the classes over a framework's `nn`, `P` (primitives), `GradOperation`,
`Tensor` and `Parameter`. The `construct` methods use nothing but `self` and their arguments.
"""

from types import SimpleNamespace

from benchmarks.workloads import (
    ADAM_RATE,
    MLP_SIZES,
    MOMENTUM,
    MOMENTUM_RATE,
    gradnet_scale,
    inputs,
    lenet_weights,
    mlp_weights,
)


def define(nn, P, GradOperation, Tensor, Parameter):
    class MatMul(nn.Cell):
        def __init__(self):
            super().__init__()
            self.matmul = P.MatMul()

        def construct(self, x, y):
            return self.matmul(x, y)

    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.matmul = P.MatMul()
            self.z = Parameter(Tensor(gradnet_scale()), name="z")

        def construct(self, x, y):
            x = x * self.z
            return self.matmul(x, y)

    class Grad(nn.Cell):
        def __init__(self, net):
            super().__init__()
            self.net = net
            self.grad_op = GradOperation()

        def construct(self, *inputs):
            gradient_function = self.grad_op(self.net)
            return gradient_function(*inputs)

    class Chain(nn.Cell):
        def __init__(self):
            super().__init__()
            self.tanh, self.sigmoid = P.Tanh(), P.Sigmoid()
            self.exp, self.sqrt, self.abs = P.Exp(), P.Sqrt(), P.Abs()

        def construct(self, x):
            bump = self.exp(-x * x) * 0.5
            return self.tanh(x) * self.sigmoid(x) + bump - self.sqrt(self.abs(x) + 1)

    class Mlp(nn.Cell):
        def __init__(self):
            super().__init__()
            n_in, n_1, n_2, n_out = MLP_SIZES
            self.fc1, self.fc2 = nn.Dense(n_in, n_1), nn.Dense(n_1, n_2)
            self.fc3 = nn.Dense(n_2, n_out)
            self.relu = nn.ReLU()

        def construct(self, x):
            x = self.relu(self.fc1(x))
            x = self.relu(self.fc2(x))
            return self.fc3(x)

    class LeNet(nn.Cell):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 6, 5, pad_mode="pad", padding=2, has_bias=True)
            self.conv2 = nn.Conv2d(6, 16, 5, pad_mode="valid", has_bias=True)
            self.fc1, self.fc2, self.fc3 = nn.Dense(400, 120), nn.Dense(120, 84), nn.Dense(84, 10)
            self.relu, self.flatten = nn.ReLU(), nn.Flatten()
            self.pool = nn.MaxPool2d(kernel_size=2, stride=2)

        def construct(self, x):
            x = self.pool(self.relu(self.conv1(x)))
            x = self.pool(self.relu(self.conv2(x)))
            x = self.relu(self.fc1(self.flatten(x)))
            return self.fc3(self.relu(self.fc2(x)))

    return SimpleNamespace(MatMul=MatMul, Net=Net, Grad=Grad, Chain=Chain, Mlp=Mlp, LeNet=LeNet)


def make(workload, nn, P, GradOperation, Tensor, Parameter):
    """A workload's call on arrays in the framework's own form; None where there is none."""
    cells = define(nn, P, GradOperation, Tensor, Parameter)
    arrays = [Tensor(array) for array in inputs(workload)]

    def train(net, weights, optimiser, **settings):
        for parameter in net.trainable_params():
            parameter.set_data(Tensor(weights[parameter.name]))
        loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
        optimiser = optimiser(net.trainable_params(), **settings)
        step = nn.TrainOneStepCell(nn.WithLossCell(net, loss), optimiser)
        step.set_train()
        return step

    match workload.kind:
        case "gradnet":
            net = cells.Grad(cells.Net())
        case "elementwise":
            net = cells.Chain()
        case "elementwise_grad":
            net = cells.Grad(cells.Chain())
        case "matmul":
            net = cells.MatMul()
        case "mlp":
            net = train(cells.Mlp(), mlp_weights(), nn.Adam, learning_rate=ADAM_RATE)
        case "lenet":
            settings = {"learning_rate": MOMENTUM_RATE, "momentum": MOMENTUM}
            net = train(cells.LeNet(), lenet_weights(), nn.Momentum, **settings)
        case _:
            return None
    return lambda: net(*arrays)
