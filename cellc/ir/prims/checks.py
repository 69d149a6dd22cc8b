"""What primitives ask of their operands, and how they say no: in the user's terms, `f32[3,4]`."""

from __future__ import annotations

from cellc.errors import ShapeFault, TypeFault
from cellc.ir.types import ScalarType, TensorType

# The kinds of dtype a primitive takes: letters of DType.kind, and how to say it.
FLOAT, NUMBER, INTEGER, BITS, BOOL, ANY = "f", "iuf", "iu", "biu", "b", "biuf"
_SAID = {FLOAT: "a float dtype", NUMBER: "an integer or float dtype", INTEGER: "an integer dtype",
         BITS: "an integer dtype or bool", BOOL: "bool", ANY: "a tensor or number"}
_REMEDY = {FLOAT: "cast it to a float dtype first", INTEGER: "cast it to an integer dtype first",
           NUMBER: "cast it to an integer or float dtype first", BOOL: "compare it with something",
           BITS: "cast it to an integer dtype first", ANY: ""}


def takes(prim: str, t, kinds: str = ANY):
    """A tensor or scalar of one of the kinds; returns it."""
    if not isinstance(t, (TensorType, ScalarType)):
        raise TypeFault(f"{prim}: found {t}, expected a tensor or number")
    if t.dtype.kind not in kinds:
        raise TypeFault(f"{prim}: found {t}, expected {_SAID[kinds]}", _REMEDY[kinds])
    return t


def takes_tensor(prim: str, t, kinds: str = ANY) -> TensorType:
    """A tensor of one of the kinds; returns it."""
    if isinstance(t, ScalarType):
        raise TypeFault(f"{prim}: found the number type {t}, expected a tensor",
                        "make a tensor of it: Tensor(value)")
    return takes(prim, t, kinds)


def alike(prim: str, *types, kinds: str = ANY):
    """All of one type; returns it."""
    first = takes(prim, types[0], kinds)
    for other in types[1:]:
        takes(prim, other, kinds)
        if other == first:
            continue
        found = f"{prim}: found {first} and {other}"
        if type(other) is not type(first):
            raise TypeFault(f"{found}, expected both tensors or both numbers")
        if other.dtype is not first.dtype:
            raise TypeFault(f"{found}, expected one dtype", "cast one of them")
        raise ShapeFault(f"{found}, expected one shape", "reshape or broadcast one of them")
    return first


def axis_of(prim: str, t: TensorType, axis: int) -> int:
    """A position of an axis, counted from the left; returns it."""
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise TypeFault(f"{prim}: found axis {axis!r}, expected an int")
    if not 0 <= axis < t.ndim:
        expected = f"0 to {t.ndim - 1}" if t.ndim else "none: a 0-d tensor has no axes"
        raise ShapeFault(f"{prim}: found axis {axis} of {t}, expected {expected}")
    return axis


def axes_of(prim: str, t: TensorType, axes) -> tuple[int, ...]:
    """Distinct axes; returns them as a tuple."""
    axes = tuple(axis_of(prim, t, axis) for axis in axes)
    if len(set(axes)) != len(axes):
        raise ShapeFault(f"{prim}: found axes {axes}, expected each axis once")
    return axes


def per_axis(prim: str, what: str, values, n: int) -> tuple:
    """One entry per axis; returns them as a tuple."""
    values = tuple(values)
    if len(values) != n:
        raise ShapeFault(f"{prim}: found {what} {values}, expected {n} of them, one per axis")
    return values


def shape_of(prim: str, shape) -> tuple:
    """Sizes that are not negative; returns them as a tuple."""
    shape = tuple(shape)
    if any(n < 0 for n in shape):
        raise ShapeFault(f"{prim}: found shape {list(shape)}, expected sizes of 0 or more")
    return shape
