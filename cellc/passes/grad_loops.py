"""Gradients of loops and of recursion: residuals go on a tape.

    while {test=t, body=g}      fwd: a while whose round is g.fwd, and pushes what g.bwd needs
                                of this round (not what is the same in all, nor what is counted,
                                and of a row of such an array only the index), and counts the
                                rounds.
                                bwd: a while over that count; a round pops, and is g.bwd; cotangents
                                of the state go from round to round, those of invariants add up.
    call g within g             g.fwd pushes all that g.bwd needs when it is done, and g.bwd begins
                                with popping it; so both have a type before they are made.
    push, tape_end              pop, tape_new, and the other way round.

Whatever is pushed in a round by the graphs within it lies below what the round pushes itself, and
backwards all is popped in the opposite order. The round's tape is one more state of the loop.
"""

from __future__ import annotations

from cellc.ir import arith
from cellc.ir.graph import Apply, Builder, Graph, Input, Node, scalar
from cellc.ir.prims import control, tape
from cellc.ir.types import ScalarType, TupleType, i64
from cellc.passes import grad
from cellc.passes.ranges import step_of
from cellc.passes.rebuild import copy_body, copy_input, renew, with_inputs
from cellc.record import record

COUNT = ScalarType(i64)


@record(frozen=True)
class Loop:
    """The forward half of a `while`, for its backward half."""

    halves: object              # of the body
    active: tuple[int, ...]     # operands
    arguments: list[Node]
    own: list[Node]             # the state it gave
    rounds: Node
    pushed: list[tuple]         # the residuals of a round that are on the tape, and their types
    counted: dict[tuple, int]   # those that are counted instead, and by how much
    rows: dict[tuple, tuple[Apply, int]]    # those that are read again, from which operand


def forward(d, node: Apply, env, live):
    """Append the forward half of a `while`; its value, and the Loop."""
    body, n = node.attrs["body"], control.state_size(node)
    given = [env.get(x, x) for x in node.operands]
    active = d.loop_active(node, live)
    outer = d.tape
    halves = d.halves(body, active, tuple(range(n)))
    with Builder(f"{body.name}.fwd", map(copy_input, body.inputs[:n])) as b:
        longer, count = b.input(tape.TAPE, "tape"), b.input(COUNT, "rounds")
        rest = [b.input(x.type, x.name) for x in body.inputs[n:]]
        xs = [*b.inputs[:n], *rest]
        found = grad.parts(copy_body(b, halves.fwd, [*xs, *[longer] * halves.taped]))
        if halves.taped:
            longer = found.pop()
        pool = {"input": xs, "result": found}
        counted = {key: step for key in halves.residuals if key[0] == "input" and key[1] < n
                   and (step := step_of(body, key[1])) is not None}
        pushed, rows = {}, {}
        for key in halves.residuals:
            value = pool[key[0]][key[1]]
            if key in counted or (key[0] == "input" and key[1] >= n):
                continue
            at = _row_of(value, rest)
            if at is None:
                pushed[key] = value
                continue
            rows[key] = value, n + at
            for k, index in enumerate(value.operands[1:]):
                pushed[key, k] = index
        if pushed:
            longer = tape.push(longer, *pushed.values())
        round_ = b.finish(control.tuple(*found[:n], longer, arith.add(count, 1)))
    value = control.while_(*given[:n], outer, scalar(0), *given[n:],
                           test=with_inputs(node.attrs["test"], n, (tape.TAPE, COUNT)),
                           body=round_)
    items = [control.item(value, index=i) for i in range(n + 2)]
    d.tape = items[n]
    own = items[:n]
    shown = control.tuple(*own) if isinstance(node.type, TupleType) else own[0]
    return shown, Loop(halves, active, given, own, items[n + 1],
                       [(key, x.type) for key, x in pushed.items()], counted, rows)


def _row_of(value: Node, arrays: list[Node]) -> int | None:
    """Which of the arrays it is a row of, where it is: the tape then holds the index alone."""
    if not isinstance(value, Apply) or value.prim.name != "read" or not value.shape:
        return None
    return next((i for i, x in enumerate(arrays) if x is value.operands[0]), None)


def backward(d, node: Apply, cotangents, loop: Loop) -> None:
    """Append the backward half of a `while`."""
    n, halves = control.state_size(node), loop.halves
    many = isinstance(node.type, TupleType)
    states = [i for i in loop.active if i < n]
    sums = [i for i in halves.active if i >= n]
    first = []
    for i in states:
        g = cotangents.get((node, i) if many else node)
        first.append(grad.zero(loop.own[i].type) if g is None else g)
    first += [grad.zero(loop.arguments[i].type) for i in sums]
    with Builder(f"{node.attrs['body'].name}.bwd") as b:
        ds = {i: b.input(loop.own[i].type, f"d{i}") for i in states}
        so_far = {i: b.input(loop.arguments[i].type, f"sum{i}") for i in sums}
        longer, count = b.input(tape.TAPE, "tape"), b.input(COUNT, "rounds")
        residuals = {("input", i): loop.arguments[i] for i in range(n, len(loop.arguments))}
        for key, step in loop.counted.items():
            done = arith.mul(arith.sub(count, 1), step)
            residuals[key] = arith.add(b.lift(loop.arguments[key[1]]), done)
        if loop.pushed:
            popped = tape.pop(longer, types=tuple(t for _, t in loop.pushed))
            longer = control.item(popped, index=0)
            residuals |= {key: control.item(popped, index=k)
                          for k, (key, _) in enumerate(loop.pushed, start=1)}
        for key, (value, at) in loop.rows.items():
            index = [residuals[key, k] for k in range(len(value.operands) - 1)]
            residuals[key] = b.append(renew(value, dict(zip(
                value.operands, [b.lift(loop.arguments[at]), *index], strict=True)),
                value.attrs | {"checked": False}))
        answers = grad.parts(copy_body(b, halves.bwd, [
            *(ds[i] for i in halves.seeds), *(b.lift(residuals[key]) for key in halves.residuals),
            *[longer] * halves.taped]))
        if halves.taped:
            longer = answers.pop()
        found = dict(zip(halves.active, answers, strict=True))
        earlier = [found[i] if i in found else grad.zero(ds[i].type) for i in states]
        added = [arith.add(so_far[i], found[i]) for i in sums]
        round_ = b.finish(control.tuple(*earlier, *added, longer, arith.sub(count, 1)))
    outside = [value for value, _ in b.captured.values()]
    with Builder(f"{node.attrs['body'].name}.left", map(copy_input, round_.inputs)) as t:
        test = t.finish(arith.greater(t.inputs[len(first) + 1], 0))
    value = control.while_(*first, d.tape, loop.rounds, *outside, test=test, body=round_)
    for k, i in enumerate([*states, *sums]):
        cotangents.add(node.operands[i], control.item(value, index=k))
    d.tape = control.item(value, index=len(first))


# -- recursion -------------------------------------------------------------------------------------

def make_recursive(d, key: tuple, graph: Graph, active, seeds) -> None:
    """The halves of a graph that calls itself: declared, then made of those that `make` gives."""
    types = [r.type for r in graph.results]
    fwd = Graph.declare(f"{graph.name}.fwd", [*map(copy_input, graph.inputs),
                                              Input(tape.TAPE, "tape")],
                        TupleType((*types, tape.TAPE)))
    bwd = Graph.declare(f"{graph.name}.bwd", [*(Input(types[i], f"d{i}") for i in seeds),
                                              Input(tape.TAPE, "tape")],
                        TupleType((*(graph.inputs[i].type for i in active), tape.TAPE)))
    d.made[key] = (graph, grad.Halves(fwd, bwd, (), seeds, active, True))
    outer = d.tape
    made = d.make(graph, active, seeds, True)
    d.tape = outer
    with Builder(fwd.name, fwd.inputs) as b:
        *found, longer = grad.parts(copy_body(b, made.fwd, b.inputs))
        pool = {"input": b.inputs, "result": found}
        kept = [pool[kind][i] for kind, i in made.residuals]
        longer = tape.push(longer, *kept)
        done = b.finish(control.tuple(*found[:len(types)], longer))
    fwd.define(done.body, done.result)
    with Builder(bwd.name, bwd.inputs) as b:
        popped = tape.pop(b.inputs[-1], types=tuple(x.type for x in kept))
        residuals = [control.item(popped, index=i) for i in range(1, len(kept) + 1)]
        *answers, shorter = grad.parts(copy_body(b, made.bwd, [
            *b.inputs[:-1], *residuals, control.item(popped, index=0)]))
        found = dict(zip(made.active, answers, strict=True))
        done = b.finish(control.tuple(*(found[i] if i in found else grad.zero(graph.inputs[i].type)
                                        for i in active), shorter))
    bwd.define(done.body, done.result)


# -- tapes -----------------------------------------------------------------------------------------

def _by_rule(node: Apply, env, live, cotangents) -> None:
    g = cotangents.get(node)
    if g is not None:
        operands = [env.get(x, x) for x in node.operands]
        for x, dx in zip(node.operands, node.prim.vjp(g, node, *operands, **node.attrs),
                         strict=True):
            if x in live and dx is not None:
                cotangents.add(x, dx)


def _given(node: Apply, cotangents, first: int) -> tuple[list, list]:
    """The cotangents of the floats in a record or its rows, from item `first` on, and of those that
    have none: zeros, since a tape of cotangents gets one for every float."""
    kinds = node.type.items[first:]
    places = [i for i, t in enumerate(kinds, start=first) if control.is_differentiable(t)]
    found = [cotangents.get((node, i)) for i in places]
    return found, [grad.zero(node.type.items[i]) if g is None else g
                   for g, i in zip(found, places, strict=True)]


def _pop(node: Apply, env, live, cotangents) -> None:
    if node not in live:
        return
    below = cotangents.get((node, 0))
    cotangents.add(node.operands[0], tape.push(
        tape.tape_new() if below is None else below, *_given(node, cotangents, 1)[1]))


def _rows(node: Apply, env, live, cotangents) -> None:
    found, full = _given(node, cotangents, 0)
    if any(g is not None for g in found):
        cotangents.add(node.operands[0], tape.tape_of(*full, types=tape.floats(
            node.attrs["types"])))


def _read(node: Apply, env, live, cotangents) -> None:
    longer = cotangents.get((node, 0))
    found, full = _given(node, cotangents, 1)
    if any(g is not None for g in found):
        place = env.get(node.operands[1], node.operands[1])
        longer = tape.tape_add(tape.tape_new() if longer is None else longer, place, *full)
    if node in live and longer is not None:
        cotangents.add(node.operands[0], longer)


def _new(node: Apply, env, live, cotangents) -> None:
    g = cotangents.get(node)
    if g is not None:
        tape.tape_end(g)


def _end(node: Apply, env, live, cotangents) -> None:
    if node in live:
        cotangents.add(node.operands[0], tape.tape_new())


TAPE_RULES = {"push": _by_rule, "tape_add": _by_rule, "tape_put": _by_rule, "tape_of": _by_rule,
              "pop": _pop, "tape_rows": _rows, "tape_read": _read, "tape_new": _new,
              "tape_end": _end}
