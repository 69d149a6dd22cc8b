"""The native entry, as LLVM text: match a variant, run its program, wrap the results.

One generic `cellc_entry` serves every compiled function. What a function accepts and returns is a
table of 8-byte words that `pack.py` writes and this code reads; `native_layout.py` says which word
lies where. See `entry.py` for what the words mean to a user.

Rules this code keeps:
- Reference counts change only through Py_IncRef and Py_DecRef: some objects are immortal.
- Guards run first, since they may run Python code; between reading an array's header and taking a
  reference to the array nothing runs that could free it.
- The arrays of a call are held until the program is done: without the GIL, or in a collection that
  an allocation sets off, someone else may drop the last other reference.
"""

from __future__ import annotations

from cellc.kernels import native_match, native_results
from cellc.kernels.imperative import Procedure
from cellc.kernels.interrupts import ASKED, CALLS, THREAD
from cellc.kernels.native_layout import (
    ARRAY_DATA,
    BYTES_VALUE,
    ENTRY_SLOT,
    ERROR_WORDS,
    HEADER,
    NEW_ARRAY_FLAGS,
    OUT,
    OUT_ARGUMENT,
    OUT_BOOL,
    OUT_BYTES,
    OUT_FLOAT,
    OUT_FOUND,
    OUT_INT,
    OUT_OBJECT,
    OUT_TENSOR,
    OUT_TUPLE,
    RECYCLED_FROM,
    VARIANT,
)
from cellc.kernels.text import Module

EXPORTS = ("cellc_entry",)


def emit(module: Module) -> None:
    """Add `cellc_entry`."""
    native_match.emit(module)
    _emit_size(module)
    _emit_release_block(module)
    _emit_new_array(module)
    _emit_allocate(module)
    native_results.emit(module)
    _emit_error(module)
    _emit_run(module)
    _emit_entry(module)


# -- sizes and new arrays --------------------------------------------------------------------------
def _emit_size(module: Module) -> None:
    """`i64 entry_size(cursor, dims)`: the size coded at `*cursor`, which moves past it.

    A code is a literal >= 0, or minus the number of terms, a divisor, an offset, and for each term
    its coefficient, its number of factors and their symbols.
    """
    with Procedure(module, "i64", "entry_size", [("ptr", "cursor"), ("ptr", "dims")]) as p:
        total, product = p.variable("i64", "0"), p.variable("i64")

        def following() -> str:
            at = p.load("ptr", "%cursor")
            p.store("ptr", p.field(at, 8), "%cursor")
            return p.load("i64", at)

        first = following()
        p.return_if(p.lt("-1", first), first)
        divisor, offset = following(), following()
        with p.loop("0", p.op(f"sub i64 0, {first}")):
            product.set(following())
            with p.loop("0", following()):
                size = p.load("i64", p.gep("i64", "%dims", following()))
                product.set(native_results.saturating_product(p, product.get(), size))
            total.set(p.intrinsic("sadd.sat", "i64", total.get(), product.get()))
        quotient = p.op(f"sdiv i64 {total.get()}, {divisor}")
        rest = p.op(f"srem i64 {total.get()}, {divisor}")
        floor = p.op(f"ashr i64 {rest}, 63")        # the divisor is positive
        p.give(p.add(p.add(quotient, floor), offset))


def _emit_release_block(module: Module) -> None:
    """The destructor of the capsule that owns a recycled block."""
    with Procedure(module, "void", "entry_release_block", [("ptr", "capsule")]) as p:
        block = p.call("ptr", "PyCapsule_GetPointer", ("ptr", "%capsule"), ("ptr", "null"))
        p.call("void", "cellc_free", ("ptr", block))
        p.give()


def _emit_new_array(module: Module) -> None:
    """`ptr entry_new_array(header, descr, n, shape, bytes)`: null with an exception set.

    `ptr entry_around(header, descr, n, shape, block)`: the array that lies in a block and owns it.
    """
    given = [("ptr", "header"), ("ptr", "descr"), ("i64", "n"), ("ptr", "shape")]

    def new(p: Procedure, data: str, flags: int) -> str:
        array_type = p.get("ptr", "%header", HEADER["array_type"])
        rank = p.op("trunc i64 %n to i32")
        p.call("void", "Py_IncRef", ("ptr", "%descr"))      # the constructor takes one
        return p.call("ptr", "PyArray_NewFromDescr", ("ptr", array_type), ("ptr", "%descr"),
                      ("i32", rank), ("ptr", "%shape"), ("ptr", "null"), ("ptr", data),
                      ("i32", str(flags)), ("ptr", "null"))

    with Procedure(module, "ptr", "entry_new_array", [*given, ("i64", "bytes")]) as p:
        small, big = p.label("small"), p.label("big")
        p.branch_if(p.op(f"icmp ult i64 %bytes, {RECYCLED_FROM}"), small, big)
        p.start(small)
        p.give(new(p, "null", 0))
        p.start(big)
        block = p.call("ptr", "cellc_alloc", ("i64", "%bytes"))
        with p.when(p.is_null(block)):
            p.return_if("true", p.call("ptr", "PyErr_NoMemory"))
        p.give(p.call("ptr", "entry_around", *((ty, f"%{name}") for ty, name in given),
                      ("ptr", block)))
    with Procedure(module, "ptr", "entry_around", [*given, ("ptr", "block")]) as p:
        array = new(p, "%block", NEW_ARRAY_FLAGS)
        with p.when(p.is_null(array)):
            p.call("void", "cellc_free", ("ptr", "%block"))
            p.return_if("true", "null")
        owner = p.call("ptr", "PyCapsule_New", ("ptr", "%block"), ("ptr", "null"),
                       ("ptr", "@entry_release_block"))
        with p.when(p.is_null(owner)):
            p.call("void", "Py_DecRef", ("ptr", array))
            p.call("void", "cellc_free", ("ptr", "%block"))
            p.return_if("true", "null")
        refused = p.call("i32", "PyArray_SetBaseObject", ("ptr", array), ("ptr", owner))
        with p.when(p.ne("i32", refused, "0")):
            p.call("void", "Py_DecRef", ("ptr", array))
            p.return_if("true", "null")
        p.give(array)


def _emit_allocate(module: Module) -> None:
    """`i1 entry_allocate(header, variant, scratch)`: new arrays and cells, or an exception."""
    arguments = [("ptr", "header"), ("ptr", "variant"), ("ptr", "scratch")]
    with Procedure(module, "i1", "entry_allocate", arguments) as p:
        cursor, size = p.variable("ptr"), p.variable("i64")
        at = {name: p.field("%scratch", p.get("i64", "%variant", VARIANT[f"at_{name}"]))
              for name in ("results", "cells", "outs", "shape", "dims", "objects")}
        table = p.get("ptr", "%variant", VARIANT["outs"])
        labels = {kind: p.label("out") for kind in range(OUT_TUPLE)}
        with p.loop("0", p.get("i64", "%variant", VARIANT["n_outs"])) as number:
            row = p.gep("i8", table, p.mul(number.index, str(OUT_BYTES)))
            result = p.gep("ptr", at["results"], number.index)
            place = p.gep("ptr", at["outs"], p.get("i64", row, OUT["out"]))
            p.store("ptr", "null", result)
            with p.cases(p.get("i64", row, OUT["kind"]), labels) as done:
                p.start(labels[OUT_TENSOR])
                array = _allocate_tensor(p, row, at, cursor, size)
                p.return_if(p.is_null(array), "false")
                p.store("ptr", array, result)
                p.store("ptr", p.get("ptr", array, ARRAY_DATA), place)
                p.branch(done)
                for kind in (OUT_FLOAT, OUT_INT, OUT_BOOL, OUT_FOUND):
                    p.start(labels[kind])
                    value = p.gep("i64", at["cells"], number.index)
                    p.store("i64", "0", value)
                    p.store("ptr", value, place)
                    p.branch(done)
                for kind in (OUT_OBJECT, OUT_ARGUMENT):
                    p.start(labels[kind])
                    known = p.get("ptr", row, OUT["type"])
                    if kind == OUT_ARGUMENT:
                        known = p.load("ptr", p.gep("ptr", at["objects"],
                                                    p.get("i64", row, OUT["type"])))
                    p.call("void", "Py_IncRef", ("ptr", known))
                    p.store("ptr", known, result)
                    p.branch(done)
        p.give("true")


def _allocate_tensor(p: Procedure, row: str, at: dict[str, str], cursor, size) -> str:
    """The new array of an out row; null with an exception set."""
    literal, symbolic, ready = (p.label(hint) for hint in ("literal", "symbolic", "ready"))
    n_dims = p.get("i64", row, OUT["n_dims"])
    dims = p.get("ptr", row, OUT["dims"])
    literal_bytes = p.get("i64", row, OUT["literal_bytes"])
    size.set(literal_bytes)
    p.branch_if(p.lt("-1", literal_bytes), literal, symbolic)
    p.start(symbolic)
    native_results.measure(p, row, at, cursor, size)
    p.branch(ready)
    p.start(literal)
    p.branch(ready)
    p.start(ready)
    is_literal = p.lt("-1", literal_bytes)
    shape = p.op(f"select i1 {is_literal}, ptr {dims}, ptr {at['shape']}")
    return p.call("ptr", "entry_new_array", ("ptr", "%header"),
                  ("ptr", p.get("ptr", row, OUT["descr"])), ("i64", n_dims), ("ptr", shape),
                  ("i64", size.get()))


def _emit_error(module: Module) -> None:
    """`ptr entry_error(header, variant, error)`: what `on_error(spec, record)` returns."""
    arguments = [("ptr", "header"), ("ptr", "variant"), ("ptr", "error")]
    with Procedure(module, "ptr", "entry_error", arguments) as p:
        numbers = p.op(f"alloca [{ERROR_WORDS} x ptr]")
        call = p.op("alloca [2 x ptr]")
        with p.loop("0", str(ERROR_WORDS)) as number:
            value = p.load("i64", p.gep("i64", "%error", number.index))
            made = p.call("ptr", "PyLong_FromLongLong", ("i64", value))
            p.store("ptr", made, p.gep("ptr", numbers, number.index))
            with p.when(p.is_null(made)):
                p.call("void", "entry_drop", ("ptr", numbers), ("i64", "0"),
                       ("i64", number.index))
                p.return_if("true", "null")
        words = p.call("ptr", "entry_tuple", ("i64", str(ERROR_WORDS)), ("ptr", numbers))
        with p.when(p.is_null(words)):
            p.call("void", "entry_drop", ("ptr", numbers), ("i64", "0"), ("i64", str(ERROR_WORDS)))
            p.return_if("true", "null")
        p.store("ptr", p.get("ptr", "%variant", VARIANT["spec"]), call)
        p.store("ptr", words, p.gep("ptr", call, "1"))
        result = p.call("ptr", "PyObject_Vectorcall",
                        ("ptr", p.get("ptr", "%header", HEADER["on_error"])), ("ptr", call),
                        ("i64", "2"), ("ptr", "null"))
        p.call("void", "Py_DecRef", ("ptr", words))
        p.give(result)


# -- the call --------------------------------------------------------------------------------------
def _emit_run(module: Module) -> None:
    """`ptr entry_run(header, variant, scratch)`: run the matched variant's program."""
    arguments = [("ptr", "header"), ("ptr", "variant"), ("ptr", "scratch")]
    with Procedure(module, "ptr", "entry_run", arguments) as p:
        cursor, status = p.variable("ptr"), p.variable("i32", "0")
        result = p.variable("ptr", "null")
        at = {name: p.field("%scratch", p.get("i64", "%variant", VARIANT[f"at_{name}"]))
              for name in ("args", "arrays", "outs", "dims", "results", "error")}
        n_slots = p.get("i64", "%variant", VARIANT["n_slots"])
        n_outs = p.get("i64", "%variant", VARIANT["n_outs"])
        with p.loop("0", n_slots) as slot:
            p.call("void", "Py_IncRef",
                   ("ptr", p.load("ptr", p.gep("ptr", at["arrays"], slot.index))))
        with p.loop("0", n_outs) as number:
            p.store("ptr", "null", p.gep("ptr", at["results"], number.index))
        failed, ran = p.label("failed"), p.label("ran")
        handles = [("ptr", f"%{name}") for name in ("header", "variant", "scratch")]
        allocated = p.call("i1", "entry_allocate", *handles)
        p.leave_if(p.op(f"xor i1 {allocated}, true"), failed)
        cursor.set(p.get("ptr", "%variant", VARIANT["arena"]))
        size = p.call("i64", "entry_size", ("ptr", cursor.pointer), ("ptr", at["dims"]))
        arena = _arena(p, size, failed)
        for n in range(ERROR_WORDS):
            p.put("i64", "0", at["error"], 8 * n)
        _call_program(p, at, arena, status)
        p.call("void", "cellc_free", ("ptr", arena))
        wrong = p.label("wrong")
        p.leave_if(p.ne("i32", status.get(), "0"), wrong)
        result.set(p.call("ptr", "entry_result", *handles))
        p.branch(ran)
        p.start(wrong)
        p.call("void", "entry_drop_found", ("ptr", "%variant"), ("ptr", "%scratch"))
        p.call("void", "entry_drop", ("ptr", at["results"]), ("i64", "0"), ("i64", n_outs))
        interrupted = p.op(f"xor i1 {p.is_null(p.call('ptr', 'PyErr_Occurred'))}, true")
        p.leave_if(interrupted, ran)
        result.set(p.call("ptr", "entry_error", ("ptr", "%header"), ("ptr", "%variant"),
                          ("ptr", at["error"])))
        p.branch(ran)
        p.start(failed)
        p.call("void", "entry_drop", ("ptr", at["results"]), ("i64", "0"), ("i64", n_outs))
        p.branch(ran)
        p.start(ran)
        p.call("void", "entry_drop", ("ptr", at["arrays"]), ("i64", "0"), ("i64", n_slots))
        p.give(result.get())


def _arena(p: Procedure, size: str, failed: str) -> str:
    """The program's scratch: a recycled block, so that it is warm; null where it needs none."""
    needs, none, refused, ready = (p.label(hint) for hint in ("needs", "none", "refused", "ready"))
    block = p.fresh("arena")
    p.branch_if(p.eq("i64", size, "0"), none, needs)
    p.start(needs)
    taken = p.call("ptr", "cellc_alloc", ("i64", size))
    p.branch_if(p.is_null(taken), refused, ready)
    p.start(refused)
    p.call("ptr", "PyErr_NoMemory")
    p.branch(failed)
    p.start(none)
    p.branch(ready)
    p.start(ready)
    p.lines.append(f"  {block} = phi ptr [ {taken}, %{needs} ], [ null, %{none} ]")
    return block


def _call_program(p: Procedure, at: dict[str, str], arena: str, status) -> None:
    program = p.get("ptr", "%variant", VARIANT["program"])
    call = (f"call i32 {program}(ptr {at['args']}, ptr {at['outs']}, ptr {at['dims']}, "
            f"ptr {arena}, ptr {at['error']})")
    release, hold, done = (p.label(hint) for hint in ("release", "hold", "done"))
    releases = p.get("i64", "%variant", VARIANT["release_gil"])
    p.branch_if(p.ne("i64", releases, "0"), release, hold)
    p.start(hold)
    status.set(p.op(call))
    p.branch(done)
    p.start(release)
    thread = p.call("ptr", "PyEval_SaveThread")
    for word, (ty, value) in {THREAD: ("ptr", thread), ASKED: ("i64", "0"),
                              CALLS: ("i64", "0")}.items():
        p.put(ty, value, at["error"], 8 * word)
    status.set(p.op(call))
    p.call("void", "PyEval_RestoreThread", ("ptr", thread))
    p.branch(done)
    p.start(done)


def _emit_entry(module: Module) -> None:
    """The built-in function itself: METH_FASTCALL | METH_KEYWORDS, bound to an Entry."""
    arguments = [("ptr", "self"), ("ptr", "args"), ("i64", "n"), ("ptr", "keywords")]
    with Procedure(module, "ptr", "cellc_entry", arguments, "define") as p:
        variant, before = p.variable("ptr"), p.variable("ptr", "null")
        header = p.get("ptr", p.get("ptr", "%self", ENTRY_SLOT), BYTES_VALUE)
        active = p.field(header, HEADER["active"])
        missed, matched, stopped = (p.label(hint) for hint in ("missed", "matched", "stopped"))
        p.leave_if(p.ne("ptr", "%keywords", "null"), missed)
        p.bump(active, "1")
        scratch = p.op(f"alloca i8, i64 {p.get('i64', header, HEADER['scratch_bytes'])}, align 16")
        first = p.get("ptr", header, HEADER["first"])
        variant.set(first)
        none_left = p.label("none")
        with p.forever():
            current = variant.get()
            p.leave_if(p.is_null(current), none_left)
            same = p.call("i64", "entry_match", ("ptr", header), ("ptr", current),
                          ("ptr", "%args"), ("i64", "%n"), ("ptr", scratch))
            p.leave_if(p.eq("i64", same, "1"), matched)
            p.leave_if(p.eq("i64", same, "-1"), stopped)
            before.set(current)
            variant.set(p.get("ptr", current, VARIANT["next"]))
        p.do("unreachable")
        p.start(matched)
        _move_to_front(p, header, first, before, variant)
        result = p.call("ptr", "entry_run", ("ptr", header), ("ptr", variant.get()),
                        ("ptr", scratch))
        p.bump(active, "-1")
        p.give(result)
        p.start(stopped)
        p.bump(active, "-1")
        p.give("null")
        p.start(none_left)
        p.bump(active, "-1")
        p.branch(missed)
        p.start(missed)
        p.give(p.call("ptr", "PyObject_Vectorcall",
                      ("ptr", p.get("ptr", header, HEADER["on_miss"])), ("ptr", "%args"),
                      ("i64", "%n"), ("ptr", "%keywords")))


def _move_to_front(p: Procedure, header: str, first: str, before, variant) -> None:
    """Next time this variant is tried first.

    A guard may have run Python code that changed the chain; then it is left as it is.
    """
    onward, try_it, same = (p.label(hint) for hint in ("onward", "try", "same"))
    p.branch_if(p.is_null(before.get()), onward, try_it)
    p.start(try_it)
    now_first = p.get("ptr", header, HEADER["first"])
    following = p.get("ptr", before.get(), VARIANT["next"])
    unchanged = p.op(f"and i1 {p.eq('ptr', now_first, first)}, "
                     f"{p.eq('ptr', following, variant.get())}")
    p.branch_if(unchanged, same, onward)
    p.start(same)
    p.put("ptr", p.get("ptr", variant.get(), VARIANT["next"]), before.get(), VARIANT["next"])
    p.put("ptr", first, variant.get(), VARIANT["next"])
    p.put("ptr", variant.get(), header, HEADER["first"])
    p.branch(onward)
    p.start(onward)
