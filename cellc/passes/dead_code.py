"""dead_code: applies whose value nobody uses disappear.

    %a = exp(%x); %b = tanh(%x); return %b   ->   %b = tanh(%x); return %b

Effects stay, but for tapes nobody pushed on. A `gather` that nobody uses goes, and its index check
with it. LLVM cannot do it: it does not know that a kernel only writes its buffer.
"""

from __future__ import annotations

from collections import Counter

from cellc.ir.graph import Apply, Graph, Node, has_effect
from cellc.ir.types import TapeType
from cellc.passes.rebuild import everywhere


def run(graph: Graph) -> Graph:
    return everywhere(graph, sweep)


def sweep(graph: Graph) -> Graph:
    """One list of applies without those that nobody needs."""
    live: set[Node] = {graph.result}
    kept: list[Apply] = []
    effects = graph.has_effects
    uses = Counter(x for node in graph.body for x in node.operands
                   if isinstance(x.type, TapeType)) if effects else Counter()
    for node in reversed(graph.body):
        if node in live or effects and has_effect(node) and not _unused_tape(node, uses):
            kept.append(node)
            live.update(node.operands)
    if len(kept) == len(graph.body):
        return graph
    return Graph(graph.name, graph.inputs, reversed(kept), graph.result)


def _unused_tape(node: Apply, uses: Counter[Node]) -> bool:
    """Is it the making or the end of a tape with nothing between?"""
    if node.prim.name == "tape_new":
        return not uses[node]
    if node.prim.name != "tape_end" or uses[node.operands[0]] > 1:
        return False
    made = node.operands[0]
    if isinstance(made, Apply) and made.prim.name == "tape_new":
        uses[made] = 0          # its end, which is looked at first, does not count
        return True
    return False
