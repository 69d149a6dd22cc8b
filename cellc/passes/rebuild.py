"""What passes share: copying a graph into a builder, and running a pass on every sub-graph once.

A pass handles one straight list of applies. `everywhere` walks the graphs held in attributes, inner
ones first, each object once, so that a graph shared by many calls stays shared, and one that calls
itself calls what becomes of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from cellc.ir.graph import PRIMITIVES, Apply, Builder, Constant, Graph, Input, Node, subgraphs
from cellc.ir.types import Dim, TensorType, TupleType


def copy_input(node: Input) -> Input:
    return Input(node.type, node.name, node.loc)


def copy_body(builder: Builder, graph: Graph, operands: Iterable[Node]) -> Node:
    """Append graph's applies to the builder with `operands` for its inputs; returns its result."""
    env: dict[Node, Node] = dict(zip(graph.inputs, operands, strict=True))
    for node in graph.body:
        env[node] = builder.append(renew(node, env))
    return env.get(graph.result, graph.result)


def renew(node: Apply, env: dict[Node, Node], attrs: dict | None = None) -> Apply:
    """The same apply on the operands that `env` maps to, with the type it is known to have."""
    operands = tuple([env.get(x, x) for x in node.operands])
    return Apply(node.prim, operands, node.attrs if attrs is None else attrs, node.type, node.name,
                 node.loc)


def parts(node: Node) -> list[Node]:
    """The operands of a `tuple` apply; any other node is its own single part."""
    if isinstance(node, Apply) and node.prim.name == "tuple":
        return list(node.operands)
    return [node]


def seal(builder: Builder, results: list[Node], like: Graph) -> Graph:
    """Close the builder's graph; a single result is no tuple where that of `like` is none."""
    if len(results) == 1 and not isinstance(like.type, TupleType):
        return builder.finish(results[0])
    return builder.finish(PRIMITIVES["tuple"](*results))


def everywhere(graph: Graph, run: Callable[[Graph], Graph],
               memo: dict[int, tuple[Graph, Graph]] | None = None) -> Graph:
    """`run` on every sub-graph, inner first, then on the graph itself."""
    memo = {} if memo is None else memo
    found = memo.get(id(graph))
    if found is not None:
        if found[1] is None:                # it is being rebuilt: the call of a graph in itself
            found = memo[id(graph)] = (graph, Graph.declare(graph.name, graph.inputs, graph.type))
        return found[1]
    memo[id(graph)] = (graph, None)
    attrs: dict[Node, dict] = {}
    for node in graph.holders:
        before = subgraphs(node)
        inner = {key: everywhere(g, run, memo) for key, g in before.items()}
        if any(g is not before[key] for key, g in inner.items()):
            attrs[node] = node.attrs | inner
    result = run(with_attrs(graph, attrs))
    declared = memo[id(graph)][1]
    if declared is not None:
        result = declared.define(result.body, result.result)
    memo[id(graph)] = (graph, result)      # the original is kept alive, so its id stays its own
    return result


def with_inputs(graph: Graph, at: int, types) -> Graph:
    """The graph with further inputs, which it does not read."""
    more = [Input(t, "unused") for t in types]
    return Graph(graph.name, [*graph.inputs[:at], *more, *graph.inputs[at:]], graph.body,
                 graph.result)


def found_sizes(graph: Graph) -> dict[str, None]:
    """The names of the sizes that a graph, or one that it runs, finds."""
    return {node.attrs["dim"].name: None for g in graph.reachable() for node in g.body
            if node.prim.name == "set_size"}


def renamed(graph: Graph, names: dict[str, str]) -> Graph:
    """A copy of the graph, and of those it runs, with other names for some sizes."""
    done: dict[int, Graph] = {}

    def other(value):
        if isinstance(value, Dim):
            return Dim(names.get(value.name, value.name), value.coef)
        if isinstance(value, TensorType):
            return value.with_shape(map(other, value.shape))
        if isinstance(value, TupleType):
            return TupleType(other(value.items))
        if isinstance(value, tuple):
            return tuple(map(other, value))
        return copied(value) if isinstance(value, Graph) else value

    def constant(x: Node) -> Node:
        return Constant(other(x.type), x.value) if isinstance(x, Constant) else x

    def copied(old: Graph) -> Graph:
        if id(old) not in done:
            inputs = [Input(other(x.type), x.name, x.loc) for x in old.inputs]
            new = done[id(old)] = Graph.declare(old.name, inputs, other(old.type))
            env = dict(zip(old.inputs, inputs, strict=True))
            for node in old.body:
                operands = tuple(env[x] if x in env else constant(x) for x in node.operands)
                attrs = {key: other(value) for key, value in node.attrs.items()}
                env[node] = Apply(node.prim, operands, attrs, other(node.type), node.name, node.loc)
            body = [env[node] for node in old.body]
            new.define(body, env[old.result] if old.result in env else constant(old.result))
        return done[id(old)]

    return copied(graph)


def with_attrs(graph: Graph, attrs: dict[Node, dict]) -> Graph:
    """The graph in which these applies have other attributes; itself where there are none."""
    if not attrs:
        return graph
    env: dict[Node, Node] = {}
    body = []
    for node in graph.body:
        new = node
        if node in attrs:
            new = env[node] = renew(node, env, attrs[node])
        elif touched(node, env):
            new = env[node] = renew(node, env)
        body.append(new)
    return Graph(graph.name, graph.inputs, body, env.get(graph.result, graph.result))


def touched(node: Apply, env: dict[Node, Node]) -> bool:
    """Does `env` map any of the operands to something else?"""
    return not env.keys().isdisjoint(node.operands)


def replacing(graph: Graph, gone: Iterable[Node],
              made: dict[Node, Callable[[Builder, dict[Node, Node]], Node]]) -> Graph:
    """The graph without `gone`, and with other applies for those of `made`, each made by a function
    of the builder and of what has become of the nodes before."""
    gone, builder = set(gone), Builder(graph.name, graph.inputs)
    env: dict[Node, Node] = {}
    for node in graph.body:
        if node in gone:
            continue
        if node in made:
            env[node] = made[node](builder, env)
        else:
            new = builder.append(renew(node, env) if touched(node, env) else node)
            if new is not node:
                env[node] = new
    return Graph(graph.name, graph.inputs, builder.body, env.get(graph.result, graph.result))


def use_counts(graph: Graph) -> Counter[Node]:
    """How often each node is used as an operand or as the result."""
    counts = Counter(x for node in graph.body for x in node.operands)
    counts[graph.result] += 1
    return counts


def restricted(graph: Graph, wanted: Iterable[int]) -> tuple[Graph, list[int]]:
    """The graph with only the results listed, what they need, and the inputs that are used; and
    which inputs those are."""
    result = Apply(PRIMITIVES["tuple"], tuple(graph.results[i] for i in wanted), {})
    live: set[Node] = {result}
    body = [result]
    for node in (result, *reversed(graph.body)):
        if node in live:
            live.update(node.operands)
            if node is not result:
                body.append(node)
    used = [i for i, x in enumerate(graph.inputs) if x in live]
    return Graph(graph.name, [graph.inputs[i] for i in used], reversed(body), result), used
