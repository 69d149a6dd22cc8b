"""In which type two values meet, and a value made into one of that type.

A pair of values that two sides of a branch, two rounds of a loop or two calls give becomes one
result: Python's numbers take the other's type as they do in arithmetic, tensors must agree.
"""

from __future__ import annotations

from cellc.errors import CellcError
from cellc.ir import arith
from cellc.ir.graph import Node
from cellc.ir.prims import control, shape
from cellc.ir.prims.tape import TAPE
from cellc.ir.types import Dim, ScalarType, TensorType, Type
from cellc.parser import hooks, lists, operators
from cellc.parser.values import Side

NOTHING = object()      # the side of a pair that has no value: whatever it gives is not read


def in_type(session, value, type: Type) -> Node:
    """The value as a node of a pair's type, in the graph that is being built."""
    if value is NOTHING:
        return control.empty(type=type)
    if type == TAPE:
        return lists.tape_of(session, value) if isinstance(value, Side) else session.lift(value)
    if isinstance(value, Dim):
        value = operators.as_number(session, value)
    own = arith.type_of(value)
    if own != type:
        value = arith.cast(value, type.dtype)
        if isinstance(own, ScalarType) and isinstance(type, TensorType):
            value = shape.from_scalar(value)
    return session.builder.lift(value)


def is_number(value) -> bool:
    return isinstance(value, (bool, int, float, Dim, *hooks.traced))


def meeting_type(a, b) -> Type | None:
    """The one type of two numbers or tensors; None where they have none."""
    first, second = (ScalarType(arith.type_of(0).dtype) if isinstance(v, Dim) else arith.type_of(v)
                     for v in (a, b))
    if first == second:
        return first
    if isinstance(first, TensorType) and isinstance(second, TensorType):
        return None
    if first.shape != second.shape:
        return None
    try:
        dtype = arith.result_dtype(first, second)
    except CellcError:
        return None
    tensor = isinstance(first, TensorType) or isinstance(second, TensorType)
    return TensorType(dtype) if tensor else ScalarType(dtype)
