"""Calls of transformed functions: `jvp`, `vjp`, `linearize`, `vmap`, and those of `gradients`.

Where the parser meets a call of a Transform (`transformed.py`), the function becomes a closed
graph, a pass makes the graph wanted, and a call of that is appended.
"""

from __future__ import annotations

from typing import Any

from cellc.ir import arith
from cellc.ir.graph import Graph, Node, fill
from cellc.parser import cells
from cellc.parser.structures import pairs, rebuilt, slots_of
from cellc.parser.transformed import (
    LinearFunction,
    LinearProgram,
    Transform,
    apart,
    check_tangents,
    main_part,
    refuse_integers,
    vectors_of,
    zero_like,
)
from cellc.parser.values import Slot, flatten, unflatten
from cellc.passes.jvp import jvp_graph
from cellc.passes.linearize import Split, linearize_graphs, vjp_graphs


def call(session, record: Transform, args: list, kwargs: dict):
    """The value of a transformed function on these arguments."""
    return RULES[record.kind](session, record, args, kwargs)


# -- what the rules share --------------------------------------------------------------------------

def name_of(fn) -> str:
    return getattr(fn, "__name__", None) or type(fn).__name__


def close(session, fn, args: tuple, kwargs: dict, gradient: bool = True):
    """(closed graph, structure of the arguments, their traced leaves)."""
    leaves: list[Node] = []
    structure = flatten((args, kwargs), leaves, session.lift)
    session.gradients += gradient
    try:
        closed = cells.close(session, name_of(fn), structure, leaves,
                             lambda given: session.call(fn, *given))
    finally:
        session.gradients -= gradient
    if closed.structure is cells.NO_VALUE:      # it raises, whatever the arguments are
        cells.use(session, closed, leaves, lambda value: value)
    return closed, structure, leaves


def use(session, closed: cells.Closed, leaves, graph: Graph, extra: int, more=()):
    """Append a call of the graph made of a closed one; (the function's value, further results)."""
    graph = Graph(session.graph_name(graph.name), graph.inputs, graph.body, graph.result)
    stand_in = cells.Closed(graph, [*closed.captured, *more], closed.structure, closed.assigned,
                            identity=closed.identity)
    found = cells.use(session, stand_in, leaves, lambda value: value, extra=extra)
    return found if extra else (found, [])


def lift_floats(session, value):
    """Known floats become values of the program."""
    return rebuilt(value, lambda x: session.lift(x) if type(x) is float else x)


def conformed(session, given, type) -> Node:
    """A tangent or cotangent as a value of its type; None is zero."""
    return fill(type, 0) if given is None else session.lift(arith.conform(given, type))


def _float_outputs(closed: cells.Closed, structure) -> tuple[int, ...]:
    """The results among a structure's slots that can be differentiated."""
    found = tuple(dict.fromkeys(slots_of(structure)))
    return tuple(i for i in found if closed.graph.results[i].type.dtype.is_float)


def _arranged(structure, types, of: dict[int, Any]):
    """A structure of results with the derivatives `of` its slots, zeros where there are none."""
    def part(x):
        if not isinstance(x, Slot):
            return zero_like(x)
        return of[x.index] if x.index in of else fill(types[x.index], 0)

    return rebuilt(structure, part)


# -- jvp -------------------------------------------------------------------------------------------

def jvp(session, record, args: list, kwargs: dict):
    """(value, tangent[, aux]) of a function at primals, along tangents."""
    primals, tangents = record.arguments(args)
    primals = lift_floats(session, primals)
    check_tangents(primals, tangents)
    closed, structure, leaves = close(session, record.fn, primals, kwargs)
    along = {slot.index: conformed(session, dx, leaves[slot.index].type)
             for slot, dx in pairs(structure[0], tangents, "the tangent") if dx is not None}
    part = main_part(record, closed.structure)
    outputs = _float_outputs(closed, part) if along else ()
    types = [r.type for r in closed.graph.results] if closed.graph is not None else []
    if not outputs:
        value, found = cells.use(session, closed, leaves, lambda value: value), []
    else:
        graph = jvp_graph(closed.graph, tuple(along), outputs)
        value, found = use(session, closed, leaves, graph, len(outputs), list(along.values()))
    tangent = _arranged(part, types, dict(zip(outputs, found, strict=True)))
    return apart(record, value, tangent)


# -- vjp and linearize -----------------------------------------------------------------------------

def linear(session, record, args: list, kwargs: dict):
    """(value, a LinearFunction[, aux]): its pullback (`vjp`) or its derivative (`linearize`)."""
    backwards = record.kind == "vjp"
    primals = record.arguments(args)
    at = record.positions(primals)
    primals = tuple(lift_floats(session, x) if i in at else x for i, x in enumerate(primals))
    closed, structure, leaves = close(session, record.fn, primals, kwargs)
    inputs = tuple(structure[0][i] for i in at)
    if record.argnums is not None:
        for i in slots_of(inputs):
            refuse_integers(leaves[i].type, "gradient")
    wrt = [i for i in slots_of(inputs) if leaves[i].type.dtype.is_float]
    part = main_part(record, closed.structure)
    outputs = _float_outputs(closed, part) if closed.graph is not None else ()
    place = {id(x): len(leaves) + i for i, x in enumerate(closed.captured)}
    used = [place[id(w)] for w in record.weight_list if id(w) in place]
    if not outputs or not wrt + used:
        split, residuals = None, ()
        value = cells.use(session, closed, leaves, lambda value: value)
        wrt, used, outputs = [], [], ()
    else:
        split = (vjp_graphs if backwards else linearize_graphs)(
            closed.graph, (*wrt, *used), outputs)
        value, residuals = _run_early(session, closed, leaves, split)
    in_types = [x.type for x in leaves]
    out_types = [r.type for r in closed.graph.results] if closed.graph is not None else []
    xs = _arranged(inputs, in_types, {index: Slot(i) for i, index in enumerate(wrt)})
    ys = _arranged(part, out_types, {index: Slot(i) for i, index in enumerate(outputs)})
    name, late = f"{record.kind} of {name_of(record.fn)}", split.late if split else None
    if backwards:
        found = _by_weights(record, xs, {id(closed.captured[p - len(leaves)]): Slot(len(wrt) + i)
                                         for i, p in enumerate(used)})
        program = LinearProgram(name, "cotangent", late, ys, [out_types[i] for i in outputs],
                                found, session.messages)
    else:
        program = LinearProgram(name, "tangent", late, xs, [in_types[i] for i in wrt], ys,
                                session.messages)
    return apart(record, value, LinearFunction(program, tuple(residuals)))


def _by_weights(record, by_inputs, slots: dict[int, Slot]):
    """What a pullback gives: cotangents of the inputs, and of the weights where asked for."""
    if record.weights is None:
        return by_inputs
    found = tuple(slots.get(id(w), fill(w.type, 0)) for w in record.weight_list)
    return by_inputs, found if isinstance(record.weights, tuple) else found[0]


def _run_early(session, closed: cells.Closed, leaves, split: Split):
    """Append the call of the early graph; (the function's value, the residuals)."""
    pool = [*leaves, *closed.captured]
    given = {i: session.lift(pool[i]) for kind, i in split.residuals if kind == "input"}
    value, found = use(session, closed, leaves, split.early,
                       len(split.early.results) - split.count)
    return value, [given[i] if kind == "input" else found[i - split.count]
                   for kind, i in split.residuals]


def apply_linear(session, program: LinearProgram, args: list, kwargs: dict):
    """The value of a linear program on residuals and vectors."""
    residuals, *vectors = args
    parts = vectors_of(program.given, program.what, tuple(vectors))
    found = [part for slot, part in parts if isinstance(slot, Slot)]
    results = []
    if program.graph is not None:
        operands = [conformed(session, v, t) for v, t in zip(found, program.types, strict=True)]
        graph = program.graph
        graph = Graph(session.graph_name(graph.name), graph.inputs, graph.body, graph.result)
        results = session.append_call(graph, [*operands, *map(session.lift, residuals)])
    return unflatten(program.made, results, made=session.owned.add)


def _gradient(session, record, args: list, kwargs: dict):
    from cellc.parser import gradients

    return gradients.call(session, record, args, kwargs)


def _lanes(session, record, args: list, kwargs: dict):
    from cellc.parser import lanes

    return lanes.call(session, record, args, kwargs)


def _composed(session, record, args: list, kwargs: dict):
    """One that is written over the others."""
    return record.composed(args, kwargs)


RULES = {"grad": _gradient, "jvp": jvp, "vjp": linear, "linearize": linear, "linear": apply_linear,
         "vmap": _lanes, "composed": _composed}
