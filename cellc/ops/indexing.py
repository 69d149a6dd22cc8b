"""Reading and replacing elements: `x[...]` in all its forms, take, gather, one_hot.

An index is read from the left: an int takes one place and drops the axis; a slice, `...` and None
do as in NumPy; an integer tensor (or list of ints, or an int known only when the program runs)
takes the places it lists; several broadcast together. A bool tensor takes the places where it
holds: their number depends on the values, so only eager mode has it.
Indices out of range are an IndexFault: at once where the index is known, else when the program
runs.
"""

from __future__ import annotations

import math

import numpy as np

from cellc.errors import IndexFault, ShapeFault, TypeFault
from cellc.ir import arith
from cellc.ir.graph import Constant, fill
from cellc.ir.prims import element as el
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import gather as g
from cellc.ir.prims import reduce as r
from cellc.ir.prims import shape as s
from cellc.ir.types import Dim, TensorType, boolean, dtype, f32, i32, i64
from cellc.ops.common import axis_of, building, known_int, tensor_of
from cellc.ops.place import is_traced, place_at, place_of
from cellc.ops.shape import reshape, transpose

# -- an index, sorted out -------------------------------------------------------------------------


def _as_tensor(part):
    """Lists and arrays of ints or bools as tensors; other parts unchanged."""
    if isinstance(part, (list, np.ndarray, range)):
        if building():
            array = np.asarray([int(i) for i in part] if isinstance(part, range) else part)
            return Constant(TensorType(dtype(array.dtype), array.shape), array)
        from cellc.tensor import Tensor

        return Tensor(list(part) if isinstance(part, range) else part,
                      "int64" if len(part) == 0 else None)
    if isinstance(part, np.generic):
        return part.item()
    return part


def _parts(x, index) -> list:
    """The index as a list with one part for each axis of x, Nones between, no Ellipsis."""
    index = index if isinstance(index, tuple) else (index,)
    parts = []
    for part in map(_as_tensor, index):
        if is_traced(part) and arith.type_of(part).dtype is boolean:
            parts.extend(_places(part))
        else:
            parts.append(part)
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    ndim = len(x.shape)
    if taken > ndim:
        raise IndexFault(f"{taken} indices for a tensor of shape {list(x.shape)}")
    dots = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1:
        raise IndexFault("an index may have one ellipsis only")
    at = dots[0] if dots else len(parts)
    return parts[:at] + [slice(None)] * (ndim - taken) + parts[at + 1:]


def _places(mask) -> list:
    """Where a bool tensor holds, one index tensor for each of its axes."""
    if building():
        raise TypeFault("an index by a bool tensor in compiled code: the result's shape would "
                        "depend on the values", "ops.where(mask, x, other), or eager mode")
    from cellc.tensor import wrap

    array = np.asarray(tensor_of(mask).asnumpy())
    return [wrap(np.ascontiguousarray(i), TensorType(i64, i.shape)) for i in array.nonzero()]


def _bounds(part: slice, n):
    """(start, stop, step, flipped) of a slice; a backward one reads forward and is then flipped."""
    for value in (part.start, part.stop, part.step):
        if is_traced(value):
            raise TypeFault("a slice bound that is known only when the program runs: the shape "
                            "would depend on it", "use a known int, or index with a tensor")
    if part == slice(None) or (part.start in (None, 0) and part.stop in (None, n)
                               and part.step in (None, 1)):
        return 0, n, 1, False
    if isinstance(n, Dim):
        if part.step in (None, 1) and part.stop is None and isinstance(part.start, int):
            return n - (n - part.start), n, 1, False
        if part.start in (None, 0) and part.step in (None, 1) and isinstance(part.stop, int) and (
                0 <= part.stop <= n):
            return 0, part.stop, 1, False
    start, stop, step = slice(*(None if v is None else known_int(v, "a slice bound") for v in (
        part.start, part.stop, part.step))).indices(int(n))
    count = len(range(start, stop, step))
    if step > 0:
        return start, max(start, stop) if count else start, step, False
    if not count:
        return 0, 0, 1, False
    return start + (count - 1) * step, start + 1, -step, True


class _Basic:
    """The part of an index that is known: a slice of every axis, then flips, then a reshape."""

    def __init__(self, x, parts):
        self.starts, self.stops, self.steps, flips = [], [], [], []
        self.shape, self.advanced = [], []      # advanced: (axis of the result, index tensor)
        axis = 0
        for part in parts:
            if part is None:
                self.shape.append(1)
                continue
            n = x.shape[axis]
            bounds = (0, n, 1, False)
            if isinstance(part, slice):
                bounds = _bounds(part, n)
            elif not is_traced(part):
                i = place_at(known_int(part, "an index"), n, axis)
                bounds = (i, i + 1, 1, False)
            start, stop, step, flipped = bounds
            self.starts.append(start), self.stops.append(stop), self.steps.append(step)
            if flipped:
                flips.append(axis)
            if is_traced(part):
                self.advanced.append((len(self.shape), part))
            if isinstance(part, slice) or is_traced(part):
                self.shape.append(s.slice_size(stop - start, step))
            axis += 1
        self.flips, self.shape = tuple(flips), tuple(self.shape)
        spots = [i for i, part in enumerate(parts) if part is not None and not isinstance(
            part, slice)]
        self.together = spots == list(range(spots[0], spots[0] + len(spots))) if spots else True

    def read(self, x):
        whole = all(start == 0 and step == 1 and stop == n for start, step, stop, n in zip(
            self.starts, self.steps, self.stops, x.shape, strict=True))
        if not whole:
            x = s.slice(x, starts=tuple(self.starts), stops=tuple(self.stops),
                        steps=tuple(self.steps))
        if self.flips:
            x = s.flip(x, axes=self.flips)
        return reshape(x, self.shape)

    def write(self, x, value):
        """x with `value`, of the shape that read gives, put back."""
        sliced = tuple(s.slice_size(stop - start, step) for start, stop, step in zip(
            self.starts, self.stops, self.steps, strict=True))
        value = reshape(value, sliced)
        if self.flips:
            value = s.flip(value, axes=self.flips)
        if sliced == x.shape:
            return value
        if 0 in sliced:
            return x
        high = tuple(n - start - ((m - 1) * step + 1) if step != 1 else n - stop
                     for n, m, start, stop, step in zip(
                         x.shape, sliced, self.starts, self.stops, self.steps, strict=True))
        places = {"low": tuple(self.starts), "high": high, "value": 0,
                  "interior": tuple(step - 1 for step in self.steps)}
        here = s.pad(_constant(TensorType(boolean, sliced), True), **places)
        return e.select(here, s.pad(value, **places), x)


def _constant(t: TensorType, value):
    constant = fill(t, value)
    return constant if building() else e.cast(constant, dtype=t.dtype)


# -- integer tensors as indices -------------------------------------------------------------------


def _wrapped(index, n):
    """An integer index with negative places counted from the end; others are left to be checked."""
    index = tensor_of(index)
    if index.dtype not in (i32, i64):
        if not index.dtype.is_int:
            raise TypeFault(f"an index of dtype {index.dtype}", "cast it to int64")
        index = e.cast(index, dtype=i64)
    size = s.dim_size(dim=Dim(n.name)) if isinstance(n, Dim) else n
    size = arith.mul(size, n.coef) if isinstance(n, Dim) and n.coef != 1 else size
    return arith.where(arith.less(index, 0), arith.add(index, size), index)


def _linear(shape, indices):
    """One index into the merged axes of `shape` from an index tensor for each; -1 where outside."""
    linear, inside = None, None
    for n, index in zip(shape, indices, strict=True):
        index = arith.cast(_wrapped(index, n), i64)
        if not building():
            check_places(index.asnumpy(), n)
        ok = arith.bitwise_and(arith.greater_equal(index, 0), arith.less(index, n))
        inside = ok if inside is None else arith.bitwise_and(inside, ok)
        linear = index if linear is None else arith.add(arith.mul(linear, n), index)
    return arith.where(inside, linear, -1)


class _Advanced:
    """Index tensors at some axes of x: those axes become one, read by one linear index.

    Their result takes the place of these axes where all ints and index tensors stood `together` in
    the index; else it comes first, as in NumPy.
    """

    def __init__(self, x, advanced, together: bool):
        axes = [axis for axis, _ in advanced]
        rest = [i for i in range(len(x.shape)) if i not in axes]
        self.front = [i for i in rest if i < axes[0]] if together else []
        self.perm = (*self.front, *axes, *(i for i in rest if i not in self.front))
        sizes = tuple(x.shape[i] for i in axes)
        self.axis = len(self.front)
        self.merged = (*(x.shape[i] for i in self.front), math.prod(sizes),
                       *(x.shape[i] for i in rest if i not in self.front))
        self.shape = tuple(x.shape[i] for i in self.perm)
        if len(advanced) == 1:
            self.index = _wrapped(advanced[0][1], sizes[0])
        else:
            self.index = _linear(sizes, [index for _, index in advanced])

    def read(self, x):
        flat = reshape(transpose(x, self.perm), self.merged)
        return g.gather(flat, self.index, axis=self.axis)

    def write(self, x, value):
        """The last of several values for one place wins, as in a Python loop."""
        flat = reshape(transpose(x, self.perm), self.merged)
        n, axis = self.merged[self.axis], self.axis
        count = math.prod(self.index.shape)
        if count == 0:
            return x
        value = reshape(value, (*self.merged[:axis], count, *self.merged[axis + 1:]))
        writer = g.last_entry(reshape(self.index, (count,)), size=n)
        taken = g.gather(value, arith.maximum(writer, 0), axis=axis)
        here = s.broadcast(arith.greater_equal(writer, 0), shape=self.merged, dims=(axis,))
        flat = e.select(here, taken, flat)
        return transpose(reshape(flat, self.shape), s.inverse(self.perm))


def check_places(places: np.ndarray, n: int) -> None:
    """IndexFault for the first place outside 0..n-1."""
    outside = places[(places < 0) | (places >= n)]
    if outside.size:
        raise IndexFault(f"index {outside.flat[0]} of an axis of size {n}", f"0 to {n - 1}")


# -- what users call ------------------------------------------------------------------------------


def getitem(x, index):
    """x[index]; see the head of this file.

    Gradient: g put back at the places read, added up where one is read twice.
    Errors:   IndexFault for too many indices or one out of range; TypeFault for other kinds.
    """
    x = tensor_of(x)
    place = place_of(x, index)
    if place is not None:
        return el.read(x, *place)
    basic = _Basic(x, _parts(x, index))
    y = basic.read(x)
    return _Advanced(y, basic.advanced, basic.together).read(y) if basic.advanced else y


def setitem(x, index, value):
    """x with x[index] replaced by `value` (cast and broadcast to it): a new tensor.

    Gradient: g at the other places for x, g at the replaced ones for `value`.
    """
    x = tensor_of(x)
    place = place_of(x, index)
    if place is not None:
        block = x.shape[len(place):]
        value = arith.cast(tensor_of(_as_tensor(value)), x.dtype)
        return el.write(x, arith.broadcast_to(_drop_ones(value, block), block), *place)
    if is_traced(index) and arith.type_of(index) == TensorType(boolean, x.shape):
        return arith.where(index, arith.cast(tensor_of(value), x.dtype), x)
    basic = _Basic(x, _parts(x, index))
    old = basic.read(x)
    value = arith.cast(tensor_of(_as_tensor(value)), x.dtype)
    if not basic.advanced:
        return basic.write(x, arith.broadcast_to(_drop_ones(value, old.shape), old.shape))
    advanced = _Advanced(old, basic.advanced, basic.together)
    shape = (*advanced.merged[:advanced.axis], *advanced.index.shape,
             *advanced.merged[advanced.axis + 1:])
    value = arith.broadcast_to(_drop_ones(value, shape), shape)
    return basic.write(x, advanced.write(old, value))


def _drop_ones(value, shape):
    """Leading axes of size 1 that the place does not have are dropped, as NumPy does."""
    while len(value.shape) > len(shape) and value.shape[0] == 1:
        value = reshape(value, value.shape[1:])
    return value


def take(x, indices, axis=None):
    """The places `indices` of one axis (of the flat x for None); negative ones from the end."""
    x = tensor_of(x)
    if axis is None:
        x, axis = reshape(x, (math.prod(x.shape),)), 0
    axis = axis_of(axis, len(x.shape))
    return g.gather(x, _wrapped(_as_tensor(indices), x.shape[axis]), axis=axis)


def gather(input_params, input_indices, axis=0, batch_dims=0):
    """The places `input_indices` of one axis; MindSpore's Gather."""
    if batch_dims != 0:
        raise TypeFault(f"gather: found batch_dims {batch_dims}, expected 0",
                        "ops.gather_elements(x, axis, index)")
    return take(input_params, input_indices, axis)


def index_select(x, axis, index):
    """The places `index` (1-d) of one axis."""
    return take(x, index, axis)


def gather_elements(x, dim, index):
    """result[i][j] = x[index[i][j]][j] for dim 0, and so on: one index for each element.

    Shapes: index has as many axes as x, and no more places than x in the other axes.
    """
    x, index = tensor_of(x), tensor_of(_as_tensor(index))
    axis = axis_of(dim, len(x.shape))
    if len(index.shape) != len(x.shape):
        raise ShapeFault(f"gather_elements: found an index of shape {list(index.shape)} for shape "
                         f"{list(x.shape)}, expected as many axes")
    indices = [index if i == axis else s.iota(shape=index.shape, axis=i, dtype=i64)
               for i in range(len(x.shape))]
    return getitem(x, tuple(indices))


def one_hot(indices, depth, on_value=1, off_value=0, axis=-1, *, dtype_=None):
    """`on_value` where the place along a new axis of size `depth` is the index, else `off_value`.

    Shapes:   indices [...] -> [..., depth] (for axis -1). An index outside gives `off_value`
              everywhere.
    Dtypes:   that of the values (i64 for ints, f32 for floats), or `dtype_`.
    Gradient: none to the indices.
    """
    indices = tensor_of(_as_tensor(indices))
    depth = known_int(depth, "depth")
    axis = axis_of(axis, len(indices.shape) + 1)
    shape = (*indices.shape[:axis], depth, *indices.shape[axis:])
    dims = tuple(i for i in range(len(shape)) if i != axis)
    kind = dtype(dtype_) if dtype_ is not None else _kind_of(on_value, off_value)
    hit = e.eq(s.iota(shape=shape, axis=axis, dtype=i64),
               s.broadcast(arith.cast(indices, i64), shape=shape, dims=dims))
    return arith.where(hit, arith.cast(tensor_of(on_value), kind),
                       arith.cast(tensor_of(off_value), kind))


def _kind_of(on_value, off_value):
    """The dtype of two values: numbers are i64 or f32."""
    t, other = arith.type_of(on_value), arith.type_of(off_value)
    if isinstance(t, TensorType):
        return t.dtype
    return f32 if t.dtype.is_float or other.dtype.is_float else i64


def embedding(ids, table):
    """Rows of a table [n, ...] at the ids. Errors: IndexFault for an id outside 0..n-1."""
    return g.gather(table, tensor_of(ids), axis=0)


def scatter_add(x, axis, index, src):
    """x with each element of src added at its index along an axis (one index for each element)."""
    x, index, src = tensor_of(x), tensor_of(index), tensor_of(src)
    axis = axis_of(axis, len(x.shape))
    indices = [index if i == axis else s.iota(shape=index.shape, axis=i, dtype=i64)
               for i in range(len(x.shape))]
    flat = reshape(_linear(x.shape, indices), (math.prod(index.shape),))
    total = g.scatter_add(flat, reshape(arith.cast(src, x.dtype), flat.shape), axis=0,
                          size=math.prod(x.shape))
    return arith.add(x, reshape(total, x.shape))


def index_add(x, indices, y, axis, use_lock=True, check_index_bound=True):
    """x with what y has along an axis added at the indices: equal ones add up, in their order.

    Shapes:   x [..., n, ...], indices [k], y [..., k, ...] -> as x.
    Dtypes:   that of x.
    Errors:   ShapeFault for other shapes, IndexFault for an index outside 0..n-1 (whatever
              `check_index_bound` says; `use_lock` is MindSpore's as well).
    Gradient: to x as it is; to y what its places got.
    """
    x, y, indices = tensor_of(x), tensor_of(y), tensor_of(_as_tensor(indices))
    axis = axis_of(axis, len(x.shape))
    wanted = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1:])
    if len(indices.shape) != 1 or tuple(y.shape) != wanted:
        raise ShapeFault(f"index_add: found indices of shape {list(indices.shape)} and y of shape "
                         f"{list(y.shape)} for axis {axis} of shape {list(x.shape)}",
                         "one index for each place that y has along the axis")
    return arith.add(x, g.scatter_add(indices, arith.cast(y, x.dtype), axis=axis,
                                      size=x.shape[axis]))


def unsorted_segment_sum(input_x, segment_ids, num_segments):
    """The sums of the rows that have one segment's number, for all segments.

    Shapes:   input_x [*ids, ...], segment_ids [*ids], num_segments an int n -> [n, ...]; a segment
              without rows is 0, and rows with a negative number count nowhere.
    Dtypes:   that of input_x.
    Errors:   ShapeFault where the shape of the numbers does not begin input_x's or n is not
              positive, IndexFault for a number of n or more.
    Gradient: each row gets its segment's.
    """
    x, ids = tensor_of(input_x), tensor_of(_as_tensor(segment_ids))
    n, rank = known_int(num_segments, "num_segments"), len(ids.shape)
    if n < 1:
        raise ShapeFault(f"unsorted_segment_sum: found {n} segments", "one or more")
    if tuple(x.shape[:rank]) != tuple(ids.shape):
        raise ShapeFault(f"unsorted_segment_sum: found numbers of shape {list(ids.shape)} for rows "
                         f"of shape {list(x.shape)}", "one number for each row")
    # A look-up that gives each number itself and refuses those of n or more; the last place, where
    # the negative ones go, is left out.
    itself = g.gather(s.iota(shape=(n,), axis=0, dtype=i64), arith.maximum(ids, 0), axis=0)
    place = arith.where(arith.less(ids, 0), n, itself)
    sums = g.scatter_add(place, x, axis=0, size=n + 1)
    return s.slice(sums, starts=(0,) * len(sums.shape), stops=(n, *sums.shape[1:]),
                   steps=(1,) * len(sums.shape))


def nonzero(x):
    """The places of the nonzero elements [count, ndim] -> i64; eager mode only."""
    from cellc.ops.shape import stack

    return stack(_places(arith.cast(tensor_of(x), boolean)), axis=1)


def masked_select(x, mask):
    """The elements where the mask holds, flat; eager mode only."""
    shape = arith.broadcast_shapes(arith.type_of(x).shape, arith.type_of(mask).shape)
    return getitem(arith.broadcast_to(tensor_of(x), shape),
                   arith.broadcast_to(tensor_of(mask), shape))


def sort(x, axis=-1, descending=False):
    """(sorted, i64 places they came from) along an axis: equal elements keep their order.

    Gradient: g sent back to the places the elements came from.
    """
    order = argsort(x, axis, descending)
    return gather_elements(x, axis, order), order


def argsort(x, axis=-1, descending=False):
    """The i64 places that sort x along an axis; equal elements keep their order, NaN is largest.

    Sorted by the bytes of its elements, as stable as the order of the places: linear in the size.
    """
    x = tensor_of(x)
    return r.argsort(x, axis=axis_of(axis, len(x.shape)), descending=bool(descending), keep=None)


def topk(x, k, dim=-1, largest=True):
    """(the k largest, or smallest, in order; their i64 places) along an axis."""
    x = tensor_of(x)
    axis = axis_of(dim, len(x.shape))
    k = known_int(k, "k")
    if not 0 <= k <= x.shape[axis]:
        raise ShapeFault(f"topk: found k {k} for an axis of size {x.shape[axis]}")
    order = r.argsort(x, axis=axis, descending=bool(largest), keep=k)
    return gather_elements(x, axis, order), order
