"""vmap: a graph on many lanes at once, graph to graph.

For a graph f : (x...) -> (y...) and a choice of inputs that have lanes, one closed graph is made:

    f.lanes : (x...) -> (y...)      chosen inputs, and the results that depend on them, have the n
                                    lanes as a new first axis; a number of each lane is a tensor

What is generated, by kind of node:

    elementwise, reduce, view, kernel      its record's `batch`, where an operand has lanes; else
                                           the same apply: what all lanes share is computed once.
    tuple, item, call g                    item by item; a call of g.lanes.
    cond p, p shared by all lanes          the same cond, of both branches' graphs with lanes.
    cond p, p a choice of each lane        both branches, and a select between their results:
        %t = cond(any(p), ...) {then=@g.some, orelse=@g.none}
        %e = cond(any(not p), ...) {then=@h.some, orelse=@h.none}
        %y = select(p, %t, %e)

A branch that no lane takes does not run. Inside of `g.some`, the lanes that do not take the branch
compute on the values of one that does: so they cannot fault (an index that `if i < n` guards) nor
make a NaN, which a gradient of the select would multiply by zero. A branch of few operations that
can do neither (`_HARMLESS`) is computed for all lanes, without these precautions.
"""

from __future__ import annotations

from cellc.ir.graph import Apply, Builder, Graph, Input, Node, fill
from cellc.ir.prims import control, elementwise, gather, reduce, shape
from cellc.ir.prims.rules import spread
from cellc.ir.types import TensorType, TupleType, boolean, i32
from cellc.passes.grad import tidy
from cellc.passes.rebuild import copy_body, parts, renew, seal
from cellc.record import record

# Finite for all finite operands, or nearly; never a fault.
_HARMLESS = frozenset([
    "neg", "abs", "sign", "add", "sub", "mul", "min", "max", "select", "cast", "stop_gradient",
    "eq", "ne", "lt", "le", "gt", "ge", "is_finite", "bit_not", "bit_and", "bit_or", "bit_xor",
    "tanh", "logistic", "erf", "erfc", "sin", "cos", "floor", "ceil", "round", "trunc", "reshape",
    "transpose", "broadcast", "flip", "slice", "from_scalar", "to_scalar", "iota", "reduce_sum",
    "reduce_max", "reduce_min", "tuple", "item",
])
_FEW = 32       # applies


@record(frozen=True)
class Lanes:
    """f.lanes, and which of its results have lanes."""

    graph: Graph
    results: tuple[bool, ...]


def batch_graph(graph: Graph, lanes: tuple[bool, ...], n) -> Lanes:
    """`graph` on n lanes: input i has them as its first axis where `lanes[i]`."""
    made = Batcher(n).batch(graph, lanes)
    return Lanes(tidy(made.graph), made.results)


def with_lanes(n, type) -> TensorType:
    """The type of n lanes of values of a type."""
    return TensorType(type.dtype, (n, *type.shape))


class Batcher:
    """f.lanes of every graph met, once for each choice of inputs."""

    def __init__(self, n):
        self.n = n
        self.made: dict[tuple, tuple[Graph, Lanes]] = {}

    def batch(self, graph: Graph, lanes: tuple[bool, ...]) -> Lanes:
        key = (id(graph), lanes)
        if key not in self.made:
            self.made[key] = (graph, self._make(graph, lanes))
        return self.made[key][1]

    def inputs(self, inputs, lanes) -> list[Input]:
        """Inputs like these, with lanes where chosen."""
        return [Input(with_lanes(self.n, x.type) if own else x.type, x.name, x.loc)
                for x, own in zip(inputs, lanes, strict=True)]

    def _make(self, graph: Graph, lanes: tuple[bool, ...]) -> Lanes:
        with Builder(f"{graph.name}.lanes", self.inputs(graph.inputs, lanes)) as b:
            env: dict[Node, Node] = dict(zip(graph.inputs, b.inputs, strict=True))
            laned: set = {x for x, own in zip(graph.inputs, lanes, strict=True) if own}
            for node in graph.body:
                b.loc = node.loc
                self._node(b, node, env, laned)
            results = [env.get(r, r) for r in graph.results]
            return Lanes(seal(b, results, graph), tuple(r in laned for r in graph.results))

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
        elif name == "empty" and not isinstance(node.type, TupleType):
            env[node] = fill(node.type, 0)      # other lanes may read it, and throw away the result
        elif not any(own):
            env[node] = b.append(renew(node, env))
        elif name in _CONTROL:
            env[node], results = _CONTROL[name](self, node, operands, own)
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
        inner = [self.batch(g, own[1:]) for g in branches]
        if not own[0]:
            results = tuple(map(any, zip(*(m.results for m in inner), strict=True)))
            then, orelse = (self.evened(m, results) for m in inner)
            return control.cond(*operands, then=then, orelse=orelse), results
        chosen, *xs = operands
        masks = [chosen, elementwise.bit_not(chosen)]
        values = [self._branch(m, g, mask, xs, own[1:])
                  for m, g, mask in zip(inner, branches, masks, strict=True)]
        picked = [elementwise.select(_along(chosen, x.shape), x, y)
                  for x, y in zip(*values, strict=True)]
        value = control.tuple(*picked) if isinstance(node.type, TupleType) else picked[0]
        return value, (True,) * len(picked)

    def evened(self, made: Lanes, results: tuple[bool, ...]) -> Graph:
        """The graph of `made`, giving lanes of all results in `results`."""
        if made.results == results:
            return made.graph
        graph = made.graph
        with Builder(graph.name, self.inputs(graph.inputs, [False] * len(graph.inputs))) as b:
            found = parts(copy_body(b, graph, b.inputs))
            return seal(b, [spread(self.n, x) if want and not has else x for x, want, has in
                            zip(found, results, made.results, strict=True)], graph)

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
        return elementwise.select(_along(mask, x.shape), x, row)


_CONTROL = {"call": Batcher._call, "cond": Batcher._cond}


def any_lane(mask: Node) -> Node:
    """Whether the mask holds in any lane, as a number."""
    return shape.to_scalar(reduce.reduce_or(mask, axes=(0,)))


def _along(mask: Node, to: tuple) -> Node:
    """A bool of each lane, repeated to the shape of a value with lanes."""
    return mask if mask.shape == to else shape.broadcast(mask, shape=to, dims=(0,))


def _is_harmless(graph: Graph) -> bool:
    """Few operations, none of which faults, nor makes an infinity or a NaN of finite operands."""
    return len(graph.body) <= _FEW and all(
        node.prim.name in _HARMLESS and (node.prim.name != "cast" or node.dtype is boolean
                                         or node.dtype.bits >= 32) for node in graph.body)
