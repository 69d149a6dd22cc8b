"""Types of the IR: dtypes, symbolic dimensions, and the types tensor, scalar, tuple, tape.

Text forms: `f32[3,4]`, `f32[n,4]` (symbolic dimension), `f32[]` (a 0-d tensor), `f64` (a scalar:
Python's own int, float or bool, carried in a register), `(f32[3], i64)` (a tuple), `tape`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cellc.errors import ShapeFault, SymbolicFault, TypeFault
from cellc.record import record


@record(frozen=True, eq=False)
class DType:
    """An element type: `name` is its short form; `kind` one of b, u, i, f; `bits` its width.

    `numpy` is how NumPy stores it. NumPy has no bfloat16: its 16 bits sit in a structured dtype of
    one u2 field, so that no integer array is ever taken for it.
    """

    name: str
    kind: str
    bits: int
    numpy: np.dtype
    long_name: str

    def __repr__(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name

    def __reduce__(self):
        return (dtype, (self.name,))

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_int(self) -> bool:
        return self.kind in "iu"

    @property
    def itemsize(self) -> int:
        return self.numpy.itemsize

    @property
    def compute(self) -> DType:
        """The dtype in which kernels compute: f16 and bf16 widen to f32."""
        return f32 if self in (f16, bf16) else self


boolean = DType("bool", "b", 8, np.dtype(np.bool_), "bool")
i8 = DType("i8", "i", 8, np.dtype(np.int8), "int8")
i16 = DType("i16", "i", 16, np.dtype(np.int16), "int16")
i32 = DType("i32", "i", 32, np.dtype(np.int32), "int32")
i64 = DType("i64", "i", 64, np.dtype(np.int64), "int64")
u8 = DType("u8", "u", 8, np.dtype(np.uint8), "uint8")
u16 = DType("u16", "u", 16, np.dtype(np.uint16), "uint16")
u32 = DType("u32", "u", 32, np.dtype(np.uint32), "uint32")
u64 = DType("u64", "u", 64, np.dtype(np.uint64), "uint64")
f16 = DType("f16", "f", 16, np.dtype(np.float16), "float16")
bf16 = DType("bf16", "f", 16, np.dtype([("bfloat16", "<u2")]), "bfloat16")
f32 = DType("f32", "f", 32, np.dtype(np.float32), "float32")
f64 = DType("f64", "f", 64, np.dtype(np.float64), "float64")

DTYPES = (boolean, i8, i16, i32, i64, u8, u16, u32, u64, f16, bf16, f32, f64)
_BY_NAME = {d.name: d for d in DTYPES} | {d.long_name: d for d in DTYPES}
_BY_NUMPY = {d.numpy: d for d in DTYPES}
_BY_PYTHON = {bool: boolean, int: i64, float: f64}


def dtype(given) -> DType:
    """The DType of a DType, a name ("f32", "float32"), a NumPy dtype, or Python's bool, int, float.

    `float` gives f64 and `int` i64, as Python's own numbers have. TypeFault for anything else.
    """
    if isinstance(given, DType):
        return given
    found = None
    if isinstance(given, (str, type)):
        found = _BY_NAME.get(given) or _BY_PYTHON.get(given)
    if found is None and given is not None:      # NumPy would take None for float64
        try:
            found = _BY_NUMPY.get(np.dtype(given).newbyteorder("="))
        except TypeError:
            found = None
    if found is None:
        names = ", ".join(d.long_name for d in DTYPES)
        raise TypeFault(f"found {given!r} where a dtype was expected", f"one of {names}")
    return found


@dataclass(frozen=True, slots=True)
class Dim:
    """A symbolic dimension: `coef * name`, a whole multiple of one unknown size.

    A name tells the size of an input, which is two at least. `?name` is a size that the program
    itself finds (`set_size`), zero and one among them. Whatever cannot be answered for every size
    (`n > 3`, `n + 1`, `n * n`) raises SymbolicFault; the driver then compiles for the size at hand.
    """

    name: str
    coef: int = 1

    @property
    def is_found(self) -> bool:
        """Does the program find it while it runs?"""
        return self.name.startswith("?")

    def __mul__(self, other):
        if isinstance(other, int):
            return Dim(self.name, self.coef * other) if other else 0
        return self._refuse(f"{self} * {other}")

    __rmul__ = __mul__

    def __floordiv__(self, other):
        if isinstance(other, Dim) and other.name == self.name and self.coef % other.coef == 0:
            return self.coef // other.coef
        if isinstance(other, int) and other and self.coef % other == 0:
            return Dim(self.name, self.coef // other) if self.coef != 0 else 0
        return self._refuse(f"{self} // {other}")

    def __mod__(self, other):
        if isinstance(other, int) and other and self.coef % other == 0:
            return 0
        if isinstance(other, Dim) and other.name == self.name and self.coef % other.coef == 0:
            return 0
        return self._refuse(f"{self} % {other}")

    def __add__(self, other):
        if other == 0:
            return self
        if isinstance(other, Dim) and other.name == self.name:
            return Dim(self.name, self.coef + other.coef)
        return self._refuse(f"{self} + {other}")

    __radd__ = __add__

    def __sub__(self, other):
        if other == 0:
            return self
        if isinstance(other, Dim) and other.name == self.name:
            left = self.coef - other.coef
            return Dim(self.name, left) if left else 0
        return self._refuse(f"{self} - {other}")

    def _compare(self, other, low: bool, equal: bool) -> bool:
        """`low` is the answer where `other` is less than any such size; it holds for the least
        one as well where it does for `equal` sizes."""
        if isinstance(other, Dim) and other.name == self.name and not self.is_found:
            return low if self.coef > other.coef else not low
        if isinstance(other, int) and other < (0 if self.is_found else 2 * self.coef) + equal:
            return low
        return self._refuse(f"comparing {self} with {other}")

    def __gt__(self, other):
        return False if self == other else self._compare(other, True, False)

    def __ge__(self, other):
        return True if self == other else self._compare(other, True, True)

    def __lt__(self, other):
        return False if self == other else self._compare(other, False, True)

    def __le__(self, other):
        return True if self == other else self._compare(other, False, False)

    def __bool__(self) -> bool:
        return True

    def __index__(self) -> int:
        return self._refuse(f"the number {self}")

    __int__ = __float__ = __index__

    def _other(operator: str):
        """What Python does with numbers besides."""
        return lambda self, *_: self._refuse(f"{operator} with the number of {self}")

    __rsub__, __rfloordiv__, __rmod__ = _other("-"), _other("//"), _other("%")
    __truediv__ = __rtruediv__ = _other("/")
    __pow__ = __rpow__ = _other("**")
    __divmod__ = __rdivmod__ = _other("divmod")
    __neg__, __abs__, __round__ = _other("-"), _other("abs"), _other("round")
    del _other

    def _refuse(self, what: str):
        if self.is_found:
            raise SymbolicFault(f"the program needs {what} while it is compiled, and the size "
                                f"{self} is known only when it runs",
                                "go through the items with a loop, or use sizes known before")
        raise SymbolicFault(f"the program needs {what}, which depends on the size of dimension "
                            f"{self.name}")

    def __str__(self) -> str:
        return self.name if self.coef == 1 else f"{self.coef}*{self.name}"

    __repr__ = __str__


Shape = tuple  # of int | Dim


@record(frozen=True)
class TensorType:
    """A dense row-major array: dtype and shape."""

    dtype: DType
    shape: Shape = ()

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @cached_property
    def size(self):
        """The number of elements, an int or a Dim."""
        return math.prod(self.shape)

    def with_shape(self, shape) -> TensorType:
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    __repr__ = __str__


@record(frozen=True)
class ScalarType:
    """One of Python's own numbers: bool, int (i64) or float (f64); weak when promoted."""

    dtype: DType
    shape = ()
    ndim = 0
    size = 1

    def with_dtype(self, dtype: DType) -> ScalarType:
        return ScalarType(dtype)

    def with_shape(self, shape) -> ScalarType:
        if tuple(shape) != ():
            raise ShapeFault(f"a scalar has no shape {tuple(shape)}")
        return self

    def __str__(self) -> str:
        return str(self.dtype)

    __repr__ = __str__


@record(frozen=True)
class TupleType:
    """A fixed number of values of known types; the type of a graph with several results."""

    items: tuple

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.items))}{',' if len(self.items) == 1 else ''})"

    __repr__ = __str__


@record(frozen=True)
class TapeType:
    """A stack of values of any types: what a loop leaves for its gradient (ir/prims/tape.py)."""

    def __str__(self) -> str:
        return "tape"

    __repr__ = __str__


Type = TensorType | ScalarType | TupleType | TapeType
