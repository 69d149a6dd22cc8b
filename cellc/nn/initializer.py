"""Initial weights: `initializer(init, shape, dtype)` and the classes that say how.

The numbers come from one generator that `cellc.set_seed` starts over.
Sources: Glorot and Bengio, AISTATS 2010 (Xavier); He et al., ICCV 2015 (He); Saxe et al., ICLR 2014
(orthogonal).
"""

from __future__ import annotations

import math

import numpy as np

from cellc.dtype import dtype as dtype_
from cellc.errors import ShapeFault, TypeFault, ValueFault
from cellc.ops.random import numpy_generator
from cellc.tensor import Tensor


class Initializer:
    """How to fill an array: `fill(shape) -> float64 or float32 array`."""

    def fill(self, shape) -> np.ndarray:
        raise TypeFault(f"{type(self).__name__} does not say how to fill a tensor",
                        "define fill(self, shape)")

    def __repr__(self):
        fields = ", ".join(f"{k}={v!r}" for k, v in vars(self).items())
        return f"{type(self).__name__}({fields})"


class Constant(Initializer):
    """One value everywhere."""

    def __init__(self, value):
        self.value = value

    def fill(self, shape):
        return np.full(shape, self.value)


class Zero(Constant):
    """Zeros."""

    def __init__(self):
        super().__init__(0)


class One(Constant):
    """Ones."""

    def __init__(self):
        super().__init__(1)


class Uniform(Initializer):
    """Uniform in [-scale, scale)."""

    def __init__(self, scale=0.07):
        self.scale = scale

    def fill(self, shape):
        return numpy_generator().uniform(-self.scale, self.scale, shape)


class Normal(Initializer):
    """Normal with a deviation and a mean."""

    def __init__(self, sigma=0.01, mean=0.0):
        self.sigma, self.mean = sigma, mean

    def fill(self, shape):
        return numpy_generator().normal(self.mean, self.sigma, shape)


class TruncatedNormal(Initializer):
    """Normal, drawn again where it falls outside mean + [a, b] deviations."""

    def __init__(self, sigma=0.01, mean=0.0, a=-2.0, b=2.0):
        self.sigma, self.mean, self.a, self.b = sigma, mean, a, b

    def fill(self, shape):
        draw = numpy_generator().standard_normal
        values = draw(shape)
        while (outside := (values < self.a) | (values > self.b)).any():
            values[outside] = draw(int(outside.sum()))
        return self.mean + self.sigma * values


def fans(shape) -> tuple[int, int]:
    """(inputs, outputs) of one unit of a weight [out, in, *kernel]."""
    if len(shape) < 2:
        raise ShapeFault(f"no fan-in and fan-out in the shape {list(shape)}",
                         "a weight of two axes at least: [out, in, ...]")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


class XavierUniform(Initializer):
    """Uniform with deviation gain * sqrt(2 / (fan_in + fan_out))."""

    def __init__(self, gain=1):
        self.gain = gain

    def fill(self, shape):
        return Uniform(self.gain * math.sqrt(6 / sum(fans(shape)))).fill(shape)


class XavierNormal(Initializer):
    """Normal with deviation gain * sqrt(2 / (fan_in + fan_out))."""

    def __init__(self, gain=1):
        self.gain = gain

    def fill(self, shape):
        return Normal(self.gain * math.sqrt(2 / sum(fans(shape)))).fill(shape)


class _He(Initializer):
    """Deviation gain / sqrt(fan), with the gain that keeps the variance through a nonlinearity."""

    def __init__(self, negative_slope=0, mode="fan_in", nonlinearity="leaky_relu"):
        if mode not in ("fan_in", "fan_out"):
            raise ValueFault(f"mode is {mode!r}", '"fan_in" or "fan_out"')
        if nonlinearity not in ("relu", "leaky_relu", "linear", "sigmoid", "tanh"):
            raise ValueFault(f"nonlinearity is {nonlinearity!r}",
                             "relu, leaky_relu, linear, sigmoid or tanh")
        self.negative_slope, self.mode, self.nonlinearity = negative_slope, mode, nonlinearity

    def deviation(self, shape) -> float:
        gain = {"relu": math.sqrt(2), "tanh": 5 / 3,
                "leaky_relu": math.sqrt(2 / (1 + self.negative_slope**2))}.get(self.nonlinearity, 1)
        return gain / math.sqrt(fans(shape)[self.mode == "fan_out"])


class HeUniform(_He):
    """Uniform, after He et al."""

    def fill(self, shape):
        return Uniform(math.sqrt(3) * self.deviation(shape)).fill(shape)


class HeNormal(_He):
    """Normal, after He et al."""

    def fill(self, shape):
        return Normal(self.deviation(shape)).fill(shape)


class Orthogonal(Initializer):
    """Rows (or columns, whichever are fewer) that are orthonormal, times gain."""

    def __init__(self, gain=1.0):
        self.gain = gain

    def fill(self, shape):
        rows, columns = shape[0], math.prod(shape[1:])
        fans(shape)
        tall = numpy_generator().standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(tall)
        q = q * np.sign(np.diag(r))
        return self.gain * (q if rows >= columns else q.T).reshape(shape)


class Identity(Initializer):
    """Ones on the diagonal of a matrix."""

    def fill(self, shape):
        if len(shape) != 2:
            raise ShapeFault(f"Identity of the shape {list(shape)}, expected a matrix")
        return np.eye(*shape)


BY_NAME = {
    "zeros": Zero, "zero": Zero, "ones": One, "one": One, "normal": Normal, "uniform": Uniform,
    "truncatednormal": TruncatedNormal, "truncated_normal": TruncatedNormal,
    "xavier_uniform": XavierUniform, "xavieruniform": XavierUniform,
    "xavier_normal": XavierNormal, "xaviernormal": XavierNormal, "he_uniform": HeUniform,
    "heuniform": HeUniform, "he_normal": HeNormal, "henormal": HeNormal,
    "orthogonal": Orthogonal, "identity": Identity,
}


def initializer(init, shape=None, dtype="float32") -> Tensor:
    """A tensor filled as `init` says: an Initializer, a name, a number, or a Tensor taken as it is.

    Errors: ValueFault for an unknown name; ShapeFault for a Tensor of another shape.
    """
    if isinstance(init, Tensor):
        if shape is not None and init.shape != tuple(shape):
            raise ShapeFault(f"a value of shape {list(init.shape)} for shape {list(shape)}")
        return Tensor(init, dtype)
    if isinstance(init, str):
        if init.lower() not in BY_NAME:
            raise ValueFault(f"unknown initializer {init!r}", f"one of {', '.join(BY_NAME)}")
        init = BY_NAME[init.lower()]()
    elif isinstance(init, (int, float)) and not isinstance(init, bool):
        init = Constant(init)
    elif not isinstance(init, Initializer):
        raise TypeFault(f"found {type(init).__name__} where an initializer was expected",
                        'an Initializer, a name such as "normal", a number or a Tensor')
    shape = (shape,) if isinstance(shape, int) else tuple(shape or ())
    return Tensor(np.asarray(init.fill(shape)), dtype_(dtype))
