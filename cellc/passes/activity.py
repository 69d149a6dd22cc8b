"""Which values of a graph depend differentiably on which inputs, and which results on which values.

A value is active where it is a float, or a tape, made of an active one by primitives with a
gradient. Through branches, calls and loops this is asked of the graphs they run; for a loop, and
for a graph that calls itself, until nothing more becomes active.
"""

from __future__ import annotations

from cellc.ir.graph import Apply, Graph, Node, calling_themselves
from cellc.ir.prims import control
from cellc.ir.types import TapeType, TupleType
from cellc.passes.rebuild import found_sizes

CONTROL = ("call", "cond", "while")


def arguments(node: Apply) -> tuple[Node, ...]:
    """What the graphs of a call, cond or while are run on."""
    return node.operands[1:] if node.prim.name == "cond" else node.operands


def branches(node: Apply) -> list[Graph]:
    """The graphs of which one gives the result."""
    if node.prim.name == "cond":
        return [node.attrs["then"], node.attrs["orelse"]]
    return [node.attrs["body" if node.prim.name == "while" else "graph"]]


def float_results(node: Apply) -> list[int]:
    """Which results of a call have cotangents."""
    return [i for i, r in enumerate(node.attrs["graph"].results)
            if control.is_differentiable(r.type)]


def has_cotangent(type) -> bool:
    return isinstance(type, TapeType) or control.is_differentiable(type)


class Activity:
    """What is active in the graphs that `graph` uses."""

    def __init__(self, graph: Graph):
        self.activity: dict[tuple, tuple[Graph, set[int]]] = {}
        self.tapes: dict[tuple, tuple[Graph, bool]] = {}
        self.themselves = calling_themselves(graph.reachable())

    def active_results(self, graph: Graph, active: tuple[int, ...]) -> set[int]:
        """Which results of the graph depend differentiably on the active inputs."""
        key = (id(graph), active)
        if key not in self.activity:
            self.activity[key] = (graph, set())     # for a graph that calls itself: so far
            while True:
                before = set(self.activity)
                live = self.active_nodes(graph, active)
                found = {i for i, r in enumerate(graph.results) if r in live}
                if id(graph) not in self.themselves or found == self.activity[key][1]:
                    break
                for stale in set(self.activity) - before:   # was found with too little known
                    del self.activity[stale]
                self.activity[key] = (graph, found)
            self.activity[key] = (graph, found)
        return self.activity[key][1]

    def active_nodes(self, graph: Graph, active: tuple[int, ...]) -> set[Node]:
        live: set[Node] = {graph.inputs[i] for i in active}
        parts: dict[Node, set[int]] = {}       # for tuple-typed nodes: the active items
        for node in graph.body:
            found = self._active_items(node, live, parts)
            if not found:
                continue
            if isinstance(node.type, TupleType):
                parts[node] = found
                if node.prim.name != "tuple":
                    live.add(node)
            else:
                live.add(node)
        return live

    def _active_items(self, node: Apply, live: set[Node], parts) -> set[int]:
        """Which items of a tuple are active; {0} for another value that is."""
        name = node.prim.name
        if name == "tuple":
            return {i for i, x in enumerate(node.operands) if x in live}
        if name == "item":
            return {0} if node.attrs["index"] in parts.get(node.operands[0], ()) else set()
        if not any(x in live for x in node.operands):
            return set()
        if "bwd" in node.attrs:
            return set(float_results(node))
        if name == "while":
            return {i for i in self.loop_active(node, live)
                    if i < control.state_size(node)}
        if name in CONTROL:
            inner = tuple(i for i, x in enumerate(arguments(node)) if x in live)
            return set().union(*(self.active_results(g, inner) for g in branches(node)))
        if name in ("pop", "tape_read", "tape_rows"):
            return {i for i, t in enumerate(node.type.items) if has_cotangent(t)}
        if name == "tape_end":
            return {0}
        return {0} if node.prim.vjp is not None and has_cotangent(node.type) else set()

    def loop_active(self, node: Apply, live: set[Node]) -> tuple[int, ...]:
        """The operands of a `while` that are active in some round."""
        body, n = node.attrs["body"], control.state_size(node)
        active = {i for i, x in enumerate(node.operands) if x in live}
        while True:
            found = {i for i in self.active_results(body, tuple(sorted(active))) if i < n}
            if found <= active:
                return tuple(sorted(active))
            active |= found

    def needs_tape(self, graph: Graph, active: tuple[int, ...]) -> bool:
        """Are there loops, or calls of graphs in themselves, to be differentiated in the graph; or
        residuals whose size it finds?"""
        if id(graph) in self.themselves:
            return True
        key = (id(graph), active)
        if key not in self.tapes:
            live = self.active_nodes(graph, active)
            self.tapes[key] = (graph, any(
                node.prim.name == "set_size" or "bwd" in node.attrs and found_sizes(
                    node.attrs["graph"]) or node in live and node.prim.name in CONTROL
                and self._needs(node, live) for node in graph.body))
        return self.tapes[key][1]

    def _needs(self, node: Apply, live: set[Node]) -> bool:
        if "bwd" in node.attrs:
            return False
        if node.prim.name == "while":
            return node.attrs.get("checkpoint") != "log"
        inner = tuple(i for i, x in enumerate(arguments(node)) if x in live)
        return any(self.needs_tape(g, inner) for g in branches(node))


def useful_nodes(graph: Graph, live: set[Node], seeds: tuple[int, ...]) -> set[Node]:
    """The nodes among `live` on which one of the results listed depends, and all tapes."""
    useful: set[Node] = {graph.results[i] for i in seeds} | set(graph.inputs)
    for node in reversed(graph.body):
        if node.prim.name == "tape_end" and node in live:
            useful.add(node)
        if node in useful:
            useful.update(x for x in node.operands)
    return useful


def useful_items(graph: Graph, seeds: tuple[int, ...]) -> set:
    """On what the results listed depend, and all tapes: nodes, and of tuples just the items, as
    (node, index)."""
    found: set = {graph.results[i] for i in seeds}
    for node in reversed(graph.body):
        if node.prim.name == "tape_end":
            found.update(node.operands)
        elif node.prim.name == "tuple":
            found.update(x for i, x in enumerate(node.operands) if (node, i) in found)
        elif node.prim.name == "item" and node in found:
            found.add((node.operands[0], node.attrs["index"]))
        elif node in found or isinstance(node.type, TupleType) and any(
                (node, i) in found for i in range(len(node.type.items))):
            found.update(node.operands)
    return found
