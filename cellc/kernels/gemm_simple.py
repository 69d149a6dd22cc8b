"""Integer matrix products: three plain loops.

They occur in index arithmetic, not in the work of a network, so they are only correct.
"""

from __future__ import annotations

from cellc.kernels.gemm_plan import View
from cellc.kernels.gemm_view import BITS, MEMORY_TYPE, Operand, emit_count, emit_offset
from cellc.kernels.text import Function


def emit_integer_product(f: Function, a: Operand, b: Operand, c: Operand) -> None:
    """The body of the function; its rows, over the whole batch, are shared out."""
    types = [MEMORY_TYPE[operand.dtype] for operand in (a, b, c)]
    batches, m, n, k = (emit_count(f, axes) for axes in (c.batch, c.rows, c.cols, a.cols))
    rows = f.mul(batches, m)
    begin, end = (f.op(f"udiv i64 {f.op(f'mul i64 {task}, {rows}')}, %n_tasks")
                  for task in ("%task", f.op("add i64 %task, 1")))
    with f.loop(begin, end, hint="row") as row:
        batch, at = f.op(f"udiv i64 {row.index}, {m}"), f.op(f"urem i64 {row.index}, {m}")
        bases = [f.gep(ty, f"%{name}", emit_offset(f, operand.batch, batch))
                 for ty, name, operand in zip(types, "abc", (a, b, c), strict=True)]
        for i, operand in ((0, a), (2, c)):
            bases[i] = f.gep(types[i], bases[i], emit_offset(f, operand.rows, at))
        with f.loop("0", n, hint="col") as col:
            column, place = (f.gep(types[i], bases[i], emit_offset(f, operand.cols, col.index))
                             for i, operand in ((1, b), (2, c)))
            with f.loop("0", k, carried=[(types[2], "0")], hint="k") as inner:
                left = element(f, a, bases[0], a.cols, inner.index, c)
                right = element(f, b, column, b.rows, inner.index, c)
                part = f.op(f"mul {types[2]} {left}, {right}")
                inner.next = [f.op(f"add {types[2]} {inner.carried[0]}, {part}")]
            f.store(types[2], inner.results[0], place)


def element(f: Function, operand: Operand | View, base: str, axes, index: str, c: Operand) -> str:
    """One element in the type of the result."""
    ty, wanted = MEMORY_TYPE[operand.dtype], MEMORY_TYPE[c.dtype]
    value = f.load(ty, f.gep(ty, base, emit_offset(f, axes, index)))
    if ty == wanted:
        return value
    conversion = "sext" if BITS[operand.dtype] < BITS[c.dtype] else "trunc"
    return f.op(f"{conversion} {ty} {value} to {wanted}")
