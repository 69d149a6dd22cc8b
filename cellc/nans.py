"""Where a NaN or an infinity comes from: `cellc.nan_trace(f, *args)`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellc import compile as driver
from cellc.errors import Loc
from cellc.ir import numerics
from cellc.ir.graph import Apply
from cellc.ir.interpret import interpret
from cellc.ir.types import TapeType, TupleType
from cellc.signature import flatten, plain


@dataclass(frozen=True)
class NanReport:
    """The operation that gave the first NaN (or infinity) of those that reach a result.

    kind       "nan" or "inf"
    value      the element that it gave: "nan", "inf" or "-inf"
    operation  the primitive; "argument" where the value came in from outside
    loc        the user's line; None where cellc's own code is not called from any
    gradients  0: found in the computation as it is written; 1: in its gradient; and so on
    place      where in the operation's result the first such element is
    values     the operands' elements there; of an operand of another shape its smallest and largest
    cause      for a NaN made of an infinity: the report of where that came from
    """

    kind: str
    value: str
    operation: str
    loc: Loc | None
    gradients: int
    place: tuple[int, ...]
    values: tuple[str, ...]
    cause: NanReport | None

    def __str__(self) -> str:
        if self.operation == "argument":
            return f"{self.values[0]} holds {self.value} at {list(self.place)}"
        where = f"{self.loc}: " if self.loc else ""
        snippet = self.loc.snippet() if self.loc else ""
        made = f"{self.operation} of {', '.join(self.values)} gives {self.value}"
        at = f" at {list(self.place)}" if self.place else ""
        text = f"{where}{_which(self.gradients)}{made}{at}{snippet}"
        return f"{text}\nafter {self.cause}" if self.cause else text

    __repr__ = __str__


def _which(gradients: int) -> str:
    if gradients == 0:
        return ""
    return "in the gradient of this line: " if gradients == 1 else (
        f"in the gradient of order {gradients} of this line: ")


def nan_trace(f, *args, **kwargs) -> NanReport | None:
    """Run f and say where a NaN or infinity that reaches a result first came up; None if none does.

    f is a function, a cell or a gradient of one: `cellc.nan_trace(cellc.grad(loss), x)` looks at
    the forward pass and at the backward pass. Every operation is run by itself, by NumPy. A value
    that `where` does not take is not reported. Parameters keep their values.
    """
    leaves: list = []
    structure = flatten((args, kwargs), leaves)
    variant, given = driver.compiled(f).variant(structure, [plain(x) for x in leaves])
    graph, watcher = variant.parsed, _Watcher()
    arrays = [np.asarray(x) for x in given]
    arrays += [np.array(x._array) for x in variant.traced.captured]
    for x, array in zip(graph.inputs, arrays, strict=True):
        watcher.inputs[id(array)] = (x.name, array)
    with np.errstate(all="ignore"):
        found = interpret(graph, *arrays, watch=watcher)
        for asked in (np.isnan, np.isinf):
            for result in found if isinstance(found, tuple) else (found,):
                if _any(asked, result):
                    return watcher.origin(result, asked)
    return None


class _Watcher:
    """Which apply made each array, on which operands. Kept by identity, the arrays with it."""

    def __init__(self):
        self.made: dict[int, tuple[Apply, list, np.ndarray]] = {}
        self.inputs: dict[int, tuple[str, np.ndarray]] = {}

    def __call__(self, node: Apply, operands: list, result):
        operands = [value for x, value in zip(node.operands, operands, strict=True)
                    if not isinstance(x.type, (TupleType, TapeType))]
        if isinstance(node.type, (TupleType, TapeType)):
            return result
        result = np.asarray(result)
        if id(result) not in self.made and id(result) not in self.inputs and not any(
                result is x for x in operands):
            self.made[id(result)] = (node, operands, result)
        return result

    def origin(self, array, asked) -> NanReport:
        """The report for the first of the applies through which such elements came to `array`."""
        while True:
            if id(array) not in self.made:
                name = self.inputs.get(id(array), ("a constant", array))[0]
                place = _first(asked, array)
                return NanReport(_kind(asked), str(array[place]), "argument", None, 0, place,
                                 (name,), None)
            node, operands, result = self.made[id(array)]
            guilty = _guilty(node, operands, result, asked)
            if not guilty:
                return self._report(node, operands, result, asked)
            array = guilty[0]

    def _report(self, node: Apply, operands: list, result, asked) -> NanReport:
        place = _first(asked, result)
        infinite = asked is np.isnan and [x for x in operands if _any(np.isinf, x)]
        cause = self.origin(infinite[0], np.isinf) if infinite else None
        return NanReport(_kind(asked), str(result[place]), node.prim.name, node.loc,
                         node.loc.gradients if node.loc else 0, place,
                         tuple(_shown(x, result, place) for x in operands), cause)


def _kind(asked) -> str:
    return "nan" if asked is np.isnan else "inf"


def _any(asked, x) -> bool:
    return _where(asked, x).any()


def _where(asked, x) -> np.ndarray:
    x = np.asarray(x)
    if numerics.dtype_of(x).kind != "f":
        return np.zeros(x.shape, bool)
    return asked(numerics.to_compute(x))


def _guilty(node: Apply, operands: list, result, asked) -> list:
    """The operands that had such elements already, where the result could take them from."""
    if node.prim.name == "select":
        chosen, *branches = operands
        return [x for x, taken in zip(branches, (chosen, ~np.asarray(chosen)), strict=True)
                if (_where(asked, x) & taken).any()]
    return [x for x in operands if _any(asked, x)]


def _first(asked, x) -> tuple[int, ...]:
    return tuple(int(i[0]) for i in np.nonzero(np.atleast_1d(_where(asked, x))))[:np.ndim(x)]


def _shown(x, result, place: tuple[int, ...]) -> str:
    """An operand's element at the place; the range of one of another shape."""
    x = np.asarray(x)
    if x.shape == result.shape:
        return str(x[place])
    if x.size == 1:
        return str(x.reshape(())[()])
    wide = numerics.to_compute(x)
    return f"[{wide.min()} to {wide.max()}]" if x.size else "[]"
