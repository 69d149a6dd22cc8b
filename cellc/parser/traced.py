"""What parsing a call gives: a graph, and what of the world outside it has to do with."""

from __future__ import annotations

from types import CodeType
from typing import Any

from cellc.ir.graph import Graph
from cellc.ir.types import Type
from cellc.parser.guards import Guard
from cellc.record import fresh, record


@record(eq=False)
class Traced:
    """One parsed program; in a KnownFault what was noted before it.

    graph      inputs: the traced arguments in order, then what was captured; results: the traced
               parts of the value, then new values of Parameters. None where it was parsed in
               another process
    inputs     their types; and those of the results
    captured   the objects (Parameters, constant Tensors) that the further inputs are
    assigned   pairs (Parameter, index of the result that becomes its value)
    in_place   index of such a result -> that of the input whose memory it goes to
    structure  of the returned value; its slots count the results
    guards     what the parse read of the world outside
    messages   what the program may say, which lives as long as it does
    constants  the Tensors that the parsed code made of known values
    codes      of the user's functions that were interpreted
    library    modules of the library and names, of what was taken there
    """

    guards: list[Guard]
    graph: Graph | None = None
    inputs: tuple[Type, ...] = ()
    results: tuple[Type, ...] = ()
    captured: list[Any] = fresh(list)
    assigned: list[tuple[Any, int]] = fresh(list)
    in_place: dict[int, int] = fresh(dict)
    structure: Any = None
    messages: list[Any] = fresh(list)
    constants: list[Any] = fresh(list)
    codes: set[CodeType] = fresh(set)
    library: set[tuple[str, str]] = fresh(set)
