"""Every function of cellc.ops once or more, as source text over named inputs.

One line is one expression; the inputs of a family are made by `inputs` from a dtype and a shape.
`tests/ops/test_ops_compiled.py` runs them in both modes.
"""

import numpy as np

from cellc import Tensor

ELEMENTWISE = """
ops.abs(x)
ops.neg(x)
ops.sign(x)
ops.floor(x)
ops.ceil(x)
ops.trunc(x)
ops.round(x)
ops.round(x, decimals=1)
ops.square(x)
ops.sqrt(x)
ops.rsqrt(x)
ops.exp(x)
ops.expm1(x)
ops.log(x)
ops.log1p(x)
ops.log2(x)
ops.log10(x)
ops.exp2(x)
ops.sin(x)
ops.cos(x)
ops.tan(x)
ops.asin(x)
ops.acos(x)
ops.atan(x)
ops.sinh(x)
ops.cosh(x)
ops.tanh(x)
ops.asinh(x)
ops.acosh(x)
ops.atanh(x)
ops.erf(x)
ops.erfc(x)
ops.erfinv(ops.tanh(x) * 0.9)
ops.lgamma(x)
ops.digamma(x)
ops.sigmoid(x)
ops.isfinite(x)
ops.isinf(x)
ops.isnan(x)
ops.reciprocal(x)
ops.identity(x)
ops.stop_gradient(x)
ops.bitwise_not(x)
ops.logical_not(x)
ops.clip(x, -1, 2)
ops.clip(x, None, 0.5)
ops.clamp(x, y)
ops.clip_by_value(x, -0.5, 0.5)
ops.to_bool(x)
ops.to_int(x)
ops.to_long(x)
ops.to_half(x)
ops.to_float(x)
ops.to_double(x)
ops.cast(x, cellc.bfloat16)
ops.cast(x, cellc.uint8)
ops.cast(x, cellc.int8)
ops.cast(x, cellc.int16)
ops.cast(x, cellc.uint64)
ops.cast_as(x, y)
ops.depend(x, y)
ops.mutable(x)
ops.add(x, y)
ops.add(x, 2)
ops.add(x, 0.5)
ops.add(True, x)
ops.sub(x, y)
ops.sub(1, x)
ops.mul(x, y)
ops.mul(x, 2.5)
ops.div(x, y)
ops.div(x, 2)
ops.div(1, x)
ops.floordiv(x, y)
ops.floordiv(x, 2)
ops.floordiv(x, -2)
ops.floordiv(7, x)
ops.mod(x, y)
ops.mod(x, 3)
ops.mod(x, -3)
ops.mod(-5, x)
ops.fmod(x, y)
ops.fmod(x, 3)
ops.pow(x, y)
ops.pow(x, 2)
ops.pow(x, 3)
ops.pow(x, -1)
ops.pow(x, 0.5)
ops.pow(x, 5)
ops.pow(2, x)
ops.pow(2.0, x)
ops.atan2(x, y)
ops.atan2(x, 1)
ops.maximum(x, y)
ops.maximum(x, 0)
ops.minimum(x, y)
ops.minimum(x, 0.5)
ops.logaddexp(x, y)
ops.lerp(x, y, 0.25)
ops.lerp(x, y, x)
ops.addcmul(x, y, x)
ops.addcmul(x, y, x, 0.5)
ops.addcdiv(x, x, y)
ops.addcdiv(x, x, y, 2)
ops.equal(x, y)
ops.equal(x, 0)
ops.not_equal(x, y)
ops.less(x, y)
ops.less(x, 0.5)
ops.less_equal(x, y)
ops.greater(x, y)
ops.greater(0, x)
ops.greater_equal(x, y)
ops.isclose(x, y)
ops.isclose(x, x, equal_nan=True)
ops.logical_and(x, y)
ops.logical_or(x, y)
ops.logical_xor(x, y)
ops.bitwise_and(x, y)
ops.bitwise_and(x, 3)
ops.bitwise_or(x, y)
ops.bitwise_xor(x, y)
ops.left_shift(x, ops.abs(y) % 7)
ops.left_shift(x, 2)
ops.left_shift(x, 70)
ops.right_shift(x, ops.abs(y) % 7)
ops.right_shift(x, 1)
ops.right_shift(x, 70)
ops.select(c, x, y)
ops.where(x > 0, x, y)
ops.where(c, x, 0)
ops.where(c, 1.5, x)
ops.where(c, 1, 2)
ops.where(c, 1.0, 2.0)
ops.where(x, x, y)
ops.keep_where(x, c, y)
ops.masked_fill(x, c, 3)
ops.masked_fill(x, c, -1.5)
ops.relu(x)
ops.relu6(x)
ops.leaky_relu(x)
ops.leaky_relu(x, 0.1)
ops.prelu(x, ops.cast(ops.full((1,), 0.25), x.dtype))
ops.elu(x)
ops.elu(x, 0.5)
ops.selu(x)
ops.celu(x)
ops.celu(x, 2.0)
ops.gelu(x)
ops.gelu(x, "tanh")
ops.silu(x)
ops.swish(x)
ops.softplus(x)
ops.softplus(x, 2.0, 3.0)
ops.logsigmoid(x)
ops.mish(x)
ops.hsigmoid(x)
ops.hardsigmoid(x)
ops.hswish(x)
ops.hardswish(x)
ops.hardtanh(x)
ops.hardtanh(x, -2.0, 0.5)
ops.softsign(x)
ops.tanhshrink(x)
ops.hardshrink(x)
ops.softshrink(x)
ops.softshrink(x, 0.1)
ops.threshold(x, 0.1, 20)
x + y
x - y * x
x / y
x // y
x % y
x ** 2
-x
+x
abs(x)
~x
x & y
x | y
x ^ y
x << 1
x >> 1
x == y
x != y
x < y
x <= 1
x > y
x >= y
2 + x
2.0 * x
1 - x
1.0 / x
2 ** x
7 // x
7 % x
divmod(x, y)
3 & x
x + 1 + True
"""

# x with every operand that broadcasts with it: `row` its last axis, `column` its first, `one` 0-d.
BROADCAST = """
x + row
row - x
x * column
column / x
row * column
x + one
one - x
row + one
ops.maximum(x, column)
ops.where(x > row, column, one)
ops.where(column > 0, x, 0)
ops.pow(x, one)
ops.addcmul(x, row, column)
ops.lerp(row, column, one)
ops.logaddexp(row, x)
ops.equal(x, row)
ops.logical_and(column, row)
ops.masked_fill(x, row > 0, one)
ops.clip(x, row, column)
ops.expand_as(row, x)
ops.expand_as(column, x)
ops.broadcast_to(one, x.shape)
ops.sum(x * row)
ops.sum(row * column, axis=0)
ops.sum((x - column) * row, axis=1, keepdims=True)
"""

AXES = ("", "axis=0", "axis=-1", "axis=(0, -1)", "axis=()", "axis=-1, keepdims=True",
        "axis=None, keepdims=True", "axis=(0,), keepdims=True")
ONE_AXIS = ("", "axis=0", "axis=-1", "axis=-1, keepdims=True", "axis=None, keepdims=True")


def _over(names: str, axes) -> list[str]:
    return [f"ops.{name}(x{', ' + axis if axis else ''})" for name in names.split()
            for axis in axes]


REDUCTIONS = [
    *_over("sum reduce_sum mean prod reduce_prod var std amax amin all any logsumexp norm", AXES),
    *_over("argmax argmin max min", ONE_AXIS),
    *"""
ops.max_with_index(x, -1)
ops.max_with_index(x, 0, True)
ops.cumsum(x, 0)
ops.cumsum(x, -1)
ops.cumsum(x, -1, dtype=cellc.float32)
ops.sum(x, dtype=cellc.float64)
ops.sum(x, 0, dtype=cellc.int32)
ops.mean(x, 0, dtype=cellc.float64)
ops.prod(x, -1, dtype=cellc.float32)
ops.var(x, ddof=1)
ops.std(x, -1, ddof=1, keepdims=True)
ops.var(x, 0, True)
ops.norm(x, 1)
ops.norm(x, 1, -1)
ops.norm(x, 3.0, 0)
ops.norm(x, float("inf"), 0)
ops.norm(x, -float("inf"), -1, True)
ops.softmax(x)
ops.softmax(x, 0)
ops.log_softmax(x)
ops.log_softmax(x, 0)
ops.softmin(x)
ops.softmin(x, 0)
ops.normalize(x, axis=-1)
ops.normalize(x, p=1, axis=0)
ops.moments(x, (0,))
ops.moments(x, (0, 1), keepdims=False)
ops.clip_by_norm(x, 0.5)
ops.clip_by_norm(x, 100.0, 1.0)
ops.clip_by_global_norm((x, x * 2), 0.5)
ops.clip_by_global_norm([x], 1.0, ops.norm(x))
ops.layer_norm(x)
ops.layer_norm(x, x.shape)
ops.layer_norm(x, x.shape[1:], x[0], x[0])
ops.channel_moments(x)
ops.argsort(x)
ops.argsort(x, 0)
ops.argsort(x, descending=True)
ops.sort(x)
ops.sort(x, 0, True)
ops.topk(x, 1)
ops.topk(x, 1, 0, False)
(x - ops.mean(x, -1, True)) / (ops.std(x, -1, keepdims=True) + 1)
ops.sum(x) + ops.amax(x) * ops.mean(x)
""".strip().splitlines()]

SHAPES = """
ops.reshape(x, -1)
ops.reshape(x, (x.shape[1], x.shape[0]))
ops.reshape(x, 1, *x.shape)
ops.view(x, x.shape)
ops.flatten(x, 0)
ops.flatten(x)
ops.flatten(x, 1)
ops.flatten(x, 0, 1)
ops.ravel(x)
ops.transpose(x)
ops.transpose(x, (1, 0))
ops.permute(x, 1, 0)
ops.swapaxes(x, 0, -1)
ops.moveaxis(x, 0, 1)
ops.expand_dims(x, 0)
ops.unsqueeze(x, -1)
ops.squeeze(ops.expand_dims(x, 1))
ops.squeeze(ops.expand_dims(x, 1), 1)
ops.broadcast_to(x, (2, *x.shape))
ops.broadcast_to(x, (2, -1, -1))
ops.expand(x, 3, *x.shape)
ops.tile(x, (2, 1))
ops.tile(x, (2, 1, 3))
ops.repeat(x, 1, 2)
ops.repeat_interleave(x, 2, 0)
ops.repeat_interleave(x, 3, -1)
ops.repeat_interleave(x, 2)
ops.flip(x)
ops.flip(x, 0)
ops.flip(x, (0, 1))
ops.roll(x, 1, 0)
ops.roll(x, -1, 1)
ops.roll(x, 4)
ops.concat((x, x))
ops.concat([x, x * 2, x], 1)
ops.cat((x, ops.ones((1, x.shape[1]))))
ops.stack((x, x))
ops.stack([x, x], -1)
ops.split(x, 2)
ops.split(x, 1, 1)[:3]
ops.split(x, (0, x.shape[0]))
ops.chunk(x, 2)
ops.chunk(x, 3, 1)
ops.unstack(x)
ops.unbind(x, 1)[:3]
ops.pad(x, (1, 2))
ops.pad(x, (0, 1, 2, 0), value=3)
ops.pad(x, (1, -1))
ops.tril(x)
ops.tril(x, 1)
ops.triu(x)
ops.triu(x, -1)
ops.diagonal(x[:1, :1])
ops.diagonal(ops.tile(x[:1], (x.shape[1], 1)))
ops.full_like(x, 2)
ops.full_like(x, 2.5, dtype=cellc.float32)
ops.zeros_like(x)
ops.ones_like(x)
ops.zeros_like(x, dtype=cellc.int16)
ops.meshgrid(x[0], x[:, 0])
ops.meshgrid(x[0], x[:, 0], indexing="ij")
ops.transpose(x) + 0
ops.transpose(ops.reshape(x, (x.shape[1], x.shape[0])))
ops.concat((ops.transpose(x), ops.flip(ops.transpose(x), 1)), 1)
ops.sum(ops.transpose(x), 0)
ops.pad(ops.concat((x, x), 1), (1, 1))[:, 1:-1]
ops.flatten_all(x)
ops.shape(x)
ops.rank(x)
ops.size(x)
ops.numel(x)
"""

# i: i64 places of axis 0, j: i32 places of the last axis, at: one place for each element, all
# within the axes; from the end as well.
INDEXING = """
x[0]
x[-1]
x[0, 1:]
x[:, 0]
x[..., -1]
x[None]
x[:, None, :]
x[::2]
x[::-1]
x[1:, ::-2]
x[-2:]
x[5:1]
x[100:]
x[0, 0]
x[i]
x[:, j]
x[i, 0]
x[0, j]
x[i[:, None], j]
x[i[0]]
x[[0, -1]]
x[None, i, ..., None]
x[i][:, j]
ops.getitem(x, (0, slice(None)))
ops.setitem(x, 0, 7)
ops.setitem(x, (slice(None), 0), x[:, 1])
ops.setitem(x, slice(None, None, 2), 1)
ops.setitem(x, slice(None, None, -2), x[::2])
ops.setitem(x, (slice(None), slice(1, None)), x[:, :-1])
ops.setitem(x, i, 5)
ops.setitem(x, i, x[i] * 2)
ops.setitem(x, (slice(None), j), 3)
ops.setitem(x, (i[:1], j[:1]), 3)
ops.setitem(x, x > 0, 1)
ops.take(x, i, 0)
ops.take(x, j, -1)
ops.take(x, i)
ops.take(x, [0, -1], 1)
ops.gather(x, i, 0)
ops.gather(x, j, 1)
ops.index_select(x, 0, i)
ops.gather_elements(x, 0, at)
ops.gather_elements(x, 1, ops.zeros_like(at))
ops.scatter_add(x, 0, at, x)
ops.scatter_add(x, 1, ops.zeros_like(at), x)
ops.index_add(x, ops.abs(i), ops.gather(x, ops.abs(i), 0), 0)
ops.unsorted_segment_sum(x, at, 40)
ops.embedding(ops.abs(i), x)
ops.one_hot(i, 4)
ops.one_hot(j, 3, axis=0)
ops.one_hot(i, 3, 2.5, -1)
ops.one_hot(i, 3, dtype_=cellc.int32)
ops.one_hot(i, 3, x[0, 0], x[0, 1])
"""

LINALG = """
ops.matmul(a, b)
ops.matmul(a, b[:, 0])
ops.matmul(a[0], b)
ops.matmul(a[0], b[:, 0])
a @ b
ops.mm(a, b)
ops.matmul(stack_a, stack_b)
ops.bmm(stack_a, stack_b)
ops.matmul(stack_a, b)
ops.matmul(a, stack_b)
ops.matmul(a[0], stack_b)
ops.matmul(stack_a, b[:, 0])
ops.matmul(stack_a[:, None], stack_b)
ops.batch_matmul(stack_a, stack_b)
ops.batch_matmul(ops.swapaxes(stack_a, 1, 2), stack_b, transpose_a=True)
ops.batch_matmul(a, ops.transpose(b), transpose_b=True)
ops.dot(a, b)
ops.dot(a[0], b[:, 0])
ops.dot(a, stack_b)
ops.outer(a[0], b[0])
ops.tensordot(a, b, 1)
ops.tensordot(stack_a, stack_b, ((2, 0), (1, 0)))
ops.tensordot(a[:2], b[:2], 0)
ops.tensordot(a, ops.transpose(b), 2) if a.shape == (b.shape[1], b.shape[0]) else a
ops.linear(a, ops.transpose(b))
ops.linear(a, ops.transpose(b), b[0])
ops.linear(stack_a, ops.transpose(b), b[0])
ops.linear(a[0], ops.transpose(b), b[0])
ops.bias_add(a, a[0])
ops.bias_add(ops.swapaxes(stack_a, 1, 2), a[0])
ops.relu(ops.matmul(a, b) + b[0])
ops.sum(ops.matmul(a, b), 0)
ops.matmul(ops.transpose(a), a)
ops.matmul(a * 2, b + 1) * 0.5
ops.softmax(ops.matmul(a, b))
"""

# x [n, c, h, w], w [o, c, kh, kw], v [c] for channels, q [n, c, l]
IMAGES = """
ops.conv2d(x, w)
ops.conv2d(x, w, pad_mode="same")
ops.conv2d(x, w, w[:, 0, 0, 0], 2, "pad", 1)
ops.conv2d(x, w, None, (1, 2), "pad", (0, 1, 2, 1))
ops.conv2d(x, w, dilation=(2, 1), pad_mode="same")
ops.conv2d(x, w[:, :1], groups=x.shape[1])
ops.conv2d(x, ops.tile(w[:, :1], (x.shape[1], 1, 1, 1)), None, 2, "same", 0, 1, x.shape[1])
ops.conv2d(x, w[:, :, :1, :1])
ops.conv2d(x, w[:1])
ops.relu(ops.conv2d(x, w, w[:, 0, 0, 0], pad_mode="same"))
ops.conv1d(q, w[:, :, 0])
ops.conv1d(q, w[:, :, 0], w[:, 0, 0, 0], 2, "pad", (1, 2))
ops.conv1d(q, w[:, :, 0], dilation=2, pad_mode="same")
ops.unfold(x, 2)
ops.unfold(x, (3, 2), 1, 1, 2)
ops.max_pool2d(x, 2)
ops.max_pool2d(x, (2, 3), 1)
ops.max_pool2d(x, 3, 2, 1)
ops.max_pool2d(x, 2, pad_mode="same")
ops.max_pool2d(x, 2, 3, 1, ceil_mode=True)
ops.max_pool2d(x, 2, 1, 0, 2)
ops.max_pool1d(q, 2)
ops.max_pool1d(q, 3, 1, 1)
ops.avg_pool2d(x, 2)
ops.avg_pool2d(x, (2, 3), 1)
ops.avg_pool2d(x, 3, 2, 1)
ops.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
ops.avg_pool2d(x, 2, 3, 1, True)
ops.avg_pool2d(x, 2, pad_mode="same")
ops.avg_pool2d(x, 2, divisor_override=3)
ops.avg_pool1d(q, 2)
ops.avg_pool1d(q, 3, 2, 1)
ops.adaptive_avg_pool2d(x, 1)
ops.adaptive_avg_pool2d(x, (3, 2))
ops.adaptive_avg_pool2d(x, (None, 2))
ops.adaptive_avg_pool1d(q, 1)
ops.adaptive_avg_pool1d(q, 3)
ops.batch_norm(x, v, v * v + 1, v, v)
ops.batch_norm(x, v, v, v, v, training=True)
ops.batch_norm(q, v, v * v + 1)
ops.normalize_channels(x, v, v * v, v, v)
ops.normalize_channels(x, x[0, 0, 0] * 0, x[0, 0, 0] * 0 + 1, axis=-1)
ops.channel_moments(x)
ops.channel_moments(x, -1)
ops.unbiased(v, x)
ops.group_norm(x, x.shape[1])
ops.group_norm(x, 1, v, v)
ops.layer_norm(x)
ops.layer_norm(x, x.shape[2:], x[0, 0], x[0, 0])
ops.prelu(x, v)
ops.bias_add(x, v)
ops.glu(ops.concat((x, x * 2), 1), 1)
ops.softmax(x, 1)
ops.log_softmax(x, 1)
ops.sum(x, (0, 2, 3))
ops.mean(x, (2, 3), True)
ops.amax(x, (1, 3))
ops.transpose(x, (0, 2, 3, 1))
ops.moveaxis(x, 1, -1)
ops.logsumexp(x, 1)
ops.flatten(x, 1)
ops.flip(x, (2, 3))
ops.cumsum(x, 1)
ops.argmax(x, 1)
"""

# x, t [n, c]; l labels [n]; p, r chances [n, c]
LOSSES = [
    line if "reduction" not in line else line.replace("reduction", f'reduction="{how}"')
    for line in """
ops.mse_loss(x, t, reduction)
ops.l1_loss(x, t, reduction)
ops.smooth_l1_loss(x, t, 0.5, reduction)
ops.huber_loss(x, t, reduction, delta=0.5)
ops.binary_cross_entropy(r, p, None, reduction)
ops.binary_cross_entropy(r, p, t, reduction)
ops.binary_cross_entropy_with_logits(x, p, reduction)
ops.binary_cross_entropy_with_logits(x, p, t, p[0], reduction)
ops.kl_div(ops.log_softmax(x), p, reduction)
ops.nll_loss(x, l, reduction)
ops.nll_loss(x, l, p[0], 1, reduction, label_smoothing=0.1)
ops.cross_entropy(x, l, reduction)
ops.cross_entropy(x, l, p[0], 0, reduction, label_smoothing=0.2)
ops.cross_entropy(x, p, reduction)
ops.cross_entropy(x, p, p[0], reduction, label_smoothing=0.2)
ops.softmax_cross_entropy_with_logits(x, l, True, reduction)
ops.softmax_cross_entropy_with_logits(x, p, False, reduction)
""".strip().splitlines() for how in ("mean", "sum", "none")] + """
ops.smooth_l1_loss(x, t, 0)
ops.kl_div(ops.log_softmax(x), p, "batchmean")
ops.cross_entropy(x[0], l[0])
ops.cross_entropy(ops.transpose(ops.expand_dims(x, 0), (0, 2, 1)), ops.expand_dims(l, 0))
ops.nll_loss(x, l.astype(cellc.int64), ignore_index=0)
ops.reduced(x * t, "mean")
""".strip().splitlines()

CREATED = """
ops.arange(5)
ops.arange(1, 8, 3)
ops.arange(0)
ops.arange(1.0, 0.0, -0.3)
ops.arange(5, dtype=dtype)
ops.linspace(0, 1, 7)
ops.linspace(-1.5, 2.5, 1)
ops.eye(3)
ops.eye(2, 4, dtype)
ops.full((2, 3), 2, dtype=dtype)
ops.full((), 2.5)
ops.fill(dtype, (2, 0), 1)
ops.zeros(2, 3)
ops.zeros((2, 3), dtype)
ops.ones((), dtype=dtype)
ops.ones((3,), dtype=dtype) + 1
"""

DRAWN = """
ops.rand(3, 5)
ops.rand(70001, dtype=dtype)
ops.randn(3, 5, dtype=dtype)
ops.randn(0, 5)
ops.standard_normal((2, 2))
ops.normal((5, 7), 2.0, 0.5, dtype=dtype)
ops.uniform((5, 7), -2.0, 3.0, dtype=dtype)
ops.uniform((), 1.0, 2.0)
ops.randint(-3, 9, (70, 3))
ops.randint(0, 2, (5,), dtype=cellc.int32)
ops.randperm(50)
ops.bernoulli(ops.ones((7, 9), dtype=dtype), 0.3)
ops.bernoulli(ops.ones((4,)), ops.arange(4) / 3)
ops.dropout(ops.ones((50, 30), dtype=dtype), 0.4)
ops.dropout(ops.ones((5,), dtype=dtype), 1.0)
ops.dropout(ops.ones((5,), dtype=dtype), 0.4, False)
ops.rand(3) + ops.rand(3) * ops.randn(3)
"""
METHODS = """
x.T
x.mT
x.dtype == y.dtype
x.abs() + x.neg() + x.negative() + x.absolute()
x.sign() + x.floor() + x.ceil() + x.trunc() + x.round() + x.square()
x.sqrt() + x.rsqrt() + x.exp() + x.expm1() + x.exp2() + x.log() + x.log1p() + x.log2()
x.sin() + x.cos() + x.tan() + x.asin() + x.acos() + x.atan() + x.sinh() + x.cosh() + x.tanh()
(x.asinh(), x.acosh(), x.atanh(), x.erf(), x.erfc(), (x.tanh() * 0.9).erfinv())
(x.sigmoid(), x.relu(), x.reciprocal())
(x.isnan(), x.isinf(), x.isfinite(), x.softmax(), x.log_softmax(0), x.gelu(), x.log10())
(x.clip(-1, 1), x.clamp(0.5), x.pow(2), x.add(y), x.sub(y), x.mul(y), x.div(y), x.floordiv(y))
(x.mod(y), x.equal(y), x.not_equal(y), x.less(y), x.less_equal(y), x.greater(y))
(x.greater_equal(y), x.maximum(y), x.minimum(y), x.logical_not(), x.logical_and(y))
(x.logical_or(y), x.logical_xor(y), x.atan2(y), x.lerp(y, 0.5), x.addcmul(y, y), x.isclose(y))
(x.masked_fill(x > 0, 1), x.cast(cellc.int32), x.astype("float16"), x.to(cellc.float64))
(x.sum(), x.sum(0), x.mean(-1, True), x.prod(), x.var(), x.std(0), x.amax(), x.amin(0))
(x.all(), x.any(1), x.argmax(), x.argmin(1), x.cumsum(0), x.logsumexp(), x.norm(), x.max())
(x.min(), x.where(x > 0, y), x.reshape(-1), x.view(-1), x.flatten(), x.ravel(), x.transpose())
(x.permute(1, 0), x.swapaxes(0, 1), x.moveaxis(0, 1), x.expand_dims(0), x.unsqueeze(1))
(x.unsqueeze(0).squeeze(0), x.broadcast_to((2, *x.shape)), x.expand(2, *x.shape))
(x.expand_as(y), x.tile((2, 1)), x.repeat(1, 2), x.repeat_interleave(2, 0), x.flip(0))
(x.roll(1, 0), x.split(2), x.chunk(2), x.unbind(), x.unstack(), x.tril(), x.triu())
(x[:2, :2].diagonal(), x.matmul(y.T), x.mm(y.T), x.dot(y.T), x[0].outer(y[0]), x @ y.T)
(x[None].bmm(y.T[None]), x.take(i, 0), x.gather(i, 0), x.index_select(0, i))
(x.sort(), x.argsort(0), x.topk(2), x.zeros_like(), x.ones_like(), x.type_as(y))
(x.bool(), x.int(), x.long(), x.half(), x.float(), x.double(), x.multiply(y), x.subtract(y))
(x.divide(y), x.true_divide(y), x.eq(y), x.ne(y), x.lt(y), x.le(y), x.gt(y), x.ge(y))
(x.copy(), x.clone(), x.detach(), x.data + 1, x.gather_elements(0, at), x.ndim, x.size)
(x.scatter_add(0, at, x), len(x), [row.sum() for row in x], x.shape)
x.abs().sum().item()
"""

# x [4, 5] of extreme values, l labels, p chances.
HARD = """
ops.softmax(x)
ops.log_softmax(x)
ops.logsumexp(x, -1)
ops.cross_entropy(x, l)
ops.cross_entropy(x, p)
ops.softmax_cross_entropy_with_logits(x, l, True)
ops.binary_cross_entropy_with_logits(x, p)
ops.binary_cross_entropy(ops.clip(x, 0.0, 1.0), p)
ops.gelu(x)
ops.gelu(x, "tanh")
ops.logsigmoid(x)
ops.sigmoid(x)
ops.softplus(x)
ops.mish(x)
ops.silu(x)
ops.elu(x)
ops.selu(x)
ops.celu(x)
ops.tanh(x)
ops.layer_norm(x)
ops.layer_norm(x, eps=1e-12)
ops.var(x, -1)
ops.std(x, -1)
ops.norm(x, 2, -1)
ops.normalize(x)
ops.logaddexp(x, x[:, :1])
ops.huber_loss(x, p)
ops.smooth_l1_loss(x, p)
ops.kl_div(ops.log_softmax(x), p)
ops.expm1(x)
ops.log1p(x)
ops.rsqrt(x)
ops.pow(x, 2.5)
ops.relu(x)
ops.leaky_relu(x)
ops.relu6(x)
ops.hswish(x)
ops.hardtanh(x)
ops.softsign(x)
ops.softshrink(x)
ops.clip(x, -1.0, 1.0)
ops.amax(x, -1)
ops.amin(x, -1)
ops.argmax(x, -1)
ops.argmin(x, -1)
ops.max(x)
ops.maximum(x, x[:1])
ops.minimum(x, x[:1])
ops.cumsum(x, -1)
ops.prod(x, -1)
ops.sum(x, 0)
ops.sort(x)
ops.argsort(x)
ops.topk(x, 2)
ops.sign(x)
ops.round(x)
ops.floor(x)
ops.to_int(x)
ops.to_long(x)
ops.cast(x, cellc.uint8)
ops.cast(x, cellc.int8)
ops.to_half(x)
ops.cast(x, cellc.bfloat16)
ops.to_bool(x)
ops.floordiv(x, 3)
ops.mod(x, 3)
ops.fmod(x, 3)
ops.atan2(x, x[:1])
ops.isclose(x, x[:1])
ops.isfinite(x)
ops.isinf(x)
ops.isnan(x)
ops.where(x > 0, x, 0)
ops.max_pool1d(x[None], 2)
ops.avg_pool1d(x[None], 2)
x * 0.0
x - x
x == x
x < 0
ops.matmul(x, ops.transpose(x))
ops.lgamma(x)
ops.digamma(x)
ops.erfc(x)
ops.sinh(x)
ops.asinh(x)
ops.acosh(x)
ops.atan(x)
ops.exp2(x)
ops.log2(x)
ops.log10(x)
ops.sin(x)
ops.cos(x)
ops.tan(x)
"""

# Those of them whose gradients do not hang on the order of sums.
HARD_GRADIENTS = """
ops.softmax(x)
ops.log_softmax(x)
ops.logsumexp(x, -1)
ops.cross_entropy(x, l)
ops.cross_entropy(x, p)
ops.softmax_cross_entropy_with_logits(x, l, True)
ops.binary_cross_entropy_with_logits(x, p)
ops.binary_cross_entropy(ops.clip(x, 0.0, 1.0), p)
ops.gelu(x)
ops.gelu(x, "tanh")
ops.logsigmoid(x)
ops.sigmoid(x)
ops.softplus(x)
ops.mish(x)
ops.silu(x)
ops.elu(x)
ops.selu(x)
ops.celu(x)
ops.tanh(x)
ops.layer_norm(x)
ops.layer_norm(x, eps=1e-12)
ops.std(x, -1)
ops.norm(x, 2, -1)
ops.normalize(x)
ops.logaddexp(x, x[:, :1])
ops.huber_loss(x, p)
ops.smooth_l1_loss(x, p)
ops.kl_div(ops.log_softmax(x), p)
ops.expm1(x)
ops.log1p(x)
ops.rsqrt(x)
ops.pow(x, 2.5)
ops.relu(x)
ops.leaky_relu(x)
ops.relu6(x)
ops.hswish(x)
ops.hardtanh(x)
ops.softsign(x)
ops.softshrink(x)
ops.clip(x, -1.0, 1.0)
ops.amax(x, -1)
ops.amin(x, -1)
ops.max(x)
ops.maximum(x, x[:1])
ops.minimum(x, x[:1])
ops.sum(x, 0)
ops.atan2(x, x[:1])
ops.where(x > 0, x, 0)
ops.max_pool1d(x[None], 2)
ops.avg_pool1d(x[None], 2)
x * 0.0
x - x
ops.erfc(x)
ops.sinh(x)
ops.asinh(x)
ops.acosh(x)
ops.atan(x)
ops.exp2(x)
ops.log2(x)
ops.log10(x)
ops.sin(x)
ops.cos(x)
ops.tan(x)
"""


def lines(text) -> list[str]:
    return text.strip().splitlines() if isinstance(text, str) else list(text)


# -- inputs ---------------------------------------------------------------------------------------

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 3.0, -3.0, 2.5, 1e-3, 6.0, -2.5]


def values(draw, shape, dtype: str, scale=2.0):
    """Numbers of every sign, some of them whole; bools and integers within their range."""
    if dtype == "bool":
        return draw.random(shape) < 0.5
    if "int" in dtype:
        low = 0 if dtype.startswith("u") else -7
        return draw.integers(low, 9, shape)
    x = draw.normal(scale=scale, size=shape)
    flat = x.reshape(-1)
    flat[3::5] = np.resize(SPECIAL, flat[3::5].shape)
    return x


def tensor(draw, shape, dtype: str, scale=2.0) -> Tensor:
    return Tensor(values(draw, shape, dtype, scale), dtype)


def places(draw, n, *shape):
    """Indices within an axis of n, counted from either end."""
    return draw.integers(-n, n, shape) if n else np.zeros((0,) * len(shape), np.int64)


def inputs(family: str, dtype: str, shape, seed=0) -> dict:
    """Named inputs for the expressions of a family."""
    draw = np.random.default_rng(seed)
    if family == "linalg":
        n, k, m = shape
        return {"a": tensor(draw, (n, k), dtype, 1), "b": tensor(draw, (k, m), dtype, 1),
                "stack_a": tensor(draw, (3, n, k), dtype, 1),
                "stack_b": tensor(draw, (3, k, m), dtype, 1)}
    if family == "images":
        n, c, h, w = shape
        return {"x": tensor(draw, shape, dtype), "w": tensor(draw, (c * 2, c, 3, 2), dtype, 0.5),
                "v": tensor(draw, (c,), dtype), "q": tensor(draw, (n, c, h + 3), dtype)}
    if family == "losses":
        n, c = shape
        return {"x": tensor(draw, shape, dtype), "t": tensor(draw, shape, dtype),
                "l": Tensor(draw.integers(0, c, n), "int32"),
                "p": Tensor(draw.dirichlet(np.ones(c), n), dtype),
                "r": Tensor(draw.uniform(0.05, 0.95, shape), dtype)}
    if family in ("created", "drawn"):
        return {"dtype": Tensor(0, dtype).dtype}
    x, y = tensor(draw, shape, dtype), tensor(draw, shape, dtype)
    if family == "elementwise":
        return {"x": x, "y": y, "c": Tensor(draw.random(shape) < 0.5)}
    if family == "broadcast":
        return {"x": x, "row": tensor(draw, shape[1:], dtype), "one": tensor(draw, (), dtype),
                "column": tensor(draw, (shape[0], 1), dtype)}
    if family in ("indexing", "methods"):
        own = {"x": x, "i": Tensor(places(draw, shape[0], 4)),
               "at": Tensor(np.mod(places(draw, shape[0], *shape), max(shape[0], 1)))}
        return own | ({"j": Tensor(places(draw, shape[-1], 3), "int32")}
                      if family == "indexing" else {"y": y})
    return {"x": x}
