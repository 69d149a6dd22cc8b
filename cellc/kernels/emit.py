"""emit: a nest and its schedule as one LLVM function.

    void @k(ptr %ctx, i64 %task, i64 %n_tasks)

Loops are opened in the order of the schedule. On entering each one, every value whose axes are now
all known is computed there, once; so nothing that stays the same is computed in an inner loop. A
value that changes along the vector axis is held in several copies of one vector each; any other in
one scalar. A vector loop has a main part of whole vectors and a rest of masked ones.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator

from cellc.kernels import accumulate, memory_ops, parts, schedule, stash
from cellc.kernels.emit_values import Context, Values, copy_of
from cellc.kernels.loops import Load, Nest, Reduction, Store, Value
from cellc.kernels.parts import Part
from cellc.kernels.scalar_ops import Element, memory_type
from cellc.kernels.schedule import Schedule, body_cost
from cellc.kernels.target import Target
from cellc.kernels.text import ALIGNED_STACK, Function, Module, is_literal
from cellc.kernels.turned import Tile, turns
from cellc.kernels.vectors import counting, flags, splat
from cellc.kernels.views import Axis
from cellc.record import record

SUM_BLOCK = 64                 # additions to one accumulator before a fresh one is begun
MOST_POINTS = 32               # a reduction over no more points is written out,
POINTS_COST = 500              # if that makes no more instructions
CONSTANTS = 16                 # of a sweep that are kept in registers
LONG_BODY = 60                 # bodies of this cost are not worth a second, unmasked copy
ARGUMENTS = [("ptr", "ctx"), ("i64", "task"), ("i64", "n_tasks")]


def emit_nest(module: Module, name: str, nest: Nest, s: Schedule, slots: int,
              symbols: tuple[str, ...], target: Target) -> None:
    """Put the function of a nest into the module."""
    f = Function(module, "void", name, ARGUMENTS, ALIGNED_STACK)
    context = Context(f, slots, symbols)
    context.load_sizes()
    Emitter(f, context, nest, s, target).run()
    f.ret()
    f.close()


class Emitter(Values):
    """Emits one nest at the current place of a function."""

    def __init__(self, f: Function, context: Context, nest: Nest, s: Schedule, target: Target):
        super().__init__(f, context, nest, s)
        self.target, self.unroll = target, s.unroll

    def find_buffers(self) -> None:
        """Load the address of each buffer here."""
        for v in (*self.values, *self.nest.stores):
            if isinstance(v, (Load, Store)):
                self.context.buffer(v.buffer)

    def run(self) -> None:
        self.find_buffers()
        if self.s.stash:
            offset = self.f.mul("%task", str(8 * self.s.stash_elements))
            self.stash = self.f.gep("i8", self.context.slot(self.context.slots), offset)
        self.compute(row=True)
        self.rows(0)

    # -- loops -----------------------------------------------------------------------------------
    def bounds(self, axis: Axis, step: int = 1) -> tuple[str, str]:
        """The range of a loop: all of the axis, this task's share, or up to the axis's limit."""
        f, extent = self.f, self.context.number(axis.extent)
        if axis.limit is not None:
            limit = self.scalar(axis.limit)
            return "0", f.call("i64", "llvm.smin.i64", ("i64", extent), ("i64", limit))
        if axis is not self.s.parallel:
            return "0", extent
        pieces = f.op(f"udiv i64 {f.add(extent, str(step - 1))}, {step}") if step > 1 else extent
        ends = []
        for task in ("%task", f.add("%task", "1")):
            share = f.op(f"udiv i64 {f.mul(pieces, task)}, %n_tasks")
            ends.append(f.mul(share, str(step)))
        if step > 1:
            ends[1] = f.call("i64", "llvm.smin.i64", ("i64", ends[1]), ("i64", extent))
        return ends[0], ends[1]

    def rows(self, depth: int) -> None:
        if depth == len(self.s.rows):
            for _ in self._inner_points(self.nest.rows):
                self.compute(row=True)
                self.sweeps([self.row()])
            return
        axis = self.s.rows[depth]
        if axis is self.s.rows[-1] and self.s.together > 1:
            self._rows_together(axis)
            return
        if axis is not self.vector:
            start, stop = self.bounds(axis)
            with self._turning(axis, stop), \
                    self.f.loop(start, stop, 1, hint=axis.name) as loop, self.scope():
                self.bind(axis, loop.index)
                if self.tile is not None:
                    self.env |= self.tile.known(loop.index)
                self.compute(row=True)
                self.rows(depth + 1)
            return
        start, stop = self.bounds(axis, self.lanes * self.unroll)
        for part in self.walk(axis, start, stop):
            with self._rounds(part, axis.name) as index, self.vectors(axis, index, part, stop):
                self.compute(row=True)
                self.rows(depth + 1)

    @contextlib.contextmanager
    def _rounds(self, part: Part, hint: str) -> Iterator[str]:
        """The loop over a part, or its one round; the index."""
        if part.single:
            yield part.start
            return
        with self.f.loop(part.start, part.stop, part.step, hint=hint) as loop:
            yield loop.index

    @contextlib.contextmanager
    def _turning(self, axis: Axis, stop: str) -> Iterator[None]:
        """Around the loop over a tile's rows: what is read or written across is turned."""
        accesses = [v for v in (*self.values, *self.nest.stores)
                    if axis.tile and self.mask is None and isinstance(v, (Load, Store))
                    and turns(v, self.vector, axis, self.lanes)
                    and v.place.terms.keys() <= {*self.index, axis}]
        self.tile = Tile(self, axis, accesses) if accesses else None
        if self.tile is not None:
            self.tile.fetch(stop)
        yield
        if self.tile is not None:
            self.tile.write(stop)
        self.tile = None

    def _rows_together(self, axis: Axis) -> None:
        """The innermost loop over rows, of which a round takes several through each sweep."""
        n = self.s.together
        start, stop = self.bounds(axis, n)
        with self.f.loop(start, stop, n, hint=axis.name) as loop:
            rows = []
            for u in range(n):
                with self.scope():
                    self.bind(axis, self.f.add(loop.index, str(u)))
                    self.compute(row=True)
                    rows.append(self.row(u))
            self.sweeps(rows)

    def row(self, number: int = 0) -> Row:
        """What is known here, as what is known of a row, the given one of those gone together."""
        kept = self.stash
        if number and self.s.stash:
            apart = 8 * self.s.stash_elements // self.s.together
            kept = self.f.gep("i8", kept, str(number * apart))
        return Row(self.env, self.index, self.partial, self.known_guards, kept)

    @contextlib.contextmanager
    def at(self, row: Row) -> Iterator[None]:
        """Inside, a row is what is computed; what is found is known of it from then on."""
        outside = self.row()
        self._take(row)
        yield
        row.env = self.env
        self._take(outside)

    def _take(self, row: Row) -> None:
        self.env, self.index, self.partial = dict(row.env), dict(row.index), dict(row.partial)
        self.known_guards, self.stash = row.guards, row.stash

    def _inner_points(self, axes: list[Axis]) -> Iterator[None]:
        """Once for each point of the inner axis, if it is one of `axes`; else once."""
        inner = self.s.inner
        if inner is None or inner not in axes or inner in self.index:
            yield
            return
        for i in range(inner.extent):
            with self.scope(straight=True):
                self.bind(inner, str(i))
                yield

    @contextlib.contextmanager
    def vectors(self, axis: Axis, index: str, part: Part, stop: str) -> Iterator[None]:
        """Inside a round of a vector loop: its copies, its mask, the guards that hold all along."""
        with self.scope():
            self.copies, self.inside = part.copies, part.inside
            self.mask, self.left = self._tail_mask(index, stop) if part.masked else (None, None)
            self.bind(axis, index)
            yield
        self.inside = frozenset()

    def _tail_mask(self, index: str, stop: str) -> tuple[str, str]:
        """The lanes that are still below `stop`, and how many they are (i32, at least that)."""
        f, n = self.f, self.lanes
        if is_literal(index) and is_literal(stop):
            left = int(stop) - int(index)
            return flags([i < left for i in range(n)]), str(left)
        left = f.op(f"sub i64 {stop}, {index}")
        left = f.op(f"trunc i64 {f.call('i64', 'llvm.smin.i64', ('i64', left), ('i64', str(n)))}"
                    " to i32")
        return f.op(f"icmp slt <{n} x i32> {counting(n, 'i32')}, "
                    f"{splat(f, left, f'<{n} x i32>')}"), left

    def walk(self, axis: Axis, start: str, stop: str) -> list[Part]:
        """How [start, stop) is walked: whole unrolled vectors, then single ones, masked if need be.
        """
        n, step = self.lanes, self.lanes * self.unroll
        even = isinstance(axis.extent, int) and axis.extent % n == 0 and axis.limit is None
        short = self._body_cost(axis) < LONG_BODY
        if not even and self.target.masks and not short:
            return [Part(start, stop, n, 1, True)]
        if is_literal(start) and is_literal(stop):
            stretches = self._stretches(axis) if short else {}
            return parts.known(int(stop), n, self.unroll, stretches,
                               POINTS_COST / self._written_cost())
        f = self.f
        rounds = f.op(f"sdiv i64 {f.op(f'sub i64 {stop}, {start}')}, {step}")
        main = f.add(start, f.mul(rounds, str(step)))
        found = [Part(start, main, step, self.unroll, False)]
        if self.unroll == 1 and even:
            return found
        return [*found, Part(main, stop, n, 1, not even)]

    def _stretches(self, axis: Axis) -> dict[tuple, tuple[int, int] | None]:
        """Where the guards that depend on an axis hold, by their keys."""
        return {g.key: g.stretch(axis) for v in (*self.values, *self.nest.stores)
                for g in getattr(v, "guards", ()) if axis in g.place.terms}

    def _written_cost(self) -> float:
        """Of a body, with the points that are written out in it."""
        points = math.prod(a.extent for a in self._written_out()) if self._few_points() else 1
        return max(points * body_cost(self.nest), 1)

    def _body_cost(self, axis: Axis) -> float:
        """Of a round of the vector loop: of the sweep that it makes, or of all of the nest."""
        if axis in self.s.reduced:
            return schedule.sweep_cost(self.nest, self.sweep, self.kept)
        return body_cost(self.nest)

    # -- sweeps ----------------------------------------------------------------------------------
    def sweeps(self, rows: list[Row]) -> None:
        """The reduced loops of these rows, sweep after sweep, and what depends on their results.

        A sweep goes through one row after the other: while the lanes of the first one's sums meet,
        that of the second has begun, and so nothing waits for them.
        """
        n_sweeps = self.nest.sweeps if self.nest.reduced else 0
        self.points, self.kept = {}, {}
        if self._few_points():
            self.points = {point: {} for point in itertools.product(
                *(range(a.extent) for a in self._written_out()))}
        for sweep in range(n_sweeps):
            for row in rows:
                with self.at(row):
                    self.sweep = sweep
                    self._one_sweep()
                    self.sweep = sweep + 1
                    self.compute(row=True)
        self.sweep = n_sweeps
        for row in rows:
            with self.at(row):
                for store in self.nest.stores:
                    if not (self.nest.reduced and self.nest.full(store)):
                        self.store(store)
        self.sweep = 0

    def _one_sweep(self) -> None:
        """One sweep over the row at hand."""
        reductions = [v for v in self.values
                      if isinstance(v, Reduction) and v.sweep == self.sweep + 1]
        stores = [s for s in self.nest.stores if s.sweep == self.sweep and self.nest.full(s)]
        wanted = stash.wanted(self.nest, self.sweep, self.kept)
        width = self.lanes if self.vector is not None else 1
        copies = self.copies if self.vector in self.s.rows else 1
        if self.s.sweep_unroll:
            self.unroll = self.s.sweep_unroll[self.sweep]
        start = [[accumulate.neutral(self.ops, r, width) for _ in range(copies)]
                 for r in reductions]
        if self.points:
            ends = self._each_point(reductions, stores, wanted, start)
        else:
            ends = self.reduced(0, reductions, stores, wanted, start)
        for r, copies_of_r in zip(reductions, ends, strict=True):
            self.env[r] = self._finished(r, copies_of_r)

    def _each_point(self, reductions, stores, wanted, accumulators):
        """The sweep written out point by point; the next one reuses what is computed at a point."""
        for point, known in self.points.items():
            with self.scope(straight=True):
                self.env |= known
                for axis, i in zip(self._written_out(), point, strict=True):
                    self.bind(axis, str(i))
                self.compute(wanted=wanted)
                accumulators = self._round(reductions, stores, wanted, accumulators)
                known |= {v: x for v, x in self.env.items() if self.nest.full(v)}
        return accumulators

    def _written_out(self) -> list[Axis]:
        """The reduced axes in the order of points, the inner one last."""
        inner = [self.s.inner] if self.s.inner in self.nest.reduced else []
        return [*self.s.reduced, *inner]

    def _few_points(self) -> bool:
        """Whether the reduced axes are so short that each point gets its own code."""
        extents = [a.extent for a in self._written_out()]
        if not extents or self.vector in self.s.reduced or not all(
                isinstance(n, int) and a.limit is None
                for n, a in zip(extents, self._written_out(), strict=True)):
            return False
        n = math.prod(extents)
        return n <= MOST_POINTS and n * body_cost(self.nest) * self.unroll <= POINTS_COST

    def _finished(self, r: Reduction, copies: list[list[Element]]) -> list[Element]:
        if self.vector in self.s.reduced:
            copies = [accumulate.across_lanes(self.ops, r, parts) for parts in copies]
        found = [accumulate.result(self.ops, r, parts) for parts in copies]
        return [Element(x.text, r.dtype, x.n) for x in found]

    def reduced(self, depth: int, reductions, stores, wanted, accumulators):
        """Loop `depth` of a sweep and those in it; accumulators are [reduction][copy][part]."""
        if depth == len(self.s.reduced):
            return self._round(reductions, stores, wanted, accumulators)
        axis = self.s.reduced[depth]
        if axis is self.vector:
            return self._vector_reduced(axis, reductions, stores, wanted, accumulators)
        start, stop = self.bounds(axis)

        def body(loop, so_far):
            with self.scope():
                self.bind(axis, loop.index)
                self.compute(wanted=wanted)
                return self.reduced(depth + 1, reductions, stores, wanted, so_far)

        last = depth == len(self.s.reduced) - 1
        blocks = self._blocks(axis, 1, reductions) if last else ()
        return self._carrying(start, stop, 1, blocks, reductions, accumulators, body)

    def _vector_reduced(self, axis, reductions, stores, wanted, accumulators):
        """The innermost loop, with a vector of partial results for each copy; they meet at last."""
        start, stop = self.bounds(axis)
        for part in self.walk(axis, start, stop):
            def body(loop, so_far, part=part):
                with self.vectors(axis, loop.index, part, stop):
                    self.compute(wanted=wanted)
                    return self._round(reductions, stores, wanted, so_far)

            wide = [[copies[0]] + [accumulate.neutral(self.ops, r, self.lanes)
                                   for _ in range(part.copies - 1)]
                    for r, copies in zip(reductions, accumulators, strict=True)]
            blocks = self._blocks(axis, part.step, reductions)
            with self.f.constants_held(CONSTANTS):
                ends = self._carrying(part.start, part.stop, part.step, blocks, reductions, wide,
                                      body)
            accumulators = [[accumulate.combine_all(self.ops, r, copies)]
                            for r, copies in zip(reductions, ends, strict=True)]
        return accumulators

    def _blocks(self, axis: Axis, step: int, reductions) -> tuple[int, ...]:
        """The lengths of blocks of sums and of blocks of blocks, the longest first."""
        if not any(r.op == "add" and r.dtype.is_float for r in reductions):
            return ()
        return tuple(SUM_BLOCK**level * step for level in (2, 1)
                     if _longer(axis, 2 * SUM_BLOCK**level * step, level == 1))

    def _carrying(self, start, stop, step, blocks, reductions, accumulators, body):
        """A loop that carries accumulators. In blocks of the given lengths, one within another:
        each begins with empty accumulators, so that rounding errors stay those of short sums."""
        f = self.f
        if not blocks:
            flat = [(x.ty, x.text) for copies in accumulators for parts in copies for x in parts]
            with f.loop(start, stop, step, flat, hint="r") as loop:
                ends = body(loop, _like(accumulators, loop.carried))
                loop.next = [x.text for copies in ends for parts in copies for x in parts]
            return _like(accumulators, loop.results)

        def block(outer, so_far):
            end = f.call("i64", "llvm.smin.i64", ("i64", f.add(outer.index, str(blocks[0]))),
                         ("i64", stop))
            empty = [[accumulate.neutral(self.ops, r, copies[0][0].n) for _ in copies]
                     for r, copies in zip(reductions, accumulators, strict=True)]
            inner = self._carrying(outer.index, end, step, blocks[1:], reductions, empty, body)
            return [[accumulate.combine(self.ops, r, a, b) for a, b in zip(x, y, strict=True)]
                    for r, x, y in zip(reductions, so_far, inner, strict=True)]

        return self._carrying(start, stop, blocks[0], (), reductions, accumulators, block)

    def _round(self, reductions, stores, wanted, accumulators):
        """One point (of all lanes and copies), or those of the inner axis: accumulate and store."""
        for _ in self._inner_points(self.nest.reduced):
            self.compute(wanted=wanted)
            accumulators = self._accumulate(reductions, accumulators)
            for store in stores:
                self.store(store)
        if self.sweep == self.s.ahead_sweep:
            self._fetch_ahead()
        return accumulators

    def _fetch_ahead(self) -> None:
        """Ask for the next row's part of what the schedule names, while this one is computed."""
        f = self.f
        for v, step in self.s.ahead:
            element = memory_type(v.buffer.dtype)
            place = f.add(self.scalar(v.place), self.context.number(step * self.s.together))
            first = f.gep(element, self.context.buffer(v.buffer), place)
            for u in range(self.copies):
                memory_ops.prefetch(f, f.gep(element, first, str(u * self.lanes)),
                                    isinstance(v, Store))

    def _accumulate(self, reductions, accumulators):
        ends = []
        for r, copies in zip(reductions, accumulators, strict=True):
            index = self._lanes_of(r.position) if r.position is not None else [None]
            operand = self.env[r.operand]
            mask = self.mask if self.vector in self.s.reduced else None
            ends.append([accumulate.take(self.ops, r, parts, copy_of(operand, u), copy_of(index, u),
                                         mask)
                         for u, parts in enumerate(copies)])
        return ends


@record
class Row:
    """What is known of a row: values, indices, parts of addresses, guards; where its stash is."""

    env: dict[Value, list[Element]]
    index: dict[Axis, str]
    partial: dict[tuple, str]
    guards: dict[tuple, list[Element]]
    stash: str


def _like(accumulators, registers: list[str]):
    """The registers in the structure of the accumulators."""
    texts = iter(registers)
    return [[[Element(next(texts), x.dtype, x.n) for x in parts] for parts in copies]
            for copies in accumulators]


def _longer(axis: Axis, length: int, unknown: bool) -> bool:
    return axis.extent > length if isinstance(axis.extent, int) else unknown
