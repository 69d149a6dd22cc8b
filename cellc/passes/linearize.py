"""linearize: a derivative in two steps, so that the second can be repeated without the first.

For a graph f : (x...) -> (y...), inputs to differentiate by and results to differentiate:

    linearize_graphs    f.early : (x...) -> (y..., r...)     f.late : (dx..., r...) -> (dy...)
    vjp_graphs          f.fwd   : (x...) -> (y..., r...)     f.bwd  : (dy..., r...) -> (dx...)

The second pair is `grad`'s. The first is f.jvp (see `jvp`), split into what does not depend on dx
and what does. What is generated, by kind of node of f.jvp:

    one that depends on no dx              early: the same apply.
    one that does                          late: the same apply; the early values it mentions are
                                           captured, and so become residuals.
    call g                                 early: call g.early, late: call g.late.
    cond p {then=g, orelse=h}, p early     a cond on p both times; early it gives also `empty`
                                           values in the other branch's residual places.
    while, test early                      early: the loop of the part of the state that is early;
                                           late: the whole loop again, since what each round leaves
                                           would take a tape, which can be read but once.

Where even the results of f are late (a graph that calls itself), and where there are tapes, nothing
is kept, and the second graph begins from the inputs: it is then f.jvp, or fwd and bwd together.
"""

from __future__ import annotations

from cellc.ir.graph import Apply, Builder, Graph, Node, calling_themselves, fill
from cellc.ir.prims import control
from cellc.ir.types import TapeType, TupleType
from cellc.passes import dead_code, prune
from cellc.passes.grad import check_floats, halves_of, ready, tidy, value_and_grad_graph
from cellc.passes.jvp import jvp_graph
from cellc.passes.rebuild import copy_body, copy_input, parts, renew
from cellc.record import record


@record(frozen=True)
class Split:
    """Two graphs instead of one.

    `early` gives its own results, `count` of them, and then the residuals that are not inputs.
    `residuals` says where each further input of `late` comes from: ("input", i), counted among the
    inputs of `early`, or ("result", j).
    """

    early: Graph
    late: Graph
    residuals: tuple[tuple[str, int], ...]
    count: int


def linearize_graphs(graph: Graph, wrt: tuple[int, ...], outputs: tuple[int, ...]) -> Split:
    """early : (x...) -> (y..., r...), late : (dx..., r...) -> (dy...): dx for each input in `wrt`,
    dy for each result in `outputs`, zeros where it does not depend on them."""
    pushed = jvp_graph(graph, wrt, outputs)
    n, count = len(graph.inputs), len(graph.results)
    late = tuple(i >= n for i in range(len(pushed.inputs)))
    splitter = _Splitter(pushed)
    if _has_tapes(pushed) or any(splitter.late_results(pushed, late)[:count]):
        return _begun_anew(graph, pushed)
    results = tuple(i >= count for i in range(count + len(outputs)))
    return _tidied(splitter.split(pushed, late, results))


def _has_tapes(graph: Graph) -> bool:
    return any(isinstance(node.type, TapeType) for g in graph.reachable() for node in g.body)


def _begun_anew(graph: Graph, whole: Graph) -> Split:
    """`graph` as it is, and as the late graph all of `whole` : (x..., v...) -> (y..., w...)."""
    n, count = len(graph.inputs), len(graph.results)
    with Builder(whole.name) as b:
        given = [b.input(x.type, x.name) for x in whole.inputs[n:]]
        xs = [b.input(x.type, x.name) for x in whole.inputs[:n]]
        found = parts(copy_body(b, whole, [*xs, *given]))
        late = b.finish(control.tuple(*found[count:]))
    with Builder(graph.name, map(copy_input, graph.inputs)) as b:
        early = b.finish(control.tuple(*parts(copy_body(b, graph, b.inputs))))
    residuals = tuple(("input", i) for i in range(n))
    return Split(early, dead_code.run(prune.run(late)), residuals, count)


def vjp_graphs(graph: Graph, wrt: tuple[int, ...], outputs: tuple[int, ...]) -> Split:
    """early : (x...) -> (y..., r...), late : (dy..., r...) -> (dx...): dy for each result in
    `outputs`, dx for each input in `wrt`, zeros where nothing depends on it."""
    check_floats("gradient", graph, wrt, outputs)
    graph = ready(graph)
    halves, n = halves_of(graph, wrt, outputs), len(graph.results)
    if halves.taped:
        return _begun_anew(graph, value_and_grad_graph(graph, wrt, outputs, sens=True))
    with Builder(halves.bwd.name) as b:
        given = {i: b.input(graph.results[i].type, f"d{i}") for i in outputs}
        rest = [b.input(x.type, x.name) for x in halves.bwd.inputs[len(halves.seeds):]]
        found = parts(copy_body(b, halves.bwd, [*(given[i] for i in halves.seeds), *rest]))
        by_input = dict(zip(halves.active, found, strict=True)) if halves.active else {}
        late = b.finish(control.tuple(*(
            by_input[i] if i in by_input else fill(graph.inputs[i].type, 0) for i in wrt)))
    return _tidied(Split(halves.fwd, late, halves.residuals, n))


def _tidied(split: Split) -> Split:
    return Split(tidy(split.early), tidy(split.late), split.residuals, split.count)


class _Splitter:
    """The two graphs of every graph met, once for each choice of late inputs and results."""

    def __init__(self, graph: Graph):
        self.themselves = calling_themselves(graph.reachable())
        self.made: dict[tuple, tuple[Graph, Split]] = {}
        self.lateness: dict[tuple, tuple[Graph, set]] = {}

    def split(self, graph: Graph, late: tuple[bool, ...], results: tuple[bool, ...]) -> Split:
        """`results`: which of them the late graph gives; all that are late must be among them."""
        key = (id(graph), late, results)
        if key not in self.made:
            self.made[key] = (graph, _Halving(self, graph, late).run(results))
        return self.made[key][1]

    def late_results(self, graph: Graph, late: tuple[bool, ...]) -> tuple[bool, ...]:
        found = self.late_nodes(graph, late)
        return tuple(r in found for r in graph.results)

    def late_nodes(self, graph: Graph, late: tuple[bool, ...]) -> set:
        """What depends on late inputs; an item of a tuple is (node, index)."""
        key = (id(graph), late)
        if key in self.lateness:
            return self.lateness[key][1]
        found: set = {x for x, is_late in zip(graph.inputs, late, strict=True) if is_late}
        for node in graph.body:
            name = node.prim.name
            if name == "tuple":
                found.update((node, i) for i, x in enumerate(node.operands) if x in found)
            elif name == "item":
                if (node.operands[0], node.attrs["index"]) in found:
                    found.add(node)
            elif any(x in found for x in node.operands):
                which = self.of_control(node, found)
                if isinstance(node.type, TupleType):
                    found.update((node, i) for i in range(len(node.type.items))
                                 if which is None or which[i])
                elif which is None or which[0]:
                    found.add(node)
        self.lateness[key] = (graph, found)
        return found

    def of_control(self, node: Apply, late: set) -> tuple[bool, ...] | None:
        """Which results of a late apply of graphs are late; None for all: it is not split."""
        name, operands = node.prim.name, tuple(x in late for x in node.operands)
        if name == "while":
            n, flags = control.state_size(node), self.in_rounds(node, operands)
            return None if self.late_results(node.attrs["test"], flags)[0] else flags[:n]
        if "bwd" in node.attrs or not (name == "call" or (name == "cond" and not operands[0])):
            return None
        if name == "call" and id(node.attrs["graph"]) in self.themselves:
            return None
        operands = operands[1 if name == "cond" else 0:]
        each = [self.late_results(g, operands) for g in node.attrs.values()]
        return tuple(map(any, zip(*each, strict=True)))

    def in_rounds(self, node: Apply, operands: tuple[bool, ...]) -> tuple[bool, ...]:
        """Which operands of a loop are late in any round."""
        n = control.state_size(node)
        while True:
            found = self.late_results(node.attrs["body"], operands)
            more = (*map(any, zip(operands[:n], found, strict=True)), *operands[n:])
            if more == operands:
                return operands
            operands = more


class _Halving:
    """One graph being split: both builders, and what each node has become."""

    def __init__(self, splitter: _Splitter, graph: Graph, late: tuple[bool, ...]):
        self.splitter, self.graph, self.is_late = splitter, graph, late
        self.late_nodes = splitter.late_nodes(graph, late)
        self.early, self.late = Builder(f"{graph.name}.early"), Builder(f"{graph.name}.late")
        self.env: dict = {}         # by node, and by (node, index) for the items of a tuple
        for x, is_late in zip(graph.inputs, late, strict=True):
            builder = self.late if is_late else self.early
            self.env[x] = builder.input(x.type, x.name, x.loc)

    def run(self, results: tuple[bool, ...]) -> Split:
        for node in self.graph.body:
            self.early.loc = self.late.loc = node.loc
            self._node(node)
        values = [self.env.get(r, r) for r in self.graph.results]
        with self.late:
            late_graph = self.late.finish(control.tuple(
                *(y for y, is_late in zip(values, results, strict=True) if is_late)))
        own = [y for y, is_late in zip(values, results, strict=True) if not is_late]
        inputs = {id(x): i for i, x in enumerate(self.early.inputs)}
        residuals, given = [], list(own)
        for value, _ in self.late.captured.values():
            if id(value) in inputs:
                residuals.append(("input", inputs[id(value)]))
            else:
                residuals.append(("result", len(given)))
                given.append(value)
        with self.early:
            early_graph = self.early.finish(control.tuple(*given))
        return Split(early_graph, late_graph, tuple(residuals), len(own))

    def _node(self, node: Apply) -> None:
        name, env = node.prim.name, self.env
        if name == "tuple":
            env.update({(node, i): env.get(x, x) for i, x in enumerate(node.operands)})
        elif name == "item":
            env[node] = env[node.operands[0], node.attrs["index"]]
        elif not any(x in self.late_nodes for x in node.operands):
            with self.early:
                self._keep(node, self.early.append(renew(node, env)))
        elif (results := self.splitter.of_control(node, self.late_nodes)) is not None:
            (self._split_loop if name == "while" else self._split)(node, results)
        else:
            with self.late:
                self._keep(node, self.late.apply(
                    node.prim, [env.get(x, x) for x in node.operands], node.attrs, node.name))

    def _keep(self, node: Apply, value: Node) -> None:
        """What a node has become; a tuple is taken apart at once."""
        self.env[node] = value
        if isinstance(node.type, TupleType):
            self.env.update({(node, i): control.item(value, index=i)
                             for i in range(len(node.type.items))})

    def _split_loop(self, node: Apply, results: tuple[bool, ...]) -> None:
        """The loop of its early state, and the whole loop for the rest."""
        flags = self.splitter.in_rounds(node, tuple(x in self.late_nodes for x in node.operands))
        operands = [self.env.get(x, x) for x in node.operands]
        half = self.splitter.split(node.attrs["body"], flags, results)
        if half.count:
            asked = self.splitter.split(node.attrs["test"], flags, (False,))
            body, test = (_first(h.early, n) for h, n in ((half, half.count), (asked, None)))
            with self.early:
                value = node.prim(*(x for x, is_late in zip(operands, flags, strict=True)
                                    if not is_late), **node.attrs | {"test": test, "body": body})
                own = iter([control.item(value, index=i) for i in range(half.count)])
        with self.late:
            whole = self.late.apply(node.prim, operands, node.attrs, node.name)
            if not isinstance(node.type, TupleType):
                self.env[node] = whole
                return
            for i, is_late in enumerate(results):
                self.env[node, i] = control.item(whole, index=i) if is_late else next(own)

    def _split(self, node: Apply, results: tuple[bool, ...]) -> None:
        """A call in two calls, or a cond on an early choice in two conds."""
        first = 1 if node.prim.name == "cond" else 0
        outside = node.operands[first:]
        operands = [self.env.get(x, x) for x in outside]
        late = tuple(x in self.late_nodes for x in outside)
        halves = [self.splitter.split(g, late, results) for g in node.attrs.values()]
        early = [x for x, is_late in zip(operands, late, strict=True) if not is_late]
        chosen = [self.env.get(x, x) for x in node.operands[:first]]
        with self.early:
            graphs = [_padded(h, i, halves) for i, h in enumerate(halves)]
            value = node.prim(*chosen, *early, **dict(zip(node.attrs, graphs, strict=True)))
            items = [control.item(value, index=i) for i in range(len(value.type.items))]
        residuals, start = [], 0
        for h in halves:
            residuals += [early[i] if kind == "input" else items[start + i]
                          for kind, i in h.residuals]
            start += len(h.early.results) - h.count
        with self.late:
            graphs = [_among(h, i, halves) for i, h in enumerate(halves)]
            shown = [x for x, is_late in zip(operands, late, strict=True) if is_late]
            value = node.prim(*chosen, *shown, *residuals,
                              **dict(zip(node.attrs, graphs, strict=True)))
            found = iter([control.item(value, index=i) for i in range(len(value.type.items))])
        own = iter(items)
        values = [next(found) if is_late else next(own) for is_late in results]
        if isinstance(node.type, TupleType):
            self.env.update({(node, i): y for i, y in enumerate(values)})
        else:
            self.env[node] = values[0]


def _first(graph: Graph, n: int | None) -> Graph:
    """The graph with its first n results only; None for the first alone, in no tuple."""
    with Builder(graph.name, map(copy_input, graph.inputs)) as b:
        found = parts(copy_body(b, graph, b.inputs))
        return dead_code.run(b.finish(found[0] if n is None else control.tuple(*found[:n])))


def _padded(half: Split, place: int, halves: list[Split]) -> Graph:
    """The early graph of one branch, with `empty` values for the residuals of the other."""
    if len(halves) == 1:
        return half.early
    with Builder(half.early.name, map(copy_input, half.early.inputs)) as b:
        found = parts(copy_body(b, half.early, b.inputs))
        given = found[:half.count]
        for i, h in enumerate(halves):
            given += found[half.count:] if i == place else [
                control.empty(type=r.type) for r in h.early.results[h.count:]]
        return b.finish(control.tuple(*given))


def _among(half: Split, place: int, halves: list[Split]) -> Graph:
    """The late graph of one branch, as a graph that also takes the residuals of the other."""
    if len(halves) == 1:
        return half.late
    n = len(half.late.inputs) - len(half.residuals)
    with Builder(half.late.name, map(copy_input, half.late.inputs[:n])) as b:
        shown, own = list(b.inputs), []
        for i, h in enumerate(halves):
            taken = [b.input(x.type, f"r{i}.{k}") for k, x in enumerate(h.late.inputs[n:])]
            own = taken if i == place else own
        return b.finish(copy_body(b, half.late, [*shown, *own]))
