"""named: the kernels that are not one loop nest.

    dot           a matrix product with views and an epilogue (product.py), where it can be one
    concat        one copying nest after another
    pad           between elements: a nest that fills, then one that copies with a stride
    windows_add   with a stride: a nest that clears, then one that adds, windows in sequence
    scatter_add   a nest that clears, then one that adds rows in the order of the index
    last_entry    a nest that says nobody, then one that writes entries' numbers in their order
    cumsum        rows or columns, summed as they go (scan.py)
    argsort       rows of keys, sorted (sort.py)
    tiles         tiles of images in another basis (tiles.py)
    join_tiles    and back

What has no file of its own is nests whose schedule is given here: where places may meet (two
windows, two equal indices) the axes that make them meet run in order, and threads share the axes
that do not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from cellc.ir.graph import Apply, Graph
from cellc.ir.types import i64
from cellc.kernels.copies import Reader, axes_for, concat_nests, index_of, out_of
from cellc.kernels.emit import ARGUMENTS, Emitter
from cellc.kernels.emit_values import Context
from cellc.kernels.loops import (
    Checked,
    Index,
    Literal,
    Nest,
    ScalarOp,
    Store,
    Value,
)
from cellc.kernels.product import NoProduct, emit_product, product_of
from cellc.kernels.program import Kernel
from cellc.kernels.scan import emit_cumsum
from cellc.kernels.schedule import (
    PARALLEL_SECONDS,
    Schedule,
    assumed,
    collapse,
    count,
    lanes_of,
    plan,
    share_out,
    shares_of,
)
from cellc.kernels.sort import emit_argsort
from cellc.kernels.target import Target
from cellc.kernels.text import ALIGNED_STACK, Function, Module
from cellc.kernels.tiles import emit_tiles
from cellc.kernels.views import Affine, Axis, linear, row_major
from cellc.record import changed

ADD_SECONDS = 2e-9              # of one element added in memory


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
    return {"concat": emit_concat, "scatter_add": emit_scatter_add, "last_entry": emit_last_entry,
            "cumsum": emit_cumsum, "argsort": emit_argsort,
            "tiles": emit_tiles, "join_tiles": emit_tiles}.get(name)


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
        f = Function(self.module, "void", name, ARGUMENTS, ALIGNED_STACK)
        context = Context(f, self.slots, self.symbols)
        context.load_sizes()
        tasks = max(schedule.tasks for _, schedule in nests)
        if len(nests) > 1:
            seconds = sum(schedule.seconds for _, schedule in nests)
            tasks = max(tasks, shares_of(seconds, False, self.target))
        for nest, schedule in nests:
            if tasks > 1 and schedule.parallel is None:
                self._emit_with_others(f, context, nest, schedule, tasks)
            else:
                Emitter(f, context, nest, schedule, self.target).run()
            self.moved += count([*nest.rows, *nest.reduced]) * self.out.dtype.itemsize * 2
        f.ret()
        f.close()
        self.phases.append((name, tasks))

    def _emit_with_others(self, f: Function, context: Context, nest: Nest, schedule: Schedule,
                          tasks: int) -> None:
        """A nest not worth sharing alone, beside others that are shared: each task has some of it,
        and so the rows of a result where it has the others' parts of them; or the first has all."""
        axis, _ = share_out(schedule.rows, tasks, schedule.vector, schedule.lanes * schedule.unroll)
        emitter = Emitter(f, context, nest, changed(schedule, parallel=axis), self.target)
        emitter.find_buffers()
        with contextlib.nullcontext() if axis else f.when(f.op("icmp eq i64 %task, 0")):
            emitter.run()

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


def emit_last_entry(*arguments) -> Kernel:
    """-1 everywhere, then the number of each entry at its place, later ones over earlier ones."""
    e = Emission(*arguments)
    (index,) = e.node.operands
    e.phase(e.fill(-1))
    if e.node.type.size == 0 or index.size == 0:
        return e.kernel()
    axes = axes_for(index.shape, "i")
    at = Reader(e.graph).value(index, index_of(axes))
    wide = ScalarOp(i64, "cast", lambda b, i: b.cast(i, i64), (at,))
    entry = Index(i64, *index_of(axes))
    rows = [a for a in axes if a.extent != 1]
    nest = Nest(rows, [], [Store(e.out, Affine(), entry, (),
                                 (Checked(i64, wide, e.node.shape[0], 0), 1))])
    e.phase(e.in_order(nest, [], rows, None))
    return e.kernel()
