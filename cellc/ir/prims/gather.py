"""Reading and adding at places given by an integer tensor; each is the other's adjoint."""

from __future__ import annotations

import numpy as np

from cellc.errors import IndexFault, ShapeFault, TypeFault
from cellc.ir import numerics as num
from cellc.ir.graph import primitive
from cellc.ir.prims.checks import NUMBER, axis_of, takes_tensor
from cellc.ir.types import i32, i64


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


gather = primitive(
    "gather", "x index", doc="x at the indices along an axis; an index outside is a fault.",
    kind="kernel", types=_gather_types, eval=_gather,
    vjp=lambda g, y, x, index, axis: [
        scatter_add(index, g, axis=axis, size=x.shape[axis]), None],
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


scatter_add = primitive(
    "scatter_add", "index updates",
    doc="Zeros of the given size along an axis, with each update added at its index.",
    kind="kernel", types=_scatter_add_types, eval=_round_updates,
    vjp=lambda g, y, index, updates, axis, size: [None, gather(g, index, axis=axis)],
    samples=lambda: [
        ([np.array([2, 0, 2]), np.arange(12.0).reshape(3, 4)], {"axis": 0, "size": 4}),
        ([np.array([[1, 0], [1, 1]]), np.arange(8.0).reshape(2, 2, 2)], {"axis": 1, "size": 3}),
        ([np.array(1), np.array(5.0)], {"axis": 0, "size": 3})])
