"""group: one group of the fused graph as a kernel.

    kernel = emit_group(module, "softmax", node, target, symbols=("n",))

A group is a `fused` apply, or any other apply of tensors, taken as a group of one. Its kernel is
made of functions `void @k(ptr %ctx, i64 %task, i64 %n_tasks)`, to be run one after another, each
for every task in 0 .. n_tasks-1, in any order. `%ctx` points to an array of pointers: operands
(a scalar as 8 bytes), results, scratch memory, the i64 values of `symbols`, the error record
i64[8].
"""

from __future__ import annotations

from cellc.ir.graph import Apply, Graph, Input
from cellc.ir.types import TupleType
from cellc.kernels import chain, chunks, named, totals
from cellc.kernels.emit import emit_nest
from cellc.kernels.loops import Nest
from cellc.kernels.lower import lower
from cellc.kernels.product import product_of
from cellc.kernels.program import Kernel
from cellc.kernels.schedule import body_cost, collapse, count, moved_bytes, plan
from cellc.kernels.target import Target
from cellc.kernels.text import Module
from cellc.kernels.turned import tiled


def emit_group(module: Module, name: str, node: Apply | Graph, target: Target,
               symbols: tuple[str, ...] = ()) -> Kernel:
    """Put the functions of a group's kernel into the module, and say how to run them."""
    graph = body_of(node)
    if chain.is_chain(graph):
        return chain.emit_chain(module, name, graph, target, symbols)
    special = named.find(graph)
    if special is not None:
        return special(module, name, graph, target, symbols)
    return emit_loops(module, name, lower(graph), n_slots(graph), target, symbols)


def _emit_totals(module, name: str, nest: Nest, slots: int, target: Target, symbols) -> Kernel:
    nests, scratch = totals.cut(nest, slots, target)
    for suffix, part, schedule in nests:
        emit_nest(module, f"{name}.{suffix}", part, schedule, slots, symbols, target)
    phases = [(f"{name}.{suffix}", schedule.tasks) for suffix, _, schedule in nests]
    flops = body_cost(nest) * count([*nest.rows, *nest.reduced])
    return Kernel(phases, scratch, flops, moved_bytes(nest))


def describe(node: Apply | Graph, target: Target) -> str:
    """How a group is computed, for people: its loop form and schedule, or its matrix product."""
    graph = body_of(node)
    if chain.is_chain(graph):
        return f"chain {graph.name}\n" + "\n".join(describe(x, target) for x in graph.body)
    special = named.find(graph)
    if special is named.emit_product:
        return f"kernel {graph.name}\n{product_of(graph)}"
    if special is not None:
        return f"kernel {graph.name}: {graph.result.prim.name}"
    nest = tiled(collapse(lower(graph)), target)
    return f"kernel {graph.name}\n{nest}\nschedule: {plan(nest, target)}"


def body_of(node: Apply | Graph) -> Graph:
    """The graph of a group; a single apply becomes a graph of itself."""
    if isinstance(node, Graph):
        return node
    if node.prim.name == "fused":
        return node.attrs["graph"]
    places = [Input(x.type, f"x{i}") for i, x in enumerate(node.operands)]
    alone = Apply(node.prim, tuple(places), node.attrs, node.type, node.name)
    return Graph(node.prim.name, places, [alone], alone)


def n_slots(graph: Graph) -> int:
    """How many pointers of the context come before the scratch memory's."""
    results = len(graph.type.items) if isinstance(graph.type, TupleType) else 1
    return len(graph.inputs) + results


def emit_loops(module: Module, name: str, nest: Nest, slots: int, target: Target,
               symbols: tuple[str, ...]) -> Kernel:
    """The kernel of a nest: one function, or two where a reduction is cut into chunks."""
    nest = collapse(nest)
    if any(s.total for s in nest.stores):
        return _emit_totals(module, name, nest, slots, target, symbols)
    nest = tiled(nest, target)
    schedule = plan(nest, target)
    flops = body_cost(nest) * count([*nest.rows, *nest.reduced])
    cut = chunks.split(nest, schedule, slots, target)
    if cut is None:
        emit_nest(module, name, nest, schedule, slots, symbols, target)
        scratch = 8 * schedule.stash_elements * schedule.tasks
        return Kernel([(name, schedule.tasks)], scratch, flops, moved_bytes(nest),
                      schedule.alone_below, short=schedule.short)
    parts, scratch = cut
    phases = []
    for suffix, part in parts:
        part = collapse(part)
        schedule = plan(part, target)
        emit_nest(module, f"{name}.{suffix}", part, schedule, slots, symbols, target)
        phases.append((f"{name}.{suffix}", schedule.tasks))
    return Kernel(phases, scratch, flops, moved_bytes(nest))
