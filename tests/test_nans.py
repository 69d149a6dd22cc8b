"""nan_trace: the operation at which a NaN or infinity first came up, forward and backward."""

import numpy as np
import pytest

import cellc
from cellc import Parameter, Tensor, custom_vjp, grad, nn, ops

X = Tensor(np.float32([0.0, 1.0, 4.0]))
HERE = __file__


def line_of(mark: str) -> int:
    with open(HERE, encoding="utf-8") as file:
        return next(i for i, text in enumerate(file, 1) if text.rstrip().endswith(f"# {mark}"))


def root(x):
    doubled = x * 2.0
    y = ops.sqrt(doubled)    # root
    return (y + 1.0).sum()


def lost(x):
    y = ops.log(x)           # log
    z = y - y                # lost
    return z.sum()


class Divided(nn.Cell):
    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor(np.float32([1, 0, 2])), name="w")

    def construct(self, x):
        if x.sum() > 0:
            return x / self.w    # divided
        return x * self.w


class Outer(nn.Cell):
    def __init__(self):
        super().__init__()
        self.inner = Divided()

    def construct(self, x):
        return self.inner(x * 1.0).sum()


bad = custom_vjp(lambda x: x * 2.0)
bad.defvjp(lambda x: (x * 2.0, x), lambda x, g: (g / x,))    # rule


def power(x):
    return x ** 1.5              # power


@pytest.mark.parametrize("function, args, kind, operation, mark, gradients, values", [
    (lost, (X,), "nan", "sub", "lost", 0, ("-inf", "-inf")),
    (root, (Tensor(np.float32([-1, 1])),), "nan", "sqrt", "root", 0, ("-2.0",)),
    (grad(root), (X,), "inf", "div", "root", 1, ("1.0", "0.0")),
    (Divided(), (X,), "inf", "div", "divided", 0, ("1.0", "0.0")),
    (Outer(), (X,), "inf", "div", "divided", 0, ("1.0", "0.0")),
    (grad(Outer()), (X,), "inf", "div", "divided", 1, ("1.0", "0.0")),
    (grad(lambda x: bad(x).sum()), (X,), "inf", "div", "rule", 0, ("1.0", "0.0")),
    (grad(grad(power)), (0.0,), "inf", "pow", "power", 2, ("0.0", "-0.5")),
])
def test_where_it_comes_from(function, args, kind, operation, mark, gradients, values):
    report = cellc.nan_trace(function, *args)
    assert (report.kind, report.operation, report.gradients) == (kind, operation, gradients)
    assert (report.loc.file, report.loc.line) == (HERE, line_of(mark))
    assert report.values == values
    text = str(report)
    assert f"{HERE}:{line_of(mark)}:" in text and "^" in text
    assert ("in the gradient" in text) == (gradients > 0)


def test_the_place_and_the_cause():
    report = cellc.nan_trace(lost, Tensor(np.float32([1, 2, 0])))
    assert report.place == (2,) and report.value == "nan"
    cause = report.cause
    assert (cause.operation, cause.value, cause.loc.line) == ("log", "-inf", line_of("log"))
    assert "after" in str(report) and "log of 0.0 gives -inf at [2]" in str(report)


def test_arguments_that_hold_one():
    report = cellc.nan_trace(lost, Tensor(np.float32([1, np.nan])))
    assert report.operation == "argument" and str(report) == "x holds nan at [1]"


@pytest.mark.parametrize("function", [
    lambda x: ops.softmax(x).sum(),
    lambda x: ops.where(x > 0, ops.log(x), 0.0).sum(),
    grad(lambda x: ops.where(x > 0, ops.log(x), 0.0).sum()),
    lambda x: (1.0 / ops.exp(1.0 / x)).sum(),       # an infinity that goes again
])
def test_nothing_to_say(function):
    assert cellc.nan_trace(function, X) is None


def test_parameters_keep_their_values():
    class Counting(nn.Cell):
        def __init__(self):
            super().__init__()
            self.n = Parameter(Tensor(np.float32(0)), name="n", requires_grad=False)

        def construct(self, x):
            ops.assign(self.n, self.n + 1.0)
            return x / self.n

    net = Counting()
    assert cellc.nan_trace(net, X) is None
    assert net.n.asnumpy() == 0
