"""Called objects without a Python function in between: a cell, a jitted function, a gradient.

What their call means depends on what is going on: within a call that is being parsed it becomes a
part of that graph, in eager mode it runs at once, with an argument on the tape it is recorded. All
this is rare beside the call that only has compiled code to run, and for that one a look at a few
lengths is enough. A Front stands before an Entry and looks at them:

    busy    up to three lists, which are empty unless something is going on in some thread
    taped   a class of tensors with a slot `requires_grad`: none may be among the arguments that
            has anything but False there
    aside   what Python calls otherwise; it knows of which thread it is, and looks closely

    Front(entry, aside, busy, taped).call       a built-in function
    Front(...).stand_before(object)             calls of the object come here from now on; a copy
                                                of its dictionary changes nothing for others

To append to a list and to pop from it is one step each for all threads, so nothing needs a lock;
an item that is left behind makes calls slower and not wrong.

A class whose objects can have a front has a Python method `_cellc_aside`, which is its `__call__`
as well; the first `stand_before` replaces the latter by a method in machine code.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import sys
from collections.abc import Callable, Sequence

from cellc.kernels import native_layout as native
from cellc.kernels import runtime
from cellc.kernels.entry import METH_FASTCALL, METH_KEYWORDS, Entry, MethodDef, builtin
from cellc.kernels.native_front import BUSY

KEY = sys.intern("_cellc_front")          # where an object has its front
ASIDE = sys.intern("_cellc_aside")
SIGNATURE = b"__call__($self, /, *args, **kwargs)\n--\n\nCall self as a function."
NEVER: list = []


class Front:
    """See above."""

    # The native side finds the words through the first slot: a bytes object with their address.
    __slots__ = ("_address", "_words", "_kept", "call")

    def __init__(self, entry: Entry, aside: Callable, busy: Sequence[list] = (),
                 taped: type | None = None):
        lists = [*busy, NEVER, NEVER, NEVER][:len(BUSY)]
        values = {"entry": id(entry), "aside": id(aside), "off": id(False)}
        values |= {name: id(x) for name, x in zip(BUSY, lists, strict=True)}
        if taped is not None:
            values |= {"tensor": id(taped), "slot": native.slot_offset(taped, "requires_grad")}
        self._words = (ctypes.c_int64 * (native.FRONT_BYTES // 8))()
        for name, value in values.items():
            self._words[native.FRONT[name] // 8] = value
        self._address = struct.pack("=q", ctypes.addressof(self._words))
        self._kept = (entry, aside, *lists, taped)
        self.call = builtin(self, _method_def("cellc_front"))

    def stand_before(self, value: object) -> None:
        """From now on calls of `value` come here."""
        _replace(next(c for c in type(value).__mro__ if ASIDE in vars(c)))
        self._words[native.FRONT["owner"] // 8] = id(value)
        value.__dict__[KEY] = self


@functools.cache
def _method_def(function: str) -> MethodDef:
    return MethodDef(b"__call__", runtime.load().address(function),
                     METH_FASTCALL | METH_KEYWORDS, SIGNATURE)


@functools.cache
def _replace(cls: type) -> None:
    """Give a class the native method."""
    for name, value in [("front_key", KEY), ("front_type", Front), ("front_aside", ASIDE)]:
        runtime.load().cell(name).value = id(value)
    new = ctypes.pythonapi.PyDescr_NewMethod
    new.restype, new.argtypes = ctypes.py_object, [ctypes.py_object, ctypes.c_void_p]
    cls.__call__ = new(cls, ctypes.addressof(_method_def("cellc_method")))
