"""adjoint: windows added up after a product become windows read by one.

    windows_add(dot(%g, %w))         ->  dot(windows(pad(%g)), flip(%w))
    slice(windows_add(dot(...)))     ->  the same, with less around %g

where %g has the axes that count windows and %w those within a window. That is the gradient of a
convolution by its input: as written by the rules it makes each window, K^2 times the array, writes
them, and adds them up. Read the other way round it is a convolution itself, of the padded %g by the
turned %w. For strides of one, which leave no gaps in %g; others are `phases`'.

Around a small array there are many zeros to read, which kernels can leave out (`gemm_direct`).
"""

from __future__ import annotations

import functools
import math
from collections import Counter

from cellc import config
from cellc.ir.graph import PRIMITIVES, Apply, Builder, Graph, Node
from cellc.ir.prims.contraction import free_axes
from cellc.kernels.gemm_direct_plan import MOST_TAPS
from cellc.kernels.target import host
from cellc.passes.rebuild import everywhere, replacing, use_counts
from cellc.record import record

MOST_MORE = 1.2         # multiplications, of those that the windows take
MOVED = 24              # multiply-adds in whose time an element of windows is written and added


def run(graph: Graph) -> Graph:
    return everywhere(graph, _turned_round)


def _turned_round(graph: Graph) -> Graph:
    if not any(node.prim.name == "windows_add" for node in graph.body):
        return graph
    made = _worth_turning(graph)
    if not made:
        return graph
    gone = {sum_.node for node, sum_ in made.items() if node is not sum_.node}
    return replacing(graph, gone, {node: functools.partial(_convolution, sum_, node)
                                   for node, sum_ in made.items()})


def _worth_turning(graph: Graph) -> dict[Node, Sum]:
    """The sums to be made otherwise, by what is made: themselves, or the one slice of them."""
    uses = use_counts(graph)
    found: dict[Node, Sum] = {}
    for node in graph.body:
        sum_ = sum_of(node, uses)
        if sum_ and any(n != 1 for n in sum_.node.attrs["strides"]):
            sum_ = None
        if sum_ is None and node.prim.name == "slice" and uses[node.operands[0]] == 1:
            sum_ = found.get(node.operands[0])
            if sum_ is not None and sum_.node is node.operands[0] and sum_.margins(node):
                found[node] = sum_
                del found[sum_.node]
        elif sum_ is not None:
            found[node] = sum_
    return {node: sum_ for node, sum_ in found.items() if sum_.is_worth(node)}


@record(eq=False)
class Sum:
    """A `windows_add` of a product. `side` is the operand of the product that has the axes which
    count windows; `counts` are these and `within` the other operand's axes within a window, both in
    the operands' own numbers; `lead` are the axes before them, as axes of the product; `perms` are
    the transpositions between the product and the sum."""

    node: Apply
    dot: Apply
    side: int
    counts: tuple[int, ...]
    within: tuple[int, ...]
    lead: tuple[int, ...]
    perms: list[tuple[int, ...]]

    def margins(self, cut: Apply | None) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The zeros before and behind each counting axis, for the whole sum or what a slice leaves
        of it; None where it leaves more than that."""
        k, shape = len(self.counts), self.node.attrs["shape"]
        starts, stops = (0,) * k, tuple(shape)
        if cut is not None:
            ndim = self.node.ndim
            if any(n != 1 for n in cut.attrs["steps"]) or cut.shape[:ndim - k] != (
                    self.node.shape[:ndim - k]):
                return None
            starts, stops = (tuple(cut.attrs[key][ndim - k:]) for key in ("starts", "stops"))
        counted, window = self.dot.operands[self.side], self.dot.operands[1 - self.side]
        low, high = [], []
        for axis, inner, d, start, stop in zip(self.counts, self.within,
                                               self.node.attrs["dilations"], starts, stops,
                                               strict=True):
            reach = (window.shape[inner] - 1) * d
            low.append(reach - start)
            high.append(stop - start + reach - counted.shape[axis] - low[-1])
        return None if min(*low, *high) < 0 else (tuple(low), tuple(high))

    def is_worth(self, made: Apply) -> bool:
        """Whether a convolution takes hardly more multiplications, zeros included; or, without
        them, less time than the windows of a short sum, which are moved for little."""
        counted, window = self.dot.operands[self.side], self.dot.operands[1 - self.side]
        windows = math.prod(counted.shape[i] for i in self.counts)
        if math.prod(made.shape[made.ndim - len(self.counts):]) <= MOST_MORE * windows:
            return True
        contract, batch = (self.dot.attrs[key] for key in ("contract", "batch"))
        terms = math.prod(counted.shape[i] for i in contract[self.side])
        free = free_axes(window.ndim, contract[1 - self.side], batch[1 - self.side])
        channels = math.prod(window.shape[i] for i in free if i not in self.within)
        lanes = host(config.get("CPU") or None).lanes(8 * self.node.dtype.compute.itemsize)
        waste = math.ceil(channels / lanes) * lanes / channels
        return (window.shape[self.within[-1]] <= MOST_TAPS
                and MOST_MORE * waste * terms <= terms + MOVED)


def sum_of(node: Apply, uses: Counter[Node]) -> Sum | None:
    """The sum that an apply is, if its windows come from a product of which one operand has the
    axes that count windows and the other those within."""
    if node.prim.name != "windows_add":
        return None
    x, order, perms = node.operands[0], tuple(range(node.operands[0].ndim)), []
    while isinstance(x, Apply) and x.prim.name == "transpose" and uses[x] == 1:
        perms.append(x.attrs["perm"])
        x, order = x.operands[0], tuple(x.attrs["perm"][i] for i in order)
    if not isinstance(x, Apply) or x.prim.name != "dot" or uses[x] != 1 or not all(
            isinstance(n, int) and n > 0 for y in (*x.operands, node) for n in y.shape):
        return None
    k = len(node.attrs["shape"])
    lead, counts, within = order[:-2 * k], order[-2 * k:-k], order[-k:]
    places = _places(x)
    sides = {places[i][0] for i in counts}, {places[i][0] for i in within}
    if sides not in (({0}, {1}), ({1}, {0})):
        return None
    return Sum(node, x, *sides[0], tuple(places[i][1] for i in counts),
               tuple(places[i][1] for i in within), lead, perms[::-1])


def _places(dot: Apply) -> list[tuple[int | None, int]]:
    """Of each axis of a product the operand that alone has it, and the axis there; None for what
    both have."""
    contract, batch = dot.attrs["contract"], dot.attrs["batch"]
    found: list = [(None, i) for i in batch[0]]
    for side, x in enumerate(dot.operands):
        found += [(side, i) for i in free_axes(x.ndim, contract[side], batch[side])]
    return found


def _convolution(s: Sum, node: Apply, builder: Builder, env: dict[Node, Node]) -> Node:
    """The applies of one; `node` is the sum, or the slice of it that is wanted."""
    def apply(name: str, *operands: Node, **attrs) -> Node:
        return builder.append(Apply(PRIMITIVES[name], operands, attrs, None, node.name, node.loc))

    low, high = s.margins(node if node is not s.node else None)
    counted, window = (env.get(x, x) for x in (s.dot.operands[s.side], s.dot.operands[1 - s.side]))
    around = {axis: (a, b) for axis, a, b in zip(s.counts, low, high, strict=True)}
    if any((*low, *high)):
        counted = apply("pad", counted, value=0, **{
            key: tuple(around.get(axis, (0, 0))[i] for axis in range(counted.ndim))
            for i, key in enumerate(("low", "high"))})
    stay = tuple(axis for axis in range(counted.ndim) if axis not in s.counts)
    if (*stay, *s.counts) != tuple(range(counted.ndim)):
        counted = apply("transpose", counted, perm=(*stay, *s.counts))
    moved = {axis: i for i, axis in enumerate((*stay, *s.counts))}
    k, ndim = len(s.counts), counted.ndim
    counted = apply("windows", counted, sizes=tuple(window.shape[i] for i in s.within),
                    strides=(1,) * k, dilations=s.node.attrs["dilations"])
    window = apply("flip", window, axes=tuple(sorted(s.within)))
    contract, batch = ([[*pair[0]], [*pair[1]]] for pair in (s.dot.attrs["contract"],
                                                             s.dot.attrs["batch"]))
    for pair in (contract, batch):
        pair[s.side] = [moved[axis] for axis in pair[s.side]]
    contract[s.side] += range(ndim, ndim + k)
    contract[1 - s.side] += s.within
    operands = (counted, window) if s.side == 0 else (window, counted)
    product = apply("dot", *operands, **s.dot.attrs | {
        "contract": tuple(map(tuple, contract)), "batch": tuple(map(tuple, batch))})
    now = {place: i for i, place in enumerate(_places(product))}
    before = _places(s.dot)

    def axis_now(place: tuple[int | None, int]) -> int:
        side, axis = place
        if side is None:
            return s.dot.attrs["batch"][0].index(axis)
        return now[side, moved[axis] if side == s.side else axis]

    perm = tuple(axis_now(before[i]) for i in s.lead) + tuple(
        axis_now((s.side, axis)) for axis in s.counts)
    return product if perm == tuple(range(product.ndim)) else apply("transpose", product, perm=perm)
