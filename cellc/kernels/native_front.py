"""What stands before the native entry of a called object, as LLVM text; `front.py` says what for.

`cellc_method` is the `__call__` of classes, a method descriptor: it finds the object's Front in its
dictionary. `cellc_front` is a built-in function bound to a Front. Both look whether the call may go
straight to the entry, and else call Python.
"""

from __future__ import annotations

from cellc.kernels.imperative import Procedure, cell
from cellc.kernels.native_layout import BYTES_VALUE, ENTRY_SLOT, FRONT, OB_SIZE, OB_TYPE
from cellc.kernels.text import Module

EXPORTS = ("cellc_front", "cellc_method", "front_key", "front_type", "front_aside")
BUSY = ("busy_0", "busy_1", "busy_2")
CALL = [("ptr", "self"), ("ptr", "args"), ("i64", "n"), ("ptr", "keywords")]
HANDED_ON = [("ptr", "%args"), ("i64", "%n"), ("ptr", "%keywords")]


def emit(module: Module) -> None:
    """Add both functions, and the objects they look for (the addresses are set from Python)."""
    for name in ("front_key", "front_type", "front_aside"):
        cell(module, name, "i64")
    _emit_is_straight(module)
    _emit_call(module)
    with Procedure(module, "ptr", "cellc_front", CALL, "define") as p:
        p.give(p.call("ptr", "front_call", ("ptr", "%self"), *HANDED_ON))
    _emit_method(module)


def _emit_is_straight(module: Module) -> None:
    """`i1 front_is_straight(words, args, n)`: nothing is going on, no argument is on the tape."""
    arguments = [("ptr", "words"), ("ptr", "args"), ("i64", "n")]
    with Procedure(module, "i1", "front_is_straight", arguments) as p:
        for name in BUSY:
            size = p.get("i64", p.get("ptr", "%words", FRONT[name]), OB_SIZE)
            p.return_if(p.ne("i64", size, "0"), "false")
        slot = p.get("i64", "%words", FRONT["slot"])
        p.return_if(p.eq("i64", slot, "0"), "true")
        tensor, off = (p.get("ptr", "%words", FRONT[name]) for name in ("tensor", "off"))
        with p.loop("0", "%n") as number:
            value = p.load("ptr", p.gep("ptr", "%args", number.index))
            kind = p.get("ptr", value, OB_TYPE)
            is_tensor = p.call("i32", "PyType_IsSubtype", ("ptr", kind), ("ptr", tensor))
            with p.when(p.ne("i32", is_tensor, "0")):
                p.return_if(p.ne("ptr", p.get("ptr", value, slot), off), "false")
        p.give("true")


def _emit_call(module: Module) -> None:
    """`ptr front_call(front, args, n, keywords)`. What is called is held meanwhile: the front may
    be replaced."""
    arguments = [("ptr", "front"), *CALL[1:]]
    with Procedure(module, "ptr", "front_call", arguments) as p:
        words = p.get("ptr", p.get("ptr", "%front", ENTRY_SLOT), BYTES_VALUE)
        aside = p.label("aside")
        p.leave_if(p.ne("ptr", "%keywords", "null"), aside)
        straight = p.call("i1", "front_is_straight", ("ptr", words), ("ptr", "%args"),
                          ("i64", "%n"))
        p.leave_if(p.op(f"xor i1 {straight}, true"), aside)
        for name, function in [("entry", "cellc_entry"), ("aside", "PyObject_Vectorcall")]:
            called = p.get("ptr", words, FRONT[name])
            p.call("void", "Py_IncRef", ("ptr", called))
            result = p.call("ptr", function, ("ptr", called), *HANDED_ON)
            p.call("void", "Py_DecRef", ("ptr", called))
            p.give(result)
            if name == "entry":
                p.start(aside)


def _emit_method(module: Module) -> None:
    with Procedure(module, "ptr", "cellc_method", CALL, "define") as p:
        attributes = p.call("ptr", "PyObject_GenericGetDict", ("ptr", "%self"), ("ptr", "null"))
        p.return_if(p.is_null(attributes), "null")
        front = p.call("ptr", "PyDict_GetItemWithError", ("ptr", attributes),
                       ("ptr", p.load("ptr", "@front_key")))
        p.call("void", "Py_DecRef", ("ptr", attributes))
        none, aside = p.label("none"), p.label("aside")
        p.leave_if(p.is_null(front), none)
        p.leave_if(p.ne("ptr", p.get("ptr", front, OB_TYPE), p.load("ptr", "@front_type")), aside)
        words = p.get("ptr", p.get("ptr", front, ENTRY_SLOT), BYTES_VALUE)
        p.leave_if(p.ne("ptr", p.get("ptr", words, FRONT["owner"]), "%self"), aside)
        p.give(p.call("ptr", "front_call", ("ptr", front), *HANDED_ON))
        p.start(none)
        failed = p.op(f"xor i1 {p.is_null(p.call('ptr', 'PyErr_Occurred'))}, true")
        p.return_if(failed, "null")
        p.branch(aside)
        p.start(aside)
        method = p.call("ptr", "PyObject_GetAttr", ("ptr", "%self"),
                        ("ptr", p.load("ptr", "@front_aside")))
        p.return_if(p.is_null(method), "null")
        result = p.call("ptr", "PyObject_Vectorcall", ("ptr", method), *HANDED_ON)
        p.call("void", "Py_DecRef", ("ptr", method))
        p.give(result)
