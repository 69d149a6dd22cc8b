"""Losses as cells: each is the function of the same meaning in cellc.ops, which says the rest.

Shapes:   logits and labels alike unless said otherwise -> 0-d; with reduction "none" one loss each.
Dtypes:   floats; labels that are classes are integers.
Errors:   ValueFault for an unknown reduction; ShapeFault for shapes that do not fit; IndexFault for
          a class outside 0..c-1.
Gradient: to the logits, and to labels that are floats.
"""

from __future__ import annotations

from cellc import ops
from cellc.errors import ValueFault
from cellc.nn.cell import Cell
from cellc.ops.loss import REDUCTIONS
from cellc.parameter import Parameter


class LossBase(Cell):
    """The base of losses: `reduction` is "mean", "sum" or "none"."""

    def __init__(self, reduction="mean"):
        super().__init__()
        if reduction is None:
            reduction = "none"
        if reduction not in REDUCTIONS:
            raise ValueFault(f"reduction is {reduction!r}", f"one of {', '.join(REDUCTIONS)}")
        self.reduction = reduction

    def get_loss(self, x, weights=1.0):
        """x times weights, reduced."""
        return ops.reduced(x * weights, self.reduction)

    def extend_repr(self):
        return f"reduction={self.reduction}"


class MSELoss(LossBase):
    """The squared difference."""

    def construct(self, logits, labels):
        return ops.mse_loss(logits, labels, self.reduction)


class L1Loss(LossBase):
    """The absolute difference."""

    def construct(self, logits, labels):
        return ops.l1_loss(logits, labels, self.reduction)


class SmoothL1Loss(LossBase):
    """Quadratic below beta, linear above."""

    def __init__(self, beta=1.0, reduction="none"):
        super().__init__(reduction)
        self.beta = beta

    def construct(self, logits, labels):
        return ops.smooth_l1_loss(logits, labels, self.beta, self.reduction)


class HuberLoss(LossBase):
    """Quadratic below delta, linear above with slope delta."""

    def __init__(self, reduction="mean", delta=1.0):
        super().__init__(reduction)
        self.delta = delta

    def construct(self, logits, labels):
        return ops.huber_loss(logits, labels, self.reduction, self.delta)


class _Weighted(LossBase):
    """A loss with fixed weights; None for none."""

    def __init__(self, weight=None, reduction="mean"):
        super().__init__(reduction)
        self.weight = _constant(weight, "weight")


def _constant(weight, name: str):
    """A tensor that belongs to the loss and is not trained."""
    return None if weight is None else Parameter(weight, name, requires_grad=False)


class BCELoss(_Weighted):
    """Binary cross entropy of probabilities."""

    def __init__(self, weight=None, reduction="mean"):
        super().__init__(weight, reduction)

    def construct(self, logits, labels):
        return ops.binary_cross_entropy(logits, labels, self.weight, self.reduction)


class BCEWithLogitsLoss(_Weighted):
    """Binary cross entropy of logits, without overflow."""

    def __init__(self, reduction="mean", weight=None, pos_weight=None):
        super().__init__(weight, reduction)
        self.pos_weight = _constant(pos_weight, "pos_weight")

    def construct(self, logits, labels):
        return ops.binary_cross_entropy_with_logits(logits, labels, self.weight, self.pos_weight,
                                                    self.reduction)


class NLLLoss(_Weighted):
    """The negated log-probability of the label; see ops.nll_loss.

    Shapes: logits [n, c] or [n, c, ...], log-probabilities; labels the same without c.
    """

    def __init__(self, weight=None, ignore_index=-100, reduction="mean"):
        super().__init__(weight, reduction)
        self.ignore_index = ignore_index

    def construct(self, logits, labels):
        return ops.nll_loss(logits, labels, self.weight, self.ignore_index, self.reduction)


class CrossEntropyLoss(_Weighted):
    """The negated log-probability of the label, from logits; see ops.cross_entropy.

    Shapes: logits [n, c] or [n, c, ...]; labels the same without c, or with it as probabilities.
    """

    def __init__(self, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        super().__init__(weight, reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueFault(f"label_smoothing is {label_smoothing}, expected 0 to 1")
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def construct(self, logits, labels):
        return ops.cross_entropy(logits, labels, self.weight, self.ignore_index, self.reduction,
                                 self.label_smoothing)


class SoftmaxCrossEntropyWithLogits(LossBase):
    """Cross entropy of each row of logits; see ops.softmax_cross_entropy_with_logits.

    Shapes: logits [n, c]; labels [n, c] probabilities, or with `sparse` [n] integers.
    """

    def __init__(self, sparse=False, reduction="none"):
        super().__init__(reduction)
        self.sparse = bool(sparse)

    def construct(self, logits, labels):
        return ops.softmax_cross_entropy_with_logits(logits, labels, self.sparse, self.reduction)


class KLDivLoss(LossBase):
    """labels * (log(labels) - logits), the logits being log-probabilities."""

    def __init__(self, reduction="mean"):
        super().__init__("none" if reduction == "batchmean" else reduction)
        self.reduction = reduction

    def construct(self, logits, labels):
        return ops.kl_div(logits, labels, self.reduction)
