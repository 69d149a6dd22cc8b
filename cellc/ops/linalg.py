"""Products of matrices and vectors, all of them one `dot`."""

from __future__ import annotations

from cellc.errors import ShapeFault
from cellc.ir import arith
from cellc.ir.prims import shape as s
from cellc.ir.prims.contraction import dot as contraction
from cellc.ops.common import axis_of, tensor_of
from cellc.ops.shape import reshape, swapaxes


def _meeting(a, b):
    """Two tensors in the dtype they meet in."""
    a, b = tensor_of(a), tensor_of(b)
    kind = arith.result_dtype(arith.type_of(a), arith.type_of(b))
    return arith.cast(a, kind), arith.cast(b, kind)


def matmul(a, b):
    """The matrix product, as Python's `@`.

    Shapes:   [..., n, k] @ [..., k, m] -> [..., n, m], leading axes broadcast; a 1-d operand is a
              row (left) or a column (right), whose axis is dropped.
    Dtypes:   any but bool; they meet; f16 and bf16 accumulate in f32, integers wrap. int8 or uint8
              that are cast to int32 are compiled to read bytes: `matmul(a.astype(int32), ...)`.
    Errors:   ShapeFault where the inner sizes differ or an operand is 0-d.
    Gradient: g @ b^T and a^T @ g, summed over broadcast axes.
    """
    a, b = _meeting(a, b)
    na, nb = len(a.shape), len(b.shape)
    if not na or not nb:
        raise ShapeFault("matmul of a 0-d tensor", "use * to scale")
    inner_a, inner_b = a.shape[-1], b.shape[0 if nb == 1 else -2]
    if inner_a != inner_b:
        raise ShapeFault(f"matmul of shapes {list(a.shape)} and {list(b.shape)}: the inner sizes "
                         f"{inner_a} and {inner_b} differ", "transpose one operand")
    if nb <= 2:        # the leading axes of a are all free
        return contraction(a, b, contract=((na - 1,), (0,)), batch=((), ()))
    if na == 1:
        return contraction(b, a, contract=((nb - 2,), (0,)), batch=((), ()))
    lead = arith.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = arith.broadcast_to(a, (*lead, *a.shape[-2:]))
    b = arith.broadcast_to(b, (*lead, *b.shape[-2:]))
    n = len(lead)
    batch = tuple(range(n))
    return contraction(a, b, contract=((n + 1,), (n,)), batch=(batch, batch))


def mm(a, b):
    """The product of two matrices."""
    return matmul(a, b)


def bmm(a, b):
    """The products of two stacks of matrices [..., n, k] and [..., k, m]."""
    return matmul(a, b)


def batch_matmul(a, b, transpose_a=False, transpose_b=False):
    """`matmul`, with the last two axes of an operand exchanged first where asked for."""
    a = swapaxes(a, -1, -2) if transpose_a else a
    b = swapaxes(b, -1, -2) if transpose_b else b
    return matmul(a, b)


def dot(a, b):
    """The sum of products over the last axis of a and the last but one (or only) axis of b."""
    a, b = _meeting(a, b)
    if not a.shape or not b.shape:
        return arith.mul(a, b)
    axis = len(b.shape) - 2 if len(b.shape) > 1 else 0
    return contraction(a, b, contract=((len(a.shape) - 1,), (axis,)), batch=((), ()))


def tensordot(a, b, axes=2):
    """Products summed over axes: the last `axes` of a with the first of b, or two lists of axes."""
    a, b = _meeting(a, b)
    if isinstance(axes, int):
        of_a = tuple(range(len(a.shape) - axes, len(a.shape)))
        of_b = tuple(range(axes))
    else:
        of_a, of_b = ((v,) if isinstance(v, int) else tuple(v) for v in axes)
        of_a = tuple(axis_of(v, len(a.shape)) for v in of_a)
        of_b = tuple(axis_of(v, len(b.shape)) for v in of_b)
    return contraction(a, b, contract=(of_a, of_b), batch=((), ()))


def outer(a, b):
    """All products of two vectors [n], [m] -> [n, m]."""
    a, b = _meeting(a, b)
    return contraction(reshape(a, (-1,)), reshape(b, (-1,)), contract=((), ()), batch=((), ()))


def linear(x, weight, bias=None):
    """x @ weight^T + bias.

    Shapes: x [..., in], weight [out, in], bias [out] -> [..., out].
    """
    x, weight = _meeting(x, weight)
    if not x.shape or x.shape[-1] != weight.shape[-1]:
        raise ShapeFault(f"linear: found x of shape {list(x.shape)} and weight of shape "
                         f"{list(weight.shape)}, expected the last axes equal")
    y = contraction(x, weight, contract=((len(x.shape) - 1,), (1,)), batch=((), ()))
    return y if bias is None else arith.add(y, bias)


def bias_add(x, bias):
    """x [n, c, ...] with bias [c] added to each channel."""
    x = tensor_of(x)
    bias = tensor_of(bias)
    if len(x.shape) < 2 or bias.shape != (x.shape[1],):
        raise ShapeFault(f"bias_add: found x of shape {list(x.shape)} and bias of shape "
                         f"{list(bias.shape)}, expected one number for each of axis 1")
    spread = s.broadcast(arith.cast(bias, x.dtype), shape=x.shape, dims=(1,))
    return arith.add(x, spread)
