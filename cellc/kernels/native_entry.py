"""The native side of the entry, as LLVM text: match a variant, run its program, wrap the results.

One generic `cellc_entry` serves every compiled function. What a function accepts and returns is a
table of 8-byte words that `entry.py` writes and this code reads; the records below say which word
lies where. See `entry.py` for what the words mean to a user.

Rules this code keeps:
- Reference counts change only through Py_IncRef and Py_DecRef: some objects are immortal.
- Guards run first, since they may run Python code; between reading an array's header and taking a
  reference to the array nothing runs that could free it.
- The arrays of a call are held until the program is done: without the GIL, or in a collection that
  an allocation sets off, someone else may drop the last other reference.
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from cellc.kernels.imperative import Procedure
from cellc.kernels.text import Module


def record(*fields: str) -> tuple[dict[str, int], int]:
    """Offsets of fields of 8 bytes each, and the size of the whole."""
    return {name: 8 * i for i, name in enumerate(fields)}, 8 * len(fields)


HEADER, HEADER_BYTES = record(
    "first", "active", "scratch_bytes", "on_miss", "on_error", "array_type", "exception")
VARIANT, VARIANT_BYTES = record(
    "next", "n_args", "guards", "n_guards", "rows", "n_rows", "minima", "n_slots", "outs",
    "n_outs", "arena", "program", "release_gil", "spec",
    # where in the scratch of a call:
    "at_args", "at_arrays", "at_objects", "at_dims", "at_outs", "at_results", "at_cells",
    "at_stack", "at_shape", "at_error")
GUARD, GUARD_BYTES = record("kind", "a", "b", "c")
ROW, ROW_BYTES = record(
    "kind", "source", "from", "index", "expected", "other", "slot", "count", "dims", "flags",
    "out")
OUT, OUT_BYTES = record(
    "kind", "type", "slot", "descr", "item_bytes", "n_dims", "dims", "literal_bytes", "defaults",
    "n_defaults", "out")

# Kinds of the records. SOURCE_*: where a row finds its object.
GUARD_EPOCH, GUARD_DICT, GUARD_ATTRIBUTE, GUARD_CELL = range(4)
(ARG_TENSOR, ARG_FLOAT, ARG_INT, ARG_BOOL, ARG_OBJECT, ARG_SAME_INT, ARG_SAME_FLOAT, ARG_SAME_STR,
 ARG_IGNORED, ARG_SEQUENCE) = range(10)
SOURCE_ARGUMENT, SOURCE_LIFTED, SOURCE_TUPLE, SOURCE_LIST = range(4)
(OUT_TENSOR, OUT_FLOAT, OUT_INT, OUT_BOOL, OUT_OBJECT, OUT_ARGUMENT, OUT_TUPLE,
 OUT_LIST) = range(8)

# Offsets in CPython's and NumPy's objects; `check_layout` compares them with live objects.
OB_TYPE, OB_SIZE, TUPLE_ITEMS, LIST_ITEMS, FLOAT_VALUE, BYTES_VALUE = 8, 16, 24, 24, 16, 32
ENTRY_SLOT = 16
ARRAY_DATA, ARRAY_N_DIMS, ARRAY_DIMS, ARRAY_DESCR, ARRAY_FLAGS = 16, 24, 32, 56, 64
READABLE, WRITABLE = 0x101, 0x501           # C-contiguous and aligned; and writeable
NEW_ARRAY_FLAGS = 0x501
ERROR_WORDS = 8
RECYCLED_FROM = 64 << 10                    # smaller results are NumPy's own allocation

EXPORTS = ("cellc_entry",)
PYTHON_FUNCTIONS = (
    "Py_IncRef", "Py_DecRef", "PyFloat_FromDouble", "PyLong_FromLongLong", "PyBool_FromLong",
    "PyLong_AsLongLongAndOverflow", "PyUnicode_Compare", "PyTuple_New", "PyList_New",
    "PyType_GenericAlloc", "PyCapsule_New", "PyCapsule_GetPointer", "PyObject_Vectorcall",
    "PyDict_GetItemWithError", "PyObject_GetAttr", "PyCell_Get", "PyErr_Occurred", "PyErr_Clear",
    "PyErr_ExceptionMatches", "PyErr_NoMemory", "PyEval_SaveThread", "PyEval_RestoreThread")
NUMPY_FUNCTIONS = {"PyArray_NewFromDescr": 94, "PyArray_EquivTypes": 182,
                   "PyArray_SetBaseObject": 282}


def word(base: int, offset: int, ty=ctypes.c_int64) -> int:
    """What lies `offset` bytes after address `base`."""
    return ty.from_address(base + offset).value


@functools.cache
def python_symbols() -> dict[str, int]:
    """Addresses of the Python and NumPy functions the native side calls."""
    addresses = {name: ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
                 for name in PYTHON_FUNCTIONS}
    core = getattr(np, "_core", None) or np.core
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = get_pointer(core._multiarray_umath._ARRAY_API, None)
    return addresses | {name: word(table, 8 * slot) for name, slot in NUMPY_FUNCTIONS.items()}


def slot_offset(cls: type, name: str) -> int:
    """Where instances of `cls` keep slot `name`: found by storing a mark and looking for it."""
    probe, mark = object.__new__(cls), object()
    member = next(vars(base)[name] for base in cls.__mro__ if name in vars(base))
    member.__set__(probe, mark)
    places = [at for at in range(16, cls.__basicsize__, 8) if word(id(probe), at) == id(mark)]
    if len(places) != 1:
        raise RuntimeError(f"{cls.__name__}.{name} is not an ordinary slot")
    return places[0]


def check_layout() -> None:
    """Raise RuntimeError where this Python or NumPy lays out its objects in another way."""
    class Slotted:
        __slots__ = ("first",)

    probe, items = np.zeros((3, 5), np.float32), (object(), object())
    several = list(items)
    data = b"eight by"
    holds = [
        word(id(probe), OB_TYPE) == id(np.ndarray),
        word(id(probe), ARRAY_DATA) == probe.ctypes.data,
        word(id(probe), ARRAY_N_DIMS, ctypes.c_int32) == 2,
        [word(word(id(probe), ARRAY_DIMS), 8 * i) for i in range(2)] == [3, 5],
        word(id(probe), ARRAY_DESCR) == id(probe.dtype),
        word(id(probe), ARRAY_FLAGS, ctypes.c_int32) & WRITABLE == WRITABLE,
        not word(id(probe[:, ::2]), ARRAY_FLAGS, ctypes.c_int32) & 1,
        word(id(items), OB_SIZE) == 2 and word(id(several), OB_SIZE) == 2,
        word(id(items), TUPLE_ITEMS + 8) == id(items[1]),
        word(word(id(several), LIST_ITEMS), 8) == id(items[1]),
        word(id(2.5), FLOAT_VALUE, ctypes.c_double) == 2.5,
        ctypes.string_at(id(data) + BYTES_VALUE, 8) == data,
        slot_offset(Slotted, "first") == ENTRY_SLOT,
    ]
    if not all(holds):
        raise RuntimeError("this Python or NumPy lays out its objects in a way cellc does not know "
                           f"(check {holds.index(False)} of {len(holds)})")


def emit(module: Module) -> None:
    """Add `cellc_entry`."""
    _emit_size(module)
    _emit_guards(module)
    _emit_match_tensor(module)
    _emit_match_row(module)
    _emit_match(module)
    _emit_release_block(module)
    _emit_new_array(module)
    _emit_allocate(module)
    _emit_wrap(module)
    _emit_sequence(module)
    _emit_result(module)
    _emit_drop(module)
    _emit_error(module)
    _emit_run(module)
    _emit_entry(module)


# -- matching --------------------------------------------------------------------------------------
def _emit_guards(module: Module) -> None:
    """`i64 entry_guards(header, variant)`: 1 they hold, 0 they do not, -1 exception."""
    with Procedure(module, "i64", "entry_guards", [("ptr", "header"), ("ptr", "variant")]) as p:
        found = p.variable("ptr")
        guards = p.get("ptr", "%variant", VARIANT["guards"])
        with p.loop("0", p.get("i64", "%variant", VARIANT["n_guards"])) as number:
            guard = p.gep("i8", guards, p.mul(number.index, str(GUARD_BYTES)))
            a, b, c = (p.get("ptr", guard, GUARD[name]) for name in "abc")
            labels = {kind: p.label("guard") for kind in range(4)}
            kind = p.get("i64", guard, GUARD["kind"])
            with p.cases(kind, labels) as checked:
                p.start(labels[GUARD_EPOCH])
                p.return_if(p.ne("ptr", p.load("ptr", a), b), "0")
                p.branch(checked)
                p.start(labels[GUARD_DICT])
                found.set(p.call("ptr", "PyDict_GetItemWithError", ("ptr", a), ("ptr", b)))
                with p.when(p.is_null(found.get())):
                    _return_if_failed(p)
                p.return_if(p.ne("ptr", found.get(), c), "0")
                p.branch(checked)
                for kind, call in [(GUARD_ATTRIBUTE, ("PyObject_GetAttr", ("ptr", a), ("ptr", b))),
                                   (GUARD_CELL, ("PyCell_Get", ("ptr", a)))]:
                    p.start(labels[kind])
                    found.set(p.call("ptr", *call))
                    with p.when(p.is_null(found.get())):
                        _return_if_failed(p)
                    p.call("void", "Py_DecRef", ("ptr", found.get()))
                    p.return_if(p.ne("ptr", found.get(), c), "0")
                    p.branch(checked)
        p.give("1")


def _return_if_failed(p: Procedure) -> None:
    """Where an exception is set: an ordinary one means no match, another (an interrupt) goes on."""
    with p.when(p.op(f"xor i1 {p.is_null(p.call('ptr', 'PyErr_Occurred'))}, true")):
        exception = p.get("ptr", "%header", HEADER["exception"])
        ordinary = p.call("i32", "PyErr_ExceptionMatches", ("ptr", exception))
        p.return_if(p.eq("i32", ordinary, "0"), "-1")
        p.call("void", "PyErr_Clear")
        p.return_if("true", "0")


def _emit_match_tensor(module: Module) -> None:
    """`i64 entry_match_tensor(header, variant, row, object, scratch)`: 1 or 0; stores the slot."""
    arguments = [("ptr", name) for name in ("header", "variant", "row", "object", "scratch")]
    with Procedure(module, "i64", "entry_match_tensor", arguments) as p:
        variable = p.variable("ptr", "%object")
        slot = p.get("i64", "%row", ROW["slot"])
        with p.when(p.ne("i64", slot, "0")):
            inner = p.get("ptr", "%object", slot)
            p.return_if(p.is_null(inner), "0")
            array_type = p.get("ptr", "%header", HEADER["array_type"])
            p.return_if(p.ne("ptr", p.get("ptr", inner, OB_TYPE), array_type), "0")
            variable.set(inner)
        array = variable.get()
        wanted = p.get("ptr", "%row", ROW["other"])
        descr = p.get("ptr", array, ARRAY_DESCR)
        with p.when(p.ne("ptr", descr, wanted)):
            same = p.call("i8", "PyArray_EquivTypes", ("ptr", descr), ("ptr", wanted))
            p.return_if(p.eq("i8", same, "0"), "0")
        flags = p.get("i64", "%row", ROW["flags"])
        has = p.op(f"zext i32 {p.get('i32', array, ARRAY_FLAGS)} to i64")
        p.return_if(p.ne("i64", p.op(f"and i64 {has}, {flags}"), flags), "0")
        n_dims = p.get("i64", "%row", ROW["count"])
        rank = p.op(f"sext i32 {p.get('i32', array, ARRAY_N_DIMS)} to i64")
        p.return_if(p.ne("i64", rank, n_dims), "0")
        _match_dims(p, array, n_dims)
        out = p.get("i64", "%row", ROW["out"])
        args = p.field("%scratch", p.get("i64", "%variant", VARIANT["at_args"]))
        arrays = p.field("%scratch", p.get("i64", "%variant", VARIANT["at_arrays"]))
        p.store("ptr", p.get("ptr", array, ARRAY_DATA), p.gep("ptr", args, out))
        p.store("ptr", array, p.gep("ptr", arrays, out))
        p.give("1")


def _match_dims(p: Procedure, array: str, n_dims: str) -> None:
    """A code >= 0 is a literal; ~code = 2 * symbol + 1 binds the symbol, 2 * symbol compares."""
    dims = p.get("ptr", array, ARRAY_DIMS)
    codes = p.get("ptr", "%row", ROW["dims"])
    minima = p.get("ptr", "%variant", VARIANT["minima"])
    symbols = p.field("%scratch", p.get("i64", "%variant", VARIANT["at_dims"]))
    with p.loop("0", n_dims) as axis:
        size = p.load("i64", p.gep("i64", dims, axis.index))
        code = p.load("i64", p.gep("i64", codes, axis.index))
        with p.when(p.ne("i64", size, code)):
            p.return_if(p.lt("-1", code), "0")
            symbolic = p.op(f"xor i64 {code}, -1")
            symbol = p.op(f"lshr i64 {symbolic}, 1")
            place = p.gep("i64", symbols, symbol)
            with p.when(p.op(f"trunc i64 {symbolic} to i1")):
                p.return_if(p.lt(size, p.load("i64", p.gep("i64", minima, symbol))), "0")
                p.store("i64", size, place)
            p.return_if(p.ne("i64", p.load("i64", place), size), "0")


def _emit_match_row(module: Module) -> None:
    """`i64 entry_match_row(header, variant, row, object, scratch)`: 1 or 0."""
    names = ("header", "variant", "row", "object", "scratch")
    with Procedure(module, "i64", "entry_match_row", [("ptr", n) for n in names]) as p:
        overflow, value = p.variable("i32", "0"), p.variable("i64", "0")
        expected, other = p.get("ptr", "%row", ROW["expected"]), p.get("ptr", "%row", ROW["other"])
        kind = p.get("i64", "%row", ROW["kind"])
        labels = {number: p.label("row") for number in range(10)}
        pass_value = p.label("pass")

        def exact_type() -> None:
            p.return_if(p.ne("ptr", p.get("ptr", "%object", OB_TYPE), expected), "0")

        with p.cases(kind, labels) as matched:
            p.start(labels[ARG_TENSOR])
            exact_type()
            p.give(p.call("i64", "entry_match_tensor", *(("ptr", f"%{n}") for n in names)))

            p.start(labels[ARG_FLOAT])
            exact_type()
            value.set(p.get("i64", "%object", FLOAT_VALUE))
            p.branch(pass_value)

            p.start(labels[ARG_INT])
            exact_type()
            value.set(_int_value(p, overflow))
            p.branch(pass_value)

            p.start(labels[ARG_BOOL])
            value.set(p.op(f"zext i1 {p.eq('ptr', '%object', expected)} to i64"))
            p.leave_if(p.eq("ptr", "%object", expected), pass_value)
            p.return_if(p.ne("ptr", "%object", other), "0")
            p.branch(pass_value)

            p.start(labels[ARG_OBJECT])
            p.return_if(p.ne("ptr", "%object", other), "0")
            p.branch(matched)

            p.start(labels[ARG_SAME_INT])
            exact_type()
            p.return_if(p.ne("i64", _int_value(p, overflow), p.get("i64", "%row", ROW["other"])),
                        "0")
            p.branch(matched)

            p.start(labels[ARG_SAME_FLOAT])
            exact_type()
            p.return_if(p.ne("ptr", p.get("ptr", "%object", FLOAT_VALUE), other), "0")
            p.branch(matched)

            p.start(labels[ARG_SAME_STR])
            p.leave_if(p.eq("ptr", "%object", other), matched)
            exact_type()
            order = p.call("i32", "PyUnicode_Compare", ("ptr", "%object"), ("ptr", other))
            p.return_if(p.ne("i32", order, "0"), "0")
            p.branch(matched)

            p.start(labels[ARG_IGNORED])
            p.branch(matched)

            p.start(labels[ARG_SEQUENCE])
            exact_type()
            count = p.get("i64", "%row", ROW["count"])
            p.return_if(p.ne("i64", p.get("i64", "%object", OB_SIZE), count), "0")
            p.branch(matched)

            p.start(pass_value)
            out = p.get("i64", "%row", ROW["out"])
            args = p.field("%scratch", p.get("i64", "%variant", VARIANT["at_args"]))
            arrays = p.field("%scratch", p.get("i64", "%variant", VARIANT["at_arrays"]))
            p.store("i64", value.get(), p.gep("i64", args, out))
            p.store("ptr", "null", p.gep("ptr", arrays, out))
            p.branch(matched)
        p.give("1")


def _int_value(p: Procedure, overflow) -> str:
    number = p.call("i64", "PyLong_AsLongLongAndOverflow", ("ptr", "%object"),
                    ("ptr", overflow.pointer))
    p.return_if(p.ne("i32", overflow.get(), "0"), "0")
    return number


def _emit_match(module: Module) -> None:
    """`i64 entry_match(header, variant, args, n, scratch)`: 1, 0, or -1 with an exception set."""
    arguments = [("ptr", "header"), ("ptr", "variant"), ("ptr", "args"), ("i64", "n"),
                 ("ptr", "scratch")]
    with Procedure(module, "i64", "entry_match", arguments) as p:
        found = p.variable("ptr")
        p.return_if(p.ne("i64", p.get("i64", "%variant", VARIANT["n_args"]), "%n"), "0")
        guarded = p.call("i64", "entry_guards", ("ptr", "%header"), ("ptr", "%variant"))
        p.return_if(p.ne("i64", guarded, "1"), guarded)
        rows = p.get("ptr", "%variant", VARIANT["rows"])
        objects = p.field("%scratch", p.get("i64", "%variant", VARIANT["at_objects"]))
        with p.loop("0", p.get("i64", "%variant", VARIANT["n_rows"])) as number:
            row = p.gep("i8", rows, p.mul(number.index, str(ROW_BYTES)))
            _find_object(p, row, objects, found)
            p.store("ptr", found.get(), p.gep("ptr", objects, number.index))
            same = p.call("i64", "entry_match_row", ("ptr", "%header"), ("ptr", "%variant"),
                          ("ptr", row), ("ptr", found.get()), ("ptr", "%scratch"))
            p.return_if(p.eq("i64", same, "0"), "0")
        p.give("1")


def _find_object(p: Procedure, row: str, objects: str, found) -> None:
    origin = p.get("i64", row, ROW["from"])
    index = p.get("i64", row, ROW["index"])
    labels = {source: p.label("source") for source in range(4)}
    with p.cases(p.get("i64", row, ROW["source"]), labels) as done:
        p.start(labels[SOURCE_ARGUMENT])
        found.set(p.load("ptr", p.gep("ptr", "%args", origin)))
        p.branch(done)
        p.start(labels[SOURCE_LIFTED])
        found.set(p.get("ptr", row, ROW["from"]))
        p.branch(done)
        p.start(labels[SOURCE_TUPLE])
        parent = p.load("ptr", p.gep("ptr", objects, origin))
        found.set(p.load("ptr", p.gep("ptr", p.field(parent, TUPLE_ITEMS), index)))
        p.branch(done)
        p.start(labels[SOURCE_LIST])
        parent = p.load("ptr", p.gep("ptr", objects, origin))
        found.set(p.load("ptr", p.gep("ptr", p.get("ptr", parent, LIST_ITEMS), index)))
        p.branch(done)


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
                product.set(p.mul(product.get(), size))
            total.set(p.add(total.get(), product.get()))
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
    """`ptr entry_new_array(header, descr, n, shape, bytes)`: null with an exception set."""
    arguments = [("ptr", "header"), ("ptr", "descr"), ("i64", "n"), ("ptr", "shape"),
                 ("i64", "bytes")]
    with Procedure(module, "ptr", "entry_new_array", arguments) as p:
        array_type = p.get("ptr", "%header", HEADER["array_type"])
        rank = p.op("trunc i64 %n to i32")

        def new(data: str, flags: int) -> str:
            p.call("void", "Py_IncRef", ("ptr", "%descr"))      # the constructor takes one
            return p.call("ptr", "PyArray_NewFromDescr", ("ptr", array_type), ("ptr", "%descr"),
                          ("i32", rank), ("ptr", "%shape"), ("ptr", "null"), ("ptr", data),
                          ("i32", str(flags)), ("ptr", "null"))

        small, big = p.label("small"), p.label("big")
        p.branch_if(p.op(f"icmp ult i64 %bytes, {RECYCLED_FROM}"), small, big)
        p.start(small)
        p.give(new("null", 0))
        p.start(big)
        block = p.call("ptr", "cellc_alloc", ("i64", "%bytes"))
        with p.when(p.is_null(block)):
            p.return_if("true", p.call("ptr", "PyErr_NoMemory"))
        array = new(block, NEW_ARRAY_FLAGS)
        with p.when(p.is_null(array)):
            p.call("void", "cellc_free", ("ptr", block))
            p.return_if("true", "null")
        owner = p.call("ptr", "PyCapsule_New", ("ptr", block), ("ptr", "null"),
                       ("ptr", "@entry_release_block"))
        with p.when(p.is_null(owner)):
            p.call("void", "Py_DecRef", ("ptr", array))
            p.call("void", "cellc_free", ("ptr", block))
            p.return_if("true", "null")
        refused = p.call("i32", "PyArray_SetBaseObject", ("ptr", array), ("ptr", owner))
        with p.when(p.ne("i32", refused, "0")):
            p.call("void", "Py_DecRef", ("ptr", array))
            p.return_if("true", "null")
        p.give(array)


def _emit_allocate(module: Module) -> None:
    """`i1 entry_allocate(header, variant, scratch)`: new arrays and cells; false on an exception."""
    arguments = [("ptr", "header"), ("ptr", "variant"), ("ptr", "scratch")]
    with Procedure(module, "i1", "entry_allocate", arguments) as p:
        cursor, size = p.variable("ptr"), p.variable("i64")
        at = {name: p.field("%scratch", p.get("i64", "%variant", VARIANT[f"at_{name}"]))
              for name in ("results", "cells", "outs", "shape", "dims", "objects")}
        table = p.get("ptr", "%variant", VARIANT["outs"])
        labels = {kind: p.label("out") for kind in range(6)}
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
                for kind in (OUT_FLOAT, OUT_INT, OUT_BOOL):
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
    cursor.set(dims)
    size.set(p.get("i64", row, OUT["item_bytes"]))
    with p.loop("0", n_dims) as axis:
        extent = p.call("i64", "entry_size", ("ptr", cursor.pointer), ("ptr", at["dims"]))
        p.store("i64", extent, p.gep("i64", at["shape"], axis.index))
        pair = p.op(f"call {{i64, i1}} @llvm.smul.with.overflow.i64(i64 {size.get()}, "
                    f"i64 {extent})")
        p.module.declare("{i64, i1} @llvm.smul.with.overflow.i64(i64, i64)")
        product = p.op(f"extractvalue {{i64, i1}} {pair}, 0")
        overflows = p.op(f"extractvalue {{i64, i1}} {pair}, 1")
        # More than any allocation gives: the array constructor or cellc_alloc refuses it.
        size.set(p.op(f"select i1 {overflows}, i64 {1 << 62}, i64 {product}"))
    p.branch(ready)
    p.start(literal)
    p.branch(ready)
    p.start(ready)
    is_literal = p.lt("-1", literal_bytes)
    shape = p.op(f"select i1 {is_literal}, ptr {dims}, ptr {at['shape']}")
    return p.call("ptr", "entry_new_array", ("ptr", "%header"),
                  ("ptr", p.get("ptr", row, OUT["descr"])), ("i64", n_dims), ("ptr", shape),
                  ("i64", size.get()))


# -- results ---------------------------------------------------------------------------------------
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
    """`ptr entry_result(variant, scratch)`: the Python result; null with an exception set.

    Rows come items first, so a stack of objects builds nested sequences.
    """
    with Procedure(module, "ptr", "entry_result", [("ptr", "variant"), ("ptr", "scratch")]) as p:
        depth, made = p.variable("i64", "0"), p.variable("ptr")
        at = {name: p.field("%scratch", p.get("i64", "%variant", VARIANT[f"at_{name}"]))
              for name in ("results", "cells", "stack")}
        table = p.get("ptr", "%variant", VARIANT["outs"])
        n_outs = p.get("i64", "%variant", VARIANT["n_outs"])
        labels = {kind: p.label("result") for kind in range(8)}
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
                with p.loop("0", depth.get()) as level:
                    p.call("void", "Py_DecRef",
                           ("ptr", p.load("ptr", p.gep("ptr", at["stack"], level.index))))
                following = p.add(number.index, "1")
                p.call("void", "entry_drop", ("ptr", at["results"]), ("i64", following),
                       ("i64", n_outs))
                p.return_if("true", "null")
            p.store("ptr", made.get(), p.gep("ptr", at["stack"], depth.get()))
            depth.set(p.add(depth.get(), "1"))
        p.give(p.load("ptr", at["stack"]))


def _emit_drop(module: Module) -> None:
    """`void entry_drop(objects, start, stop)`: drop the references in the array; nulls are fine."""
    arguments = [("ptr", "objects"), ("i64", "start"), ("i64", "stop")]
    with Procedure(module, "void", "entry_drop", arguments) as p:
        with p.loop("%start", "%stop") as number:
            p.call("void", "Py_DecRef",
                   ("ptr", p.load("ptr", p.gep("ptr", "%objects", number.index))))
        p.give()


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
        result.set(p.call("ptr", "entry_result", ("ptr", "%variant"), ("ptr", "%scratch")))
        p.branch(ran)
        p.start(wrong)
        p.call("void", "entry_drop", ("ptr", at["results"]), ("i64", "0"), ("i64", n_outs))
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
