"""Calls of gradients: `grad(f)(...)`, `value_and_grad(f)(...)`, `GradOperation()(net)(...)`.

The function becomes a closed graph of its traced arguments and of what it captures; `passes.grad`
gives the graph that also returns gradients, and a call of that is appended. What the function
assigns and prints happens once, as it would without the gradient.
"""

from __future__ import annotations

from cellc.errors import TypeFault
from cellc.ir.graph import Node, fill
from cellc.parser import cells
from cellc.parser.structures import slots_of
from cellc.parser.transforms import close, conformed, use
from cellc.parser.values import Slot, describe, flatten, unflatten
from cellc.passes.grad import value_and_grad_graph


def call(session, record, args: list, kwargs: dict):
    """The value of a GradFunction on these arguments."""
    args, sens = record.split(tuple(args))
    args = tuple(_number(session, x, i in record.positions(args)) for i, x in enumerate(args))
    at = record.positions(args)
    closed, structure, leaves = close(session, record.fn, args, kwargs)
    outputs = _outputs(record, closed)
    wrt = _inputs(structure, at, leaves)
    weights = record.weight_list
    place = {id(value): len(leaves) + i for i, value in enumerate(closed.captured) if outputs}
    used = [w for w in weights if id(w) in place]
    # get_all takes all tensors: those of integers have the gradient zero
    flat = {i for i in wrt if not outputs
            or (record.get_all and not leaves[i].type.dtype.is_float)}
    places = (*(i for i in wrt if i not in flat), *(place[id(w)] for w in used))
    if places:
        graph = value_and_grad_graph(closed.graph, places, outputs, sens is not None)
        operands = [] if sens is None else _sens(session, sens, closed, outputs)
        value, found = use(session, closed, leaves, graph, len(places), operands)
    else:       # a constant, or nothing to differentiate by
        value, found = cells.use(session, closed, leaves, lambda value: value), []
    found = iter(found)
    of_inputs = [fill(leaves[i].type, 0) if i in flat else next(found) for i in wrt]
    gradients = iter([*of_inputs, *found])
    inputs = tuple(unflatten(_renumbered(structure[0][i]), _take(structure[0][i], gradients),
                             made=session.owned.add) for i in at)
    of_weights = tuple(next(gradients) if id(w) in place else fill(w.type, 0) for w in weights)
    return record.arrange(value, inputs, of_weights)


def _number(session, value, differentiated: bool):
    """A known number that is differentiated by becomes a value of the program."""
    if not differentiated or not isinstance(value, (bool, int, float)):
        return value
    if not isinstance(value, float):
        raise TypeFault(f"a gradient by {value!r}, which is no float", "pass a float")
    return session.lift(value)


def _inputs(structure, at: tuple[int, ...], leaves: list[Node]) -> list[int]:
    """The inputs to differentiate by: the traced leaves of the arguments at these positions."""
    wrt = []
    for i in at:
        slots = slots_of(structure[0][i])
        if not slots:
            raise TypeFault(f"a gradient by argument {i}, which is {describe(structure[0][i])}",
                            "pass a float tensor or a float")
        wrt.extend(slots)
    return wrt


def _renumbered(structure):
    """The structure with its slots counted from 0."""
    order = {index: i for i, index in enumerate(slots_of(structure))}
    return unflatten(structure, {index: Slot(i) for index, i in order.items()})


def _take(structure, gradients) -> list[Node]:
    return [next(gradients) for _ in slots_of(structure)]


def _outputs(record, closed: cells.Closed) -> tuple[int, ...]:
    """The results to differentiate: all parts of the value, or of its first item with aux."""
    structure = closed.structure
    if record.has_aux:
        if not isinstance(structure, tuple) or len(structure) < 2:
            raise TypeFault("has_aux: the function must return a tuple (value, aux, ...)")
        structure = structure[0]
    outputs = tuple(dict.fromkeys(slots_of(structure)))
    if not outputs and not isinstance(structure, (float, tuple, list, dict)):
        raise TypeFault(f"the function to differentiate returns {describe(structure)}",
                        "return a float tensor or a float")
    for i in outputs:
        type = closed.graph.results[i].type
        if not type.dtype.is_float:
            raise TypeFault(f"the gradient of a result of type {type}",
                            "return a float; other results can be passed on with has_aux=True")
    return outputs


def _sens(session, sens, closed: cells.Closed, outputs) -> list[Node]:
    """The cotangents given by the caller, in the types of the results; they may broadcast."""
    given: list[Node] = []
    flatten(sens, given, session.lift)
    if isinstance(sens, (bool, int, float)):
        given = [session.lift(float(sens))]
    if len(given) != len(outputs):
        raise TypeFault(f"sens has {len(given)} parts for {len(outputs)} results")
    types = [closed.graph.results[i].type for i in outputs]
    return [conformed(session, node, type) for node, type in zip(given, types, strict=True)]
