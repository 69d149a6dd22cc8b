"""Activations as cells: each is the function of the same meaning in cellc.ops, which says the rest.

Shapes:   any -> same; those along an axis want that axis.
Dtypes:   floats -> same.
Gradient: the derivative; at a kink that of the flat side.
"""

from __future__ import annotations

from cellc import ops
from cellc.errors import TypeFault, ValueFault
from cellc.nn.cell import Cell
from cellc.nn.initializer import initializer
from cellc.parameter import Parameter


class ReLU(Cell):
    """x where positive, else 0."""

    def construct(self, x):
        return ops.relu(x)


class ReLU6(Cell):
    """x held between 0 and 6."""

    def construct(self, x):
        return ops.relu6(x)


class LeakyReLU(Cell):
    """x where positive, else alpha * x."""

    def __init__(self, alpha=0.2):
        super().__init__()
        self.alpha = alpha

    def construct(self, x):
        return ops.leaky_relu(x, self.alpha)

    def extend_repr(self):
        return f"alpha={self.alpha}"


class PReLU(Cell):
    """x where positive, else w * x with a learnt w: one, or one for each channel (axis 1)."""

    def __init__(self, channel=1, w=0.25):
        super().__init__()
        self.w = Parameter(initializer(w, (channel,)), name="a")

    def construct(self, x):
        return ops.prelu(x, self.w)


class ELU(Cell):
    """x where positive, else alpha * (exp(x) - 1)."""

    def __init__(self, alpha=1.0):
        super().__init__()
        self.alpha = alpha

    def construct(self, x):
        return ops.elu(x, self.alpha)


class SeLU(Cell):
    """The self-normalising ELU."""

    def construct(self, x):
        return ops.selu(x)


SELU = SeLU


class CELU(Cell):
    """x where positive, else alpha * (exp(x / alpha) - 1)."""

    def __init__(self, alpha=1.0):
        super().__init__()
        self.alpha = alpha

    def construct(self, x):
        return ops.celu(x, self.alpha)


class GELU(Cell):
    """x * Phi(x); with `approximate` (the default) by tanh, True or False or torch's words."""

    def __init__(self, approximate=True):
        super().__init__()
        known = {True: "tanh", False: "none", "tanh": "tanh", "none": "none"}
        if approximate not in known:
            raise ValueFault(f"GELU: found approximate {approximate!r}", "True or False")
        self.approximate = known[approximate]

    def construct(self, x):
        return ops.gelu(x, self.approximate)


class SiLU(Cell):
    """x * sigmoid(x)."""

    def construct(self, x):
        return ops.silu(x)


class Mish(Cell):
    """x * tanh(softplus(x))."""

    def construct(self, x):
        return ops.mish(x)


class HSwish(Cell):
    """x * clip(x + 3, 0, 6) / 6."""

    def construct(self, x):
        return ops.hswish(x)


class HSigmoid(Cell):
    """clip(x + 3, 0, 6) / 6."""

    def construct(self, x):
        return ops.hsigmoid(x)


class Sigmoid(Cell):
    """1 / (1 + exp(-x))."""

    def construct(self, x):
        return ops.sigmoid(x)


class LogSigmoid(Cell):
    """log(sigmoid(x))."""

    def construct(self, x):
        return ops.logsigmoid(x)


class Softplus(Cell):
    """log(1 + exp(beta * x)) / beta."""

    def __init__(self, beta=1.0, threshold=20.0):
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def construct(self, x):
        return ops.softplus(x, self.beta, self.threshold)


class Softsign(Cell):
    """x / (1 + |x|)."""

    def construct(self, x):
        return ops.softsign(x)


class Tanh(Cell):
    """The hyperbolic tangent."""

    def construct(self, x):
        return ops.tanh(x)


class Hardtanh(Cell):
    """x held between two numbers."""

    def __init__(self, min_val=-1.0, max_val=1.0):
        super().__init__()
        self.min_val, self.max_val = min_val, max_val

    def construct(self, x):
        return ops.hardtanh(x, self.min_val, self.max_val)


class HShrink(Cell):
    """x where |x| > lambd, else 0."""

    def __init__(self, lambd=0.5):
        super().__init__()
        self.lambd = lambd

    def construct(self, x):
        return ops.hardshrink(x, self.lambd)


class SoftShrink(Cell):
    """x drawn towards 0 by lambd."""

    def __init__(self, lambd=0.5):
        super().__init__()
        self.lambd = lambd

    def construct(self, x):
        return ops.softshrink(x, self.lambd)


class Softmax(Cell):
    """Exponentials scaled to sum to one along an axis."""

    def __init__(self, axis=-1):
        super().__init__()
        self.axis = axis

    def construct(self, x):
        return ops.softmax(x, self.axis)


class LogSoftmax(Cell):
    """log(softmax(x)) along an axis."""

    def __init__(self, axis=-1):
        super().__init__()
        self.axis = axis

    def construct(self, x):
        return ops.log_softmax(x, self.axis)


class Softmin(Cell):
    """The softmax of -x along an axis."""

    def __init__(self, axis=-1):
        super().__init__()
        self.axis = axis

    def construct(self, x):
        return ops.softmin(x, self.axis)


BY_NAME = {
    "relu": ReLU, "relu6": ReLU6, "leakyrelu": LeakyReLU, "prelu": PReLU, "elu": ELU, "selu": SeLU,
    "gelu": GELU, "silu": SiLU, "mish": Mish, "hswish": HSwish, "hsigmoid": HSigmoid,
    "sigmoid": Sigmoid, "logsigmoid": LogSigmoid, "softplus": Softplus, "tanh": Tanh,
    "softmax": Softmax, "logsoftmax": LogSoftmax,
}


def get_activation(name: str) -> Cell:
    """The activation cell of a name. ValueFault for an unknown one."""
    if name.lower() not in BY_NAME:
        raise ValueFault(f"unknown activation {name!r}", f"one of {', '.join(BY_NAME)}")
    return BY_NAME[name.lower()]()


def activation_cell(given):
    """What a layer's `activation` means: None, a name, a cell, an operator or a function."""
    if given is None or isinstance(given, Cell):
        return given
    if isinstance(given, str):
        return get_activation(given)
    if isinstance(given, type) and issubclass(given, Cell):
        return given()
    if callable(given):
        return given
    raise TypeFault(f"found the activation {given!r}", 'a name such as "relu", or a cell')
