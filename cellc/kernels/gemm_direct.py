"""A convolution of padded images as a product that leaves out what the padding would add.

    for each share of (group, block of rows of A, images, outer columns):
        pack the block of A: [k][rows], vectors along A's rows         (when the block is a new one)
        for each tile of the innermost columns:
            for each term:  tile += elements of B that are not beyond an edge * A's vectors
            turn the tile in registers and store it

B is read where it lies, element by element, each spread over a vector: windows with any stride cost
the same, no copy with zeros around it is made, and for a column at the edge, or a whole row of
them, the terms that would meet zeros are no instructions. Sums of some hundred terms are added up
in the first-level cache, so that errors do not grow beyond those of a product in blocks. A's summed
axes may be flipped, as those of the gradient's weights are. (The scheme of oneDNN and of Georganas
et al., "Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures", 2018, but
for images as users have them, with the channels outside.)
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

from cellc.kernels import gemm_pack
from cellc.kernels.gemm_direct_plan import (
    Edge,
    Schedule,
    Segment,
    order_of,
    packing,
    run_length,
    terms_of,
)
from cellc.kernels.gemm_micro import Finished
from cellc.kernels.gemm_plan import Arrangement, assumed
from cellc.kernels.gemm_view import (
    BITS,
    MEMORY_TYPE,
    Axis,
    Offsets,
    Operand,
    Reach,
    Strip,
    ceil_div,
    count,
    emit_count,
    emit_maximum,
    emit_minimum,
    emit_offset,
    emit_share,
    emit_subtract,
    laid_out,
    merged,
    text_of,
    widen,
)
from cellc.kernels.text import Function, Module
from cellc.kernels.vectors import flags, splat

BLOCK_TERMS = 256           # that are summed one after the other


class Direct:
    """Emits one convolution; A are the weights, B the images."""

    def __init__(self, module: Module, name: str, a: Operand, b: Operand, c: Operand,
                 edges: tuple[Edge, ...], s: Schedule, epilogue: Callable | None,
                 arguments: list[tuple[str, str]]):
        self.module, self.name, self.s, self.arguments = module, name, s, arguments
        self.a, self.b, self.c, self.edges, self.epilogue = a, b, c, edges, epilogue
        self.sums = "f64" if a.dtype == "f64" else "f32"
        self.ty = MEMORY_TYPE[self.sums]
        self.vector, self.align = f"<{s.lanes} x {self.ty}>", s.lanes * BITS[self.sums] // 8
        self.m, self.k = count(a.rows), count(a.cols)
        self.order = order_of(b, edges)
        shared = [i for i, axis in enumerate(a.batch) if axis.stride == 0]
        sizes = [c.batch[i].extent for i in shared]
        most = max((n for n in sizes if isinstance(n, int)), default=1)
        self.together = shared[sizes.index(most)] if s.images > 1 else None
        self.shared = shared
        self.groups = [i for i in range(len(c.batch)) if i not in shared]
        terms = terms_of(a, b, edges)
        self.packing = packing(a, terms, s)
        self.run = run_length(terms)
        self.side = min(s.lanes, 256 // BITS[self.sums], 1 << self.run.bit_length() - 1)
        self.a_rows, self.a_columns = Strip(a.rows, s.lanes, s.tile.vectors), Offsets(a.rows)
        self.a_terms, self.a_runs = Offsets(terms), Offsets(merged(terms)[:-1])
        outermost = b.rows[self.order[0]].extent
        block = max(BLOCK_TERMS // (self.k // outermost), 1)
        self.block = block if block < outermost and len(self.order) > 1 else None
        self.places, self.scratch_size = laid_out(self._wanted())

    def _wanted(self) -> dict[str, int]:
        """Bytes of what a task keeps in its scratch memory."""
        s, size = self.s, BITS[self.sums] // 8
        wanted = {"panel": size * self.k * s.width,
                  "totals": size * s.tile.rows * s.width}
        if self.packing == "strip":
            wanted["rows"] = self.a_rows.table_bytes(s.width)
            wanted["terms"] = self.a_terms.table_bytes(self.k)
        else:
            wanted["rows"] = self.a_columns.table_bytes(s.width)
            wanted["terms"] = self.a_runs.table_bytes(self.k // self.run)
        if self.epilogue is not None or self.m % s.width:
            wanted["sums"] = size * s.width * s.lanes
        return wanted

    def writes_once(self) -> bool:
        """Whether each element of C is written once."""
        images = 1 if self.together is None else self.c.batch[self.together].extent
        return self.c.cols[-1].extent % self.s.pixels == 0 and images % self.s.images == 0

    def units(self) -> int:
        """How many pieces the work can be shared out in."""
        return max(math.ceil(self.m / self.s.width) * assumed(self.c.batch)
                   * assumed(self.c.cols[:-1]) // self.s.images, 1)

    # -- the loops -------------------------------------------------------------------------------
    def emit(self) -> None:
        f = Function(self.module, "void", self.name, self.arguments)
        sizes = [axis.extent for axis in (*self.c.batch, *self.c.rows, *self.c.cols)]
        if 0 not in sizes:
            self._emit_blocks(f)
        f.ret()
        f.close()

    def _extent(self, i: int) -> Axis:
        """Batch axis i as units count it."""
        extent = self.c.batch[i].extent
        return Axis(-(-extent // self.s.images) if i == self.together else extent, 0)

    def _emit_blocks(self, f: Function) -> None:
        """Over (group, block of A's rows), and what of each is this task's."""
        outer = [self._extent(i) for i in self.groups]
        inner = [*(self._extent(i) for i in self.shared), *self.c.cols[:-1]]
        blocks = str(math.ceil(self.m / self.s.width))
        each = emit_count(f, inner)
        begin, end = emit_share(f, f.mul(f.mul(emit_count(f, outer), blocks), each))
        self.scratch = f.gep("i8", "%scratch", f.mul("%task", str(self.scratch_size)))
        nonzero = emit_maximum(f, each, "1")
        first, beyond = f.op(f"udiv i64 {begin}, {nonzero}"), ceil_div(f, end, nonzero)
        with f.loop(first, beyond, hint="block") as loop:
            done = f.mul(loop.index, each)
            mine = (emit_maximum(f, emit_subtract(f, begin, done), "0"),
                    emit_minimum(f, emit_subtract(f, end, done), each))
            group = f.op(f"udiv i64 {loop.index}, {blocks}")
            start = f.mul(f.op(f"urem i64 {loop.index}, {blocks}"), str(self.s.width))
            digits = dict(zip(self.groups, digits_of(f, outer, group), strict=True))
            self._pack(f, digits, start)
            with f.loop(*mine, hint="unit") as unit:
                found = digits_of(f, inner, unit.index)
                known = digits | dict(zip(self.shared, found, strict=False))
                self._emit_unit(f, known, start, found[len(self.shared):])

    def _pack(self, f: Function, digits: dict[int, str], start: str) -> None:
        """A's rows from `start` on as a panel [k][width]."""
        a, s = self.a, self.s
        element = MEMORY_TYPE[a.dtype]
        ends = sum((x.extent - 1) * x.stride for x in a.cols if x.stride < 0)
        base = f.gep(element, "%a", f.add(str(ends), offset_of(
            f, [(digits[i], a.batch[i].stride) for i in digits])))
        size = emit_minimum(f, emit_subtract(f, str(self.m), start), str(s.width))
        panel, k = self._place(f, "panel"), str(self.k)
        rows, terms = self._place(f, "rows"), self._place(f, "terms")
        if self.packing == "runs":
            runs = self.k // self.run
            self.a_columns.fill(f, rows, start, size)
            self.a_runs.fill(f, terms, "0", str(runs))
            gemm_pack.pack_b_runs(f, a.dtype, self.ty, base, panel, self.a_columns, self.a_runs,
                                  runs, self.run, self.side, size, s.width)
        else:
            self.a_rows.fill(f, rows, start, size)
            self.a_terms.fill(f, terms, "0", k)
            gemm_pack.pack_b_strip(f, a.dtype, self.ty, base, panel, self.a_rows, self.a_terms,
                                   size, k, s.tile.vectors, self.m % s.width == 0)

    def _place(self, f: Function, what: str) -> str:
        return f.gep("i8", self.scratch, self.places[what])

    def _keep(self, f: Function, vector: str, place: str) -> None:
        f.store(self.vector, vector, place, self.align)

    def _kept(self, f: Function, place: str) -> str:
        return f.load(self.vector, place, self.align)

    def _emit_unit(self, f: Function, digits: dict[int, str], start: str,
                   outer: list[str]) -> None:
        """The columns of one row of some images."""
        images = [digits]
        if self.together is not None:
            extent = self.c.batch[self.together].extent
            first = f.mul(digits[self.together], str(self.s.images))
            images = [digits | {self.together: emit_minimum(f, f.add(first, str(i)),
                                                            str(extent - 1))}
                      for i in range(self.s.images)]
        ranges = {}
        for edge in self.edges:
            if edge.col < len(outer):
                extent = self.b.rows[edge.tap].extent
                ranges[edge.tap] = edge.taps(f, outer[edge.col], extent)
        columns, pixels = self.c.cols[-1].extent, self.s.pixels
        with f.loop("0", str(-(-columns // pixels)), hint="tile") as tile:
            column = f.mul(tile.index, str(pixels))
            if columns % pixels:
                column = emit_minimum(f, column, str(columns - pixels))
            where = [*outer, column]
            for segment in self.s.segments:
                with self._within(f, segment, tile.index):
                    self._emit_sums(f, segment, images, where, ranges)
            for i, image in enumerate(images):
                self._emit_store(f, i, image, start, where)

    def _within(self, f: Function, segment: Segment, tile: str):
        """Run the body for the tiles of a segment."""
        if len(self.s.segments) == 1:
            return contextlib.nullcontext()
        return f.when(f.op(f"icmp ult i64 {emit_subtract(f, tile, str(segment.first))}, "
                           f"{segment.tiles}"))

    # -- a tile ----------------------------------------------------------------------------------
    def _total(self, f: Function, image: int, pixel: int, vector: int) -> str:
        """Where one vector of a tile's sums is."""
        s = self.s
        n = ((image * s.pixels + pixel) * s.tile.vectors + vector) * s.lanes
        return f.gep(self.ty, self._place(f, "totals"), str(n))

    def _emit_sums(self, f: Function, segment: Segment, images: list[dict[int, str]],
                   where: list[str], ranges: dict[int, tuple[str, str]]) -> None:
        """A tile's sums, left in the totals."""
        b, s = self.b, self.s
        element = MEMORY_TYPE[b.dtype]
        columns = [(digit, axis.stride) for digit, axis in zip(where, b.cols, strict=True)]
        bases = [f.gep(element, "%b", offset_of(f, columns + [
            (image[i], b.batch[i].stride) for i in image])) for image in images]
        zeros = ["zeroinitializer"] * (s.tile.rows * s.tile.vectors)

        def nest(depth: int, at: list[str], term: str, carried: list[str],
                 bounds: tuple[str, str] | None = None) -> list[str]:
            tap = self.order[depth]
            if depth == len(self.order) - 1:
                return self._emit_taps(f, segment, tap, at, term, carried)
            low, high = bounds or ranges.get(tap, ("0", str(b.rows[tap].extent)))
            given = [(self.vector, value) for value in carried]
            with f.loop(low, high, carried=given, hint="term") as loop:
                step = f.mul(loop.index, str(b.rows[tap].stride))
                further = f.add(f.mul(term, str(b.rows[tap].extent)),
                                self._in_panel(f, tap, loop.index))
                loop.next = nest(depth + 1, [f.gep(element, x, step) for x in at], further,
                                 loop.carried)
            return loop.results

        places = [self._total(f, i, j, v) for i in range(s.images) for j in range(s.pixels)
                  for v in range(s.tile.vectors)]
        if self.block is None:
            for place, x in zip(places, nest(0, bases, "0", zeros), strict=True):
                self._keep(f, x, place)
            return
        low, high = ranges.get(self.order[0], ("0", str(b.rows[self.order[0]].extent)))
        for place in places:
            self._keep(f, "zeroinitializer", place)
        with f.loop(low, high, self.block, hint="block") as block:
            end = emit_minimum(f, f.add(block.index, str(self.block)), high)
            for place, x in zip(places, nest(0, bases, "0", zeros, (block.index, end)),
                                strict=True):
                so_far = self._kept(f, place)
                self._keep(f, f.op(f"fadd {self.vector} {so_far}, {x}"), place)

    def _in_panel(self, f: Function, tap: int, index: str) -> str:
        """Where in the order of memory an element of a summed axis is."""
        axis = self.a.cols[tap]
        return emit_subtract(f, str(axis.extent - 1), index) if axis.stride < 0 else index

    def _emit_taps(self, f: Function, segment: Segment, tap: int, at: list[str], term: str,
                   sums: list[str]) -> list[str]:
        """All taps of the innermost columns. Each has pointers of its own, or LLVM would keep the
        elements that several of them read, for which there are no registers."""
        b, s = self.b, self.s
        element, step = MEMORY_TYPE[b.dtype], b.cols[-1].stride
        sums, extent = list(sums), b.rows[tap].extent
        panel = f.gep(self.ty, self._place(f, "panel"), f.mul(term, str(extent * s.width)))
        for t, met in enumerate(segment.met):
            row = f.gep(self.ty, panel, str(int(self._in_panel(f, tap, str(t))) * s.width))
            vectors = [self._kept(f, f.gep(self.ty, row, str(v * s.lanes)))
                       for v in range(s.tile.vectors)]
            for i, base in enumerate(at):
                place = f.gep(element, base, str(t * b.rows[tap].stride))
                place = f.op(f'call ptr asm "", "=r,0"(ptr {place})')
                for j in met:
                    value = f.load(element, f.gep(element, place, str(j * step)))
                    value = splat(f, widen(f, value, b.dtype, None), self.vector)
                    for v, vector in enumerate(vectors):
                        n = (i * s.pixels + j) * s.tile.vectors + v
                        sums[n] = f.intrinsic("fmuladd", self.vector, value, vector, sums[n])
        return sums

    def _emit_store(self, f: Function, i: int, image: dict[int, str], start: str,
                    where: list[str]) -> None:
        """Turn image i of a tile so that vectors lie along its columns, and store its rows."""
        s, c = self.s, self.c
        zeros = ["zeroinitializer"] * (s.lanes - s.pixels)
        rows = [row for v in range(s.tile.vectors) for row in gemm_pack.transposed(
            f, [self._kept(f, self._total(f, i, j, v)) for j in range(s.pixels)] + zeros,
            self.vector)]
        element = MEMORY_TYPE[c.dtype]
        columns = [(digit, axis.stride) for digit, axis in zip(where, c.cols, strict=True)]
        base = f.gep(element, "%c", offset_of(f, columns + [
            (image[n], c.batch[n].stride) for n in image]))
        mask = None
        if s.pixels < s.lanes:
            mask = flags([j < s.pixels for j in range(s.lanes)])
        reach = Reach("contiguous", s.lanes, [("0", mask)])
        batch = flat(f, self.c.batch, [image[n] for n in range(len(c.batch))])
        tile = Finished(f, self.vector, s.lanes, Arrangement(tuple(range(len(c.batch))), (), (),
                                                             False),
                        batch, [], flat(f, c.cols, where), [mask], self.epilogue)
        size = emit_minimum(f, emit_subtract(f, str(self.m), start), str(s.width))
        if self.epilogue is None and self.m % s.width == 0:
            for r, row in enumerate(rows):
                tile.rows = [f.add(start, str(r))]
                place = f.gep(element, base, emit_offset(f, c.rows, tile.rows[0]))
                tile.store([[row]], c.dtype, [place], [reach])
            return
        held = self._place(f, "sums")
        for r, row in enumerate(rows):
            self._keep(f, row, f.gep(self.ty, held, str(r * s.lanes)))
        with f.loop("0", size, hint="row") as loop:
            row = f.add(start, loop.index)
            value = self._kept(f, f.gep(self.ty, held, f.mul(loop.index, str(s.lanes))))
            place = f.gep(element, base, emit_offset(f, c.rows, row))
            tile.rows, tile.known = [row], {}
            tile.store([[value]], c.dtype, [place], [reach])


def offset_of(f: Function, pairs: list[tuple[str, int | str]]) -> str:
    """The sum of digit * stride."""
    result = "0"
    for digit, stride in pairs:
        result = f.add(result, f.mul(digit, text_of(stride)))
    return result


def digits_of(f: Function, axes, index: str) -> list[str]:
    """The digits of an index in mixed radix, outermost first."""
    digits = []
    for axis in reversed(axes[1:]):
        extent = text_of(axis.extent)
        digits.append(f.op(f"urem i64 {index}, {extent}"))
        index = f.op(f"udiv i64 {index}, {extent}")
    return ([index] if axes else []) + digits[::-1]


def flat(f: Function, axes, digits: list[str]) -> str:
    """The index that has these digits."""
    result = "0"
    for axis, digit in zip(axes, digits, strict=True):
        result = f.add(f.mul(result, text_of(axis.extent)), digit)
    return result
