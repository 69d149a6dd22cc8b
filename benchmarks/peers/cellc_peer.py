"""cellc in graph mode: the same programs as MindSpore's, by another import, and Numba's loops."""

from types import SimpleNamespace

import cellc
from benchmarks.peers import cells, layers, loops
from benchmarks.workloads import (
    LAYER_GRADIENTS,
    LAYERS,
    LOOP_GRADIENTS,
    LOOPS,
    differentiated,
    inputs,
)
from cellc import Parameter, ParameterTuple, Tensor, context, nn, ops
from cellc.ops import operations as P
from cellc.ops.composite import GradOperation

VERSION = cellc.__version__
VARIANTS = ("graph",)


def prepare(variant):
    context.set_context(mode=context.GRAPH_MODE, device_target="CPU")


def wait(result):
    """A compiled call has computed its result when it returns."""


def array(result):
    return result.asnumpy() if isinstance(result, Tensor) else result


def net(x, w1, w2):
    return ops.matmul(ops.tanh(ops.matmul(x, w1)), w2)


def energy(x, w1, w2):
    return (net(x, w1, w2) ** 2).sum()


def rounds(x, n):
    i = 0
    while i < n:
        x = x * 0.999 + 0.1
        i = i + 1
    return x


def rounds_of_sin(x, n):
    i = 0
    while i < n:
        x = ops.sin(x) * 1.01 + 0.1
        i = i + 1
    return x


TRANSFORMED = {
    "jacobian": cellc.jacrev(net),
    "hessian": cellc.hessian(energy),
    "per-example": cellc.vmap(cellc.grad(energy, argnums=(1, 2)), (0, None, None)),
    "lanes": cellc.vmap(rounds),
    "lanes-sin": cellc.vmap(rounds_of_sin),
}


LAYER = layers.define(SimpleNamespace(
    matmul=ops.matmul, softmax=ops.softmax, gelu=ops.gelu, relu=ops.relu, reshape=ops.reshape,
    swap=ops.swapaxes, mean=ops.mean, logsumexp=lambda x: ops.logsumexp(x, 1),
    layer_norm=lambda x, gamma, beta: ops.layer_norm(x, None, gamma, beta),
    variance=lambda x: ops.var(x, 0),
    conv=lambda x, w, groups: ops.conv2d(x, w, pad_mode="same", groups=groups),
    halving=lambda x, w: ops.conv2d(x, w, None, 2, "pad", w.shape[2] // 2),
    max_pool=lambda x: ops.max_pool2d(x, 3, 2, 1),
    batch_norm=lambda x, gamma, beta: ops.batch_norm(x, None, None, gamma, beta, True)))


def tanh_gradient(order):
    function = ops.tanh
    for _ in range(order):
        function = cellc.grad(function)
    return function


def make(workload, variant):
    kind = workload.kind
    if kind == "tanh_grad":
        function, (x,) = cellc.jit(tanh_gradient(workload.size)), map(Tensor, inputs(workload))
        return lambda: function(x)
    if kind in LAYERS or kind in LAYER_GRADIENTS:
        arrays = tuple(map(Tensor, inputs(workload)))
        if kind in LAYERS:
            function = cellc.jit(getattr(LAYER, kind))
            return lambda: function(*arrays)
        gradient = cellc.grad(getattr(LAYER, f"{LAYER_GRADIENTS[kind]}_loss"),
                              differentiated(kind))
        return lambda: gradient(*arrays)[1]
    if kind in TRANSFORMED:
        arrays = [Tensor(x) for x in inputs(workload)]
        function = cellc.jit(TRANSFORMED[kind])
        if kind == "per-example":      # of two results, one is compared
            return lambda: function(*arrays)[0]
        return lambda: function(*arrays)
    plain = loops.define(ops.sin, lambda h, w: ops.zeros((h, w), cellc.int32))
    if kind == "mandelbrot":
        function = cellc.jit(plain.mandelbrot)
        return lambda: function(*loops.MANDELBROT)
    if kind in ("pendulums", "pendulums_grad"):
        arrays = tuple(map(Tensor, inputs(workload)))
        function = cellc.jit(plain.pendulums) if kind == "pendulums" else cellc.grad(
            lambda q, p: (plain.pendulums(q, p) ** 2).sum())
        return lambda: function(*arrays)
    if kind in LOOPS:
        function, arguments = cellc.jit(getattr(plain, kind)), LOOPS[kind]
        return lambda: function(*arguments)
    if kind in LOOP_GRADIENTS:
        kind = kind.removesuffix("_grad")
        function = cellc.grad(getattr(plain, kind), (0, 1, 2, 3) if kind == "rk45" else 0)
        arguments = LOOPS[kind]
        return lambda: function(*arguments)
    if kind in ("lstm", "lstm_grad", "rows_grad"):
        function = {"lstm": cellc.jit(lstm), "lstm_grad": cellc.grad(lstm_loss, (1, 2, 3)),
                    "rows_grad": cellc.grad(rows)}[kind]
        arrays = tuple(map(Tensor, inputs(workload)))
        if kind == "lstm_grad":
            return lambda: function(*arrays)[1]
        return lambda: function(*arrays)
    return cells.make(workload, nn, P, GradOperation, Tensor, Parameter, ParameterTuple)


def lstm(x, w, u, b):
    """All outputs of an LSTM, a Python loop over the steps."""
    n = u.shape[0]
    h = c = ops.zeros((x.shape[1], n), cellc.float32)
    outputs = []
    for t in range(x.shape[0]):
        z = ops.matmul(x[t], w) + ops.matmul(h, u) + b
        i, f, o = (ops.sigmoid(z[:, k * n:(k + 1) * n]) for k in (0, 1, 3))
        c = f * c + i * ops.tanh(z[:, 2 * n:3 * n])
        h = o * ops.tanh(c)
        outputs.append(h)
    return ops.stack(outputs)


def lstm_loss(x, w, u, b):
    return (lstm(x, w, u, b) ** 2).mean()


def rows(x):
    """A recurrence over the rows of an array."""
    h = ops.zeros((x.shape[1],), cellc.float32)
    for i in range(x.shape[0]):
        h = ops.tanh(h * 0.9 + x[i])
    return h.sum()
