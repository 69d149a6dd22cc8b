"""thin: products in which no element is used twice become multiplications and sums.

    dot(%x: f32[8], %y: f32[9]) of no contracted axis    ->  mul(broadcast(%x), broadcast(%y))
    dot(%x: f32[9], %y: f32[9,50]) over the nine         ->  reduce_sum(mul(...)) over the nine

A matrix product is worth blocks and packing where each element meets many others. Where one side
has a single row (each channel of a depthwise convolution) or the sum a single term, there is
nothing to keep near: written as a loop nest it costs as little, and fuses with what stands around
it. Sums of many terms stay products, which cut them into parts for the threads.
"""

from __future__ import annotations

import math

from cellc.ir.graph import PRIMITIVES, Apply, Builder, Graph, Node
from cellc.ir.prims.contraction import free_axes
from cellc.passes.rebuild import everywhere, renew, touched

MOST_TERMS = 32         # a loop nest writes out sums of no more (`kernels/emit.py`)


def run(graph: Graph) -> Graph:
    return everywhere(graph, _written_out)


def _written_out(graph: Graph) -> Graph:
    if not any(_is_thin(node) for node in graph.body):
        return graph
    builder = Builder(graph.name, graph.inputs)
    env: dict[Node, Node] = {}
    for node in graph.body:
        new = renew(node, env) if touched(node, env) else node
        new = _sum_of_products(builder, new) if _is_thin(new) else builder.append(new)
        if new is not node:
            env[node] = new
    return Graph(graph.name, graph.inputs, builder.body, env.get(graph.result, graph.result))


def _is_thin(node: Apply) -> bool:
    if node.prim.name != "dot":
        return False
    sizes = [tuple(x.shape[i] for i in axes) for x, axes in _kinds(node)]
    if not all(isinstance(n, int) for group in sizes for n in group):
        return False
    rows, cols, terms = map(math.prod, sizes)
    if terms == 1:
        return True
    exact = node.dtype.compute is node.dtype        # else the sum would be rounded term by term
    return 1 in (rows, cols) and exact and 1 < terms <= MOST_TERMS


def _kinds(node: Apply) -> list[tuple[Node, tuple[int, ...]]]:
    """The free axes of either operand, and the contracted ones of the first."""
    (a, b), contract, batch = node.operands, node.attrs["contract"], node.attrs["batch"]
    return [(x, free_axes(x.ndim, contract[i], batch[i])) for i, x in enumerate((a, b))] + [
        (a, contract[0])]


def _sum_of_products(builder: Builder, node: Apply) -> Node:
    """The applies of one product; its points are (batch, free of a, free of b, contracted)."""
    contract, batch = node.attrs["contract"], node.attrs["batch"]
    (a, free_a), (b, free_b), _ = _kinds(node)
    n = len(batch[0])
    points = (*node.shape, *(a.shape[i] for i in contract[0]))
    summed = tuple(range(node.ndim, len(points)))

    def apply(name: str, *operands: Node, **attrs) -> Node:
        return builder.append(Apply(PRIMITIVES[name], operands, attrs, None, node.name, node.loc))

    def spread(x: Node, free, side: int, first: int) -> Node:
        order = (*batch[side], *free, *contract[side])
        if x.dtype is not node.dtype:
            x = apply("cast", x, dtype=node.dtype)
        if order != tuple(range(x.ndim)):
            x = apply("transpose", x, perm=order)
        at = (*range(n), *range(first, first + len(free)), *summed)
        return apply("broadcast", x, shape=points, dims=at)

    products = apply("mul", spread(a, free_a, 0, n), spread(b, free_b, 1, n + len(free_a)))
    if math.prod(points[node.ndim:]) == 1:
        return apply("reshape", products, shape=node.shape) if summed else products
    return apply("reduce_sum", products, axes=summed)
