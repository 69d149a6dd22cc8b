"""The generated matrix product against NumPy in double precision, over views of every kind."""

import ctypes
import dataclasses
import functools
import math
import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellc.ir.prims import contraction
from cellc.ir.types import TensorType, f32
from cellc.kernels import engine
from cellc.kernels.gemm import Axis, Operand, emit_gemm
from cellc.kernels.gemm_plan import EACH, MANY_THREADS
from cellc.kernels.target import host
from cellc.kernels.text import Module, constant
from tests import kernel_runner

UNIT = {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}
LIBC = ctypes.CDLL(None, use_errno=True)
GUARD = 64      # elements around C that must not change


# -- running an emitted product --------------------------------------------------------------------
class Compiled:
    """An emitted product as a Python function of buffers."""

    def __init__(self, a, b, c, epilogue=None, target=None, threads=2):
        module = Module("test")
        self.plan = emit_gemm(module, "product", a, b, c, epilogue,
                              dataclasses.replace(target or host(), cores=threads, threads=threads))
        self.text = module.text()
        self.loaded = engine.load(engine.compile_text(self.text, cache_dir="", check=True))

    def __call__(self, a, b, c, extra=(), n_tasks=1, sizes=None, order=None):
        sizes = sizes or {}
        scratch = np.full(self.plan.scratch_bytes(n_tasks, sizes) + 128, 0xFF, np.uint8)
        start = -scratch.ctypes.data % 64
        scratch[start + self.plan.scratch_bytes(n_tasks, sizes):] = 0x5A
        pointers = (ctypes.c_void_p * max(len(extra), 1))(*[x.ctypes.data for x in extra])
        fixed = [a.ctypes.data, b.ctypes.data, c.ctypes.data, ctypes.addressof(pointers),
                 scratch.ctypes.data + start]
        symbols = [sizes[name] for name in self.plan.symbols]
        signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 5,
                                     *[ctypes.c_int64] * (2 + len(symbols)))
        for name in filter(None, (self.plan.name, self.plan.reduce_name)):
            for task in order or range(n_tasks):
                signature(self.loaded.address(name))(*fixed, task, n_tasks, *symbols)
        beyond = scratch[start + self.plan.scratch_bytes(n_tasks, sizes):]
        assert (beyond == 0x5A).all(), "wrote past the scratch memory it asked for"


def offsets(operand, sizes=None):
    """The buffer offset of each element, [batch, rows, cols]."""
    known = lambda x: x if isinstance(x, int) else sizes[x]  # noqa: E731

    def index(axes):
        total = np.zeros(1, np.int64)
        for axis in axes:
            steps = np.arange(known(axis.extent)) * known(axis.stride)
            total = (total[:, None] + steps).reshape(-1)
        return total

    return (index(operand.batch)[:, None, None] + index(operand.rows)[:, None]
            + index(operand.cols))


def to_memory(values, dtype):
    """Values as the array the buffer holds; bf16 is its high sixteen bits."""
    if dtype == "bf16":
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return values.astype({"f16": "f2", "f32": "f4", "f64": "f8"}[dtype])


def from_memory(array, dtype):
    if dtype == "bf16":
        return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return array.astype(np.float64)


def buffer(operand, rng, sizes=None):
    at = offsets(operand, sizes)
    size = int(at.max()) + 1 if at.size else 1
    return to_memory(rng.standard_normal(size), operand.dtype)


def fenced(array):
    """A copy whose last byte is the last before memory that must not be touched."""
    size = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if LIBC.mprotect(ctypes.c_void_p(start + size), mmap.PAGESIZE, 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    copy = np.frombuffer(memory, array.dtype, array.size, size - array.nbytes)
    copy[:] = array
    return copy


def check(a, b, c, epilogue=None, reference=None, extra=(), tasks=(1, 3), sizes=None, target=None,
          threads=2):
    """Run the product with several numbers of tasks and compare all of C's buffer."""
    rng = np.random.default_rng(0)
    product = Compiled(a, b, c, epilogue, target, threads)
    buffers = [fenced(buffer(x, rng, sizes)) for x in (a, b)]
    left, right = (from_memory(m[offsets(x, sizes)], x.dtype)
                   for m, x in zip(buffers, (a, b), strict=True))
    at = offsets(c, sizes)
    with np.errstate(over="ignore"):
        expected = left @ right if at.size else np.zeros(at.shape)
        bound = abs(left) @ abs(right) if at.size else expected
    if reference is not None:
        expected = reference(expected)
    untouched = buffer(c, rng, sizes)
    untouched = np.concatenate([np.ones(GUARD, untouched.dtype), untouched,
                                np.ones(GUARD, untouched.dtype)])
    results = []
    for n_tasks in tasks:
        got = untouched.copy()
        product(*buffers, got[GUARD:], extra, n_tasks, sizes, order=[*reversed(range(n_tasks))])
        results.append(got)
        assert np.array_equal(got, results[0]), f"{n_tasks} tasks give other bits"
    rest = np.ones(len(untouched), bool)
    rest[at.ravel() + GUARD] = False
    assert np.array_equal(results[0][rest], untouched[rest]), "wrote outside C"
    got = from_memory(results[0][at + GUARD], c.dtype)
    sums = "f64" if a.dtype == "f64" else "f32"
    k = max(left.shape[-1], 1)
    allowed = (k + 4) * UNIT[sums] * (bound + 1) + UNIT[c.dtype] * abs(expected)
    assert (abs(got - expected) <= allowed).all(), abs(got - expected).max()
    return product


def dense(dtype, *shape, transpose=False, batch=()):
    """A dense matrix, or the transpose of one, in a dense batch."""
    rows, cols = shape
    steps = (1, rows) if transpose else (cols, 1)
    outer = tuple(Axis(extent, rows * cols * math.prod(batch[i + 1:]))
                  for i, extent in enumerate(batch))
    return Operand(dtype, outer, (Axis(rows, steps[0]),), (Axis(cols, steps[1]),))


# -- shapes, layouts, dtypes -----------------------------------------------------------------------
SHAPES = [(1, 1, 1), (3, 3, 3), (64, 64, 64), (12, 32, 384), (13, 33, 385), (1, 1000, 70),
          (1000, 1, 70), (1, 1, 5000), (5, 7, 600), (100, 17, 0), (0, 5, 3), (5, 0, 3),
          (130, 257, 300), (65, 1100, 40), (2, 2, 40000)]


@pytest.mark.parametrize("m, n, k", SHAPES)
@pytest.mark.parametrize("transposed", ["nn", "nt", "tn", "tt"])
def test_shapes(m, n, k, transposed):
    check(dense("f32", m, k, transpose=transposed[0] == "t"),
          dense("f32", k, n, transpose=transposed[1] == "t"), dense("f32", m, n),
          tasks=(1, 2, 7, 64))


@pytest.mark.parametrize("dtypes", ["f64 f64 f64", "f16 f16 f16", "bf16 bf16 bf16", "bf16 bf16 f32",
                                    "f32 bf16 f32", "f32 f16 bf16"])
@pytest.mark.parametrize("m, n, k", [(3, 5, 7), (50, 70, 90), (20, 130, 700), (20, 130, 500),
                                     (1, 65, 300)])
@pytest.mark.parametrize("transpose", [False, True])
def test_dtypes(dtypes, m, n, k, transpose):
    a, b, c = dtypes.split()
    check(dense(a, m, k, transpose=transpose), dense(b, k, n, transpose=not transpose),
          dense(c, m, n))


@pytest.mark.parametrize("layout", ["dense", "a broadcast", "b broadcast", "inner broadcast"])
@pytest.mark.parametrize("m, n, k", [(4, 5, 6), (40, 70, 30)])
def test_batches(layout, m, n, k):
    a, b, c = (dense("f32", *shape, batch=(3, 4)) for shape in ((m, k), (k, n), (m, n)))
    without = {"dense": ("", ""), "a broadcast": ("ab", ""), "b broadcast": ("", "ab"),
               "inner broadcast": ("a", "b")}[layout]
    a, b = (Operand(x.dtype, tuple(Axis(axis.extent, 0 if "ab"[i] in gone else axis.stride)
                                   for i, axis in enumerate(x.batch)), x.rows, x.cols)
            for x, gone in zip((a, b), without, strict=True))
    check(a, b, c, tasks=(1, 5))


@pytest.mark.parametrize("column_step, row_step", [(2, 200), (1, 123), (300, 1), (301, 2)])
def test_strided_result(column_step, row_step):
    c = Operand("f32", (), (Axis(60, row_step),), (Axis(50, column_step),))
    check(dense("f32", 60, 600), dense("f32", 600, 50), c)


def test_result_with_composite_columns():
    """C[m, (i, j)] with a gap after each run of j, as a slice of a larger array has."""
    c = Operand("f32", (), (Axis(20, 500),), (Axis(6, 25), Axis(20, 1)))
    check(dense("f32", 20, 30), dense("f32", 30, 120), c)
    gaps = Operand("f32", (), (Axis(20, 500),), (Axis(40, 7), Axis(3, 2)))
    check(dense("f32", 20, 300), dense("f32", 300, 120), gaps)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_views(data):
    """Random composite indices with random strides on both operands."""
    def cut(extent):
        parts = [d for d in range(1, extent + 1) if extent % d == 0]
        inner = data.draw(st.sampled_from(parts))
        return (extent // inner, inner)

    def view(dtype, rows, cols, batch):
        stride = lambda: data.draw(st.integers(0, 40))  # noqa: E731
        index = lambda extent: tuple(Axis(e, stride()) for e in cut(extent))  # noqa: E731
        return Operand(dtype, tuple(Axis(e, stride()) for e in batch), index(rows), index(cols))

    m, n, k = (data.draw(st.integers(1, 70)) for _ in range(3))
    batch = data.draw(st.sampled_from([(), (3,), (2, 3)]))
    dtype = data.draw(st.sampled_from(["f32", "f32", "f64", "bf16"]))
    check(view(dtype, m, k, batch), view(dtype, k, n, batch), dense(dtype, m, n, batch=batch))


# -- convolutions ----------------------------------------------------------------------------------
def windows(channels, height, width, size, stride, dilation, batch):
    """A window view's k and n index, its batch axes, and the area of the result."""
    out_h, out_w = ((x - dilation * (size - 1) - 1) // stride + 1 for x in (height, width))
    k = (Axis(channels, height * width), Axis(size, dilation * width), Axis(size, dilation))
    n = (Axis(out_h, stride * width), Axis(out_w, stride))
    return k, n, (Axis(batch, channels * height * width),), out_h * out_w


CONVOLUTIONS = [(3, 12, 13, 3, 1, 1, 2), (3, 12, 13, 3, 2, 1, 2), (2, 20, 19, 3, 1, 2, 3),
                (1, 32, 32, 5, 1, 1, 4), (6, 14, 14, 5, 1, 1, 4), (16, 30, 30, 3, 1, 1, 2),
                (4, 9, 9, 1, 1, 1, 5), (8, 64, 64, 3, 1, 1, 1),
                (2, 18, 34, 3, 1, 1, 2),      # rows of 32: whole vectors
                # every second element: rows of 16, 7, 32 and 30; the columns of all images joined
                (5, 29, 33, 3, 2, 1, 3), (8, 14, 15, 3, 2, 1, 8), (4, 35, 69, 7, 2, 1, 2),
                (8, 15, 60, 1, 2, 1, 2), (3, 16, 16, 3, 1, 1, 9)]


@pytest.mark.parametrize("spec", CONVOLUTIONS)
@pytest.mark.parametrize("out", [1, 6, 20, 70])
def test_convolution(spec, out):
    k, n, images, area = windows(*spec)
    length = spec[0] * spec[3] ** 2
    weights = Operand("f32", (Axis(spec[-1], 0),), (Axis(out, length),), (Axis(length, 1),))
    result = Operand("f32", (Axis(spec[-1], out * area),), (Axis(out, area),), (Axis(area, 1),))
    check(weights, Operand("f32", images, k, n), result, tasks=(1, 4))


@pytest.mark.parametrize("spec", CONVOLUTIONS)
@pytest.mark.parametrize("out", [6, 20, 70])
def test_convolution_weight_gradient(spec, out):
    k, n, images, area = windows(*spec)
    length = spec[0] * spec[3] ** 2
    gradient = Operand("f32", (), (Axis(out, area),), (Axis(spec[-1], out * area), Axis(area, 1)))
    view = Operand("f32", (), (*images, *n), k)
    check(gradient, view, dense("f32", out, length), tasks=(1, 3))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_runs_of_a_sum(data):
    """A, or B, goes through the index summed over in runs, and is read where it lies."""
    draw = lambda *bounds: data.draw(st.integers(*bounds))  # noqa: E731
    outer, inner, step = draw(2, 30), draw(20, 60), draw(1, 3)
    gap = inner * step + draw(0, 9)
    m, n = draw(1, 60), draw(1, 60)
    k = (Axis(outer, gap), Axis(inner, step))
    dtype = data.draw(st.sampled_from(["f32", "f32", "f64", "bf16"]))
    rows = data.draw(st.sampled_from([1, outer * gap]))
    a = Operand(dtype, (), (Axis(m, rows),), k)
    b = dense(dtype, outer * inner, n, transpose=data.draw(st.booleans()))
    c = dense(dtype, m, n, transpose=data.draw(st.booleans()))
    if data.draw(st.booleans()):
        a, b, c = (Operand(x.dtype, (), x.cols, x.rows) for x in (b, a, c))
    target = data.draw(st.sampled_from([None, None, "x86-64-v3", "x86-64"]))
    check(a, b, c, tasks=(1, 3), target=target and host(target), threads=data.draw(
        st.sampled_from([1, 2, 8])))


@pytest.mark.parametrize("m, n, k", [(64, 27, 30000), (3, 3, 100000), (1, 1, 200000),
                                     (10, 500, 5000)])
def test_long_sums_are_shared_out(m, n, k):
    product = check(dense("f32", m, k), dense("f32", k, n), dense("f32", m, n), tasks=(1, 2, 6),
                    threads=8)
    assert (product.plan.reduce_name is not None) == (k > 5000)


# -- the epilogue ----------------------------------------------------------------------------------
def bias_relu(bias, residual=None):
    """relu(sums + bias [+ residual]); the operands are %extra's pointers in that order."""
    def epilogue(f, ty, sums, coords):
        for i, operand in enumerate(filter(None, (bias, residual))):
            sums = f.op(f"fadd {ty} {sums}, {coords.load(coords.extra(i), operand)}")
        return f.intrinsic("maxnum", ty, sums, constant(0, ty))

    return epilogue


@pytest.mark.parametrize("m, n, k", [(7, 9, 5), (70, 100, 700), (3, 3, 30000), (1, 300, 40),
                                     (300, 1, 40), (4, 4, 0)])
@pytest.mark.parametrize("along", ["row", "column", "both", "whole"])
@pytest.mark.parametrize("column_major", [False, True])
def test_epilogue(m, n, k, along, column_major):
    strides = {"row": (1, 0), "column": (0, 1), "both": (2, 3), "whole": (n, 1)}[along]
    bias = Operand("f32", (Axis(2, 0),), (Axis(m, strides[0]),), (Axis(n, strides[1]),))
    values = buffer(bias, np.random.default_rng(1))
    residual = dense("bf16", m, n, batch=(2,))
    more = buffer(residual, np.random.default_rng(2))
    check(dense("f32", m, k, batch=(2,)), dense("f32", k, n, batch=(2,)),
          dense("f32", m, n, batch=(2,), transpose=column_major), bias_relu(bias, residual),
          lambda x: np.maximum(x + values[offsets(bias)]
                               + from_memory(more[offsets(residual)], "bf16"), 0),
          (values, more))


def test_epilogue_of_batch_that_became_rows_or_columns():
    """A batch axis that A or B lacks is folded into an index; the bias still varies with it."""
    bias = Operand("f32", (Axis(5, 1),), (Axis(20, 0),), (Axis(36, 5),))
    values = buffer(bias, np.random.default_rng(1))
    c = dense("f32", 20, 36, batch=(5,))
    for without in ("a", "b"):
        a, b = dense("f32", 20, 9, batch=(5,)), dense("f32", 9, 36, batch=(5,))
        if without == "a":
            a = Operand("f32", (Axis(5, 0),), a.rows, a.cols)
        else:
            b = Operand("f32", (Axis(5, 0),), b.rows, b.cols)
        check(a, b, c, bias_relu(bias), lambda x: np.maximum(x + values[offsets(bias)], 0),
              (values,))


@pytest.mark.parametrize("bias_dtype, dtype", [("f32", "f64"), ("f16", "f64"), ("f64", "f32")])
def test_epilogue_operand_of_another_precision(bias_dtype, dtype):
    for strides in ((1, 0), (0, 1), (40, 1)):
        bias = Operand(bias_dtype, (), (Axis(30, strides[0]),), (Axis(40, strides[1]),))
        values = buffer(bias, np.random.default_rng(1))
        check(dense(dtype, 30, 9), dense(dtype, 9, 40), dense(dtype, 30, 40), bias_relu(bias),
              lambda x, at=offsets(bias), v=values: np.maximum(x + v[at], 0), (values,))


# -- sizes known at run time -----------------------------------------------------------------------
@functools.cache
def symbolic(dtype):
    a = Operand(dtype, (), (Axis("m", "k"),), (Axis("k", 1),))
    b = Operand(dtype, (), (Axis("k", 48),), (Axis(48, 1),))
    return a, b, Operand(dtype, (), (Axis("m", 48),), (Axis(48, 1),))


@pytest.mark.parametrize("sizes", [(1, 1), (5, 3), (100, 700), (0, 4), (4, 0)])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_symbolic_sizes(sizes, dtype):
    check(*symbolic(dtype), sizes=dict(zip("mk", sizes, strict=True)))


@pytest.mark.parametrize("images", [0, 1, 3, 50])
@pytest.mark.parametrize("side", [8, 20])
def test_symbolic_number_of_images_summed_over(images, side):
    """The gradient of a convolution's weights, cut in parts whose length is known at run time."""
    k, n, (batch,), area = windows(4, side + 2, side + 2, 3, 1, 1, 1)
    batch = Axis("images", batch.stride)
    gradient = Operand("f32", (), (Axis(6, area),), (Axis("images", 6 * area), Axis(area, 1)))
    product = check(gradient, Operand("f32", (), (batch, *n), k), dense("f32", 6, 36),
                    sizes={"images": images}, threads=16)
    assert product.plan.reduce_name is not None


def test_symbolic_columns():
    a, b = dense("f32", 30, 40), Operand("f32", (), (Axis(40, "n"),), (Axis("n", 1),))
    check(a, b, Operand("f32", (), (Axis(30, "n"),), (Axis("n", 1),)), sizes={"n": 77})


# -- what is not run on this machine, and what is refused ------------------------------------------
@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64"])
@pytest.mark.parametrize("m, n, k", [(13, 33, 385), (70, 200, 90)])
def test_other_targets(name, m, n, k):
    """Narrower vectors and fewer registers are right as well (the host runs them too)."""
    for transpose in (False, True):
        check(dense("f32", m, k), dense("f32", k, n, transpose=transpose), dense("f32", m, n),
              target=host(name))
    check(dense("f64", m, k), dense("f64", k, n, transpose=True), dense("f64", m, n),
          target=host(name))


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64"])
@pytest.mark.parametrize("spec", [(2, 18, 34, 3, 1, 1, 2), (3, 12, 13, 3, 1, 1, 2),
                                  (5, 29, 33, 3, 2, 1, 3)])
def test_convolutions_on_other_targets(name, spec):
    k, n, images, area = windows(*spec)
    length = spec[0] * spec[3] ** 2
    for out in (4, 20):
        weights = Operand("f32", (Axis(spec[-1], 0),), (Axis(out, length),), (Axis(length, 1),))
        result = Operand("f32", (Axis(spec[-1], out * area),), (Axis(out, area),), (Axis(area, 1),))
        check(weights, Operand("f32", images, k, n), result, tasks=(1, 4), target=host(name))
        gradient = Operand("f32", (Axis(spec[-1], out * area),), (Axis(area, 1),),
                           (Axis(out, area),))
        turned = Operand("f32", (Axis(spec[-1], 0),), (Axis(out, length),), (Axis(length, 1),))
        back = Operand("f32", (Axis(spec[-1], area * length),), (Axis(area, 1),),
                       (Axis(length, area),))
        check(gradient, turned, back, tasks=(1, 3), target=host(name))


def test_extents_must_agree():
    with pytest.raises(ValueError, match="summed extents differ"):
        emit_gemm(Module(), "product", dense("f32", 2, 3), dense("f32", 4, 5), dense("f32", 2, 5))


def test_dtypes_that_do_not_mix():
    with pytest.raises(ValueError, match="no product of f32 and f64 in f32"):
        emit_gemm(Module(), "product", dense("f32", 2, 3), dense("f64", 3, 5), dense("f32", 2, 5))


def test_suggested_tasks_grow_with_the_work():
    def tasks(size):
        return emit_gemm(Module(), "product", *[dense("f32", size, size)] * 3).max_tasks

    assert tasks(32) == 1
    assert tasks(512) > 16


@pytest.mark.parametrize("m, k, n", [(128, 784, 512), (33, 9000, 20), (256, 256, 256)])
def test_threads_change_who_computes_and_not_what(m, k, n):
    """The same bits for any number of threads on a machine of eight cores, sums that are cut too;
    and no more tasks than threads, as each brings its own copy of what it reads, but for some more
    where many threads take long."""
    r = np.random.default_rng(3)
    arrays = r.normal(size=(m, k)).astype(np.float32), r.normal(size=(k, n)).astype(np.float32)
    graph = kernel_runner.build(lambda a, b: contraction.dot(a, b, contract=((1,), (0,)),
                                                               batch=((), ())),
                                TensorType(f32, (m, k)), TensorType(f32, (k, n)))
    found = []
    for threads in (1, 2, 8, 16):
        kernel = kernel_runner.Compiled(
            graph, dataclasses.replace(host(), cores=8, threads=threads))
        each = EACH if threads >= MANY_THREADS else 1
        assert all(tasks <= each * threads for _, tasks in kernel.kernel.phases)
        found.append(kernel(*arrays))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
