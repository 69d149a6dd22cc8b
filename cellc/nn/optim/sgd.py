"""SGD, Momentum and RMSProp."""

from __future__ import annotations

from cellc import ops
from cellc.errors import ValueFault
from cellc.nn.optim.optimizer import Optimizer, check_eps, check_share


class SGD(Optimizer):
    """p -= lr * v, where v = momentum * v + (1 - dampening) * g (v = g at the first step).

    With `nesterov` p -= lr * (g + momentum * v). State: `accum.<name>`.
    Source: Sutskever et al., On the importance of initialization and momentum, ICML 2013.
    """

    def __init__(self, params, learning_rate=0.1, momentum=0.0, dampening=0.0, weight_decay=0.0,
                 nesterov=False, loss_scale=1.0):
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        if momentum < 0 or dampening < 0:
            raise ValueFault(f"momentum {momentum} and dampening {dampening} must not be negative")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueFault("nesterov needs a momentum above 0 and no dampening")
        self.momentum, self.dampening = float(momentum), float(dampening)
        self.nesterov = bool(nesterov)
        self.accum = self.state("accum") if momentum else None

    def construct(self, gradients):
        gradients = self.prepared(gradients)
        rates = self.get_lr()
        for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            step = g
            if self.accum is not None:
                v = self.accum[i]
                fresh = g
                if self.dampening != 0.0:
                    fresh = ops.where(self.global_step == 0, g, g * (1.0 - self.dampening))
                v = ops.assign(v, v * self.momentum + fresh)
                step = g + v * self.momentum if self.nesterov else v
            ops.assign(p, p - rates[self.group_of[i]] * step)
        self.count_step()
        return True


class Momentum(Optimizer):
    """v = momentum * v + g; p -= lr * v, or with `use_nesterov` p -= lr * (g + momentum * v).

    State: `moments.<name>`.
    """

    def __init__(self, params, learning_rate, momentum, weight_decay=0.0, loss_scale=1.0,
                 use_nesterov=False):
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        if isinstance(momentum, bool) or not isinstance(momentum, (int, float)) or momentum < 0:
            raise ValueFault(f"momentum is {momentum!r}, expected a number of 0 or more")
        self.momentum, self.use_nesterov = float(momentum), bool(use_nesterov)
        self.moments = self.state("moments")

    def construct(self, gradients):
        gradients = self.prepared(gradients)
        rates = self.get_lr()
        for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            v = self.moments[i]
            v = ops.assign(v, v * self.momentum + g)
            step = g + v * self.momentum if self.use_nesterov else v
            ops.assign(p, p - rates[self.group_of[i]] * step)
        self.count_step()
        return True


class RMSProp(Optimizer):
    """s = decay * s + (1 - decay) * g**2; v = momentum * v + lr * g / sqrt(s + epsilon); p -= v.

    With `centered` the square of the mean gradient is subtracted from s below the root.
    State: `mean_square.<name>` (starting at 1), `moment.<name>`, `mean_grad.<name>`.
    Source: Tieleman and Hinton, Lecture 6.5, 2012; Graves, arXiv 1308.0850, 2013 (centered).
    """

    def __init__(self, params, learning_rate=0.1, decay=0.9, momentum=0.0, epsilon=1e-10,
                 use_locking=False, centered=False, loss_scale=1.0, weight_decay=0.0):
        super().__init__(learning_rate, params, weight_decay, loss_scale)
        check_share(decay=decay)
        check_eps(epsilon)
        if momentum < 0:
            raise ValueFault(f"momentum is {momentum}, expected 0 or more")
        self.decay, self.momentum, self.epsilon = float(decay), float(momentum), float(epsilon)
        self.centered = bool(centered)
        self.mean_square = self.state("mean_square", "ones")
        self.moment = self.state("moment")
        self.mean_grad = self.state("mean_grad") if centered else None

    def construct(self, gradients):
        gradients = self.prepared(gradients)
        rates = self.get_lr()
        for i, (p, g) in enumerate(zip(self.parameters, gradients, strict=True)):
            s = self.mean_square[i]
            s = ops.assign(s, s * self.decay + g * g * (1.0 - self.decay))
            below = s + self.epsilon
            if self.centered:
                mean = self.mean_grad[i]
                mean = ops.assign(mean, mean * self.decay + g * (1.0 - self.decay))
                below = below - mean * mean
            v = self.moment[i]
            v = ops.assign(v, v * self.momentum + rates[self.group_of[i]] * g * ops.rsqrt(below))
            ops.assign(p, p - v)
        self.count_step()
        return True
