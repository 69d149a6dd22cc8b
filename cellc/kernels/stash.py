"""stash: what the sweeps of a row keep for later ones, and where.

A sweep that needs a value of an earlier one computes it again, or fetches it from scratch memory
that stays in the second-level cache: what is kept is no longer than the row.
"""

from __future__ import annotations

import math

from cellc.kernels.loops import EXPENSIVE, Nest, Reduction, ScalarOp, Value
from cellc.kernels.target import Target
from cellc.kernels.views import Affine, Axis


def wanted(nest: Nest, sweep: int, stash=()) -> set[Value]:
    """The values that a sweep computes (or fetches, of `stash` those that an earlier one kept)."""
    found: set[Value] = set()
    stack = [v.operand for v in nest.values() if isinstance(v, Reduction) and v.sweep == sweep + 1]
    for s in nest.stores:
        if s.sweep == sweep and nest.full(s):
            stack += [s.value] + ([s.dynamic[0]] if s.dynamic else [])
    while stack:
        v = stack.pop()
        if v not in found:
            found.add(v)
            if not isinstance(v, Reduction) and not (v in stash and stash[v] < sweep):
                stack.extend(v.operands())
    return found


def choose(nest: Nest, vector: Axis | None, target: Target) -> dict[Value, int]:
    """Expensive values that several sweeps of a row need are kept, as long as there is room for
    them: each, and which sweep computes it."""
    extents = [a.extent for a in nest.reduced]
    if nest.sweeps < 2 or vector not in nest.reduced or not all(
            isinstance(n, int) for n in extents):
        return {}
    points = math.prod(extents)
    first: dict[Value, int] = {}
    for v in reversed(nest.values()):                # the last computed first: it spares the others
        if not isinstance(v, ScalarOp) or not nest.full(v) or v.dtype.kind == "b":
            continue
        if not v.axes >= frozenset(nest.reduced) or _chain_cost(v, nest) < EXPENSIVE:
            continue
        sweeps = [s for s in range(nest.sweeps) if v in wanted(nest, s, first)]
        if len(sweeps) > 1:
            more = {**first, v: sweeps[0]}
            if _starts(nest, more, points)[1] <= target.l2_bytes:
                first = more
    return first


def places(nest: Nest, vector: Axis, first: dict[Value, int]) -> tuple[dict[Value, Affine], int]:
    """The place of each kept value, counted in its own elements, and how many bytes all need.

    Neighbouring lanes lie beside one another, whatever else the row consists of.
    """
    stride, index = 1, Affine()
    for axis in (vector, *(a for a in nest.reduced if a is not vector)):
        index, stride = index + Affine(0, {axis: stride}), stride * axis.extent
    starts, end = _starts(nest, first, stride)
    return {v: index + start // v.dtype.compute.itemsize for v, start in starts.items()}, end


def _starts(nest: Nest, first: dict[Value, int], points: int) -> tuple[dict[Value, int], int]:
    """Where the rows of kept values lie, in bytes, and where the last one ends.

    A value takes the place of one that it is computed from and that no later sweep needs: each
    element of that is read before it is overwritten.
    """
    needed = [wanted(nest, sweep, first) for sweep in range(nest.sweeps)]
    starts: dict[Value, int] = {}
    end, free = 0, {}               # of values whose place none took: the sweep that needs it last
    for v in sorted(first, key=first.__getitem__):
        size = v.dtype.compute.itemsize
        left = next((u for u in _fetched(v, first) if free.get(u) == first[v]
                     and u.dtype.compute.itemsize == size), None)
        if left is None:
            starts[v], end = end, end + -(-points * size // 64) * 64
        else:
            starts[v] = starts[left]
            del free[left]
        free[v] = max(sweep for sweep, values in enumerate(needed) if v in values)
    return starts, end


def _fetched(v: Value, first: dict[Value, int]) -> list[Value]:
    """The values kept by earlier sweeps that `v` is computed from."""
    found: dict[Value, None] = {}
    stack = list(v.operands())
    while stack:
        x = stack.pop()
        if x not in found:
            found[x] = None
            if not (x in first and first[x] < first[v]):
                stack.extend(x.operands())
    return [x for x in found if x in first and first[x] < first[v]]


def _chain_cost(v: Value, nest: Nest) -> int:
    """Instructions to compute a full value again from memory and rows."""
    seen, stack, total = set(), [v], 0
    while stack:
        x = stack.pop()
        if x not in seen and nest.full(x):
            seen.add(x)
            total += x.cost if isinstance(x, ScalarOp) else 0
            stack.extend(x.operands())
    return total
