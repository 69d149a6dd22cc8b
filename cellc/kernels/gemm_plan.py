"""Decisions about one matrix product, made once when its code is generated.

`arrange` brings the product into the form the emitters want: batch axes that one operand does not
have become rows or columns of the other two, and A and B change places (C^T = B^T A^T) where that
makes vectors cheaper to load or store. `schedule` then chooses the register tile, the blocks, what
to pack, and how the work is shared out.
"""

from __future__ import annotations

import math

from cellc.kernels.gemm_view import (
    BITS,
    CONVERTED,
    EXACT_TERMS,
    Axis,
    Operand,
    Strip,
    count,
    merged,
)
from cellc.kernels.target import TASK_SECONDS, Target
from cellc.record import record

ASSUMED = 128               # what a size that is only known at run time is taken for
FEW_ROWS = 8                # of B at a time, when it is only read once
FEW_COLUMNS = 8             # vectors of them: fewer are always joined by batch axes
MASKS_COST = 1.5            # of a tile whose loads are masked by a CPU that has no masks
# What it costs to bring an element near, in vector multiply-adds, by the way it is packed.
A_COST = {None: 0.15, "rows": 0.5, "cols": 1.3}
B_COST = {None: 0.15, "strip": 0.35, "transpose": 0.5}
MANY_THREADS = 5            # of so many some are slower than others, whose cores they share;
EACH = 3                    # a slow one leaves some of its tasks to them,
LONG_TASK = 3               # where they are this many times as long as the shortest worth sharing
CLOSE = 1.01                # a smaller advantage is none
PART_UNIT = 16              # parts of a cut sum are multiples of this long
TILE_ROWS_BYTES = 20 << 10  # of A, in first-level caches of 32 and of 48 KiB:
NEAR_ROWS, NEAR_OTHERS = 8, 12  # elements for each term: more where they lie across lines, or are
                                # copied, which longer and narrower blocks of B would repeat
SHORT_RUN, LONG_RUN = 24, 384       # terms that lie in one stride in A
PART_SECONDS = 20e-6         # no part of a cut sum is shorter


@record(frozen=True)
class View:
    """An operand after `arrange`: all batch axes that are left, then the two matrix indices."""

    dtype: str
    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    cols: tuple[Axis, ...]


@record(frozen=True)
class Arrangement:
    """How the caller's batch, row and column index map to those the code loops over."""

    batch: tuple[int, ...]          # positions of the batch axes that stay
    to_rows: tuple[int, ...]        # those that became outer row digits
    to_cols: tuple[int, ...]
    swapped: bool

    def of(self, operand: Operand) -> View:
        """A C-shaped operand (C itself, a bias, a residual) as the code sees it."""
        rows = (*(operand.batch[i] for i in self.to_rows), *operand.rows)
        cols = (*(operand.batch[i] for i in self.to_cols), *operand.cols)
        if self.swapped:
            rows, cols = cols, rows
        return View(operand.dtype, tuple(operand.batch[i] for i in self.batch), rows, cols)


def assumed(axes) -> int:
    """How many elements an index has, or is taken to have."""
    return math.prod(x.extent if isinstance(x.extent, int) else ASSUMED for x in axes)


@record(frozen=True)
class Product:
    """The arranged product; A's columns and B's rows are the index summed over."""

    a: View
    b: View
    c: View
    arrangement: Arrangement

    @property
    def m(self) -> int | None:
        return count(self.c.rows)

    @property
    def n(self) -> int | None:
        return count(self.c.cols)

    @property
    def k(self) -> int | None:
        return count(self.a.cols)

    @property
    def batches(self) -> int | None:
        return count(self.c.batch)

    def assumed(self) -> tuple[int, int, int, int]:
        """m, n, k and the number of batches, with `ASSUMED` for each unknown size."""
        return tuple(map(assumed, (self.c.rows, self.c.cols, self.a.cols, self.c.batch)))

    @property
    def sum_dtype(self) -> str:
        return "f64" if self.a.dtype == "f64" else "f32"


def arrange(a: Operand, b: Operand, c: Operand, target: Target) -> Product:
    """The cheapest of: A and B as they are or in each other's place, and batch axes that A has not
    as columns or left alone. Where there are few columns, these axes always join them."""
    n_lanes = target.lanes(64 if a.dtype == "f64" else 32)
    stay, to_rows, to_cols = [], [], []
    for i, axis in enumerate(c.batch):
        if axis.extent == 1:
            continue
        if b.batch[i].stride == 0 and a.batch[i].stride != 0:
            to_rows.append(i)
        elif a.batch[i].stride == 0 and _joins_columns(c, i, n_lanes):
            to_cols.append(i)
        else:
            stay.append(i)
    def best(stay: list[int], to_cols: list[int]) -> Product:
        both = [_product(a, b, c, Arrangement(tuple(stay), tuple(to_rows), tuple(to_cols), swapped))
                for swapped in (False, True)]
        return min(both, key=lambda p: cycles(p, target))

    joined = best(stay, to_cols)
    if not to_cols or count(c.cols) < FEW_COLUMNS * n_lanes:
        return joined
    alone = best(sorted(stay + to_cols), [])
    return joined if CLOSE * cycles(joined, target) < cycles(alone, target) else alone


FAMILIES = ({"f64"}, {"f32", "f16", "bf16"}, {"i8", "i32"}, {"u8", "i32"})


def check_operands(a: Operand, b: Operand, c: Operand) -> None:
    """Refuse operands that do not fit each other."""
    dtypes = {a.dtype, b.dtype, c.dtype}
    if not any(dtypes <= family for family in FAMILIES) or (c.dtype == "i32") != (
            a.dtype in EXACT_TERMS):
        raise ValueError(f"matrix product: no product of {a.dtype} and {b.dtype} in {c.dtype}")
    for name, left, right in (("row", a.rows, c.rows), ("column", b.cols, c.cols),
                              ("summed", a.cols, b.rows)):
        if count(left) != count(right):
            raise ValueError(f"matrix product: {name} extents differ: {left} and {right}")
    for operand in (a, b):
        if [x.extent for x in operand.batch] != [x.extent for x in c.batch]:
            raise ValueError(f"matrix product: batch extents differ: {operand.batch} and {c.batch}")


def _joins_columns(c: Operand, i: int, n_lanes: int) -> bool:
    """Whether batch axis `i`, absent in A, can make columns longer: they are still stored in a few
    pieces afterwards."""
    return (count(c.cols) is not None and isinstance(c.batch[i].extent, int)
            and Strip((c.batch[i], *c.cols), n_lanes).kind in ("contiguous", "runs"))


def _product(a: Operand, b: Operand, c: Operand, arrangement: Arrangement) -> Product:
    stay, to_rows, to_cols = arrangement.batch, arrangement.to_rows, arrangement.to_cols
    view_a = View(a.dtype, tuple(a.batch[i] for i in stay),
                  (*(a.batch[i] for i in to_rows), *a.rows), a.cols)
    view_b = View(b.dtype, tuple(b.batch[i] for i in stay),
                  b.rows, (*(b.batch[i] for i in to_cols), *b.cols))
    if arrangement.swapped:
        view_a, view_b = (View(x.dtype, x.batch, x.cols, x.rows) for x in (view_b, view_a))
    return Product(view_a, view_b, arrangement.of(c), arrangement)


# -- what a choice costs, in cycles a vector instruction takes -------------------------------------
USUAL_BLOCK = 512           # terms, after which sums go through memory
LOAD_COST = {"contiguous": 1.0, "uniform": 1.0, "runs": 3.0, "gather": 24.0}
TRANSPOSE_COST = 4.0


def cycles(p: Product, target: Target) -> float:
    """A rough estimate, good enough to tell the two orientations apart."""
    m, n, k, batches = (max(x, 1) for x in p.assumed())
    lanes = target.lanes(BITS[p.sum_dtype])
    tile = choose_tile(target, BITS[p.sum_dtype], m, n)
    tiles = math.ceil(m / tile.rows) * math.ceil(n / (tile.vectors * lanes))
    total = tiles * k * tile.cycles
    b, kind_c = Strip(p.b.cols, lanes, read=True), Strip(p.c.cols, lanes).kind
    inner_k = merged(p.b.rows)
    along_k = inner_k and inner_k[-1].stride == 1
    load = b.every * LOAD_COST[b.kind]
    per_vector = min(load, TRANSPOSE_COST) if along_k else load
    total += per_vector * k * math.ceil(n / lanes)
    total += 3 * (LOAD_COST[kind_c] + k // USUAL_BLOCK) * m * math.ceil(n / lanes)
    if (k_uniform(p.a) is None and run_of(p.a, target) is None) or p.a.dtype in CONVERTED:
        rows = Strip(p.a.cols, lanes).kind, Strip(p.a.rows, lanes).kind
        total += 3 * min(LOAD_COST[kind] for kind in rows) * m * math.ceil(k / lanes)
    return batches * total


def k_uniform(a: View) -> int | str | None:
    """The stride of A's summed index where it has only one."""
    axes = merged(a.cols)
    if not axes:
        return 1
    return axes[0].stride if len(axes) == 1 else None


def run_of(a: View, target: Target) -> int | None:
    """How long the runs are in which A can be read in place along an index summed over that has
    several strides; None where it has one, or runs are short or a CPU would rather copy them."""
    axes = merged(a.cols)
    if len(axes) < 2 or a.dtype in CONVERTED or not all(
            isinstance(n, int) for n in (axes[-1].extent, axes[-1].stride)):
        return None
    if not target.masks and axes[-1].stride != 1:
        return None
    longest = max(n for n in range(1, LONG_RUN + 1) if axes[-1].extent % n == 0)
    return longest if longest >= SHORT_RUN else None


def runs_of(a: View, run: int | None) -> tuple[Axis, ...]:
    """A's summed index, a run for an element."""
    if run is None:
        return ()
    *outer, inner = merged(a.cols)
    return *outer, Axis(inner.extent // run, run * inner.stride)


# -- the schedule ----------------------------------------------------------------------------------
@record(frozen=True)
class Tile:
    """The part of C held in registers: `rows` times `vectors` vectors."""

    rows: int
    vectors: int
    cycles: float           # for one value of k


def choose_tile(target: Target, bits: int, m: int, n: int) -> Tile:
    """The tile that computes M x N in the fewest cycles, padding included."""
    lanes, best = target.lanes(bits), None
    for vectors in range(1, 9):
        most = min((target.vector_registers - vectors - 1) // vectors, 14 if vectors > 1 else 8)
        if most < 1 or vectors > max(math.ceil(n / lanes), 1):
            break
        if vectors == 2:
            most = min(most, 8)             # enough to hide latencies; 12 are 1 to 3% slower
        even = max(rows for rows in range(1, most + 1) if m % rows == 0)
        for rows in (most, min(most, 8), even):     # 8 may divide M; it is less code, too
            tall = math.ceil(m / math.ceil(max(m, 1) / rows)) if m else 1
            cycles = tile_cycles(tall, vectors, target)
            if not target.masks and n % (vectors * lanes):
                cycles *= MASKS_COST
            tiles = math.ceil(m / tall) * math.ceil(n / (vectors * lanes))
            if best is None or tiles * cycles < best[0]:
                best = tiles * cycles, Tile(tall, vectors, cycles)
    return best[1]


def tile_cycles(rows: int, vectors: int, target: Target) -> float:
    """What a tile takes for one value of k: multiply-adds, or loads, and what they wait for."""
    busy = max(rows * vectors, rows + vectors, target.chains)
    return busy + 0.2 * rows + 0.5 * vectors


@record(frozen=True)
class Schedule:
    """Block sizes and packing of one product."""

    tile: Tile
    lanes: int
    block_k: int | None     # None: all of it
    block_n: int
    pack_a: str | None      # None, "rows" (vectors along k) or "cols" (vectors along m)
    pack_b: str | None      # None, "strip" (vectors along n) or "transpose" (along k)
    parts: int              # the sum is cut into this many, added up by a second function
    part_k: int | None      # how long each is; None where that is known only at run time, then
    part_unit: int          # it is a multiple of this
    run: int | None         # terms of A that lie in one stride, where not all of them do
    partial: bool           # results go through a buffer of sums first

    def writes_once(self, p: Product) -> bool:
        """Whether each element of C is written once, its sums done. (Rows past the last one compute
        the last one again.)"""
        whole = p.m is not None and p.m % self.tile.rows == 0
        return self.partial or (self.single and whole)

    @property
    def width(self) -> int:
        """Columns of a tile."""
        return self.tile.vectors * self.lanes

    @property
    def single(self) -> bool:
        """Whether each part of k is one block."""
        return self.block_k is None or (self.part_k is not None and self.part_k <= self.block_k)

    def units(self, p: Product) -> int:
        """How many pieces the work can be shared out in."""
        m, n, _, batches = p.assumed()
        rows, blocks = math.ceil(m / self.tile.rows), math.ceil(n / self.block_n)
        return max(self.parts * batches * rows * blocks, 1)

    @property
    def a_pitch(self) -> int:
        """Elements between packed rows of A; not a power of two, or rows would share cache sets."""
        return -(-self.block_k // self.lanes) * self.lanes + self.lanes


def schedule(p: Product, target: Target) -> Schedule:
    bits = BITS[p.sum_dtype]
    lanes = target.lanes(bits)
    m, n, k, _ = p.assumed()
    tile = choose_tile(target, bits, max(m, 1), max(n, 1))
    width = tile.vectors * lanes
    run = run_of(p.a, target)
    unit = run or PART_UNIT
    parts, part_k, partial = split(p, target, tile, width, unit)
    pack_a = _pack_a(p, target, tile, lanes, n, k)
    in_place = pack_a is None and (merged(p.a.cols) or (Axis(1, 1),))[-1].stride in (0, 1)
    block_k = _block_k(bits, target, part_k, NEAR_ROWS if in_place else NEAR_OTHERS)
    if run:
        block_k = -(-block_k // run) * run
    narrow = p.c.dtype != p.sum_dtype
    scattered = Strip(p.c.cols, lanes).kind == "gather" and None not in (p.m, p.n, p.batches)
    if p.a.dtype in EXACT_TERMS:
        block_k = min(block_k, EXACT_TERMS[p.a.dtype])
    elif scattered and part_k is not None and part_k > block_k:
        partial = True                  # sums meet in a dense buffer and are moved once
    elif narrow and not partial:
        block_k = max(k, 1)             # blocks of k would meet in C, rounded
    pack_b = _pack_b(p, target, tile, lanes, m, block_k)
    fits = int(0.8 * target.l2_bytes) // (block_k * bits // 8) if pack_b else max(4 * width, 1024)
    streamed = m == 1 and pack_b is None and k > FEW_ROWS and not run
    if streamed and Strip(p.c.cols, lanes).plain and not narrow:
        block_k, fits = FEW_ROWS, target.l1_bytes // (2 * bits // 8)
    block_n = _block_n(p, target, tile, fits, A_COST[pack_a], B_COST[pack_b], parts)
    return Schedule(tile, lanes, block_k, block_n, pack_a, pack_b, parts, part_k, unit, run,
                    partial)


def _block_k(bits: int, target: Target, part_k: int | None, near: int) -> int:
    """A tile's rows of A stay in the first-level cache while B streams by."""
    room = min(int(0.63 * target.l1_bytes), TILE_ROWS_BYTES)
    most = max(64, room // (near * bits // 8) // 64 * 64)
    if part_k is None:
        return most
    k = max(part_k, 1)
    blocks = 1 if k <= most * 1.34 else math.ceil(k / most)
    return -(-math.ceil(k / blocks) // 4) * 4 if blocks > 1 else k


def _pack_a(p: Product, target: Target, tile: Tile, lanes: int, n: int, k: int) -> str | None:
    """A tile's rows are copied where they have no single stride along k, have to be converted for
    every panel, or lie across it where a CPU has few registers, so that it loads often."""
    uniform, width = k_uniform(p.a), tile.vectors * lanes
    if uniform is not None and not (p.a.dtype in CONVERTED and n > width):
        panels = 2 if not isinstance(uniform, int) or uniform > 64 else max(512 // width, 2)
        if uniform == 1 or target.masks or n < panels * width or k < 32 or tile.rows <= 2:
            return None
    along_k = Strip(p.a.cols, lanes).kind
    along_m = Strip(p.a.rows, lanes).kind
    if uniform is None and run_of(p.a, target) is not None:
        return None
    return "cols" if LOAD_COST[along_m] < LOAD_COST[along_k] else "rows"


def _pack_b(p: Product, target: Target, tile: Tile, lanes: int, m: int, block_k: int) -> str | None:
    """B is copied into panels where it is used often enough, or cannot be read by vectors.

    As it lies it is used longer where masks cost nothing: if its rows begin at cache lines and half
    of the second-level cache holds a block; or windows, nine of which may share an element.
    """
    strip, rows = Strip(p.b.cols, lanes, tile.vectors, True, read=True), merged(p.b.rows)
    along_k = bool(rows) and rows[-1].stride == 1
    if strip.kind == "gather" and along_k:
        return "transpose"
    limit = {"contiguous": 8, "uniform": 4, "runs": 2, "gather": 1}[strip.kind]
    if target.masks and strip.kind == "contiguous" and len(rows) == 1:
        row = rows[0].stride * (BITS[p.b.dtype] // 8) if isinstance(rows[0].stride, int) else 1
        if row % 64 == 0 and block_k * row <= target.l2_bytes // 2:
            limit = 64
    elif target.masks and along_k and strip.runs in (1, 2) and strip.every == 1:
        limit = 12
    elif not target.masks and strip.runs > 1:
        limit = 0
    return "strip" if math.ceil(m / tile.rows) > limit else None


def _block_n(p: Product, target: Target, tile: Tile, fits: int, near_a: float, near_b: float,
             parts: int) -> int:
    """Columns of a block: at most `fits`, and such that the longest task is the shortest.

    Each brings near whatever blocks of B it meets, at `near_b` an element, and its rows of A once
    for each: many tasks divide rows and columns between them, few the rows alone.
    """
    lanes = target.lanes(BITS[p.sum_dtype])
    width = tile.vectors * lanes
    fits = max(fits // width, 1)
    if p.n is None:
        return fits * width
    m, n, k, batches = p.assumed()
    panels = math.ceil(max(n, 1) / width)
    tasks = -(-shares(2 * m * n * k * batches, 0, target) // parts)
    if tasks == 1 or m * n * k * batches < 1e6:
        return math.ceil(panels / math.ceil(panels / fits)) * width
    tall = math.ceil(m / tile.rows)

    def longest(block: int) -> float:
        """Of the longest task, for one value of k."""
        blocks = math.ceil(panels / block)
        share = math.ceil(batches * blocks * tall / tasks)
        met = math.ceil(share / tall) + (share % tall != 0 and tall % share != 0)
        return (share * block * tile.rows * tile.vectors + share * tile.rows * near_a
                + min(met, blocks * batches) * block * width * near_b)

    sizes = {math.ceil(panels / blocks) for blocks in range(math.ceil(panels / fits), panels + 1)}
    least = min(map(longest, sizes))
    return max(size for size in sizes if longest(size) <= CLOSE * least) * width


def split(p: Product, target: Target, tile: Tile, width: int,
          unit: int) -> tuple[int, int | None, bool]:
    """Cut a sum where the result alone has too few tiles for the cores. (Threads are another thing:
    results must not depend on their number.)

    A sum much longer than the result is wide is cut sooner: blocks of columns would have every
    thread read all of A. Gives the number of parts, their length, and whether sums go through a
    buffer.
    """
    if p.a.dtype in EXACT_TERMS:
        return 1, p.k, False            # blocks of k meet in C, which is as exact as they are
    partial = p.c.dtype != p.sum_dtype and (p.k is None or p.k > 512)
    m, n, k, batches = p.assumed()
    tiles = math.ceil(m / tile.rows) * math.ceil(n / width) * batches
    long = k >= 16 * max(m, n)
    if target.cores == 1 or tiles == 0 or tiles >= (8 if long else 2) * target.cores:
        return 1, p.k, partial
    elements = batches * (m * BITS[p.a.dtype] + n * BITS[p.b.dtype]) / 8
    seconds = max(2 * batches * m * n / target.flops_per_second, elements / target.bytes_per_second)
    wanted = 4 * target.cores if long else math.ceil(4 * target.cores / tiles)
    parts = min(wanted, int(k * seconds / PART_SECONDS))
    if parts <= 1:
        return 1, p.k, partial
    if p.k is None:
        return parts, None, True
    part_k = -(-math.ceil(k / parts) // unit) * unit
    return -(-k // part_k), part_k, True


# -- what the caller is told -----------------------------------------------------------------------
@record(frozen=True)
class GemmPlan:
    """What the caller of an emitted product has to provide, and what it may expect."""

    name: str
    reduce_name: str | None         # to be run, as tasks too, after all tasks of `name` are done
    symbols: tuple[str, ...]        # sizes known at run time: further i64 arguments, in this order
    flops: int                      # symbolic sizes counted as ASSUMED
    bytes: int                      # memory touched at least once
    max_tasks: int                  # more would each have too little to do; any number is correct
    reduce_tasks: int               # the same for the second function
    scratch_per_task: int           # bytes
    partial_extents: tuple[int | str, ...]      # of the shared buffer of partial sums, () for none
    schedule: Schedule | None       # None for products done without tiles
    written_once: bool              # C may lie over what the epilogue reads at the same places

    def scratch_bytes(self, n_tasks: int, sizes: dict[str, int] | None = None) -> int:
        """The scratch memory for `n_tasks` tasks; it starts at a multiple of 64."""
        return self.partial_bytes(sizes) + n_tasks * self.scratch_per_task

    def partial_bytes(self, sizes: dict[str, int] | None = None) -> int:
        if not self.partial_extents:
            return 0
        extents = [x if isinstance(x, int) else sizes[x] for x in self.partial_extents]
        return -(-math.prod(extents) // 64) * 64


def shares(flops: float, moved: float, target: Target) -> int:
    """How many tasks the threads share a product in: one each, or several long ones."""
    worth, several = tasks_worth(flops, moved, target), EACH * target.threads
    if target.threads >= MANY_THREADS and worth >= LONG_TASK * several:
        return several
    return min(worth, target.threads)


def tasks_worth(flops: float, moved: float, target: Target) -> int:
    """How many tasks of at least TASK_SECONDS the work makes."""
    return max(1, int(seconds_alone(flops, moved, target) / TASK_SECONDS))


def seconds_alone(flops: float, moved: float, target: Target) -> float:
    """How long one thread is likely to take."""
    return max(flops / target.flops_per_second, moved / target.bytes_per_second)
