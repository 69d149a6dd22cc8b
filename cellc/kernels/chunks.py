"""chunks: reductions to few rows, cut so that there is work for every core.

    rows i:2; sweeps over j:10^6            rows chunk:31 i:2; sweeps over j:32768
      out[i] = add over j of x[...]   ->      partial[chunk, i] = add over j of x[...]
                                            rows i:2; sweeps over chunk:31
                                              out[i] = add over chunk of partial[chunk, i]

The cut depends on shapes alone, so that results do not depend on the number of threads.
"""

from __future__ import annotations

from cellc.kernels.loops import Buffer, Load, Nest, Reduction, Store
from cellc.kernels.schedule import PARALLEL_SECONDS, Schedule, count, rewrite
from cellc.kernels.views import Affine, Axis

CHUNK_ELEMENTS = 32768
MOST_CHUNKS = 256


def split(nest: Nest, schedule: Schedule, scratch: int) -> tuple | None:
    """(nest of partial results, nest that combines them, bytes of scratch), or None.

    For a reduction in one sweep whose rows are too few to keep the cores busy.
    """
    values = nest.values()
    rounds = [v for v in values if isinstance(v, Reduction)]
    sizes = [a.extent for a in (*nest.rows, *nest.reduced)]
    if not rounds or not schedule.reduced or any(v.sweep > 1 for v in rounds) or not all(
            isinstance(n, int) for n in sizes):
        return None
    if any(v.position is not None for v in rounds) or any(
            nest.full(v) and v.sweep for v in (*values, *nest.stores)):
        return None
    total = count([*nest.rows, *nest.reduced])
    chunks = min(MOST_CHUNKS, total // CHUNK_ELEMENTS)
    rows = count(nest.rows)
    axis = max(schedule.reduced, key=lambda a: a.extent)
    if schedule.tasks > 1 or schedule.seconds < PARALLEL_SECONDS or chunks < 2 or (
            axis.extent < 2 * chunks) or rows * chunks * 4 > total:
        return None
    step = schedule.lanes * schedule.unroll if axis is schedule.vector else 1
    length = -(-axis.extent // (chunks * step)) * step
    chunks = -(-axis.extent // length)
    return _cut(nest, rounds, axis, length, chunks, scratch)


def _cut(nest: Nest, rounds: list[Reduction], axis: Axis, length: int, chunks: int, scratch: int):
    chunk = Axis("chunk", chunks)
    inner = Axis(axis.name, length, Affine(axis.extent, {chunk: -length}))
    place = Affine(0, {chunk: length, inner: 1})
    reduced = [inner if a is axis else a for a in nest.reduced]
    row, stride = Affine(), 1
    for a in reversed(nest.rows):
        row, stride = row + Affine(0, {a: stride}), stride * a.extent
    stores, partial, offset = [], {}, 0
    for v in rounds:
        held = v.dtype.compute
        buffer = Buffer(f"partial{len(partial)}", scratch, held, chunks * stride, offset=offset)
        where = row + Affine(0, {chunk: stride})
        stores.append(Store(buffer, where, v))
        partial[v] = Reduction(v.dtype, v.op, Load(held, buffer, where), v.neutral, (chunk,))
        offset += -(-chunks * stride * held.itemsize // 64) * 64
    full = [s for s in nest.stores if s.sweep == 0]
    late = [s for s in nest.stores if s.sweep > 0]
    first = rewrite(Nest(nest.rows, nest.reduced, [*full, *stores]),
                    lambda a: a.substitute({axis: place}), [chunk, *nest.rows], reduced)
    second = rewrite(Nest(nest.rows, [chunk], late), lambda a: a, nest.rows, [chunk],
                     dict(partial))
    return first, second, offset
