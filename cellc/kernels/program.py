"""program: what an emitted program is to those who link and run it.

Apart from whatever emits programs, so that a process which remembers its own (`programs.py`) need
not load that.
"""

from __future__ import annotations

from cellc.record import fresh, record

# What went wrong: word 0 of the error record. The three that follow say more.
ERROR_INDEX, ERROR_MESSAGE, ERROR_MEMORY, ERROR_DEPTH, ERROR_SIZE = 1, 2, 3, 4, 5
# Its other words: the lowest address that the stack may reach, the tapes in use, and the number of
# the apply, in `Program.sites`.
LIMIT, TAPES, SITE = 5, 6, 7


@record
class Kernel:
    """An emitted kernel: functions to run one after another, each with as many tasks as pay.

    `scratch` bytes of scratch memory are shared by all phases, so many for each of a symbol
    `scratch_unit` where that is not empty; `flops`, `bytes` estimate the work.
    Its one result may lie over an operand of the numbers `over`, which it reads at the place where
    it writes, and before. Where it depends on a symbolic size, `alone_below` is (symbol, the size
    from which several tasks pay); those of a `short` one pay only with threads that are awake.
    `codegen` is the level of LLVM's code generator that its text needs.
    """

    phases: list[tuple[str, int]]
    scratch: int = 0
    flops: float = 0.0
    bytes: float = 0.0
    alone_below: tuple[str, int] | None = None
    codegen: int = 2
    short: bool = False
    scratch_unit: str = ""
    over: tuple[int, ...] = ()


@record(frozen=True)
class Unit:
    """A kernel as a module of its own, so that equal kernels of all programs are one object.

    The program calls its function `f` as `name.f`; `compiled` is what `written` gave for its text.
    """

    name: str
    kernel: Kernel
    text: str
    compiled: object

    @property
    def functions(self) -> list[str]:
        return [function for function, _ in self.kernel.phases]


@record
class Program:
    """What the driver needs to know of an emitted program."""

    name: str
    symbols: tuple[str, ...]                 # names of the dims array, in order
    arena: dict[str, int]                    # bytes for each unit, "" first
    flops: float = 0.0
    bytes: float = 0.0
    text: str = ""                           # of the host function
    units: list[Unit] = fresh(list)
    sites: list = fresh(list)   # the user's place of every apply that can fail
    optimise: int = 0           # which of LLVM's pipelines the text needs
    unbounded: bool = False     # its work depends on the data
    found: int = 0              # how many of the symbols, the last ones, it finds itself
