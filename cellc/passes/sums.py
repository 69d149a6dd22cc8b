"""sums: what a branch or loop adds to an array is added where it arises.

    %d = cond(%p, %x) {then=@f, orelse=@g}           %t = cond(%p, %x, %s) {then=@f', orelse=@g'}
    %t = add(%s, %d)                          ->     f' = %s + f, g' = %s + g

    %d = while(0:f64[n], ...)                        %t = while(%s, ...), where a round only adds to
    %t = add(%s, %d)                          ->     that state

The gradient of a loop adds up what each round gives for an array. Most rounds touch a few elements,
or none in the branch that is taken; made as arrays of zeros first, and added, each round would cost
as much as the whole array. Where a branch gives zeros nothing is added. Assumes that the sum so far
is there before the branch or loop, and that nobody else reads its result. LLVM sees arrays only.
"""

from __future__ import annotations

from cellc.ir.graph import PRIMITIVES, Apply, Builder, Constant, Graph, Input, Node, subgraphs
from cellc.ir.prims import control
from cellc.ir.types import TensorType
from cellc.passes import simplify
from cellc.passes.rebuild import copy_input, everywhere, renew, use_counts

MOST = 64       # sums in one graph that are moved


def run(graph: Graph) -> Graph:
    if not any(node.prim.name in ("while", "cond") for g in graph.reachable() for node in g.body):
        return graph
    return everywhere(graph, _move)


def _move(graph: Graph) -> Graph:
    for _ in range(MOST):
        found = _find(graph)
        if found is None:
            return graph
        graph = _rewritten(graph, *found)
    return graph


def _find(graph: Graph):
    """(the addition, the sum so far, the branch or loop, which result), if there is one."""
    uses, place = use_counts(graph), {node: i for i, node in enumerate(graph.body)}
    for node in graph.body:
        if node.prim.name != "add" or not node.shape:
            continue
        for so_far, item in (node.operands, node.operands[::-1]):
            if not isinstance(item, Apply) or item.prim.name != "item" or uses[item] > 1:
                continue
            source, k = item.operands[0], item.attrs["index"]
            if not isinstance(source, Apply) or isinstance(so_far, Constant) or (
                    place.get(so_far, -1) > place[source]):
                continue
            if source.prim.name == "cond" and _gives_zeros(source, k) or (
                    source.prim.name == "while" and _only_adds(source, k)):
                return node, so_far, source, k
    return None


def _gives_zeros(node: Apply, k: int) -> bool:
    """Is a result made of zeros in one of the branches?"""
    graphs = subgraphs(node).values()
    return all(len(g.results) == len(node.type.items) for g in graphs) and any(
        _is_zeros(_beginning(g.results[k])) for g in graphs)


def _is_zeros(x: Node) -> bool:
    return isinstance(x, Constant) and x.is_fill and x.value == 0


def _beginning(x: Node) -> Node:
    """What elements were added to."""
    while isinstance(x, Apply) and x.prim.name == "accumulate":
        x = x.operands[0]
    return x


def _only_adds(node: Apply, k: int) -> bool:
    """Does the state k of a loop begin with zeros, and does a round only add to it?"""
    test, body = node.attrs["test"], node.attrs["body"]
    return (_is_zeros(node.operands[k]) and len(body.results) == len(node.type.items)
            and use_counts(test)[test.inputs[k]] == 0 and _adds(body, k, k))


def _adds(graph: Graph, result: int, given: int) -> bool:
    """Is a result the input `given`, and things that do not depend on it, added up?"""
    uses = use_counts(graph)
    x = graph.results[result]
    if isinstance(graph.result, Apply) and graph.result.prim.name == "tuple":
        uses[graph.result] = 1
    while x is not graph.inputs[given]:
        if not isinstance(x, Apply) or uses[x] != 1:
            return False
        if x.prim.name == "accumulate":
            x = x.operands[0]
        elif x.prim.name == "add":
            ways = [y for y in x.operands if _depends(graph, y, graph.inputs[given])]
            if len(ways) != 1:
                return False
            x = ways[0]
        elif x.prim.name == "item":
            x = _through(x.operands[0], x.attrs["index"])
            if x is None:
                return False
        else:
            return False
    return uses[x] == 1


def _through(node: Node, k: int) -> Node | None:
    """The operand that result k of a branch or loop is more of."""
    if not isinstance(node, Apply):
        return None
    if node.prim.name == "while":
        body, test = node.attrs["body"], node.attrs["test"]
        good = (len(body.results) == len(node.type.items) and _adds(body, k, k)
                and use_counts(test)[test.inputs[k]] == 0)
        return node.operands[k] if good else None
    if node.prim.name != "cond":
        return None
    graphs = list(subgraphs(node).values())
    for i in range(len(node.operands) - 1):
        if all(len(g.results) == len(node.type.items) and _adds(g, k, i) for g in graphs):
            return node.operands[i + 1]
    return None


def _depends(graph: Graph, x: Node, on: Node) -> bool:
    reached: set[Node] = {on}
    for node in graph.body:
        if any(y in reached for y in node.operands):
            reached.add(node)
    return x in reached


# -- rewriting -------------------------------------------------------------------------------------

def _rewritten(graph: Graph, addition: Apply, so_far: Node, source: Apply, k: int) -> Graph:
    env: dict[Node, Node] = {}
    body: list[Apply] = []
    for node in graph.body:
        if node is source:
            begun = env.get(so_far, so_far)
            body.append(_begun(renew(node, env), k, begun))
        elif node is addition:
            item = next(x for x in node.operands if x is not so_far)
            env[node] = env[item]
            continue
        else:
            body.append(renew(node, env))
        env[node] = body[-1]
    return Graph(graph.name, graph.inputs, body, env.get(graph.result, graph.result))


def _begun(node: Apply, k: int, so_far: Node) -> Apply:
    """The branch or loop whose result k begins with the sum so far."""
    if node.prim.name == "while":
        operands = (*node.operands[:k], so_far, *node.operands[k + 1:])
        return Apply(node.prim, operands, node.attrs, node.type, node.name, node.loc)
    graphs = {key: _with_sum(g, k, so_far.type) for key, g in subgraphs(node).items()}
    return Apply(node.prim, (*node.operands, so_far), node.attrs | graphs, node.type, node.name,
                 node.loc)


def _with_sum(graph: Graph, k: int, type: TensorType) -> Graph:
    """The graph with one more input, added to its result k."""
    with Builder(graph.name, map(copy_input, graph.inputs)) as b:
        so_far = b.input(type, "sum")
        env: dict[Node, Node] = dict(zip(graph.inputs, b.inputs, strict=False))
        for node in graph.body:
            if node is not graph.result:
                env[node] = b.append(renew(node, env))
        results = [env.get(r, r) for r in graph.results]
        results[k] = so_far if _is_zeros(results[k]) else Apply(
            PRIMITIVES["add"], (so_far, results[k]), {})
        if not isinstance(results[k], Input):
            b.append(results[k])
        done = b.finish(control.tuple(*results))
    return simplify.simplified(done)
