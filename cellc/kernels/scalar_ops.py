"""The scalar operations over LLVM registers: what `Primitive.scalar` forms are built from on a CPU.

An `Element` is a register with the dtype it means; f16 and bf16 are held as f32 (`cast` rounds). It
has one lane or as many as the vectors of the loop being emitted; where the two meet, the single one
is spread. Additions and multiplications may be contracted to fused ones; nothing else is changed.
"""

from __future__ import annotations

from dataclasses import dataclass

from cellc.ir.types import DType, bf16, boolean, f16, u32
from cellc.kernels import vecmath
from cellc.kernels.text import Function, constant, is_literal, mangled, with_element
from cellc.kernels.vectors import narrowed, splat, vector, widened

_NAMES = {"f16": "half", "bf16": "bfloat", "f32": "float", "f64": "double"}


def llvm_type(dtype: DType) -> str:
    """The LLVM scalar of a dtype: `f32` -> `float`, `u8` -> `i8`, bool -> `i1`."""
    return _NAMES.get(dtype.name) or ("i1" if dtype.kind == "b" else f"i{dtype.bits}")


def memory_type(dtype: DType) -> str:
    """How an element lies in memory: bool takes a byte, the short floats are read as bits."""
    return "i8" if dtype.kind == "b" else "i16" if dtype in (f16, bf16) else llvm_type(dtype)


@dataclass(frozen=True, slots=True)
class Element:
    """A register (or a literal, when `value` is set) of `n` lanes, meaning elements of `dtype`."""

    text: str
    dtype: DType
    n: int = 1
    value: object = None

    @property
    def ty(self) -> str:
        return vector(llvm_type(self.dtype.compute), self.n)


class ScalarOps:
    """Operations on Elements, emitted into a function. `lanes` is only a default for `apply`."""

    def __init__(self, f: Function, lanes: int = 1):
        self.f, self.lanes = f, lanes
        self.made: dict = {}

    def once(self, key, make):
        """`make()`, or what it gave for this key before, in the same stretch of straight code."""
        key = (self.f.block, key)
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    # -- elements --------------------------------------------------------------------------------
    def dtype(self, x: Element) -> DType:
        return x.dtype

    def const(self, value, dtype: DType) -> Element:
        return Element(constant(value, llvm_type(dtype.compute)), dtype, 1,
                       float(value) if dtype.is_float else value)

    def spread(self, x: Element, n: int) -> Element:
        """x in n lanes."""
        if x.n == n:
            return x
        ty = vector(llvm_type(x.dtype.compute), n)
        if x.value is not None or is_literal(x.text):
            value = x.value if x.value is not None else int(x.text)
            return Element(self.f.held_constant(ty, constant(value, ty)), x.dtype, n, x.value)
        return Element(splat(self.f, x.text, ty), x.dtype, n)

    def known(self, x: Element) -> int | None:
        """The whole number that x is in every lane, where that is known now."""
        if is_literal(x.text):
            return int(x.text)
        return None if x.value is None or x.dtype.is_float else int(x.value)

    def _meet(self, *xs: Element) -> list[Element]:
        n = max(x.n for x in xs)
        return [self.spread(x, n) for x in xs]

    def apply(self, node, operands: list[str]) -> str:
        """An elementwise Apply on registers of its operands' compute types; the register."""
        elements = [Element(text, x.type.dtype, self.lanes) for text, x in
                    zip(operands, node.operands, strict=True)]
        made = node.prim.scalar(self, *elements, **node.attrs)
        return self.spread(made, self.lanes).text

    def load(self, dtype: DType, pointer: str, n: int = 1) -> str:
        """The compute value of n consecutive elements in memory."""
        raw = self.f.load(vector(memory_type(dtype), n), pointer, dtype.itemsize)
        return self.from_memory(raw, dtype, n).text

    def convert(self, value: str, source: DType, to: DType) -> str:
        return self.cast(Element(value, source, self.lanes), to).text

    def from_memory(self, raw: str, dtype: DType, n: int) -> Element:
        """What was loaded as `memory_type` as an element to compute with."""
        f = self.f
        if dtype.kind == "b":
            ty = vector("i8", n)
            return Element(f.op(f"icmp ne {ty} {raw}, {constant(0, ty)}"), dtype, n)
        if dtype in (f16, bf16):
            raw = widened(f, raw, dtype.name, vector("float", n))
        return Element(raw, dtype, n)

    def to_memory(self, x: Element) -> str:
        """The element as `memory_type`, rounded to nearest even where that is narrower."""
        f, n = self.f, x.n
        if x.dtype.kind == "b":
            return f.op(f"zext {x.ty} {x.text} to {vector('i8', n)}")
        if x.dtype in (f16, bf16):
            return narrowed(f, x.text, x.dtype.name, x.ty)
        return x.text

    def round_to(self, x: Element, dtype: DType) -> Element:
        """An f32 register rounded to f16 or bf16."""
        narrow = Element(x.text, dtype, x.n)
        return self.from_memory(self.to_memory(narrow), dtype, x.n)

    # -- plain arithmetic ------------------------------------------------------------------------
    def _instruction(self, name: str, *xs: Element) -> Element:
        xs = self._meet(*xs)
        text = self.f.op(f"{name} {xs[0].ty} {', '.join(x.text for x in xs)}")
        return Element(text, xs[0].dtype, xs[0].n)

    def _intrinsic(self, name: str, *xs: Element) -> Element:
        xs = self._meet(*xs)
        text = self.f.intrinsic(name, xs[0].ty, *(x.text for x in xs))
        return Element(text, xs[0].dtype, xs[0].n)

    def add(self, x, y):
        return self._instruction("fadd contract" if x.dtype.is_float else "add", x, y)

    def sub(self, x, y):
        return self._instruction("fsub contract" if x.dtype.is_float else "sub", x, y)

    def mul(self, x, y):
        return self._instruction("fmul contract" if x.dtype.is_float else "mul", x, y)

    def div(self, x, y):
        return self._instruction("fdiv", x, y)

    def fma(self, x, y, z):
        return self._intrinsic("fma", x, y, z)

    def neg(self, x):
        if x.dtype.is_float:
            return self._instruction("fneg", x)
        return self._instruction("sub", self.const(0, x.dtype), x)

    def abs(self, x):
        if x.dtype.is_float:
            return self._intrinsic("fabs", x)
        if x.dtype.kind == "u":
            return x
        return self.select(self.lt(x, self.const(0, x.dtype)), self.neg(x), x)

    def min(self, x, y):
        return self._extremum("min", "olt", x, y)

    def max(self, x, y):
        return self._extremum("max", "ogt", x, y)

    def _extremum(self, name: str, wins: str, x, y):
        """`x wins ? x : y` gives y where either is NaN; then x where that is the NaN."""
        if x.dtype.kind == "b":
            return self._instruction("and" if name == "min" else "or", x, y)
        if not x.dtype.is_float:
            return self._intrinsic(("u" if x.dtype.kind == "u" else "s") + name, x, y)
        better = self.select(self._compare(wins, x, y), x, y)
        return self.select(self._compare("uno", x, x), x, better)

    # -- rounding and mathematics ------------------------------------------------------------------
    def floor(self, x):
        return self._intrinsic("floor", x)

    def ceil(self, x):
        return self._intrinsic("ceil", x)

    def round(self, x):
        return self._intrinsic("roundeven", x)

    def trunc(self, x):
        return self._intrinsic("trunc", x)

    def _math(self, name: str, *xs: Element) -> Element:
        xs = self._meet(*xs)
        text = vecmath.emit(self.f, name, xs[0].ty, *(x.text for x in xs))
        return Element(text, xs[0].dtype, xs[0].n)

    def _library(self, name: str, *xs: Element) -> Element:
        """The C library's function on each lane: right, and slow."""
        xs = self._meet(*xs)
        single = xs[0].ty if xs[0].n == 1 else xs[0].ty[1:-1].split(" x ")[1]
        symbol = name + ("f" if single == "float" else "")
        if xs[0].n == 1:
            text = self.f.call(single, symbol, *((single, x.text) for x in xs))
            return Element(text, xs[0].dtype, 1)
        result = "poison"
        for lane in range(xs[0].n):
            parts = [self.f.op(f"extractelement {x.ty} {x.text}, i64 {lane}") for x in xs]
            value = self.f.call(single, symbol, *((single, part) for part in parts))
            result = self.f.op(f"insertelement {xs[0].ty} {result}, {single} {value}, i64 {lane}")
        return Element(result, xs[0].dtype, xs[0].n)

    def __getattr__(self, name: str):
        """Functions of one formula each: from vecmath where it has them, else the C library's."""
        if name in vecmath.NAMES:
            return lambda *xs: self._math(name, *xs)
        if name in _LIBRARY:
            return lambda *xs: self._library(name, *xs)
        raise AttributeError(f"no scalar operation is called {name}")

    def pow(self, x, y):
        if not x.dtype.is_float:
            return self._integer_power(x, y)
        return self._math("exp2", y) if x.value == 2 else self._math("pow", x, y)

    def _integer_power(self, x, y):
        """x ** y by repeated squaring, wrapping; a negative power truncates 1 / x**-y."""
        of = x.dtype
        zero, one = self.const(0, of), self.const(1, of)
        negative = self.lt(y, zero)
        rest, base, result = self.select(negative, zero, y), x, one
        for bit in range(of.bits):
            taken = self.ne(self.bit_and(rest, self.const(1 << bit if bit < of.bits - 1 or
                                                          of.kind == "u" else 0, of)), zero)
            result = self.select(taken, self.mul(result, base), result)
            base = self.mul(base, base)
        if of.kind == "u":
            return result
        minus = self.const(-1, of)
        unit = self.bit_or(self.eq(x, one), self.eq(x, minus))
        odd = self.select(self.ne(self.bit_and(y, one), zero), x, one)
        return self.select(negative, self.select(unit, odd, zero), result)

    def floordiv(self, x, y):
        return self._divide(x, y)[0]

    def mod(self, x, y):
        return self._divide(x, y)[1]

    def _divide(self, x, y) -> tuple[Element, Element]:
        if x.dtype.is_float:
            return self._divide_floats(x, y)
        zero, one = self.const(0, x.dtype), self.const(1, x.dtype)
        none = self.eq(y, zero)
        if x.dtype.kind == "u":
            safe = self.select(none, one, y)
            return (self.select(none, zero, self._instruction("udiv", x, safe)),
                    self.select(none, zero, self._instruction("urem", x, safe)))
        known = self.known(y)
        if known is not None and known > 0:
            return self._divide_by_known(x, known)
        minus = self.eq(y, self.const(-1, x.dtype))       # the lowest number / -1 would trap
        safe = self.select(self.bit_or(none, minus), one, y)
        quotient, rest = self._instruction("sdiv", x, safe), self._instruction("srem", x, safe)
        signs = self.bit_xor(self.lt(rest, zero), self.lt(safe, zero))
        off = self.bit_and(self.ne(rest, zero), signs)
        quotient = self.select(off, self.sub(quotient, one), quotient)
        rest = self.select(off, self.add(rest, y), rest)
        quotient = self.select(minus, self.neg(x), quotient)
        return self.select(none, zero, quotient), self.select(none, zero, rest)

    def _divide_by_known(self, x, number: int) -> tuple[Element, Element]:
        """A signed x by a positive number. Of a negative x the quotient is ~(~x // number)."""
        y = self.const(number, x.dtype)
        if number & (number - 1) == 0:
            shift = self.const(number.bit_length() - 1, x.dtype)
            return self.shr(x, shift), self.bit_and(x, self.const(number - 1, x.dtype))
        sign = self.shr(x, self.const(x.dtype.bits - 1, x.dtype))
        quotient = self._instruction("udiv", self.bit_xor(x, sign), y)
        quotient = self.bit_xor(quotient, sign)
        return quotient, self.sub(x, self.mul(quotient, y))

    def _divide_floats(self, x, y):
        """By the exact remainder, as Python does: x // y is right even where x / y rounds."""
        zero, one = self.const(0, x.dtype), self.const(1, x.dtype)
        rest = self._instruction("frem", x, y)
        quotient = self._instruction("fdiv", self._instruction("fsub", x, rest), y)
        some = self._compare("une", rest, zero)
        off = self.bit_and(some, self.bit_xor(self.lt(rest, zero), self.lt(y, zero)))
        whole = self.select(off, self._instruction("fsub", quotient, one), quotient)
        rest = self.select(off, self._instruction("fadd", rest, y), rest)
        rest = self.select(some, rest, self._intrinsic("copysign", zero, y))
        down = self.floor(whole)
        gap = self._instruction("fsub", whole, down)
        down = self.select(self.gt(gap, self.const(0.5, x.dtype)),
                           self._instruction("fadd", down, one), down)
        ratio = self._instruction("fdiv", x, y)
        down = self.select(self._compare("une", whole, zero), down,
                           self._intrinsic("copysign", zero, ratio))
        return self.select(self.eq(y, zero), ratio, down), rest

    # -- bits ------------------------------------------------------------------------------------
    def bit_and(self, x, y):
        return self._instruction("and", x, y)

    def bit_or(self, x, y):
        return self._instruction("or", x, y)

    def bit_xor(self, x, y):
        return self._instruction("xor", x, y)

    def bit_not(self, x):
        return self._instruction("xor", x, self.const(True if x.dtype.kind == "b" else -1, x.dtype))

    def shl(self, x, y):
        return self._instruction("shl", x, y)

    def shr(self, x, y):
        return self._instruction("lshr" if x.dtype.kind == "u" else "ashr", x, y)

    def mulhi(self, x, y):
        x, y = self._meet(x, y)
        wide = vector("i64", x.n)
        a, b = (self.f.op(f"zext {x.ty} {v.text} to {wide}") for v in (x, y))
        product = self.f.op(f"mul {wide} {a}, {b}")
        high = self.f.op(f"lshr {wide} {product}, {constant(32, wide)}")
        return Element(self.f.op(f"trunc {wide} {high} to {x.ty}"), u32, x.n)

    # -- questions and choices -------------------------------------------------------------------
    def _compare(self, predicate: str, x, y) -> Element:
        x, y = self._meet(x, y)
        name = "fcmp" if x.dtype.is_float else "icmp"
        text = self.f.op(f"{name} {predicate} {x.ty} {x.text}, {y.text}")
        return Element(text, boolean, x.n)

    def _ordered(self, name: str, x, y):
        if x.dtype.is_float:
            return self._compare("o" + name, x, y)
        return self._compare(("s" if x.dtype.kind == "i" else "u") + name, x, y)

    def eq(self, x, y):
        return self._compare("oeq" if x.dtype.is_float else "eq", x, y)

    def ne(self, x, y):
        return self._compare("une" if x.dtype.is_float else "ne", x, y)

    def lt(self, x, y):
        return self._ordered("lt", x, y)

    def le(self, x, y):
        return self._ordered("le", x, y)

    def gt(self, x, y):
        return self._ordered("gt", x, y)

    def ge(self, x, y):
        return self._ordered("ge", x, y)

    def is_finite(self, x):
        return self._compare("one", self.abs(x), self.const(float("inf"), x.dtype))

    def select(self, c, x, y):
        x, y = self._meet(x, y)
        if c.n < x.n:
            return Element(self.f.op(f"select i1 {c.text}, {x.ty} {x.text}, {y.ty} {y.text}"),
                           x.dtype, x.n)
        x, y = self.spread(x, c.n), self.spread(y, c.n)
        text = self.f.op(f"select {c.ty} {c.text}, {x.ty} {x.text}, {y.ty} {y.text}")
        return Element(text, x.dtype, x.n)

    # -- conversions -----------------------------------------------------------------------------
    def cast(self, x: Element, dtype: DType) -> Element:
        if dtype is x.dtype:
            return x
        source, to = x.dtype.compute, dtype.compute
        if dtype.kind == "b":
            plain = Element(x.text, source, x.n, x.value)
            return self.ne(plain, self.const(0, source))
        if source is to or (source.is_int and to.is_int and source.bits == to.bits):
            made = Element(x.text, dtype, x.n)
        else:
            made = Element(self._convert(x, source, to), dtype, x.n)
        narrows = dtype in (f16, bf16) and x.dtype.name not in (
            ("f16", "bool", "i8", "u8") if dtype is f16 else ("bf16", "bool", "i8", "u8"))
        return self.round_to(made, dtype) if narrows else made

    def _convert(self, x: Element, source: DType, to: DType) -> str:
        f, ty = self.f, with_element(x.ty, llvm_type(to))
        if source.is_float and to.is_float:
            name = "fpext" if to.bits > source.bits else "fptrunc"
        elif source.is_float:
            name = f"llvm.fpto{'u' if to.kind == 'u' else 's'}i.sat"
            suffix = ".".join(mangled(t) for t in (ty, x.ty))
            return f.call(ty, f"{name}.{suffix}", (x.ty, x.text))
        elif to.is_float:
            name = "sitofp" if source.kind == "i" else "uitofp"
        elif source.kind == "b" or to.bits > source.bits:
            name = "sext" if source.kind == "i" else "zext"
        else:
            name = "trunc"
        return f.op(f"{name} {x.ty} {x.text} to {ty}")

    def bitcast(self, x: Element, dtype: DType) -> Element:
        if dtype is x.dtype:
            return x
        raw, raw_ty = self.to_memory(x), vector(memory_type(x.dtype), x.n)
        to = vector(memory_type(dtype), x.n)
        if raw_ty != to:
            raw = self.f.op(f"bitcast {raw_ty} {raw} to {to}")
        return self.from_memory(raw, dtype, x.n)


_LIBRARY = ("erfc", "asin", "acos", "atan", "atan2", "sinh", "cosh", "asinh", "acosh", "atanh")
