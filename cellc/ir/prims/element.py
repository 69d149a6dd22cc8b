"""Reading and writing at one place, given by numbers: `x[i, j]` and `x[i, j] = v` in loops.

The indices count along the leading axes of x; where there are fewer of them than axes, a whole
contiguous block is read or written. They are numbers of the program, checked when it runs, and
`checked=False` says that a pass has proved them in range. Reading costs no more than the element;
writing changes x in place where nobody looks at the old value any more.
"""

from __future__ import annotations

import math

import numpy as np

from cellc.errors import IndexFault, ShapeFault, TypeFault
from cellc.ir import numerics as num
from cellc.ir.graph import PRIMITIVES, Builder, fill, primitive
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import shape as s
from cellc.ir.prims.checks import NUMBER, takes_tensor
from cellc.ir.prims.gather import gather, scatter_add
from cellc.ir.prims.rules import linear, together
from cellc.ir.types import Dim, ScalarType, TensorType, i64

INDEX = ScalarType(i64)


def _block(prim: str, x, index):
    """The type of the block of x at these indices."""
    takes_tensor(prim, x)
    if any(i != INDEX for i in index):
        raise TypeFault(f"{prim}: found the index {', '.join(map(str, index))}, expected whole "
                        "numbers")
    if not 1 <= len(index) <= x.ndim:
        raise ShapeFault(f"{prim}: found {len(index)} indices of {x}, expected 1 to {x.ndim}")
    return x.with_shape(x.shape[len(index):])


def _place(x, index) -> tuple[int, ...]:
    for i, n in zip(index, np.shape(x), strict=False):
        if not 0 <= int(i) < n:
            raise IndexFault(f"index {int(i)} is out of range for a size of {n}",
                             f"indices from 0 to {n - 1}")
    return tuple(map(int, index))


def _put_types(prim: str):
    def types(x, v, *index, checked=True):
        block = _block(prim, x, index)
        if v != block:
            raise TypeFault(f"{prim}: found {v} for a place of type {block}")
        return x

    return types


def _write(x, v, *index, checked=True):
    result = np.array(x)
    result[_place(x, index)] = v
    return result


def _accumulate(x, v, *index, checked=True):
    place, result = _place(x, index), np.array(x)
    total = num.to_compute(np.asarray(result[place])) + num.to_compute(np.asarray(v))
    result[place] = num.from_compute(np.asarray(total), num.dtype_of(x))
    return result


def _write_vjp(g, y, x, v, *index, checked=True):
    dv = read(g, *index, checked=checked)       # before g is changed in place
    return [write(g, fill(v.type, 0), *index, checked=checked), dv, *(None for _ in index)]


# -- lanes: all elements at the leading indices as one axis, and a place along it ------------------

FEW = 32        # places: as many are compared with the index rather than written one by one


def _one_axis(x, n_lead: int, lanes: bool):
    """x with its leading axes (those after the lanes) as one."""
    first = 1 if lanes else 0
    lead, rest = x.shape[first:first + n_lead], x.shape[first + n_lead:]
    return s.reshape(x, shape=(*x.shape[:first], math.prod(lead), *rest))


def _along_one_axis(index, sizes, checked: bool):
    """The place along that axis: numbers, or tensors of a number for each lane; -1 outside."""
    from cellc.ir import arith

    sizes = [arith.size_number(n) if isinstance(n, Dim) else n for n in sizes]
    place, inside = index[0], None
    for i, (at, n) in enumerate(zip(index, sizes, strict=True)):
        place = arith.add(arith.mul(place, n), at) if i else at
        fits = arith.bitwise_and(arith.greater_equal(at, 0), arith.less(at, n))
        inside = fits if inside is None else arith.bitwise_and(inside, fits)
    return place if not checked or len(index) == 1 else arith.where(inside, place, -1)


def _read_batch(n, lanes, x, *index, checked=True):
    own, which = lanes[0], any(lanes[1:])
    sizes = x.shape[1:] if own else x.shape
    place = _along_one_axis(index, sizes[:len(index)], checked)
    row = _one_axis(x, len(index), own)
    if not which:
        return gather(row, s.from_scalar(place), axis=1)
    return gather.batch(n, (own, True), row, place, axis=0)


def _put_batch(prim: str):
    """Few places are compared with the index; else the lanes are written one after another."""

    def batch(n, lanes, x, v, *index, checked=True):
        x, v = together(n, lanes[:2], (x, v))
        sizes = x.shape[1:len(index) + 1]
        places = math.prod(sizes)
        if isinstance(places, Dim) or places > FEW:
            return _put_in_order(prim, n, lanes[2:], x, v, index, checked)
        place = _along_one_axis(index, sizes, checked)
        ones = fill(TensorType(i64, (n,)), 1)
        if any(lanes[2:]):
            here = scatter_add.batch(n, (True, True), place, ones, axis=0, size=places)
        else:
            here = scatter_add(s.from_scalar(place), ones, axis=1, size=places)
        row = _one_axis(x, len(index), True)
        here = s.broadcast(e.ne(here, e.zero(here)), shape=row.shape, dims=(0, 1))
        new = s.broadcast(v, shape=row.shape, dims=(0, *range(2, len(row.shape))))
        if prim == "accumulate":
            new = e.add(row, new)
        return s.reshape(e.select(here, new, row), shape=x.shape)

    return batch


def _put_in_order(prim: str, n, own, x, v, index, checked):
    """A loop over the lanes, in which x changes in place."""
    from cellc.ir import arith

    given = [x, v, *index]
    count = arith.size_number(n) if isinstance(n, Dim) else n
    graphs = {}
    for name in ("test", "body"):
        with Builder(f"{prim}.{name}") as b:
            k = b.input(INDEX, "lane")
            x, v, *index = (b.input(i.type, f"x{j}") for j, i in enumerate(given))
            if name == "test":
                graphs[name] = b.finish(arith.less(k, count))
                continue
            at = [s.to_scalar(read(i, k, checked=False)) if has else i
                  for i, has in zip(index, own, strict=True)]
            put = PRIMITIVES[prim](x, read(v, k, checked=False), k, *at, checked=checked)
            graphs[name] = b.finish(PRIMITIVES["tuple"](arith.add(k, 1), put))
    return PRIMITIVES["item"](PRIMITIVES["while"](0, *given, **graphs), index=1)


def _put_jvp(prim: str):
    def jvp(dxs, y, x, v, *index, checked=True):
        dx, dv = (fill(a.type, 0) if da is None else da for a, da in zip((x, v), dxs, strict=False))
        return PRIMITIVES[prim](dx, dv, *index, checked=checked)

    return jvp


read = primitive(
    "read", "x *index", doc="The element, or block of elements, of x at these leading indices.",
    kind="control", types=lambda x, *index, checked=True: _block("read", x, index),
    eval=lambda x, *index, checked=True: np.asarray(np.asarray(x)[_place(x, index)]),
    jvp=linear("read"), batch=_read_batch,
    vjp=lambda g, y, x, *index, checked=True: [
        accumulate(fill(x.type, 0), g, *index, checked=checked), *(None for _ in index)])
write = primitive(
    "write", "x v *index", doc="x with v as the element, or block, at these leading indices.",
    kind="control", types=_put_types("write"), eval=_write, vjp=_write_vjp,
    jvp=_put_jvp("write"), batch=_put_batch("write"))
accumulate = primitive(
    "accumulate", "x v *index", kind="control", eval=_accumulate, jvp=_put_jvp("accumulate"),
    batch=_put_batch("accumulate"),
    doc="x with v added to the element, or block, at these leading indices.",
    types=lambda x, v, *index, checked=True: (
        takes_tensor("accumulate", x, NUMBER), _put_types("accumulate")(x, v, *index))[1],
    vjp=lambda g, y, x, v, *index, checked=True: [
        g, read(g, *index, checked=checked), *(None for _ in index)])
