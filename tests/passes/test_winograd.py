"""Convolutions with fewer multiplications: the algebra, the graphs, the setting."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cellc
from cellc import Tensor, context, nn, ops
from cellc.errors import ValueFault
from cellc.ir.check import check
from cellc.ir.interpret import interpret
from cellc.native import run_graph
from cellc.passes import adjoint, winograd

CHANNELS, SIZE = 32, 32         # enough to be worth it


@pytest.fixture
def always(monkeypatch):
    """However small."""
    monkeypatch.setattr(winograd, "WORTH", float("inf"))
    monkeypatch.setattr(adjoint, "MOST_MORE", float("inf"))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def names(graph):
    return [node.prim.name for g in graph.reachable() for node in g.body]


def convolutions(n=2, c=CHANNELS, o=CHANNELS, size=SIZE):
    return Tensor(normal(n, c, size, size)), Tensor(normal(o, c, 3, 3, seed=1))


# -- the algebra -----------------------------------------------------------------------------------
@pytest.mark.parametrize("taps, out", [(3, 4), (4, 3)])
def test_the_matrices_are_a_correlation(taps, out):
    """For all pixels and taps that are one at one place, so for all."""
    by = winograd.basis()
    b, g, a = map(np.array, (by.pixels, by.weights[taps], by.outputs[out]))
    found = np.einsum("yi,it,ip->ytp", a, g, b)
    want = [[[p == y + t for p in range(winograd.SIZE)] for t in range(taps)] for y in range(out)]
    np.testing.assert_allclose(found, np.array(want, float), atol=1e-13)


# -- the graphs ------------------------------------------------------------------------------------
def same(x, w):
    return ops.conv2d(x, w, None, 1, "same")


def valid(x, w):
    return ops.conv2d(x, w, None, 1, "valid")


def uneven(x, w):
    return ops.conv2d(x, w, None, 1, "pad", (0, 3, 2, 1))


def last_to_first(x, w):
    """Images whose channels come last, given as a view."""
    return ops.conv2d(ops.transpose(x, (0, 3, 1, 2)), w, None, 1, "same")


def with_all(x, w):
    y = ops.conv2d(x, w, ops.ones(w.shape[0]), 1, "same")
    return ops.relu(ops.transpose(y, (0, 2, 3, 1)) * 2.0)


def in_a_loop(x, w):
    for _ in range(3):
        x = x + ops.tanh(ops.conv2d(x, w, None, 1, "same") * 0.1)
    return x


def twice(x, w):
    return ops.conv2d(x, w, None, 1, "same") + ops.conv2d(x, w * 2.0, None, 1, "same")


GRAPHS = {f.__name__: f for f in (same, valid, uneven, last_to_first, with_all, in_a_loop, twice)}


def graph_of(fn, *args):
    found = cellc.inspect(fn, *map(Tensor, args))
    return found.stages["adjoint"]


def loss_of(fn):
    def loss(x, w):
        y = fn(x, w)
        return (y * y).mean()

    return lambda x, w: cellc.grad(loss, (0, 1))(x, w)


@pytest.mark.parametrize("of", ["value", "gradient"])
@pytest.mark.parametrize("name", GRAPHS)
def test_the_same_numbers(name, of, always):
    """Before and behind the pass, by the interpreter in f64 steps; then compiled."""
    fn = GRAPHS[name]
    x, w = normal(2, 4, 11, 13), normal(4 if name == "in_a_loop" else 5, 4, 3, 3, seed=1)
    if name == "last_to_first":
        x = normal(2, 11, 13, 4)
    graph = graph_of(fn if of == "value" else loss_of(fn), x, w)
    made = winograd.run(graph)
    check(made)
    assert names(made).count("join_tiles") >= (1 if of == "value" else 3)
    wanted = interpret(graph, x, w)
    for found in (interpret(made, x, w), run_graph(made, x, w)):
        for y, right in zip(*map(as_tuple, (found, wanted)), strict=True):
            np.testing.assert_allclose(y, right, 0, 2e-5 * abs(right).max())


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


def test_tiles_are_made_once(always):
    """Those of the image for its convolution and for the gradient by the weights."""
    graph = graph_of(loss_of(same), normal(2, 4, 12, 12), normal(4, 4, 3, 3))
    made = names(winograd.run(graph))
    # of x, of w, of the flipped w, of the cotangent as pixels and as taps
    assert made.count("tiles") == 5 and made.count("join_tiles") == 3


def test_no_transposition_is_left():
    x, w = convolutions()
    context.set_context(fast_math=True)
    for fn in (same, loss_of(same)):
        left = names(cellc.inspect(cellc.jit(fn), x, w).graph)
        assert "join_tiles" in left
        assert "transpose" not in left


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_convolution(data):
    n, c, o = (data.draw(st.integers(1, 4)) for _ in range(3))
    h, w = (data.draw(st.integers(1, 40)) for _ in range(2))
    low = tuple(data.draw(st.integers(0, 3)) for _ in range(4))
    if h + low[0] + low[1] < 3 or w + low[2] + low[3] < 3:
        low = (1, 1, 1, 1)

    def convolved(x, w):
        return ops.conv2d(x, w, None, 1, "pad", low)

    args = normal(n, c, h, w), normal(o, c, 3, 3, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "WORTH", float("inf"))
        for fn in (convolved, loss_of(convolved)):
            graph = graph_of(fn, *args)
            made = winograd.run(graph)
            assert "join_tiles" in names(made)
            for y, right in zip(*map(as_tuple, (run_graph(made, *args), interpret(graph, *args))),
                                strict=True):
                np.testing.assert_allclose(y, right, 0, 2e-5 * max(abs(right).max(), 1e-3))


# -- what stays as it is ---------------------------------------------------------------------------
def strided(x, w):
    return ops.conv2d(x, w, None, 2, "same")


def dilated(x, w):
    return ops.conv2d(x, w, None, 1, "same", 0, 2)


def grouped(x, w):
    return ops.conv2d(x, w[:, :CHANNELS // 2], None, 1, "same", groups=2)


def wider(x, w):
    return ops.conv2d(x, ops.concat((w, w), 3), None, 1, "same")


def in_f64(x, w):
    return ops.conv2d(x.astype(cellc.float64), w.astype(cellc.float64), None, 1, "same")


def in_f16(x, w):
    return ops.conv2d(x.astype(cellc.float16), w.astype(cellc.float16), None, 1, "same")


def of_few_channels(x, w):
    return ops.conv2d(x[:, :3], w[:, :3], None, 1, "same")


def of_few_pixels(x, w):
    return ops.conv2d(x[:1, :, :5, :5], w, None, 1, "same")


@pytest.mark.parametrize("fn", [strided, dilated, grouped, wider, in_f64, in_f16, of_few_channels,
                                of_few_pixels])
def test_others_stay(fn):
    x, w = convolutions()
    assert "tiles" in names(winograd.run(graph_of(same, x.asnumpy(), w.asnumpy())))
    graph = graph_of(fn, x.asnumpy(), w.asnumpy())
    assert winograd.run(graph) is graph


# -- the setting -----------------------------------------------------------------------------------
def test_only_where_it_is_asked_for():
    x, w = convolutions()
    fn = cellc.jit(lambda x, w: same(x, w))
    exact = fn(x, w).asnumpy()
    assert "tiles" not in names(cellc.inspect(fn, x, w).graph)
    context.set_context(fast_math=True)
    fast = fn(x, w).asnumpy()
    assert "tiles" in names(cellc.inspect(fn, x, w).graph)
    assert (fast != exact).any()
    right = same(*(Tensor(a.asnumpy().astype(np.float64)) for a in (x, w))).asnumpy()
    errors = [np.sqrt(((y - right) ** 2).mean()) for y in (exact, fast)]
    assert errors[1] < 6 * errors[0]
    context.set_context(fast_math=False)
    assert (fn(x, w).asnumpy() == exact).all()
    context.set_context(fast_math=True)
    assert (fn(x, w).asnumpy() == fast).all()
    assert len(cellc.compile.compiled(fn).variants) == 2, "compiled once for either value"


def test_a_cell_trains_as_well():
    def train():
        cellc.set_seed(1)
        net = nn.SequentialCell(nn.Conv2d(CHANNELS, CHANNELS, 3), nn.BatchNorm2d(CHANNELS),
                                nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3))
        step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()),
                                   nn.Momentum(net.trainable_params(), 0.05, 0.9))
        step.set_train()
        return [float(step(Tensor(normal(2, CHANNELS, SIZE, SIZE)),
                           Tensor(normal(2, CHANNELS, SIZE, SIZE, seed=2)))) for _ in range(5)]

    context.set_context(mode=context.GRAPH_MODE)
    exact = train()
    context.set_context(fast_math=True)
    fast = train()
    assert fast[-1] < fast[0]
    np.testing.assert_allclose(fast, exact, 1e-4)


def test_a_nan_is_in_its_tiles_only():
    x, w = convolutions(1)
    a = x.asnumpy().copy()
    a[0, 3, 9, 18] = np.nan
    context.set_context(fast_math=True)
    y = cellc.jit(same)(Tensor(a), w).asnumpy()
    rows, columns = (sorted(set(i.tolist())) for i in np.nonzero(np.isnan(y[0, 0])))
    assert rows == list(range(8, 12)) and columns == list(range(16, 20))


@pytest.mark.parametrize("value", [1, "yes", None, 0.0])
def test_fast_math_is_yes_or_no(value):
    with pytest.raises(ValueFault, match="fast_math is "):
        context.set_context(fast_math=value)


PROCESS = """
import sys
import numpy as np
import cellc
from cellc import Tensor, context, ops

context.set_context(mode=context.GRAPH_MODE, fast_math=sys.argv[1] == "True")
r = np.random.default_rng(0)
x, w = (Tensor(r.normal(size=s).astype(np.float32)) for s in ((2, 32, 32, 32), (32, 32, 3, 3)))
def f(x, w):
    return ops.conv2d(x, w, pad_mode="same")
y = cellc.jit(f)(x, w).asnumpy()
print("link" in cellc.inspect(f, x, w).seconds, y.tobytes().hex()[:400])
"""


def test_programs_are_remembered_for_either_value(tmp_path):
    file = tmp_path / "program.py"
    file.write_text(PROCESS)

    def run(value: bool) -> list[str]:
        return subprocess.run(
            [sys.executable, file, str(value)], capture_output=True, text=True, check=True,
            env={**os.environ, "CELLC_CACHE_DIR": str(tmp_path / "cache"), "CELLC_CHECK": "1"},
        ).stdout.split()

    (first, exact), (second, fast) = run(False), run(True)
    assert first == second == "False" and exact != fast
    assert run(False) == ["True", exact] and run(True) == ["True", fast]
