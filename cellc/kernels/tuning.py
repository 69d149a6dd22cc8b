"""tuning: schedules of products by measurement, where the user asks for it (`autotune`).

What the model of `gemm_plan` chooses is the first of several: each is compiled and run on as many
threads as programs use, beside the best one so far, and takes its place where it is clearly faster.
First come tiles, then whether the operands are copied together, then blocks of columns. What was
found is remembered beside the objects, so one machine measures a product once.

Whatever is chosen gives the same bits: schedules that are tried differ in who computes what and
from where, not in how an element is summed.
"""

from __future__ import annotations

import ctypes
import hashlib
import marshal
import math
import time
from collections.abc import Iterator

import numpy as np

from cellc.kernels import engine, llvm, runtime
from cellc.kernels.gemm_blocked import Blocked
from cellc.kernels.gemm_plan import (
    FEW_ROWS,
    Product,
    Schedule,
    Tile,
    View,
    k_uniform,
    shares,
    tile_cycles,
)
from cellc.kernels.gemm_view import BITS, CONVERTED
from cellc.kernels.target import Target
from cellc.kernels.text import Function, Module
from cellc.record import changed

CODEGEN = 1
ARGUMENTS = [*(("ptr", x) for x in ("a", "b", "c", "extra", "scratch")), ("i64", "task"),
             ("i64", "n_tasks")]
TILES = 8                   # so many are tried, those first that the model likes
HEIGHTS = (14, 12, 10, 8, 6, 5, 4)
ROUNDS = 7                  # of one schedule and the best so far, in turns
ROUND_SECONDS = 2e-3        # of runs in one
CLEARLY = 0.97              # of the time of the best so far
MOST_SECONDS, MOST_BYTES = 0.25, 1 << 30        # of a run; larger products are not measured


def best(p: Product, model: Schedule, target: Target) -> Schedule:
    """The schedule of a product whose sizes are known, measured now or before; the model's where
    measuring would take long, or much memory."""
    seconds = flops(p) / (target.flops_per_second * target.threads)
    if seconds > MOST_SECONDS or sum(map(reach, (p.a, p.b, p.c))) > MOST_BYTES:
        return model
    key = "tuned-" + hashlib.sha256(
        "\n".join([llvm.identity(), repr(p), repr(model), repr(target)]).encode()).hexdigest()
    known = engine.find(key, runtime.cache_dir())
    if known is None:
        found = _measured(p, model, target)
        engine.keep(key, marshal.dumps(_choices(found)), runtime.cache_dir())
        return found
    tile, pack_a, pack_b, block_n = marshal.loads(known)
    return changed(model, tile=Tile(*tile), pack_a=pack_a, pack_b=pack_b, block_n=block_n)


def _choices(s: Schedule) -> tuple:
    return (s.tile.rows, s.tile.vectors, s.tile.cycles), s.pack_a, s.pack_b, s.block_n


def _measured(p: Product, model: Schedule, target: Target) -> Schedule:
    engine.wait_for_aside()         # a processor for each thread that runs
    chosen = Trial(p, model, target)
    for others in (tiles, copies, blocks):
        for s in others(p, chosen.schedule, target):
            trial = Trial(p, s, target)
            if is_faster(trial, chosen):
                chosen = trial
    return chosen.schedule


# -- what is tried ---------------------------------------------------------------------------------
def tiles(p: Product, s: Schedule, target: Target) -> Iterator[Schedule]:
    """Other tiles, those first of which the model thinks best."""
    found: dict[tuple[int, int], Tile] = {}
    for vectors in range(1, min(math.ceil(p.n / s.lanes), 4) + 1):
        for rows in HEIGHTS:
            rows = min(rows, p.m)
            if (rows + 1) * vectors < target.vector_registers and (
                    rows, vectors) != (s.tile.rows, s.tile.vectors):
                found[rows, vectors] = Tile(rows, vectors, tile_cycles(rows, vectors, target))

    def cycles(tile: Tile) -> float:
        across = math.ceil(p.n / (tile.vectors * s.lanes))
        return math.ceil(p.m / tile.rows) * across * tile.cycles

    for tile in sorted(found.values(), key=cycles)[:TILES]:
        yield with_columns(changed(s, tile=tile), s.block_n)


def copies(p: Product, s: Schedule, target: Target) -> Iterator[Schedule]:
    """Each operand as it lies, or copied together in another way."""
    if s.block_k == FEW_ROWS:
        return                  # B is streamed
    ways_a = [None] if k_uniform(p.a) is not None and p.a.dtype not in CONVERTED else []
    for way in (*ways_a, "rows", "cols"):
        if way != s.pack_a:
            yield changed(s, pack_a=way)
    if s.pack_b != "transpose":
        yield changed(s, pack_b=None if s.pack_b else "strip")


def blocks(p: Product, s: Schedule, target: Target) -> Iterator[Schedule]:
    """Half and twice as many columns in a block, and all of them."""
    sizes = {with_columns(s, n).block_n for n in (s.block_n // 2, s.block_n * 2, p.n)}
    for n in sorted(sizes - {s.block_n}):
        yield changed(s, block_n=n)


def with_columns(s: Schedule, n: int) -> Schedule:
    """So many columns in a block, or some more: whole panels."""
    return changed(s, block_n=max(math.ceil(n / s.width), 1) * s.width)


# -- one schedule, run -----------------------------------------------------------------------------
class Trial:
    """A product compiled with a schedule, on memory of its own."""

    def __init__(self, p: Product, s: Schedule, target: Target):
        self.schedule = s
        module = Module("trial")
        product = Blocked(module, "product", p, s, None, ARGUMENTS)
        product.emit()
        f = Function(module, "void", "run", [("ptr", "ctx"), ("i64", "task"), ("i64", "n_tasks")])
        at = [f.load("ptr", f.gep("ptr", "%ctx", str(i))) for i in range(4)]
        f.call("void", "product", *(("ptr", x) for x in (*at[:3], "null", at[3])),
               ("i64", "%task"), ("i64", "%n_tasks"))
        f.ret()
        f.close()
        self.code = engine.load(engine.compile_text(module.text(), codegen=CODEGEN), {}, ["run"])
        self.tasks = max(min(shares(flops(p), 0, target), s.units(p)), 1)
        views = (p.b, p.a) if p.arrangement.swapped else (p.a, p.b)
        partial = math.prod(product.partial_extents()) if s.partial else 0
        scratch = np.empty(-(-partial // 64) * 64 + self.tasks * product.scratch_size + 64,
                           np.uint8)
        self.arrays = [*map(memory, views), memory(p.c), scratch[-scratch.ctypes.data % 64:]]
        self.context = (ctypes.c_void_p * 4)(*(x.ctypes.data for x in self.arrays))
        self.parallel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(
            runtime.symbols()["cellc_parallel"])

    def run(self) -> None:
        self.parallel(self.code.address("run"), ctypes.addressof(self.context), self.tasks)

    def seconds(self, runs: int) -> float:
        """Of one run, as the mean of so many."""
        start = time.perf_counter()
        for _ in range(runs):
            self.run()
        return (time.perf_counter() - start) / runs


def flops(p: Product) -> int:
    return 2 * p.batches * p.m * p.n * p.k


def reach(view: View) -> int:
    """The bytes from a view's first element to behind its last."""
    axes = (*view.batch, *view.rows, *view.cols)
    return (sum((axis.extent - 1) * axis.stride for axis in axes) + 1) * (BITS[view.dtype] // 8)


def memory(view: View) -> np.ndarray:
    """As much as it reaches, all ones (pages that nobody wrote are all the same one)."""
    return np.ones(reach(view), np.uint8)


def is_faster(trial: Trial, chosen: Trial) -> bool:
    """Is it clearly faster, by the fastest of some rounds?"""
    both = trial, chosen
    runs = [max(1, int(ROUND_SECONDS / min(x.seconds(1), x.seconds(1)))) for x in both]
    times = [[x.seconds(n) for x, n in zip(both, runs, strict=True)] for _ in range(ROUNDS)]
    mine, best_so_far = map(min, zip(*times, strict=True))
    return mine < CLEARLY * best_so_far
