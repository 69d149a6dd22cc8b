"""The inner loop of the matrix product and what happens when a tile's sums are done.

The loop keeps a tile of C in registers: for each k it loads the tile's vectors of B, and for each
row spreads one element of A over a vector and multiplies and adds. Rows past the last one compute
on the last row's address and are stored first, so that the true last row overwrites them.
"""

from __future__ import annotations

from collections.abc import Callable

from cellc.kernels.gemm_plan import Arrangement, View
from cellc.kernels.gemm_view import (
    MEMORY_TYPE,
    Operand,
    Reach,
    emit_offset,
    merged,
    narrow,
    prefetch,
    text_of,
    widen,
)
from cellc.kernels.text import Function, element_type
from cellc.kernels.vectors import counting, splat
from cellc.record import fresh, record


@record
class RowSource:
    """Where the inner loop finds A: for row r, pointer `bases[r]` plus k * `step` elements; where k
    is cut into runs of `run`, plus `start` of the run and so many steps from there."""

    dtype: str
    bases: list[str]
    constants: list[int]        # further elements, known now
    step: str
    run: int | None = None
    start: Callable[[str], str] | None = None

    def within(self, f: Function, run: str) -> RowSource:
        """Of one run."""
        offset = self.start(run)
        moved = {base: f.gep(MEMORY_TYPE[self.dtype], base, offset)
                 for base in dict.fromkeys(self.bases)}
        return RowSource(self.dtype, [moved[x] for x in self.bases], self.constants, self.step)

    def load(self, f: Function, r: int, moved: dict, k: str, vector: str) -> str:
        """Element k of row r in every lane. `moved` keeps this round's pointers."""
        element = MEMORY_TYPE[self.dtype]
        base = self.bases[r]
        if base not in moved:
            moved[base] = f.gep(element, base, f.mul(k, self.step))
        place = moved[base]
        if self.constants[r]:
            place = f.gep(element, place, str(self.constants[r]))
        return splat(f, widen(f, f.load(element, place), self.dtype, None), vector)


@record
class PanelSource:
    """Where it finds B: pointer `base` plus `offset(k)`, then one `Reach` a vector."""

    dtype: str
    base: str
    offset: Callable[[str], str]
    reaches: list[Reach]
    ahead: int = 0              # elements to ask for early, where B is streamed from memory

    def load(self, f: Function, k: str) -> list[str]:
        element = MEMORY_TYPE[self.dtype]
        place = f.gep(element, self.base, self.offset(k))
        if self.ahead:
            for v, reach in enumerate(self.reaches):
                prefetch(f, f.gep(element, place, str(self.ahead + v * reach.width)))
        return [widen(f, reach.load(f, element, place), self.dtype, reach.width)
                for reach in self.reaches]


def emit_sums(f: Function, a: RowSource, b: PanelSource, size_k: str, ty: str,
              vectors: int) -> list[list[str]]:
    """The tile's sums over k: a list of vectors for each row.

    `fmuladd` is one instruction where the CPU has it, and two, not a call, where it has not.
    """
    height = len(a.bases)
    zeros = ["zeroinitializer"] * (height * vectors)
    if a.run is None:
        sums = _emit_terms(f, a, b, "0", size_k, ty, zeros)
    else:
        count = f.op(f"udiv i64 {size_k}, {a.run}")
        with f.loop("0", count, carried=[(ty, zero) for zero in zeros], hint="run") as runs:
            runs.next = _emit_terms(f, a.within(f, runs.index), b, f.mul(runs.index, str(a.run)),
                                    str(a.run), ty, runs.carried)
        sums = runs.results
    return [sums[r * vectors:(r + 1) * vectors] for r in range(height)]


def _emit_terms(f: Function, a: RowSource, b: PanelSource, first: str, count: str, ty: str,
                sums: list[str]) -> list[str]:
    """So many terms added: A's from its start on, B's from `first` on."""
    with f.loop("0", count, carried=[(ty, x) for x in sums], hint="k") as loop:
        columns, moved, following = b.load(f, f.add(first, loop.index)), {}, []
        for r in range(len(a.bases)):
            element = a.load(f, r, moved, loop.index, ty)
            for column in columns:
                following.append(f.intrinsic("fmuladd", ty, element, column,
                                             loop.carried[len(following)]))
        loop.next = following
    return loop.results


# -- the epilogue ----------------------------------------------------------------------------------
class Coords:
    """Where a finished vector of sums belongs, for the epilogue.

    `load` is all that most epilogues need: it gives the values of any operand described like C (the
    same batch, row and column extents; stride 0 where it does not vary), converted to the type of
    the sums. It stays right however the product was rearranged, which the plain registers (`batch`,
    `row`, `col`, all i64; the vector runs along `col`) do not promise.
    """

    def __init__(self, store: Finished, row: str, vector: int):
        self.f, self._store, self.row, self._vector = store.f, store, row, vector
        self.batch, self.lanes = store.batch, store.lanes
        self.mask = store.masks[vector]

    @property
    def col(self) -> str:
        """The column of lane 0."""
        return self._store.once(("col", self._vector), lambda: self.f.add(
            self._store.col, str(self._vector * self.lanes)))

    def extra(self, i: int) -> str:
        """Pointer `i` of the array %extra."""
        return self._store.once(("extra", i), lambda: self.f.load(
            "ptr", self.f.gep("ptr", "%extra", str(i))))

    def load(self, pointer: str, operand: Operand) -> str:
        """The operand's values at these elements; `pointer` is its buffer."""
        view = self._store.view(operand)
        element = MEMORY_TYPE[view.dtype]
        rows = merged(view.rows)
        varies = any(axis.stride != 0 for axis in rows)
        base = self._store.once((pointer, view, "batch"), lambda: self.f.gep(
            element, pointer, emit_offset(self.f, view.batch, self.batch)))
        if varies:
            base = self._store.once((pointer, view, self.row), lambda: self.f.gep(
                element, base, emit_offset(self.f, rows, self.row)))
        cols = merged(view.cols)
        constant = all(axis.stride == 0 for axis in cols)
        key = (pointer, view, varies and self.row, None if constant else self._vector, "value")
        return self._store.once(key, lambda: self._load_cols(view, element, base, cols, constant))

    def _load_cols(self, view: View, element: str, base: str, cols, constant: bool) -> str:
        f, width = self.f, self.lanes
        if constant:
            value = widen(f, f.load(element, base), view.dtype, None)
            return splat(f, self._converted(value, view.dtype, None), self._store.ty)
        if len(cols) == 1 and cols[0].stride == 1:
            reach = Reach("contiguous", width, [(self.col, self.mask)])
        else:
            reach = Reach("gather", width, [(self._lane_offsets(cols), self.mask)])
        value = widen(f, reach.load(f, element, base), view.dtype, width)
        return self._converted(value, view.dtype, width)

    def _converted(self, value: str, dtype: str, width: int | None) -> str:
        """A widened value of a float dtype in the type of the sums."""
        have, want = "double" if dtype == "f64" else "float", element_type(self._store.ty)
        if have == want:
            return value
        vector = "<{} x {}>" if width else "{1}"
        return self.f.op(f"{'fptrunc' if have == 'double' else 'fpext'} "
                         f"{vector.format(width, have)} {value} to {vector.format(width, want)}")

    def _lane_offsets(self, cols) -> str:
        return self._store.once(("lanes", cols, self._vector), lambda: vector_offsets(
            self.f, cols, self.col, self.lanes))


def vector_offsets(f: Function, axes, first: str, width: int) -> str:
    """The offsets of elements first, first + 1, ... as a vector (divides in every lane: slow)."""
    ty = f"<{width} x i64>"
    index = f.op(f"add {ty} {splat(f, first, ty)}, {counting(width)}")
    total = "zeroinitializer"
    for position in reversed(range(len(axes))):
        extent = splat(f, text_of(axes[position].extent), ty)
        digit = index
        if position:
            digit = f.op(f"urem {ty} {index}, {extent}")
            index = f.op(f"udiv {ty} {index}, {extent}")
        part = f.op(f"mul {ty} {digit}, {splat(f, text_of(axes[position].stride), ty)}")
        total = f.op(f"add {ty} {total}, {part}")
    return total


@record
class Finished:
    """The place of one tile of sums in C."""

    f: Function
    ty: str                     # of a vector of sums
    lanes: int
    arrangement: Arrangement
    batch: str
    rows: list[str]             # row indices, those past the last one repeating it
    col: str                    # first column
    masks: list[str | None]     # lanes that are columns, for each vector
    epilogue: Callable | None
    known: dict = fresh(dict)

    def once(self, key, emit: Callable[[], str]) -> str:
        """What `emit` gives, emitted at most once in this tile."""
        if key not in self.known:
            self.known[key] = emit()
        return self.known[key]

    def view(self, operand: Operand) -> View:
        return self.arrangement.of(operand)

    def value(self, sum_: str, r: int, v: int) -> str:
        """The sums of vector `v` of row `r`, after the epilogue."""
        if self.epilogue is None:
            return sum_
        return self.epilogue(self.f, self.ty, sum_, Coords(self, self.rows[r], v))

    def store(self, sums: list[list[str]], dtype: str, places: list[str],
              reaches: list[Reach]) -> None:
        """Store the tile, last row first; `places` are the pointers to C's rows."""
        for r in reversed(range(len(sums))):
            for v, reach in enumerate(reaches):
                value = narrow(self.f, self.value(sums[r][v], r, v), dtype, self.lanes)
                reach.store(self.f, MEMORY_TYPE[dtype], value, places[r])
