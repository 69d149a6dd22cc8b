"""Sizes that the program finds: `?n`, a dimension like any other once `set_size` has said what it
is. Where two of them meet, or one meets a known size, `resized` checks that they are equal."""

from __future__ import annotations

from cellc.errors import ShapeFault, TypeFault
from cellc.ir.graph import primitive
from cellc.ir.prims.checks import takes_tensor
from cellc.ir.prims.rules import linear
from cellc.ir.types import Dim, ScalarType, TupleType, i64


def _set_types(n, dim):
    if n != ScalarType(i64):
        raise TypeFault(f"set_size: found {n}, expected an i64")
    if not isinstance(dim, Dim) or not dim.is_found or dim.coef != 1:
        raise TypeFault(f"set_size: found {dim}, expected the name of a size that is found")
    return TupleType(())


def _resized_types(x, shape):
    if len(shape) != takes_tensor("resized", x).ndim:
        raise ShapeFault(f"resized: found {x} for shape {list(shape)}, expected as many axes")
    return x.with_shape(shape)


def sizes_differ(found, expected) -> ShapeFault:
    return ShapeFault(f"sizes {found} and {expected} do not meet",
                      "a size known only when the program runs equals the one it meets")


def _resized(x, shape):
    for found, expected in zip(x.shape, shape, strict=True):
        if found != expected:
            raise sizes_differ(found, expected)
    return x


set_size = primitive(
    "set_size", "n", doc="From here on, this number is the size `dim` of the program.",
    kind="control", types=_set_types, eval=lambda n, dim: (), vjp=None, effect=True)
resized = primitive(
    "resized", "x", doc="x, whose sizes are those of `shape`: if they are not, the call ends.",
    kind="control", types=_resized_types, eval=_resized, jvp=linear("resized"),
    vjp=lambda g, y, x, shape: [resized(g, shape=x.shape)])
