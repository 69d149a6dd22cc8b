"""chunks: reductions to few rows, cut so that there is work for every core.

    rows i:2; sweeps over j:10^6            rows chunk:31 i:2; sweeps over j:32768
      out[i] = add over j of x[...]   ->      partial[chunk, i] = add over j of x[...]
                                            rows i:2; sweeps over chunk:31
                                              out[i] = add over chunk of partial[chunk, i]

Of several sweeps each becomes two such nests, and what the later ones need of the results of
earlier ones, or of what is made of these, is kept beside the partial results. Sums of columns are
cut as well: walked from top to bottom they would meet a page of memory for each row, in blocks of
rows they meet it as long as it is at hand. The cut depends on shapes alone, so that results do not
depend on the number of threads.
"""

from __future__ import annotations

from cellc.kernels.loops import Buffer, Load, Nest, Reduction, ScalarOp, Store, Value
from cellc.kernels.scalar_ops import Element
from cellc.kernels.schedule import PARALLEL_SECONDS, Schedule, by_columns, count, rewrite
from cellc.kernels.target import Target
from cellc.kernels.views import Affine, Axis, dense
from cellc.record import fresh, record

CHUNK_ELEMENTS = 32768
CHUNK_ROWS = 64             # where the chunk is a block of rows of which columns are summed
MOST_CHUNKS = 64            # whose results are added up one after another
FEW = 16                    # pieces of rows that would not keep many cores busy


def split(nest: Nest, schedule: Schedule, slot: int,
          target: Target) -> tuple[list[tuple[str, Nest]], int] | None:
    """The nests that are run one after another instead, with names, and the bytes of scratch
    memory, whose place is `slot`, that they share; or None where there are rows enough, or a few
    whose sweeps find in the cache what the earlier ones kept."""
    rounds = [v for v in nest.values() if isinstance(v, Reduction)]
    sizes = [a.extent for a in (*nest.rows, *nest.reduced)]
    if not rounds or not schedule.reduced or any(v.position is not None for v in rounds) or not all(
            isinstance(n, int) for n in sizes):
        return None
    columns = by_columns(nest, schedule.vector, target)
    step = schedule.lanes * schedule.unroll
    pieces = count(nest.rows) // (step if schedule.vector in nest.rows else 1)
    if schedule.seconds < PARALLEL_SECONDS or not columns and (
            pieces >= FEW or schedule.stash and pieces > 1):
        return None
    axis = max(schedule.reduced, key=lambda a: a.extent)
    total = count([*nest.rows, *nest.reduced])
    chunks = min(MOST_CHUNKS, total // CHUNK_ELEMENTS)
    if columns:
        chunks = min(chunks, axis.extent // CHUNK_ROWS)
    if chunks < 2 or axis.extent < 2 * chunks or count(nest.rows) * chunks * 4 > total:
        return None
    step = step if axis is schedule.vector else 1
    length = -(-axis.extent // (chunks * step)) * step
    return Cut(nest, axis, length, slot).nests()


@record
class Cut:
    """A nest of which one reduced axis is cut into chunks of a length."""

    nest: Nest
    axis: Axis
    length: int
    slot: int
    scratch: int = 0
    known: dict[Value, Value] = fresh(dict)     # reductions of earlier sweeps, as they are kept

    def nests(self) -> tuple[list[tuple[str, Nest]], int]:
        """Sweep by sweep: the chunks' results, then those of whole rows."""
        nest, found = self.nest, []
        self.chunk = Axis("chunk", -(-self.axis.extent // self.length))
        rounds = [v for v in nest.values() if isinstance(v, Reduction)]
        for sweep in range(nest.sweeps):
            of_sweep = [v for v in rounds if v.sweep == sweep + 1]
            full = [s for s in nest.stores if s.sweep == sweep and nest.full(s)]
            stores, partial = self._partial(of_sweep)
            found.append((f"parts{sweep}", self._chunks([*full, *stores], bool(of_sweep))))
            late = [s for s in nest.stores if max(s.sweep, 1) == sweep + 1 and not nest.full(s)]
            stores, kept = [], {}
            for v in self._needed_later(sweep + 1, of_sweep):
                buffer, place = self._buffer("row", v, nest.rows)
                stores.append(Store(buffer, place, v))
                kept[v] = _held(v, buffer, place)
            if late or stores:
                whole = rewrite(Nest(nest.rows, [self.chunk], [*late, *stores]), lambda a: a,
                                nest.rows, [self.chunk], {**self.known, **partial})
                found.append((f"whole{sweep}", whole))
            self.known.update(kept)
        return found, self.scratch

    def _needed_later(self, sweep: int, rounds: list[Reduction]) -> list[Value]:
        """What rows keep for the sweeps from this one on: the reductions before it, and what is
        made of them for the elements, which would be made for each element again."""
        nest = self.nest
        if sweep == nest.sweeps:
            return []
        readers = [v for v in (*nest.values(), *nest.stores) if nest.full(v)]
        read = {x for v in readers for x in (v.operands() if isinstance(v, Value) else (v.value,))}
        return [*rounds, *(v for v in nest.values() if v in read and isinstance(v, ScalarOp) and (
            v.sweep == sweep and v.dtype.is_float and not nest.full(v)))]

    def _partial(self, rounds: list[Reduction]) -> tuple[list[Store], dict[Value, Value]]:
        """The stores of the chunks' results, and the reductions of these that give the whole."""
        stores, whole = [], {}
        for v in rounds:
            buffer, place = self._buffer("partial", v, [self.chunk, *self.nest.rows])
            stores.append(Store(buffer, place, v))
            whole[v] = Reduction(v.dtype, v.op, Load(buffer.dtype, buffer, place), v.neutral,
                                 (self.chunk,))
        return stores, whole

    def _chunks(self, stores: list[Store], reduces: bool) -> Nest:
        """One sweep, chunk by chunk; if nothing is reduced in it, all points alike."""
        nest, rest = self.nest, self.axis.extent % self.length
        old = Nest(nest.rows, nest.reduced, stores)
        if not reduces:
            return rewrite(old, lambda a: a, [*nest.reduced, *nest.rows], [], self.known)
        limit = Affine(self.axis.extent, {self.chunk: -self.length}) if rest else None
        inner = Axis(self.axis.name, self.length, limit)
        place = Affine(0, {self.chunk: self.length, inner: 1})
        reduced = [inner if a is self.axis else a for a in nest.reduced]
        return rewrite(old, lambda a: a.substitute({self.axis: place}),
                       [self.chunk, *nest.rows], reduced, self.known)

    def _buffer(self, name: str, v: Reduction, axes: list[Axis]) -> tuple[Buffer, Affine]:
        """A dense array of such results in scratch memory, and the place of a point in it."""
        place, size = dense(axes)
        buffer = Buffer(name, self.slot, v.dtype.compute, size, offset=self.scratch)
        self.scratch += -(-size * buffer.dtype.itemsize // 64) * 64
        return buffer, place


def _held(v: Reduction, buffer: Buffer, place: Affine) -> Value:
    """A result as it is kept, of the dtype it is computed in, for what it stands for."""
    load = Load(buffer.dtype, buffer, place)
    if buffer.dtype is v.dtype:
        return load
    return ScalarOp(v.dtype, "held", lambda b, x: Element(x.text, v.dtype, x.n), (load,))
