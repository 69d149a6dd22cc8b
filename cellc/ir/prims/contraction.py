"""dot: the one contraction. Matrix products, batched or not, and convolutions are dots."""

from __future__ import annotations

import math

import numpy as np

from cellc.errors import ShapeFault, TypeFault
from cellc.ir import numerics as num
from cellc.ir.graph import primitive
from cellc.ir.prims import shape as s
from cellc.ir.prims.checks import NUMBER, axes_of, takes_tensor
from cellc.ir.prims.rules import lanes_first, later
from cellc.ir.types import TensorType


def free_axes(ndim: int, contract, batch) -> tuple[int, ...]:
    """The axes of an operand that are neither contracted nor batch axes, in order."""
    return tuple(i for i in range(ndim) if i not in contract and i not in batch)


def _dot_types(a, b, contract, batch, dtype=None):
    takes_tensor("dot", a, NUMBER), takes_tensor("dot", b, NUMBER)
    if a.dtype is not b.dtype:
        raise TypeFault(f"dot: found {a} and {b}, expected one dtype", "cast one of them")
    for what, (of_a, of_b) in (("contract", contract), ("batch", batch)):
        if len(of_a) != len(of_b):
            raise ShapeFault(f"dot: found {what} axes {of_a} and {of_b}, expected as many of each")
        for i, j in zip(axes_of("dot", a, of_a), axes_of("dot", b, of_b), strict=True):
            if a.shape[i] != b.shape[j]:
                raise ShapeFault(f"dot: found {a} and {b}, expected axis {i} of the first "
                                 f"(size {a.shape[i]}) as long as axis {j} of the second (size "
                                 f"{b.shape[j]})", "transpose or reshape one of them")
    axes_of("dot", a, (*contract[0], *batch[0])), axes_of("dot", b, (*contract[1], *batch[1]))
    return TensorType(dtype or a.dtype, (
        *(a.shape[i] for i in batch[0]),
        *(a.shape[i] for i in free_axes(a.ndim, contract[0], batch[0])),
        *(b.shape[i] for i in free_axes(b.ndim, contract[1], batch[1]))))


def _dot(a, b, contract, batch, dtype=None):
    """As a batched matrix product [batch, free a, contract] @ [batch, contract, free b]."""
    if dtype is not None:
        return _dot(a.astype(dtype.numpy), b.astype(dtype.numpy), contract, batch)
    free_a = free_axes(a.ndim, contract[0], batch[0])
    free_b = free_axes(b.ndim, contract[1], batch[1])

    def sizes(x, axes):
        return [x.shape[i] for i in axes]

    lead, inner = sizes(a, batch[0]), math.prod(sizes(a, contract[0]))
    left = a.transpose(*batch[0], *free_a, *contract[0]).reshape(
        *lead, math.prod(sizes(a, free_a)), inner)
    right = b.transpose(*batch[1], *contract[1], *free_b).reshape(
        *lead, inner, math.prod(sizes(b, free_b)))
    return np.matmul(left, right).reshape((*lead, *sizes(a, free_a), *sizes(b, free_b)))


def _dot_eval(a, b, dtype=None, **attrs):
    """Rounded to the operands' dtype, or in the wider one that is asked for."""
    return num.rounded(_dot)(a, b, **attrs) if dtype is None else _dot(a, b, dtype=dtype, **attrs)


def _arranged(left, right, contract, batch, order):
    """dot(left, right), its axes named by `order`, put into sorted order."""
    product = dot(left, right, contract=contract, batch=batch)
    return product if list(order) == sorted(order) else s.transpose(product, perm=s.inverse(order))


def _operand_vjp(g, x, other, sides, contract, batch, g_free, other_free):
    """The cotangent of x: g contracted with the other operand over that one's free axes.

    Of dot(g, other) and dot(other, g) it takes the one whose axes come out in x's order, so that a
    weight's gradient needs no transpose.
    """
    mine, theirs = sides
    lead = tuple(range(len(batch[0])))
    pairs = sorted(zip(contract[theirs], contract[mine], strict=True))
    inner = tuple(i for _, i in pairs)            # x's contracted axes in the order of the other's
    free = free_axes(x.ndim, contract[mine], batch[mine])
    g_first = (*batch[mine], *free, *inner)
    other_first = (*batch[mine], *inner, *free)
    if list(other_first) == sorted(other_first) and list(g_first) != sorted(g_first):
        return _arranged(other, g, (other_free, g_free), (batch[theirs], lead), other_first)
    return _arranged(g, other, (g_free, other_free), (lead, batch[theirs]), g_first)


def _dot_vjp(g, y, a, b, contract, batch):
    free_a = free_axes(a.ndim, contract[0], batch[0])
    free_b = free_axes(b.ndim, contract[1], batch[1])
    n = len(batch[0])
    of_a = tuple(range(n, n + len(free_a)))
    of_b = tuple(range(n + len(free_a), n + len(free_a) + len(free_b)))
    return [_operand_vjp(g, a, b, (0, 1), contract, batch, of_b, free_b),
            _operand_vjp(g, b, a, (1, 0), contract, batch, of_a, free_a)]


def _dot_jvp(dxs, y, a, b, contract, batch):
    """The product rule."""
    da, db = dxs
    parts = [dot(*pair, contract=contract, batch=batch) for pair in ((da, b), (a, db))
             if pair[0] is not None and pair[1] is not None]
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _dot_batch(n, lanes, a, b, contract, batch):
    """One more batch axis where both have lanes; else the lanes are one more free axis."""
    (contract_a, contract_b), (batch_a, batch_b) = contract, batch
    if all(lanes):
        return dot(a, b, contract=(later(contract_a), later(contract_b)),
                   batch=((0, *later(batch_a)), (0, *later(batch_b))))
    if lanes[0]:
        y = dot(a, b, contract=(later(contract_a), contract_b), batch=(later(batch_a), batch_b))
        return lanes_first(y, len(batch_a))
    y = dot(a, b, contract=(contract_a, later(contract_b)), batch=(batch_a, later(batch_b)))
    return lanes_first(y, len(a.shape) - len(contract_a))


def _samples():
    draw = np.random.default_rng(3).uniform
    cases = [((2, 3), (3, 4), ((1,), (0,)), ((), ())),
             ((2, 3), (4, 3), ((1,), (1,)), ((), ())),
             ((5, 2, 3), (3, 5, 4), ((2,), (0,)), ((0,), (1,))),
             ((2, 3, 4), (4, 3, 2), ((1, 2), (1, 0)), ((), ())),
             ((3,), (3,), ((0,), (0,)), ((), ())), ((2,), (3,), ((), ()), ((), ())),
             ((2, 0), (0, 3), ((1,), (0,)), ((), ()))]
    return [([draw(-1, 1, a), draw(-1, 1, b)], {"contract": contract, "batch": batch})
            for a, b, contract, batch in cases]


dot = primitive(
    "dot", "a b", kind="kernel", types=_dot_types, eval=_dot_eval, vjp=_dot_vjp,
    jvp=_dot_jvp, batch=_dot_batch,
    doc="Products summed over the contracted axes: axes of the result are batch, free a, free b. "
        "A pass asks for sums of bytes in a wider `dtype`.",
    samples=_samples, tolerance={"f32": 1e-5})      # sums of products, in whatever order
