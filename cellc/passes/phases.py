"""phases: windows that advance by more than one, added up after a product, phase by phase.

    windows_add(dot(%g, %w)) {strides=2}   ->  interleaved(windows_add(dot(%g, %w[0::2])),
                                                           windows_add(dot(%g, %w[1::2])))

That is the gradient of a convolution with a stride by its input. Element s*u + r of the sum gets
nothing but the taps r, r + s, r + 2*s, ... of the windows: for each of these phases it is the sum
of windows that advance by one, with fewer taps and as many multiplications in all. `adjoint` then
reads each as a convolution, where the rule would write s^2 times less than it adds up. A slice
behind the sum is taken of the phases.
"""

from __future__ import annotations

import itertools
import math

from cellc.ir.graph import PRIMITIVES, Apply, Builder, Graph, Node, fill
from cellc.ir.types import TensorType, i64
from cellc.passes.adjoint import Sum, sum_of
from cellc.passes.rebuild import everywhere, replacing, use_counts

MOST_PHASES = 16


def run(graph: Graph) -> Graph:
    return everywhere(graph, _split)


def _split(graph: Graph) -> Graph:
    if not any(node.prim.name == "windows_add" for node in graph.body):
        return graph
    uses = use_counts(graph)
    sums = {node: s for node in graph.body if (s := sum_of(node, uses)) and _is_worth(s)}
    if not sums:
        return graph
    cuts = {node.operands[0]: node for node in graph.body
            if node.prim.name == "slice" and node.operands[0] in sums
            and uses[node.operands[0]] == 1 and _keeps_rows(node, sums[node.operands[0]])}
    ends = {cuts.get(node, node): s for node, s in sums.items()}
    return replacing(graph, cuts, {node: Phases(s, node).whole for node, s in ends.items()})


def _is_worth(s: Sum) -> bool:
    """Do windows overlap, by more than one tap for each phase somewhere?"""
    strides, window = s.node.attrs["strides"], s.dot.operands[1 - s.side]
    taps = [window.shape[i] for i in s.within]
    return (1 < math.prod(strides) <= MOST_PHASES and all(n == 1 for n in s.node.attrs["dilations"])
            and any(k > n > 1 for k, n in zip(taps, strides, strict=True)))


def _keeps_rows(cut: Apply, s: Sum) -> bool:
    """Does a slice of a sum leave its leading axes, and no gaps?"""
    k = s.node.ndim - len(s.counts)
    return all(n == 1 for n in cut.attrs["steps"]) and cut.shape[:k] == s.node.shape[:k]


class Phases:
    """The applies of one sum; `node` is it, or the slice of it that is wanted.

    It is put together as [lead, u, r, u, r, ...], where element u * stride + r of an axis is
    element u of its phase r, and reshaped.
    """

    def __init__(self, s: Sum, node: Apply):
        self.s, self.node = s, node
        self.strides = s.node.attrs["strides"]
        k = len(self.strides)
        self.lead, self.sizes = node.shape[:-k], node.shape[-k:]
        self.starts = (0,) * k if node is s.node else tuple(node.attrs["starts"][-k:])
        self.steps = [-(-n // stride) for n, stride in zip(self.sizes, self.strides, strict=True)]

    def apply(self, name: str, *operands: Node, **attrs) -> Node:
        return self.builder.append(Apply(PRIMITIVES[name], operands, attrs, None, self.node.name,
                                         self.node.loc))

    def product(self, own: Node, counted: Node) -> Node:
        """The windows' product with the taps of one phase, these first: so the axes that count
        windows come last, and lie side by side where phases are put together."""
        dot, side = self.s.dot, self.s.side
        attrs = dot.attrs if side else dot.attrs | {key: dot.attrs[key][::-1]
                                                    for key in ("contract", "batch")}
        made = self.apply("dot", own, counted, **attrs)
        if not side:
            batch = len(dot.attrs["batch"][0])
            first = own.ndim - len(dot.attrs["contract"][1]) - batch
            made = self.apply("transpose", made, perm=(
                *range(batch), *range(batch + first, made.ndim), *range(batch, batch + first)))
        for perm in self.s.perms:
            made = self.apply("transpose", made, perm=perm)
        return made

    def whole(self, builder: Builder, env: dict[Node, Node]) -> Node:
        """All phases, put between one another."""
        self.builder, self.env = builder, env
        spread = [n for pair in zip(self.steps, self.strides, strict=True) for n in pair]
        shape, first = (*self.lead, *spread), len(self.lead)
        kept = (*range(first), *range(first, len(shape), 2))
        made = None
        for phase in itertools.product(*map(range, self.strides)):
            part = self.apply("broadcast", self.phase(phase), shape=shape, dims=kept)
            made = part if made is None else self.apply("select", self.is_at(phase, shape), part,
                                                        made)
        whole = tuple(n * stride for n, stride in zip(self.steps, self.strides, strict=True))
        made = self.apply("reshape", made, shape=(*self.lead, *whole))
        if whole != self.sizes:
            made = self.apply("slice", made, starts=(0,) * self.node.ndim, stops=self.node.shape,
                              steps=(1,) * self.node.ndim)
        return made

    def is_at(self, phase: tuple[int, ...], shape: tuple[int, ...]) -> Node:
        """Whether a point belongs to a phase."""
        met = None
        for i, r in enumerate(phase):
            if self.strides[i] > 1:
                place = self.apply("iota", shape=shape, axis=len(self.lead) + 2 * i + 1, dtype=i64)
                here = self.apply("eq", place, fill(place.type, r))
                met = here if met is None else self.apply("bit_and", met, here)
        return met

    def phase(self, phase: tuple[int, ...]) -> Node:
        """One phase of what is wanted: [lead, u]."""
        s, window = self.s, self.s.dot.operands[1 - self.s.side]
        at = [(start + r) % stride for start, r, stride in
              zip(self.starts, phase, self.strides, strict=True)]
        first = [(start + r) // stride for start, r, stride in
                 zip(self.starts, phase, self.strides, strict=True)]
        taps = [-(-(window.shape[i] - r) // stride) for i, r, stride in
                zip(s.within, at, self.strides, strict=True)]
        counted = s.dot.operands[s.side]
        reach = [counted.shape[i] + n - 1 for i, n in zip(s.counts, taps, strict=True)]
        if min(taps) <= 0 or any(a >= n for a, n in zip(first, reach, strict=True)):
            return fill(TensorType(s.node.dtype, (*self.lead, *self.steps)), 0)     # in the gaps
        bounds = dict(zip(s.within, zip(at, self.strides, strict=True), strict=True))
        ndim = window.ndim
        own = self.apply("slice", self.env.get(window, window),
                         starts=tuple(bounds.get(i, (0, 1))[0] for i in range(ndim)),
                         stops=window.shape,
                         steps=tuple(bounds.get(i, (0, 1))[1] for i in range(ndim)))
        made = self.product(own, self.env.get(counted, counted))
        k, none = len(taps), (0,) * len(self.lead)
        made = self.apply("windows_add", made, shape=tuple(reach), strides=(1,) * k,
                          dilations=(1,) * k)
        stops = [a + n for a, n in zip(first, self.steps, strict=True)]
        ends = tuple(map(min, stops, reach))
        if any(first) or ends != tuple(reach):
            made = self.apply("slice", made, starts=(*none, *first), stops=(*self.lead, *ends),
                              steps=(1,) * made.ndim)
        if ends != tuple(stops):                # where no window reaches
            beyond = tuple(a - b for a, b in zip(stops, ends, strict=True))
            made = self.apply("pad", made, value=0, low=(0,) * made.ndim, high=(*none, *beyond))
        return made
