"""The words native code and `pack.py` share, and where CPython and NumPy keep theirs.

What a compiled function accepts and returns is a table of records of 8-byte words; the lists of
fields below say which word lies where. The offsets into Python's own objects have not moved for
many releases, but are nobody's promise: `check_layout` compares each with a live object and refuses
to go on where one does not hold.
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np


def record(*fields: str) -> tuple[dict[str, int], int]:
    """Offsets of fields of 8 bytes each, and the size of the whole."""
    return {name: 8 * i for i, name in enumerate(fields)}, 8 * len(fields)


HEADER, HEADER_BYTES = record(
    "first", "active", "scratch_bytes", "on_miss", "on_error", "array_type", "exception")
FRONT, FRONT_BYTES = record(
    "entry", "aside", "busy_0", "busy_1", "busy_2", "tensor", "slot", "off", "owner")
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
GUARD_EPOCH, GUARD_DICT, GUARD_ATTRIBUTE, GUARD_CELL, GUARD_ITEMS = range(5)
(ARG_TENSOR, ARG_FLOAT, ARG_INT, ARG_BOOL, ARG_OBJECT, ARG_SAME_INT, ARG_SAME_FLOAT, ARG_SAME_STR,
 ARG_IGNORED, ARG_SEQUENCE, ARG_SCALAR) = range(11)
SOURCE_ARGUMENT, SOURCE_LIFTED, SOURCE_TUPLE, SOURCE_LIST = range(4)
(OUT_TENSOR, OUT_FLOAT, OUT_INT, OUT_BOOL, OUT_OBJECT, OUT_ARGUMENT, OUT_FOUND, OUT_TUPLE,
 OUT_LIST) = range(9)

# Offsets in CPython's and NumPy's objects; `check_layout` compares them with live objects.
OB_REFERENCES, OB_TYPE, OB_SIZE = 0, 8, 16
TUPLE_ITEMS, LIST_ITEMS, FLOAT_VALUE, BYTES_VALUE = 24, 24, 16, 32
SCALAR_VALUE = 16                           # in NumPy's numbers
ENTRY_SLOT = 16
ARRAY_DATA, ARRAY_N_DIMS, ARRAY_DIMS, ARRAY_DESCR, ARRAY_FLAGS = 16, 24, 32, 56, 64
READABLE, WRITABLE = 0x101, 0x501           # C-contiguous and aligned; and writeable
NEW_ARRAY_FLAGS = 0x501
ERROR_WORDS = 8                             # that Python sees; three more: interrupts.py
RECYCLED_FROM = 64 << 10                    # smaller results are NumPy's own allocation

PYTHON_FUNCTIONS = (
    "Py_IncRef", "Py_DecRef", "PyFloat_FromDouble", "PyLong_FromLongLong", "PyBool_FromLong",
    "PyLong_AsLongLongAndOverflow", "PyUnicode_Compare", "PyTuple_New", "PyList_New",
    "PyType_GenericAlloc", "PyCapsule_New", "PyCapsule_GetPointer", "PyObject_Vectorcall",
    "PyDict_GetItemWithError", "PyDict_Next", "PyObject_GetAttr", "PyCell_Get", "PyErr_Occurred",
    "PyErr_Clear", "PyErr_ExceptionMatches", "PyErr_NoMemory", "PyEval_SaveThread",
    "PyEval_RestoreThread", "PyObject_GenericGetDict", "PyType_IsSubtype",
    "PyErr_CheckSignals")
SCALARS = (np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32,
           np.uint64, np.float16, np.float32, np.float64)
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
    several, strided, number = list(items), probe[:, ::2], float("2.5")
    data, sole = b"eight by", [np.zeros(2)]
    holds = [
        word(id(probe), OB_TYPE) == id(np.ndarray),
        word(id(sole[0]), OB_REFERENCES, ctypes.c_int32) == 1,
        word(id(probe), ARRAY_DATA) == probe.ctypes.data,
        word(id(probe), ARRAY_N_DIMS, ctypes.c_int32) == 2,
        [word(word(id(probe), ARRAY_DIMS), 8 * i) for i in range(2)] == [3, 5],
        word(id(probe), ARRAY_DESCR) == id(probe.dtype),
        word(id(probe), ARRAY_FLAGS, ctypes.c_int32) & WRITABLE == WRITABLE,
        not word(id(strided), ARRAY_FLAGS, ctypes.c_int32) & 1,
        word(id(items), OB_SIZE) == 2 and word(id(several), OB_SIZE) == 2,
        word(id(items), TUPLE_ITEMS + 8) == id(items[1]),
        word(word(id(several), LIST_ITEMS), 8) == id(items[1]),
        word(id(number), FLOAT_VALUE, ctypes.c_double) == 2.5,
        all(ctypes.string_at(id(x) + SCALAR_VALUE, x.itemsize) == x.tobytes()
            for x in [kind(1) for kind in SCALARS]),
        ctypes.string_at(id(data) + BYTES_VALUE, 8) == data,
        slot_offset(Slotted, "first") == ENTRY_SLOT,
    ]
    if not all(holds):
        raise RuntimeError("this Python or NumPy lays out its objects in a way cellc does not know "
                           f"(check {holds.index(False)} of {len(holds)})")
