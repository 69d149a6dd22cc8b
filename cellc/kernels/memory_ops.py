"""Loads and stores of vectors along an affine address: contiguous, reversed, strided, masked.

`lane_step` is how many elements apart neighbouring lanes lie. Step 1 is one instruction, -1 one and
a shuffle, small steps a wider load and a shuffle, all others a gather or scatter.
"""

from __future__ import annotations

from cellc.ir.types import DType
from cellc.kernels.scalar_ops import Element, ScalarOps, memory_type
from cellc.kernels.text import Function
from cellc.kernels.vectors import (
    counting,
    flags,
    gather,
    masked_load,
    masked_store,
    picked,
    reverse,
    scatter,
    splat,
    vector,
)

MOST_STEP = 4                  # strides up to this are loaded whole and picked from


def load(ops: ScalarOps, dtype: DType, pointer: str, n: int, lane_step, mask: str | None,
         left: str | None = None) -> Element:
    """n elements from `pointer` (the address of lane 0); where the mask is false, arbitrary.

    `left` (i32) says that the mask is just the first lanes, and how many.
    """
    f, element = ops.f, memory_type(dtype)
    ty = vector(element, n)
    if lane_step == 1:
        raw = masked_load(f, ty, pointer, dtype.itemsize, mask)
    elif lane_step == -1:
        first = f.gep(element, pointer, str(1 - n))
        flipped = reverse(f, vector("i1", n), mask) if mask else None
        raw = reverse(f, ty, masked_load(f, ty, first, dtype.itemsize, flipped))
    elif isinstance(lane_step, int) and 1 < lane_step <= MOST_STEP and (mask is None or left):
        raw = _strided(f, element, pointer, n, lane_step, dtype.itemsize, left)
    else:
        raw = gather(f, ty, pointer, lane_offsets(f, n, lane_step), dtype.itemsize, mask)
    return ops.from_memory(raw, dtype, n)


def prefetch(f: Function, pointer: str, to_write: bool) -> None:
    """Bring the line at `pointer` near; an address outside every array does no harm."""
    f.call("void", "llvm.prefetch.p0", ("ptr", pointer), ("i32", str(int(to_write))), ("i32", "3"),
           ("i32", "1"))                            # as near as can be; data, not code


def store(ops: ScalarOps, x: Element, pointer: str, lane_step, mask: str | None) -> None:
    """The lanes of x to `pointer` and on; where the mask is false nothing is written."""
    f, element, n, align = ops.f, memory_type(x.dtype), x.n, x.dtype.itemsize
    ty, raw = vector(element, n), ops.to_memory(x)
    if lane_step == -1:
        pointer = f.gep(element, pointer, str(1 - n))
        raw = reverse(f, ty, raw)
        mask = reverse(f, vector("i1", n), mask) if mask else None
    if lane_step in (1, -1):
        masked_store(f, ty, raw, pointer, align, mask)
    else:
        scatter(f, ty, raw, pointer, lane_offsets(f, n, lane_step), align, mask)


def store_interleaved(ops: ScalarOps, xs: list[Element], pointer: str, left: str | None) -> None:
    """Lane 0 of each x, then lane 1 of each, and on; only the first `left` elements, where given,
    an i32."""
    f, n, k = ops.f, xs[0].n, len(xs)
    element, align = memory_type(xs[0].dtype), xs[0].dtype.itemsize
    raws, width = [ops.to_memory(x) for x in xs], n
    while len(raws) > 1:                             # put them side by side, two by two
        raws += ["poison"] * (len(raws) % 2)
        raws = [picked(f, f"<{width} x {element}>", raws[i], raws[i + 1], range(2 * width))
                for i in range(0, len(raws), 2)]
        width *= 2
    mixed, mask = picked(f, f"<{width} x {element}>", raws[0], "poison",
                         [j * n + i for i in range(n) for j in range(k)]), None
    if left is not None:
        mask = f.op(f"icmp slt <{n * k} x i32> {counting(n * k, 'i32')}, "
                    f"{splat(f, left, f'<{n * k} x i32>')}")
    masked_store(f, f"<{n * k} x {element}>", mixed, pointer, align, mask)


def _strided(f: Function, element: str, pointer: str, n: int, step: int, align: int,
             left: str | None) -> str:
    """Every step-th element, from one load of all that lies between; nothing behind the last."""
    whole = n * step
    ty, used = f"<{whole} x {element}>", (n - 1) * step + 1
    if left is None:
        mask = flags([i < used for i in range(whole)])
    else:
        end = f.op(f"sub i32 {f.op(f'mul i32 {left}, {step}')}, {step - 1}")
        mask = f.op(f"icmp slt <{whole} x i32> {counting(whole, 'i32')}, "
                    f"{splat(f, end, f'<{whole} x i32>')}")
    raw = masked_load(f, ty, pointer, align, mask)
    return picked(f, ty, raw, "poison", [i * step for i in range(n)])


def lane_offsets(f: Function, n: int, lane_step) -> str:
    """0, step, 2 step, ... as an i64 vector; a step known only at run time is a register."""
    if isinstance(lane_step, int):
        return counting(n, step=lane_step)
    ty = f"<{n} x i64>"
    return f.op(f"mul {ty} {splat(f, lane_step, ty)}, {counting(n)}")
