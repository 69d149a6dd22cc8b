"""Convolution layers."""

from __future__ import annotations

import math

from cellc import ops
from cellc.errors import ShapeFault, ValueFault
from cellc.nn.basic import positive
from cellc.nn.cell import Cell
from cellc.nn.initializer import HeUniform, Uniform, initializer
from cellc.ops.common import pair
from cellc.ops.conv import PAD_MODES
from cellc.parameter import Parameter


class _Conv(Cell):
    """What Conv1d and Conv2d share: n is the number of spatial axes.

    unit_axes   sizes of further axes of the weight, before those of the kernel
    """

    n = 0
    unit_axes: tuple = ()

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, pad_mode="same", padding=0,
                 dilation=1, group=1, has_bias=False, weight_init=None, bias_init=None,
                 dtype="float32"):
        super().__init__()
        self.in_channels = positive("in_channels", in_channels)
        self.out_channels = positive("out_channels", out_channels)
        self.kernel_size = pair(kernel_size, self.n, "kernel_size")
        self.stride, self.dilation = pair(stride, self.n, "stride"), pair(dilation, self.n,
                                                                          "dilation")
        self.pad_mode = pad_mode
        self.padding = padding if isinstance(padding, int) else tuple(padding)
        self.group = positive("group", group)
        if pad_mode not in PAD_MODES:
            raise ValueFault(f"pad_mode is {pad_mode!r}", f"one of {', '.join(PAD_MODES)}")
        if in_channels % group or out_channels % group:
            raise ShapeFault(f"{group} groups do not divide {in_channels} and {out_channels} "
                             "channels")
        for value in (*self.kernel_size, *self.stride, *self.dilation):
            positive("kernel_size, stride and dilation", value)
        shape = (out_channels, in_channels // group, *self.unit_axes, *self.kernel_size)
        weight = HeUniform(math.sqrt(5)) if weight_init is None else weight_init
        self.weight = Parameter(initializer(weight, shape, dtype), name="weight")
        self.has_bias = bool(has_bias)
        self.bias = None
        if has_bias:
            bias = bias_init
            if bias is None:
                bias = Uniform(1 / math.sqrt(math.prod(shape[1:])))
            self.bias = Parameter(initializer(bias, (out_channels,), dtype), name="bias")

    def extend_repr(self):
        return (f"input_channels={self.in_channels}, output_channels={self.out_channels}, "
                f"kernel_size={self.kernel_size}, stride={self.stride}, pad_mode={self.pad_mode}, "
                f"padding={self.padding}, dilation={self.dilation}, group={self.group}, "
                f"has_bias={self.has_bias}")


class Conv2d(_Conv):
    """Cross-correlation of images [n, in, h, w] with learnt kernels; see ops.conv2d.

    pad_mode "same" (the default), "valid", or "pad" with `padding`.
    """

    n = 2

    def construct(self, x):
        return ops.conv2d(x, self.weight, self.bias, self.stride, self.pad_mode, self.padding,
                          self.dilation, self.group)


class Conv1d(_Conv):
    """Cross-correlation of sequences [n, in, l] with learnt kernels; see ops.conv1d.

    The weight is [out, in / group, 1, k], as in MindSpore's checkpoints.
    """

    n = 1
    unit_axes = (1,)

    def construct(self, x):
        return ops.conv1d(x, ops.squeeze(self.weight, 2), self.bias, self.stride, self.pad_mode,
                          self.padding, self.dilation, self.group)
