"""schedule: in what order, how wide and on how many threads a nest is run; data, beside the nest.

Before planning, axes that lie behind one another in every array are collapsed into one. Then one
axis is chosen for the vectors: the one along which the most is read and written contiguously. A
vectorised reduced axis gives each lane its own accumulator, a vectorised row axis gives each row
its own lane. What later sweeps of a row need is kept (`stash.py`), and the next row is fetched
meanwhile.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from cellc.errors import SymbolicFault
from cellc.ir.types import Dim
from cellc.kernels import stash
from cellc.kernels.loops import (
    Buffer,
    Checked,
    Guard,
    Index,
    Inside,
    Load,
    Nest,
    Reduction,
    ScalarOp,
    Store,
    Value,
)
from cellc.kernels.target import TASK_SECONDS, Target
from cellc.kernels.views import Affine, Axis
from cellc.record import fresh, record

ASSUMED = 64                    # the size a symbolic dimension is taken for when estimating
INSTRUCTION_SECONDS = 3e-10     # of one vector instruction
PARALLEL_SECONDS = 15e-6        # work below this wakes no thread,
SHARED_SECONDS = 4e-6           # and work below this is not shared with one that is awake either
CACHE_SPEED = 3                 # how much faster than memory the caches are
LONG_SECONDS = 2e-4             # work above this is cut into more tasks than there are cores,
SHARES = 4                      # so that a core which is busy otherwise takes fewer of them
MOST_INNER = 4                  # lanes further apart are scattered
PAIRED_COST = 20                # instructions for a point from which on two rows at a time pay
NEAR = 9 / 8                    # of the first-level cache is for two rows and what is asked for
                                # meanwhile: not all of it is needed at once
STRIP_COST = 200                # instructions for a row of a strip of columns
GATHER_COST = 1.2               # vector instructions for one element that is not contiguous


@record
class Schedule:
    """How a nest is run. `rows` and `reduced` are loop orders, the vector axis last in its own.

    `inner` is no loop: each of its few points gets its own code, because the elements of
    neighbouring lanes lie `inner.extent` apart and its points fill the gaps (see `Emitter.store`).
    """

    rows: list[Axis]
    reduced: list[Axis]
    vector: Axis | None
    lanes: int
    unroll: int
    parallel: Axis | None
    tasks: int
    seconds: float
    inner: Axis | None = None
    together: int = 1                            # rows that go through the sweeps together
    stash: dict[Value, Affine] = fresh(dict)     # value -> its place in scratch
    stash_elements: int = 0                                      # of eight bytes, for each task
    alone_below: tuple[str, int] | None = None    # a symbol's size from which several tasks pay
    sweep_unroll: list[int] = fresh(list)        # of each sweep over a vectorised reduced axis
    ahead: list[tuple] = fresh(list)             # loads and stores whose next row is fetched, and
    ahead_sweep: int | None = None               # how far that is; the sweep that asks for it

    @property
    def short(self) -> bool:
        """Whether several tasks pay only with threads that are awake."""
        return self.seconds <= PARALLEL_SECONDS and self.alone_below is None

    def __str__(self) -> str:
        parts = [f"rows {' '.join(map(str, self.rows))}"]
        if self.reduced:
            parts.append(f"reduced {' '.join(map(str, self.reduced))}")
        if self.vector:
            copies = "/".join(map(str, self.sweep_unroll or [self.unroll]))
            parts.append(f"vector {self.vector} x {self.lanes} x {copies}")
        if self.inner:
            parts.append(f"inner {self.inner}")
        if self.together > 1:
            parts.append(f"{self.together} rows together")
        if self.stash:
            parts.append(f"{len(self.stash)} values kept for later sweeps")
        if self.ahead:
            parts.append(f"{len(self.ahead)} arrays fetched a row ahead")
        if self.parallel:
            parts.append(f"{self.tasks} tasks over {self.parallel}")
        return ", ".join(parts)


# -- rewriting nests -------------------------------------------------------------------------------
def rewrite(nest: Nest, change: Callable[[Affine], Affine], rows: list[Axis], reduced: list[Axis],
            replaced: dict[Value, Value] | None = None) -> Nest:
    """The nest with every affine expression changed, on other axes; `replaced` gives new values."""
    new: dict[Value, Value] = dict(replaced or {})

    def guards(old: tuple[Guard, ...]) -> tuple[Guard, ...]:
        return tuple(Guard(change(g.place), g.extent) for g in old)

    def dynamic(old):
        return (renew(old[0]), old[1]) if old else None

    def renew(v: Value) -> Value:
        if v not in new:
            new[v] = made(v)
        return new[v]

    def made(v: Value) -> Value:
        if isinstance(v, Load):
            return Load(v.dtype, v.buffer, change(v.place), guards(v.guards), dynamic(v.dynamic))
        if isinstance(v, ScalarOp):
            return ScalarOp(v.dtype, v.name, v.make, tuple(map(renew, v.inputs)))
        if isinstance(v, Reduction):
            position = change(v.position) if v.position is not None else None
            return Reduction(v.dtype, v.op, renew(v.operand), v.neutral, tuple(reduced), position)
        if isinstance(v, Index):
            return Index(v.dtype, change(v.place))
        if isinstance(v, Inside):
            return Inside(v.dtype, guards(v.guards))
        if isinstance(v, Checked):
            return Checked(v.dtype, renew(v.index), v.extent, v.site, guards(v.guards))
        return v

    stores = [Store(s.buffer, change(s.place), renew(s.value), guards(s.guards),
                    dynamic(s.dynamic), s.add, s.total) for s in nest.stores]
    return Nest(rows, reduced, stores)


def affines(nest: Nest) -> list[Affine]:
    """Every affine expression in the nest."""
    found = [a for v in nest.values() for a in v.affines()]
    found += [v.position for v in nest.values()
              if isinstance(v, Reduction) and v.position is not None]
    for s in nest.stores:
        found += [s.place, *(g.place for g in s.guards)]
    return found


def collapse(nest: Nest) -> Nest:
    """Axes of which one always continues the other become one axis."""
    rows, reduced = list(nest.rows), list(nest.reduced)
    current = {a.key(): a for a in affines(nest)}
    image = dict(current)                        # key of the original -> expression now
    for axes in (rows, reduced):
        merging = True
        while merging:
            merging = False
            for outer in axes:
                inner = next((b for b in axes if b is not outer
                              and _continues(outer, b, image.values())), None)
                if inner is not None:
                    merged = Axis(inner.name, outer.extent * inner.extent)
                    image = {k: _merge(a, outer, inner, merged) for k, a in image.items()}
                    axes[axes.index(outer)] = merged
                    axes.remove(inner)
                    merging = True
                    break
    if len(rows) == len(nest.rows) and len(reduced) == len(nest.reduced):
        return nest
    return rewrite(nest, lambda a: image[a.key()], rows, reduced)


def _continues(outer: Axis, inner: Axis, expressions) -> bool:
    if isinstance(outer.extent, Dim) and isinstance(inner.extent, Dim):
        return False
    if outer.limit is not None or inner.limit is not None:
        return False
    for a in expressions:
        high, low = a.coef(outer), a.coef(inner)
        try:
            if high != low * inner.extent:
                return False
        except SymbolicFault:
            return False
    return True


def _merge(a: Affine, outer: Axis, inner: Axis, merged: Axis) -> Affine:
    terms = {axis: coef for axis, coef in a.terms.items() if axis not in (outer, inner)}
    return Affine(a.const, terms | {merged: a.coef(inner)})


# -- planning --------------------------------------------------------------------------------------
def assumed(extent) -> int:
    """An extent as a number, for estimates."""
    return extent if isinstance(extent, int) else ASSUMED * extent.coef


def count(axes) -> int:
    """How many points these axes have, for estimates."""
    return math.prod(assumed(axis.extent) for axis in axes)


def plan(nest: Nest, target: Target, along: Axis | None = None) -> Schedule:
    """The schedule of a collapsed nest; vectors lie `along` an axis, or where they cost least."""
    lanes = lanes_of(nest, target)
    sums = [s.place.terms for s in nest.stores if s.add or s.total]     # no two lanes to one place
    limits = {a for b in (*nest.rows, *nest.reduced) if b.limit is not None
              for a in b.limit.terms}
    axes = [a for a in (*nest.rows, *nest.reduced) if assumed(a.extent) > 1 and not a.tile
            and a not in limits and all(a in terms for terms in sums)]
    costs = {axis: Cost(nest, axis, lanes).total() for axis in axes}
    vector = along or min(axes, key=lambda a: (costs[a], -axes.index(a)), default=None)
    if vector is None or lanes == 1:
        vector, lanes = None, 1
    inner = _gap_filler(nest, vector)
    rows = [a for a in nest.rows if a not in (vector, inner)]
    reduced = [a for a in nest.reduced if a not in (vector, inner)]
    if vector in nest.rows:
        rows = [*(a for a in rows if not a.tile), vector, *(a for a in rows if a.tile)]
    elif vector is not None:
        reduced.append(vector)
    unroll = (_strip(nest, vector, lanes, target)
              or (1 if any(a.tile for a in rows) else _unroll(body_cost(nest), vector, lanes)))
    seconds = _seconds(nest, costs.get(vector, 1.0), target)
    parallel, tasks, alone_below = None, 1, None
    symbols = [a.extent for a in axes if isinstance(a.extent, Dim)]
    shares = shares_of(seconds, bool(symbols), target)
    if shares > 1:
        parallel, tasks = share_out(rows, shares, vector, lanes * unroll)
        if symbols and seconds <= PARALLEL_SECONDS:
            alone_below = symbols[0].name, math.ceil(ASSUMED * PARALLEL_SECONDS / seconds)
    schedule = Schedule(rows, reduced, vector, lanes, unroll, parallel, tasks, seconds, inner,
                        alone_below=alone_below)
    first = stash.choose(nest, vector, target)
    if first:
        schedule.stash, end = stash.places(nest, vector, first)
        schedule.stash_elements = -(-end // 8)
    if vector in nest.reduced:
        most = 2 if nest.sweeps > 1 else 4          # each sweep over what the last one has fetched
        schedule.sweep_unroll = [min(most, _unroll(sweep_cost(nest, i, first), vector, lanes))
                                 for i in range(nest.sweeps)]
        _pair_rows(nest, schedule, target)
        _fetch_ahead(nest, schedule, first, target)
    return schedule


def _gap_filler(nest: Nest, vector: Axis | None) -> Axis | None:
    """The axis whose points lie between those of neighbouring lanes in something stored.

    Its points must be met in one round of the innermost loop: it is reduced, or nothing is.
    """
    candidates = nest.reduced or nest.rows
    for store in nest.stores:
        step = store.place.coef(vector)
        if isinstance(step, int) and 1 < step <= MOST_INNER and not store.guards:
            for axis, coef in store.place.terms.items():
                if coef == 1 and axis.extent == step and axis in candidates:
                    return axis
    return None


def _pair_rows(nest: Nest, schedule: Schedule, target: Target) -> None:
    """Two rows go through each sweep one after the other, where there is much to compute: the first
    one's sums are ready when its next sweep begins. What both need stays in the first-level cache.
    """
    row = schedule.rows[-1] if schedule.rows else None
    if (nest.sweeps < 3 or body_cost(nest) < PAIRED_COST or row is None or row.limit is not None
            or not isinstance(row.extent, int) or row.extent % 2 or schedule.inner is not None
            or any(s.dynamic for s in nest.stores)):
        return
    if 2 * 8 * schedule.stash_elements + _near(nest, row, 2) <= target.l1_bytes:
        schedule.together = 2
        schedule.stash_elements *= 2


def _near(nest: Nest, row: Axis, rows: int) -> float:
    """The bytes that so many rows read and write."""
    arrays = {(v.buffer, v.place.key()): v for v in _accesses(nest)}
    return sum(count(nest.reduced) * v.buffer.dtype.itemsize * (rows if row in v.axes else 1)
               for v in arrays.values() if v.axes & {*nest.reduced})


def _accesses(nest: Nest) -> list[Load | Store]:
    """What is read and written, but for sums that are added to."""
    return [v for v in (*nest.values(), *nest.stores)
            if isinstance(v, Load) or isinstance(v, Store) and not (v.add or v.total)]


def _fetch_ahead(nest: Nest, schedule: Schedule, kept: dict[Value, int], target: Target) -> None:
    """Only the first sweep of a row waits for memory. What lies there contiguously is asked for a
    row ahead, in the sweep that computes most."""
    row = next((a for a in reversed(schedule.rows) if a.extent != 1), None)
    if row is None or nest.sweeps < 2 or moved_bytes(nest) < target.l2_bytes:
        return
    found = {(v.buffer, v.place.key()): v for v in _accesses(nest)
             if not v.dynamic and not v.guards and v.place.coef(schedule.vector) == 1
             and v.place.coef(row) != 0}
    size = sum(v.buffer.dtype.itemsize for v in found.values()) * count(nest.reduced)
    room = target.l2_bytes // 4
    if schedule.together > 1:
        needed = 8 * schedule.stash_elements + _near(nest, row, schedule.together)
        room = NEAR * target.l1_bytes - needed
    if schedule.together * size <= room:
        costs = [sweep_cost(nest, i, kept) for i in range(nest.sweeps)]
        schedule.ahead = [(v, v.place.coef(row)) for v in found.values()]
        schedule.ahead_sweep = max(range(1, nest.sweeps), key=costs.__getitem__)


def lanes_of(nest: Nest, target: Target) -> int:
    """As many lanes as the usual element allows; index arithmetic may take two registers."""
    narrow = [v.dtype.compute.bits for v in nest.values()
              if isinstance(v, (Load, ScalarOp, Reduction)) and v.dtype.bits < 64
              and v.dtype.kind != "b"]
    floats = [b for b in narrow if b >= 32]
    bits = min(floats) if floats else max(narrow, default=0)
    if not bits:
        wide = any(v.dtype.bits == 64 for v in nest.values())
        bits = 64 if wide else 8
    return target.lanes(bits)


class Cost:
    """Vector instructions for one point of the nest if `axis` is vectorised."""

    def __init__(self, nest: Nest, axis: Axis, lanes: int):
        self.nest, self.axis, self.lanes = nest, axis, lanes
        self.values, self.sweeps = nest.values(), nest.sweeps
        extent = assumed(axis.extent)
        self.used = extent / (-(-extent // lanes) * lanes)        # the part of the lanes in use
        self.order = [*(a for a in nest.rows if a is not axis), *({axis} & {*nest.rows}),
                      *(a for a in nest.reduced if a is not axis), *({axis} & {*nest.reduced})]

    def total(self) -> float:
        total = 0.0
        for v in self.values:
            share = self._share(v)
            if self.nest.full(v):
                share *= max(1, self._uses(v))
            total += share * self._value(v)
        for s in self.nest.stores:
            total += self._share(s) * self._access(s.place, s.dynamic, 2.0)
        rounds = [v for v in self.values if isinstance(v, Reduction)]
        if self.axis in self.nest.reduced:                        # lanes meet once a row
            total += 10 * len(rounds) / max(1, count(self.nest.reduced))
        return total

    def _share(self, v: Value | Store) -> float:
        """At how many of the points it is computed: in the loop of its last axis, each time, but
        once for all lanes if it is the same in them."""
        inner = list(itertools.takewhile(lambda a: a not in v.axes, reversed(self.order)))
        lanes = 1.0 if self.axis in v.axes or self.axis in inner else self.lanes * self.used
        return 1 / max(1, count(inner)) / lanes

    def _uses(self, v: Value) -> int:
        """In how many sweeps a full value is computed anew: at most those after it is known."""
        return 1 if v.sweep else self.sweeps

    def _value(self, v: Value) -> float:
        per_lane = 1 / (self.lanes * self.used) if self.axis in v.axes else 1.0
        if isinstance(v, Load):
            return self._access(v.place, v.dynamic, 1.0)
        if isinstance(v, ScalarOp):
            return v.cost * per_lane
        return per_lane

    def _access(self, place: Affine, dynamic, weight: float) -> float:
        coef = place.coef(self.axis)
        if dynamic and self.axis in dynamic[0].axes:
            return GATHER_COST * weight
        if coef == 0:
            return 0.5
        if coef in (1, -1):
            return weight / (self.lanes * self.used)
        if isinstance(coef, int) and abs(coef) <= 4:
            return 3 * weight / (self.lanes * self.used)
        return GATHER_COST * weight


def body_cost(nest: Nest) -> float:
    """Instructions for one point, its reductions included."""
    return sum(v.cost if isinstance(v, ScalarOp) else 1 for v in nest.values()
               if nest.full(v) or not nest.reduced)


def sweep_cost(nest: Nest, sweep: int, kept: dict[Value, int]) -> int:
    """Instructions for one point of one sweep, if what `kept` has of earlier ones is fetched."""
    rounds = sum(isinstance(v, Reduction) and v.sweep == sweep + 1 for v in nest.values())
    return rounds + sum(v.cost if isinstance(v, ScalarOp) and kept.get(v, sweep) == sweep else 1
                        for v in stash.wanted(nest, sweep, kept) if nest.full(v))


def _unroll(cost: float, vector: Axis | None, lanes: int) -> int:
    """Copies of a body: enough to keep the pipeline busy, no more than the axis has vectors."""
    if vector is None:
        return 1
    unroll = 4 if cost <= 12 else 2 if cost <= 30 else 1
    if isinstance(vector.extent, int):
        while unroll > 1 and lanes * unroll > vector.extent:
            unroll //= 2
    return unroll


def by_columns(nest: Nest, vector: Axis | None, target: Target) -> bool:
    """Are columns of large arrays summed up, along which vectors do not lie?"""
    return (vector in nest.rows and bool(nest.reduced) and moved_bytes(nest) >= target.l2_bytes
            and all(v.place.coef(vector) in (0, 1) for v in nest.values() if isinstance(v, Load)))


def _strip(nest: Nest, vector: Axis | None, lanes: int, target: Target) -> int:
    """Copies where columns are summed up: of each row of a large array as much as there is room
    for in registers, since each row lies in another page of memory. 0 anywhere else."""
    if not by_columns(nest, vector, target):
        return 0
    copies = target.vector_registers // 2
    cost = body_cost(nest)
    while copies * cost > STRIP_COST or copies * lanes > assumed(vector.extent):
        copies //= 2
    return copies if copies > 4 else 0


def _seconds(nest: Nest, cost: float, target: Target) -> float:
    """How long one thread is likely to take."""
    computing = cost * count([*nest.rows, *nest.reduced]) * INSTRUCTION_SECONDS
    moved = moved_bytes(nest)
    cached = CACHE_SPEED if moved < 2 * target.l2_bytes else 1
    return max(computing, moved / (cached * target.bytes_per_second))


def moved_bytes(nest: Nest) -> float:
    """The bytes of all buffers, each counted once, at most one element for each point."""
    buffers: dict[Buffer, int] = {}
    for v in nest.values():
        if isinstance(v, Load):
            buffers[v.buffer] = max(buffers.get(v.buffer, 0), count(v.axes))
    for s in nest.stores:
        buffers[s.buffer] = max(buffers.get(s.buffer, 0), count(s.axes))
    return sum(min(points, _size(b)) * b.dtype.itemsize for b, points in buffers.items())


def _size(buffer: Buffer) -> int:
    return assumed(buffer.size)


def shares_of(seconds: float, unknown: bool, target: Target) -> int:
    """In how many pieces work is shared out that takes one thread so long, or no one knows how
    long; 1 where it is not worth it."""
    if target.threads == 1 or not (seconds > SHARED_SECONDS or unknown):
        return 1
    if seconds > LONG_SECONDS or unknown:
        return target.threads * SHARES
    return min(target.threads, int(seconds / TASK_SECONDS))


def share_out(rows: list[Axis], shares: int, vector: Axis | None = None,
              step: int = 1) -> tuple[Axis | None, int]:
    """The row axis to share out: the outermost with pieces enough, else the one with most."""
    def pieces(axis: Axis) -> int:
        extent = assumed(axis.extent)
        if isinstance(axis.extent, Dim):
            extent *= step * 8 * shares         # it may turn out as large as one likes
        return -(-extent // step) if axis is vector else extent

    rows = [a for a in rows if not a.tile]
    for axis in rows:
        if pieces(axis) >= 8 * shares or (pieces(axis) >= shares and pieces(axis) % shares == 0):
            return axis, shares
    best = max(rows, key=pieces, default=None)
    if best is None or pieces(best) < 2:
        return None, 1
    return best, min(shares, pieces(best))
