"""Reading and writing at one place, given by numbers: `x[i, j]` and `x[i, j] = v` in loops.

The indices count along the leading axes of x; where there are fewer of them than axes, a whole
contiguous block is read or written. They are numbers of the program, checked when it runs, and
`checked=False` says that a pass has proved them in range. Reading costs no more than the element;
writing changes x in place where nobody looks at the old value any more.
"""

from __future__ import annotations

import numpy as np

from cellc.errors import IndexFault, ShapeFault, TypeFault
from cellc.ir import numerics as num
from cellc.ir.graph import fill, primitive
from cellc.ir.prims.checks import NUMBER, takes_tensor
from cellc.ir.types import ScalarType, i64

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


read = primitive(
    "read", "x *index", doc="The element, or block of elements, of x at these leading indices.",
    kind="control", types=lambda x, *index, checked=True: _block("read", x, index),
    eval=lambda x, *index, checked=True: np.asarray(np.asarray(x)[_place(x, index)]),
    vjp=lambda g, y, x, *index, checked=True: [
        accumulate(fill(x.type, 0), g, *index, checked=checked), *(None for _ in index)])
write = primitive(
    "write", "x v *index", doc="x with v as the element, or block, at these leading indices.",
    kind="control", types=_put_types("write"), eval=_write,
    vjp=_write_vjp)
accumulate = primitive(
    "accumulate", "x v *index", kind="control", eval=_accumulate,
    doc="x with v added to the element, or block, at these leading indices.",
    types=lambda x, v, *index, checked=True: (
        takes_tensor("accumulate", x, NUMBER), _put_types("accumulate")(x, v, *index))[1],
    vjp=lambda g, y, x, v, *index, checked=True: [
        g, read(g, *index, checked=checked), *(None for _ in index)])
