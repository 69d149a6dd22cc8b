"""Values in an LLVM function as Python objects: `a * b + 1.0` appends the instructions.

`vecmath` writes its formulas with these, so that they read like the mathematics. A `Lanes` is a scalar or a vector of
any element; a Python number beside one becomes a constant of its type. Nothing is contracted or reassociated: the code
is exactly what is written, and a fused multiply-add is asked for by `fma`.
"""

from __future__ import annotations

import dataclasses

from .text import Function, constant, element_type, with_element


@dataclasses.dataclass(frozen=True)
class Format:
    """What formulas need to know of an IEEE binary format."""

    name: str               # LLVM's name of the element
    integer: str            # the integer type of the same width
    width: int
    mantissa: int           # stored mantissa bits
    bias: int
    smallest_normal: float

    @property
    def one_bits(self) -> int:
        return self.bias << self.mantissa

    @property
    def round_magic(self) -> float:
        """Adding 1.5 * 2^mantissa to a small number rounds it to an integer, left in the low bits."""
        return 1.5 * 2.0**self.mantissa


FORMATS = {
    "float": Format("float", "i32", 32, 23, 127, 2.0**-126),
    "double": Format("double", "i64", 64, 52, 1023, 2.0**-1022),
}


class Lanes:
    """A register or literal `text` of type `ty` in function `f`."""

    __slots__ = ("f", "ty", "text")
    __hash__ = None

    def __init__(self, f: Function, ty: str, text: str):
        self.f, self.ty, self.text = f, ty, text

    @property
    def is_float(self) -> bool:
        return element_type(self.ty) in FORMATS

    @property
    def format(self) -> Format:
        return FORMATS[element_type(self.ty)]

    def like(self, value) -> Lanes:
        """`value`, or where it is a Python number the constant of this type."""
        return value if isinstance(value, Lanes) else Lanes(self.f, self.ty, constant(value, self.ty))

    def _append(self, text: str, ty: str | None = None) -> Lanes:
        return Lanes(self.f, ty or self.ty, self.f.op(text))

    def _arithmetic(self, float_op: str | None, int_op: str, other, swapped=False) -> Lanes:
        left, right = self, self.like(other)
        if swapped:
            left, right = right, left
        op = float_op if self.is_float else int_op
        return self._append(f"{op} {self.ty} {left.text}, {right.text}")

    def __add__(self, other): return self._arithmetic("fadd", "add", other)
    def __sub__(self, other): return self._arithmetic("fsub", "sub", other)
    def __mul__(self, other): return self._arithmetic("fmul", "mul", other)
    def __truediv__(self, other): return self._arithmetic("fdiv", None, other)
    def __radd__(self, other): return self._arithmetic("fadd", "add", other, swapped=True)
    def __rsub__(self, other): return self._arithmetic("fsub", "sub", other, swapped=True)
    def __rmul__(self, other): return self._arithmetic("fmul", "mul", other, swapped=True)
    def __rtruediv__(self, other): return self._arithmetic("fdiv", None, other, swapped=True)
    def __and__(self, other): return self._arithmetic(None, "and", other)
    def __or__(self, other): return self._arithmetic(None, "or", other)
    def __xor__(self, other): return self._arithmetic(None, "xor", other)
    def __lshift__(self, other): return self._arithmetic(None, "shl", other)
    def __rshift__(self, other): return self._arithmetic(None, "ashr", other)
    def __invert__(self): return self._arithmetic(None, "xor", -1 if element_type(self.ty) != "i1" else 1)
    def __neg__(self): return self._append(f"fneg {self.ty} {self.text}")

    def _compare(self, float_predicate: str, int_predicate: str, other) -> Lanes:
        """Float comparisons are ordered: false where either side is NaN."""
        op = f"fcmp {float_predicate}" if self.is_float else f"icmp {int_predicate}"
        return self._append(f"{op} {self.ty} {self.text}, {self.like(other).text}",
                            with_element(self.ty, "i1"))

    def __lt__(self, other): return self._compare("olt", "slt", other)
    def __le__(self, other): return self._compare("ole", "sle", other)
    def __gt__(self, other): return self._compare("ogt", "sgt", other)
    def __ge__(self, other): return self._compare("oge", "sge", other)

    def equals(self, other) -> Lanes:
        return self._compare("oeq", "eq", other)

    def is_nan(self) -> Lanes:
        return self._compare("uno", "", self)

    # -- other views of the same lanes ---------------------------------------------------------
    def bits(self) -> Lanes:
        """The float's bits as integers of its width."""
        ty = with_element(self.ty, self.format.integer)
        return self._append(f"bitcast {self.ty} {self.text} to {ty}", ty)

    def from_bits(self, ty: str) -> Lanes:
        """These integer bits as floats of type `ty`."""
        return self._append(f"bitcast {self.ty} {self.text} to {ty}", ty)

    def convert(self, instruction: str, element: str) -> Lanes:
        """`fpext`, `fptrunc`, `sitofp`, ... to another element."""
        ty = with_element(self.ty, element)
        return self._append(f"{instruction} {self.ty} {self.text} to {ty}", ty)


def select(condition: Lanes, yes, no) -> Lanes:
    """`yes` in the lanes where `condition` holds; at least one of the two is a `Lanes`."""
    known = yes if isinstance(yes, Lanes) else no
    yes, no = known.like(yes), known.like(no)
    return known._append(f"select {condition.ty} {condition.text}, {known.ty} {yes.text}, "
                         f"{known.ty} {no.text}")


def fma(a: Lanes, b, c) -> Lanes:
    """a * b + c, rounded once."""
    return intrinsic("fma", a, a.like(b), a.like(c))


def intrinsic(name: str, first: Lanes, *others) -> Lanes:
    """An LLVM intrinsic whose operands and result all have the type of `first`."""
    values = [first.text, *(first.like(other).text for other in others)]
    return Lanes(first.f, first.ty, first.f.intrinsic(name, first.ty, *values))


def absolute(x: Lanes) -> Lanes:
    return intrinsic("fabs", x)


def is_integer(x: Lanes) -> Lanes:
    return intrinsic("rint", x).equals(x)


def copysign(magnitude: Lanes, sign: Lanes) -> Lanes:
    return intrinsic("copysign", magnitude, sign)


def at_most(x: Lanes, bound) -> Lanes:
    """min(x, bound), a NaN in x passing through."""
    return select(x > bound, bound, x)


def at_least(x: Lanes, bound) -> Lanes:
    """max(x, bound), a NaN in x passing through."""
    return select(x < bound, bound, x)


def polynomial(x: Lanes, coefficients: tuple[float, ...]) -> Lanes:
    """Horner's rule in fused multiply-adds, lowest coefficient first in the tuple.

    A loop over an array keeps several of these chains in flight, so the shortest program is also the fastest.
    """
    total = x.like(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = fma(total, x, coefficient)
    return total
