"""tiles: tiles of images times a matrix from either side, and back.

Where rows of tiles fill vectors, these hold tiles that stand side by side. The matrix is applied to
whole rows of pixels first, which lie in memory as vectors do; the rows that this gives stay in the
first-level cache and are then read every `step` elements, which is a wide load and a shuffle. Back,
the columns of a tile come first, and the rows are put side by side by shuffles. The n * n planes of
values lie so that they evict one another from that cache (sizes are often multiples of 4 KiB), so
some 64 tiles meet in a buffer, and each plane is read or written a few whole cache lines at a time.

Of narrow images, and of those that are a single tile (the weights of a convolution), vectors hold
whatever tiles come next, of the next rows and images, with their pixels gathered and scattered.
Tasks share the tiles in either case.
"""

from __future__ import annotations

import math

from cellc.errors import SymbolicFault
from cellc.ir.graph import Graph
from cellc.ir.prims.shape import inverse
from cellc.kernels.emit import ARGUMENTS
from cellc.kernels.emit_values import Context
from cellc.kernels.gemm_view import Axis, emit_offset
from cellc.kernels.memory_ops import store_interleaved
from cellc.kernels.program import Kernel
from cellc.kernels.scalar_ops import Element, ScalarOps, llvm_type, memory_type
from cellc.kernels.schedule import PARALLEL_SECONDS, SHARED_SECONDS
from cellc.kernels.target import Target
from cellc.kernels.text import Function, Module, constant, element_type
from cellc.kernels.vectors import (
    counting,
    gather,
    masked_load,
    masked_store,
    picked,
    scatter,
    splat,
    vector,
)
from cellc.kernels.views import row_major

ELEMENT_SECONDS = 2.5e-10       # of one element of a tile
FULL = 0.6                      # of the lanes of vectors, in rows of tiles
SPAN = 64                       # tiles that meet in a buffer
LARGE = 1 << 30                 # elements whose places are no i32 any more


def emit_tiles(module: Module, name: str, graph: Graph, target: Target,
               symbols: tuple[str, ...]) -> Kernel:
    """The kernel of a `tiles` or a `join_tiles`."""
    node = graph.result
    x, y = node.operands[0].type, node.type
    if symbols or not all(isinstance(n, int) for n in (*x.shape, *y.shape)):
        raise SymbolicFault(f"{node.prim.name} of symbolic size")
    f = Function(module, "void", name, ARGUMENTS)
    context = Context(f, 2, symbols)
    forth = node.prim.name == "tiles"
    whole, image = (y, x) if forth else (x, y)
    wide, lanes = whole.shape[-1], target.lanes(x.dtype.compute.bits)
    if wide >= FULL * lanes * -(-wide // lanes):
        way = RowsForth if forth else RowsBack
    else:
        way = SpreadForth if forth else SpreadBack
    units = 0
    if whole.size:
        transform = way(f, node.attrs, image, whole, target, context, forth)
        units = transform.units
        begin, end = (f.op(f"udiv i64 {f.mul(task, str(units))}, %n_tasks")
                      for task in ("%task", f.add("%task", "1")))
        with f.loop(begin, end, hint="unit") as unit:
            transform.unit(unit.index)
    f.ret()
    f.close()
    seconds = whole.size * ELEMENT_SECONDS
    tasks = target.threads if units > 1 and seconds > SHARED_SECONDS else 1
    moved = float((whole.size + image.size) * x.dtype.itemsize)
    return Kernel([(name, tasks)], 0, 8.0 * whole.size, moved, short=seconds <= PARALLEL_SECONDS)


class Transform:
    """What all four ways have in common; `image` and `whole` are the types of what has pixels and
    of what has tiles, on whichever side they are."""

    def __init__(self, f: Function, attrs: dict, image, whole, target: Target, context: Context,
                 forth: bool):
        self.f, self.ops, self.dtype = f, ScalarOps(f), image.dtype
        self.matrix = attrs["matrix"]
        self.lanes = target.lanes(image.dtype.compute.bits)
        self.element = llvm_type(image.dtype.compute)
        self.ty = vector(self.element, self.lanes)
        self.height, self.width = image.shape[-2:]
        self.tall, self.wide = whole.shape[-2:]
        self.n = whole.shape[0]
        self.plane = math.prod(whole.shape[2:])         # elements of one place within tiles
        lead = attrs["lead"] if forth else inverse(attrs["lead"])
        steps = row_major(image.shape)
        self.images = tuple(Axis(image.shape[i], steps[i]) for i in lead)   # in the tiles' order
        self.step = attrs.get("step", len(self.matrix))
        self.low = attrs.get("low", (0, 0))
        self.source, self.result = context.slot(0), context.slot(1)

    # -- elements ----------------------------------------------------------------------------------
    def at(self, array: str, place: str) -> str:
        return self.f.gep(memory_type(self.dtype), array, place)

    def load(self, place: str, mask: str | None) -> str:
        """A vector from memory, zero outside the mask."""
        ty = vector(memory_type(self.dtype), self.lanes)
        raw = masked_load(self.f, ty, place, self.dtype.itemsize, mask)
        return self.ops.from_memory(raw, self.dtype, self.lanes).text

    def store(self, value: str, place: str, mask: str | None) -> None:
        ty = vector(memory_type(self.dtype), self.lanes)
        raw = self.ops.to_memory(Element(value, self.dtype, self.lanes))
        masked_store(self.f, ty, raw, place, self.dtype.itemsize, mask)

    def below(self, first: str, bound: str) -> str:
        """The lanes l with 0 <= first + l < bound."""
        f, ints = self.f, vector("i32", self.lanes)
        start = splat(f, f.op(f"trunc i64 {first} to i32"), ints)
        lane = f.op(f"add {ints} {start}, {counting(self.lanes, 'i32')}")
        return f.op(f"icmp ult {ints} {lane}, {splat(f, f.op(f'trunc i64 {bound} to i32'), ints)}")

    def inside(self, first: str, count: int) -> str | None:
        """The lanes of the vector at `first` among `count`; None where there are only such."""
        return None if count % self.lanes == 0 else self.below(first, str(count))

    def combined(self, row, values: list[str]) -> str:
        """The sum of the values times a row of the matrix."""
        f, total = self.f, None
        for c, x in zip(row, values, strict=True):
            if c == 0:
                continue
            if total is None:
                total = x if c == 1 else f.op(
                    f"fmul {self.ty} {x}, {constant(c, self.ty)}")
            elif c in (1, -1):
                total = f.op(f"{'fadd' if c == 1 else 'fsub'} {self.ty} {total}, {x}")
            else:
                total = f.intrinsic("fmuladd", self.ty, x, constant(c, self.ty), total)
        return total or "zeroinitializer"

    def applied(self, values: list[list[str]]) -> list[list[str]]:
        """M V M' for the matrix M and a square V of vectors."""
        columns = [[self.combined(row, list(column)) for row in self.matrix]
                   for column in zip(*values, strict=True)]
        return [[self.combined(row, list(across)) for row in self.matrix]
                for across in zip(*columns, strict=True)]


class Rows(Transform):
    """Vectors of tiles side by side. A unit is some rows of tiles, or one if they are long."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.rows, self.span = max(1, SPAN // self.wide), min(self.wide, SPAN)
        self.total = self.plane // self.wide
        self.units = -(-self.total // self.rows)
        room = -(-self.rows * self.span // self.lanes) * self.lanes + self.lanes
        self.line = f"[{room} x {self.element}]"    # a row's last vector ends in the next, or here
        self.buffer = self.f.stack(f"[{self.n**2} x {self.line}]")

    def unit(self, unit: str) -> None:
        f = self.f
        first = f.mul(unit, str(self.rows))
        rows = f.intrinsic("smin", "i64", f.op(f"sub i64 {self.total}, {first}"), str(self.rows))
        with f.loop("0", str(self.wide), self.span, hint="span") as span:
            left = f.op(f"sub i64 {self.wide}, {span.index}")
            size = f.mul(rows, f.intrinsic("smin", "i64", left, str(self.span)))
            place = f.add(f.mul(first, str(self.wide)), span.index)
            self.together(first, rows, span.index, place, size)

    def each(self, first: str, rows: str, span: str, work) -> None:
        """`work(row of tiles, first tile, the place of that in the buffer)` for all vectors."""
        f = self.f
        end = f.intrinsic("smin", "i64", f.add(span, str(self.span)), str(self.wide))
        with f.loop("0", rows, hint="row") as row:
            start = f.op(f"sub i64 {f.mul(row.index, str(self.wide))}, {span}")
            with f.loop(span, end, self.lanes, hint="across") as tile:
                work(f.add(first, row.index), tile.index, f.add(start, tile.index))

    def near(self, plane: str, place: str) -> str:
        """A place in the buffer."""
        return self.f.gep(self.element, self.f.gep(self.line, self.buffer, plane), place)

    def planes(self, place: str, size: str, move) -> None:
        """`move(address in the buffer, place in memory, mask)` for all vectors of each plane."""
        f = self.f
        with f.loop("0", str(self.n**2), hint="plane") as plane:
            start = f.add(place, f.mul(plane.index, str(self.plane)))
            with f.loop("0", size, self.lanes, hint="copy") as i:
                move(self.near(plane.index, i.index), f.add(start, i.index),
                     self.below(i.index, size))

    def place(self, row: str) -> tuple[str, str]:
        """Where the image of a row of tiles begins, and its first row of pixels there."""
        f = self.f
        outside, inside = (f.op(f"{what} i64 {row}, {self.tall}") for what in ("udiv", "urem"))
        return emit_offset(f, self.images, outside), f.mul(inside, str(self.step))


class RowsForth(Rows):
    """Pixels to tiles."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        size, step = len(self.matrix[0]), self.step
        self.columns = -(-((min(self.lanes, self.wide) - 1) * step + size) // self.lanes)
        room = max(self.columns * self.lanes, ((size - 1) // step + self.lanes) * step)
        self.row = f"[{room} x {self.element}]"
        self.pixels = self.f.stack(f"[{self.n} x {self.row}]")

    def together(self, first: str, rows: str, span: str, place: str, size: str) -> None:
        self.each(first, rows, span, self._vector)
        self.planes(place, size, lambda near, far, mask: self.store(
            self.f.load(self.ty, near, 4), self.at(self.result, far), mask))

    def _vector(self, row: str, tile: str, near: str) -> None:
        f = self.f
        place, top = self.place(row)
        top = f.add(top, str(-self.low[0]))
        lines = []                      # where each row of pixels begins, and how many it has
        for p in range(len(self.matrix[0])):
            line = f.add(top, str(p))
            known = f.op(f"icmp ult i64 {line}, {self.height}")
            lines.append((f.add(place, f.mul(line, str(self.width))),
                          f.op(f"select i1 {known}, i64 {self.width}, i64 0")))
        self._down(lines, f.add(f.mul(tile, str(self.step)), str(-self.low[1])))
        self._across(near)

    def _down(self, lines: list[tuple[str, str]], column: str) -> None:
        """The matrix times the columns of pixels from `column` on."""
        f = self.f
        for v in range(self.columns):
            first = f.add(column, str(v * self.lanes))
            values = [self.load(self.at(self.source, f.add(start, first)), self.below(first, count))
                      for start, count in lines]
            for a, row in enumerate(self.matrix):
                to = f.gep(self.row, self.pixels, str(a))
                f.store(self.ty, self.combined(row, values),
                        f.gep(self.element, to, str(v * self.lanes)), 4)

    def _across(self, near: str) -> None:
        f, step, n = self.f, self.step, self.n
        ty = vector(self.element, self.lanes * step)
        with f.loop("0", str(n), hint="a") as a:
            row = f.gep(self.row, self.pixels, a.index)
            values = []
            for q in range(len(self.matrix[0])):
                if q % step == 0:
                    pixels = f.load(ty, f.gep(self.element, row, str(q)), 4)
                values.append(picked(f, ty, pixels, "poison",
                                     [q % step + i * step for i in range(self.lanes)]))
            for b, by in enumerate(self.matrix):
                plane = f.add(f.mul(a.index, str(n)), str(b))
                f.store(self.ty, self.combined(by, values), self.near(plane, near), 4)


class RowsBack(Rows):
    """Tiles to pixels."""

    def together(self, first: str, rows: str, span: str, place: str, size: str) -> None:
        self.planes(place, size, lambda near, far, mask: self.f.store(
            self.ty, self.load(self.at(self.source, far), mask), near, 4))
        self.each(first, rows, span, self._vector)

    def _vector(self, row: str, tile: str, near: str) -> None:
        f = self.f
        place, top = self.place(row)
        column = f.mul(tile, str(self.step))
        place = f.add(f.add(place, f.mul(top, str(self.width))), column)
        left = None
        if self.width % (self.lanes * self.step):
            left = f.op(f"trunc i64 {f.op(f'sub i64 {self.width}, {column}')} to i32")
        for p, values in enumerate(self._down(near)):
            with f.when(f.op(f"icmp slt i64 {f.add(top, str(p))}, {self.height}")):
                pixels = [Element(self.combined(row, values), self.dtype, self.lanes)
                          for row in self.matrix]
                to = self.at(self.result, f.add(place, str(p * self.width)))
                store_interleaved(self.ops, pixels, to, left)

    def _down(self, near: str) -> list[list[str]]:
        """The matrix times the columns of the tiles: [rows of pixels][n]."""
        columns = []
        for b in range(self.n):
            values = [self.f.load(self.ty, self.near(str(a * self.n + b), near), 4)
                      for a in range(self.n)]
            columns.append([self.combined(row, values) for row in self.matrix])
        return [list(row) for row in zip(*columns, strict=True)]


class Spread(Transform):
    """Vectors of whatever tiles come next. A unit is one."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.units = -(-self.plane // self.lanes)
        most = max(self.plane, math.prod(a.extent for a in self.images) * self.height * self.width)
        self.ints = vector("i32" if most < LARGE else "i64", self.lanes)
        self.memory = vector(memory_type(self.dtype), self.lanes)

    def corners(self, first: str) -> tuple[str, str, str]:
        """Of the tiles from `first` on: where they begin in the images, their first rows and
        columns there."""
        f, ints = self.f, self.ints
        if element_type(ints) == "i32":
            first = f.op(f"trunc i64 {first} to i32")
        rest = self.lanewise("add", splat(f, first, ints), counting(self.lanes, element_type(ints)))
        digits = []
        for extent in (self.wide, self.tall, *(axis.extent for axis in reversed(self.images))):
            digits.append(self.lanewise("urem", rest, extent))
            rest = self.lanewise("udiv", rest, extent)
        column, row, *outside = digits
        row, column = (self.lanewise("sub", self.lanewise("mul", x, self.step), low)
                       for x, low in zip((row, column), self.low, strict=True))
        total = self.lanewise("add", self.lanewise("mul", row, self.width), column)
        for digit, axis in zip(outside, reversed(self.images), strict=True):
            total = self.lanewise("add", total, self.lanewise("mul", digit, axis.stride))
        if element_type(ints) == "i32":
            total = f.op(f"sext {ints} {total} to <{self.lanes} x i64>")
        return total, row, column

    def lanewise(self, what: str, a: str, b: str | int) -> str:
        """An operation on whole numbers, one in each lane."""
        b = constant(b, self.ints) if isinstance(b, int) else b
        return self.f.op(f"{what} {self.ints} {a}, {b}")

    def inside_image(self, corner: str, offset: int, axis: int) -> str | None:
        """The lanes whose row (axis 0) or column `corner + offset` is one of the image; None where
        that is so in all tiles."""
        count, size = ((self.tall, self.height), (self.wide, self.width))[axis]
        first = offset - self.low[axis]
        if first >= 0 and (count - 1) * self.step + first < size:
            return None
        at = self.lanewise("add", corner, offset)
        return self.f.op(f"icmp ult {self.ints} {at}, {constant(size, self.ints)}")

    def for_pixels(self, first: str, k: int, work) -> None:
        """`work(p, q, address of pixel (p, q) but for the tiles' offsets, these, mask)`."""
        f = self.f
        places, row, column = self.corners(first)
        alive = self.inside(first, self.plane)
        across = [self.inside_image(column, q, 1) for q in range(k)]
        for p in range(k):
            down = self.inside_image(row, p, 0)
            for q in range(k):
                mask = None
                for part in (alive, down, across[q]):
                    if part is not None and mask is not None:
                        mask = f.op(f"and <{self.lanes} x i1> {mask}, {part}")
                    else:
                        mask = mask or part
                work(p, q, str(p * self.width + q), places, mask)


class SpreadForth(Spread):
    """Pixels to tiles."""

    def unit(self, unit: str) -> None:
        f, size = self.f, len(self.matrix[0])
        first = f.mul(unit, str(self.lanes))
        pixels = [[""] * size for _ in range(size)]

        def read(p: int, q: int, at: str, places: str, mask: str | None) -> None:
            raw = gather(f, self.memory, self.at(self.source, at), places, self.dtype.itemsize,
                         mask)
            pixels[p][q] = self.ops.from_memory(raw, self.dtype, self.lanes).text

        self.for_pixels(first, size, read)
        alive = self.inside(first, self.plane)
        for a, row in enumerate(self.applied(pixels)):
            for b, value in enumerate(row):
                place = f.add(first, str((a * self.n + b) * self.plane))
                self.store(value, self.at(self.result, place), alive)


class SpreadBack(Spread):
    """Tiles to pixels."""

    def unit(self, unit: str) -> None:
        f, n = self.f, self.n
        first = f.mul(unit, str(self.lanes))
        alive = self.inside(first, self.plane)
        made = self.applied([[self.load(self.at(self.source, f.add(
            first, str((a * n + b) * self.plane))), alive) for b in range(n)] for a in range(n)])

        def write(p: int, q: int, at: str, places: str, mask: str | None) -> None:
            raw = self.ops.to_memory(Element(made[p][q], self.dtype, self.lanes))
            scatter(f, self.memory, raw, self.at(self.result, at), places, self.dtype.itemsize,
                    mask)

        self.for_pixels(first, len(self.matrix), write)
