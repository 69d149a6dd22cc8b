# ruff: noqa: F401  (names for others to import)
"""The native entry: what a compiled function is to Python.

`Entry.call` is a CPython built-in function (METH_FASTCALL) whose body is machine code. It walks a
chain of *variants*, one per compiled signature, compares the arguments, the lifted objects and the
guards of each with a table of plain integers, and on the first match allocates the outputs, jumps
into the program and wraps the results. No Python function runs on that way. Where no variant
matches, it calls `on_miss(*args, **kwargs)`, which usually compiles a variant, adds it and calls
again.

    register_tensor(Tensor, "_array", {"requires_grad": False})       # once, per tensor class
    entry = Entry(on_miss, on_error)
    entry.add(VariantSpec(
        args=[TensorArg(np.float32, (Symbol(0), 4)), FloatArg()],
        lifted=[Lifted(weight, TensorArg(np.float32, (4, 4), type=Parameter))],
        symbols=(2,),                                                 # Symbol(0) is at least 2
        guards=[EpochGuard(), DictGuard(vars(net), "training", True)],
        outputs=TensorOut(np.float32, (Symbol(0), 4)),
        arena=Size.of(Symbol(0), 64),
        program=address, keep=loaded))
    y = entry.call(x, 0.5)

The program is `i32 program(ptr args, ptr outs, ptr dims, ptr arena, ptr error)`:

- `args`: one 8-byte slot for each TensorArg (the data pointer), FloatArg (a double), IntArg (an
  i64), BoolArg (an i64 0 or 1), in the order of a depth-first walk over `args`, then `lifted`.
  KnownArg, IgnoredArg and SequenceArg itself have no slot.
- `outs`: one pointer for each TensorOut (its data; of a size the program finds: an 8-byte cell for
  the address of its block), FloatOut, IntOut, BoolOut (an 8-byte cell: double, i64, i64) in
  depth-first order. ObjectOut, ArgumentOut and TupleOut itself have none.
- `dims`: i64, one for each symbol, then one for each size that the program finds.
- `arena`: `arena` bytes of scratch, 64-byte aligned, not cleared; null where that is 0.
- `error`: i64[8], zeros; what the program writes there goes to `on_error` when it returns nonzero.

Data pointers are aligned to the element size, nothing more. Inputs are C-contiguous.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from cellc.kernels import native_layout as native
from cellc.kernels import runtime
from cellc.kernels.pack import Packed, bump_epoch, epoch, epoch_address, register_tensor
from cellc.kernels.variant import (
    MISSING,
    Arg,
    ArgumentOut,
    AttributeGuard,
    BoolArg,
    BoolOut,
    CellGuard,
    DictGuard,
    Dim,
    EpochGuard,
    FloatArg,
    FloatOut,
    Guard,
    IgnoredArg,
    IntArg,
    IntOut,
    ItemsGuard,
    KnownArg,
    Lifted,
    ObjectOut,
    Out,
    SequenceArg,
    Size,
    Symbol,
    TensorArg,
    TensorOut,
    TupleOut,
    VariantSpec,
)


class MethodDef(ctypes.Structure):
    """How CPython knows a native function; it must outlive all that is made of it."""
    _fields_ = [("name", ctypes.c_char_p), ("function", ctypes.c_void_p),
                ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


METH_FASTCALL, METH_KEYWORDS = 0x80, 0x02


@functools.cache
def _method_def() -> MethodDef:
    """The description that every Entry's built-in function shares, kept forever."""
    native.check_layout()
    address = runtime.load().address("cellc_entry")
    return MethodDef(b"compiled", address, METH_FASTCALL | METH_KEYWORDS, None)


def builtin(owner: Any, definition: MethodDef) -> Callable:
    """A built-in function bound to `owner`."""
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object,
                                                   ctypes.c_void_p]
    return new(ctypes.addressof(definition), owner, None)


class Entry:
    """A native callable with its chain of variants.

    `on_miss(*args, **kwargs)` handles calls that match no variant or carry keywords; its result
    is the result. `on_error(spec, record)` is called when a program returns nonzero, with the
    VariantSpec and the error record as a tuple of 8 ints; it raises, or its result is the result.

    .call       the built-in function
    .add(spec)  put a variant at the head of the chain
    .clear()    drop all variants (those in use by a running call live until it ends)
    .variants   the specs, newest first
    .chain()    the specs in the order they are tried: a match moves to the front
    .running()  how many calls are inside
    """

    # The native side finds the header through the first slot: a bytes object with its address.
    __slots__ = ("_address", "_header", "_handlers", "_packed", "_retired", "call", "__weakref__")

    def __init__(self, on_miss: Callable, on_error: Callable):
        self._handlers = (on_miss, on_error)
        self._header = (ctypes.c_int64 * (native.HEADER_BYTES // 8))()
        self._address = struct.pack("=q", ctypes.addressof(self._header))
        self._packed: list[Packed] = []
        self._retired: list[Packed] = []
        for name, value in [("on_miss", on_miss), ("on_error", on_error),
                            ("array_type", np.ndarray), ("exception", Exception)]:
            self._set(name, id(value))
        self.call = builtin(self, _method_def())

    def _set(self, name: str, value: int) -> None:
        self._header[native.HEADER[name] // 8] = value

    def _get(self, name: str) -> int:
        return self._header[native.HEADER[name] // 8]

    @property
    def variants(self) -> tuple[VariantSpec, ...]:
        """The specs, newest first."""
        return tuple(packed.spec for packed in reversed(self._packed))

    def chain(self) -> tuple[VariantSpec, ...]:
        """The specs in the order in which they are tried."""
        by_address = {packed.address: packed.spec for packed in self._packed}
        order, address = [], self._get("first")
        while address:
            order.append(by_address[address])
            address = native.word(address, native.VARIANT["next"])
        return tuple(order)

    def running(self) -> int:
        """How many calls are inside: matching, or in a program."""
        return self._get("active")

    def add(self, spec: VariantSpec) -> None:
        """Put a variant at the head of the chain."""
        packed = Packed(spec)
        self._release_retired()
        following = ctypes.c_int64.from_address(packed.address + native.VARIANT["next"])
        following.value = self._get("first")
        self._packed.append(packed)
        self._set("scratch_bytes", max(self._get("scratch_bytes"), packed.scratch_bytes))
        self._set("first", packed.address)

    def clear(self) -> None:
        """Drop all variants; those a running call may still read live until none runs."""
        self._set("first", 0)
        self._retired += self._packed
        self._packed = []
        self._release_retired()

    def _release_retired(self) -> None:
        if self._get("active") == 0:
            self._retired.clear()
