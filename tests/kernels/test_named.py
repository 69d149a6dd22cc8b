"""Every primitive of the table as a kernel of its own, on its own samples, and kernels by name."""

import ctypes
import dataclasses

import numpy as np
import pytest

from cellc.ir import numerics as num
from cellc.ir.graph import PRIMITIVES, Apply, Graph, Input
from cellc.ir.interpret import interpret
from cellc.ir.prims import contraction, gather, reduce, shape
from cellc.ir.prims import elementwise as e
from cellc.ir.types import TensorType, dtype, f32, i64
from cellc.kernels import scan
from cellc.kernels.target import host
from tests.kernel_runner import Compiled, agree, build, close

KINDS = ("elementwise", "reduce", "view", "kernel")
ABOUT = {"lgamma": 1e-4, "digamma": 1e-4, "polygamma": 1e-3}


def group(prim, operands, attrs, of):
    """The graph of one apply and its arrays in a dtype; None where the primitive refuses it."""
    arrays = [convert(x, of) for x in operands]
    inputs = [Input(TensorType(num.dtype_of(x), np.shape(x)), f"x{i}")
              for i, x in enumerate(arrays)]
    try:
        node = Apply(prim, tuple(inputs), attrs)
    except (TypeError, ValueError):
        return None
    if any(not isinstance(n, int) for n in node.type.shape):
        return None
    return Graph(prim.name, inputs, [node], node), arrays


def convert(array, of):
    """A sample operand in a dtype; indices and keys keep theirs."""
    array = np.asarray(array)
    return num.cast(array, of) if array.dtype.kind == "f" else array


def samples():
    for prim in PRIMITIVES.values():
        if prim.kind in KINDS and prim.samples is not None and prim.name not in (
                "dim_size", "to_scalar"):
            for of in map(dtype, ("f32", "f64", "f16", "bf16", "i32", "u8", "bool")):
                groups = [group(prim, *sample, of) for sample in prim.samples()]
                if any(groups):
                    yield pytest.param([g for g in groups if g], of, id=f"{prim.name}-{of}")


@pytest.mark.parametrize("groups,of", list(samples()))
def test_samples_of_the_table(groups, of):
    usual = {"f16": 4e-3, "bf16": 3e-2, "f64": 1e-9}.get(of.name, 2e-5)
    for graph, arrays in groups:
        with np.errstate(all="ignore"):
            agree(graph, *arrays, tolerance=max(ABOUT.get(graph.name, 0), usual))


def t(*sizes, of=f32):
    return TensorType(of, sizes)


@pytest.mark.parametrize("axis,sizes", [(1, (3, 997)), (1, (1, 2, 500, 1)), (0, (1, 999)),
                                        (0, (1,) * 40), (1, (700, 5, 700))])
def test_each_piece_of_a_concat_is_copied_once(axis, sizes):
    """Small ones too, which alone would not be shared."""
    shapes = [(800, n) if axis else (n, 900) for n in sizes]
    graph = build(lambda *xs: shape.concat(*xs, axis=axis), *(t(*each) for each in shapes))
    compiled = agree(graph, target=dataclasses.replace(host(), threads=4))
    (phase, tasks), = compiled.kernel.phases
    assert tasks > 1
    result = compiled.keep[len(sizes)]
    places = (ctypes.c_void_p * len(compiled.keep))(*(a.ctypes.data for a in compiled.keep))
    times = np.zeros(result.shape, int)
    for task in range(tasks):
        result.fill(np.nan)
        compiled.function(phase)(ctypes.addressof(places), task, tasks)
        times += ~np.isnan(result)
    assert (times == 1).all()


def test_an_index_outside_is_recorded_and_clamped():
    graph = build(lambda x, i: gather.gather(x, i, axis=0), t(5, 40), t(3, of=i64))
    compiled = Compiled(graph)
    x = np.arange(200, dtype=np.float32).reshape(5, 40)
    found = compiled(x, np.array([1, 7, 2]))
    assert list(compiled.error[:4]) == [1, 0, 7, 5]
    np.testing.assert_array_equal(found[[0, 2]], x[[1, 2]])
    compiled(x, np.array([4, 0, 2]))
    assert compiled.error[0] == 0


def test_an_index_outside_in_a_vector_of_indices():
    graph = build(lambda x, i: gather.gather(x, i, axis=0), t(50), t(40, of=i64))
    compiled = Compiled(graph)
    at = np.arange(40)
    at[21] = -3
    compiled(np.zeros(50, np.float32), at)
    assert list(compiled.error[:4]) == [1, 0, -3, 50]


def test_scatter_add_meets_equal_indices():
    rng = np.random.default_rng(0)
    index, updates = rng.integers(0, 6, (4, 50)), rng.standard_normal((4, 50, 37))
    agree(build(lambda i, u: gather.scatter_add(i, u, axis=0, size=6), t(4, 50, of=i64),
                t(4, 50, 37)), index, updates.astype(np.float32), tolerance=1e-4, shared=True)


@pytest.mark.parametrize("stride,size", [(2, 3), (3, 2), (2, 2)])
def test_windows_add_with_a_stride(stride, size):
    n = (9 - size) // stride + 1
    agree(build(lambda w: shape.windows_add(w, shape=(9, 9), strides=(stride,) * 2,
                                            dilations=(1, 1)), t(2, n, n, size, size)), shared=True)


def product(a, b, **attrs):
    return contraction.dot(a, b, **({"contract": ((1,), (0,)), "batch": ((), ())} | attrs))


def convolved(x, w):
    y = product(w, shape.windows(x, sizes=(3, 3), strides=(1, 1), dilations=(1, 1)),
                contract=((1, 2, 3), (1, 4, 5)))
    return shape.transpose(y, perm=(1, 0, 2, 3))


PRODUCTS = {
    "plain": (product, t(12, 30), t(30, 20)),
    "transposed result": (lambda x, w: shape.transpose(product(x, w), perm=(1, 0)), t(12, 30),
                          t(30, 20)),
    "bias": (lambda x, w, b: product(x, w) + shape.broadcast(b, shape=(12, 20), dims=(1,)),
             t(12, 30), t(30, 20), t(20)),
    "transposed operand": (lambda x, w: product(x, shape.transpose(w, perm=(1, 0))), t(12, 30),
                           t(20, 30)),
    "convolution": (convolved, t(4, 3, 10, 10), t(6, 3, 3, 3)),
    "convolution with bias": (
        lambda x, w, b: convolved(x, w) + shape.broadcast(b, shape=(4, 6, 8, 8), dims=(1,)),
        t(4, 3, 10, 10), t(6, 3, 3, 3), t(6)),
    "batched": (lambda a, b: product(a, b, contract=((2,), (1,)), batch=((0,), (0,))),
                t(3, 5, 7), t(3, 7, 9)),
    "heads": (lambda a, b: product(
        shape.transpose(shape.reshape(a, shape=(2, 5, 3, 4)), perm=(0, 2, 1, 3)),
        shape.transpose(shape.reshape(b, shape=(2, 6, 3, 4)), perm=(0, 2, 1, 3)),
        contract=((3,), (3,)), batch=((0, 1), (0, 1))), t(2, 5, 12), t(2, 6, 12)),
    "one column": (
        lambda x, w, b: e.exp(product(x, w) * 0.1 + shape.broadcast(b, shape=(12, 1), dims=(1,))),
        t(12, 30), t(30, 1), t(1)),
    "one row": (
        lambda x, w, b: product(x, w) + shape.broadcast(b, shape=(1, 20), dims=(1,)), t(1, 30),
        t(30, 20), t(20)),
    "one element": (lambda x, y, b: e.exp(product(x, y, contract=((0,), (0,))) + b), t(50), t(50),
                    t()),
    "i8": (product, t(5, 7, of=dtype("i8")), t(7, 3, of=dtype("i8"))),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_product(name):
    function, *types = PRODUCTS[name]
    agree(build(function, *types), tolerance=1e-4)


def test_results_are_compared():
    with pytest.raises(AssertionError):
        close(np.float32([1.0]), np.float32([1.1]))


@pytest.mark.parametrize("of", ["f32", "f64", "bf16", "i32", "u8", "i64"])
@pytest.mark.parametrize("reverse", [False, True])
def test_running_sums(of, reverse):
    """Rows and columns shorter and longer than vectors, and shared by any number of tasks."""
    for sizes, axis in [((1,), 0), ((7,), 0), ((100,), 0), ((3, 64), 1), ((5, 33), 0),
                        ((9, 200), 0), ((2, 17, 3), 1), ((4, 1, 70), 2), ((0, 5), 1), ((5, 0), 1)]:
        x = Input(TensorType(dtype(of), sizes), "x")
        node = Apply(reduce.cumsum, (x,), {"axis": axis, "reverse": reverse})
        graph = Graph("sums", [x], [node], node)
        array = convert(np.random.default_rng(1).normal(0, 3, sizes), dtype(of))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scan, "SHARED_SECONDS", 0.0)
            many = Compiled(graph, dataclasses.replace(host(), threads=4))
        first = many(array)
        close(first, interpret(graph, array))
        for n_tasks in (1, 3):
            np.testing.assert_array_equal(many(array, n_tasks=n_tasks), first)
