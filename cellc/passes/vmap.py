"""vmap: a graph on many lanes at once, graph to graph.

For a graph f : (x...) -> (y...) and a choice of inputs that have lanes, one closed graph is made:

    f.lanes : (x...) -> (y...)      chosen inputs, and the results that depend on them, have the n
                                    lanes as a new first axis; a number of each lane is a tensor

What is generated, by kind of node:

    elementwise, reduce, view, kernel      its record's `batch`, where an operand has lanes; else
                                           the same apply: what all lanes share is computed once.
    tuple, item, call g                    item by item; a call of g.lanes. Of a g that calls itself
                                           all results have lanes. A rule of a call's own for its
                                           gradient is batched with it.
    cond p, p shared by all lanes          the same cond, of both branches' graphs with lanes.
    cond p, p a choice of each lane        both branches, and a select between their results:
        %t = cond(any(p), ...) {then=@g.some, orelse=@g.none}
        %e = cond(any(not p), ...) {then=@h.some, orelse=@h.none}
        %y = select(p, %t, %e)

    while, test shared by all lanes        the same loop, of test and body with lanes.
    while, test of each lane               see `uneven` and `lane_pool`.
    push, pop                              the same; what is on a tape has lanes if in any push of
                                           values of these types it has.
    check                                  of the first lane in which it does not hold.

A branch that no lane takes does not run. Inside of `g.some`, the lanes that do not take the branch
compute on the values of one that does: so they cannot fault (an index that `if i < n` guards) nor
make a NaN, which a gradient of the select would multiply by zero. A branch of few operations that
can do neither (`_HARMLESS`) is computed for all lanes, without these precautions.
"""

from __future__ import annotations

from cellc.errors import SyntaxFault
from cellc.ir.graph import Apply, Builder, Graph, Input, Node, fill
from cellc.ir.prims import control, effect, elementwise, gather, reduce, shape, tape
from cellc.ir.prims.rules import choose, spread
from cellc.ir.types import ScalarType, TapeType, TensorType, TupleType, boolean, i32, i64
from cellc.passes import inline, lane_pool, uneven
from cellc.passes.activity import float_results
from cellc.passes.grad import tidy
from cellc.passes.rebuild import copy_body, copy_input, parts, renew, seal
from cellc.passes.uneven import Lanes, Uneven, with_lanes

# Finite for all finite operands, or nearly; never a fault.
_HARMLESS = frozenset([
    "neg", "abs", "sign", "add", "sub", "mul", "min", "max", "select", "cast", "stop_gradient",
    "eq", "ne", "lt", "le", "gt", "ge", "is_finite", "bit_not", "bit_and", "bit_or", "bit_xor",
    "tanh", "logistic", "erf", "erfc", "sin", "cos", "floor", "ceil", "round", "trunc", "reshape",
    "transpose", "broadcast", "flip", "slice", "from_scalar", "to_scalar", "iota", "reduce_sum",
    "reduce_max", "reduce_min", "tuple", "item",
])
_FEW = 32       # applies


def batch_graph(graph: Graph, lanes: tuple[bool, ...], n) -> Lanes:
    """`graph` on n lanes: input i has them as its first axis where `lanes[i]`."""
    for inner in graph.reachable():
        for node in inner.body:
            if node.prim.name == "show":
                raise SyntaxFault("a print in a function that is vmapped",
                                  "return the value, and print it outside").at(node.loc)
    batcher = Batcher(n)
    while True:         # until it is known which values on tapes have lanes
        known = dict(batcher.taped)
        made = batcher.batch(graph, lanes)
        if batcher.taped == known:
            return Lanes(tidy(made.graph), made.results)
        batcher.made.clear()


class Batcher:
    """f.lanes of every graph met, once for each choice of inputs."""

    def __init__(self, n):
        self.n = n
        self.made: dict[tuple, tuple[Graph, Lanes]] = {}
        self.begun: dict[tuple, tuple[list, Graph | None]] = {}     # inputs, and the declaration
        self.taped: dict[tuple, tuple[bool, ...]] = {}      # by their types: which values on tapes

    def batch(self, graph: Graph, lanes: tuple[bool, ...]) -> Lanes:
        key = (id(graph), lanes)
        if key in self.begun:                   # a call of the graph in itself
            inputs, declared = self.begun[key]
            if declared is None:
                types = [r.type if _is_tape(r) else with_lanes(self.n, r.type)
                         for r in graph.results]
                declared = Graph.declare(
                    f"{graph.name}.lanes", inputs,
                    TupleType(tuple(types)) if isinstance(graph.type, TupleType) else types[0])
                self.begun[key] = inputs, declared
            return Lanes(declared, _all_lanes(graph))
        if key not in self.made:
            self.made[key] = (graph, self._attempt(graph, lanes, key))
        return self.made[key][1]

    def _attempt(self, graph: Graph, lanes: tuple[bool, ...], key) -> Lanes:
        """The graph with lanes, or a loop over them where tapes cannot be kept together."""
        try:
            return self._make(graph, lanes, key)
        except Uneven:
            self.begun.pop(key, None)
            if any(map(_is_tape, (*graph.inputs, *graph.results))):
                raise
            return uneven.in_order(graph, lanes, self.n)

    def inputs(self, inputs, lanes) -> list[Input]:
        """Inputs like these, with lanes where chosen."""
        return [Input(with_lanes(self.n, x.type) if own else x.type, x.name, x.loc)
                for x, own in zip(inputs, lanes, strict=True)]

    def spread(self, values, have, want) -> list[Node]:
        """The values, those with lanes that are to have them and have not."""
        return [spread(self.n, x) if wanted and not has else x
                for x, has, wanted in zip(values, have, want, strict=True)]

    def _make(self, graph: Graph, lanes: tuple[bool, ...], key) -> Lanes:
        with Builder(f"{graph.name}.lanes", self.inputs(graph.inputs, lanes)) as b:
            self.begun[key] = b.inputs, None
            env: dict[Node, Node] = dict(zip(graph.inputs, b.inputs, strict=True))
            laned: set = {x for x, own in zip(graph.inputs, lanes, strict=True) if own}
            for node in graph.body:
                b.loc = node.loc
                self._node(b, node, env, laned)
            results = [env.get(r, r) for r in graph.results]
            own = tuple(r in laned for r in graph.results)
            _, declared = self.begun.pop(key)
            if declared is None:
                return Lanes(seal(b, results, graph), own)
            every = _all_lanes(graph)
            made = seal(b, self.spread(results, own, every), graph)
            return Lanes(declared.define(made.body, made.result), every)

    def _node(self, b: Builder, node: Apply, env, laned: set) -> None:
        """Append what an apply becomes; an item of a tuple with lanes is (node, index) in `laned`.
        """
        name = node.prim.name
        operands = [env.get(x, x) for x in node.operands]
        own = tuple(x in laned for x in node.operands)
        if name == "item":
            env[node] = control.item(*operands, **node.attrs)
            if (node.operands[0], node.attrs["index"]) in laned:
                laned.add(node)
        elif name == "tuple":
            env[node] = control.tuple(*operands)
            laned.update((node, i) for i, has in enumerate(own) if has)
        elif name == "empty" and not isinstance(node.type, (TupleType, TapeType)):
            env[node] = fill(node.type, 0)      # other lanes may read it, and throw away the result
        elif not any(own) and (name == "tape_end" or not any(map(_is_tape, operands))):
            env[node] = b.append(renew(node, env))
        elif name in _OF_ONE_LANE:
            raise Uneven
        elif name in _CONTROL:
            rule = Batcher._rule if "bwd" in node.attrs else _CONTROL[name]
            env[node], results = rule(self, node, operands, own)
            if isinstance(node.type, TupleType):
                laned.update((node, i) for i, has in enumerate(results) if has)
            elif results[0]:
                laned.add(node)
        else:
            env[node] = node.prim.batch(self.n, own, *operands, **node.attrs)
            laned.add(node)

    # -- call and cond -------------------------------------------------------------------------
    def _call(self, node: Apply, operands, own):
        inner = self.batch(node.attrs["graph"], own)
        return control.call(*operands, graph=inner.graph), inner.results

    def _cond(self, node: Apply, operands, own):
        branches = [node.attrs["then"], node.attrs["orelse"]]
        if own[0] and any(map(_is_tape, (*node.operands, *branches[0].results))):
            raise Uneven
        inner = [self.batch(g, own[1:]) for g in branches]
        if not own[0]:
            results = tuple(map(any, zip(*(m.results for m in inner), strict=True)))
            then, orelse = (self.evened(m, results) for m in inner)
            return control.cond(*operands, then=then, orelse=orelse), results
        chosen, *xs = operands
        masks = [chosen, elementwise.bit_not(chosen)]
        values = [self._branch(m, g, mask, xs, own[1:])
                  for m, g, mask in zip(inner, branches, masks, strict=True)]
        picked = [choose(chosen, x, y) for x, y in zip(*values, strict=True)]
        value = control.tuple(*picked) if isinstance(node.type, TupleType) else picked[0]
        return value, (True,) * len(picked)

    def evened(self, made: Lanes, results: tuple[bool, ...]) -> Graph:
        """The graph of `made`, giving lanes of all results in `results`."""
        if made.results == results:
            return made.graph
        graph = made.graph
        with Builder(graph.name, self.inputs(graph.inputs, [False] * len(graph.inputs))) as b:
            found = parts(copy_body(b, graph, b.inputs))
            return seal(b, self.spread(found, made.results, results), graph)

    # -- a call with a rule of its own ---------------------------------------------------------
    def _rule(self, node: Apply, operands, own):
        """The call and its rule; all results, and what the rule is given of them, have lanes."""
        attrs, count = node.attrs, len(node.attrs["graph"].results)
        floats, every = float_results(node), (True,) * count
        whole = self.evened(self.batch(attrs["graph"], own), every)
        if "fwd" in attrs:
            made = self.batch(attrs["fwd"], own)
            kept = made.results[count:]
            more = {"fwd": self.evened(made, every + kept)}
        else:
            kept, more = (*own, *every), {}
        bwd = self.batch(attrs["bwd"], (*kept, *(True for _ in floats)))
        wanted = tuple(own[i] for i in attrs["wrt"])
        with Builder(bwd.graph.name, map(copy_input, bwd.graph.inputs)) as b:
            found = parts(copy_body(b, bwd.graph, b.inputs))
            answers = [self._answer(dx, has, want, node.operands[i].type) for dx, has, want, i in
                       zip(found, bwd.results, wanted, attrs["wrt"], strict=True)]
            more["bwd"] = b.finish(control.tuple(*answers))
        return control.call(*operands, graph=whole, wrt=attrs["wrt"], **more), every

    def _answer(self, dx: Node, has: bool, want: bool, type):
        """A cotangent of the operand: what all lanes share gets the sum over them."""
        if has == want:
            return dx
        if want:
            return spread(self.n, dx)
        total = reduce.reduce_sum(dx, axes=(0,))
        return shape.to_scalar(total) if isinstance(type, ScalarType) else total

    # -- while, tapes, check -------------------------------------------------------------------
    def _while(self, node: Apply, operands, own):
        n, test, body = control.state_size(node), node.attrs["test"], node.attrs["body"]
        lanes = own
        while True:         # a round may give lanes to more of the state
            made = self.batch(body, lanes)
            more = (*map(any, zip(lanes[:n], made.results, strict=True)), *lanes[n:])
            if more == lanes:
                break
            lanes = more
        asked = self.batch(test, lanes)
        if asked.results[0]:
            if any(map(_is_tape, node.operands)):
                raise Uneven
            return self._uneven(node, operands, own)
        graphs = {"test": asked.graph, "body": self.evened(made, lanes[:n])}
        value = control.while_(*self.spread(operands, own, lanes), **node.attrs | graphs)
        return value, lanes[:n]

    def _uneven(self, node: Apply, operands, own):
        """A loop that each lane leaves at a time of its own: many in step, or one after another."""
        n = control.state_size(node)
        test, body = (inline.run(node.attrs[key], keep_rules=True) for key in ("test", "body"))
        width = lane_pool.seats(node, test, body, self.n)
        if not width:
            return uneven.loop(node, operands, own, self.n)
        lanes = (*(True for _ in range(n)), *own[n:])
        seats = Batcher(width)
        body = seats.evened(seats.batch(body, lanes), (True,) * n)
        test = seats.evened(seats.batch(test, lanes), (True,))
        found = lane_pool.loop(node, self.spread(operands, own, lanes), lanes, self.n, width, test,
                               body)
        value = control.tuple(*found) if isinstance(node.type, TupleType) else found[0]
        return value, (True,) * n

    def _push(self, node: Apply, operands, own):
        types = tuple(x.type for x in node.operands[1:])
        lanes = tuple(map(any, zip(self.taped.get(types, own[1:]), own[1:], strict=True)))
        self.taped[types] = lanes
        return tape.push(operands[0], *self.spread(operands[1:], own[1:], lanes)), (False,)

    def _pop(self, node: Apply, operands, own):
        types = node.attrs["types"]
        lanes = self.taped.get(types, (False,) * len(types))
        found = tape.pop(*operands, types=tuple(
            with_lanes(self.n, type) if has else type
            for type, has in zip(types, lanes, strict=True)))
        return found, (False, *lanes)

    def _check(self, node: Apply, operands, own):
        holds, *xs = operands
        first = fill(TensorType(i64, ()), 0)
        if own[0]:
            first = reduce.argmin(elementwise.cast(holds, dtype=i32), axis=0)
            holds = shape.to_scalar(reduce.reduce_and(holds, axes=(0,)))
        rows = [gather.gather(x, first, axis=0) if has else x
                for x, has in zip(xs, own[1:], strict=True)]
        told = [shape.to_scalar(x) if has and isinstance(old.type, ScalarType) else x
                for x, has, old in zip(rows, own[1:], node.operands[1:], strict=True)]
        return effect.check(holds, *told, **node.attrs), ()

    def _barrier(self, node: Apply, operands, own):
        return control.barrier(*operands), (own[0],)

    # -- the branches of a choice of each lane -------------------------------------------------
    def _branch(self, made: Lanes, graph: Graph, mask: Node, xs, own) -> list[Node]:
        """The results of a branch, right in the lanes where `mask` holds; all with lanes."""
        whole = self.evened(made, (True,) * len(made.results))
        if self.n == 0 or _is_harmless(graph):
            value = control.call(*xs, graph=whole)
        else:
            some = self._some(whole, mask, xs, own)
            with Builder(f"{graph.name}.none", self.inputs(some.inputs, [False] * (1 + len(xs)))
                         ) as b:
                none = seal(b, [fill(r.type, 0) for r in some.results], some)
            value = control.cond(any_lane(mask), mask, *xs, then=some, orelse=none)
        if not isinstance(value.type, TupleType):
            return [value]
        return [control.item(value, index=i) for i in range(len(value.type.items))]

    def _some(self, whole: Graph, mask: Node, xs, own) -> Graph:
        """The branch on a mask and operands: lanes outside the mask take the place of one inside.
        """
        with Builder(f"{whole.name}.some") as b:
            m = b.input(mask.type, "mask")
            inputs = [b.input(x.type, g.name) for x, g in zip(xs, whole.inputs, strict=True)]
            first = reduce.argmax(elementwise.cast(m, dtype=i32), axis=0)
            shown = [self._stand_in(x, m, first) if has else x
                     for x, has in zip(inputs, own, strict=True)]
            return seal(b, parts(copy_body(b, whole, shown)), whole)

    def _stand_in(self, x: Node, mask: Node, first: Node) -> Node:
        row = spread(self.n, gather.gather(x, first, axis=0))
        return choose(mask, x, row)


_CONTROL = {"call": Batcher._call, "cond": Batcher._cond, "while": Batcher._while,
            "push": Batcher._push, "pop": Batcher._pop, "check": Batcher._check,
            "barrier": Batcher._barrier}


_OF_ONE_LANE = ("tape_len", "tape_rows", "tape_of", "tape_read", "tape_add", "tape_put",
                "set_size")


def _is_tape(x: Node) -> bool:
    return isinstance(x.type, TapeType)


def _all_lanes(graph: Graph) -> tuple[bool, ...]:
    """All results with lanes; a tape has none itself."""
    return tuple(not _is_tape(r) for r in graph.results)


def any_lane(mask: Node) -> Node:
    """Whether the mask holds in any lane, as a number."""
    return shape.to_scalar(reduce.reduce_or(mask, axes=(0,)))


def _is_harmless(graph: Graph) -> bool:
    """Few operations, none of which faults, nor makes an infinity or a NaN of finite operands."""
    return len(graph.body) <= _FEW and all(
        node.prim.name in _HARMLESS and (node.prim.name != "cast" or node.dtype is boolean
                                         or node.dtype.bits >= 32) for node in graph.body)
