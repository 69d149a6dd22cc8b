"""Shape primitives: the same elements in another arrangement, and tensors made from a shape alone.

kind="view": the result is a way to read the operand (an affine map of indices), so that a kernel
need not copy. kind="kernel": pad, concat and windows_add write memory. Sizes may be symbolic
(`Dim`) where the arithmetic allows. Axes count from the left; negative ones are the library's.
"""

from __future__ import annotations

import builtins
import math

import numpy as np

from cellc.errors import ShapeFault, TypeFault
from cellc.ir import numerics as num
from cellc.ir.graph import primitive
from cellc.ir.prims import elementwise as e
from cellc.ir.prims.checks import (
    NUMBER,
    axes_of,
    axis_of,
    per_axis,
    shape_of,
    takes,
    takes_tensor,
)
from cellc.ir.prims.rules import later, linear, shifted, together, unmoved
from cellc.ir.types import Dim, DType, ScalarType, TensorType, boolean, f64, i64


def inverse(perm) -> tuple[int, ...]:
    """The permutation that undoes `perm`."""
    return tuple(sorted(range(len(perm)), key=lambda i: perm[i]))


def _numbers(*shape: int) -> np.ndarray:
    return np.arange(1.0, math.prod(shape) + 1).reshape(shape)


# -- reshape, transpose, broadcast, flip ---------------------------------------------------------

def _reshape_types(x, shape):
    shape = shape_of("reshape", shape)
    if math.prod(shape) != takes_tensor("reshape", x).size:
        raise ShapeFault(f"reshape: found {x} for shape {list(shape)}, expected "
                         f"{math.prod(shape)} elements and found {x.size}")
    return x.with_shape(shape)


reshape = primitive(
    "reshape", "x", doc="The elements, in row-major order, in another shape of the same size.",
    kind="view", types=_reshape_types, eval=lambda x, shape: np.reshape(x, shape),
    vjp=lambda g, y, x, shape: [reshape(g, shape=x.shape)], jvp=linear("reshape"),
    batch=lambda n, lanes, x, shape: reshape(x, shape=(n, *shape)),
    samples=lambda: [([_numbers(2, 3)], {"shape": (3, 2)}), ([_numbers(1)], {"shape": ()}),
                     ([_numbers()], {"shape": (1, 1)}), ([np.zeros((0, 3))], {"shape": (3, 0)})])


def _transpose_types(x, perm):
    perm = axes_of("transpose", takes_tensor("transpose", x), perm)
    if len(perm) != x.ndim:
        raise ShapeFault(f"transpose: found perm {perm} for {x}, expected all {x.ndim} axes")
    return x.with_shape(x.shape[i] for i in perm)


transpose = primitive(
    "transpose", "x", doc="Axis i of the result is axis perm[i] of x.", kind="view",
    types=_transpose_types, eval=lambda x, perm: np.transpose(x, perm),
    vjp=lambda g, y, x, perm: [transpose(g, perm=inverse(perm))], jvp=linear("transpose"),
    batch=lambda n, lanes, x, perm: transpose(x, perm=(0, *later(perm))),
    samples=lambda: [([_numbers(2, 3, 4)], {"perm": (2, 0, 1)}), ([_numbers()], {"perm": ()}),
                     ([_numbers(2, 1)], {"perm": (1, 0)})])


def _broadcast_types(x, shape, dims):
    shape, result = shape_of("broadcast", shape), takes_tensor("broadcast", x).with_shape(shape)
    dims = axes_of("broadcast", result, per_axis("broadcast", "dims", dims, x.ndim))
    if list(dims) != sorted(dims):
        raise ShapeFault(f"broadcast: found dims {dims}, expected them in order")
    if any(n != 1 and n != shape[at] for n, at in zip(x.shape, dims, strict=True)):
        raise ShapeFault(f"broadcast: found {x} for shape {list(shape)}, expected sizes that are "
                         "equal or 1", "reshape it so that the sizes match")
    return result


def _broadcast(x, shape, dims):
    x = np.asarray(x)
    own = [1] * len(shape)
    for n, at in zip(x.shape, dims, strict=True):
        own[at] = n
    return np.broadcast_to(x.reshape(own), shape)


def _broadcast_vjp(g, y, x, shape, dims):
    from cellc.ir.prims.reduce import reduce_sum

    kept = {at for n, at in zip(x.shape, dims, strict=True) if n == shape[at]}
    g = reduce_sum(g, axes=tuple(i for i in range(len(shape)) if i not in kept))
    return [g if g.shape == x.shape else reshape(g, shape=x.shape)]


broadcast = primitive(
    "broadcast", "x", doc="x repeated: its axis i becomes axis dims[i]; sizes are equal or 1.",
    kind="view", types=_broadcast_types, eval=_broadcast, vjp=_broadcast_vjp,
    jvp=linear("broadcast"),
    batch=lambda n, lanes, x, shape, dims: broadcast(x, shape=(n, *shape), dims=(0, *later(dims))),
    samples=lambda: [([_numbers(3)], {"shape": (2, 3), "dims": (1,)}),
                     ([_numbers(2, 1)], {"shape": (2, 4, 3), "dims": (0, 2)}),
                     ([_numbers()], {"shape": (2, 2), "dims": ()}),
                     ([_numbers(1)], {"shape": (0,), "dims": (0,)})])

flip = primitive(
    "flip", "x", doc="The elements along axes in opposite order.", kind="view",
    types=lambda x, axes: (axes_of("flip", takes_tensor("flip", x), axes), x)[1],
    eval=lambda x, axes: np.flip(x, axes),
    vjp=lambda g, y, x, axes: [flip(g, axes=axes)], jvp=linear("flip"), batch=shifted("flip"),
    samples=lambda: [([_numbers(2, 3)], {"axes": (1,)}), ([_numbers(2, 3)], {"axes": (0, 1)}),
                     ([_numbers(2)], {"axes": ()})])


# -- slice and pad: each other's adjoint -----------------------------------------------------------

def slice_size(extent, step: int):
    """How many of `extent` places a walk by `step` visits."""
    if step == 1:
        return extent
    return extent // step if extent % step == 0 else extent // step + 1


def _slice_types(x, starts, stops, steps):
    takes_tensor("slice", x)
    starts, stops, steps = (per_axis("slice", what, values, x.ndim) for what, values in (
        ("starts", starts), ("stops", stops), ("steps", steps)))
    for start, stop, step, n in zip(starts, stops, steps, x.shape, strict=True):
        if step < 1:
            raise ShapeFault(f"slice: found step {step}, expected at least 1")
        if not (start >= 0 and start <= stop and stop <= n):
            raise ShapeFault(f"slice: found {start}:{stop} of an axis of size {n} in {x}, "
                             "expected 0 <= start <= stop <= size")
    return x.with_shape(slice_size(stop - start, step)
                        for start, stop, step in zip(starts, stops, steps, strict=True))


def _slice(x, starts, stops, steps):
    return np.asarray(x[tuple(map(builtins.slice, starts, stops, steps))])


def _slice_vjp(g, y, x, starts, stops, steps):
    high = tuple(n - stop if step == 1 else n - start - (((m - 1) * step + 1) if m != 0 else 0)
                 for n, m, start, stop, step in zip(x.shape, y.shape, starts, stops, steps,
                                                    strict=True))
    return [pad(g, low=tuple(starts), high=high, value=0, interior=tuple(n - 1 for n in steps))]


slice = primitive(
    "slice", "x", doc="The elements start, start + step, ... before stop of each axis.",
    kind="view", types=_slice_types, eval=_slice, vjp=_slice_vjp, jvp=linear("slice"),
    batch=lambda n, lanes, x, starts, stops, steps: slice(
        x, starts=(0, *starts), stops=(n, *stops), steps=(1, *steps)),
    samples=lambda: [([_numbers(5)], {"starts": (1,), "stops": (5,), "steps": (2,)}),
                     ([_numbers(5)], {"starts": (0,), "stops": (5,), "steps": (3,)}),
                     ([_numbers(3, 4)], {"starts": (0, 1), "stops": (3, 3), "steps": (1, 1)}),
                     ([_numbers(3)], {"starts": (2,), "stops": (2,), "steps": (2,)})])


def _pad_types(x, low, high, value, interior=None):
    takes_tensor("pad", x)
    if not x.dtype.is_float and not float(value).is_integer():
        raise TypeFault(f"pad: found value {value} for {x}, expected a whole number")
    interior = interior or (0,) * x.ndim
    rows = [per_axis("pad", what, values, x.ndim)
            for what, values in (("low", low), ("high", high), ("interior", interior))]
    if any(n < 0 for row in rows for n in row):
        raise ShapeFault(f"pad: found low {low}, high {high}, interior {interior}, expected "
                         "nothing negative", "use slice to cut")
    return x.with_shape(a + _stretched(n, gap) + b
                        for n, a, b, gap in zip(x.shape, *rows, strict=True))


def _stretched(n, gap: int):
    """The size of an axis with `gap` places put between neighbours."""
    return n if gap == 0 or n == 0 else (n - 1) * (gap + 1) + 1


def _pad(x, low, high, value, interior=None):
    interior = interior or (0,) * x.ndim
    inner = [_stretched(n, gap) for n, gap in zip(x.shape, interior, strict=True)]
    result = num.full([a + n + b for a, n, b in zip(low, inner, high, strict=True)], value,
                      num.dtype_of(x)).copy()
    result[tuple(builtins.slice(a, a + n, gap + 1)
                 for a, n, gap in zip(low, inner, interior, strict=True))] = x
    return result


def _pad_vjp(g, y, x, low, high, value, interior=None):
    interior = interior or (0,) * x.ndim
    stops = tuple(a + _stretched(n, gap) for a, n, gap in zip(low, x.shape, interior, strict=True))
    return [slice(g, starts=tuple(low), stops=stops, steps=tuple(gap + 1 for gap in interior))]


def _pad_batch(n, lanes, x, low, high, value, **interior):
    return pad(x, low=(0, *low), high=(0, *high), value=value,
               **{key: (0, *(given or (0,) * len(low))) for key, given in interior.items()})


pad = primitive(
    "pad", "x", doc="x with `value` around it, and interior[i] times between neighbours of axis i.",
    kind="kernel", types=_pad_types, eval=_pad, vjp=_pad_vjp,
    jvp=lambda dxs, y, x, **attrs: pad(dxs[0], **attrs | {"value": 0}), batch=_pad_batch,
    samples=lambda: [([_numbers(2, 3)], {"low": (1, 0), "high": (0, 2), "value": 5}),
                     ([_numbers(3)], {"low": (1,), "high": (1,), "value": 0, "interior": (2,)}),
                     ([np.zeros((0,))], {"low": (1,), "high": (1,), "value": 3, "interior": (1,)}),
                     ([_numbers()], {"low": (), "high": (), "value": 0})])


# -- windows and their sum: each other's adjoint ---------------------------------------------------

def _window_counts(prim: str, t, shape, sizes, strides, dilations) -> tuple:
    k = len(sizes)
    strides, dilations = (per_axis(prim, what, values, k) for what, values in (
        ("strides", strides), ("dilations", dilations)))
    if any(n < 1 for n in (*sizes, *strides, *dilations)):
        raise ShapeFault(f"{prim}: found sizes {sizes}, strides {strides}, dilations {dilations}, "
                         "expected each at least 1")
    counts = []
    for n, size, stride, dilation in zip(shape, sizes, strides, dilations, strict=True):
        span = (size - 1) * dilation + 1
        if n < span:
            raise ShapeFault(f"{prim}: found a window of {span} in an axis of {n} of {t}, "
                             "expected it to fit", "pad the axis first")
        counts.append(1 if n == span else (n - span) // stride + 1)
    return tuple(counts)


def _windows_types(x, sizes, strides, dilations):
    sizes = tuple(sizes)
    if not 0 < len(sizes) <= takes_tensor("windows", x).ndim:
        raise ShapeFault(f"windows: found sizes {sizes} for {x}, expected 1 to {x.ndim} of them")
    lead = x.ndim - len(sizes)
    counts = _window_counts("windows", x, x.shape[lead:], sizes, strides, dilations)
    return x.with_shape((*x.shape[:lead], *counts, *sizes))


def _windows(x, sizes, strides, dilations):
    x, lead = np.asarray(x), np.ndim(x) - len(sizes)
    own = x.strides[lead:]
    counts = _window_counts("windows", x.shape, x.shape[lead:], sizes, strides, dilations)
    return np.lib.stride_tricks.as_strided(
        x, (*x.shape[:lead], *counts, *sizes),
        (*x.strides[:lead], *(a * b for a, b in zip(own, strides, strict=True)),
         *(a * b for a, b in zip(own, dilations, strict=True))), writeable=False)


windows = primitive(
    "windows", "x", kind="view", types=_windows_types, eval=_windows, jvp=linear("windows"),
    batch=unmoved("windows"),
    doc="Every window of the last axes: [..., H, W] to [..., OH, OW, KH, KW].",
    vjp=lambda g, y, x, sizes, strides, dilations: [windows_add(
        g, shape=tuple(x.shape[x.ndim - len(sizes):]), strides=strides, dilations=dilations)],
    samples=lambda: [
        ([_numbers(2, 5)], {"sizes": (3,), "strides": (1,), "dilations": (1,)}),
        ([_numbers(5, 4)], {"sizes": (2, 2), "strides": (2, 1), "dilations": (2, 1)})])


def _windows_add_types(w, shape, strides, dilations):
    shape = shape_of("windows_add", shape)
    k = len(shape)
    lead = takes_tensor("windows_add", w, NUMBER).ndim - 2 * k
    if lead < 0 or k == 0:
        raise ShapeFault(f"windows_add: found {w} for shape {list(shape)}, expected "
                         f"at least {max(2 * k, 2)} axes")
    sizes = w.shape[lead + k:]
    counts = _window_counts("windows_add", w, shape, sizes, strides, dilations)
    if counts != w.shape[lead:lead + k]:
        raise ShapeFault(f"windows_add: found {w}, expected {list(counts)} windows for shape "
                         f"{list(shape)}")
    return w.with_shape((*w.shape[:lead], *shape))


def _windows_add(w, shape, strides, dilations):
    k = len(shape)
    lead = w.ndim - 2 * k
    counts, sizes = w.shape[lead:lead + k], w.shape[lead + k:]
    result = np.zeros((*w.shape[:lead], *shape), w.dtype)
    for at in np.ndindex(*sizes):
        places = tuple(builtins.slice(i * d, i * d + (count - 1) * stride + 1, stride)
                       for i, d, count, stride in zip(at, dilations, counts, strides, strict=True))
        result[(..., *places)] += w[(..., *at)]
    return result


windows_add = primitive(
    "windows_add", "w", kind="kernel", types=_windows_add_types, eval=num.rounded(_windows_add),
    jvp=linear("windows_add"), batch=unmoved("windows_add"),
    doc="Each window's elements added back to their places: the adjoint of windows.",
    vjp=lambda g, y, w, shape, strides, dilations: [windows(
        g, sizes=tuple(w.shape[w.ndim - len(shape):]), strides=strides, dilations=dilations)],
    samples=lambda: [
        ([_numbers(2, 3, 3)], {"shape": (5,), "strides": (1,), "dilations": (1,)}),
        ([_numbers(2, 3, 2, 2)], {"shape": (5, 4), "strides": (2, 1), "dilations": (2, 1)})])


# -- concat ----------------------------------------------------------------------------------------

def _concat_types(*xs, axis):
    if not xs:
        raise TypeFault("concat: found no tensors, expected at least one")
    first = takes_tensor("concat", xs[0])
    axis_of("concat", first, axis)
    for other in xs[1:]:
        takes_tensor("concat", other)
        if other.dtype is not first.dtype:
            raise TypeFault(f"concat: found {first} and {other}, expected one dtype",
                            "cast one of them")
        if other.ndim != first.ndim or any(
                i != axis and n != m
                for i, (n, m) in enumerate(zip(other.shape, first.shape, strict=True))):
            raise ShapeFault(f"concat: found {first} and {other}, expected shapes that differ in "
                             f"axis {axis} only")
    return first.with_shape((*first.shape[:axis], sum(x.shape[axis] for x in xs),
                             *first.shape[axis + 1:]))


def _concat_vjp(g, y, *xs, axis):
    parts, start = [], 0
    for x in xs:
        stop = start + x.shape[axis]
        parts.append(slice(
            g, starts=tuple(start if i == axis else 0 for i in range(x.ndim)),
            stops=tuple(stop if i == axis else n for i, n in enumerate(x.shape)),
            steps=(1,) * x.ndim))
        start = stop
    return parts


def _concat_jvp(dxs, y, *xs, axis):
    return concat(*(e.zero(x) if dx is None else dx for x, dx in zip(xs, dxs, strict=True)),
                  axis=axis)


concat = primitive(
    "concat", "*xs", doc="The tensors one after another along an axis.", kind="kernel",
    types=_concat_types, eval=lambda *xs, axis: np.concatenate(xs, axis), vjp=_concat_vjp,
    jvp=_concat_jvp,
    batch=lambda n, lanes, *xs, axis: concat(*together(n, lanes, xs), axis=axis + 1),
    samples=lambda: [([_numbers(2, 3), _numbers(2, 1)], {"axis": 1}),
                     ([_numbers(2), np.zeros((0,)), _numbers(3)], {"axis": 0}),
                     ([_numbers(2)], {"axis": 0})])


# -- between scalars, sizes and tensors ------------------------------------------------------------

def _from_scalar_types(x):
    if not isinstance(x, ScalarType):
        raise TypeFault(f"from_scalar: found {x}, expected a number")
    return TensorType(x.dtype, ())


def _to_scalar_types(x):
    if takes_tensor("to_scalar", x).shape != ():
        raise ShapeFault(f"to_scalar: found {x}, expected a tensor without axes",
                         "index or reduce it to one element")
    return ScalarType(_number_dtype(x.dtype))


def _number_dtype(dtype: DType) -> DType:
    """That of the Python number which holds such an element: bool, int or float."""
    return {"b": boolean, "u": i64, "i": i64, "f": f64}[dtype.kind]


from_scalar = primitive(
    "from_scalar", "x", doc="A number as a 0-d tensor.", kind="elementwise",
    types=_from_scalar_types, eval=np.asarray, scalar=lambda b, x: x,
    vjp=lambda g, y, x: [to_scalar(g)], jvp=linear("from_scalar"),
    batch=lambda n, lanes, x: x,        # a number of each lane is a tensor already
    samples=None)                       # takes no tensor: see tests/prims
to_scalar = primitive(
    "to_scalar", "x", doc="The element of a 0-d tensor as Python's bool, int or float.",
    kind="elementwise", types=_to_scalar_types,
    eval=lambda x: num.cast(x, _number_dtype(num.dtype_of(x))),
    scalar=lambda b, x: b.cast(x, _number_dtype(b.dtype(x))),
    vjp=lambda g, y, x: [e.cast(from_scalar(g), dtype=x.dtype)], jvp=linear("to_scalar"),
    batch=lambda n, lanes, x: e.cast(x, dtype=_number_dtype(x.dtype)),
    samples=lambda: [([np.array(2.5)], {})])

# The loop index and the dims array are a back end's own: no scalar form.
dim_size = primitive(
    "dim_size", "", doc="The size of a symbolic dimension, as an i64 number.", kind="elementwise",
    types=lambda dim: ScalarType(i64), eval=lambda dim: np.asarray(dim, np.int64), vjp=None,
    samples=lambda: [([], {"dim": Dim("n", 2)})])


def _iota_types(shape, axis, dtype: DType):
    result = takes("iota", TensorType(dtype, shape_of("iota", shape)), NUMBER)
    axis_of("iota", result, axis)
    return result


def _iota(shape, axis, dtype: DType):
    along = num.from_compute(np.arange(shape[axis]), dtype)
    own = [-1 if i == axis else 1 for i in range(len(shape))]
    return np.broadcast_to(along.reshape(own), shape)


iota = primitive(
    "iota", "", doc="The index along an axis, counted from 0.", kind="elementwise",
    types=_iota_types, eval=_iota, vjp=None,
    samples=lambda: [([], {"shape": (2, 3), "axis": 1, "dtype": i64}),
                     ([], {"shape": (4,), "axis": 0, "dtype": num.dtype("f64")})])
