"""Is a graph well formed; are two graphs the same. What is found here is a defect of a pass."""

from __future__ import annotations

import numpy as np

from cellc.errors import CellcError, IRFault
from cellc.ir import numerics as num
from cellc.ir.graph import PRIMITIVES, Apply, Constant, Graph, Input, Node
from cellc.ir.types import TapeType, TupleType


def check(graph: Graph) -> None:
    """Raise IRFault unless the graph, and every graph it uses, is well formed.

    Closed: each operand is an input, a constant or an earlier apply of the same graph. Typed: each
    apply has just the type that its primitive derives from its operands and attributes, which for a
    call or a branch compares the sub-graph's signature. Constants hold what their type says.
    """
    for g in graph.reachable():
        _check(g)


def _check(graph: Graph) -> None:
    defined: set[Node] = set()
    for x in graph.inputs:
        if not isinstance(x, Input) or x in defined:
            raise IRFault(f"graph {graph.name}: found {x!r} among the inputs, expected each once")
        defined.add(x)
    for node in graph.body:
        try:
            _check_apply(node, defined)
        except CellcError as fault:
            raise IRFault(f"graph {graph.name}, {_line(node)}: {fault.message}",
                          loc=node.loc) from fault
        defined.add(node)
    try:
        _check_use(graph.result, defined)
    except IRFault as fault:
        raise IRFault(f"graph {graph.name}, its result: {fault.message}") from fault


def _line(node: Apply) -> str:
    return f"%{node.name or node.prim.name} = {node.prim.name}(...)"


def _check_apply(node: Apply, defined: set[Node]) -> None:
    prim = node.prim
    if node in defined:
        raise IRFault("found the apply a second time")
    if PRIMITIVES.get(prim.name) is not prim:
        raise IRFault(f"found primitive {prim.name}, which is not in the table")
    for x in node.operands:
        if x not in defined:
            _check_use(x, defined)
    for value in node.attrs.values():
        if isinstance(value, Node):
            raise IRFault("found a node among the attributes, expected it among the operands")
    try:
        derived = prim.types(*[x.type for x in node.operands], **node.attrs)
    except TypeError as error:
        raise IRFault(f"{prim.name}: {error}") from error
    if derived is not node.type and derived != node.type:
        raise IRFault(f"found type {node.type}, its operands give {derived}")


def _check_use(x: Node, defined: set[Node]) -> None:
    if isinstance(x, Constant):
        _check_constant(x)
    elif x not in defined:
        raise IRFault(f"found {x!r}, which is not defined before it in this graph")


def _check_constant(x: Constant) -> None:
    if isinstance(x.type, (TupleType, TapeType)):
        raise IRFault(f"found a constant of type {x.type}")
    if isinstance(x.value, np.ndarray):
        found = (num.dtype_of(x.value), x.value.shape)
        if found != (x.type.dtype, x.type.shape):
            raise IRFault(f"found an array {found[0]}{list(found[1])} as a constant of {x.type}")
        return
    kinds = {"b": (bool, np.bool_), "f": (float, np.floating)}.get(
        x.type.dtype.kind, (int, np.integer))
    if not isinstance(x.value, kinds) or (x.type.dtype.is_int and isinstance(x.value, bool)):
        raise IRFault(f"found {x.value!r} as a constant of {x.type}")


def same(a: Graph, b: Graph) -> bool:
    """Do two graphs say the same, in the same order? Names and places do not count."""
    return _same(a, b, {})


def _same(a: Graph, b: Graph, known: dict[Graph, Graph]) -> bool:
    if a in known:
        return known[a] is b
    known[a] = b
    if len(a.inputs) != len(b.inputs) or len(a.body) != len(b.body):
        return False
    pair: dict[Node, Node] = dict(zip(a.inputs, b.inputs, strict=True))
    if any(x.type != y.type for x, y in pair.items()):
        return False

    def equal(x: Node, y: Node) -> bool:
        if isinstance(x, Constant):
            return isinstance(y, Constant) and x.type == y.type and _bits(x) == _bits(y)
        return pair.get(x) is y

    for x, y in zip(a.body, b.body, strict=True):
        if (x.prim is not y.prim or x.type != y.type or len(x.operands) != len(y.operands)
                or not all(map(equal, x.operands, y.operands))
                or not _same_attrs(x.attrs, y.attrs, known)):
            return False
        pair[x] = y
    return equal(a.result, b.result)


def _same_attrs(a: dict, b: dict, known: dict[Graph, Graph]) -> bool:
    if a.keys() != b.keys():
        return False
    return all(isinstance(b[key], Graph) and _same(value, b[key], known)
               if isinstance(value, Graph) else repr(value) == repr(b[key])
               for key, value in a.items())


def _bits(x: Constant) -> tuple:
    """What tells constants apart: NaN equals itself, 0.0 and -0.0 differ, a fill is no array."""
    if isinstance(x.value, np.ndarray) and x.value.ndim:
        return ("array", x.value.tobytes())
    return ("fill", repr(x.value.item() if hasattr(x.value, "item") else x.value))
