"""The gradient of a loop that keeps few of its states: `while {checkpoint='log'}`.

    fwd     the loop as it is, counting its rounds
    bwd     back(state, d, rounds):
                a few rounds    run them with a tape, and back along it
                many            the state in the middle; back through the second half from there,
                                then through the first half

`back` is a graph that calls itself. Each of its calls keeps one state, and they are as many as the
logarithm of the rounds, less that of the few; the rounds are run half as often.
"""

from __future__ import annotations

from cellc.ir import arith
from cellc.ir.graph import Apply, Builder, Graph, Input, Node, scalar
from cellc.ir.prims import control, tape
from cellc.ir.types import TupleType
from cellc.passes import grad
from cellc.passes.grad_loops import COUNT
from cellc.passes.rebuild import copy_body, copy_input, with_inputs
from cellc.record import record

TAPE_BYTES = 4 << 20        # what the tape of a few rounds may take
FEWEST, MOST = 64, 1 << 20  # rounds that are few


@record(frozen=True)
class Checkpointed:
    """The forward half of such a loop, for its backward half."""

    active: tuple[int, ...]     # operands
    arguments: list[Node]
    own: list[Node]             # the state it gave
    rounds: Node


def forward(d, node: Apply, env, live):
    """Append the loop, with a count of its rounds; its value, and what `backward` needs."""
    body, n = node.attrs["body"], control.state_size(node)
    given = [env.get(x, x) for x in node.operands]
    with Builder(f"{body.name}.counted", map(copy_input, body.inputs[:n])) as b:
        count = b.input(COUNT, "rounds")
        rest = [b.input(x.type, x.name) for x in body.inputs[n:]]
        found = _state(copy_body(b, body, [*b.inputs[:n], *rest]), n)
        round_ = b.finish(control.tuple(*found, arith.add(count, 1)))
    value = control.while_(*given[:n], scalar(0), *given[n:], body=round_,
                           test=with_inputs(node.attrs["test"], n, (COUNT,)))
    items = [control.item(value, index=i) for i in range(n + 1)]
    own = items[:n]
    shown = control.tuple(*own) if isinstance(node.type, TupleType) else own[0]
    return shown, Checkpointed(d.loop_active(node, live), given, own, items[n])


def backward(d, node: Apply, cotangents, loop: Checkpointed) -> None:
    """Append the call of `back` on the whole loop."""
    n, many = control.state_size(node), isinstance(node.type, TupleType)
    states = [i for i in loop.active if i < n]
    sums = [i for i in loop.active if i >= n]
    first = []
    for i in states:
        g = cotangents.get((node, i) if many else node)
        first.append(grad.zero(loop.own[i].type) if g is None else g)
    first += [grad.zero(loop.arguments[i].type) for i in sums]
    outer = d.tape
    graph = _back(d, node, states, sums)
    d.tape = outer
    result = control.call(*loop.arguments, *first, loop.rounds, graph=graph)
    for i, g in zip([*states, *sums], _items(result, len(first)), strict=True):
        cotangents.add(node.operands[i], g)


def _state(result: Node, n: int) -> list[Node]:
    """The parts of what a round gives."""
    found = grad.parts(result)
    return found if len(found) == n else [control.item(result, index=i) for i in range(n)]


def _rounds(node: Apply) -> Graph:
    """(state..., invariants..., rounds) -> state: so many rounds of the loop."""
    body, n = node.attrs["body"], control.state_size(node)
    with Builder(f"{body.name}.step", map(copy_input, body.inputs[:n])) as b:
        left = b.input(COUNT, "left")
        rest = [b.input(x.type, x.name) for x in body.inputs[n:]]
        found = _state(copy_body(b, body, [*b.inputs[:n], *rest]), n)
        step = b.finish(control.tuple(*found, arith.sub(left, 1)))
    with Builder(f"{body.name}.more", map(copy_input, step.inputs)) as b:
        more = b.finish(arith.greater(b.inputs[n], 0))
    with Builder(f"{body.name}.rounds", map(copy_input, body.inputs)) as b:
        xs, rounds = list(b.inputs), b.input(COUNT, "rounds")
        value = control.while_(*xs[:n], rounds, *xs[n:], test=more, body=step)
        return b.finish(control.tuple(*(control.item(value, index=i) for i in range(n))))


def _back(d, node: Apply, states: list[int], sums: list[int]) -> Graph:
    """(state..., invariants..., d..., sums..., rounds) -> (d..., sums...), the graph `back`."""
    body, n, rounds = node.attrs["body"], control.state_size(node), _rounds(node)
    wanted = [*states, *sums]
    types = [body.inputs[i].type for i in wanted]
    inputs = [*map(copy_input, body.inputs), *(Input(t, f"d{i}") for i, t in zip(
        wanted, types, strict=True)), Input(COUNT, "rounds")]
    back = Graph.declare(f"{body.name}.back", inputs,
                         types[0] if len(types) == 1 else TupleType(tuple(types)))
    few, at_most = _few(d, rounds, inputs, n, states, sums)
    with Builder(f"{body.name}.many", map(copy_input, inputs)) as b:
        xs, ds, left = _split(b.inputs, len(body.inputs))
        half = arith.floordiv(left, 2)
        middle = control.call(*xs, half, graph=rounds)
        later = [control.item(middle, index=i) for i in range(n)]
        ds = _call(back, [*later, *xs[n:], *ds, arith.sub(left, half)], len(types))
        many = b.finish(_together(_call(back, [*xs, *ds, half], len(types))))
    with Builder(back.name, inputs) as b:
        is_few = arith.less_equal(inputs[-1], at_most)
        result = control.cond(is_few, *inputs, then=few, orelse=many)
        done = b.finish(_together(_items(result, len(types))))
    return back.define(done.body, done.result)


def _few(d, rounds: Graph, inputs, n: int, states, sums) -> tuple[Graph, int]:
    """`back` for a few rounds, forward with a tape and backward along it; and how many these are.
    """
    m = len(rounds.inputs) - 1
    active = (*states, *sums)
    halves = d.halves(rounds, active, tuple(states), taped=True)
    with Builder(f"{rounds.name}.few", map(copy_input, inputs)) as b:
        xs, ds, left = _split(b.inputs, m)
        given = [*xs, left]
        *values, longer = grad.parts(copy_body(b, halves.fwd, [*given, tape.tape_new()]))
        pool = {"input": given, "result": values}
        after = dict(zip(states, ds, strict=False))
        *answers, shorter = grad.parts(copy_body(b, halves.bwd, [
            *(after[i] for i in halves.seeds),
            *(pool[kind][i] for kind, i in halves.residuals), longer]))
        tape.tape_end(shorter)
        found = dict(zip(halves.active, answers, strict=True))
        before = [found[i] if i in found else grad.zero(xs[i].type) for i in states]
        so_far = ds[len(states):]
        totals = [arith.add(total, found[i]) if i in found else total
                  for i, total in zip(sums, so_far, strict=True)]
        graph = b.finish(_together([*before, *totals]))
    return graph, min(max(TAPE_BYTES // max(1, _pushed_bytes(halves.fwd)), FEWEST), MOST)


def _pushed_bytes(graph: Graph) -> int:
    """What a round puts on the tape, as far as that is known; of an array of unknown size a page.
    """
    pushed = (x.type for g in graph.reachable() for node in g.body if node.prim.name == "push"
              for x in node.operands[1:])
    return sum(max(8, t.size * t.dtype.itemsize) if isinstance(t.size, int) else 4096
               for t in pushed)


def _split(inputs, m: int):
    inputs = list(inputs)
    return inputs[:m], inputs[m:-1], inputs[-1]


def _call(graph: Graph, operands, count: int) -> list[Node]:
    return _items(control.call(*operands, graph=graph), count)


def _items(value: Node, count: int) -> list[Node]:
    return [value] if count == 1 else [control.item(value, index=i) for i in range(count)]


def _together(values: list[Node]) -> Node:
    return values[0] if len(values) == 1 else control.tuple(*values)
