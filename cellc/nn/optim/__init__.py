"""Optimisers and learning-rate schedules."""

from cellc.nn.optim.adam import Adam, AdamW, AdamWeightDecay
from cellc.nn.optim.optimizer import Optimizer
from cellc.nn.optim.schedule import (
    CosineDecayLR,
    ExponentialDecayLR,
    InverseDecayLR,
    LearningRateSchedule,
    NaturalExpDecayLR,
    PolynomialDecayLR,
    WarmUpLR,
    cosine_decay_lr,
    exponential_decay_lr,
    piecewise_constant_lr,
    polynomial_decay_lr,
    warmup_lr,
)
from cellc.nn.optim.sgd import SGD, Momentum, RMSProp

__all__ = [
    "Adam", "AdamW", "AdamWeightDecay", "CosineDecayLR", "ExponentialDecayLR", "InverseDecayLR",
    "LearningRateSchedule", "Momentum", "NaturalExpDecayLR", "Optimizer", "PolynomialDecayLR",
    "RMSProp", "SGD", "WarmUpLR", "cosine_decay_lr", "exponential_decay_lr",
    "piecewise_constant_lr", "polynomial_decay_lr", "warmup_lr",
]
