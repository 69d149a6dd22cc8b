"""MindSpore's operator classes: made once with their attributes, called with tensors.

    self.matmul = P.MatMul(transpose_b=True)
    ...
    y = self.matmul(x, w)

Each is a thin front of a function in `cellc.ops`; the function's docstring says what it does.
"""

from __future__ import annotations

from cellc.errors import TypeFault
from cellc.ops import functional as F
from cellc.ops.custom import InsertGradientOf
from cellc.parameter import assign


class Operation:
    """An operator: attributes fixed when made, tensors when called."""

    def __init__(self):
        pass

    def __repr__(self) -> str:
        attributes = ", ".join(f"{k.strip('_')}={v!r}" for k, v in vars(self).items())
        return f"{type(self).__name__}({attributes})"


def _plain(name: str, function) -> type:
    """An operator without attributes."""

    def call(self, *operands):
        return function(*operands)

    return type(name, (Operation,), {"__call__": call, "__doc__": function.__doc__,
                                     "__module__": __name__})


_PLAIN = {
    "Add": F.add, "Sub": F.sub, "Mul": F.mul, "Div": F.div, "RealDiv": F.div, "TrueDiv": F.div,
    "FloorDiv": F.floordiv, "Mod": F.mod, "FloorMod": F.mod, "Pow": F.pow, "Neg": F.neg,
    "Abs": F.abs, "Sign": F.sign, "Floor": F.floor, "Ceil": F.ceil, "Rint": F.round,
    "Round": F.round, "Square": F.square, "Sqrt": F.sqrt, "Rsqrt": F.rsqrt, "Exp": F.exp,
    "Expm1": F.expm1, "Log": F.log, "Log1p": F.log1p, "Sin": F.sin, "Cos": F.cos, "Tan": F.tan,
    "Asin": F.asin, "ACos": F.acos, "Atan": F.atan, "Atan2": F.atan2, "Sinh": F.sinh,
    "Cosh": F.cosh, "Tanh": F.tanh, "Asinh": F.asinh, "Acosh": F.acosh, "Atanh": F.atanh,
    "Erf": F.erf, "Erfc": F.erfc, "Erfinv": F.erfinv, "Lgamma": F.lgamma, "Digamma": F.digamma,
    "Sigmoid": F.sigmoid, "ReLU": F.relu, "ReLU6": F.relu6, "GeLU": F.gelu, "SeLU": F.selu,
    "Softplus": F.softplus, "Mish": F.mish, "HSwish": F.hswish, "HSigmoid": F.hsigmoid,
    "PReLU": F.prelu, "Reciprocal": F.reciprocal, "Inv": F.reciprocal,
    "Maximum": F.maximum, "Minimum": F.minimum, "Equal": F.equal, "NotEqual": F.not_equal,
    "Less": F.less, "LessEqual": F.less_equal, "Greater": F.greater,
    "GreaterEqual": F.greater_equal, "LogicalNot": F.logical_not, "LogicalAnd": F.logical_and,
    "LogicalOr": F.logical_or, "LogicalXor": F.logical_xor, "BitwiseAnd": F.bitwise_and,
    "BitwiseOr": F.bitwise_or, "BitwiseXor": F.bitwise_xor, "IsNan": F.isnan, "IsInf": F.isinf,
    "IsFinite": F.isfinite, "Cast": F.cast, "Select": F.select, "Identity": F.identity,
    "Reshape": F.reshape, "Transpose": F.transpose, "ExpandDims": F.expand_dims, "Tile": F.tile,
    "Flatten": F.flatten, "ZerosLike": F.zeros_like, "OnesLike": F.ones_like, "Zeros": F.zeros,
    "Ones": F.ones, "Eye": F.eye, "MaskedFill": F.masked_fill, "BiasAdd": F.bias_add,
    "GatherD": F.gather_elements, "Depend": F.depend, "Assign": assign, "Dot": F.dot,
    "Lerp": F.lerp, "Addcmul": F.addcmul, "Addcdiv": F.addcdiv, "LinSpace": F.linspace,
    "StopGradient": F.stop_gradient, "UnsortedSegmentSum": F.unsorted_segment_sum,
}
for _name, _function in _PLAIN.items():
    globals()[_name] = _plain(_name, _function)


class AssignAdd(Operation):
    """Assign to a Parameter its value plus another."""

    def __call__(self, variable, value):
        return assign(variable, F.add(variable, value))


class AssignSub(Operation):
    """Assign to a Parameter its value minus another."""

    def __call__(self, variable, value):
        return assign(variable, F.sub(variable, value))


class MatMul(Operation):
    """The matrix product of two matrices, transposed first where asked for."""

    def __init__(self, transpose_a=False, transpose_b=False):
        self.transpose_a, self.transpose_b = transpose_a, transpose_b

    def __call__(self, a, b):
        return F.batch_matmul(a, b, self.transpose_a, self.transpose_b)


class BatchMatMul(MatMul):
    """The matrix products of two stacks of matrices."""


class _Reduction(Operation):
    """A reduction over axes; `keep_dims` is MindSpore's spelling."""

    def __init__(self, keep_dims=False):
        self.keep_dims = keep_dims

    def __call__(self, x, axis=()):
        return type(self).function(x, axis, self.keep_dims)


def _reduction(name: str, function) -> type:
    return type(name, (_Reduction,), {"function": staticmethod(function),
                                      "__doc__": function.__doc__, "__module__": __name__})


for _name, _function in {"ReduceSum": F.reduce_sum, "ReduceMean": F.mean, "ReduceMax": F.amax,
                         "ReduceMin": F.amin, "ReduceProd": F.reduce_prod, "ReduceAll": F.all,
                         "ReduceAny": F.any}.items():
    globals()[_name] = _reduction(_name, _function)


class _AlongAxis(Operation):
    """An operator whose only attribute is an axis."""

    def __init__(self, axis=-1):
        self.axis = axis

    def __call__(self, x):
        return type(self).function(x, self.axis)


def _along_axis(name: str, function) -> type:
    return type(name, (_AlongAxis,), {"function": staticmethod(function),
                                      "__doc__": function.__doc__, "__module__": __name__})


for _name, _function in {"Softmax": F.softmax, "LogSoftmax": F.log_softmax}.items():
    globals()[_name] = _along_axis(_name, _function)


class Argmax(Operation):
    """The index of the largest along an axis."""

    def __init__(self, axis=-1, output_type=None):
        self.axis, self.output_type = axis, output_type

    def __call__(self, x):
        index = F.argmax(x, self.axis)
        return index if self.output_type is None else F.cast(index, self.output_type)


class Argmin(Argmax):
    """The index of the smallest along an axis."""

    def __call__(self, x):
        index = F.argmin(x, self.axis)
        return index if self.output_type is None else F.cast(index, self.output_type)


class ArgMaxWithValue(Operation):
    """(index of the largest, the largest) along an axis."""

    def __init__(self, axis=0, keep_dims=False):
        self.axis, self.keep_dims = axis, keep_dims

    def __call__(self, x):
        return F.max_with_index(x, self.axis, self.keep_dims)


class CumSum(Operation):
    """Sums of all elements up to each along an axis."""

    def __call__(self, x, axis):
        return F.cumsum(x, axis)


class Squeeze(Operation):
    """Without the axes of size 1, or the one named."""

    def __init__(self, axis=None):
        self.axis = None if axis == () else axis

    def __call__(self, x):
        return F.squeeze(x, self.axis)


class Concat(Operation):
    """The tensors of a tuple one after another."""

    def __init__(self, axis=0):
        self.axis = axis

    def __call__(self, tensors):
        return F.concat(tensors, self.axis)


class Stack(Concat):
    """The tensors of a tuple along a new axis."""

    def __call__(self, tensors):
        return F.stack(tensors, self.axis)


class Unstack(Operation):
    """The slices along an axis, as a tuple."""

    def __init__(self, axis=0, num=None):
        self.axis, self.num = axis, num

    def __call__(self, x):
        return F.unstack(x, self.axis)


class Split(Operation):
    """`output_num` equal pieces along an axis."""

    def __init__(self, axis=0, output_num=1):
        self.axis, self.output_num = axis, output_num

    def __call__(self, x):
        n = x.shape[self.axis]
        if n % self.output_num != 0:
            raise TypeFault(f"Split: {n} places do not make {self.output_num} equal pieces")
        return F.split(x, n // self.output_num, self.axis)


class BroadcastTo(Operation):
    """Repeated to a shape."""

    def __init__(self, shape):
        self.shape = tuple(shape)

    def __call__(self, x):
        return F.broadcast_to(x, self.shape)


class Pad(Operation):
    """Zeros around: `paddings` has (before, after) for each axis."""

    def __init__(self, paddings):
        self.paddings = tuple(map(tuple, paddings))

    def __call__(self, x):
        return F.pad(x, tuple(n for pair in reversed(self.paddings) for n in pair))


class Gather(Operation):
    """The places of an index tensor along an axis."""

    def __init__(self, batch_dims=0):
        self.batch_dims = batch_dims

    def __call__(self, x, index, axis):
        return F.gather(x, index, axis, self.batch_dims)


class OneHot(Operation):
    """`on_value` at the index, `off_value` elsewhere, along a new axis."""

    def __init__(self, axis=-1):
        self.axis = axis

    def __call__(self, indices, depth, on_value=1, off_value=0):
        return F.one_hot(indices, depth, on_value, off_value, self.axis)


class Elu(Operation):
    """x where positive, else alpha * (exp(x) - 1)."""

    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def __call__(self, x):
        return F.elu(x, self.alpha)


class Shape(Operation):
    """The shape as a tuple."""

    def __call__(self, x):
        return x.shape


class Rank(Operation):
    """The number of axes."""

    def __call__(self, x):
        return len(x.shape)


class DType(Operation):
    """The dtype."""

    def __call__(self, x):
        return x.dtype


class Fill(Operation):
    """A tensor of a dtype and shape with one value."""

    def __call__(self, dtype, shape, value):
        return F.full(shape, value, dtype=dtype)


class Conv2D(Operation):
    """The convolution of images with weights given at the call."""

    def __init__(self, out_channel, kernel_size, mode=1, pad_mode="valid", pad=0, stride=1,
                 dilation=1, group=1):
        self.out_channel, self.kernel_size, self.pad_mode, self.pad = (
            out_channel, kernel_size, pad_mode, pad)
        self.stride, self.dilation, self.group = stride, dilation, group

    def __call__(self, x, weight):
        return F.conv2d(x, weight, None, self.stride, self.pad_mode, self.pad, self.dilation,
                        self.group)


class MaxPool(Operation):
    """The largest of each window; pad_mode "valid" or "same"."""

    def __init__(self, kernel_size=1, strides=1, pad_mode="valid"):
        self.kernel_size, self.strides, self.pad_mode = kernel_size, strides, pad_mode.lower()

    def __call__(self, x):
        return F.max_pool2d(x, self.kernel_size, self.strides, pad_mode=self.pad_mode)


class AvgPool(MaxPool):
    """The mean of each window; padding counts for nothing."""

    def __call__(self, x):
        return F.avg_pool2d(x, self.kernel_size, self.strides, pad_mode=self.pad_mode)


class Dropout(Operation):
    """(x, its elements zero with chance 1 - keep_prob, else scaled up; which were kept)."""

    def __init__(self, keep_prob=0.5):
        self.keep_prob = keep_prob

    def __call__(self, x):
        kept = F.dropout(F.ones_like(x), 1.0 - self.keep_prob)
        return F.mul(x, kept), F.not_equal(kept, 0.0)


class SparseSoftmaxCrossEntropyWithLogits(Operation):
    """The mean cross entropy of logits [n, c] and class labels [n]."""

    def __call__(self, logits, labels):
        return F.softmax_cross_entropy_with_logits(logits, labels, True, "mean")


class SoftmaxCrossEntropyWithLogits(Operation):
    """(the cross entropy of each row of logits with probabilities, its gradient by the logits)."""

    def __call__(self, logits, labels):
        loss = F.softmax_cross_entropy_with_logits(logits, labels)
        return loss, F.sub(F.softmax(logits), labels)


class L2Loss(Operation):
    """Half the sum of squares."""

    def __call__(self, x):
        return F.mul(F.sum(F.square(x)), 0.5)


__all__ = [name for name, value in globals().items()
           if isinstance(value, type) and issubclass(value, (Operation, InsertGradientOf))
           and name[0] != "_"]
