"""recompute: the rule for the gradient of a call whose backward half computes the call again.

    call(%x) {graph=@f}  ->  call(%x) {graph=@f, bwd=@f.again, wrt}

    f.again : (x..., y..., dy...) -> (dx...)      the gradient of f at barrier(x, dy...)

Of the forward half only the operands are kept. The barrier keeps what is computed again apart from
what was computed before, for cse and for fusion, and puts it behind the cotangents. Where gradients
of higher order are taken, the gradient in f.again is a call that is computed again as well, once
for each order. Assumes nothing. LLVM could not undo it: it sees two kernels and their buffers.
"""

from __future__ import annotations

from cellc.ir.graph import Builder, Graph
from cellc.ir.prims import control
from cellc.passes.grad import value_and_grad_graph
from cellc.passes.rebuild import copy_body, copy_input, restricted


def rule(graph: Graph, orders: int = 1) -> dict:
    """The attributes of a call of the graph that say so, for gradients up to this order."""
    wrt = tuple(i for i, x in enumerate(graph.inputs) if control.is_differentiable(x.type))
    floats = tuple(i for i, r in enumerate(graph.results) if control.is_differentiable(r.type))
    if not wrt or not floats:
        return {}
    count = len(graph.results)
    both = value_and_grad_graph(graph, wrt, floats, sens=True)
    gradient, used = restricted(both, range(count, count + len(wrt)))
    with Builder(f"{graph.name}.again", map(copy_input, graph.inputs)) as b:
        xs = list(b.inputs)
        for i, r in enumerate(graph.results):
            b.input(r.type, f"y{i}")
        dys = [b.input(graph.results[i].type, f"d{i}") for i in floats]
        operands = [*xs, *dys]
        given = [control.barrier(x, *dys) if i < len(xs) else x
                 for i, x in ((i, operands[i]) for i in used)]
        if orders > 1:
            found = control.call(*given, graph=gradient, **rule(gradient, orders - 1))
            found = control.tuple(*(control.item(found, index=i) for i in range(len(wrt))))
        else:
            found = copy_body(b, gradient, given)
        return {"bwd": b.finish(found), "wrt": wrt}
