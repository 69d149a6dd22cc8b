"""Convolutions: a dot of the weights with every window of the padded input.

There is no convolution primitive: `windows` is a way to read the input, and the kernel that
computes the dot reads through it, so nothing is copied. Gradients follow from those of dot,
windows and pad.
"""

from __future__ import annotations

from cellc.errors import ShapeFault, ValueFault
from cellc.ir import arith
from cellc.ir.prims import shape as s
from cellc.ir.prims.contraction import dot
from cellc.ops.common import known_int, pair, tensor_of
from cellc.ops.linalg import bias_add
from cellc.ops.shape import pad_axes, reshape

PAD_MODES = ("same", "valid", "pad")


def window_padding(sizes, kernel, stride, dilation, pad_mode, padding):
    """(before, after) for each spatial axis.

    same: as many windows as ceil(size / stride), what is needed shared, the odd place after;
    valid: none; pad: `padding`, an int, one for each axis, or (before, after) for each axis, flat.
    Errors: ValueFault for another mode, or a padding given with a mode that has its own.
    """
    n = len(kernel)
    if pad_mode not in PAD_MODES:
        raise ValueFault(f"pad_mode is {pad_mode!r}", f"one of {', '.join(PAD_MODES)}")
    if pad_mode != "pad":
        if padding not in (0, (0,) * n, (0,) * 2 * n):
            raise ValueFault(f"padding {padding} with pad_mode {pad_mode!r}", 'pad_mode="pad"')
        if pad_mode == "valid":
            return [(0, 0)] * n
        needed = [max((-(-size // by) - 1) * by + (k - 1) * d + 1 - size, 0)
                  for size, k, by, d in zip(sizes, kernel, stride, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in needed]
    if isinstance(padding, (tuple, list)) and len(padding) == 2 * n and n > 1:
        flat = pair(padding, 2 * n, "padding")
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
    else:
        pairs = [(p, p) for p in pair(padding, n, "padding")]
    if any(p < 0 for both in pairs for p in both):
        raise ValueFault(f"padding is {padding}, expected nothing negative")
    return pairs


def _checked(x, weight, groups: int, n: int):
    kind = arith.result_dtype(arith.type_of(x), arith.type_of(weight))
    x, weight = arith.cast(tensor_of(x), kind), arith.cast(tensor_of(weight), kind)
    name = f"conv{n}d"
    if len(x.shape) != n + 2 or len(weight.shape) != n + 2:
        raise ShapeFault(f"{name}: found x of shape {list(x.shape)} and weight of shape "
                         f"{list(weight.shape)}, expected {n + 2} axes of each",
                         f"x [batch, channels{', size' * n}], weight [out, in{', size' * n}]")
    if groups < 1 or weight.shape[0] % groups or x.shape[1] != weight.shape[1] * groups:
        raise ShapeFault(f"{name}: found x of shape {list(x.shape)}, weight of shape "
                         f"{list(weight.shape)} and {groups} groups, expected weight.shape[1] * "
                         "groups == x.shape[1] and weight.shape[0] a multiple of groups")
    return x, weight


def _conv(x, weight, bias, stride, pad_mode, padding, dilation, groups, n):
    groups = known_int(groups, "groups")
    x, weight = _checked(x, weight, groups, n)
    stride, dilation = pair(stride, n, "stride"), pair(dilation, n, "dilation")
    if min(stride) < 1 or min(dilation) < 1:
        raise ValueFault(f"conv{n}d: stride {stride} and dilation {dilation} must be at least 1")
    kernel = weight.shape[2:]
    pads = window_padding(x.shape[2:], kernel, stride, dilation, pad_mode, padding)
    x = pad_axes(x, [(0, 0), (0, 0), *pads])
    places = {"sizes": kernel, "strides": stride, "dilations": dilation}
    y = _single(x, weight, places, n) if groups == 1 else _grouped(x, weight, places, groups, n)
    return y if bias is None else bias_add(y, bias)


def _single(x, weight, places, n):
    """windows [N, C, O.., K..] with weight [O, C, K..]: [O, N, O..], then N first."""
    read = s.windows(x, **places)
    over = tuple(range(1, n + 2))
    y = dot(weight, read, contract=(over, (1, *range(n + 2, 2 * n + 2))), batch=((), ()))
    return s.transpose(y, perm=(1, 0, *range(2, n + 2)))


def _grouped(x, weight, places, groups, n):
    """The same with the group as a batch axis: [G, O/G, N, O..], then N first, groups merged."""
    batch, channels, *sizes = x.shape
    out = weight.shape[0]
    read = s.windows(s.reshape(x, shape=(batch, groups, channels // groups, *sizes)), **places)
    weight = s.reshape(weight, shape=(groups, out // groups, *weight.shape[1:]))
    y = dot(weight, read, contract=(tuple(range(2, n + 3)), (2, *range(n + 3, 2 * n + 3))),
            batch=((0,), (1,)))
    y = s.transpose(y, perm=(2, 0, 1, *range(3, n + 3)))
    return reshape(y, (y.shape[0], out, *y.shape[3:]))


def conv2d(x, weight, bias=None, stride=1, pad_mode="valid", padding=0, dilation=1, groups=1):
    """Cross-correlation of images with kernels.

    Shapes:   x [n, c, h, w], weight [o, c / groups, kh, kw], bias [o] -> [n, o, oh, ow].
              oh = (h + padding - dilation * (kh - 1) - 1) // stride + 1; with "same" ceil(h /
              stride).
    Dtypes:   any float; f16 and bf16 accumulate in f32.
    Errors:   ShapeFault for channels that do not fit or windows larger than the padded image;
              ValueFault for pad_mode, padding, stride or dilation.
    Padding:  zeros that compiled code may leave out of sums, so that infinite weights need not make
              NaN of them.
    Gradient: to x, weight and bias.
    Source:   Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016.
    """
    return _conv(x, weight, bias, stride, pad_mode, padding, dilation, groups, 2)


def conv1d(x, weight, bias=None, stride=1, pad_mode="valid", padding=0, dilation=1, groups=1):
    """Cross-correlation of sequences with kernels.

    Shapes: x [n, c, l], weight [o, c / groups, k], bias [o] -> [n, o, ol]. Else as conv2d; a pair
            of paddings is (before, after).
    """
    if isinstance(padding, (tuple, list)) and len(padding) == 2:
        before, after = pair(padding, 2, "padding")
        if pad_mode == "pad":
            x = pad_axes(tensor_of(x), [(0, 0), (0, 0), (before, after)])
        elif (before, after) != (0, 0):
            raise ValueFault(f"padding {padding} with pad_mode {pad_mode!r}", 'pad_mode="pad"')
        padding = 0
    return _conv(x, weight, bias, stride, pad_mode, padding, dilation, groups, 1)


def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    """Every window of images as a column.

    Shapes: x [n, c, h, w] -> [n, c * kh * kw, windows].
    """
    x = tensor_of(x)
    kernel = pair(kernel_size, 2, "kernel_size")
    stride, dilation = pair(stride, 2, "stride"), pair(dilation, 2, "dilation")
    pads = window_padding(x.shape[2:], kernel, stride, dilation, "pad", padding)
    x = pad_axes(x, [(0, 0), (0, 0), *pads])
    y = s.windows(x, sizes=kernel, strides=stride, dilations=dilation)
    batch, channels, oh, ow = y.shape[:4]
    y = s.transpose(y, perm=(0, 1, 4, 5, 2, 3))
    return s.reshape(y, shape=(batch, channels * kernel[0] * kernel[1], oh * ow))
