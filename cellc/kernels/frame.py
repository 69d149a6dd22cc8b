"""frame: one LLVM function of a program while it is written."""

from __future__ import annotations

import numpy as np

from cellc.ir.graph import Constant
from cellc.ir.types import Dim, ScalarType, TensorType
from cellc.kernels.plan_memory import byte_size
from cellc.kernels.scalar_ops import llvm_type
from cellc.kernels.text import Function, constant


class Frame:
    """One LLVM function being written: its arguments, allocas, dims and the way out on failure."""

    def __init__(self, f: Function, symbols: tuple[str, ...]):
        self.f, self.symbols = f, symbols
        self.bases: dict[str, str] = {}
        self.fails = False

    def alloca(self, text: str) -> str:
        """Stack space, reserved once at the function's entry."""
        register = self.f.fresh("stack")
        self.f.lines.insert(1, f"  {register} = alloca {text}")
        return register

    def argument(self, index: int, type) -> str:
        """Argument `index`: a scalar in a register, or the pointer to an array."""
        place = self.f.gep("ptr", "%args", str(index))
        if isinstance(type, TensorType):
            return self.f.load("ptr", place)
        return self.load_scalar(type, place)

    def out_pointer(self, index: int) -> str:
        return self.f.load("ptr", self.f.gep("ptr", "%outs", str(index)))

    def dim(self, name: str) -> str:
        index = self.symbols.index(name)
        return self.f.load("i64", self.f.gep("i64", "%dims", str(index)))

    def tasks(self, most: int, alone_below: tuple[str, int] | None) -> str:
        """How many tasks a kernel gets: one where the size known now makes too little work."""
        if alone_below is None:
            return str(most)
        symbol, size = alone_below
        enough = self.f.op(f"icmp sge i64 {self.dim(symbol)}, {size}")
        return self.f.op(f"select i1 {enough}, i64 {most}, i64 1")

    def size(self, unit: str, count: int) -> str:
        """A byte count as an i64."""
        return self.f.mul(str(count), self.dim(unit)) if unit else str(count)

    def load_scalar(self, type: ScalarType, pointer: str) -> str:
        if type.dtype.kind == "b":
            return self.f.op(f"trunc i64 {self.f.load('i64', pointer)} to i1")
        return self.f.load(llvm_type(type.dtype), pointer)

    def store_scalar(self, type: ScalarType, value: str, pointer: str) -> None:
        if type.dtype.kind == "b":
            value = self.f.op(f"zext i1 {value} to i64")
            self.f.store("i64", value, pointer)
        else:
            self.f.store(llvm_type(type.dtype), value, pointer)

    def copy(self, type: TensorType, source: str, target: str) -> None:
        size = self.size(*byte_size(type))
        self.f.module.declare("void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        self.f.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {size}, "
                  "i1 false)")

    def fill(self, c: Constant, target: str) -> None:
        """Write a tensor constant into its buffer."""
        f, element = self.f, c.type.dtype
        if not c.is_fill:
            data = np.ascontiguousarray(c.value).tobytes()
            name = f"constant.{len(f.module.globals)}"
            text = "".join(f"\\{byte:02X}" for byte in data)
            f.module.globals.append(f"@{name} = private unnamed_addr constant "
                                    f"[{len(data)} x i8] c\"{text}\", align 64")
            self.copy(c.type, f"@{name}", target)
            return
        size = c.type.size
        count = f.mul(str(size.coef), self.dim(size.name)) if isinstance(size, Dim) else str(size)
        ty = "i8" if element.kind == "b" else llvm_type(element)
        with f.loop("0", count) as loop:
            f.store(ty, constant(c.value, ty), f.gep(ty, target, loop.index))

    def fail_if(self, condition: str) -> None:
        self.fails = True
        onward = self.f.label("onward")
        self.f.branch_if(condition, "fail", onward)
        self.f.start(onward)

    def close(self) -> None:
        self.f.ret("i32 0")
        if self.fails:
            self.f.start("fail")
            self.f.ret("i32 1")
        self.f.close()
