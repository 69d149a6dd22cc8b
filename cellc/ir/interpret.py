"""The meaning of a graph: each apply's `eval` on NumPy arrays, in order, with no cleverness.

Every compiled result is compared with this one. Symbolic sizes are bound by the arrays given.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cellc.errors import CellcError, IRFault, ShapeFault, TypeFault
from cellc.ir import numerics as num
from cellc.ir.graph import Apply, Constant, Graph, Node
from cellc.ir.prims.control import state_size
from cellc.ir.types import Dim, ScalarType, TapeType, TensorType, TupleType, Type


def interpret(graph: Graph, *arrays, dims: dict[str, int] | None = None,
              watch: Callable | None = None):
    """The graph's result on these arrays: an array, or a tuple of them for several results.

    Arrays have just the dtype and shape of the inputs; a Python number may stand for a scalar.
    `dims` gives sizes by name that no input tells. `watch(node, operands, result)` sees each apply
    of every graph that is run, and what it returns is taken for the result.
    """
    if len(arrays) != len(graph.inputs):
        raise TypeFault(f"{graph.name}: found {len(arrays)} arguments, expected "
                        f"{len(graph.inputs)}")
    dims = dict(dims or {})
    values: dict[Node, object] = {}
    for x, given in zip(graph.inputs, arrays, strict=True):
        values[x] = _argument(x, given, dims)

    def value(x: Node):
        return constant_array(x, dims) if isinstance(x, Constant) else values[x]

    for node in graph.body:
        try:
            values[node] = _apply(node, [value(x) for x in node.operands], dims, watch)
        except CellcError as fault:
            raise fault.at(node.loc) from None
    return value(graph.result)


def _apply(node: Apply, operands: list, dims: dict[str, int], watch: Callable | None):
    name, attrs = node.prim.name, node.attrs
    if name in ("call", "fused"):
        return interpret(attrs["graph"], *operands, dims=dims, watch=watch)
    if name == "cond":
        taken = attrs["then"] if operands[0] else attrs["orelse"]
        return interpret(taken, *operands[1:], dims=dims, watch=watch)
    if name == "while":
        return _loop(node, operands, dims, watch)
    if name == "set_size":
        dims[attrs["dim"].name] = int(operands[0])
        return ()
    result = node.prim.eval(*operands, **{key: resolve(v, dims) for key, v in attrs.items()})
    _expect(node, result, resolve(node.type, dims))
    return watch(node, operands, result) if watch else result


def _loop(node: Apply, operands: list, dims: dict[str, int], watch: Callable | None):
    """Rounds of a `while` until its test says no."""
    n = state_size(node)
    state, rest = tuple(operands[:n]), operands[n:]
    while interpret(node.attrs["test"], *state, *rest, dims=dims):
        found = interpret(node.attrs["body"], *state, *rest, dims=dims, watch=watch)
        state = found if isinstance(node.type, TupleType) else (found,)
    return state if isinstance(node.type, TupleType) else state[0]


def _expect(node: Apply, result, type: Type) -> None:
    """The meaning gives what the type rule says."""
    if isinstance(type, (TupleType, TapeType)):
        return
    found = (num.dtype_of(result), np.shape(result))
    if found != (type.dtype, type.shape):
        raise IRFault(f"{node.prim.name} gave {found[0]}{list(found[1])}, its type is {type}")


def constant_array(x: Constant, dims: dict[str, int]) -> np.ndarray:
    """The array of a constant; one that fills its type may be read-only."""
    if isinstance(x.value, np.ndarray):
        return x.value
    return num.full(resolve(x.type, dims).shape, x.value, x.type.dtype)


def resolve(value, dims: dict[str, int]):
    """An attribute or type with sizes for its symbolic dimensions."""
    if isinstance(value, Dim):
        if value.name not in dims:
            raise IRFault(f"found dimension {value.name}, whose size no input tells")
        return dims[value.name] * value.coef
    if isinstance(value, tuple):
        return tuple(resolve(v, dims) for v in value)
    if isinstance(value, TensorType):
        return value.with_shape(resolve(value.shape, dims))
    if isinstance(value, TupleType):
        return TupleType(resolve(value.items, dims))
    return value


# -- arguments ---------------------------------------------------------------------------------

def _argument(x: Node, given, dims: dict[str, int]):
    """The argument as an array of the input's type; binds the dimensions it tells."""
    if isinstance(x.type, (TupleType, TapeType)):
        return given
    if isinstance(x.type, ScalarType) and isinstance(given, (bool, int, float)):
        given = np.asarray(given, x.type.dtype.numpy)
    given = np.asarray(given)
    if num.dtype_of(given) is not x.type.dtype:
        raise TypeFault(f"found {num.dtype_of(given)} for {x.name}, expected {x.type}")
    if given.ndim != x.ndim or not all(map(_binds, x.shape, given.shape, [dims] * x.ndim)):
        raise ShapeFault(f"found shape {list(given.shape)} for {x.name}, expected {x.type}")
    return given


def _binds(size, actual: int, dims: dict[str, int]) -> bool:
    """Is `actual` the size, given the dimensions bound so far; binds one that is not yet."""
    if not isinstance(size, Dim):
        return size == actual
    if actual % size.coef:
        return False
    return dims.setdefault(size.name, actual // size.coef) * size.coef == actual
