"""jvp: forward-mode differentiation, graph to graph.

For a graph f : (x...) -> (y...) one closed graph is made, for a given set of active inputs:

    f.jvp : (x..., dx...)  ->  (y..., dy...)      dx of the active inputs, dy of the active results

What is generated, by kind of node, walking the list forwards once:

    elementwise, reduce, view, kernel      the same apply, and its record's `jvp` on the tangents.
    tuple, item                            tangents are passed through by index.
    call g                                 call g.jvp; of a g that calls itself, all floats among
                                           its results have tangents.
    call g {bwd=h, fwd=k, wrt}             the same call, and the transpose of its rule.
    cond p {then=g, orelse=h}              a cond on p of g.jvp and h.jvp; a tangent that only one
                                           of them has is zero in the other.
    while {test=t, body=g}                 one loop of g.jvp, whose state is that of the loop and
                                           the tangents of what in it is active in any round.
    tape_new, push, pop, tape_end          the same on a second tape, that of the tangents.

A result is active where a float depends on an active input. Only active values have tangents: a
structural zero is None and never exists at run time. What is made is an ordinary graph, which can
be differentiated again, forwards, backwards or in lanes.
"""

from __future__ import annotations

from cellc.ir.graph import Apply, Builder, Graph, Node, fill, subgraphs
from cellc.ir.prims import control, tape
from cellc.ir.types import TapeType, TupleType, Type
from cellc.passes.activity import float_results
from cellc.passes.grad import (
    check_floats,
    kept_for_rule,
    no_gradient,
    tidy,
    value_and_grad_graph,
)
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
            *found[:count], *(tangents[i] if i in tangents else nothing(graph.results[i].type)
                              for i in outputs))))


def nothing(type: Type) -> Node:
    """The tangent zero."""
    return tape.tape_new() if isinstance(type, TapeType) else fill(type, 0)


def has_tangent(type: Type) -> bool:
    return isinstance(type, TapeType) or control.is_differentiable(type)


class Pusher:
    """f.jvp of every graph met, once for each set of active inputs."""

    def __init__(self):
        self.made: dict[tuple, tuple[Graph, Pushed]] = {}
        self.begun: dict[tuple, tuple[list, Graph | None]] = {}     # inputs, and the declaration
        self.rules: dict[int, tuple[Graph, Graph]] = {}     # transposed

    def push(self, graph: Graph, active: tuple[int, ...]) -> Pushed:
        key = (id(graph), active)
        if key in self.begun:                   # a call of the graph in itself
            inputs, declared = self.begun[key]
            own = [r.type for r in graph.results]
            every = tuple(i for i, type in enumerate(own) if has_tangent(type))
            if declared is None:
                declared = Graph.declare(f"{graph.name}.jvp", inputs,
                                         TupleType((*own, *(own[i] for i in every))))
                self.begun[key] = inputs, declared
            return Pushed(declared, every)
        if key not in self.made:
            self.made[key] = (graph, self._make(graph, active, key))
        return self.made[key][1]

    def _make(self, graph: Graph, active: tuple[int, ...], key) -> Pushed:
        with Builder(f"{graph.name}.jvp", map(copy_input, graph.inputs)) as b:
            env: dict[Node, Node] = dict(zip(graph.inputs, b.inputs, strict=True))
            tangents: dict = {graph.inputs[i]: b.input(graph.inputs[i].type,
                                                       f"d{graph.inputs[i].name}")
                              for i in active}
            self.begun[key] = b.inputs, None
            for node in graph.body:
                b.loc = node.loc
                self._node(b, node, env, tangents)
            _, declared = self.begun.pop(key)
            found = [tangents.get(r) for r in graph.results]
            if declared is not None:
                found = [nothing(r.type) if dy is None and has_tangent(r.type) else dy
                         for r, dy in zip(graph.results, found, strict=True)]
            reached = tuple(i for i, dy in enumerate(found) if dy is not None)
            results = [*(env.get(r, r) for r in graph.results), *(found[i] for i in reached)]
            made = seal(b, results, graph)
        if declared is not None:
            made = declared.define(made.body, made.result)
        return Pushed(made, reached)

    def _node(self, b: Builder, node: Apply, env, tangents) -> None:
        """Append the copy of an apply and what its tangent needs; `tangents` of an item of a tuple
        are kept under (node, index)."""
        name = node.prim.name
        if "bwd" in node.attrs and any(x in tangents for x in node.operands):
            self._rule(b, node, env, tangents)
            return
        if name in ("call", "cond"):
            self._control(node, env, tangents)
            return
        if name == "while" and any(x in tangents for x in node.operands):
            self._loop(node, env, tangents)
            return
        env[node] = b.append(renew(node, env))
        dxs = [tangents.get(x) for x in node.operands]
        if name == "item":
            dx = tangents.get((node.operands[0], node.attrs["index"]))
        elif name == "tuple":
            tangents.update({(node, i): dx for i, dx in enumerate(dxs) if dx is not None})
            return
        elif name == "tape_new":
            dx = tape.tape_new()
        elif name == "tape_end":
            tape.tape_end(dxs[0])
            return
        elif name in _TAPES:
            if dxs[0] is not None:
                _TAPES[name](node, dxs[0], [env.get(x, x) for x in node.operands], tangents)
            return
        elif node.prim.jvp is None or not has_tangent(node.type) or not any(
                dx is not None for dx in dxs):
            return
        else:
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
        value = node.prim(*operands, **{key: _widened(p, node.attrs[key], reached)
                                        for key, p in pushed.items()})
        _receive(node, value, reached, env, tangents)

    def _rule(self, b: Builder, node: Apply, env, tangents) -> None:
        """Append the call, and the transpose of its own rule: bwd is linear in the cotangents, so
        its pullback, from the tangents of the operands, gives those of the results."""
        env[node] = b.append(renew(node, env))
        floats, wrt, bwd = float_results(node), node.attrs["wrt"], node.attrs["bwd"]
        for i, x in enumerate(node.operands):
            if x in tangents and i not in wrt:
                raise no_gradient(node, x)
        if not floats or not wrt:
            return
        kept = kept_for_rule(env[node])
        seeds = tuple(range(len(kept), len(kept) + len(floats)))
        if id(bwd) not in self.rules:
            self.rules[id(bwd)] = bwd, value_and_grad_graph(bwd, seeds, tuple(range(len(wrt))),
                                                            sens=True)
        back = self.rules[id(bwd)][1]
        zeros = [fill(bwd.inputs[i].type, 0) for i in seeds]
        dxs = [tangents[x] if (x := node.operands[i]) in tangents else nothing(x.type)
               for i in wrt]
        found = control.call(*kept, *zeros, *dxs, graph=back)
        many = isinstance(node.type, TupleType)
        for position, i in enumerate(floats):
            tangents[(node, i) if many else node] = control.item(found, index=len(wrt) + position)

    def _loop(self, node: Apply, env, tangents) -> None:
        """Append the loop of state and tangents."""
        n, body = control.state_size(node), node.attrs["body"]
        active = {i for i, x in enumerate(node.operands) if x in tangents}
        while True:         # a round may make more of the state active
            pushed = self.push(body, tuple(sorted(active)))
            if active.issuperset(pushed.active):
                break
            active.update(pushed.active)
        moving = [i for i in sorted(active) if i < n]
        held = [i for i in sorted(active) if i >= n]
        xs = [env.get(x, x) for x in node.operands]
        dxs = {i: tangents[x] if (x := node.operands[i]) in tangents else nothing(x.type)
               for i in moving + held}
        graphs = dict(node.attrs)
        for key, graph in subgraphs(node).items():
            with Builder(f"{graph.name}.jvp") as b:
                state = [b.input(x.type, x.name) for x in graph.inputs[:n]]
                given = {i: b.input(xs[i].type, f"d{graph.inputs[i].name}") for i in moving}
                state += [b.input(x.type, x.name) for x in graph.inputs[n:]]
                given |= {i: b.input(xs[i].type, f"d{graph.inputs[i].name}") for i in held}
                if key == "test":
                    graphs[key] = b.finish(copy_body(b, graph, state))
                    continue
                found = parts(copy_body(b, _widened(pushed, graph, tuple(moving)),
                                        [*state, *(given[i] for i in sorted(given))]))
                graphs[key] = seal(b, found, graph)
        value = node.prim(*xs[:n], *(dxs[i] for i in moving), *xs[n:], *(dxs[i] for i in held),
                          **graphs)
        _receive(node, value, tuple(moving), env, tangents)


def _pop(node: Apply, dx: Node, operands, tangents) -> None:
    _record(node, tape.pop(dx, **_of_floats(node)), 1, tangents)


def _tape_read(node: Apply, dx: Node, operands, tangents) -> None:
    _record(node, tape.tape_read(dx, operands[1], **_of_floats(node) | {"checked": False}), 1,
            tangents)


def _tape_rows(node: Apply, dx: Node, operands, tangents) -> None:
    attrs = _of_floats(node)
    if attrs["types"]:
        _record(node, tape.tape_rows(dx, operands[1], **attrs), 0, tangents)


def _of_floats(node: Apply) -> dict:
    return node.attrs | {"types": tape.floats(node.attrs["types"])}


def _record(node: Apply, value: Node, first: int, tangents) -> None:
    """The tangents of a tape and of the values that come off it."""
    reached = [*range(first), *(i for i, t in enumerate(node.attrs["types"], start=first)
                                if control.is_differentiable(t))]
    tangents.update({(node, i): control.item(value, index=k) for k, i in enumerate(reached)})


_TAPES = {"pop": _pop, "tape_read": _tape_read, "tape_rows": _tape_rows}


def _receive(node: Apply, value: Node, reached: tuple[int, ...], env, tangents) -> None:
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


def _widened(pushed: Pushed, graph: Graph, reached: tuple[int, ...]) -> Graph:
    """A pushed graph that gives tangents of all results in `reached`, zeros where it has none."""
    if pushed.active == reached:
        return pushed.graph
    count = len(graph.results)
    with Builder(pushed.graph.name, map(copy_input, pushed.graph.inputs)) as b:
        found = parts(copy_body(b, pushed.graph, b.inputs))
        own = dict(zip(pushed.active, found[count:], strict=True))
        return b.finish(control.tuple(*found[:count], *(
            own[i] if i in own else nothing(graph.results[i].type) for i in reached)))
