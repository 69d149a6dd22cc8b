"""Gradients of graphs that find sizes: what has such a size goes on the tape.

    set_size(n) {dim=?k} within g       g.fwd pushes, when it is done, the residuals of that size,
                                        and the size on top of them; g.bwd begins with popping it,
                                        and sets it for itself.

So no residual leaves its branch, round or call with a size that has a meaning only there. The
outermost graph is left alone: its two halves become one graph.
"""

from __future__ import annotations

from cellc.ir.graph import Builder, Graph
from cellc.ir.prims import control, size, tape
from cellc.ir.types import Dim, TensorType
from cellc.passes.rebuild import copy_body, copy_input, found_sizes, parts
from cellc.record import changed


def own_sizes(graph: Graph) -> list[Dim]:
    """The sizes that the graph itself finds, or a call in it whose gradient has a rule."""
    found = [node.attrs["dim"] for node in graph.body if node.prim.name == "set_size"]
    return found + [Dim(name) for node in graph.body if "bwd" in node.attrs
                    for name in found_sizes(node.attrs["graph"])]


def on_tape(graph: Graph, halves):
    """The taped halves of a graph, with residuals of sizes that it finds on the tape."""
    sizes = own_sizes(graph)
    if not sizes or not halves.taped:
        return halves
    names, count = {d.name for d in sizes}, len(graph.results)
    fwd, bwd = halves.fwd, halves.bwd

    def has_own(x) -> bool:
        return isinstance(x.type, TensorType) and any(
            isinstance(n, Dim) and n.name in names for n in x.type.shape)

    sized = [i for i, (kind, r) in enumerate(halves.residuals)
             if kind == "result" and has_own(fwd.results[r])]
    with Builder(fwd.name, map(copy_input, fwd.inputs)) as b:
        *found, longer = parts(copy_body(b, fwd, b.inputs))
        kept = [found[halves.residuals[i][1]] for i in sized]
        if kept:
            longer = tape.push(longer, *kept)
        longer = tape.push(longer, *map(tape.size_of, sizes))
        gone = {halves.residuals[i][1] for i in sized}
        left = [r for r in range(len(found)) if r < count or r not in gone]
        new_fwd = b.finish(control.tuple(*(found[r] for r in left), longer))
    others = [i for i in range(len(halves.residuals)) if i not in sized]
    with Builder(bwd.name) as b:
        first = len(halves.seeds)
        given = [b.input(x.type, x.name) for x in bwd.inputs[:first]]
        rest = {i: b.input(bwd.inputs[first + i].type, bwd.inputs[first + i].name)
                for i in others}
        popped = tape.pop(b.input(tape.TAPE, "tape"), types=(tape.NUMBER,) * len(sizes))
        for i, d in enumerate(sizes, start=1):
            size.set_size(control.item(popped, index=i), dim=d)
        longer = control.item(popped, index=0)
        if kept:
            popped = tape.pop(longer, types=tuple(x.type for x in kept))
            longer = control.item(popped, index=0)
            rest |= {i: control.item(popped, index=k) for k, i in enumerate(sized, start=1)}
        answers = copy_body(b, bwd, [*given, *(rest[i] for i in range(len(rest))), longer])
        new_bwd = b.finish(control.tuple(*parts(answers)))
    place = {r: k for k, r in enumerate(left)}
    residuals = tuple((kind, r if kind == "input" else place[r])
                      for kind, r in (halves.residuals[i] for i in others))
    return changed(halves, fwd=new_fwd, bwd=new_bwd, residuals=residuals)

