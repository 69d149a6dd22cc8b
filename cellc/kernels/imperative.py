"""Imperative native code: `text.Function` with variables, endless loops and early returns.

The runtime and the native entry are ordinary systems code, written once and put through LLVM's
pipeline, which turns the variables here into registers. Generated kernels do not use this.
"""

from __future__ import annotations

import contextlib

from cellc.kernels.text import Function, Module


class Variable:
    """A mutable local; created in the entry block, so that it becomes a register."""

    def __init__(self, procedure: Procedure, ty: str):
        self._procedure = procedure
        self._ty = ty
        self.pointer = procedure.op(f"alloca {ty}", "var")

    def get(self) -> str:
        return self._procedure.load(self._ty, self.pointer)

    def set(self, value: str) -> None:
        self._procedure.store(self._ty, value, self.pointer)


class Procedure(Function):
    """A function under construction; leaving the `with` block closes it.

        with Procedure(module, "i64", "first_zero", [("ptr", "x")]) as p:
            i = p.variable("i64", "0")
            with p.forever() as done:
                value = p.load("i64", p.gep("i64", "%x", i.get()))
                p.leave_if(p.eq("i64", value, "0"), done)
                i.set(p.add(i.get(), "1"))
            p.ret(f"i64 {i.get()}")
    """

    def __init__(self, module: Module, result: str, name: str, arguments: list[tuple[str, str]],
                 linkage: str = "define internal"):
        super().__init__(module, result, name, arguments, "nounwind", linkage)
        self.result = result

    def __enter__(self) -> Procedure:
        return self

    def __exit__(self, kind, value, traceback) -> None:
        if kind is None:
            self.close()

    def variable(self, ty: str, initial: str | None = None) -> Variable:
        variable = Variable(self, ty)
        if initial is not None:
            variable.set(initial)
        return variable

    # -- comparisons ---------------------------------------------------------------------------
    def eq(self, ty: str, a: str, b: str) -> str:
        return self.op(f"icmp eq {ty} {a}, {b}", "c")

    def ne(self, ty: str, a: str, b: str) -> str:
        return self.op(f"icmp ne {ty} {a}, {b}", "c")

    def lt(self, a: str, b: str) -> str:
        """a < b as signed i64."""
        return self.op(f"icmp slt i64 {a}, {b}", "c")

    def is_null(self, pointer: str) -> str:
        return self.eq("ptr", pointer, "null")

    # -- control -------------------------------------------------------------------------------
    @contextlib.contextmanager
    def forever(self):
        """Repeat the body until it jumps to the label this yields."""
        head, done = self.label("again"), self.label("left")
        self.branch(head)
        self.start(head)
        yield done
        self.branch(head)
        self.start(done)

    def leave_if(self, condition: str, label: str) -> None:
        """Jump to `label` where `condition` holds, else go on."""
        onward = self.label("on")
        self.branch_if(condition, label, onward)
        self.start(onward)

    def return_if(self, condition: str, value: str = "") -> None:
        """Return `value` of the function's result type where `condition` holds, else go on."""
        then, onward = self.label("return"), self.label("on")
        self.branch_if(condition, then, onward)
        self.start(then)
        self.give(value)
        self.start(onward)

    def give(self, value: str = "") -> None:
        """Return `value` of the function's result type."""
        self.ret(f"{self.result} {value}".strip())

    @contextlib.contextmanager
    def cases(self, value: str, labels: dict[int, str]):
        """`switch` over i64 `value`; the body writes the blocks and jumps to the label this yields.

        A value without a label goes straight there.
        """
        done = self.label("end")
        rows = " ".join(f"i64 {number}, label %{label}" for number, label in labels.items())
        self.do(f"switch i64 {value}, label %{done} [ {rows} ]")
        yield done
        self.start(done)

    # -- memory --------------------------------------------------------------------------------
    def field(self, pointer: str, offset: int | str) -> str:
        """The address `offset` bytes after `pointer`."""
        return pointer if offset in (0, "0") else self.gep("i8", pointer, str(offset))

    def get(self, ty: str, pointer: str, offset: int | str = 0) -> str:
        return self.load(ty, self.field(pointer, offset))

    def put(self, ty: str, value: str, pointer: str, offset: int | str = 0) -> None:
        self.store(ty, value, self.field(pointer, offset))

    def bump(self, pointer: str, by: str) -> None:
        """Add `by` to the i64 there."""
        self.store("i64", self.add(self.load("i64", pointer), by), pointer)

    # -- atomics -------------------------------------------------------------------------------
    def load_atomic(self, ty: str, pointer: str, order: str = "seq_cst") -> str:
        return self.op(f"load atomic {ty}, ptr {pointer} {order}, align {int(ty[1:]) // 8}")

    def store_atomic(self, ty: str, value: str, pointer: str, order: str = "seq_cst") -> None:
        self.do(f"store atomic {ty} {value}, ptr {pointer} {order}, align {int(ty[1:]) // 8}")

    def fetch(self, operation: str, ty: str, pointer: str, value: str) -> str:
        """Atomically apply `operation` (add, sub, xchg); the value before."""
        return self.op(f"atomicrmw {operation} ptr {pointer}, {ty} {value} seq_cst")

    def swap(self, ty: str, pointer: str, expected: str, value: str) -> str:
        """Atomically store `value` where `expected` is; whether it was."""
        pair = self.op(f"cmpxchg ptr {pointer}, {ty} {expected}, {ty} {value} seq_cst acquire")
        return self.op(f"extractvalue {{ {ty}, i1 }} {pair}, 1", "c")


def cell(module: Module, name: str, ty: str, initial: str = "0", line: bool = False) -> str:
    """A global variable of the module; `line` gives it a cache line of its own."""
    align = ", align 64" if line else ""
    module.globals.append(f"@{name} = global {ty} {initial}{align}")
    return f"@{name}"
