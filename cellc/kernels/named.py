"""named: the kernels that are not one loop nest.

    dot           a matrix product with views and an epilogue (product.py), where it can be one
    concat        one copying nest after another
    pad           between elements: a nest that fills, then one that copies with a stride
    windows_add   with a stride: a nest that clears, then one that adds, windows in sequence
    scatter_add   a nest that clears, then one that adds rows in the order of the index
    cumsum        a loop along the axis, many lanes beside one another
    argsort       rows of keys, sorted (sort.py)

All but the last two are nests whose schedule is given here: where places may meet (two windows,
two equal indices) the axes that make them meet run in order, and threads share the axes that do
not.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from cellc.ir.graph import Apply, Graph
from cellc.ir.types import DType, f64, i64
from cellc.kernels.copies import Reader, axes_for, concat_nests, index_of, out_of
from cellc.kernels.emit import ARGUMENTS, Emitter
from cellc.kernels.emit_values import Context
from cellc.kernels.loops import (
    Checked,
    Literal,
    Nest,
    ScalarOp,
    Store,
    Value,
)
from cellc.kernels.product import NoProduct, emit_product, product_of
from cellc.kernels.program import Kernel
from cellc.kernels.scalar_ops import Element, ScalarOps, memory_type
from cellc.kernels.schedule import (
    PARALLEL_SECONDS,
    SHARED_SECONDS,
    Schedule,
    assumed,
    collapse,
    count,
    lanes_of,
    plan,
)
from cellc.kernels.sort import emit_argsort
from cellc.kernels.target import Target
from cellc.kernels.text import Function, Module, constant
from cellc.kernels.vectors import vector
from cellc.kernels.views import Affine, Axis, linear, row_major

ADD_SECONDS = 2e-9              # of one element added in memory,
SCAN_SECONDS = 4e-10            # and to a running sum


def find(graph: Graph) -> Callable | None:
    """The emitter of a group that is no loop nest, or None."""
    if any(node.prim.name == "dot" for node in graph.body):
        try:
            product_of(graph)
        except NoProduct:
            return None
        return emit_product
    last = graph.result
    if not isinstance(last, Apply):
        return None
    name, attrs = last.prim.name, last.attrs
    if name == "pad" and any(attrs.get("interior") or ()):
        return emit_stretched_pad
    if name == "windows_add" and any(n != 1 for n in attrs["strides"]):
        return emit_windows_add
    return {"concat": emit_concat, "scatter_add": emit_scatter_add,
            "cumsum": emit_cumsum, "argsort": emit_argsort}.get(name)


class Emission:
    """The functions of one kernel: each made of nests that are run one after another."""

    def __init__(self, module: Module, name: str, graph: Graph, target: Target,
                 symbols: tuple[str, ...]):
        self.module, self.name, self.target, self.symbols = module, name, target, symbols
        self.graph, self.node = graph, graph.result
        self.slots = len(graph.inputs) + 1
        self.out = out_of(graph)
        self.phases: list[tuple[str, int]] = []
        self.moved = 0.0

    def phase(self, *nests: tuple[Nest, Schedule]) -> None:
        """One function that runs the nests; its tasks share each of them."""
        name = self.name if not self.phases else f"{self.name}.{len(self.phases)}"
        f = Function(self.module, "void", name, ARGUMENTS)
        context = Context(f, self.slots, self.symbols)
        context.load_sizes()
        for nest, schedule in nests:
            Emitter(f, context, nest, schedule, self.target).run()
            self.moved += count([*nest.rows, *nest.reduced]) * self.out.dtype.itemsize * 2
        f.ret()
        f.close()
        self.phases.append((name, max(schedule.tasks for _, schedule in nests)))

    def kernel(self) -> Kernel:
        return Kernel(self.phases, 0, self.moved, self.moved)

    def planned(self, nest: Nest) -> tuple[Nest, Schedule]:
        nest = collapse(nest)
        return nest, plan(nest, self.target)

    def fill(self, value) -> tuple[Nest, Schedule]:
        """Every element of the result becomes `value`."""
        axis = Axis("i", self.node.type.size)
        return self.planned(Nest([axis], [], [
            Store(self.out, Affine.of(axis), Literal(self.out.dtype, value))]))

    def in_order(self, nest: Nest, shared: list[Axis], ordered: list[Axis],
                 lanes: Axis | None) -> tuple[Nest, Schedule]:
        """A nest in which `ordered` axes run in sequence; tasks and vectors share the others."""
        width = lanes_of(nest, self.target) if lanes is not None else 1
        seconds = count(nest.rows) * ADD_SECONDS
        candidates = [a for a in shared if assumed(a.extent) >= self.target.threads]
        parallel = candidates[0] if candidates and seconds > PARALLEL_SECONDS else None
        rows = [*(a for a in shared if a is not lanes), *ordered]
        if lanes is not None:
            rows.append(lanes)
        tasks = self.target.threads if parallel is not None else 1
        return nest, Schedule(rows, [], lanes if width > 1 else None, width, 1, parallel, tasks,
                              seconds)


def emit_concat(*arguments) -> Kernel:
    """Each operand is copied to its place."""
    e = Emission(*arguments)
    e.phase(*map(e.planned, concat_nests(e.graph)))
    return e.kernel()


def emit_stretched_pad(*arguments) -> Kernel:
    """The fill value everywhere, then the elements at their places."""
    e = Emission(*arguments)
    attrs, (x,) = e.node.attrs, e.node.operands
    e.phase(e.fill(attrs["value"]))
    axes = axes_for(x.shape, "i")
    index = [i * (gap + 1) + low for i, gap, low in
             zip(index_of(axes), attrs["interior"], attrs["low"], strict=True)]
    value = Reader(e.graph).value(x, index_of(axes))
    e.phase(e.planned(Nest([a for a in axes if a.extent != 1], [], [
        Store(e.out, linear(index, e.node.shape), value)])))
    return e.kernel()


def emit_windows_add(*arguments) -> Kernel:
    """Zero, then the windows' elements: places in a window in order, windows side by side."""
    e = Emission(*arguments)
    attrs, (w,) = e.node.attrs, e.node.operands
    k = len(attrs["shape"])
    lead, outer, inner = (axes_for(part, letter) for part, letter in (
        (w.shape[:-2 * k], "b"), (w.shape[-2 * k:-k], "o"), (w.shape[-k:], "k")))
    e.phase(e.fill(0))
    value = Reader(e.graph).value(w, index_of([*lead, *outer, *inner]))
    index = index_of(lead) + [
        o * stride + i * dilation for o, i, stride, dilation in
        zip(index_of(outer), index_of(inner), attrs["strides"], attrs["dilations"], strict=True)]
    rows = [a for a in (*lead, *inner, *outer) if a.extent != 1]
    nest = Nest(rows, [], [Store(e.out, linear(index, e.node.shape), value, add=True)])
    lanes = outer[-1] if outer[-1] in rows else None
    shared = [a for a in lead if a in rows]
    e.phase(e.in_order(nest, shared, [a for a in (*inner, *outer) if a in rows and a is not lanes],
                       lanes))
    return e.kernel()


def emit_scatter_add(*arguments) -> Kernel:
    """Zero, then each update at its index; equal indices meet in the order of the updates."""
    e = Emission(*arguments)
    (index, updates), axis = e.node.operands, e.node.attrs["axis"]
    e.phase(e.fill(0))
    if e.node.type.size == 0:
        return e.kernel()
    n = index.ndim
    axes = axes_for(updates.shape, "i")
    reader = Reader(e.graph)
    at = reader.value(index, index_of(axes[axis:axis + n]))
    wide = ScalarOp(i64, "cast", lambda b, i: b.cast(i, i64), (at,))
    checked: Value = Checked(i64, wide, e.node.shape[axis], 0)
    value = reader.value(updates, index_of(axes))
    place = linear([*index_of(axes[:axis]), Affine(), *index_of(axes[axis + n:])], e.node.shape)
    rows = [a for a in axes if a.extent != 1]
    nest = Nest(rows, [], [Store(e.out, place, value, (), (checked, row_major(e.node.shape)[axis]),
                                 add=True)])
    tail = [a for a in axes[axis + n:] if a in rows]
    lead = [a for a in axes[:axis] if a in rows]
    ordered = [a for a in axes[axis:axis + n] if a in rows]
    lanes = tail[-1] if tail else None
    e.phase(e.in_order(nest, [*lead, *tail], ordered, lanes))
    return e.kernel()


# -- running sums ----------------------------------------------------------------------------------
BLOCK = 4                       # vectors of columns that a task takes at least


def emit_cumsum(module: Module, name: str, graph: Graph, target: Target,
                symbols: tuple[str, ...]) -> Kernel:
    """One pass along the axis; floats are summed in f64, as exact as the table asks."""
    node = graph.result
    x, axis, reverse = node.operands[0], node.attrs["axis"], node.attrs.get("reverse", False)
    before, n, inner = math.prod(node.shape[:axis]), node.shape[axis], math.prod(
        node.shape[axis + 1:])
    held = f64 if node.dtype.is_float else node.dtype
    lanes = target.lanes(held.bits)
    f = Function(module, "void", name, ARGUMENTS)
    context = Context(f, 2, symbols)
    context.load_sizes()
    sums = _Running(f, node.dtype, held, lanes, reverse, context, n, inner)
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


class _Running:
    """Running sums of rows: along a row, within vectors and from each to the next, or of columns
    beside one another."""

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
        place = self.f.fresh("zeros")
        self.f.allocas.append(f"  {place} = alloca {zero.ty}")
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
        lanes = ", ".join(f"i32 {p}" for p in picks)
        text = self.f.op(f"shufflevector {x.ty} {x.text}, {y.ty} {y.text}, <{x.n} x i32> <{lanes}>")
        return Element(text, self.held, x.n)
