"""Rewrites before clustering that cost nothing in arithmetic and choose how values lie in memory.

    windows_add(w), windows that tile their array    ->  reshape(transpose(w)): no kernel
    windows_add(transpose(dot(a, b)))                ->  the product stored with neighbouring
                                                         windows side by side, as it is read
    dot(w, windows(pad(x)))                          ->  a pad of its own, which it leaves out
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cellc import config
from cellc.ir.graph import PRIMITIVES, Apply, Graph, Node
from cellc.ir.prims.shape import inverse
from cellc.kernels.product import NoProduct, Product, better_padded, product_of
from cellc.kernels.target import host
from cellc.passes.dead_code import sweep
from cellc.passes.fuse_groups import PADDED, VIEWS, alone, chain_of
from cellc.passes.rebuild import use_counts


def arrange(graph: Graph) -> tuple[Graph, set[Node], set[Node]]:
    """The rewritten graph, the views in it that are to be stored as they are, and the pads that are
    part of the products that read them."""
    stored: set[Node] = set()
    taken: set[Node] = set()
    turned: set[Node] = set()       # transpositions without which these were no products
    if not any(node.prim.name in ("windows", "windows_add") for node in graph.body):
        return graph, stored, taken
    uses = use_counts(graph)
    transposed = {node.operands[0]: node for node in graph.body
                  if node.prim.name == "transpose" and uses[node.operands[0]] == 1}
    env: dict[Node, Node] = {}
    body: list[Apply] = []

    def append(node: Apply, prim: str, x: Node, **attrs) -> Apply:
        body.append(Apply(PRIMITIVES[prim], (x,), attrs, None, node.name, node.loc))
        return body[-1]

    def own_pad(x: Apply) -> Apply:
        """A copy of the views over a pad, and of the pad."""
        inside = x.operands[0]
        inside = env.get(inside, inside) if x.prim.name == "pad" else own_pad(inside)
        body.append(Apply(x.prim, (inside,), x.attrs, x.type, x.name, x.loc))
        if x.prim.name == "pad":
            taken.add(body[-1])
        return body[-1]

    for node in graph.body:
        operands = tuple(env.get(x, x) for x in node.operands)
        if node.prim.name == "windows_add" and _tiles(node):
            tiles = append(node, "transpose", operands[0], perm=_interleaved(node))
            env[node] = append(node, "reshape", tiles, shape=node.shape)
            continue
        if node.prim.name == "windows_add" and _of_product(node.operands[0], uses):
            perm = _windows_last(node)
            kept = append(node, "transpose", operands[0], perm=perm)
            stored.add(kept)
            operands = (append(node, "transpose", kept, perm=inverse(perm)),)
        if node.prim.name == "dot":
            without = [_leaves_out(node, x, transposed.get(node)) for x in node.operands]
            operands = tuple(own_pad(x) if out else y for x, y, out in
                             zip(node.operands, operands, without, strict=True))
            if any(without) and _product(node, node.operands, PADDED) is None:
                turned.add(transposed[node])
        env[node] = Apply(node.prim, operands, node.attrs, node.type, node.name, node.loc)
        body.append(env[node])
        if node in turned:
            stored.add(env[node])
    made = Graph(graph.name, graph.inputs, body, env.get(graph.result, graph.result))
    return sweep(made), stored, taken


def _leaves_out(dot: Apply, x: Node, turned: Apply | None) -> bool:
    """Whether the product's operand x is windows of a pad, and the terms with its zeros had better
    be left out."""
    *views, inside = chain_of(x)
    if all(y.prim.name != "windows" for y in views) or not (
            isinstance(inside, Apply) and inside.prim.name == "pad"):
        return False
    padded = _product(dot, dot.operands, PADDED, turned)
    materialised = _product(dot, (x,), VIEWS, turned)
    return bool(padded and padded.edges and materialised) and better_padded(
        padded, materialised, host(config.get("CPU") or None))


def _product(dot: Apply, seen: Sequence[Node], through: tuple[str, ...],
             turned: Apply | None = None) -> Product | None:
    """What the graph of these applies is as a product; None where it is none."""
    try:
        return product_of(alone(dot, seen, through, turned))
    except NoProduct:
        return None


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
