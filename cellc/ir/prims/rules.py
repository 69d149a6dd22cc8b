"""Rules that whole families of primitives share: forward derivatives, and batches of lanes.

`jvp` rules, `(dxs, y, *operands, **attrs) -> dy`: the tangent of the result from those of the
operands; a tangent of None is zero, and at least one is not. What a `vjp` says already is not said
again: an elementwise Jacobian is diagonal, so its transpose is itself; a reduction's result depends
on elements of its own, so the cotangent 1 gives the whole Jacobian.

`batch` rules, `(n, lanes, *operands, **attrs) -> y`: n independent applies at once. Operand i has
the lanes as a new first axis where `lanes[i]`, else all lanes share it; the result has them first.
A number (ScalarType) of each lane is a tensor of its dtype. At least one operand has lanes.
"""

from __future__ import annotations

from cellc.ir.graph import PRIMITIVES, Constant, fill
from cellc.ir.types import ScalarType, TensorType

# -- forward derivatives ---------------------------------------------------------------------------


def diagonal(vjp):
    """Of an elementwise primitive: what the operands' tangents contribute, each by its `vjp`."""
    if vjp is None:
        return None

    def jvp(dxs, y, *operands, **attrs):
        total = None
        for i, dx in enumerate(dxs):
            part = vjp(dx, y, *operands, **attrs)[i] if dx is not None else None
            if part is not None:
                total = part if total is None else PRIMITIVES["add"](total, part)
        return total

    return jvp


def linear(name: str, at: int = 0):
    """Of a primitive that is linear in its operand `at`: itself, on the tangent."""

    def jvp(dxs, y, *operands, **attrs):
        return PRIMITIVES[name](*operands[:at], dxs[at], *operands[at + 1:], **attrs)

    return jvp


def reduction(vjp):
    """Of a reduction: the sum of the tangents, each times the derivative by its element."""
    if vjp is None:
        return None

    def jvp(dxs, y, x, axes):
        slopes = vjp(fill(y.type, 1), y, x, axes=axes)[0]
        return PRIMITIVES["reduce_sum"](PRIMITIVES["mul"](dxs[0], slopes), axes=axes)

    return jvp


# -- lanes -----------------------------------------------------------------------------------------


def spread(n, x):
    """What all lanes share, as a value with lanes."""
    dtype, shape = x.type.dtype, tuple(x.type.shape)
    if isinstance(x, Constant) and x.is_fill:
        return fill(TensorType(dtype, (n, *shape)), x.value)
    if isinstance(x.type, ScalarType):
        x = PRIMITIVES["from_scalar"](x)
    return PRIMITIVES["broadcast"](x, shape=(n, *shape), dims=tuple(range(1, len(shape) + 1)))


def choose(mask, x, y):
    """x in the lanes where the mask holds, y in the others."""
    if mask.shape != x.shape:
        mask = PRIMITIVES["broadcast"](mask, shape=x.shape, dims=(0,))
    return PRIMITIVES["select"](mask, x, y)


def together(n, lanes, operands) -> list:
    """All operands with lanes."""
    return [x if own else spread(n, x) for own, x in zip(lanes, operands, strict=True)]


def each(name: str):
    """Of an elementwise primitive: itself, one axis more."""
    return lambda n, lanes, /, *xs, **attrs: PRIMITIVES[name](*together(n, lanes, xs), **attrs)


def later(axes) -> tuple[int, ...]:
    """The same axes where the lanes stand before them."""
    return tuple(axis + 1 for axis in axes)


def shifted(name: str, what: str = "axes"):
    """Of a primitive of one operand with an axis, or axes, among its attributes: one further."""

    def batch(n, lanes, x, /, **attrs):
        given = attrs[what]
        moved = given + 1 if isinstance(given, int) else later(given)
        return PRIMITIVES[name](x, **attrs | {what: moved})

    return batch


def unmoved(name: str):
    """Of a primitive that counts its axes from the right: itself."""
    return lambda n, lanes, x, /, **attrs: PRIMITIVES[name](x, **attrs)


def lanes_first(x, axis: int):
    """x with the axis that is its lanes moved to the front."""
    if axis == 0:
        return x
    order = (axis, *(i for i in range(len(x.shape)) if i != axis))
    return PRIMITIVES["transpose"](x, perm=order)
