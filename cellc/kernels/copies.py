"""copies: values of a group's graph at places given from outside, and a `concat` made of such.

Each operand of a concat is one nest that writes its part of the result. What stands between the
group's inputs and the concat is computed where it is copied.
"""

from __future__ import annotations

from cellc.errors import SymbolicFault
from cellc.ir.graph import Graph
from cellc.kernels.loops import Buffer, Nest, Store
from cellc.kernels.lower import Lowering, NotFusable
from cellc.kernels.views import Affine, Axis, NeedSplit, NotAffine, linear, row_major


class Reader(Lowering):
    """Values of a group's graph at given places, for kernels that are no nest themselves."""

    def __init__(self, graph: Graph):
        super().__init__(graph, [])


def axes_for(shape, letter: str) -> list[Axis]:
    return [Axis(f"{letter}{i}", n) for i, n in enumerate(shape)]


def index_of(axes: list[Axis]) -> list[Affine]:
    return [Affine.of(a) for a in axes]


def out_of(graph: Graph) -> Buffer:
    """Where the one result of a group goes."""
    return Buffer("out", len(graph.inputs), graph.result.dtype, graph.result.type.size)


def concat_nests(graph: Graph) -> list[Nest]:
    """A nest for each operand of the concat that the group's result is; NotFusable where what
    stands before it cannot be computed at the places it copies."""
    node, out, reader = graph.result, out_of(graph), Reader(graph)
    axis, start, nests = node.attrs["axis"], 0, []
    stride = row_major(node.shape)[axis]
    for x in node.operands:
        axes = axes_for(x.shape, "i")
        place = linear(index_of(axes), node.shape) + stride * start
        start = start + x.shape[axis]
        try:
            value = reader.value(x, index_of(axes))
        except (NeedSplit, NotAffine, SymbolicFault) as fault:
            raise NotFusable(str(fault)) from fault
        nests.append(Nest([a for a in axes if a.extent != 1], [], [Store(out, place, value)]))
    return nests
