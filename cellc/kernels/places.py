"""places: where every array of one graph lives.

An array is an input, a result in the caller's buffer, or a block of the arena, planned by lifetime.
Numbers and 0-d tensors live in registers and tapes elsewhere; they have no place here.

What changes an array only in part (`write`, `accumulate`, a round of a `while`, both sides of a
`cond`) takes over its operand's place, where nobody looks at the operand any more and the place is
this graph's to change: then nothing is copied. A loop's state that is made anew in each round gets
two places, whose pointers change sides after the round.
"""

from __future__ import annotations

from cellc.ir.graph import Apply, Constant, Graph, Input, Node, subgraphs
from cellc.ir.prims.control import state_size
from cellc.ir.types import ScalarType, TapeType, TensorType, TupleType
from cellc.kernels.plan_memory import Block, byte_size, plan
from cellc.record import record

IN_PART = ("write", "accumulate")       # results that differ from their first operand in one place
ALIASES = ("tuple", "item", "reshape", "resized", "barrier")
NO_KERNEL = (*ALIASES, *IN_PART, "empty", "dim_size", "set_size", "call", "cond", "while", "read",
             "check", "show", "tape_new", "tape_end", "push", "pop", "tape_len", "tape_rows",
             "tape_of", "tape_read", "tape_add", "tape_put")


@record(eq=False)
class Slot:
    """Where an array lives: input `input`, result buffer `target`, a block of the arena; none of
    these for what lies within another array or on a tape: found there, or put there by the apply
    `goes`, a write or push, and then made there. `maker` is the apply that writes it first."""

    type: TensorType
    block: Block | None = None
    input: int | None = None
    target: int | None = None
    goes: Apply | None = None
    constant: Constant | None = None
    maker: Apply | None = None
    position: int = -1


class Places:
    """The plan of one graph. Subclasses say what is inside it (`Region`)."""

    def __init__(self, graph: Graph, in_place: dict[int, int], owned=frozenset(),
                 swappable: bool = False, written_after: int = -1):
        """Result r of `in_place` is wanted in the buffer of input in_place[r]. The buffers of the
        inputs `owned` may be overwritten once their values are not needed. `swappable`: such a
        result may go to another buffer instead, and is then noted in `swapped`. Only what is made
        after the apply at `written_after` may be made in such a buffer."""
        self.graph, self.owned, self.written_after = graph, owned, written_after
        self.slots: dict[tuple[Node, int], Slot] = {}
        self.inputs = {x: Slot(x.type, input=i) for i, x in enumerate(graph.inputs)}
        self.constants: list[Slot] = []
        self.blocks: list[Block] = []
        self.spares: dict[tuple[Node, int], tuple[Slot, Block]] = {}
        self.copies: list[tuple[Slot, int, Slot | None]] = []
        self.swapped: set[int] = set()
        self.last = self._last_uses()
        self.overwritten = {*owned, *in_place.values()}
        for position, node in enumerate(graph.body):
            self._place(node, position)
        self._place_results(in_place, swappable)
        self._place_within()
        for slot, spare in self.spares.values():
            if slot.block is not None:
                spare.end = max(spare.end, slot.block.end)
        self.totals = plan([b for b in self.blocks if b.size])
        self.found = {unit: self.totals.pop(unit, 0) for unit in found_sizes(graph)}

    # -- uses ----------------------------------------------------------------------------------
    def root(self, x: Node) -> tuple[Node, int]:
        """The value whose memory x is another name for."""
        while isinstance(x, Apply):
            if x.prim.name == "item":
                source = x.operands[0]
                if source.prim.name != "tuple":
                    return source, x.attrs["index"]
                x = source.operands[x.attrs["index"]]
            elif x.prim.name in ALIASES and is_array(x) and is_array(x.operands[0]):
                x = x.operands[0]
            else:
                break
        return x, 0

    def _last_uses(self) -> dict[tuple[Node, int], int]:
        """The position of the last apply that reads each array."""
        last: dict[tuple[Node, int], int] = {}
        for position, node in enumerate(self.graph.body):
            if node.prim.name not in ALIASES or in_register(node.type):
                last.update((self.root(x), position) for x in node.operands if is_array(x))
        end = len(self.graph.body)
        last.update((self.root(x), end) for x in self.graph.results if is_array(x))
        return last

    # -- places --------------------------------------------------------------------------------
    def slot(self, x: Node, index: int = 0) -> Slot:
        """Where an array value lives."""
        if isinstance(x, Apply):
            x, found = self.root(x)
            index = index or found
        if isinstance(x, Input):
            return self.inputs[x]
        if isinstance(x, Constant) and (x, 0) not in self.slots:
            self.slots[x, 0] = Slot(x.type, self.temporary(*byte_size(x.type), 0), constant=x)
            self.constants.append(self.slots[x, 0])
        return self.slots[x, index]

    def temporary(self, unit: str, size: int, position: int) -> Block:
        block = Block(unit, size, position, position)
        self.blocks.append(block)
        return block

    def _place(self, node: Apply, position: int) -> None:
        name = node.prim.name
        if name in ALIASES and not (name == "reshape" and _crosses(node)):
            return
        for k, x in enumerate(node.operands):
            if is_array(x) and not fills_place(node, k):
                slot = self.slot(x)
                if slot.block is not None:
                    slot.block.end = max(slot.block.end, position)
        for i, type in enumerate(result_types(node)):
            if in_register(type):
                continue
            slot = self._taken_over(node, i, position)
            if slot is None:
                slot = Slot(type, maker=node, position=position)
                if not self._is_found(node):
                    slot.block = self.temporary(*byte_size(type), position)
            elif slot.block is not None:
                slot.block.end = max(slot.block.end, position)
            self.slots[node, i] = slot
        self.place_inner(node, position)

    def place_inner(self, node: Apply, position: int) -> None:
        """What the node needs besides places for its results."""

    def _is_found(self, node: Apply) -> bool:
        """Are arrays that an apply gives left where they are: on a tape, or in an input that stays
        as it is?"""
        if node.prim.name == "read":
            place = self.slot(node.operands[0]).input
            return place is not None and place not in self.overwritten
        return node.prim.name == "pop" and not node.attrs.get("bottomless")

    def _taken_over(self, node: Apply, index: int, position: int) -> Slot | None:
        """The place of an operand that result `index` may change in place."""
        k = changed_operand(node, index)
        if k is None or any(i != index and changed_operand(node, i) == k
                            for i in range(len(result_types(node)))):
            return None                     # two results cannot both have it
        x = node.operands[k]
        if isinstance(x, Constant) or not is_array(x):
            return None
        root = self.root(x)
        if self.last[root] != position or sum(
                is_array(y) and self.root(y) == root for y in node.operands) > 1:
            return None
        slot = self.slot(x)
        free = slot.block is not None or slot.input in self.owned
        return slot if free and slot.constant is None else None

    # -- results -------------------------------------------------------------------------------
    def _place_results(self, in_place: dict[int, int], swappable: bool) -> None:
        arrays = [(r, x) for r, x in enumerate(self.graph.results) if is_array(x)]
        wanted = [(r, self.slot(x)) for r, x in arrays]
        last_read = self._last_reads()
        end = len(self.graph.body)
        for r, slot in wanted:
            home = in_place.get(r)
            if slot.input is not None and slot.input == home:
                continue
            free = (slot.block is not None and slot.constant is None and slot.target is None)
            if free and home is not None:
                free = swappable or (slot.position > self.written_after
                                     and self._may_overwrite(slot, home, last_read))
                if free and swappable and not self._may_overwrite(slot, home, last_read):
                    self.swapped.add(r)
            if free:
                slot.target = r
                slot.block.size = 0             # it is not planned
                slot.block = None
                continue
            through = None
            if slot.input is not None and slot.input in in_place.values():
                through = Slot(slot.type, self.temporary(*byte_size(slot.type), end))
            if slot.block is not None:
                slot.block.end = end
            self.copies.append((slot, r, through))

    def _place_within(self) -> None:
        """What goes to a tape whose top is known from the beginning, or to a place in an array that
        is known as early, and is not changed afterwards, is made there."""
        position = {node: i for i, node in enumerate(self.graph.body)}
        made: dict[int, int] = {}
        for (node, _), slot in self.slots.items():
            made[id(slot)] = max(made.get(id(slot), -1), position.get(node, -1))
        taken = {id(slot) for slot, _ in self.spares.values()}
        taken |= {id(x) for slot, _, through in self.copies for x in (slot, through)}
        for node in self.graph.body:
            if node.prim.name == "push" and self._has_tape_alone(node):
                slots = [self.slot(x) for x in node.operands if is_array(x)]
            elif node.prim.name == "write" and self._has_array_alone(node):
                slots = [self.slot(node.operands[1])]
            else:
                continue
            for slot in slots:
                if slot.block is not None and slot.constant is None and id(slot) not in taken and (
                        made[id(slot)] <= position[node]):
                    taken.add(id(slot))
                    slot.goes, slot.block.size, slot.block = node, 0, None

    def _has_tape_alone(self, push: Apply) -> bool:
        """Is the top of its tape known at the beginning, with the size of its record, and does
        nothing else use the tape?"""
        tape = push.operands[0]
        users = sum(x is tape for node in self.graph.body for x in node.operands)
        return isinstance(tape, Input) and users == 1 and not any(
            byte_size(x.type)[0].startswith("?") for x in push.operands if is_array(x))

    def _has_array_alone(self, write: Apply) -> bool:
        """Is a block's place known at the beginning, and does nobody else look at the array?"""
        x, v, *index = write.operands
        users = sum(y is x for node in self.graph.body for y in node.operands)
        return (isinstance(x, Input) and users == 1 and self.slots[write, 0] is self.inputs[x]
                and is_array(v) and not write.attrs.get("checked", True)
                and all(isinstance(i, (Input, Constant)) for i in index))

    def _last_reads(self) -> dict[int, int]:
        """The position of the last apply that reads what lies in each input's buffer."""
        found: dict[int, int] = {}
        for (x, index), position in self.last.items():
            slot = self.inputs.get(x) or self.slots.get((x, index))
            if slot is not None and slot.input is not None:
                found[slot.input] = max(position, found.get(slot.input, -1))
        return found

    def _may_overwrite(self, slot: Slot, index: int, last_read: dict[int, int]) -> bool:
        """Whether what lives in `slot` may be written over input `index` from the beginning: nobody
        reads the old value later, and the maker reads it at no other place than the one it writes.
        """
        last, maker = last_read.get(index, -1), slot.maker
        if last != slot.position:
            return last < slot.position
        reads = [k for k, x in enumerate(maker.operands)
                 if is_array(x) and self.slot(x).input == index]
        return maker.prim.name == "fused" and len(reads) == 1 and self.may_lie_over(maker, *reads)

    def may_lie_over(self, maker: Apply, operand: int) -> bool:
        """Whether a group reads an operand only at the place it writes, and before."""
        body = maker.attrs["graph"]
        return _pointwise(body, body.inputs[operand])


def found_sizes(graph: Graph) -> set[str]:
    """The sizes that the graph finds, its branches and loops among it."""
    found = set()
    for node in graph.body:
        if node.prim.name == "set_size":
            found.add(node.attrs["dim"].name)
        elif node.prim.name in ("cond", "while"):
            found.update(*map(found_sizes, subgraphs(node).values()))
    return found


def in_register(type) -> bool:
    """Is a value of this type carried in a register: numbers, 0-d tensors, tapes?"""
    return isinstance(type, (ScalarType, TapeType)) or (
        isinstance(type, TensorType) and not type.shape)


def is_array(x: Node) -> bool:
    return isinstance(x.type, TensorType) and bool(x.type.shape)


def result_types(node: Node) -> tuple:
    """The types of an apply's results: the items of a tuple type, else the one type."""
    return node.type.items if isinstance(node.type, TupleType) else (node.type,)


def done_in_registers(node: Apply) -> bool:
    """Arithmetic on registers that the host function does itself."""
    return (in_register(node.type) and all(in_register(x.type) for x in node.operands)
            and (node.prim.kind == "view"
                 or node.prim.kind == "elementwise" and node.prim.scalar is not None))


def needs_kernel(node: Apply) -> bool:
    """Is an apply the call of a kernel?"""
    return node.prim.name not in NO_KERNEL and not done_in_registers(node)


def fills_place(node: Apply, operand: int) -> bool:
    """Is the operand a constant that is written straight into the place of the result?"""
    x = node.operands[operand]
    if not isinstance(x, Constant) and not _is_empty(x):
        return False
    return node.prim.name in IN_PART and operand == 0 or (
        node.prim.name == "while" and operand < state_size(node))


def _is_empty(x: Node) -> bool:
    return isinstance(x, Apply) and x.prim.name == "empty"


def _crosses(node: Apply) -> bool:
    """Is a reshape between a register and memory?"""
    return in_register(node.type) != in_register(node.operands[0].type)


def changed_operand(node: Apply, index: int) -> int | None:
    """The operand that result `index` of an apply is a changed version of; of a branch, in one of
    its ways at least, and then the other way may put something else there."""
    name = node.prim.name
    if name in IN_PART:
        return 0
    if name == "while":
        return index
    if name == "cond":
        found = {_origin(g, index) for g in (node.attrs["then"], node.attrs["orelse"])} - {None}
        return found.pop() + 1 if len(found) == 1 else None
    return None


def _origin(graph: Graph, result: int) -> int | None:
    """The input that a result of a graph is, or is a changed version of."""
    x, index = graph.results[result], 0
    while isinstance(x, Apply):
        if x.prim.name == "item":
            x, index = x.operands[0], x.attrs["index"]
            if x.prim.name == "tuple":
                x, index = x.operands[index], 0
            continue
        k = changed_operand(x, index)
        if k is None:
            return None
        x, index = x.operands[k], 0
    return graph.inputs.index(x) if isinstance(x, Input) else None


def _pointwise(body: Graph, x: Input) -> bool:
    """Whether a group reads x only at the place it writes, before it writes there: whatever depends
    on x is elementwise of x's shape, and there is no reduction and no product, whose result holds
    unfinished sums before the rest of the group is computed. Of several results, each is written at
    the same place at a time: none is another arrangement of what is computed."""
    if any(node.prim.kind == "reduce" or node.prim.name == "dot" for node in body.body):
        return False
    dependent: set[Node] = {x}
    given: set[Node] = set(body.inputs)
    for node in body.body:
        if node.prim.name == "tuple":
            continue
        if any(o in dependent for o in node.operands):
            if node.prim.kind != "elementwise" or node.type.shape != x.type.shape:
                return False
            dependent.add(node)
        if node.prim.kind == "elementwise":
            continue
        if all(o in given or isinstance(o, Constant) for o in node.operands):
            given.add(node)                 # it is part of a load
        elif len(body.results) > 1 and node.prim.name not in ("reshape", "broadcast"):
            return False
    return True
