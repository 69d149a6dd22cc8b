"""effects: tapes, checks and prints as instructions of a host function, and how a program fails."""

from __future__ import annotations

from cellc.ir.graph import Apply, calling_themselves, subgraphs
from cellc.ir.types import Dim
from cellc.kernels.frame import Frame
from cellc.kernels.places import in_register
from cellc.kernels.plan_memory import byte_size

ERROR_INDEX, ERROR_MESSAGE, ERROR_MEMORY, ERROR_DEPTH = 1, 2, 3, 4      # word 0 of the record
LIMIT, TAPES, SITE = 5, 6, 7    # words of the error record: see host.py
TAPE_ALIGNMENT = 8


class Effects:
    """What `Region` writes for effects; its registers and pointers are those of the region."""

    # -- tapes ---------------------------------------------------------------------------------
    def _emit_tape_new(self, frame: Frame, node: Apply) -> None:
        f = frame.f
        top = f.call("ptr", "cellc_tape_new", ("ptr", "%error"))
        self._fail(frame, f.op(f"icmp eq ptr {top}, null"), node.loc, str(ERROR_MEMORY))
        self.registers[node, 0] = top
        self.host.has_tapes = True

    def _emit_tape_end(self, frame: Frame, node: Apply) -> None:
        frame.f.call("void", "cellc_tape_end", ("ptr", "%error"),
                     ("ptr", self.register(node.operands[0])))

    def _emit_push(self, frame: Frame, node: Apply) -> None:
        f, (tape, *xs) = frame.f, node.operands
        top = self.register(tape)
        offsets, size = _layout(frame, [x.type for x in xs])
        above = f.gep("i8", top, size)
        limit = f.call("ptr", "llvm.ptrmask.p0.i64", ("ptr", top), ("i64", str(-(1 << 36))))
        self._fail(frame, f.op(f"icmp ugt ptr {above}, {f.load('ptr', limit)}"), node.loc,
                   str(ERROR_MEMORY))
        for x, offset in zip(xs, offsets, strict=True):
            place = f.gep("i8", top, offset)
            if in_register(x.type):
                frame.store_register(x.type, self.register(x), place)
            else:
                frame.copy(x.type, self.pointer(x), place)
        self.registers[node, 0] = above

    def _emit_pop(self, frame: Frame, node: Apply) -> None:
        f, types = frame.f, node.attrs["types"]
        offsets, size = _layout(frame, types)
        below = f.gep("i8", self.register(node.operands[0]), f.op(f"sub i64 0, {size}"))
        self.registers[node, 0] = below
        for i, (type, offset) in enumerate(zip(types, offsets, strict=True), start=1):
            place = f.gep("i8", below, offset)
            if in_register(type):
                self.registers[node, i] = frame.load_register(type, place)
            else:
                self.pointers[id(self.slots[node, i])] = place

    # -- effects -------------------------------------------------------------------------------
    def _emit_check(self, frame: Frame, node: Apply) -> None:
        f, (condition, *xs) = frame.f, node.operands
        wrong = f.op(f"xor i1 {self.register(condition)}, true")
        with frame.failing(wrong):
            self._message(frame, node, xs, "1")
            f.store("i64", str(ERROR_MESSAGE), "%error")
            self._site(frame, node.loc)

    def _emit_show(self, frame: Frame, node: Apply) -> None:
        f = frame.f
        status = self._message(frame, node, node.operands, "0")
        self._fail(frame, f.op(f"icmp ne i32 {status}, 0"), node.loc, str(ERROR_MESSAGE))

    def _message(self, frame: Frame, node: Apply, xs, wants_fault: str) -> str:
        """Call Python with a message's number and its values: their addresses, then the sizes of
        their symbolic dimensions in order."""
        f = frame.f
        words = [("ptr", frame.spilled(x.type, self.register(x)) if in_register(x.type)
                  else self.pointer(x)) for x in xs]
        words += [("i64", frame.extent(n)) for x in xs for n in x.type.shape if isinstance(n, Dim)]
        context = frame.alloca(f"[{max(1, len(words))} x i64]")
        for i, (ty, value) in enumerate(words):
            f.store(ty, value, f.gep("i64", context, str(i)))
        return f.call("i32", "cellc_message", ("i64", str(node.attrs["message"])),
                      ("i32", wants_fault), ("ptr", context))


def _layout(frame: Frame, types) -> tuple[list[str], str]:
    """Where each value of a tape's record lies, and the size of the record."""
    offsets, size = [], "0"
    for type in types:
        offsets.append(size)
        if in_register(type):
            size = frame.f.add(size, str(TAPE_ALIGNMENT))
            continue
        unit, count = byte_size(type)
        if unit:
            bytes_ = frame.f.op(f"and i64 {frame.f.add(frame.size(unit, count), '7')}, -8")
        else:
            bytes_ = str(-(-count // TAPE_ALIGNMENT) * TAPE_ALIGNMENT)
        size = frame.f.add(size, bytes_)
    return offsets, size


def failing_apply(node: Apply) -> Apply | None:
    """The apply in a group (or the apply itself) whose kernel checks indices."""
    if node.prim.name in ("gather", "scatter_add"):
        return node
    body = node.attrs.get("graph") if node.prim.name == "fused" else None
    return next((x for x in body.body if x.prim.name == "gather"), None) if body else None


def may_end(node: Apply) -> bool:
    """Can the program end while it runs an apply: by a failure, or by an interrupt (in a loop, or
    in a function that calls itself)?"""
    if node.prim.name == "while":
        return True
    graphs = [g for inner in subgraphs(node).values() for g in inner.reachable()]
    return (bool(calling_themselves(graphs)) or may_fail(node)
            or any(inner.prim.name == "while" for g in graphs for inner in g.body))


def may_fail(node: Apply) -> bool:
    """Can running an apply end the program?"""
    if node.prim.name in ("read", "write", "accumulate"):
        return node.attrs.get("checked", True)
    if node.prim.name in ("check", "show", "push", "tape_new") or failing_apply(node) is not None:
        return True
    if node.prim.name == "fused":
        return False
    return any(any(map(may_fail, g.body)) for inner in subgraphs(node).values()
               for g in inner.reachable())
