"""hoist: what is the same in all rounds of a loop is computed before the loop.

    while(%h, %w):                            %e = exp(%w); %t = %u turned, in panels
      %a = exp(%w)                            while(%h, %e, %t):
      %b = dot(%h, %u) {contract u's    ->      %b = dot(%h, %t) {contract t's terms}
                        last axis}

Arrays only: numbers are in registers, where LLVM does the same. What moves is pure and cannot fail,
since the loop may have no rounds. It moves where that saves work: not a view, which is part of the
loads of who reads it, nor a cheap expression that is larger than what it is made of. A product that
reads such an array across its rows would have to turn it in every round: it is turned once. Assumes
that `prune` has made invariants of what rounds give on unchanged. LLVM does not see that a kernel
does the same in each round.
"""

from __future__ import annotations

import math

from cellc.ir.graph import Apply, Builder, Constant, Graph, Input, Node
from cellc.ir.prims import shape
from cellc.ir.prims.contraction import dot, free_axes
from cellc.ir.prims.control import state_size
from cellc.ir.types import ScalarType, TensorType
from cellc.kernels.effects import may_fail
from cellc.kernels.loops import COST, EXPENSIVE
from cellc.passes import dead_code
from cellc.passes.rebuild import copy_input, everywhere, renew, touched, with_inputs

FREE = ("iota", "stop_gradient")    # they cost a kernel nothing
CHEAP = ("pad", "concat")           # they are part of the loads of who reads them
REPEATS = ("broadcast", "windows")  # views with more elements than what they look at
ROWS = range(5, 17)                 # of a product: fewer are read across as well as along, and
                                    # more make up for turning the operand in every round
PANEL = 32                          # columns that lie together
LONG = 16                           # terms, and columns, that make turning worth it


def run(graph: Graph) -> Graph:
    if not any(node.prim.name == "while" for g in graph.reachable() for node in g.body):
        return graph
    return everywhere(graph, _hoist)


def _hoist(graph: Graph) -> Graph:
    if not any(node.prim.name == "while" for node in graph.body):
        return graph
    env: dict[Node, Node] = {}
    with Builder(graph.name, graph.inputs) as b:
        for node in graph.body:
            new = renew(node, env) if touched(node, env) else node
            if node.prim.name == "while":
                for find in (_turned, _computed):
                    new = _moved(b, new, find)
            b.append(new)
            if new is not node:
                env[node] = new
        return b.finish(env.get(graph.result, graph.result)) if env else graph


def _moved(b: Builder, node: Apply, find) -> Apply:
    """The loop, given what `find` says to compute before it: (value, the axes to turn it by)."""
    body, same = node.attrs["body"], _same_in_all_rounds(node)
    wanted = find(body, same)
    if not wanted:
        return node
    outside: dict[Node, Node] = dict(zip(body.inputs, node.operands, strict=True))
    needed = {x for x, _ in wanted}
    for x in reversed(body.body):
        if x in needed:
            needed.update(x.operands)
    for x in body.body:
        if x in needed and x not in outside:
            outside[x] = b.append(renew(x, outside))
    values = [_in_panels(outside[x], axes) if axes else outside[x] for x, axes in wanted]
    types = [x.type for x in values]
    made = _given(body, dict(zip(wanted, types, strict=True)))
    test = with_inputs(node.attrs["test"], len(body.inputs), types)
    return Apply(node.prim, (*node.operands, *values), node.attrs | {"test": test, "body": made},
                 node.type, node.name, node.loc)


def _given(body: Graph, types: dict[tuple, TensorType]) -> Graph:
    """The round that is given these values, and no longer computes them."""
    with Builder(body.name, map(copy_input, body.inputs)) as b:
        env: dict[Node, Node] = dict(zip(body.inputs, b.inputs, strict=True))
        given = {key: b.input(t, "same") for key, t in types.items()}
        for node in body.body:
            panels = given.get((node.operands[1], _axes(node))) if node.prim.name == "dot" else None
            if (node, None) in given:
                env[node] = given[node, None]
            elif panels is not None:
                left = node.operands[0]
                env[node] = _product(node, env.get(left, left), panels)
            else:
                env[node] = b.append(renew(node, env))
        return dead_code.sweep(b.finish(env.get(body.result, body.result)))


def _same_in_all_rounds(node: Apply) -> set[Node]:
    """The inputs behind a loop's state, and the applies that are made of them."""
    body = node.attrs["body"]
    same: set[Node] = set(body.inputs[state_size(node):])
    for x in body.body:
        if (x.prim.kind != "control" and isinstance(x.type, (TensorType, ScalarType))
                and not x.prim.effect and not may_fail(x)
                and all(isinstance(y, Constant) or y in same for y in x.operands)):
            same.add(x)
    return same


# -- what is computed ------------------------------------------------------------------------------

def _computed(body: Graph, same: set[Node]) -> list[tuple]:
    """What rounds use of what is the same, as far as it is worth a place in memory."""
    wanted: dict[Node, None] = {}
    seen: set[Node] = set()

    def visit(x: Node) -> None:
        if x in same and isinstance(x, Apply) and x not in seen:
            seen.add(x)
            if _is_worth_it(x):
                wanted[x] = None
            else:
                for y in x.operands:
                    visit(y)

    for node in body.body:
        if node not in same:
            for x in node.operands:
                visit(x)
    visit(body.result)
    return [(x, None) for x in wanted]


def _is_worth_it(x: Apply) -> bool:
    """Is it computed from arrays, and dear, or from one of which it uses each element once?"""
    name, kind = x.prim.name, x.prim.kind
    if kind == "view" or name in FREE or not (x.shape or any(y.shape for y in x.operands)):
        return False
    if name not in CHEAP and (kind != "elementwise" or COST.get(name, 1) >= EXPENSIVE):
        return True
    return name not in CHEAP and not all(map(_is_repeated, x.operands))


def _is_repeated(x: Node) -> bool:
    """Is it made of fewer elements than it has?"""
    while isinstance(x, Apply) and x.prim.kind == "view" and x.prim.name not in REPEATS:
        x = x.operands[0]
    return isinstance(x, Constant) or not x.shape or (
        isinstance(x, Apply) and x.prim.name in (*REPEATS, "iota"))


# -- what is turned --------------------------------------------------------------------------------

def _turned(body: Graph, same: set[Node]) -> list[tuple]:
    """The right operands of products that lie along the terms, and should lie along the columns."""
    return list(dict.fromkeys((node.operands[1], _axes(node)) for node in body.body
                              if node.prim.name == "dot" and node not in same
                              and node.operands[1] in same and _lies_across(node)))


def _lies_across(node: Apply) -> bool:
    x, y = node.operands
    contract, batch = node.attrs["contract"], node.attrs["batch"]
    if not x.dtype.is_float or not all(isinstance(n, int) for n in (*x.shape, *y.shape)):
        return False
    rows, columns = (math.prod(z.shape[i] for i in free_axes(z.ndim, contract[k], batch[k]))
                     for k, z in enumerate((x, y)))
    terms = math.prod(y.shape[i] for i in contract[1])
    return (rows in ROWS and min(terms, columns) >= LONG
            and _innermost(y) in contract[1])


def _innermost(x: Node) -> int | None:
    """The axis along which an array lies in memory, where that is plain."""
    if isinstance(x, Apply) and x.prim.kind == "view":
        inner = _innermost(x.operands[0]) if x.prim.name == "transpose" else None
        return None if inner is None else x.attrs["perm"].index(inner)
    return x.ndim - 1


def _axes(node: Apply) -> tuple[tuple[int, ...], ...]:
    """The axes of a product's right operand: of its terms, of its batches."""
    return node.attrs["contract"][1], node.attrs["batch"][1]


def _in_panels(x: Node, axes) -> Node:
    """A right operand with `PANEL` columns side by side, then the next term's, then the next
    columns': as a tile of a product reads it, without rows that evict each other from the cache."""
    contract, batch = axes
    free = free_axes(x.ndim, contract, batch)
    last, n = free[-1], x.shape[free[-1]]
    inner = PANEL if n % PANEL == 0 else n
    x = shape.reshape(x, shape=(*x.shape[:last], n // inner, inner, *x.shape[last + 1:]))
    order = [i + (i > last) for i in (*batch, *free, *contract)]
    return shape.transpose(x, perm=(*order, last + 1))


def _product(node: Apply, left: Node, panels: Input) -> Node:
    """Append the product with its right operand in panels."""
    (contract, there), (batch, lead) = node.attrs["contract"], node.attrs["batch"]
    first = panels.ndim - 1 - len(there)
    made = dot(left, panels, **node.attrs | {
        "contract": (contract, tuple(range(first, panels.ndim - 1))),
        "batch": (batch, tuple(range(len(lead))))})
    return shape.reshape(made, shape=node.shape)
