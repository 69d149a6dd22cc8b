"""cuts: which loops can go through all their rounds block by block (`blocks.py` has them do so).

Loops that hand one another a tape are cut together. An axis is one to cut along where no round
looks across it (`axes.py`) but to add up over it what a state of the loop sums; where no value has
two such axes; and where arrays of which rounds read and write parts, a row for each round, have it
right behind the places of these parts.
"""

from __future__ import annotations

import math

from cellc.ir.graph import Apply, Builder, Constant, Graph, Input, Node, has_effect, subgraphs
from cellc.ir.prims.control import state_size
from cellc.ir.types import ScalarType, TapeType, TensorType, Type, i64
from cellc.kernels.effects import may_fail
from cellc.passes.axes import Axes, shape_of, value_of
from cellc.passes.ranges import step_of
from cellc.passes.rebuild import copy_input, use_counts
from cellc.record import fresh, record

PARTS = ("read", "write", "accumulate")
LINEAR = ("reshape", "transpose", "neg", "mul", "div")  # of a sum: the sum of these of its parts
TAPES = ("push", "pop")


@record(eq=False)
class Loop:
    """A `while`, its round with a constant for each use, and how many rounds there are, if known;
    what it leaves on tapes and takes from them, by the number of the state."""

    node: Apply
    body: Graph
    rounds: int | None
    finals: dict[int, int]
    pushes: dict[int, Apply] = fresh(dict)
    pops: dict[int, Apply] = fresh(dict)

    @property
    def states(self) -> range:
        return range(state_size(self.node))

    @property
    def arrays(self) -> list[int]:
        """The states that are arrays, those of no axes too."""
        return [i for i in self.states if isinstance(self.body.inputs[i].type, TensorType)]


@record(eq=False)
class Tape:
    """The loop and state that leave records on a tape, and those that take them."""

    source: Loop
    pushed: int
    push: Apply
    sink: Loop
    popped: int
    pop: Apply


@record(eq=False)
class Family:
    """Loops that are cut together."""

    loops: list[Loop]
    tapes: list[Tape]


def bytes_of(type: Type) -> int:
    """Of an array; numbers take no memory."""
    return math.prod(type.shape) * type.dtype.itemsize if isinstance(type, TensorType) else 0


# -- loops -----------------------------------------------------------------------------------------

def families(graph: Graph) -> list[Family]:
    """The loops of one list of applies that might be cut."""
    users: dict[Node, list[Apply]] = {}
    for node in graph.body:
        for x in node.operands:
            users.setdefault(x, []).append(node)
    loops = _loops(graph)
    tapes = [t for node in graph.body if node.prim.name == "tape_new"
             for t in _tapes(node, users, loops)]
    whole = [loop for loop in loops.values() if not _other_tapes(loop, tapes)]
    found = []
    while whole:
        members, grown = whole[:1], True
        while grown:
            inside = [t for t in tapes if t.source in members or t.sink in members]
            more = dict.fromkeys(x for t in inside for x in (t.source, t.sink))
            grown = not set(more) <= set(members)
            members += [x for x in more if x not in members]
        if all(x in whole and x.node is not graph.result for x in members):
            found.append(Family(members, inside))
        whole = [x for x in whole if x not in members]
    return found


def _loops(graph: Graph) -> dict[Node, Loop]:
    """The loops whose rounds are plain lists of applies that cannot fail, in order."""
    known: dict[tuple, int] = {}        # numbers that loops leave
    found: dict[Node, Loop] = {}
    for node in graph.body:
        if node.prim.name != "while" or not _is_plain(node):
            continue
        starts = [_number(x, known) for x in node.operands[:state_size(node)]]
        rounds, finals = _rounds(node, starts)
        found[node] = Loop(node, _with_own_constants(node.attrs["body"]), rounds, finals)
        known.update(((node, i), value) for i, value in finals.items())
    return found


def _is_plain(node: Apply) -> bool:
    body = node.attrs["body"]
    inside = [*body.body, *node.attrs["test"].body]
    return len(body.results) == state_size(node) and all(
        x.prim.name in TAPES or not (subgraphs(x) or has_effect(x) or may_fail(x)) for x in inside)


def _number(x: Node, known) -> int | None:
    if isinstance(x, Constant) and x.type == ScalarType(i64):
        return int(x.value)
    return known.get(value_of(x))


def _rounds(node: Apply, starts) -> tuple[int | None, dict[int, int]]:
    """How many rounds there are, and the numbers that are known at the end."""
    test, body = node.attrs["test"], node.attrs["body"]
    if len(test.body) != 1 or test.result.prim.name not in ("lt", "gt"):
        return None, {}
    x, limit = test.result.operands
    i = test.inputs.index(x) if x in test.inputs else -1
    if not (0 <= i < len(starts)) or starts[i] is None or not isinstance(limit, Constant):
        return None, {}
    step, left = step_of(body, i), int(limit.value) - starts[i]
    if not step or (step > 0) != (test.result.prim.name == "lt"):
        return None, {}
    rounds = max(0, -(-left // step))
    steps = {k: step_of(body, k) for k, start in enumerate(starts) if start is not None}
    return rounds, {k: starts[k] + rounds * by for k, by in steps.items() if by is not None}


def _with_own_constants(graph: Graph) -> Graph:
    """A copy of the graph in which no two uses share a constant: each has axes of its own."""
    def own(x: Node) -> Node:
        return Constant(x.type, x.value) if isinstance(x, Constant) else env[x]

    with Builder(graph.name, map(copy_input, graph.inputs)) as b:
        env: dict[Node, Node] = dict(zip(graph.inputs, b.inputs, strict=True))
        for node in graph.body:
            env[node] = b.append(Apply(node.prim, tuple(map(own, node.operands)), node.attrs,
                                       node.type, node.name, node.loc))
        return b.finish(own(graph.result))


# -- tapes -----------------------------------------------------------------------------------------

def _tapes(made: Apply, users, loops) -> list[Tape]:
    """What loops leave on a tape for others, which take it in the opposite order: those through
    which the tape goes open and close like brackets. Nothing where something else is done with it.
    """
    tape, there, found = made, [], []
    while any(user.prim.name != "tape_end" for user in users.get(tape, ())):
        loop, i = _only_loop(tape, users, loops)
        node = _use_alone(loop, i) if loop is not None and loop.rounds else None
        if node is None:
            return []
        if node.prim.name == "push":
            there.append((loop, i, node))
        else:
            source, pushed, push = there.pop() if there else (loop, i, node)
            if source.rounds != loop.rounds or source is loop or (
                    tuple(x.type for x in push.operands[1:]) != node.attrs["types"]):
                return []
            found.append(Tape(source, pushed, push, loop, i, node))
        tape = next((x for x in users.get(loop.node, ()) if x.attrs.get("index") == i), None)
    if there:
        return []
    for t in found:
        t.source.pushes[t.pushed], t.sink.pops[t.popped] = t.push, t.pop
    return found


def _only_loop(x: Node, users, loops) -> tuple[Loop | None, int]:
    """The loop of which a value is a state, where nothing else uses it."""
    using = users.get(x, [])
    if len(using) != 1 or using[0] not in loops:
        return None, 0
    loop = loops[using[0]]
    i = loop.node.operands.index(x)
    return (loop, i) if i in loop.states else (None, 0)


def _use_alone(loop: Loop, state: int) -> Apply | None:
    """The push or pop that is all a round does with a tape."""
    x, node = loop.body.inputs[state], loop.body.results[state]
    if isinstance(node, Apply) and node.prim.name == "item":
        node = node.operands[0]
    asked = loop.node.attrs["test"]
    alone = use_counts(loop.body)[x] == 1 and not use_counts(asked)[asked.inputs[state]]
    return node if (alone and isinstance(node, Apply) and node.prim.name in TAPES
                    and node.operands[0] is x) else None


def _other_tapes(loop: Loop, tapes: list[Tape]) -> bool:
    """Does a loop have tapes besides these?"""
    known = {(id(t.source), t.pushed) for t in tapes} | {(id(t.sink), t.popped) for t in tapes}
    return any(isinstance(x.type, TapeType) and (id(loop), i) not in known
               for i, x in enumerate(loop.body.inputs))


# -- axes ------------------------------------------------------------------------------------------

@record(eq=False)
class Cut:
    """A family, the class of axes along which it is cut, their size, and the states of its loops
    to which rounds only add sums over it."""

    family: Family
    axes: Axes
    name: tuple
    size: int
    sums: set[tuple[Node, int]]

    def axis(self, x: Node) -> int | None:
        """Where a value has the axis."""
        return next(iter(self.axes.at(x, self.name)), None)

    def held(self, loop: Loop) -> int:
        """The bytes that a round reads and leaves: rows, parts of tables, records."""
        parts = [node.type for node in loop.body.body
                 if node.prim.name == "read" and self.is_table(node.operands[0])]
        types = [x.type for x in loop.body.inputs if self.axis(x) == 0] + parts
        types += [x.type for push in loop.pushes.values() for x in push.operands[1:]]
        types += [t for pop in loop.pops.values() for t in pop.attrs["types"]]
        return sum(map(bytes_of, types))

    def is_table(self, x: Node) -> bool:
        """Is it an array with rows behind the places of the parts that are read and written?"""
        while isinstance(x, Apply) and x.prim.name in ("write", "accumulate"):
            x = x.operands[0]
        return isinstance(x, Input) and bool(self.axis(x))


def cuts(family: Family) -> list[Cut]:
    """All ways to cut a family."""
    axes = _axes(family)
    first = family.loops[0]
    sizes = {axes.of(x, a): n for i in first.arrays
             for x in (first.body.inputs[i],) for a, n in enumerate(x.shape)}
    found = []
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 2 or axes.is_fixed(name):
            continue
        sums = _sums(family, axes, name)
        if sums is not None:
            cut = Cut(family, axes, name, size, sums)
            if all(_is_good(cut, loop) for loop in family.loops):
                found.append(cut)
    return found


def _axes(family: Family) -> Axes:
    axes = Axes()
    for loop in family.loops:
        axes.walk(loop.body)
        asked = use_counts(loop.node.attrs["test"])
        for i, x in enumerate(loop.node.attrs["test"].inputs):
            if asked[x]:
                axes.fix(loop.body.inputs[i])
        for i in loop.arrays:
            axes.same(loop.body.inputs[i], loop.body.results[i])
    for t in family.tapes:
        for j, x in enumerate(t.push.operands[1:], 1):
            for i in range(len(shape_of(x))):
                axes.join((value_of(x), i), ((t.pop, j), i))
    return axes


def _is_good(cut: Cut, loop: Loop) -> bool:
    values = [*loop.body.inputs, *(x for x in loop.body.body if isinstance(x.type, TensorType))]
    if any(len(cut.axes.at(x, cut.name)) > 1 for x in values):
        return False
    if all(cut.axis(x) is None for x in loop.body.inputs):
        return False
    tables = {i for i in loop.arrays if cut.is_table(loop.body.inputs[i])}
    return all(cut.is_table(loop.body.results[i]) for i in tables) and all(
        node is loop.body.result or k == 0 and _places(node) == cut.axis(x)
        for node in loop.body.body for k, x in enumerate(node.operands) if cut.is_table(x))


def _places(node: Apply) -> int:
    """How many indices say which part of its first operand an apply reads or writes."""
    return len(node.operands) - (1 if node.prim.name == "read" else 2) if (
        node.prim.name in PARTS) else 0


def _sums(family: Family, axes: Axes, name) -> set[tuple[Node, int]] | None:
    """The states to which rounds add sums over the axis; None where there are other such sums."""
    over = {node for node, axis in axes.sums if axes.find(axis) == name}
    found = set()
    for loop in family.loops:
        uses, asked = use_counts(loop.body), use_counts(loop.node.attrs["test"])
        linear = set(over)
        for node in loop.body.body:
            if node.prim.name in LINEAR and not linear.isdisjoint(node.operands):
                linear.add(node)
        for i in loop.arrays:
            x = loop.body.inputs[i]
            terms = _terms(loop.body.results[i], x, uses)
            sums = [_summed(y, uses, over, linear) for y in terms if y is not x]
            if (terms.count(x) == uses[x] == 1 and sums and None not in sums
                    and not asked[loop.node.attrs["test"].inputs[i]]):
                found.add((loop.node, i))
                over.difference_update(sums)
    return None if over else found


def _terms(x: Node, given: Node, uses) -> list[Node]:
    """What a node adds up or takes away, where nobody looks at the sums on the way; `given` twice
    where it is taken away."""
    if not (isinstance(x, Apply) and x.prim.name in ("add", "sub") and uses[x] == 1):
        return [x]
    left, right = (_terms(y, given, uses) for y in x.operands)
    return [*left, *right, *([given] if x.prim.name == "sub" and given in right else [])]


def _summed(x: Node, uses, over: set[Node], linear: set[Node]) -> Node | None:
    """Which of the sums `over` a node is, in another arrangement or scale; None where it is none of
    them, or others use it as well. All that is `linear` is made of such sums."""
    while isinstance(x, Apply) and uses[x] == 1 and x not in over and x in linear:
        ways = [y for y in x.operands if y in linear]
        if len(ways) != 1 or x.prim.name == "div" and ways[0] is not x.operands[0]:
            return None
        x = ways[0]
    return x if x in over and uses[x] == 1 else None
