"""inline: a call of a small graph, or of a graph called only once, becomes the graph's applies.

    %y = call(%x) {graph=@relu}   ->   %y = max(%x, 0)

Fusion does not look into calls, so what is worth fusing must stand in one list. A graph that is
large and called often stays a call: it is compiled once, however many cells share it. So does one
that calls itself, or that finds sizes, which are others at each call. A call's own rule for its
gradient (`bwd`) is gone then; with `keep_rules`, for graphs that may be differentiated yet, calls
that have one stay. Assumes nothing; branches and loops keep their graphs. LLVM could inline the
machine code, but by then every intermediate array has its buffer.
"""

from __future__ import annotations

from collections import Counter

from cellc.ir.graph import Builder, Graph, Node, calling_themselves, subgraphs
from cellc.passes.rebuild import copy_body, everywhere, found_sizes, renew, touched, with_attrs

GROWTH = 160     # applies that sharing a graph must save before it stays a call


def run(graph: Graph, keep_rules: bool = False) -> Graph:
    if not keep_rules:
        graph = everywhere(graph, _without_rules)
    graphs = graph.reachable()
    calls = Counter(id(node.attrs["graph"]) for g in graphs for node in g.holders
                    if node.prim.name == "call")
    stay = {id(g) for g in graphs if len(g.body) * (calls[id(g)] - 1) > GROWTH}
    stay |= (themselves := calling_themselves(graphs))
    stay |= {id(g) for g in graphs if calls[id(g)] > 1 and found_sizes(g)}
    done: dict[int, Graph] = {}

    def visit(g: Graph) -> Graph:
        if id(g) in done:
            return done[id(g)]
        if id(g) in themselves:
            done[id(g)] = Graph.declare(g.name, g.inputs, g.type)
        attrs: dict[Node, dict] = {}
        opened: dict[Node, Graph] = {}
        for node in g.holders:
            before = subgraphs(node)
            inner = {key: visit(h) for key, h in before.items()}
            if (node.prim.name == "call" and id(node.attrs["graph"]) not in stay
                    and "bwd" not in node.attrs):
                opened[node] = inner["graph"]
            elif any(h is not before[key] for key, h in inner.items()):
                attrs[node] = node.attrs | inner
        new = _opened(g, opened, attrs) if opened else with_attrs(g, attrs)
        if id(g) in themselves:
            new = done[id(g)].define(new.body, new.result)
        done[id(g)] = new
        return new

    return visit(graph)


def _opened(graph: Graph, opened: dict[Node, Graph], attrs: dict[Node, dict]) -> Graph:
    """The graph with bodies of graphs in place of some calls, and other attributes of others."""
    builder = Builder(graph.name, graph.inputs)
    env: dict[Node, Node] = {}
    for node in graph.body:
        if node in opened:
            operands = [env.get(x, x) for x in node.operands]
            env[node] = copy_body(builder, opened[node], operands)
        elif node in attrs or touched(node, env):
            env[node] = builder.append(renew(node, env, attrs.get(node)))
        else:
            builder.append(node)
    return Graph(graph.name, graph.inputs, builder.body, env.get(graph.result, graph.result))


def _without_rules(graph: Graph) -> Graph:
    """The graph with plain calls only."""
    return with_attrs(graph, {node: {"graph": node.attrs["graph"]} for node in graph.holders
                              if "bwd" in node.attrs})
