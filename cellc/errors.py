"""The errors cellc raises: the user's line, what was found, what was expected, what to try.

A fault is raised where it is noticed, often deep inside an operation, without a place. Whoever
knows the user's line (the parser, mostly) calls `fault.at(loc)` on the way out; the innermost place
wins.
"""

from __future__ import annotations

import itertools
import linecache
import sys
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Loc:
    """A place in the user's source: file, line (from 1), column (from 1).

    `gradients` says how many were taken of what is written there: 0 for the code as it stands.
    """

    file: str
    line: int
    col: int
    gradients: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.col}"

    def in_gradient(self) -> Loc:
        """The same place, for what its gradient computes."""
        return replace(self, gradients=self.gradients + 1)

    def snippet(self) -> str:
        """The source line with a caret under the column; empty where the source is gone."""
        text = linecache.getline(self.file, self.line).rstrip("\n")
        if not text:
            return ""
        padding = "".join("\t" if c == "\t" else " " for c in text[: self.col - 1])
        return f"\n    {text}\n    {padding}^"


def caller() -> Loc | None:
    """The user's line that called into cellc: the innermost frame outside it and the library."""
    frame = sys._getframe(1)
    while frame is not None and _is_library(frame.f_globals.get("__name__") or ""):
        frame = frame.f_back
    if frame is None:
        return None
    line, _, col, _ = next(itertools.islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
    return Loc(frame.f_code.co_filename, line or frame.f_lineno, (col or 0) + 1)


def _is_library(module: str) -> bool:
    """cellc itself, NumPy and the standard library (a program's own `__main__` is none of them)."""
    top = module.partition(".")[0]
    return top in ("cellc", "numpy") or top != "__main__" and top in sys.stdlib_module_names


class CellcError(Exception):
    """Base of all errors of cellc.

    Fields: `message` (what was found and expected), `hint` (what to try), `loc` (the user's place).
    Where it was met while parsing: `trail`, the pairs (frame, statement) it passed on its way out,
    the innermost first; `of_result`, whether it is about what the callable returns.
    """

    trail: tuple = ()
    of_result = False

    def __init__(self, message: str, hint: str = "", loc: Loc | None = None):
        self.message, self.hint, self.loc = message, hint, loc
        super().__init__(message)

    def __reduce__(self):
        """For another process or a copy: without what belongs to the parse."""
        kept = {key: x for key, x in self.__dict__.items()
                if key not in ("trail", "node", "traced")}
        return remade, (type(self), self.args, kept)

    def at(self, loc: Loc | None) -> CellcError:
        """Attach the place unless a more precise one is already there; returns the fault."""
        if self.loc is None:
            self.loc = loc
        return self

    def __str__(self) -> str:
        place = f"{self.loc}: " if self.loc else ""
        snippet = self.loc.snippet() if self.loc else ""
        hint = f"\n  try: {self.hint}" if self.hint else ""
        return f"{place}{self.message}{snippet}{hint}"


def remade(kind: type, args: tuple, fields: dict) -> CellcError:
    """A fault of the kind with these fields, made in another process."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class SyntaxFault(CellcError, SyntaxError):
    """A statement or expression the compiler does not take.

    Fails:     `async def construct(self, x): ...`
    Corrected: `def construct(self, x): ...`
    """

    __str__ = CellcError.__str__


class TypeFault(CellcError, TypeError):
    """An operand of the wrong type or dtype, or a wrong argument count.

    Fails:     `ops.tanh(Tensor([1, 2]))`
    Corrected: `ops.tanh(Tensor([1.0, 2.0]))`
    """


class ShapeFault(CellcError, ValueError):
    """Shapes that do not fit together.

    Fails:     `Tensor(np.ones((2, 3))) @ Tensor(np.ones((2, 3)))`
    Corrected: `Tensor(np.ones((2, 3))) @ Tensor(np.ones((3, 2)))`
    """


class ValueFault(CellcError, ValueError):
    """An argument whose value is not allowed (an unknown reduction, a duplicate parameter name).

    Fails:     `nn.MSELoss(reduction="average")`
    Corrected: `nn.MSELoss(reduction="mean")`
    """


class NameFault(CellcError, NameError):
    """A name that is not defined where it is read.

    Fails:     `return y` where no `y` was assigned
    Corrected: `y = x; return y`
    """


class AttributeFault(CellcError, AttributeError):
    """An attribute that the object does not have.

    Fails:     `self.dense(x)` where `__init__` never set `self.dense`
    Corrected: `self.dense = nn.Dense(3, 4)` in `__init__`
    """


class IndexFault(CellcError, IndexError):
    """An index out of range, found while compiling or, for an index in a tensor, while running.

    Fails:     `nn.Embedding(10, 4)(Tensor([10]))`
    Corrected: `nn.Embedding(11, 4)(Tensor([10]))`
    """


class KeyFault(CellcError, KeyError):
    """A key that the dictionary does not have.

    Fails:     `{"a": x}["b"]`
    Corrected: `{"a": x}["a"]`
    """

    __str__ = CellcError.__str__


class SourceFault(CellcError, OSError):
    """A function whose source text cannot be found.

    Fails:     `exec("def f(x): return x"); jit(f)(1.0)`
    Corrected: put the function into a file and import it
    """

    __str__ = CellcError.__str__


class AssertionFault(CellcError, AssertionError):
    """An `assert` of the user's that does not hold.

    Fails:     `assert x.shape[0] == 4, "four rows"` with three rows
    Corrected: pass four rows
    """


class MemoryFault(CellcError, MemoryError):
    """There is not enough memory for what a program needs while it runs.

    Fails:     the gradient of a loop of 1e10 rounds
    Corrected: the same with `cellc.recompute` around its body
    """


class RecursionFault(CellcError, RecursionError):
    """Functions that call themselves deeper than the stack allows.

    Fails:     `def f(n): return f(n + 1)`
    Corrected: `def f(n): return n if n > 9 else f(n + 1)`
    """


class CheckpointFault(CellcError, ValueError):
    """A checkpoint that is truncated, damaged or from another net; nothing has been loaded.

    Fails:     `load_checkpoint("half_written.safetensors")`
    Corrected: save it again with `save_checkpoint(net, path)`
    """


class IRFault(CellcError):
    """A graph or graph text that is not well formed: a defect in a pass or a hand-written text.

    Fails:     `read("graph @g(%x: f32[2]) -> f32[2] { return %y }")`
    Corrected: `read("graph @g(%x: f32[2]) -> f32[2] { return %x }")`
    """


class SymbolicFault(CellcError):
    """A size was asked for that is symbolic; the driver answers by compiling for the actual size.

    Fails:     where the size is one that only the running program knows; else it is never seen by
               users, and `cellc.explain` shows its message as the reason
    Corrected: loops over the items, or sizes that are known before
    """
