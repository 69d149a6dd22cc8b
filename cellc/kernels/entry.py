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
- `outs`: one pointer for each TensorOut (its data), FloatOut, IntOut, BoolOut (an 8-byte cell:
  double, i64, i64) in depth-first order. ObjectOut, ArgumentOut and TupleOut itself have none.
- `dims`: i64, one for each symbol.
- `arena`: `arena` bytes of scratch, 64-byte aligned, not cleared; null where that is 0.
- `error`: i64[8], zeros; what the program writes there goes to `on_error` when it returns nonzero.

Data pointers are aligned to the element size, nothing more. Inputs are C-contiguous.
"""

from __future__ import annotations

import ctypes
import functools
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CellType
from typing import Any

import numpy as np

from cellc.kernels import native_entry as native
from cellc.kernels import runtime

MISSING = object()      # DictGuard.expected: the key must be absent


@dataclass(frozen=True)
class Symbol:
    """Dimension number `index` of the variant, equal wherever it occurs among the inputs."""
    index: int


@dataclass(frozen=True)
class Size:
    """A whole number computed at each call: sum(coef * product(symbols)) // divisor + offset.

    `terms` holds (coef, (symbol index, ...)) pairs.
    """
    terms: tuple[tuple[int, tuple[int, ...]], ...]
    divisor: int = 1
    offset: int = 0

    @staticmethod
    def of(*factors: int | Symbol) -> Size:
        """The product of literals and symbols."""
        coef = math.prod(factor for factor in factors if not isinstance(factor, Symbol))
        symbols = tuple(factor.index for factor in factors if isinstance(factor, Symbol))
        return Size(((coef, symbols),))


Dim = int | Symbol | Size


@dataclass(frozen=True)
class TensorArg:
    """An instance of exactly `type` holding a C-contiguous, aligned array of `dtype` and `dims`.

    `type` is a class given to `register_tensor` or np.ndarray; None stands for the class registered
    first. Each of `dims` is an int or a Symbol. `writable` also demands that the array may be
    written (for a parameter updated in place).
    """
    dtype: Any
    dims: tuple[int | Symbol, ...]
    type: type | None = None
    writable: bool = False


@dataclass(frozen=True)
class FloatArg:
    """Exactly a Python float; passed as a double."""


@dataclass(frozen=True)
class IntArg:
    """Exactly a Python int that fits 64 bits; passed as i64."""


@dataclass(frozen=True)
class BoolArg:
    """True or False; passed as i64 1 or 0."""


@dataclass(frozen=True)
class KnownArg:
    """This very object; an int, float, str of the same type and value will do as well. Not passed."""
    value: Any


@dataclass(frozen=True)
class IgnoredArg:
    """Anything; not passed."""


@dataclass(frozen=True)
class SequenceArg:
    """Exactly a tuple (or list) with these items."""
    items: tuple[Arg, ...]
    type: type = tuple


Arg = TensorArg | FloatArg | IntArg | BoolArg | KnownArg | IgnoredArg | SequenceArg


@dataclass(frozen=True)
class Lifted:
    """An object the program uses without being passed it; looked at anew at every call."""
    value: Any
    arg: Arg


@dataclass(frozen=True)
class EpochGuard:
    """The global epoch is what it was when the variant was added (see `bump_epoch`)."""


@dataclass(frozen=True)
class DictGuard:
    """`mapping[key] is expected`, or the key is absent where `expected` is MISSING."""
    mapping: dict
    key: Any
    expected: Any


@dataclass(frozen=True)
class AttributeGuard:
    """`getattr(value, name) is expected`. May run Python code where the attribute is a property."""
    value: Any
    name: str
    expected: Any


@dataclass(frozen=True)
class CellGuard:
    """The closure cell holds `expected`; MISSING stands for an empty cell."""
    cell: Any
    expected: Any


Guard = EpochGuard | DictGuard | AttributeGuard | CellGuard


@dataclass(frozen=True)
class TensorOut:
    """A new array in a new `type` (None: the class registered first; np.ndarray: the array itself)."""
    dtype: Any
    dims: tuple[Dim, ...]
    type: type | None = None


@dataclass(frozen=True)
class FloatOut:
    """A Python float from 8 bytes."""


@dataclass(frozen=True)
class IntOut:
    """A Python int from an i64."""


@dataclass(frozen=True)
class BoolOut:
    """A Python bool from an i64."""


@dataclass(frozen=True)
class ObjectOut:
    """This very object (None, a constant, a lifted Parameter)."""
    value: Any


@dataclass(frozen=True)
class ArgumentOut:
    """The argument object at `path`: (2,) is args[2], (2, 0) its first item."""
    path: tuple[int, ...]


@dataclass(frozen=True)
class TupleOut:
    """A tuple (or list) of outputs."""
    items: tuple[Out, ...]
    type: type = tuple


Out = TensorOut | FloatOut | IntOut | BoolOut | ObjectOut | ArgumentOut | TupleOut


@dataclass
class VariantSpec:
    """One compiled signature.

    `symbols` gives the least value accepted for each symbol; their number is its length.
    `arena` is the scratch space in bytes. `release_gil` lets other Python threads run during the
    program: set it where the work is estimated above some 10 us. `keep` is any object that owns
    the machine code; `tag` is the driver's own.
    """
    args: Sequence[Arg]
    outputs: Out
    program: int
    lifted: Sequence[Lifted] = ()
    guards: Sequence[Guard] = ()
    symbols: Sequence[int] = ()
    arena: Dim = 0
    release_gil: bool = False
    keep: Any = None
    tag: Any = None


@dataclass(frozen=True)
class _Layout:
    """Where instances of a tensor class keep their array, and what else a new one is given."""
    slot: int
    defaults: tuple[tuple[int, Any], ...]


_layouts: dict[type, _Layout] = {np.ndarray: _Layout(0, ())}
_first_class: list[type] = []


def register_tensor(cls: type, array: str = "_array", defaults: Mapping[str, Any] = {}) -> None:
    """Teach the entry the layout of a tensor class.

    `cls` is a heap class whose slot `array` holds a NumPy array. Outputs of this class get their
    other slots from `defaults` (slot name -> object, shared); slots not named stay unset.
    """
    _layouts[cls] = _Layout(native.slot_offset(cls, array),
                            tuple((native.slot_offset(cls, name), value)
                                  for name, value in defaults.items()))
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


def bump_epoch() -> None:
    """Make every EpochGuard added so far fail."""
    _epoch.value += 1


# -- from a spec to the words native code reads ----------------------------------------------------
class _Words:
    """Arrays of 8-byte words that stay where they are, and the objects whose addresses they hold."""

    def __init__(self):
        self.kept: list[Any] = []

    def array(self, values: Sequence[int]) -> int:
        """The address of a new array with these values."""
        words = (ctypes.c_int64 * max(len(values), 1))(*(_signed(value) for value in values))
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


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


GUARD, ROW, OUT, VARIANT = (
    (native.GUARD, native.GUARD_BYTES), (native.ROW, native.ROW_BYTES),
    (native.OUT, native.OUT_BYTES), (native.VARIANT, native.VARIANT_BYTES))


class _Packer:
    """Translates one VariantSpec; what it makes lives as long as it does."""

    def __init__(self, spec: VariantSpec):
        self.spec = spec
        self.words = _Words()
        self.rows: list[list[int]] = []
        self.row_at: dict[tuple[int, ...], int] = {}     # argument path -> row
        self.outs: list[list[int]] = []
        self.bound: set[int] = set()
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
        values = self._arg_values(arg)
        if isinstance(arg, TensorArg | FloatArg | IntArg | BoolArg):
            values["out"] = self.n_slots
            self.n_slots += 1
        self.rows.append(self.words.record(ROW, source=source, index=index,
                                           **{"from": origin}, **values))
        if isinstance(arg, SequenceArg):
            inner = native.SOURCE_TUPLE if arg.type is tuple else native.SOURCE_LIST
            for i, item in enumerate(arg.items):
                self._pack_arg(item, inner, number, i, None if path is None else (*path, i))

    def _arg_values(self, arg: Arg) -> dict[str, int]:
        of = self.words.object
        match arg:
            case TensorArg():
                cls, layout = _layout_of(arg.type)
                return dict(
                    kind=native.ARG_TENSOR, expected=of(cls), other=of(np.dtype(arg.dtype)),
                    slot=layout.slot, count=len(arg.dims),
                    dims=self.words.array([self._dim_code(dim) for dim in arg.dims]),
                    flags=native.WRITABLE if arg.writable else native.READABLE)
            case FloatArg():
                return dict(kind=native.ARG_FLOAT, expected=of(float))
            case IntArg():
                return dict(kind=native.ARG_INT, expected=of(int))
            case BoolArg():
                return dict(kind=native.ARG_BOOL, expected=of(True), other=of(False))
            case IgnoredArg():
                return dict(kind=native.ARG_IGNORED)
            case SequenceArg():
                if arg.type not in (tuple, list):
                    raise ValueError(f"a SequenceArg is a tuple or a list, not {arg.type.__name__}")
                return dict(kind=native.ARG_SEQUENCE, expected=of(arg.type), count=len(arg.items))
            case KnownArg(value):
                return self._known_values(value)
        raise TypeError(f"{arg!r} describes no argument")

    def _known_values(self, value: Any) -> dict[str, int]:
        of = self.words.object
        if type(value) is int and -(1 << 63) <= value < 1 << 63:
            return dict(kind=native.ARG_SAME_INT, expected=of(int), other=value)
        if type(value) is float:
            bits = struct.unpack("<q", struct.pack("<d", value))[0]
            return dict(kind=native.ARG_SAME_FLOAT, expected=of(float), other=bits)
        if type(value) is str:
            return dict(kind=native.ARG_SAME_STR, expected=of(str), other=of(value))
        return dict(kind=native.ARG_OBJECT, other=of(value))

    def _dim_code(self, dim: int | Symbol) -> int:
        if not isinstance(dim, Symbol):
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
            case EpochGuard():
                values = (native.GUARD_EPOCH, epoch_address(), _epoch.value, 0)
            case DictGuard(mapping, key, expected):
                if not isinstance(mapping, dict):
                    raise TypeError(f"a DictGuard looks into a dict, not {type(mapping).__name__}")
                absent = expected is MISSING
                values = (native.GUARD_DICT, of(mapping), of(key), 0 if absent else of(expected))
            case AttributeGuard(value, name, expected):
                values = (native.GUARD_ATTRIBUTE, of(value), of(name), of(expected))
            case CellGuard(cell, expected):
                if not isinstance(cell, CellType):
                    raise TypeError(f"a CellGuard takes a closure cell, not {type(cell).__name__}")
                values = (native.GUARD_CELL, of(cell), 0 if expected is MISSING else of(expected), 0)
                kind, cell_at, wanted, _ = values
                values = (kind, cell_at, 0, wanted)
            case _:
                raise TypeError(f"{guard!r} is no guard")
        return list(values)

    # -- outputs -------------------------------------------------------------------------------
    def _pack_out(self, out: Out) -> None:
        if isinstance(out, TupleOut):
            for item in out.items:
                self._pack_out(item)
        values = self._out_values(out)
        if isinstance(out, TensorOut | FloatOut | IntOut | BoolOut):
            values["out"] = self.n_results
            self.n_results += 1
        self.outs.append(self.words.record(OUT, **values))

    def _out_values(self, out: Out) -> dict[str, int]:
        of = self.words.object
        match out:
            case TensorOut():
                return self._tensor_out_values(out)
            case FloatOut():
                return dict(kind=native.OUT_FLOAT)
            case IntOut():
                return dict(kind=native.OUT_INT)
            case BoolOut():
                return dict(kind=native.OUT_BOOL)
            case ObjectOut(value):
                return dict(kind=native.OUT_OBJECT, type=of(value))
            case ArgumentOut(path):
                return dict(kind=native.OUT_ARGUMENT, type=self.row_at[tuple(path)])
            case TupleOut():
                if out.type not in (tuple, list):
                    raise ValueError(f"a TupleOut is a tuple or a list, not {out.type.__name__}")
                kind = native.OUT_TUPLE if out.type is tuple else native.OUT_LIST
                return dict(kind=kind, n_dims=len(out.items))
        raise TypeError(f"{out!r} describes no output")

    def _tensor_out_values(self, out: TensorOut) -> dict[str, int]:
        cls, layout = _layout_of(out.type)
        dtype = np.dtype(out.dtype)
        defaults = [word for at, value in layout.defaults
                    for word in (at, self.words.object(value))]
        literal = all(isinstance(dim, int | np.integer) for dim in out.dims)
        codes = [word for dim in out.dims for word in self._size_code(dim)]
        return dict(
            kind=native.OUT_TENSOR, type=self.words.object(cls), slot=layout.slot,
            descr=self.words.object(dtype), item_bytes=dtype.itemsize, n_dims=len(out.dims),
            dims=self.words.array(codes),
            literal_bytes=math.prod(out.dims) * dtype.itemsize if literal else -1,
            defaults=self.words.array(defaults), n_defaults=len(layout.defaults))

    def _size_code(self, dim: Dim) -> list[int]:
        if isinstance(dim, Symbol):
            dim = Size.of(dim)
        if not isinstance(dim, Size):
            if dim < 0:
                raise ValueError(f"a size is not negative: {dim}")
            return [int(dim)]
        if dim.divisor < 1:
            raise ValueError(f"a size is divided by a positive number, not {dim.divisor}")
        used = {symbol for _, factors in dim.terms for symbol in factors}
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
        sizes = dict(args=self.n_slots, arrays=self.n_slots, objects=len(self.rows),
                     dims=len(spec.symbols), outs=self.n_results, results=len(self.outs),
                     cells=len(self.outs), stack=len(self.outs), shape=max(ranks, default=0),
                     error=native.ERROR_WORDS)
        places, self.scratch_bytes = {}, 0
        for name, count in sizes.items():
            places[f"at_{name}"] = self.scratch_bytes
            self.scratch_bytes += 8 * max(count, 1)
        self.address = words.array(words.record(
            VARIANT, n_args=len(spec.args), guards=words.array(sum(guards, [])),
            n_guards=len(guards), rows=words.array(sum(self.rows, [])), n_rows=len(self.rows),
            minima=words.array(list(spec.symbols)), n_slots=self.n_slots,
            outs=words.array(sum(self.outs, [])), n_outs=len(self.outs),
            arena=words.array(self._size_code(spec.arena)), program=spec.program,
            release_gil=int(spec.release_gil), spec=words.object(spec), **places))


def _leaves(out: Out) -> list[Out]:
    if isinstance(out, TupleOut):
        return [leaf for item in out.items for leaf in _leaves(item)]
    return [out]


# -- the callable ----------------------------------------------------------------------------------
class _MethodDef(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("function", ctypes.c_void_p),
                ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


METH_FASTCALL, METH_KEYWORDS = 0x80, 0x02


@functools.cache
def _method_def() -> _MethodDef:
    """The description of `cellc_entry` that every Entry's built-in function shares, kept forever."""
    native.check_layout()
    address = runtime.load().loaded.address("cellc_entry")
    return _MethodDef(b"compiled", address, METH_FASTCALL | METH_KEYWORDS, None)


def _builtin(owner: Any) -> Callable:
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object,
                                                   ctypes.c_void_p]
    return new(ctypes.addressof(_method_def()), owner, None)


class Entry:
    """A native callable with its chain of variants.

    `on_miss(*args, **kwargs)` handles calls that match no variant or carry keywords; its result
    is the result. `on_error(spec, record)` is called when a program returns nonzero, with the
    VariantSpec and the error record as a tuple of 8 ints; it raises, or its result is the result.

    .call       the built-in function
    .add(spec)  put a variant at the head of the chain
    .clear()    drop all variants (those in use by a running call live until it ends)
    .variants   the specs, newest first
    """

    # The native side finds the header through the first slot: a bytes object with its address.
    __slots__ = ("_address", "_header", "_handlers", "_packed", "_retired", "call", "__weakref__")

    def __init__(self, on_miss: Callable, on_error: Callable):
        self._handlers = (on_miss, on_error)
        self._header = (ctypes.c_int64 * (native.HEADER_BYTES // 8))()
        self._address = struct.pack("=q", ctypes.addressof(self._header))
        self._packed: list[_Packer] = []
        self._retired: list[_Packer] = []
        for name, value in [("on_miss", on_miss), ("on_error", on_error),
                            ("array_type", np.ndarray), ("exception", Exception)]:
            self._set(name, id(value))
        self.call = _builtin(self)

    def _set(self, name: str, value: int) -> None:
        self._header[native.HEADER[name] // 8] = value

    def _get(self, name: str) -> int:
        return self._header[native.HEADER[name] // 8]

    @property
    def variants(self) -> tuple[VariantSpec, ...]:
        """The specs, newest first."""
        return tuple(packed.spec for packed in reversed(self._packed))

    def add(self, spec: VariantSpec) -> None:
        """Put a variant at the head of the chain."""
        packed = _Packer(spec)
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
