"""cse: the same primitive on the same operands with the same attributes is computed once.

    %a = exp(%x); %b = exp(%x)   ->   %a = exp(%x), and %a wherever %b stood

Primitives are pure (random numbers take their counter as an operand), so equal applies are equal
values; effects are not shared, and neither is what works on a tape. Assumes nothing. LLVM sees
kernels with different buffers, not equal values.
"""

from __future__ import annotations

from cellc.ir.graph import Apply, Constant, Graph, Node, has_effect
from cellc.ir.types import TapeType
from cellc.passes.rebuild import everywhere, renew, touched


def run(graph: Graph) -> Graph:
    return everywhere(graph, _number)


def _number(graph: Graph) -> Graph:
    env: dict[Node, Node] = {}
    seen: dict[tuple, Apply] = {}
    body = []
    for node in graph.body:
        new = renew(node, env) if touched(node, env) else node
        if has_effect(node) or any(isinstance(x.type, TapeType) for x in node.operands):
            if new is not node:
                env[node] = new
            body.append(new)
            continue
        key = (node.prim, *map(_identity, new.operands), _frozen(node.attrs))
        first = seen.setdefault(key, new)
        if first is not new:
            env[node] = first
            continue
        if new is not node:
            env[node] = new
        body.append(new)
    if len(body) == len(graph.body):
        return graph
    return Graph(graph.name, graph.inputs, body, env.get(graph.result, graph.result))


def _identity(node: Node):
    """What makes two operands the same value; repr tells -0.0 from 0.0 and knows nan."""
    if isinstance(node, Constant) and node.is_fill:
        return (node.type, repr(node.value))
    return id(node)


def _frozen(attrs: dict) -> tuple:
    items = sorted(attrs.items()) if len(attrs) > 1 else attrs.items()
    return tuple([(key, id(value) if value.__hash__ is None else value) for key, value in items])
