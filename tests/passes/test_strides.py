"""The gradient of a pooling whose windows overlap, each stride as an axis of its own."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, ops
from cellc.ir.check import check
from cellc.ir.interpret import interpret
from cellc.native import run_graph
from cellc.passes import strides
from tests.passes.test_phases import strided

# image, then what a pooling takes: kernel, stride, padding
CASES = {
    "halves": ((2, 3, 16, 12), (3, 2, 1)),
    "odd": ((2, 3, 11, 14), (3, 2, 0)),
    "one axis": ((2, 3, 9, 11), ((3, 2), (2, 1), 0)),
    "two strides": ((1, 2, 17, 20), ((5, 7), (2, 3), 1)),
    "a row left over": ((1, 2, 10, 9), (4, 3, 0)),
    "taps left over": ((1, 2, 15, 15), (5, 4, 2)),
    "gaps": ((2, 3, 9, 8), (1, 2, 0)),
    "by one": ((2, 3, 9, 8), (3, 1, 1)),
    "many phases": ((1, 2, 30, 30), (7, 5, 0)),
}
STAY = {"gaps", "many phases"}
POOLINGS = {"max": ops.max_pool2d, "average": ops.avg_pool2d}


def gradient_of(function, *args):
    found = cellc.inspect(lambda *xs: cellc.grad(function)(*xs), *map(Tensor, args))
    return found.stages["prune"]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_same_numbers(case, pooling):
    image, (kernel, stride, padding) = CASES[case]
    x = np.random.default_rng(1).normal(size=image)
    x[0, 0, :3, :3] = 1.0                               # several maxima: the first has it all

    def loss(x):
        return (POOLINGS[pooling](x, kernel, stride, padding) ** 3).sum()

    graph = gradient_of(loss, x)
    spread = strides.run(graph)
    check(spread)
    assert bool(strided(spread)) == (case in STAY)
    assert bool(strided(graph)) == (case != "by one")
    exact = interpret(graph, x)
    np.testing.assert_allclose(interpret(spread, x), exact, 1e-12, 1e-12)
    np.testing.assert_allclose(run_graph(graph, x), exact, 1e-10, 1e-12)


def test_no_windows_are_stored():
    """The gradient of a maximum is two kernels, of a mean one, and the cutting off of its edge."""
    x = Tensor(np.ones((2, 8, 20, 20), np.float32))
    for pooling, most in (("max", 4), ("average", 2)):
        groups = cellc.inspect(lambda x, f=POOLINGS[pooling]: cellc.grad(
            lambda x: f(x, 3, 2, 1).sum())(x), x).groups
        assert len(groups) <= most
        assert all(len(node.shape) <= 4 for g in groups for node in [g.result])


def test_windows_that_are_stored_stay():
    """What they are made of differs from tap to tap."""
    x = np.random.default_rng(2).normal(size=(1, 2, 9, 9))

    def loss(x):
        return (ops.max_pool2d(x, 3, 2) * ops.avg_pool2d(ops.sin(x), 3, 2)).sum()

    graph = gradient_of(loss, x)
    np.testing.assert_allclose(interpret(strides.run(graph), x), interpret(graph, x), 1e-12)
    w = np.random.default_rng(3).normal(size=(9, 1, 3))

    def weighted(x):
        return (ops.unfold(x, 3, stride=2) ** 2).sum() + w.sum()

    graph = gradient_of(weighted, x)
    assert bool(strided(graph)) == bool(strided(strides.run(graph)))
    np.testing.assert_allclose(run_graph(graph, x), interpret(graph, x), 1e-10)


def test_in_one_dimension():
    x = np.random.default_rng(4).normal(size=(2, 3, 23))
    graph = gradient_of(lambda x: (ops.max_pool1d(x, 5, 3) ** 2).sum(), x)
    assert not strided(strides.run(graph))
    np.testing.assert_allclose(run_graph(graph, x), interpret(graph, x), 1e-12)
