"""emit: a nest and its schedule as one LLVM function.

    void @k(ptr %ctx, i64 %task, i64 %n_tasks)

Loops are opened in the order of the schedule. On entering each one, every value whose axes are now
all known is computed there, once; so nothing that stays the same is computed in an inner loop. A
value that changes along the vector axis is held in `unroll` copies of one vector each; any other in
one scalar. A vector loop has a main part of whole vectors and a rest of masked ones.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator

from cellc.ir.types import Dim, boolean, i64
from cellc.kernels import accumulate, memory_ops, schedule
from cellc.kernels.loops import (
    Buffer,
    Checked,
    Guard,
    Index,
    Inside,
    Literal,
    Load,
    Nest,
    Reduction,
    Store,
    Value,
)
from cellc.kernels.scalar_ops import Element, ScalarOps, memory_type, splat, vector
from cellc.kernels.schedule import Schedule, body_cost
from cellc.kernels.target import Target
from cellc.kernels.text import Function, Module, is_literal
from cellc.kernels.views import Affine, Axis

SUM_BLOCK = 64                 # additions to one accumulator before a fresh one is begun
MOST_POINTS = 32               # a reduction over no more points is written out,
POINTS_COST = 500              # if that makes no more instructions
LONG_BODY = 60                 # bodies of this cost are not worth a second, unmasked copy
ARGUMENTS = [("ptr", "ctx"), ("i64", "task"), ("i64", "n_tasks")]


class Context:
    """Where a kernel finds its buffers and sizes, in a function with the kernel's arguments.

    `slots` is the number of operands and results; scratch, dims and error follow them.
    """

    def __init__(self, f: Function, slots: int, symbols: tuple[str, ...]):
        self.f, self.slots, self.symbols = f, slots, symbols
        self.pointers: dict[Buffer, str] = {}
        self.sizes: dict[str, str] = {}

    def slot(self, index: int) -> str:
        return self.f.load("ptr", self.f.gep("ptr", "%ctx", str(index)))

    def buffer(self, buffer: Buffer) -> str:
        """Loaded where the function begins: call it for every buffer before the first loop."""
        if buffer not in self.pointers:
            pointer = self.slot(buffer.slot)
            if buffer.offset:
                pointer = self.f.gep("i8", pointer, str(buffer.offset))
            self.pointers[buffer] = pointer
        return self.pointers[buffer]

    def load_sizes(self) -> None:
        if self.symbols:
            dims = self.slot(self.slots + 1)
            for i, name in enumerate(self.symbols):
                self.sizes[name] = self.f.load("i64", self.f.gep("i64", dims, str(i)))

    def number(self, extent) -> str:
        """An int or Dim as an i64."""
        if isinstance(extent, Dim):
            return self.f.mul(self.sizes[extent.name], str(extent.coef))
        return str(extent)

    def error(self) -> str:
        return self.slot(self.slots + 2)


def emit_nest(module: Module, name: str, nest: Nest, s: Schedule, slots: int,
              symbols: tuple[str, ...], target: Target) -> None:
    """Put the function of a nest into the module."""
    f = Function(module, "void", name, ARGUMENTS)
    context = Context(f, slots, symbols)
    context.load_sizes()
    Emitter(f, context, nest, s, target).run()
    f.ret()
    f.close()


class Emitter:
    """Emits one nest at the current place of a function."""

    def __init__(self, f: Function, context: Context, nest: Nest, s: Schedule, target: Target):
        self.f, self.context, self.nest, self.s = f, context, nest, s
        self.ops = ScalarOps(f)
        self.lanes, self.vector = s.lanes, s.vector
        self.values = nest.values()
        self.env: dict[Value, list[Element]] = {}
        self.index: dict[Axis, str] = {}            # of lane 0 of copy 0 for the vector axis
        self.partial: dict[tuple, str] = {}         # (affine, axes bound) -> its value so far
        self.copies, self.mask, self.left = 1, None, None
        self.sweep = 0
        self.known_guards: dict[tuple, list[Element]] = {}
        self.kept: dict[Value, int] = {}             # stashed value -> the sweep that computes it
        self.collected: dict[Store, tuple[str, list[list[Element]]]] = {}
        self.one_loop = body_cost(nest) >= LONG_BODY and target.masks
        self.places = {v.place.key(): v.place for v in (*self.values, *nest.stores)
                       if isinstance(v, (Load, Store))}

    def run(self) -> None:
        for v in (*self.values, *self.nest.stores):
            if isinstance(v, (Load, Store)):
                self.context.buffer(v.buffer)
        if self.s.stash:
            offset = self.f.mul("%task", str(8 * self.s.stash_elements))
            self.stash_base = self.f.gep("i8", self.context.slot(self.context.slots), offset)
        self.compute(row=True)
        self.rows(0)

    # -- loops -----------------------------------------------------------------------------------
    @contextlib.contextmanager
    def scope(self, straight: bool = False) -> Iterator[None]:
        """What is computed inside is forgotten afterwards; `straight` code keeps its guards."""
        guards = self.known_guards
        self.known_guards = guards if straight else {}
        saved = (dict(self.env), dict(self.index), dict(self.partial), self.copies, self.mask,
                 self.left)
        yield
        self.env, self.index, self.partial, self.copies, self.mask, self.left = saved
        self.known_guards = guards

    def bind(self, axis: Axis, index: str) -> None:
        """The axis has a value now: addresses advance to it."""
        before = frozenset(self.index)
        self.index[axis] = index
        for key, place in self.places.items():
            terms = frozenset(place.terms)
            bound = terms & self.index.keys()
            if axis in terms and bound != terms:
                known = self.partial.get((key, before & terms))
                self.partial[key, frozenset(bound)] = self._sum(place, before, known, (axis,))

    def _sum(self, place: Affine, bound, known: str | None, axes) -> str:
        """`place` as far as its terms in `bound` (known already, or not) and `axes` go."""
        f = self.f
        if known is None:
            known = self.context.number(place.const)
            axes = [a for a in place.terms if a in bound or a in axes]
        for axis in axes:
            known = f.add(known, f.mul(self.index[axis],
                                       self.context.number(place.terms[axis])))
        return known

    def scalar(self, place: Affine) -> str:
        """The affine expression at lane 0 of copy 0, an i64."""
        best, taken = None, frozenset()
        needed = frozenset(place.terms)
        for (key, axes), register in self.partial.items():
            if key == place.key() and axes <= needed and len(axes) > len(taken):
                best, taken = register, axes
        if best is None:
            return self._sum(place, (), None, tuple(place.terms))
        return self._sum(place, (), best, [a for a in place.terms if a not in taken])

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
                self.sweeps()
            return
        axis = self.s.rows[depth]
        if axis is not self.vector:
            start, stop = self.bounds(axis)
            with self.f.loop(start, stop, 1, hint=axis.name) as loop, self.scope():
                self.bind(axis, loop.index)
                self.compute(row=True)
                self.rows(depth + 1)
            return
        start, stop = self.bounds(axis, self.lanes * self.s.unroll)
        for part in self.parts(axis, start, stop):
            with self.f.loop(part.start, part.stop, part.step, hint=axis.name) as loop:
                with self.vectors(axis, loop.index, part, stop):
                    self.compute(row=True)
                    self.rows(depth + 1)

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
        """Inside a round of a vector loop: its copies and mask."""
        with self.scope():
            self.copies = part.copies
            self.mask, self.left = self._tail_mask(index, stop) if part.masked else (None, None)
            self.bind(axis, index)
            yield

    def _tail_mask(self, index: str, stop: str) -> tuple[str, str]:
        """The lanes that are still below `stop`, and how many they are (i32, at least that)."""
        f, n = self.f, self.lanes
        left = f.op(f"sub i64 {stop}, {index}")
        left = f.op(f"trunc i64 {f.call('i64', 'llvm.smin.i64', ('i64', left), ('i64', str(n)))}"
                    " to i32")
        return f.op(f"icmp slt <{n} x i32> {memory_ops.iota(n, 'i32')}, "
                    f"{splat(f, left, 'i32', n)}"), left

    def parts(self, axis: Axis, start: str, stop: str) -> list[Part]:
        """How [start, stop) is walked: whole unrolled vectors, then single ones, masked if need be.

        Where the extent is known, parts that cannot occur are left out.
        """
        n, step = self.lanes, self.lanes * self.s.unroll
        exact = is_literal(start) and is_literal(stop)
        even = isinstance(axis.extent, int) and axis.extent % n == 0 and axis.limit is None
        if self.one_loop and not even:
            return [Part(start, stop, n, 1, True)]
        if exact:
            size = int(stop)
            main = size // step * step
            found = [Part("0", str(main), step, self.s.unroll, False)] if main else []
            if self.s.unroll > 1 and size - main >= 2 * n and size % n:
                whole = size // n * n
                found.append(Part(str(main), str(whole), n, 1, False))
                main = whole
            return found + ([Part(str(main), stop, n, 1, bool(size % n))] if main < size else [])
        f = self.f
        rounds = f.op(f"sdiv i64 {f.op(f'sub i64 {stop}, {start}')}, {step}")
        main = f.add(start, f.mul(rounds, str(step)))
        found = [Part(start, main, step, self.s.unroll, False)]
        if self.s.unroll == 1 and even:
            return found
        return [*found, Part(main, stop, n, 1, not even)]

    # -- sweeps ----------------------------------------------------------------------------------
    def sweeps(self) -> None:
        """The reduced loops of one row, sweep after sweep, and what depends on their results."""
        n_sweeps = self.nest.sweeps if self.nest.reduced else 0
        saved = dict(self.env)
        self.points, self.kept = {}, {}
        if self._few_points():
            self.points = {point: {} for point in itertools.product(
                *(range(a.extent) for a in self._written_out()))}
        for self.sweep in range(n_sweeps):
            reductions = [v for v in self.values
                          if isinstance(v, Reduction) and v.sweep == self.sweep + 1]
            stores = [s for s in self.nest.stores
                      if s.sweep == self.sweep and self.nest.full(s)]
            wanted = schedule.wanted(self.nest, self.sweep, self.kept)
            width = self.lanes if self.vector is not None else 1
            copies = self.copies if self.vector in self.s.rows else 1
            start = [[accumulate.neutral(self.ops, r, width) for _ in range(copies)]
                     for r in reductions]
            if self.points:
                ends = self._each_point(reductions, stores, wanted, start)
            else:
                ends = self.reduced(0, reductions, stores, wanted, start)
            for r, copies_of_r in zip(reductions, ends, strict=True):
                self.env[r] = self._finished(r, copies_of_r)
            self.sweep += 1
            self.compute(row=True)
        self.sweep = n_sweeps
        for store in self.nest.stores:
            if not (self.nest.reduced and self.nest.full(store)):
                self.store(store)
        self.env, self.sweep = saved, 0

    def _each_point(self, reductions, stores, wanted, accumulators):
        """The sweep written out point by point; what one sweep computed at a point the next reuses."""
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
        return n <= MOST_POINTS and n * body_cost(self.nest) * self.s.unroll <= POINTS_COST

    def _finished(self, r: Reduction, copies: list[list[Element]]) -> list[Element]:
        if self.vector in self.s.reduced:
            copies = [accumulate.across_lanes(self.ops, r, parts) for parts in copies]
        elif self.vector is not None and self.vector not in r.axes:
            pass                       # the same in every lane: any lane does, and all are right
        last = 1 if r.position is not None else 0
        return [Element(parts[last].text, r.dtype, parts[last].n) for parts in copies]

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
        fresh = SUM_BLOCK if last and self._sums(reductions) and _longer(axis, 4 * SUM_BLOCK) else 0
        return self._carrying(start, stop, 1, fresh, reductions, accumulators, body)

    def _vector_reduced(self, axis, reductions, stores, wanted, accumulators):
        """The innermost loop with a vector of partial results for each copy; they meet at the end."""
        start, stop = self.bounds(axis)
        for part in self.parts(axis, start, stop):
            def body(loop, so_far, part=part):
                with self.vectors(axis, loop.index, part, stop):
                    self.compute(wanted=wanted)
                    return self._round(reductions, stores, wanted, so_far)

            wide = [[copies[0]] + [accumulate.neutral(self.ops, r, self.lanes)
                                   for _ in range(part.copies - 1)]
                    for r, copies in zip(reductions, accumulators, strict=True)]
            long = _longer(axis, 4 * SUM_BLOCK * part.step)
            fresh = SUM_BLOCK * part.step if long and self._sums(reductions) else 0
            ends = self._carrying(part.start, part.stop, part.step, fresh, reductions, wide, body)
            accumulators = [[accumulate.combine_all(self.ops, r, copies)]
                            for r, copies in zip(reductions, ends, strict=True)]
        return accumulators

    def _sums(self, reductions) -> bool:
        return any(r.op == "add" and r.dtype.is_float for r in reductions)

    def _carrying(self, start, stop, step, fresh, reductions, accumulators, body):
        """A loop that carries accumulators. With `fresh`, in blocks of that many elements: each
        block begins with empty accumulators, so that rounding errors stay those of short sums."""
        f = self.f
        if not fresh:
            flat = [(x.ty, x.text) for copies in accumulators for parts in copies for x in parts]
            with f.loop(start, stop, step, flat, hint="r") as loop:
                ends = body(loop, _like(accumulators, loop.carried))
                loop.next = [x.text for copies in ends for parts in copies for x in parts]
            return _like(accumulators, loop.results)

        def block(outer, so_far):
            end = f.call("i64", "llvm.smin.i64", ("i64", f.add(outer.index, str(fresh))),
                         ("i64", stop))
            empty = [[accumulate.neutral(self.ops, r, copies[0][0].n) for _ in copies]
                     for r, copies in zip(reductions, accumulators, strict=True)]
            inner = self._carrying(outer.index, end, step, 0, reductions, empty, body)
            return [[accumulate.combine(self.ops, r, a, b) for a, b in zip(x, y, strict=True)]
                    for r, x, y in zip(reductions, so_far, inner, strict=True)]

        return self._carrying(start, stop, fresh, 0, reductions, accumulators, block)

    def _round(self, reductions, stores, wanted, accumulators):
        """One point (of all lanes and copies), or those of the inner axis: accumulate and store."""
        for _ in self._inner_points(self.nest.reduced):
            self.compute(wanted=wanted)
            accumulators = self._accumulate(reductions, accumulators)
            for store in stores:
                self.store(store)
        return accumulators

    def _accumulate(self, reductions, accumulators):
        ends = []
        for r, copies in zip(reductions, accumulators, strict=True):
            index = self._lanes_of(r.position) if r.position is not None else [None]
            operand = self.env[r.operand]
            mask = self.mask if self.vector in self.s.reduced else None
            ends.append([accumulate.take(self.ops, r, parts, _copy(operand, u), _copy(index, u),
                                         mask)
                         for u, parts in enumerate(copies)])
        return ends

    # -- values ----------------------------------------------------------------------------------
    def compute(self, row: bool = False, wanted: set[Value] | None = None) -> None:
        """Compute every value that is known from here on: of a row, or wanted by the sweep."""
        for v in self.values:
            if v in self.env or isinstance(v, Reduction) or v.sweep > self.sweep:
                continue
            if (wanted is not None and v not in wanted) or (row and self.nest.full(v)):
                continue
            ready = self.kept.get(v, self.sweep) < self.sweep or all(
                x in self.env for x in v.operands())
            if ready and all(a in self.index for a in v.axes):
                self.env[v] = self.element(v)

    def element(self, v: Value) -> list[Element]:
        """The value's copies: one where it does not change along the vector axis."""
        if isinstance(v, Literal):
            return [self.ops.const(v.value, v.dtype)]
        if isinstance(v, Index):
            return self._lanes_of(v.place)
        if isinstance(v, Inside):
            return self._guarded(v.guards)
        if isinstance(v, Load):
            return self._load(v)
        if isinstance(v, Checked):
            return self._checked(v)
        if v in self.s.stash:
            return self._kept(v)
        return self._made(v)

    def _made(self, v: ScalarOp) -> list[Element]:
        copies = self.copies if self._varies(v) else 1
        return [v.make(self.ops, *(_copy(self.env[x], u) for x in v.inputs))
                for u in range(copies)]

    def _kept(self, v: ScalarOp) -> list[Element]:
        """A value of the stash: computed and put there in the first sweep, fetched in later ones."""
        f, place = self.f, self.s.stash[v]
        pointer = f.gep(memory_type(v.dtype.compute), self.stash_base, self.scalar(place))
        held = v.dtype.compute
        if self.kept.setdefault(v, self.sweep) == self.sweep:
            made = self._made(v)
            for u, x in enumerate(made):
                memory_ops.store(self.ops, Element(x.text, held, x.n),
                                 f.gep(memory_type(held), pointer, str(u * self.lanes)), 1,
                                 self.mask)
            return made
        found = [memory_ops.load(self.ops, held, f.gep(memory_type(held), pointer,
                                                       str(u * self.lanes)), self.lanes, 1,
                                 self.mask) for u in range(self.copies)]
        return [Element(x.text, v.dtype, x.n) for x in found]

    def _varies(self, v) -> bool:
        return self.vector is not None and self.vector in v.axes and self.vector in self.index

    def _step(self, place: Affine):
        """How far neighbouring lanes lie apart: 0, an int, or a Dim."""
        return place.coef(self.vector) if self.vector in self.index else 0

    def _lanes_of(self, place: Affine) -> list[Element]:
        """An affine expression as i64 elements."""
        f, base, step = self.f, self.scalar(place), self._step(place)
        if step == 0:
            return [Element(base, i64)]
        n, ty = self.lanes, f"<{self.lanes} x i64>"
        offsets = memory_ops.lane_offsets(f, n, self._step_text(step))
        found = []
        for u in range(self.copies):
            first = f.add(base, f.mul(str(u * n), self.context.number(step)))
            found.append(Element(f.op(f"add {ty} {splat(f, first, 'i64', n)}, {offsets}"), i64, n))
        return found

    def _step_text(self, step):
        return step if isinstance(step, int) else self.context.number(step)

    def _guarded(self, guards: tuple[Guard, ...]) -> list[Element]:
        """Whether all guards hold: as unsigned comparisons, so that one does for both ends."""
        f = self.f
        met: list[Element] = []
        for guard in guards:
            rows = self._holds(guard)
            met = rows if not met else [self.ops.bit_and(_copy(met, u), _copy(rows, u))
                                        for u in range(max(len(met), len(rows)))]
        return met

    def _holds(self, guard: Guard) -> list[Element]:
        """One guard; the same condition met again is the same register."""
        f, fixed = self.f, {a: Affine(int(i)) for a, i in self.index.items() if is_literal(i)}
        place = guard.place.substitute(fixed) if fixed else guard.place
        if not place.terms and isinstance(place.const, int) and isinstance(guard.extent, int):
            return [self.ops.const(0 <= place.const < guard.extent, boolean)]
        key = (place.key(), guard.extent)
        if key not in self.known_guards:
            extent, rows = self.context.number(guard.extent), []
            for x in self._lanes_of(place):
                bound = extent if x.n == 1 else self.ops.spread(Element(extent, i64), x.n).text
                rows.append(Element(f.op(f"icmp ult {x.ty} {x.text}, {bound}"), boolean, x.n))
            self.known_guards[key] = rows
        return self.known_guards[key]

    # -- memory ----------------------------------------------------------------------------------
    def _load(self, v: Load) -> list[Element]:
        pointer, step, where = self._address(v)
        if step == 0 and not (v.dynamic and self.env[v.dynamic[0]][0].n > 1) and all(
                x.n == 1 for x in where):
            raw = self.f.load(memory_type(v.dtype), self._safe(v, pointer, where),
                              v.dtype.itemsize)
            return [self.ops.from_memory(raw, v.dtype, 1)]
        return [self._load_lanes(v, pointer, step, u, self._mask(where, u))
                for u in range(self.copies)]

    def _safe(self, v: Load, pointer: str, where: list[Element]) -> str:
        """The address, or the buffer's first element where a guard fails."""
        if not where:
            return pointer
        base = self.context.buffer(v.buffer)
        return self.f.op(f"select i1 {where[0].text}, ptr {pointer}, ptr {base}")

    def _address(self, v: Load | Store) -> tuple[str, object, list[Element]]:
        """Pointer to lane 0 of copy 0, the lane step, and the guards' condition."""
        place = v.place
        pointer = self.f.gep(memory_type(v.buffer.dtype), self.context.buffer(v.buffer),
                             self.scalar(place))
        if v.dynamic and self.env[v.dynamic[0]][0].n == 1:
            offset = self.f.mul(self.env[v.dynamic[0]][0].text,
                                self.context.number(v.dynamic[1]))
            pointer = self.f.gep(memory_type(v.buffer.dtype), pointer, offset)
        return pointer, self._step(place), self._guarded(v.guards) if v.guards else []

    def _mask(self, where: list[Element], u: int) -> str | None:
        """The lanes to touch: those of the tail mask for which the guards hold."""
        if not where:
            return self.mask
        bits = self.ops.spread(_copy(where, u), self.lanes)
        if self.mask is None:
            return bits.text
        return self.f.op(f"and {bits.ty} {bits.text}, {self.mask}")

    def _advanced(self, v: Load | Store, pointer: str, step, u: int) -> str:
        """The pointer to lane 0 of copy u."""
        if u == 0:
            return pointer
        offset = self.f.mul(str(u * self.lanes), self.context.number(step))
        return self.f.gep(memory_type(v.buffer.dtype), pointer, offset)

    def _load_lanes(self, v: Load, pointer: str, step, u: int, mask: str | None) -> Element:
        f, n = self.f, self.lanes
        pointer = self._advanced(v, pointer, step, u)
        if v.dynamic and self.env[v.dynamic[0]][0].n > 1:
            ty = f"<{n} x i64>"
            at = _copy(self.env[v.dynamic[0]], u).text
            stride = self.ops.spread(Element(self.context.number(v.dynamic[1]), i64), n).text
            offsets = f.op(f"mul {ty} {at}, {stride}")
            if step != 0:
                own = memory_ops.lane_offsets(f, n, self._step_text(step))
                offsets = f.op(f"add {ty} {offsets}, {own}")
            raw = memory_ops.gather(f, memory_type(v.dtype), pointer, n, offsets,
                                    v.dtype.itemsize, mask)
            return self.ops.from_memory(raw, v.dtype, n)
        if step == 0:
            base = self.context.buffer(v.buffer)
            some = f.call("i1", f"llvm.vector.reduce.or.v{n}i1", (f"<{n} x i1>", mask))
            pointer = f.op(f"select i1 {some}, ptr {pointer}, ptr {base}")
            raw = f.load(memory_type(v.dtype), pointer, v.dtype.itemsize)
            return self.ops.spread(self.ops.from_memory(raw, v.dtype, 1), n)
        left = self.left if mask is self.mask else None
        return memory_ops.load(self.ops, v.dtype, pointer, n, self._step_text(step), mask, left)

    def store(self, s: Store) -> None:
        """Write a value's copies. Where the lanes leave gaps that the inner axis fills, its points
        are collected and written together, shuffled into one contiguous vector."""
        pointer, step, where = self._address(s)
        value = self.env[s.value]
        inner = self.s.inner
        if inner is not None and s.place.coef(inner) == 1 and step == inner.extent and not (
                where or s.add or s.dynamic):
            self._store_filled(s, pointer, value, int(self.index[inner]))
            return
        if step == 0 and value[0].n == 1:
            self._store_one(s, pointer, value[0], where)
            return
        for u in range(self.copies if step != 0 else 1):
            x = self.ops.spread(_relabelled(_copy(value, u), s.buffer), self.lanes)
            mask = self._mask(where, u)
            at = self._advanced(s, pointer, step, u)
            if step == 0:                           # the same in every lane: any lane does
                one = Element(self.f.op(f"extractelement {x.ty} {x.text}, i64 0"), x.dtype)
                self._store_one(s, at, one, [])
                continue
            if s.add:
                old = memory_ops.load(self.ops, s.buffer.dtype, at, self.lanes,
                                      self._step_text(step), mask)
                x = self.ops.add(old, x)
            memory_ops.store(self.ops, x, at, self._step_text(step), mask)

    def _store_filled(self, s: Store, pointer: str, value: list[Element], i: int) -> None:
        """Keep the value of the inner axis' point i; at the last point write them all."""
        if i == 0:
            self.collected[s] = (pointer, [])
        pointer, rows = self.collected[s]
        rows.append([self.ops.spread(_relabelled(_copy(value, u), s.buffer), self.lanes)
                     for u in range(self.copies)])
        if len(rows) == self.s.inner.extent:
            for u in range(self.copies):
                memory_ops.store_interleaved(self.ops, [row[u] for row in rows],
                                             self._advanced(s, pointer, len(rows), u),
                                             self.left if self.mask is not None else None)

    def _store_one(self, s: Store, pointer: str, x: Element, where: list[Element]) -> None:
        f, ty = self.f, memory_type(s.buffer.dtype)
        x = _relabelled(x, s.buffer)

        def write() -> None:
            value = x
            if s.add:
                old = f.load(ty, pointer, s.buffer.dtype.itemsize)
                value = self.ops.add(self.ops.from_memory(old, s.buffer.dtype, 1), x)
            f.store(ty, self.ops.to_memory(value), pointer, s.buffer.dtype.itemsize)

        if where:
            with f.when(where[0].text):
                write()
        else:
            write()

    def _checked(self, v: Checked) -> list[Element]:
        """Clamp, and leave [1, site, index, size] in the error record where something was clamped."""
        f, found = self.f, []
        where = self._guarded(v.guards) if v.guards else []
        for u, x in enumerate(self.env[v.index]):
            extent = self.ops.spread(Element(self.context.number(v.extent), i64), x.n).text
            bad = f.op(f"icmp uge {x.ty} {x.text}, {extent}")
            bits = vector("i1", x.n)
            if where:
                bad = f.op(f"and {bits} {bad}, {self.ops.spread(_copy(where, u), x.n).text}")
            if x.n > 1 and self.mask is not None:
                bad = f.op(f"and {bits} {bad}, {self.mask}")
            some = bad if x.n == 1 else f.call("i1", f"llvm.vector.reduce.or.v{x.n}i1",
                                               (bits, bad))
            with f.when(some):
                self._record(v, x, bad)
            zero = self.ops.spread(self.ops.const(0, i64), x.n).text
            outside = f.op(f"icmp uge {x.ty} {x.text}, {extent}")
            text = f.op(f"select {bits} {outside}, {x.ty} {zero}, {x.ty} {x.text}")
            found.append(Element(text, i64, x.n))
        return found

    def _record(self, v: Checked, x: Element, bad: str) -> None:
        f, one = self.f, x.text
        if x.n > 1:
            bits = f.op(f"bitcast <{x.n} x i1> {bad} to i{x.n}")
            first = f.call(f"i{x.n}", f"llvm.cttz.i{x.n}", (f"i{x.n}", bits), ("i1", "true"))
            one = f.op(f"extractelement {x.ty} {x.text}, i{x.n} {first}")
        error = self.context.error()
        for i, value in enumerate((str(v.site), one, self.context.number(v.extent))):
            f.store("i64", value, f.gep("i64", error, str(i + 1)))
        f.store("i64", "1", error)


class Part:
    """One loop over part of the vector axis."""

    def __init__(self, start: str, stop: str, step: int, copies: int, masked: bool):
        self.start, self.stop, self.step = start, stop, step
        self.copies, self.masked = copies, masked


def _copy(copies: list, u: int):
    return copies[u] if len(copies) > 1 else copies[0]


def _relabelled(x: Element, buffer: Buffer) -> Element:
    """A partial result is stored in the dtype it is computed in."""
    return x if x.dtype is buffer.dtype else Element(x.text, buffer.dtype, x.n, x.value)


def _like(accumulators, registers: list[str]):
    """The registers in the structure of the accumulators."""
    texts = iter(registers)
    return [[[Element(next(texts), x.dtype, x.n) for x in parts] for parts in copies]
            for copies in accumulators]


def _longer(axis: Axis, length: int) -> bool:
    return not isinstance(axis.extent, int) or axis.extent > length

