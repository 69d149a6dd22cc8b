"""The memory of tapes, as LLVM text.

A tape lies in a region of addresses reserved for it, 64 GiB at a multiple of as much: it never
moves, grows by storing behind its top, and the system gives it memory page by page. So a tape is
known by the address of its top alone. The first word of a region is how far it may grow: 256 MB,
and where that is not enough, the program that pushes makes it three quarters of the machine's
memory. A region given back keeps its first 256 MB of pages for the next tape, because fresh pages
cost ten times what it costs to fill them; the first word says whether there are others.

`ptr cellc_tape_new(ptr error)` gives an empty tape, or null, and notes it in word 6 of the error
record; `void cellc_tape_end(ptr error, ptr top)` gives one back; `void cellc_tape_drop(ptr error)`
all of a program that failed.
"""

from __future__ import annotations

import functools
import os
import sys

from cellc.kernels.imperative import Procedure
from cellc.kernels.text import Module

REGION = 1 << 36
HEADER = 64                     # limit, next of a list; then the values
LIMIT, NEXT = 0, 8
KEPT = 256 << 20
TAPES = 6                       # the word of the error record
PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_NORESERVE = 3, 0x4022
MADV_HUGEPAGE, MADV_DONTNEED = 14, 4
WITHOUT_MAPS = 1 << 30          # the size of a region where the system has no mmap to reserve one
EXPORTS = ("cellc_tape_new", "cellc_tape_end", "cellc_tape_drop")


@functools.cache
def most_bytes() -> int:
    """How much one tape may hold."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        physical = 4 << 30
    return min(physical * 3 // 4, REGION if sys.platform.startswith("linux") else WITHOUT_MAPS)


def emit(module: Module, linux: bool) -> None:
    """Add the functions; they need `memory.emit`'s lock."""
    module.globals.append("@tape_free = internal global ptr null")
    first = min(most_bytes(), KEPT)
    _emit_reserve(module, linux, first)
    _emit_new(module)
    _emit_give_back(module, linux, first)
    _emit_end(module)
    _emit_drop(module)


def _emit_reserve(module: Module, linux: bool, first: int) -> None:
    """`ptr tape_reserve()`: a new region, or null."""
    with Procedure(module, "ptr", "tape_reserve", []) as p:
        if not linux:
            base = p.variable("ptr", "null")
            failed = p.call("i32", "posix_memalign", ("ptr", base.pointer), ("i64", str(REGION)),
                            ("i64", str(WITHOUT_MAPS)))
            p.return_if(p.ne("i32", failed, "0"), "null")
            p.put("ptr", p.gep("i8", base.get(), str(first)), base.get(), LIMIT)
            p.give(base.get())
            return
        got = p.call("ptr", "mmap", ("ptr", "null"), ("i64", str(2 * REGION)),
                     ("i32", str(PROT_READ_WRITE)), ("i32", str(MAP_PRIVATE_ANONYMOUS_NORESERVE)),
                     ("i32", "-1"), ("i64", "0"))
        p.return_if(p.eq("ptr", got, "inttoptr (i64 -1 to ptr)"), "null")
        start = p.op(f"ptrtoint ptr {got} to i64")
        first = p.op(f"and i64 {p.add(start, str(REGION - 1))}, {-REGION}")
        before = p.op(f"sub i64 {first}, {start}")
        base = p.gep("i8", got, before)
        with p.when(p.lt("0", before)):
            p.call("i32", "munmap", ("ptr", got), ("i64", before))
        after = p.op(f"sub i64 {REGION}, {before}")
        with p.when(p.lt("0", after)):
            p.call("i32", "munmap", ("ptr", p.gep("i8", base, str(REGION))), ("i64", after))
        p.call("i32", "madvise", ("ptr", base), ("i64", str(REGION)), ("i32", str(MADV_HUGEPAGE)))
        p.put("ptr", p.gep("i8", base, str(first)), base, LIMIT)
        p.give(base)


def _emit_new(module: Module) -> None:
    with Procedure(module, "ptr", "cellc_tape_new", [("ptr", "error")], "define") as p:
        base = p.variable("ptr")
        p.call("void", "cellc_memory_lock")
        kept = p.load("ptr", "@tape_free")
        base.set(kept)
        with p.when(p.op(f"xor i1 {p.is_null(kept)}, true")):
            p.store("ptr", p.get("ptr", kept, NEXT), "@tape_free")
        p.call("void", "cellc_memory_unlock")
        with p.when(p.is_null(base.get())):
            base.set(p.call("ptr", "tape_reserve"))
            p.return_if(p.is_null(base.get()), "null")
        p.put("ptr", p.get("ptr", "%error", 8 * TAPES), base.get(), NEXT)
        p.put("ptr", base.get(), "%error", 8 * TAPES)
        p.give(p.field(base.get(), HEADER))


def _emit_give_back(module: Module, linux: bool, first: int) -> None:
    """`void tape_give_back(base)`: keep a region, with a bounded part of its pages."""
    with Procedure(module, "void", "tape_give_back", [("ptr", "base")]) as p:
        limit = p.gep("i8", "%base", str(first))
        with p.when(p.ne("ptr", p.get("ptr", "%base", LIMIT), limit)):
            p.put("ptr", limit, "%base", LIMIT)
            if linux:
                p.call("i32", "madvise", ("ptr", limit), ("i64", str(REGION - first)),
                       ("i32", str(MADV_DONTNEED)))
        p.call("void", "cellc_memory_lock")
        p.put("ptr", p.load("ptr", "@tape_free"), "%base", NEXT)
        p.store("ptr", "%base", "@tape_free")
        p.call("void", "cellc_memory_unlock")
        p.give()


def _emit_end(module: Module) -> None:
    arguments = [("ptr", "error"), ("ptr", "top")]
    with Procedure(module, "void", "cellc_tape_end", arguments, "define") as p:
        p.return_if(p.is_null("%top"))          # it is of a branch that was not taken
        base = p.call("ptr", "llvm.ptrmask.p0.i64", ("ptr", "%top"), ("i64", str(-REGION)))
        link = p.variable("ptr", p.field("%error", 8 * TAPES))
        with p.forever() as found:
            here = p.load("ptr", link.get())
            p.leave_if(p.eq("ptr", here, base), found)
            p.return_if(p.is_null(here))
            link.set(p.field(here, NEXT))
        p.store("ptr", p.get("ptr", base, NEXT), link.get())
        p.call("void", "tape_give_back", ("ptr", base))
        p.give()


def _emit_drop(module: Module) -> None:
    with Procedure(module, "void", "cellc_tape_drop", [("ptr", "error")], "define") as p:
        with p.forever() as gone:
            base = p.get("ptr", "%error", 8 * TAPES)
            p.leave_if(p.is_null(base), gone)
            p.put("ptr", p.get("ptr", base, NEXT), "%error", 8 * TAPES)
            p.call("void", "tape_give_back", ("ptr", base))
        p.give()
