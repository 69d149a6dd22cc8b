"""dead_code: applies whose value nobody uses disappear.

    %a = exp(%x); %b = tanh(%x); return %b   ->   %b = tanh(%x); return %b

Effects stay. A `gather` that nobody uses goes, and its index check with it. LLVM cannot do it: it
does not know that a kernel only writes its buffer.
"""

from __future__ import annotations

from cellc.ir.graph import Apply, Graph, Node, has_effect
from cellc.passes.rebuild import everywhere


def run(graph: Graph) -> Graph:
    return everywhere(graph, _sweep)


def _sweep(graph: Graph) -> Graph:
    live: set[Node] = {graph.result}
    kept: list[Apply] = []
    for node in reversed(graph.body):
        if node in live or has_effect(node):
            kept.append(node)
            live.update(node.operands)
    if len(kept) == len(graph.body):
        return graph
    return Graph(graph.name, graph.inputs, reversed(kept), graph.result)
