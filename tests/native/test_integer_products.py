"""Products of integers are loop nests: they wrap, at every size and layout, symbolic ones too."""

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
