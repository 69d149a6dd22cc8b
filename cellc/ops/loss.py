"""Losses. `reduction` is "mean", "sum" or "none"; all take floats and give floats.

Gradients flow to the predictions, and to the targets where these are floats.
"""

from __future__ import annotations

from cellc.errors import ShapeFault, TypeFault, ValueFault
from cellc.ir import arith
from cellc.ir.graph import fill
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import gather
from cellc.ir.prims import reduce as r
from cellc.ir.prims import shape as s
from cellc.ir.types import i64
from cellc.ops.activation import log_softmax, logsigmoid
from cellc.ops.common import narrowed, tensor_of, widened
from cellc.ops.elementwise import clip
from cellc.ops.reduce import mean
from cellc.ops.reduce import sum as sum_

REDUCTIONS = ("mean", "sum", "none")


def reduced(loss, reduction: str):
    """The mean, the sum or the losses themselves. ValueFault for another reduction."""
    if reduction not in REDUCTIONS:
        raise ValueFault(f"reduction is {reduction!r}", f"one of {', '.join(REDUCTIONS)}")
    return mean(loss) if reduction == "mean" else sum_(loss) if reduction == "sum" else loss


def _weighted(loss, weight):
    return loss if weight is None else arith.mul(loss, weight)


def mse_loss(logits, labels, reduction="mean"):
    """The squared difference."""
    difference = arith.sub(logits, labels)
    return reduced(arith.mul(difference, difference), reduction)


def l1_loss(logits, labels, reduction="mean"):
    """The absolute difference."""
    return reduced(e.abs(arith.sub(logits, labels)), reduction)


def smooth_l1_loss(logits, labels, beta=1.0, reduction="none"):
    """0.5 * d**2 / beta where the difference d is below beta, else |d| - 0.5 * beta."""
    if beta == 0:
        return l1_loss(logits, labels, reduction)
    distance = e.abs(arith.sub(logits, labels))
    square = arith.mul(arith.mul(distance, distance), 0.5 / beta)
    loss = arith.where(arith.less(distance, beta), square, arith.sub(distance, 0.5 * beta))
    return reduced(loss, reduction)


def huber_loss(logits, labels, reduction="mean", delta=1.0):
    """0.5 * d**2 where the difference d is below delta, else delta * (|d| - 0.5 * delta)."""
    distance = e.abs(arith.sub(logits, labels))
    square = arith.mul(arith.mul(distance, distance), 0.5)
    line = arith.mul(arith.sub(distance, 0.5 * delta), delta)
    return reduced(arith.where(arith.less(distance, delta), square, line), reduction)


def binary_cross_entropy(logits, labels, weight=None, reduction="mean"):
    """-(y log p + (1 - y) log(1 - p)); both logarithms are held at -100, as PyTorch holds them.

    Gradient of a logarithm at 0: 0.
    """
    positive, negative = _held_log(logits), _held_log(arith.sub(1.0, logits))
    both = arith.add(arith.mul(labels, positive), arith.mul(arith.sub(1.0, labels), negative))
    return reduced(_weighted(arith.negative(both), weight), reduction)


def _held_log(x):
    """log(x), -100 at least."""
    some = arith.not_equal(x, 0.0)
    return arith.where(some, clip(e.log(arith.where(some, x, 1.0)), -100.0), -100.0)


def binary_cross_entropy_with_logits(logits, label, weight=None, pos_weight=None,
                                     reduction="mean"):
    """binary_cross_entropy of sigmoid(logits), without overflow.

    `pos_weight` multiplies the positive term.
    """
    miss = arith.mul(arith.sub(1.0, label), logsigmoid(arith.negative(logits)))
    hit = arith.mul(_weighted(logsigmoid(logits), pos_weight), label)
    return reduced(_weighted(arith.negative(arith.add(hit, miss)), weight), reduction)


def kl_div(logits, labels, reduction="mean"):
    """labels * (log(labels) - logits), 0 where a label is 0; logits are log-probabilities."""
    labels = tensor_of(labels)
    positive = arith.greater(labels, 0.0)
    safe = arith.where(positive, labels, 1.0)
    loss = arith.where(positive, arith.mul(labels, arith.sub(e.log(safe), logits)), 0.0)
    if reduction == "batchmean":
        return arith.div(sum_(loss), loss.shape[0])
    return reduced(loss, reduction)


# -- classes --------------------------------------------------------------------------------------


def checked_labels(labels, classes: int, ignored: int | None = None):
    """The labels themselves; IndexFault for one outside 0..classes-1 that is not the one ignored.

    Reading place l of the list 0, 1, 2, ... gives l, and reading checks the place: so the check is
    an ordinary part of the program, eager or compiled.
    """
    places = s.iota(shape=(classes,), axis=0, dtype=labels.dtype)
    if ignored is None:
        return gather.gather(places, labels, axis=0)
    counted = arith.not_equal(labels, ignored)
    found = gather.gather(places, arith.where(counted, labels, 0), axis=0)
    return arith.where(counted, found, ignored)


def pick(x, labels, axis: int):
    """The element of each row along `axis` that its label names; 0 for a label outside.

    By comparing every place with the label rather than by reading one, so that it fuses with what
    makes x.
    """
    dims = tuple(i for i in range(len(x.shape)) if i != axis)
    place = s.iota(shape=x.shape, axis=axis, dtype=labels.dtype)
    hit = e.eq(place, s.broadcast(labels, shape=x.shape, dims=dims))
    return r.reduce_sum(e.select(hit, x, fill(arith.type_of(x), 0)), axes=(axis,))


def _class_labels(logits, labels, name: str):
    """Checked integer labels: the shape of logits without the class axis."""
    labels = tensor_of(labels)
    expected = (*logits.shape[:1], *logits.shape[2:]) if len(logits.shape) > 1 else ()
    if not labels.dtype.is_int:
        raise TypeFault(f"{name}: found labels of dtype {labels.dtype}, expected integers")
    if labels.shape != expected:
        raise ShapeFault(f"{name}: found logits of shape {list(logits.shape)} and labels of shape "
                         f"{list(labels.shape)}, expected labels of shape {list(expected)}")
    return labels if labels.dtype.bits >= 32 and labels.dtype.kind == "i" else e.cast(
        labels, dtype=i64)


def softmax_cross_entropy_with_logits(logits, labels, sparse=False, reduction="none"):
    """-sum(labels * log_softmax(logits)) over the last axis.

    Shapes:   logits [n, c]; labels [n] integers with `sparse`, else [n, c] probabilities -> [n].
    Errors:   ShapeFault and TypeFault for labels; IndexFault for a label outside 0..c-1.
    """
    name = "softmax_cross_entropy_with_logits"
    logits = tensor_of(logits)
    if len(logits.shape) != 2:
        raise ShapeFault(f"{name}: found logits of shape {list(logits.shape)}, expected "
                         "[n, classes]")
    chances = log_softmax(logits, -1)
    if sparse:
        labels = checked_labels(_class_labels(logits, labels, name), logits.shape[1])
        return reduced(e.neg(pick(chances, labels, 1)), reduction)
    labels = arith.cast(tensor_of(labels), logits.dtype)
    if labels.shape != logits.shape:
        raise ShapeFault(f"{name}: found logits of shape {list(logits.shape)} and labels of shape "
                         f"{list(labels.shape)}, expected equal shapes", "sparse=True for indices")
    return reduced(e.neg(r.reduce_sum(e.mul(chances, labels), axes=(1,))), reduction)


def nll_loss(inputs, target, weight=None, ignore_index=-100, reduction="mean",
             label_smoothing=0.0):
    """The negated log-probability of the label, weighted by its class.

    Shapes:   inputs [n, c] or [n, c, ...] (or [c]), target the same without c -> target's, or 0-d.
    Errors:   as softmax_cross_entropy_with_logits; `ignore_index` is no error and counts for
              nothing.
    Source:   label smoothing: Szegedy et al., Rethinking the inception architecture, 2015.
    """
    inputs = tensor_of(inputs)
    axis = 1 if len(inputs.shape) > 1 else 0
    if not inputs.shape:
        raise ShapeFault("nll_loss of a 0-d tensor: expected one axis of classes at least")
    target = checked_labels(_class_labels(inputs, target, "nll_loss"), inputs.shape[axis],
                            ignore_index)
    counted = arith.not_equal(target, ignore_index)
    spread = None
    if weight is not None:
        spread = s.broadcast(arith.cast(tensor_of(weight), inputs.dtype), shape=inputs.shape,
                             dims=(axis,))
    of_label = arith.where(counted, 1.0, 0.0) if spread is None else arith.where(
        counted, pick(spread, target, axis), 0.0)
    of_label = arith.cast(of_label, inputs.dtype)
    loss = arith.negative(arith.mul(pick(inputs, target, axis), of_label))
    if label_smoothing:
        smooth = e.neg(r.reduce_sum(inputs if spread is None else e.mul(inputs, spread),
                                    axes=(axis,)))
        smooth = arith.where(counted, arith.mul(smooth, label_smoothing / inputs.shape[axis]), 0.0)
        loss = arith.add(arith.mul(loss, 1.0 - label_smoothing), smooth)
    if reduction == "mean":
        average = arith.div(sum_(widened(loss)), sum_(widened(of_label)))
        return narrowed(average, inputs.dtype)
    return reduced(loss, reduction)


def cross_entropy(input, target, weight=None, ignore_index=-100, reduction="mean",
                  label_smoothing=0.0):
    """nll_loss of log_softmax(input); float targets are probabilities of the classes.

    Shapes: input [n, c] or [n, c, ...] (or [c]); target the same without c, or with it if floats.
    """
    input, target = tensor_of(input), tensor_of(target)
    axis = 1 if len(input.shape) > 1 else 0
    chances = log_softmax(input, axis)
    if not target.dtype.is_float:
        return nll_loss(chances, target, weight, ignore_index, reduction, label_smoothing)
    if target.shape != input.shape:
        raise ShapeFault(f"cross_entropy: found input of shape {list(input.shape)} and target "
                         f"probabilities of shape {list(target.shape)}, expected equal shapes")
    classes = input.shape[axis]
    if label_smoothing:
        target = arith.add(arith.mul(target, 1.0 - label_smoothing), label_smoothing / classes)
    if weight is not None:
        chances = arith.mul(chances, s.broadcast(
            arith.cast(tensor_of(weight), input.dtype), shape=input.shape, dims=(axis,)))
    loss = e.neg(r.reduce_sum(arith.mul(chances, target), axes=(axis,)))
    if reduction == "mean":
        return mean(loss)
    return reduced(loss, reduction)
