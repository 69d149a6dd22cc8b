"""blocks: loops whose rows do not depend on one another go through all rounds block by block.

    while(%h: f32[32,128], %sum, %tape):           for each block of rows, at the same time:
      %h' = tanh(dot(%h, %u))                        while(%h: f32[16,128], %sum, %kept):
      %sum' = add(%sum, dot(%h, %x)) over rows  ->     the same
      push(%tape, %h)                                  write(%kept, %h, %round, %block)
                                                   %sum = the sum of the blocks' sums

Threads that share each operation of a round meet as often as there are operations, and take from
one another what they have just written. A thread that takes some of the rows (the sequences of a
batch, the elements of an array) through all rounds meets nobody, and what rows keep from round to
round stays in its cache: the tiling of loops (Wolf and Lam, 1991) where one of them is within the
arrays. `cuts.py` finds the loops and the axis. A tape on which a loop leaves its values, and from
which another takes them, becomes arrays with a row for each round; what rounds only add to is added
up in each block. `kernels/rows.py` shares the blocks between threads. Assumes that `sums` has made
states of such sums. LLVM sees one kernel at a time.
"""

from __future__ import annotations

import math

from cellc import config
from cellc.errors import IRFault
from cellc.ir import arith
from cellc.ir.graph import (
    Apply,
    Builder,
    Constant,
    Graph,
    Input,
    Node,
    current_builder,
    fill,
    scalar,
)
from cellc.ir.prims import control, element, shape
from cellc.ir.prims import elementwise as e
from cellc.ir.prims.reduce import reduce_sum
from cellc.ir.types import ScalarType, TapeType, TensorType, TupleType, Type
from cellc.kernels.loops import COST
from cellc.kernels.target import Target, host
from cellc.passes.cuts import PARTS, Cut, Loop, bytes_of, cuts, families
from cellc.passes.rebuild import everywhere, renew, touched, use_counts
from cellc.record import fresh, record

ROWS = 4            # of a block: products of fewer read their right operand for little
SPILL = 4           # times a second-level cache, and weights come from the next one
SHARE = 4           # of a second-level cache a block of rows without products takes one such part
LEAST = 100_000     # cycles of all rounds that are worth it,
SHORT = 2_000       # and of one round of a block
LONG = 1_000_000    # cycles of a round in which threads that meet lose nothing
MANY = 16           # rounds where their number is not known


def run(graph: Graph) -> Graph:
    if not any(node.prim.name == "while" for g in graph.reachable() for node in g.body):
        return graph
    return everywhere(graph, _in_blocks)


def _in_blocks(graph: Graph) -> Graph:
    if not any(node.prim.name == "while" for node in graph.body):
        return graph
    used = use_counts(graph)
    plans: dict[Node, tuple[_Blocks, Loop]] = {}
    for family in families(graph):
        blocks = _best(cuts(family), graph, used)
        if blocks is not None:
            plans |= {loop.node: (blocks, loop) for loop in family.loops}
    return _rewritten(graph, plans, used) if plans else graph


def _rewritten(graph: Graph, plans, used) -> Graph:
    env: dict[Node, Node] = {}
    now: dict[tuple[Node, int], Node] = {}      # the values of loops' items
    with Builder(graph.name, graph.inputs) as b:
        for node in graph.body:
            first = node.operands[0] if node.operands else None
            if node in plans:
                blocks, loop = plans[node]
                b.loc = node.loc
                wanted = {x.attrs["index"] for x in graph.body if x.prim.name == "item"
                          and x.operands[0] is node and used[x]}
                now.update(blocks.emit(loop, [env.get(x, x) for x in node.operands], wanted))
            elif node.prim.name == "item" and first in plans:
                if (first, node.attrs["index"]) in now:
                    env[node] = now[first, node.attrs["index"]]
            else:
                new = b.append(renew(node, env) if touched(node, env) else node)
                if new is not node:
                    env[node] = new
        return b.finish(env.get(graph.result, graph.result))


# -- what is worth it ------------------------------------------------------------------------------

def _best(ways: list[Cut], graph: Graph, used) -> _Blocks | None:
    """The cut in which a block has most to do, if there is one that is worth it."""
    found = [_Blocks(cut, count) for cut in ways
             if _is_known(cut, graph, used) and (count := _count(cut)) > 1]
    return max(found, key=lambda blocks: blocks.rows, default=None)


def _is_known(cut: Cut, graph: Graph, used) -> bool:
    """Can all that is used of the loops be put together from what blocks give?"""
    for loop in cut.family.loops:
        for node in graph.body:
            if node.prim.name != "item" or node.operands[0] is not loop.node or not used[node]:
                continue
            i = node.attrs["index"]
            x = loop.body.inputs[i]
            if not (isinstance(x.type, TapeType) or i in loop.finals or (loop.node, i) in cut.sums
                    or cut.axis(x) is not None):
                return False
        if any(loop.node in node.operands and node.prim.name != "item" for node in graph.body):
            return False
    return True


def _count(cut: Cut) -> int:
    """Into how many blocks the rows are cut; 1 where they had better stay together."""
    target, loops = host(config.get("CPU") or None), cut.family.loops
    cycles = max(sum(map(_cycles, loop.body.body)) for loop in loops)
    rounds = min(MANY if loop.rounds is None else loop.rounds for loop in loops)
    if rounds < 2 or cycles * rounds < LEAST:
        return 1
    if any(node.prim.name == "dot" for loop in loops for node in loop.body.body):
        return _count_with_products(cut, target)
    return _count_of_rows(cut, target, cycles)


def _count_with_products(cut: Cut, target: Target) -> int:
    """A block for each core, where rounds leave what others take and the weights and sums, of which
    each core then has all, are not far larger than its cache."""
    shared = max(sum(bytes_of(x.type) for x in loop.body.inputs if cut.axis(x) is None)
                 for loop in cut.family.loops)
    if shared > SPILL * target.l2_bytes or not (cut.sums or cut.family.tapes):
        return 1
    most = min(target.cores, cut.size // ROWS)
    return next((n for n in range(most, 1, -1) if cut.size % n == 0), 1)


def _count_of_rows(cut: Cut, target: Target, cycles: float) -> int:
    """Blocks that fit the cache, a number of them for each core."""
    held = max(map(cut.held, cut.family.loops))
    part = target.l2_bytes // SHARE
    least = max(target.cores, -(-held // part))
    if held <= part * target.cores and cycles > LONG:
        return 1
    lanes = target.lanes(32) if any(
        cut.axis(x) == len(x.shape) - 1 for loop in cut.family.loops for x in loop.body.inputs
        if isinstance(x.type, TensorType)) else 1
    for n in range(least, cut.size // lanes + 1):
        if cycles / n < SHORT:
            return 1
        if cut.size % (n * lanes) == 0:
            return n
    return 1


def _cycles(node: Apply) -> float:
    """About what an apply takes one core, in vectors of 16."""
    if not isinstance(node.type, TensorType):
        return 0
    cost = COST.get(node.prim.name, 1)
    if node.prim.name == "dot":
        cost = math.prod(node.operands[0].shape[i] for i in node.attrs["contract"][0])
    return math.prod(node.shape) * cost / 16


# -- rewriting -------------------------------------------------------------------------------------

@record(eq=False)
class _Blocks:
    """A cut into `count` blocks, and what loops have left on tapes: an array for each value of a
    record, by the loop and the state that take them."""

    cut: Cut
    count: int
    left: dict[tuple[Node, int], list[Node]] = fresh(dict)

    @property
    def rows(self) -> int:
        return self.cut.size // self.count

    # -- types
    def type(self, x: Node) -> Type:
        """The type of a value in one block."""
        at = self.cut.axis(x)
        if at is None:
            return x.type
        if self.cut.is_table(x):
            return self.split(x)
        return x.type.with_shape((*x.shape[:at], self.rows, *x.shape[at + 1:]))

    def split(self, x: Node) -> TensorType:
        """The type of an array with its axis as two: blocks, and the rows of one."""
        at = self.cut.axis(x)
        return x.type.with_shape((*x.shape[:at], self.count, self.rows, *x.shape[at + 1:]))

    def of_all(self, x: Node, *lead: int) -> Apply:
        """Append an array for a value of each block, and of each round."""
        t = self.type(x)
        return control.empty(type=TensorType(t.dtype, (*lead, self.count, *t.shape)))

    def resized(self, x: Node, value: Node) -> Node:
        """A constant for the place of x in one block; other values as they are."""
        constant = isinstance(value, Constant) and self.cut.axis(x) is not None
        return fill(self.type(x), value.value) if constant else value

    # -- the loop over the blocks
    def emit(self, loop: Loop, operands: list[Node], wanted: set[int]) -> dict[tuple, Node]:
        """Append the blocks of a loop; the values of its items. Other loops may go on with the tape
        that this one no longer uses."""
        body = loop.body
        whole = {x: self._whole(x, y) for x, y in zip(body.inputs, operands, strict=True)
                 if not isinstance(x.type, TapeType)}
        tables = [i for i in loop.arrays if self.cut.is_table(body.inputs[i])]
        kept = [i for i in loop.arrays if i in wanted and i not in tables]
        records = [self.of_all(x, loop.rounds) for push in loop.pushes.values()
                   for x in push.operands[1:]]
        results = [self.of_all(body.inputs[i]) for i in kept]
        starts = [scalar(0), *(whole[body.inputs[i]] for i in tables), *results, *records]

        def block(k, *states):
            ours, results = states[:len(tables)], states[len(tables):len(tables) + len(kept)]
            last, records = self._rounds(loop, k, whole, dict(zip(tables, ours, strict=True)),
                                         states[len(tables) + len(kept):])
            return [arith.add(k, 1), *(last[i] for i in tables),
                    *(element.write(x, last[i], k, checked=False)
                      for i, x in zip(kept, results, strict=True)), *records]

        names = [*(body.inputs[i].name for i in (*tables, *kept)), *["kept"] * len(records)]
        _, *made = _while(f"{body.name}.blocks", starts, ["block", *names],
                          lambda k, *_: arith.less(k, self.count), block)
        found = {(loop.node, i): operands[i] for i in (*loop.pushes, *loop.pops)}
        found |= {(loop.node, i): scalar(value) for i, value in loop.finals.items()}
        for i, x in zip([*tables, *kept], made, strict=False):
            found[loop.node, i] = self._joined(loop, i, x, operands[i])
        self._leave(loop, made[len(tables) + len(kept):])
        return found

    def _whole(self, x: Node, operand: Node) -> Node:
        """Append an operand of a loop with its axis as two."""
        if self.cut.axis(x) is None:
            return operand
        t = self.split(x)
        if isinstance(operand, Constant) and operand.is_fill:
            return Constant(t, operand.value)
        if isinstance(operand, Apply) and operand.prim.name == "empty":
            return control.empty(type=t)
        return shape.reshape(operand, shape=t.shape)

    def _joined(self, loop: Loop, i: int, made: Node, start: Node) -> Node:
        """Append the result of a loop, from what the blocks gave."""
        if (loop.node, i) not in self.cut.sums:
            return shape.reshape(made, shape=loop.body.inputs[i].shape)
        total = reduce_sum(made, axes=(0,))
        zeros = isinstance(start, Constant) and start.is_fill and start.value == 0
        return total if zeros else e.add(start, total)

    def _leave(self, loop: Loop, records: list[Node]) -> None:
        """Note where those who take what a loop has recorded will find it."""
        for state, push in loop.pushes.items():
            tape = next(t for t in self.cut.family.tapes if (t.source, t.pushed) == (loop, state))
            n = len(push.operands) - 1
            self.left[tape.sink.node, tape.popped], records = records[:n], records[n:]

    # -- the rounds of a block
    def _rounds(self, loop: Loop, k: Node, whole, tables, records) -> tuple[dict, list[Node]]:
        """Append the loop over the rounds of block k; its states, and what it has recorded."""
        n = len(loop.states)
        carried = [i for i in loop.states if not isinstance(loop.body.inputs[i].type, TapeType)]
        own = {x: self._own(x, value, k) for x, value in whole.items()}
        starts = [tables.get(i, fill(loop.body.inputs[i].type, 0) if (loop.node, i) in self.cut.sums
                             else own[loop.body.inputs[i]]) for i in carried]
        given = {x: own[x] for x in loop.body.inputs[n:]}
        up, down = bool(loop.pushes), bool(loop.pops)
        counts = [scalar(0)] * up + [scalar(loop.rounds - 1 if down else 0)] * down

        def test(*states):
            graph = loop.node.attrs["test"]
            asked = dict(zip(loop.body.inputs, graph.inputs, strict=True))
            env = {asked[loop.body.inputs[i]]: x for i, x in zip(carried, states, strict=False)}
            env |= {asked[x]: value for x, value in given.items()}
            return _copied(graph.body, env, graph.result)

        def one(*states):
            env = {loop.body.inputs[i]: x for i, x in zip(carried, states, strict=False)} | given
            counters = states[len(carried):len(carried) + len(counts)]
            arrays = self._round(loop, env, k, counters, states[len(carried) + len(counts):])
            last = [self._value(env, loop.body.inputs[i], loop.body.results[i]) for i in carried]
            steps = [1] * up + [-1] * down
            return [*last, *map(arith.add, counters, steps), *arrays]

        names = [*(loop.body.inputs[i].name for i in carried), *["round"] * len(counts),
                 *["kept"] * len(records)]
        found = _while(loop.body.name, [*starts, *counts, *records], names, test, one)
        return (dict(zip(carried, found, strict=False)), found[len(carried) + len(counts):])

    def _own(self, x: Node, whole: Node, k: Node) -> Node:
        """Append what block k has of an input."""
        if self.cut.axis(x) is None or self.cut.is_table(x):
            return whole
        if isinstance(whole, Constant):
            return self.resized(x, whole)
        return element.read(whole, k, checked=False)

    def _value(self, env, like: Node, x: Node) -> Node:
        return env[x] if x in env else self.resized(like, x)

    def _round(self, loop: Loop, env, k: Node, counters, records) -> list[Node]:
        """Append a round, all values of which come to `env`; the arrays with its records."""
        for node in loop.body.body:
            if node.prim.name == "pop":
                state = loop.body.inputs.index(node.operands[0])
                for j, x in enumerate(self.left[loop.node, state]):
                    env[node, j + 1] = element.read(x, counters[-1], k, checked=False)
            elif node.prim.name == "item" and node.operands[0].prim.name == "pop":
                if node.attrs["index"]:
                    value = env[node.operands[0], node.attrs["index"]]
                    env[node] = value if value.type == self.type(node) else shape.to_scalar(value)
            elif node.prim.name != "push" and (node is not loop.body.result
                                               or node.prim.name != "tuple"):
                env[node] = self._renewed(node, env, k)
        values = [_array(self._value(env, x, x)) for push in loop.pushes.values()
                  for x in push.operands[1:]]
        return [element.write(record, x, counters[0], k, checked=False)
                for record, x in zip(records, values, strict=True)]

    def _renewed(self, node: Apply, env, k: Node) -> Apply:
        """Append an apply for the rows of one block."""
        operands, attrs = [self._value(env, x, x) for x in node.operands], node.attrs
        if "shape" in attrs:                # of broadcast, reshape
            attrs = attrs | {"shape": self.type(node).shape}
        elif node.prim.name == "slice" and self.cut.axis(node) is not None:
            stops = list(attrs["stops"])
            stops[self.cut.axis(node)] = self.rows
            attrs = attrs | {"stops": tuple(stops)}
        elif node.prim.name in PARTS and self.cut.is_table(node.operands[0]):
            operands.append(k)
        made = _append(node, operands, attrs)
        if made.type != self.type(node):
            raise IRFault(f"{node} of {self.count} blocks gives {made.type}")
        return made


def _append(node: Apply, operands, attrs) -> Apply:
    """An apply like another, at the same line of the user's."""
    builder = current_builder()
    builder.loc = node.loc
    return builder.apply(node.prim, operands, attrs, node.name)


def _array(x: Node) -> Node:
    return shape.from_scalar(x) if isinstance(x.type, ScalarType) else x


def _copied(body, env: dict[Node, Node], result: Node) -> Node:
    for node in body:
        env[node] = _append(node, [env.get(x, x) for x in node.operands], node.attrs)
    return env.get(result, result)


def _while(name: str, starts: list[Node], names: list[str], test, body) -> list[Node]:
    """Append a loop: `test` and `body` append what they make of the states, and use what they like
    of the values around it; the states in the end."""
    made = {}
    for key, make in (("test", test), ("body", body)):
        with Builder(f"{name}.test" if key == "test" else name) as b:
            states = [b.input(x.type, of) for x, of in zip(starts, names, strict=True)]
            result = make(*states)
            if key == "body":
                result = control.tuple(*result) if len(result) > 1 else result[0]
            made[key] = b.finish(result), b.captured
    rest = {key: value for _, taken in made.values() for key, (value, _) in taken.items()}
    graphs = {key: Graph(g.name, [*g.inputs[:len(starts)],
                                  *(taken[i][1] if i in taken else Input(x.type, "unused")
                                    for i, x in rest.items())], g.body, g.result)
              for key, (g, taken) in made.items()}
    loop = control.while_(*starts, *rest.values(), **graphs)
    return control.items(loop) if isinstance(loop.type, TupleType) else [loop]
