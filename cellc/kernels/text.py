"""LLVM IR as text: a module, a function, structured loops and branches.

Everything the CPU back end emits goes through these two classes. Text is written directly, because
builder objects cost several times as much as the text they print. Values are strings
("%x.3", "7", "splat (float 0x3FF0000000000000)"), types are strings ("i64", "<16 x float>", "ptr").
"""

from __future__ import annotations

import contextlib
import struct


def float_literal(value: float, ty: str) -> str:
    """The LLVM literal of a Python float in scalar type `half`, `bfloat`, `float` or `double`."""
    import numpy as np

    if ty == "float":
        value = float(np.float32(value))
    elif ty == "half":
        return f"0xH{np.float16(value).view(np.uint16):04X}"
    elif ty == "bfloat":
        bits = int(np.float32(value).view(np.uint32))
        rounded = bits if value != value else bits + 0x7FFF + ((bits >> 16) & 1)
        return f"0xR{(rounded >> 16) & 0xFFFF:04X}"
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


_BITS = {"float": 32, "double": 64, "i32": 32, "i64": 64}


def element_type(ty: str) -> str:
    """`<16 x float>` -> `float`; a scalar type is its own element type."""
    return ty[1:-1].split(" x ")[1] if ty.startswith("<") else ty


def lanes(ty: str) -> int:
    """`<16 x float>` -> 16; a scalar type -> 1."""
    return int(ty[1:].split(" x ")[0]) if ty.startswith("<") else 1


def with_element(ty: str, element: str) -> str:
    """As many lanes of another element: (`<16 x float>`, `i32`) -> `<16 x i32>`."""
    return f"<{lanes(ty)} x {element}>" if ty.startswith("<") else element


def constant(value, ty: str) -> str:
    """A literal of scalar or vector type `ty`; a vector gets the value in every lane."""
    element = element_type(ty)
    if element in ("float", "double", "half", "bfloat"):
        literal = float_literal(float(value), element)
    elif element == "i1":
        literal = "true" if value else "false"
    else:
        literal = str(int(value))
    return f"splat ({element} {literal})" if ty.startswith("<") else literal


class Module:
    """The text of one LLVM module: declarations (each once), globals and functions.

    `features` are those of the CPU that it is for, "+avx2,+fma,...": what it may ask for beyond
    what every CPU does.
    """

    def __init__(self, name: str = "cellc", features: str = ""):
        self.name, self.features = name, frozenset(features.split(","))
        self.declarations: dict[str, None] = {}
        self.globals: list[str] = []
        self.functions: dict[str, str] = {}

    def declare(self, signature: str) -> None:
        """`declare("float @llvm.fma.f32(float, float, float)")`; saying it twice is harmless."""
        self.declarations[signature] = None

    def text(self) -> str:
        declared = (f"declare {s}" for s in self.declarations
                    if s.split("@", 1)[1].split("(", 1)[0] not in self.functions)
        return "\n".join([f'; module {self.name}', *declared, *self.globals,
                          *self.functions.values()]) + "\n"


# Of functions that may have more vectors than registers. LLVM decides too late to align the stack
# where no register is kept for it: then each spilled vector of 64 bytes lies across two lines.
ALIGNED_STACK = 'nounwind "frame-pointer"="all"'


class Loop:
    """What a `Function.loop` block sees: the index and the carried values of this round."""

    def __init__(self, index: str, carried: list[str]):
        self.index = index
        self.carried = carried            # values at the start of the round
        self.next: list[str] = carried    # set by the body: values for the next round
        self.results: list[str] = []      # valid after the loop


class Function:
    """One function under construction; `close()` puts it into its module.

        f = Function(module, "void", "scale", [("ptr", "x"), ("i64", "n")])
        with f.loop("0", "%n", 1) as i:
            p = f.gep("float", "%x", i.index)
            f.store("float", f.op(f"fmul float {f.load('float', p)}, 0x4000000000000000"), p)
        f.ret()
        f.close()
    """

    def __init__(self, module: Module, result: str, name: str, arguments: list[tuple[str, str]],
                 attributes: str = "nounwind", linkage: str = "define"):
        self.module = module
        self.name = name
        inside = ", ".join(f"{ty} %{arg}" for ty, arg in arguments)
        self.head = f"{linkage} {result} @{name}({inside}) {attributes} {{"
        self.allocas: list[str] = []         # stack space, reserved once at the entry
        self.lines: list[str] = []
        self.held: dict[tuple[str, str], str] = {}      # constants that are kept in registers
        self.room = 0                                   # for so many more
        self.block = "entry"
        self.counter = 0

    # -- plain emission ------------------------------------------------------------------------
    def fresh(self, hint: str = "v") -> str:
        self.counter += 1
        return f"%{hint}.{self.counter}"

    def op(self, text: str, hint: str = "v") -> str:
        """Append `%hint.N = text` and return the new register."""
        reg = self.fresh(hint)
        self.lines.append(f"  {reg} = {text}")
        return reg

    def do(self, text: str) -> None:
        """Append an instruction without a result."""
        self.lines.append(f"  {text}")

    def label(self, hint: str) -> str:
        self.counter += 1
        return f"{hint}.{self.counter}"

    def start(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.block = label

    def branch(self, label: str) -> None:
        self.do(f"br label %{label}")

    def branch_if(self, condition: str, then: str, otherwise: str) -> None:
        self.do(f"br i1 {condition}, label %{then}, label %{otherwise}")

    def ret(self, value: str = "void") -> None:
        self.do(f"ret {value}")

    def close(self) -> None:
        self.module.functions[self.name] = "\n".join(
            [self.head, "entry:", *self.allocas, *self.lines, "}"])

    # -- memory and calls ----------------------------------------------------------------------
    def stack(self, ty: str) -> str:
        """The address of stack space of the function."""
        register = self.fresh("stack")
        self.allocas.append(f"  {register} = alloca {ty}, align 64")
        return register

    def gep(self, element: str, pointer: str, index: str) -> str:
        if index == "0":
            return pointer
        return self.op(f"getelementptr {element}, ptr {pointer}, i64 {index}", "p")

    def load(self, ty: str, pointer: str, align: int | None = None) -> str:
        return self.op(f"load {ty}, ptr {pointer}" + (f", align {align}" if align else ""))

    def store(self, ty: str, value: str, pointer: str, align: int | None = None) -> None:
        self.do(f"store {ty} {value}, ptr {pointer}" + (f", align {align}" if align else ""))

    def call(self, result: str, name: str, *arguments: tuple[str, str]) -> str | None:
        """Call @name, declaring it; arguments are (type, value) pairs."""
        self.module.declare(f"{result} @{name}({', '.join(ty for ty, _ in arguments)})")
        text = f"call {result} @{name}({', '.join(f'{ty} {value}' for ty, value in arguments)})"
        if result == "void":
            self.do(text)
            return None
        return self.op(text)

    def intrinsic(self, name: str, ty: str, *values: str) -> str:
        """`f.intrinsic("fma", "<16 x float>", a, b, c)` calls @llvm.fma.v16f32; all of one type."""
        return self.call(ty, f"llvm.{name}.{mangled(ty)}", *((ty, v) for v in values))

    def add(self, a: str, b: str) -> str:
        """i64 a + b, folded where both are literals or one is zero."""
        if a == "0" or b == "0":
            return b if a == "0" else a
        if is_literal(a) and is_literal(b):
            return str(int(a) + int(b))
        return self.op(f"add i64 {a}, {b}", "i")

    def mul(self, a: str, b: str) -> str:
        """i64 a * b, folded where both are literals or one is 0 or 1."""
        if a == "0" or b == "0":
            return "0"
        if a == "1" or b == "1":
            return b if a == "1" else a
        if is_literal(a) and is_literal(b):
            return str(int(a) * int(b))
        return self.op(f"mul i64 {a}, {b}", "i")

    # -- constants -----------------------------------------------------------------------------
    @contextlib.contextmanager
    def constants_held(self, most: int):
        """Of what is written inside, the first vector constants (`held_constant`) are in registers
        from here on: an empty instruction defines them. LLVM would move them in front of all loops,
        as far as registers go, and read the others from memory each time."""
        outer = self.held, self.room
        self.held, self.room = {}, most if "+avx512f" in self.module.features else 0
        hole = len(self.lines)
        self.lines.append("")
        yield
        self.lines[hole] = "\n".join(f'  {register} = call {ty} asm "", "=v,0"({ty} {text})'
                                     for (ty, text), register in self.held.items())
        self.held, self.room = outer

    def held_constant(self, ty: str, text: str) -> str:
        """The literal `text`, or the register that holds it."""
        if (ty, text) not in self.held:
            if not self.room or lanes(ty) * _BITS.get(element_type(ty), 0) != 512:
                return text                 # LLVM would end the process over two registers
            self.held[ty, text] = self.fresh("held")
            self.room -= 1
        return self.held[ty, text]

    # -- structured control --------------------------------------------------------------------
    @contextlib.contextmanager
    def loop(self, start: str, stop: str, step: int | str = 1, carried: list[tuple[str, str]] = (),
             hint: str = "i", opaque: bool = False):
        """`for index in range(start, stop, step)` with loop-carried values.

        `carried` lists (type, initial value). The body sets `loop.next`; afterwards `loop.results`
        holds the final values. The bound is tested before each round.

        An `opaque` index reaches the body through an empty instruction, so that LLVM's loop
        strength reduction, a quarter of the time where a body has many addresses, finds nothing to
        rewrite. Not for a body that needs nearly all registers: there it pays.
        """
        head, body, latch, done = (self.label(f"{hint}.{part}")
                                   for part in ("head", "body", "latch", "done"))
        before = self.block
        self.branch(head)
        self.start(head)
        index, following = self.fresh(hint), self.fresh(f"{hint}.next")
        phis = [self.fresh("c") for _ in carried]
        holes = len(self.lines)
        self.lines.append("")
        condition = self.op(f"icmp slt i64 {index}, {stop}")
        self.branch_if(condition, body, done)
        self.start(body)
        seen = self.op(f'call i64 asm "", "=r,0"(i64 {index})', hint) if opaque else index
        loop = Loop(seen, phis)
        yield loop
        self.branch(latch)
        self.start(latch)
        self.lines.append(f"  {following} = add i64 {index}, {step}")
        self.branch(head)
        rows = [f"  {index} = phi i64 [ {start}, %{before} ], [ {following}, %{latch} ]"]
        rows += [f"  {phi} = phi {ty} [ {init}, %{before} ], [ {new}, %{latch} ]"
                 for phi, (ty, init), new in zip(phis, carried, loop.next, strict=True)]
        self.lines[holes] = "\n".join(rows)
        self.start(done)
        loop.results = phis

    @contextlib.contextmanager
    def when(self, condition: str):
        """Run the body where `condition` (i1) holds; it yields no value."""
        then, done = self.label("then"), self.label("done")
        self.branch_if(condition, then, done)
        self.start(then)
        yield
        self.branch(done)
        self.start(done)


def is_literal(value: str) -> bool:
    return value.lstrip("-").isdigit()


def mangled(ty: str) -> str:
    """The suffix LLVM gives an overloaded intrinsic: `<16 x float>` -> `v16f32`."""
    short = {"float": "f32", "double": "f64", "half": "f16", "bfloat": "bf16", "ptr": "p0"}
    element = element_type(ty)
    name = short.get(element, element)
    return f"v{lanes(ty)}{name}" if ty.startswith("<") else name
