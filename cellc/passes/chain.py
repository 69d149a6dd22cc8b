"""chain: two products and the nest between them become one group.

    %s = fused(%q, %k) {graph=@dot_mul}                    %o = fused(%q, %k, %v) {graph=@chain}
    %p = fused(%s)     {graph=@reduce_max_sub_exp}   ->    graph @chain: %s = fused(%q, %k) ...
    %o = fused(%p, %v) {graph=@dot}                          %p = fused(%s) ... %o = fused(%p, %v)

Where nobody else reads what lies between, attention above all, it need not be in memory: the kernel
goes through the rows in blocks (`kernels/chain.py`, which also says where that can be done). Runs
behind fusion, whose groups it takes as they are.
"""

from __future__ import annotations

from cellc.ir.graph import Apply, Graph, Input, Node
from cellc.ir.types import TensorType
from cellc.kernels.chain import NoChain, chain_of
from cellc.kernels.target import host
from cellc.passes.rebuild import everywhere, renew, touched


def run(graph: Graph) -> Graph:
    return everywhere(graph, _linked)


def _linked(graph: Graph) -> Graph:
    users: dict[Node, int] = {}
    for node in graph.body:
        for x in node.operands:
            users[x] = users.get(x, 0) + 1
    for x in graph.results:
        users[x] = users.get(x, 0) + 1
    made = {}
    for node in graph.body:
        found = _chain(node, users)
        if found is not None:
            made[node] = found
    if not made:
        return graph
    gone = {x for group in made.values() for x in group[1]}
    env: dict[Node, Node] = {}
    body: list[Apply] = []
    for node in graph.body:
        if node in gone:
            continue
        if node in made:
            inside, _, operands = made[node]
            new = Apply(node.prim, tuple(env.get(x, x) for x in operands), {"graph": inside},
                        node.type, node.name, node.loc)
        else:
            new = renew(node, env) if touched(node, env) else node
        if new is not node:
            env[node] = new
        body.append(new)
    return Graph(graph.name, graph.inputs, body, env.get(graph.result, graph.result))


def _chain(last: Apply, users: dict[Node, int]) -> tuple[Graph, list[Apply], list[Node]] | None:
    """The graph of the chain that ends here, what it replaces, and its operands."""
    middle = _only_read_here(last, users)
    first = None if middle is None else _only_read_here(middle, users)
    if first is None:
        return None
    inputs: dict[Node, Input] = {}
    env: dict[Node, Node] = {}
    body = []
    for node in (first, middle, last):
        operands = []
        for x in node.operands:
            if x not in env and x not in inputs:
                inputs[x] = Input(x.type, x.name or f"x{len(inputs)}", x.loc)
            operands.append(env[x] if x in env else inputs[x])
        env[node] = Apply(node.prim, tuple(operands), node.attrs, node.type, node.name, node.loc)
        body.append(env[node])
    graph = Graph("chain", inputs.values(), body, body[-1])
    try:
        chain_of(graph, host())
    except NoChain:
        return None
    return graph, [first, middle], list(inputs)


def _only_read_here(node: Apply, users: dict[Node, int]) -> Apply | None:
    """The largest operand of a group, where it is a group that nobody else reads; of known size."""
    if node.prim.name != "fused":
        return None
    found = [x for x in node.operands if isinstance(x, Apply) and x.prim.name == "fused"
             and users[x] == 1 and node.operands.count(x) == 1
             and isinstance(x.type, TensorType) and isinstance(x.size, int)]
    return max(found, key=lambda x: x.size, default=None)
