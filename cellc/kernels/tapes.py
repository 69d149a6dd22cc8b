"""tapes: stacks that grow, and the sizes a program finds, as instructions of a host function.

A tape is the address of its top; `tape_memory.py` says where it lies. A record is its values side
by side, each at a multiple of 8 bytes: numbers and 0-d tensors as registers are stored, arrays as
they are.

A size that the program finds (`set_size`) gets its word in `dims`, and its arrays, whose lifetimes
are planned like all others, one block of memory, which the function gives back when it ends; a
loop that comes by again takes the same block if it is large enough.
"""

from __future__ import annotations

from cellc.ir.graph import Apply
from cellc.ir.types import TensorType
from cellc.kernels.frame import Frame
from cellc.kernels.places import in_register, is_array
from cellc.kernels.plan_memory import byte_size
from cellc.kernels.program import ERROR_INDEX, ERROR_MEMORY, ERROR_SIZE
from cellc.kernels.scalar_ops import Element, ScalarOps
from cellc.kernels.tape_memory import HEADER, REGION, most_bytes

ALIGNMENT = 8


class Tapes:
    """What `Region` writes for tapes; its registers and pointers are those of the region."""

    def _emit_tape_new(self, frame: Frame, node: Apply) -> None:
        f = frame.f
        top = f.call("ptr", "cellc_tape_new", ("ptr", "%error"))
        self._fail(frame, f.op(f"icmp eq ptr {top}, null"), node.loc, str(ERROR_MEMORY))
        self.registers[node, 0] = top
        self.host.has_tapes = True

    def _emit_tape_end(self, frame: Frame, node: Apply) -> None:
        self._end(frame, self.register(node.operands[0]))

    def _end(self, frame: Frame, top: str) -> None:
        frame.f.call("void", "cellc_tape_end", ("ptr", "%error"), ("ptr", top))

    # -- one record ----------------------------------------------------------------------------
    def _emit_push(self, frame: Frame, node: Apply) -> None:
        if (node, 0) not in self.registers:
            self.begin_record(frame, node)
        tape, *xs = node.operands
        top, offsets = self.register(tape), _layout(frame, [x.type for x in xs])[0]
        there = set(self._made_there(node).values())
        for i, (x, offset) in enumerate(zip(xs, offsets, strict=True)):
            if i not in there:
                self._store(frame, x, frame.f.gep("i8", top, offset))

    def begin_record(self, frame: Frame, node: Apply) -> None:
        """Make room for a push; what is made on the tape itself has its place then."""
        f, (tape, *xs) = frame.f, node.operands
        top = self.register(tape)
        offsets, size = _layout(frame, [x.type for x in xs])
        above = self.registers[node, 0] = f.gep("i8", top, size)
        self._check_room(frame, node, top, above)
        for slot, i in self._made_there(node).items():
            self.pointers[slot] = f.gep("i8", top, offsets[i])

    def _made_there(self, node: Apply) -> dict[int, int]:
        """The slots of a push that are made on the tape, and as which of its values: where one is
        pushed more than once, as the first, which is copied to the others."""
        slots = [self.slot(x) if is_array(x) else None for x in node.operands[1:]]
        return {id(slot): i for i, slot in reversed([*enumerate(slots)])
                if slot is not None and slot.goes is node}

    def _check_room(self, frame: Frame, node: Apply, top: str, above: str) -> None:
        f = frame.f
        base = f.call("ptr", "llvm.ptrmask.p0.i64", ("ptr", top), ("i64", str(-REGION)))
        with frame.seldom(f.op(f"icmp ugt ptr {above}, {f.load('ptr', base)}")):
            limit = f.gep("i8", base, str(most_bytes()))
            self._fail(frame, f.op(f"icmp ugt ptr {above}, {limit}"), node.loc, str(ERROR_MEMORY))
            f.store("ptr", limit, base)

    def _emit_pop(self, frame: Frame, node: Apply) -> None:
        """The values of the top record; arrays stay on the tape, but not where it may be short, nor
        those of a list, which may be pushed on while they are in use."""
        f, types = frame.f, node.attrs["types"]
        offsets, size = _layout(frame, types)
        top, bottomless = self.register(node.operands[0]), node.attrs.get("bottomless")
        below = f.gep("i8", top, f.op(f"sub i64 0, {size}"))
        if bottomless:
            empty = f.op(f"icmp eq i64 {self._bytes(frame, top)}, 0")
            with f.when(empty):
                frame.clear(top, size)
            below = f.op(f"select i1 {empty}, ptr {top}, ptr {below}")
        self.registers[node, 0] = below
        for i, (type, offset) in enumerate(zip(types, offsets, strict=True), start=1):
            place = f.gep("i8", below, offset)
            if in_register(type):
                self.registers[node, i] = frame.load_register(type, place)
            elif bottomless:
                frame.copy(type, place, self.pointers[id(self.slots[node, i])])
            else:
                self.pointers[id(self.slots[node, i])] = place

    def _emit_tape_read(self, frame: Frame, node: Apply) -> None:
        f, types = frame.f, node.attrs["types"]
        top, place = (self.register(x) for x in node.operands)
        offsets, size = _layout(frame, types)
        length = self._length(frame, top, size)
        outside = f.op(f"icmp uge i64 {f.op(f'sub i64 {place}, 1')}, {length}")
        record = f.gep("i8", top, f.op(f"sub i64 0, {f.mul(place, size)}"))
        if node.attrs.get("checked", True):
            self._fail(frame, outside, node.loc, str(ERROR_INDEX), "0",
                       f.op(f"sub i64 {length}, {place}"), length)
        else:
            with f.when(outside):
                frame.clear(top, size)          # behind the top, where nothing is yet
            record = f.op(f"select i1 {outside}, ptr {top}, ptr {record}")
        self.registers[node, 0] = top
        for i, (type, offset) in enumerate(zip(types, offsets, strict=True), start=1):
            at = f.gep("i8", record, offset)
            if in_register(type):
                self.registers[node, i] = frame.load_register(type, at)
            else:
                frame.copy(type, at, self.pointers[id(self.slots[node, i])])

    def _emit_tape_add(self, frame: Frame, node: Apply) -> None:
        f, (tape, place, *xs) = frame.f, node.operands
        top, place = self.register(tape), self.register(place)
        offsets, size = _layout(frame, [x.type for x in xs])
        above = f.gep("i8", top, self._more(frame, top, place, size))
        self._check_room(frame, node, top, above)
        with f.when(f.op(f"icmp ne ptr {above}, {top}")):
            shift = f.op(f"sub i64 {self._bytes(frame, above)}, {self._bytes(frame, top)}")
            bottom = self._bottom(frame, top)
            f.module.declare("void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)")
            f.do(f"call void @llvm.memmove.p0.p0.i64(ptr {f.gep('i8', bottom, shift)}, ptr "
                 f"{bottom}, i64 {self._bytes(frame, top)}, i1 false)")
            frame.clear(bottom, shift)
        self.registers[node, 0] = above
        record = f.gep("i8", above, f.op(f"sub i64 0, {f.mul(place, size)}"))
        for x, offset in zip(xs, offsets, strict=True):
            at = f.gep("i8", record, offset)
            if not in_register(x.type):
                self._add_block(frame, x.type, at, self.pointer(x))
                continue
            before = Element(frame.load_register(x.type, at), x.type.dtype)
            total = ScalarOps(f, lanes=1).add(before, Element(self.register(x), x.type.dtype))
            frame.store_register(x.type, total.text, at)

    def _more(self, frame: Frame, top: str, place: str, size: str) -> str:
        """How many bytes of zeros a tape needs below what lies on it, to have a record at a place:
        if any, as many again as there are, so that many places from the top down cost their sum."""
        f, length = frame.f, self._length(frame, top, size)
        missing = f.op(f"sub i64 {place}, {length}")
        more = f.mul(f.intrinsic("smax", "i64", missing, length), size)
        return f.op(f"select i1 {f.op(f'icmp sgt i64 {missing}, 0')}, i64 {more}, i64 0")

    def _emit_tape_put(self, frame: Frame, node: Apply) -> None:
        f, (tape, place, *xs) = frame.f, node.operands
        top, place = self.register(tape), self.register(place)
        offsets, size = _layout(frame, [x.type for x in xs])
        record = f.gep("i8", top, f.op(f"sub i64 0, {f.mul(place, size)}"))
        with f.when(f.op(f"icmp ule i64 {place}, {self._length(frame, top, size)}")):
            for x, offset in zip(xs, offsets, strict=True):
                self._store(frame, x, f.gep("i8", record, offset))
        self.registers[node, 0] = top

    def _store(self, frame: Frame, x, place: str) -> None:
        if in_register(x.type):
            frame.store_register(x.type, self.register(x), place)
        else:
            frame.copy(x.type, self.pointer(x), place)

    # -- all records ---------------------------------------------------------------------------
    def _emit_tape_len(self, frame: Frame, node: Apply) -> None:
        size = _layout(frame, node.attrs["types"])[1]
        self.registers[node, 0] = self._length(frame, self.register(node.operands[0]), size)

    def _emit_tape_rows(self, frame: Frame, node: Apply) -> None:
        f, types = frame.f, node.attrs["types"]
        top, n = (self.register(x) for x in node.operands)
        offsets, size = _layout(frame, types)
        length = f.intrinsic("smin", "i64", n, self._length(frame, top, size))
        missing = f.op(f"sub i64 {n}, {length}")
        rows = [self.pointers[id(self.slots[node, i])] for i in range(len(types))]
        widths = [frame.size(*byte_size(TensorType(t.dtype, t.shape))) for t in types]
        for row, width in zip(rows, widths, strict=True):
            frame.clear(row, f.mul(missing, width))
        first = f.gep("i8", top, f.op(f"sub i64 0, {f.mul(length, size)}"))
        with f.loop("0", length) as loop:
            record = f.gep("i8", first, f.mul(loop.index, size))
            number = f.add(missing, loop.index)
            for type, offset, row, width in zip(types, offsets, rows, widths, strict=True):
                source, target = f.gep("i8", record, offset), f.gep("i8", row, f.mul(number, width))
                if in_register(type):
                    frame.store_element(type.dtype, frame.load_register(type, source), target)
                else:
                    frame.copy(type, source, target)
        self._end(frame, top)

    def _emit_tape_of(self, frame: Frame, node: Apply) -> None:
        f, types = frame.f, node.attrs["types"]
        self._emit_tape_new(frame, node)
        top = self.registers[node, 0]
        offsets, size = _layout(frame, types)
        n = frame.extent(node.operands[0].shape[0])
        above = f.gep("i8", top, f.mul(n, size))
        self._check_room(frame, node, top, above)
        rows = [self.pointer(x) for x in node.operands]
        with f.loop("0", n) as loop:
            record = f.gep("i8", top, f.mul(loop.index, size))
            for type, offset, row in zip(types, offsets, rows, strict=True):
                width = frame.size(*byte_size(TensorType(type.dtype, type.shape)))
                source, target = (f.gep("i8", row, f.mul(loop.index, width)),
                                  f.gep("i8", record, offset))
                if in_register(type):
                    frame.store_register(type, frame.load_element(type.dtype, source), target)
                else:
                    frame.copy(type, source, target)
        self.registers[node, 0] = above

    # -- addresses -----------------------------------------------------------------------------
    def _bytes(self, frame: Frame, top: str) -> str:
        """How many bytes lie on a tape."""
        f = frame.f
        inside = f.op(f"and i64 {f.op(f'ptrtoint ptr {top} to i64')}, {REGION - 1}")
        return f.op(f"sub i64 {inside}, {HEADER}")

    def _length(self, frame: Frame, top: str, size: str) -> str:
        return frame.f.op(f"udiv i64 {self._bytes(frame, top)}, {size}")

    def _bottom(self, frame: Frame, top: str) -> str:
        f = frame.f
        base = f.call("ptr", "llvm.ptrmask.p0.i64", ("ptr", top), ("i64", str(-REGION)))
        return f.gep("i8", base, str(HEADER))

    # -- sizes ---------------------------------------------------------------------------------
    def _emit_set_size(self, frame: Frame, node: Apply) -> None:
        """Note the size; memory for the arrays of that size, and for results of the program."""
        f, unit = frame.f, node.attrs["dim"].name
        frame.set_dim(unit, self.register(node.operands[0]))
        base = "null"
        if self.found.get(unit):
            base, refused = frame.found_block(unit, frame.size(unit, self.found[unit]))
            self._fail(frame, refused, node.loc, str(ERROR_MEMORY))
        frame.bases[unit] = base
        for r, x in enumerate(self.graph.results):
            if r in self.sized and self.sized[r] == unit:
                block = f.call("ptr", "cellc_alloc", ("i64", frame.size(*byte_size(x.type))))
                f.store("ptr", block, frame.register(self.targets[r]))
                self._fail(frame, f.op(f"icmp eq ptr {block}, null"), node.loc, str(ERROR_MEMORY))
                self.targets[r] = block
        self.settle_places(frame, unit)

    def _emit_resized(self, frame: Frame, node: Apply) -> None:
        """Another name for the same array, if it has the sizes."""
        for found, expected in zip(node.operands[0].shape, node.type.shape, strict=True):
            if found != expected:
                found, expected = frame.extent(found), frame.extent(expected)
                self._fail(frame, frame.f.op(f"icmp ne i64 {found}, {expected}"), node.loc,
                           str(ERROR_SIZE), "0", found, expected)


def _layout(frame: Frame, types) -> tuple[list[str], str]:
    """Where each value of a tape's record lies, and the size of the record."""
    offsets, size = [], "0"
    for type in types:
        offsets.append(size)
        if in_register(type):
            size = frame.f.add(size, str(ALIGNMENT))
            continue
        unit, count = byte_size(type)
        if unit:
            bytes_ = frame.f.op(f"and i64 {frame.f.add(frame.size(unit, count), '7')}, -8")
        else:
            bytes_ = str(-(-count // ALIGNMENT) * ALIGNMENT)
        size = frame.f.add(size, bytes_)
    return offsets, size if types else str(ALIGNMENT)
