"""The workloads as Cells, once, for MindSpore and for cellc: the two speak the same names.

`define(framework)` makes the classes over a framework's `nn`, `P` (primitives), `GradOperation`,
`Tensor`, `Parameter` and `ParameterTuple`. The `construct` methods use nothing but `self` and their
arguments.
"""

from types import SimpleNamespace

from benchmarks.workloads import (
    ADAM_RATE,
    BLOCK_WIDTH,
    MLP_SIZES,
    MOMENTUM,
    MOMENTUM_RATE,
    blocks_weights,
    gradnet_scale,
    inputs,
    lenet_weights,
    mlp_weights,
)


def define(nn, P, GradOperation, Tensor, Parameter, ParameterTuple):
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

    class Block(nn.Cell):
        def __init__(self, n):
            super().__init__()
            self.norm = nn.LayerNorm((n,), epsilon=1e-5)
            self.up, self.down = nn.Dense(n, 4 * n), nn.Dense(4 * n, n)
            self.gelu = nn.GELU(False)

        def construct(self, x):
            return x + self.down(self.gelu(self.up(self.norm(x))))

    class Blocks(nn.Cell):
        def __init__(self, count):
            super().__init__()
            self.blocks = nn.CellList([Block(BLOCK_WIDTH) for _ in range(count)])
            self.mean = P.ReduceMean()

        def construct(self, x):
            for block in self.blocks:
                x = block(x)
            return self.mean(x * x)

    class WeightGrad(nn.Cell):
        def __init__(self, net):
            super().__init__()
            self.net, self.weights = net, ParameterTuple(net.trainable_params())
            self.grad_op = GradOperation(get_by_list=True)

        def construct(self, x):
            return self.grad_op(self.net, self.weights)(x)

    return SimpleNamespace(MatMul=MatMul, Net=Net, Grad=Grad, Chain=Chain, Mlp=Mlp, LeNet=LeNet,
                           Blocks=Blocks, WeightGrad=WeightGrad)


def make(workload, nn, P, GradOperation, Tensor, Parameter, ParameterTuple):
    """A workload's call on arrays in the framework's own form; None where there is none."""
    cells = define(nn, P, GradOperation, Tensor, Parameter, ParameterTuple)
    arrays = [Tensor(array) for array in inputs(workload)]

    def fill(net, weights):
        for parameter in net.trainable_params():
            parameter.set_data(Tensor(weights[parameter.name]))

    def train(net, weights, optimiser, **settings):
        fill(net, weights)
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
        case "blocks_grad":
            blocks = cells.Blocks(workload.size)
            fill(blocks, blocks_weights(workload.size))
            first = [w.name for w in blocks.trainable_params()].index("blocks.0.up.weight")
            net = cells.WeightGrad(blocks)
            return lambda: net(*arrays)[first]
        case _:
            return None
    return lambda: net(*arrays)
