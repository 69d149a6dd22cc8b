"""The gradient of a convolution by its input, read as a convolution itself."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, ops
from cellc.ir.check import check
from cellc.ir.interpret import interpret
from cellc.ir.prims import contraction, shape
from cellc.ir.types import TensorType, i8, i32
from cellc.native import run_graph
from cellc.passes import adjoint
from tests.kernel_runner import build

# image, kernel, then what conv takes: stride, pad_mode, padding, dilation, groups
CASES = {
    "no padding": ((2, 3, 9, 8), (4, 3, 3, 3), ()),
    "as large": ((2, 3, 9, 8), (4, 3, 3, 3), (1, "same")),
    "wide kernel": ((2, 3, 9, 11), (4, 3, 4, 5), (1, "pad", (1, 2, 3, 0))),
    "much padding": ((1, 2, 6, 7), (3, 2, 2, 3), (1, "pad", 3)),
    "dilated": ((2, 3, 11, 10), (4, 3, 3, 2), (1, "pad", 2, (2, 3))),
    "groups": ((2, 6, 7, 8), (4, 3, 3, 3), (1, "pad", 1, 1, 2)),
    "single pixels": ((2, 3, 5, 4), (4, 3, 1, 1), ()),
    "one channel": ((2, 1, 7, 6), (1, 1, 3, 3), (1, "same")),
    "a kernel as large as the image": ((2, 3, 4, 5), (2, 3, 4, 5), ()),
}
TURNED = set(CASES) - {"much padding", "single pixels"}


def gradient_of(case, cases=CASES):
    image, kernel, options = cases[case]
    rng = np.random.default_rng(1)
    args = [rng.normal(size=image), rng.normal(size=kernel)]

    def loss(x, w):
        return (ops.conv2d(x, w, None, *options) ** 2).sum()

    found = cellc.inspect(lambda x, w: cellc.grad(loss)(x, w), *map(Tensor, args))
    return found.stages["prune"], args


def names(graph):
    return [node.prim.name for g in graph.reachable() for node in g.body]


@pytest.mark.parametrize("case", CASES)
def test_the_same_numbers(case, monkeypatch):
    monkeypatch.setattr(adjoint, "MOST_MORE", 100.0)
    graph, args = gradient_of(case)
    turned = adjoint.run(graph)
    check(turned)
    np.testing.assert_allclose(interpret(turned, *args), interpret(graph, *args), 1e-10, 1e-10)
    if case in TURNED:
        assert "windows_add" in names(graph) and "windows_add" not in names(turned)


@pytest.mark.parametrize("case", CASES)
def test_compiled(case, monkeypatch):
    monkeypatch.setattr(adjoint, "MOST_MORE", 100.0)
    graph, args = gradient_of(case)
    np.testing.assert_allclose(run_graph(graph, *args), interpret(graph, *args), 1e-10, 1e-10)


@pytest.mark.parametrize("size, outs, channels, turned", [
    (56, 128, 8, True),
    (14, 128, 8, False),        # there are as many zeros to read again
    (14, 8, 8, True),           # sums so short that their windows take longer to move
    (14, 8, 1, False),          # but vectors of channels would be nearly empty
])
def test_where_it_is_worth_it(size, outs, channels, turned):
    x, w = Tensor(np.ones((2, channels, size, size))), Tensor(np.ones((outs, channels, 5, 5)))
    found = cellc.inspect(lambda x, w: cellc.grad(
        lambda x, w: ops.conv2d(x, w, pad_mode="valid").sum())(x, w), x, w)
    assert ("windows_add" not in names(found.graph)) == turned


def test_in_one_dimension(monkeypatch):
    monkeypatch.setattr(adjoint, "MOST_MORE", 100.0)
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(2, 3, 11)), rng.normal(size=(4, 3, 4))
    graph = cellc.inspect(lambda x, w: cellc.grad(
        lambda x, w: (ops.conv1d(x, w) ** 2).sum())(x, w), Tensor(x), Tensor(w)).stages["prune"]
    turned = adjoint.run(graph)
    assert "windows_add" in names(graph) and "windows_add" not in names(turned)
    np.testing.assert_allclose(interpret(turned, x, w), interpret(graph, x, w), 1e-10)


def test_of_bytes(monkeypatch):
    """Their sums stay in int32."""
    monkeypatch.setattr(adjoint, "MOST_MORE", 100.0)

    def folded(x, w):                                       # [2, 4, 9] and [4, 3, 5]
        y = contraction.dot(x, w, contract=((1,), (0,)), batch=((), ()), dtype=i32)
        y = shape.transpose(y, perm=(0, 2, 1, 3))
        return shape.windows_add(y, shape=(13,), strides=(1,), dilations=(1,))

    graph = build(folded, TensorType(i8, (2, 4, 9)), TensorType(i8, (4, 3, 5)))
    turned = adjoint.run(graph)
    assert "windows_add" not in names(turned)
    rng = np.random.default_rng(4)
    args = [rng.integers(-128, 128, x.shape, np.int8) for x in graph.inputs]
    for made in (interpret(turned, *args), run_graph(graph, *args)):
        np.testing.assert_array_equal(made, interpret(graph, *args))
