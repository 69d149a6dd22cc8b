"""lower: the graph of a fused group becomes a loop nest.

Every result is asked for at an index made of loop axes, and asks its operands in turn: a view maps
the index, an elementwise primitive passes it on, an input becomes a Load at an affine address. A
reduction met at row index `i` asks its operand at `i` and the reduced axes, which are all axes of
the full results that `i` does not use, or new ones where there are no full results. So
`y = x - broadcast(max(x))` becomes rows, a sweep for the maximum and a sweep that stores.

`NotFusable` says that the group is no such nest; the fuse pass asks before it forms one.
"""

from __future__ import annotations

import functools
import math

from cellc.errors import SymbolicFault
from cellc.ir.graph import Apply, Constant, Graph, Input, Node, once
from cellc.ir.numerics import full, to_compute
from cellc.ir.prims.random import philox_element, philox_words
from cellc.ir.prims.reduce import reduced_axes
from cellc.ir.types import ScalarType, bf16, boolean, f16, i64, u64
from cellc.kernels import totals
from cellc.kernels.loops import (
    Buffer,
    Checked,
    Guard,
    Index,
    Inside,
    Literal,
    Load,
    Nest,
    Reduction,
    ScalarOp,
    Store,
    Value,
)
from cellc.kernels.views import (
    MAX_SPLITS,
    ZERO,
    Affine,
    Axis,
    NeedSplit,
    NotAffine,
    bijective,
    linear,
    operand_index,
    reshape_index,
    result_index,
)


class NotFusable(Exception):
    """The graph cannot be one loop nest."""


class Unplaced(NotFusable):
    """Nothing that a result is made of has a place in the nest yet."""


@once
def lower(graph: Graph) -> Nest:
    """The nest of a group. Its buffers take the slots of the context in order: inputs, results."""
    splits: dict[str, int] = {}             # the name of an axis -> its inner extent
    for _ in range(MAX_SPLITS):
        lowering = Lowering(graph, splits)
        try:
            return lowering.run()
        except NeedSplit as need:
            splits[need.axis.name] = need.inner
        except (NotAffine, SymbolicFault) as fault:
            raise NotFusable(str(fault)) from fault
    raise NotFusable("too many axes would have to be cut")


class Lowering:
    """One attempt, with the axes cut as `splits` says.

    Axes are numbered in the order in which they are made, which an attempt repeats exactly until it
    gets further than the last one. Pieces are not counted, but named after what they are pieces of:
    so a cut is remembered by name, whatever is cut before it.
    """

    def __init__(self, graph: Graph, splits: dict[str, int]):
        self.graph, self.splits = graph, splits
        self.axes: list[Axis] = []               # in the order in which they are made
        self.made = 0                            # of them, that are no pieces
        self.live: set[Axis] = set()             # axes that have not been cut
        self.anchor: list[Axis] = []             # axes of the first result, or of what is totalled
        self.anchor_index: list[Affine] = []     # its index
        self.anchored: Node | None = None        # the node itself
        self.reduced: list[Axis] | None = None
        self.reduced_index: list[Affine] = []
        self.reduced_extents: tuple = ()
        self.memo: dict = {}
        self.at: dict[Node, list[Affine]] = {}   # where a node was first asked for
        self.guards: dict[tuple[Guard, ...], Value] = {}
        tensors = [*graph.inputs, *graph.results]
        self.buffers = [
            Buffer(x.name if i < len(graph.inputs) else f"out{i - len(graph.inputs)}",
                   i, x.dtype, x.type.size, isinstance(x.type, ScalarType))
            for i, x in enumerate(tensors)]
        self.input_buffers = dict(zip(graph.inputs, self.buffers, strict=False))
        self.outputs = self.buffers[len(graph.inputs):]

    def run(self) -> Nest:
        stores, late, results = {}, [], self.graph.results
        sums = [i for i, x in enumerate(results) if self._is_total(x)]
        if sums and all(x.size < results[sums[0]].operands[0].size for x in results):
            x = results[sums[0]].operands[0]
            self.at[x] = self._anchor_at(x)
        for result in (i for i in self._order() if i not in sums):
            try:
                stores[result] = self._store(result)
            except Unplaced:
                late.append(result)
        for result in sums:                     # gives what they are made of a place
            self._totalled(result)
        for result in late:
            stores[result] = self._store(result)
        for result in sums:
            stores[result] = self._total(result)
        reduced = self.reduced or []
        rows = [a for a in self.axes if a not in reduced and a in self.live]
        nest = Nest(rows, [a for a in reduced if a.extent != 1],
                    [stores[i] for i in sorted(stores)])
        self._check(nest)
        return nest

    def _store(self, result: int) -> Store:
        node = self.graph.results[result]
        index = self._result_index(result)
        value = self.value(node, index)
        return Store(self.outputs[result], linear(index, node.shape), value)

    def _check(self, nest: Nest) -> None:
        """Every result covers its array: a full one uses all axes; a row needs no reduced axis."""
        for store in nest.stores:
            if store.total:
                continue
            wanted = frozenset(store.place.terms)
            if not store.value.axes <= wanted:
                raise NotFusable(f"{store} depends on axes that it does not store")
            if wanted & frozenset(nest.reduced) and not wanted >= frozenset(nest.reduced):
                raise NotFusable(f"{store} covers only some of the reduced axes")

    # -- totals --------------------------------------------------------------------------------
    def _is_total(self, node: Node) -> bool:
        """Is it a sum of columns that only others want, in a nest that walks rows?"""
        if not totals.may_be(node) or any(
                node in x.operands for x in self.graph.body if x.prim.name != "tuple"):
            return False
        size = node.operands[0].size
        return any(x.size == size for x in self.graph.results) or any(
            x.prim.kind == "reduce" and x.operands[0].size == size and not totals.may_be(x)
            for x in self.graph.body)

    def _totalled(self, result: int) -> tuple[list[Affine], Value]:
        """What a total is the sum of, and at which index."""
        x = self.graph.results[result].operands[0]
        index = self.at.get(x) or self._infer(x)
        if index is None or not bijective(index, x.shape):
            raise NotFusable(f"{x} is summed up, and is not what the others walk")
        return index, self.value(x, index)

    def _total(self, result: int) -> Store:
        node = self.graph.results[result]
        index, value = self._totalled(result)
        kept = [i for k, i in enumerate(index) if k not in reduced_axes(node)]
        place = linear(kept, node.shape)
        wanted = frozenset(place.terms)
        if self.reduced and wanted != frozenset(self.reduced):
            return self._store(result)          # columns are walked here, for others' sake
        return Store(self.outputs[result], place, value, total=True)

    # -- axes ----------------------------------------------------------------------------------
    def new_axes(self, extents, letter: str) -> tuple[list[Axis], list[Affine]]:
        """Axes for the extents, cut as decided; the index of each extent in terms of them."""
        made, index = [], []
        for extent in extents:
            axis = Axis(f"{letter}{self.made}", extent)
            self.made += 1
            self.axes.append(axis)
            self.live.add(axis)
            pieces, expressions = self._cut(axis)
            made.extend(pieces)
            index.append(expressions)
        return made, index

    def _cut(self, axis: Axis) -> tuple[list[Axis], Affine]:
        inner_extent = self.splits.get(axis.name)
        if inner_extent is None:
            return [axis], Affine.of(axis)
        pieces, parts = [], []
        self.live.discard(axis)
        for suffix, extent in (("o", axis.extent // inner_extent), ("i", inner_extent)):
            piece = Axis(axis.name + suffix, extent)
            self.axes.append(piece)
            self.live.add(piece)
            axes, expression = self._cut(piece)
            pieces.extend(axes)
            parts.append(expression)
        return pieces, parts[0] * inner_extent + parts[1]

    # -- results -------------------------------------------------------------------------------
    def _order(self) -> list[int]:
        """The largest result first: its axes are the nest's."""
        results, first = self.graph.results, 0
        for i, x in enumerate(results):
            if _larger(x.size, results[first].size):
                first = i
        return [first, *(i for i in range(len(results)) if i != first)]

    def _result_index(self, result: int) -> list[Affine]:
        node = self.graph.results[result]
        if not self.axes:
            return self._anchor_at(node)
        index = self.at.get(node)
        if index is None:
            index = self._infer(node)
        if index is None or not bijective(index, node.shape):
            index = self._by_shape(node)
        return index

    def _anchor_at(self, node: Node) -> list[Affine]:
        """The index of the node whose axes are the nest's."""
        self.anchored = node
        self.anchor, self.anchor_index = self.new_axes(node.shape, "i")
        return self.anchor_index

    def _by_shape(self, node: Node) -> list[Affine]:
        """The index of a result that shares nothing with the others: by its shape."""
        if node.size == self.anchored.size:
            shape = self.anchored.shape
            return reshape_index(self.anchor_index, node.shape and shape, node.shape)
        rows = [a for a in self.axes if a in self.live and a not in (self.reduced or ())]
        if tuple(a.extent for a in rows) == tuple(n for n in node.shape if n != 1):
            axes = iter(rows)
            return [ZERO if n == 1 else Affine.of(next(axes)) for n in node.shape]
        if node.size == 1:
            return [ZERO] * node.ndim
        raise Unplaced(f"result {node} is not indexed by the axes of the others")

    def _infer(self, node: Node) -> list[Affine] | None:
        """The index at which `node` fits what has been asked for already: from its operands'."""
        if node in self.at:
            return self.at[node]
        if not isinstance(node, Apply):
            return None
        for x in node.operands:
            index = self._infer(x) if x.type.shape else None
            if index is None:
                continue
            found = self._forward(node, x, index)
            if found is not None:
                return found
        return None

    def _forward(self, node: Apply, x: Node, index: list[Affine]) -> list[Affine] | None:
        """The index of `node` whose operand x is read at `index`."""
        kind = node.prim.kind
        if kind == "elementwise":
            return index
        if kind == "view":
            try:
                return result_index(node, index)
            except NotAffine:
                return None
        if kind == "reduce":
            axes = reduced_axes(node)
            return [i for k, i in enumerate(index) if k not in axes]
        return None

    # -- values --------------------------------------------------------------------------------
    def value(self, node: Node, index: list[Affine], guards: tuple[Guard, ...] = ()) -> Value:
        """The element of `node` at `index`; where a guard fails nothing may be read."""
        key = (node, tuple(index), guards)
        if key not in self.memo:
            if node not in self.at and not guards:
                self.at[node] = list(index)
            self.memo[key] = self._value(node, index, guards)
        return self.memo[key]

    def _value(self, node: Node, index, guards) -> Value:
        if isinstance(node, Constant):
            return self._constant(node)
        if isinstance(node, Input):
            return self._load(node, linear(index, node.shape), guards)
        name = node.prim.name
        special = getattr(self, f"_at_{name}", None)
        if special is not None:
            return special(node, index, guards)
        if node.prim.kind == "view":
            return self._view(node, index, guards)
        if node.prim.kind == "reduce":
            return self._reduce(node, index, guards)
        if node.prim.kind == "elementwise" and node.prim.scalar is not None:
            inputs = tuple(self.value(x, index if x.shape else [], guards) for x in node.operands)
            make = functools.partial(node.prim.scalar, **node.attrs)
            return ScalarOp(node.dtype, name, make, inputs)
        raise NotFusable(f"{name} is no part of a loop nest")

    def _constant(self, node: Constant) -> Value:
        if not node.is_fill:
            raise NotFusable("an array constant must be an operand of the group")
        value = node.value
        if node.dtype in (f16, bf16):       # computed with as f32, but rounded as when stored
            value = float(to_compute(full((), value, node.dtype)))
        return Literal(node.dtype, value)

    def _load(self, node: Input, place: Affine, guards, dynamic=None) -> Value:
        if node.size == 0:
            return Literal(node.dtype, 0)
        return Load(node.dtype, self.input_buffers[node], place, guards, dynamic)

    def inside(self, guards: tuple[Guard, ...]) -> Value:
        if guards not in self.guards:
            self.guards[guards] = Inside(boolean, guards)
        return self.guards[guards]

    # -- views ---------------------------------------------------------------------------------
    def _at_reshape(self, node, index, guards):
        x = node.operands[0]
        while isinstance(x, Apply) and x.prim.name == "reshape":
            x = x.operands[0]
        if isinstance(x, Input):
            return self._load(x, linear(index, node.shape), guards)
        return self.value(x, reshape_index(index, node.shape, x.shape), guards)

    def _view(self, node, index, guards):
        return self.value(node.operands[0], operand_index(node, index), guards)

    # -- things with an index or a condition -----------------------------------------------------
    def _at_pad(self, node, index, guards):
        x, low = node.operands[0], node.attrs["low"]
        if any(node.attrs.get("interior") or ()):
            raise NotFusable("a pad between elements is a kernel of its own")
        fill = Literal(node.dtype, node.attrs["value"])
        if x.size == 0:
            return fill
        own = [i + -a for i, a in zip(index, low, strict=True)]
        new = tuple(Guard(i, n) for i, n, a, m in zip(own, x.shape, low, node.shape, strict=True)
                    if a or n != m)
        if not new:
            return self.value(x, index, guards)
        value = self.value(x, own, guards + tuple(g for g in new if g not in guards))
        return ScalarOp(node.dtype, "select", lambda b, c, v, w: b.select(c, v, w),
                        (self.inside(new), value, fill))

    def _at_iota(self, node, index, guards):
        return _cast(Index(i64, index[node.attrs["axis"]]), node.dtype)

    def _at_dim_size(self, node, index, guards):
        return Index(i64, Affine(node.attrs["dim"]))

    def _at_random_bits(self, node, index, guards):
        key = [self.value(node.operands[0], [Affine(i)], ()) for i in (0, 1)]
        place = linear(index, node.shape)
        word = self._word_axis(place)
        if word is None:
            return ScalarOp(node.dtype, "random_bits", lambda b, i, *key: philox_element(
                b, b.cast(i, u64), *key), (Index(i64, place), *key))
        block = Affine(place.const // 4, {a: c // 4 for a, c in place.terms.items()
                                          if a is not word})
        return ScalarOp(node.dtype, "random_bits", _philox_word, (
            Index(i64, block), Index(i64, Affine.of(word)), *key))

    def _word_axis(self, place: Affine) -> Axis | None:
        """The axis that runs over the four words of a block of random bits, cut out if need be."""
        word = next((a for a, c in place.terms.items() if c == 1), None)
        others = [place.const, *(c for a, c in place.terms.items() if a is not word)]
        if word is None or not isinstance(word.extent, int) or word.extent % 4 or not all(
                isinstance(c, int) and c % 4 == 0 for c in others):
            return None
        if word.extent != 4:
            raise NeedSplit(word, 4)
        return word

    def _at_gather(self, node, index, guards):
        """x at [..., index, ...]: an input is read through an address that depends on memory."""
        x, position = node.operands
        if position.size == 0:
            return Literal(node.dtype, 0)
        filled, table = isinstance(x, Constant) and x.is_fill, x
        while isinstance(table, Apply) and table.prim.name == "reshape":
            table = table.operands[0]
        if not filled and not isinstance(table, Input):
            raise NotFusable("gather reads what the group computes")
        axis, n = node.attrs["axis"], position.ndim
        at = self.value(position, index[axis:axis + n], guards)
        checked = Checked(i64, _cast(at, i64), x.shape[axis], 0, guards)
        if filled or x.size == 0:       # nothing is read, but a wrong index still is an error
            value = self._constant(x) if filled else Literal(node.dtype, 0)
            return ScalarOp(node.dtype, "gather", lambda b, i, v: v, (checked, value))
        own = [*index[:axis], ZERO, *index[axis + n:]]
        stride = linear([ZERO if k != axis else Affine(1) for k in range(x.ndim)], x.shape).const
        return self._load(table, linear(own, x.shape), guards, (checked, stride))

    # -- reductions ------------------------------------------------------------------------------
    def _reduce(self, node, index, guards):
        x, axes = node.operands[0], reduced_axes(node)
        extents = tuple(x.shape[i] for i in axes)
        inner = self._reduction_index(index, extents)
        kept, inner_index = iter(index), dict(zip(axes, inner, strict=True))
        own = [inner_index[k] if k in inner_index else next(kept) for k in range(x.ndim)]
        name = node.prim.name
        if all(n == 1 for n in extents):
            element = self.value(x, own, guards)
            return Literal(node.dtype, 0) if name in ("argmax", "argmin") else element
        if guards:
            raise NotFusable("a reduction inside a pad")
        operand = self.value(x, own)
        if name in ("argmax", "argmin"):
            return Reduction(node.dtype, name, operand, None, tuple(self.reduced), inner[0])
        op, neutral = node.prim.reduce
        return Reduction(node.dtype, op, operand, neutral(node.dtype.compute), tuple(self.reduced))

    def _at_dot(self, node, index, guards):
        """A product as the reduction it is: for dtypes and views that gemm does not take."""
        (a, b), contract, batch = node.operands, node.attrs["contract"], node.attrs["batch"]
        inner = self._reduction_index(index, tuple(a.shape[i] for i in contract[0]))
        lead, rest = len(batch[0]), iter(index[len(batch[0]):])
        elements = []
        for x, summed, shared in zip((a, b), contract, batch, strict=True):
            own = [index[:lead][shared.index(k)] if k in shared else
                   inner[summed.index(k)] if k in summed else next(rest) for k in range(x.ndim)]
            elements.append(_cast(self.value(x, own, guards), node.dtype))
        terms = ScalarOp(node.dtype, "mul", lambda b, x, y: b.mul(x, y), tuple(elements))
        if all(i.terms == {} for i in inner):
            return terms
        if guards:
            raise NotFusable("a reduction inside a pad")
        return Reduction(node.dtype, "add", terms, 0, tuple(self.reduced))

    def _reduction_index(self, index, extents) -> list[Affine]:
        """The index along axes that are reduced: they are made at the first reduction, and later
        ones must have the same."""
        long = tuple(n for n in extents if n != 1)
        if not long:
            return [ZERO] * len(extents)
        if self.reduced is None:
            used = {a for i in index for a in i.terms}
            left = [a for a in self.anchor if a not in used and a.extent != 1]
            if left:
                self._adopt(left, long)
            else:
                self.reduced, self.reduced_index = self.new_axes(long, "r")
                self.reduced_extents = long
        if long != self.reduced_extents:
            raise NotFusable(f"reductions over {long} and {self.reduced_extents}")
        if any(a in self.reduced for i in index for a in i.terms):
            raise NotFusable("a reduction within a reduction")
        places = iter(self.reduced_index)
        return [ZERO if n == 1 else next(places) for n in extents]

    def _adopt(self, left: list[Axis], extents) -> None:
        """The axes of the full results that a row does not use are the reduced ones."""
        shape = tuple(a.extent for a in left)
        if math.prod(shape) != math.prod(extents):
            raise NotFusable(f"a reduction over {extents} beside full results over {shape}")
        self.reduced, self.reduced_extents = left, extents
        self.reduced_index = reshape_index([Affine.of(a) for a in left], shape, extents)

    def _at_windows_add(self, node, index, guards):
        """The sum over the window's places of the windows that hold this element (stride 1)."""
        w, k = node.operands[0], len(node.attrs["shape"])
        lead = w.ndim - 2 * k
        if any(s != 1 for s in node.attrs["strides"]) or guards:
            raise NotFusable("windows_add with a stride is a kernel of its own")
        inner = self._reduction_index(index, w.shape[lead + k:])
        outer = [i + j * -d for i, j, d in
                 zip(index[lead:], inner, node.attrs["dilations"], strict=True)]
        guards = tuple(Guard(i, n) for i, n in zip(outer, w.shape[lead:lead + k], strict=True))
        element = self.value(w, [*index[:lead], *outer, *inner], guards)
        operand = ScalarOp(node.dtype, "select", lambda b, c, v, z: b.select(c, v, z),
                           (self.inside(guards), element, Literal(node.dtype, 0)))
        return Reduction(node.dtype, "add", operand, 0, tuple(self.reduced))


def _cast(value: Value, dtype) -> Value:
    if value.dtype is dtype:
        return value
    return ScalarOp(dtype, "cast", lambda b, x: b.cast(x, dtype), (value,))


def _philox_word(b, block, word, *key):
    """Word number `word` of a block; where that is known, all four are made together, once."""
    wide = b.cast(block, u64)
    if b.known(word) is not None:
        words = b.once(("philox", block, *key), lambda: philox_words(b, wide, *key))
        return words[b.known(word)]
    four = b.const(4, u64)
    return philox_element(b, b.add(b.mul(wide, four), b.cast(word, u64)), *key)


def _larger(a, b) -> bool:
    try:
        return bool(a > b)
    except SymbolicFault:
        return not isinstance(a, int)
