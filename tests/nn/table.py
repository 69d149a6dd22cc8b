"""Every layer and loss once or more: how to make it, and inputs for it."""

import numpy as np

from cellc import Tensor, nn, ops

DRAW = np.random.default_rng(0)


def floats(*shape):
    return Tensor(DRAW.normal(size=shape).astype(np.float32))


def labels(n, *shape):
    return Tensor(DRAW.integers(0, n, shape).astype(np.int32))


IMAGES, SEQUENCES, ROWS = floats(2, 4, 8, 8), floats(2, 4, 9), floats(6, 5)
CHANCES = ops.softmax(floats(6, 5))
PAIR = (ROWS, floats(6, 5))

# name, () -> cell, inputs
LAYERS = [
    ("Dense", lambda: nn.Dense(5, 3), [ROWS]),
    ("Dense_no_bias", lambda: nn.Dense(5, 3, has_bias=False), [ROWS]),
    ("Dense_activation", lambda: nn.Dense(5, 3, activation="relu"), [floats(2, 3, 5)]),
    ("Conv2d_same", lambda: nn.Conv2d(4, 6, 3, has_bias=True), [IMAGES]),
    ("Conv2d_valid", lambda: nn.Conv2d(4, 6, (3, 2), stride=2, pad_mode="valid"), [IMAGES]),
    ("Conv2d_pad", lambda: nn.Conv2d(4, 6, 3, stride=2, pad_mode="pad", padding=1), [IMAGES]),
    ("Conv2d_dilated", lambda: nn.Conv2d(4, 6, 3, dilation=2, pad_mode="valid"), [IMAGES]),
    ("Conv2d_groups", lambda: nn.Conv2d(4, 6, 3, group=2, has_bias=True), [IMAGES]),
    ("Conv2d_depthwise", lambda: nn.Conv2d(4, 4, 3, group=4), [IMAGES]),
    ("Conv2d_1x1", lambda: nn.Conv2d(4, 6, 1, pad_mode="valid"), [IMAGES]),
    ("Conv1d", lambda: nn.Conv1d(4, 6, 3, has_bias=True), [SEQUENCES]),
    ("Conv1d_pad", lambda: nn.Conv1d(4, 6, 3, stride=2, pad_mode="pad", padding=1), [SEQUENCES]),
    ("MaxPool2d", lambda: nn.MaxPool2d(2, 2), [IMAGES]),
    ("MaxPool2d_overlapping", lambda: nn.MaxPool2d(3, 2, pad_mode="same"), [IMAGES]),
    ("MaxPool1d", lambda: nn.MaxPool1d(3, 3), [SEQUENCES]),
    ("AvgPool2d", lambda: nn.AvgPool2d(2, 2), [IMAGES]),
    ("AvgPool2d_pad", lambda: nn.AvgPool2d(3, 2, "pad", 1, count_include_pad=False), [IMAGES]),
    ("AvgPool1d", lambda: nn.AvgPool1d(3, 1), [SEQUENCES]),
    ("AdaptiveAvgPool2d", lambda: nn.AdaptiveAvgPool2d((3, 2)), [IMAGES]),
    ("AdaptiveAvgPool2d_even", lambda: nn.AdaptiveAvgPool2d(1), [IMAGES]),
    ("AdaptiveAvgPool1d", lambda: nn.AdaptiveAvgPool1d(2), [SEQUENCES]),
    ("BatchNorm2d", lambda: nn.BatchNorm2d(4), [IMAGES]),
    ("BatchNorm2d_training", lambda: nn.BatchNorm2d(4).set_train(), [IMAGES]),
    ("BatchNorm1d_training", lambda: nn.BatchNorm1d(5).set_train(), [ROWS]),
    ("LayerNorm", lambda: nn.LayerNorm((5,)), [ROWS]),
    ("LayerNorm_two_axes", lambda: nn.LayerNorm((8, 8)), [IMAGES]),
    ("GroupNorm", lambda: nn.GroupNorm(2, 4), [IMAGES]),
    ("Dropout", lambda: nn.Dropout(p=0.3), [ROWS]),
    ("Dropout_training", lambda: nn.Dropout(p=0.3).set_train(), [ROWS]),
    ("Embedding", lambda: nn.Embedding(7, 3), [labels(7, 2, 4)]),
    ("Embedding_one_hot", lambda: nn.Embedding(7, 3, use_one_hot=True), [labels(7, 2, 4)]),
    ("Flatten", lambda: nn.Flatten(), [IMAGES]),
    ("Identity", lambda: nn.Identity(), [ROWS]),
    ("OneHot", lambda: nn.OneHot(depth=7), [labels(7, 2, 4)]),
    ("Pad", lambda: nn.Pad(((1, 0), (2, 1))), [ROWS]),
    ("SequentialCell", lambda: nn.SequentialCell(nn.Dense(5, 4), nn.Tanh(), nn.Dense(4, 2)),
     [ROWS]),
    ("PReLU", lambda: nn.PReLU(4), [IMAGES]),
    ("LeakyReLU", lambda: nn.LeakyReLU(0.1), [ROWS]),
    ("GELU_exact", lambda: nn.GELU(approximate=False), [ROWS]),
    ("Softmax", lambda: nn.Softmax(0), [ROWS]),
] + [(name, getattr(nn, name), [ROWS]) for name in (
    "ReLU ReLU6 ELU SeLU CELU GELU SiLU Mish HSwish HSigmoid Sigmoid LogSigmoid Softplus Softsign "
    "Tanh Hardtanh HShrink SoftShrink LogSoftmax Softmin").split()]

LOSSES = [
    ("MSELoss", lambda: nn.MSELoss(), PAIR),
    ("MSELoss_sum", lambda: nn.MSELoss("sum"), PAIR),
    ("L1Loss", lambda: nn.L1Loss(), PAIR),
    ("SmoothL1Loss", lambda: nn.SmoothL1Loss(0.5), PAIR),
    ("HuberLoss", lambda: nn.HuberLoss(delta=0.5), PAIR),
    ("BCELoss", lambda: nn.BCELoss(reduction="mean"), (CHANCES, ops.sigmoid(floats(6, 5)))),
    ("BCEWithLogitsLoss", lambda: nn.BCEWithLogitsLoss(pos_weight=Tensor([1.0, 2, 3, 4, 5])),
     (ROWS, ops.sigmoid(floats(6, 5)))),
    ("NLLLoss", lambda: nn.NLLLoss(), (ops.log_softmax(ROWS), labels(5, 6))),
    ("CrossEntropyLoss", lambda: nn.CrossEntropyLoss(), (ROWS, labels(5, 6))),
    ("CrossEntropyLoss_weighted", lambda: nn.CrossEntropyLoss(
        Tensor([1.0, 2, 3, 4, 5]), ignore_index=2, label_smoothing=0.1), (ROWS, labels(5, 6))),
    ("CrossEntropyLoss_images", lambda: nn.CrossEntropyLoss(), (IMAGES, labels(4, 2, 8, 8))),
    ("CrossEntropyLoss_soft", lambda: nn.CrossEntropyLoss(), (ROWS, CHANCES)),
    ("SoftmaxCrossEntropy", lambda: nn.SoftmaxCrossEntropyWithLogits(), (ROWS, CHANCES)),
    ("SoftmaxCrossEntropy_sparse", lambda: nn.SoftmaxCrossEntropyWithLogits(True, "mean"),
     (ROWS, labels(5, 6))),
    ("KLDivLoss", lambda: nn.KLDivLoss("batchmean"), (ops.log_softmax(ROWS), CHANCES)),
]

# name, parameters -> optimiser
OPTIMIZERS = [
    ("SGD", lambda p: nn.SGD(p, 0.1)),
    ("SGD_momentum", lambda p: nn.SGD(p, 0.1, momentum=0.9, weight_decay=1e-2)),
    ("SGD_nesterov", lambda p: nn.SGD(p, 0.1, momentum=0.9, nesterov=True)),
    ("SGD_dampening", lambda p: nn.SGD(p, 0.1, momentum=0.9, dampening=0.5)),
    ("Momentum", lambda p: nn.Momentum(p, 0.1, 0.9, loss_scale=2.0)),
    ("Momentum_nesterov", lambda p: nn.Momentum(p, 0.1, 0.9, use_nesterov=True)),
    ("Adam", lambda p: nn.Adam(p, 0.01, weight_decay=1e-2)),
    ("Adam_nesterov", lambda p: nn.Adam(p, 0.01, use_nesterov=True)),
    ("Adam_amsgrad", lambda p: nn.Adam(p, 0.01, use_amsgrad=True)),
    ("AdamW", lambda p: nn.AdamW(p, 0.01)),
    ("AdamWeightDecay", lambda p: nn.AdamWeightDecay(p, 0.01, weight_decay=0.1)),
    ("RMSProp", lambda p: nn.RMSProp(p, 0.01)),
    ("RMSProp_centered", lambda p: nn.RMSProp(p, 0.01, momentum=0.5, centered=True)),
    ("groups", lambda p: nn.Momentum([{"params": p[:2], "lr": 0.01, "weight_decay": 0.1},
                                      {"params": p[2:]}], 0.1, 0.9)),
    ("listed_rates", lambda p: nn.SGD(p, [0.3, 0.2, 0.1])),
    ("ExponentialDecayLR", lambda p: nn.SGD(p, nn.ExponentialDecayLR(0.1, 0.5, 2, True))),
    ("CosineDecayLR", lambda p: nn.Adam(p, nn.CosineDecayLR(0.0, 0.1, 3))),
    ("PolynomialDecayLR", lambda p: nn.SGD(p, nn.PolynomialDecayLR(0.1, 0.01, 3, 2.0))),
    ("WarmUpLR", lambda p: nn.SGD(p, nn.WarmUpLR(0.1, 3))),
    ("InverseDecayLR", lambda p: nn.SGD(p, nn.InverseDecayLR(0.1, 0.5, 2))),
    ("NaturalExpDecayLR", lambda p: nn.SGD(p, nn.NaturalExpDecayLR(0.1, 0.5, 2))),
]
