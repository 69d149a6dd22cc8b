"""Tiles of images in another basis: what Winograd's convolution is made of (passes/winograd.py).

Both are linear, and made behind all gradients, so they have no rules for these.
"""

from __future__ import annotations

import numpy as np

from cellc.errors import ShapeFault
from cellc.ir import numerics as num
from cellc.ir.graph import primitive
from cellc.ir.prims.checks import FLOAT, axes_of, shape_of, takes_tensor
from cellc.ir.prims.rules import later
from cellc.ir.prims.shape import transpose


def _matrix(prim: str, matrix) -> tuple[int, int]:
    """The rows and columns of a matrix given as rows."""
    sizes = {len(row) for row in matrix}
    if len(sizes) != 1 or 0 in sizes:
        raise ShapeFault(f"{prim}: found rows of lengths {sorted(sizes)}, expected one")
    return len(matrix), *sizes


def _order(prim: str, x, lead, first: int, last: int) -> tuple:
    """The sizes of the leading axes first .. last - 1, in the order of `lead`."""
    sizes = x.shape[first:last]
    if last < first or sorted(axes_of(prim, x, lead)) != list(range(last - first)):
        raise ShapeFault(f"{prim}: found {x} for leading axes {tuple(lead)}")
    return tuple(sizes[i] for i in lead)


def _tiles_types(x, matrix, step, counts, low, lead):
    sizes = _order("tiles", takes_tensor("tiles", x, FLOAT), lead, 0, x.ndim - 2)
    n, _ = _matrix("tiles", matrix)
    if step < 1 or len(shape_of("tiles", counts)) != 2 or len(shape_of("tiles", low)) != 2:
        raise ShapeFault(f"tiles: found step {step}, counts {counts}, low {low}, expected a step "
                         "of at least 1 and two of each")
    return x.with_shape((n, n, *sizes, *counts))


def _tiles(x, matrix, step, counts, low, lead):
    """Padded so that each tile has all its elements, then windows times the matrix twice."""
    size, k = len(matrix[0]), len(lead)
    pads, ends = [(0, 0)] * k, []
    for have, n, before in zip(x.shape[k:], counts, low, strict=True):
        ends.append((n - 1) * step + size if n else 0)
        pads.append((before, max(ends[-1] - before - have, 0)))
    x = np.pad(x, pads)[..., :ends[0], :ends[1]]
    if 0 in counts:
        return np.zeros((len(matrix), len(matrix), *(x.shape[i] for i in lead), *counts), x.dtype)
    views = np.lib.stride_tricks.sliding_window_view(x, (size, size), (k, k + 1))
    views = views[..., ::step, ::step, :, :]
    by = np.asarray(matrix, x.dtype)
    made = np.einsum("ap,...pq,bq->ab...", by, views, by)
    return made.transpose(0, 1, *(i + 2 for i in lead), k + 2, k + 3)


def _tiles_samples():
    r = np.random.default_rng(2)
    ramp = ((1.0, 0.0, -1.0), (0.0, 0.5, 2.0))
    return [([r.uniform(-2, 2, shape)], {"matrix": matrix, "step": step, "counts": counts,
                                         "low": low, "lead": lead})
            for shape, matrix, step, counts, low, lead in (
                ((3, 2, 5, 7), ramp, 2, (3, 4), (1, 1), (1, 0)),
                ((2, 6, 40), ramp, 2, (2, 19), (0, 2), (0,)),
                ((2, 3, 3, 3), ramp, 1, (1, 1), (0, 0), (0, 1)),
                ((4, 4), ((1.0, 2.0),), 2, (3, 3), (0, 0), ()),
                ((0, 4, 4), ramp, 2, (2, 2), (1, 1), (0,)))]


def _tiles_batch(n, lanes, x, lead, **attrs):
    made = tiles(x, lead=(0, *later(lead)), **attrs)
    return transpose(made, perm=(2, 0, 1, *range(3, len(made.shape))))


tiles = primitive(
    "tiles", "x", kind="kernel", types=_tiles_types, eval=num.rounded(_tiles), vjp=None,
    doc="Square tiles T of the last two axes, each as L T L' for a matrix L [n, size], `step` "
    "apart, the first `low` before the start, zeros outside: [.., H, W] to [n, n, .., TH, TW], "
    "leading axis i being x's axis lead[i].", batch=_tiles_batch, samples=_tiles_samples)


def _join_types(x, matrix, shape, lead):
    takes_tensor("join_tiles", x, FLOAT)
    size, n = _matrix("join_tiles", matrix)
    k = len(lead)
    most = tuple(count * size for count in x.shape[k + 2:])
    if x.ndim != k + 4 or x.shape[:2] != (n, n) or len(shape_of("join_tiles", shape)) != 2 or (
            shape[0] > most[0] or shape[1] > most[1]):
        raise ShapeFault(f"join_tiles: found {x} for a matrix of {size} by {n}, {k} leading axes "
                         f"and shape {shape}, expected ({n}, {n}, .., TH, TW) and at most "
                         f"{size} for each tile")
    return x.with_shape((*_order("join_tiles", x, lead, 2, k + 2), *shape))


def _join(x, matrix, shape, lead):
    by, k = np.asarray(matrix, x.dtype), len(lead)
    made = np.einsum("pa,ab...,qb->...pq", by, x, by)           # [.., th, tw, p, q]
    made = made.transpose(*lead, k, k + 2, k + 1, k + 3)
    size = len(matrix)
    whole = made.reshape(*made.shape[:k], made.shape[k] * size, made.shape[k + 2] * size)
    return whole[..., :shape[0], :shape[1]]


def _join_samples():
    r = np.random.default_rng(3)
    ramp = ((1.0, 0.5, 0.0), (0.0, -1.0, 2.0))
    return [([r.uniform(-2, 2, shape)], {"matrix": ramp, "shape": size, "lead": lead})
            for shape, size, lead in (
                ((3, 3, 2, 3, 3, 4), (5, 7), (1, 0)), ((3, 3, 2, 2, 19), (4, 38), (0,)),
                ((3, 3, 2, 3, 1, 1), (2, 2), (0, 1)), ((3, 3, 2, 2), (3, 4), ()),
                ((3, 3, 0, 2, 2), (4, 4), (0,)))]


def _join_batch(n, lanes, x, lead, **attrs):
    x = transpose(x, perm=(1, 2, 0, *range(3, len(x.shape))))
    return join_tiles(x, lead=(0, *later(lead)), **attrs)


join_tiles = primitive(
    "join_tiles", "x", kind="kernel", types=_join_types, eval=num.rounded(_join), vjp=None,
    doc="Each tile T [n, n] as R T R' for a matrix R [size, n], side by side and cut to `shape`: "
    "[n, n, .., TH, TW] to [.., H, W], leading axis i being x's leading axis lead[i].",
    batch=_join_batch, samples=_join_samples)
