"""NumPy: no compiler and no gradients; what its loops and its BLAS reach."""

import numpy as np

from benchmarks.peers import loops
from benchmarks.workloads import inputs

VERSION = np.__version__
VARIANTS = ("plain", "skylakex")  # the second by OPENBLAS_CORETYPE, set before the process starts


def prepare(variant):
    """Nothing: the threads come from the environment."""


def chain(x):
    sigmoid = 1 / (1 + np.exp(-x))
    return np.tanh(x) * sigmoid + np.exp(-x * x) * np.float32(0.5) - np.sqrt(np.abs(x) + 1)


def wait(result):
    """It is there when the call returns."""


def array(result):
    return result


def make(workload, variant):
    arrays = inputs(workload)
    if workload.kind == "matmul":
        return lambda: np.matmul(*arrays)
    if workload.kind == "pendulums" and variant == "plain":
        function = loops.define(np.sin, None).pendulums
        return lambda: function(*arrays)
    if workload.kind == "elementwise" and variant == "plain":
        return lambda: chain(*arrays)
    return None
