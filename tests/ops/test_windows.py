"""Convolution and pooling against plain loops, and normalisation against its formula."""

import itertools

import numpy as np
import pytest

from cellc import Tensor, ops
from cellc.errors import ShapeFault, ValueFault
from tests.differences import check_gradient

DRAW = np.random.default_rng(0)


def plain_conv(x, w, bias, stride, pads, dilation, groups):
    """Cross-correlation, one output element after another."""
    n = w.ndim - 2
    x = np.pad(x, ((0, 0), (0, 0), *pads))
    kernel = w.shape[2:]
    sizes = [(size - d * (k - 1) - 1) // s + 1
             for size, d, k, s in zip(x.shape[2:], dilation, kernel, stride)]
    y = np.zeros((x.shape[0], w.shape[0], *sizes))
    per_in, per_out = w.shape[1], w.shape[0] // groups
    for o in range(w.shape[0]):
        first = (o // per_out) * per_in
        for place in itertools.product(*map(range, sizes)):
            window = tuple(slice(p * s, p * s + d * (k - 1) + 1, d)
                           for p, s, d, k in zip(place, stride, dilation, kernel))
            part = x[(slice(None), slice(first, first + per_in), *window)]
            y[(slice(None), o, *place)] = (part * w[o]).reshape(len(x), -1).sum(1)
    return y if bias is None else y + bias.reshape(1, -1, *[1] * n)


# x, weight, stride, pad_mode, padding, the padding it means, dilation, groups
CONVOLUTIONS = [
    ((2, 3, 5, 6), (4, 3, 3, 3), 1, "valid", 0, ((0, 0), (0, 0)), 1, 1),
    ((2, 3, 5, 6), (4, 3, 3, 2), 1, "same", 0, ((1, 1), (0, 1)), 1, 1),
    ((1, 2, 7, 7), (3, 2, 3, 3), 2, "same", 0, ((1, 1), (1, 1)), 1, 1),
    ((1, 2, 6, 6), (3, 2, 3, 3), 2, "same", 0, ((0, 1), (0, 1)), 1, 1),
    ((1, 2, 5, 5), (3, 2, 2, 2), (2, 1), "pad", (1, 0), ((1, 1), (0, 0)), 1, 1),
    ((1, 2, 5, 5), (3, 2, 2, 2), 1, "pad", (1, 0, 2, 1), ((1, 0), (2, 1)), 1, 1),
    ((1, 2, 7, 7), (3, 2, 3, 3), 1, "valid", 0, ((0, 0), (0, 0)), (2, 3), 1),
    ((2, 4, 5, 5), (6, 2, 3, 3), 1, "pad", 1, ((1, 1), (1, 1)), 1, 2),
    ((2, 4, 5, 5), (4, 1, 3, 3), 1, "same", 0, ((1, 1), (1, 1)), 1, 4),
    ((2, 3, 4, 4), (5, 3, 1, 1), 1, "valid", 0, ((0, 0), (0, 0)), 1, 1),
]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda c: f"{c[1]}-{c[3]}-{c[2]}-{c[7]}")
def test_conv2d(case):
    of_x, of_w, stride, mode, padding, pads, dilation, groups = case
    x, w, b = DRAW.normal(size=of_x), DRAW.normal(size=of_w), DRAW.normal(size=of_w[0])
    options = (stride, mode, padding, dilation, groups)

    def both(v):
        return v if isinstance(v, tuple) else (v, v)

    y = ops.conv2d(Tensor(x), Tensor(w), Tensor(b), *options)
    expected = plain_conv(x, w, b, both(stride), pads, both(dilation), groups)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y.asnumpy(), expected, rtol=1e-10, atol=1e-12)
    check_gradient(lambda *v: ops.conv2d(*v, *options), x, w, b)


@pytest.mark.parametrize("stride, mode, padding, pads, groups", [
    (1, "valid", 0, (0, 0), 1), (2, "same", 0, (1, 1), 1), (1, "pad", 2, (2, 2), 1),
    (1, "pad", (1, 2), (1, 2), 2)])
def test_conv1d(stride, mode, padding, pads, groups):
    x, w = DRAW.normal(size=(2, 4, 7)), DRAW.normal(size=(6, 4 // groups, 3))
    y = ops.conv1d(Tensor(x), Tensor(w), None, stride, mode, padding, 1, groups)
    expected = plain_conv(x, w, None, (stride,), (pads,), (1,), groups)
    np.testing.assert_allclose(y.asnumpy(), expected, rtol=1e-10, atol=1e-12)
    check_gradient(lambda v, u: ops.conv1d(v, u, None, stride, mode, padding, 1, groups), x, w)


@pytest.mark.parametrize("options, fault, message", [
    ({"pad_mode": "full"}, ValueFault, "pad_mode is 'full'"),
    ({"padding": 1}, ValueFault, "padding 1 with pad_mode 'valid'"),
    ({"stride": 0}, ValueFault, "must be at least 1"),
    ({"groups": 2}, ShapeFault, "2 groups"),
    ({"dilation": 4}, ShapeFault, "windows"),
    ({"stride": (1, 2, 3)}, ShapeFault, "stride has 3 entries"),
])
def test_convolutions_that_make_no_sense(options, fault, message):
    with pytest.raises(fault, match=message):
        ops.conv2d(Tensor(np.ones((1, 3, 5, 5))), Tensor(np.ones((2, 3, 3, 3))), **options)


def plain_pool(x, kernel, stride, pads, reduce, value):
    x = np.pad(x, ((0, 0), (0, 0), *pads), constant_values=value)
    oh, ow = ((x.shape[2 + i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    y = np.empty((*x.shape[:2], oh, ow))
    for i, j in np.ndindex(oh, ow):
        y[:, :, i, j] = reduce(x[:, :, i * stride[0]:i * stride[0] + kernel[0],
                                 j * stride[1]:j * stride[1] + kernel[1]], axis=(2, 3))
    return y


POOLS = [((2, 2), (2, 2), "valid", 0, ((0, 0), (0, 0))),
         ((3, 2), (1, 2), "valid", 0, ((0, 0), (0, 0))),
         ((2, 2), (2, 2), "pad", 1, ((1, 1), (1, 1))), ((3, 3), (2, 2), "pad", 1, ((1, 1), (1, 1)))]


@pytest.mark.parametrize("kernel, stride, mode, padding, pads", POOLS)
def test_pooling(kernel, stride, mode, padding, pads):
    x = DRAW.normal(size=(2, 3, 7, 6))
    y = ops.max_pool2d(Tensor(x), kernel, stride, padding, pad_mode=mode)
    np.testing.assert_allclose(y.asnumpy(), plain_pool(x, kernel, stride, pads, np.max, -np.inf))
    check_gradient(lambda v: ops.max_pool2d(v, kernel, stride, padding, pad_mode=mode), x)
    y = ops.avg_pool2d(Tensor(x), kernel, stride, padding, pad_mode=mode)
    np.testing.assert_allclose(y.asnumpy(), plain_pool(x, kernel, stride, pads, np.mean, 0))
    check_gradient(lambda v: ops.avg_pool2d(v, kernel, stride, padding, pad_mode=mode), x)
    inside = plain_pool(np.ones_like(x), kernel, stride, pads, np.sum, 0)
    y = ops.avg_pool2d(Tensor(x), kernel, stride, padding, False, False, pad_mode=mode)
    np.testing.assert_allclose(y.asnumpy(),
                               plain_pool(x, kernel, stride, pads, np.sum, 0) / inside, rtol=1e-6)


@pytest.mark.parametrize("kernel, stride", [(2, 2), (2, 1)])
def test_the_first_largest_gets_the_whole_gradient(kernel, stride):
    import cellc

    x = Tensor(np.zeros((1, 1, 2, 2)))
    g = cellc.grad(lambda v: ops.max_pool2d(v, kernel, stride).sum())(x)
    assert g.tolist() == [[[[1, 0], [0, 0]]]]


def test_max_pool_keeps_nan_and_infinities():
    x = np.array([[1.0, np.nan], [3, 4]]).reshape(1, 1, 2, 2)
    assert np.isnan(ops.max_pool2d(Tensor(x), 2).item())
    x = np.full((1, 1, 2, 2), -np.inf)
    assert ops.max_pool2d(Tensor(x), 2).item() == -np.inf


def test_max_pool_of_integers_in_one_axis_and_ceil_mode():
    assert ops.max_pool1d(Tensor([[[1, 5, 3, 2]]]), 2).tolist() == [[[5, 3]]]
    assert ops.avg_pool1d(Tensor([[[1.0, 5, 3, 2]]]), 2).tolist() == [[[3, 2.5]]]
    x = Tensor(np.arange(25.0).reshape(1, 1, 5, 5))
    assert ops.max_pool2d(x, 2, 2, ceil_mode=True).tolist() == [[[[6, 8, 9], [16, 18, 19],
                                                                  [21, 23, 24]]]]
    with pytest.raises(ShapeFault, match="windows of 6"):
        ops.max_pool2d(x, 6)


@pytest.mark.parametrize("size", [1, 2, (2, 3), (3, 5), (None, 2)])
def test_adaptive_pooling(size):
    x = DRAW.normal(size=(2, 3, 4, 6))
    out = [n if o is None else o for o, n in
           zip(size if isinstance(size, tuple) else (size, size), x.shape[2:])]
    expected = np.empty((2, 3, *out))
    for i, j in np.ndindex(*out):
        rows = slice(i * 4 // out[0], -(-(i + 1) * 4 // out[0]))
        columns = slice(j * 6 // out[1], -(-(j + 1) * 6 // out[1]))
        expected[:, :, i, j] = x[:, :, rows, columns].mean((2, 3))
    np.testing.assert_allclose(ops.adaptive_avg_pool2d(Tensor(x), size).asnumpy(), expected,
                               rtol=1e-6)
    check_gradient(lambda v: ops.adaptive_avg_pool2d(v, size), x)
    y = ops.adaptive_avg_pool1d(Tensor(x[:, :, 0]), 4)
    assert y.shape == (2, 3, 4)


def test_unfold():
    x = DRAW.normal(size=(1, 2, 4, 4))
    columns = ops.unfold(Tensor(x), 3).asnumpy()
    w = DRAW.normal(size=(5, 2, 3, 3))
    np.testing.assert_allclose((w.reshape(5, -1) @ columns[0]).reshape(1, 5, 2, 2),
                               ops.conv2d(Tensor(x), Tensor(w)).asnumpy())


def test_normalisation():
    x, w, b = DRAW.normal(3, 2, (4, 6, 5)), DRAW.normal(size=6), DRAW.normal(size=6)
    mean, var = x.mean((0, 2), keepdims=True), x.var((0, 2), keepdims=True)
    expected = (x - mean) / np.sqrt(var + 1e-5) * w[:, None] + b[:, None]
    y = ops.batch_norm(Tensor(x), None, None, Tensor(w), Tensor(b), training=True)
    np.testing.assert_allclose(y.asnumpy(), expected)
    check_gradient(lambda *v: ops.batch_norm(v[0], None, None, *v[1:], training=True), x, w, b)

    groups = x.reshape(4, 3, 2, 5)
    mean, var = groups.mean((2, 3), keepdims=True), groups.var((2, 3), keepdims=True)
    expected = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(x.shape) * w[:, None] + b[:, None]
    y = ops.group_norm(Tensor(x), 3, Tensor(w), Tensor(b))
    np.testing.assert_allclose(y.asnumpy(), expected)
    check_gradient(lambda *v: ops.group_norm(v[0], 3, *v[1:]), x, w, b)

    w, b = DRAW.normal(size=(6, 5)), DRAW.normal(size=(6, 5))
    mean, var = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    y = ops.layer_norm(Tensor(x), (6, 5), Tensor(w), Tensor(b))
    np.testing.assert_allclose(y.asnumpy(), (x - mean) / np.sqrt(var + 1e-5) * w + b)
    check_gradient(lambda *v: ops.layer_norm(v[0], (6, 5), *v[1:]), x, w, b)
    with pytest.raises(ShapeFault, match="expected these to be its last axes"):
        ops.layer_norm(Tensor(x), (6,))
    unit = ops.normalize(Tensor(x)).asnumpy()
    np.testing.assert_allclose((unit ** 2).sum(1), 1)


def test_a_large_mean_costs_no_digits():
    x = (DRAW.normal(size=(64, 32)) + 1e4).astype(np.float32)
    y = ops.layer_norm(Tensor(x), (32,), eps=1e-5).asnumpy()
    exact = x.astype(np.float64)
    exact = (exact - exact.mean(1, keepdims=True)) / exact.std(1, keepdims=True)
    assert np.abs(y - exact).max() < 5e-3
