"""Learning rates that change: cells of the global step, and lists of a rate for each step."""

from __future__ import annotations

import math

from cellc import ops
from cellc.errors import TypeFault, ValueFault
from cellc.nn.cell import Cell


class LearningRateSchedule(Cell):
    """The base: `construct(self, global_step)` gives the rate at a step, a 0-d int32 tensor."""


def _positive(**values) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeFault(f"{name} is {value!r}, expected a number")
        if value <= 0:
            raise ValueFault(f"{name} is {value}, expected more than 0")


class _Decay(LearningRateSchedule):
    """What the decays by a rate share."""

    def __init__(self, learning_rate, decay_rate, decay_steps, is_stair=False):
        super().__init__()
        _positive(learning_rate=learning_rate, decay_rate=decay_rate, decay_steps=decay_steps)
        self.learning_rate, self.decay_rate = learning_rate, decay_rate
        self.decay_steps, self.is_stair = decay_steps, bool(is_stair)

    def passed(self, global_step):
        """step / decay_steps; the whole part of it with `is_stair`."""
        passed = ops.cast(global_step, "float32") / self.decay_steps
        return ops.floor(passed) if self.is_stair else passed


class ExponentialDecayLR(_Decay):
    """rate * decay_rate ** (step / decay_steps); by whole steps with `is_stair`."""

    def construct(self, global_step):
        return self.learning_rate * ops.pow(self.decay_rate, self.passed(global_step))


class NaturalExpDecayLR(_Decay):
    """rate * exp(-decay_rate * step); with `is_stair` it changes every decay_steps only."""

    def construct(self, global_step):
        passed = ops.cast(global_step, "float32")
        if self.is_stair:
            passed = ops.floor(passed / self.decay_steps) * self.decay_steps
        return self.learning_rate * ops.exp(-self.decay_rate * passed)


class InverseDecayLR(_Decay):
    """rate / (1 + decay_rate * step / decay_steps); by whole steps with `is_stair`."""

    def construct(self, global_step):
        return self.learning_rate / (1 + self.decay_rate * self.passed(global_step))


class CosineDecayLR(LearningRateSchedule):
    """Half a cosine from max_lr to min_lr over decay_steps. Source: SGDR, 2017."""

    def __init__(self, min_lr, max_lr, decay_steps):
        super().__init__()
        _positive(max_lr=max_lr, decay_steps=decay_steps)
        if not 0 <= min_lr < max_lr:
            raise ValueFault(f"min_lr is {min_lr}, expected 0 to less than max_lr, {max_lr}")
        self.min_lr, self.max_lr, self.decay_steps = min_lr, max_lr, decay_steps

    def construct(self, global_step):
        passed = ops.minimum(ops.cast(global_step, "float32"), float(self.decay_steps))
        wave = 1.0 + ops.cos(passed * (math.pi / self.decay_steps))
        return self.min_lr + 0.5 * (self.max_lr - self.min_lr) * wave


class PolynomialDecayLR(LearningRateSchedule):
    """From learning_rate to end_learning_rate as (1 - step / decay_steps) ** power.

    With `update_decay_steps` the decay starts over, longer each time, when it is through.
    """

    def __init__(self, learning_rate, end_learning_rate, decay_steps, power,
                 update_decay_steps=False):
        super().__init__()
        _positive(learning_rate=learning_rate, decay_steps=decay_steps, power=power)
        if end_learning_rate < 0:
            raise ValueFault(f"end_learning_rate is {end_learning_rate}, expected 0 or more")
        self.learning_rate, self.end_learning_rate = learning_rate, end_learning_rate
        self.decay_steps, self.power = decay_steps, power
        self.update_decay_steps = bool(update_decay_steps)

    def construct(self, global_step):
        step = ops.cast(global_step, "float32")
        steps = float(self.decay_steps)
        if self.update_decay_steps:
            steps = steps * ops.maximum(ops.ceil(step / steps), 1.0)
        left = 1.0 - ops.minimum(step, steps) / steps
        difference = self.learning_rate - self.end_learning_rate
        return difference * ops.pow(left, self.power) + self.end_learning_rate


class WarmUpLR(LearningRateSchedule):
    """From 0 to learning_rate over warmup_steps, then constant."""

    def __init__(self, learning_rate, warmup_steps):
        super().__init__()
        _positive(learning_rate=learning_rate, warmup_steps=warmup_steps)
        self.learning_rate, self.warmup_steps = learning_rate, warmup_steps

    def construct(self, global_step):
        passed = ops.minimum(ops.cast(global_step, "float32"), float(self.warmup_steps))
        return passed * (self.learning_rate / self.warmup_steps)


# -- lists: one rate for each step ----------------------------------------------------------------


def _by_epoch(total_step, step_per_epoch, rate):
    _positive(total_step=total_step, step_per_epoch=step_per_epoch)
    return [rate(i // step_per_epoch) for i in range(total_step)]


def exponential_decay_lr(learning_rate, decay_rate, total_step, step_per_epoch, decay_epoch,
                         is_stair=False):
    """learning_rate * decay_rate ** (epoch / decay_epoch) for each step."""
    def rate(epoch):
        passed = epoch // decay_epoch if is_stair else epoch / decay_epoch
        return learning_rate * decay_rate ** passed

    return _by_epoch(total_step, step_per_epoch, rate)


def cosine_decay_lr(min_lr, max_lr, total_step, step_per_epoch, decay_epoch):
    """Half a cosine from max_lr to min_lr over decay_epoch epochs, for each step."""
    return _by_epoch(total_step, step_per_epoch, lambda epoch: min_lr + 0.5 * (max_lr - min_lr) * (
        1 + math.cos(math.pi * min(epoch, decay_epoch) / decay_epoch)))


def polynomial_decay_lr(learning_rate, end_learning_rate, total_step, step_per_epoch, decay_epoch,
                        power):
    """From one rate to another as (1 - epoch / decay_epoch) ** power, for each step."""
    def rate(epoch):
        left = 1 - min(epoch, decay_epoch) / decay_epoch
        return (learning_rate - end_learning_rate) * left ** power + end_learning_rate

    return _by_epoch(total_step, step_per_epoch, rate)


def warmup_lr(learning_rate, total_step, step_per_epoch, warmup_epoch):
    """From 0 to learning_rate over warmup_epoch epochs, then constant, for each step."""
    return _by_epoch(total_step, step_per_epoch, lambda epoch: learning_rate * min(
        epoch, warmup_epoch) / warmup_epoch)


def piecewise_constant_lr(milestone, learning_rates):
    """learning_rates[i] until step milestone[i]; as long as the last milestone."""
    if len(milestone) != len(learning_rates) or list(milestone) != sorted(set(milestone)):
        raise ValueFault("piecewise_constant_lr: expected rising milestones, and a rate for each")
    rates = []
    for last, rate in zip(milestone, learning_rates, strict=True):
        rates += [rate] * (last - len(rates))
    return rates
