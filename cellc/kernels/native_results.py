"""What a call of a compiled function gives, as LLVM text: the second half of `native_entry.py`.

Rows of a variant's table of results become Python objects one by one: tensors around arrays that
are there already or that the program has left as blocks, numbers, known objects, and tuples and
lists of those before them.
"""

from __future__ import annotations

from cellc.kernels.imperative import Procedure
from cellc.kernels.native_layout import (
    ARRAY_DATA,
    LIST_ITEMS,
    OUT,
    OUT_ARGUMENT,
    OUT_BOOL,
    OUT_BYTES,
    OUT_FLOAT,
    OUT_FOUND,
    OUT_INT,
    OUT_LIST,
    OUT_OBJECT,
    OUT_TENSOR,
    OUT_TUPLE,
    RECYCLED_FROM,
    TUPLE_ITEMS,
    VARIANT,
)
from cellc.kernels.text import Module


def emit(module: Module) -> None:
    """Add the functions."""
    _emit_wrap(module)
    _emit_sequence(module)
    _emit_found(module)
    _emit_result(module)
    _emit_drop(module)


def saturating_product(p: Procedure, a: str, b: str) -> str:
    """a * b, or the largest i64, which no allocation gives: sizes of empty arrays may be absurd."""
    return p.call("i64", "llvm.smul.fix.sat.i64", ("i64", a), ("i64", b), ("i32", "0"))


def measure(p: Procedure, row: str, at: dict[str, str], cursor, size) -> None:
    """Write the shape of an out row with symbolic dimensions, and set its size in bytes."""
    cursor.set(p.get("ptr", row, OUT["dims"]))
    size.set(p.get("i64", row, OUT["item_bytes"]))
    with p.loop("0", p.get("i64", row, OUT["n_dims"])) as axis:
        extent = p.call("i64", "entry_size", ("ptr", cursor.pointer), ("ptr", at["dims"]))
        p.store("i64", extent, p.gep("i64", at["shape"], axis.index))
        size.set(saturating_product(p, size.get(), extent))


def _emit_wrap(module: Module) -> None:
    """`ptr entry_wrap(row, array)`: the tensor that takes over `array`; null on an exception."""
    with Procedure(module, "ptr", "entry_wrap", [("ptr", "row"), ("ptr", "array")]) as p:
        slot = p.get("i64", "%row", OUT["slot"])
        p.return_if(p.eq("i64", slot, "0"), "%array")
        tensor = p.call("ptr", "PyType_GenericAlloc", ("ptr", p.get("ptr", "%row", OUT["type"])),
                        ("i64", "0"))
        with p.when(p.is_null(tensor)):
            p.call("void", "Py_DecRef", ("ptr", "%array"))
            p.return_if("true", "null")
        p.put("ptr", "%array", tensor, slot)
        defaults = p.get("ptr", "%row", OUT["defaults"])
        with p.loop("0", p.get("i64", "%row", OUT["n_defaults"])) as number:
            pair = p.gep("i8", defaults, p.mul(number.index, "16"))
            value = p.get("ptr", pair, 8)
            p.call("void", "Py_IncRef", ("ptr", value))
            p.put("ptr", value, tensor, p.load("i64", pair))
        p.give(tensor)


def _emit_sequence(module: Module) -> None:
    """`ptr entry_tuple(n, items)` and `entry_list`: they take over the items; null on exception."""
    for name, constructor in [("tuple", "PyTuple_New"), ("list", "PyList_New")]:
        with Procedure(module, "ptr", f"entry_{name}", [("i64", "n"), ("ptr", "items")]) as p:
            sequence = p.call("ptr", constructor, ("i64", "%n"))
            p.return_if(p.is_null(sequence), "null")
            inside = (p.field(sequence, TUPLE_ITEMS) if name == "tuple"
                      else p.get("ptr", sequence, LIST_ITEMS))
            with p.loop("0", "%n") as number:
                item = p.load("ptr", p.gep("ptr", "%items", number.index))
                p.store("ptr", item, p.gep("ptr", inside, number.index))
            p.give(sequence)


def _emit_result(module: Module) -> None:
    """`ptr entry_result(header, variant, scratch)`: the Python result; null with an exception set.

    Rows come items first, so a stack of objects builds nested sequences.
    """
    arguments = [("ptr", "header"), ("ptr", "variant"), ("ptr", "scratch")]
    with Procedure(module, "ptr", "entry_result", arguments) as p:
        depth, made = p.variable("i64", "0"), p.variable("ptr")
        cursor, size = p.variable("ptr"), p.variable("i64")
        at = {name: p.field("%scratch", p.get("i64", "%variant", VARIANT[f"at_{name}"]))
              for name in ("results", "cells", "stack", "shape", "dims")}
        table = p.get("ptr", "%variant", VARIANT["outs"])
        n_outs = p.get("i64", "%variant", VARIANT["n_outs"])
        labels = {kind: p.label("result") for kind in range(OUT_LIST + 1)}
        with p.loop("0", n_outs) as number:
            row = p.gep("i8", table, p.mul(number.index, str(OUT_BYTES)))
            result = p.gep("ptr", at["results"], number.index)
            value = p.gep("i64", at["cells"], number.index)
            made.set(p.load("ptr", result))
            p.store("ptr", "null", result)
            with p.cases(p.get("i64", row, OUT["kind"]), labels) as done:
                p.start(labels[OUT_TENSOR])
                made.set(p.call("ptr", "entry_wrap", ("ptr", row), ("ptr", made.get())))
                p.branch(done)
                p.start(labels[OUT_FOUND])
                measure(p, row, at, cursor, size)
                made.set(p.call("ptr", "entry_found", ("ptr", "%header"), ("ptr", row),
                                ("ptr", at["shape"]), ("i64", size.get()), ("ptr", value)))
                with p.when(p.op(f"xor i1 {p.is_null(made.get())}, true")):
                    made.set(p.call("ptr", "entry_wrap", ("ptr", row), ("ptr", made.get())))
                p.branch(done)
                for kind, ty, function in [(OUT_FLOAT, "double", "PyFloat_FromDouble"),
                                           (OUT_INT, "i64", "PyLong_FromLongLong"),
                                           (OUT_BOOL, "i64", "PyBool_FromLong")]:
                    p.start(labels[kind])
                    made.set(p.call("ptr", function, (ty, p.load(ty, value))))
                    p.branch(done)
                for kind in (OUT_OBJECT, OUT_ARGUMENT):
                    p.start(labels[kind])
                    p.branch(done)
                for kind, function in [(OUT_TUPLE, "entry_tuple"), (OUT_LIST, "entry_list")]:
                    p.start(labels[kind])
                    count = p.get("i64", row, OUT["n_dims"])
                    base = p.op(f"sub i64 {depth.get()}, {count}")
                    items = p.gep("ptr", at["stack"], base)
                    made.set(p.call("ptr", function, ("i64", count), ("ptr", items)))
                    taken = p.op(f"select i1 {p.is_null(made.get())}, i64 0, i64 {count}")
                    depth.set(p.op(f"sub i64 {depth.get()}, {taken}"))
                    p.branch(done)
            with p.when(p.is_null(made.get())):
                p.call("void", "entry_drop", ("ptr", at["stack"]), ("i64", "0"),
                       ("i64", depth.get()))
                p.call("void", "entry_drop", ("ptr", at["results"]),
                       ("i64", p.add(number.index, "1")), ("i64", n_outs))
                p.call("void", "entry_drop_found", ("ptr", "%variant"), ("ptr", "%scratch"))
                p.return_if("true", "null")
            p.store("ptr", made.get(), p.gep("ptr", at["stack"], depth.get()))
            depth.set(p.add(depth.get(), "1"))
        p.give(p.load("ptr", at["stack"]))


def _emit_found(module: Module) -> None:
    """`ptr entry_found(header, row, shape, bytes, cell)`: the array of the block whose address is
    in the cell, which is cleared; null on an exception. A small one is copied."""
    arguments = [("ptr", "header"), ("ptr", "row"), ("ptr", "shape"), ("i64", "bytes"),
                 ("ptr", "cell")]
    with Procedure(module, "ptr", "entry_found", arguments) as p:
        block = p.load("ptr", "%cell")
        p.store("ptr", "null", "%cell")
        given = [("ptr", "%header"), ("ptr", p.get("ptr", "%row", OUT["descr"])),
                 ("i64", p.get("i64", "%row", OUT["n_dims"])), ("ptr", "%shape")]
        with p.when(p.op(f"icmp uge i64 %bytes, {RECYCLED_FROM}")):
            p.return_if("true", p.call("ptr", "entry_around", *given, ("ptr", block)))
        array = p.call("ptr", "entry_new_array", *given, ("i64", "%bytes"))
        with p.when(p.op(f"xor i1 {p.is_null(array)}, true")):
            p.call("void", "llvm.memcpy.p0.p0.i64", ("ptr", p.get("ptr", array, ARRAY_DATA)),
                   ("ptr", block), ("i64", "%bytes"), ("i1", "false"))
        p.call("void", "cellc_free", ("ptr", block))
        p.give(array)
    with Procedure(module, "void", "entry_drop_found", [("ptr", "variant"), ("ptr", "scratch")]
                   ) as p:
        cells = p.field("%scratch", p.get("i64", "%variant", VARIANT["at_cells"]))
        table = p.get("ptr", "%variant", VARIANT["outs"])
        with p.loop("0", p.get("i64", "%variant", VARIANT["n_outs"])) as number:
            row = p.gep("i8", table, p.mul(number.index, str(OUT_BYTES)))
            with p.when(p.eq("i64", p.get("i64", row, OUT["kind"]), str(OUT_FOUND))):
                cell = p.gep("i64", cells, number.index)
                p.call("void", "cellc_free", ("ptr", p.load("ptr", cell)))
                p.store("ptr", "null", cell)
        p.give()


def _emit_drop(module: Module) -> None:
    """`void entry_drop(objects, start, stop)`: drop the references in the array; nulls are fine."""
    arguments = [("ptr", "objects"), ("i64", "start"), ("i64", "stop")]
    with Procedure(module, "void", "entry_drop", arguments) as p:
        with p.loop("%start", "%stop") as number:
            p.call("void", "Py_DecRef",
                   ("ptr", p.load("ptr", p.gep("ptr", "%objects", number.index))))
        p.give()
