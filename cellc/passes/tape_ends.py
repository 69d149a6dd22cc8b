"""tape_ends: a tape that is dropped comes to its end there.

    %t = push(%s, %x) ; nobody uses %t       ->   %t = push(%s, %x); tape_end(%t)
    a branch or round that takes a tape and leaves it  ->   tape_end in it

A list of the user's program that is not read any more, or a cotangent of what depends on nothing,
is a tape that nobody uses up; its memory would be held until the call ends, and in a loop there is
a new one in each round. Assumes that no tape is used up twice.
"""

from __future__ import annotations

from cellc.ir.graph import PRIMITIVES, Apply, Graph, Node, subgraphs
from cellc.ir.prims import tape
from cellc.ir.prims.control import state_size
from cellc.ir.types import TapeType, TupleType
from cellc.passes.rebuild import renew

PASSES_ON = ("item", "tuple")


def run(graph: Graph) -> Graph:
    if not any(_has_tape(node.type) for g in graph.reachable() for node in (*g.inputs, *g.body)):
        return graph
    return _Ends().end(graph, frozenset(range(len(graph.inputs))))


def _has_tape(type) -> bool:
    return isinstance(type, TapeType) or isinstance(type, TupleType) and any(
        isinstance(t, TapeType) for t in type.items)


class _Ends:
    """Every graph with ends, once for each set of inputs whose tapes are its own to use up."""

    def __init__(self):
        self.done: dict[tuple, tuple[Graph, Graph]] = {}
        self.used: dict[int, tuple[Graph, set[int]]] = {}

    def end(self, graph: Graph, own: frozenset[int]) -> Graph:
        own = frozenset(i for i in own if isinstance(graph.inputs[i].type, TapeType))
        key = (id(graph), own)
        if key not in self.done:
            declared = Graph.declare(graph.name, graph.inputs, graph.type)
            self.done[key] = graph, declared
            body, result = self._body(graph, own)
            declared.define(body, result)
        return self.done[key][1]

    def _body(self, graph: Graph, own: frozenset[int]) -> tuple[list[Apply], Node]:
        used = self._used_up(graph)
        env: dict[Node, Node] = {}
        body: list[Apply] = []
        for i in sorted(own):
            if (graph.inputs[i], 0) not in used:
                body.append(_end_of(graph.inputs[i]))
        for node in graph.body:
            inner = {key: self.end(g, self._owned(node, key))
                     for key, g in subgraphs(node).items()}
            new = env[node] = renew(node, env, node.attrs | inner if inner else None)
            body.append(new)
            if node.prim.name in PASSES_ON:
                continue
            if isinstance(node.type, TapeType) and (node, 0) not in used:
                body.append(_end_of(new))
            for i, type in enumerate(getattr(node.type, "items", ())):
                if isinstance(type, TapeType) and (node, i) not in used:
                    item = Apply(PRIMITIVES["item"], (new,), {"index": i}, type)
                    body += [item, _end_of(item)]
        result = env.get(graph.result, graph.result)
        if isinstance(result, Apply) and result.prim.name == "tuple":   # it stands last
            body.remove(result)
            body.append(result)
        return body, result

    def _owned(self, node: Apply, key: str) -> frozenset[int]:
        """The inputs of a graph that a node runs whose tapes it uses up."""
        name = node.prim.name
        if name == "while":
            return frozenset(range(state_size(node))) if key == "body" else frozenset()
        taken = set().union(*(self._takes(g) for g in subgraphs(node).values()))
        return frozenset(taken) if name in ("call", "cond") else frozenset()

    def _takes(self, graph: Graph) -> set[int]:
        """The inputs whose tapes the graph uses up."""
        if id(graph) not in self.used:
            self.used[id(graph)] = graph, set()     # of a graph that calls itself: the rest says it
            used = self._used_up(graph)
            self.used[id(graph)] = graph, {i for i, x in enumerate(graph.inputs) if (x, 0) in used}
        return self.used[id(graph)][1]

    def _used_up(self, graph: Graph) -> set[tuple[Node, int]]:
        """The tapes, by where they come from, that something in the graph uses up."""
        found = {_origin(x) for x in graph.results if isinstance(x.type, TapeType)}
        if len(found) < sum(isinstance(x.type, TapeType) for x in graph.results):
            raise tape.used_twice()
        if _has_tape(graph.result.type) and isinstance(graph.result.type, TupleType):
            found.update((graph.result, i) for i in range(len(graph.result.type.items)))
        for node in graph.body:
            name = node.prim.name
            if name in PASSES_ON or name == "tape_len":
                continue
            first = 1 if name == "cond" else 0
            for i, x in enumerate(node.operands[first:]):
                if isinstance(x.type, TapeType) and self._uses_up(node, i):
                    if _origin(x) in found:
                        raise tape.used_twice().at(node.loc)
                    found.add(_origin(x))
        return found

    def _uses_up(self, node: Apply, i: int) -> bool:
        name = node.prim.name
        if name == "while":
            return i < state_size(node)
        if name in ("call", "cond"):
            return any(i in self._takes(g) for g in subgraphs(node).values())
        return True


def _origin(x: Node) -> tuple[Node, int]:
    """The apply that made a tape, and as which of its results; or the input."""
    index = 0
    while isinstance(x, Apply) and x.prim.name == "item":
        x, index = x.operands[0], x.attrs["index"]
        if isinstance(x, Apply) and x.prim.name == "tuple":
            x, index = x.operands[index], 0
        else:
            break
    return x, index


def _end_of(x: Node) -> Apply:
    return Apply(PRIMITIVES["tape_end"], (x,), {}, TupleType(()))
