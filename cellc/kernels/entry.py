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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

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
        raise NotImplementedError


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
    tag: Any = field(default=None)


def register_tensor(cls: type, array: str = "_array", defaults: Mapping[str, Any] = {}) -> None:
    """Teach the entry the layout of a tensor class.

    `cls` is a heap class whose slot `array` holds a NumPy array. Outputs of this class get their
    other slots from `defaults` (slot name -> object, shared); slots not named stay unset.
    """


def epoch_address() -> int:
    """Where the global epoch (an int64) lives."""


def bump_epoch() -> None:
    """Make every EpochGuard added so far fail."""


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

    def __init__(self, on_miss: Callable, on_error: Callable):
        ...
