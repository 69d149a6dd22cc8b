"""Loop groups: what is emitted agrees with the interpreter, whatever the shape and the schedule."""

import llvmlite.binding as llvm
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cellc.ir.graph import fill
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import random
from cellc.ir.prims import reduce as r
from cellc.ir.prims import shape as s
from cellc.ir.types import Dim, ScalarType, TensorType, f16, f32, f64, i64, u8, u32, u64
from cellc.kernels.group import emit_group
from cellc.kernels.target import TARGETS, from_features
from cellc.kernels.text import Module
from tests.kernel_runner import Compiled, agree, build


def t(*shape, dtype=f32):
    return TensorType(dtype, shape)


def rows(x, like, *dims):
    return s.broadcast(x, shape=like.shape, dims=dims)


def chain(x):
    return e.tanh(x) * e.logistic(x) + e.exp(-(x * x)) * 0.5 - e.sqrt(e.abs(x) + 1)


def softmax(x):
    powers = e.exp(x - rows(r.reduce_max(x, axes=(1,)), x, 0))
    return powers / rows(r.reduce_sum(powers, axes=(1,)), x, 0)


def repeated_columns(x):
    """Two sweeps over axes that cannot become one."""
    x = s.broadcast(e.cast(e.cast(x, dtype=f32), dtype=f64), shape=(64, 2, 4), dims=(0, 2))
    powers = e.exp(x - rows(r.reduce_max(x, axes=(0, 1)), x, 2))
    return x, r.reduce_sum(powers, axes=(0, 1))


def batch_norm(x):
    n = float(x.size / x.shape[1])
    mean = r.reduce_sum(x, axes=(0, 2, 3)) / n
    centred = x - rows(mean, x, 1)
    variance = r.reduce_sum(centred * centred, axes=(0, 2, 3)) / n
    return centred * rows(e.rsqrt(variance + 1e-5), x, 1), mean, variance


@pytest.mark.parametrize("n", [0, 1, 5, 16, 17, 100, 1000])
def test_elementwise_chain(n):
    agree(build(chain, t(n)), tolerance=1e-4, shared=True)


def kept_in_two_widths(x):
    """Five values that later sweeps need, in f32 and f64; some take the places of others."""
    a = e.exp(x)
    mean = a / rows(r.reduce_sum(a, axes=(1,)), x, 0)
    b = e.tanh(e.cast(mean, dtype=f64) * 3.0)
    total = r.reduce_sum(b, axes=(1,))
    c = e.exp(a * 0.5 - rows(e.cast(total, dtype=f32), x, 0))
    d = e.exp(b - rows(total, x, 0))
    wide = b / rows(total, x, 0) + d / rows(r.reduce_sum(d, axes=(1,)), x, 0)
    return mean + c / rows(r.reduce_sum(c, axes=(1,)), x, 0) + e.cast(wide, dtype=f32)


@pytest.mark.parametrize("cpu", ["x86-64", "x86-64-v3", None])
@pytest.mark.parametrize("n", [1, 20, 96, 200])
def test_values_of_two_widths_kept_for_later_sweeps(n, cpu):
    agree(build(kept_in_two_widths, t(5, n)), shared=True, target=cpu and TARGETS[cpu])


@pytest.mark.parametrize("cpu", ["knl", "skylake-avx512", "icelake-server", "znver4", "x86-64-v4"])
@pytest.mark.parametrize("rows_of", [softmax, kept_in_two_widths])
def test_every_cpu_with_avx512_holds_constants_in_registers(rows_of, cpu):
    """LLVM ends the process where one does not fit; some of these CPUs like narrower vectors."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    features = "+avx2,+fma,+avx512f,+avx512cd"
    if cpu != "knl":
        features += ",+avx512vl,+avx512bw,+avx512dq"
    module = Module("kernel", features)
    emit_group(module, "k", build(lambda x: e.erf(rows_of(x)), t(64, 200)),
               from_features(cpu, features), ())
    machine = llvm.Target.from_triple("x86_64-unknown-linux-gnu").create_target_machine(
        cpu=cpu, features=features, opt=2)
    text = machine.emit_assembly(llvm.parse_assembly(module.text()))
    assert text.count("vpermps") >= 7 and "vscalefp" in text


@pytest.mark.parametrize("dtype", [f16, f32, f64], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("reduce", [r.reduce_max, r.reduce_min, r.argmax, r.argmin],
                         ids=lambda p: p.name)
def test_extrema_of_nans_and_infinities(reduce, axis, dtype):
    where = {"axes": (axis,)} if "reduce" in reduce.name else {"axis": axis}
    draw = np.random.default_rng(0)
    odd = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0])
    for m, n in ((1, 1), (3, 70), (40, 33), (65, 2)):
        x = draw.standard_normal((m, n))
        x = np.where(draw.random((m, n)) < 0.02, draw.choice(odd, (m, n)), x)
        x[:, 0] = draw.choice(odd)
        graph = build(lambda x: reduce(x, **where), t(m, n, dtype=dtype))
        agree(graph, x.astype(dtype.numpy), shared=True)


@pytest.mark.parametrize("shape", [(4, 10), (3, 1), (1, 300), (5, 768), (0, 4)])
def test_softmax_in_three_sweeps(shape):
    agree(build(softmax, t(*shape)), shared=True)


def test_batch_norm_with_rows_between_the_reduced_axes():
    agree(build(batch_norm, t(4, 3, 5, 7)), tolerance=1e-4, shared=True)


def sums(axes):
    return lambda x: r.reduce_sum(x, axes=axes)


def pooled_masks(x):
    best = rows(r.reduce_max(x, axes=(3, 5)), x, 0, 1, 2, 4)
    return e.eq(x, best), r.reduce_sum(x * 2.0, axes=(3, 5)), x - best


CASES = {
    "broadcast": (lambda x, y: x + rows(y, x, 1), t(13, 37), t(37)),
    "column sum": (sums((0,)), t(300, 70)),
    "sum in chunks": (sums((0, 1)), t(3000, 70)),
    "sum in uneven chunks": (sums((0,)), t(1000003)),
    "columns in uneven chunks, in several sweeps": (repeated_columns, t(64, 4, dtype=f64)),
    "few columns in chunks": (sums((0,)), t(50001, 3)),
    "transpose": (lambda x: s.transpose(x, perm=(1, 0)), t(33, 20)),
    "tiled transpose": (lambda x: s.transpose(x, perm=(2, 0, 1)), t(35, 3, 50)),
    "full and row results": (lambda x: (x * 2.0, r.reduce_sum(x * 2.0, axes=(0,))), t(33, 20)),
    "argmax of rows": (lambda x: r.argmax(x, axis=1), t(33, 20)),
    "argmin of columns": (lambda x: r.argmin(x, axis=0), t(33, 20)),
    "pooling": (lambda x: r.reduce_max(s.windows(x, sizes=(2, 2), strides=(2, 2),
                                                 dilations=(1, 1)), axes=(4, 5)), t(2, 3, 8, 8)),
    "pad": (lambda x: e.exp(s.pad(x, low=(1, 2), high=(0, 3), value=1.0)), t(33, 20)),
    "windows added": (lambda x: s.windows_add(x, shape=(7, 9), strides=(1, 1), dilations=(1, 1)),
                      t(2, 5, 8, 3, 2)),
    "flip": (lambda x: s.flip(x, axes=(0, 1)), t(9, 40)),
    "strided slice": (lambda x: s.slice(x, starts=(1, 2), stops=(9, 75), steps=(2, 3)), t(9, 80)),
    "merged axes of a transpose": (lambda x: s.reshape(s.transpose(x, perm=(0, 2, 1, 3)),
                                                       shape=(3, 4, 20)), t(3, 2, 4, 10)),
    "unpooling": (lambda x: s.reshape(s.transpose(x * 2.0, perm=(0, 1, 3, 2, 4)),
                                      shape=(3, 14, 2 * 21)), t(3, 7, 21, 2, 2)),
    "interleaved by three": (lambda x, y: s.reshape(s.broadcast(x, shape=(5, 40, 3), dims=(0, 1))
                                                    + y, shape=(5, 120)), t(5, 40), t(5, 40, 3)),
    "masks of a pool": (lambda x: pooled_masks(s.reshape(x, shape=(2, 3, 5, 2, 12, 2))),
                        t(2, 3, 10, 24)),
    "index": (lambda x: x + s.iota(shape=x.shape, axis=1, dtype=f32), t(3, 21)),
    "rows of rows": (lambda x: r.reduce_sum(r.reduce_sum(x, axes=()) * 2.0, axes=(2,)),
                     t(3, 4, 21)),
    "scalar operand": (lambda x, k: x * rows(e.cast(s.from_scalar(k), dtype=f32), x), t(3, 21),
                       ScalarType(f64)),
    "random words": (lambda k, x: e.select(e.lt(random.random_bits(k, shape=x.shape),
                                                fill(t(*x.shape, dtype=u32), 2**31)), x, -x),
                     t(2, dtype=u64), t(5, 9, 36)),
    "sums of random words": (lambda k: r.reduce_sum(e.cast(random.random_bits(k, shape=(9, 36)),
                                                           dtype=f32) * 1e-9, axes=(1,)),
                             t(2, dtype=u64)),
    "odd random words": (lambda k: random.random_bits(k, shape=(5, 33)), t(2, dtype=u64)),
    "i64": (lambda x: e.mod(x * x + 3, s.broadcast(x, shape=x.shape, dims=(0,))), t(50, dtype=i64)),
}


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    function, *types = CASES[name]
    agree(build(function, *types), tolerance=2e-4, shared=True)


@pytest.mark.parametrize("shape,axes", [((1 << 22,), (0,)), ((4, 1 << 20), (1,)),
                                        ((1 << 20, 4), (0,))])
def test_long_sums_lose_little(shape, axes):
    """Each term rounds, one after another these sums would be off by a thousandth and more."""
    compiled = Compiled(build(sums(axes), t(*shape)))
    x = np.full(shape, 0.1, np.float32)
    np.testing.assert_allclose(compiled(x), np.sum(x, axes, np.float64), rtol=1e-6)


@pytest.mark.parametrize("cpu", ["x86-64", "x86-64-v3"])
@pytest.mark.parametrize("name", CASES)
def test_case_with_narrower_vectors(name, cpu):
    function, *types = CASES[name]
    agree(build(function, *types), tolerance=2e-4, target=TARGETS[cpu])


@settings(deadline=None, max_examples=80)
@example(size=7, low=8, high=2, of=f32, cpu="x86-64")
@given(size=st.integers(1, 150), low=st.integers(0, 40), high=st.integers(0, 40),
       of=st.sampled_from((f32, f64, f16, u8)), cpu=st.sampled_from(("x86-64", "x86-64-v3", None)))
def test_guards_along_vectors(size, low, high, of, cpu):
    """They are asked where they may fail, at both ends of a row, and nowhere else."""
    def padded(x):
        return s.pad(x, low=(1, low), high=(0, high), value=3)

    def pooled(x):
        more = s.pad(x, low=(0, 1), high=(0, 1), value=0)
        return r.reduce_max(s.windows(more, sizes=(1, 3), strides=(1, 1), dilations=(1, 1)),
                            axes=(2, 3))

    def spread(column):
        return s.pad(s.broadcast(column, shape=(3, size), dims=(0,)), low=(0, low), high=(0, high),
                     value=3)

    target = cpu and TARGETS[cpu]
    agree(build(spread, t(3, dtype=of)), target=target)
    for function in (padded, pooled, lambda x: r.reduce_sum(padded(x), axes=(1,))):
        agree(build(function, t(3, size, dtype=of)), target=target)


@pytest.mark.parametrize("of", [u8, f16, f32, f64, i64], ids=str)
def test_tails_of_every_length_write_nothing_behind_them(of):
    for n in range(1, 40):
        agree(build(lambda x: s.flip(x + x, axes=(1,)), t(3, n, dtype=of)))
        agree(build(lambda x: x + x, t(3, n, dtype=of)), target=TARGETS["x86-64-v3"])


@pytest.mark.parametrize("n", [2, 7, 33])
def test_symbolic_size(n):
    dim = Dim("n")
    graph = build(lambda x: (softmax(x), r.reduce_sum(x, axes=(0,))), t(dim, 37))
    x = np.random.default_rng(n).standard_normal((n, 37)).astype(np.float32)
    agree(build(softmax, t(dim, 37)), x, dims={"n": n}, symbols=("n",))
    agree(build(sums((0,)), t(dim, 37)), x, dims={"n": n}, symbols=("n",))
    agree(build(chain, t(dim, 37)), x, dims={"n": n}, symbols=("n",))
    assert graph.results[0].shape == (dim, 37)
