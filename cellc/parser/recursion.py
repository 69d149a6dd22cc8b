"""Functions that call themselves under a condition known only when the program runs.

A function is interpreted where it is called, and one that calls itself on known conditions unrolls.
Where an activation meets a call of itself with the same known arguments and the same types, on a
way that depends on data, what it has done so far is taken back, and it becomes a graph that calls
itself. What the call gives is not known at first: the ways that come to it are left out, and the
others tell (`Unsettled`); the graph is parsed again with that, until it gives what was assumed.
Known numbers that differ from call to call (a depth that is counted) become numbers of the program.
"""

from __future__ import annotations

from typing import Any

from cellc.errors import SyntaxFault, TypeFault
from cellc.ir.graph import Graph, Input, Node
from cellc.ir.prims import control
from cellc.parser import calls, cells, meeting
from cellc.parser.frame import Signal, Unsettled
from cellc.parser.identity import relate_all
from cellc.parser.session import TraceBuilder
from cellc.parser.values import SIMPLE, Slot, flatten, unflatten
from cellc.record import record

MOST_ATTEMPTS = 10
COUNTED_AFTER = 3       # activations whose known numbers differ before these are numbers of the
                        # program

NEW = object()          # not a call of something that is being parsed


class Met(Signal):
    """An activation has met a call of itself; `numbers`: its known numbers differ."""

    def __init__(self, frame, numbers: bool):
        self.frame, self.numbers = frame, numbers
        super().__init__()


@record(eq=False)
class Pending:
    """A function that is becoming a graph, and what is assumed of the graph so far."""

    function: Any
    key: tuple
    graph: Graph | None = None          # None: nothing is known of its result yet
    structure: Any = None               # of the result
    types: tuple = ()
    captured: tuple = ()


def call(session, function, args: list, kwargs: dict):
    """Interpret a call of a function or closure in place; where it meets itself, as a graph."""
    if session.pending:
        found = _pending_call(session, function, args, kwargs)
        if found is not NEW:
            return found
    if session.recursions:
        leaves, key = _key(session, function, args, kwargs, session.lift)
        if key in session.recursions:
            return cells.use(session, session.recursions[key][1], leaves, lambda value: value)
    frame = calls.activation(session, function, args, kwargs)
    frame.callee, frame.given, frame.traced_depth = function, (args, kwargs), session.traced_depth
    _look_out(session, function, args, kwargs)
    try:
        with session.attempt(frame, Met):
            return calls.run_body(session, frame)
    except Met as met:
        if met.frame is not frame:
            raise
        numbers = met.numbers
    if numbers:
        args = [_as_number(session, x) for x in args]
        kwargs = {name: _as_number(session, x) for name, x in kwargs.items()}
    return _as_graph(session, function, args, kwargs)


def _pending_call(session, function, args: list, kwargs: dict):
    """The call of a function that is becoming a graph; NEW where it is none."""
    if not any(p.function is function for p in session.pending):
        return NEW
    leaves, key = _key(session, function, args, kwargs, session.lift)
    found = next((p for p in session.pending if p.key == key), None)
    if found is None:
        return NEW
    if found.graph is None:
        raise Unsettled
    operands = [*leaves, *map(session.builder.lift, found.captured)]
    node = control.call(*operands, graph=found.graph)
    results = session.parts(node, len(found.types)) if found.types else []
    relate_all(session, operands, results)
    return unflatten(found.structure, results, made=session.owned.add)


def _look_out(session, function, args, kwargs) -> None:
    """Raise Met where an activation of the function on the same arguments is under way."""
    same = [f for f in session.frames if f.callee is function
            and f.traced_depth < session.traced_depth]
    if not same:
        return
    _, key = _key(session, function, args, kwargs, session.lift_anywhere)
    for frame in same:
        if _key(session, function, *frame.given, session.lift_anywhere)[1] == key:
            raise Met(frame, False)
    if len(same) >= COUNTED_AFTER:
        _, counted = _key(session, function, args, kwargs, session.lift_anywhere, True)
        for frame in same:
            if _key(session, function, *frame.given, session.lift_anywhere, True)[1] == counted:
                raise Met(frame, True)


def _key(session, function, args, kwargs, lift, numbers: bool = False):
    """The traced parts of arguments, and what makes two calls the same graph; `numbers`: known
    numbers count by their kind only."""
    leaves: list = []
    structure = flatten((tuple(args), kwargs), leaves, lift)
    types = tuple(x.type for x in leaves)
    return leaves, (id(function), _known(session, structure, numbers), () if numbers else types)


def _known(session, structure, numbers: bool):
    if isinstance(structure, Slot):
        return "number" if numbers else structure
    if isinstance(structure, (tuple, list)):
        return (type(structure), *(_known(session, x, numbers) for x in structure))
    if isinstance(structure, dict):
        return (dict, *((name, _known(session, x, numbers)) for name, x in structure.items()))
    if numbers and isinstance(structure, (int, float)) and not isinstance(structure, bool):
        return "number"
    if isinstance(structure, SIMPLE):
        return cells.key_of(session, structure)
    return type(structure), id(structure)


def _as_number(session, value):
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return session.lift(value)
    return value


def _as_graph(session, function, args: list, kwargs: dict):
    """The call as one of a graph that calls itself."""
    leaves, key = _key(session, function, args, kwargs, session.lift)
    structure = flatten((tuple(args), kwargs), [], session.lift)
    pending = Pending(function, key)
    for _ in range(MOST_ATTEMPTS):
        closed = _attempt(session, pending, structure, leaves)
        if closed is not None:
            # Within another that is not finished yet, it calls what may be thrown away.
            if not session.pending and not any(
                    isinstance(value, Node) for value in closed.captured):
                session.recursions[key] = function, closed, args, kwargs    # ids stay theirs
            return cells.use(session, closed, leaves, lambda value: value)
    raise TypeFault(f"{_name(function)} calls itself, and what it gives does not come to have one "
                    "type", "return the same dtype and shape on every way")


def _attempt(session, pending: Pending, structure, leaves: list) -> cells.Closed | None:
    """Parse the function once more; the closed graph, if it gives what was assumed."""
    builder = TraceBuilder(session.graph_name(_name(pending.function)))
    session.pending.append(pending)
    try:
        with session.closed(builder):
            inputs = [builder.input(x.type, x.name or f"x{i}") for i, x in enumerate(leaves)]
            for value in pending.captured:
                builder.lift(value)
            declared = None
            if pending.structure is not None or pending.types:
                declared = pending.graph = Graph.declare(
                    builder.name, builder.inputs, _type_of(pending.types))
            args, kwargs = unflatten(structure, inputs)
            frame = calls.activation(session, pending.function, list(args), kwargs)
            value = calls.run_body(session, frame)
            results: list = []
            shape = flatten(value, results, session.lift)
            same = _meets(pending, shape, results, builder)
            if builder.assigned:
                raise SyntaxFault("a Parameter is assigned in a function that calls itself",
                                  "return the new value, and assign it outside")
            if not same or declared is None:
                return None
            results = [meeting.in_type(session, x, t)
                       for x, t in zip(results, pending.types, strict=True)]
            result = results[0] if len(results) == 1 else control.tuple(*results)
    except Unsettled:
        raise SyntaxFault(f"{_name(pending.function)} calls itself on every way",
                          "let one way return without it") from None
    finally:
        session.pending.remove(pending)
    declared.inputs = tuple(builder.inputs)
    declared.define(builder.body, result)
    return cells.Closed(declared, list(pending.captured), shape, [])


def _meets(pending: Pending, shape, results: list, builder) -> bool:
    """Is this what was assumed? Else it, with what was, is assumed from now on."""
    types = tuple(x.type for x in results)
    captured = tuple(value for value, _ in builder.captured.values())
    if (repr(shape) == repr(pending.structure) and types == pending.types
            and len(captured) == len(pending.captured)):
        return True
    pending.structure, pending.types, pending.captured = shape, types, captured
    return False


def _type_of(types: tuple):
    with TraceBuilder("types") as b:
        nodes = [b.lift(Input(t, "x")) for t in types]
        return nodes[0].type if len(nodes) == 1 else control.tuple(*nodes).type


def _name(function) -> str:
    return getattr(function, "__name__", "function")
