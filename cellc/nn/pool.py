"""Pooling layers: reductions over windows of images [n, c, h, w] or sequences [n, c, l].

Shapes:   the spatial axes shrink as in ops.max_pool2d and its kin; a single sample without n too.
Errors:   ValueFault for another pad_mode; ShapeFault for windows that do not fit.
Gradient: of a maximum to the first largest of each window, of a mean an equal share to each.
"""

from __future__ import annotations

from cellc import ops
from cellc.errors import ValueFault
from cellc.nn.cell import Cell
from cellc.ops.conv import PAD_MODES


class _Pool(Cell):
    """What the pooling layers share."""

    def __init__(self, kernel_size=1, stride=1, pad_mode="valid", padding=0, ceil_mode=False):
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        self.pad_mode, self.padding, self.ceil_mode = pad_mode.lower(), padding, bool(ceil_mode)
        if self.pad_mode not in PAD_MODES:
            raise ValueFault(f"pad_mode is {pad_mode!r}", f"one of {', '.join(PAD_MODES)}")

    def extend_repr(self):
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, "
                f"pad_mode={self.pad_mode.upper()}")


class MaxPool2d(_Pool):
    """The largest of each window of images [n, c, h, w]; see ops.max_pool2d."""

    def __init__(self, kernel_size=1, stride=1, pad_mode="valid", padding=0, dilation=1,
                 return_indices=False, ceil_mode=False):
        if return_indices:
            raise ValueFault("MaxPool2d: return_indices is not offered", "return_indices=False")
        super().__init__(kernel_size, stride, pad_mode, padding, ceil_mode)
        self.dilation = dilation

    def construct(self, x):
        return ops.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation,
                              self.ceil_mode, pad_mode=self.pad_mode)


class MaxPool1d(_Pool):
    """The largest of each window of sequences [n, c, l]."""

    def __init__(self, kernel_size=1, stride=1, pad_mode="valid", padding=0, dilation=1,
                 return_indices=False, ceil_mode=False):
        if return_indices:
            raise ValueFault("MaxPool1d: return_indices is not offered", "return_indices=False")
        super().__init__(kernel_size, stride, pad_mode, padding, ceil_mode)
        self.dilation = dilation

    def construct(self, x):
        return ops.max_pool1d(x, self.kernel_size, self.stride, self.padding, self.dilation,
                              self.ceil_mode, pad_mode=self.pad_mode)


class AvgPool2d(_Pool):
    """The mean of each window of images [n, c, h, w]; see ops.avg_pool2d."""

    def __init__(self, kernel_size=1, stride=1, pad_mode="valid", padding=0, ceil_mode=False,
                 count_include_pad=True, divisor_override=None):
        super().__init__(kernel_size, stride, pad_mode, padding, ceil_mode)
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def construct(self, x):
        return ops.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode,
                              self.count_include_pad, self.divisor_override,
                              pad_mode=self.pad_mode)


class AvgPool1d(_Pool):
    """The mean of each window of sequences [n, c, l]."""

    def __init__(self, kernel_size=1, stride=1, pad_mode="valid", padding=0, ceil_mode=False,
                 count_include_pad=True):
        super().__init__(kernel_size, stride, pad_mode, padding, ceil_mode)
        self.count_include_pad = count_include_pad

    def construct(self, x):
        return ops.avg_pool1d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode,
                              self.count_include_pad, pad_mode=self.pad_mode)


class AdaptiveAvgPool2d(Cell):
    """The mean of output_size windows that together cover the image [n, c, h, w].

    An int means a square, None keeps a size. Errors: ShapeFault for a size below 1.
    """

    def __init__(self, output_size):
        super().__init__()
        self.output_size = output_size

    def construct(self, x):
        return ops.adaptive_avg_pool2d(x, self.output_size)


class AdaptiveAvgPool1d(Cell):
    """The mean of output_size windows that together cover the sequence [n, c, l]."""

    def __init__(self, output_size):
        super().__init__()
        self.output_size = output_size

    def construct(self, x):
        return ops.adaptive_avg_pool1d(x, self.output_size)
