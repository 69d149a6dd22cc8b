"""Numba: the elementwise chain as one parallel loop. It has no gradients and no layers."""

import numba
import numpy as np

from benchmarks.workloads import inputs

VERSION = numba.__version__
VARIANTS = ("parallel",)


def prepare(variant):
    """Nothing: the threads come from the environment."""


@numba.njit(parallel=True, fastmath=True, error_model="numpy")
def chain(x):
    out = np.empty_like(x)
    one, half = np.float32(1), np.float32(0.5)
    for i in numba.prange(x.size):
        v = x[i]
        sigmoid = one / (one + np.exp(-v))
        out[i] = np.tanh(v) * sigmoid + np.exp(-v * v) * half - np.sqrt(np.abs(v) + one)
    return out


def wait(result):
    """It is there when the call returns."""


def array(result):
    return result


def make(workload, variant):
    if workload.kind != "elementwise":
        return None
    (x,) = inputs(workload)
    return lambda: chain(x)
