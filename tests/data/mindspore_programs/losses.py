"""Losses with their reductions and options, and their gradients by the logits."""

from mindspore_programs.surface import (
    GradOperation,
    Tensor,
    data,
    mstype,
    nn,
    np,
    ops,
    program,
)


def loss(name, make, inputs):
    """Record a loss for every reduction, and the gradient by its first input."""
    def run():
        found = []
        for reduction in ("mean", "sum", "none"):
            net = make(reduction)
            given = inputs()
            found.append((net(*given), GradOperation()(net)(*given)))
        return found

    program(f"loss_{name}")(run)


def regression():
    return data(3, 4), data(3, 4, seed=1)


def probabilities():
    return data(3, 4, low=0.05, high=0.95), data(3, 4, seed=1, low=0, high=2, dtype=np.float32)


def logits_and_targets():
    return data(3, 4), data(3, 4, seed=1, low=0, high=1)


def classes(dtype=np.int32):
    return data(4, 5), data(4, seed=1, low=0, high=5, dtype=dtype)


def distributions():
    return data(4, 5), ops.softmax(data(4, 5, seed=1))


def log_probabilities():
    return ops.log_softmax(data(4, 5)), data(4, seed=1, low=0, high=5, dtype=np.int32)


WEIGHT = [0.5, 1.0, 2.0, 0.1, 1.5]

loss("mse", lambda r: nn.MSELoss(r), regression)
loss("mse_broadcast", lambda r: nn.MSELoss(r), lambda: (data(3, 4), data(1, 4, seed=1)))
loss("l1", lambda r: nn.L1Loss(r), regression)
loss("smooth_l1", lambda r: nn.SmoothL1Loss(beta=0.5, reduction=r), regression)
loss("huber", lambda r: nn.HuberLoss(r), regression)
loss("huber_delta", lambda r: nn.HuberLoss(r, delta=0.5), regression)
loss("bce", lambda r: nn.BCELoss(reduction=r), probabilities)
loss("bce_weight", lambda r: nn.BCELoss(data(3, 4, seed=2, low=0.5, high=2.0), r), probabilities)
loss("bce_logits", lambda r: nn.BCEWithLogitsLoss(r), logits_and_targets)
loss("bce_logits_weights", lambda r: nn.BCEWithLogitsLoss(
    r, Tensor([0.5, 1.0, 2.0, 1.0], mstype.float32), Tensor([2.0, 1.0, 0.5, 3.0], mstype.float32)),
    logits_and_targets)
loss("cross_entropy", lambda r: nn.CrossEntropyLoss(reduction=r), classes)
loss("cross_entropy_weight", lambda r: nn.CrossEntropyLoss(Tensor(WEIGHT, mstype.float32),
                                                           reduction=r), classes)
loss("cross_entropy_ignore", lambda r: nn.CrossEntropyLoss(ignore_index=2, reduction=r),
     lambda: (data(4, 5), Tensor([2, 1, 0, 4], mstype.int32)))
loss("cross_entropy_smoothing", lambda r: nn.CrossEntropyLoss(
    Tensor(WEIGHT, mstype.float32), reduction=r, label_smoothing=0.2), classes)
loss("cross_entropy_soft", lambda r: nn.CrossEntropyLoss(reduction=r), distributions)
loss("cross_entropy_soft_weight", lambda r: nn.CrossEntropyLoss(
    Tensor(WEIGHT, mstype.float32), reduction=r, label_smoothing=0.1), distributions)
loss("cross_entropy_2d", lambda r: nn.CrossEntropyLoss(reduction=r),
     lambda: (data(2, 3, 2, 2), data(2, 2, 2, low=0, high=3, dtype=np.int32)))
loss("nll", lambda r: nn.NLLLoss(reduction=r), log_probabilities)
loss("nll_weight", lambda r: nn.NLLLoss(Tensor(WEIGHT, mstype.float32), 1, r), log_probabilities)
loss("softmax_cross_entropy", lambda r: nn.SoftmaxCrossEntropyWithLogits(reduction=r),
     distributions)
loss("softmax_cross_entropy_sparse",
     lambda r: nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction=r), classes)
loss("kl_div", lambda r: nn.KLDivLoss(r), lambda: (ops.log_softmax(data(4, 5)),
                                                   ops.softmax(data(4, 5, seed=1))))


@program()
def loss_extremes():
    """Logits whose exponentials overflow."""
    logits = Tensor([[1000.0, 0.0, -1000.0], [0.0, 500.0, 400.0]], mstype.float32)
    labels = Tensor([0, 2], mstype.int32)
    net = nn.SoftmaxCrossEntropyWithLogits(sparse=True)
    return (net(logits, labels), GradOperation()(net)(logits, labels),
            nn.BCEWithLogitsLoss("none")(logits, ops.ones_like(logits)))


@program()
def loss_kl_div_batchmean():
    return nn.KLDivLoss("batchmean")(ops.log_softmax(data(4, 5)), ops.softmax(data(4, 5, seed=1)))


@program()
def loss_functions():
    """The same by functions."""
    x, y = regression()
    logits, labels = classes()
    return (ops.mse_loss(x, y), ops.l1_loss(x, y), ops.smooth_l1_loss(x, y), ops.huber_loss(x, y),
            ops.cross_entropy(logits, labels), ops.nll_loss(ops.log_softmax(logits), labels),
            ops.binary_cross_entropy_with_logits(x, ops.sigmoid(y)),
            ops.binary_cross_entropy(ops.sigmoid(x), ops.sigmoid(y)),
            ops.kl_div(ops.log_softmax(logits), ops.softmax(logits * 2)))


@program()
def loss_own_class():
    """A loss as users write their own, on LossBase."""
    class Weighted(nn.LossBase):
        def __init__(self, reduction="mean"):
            super().__init__(reduction)
            self.abs = ops.Abs()

        def construct(self, base, target):
            return self.get_loss(self.abs(base - target), 0.5)

    x, y = regression()
    return Weighted()(x, y), Weighted("sum")(x, y), Weighted("none")(x, y)
