"""Calls of cells: one closed graph for a class of cell on the same types, used by every instance.

The graph takes the traced arguments, then what it captured: its Parameters, constant tensors. It
gives the traced parts of the result, then the Parameters it assigned. Which
attributes the parse of `construct` read is kept with the graph (`guards.Record`), and another
instance takes the same graph where they match, with its own Parameters as operands.
"""

from __future__ import annotations

from typing import Any

from cellc.errors import TypeFault
from cellc.ir.graph import Graph, Node, has_effect
from cellc.ir.prims import control
from cellc.parser import hooks
from cellc.parser.frame import Ended
from cellc.parser.guards import Record, is_steady
from cellc.parser.identity import Identity, of_call, relate_given
from cellc.parser.session import TraceBuilder
from cellc.parser.values import SIMPLE, Closure, Slot, flatten, unflatten
from cellc.record import fresh, record

NO_VALUE = object()     # of a call that never returns


@record(eq=False)
class Closed:
    """A closed graph with what it needs to be called, and what its results are."""

    graph: Graph | None                 # None: it has no results and no effects
    captured: list[Any]                 # the objects that are its further operands
    structure: Any                      # of the value; its slots count the results
    assigned: list[tuple[Any, int]]     # a Parameter and the result that is its new value
    rule: dict[str, Any] = fresh(dict)      # of its gradient: further attributes of a call
    identity: Any = None                # which objects the results are: `identity.Identity`

    @property
    def has_effects(self) -> bool:
        """Does it print, or check anything?"""
        return self.graph is not None and self.graph.has_effects

    @property
    def is_seen(self) -> bool:
        """Does it do what is seen outside: assign a Parameter or print?"""
        return bool(self.assigned) or self.graph is not None and any(
            node.prim.name == "show" for g in self.graph.reachable() for node in g.body)


@record(eq=False)
class _CellGraph:
    """One parse of a construct: on which cell and arguments, what it read, what it became."""

    cell: Any
    arguments: Any          # kept, so that the ids in its key stay theirs
    record: Record
    closed: Closed
    gradients: int | None   # how many were being taken around it, where that made a difference


def call(session, cell, args: list, kwargs: dict):
    """The value of `cell(*args, **kwargs)`."""
    from cellc.parser import custom

    construct = construct_of(session, cell)
    leaves: list[Node] = []
    structure = flatten((tuple(args), kwargs), leaves, session.lift)
    key = (construct, key_of(session, structure), tuple(x.type for x in leaves),
           any(session.modes.values()))
    known = session.cell_graphs.setdefault(key, [])
    for made in known:
        if made.gradients not in (None, session.gradients):
            continue
        found = made.record.match(made.cell, cell)
        if found is not None:
            mapping, reads = found
            session.replay(reads)
            session.rules += made.gradients is not None
            value = use(session, made.closed, leaves,
                        lambda value, here=mapping: here.get(id(value), value))
            return relate_given(session, made.closed, (args, kwargs), value)
    record, rules = Record(), session.rules
    session.records.append(record)
    try:
        closed = custom.cell(session, cell, construct, type(cell).__name__, structure, leaves)
    finally:
        session.records.pop()
    if not any(isinstance(value, Node) for value in closed.captured):
        gradients = session.gradients if session.rules > rules else None
        known.append(_CellGraph(cell, structure, record, closed, gradients))
    value = use(session, closed, leaves, lambda value: value)
    return relate_given(session, closed, (args, kwargs), value)


def construct_of(session, cell):
    """What the cell's class computes with; a guard notices when the class is given another."""
    construct = getattr(type(cell), "construct", None)
    if construct is None or construct is getattr(hooks.Cell, "construct", None):
        raise TypeFault(f"the cell {type(cell).__name__} has no construct",
                        "define construct(self, ...)")
    if not is_steady(type(cell).__module__):
        session.read("attr", type(cell), "construct", construct)
    return construct


def key_of(session, structure):
    """A hashable form of what is known of the arguments: plain values by value, others by identity.

    A closure's variables, and objects made here, may change between two calls: never the same.
    """
    if isinstance(structure, Slot):
        return structure
    if isinstance(structure, (tuple, list)):
        return (type(structure), *(key_of(session, x) for x in structure))
    if isinstance(structure, dict):
        return (dict, *((name, key_of(session, x)) for name, x in structure.items()))
    if isinstance(structure, float):
        return float, structure.hex()
    if isinstance(structure, SIMPLE) and not isinstance(structure, slice):
        return type(structure), structure
    if isinstance(structure, Closure) or structure in session.owned:
        return object()
    return type(structure), id(structure)


def close(session, name: str, structure, leaves: list[Node], work) -> Closed:
    """The closed graph of `work(arguments)`; `structure` holds the arguments over `leaves`."""
    builder = TraceBuilder(session.graph_name(name))
    with session.closed(builder):
        inputs = [builder.input(x.type, x.name or f"x{i}") for i, x in enumerate(leaves)]
        try:
            given = unflatten(structure, inputs, made=session.hand)
            value = work(given)
        except Ended:
            value = NO_VALUE
        closed = finish(session, builder, value)
        closed.identity = Identity(session, inputs, given, value)
        return closed


def finish(session, builder: TraceBuilder, value) -> Closed:
    """Close the builder's graph with the traced parts of `value` and its effects as results."""
    results: list[Node] = []
    shape = flatten(value, results, session.lift)
    assigned = []
    for parameter, node in builder.assigned.values():
        assigned.append((parameter, len(results)))
        results.append(node)
    graph = None
    if results or any(map(has_effect, builder.body)):
        graph = builder.finish(results[0] if len(results) == 1 else control.tuple(*results))
    captured = [value for value, _ in builder.captured.values()]
    return Closed(graph, captured, shape, assigned)


def use(session, closed: Closed, leaves: list[Node], known, extra: int = 0):
    """Append a call of a closed graph; `known` maps the objects it was made with to those here.

    Where the graph has `extra` further results (gradients), they are returned beside the value.
    """
    results = []
    if closed.graph is not None:
        operands = [*leaves, *(session.builder.lift(known(x)) for x in closed.captured)]
        results = session.append_call(closed.graph, operands, closed.rule)
    for parameter, index in closed.assigned:
        parameter = known(parameter)
        session.builder.assigned[id(parameter)] = (parameter, results[index])
    if closed.structure is NO_VALUE:
        raise Ended
    own = of_call(session, closed, leaves, results, known, extra)
    value = unflatten(closed.structure, own, known=known, made=session.owned.add)
    if closed.identity is not None:
        closed.identity.relate_containers(session, value)
    return (value, results[len(results) - extra:]) if extra else value
