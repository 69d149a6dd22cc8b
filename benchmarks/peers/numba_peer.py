"""Numba: the elementwise chain as one parallel loop, and plain loops, that of the Mandelbrot set on
all cores. It has no gradients and no layers."""

import math

import numba
import numpy as np

from benchmarks.peers import loops
from benchmarks.workloads import LOOPS, PENDULUM_STEPS, inputs

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


@numba.njit(parallel=True)
def mandelbrot(width, height, most):
    out = np.zeros((height, width), np.int32)
    for i in numba.prange(height):
        for j in range(width):
            cr = -2.0 + 3.0 * j / width
            ci = -1.5 + 3.0 * i / height
            zr = 0.0
            zi = 0.0
            n = 0
            while n < most and zr * zr + zi * zi < 4.0:
                zr, zi = zr * zr - zi * zi + cr, 2.0 * zr * zi + ci
                n += 1
            out[i, j] = n
    return out


@numba.njit(parallel=True)
def pendulums(q, p):
    out, by = np.empty_like(q), np.float32(0.01)
    for i in numba.prange(q.size):
        x, v = q[i], p[i]
        for _ in range(PENDULUM_STEPS):
            v = v - by * np.sin(x)
            x = x + by * v
        out[i] = x
    return out


@numba.njit("f8(f8, i8)")
def nested_sines(x, depth):
    if depth == 0:
        return x
    return math.sin(nested_sines(x, depth - 1)) * 0.5 + x


def make(workload, variant):
    if workload.kind == "mandelbrot":
        return lambda: mandelbrot(*loops.MANDELBROT)
    if workload.kind == "pendulums":
        arrays = inputs(workload)
        return lambda: pendulums(*arrays)
    if workload.kind in LOOPS:
        function = compiled(workload.kind)
        return lambda: function(*LOOPS[workload.kind])
    if workload.kind != "elementwise":
        return None
    (x,) = inputs(workload)
    return lambda: chain(x)


def compiled(kind):
    if kind == "nested_sines":
        return nested_sines
    plain = loops.define(math.sin, None)
    function = getattr(plain, kind)
    if kind == "rk45":      # it calls another, which Numba must find compiled
        names = function.__code__.co_freevars
        function.__closure__[names.index("slope")].cell_contents = numba.njit(plain.slope)
    return numba.njit(function)
