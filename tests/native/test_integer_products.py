"""Products of integers: they wrap, at every size and layout, symbolic ones too. Those of bytes that
are summed in int32 are products of floats that round nothing; all others are loop nests."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, ops

DTYPES = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
SHAPES = [((3, 4), (4,)), ((4,), (4, 5)), ((4,), (4,)), ((7, 65), (65, 130)), ((0, 4), (4, 3)),
          ((3, 0), (0, 4)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2))]


@pytest.fixture(autouse=True)
def graph_mode():
    context.set_context(mode=context.GRAPH_MODE)


def whole_range(shape, dtype):
    info = np.iinfo(dtype)
    return np.random.default_rng(1).integers(info.min, info.max, shape, dtype, endpoint=True)


def product(x, y):
    return ops.matmul(x, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("left, right", SHAPES)
def test_shapes(dtype, left, right):
    a, b = whole_range(left, dtype), whole_range(right, dtype)
    np.testing.assert_array_equal(cellc.jit(product)(Tensor(a), Tensor(b)).asnumpy(), a @ b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("summed", [False, True])
def test_sizes_that_change(dtype, summed):
    """The third size of the rows, or of what is summed over, makes it symbolic."""
    f = cellc.jit(product)
    for n in (3, 4, 5, 70, 0, 1):
        a, b = ((6, n), (n, 5)) if summed else ((n, 6), (6, 5))
        a, b = whole_range(a, dtype), whole_range(b, dtype)
        np.testing.assert_array_equal(f(Tensor(a), Tensor(b)).asnumpy(), a @ b)


# -- bytes, summed in int32 ------------------------------------------------------------------------
BYTE_SHAPES = [*SHAPES, ((33, 3000), (3000, 17)), ((1, 1000), (1000, 100)),
               ((100, 2000), (2000, 1)), ((128, 1025), (1025, 48)), ((5, 64, 300), (5, 300, 24)),
               ((2, 150_000), (150_000, 2))]
FILLS = {
    "any": whole_range,
    "least": lambda shape, dtype: np.full(shape, np.iinfo(dtype).min, dtype),
    "most": lambda shape, dtype: np.full(shape, np.iinfo(dtype).max, dtype),
}


def widened(x, y):
    return ops.matmul(x.astype(cellc.int32), y.astype(cellc.int32))


def expected(a, b):
    return np.matmul(a.astype(np.int32), b.astype(np.int32))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("left, right", BYTE_SHAPES)
@pytest.mark.parametrize("fill", FILLS)
def test_sums_of_bytes_are_exact(dtype, left, right, fill):
    """Where they exceed what f32 holds exactly, and what int32 holds, they wrap."""
    a, b = FILLS[fill](left, dtype), FILLS[fill](right, dtype)
    got = cellc.jit(widened)(Tensor(a), Tensor(b)).asnumpy()
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, expected(a, b))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("transposed", ["left", "right", "both"])
def test_transposed_bytes(dtype, transposed):
    def program(x, y):
        x = x.T if transposed != "right" else x
        y = y.T if transposed != "left" else y
        return widened(x, y)

    a, b = whole_range((70, 530), dtype), whole_range((530, 90), dtype)
    x, y = a.T if transposed != "right" else a, b.T if transposed != "left" else b
    got = cellc.jit(program)(Tensor(x.copy()), Tensor(y.copy())).asnumpy()
    np.testing.assert_array_equal(got, expected(a, b))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("summed", [False, True])
def test_bytes_of_sizes_that_change(dtype, summed):
    f = cellc.jit(widened)
    for n in (3, 4, 5, 700, 0, 1):
        a, b = ((6, n), (n, 50)) if summed else ((n, 60), (60, 50))
        a, b = whole_range(a, dtype), whole_range(b, dtype)
        np.testing.assert_array_equal(f(Tensor(a), Tensor(b)).asnumpy(), expected(a, b))


def test_a_layer_of_bytes():
    """Scaled to floats, and to bytes again, beside eager mode."""
    def layer(x, w, scale):
        y = ops.relu(widened(x, w).astype(cellc.float32) * scale)
        return ops.minimum(ops.round(y), 127.0).astype(cellc.int8)

    args = [Tensor(whole_range((48, 200), "int8")), Tensor(whole_range((200, 70), "int8")),
            Tensor(np.linspace(1e-4, 1e-3, 70, dtype=np.float32))]
    got = cellc.jit(layer)(*args).asnumpy()
    context.set_context(mode=context.PYNATIVE_MODE)
    np.testing.assert_array_equal(got, layer(*args).asnumpy())


def test_bytes_are_read_as_they_are():
    x = Tensor(whole_range((40, 50), "int8"))
    graph = str(cellc.inspect(lambda x: widened(x, x.T), x).graph)
    assert "dtype=i32" in graph and "cast" not in graph


@pytest.mark.parametrize("cpu", ["x86-64-v3", "x86-64"])
def test_bytes_on_narrower_vectors(cpu):
    from cellc.ir.prims import contraction
    from cellc.ir.types import TensorType, i8, i32
    from cellc.kernels.target import TARGETS
    from tests.kernel_runner import agree, build

    def product(x, y):
        return contraction.dot(x, y, contract=((1,), (0,)), batch=((), ()), dtype=i32)

    graph = build(product, TensorType(i8, (37, 1100)), TensorType(i8, (1100, 29)))
    agree(graph, whole_range((37, 1100), "int8"), whole_range((1100, 29), "int8"),
          target=TARGETS[cpu])
