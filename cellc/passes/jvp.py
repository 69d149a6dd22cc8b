"""jvp: forward-mode differentiation, graph to graph.

For a graph f : (x...) -> (y...) one closed graph is made, for a given set of active inputs:

    f.jvp : (x..., dx...)  ->  (y..., dy...)      dx of the active inputs, dy of the active results

What is generated, by kind of node, walking the list forwards once:

    elementwise, reduce, view, kernel      the same apply, and its record's `jvp` on the tangents.
    tuple, item                            tangents are passed through by index.
    call g                                 call g.jvp.
    cond p {then=g, orelse=h}              a cond on p of g.jvp and h.jvp; a tangent that only one
                                           of them has is zero in the other.

A result is active where a float depends on an active input. Only active values have tangents: a
structural zero is None and never exists at run time. What is made is an ordinary graph, which can
be differentiated again, forwards, backwards or in lanes.
"""

from __future__ import annotations

from cellc.ir.graph import Apply, Builder, Graph, Node, fill
from cellc.ir.prims import control
from cellc.ir.types import TupleType
from cellc.passes.grad import check_floats, tidy
from cellc.passes.rebuild import copy_body, copy_input, parts, renew, seal
from cellc.record import record


@record(frozen=True)
class Pushed:
    """f.jvp, and of which results it gives tangents: they follow the results, in order."""

    graph: Graph
    active: tuple[int, ...]


def jvp_graph(graph: Graph, wrt: tuple[int, ...], outputs: tuple[int, ...]) -> Graph:
    """The graph (x..., dx...) -> (y..., dy...): all results of `graph`, then for each result listed
    in `outputs` its derivative along dx, given for each input listed in `wrt`. Results that do not
    depend on them get zeros.

    TypeFault where an input or output asked for is no float.
    """
    check_floats("tangent", graph, wrt, outputs)
    pushed = Pusher().push(graph, tuple(sorted(wrt)))
    with Builder(f"{graph.name}.jvp", map(copy_input, graph.inputs)) as b:
        xs = list(b.inputs)
        dxs = {i: b.input(graph.inputs[i].type, f"d{graph.inputs[i].name}") for i in wrt}
        found = parts(copy_body(b, pushed.graph, [*xs, *(dxs[i] for i in sorted(wrt))]))
        count = len(graph.results)
        tangents = dict(zip(pushed.active, found[count:], strict=True))
        return tidy(b.finish(control.tuple(
            *found[:count], *(tangents[i] if i in tangents else fill(graph.results[i].type, 0)
                              for i in outputs))))


class Pusher:
    """f.jvp of every graph met, once for each set of active inputs."""

    def __init__(self):
        self.made: dict[tuple, tuple[Graph, Pushed]] = {}

    def push(self, graph: Graph, active: tuple[int, ...]) -> Pushed:
        key = (id(graph), active)
        if key not in self.made:
            self.made[key] = (graph, self._make(graph, active))
        return self.made[key][1]

    def _make(self, graph: Graph, active: tuple[int, ...]) -> Pushed:
        with Builder(f"{graph.name}.jvp", map(copy_input, graph.inputs)) as b:
            env: dict[Node, Node] = dict(zip(graph.inputs, b.inputs, strict=True))
            tangents: dict = {graph.inputs[i]: b.input(graph.inputs[i].type,
                                                       f"d{graph.inputs[i].name}")
                              for i in active}
            for node in graph.body:
                b.loc = node.loc
                self._node(b, node, env, tangents)
            found = [tangents.get(r) for r in graph.results]
            reached = tuple(i for i, dy in enumerate(found) if dy is not None)
            results = [*(env.get(r, r) for r in graph.results), *(found[i] for i in reached)]
            return Pushed(seal(b, results, graph), reached)

    def _node(self, b: Builder, node: Apply, env, tangents) -> None:
        """Append the copy of an apply and what its tangent needs; `tangents` of an item of a tuple
        are kept under (node, index)."""
        name = node.prim.name
        if name == "item":
            env[node] = b.append(renew(node, env))
            dx = tangents.get((node.operands[0], node.attrs["index"]))
        elif name in ("call", "cond"):
            self._control(node, env, tangents)
            return
        else:
            env[node] = b.append(renew(node, env))
            dxs = [tangents.get(x) for x in node.operands]
            if name == "tuple":
                tangents.update({(node, i): dx for i, dx in enumerate(dxs) if dx is not None})
                return
            if node.prim.jvp is None or not node.dtype.is_float or not any(
                    dx is not None for dx in dxs):
                return
            operands = [env.get(x, x) for x in node.operands]
            dx = node.prim.jvp(dxs, env[node], *operands, **node.attrs)
        if dx is not None:
            tangents[node] = dx

    def _control(self, node: Apply, env, tangents) -> None:
        """Append the call or cond of the pushed graphs."""
        first = 1 if node.prim.name == "cond" else 0
        outside = node.operands[first:]
        active = tuple(i for i, x in enumerate(outside) if x in tangents)
        operands = [env.get(x, x) for x in node.operands]
        operands += [tangents[outside[i]] for i in active]
        pushed = {key: self.push(g, active) for key, g in node.attrs.items()}
        reached = tuple(sorted({i for p in pushed.values() for i in p.active}))
        value = node.prim(*operands, **{key: widened(p, node.attrs[key], reached)
                                        for key, p in pushed.items()})
        receive(node, value, reached, env, tangents)


def receive(node: Apply, value: Node, reached: tuple[int, ...], env, tangents) -> None:
    """Split the result of a pushed control apply into what `node` gave, and tangents."""
    if not reached:
        env[node] = value
    elif isinstance(node.type, TupleType):
        count = len(node.type.items)
        items = [control.item(value, index=i) for i in range(count + len(reached))]
        env[node] = control.tuple(*items[:count])
        tangents.update({(node, i): dy for i, dy in zip(reached, items[count:], strict=True)})
    else:
        env[node], tangents[node] = (control.item(value, index=i) for i in range(2))


def widened(pushed: Pushed, graph: Graph, reached: tuple[int, ...]) -> Graph:
    """A pushed graph that gives tangents of all results in `reached`, zeros where it has none."""
    if pushed.active == reached:
        return pushed.graph
    count = len(graph.results)
    with Builder(pushed.graph.name, map(copy_input, pushed.graph.inputs)) as b:
        found = parts(copy_body(b, pushed.graph, b.inputs))
        own = dict(zip(pushed.active, found[count:], strict=True))
        return b.finish(control.tuple(*found[:count], *(
            own[i] if i in own else fill(graph.results[i].type, 0) for i in reached)))
