"""One fit in three styles: sin(x) on [-pi, pi] by a cubic, 2,000 steps of gradient descent.

    cells       a Cell with Parameters, GradOperation, an optimiser; compiled
    functions   cellc.value_and_grad of a plain function; compiled by @cellc.jit
    tensors     requires_grad, loss.backward(), no_grad; the tape, eager

All three end with the same coefficients.
"""

from __future__ import annotations

import math

import numpy as np

import cellc
from cellc import Parameter, ParameterTuple, Tensor, context, nn

STEPS, RATE = 2000, 1e-6
X = np.linspace(-math.pi, math.pi, 2000, dtype=np.float32)
Y = np.sin(X)
START = (0.1, -0.3, 0.2, 0.05)


class Cubic(nn.Cell):
    """The squared distance of a + b x + c x^2 + d x^3 from y."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (
            Parameter(Tensor(v), name=n) for v, n in zip(START, "abcd", strict=True))

    def construct(self, x, y):
        y_pred = self.a + self.b * x + self.c * x ** 2 + self.d * x ** 3
        return (y_pred - y).pow(2).sum()


def fit_with_cells():
    """A cell, its gradient by GradOperation through TrainOneStepCell, SGD: one compiled program."""
    context.set_context(mode=context.GRAPH_MODE)
    net = Cubic()
    step = nn.TrainOneStepCell(net, nn.SGD(net.trainable_params(), RATE))
    x, y = Tensor(X), Tensor(Y)
    for _ in range(STEPS):
        step(x, y)
    return [float(p) for p in ParameterTuple(net.trainable_params())]


def loss_of(a, b, c, d, x, y):
    y_pred = a + b * x + c * x ** 2 + d * x ** 3
    return (y_pred - y).pow(2).sum()


@cellc.jit
def descend(a, b, c, d, x, y):
    """The coefficients after one step."""
    ga, gb, gc, gd = cellc.grad(loss_of, (0, 1, 2, 3))(a, b, c, d, x, y)
    return a - RATE * ga, b - RATE * gb, c - RATE * gc, d - RATE * gd


def fit_with_functions():
    """Plain functions of tensors, compiled by a decorator in an eager program."""
    context.set_context(mode=context.PYNATIVE_MODE)
    x, y = Tensor(X), Tensor(Y)
    coefficients = tuple(Tensor(v) for v in START)
    for _ in range(STEPS):
        coefficients = descend(*coefficients, x, y)
    return [float(v) for v in coefficients]


def fit_with_tensors():
    """The tape: each operation at once, gradients by backward()."""
    context.set_context(mode=context.PYNATIVE_MODE)
    x, y = Tensor(X), Tensor(Y)
    a, b, c, d = (Tensor(v, requires_grad=True) for v in START)
    for _ in range(STEPS):
        y_pred = a + b * x + c * x ** 2 + d * x ** 3
        loss = (y_pred - y).pow(2).sum()
        loss.backward()
        with cellc.no_grad():
            a -= RATE * a.grad
            b -= RATE * b.grad
            c -= RATE * c.grad
            d -= RATE * d.grad
            a.grad = b.grad = c.grad = d.grad = None
    return [float(v) for v in (a, b, c, d)]


def main():
    found = {"cells": fit_with_cells(), "functions": fit_with_functions(),
             "tensors": fit_with_tensors()}
    for style, (a, b, c, d) in found.items():
        print(f"{style:<10} y = {a:.6f} + {b:.6f} x + {c:.6f} x^2 + {d:.6f} x^3")
    spread = float(np.ptp(np.array(list(found.values())), axis=0).max())
    print(f"largest difference between the styles: {spread:.1e}")
    return found


if __name__ == "__main__":
    main()
