"""sort: the places that sort rows, by keys that are whole numbers.

Each element becomes an unsigned number whose order is the element's: a float's sign is moved to the
other end of the scale, NaNs are one number above infinity, -0 and 0 are one as well. For a falling
order its bits are inverted. Pairs (key, place) are then sorted by one of two stable ways:

    few places are wanted    each key is put where it belongs among the first ones so far, where it
                             belongs there at all: of a long row it mostly does not
    many                     byte after byte of the keys, the lowest first, each in one pass that
                             counts and one that moves (Knuth, TAOCP 3, 5.2.5); a byte that is the
                             same in all keys costs no pass

Tasks share the rows.
"""

from __future__ import annotations

import math

from cellc.ir.graph import Graph
from cellc.ir.types import Dim, DType
from cellc.kernels.emit import ARGUMENTS
from cellc.kernels.emit_values import Context
from cellc.kernels.program import Kernel
from cellc.kernels.scalar_ops import ScalarOps, memory_type
from cellc.kernels.schedule import PARALLEL_SECONDS, SHARED_SECONDS, assumed
from cellc.kernels.target import Target
from cellc.kernels.text import Function, Module

FEW = 32                # places that are found by insertion
INSERT_SECONDS = 2e-9   # an element, of a row of which few places are wanted,
PASS_SECONDS = 2e-9     # and one in each pass of the others
DIGIT = 256
NAN = {32: 0x7FC00000, 64: 0x7FF8000000000000}


def emit_argsort(module: Module, name: str, graph: Graph, target: Target,
                 symbols: tuple[str, ...]) -> Kernel:
    """The kernel of an `argsort`."""
    node = graph.result
    x, attrs = node.operands[0], node.attrs
    axis, n, keep = attrs["axis"], x.shape[attrs["axis"]], node.shape[attrs["axis"]]
    few = isinstance(keep, int) and keep <= FEW
    bits = max(x.dtype.compute.bits, 32)
    f = Function(module, "void", name, ARGUMENTS)
    context = Context(f, 2, symbols)
    context.load_sizes()
    sorter = (Insertion if few else Radix)(f, x.dtype, bits, attrs["descending"], context, n, keep)
    before, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1:])
    rows, step = (context.number(size) for size in (before * inner, inner))
    begin, end = (f.op(f"udiv i64 {f.mul(task, rows)}, %n_tasks")
                  for task in ("%task", f.add("%task", "1")))
    with f.loop(begin, end, hint="row") as row:
        outside, column = (f.op(f"{what} i64 {row.index}, {step}") for what in ("udiv", "urem"))
        places = (f.add(f.mul(f.mul(outside, context.number(size)), step), column)
                  for size in (n, keep))
        sorter.sort(*places, step)
    f.ret()
    f.close()
    passes = 1 if few else 2 + bits // 8
    seconds = assumed(x.type.size) * (INSERT_SECONDS if few else PASS_SECONDS) * passes
    tasks = target.threads if assumed(before * inner) > 1 and seconds > SHARED_SECONDS else 1
    unit, scratch = sorter.scratch
    moved = 2.0 * assumed(x.type.size) * x.dtype.itemsize
    return Kernel([(name, tasks)], scratch * tasks, moved * passes, moved, scratch_unit=unit,
                  short=seconds <= PARALLEL_SECONDS)


class Sorter:
    """What both ways have in common: keys of the source, places to the result."""

    def __init__(self, f: Function, dtype: DType, bits: int, descending: bool, context: Context,
                 n, keep):
        self.f, self.ops, self.dtype, self.descending = f, ScalarOps(f), dtype, descending
        self.bits, self.key = bits, f"i{bits}"
        self.place = "i32" if isinstance(n, int) and n < 1 << 31 else "i64"
        self.source, self.result, self.memory = (context.slot(i) for i in range(3))
        self.n, self.keep = context.number(n), context.number(keep)
        self.scratch = "", 0        # of a task: a symbol or "", and the bytes for each of it

    def key_at(self, place: str) -> str:
        """The key of the element at a place of the source."""
        f, key, bits = self.f, self.key, self.bits
        raw = f.load(memory_type(self.dtype), f.gep(memory_type(self.dtype), self.source, place))
        x = self.ops.from_memory(raw, self.dtype, 1)
        if self.dtype.is_float:
            positive = f.op(f"fadd {x.ty} {x.text}, 0.0")     # no -0 any more
            nan = f.op(f"fcmp uno {x.ty} {x.text}, {x.text}")
            held = f.op(f"bitcast {x.ty} {positive} to {key}")
            held = f.op(f"select i1 {nan}, {key} {NAN[bits]}, {key} {held}")
            sign = f.op(f"ashr {key} {held}, {bits - 1}")
            held = f.op(f"xor {key} {held}, {f.op(f'or {key} {sign}, {-1 << (bits - 1)}')}")
        else:
            signed = self.dtype.kind == "i"
            held = x.text
            if x.ty != key:
                held = f.op(f"{'sext' if signed else 'zext'} {x.ty} {held} to {key}")
            if signed:
                held = f.op(f"xor {key} {held}, {-1 << (bits - 1)}")
        return f.op(f"xor {key} {held}, -1") if self.descending else held

    def give(self, places: str, start: str, step: str) -> None:
        """The first `keep` of the sorted places become a row of the result."""
        f = self.f
        with f.loop("0", self.keep, hint="give") as i:
            place = f.load(self.place, f.gep(self.place, places, i.index))
            if self.place != "i64":
                place = f.op(f"zext {self.place} {place} to i64")
            f.store("i64", place, f.gep("i64", self.result, f.add(start, f.mul(i.index, step))))


class Insertion(Sorter):
    """Few places: the first ones so far, in order, on the stack."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.keys, self.places = (
            self.f.stack(f"[{FEW} x {ty}]") for ty in (self.key, self.place))

    def sort(self, source: str, result: str, step: str) -> None:
        f = self.f
        if self.keep == "0":
            return
        with f.loop("0", self.keep, hint="first") as i:
            key = self.key_at(f.add(source, f.mul(i.index, step)))
            self._insert(key, i.index, i.index)
        top = str(int(self.keep) - 1)
        with f.loop(self.keep, self.n, hint="other") as i:
            key = self.key_at(f.add(source, f.mul(i.index, step)))
            last = f.load(self.key, f.gep(self.key, self.keys, top))
            with f.when(f.op(f"icmp ult {self.key} {key}, {last}")):
                self._insert(key, i.index, top)
        self.give(self.places, result, step)

    def _insert(self, key: str, place: str, top: str) -> None:
        """The key and its place go before all larger keys among those below `top`."""
        f = self.f
        head, look, shift, found = (f.label(hint) for hint in ("head", "look", "shift", "found"))
        before, at, lower = f.block, f.fresh("at"), f.fresh("lower")
        f.branch(head)
        f.start(head)
        f.do(f"{at} = phi i64 [ {top}, %{before} ], [ {lower}, %{shift} ]")
        f.branch_if(f.op(f"icmp sgt i64 {at}, 0"), look, found)
        f.start(look)
        f.do(f"{lower} = add i64 {at}, -1")
        other = f.load(self.key, f.gep(self.key, self.keys, lower))
        f.branch_if(f.op(f"icmp ugt {self.key} {other}, {key}"), shift, found)
        f.start(shift)
        f.store(self.key, other, f.gep(self.key, self.keys, at))
        moved = f.load(self.place, f.gep(self.place, self.places, lower))
        f.store(self.place, moved, f.gep(self.place, self.places, at))
        f.branch(head)
        f.start(found)
        f.store(self.key, key, f.gep(self.key, self.keys, at))
        if self.place != "i64":
            place = f.op(f"trunc i64 {place} to {self.place}")
        f.store(self.place, place, f.gep(self.place, self.places, at))


class Radix(Sorter):
    """Many places: two arrays of keys and two of places in scratch memory, used in turns."""

    def __init__(self, f: Function, dtype: DType, bits: int, descending: bool, context: Context,
                 n, keep):
        super().__init__(f, dtype, bits, descending, context, n, keep)
        sizes = [int(ty[1:]) // 8 for ty in (self.key, self.key, self.place, self.place)]
        unit, count = (n.name, n.coef) if isinstance(n, Dim) else ("", n)
        self.scratch = unit, sum(sizes) * count
        self.counts = f.stack(f"[{self.bits // 8 * DIGIT} x {self.place}]")
        at = f.mul("%task", f.mul(self.n, str(sum(sizes))))
        self.arrays = []
        for size in sizes:
            self.arrays.append(f.gep("i8", self.memory, at))
            at = f.add(at, f.mul(self.n, str(size)))

    def sort(self, source: str, result: str, step: str) -> None:
        with self.f.when(self.f.op(f"icmp sgt i64 {self.n}, 0")):
            self._fill(source, step)
            self.give(self._passes(), result, step)

    def _count(self, digit: str, byte: str) -> str:
        """Where the keys with a byte are counted."""
        f = self.f
        return f.gep(self.place, self.counts, f.add(f.mul(digit, str(DIGIT)), byte))

    def _byte(self, key: str, digit: str) -> str:
        f, ty = self.f, self.key
        shift = f.mul(digit, "8")
        if not digit.isdigit() and ty != "i64":
            shift = f.op(f"trunc i64 {shift} to {ty}")
        byte = f.op(f"and {ty} {f.op(f'lshr {ty} {key}, {shift}')}, {DIGIT - 1}")
        return byte if ty == "i64" else f.op(f"zext {ty} {byte} to i64")

    def _fill(self, source: str, step: str) -> None:
        """The keys and places of a row, and how often each byte occurs in each digit."""
        f, digits, place = self.f, self.bits // 8, self.place
        lanes = 64 // (int(place[1:]) // 8)
        with f.loop("0", str(digits * DIGIT), lanes, hint="clear") as i:
            f.store(f"<{lanes} x {place}>", "zeroinitializer",
                    f.gep(place, self.counts, i.index), 4)
        with f.loop("0", self.n, hint="fill") as i:
            key = self.key_at(f.add(source, f.mul(i.index, step)))
            f.store(self.key, key, f.gep(self.key, self.arrays[0], i.index))
            at = i.index if place == "i64" else f.op(f"trunc i64 {i.index} to {place}")
            f.store(place, at, f.gep(place, self.arrays[2], i.index))
            for digit in range(digits):
                self._bump(self._count(str(digit), self._byte(key, str(digit))))

    def _bump(self, count: str) -> str:
        """One more; what it was before."""
        before = self.f.load(self.place, count)
        self.f.store(self.place, self.f.op(f"add {self.place} {before}, 1"), count)
        return before

    def _passes(self) -> str:
        """A pass for each digit in which keys differ; the array in which the places end up."""
        f = self.f
        n = self.n if self.place == "i64" else f.op(f"trunc i64 {self.n} to {self.place}")
        carried = [("ptr", array) for array in self.arrays]
        with f.loop("0", str(self.bits // 8), carried=carried, hint="digit") as digit:
            keys, moved_keys, places, moved_places = digit.carried
            first = self._byte(f.load(self.key, keys), digit.index)
            alike = f.load(self.place, self._count(digit.index, first))
            differ = f.op(f"icmp ne {self.place} {alike}, {n}")
            with f.when(differ):
                self._start_places(digit.index)
                self._move(digit.index, keys, moved_keys, places, moved_places)
            digit.next = [f.op(f"select i1 {differ}, ptr {new}, ptr {old}") for new, old in (
                (moved_keys, keys), (keys, moved_keys), (moved_places, places),
                (places, moved_places))]
        return digit.results[2]

    def _start_places(self, digit: str) -> None:
        """Counts become the places at which the keys with each byte begin."""
        f = self.f
        with f.loop("0", str(DIGIT), carried=[(self.place, "0")], hint="byte") as byte:
            at = self._count(digit, byte.index)
            count = f.load(self.place, at)
            f.store(self.place, byte.carried[0], at)
            byte.next = [f.op(f"add {self.place} {byte.carried[0]}, {count}")]

    def _move(self, digit: str, keys: str, moved_keys: str, places: str, moved_places: str) -> None:
        f = self.f
        with f.loop("0", self.n, hint="move") as i:
            key = f.load(self.key, f.gep(self.key, keys, i.index))
            to = self._bump(self._count(digit, self._byte(key, digit)))
            if self.place != "i64":
                to = f.op(f"zext {self.place} {to} to i64")
            f.store(self.key, key, f.gep(self.key, moved_keys, to))
            place = f.load(self.place, f.gep(self.place, places, i.index))
            f.store(self.place, place, f.gep(self.place, moved_places, to))
