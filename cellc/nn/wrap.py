"""Cells around cells: with a loss, one step of training, with a gradient."""

from __future__ import annotations

from cellc import ops
from cellc.errors import TypeFault
from cellc.nn.cell import Cell


class WithLossCell(Cell):
    """loss_fn(backbone(data), label), as one cell that TrainOneStepCell can take."""

    def __init__(self, backbone, loss_fn):
        super().__init__(auto_prefix=False)
        self._backbone = backbone
        self._loss_fn = loss_fn

    def construct(self, data, label):
        return self._loss_fn(self._backbone(data), label)

    @property
    def backbone_network(self):
        """The network without its loss."""
        return self._backbone


class WithEvalCell(Cell):
    """(loss, outputs, label): what evaluation wants to know of a batch."""

    def __init__(self, network, loss_fn, add_cast_fp32=False):
        super().__init__(auto_prefix=False)
        self._network = network
        self._loss_fn = loss_fn
        self.add_cast_fp32 = bool(add_cast_fp32)

    def construct(self, data, label):
        outputs = self._network(data)
        if self.add_cast_fp32:
            outputs = ops.cast(outputs, "float32")
        return self._loss_fn(outputs, label), outputs, label


class TrainOneStepCell(Cell):
    """One step of training: the loss of `network(*inputs)`, after the optimiser has run.

    `sens` multiplies the gradients (a loss scale that the optimiser divides out again).
    """

    def __init__(self, network, optimizer, sens=1.0):
        super().__init__(auto_prefix=False)
        if not hasattr(optimizer, "parameters"):
            raise TypeFault(f"found {type(optimizer).__name__} for the optimizer",
                            "nn.Momentum(net.trainable_params(), 0.1, 0.9)")
        self.network = network
        self.network.set_grad()
        self.optimizer = optimizer
        self.weights = optimizer.parameters
        self.sens = sens
        self.value_and_grad = ops.value_and_grad(network, None, self.weights)

    def construct(self, *inputs):
        loss, gradients = self.value_and_grad(*inputs)
        if self.sens != 1.0:
            gradients = tuple([g * self.sens for g in gradients])
        self.optimizer(gradients)
        return loss


class ForwardValueAndGrad(Cell):
    """(value, gradients) of a network by its weights, its inputs, or both; see GradOperation."""

    def __init__(self, network, weights=None, get_all=False, get_by_list=False):
        super().__init__(auto_prefix=False)
        self.network = network
        self.get_all, self.get_by_list = bool(get_all), bool(get_by_list)
        self.grad_op = ops.GradOperation(get_all=self.get_all, get_by_list=self.get_by_list)
        self.weights = weights if weights is not None or not get_by_list else tuple(
            network.trainable_params())

    def construct(self, *inputs):
        return self.network(*inputs), self.grad_op(self.network, self.weights)(*inputs)
