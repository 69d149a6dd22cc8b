"""The gradient of a small network by its input, written as a MindSpore program.

    python examples/grad_net.py            # compiled
    python examples/grad_net.py eager      # operation by operation
"""

import sys

import numpy as np

import cellc.dtype as mstype
from cellc import Parameter, Tensor, context, nn
from cellc.ops import operations as P
from cellc.ops.composite import GradOperation


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.matmul = P.MatMul()
        self.z = Parameter(Tensor(np.array([1.0], np.float32)), name='z')

    def construct(self, x, y):
        x = x * self.z
        return self.matmul(x, y)


class GradNet(nn.Cell):
    def __init__(self, net):
        super().__init__()
        self.net = net
        self.grad_op = GradOperation()

    def construct(self, x, y):
        gradient_function = self.grad_op(self.net)
        return gradient_function(x, y)


def main():
    eager = sys.argv[1:] == ["eager"]
    context.set_context(mode=context.PYNATIVE_MODE if eager else context.GRAPH_MODE)
    x = Tensor([[0.5, 0.6, 0.4], [1.2, 1.3, 1.1]], dtype=mstype.float32)
    y = Tensor([[0.01, 0.3, 1.1], [0.1, 0.2, 1.3], [2.1, 1.2, 3.3]], dtype=mstype.float32)
    print(GradNet(Net())(x, y))


if __name__ == "__main__":
    main()
