"""Reading and adding at places given by an integer tensor, each the other's adjoint; and who names
a place last."""

from __future__ import annotations

import numpy as np

from cellc.errors import IndexFault, ShapeFault, TypeFault
from cellc.ir import numerics as num
from cellc.ir.graph import primitive
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import shape as s
from cellc.ir.prims.checks import NUMBER, axis_of, takes_tensor
from cellc.ir.prims.rules import lanes_first, linear, together
from cellc.ir.types import Dim, TensorType, i32, i64


def _takes_index(prim: str, index) -> None:
    if takes_tensor(prim, index).dtype not in (i32, i64):
        raise TypeFault(f"{prim}: found index {index}, expected i32 or i64",
                        "cast the index to int32 or int64")


def _check_index(index: np.ndarray, n: int) -> None:
    outside = (index < 0) | (index >= n)
    if outside.any():
        raise IndexFault(f"index {index[outside].flat[0]} is out of range for a size of {n}",
                         f"indices from 0 to {n - 1}")


def _gather_types(x, index, axis):
    axis_of("gather", takes_tensor("gather", x), axis)
    _takes_index("gather", index)
    return x.with_shape((*x.shape[:axis], *index.shape, *x.shape[axis + 1:]))


def _gather(x, index, axis):
    _check_index(np.asarray(index), x.shape[axis])
    return np.asarray(np.take(x, index, axis))


def _in_one_row(n, index, size):
    """The index of each lane in a row of n * size places, `size` for each lane, one after another.

    What was outside of 0 to size - 1 stays outside of the row: it must not reach another lane.
    """
    from cellc.ir import arith

    wide = arith.cast(index, i64)
    width, end = (arith.size_number(d) if isinstance(d, Dim) else d for d in (size, n * size))
    start = arith.mul(s.iota(shape=wide.shape, axis=0, dtype=i64), width)
    inside = e.bit_and(arith.greater_equal(wide, 0), arith.less(wide, width))
    beyond = arith.where(arith.less(wide, 0), wide, arith.add(wide, end))
    return arith.where(inside, arith.add(wide, start), beyond)


def _moved(x, source: int, target: int):
    """x with one axis moved to another place."""
    order = [i for i in range(len(x.shape)) if i != source]
    order.insert(target, source)
    return x if order == sorted(order) else s.transpose(x, perm=tuple(order))


def _gather_batch(n, lanes, x, index, axis):
    """By shared indices the axis is one further; else the rows of all lanes become one row."""
    if not lanes[1]:
        return gather(x, index, axis=axis + 1)
    if not lanes[0]:
        return lanes_first(gather(x, index, axis=axis), axis)
    x = _moved(x, 0, axis)
    size, rest = x.shape[axis + 1], (x.shape[:axis], x.shape[axis + 2:])
    row = s.reshape(x, shape=(*rest[0], n * size, *rest[1]))
    return lanes_first(gather(row, _in_one_row(n, index, size), axis=axis), axis)


gather = primitive(
    "gather", "x index", doc="x at the indices along an axis; an index outside is a fault.",
    kind="kernel", types=_gather_types, eval=_gather,
    vjp=lambda g, y, x, index, axis: [
        scatter_add(index, g, axis=axis, size=x.shape[axis]), None],
    jvp=linear("gather"), batch=_gather_batch,
    samples=lambda: [
        ([np.arange(12.0).reshape(3, 4), np.array([2, 0, 2])], {"axis": 0}),
        ([np.arange(12.0).reshape(3, 4), np.array([[1, 3], [3, 3]])], {"axis": 1}),
        ([np.arange(3.0), np.array(1, np.int32)], {"axis": 0}),
        ([np.arange(3.0), np.zeros((0,), np.int64)], {"axis": 0})])


def _scatter_add_types(index, updates, axis, size):
    _takes_index("scatter_add", index)
    takes_tensor("scatter_add", updates, NUMBER)
    if not 0 <= axis <= updates.ndim - index.ndim:
        raise ShapeFault(f"scatter_add: found axis {axis} for index {index} and {updates}, "
                         f"expected 0 to {updates.ndim - index.ndim}")
    if updates.shape[axis:axis + index.ndim] != index.shape:
        raise ShapeFault(f"scatter_add: found index {index} and updates {updates}, expected the "
                         f"index's shape at axis {axis} of the updates")
    return updates.with_shape((*updates.shape[:axis], size, *updates.shape[axis + index.ndim:]))


def _scatter_add(index, updates, axis, size):
    index = np.asarray(index)
    _check_index(index, size)
    lead, tail = updates.shape[:axis], updates.shape[axis + index.ndim:]
    result = np.zeros((size, *lead, *tail), updates.dtype)
    rows = np.moveaxis(updates.reshape(*lead, index.size, *tail), axis, 0)
    np.add.at(result, index.reshape(-1), rows)
    return np.moveaxis(result, 0, axis)


def _round_updates(index, updates, axis, size):
    """f16 and bf16 accumulate in f32."""
    result = _scatter_add(index, num.to_compute(updates), axis, size)
    return num.from_compute(result, num.dtype_of(updates))


def _scatter_add_batch(n, lanes, index, updates, axis, size):
    """To shared indices the axis is one further; else the rows of all lanes become one row."""
    if not lanes[0]:
        return scatter_add(index, updates, axis=axis + 1, size=size)
    index, updates = together(n, lanes, (index, updates))
    updates = _moved(updates, 0, axis)
    row = scatter_add(_in_one_row(n, index, size), updates, axis=axis, size=n * size)
    apart = s.reshape(row, shape=(*row.shape[:axis], n, size, *row.shape[axis + 1:]))
    return lanes_first(apart, axis)


scatter_add = primitive(
    "scatter_add", "index updates",
    doc="Zeros of the given size along an axis, with each update added at its index.",
    kind="kernel", types=_scatter_add_types, eval=_round_updates,
    vjp=lambda g, y, index, updates, axis, size: [None, gather(g, index, axis=axis)],
    jvp=linear("scatter_add", 1), batch=_scatter_add_batch,
    samples=lambda: [
        ([np.array([2, 0, 2]), np.arange(12.0).reshape(3, 4)], {"axis": 0, "size": 4}),
        ([np.array([[1, 0], [1, 1]]), np.arange(8.0).reshape(2, 2, 2)], {"axis": 1, "size": 3}),
        ([np.array(1), np.array(5.0)], {"axis": 0, "size": 3})])


def _last_entry_types(index, size):
    _takes_index("last_entry", index)
    if index.ndim != 1:
        raise ShapeFault(f"last_entry: found index {index}, expected one axis")
    return TensorType(i64, (size,))


def _last_entry(index, size):
    index = np.asarray(index)
    _check_index(index, size)
    last = np.full(size, -1, np.int64)
    last[index] = np.arange(index.size)             # NumPy writes in order
    return last


def _last_entry_batch(n, lanes, index, size):
    """The places of all lanes in one row, whose entries are numbered through all lanes."""
    from cellc.ir import arith

    count = index.shape[1]
    row = s.reshape(_in_one_row(n, index, size), shape=(n * count,))
    last = s.reshape(last_entry(row, size=n * size), shape=(n, size))
    first = arith.mul(s.iota(shape=(n, size), axis=0, dtype=i64),
                      arith.size_number(count) if isinstance(count, Dim) else count)
    return arith.where(arith.less(last, 0), last, arith.sub(last, first))


last_entry = primitive(
    "last_entry", "index", doc="For each of `size` places the number of the last entry of the "
    "index that names it, else -1.", kind="kernel", types=_last_entry_types, vjp=None,
    eval=_last_entry, batch=_last_entry_batch,
    samples=lambda: [([np.array([2, 0, 2, 2])], {"size": 4}),
                     ([np.array([1], np.int32)], {"size": 3}),
                     ([np.zeros(0, np.int64)], {"size": 3}),
                     ([np.arange(70) * 7 % 50], {"size": 60})])
