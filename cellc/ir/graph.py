"""The graph: inputs, an ordered list of applies, one result; and the builder that makes one.

A Graph is closed: what it uses, it takes as input. A Node is an Input, a Constant or an Apply, is
immutable, knows its type, and is compared by identity. Sub-programs are Graphs held as attributes.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from cellc.errors import CellcError, IRFault, Loc, TypeFault, ValueFault
from cellc.ir.types import (
    Dim,
    DType,
    ScalarType,
    Shape,
    TensorType,
    Type,
    boolean,
    dtype,
    f64,
    i64,
)


class Node:
    """A typed value of a graph."""

    __slots__ = ("type", "name", "loc")
    type: Type
    name: str
    loc: Loc | None

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def ndim(self) -> int:
        return len(self.type.shape)

    @property
    def size(self):
        return self.type.size

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"

    def __bool__(self) -> bool:
        raise TypeFault(f"found a traced value ({self.type}) where Python needs a known bool",
                        "compare shapes and attributes here, or select with ops.where")

    def __iter__(self):
        raise TypeFault(f"found a traced value ({self.type}) where Python needs a known sequence")

    def __index__(self) -> int:
        raise KnownFault(self)

    __int__ = __index__

    def __float__(self) -> float:
        raise KnownFault(self)


class KnownFault(TypeFault):
    """A number is needed while compiling (a size, an axis, a range) but is only known when running.

    The driver answers by compiling for the value of the scalar argument it came from. Where it came
    from a tensor the user sees it.

    Fails:     `ops.reshape(x, (int(n.sum()), 2))`
    Corrected: `ops.reshape(x, (n, 2))` with `n` an int argument
    """

    def __init__(self, node: Node):
        super().__init__(f"found a traced value ({node.type}) where a number known while compiling "
                         "is needed (a size, an axis, an index into a tuple)",
                         "pass it as a Python int, or take it from a shape")
        self.node = node


class Input(Node):
    """A value that the graph is given."""

    __slots__ = ()

    def __init__(self, type: Type, name: str, loc: Loc | None = None):
        self.type, self.name, self.loc = type, name, loc


class Constant(Node):
    """A literal: a scalar value; for a tensor type one value that fills it, or an ndarray."""

    __slots__ = ("value",)

    def __init__(self, type: Type, value):
        self.type, self.value, self.name, self.loc = type, value, "const", None

    @property
    def is_fill(self) -> bool:
        """One value in all places (always so for scalars)."""
        return not isinstance(self.value, np.ndarray)

    def __repr__(self) -> str:
        return f"{self.value!r}: {self.type}"


class Apply(Node):
    """A primitive applied to operands; `attrs` are its static parameters."""

    __slots__ = ("prim", "operands", "attrs")

    def __init__(self, prim: Primitive, operands: tuple[Node, ...], attrs: dict[str, Any],
                 type: Type | None = None, name: str = "", loc: Loc | None = None):
        self.prim, self.operands, self.attrs = prim, operands, attrs
        self.name, self.loc = name, loc
        if type is None:
            try:
                type = prim.types(*[x.type for x in operands], **attrs)
            except CellcError as fault:
                raise fault.at(loc) from None
        self.type = type


def subgraphs(node: Apply) -> dict[str, Graph]:
    """The graphs that an apply holds as attributes, by attribute name."""
    return {key: value for key, value in node.attrs.items() if isinstance(value, Graph)}


def has_effect(node: Apply) -> bool:
    """Does an apply more than give its result: itself, or a graph it runs?"""
    if node.prim.effect:
        return True
    graphs = [value for value in node.attrs.values() if isinstance(value, Graph)]
    return bool(graphs) and any(g.has_effects for g in graphs)


class Graph:
    """A closed program: `name`, `inputs`, `body` (applies in order), `result` (a Node).

    Several results are one `tuple` apply at the end. A graph that calls itself is declared first,
    with the type of its result, and defined once, when its body is there.
    """

    __slots__ = ("name", "inputs", "body", "result", "type", "_effects", "_holders", "__weakref__")
    type: Type

    def __init__(self, name: str, inputs: Iterable[Input], body: Iterable[Apply], result: Node):
        self.name, self.inputs = name, tuple(inputs)
        self.define(body, result)

    @staticmethod
    def declare(name: str, inputs: Iterable[Input], type: Type) -> Graph:
        """A graph without a body as yet: a `call` of it can be built."""
        graph = Graph.__new__(Graph)
        graph.name, graph.inputs, graph.type = name, tuple(inputs), type
        graph.body, graph.result, graph._effects, graph._holders = (), None, None, ()
        return graph

    def define(self, body: Iterable[Apply], result: Node) -> Graph:
        """Give a declared graph its body; returns it."""
        self.body, self.result, self.type = tuple(body), result, result.type
        self._effects = self._holders = None
        return self

    @property
    def holders(self) -> tuple[Apply, ...]:
        """The applies that hold graphs: calls, branches, loops, groups."""
        if self._holders is None:
            self._holders = tuple(dict.fromkeys(
                [node for node in self.body for value in node.attrs.values()
                 if isinstance(value, Graph)]))
        return self._holders

    @property
    def has_effects(self) -> bool:
        """Does running it do more than give its result?"""
        if self._effects is None:
            self._effects = False           # while it is found out, for a graph that calls itself
            self._effects = any(map(has_effect, self.body))
        return self._effects

    @property
    def results(self) -> tuple[Node, ...]:
        """The result's parts where it is a `tuple` apply, else the result alone."""
        if isinstance(self.result, Apply) and self.result.prim.name == "tuple":
            return self.result.operands
        return (self.result,)

    def __repr__(self) -> str:
        from cellc.ir.text import print_graph

        return print_graph(self)

    def reachable(self) -> list[Graph]:
        """This graph and every graph it uses, inner ones first, each once."""
        found: dict[Graph, None] = {}
        open_: set[Graph] = set()           # those being visited: a graph may call itself

        def visit(graph: Graph) -> None:
            if graph not in found and graph not in open_:
                open_.add(graph)
                for node in graph.holders:
                    for inner in subgraphs(node).values():
                        visit(inner)
                found[graph] = None

        visit(self)
        return list(found)


def calling_themselves(graphs: Iterable[Graph]) -> set[int]:
    """The ids of those graphs that are run while they run, through whatever graphs between."""
    inner = {id(g): list(dict.fromkeys(h for node in g.holders for h in subgraphs(node).values()))
             for g in graphs}
    found = set()
    for start in inner:
        seen, todo = set(), list(inner[start])
        while todo and start not in seen:
            graph = todo.pop()
            if id(graph) not in seen:
                seen.add(id(graph))
                todo.extend(inner.get(id(graph), ()))
        if start in seen:
            found.add(start)
    return found


def once(function: Callable[[Graph], Any]) -> Callable[[Graph], Any]:
    """A function of a graph alone, computed once for each: graphs do not change."""
    known: weakref.WeakKeyDictionary[Graph, Any] = weakref.WeakKeyDictionary()

    @functools.wraps(function)
    def remembering(graph: Graph):
        if graph not in known:
            known[graph] = function(graph)
        return known[graph]

    return remembering


class Primitive:
    """One operation of the IR: everything known about it, said once.

    name      what the text form calls it
    operands  their names, in order ("x y"); a leading * takes any number
    doc       one sentence
    types     (*operand types, **attrs) -> result type; raises TypeFault or ShapeFault
    eval      (*arrays, **attrs) -> array: the meaning, in NumPy; None where the interpreter has it
    vjp       (g, y, *operands, **attrs) -> one cotangent or None per operand, built of primitives;
              None where the result is never differentiable
    jvp       (tangents, y, *operands, **attrs) -> the tangent of y; a tangent of None is zero;
              None where `vjp` is
    batch     (n, lanes, *operands, **attrs) -> n applies at once (ir/prims/rules.py); None for
              control and for what has no operands
    scalar    elementwise: (b, *elements, **attrs) -> element, over the scalar ops of a back end
    reduce    reductions: the scalar op that combines two elements, and its neutral element
    kind      elementwise | reduce | view | kernel | control: how it is lowered
    effect    does it more than give its result: it stays, once, in its place among the effects
    samples   () -> list of (operands, attrs) for the generated tests
    tolerance relative, by dtype name, with the reason in the family's file
    """

    def __init__(self, name: str, operands: str, *, doc: str, kind: str, types: Callable,
                 eval: Callable | None, vjp: Callable | None, jvp: Callable | None = None,
                 batch: Callable | None = None, scalar: Callable | None = None,
                 reduce: tuple | None = None, samples: Callable | None = None,
                 tolerance: dict | None = None, effect: bool = False):
        self.name, self.operands, self.doc, self.kind = name, operands.split(), doc, kind
        self.types, self.eval, self.scalar, self.reduce = types, eval, scalar, reduce
        self.vjp, self.jvp, self.batch, self.effect = vjp, jvp, batch, effect
        self.samples, self.tolerance = samples, tolerance or {}

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self):
        return (PRIMITIVES.__getitem__, (self.name,))

    def __call__(self, *operands, **attrs):
        """Append to the graph being built; with none being built, evaluate at once (eager mode)."""
        builder = current_builder()
        if builder is not None:
            return builder.apply(self, operands, attrs)
        return _eager[0](self, operands, attrs)


PRIMITIVES: dict[str, Primitive] = {}


def primitive(name: str, operands: str, **fields) -> Primitive:
    """Define a primitive and enter it into the table."""
    if name in PRIMITIVES:
        raise IRFault(f"primitive {name} is defined twice")
    PRIMITIVES[name] = Primitive(name, operands, **fields)
    return PRIMITIVES[name]


def _no_eager(prim, operands, attrs):
    raise IRFault(f"{prim.name} was applied outside a graph and no eager evaluator is set")


_eager: list[Callable] = [_no_eager]


def set_eager(evaluate: Callable) -> None:
    """Tell primitives what to do outside a graph: `evaluate(prim, operands, attrs)`."""
    _eager[0] = evaluate


# -- building ----------------------------------------------------------------------------------

class _Active(threading.local):
    def __init__(self):
        self.stack: list[Builder] = []


_active = _Active()
building: list[None] = []       # an item for each builder of any thread: see kernels/front.py


def current_builder() -> Builder | None:
    """The innermost builder of this thread, or None in eager mode."""
    stack = _active.stack
    return stack[-1] if stack else None


class Builder:
    """A graph under construction, and a context in which primitives append to it.

        with Builder("f") as b:
            x = b.input(TensorType(f32, (3,)), "x")
            graph = b.finish(mul(x, x))

    An operand from outside (a node of an enclosing builder, a Parameter, a constant Tensor) is
    *captured*: it becomes one more input, and `captured` lists outside object and input in order,
    so that whoever closes the graph passes the objects as further operands.
    """

    def __init__(self, name: str, inputs: Iterable[Input] = ()):
        self.name = name
        self.inputs: list[Input] = list(inputs)
        self.body: list[Apply] = []
        self.captured: dict[int, tuple[Any, Input]] = {}
        self.loc: Loc | None = None           # given to the applies that follow
        self._members: set[int] = {id(x) for x in self.inputs}

    def __enter__(self) -> Builder:
        building.append(None)
        _active.stack.append(self)
        return self

    def __exit__(self, *_) -> None:
        _active.stack.pop()
        building.pop()

    def input(self, type: Type, name: str, loc: Loc | None = None) -> Input:
        node = Input(type, name, loc)
        self.inputs.append(node)
        self._members.add(id(node))
        return node

    def owns(self, node: Node) -> bool:
        return id(node) in self._members

    def lift(self, value) -> Node:
        """The node that stands for `value` in this graph."""
        if isinstance(value, Node):
            if isinstance(value, Constant) or id(value) in self._members:
                return value
        elif isinstance(value, (bool, int, float)):
            return scalar(value)
        elif isinstance(value, np.generic):
            return Constant(TensorType(dtype(value.dtype)), value.item())
        return self.capture(value)

    def capture(self, value) -> Node:
        """The input standing for an object from outside; the same object gives the same input."""
        found = self.captured.get(id(value))
        if found is None:
            type = getattr(value, "type", None)
            if not isinstance(type, Type):
                if isinstance(value, Dim):
                    int(value)          # what is known for each size alone, and refused
                raise TypeFault(f"found {_describe(value)} where a tensor or number was expected")
            found = (value, self.input(type, getattr(value, "name", None) or "captured"))
            self.captured[id(value)] = found
        return found[1]

    def apply(self, prim: Primitive, operands: Iterable, attrs: dict[str, Any],
              name: str = "") -> Apply:
        members = self._members
        nodes = tuple([x if id(x) in members else self.lift(x) for x in operands])
        return self.append(Apply(prim, nodes, attrs, None, name, self.loc))

    def append(self, node: Apply) -> Apply:
        """Append an apply whose operands are already nodes of this graph."""
        self.body.append(node)
        self._members.add(id(node))
        return node

    def finish(self, result) -> Graph:
        return Graph(self.name, self.inputs, self.body, self.lift(result))


def scalar(value: bool | int | float) -> Constant:
    """A Python number as a constant of scalar type."""
    kind = boolean if isinstance(value, bool) else i64 if isinstance(value, int) else f64
    return Constant(ScalarType(kind), value)


def fill(type: Type, value) -> Constant:
    """The constant of `type` that has `value` in every place; ints wrap as those of C do."""
    kind = type.dtype.kind
    if isinstance(value, int) and abs(value) >> (1023 if kind == "f" else 64):
        raise ValueFault(f"an int of {value.bit_length()} bits does not fit {type.dtype}",
                         "use a float" if kind != "f" else "")
    return Constant(type, float(value) if kind == "f" else bool(value) if kind == "b"
                    else int(value))


def _describe(value) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 60 else text[:57] + '...'}"
