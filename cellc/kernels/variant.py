"""What a compiled function accepts and returns: the description an Entry is given.

See `entry.py` for the whole; these are plain records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cellc.record import record

MISSING = object()      # DictGuard.expected: the key must be absent


@record(frozen=True)
class Symbol:
    """Dimension number `index` of the variant, equal wherever it occurs among the inputs."""
    index: int


@record(frozen=True)
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


@record(frozen=True)
class TensorArg:
    """An instance of exactly `type` holding a C-contiguous, aligned array of `dtype` and `dims`.

    `type` is a class given to `register_tensor` or np.ndarray, or, without dims, the class of one
    of NumPy's numbers; None stands for the class registered first. Each of `dims` is an int or a
    Symbol. `writable` also demands that the array may be written and, in a tensor, that nothing
    else holds it (for a parameter updated in place: a view, or another call that runs, keeps what
    it sees).
    """
    dtype: Any
    dims: tuple[int | Symbol, ...]
    type: type | None = None
    writable: bool = False


@record(frozen=True)
class FloatArg:
    """Exactly a Python float; passed as a double."""


@record(frozen=True)
class IntArg:
    """Exactly a Python int that fits 64 bits; passed as i64."""


@record(frozen=True)
class BoolArg:
    """True or False; passed as i64 1 or 0."""


@record(frozen=True)
class KnownArg:
    """This very object, or an equal int, float or str of the same type; not passed."""
    value: Any


@record(frozen=True)
class IgnoredArg:
    """Anything; not passed."""


@record(frozen=True)
class SequenceArg:
    """Exactly a tuple (or list) with these items."""
    items: tuple[Arg, ...]
    type: type = tuple


Arg = TensorArg | FloatArg | IntArg | BoolArg | KnownArg | IgnoredArg | SequenceArg


@record(frozen=True)
class Lifted:
    """An object the program uses without being passed it; looked at anew at every call."""
    value: Any
    arg: Arg


@record(frozen=True)
class EpochGuard:
    """The global epoch is `value`: what `epoch()` said before the variant's facts were read.

    None stands for the epoch at the time the variant is added.
    """
    value: int | None = None


@record(frozen=True)
class DictGuard:
    """`mapping[key] is expected`, or the key is absent where `expected` is MISSING."""
    mapping: dict
    key: Any
    expected: Any


@record(frozen=True)
class ItemsGuard:
    """The dict has exactly these (key, value) pairs in this order, object for object.

    The order is the dict's own; a subclass that iterates in another is not for this guard.
    """
    mapping: dict
    items: tuple[tuple[Any, Any], ...]


@record(frozen=True)
class AttributeGuard:
    """`getattr(value, name) is expected`. May run Python code where the attribute is a property."""
    value: Any
    name: str
    expected: Any


@record(frozen=True)
class CellGuard:
    """The closure cell holds `expected`; MISSING stands for an empty cell."""
    cell: Any
    expected: Any


Guard = EpochGuard | DictGuard | ItemsGuard | AttributeGuard | CellGuard


@record(frozen=True)
class TensorOut:
    """A new array in a new `type` (None: the class registered first), or itself as np.ndarray.

    Where one of `dims` is a size that the program finds, so is the array: the program leaves the
    address of a block from `cellc_alloc`, which becomes the array's.
    """
    dtype: Any
    dims: tuple[Dim, ...]
    type: type | None = None


@record(frozen=True)
class FloatOut:
    """A Python float from 8 bytes."""


@record(frozen=True)
class IntOut:
    """A Python int from an i64."""


@record(frozen=True)
class BoolOut:
    """A Python bool from an i64."""


@record(frozen=True)
class ObjectOut:
    """This very object (None, a constant, a lifted Parameter)."""
    value: Any


@record(frozen=True)
class ArgumentOut:
    """The argument object at `path`: (2,) is args[2], (2, 0) its first item."""
    path: tuple[int, ...]


@record(frozen=True)
class TupleOut:
    """A tuple (or list) of outputs."""
    items: tuple[Out, ...]
    type: type = tuple


Out = TensorOut | FloatOut | IntOut | BoolOut | ObjectOut | ArgumentOut | TupleOut


@record(eq=False)
class VariantSpec:
    """One compiled signature.

    `symbols` gives the least value accepted for each symbol; their number is its length. `found`
    more are found by the program, which writes them into its `dims`.
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
    found: int = 0
    arena: Dim = 0
    release_gil: bool = False
    keep: Any = None
    tag: Any = None
