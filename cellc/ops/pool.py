"""Pooling: reductions over windows of the last axes (images [n, c, h, w], sequences [n, c, l])."""

from __future__ import annotations

import math

import numpy as np

from cellc.errors import ShapeFault, TypeFault, ValueFault
from cellc.ir import arith
from cellc.ir.graph import fill
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import reduce as r
from cellc.ir.prims import shape as s
from cellc.ir.prims.contraction import dot
from cellc.ir.types import TensorType, f32, i32
from cellc.ops.common import constant, pair, tensor_of, widened
from cellc.ops.conv import window_padding
from cellc.ops.shape import pad_axes


class _Windows:
    """The windows of an input along its last n axes, and which axes of the reading are theirs.

    Where windows neither overlap nor leave gaps they are a reshape [..., oh, kh, ow, kw], whose
    adjoint is a reshape as well; else [..., oh, ow, kh, kw] by the primitive.
    """

    def __init__(self, x, kernel, stride, dilation, pads, ceil_mode, value):
        n = len(kernel)
        sizes = x.shape[-n:]
        self.pads, self.sizes, self.counts = list(pads), sizes, []
        for i, (size, k, by, d) in enumerate(zip(sizes, kernel, stride, dilation, strict=True)):
            low, high = self.pads[i]
            room = size + low + high - (d * (k - 1) + 1)
            if room < 0:
                raise ShapeFault(f"pooling windows of {k} (dilation {d}) over an axis of size "
                                 f"{size} with padding ({low}, {high})",
                                 "a smaller kernel or more padding")
            count = room // by + 1
            if ceil_mode and room % by and count * by < size + low:
                count += 1
                self.pads[i] = (low, high + by - room % by)
            self.counts.append(count)
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        lead = x.shape[:-n]
        if kernel == stride and all(d == 1 for d in dilation):
            cut = [(low, count * k - size - low) for (low, _), count, k, size in zip(
                self.pads, self.counts, kernel, sizes, strict=True)]
            x = pad_axes(x, [(0, 0)] * len(lead) + cut, value)
            both = [m for pair_ in zip(self.counts, kernel, strict=True) for m in pair_]
            self.read = s.reshape(x, shape=(*lead, *both))
            self.axes = tuple(len(lead) + 2 * i + 1 for i in range(n))
        else:
            x = pad_axes(x, [(0, 0)] * len(lead) + self.pads, value)
            self.read = s.windows(x, sizes=kernel, strides=stride, dilations=dilation)
            self.axes = tuple(len(lead) + n + i for i in range(n))

    def elements(self) -> list[np.ndarray]:
        """For each axis, how many places of each window lie inside the input."""
        found = []
        for (low, _), size, count, k, by, d in zip(self.pads, self.sizes, self.counts, self.kernel,
                                                   self.stride, self.dilation, strict=True):
            places = np.arange(count)[:, None] * by + np.arange(k) * d - low
            found.append(((places >= 0) & (places < size)).sum(1))
        return found


def _pooling(x, n, kernel_size, stride, dilation, pad_mode, padding, ceil_mode, value, name):
    x = tensor_of(x)
    if len(x.shape) not in (n + 1, n + 2):
        raise ShapeFault(f"{name}: found shape {list(x.shape)}, expected {n + 2} axes",
                         f"[batch, channels{', size' * n}]")
    kernel = pair(kernel_size, n, "kernel_size")
    stride = kernel if stride is None else pair(stride, n, "stride")
    dilation = pair(dilation, n, "dilation")
    if min(*kernel, *stride, *dilation) < 1:
        raise ValueFault(f"{name}: kernel {kernel}, stride {stride} and dilation {dilation} must "
                         "be at least 1")
    pads = window_padding(x.shape[-n:], kernel, stride, dilation, pad_mode, padding)
    return x, _Windows(x, kernel, stride, dilation, pads, ceil_mode, value)


def _max_pool(x, n, kernel_size, stride, padding, dilation, ceil_mode, pad_mode):
    """The first largest of each window, chosen by its place, so that it alone gets the gradient."""
    x = tensor_of(x)
    if x.dtype.kind == "b":
        raise TypeFault(f"max_pool{n}d of a bool tensor", "cast it to an integer first")
    x, windows = _pooling(x, n, kernel_size, stride, dilation, pad_mode, padding, ceil_mode,
                          r.lowest(x.dtype), f"max_pool{n}d")
    read, axes = windows.read, windows.axes
    place = _place(read.shape, axes)
    top = r.spread_out(r.reduce_max(e.stop_gradient(read), axes=axes), read, axes)
    hit = e.bit_or(e.eq(read, top), e.ne(read, read))
    last = fill(TensorType(i32, read.shape), math.prod(windows.kernel))
    first = r.reduce_min(e.select(hit, place, last), axes=axes)
    chosen = e.eq(place, s.broadcast(first, shape=read.shape,
                                     dims=r.remaining(arith.type_of(read), axes)))
    return r.reduce_sum(e.select(chosen, read, fill(arith.type_of(read), 0)), axes=axes)


def _place(shape, axes):
    """The number of each element within its window."""
    place = None
    for axis in axes:
        along = s.iota(shape=shape, axis=axis, dtype=i32)
        place = along if place is None else arith.add(arith.mul(place, shape[axis]), along)
    return place


def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *,
               pad_mode="pad"):
    """The largest of each window.

    Shapes:   x [n, c, h, w] -> [n, c, oh, ow]; the stride is the kernel's size unless given.
    Dtypes:   integers and floats; padding counts as -inf.
    Gradient: to the first largest of each window.
    Errors:   ShapeFault for windows that do not fit; ValueFault for sizes below 1 or the pad_mode.
    """
    return _max_pool(x, 2, kernel_size, stride, padding, dilation, ceil_mode, pad_mode)


def max_pool1d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, *,
               pad_mode="pad"):
    """The largest of each window. Shapes: x [n, c, l] -> [n, c, ol]. Else as max_pool2d."""
    return _max_pool(x, 1, kernel_size, stride, padding, dilation, ceil_mode, pad_mode)


def _avg_pool(x, n, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override,
              pad_mode):
    x = tensor_of(x)
    kind = x.dtype if x.dtype.is_float else f32
    x, windows = _pooling(widened(arith.cast(x, kind)), n, kernel_size, stride, 1, pad_mode,
                          padding, ceil_mode, 0, f"avg_pool{n}d")
    total = r.reduce_sum(windows.read, axes=windows.axes)
    share = _share(windows, padding, count_include_pad, divisor_override, pad_mode, ceil_mode)
    if isinstance(share, np.ndarray):
        share = constant(share.astype(total.dtype.numpy))
    return arith.cast(arith.mul(total, share), kind)


def _share(windows, padding, count_include_pad, divisor_override, pad_mode, ceil_mode):
    """What each element of a window counts: one number, or an array with one for each window."""
    n, whole = len(windows.kernel), math.prod(windows.kernel)
    if divisor_override is not None:
        return 1.0 / divisor_override
    counts = windows.elements()
    padded = any(c.size and c.min() < k for c, k in zip(counts, windows.kernel, strict=True))
    if not padded or (count_include_pad and pad_mode != "same" and not ceil_mode):
        return 1.0 / whole
    if count_include_pad and pad_mode != "same":
        counts = _counts_with_padding(windows, padding)
    each = counts[0] if n == 1 else counts[0][:, None] * counts[1]
    return 1.0 / np.maximum(each, 1)


def _counts_with_padding(windows: _Windows, padding) -> list[np.ndarray]:
    """As `elements`, where the padding asked for counts, but not what ceil_mode adds."""
    asked = pair(padding, len(windows.kernel), "padding")
    found = []
    for p, size, count, k, by in zip(asked, windows.sizes, windows.counts, windows.kernel,
                                     windows.stride, strict=True):
        places = np.arange(count)[:, None] * by + np.arange(k)
        found.append((places < size + 2 * p).sum(1))
    return found


def avg_pool2d(x, kernel_size=1, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
               divisor_override=None, *, pad_mode="pad"):
    """The mean of each window.

    Shapes:   x [n, c, h, w] -> [n, c, oh, ow]; the stride is the kernel's size unless given.
    Dtypes:   floats. Padding counts as zeros, or not at all without `count_include_pad` (and with
              pad_mode "same").
    Gradient: an equal share to each element.
    """
    return _avg_pool(x, 2, kernel_size, stride, padding, ceil_mode, count_include_pad,
                     divisor_override, pad_mode)


def avg_pool1d(x, kernel_size=1, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
               *, pad_mode="pad"):
    """The mean of each window. Shapes: x [n, c, l] -> [n, c, ol]. Else as avg_pool2d."""
    return _avg_pool(x, 1, kernel_size, stride, padding, ceil_mode, count_include_pad, None,
                     pad_mode)


def _averaging(size: int, out: int, of: np.dtype) -> np.ndarray:
    """The matrix [out, size] whose row i averages the places from floor(i*size/out) to
    ceil((i+1)*size/out)."""
    matrix = np.zeros((out, size), of)
    for i in range(out):
        start, stop = i * size // out, -(-(i + 1) * size // out)
        matrix[i, start:stop] = 1.0 / (stop - start)
    return matrix


def _adaptive_avg_pool(x, n, output_size):
    x = tensor_of(x)
    if len(x.shape) not in (n + 1, n + 2):
        raise ShapeFault(f"adaptive_avg_pool{n}d: found shape {list(x.shape)}, expected {n + 2} "
                         "axes")
    sizes = x.shape[-n:]
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * n
    out = pair([size if o is None else o for o, size in zip(given, sizes, strict=True)], n,
               "output_size")
    if min(out) < 1:
        raise ShapeFault(f"adaptive_avg_pool{n}d: found output_size {out}, expected at least 1")
    if all(size % o == 0 for size, o in zip(sizes, out, strict=True)):
        kernel = tuple(size // o for size, o in zip(sizes, out, strict=True))
        return _avg_pool(x, n, kernel, None, 0, False, True, None, "valid")
    for size, o in zip(sizes, out, strict=True):
        axis = len(x.shape) - n        # the first spatial axis goes; its result comes last
        rows = arith.cast(constant(_averaging(size, o, x.dtype.compute.numpy)), x.dtype)
        x = dot(x, rows, contract=((axis,), (1,)), batch=((), ()))
    return x


def adaptive_avg_pool2d(x, output_size):
    """The mean of output_size windows that together cover the image.

    Shapes: x [n, c, h, w] -> [n, c, *output_size]; an int means a square, None keeps a size.
    Errors: ShapeFault for a size below 1.
    """
    return _adaptive_avg_pool(x, 2, output_size)


def adaptive_avg_pool1d(x, output_size):
    """The mean of output_size windows that together cover the sequence [n, c, l]."""
    return _adaptive_avg_pool(x, 1, output_size)
