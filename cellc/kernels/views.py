"""Affine index arithmetic: how views (transpose, slice, windows, reshape, ...) become addresses.

An index is an `Affine`: a constant plus whole multiples of loop axes. Every view maps the index of
its result to the index of its operand, so a chain of views costs nothing at run time: it ends in
one affine address. Only a reshape can fail to be affine; where cutting a loop axis in two would
help, `NeedSplit` says which, and lowering starts again with that axis cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cellc.errors import SymbolicFault
from cellc.record import record


@record(eq=False)
class Axis:
    """A loop variable 0 <= i < extent; `extent` is an int or a Dim.

    A `limit`, an expression of axes further out, may stop the loop earlier. The loop of a `tile`
    axis is the innermost one, within that over vectors.
    """

    name: str
    extent: object
    limit: Affine | None = None
    tile: bool = False

    def __repr__(self) -> str:
        return self.name


class NotAffine(Exception):
    """A view whose address is no affine function of the loop axes."""


class NeedSplit(NotAffine):
    """Affine once `axis` is cut into (extent / inner, inner)."""

    def __init__(self, axis: Axis, inner: int):
        super().__init__(f"axis {axis} must be cut at {inner}")
        self.axis, self.inner = axis, inner


class Affine:
    """`const + sum(coef * axis)`; coefficients are ints or Dims. Immutable."""

    __slots__ = ("const", "terms", "_key")

    def __init__(self, const=0, terms: dict[Axis, object] | None = None):
        self.const = const
        self.terms = {a: c for a, c in (terms or {}).items() if c != 0}
        self._key = None

    @staticmethod
    def of(axis: Axis) -> Affine:
        """The axis itself; an axis of extent 1 is always 0."""
        return Affine(0, {axis: 1} if axis.extent != 1 else {})

    def key(self):
        if self._key is None:
            self._key = (self.const, frozenset((id(a), c) for a, c in self.terms.items()))
        return self._key

    def __eq__(self, other) -> bool:
        return isinstance(other, Affine) and self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())

    def __add__(self, other) -> Affine:
        if not isinstance(other, Affine):
            return Affine(self.const + other, self.terms)
        terms = dict(self.terms)
        for axis, coef in other.terms.items():
            terms[axis] = terms[axis] + coef if axis in terms else coef
        return Affine(self.const + other.const, terms)

    def __mul__(self, factor) -> Affine:
        return Affine(self.const * factor, {a: c * factor for a, c in self.terms.items()})

    def coef(self, axis: Axis):
        return self.terms.get(axis, 0)

    def substitute(self, mapping: dict[Axis, Affine]) -> Affine:
        """Each axis in `mapping` replaced by its expression."""
        result = Affine(self.const, {a: c for a, c in self.terms.items() if a not in mapping})
        for axis, coef in self.terms.items():
            if axis in mapping:
                result = result + mapping[axis] * coef
        return result

    def bounds(self) -> tuple[int, int]:
        """The least and greatest value; SymbolicFault where an axis is symbolic."""
        low = high = self.const
        for axis, coef in self.terms.items():
            reach = coef * (axis.extent - 1) if isinstance(axis.extent, int) else None
            if reach is None or not isinstance(reach, int):
                raise SymbolicFault(f"the range of {self} depends on the size of {axis.extent}")
            low, high = low + min(reach, 0), high + max(reach, 0)
        return low, high

    def __repr__(self) -> str:
        parts = [f"{c}*{a}" if c != 1 else f"{a}" for a, c in self.terms.items()]
        if self.const != 0 or not parts:
            parts.append(str(self.const))
        return " + ".join(parts).replace("+ -", "- ")


ZERO = Affine()
MAX_SPLITS = 12             # how often a reader of views tries again with one more axis cut


def row_major(shape: Sequence) -> list:
    """The strides of a dense array, in elements."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step = step * size
    return strides[::-1]


def linear(index: Sequence[Affine], shape: Sequence) -> Affine:
    """The place of an element in a dense row-major array; of an empty one, still along all axes."""
    total = ZERO
    for i, stride in zip(index, row_major([n or 1 for n in shape]), strict=True):
        if i.terms or i.const != 0:
            total = total + i * stride
    return total


def dense(axes: Sequence[Axis]) -> tuple[Affine, int]:
    """The place of a point in an array of just these axes, and its size."""
    place, stride = Affine(), 1
    for axis in reversed(axes):
        place, stride = place + Affine(0, {axis: stride}), stride * axis.extent
    return place, stride


def segments(one: Sequence, other: Sequence) -> list[tuple[slice, slice]]:
    """Cut two shapes of equal size into the finest pairs of runs with equal products."""
    found, i, j = [], 0, 0
    while i < len(one) or j < len(other):
        start_i, start_j = i, j
        left = one[i] if i < len(one) else 1
        right = other[j] if j < len(other) else 1
        i, j = min(i + 1, len(one)), min(j + 1, len(other))
        while left != right:
            if _smaller(left, right):
                left, i = left * one[i], i + 1
            else:
                right, j = right * other[j], j + 1
        found.append((slice(start_i, i), slice(start_j, j)))
    return found


def _smaller(left, right) -> bool:
    """Which of two partial products has to grow; a symbolic one is the larger."""
    if isinstance(left, int) and isinstance(right, int):
        return left < right
    if isinstance(left, int) != isinstance(right, int):
        return isinstance(left, int)
    return left.coef < right.coef


def reshape_index(index: Sequence[Affine], shape: Sequence, operand_shape: Sequence) -> list:
    """The operand's index of `reshape(operand)` at `index`; NotAffine where there is none."""
    if 0 in operand_shape:
        return [ZERO] * len(operand_shape)
    result: list = [None] * len(operand_shape)
    for mine, its in segments(shape, operand_shape):
        place = linear(index[mine], shape[mine])
        result[its] = delinearise(place, operand_shape[its])
    return result


def delinearise(place: Affine, shape: Sequence) -> list[Affine]:
    """The index into `shape` of the element at row-major `place`."""
    index, rest = [], place
    for position, stride in enumerate(row_major(shape)):
        if position == len(shape) - 1 or stride == 1:
            index.append(rest)
            rest = ZERO
            index.extend([ZERO] * (len(shape) - position - 1))
            break
        taken = {a: c for a, c in rest.terms.items() if _divisible(c, stride)}
        constant = rest.const // stride if rest.const else 0
        inner = Affine(rest.const - constant * stride,
                       {a: c for a, c in rest.terms.items() if a not in taken})
        _require_within(inner, stride)
        index.append(Affine(constant, {a: c // stride for a, c in taken.items()}))
        rest = inner
    return index


def _divisible(coef, stride) -> bool:
    if isinstance(coef, int) and isinstance(stride, int):
        return coef % stride == 0
    try:
        return coef % stride == 0
    except SymbolicFault:
        return False


def _require_within(inner: Affine, stride) -> None:
    """`inner` must stay in 0..stride-1, or an axis of it must be cut so that it does."""
    try:
        low, high = inner.bounds()
        if low >= 0 and high < stride:
            return
    except SymbolicFault:
        pass
    if isinstance(stride, int):
        for axis, coef in inner.terms.items():
            if isinstance(coef, int) and coef > 0 and stride % coef == 0:
                piece = stride // coef
                if piece > 1 and _divides(piece, axis.extent):
                    raise NeedSplit(axis, piece)
                common = math.gcd(piece, axis.extent) if isinstance(axis.extent, int) else 1
                if 1 < common < axis.extent:
                    raise NeedSplit(axis, common)
    raise NotAffine(f"{inner} is not within {stride}")


def _divides(piece: int, extent) -> bool:
    if isinstance(extent, int):
        return piece < extent and extent % piece == 0
    return extent.coef % piece == 0


# -- the views of the IR ---------------------------------------------------------------------------
def operand_index(node, index: Sequence[Affine]) -> list[Affine]:
    """Where a view primitive reads its operand for the element of its result at `index`."""
    x, attrs, name = node.operands[0], node.attrs, node.prim.name
    if name == "reshape":
        return reshape_index(index, node.shape, x.shape)
    if name == "transpose":
        own: list = [ZERO] * len(index)
        for i, axis in enumerate(attrs["perm"]):
            own[axis] = index[i]
        return own
    if name == "broadcast":
        return [ZERO if n == 1 else index[at] for n, at in zip(x.shape, attrs["dims"], strict=True)]
    if name == "slice":
        return [i * step + start for i, start, step in
                zip(index, attrs["starts"], attrs["steps"], strict=True)]
    if name == "flip":
        return [i * -1 + (n - 1) if k in attrs["axes"] else i
                for k, (i, n) in enumerate(zip(index, node.shape, strict=True))]
    if name == "windows":
        k = len(attrs["sizes"])
        lead = len(x.shape) - k
        pairs = zip(index[lead:lead + k], index[lead + k:], attrs["strides"], attrs["dilations"],
                    strict=True)
        return [*index[:lead], *(outer * stride + inner * dilation
                                 for outer, inner, stride, dilation in pairs)]
    raise NotAffine(f"{name} is no view")


def result_index(node, index: Sequence[Affine], missing: Sequence[Affine] = ()) -> list | None:
    """The index of a view's result whose operand is read at `index`; None where it has none.

    A broadcast repeats its operand along further axes: `missing` gives their index.
    """
    x, attrs, name = node.operands[0], node.attrs, node.prim.name
    if name == "reshape":
        return reshape_index(index, x.shape, node.shape)
    if name == "transpose":
        return [index[axis] for axis in attrs["perm"]]
    if name == "broadcast":
        place = dict(zip(attrs["dims"], range(len(x.shape)), strict=True))
        repeated, found = iter(missing), []
        for k, n in enumerate(node.shape):
            if k in place and x.shape[place[k]] == n:
                found.append(index[place[k]])
            else:
                found.append(ZERO if n == 1 else next(repeated, None))
        return None if None in found or next(repeated, None) is not None else found
    return None


def bijective(index: list[Affine], shape) -> bool:
    """Each place of `shape` is met once: the index is one axis each, with its whole extent."""
    seen = set()
    for i, n in zip(index, shape, strict=True):
        if n == 1:
            continue
        if i.const != 0 or len(i.terms) == 0:
            return False
        span = 1
        for axis, coef in sorted(i.terms.items(), key=lambda term: _size_key(term[1])):
            if coef != span or axis in seen:
                return False
            seen.add(axis)
            span = span * axis.extent
        if span != n:
            return False
    return True


def _size_key(coef):
    return (0, coef) if isinstance(coef, int) else (1, coef.coef)
