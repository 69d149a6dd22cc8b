"""rows: loops whose rounds are independent, shared between threads.

    for i in range(height):             each round writes the rows i of some arrays, and reads no
        for j in range(width):          other rows of them
            out[i, j] = ...

`i` stands in one place among the indices of an array, not always in the first. Such a loop counts
up by one to a number that its test alone asks for, carries nothing else from round to round, has no
effects and nothing in it that can fail. Only a loop with a loop in it is worth it. Its round
becomes a function of its own, and the pool runs stretches of rounds.
"""

from __future__ import annotations

from cellc.ir.graph import Apply, Graph, Input, Node, has_effect, subgraphs
from cellc.ir.prims.control import state_size
from cellc.kernels import polling
from cellc.kernels.addresses import Addresses
from cellc.kernels.effects import may_fail
from cellc.kernels.frame import Frame
from cellc.kernels.places import in_register, result_types
from cellc.kernels.text import Function

STRETCHES = 64          # tasks that a loop is cut into: rounds may take unequal time


def independent_counter(node: Apply) -> tuple[int, Node] | None:
    """The state that counts the rounds of a loop whose rounds are independent, and the limit of
    the count (an input of the test, or a constant); None for other loops."""
    test, body, n = node.attrs["test"], node.attrs["body"], state_size(node)
    if len(test.body) != 1 or test.result.prim.name != "lt" or len(body.results) != n:
        return None
    x, limit = test.result.operands
    if x not in test.inputs[:n] or limit in test.inputs[:n]:
        return None
    counter = test.inputs.index(x)
    if not _counts(body, counter) or not any(
            inner.prim.name == "while" for g in body.reachable() for inner in g.body):
        return None
    others = [i for i in range(n) if i != counter]
    if any(in_register(result_types(node)[i]) for i in others) or _may_interfere(body):
        return None
    if not all(any(_stays_in_row(body, i, i, body.inputs[counter], at)
                   for at in range(len(body.inputs[i].shape))) for i in others):
        return None
    return counter, limit


def _counts(body: Graph, i: int) -> bool:
    x, result = body.inputs[i], body.results[i]
    return (isinstance(result, Apply) and result.prim.name == "add" and x in result.operands
            and any(getattr(other, "value", None) == 1 for other in result.operands))


def _may_interfere(body: Graph) -> bool:
    return any(has_effect(node) or may_fail(node) or node.prim.name in ("call", "push", "pop")
               for node in body.body)


def _stays_in_row(graph: Graph, given: int, result: int, row: Node, at: int) -> bool:
    """Is a result an array `given`, changed where index number `at` is `row` alone, and is nothing
    else of it read?"""
    versions: dict[tuple[Node, int], None] = {(graph.inputs[given], 0): None}
    for node in graph.body:
        if node.prim.name == "item":
            if (node.operands[0], node.attrs["index"]) in versions:
                versions[node, 0] = None
            continue
        held = [k for k, x in enumerate(node.operands) if (x, 0) in versions]
        if not held or node is graph.result and node.prim.name == "tuple":
            continue
        made = _changed_rows(node, held, row, at)
        if made is None:
            return False
        versions.update(((node, i), None) for i in made)
    places = [i for i, x in enumerate(graph.results) if (x, 0) in versions]
    return places == [result]


def _changed_rows(node: Apply, held: list[int], row: Node, at: int) -> list[int] | None:
    """Which results of an apply are the array with a changed row; None where more is done."""
    name, operands = node.prim.name, node.operands
    if name == "read":
        return [] if held == [0] and operands[1 + at:2 + at] == (row,) else None
    if name in ("write", "accumulate"):
        return [0] if held == [0] and operands[2 + at:3 + at] == (row,) else None
    if name not in ("while", "cond") or len(held) != 1:
        return None
    first = 1 if name == "cond" else 0
    k = held[0] - first
    if k < 0 or row not in operands[first:]:
        return None
    place = operands[first:].index(row)
    if name == "while":
        n = state_size(node)
        test = node.attrs["test"]
        read = any(test.inputs[k] in inner.operands for inner in test.body)
        if k >= n or place < n or read or len(node.attrs["body"].results) != n:
            return None
    found = set()
    for key, g in subgraphs(node).items():
        if key == "test":
            continue
        places = [i for i, _ in enumerate(g.results)
                  if _stays_in_row(g, k, i, g.inputs[place], at)]
        found.add(tuple(places))
    if len(found) != 1 or len(places) != 1 or (name == "while" and places != [k]):
        return None
    return places


def emit(region, frame: Frame, node: Apply, counter: int, limit: Node) -> None:
    """Write the loop as a function of a stretch of rounds, and the parallel region that runs it."""
    f, host, n = frame.f, region.host, state_size(node)
    body = region.inner[node][1]
    homes = {i: region.pointers[id(region.slots[node, i])] for i in range(n) if i != counter}
    for i, home in homes.items():
        region.settle(frame, node, i, home)
    test = node.attrs["test"]
    first = region.register(node.operands[counter])
    last = region.register(node.operands[test.inputs.index(limit)] if isinstance(limit, Input)
                           else limit)
    rounds = f.intrinsic("smax", "i64", f.op(f"sub i64 {last}, {first}"), "0")
    words = [("ptr", frame.dims), ("ptr", "%error"), ("i64", first), ("i64", rounds)]
    for i, x in enumerate(node.operands):
        if i == counter:
            continue
        if i in homes:
            words.append(("ptr", homes[i]))
        elif in_register(x.type):
            words.append(("ptr", frame.spilled(x.type, region.register(x))))
        else:
            words.append(("ptr", region.pointer(x)))
    context = frame.alloca(f"[{len(words)} x i64]")
    for i, (ty, value) in enumerate(words):
        f.store(ty, value, f.gep("i64", context, str(i)))
    name = f"rows.{host.fresh_number()}"
    _function(host, name, node, counter, body)
    tasks = f.intrinsic("smin", "i64", rounds, str(STRETCHES))
    with f.when(f.op(f"icmp sgt i64 {rounds}, 0")):
        f.call("void", "cellc_polled_parallel", ("ptr", f"@{name}"), ("ptr", context),
               ("i64", tasks), ("ptr", "%error"))
    frame.fail_if(f.op(f"icmp ne i64 {f.load('i64', '%error')}, 0"))
    host.has_loops = True
    region.registers[node, counter] = f.add(first, rounds)


def _function(host, name: str, node: Apply, counter: int, body) -> None:
    """`i32 rows(ptr words, i64 task, i64 tasks)`: the rounds of one stretch."""
    f = Function(host.module, "i32", name, [("ptr", "words"), ("i64", "task"), ("i64", "tasks")],
                 linkage="define internal")
    frame = Frame(f, host.symbols)
    frame.alone = True
    f.do("%dims = load ptr, ptr %words")
    f.do(f"%error = load ptr, ptr {f.gep('i64', '%words', '1')}")
    first, rounds = (f.load("i64", f.gep("i64", "%words", str(i))) for i in (2, 3))
    host.take_arena(frame, body.totals)
    frame.fail_if(f.op(f"icmp ne i64 {f.load('i64', '%error')}, 0"))    # another stretch has
    inputs, place = [], 4
    for i, x in enumerate(node.attrs["body"].inputs):
        if i == counter:
            inputs.append("")
            continue
        word = f.load("ptr", f.gep("i64", "%words", str(place)))
        inputs.append(frame.load_register(x.type, word) if in_register(x.type) else word)
        place += 1
    frame.addresses = Addresses(frame, {}, inputs)
    n = state_size(node)
    targets = {i: inputs[i] for i in range(n) if i != counter}
    begin, end = (f.op(f"udiv i64 {f.mul(rounds, t)}, %tasks")
                  for t in ("%task", f.add("%task", "1")))
    with f.loop(f.add(first, begin), f.add(first, end)) as loop:
        inputs[counter] = loop.index
        body.emit(frame, inputs, targets)
        polling.count(frame, polling.cost(node.attrs["body"]))
    frame.close()
