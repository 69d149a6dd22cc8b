"""Calls whose gradient has a rule of its own: a cell's `bprop`, `custom_vjp`, `recompute`.

Each is a closed graph as any other call's, and where a gradient is being taken around it its `call`
says in attributes what its backward half is (`ir/prims/control.py`):

    bprop        bwd takes operands, results and cotangents: what `bprop(self, *inputs, out, dout)`
                 makes of them
    custom_vjp   fwd gives the results and what the user's fwd keeps, bwd is the user's bwd
    recompute    bwd is the gradient of the graph itself, computed anew from the operands, once the
                 cotangents are there

The rules are parsed as the user's code is, so they can be differentiated again. A rule matters to
the gradients around it alone: its own graphs are parsed as if there were one gradient fewer, and so
a rule may call the very function that it is the rule of.
"""

from __future__ import annotations

from contextlib import contextmanager

from cellc.errors import TypeFault
from cellc.ir.graph import PRIMITIVES, Apply, Graph, Input, Node, fill
from cellc.ir.prims import control
from cellc.parser import calls, cells, hooks
from cellc.parser.guards import is_steady
from cellc.parser.rule import Rule, parts_by_key, place_of
from cellc.parser.values import Closure, Slot, describe, flatten, unflatten
from cellc.passes import recompute
from cellc.passes.rebuild import copy_input
from cellc.record import changed

# -- arguments -------------------------------------------------------------------------------------

def positional(session, function, args: list, kwargs: dict) -> tuple[list, list[str]]:
    """The arguments of a call by position, defaults filled in, and their names."""
    inner = getattr(function, "__wrapped__", function)
    own = getattr(inner, "__func__", inner)
    if not isinstance(own, (Closure, type(place_of))):
        if kwargs:
            raise TypeFault(f"{describe(function)} has a rule for its gradient, and takes its "
                            "arguments by position only", "leave out the names: f(x, y)")
        return args, [f"argument {i}" for i in range(len(args))]
    bound_self = [inner.__self__] if own is not inner else []
    source = own.source if isinstance(own, Closure) else session.source_of(own)
    return _bound(session, source, own, [*bound_self, *args], kwargs, len(bound_self))


def _bound(session, source, function, args: list, kwargs: dict, skip: int):
    syntax = source.node.args
    bound = calls.bind(session, source, args, kwargs, function)
    if syntax.kwonlyargs or syntax.kwarg:
        raise TypeFault(f"{source.name} has a rule for its gradient, and takes arguments by "
                        "keyword only", "make them positional", source.loc(source.node))
    names = [a.id for a in (*syntax.posonlyargs, *syntax.args)]
    more = bound[syntax.vararg.id] if syntax.vararg else ()
    listed = [*names, *(f"{syntax.vararg.id}[{i}]" for i in range(len(more)))]
    return [*(bound[name] for name in names), *more][skip:], listed[skip:]


# -- what the parser calls -------------------------------------------------------------------------

def call(session, ruled, args: list, kwargs: dict):
    """The value of a `custom_vjp` or `recompute` object on these arguments."""
    session.rules += 1
    if getattr(ruled, "checkpoint", None):
        outer, session.checkpoint = session.checkpoint, ruled.checkpoint
        try:
            return session.call(ruled.fn, args, kwargs)
        finally:
            session.checkpoint = outer
    if not session.gradients:
        return session.call(ruled.fn, args, kwargs)
    leaves: list[Node] = []
    name = getattr(ruled.fn, "__name__", None) or type(ruled.fn).__name__
    if isinstance(ruled, hooks.Recomputed):
        structure = flatten((tuple(args), kwargs), leaves, session.lift)
        closed = cells.close(session, name, structure, leaves,
                             lambda given: session.call(ruled.fn, *given))
        return cells.use(session, _recomputed(session, closed), leaves, lambda value: value)
    args, names = positional(session, ruled.fn, args, kwargs)
    structure = flatten(tuple(args), leaves, session.lift)
    with depth(session, 0):
        closed = cells.close(session, name, structure, leaves,
                             lambda given: session.call(ruled.fn, given))
    if closed.graph is not None:
        with depth(session, session.gradients - 1):
            closed = _with_vjp(session, ruled, name, closed, structure, leaves, names)
    return cells.use(session, closed, leaves, lambda value: value)


def cell(session, of, construct, name: str, structure, leaves: list[Node]) -> cells.Closed:
    """The closed graph of a cell's construct, with its rule where a gradient is taken around it."""
    bprop = getattr(type(of), "bprop", None)

    def work(given):
        return session.call(construct, [of, *given[0]], given[1])

    if bprop is None:
        closed = cells.close(session, name, structure, leaves, work)
        session.read("cell_attr", of, "_recomputed", vars(of).get("_recomputed", False))
        if not vars(of).get("_recomputed"):
            return closed
        session.rules += 1
        return _recomputed(session, closed) if session.gradients else closed
    session.rules += 1
    if not session.gradients:
        return cells.close(session, name, structure, leaves, work)
    if not is_steady(type(of).__module__):
        session.read("attr", type(of), "bprop", bprop)
    with depth(session, 0):
        closed = cells.close(session, name, structure, leaves, work)
    if closed.graph is None:
        return closed
    source = session.source_of(construct)
    args, kwargs = unflatten(structure, [Slot(i) for i in range(len(leaves))])
    args, names = _bound(session, source, construct, [of, *args], kwargs, 1)
    rule = Rule(f"bprop of {type(of).__name__}", place_of(bprop), tuple(names))
    with depth(session, session.gradients - 1):
        return _with_bprop(session, rule, lambda given: session.call(bprop, [of, *given]),
                           name, closed, tuple(args), leaves)


@contextmanager
def depth(session, gradients: int):
    """Parse as if there were this many gradients around."""
    outer, session.gradients = session.gradients, gradients
    try:
        yield
    finally:
        session.gradients = outer


# -- the graphs ------------------------------------------------------------------------------------

def _with_bprop(session, rule: Rule, bprop, name: str, closed: cells.Closed, args: tuple,
                leaves: list[Node]) -> cells.Closed:
    """`args` are the arguments of construct as a structure over `leaves`."""
    results = list(closed.graph.results)
    dys = _cotangents(results)
    n, m = len(leaves), len(leaves) + len(results)

    def work(given):
        xs, ys, ds = given[:n], given[n:m], given[m:]
        out = unflatten(closed.structure, ys)
        returned = bprop([*unflatten(args, xs), out, _dout(closed.structure, results, ds)])
        return _filled(session, rule.answers(unflatten(args, leaves), returned), leaves, wrt)

    wrt = _float_slots(args, leaves)
    places = [*leaves, *results, *dys]
    bwd = _rule_graph(session, rule, f"{name}.bprop", tuple(map(Slot, range(len(places)))), places,
                      work)
    captured = _union(closed.captured, bwd.captured)
    inputs = bwd.graph.inputs
    graph = _taking(bwd.graph, [*inputs[:n], *_inputs_for(captured, bwd, len(places)),
                                *inputs[n:len(places)]])
    return changed(closed, graph=_with_inputs(closed, n, captured), captured=captured,
                   rule={"bwd": graph, "wrt": wrt})


def _with_vjp(session, ruled, name: str, closed: cells.Closed, structure, leaves: list[Node],
              names: list[str]) -> cells.Closed:
    """`structure` holds the arguments of the function over `leaves`; `names` are theirs."""
    session.read("attr", ruled, "fwd", ruled.fwd)
    session.read("attr", ruled, "bwd", ruled.bwd)
    ruled.check()
    fixed = [i for i in ruled.nondiff_argnums if i < len(names)]
    moving = [i for i in range(len(names)) if i not in fixed]
    rule = Rule(f"bwd of {name}", place_of(ruled.bwd), tuple(names[i] for i in moving))
    if closed.is_seen:
        raise rule.fault("is the gradient of a function that assigns a Parameter or prints",
                         "do that outside the function")
    fwd = _fwd_graph(session, ruled, name, closed, structure, leaves)
    dys = _cotangents(closed.graph.results)
    kept: list[Node] = []           # what the forward half hands on: nodes of leaves and of fwd
    known = flatten((tuple(unflatten(structure[i], leaves) for i in fixed),
                     unflatten(fwd.structure[1], fwd.graph.results)), kept, lambda x: x)
    wrt = _float_slots(tuple(structure[i] for i in moving), leaves)
    expected = unflatten(tuple(structure[i] for i in moving), leaves)

    def work(given):
        (fixed_args, residuals), ds = given
        dout = _dout(closed.structure, closed.graph.results, ds)
        return _filled(session, rule.answers(expected, session.call(
            ruled.bwd, [*fixed_args, residuals, dout])), leaves, wrt)

    n, places = len(kept), [*kept, *dys]
    bwd = _rule_graph(session, rule, f"{name}.bwd",
                      (known, tuple(Slot(i) for i in range(n, len(places)))), places, work)
    captured = _union(closed.captured, fwd.captured, bwd.captured)
    forward = _handing_on(_with_inputs(fwd, len(leaves), captured), len(closed.graph.results),
                          [*leaves, *captured], [*kept, *bwd.captured])
    inputs = bwd.graph.inputs
    backward = _taking(bwd.graph, [*inputs[:n], *inputs[len(places):], *inputs[n:len(places)]])
    return changed(closed, graph=_with_inputs(closed, len(leaves), captured), captured=captured,
                   rule={"bwd": backward, "fwd": forward, "wrt": wrt})


def _fwd_graph(session, ruled, name: str, closed: cells.Closed, structure, leaves: list[Node]):
    """The closed graph of the user's fwd, whose first results are those of the function."""
    rule = Rule(f"fwd of {name}", place_of(ruled.fwd), ())
    fwd = _rule_graph(session, rule, f"{name}.fwd", structure, leaves, lambda given: ruled.pair(
        session.call(ruled.fwd, given), rule.place))
    out, own = fwd.structure[0], closed.graph.results
    if out != closed.structure or [r.type for r in fwd.graph.results[:len(own)]] != [
            r.type for r in own]:
        raise rule.fault(f"gives {describe(unflatten(out, fwd.graph.results))}, and {name} itself "
                         f"{describe(unflatten(closed.structure, own))}",
                         f"return ({name}'s result, residuals)")
    return fwd


def _handing_on(fwd: Graph, count: int, operands: list, wanted: list) -> Graph:
    """fwd with its first results and then what is wanted: nodes of it, or some of its operands."""
    inputs = dict(zip(map(id, operands), fwd.inputs, strict=True))
    residuals = [inputs.get(id(x), x) for x in wanted]
    last = Apply(PRIMITIVES["tuple"], (*fwd.results[:count], *residuals), {})
    return Graph(fwd.name, fwd.inputs, [*fwd.body, last], last)


def _recomputed(session, closed: cells.Closed) -> cells.Closed:
    """The same graph, whose backward half computes it again."""
    if closed.graph is None:
        return closed
    return changed(closed, rule=recompute.rule(closed.graph, session.gradients))


def _rule_graph(session, rule: Rule, name: str, structure, places: list[Node], work):
    """A closed graph of a rule: its value and nothing else."""
    closed = cells.close(session, name, structure, places, work)
    if closed.is_seen:
        raise rule.fault("assigns a Parameter or prints, and the gradient is computed where "
                         "neither is possible", "do that in the function itself")
    if closed.graph is None:
        nothing = Apply(PRIMITIVES["tuple"], (), {})
        inputs = [copy_input(Input(x.type, x.name)) for x in [*places, *closed.captured]]
        return changed(closed, graph=Graph(name, inputs, [nothing], nothing))
    return closed


def _taking(graph: Graph, inputs: list[Input]) -> Graph:
    return Graph(graph.name, inputs, graph.body, graph.result)


def _union(*lists) -> list:
    """Every object once, in order."""
    return list({id(x): x for values in lists for x in values}.values())


def _inputs_for(captured: list, closed: cells.Closed, n: int) -> list[Input]:
    """The graph's inputs for what it captured, which come after n others; new ones for the rest."""
    own = dict(zip(map(id, closed.captured), closed.graph.inputs[n:], strict=True))
    return [own[id(x)] if id(x) in own else Input(x.type, getattr(x, "name", None) or "unused")
            for x in captured]


def _with_inputs(closed: cells.Closed, n: int, captured: list) -> Graph:
    """The closed graph, taking its n arguments and then all that is listed."""
    return _taking(closed.graph, [*closed.graph.inputs[:n], *_inputs_for(captured, closed, n)])


def _float_slots(args: tuple, leaves: list[Node]) -> tuple[int, ...]:
    """Which leaves a structure names that have cotangents, in its order."""
    return tuple(i for i in _slots(args) if control.is_differentiable(leaves[i].type))


def _slots(structure) -> list[int]:
    if isinstance(structure, Slot):
        return [structure.index]
    return [i for part in parts_by_key(structure).values() for i in _slots(part)]


def _cotangents(results) -> list[Input]:
    """Stand-ins for the cotangents of a graph's results."""
    return [Input(r.type, f"d{i}") for i, r in enumerate(results)
            if control.is_differentiable(r.type)]


def _dout(structure, results, given):
    """The cotangent of a result, in its structure; zeros for what has none."""
    given = iter(given)
    values = [next(given) if control.is_differentiable(r.type) else fill(r.type, 0)
              for r in results]
    return unflatten(_without_values(structure), values)


def _without_values(structure):
    """What is known of a result has the cotangent 0 if it is a number, else None."""
    if isinstance(structure, Slot):
        return structure
    if isinstance(structure, (bool, int, float)):
        return 0.0
    if isinstance(structure, dict):
        return {key: _without_values(x) for key, x in structure.items()}
    if isinstance(structure, (tuple, list)):
        items = [_without_values(x) for x in structure]
        return structure._make(items) if hasattr(structure, "_make") else type(structure)(items)
    return structure if parts_by_key(structure) else None


def _filled(session, answers: list, leaves: list[Node], wrt: tuple[int, ...]) -> tuple:
    """The answers as nodes, zeros where there is none."""
    return tuple(session.lift(fill(leaves[i].type, 0) if a is None else a)
                 for i, a in zip(wrt, answers, strict=True))
