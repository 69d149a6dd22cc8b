"""strides: windows that advance by more than one, added up, each stride as an axis of its own.

    windows_add(%w) {strides=s}   ->   reshape(transpose(windows_add(%w at t*s + r) {strides=1}))

That is the gradient of a pooling whose windows overlap. Element u*s + r of the sum gets the taps
t*s + r of windows: those of one r advance by one, and one kernel loads and adds up what they are
made of, where the windows themselves would be stored and scattered. For windows that cost little at
other taps: arithmetic on values that are the same at all taps (a cotangent, the place of a maximum)
and on the taps' numbers. Sums of products are for `phases`.
"""

from __future__ import annotations

import math

from cellc.ir.graph import PRIMITIVES, Apply, Builder, Constant, Graph, Node, fill
from cellc.ir.types import TensorType, i64
from cellc.passes.rebuild import everywhere, replacing

MOST_PHASES = 16
MOST_NODES = 32             # that are made again at other taps


def run(graph: Graph) -> Graph:
    return everywhere(graph, _spread)


def _spread(graph: Graph) -> Graph:
    sums = [node for node in graph.body if node.prim.name == "windows_add" and _is_worth(node)]
    if not sums:
        return graph
    return replacing(graph, (), {node: Spread(node).whole for node in sums})


def _is_worth(node: Apply) -> bool:
    """Do windows overlap somewhere, and can they be made at any tap?"""
    x, strides, k = node.operands[0], node.attrs["strides"], len(node.attrs["strides"])
    if not all(isinstance(n, int) and n > 0 for n in (*x.shape, *node.shape)):
        return False
    return (1 < math.prod(strides) <= MOST_PHASES and all(n == 1 for n in node.attrs["dilations"])
            and any(size > n > 1 for size, n in zip(x.shape[-k:], strides, strict=True))
            and _at_any_tap(x, x.ndim - k, set()))


def _at_any_tap(x: Node, first: int, seen: set[Node]) -> bool:
    """Whether x, whose axes from `first` on are taps, is arithmetic on values that do not vary with
    them, and on their numbers."""
    if isinstance(x, Constant):
        return x.is_fill
    if not isinstance(x, Apply) or len(seen) > MOST_NODES:
        return False
    if x in seen or x.prim.name == "iota":
        return True
    seen.add(x)
    if x.prim.name == "broadcast":
        inner = x.operands[0]
        return all(axis < first or n == 1 for axis, n in zip(x.attrs["dims"], inner.shape,
                                                             strict=True))
    return x.prim.kind == "elementwise" and all(
        not y.shape or _at_any_tap(y, first, seen) for y in x.operands)


class Spread:
    """The applies of one sum. The windows are made as [lead, counts, t, r] and added up as
    [lead, r, counts, t]; what comes is put together as [lead, u, r, u, r, ...]."""

    def __init__(self, node: Apply):
        self.node, x = node, node.operands[0]
        self.strides = node.attrs["strides"]
        self.k = k = len(self.strides)
        self.lead, self.counts, self.sizes = x.shape[:-2 * k], x.shape[-2 * k:-k], x.shape[-k:]
        self.taps = [-(-n // s) for n, s in zip(self.sizes, self.strides, strict=True)]
        self.shape = (*self.lead, *self.counts, *self.taps, *self.strides)
        self.first = len(self.lead) + k         # of the axes t
        self.made: dict[Node, Node] = {}

    def apply(self, name: str, *operands: Node, **attrs) -> Node:
        return self.builder.append(Apply(PRIMITIVES[name], operands, attrs, None, self.node.name,
                                         self.node.loc))

    def whole(self, builder: Builder, env: dict[Node, Node]) -> Node:
        self.builder, self.env = builder, env
        k, lead = self.k, len(self.lead)
        x = self.within(self.at_taps(self.node.operands[0]))
        x = self.apply("transpose", x, perm=(
            *range(lead), *range(lead + 2 * k, lead + 3 * k), *range(lead, lead + 2 * k)))
        steps = tuple(n + t - 1 for n, t in zip(self.counts, self.taps, strict=True))
        x = self.apply("windows_add", x, shape=steps, strides=(1,) * k, dilations=(1,) * k)
        x = self.apply("transpose", x, perm=(
            *range(lead), *(axis for i in range(k) for axis in (lead + k + i, lead + i))))
        all_ = tuple(n * s for n, s in zip(steps, self.strides, strict=True))
        x = self.apply("reshape", x, shape=(*self.lead, *all_))
        return self.cut(x, all_, self.node.shape[lead:])

    def cut(self, x: Node, have: tuple[int, ...], want: tuple[int, ...]) -> Node:
        """Less than all, or zeros where no window reaches."""
        none, kept = (0,) * len(self.lead), tuple(map(min, have, want))
        if kept != have:
            x = self.apply("slice", x, starts=(0,) * x.ndim, stops=(*self.lead, *kept),
                           steps=(1,) * x.ndim)
        if kept != want:
            beyond = tuple(a - b for a, b in zip(want, kept, strict=True))
            x = self.apply("pad", x, value=0, low=(0,) * x.ndim, high=(*none, *beyond))
        return x

    def at_taps(self, x: Node) -> Node:
        """x, made at taps t*s + r."""
        if x not in self.made:
            self.made[x] = self._at_taps(x)
        return self.made[x]

    def _at_taps(self, x: Node) -> Node:
        if isinstance(x, Constant):
            return fill(TensorType(x.dtype, self.shape), x.value)
        if x.prim.name == "iota":
            axis, dtype = x.attrs["axis"], x.attrs["dtype"]
            if axis < self.first:
                return self.apply("iota", shape=self.shape, axis=axis, dtype=dtype)
            return self.tap(axis - self.first, dtype)
        if x.prim.name == "broadcast":
            inner = x.operands[0]
            return self.apply("broadcast", self.env.get(inner, inner), shape=self.shape,
                              dims=x.attrs["dims"])
        operands = (self.at_taps(y) if y.shape else self.env.get(y, y) for y in x.operands)
        return self.apply(x.prim.name, *operands, **x.attrs)

    def tap(self, i: int, dtype) -> Node:
        """The number of a tap along the i-th axis of windows."""
        t = self.apply("iota", shape=self.shape, axis=self.first + i, dtype=dtype)
        r = self.apply("iota", shape=self.shape, axis=self.first + self.k + i, dtype=dtype)
        return self.apply("add", self.apply("mul", t, fill(t.type, self.strides[i])), r)

    def within(self, x: Node) -> Node:
        """Zero where there is no such tap."""
        for i, (size, taps, stride) in enumerate(zip(self.sizes, self.taps, self.strides,
                                                     strict=True)):
            if taps * stride > size:
                tap = self.tap(i, i64)
                x = self.apply("select", self.apply("lt", tap, fill(tap.type, size)), x,
                               fill(x.type, 0))
        return x
