# ruff: noqa: F401  (names for others to import)
"""Cells: layers, losses, optimisers, containers, and the wrappers for training."""

from cellc.nn import initializer, optim
from cellc.nn.activation import (
    CELU,
    ELU,
    GELU,
    SELU,
    Hardtanh,
    HShrink,
    HSigmoid,
    HSwish,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    PReLU,
    ReLU,
    ReLU6,
    SeLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softmin,
    Softplus,
    SoftShrink,
    Softsign,
    Tanh,
    get_activation,
)
from cellc.nn.basic import Dense, Dropout, Embedding, Flatten, Identity, OneHot, Pad
from cellc.nn.cell import Cell
from cellc.nn.container import CellDict, CellList, SequentialCell
from cellc.nn.conv import Conv1d, Conv2d
from cellc.nn.loss import (
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    KLDivLoss,
    L1Loss,
    LossBase,
    MSELoss,
    NLLLoss,
    SmoothL1Loss,
    SoftmaxCrossEntropyWithLogits,
)
from cellc.nn.norm import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm
from cellc.nn.optim import *  # noqa: F403
from cellc.nn.pool import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    MaxPool1d,
    MaxPool2d,
)
from cellc.nn.wrap import ForwardValueAndGrad, TrainOneStepCell, WithEvalCell, WithLossCell

learning_rate_schedule = optim.schedule
__all__ = [name for name in globals() if not name.startswith("_")]
