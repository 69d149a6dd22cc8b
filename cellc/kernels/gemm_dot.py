"""Products whose result is small or thin, with both operands contiguous along k: inner products.

A few rows of A times a few columns of B are kept as vectors of partial sums along k, added across
their lanes at the end. Nothing is copied, so this is what a matrix times a vector wants, and the
gradient of a small convolution's weights: 6 x 25 numbers from fifty thousand positions.
"""

from __future__ import annotations

import itertools
import math

from cellc.kernels.gemm_blocked import Block, Blocked
from cellc.kernels.gemm_micro import Finished
from cellc.kernels.gemm_pack import row_offsets
from cellc.kernels.gemm_plan import PART_UNIT, Product, Schedule, Tile, split
from cellc.kernels.gemm_view import (
    BITS,
    MEMORY_TYPE,
    Axis,
    Reach,
    Strip,
    emit_minimum,
    emit_offset,
    emit_subtract,
    merged,
    text_of,
    widen,
)
from cellc.kernels.target import Target
from cellc.kernels.text import Function, mangled

THIN = 4                # rows or columns that make a product thin
SMALL = 256             # elements of a result that make it small,
LONG = 512              # when the sum is at least this long


def run_length(p: Product) -> int | str | None:
    """How many values of k lie side by side in both operands; None when they do not."""
    inner = [merged(axes)[-1] if merged(axes) else Axis(1, 1) for axes in (p.a.cols, p.b.rows)]
    single = len(merged(p.a.cols)) <= 1 and len(merged(p.b.rows)) <= 1
    if any(axis.stride != 1 for axis in inner):
        return None
    if single:
        return inner[0].extent
    lengths = [axis.extent for axis in inner]
    if any(isinstance(x, str) for x in lengths):
        return None
    short, long = sorted(lengths)
    return short if long % short == 0 else None


def suits(p: Product, target: Target) -> bool:
    """Whether the product is one of these."""
    if p.m is None or p.n is None or 0 in (p.m, p.n, p.k) or p.c.dtype == "i32":
        return False
    length, lanes = run_length(p), target.lanes(BITS[p.sum_dtype])
    if length is None:
        return False
    if isinstance(length, int) and length < lanes and length != p.k:
        return False
    long = p.k is None or p.k >= LONG
    return min(p.m, p.n) <= (THIN if long else 1) or (p.m * p.n <= SMALL and long)


def choose(p: Product, target: Target) -> tuple[int, int]:
    """Rows and columns of a tile."""
    most = target.vector_registers * 3 // 4
    pairs = [(rows, cols) for cols in (1, 2, 4, 8) for rows in range(1, most // cols + 1)
             if cols < 2 * p.n and rows <= p.m]
    return min(pairs, key=lambda pair: math.ceil(p.m / pair[0]) * math.ceil(p.n / pair[1])
               * max(pair[0] * pair[1], 1.5 * (pair[0] + pair[1]), 4))


class Dot(Blocked):
    """Emits one product by inner products; the sharing and the adding of parts are `Blocked`'s."""

    def __init__(self, module, name, product: Product, s: Schedule, epilogue, arguments,
                 target: Target):
        super().__init__(module, name, product, s, epilogue, arguments)
        self.along = Strip((), target.lanes(BITS[product.sum_dtype]))
        self.run = run_length(product)

    def _wanted(self) -> dict[str, int]:
        c_strip = Strip(self.p.c.cols, self.s.lanes)
        return {"c_strip": 0 if self.s.partial else c_strip.table_bytes(self.s.lanes)}

    def _prepare_columns(self, f: Function, start_n: str, size_n: str) -> None:
        self.c_strip.fill(f, self._place(f, "c_strip"), start_n, size_n)

    def _emit_block(self, f: Function, block: Block, rows: tuple[str, str]) -> None:
        s, p = self.s, self.p
        element = MEMORY_TYPE[p.b.dtype]
        last = emit_subtract(f, self.n, "1")
        columns = [f.gep(element, block.b, offset) for offset in
                   row_offsets(f, p.b.cols, block.start_n, s.lanes, last)]
        with f.loop(*rows, hint="tall") as tall:
            first = f.mul(tall.index, str(s.tile.rows))
            last = emit_subtract(f, self.m, "1")
            indices = [emit_minimum(f, f.add(first, str(r)), last) for r in range(s.tile.rows)]
            lines = [f.gep(MEMORY_TYPE[p.a.dtype], block.a, emit_offset(f, p.a.rows, row))
                     for row in indices]
            places = [f.gep(MEMORY_TYPE[self.c.dtype], block.c, emit_offset(f, self.c.rows, row))
                      for row in indices]
            sums = self._emit_runs(f, block, lines, columns)
            self._store(f, block, indices, places, sums)

    def _emit_runs(self, f: Function, block: Block, lines: list[str],
                   columns: list[str]) -> list[str]:
        """The vectors of partial sums of all pairs, row by row."""
        p = self.p
        ty = f"<{self.along.width} x {self.ty}>"
        zeros = ["zeroinitializer"] * (len(lines) * len(columns))
        if len(merged(p.a.cols)) <= 1 and len(merged(p.b.rows)) <= 1:
            starts = [[f.gep(MEMORY_TYPE[view.dtype], place, block.start_k) for place in group]
                      for view, group in ((p.a, lines), (p.b, columns))]
            return self._emit_run(f, *starts, block.size_k, zeros)
        stop = f.add(block.start_k, block.size_k)
        with f.loop(block.start_k, stop, self.run, [(ty, zero) for zero in zeros], "run") as run:
            starts = []
            for view, axes, group in ((p.a, p.a.cols, lines), (p.b, p.b.rows, columns)):
                offset = emit_offset(f, merged(axes), run.index)
                starts.append([f.gep(MEMORY_TYPE[view.dtype], place, offset) for place in group])
            run.next = self._emit_run(f, *starts, text_of(self.run), run.carried)
        return run.results

    def _emit_run(self, f: Function, lines: list[str], columns: list[str], size: str,
                  sums: list[str]) -> list[str]:
        """Add the products of one contiguous stretch of k: whole vectors, then a masked rest."""
        lanes = self.along.width
        ty = f"<{lanes} x {self.ty}>"
        if not size.isdigit() or int(size) >= lanes:
            whole = f.op(f"and i64 {size}, {-lanes}")
            with f.loop("0", whole, lanes, [(ty, sum_) for sum_ in sums], "k") as k:
                k.next = self._emit_step(f, lines, columns, k.index, None, k.carried)
            sums = k.results
        else:
            whole = "0"
        if size.isdigit() and int(size) % lanes == 0:
            return sums
        mask = self.along.mask(f, emit_subtract(f, size, whole), 0)
        return self._emit_step(f, lines, columns, whole, mask, sums)

    def _emit_step(self, f: Function, lines: list[str], columns: list[str], k: str,
                   mask: str | None, sums: list[str]) -> list[str]:
        lanes = self.along.width
        ty = f"<{lanes} x {self.ty}>"
        reach = Reach("contiguous", lanes, [(k, mask)])
        left, right = ([widen(f, reach.load(f, MEMORY_TYPE[dtype], place), dtype, lanes)
                        for place in group]
                       for dtype, group in ((self.p.a.dtype, lines), (self.p.b.dtype, columns)))
        pairs = itertools.product(left, right)
        return [f.intrinsic("fmuladd", ty, x, y, sum_)
                for (x, y), sum_ in zip(pairs, sums, strict=True)]

    def _store(self, f: Function, block: Block, indices: list[str], places: list[str],
               sums: list[str]) -> None:
        """Add across lanes, gather a row's sums in a vector, and store it like any other tile."""
        s = self.s
        wide = f"<{self.along.width} x {self.ty}>"
        rows = []
        for r in range(s.tile.rows):
            row = "poison"
            for j in range(s.lanes):
                name = f"llvm.vector.reduce.fadd.{mangled(wide)}"
                f.module.declare(f"{self.ty} @{name}({self.ty}, {wide})")
                total = f.op(f"call reassoc {self.ty} @{name}({self.ty} -0.0, "
                             f"{wide} {sums[r * s.lanes + j]})")
                row = f.op(f"insertelement {self.vector} {row}, {self.ty} {total}, i64 {j}")
            rows.append([row])
        whole = self.p.n % s.lanes == 0
        reaches = self.c_strip.reach(f, "0", 1, whole)
        places = [f.gep(MEMORY_TYPE[self.c.dtype], place, reaches[0].lead) for place in places]
        mask = None if whole else self.c_strip.mask(f, block.size_n, 0)
        epilogue = None if s.partial else self.epilogue
        Finished(f, self.vector, s.lanes, self.p.arrangement, block.batch, indices, block.start_n,
                 [mask], epilogue).store(rows, self.c.dtype, places, reaches)


def schedule(p: Product, target: Target) -> Schedule:
    """Whole sums, or parts of them that end where runs do.

    Where several tiles read the same rows of A, parts are short enough for those to stay in the
    second-level cache meanwhile.
    """
    rows, cols = choose(p, target)
    tile = Tile(rows, 1, float(rows * cols))
    parts, part_k, partial = split(p, target, tile, cols, PART_UNIT)
    if p.k is not None and p.n > cols:
        parts = max(parts, p.k * p.m * BITS[p.a.dtype] // (4 * target.l2_bytes))
    length = run_length(p)
    unit = length if isinstance(length, int) and length != p.k else target.lanes(BITS[p.sum_dtype])
    if parts > 1 and p.k is not None:
        part_k = -(-p.k // (parts * unit)) * unit
        parts, partial = -(-p.k // part_k), True
    return Schedule(tile, cols, None, cols, None, None, parts, part_k, unit,
                    None, partial)
