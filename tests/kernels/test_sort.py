"""Sorted places: every dtype, special values, lengths on both sides of each choice, threads."""

import dataclasses
import time

import numpy as np
import pytest

import cellc
from cellc import Tensor, ops
from cellc.errors import SymbolicFault
from cellc.ir.graph import Apply, Graph, Input
from cellc.ir.interpret import interpret
from cellc.ir.prims import reduce
from cellc.ir.types import Dim, TensorType, dtype
from cellc.kernels import sort
from cellc.kernels.target import host
from tests.kernel_runner import Compiled, agree

DTYPES = ("f64", "f32", "f16", "bf16", "i64", "i32", "i8", "u8", "bool")
SPECIAL = [np.inf, -np.inf, np.nan, -np.nan, 0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 5e-324, 3e38,
           -3e38]


def values(of, shape, seed=0):
    """Some ties, some of everything that a dtype holds, its ends too."""
    r = np.random.default_rng(seed)
    kind = dtype(of)
    if kind.kind == "b":
        return r.random(shape) < 0.5
    if kind.kind != "f":
        ends = np.iinfo(kind.numpy)
        drawn = np.where(r.random(shape) < 0.5, r.integers(0, 5, shape),
                         r.integers(ends.min, ends.max, shape, endpoint=True, dtype=np.int64))
        return drawn.astype(kind.numpy)
    drawn = np.where(r.random(shape) < 0.3, r.choice(SPECIAL, shape),
                     r.normal(0, 3, shape).round(2))
    with np.errstate(over="ignore"):
        return cellc.ir.numerics.cast(drawn, kind)


def places(of, shape, axis, descending=False, keep=None):
    x = Input(TensorType(dtype(of), shape), "x")
    node = Apply(reduce.argsort, (x,), {"axis": axis, "descending": descending, "keep": keep})
    return Graph("places", [x], [node], node)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("of", DTYPES)
def test_every_dtype(of, descending):
    for n in (1, 2, 31, 32, 33, 64, 255, 257, 1000):
        agree(places(of, (3, n), 1, descending), values(of, (3, n), n))
    for keep in (0, 1, 7, 32, 33, 100):
        agree(places(of, (2, 100), 1, descending, keep), values(of, (2, 100), keep))


@pytest.mark.parametrize("keep", [None, 3])
@pytest.mark.parametrize("shape, axis", [
    ((5,), 0), ((70, 3), 0), ((2, 50, 3), 1), ((4, 1, 40), 2), ((0, 8), 1), ((8, 0, 5), 2),
    ((2, 3, 4, 60), 3), ((40, 2, 2), 0)])
def test_rows_along_any_axis_are_shared(shape, axis, keep):
    graph, x = places("f32", shape, axis, keep=keep), values("f32", shape)
    wanted = interpret(graph, x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sort, "SHARED_SECONDS", 0.0)
        many = Compiled(graph, dataclasses.replace(host(), threads=4))
    for n_tasks in (4, 1, 3):
        np.testing.assert_array_equal(many(x, n_tasks=n_tasks), wanted)


@pytest.mark.parametrize("n", [0, 1, 5, 40, 300])
def test_a_size_known_when_it_runs(n):
    dim = Dim("n")
    for shape in ((dim,), (3, dim)):
        graph = places("f32", shape, len(shape) - 1)
        x = values("f32", (3, n)[-len(shape):], n)
        agree(graph, x, dims={"n": n}, symbols=("n",))
    with pytest.raises(SymbolicFault, match="first 2 of n"):
        places("f32", (dim,), 0, keep=2)


def test_keys_that_share_bytes_and_rows_that_are_sorted():
    rising = np.arange(5000, dtype=np.int32)
    rows = [rising, rising[::-1], np.zeros(5000, np.int32), rising % 7, rising << 16, -rising]
    agree(places("i32", (len(rows), 5000), 1), np.stack(rows))
    agree(places("i32", (len(rows), 5000), 1, True), np.stack(rows))
    agree(places("i32", (len(rows), 5000), 1, True, 20), np.stack(rows))


def of_all(x):
    found, order = ops.sort(x, 1)
    return (found * ops.sqrt(ops.abs(x) + 1)).sum() + order.sum() * 0.0


def of_some(x):
    found, _ = ops.topk(x, 3)
    low, _ = ops.topk(x, 2, 0, False)
    return (found * found).sum() + (low * x[:2]).sum()


@pytest.mark.parametrize("fn", [of_all, of_some])
def test_gradients(fn):
    x = np.random.default_rng(2).normal(size=(4, 9))
    found = cellc.jit(cellc.grad(fn))(Tensor(x)).asnumpy()
    value = cellc.jit(fn)
    for at in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[at] = 1e-6
        up, down = (float(value(Tensor(x + s))) for s in (step, -step))
        assert found[at] == pytest.approx((up - down) / 2e-6, rel=1e-6, abs=1e-8)


def test_a_list_that_grows_as_data_decide():
    @cellc.jit
    def halvings(x):
        found = [x]
        while x > 0.001:
            x = 0.5 * x + 0.0001
            found.append(x)
        return ops.sort(ops.stack(found))[0]

    found = halvings(1.0).asnumpy()
    assert len(found) > 8 and (np.diff(found) > 0).all() and found[-1] == 1.0


def test_the_work_is_linear_in_the_size():
    """Two hundred thousand elements: to count each against all others is 4e10 comparisons."""
    x = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    start = time.perf_counter()
    found, order = cellc.jit(lambda x: ops.sort(x))(Tensor(x))
    assert time.perf_counter() - start < 20
    np.testing.assert_array_equal(order.asnumpy(), np.argsort(x, kind="stable"))
    np.testing.assert_array_equal(found.asnumpy(), np.sort(x))
