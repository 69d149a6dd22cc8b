"""Reductions: many elements along some axes give one.

`reduce=(op, neutral)` names the scalar operation that combines two elements, and a function from
the compute dtype to the element that changes nothing. Sums of f16 and bf16 accumulate in f32 at
least; the meaning (`eval`) accumulates floats in f64 and rounds once, so that it is the more exact.
A maximum or minimum of nothing is refused. Ties share the gradient of an extremum evenly.
"""

from __future__ import annotations

import math

import numpy as np

from cellc.errors import ShapeFault, SymbolicFault
from cellc.ir import numerics as num
from cellc.ir.graph import Apply, primitive
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import shape as s
from cellc.ir.prims.checks import BOOL, NUMBER, axes_of, axis_of, takes_tensor
from cellc.ir.prims.rules import linear, reduction, shifted
from cellc.ir.types import DType, TensorType, i64


def remaining(t: TensorType, axes) -> tuple[int, ...]:
    """The axes that a reduction over `axes` keeps."""
    return tuple(i for i in range(t.ndim) if i not in axes)


def reduced_axes(node: Apply) -> tuple[int, ...]:
    """The axes that an apply of a reduction takes together, in rising order."""
    axes = node.attrs.get("axes")
    return tuple(sorted(axes)) if axes is not None else (node.attrs["axis"],)


def spread_out(g, like, axes):
    """The cotangent of a reduction's result, repeated along the reduced axes."""
    return s.broadcast(g, shape=like.shape, dims=remaining(like.type, axes))


def lowest(dtype: DType):
    """What no element is below: where a maximum starts."""
    return -math.inf if dtype.is_float else int(np.iinfo(dtype.numpy).min)


def highest(dtype: DType):
    """What no element is above: where a minimum starts."""
    return math.inf if dtype.is_float else int(np.iinfo(dtype.numpy).max)


def _samples():
    draw = np.random.default_rng(7).uniform
    return [([draw(-2, 2, (2, 3, 4))], {"axes": (1,)}),
            ([draw(-2, 2, (2, 3, 4))], {"axes": (0, 2)}),
            ([draw(-2, 2, (3, 2))], {"axes": (0, 1)}), ([draw(-2, 2, (4,))], {"axes": ()}),
            ([draw(-2, 2, (1, 3))], {"axes": (0,)}), ([np.array(1.5)], {"axes": ()})]


def _reduction(name: str, doc: str, eval, vjp, reduce, kinds: str = NUMBER, of_nothing=True,
               samples=_samples, jvp=None):
    def types(x, axes):
        axes = axes_of(name, takes_tensor(name, x, kinds), axes)
        if not of_nothing and any(x.shape[axis] == 0 for axis in axes):
            raise ShapeFault(f"{name}: found {x} over axes {axes}, expected at least one element")
        return x.with_shape(x.shape[i] for i in remaining(x, axes))

    return primitive(name, "x", doc=doc, kind="reduce", types=types, eval=num.rounded(eval),
                     vjp=vjp, jvp=jvp or reduction(vjp), batch=shifted(name), reduce=reduce,
                     samples=samples)


reduce_sum = _reduction(
    "reduce_sum", "The sum over axes; 0 of nothing.", lambda x, axes: num.total(x, axes),
    lambda g, y, x, axes: [spread_out(g, x, axes)], ("add", lambda dtype: 0),
    jvp=linear("reduce_sum"))


def _extremum_vjp(g, y, x, axes):
    """The elements equal to the result share the cotangent evenly."""
    here = e.eq(x, spread_out(y, x, axes))
    count = reduce_sum(e.cast(here, dtype=x.dtype), axes=axes)
    return [e.select(here, spread_out(g / count, x, axes), e.zero(x))]


reduce_max = _reduction(
    "reduce_max", "The largest over axes; NaN where there is one.",
    lambda x, axes: np.max(x, axis=tuple(axes)), _extremum_vjp, ("max", lowest), of_nothing=False)
reduce_min = _reduction(
    "reduce_min", "The smallest over axes; NaN where there is one.",
    lambda x, axes: np.min(x, axis=tuple(axes)), _extremum_vjp, ("min", highest), of_nothing=False)


def _products_before(x, axis: int):
    """At each place the product of all earlier elements: log2(n) rounds of shift and multiply."""
    n = x.shape[axis]

    def shifted(p, by: int):
        low = tuple(by if i == axis else 0 for i in range(x.ndim))
        stops = tuple(n - by if i == axis else size for i, size in enumerate(x.shape))
        kept = s.slice(p, starts=(0,) * x.ndim, stops=stops, steps=(1,) * x.ndim)
        return s.pad(kept, low=low, high=(0,) * x.ndim, value=1)

    result, by = shifted(x, 1), 1
    while by < n:
        result = result * shifted(result, by)
        by *= 2
    return result


def _prod_vjp(g, y, x, axes):
    """g times the product of all other elements, undivided: right with zeros, to any order."""
    if any(x.shape[axis] == 0 for axis in axes):
        return [e.zero(x)]
    kept = remaining(x.type, axes)
    order = (*kept, *axes)
    n = math.prod(x.shape[axis] for axis in axes)
    flat = s.reshape(s.transpose(x, perm=order), shape=(*(x.shape[i] for i in kept), n))
    last = len(kept)
    after = s.flip(_products_before(s.flip(flat, axes=(last,)), last), axes=(last,))
    others = _products_before(flat, last) * after
    others = s.reshape(others, shape=tuple(x.shape[i] for i in order))
    return [spread_out(g, x, axes) * s.transpose(others, perm=s.inverse(order))]


def _prod_samples():
    return [*_samples(), ([np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 4.0]])], {"axes": (1,)})]


reduce_prod = _reduction(
    "reduce_prod", "The product over axes; 1 of nothing.",
    lambda x, axes: num.total(x, axes, np.prod), _prod_vjp, ("mul", lambda dtype: 1),
    samples=_prod_samples)


def _bool_samples():
    x = np.array([[True, False, True], [True, True, True]])
    return [([x], {"axes": (1,)}), ([x], {"axes": (0, 1)}), ([x], {"axes": ()})]


reduce_and = _reduction(
    "reduce_and", "Do all hold; true of nothing.", lambda x, axes: np.all(x, axis=tuple(axes)),
    None, ("bit_and", lambda dtype: True), BOOL, samples=_bool_samples)
reduce_or = _reduction(
    "reduce_or", "Does any hold; false of nothing.", lambda x, axes: np.any(x, axis=tuple(axes)),
    None, ("bit_or", lambda dtype: False), BOOL, samples=_bool_samples)


# -- positions -------------------------------------------------------------------------------------

def _position(name: str, doc: str, function):
    """argmax or argmin. Its loop carries a pair (element, index), so `reduce` is None."""

    def types(x, axis):
        if takes_tensor(name, x, NUMBER).shape[axis_of(name, x, axis)] == 0:
            raise ShapeFault(f"{name}: found {x} over axis {axis}, expected at least one element")
        return TensorType(i64, (*x.shape[:axis], *x.shape[axis + 1:]))

    return primitive(
        name, "x", doc=doc, kind="reduce", types=types, vjp=None,     # whole numbers: no gradient
        batch=shifted(name, "axis"),
        eval=lambda x, axis: np.asarray(function(num.to_compute(x), axis=axis), np.int64),
        samples=lambda: [([np.random.default_rng(9).uniform(-2, 2, (2, 3))], {"axis": 1}),
                         ([np.array([1.0, 4, 4, 0])], {"axis": 0})])


argmax = _position("argmax", "The index of the largest along an axis: the first; NaN wins.",
                   np.argmax)
argmin = _position("argmin", "The index of the smallest along an axis: the first; NaN wins.",
                   np.argmin)


def _argsort_types(x, axis, descending, keep):
    takes_tensor("argsort", x)
    axis_of("argsort", x, axis)
    n = x.shape[axis]
    if keep is not None and not isinstance(n, int):
        raise SymbolicFault(f"the program needs the first {keep} of {n} places")
    if keep is not None and not 0 <= keep <= n:
        raise ShapeFault(f"argsort: found {keep} places of {x} over axis {axis}, expected 0 to {n}")
    return TensorType(i64, (*x.shape[:axis], n if keep is None else keep, *x.shape[axis + 1:]))


def _argsort(x, axis, descending, keep):
    values = num.to_compute(x)
    if descending:      # a stable falling order is the rising one of the flipped row, flipped
        order = np.flip(np.argsort(np.flip(values, axis), axis, kind="stable"), axis)
        order = values.shape[axis] - 1 - order
    else:
        order = np.argsort(values, axis, kind="stable")
    return np.take(order, range(order.shape[axis] if keep is None else keep), axis).astype(np.int64)


def _argsort_samples():
    ties = np.array([[3.0, 1, -0.0, math.nan, 0, 1, -math.inf, 2], [1, 1, 1, 0, 2, 2, 0, 0]])
    long = np.random.default_rng(9).uniform(-2, 2, (3, 70))
    return [([x], {"axis": axis, "descending": falling, "keep": keep}) for x, axis, keep in (
        (ties, 1, None), (ties, 0, 1), (long, 1, None), (long, 1, 5), (long.T, 0, None),
        (np.zeros((2, 0)), 1, None)) for falling in (False, True)]


argsort = primitive(
    "argsort", "x", doc="The places that sort x along an axis, all or the first `keep`; equal "
    "elements keep their order, and a NaN is larger than the rest.", kind="kernel",
    types=_argsort_types, vjp=None, eval=_argsort, batch=shifted("argsort", "axis"),
    samples=_argsort_samples)


# -- running sums ----------------------------------------------------------------------------------

def _cumsum_types(x, axis, reverse=False):
    axis_of("cumsum", takes_tensor("cumsum", x, NUMBER), axis)
    return x


def _cumsum(x, axis, reverse=False):
    wide = np.float64 if x.dtype.kind == "f" else x.dtype
    if reverse:
        return np.flip(np.cumsum(np.flip(x, axis), axis=axis, dtype=wide), axis)
    return np.cumsum(x, axis=axis, dtype=wide)


cumsum = primitive(
    "cumsum", "x", doc="Sums of all elements up to each, along an axis; from the end if reverse.",
    kind="kernel", types=_cumsum_types, eval=num.rounded(_cumsum), jvp=linear("cumsum"),
    batch=shifted("cumsum", "axis"),
    vjp=lambda g, y, x, axis, reverse=False: [cumsum(g, axis=axis, reverse=not reverse)],
    samples=lambda: [([np.arange(6.0).reshape(2, 3)], {"axis": 1, "reverse": False}),
                     ([np.arange(6.0).reshape(2, 3)], {"axis": 0, "reverse": True})])
