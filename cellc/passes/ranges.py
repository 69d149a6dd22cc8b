"""ranges: what is known of whole numbers in loops decides comparisons and index checks.

    %c = lt(%i, 0), where %i counts from 0 up         ->   False
    read(%x: f32[9], %i), where 0 <= %i < 9           ->   read(%x, %i) {checked=False}

A state of a `while` that begins at a number, grows by a number and is less than another in every
round (the test asks) lies between the two. From there sums, differences, products with a number,
extrema and selections are bounded by interval arithmetic; what is outside 64 bits is not bounded.
Assumes nothing. LLVM proves the same of machine code, but the gradient, which asks for indices, is
made before.
"""

from __future__ import annotations

from cellc.ir.graph import Apply, Constant, Graph, Node, scalar, subgraphs
from cellc.ir.prims.control import state_size
from cellc.ir.types import Dim, ScalarType, i64
from cellc.passes.rebuild import renew

Range = tuple       # (least, greatest); None where there is no bound
MOST = 1 << 62      # what is greater might wrap
_ORDERS = {"lt": ("lt", False), "ge": ("lt", True), "gt": ("gt", False), "le": ("gt", True)}


def run(graph: Graph) -> Graph:
    if not any(node.prim.name == "while" for g in graph.reachable() for node in g.body):
        return graph
    return _decide(graph, {}, {})


def _decide(graph: Graph, given: dict[Node, Range], done: dict) -> Graph:
    """The graph with comparisons decided, given the ranges of some inputs."""
    key = (id(graph), tuple((i, given[x]) for i, x in enumerate(graph.inputs) if x in given))
    if key in done:
        return done[key][1]
    done[key] = (graph, graph)      # a graph that calls itself goes on calling what it was
    ranges = dict(given)
    env: dict[Node, Node] = {}
    body: list[Apply] = []
    for node in graph.body:
        found = _compare(node, ranges)
        if found is not None:
            env[node] = found
            continue
        inner = {key: _decide(g, _inside(node, key, g, ranges), done)
                 for key, g in subgraphs(node).items()}
        attrs = node.attrs | inner if inner else None
        if node.attrs.get("checked", True) and node.prim.name in ("read", "write", "accumulate"):
            x, *index = node.operands if node.prim.name == "read" else (
                node.operands[0], *node.operands[2:])
            if all(_within(_range(i, ranges), n) for i, n in zip(index, x.shape, strict=False)):
                attrs = node.attrs | {"checked": False}
        decided = env.get(node.operands[0]) if node.prim.name == "select" else None
        if isinstance(decided, Constant):
            bounds = ranges.get(node.operands[1 if decided.value else 2])
        else:
            bounds = _arithmetic(node, ranges)
        if bounds is not None:
            ranges[node] = bounds
        env[node] = renew(node, env, attrs)
        body.append(env[node])
    made = Graph(graph.name, graph.inputs, body, env.get(graph.result, graph.result))
    done[key] = (graph, made)
    return made


def _inside(node: Apply, key: str, graph: Graph, ranges) -> dict[Node, Range]:
    """What is known of the inputs of a graph that an apply runs."""
    operands = node.operands[1:] if node.prim.name == "cond" else node.operands
    if node.prim.name not in ("cond", "while") or len(operands) != len(graph.inputs):
        return {}
    known = {}
    first = state_size(node) if node.prim.name == "while" else 0
    for x, operand in list(zip(graph.inputs, operands, strict=True))[first:]:
        found = _range(operand, ranges)
        if found != (None, None):
            known[x] = found
    if node.prim.name == "while":
        for i, bounds in counters(node, ranges).items():
            known[graph.inputs[i]] = bounds if key == "body" else (bounds[0], None)
    return known


def counters(node: Apply, ranges=None) -> dict[int, Range]:
    """The states of a `while` that begin at a known number and grow by one in each round, with the
    range they have within a round."""
    ranges = ranges or {}
    test, body, found = node.attrs["test"], node.attrs["body"], {}
    for i in range(min(state_size(node), len(body.results))):
        step = step_of(body, i)
        least, _ = _range(node.operands[i], ranges)
        if step is None or step < 1 or least is None:
            continue
        found[i] = (least, _limit(test, i, node, ranges))
    return found


def step_of(body: Graph, i: int) -> int | None:
    """By how much state i, a whole number, grows in every round."""
    x, result = body.inputs[i], body.results[i]
    if not isinstance(result, Apply) or x.type != ScalarType(i64) or x not in result.operands:
        return None
    other = result.operands[1] if result.operands[0] is x else result.operands[0]
    if result.prim.name == "add" and isinstance(other, Constant):
        return int(other.value)
    if result.prim.name == "sub" and isinstance(other, Constant) and result.operands[0] is x:
        return -int(other.value)
    return None


def _limit(test: Graph, i: int, node: Apply, ranges) -> int | None:
    """The greatest value of state i for which the test says yes."""
    asked = [test.result]
    while asked:
        x = asked.pop()
        if not isinstance(x, Apply):
            continue
        if x.prim.name == "bit_and":
            asked += x.operands
        elif x.prim.name == "lt" and x.operands[0] is test.inputs[i]:
            limit = x.operands[1]
            if limit in test.inputs:
                k = test.inputs.index(limit)
                limit = node.operands[k] if k >= state_size(node) else None
            greatest = _range(limit, ranges)[1] if limit is not None else None
            if greatest is not None:
                return greatest - 1
    return None


def _range(x: Node, ranges) -> Range:
    if isinstance(x, Constant) and x.type == ScalarType(i64):
        return (int(x.value), int(x.value))
    return ranges.get(x, (None, None))


def _within(bounds: Range, n) -> bool:
    least, greatest = bounds
    if least is None or least < 0:
        return False
    if isinstance(n, Dim):
        return False
    return greatest is not None and greatest < n


def _compare(node: Apply, ranges) -> Constant | None:
    if node.prim.name not in _ORDERS or node.operands[0].type != ScalarType(i64):
        return None
    order, negated = _ORDERS[node.prim.name]
    (a, b), (c, d) = (_range(x, ranges) for x in node.operands)
    if order == "gt":
        (a, b), (c, d) = (c, d), (a, b)
    if b is not None and c is not None and b < c:
        return scalar(not negated)
    if a is not None and d is not None and a >= d:
        return scalar(negated)
    return None


def _arithmetic(node: Apply, ranges) -> Range | None:
    """The range of a whole number computed from others; None where nothing is known."""
    if node.type != ScalarType(i64) or node.prim.name not in _RULES:
        return None
    parts = [_range(x, ranges) for x in node.operands[-2:]]
    if all(p == (None, None) for p in parts):
        return None
    least, greatest = _RULES[node.prim.name](*parts)
    least = None if least is None or abs(least) > MOST else least
    greatest = None if greatest is None or abs(greatest) > MOST else greatest
    return None if least is None and greatest is None else (least, greatest)


def _both(f, x, y):
    return None if x is None or y is None else f(x, y)


def _any(f, x, y):
    return y if x is None else x if y is None else f(x, y)


def _product(x: Range, y: Range) -> Range:
    if None in x or None in y:
        if x[0] is not None and y[0] is not None and x[0] >= 0 and y[0] >= 0:
            return (x[0] * y[0], None)
        return (None, None)
    corners = [a * b for a in x for b in y]
    return (min(corners), max(corners))


_RULES = {
    "add": lambda x, y: tuple(_both(int.__add__, a, b) for a, b in zip(x, y, strict=True)),
    "sub": lambda x, y: (_both(int.__sub__, x[0], y[1]), _both(int.__sub__, x[1], y[0])),
    "mul": _product,
    "max": lambda x, y: (_any(max, x[0], y[0]), _both(max, x[1], y[1])),
    "min": lambda x, y: (_both(min, x[0], y[0]), _any(min, x[1], y[1])),
    "select": lambda x, y: (_both(min, x[0], y[0]), _both(max, x[1], y[1])),
}
