"""blocks: which loops go through their rounds block by block, and the same numbers."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cellc
from cellc import Tensor, context, ops
from cellc.ir.check import check
from cellc.ir.interpret import interpret
from cellc.kernels import target
from cellc.passes import blocks

CORES = 3


@pytest.fixture(autouse=True)
def on_small_things(monkeypatch):
    """A machine of three cores and little cache, on which everything is worth it."""
    context.set_context(mode=context.GRAPH_MODE)
    machine = dataclasses.replace(target.TARGETS["x86-64-v4"], cores=CORES, l2_bytes=1 << 14)
    monkeypatch.setattr(blocks, "host", lambda cpu: machine)
    monkeypatch.setattr(blocks, "LEAST", 0)
    monkeypatch.setattr(blocks, "SHORT", 0)


def counts(graph):
    """Into how many blocks each loop is cut."""
    return [g.result.operands[1].value for g in graph.reachable()
            if g.name.endswith(".blocks.test")]


def agree(f, *args, rtol=1e-9):
    """The pass changes no numbers, compiled or interpreted; compiled is as eager. The counts."""
    tensors = [Tensor(x) if isinstance(x, np.ndarray) else x for x in args]
    stages = cellc.inspect(f, *tensors).stages
    before, after = stages["sums"], stages["blocks"]
    check(after)
    given = [np.int64(x) if isinstance(x, int) else x for x in args]
    with context.eagerly():
        expected = parts(f(*tensors))
    compiled = parts(f(*tensors))
    for result in (parts(interpret(before, *given)), parts(interpret(after, *given)), compiled):
        for value, want in zip(result, expected, strict=True):
            np.testing.assert_allclose(np.asarray(value, want.dtype), want, rtol, 1e-9)
    return counts(after)


def parts(value):
    """The arrays of a nested result."""
    if isinstance(value, (tuple, list)):
        return [x for part in value for x in parts(part)]
    return [value.asnumpy() if isinstance(value, Tensor) else np.asarray(value)]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape) * 0.3


# -- what is cut -----------------------------------------------------------------------------------

def recurrent(x, w, u, b):
    """A recurrent layer over the rows of x."""
    h = x[0] * 0.0
    for t in range(x.shape[0]):
        h = ops.tanh(ops.matmul(x[t], w) + ops.matmul(h, u) + b)
    return (h * h).sum()


def lstm(x, w, u, b):
    n = u.shape[0]
    h = c = ops.zeros((x.shape[1], n), cellc.float64)
    found = []
    for t in range(x.shape[0]):
        z = ops.matmul(x[t], w) + ops.matmul(h, u) + b
        i, f, o = (ops.sigmoid(z[:, k * n:(k + 1) * n]) for k in (0, 1, 3))
        c = f * c + i * ops.tanh(z[:, 2 * n:3 * n])
        h = o * ops.tanh(c)
        found.append(h)
    return (ops.stack(found) ** 2).sum()


def masked(x, lengths, w, b):
    """Sequences of different lengths; the state of one that has ended stays."""
    h = x[0] * 0.0
    for t in range(x.shape[0]):
        new = ops.tanh(ops.matmul(h, w) + x[t] + b)
        h = ops.where(ops.expand_dims(lengths > t, 1), new, h)
    return (h * h).sum()


@pytest.mark.parametrize("batch, count", [(12, 3), (8, 2), (13, None), (7, None), (24, 3)])
def test_a_recurrent_layer(batch, count):
    """As many blocks as cores, of four rows at least; with gradients by all four."""
    args = normal(20, batch, 5), normal(5, 6), normal(6, 6), normal(6)
    args = args[0], normal(5, 5), normal(5, 5), normal(5)
    found = agree(cellc.grad(recurrent, (0, 1, 2, 3)), *args)
    assert found == ([count, count] if count else [])


def losses(x, w, u, b):
    """A loss of each step, added up: mean, sum, and one that is scaled by a number of the loop."""
    h = x[0] * 0.0
    total = ops.zeros((), cellc.float64)
    other = total
    for t in range(x.shape[0]):
        h = ops.tanh(ops.matmul(x[t], w) + ops.matmul(h, u) + b)
        total = total + ((h - x[t]) ** 2).mean()
        other = other - 0.5 * h.sum() / (1.0 + t)
    return total + other


def test_a_loss_of_each_step():
    args = normal(20, 12, 5), normal(5, 5), normal(5, 5), normal(5)
    assert agree(cellc.grad(losses, (0, 1, 2, 3)), *args) == [3, 3]
    assert agree(cellc.value_and_grad(losses, (0, 1, 2, 3)), *args) == [3, 3]


def test_one_of_two_loops_on_a_tape():
    def loss(x):
        """The rounds of the first loop look across all of a row."""
        scaled, found = [], []
        for row in x:
            scaled.append(row * row.sum())
        for row in ops.stack(scaled):
            found.append(ops.softmax(row, -1))
        return (ops.stack(found) ** 2).sum()

    assert agree(cellc.grad(loss), normal(40, 12, 5)) == [3, 3]


def test_a_layer_with_gates():
    args = normal(18, 12, 4), normal(4, 16), normal(4, 16), normal(16)
    assert agree(cellc.grad(lstm, (0, 1, 2, 3)), *args) == [3, 3]


def test_rows_of_a_mask():
    args = normal(20, 12, 5), np.arange(1, 13) * 2, normal(5, 5), normal(5)
    assert agree(cellc.grad(masked, (0, 2, 3)), *args) == [3, 3]


def test_a_second_gradient():
    def directed(x, w, u, b):
        return (cellc.grad(recurrent, 2)(x, w, u, b) ** 2).sum()

    args = normal(18, 8, 3), normal(3, 3), normal(3, 3), normal(3)
    assert agree(cellc.grad(directed, (1, 2)), *args, rtol=1e-7) == [2, 2, 2, 2]


def test_a_third_gradient():
    """Eight loops, whose tapes are brackets within brackets."""
    def value(y):
        for _ in range(30):
            y = y + 0.1 * ops.sin(y)
        return (y * y).sum()

    def squared(f):
        return lambda y: (cellc.grad(f)(y) ** 2).sum()

    assert agree(cellc.grad(squared(squared(value))), normal(960), rtol=1e-6) == [30] * 8


def test_forward_alone_has_nothing_to_keep():
    """Products are shared by threads as well as blocks of them are."""
    args = normal(20, 12, 5), normal(5, 5), normal(5, 5), normal(5)
    assert agree(cellc.jit(recurrent), *args) == []


def test_weights_that_no_cache_holds(monkeypatch):
    small = dataclasses.replace(target.host(), cores=3, l2_bytes=100)
    monkeypatch.setattr(blocks, "host", lambda cpu: small)
    args = normal(20, 12, 6), normal(6, 6), normal(6, 6), normal(6)
    assert agree(cellc.grad(recurrent, (0, 1, 2, 3)), *args) == []


# -- rows without products -------------------------------------------------------------------------

def growing(y, n):
    for _ in range(n):
        y = y + 0.01 * ops.sin(y)
    return y


def escape(re, im, n):
    """The rounds after which points leave a disk."""
    zr, zi, found = re * 0.0, im * 0.0, ops.zeros(re.shape, cellc.int64)
    for _ in range(n):
        zr, zi = ops.minimum(zr * zr - zi * zi + re, 9.0), 2.0 * zr * zi + im
        found = found + ops.cast(zr * zr + zi * zi < 4.0, cellc.int64)
        zi = ops.minimum(zi, 9.0)
    return found, zr


def softened(x, n):
    for _ in range(n):
        x = ops.softmax(x + 0.1 * ops.tanh(x), -1)
    return x


@pytest.mark.parametrize("shape, size", [((960,), 3), ((96, 4), 3), ((7,), None), ((4800,), 10)])
def test_elements(shape, size):
    """Of 1-D arrays whole vectors; a quarter of the cache for each block."""
    def here(y, n):         # the third size that a function meets would be symbolic
        return growing(y, n)

    found = agree(cellc.jit(here), normal(*shape), 300)
    assert found == ([size] if size else [])


def test_several_arrays():
    assert agree(cellc.jit(escape), normal(30, 20) * 6, normal(30, 20, seed=1) * 6, 300) == [6]


def test_rows_that_are_normalised():
    assert agree(cellc.jit(softened), normal(24, 11), 200) == [3]


def test_their_gradient():
    def loss(x):
        return (softened(x, 40) * x).sum()

    assert agree(cellc.grad(loss), normal(24, 11)) == [3, 3]


def test_no_rounds():
    assert agree(cellc.jit(growing), normal(960), 0) == [3]
    for n in (0, 1, 5):
        np.testing.assert_allclose(
            cellc.jit(while_counted)(Tensor(normal(960)), Tensor(np.int64(n))).asnumpy(),
            normal(960) * 0.5 ** n)


def while_counted(y, n):
    """The number of rounds is known only when the program runs."""
    i = 0
    while i < n:
        y = y * 0.5
        i = i + 1
    return y


# -- what is not -----------------------------------------------------------------------------------

def across(x, w):
    for _ in range(100):
        x = ops.softmax(x, 0)
    return x * w


def one_after_another(x, w):
    for _ in range(100):
        x = 0.5 * ops.cumsum(x, 0)
    return x * w


def all_pairs(x, w):
    for _ in range(100):
        x = ops.tanh(ops.matmul(ops.matmul(x, x.T), w))
    return x


def until_small(x, w):
    while (x * x).sum() > 1e-3:
        x = 0.5 * x
    return x * w


def shifted(x, w):
    for _ in range(100):
        x = 0.5 * (x + ops.concat((x[1:], x[:1]), 0))
    return x * w


def mean_is_used(x, w):
    for _ in range(100):
        x = 0.9 * x + 0.1 * x.mean(0)
    return x * w


def with_its_number(x, w):
    for _ in range(100):
        x = 0.9 * x + ops.arange(x.shape[0]).reshape((-1, 1))
    return x * w


def sum_is_asked(x, w):
    s = w * 0.0
    i = 0
    while s.sum() < 50.0 and i < 100:
        s = s + (x * x).sum()
        x = 0.99 * x
        i = i + 1
    return s


@pytest.mark.parametrize("f", [across, one_after_another, all_pairs, until_small, shifted,
                               mean_is_used, with_its_number, sum_is_asked])
def test_rows_that_depend_on_one_another(f):
    """Nor along the other axis, which has one element."""
    assert agree(cellc.jit(f), normal(96, 1), normal(96, 1, seed=1)) == []


def test_columns_are_not_cut():
    """Only what lies together."""
    assert agree(cellc.jit(across), normal(7, 96), normal(7, 96)) == []


# -- in general ------------------------------------------------------------------------------------

STEPS = {
    "tanh": lambda h, x, w, m: ops.tanh(h + x),
    "product": lambda h, x, w, m: 0.5 * ops.matmul(h, w) + x,
    "softmax": lambda h, x, w, m: ops.softmax(h, -1) + x,
    "mask": lambda h, x, w, m: ops.where(m > 0.0, h, 0.5 * x),
    "row sum": lambda h, x, w, m: h * 0.5 + 0.1 * ops.reduce_sum(h, 1, keepdims=True),
    "flip": lambda h, x, w, m: ops.flip(h, (1,)) * 0.9,
    "halves": lambda h, x, w, m: ops.concat((h[:, 2:], h[:, :2]), 1) * m,
    "transposed": lambda h, x, w, m: (0.9 * h.T + 0.1).T,
    "scaled": lambda h, x, w, m: h * ops.exp(0.01 * h) * 0.5 + ops.sqrt(ops.abs(x) + 1.0),
    "integers": lambda h, x, w, m: h + ops.cast(ops.cast(4.0 * x, cellc.int32), cellc.float64),
    "three axes": lambda h, x, w, m: (h.reshape((h.shape[0], 2, 2)) * x.reshape(
        (h.shape[0], 2, 2)).transpose((0, 2, 1))).reshape(h.shape),
    "batched": lambda h, x, w, m: ops.matmul(ops.expand_dims(h, 1), w).reshape(h.shape) * 0.3,
    "rows of w": lambda h, x, w, m: h * w[1] + x * w[2],
    "column sum": lambda h, x, w, m: h * 0.5 + 0.1 * ops.reduce_sum(h, 0, keepdims=True),
}


TOGETHER = {"column sum", "rows of w"}


@pytest.mark.parametrize("step", STEPS)
def test_rounds_of_each_kind(step):
    def loss(x, w, m):
        h = x[0]
        for t in range(x.shape[0]):
            h = STEPS[step](h, x[t], w, m)
        return (h * h).mean()

    found = agree(cellc.grad(loss, (0, 1)), normal(20, 12, 4), normal(4, 4), np.abs(normal(12, 1)))
    assert set(found) == (set() if step in TOGETHER else {3})


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4),
       st.sampled_from([12, 16, 9, 10]), st.sampled_from([17, 20]), st.booleans(), st.booleans())
def test_rounds_of_many_kinds(steps, batch, rounds, adds, lists):
    """Value and gradient of a loop whose round is made of some of these. Columns that are summed
    hold its rows together, and so do gradients of parts of an array."""
    def loss(x, w, m):
        h, total = x[0], ops.zeros((), cellc.float64)
        seen = []
        for t in range(rounds):
            for step in steps:
                h = STEPS[step](h, x[t], w, m)
            if adds:
                total = total + (h * m).mean()
            if lists:
                seen.append(ops.tanh(h))
        return (h * h).mean() + total + ((ops.stack(seen) ** 2).sum() if lists else 0.0)

    machine = dataclasses.replace(target.TARGETS["x86-64-v4"], cores=CORES, l2_bytes=1 << 14)
    before = blocks.host, blocks.LEAST, blocks.SHORT
    blocks.host, blocks.LEAST, blocks.SHORT = lambda cpu: machine, 0, 0
    try:
        args = normal(rounds, batch, 4), normal(4, 4), np.abs(normal(batch, 1))
        found = agree(cellc.grad(loss, (0, 1)), *args, rtol=1e-7)
    finally:
        blocks.host, blocks.LEAST, blocks.SHORT = before
    assert not found or not TOGETHER & set(steps)
