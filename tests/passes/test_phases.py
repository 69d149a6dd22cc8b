"""The gradient of a convolution with a stride by its input, phase by phase."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, ops
from cellc.ir.check import check
from cellc.ir.interpret import interpret
from cellc.native import run_graph
from cellc.passes import adjoint, phases
from tests.passes.test_adjoint import gradient_of

# image, kernel, then what conv takes: stride, pad_mode, padding, dilation, groups
CASES = {
    "halves": ((2, 3, 16, 12), (4, 3, 3, 3), (2, "pad", 1)),
    "no padding, odd": ((2, 3, 11, 14), (4, 3, 3, 4), (2,)),
    "as large": ((2, 3, 9, 8), (4, 3, 3, 3), (2, "same")),
    "thirds": ((1, 2, 13, 17), (3, 2, 5, 4), (3, "pad", (1, 2, 3, 0))),
    "one axis": ((2, 3, 9, 11), (4, 3, 3, 3), ((2, 1), "pad", 1)),
    "two strides": ((2, 2, 17, 20), (3, 2, 7, 5), ((2, 3), "pad", 3)),
    "groups": ((2, 6, 8, 10), (4, 3, 3, 3), (2, "pad", 1, 1, 2)),
    "single taps along one axis": ((2, 3, 9, 8), (4, 3, 1, 3), (2,)),
    "a large kernel": ((2, 3, 20, 20), (4, 3, 7, 7), (2, "pad", 3)),
    "tiles": ((2, 3, 8, 8), (4, 3, 2, 2), (2,)),
    "single pixels": ((2, 3, 9, 8), (4, 3, 1, 1), (2,)),
    "dilated": ((2, 3, 15, 15), (4, 3, 3, 3), (2, "pad", 2, 2)),
    "many phases": ((1, 2, 30, 30), (2, 2, 7, 7), (5,)),
}
STAY = {"tiles", "single pixels", "dilated", "many phases"}


def strided(graph):
    return [node for g in graph.reachable() for node in g.body
            if node.prim.name == "windows_add" and set(node.attrs["strides"]) != {1}]


@pytest.mark.parametrize("case", CASES)
def test_the_same_numbers(case, monkeypatch):
    monkeypatch.setattr(adjoint, "MOST_MORE", 100.0)
    graph, args = gradient_of(case, CASES)
    split = phases.run(graph)
    check(split)
    assert strided(graph) and bool(strided(split)) == (case in STAY)
    exact = interpret(graph, *args)
    np.testing.assert_allclose(interpret(split, *args), exact, 1e-10, 1e-10)
    np.testing.assert_allclose(interpret(adjoint.run(split), *args), exact, 1e-10, 1e-10)
    np.testing.assert_allclose(run_graph(graph, *args), exact, 1e-10, 1e-10)


def test_every_phase_becomes_a_convolution():
    x, w = Tensor(np.ones((2, 8, 56, 56))), Tensor(np.ones((16, 8, 3, 3)))
    found = cellc.inspect(lambda x, w: cellc.grad(
        lambda x, w: (ops.conv2d(x, w, None, 2, "pad", 1) ** 2).sum())(x, w), x, w)
    names = [node.prim.name for g in found.graph.reachable() for node in g.body]
    assert "windows_add" not in names
    assert names.count("dot") == 5                  # the convolution itself, and four phases


def test_in_one_dimension():
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(2, 3, 23)), rng.normal(size=(4, 3, 5))
    graph = cellc.inspect(lambda x, w: cellc.grad(
        lambda x, w: (ops.conv1d(x, w, stride=3) ** 2).sum())(x, w), Tensor(x),
        Tensor(w)).stages["prune"]
    split = phases.run(graph)
    assert strided(graph) and not strided(split)
    np.testing.assert_allclose(interpret(split, x, w), interpret(graph, x, w), 1e-10)
    np.testing.assert_allclose(run_graph(graph, x, w), interpret(graph, x, w), 1e-10)
