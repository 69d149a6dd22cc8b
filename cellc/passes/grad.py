"""grad: reverse-mode differentiation, graph to graph.

For a graph f : (x...) -> (y...) two closed graphs are made, for a given set of active inputs:

    f.fwd : (x...)          -> (y..., r...)       f as it was, and what the backward half needs
    f.bwd : (dy..., r...)   -> (dx...)            one cotangent for each active input

What is generated, by kind of node, walking the list forwards and then backwards:

    elementwise, reduce, view, kernel      fwd: the same apply.   bwd: its record's `vjp`, whose
                                           references to forward values become residuals.
    tuple, item                            bwd: cotangents are passed through by index.
    call g                                 fwd: call g.fwd, bwd: call g.bwd on its residuals.
    call g {bwd=h, fwd=k, wrt}             fwd: the same call, and k's further results; bwd: call h.
                                           So its own rule holds at every order.
    cond p {then=g, orelse=h}              fwd: a cond of g.fwd and h.fwd, each giving also `empty`
                                           values in the other's residual places; bwd: a cond on
                                           the same p of g.bwd and h.bwd. What is not taken is free.

The residuals need no analysis: f.bwd is built by a second Builder, and a forward value that a rule
mentions there is *captured*, as any outside value is. A value is active where a float depends on an
active input; only active values get cotangents, and a structural zero is None and never exists at
run time; `masked.py` keeps those that a `select` makes. Everything made is an ordinary graph, so it
can be differentiated again.
"""

from __future__ import annotations

from cellc.errors import TypeFault
from cellc.ir.graph import Apply, Builder, Graph, Node, fill, scalar
from cellc.ir.prims import control
from cellc.ir.types import ScalarType, TupleType
from cellc.passes import cse, dead_code, inline, simplify
from cellc.passes.masked import Adjoint, expose, pull
from cellc.passes.rebuild import copy_body, copy_input, renew, restricted
from cellc.record import record


@record(frozen=True)
class Halves:
    """f.fwd and f.bwd. The results of fwd are f's own, then those residuals that are not inputs.

    `residuals` says where each further input of bwd comes from: ("input", i) or ("result", j).
    `seeds` are the results of f whose cotangents bwd takes, `active` the inputs it answers for.
    """

    fwd: Graph
    bwd: Graph
    residuals: tuple[tuple[str, int], ...]
    seeds: tuple[int, ...]
    active: tuple[int, ...]


def value_and_grad_graph(graph: Graph, wrt: tuple[int, ...], outputs: tuple[int, ...] = (0,),
                         sens: bool = False) -> Graph:
    """The graph (x...[, dy...]) -> (y..., dx...): all results of `graph`, then for each input
    listed in `wrt` the gradient of the sum of the results listed in `outputs`, each weighted by its
    further input dy where `sens` is set. Inputs that nothing depends on get zeros.

    TypeFault where an input or output asked for is no float.
    """
    for kind, nodes in (("argument", [graph.inputs[i] for i in wrt]),
                        ("result", [graph.results[i] for i in outputs])):
        for node in nodes:
            if isinstance(node.type, TupleType) or not node.type.dtype.is_float:
                raise TypeFault(f"the gradient needs a float {kind}, found {node.type}",
                                "cast it to a float, or differentiate by another argument")
    halves = _Differentiator().halves(graph, tuple(wrt), tuple(outputs))
    with Builder(f"{graph.name}.grad", map(copy_input, graph.inputs)) as b:
        xs = list(b.inputs)
        seeds = [b.input(graph.results[i].type, f"sens.{i}") if sens
                 else _one(graph.results[i].type) for i in outputs]
        values = _parts(copy_body(b, halves.fwd, xs))
        pool = {"input": xs, "result": values}
        by_output = dict(zip(outputs, seeds, strict=True))
        cotangents = _parts(copy_body(b, halves.bwd, [by_output[i] for i in halves.seeds]
                                      + [pool[kind][i] for kind, i in halves.residuals]))
        found = dict(zip(halves.active, cotangents, strict=True)) if halves.active else {}
        grads = [found[i] if found.get(i) is not None else _zero(graph.inputs[i].type)
                 for i in wrt]
        result = b.finish(control.tuple(*values[: len(graph.results)], *grads))
    return tidy(result)


def tidy(graph: Graph) -> Graph:
    """Inline, simplify, share and sweep, so that a gradient of a gradient starts from little."""
    return dead_code.run(cse.run(simplify.run(inline.run(graph, keep_rules=True))))


def _one(type):
    return scalar(1.0) if isinstance(type, ScalarType) else fill(type, 1)


def _zero(type):
    return scalar(0.0) if isinstance(type, ScalarType) else fill(type, 0)


def _parts(node: Node) -> list[Node]:
    """The operands of a `tuple` apply; any other node is its own single part."""
    if isinstance(node, Apply) and node.prim.name == "tuple":
        return list(node.operands)
    return [node]


def _is_float(node: Node) -> bool:
    return control.is_differentiable(node.type)


class _Differentiator:
    """The halves of every graph met, once for each set of active inputs and seeded results."""

    def __init__(self):
        self.made: dict[tuple, tuple[Graph, Halves]] = {}
        self.activity: dict[tuple, tuple[Graph, set[int]]] = {}
        self.rules: dict[tuple, tuple[Graph, tuple[Graph, list[int]]]] = {}

    def active_results(self, graph: Graph, active: tuple[int, ...]) -> set[int]:
        """Which results of the graph depend differentiably on the active inputs."""
        key = (id(graph), active)
        if key not in self.activity:
            live = self._active_nodes(graph, active)
            self.activity[key] = (graph, {i for i, r in enumerate(graph.results) if r in live})
        return self.activity[key][1]

    def _active_nodes(self, graph: Graph, active: tuple[int, ...]) -> set[Node]:
        live: set[Node] = {graph.inputs[i] for i in active}
        parts: dict[Node, set[int]] = {}       # for tuple-typed nodes: the active items
        for node in graph.body:
            name = node.prim.name
            if name == "tuple":
                parts[node] = {i for i, x in enumerate(node.operands) if x in live}
            elif name == "item":
                if node.attrs["index"] in parts.get(node.operands[0], ()):
                    live.add(node)
            elif "bwd" in node.attrs:
                found = set(_float_results(node)) if any(x in live for x in node.operands) else ()
                if isinstance(node.type, TupleType):
                    parts[node] = set(found)
                elif found:
                    live.add(node)
            elif name in ("call", "cond"):
                for g in _branches(node):
                    inner = tuple(i for i, x in enumerate(_arguments(node)) if x in live)
                    found = self.active_results(g, inner)
                    if isinstance(node.type, TupleType):
                        parts.setdefault(node, set()).update(found)
                    elif found:
                        live.add(node)
            elif node.prim.vjp is not None and _is_float(node) and any(
                    x in live for x in node.operands):
                live.add(node)
        return live

    def halves(self, graph: Graph, active: tuple[int, ...], seeds: tuple[int, ...]) -> Halves:
        seeds = tuple(i for i in seeds if i in self.active_results(graph, active))
        key = (id(graph), active, seeds)
        if key not in self.made:
            self.made[key] = (graph, self._make(graph, active, seeds))
        return self.made[key][1]

    def _make(self, graph: Graph, active: tuple[int, ...], seeds: tuple[int, ...]) -> Halves:
        graph = expose(graph)
        live, wanted = self._active_nodes(graph, active), _wanted(graph, seeds)
        fwd = Builder(f"{graph.name}.fwd", map(copy_input, graph.inputs))
        env: dict[Node, Node] = dict(zip(graph.inputs, fwd.inputs, strict=True))
        backward: dict[Node, _Control] = {}
        kept: dict[Node, list[Node]] = {}
        with fwd:
            for node in graph.body:
                if "bwd" in node.attrs and _mentions(node, live):
                    env[node], kept[node] = self._forward_rule(fwd, node, env)
                elif node.prim.name in ("call", "cond") and _mentions(node, live):
                    env[node], backward[node] = self._forward_control(fwd, node, env, live, wanted)
                else:
                    env[node] = fwd.append(renew(node, env))
        with Builder(f"{graph.name}.bwd") as bwd:
            cotangents = _Cotangents()
            for i in seeds:
                cotangents.add(graph.results[i], bwd.input(graph.results[i].type, f"d{i}"))
            for node in reversed(graph.body):
                bwd.loc = node.loc and node.loc.in_gradient()
                if node in kept:
                    self._backward_rule(node, live, cotangents, kept[node])
                else:
                    self._backward(node, env, live, cotangents, backward)
            answers = [cotangents.get(graph.inputs[i]) for i in active]
            answered = tuple(i for i, a in zip(active, answers, strict=True) if a is not None)
            bwd_graph = bwd.finish(control.tuple(*(a for a in answers if a is not None)))
        inputs = {id(x): i for i, x in enumerate(fwd.inputs)}
        results = [env.get(r, r) for r in graph.results]
        residuals = []
        for value, _ in bwd.captured.values():
            if id(value) in inputs:
                residuals.append(("input", inputs[id(value)]))
            else:
                residuals.append(("result", len(results)))
                results.append(value)
        with fwd:
            fwd_graph = fwd.finish(control.tuple(*results))
        return Halves(fwd_graph, bwd_graph, tuple(residuals), seeds, answered)

    # -- one node backwards --------------------------------------------------------------------
    def _backward(self, node: Apply, env, live, cotangents: _Cotangents, backward) -> None:
        name = node.prim.name
        if name == "tuple":
            for i, x in enumerate(node.operands):
                if x in live:
                    cotangents.put(x, cotangents.sums.get((node, i)))
        elif name == "item":
            if node in live:
                cotangents.put((node.operands[0], node.attrs["index"]), cotangents.sums.get(node))
        elif node in backward:
            self._backward_control(node, cotangents, backward[node])
        elif node in live:
            g = cotangents.sums.get(node)
            if g is None:
                return
            operands = [env.get(x, x) for x in node.operands]
            for x, dx in zip(node.operands, pull(node.prim, g, env[node], operands, node.attrs),
                             strict=True):
                if x in live:
                    cotangents.put(x, dx)

    # -- call with a rule ----------------------------------------------------------------------
    def _forward_rule(self, fwd: Builder, node: Apply, env):
        """Append the call; returns its value, and all that its rule may want of the forward half.
        """
        value = fwd.append(renew(node, env))
        count = len(node.attrs["graph"].results)
        if "fwd" in node.attrs:
            both = control.call(*value.operands, graph=node.attrs["fwd"])
            return value, [control.item(both, index=i)
                           for i in range(count, len(node.attrs["fwd"].results))]
        own = [control.item(value, index=i) for i in range(count)] if isinstance(
            value.type, TupleType) else [value]
        return value, [*value.operands, *own]

    def _backward_rule(self, node: Apply, live, cotangents: _Cotangents, kept: list[Node]) -> None:
        many, floats = isinstance(node.type, TupleType), _float_results(node)
        given = [cotangents.get((node, i) if many else node) for i in floats]
        if all(g is None for g in given):
            return
        bwd, wrt = node.attrs["bwd"], node.attrs["wrt"]
        for i, x in enumerate(node.operands):
            if x in live and i not in wrt:
                raise _no_gradient(node, x)
        types = [node.attrs["graph"].results[i].type for i in floats]
        dys = [_zero(t) if g is None else g for g, t in zip(given, types, strict=True)]
        wanted = tuple(k for k, i in enumerate(wrt) if node.operands[i] in live)
        key = (id(bwd), wanted)
        if key not in self.rules:
            self.rules[key] = (bwd, restricted(bwd, wanted))
        rule, used = self.rules[key][1]
        result = control.call(*([*kept, *dys][i] for i in used), graph=rule)
        for position, k in enumerate(wanted):
            cotangents.add(node.operands[wrt[k]], control.item(result, index=position))

    # -- call and cond -------------------------------------------------------------------------
    def _forward_control(self, fwd: Builder, node: Apply, env, live, wanted):
        """Append the forward half of a call or cond; returns its value and what `bwd` will need."""
        arguments = [env.get(x, x) for x in _arguments(node)]
        active = tuple(i for i, x in enumerate(_arguments(node)) if x in live)
        graphs = _branches(node)
        count, many = len(graphs[0].results), isinstance(node.type, TupleType)
        seeds = tuple(i for i in range(count) if ((node, i) if many else node) in wanted
                      and any(i in self.active_results(g, active) for g in graphs))
        halves = [self.halves(g, active, seeds) for g in graphs]
        if node.prim.name == "call":
            predicate = None
            value = control.call(*arguments, graph=halves[0].fwd)
        else:
            predicate = env.get(node.operands[0], node.operands[0])
            value = control.cond(predicate, *arguments,
                                 then=_pad_results(halves[0].fwd, count, 0, halves[1].fwd),
                                 orelse=_pad_results(halves[1].fwd, count, 1, halves[0].fwd))
        items = [control.item(value, index=i) for i in range(len(value.type.items))]
        residuals, start = [], 0
        for h in halves:
            residuals.append([arguments[i] if kind == "input" else items[start + i]
                              for kind, i in h.residuals])
            start += len(h.fwd.results) - count
        own = items[:count]
        shown = control.tuple(*own) if many else own[0]
        return shown, _Control(predicate, arguments, halves, seeds, residuals, own)

    def _backward_control(self, node: Apply, cotangents: _Cotangents, c: _Control) -> None:
        many = isinstance(node.type, TupleType)
        given = {i: cotangents.get((node, i) if many else node) for i in c.seeds}
        if all(g is None for g in given.values()):
            return
        dys = {i: g if g is not None else _zero(c.own[i].type) for i, g in given.items()}
        operands = [[*(dys[i] for i in h.seeds), *r]
                    for h, r in zip(c.halves, c.residuals, strict=True)]
        if c.predicate is None:
            wanted = c.halves[0].active
            result = control.call(*operands[0], graph=c.halves[0].bwd)
        else:
            wanted = tuple(sorted({i for h in c.halves for i in h.active}))
            then, orelse = (_answer(h, operands, k, wanted, c.arguments)
                            for k, h in enumerate(c.halves))
            result = control.cond(c.predicate, *operands[0], *operands[1],
                                  then=then, orelse=orelse)
        for position, i in enumerate(wanted):
            cotangents.add(_arguments(node)[i], control.item(result, index=position))


@record(frozen=True)
class _Control:
    """The forward half of a call (one half, no predicate) or cond (two), for its backward half."""

    predicate: Node | None
    arguments: list[Node]
    halves: list[Halves]
    seeds: tuple[int, ...]
    residuals: list[list[Node]]
    own: list[Node]          # the results that the original node had


class _Cotangents:
    """The sum of the contributions to each node's cotangent; for tuples, keyed by (node, index)."""

    def __init__(self):
        self.sums: dict[object, Adjoint] = {}

    def put(self, key, adjoint: Adjoint | None) -> None:
        if adjoint is not None:
            self.sums[key] = self.sums[key].plus(adjoint) if key in self.sums else adjoint

    def add(self, key, value) -> None:
        self.put(key, None if value is None else Adjoint(value))

    def get(self, key):
        found = self.sums.get(key)
        return None if found is None else found.clean()


def _wanted(graph: Graph, seeds: tuple[int, ...]) -> set:
    """What these results are made of: nodes, and for items of tuples (node, index)."""
    found: set = {graph.results[i] for i in seeds}
    for node in reversed(graph.body):
        if node.prim.name == "tuple":
            found.update(x for i, x in enumerate(node.operands) if (node, i) in found)
        elif node.prim.name == "item" and node in found:
            found.add((node.operands[0], node.attrs["index"]))
        elif node in found or isinstance(node.type, TupleType) and any(
                (node, i) in found for i in range(len(node.type.items))):
            found.update(node.operands)
    return found


def _float_results(node: Apply) -> list[int]:
    """Which results of a call have cotangents."""
    return [i for i, r in enumerate(node.attrs["graph"].results) if _is_float(r)]


def _no_gradient(node: Apply, x: Node) -> TypeFault:
    rule = node.attrs["bwd"]
    return TypeFault(
        f"{rule.name} gives no gradient by {x.name} ({x.type}), which the function uses and does "
        "not take", "pass it as an argument", next((n.loc for n in rule.body if n.loc), node.loc))


def _arguments(node: Apply) -> tuple[Node, ...]:
    return node.operands[1:] if node.prim.name == "cond" else node.operands


def _branches(node: Apply) -> list[Graph]:
    if node.prim.name == "cond":
        return [node.attrs["then"], node.attrs["orelse"]]
    return [node.attrs["graph"]]


def _mentions(node: Apply, live: set[Node]) -> bool:
    return any(x in live for x in _arguments(node))


def _pad_results(graph: Graph, count: int, place: int, other: Graph) -> Graph:
    """A branch's forward half with `empty` values where the other branch puts its residuals."""
    with Builder(graph.name, map(copy_input, graph.inputs)) as b:
        parts = _parts(copy_body(b, graph, b.inputs))
        blanks = [control.empty(type=r.type) for r in other.results[count:]]
        own, mine = parts[:count], parts[count:]
        return b.finish(control.tuple(*own, *((mine + blanks) if place == 0 else (blanks + mine))))


def _answer(half: Halves, operands, place: int, wanted: tuple[int, ...], arguments) -> Graph:
    """A branch's backward half as a graph of both branches' operands, with zeros for the rest."""
    with Builder(half.bwd.name) as b:
        sides = [[b.input(x.type, f"r{k}.{i}") for i, x in enumerate(side)]
                 for k, side in enumerate(operands)]
        found = dict(zip(half.active, _parts(copy_body(b, half.bwd, sides[place])), strict=True))
        return b.finish(control.tuple(*(found[i] if i in found else _zero(arguments[i].type)
                                        for i in wanted)))
