"""emit_values: what a kernel's innermost code computes, loads and stores.

A value that changes along the vector axis is held in `copies` vectors, any other in one scalar. A
value is computed where `compute` first finds all its axes bound; addresses are summed up as the
axes are bound, so that an inner loop adds only its own part.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cellc.ir.types import Dim, boolean, i64
from cellc.kernels import memory_ops
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
    ScalarOp,
    Store,
    Value,
)
from cellc.kernels.scalar_ops import Element, ScalarOps, memory_type
from cellc.kernels.schedule import Schedule
from cellc.kernels.text import Function, is_literal
from cellc.kernels.turned import Tile
from cellc.kernels.vectors import flags, flags_of, gather, splat, vector
from cellc.kernels.views import Affine, Axis


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


class Values:
    """Computes the values of a nest at the current place of a function."""

    def __init__(self, f: Function, context: Context, nest: Nest, s: Schedule):
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
        self.inside: frozenset = frozenset()         # guards that hold for all lanes here
        self.stash = ""                              # where a row keeps values for later sweeps
        self.kept: dict[Value, int] = {}             # stashed value -> the sweep that computes it
        self.tile: Tile | None = None                # whose rows are being computed
        self.collected: dict[Store, tuple[str, list[list[Element]]]] = {}
        self.places = {v.place.key(): v.place for v in (*self.values, *nest.stores)
                       if isinstance(v, (Load, Store))}

    # -- scopes and addresses --------------------------------------------------------------------
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
            return self._guarded(v.guards) or [self.ops.const(True, boolean)]
        if isinstance(v, Load):
            return self._load(v)
        if isinstance(v, Checked):
            return self._checked(v)
        if v in self.s.stash:
            return self._kept(v)
        return self._made(v)

    def _made(self, v: ScalarOp) -> list[Element]:
        copies = self.copies if self._varies(v) else 1
        return [v.make(self.ops, *(copy_of(self.env[x], u) for x in v.inputs))
                for u in range(copies)]

    def _kept(self, v: ScalarOp) -> list[Element]:
        """A value of the stash: computed and put there in its first sweep, then fetched."""
        f, place = self.f, self.s.stash[v]
        pointer = f.gep(memory_type(v.dtype.compute), self.stash, self.scalar(place))
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
            found.append(Element(f.op(f"add {ty} {splat(f, first, ty)}, {offsets}"), i64, n))
        return found

    def _step_text(self, step):
        return step if isinstance(step, int) else self.context.number(step)

    def _guarded(self, guards: tuple[Guard, ...]) -> list[Element]:
        """Whether all guards hold, as far as that is not known; [] where it is, and they do. By
        unsigned comparisons, so that one does for both ends."""
        met: list[Element] = []
        for guard in guards:
            if guard.key in self.inside:
                continue
            rows = self._holds(guard)
            met = rows if not met else [self._both(copy_of(met, u), copy_of(rows, u))
                                        for u in range(max(len(met), len(rows)))]
        return [] if all(x.value is True for x in met) else met

    def _holds(self, guard: Guard) -> list[Element]:
        """One guard; the same condition met again is the same register."""
        f, fixed = self.f, {a: Affine(int(i)) for a, i in self.index.items() if is_literal(i)}
        place, step = guard.place.substitute(fixed), self._step(guard.place)
        if not place.terms and all(isinstance(x, int) for x in (place.const, guard.extent, step)):
            return self._known(place.const, step, guard.extent)
        fixed.pop(self.vector, None)
        place = guard.place.substitute(fixed)
        key = (place.key(), guard.extent)
        if key not in self.known_guards:
            extent, rows = self.context.number(guard.extent), []
            for x in self._lanes_of(place):
                bound = extent if x.n == 1 else self.ops.spread(Element(extent, i64), x.n).text
                rows.append(Element(f.op(f"icmp ult {x.ty} {x.text}, {bound}"), boolean, x.n))
            self.known_guards[key] = rows
        return self.known_guards[key]

    def _known(self, first: int, step: int, extent: int) -> list[Element]:
        """Which of first, first + step, ... are in [0, extent): literals."""
        found = []
        for u in range(self.copies if step else 1):
            lanes = [0 <= first + step * (u * self.lanes + i) < extent for i in range(self.lanes)]
            if len(set(lanes)) == 1:
                found.append(self.ops.const(lanes[0], boolean))
            else:
                found.append(Element(flags(lanes), boolean, self.lanes))
        return found

    def _both(self, x: Element, y: Element) -> Element:
        for one, other in ((x, y), (y, x)):
            if one.value is not None:
                return other if one.value else one
            if one.n == 1 and flags_of(other.text):
                return self._lanes_if(one, other.text)
        lanes = flags_of(x.text), flags_of(y.text)
        if None in lanes:
            return self.ops.bit_and(x, y)
        return Element(flags([a and b for a, b in zip(*lanes, strict=True)]), boolean, x.n)

    def _lanes_if(self, condition: Element, lanes: str | None = None) -> Element:
        """A condition in all lanes, or in those of a literal.

        Where a mask is the signs of integers it is made of such at once: LLVM would go by bytes.
        """
        f, n = self.f, self.lanes
        if "+avx512f" in f.module.features:
            spread = self.ops.spread(condition, n)
            return spread if lanes is None else self.ops.bit_and(
                spread, Element(lanes, boolean, n))
        bits = min((256 if "+avx2" in f.module.features else 128) // n, 64)
        ty, key = f"<{n} x i{bits}>", ("in all lanes", condition.text)
        if key not in self.known_guards:
            one = f.op(f"sext i1 {condition.text} to i{bits}")
            self.known_guards[key] = [Element(splat(f, one, ty), boolean, n)]
        signs = self.known_guards[key][0].text
        if lanes is not None:
            on = ", ".join(f"i{bits} {-lane}" for lane in flags_of(lanes))
            signs = f.op(f"and {ty} {signs}, <{on}>")
        return Element(f.op(f"icmp slt {ty} {signs}, zeroinitializer"), boolean, n)

    # -- memory ----------------------------------------------------------------------------------
    def _load(self, v: Load) -> list[Element]:
        pointer, step, where = self._address(v)
        if _never(where):
            return [self.ops.const(False if v.dtype is boolean else 0, v.dtype)]
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
        met = copy_of(where, u)
        if self.mask is not None:
            met = self._both(met, Element(self.mask, boolean, self.lanes))
        if met.value is True:
            return None
        register = met.n == 1 and met.value is None
        return (self._lanes_if(met) if register else self.ops.spread(met, self.lanes)).text

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
            at = copy_of(self.env[v.dynamic[0]], u).text
            stride = self.ops.spread(Element(self.context.number(v.dynamic[1]), i64), n).text
            offsets = f.op(f"mul {ty} {at}, {stride}")
            if step != 0:
                own = memory_ops.lane_offsets(f, n, self._step_text(step))
                offsets = f.op(f"add {ty} {offsets}, {own}")
            raw = gather(f, vector(memory_type(v.dtype), n), pointer, offsets, v.dtype.itemsize,
                         mask)
            return self.ops.from_memory(raw, v.dtype, n)
        if step == 0:
            if mask is not None:
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
        if _never(where):
            return
        value = self.env[s.value]
        inner = self.s.inner
        if inner is not None and s.place.coef(inner) == 1 and step == inner.extent and not (
                where or s.add or s.dynamic):
            self._store_filled(s, pointer, value, int(self.index[inner]))
            return
        if self.tile is not None and s in self.tile.stores:
            for u in range(self.copies):
                self.tile.put(s, u, self.ops.spread(_relabelled(copy_of(value, u), s.buffer),
                                                    self.lanes))
            return
        if step == 0 and value[0].n == 1:
            self._store_one(s, pointer, value[0], where)
            return
        for u in range(self.copies if step != 0 else 1):
            x = self.ops.spread(_relabelled(copy_of(value, u), s.buffer), self.lanes)
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
        rows.append([self.ops.spread(_relabelled(copy_of(value, u), s.buffer), self.lanes)
                     for u in range(self.copies)])
        if len(rows) == self.s.inner.extent:
            left = None
            if self.mask is not None:
                left = self.f.op(f"mul i32 {self.left}, {len(rows)}")
            for u in range(self.copies):
                memory_ops.store_interleaved(self.ops, [row[u] for row in rows],
                                             self._advanced(s, pointer, len(rows), u), left)

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
        """Clamp; where that changed something leave [1, site, index, size] in the error record."""
        f, found = self.f, []
        where = self._guarded(v.guards) if v.guards else []
        for u, x in enumerate(self.env[v.index]):
            extent = self.ops.spread(Element(self.context.number(v.extent), i64), x.n).text
            bad = f.op(f"icmp uge {x.ty} {x.text}, {extent}")
            bits = vector("i1", x.n)
            if where:
                bad = f.op(f"and {bits} {bad}, {self.ops.spread(copy_of(where, u), x.n).text}")
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


def _never(where: list[Element]) -> bool:
    """Whether it is known that no lane is to be touched."""
    return bool(where) and all(x.value is False for x in where)


def copy_of(copies: list, u: int):
    return copies[u] if len(copies) > 1 else copies[0]


def _relabelled(x: Element, buffer: Buffer) -> Element:
    """A partial result is stored in the dtype it is computed in."""
    return x if x.dtype is buffer.dtype else Element(x.text, buffer.dtype, x.n, x.value)
