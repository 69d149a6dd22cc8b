"""Arrays of more than 2^31 elements: addresses, sums, indices and products past what 32 bits hold.

Almost all elements are zero, so what the few others give is known without going through them.
"""

import os

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, ops

BYTES = 12 << 30
AVAILABLE = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(AVAILABLE < BYTES, reason="needs 12 GiB of memory")]
SIZE = 2**31 + 17
PLACES = {5: 9, 2**31 - 1: 7, SIZE - 3: 1, SIZE - 2: 2, SIZE - 1: 3}
ROWS, COLUMNS = 65_537, 32_768          # of f16
ROW, LAST = 40_000, ROWS - 1


@pytest.fixture(autouse=True)
def graph_mode():
    context.set_context(mode=context.GRAPH_MODE)


def test_a_long_array():
    x = np.zeros(SIZE, np.uint8)
    for place, value in PLACES.items():
        x[place] = value
    x = Tensor(x)
    more = cellc.jit(lambda x: x + 1)(x).asnumpy()
    assert more.shape == (SIZE,) and [more[i] for i in (100, *PLACES)] == [1, 10, 8, 2, 3, 4]
    del more
    assert int(cellc.jit(lambda x: x.astype(cellc.int64).sum())(x)) == sum(PLACES.values())
    largest = cellc.jit(lambda x: ops.argmax(x[1000:].astype(cellc.int32)))(x)
    assert int(largest) == 2**31 - 1 - 1000
    at = Tensor(np.array([*PLACES, 100]))
    found = cellc.jit(lambda x, at: ops.gather(x, at, 0))(x, at)
    assert found.asnumpy().tolist() == [*PLACES.values(), 0]


def test_a_large_matrix():
    rng = np.random.default_rng(0)
    a = np.zeros((ROWS, COLUMNS), np.float16)
    a[LAST], a[ROW, -5:] = rng.normal(size=COLUMNS), 2.0
    v = rng.normal(size=(COLUMNS, 3)).astype(np.float16)
    rows = a[[ROW, LAST]].astype(np.float64)
    a = Tensor(a)

    def halves(a, v):
        return ops.matmul(a, v).astype(cellc.float32)

    def sums(a):
        return a.astype(cellc.float32).sum(1), a.astype(cellc.float32).sum(0)

    def zero_but(got, wanted, tolerance):
        assert np.count_nonzero(got) == wanted.size
        np.testing.assert_allclose(got[[ROW, LAST]], wanted, tolerance)

    zero_but(cellc.jit(halves)(a, Tensor(v)).asnumpy(), rows @ v.astype(np.float64), 2e-3)
    by_row, by_column = (x.asnumpy() for x in cellc.jit(sums)(a))
    zero_but(by_row, rows.sum(1), 1e-4)
    np.testing.assert_allclose(by_column, rows.sum(0), 1e-6)
    ones = Tensor(np.ones((1, ROWS), np.float16))
    np.testing.assert_allclose(cellc.jit(halves)(ones, a).asnumpy()[0], rows.sum(0), 1e-3)


def test_moving_what_unsigned_words_do_not_count():
    x = np.zeros((65_700, 65_411), np.uint8)
    x[-1, -2], x[-2, -1] = 1, 2
    rolled, padded, turned = (y.asnumpy().tolist() for y in cellc.jit(lambda x: (
        ops.roll(x, 1, 0)[0, -3:], ops.pad(x, (1, 0, 1, 0))[-1, -3:], x.T[-1, -3:]))(Tensor(x)))
    assert rolled == padded == [0, 1, 0] and turned == [0, 2, 0]
