"""fuse: clusters of applies become `fused` groups, one kernel each.

    %m = mul(%x, %y) : f32[8,4]                      graph @mul_tanh(%x: ..., %y: ...) -> f32[8,4] {
    %t = tanh(%m)    : f32[8,4]                ->      %m = mul(%x, %y)  %t = tanh(%m)  return %t }
                                                     %t = fused(%x, %y) {graph=@mul_tanh} : f32[8,4]

One walk over the list. An apply joins the group of one of its operands where both can be computed
in one walk over the same axes (fuse_groups.py), and then draws its other operands' groups in.
Values used only inside a group never reach memory. A matrix product takes views into its operands
and elementwise work on its result into its epilogue, if nobody else wants the values between. A
concat takes what floats (views) into its operands. What a group cannot hold (control, kernels such
as cumsum) stays as it is, and so does arithmetic on numbers and 0-d tensors, which the host
function does in registers, where no group is at hand.

Assumes a flat graph (calls that are worth it are inlined). LLVM cannot do it: buffers would exist.
"""

from __future__ import annotations

from cellc.errors import SymbolicFault
from cellc.ir.graph import PRIMITIVES, Apply, Constant, Graph, Input, Node
from cellc.ir.prims.reduce import reduced_axes
from cellc.ir.types import TupleType
from cellc.kernels import totals
from cellc.kernels.copies import concat_nests
from cellc.kernels.loops import EXPENSIVE
from cellc.kernels.lower import NotFusable, lower
from cellc.kernels.places import done_in_registers
from cellc.kernels.product import NoProduct, product_of
from cellc.passes.fuse_groups import (
    FEW_ROWS,
    MOST_MEMBERS,
    SERIAL_SIZE,
    VIEWS,
    Floating,
    Group,
    Joining,
    cost_of,
    elements,
    foldable,
    fusable,
    is_tensor,
    start,
)
from cellc.passes.fuse_layout import arrange
from cellc.passes.rebuild import everywhere

ATTEMPTS = 8
COLUMN_SIZE = 1 << 18       # elements of an array that is walked by rows, not by columns
EPILOGUE_REACH = 64         # applies behind a product among which its epilogue is looked for


def run(graph: Graph) -> Graph:
    """Fuse the graph and every graph it holds."""
    return everywhere(graph, fuse_graph)


def fuse_graph(graph: Graph) -> Graph:
    """One straight list of applies with its clusters fused."""
    graph, anchored, taken = arrange(graph)
    alone: set[Node] = set()
    for attempt in range(ATTEMPTS):
        if attempt == ATTEMPTS - 1:                     # nothing fused is always right
            alone.update(graph.body)
            anchored.update(graph.body)
        clusters = Clusters(graph, anchored, alone, taken)
        refused = [g for g in clusters.groups if g.kind != "single" and not clusters.lowers(g)]
        if not refused:
            return clusters.build()
        for group in refused:
            if len(group.index) == 1:                   # what floats into it is in the way
                floating = clusters.floats_under(*group.index)
                if not floating:
                    raise clusters.refusal[group]
                anchored.update(floating)
            alone.update([clusters.breaking(group)] if attempt < ATTEMPTS // 2 else group.index)
    raise clusters.refusal[refused[0]]


class Clusters:
    """The groups of one graph."""

    def __init__(self, graph: Graph, anchored: set[Node], alone: set[Node], taken: set[Node]):
        self.graph, self.alone = graph, alone
        self.floating = Floating(graph.body, anchored | self._must_exist(graph, taken), taken)
        self.joining = Joining(self.floating)
        self.groups: list[Group] = []
        self.refusal: dict[Group, Exception] = {}
        self.bodies: dict[Group, tuple] = {}      # what is tried in `lowers` is what is built
        self.group_of: dict[Node, Group] = {}
        self.readers: dict[Node, set] = {}        # source -> who reads it, floating nodes aside
        standing = [node for node in graph.body if node not in self.floating.nodes]
        for node in standing:
            for x in self.floating.sources(*node.operands):
                self.readers.setdefault(x, set()).add(node)
        for x in self.floating.sources(*graph.results):
            self.readers.setdefault(x, set()).add(None)
        for node in standing:
            self._place(node)

    def _must_exist(self, graph: Graph, taken: set[Node]) -> set[Node]:
        """Views that something unfusable reads or that are results: they must be in memory."""
        found: set[Node] = set()
        for node in [*graph.body, None]:
            operands = node.operands if node is not None else graph.results
            if node is not None and (fusable(node) or node.prim.name in ("tuple", "concat")):
                if node.prim.name == "gather":
                    operands = node.operands[:1]
                else:
                    continue
            if node is not None and node.prim.name == "dot":
                operands = [x for x in operands if not foldable(node, x, taken)]
            for x in operands:
                while isinstance(x, Apply) and x.prim.name == "reshape":
                    x = x.operands[0]             # costs nothing where its operand exists
                if isinstance(x, Apply) and is_tensor(x) and fusable(x):
                    found.add(x)
        return found

    # -- growing ---------------------------------------------------------------------------------
    def _place(self, node: Apply) -> None:
        if node in self.group_of:                # in the epilogue of a product
            return
        if node.prim.name == "dot":
            group = self._new("dot", node)
            group.index[node] = group.new_axes(node.shape)
            if node not in self.alone:
                self._grow_epilogue(node, group)
            return
        if node.prim.name == "concat" and not self.floating.nodes.isdisjoint(node.operands):
            self._new("concat", node).index[node] = []
            return
        if not fusable(node):
            self._keep(node)
            return
        if node not in self.alone:
            for group in self._candidates(node):
                index = self._joins(node, group)
                if index is not None:
                    self._join(node, group, index)
                    self._draw_in(node, group)
                    return
        if done_in_registers(node):
            self._keep(node)
            return
        group = self._new("loop", node)
        start(group, node)

    def _keep(self, node: Apply) -> None:
        """An apply that stays as it is; the items of such a one stay with it."""
        whole = self.group_of.get(node.operands[0]) if node.prim.name == "item" else None
        if whole is None or whole.kind != "single":
            whole = self._new("single", node)
        whole.index[node] = []
        self.group_of[node] = whole

    def _new(self, kind: str, node: Apply) -> Group:
        group = Group(kind)
        self.groups.append(group)
        self.group_of[node] = group
        self._add_deps(group, node)
        return group

    def _add_deps(self, group: Group, node: Apply) -> None:
        for x in self.floating.sources(*node.operands):
            other = self.group_of.get(x)
            if other is not None and other is not group:
                group.deps.add(other)

    def _candidates(self, node: Apply) -> list[Group]:
        """The groups of what the node reads, the largest operand's first; then those that read the
        same large array."""
        sources = sorted(self.floating.sources(*node.operands),
                         key=lambda x: -elements(x.type.shape) if is_tensor(x) else 0)
        found = dict.fromkeys(self.group_of[x] for x in sources if x in self.group_of)
        return [g for g in found if g.kind == "loop"]

    def _joins(self, node: Apply, group: Group):
        """The index of the node in the group, or None."""
        if len(group.index) >= MOST_MEMBERS or self.alone & group.index.keys():
            return None
        if not group.totals.isdisjoint(self.floating.sources(*node.operands)):
            return None                                 # they are known when all rows are walked
        index = self.joining.fits(node, group)
        if node.prim.kind == "reduce" and (index is None or self._better_apart(node, group)):
            return self._as_total(node, group)
        if index is None:
            return None
        sweep = self._sweep(node, group)
        if sweep and group.full(index) and (
                not self._worth_sweeping(node, group) or self._is_for_others(node, group, index)):
            return None
        for x in self.floating.sources(*node.operands):
            other = self.group_of.get(x)
            if other is not None and other is not group and other.depends_on(group):
                return None
        return index

    def _as_total(self, node: Apply, group: Group):
        """The index of a sum of columns that the group has at hand while it walks rows, or None."""
        index = self.joining.total(node, group) if totals.may_be(node) else None
        if index is not None:
            group.totals.add(node)
        return index

    def _grow_epilogue(self, dot: Apply, group: Group) -> None:
        """Elementwise work on the product that needs nothing else that is still to be computed, up
        to the last point at which one value is all that is read outside."""
        best, body = 1, self.graph.body
        at = body.index(dot)
        for node in body[at + 1:at + 1 + EPILOGUE_REACH]:
            if node in self.floating or not fusable(node) or node.prim.kind == "reduce" or (
                    node in self.alone):
                continue
            sources = self.floating.sources(*node.operands)
            if not any(x in group.index for x in sources) or not all(
                    x in group.index or x in self.group_of or not isinstance(x, Apply)
                    for x in sources):
                continue
            index = self.joining.fits(node, group) if node.size == dot.size else None
            if index is None:
                continue
            group.index[node] = index
            exits = [m for m in group.index if self.readers.get(m, set()) - group.index.keys()]
            if len(exits) == 1 and self._is_product(group, exits[0]):
                best = list(group.index).index(exits[0]) + 1
        for node in list(group.index)[best:]:
            del group.index[node]
        for node in group.index:
            self.group_of[node] = group
            self._add_deps(group, node)

    def _is_product(self, group: Group, exit: Node) -> bool:
        try:
            product_of(self._body(group, [exit])[0])
        except NoProduct:
            return False
        return True

    def _better_apart(self, node: Apply, group: Group) -> bool:
        """Sums of columns of a large array that is stored anyway: storing it column by column costs
        more than reading it again. What costs little is made again where it is needed."""
        x = node.operands[0]
        cost = sum(cost_of(m) if m.prim.kind == "elementwise" else EXPENSIVE for m in group.index)
        if cost <= EXPENSIVE and not group.index.keys() & set(self.graph.results):
            return False
        last = max((k for k, n in enumerate(x.shape) if n != 1), default=None)
        return (last is not None and last not in reduced_axes(node)
                and elements(x.shape) > COLUMN_SIZE
                and any(self.readers[y] != {node} and elements(y.shape) == elements(x.shape)
                        for y in self.floating.sources(x) if y in self.group_of))

    def _sweep(self, node: Apply, group: Group) -> int:
        return max((group.sweep.get(x, 0) for x in self.floating.sources(*node.operands)
                    if x in group.index), default=0)

    def _worth_sweeping(self, node: Apply, group: Group) -> bool:
        """Rows that are walked again should be many, or short."""
        return group.rows() >= FEW_ROWS or elements(node.shape) <= SERIAL_SIZE

    def _is_for_others(self, node: Apply, group: Group, index) -> bool:
        """Would it be stored only to be summed up along the group's rows, by another kernel, which
        can make it as well from what is in memory and a number for each row?"""
        if any(group.full(group.index[x]) for x in self.floating.sources(*node.operands)
               if x in group.index):
            return False
        seen, stack = {node}, [node]
        while stack:
            for reader in self.readers.get(stack.pop(), (None,)):
                kind = None if reader is None else reader.prim.kind
                if kind == "elementwise" and reader.shape == node.shape:
                    stack += {reader} - seen
                    seen.add(reader)
                elif kind != "reduce" or reader.operands[0] not in seen or totals.may_be(
                        reader) or {a for k in reduced_axes(reader) for a in index[k].terms} == set(
                        group.reduced):
                    return False
        return True

    def _join(self, node: Apply, group: Group, index) -> None:
        if node.prim.kind == "reduce" and node not in group.totals:
            operand = self.joining.forward(node.operands[0], group)
            used = {a for i in index for a in i.terms}
            if not group.reduced:
                group.reduced = [a for i in operand for a in sorted(
                    i.terms, key=lambda a, i=i: -i.terms[a]) if a not in used]
        group.index[node] = index
        group.sweep[node] = self._sweep(node, group) + (1 if node.prim.kind == "reduce" else 0)
        self.group_of[node] = group
        self._add_deps(group, node)

    def _draw_in(self, node: Apply, group: Group) -> None:
        """Merge the groups of the node's other operands into its own."""
        if group.kind != "loop":
            return
        for x in self.floating.sources(*node.operands):
            other = self.group_of.get(x)
            if other is None or other is group or other.kind != "loop" or (
                    self.alone & other.index.keys()):
                continue
            wanted = self._asked_at(node, x, group)
            if wanted is not None and self._mergeable(group, other):
                merged = self.joining.merged(group, other, x, wanted)
                if merged is not None:
                    self._merge(group, merged, other)

    def _asked_at(self, node: Apply, x: Node, group: Group):
        """The index at which `node`, in the group, reads x; None where it reads it at two."""
        if node.prim.kind == "reduce" or node.prim.name in VIEWS:
            return None
        found = []
        pending = [(y, group.index[node]) for y in node.operands]
        while pending:
            y, index = pending.pop()
            if y is x:
                found.append(index)
            elif y in self.floating and y.prim.kind == "elementwise":
                pending += [(z, index) for z in y.operands if z.shape == y.shape]
            elif y in self.floating and x in self.floating.sources(y):
                return None
        return found[0] if found and all(i == found[0] for i in found) else None

    def _mergeable(self, group: Group, other: Group) -> bool:
        if len(group.index) + len(other.index) > MOST_MEMBERS or group.totals or other.totals:
            return False
        if any(self._looks_up_in(m, other) for m in group.index) or any(
                self._looks_up_in(m, group) for m in other.index):
            return False
        return not any(d is not other and d.depends_on(other) for d in group.deps) and not any(
            d is not group and d.depends_on(group) for d in other.deps)

    def _looks_up_in(self, node: Node, group: Group) -> bool:
        """Is it a gather from what the group computes, which is in memory only behind the group?"""
        return node.prim.name == "gather" and any(
            x in group.index for x in self.floating.sources(node.operands[0]))

    def _merge(self, group: Group, merged: Group, other: Group) -> None:
        """Let the group be what it is with `other`'s members."""
        order = {node: i for i, node in enumerate(self.graph.body)}
        group.index = dict(sorted(merged.index.items(), key=lambda item: order[item[0]]))
        group.axes, group.reduced = merged.axes, merged.reduced
        for node in other.index:
            group.sweep[node] = other.sweep.get(node, 0)
            self.group_of[node] = group
        for member in group.index:
            group.sweep.setdefault(member, 0)
        group.deps = (group.deps | other.deps) - {group, other}
        for g in self.groups:
            if other in g.deps:
                g.deps.discard(other)
                if g is not group:
                    g.deps.add(group)
        self.groups.remove(other)

    # -- building --------------------------------------------------------------------------------
    def floats_under(self, node: Apply) -> list[Node]:
        """The floating nodes among a node's operands, those they read included."""
        found, stack = [], list(node.operands)
        while stack:
            x = stack.pop()
            if x in self.floating:
                found.append(x)
                stack.extend(x.operands)
        return found

    def breaking(self, group: Group) -> Node:
        """A member up to which a refused group is a nest, and with it none."""
        members = list(group.index)
        good, bad = 1, len(members)             # first members that are one, and that are none
        while bad - good > 1:
            part = Group(group.kind)
            part.index = {m: group.index[m] for m in members[:(good + bad) // 2]}
            outside = [m for m in part.index if self.readers.get(m, set()) - part.index.keys()]
            if self.lowers(part, outside):
                good = len(part.index)
            else:
                bad = len(part.index)
        return members[bad - 1]

    def lowers(self, group: Group, results: list[Node] | None = None) -> bool:
        """Whether the group's body is a nest, a product or a concat, after all."""
        body, _, results = self.bodies[group] = self._body(group, results)
        if not results:
            return True
        if group.kind == "dot":
            try:
                product_of(body)
                return True
            except NoProduct:
                pass                       # a loop nest, perhaps
        try:
            if group.kind == "concat":
                concat_nests(body)
            else:
                lower(body)
        except NotFusable as fault:
            symbolic = isinstance(fault.__cause__, SymbolicFault)
            self.refusal[group] = fault.__cause__ if symbolic else fault
            return False
        return True

    def _body(self, group: Group, results: list[Node] | None = None):
        """The group's graph, its operands and its results in the graph around it."""
        inputs: dict[Node, Input] = {}
        env: dict[Node, Node] = {}
        body: list[Apply] = []

        def given(x: Node) -> Node:
            if isinstance(x, Constant) and x.is_fill:
                return x
            if x in env:
                return env[x]
            if x in self.floating or x in group.index:
                return add(x)
            inputs[x] = env[x] = Input(x.type, x.name or f"x{len(inputs)}", x.loc)
            return env[x]

        def add(x: Apply) -> Apply:
            operands = tuple(map(given, x.operands))
            env[x] = Apply(x.prim, operands, x.attrs, x.type, x.name, x.loc)
            body.append(env[x])
            return env[x]

        for member in group.index:
            given(member)
        if results is None:
            results = [m for m in group.index if self._read_outside(m, group)]
        inside = [env[m] for m in results]
        if len(inside) == 1:
            result = inside[0]
        else:
            result = Apply(PRIMITIVES["tuple"], tuple(inside), {})
            body.append(result)
        name = "_".join(list(dict.fromkeys(m.prim.name for m in group.index))[:4])
        return Graph(name, inputs.values(), body, result), list(inputs), results

    def _read_outside(self, member: Node, group: Group) -> bool:
        readers = self.readers.get(member, set())
        return any(r is None or self.group_of[r] is not group for r in readers)

    def build(self) -> Graph:
        """The graph with every group as one apply."""
        self.env: dict[Node, Node] = {x: x for x in self.graph.inputs}
        self.body: list[Apply] = []
        for group in self._in_order():
            self._emit(group)
        result = self.graph.result
        for x in self.floating.sources(result):
            self._outside(x)
        return Graph(self.graph.name, self.graph.inputs, self.body, self._outside(result))

    def _in_order(self) -> list[Group]:
        """Groups after those they depend on, else in the order of their last members."""
        place = {node: i for i, node in enumerate(self.graph.body)}
        done: dict[Group, None] = {}
        for group in sorted(self.groups, key=lambda g: place[next(iter(g.index))] if (
                g.kind == "single") else max(place[m] for m in g.index)):
            stack = [group]
            while stack:
                waiting = [d for d in stack[-1].deps if d not in done]
                if waiting:
                    stack.append(waiting[0])
                else:
                    done[stack.pop()] = None
        return list(done)

    def _outside(self, x: Node) -> Node:
        """A value as the new graph has it; reshapes of what exists are written out again."""
        if isinstance(x, Constant):
            return x
        if x not in self.env:
            operands = tuple(map(self._outside, x.operands))
            self.env[x] = x if operands == x.operands else Apply(
                x.prim, operands, x.attrs, x.type, x.name, x.loc)
            self.body.append(self.env[x])
        return self.env[x]

    def _emit(self, group: Group) -> None:
        if group.kind == "single":
            for node in group.index:
                self._outside(node)
            return
        graph, operands, results = self.bodies[group]
        if not results:
            return
        given = tuple(map(self._outside, operands))
        last = results[-1]
        made = Apply(PRIMITIVES["fused"], given, {"graph": graph}, None, last.name, last.loc)
        self.body.append(made)
        if not isinstance(made.type, TupleType):
            self.env[results[0]] = made
            return
        for i, node in enumerate(results):
            self.env[node] = Apply(PRIMITIVES["item"], (made,), {"index": i}, node.type, node.name,
                                   node.loc)
            self.body.append(self.env[node])
