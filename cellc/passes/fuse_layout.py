"""Rewrites before clustering that cost nothing in arithmetic and choose how values lie in memory.

    windows_add(w), windows that tile their array    ->  reshape(transpose(w)): no kernel
    windows_add(transpose(dot(a, b)))                ->  the product stored with neighbouring
                                                         windows side by side, as it is read
"""

from __future__ import annotations

from collections import Counter

from cellc.ir.graph import PRIMITIVES, Apply, Graph, Node
from cellc.ir.prims.shape import inverse
from cellc.passes.rebuild import use_counts


def arrange(graph: Graph) -> tuple[Graph, set[Node]]:
    """The rewritten graph, and the views in it that are to be stored as they are."""
    if not any(node.prim.name == "windows_add" for node in graph.body):
        return graph, set()
    uses = use_counts(graph)
    env: dict[Node, Node] = {}
    body: list[Apply] = []
    stored: set[Node] = set()

    def append(node: Apply, prim: str, x: Node, **attrs) -> Apply:
        body.append(Apply(PRIMITIVES[prim], (x,), attrs, None, node.name, node.loc))
        return body[-1]

    for node in graph.body:
        operands = tuple(env.get(x, x) for x in node.operands)
        if node.prim.name == "windows_add" and _tiles(node):
            turned = append(node, "transpose", operands[0], perm=_interleaved(node))
            env[node] = append(node, "reshape", turned, shape=node.shape)
            continue
        if node.prim.name == "windows_add" and _of_product(node.operands[0], uses):
            perm = _windows_last(node)
            kept = append(node, "transpose", operands[0], perm=perm)
            stored.add(kept)
            operands = (append(node, "transpose", kept, perm=inverse(perm)),)
        env[node] = Apply(node.prim, operands, node.attrs, node.type, node.name, node.loc)
        body.append(env[node])
    return Graph(graph.name, graph.inputs, body, env.get(graph.result, graph.result)), stored


def _tiles(node: Apply) -> bool:
    """Whether the windows lie side by side and cover the array."""
    k = len(node.attrs["shape"])
    sizes, counts = node.operands[0].shape[-k:], node.operands[0].shape[-2 * k:-k]
    return (tuple(node.attrs["strides"]) == tuple(sizes) and set(node.attrs["dilations"]) == {1}
            and all(n == count * size for n, count, size in
                    zip(node.attrs["shape"], counts, sizes, strict=True)))


def _interleaved(node: Apply) -> tuple[int, ...]:
    """Each window axis right behind the axis that counts its windows."""
    k = len(node.attrs["shape"])
    lead = len(node.operands[0].shape) - 2 * k
    return (*range(lead), *(axis for i in range(k) for axis in (lead + i, lead + k + i)))


def _windows_last(node: Apply) -> tuple[int, ...]:
    """The axes that count windows behind those within a window."""
    k = len(node.attrs["shape"])
    lead = len(node.operands[0].shape) - 2 * k
    return (*range(lead), *range(lead + k, lead + 2 * k), *range(lead, lead + k))


def _of_product(x: Node, uses: Counter[Node]) -> bool:
    """Whether x is a product nobody else reads, transposed or not."""
    while isinstance(x, Apply) and x.prim.name == "transpose" and uses[x] == 1:
        x = x.operands[0]
    return isinstance(x, Apply) and x.prim.name == "dot" and uses[x] == 1
