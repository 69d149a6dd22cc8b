"""trace: a callable and the types of its arguments in; a graph and all the driver needs out."""

from __future__ import annotations

import sys
from types import FunctionType, MethodType

from cellc.errors import CellcError, SyntaxFault, TypeFault, caller
from cellc.ir.graph import Graph, Input, KnownFault
from cellc.ir.prims import control
from cellc.ir.types import Dim
from cellc.parser import (  # noqa: F401  (they fill the dispatch tables)
    builtins,
    cells,
    expressions,
    hooks,
    library,
    lists,
    managers,
    matching,
    objects,
    operators,
    protected,
    sequences,
    statements,
)
from cellc.parser.calls import Interpreted
from cellc.parser.exceptions import conditional
from cellc.parser.frame import Ended, UserRaise
from cellc.parser.iteration import Iterator
from cellc.parser.session import Session
from cellc.parser.text import Piece, Text
from cellc.parser.traced import Traced
from cellc.parser.values import Closure, Leaf, describe

_RECURSION_LIMIT = 20_000       # of Python's own stack while parsing: about 30 frames a parsed call


def trace(fn, args: tuple, kwargs: dict, name: str) -> Traced:
    """Parse a call of `fn`; traced arguments are given as `Leaf(type)`, at any depth of containers.

    Faults carry the user's line. An exception that the user's code raises comes out as it is.
    """
    session = Session(session_name(name))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _RECURSION_LIMIT))
    error = None
    try:
        with session.builder as builder:
            given_args, given_kwargs = _inputs(session, fn, args, kwargs)
            try:
                value = _run(session, fn, given_args, given_kwargs)
            except Ended:
                value = None
            check_result(value)
            _check_generators(session)
            closed = cells.finish(session, builder, _with_numbers(session, value))
            graph = closed.graph or builder.finish(control.tuple())
            lists.refuse_tapes(graph.results, "a returned object")
    except CellcError as fault:
        fault.at(caller())
        if isinstance(fault, KnownFault):
            fault.traced = _traced(session)
        raise
    except UserRaise as raised:
        error = raised.error
        if raised.crossed is not None:
            error = conditional(raised.crossed, raised.loc)
            error.trail = raised.trail
    except RecursionError:
        raise SyntaxFault(f"{name} nests calls too deeply to be compiled",
                          "write a loop over a known range instead") from None
    finally:
        sys.setrecursionlimit(limit)
    if error is not None:
        raise error             # here, so that the parser's own exceptions are no context of it
    graph, in_place = _with_updates(graph, closed.captured, closed.assigned)
    return _traced(session, graph=graph, inputs=tuple([x.type for x in graph.inputs]),
                   results=tuple([x.type for x in graph.results]), captured=closed.captured,
                   assigned=closed.assigned, in_place=in_place, structure=closed.structure)


def _traced(session, **found) -> Traced:
    """What was found, with what the session has noted."""
    return Traced(guards=session.record.reads, messages=session.messages,
                  constants=session.constants, codes=session.codes, library=session.library,
                  **found)


def _with_updates(graph: Graph, captured: list, assigned: list) -> tuple[Graph, dict[int, int]]:
    """The graph and, for every result that is a Parameter's new value, the input that is its old
    one; inputs are added where a Parameter is assigned but never read."""
    first = len(graph.inputs) - len(captured)
    place = {id(x): first + i for i, x in enumerate(captured)}
    found = {}
    for parameter, result in assigned:
        if id(parameter) not in place:
            place[id(parameter)] = len(graph.inputs)
            captured.append(parameter)
            graph = Graph(graph.name, (*graph.inputs, Input(parameter.type, parameter.name)),
                          graph.body, graph.result)
        found[result] = place[id(parameter)]
    return graph, found


def session_name(name: str) -> str:
    return "lambda" if name == "<lambda>" else name


def _run(session, fn, args: list, kwargs: dict):
    """The call itself; the outermost cell is parsed in place, since it is the program."""
    if isinstance(fn, hooks.Cell):
        return session.call(cells.construct_of(session, fn), [fn, *args], kwargs)
    return session.call(fn, args, kwargs)


def _with_numbers(session, value):
    """The result with symbolic sizes as numbers of the program, lists on tapes as rows."""
    if isinstance(value, Dim):
        return operators.as_number(session, value)
    if lists.on_tape(value) is not None:
        return lists.handed_out(session, value)
    if isinstance(value, dict):
        return type(value)((key, _with_numbers(session, x)) for key, x in value.items())
    if isinstance(value, (tuple, list)):
        items = [_with_numbers(session, x) for x in value]
        return value._make(items) if hasattr(value, "_make") else type(value)(items)
    return value


def check_result(value) -> None:
    """Refuse to hand out what has a meaning only while the program is parsed."""
    fault = None
    if isinstance(value, (Closure, Interpreted)):
        fault = TypeFault(f"the compiled call returns {describe(value)}, made inside it",
                          "return its result, or define it outside")
    elif isinstance(value, (Text, Piece)):
        fault = TypeFault("the compiled call returns a string with values known only when the "
                          "program runs", "return the values, and make the string outside")
    elif isinstance(value, Iterator):
        fault = TypeFault("the compiled call returns a generator or iterator, made inside it",
                          "return a list or tuple of it")
    elif isinstance(value, (tuple, list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            check_result(part)
    if fault is not None:
        fault.of_result = True
        raise fault


def _check_generators(session) -> None:
    """Refuse what Python would do when it collects a generator, whenever that is."""
    for generator in session.generators:
        if generator.is_held():
            fault = SyntaxFault(
                "a generator is left within a `with` or `try ... finally`, whose end Python runs "
                "when it collects the generator", "go through all of it, or call its close()"
            ).at(generator.frame.loc(generator.frame.source.node))
            fault.of_result = True
            raise fault


# -- arguments -------------------------------------------------------------------------------------

def _inputs(session, fn, args: tuple, kwargs: dict):
    """Inputs in place of the leaves, named after the parameters they are passed to."""
    names = _parameter_names(fn)
    given = []
    for i, arg in enumerate(args):
        name = names[i] if i < len(names) else f"arg{i}"
        given.append(_input(session, arg, name))
    return given, {name: _input(session, arg, name) for name, arg in kwargs.items()}


def _input(session, value, name: str):
    if isinstance(value, Leaf):
        return session.builder.input(value.type, name)
    if isinstance(value, (tuple, list)):
        items = [_input(session, x, f"{name}.{i}") for i, x in enumerate(value)]
        found = value._make(items) if hasattr(value, "_make") else type(value)(items)
    elif isinstance(value, dict):
        found = type(value)((key, _input(session, x, f"{name}.{key}"))
                            for key, x in value.items())
    else:
        return value
    session.hand(found)
    return found


def _parameter_names(fn) -> tuple[str, ...]:
    while hasattr(fn, "fn") and not isinstance(fn, (FunctionType, MethodType)):
        fn = fn.fn                      # a gradient names its function's parameters
    if isinstance(fn, hooks.Cell):
        fn = fn.construct
    skip = 1 if isinstance(fn, MethodType) else 0
    code = getattr(getattr(fn, "__func__", fn), "__code__", None)
    return code.co_varnames[skip:code.co_argcount] if code is not None else ()
