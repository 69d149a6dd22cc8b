"""Where loops look whether a signal came (`interrupts.py`), at next to no cost to their rounds.

A loop that counts to a limit, with nothing but arithmetic in its round, becomes two: stretches, and
the rounds of one stretch, of which LLVM makes what it would without (unrolled, in vectors, a
formula). Other loops count down in a register of their function, and look when that is used up.
"""

from __future__ import annotations

from cellc.ir.graph import Apply, Constant, Graph, Input
from cellc.ir.prims.control import state_size
from cellc.ir.types import TensorType, i64
from cellc.kernels.frame import Frame, register_type
from cellc.kernels.places import in_register, result_types

BUDGET = 16384              # what is counted down between two looks at the clock
SHORT, LONG = 1, 1024       # what a round costs: arithmetic alone, or kernels and calls
LARGE = 1 << 15             # elements of an array that takes a while
STRETCH = 1 << 10, 1 << 18  # the rounds of a stretch, at least and at most
# It touches nothing a program can see, so values stay in registers across it.
DECLARATION = ("i1 @cellc_poll(ptr) cold nounwind willreturn "
               "memory(argmem: readwrite, inaccessiblemem: readwrite)")


def poll(frame: Frame) -> None:
    """End the program where an interrupt came."""
    frame.f.module.declare(DECLARATION)
    frame.fail_if(frame.f.op("call i1 @cellc_poll(ptr %error)"))


def count(frame: Frame, cost: int, place: str = "") -> None:
    """Count a round, in a register of the function or at an address, and poll where it is time."""
    f = frame.f
    place = place or frame.budget(BUDGET)
    left = f.add(f.load("i64", place), str(-cost))
    f.store("i64", left, place)
    with frame.seldom(f.op(f"icmp slt i64 {left}, 0")):
        f.store("i64", str(BUDGET), place)
        poll(frame)


def cost(body: Graph) -> int:
    """What a round of a loop counts for; one with large arrays is all of the budget."""
    nodes = [node for g in body.reachable() for node in g.body]
    if not any(node.prim.name in ("call", "fused", "show") or node.prim.kind == "kernel"
               for node in nodes):
        return SHORT
    sizes = [t.size for node in nodes for t in result_types(node) if isinstance(t, TensorType)]
    return BUDGET + 1 if any(isinstance(n, int) and n >= LARGE for n in sizes) else LONG


class Stretches:
    """The loop around a loop that counts, up or down, to a limit (and stops earlier if it likes):
    a stretch of rounds, a look at the clock, and on while the test holds.

    `of` gives None for loops that do not count in this way, have loops in them, or long rounds.
    Where the limit and the start are known and near, one stretch is all, and nothing is looked at.
    """

    def __init__(self, node: Apply, counter: int, limit: Input | Constant, step: int):
        self.counter, self.limit, self.step = counter, limit, step      # < 0: down
        self.test = node.attrs["test"]
        start = node.operands[counter]
        work = sum(len(g.body) for g in node.attrs["body"].reachable())
        self.rounds = min(max(STRETCH[0], (1 << 20) // max(1, work)), STRETCH[1])
        self.is_one = (isinstance(start, Constant) and isinstance(limit, Constant)
                       and abs(limit.value - start.value) <= self.rounds)

    @classmethod
    def of(cls, node: Apply) -> Stretches | None:
        test, body, n = node.attrs["test"], node.attrs["body"], state_size(node)
        if cost(body) != SHORT or any(
                inner.prim.name == "while" for g in body.reachable() for inner in g.body):
            return None
        for x, limit, up in _limits(test):
            if x not in test.inputs[:n] or limit in test.inputs[:n] or x.type.dtype is not i64:
                continue
            counter = test.inputs.index(x)
            step = _step(body.inputs[counter], body.results[counter])
            if not 0 < (step if up else -step) <= STRETCH[0]:
                continue
            found = cls(node, counter, limit, step)
            alone = isinstance(limit, Input) and sum(
                u.operands.count(limit) for u in test.body) == 1
            if found.is_one or alone or len(test.body) == 1:
                return found
        return None

    def begin(self, region, frame: Frame, first: list[str], rest: list[str], types) -> list[str]:
        """The state in which a stretch begins, made of that in which the loop does."""
        f = frame.f
        self.region, self.first, self.rest, self.types = region, first, rest, types
        if self.is_one:
            return first
        self.before, self.outer, self.pause = f.block, f.label("stretch"), f.label("pause")
        self.carried = [i for i, _ in enumerate(first) if in_register(types[i])]
        f.branch(self.outer)
        f.start(self.outer)
        state = [f.fresh("from") if i in self.carried else x for i, x in enumerate(first)]
        self.state, self.hole = state, len(f.lines)
        f.lines.append("")
        far = f.intrinsic("sadd.sat", "i64", state[self.counter], str(self.rounds * self.step))
        at = None if isinstance(self.limit, Constant) else self.test.inputs.index(self.limit)
        last = str(int(self.limit.value)) if at is None else [*first, *rest][at]
        self.upto = f.intrinsic("smin" if self.step > 0 else "smax", "i64", far, last)
        if at is not None:
            self.nearer = list(rest)
            self.nearer[at - len(first)] = self.upto
        return state

    def branch(self, frame: Frame, node: Apply, state: list[str], again: str, done: str) -> None:
        """Into the round, while the stretch goes on."""
        f = frame.f
        if self.is_one:
            f.branch_if(self._test(frame, node, state, self.rest), again, done)
        elif len(self.test.body) == 1:
            goes_on = "slt" if self.step > 0 else "sgt"
            f.branch_if(f.op(f"icmp {goes_on} i64 {state[self.counter]}, {self.upto}"), again,
                        self.pause)
        else:
            f.branch_if(self._test(frame, node, state, self.nearer), again, self.pause)

    def _test(self, frame: Frame, node: Apply, state: list[str], rest: list[str]) -> str:
        return self.region.inside(frame, node, self.region.inner[node][0], [*state, *rest], {})[0]

    def end(self, frame: Frame, node: Apply, state: list[str], done: str) -> None:
        """After a stretch, and after the loop."""
        f, place = frame.f, frame.budget(BUDGET)
        if not self.is_one:
            onward = f.label("onward")
            f.start(self.pause)
            f.branch_if(self._test(frame, node, state, self.rest), onward, done)
            f.start(onward)
            poll(frame)
            f.lines[self.hole] = "\n".join(
                f"  {self.state[i]} = phi {register_type(self.types[i])} "
                f"[ {self.first[i]}, %{self.before} ], [ {state[i]}, %{f.block} ]"
                for i in self.carried)
            f.branch(self.outer)
        f.start(done)
        ends = [state[self.counter], self.first[self.counter]]
        rounds = f.op("sub i64 " + ", ".join(ends if self.step > 0 else reversed(ends)))
        f.store("i64", f.op(f"sub i64 {f.load('i64', place)}, {rounds}"), place)


def _limits(test: Graph):
    """(x, limit, True) of all x < limit that must hold for a test to hold, and (x, limit, False) of
    all x > limit."""
    todo = [test.result]
    while todo:
        node = todo.pop()
        name = node.prim.name if isinstance(node, Apply) else ""
        if name == "bit_and":
            todo += node.operands
        elif name in ("lt", "gt"):
            x, y = node.operands
            yield x, y, name == "lt"
            yield y, x, name == "gt"


def _step(x: Input, made) -> int:
    """By how much a round counts x up; 0 where it does not."""
    name = made.prim.name if isinstance(made, Apply) else ""
    if name not in ("add", "sub") or x not in made.operands or (
            name == "sub" and made.operands[0] is not x):
        return 0
    step = next((int(y.value) for y in made.operands if isinstance(y, Constant)), 0)
    return step if name == "add" else -step
