"""The matrix product of the CPU back end, generated for one shape and one CPU.

    C[b, m, n] = epilogue(sum over k of A[b, m, k] * B[b, k, n])

Every contraction and, with overlapping views, every convolution is one of these. The code is the
classical blocked product (Goto and van de Geijn, ACM TOMS 34, 2008) with the roles of the caches
changed to suit wide vectors: a tile's few rows of A stay in the first-level cache while a block of
B, in panels, streams from the second:

`gemm_plan` decides, `gemm_view` describes memory, `gemm_blocked` has the loops, `gemm_pack` copies,
`gemm_micro` computes; `gemm_dot` is for products that are not worth a block, `gemm_direct` for
windows of images, with or without zeros around these.
"""

from __future__ import annotations

from collections.abc import Callable

from cellc.kernels import gemm_direct_plan, gemm_dot
from cellc.kernels.gemm_blocked import Blocked
from cellc.kernels.gemm_direct import Direct
from cellc.kernels.gemm_direct_plan import Edge
from cellc.kernels.gemm_micro import Coords
from cellc.kernels.gemm_plan import (
    GemmPlan,
    View,
    arrange,
    assumed,
    check_operands,
    cycles,
    schedule,
    tasks_worth,
)
from cellc.kernels.gemm_view import BITS, Axis, Operand
from cellc.kernels.target import Target, host
from cellc.kernels.text import Module

__all__ = ["Axis", "Coords", "Edge", "GemmPlan", "Operand", "emit_gemm"]


def emit_gemm(module: Module, name: str, a: Operand, b: Operand, c: Operand,
              epilogue: Callable | None = None, target: Target | None = None,
              edges: tuple[Edge, ...] = ()) -> GemmPlan:
    """Emit C = epilogue(A B), batched, and say how to call it.

        void @name(ptr %a, ptr %b, ptr %c, ptr %extra, ptr %scratch, i64 %task, i64 %n_tasks
                   [, i64 %symbol ...])

    Views:    A is [batch, m, k], B [batch, k, n], C [batch, m, n]; each index is a tuple of `Axis`,
              outermost first, and different operands may cut the same index differently. Batch
              axes are the same in number and extent everywhere; an operand without one gives it
              stride 0. Extents and strides may be names of sizes known at run time: those become
              i64 arguments in the order of `plan.symbols`. C must not overlap A or B, and no two
              elements of C the same memory.
    Dtypes:   f64; f32, f16 and bf16 in any mixture, summed in f32; i8 or u8 to i32, exactly: so
              many terms as f32 sums without rounding are a block, and blocks are added as integers.
              These have no epilogue.
    Sharing:  task `t` of `n_tasks` does its part of C; run all of 0 .. n_tasks - 1 in any order, at
              once or not. Then, where `plan.reduce_name` is a name, the same with that function.
              Any n_tasks is right and gives the same bits; `plan.max_tasks` is as many as pay.
    Scratch:  `plan.scratch_bytes(n_tasks)` bytes, aligned to 64, contents irrelevant, the same
              pointer for all tasks and for both functions; may be null when 0.
    Epilogue: epilogue(f, ty, sums, coords) -> register appends instructions to `f` that turn a
              vector of finished sums (type `ty`) into what is stored. `coords.load(pointer,
              operand)` gives the values of another operand described like C, `coords.extra(i)`
              pointer i of the array %extra. Its attribute `cost`, if it has one, says how many
              vector instructions that takes.
    Edges:    where B is zero and not in memory; %b is the place of its first element, which may be
              such a one. For products of the form that `gemm_direct_plan.is_possible` asks for.
    Empty:    no k gives epilogue(0), no m or n nothing.
    """
    target = target or host()
    symbols = tuple(sorted({x for o in (a, b, c) for axis in (*o.batch, *o.rows, *o.cols)
                            for x in (axis.extent, axis.stride) if isinstance(x, str)}))
    check_operands(a, b, c)
    arguments = [("ptr", x) for x in ("a", "b", "c", "extra", "scratch")]
    arguments += [("i64", x) for x in ("task", "n_tasks", *symbols)]
    flops, moved = work(a, b, c)
    product = arrange(a, b, c, target)
    if edges or gemm_direct_plan.is_worth(a, b, c, edges, cycles(product, target), target):
        return _emit_direct(module, name, (a, b, c), edges, epilogue, arguments, target)
    if gemm_dot.suits(product, target):
        s = gemm_dot.schedule(product, target)
        emitter = gemm_dot.Dot(module, name, product, s, epilogue, arguments, target)
    else:
        s = schedule(product, target)
        if target.tuned and not symbols and 0 not in (product.m, product.n, product.k):
            from cellc.kernels import tuning  # here: few programs ask for it

            s = tuning.best(product, s, target)
        emitter = Blocked(module, name, product, s, epilogue, arguments)
    emitter.emit()
    tasks = min(tasks_worth(flops, moved, target), s.units(product))
    m, n, _, batches = product.assumed()
    added = s.parts * batches * m * n * BITS[product.sum_dtype] // 8
    reduce_tasks = min(tasks_worth(0, added, target), max(batches * m, 1))
    return GemmPlan(name, emitter.reduce_name, symbols, flops, moved, tasks, reduce_tasks,
                    emitter.scratch_size, emitter.partial_extents(), s,
                    s.writes_once(product))


def _emit_direct(module: Module, name: str, operands: tuple[Operand, Operand, Operand],
                 edges: tuple[Edge, ...], epilogue: Callable | None,
                 arguments: list[tuple[str, str]], target: Target) -> GemmPlan:
    s = gemm_direct_plan.schedule(*operands, edges, target)
    emitter = Direct(module, name, *operands, edges, s, epilogue, arguments)
    emitter.emit()
    flops, moved = work(*operands)
    tasks = min(tasks_worth(flops, moved, target), emitter.units())
    symbols = tuple(name for _, name in arguments[7:])
    return GemmPlan(name, None, symbols, flops, moved, tasks, 1, emitter.scratch_size, (), None,
                    emitter.writes_once())


def work(a: Operand | View, b: Operand | View, c: Operand | View) -> tuple[int, int]:
    """Floating-point operations, and bytes that have to be moved at least once."""
    m, n, k, batches = map(assumed, (c.rows, c.cols, a.cols, c.batch))
    moved = batches * (m * k * BITS[a.dtype] + k * n * BITS[b.dtype] + m * n * BITS[c.dtype]) // 8
    return 2 * batches * m * n * k, moved
