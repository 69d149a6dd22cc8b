"""Convolutions that leave out the zeros of a padding, against sums over shifted images in f64."""

import ctypes
import dataclasses
import itertools
import math
import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cellc
from cellc import Tensor, context, ops
from cellc.kernels import engine, gemm_direct_plan
from cellc.kernels.gemm import Axis, Edge, Operand, emit_gemm
from cellc.kernels.product import product_of
from cellc.kernels.target import TARGETS, host
from cellc.kernels.text import Module
from cellc.record import changed
from tests.kernels.test_aarch64 import compiled
from tests.kernels.test_gemm import LIBC, UNIT, bias_relu, from_memory, to_memory

# "wide" has AVX-512's tiles in the instructions of any CPU.
TARGETS_HERE = [None, None, None, "x86-64-v3", "x86-64", "wide"]


@dataclasses.dataclass(frozen=True)
class Conv:
    """A convolution; of each spatial axis (size, taps, stride, dilation, zeros before, behind)."""

    images: int
    groups: int
    channels: int
    outs: int
    axes: tuple
    dtype: str = "f32"
    flips: tuple = ()           # spatial axes along which weights are read backwards
    channels_first: bool = False        # are the weights [channels][outs][taps]?
    dropped: bool = False       # do axes of one element not appear, as in products of graphs?

    @property
    def counts(self):
        return tuple((n + low + high - d * (k - 1) - 1) // s + 1
                     for n, k, s, d, low, high in self.axes)

    def operands(self):
        """A, B, C, the edges, and how far %a and %b are from where their arrays begin."""
        sizes, taps = ([axis[i] for axis in self.axes] for i in (0, 1))
        steps = [math.prod(sizes[i + 1:]) for i in range(len(sizes))]
        inner = [math.prod(taps[i + 1:]) for i in range(len(taps))]
        turns = [-1 if i in self.flips else 1 for i in range(len(taps))]
        all_taps, area, pixels = math.prod(taps), math.prod(sizes), math.prod(self.counts)
        one, two = self.channels * all_taps, all_taps
        if self.channels_first:
            one, two = two, self.outs * all_taps
        batch = Axis(self.images, 0), Axis(self.groups, self.outs * self.channels * all_taps)
        a = Operand(self.dtype, batch, (Axis(self.outs, one),), (
            Axis(self.channels, two), *(Axis(k, turn * step) for k, turn, step in
                                        zip(taps, turns, inner, strict=True))))
        image = self.groups * self.channels * area
        b = Operand(self.dtype, (Axis(self.images, image), Axis(self.groups, self.channels * area)),
                    (Axis(self.channels, area), *(Axis(axis[1], axis[3] * step) for axis, step in
                                                  zip(self.axes, steps, strict=True))),
                    tuple(Axis(n, axis[2] * step) for n, axis, step in
                          zip(self.counts, self.axes, steps, strict=True)))
        out = self.outs * pixels
        c = Operand(self.dtype, (Axis(self.images, self.groups * out), Axis(self.groups, out)),
                    (Axis(self.outs, pixels),), tuple(
                        Axis(n, math.prod(self.counts[i + 1:])) for i, n in enumerate(self.counts)))
        edges = tuple(Edge(i, i + 1, s, d, low, n) for i, (n, _, s, d, low, high) in
                      enumerate(self.axes) if low or high)
        begin = sum((k - 1) * step for k, step, turn in zip(taps, inner, turns, strict=True)
                    if turn < 0)
        if self.dropped:
            a, b, c, edges = without_ones(a, b, c, edges)
        return a, b, c, edges, begin, -sum(
            axis[4] * step for axis, step in zip(self.axes, steps, strict=True))

    def expected(self, x, w):
        """The result, and the sum of absolute terms."""
        if self.channels_first:
            w = np.moveaxis(w, 1, 2)
        w = np.flip(w, [i + 3 for i in self.flips])
        x = np.pad(x, [(0, 0)] * 3 + [axis[4:] for axis in self.axes])
        sums = []
        for x_, w_ in ((x, w), (abs(x), abs(w))):
            total = 0.0
            for at in itertools.product(*(range(axis[1]) for axis in self.axes)):
                seen = tuple(slice(t * d, t * d + s * (n - 1) + 1, s) for t, n, (_, _, s, d, *_)
                             in zip(at, self.counts, self.axes, strict=True))
                total = total + np.einsum("goc,ngc...->ngo...", w_[(..., *at)], x_[(..., *seen)])
            sums.append(total)
        return sums

    def shapes(self):
        """Of x, the weights and the result."""
        inside = (self.channels, self.outs) if self.channels_first else (self.outs, self.channels)
        return ((self.images, self.groups, self.channels, *(axis[0] for axis in self.axes)),
                (self.groups, *inside, *(axis[1] for axis in self.axes)),
                (self.images, self.groups, self.outs, *self.counts))


def without_ones(a, b, c, edges):
    """The same with no axes of one element; an edge of such a one has no place."""
    cols, taps = ([i for i, axis in enumerate(x) if axis.extent > 1] for x in (b.cols, b.rows))

    def place(at, kept):
        return kept.index(at) if at in kept else -1

    edges = tuple(changed(e, col=place(e.col, cols), tap=place(e.tap, taps)) for e in edges)
    return (Operand(a.dtype, a.batch, a.rows, tuple(a.cols[i] for i in taps)),
            Operand(b.dtype, b.batch, tuple(b.rows[i] for i in taps),
                    tuple(b.cols[i] for i in cols)),
            Operand(c.dtype, c.batch, c.rows, tuple(c.cols[i] for i in cols)), edges)


def fenced(array, front):
    """A copy with memory right before or right behind it that must not be touched."""
    size = -(-max(array.nbytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + 2 * mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (start, start + mmap.PAGESIZE + size):
        if LIBC.mprotect(ctypes.c_void_p(page), mmap.PAGESIZE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    at = mmap.PAGESIZE + (0 if front else size - array.nbytes)
    copy = np.frombuffer(memory, array.dtype, array.size, at).reshape(array.shape)
    copy[...] = array
    return copy


def check(conv, target=None, threads=2, epilogue=False):
    a, b, c, edges, begin, shift = conv.operands()
    possible = all(min(e.col, e.tap) >= 0 for e in edges) and gemm_direct_plan.is_possible(
        a, b, c, edges)
    assert edges and (possible or conv.dropped)
    if not possible:
        return
    wide = {"vector_bits": 512, "vector_registers": 32} if target == "wide" else {}
    target = dataclasses.replace(host(None if wide else target), cores=threads, threads=threads,
                                 **wide)
    bias = Operand(conv.dtype, (Axis(conv.images, 0), Axis(conv.groups, conv.outs)),
                      (Axis(conv.outs, 1),), tuple(Axis(axis.extent, 0) for axis in c.cols))
    module = Module("test", target.features)
    plan = emit_gemm(module, "product", a, b, c, bias_relu(bias, c) if epilogue else None, target,
                     edges)
    loaded = engine.load(engine.compile_text(module.text(), cache_dir="", check=True))
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 5, *[ctypes.c_int64] * 2)(
        loaded.address("product"))
    rng, results = np.random.default_rng(0), []
    plain = [to_memory(rng.standard_normal(shape), conv.dtype) for shape in conv.shapes()]
    more = to_memory(rng.standard_normal((conv.groups, conv.outs)), conv.dtype)
    for n_tasks, front in ((1, True), (1, False), (3, True), (16, False)):
        x, w, residual, shifts = (fenced(y, front) for y in (*plain, more))
        out = fenced(np.full_like(plain[2], 0), front)
        scratch = fenced(np.zeros(plan.scratch_bytes(n_tasks) // 64 * 64, np.uint8), front)
        extra = (ctypes.c_void_p * 2)(shifts.ctypes.data, residual.ctypes.data)
        for task in reversed(range(n_tasks)):
            run(w.ctypes.data + begin * w.itemsize, x.ctypes.data + shift * x.itemsize,
                out.ctypes.data, ctypes.addressof(extra), scratch.ctypes.data, task, n_tasks)
        results.append(out.copy())
        assert np.array_equal(out, results[0], equal_nan=True), f"{n_tasks} tasks give other bits"
    x, w, residual, shifts = (from_memory(y, conv.dtype) for y in (*plain, more))
    expected, bound = conv.expected(x, w)
    if epilogue:
        shifts = shifts[(..., *[None] * len(conv.axes))]
        expected = np.maximum(expected + shifts + residual, 0)
    terms = conv.channels * math.prod(axis[1] for axis in conv.axes)
    allowed = (terms + 4) * UNIT["f64" if conv.dtype == "f64" else "f32"] * (bound + 1) + (
        UNIT[conv.dtype] * abs(expected))
    assert (abs(from_memory(results[0], conv.dtype) - expected) <= allowed).all()


PLAIN = [
    Conv(2, 1, 3, 20, ((9, 3, 1, 1, 1, 1), (11, 3, 1, 1, 1, 1))),
    Conv(3, 1, 5, 33, ((7, 3, 2, 1, 1, 1), (7, 3, 2, 1, 1, 1))),
    Conv(5, 1, 40, 70, ((7, 3, 1, 1, 1, 1), (7, 3, 1, 1, 1, 1))),            # images in pairs
    Conv(1, 2, 4, 16, ((20, 5, 1, 2, 2, 3), (40, 3, 1, 2, 0, 2))),
    Conv(2, 1, 3, 64, ((30, 7, 2, 1, 3, 3), (57, 7, 2, 1, 3, 3))),
    Conv(2, 3, 6, 24, ((50, 4, 1, 1, 3, 0),)),                              # one axis, causal
    Conv(2, 1, 3, 17, ((5, 2, 1, 1, 0, 1), (6, 3, 2, 1, 1, 1), (9, 3, 1, 1, 1, 1))),
    Conv(3, 1, 1, 1, ((1, 1, 2, 1, 1, 0),), "bf16"),                        # one of one
    Conv(1, 1, 2, 16, ((6, 3, 1, 1, 1, 1), (30, 1, 1, 1, 0, 0))),           # edges above and below
    Conv(2, 1, 4, 18, ((3, 5, 1, 1, 2, 2), (2, 5, 1, 1, 2, 2))),            # more taps than pixels
    Conv(1, 1, 3, 16, ((8, 3, 3, 1, 4, 4), (8, 3, 3, 1, 4, 4))),            # windows of zeros only
    Conv(3, 1, 1, 32, ((17, 3, 1, 1, 1, 1), (12, 1, 1, 1, 0, 0)), dropped=True),  # no other taps
    Conv(3, 1, 1, 32, ((17, 1, 1, 1, 0, 0), (12, 3, 1, 1, 1, 1)), dropped=True),
    Conv(2, 1, 10, 50, ((8, 3, 1, 1, 1, 1), (14, 3, 1, 1, 1, 1)), flips=(0, 1),
         channels_first=True),
]


@pytest.mark.parametrize("conv", PLAIN, ids=str)
@pytest.mark.parametrize("target", [None, "x86-64-v3", "x86-64", "wide"])
@pytest.mark.parametrize("epilogue", [False, True])
def test_convolutions(conv, target, epilogue):
    check(conv, target, epilogue=epilogue)
    check(dataclasses.replace(conv, dtype="f64"), target, epilogue=epilogue)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_convolution(data):
    def axis(largest):
        draw = data.draw
        taps, stride, dilation = (draw(st.integers(1, n)) for n in (5, 3, 2))
        low, high = (draw(st.integers(0, taps)) for _ in range(2))
        least = max(dilation * (taps - 1) + 1 - low - high, 1)
        return draw(st.integers(least, max(largest, least))), taps, stride, dilation, low, high

    count = data.draw(st.integers(1, 3))
    axes = tuple(axis(60 if i == count - 1 else 9) for i in range(count))
    if not any(low or high for *_, low, high in axes):
        axes = ((*axes[0][:4], 1, 0), *axes[1:])
    flips = tuple(i for i in range(count) if data.draw(st.booleans()))
    conv = Conv(data.draw(st.integers(1, 5)), data.draw(st.sampled_from([1, 1, 2])),
                data.draw(st.integers(1, 9)), data.draw(st.integers(1, 70)), axes,
                data.draw(st.sampled_from(["f32", "f32", "f64", "bf16", "f16"])), flips,
                data.draw(st.booleans()), data.draw(st.booleans()))
    check(conv, data.draw(st.sampled_from(TARGETS_HERE)), epilogue=data.draw(st.booleans()))


def test_it_compiles_for_arm():
    a, b, c, edges, *_ = PLAIN[0].operands()
    module = Module("test", TARGETS["aarch64"].features)
    emit_gemm(module, "product", a, b, c, None, TARGETS["aarch64"], edges)
    assert "fmla" in compiled(module.text())


# -- in programs -----------------------------------------------------------------------------------
def conv(x, w):
    return ops.conv2d(x, w, pad_mode="pad", padding=1)


def strided(x, w):
    return ops.relu(ops.conv2d(x, w, stride=2, pad_mode="same") + 1.0)


def both_read(x, w):
    """Its padded images are read by a pooling, too."""
    padded = ops.pad(x, (1, 1, 1, 1))
    return ops.conv2d(padded, w).sum() + padded.max()


def by_input(x, w):
    return cellc.grad(lambda y: (conv(y, w) ** 2).sum())(x)


def by_weights(x, w):
    return cellc.grad(lambda v: (conv(x, v) ** 2).sum())(w)


def one_axis(x, w):
    return ops.conv1d(x[:, :, 0], w[:, :, 0], pad_mode="pad", padding=(2, 0))


def in_groups(x, w):
    return ops.conv2d(x, w[:, :20], pad_mode="pad", padding=1, groups=2)


@pytest.mark.parametrize("function", [conv, strided, both_read, by_input, by_weights, one_axis,
                                      in_groups])
def test_programs(function):
    rng = np.random.default_rng(3)
    x = Tensor(rng.standard_normal((3, 40, 9, 14)).astype(np.float32))
    w = Tensor(rng.standard_normal((48, 40, 3, 3)).astype(np.float32) * 0.1)
    context.set_context(mode=context.PYNATIVE_MODE)
    expected = function(x, w).asnumpy()
    context.set_context(mode=context.GRAPH_MODE)
    got = cellc.jit(function)(x, w).asnumpy()
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-4 * abs(expected).max())


def test_one_channel_and_taps_along_other_columns_only():
    """There is nothing to write out along the innermost columns."""
    rng = np.random.default_rng(6)
    x, w = rng.standard_normal((3, 1, 17, 12)), rng.standard_normal((32, 1, 3, 1))
    context.set_context(mode=context.PYNATIVE_MODE)
    expected = strided(Tensor(x), Tensor(w)).asnumpy(), conv(Tensor(x), Tensor(w)).asnumpy()
    context.set_context(mode=context.GRAPH_MODE)
    for function, exact in zip((strided, conv), expected, strict=True):
        found = cellc.jit(function)(Tensor(x), Tensor(w)).asnumpy()
        np.testing.assert_allclose(found, exact, 1e-12, 1e-12)


@pytest.mark.parametrize("function, pads", [(conv, 0), (strided, 0), (by_input, 0), (both_read, 1)])
def test_no_copy_with_zeros_around_it_is_made(function, pads):
    x, w = Tensor(np.ones((2, 40, 9, 14), np.float32)), Tensor(np.ones((48, 40, 3, 3), np.float32))
    groups = cellc.inspect(function, x, w).groups
    assert sum(any(node.prim.name == "pad" for node in g.body)
               and all(node.prim.name != "dot" for node in g.body) for g in groups) == pads
    assert all(node.prim.name != "flip" for g in groups for node in g.body
               if all(other.prim.name != "dot" for other in g.body))


def test_a_product_keeps_the_transposition_behind_it():
    """It has that form only with its images outside, whatever reads it."""
    def loss(x, v, w):
        seen = ops.max_pool2d(ops.relu(ops.conv2d(x, v)), 2, 2)
        return (ops.conv2d(seen, w) ** 2).sum()

    x, v, w = (Tensor(np.ones(shape, np.float32)) for shape in (
        (4, 3, 30, 30), (8, 3, 3, 3), (8, 8, 3, 3)))
    groups = cellc.inspect(cellc.grad(loss, (1, 2)), x, v, w).groups
    products = [g for g in groups if any(node.prim.name == "dot" for node in g.body)]
    assert len(products) == 5
    assert sum(bool(product_of(g).edges) for g in products) == 1


def test_errors_do_not_grow_with_the_number_of_channels():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((1, 600, 7, 7)).astype(np.float32)
    w = rng.standard_normal((64, 600, 3, 3)).astype(np.float32)
    exact = cellc.jit(conv)(Tensor(x.astype(float)), Tensor(w.astype(float))).asnumpy()
    error = cellc.jit(conv)(Tensor(x), Tensor(w)).asnumpy() - exact
    assert np.sqrt((error**2).mean() / (exact**2).mean()) < 5e-7


def test_threads_give_the_same_bits():
    rng = np.random.default_rng(4)
    x = Tensor(rng.standard_normal((2, 32, 30, 33)).astype(np.float32))
    w = Tensor(rng.standard_normal((64, 32, 3, 3)).astype(np.float32))
    results, before = [], context.get_context("max_device_threads")
    try:
        for threads in (1, 2, 5):
            context.set_context(max_device_threads=threads)
            results.append(cellc.jit(conv)(x, w).asnumpy())
    finally:
        context.set_context(max_device_threads=before)
    assert all(np.array_equal(results[0], other) for other in results[1:])
