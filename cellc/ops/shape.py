"""Arranging elements: reshape, transpose, joining, splitting, padding, making tensors of a shape.

Every function takes any dtype and moves gradients the same way back. Shapes and axes are static; a
size may be symbolic where the arithmetic allows (see `cellc.ir.types.Dim`).
"""

from __future__ import annotations

import math

from cellc.errors import ShapeFault, TypeFault, ValueFault
from cellc.ir import arith
from cellc.ir.graph import fill as filled
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import reduce as r
from cellc.ir.prims import shape as s
from cellc.ir.types import Dim, ScalarType, TensorType, boolean, dtype, f32, i64
from cellc.ops.common import (
    axes_of,
    axis_of,
    building,
    known_int,
    match,
    number_of,
    tensor_of,
)


def shape_args(sizes) -> tuple:
    """The shape meant by f(2, 3), f((2, 3)) or f([2, 3])."""
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = sizes[0]
    return tuple(known_int(n, "a size") for n in sizes)


def reshape(x, *shape):
    """The elements, in row-major order, in another shape; one size may be -1.

    Errors: ShapeFault where the sizes do not multiply to the number of elements.
    """
    x = tensor_of(x)
    shape = shape_args(shape)
    if sum(isinstance(n, int) and n == -1 for n in shape) > 1:
        raise ShapeFault(f"reshape to {list(shape)}: more than one size is -1")
    if -1 in shape:
        shape = _fill_in(x, shape)
    return x if shape == x.shape else s.reshape(x, shape=shape)


view = reshape


def _fill_in(x, shape) -> tuple:
    """The shape with its -1 replaced by what is left of the elements."""
    total = math.prod(x.shape)
    rest = math.prod(n for n in shape if isinstance(n, Dim) or n != -1)
    if rest == 0 or total % rest != 0:
        raise ShapeFault(f"a tensor of shape {list(x.shape)} cannot be reshaped to {list(shape)}: "
                         f"{total} elements are not a multiple of {rest}")
    return tuple(n if isinstance(n, Dim) or n != -1 else total // rest for n in shape)


def shape(x):
    """The sizes of the axes, a tuple."""
    return tensor_of(x).shape


def rank(x):
    """The number of axes."""
    return len(tensor_of(x).shape)


def size(x):
    """The number of elements."""
    return number_of(math.prod(tensor_of(x).shape))


numel = size


def flatten(x, start_dim=1, end_dim=-1):
    """The axes from start_dim to end_dim made one; a tensor of fewer than two axes as one axis."""
    x = tensor_of(x)
    if len(x.shape) < 2:
        return s.reshape(x, shape=(math.prod(x.shape),))
    first, last = axis_of(start_dim, len(x.shape)), axis_of(end_dim, len(x.shape))
    if first > last:
        raise ShapeFault(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    merged = math.prod(x.shape[first:last + 1])
    return reshape(x, (*x.shape[:first], merged, *x.shape[last + 1:]))


def flatten_all(x, start_dim=0, end_dim=-1):
    """`flatten` as a tensor's method: from the first axis on."""
    return flatten(x, start_dim, end_dim)


def ravel(x):
    """All axes made one."""
    return reshape(x, (-1,)) if 0 not in arith.type_of(x).shape else reshape(x, (0,))


def transpose(x, *perm):
    """Axis i of the result is axis perm[i] of x; without perm the axes in opposite order."""
    x = tensor_of(x)
    if len(perm) == 1 and (perm[0] is None or isinstance(perm[0], (tuple, list))):
        perm = perm[0] or ()
    perm = tuple(axis_of(a, len(x.shape), "perm") for a in perm) or tuple(
        reversed(range(len(x.shape))))
    if sorted(perm) != list(range(len(x.shape))):
        raise ShapeFault(f"transpose: found perm {perm} for shape {list(x.shape)}, expected each "
                         "axis once")
    return x if perm == tuple(range(len(perm))) else s.transpose(x, perm=perm)


permute = transpose


def swapaxes(x, axis0, axis1):
    """x with two axes exchanged."""
    ndim = len(arith.type_of(x).shape)
    perm = list(range(ndim))
    a, b = axis_of(axis0, ndim), axis_of(axis1, ndim)
    perm[a], perm[b] = b, a
    return transpose(x, tuple(perm))


def moveaxis(x, source, destination):
    """x with one axis moved to another place."""
    ndim = len(arith.type_of(x).shape)
    perm = list(range(ndim))
    perm.insert(axis_of(destination, ndim), perm.pop(axis_of(source, ndim)))
    return transpose(x, tuple(perm))


def expand_dims(x, axis):
    """x with a new axis of size 1 at `axis`."""
    x = tensor_of(x)
    axis = axis_of(axis, len(x.shape) + 1)
    return s.reshape(x, shape=(*x.shape[:axis], 1, *x.shape[axis:]))


unsqueeze = expand_dims


def squeeze(x, axis=None):
    """x without its axes of size 1, or without the ones named (which must be of size 1)."""
    x = tensor_of(x)
    if axis is None:
        axes = tuple(i for i, n in enumerate(x.shape) if (int(n) if arith.is_found(n) else n) == 1)
    else:
        axes = axes_of(axis, len(x.shape)) if axis != () else ()
        wrong = [i for i in axes if x.shape[i] != 1]
        if wrong:
            raise ShapeFault(f"squeeze: axis {wrong[0]} of shape {list(x.shape)} is not 1")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


def broadcast_to(x, *shape):
    """x repeated along new leading axes and axes of size 1; a size of -1 keeps the axis."""
    x = tensor_of(x)
    shape = shape_args(shape)
    offset = len(shape) - len(x.shape)
    shape = tuple(x.shape[i - offset] if isinstance(n, int) and n == -1 and i >= offset else n
                  for i, n in enumerate(shape))
    return arith.broadcast_to(x, shape)


expand = broadcast_to


def expand_as(x, other):
    """x repeated to the shape of other."""
    return arith.broadcast_to(tensor_of(x), arith.type_of(other).shape)


def tile(x, *multiples):
    """x repeated as a whole multiples[i] times along axis i."""
    x = tensor_of(x)
    reps = shape_args(multiples)
    if any(n < 0 for n in reps):
        raise ShapeFault(f"tile: found multiples {list(reps)}, expected none below 0")
    reps = (1,) * (len(x.shape) - len(reps)) + reps
    shape = (1,) * (len(reps) - len(x.shape)) + x.shape
    doubled = tuple(n for pair in zip(reps, shape, strict=True) for n in pair)
    dims = tuple(2 * i + 1 for i in range(len(shape)))
    spread = s.broadcast(s.reshape(x, shape=shape), shape=doubled, dims=dims)
    return s.reshape(spread, shape=tuple(m * n for m, n in zip(reps, shape, strict=True)))


repeat = tile


def repeat_interleave(x, repeats, axis=None):
    """Each element repeated `repeats` (an int) times along an axis; flat for None."""
    x = ravel(x) if axis is None else tensor_of(x)
    axis = axis_of(0 if axis is None else axis, len(x.shape))
    n = known_int(repeats, "repeats")
    spread = s.broadcast(x, shape=(*x.shape[:axis + 1], n, *x.shape[axis + 1:]),
                         dims=tuple(i if i <= axis else i + 1 for i in range(len(x.shape))))
    return s.reshape(spread, shape=(*x.shape[:axis], x.shape[axis] * n, *x.shape[axis + 1:]))


def flip(x, axis=None):
    """The elements along axes in opposite order."""
    x = tensor_of(x)
    return s.flip(x, axes=axes_of(axis, len(x.shape)))


def roll(x, shift, axis=None):
    """The elements along an axis moved on by `shift` places, around the end; flat for None."""
    x = tensor_of(x)
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), x.shape)
    axis = axis_of(axis, len(x.shape))
    n = x.shape[axis]
    cut = -known_int(shift, "shift") % n if n != 0 else 0
    return concat((piece(x, axis, cut, n), piece(x, axis, 0, cut)), axis) if cut else x


# -- joining and splitting ------------------------------------------------------------------------


def piece(x, axis: int, start, stop):
    """x from start to stop along one axis."""
    if isinstance(start, int) and start == 0 and stop == x.shape[axis]:
        return x
    return s.slice(x, starts=tuple(start if i == axis else 0 for i in range(len(x.shape))),
                   stops=tuple(stop if i == axis else n for i, n in enumerate(x.shape)),
                   steps=(1,) * len(x.shape))


def concat(tensors, axis=0):
    """The tensors one after another along an axis; their dtypes meet."""
    if not isinstance(tensors, (tuple, list)) or not tensors:
        raise TypeFault("concat: expected a tuple or list of tensors, and at least one")
    tensors = [tensor_of(x) for x in tensors]
    kind = arith.result_dtype(*(arith.type_of(x) for x in tensors))
    axis = axis_of(axis, len(arith.type_of(tensors[0]).shape))
    return s.concat(*(arith.cast(x, kind) for x in tensors), axis=axis)


cat = concat


def stack(tensors, axis=0):
    """The tensors along a new axis; their dtypes meet."""
    if not isinstance(tensors, (tuple, list)) or not tensors:
        raise TypeFault("stack: expected a tuple or list of tensors, and at least one")
    ndim = len(arith.type_of(tensors[0]).shape)
    axis = axis_of(axis, ndim + 1)
    return concat([expand_dims(x, axis) for x in tensors], axis)


def split(x, split_size_or_sections, axis=0):
    """A tuple of pieces along an axis: of one size (the last maybe smaller) or of listed sizes."""
    x = tensor_of(x)
    axis = axis_of(axis, len(x.shape))
    n = x.shape[axis]
    if isinstance(split_size_or_sections, (tuple, list)):
        sizes = shape_args((split_size_or_sections,))
        if sum(sizes) != n or any(size < 0 for size in sizes):
            raise ShapeFault(f"split: sections {list(sizes)} do not add up to {n}, the size of "
                             f"axis {axis}")
    else:
        size = known_int(split_size_or_sections, "split_size")
        if size < 1:
            raise ShapeFault(f"split: found size {size}, expected at least 1")
        sizes = [size] * (n // size) + ([n % size] if n % size else [])
    parts, start = [], 0
    for size in sizes:
        parts.append(piece(x, axis, start, start + size))
        start += size
    return tuple(parts)


def chunk(x, chunks, axis=0):
    """A tuple of at most `chunks` pieces of equal size (the last may be smaller)."""
    n = arith.type_of(x).shape[axis_of(axis, len(arith.type_of(x).shape))]
    return split(x, max(-(-n // known_int(chunks, "chunks")), 1), axis)


def unstack(x, axis=0):
    """A tuple of the slices along an axis, without that axis."""
    x = tensor_of(x)
    axis = axis_of(axis, len(x.shape))
    rest = (*x.shape[:axis], *x.shape[axis + 1:])
    return tuple(s.reshape(piece(x, axis, i, i + 1), shape=rest) for i in range(x.shape[axis]))


unbind = unstack


def pad(x, padding, mode="constant", value=0):
    """x with `value` around it.

    `padding` lists (before, after) for the last axis, then the one before it, ..., flat: (1, 2)
    pads the last axis, (1, 2, 3, 4) the last by 1 and 2 and the one before by 3 and 4.
    Errors: ShapeFault for an odd number of entries or more than the axes have; ValueFault for the
            mode.
    """
    from cellc.errors import ValueFault

    x = tensor_of(x)
    if mode != "constant":
        raise ValueFault(f"pad: found mode {mode!r}", 'mode="constant"')
    padding = shape_args((padding,))
    ndim = len(x.shape)
    if len(padding) % 2 or len(padding) > 2 * ndim:
        raise ShapeFault(f"pad: found padding {padding} for shape {list(x.shape)}, expected pairs "
                         f"for at most {ndim} axes")
    pairs = [(0, 0)] * (ndim - len(padding) // 2)
    pairs += [tuple(padding[i:i + 2]) for i in reversed(range(0, len(padding), 2))]
    return pad_axes(x, pairs, value)


def pad_axes(x, pairs, value=0):
    """x with (before, after) places of `value` along each axis; negative ones cut."""
    starts = tuple(max(-low, 0) for low, _ in pairs)
    stops = tuple(n - max(-high, 0) if high < 0 else n
                  for n, (_, high) in zip(x.shape, pairs, strict=True))
    if any(low < 0 or high < 0 for low, high in pairs):
        x = s.slice(x, starts=starts, stops=stops, steps=(1,) * len(pairs))
    low, high = (tuple(max(p[i], 0) for p in pairs) for i in (0, 1))
    if not any(low) and not any(high):
        return x
    return s.pad(x, low=low, high=high, value=value)


# -- made from a shape ----------------------------------------------------------------------------


def fill(type, shape, value):
    """`full` with MindSpore's order of arguments: the dtype first."""
    return full(shape, value, dtype=type)


def full(shape, value, *, dtype=None):
    """A tensor with `value` in every place; its dtype that of the value (a float: f32)."""
    from cellc.ir.types import dtype as dtype_

    shape = shape_args((shape,) if isinstance(shape, (tuple, list)) else (shape,))
    t = arith.type_of(value)
    kind = dtype_(dtype) if dtype is not None else (
        f32 if isinstance(t, ScalarType) and t.dtype.is_float else t.dtype)
    if type(value) in (bool, int, float):
        constant = filled(TensorType(kind, shape), value)
        return constant if building() else e.cast(constant, dtype=kind)
    return arith.broadcast_to(match(value, kind), shape)


def zeros(*shape, dtype=None):
    """Zeros, of f32 unless said otherwise: zeros(2, 3) or zeros((2, 3), cellc.int32)."""
    shape, dtype = _shape_and_dtype(shape, dtype)
    return full(shape, 0, dtype=dtype)


def ones(*shape, dtype=None):
    """Ones, of f32 unless said otherwise."""
    shape, dtype = _shape_and_dtype(shape, dtype)
    return full(shape, 1, dtype=dtype)


def _shape_and_dtype(args, kind):
    """MindSpore passes the dtype second: zeros((2, 3), mstype.float32)."""
    if len(args) == 2 and not isinstance(args[1], (int, Dim)):
        args, kind = args[:1], args[1] if kind is None else kind
    return shape_args(args), dtype(kind) if kind is not None else f32


def full_like(x, value, *, dtype=None):
    """`value` in the shape of x, and in its dtype unless said otherwise."""
    t = arith.type_of(x)
    return full(t.shape, value, dtype=dtype or t.dtype)


def zeros_like(x, *, dtype=None):
    """Zeros in the shape of x."""
    return full_like(x, 0, dtype=dtype)


def ones_like(x, *, dtype=None):
    """Ones in the shape of x."""
    return full_like(x, 1, dtype=dtype)


def arange(start=0, end=None, step=1, *, dtype=None):
    """start, start + step, ... before end. Known numbers; ints give i64, floats f32."""
    if end is None:
        start, end = 0, start
    return _arange(start, end, step, dtype)


def _arange(start, end, step, kind):
    whole = all(isinstance(v, int) for v in (start, end, step))
    for v in (start, end, step):
        if isinstance(v, bool) or not isinstance(v, (int, float)):
            if isinstance(v, Dim) and (start, step) == (0, 1):
                continue
            raise TypeFault(f"arange: found {v!r}, expected known numbers")
    whole = whole or isinstance(end, Dim)
    kind = dtype(kind) if kind is not None else i64 if whole else f32
    if step == 0:
        raise ShapeFault("arange: the step is 0")
    if isinstance(end, Dim):
        return s.iota(shape=(end,), axis=0, dtype=kind)
    n = max(-int((start - end) // step), 0) if whole else max(_ceil((end - start) / step), 0)
    index = s.iota(shape=(n,), axis=0, dtype=kind)
    return index if (start, step) == (0, 1) else arith.cast(
        arith.add(arith.mul(index, step), start), kind)


def _ceil(x: float) -> int:
    return -int(-x // 1)


def linspace(start, end, steps):
    """`steps` numbers evenly from start to end, both included, f32."""
    n = known_int(steps, "steps")
    if n == 1:
        return full((1,), start, dtype=f32)
    index = s.iota(shape=(n,), axis=0, dtype=f32)
    gap = arith.div(arith.sub(end, start), n - 1)
    ramp = arith.add(arith.mul(index, gap), start)
    return arith.where(arith.equal(index, float(n - 1)), end, ramp)


def eye(n, m=None, dtype=None):
    """Ones where row and column are equal, else zeros."""
    shape = (known_int(n, "n"), known_int(n if m is None else m, "m"))
    rows, columns = (s.iota(shape=shape, axis=i, dtype=i64) for i in (0, 1))
    return e.cast(e.eq(rows, columns), dtype=_kind(dtype))


def _kind(given):
    return f32 if given is None else dtype(given)


def _triangle(x, keep):
    x = tensor_of(x)
    if len(x.shape) < 2:
        raise ShapeFault(f"a triangle of shape {list(x.shape)}: expected two axes at least")
    rows = s.iota(shape=x.shape, axis=len(x.shape) - 2, dtype=i64)
    columns = s.iota(shape=x.shape, axis=len(x.shape) - 1, dtype=i64)
    return e.select(keep(rows, columns), x, filled(arith.type_of(x), 0))


def tril(x, diagonal=0):
    """The elements on and below a diagonal, zeros above."""
    k = known_int(diagonal, "diagonal")
    return _triangle(x, lambda i, j: arith.less_equal(j, arith.add(i, k)))


def triu(x, diagonal=0):
    """The elements on and above a diagonal, zeros below."""
    k = known_int(diagonal, "diagonal")
    return _triangle(x, lambda i, j: arith.greater_equal(j, arith.add(i, k)))


def diagonal(x):
    """The elements x[..., i, i], as many as the shorter of the two axes has."""
    x = tensor_of(x)
    if len(x.shape) < 2:
        raise ShapeFault(f"the diagonal of shape {list(x.shape)}: expected two axes or more")
    if x.shape[-1] != x.shape[-2]:
        outer, n = x.shape[:-2], min(x.shape[-2:])
        x = s.slice(x, starts=(0,) * len(x.shape), stops=(*outer, n, n), steps=(1,) * len(x.shape))
    on = e.eq(*(s.iota(shape=x.shape, axis=len(x.shape) - i, dtype=i64) for i in (2, 1)))
    if x.dtype is boolean:
        return r.reduce_or(e.bit_and(on, x), axes=(len(x.shape) - 1,))
    return r.reduce_sum(e.select(on, x, filled(arith.type_of(x), 0)), axes=(len(x.shape) - 1,))


def meshgrid(*tensors, indexing="xy"):
    """Coordinate tensors of a grid from 1-d tensors of coordinates.

    For n tensors of sizes s0, s1, s2, ... n tensors of shape [s1, s0, s2, ...], or with indexing
    "ij" [s0, s1, s2, ...]. Errors: ShapeFault for other than 1-d tensors; ValueFault for the
    indexing. Source: NumPy.
    """
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    if indexing not in ("xy", "ij"):
        raise ValueFault(f"meshgrid: found indexing {indexing!r}, expected 'xy' or 'ij'")
    tensors = tuple(map(tensor_of, tensors))
    for x in tensors:
        if len(x.shape) != 1:
            raise ShapeFault(f"meshgrid: found a tensor of shape {list(x.shape)}, expected 1-d "
                             "ones", hint="x.reshape(-1)")
    order = list(range(len(tensors)))
    if indexing == "xy" and len(tensors) > 1:
        order[0], order[1] = 1, 0
    shape = tuple(tensors[i].shape[0] for i in order)
    return tuple(s.broadcast(x, shape=shape, dims=(order.index(i),))
                 for i, x in enumerate(tensors))
