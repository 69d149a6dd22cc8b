"""chain: two products and what stands between them, block of rows after block of rows.

    scores = dot(q, k)            for each batch, for each block of the rows of q:
    p = softmax(scores)     ->      scores = q[block] k          in scratch memory, in the cache
    out = dot(p, v)                 p = softmax(scores)          in the same place
                                    out[block] = p v

Attention is such a chain: its scores grow with the square of the sequence, and here they never
reach memory. A whole row of them is held at a time, so what stands between may be any nest that
walks rows, and each row is summed as it would be without this. (The online softmax of Milakov and
Gimelshein, 2018, of which FlashAttention is made, holds parts of rows; a CPU's second-level cache
is large enough for rows.) A chain is a graph of three `fused` applies: product, nest, product.
"""

from __future__ import annotations

import dataclasses

from cellc.ir.graph import Graph, Input
from cellc.kernels.emit import ARGUMENTS, Emitter
from cellc.kernels.emit_values import Context
from cellc.kernels.loops import Buffer, Checked, Load, Nest, Store
from cellc.kernels.lower import NotFusable, lower
from cellc.kernels.product import CODEGEN, NoProduct, Parts, Product, product_of, write_product
from cellc.kernels.program import Kernel
from cellc.kernels.schedule import (
    LONG_SECONDS,
    SHARES,
    Schedule,
    body_cost,
    count,
    plan,
    rewrite,
    share_out,
)
from cellc.kernels.target import Target
from cellc.kernels.text import ALIGNED_STACK, Function, Module
from cellc.kernels.views import Affine, Axis
from cellc.record import changed, record

LEAST_SCORES = 1 << 14      # elements between the products; fewer stay in the cache anyway
FEWEST_ROWS = 32            # of a block: every block packs the second operand anew
MOST_ROWS = 64
MOST_WIDTH = 512            # terms and columns of the products; beyond, memory is not what counts


class NoChain(Exception):
    """The three groups cannot be done block by block."""


@record
class Chain:
    """The three parts, with the axes of the nest as the axes of all."""

    graph: Graph
    first: Product
    nest: Nest
    second: Product
    outer: list[Axis]           # of batches, and then of blocks
    scores: Buffer              # of a block, before
    weights: Buffer             # and after the nest: the same, where they have one dtype
    height: int | str           # rows of a block, "rows" where the last one has fewer
    starts: dict[tuple[int, str | Input], Affine]       # (product, operand) -> where a block begins


def is_chain(graph: Graph) -> bool:
    return bool(graph.body) and all(node.prim.name == "fused" for node in graph.body)


def chain_of(graph: Graph, target: Target) -> Chain:
    """What a graph of three groups is, cut into blocks; NoChain where it cannot be."""
    first, middle, last = graph.body
    try:
        p, q = product_of(first.attrs["graph"]), product_of(last.attrs["graph"])
        nest = lower(middle.attrs["graph"])
    except (NoProduct, NotFusable) as fault:
        raise NoChain(str(fault)) from fault
    place, (row, column) = _scores(nest, middle.operands.index(first))
    if p.edges or q.edges:
        raise NoChain("a convolution")
    if q.a[0] is not last.attrs["graph"].inputs[last.operands.index(middle)] or (
            q.a[0] is q.b[0] or q.a[0] in q.loads):
        raise NoChain("what stands between is not the left operand of the second product")
    p = _on_axes(p, p.c, place, row, column, p.parts.cols)
    q = _on_axes(q, q.a[1], place, row, column, q.parts.summed)
    return _cut(graph, p, nest, q, row, column, target)


def _scores(nest: Nest, read: int) -> tuple[Affine, tuple[Axis, Axis]]:
    """The one place at which the nest reads the scores and writes as many; rows and columns."""
    values = nest.values()
    if len(nest.stores) != 1 or len(nest.reduced) != 1 or any(
            isinstance(v, Checked) for v in values):
        raise NoChain("not one result by rows")
    loads = [v for v in values if isinstance(v, Load) and v.buffer.slot == read]
    place = nest.stores[0].place
    if not all(isinstance(a.extent, int) for a in (*nest.rows, *nest.reduced)) or not all(
            v.place == place and not v.guards and not v.dynamic
            for v in (*loads, nest.stores[0])) or place.const or nest.stores[0].add:
        raise NoChain("the scores are read and written at several places")
    column = nest.reduced[0]
    row = next((a for a in nest.rows if place.coef(a) == column.extent), None)
    if row is None or place.coef(column) != 1 or set(place.terms) != {
            *(a for a in nest.rows if a.extent != 1), column}:
        raise NoChain("rows of scores are not dense")
    return place, (row, column)


def _on_axes(p: Product, at: Affine, place: Affine, row: Axis, column: Axis,
             columns: list[Axis]) -> Product:
    """The product with the nest's axes for its own: those that go through the scores as fast."""
    reads = [p.a[1], p.b[1], p.c, *(x for x in p.loads.values() if x is not None)]
    if not all(isinstance(n, int) for x in reads for a, c in x.terms.items()
               for n in (a.extent, c)):
        raise NoChain("a symbolic size")
    own = {a: next((b for b in place.terms if place.coef(b) == c and b.extent == a.extent), None)
           for a, c in at.terms.items()}
    batch = [own.get(a) for a in p.parts.batch]
    if ([own.get(a) for a in p.parts.rows] != [row] or [own.get(a) for a in columns] != [column]
            or None in batch or {*batch, row, column} != set(place.terms) or at.const):
        raise NoChain("rows, columns and batches are not those of the scores")
    mapping = {a: Affine.of(b) for a, b in own.items()}

    def axes(kind: list[Axis]) -> list[Axis]:
        return [own.get(a, a) for a in kind]

    parts = Parts(*(axes(kind) for kind in vars(p.parts).values()))
    loads = {x: at and at.substitute(mapping) for x, at in p.loads.items()}
    return changed(p, parts=parts, a=(p.a[0], p.a[1].substitute(mapping)),
                   b=(p.b[0], p.b[1].substitute(mapping)), c=p.c.substitute(mapping), loads=loads)


def _rows(batches: int, rows: int, columns: int, size: int, target: Target) -> int:
    """Rows of a block: their scores fit the second-level cache, and there are blocks for all."""
    fit = int(0.6 * target.l2_bytes) // (columns * size)
    most = min(rows, max(FEWEST_ROWS, min(MOST_ROWS, fit // 8 * 8)))
    while most > FEWEST_ROWS and batches * -(-rows // most) < 2 * target.threads:
        most = -(-most // 16) * 8
    return most


def _cut(graph: Graph, p: Product, nest: Nest, q: Product, row: Axis, column: Axis,
         target: Target) -> Chain:
    batches = [a for a in nest.rows if a is not row and a.extent != 1]
    dtype, after = p.result.dtype, nest.stores[0].buffer.dtype
    size = dtype.itemsize + (after.itemsize if after is not dtype else 0)
    if count([*nest.rows, column]) < LEAST_SCORES or row.extent < FEWEST_ROWS:
        raise NoChain("few scores")
    if count(p.parts.summed) + count(q.parts.cols) > MOST_WIDTH:
        raise NoChain("wide products")
    rows = _rows(count(batches), row.extent, column.extent, size, target)
    blocks = Axis("block", -(-row.extent // rows))
    even = row.extent % rows == 0
    inner = Axis(row.name, rows, None if even else Affine(row.extent, {blocks: -rows}))
    scores = Buffer("scores", -1, dtype, rows * column.extent)
    weights = scores if after is dtype else Buffer("weights", -1, after, scores.size)
    nest = _in_blocks(graph, nest, [*batches, blocks, inner], row, column, scores, weights)
    height = rows if even else "rows"
    starts: dict = {}
    products = []
    for number, product in enumerate((p, q)):
        line = Axis(row.name, height)

        def block(what, at: Affine, number=number, line=line) -> Affine:
            """An operand's place within a block; where that begins goes to `starts`."""
            outside = {a: c for a, c in at.terms.items() if a in batches}
            starts[number, what] = Affine(at.const, outside | {blocks: at.coef(row) * rows})
            return Affine(0, {line if a is row else a: c for a, c in at.terms.items()
                              if a not in batches})

        parts = Parts([], [line], product.parts.cols, product.parts.summed)
        inside = Affine(0, {line: column.extent, column: 1})
        products.append(changed(
            product, parts=parts,
            a=(product.a[0], inside if number else block("a", product.a[1])),
            b=(product.b[0], block("b", product.b[1])),
            c=block("c", product.c) if number else inside,
            loads={x: at and block(x, at) for x, at in product.loads.items()}))
    return Chain(graph, products[0], nest, products[1], [*batches, blocks], scores, weights, height,
                 starts)


def _in_blocks(graph: Graph, nest: Nest, rows: list[Axis], row: Axis, column: Axis,
               scores: Buffer, weights: Buffer) -> Nest:
    """The nest on blocks of rows, its scores in scratch memory, its other arrays where the chain
    has them."""
    first, middle, _ = graph.body
    *_, blocks, inner = rows
    held = Affine(0, {inner: column.extent, column: 1})
    read = middle.operands.index(first)
    kept = {v: Load(v.dtype, scores, held) for v in nest.values()
            if isinstance(v, Load) and v.buffer.slot == read}
    whole = Affine(0, {blocks: inner.extent, inner: 1})
    nest = rewrite(nest, lambda a: a.substitute({row: whole}), rows, [column], kept)
    others: dict[Buffer, Buffer] = {scores: scores}
    for v in nest.values():
        if isinstance(v, Load):
            if v.buffer not in others:
                given = middle.operands[v.buffer.slot]
                others[v.buffer] = changed(v.buffer, slot=graph.inputs.index(given))
            v.buffer = others[v.buffer]
    return Nest(nest.rows, nest.reduced, [Store(weights, held, nest.stores[0].value)])


# -- emission --------------------------------------------------------------------------------------
def emit_chain(module: Module, name: str, graph: Graph, target: Target,
               symbols: tuple[str, ...]) -> Kernel:
    """The kernel of a chain: both products as functions, and one that goes through the blocks."""
    chain = chain_of(graph, target)
    alone = dataclasses.replace(target, cores=1, threads=1)
    plans = [write_product(module, f"{name}.{suffix}", p, alone)
             for suffix, p in (("first", chain.first), ("second", chain.second))]
    schedule = plan(chain.nest, target, along=chain.nest.reduced[0])
    units = count(chain.outer)
    schedule.rows = [*chain.outer, chain.nest.rows[-1]]
    schedule.parallel, schedule.tasks = share_out(chain.outer, target.threads * SHARES)
    schedule.seconds = max(schedule.seconds, LONG_SECONDS)
    f = Function(module, "void", name, ARGUMENTS, ALIGNED_STACK)
    emitter = _Blocks(f, Context(f, len(graph.inputs) + 1, symbols), chain, schedule, target, plans)
    emitter.run()
    f.ret()
    f.close()
    flops = units * sum(plan.flops for plan in plans) + body_cost(chain.nest) * count(
        [*chain.nest.rows, *chain.nest.reduced])
    return Kernel([(name, schedule.tasks)], emitter.scratch_bytes, flops,
                  units * sum(plan.bytes for plan in plans), codegen=CODEGEN)


class _Blocks(Emitter):
    """The nest between the products, and within its outer loops calls of these."""

    def __init__(self, f: Function, context: Context, chain: Chain, s: Schedule, target: Target,
                 plans):
        super().__init__(f, context, chain.nest, s, target)
        self.chain, self.plans = chain, plans
        sizes = [*(x.size * x.dtype.itemsize for x in (chain.scores, chain.weights)),
                 *(plan.scratch_bytes(1, {"rows": chain.nest.rows[-1].extent}) for plan in plans)]
        if chain.weights is chain.scores:
            sizes[1] = 0
        self.sections, end = [], 0
        for size in sizes:
            self.sections.append(end)
            end += -(-size // 64) * 64
        self.first_place = -(-8 * s.stash_elements * s.tasks // 64) * 64
        self.task_bytes = end
        self.scratch_bytes = self.first_place + end * s.tasks

    def run(self) -> None:
        f, context = self.f, self.context
        context.load_sizes()
        start = f.add(f.mul("%task", str(self.task_bytes)), str(self.first_place))
        self.base = f.gep("i8", context.slot(context.slots), start)
        for buffer, place in zip((self.chain.weights, self.chain.scores), self.sections[1::-1],
                                 strict=True):
            context.pointers[buffer] = f.gep("i8", self.base, str(place))
        self.extra = f.op(f"alloca [{max(len(p.loads) for p in self._products()) or 1} x ptr]")
        self.pointers = [self._slots(node, p) for node, p in zip(
            (self.chain.graph.body[0], self.chain.graph.body[2]), self._products(), strict=True)]
        super().run()

    def _products(self) -> tuple[Product, Product]:
        return self.chain.first, self.chain.second

    def _slots(self, node, p: Product) -> dict:
        """The arrays that a product reads, by its graph's inputs."""
        graph, found = node.attrs["graph"], {}
        for x, given in zip(graph.inputs, node.operands, strict=True):
            if isinstance(given, Input):
                found[x] = self.context.slot(self.chain.graph.inputs.index(given))
        return found

    def rows(self, depth: int) -> None:
        if depth != len(self.chain.outer):
            super().rows(depth)
            return
        self._call(0)
        super().rows(depth)
        self._call(1)

    def _call(self, number: int) -> None:
        f, chain, p = self.f, self.chain, self._products()[number]
        plan, found = self.plans[number], self.pointers[number]

        def at(what, x: Input, pointer: str) -> str:
            start = chain.starts.get((number, what))
            if start is None:
                return pointer
            return f.gep(f"i{x.dtype.itemsize * 8}", pointer, self.scalar(start))

        scores, weights = (self.context.pointers[x] for x in (chain.scores, chain.weights))
        out = self.context.slot(self.context.slots - 1)
        a = weights if number else at("a", p.a[0], found[p.a[0]])
        c = at("c", p.result, out) if number else scores
        for i, x in enumerate(p.loads):
            f.store("ptr", at(x, x, found[x]), f.gep("ptr", self.extra, str(i)))
        pointers = [a, at("b", p.b[0], found[p.b[0]]), c, self.extra,
                    f.gep("i8", self.base, str(self.sections[2 + number]))]
        arguments = [("ptr", x) for x in pointers] + [("i64", "0"), ("i64", "1")]
        if plan.symbols:
            axis = chain.nest.rows[-1]
            arguments.append(("i64", f.call("i64", "llvm.smin.i64", ("i64", str(axis.extent)),
                                            ("i64", self.scalar(axis.limit)))))
        for name in filter(None, (plan.name, plan.reduce_name)):
            f.call("void", name, *arguments)
