"""Strided views of buffers, as the matrix product sees them.

An index (row, column, or the one summed over) is a list of axes, outermost first: the address of
element i is the sum over the axes of digit * stride, the digits being those of i in mixed radix.
So one description covers transposes, batches, broadcasts (stride 0), slices and the overlapping
windows of a convolution.

A `Strip` says how a vector of consecutive elements of an index lies in memory, and loads and stores
it; `Offsets` gives the address of single elements. Both keep small tables in scratch memory where
an index is not a plain arithmetic progression, so that inner loops never divide.
"""

from __future__ import annotations

from cellc.kernels.text import Function
from cellc.kernels.vectors import (
    counting,
    gather,
    mask_of_bits,
    masked_load,
    masked_store,
    narrowed,
    picked,
    scatter,
    splat,
    widened,
)
from cellc.record import fresh, record

MEMORY_TYPE = {"f32": "float", "f64": "double", "f16": "i16", "bf16": "i16",
               "i8": "i8", "u8": "i8", "i32": "i32"}
BITS = {"f32": 32, "f64": 64, "f16": 16, "bf16": 16, "i8": 8, "u8": 8, "i32": 32}
SHORT = ("f16", "bf16")     # what is summed in f32
EXACT_TERMS = {"i8": 1024, "u8": 256}       # so many products of bytes f32 sums without rounding
CONVERTED = (*SHORT, *EXACT_TERMS)
MOST_RUNS = 4               # masked loads that are still faster than one gather


@record(frozen=True)
class Axis:
    """`extent` steps of `stride` elements. Either may be the name of an i64 argument ("n")."""

    extent: int | str
    stride: int | str


@record(frozen=True)
class Operand:
    """A batch of matrices in a buffer: the axes of the batch, row and column index."""

    dtype: str              # "f32", "f64", "bf16" or "f16"
    batch: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    cols: tuple[Axis, ...]


def text_of(value: int | str) -> str:
    """A size in LLVM text: 7 -> `7`, "n" -> `%n`."""
    return str(value) if isinstance(value, int) else f"%{value}"


def merged(axes) -> tuple[Axis, ...]:
    """The same index with fewer axes: those of one element go, those that continue others join."""
    kept: list[Axis] = []
    for axis in axes:
        if axis.extent == 1:
            continue
        if kept and continues(kept[-1], axis):
            axis = Axis(product([kept.pop().extent, axis.extent]), axis.stride)
        kept.append(axis)
    return tuple(kept)


def continues(outer: Axis, inner: Axis) -> bool:
    """Whether a step of `outer` is just one step past the end of `inner`."""
    if outer.stride == 0 and inner.stride == 0:
        return isinstance(outer.extent, int) and isinstance(inner.extent, int)
    return (all(isinstance(x, int) for x in (outer.extent, inner.extent, inner.stride))
            and outer.stride == inner.extent * inner.stride)


def product(extents) -> int | None:
    """The product of literal extents; None when one of them is a symbol."""
    total = 1
    for extent in extents:
        if not isinstance(extent, int):
            return None
        total *= extent
    return total


def count(axes) -> int | None:
    """How many elements an index has, None when that is known only at run time."""
    return product(axis.extent for axis in axes)


def emit_count(f: Function, axes) -> str:
    total = "1"
    for axis in axes:
        total = f.mul(total, text_of(axis.extent))
    return total


def emit_offset(f: Function, axes, index: str) -> str:
    """The offset in elements of element `index`."""
    total = "0"
    for position in reversed(range(len(axes))):
        extent, digit = text_of(axes[position].extent), index
        if position:
            digit = f.op(f"urem i64 {index}, {extent}", "digit")
            index = f.op(f"udiv i64 {index}, {extent}", "rest")
        total = f.add(total, f.mul(digit, text_of(axes[position].stride)))
    return total


def emit_minimum(f: Function, a: str, b: str) -> str:
    if a.isdigit() and b.isdigit():
        return str(min(int(a), int(b)))
    return f.call("i64", "llvm.smin.i64", ("i64", a), ("i64", b))


def emit_maximum(f: Function, a: str, b: str) -> str:
    if a.isdigit() and b.isdigit():
        return str(max(int(a), int(b)))
    return f.call("i64", "llvm.smax.i64", ("i64", a), ("i64", b))


def emit_subtract(f: Function, a: str, b: str) -> str:
    if a.isdigit() and b.isdigit():
        return str(int(a) - int(b))
    return a if b == "0" else f.op(f"sub i64 {a}, {b}", "i")


def ceil_div(f: Function, value: str, by: int | str) -> str:
    if value.isdigit() and str(by).isdigit():
        return str(-(-int(value) // int(by)))
    less_one = str(by - 1) if isinstance(by, int) else emit_subtract(f, by, "1")
    return f.op(f"udiv i64 {f.add(value, less_one)}, {by}")


def emit_share(f: Function, units: str) -> tuple[str, str]:
    """The first unit that task %task of %n_tasks does, and the one behind its last: `units` cut
    evenly."""
    return tuple(f.op(f"udiv i64 {f.op(f'mul i64 {task}, {units}')}, %n_tasks")
                 for task in ("%task", f.op("add i64 %task, 1")))


def laid_out(wanted: dict[str, int]) -> tuple[dict[str, str], int]:
    """Where in a task's scratch memory things of so many bytes are, and how much they take: each
    begins at a cache line."""
    places, end = {}, 0
    for what, size in wanted.items():
        places[what] = str(end)
        end += -(-size // 64) * 64
    return places, end


def prefetch(f: Function, pointer: str, write: bool = False) -> None:
    """Ask for the cache line at `pointer`; any address is allowed."""
    f.call("void", "llvm.prefetch.p0", ("ptr", pointer), ("i32", str(int(write))), ("i32", "3"),
           ("i32", "1"))


# -- element types ---------------------------------------------------------------------------------
def widen(f: Function, value: str, dtype: str, width: int | None) -> str:
    """A loaded value (a vector of `width`, or a scalar) in the type sums are kept in."""
    ty = f"<{width} x float>" if width else "float"
    if dtype in EXACT_TERMS:
        source = f"<{width} x i8>" if width else "i8"
        return f.op(f"{'sitofp' if dtype == 'i8' else 'uitofp'} {source} {value} to {ty}")
    return widened(f, value, dtype, ty) if dtype in SHORT else value


def narrow(f: Function, value: str, dtype: str, width: int) -> str:
    """A vector of sums in its memory type, rounded to the nearest even."""
    return narrowed(f, value, dtype, f"<{width} x float>") if dtype in SHORT else value


# -- single elements -------------------------------------------------------------------------------
class Offsets:
    """Offsets of the elements start, start + 1, ... of an index; from a table where not affine."""

    def __init__(self, axes):
        self.axes = merged(axes)
        self.table: str | None = None
        self.start = "0"

    @property
    def affine(self) -> bool:
        return len(self.axes) <= 1

    @property
    def stride(self) -> int | str:
        return self.axes[0].stride if self.axes else 0

    def table_bytes(self, most: int) -> int:
        return 0 if self.affine else 8 * most

    def fill(self, f: Function, table: str, start: str, size: str) -> None:
        """Prepare for the elements start .. start + size - 1."""
        self.table, self.start = table, start
        if self.affine:
            return
        with f.loop("0", size) as i:
            offset = emit_offset(f, self.axes, f.add(start, i.index))
            f.store("i64", offset, f.gep("i64", table, i.index))

    def at(self, f: Function, index: str) -> str:
        """The offset of element start + index."""
        if self.affine:
            return f.mul(f.add(self.start, index), text_of(self.stride))
        return f.load("i64", f.gep("i64", self.table, index))


# -- vectors of elements ---------------------------------------------------------------------------
class Strip:
    """How `width` consecutive elements of an index lie in memory.

    contiguous   side by side
    uniform      all at one place (a broadcast)
    runs         a few contiguous pieces, each loaded under a mask (a single one may need none)
    gather       anywhere

    Where it is only `read`, elements `every` two apart are runs as well: twice as many are loaded.

    Vectors are used `vectors` at a time; those past the end have no lanes. Where all of them are
    `aligned`, at multiples of their width, and that divides the pieces, each lies in one piece.
    """

    def __init__(self, axes, width: int, vectors: int = 1, aligned: bool = False,
                 read: bool = False):
        self.axes = merged(axes)
        self.width, self.aligned, self.every = width, aligned, 1
        self.panel = width * vectors
        inner = self.axes[-1] if self.axes else Axis(1, 1)
        self.runs = 0
        if len(self.axes) <= 1 and inner.stride in (0, 1):
            self.kind = "contiguous" if inner.stride == 1 else "uniform"
        elif (inner.stride in (1, 2 if read else 1) and isinstance(inner.extent, int)
              and self._runs(inner) <= MOST_RUNS):
            self.kind, self.runs, self.every = "runs", self._runs(inner), inner.stride
        else:
            self.kind = "gather"
        self.offsets = Offsets(axes)
        self.table, self.start, self.size = None, "0", "0"

    def _runs(self, inner: Axis) -> int:
        if self.aligned and inner.extent and inner.extent % self.width == 0:
            return 1
        return (self.width + inner.extent - 2) // max(inner.extent, 1) + 1

    @property
    def plain(self) -> bool:
        return self.kind in ("contiguous", "uniform")

    def table_bytes(self, most: int) -> int:
        if self.kind == "runs":
            return 16 * self.runs * -(-most // self.panel) * (self.panel // self.width)
        return 8 * -(-most // self.panel) * self.panel if self.kind == "gather" else 0

    def fill(self, f: Function, table: str, start: str, size: str) -> None:
        """Prepare for the elements start .. start + size - 1."""
        self.table, self.start, self.size = table, start, size
        if self.kind == "gather":
            self._fill_gather(f)
        elif self.kind == "runs":
            self._fill_runs(f)

    def _fill_gather(self, f: Function) -> None:
        """One offset a lane; lanes past the end repeat the last element."""
        last = emit_subtract(f, self.size, "1")
        with f.loop("0", self._padded(f)) as i:
            index = f.add(self.start, emit_minimum(f, i.index, last))
            f.store("i64", emit_offset(f, self.axes, index), f.gep("i64", self.table, i.index))

    def _padded(self, f: Function) -> str:
        return f.mul(ceil_div(f, self.size, self.panel), str(self.panel))

    def _fill_runs(self, f: Function) -> None:
        """For each vector and run: the offset lane 0 would have, and which elements from there on
        belong to it.

        Lane l of run i holds element first + l; the run's lanes are those whose outer digits are
        those of run i, so the offset is that of its first element less its lane. A run without
        lanes gets the first one's offset: a load under an empty mask still fetches its cache line.
        """
        inner, outer = self.axes[-1], self.axes[:-1]
        extent, width = inner.extent, self.width
        with f.loop("0", self._padded(f), width) as i:
            first = f.add(self.start, i.index)
            run = f.op(f"udiv i64 {first}, {extent}")
            begin = f.op(f"sub i64 {f.mul(run, str(extent))}, {first}")      # lane, <= 0 at first
            left = emit_minimum(f, emit_subtract(f, self.size, i.index), str(width))
            left = emit_maximum(f, left, "0")
            entry = f.mul(f.op(f"udiv i64 {i.index}, {width}"), str(2 * self.runs))
            place = f.gep("i64", self.table, entry)
            for number in range(self.runs):
                offset = emit_subtract(f, emit_offset(f, outer, f.add(run, str(number))),
                                       f.mul(begin, str(self.every)))
                end = f.add(begin, str(extent))
                elements = self._elements(f, begin, end, left)
                if number == 0:
                    nearest = offset
                else:
                    empty = f.op(f"icmp eq i64 {elements}, 0")
                    offset = f.op(f"select i1 {empty}, i64 {nearest}, i64 {offset}")
                f.store("i64", offset, f.gep("i64", place, str(2 * number)))
                f.store("i64", elements, f.gep("i64", place, str(2 * number + 1)))
                begin = end

    def _elements(self, f: Function, begin: str, end: str, left: str) -> str:
        """Bits, one an element, from lane `begin` to before lane min(end, left), cut to the vector:
        there may be no element behind the last lane's."""
        low = emit_minimum(f, emit_maximum(f, begin, "0"), left)
        high = emit_minimum(f, end, left)
        if self.every > 1:
            low, high = (f.mul(bound, str(self.every)) for bound in (low, high))
            high = emit_maximum(f, emit_subtract(f, high, str(self.every - 1)), low)
        below = [f.op(f"sub i64 {f.op(f'shl i64 1, {bound}')}, 1") for bound in (low, high)]
        return f.op(f"xor i64 {below[0]}, {below[1]}")

    def reach(self, f: Function, first: str, vectors: int, whole: bool) -> list[Reach]:
        """Access to the `vectors` vectors from element start + first on.

        `whole` promises that all their lanes are elements.
        """
        if self.kind == "runs":
            return [self._reach_runs(f, f.add(first, str(v * self.width)), whole)
                    for v in range(vectors)]
        lead = f.add(self.start, first) if self.kind == "contiguous" else "0"
        left = None if whole else emit_subtract(f, self.size, first)
        reaches = []
        for v in range(vectors):
            mask = None if whole else self.mask(f, left, v)
            if self.kind == "gather":
                place = f.gep("i64", self.table, f.add(first, str(v * self.width)))
                offsets = f.load(f"<{self.width} x i64>", place, 8)
                reaches.append(Reach("gather", self.width, [(offsets, mask)]))
            else:
                step = 0 if self.kind == "uniform" else v * self.width
                reaches.append(Reach(self.kind, self.width, [(str(step), mask)], lead))
        return reaches

    def mask(self, f: Function, left: str, v: int) -> str:
        """The lanes of vector `v` that are among the `left` elements still to come."""
        ints = f"<{self.width} x i32>"
        bound = splat(f, f.op(f"trunc i64 {left} to i32"), ints)
        lanes = counting(self.width, "i32", v * self.width)
        return f.op(f"icmp sgt {ints} {bound}, {lanes}", "mask")

    def _reach_runs(self, f: Function, first: str, whole: bool) -> Reach:
        entry = f.mul(f.op(f"udiv i64 {first}, {self.width}"), str(2 * self.runs))
        place = f.gep("i64", self.table, entry)
        pieces, upper, behind = [], [], self.width - 1
        for number in range(self.runs):
            offset = f.load("i64", f.gep("i64", place, str(2 * number)))
            bits = None
            if not whole or self.runs > 1:
                bits = f.load("i64", f.gep("i64", place, str(2 * number + 1)))
            pieces.append((offset, self._mask_of(f, bits)))
            if self.every > 1:
                bits = bits and f.op(f"lshr i64 {bits}, {behind}")
                upper.append((f.add(offset, str(behind)), self._mask_of(f, bits)))
        return Reach("runs", self.width, pieces, upper=upper)

    def _mask_of(self, f: Function, bits: str | None) -> str | None:
        """The lowest bits as a mask."""
        return bits and mask_of_bits(f, bits, self.width)


@record
class Reach:
    """Where one vector is, relative to a pointer: pieces of (offset, mask or None).

    Where its elements are two apart, the pieces of its lower half begin at lane 0, and those of the
    `upper` half one element before what would be next, since there may be none behind the last.
    """

    kind: str
    width: int
    pieces: list[tuple[str, str | None]]
    lead: str = "0"         # to be added once to the pointer of all vectors of a panel
    upper: list[tuple[str, str | None]] = fresh(list)

    def load(self, f: Function, element: str, base: str) -> str:
        """The vector at base (plus `lead`, which the caller adds); lanes outside are zero."""
        ty = f"<{self.width} x {element}>"
        if self.kind == "gather":
            (offsets, mask), = self.pieces
            return gather(f, ty, base, offsets, bytes_of(element), mask)
        if self.kind == "uniform":
            return splat(f, f.load(element, base), ty)
        halves = ["zeroinitializer", "zeroinitializer"]
        for half, pieces in enumerate((self.pieces, self.upper)):
            for offset, mask in pieces:
                place = base if offset == "0" else f.gep(element, base, offset)
                halves[half] = masked_load(f, ty, place, bytes_of(element), mask, halves[half])
        if not self.upper:
            return halves[0]
        picks = range(0, self.width, 2), range(self.width + 1, 2 * self.width, 2)
        return picked(f, ty, *halves, [*picks[0], *picks[1]])

    def store(self, f: Function, element: str, value: str, base: str) -> None:
        """Store the lanes that are elements."""
        ty, align = f"<{self.width} x {element}>", bytes_of(element)
        for offset, mask in self.pieces:
            if self.kind == "gather":
                scatter(f, ty, value, base, offset, align, mask)
            else:
                place = base if offset == "0" else f.gep(element, base, offset)
                masked_store(f, ty, value, place, align, mask)


def bytes_of(element: str) -> int:
    """The size of a scalar LLVM type."""
    return {"float": 4, "double": 8, "half": 2, "bfloat": 2}.get(element) or int(element[1:]) // 8
