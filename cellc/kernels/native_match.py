"""Matching a call with a variant, as LLVM text: guards, arguments, lifted objects.

Guards run first, since an attribute guard may run Python code; after them nothing runs that could
replace or free what has been looked at, until the caller takes references to the arrays.
"""

from __future__ import annotations

from cellc.kernels.imperative import Procedure
from cellc.kernels.native_layout import (
    ARG_BOOL,
    ARG_FLOAT,
    ARG_IGNORED,
    ARG_INT,
    ARG_OBJECT,
    ARG_SAME_FLOAT,
    ARG_SAME_INT,
    ARG_SAME_STR,
    ARG_SCALAR,
    ARG_SEQUENCE,
    ARG_TENSOR,
    ARRAY_DATA,
    ARRAY_DESCR,
    ARRAY_DIMS,
    ARRAY_FLAGS,
    ARRAY_N_DIMS,
    FLOAT_VALUE,
    GUARD,
    GUARD_ATTRIBUTE,
    GUARD_BYTES,
    GUARD_CELL,
    GUARD_DICT,
    GUARD_EPOCH,
    GUARD_ITEMS,
    HEADER,
    LIST_ITEMS,
    OB_REFERENCES,
    OB_SIZE,
    OB_TYPE,
    ROW,
    ROW_BYTES,
    SCALAR_VALUE,
    SOURCE_ARGUMENT,
    SOURCE_LIFTED,
    SOURCE_LIST,
    SOURCE_TUPLE,
    TUPLE_ITEMS,
    VARIANT,
    WRITABLE,
)
from cellc.kernels.text import Module


def emit(module: Module) -> None:
    """Add `entry_match`."""
    _emit_guards(module)
    _emit_match_tensor(module)
    _emit_match_row(module)
    _emit_match(module)


def _emit_guards(module: Module) -> None:
    """`i64 entry_guards(header, variant)`: 1 they hold, 0 they do not, -1 exception."""
    with Procedure(module, "i64", "entry_guards", [("ptr", "header"), ("ptr", "variant")]) as p:
        found = p.variable("ptr")
        walk = [p.variable(ty) for ty in ("i64", "ptr", "ptr")]     # where in a dict; key; value
        guards = p.get("ptr", "%variant", VARIANT["guards"])
        with p.loop("0", p.get("i64", "%variant", VARIANT["n_guards"])) as number:
            guard = p.gep("i8", guards, p.mul(number.index, str(GUARD_BYTES)))
            a, b, c = (p.get("ptr", guard, GUARD[name]) for name in "abc")
            labels = {kind: p.label("guard") for kind in range(5)}
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
                p.start(labels[GUARD_ITEMS])
                _match_items(p, a, b, p.get("i64", guard, GUARD["c"]), walk)
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


def _match_items(p: Procedure, mapping: str, pairs: str, count: str, walk) -> None:
    """The dict has these pairs of objects in this order, and no more."""
    position, key, value = walk
    following = ("PyDict_Next", ("ptr", mapping),
                 *(("ptr", variable.pointer) for variable in walk))
    position.set("0")
    with p.loop("0", count) as number:
        p.return_if(p.eq("i32", p.call("i32", *following), "0"), "0")
        pair = p.gep("i8", pairs, p.mul(number.index, "16"))
        p.return_if(p.ne("ptr", key.get(), p.load("ptr", pair)), "0")
        p.return_if(p.ne("ptr", value.get(), p.get("ptr", pair, 8)), "0")
    p.return_if(p.ne("i32", p.call("i32", *following), "0"), "0")


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
            with p.when(p.eq("i64", p.get("i64", "%row", ROW["flags"]), str(WRITABLE))):
                held = p.get("i32", inner, OB_REFERENCES)       # by the tensor alone?
                p.return_if(p.ne("i32", held, "1"), "0")
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
        labels = {number: p.label("row") for number in range(11)}
        pass_value, held = p.label("pass"), p.variable("ptr", "null")

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

            p.start(labels[ARG_SCALAR])
            exact_type()
            value.set(p.op(f"ptrtoint ptr {p.field('%object', SCALAR_VALUE)} to i64"))
            held.set("%object")
            p.branch(pass_value)

            p.start(pass_value)
            out = p.get("i64", "%row", ROW["out"])
            args = p.field("%scratch", p.get("i64", "%variant", VARIANT["at_args"]))
            arrays = p.field("%scratch", p.get("i64", "%variant", VARIANT["at_arrays"]))
            p.store("i64", value.get(), p.gep("i64", args, out))
            p.store("ptr", held.get(), p.gep("ptr", arrays, out))
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
