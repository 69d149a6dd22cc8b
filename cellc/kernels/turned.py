"""turned: tiles of arrays that are read along one axis and written along another.

    x[2048*i + 16*jo + ji]      lanes along i lie 2048 elements apart, those along ji side by side
    out[i + 32768*jo + 2048*ji]

Lane by lane, a vector along i would touch as many cache lines as it has lanes, and these again for
each of the tile's 16 rows. So the lanes of a tile are read as rows along ji, each of them one
vector, and are turned in registers; or what is made along i is turned, and written as rows along
ji. What is turned lies on the stack while the tile's rows are computed.
"""

from __future__ import annotations

from collections.abc import Iterator

from cellc.kernels import memory_ops
from cellc.kernels.loops import Load, Nest, Store, Value
from cellc.kernels.scalar_ops import Element, llvm_type, memory_type
from cellc.kernels.schedule import MOST_INNER, plan, rewrite
from cellc.kernels.target import Target
from cellc.kernels.vectors import counting, picked, splat, vector
from cellc.kernels.views import Affine, Axis

LANES = (4, 8, 16)
TILE = 16                   # elements of a cache line, about
BESIDE = 8                  # tiles beside one another that are walked before the next vector


def tiled(nest: Nest, target: Target) -> Nest:
    """A nest that reads along one axis and writes along another, cut into tiles.

    The lanes of a vector then lie in as many cache lines, and a short loop along the axis that is
    contiguous there uses all of each line while it is near.
    """
    vector = plan(nest, target).vector
    if vector is None or nest.reduced or vector.tile:
        return nest
    for access in (*(v for v in nest.values() if isinstance(v, Load)), *nest.stores):
        step = access.place.coef(vector)
        if isinstance(step, int) and abs(step) <= MOST_INNER:
            continue
        for axis, coef in access.place.terms.items():
            if coef == 1 and isinstance(axis.extent, int) and axis.extent >= 2 * TILE:
                pieces, place = _tiles(axis)
                rows = [b for a in nest.rows for b in (pieces if a is axis else (a,))]
                return rewrite(nest, lambda a, old=axis, new=place: a.substitute({old: new}), rows,
                               [])
    return nest


def _tiles(axis: Axis) -> tuple[list[Axis], Affine]:
    """The axis as tiles, several beside one another before the vectors go on, and its index."""
    tiles = -(-axis.extent // TILE)
    beside = BESIDE if tiles >= 4 * BESIDE else 1
    outer = Axis(f"{axis.name}o", -(-tiles // beside))
    pieces, place = [outer], Affine(0, {outer: beside * TILE})
    if beside > 1:
        limit = Affine(tiles, {outer: -beside}) if tiles % beside else None
        pieces.append(Axis(f"{axis.name}m", beside, limit, True))
        place += Affine(0, {pieces[-1]: TILE})
    limit = Affine(axis.extent) + place * -1 if axis.extent % TILE else None
    pieces.append(Axis(f"{axis.name}i", TILE, limit, True))
    return pieces, place + Affine.of(pieces[-1])


def turns(v: Load | Store, along: Axis, tile: Axis, lanes: int) -> bool:
    """Is this read or written where lanes along `along` lie apart, and those of `tile` do not?"""
    step, dtype = v.place.coef(along), v.buffer.dtype
    return (lanes in LANES and tile.extent % lanes == 0 and v.place.coef(tile) == 1
            and not (isinstance(step, int) and abs(step) <= MOST_INNER)
            and not v.guards and not v.dynamic and dtype.compute.bits >= 32
            and not (isinstance(v, Store) and v.add))


class Tile:
    """One tile, at the current place of an emitter inside the loop over vectors."""

    def __init__(self, emitter, axis: Axis, accesses: list[Load | Store]):
        self.e, self.axis = emitter, axis
        self.loads = [v for v in accesses if isinstance(v, Load)]
        self.stores = [v for v in accesses if isinstance(v, Store)]
        self.rows = {v: emitter.f.stack(f"[{axis.extent * emitter.copies} x {self._vector(v)}]")
                     for v in accesses}                 # where its vectors lie: by row, by copy
        self.row = "0"                                  # the one that is computed

    def fetch(self, stop: str) -> None:
        """Read what is read across, as far as `stop`, and turn it."""
        for v in self.loads:
            for row, copy, pointers, mask in self._squares(v, stop):
                found = [memory_ops.load(self.e.ops, v.dtype, p, self.e.lanes, 1, mask)
                         for p in pointers]
                for i, x in enumerate(self._turned(found)):
                    self.e.f.store(x.ty, x.text, self._place(v, str(row + i), copy))

    def known(self, row: str) -> dict[Value, list[Element]]:
        """The vectors of a row of the tile."""
        self.row = row
        return {v: [self._load(v, row, u) for u in range(self.e.copies)] for v in self.loads}

    def put(self, s: Store, copy: int, x: Element) -> None:
        """Keep what a row of the tile is to write."""
        self.e.f.store(x.ty, x.text, self._place(s, self.row, copy))

    def write(self, stop: str) -> None:
        """Turn what is written across, and write it as far as `stop`."""
        for s in self.stores:
            for row, copy, pointers, mask in self._squares(s, stop):
                found = [self._load(s, str(row + i), copy) for i in range(self.e.lanes)]
                for p, x in zip(pointers, self._turned(found), strict=True):
                    memory_ops.store(self.e.ops, x, p, 1, mask)

    def _squares(self, v: Load | Store, stop: str) -> Iterator[tuple[int, int, list[str], object]]:
        """Squares of the tile: first row, copy, the addresses of its lanes and their mask."""
        e, f, n = self.e, self.e.f, self.e.lanes
        element = memory_type(v.buffer.dtype)
        first = f.gep(element, e.context.buffer(v.buffer),
                      e.scalar(v.place.substitute({self.axis: Affine()})))
        step = e.context.number(v.place.coef(e.vector))
        for row in range(0, self.axis.extent, n):
            mask = None
            if self.axis.limit is not None:
                left = f.op(f"trunc i64 {f.op(f'sub i64 {stop}, {row}')} to i32")
                mask = f.op(f"icmp slt <{n} x i32> {counting(n, 'i32')}, "
                            f"{splat(f, left, f'<{n} x i32>')}")
            for copy in range(e.copies):
                yield row, copy, [f.gep(element, first, f.add(
                    f.mul(step, str(copy * n + lane)), str(row))) for lane in range(n)], mask

    def _turned(self, rows: list[Element]) -> list[Element]:
        """Lane i of row j as lane j of row i: pairs of rows swap blocks of 1, 2, 4, ... lanes."""
        n, texts, ty = len(rows), [x.text for x in rows], rows[0].ty
        apart = 1
        while apart < n:
            for i in (i for i in range(n) if not i & apart):
                pair = texts[i], texts[i + apart]
                for side in (0, apart):
                    texts[i + side] = picked(self.e.f, ty, *pair, [
                        (j & ~apart) + side + (n if j & apart else 0) for j in range(n)])
            apart *= 2
        return [Element(x, rows[0].dtype, n) for x in texts]

    def _vector(self, v: Load | Store) -> str:
        return vector(llvm_type(v.buffer.dtype.compute), self.e.lanes)

    def _load(self, v: Load | Store, row: str, copy: int) -> Element:
        text = self.e.f.load(self._vector(v), self._place(v, row, copy))
        return Element(text, v.buffer.dtype, self.e.lanes)

    def _place(self, v: Load | Store, row: str, copy: int) -> str:
        f = self.e.f
        return f.gep(self._vector(v), self.rows[v], f.add(f.mul(row, str(self.e.copies)),
                                                          str(copy)))
