"""Normalisation: subtract a mean, divide by a deviation, scale and shift."""

from __future__ import annotations

from cellc.errors import ShapeFault
from cellc.ir import arith
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import shape as s
from cellc.ops.common import axis_of, known_int, narrowed, tensor_of, widened
from cellc.ops.reduce import count, mean, norm
from cellc.ops.shape import reshape


def moments(x, axes, keepdims=True):
    """(mean, variance) over axes; two passes, so that a large mean costs no digits.

    Those of f16 and bf16 are f32.
    """
    x = widened(tensor_of(x))
    average = mean(x, axes, True)
    centred = arith.sub(x, average)
    spread = mean(arith.mul(centred, centred), axes, True)
    if keepdims:
        return average, spread
    kept = tuple(n for i, n in enumerate(x.shape) if i not in axes)
    return reshape(average, kept), reshape(spread, kept)


def layer_norm(x, normalized_shape=None, weight=None, bias=None, eps=1e-5):
    """x normalised over its last axes, those of `normalized_shape` (by default the last one).

    Shapes:   x [..., *normalized_shape], weight and bias [*normalized_shape] -> as x.
    Dtypes:   floats.
    Errors:   ShapeFault where the last axes are not `normalized_shape`.
    Source:   Ba, Kiros and Hinton, Layer normalization, 2016.
    """
    x = tensor_of(x)
    last = tuple(normalized_shape) if normalized_shape is not None else x.shape[-1:]
    n = len(last)
    if not n or x.shape[len(x.shape) - n:] != last:
        raise ShapeFault(f"layer_norm: found x of shape {list(x.shape)} for normalized_shape "
                         f"{list(last)}, expected these to be its last axes")
    average, spread = moments(x, tuple(range(len(x.shape) - n, len(x.shape))))
    y = arith.mul(arith.sub(widened(x), average), e.rsqrt(arith.add(spread, eps)))
    y = y if weight is None else arith.mul(y, weight)
    y = y if bias is None else arith.add(y, bias)
    given = [arith.type_of(v) for v in (x, weight, bias) if v is not None]
    return narrowed(y, arith.result_dtype(*given))


def _per_channel(v, x, axis: int):
    """A vector with one number for each channel, spread over x."""
    v = tensor_of(v)
    if v.shape != (x.shape[axis],):
        raise ShapeFault(f"found {list(v.shape)} numbers for the channels of x of shape "
                         f"{list(x.shape)}, expected [{x.shape[axis]}]")
    return s.broadcast(arith.cast(v, x.dtype), shape=x.shape, dims=(axis,))


def channel_moments(x, axis=1):
    """(mean, variance) over all axes but that of the channels: what batch norm normalises with."""
    x = tensor_of(x)
    axis = axis_of(axis, len(x.shape))
    return moments(x, tuple(i for i in range(len(x.shape)) if i != axis), keepdims=False)


def normalize_channels(x, average, spread, weight=None, bias=None, eps=1e-5, axis=1):
    """(x - mean) / sqrt(variance + eps) * weight + bias, one number of each for each channel.

    Shapes: x [n, c, ...], the others [c] -> as x.
    Source: Ioffe and Szegedy, Batch normalization, 2015.
    """
    x = tensor_of(x)
    kind, x = x.dtype, widened(x)
    axis = axis_of(axis, len(x.shape))
    scale = e.rsqrt(arith.add(widened(spread), eps))
    y = arith.mul(arith.sub(x, _per_channel(average, x, axis)), _per_channel(scale, x, axis))
    y = y if weight is None else arith.mul(y, _per_channel(weight, x, axis))
    return narrowed(y if bias is None else arith.add(y, _per_channel(bias, x, axis)), kind)


def batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1,
               eps=1e-5):
    """Channels normalised by the running statistics, or in training by those of the batch.

    The running statistics are not changed here (nn.BatchNorm2d does that); `momentum` is accepted
    for MindSpore's signature.
    """
    if training:
        running_mean, running_var = channel_moments(x)
    return normalize_channels(x, running_mean, running_var, weight, bias, eps)


def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    """Channels normalised in groups, for each sample alone.

    Shapes: x [n, c, ...], weight and bias [c] -> as x.
    Errors: ShapeFault where the groups do not divide the channels.
    Source: Wu and He, Group normalization, 2018.
    """
    x, num_groups = tensor_of(x), known_int(num_groups, "num_groups")
    if len(x.shape) < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise ShapeFault(f"group_norm: found x of shape {list(x.shape)} and {num_groups} groups, "
                         "expected axis 1 to be a multiple of them")
    kind, x = x.dtype, widened(x)
    split = s.reshape(x, shape=(x.shape[0], num_groups, x.shape[1] // num_groups, *x.shape[2:]))
    average, spread = moments(split, tuple(range(2, len(split.shape))))
    y = arith.mul(arith.sub(split, average), e.rsqrt(arith.add(spread, eps)))
    y = s.reshape(y, shape=x.shape)
    y = y if weight is None else arith.mul(y, _per_channel(weight, x, 1))
    return narrowed(y if bias is None else arith.add(y, _per_channel(bias, x, 1)), kind)


def normalize(x, p=2, axis=1, eps=1e-12):
    """x divided by its p-norm along an axis, that norm being at least eps."""
    x = tensor_of(x)
    wide = widened(x)
    return narrowed(arith.div(wide, arith.maximum(norm(wide, p, axis, True), eps)), x.dtype)


def unbiased(variance, x, axis=1):
    """The variance of channels times n / (n - 1), n the elements of x for each channel."""
    x = tensor_of(x)
    axis = axis_of(axis, len(x.shape))
    n = count(x, tuple(i for i in range(len(x.shape)) if i != axis))
    if isinstance(n, int):
        return arith.mul(variance, n / max(n - 1, 1))
    return arith.mul(variance, arith.div(n, arith.maximum(arith.sub(n, 1), 1)))
