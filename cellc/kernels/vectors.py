"""Vectors in LLVM text: spreading, counting, masked memory, and the 16-bit floats.

Types are LLVM's, as text. Whoever knows dtypes (`scalar_ops`, `memory_ops`) and whoever knows
strides only (`gemm_view`) build on these.
"""

from __future__ import annotations

from cellc.kernels.text import Function, constant, element_type, lanes, mangled, with_element

EVERY_LANE = "splat (i1 true)"


def vector(element: str, n: int) -> str:
    """`<n x element>`; one lane is the scalar."""
    return f"<{n} x {element}>" if n > 1 else element


def splat(f: Function, value: str, ty: str) -> str:
    """The vector of type `ty` with the scalar register in every lane."""
    first = f.op(f"insertelement {ty} poison, {element_type(ty)} {value}, i64 0")
    order = with_element(ty, "i32")
    return f.op(f"shufflevector {ty} {first}, {ty} poison, {order} zeroinitializer", "splat")


def counting(n: int, element: str = "i64", first: int = 0, step: int = 1) -> str:
    """The literal <first, first + step, ...> of n lanes."""
    return "<" + ", ".join(f"{element} {first + i * step}" for i in range(n)) + ">"


def flags(lanes: list[bool]) -> str:
    """The literal of a mask."""
    return "<" + ", ".join(f"i1 {str(on).lower()}" for on in lanes) + ">"


def flags_of(mask: str) -> list[bool] | None:
    """The lanes of such a literal; None for a register."""
    return ["true" in lane for lane in mask.split(",")] if mask.startswith("<") else None


def mask_of_bits(f: Function, bits: str, n: int) -> str:
    """The lowest n bits of an i64 as a mask. Without AVX-512 each lane gets them all and looks at
    its own; LLVM would take them out one by one."""
    if "+avx512f" in f.module.features:
        bits = f.op(f"trunc i64 {bits} to i{n}")
        return f.op(f"bitcast i{n} {bits} to <{n} x i1>")
    wide = f"<{n} x i32>"
    everywhere = splat(f, f.op(f"trunc i64 {bits} to i32"), wide)
    each = "<" + ", ".join(f"i32 {1 << i}" for i in range(n)) + ">"
    return f.op(f"icmp eq {wide} {f.op(f'and {wide} {everywhere}, {each}')}, {each}")


def picked(f: Function, ty: str, a: str, b: str, picks) -> str:
    """A vector of some lanes of a and b, both of type `ty`; those of b are counted on from a's."""
    order = ", ".join(f"i32 {i}" for i in picks)
    return f.op(f"shufflevector {ty} {a}, {ty} {b}, <{len(picks)} x i32> <{order}>")


def reverse(f: Function, ty: str, value: str) -> str:
    """The lanes in opposite order."""
    return picked(f, ty, value, "poison", range(lanes(ty))[::-1])


# -- memory ----------------------------------------------------------------------------------------
def masked_load(f: Function, ty: str, pointer: str, align: int, mask: str | None,
                otherwise: str = "zeroinitializer") -> str:
    """A vector from memory; the lanes outside the mask are not read, and are `otherwise`."""
    if mask is None:
        return f.load(ty, pointer, align)
    return f.call(ty, f"llvm.masked.load.{mangled(ty)}.p0", ("ptr", pointer), ("i32", str(align)),
                  (with_element(ty, "i1"), mask), (ty, otherwise))


def masked_store(f: Function, ty: str, value: str, pointer: str, align: int,
                 mask: str | None) -> None:
    """A vector to memory; nothing is written for the lanes outside the mask.

    Where the mask is a literal, a CPU without masks has each run of lanes in whole vectors: AMD's
    take 12 cycles for a masked store of AVX2, and LLVM one branch for each lane of 16 bits. With
    masks as well where it is a single lane: LLVM writes four bytes for one of two.
    """
    if mask is None:
        f.store(ty, value, pointer, align)
        return
    known = flags_of(mask)
    if known is not None:
        on = [i for i, lane in enumerate(known) if lane]
        if len(on) == 1 or "+avx512f" not in f.module.features:
            for start, n in pieces(on):
                _store_lanes(f, ty, value, pointer, align, start, n)
            return
    f.call("void", f"llvm.masked.store.{mangled(ty)}.p0", (ty, value), ("ptr", pointer),
           ("i32", str(align)), (with_element(ty, "i1"), mask))


def pieces(on: list[int]) -> list[tuple[int, int]]:
    """Runs of the given lanes, in order, each as powers of two of them: where, and how many."""
    found: list[tuple[int, int]] = []
    while on:
        run = next((n for n in range(1, len(on)) if on[n] != on[0] + n), len(on))
        n = 1 << run.bit_length() - 1
        found.append((on[0], n))
        on = on[n:]
    return found


def _store_lanes(f: Function, ty: str, value: str, pointer: str, align: int, start: int,
                 n: int) -> None:
    """So many lanes from `start` on."""
    element = element_type(ty)
    if n == 1:
        part = f.op(f"extractelement {ty} {value}, i64 {start}")
    else:
        part = picked(f, ty, value, "poison", range(start, start + n))
    f.store(vector(element, n), part, f.gep(element, pointer, str(start)), align)


def gather(f: Function, ty: str, pointer: str, offsets: str, align: int, mask: str | None) -> str:
    """The elements at pointer + offsets[lane], zero outside the mask."""
    n = lanes(ty)
    return f.call(ty, f"llvm.masked.gather.{mangled(ty)}.v{n}p0",
                  (f"<{n} x ptr>", _places(f, ty, pointer, offsets)), ("i32", str(align)),
                  (f"<{n} x i1>", mask or EVERY_LANE), (ty, "zeroinitializer"))


def scatter(f: Function, ty: str, value: str, pointer: str, offsets: str, align: int,
            mask: str | None) -> None:
    """The lanes of value to pointer + offsets[lane], in order."""
    n = lanes(ty)
    f.call("void", f"llvm.masked.scatter.{mangled(ty)}.v{n}p0", (ty, value),
           (f"<{n} x ptr>", _places(f, ty, pointer, offsets)), ("i32", str(align)),
           (f"<{n} x i1>", mask or EVERY_LANE))


def _places(f: Function, ty: str, pointer: str, offsets: str) -> str:
    return f.op(f"getelementptr {element_type(ty)}, ptr {pointer}, <{lanes(ty)} x i64> {offsets}",
                "ps")


# -- f16 and bf16 ----------------------------------------------------------------------------------
def widened(f: Function, bits: str, dtype: str, ty: str) -> str:
    """The 16 bits of an `f16` or `bf16` as `ty`, a `float` or a vector of them: exact."""
    short = with_element(ty, "i16")
    if dtype == "f16":
        half = with_element(ty, "half")
        return f.op(f"fpext {half} {f.op(f'bitcast {short} {bits} to {half}')} to {ty}")
    wide = with_element(ty, "i32")
    high = f.op(f"shl {wide} {f.op(f'zext {short} {bits} to {wide}')}, {constant(16, wide)}")
    return f.op(f"bitcast {wide} {high} to {ty}")


def narrowed(f: Function, value: str, dtype: str, ty: str) -> str:
    """The bits of `ty` rounded to an `f16` or `bf16`, ties to even; NaN stays NaN.

    For bf16 they are the upper half of the bits after adding half a unit of that half.
    """
    short = with_element(ty, "i16")
    if dtype == "f16":
        half = with_element(ty, "half")
        return f.op(f"bitcast {half} {f.op(f'fptrunc {ty} {value} to {half}')} to {short}")
    wide = with_element(ty, "i32")
    sixteen = constant(16, wide)
    bits = f.op(f"bitcast {ty} {value} to {wide}")
    upper = f.op(f"lshr {wide} {bits}, {sixteen}")
    odd = f.op(f"and {wide} {upper}, {constant(1, wide)}")
    bias = f.op(f"add {wide} {odd}, {constant(0x7FFF, wide)}")
    rounded = f.op(f"lshr {wide} {f.op(f'add {wide} {bits}, {bias}')}, {sixteen}")
    quiet = f.op(f"or {wide} {upper}, {constant(0x40, wide)}")
    nan = f.op(f"fcmp uno {ty} {value}, {value}")
    kept = f.op(f"select {with_element(ty, 'i1')} {nan}, {wide} {quiet}, {wide} {rounded}")
    return f.op(f"trunc {wide} {kept} to {short}")
