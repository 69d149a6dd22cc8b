"""Copying parts of A and B into the order the inner loop reads them in.

B goes to panels as wide as the register tile, [k][width], one after the other. A tile's rows of A
go to [row][k] where A is contiguous along k, and to [k][row] where it is contiguous along its rows.
Elements are converted to the type of the sums on the way. What is past the last row or column is
whatever the memory held: it only reaches parts of C that are not stored.
"""

from __future__ import annotations

import functools

from cellc.kernels.gemm_view import (
    MEMORY_TYPE,
    Offsets,
    Strip,
    bytes_of,
    emit_minimum,
    emit_offset,
    emit_subtract,
    prefetch,
    widen,
)
from cellc.kernels.text import Function
from cellc.kernels.vectors import picked

ABREAST = 8         # panels that are written side by side


def pack_b_strip(f: Function, dtype: str, ty: str, b: str, panels: str, strip: Strip, k: Offsets,
                 size_n: str, size_k: str, vectors: int, whole: bool) -> None:
    """[k][n] panels from a B whose vectors lie along n; all are `whole`, or the last is not."""
    done = "0"
    if strip.kind == "contiguous":
        together = str(ABREAST * vectors * strip.width)
        done = f.mul(f.op(f"udiv i64 {size_n}, {together}"), together)
        _copy_panels(f, dtype, ty, b, panels, strip, k, "0", done, size_k, vectors, ABREAST, True)
    _copy_panels(f, dtype, ty, b, panels, strip, k, done, size_n, size_k, vectors, 1, whole)


def _copy_panels(f: Function, dtype: str, ty: str, b: str, panels: str, strip: Strip, k: Offsets,
                 start: str, stop: str, size_k: str, vectors: int, abreast: int,
                 whole: bool) -> None:
    """So many panels at a time, row after row of B, so that what is read lies together: rows that
    are a power of two apart evict one another before a panel's neighbour is read.
    """
    element, lanes = MEMORY_TYPE[dtype], strip.width
    width = vectors * lanes
    with f.loop(start, stop, abreast * width, hint="panel") as panel:
        copies = []
        for i in range(abreast):
            at = f.add(panel.index, str(i * width))
            reaches = strip.reach(f, at, vectors, whole)
            copies.append((f.gep(element, b, reaches[0].lead), reaches,
                           f.gep(ty, panels, f.mul(at, size_k))))
        with f.loop("0", size_k, hint="k", opaque=True) as row:
            step, along = k.at(f, row.index), f.mul(row.index, str(width))
            for source, reaches, target in copies:
                place, out = f.gep(element, source, step), f.gep(ty, target, along)
                for v, reach in enumerate(reaches):
                    if strip.kind == "contiguous" and abreast == 1:
                        prefetch(f, f.gep(element, place, str(width + v * lanes)))
                    vector = widen(f, reach.load(f, element, place), dtype, lanes)
                    f.store(f"<{lanes} x {ty}>", vector, f.gep(ty, out, str(v * lanes)), 4)


def pack_b_transpose(f: Function, dtype: str, ty: str, b: str, panels: str, n: Offsets,
                     strip: Strip, size_n: str, size_k: str, width: int) -> None:
    """[k][n] panels from a B whose vectors lie along k: square blocks are transposed in registers.

    The last block of a panel may write up to a block's rows too many: they are the next panel's
    first ones, written later.
    """
    element, side = MEMORY_TYPE[dtype], strip.width
    last = f.op(f"sub i64 {size_n}, 1")
    with f.loop("0", size_n, width, hint="panel") as panel:
        target = f.gep(ty, panels, f.mul(panel.index, size_k))
        with f.loop("0", str(width), side, hint="col") as col:
            first = f.add(panel.index, col.index)
            columns = [f.gep(element, b, n.at(f, emit_minimum(f, f.add(first, str(i)), last)))
                       for i in range(side)]
            with f.loop("0", size_k, side, hint="k", opaque=True) as row:
                reach, = strip.reach(f, row.index, 1, whole=False)
                block = [widen(f, reach.load(f, element, f.gep(element, column, reach.lead)), dtype,
                               side) for column in columns]
                out = f.gep(ty, target, f.add(f.mul(row.index, str(width)), col.index))
                for i, vector in enumerate(transposed(f, block, f"<{side} x {ty}>")):
                    f.store(f"<{side} x {ty}>", vector, f.gep(ty, out, str(i * width)), 4)


def pack_b_runs(f: Function, dtype: str, ty: str, b: str, panel: str, n: Offsets, runs: Offsets,
                count: int, length: int, side: int, size_n: str, width: int) -> None:
    """One [k][n] panel from a B that lies in `count` runs of `length` elements along k.

    Square blocks of a run are transposed in registers; the last one lies over the one before, so
    that no load needs a mask.
    """
    element, last = MEMORY_TYPE[dtype], emit_subtract(f, size_n, "1")
    with f.loop("0", str(width), side, hint="col") as col:
        columns = [f.gep(element, b, n.at(f, emit_minimum(f, f.add(col.index, str(i)), last)))
                   for i in range(side)]
        with f.loop("0", str(count), hint="run", opaque=True) as run:
            lead, first = runs.at(f, run.index), f.mul(run.index, str(length))
            with f.loop("0", str(length), side, hint="k", opaque=True) as k:
                at = emit_minimum(f, k.index, str(length - side))
                place = f.add(lead, at)
                block = [widen(f, f.load(f"<{side} x {element}>", f.gep(element, column, place),
                                         bytes_of(element)), dtype, side) for column in columns]
                out = f.gep(ty, panel, f.add(f.mul(f.add(first, at), str(width)), col.index))
                for i, vector in enumerate(transposed(f, block, f"<{side} x {ty}>")):
                    f.store(f"<{side} x {ty}>", vector, f.gep(ty, out, str(i * width)), 4)


def transposed(f: Function, rows: list[str], ty: str) -> list[str]:
    """A square block, one register a row, transposed.

    Pairs of rows are interleaved within 128 bits, then halves are exchanged: shuffles every CPU
    does in one instruction. Which element lands where is followed by doing the same to labels.
    """
    side = len(rows)
    in_lane = min(side, 2 if ty.endswith("double>") else 4)
    labelled = [(row, [(r, c) for c in range(side)]) for r, row in enumerate(rows)]
    distance = 1
    while distance < side:
        labelled = _exchange(f, labelled, ty, distance, in_lane)
        distance *= 2
    by_column = sorted(labelled, key=lambda item: item[1][0][1])
    assert all(label == [(r, c) for r in range(side)] for c, (_, label) in enumerate(by_column))
    return [register for register, _ in by_column]


def _exchange(f: Function, labelled, ty: str, distance: int, in_lane: int):
    """One round: rows `distance` apart, in chunks of `distance` elements."""
    side, result = len(labelled), list(labelled)
    halves = [_picks(side, distance, in_lane, half) for half in (0, 1)]
    for i in range(side):
        if i & distance:
            continue
        (a, label_a), (b, label_b) = labelled[i], labelled[i + distance]
        both = label_a + label_b
        for half, picks in enumerate(halves):
            result[i + half * distance] = picked(f, ty, a, b, picks), [both[j] for j in picks]
    return result


@functools.cache
def _picks(side: int, distance: int, in_lane: int, half: int) -> tuple[int, ...]:
    """Which elements of two rows side by side one of them gets."""
    group, picks = in_lane if distance < in_lane else 2 * distance, []
    for start in range(0, side, group):
        for chunk in range(group // (2 * distance)):
            at = start + half * group // 2 + chunk * distance
            picks += [*range(at, at + distance), *range(side + at, side + at + distance)]
    return tuple(picks)


def pack_a_rows(f: Function, dtype: str, ty: str, a: str, tile: str, rows: Offsets, strip: Strip,
                size_m: str, size_k: str, pitch: int) -> None:
    """[row][k] from an A whose vectors lie along k."""
    element, lanes = MEMORY_TYPE[dtype], strip.width
    with f.loop("0", size_m, hint="row") as row:
        source = f.gep(element, a, rows.at(f, row.index))
        target = f.gep(ty, tile, f.mul(row.index, str(pitch)))
        with f.loop("0", size_k, lanes, hint="k", opaque=True) as k:
            reach, = strip.reach(f, k.index, 1, whole=False)
            vector = reach.load(f, element, f.gep(element, source, reach.lead))
            value = widen(f, vector, dtype, lanes)
            f.store(f"<{lanes} x {ty}>", value, f.gep(ty, target, k.index), 4)


def pack_a_cols(f: Function, dtype: str, ty: str, a: str, tile: str, strip: Strip, k: Offsets,
                size_k: str, height: int) -> None:
    """[k][row] from an A whose vectors lie along its rows; `strip` is as wide as a tile is high.

    A vector may be wider than the tile: what is too much is overwritten by the next k.
    """
    element, lanes = MEMORY_TYPE[dtype], strip.width
    reach, = strip.reach(f, "0", 1, whole=False)
    source = f.gep(element, a, reach.lead)
    with f.loop("0", size_k, hint="k", opaque=True) as row:
        vector = reach.load(f, element, f.gep(element, source, k.at(f, row.index)))
        place = f.gep(ty, tile, f.mul(row.index, str(height)))
        f.store(f"<{lanes} x {ty}>", widen(f, vector, dtype, lanes), place, 4)


def row_offsets(f: Function, axes, first: str, rows: int, last: str) -> list[str]:
    """The offsets of rows first .. first + rows - 1, those past `last` being its own."""
    return [emit_offset(f, axes, emit_minimum(f, f.add(first, str(r)), last)) for r in range(rows)]
