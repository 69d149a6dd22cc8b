"""Losses against their formulas; gradients against differences; labels that are wrong."""

import numpy as np
import pytest
import scipy.special as special

from cellc import Tensor, ops
from cellc.errors import IndexFault, ShapeFault, TypeFault, ValueFault
from tests.differences import check_gradient

DRAW = np.random.default_rng(0)
A, B = DRAW.normal(size=(4, 3)), DRAW.normal(size=(4, 3))
P, Q = special.expit(A), special.expit(B)
D = np.abs(A - B)

PAIRS = [
    ("mse_loss", ops.mse_loss, A, B, D ** 2),
    ("l1_loss", ops.l1_loss, A, B, D),
    ("smooth_l1_loss", lambda x, y, reduction: ops.smooth_l1_loss(x, y, 0.5, reduction), A, B,
     np.where(D < 0.5, D ** 2, D - 0.25)),
    ("huber_loss", lambda x, y, reduction: ops.huber_loss(x, y, reduction, 0.7), A, B,
     np.where(D < 0.7, 0.5 * D ** 2, 0.7 * (D - 0.35))),
    ("binary_cross_entropy", lambda x, y, reduction: ops.binary_cross_entropy(
        x, y, None, reduction), P, Q, -(Q * np.log(P) + (1 - Q) * np.log(1 - P))),
    ("bce_with_logits", lambda x, y, reduction: ops.binary_cross_entropy_with_logits(
        x, y, None, None, reduction), A, Q, -(Q * np.log(P) + (1 - Q) * np.log(1 - P))),
    ("kl_div", ops.kl_div, A, Q, Q * (np.log(Q) - A)),
]


@pytest.mark.parametrize("name, loss, x, y, expected", PAIRS, ids=[p[0] for p in PAIRS])
def test_loss(name, loss, x, y, expected):
    totals = {"none": expected, "mean": expected.mean(), "sum": expected.sum()}
    for reduction, total in totals.items():
        found = loss(Tensor(x), Tensor(y), reduction=reduction)
        np.testing.assert_allclose(found.asnumpy(), total, rtol=1e-10)
        check_gradient(lambda u, v: loss(u, v, reduction=reduction), x, y)
    with pytest.raises(ValueFault, match="reduction is 'average'"):
        loss(Tensor(x), Tensor(y), reduction="average")


def test_extreme_probabilities_and_logits_stay_finite():
    p, y = Tensor([0.0, 1.0]), Tensor([0.0, 0.0])
    np.testing.assert_array_equal(ops.binary_cross_entropy(p, y, None, "none").asnumpy(), [0, 100])
    x = Tensor([-1000.0, 1000.0])
    np.testing.assert_array_equal(
        ops.binary_cross_entropy_with_logits(x, y, None, None, "none").asnumpy(), [0, 1000])
    assert ops.kl_div(Tensor([0.5]), Tensor([0.0])).item() == 0


LOGITS, LABELS = DRAW.normal(size=(5, 4)), np.array([0, 3, 2, 2, 1])
CHANCES = special.log_softmax(LOGITS, 1)
PICKED = -CHANCES[np.arange(5), LABELS]


def test_sparse_and_dense_labels_agree():
    for sparse, labels in ((True, Tensor(LABELS)), (False, Tensor(np.eye(4)[LABELS]))):
        found = ops.softmax_cross_entropy_with_logits(Tensor(LOGITS), labels, sparse)
        np.testing.assert_allclose(found.asnumpy(), PICKED, rtol=1e-12)
        check_gradient(lambda v: ops.softmax_cross_entropy_with_logits(v, labels, sparse), LOGITS)
    for dtype in ("int32", "uint8", "int64"):
        found = ops.cross_entropy(Tensor(LOGITS), Tensor(LABELS, dtype))
        assert found.item() == pytest.approx(PICKED.mean())


def test_cross_entropy_with_weights_smoothing_and_ignored_labels():
    weight = np.array([1.0, 2.0, 0.5, 3.0])
    labels = LABELS.copy()
    labels[1] = -100
    counted = labels != -100
    share = np.where(counted, weight[LABELS], 0)
    smooth = np.where(counted, -(CHANCES * weight).sum(1) / 4, 0)
    expected = ((0.9 * share * PICKED + 0.1 * smooth).sum()) / share.sum()
    found = ops.cross_entropy(Tensor(LOGITS), Tensor(labels), Tensor(weight), label_smoothing=0.1)
    assert found.item() == pytest.approx(expected)
    check_gradient(lambda v: ops.cross_entropy(v, Tensor(labels), Tensor(weight),
                                               label_smoothing=0.1), LOGITS)
    soft = special.softmax(B @ DRAW.normal(size=(3, 4)), 1)
    found = ops.cross_entropy(Tensor(LOGITS[:4]), Tensor(soft))
    assert found.item() == pytest.approx(-(soft * CHANCES[:4]).sum(1).mean())


def test_classes_at_axis_one_of_images():
    x, labels = DRAW.normal(size=(2, 3, 4, 4)), DRAW.integers(0, 3, (2, 4, 4))
    chances = special.log_softmax(x, 1)
    expected = -np.take_along_axis(chances, labels[:, None], 1)[:, 0]
    np.testing.assert_allclose(
        ops.cross_entropy(Tensor(x), Tensor(labels), reduction="none").asnumpy(), expected)
    np.testing.assert_allclose(
        ops.nll_loss(Tensor(chances), Tensor(labels)).item(), expected.mean())


@pytest.mark.parametrize("labels, fault, message", [
    (np.array([0, 1, 2, 3, 4]), IndexFault, "index 4 is out of range for a size of 4"),
    (np.array([0, 1, 2, 3, -1]), IndexFault, "index -1 is out of range for a size of 4"),
    (np.array([0, 1]), ShapeFault, r"expected labels of shape \[5\]"),
    (np.array([0.0, 1, 2, 3, 3]), TypeFault, "expected integers"),
])
def test_labels_that_are_wrong(labels, fault, message):
    with pytest.raises(fault, match=message):
        ops.softmax_cross_entropy_with_logits(Tensor(LOGITS), Tensor(labels), True)


def test_an_ignored_label_elsewhere_is_still_out_of_range():
    with pytest.raises(IndexFault, match="index -100 is out of range"):
        ops.cross_entropy(Tensor(LOGITS), Tensor(np.full(5, -100)), ignore_index=-1)
