"""Rewrites before clustering that cost nothing in arithmetic and choose how values lie in memory.

    windows_add(w), windows that tile their array    ->  reshape(transpose(w)): no kernel
    windows_add(transpose(dot(a, b)))                ->  the product stored with neighbouring
                                                         windows side by side, as it is read
    dot(w, windows(pad(x)))                          ->  a pad of its own, which it leaves out
"""

from __future__ import annotations

from collections import Counter

from cellc import config
from cellc.ir.graph import PRIMITIVES, Apply, Graph, Node
from cellc.ir.prims.shape import inverse
from cellc.kernels.product import NoProduct, better_padded, product_of
from cellc.kernels.target import host
from cellc.passes.dead_code import sweep
from cellc.passes.fuse_groups import VIEWS, alone
from cellc.passes.rebuild import use_counts


def arrange(graph: Graph) -> tuple[Graph, set[Node], set[Node]]:
    """The rewritten graph, the views in it that are to be stored as they are, and the pads that are
    part of the products that read them."""
    stored: set[Node] = set()
    taken: set[Node] = set()
    if not any(node.prim.name in ("windows", "windows_add") for node in graph.body):
        return graph, stored, taken
    uses = use_counts(graph)
    turned = {node.operands[0]: node for node in graph.body if node.prim.name == "transpose"}
    env: dict[Node, Node] = {}
    body: list[Apply] = []

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
        if node.prim.name == "dot" and (chain := _padded(node, turned.get(node))):
            x = env.get(chain[-1].operands[0], chain[-1].operands[0])
            for y in reversed(chain):
                body.append(Apply(y.prim, (x,), y.attrs, y.type, y.name, y.loc))
                x = body[-1]
                if y is chain[-1]:
                    taken.add(x)
            operands = (operands[0], x)
        env[node] = Apply(node.prim, operands, node.attrs, node.type, node.name, node.loc)
        body.append(env[node])
    made = Graph(graph.name, graph.inputs, body, env.get(graph.result, graph.result))
    return sweep(made), stored, taken


def _padded(dot: Apply, turned: Apply | None) -> list[Apply] | None:
    """The views from a product's right operand down to a pad, and the pad, where the product had
    better leave out the terms with its zeros."""
    chain, x = [], dot.operands[1]
    while isinstance(x, Apply) and x.prim.name in VIEWS:
        chain.append(x)
        x = x.operands[0]
    if not isinstance(x, Apply) or x.prim.name != "pad" or all(
            y.prim.name != "windows" for y in chain):
        return None
    try:
        padded = product_of(alone(dot, dot.operands[1], (*VIEWS, "pad"), turned))
        materialised = product_of(alone(dot, dot.operands[1], VIEWS, turned))
    except NoProduct:
        return None
    good = padded.edges and better_padded(padded, materialised, host(config.get("CPU") or None))
    return [*chain, x] if good else None


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
