"""Reductions over axes.

`axis` is None (all axes), an int or a tuple of ints, counted from either end; with `keepdims` the
reduced axes stay with size 1. All axes are static. MindSpore spells these two arguments in several
ways; all are taken: axis or dim, keepdims, keep_dims or keepdim.
"""

from __future__ import annotations

import builtins
import functools
import math

from cellc.errors import ShapeFault
from cellc.ir import arith
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import reduce as r
from cellc.ir.prims import shape as s
from cellc.ir.types import ScalarType, boolean, f32, i64
from cellc.ops.common import axes_of, axis_of, floating, narrowed, number_of, tensor_of, widened

_SPELLINGS = {"dim": "axis", "keep_dims": "keepdims", "keepdim": "keepdims"}


def _spelled(function):
    """The function with the other spellings of `axis` and `keepdims` as keywords."""
    @functools.wraps(function)
    def call(*args, **kwargs):
        if _SPELLINGS.keys() & kwargs.keys():
            renamed = {_SPELLINGS.get(key, key): value for key, value in kwargs.items()}
            kwargs = renamed if len(renamed) == len(kwargs) else kwargs
        return function(*args, **kwargs)

    return call


def _kept(y, x, axes, keepdims):
    """The result with the reduced axes as size 1 where asked for."""
    if not keepdims:
        return y
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    return s.reshape(y, shape=shape)


def _reduction(prim, x, axis, keepdims):
    x = tensor_of(x)
    axes = axes_of(axis, len(x.shape))
    return _kept(prim(x, axes=axes), x, axes, keepdims)


def _summable(x, dtype=None, kinds="b"):
    """x in the dtype asked for; else bool, or all dtypes of these kinds, in i64."""
    if dtype is not None:
        return arith.cast(x, dtype)
    t = arith.type_of(x)
    return arith.cast(x, i64) if t.dtype.kind in kinds and t.dtype.itemsize < 8 else x


@_spelled
def sum(x, axis=None, keepdims=False, *, dtype=None):
    """The sum over axes; 0 for none.

    Dtypes:   all; f16 and bf16 are summed in f32; bool and integers of less than 64 bits give i64.
    Gradient: g, repeated.
    """
    return _reduction(r.reduce_sum, _summable(x, dtype, "biu"), axis, keepdims)


def reduce_sum(x, axis=None, keepdims=False):
    """The sum over axes in the dtype of x (bool: i64): the operator ReduceSum."""
    return _reduction(r.reduce_sum, _summable(x), axis, keepdims)


@_spelled
def prod(x, axis=None, keepdims=False, *, dtype=None):
    """The product over axes; 1 for none. Dtypes: as of sum.

    Gradient: g times the product of the others.
    """
    return _reduction(r.reduce_prod, _summable(x, dtype, "biu"), axis, keepdims)


def reduce_prod(x, axis=None, keepdims=False):
    """The product over axes in the dtype of x (bool: i64): the operator ReduceProd."""
    return _reduction(r.reduce_prod, _summable(x), axis, keepdims)


def count(x, axes):
    """How many elements a reduction over axes takes, as a number (symbolic sizes too)."""
    return number_of(math.prod(x.shape[i] for i in axes))


@_spelled
def mean(x, axis=None, keepdims=False, *, dtype=None):
    """The mean over axes; NaN for none. Dtypes: floats -> same; integers and bool -> f32."""
    x = tensor_of(x)
    kind = dtype or (x.dtype if x.dtype.is_float else f32)
    x = widened(arith.cast(x, kind))
    axes = axes_of(axis, len(x.shape))
    total = _kept(r.reduce_sum(x, axes=axes), x, axes, keepdims)
    n = count(x, axes)
    share = 1.0 / n if isinstance(n, int) and n else arith.div(1.0, n)
    return arith.cast(arith.mul(total, share), kind)


@_spelled
def var(x, axis=None, ddof=0, keepdims=False):
    """The variance over axes: the mean squared distance from the mean, over n - ddof.

    Dtypes:   floats -> same. `ddof` may be True or False as well.
    Source:   two passes (mean first), so that a large mean costs no digits.
    """
    x = tensor_of(x)
    return narrowed(_variance(x, axis, ddof, keepdims), x.dtype)


def _variance(x, axis, ddof, keepdims):
    """The variance, of f16 and bf16 in f32."""
    x = widened(x)
    axes = axes_of(axis, len(x.shape))
    centred = arith.sub(x, mean(x, axes, True))
    total = _kept(r.reduce_sum(arith.mul(centred, centred), axes=axes), x, axes, keepdims)
    n = count(x, axes)
    if not isinstance(n, int):
        return arith.div(total, arith.sub(n, int(ddof)))
    return arith.div(total, float(builtins.max(n - int(ddof), 0)))


@_spelled
def std(x, axis=None, ddof=0, keepdims=False):
    """The square root of the variance. Gradient where all are equal: 0."""
    x = tensor_of(x)
    return narrowed(_root(_variance(x, axis, ddof, keepdims)), x.dtype)


def _root(total):
    """The square root of a sum of squares, whose gradient at 0 is 0 (where sqrt's is infinite)."""
    some = arith.not_equal(total, 0.0)
    return arith.where(some, e.sqrt(arith.where(some, total, 1.0)), 0.0)


@_spelled
def amax(x, axis=None, keepdims=False):
    """The largest over axes; NaN where there is one. Gradient: shared evenly among equals."""
    return _reduction(r.reduce_max, x, axis, keepdims)


@_spelled
def amin(x, axis=None, keepdims=False):
    """The smallest over axes; NaN where there is one. Gradient: shared evenly among equals."""
    return _reduction(r.reduce_min, x, axis, keepdims)


@_spelled
def max(x, axis=None, keepdims=False):
    """(the largest, its index) along an axis, or of all elements; see amax and argmax."""
    return amax(x, axis, keepdims), argmax(x, axis, keepdims)


@_spelled
def min(x, axis=None, keepdims=False):
    """(the smallest, its index) along an axis, or of all elements; see amin and argmin."""
    return amin(x, axis, keepdims), argmin(x, axis, keepdims)


@_spelled
def all(x, axis=None, keepdims=False):
    """Whether all elements over axes are nonzero -> bool."""
    return _reduction(r.reduce_and, arith.cast(tensor_of(x), boolean), axis, keepdims)


@_spelled
def any(x, axis=None, keepdims=False):
    """Whether some element over axes is nonzero -> bool."""
    return _reduction(r.reduce_or, arith.cast(tensor_of(x), boolean), axis, keepdims)


def _position(prim, x, axis, keepdims):
    x = tensor_of(x)
    if x.dtype is boolean:
        x = arith.cast(x, i64)
    if axis is None:
        flat = prim(s.reshape(x, shape=(math.prod(x.shape),)), axis=0)
        return s.reshape(flat, shape=(1,) * len(x.shape)) if keepdims else flat
    axis = axis_of(axis, len(x.shape))
    return _kept(prim(x, axis=axis), x, (axis,), keepdims)


@_spelled
def argmax(x, axis=None, keepdims=False):
    """The index of the largest along an axis (of the flat tensor for None) -> i64: the first."""
    return _position(r.argmax, x, axis, keepdims)


@_spelled
def argmin(x, axis=None, keepdims=False):
    """The index of the smallest along an axis (of the flat tensor for None) -> i64: the first."""
    return _position(r.argmin, x, axis, keepdims)


@_spelled
def max_with_index(x, axis=0, keepdims=False):
    """(index of the largest, the largest) along an axis."""
    return argmax(x, axis, keepdims), amax(x, axis, keepdims)


def cumsum(x, axis, *, dtype=None):
    """Sums of all elements up to each along an axis. Gradient: the same from the other end."""
    x = _summable(tensor_of(x), dtype)
    return r.cumsum(x, axis=axis_of(axis, len(x.shape)), reverse=False)


@_spelled
def logsumexp(x, axis=None, keepdims=False):
    """log(sum(exp(x))) over axes, without overflow.

    Gradient: g * softmax(x).
    Source:   maximum subtracted first; Blanchard, Higham and Higham, IMA J. Numer. Anal. 41, 2021.
    """
    kind = arith.type_of(x).dtype
    x = widened(floating(tensor_of(x)))
    axes = axes_of(axis, len(x.shape))
    top = finite_peak(x, axes)
    total = e.log(r.reduce_sum(e.exp(arith.sub(x, top)), axes=axes))
    total = _kept(total, x, axes, True)
    total = narrowed(arith.add(total, top), kind)
    if keepdims:
        return total
    return s.reshape(total, shape=tuple(n for i, n in enumerate(x.shape) if i not in axes))


def finite_peak(x, axes):
    """The maximum over axes (kept), without a gradient: what is subtracted before `exp`.

    An infinite one is taken as 0, so that nothing becomes inf - inf.
    """
    top = e.stop_gradient(_kept(r.reduce_max(x, axes=axes), x, axes, True))
    return arith.where(e.is_finite(top), top, 0.0)


@_spelled
def norm(x, ord=2, axis=None, keepdims=False):
    """The vector norm over axes: ord 1, 2, inf, -inf or any other positive number.

    Gradient of the 2-norm of zeros: 0.
    """
    x = tensor_of(x)
    return narrowed(_norm(widened(x), ord, axis, keepdims), x.dtype)


def _norm(x, ord, axis, keepdims):
    if ord == 2:
        return _root(sum(arith.mul(x, x), axis, keepdims))
    if ord == 1:
        return sum(e.abs(x), axis, keepdims)
    if ord in (float("inf"), -float("inf")):
        return (amax if ord > 0 else amin)(e.abs(x), axis, keepdims)
    if not isinstance(arith.type_of(ord), ScalarType):
        raise ShapeFault(f"norm: found ord {ord!r}, expected a number")
    return arith.pow(sum(arith.pow(e.abs(x), ord), axis, keepdims), 1.0 / ord)
