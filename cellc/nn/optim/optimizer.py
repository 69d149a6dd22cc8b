"""What optimisers share: parameters in groups, learning rates, weight decay, the step count.

    optimizer = nn.Adam(net.trainable_params(), learning_rate=1e-3)
    optimizer = nn.SGD([{"params": convs, "lr": 0.1, "weight_decay": 1e-4}, {"params": rest}], 0.01)
    optimizer(gradients)        # one gradient for each of optimizer.parameters, in order

A learning rate is a number, a list or 1-d tensor with a rate for each step (the last one then
stays), or a schedule cell. Where parameters are not grouped, weight decay leaves out those with
"beta" or "gamma" in their names; in a group it takes all.
"""

from __future__ import annotations

import numpy as np

from cellc import ops
from cellc.eager import no_grad
from cellc.errors import ShapeFault, TypeFault, ValueFault
from cellc.nn.cell import Cell
from cellc.nn.optim.schedule import LearningRateSchedule
from cellc.parameter import Parameter, ParameterTuple
from cellc.tensor import Tensor

_GROUP_KEYS = {"params", "lr", "weight_decay", "order_params", "grad_centralization"}


class Optimizer(Cell):
    """The base of optimisers: a subclass updates one parameter after another in `construct`.

    Errors: ValueFault for no parameters, one given twice, a negative rate or an unknown group key;
            TypeFault for what is no Parameter.
    """

    def __init__(self, learning_rate, parameters, weight_decay=0.0, loss_scale=1.0):
        super().__init__(auto_prefix=False)
        groups = _groups(parameters, learning_rate, weight_decay)
        flat = [(p, i) for i, group in enumerate(groups) for p in group["params"]]
        self.parameters = ParameterTuple([p for p, _ in flat])
        if len({id(p) for p, _ in flat}) < len(flat):
            raise ValueFault("a Parameter is given to the optimizer twice")
        self.group_of = tuple([i for _, i in flat])
        self.decays = tuple([_decay(p, groups[i]) for p, i in flat])
        for i, group in enumerate(groups):
            name = "learning_rate" if i == 0 else f"learning_rate_group_{i}"
            setattr(self, name, _rate(group["lr"], name))
        self.rate_names = tuple(["learning_rate" if i == 0 else f"learning_rate_group_{i}"
                                 for i in range(len(groups))])
        if not isinstance(loss_scale, (int, float)) or loss_scale <= 0:
            raise ValueFault(f"loss_scale is {loss_scale!r}, expected more than 0")
        self.loss_scale = float(loss_scale)
        self.global_step = Parameter(Tensor(0, "int32"), name="global_step", requires_grad=False)

    def state(self, prefix: str, init="zeros") -> ParameterTuple:
        """A Parameter like each of the parameters, named `prefix.name`."""
        made = self.parameters.clone(prefix, init)
        for parameter in made:
            parameter.requires_grad = False
        return made

    def get_lr(self):
        """The learning rate of each group at this step."""
        rates = []
        for name in self.rate_names:
            rate = getattr(self, name)
            if isinstance(rate, Cell):
                rates.append(rate(self.global_step))
            elif rate.ndim == 0:
                rates.append(rate)
            else:
                last = rate.shape[0] - 1
                rates.append(ops.take(rate, ops.minimum(self.global_step, last), 0))
        return rates

    def prepared(self, gradients):
        """The gradients without the loss scale, with weight decay added."""
        if len(gradients) != len(self.parameters):
            raise ShapeFault(f"{len(gradients)} gradients for {len(self.parameters)} parameters")
        found = []
        for gradient, parameter, decay in zip(gradients, self.parameters, self.decays, strict=True):
            if self.loss_scale != 1.0:
                gradient = gradient * (1.0 / self.loss_scale)
            if decay != 0.0:
                gradient = gradient + parameter * decay
            found.append(gradient)
        return found

    def count_step(self):
        """One more step done."""
        ops.assign(self.global_step, self.global_step + 1)

    def __call__(self, gradients):
        with no_grad():         # in eager mode an update is never differentiated
            return super().__call__(gradients)


def _groups(parameters, learning_rate, weight_decay) -> list[dict]:
    parameters = list(parameters)
    if not parameters:
        raise ValueFault("the optimizer was given no parameters", "net.trainable_params()")
    if not isinstance(parameters[0], dict):
        _check_parameters(parameters)
        return [{"params": parameters, "lr": learning_rate, "grouped": False,
                 "weight_decay": _decay_rate(weight_decay)}]
    groups = []
    for group in parameters:
        if not isinstance(group, dict):
            raise TypeFault("parameters and groups of parameters are mixed")
        if unknown := group.keys() - _GROUP_KEYS:
            raise ValueFault(f"unknown key {', '.join(sorted(unknown))} in a parameter group",
                             '"params", "lr", "weight_decay"')
        if "params" not in group:
            continue            # {"order_params": ...}: the order here is that of the groups
        members = list(group["params"])
        _check_parameters(members)
        groups.append({"params": members, "lr": group.get("lr", learning_rate), "grouped": True,
                       "weight_decay": _decay_rate(group.get("weight_decay", weight_decay))})
    if not any(group["params"] for group in groups):
        raise ValueFault("the optimizer was given no parameters", "net.trainable_params()")
    return groups


def _check_parameters(parameters: list) -> None:
    for parameter in parameters:
        if not isinstance(parameter, Parameter):
            raise TypeFault(f"found {type(parameter).__name__} among the parameters",
                            "net.trainable_params() gives Parameters")


def _decay_rate(value) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeFault(f"weight_decay is {value!r}, expected a number")
    if value < 0:
        raise ValueFault(f"weight_decay is {value}, expected 0 or more")
    return float(value)


def _decay(parameter: Parameter, group: dict) -> float:
    """The weight decay of one parameter."""
    norm = "beta" in parameter.name or "gamma" in parameter.name
    return 0.0 if norm and not group["grouped"] else group["weight_decay"]


def _rate(given, name: str):
    """A learning rate: the schedule it is, or a Parameter with one rate or one for each step."""
    if isinstance(given, LearningRateSchedule):
        return given
    if isinstance(given, Cell):
        raise TypeFault(f"found {type(given).__name__} for {name}",
                        "a schedule is a subclass of nn.LearningRateSchedule")
    if isinstance(given, str) or given is None or isinstance(given, bool):
        raise TypeFault(f"{name} is {given!r}, expected a number, a list or a schedule")
    values = np.asarray(given if isinstance(given, Tensor) else list(given)
                        if not isinstance(given, (int, float, np.ndarray)) else given, np.float32)
    if values.ndim > 1 or values.size == 0:
        raise ShapeFault(f"{name} of shape {list(values.shape)}, expected one rate or a list")
    if (values < 0).any():
        raise ValueFault(f"{name} is {values.min()}, expected 0 or more")
    return Parameter(Tensor(values), name=name, requires_grad=False)


def check_share(**values) -> None:
    """Decay rates of running means lie between 0 and 1."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeFault(f"{name} is {value!r}, expected a number")
        if not 0 <= value < 1:
            raise ValueFault(f"{name} is {value}, expected 0 <= {name} < 1")


def check_eps(eps) -> None:
    """What is added below a fraction must be above 0."""
    if not isinstance(eps, (int, float)) or eps <= 0:
        raise ValueFault(f"eps is {eps!r}, expected more than 0")
