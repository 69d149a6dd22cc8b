"""Recycled memory, as LLVM text.

`cellc_alloc` hands out 64-byte aligned blocks and `cellc_free` keeps them for the next request of
their size class, four classes an octave, so that a program called again and again touches no fresh
pages: a fresh page costs about ten times what it costs to fill it. What is kept is bounded: a
free that would exceed the limit first gives everything kept back to the system, so that sizes no
longer asked for do not stay in the way. Blocks of 4 MB and more ask for huge pages.

A block is a 64-byte header (its base, its class, the next block of a free list), then the payload.
Payloads start at 16 different cache lines in turn; all at the same offset in a page, a kernel that
walks ten arrays would use one set of the cache.

One spin lock guards the lists. It is held for some ten instructions.
"""

from __future__ import annotations

from cellc.kernels.imperative import Procedure, cell
from cellc.kernels.text import Module

CLASSES = 256
HEADER = 64
BASE, CLASS, NEXT = -64, -56, -48       # where the header's fields are, seen from the payload
COLOURS = 16
LARGEST = 1 << 46
HUGE_FROM = 4 << 20
HUGE_PAGE = 2 << 20
MADV_HUGEPAGE = 14
SPINS_BEFORE_YIELD = 100


def size_class(size: int) -> int:
    """The class of a request; the same sum `memory_class` does natively."""
    last = max(size, 64) - 1
    top = last.bit_length() - 1
    return top * 4 + (last >> (top - 2) & 3)


def class_bytes(number: int) -> int:
    """The payload size of a class."""
    return (5 + (number & 3)) << ((number >> 2) - 2)


def emit(module: Module, linux: bool) -> None:
    """Add `cellc_alloc`, `cellc_free`, `cellc_trim`, the counters and the lock."""
    module.globals.append(f"@memory_lists = internal global [{CLASSES} x ptr] zeroinitializer")
    cell(module, "memory_lock", "i32", line=True)
    for name in ("in_use", "cached", "fresh", "limit"):
        cell(module, f"memory_{name}", "i64")
    _emit_lock(module)
    _emit_class(module)
    _emit_trim(module)
    _emit_obtain(module, linux)
    _emit_alloc(module)
    _emit_free(module)


def _emit_lock(module: Module) -> None:
    with Procedure(module, "void", "cellc_memory_lock", [], "define") as p:
        spins = p.variable("i64", "0")
        with p.forever() as mine:
            p.leave_if(p.eq("i32", p.fetch("xchg", "i32", "@memory_lock", "1"), "0"), mine)
            spins.set(p.add(spins.get(), "1"))
            with p.when(p.lt(str(SPINS_BEFORE_YIELD), spins.get())):
                p.call("i32", "sched_yield")
        p.give()
    with Procedure(module, "void", "cellc_memory_unlock", [], "define") as p:
        p.store_atomic("i32", "0", "@memory_lock", "release")
        p.give()
    # In a forked child: another thread may have been inside, and it is not here any more. What was
    # kept for reuse may be half changed and is forgotten.
    with Procedure(module, "void", "cellc_memory_forked", [], "define") as p:
        p.do(f"store [{CLASSES} x ptr] zeroinitializer, ptr @memory_lists")
        p.do("store i64 0, ptr @memory_cached")
        p.store_atomic("i32", "0", "@memory_lock", "release")
        p.give()


def _emit_class(module: Module) -> None:
    with Procedure(module, "i64", "memory_class", [("i64", "size")]) as p:
        last = p.op(f"sub i64 {p.intrinsic('smax', 'i64', '%size', '64')}, 1")
        zeros = p.call("i64", "llvm.ctlz.i64", ("i64", last), ("i1", "true"))
        top = p.op(f"sub i64 63, {zeros}")
        shift = p.add(top, "-2")
        quarter = p.op(f"and i64 {p.op(f'lshr i64 {last}, {shift}')}, 3")
        p.give(p.add(p.mul(top, "4"), quarter))
    with Procedure(module, "i64", "memory_class_bytes", [("i64", "number")]) as p:
        quarters = p.add(p.op("and i64 %number, 3"), "5")
        shift = p.add(p.op("lshr i64 %number, 2"), "-2")
        p.give(p.op(f"shl i64 {quarters}, {shift}"))


def _emit_trim(module: Module) -> None:
    """Give every kept block back to the system."""
    with Procedure(module, "void", "cellc_trim", [], "define") as p:
        block, freed = p.variable("ptr"), p.variable("i64")
        with p.loop("0", str(CLASSES)) as number:
            size = p.call("i64", "memory_class_bytes", ("i64", number.index))
            head = p.gep("ptr", "@memory_lists", number.index)
            p.call("void", "cellc_memory_lock")
            first = p.load("ptr", head)
            p.store("ptr", "null", head)
            freed.set("0")
            block.set(first)
            with p.forever() as counted:
                p.leave_if(p.is_null(block.get()), counted)
                freed.set(p.add(freed.get(), size))
                block.set(p.get("ptr", block.get(), NEXT))
            p.bump("@memory_cached", p.op(f"sub i64 0, {freed.get()}"))
            p.call("void", "cellc_memory_unlock")
            block.set(first)
            with p.forever() as gone:
                current = block.get()
                p.leave_if(p.is_null(current), gone)
                block.set(p.get("ptr", current, NEXT))
                p.call("void", "free", ("ptr", p.get("ptr", current, BASE)))
        p.give()


def _emit_obtain(module: Module, linux: bool) -> None:
    """`ptr memory_obtain(class, size, colour)`: a new block from the system, or null."""
    arguments = [("i64", "number"), ("i64", "size"), ("i64", "colour")]
    with Procedure(module, "ptr", "memory_obtain", arguments) as p:
        base = p.variable("ptr", "null")
        whole = p.add("%size", str(HEADER * COLOURS + HEADER))
        huge = p.lt(str(HUGE_FROM - 1), "%size")
        align = p.op(f"select i1 {huge}, i64 {HUGE_PAGE}, i64 64")
        failed = p.call("i32", "posix_memalign", ("ptr", base.pointer), ("i64", align),
                        ("i64", whole))
        p.return_if(p.ne("i32", failed, "0"), "null")
        if linux:
            with p.when(huge):
                p.call("i32", "madvise", ("ptr", base.get()), ("i64", whole),
                       ("i32", str(MADV_HUGEPAGE)))
        line = p.op(f"and i64 %colour, {COLOURS - 1}")
        payload = p.gep("i8", base.get(), p.add(p.mul(line, str(HEADER)), str(HEADER)))
        p.put("ptr", base.get(), payload, BASE)
        p.put("i64", "%number", payload, CLASS)
        p.give(payload)


def _emit_alloc(module: Module) -> None:
    with Procedure(module, "ptr", "cellc_alloc", [("i64", "bytes")], "define") as p:
        payload = p.variable("ptr")
        p.return_if(p.op(f"icmp ugt i64 %bytes, {LARGEST}"), "null")
        number = p.call("i64", "memory_class", ("i64", "%bytes"))
        size = p.call("i64", "memory_class_bytes", ("i64", number))
        head = p.gep("ptr", "@memory_lists", number)
        p.call("void", "cellc_memory_lock")
        kept = p.load("ptr", head)
        p.bump("@memory_in_use", size)
        found = p.op(f"xor i1 {p.is_null(kept)}, true")
        with p.when(found):
            p.store("ptr", p.get("ptr", kept, NEXT), head)
            p.bump("@memory_cached", p.op(f"sub i64 0, {size}"))
        p.bump("@memory_fresh", p.op(f"select i1 {found}, i64 0, i64 1"))
        colour = p.load("i64", "@memory_fresh")
        p.call("void", "cellc_memory_unlock")
        p.return_if(found, kept)
        new = [("i64", number), ("i64", size), ("i64", colour)]
        payload.set(p.call("ptr", "memory_obtain", *new))
        with p.when(p.is_null(payload.get())):
            p.call("void", "cellc_trim")
            payload.set(p.call("ptr", "memory_obtain", *new))
            with p.when(p.is_null(payload.get())):
                p.call("void", "cellc_memory_lock")
                p.bump("@memory_in_use", p.op(f"sub i64 0, {size}"))
                p.call("void", "cellc_memory_unlock")
        p.give(payload.get())


def _emit_free(module: Module) -> None:
    with Procedure(module, "void", "cellc_free", [("ptr", "block")], "define") as p:
        p.return_if(p.is_null("%block"))
        number = p.get("i64", "%block", CLASS)
        size = p.call("i64", "memory_class_bytes", ("i64", number))
        head = p.gep("ptr", "@memory_lists", number)
        p.call("void", "cellc_memory_lock")
        p.bump("@memory_in_use", p.op(f"sub i64 0, {size}"))
        limit = p.load("i64", "@memory_limit")
        with p.when(p.lt(limit, p.add(p.load("i64", "@memory_cached"), size))):
            p.call("void", "cellc_memory_unlock")
            p.call("void", "cellc_trim")
            p.call("void", "cellc_memory_lock")
        keep = p.op(f"icmp sle i64 {size}, {limit}")
        with p.when(keep):
            p.put("ptr", p.load("ptr", head), "%block", NEXT)
            p.store("ptr", "%block", head)
            p.bump("@memory_cached", size)
        p.call("void", "cellc_memory_unlock")
        with p.when(p.op(f"xor i1 {keep}, true")):
            p.call("void", "free", ("ptr", p.get("ptr", "%block", BASE)))
        p.give()
