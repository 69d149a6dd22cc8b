"""prune: what loops and branches carry and nobody needs goes.

    a state of a `while` that a round gives on unchanged      ->  an invariant
    one of which each round reads and overwrites its own row  ->  an invariant, if nobody else reads
    a state that neither the result nor other states need     ->  gone, with all it was made of
    an invariant that neither test nor body reads             ->  gone
    a result of a `cond` that nobody reads                    ->  gone, from both branches
    an operand of a `cond` that neither branch reads          ->  gone

The parser carries whatever may be read later, and the gradient asks for whatever may have a
cotangent; what is really used is known only now. Assumes nothing; effects stay. LLVM could do it
for registers, and does not know that arrays are only carried.
"""

from __future__ import annotations

from cellc.ir.graph import PRIMITIVES, Apply, Graph, Node, has_effect, subgraphs
from cellc.ir.prims.control import state_size
from cellc.ir.types import TupleType
from cellc.passes import dead_code
from cellc.passes.ranges import step_of
from cellc.passes.rebuild import everywhere, renew, use_counts

CARRIERS = ("while", "cond")


def run(graph: Graph) -> Graph:
    if not any(node.prim.name in CARRIERS for g in graph.reachable() for node in g.body):
        return graph
    return everywhere(_from_outside(graph, {}), _prune)


def _from_outside(graph: Graph, done: dict) -> Graph:
    """Prune the graph, then what is inside it: an inner loop's results may be of no use now."""
    if id(graph) not in done:
        done[id(graph)] = (graph, Graph.declare(graph.name, graph.inputs, graph.type))
        small = _prune(graph)
        env: dict[Node, Node] = {}
        for node in small.body:
            inner = {key: _from_outside(g, done) for key, g in subgraphs(node).items()}
            env[node] = renew(node, env, node.attrs | inner if inner else None)
        done[id(graph)][1].define(env.values(), env.get(small.result, small.result))
    return done[id(graph)][1]


def _prune(graph: Graph) -> Graph:
    if not any(node.prim.name in CARRIERS for node in graph.body):
        return graph
    graph = dead_code.sweep(graph)
    used = _used_items(graph)
    env: dict[Node, Node] = {}
    parts: dict[Node, dict[int, Node]] = {}         # old loop or branch -> its items' values now
    body: list[Apply] = []
    for node in graph.body:
        if node.prim.name == "item" and node.operands[0] in parts:
            now = parts[node.operands[0]]
            if node.attrs["index"] in now:      # else only what another result is made of reads it
                env[node] = now[node.attrs["index"]]
            continue
        new = renew(node, env) if any(x in env for x in node.operands) else node
        small = None
        if node.prim.name in CARRIERS:
            wanted = used.get(node, set())
            small = _loop(new, wanted) if node.prim.name == "while" else _branch(new, wanted)
        if small is None:
            body.append(new)
            if new is not node:
                env[node] = new
            continue
        made, kept, others = small
        now = parts[node] = {}
        if kept or has_effect(made):
            body.append(made)
        many = isinstance(made.type, TupleType)
        for place, index in enumerate(kept):
            item = made
            if many:
                item = Apply(PRIMITIVES["item"], (made,), {"index": place}, None, node.name,
                             node.loc)
                body.append(item)
            now[index] = item
        now.update(others)
        if not isinstance(node.type, TupleType) and 0 in now:
            env[node] = now[0]
    if not parts:
        return graph
    return Graph(graph.name, graph.inputs, body, env.get(graph.result, graph.result))


def _used_items(graph: Graph) -> dict[Node, set[int]]:
    """Which results of each loop and branch are needed."""
    return _needs(graph, {graph.result})[1]


def _types(node: Node) -> tuple:
    return node.type.items if isinstance(node.type, TupleType) else (node.type,)


# -- loops -----------------------------------------------------------------------------------------

def _loop(node: Apply, used: set[int]):
    """(the smaller loop, the states it has by their old numbers, values of other states)."""
    test, body, n = node.attrs["test"], node.attrs["body"], state_size(node)
    if node.operands and len(body.results) != n:
        return None                                     # the body's result is a call's tuple
    still = {i for i in range(n) if body.results[i] is body.inputs[i]
             or i not in used and _overwrites_own(test, body, i)}
    needed = _needed(test, body, n, used, still)
    state = [i for i in range(n) if i in needed and i not in still]
    if not state and needed and has_effect(node):
        state = [min(needed)]
    read = _reads(test) | _reads(body, [body.results[i] for i in state])
    rest = [i for i in range(len(node.operands))
            if (i >= n or i in still) and i in read and i not in state]
    order = state + rest
    if len(state) == n and len(order) == len(node.operands):
        return None
    if not state and not has_effect(node):
        return node, [], {i: node.operands[i] for i in still & used}
    small = {"test": _cut(test, order, test.result),
             "body": _cut(body, order, [body.results[i] for i in state])}
    made = Apply(node.prim, tuple(node.operands[i] for i in order), node.attrs | small, None,
                 node.name, node.loc)
    return made, state, {i: node.operands[i] for i in still}


def _overwrites_own(test: Graph, body: Graph, i: int) -> bool:
    """Does each round overwrite a row of state i, of which it reads that alone, and no other round
    the same? (The gradient of rounds that write a row each clears what it has taken.)"""
    x, write = body.inputs[i], body.results[i]
    if not (isinstance(write, Apply) and write.prim.name == "write"):
        return False
    place, uses = write.operands[2:], use_counts(body)
    counts = {y for k in range(len(body.results)) if step_of(body, k)
              for y in (body.inputs[k], body.results[k])}
    return (write.operands[0] is x and uses[write] == 1 and uses[x] > 1
            and not counts.isdisjoint(place) and not use_counts(test)[test.inputs[i]]
            and all(node is write or node.prim.name == "read" and node.operands[1:] == place
                    for node in body.body if x in node.operands)
            and write.operands.count(x) == 1)


def _needed(test: Graph, body: Graph, n: int, used: set[int], still: set[int]) -> set[int]:
    """The states that the test, what is used, or another needed state depends on; one at least
    where the loop does something."""
    needed = {i for i in used | _reads(test) if i < n}
    if body.has_effects:
        needed |= {i for i in _reads(body, ()) if i < n}
    if n and not needed and (body.has_effects or test.has_effects):
        needed = {0}
    while True:
        more = {i for i in _reads(body, [body.results[i] for i in needed - still]) if i < n}
        if more <= needed:
            return needed
        needed |= more


def _reads(graph: Graph, results=None) -> set[int]:
    """The inputs that these results (all, where none are named) and the effects depend on."""
    wanted, _ = _needs(graph, {graph.result} if results is None else set(results))
    return {i for i, x in enumerate(graph.inputs) if x in wanted}


def _needs(graph: Graph, wanted: set[Node]) -> tuple[set[Node], dict[Node, set[int]]]:
    """The nodes that these nodes and the effects need, and which results of loops and branches:
    one result does not need what only another is made of."""
    items: dict[Node, set[int]] = {}
    for node in reversed(graph.body):
        name = node.prim.name
        if name == "item" and node in wanted:
            source = node.operands[0]
            if isinstance(source, Apply) and source.prim.name in CARRIERS:
                items.setdefault(source, set()).add(node.attrs["index"])
            else:
                wanted.add(source)
        elif name in CARRIERS and (node in wanted or node in items or has_effect(node)):
            if node in wanted:
                items[node] = set(range(len(_types(node))))
            wanted.update(_operands_for(node, items.get(node, set())))
        elif node in wanted or has_effect(node):
            wanted.update(node.operands)
    return wanted, items


def _operands_for(node: Apply, used: set[int]) -> set[Node]:
    """The operands of a loop or branch that these of its results, and its effects, depend on."""
    n = len(_types(node))
    if node.prim.name == "while":
        test, body = node.attrs["test"], node.attrs["body"]
        if len(body.results) != n:
            return set(node.operands)
        needed = _needed(test, body, n, used, set())
        read = _reads(test) | _reads(body, [body.results[i] for i in needed])
        return {node.operands[i] for i in needed | read}
    graphs = subgraphs(node).values()
    if any(len(g.results) != n for g in graphs):
        return set(node.operands)
    read = set().union(*(_reads(g, [g.results[i] for i in used]) for g in graphs))
    return {node.operands[0], *(node.operands[i + 1] for i in read)}


def _cut(graph: Graph, order: list[int], result) -> Graph:
    """The graph with only these inputs, in this order, and this result, or tuple of results."""
    body = list(graph.body)
    if isinstance(result, list):
        if len(result) == 1:
            result = result[0]
        else:
            result = Apply(PRIMITIVES["tuple"], tuple(result), {})
            body.append(result)
    cut = Graph(graph.name, [graph.inputs[i] for i in order], body, result)
    # What is inside may still ask for inputs that only results nobody reads depend on.
    while (small := dead_code.sweep(_prune(cut))) is not cut:
        cut = small
    return cut


# -- branches --------------------------------------------------------------------------------------

def _branch(node: Apply, used: set[int]):
    """(the smaller branch, the results it has by their old numbers, {})."""
    graphs = subgraphs(node)
    n = len(_types(node))
    if any(len(g.results) != n for g in graphs.values()):
        return None
    kept = [i for i in range(n) if i in used]
    read = set().union(*(_reads(g, [g.results[i] for i in kept]) for g in graphs.values()))
    order = [i for i in range(len(node.operands) - 1) if i in read]
    if len(kept) == n and len(order) == len(node.operands) - 1:
        return None
    if not kept and not has_effect(node):
        return node, [], {}
    small = {key: _cut(g, order, [g.results[i] for i in kept]) for key, g in graphs.items()}
    made = Apply(node.prim, (node.operands[0], *(node.operands[i + 1] for i in order)), small,
                 None, node.name, node.loc)
    return made, kept, {}
