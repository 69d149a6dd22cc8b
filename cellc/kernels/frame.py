"""frame: one LLVM function of a program while it is written."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

from cellc.ir.graph import Constant
from cellc.ir.types import Dim, DType, TapeType, TensorType
from cellc.kernels.addresses import Address, Addresses
from cellc.kernels.plan_memory import byte_size
from cellc.kernels.scalar_ops import Element, ScalarOps, llvm_type, memory_type
from cellc.kernels.text import Function, constant


def register_type(type) -> str:
    """The LLVM type of a register that holds a number, a 0-d tensor or a tape."""
    return "ptr" if isinstance(type, TapeType) else llvm_type(type.dtype.compute)


class Frame:
    """One LLVM function being written: its arguments, stack, dims and the way out on failure."""

    def __init__(self, f: Function, symbols: tuple[str, ...]):
        self.f, self.symbols = f, symbols
        self.bases: dict[str, str] = {}
        self.dims = "%dims"             # the sizes
        self._found: dict[str, str] = {}    # of each size found: its block of memory, and its bytes
        self.addresses: Addresses | None = None
        self.fails = False
        self.owned: list[str] = []      # memory to be given back however the function ends
        self.alone = False              # what it calls is one task's own, not shared by threads
        self.drops_tapes = False        # whoever fails leaves tapes to be given back here
        self._cold: list[str] = []
        self._budget = ""

    def alloca(self, text: str) -> str:
        """Stack space, reserved once at the function's entry."""
        register = self.f.fresh("stack")
        self.f.allocas.append(f"  {register} = alloca {text}")
        return register

    def budget(self, first: int) -> str:
        """Where the function counts down what its loops do, from `first` on."""
        if not self._budget:
            self._budget = self.alloca("i64")
            self.f.allocas.append(f"  store i64 {first}, ptr {self._budget}")
        return self._budget

    # -- arguments and results -----------------------------------------------------------------
    def argument(self, index: int, type) -> Address:
        """Argument `index` of a program: a register, or the address of an array."""
        if not isinstance(type, TensorType):
            return self.load_register(type, self.f.gep("ptr", "%args", str(index)))
        address = ("word", "%args", index)
        return address if type.shape else self.load_register(type, self.register(address))

    def register(self, address: Address) -> str:
        return self.addresses.register(address)

    # -- sizes ---------------------------------------------------------------------------------
    def dim(self, name: str) -> str:
        index = self.symbols.index(name)
        return self.f.load("i64", self.f.gep("i64", self.dims, str(index)))

    def set_dim(self, name: str, value: str) -> None:
        index = self.symbols.index(name)
        self.f.store("i64", value, self.f.gep("i64", self.dims, str(index)))

    def own_dims(self) -> None:
        """The sizes as this function's own, to be changed without its caller's notice."""
        own = self.alloca(f"[{len(self.symbols)} x i64]")
        for i in range(len(self.symbols)):
            given = self.f.load("i64", self.f.gep("i64", self.dims, str(i)))
            self.f.store("i64", given, self.f.gep("i64", own, str(i)))
        self.dims = own

    def found_block(self, unit: str, size: str) -> tuple[str, str]:
        """At least `size` bytes for arrays of a size found, and whether there is no memory."""
        f = self.f
        if unit not in self._found:
            self._found[unit] = self.alloca("[2 x i64]")
            f.allocas.append(f"  store [2 x i64] zeroinitializer, ptr {self._found[unit]}")
        block = self._found[unit]
        held = f.gep("i64", block, "1")
        with f.when(f.op(f"icmp ugt i64 {size}, {f.load('i64', held)}")):
            f.call("void", "cellc_free", ("ptr", f.load("ptr", block)))
            f.store("ptr", f.call("ptr", "cellc_alloc", ("i64", size)), block)
            f.store("i64", size, held)
        base = f.load("ptr", block)
        missing = f.op(f"icmp eq ptr {base}, null")
        return base, f.op(f"and i1 {missing}, {f.op(f'icmp ne i64 {size}, 0')}")

    def extent(self, n) -> str:
        """A size as an i64."""
        return self.f.mul(str(n.coef), self.dim(n.name)) if isinstance(n, Dim) else str(n)

    def size(self, unit: str, count: int) -> str:
        """A byte count as an i64."""
        return self.f.mul(str(count), self.dim(unit)) if unit else str(count)

    def tasks(self, most: int, alone_below: tuple[str, int] | None) -> str:
        """How many tasks a kernel gets: one where the size known now makes too little work."""
        if alone_below is None:
            return str(most)
        symbol, size = alone_below
        enough = self.f.op(f"icmp sge i64 {self.dim(symbol)}, {size}")
        return self.f.op(f"select i1 {enough}, i64 {most}, i64 1")

    # -- memory --------------------------------------------------------------------------------
    def load_element(self, dtype: DType, pointer: str) -> str:
        """An element of an array, in the dtype it is computed in."""
        return ScalarOps(self.f).load(dtype, pointer)

    def store_element(self, dtype: DType, value: str, pointer: str) -> None:
        text = ScalarOps(self.f).to_memory(Element(value, dtype))
        self.f.store(memory_type(dtype), text, pointer, dtype.itemsize)

    def load_register(self, type, pointer: str) -> str:
        """What `store_register` stored: numbers as 8 bytes, 0-d tensors as their element."""
        if isinstance(type, TapeType):
            return self.f.load("ptr", pointer)
        if isinstance(type, TensorType):
            return self.load_element(type.dtype, pointer)
        if type.dtype.kind == "b":
            return self.f.op(f"trunc i64 {self.f.load('i64', pointer)} to i1")
        return self.f.load(llvm_type(type.dtype), pointer)

    def store_register(self, type, value: str, pointer: str) -> None:
        if isinstance(type, TapeType):
            self.f.store("ptr", value, pointer)
        elif isinstance(type, TensorType):
            self.store_element(type.dtype, value, pointer)
        elif type.dtype.kind == "b":
            self.f.store("i64", self.f.op(f"zext i1 {value} to i64"), pointer)
        else:
            self.f.store(llvm_type(type.dtype), value, pointer)

    def spilled(self, type, value: str) -> str:
        """The address of 8 bytes on the stack that hold a register."""
        place = self.alloca("i64")
        self.store_register(type, value, place)
        return place

    def copy(self, type: TensorType, source: str, target: str) -> None:
        size = self.size(*byte_size(type))
        self.f.module.declare("void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
        self.f.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {size}, "
                  "i1 false)")

    def clear(self, target: str, size: str) -> None:
        """Zeros in so many bytes."""
        self.f.module.declare("void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        self.f.do(f"call void @llvm.memset.p0.i64(ptr {target}, i8 0, i64 {size}, i1 false)")

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
        if c.value == 0 and not (element.is_float and np.signbit(np.float64(c.value))):
            self.clear(target, f.mul(count, str(element.itemsize)))
            return
        ty = "i8" if element.kind == "b" else llvm_type(element)
        with f.loop("0", count) as loop:
            f.store(ty, constant(c.value, ty), f.gep(ty, target, loop.index))

    # -- failure -------------------------------------------------------------------------------
    @contextmanager
    def failing(self, condition: str):
        """What is done, out of the way, where the condition holds, before the program ends."""
        self.fails = True
        with self._out_of_the_way(condition, "fail"):
            yield

    def seldom(self, condition: str):
        """What is done, out of the way, where the condition holds, before the program goes on."""
        return self._out_of_the_way(condition, "")

    @contextmanager
    def _out_of_the_way(self, condition: str, then: str):
        f = self.f
        cold, onward = f.label("cold"), f.label("onward")
        f.branch_if(condition, cold, onward)
        lines, f.lines = f.lines, []
        f.start(cold)
        yield
        f.branch(then or onward)
        self._cold += f.lines
        f.lines = lines
        f.start(onward)

    def fail_if(self, condition: str) -> None:
        self.fails = True
        onward = self.f.label("onward")
        self.f.branch_if(condition, "fail", onward)
        self.f.start(onward)

    def close(self) -> None:
        self.addresses.close()
        self._give_back()
        self.f.ret("i32 0")
        if self.fails:
            self.f.lines += self._cold
            self.f.start("fail")
            self._give_back()
            if self.drops_tapes:
                self.f.call("void", "cellc_tape_drop", ("ptr", "%error"))
            self.f.ret("i32 1")
        self.f.close()

    def _give_back(self) -> None:
        found = (self.f.load("ptr", block) for block in self._found.values())
        for memory in (*self.owned, *found):
            self.f.call("void", "cellc_free", ("ptr", memory))
