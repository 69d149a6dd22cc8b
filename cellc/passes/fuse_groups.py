"""Groups of applies that will be one kernel each, and the rules by which they grow.

A loop group has axes; every member has an index, an affine expression of the axes for each of its
own. A node may join where its operands inside the group are read just at the index they have: then
one walk over the axes computes all. A reduction makes some axes the group's reduced axes (one set a
group); its result, a row value, and what is computed from it has an index without them.

*Floating* nodes belong to no group: views, and cheap arithmetic on constants, indices and small
broadcast values. Whoever uses them takes a copy, which costs an address or an instruction.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from cellc.errors import SymbolicFault
from cellc.ir.graph import Apply, Constant, Graph, Input, Node
from cellc.ir.prims.reduce import reduced_axes
from cellc.ir.types import ScalarType, TensorType, boolean
from cellc.kernels.loops import COST, EXPENSIVE
from cellc.kernels.product import NoProduct, product_of
from cellc.kernels.schedule import assumed
from cellc.kernels.views import (
    Affine,
    Axis,
    NeedSplit,
    NotAffine,
    bijective,
    operand_index,
    result_index,
)

VIEWS = ("reshape", "transpose", "broadcast", "slice", "flip", "windows")
PADDED = (*VIEWS, "pad")    # through which a convolution may read its images
STARTERS = ("pad", "gather", "random_bits", "windows_add")   # kernels that are loop nests too
MOST_MEMBERS = 96
INDEX_SHARE = 4             # arithmetic on indices alone is mostly the same in all lanes
SMALL_SHARE = 8             # a source this many times smaller than a value is cheap to read again
FEW_ROWS = 4                # rows a group that walks them more than once should have
SERIAL_SIZE = 1 << 16       # elements one thread may as well walk alone

Index = list  # of Affine, one for each axis of a node


def is_tensor(node: Node) -> bool:
    return isinstance(node.type, TensorType)


def cost_of(node: Node) -> int:
    return COST.get(node.prim.name, 1)


def elements(shape) -> int:
    return math.prod(assumed(n) for n in shape)


def fusable(node: Node) -> bool:
    """Whether an apply can be a member of a loop group."""
    if not isinstance(node, Apply) or not is_tensor(node):
        return False
    name, kind = node.prim.name, node.prim.kind
    if kind in ("elementwise", "reduce") or name in VIEWS:
        return name != "dim_size"
    if name == "pad":
        return not any(node.attrs.get("interior") or ())
    if name == "windows_add":
        return all(n == 1 for n in node.attrs["strides"])
    if name == "gather":
        return node.operands[0].shape[node.attrs["axis"]] != 0
    return name in STARTERS


class Group:
    """Applies that become one kernel. `kind`: loop, dot (a product and its epilogue) or single."""

    def __init__(self, kind: str):
        self.kind = kind
        self.index: dict[Node, Index] = {}       # members, in order
        self.axes: list[Axis] = []
        self.reduced: list[Axis] = []
        self.sweep: dict[Node, int] = {}
        self.totals: set[Node] = set()           # sums of columns: see `kernels/totals.py`
        self.deps: set[Group] = set()

    def full(self, index: Index) -> bool:
        """Whether an index moves along the reduced axes."""
        return any(a in i.terms for i in index for a in self.reduced)

    def substitute(self, mapping: dict[Axis, Affine]) -> None:
        self.index = {node: [i.substitute(mapping) for i in index]
                      for node, index in self.index.items()}

    def cut(self, axis: Axis, inner: int) -> None:
        """Replace an axis by two."""
        outside = Axis(axis.name + "o", axis.extent // inner)
        inside = Axis(axis.name + "i", inner)
        self.substitute({axis: Affine.of(outside) * inner + Affine.of(inside)})
        for axes in (self.axes, self.reduced):
            if axis in axes:
                at = axes.index(axis)
                axes[at:at + 1] = [a for a in (outside, inside) if a.extent != 1]

    def new_axes(self, shape) -> Index:
        made = [Axis(f"a{len(self.axes) + k}", n) for k, n in enumerate(shape)]
        self.axes += [a for a in made if a.extent != 1]
        return [Affine.of(a) for a in made]

    def rows(self) -> int:
        return elements([a.extent for a in self.axes if a not in self.reduced])

    def depends_on(self, other: Group) -> bool:
        """Whether a chain of groups leads from this one up to `other`."""
        seen, stack = set(), [self]
        while stack:
            group = stack.pop()
            if group is other:
                return True
            if group not in seen:
                seen.add(group)
                stack.extend(group.deps)
        return False


class Floating:
    """Which nodes of a graph float, and what non-floating nodes a node reads through them."""

    def __init__(self, body, anchored: set[Node], taken: set[Node]):
        self.taken = taken
        self.small: dict[Node, float] = {}       # floating arithmetic -> its cost so far
        self.nodes: set[Node] = set()
        self.uses = Counter(x for node in body for x in node.operands)
        for node in body:
            if is_tensor(node) and node not in anchored and self._floats(node):
                self.nodes.add(node)

    def __contains__(self, node) -> bool:
        return node in self.nodes

    def _floats(self, node: Apply) -> bool:
        name = node.prim.name
        if name in VIEWS or name in ("iota", "from_scalar") or node in self.taken:
            return True
        if node.prim.kind != "elementwise" or cost_of(node) >= EXPENSIVE:
            return False
        if node.dtype is boolean and self._asks_one_stored(node):
            return True
        cost = 1
        for x in node.operands:
            if isinstance(x, Constant) and x.is_fill:
                continue
            if x not in self.nodes or not self._cheap(x, elements(node.shape)):
                return False
            cost += self.small.get(x, 0)
        if cost > EXPENSIVE:
            return False
        self.small[node] = cost if self.sources(*node.operands) else cost / INDEX_SHARE
        return True

    def _asks_one_stored(self, node: Apply) -> bool:
        """A comparison of one value, which others need as well, with a constant: who reads the
        mask may as well read the value."""
        asked = [x for x in node.operands if not (isinstance(x, Constant) and x.is_fill)]
        return len(asked) == 1 and self.uses[asked[0]] > 1 and asked[0].dtype is not boolean

    def _cheap(self, x: Node, size: int) -> bool:
        """Whether all that a floating node reads is small beside a value of `size` elements."""
        return all(isinstance(s.type, ScalarType) or elements(s.shape) * SMALL_SHARE <= size
                   for s in self.sources(x))

    def sources(self, *nodes: Node) -> list[Node]:
        """The nodes themselves, or what is read through those that float; no filled constants."""
        if self.nodes.isdisjoint(nodes):
            return list(dict.fromkeys(
                [x for x in nodes if not isinstance(x, Constant) or not x.is_fill]))
        found: dict[Node, None] = {}
        stack = list(reversed(nodes))
        while stack:
            x = stack.pop()
            if isinstance(x, Constant) and x.is_fill:
                continue
            if x in self.nodes:
                stack.extend(reversed(x.operands))
            else:
                found[x] = None
        return list(found)


class Joining:
    """Whether and where a node fits a loop group."""

    def __init__(self, floating: Floating):
        self.floating = floating

    def forward(self, x: Node, group: Group) -> Index | None:
        """The index of x in the group, derived from members that it reads, through what floats."""
        if x in group.index:
            return group.index[x]
        if x not in self.floating:
            return None
        return self.derived(x, group)

    def derived(self, node: Apply, group: Group) -> Index | None:
        """The index at which a view or elementwise node reads its members where they are."""
        for x in node.operands:
            index = self.forward(x, group)
            if index is None:
                continue
            if node.prim.kind == "elementwise":
                return index if x.shape == node.shape else None
            found = self._retrying(group, lambda i: result_index(
                node, i, self._missing(group, i)), index, x)
            if found is not None:
                return found
        return None

    def _missing(self, group: Group, index: Index) -> Index:
        """What a broadcast of a row value is repeated along: the reduced axes."""
        return [] if group.full(index) else [Affine.of(a) for a in group.reduced]

    def _retrying(self, group: Group, function, index: Index, x: Node):
        """`function(index)`, cutting axes of the group where that helps; else None."""
        for _ in range(8):
            try:
                return function(index)
            except NeedSplit as need:
                if need.axis not in group.axes:
                    return None
                group.cut(need.axis, need.inner)
                index = self.forward(x, group)
                if index is None:
                    return None
            except (NotAffine, SymbolicFault):
                return None
        return None

    def reads_in_place(self, x: Node, index: Index, group: Group) -> bool:
        """Whether all members under x are read at the index they have."""
        if isinstance(x, (Constant, Input)) or x not in self.floating:
            return x not in group.index or group.index[x] == index
        if not any(s in group.index for s in self.floating.sources(x)):
            return self._addressable(x, index, group)
        if x.prim.name in VIEWS:
            try:
                return self.reads_in_place(x.operands[0], operand_index(x, index), group)
            except (NotAffine, SymbolicFault):
                return False
        return all(self.reads_in_place(y, index if y.shape else [], group) for y in x.operands)

    def _addressable(self, x: Node, index: Index, group: Group) -> bool:
        """Whether a view of what is outside can be read at all, affinely."""
        if not isinstance(x, Apply) or x not in self.floating:
            return True
        if x.prim.name == "reshape" and x.operands[0] not in self.floating:
            return True
        if x.prim.name in VIEWS:
            try:
                return self._addressable(x.operands[0], operand_index(x, index), group)
            except NeedSplit as need:
                return need.axis in group.axes           # lowering will cut it
            except (NotAffine, SymbolicFault):
                return False
        return all(self._addressable(y, index if y.shape else [], group) for y in x.operands)

    def fits(self, node: Apply, group: Group) -> Index | None:
        """The index of `node` in the group, or None where it cannot join it."""
        if node.prim.kind == "reduce":
            return self._fits_reduction(node, group)
        if node.prim.kind != "elementwise" and node.prim.name not in VIEWS:
            return None
        index = self.derived(node, group)
        if index is None or not bijective(index, node.shape):
            return None
        return index if self._reads_at(node, index, group) else None

    def _reads_at(self, node: Apply, index: Index, members: Group) -> bool:
        """Whether a node that is at this index reads these at the index that they have."""
        operands = node.operands
        if node.prim.kind == "elementwise":
            return all(self.reads_in_place(x, index if x.shape else [], members) for x in operands)
        if node.prim.name in VIEWS:
            try:
                return self.reads_in_place(operands[0], operand_index(node, index), members)
            except (NotAffine, SymbolicFault):
                return False
        if node.prim.name == "gather":
            axis, n = node.attrs["axis"], operands[1].ndim
            return self.reads_in_place(operands[1], index[axis:axis + n], members)
        return False

    def total(self, node: Apply, group: Group) -> Index | None:
        """The index of a sum over all the rows that the group walks."""
        x = node.operands[0]
        index = self.forward(x, group)
        if index is None or not self.reads_in_place(x, index, group) or not bijective(
                index, x.shape):
            return None
        over = reduced_axes(node)
        kept = [i for k, i in enumerate(index) if k not in over]
        axes = {a for i in kept for a in i.terms}
        walked = {a for i in index for a in i.terms}
        if walked != set(group.axes) or group.reduced and axes != set(group.reduced):
            return None
        return kept

    def _fits_reduction(self, node: Apply, group: Group) -> Index | None:
        index = self.forward(node.operands[0], group)
        if index is None or not self.reads_in_place(node.operands[0], index, group):
            return None
        over = reduced_axes(node)
        axes = [a for k in over for a in sorted(index[k].terms, key=lambda a, k=k: -_weight(
            index[k].terms[a]))]
        if group.reduced:
            fits = set(axes) == set(group.reduced) and _in_order(axes, group.reduced)
        else:
            fits = bijective([index[k] for k in over], [node.operands[0].shape[k] for k in over])
        kept = [i for k, i in enumerate(index) if k not in over]
        if not fits or any(a in i.terms for i in kept for a in axes):
            return None
        return kept

    # -- two groups as one -----------------------------------------------------------------------
    def merged(self, group: Group, other: Group, x: Node, wanted: Index) -> Group | None:
        """Both groups' members, with `other`'s member x at the index `wanted`; None where that is
        no group."""
        mapping: dict = {}
        for mine, its in zip(wanted, other.index[x], strict=True):
            if len(its.terms) == 0:
                continue
            axis = next(iter(its.terms))
            if its != Affine.of(axis) or axis in mapping:
                return None
            mapping[axis] = mine
        both = Group(group.kind)
        both.axes = list(group.axes)
        if not self._maps_reduced(group, other, mapping, both.axes):
            return None
        if any(a not in mapping for i in other.index.values() for e in i for a in e.terms):
            return None
        reduced = [a for r in other.reduced for a in sorted(
            mapping[r].terms, key=lambda a, r=r: -mapping[r].terms[a])]
        if reduced and group.reduced and reduced != group.reduced:
            return None
        if reduced and not group.reduced and not _may_reduce(both.axes, reduced):
            return None
        both.reduced = group.reduced or reduced
        both.index = group.index | {node: [i.substitute(mapping) for i in index]
                                    for node, index in other.index.items()}
        nested = any(m.prim.kind == "reduce" and both.full(both.index[m]) for m in other.index)
        return None if nested or not self._makes_little_again(group, other, both) else both

    def _makes_little_again(self, group: Group, other: Group, both: Group) -> bool:
        """Whether a part reads the other's members where they are, or what costs little to make at
        another point as well; what is reduced is known for the row alone that is walked."""
        def reads_at(node: Apply, members: Group) -> bool:
            if node.prim.kind == "reduce":
                return self._fits_reduction(node, both) == both.index[node]
            return self._reads_at(node, both.index[node], members)

        rows = Group(group.kind)
        rows.index = {node: both.index[node] for part in (group, other) for node in part.index
                      if part.sweep.get(node)}
        for part, there in ((group, other), (other, group)):
            for node in part.index:
                read = [x for x in self.floating.sources(*node.operands) if x in there.index]
                if not read or reads_at(node, both):
                    continue
                again = self._made_of(read, there)
                if not rows.index.keys().isdisjoint(again) and not reads_at(
                        node, rows) or sum(map(cost_of, again)) > EXPENSIVE:
                    return False
        return True

    def _made_of(self, nodes: list[Node], group: Group) -> set[Node]:
        """The members of a group that these members are made of, they included."""
        found, stack = set(), list(nodes)
        while stack:
            x = stack.pop()
            if x in group.index and x not in found:
                found.add(x)
                stack += self.floating.sources(*x.operands)
        return found

    def _maps_reduced(self, group: Group, other: Group, mapping: dict, axes: list[Axis]) -> bool:
        """Extend the mapping to reduced axes of `other` that x does not run over."""
        left = [a for a in other.reduced if a not in mapping]
        if not left:
            return True
        if len(left) != len(other.reduced):
            return False
        if group.reduced:
            if [a.extent for a in left] != [a.extent for a in group.reduced]:
                return False
            mapping.update((a, Affine.of(b)) for a, b in zip(left, group.reduced, strict=True))
            return True
        mapping.update((a, Affine.of(a)) for a in left)
        axes += left
        return True


def _may_reduce(axes: list[Axis], reduced: list[Axis]) -> bool:
    """Whether what walks these axes may as well walk rows, reducing some of them."""
    rows = elements([a.extent for a in axes if a not in reduced])
    return rows >= FEW_ROWS or elements([a.extent for a in axes]) <= SERIAL_SIZE


def _in_order(axes: list[Axis], reduced: list[Axis]) -> bool:
    return [a for a in reduced if a in axes] == axes


def _weight(coef) -> int:
    return coef if isinstance(coef, int) else assumed(coef)


def start(group: Group, node: Apply) -> None:
    """Make `node` the first member of a loop group."""
    if node.prim.kind == "reduce":
        index = group.new_axes(node.operands[0].shape)
        over = reduced_axes(node)
        group.reduced = [a for k in over for a in index[k].terms]
        group.index[node] = [i for k, i in enumerate(index) if k not in over]
    elif node.prim.name == "windows_add":
        group.index[node] = group.new_axes(node.shape)
        before = len(group.axes)
        k = len(node.attrs["shape"])
        group.new_axes(node.operands[0].shape[node.operands[0].ndim - k:])
        group.reduced = group.axes[before:]
    else:
        group.index[node] = group.new_axes(node.shape)
    group.sweep[node] = 1 if group.reduced else 0


def foldable(dot: Apply, x: Node, taken: set[Node]) -> bool:
    """Whether a product can read its operand x through the views that lead to it; both, where it
    has been found to leave out the padding of one (`fuse_layout`)."""
    if not isinstance(x, Apply) or any(y in taken for z in dot.operands for y in chain_of(z)):
        return True
    try:
        product_of(alone(dot, (x,)))
    except NoProduct:
        return False
    return True


def chain_of(x: Node) -> list[Node]:
    """The views that lead to a node, and what they lead to, in the end a pad."""
    chain = [x]
    while isinstance(chain[-1], Apply) and chain[-1].prim.name in VIEWS:
        chain.append(chain[-1].operands[0])
    return chain


def alone(dot: Apply, seen: Sequence[Node], through: tuple[str, ...] = VIEWS,
          turned: Apply | None = None) -> Graph:
    """The product by itself, with the views above those of its operands that are `seen`, or what
    else these read `through`, and the transposition `turned` of its result."""
    env: dict[Node, Node] = {}
    body: list[Apply] = []
    inputs: list[Input] = []

    def given(y: Node, viewed: bool) -> Node:
        if y not in env:
            if viewed and isinstance(y, Apply) and y.prim.name in through:
                env[y] = Apply(y.prim, (given(y.operands[0], True),), y.attrs, y.type)
                body.append(env[y])
            else:
                env[y] = Input(y.type, f"x{len(inputs)}")
                inputs.append(env[y])
        return env[y]

    operands = tuple(given(y, y in seen) for y in dot.operands)
    body.append(Apply(dot.prim, operands, dot.attrs, dot.type))
    if turned is not None:
        body.append(Apply(turned.prim, (body[-1],), turned.attrs, turned.type))
    return Graph("dot", inputs, body, body[-1])
