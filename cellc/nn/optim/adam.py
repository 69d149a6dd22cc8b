"""Adam and its kin. Source: Kingma and Ba, ICLR 2015; Loshchilov and Hutter, ICLR 2019 (AdamW)."""

from __future__ import annotations

from cellc import ops
from cellc.dtype import float32, float64
from cellc.nn.optim.optimizer import Optimizer, check_eps, check_share
from cellc.parameter import Parameter
from cellc.tensor import Tensor


def power(name: str) -> Parameter:
    """The product of all betas so far; in f64, because 1 - 0.999 in f32 keeps only five digits."""
    return Parameter(Tensor(1.0, "float64"), name=name, requires_grad=False)


def like(scale, parameter):
    """A scale in f64 in the dtype in which the parameter's update is computed, f32 at least."""
    return scale if parameter.dtype is float64 else ops.cast(scale, float32)


class Adam(Optimizer):
    """m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g**2;
    p -= lr * sqrt(1 - beta2**t) / (1 - beta1**t) * m / (sqrt(v) + eps).

    With `use_nesterov` m is replaced by beta1 * m + (1 - beta1) * g in the last line; with
    `use_amsgrad` v by the largest v so far. State: `moment1.<name>`, `moment2.<name>`,
    `vhat.<name>`, `beta1_power`, `beta2_power`.
    `use_locking` is MindSpore's and changes nothing.
    """

    def __init__(self, params, learning_rate=1e-3, beta1=0.9, beta2=0.999, eps=1e-8,
                 use_locking=False, use_nesterov=False, weight_decay=0.0, loss_scale=1.0,
                 use_amsgrad=False):
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        check_share(beta1=beta1, beta2=beta2)
        check_eps(eps)
        self.beta1, self.beta2, self.eps = float(beta1), float(beta2), float(eps)
        self.use_nesterov, self.use_amsgrad = bool(use_nesterov), bool(use_amsgrad)
        self.moment1 = self.state("moment1")
        self.moment2 = self.state("moment2")
        self.vhat = self.state("vhat") if use_amsgrad else None
        self.beta1_power = power("beta1_power")
        self.beta2_power = power("beta2_power")

    def construct(self, gradients):
        gradients = self.prepared(gradients)
        rates = self.get_lr()
        power1 = ops.assign(self.beta1_power, self.beta1_power * self.beta1)
        power2 = ops.assign(self.beta2_power, self.beta2_power * self.beta2)
        correction = ops.sqrt(1.0 - power2) / (1.0 - power1)
        for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            m, v = self.moment1[i], self.moment2[i]
            m = ops.assign(m, m * self.beta1 + g * (1.0 - self.beta1))
            v = ops.assign(v, v * self.beta2 + g * g * (1.0 - self.beta2))
            if self.use_nesterov:
                m = m * self.beta1 + g * (1.0 - self.beta1)
            if self.use_amsgrad:
                v = ops.assign(self.vhat[i], ops.maximum(self.vhat[i], v))
            rate = like(rates[self.group_of[i]] * correction, p)
            ops.assign(p, p - rate * m / (ops.sqrt(v) + self.eps))
        self.count_step()
        return True


class AdamW(Optimizer):
    """Adam with the decay applied to the parameter itself, and eps added to the corrected root:

        p -= lr * weight_decay * p;  p -= lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps)

    State: `adam_m.<name>`, `adam_v.<name>`.
    """

    corrected = True

    def __init__(self, params, learning_rate=1e-3, beta1=0.9, beta2=0.999, eps=1e-8,
                 weight_decay=1e-2):
        super().__init__(learning_rate, params, weight_decay)
        check_share(beta1=beta1, beta2=beta2)
        check_eps(eps)
        self.beta1, self.beta2, self.eps = float(beta1), float(beta2), float(eps)
        self.moment1 = self.state("adam_m")
        self.moment2 = self.state("adam_v")
        self.beta1_power = power("beta1_power")
        self.beta2_power = power("beta2_power")

    def construct(self, gradients):
        rates = self.get_lr()
        power1 = ops.assign(self.beta1_power, self.beta1_power * self.beta1)
        power2 = ops.assign(self.beta2_power, self.beta2_power * self.beta2)
        scale1, scale2 = 1.0 / (1.0 - power1), 1.0 / (1.0 - power2)
        for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            m, v = self.moment1[i], self.moment2[i]
            m = ops.assign(m, m * self.beta1 + g * (1.0 - self.beta1))
            v = ops.assign(v, v * self.beta2 + g * g * (1.0 - self.beta2))
            step = m / (ops.sqrt(v) + self.eps)
            if self.corrected:
                below = ops.sqrt(v * like(scale2, p)) + self.eps
                step = m * like(scale1, p) / below
            if self.decays[i] != 0.0:
                step = step + p * self.decays[i]
            ops.assign(p, p - rates[self.group_of[i]] * step)
        self.count_step()
        return True


class AdamWeightDecay(AdamW):
    """AdamW without the correction of the moments for their start at 0, as MindSpore has it."""

    corrected = False

    def __init__(self, params, learning_rate=1e-3, beta1=0.9, beta2=0.999, eps=1e-6,
                 weight_decay=0.0):
        super().__init__(params, learning_rate, beta1, beta2, eps, weight_decay)
