"""PyTorch: eager, and through torch.compile in its default mode (max-autotune gained nothing)."""

import os
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers import layers, loops
from benchmarks.workloads import (
    ADAM_RATE,
    BLOCK_WIDTH,
    LAYER_GRADIENTS,
    LAYERS,
    LOOP_GRADIENTS,
    LOOPS,
    MLP_SIZES,
    MOMENTUM,
    MOMENTUM_RATE,
    blocks_weights,
    differentiated,
    gradnet_scale,
    inputs,
    lenet_weights,
    mlp_weights,
)

VERSION = torch.__version__
VARIANTS = ("eager", "compile", "library")


def prepare(variant):
    torch.set_num_threads(len(os.sched_getaffinity(0)))


def compiled(function, variant):
    return function if variant == "eager" else torch.compile(function)


def wait(result):
    """It is there when the call returns."""


def array(result):
    return result.detach().numpy()


def chain(x):
    return torch.tanh(x) * torch.sigmoid(x) + torch.exp(-x * x) * 0.5 - torch.sqrt(x.abs() + 1)


def net(x, w1, w2):
    return torch.matmul(torch.tanh(torch.matmul(x, w1)), w2)


def energy(x, w1, w2):
    return (net(x, w1, w2) ** 2).sum()


LAYER = layers.define(SimpleNamespace(
    matmul=torch.matmul, softmax=lambda x: torch.softmax(x, -1), gelu=F.gelu, relu=torch.relu,
    reshape=torch.reshape, swap=torch.swapaxes, mean=torch.mean,
    logsumexp=lambda x: torch.logsumexp(x, 1), variance=lambda x: torch.var(x, 0, correction=0),
    layer_norm=lambda x, gamma, beta: F.layer_norm(x, gamma.shape, gamma, beta),
    conv=lambda x, w, groups: F.conv2d(x, w, padding="same", groups=groups),
    halving=lambda x, w: F.conv2d(x, w, stride=2, padding=w.shape[2] // 2),
    max_pool=lambda x: F.max_pool2d(x, 3, 2, 1),
    batch_norm=lambda x, gamma, beta: F.batch_norm(x, None, None, gamma, beta, True)))


def layer(kind, arrays, variant):
    if kind in LAYERS:
        function = compiled(getattr(LAYER, kind), variant)
        return lambda: function(*arrays)
    loss, places = getattr(LAYER, f"{LAYER_GRADIENTS[kind]}_loss"), differentiated(kind)
    if variant == "eager":
        wanted = [arrays[i].requires_grad_() for i in places]
        return lambda: torch.autograd.grad(loss(*arrays), wanted)[1]
    gradient = compiled(torch.func.grad(loss, places), variant)
    return lambda: gradient(*arrays)[1]


def tanh_gradient(order):
    function = torch.tanh
    for _ in range(order):
        function = torch.func.grad(function)
    return function


def lstm_library(kind, x, w, u, b):
    """nn.LSTM: its own kernel for all steps."""
    cell = nn.LSTM(x.shape[2], u.shape[0])
    with torch.no_grad():
        for parameter, value in ((cell.weight_ih_l0, w.T), (cell.weight_hh_l0, u.T),
                                 (cell.bias_ih_l0, b), (cell.bias_hh_l0, 0 * b)):
            parameter.copy_(value)
    if kind == "lstm":
        def forward():
            with torch.no_grad():
                return cell(x)[0]

        return forward
    weights = list(cell.parameters())
    return lambda: torch.autograd.grad((cell(x)[0] ** 2).mean(), weights)[1].T


def make(workload, variant):
    if variant == "library":
        return lstm_library(workload.kind, *map(torch.from_numpy, inputs(workload)))
    if workload.kind in LOOPS or workload.kind in LOOP_GRADIENTS:
        return None         # a microsecond and more for each operation on a number
    arrays = [torch.from_numpy(array) for array in inputs(workload)]
    match workload.kind:
        case kind if kind in LAYERS or kind in LAYER_GRADIENTS:
            return layer(kind, arrays, variant)
        case "tanh_grad":
            function = compiled(tanh_gradient(workload.size), variant)
            return lambda: function(*arrays)
        case "gradnet":
            return gradnet(*arrays, variant)
        case "elementwise":
            function = compiled(chain, variant)
            return lambda: function(*arrays)
        case "elementwise_grad":
            return elementwise_grad(*arrays, variant)
        case "matmul":
            function = compiled(torch.mm, variant)
            return lambda: function(*arrays)
        case "jacobian" | "hessian" | "per-example":    # PyTorch's loops do not go into vmap
            function = compiled({
                "jacobian": torch.func.jacrev(net), "hessian": torch.func.hessian(energy),
                "per-example": torch.func.vmap(torch.func.grad(energy, (1, 2)), (0, None, None)),
            }[workload.kind], variant)
            if workload.kind == "per-example":
                return lambda: function(*arrays)[0]
            return lambda: function(*arrays)
        case "mlp":
            return training(Mlp(), mlp_weights(), *arrays, variant)
        case "lenet":
            return training(LeNet(), lenet_weights(), *arrays, variant)
        case "blocks_grad":
            return blocks_grad(workload.size, *arrays, variant)
        case "lstm":
            function = compiled(lstm, variant)
            return lambda: function(*arrays)
        case "lstm_grad":
            function = compiled(torch.func.grad(lstm_loss, (1, 2, 3)), variant)
            return lambda: function(*arrays)[1]
        case "pendulums" if variant == "eager":     # compiled, 300 steps take minutes to compile
            function = loops.define(torch.sin, None).pendulums
            return lambda: function(*arrays)
        case "pendulums_grad" if variant == "eager":
            function = loops.define(torch.sin, None).pendulums
            gradient = torch.func.grad(lambda q, p: (function(q, p) ** 2).sum())
            return lambda: gradient(*arrays)
        case "rows_grad" if variant == "eager":
            function = torch.func.grad(rows)
            return lambda: function(*arrays)
    return None


def lstm(x, w, u, b):
    h = c = torch.zeros(x.shape[1], u.shape[0])
    outputs = []
    for t in range(x.shape[0]):
        i, f, g, o = (x[t] @ w + h @ u + b).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)


def lstm_loss(x, w, u, b):
    return (lstm(x, w, u, b) ** 2).mean()


def rows(x):
    h = torch.zeros(x.shape[1])
    for row in x:
        h = torch.tanh(h * 0.9 + row)
    return h.sum()


def gradnet(x, y, variant):
    z = torch.from_numpy(gradnet_scale())
    if variant == "eager":
        x.requires_grad_()

        def call():
            return torch.autograd.grad(torch.matmul(x * z, y).sum(), x)[0]

        return call
    gradient = compiled(torch.func.grad(lambda x, y: torch.matmul(x * z, y).sum()), variant)
    return lambda: gradient(x, y)


def elementwise_grad(x, variant):
    if variant == "eager":
        x.requires_grad_()
        return lambda: torch.autograd.grad(chain(x).sum(), x)[0]
    # One graph with the gradient inside, rather than a compiled forward and a compiled backward.
    gradient = compiled(torch.func.grad(lambda x: chain(x).sum()), variant)
    return lambda: gradient(x)


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = (
            nn.Linear(n_in, n_out)
            for n_in, n_out in zip(MLP_SIZES, MLP_SIZES[1:], strict=False)
        )

    def forward(self, x):
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


def training(net, weights, x, labels, variant):
    net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    labels = labels.long()
    if isinstance(net, Mlp):
        optimiser = torch.optim.Adam(net.parameters(), lr=ADAM_RATE, fused=True)
    else:
        optimiser = torch.optim.SGD(
            net.parameters(), lr=MOMENTUM_RATE, momentum=MOMENTUM, fused=True
        )
    if variant == "compile":
        return compiled_step(net, optimiser, x, labels)

    def step():
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss

    return step


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.norm = nn.LayerNorm(n)
        self.up, self.down = nn.Linear(n, 4 * n), nn.Linear(4 * n, n)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Blocks(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.blocks = nn.ModuleList([Block(BLOCK_WIDTH) for _ in range(count)])

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return (x * x).mean()


def blocks_grad(count, x, variant):
    """Gradients by all weights; that of the first block's first matrix is compared."""
    net = Blocks(count)
    net.load_state_dict({
        name.replace("gamma", "weight").replace("beta", "bias"): torch.from_numpy(array)
        for name, array in blocks_weights(count).items()})
    parameters = dict(net.named_parameters())
    compared = "blocks.0.up.weight"
    if variant == "eager":
        place = list(parameters).index(compared)
        return lambda: torch.autograd.grad(net(x), list(parameters.values()))[place]
    detached = {name: parameter.detach() for name, parameter in parameters.items()}
    gradients_of = torch.compile(torch.func.grad(
        lambda parameters, x: torch.func.functional_call(net, parameters, (x,))))
    return lambda: gradients_of(detached, x)[compared]


def compiled_step(net, optimiser, x, labels):
    """Loss and gradients as one compiled graph: quicker here than compiling the loss alone, or
    the whole step with its optimiser."""
    parameters = dict(net.named_parameters())
    detached = {name: parameter.detach() for name, parameter in parameters.items()}

    def loss_of(parameters, x, labels):
        return F.cross_entropy(torch.func.functional_call(net, parameters, (x,)), labels)

    gradients_of = torch.compile(torch.func.grad_and_value(loss_of))

    def step():
        gradients, loss = gradients_of(detached, x, labels)
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        optimiser.step()
        return loss

    return step
