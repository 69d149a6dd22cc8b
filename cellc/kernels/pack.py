"""From a VariantSpec to the words native code reads (`native_layout.py` says which lies where).

A Packed owns its words and a reference to every object whose address is among them.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from types import CellType
from typing import Any

import numpy as np

from cellc.kernels import native_layout as native
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
from cellc.record import record


@record(frozen=True)
class _Layout:
    """Where instances of a tensor class keep their array, and what else a new one is given."""
    slot: int
    defaults: tuple[tuple[int, Any], ...]


_layouts: dict[type, _Layout] = {np.ndarray: _Layout(0, ())}
_first_class: list[type] = []


def register_tensor(cls: type, array: str = "_array",
                    defaults: Mapping[str, Any] | None = None) -> None:
    """Teach the entry the layout of a tensor class.

    `cls` is a heap class whose slot `array` holds a NumPy array. Outputs of this class get their
    other slots from `defaults` (slot name -> object, shared); slots not named stay unset.
    """
    _layouts[cls] = _Layout(native.slot_offset(cls, array),
                            tuple((native.slot_offset(cls, name), value)
                                  for name, value in (defaults or {}).items()))
    if not _first_class:
        _first_class.append(cls)


def _layout_of(cls: type | None) -> tuple[type, _Layout]:
    """The class meant by a TensorArg's or TensorOut's `type`, and its layout."""
    if cls is None:
        if not _first_class:
            raise ValueError("no tensor class is registered: register_tensor comes first")
        cls = _first_class[0]
    if cls not in _layouts:
        raise ValueError(f"{cls.__name__} is not registered: register_tensor comes first")
    return cls, _layouts[cls]


_epoch = ctypes.c_int64(0)


def epoch_address() -> int:
    """Where the global epoch (an int64) lives."""
    return ctypes.addressof(_epoch)


def epoch() -> int:
    """The global epoch."""
    return _epoch.value


def bump_epoch() -> None:
    """Make every EpochGuard added so far fail."""
    _epoch.value += 1


# -- from a spec to the words native code reads ----------------------------------------------------
class _Words:
    """Arrays of 8-byte words that stay where they are, and the objects they point to."""

    def __init__(self):
        self.kept: list[Any] = []

    def array(self, values: Sequence[int]) -> int:
        """The address of a new array with these values, of which 64 bits are kept."""
        words = (ctypes.c_int64 * max(len(values), 1))(*values)
        self.kept.append(words)
        return ctypes.addressof(words)

    def object(self, value: Any) -> int:
        """The address of an object, held from now on."""
        self.kept.append(value)
        return id(value)

    def record(self, fields: tuple[dict[str, int], int], **values: int) -> list[int]:
        """The words of a record; fields not named are 0."""
        offsets, size = fields
        words = [0] * (size // 8)
        for name, value in values.items():
            words[offsets[name] // 8] = value
        return words


GUARD, ROW, OUT, VARIANT = (
    (native.GUARD, native.GUARD_BYTES), (native.ROW, native.ROW_BYTES),
    (native.OUT, native.OUT_BYTES), (native.VARIANT, native.VARIANT_BYTES))


WITH_SLOT = (TensorArg, FloatArg, IntArg, BoolArg)
WITH_RESULT = (TensorOut, FloatOut, IntOut, BoolOut)


class Packed:
    """Translates one VariantSpec; what it makes lives as long as it does."""

    def __init__(self, spec: VariantSpec):
        self.spec = spec
        self.words = _Words()
        self.rows: list[list[int]] = []
        self.row_at: dict[tuple[int, ...], int] = {}     # argument path -> row
        self.outs: list[list[int]] = []
        self.values: dict[int, dict[str, int]] = {}      # of equal weights and results: by their id
        self.bound: set[int] = set()
        self._found = frozenset(range(len(spec.symbols), len(spec.symbols) + spec.found))
        self.n_slots = self.n_results = 0
        for index, arg in enumerate(spec.args):
            self._pack_arg(arg, native.SOURCE_ARGUMENT, index, 0, (index,))
        for lifted in spec.lifted:
            address = self.words.object(lifted.value)
            self._pack_arg(lifted.arg, native.SOURCE_LIFTED, address, 0, None)
        unbound = set(range(len(spec.symbols))) - self.bound
        if unbound:
            raise ValueError(f"no argument has the symbolic dimensions {sorted(unbound)}")
        self._pack_out(spec.outputs)
        self._pack_variant()

    # -- arguments -----------------------------------------------------------------------------
    def _pack_arg(self, arg: Arg, source: int, origin: int, index: int,
                  path: tuple[int, ...] | None) -> None:
        number = len(self.rows)
        if path is not None:
            self.row_at[path] = number
        values = self.values.get(id(arg)) or self._arg_values(arg)
        row = self.words.record(ROW, **values, source=source, index=index, out=self.n_slots,
                                **{"from": origin})
        self.n_slots += isinstance(arg, WITH_SLOT)
        self.rows.append(row)
        if isinstance(arg, SequenceArg):
            inner = native.SOURCE_TUPLE if arg.type is tuple else native.SOURCE_LIST
            for i, item in enumerate(arg.items):
                self._pack_arg(item, inner, number, i, None if path is None else (*path, i))

    def _arg_values(self, arg: Arg) -> dict[str, int]:
        of = self.words.object
        match arg:
            case TensorArg(type=cls) if cls in native.SCALARS:
                if arg.dims or np.dtype(cls) != arg.dtype:
                    raise ValueError(f"{cls.__name__} is no array of {arg.dtype} and {arg.dims}")
                return {"kind": native.ARG_SCALAR, "expected": of(cls)}
            case TensorArg():
                cls, layout = _layout_of(arg.type)
                values = {
                    "kind": native.ARG_TENSOR,
                    "expected": of(cls),
                    "slot": layout.slot,
                    "other": of(np.dtype(arg.dtype)),
                    "flags": native.WRITABLE if arg.writable else native.READABLE,
                    "count": len(arg.dims),
                    "dims": self.words.array([self._dim_code(dim) for dim in arg.dims]),
                }
                if not any(isinstance(dim, Symbol) for dim in arg.dims):
                    self.values[id(arg)] = values
                return values
            case FloatArg():
                return {"kind": native.ARG_FLOAT, "expected": of(float)}
            case IntArg():
                return {"kind": native.ARG_INT, "expected": of(int)}
            case BoolArg():
                return {"kind": native.ARG_BOOL, "expected": of(True), "other": of(False)}
            case IgnoredArg():
                return {"kind": native.ARG_IGNORED}
            case SequenceArg():
                if arg.type not in (tuple, list):
                    raise ValueError(f"a SequenceArg is a tuple or a list, not {arg.type.__name__}")
                return {"kind": native.ARG_SEQUENCE, "expected": of(arg.type),
                        "count": len(arg.items)}
            case KnownArg(value):
                return self._known_values(value)
        raise TypeError(f"{arg!r} describes no argument")

    def _known_values(self, value: Any) -> dict[str, int]:
        of = self.words.object
        if type(value) is int and -(1 << 63) <= value < 1 << 63:
            return {"kind": native.ARG_SAME_INT, "expected": of(int), "other": value}
        if type(value) is float:
            bits = struct.unpack("<q", struct.pack("<d", value))[0]
            return {"kind": native.ARG_SAME_FLOAT, "expected": of(float), "other": bits}
        if type(value) is str:
            return {"kind": native.ARG_SAME_STR, "expected": of(str), "other": of(value)}
        return {"kind": native.ARG_OBJECT, "other": of(value)}

    def _dim_code(self, dim: int | Symbol) -> int:
        if not isinstance(dim, Symbol):
            if not isinstance(dim, int) or dim < 0:
                raise ValueError(f"an argument's dimension is a Symbol or an int >= 0, not {dim}")
            return int(dim)
        if not 0 <= dim.index < len(self.spec.symbols):
            raise ValueError(f"symbol {dim.index} of {len(self.spec.symbols)}")
        binds = dim.index not in self.bound
        self.bound.add(dim.index)
        return ~(2 * dim.index + binds)

    # -- guards --------------------------------------------------------------------------------
    def _guard(self, guard: Guard) -> list[int]:
        of = self.words.object
        match guard:
            case EpochGuard(value):
                values = (native.GUARD_EPOCH, epoch_address(), epoch() if value is None else value,
                          0)
            case DictGuard(mapping, key, expected):
                if not isinstance(mapping, dict):
                    raise TypeError(f"a DictGuard looks into a dict, not {type(mapping).__name__}")
                absent = expected is MISSING
                values = (native.GUARD_DICT, of(mapping), of(key), 0 if absent else of(expected))
            case ItemsGuard(mapping, items):
                if not isinstance(mapping, dict):
                    raise TypeError(f"an ItemsGuard is of a dict, not {type(mapping).__name__}")
                pairs = self.words.array([of(x) for pair in items for x in pair])
                values = (native.GUARD_ITEMS, of(mapping), pairs, len(items))
            case AttributeGuard(value, name, expected):
                values = (native.GUARD_ATTRIBUTE, of(value), of(name), of(expected))
            case CellGuard(cell, expected):
                if not isinstance(cell, CellType):
                    raise TypeError(f"a CellGuard takes a closure cell, not {type(cell).__name__}")
                wanted = 0 if expected is MISSING else of(expected)
                values = (native.GUARD_CELL, of(cell), 0, wanted)
            case _:
                raise TypeError(f"{guard!r} is no guard")
        return list(values)

    # -- outputs -------------------------------------------------------------------------------
    def _pack_out(self, out: Out) -> None:
        if isinstance(out, TupleOut):
            for item in out.items:
                self._pack_out(item)
        values = self.values.get(id(out)) or self._out_values(out)
        self.outs.append(self.words.record(OUT, **values, out=self.n_results))
        self.n_results += isinstance(out, WITH_RESULT)

    def _out_values(self, out: Out) -> dict[str, int]:
        of = self.words.object
        match out:
            case TensorOut():
                return self._tensor_out_values(out)
            case FloatOut():
                return {"kind": native.OUT_FLOAT}
            case IntOut():
                return {"kind": native.OUT_INT}
            case BoolOut():
                return {"kind": native.OUT_BOOL}
            case ObjectOut(value):
                return {"kind": native.OUT_OBJECT, "type": of(value)}
            case ArgumentOut(path):
                return {"kind": native.OUT_ARGUMENT, "type": self.row_at[tuple(path)]}
            case TupleOut():
                if out.type not in (tuple, list):
                    raise ValueError(f"a TupleOut is a tuple or a list, not {out.type.__name__}")
                kind = native.OUT_TUPLE if out.type is tuple else native.OUT_LIST
                return {"kind": kind, "n_dims": len(out.items)}
        raise TypeError(f"{out!r} describes no output")

    def _tensor_out_values(self, out: TensorOut) -> dict[str, int]:
        cls, layout = _layout_of(out.type)
        dtype = np.dtype(out.dtype)
        defaults = [word for at, value in layout.defaults
                    for word in (at, self.words.object(value))]
        literal = all(isinstance(dim, int | np.integer) for dim in out.dims)
        codes = [word for dim in out.dims for word in self._size_code(dim, self._found)]
        found = any(map(self._found.intersection, map(_symbols, out.dims)))
        values = self.values[id(out)] = {
            "kind": native.OUT_FOUND if found else native.OUT_TENSOR,
            "type": self.words.object(cls),
            "slot": layout.slot,
            "descr": self.words.object(dtype),
            "item_bytes": dtype.itemsize,
            "n_dims": len(out.dims),
            "dims": self.words.array(codes),
            "literal_bytes": math.prod(out.dims) * dtype.itemsize if literal else -1,
            "defaults": self.words.array(defaults),
            "n_defaults": len(layout.defaults),
        }
        return values

    def _size_code(self, dim: Dim, found: frozenset[int] = frozenset()) -> list[int]:
        if isinstance(dim, Symbol):
            dim = Size.of(dim)
        if not isinstance(dim, Size):
            if dim < 0:
                raise ValueError(f"a size is not negative: {dim}")
            return [int(dim)]
        if dim.divisor < 1:
            raise ValueError(f"a size is divided by a positive number, not {dim.divisor}")
        used = _symbols(dim) - found
        if not used <= self.bound:
            raise ValueError(f"symbols {sorted(used - self.bound)} occur in no argument")
        if not dim.terms:
            return self._size_code(dim.offset)
        code = [-len(dim.terms), dim.divisor, dim.offset]
        for coef, factors in dim.terms:
            code += [coef, len(factors), *factors]
        return code

    # -- the whole -----------------------------------------------------------------------------
    def _pack_variant(self) -> None:
        spec, words = self.spec, self.words
        guards = [self._guard(guard) for guard in spec.guards]
        ranks = [len(out.dims) for out in _leaves(spec.outputs) if isinstance(out, TensorOut)]
        n_outs = len(self.outs)
        sizes = {"args": self.n_slots, "arrays": self.n_slots, "objects": len(self.rows),
                 "dims": len(spec.symbols) + spec.found, "outs": self.n_results, "results": n_outs,
                 "cells": n_outs, "stack": n_outs, "shape": max(ranks, default=0),
                 "error": native.ERROR_WORDS + 3}
        places, self.scratch_bytes = {}, 0
        for name, count in sizes.items():
            places[f"at_{name}"] = self.scratch_bytes
            self.scratch_bytes += 8 * max(count, 1)
        self.address = words.array(words.record(
            VARIANT, n_args=len(spec.args),
            guards=words.array(list(chain(*guards))), n_guards=len(guards),
            rows=words.array(list(chain(*self.rows))), n_rows=len(self.rows),
            minima=words.array(list(spec.symbols)), n_slots=self.n_slots,
            outs=words.array(list(chain(*self.outs))), n_outs=n_outs,
            arena=words.array(self._size_code(spec.arena)), program=spec.program,
            release_gil=int(spec.release_gil), spec=words.object(spec), **places))


def _symbols(dim: Dim) -> set[int]:
    """The symbols that a size is computed from."""
    if isinstance(dim, Symbol):
        return {dim.index}
    return {s for _, factors in dim.terms for s in factors} if isinstance(dim, Size) else set()


def _leaves(out: Out) -> list[Out]:
    if isinstance(out, TupleOut):
        return [leaf for item in out.items for leaf in _leaves(item)]
    return [out]
