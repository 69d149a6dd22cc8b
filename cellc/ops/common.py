"""What the families share: axes counted from either end, known integers, sizes as numbers."""

from __future__ import annotations

import numpy as np

from cellc.errors import ShapeFault, TypeFault
from cellc.ir import arith
from cellc.ir.graph import Constant, KnownFault, Node, current_builder
from cellc.ir.prims import shape as s
from cellc.ir.types import Dim, DType, ScalarType, TensorType, bf16, dtype, f16, f32, f64


def tensor_of(x):
    """x itself where it is a tensor; a number as a 0-d tensor."""
    if isinstance(arith.type_of(x), ScalarType):
        return s.from_scalar(x)
    return x


def floating(x):
    """x itself; an integer or bool number as a float number, as Python's math functions take it."""
    t = arith.type_of(x)
    if isinstance(t, ScalarType) and not t.dtype.is_float:
        return arith.cast(x, f64)
    return x


def widened(x):
    """x in f32 where it is f16 or bf16.

    For what takes several steps: it is then rounded once, at the end, and a sum or a square on the
    way may exceed what the narrow dtype holds (65504 for f16).
    """
    return arith.cast(x, f32) if arith.type_of(x).dtype in (f16, bf16) else x


def narrowed(y, kind: DType):
    """The result of a computation on a `widened` x back in the dtype x had."""
    return arith.cast(y, kind) if kind in (f16, bf16) else y


def known_int(value, what: str) -> int:
    """A Python int known when the program is built; TypeFault otherwise."""
    if isinstance(value, Node) and isinstance(value.type, ScalarType):
        raise KnownFault(value)
    if isinstance(value, bool) or not hasattr(value, "__index__") or isinstance(
            getattr(value, "type", None), (TensorType, ScalarType)):
        raise TypeFault(f"{what} must be a known int, found {value!r}")
    return value if isinstance(value, Dim) else value.__index__()


def axis_of(axis, ndim: int, what: str = "axis") -> int:
    """The axis counted from the left; negative ones count from the right. ShapeFault outside."""
    axis = known_int(axis, what)
    if not -ndim <= axis < ndim:
        allowed = f"{-ndim} to {ndim - 1}" if ndim else "nothing: it has no axes"
        raise ShapeFault(f"{what} {axis} of a {ndim}-d tensor", f"one of {allowed}")
    return axis % ndim


def axes_of(axis, ndim: int, what: str = "axis") -> tuple[int, ...]:
    """Axes from None or () (all), an int, or a list of distinct ints; in rising order."""
    if axis is None or (isinstance(axis, (tuple, list)) and not axis):
        return tuple(range(ndim))
    if not isinstance(axis, (tuple, list)):
        return (axis_of(axis, ndim, what),)
    axes = sorted(axis_of(a, ndim, what) for a in axis)
    if len(set(axes)) != len(axes):
        raise ShapeFault(f"{what} {tuple(axis)} names an axis twice")
    return tuple(axes)


def pair(value, n: int, what: str) -> tuple[int, ...]:
    """n ints from one int or from n of them."""
    if isinstance(value, (tuple, list)):
        if len(value) != n:
            raise ShapeFault(f"{what} has {len(value)} entries, expected 1 or {n}")
        return tuple(known_int(v, what) for v in value)
    return (known_int(value, what),) * n


def number_of(size):
    """A size as a number of the program: an int, or a scalar node for a symbolic dimension."""
    return arith.size_number(size) if isinstance(size, Dim) else size


def constant(values: np.ndarray):
    """An array as a tensor: a constant of the graph being built, else a Tensor."""
    t = TensorType(dtype(values.dtype), values.shape)
    if building():
        return Constant(t, values)
    from cellc.tensor import wrap

    return wrap(np.array(values, order="C"), t)


def building() -> bool:
    """Whether a graph is being built, so that values are not at hand."""
    return current_builder() is not None


def match(x, like: DType):
    """x in the dtype `like`, numbers too."""
    return arith.cast(tensor_of(x), like)
