"""Activations. Elementwise ones take tensors of any shape or numbers; floats -> same dtype.

Unless said otherwise the gradient is the derivative where it exists; at a kink it is that of the
flat side.
"""

from __future__ import annotations

import math

from cellc.errors import ShapeFault, ValueFault
from cellc.ir import arith
from cellc.ir.graph import fill
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import reduce as r
from cellc.ir.prims import shape as s
from cellc.ir.types import ScalarType
from cellc.ops.common import axis_of, floating, narrowed, tensor_of, widened
from cellc.ops.elementwise import clip, sigmoid, tanh
from cellc.ops.shape import split


def relu(x):
    """x where it is positive, else 0. Dtypes: integers and floats. Gradient at 0: 0."""
    return arith.where(arith.greater(x, 0), x, _zero(x))


def _zero(x):
    t = arith.type_of(x)
    return t.dtype.numpy.type(0).item() if isinstance(t, ScalarType) else fill(t, 0)


def relu6(x):
    """x held between 0 and 6. Gradient at 0 and 6: 0."""
    inside = arith.greater(x, 0)
    return arith.where(inside, arith.where(arith.less(x, 6), x, 6), _zero(x))


def leaky_relu(x, alpha=0.2):
    """x where it is positive, else alpha * x."""
    return arith.where(arith.greater(x, 0), x, arith.mul(x, alpha))


def prelu(x, weight):
    """x where it is positive, else weight * x; one weight, or one for each channel (axis 1)."""
    x, weight = tensor_of(x), tensor_of(weight)
    if arith.type_of(weight).size == 1:
        weight = s.reshape(weight, shape=())
    elif len(x.shape) < 2 or weight.shape != (x.shape[1],):
        raise ShapeFault(f"prelu: found weight of shape {list(weight.shape)} for x of shape "
                         f"{list(x.shape)}, expected one number or one for each of axis 1")
    else:
        weight = s.broadcast(weight, shape=x.shape, dims=(1,))
    return arith.where(arith.greater(x, 0), x, arith.mul(x, weight))


def elu(x, alpha=1.0):
    """x where it is positive, else alpha * (exp(x) - 1)."""
    x = floating(x)
    negative = arith.minimum(x, 0.0)             # so that no exp overflows where it is not taken
    return arith.where(arith.greater(x, 0.0), x, arith.mul(e.expm1(negative), alpha))


def selu(x):
    """The self-normalising elu. Source: Klambauer et al., 2017."""
    return arith.mul(elu(x, 1.6732632423543772), 1.0507009873554805)


def celu(x, alpha=1.0):
    """x where it is positive, else alpha * (exp(x / alpha) - 1)."""
    x = floating(x)
    negative = arith.minimum(arith.div(x, alpha), 0.0)
    return arith.where(arith.greater(x, 0.0), x, arith.mul(e.expm1(negative), alpha))


def gelu(x, approximate="none"):
    """x * Phi(x), Phi the distribution function of the normal distribution.

    `approximate="tanh"` uses 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))).
    Errors: ValueFault for another approximation.
    Source: Hendrycks and Gimpel, Gaussian error linear units, 2016.
    """
    x = floating(x)
    kind, x = arith.type_of(x).dtype, widened(x)
    if approximate == "tanh":
        cubic = arith.mul(arith.mul(x, x), x)
        inner = arith.mul(arith.add(x, arith.mul(cubic, 0.044715)), math.sqrt(2 / math.pi))
        twice = arith.add(tanh(inner), 1.0)
    elif approximate == "none":
        twice = arith.add(e.erf(arith.mul(x, math.sqrt(0.5))), 1.0)
    else:
        raise ValueFault(f"gelu: found approximate {approximate!r}", '"none" or "tanh"')
    return narrowed(arith.mul(arith.mul(x, 0.5), twice), kind)


def silu(x):
    """x * sigmoid(x)."""
    x = floating(x)
    return arith.mul(x, sigmoid(x))


swish = silu


def softplus(x, beta=1.0, threshold=20.0):
    """log(1 + exp(beta * x)) / beta; x itself where beta * x exceeds the threshold."""
    x = floating(x)
    scaled = arith.mul(x, beta)
    soft = arith.add(arith.maximum(scaled, 0.0), e.log1p(e.exp(arith.negative(e.abs(scaled)))))
    return arith.where(arith.greater(scaled, threshold), x, arith.div(soft, beta))


def _log1p_exp(x):
    """log(1 + exp(x)), smooth and without overflow; its gradient is sigmoid(x) everywhere."""
    return arith.negative(logsigmoid(arith.negative(x)))


def logsigmoid(x):
    """log(sigmoid(x)) = min(x, 0) - log(1 + exp(-|x|)).

    Gradient: sigmoid(-x): at 0 both halves contribute a half of what they have.
    """
    x = floating(x)
    return arith.sub(arith.minimum(x, 0.0), e.log1p(e.exp(arith.negative(e.abs(x)))))


def mish(x):
    """x * tanh(softplus(x)). Source: Misra, Mish, 2019."""
    x = floating(x)
    return arith.mul(x, tanh(_log1p_exp(x)))


def hsigmoid(x):
    """clip(x + 3, 0, 6) / 6."""
    return arith.div(clip(arith.add(x, 3.0), 0.0, 6.0), 6.0)


def hswish(x):
    """x * hsigmoid(x). Source: Howard et al., Searching for MobileNetV3, 2019."""
    return arith.mul(x, hsigmoid(x))


hardsigmoid, hardswish = hsigmoid, hswish


def hardtanh(x, min_val=-1.0, max_val=1.0):
    """x held between two numbers."""
    return clip(x, min_val, max_val)


def softsign(x):
    """x / (1 + |x|)."""
    x = floating(x)
    return arith.div(x, arith.add(e.abs(x), 1.0))


def tanhshrink(x):
    """x - tanh(x)."""
    return arith.sub(x, tanh(x))


def hardshrink(x, lambd=0.5):
    """x where |x| > lambd, else 0."""
    return arith.where(arith.greater(e.abs(x), lambd), x, _zero(x))


def softshrink(x, lambd=0.5):
    """x drawn towards 0 by lambd; 0 within."""
    outside = arith.greater(e.abs(x), lambd)
    return arith.where(outside, arith.sub(x, arith.mul(e.sign(x), lambd)), _zero(x))


def threshold(x, threshold, value):
    """x where it exceeds the threshold, else value."""
    return arith.where(arith.greater(x, threshold), x, value)


def glu(x, axis=-1):
    """The first half along an axis times the sigmoid of the second."""
    n = arith.type_of(x).shape[axis]
    if n % 2:
        raise ShapeFault(f"glu: the size {n} of axis {axis} is odd")
    first, second = split(x, n // 2, axis)
    return arith.mul(first, sigmoid(second))


# -- along an axis --------------------------------------------------------------------------------


def _less_peak(x, axis: int):
    """x minus its maximum along the axis, so that exp cannot overflow."""
    top = r.reduce_max(e.stop_gradient(x), axes=(axis,))
    return e.sub(x, r.spread_out(top, x, (axis,)))


def softmax(x, axis=-1):
    """Exponentials of x scaled to sum to one along axis.

    Shapes:   x [..., n, ...] -> same. axis is static, -x.ndim <= axis < x.ndim.
    Dtypes:   f16, bf16, f32, f64 -> same; f16 and bf16 are computed in f32.
    Errors:   TypeFault for integers; ShapeFault for a bad axis.
    Gradient: y * (g - sum(g * y, axis)).
    Source:   maximum subtracted first; Blanchard, Higham and Higham, IMA J. Numer. Anal. 41, 2021.
    """
    x = tensor_of(x)
    axis = axis_of(axis, len(x.shape))
    powers = e.exp(_less_peak(widened(x), axis))
    total = r.reduce_sum(powers, axes=(axis,))
    return narrowed(e.div(powers, r.spread_out(total, powers, (axis,))), x.dtype)


def log_softmax(x, axis=-1):
    """log(softmax(x)), exact where the softmax underflows.

    Shapes, dtypes and errors as softmax. Gradient: g - softmax(x) * sum(g, axis).
    """
    x = tensor_of(x)
    axis = axis_of(axis, len(x.shape))
    lower = _less_peak(widened(x), axis)
    total = r.reduce_sum(e.exp(lower), axes=(axis,))
    return narrowed(e.sub(lower, r.spread_out(e.log(total), lower, (axis,))), x.dtype)


def softmin(x, axis=-1):
    """The softmax of -x."""
    return softmax(arith.negative(x), axis)
