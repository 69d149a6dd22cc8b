"""Values in an LLVM function as Python objects: `a * b + 1.0` appends the instructions.

The formulas of this package are written with these, so that they read like the mathematics. A
`Lanes` is a scalar or a vector of any element; a Python number beside one becomes a constant of its
type. Nothing is contracted or reassociated: the code is exactly what is written, and a fused
multiply-add is asked for by `fma`.
"""

from __future__ import annotations

from collections.abc import Callable

from cellc.kernels.text import (
    Function,
    constant,
    element_type,
    float_literal,
    lanes,
    mangled,
    with_element,
)
from cellc.kernels.vectors import picked
from cellc.record import record


@record(frozen=True)
class Format:
    """What formulas need to know of an IEEE binary format."""

    integer: str            # the integer type of the same width
    width: int
    mantissa: int           # stored mantissa bits
    bias: int
    smallest_normal: float

    @property
    def magic(self) -> float:
        """1.5 * 2^mantissa: adding it rounds to an integer, left in the low bits."""
        return 1.5 * 2.0**self.mantissa

    @property
    def magic_bits(self) -> int:
        return ((self.bias + self.mantissa) << self.mantissa) + (1 << (self.mantissa - 1))


FORMATS = {
    "float": Format("i32", 32, 23, 127, 2.0**-126),
    "double": Format("i64", 64, 52, 1023, 2.0**-1022),
}


class Lanes:
    """A register or literal `text` of type `ty` in function `f`."""

    __slots__ = ("f", "ty", "text")

    def __init__(self, f: Function, ty: str, text: str):
        self.f, self.ty, self.text = f, ty, text

    @property
    def element(self) -> str:
        return element_type(self.ty)

    @property
    def format(self) -> Format:
        return FORMATS[self.element]

    def like(self, value) -> Lanes:
        """`value`, or where it is a Python number the constant of this type."""
        if isinstance(value, Lanes):
            return value
        text = constant(value, self.ty)
        return Lanes(self.f, self.ty, self.f.held_constant(self.ty, text))

    def append(self, text: str, ty: str | None = None) -> Lanes:
        """The result, of type `ty` or this one's, of the instruction `text`."""
        return Lanes(self.f, ty or self.ty, self.f.op(text))

    def _binary(self, op: str, other, swapped: bool = False) -> Lanes:
        left, right = self, self.like(other)
        if swapped:
            left, right = right, left
        return self.append(f"{op} {self.ty} {left.text}, {right.text}")

    def _arithmetic(self, op: str, other, swapped: bool = False) -> Lanes:
        return self._binary(("f" if self.element in FORMATS else "") + op, other, swapped)

    def __add__(self, other): return self._arithmetic("add", other)
    def __sub__(self, other): return self._arithmetic("sub", other)
    def __mul__(self, other): return self._arithmetic("mul", other)
    def __truediv__(self, other): return self._binary("fdiv", other)
    def __rsub__(self, other): return self._arithmetic("sub", other, swapped=True)
    def __rtruediv__(self, other): return self._binary("fdiv", other, swapped=True)
    def __and__(self, other): return self._binary("and", other)
    def __or__(self, other): return self._binary("or", other)
    def __xor__(self, other): return self._binary("xor", other)
    def __lshift__(self, other): return self._binary("shl", other)
    def __rshift__(self, other): return self._binary("ashr", other)
    def __invert__(self): return self._binary("xor", 1 if self.element == "i1" else -1)
    def __neg__(self): return self.append(f"fneg {self.ty} {self.text}")

    def _compare(self, predicate: str, other) -> Lanes:
        return self.append(f"fcmp {predicate} {self.ty} {self.text}, {self.like(other).text}",
                           with_element(self.ty, "i1"))

    # Ordered: false where either side is NaN.
    def __lt__(self, other): return self._compare("olt", other)
    def __gt__(self, other): return self._compare("ogt", other)
    def equals(self, other) -> Lanes: return self._compare("oeq", other)
    def is_nan(self) -> Lanes: return self._compare("uno", self)

    # Of integers.
    def is_zero(self) -> Lanes: return self._compare_integers("eq", 0)
    def below(self, other) -> Lanes: return self._compare_integers("slt", other)

    def _compare_integers(self, predicate: str, other) -> Lanes:
        return self.append(f"icmp {predicate} {self.ty} {self.text}, {self.like(other).text}",
                           with_element(self.ty, "i1"))

    # -- other views of the same lanes ---------------------------------------------------------
    def bits(self) -> Lanes:
        """The float's bits as integers of its width."""
        return self.convert("bitcast", self.format.integer)

    def from_bits(self, ty: str) -> Lanes:
        """These integer bits as floats of type `ty`."""
        return self.convert("bitcast", element_type(ty))

    def convert(self, instruction: str, element: str) -> Lanes:
        """`bitcast`, `fpext`, `fptrunc`, ... to another element."""
        ty = with_element(self.ty, element)
        return self.append(f"{instruction} {self.ty} {self.text} to {ty}", ty)


def select(condition: Lanes, yes, no) -> Lanes:
    """`yes` in the lanes where `condition` holds; at least one of the two is a `Lanes`."""
    known = yes if isinstance(yes, Lanes) else no
    yes, no = known.like(yes), known.like(no)
    return known.append(f"select {condition.ty} {condition.text}, {known.ty} {yes.text}, "
                        f"{known.ty} {no.text}")


def intrinsic(name: str, first: Lanes, *others) -> Lanes:
    """An LLVM intrinsic whose operands and result all have the type of `first`."""
    values = [first.text, *(first.like(other).text for other in others)]
    return Lanes(first.f, first.ty, first.f.intrinsic(name, first.ty, *values))


def fma(a: Lanes, b, c) -> Lanes:
    """a * b + c, rounded once."""
    return intrinsic("fma", a, b, c)


def absolute(x: Lanes) -> Lanes:
    return intrinsic("fabs", x)


def copysign(magnitude: Lanes, sign: Lanes) -> Lanes:
    return intrinsic("copysign", magnitude, sign)


# -- what x86 has an instruction for ---------------------------------------------------------------
def has_avx512(x: Lanes) -> bool:
    return "+avx512f" in x.f.module.features


def entries_at_once(x: Lanes) -> int:
    """How many floats `lookup` chooses from; 0 where there is no such instruction."""
    return 16 if has_avx512(x) else 8 if "+avx2" in x.f.module.features else 0


def lookup(table: tuple[float, ...], index: Lanes) -> Lanes:
    """`table[index]`, as many floats as `entries_at_once`; the low bits of an index choose one."""
    n = len(table)
    values, ty = ", ".join(f"float {float_literal(v, 'float')}" for v in table), f"<{n} x float>"

    def permuted(index: Lanes) -> Lanes:
        f = index.f
        entries = ty, f.held_constant(ty, f"<{values}>")
        if n == 8:
            return Lanes(f, ty, f.call(ty, "llvm.x86.avx2.permps", entries, (index.ty, index.text)))
        return Lanes(f, ty, f.call(ty, "llvm.x86.avx512.permvar.sf.512", entries,
                                   (index.ty, index.text)))

    return in_registers(permuted, n, index)


def scaled(x: Lanes, n: Lanes) -> Lanes:
    """x * 2^n, rounded once, for integers n, which are floats as well (AVX-512)."""
    kind, width = {"float": ("ps", 16), "double": ("pd", 8)}[x.element]

    def product(x: Lanes, n: Lanes) -> Lanes:
        name = f"llvm.x86.avx512.mask.scalef.{kind}.512"
        return Lanes(x.f, x.ty, x.f.call(
            x.ty, name, (x.ty, x.text), (n.ty, n.text), (x.ty, "zeroinitializer"),
            (f"i{width}", "-1"), ("i32", "4")))

    return in_registers(product, width, x, n)


def in_registers(function: Callable, width: int, *operands: Lanes) -> Lanes:
    """`function` on operands of any number of lanes: it is given `width` at a time, the last ones
    filled up with whatever is there."""
    count = lanes(operands[0].ty)
    parts = [function(*(taken(x, start, width) for x in operands))
             for start in range(0, count, width)]
    while len(parts) > 1:
        parts = [joined(*parts[i:i + 2]) for i in range(0, len(parts), 2)]
    return taken(parts[0], 0, count)


def taken(x: Lanes, start: int, count: int) -> Lanes:
    """So many lanes from `start` on, those behind the last one arbitrary; 1 is a scalar."""
    have = lanes(x.ty)
    if (start, count) == (0, have):
        return x
    if have == 1:
        ty = f"<{count} x {x.ty}>"
        return x.append(f"insertelement {ty} poison, {x.ty} {x.text}, i32 0", ty)
    if count == 1:
        return x.append(f"extractelement {x.ty} {x.text}, i32 {start}", x.element)
    picks = [min(i, have) for i in range(start, start + count)]
    return Lanes(x.f, f"<{count} x {x.element}>", picked(x.f, x.ty, x.text, "poison", picks))


def joined(low: Lanes, high: Lanes) -> Lanes:
    count = 2 * lanes(low.ty)
    return Lanes(low.f, f"<{count} x {low.element}>",
                 picked(low.f, low.ty, low.text, high.text, range(count)))


def is_integer(x: Lanes) -> Lanes:
    return intrinsic("rint", x).equals(x)


def at_most(x: Lanes, bound) -> Lanes:
    """min(x, bound), a NaN in x passing through."""
    return select(x > bound, bound, x)


def at_least(x: Lanes, bound) -> Lanes:
    """max(x, bound), a NaN in x passing through."""
    return select(x < bound, bound, x)


def splat(x: Lanes, ty: str) -> Lanes:
    """The scalar x in every lane of `ty`."""
    if ty == x.ty:
        return x
    single = x.append(f"insertelement {ty} poison, {x.ty} {x.text}, i32 0", ty)
    mask = f"{with_element(ty, 'i32')} zeroinitializer"
    return single.append(f"shufflevector {ty} {single.text}, {ty} poison, {mask}")


def replace_rare(condition: Lanes, common: list[Lanes], rare) -> list[Lanes]:
    """`common`, but `rare()` in lanes where `condition` holds; a branch skips it for no lanes."""
    f, some = condition.f, condition
    if condition.ty != "i1":
        some = Lanes(f, "i1", f.call("i1", f"llvm.vector.reduce.or.{mangled(condition.ty)}",
                                     (condition.ty, condition.text)))
    before, then, done = f.block, f.label("rare"), f.label("common")
    f.branch_if(some.text, then, done)
    f.start(then)
    replaced = [select(condition, new, old) for new, old in zip(rare(), common, strict=True)]
    after = f.block
    f.branch(done)
    f.start(done)
    return [old.append(f"phi {old.ty} [ {old.text}, %{before} ], [ {new.text}, %{after} ]")
            for old, new in zip(common, replaced, strict=True)]


# -- arithmetic on unevaluated sums ------------------------------------------------------------
def two_sum(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """a + b and its rounding error, exactly (Knuth)."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def fast_two_sum(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """a + b and its rounding error, exactly, where |a| >= |b| or a is 0 (Dekker)."""
    total = a + b
    return total, b - (total - a)


# -- polynomials -------------------------------------------------------------------------------
LONG_POLYNOMIAL = 9


def polynomial(x: Lanes, coefficients: tuple[float, ...]) -> Lanes:
    """The sum of coefficients[k] x^k in fused multiply-adds.

    Horner's rule: an array loop keeps several chains in flight, so the shortest program is the
    fastest. A long one is halved, as otherwise too few chains fit the processor's window.
    """
    if len(coefficients) < LONG_POLYNOMIAL:
        return horner(x, coefficients)
    square = x * x
    return fma(horner(square, coefficients[1::2]), x, horner(square, coefficients[0::2]))


def horner(x: Lanes, coefficients: tuple[float, ...]) -> Lanes:
    total = x.like(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = fma(total, x, coefficient)
    return total
