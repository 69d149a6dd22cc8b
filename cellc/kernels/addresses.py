"""addresses: where the arrays of one function of a program are, found out when they are wanted.

A program of many equal cells is a list of calls, each on dozens of arrays. As instructions, their
addresses would be most of its text, and LLVM would take longer for it than for all kernels. So each
function has a table, `places`: the words of `args` and `outs`, places in the arena, and whatever
else it hands on. A call passes the table, and constants that say which of its places are meant.

Addresses that instructions use are registers computed once, at the beginning of the function. An
address is one of these:

    ("word", "%outs", 3)                    what the words of an array hold
    ("bytes", "%arena", "", 4096)           so many bytes, or units of a symbolic size, above a base
    "%v.7"                                  a register
"""

from __future__ import annotations

from contextlib import contextmanager

from cellc.kernels.text import Function, Module

Address = str | tuple


class Addresses:
    """The addresses of one function. Its text goes on where this is made; the bases are known."""

    def __init__(self, frame, words: dict[str, int], fixed=()):
        """`words`: how many there are in each array of addresses that the function is given; the
        registers `fixed` are set before all that follows."""
        self.frame, self.words, self.fixed = frame, words, set(fixed)
        self.base = frame.bases[""]
        self.lines: list[str] = []
        self.registers: dict[Address, str] = {}
        self.entries: dict[Address, int] = {}       # of the table, behind the words
        self.has_table = False
        self.at = len(frame.f.lines)
        frame.f.lines.append("")

    @contextmanager
    def _early(self, lines: list[str]):
        """Write at the beginning."""
        f = self.frame.f
        kept, f.lines = f.lines, lines
        yield f
        f.lines = kept

    def register(self, address: Address) -> str:
        """An address as a register."""
        if isinstance(address, str):
            return address
        if address not in self.registers:
            with self._early(self.lines) as f:
                if address[0] == "word":
                    found = f.load("ptr", f.gep("ptr", address[1], str(address[2])))
                else:
                    found = f.gep("i8", address[1], self.frame.size(*address[2:]))
            self.registers[address] = found
            self.fixed.add(found)
        return self.registers[address]

    def entry(self, address: Address) -> int:
        """The number of the table's place that holds an address, from here on at the latest."""
        self.has_table = True
        if address[0] == "word":
            arrays = list(self.words)
            return sum(self.words[a] for a in arrays[:arrays.index(address[1])]) + address[2]
        known = address in self.entries
        number = sum(self.words.values()) + self.entries.setdefault(address, len(self.entries))
        if self._is_offset(address):
            return number
        text = self.register(address)
        if text not in self.fixed:
            self._store(text, number)
        elif not known:
            with self._early(self.lines):
                self._store(text, number)
        return number

    def _store(self, text: str, number: int) -> None:
        f = self.frame.f
        f.store("ptr", text, f.gep("ptr", "%places", str(number)))

    def _is_offset(self, address: Address) -> bool:
        return address[0] == "bytes" and address[1:3] == (self.base, "")

    def close(self) -> None:
        """Put what is computed at the beginning there."""
        first: list[str] = []
        if self.has_table:
            with self._early(first):
                self._fill()
        self.frame.f.lines[self.at] = "\n".join([*first, *self.lines])

    def _fill(self) -> None:
        """The words, and all that is in the arena at an offset."""
        f, at = self.frame.f, 0
        for array, count in self.words.items():
            f.call("void", "llvm.memcpy.p0.p0.i64", ("ptr", f.gep("ptr", "%places", str(at))),
                   ("ptr", array), ("i64", str(8 * count)), ("i1", "false"))
            at += count
        offsets = [a[3] if self._is_offset(a) else 0 for a in self.entries]
        f.allocas.append(f"  %places = alloca [{max(1, at + len(offsets))} x ptr], align 16")
        if offsets:
            table = constants(f.module, "i64", offsets)
            _declare_spread(f.module)
            f.call("void", "spread", ("ptr", f.gep("ptr", "%places", str(at))), ("ptr", table),
                   ("i64", str(len(offsets))), ("ptr", self.base))


def constants(module: Module, ty: str, values: list[int]) -> str:
    """The name of an array of constants."""
    name = f"@numbers.{len(module.globals)}"
    module.globals.append(f"{name} = private unnamed_addr constant [{len(values)} x {ty}] "
                          f"[{', '.join([f'{ty} {value}' for value in values])}]")
    return name


def _declare_spread(module: Module) -> None:
    """`spread(places, offsets, n, base)`: each of n places becomes base and an offset."""
    if "spread" in module.functions:
        return
    f = Function(module, "void", "spread", [("ptr", "places"), ("ptr", "offsets"), ("i64", "n"),
                                            ("ptr", "base")], linkage="define internal")
    with f.loop("0", "%n") as loop:
        offset = f.load("i64", f.gep("i64", "%offsets", loop.index))
        f.store("ptr", f.gep("i8", "%base", offset), f.gep("ptr", "%places", loop.index))
    f.ret()
    f.close()


class Pointers:
    """Where each slot of a region is, by its id: given as an address, asked for as a register."""

    def __init__(self, addresses: Addresses):
        self.addresses = addresses
        self.held: dict[int, Address] = {}

    def __getitem__(self, key: int) -> str:
        return self.addresses.register(self.held[key])

    def __setitem__(self, key: int, address: Address) -> None:
        self.held[key] = address
