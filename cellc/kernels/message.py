"""message: what a running program says to the user, through Python.

A program calls `i32 cellc_message(i64 number, i32 fault, ptr words)`, with the number of a message
(ir/prims/effect.py) and its values: the address of each, then the sizes of their symbolic
dimensions in order. It prints, or makes the fault that the program then ends with. Where Python
raises on the way, the answer is not zero. The fault waits, for its thread, until it is `taken`.
"""

from __future__ import annotations

import ctypes
import threading

import numpy as np

from cellc.ir.prims.effect import MESSAGES
from cellc.ir.types import Dim, ScalarType

_waiting = threading.local()
_FORM = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, ctypes.c_int32, ctypes.c_void_p)


@_FORM
def _message(number: int, fault: int, words) -> int:
    try:
        message = MESSAGES[number]
        values = _values(message.types, words)
        if fault:
            _waiting.fault = message.fault(values)
        else:
            message.show(values)
    except BaseException as error:      # raised again where the call ends
        _waiting.fault = error
        return 1
    return 0


def address() -> int:
    """Where programs find the function."""
    return ctypes.cast(_message, ctypes.c_void_p).value


def taken() -> BaseException:
    """The fault that this thread's program ended with."""
    return _waiting.__dict__.pop("fault")


def _values(types, words) -> list:
    """NumPy arrays, and Python numbers, of what lies at the addresses."""
    places = (ctypes.c_int64 * (len(types) + sum(
        isinstance(n, Dim) for t in types for n in t.shape))).from_address(words)
    sizes = iter(places[len(types):])
    return [_value(t, tuple(next(sizes) if isinstance(n, Dim) else n for n in t.shape), at)
            for t, at in zip(types, places, strict=False)]


def _value(type, shape, at: int):
    if isinstance(type, ScalarType):
        raw = ctypes.string_at(at, 8)
        if type.dtype.kind == "b":
            return bool(raw[0])
        return np.frombuffer(raw, type.dtype.numpy)[0].item()
    count = int(np.prod(shape, dtype=np.int64))
    raw = ctypes.string_at(at, count * type.dtype.itemsize)
    return np.frombuffer(raw, type.dtype.numpy).reshape(shape)
