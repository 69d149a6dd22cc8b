"""totals: sums of columns in a kernel that walks rows.

    rows i:4096; sweeps over j:768                rows c:64 i:64
      dgamma[j] += %46                      ->      partial[768*c + j] += %46
                                                  rows j:768; sweeps over c:64
                                                    dgamma[j] = add over c of partial[768*c + j]

The gradients of a scale or a bias are such sums, of values that a kernel has at hand while it walks
the rows of something else. A block of rows is added up where it is walked, in an array that stays
in the cache, and a second nest adds the blocks. How long they are depends on shapes alone, so that
results do not depend on the number of threads.
"""

from __future__ import annotations

import math

from cellc.ir.graph import Apply, Node
from cellc.ir.prims.reduce import reduced_axes
from cellc.kernels.loops import Buffer, Literal, Load, Nest, Reduction, Store
from cellc.kernels.schedule import Schedule, plan, rewrite
from cellc.kernels.target import Target
from cellc.kernels.views import Affine, Axis, dense

BLOCK = 64                  # rows that are added up in one place, one after another
LEAST_ROWS = 4 * BLOCK
COLUMNS = range(16, 4097)   # fewer do not fill a vector, more would not stay in the cache
LEAST_SIZE = 1 << 18        # elements of an array that is walked by rows, not by columns


def may_be(node: Node) -> bool:
    """Is it a sum of the columns of a large array, to fewer numbers than it has rows?"""
    if not isinstance(node, Apply) or node.prim.name != "reduce_sum" or not node.dtype.is_float:
        return False
    shape, over = node.operands[0].shape, reduced_axes(node)
    if not all(isinstance(n, int) for n in shape):
        return False
    last = max((k for k, n in enumerate(shape) if n != 1), default=None)
    columns = math.prod(node.shape)
    rows = math.prod(shape[k] for k in over)
    return (last is not None and last not in over and columns in COLUMNS
            and rows >= LEAST_ROWS and rows * columns > LEAST_SIZE)


def cut(nest: Nest, slot: int, target: Target) -> tuple[list[tuple[str, Nest, Schedule]], int]:
    """The nests that a nest with totals becomes, to be run one after another, with names and
    schedules; and the bytes of scratch memory, whose place is `slot`, that they share."""
    sums = [s for s in nest.stores if s.total]
    axis = next(a for a in nest.rows if a not in sums[0].place.terms)
    blocks = Axis("block", -(-axis.extent // BLOCK))
    limit = Affine(axis.extent, {blocks: -BLOCK}) if axis.extent % BLOCK else None
    inner = Axis(axis.name, BLOCK, limit)
    columns = [a for a in (*nest.rows, *nest.reduced) if a in sums[0].place.terms]
    place, size = dense(columns)
    partial = [Buffer(f"partial{i}", slot, s.value.dtype.compute, blocks.extent * size)
               for i, s in enumerate(sums)]
    where = place + Affine(0, {blocks: size})
    stores = [s for s in nest.stores if not s.total]
    stores += [Store(b, where, s.value, add=True) for b, s in zip(partial, sums, strict=True)]
    rows = [blocks, *(inner if a is axis else a for a in nest.rows)]
    walk = rewrite(Nest(nest.rows, nest.reduced, stores), lambda a: a.substitute(
        {axis: Affine(0, {blocks: BLOCK, inner: 1})}), rows, nest.reduced)
    schedule = plan(walk, target)
    if schedule.parallel is not None:       # two tasks must not add to one place
        schedule.parallel, schedule.tasks = blocks, min(schedule.tasks, blocks.extent)
    offset = 8 * schedule.stash_elements * schedule.tasks
    for buffer in partial:
        buffer.offset = -(-offset // 64) * 64
        offset = buffer.offset + buffer.size * buffer.dtype.itemsize
    empty = Nest([blocks, *columns], [], [Store(b, where, Literal(b.dtype, 0)) for b in partial])
    whole = Nest(columns, [blocks], [
        Store(s.buffer, s.place, Reduction(s.value.dtype, "add", Load(b.dtype, b, where), 0,
                                           (blocks,)))
        for b, s in zip(partial, sums, strict=True)])
    return [("empty", empty, plan(empty, target)), ("parts", walk, schedule),
            ("whole", whole, plan(whole, target))], offset
