"""Reductions, arranging and indexing against NumPy; gradients against differences."""

import numpy as np
import pytest
import scipy.special as special

from cellc import Tensor, ops
from cellc.errors import IndexFault, ShapeFault, TypeFault, ValueFault
from tests.differences import check_gradient

X = np.random.default_rng(0).normal(size=(2, 3, 4))


def same(found, expected):
    np.testing.assert_allclose(found.asnumpy(), expected, rtol=1e-12, atol=1e-12)
    assert found.shape == np.shape(expected)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (-1, 1), (0, 1, 2)])
@pytest.mark.parametrize("name", ["sum", "mean", "prod", "amax", "amin", "var", "std", "logsumexp"])
def test_reduction(name, axis, keepdims):
    meaning = special.logsumexp if name == "logsumexp" else getattr(np, name)
    same(getattr(ops, name)(Tensor(X), axis=axis, keepdims=keepdims),
         meaning(X, axis=axis, keepdims=keepdims))
    check_gradient(lambda v: getattr(ops, name)(v, axis=axis, keepdims=keepdims), X)


def test_reductions_of_nothing_and_of_other_dtypes():
    empty = Tensor(np.zeros((0, 3), np.float32))
    assert ops.sum(empty).item() == 0 and ops.prod(empty).item() == 1
    assert np.isnan(ops.mean(empty).item())
    assert ops.sum(empty, 0).shape == (3,)
    with pytest.raises(ShapeFault, match="at least one element"):
        ops.amax(empty)
    assert ops.sum(Tensor([True, True, False])).item() == 2
    assert ops.mean(Tensor([1, 2])).item() == 1.5
    assert ops.all(Tensor([1, 2])).item() is True and ops.any(Tensor([0.0])).item() is False
    assert ops.sum(Tensor(np.ones(4096), "float16")).item() == 4096
    assert ops.var(Tensor(X), ddof=1).item() == pytest.approx(X.var(ddof=1))


def test_positions_and_running_sums():
    assert ops.argmax(Tensor([1.0, 3.0, 3.0])).item() == 1
    same(ops.argmin(Tensor(X), 1, True), X.argmin(1, keepdims=True))
    same(ops.argmax(Tensor(X)), X.argmax())
    same(ops.cumsum(Tensor(X), -1), X.cumsum(-1))
    check_gradient(lambda v: ops.cumsum(v, 1), X)
    same(ops.norm(Tensor(X), 1, 0), np.abs(X).sum(0))
    same(ops.norm(Tensor(X), 3.0, 0), (np.abs(X) ** 3).sum(0) ** (1 / 3))


@pytest.mark.parametrize("axis", [3, -4])
def test_an_axis_that_is_not_there(axis):
    with pytest.raises(ShapeFault, match=f"axis {axis} of a 3-d tensor"):
        ops.sum(Tensor(X), axis)


ARRANGED = [
    ("reshape", lambda x: ops.reshape(x, (4, -1)), lambda x: x.reshape(4, -1)),
    ("flatten", lambda x: ops.flatten(x, 1), lambda x: x.reshape(2, 12)),
    ("transpose", lambda x: ops.transpose(x, (2, 0, 1)), lambda x: x.transpose(2, 0, 1)),
    ("T", lambda x: x.T, lambda x: x.T),
    ("swapaxes", lambda x: ops.swapaxes(x, 0, -1), lambda x: x.swapaxes(0, -1)),
    ("moveaxis", lambda x: ops.moveaxis(x, 0, 2), lambda x: np.moveaxis(x, 0, 2)),
    ("expand_dims", lambda x: ops.expand_dims(x, -1), lambda x: x[..., None]),
    ("broadcast_to", lambda x: ops.broadcast_to(x, (5, -1, -1, -1)),
     lambda x: np.broadcast_to(x, (5, 2, 3, 4))),
    ("tile", lambda x: ops.tile(x, (2, 1, 3)), lambda x: np.tile(x, (2, 1, 3))),
    ("tile_longer", lambda x: ops.tile(x, (2, 1, 1, 3)), lambda x: np.tile(x, (2, 1, 1, 3))),
    ("repeat_interleave", lambda x: ops.repeat_interleave(x, 2, 1), lambda x: np.repeat(x, 2, 1)),
    ("flip", lambda x: ops.flip(x, (0, 2)), lambda x: np.flip(x, (0, 2))),
    ("roll", lambda x: ops.roll(x, 3, 2), lambda x: np.roll(x, 3, 2)),
    ("roll_flat", lambda x: ops.roll(x, -5), lambda x: np.roll(x, -5)),
    ("concat", lambda x: ops.concat((x, x), 1), lambda x: np.concatenate((x, x), 1)),
    ("stack", lambda x: ops.stack((x, x), -1), lambda x: np.stack((x, x), -1)),
    ("split", lambda x: ops.split(x, 3, 2)[1], lambda x: x[:, :, 3:]),
    ("split_listed", lambda x: ops.split(x, (1, 2), 1)[1], lambda x: x[:, 1:]),
    ("chunk", lambda x: ops.chunk(x, 2, 2)[0], lambda x: x[:, :, :2]),
    ("unstack", lambda x: ops.unstack(x, 1)[2], lambda x: x[:, 2]),
    ("pad", lambda x: ops.pad(x, (1, 2, 0, 1), value=3.0),
     lambda x: np.pad(x, ((0, 0), (0, 1), (1, 2)), constant_values=3.0)),
    ("tril", lambda x: ops.tril(x, 1), lambda x: np.tril(x, 1)),
    ("triu", lambda x: ops.triu(x, -1), lambda x: np.triu(x, -1)),
]
INDEXED = [
    np.s_[0], np.s_[-1], np.s_[:, 1], np.s_[..., 0], np.s_[0, 1, 2], np.s_[1:], np.s_[:, ::2],
    np.s_[:, ::-1], np.s_[:, -2:, 3:0:-2], np.s_[None], np.s_[:, None, 0], np.s_[..., None],
    np.s_[[0, 1, 1]], np.s_[:, [0, -1]], np.s_[[0, 1], [2, 0]], np.s_[[[0], [1]], :, [3, 0]],
    np.s_[:, np.array([[0, 1], [2, 2]])], np.s_[1, :, [0, 2]], np.s_[:, 5:], np.s_[0:0], np.s_[()],
    np.s_[X > 0], np.s_[np.array([True, False])], np.s_[:, np.array([True, False, True]), 1:],
]


@pytest.mark.parametrize("name, function, meaning", ARRANGED, ids=[a[0] for a in ARRANGED])
def test_arranging(name, function, meaning):
    same(function(Tensor(X)), meaning(X))
    check_gradient(function, X)


@pytest.mark.parametrize("index", INDEXED, ids=repr)
def test_reading_by_index(index):
    same(Tensor(X)[index], X[index])
    if X[index].size:
        check_gradient(lambda v: v[index], X)


@pytest.mark.parametrize("index", INDEXED, ids=repr)
def test_setting_by_index(index):
    expected, x = X.copy(), Tensor(X)
    expected[index] = 7.0
    other = x
    x[index] = 7.0
    same(x, expected)
    assert other is x
    value = np.random.default_rng(1).normal(size=X[index].shape)
    expected[index] = value
    same(ops.setitem(Tensor(X), index, Tensor(value)), np.where(False, X, expected))
    check_gradient(lambda v, w: ops.setitem(v, index, w), X, value)


def test_the_last_of_several_writes_wins():
    x = Tensor([0.0, 0.0])
    x[[1, 1, 0]] = Tensor([5.0, 6.0, 7.0])
    assert x.tolist() == [7, 6]


def test_indexing_with_tensors_of_indices():
    i = Tensor([1, -1], "int32")
    same(Tensor(X)[:, i], X[:, [1, -1]])
    same(ops.take(Tensor(X), i, 1), X[:, [1, -1]])
    same(ops.take(Tensor(X), 5), X.reshape(-1)[5])
    places = np.random.default_rng(2).integers(0, 2, (2, 3, 4))
    same(ops.gather_elements(Tensor(X), 0, Tensor(places)), np.take_along_axis(X, places, 0))


def test_adding_at_indices():
    draw = np.random.default_rng(3)
    x, y, at = draw.standard_normal((4, 5)), draw.standard_normal((4, 3)), np.array([1, 4, 1])
    exact = x.copy()
    np.add.at(exact, (slice(None), at), y)
    same(ops.index_add(Tensor(x), Tensor(at), Tensor(y), 1), exact)
    check_gradient(lambda x, y: ops.index_add(x, Tensor(at), y, -1), x, y)
    numbers = np.array([[2, 0, -1, 2, 0], [4, 4, 2, -7, 0], [0, 0, 0, 0, 0], [2, 2, 2, 2, 2]])
    exact = np.zeros(6)
    np.add.at(exact, numbers[numbers >= 0], x[numbers >= 0])
    same(ops.unsorted_segment_sum(Tensor(x), Tensor(numbers), 6), exact)
    check_gradient(lambda x: ops.unsorted_segment_sum(x, Tensor(numbers), 6) ** 2, x)
    rows = ops.operations.UnsortedSegmentSum()(Tensor(x), Tensor(numbers[:, 2], "int32"), 3)
    same(rows, np.stack([x[2], 0 * x[0], x[1] + x[3]]))
    with pytest.raises(IndexFault, match="index 4 is out of range for a size of 3"):
        ops.unsorted_segment_sum(Tensor(x), Tensor(numbers), 3)
    with pytest.raises(IndexFault, match="index 4 is out of range"):
        ops.index_add(Tensor(x), Tensor(at), Tensor(x[1:]), 0)
    with pytest.raises(ShapeFault, match="one index for each place"):
        ops.index_add(Tensor(x), Tensor(at), Tensor(y), 0)
    with pytest.raises(ShapeFault, match="one number for each row"):
        ops.unsorted_segment_sum(Tensor(x), Tensor(at), 6)


@pytest.mark.parametrize("index, message", [
    (np.s_[2], "index 2 of axis 0 of size 2"), (np.s_[0, -4], "index -4 of axis 1 of size 3"),
    (np.s_[0, 0, 0, 0], "4 indices"), (np.s_[..., ...], "one ellipsis"),
    (np.s_[[0, 3]], "index 3 is out of range for a size of 2"), (np.s_[[0], [3]],
     "index 3 of an axis of size 3"),
])
def test_an_index_that_is_out_of_range(index, message):
    with pytest.raises(IndexFault, match=message):
        Tensor(X)[index]


def test_shapes_that_do_not_fit():
    with pytest.raises(ShapeFault, match="cannot be reshaped"):
        ops.reshape(Tensor(X), (5, -1))
    with pytest.raises(ShapeFault, match="more than one size is -1"):
        ops.reshape(Tensor(X), (-1, -1))
    with pytest.raises(ShapeFault, match="expected each axis once"):
        ops.transpose(Tensor(X), (0, 0, 1))
    with pytest.raises(ShapeFault, match="is not 1"):
        ops.squeeze(Tensor(X), 0)
    with pytest.raises(TypeFault, match="at least one"):
        ops.concat(())


def test_made_from_a_shape():
    same(ops.arange(5), np.arange(5))
    same(ops.arange(1, 10, 3), np.arange(1, 10, 3))
    same(ops.arange(5, 0, -2), np.arange(5, 0, -2))
    np.testing.assert_allclose(ops.arange(0.0, 1.0, 0.25).asnumpy(), np.arange(0, 1, 0.25))
    np.testing.assert_allclose(ops.linspace(0, 1, 5).asnumpy(), np.linspace(0, 1, 5))
    same(ops.eye(2, 3), np.eye(2, 3))
    same(ops.full((2, 2), 3), np.full((2, 2), 3))
    assert ops.zeros((2, 3), "int32").dtype.name == "i32" and ops.ones(2, 3).shape == (2, 3)
    same(ops.one_hot(Tensor([1, 3, 0]), 3), [[0, 1, 0], [0, 0, 0], [1, 0, 0]])
    x, y = ops.meshgrid(ops.arange(2), ops.arange(3))
    same(x, np.meshgrid(range(2), range(3))[0])
    same(y, np.meshgrid(range(2), range(3))[1])
    for wrong in (Tensor(3.0), Tensor(np.ones((2, 2)))):
        with pytest.raises(ShapeFault, match="expected 1-d ones"):
            ops.meshgrid(wrong, ops.arange(2))
    with pytest.raises(ValueFault, match="expected 'xy' or 'ij'"):
        ops.meshgrid(ops.arange(2), indexing="yx")


def test_order():
    x = np.random.default_rng(3).integers(0, 4, (3, 6)).astype(float)
    for descending in (False, True):
        found, places = ops.sort(Tensor(x), -1, descending)
        key = -x if descending else x
        same(places, np.argsort(key, -1, kind="stable"))
        same(found, np.take_along_axis(x, np.argsort(key, -1, kind="stable"), -1))
    found, places = ops.topk(Tensor(x), 2)
    same(found, -np.sort(-x, -1)[:, :2])
    check_gradient(lambda v: ops.sort(v)[0], X)


@pytest.mark.parametrize("a, b", [
    ((3, 4), (4, 5)), ((4,), (4,)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((4,), (2, 4, 5)),
    ((2, 3, 4), (4,)), ((5, 1, 3, 4), (2, 4, 2)), ((0, 3), (3, 2)), ((2, 0), (0, 3)),
])
def test_matmul(a, b):
    draw = np.random.default_rng(4).normal
    x, y = draw(size=a), draw(size=b)
    same(ops.matmul(Tensor(x), Tensor(y)), x @ y)
    check_gradient(ops.matmul, x, y)


def test_products():
    draw = np.random.default_rng(5).normal
    x, y = draw(size=(2, 3, 4)), draw(size=(5, 3, 4))
    axes = ((1, 2), (1, 2))
    same(ops.tensordot(Tensor(x), Tensor(y), axes), np.tensordot(x, y, axes))
    same(ops.batch_matmul(Tensor(x), Tensor(x), transpose_b=True), x @ x.swapaxes(1, 2))
    same(ops.outer(Tensor(x[0, 0]), Tensor(y[0, 0])), np.outer(x[0, 0], y[0, 0]))
    same(ops.linear(Tensor(x), Tensor(y[:, 0]), Tensor(draw(size=5) * 0)), x @ y[:, 0].T)
    with pytest.raises(ShapeFault, match="inner sizes 3 and 2 differ"):
        Tensor(np.ones((2, 3))) @ Tensor(np.ones((2, 3)))
