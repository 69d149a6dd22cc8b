"""Decisions about a convolution that reads its images where they lie (`gemm_direct`).

`Edge` says where there is padding instead of an image; `is_worth` whether to leave it out is better
than a product in blocks, and `schedule` chooses the tile, and which of its columns meet what.
"""

from __future__ import annotations

import math

from cellc.kernels.gemm_plan import Tile, assumed, tile_cycles
from cellc.kernels.gemm_view import (
    BITS,
    EXACT_TERMS,
    Axis,
    Operand,
    Strip,
    ceil_div,
    count,
    emit_maximum,
    emit_minimum,
    emit_subtract,
    merged,
    product,
)
from cellc.kernels.target import Target
from cellc.kernels.text import Function
from cellc.record import record

MOST_ROWS = 14              # columns of all images of a tile
PANEL_SHARE = 0.75          # of the second-level cache
WIDER = 1.02                # what a wider panel has to win: it takes more of the cache
SPARE = 2                   # registers: one for an element; LLVM needs the other to move sums
MOST_TAPS = 8               # of the innermost columns, which are written out
MOST_PATTERNS = 4           # of columns at edges in a tile: each is code of its own
PACK_COST = {"strip": 1.5, "runs": 0.6}         # an element, in vector multiply-adds
LEAST_RUN = 4               # elements of A side by side that are better turned than gathered


@record(frozen=True)
class Edge:
    """Where B is zero, and not in memory: where col * step + tap * dilation - low is not within
    0 .. size - 1. `col` and `tap` are the places of axes among B's columns and its rows."""

    col: int
    tap: int
    step: int
    dilation: int
    low: int
    size: int

    def holds(self, col: int, tap: int) -> bool:
        return 0 <= col * self.step + tap * self.dilation - self.low < self.size

    def taps(self, f: Function, col: str, extent: int) -> tuple[str, str]:
        """The first tap that meets B at `col`, and the one behind the last."""
        ahead = f.mul(col, str(self.step))
        bounds = []
        for place in (self.low, self.size + self.low):
            left = emit_maximum(f, emit_subtract(f, str(place), ahead), "0")
            bounds.append(emit_minimum(f, ceil_div(f, left, self.dilation), str(extent)))
        return bounds[0], bounds[1]


@record(frozen=True)
class Segment:
    """Tiles first .. first + tiles - 1 of a row: which of a tile's columns meet B at each tap."""

    first: int
    tiles: int
    met: tuple[tuple[int, ...], ...]


@record(frozen=True)
class Schedule:
    """The tile of one convolution: so many columns of so many images, times vectors of rows."""

    tile: Tile
    pixels: int
    images: int
    lanes: int
    segments: tuple[Segment, ...]

    @property
    def width(self) -> int:
        """Rows of A in a tile."""
        return self.tile.vectors * self.lanes


def is_possible(a: Operand, b: Operand, c: Operand, edges: tuple[Edge, ...]) -> bool:
    """Whether the product has this form: sizes known but for batches, indices cut in the same way,
    C contiguous along its last columns, one edge for an axis, few taps to write out."""
    axes = [axis for o in (a, b, c) for axis in (*o.rows, *o.cols)]
    sizes = [x for axis in axes for x in (axis.extent, axis.stride)]
    if (not all(isinstance(x, int) for x in sizes) or 0 in sizes[::2] or a.dtype in EXACT_TERMS
            or not c.cols or c.cols[-1].stride != 1 or not b.rows):
        return False
    if any([x.extent for x in one] != [x.extent for x in other] for one, other in (
            (a.rows, c.rows), (a.cols, b.rows), (b.cols, c.cols))):
        return False
    used = [x for edge in edges for x in (("col", edge.col), ("tap", edge.tap))]
    tap, last = written_out(b, edges), len(b.cols) - 1
    return (len(set(used)) == len(used) and b.rows[tap].extent <= MOST_TAPS
            and all(edge.tap != tap or edge.col == last for edge in edges))


def is_worth(a: Operand, b: Operand, c: Operand, edges: tuple[Edge, ...], otherwise: float,
             target: Target) -> bool:
    """Whether it takes less than `otherwise`, the cycles of a product in blocks. Only where windows
    overlap: blocks would be packed, with each element of B in several places."""
    if not is_possible(a, b, c, edges) or not _overlaps(b):
        return False
    s = schedule(a, b, c, edges, target)
    return (len(s.segments) <= MOST_PATTERNS and _panel_bytes(a, s.width) <= target.l2_bytes
            and cycles(a, b, c, edges, s) < otherwise)


def _panel_bytes(a: Operand, width: int) -> int:
    """Of so many rows of A, packed: they are read again for each tile."""
    return count(a.cols) * width * (8 if a.dtype == "f64" else 4)


def _overlaps(b: Operand) -> bool:
    """Whether some element is at several places of B."""
    axes = (*b.rows, *b.cols)
    span = 1 + sum((axis.extent - 1) * abs(axis.stride) for axis in axes)
    return span < math.prod(axis.extent for axis in axes)


def written_out(b: Operand, edges: tuple[Edge, ...]) -> int:
    """The place of the summed axis whose taps are written out: that at the edges of the innermost
    columns; where these have none, the last one without any, which there has to be."""
    last = len(b.cols) - 1
    for edge in edges:
        if edge.col == last:
            return edge.tap
    free = [i for i in range(len(b.rows)) if all(edge.tap != i for edge in edges)]
    return free[-1] if free else len(b.rows) - 1


def schedule(a: Operand, b: Operand, c: Operand, edges: tuple[Edge, ...],
             target: Target) -> Schedule:
    """The tile that takes least, waste included."""
    lanes = target.lanes(BITS["f64" if a.dtype == "f64" else "f32"])
    m, columns = count(a.rows), c.cols[-1].extent
    images = max((axis.extent for axis, own in zip(c.batch, a.batch, strict=True)
                  if own.stride == 0 and isinstance(axis.extent, int)), default=1)
    best = None
    for vectors in range(1, min(4, math.ceil(m / lanes)) + 1):
        most = min((target.vector_registers - vectors - SPARE) // vectors, MOST_ROWS)
        if most < 1 or (best and _panel_bytes(a, vectors * lanes) > PANEL_SHARE * target.l2_bytes):
            break
        wide = min(most, lanes, columns)
        for pixels in {math.ceil(columns / math.ceil(columns / most_)) for most_ in
                       range(max(wide // 2, 1), wide + 1)}:
            together = max(min(most // pixels, images), 1) if pixels == columns else 1
            rows = pixels * together
            tiles = (math.ceil(m / (vectors * lanes)) * math.ceil(columns / pixels)
                     * math.ceil(images / together))
            cycles = tile_cycles(rows, vectors, target)
            wider = best is not None and vectors > best[1].vectors
            if best is None or tiles * cycles * (WIDER if wider else 1) < best[0]:
                best = tiles * cycles, Tile(rows, vectors, cycles), pixels, together
    _, tile, pixels, together = best
    return Schedule(tile, pixels, together, lanes, _segments(b, edges, columns, pixels))


def _segments(b: Operand, edges: tuple[Edge, ...], columns: int,
              pixels: int) -> tuple[Segment, ...]:
    """Tiles side by side; the last one may begin earlier, and computes some columns again."""
    tap = written_out(b, edges)
    edge = next((e for e in edges if e.col == len(b.cols) - 1), None)
    segments: list[Segment] = []
    for tile in range(math.ceil(columns / pixels)):
        start = min(tile * pixels, columns - pixels)
        met = tuple(tuple(j for j in range(pixels) if edge is None or edge.holds(start + j, t))
                    for t in range(b.rows[tap].extent))
        if segments and segments[-1].met == met:
            segments[-1] = Segment(segments[-1].first, segments[-1].tiles + 1, met)
        else:
            segments.append(Segment(tile, 1, met))
    return tuple(segments)


def cycles(a: Operand, b: Operand, c: Operand, edges: tuple[Edge, ...], s: Schedule) -> float:
    """What it takes, to compare with `gemm_plan.cycles`."""
    m, columns, k = count(a.rows), c.cols[-1].extent, count(a.cols)
    batches = assumed(c.batch)
    rows = assumed(c.cols[:-1])
    share = 1.0                 # of the terms that meet B
    for edge in edges:
        col, tap = b.cols[edge.col].extent, b.rows[edge.tap].extent
        share *= sum(edge.holds(i, t) for i in range(col) for t in range(tap)) / (col * tap)
    tiles = math.ceil(m / s.width) * math.ceil(columns / s.pixels) * batches * rows / s.images
    weights = product(axis.extent for axis, own in zip(c.batch, a.batch, strict=True)
                      if own.stride != 0) or 1
    packed = weights * m * k * PACK_COST[packing(a, terms_of(a, b, edges), s)]
    return tiles * k * share * s.tile.cycles + packed


def packing(a: Operand, terms: tuple[Axis, ...], s: Schedule) -> str:
    """How A becomes a panel, by `gemm_pack`."""
    if Strip(a.rows, s.lanes).kind == "gather" and run_length(terms) >= LEAST_RUN:
        return "runs"
    return "strip"


def order_of(b: Operand, edges: tuple[Edge, ...]) -> tuple[int, ...]:
    """The summed axes as they are gone through: the taps that are written out innermost."""
    tap = written_out(b, edges)
    return *(i for i in range(len(b.rows)) if i != tap), tap


def terms_of(a: Operand, b: Operand, edges: tuple[Edge, ...]) -> tuple[Axis, ...]:
    """A's summed index as a panel has it: in that order, flipped axes from their ends in memory."""
    return tuple(Axis(a.cols[i].extent, abs(a.cols[i].stride)) for i in order_of(b, edges))


def run_length(axes: tuple[Axis, ...]) -> int:
    """How many elements of an index lie side by side in memory."""
    inner = merged(axes)[-1:]
    return inner[0].extent if inner and inner[0].stride == 1 else 1
