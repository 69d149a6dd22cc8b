"""What a group looks like to people."""

import pytest

from cellc.ir.prims import contraction, shape
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import reduce as r
from cellc.ir.types import TensorType, f32, i64
from cellc.kernels.group import describe
from cellc.kernels.target import TARGETS
from tests.kernel_runner import build

TARGET = TARGETS["x86-64-v4"]


def t(*sizes):
    return TensorType(f32, sizes)


def softmax(x):
    powers = e.exp(x - shape.broadcast(r.reduce_max(x, axes=(1,)), shape=x.shape, dims=(0,)))
    total = r.reduce_sum(powers, axes=(1,))
    return powers / shape.broadcast(total, shape=x.shape, dims=(0,))


def test_a_loop_nest():
    assert describe(build(softmax, t(64, 40)), TARGET) == """\
kernel g
rows i0:64; sweeps over i1:40
  sweep 0:
    %0 = x0[40*i0 + i1]
    %1 = max over i1 %0
  sweep 1:
    %2 = sub(%0, %1)
    %3 = exp(%2)
    %4 = add over i1 %3
  sweep 2:
    %5 = div(%3, %4)
    out0[40*i0 + i1] = %5
schedule: rows i0, reduced i1, vector i1 x 16 x 2/2/2, 2 rows together, \
1 values kept for later sweeps"""


def test_a_product():
    def layer(x, w, b):
        y = contraction.dot(x, shape.transpose(w, perm=(1, 0)), contract=((1,), (0,)),
                            batch=((), ()))
        return e.tanh(y + shape.broadcast(b, shape=y.shape, dims=(1,)))

    assert describe(build(layer, t(8, 5), t(6, 5), t(6)), TARGET) == """\
kernel g
product over rows m1:8, cols n2:6, summed k0:5
  a = x0[5*m1 + k0]
  b = x1[5*n2 + k0]
  out[6*m1 + n2], then add tanh"""


def test_a_named_kernel():
    graph = build(lambda x: shape.concat(x, x, axis=0), t(3))
    assert describe(graph, TARGET) == "kernel g: concat"


def test_the_next_row_is_fetched_where_memory_would_be_waited_for():
    long = describe(build(softmax, t(4096, 768)), TARGET)
    assert "x 16 x 2/2/2" in long and "2 arrays fetched a row ahead" in long
    assert "fetched" not in describe(build(softmax, t(64, 768)), TARGET)        # in the cache
    assert "fetched" not in describe(build(softmax, t(4, 1 << 20)), TARGET)     # long rows


@pytest.mark.parametrize("columns, kept", [(768, True), (1 << 18, True), (1 << 19, False)])
def test_what_a_row_needs_again_is_kept_as_far_as_the_second_level_cache_goes(columns, kept):
    assert TARGET.l2_bytes == 1 << 20
    assert ("values kept" in describe(build(softmax, t(4, columns)), TARGET)) == kept


def test_what_an_inner_loop_computes_again_is_counted_each_time():
    """Distances of all pairs: along `y`'s rows lanes lie apart, in the loop over those of `x`."""
    def distances(x, y):
        shape_ = (500, 600, 64)
        d = shape.broadcast(x, shape=shape_, dims=(0, 2)) - shape.broadcast(y, shape=shape_,
                                                                            dims=(1, 2))
        return r.reduce_sum(d * d, axes=(2,))

    assert "vector r2" in describe(build(distances, t(500, 64), t(600, 64)), TARGET)


@pytest.mark.parametrize("rows, strips", [(2048, "x 16 x 16"), (64, "x 16 x 4")])
def test_columns_of_large_arrays_are_summed_in_wide_strips(rows, strips):
    graph = build(lambda x: r.reduce_sum(x, axes=(0,)), t(rows, 2048))
    assert strips in describe(graph, TARGET)


def test_what_is_the_same_in_all_lanes_is_counted_once():
    """A mask of rows, times a matrix that is read along its rows."""
    def chosen(w):
        shape_ = (64, 64, 64)
        same = e.eq(shape.iota(shape=shape_, axis=0, dtype=i64),
                    shape.iota(shape=shape_, axis=1, dtype=i64))
        return r.reduce_sum(e.cast(same, dtype=f32) * shape.broadcast(w, shape=shape_, dims=(1, 2)),
                            axes=(1,))

    assert "vector i1" in describe(build(chosen, t(64, 64)), TARGET)
