"""Scalar operations on single numbers, for host functions.

The C library's functions, which branch and look into tables, are quicker here than what is written
for vectors, and no less accurate. And a division waits for 13 cycles where a loop needs its result
for the next round; by a constant y it takes 7: with h = 1/y and l = 1/y - h, both rounded,

    x / y = fma(x, h, x * l)        rounded correctly

(Brisebarre, Muller and Raina, IEEE Trans. Comput. 53, 2004). Why: let y = Y 2^e with Y odd. No
quotient is the middle m between two neighbouring doubles, and none is nearer to one than by a part
of 2^-54 / Y, for X / Y and M 2^-k differ by a whole number of 2^-k / Y or more. Before it is
rounded, the right side differs from x / y by no more than a part of 2^-105: l is off by 2^-53 l,
x l by as much, and |l| <= 2^-53 |h|. So for Y < 2^50 both are on one side of m and round alike. All
this needs x l to be a normal number, and x finite and not zero: other x are divided.
"""

from __future__ import annotations

import struct
from fractions import Fraction

from cellc.ir.types import f64
from cellc.kernels.scalar_ops import Element, ScalarOps
from cellc.kernels.text import constant

LARGEST_ODD = 1 << 50
DIVISORS = (2.0 ** -100, 2.0 ** 100)
EXPONENTS = (323, 1723)     # biased, of x: 2^-700 to 2^700


def reciprocal(y: float) -> tuple[float, float] | None:
    """(h, l) for a divisor to which the above applies; None where it gives or gains nothing."""
    if not DIVISORS[0] <= abs(y) <= DIVISORS[1]:
        return None
    odd = abs(y.as_integer_ratio()[0])
    odd //= odd & -odd
    if not 1 < odd < LARGEST_ODD:       # by a power of two LLVM multiplies
        return None
    high = 1.0 / y
    return high, float(1 / Fraction(y) - Fraction(high))


class RegisterOps(ScalarOps):
    """See above. `fma`: whether the CPU has that instruction."""

    LIBRARY = frozenset(("sin", "cos", "tan", "exp", "log", "pow", "atan2"))

    def __init__(self, f, fma: bool):
        super().__init__(f, lanes=1)
        self.has_fma = fma

    def _math(self, name: str, *xs: Element) -> Element:
        if name not in self.LIBRARY:
            return super()._math(name, *xs)
        ty = xs[0].ty
        symbol = name + ("f" if ty == "float" else "")
        self.f.module.declare(f"{ty} @{symbol}({', '.join([ty] * len(xs))}) "
                              "nounwind willreturn memory(none)")
        arguments = ", ".join(f"{ty} {x.text}" for x in xs)
        return Element(self.f.op(f"call {ty} @{symbol}({arguments})"), xs[0].dtype)

    def div(self, x: Element, y: Element) -> Element:
        by_constant = self.has_fma and y.dtype is f64 and y.text.startswith("0x")
        parts = reciprocal(_value(y.text)) if by_constant else None
        if parts is None or x.text.startswith("0x"):
            return super().div(x, y)
        f = self.f
        high, low = (constant(v, "double") for v in parts)
        quick, slow, done = (f.label(f"quotient.{hint}") for hint in ("quick", "slow", "done"))
        bits = f.op(f"bitcast double {x.text} to i64")
        exponent = f.op(f"and i64 {f.op(f'lshr i64 {bits}, 52')}, 2047")
        above = f.op(f"sub i64 {exponent}, {EXPONENTS[0]}")
        f.branch_if(f.op(f"icmp ult i64 {above}, {EXPONENTS[1] - EXPONENTS[0]}"), quick, slow)
        f.start(quick)
        product = f.op(f"fmul double {x.text}, {low}")
        found = f.call("double", "llvm.fma.f64", ("double", x.text), ("double", high),
                       ("double", product))
        f.branch(done)
        f.start(slow)
        divided = super().div(x, y)
        f.branch(done)
        f.start(done)
        return Element(f.op(f"phi double [ {found}, %{quick} ], [ {divided.text}, %{slow} ]"), f64)


def _value(text: str) -> float:
    """The number that a literal of a double means."""
    return struct.unpack(">d", bytes.fromhex(text[2:]))[0]
