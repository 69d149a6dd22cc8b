"""uneven: loops that each lane leaves at a time of its own.

    a `while` whose test has lanes      a loop over the lanes, and in it the loop of one lane, whose
                                        state is read from and written to its place among the lanes

So the rounds of all lanes are added up: a lane that is done costs nothing, and there is no mask.
The loop of one lane is what it would be without lanes: numbers in registers, or kernels over its
tensors. The other way, all lanes in step until the last is done, does the most rounds of any lane
for all of them. A tape is of one lane as well: where a loop with a test of each lane pushes or
pops, the whole graph that the tape lives in is run lane after lane (`Uneven` says so).
"""

from __future__ import annotations

from cellc.errors import TypeFault
from cellc.ir import arith
from cellc.ir.graph import Apply, Builder, Graph, Input, Node, fill
from cellc.ir.prims import control, element, shape
from cellc.ir.types import Dim, ScalarType, TensorType
from cellc.passes.rebuild import found_sizes, parts, seal
from cellc.record import record


class Uneven(Exception):
    """A tape would have to hold what lanes of different numbers of rounds leave on it."""


@record(frozen=True)
class Lanes:
    """A graph on lanes, and which of its results have them."""

    graph: Graph
    results: tuple[bool, ...]


def with_lanes(n, type) -> TensorType:
    """The type of n lanes of values of a type."""
    return TensorType(type.dtype, (n, *type.shape))


def loop(node: Apply, operands, own, n):
    """A `while` with a test of each lane; (its state, all of it with lanes)."""
    with Builder("loop") as b:
        inputs = [b.input(x.type, x.name or f"x{i}") for i, x in enumerate(node.operands)]
        one = b.finish(node.prim(*inputs, **node.attrs))
    count = control.state_size(node)
    made = in_order(_apart(one, count), own, n)
    return control.call(*operands, graph=made.graph), made.results


def _apart(graph: Graph, count: int) -> Graph:
    """A graph that gives a loop's tuple, giving its items."""
    if count == 1 and not hasattr(graph.type, "items"):
        return graph
    with Builder(graph.name, graph.inputs) as b:
        for node in graph.body:
            b.append(node)
        return b.finish(control.tuple(*(control.item(graph.result, index=i)
                                        for i in range(count))))


def in_order(graph: Graph, lanes: tuple[bool, ...], n) -> Lanes:
    """The graph on one lane after another, as a loop."""
    own = found_sizes(graph)
    for r in graph.results:
        if any(isinstance(d, Dim) and d.name in own for d in r.type.shape):
            raise TypeFault(f"found {r.type} as a result under vmap, whose size is another in each "
                            "lane", "reduce it in the function, for instance to a sum", r.loc)
    types = [with_lanes(n, r.type) for r in graph.results]
    name = f"{graph.name}.lanes"
    with Builder(name, [Input(with_lanes(n, x.type) if own else x.type, x.name, x.loc)
                        for x, own in zip(graph.inputs, lanes, strict=True)]) as b:
        xs = list(b.inputs)
        begin = [fill(type, 0) for type in types]
        found = control.while_(0, *begin, *xs, test=_test(name, types, xs, n),
                               body=_body(name, types, xs, graph, lanes))
        results = [control.item(found, index=1 + i) for i in range(len(types))]
        return Lanes(seal(b, results, graph), (True,) * len(types))


def _inputs(b: Builder, types, xs) -> tuple[Node, list, list]:
    return (b.input(element.INDEX, "lane"), [b.input(t, f"y{i}") for i, t in enumerate(types)],
            [b.input(x.type, x.name) for x in xs])


def _test(name: str, types, xs, n) -> Graph:
    with Builder(f"{name}.test") as b:
        lane, _, _ = _inputs(b, types, xs)
        return b.finish(arith.less(lane, arith.size_number(n) if isinstance(n, Dim) else n))


def _body(name: str, types, xs, graph: Graph, lanes) -> Graph:
    with Builder(f"{name}.body") as b:
        lane, ys, xs = _inputs(b, types, xs)
        given = [_read(x, lane, old.type) if own else x
                 for x, own, old in zip(xs, lanes, graph.inputs, strict=True)]
        value = control.call(*given, graph=graph)
        found = parts(value) if len(types) == 1 and not hasattr(value.type, "items") else [
            control.item(value, index=i) for i in range(len(types))]
        return b.finish(control.tuple(arith.add(lane, 1), *(
            _write(y, lane, new) for y, new in zip(ys, found, strict=True))))


def _read(x: Node, lane: Node, type):
    found = element.read(x, lane, checked=False)
    return shape.to_scalar(found) if isinstance(type, ScalarType) else found


def _write(y: Node, lane: Node, value: Node):
    value = shape.from_scalar(value) if isinstance(value.type, ScalarType) else value
    return element.write(y, value, lane, checked=False)
