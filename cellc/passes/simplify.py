"""simplify: algebra that holds for every value, constant folding, and views of views.

    neg(neg(x)) -> x          mul(x, 1) -> x           item(tuple(a, b), 1) -> b
    add(x, accumulate(0, v, i)) -> accumulate(x, v, i)         concat(x[:3], x[3:9]) -> x[:9]
    reshape(reshape(x)) -> reshape(x)                  exp(2.0:f32[3]) -> 7.389:f32[3]

Rules are data: text, in the notation of the IR, with a guard where one is needed. A rule applies
where both sides have one type, so it cannot change a type. A rule that is wrong for NaN, infinity
or a signed zero is not here: `x * 0 -> 0` and `x + 0 -> x` hold for integers only (`int` guard).
Rules run along the list once, each apply to a fixed point with a bound that raises. LLVM does the
scalar ones too, but only after buffers exist.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

import numpy as np

from cellc.errors import IRFault
from cellc.ir.graph import PRIMITIVES, Apply, Builder, Constant, Graph, Node, fill
from cellc.ir.types import TupleType, i8, i32, u8
from cellc.passes.rebuild import everywhere, renew, touched
from cellc.record import record

LIMIT = 64       # rewrites of one apply


@record(frozen=True)
class Rule:
    """`pattern -> replacement`, where `guard(bindings)` holds."""

    text: str
    pattern: ast.expr
    replacement: ast.expr
    guard: Callable[[dict], bool] | None


RULES: dict[str, list[Rule]] = {}


def rule(text: str, guard: Callable[[dict], bool] | None = None) -> Rule:
    """Enter a rule, keyed by the primitive at the root of its pattern.

    Names bind operands; numbers match constants filled with that value; keyword arguments bind
    attributes. On the right side, attributes are Python expressions over the bound attributes.
    """
    left, right = (ast.parse(side.strip(), mode="eval").body for side in text.split("->"))
    made = Rule(text, left, right, guard)
    RULES.setdefault(left.func.id, []).append(made)
    return made


def _is_int(b: dict) -> bool:
    return b["x"].type.dtype.kind in "iu"


def _compose(p: tuple, q: tuple) -> tuple:
    """The permutation of transpose(transpose(x, p), q)."""
    return tuple(p[axis] for axis in q)


def _same_or_wider(b: dict) -> bool:
    """x -> wider -> x's own dtype loses nothing."""
    source, between = b["x"].type.dtype, b["d"]
    return source.kind == between.kind and source.bits < between.bits


def _sums_of_bytes(b: dict) -> bool:
    """int8 or uint8 on both sides, summed in int32."""
    return b["d"] is b["e"] is i32 and b["x"].type.dtype is b["y"].type.dtype in (i8, u8)


rule("neg(neg(x)) -> x")
rule("bit_not(bit_not(x)) -> x")
rule("mul(x, 1) -> x")
rule("mul(1, x) -> x")
rule("div(x, 1) -> x")
rule("sub(x, 0) -> x")                 # also for x = -0.0: -0.0 - 0.0 is -0.0
rule("add(x, 0) -> x", _is_int)        # -0.0 + 0.0 is 0.0
rule("add(0, x) -> x", _is_int)
rule("mul(x, -1) -> neg(x)")
rule("mul(-1, x) -> neg(x)")
rule("add(x, neg(y)) -> sub(x, y)")
rule("sub(x, neg(y)) -> add(x, y)")
rule("mul(neg(x), neg(y)) -> mul(x, y)")
rule("bit_and(x, x) -> x")
rule("bit_or(x, x) -> x")
rule("pow(x, 1) -> x")
rule("pow(x, 2) -> mul(x, x)")
rule("select(c, x, x) -> x")
rule("select(True, x, y) -> x")
rule("select(False, x, y) -> y")
rule("select(bit_not(c), x, y) -> select(c, y, x)")
rule("cast(x, dtype=d) -> x")
rule("cast(cast(x, dtype=d), dtype=e) -> x", _same_or_wider)
rule("dot(cast(x, dtype=d), cast(y, dtype=e), contract=c, batch=s)"
     " -> dot(x, y, contract=c, batch=s, dtype=d)", _sums_of_bytes)
rule("to_scalar(from_scalar(x)) -> x")
rule("from_scalar(to_scalar(x)) -> x")
rule("reshape(x, shape=s) -> x")
rule("reshape(reshape(x, shape=s), shape=t) -> reshape(x, shape=t)")
rule("transpose(x, perm=p) -> x", lambda b: b["p"] == tuple(range(len(b["p"]))))
rule("transpose(transpose(x, perm=p), perm=q) -> transpose(x, perm=compose(p, q))")
rule("broadcast(x, shape=s, dims=d) -> x", lambda b: b["d"] == tuple(range(len(b["s"]))))
rule("broadcast(broadcast(x, shape=s, dims=d), shape=t, dims=e)"
     " -> broadcast(x, shape=t, dims=compose(e, d))")
rule("slice(x, starts=a, stops=b, steps=c) -> x", lambda b: not any(b["a"]))
rule("reduce_sum(x, axes=a) -> x", lambda b: not b["a"])
rule("reduce_sum(reduce_sum(x, axes=a), axes=b) -> reduce_sum(x, axes=merge(x, a, b))")


def _merge(x: Node, first: tuple, second: tuple) -> tuple:
    """The axes of x that reducing `first`, then `second` of what is left, takes away."""
    left = [axis for axis in range(x.ndim) if axis not in first]
    return tuple(sorted((*first, *(left[axis] for axis in second))))


_FUNCTIONS = {"compose": _compose, "merge": _merge}


def run(graph: Graph) -> Graph:
    return everywhere(graph, lambda g: _mask_from_result(simplified(g)))


def simplified(graph: Graph) -> Graph:
    """One list of applies in normal form."""
    builder = Builder(graph.name, graph.inputs)
    env: dict[Node, Node] = {}
    for node in graph.body:
        new = _normal_form(builder, renew(node, env) if touched(node, env) else node)
        if new is node:
            builder.append(node)
        else:
            env[node] = new
            _append(builder, new)
    if not env:
        return graph
    return Graph(graph.name, graph.inputs, builder.body, env.get(graph.result, graph.result))


def _append(builder: Builder, node: Node) -> None:
    """Append a new apply, and what it is made of as far as that is new."""
    if isinstance(node, Apply) and not builder.owns(node):
        for x in node.operands:
            if isinstance(x, Apply):
                _append(builder, x)
        builder.append(node)


def _normal_form(builder: Builder, node: Node) -> Node:
    """Rewrite until nothing applies; what the builder has already is in normal form."""
    for _ in range(LIMIT):
        new = _once(node) if isinstance(node, Apply) and not builder.owns(node) else node
        if new is node:
            return node
        node = new
    raise IRFault(f"the rules for {node.prim} do not come to an end")


def _once(node: Apply) -> Node:
    """One rewrite of an apply; the apply itself where none fits."""
    better = SPECIAL.get(node.prim.name, _fold)(node)
    if better is not None:
        return better
    for candidate in RULES.get(node.prim.name, ()):
        bindings: dict = {}
        if _matches(candidate.pattern, node, bindings) and (
                candidate.guard is None or candidate.guard(bindings)):
            new = _build(candidate.replacement, bindings, node)
            if new is not None:
                return new
    return node


def _matches(pattern: ast.expr, node: Node, bindings: dict) -> bool:
    if isinstance(pattern, ast.Name):
        return bindings.setdefault(pattern.id, node) is node
    if isinstance(pattern, ast.Call):
        if not isinstance(node, Apply) or node.prim.name != pattern.func.id:
            return False
        for keyword in pattern.keywords:
            bindings[keyword.value.id] = node.attrs[keyword.arg]
        return all(_matches(p, x, bindings)
                   for p, x in zip(pattern.args, node.operands, strict=True))
    value = ast.literal_eval(pattern)
    return (isinstance(node, Constant) and node.is_fill and node.value == value
            and isinstance(value, bool) == isinstance(node.value, bool)
            and not (value == 0 and np.signbit(np.float64(node.value))))


def _build(expression: ast.expr, bindings: dict, root: Apply) -> Node | None:
    """The replacement as a node, or None where its type differs from the root's."""
    if isinstance(expression, ast.Name):
        found = bindings[expression.id]
        return found if found.type == root.type else None
    operands = tuple(bindings[x.id] for x in expression.args)
    attrs = {k.arg: eval(compile(ast.Expression(k.value), "<rule>", "eval"), _FUNCTIONS,
                         bindings) for k in expression.keywords}
    new = Apply(PRIMITIVES[expression.func.id], operands, attrs, None, root.name, root.loc)
    return new if new.type == root.type else None


def _item_of_tuple(node: Apply) -> Node | None:
    """item(tuple(a, b), 1) -> b"""
    source = node.operands[0]
    if isinstance(source, Apply) and source.prim.name == "tuple":
        return source.operands[node.attrs["index"]]
    return None


def _added(node: Apply) -> Node | None:
    """add(x, accumulate(0, v, i)) -> accumulate(x, v, i): one element is touched instead of all."""
    folded = _fold(node)
    if folded is not None:
        return folded
    for x, other in (node.operands, node.operands[::-1]):
        steps, begin = [], other
        while isinstance(begin, Apply) and begin.prim.name == "accumulate":
            steps.append(begin)
            begin = begin.operands[0]
        if steps and isinstance(begin, Constant) and begin.is_fill and begin.value == 0:
            for step in reversed(steps):
                x = Apply(step.prim, (x, *step.operands[1:]), step.attrs, node.type, node.name,
                          node.loc)
            return x
    return None


def _put_together(node: Apply) -> Node | None:
    """concat of neighbouring slices of one array -> one slice of it, or the array itself."""
    if not all(isinstance(x, Apply) and x.prim.name == "slice" for x in node.operands):
        return None
    first, axis = node.operands[0], node.attrs["axis"]
    end = first.attrs["starts"][axis]
    for x in node.operands:
        a = x.attrs
        if (x.operands[0] is not first.operands[0] or a["starts"][axis] != end
                or a["steps"][axis] != 1 or any(
                    _elsewhere(a[k], axis) != _elsewhere(first.attrs[k], axis) for k in a)):
            return None
        end = a["stops"][axis]
    stops = tuple(end if i == axis else n for i, n in enumerate(first.attrs["stops"]))
    source = first.operands[0]
    if node.type == source.type:
        return source
    return Apply(first.prim, (source,), first.attrs | {"stops": stops}, None, node.name, node.loc)


def _elsewhere(values: tuple, axis: int) -> tuple:
    return (*values[:axis], *values[axis + 1:])


_FOLDED_VIEWS = ("reshape", "transpose", "broadcast", "slice", "flip", "windows", "from_scalar")


def _fold(node: Apply) -> Constant | None:
    """The constant that an elementwise apply or a view of constants filled with one value gives."""
    for x in node.operands:
        if not isinstance(x, Constant) or not x.is_fill:
            return None
    if not node.operands or isinstance(node.type, TupleType):
        return None
    if node.prim.name in _FOLDED_VIEWS:
        return fill(node.type, node.operands[0].value)
    if node.prim.kind != "elementwise" or node.prim.eval is None:
        return None
    if any(x.type.dtype.name == "bf16" for x in (node, *node.operands)):
        return None
    values = [np.asarray(x.value, x.type.dtype.numpy) for x in node.operands]
    with np.errstate(all="ignore"):
        value = np.asarray(node.prim.eval(*values, **node.attrs))
    if value.shape != ():
        return None
    return Constant(node.type, value.astype(node.type.dtype.numpy).item())


SPECIAL = {"item": _item_of_tuple, "add": _added, "concat": _put_together}


def _mask_from_result(graph: Graph) -> Graph:
    """Where x > 0 has selected y = x or 0, later uses of x > 0 ask y > 0 instead.

        %m = gt(%x, 0); %y = select(%m, %x, 0); ... %m ...   ->   ... %n = gt(%y, 0); ... %n ...

    The same for every x, NaN too. So the gradient of a relu needs its result, which is kept anyway,
    and neither the mask nor the input has to be stored.
    """
    if all(_relu_mask(node) is None for node in graph.body if node.prim.name == "select"):
        return graph
    users: dict[Node, list[Apply]] = {}
    for node in graph.body:
        for x in node.operands:
            users.setdefault(x, []).append(node)
    env: dict[Node, Node] = {}
    builder = Builder(graph.name, graph.inputs)
    for node in graph.body:
        new = builder.append(renew(node, env) if touched(node, env) else node)
        if new is not node:
            env[node] = new
        mask = _relu_mask(node)
        if mask is not None and len(users[mask]) > 1:
            env[mask] = builder.append(Apply(mask.prim, (new, mask.operands[1]), mask.attrs,
                                             mask.type, mask.name, mask.loc))
    if not env:
        return graph
    return Graph(graph.name, graph.inputs, builder.body, env.get(graph.result, graph.result))


def _relu_mask(node: Apply) -> Apply | None:
    """The m of y = select(m = x > 0, x, 0)."""
    if node.prim.name != "select":
        return None
    mask, x, zero = node.operands
    if (isinstance(mask, Apply) and mask.prim.name == "gt" and mask.operands[0] is x
            and all(isinstance(c, Constant) and c.is_fill and c.value == 0
                    for c in (zero, mask.operands[1]))):
        return mask
    return None
