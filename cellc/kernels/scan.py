"""scan: running sums along an axis.

Along the last axis a vector of a row is summed within, in steps of 1, 2, 4, ... lanes, and what was
before is added; columns are summed many beside one another. Floats are summed in f64, as exact as
the table asks. Tasks share rows, or blocks of columns.
"""

from __future__ import annotations

import math

from cellc.ir.graph import Graph
from cellc.ir.types import DType, f64
from cellc.kernels.emit import ARGUMENTS
from cellc.kernels.emit_values import Context
from cellc.kernels.program import Kernel
from cellc.kernels.scalar_ops import Element, ScalarOps, memory_type
from cellc.kernels.schedule import PARALLEL_SECONDS, SHARED_SECONDS, assumed
from cellc.kernels.target import Target
from cellc.kernels.text import Function, Module, constant
from cellc.kernels.vectors import picked, vector

SCAN_SECONDS = 4e-10            # of one element
BLOCK = 4                       # vectors of columns that a task takes at least


def emit_cumsum(module: Module, name: str, graph: Graph, target: Target,
                symbols: tuple[str, ...]) -> Kernel:
    """The kernel of a `cumsum`: one pass along the axis."""
    node = graph.result
    x, axis, reverse = node.operands[0], node.attrs["axis"], node.attrs.get("reverse", False)
    before, n, inner = math.prod(node.shape[:axis]), node.shape[axis], math.prod(
        node.shape[axis + 1:])
    held = f64 if node.dtype.is_float else node.dtype
    lanes = target.lanes(held.bits)
    f = Function(module, "void", name, ARGUMENTS)
    context = Context(f, 2, symbols)
    context.load_sizes()
    sums = Running(f, node.dtype, held, lanes, reverse, context, n, inner)
    width = BLOCK * lanes
    blocks = str(-(-inner // width)) if isinstance(inner, int) and inner > 1 else "1"
    units = f.mul(context.number(before), blocks)
    begin, end = (f.op(f"udiv i64 {f.mul(task, units)}, %n_tasks")
                  for task in ("%task", f.add("%task", "1")))
    with f.loop(begin, end, hint="unit") as unit:
        row, block = (f.op(f"{what} i64 {unit.index}, {blocks}") for what in ("udiv", "urem"))
        base = f.mul(f.mul(row, sums.length), sums.inner)
        if inner == 1:
            sums.along(base)
        else:
            start = f.mul(block, str(width))
            stop = sums.inner if blocks == "1" else f.intrinsic(
                "smin", "i64", f.add(start, str(width)), sums.inner)
            sums.beside(base, start, stop)
    f.ret()
    f.close()
    moved = 2.0 * assumed(x.type.size) * node.dtype.itemsize
    seconds = assumed(x.type.size) * SCAN_SECONDS
    several = assumed(before) > 1 or blocks != "1"
    tasks = target.threads if several and seconds > SHARED_SECONDS else 1
    return Kernel([(name, tasks)], 0, moved, moved, short=seconds <= PARALLEL_SECONDS)


class Running:
    """Running sums of one row, or of columns beside one another."""

    def __init__(self, f: Function, dtype: DType, held: DType, lanes: int, reverse: bool,
                 context: Context, n, inner):
        self.f, self.ops, self.dtype, self.held, self.lanes = f, ScalarOps(f), dtype, held, lanes
        self.reverse = reverse
        self.source, self.result = context.slot(0), context.slot(1)
        self.length, self.inner = context.number(n), context.number(inner)

    def _zero(self, n: int) -> Element:
        ty = vector("double" if self.held is f64 else f"i{self.held.bits}", n)
        return Element(constant(0, ty), self.held, n)

    def _load(self, place: str, n: int) -> Element:
        ty = vector(memory_type(self.dtype), n)
        raw = self.f.load(ty, self._at(self.source, place), self.dtype.itemsize)
        return self.ops.cast(self.ops.from_memory(raw, self.dtype, n), self.held)

    def _store(self, x: Element, place: str) -> None:
        ty = vector(memory_type(self.dtype), x.n)
        self.f.store(ty, self.ops.to_memory(self.ops.cast(x, self.dtype)),
                     self._at(self.result, place), self.dtype.itemsize)

    def _at(self, array: str, place: str) -> str:
        return self.f.gep(memory_type(self.dtype), array, place)

    def beside(self, base: str, start: str, stop: str) -> None:
        """Columns start .. stop - 1 of the rows that begin at `base`, many at a time."""
        f, lanes = self.f, self.lanes
        size = f.op(f"sub i64 {stop}, {start}")
        whole = f.add(start, f.mul(f.op(f"udiv i64 {size}, {lanes}"), str(lanes)))
        for first, last, n in ((start, whole, lanes), (whole, stop, 1)):
            with f.loop(first, last, n, hint="column") as column:
                self._down(f.add(base, column.index), n)

    def _down(self, base: str, n: int) -> None:
        f, zero = self.f, self._zero(n)
        with f.loop("0", self.length, carried=[(zero.ty, zero.text)]) as loop:
            i = loop.index
            if self.reverse:
                i = f.op(f"sub i64 {f.add(self.length, '-1')}, {i}")
            place = f.add(base, f.mul(i, self.inner))
            total = self.ops.add(Element(loop.carried[0], self.held, n), self._load(place, n))
            loop.next = [total.text]
            self._store(total, place)

    def along(self, base: str) -> None:
        """One row: vectors of it, then the rest, from the left or from the right."""
        f, lanes = self.f, self.lanes
        whole = f.mul(f.op(f"udiv i64 {self.length}, {lanes}"), str(lanes))
        total, filler = self._zero(1), self._filler()
        for first, stop, n in (("0", whole, lanes), (whole, self.length, 1)):
            carry = self.ops.spread(total, n)
            with f.loop(first, stop, n, [(carry.ty, carry.text)], "along") as loop:
                i = loop.index
                if self.reverse:
                    i = f.op(f"sub i64 {f.add(self.length, str(-n))}, {i}")
                place = f.add(base, i)
                within, before = self._within(self._load(place, n), filler), Element(
                    loop.carried[0], self.held, n)
                self._store(self.ops.add(within, before), place)
                loop.next = [self.ops.add(self._last(within), before).text]
            if n > 1:
                last = f.op(f"extractelement {carry.ty} {loop.results[0]}, i64 0")
                total = Element(last, self.held, 1)

    def _filler(self) -> Element:
        """Zeros that LLVM does not know for such: it would make of shifts by lanes what is slow."""
        zero = self._zero(self.lanes)
        place = self.f.stack(zero.ty)
        self.f.store(zero.ty, zero.text, place)
        return Element(self.f.load(zero.ty, place), self.held, self.lanes)

    def _within(self, x: Element, zero: Element) -> Element:
        """The running sums of a vector's lanes, in steps of 1, 2, 4, ... lanes."""
        step = 1
        while step < x.n:
            picks = [i + step if self.reverse else i - step for i in range(x.n)]
            x = self.ops.add(x, self._shuffled(x, zero, [p if 0 <= p < x.n else x.n
                                                         for p in picks]))
            step *= 2
        return x

    def _last(self, x: Element) -> Element:
        """The last running sum in every lane."""
        if x.n == 1:
            return x
        return self._shuffled(x, x, [0 if self.reverse else x.n - 1] * x.n)

    def _shuffled(self, x: Element, y: Element, picks: list[int]) -> Element:
        return Element(picked(self.f, x.ty, x.text, y.text, picks), self.held, x.n)
