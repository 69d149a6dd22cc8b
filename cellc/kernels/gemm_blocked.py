"""The loops of the blocked matrix product, and the sharing out of its work.

    for each share of (part of k, batch, block of columns, tile rows):
        for each block of k:
            pack B[block of k, block of columns] into panels         (where it is used often)
            for each tile's rows:
                pack A[tile rows, block of k]                        (where it is not read in place)
                for each panel:  tile += A rows * B panel            (gemm_micro)

A task does a contiguous range of the units (part, batch, block, tile rows), so shares differ by one
tile's rows at most, and each element of C is computed the same way whoever does it.
"""

from __future__ import annotations

from collections.abc import Callable

from cellc.kernels import gemm_pack
from cellc.kernels.gemm_micro import Finished, PanelSource, RowSource, emit_sums
from cellc.kernels.gemm_plan import FEW_ROWS, Product, Schedule, View, k_uniform, runs_of
from cellc.kernels.gemm_view import (
    BITS,
    MEMORY_TYPE,
    Axis,
    Offsets,
    Reach,
    Strip,
    ceil_div,
    emit_count,
    emit_maximum,
    emit_minimum,
    emit_offset,
    emit_share,
    emit_subtract,
    laid_out,
    merged,
    prefetch,
    text_of,
)
from cellc.kernels.text import Function, Module
from cellc.record import changed, record

WORTH_PREFETCH = 64         # shorter sums are done before a prefetch of C would be
LONG_SUM = 512              # what is done once an element costs longer sums less than 1%
FEW_INSTRUCTIONS = 12       # of an epilogue that leaves the registers to the sums


@record
class Block:
    """What one share of the loops works on: base pointers and ranges, all registers."""

    a: str
    b: str
    c: str
    batch: str
    start_n: str
    size_n: str
    start_k: str
    size_k: str
    first: str | None       # i1: this block of k is the first / the last; None when there is one
    last: str | None


class Blocked:
    """Emits one blocked product."""

    def __init__(self, module: Module, name: str, product: Product, s: Schedule,
                 epilogue: Callable | None, arguments: list[tuple[str, str]]):
        self.module, self.name, self.p, self.s = module, name, product, s
        self.arguments, self.epilogue = arguments, epilogue
        self.sums = product.sum_dtype
        self.ty = MEMORY_TYPE[self.sums]
        self.vector, self.align = f"<{s.lanes} x {self.ty}>", s.lanes * BITS[self.sums] // 8
        self.whole = product.c.dtype == "i32"
        self.finished = f"<{s.lanes} x i32>" if self.whole else self.vector
        self.reduce_name = f"{name}.reduce" if s.partial else None
        a, b = product.a, product.b
        self.b_strip = Strip(b.cols, s.lanes, s.tile.vectors, True, read=True)
        self.b_k = Offsets(b.rows)
        self.side = min(s.lanes, 256 // BITS[self.sums])
        self.b_across, self.b_columns = Strip(b.rows, self.side), Offsets(b.cols)
        self.a_rows, self.a_along = Offsets(a.rows), Strip(a.cols, s.lanes)
        self.a_strip = Strip(a.rows, 1 << (s.tile.rows - 1).bit_length())
        self.a_k = Offsets(a.cols)
        self.a_runs = Offsets(runs_of(a, s.run))
        self.places, self.scratch_size = laid_out(self._wanted())

    # -- scratch memory ----------------------------------------------------------------------------
    def _wanted(self) -> dict[str, int]:
        """Bytes of each packed block and each table."""
        s, size = self.s, BITS[self.sums] // 8
        c_strip = Strip(self.p.c.cols, s.lanes, s.tile.vectors, True)
        wanted = {"c_strip": 0 if s.partial else c_strip.table_bytes(s.block_n)}
        if self.epilogue is not None and not s.partial:
            wanted["sums"] = size * s.tile.rows * s.width
        if s.pack_b:
            rows = s.block_k + (self.side if s.pack_b == "transpose" else 0)
            wanted["panels"] = size * rows * s.block_n
        if s.pack_a:
            wanted["tile"] = size * (s.tile.rows * s.a_pitch + self.a_strip.width)
        if s.pack_b == "transpose":
            wanted["b_across"] = self.b_across.table_bytes(s.block_k)
            wanted["b_columns"] = self.b_columns.table_bytes(s.block_n)
        else:
            wanted["b_strip"] = self.b_strip.table_bytes(s.block_n)
            wanted["b_k"] = self.b_k.table_bytes(s.block_k)
        if s.pack_a == "rows":
            wanted["a_rows"] = self.a_rows.table_bytes(s.tile.rows)
            wanted["a_along"] = self.a_along.table_bytes(s.block_k)
        elif s.pack_a == "cols":
            wanted["a_strip"] = self.a_strip.table_bytes(s.tile.rows)
            wanted["a_k"] = self.a_k.table_bytes(s.block_k)
        elif s.run:
            wanted["a_runs"] = self.a_runs.table_bytes(s.block_k // s.run)
        return wanted

    def partial_extents(self) -> tuple[int | str, ...]:
        if not self.s.partial:
            return ()
        c = self.p.c
        return (self.s.parts, BITS[self.sums] // 8,
                *(axis.extent for axis in (*c.batch, *c.rows, *c.cols)))

    def _place(self, f: Function, what: str) -> str:
        return f.gep("i8", self.scratch, self.places[what])

    # -- functions ---------------------------------------------------------------------------------
    def _open(self, name: str) -> Function:
        f = Function(self.module, "void", name, self.arguments)
        self.m, self.n, self.k = (emit_count(f, axes) for axes in
                                  (self.p.c.rows, self.p.c.cols, self.p.a.cols))
        self.batches = emit_count(f, self.p.c.batch)
        self.c = self._partial_view(f) if self.s.partial else self.p.c
        return f

    def _partial_view(self, f: Function) -> View:
        """The buffer of sums of one part: dense [batch, m, n]."""
        def size(text: str) -> int | str:
            return int(text) if text.isdigit() else text[1:]

        each = f.mul(self.m, self.n)
        self.part_stride = f.mul(each, self.batches)
        return View(self.sums, (Axis(size(self.batches), size(each)),),
                    (Axis(size(self.m), size(self.n)),), (Axis(size(self.n), 1),))

    def emit(self) -> None:
        f = self._open(self.name)
        self.c_strip = Strip(self.c.cols, self.s.lanes, self.s.tile.vectors, True)
        sizes = (self.p.m, self.p.n, self.p.batches)
        if None in sizes:
            size = f.mul(f.mul(self.m, self.n), self.batches)
            with f.when(f.op(f"icmp ne i64 {size}, 0")):
                self._emit_groups(f)
        elif 0 not in sizes:
            self._emit_groups(f)
        f.ret()
        f.close()
        if self.reduce_name:
            self._emit_reduce()

    def _emit_groups(self, f: Function) -> None:
        """The outer loop: over (part, batch, block of columns) that hold this task's tile rows."""
        s = self.s
        tall = ceil_div(f, self.m, s.tile.rows)
        blocks_n = ceil_div(f, self.n, s.block_n)
        per_part = f.mul(self.batches, blocks_n)
        units_k = ceil_div(f, self.k, s.parts * s.part_unit)
        self.part_k = str(s.part_k) if s.part_k else f.mul(units_k, str(s.part_unit))
        begin, end = emit_share(f, f.mul(f.mul(per_part, tall), str(s.parts)))
        base = f.add(f.mul("%task", str(self.scratch_size)), self._partial_bytes(f))
        self.scratch = f.gep("i8", "%scratch", base)
        first, beyond = f.op(f"udiv i64 {begin}, {tall}"), ceil_div(f, end, tall)
        with f.loop(first, beyond, hint="group") as group:
            done = f.mul(group.index, tall)
            rows = (emit_maximum(f, emit_subtract(f, begin, done), "0"),
                    emit_minimum(f, emit_subtract(f, end, done), tall))
            index = group.index
            part, index = divide(f, index, per_part, s.parts == 1)
            batch, block = divide(f, index, blocks_n, self.p.batches == 1)
            self._emit_group(f, rows, part, batch, block)

    def _partial_bytes(self, f: Function) -> str:
        if not self.s.partial:
            return "0"
        size = f.mul(self.part_stride, str(self.s.parts * BITS[self.sums] // 8))
        return f.op(f"and i64 {f.op(f'add i64 {size}, 63')}, -64")

    def _emit_group(self, f: Function, rows: tuple[str, str], part: str, batch: str,
                    block: str) -> None:
        s, p = self.s, self.p
        names = ("%b", "%a") if p.arrangement.swapped else ("%a", "%b")
        bases = [f.gep(MEMORY_TYPE[view.dtype], name, emit_offset(f, view.batch, batch))
                 for name, view in zip(names, (p.a, p.b), strict=True)]
        c = "%c"
        if s.partial:
            c = f.gep(self.ty, "%scratch", f.mul(part, self.part_stride))
        c = f.gep(MEMORY_TYPE[self.c.dtype], c, emit_offset(f, self.c.batch, batch))
        start_n = f.mul(block, str(s.block_n))
        size_n = emit_minimum(f, emit_subtract(f, self.n, start_n), str(s.block_n))
        if p.n is not None and p.n <= s.block_n:
            start_n, size_n = "0", str(p.n)
        self._prepare_columns(f, start_n, size_n)
        from_k, to_k = "0", self.k
        if s.parts > 1:
            from_k = emit_minimum(f, f.mul(part, self.part_k), self.k)
            to_k = emit_minimum(f, f.add(from_k, self.part_k), self.k)
        known = Block(*bases, c, batch, start_n, size_n, from_k, self.k, None, None)
        if s.single:
            known.size_k = emit_subtract(f, to_k, from_k) if s.parts > 1 else self.k
            self._emit_block(f, known, rows)
            return
        stop = emit_maximum(f, to_k, f.add(from_k, "1"))        # one round even without any k
        with f.loop(from_k, stop, s.block_k, hint="block_k") as loop:
            known.start_k = loop.index
            known.size_k = emit_minimum(f, emit_subtract(f, to_k, loop.index), str(s.block_k))
            known.first = f.op(f"icmp eq i64 {loop.index}, {from_k}")
            known.last = f.op(f"icmp sge i64 {f.add(loop.index, str(s.block_k))}, {to_k}")
            self._emit_block(f, known, rows)

    def _prepare_columns(self, f: Function, start_n: str, size_n: str) -> None:
        self.c_strip.fill(f, self._place(f, "c_strip"), start_n, size_n)
        if self.s.pack_b == "transpose":
            self.b_columns.fill(f, self._place(f, "b_columns"), start_n, size_n)
        else:
            self.b_strip.fill(f, self._place(f, "b_strip"), start_n, size_n)

    def _is_whole(self) -> bool:
        """Whether every tile has all its columns."""
        return self.p.n is not None and self.p.n % self.s.width == 0

    # -- one block of k ----------------------------------------------------------------------------
    def _emit_block(self, f: Function, block: Block, rows: tuple[str, str]) -> None:
        s, p = self.s, self.p
        if s.pack_b == "transpose":
            self.b_across.fill(f, self._place(f, "b_across"), block.start_k, block.size_k)
            gemm_pack.pack_b_transpose(
                f, p.b.dtype, self.ty, block.b, self._place(f, "panels"), self.b_columns,
                self.b_across, block.size_n, block.size_k, s.width)
        else:
            self.b_k.fill(f, self._place(f, "b_k"), block.start_k, block.size_k)
        if s.pack_b == "strip":
            gemm_pack.pack_b_strip(
                f, p.b.dtype, self.ty, block.b, self._place(f, "panels"), self.b_strip, self.b_k,
                block.size_n, block.size_k, s.tile.vectors, self._is_whole())
        if s.pack_a == "rows":
            self.a_along.fill(f, self._place(f, "a_along"), block.start_k, block.size_k)
        elif s.pack_a == "cols":
            self.a_k.fill(f, self._place(f, "a_k"), block.start_k, block.size_k)
        elif s.run:
            first, size = (f.op(f"udiv i64 {k}, {s.run}") for k in (block.start_k, block.size_k))
            self.a_runs.fill(f, self._place(f, "a_runs"), first, size)
        last = emit_subtract(f, self.m, "1")
        with f.loop(*rows, hint="tall") as tall:
            first = f.mul(tall.index, str(s.tile.rows))
            source = self._emit_rows(f, block, first, last)
            indices = [emit_minimum(f, f.add(first, str(r)), last) for r in range(s.tile.rows)]
            places = [f.gep(MEMORY_TYPE[self.c.dtype], block.c, emit_offset(f, self.c.rows, row))
                      for row in indices]
            with f.loop("0", block.size_n, s.width, hint="wide") as wide:
                self._emit_tile(f, block, source, indices, places, wide.index)

    def _emit_rows(self, f: Function, block: Block, first: str, last: str) -> RowSource:
        """Make a tile's rows of A readable by the inner loop."""
        s, a = self.s, self.p.a
        height, element = s.tile.rows, MEMORY_TYPE[a.dtype]
        size_m = emit_minimum(f, emit_subtract(f, self.m, first), str(height))
        if s.pack_a == "rows":
            tile = self._place(f, "tile")
            self.a_rows.fill(f, self._place(f, "a_rows"), first, size_m)
            gemm_pack.pack_a_rows(f, a.dtype, self.ty, block.a, tile, self.a_rows, self.a_along,
                                  size_m, block.size_k, s.a_pitch)
            known = [r * s.a_pitch for r in range(height)]
            return RowSource(self.sums, [tile] * height, known, "1")
        if s.pack_a == "cols":
            tile = self._place(f, "tile")
            self.a_strip.fill(f, self._place(f, "a_strip"), first, size_m)
            gemm_pack.pack_a_cols(f, a.dtype, self.ty, block.a, tile, self.a_strip, self.a_k,
                                  block.size_k, height)
            return RowSource(self.sums, [tile] * height, list(range(height)), str(height))
        step = text_of(merged(a.cols)[-1].stride if s.run else k_uniform(a))
        base = f.gep(element, block.a, "0" if s.run else f.mul(block.start_k, step))
        runs = s.run, lambda run: self.a_runs.at(f, run)
        rows = merged(a.rows)
        if self.p.m is not None and self.p.m % height == 0 and len(rows) <= 1:
            stride = rows[0].stride if rows else 0
            if isinstance(stride, int):
                base = f.gep(element, base, emit_offset(f, rows, first))
                known = [r * stride for r in range(height)]
                return RowSource(a.dtype, [base] * height, known, step, *runs)
        offsets = gemm_pack.row_offsets(f, rows, first, height, last)
        return RowSource(a.dtype, [f.gep(element, base, x) for x in offsets], [0] * height, step,
                         *runs)

    def _emit_tile(self, f: Function, block: Block, source: RowSource, indices: list[str],
                   places: list[str], column: str) -> None:
        s = self.s
        whole = self._is_whole()
        reaches = self.c_strip.reach(f, column, s.tile.vectors, whole)
        if reaches[0].lead != "0":
            places = [f.gep(MEMORY_TYPE[self.c.dtype], place, reaches[0].lead) for place in places]
        panel = self._emit_panel(f, block, column, whole)
        if self.p.k is None or self.p.k >= WORTH_PREFETCH:
            prefetch_tile(f, self.c, places, reaches)
        sums = emit_sums(f, source, panel, block.size_k, self.vector, s.tile.vectors)
        if self.whole:
            sums = [[f.op(f"fptosi {self.vector} {x} to {self.finished}") for x in row]
                    for row in sums]
        if block.first is not None:
            sums = self._emit_earlier(f, block.first, sums, places, reaches)
        masks = [None] * s.tile.vectors
        if not whole:
            left = emit_subtract(f, block.size_n, column)
            masks = [self.c_strip.mask(f, left, v) for v in range(s.tile.vectors)]
        finished = Finished(f, self.finished, s.lanes, self.p.arrangement, block.batch, indices,
                            f.add(block.start_n, column), masks, None)
        epilogue = None if s.partial else self.epilogue
        late = epilogue is not None and (
            block.last is not None or self.p.k is None or self.p.k >= LONG_SUM
            or getattr(epilogue, "cost", 0) > FEW_INSTRUCTIONS)
        if late and block.last is None:
            held = self._place(f, "sums")
            for i, value in enumerate(v for row in sums for v in row):
                f.store(self.vector, value, f.gep(self.ty, held, str(i * s.lanes)), self.align)
            self._emit_late_epilogue(f, block, finished, column, held)
            return
        finished.epilogue = None if late else epilogue
        finished.store(sums, self.c.dtype, places, reaches)
        if late:
            with f.when(block.last):
                self._emit_late_epilogue(f, block, finished, column, None)

    def _emit_late_epilogue(self, f: Function, block: Block, tile: Finished, column: str,
                            held: str | None) -> None:
        """The epilogue of a tile, vector by vector, on the sums `held` in scratch memory or, where
        blocks of k meet there, in C. Written once, it takes a fifth off the code of a product, and
        one that needs many registers pushes no sums out of them."""
        s, element = self.s, MEMORY_TYPE[self.c.dtype]
        whole = self._is_whole()
        first = tile.rows[0]
        size_m = emit_minimum(f, emit_subtract(f, self.m, first), str(len(tile.rows)))
        left = emit_minimum(f, emit_subtract(f, block.size_n, column), str(s.width))
        with f.loop("0", str(s.width) if whole else left, s.lanes, hint="vector") as vector:
            start = f.add(column, vector.index)
            reach, = self.c_strip.reach(f, start, 1, whole)
            mask = None if whole else self.c_strip.mask(
                f, emit_subtract(f, block.size_n, start), 0)
            col = f.add(tile.col, vector.index)
            with f.loop("0", size_m, hint="row") as loop:
                row = f.add(first, loop.index)
                place = f.gep(element, block.c, emit_offset(f, self.c.rows, row))
                place = f.gep(element, place, reach.lead)
                if held is None:
                    sums = reach.load(f, element, place)
                else:
                    at = f.add(f.mul(loop.index, str(s.width)), vector.index)
                    sums = f.load(self.vector, f.gep(self.ty, held, at), self.align)
                changed(tile, rows=[row], col=col, masks=[mask], epilogue=self.epilogue,
                        known={}).store([[sums]], self.c.dtype, [place], [reach])

    def _emit_panel(self, f: Function, block: Block, column: str, whole: bool) -> PanelSource:
        s, b = self.s, self.p.b
        if not s.pack_b:
            reaches = self.b_strip.reach(f, column, s.tile.vectors, whole)
            base = f.gep(MEMORY_TYPE[b.dtype], block.b, reaches[0].lead)
            ahead = 2 * s.width if s.block_k == FEW_ROWS else 0
            return PanelSource(b.dtype, base, lambda k: self.b_k.at(f, k), reaches, ahead)
        base = f.gep(self.ty, self._place(f, "panels"), f.mul(column, block.size_k))
        reaches = Strip((), s.lanes).reach(f, "0", s.tile.vectors, whole=True)
        return PanelSource(self.sums, base, lambda k: f.mul(k, str(s.width)), reaches)

    def _emit_earlier(self, f: Function, first: str, sums, places: list[str],
                      reaches: list[Reach]) -> list[list[str]]:
        """Add what earlier blocks of k left in C.

        All of it is read before any row is stored: rows past the last one repeat its address.
        """
        again, done = f.label("again"), f.label("done")
        before = f.block
        f.branch_if(first, done, again)
        f.start(again)
        element = MEMORY_TYPE[self.c.dtype]
        add = "add" if self.whole else "fadd"
        totals = [[f.op(f"{add} {self.finished} {sum_}, {reach.load(f, element, place)}")
                   for sum_, reach in zip(row, reaches, strict=True)]
                  for row, place in zip(sums, places, strict=True)]
        f.branch(done)
        f.start(done)
        return [[f.op(f"phi {self.finished} [ {new}, %{before} ], [ {total}, %{again} ]")
                 for new, total in zip(*rows, strict=True)]
                for rows in zip(sums, totals, strict=True)]

    # -- adding up the parts -----------------------------------------------------------------------
    def _emit_reduce(self) -> None:
        """@name.reduce: the sum of all parts, in order, the epilogue, and the store to C."""
        f, s, c = self._open(self.reduce_name), self.s, self.p.c
        strip = Strip(c.cols, s.lanes)
        table = f.op(f"alloca [{max(strip.table_bytes(s.lanes) // 8, 1)} x i64], align 64")
        begin, end = emit_share(f, f.mul(self.batches, self.m))
        with f.loop(begin, end, hint="row") as row:
            batch, m = divide(f, row.index, self.m, self.p.batches == 1)
            place = f.gep(MEMORY_TYPE[c.dtype], "%c", emit_offset(f, c.batch, batch))
            place = f.gep(MEMORY_TYPE[c.dtype], place, emit_offset(f, c.rows, m))
            sums = f.gep(self.ty, "%scratch", f.mul(row.index, self.n))
            with f.loop("0", self.n, s.lanes, hint="col") as col:
                left = emit_minimum(f, emit_subtract(f, self.n, col.index), str(s.lanes))
                strip.fill(f, table, col.index, left)
                reach, = strip.reach(f, "0", 1, whole=False)
                mask = strip.mask(f, left, 0)
                total = self._emit_part_sum(f, f.gep(self.ty, sums, col.index), left)
                start = f.gep(MEMORY_TYPE[c.dtype], place, reach.lead)
                Finished(f, self.vector, s.lanes, self.p.arrangement, batch, [m], col.index, [mask],
                         self.epilogue).store([[total]], c.dtype, [start], [reach])
        f.ret()
        f.close()

    def _emit_part_sum(self, f: Function, place: str, left: str) -> str:
        dense = Strip((), self.s.lanes)
        dense.fill(f, "", "0", left)
        reach, = dense.reach(f, "0", 1, whole=False)
        zero = [(self.vector, "zeroinitializer")]
        with f.loop("0", str(self.s.parts), carried=zero) as part:
            at = f.gep(self.ty, place, f.mul(part.index, self.part_stride))
            sum_ = reach.load(f, self.ty, at)
            part.next = [f.op(f"fadd {self.vector} {part.carried[0]}, {sum_}")]
        return part.results[0]


def prefetch_tile(f: Function, c: View, places: list[str], reaches: list[Reach]) -> None:
    """Ask for a tile of C while its sums are being computed."""
    for place in places:
        for reach in reaches:
            offset, _ = reach.pieces[0]
            if reach.kind == "contiguous":
                prefetch(f, f.gep(MEMORY_TYPE[c.dtype], place, offset), write=True)


def divide(f: Function, value: str, by: str, single: bool) -> tuple[str, str]:
    """Quotient and remainder; `single` says that the quotient can only be 0."""
    if single:
        return "0", value
    return f.op(f"udiv i64 {value}, {by}"), f.op(f"urem i64 {value}, {by}")
