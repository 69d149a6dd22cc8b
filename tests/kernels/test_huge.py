"""Arrays of more elements than 32 bits count: what lies at their ends is found there."""

import os

import numpy as np
import pytest

import cellc
from cellc import Tensor, ops

MOST = (1 << 32) + 4099         # elements of a byte
ROWS, COLUMNS = 65_700, 65_411
SIDE = 46_400                   # of a square of f16, with more elements than a signed word counts


def needs(bytes_: int) -> None:
    """For arrays and what is made of them."""
    if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < bytes_:
        pytest.skip(f"{bytes_ >> 30} GiB of memory are not free")


def marked(shape, dtype, *places) -> Tensor:
    """Zero but for 1, 2, ... at the places."""
    x = np.zeros(shape, dtype)
    for i, place in enumerate(places):
        x[place] = i + 1
    return Tensor(x)


def ends(x):
    return x[:5] + 1, x[-5:] * 2, ops.argmax(x), x.max()


def last_rows(x):
    return x.max(1)[-3:], x.max(0)[-3:], x[-2:, -4:]


def moved(x):
    return ops.roll(x, 1, 0)[0, -3:], ops.pad(x, (1, 0, 1, 0))[-1, -3:], x.T[-1, -3:]


def times(x, y):
    return ops.matmul(x, y), ops.matmul(y.T, x)


@pytest.mark.slow
def test_one_axis():
    needs(10 << 30)
    first, last, place, most = cellc.jit(ends)(marked(MOST, np.uint8, 1, -3, -2))
    assert first.asnumpy().tolist() == [1, 2, 1, 1, 1]
    assert last.asnumpy().tolist() == [0, 0, 4, 6, 0]
    assert (place.item(), most.item()) == (MOST - 2, 3)


@pytest.mark.slow
def test_rows_and_columns():
    needs(10 << 30)
    x = marked((ROWS, COLUMNS), np.uint8, (-1, -2), (-2, -1))
    rows, columns, corner = cellc.jit(last_rows)(x)
    assert rows.asnumpy().tolist() == [0, 2, 1] and columns.asnumpy().tolist() == [0, 1, 2]
    assert corner.asnumpy().tolist() == [[0, 0, 0, 2], [0, 0, 1, 0]]
    rolled, padded, turned = cellc.jit(moved)(x)
    assert rolled.asnumpy().tolist() == padded.asnumpy().tolist() == [0, 1, 0]
    assert turned.asnumpy().tolist() == [0, 2, 0]


@pytest.mark.slow
def test_product():
    needs(10 << 30)
    x = marked((SIDE, SIDE), np.float16, (-1, -1), (-2, -3))
    column = np.zeros((SIDE, 1), np.float16)
    column[-3:, 0] = 3, 5, 7
    right, left = cellc.jit(times)(x, Tensor(column))
    assert right.asnumpy()[-3:, 0].tolist() == [0, 6, 7]
    assert left.asnumpy()[0, -3:].tolist() == [10, 0, 7]
