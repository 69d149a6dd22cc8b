"""cellc in graph mode: the same programs as MindSpore's, by another import."""

import cellc
from benchmarks.peers import cells
from benchmarks.workloads import inputs
from cellc import Parameter, Tensor, context, nn, ops
from cellc.ops import operations as P
from cellc.ops.composite import GradOperation

VERSION = cellc.__version__
VARIANTS = ("graph",)


def prepare(variant):
    context.set_context(mode=context.GRAPH_MODE, device_target="CPU")


def wait(result):
    """A compiled call has computed its result when it returns."""


def array(result):
    return result.asnumpy()


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


def make(workload, variant):
    if workload.kind in TRANSFORMED:
        arrays = [Tensor(x) for x in inputs(workload)]
        function = cellc.jit(TRANSFORMED[workload.kind])
        if workload.kind == "per-example":      # of two results, one is compared
            return lambda: function(*arrays)[0]
        return lambda: function(*arrays)
    return cells.make(workload, nn, P, GradOperation, Tensor, Parameter)
