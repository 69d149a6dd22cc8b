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
    while {body=g}, a call of a graph in itself, push, pop: see grad_loops.py, grad_halves.py
    cond p {then=g, orelse=h}              fwd: a cond of g.fwd and h.fwd, each giving also `empty`
                                           values in the other's residual places; bwd: a cond on
                                           the same p of g.bwd and h.bwd. What is not taken is free.

The residuals need no analysis: f.bwd is built by a second Builder, and a forward value that a rule
mentions there is *captured*, as any outside value is; of a view, what it looks at. A value is
active where a float depends on an active input; only active values get cotangents, and a structural
zero is None and never exists at run time; `masked.py` keeps those that a `select` makes. Everything
made is an ordinary graph, so it can be differentiated again.

Where a graph has loops, their residuals go on a tape: f.fwd takes one as its last input and gives
it, longer, as its last result; f.bwd takes that one and gives the first again (`Halves.taped`).
"""

from __future__ import annotations

from cellc.errors import TypeFault
from cellc.ir.graph import Apply, Builder, Graph, Node, fill, scalar
from cellc.ir.prims import control, tape
from cellc.ir.types import ScalarType, TapeType, TupleType
from cellc.passes import (
    cse,
    dead_code,
    grad_halves,
    grad_loops,
    grad_sizes,
    inline,
    prune,
    ranges,
    simplify,
)
from cellc.passes.activity import CONTROL, Activity, useful_items, useful_nodes
from cellc.passes.activity import arguments as _arguments
from cellc.passes.activity import branches as _branches
from cellc.passes.activity import float_results as _float_results
from cellc.passes.masked import Adjoint, expose, pull
from cellc.passes.rebuild import copy_body, copy_input, parts, renew, restricted
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
    taped: bool


def value_and_grad_graph(graph: Graph, wrt: tuple[int, ...], outputs: tuple[int, ...] = (0,),
                         sens: bool = False) -> Graph:
    """The graph (x...[, dy...]) -> (y..., dx...): all results of `graph`, then for each input
    listed in `wrt` the gradient of the sum of the results listed in `outputs`, each weighted by its
    further input dy where `sens` is set. Inputs that nothing depends on get zeros.

    TypeFault where an input or output asked for is no float.
    """
    check_floats("gradient", graph, wrt, outputs)
    graph = ready(graph)
    halves = halves_of(graph, wrt, outputs)
    with Builder(f"{graph.name}.grad", map(copy_input, graph.inputs)) as b:
        xs = list(b.inputs)
        seeds = [b.input(graph.results[i].type, f"sens.{i}") if sens
                 else _one(graph.results[i].type) for i in outputs]
        empty = [tape.tape_new()] if halves.taped else []
        values = parts(copy_body(b, halves.fwd, [*xs, *empty]))
        pool = {"input": xs, "result": values}
        by_output = dict(zip(outputs, seeds, strict=True))
        cotangents = parts(copy_body(b, halves.bwd, [
            *(by_output[i] for i in halves.seeds),
            *(pool[kind][i] for kind, i in halves.residuals), *values[-1:] * halves.taped]))
        if halves.taped:
            tape.tape_end(cotangents.pop())
        found = dict(zip(halves.active, cotangents, strict=True)) if halves.active else {}
        grads = [found[i] if found.get(i) is not None else zero(graph.inputs[i].type)
                 for i in wrt]
        result = b.finish(control.tuple(*values[: len(graph.results)], *grads))
    return tidy(result)


def ready(graph: Graph) -> Graph:
    """The graph as it is differentiated: what is not simplified yet would be kept twice, and each
    call that is not worth keeping would become two."""
    return prune.run(cse.run(simplify.run(ranges.run(inline.run(graph, keep_rules=True)))))


def halves_of(graph: Graph, wrt: tuple[int, ...], outputs: tuple[int, ...]) -> Halves:
    """The halves of a graph by the inputs `wrt`, from cotangents of the results `outputs`."""
    return Differentiator(graph).halves(graph, tuple(wrt), tuple(outputs))


def check_floats(what: str, graph: Graph, wrt: tuple[int, ...], outputs: tuple[int, ...]) -> None:
    """TypeFault where an input or a result to differentiate is no float."""
    for kind, nodes in (("argument", [graph.inputs[i] for i in wrt]),
                        ("result", [graph.results[i] for i in outputs])):
        for node in nodes:
            if isinstance(node.type, TupleType) or not node.type.dtype.is_float:
                raise TypeFault(f"the {what} needs a float {kind}, found {node.type}",
                                "cast it to a float, or differentiate by another argument")


def tidy(graph: Graph) -> Graph:
    """Inline, simplify, share and sweep, so that a gradient of a gradient starts from little."""
    return dead_code.run(prune.run(cse.run(simplify.run(inline.run(graph, keep_rules=True)))))


def _one(type):
    return scalar(1.0) if isinstance(type, ScalarType) else fill(type, 1)


def zero(type):
    """The cotangent of what nothing depends on; an empty tape for a tape."""
    if isinstance(type, TapeType):
        return tape.tape_new()
    return scalar(0.0) if isinstance(type, ScalarType) else fill(type, 0)


VIEWS = ("broadcast", "transpose", "reshape", "flip", "windows")     # of all elements


class _Backward(Builder):
    """A backward half under construction. Of a view of a forward value, the value is a residual:
    it is no larger, may be one anyway, and where it is the same in all rounds of a loop it need not
    be kept for each."""

    def __init__(self, name: str):
        super().__init__(name)
        self.views: dict[int, Node] = {}

    def capture(self, value) -> Node:
        if not isinstance(value, Apply) or value.prim.name not in VIEWS:
            return super().capture(value)
        if id(value) not in self.views:
            x = value.operands[0]
            self.views[id(value)] = self.append(renew(value, {x: self.lift(x)}))
        return self.views[id(value)]


class Differentiator(Activity):
    """The halves of every graph met, once for each set of active inputs and seeded results."""

    def __init__(self, graph: Graph):
        super().__init__(graph)
        self.graph = graph
        self.made: dict[tuple, tuple[Graph, Halves]] = {}
        self.rules: dict[tuple, tuple[Graph, tuple[Graph, list[int]]]] = {}

    def halves(self, graph: Graph, active: tuple[int, ...], seeds: tuple[int, ...],
               taped: bool = False) -> Halves:
        """`taped`: the halves take and give a tape, though they might need none."""
        seeds = tuple(i for i in seeds if i in self.active_results(graph, active))
        taped = taped or self.needs_tape(graph, active)
        key = (id(graph), active, seeds, taped)
        if key not in self.made:
            if id(graph) in self.themselves:
                grad_loops.make_recursive(self, key, graph, active, seeds)
            else:
                self.made[key] = (graph, self.make(graph, active, seeds, taped))
        return self.made[key][1]

    def make(self, graph: Graph, active: tuple[int, ...], seeds: tuple[int, ...],
             taped: bool) -> Halves:
        """The halves of a graph from those of the graphs it uses."""
        outermost, graph = graph is self.graph, expose(graph)
        live = self.active_nodes(graph, active)
        live &= useful_nodes(graph, live, seeds)
        asked = useful_items(graph, seeds)
        fwd = Builder(f"{graph.name}.fwd", map(copy_input, graph.inputs))
        inputs = {id(x): i for i, x in enumerate(fwd.inputs)}
        env: dict[Node, Node] = dict(zip(graph.inputs, fwd.inputs, strict=True))
        backward: dict[Node, object] = {}
        kept: dict[Node, list[Node]] = {}
        with fwd:
            self.tape = fwd.input(tape.TAPE, "tape") if taped else None
            for node in graph.body:
                if "bwd" in node.attrs and _mentions(node, live):
                    env[node], kept[node] = self._forward_rule(fwd, node, env)
                elif node.prim.name in CONTROL and node in live:
                    env[node], backward[node] = self._forward_control(node, env, live, asked)
                else:
                    env[node] = fwd.append(renew(node, env))
            longer = self.tape
        with _Backward(f"{graph.name}.bwd") as bwd:
            cotangents = Cotangents()
            for i in seeds:
                cotangents.add(graph.results[i], bwd.input(graph.results[i].type, f"d{i}"))
            given = self.tape = bwd.input(tape.TAPE, "tape") if taped else None
            for node in reversed(graph.body):
                bwd.loc = node.loc and node.loc.in_gradient()
                if node in kept:
                    self._backward_rule(node, live, cotangents, kept[node])
                else:
                    self._backward(node, env, live, cotangents, backward)
            answers = [cotangents.get(graph.inputs[i]) for i in active]
            answered = tuple(i for i, a in zip(active, answers, strict=True) if a is not None)
            result = control.tuple(*(a for a in answers if a is not None), *[self.tape] * taped)
            if taped:
                bwd.inputs.remove(given)
                bwd.inputs.append(given)
            bwd_graph = dead_code.run(bwd.finish(result))
        used = {x for node in bwd_graph.body for x in node.operands}
        dead = {x for _, x in bwd.captured.values() if x not in used}   # rules ask for too much
        bwd_graph = Graph(bwd_graph.name, [x for x in bwd_graph.inputs if x not in dead],
                          bwd_graph.body, bwd_graph.result)
        results = [env.get(r, r) for r in graph.results]
        residuals = []
        for value, x in bwd.captured.values():
            if x in dead:
                continue
            if id(value) in inputs:
                residuals.append(("input", inputs[id(value)]))
            else:
                residuals.append(("result", len(results)))
                results.append(value)
        with fwd:
            fwd_graph = fwd.finish(control.tuple(*results, *[longer] * taped))
        made = Halves(fwd_graph, bwd_graph, tuple(residuals), seeds, answered, taped)
        return made if outermost else grad_sizes.on_tape(graph, made)

    # -- one node backwards --------------------------------------------------------------------
    def _backward(self, node: Apply, env, live, cotangents: Cotangents, backward) -> None:
        name = node.prim.name
        if name == "tuple":
            for i, x in enumerate(node.operands):
                if x in live:
                    cotangents.put(x, cotangents.sums.get((node, i)))
        elif name == "item":
            if node in live:
                cotangents.put((node.operands[0], node.attrs["index"]), cotangents.sums.get(node))
        elif isinstance(backward.get(node), grad_halves.Checkpointed):
            grad_halves.backward(self, node, cotangents, backward[node])
        elif isinstance(backward.get(node), grad_loops.Loop):
            grad_loops.backward(self, node, cotangents, backward[node])
        elif node in backward:
            self._backward_control(node, cotangents, backward[node])
        elif name in grad_loops.TAPE_RULES:
            grad_loops.TAPE_RULES[name](node, env, live, cotangents)
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
        return value, kept_for_rule(value)

    def _backward_rule(self, node: Apply, live, cotangents: Cotangents, kept: list[Node]) -> None:
        many, floats = isinstance(node.type, TupleType), _float_results(node)
        given = [cotangents.get((node, i) if many else node) for i in floats]
        if all(g is None for g in given):
            return
        bwd, wrt = node.attrs["bwd"], node.attrs["wrt"]
        for i, x in enumerate(node.operands):
            if x in live and i not in wrt:
                raise no_gradient(node, x)
        types = [node.attrs["graph"].results[i].type for i in floats]
        dys = [zero(t) if g is None else g for g, t in zip(given, types, strict=True)]
        wanted = tuple(k for k, i in enumerate(wrt) if node.operands[i] in live)
        key = (id(bwd), wanted)
        if key not in self.rules:
            self.rules[key] = (bwd, restricted(bwd, wanted))
        rule, used = self.rules[key][1]
        result = control.call(*([*kept, *dys][i] for i in used), graph=rule)
        for position, k in enumerate(wanted):
            cotangents.add(node.operands[wrt[k]], control.item(result, index=position))

    # -- call and cond -------------------------------------------------------------------------
    def _forward_control(self, node: Apply, env, live, asked):
        """Append the forward half of a call, cond or while; returns its value and what `bwd` will
        need."""
        if node.prim.name == "while":
            kept = grad_halves if node.attrs.get("checkpoint") == "log" else grad_loops
            return kept.forward(self, node, env, live)
        arguments = [env.get(x, x) for x in _arguments(node)]
        active = tuple(i for i, x in enumerate(_arguments(node)) if x in live)
        graphs = _branches(node)
        count, many = len(graphs[0].results), isinstance(node.type, TupleType)
        seeds = tuple(i for i in range(count) if ((node, i) if many else node) in asked
                      and any(i in self.active_results(g, active) for g in graphs))
        taped = any(self.needs_tape(g, active) for g in graphs)
        outer = self.tape
        halves = [self.halves(g, active, seeds, taped) for g in graphs]
        given = [*arguments, *[outer] * taped]
        if node.prim.name == "call":
            predicate = None
            value = control.call(*given, graph=halves[0].fwd)
        else:
            predicate = env.get(node.operands[0], node.operands[0])
            value = control.cond(predicate, *given, then=_padded(halves, count, 0),
                                 orelse=_padded(halves, count, 1))
        items = control.items(value)
        self.tape = items.pop() if taped else outer
        residuals, start = [], 0
        for h in halves:
            residuals.append([arguments[i] if kind == "input" else items[start + i]
                              for kind, i in h.residuals])
            start += len(h.fwd.results) - count - taped
        own = items[:count]
        shown = control.tuple(*own) if many else own[0]
        return shown, _Control(predicate, arguments, halves, seeds, residuals, own)

    def _backward_control(self, node: Apply, cotangents: Cotangents, c: _Control) -> None:
        many = isinstance(node.type, TupleType)
        given = {i: cotangents.get((node, i) if many else node) for i in c.seeds}
        taped = c.halves[0].taped
        if all(g is None for g in given.values()) and not taped:
            return
        dys = {i: g if g is not None else zero(c.own[i].type) for i, g in given.items()}
        operands = [[*(dys[i] for i in h.seeds), *r]
                    for h, r in zip(c.halves, c.residuals, strict=True)]
        outer = [self.tape] * taped
        if c.predicate is None:
            wanted = c.halves[0].active
            result = control.call(*operands[0], *outer, graph=c.halves[0].bwd)
        else:
            wanted = tuple(sorted({i for h in c.halves for i in h.active}))
            together = list(dict.fromkeys(operands[0] + operands[1]))   # a tape goes in once
            then, orelse = (_answer(h, together, own, wanted, c.arguments)
                            for h, own in zip(c.halves, operands, strict=True))
            result = control.cond(c.predicate, *together, *outer, then=then, orelse=orelse)
        items = control.items(result)
        for i, dx in zip(wanted, items, strict=False):
            cotangents.add(_arguments(node)[i], dx)
        if taped:
            self.tape = items[-1]


@record(frozen=True)
class _Control:
    """The forward half of a call (one half, no predicate) or cond (two), for its backward half."""

    predicate: Node | None
    arguments: list[Node]
    halves: list[Halves]
    seeds: tuple[int, ...]
    residuals: list[list[Node]]
    own: list[Node]          # the results that the original node had


class Cotangents:
    """The sum of the contributions to each node's cotangent; for tuples, keyed by (node, index)."""

    def __init__(self):
        self.sums: dict[object, Adjoint] = {}

    def put(self, key, adjoint: Adjoint | None) -> None:
        if adjoint is not None:
            if key in self.sums and isinstance(adjoint.value.type, TapeType):
                raise tape.used_twice()
            self.sums[key] = self.sums[key].plus(adjoint) if key in self.sums else adjoint

    def add(self, key, value) -> None:
        self.put(key, None if value is None else Adjoint(value))

    def get(self, key):
        found = self.sums.get(key)
        return None if found is None else found.clean()


def kept_for_rule(call: Apply) -> list[Node]:
    """What the rule of a call takes before the cotangents."""
    count = len(call.attrs["graph"].results)
    if "fwd" in call.attrs:
        both = control.call(*call.operands, graph=call.attrs["fwd"])
        return [control.item(both, index=i) for i in range(count, len(call.attrs["fwd"].results))]
    own = [control.item(call, index=i) for i in range(count)] if isinstance(
        call.type, TupleType) else [call]
    return [*call.operands, *own]


def no_gradient(node: Apply, x: Node) -> TypeFault:
    rule = node.attrs["bwd"]
    return TypeFault(
        f"{rule.name} gives no gradient by {x.name} ({x.type}), which the function uses and does "
        "not take", "pass it as an argument", next((n.loc for n in rule.body if n.loc), node.loc))


def _mentions(node: Apply, live: set[Node]) -> bool:
    return any(x in live for x in _arguments(node))


def _padded(halves: list[Halves], count: int, place: int) -> Graph:
    """A branch's forward half with `empty` values where the other branch puts its residuals."""
    graph, other = halves[place].fwd, halves[1 - place].fwd
    with Builder(graph.name, map(copy_input, graph.inputs)) as b:
        found = parts(copy_body(b, graph, b.inputs))
        longer = [found.pop()] if halves[0].taped else []
        end = len(other.results) - len(longer)
        blanks = [control.empty(type=r.type) for r in other.results[count:end]]
        own, mine = found[:count], found[count:]
        return b.finish(control.tuple(*own, *((mine + blanks) if place == 0 else (blanks + mine)),
                                      *longer))


def _answer(half: Halves, together: list[Node], own: list[Node], wanted: tuple[int, ...],
            arguments) -> Graph:
    """A branch's backward half as a graph of both branches' operands, with zeros for the rest."""
    with Builder(half.bwd.name) as b:
        inputs = {x: b.input(x.type, f"r{i}") for i, x in enumerate(together)}
        outer = [b.input(tape.TAPE, "tape")] if half.taped else []
        answers = parts(copy_body(b, half.bwd, [*(inputs[x] for x in own), *outer]))
        longer = [answers.pop()] if half.taped else []
        found = dict(zip(half.active, answers, strict=True))
        return b.finish(control.tuple(*(found[i] if i in found else zero(arguments[i].type)
                                        for i in wanted), *longer))
