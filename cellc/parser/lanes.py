"""Calls of `vmap(f)`: f becomes a closed graph on one lane, `passes.vmap` a graph on all of them.

What f captures all lanes share. The state of the random numbers is an exception: each lane draws
from a state of its own, so that lanes are independent.
"""

from __future__ import annotations

from cellc.errors import ShapeFault, SyntaxFault, TypeFault
from cellc.ir import arith
from cellc.ir.graph import Input, Node, fill
from cellc.ir.prims import shape
from cellc.ir.prims.rules import lanes_first, spread
from cellc.ir.types import TensorType
from cellc.parser import cells
from cellc.parser.structures import along, leaves_of, rebuilt
from cellc.parser.transforms import name_of
from cellc.parser.values import Slot, describe, flatten, slots_in, unflatten
from cellc.passes.vmap import batch_graph


def call(session, record, args: list, kwargs: dict):
    """The value of a vmapped function on these arguments."""
    leaves: list[Node] = []
    structure = flatten((tuple(args), kwargs), leaves, session.lift)
    axes = lane_axes(record.in_axes, structure, [x.type for x in leaves])
    n = lane_count(axes, [x.type for x in leaves], record.axis_size)
    one = [Input(_without(x.type, axes.get(i)), x.name or f"x{i}") for i, x in enumerate(leaves)]
    closed = cells.close(session, name_of(record.fn), structure, one,
                         lambda given: session.call(record.fn, *given))
    _refuse_effects(record, closed)
    results, lanes = [], ()
    if closed.graph is not None:
        own = [i in axes for i in range(len(leaves))]
        operands = [lanes_first(x, axes[i]) if i in axes else x for i, x in enumerate(leaves)]
        for x in closed.captured:
            own.append(x is record.random_state)
            operands.append(record.random_states(n) if own[-1] else session.lift(x))
        made = batch_graph(closed.graph, tuple(own), n)
        results, lanes = session.append_call(made.graph, operands), made.results
    return _placed(session, record.out_axes, closed.structure, results, lanes, n)


def _without(type, axis):
    """The type of one lane."""
    return type if axis is None else type.with_shape((*type.shape[:axis], *type.shape[axis + 1:]))


def lane_axes(spec, structure, types) -> dict[int, int]:
    """Which traced leaves have lanes, and along which axis; arguments by name along axis 0."""
    args, kwargs = structure
    if isinstance(spec, list):
        spec = tuple(spec)
    entries = along(spec, args, "in_axes") + [0] * len(leaves_of(kwargs))
    found = {}
    for leaf, axis in zip(leaves_of((args, kwargs)), entries, strict=True):
        if axis is None:
            continue
        type = types[leaf.index] if isinstance(leaf, Slot) else None
        if not isinstance(type, TensorType):
            if type is not None or isinstance(leaf, (bool, int, float)):
                raise TypeFault(f"in_axes {axis} for {describe(leaf) if type is None else type}, "
                                "a number, which has no axes", "None: all lanes share it")
            continue
        found[leaf.index] = checked_axis("in_axes", axis, type.ndim, type)
    return found


def checked_axis(what: str, axis: int, ndim: int, type) -> int:
    """The axis counted from the left."""
    if not -ndim <= axis < ndim:
        raise ShapeFault(f"{what} {axis} for {type}",
                         f"one of {-ndim} to {ndim - 1}" if ndim else "None: it has no axes")
    return axis % ndim


def lane_count(axes: dict[int, int], types, axis_size):
    """How many lanes there are: all arguments with lanes say the same."""
    sizes = [(types[i].shape[axis], axis, types[i]) for i, axis in axes.items()]
    if axis_size is not None:
        sizes.insert(0, (axis_size, None, None))
    if not sizes:
        raise TypeFault("vmap of a call in which no argument has lanes: in_axes is None for all",
                        "give one argument an axis, or axis_size")
    n = sizes[0][0]
    for size, axis, type in sizes[1:]:
        if size != n:
            raise ShapeFault(f"vmap over {n} lanes, and over {size}: axis {axis} of {type}",
                             "give all arguments with lanes the same size there")
    return n


def _refuse_effects(record, closed: cells.Closed) -> None:
    name = name_of(record.fn)
    for parameter, _ in closed.assigned:
        if parameter is not record.random_state:
            raise SyntaxFault(f"{name} is vmapped and assigns the Parameter {parameter.name}, of "
                              "which there is one for all lanes",
                              "return the new value, and assign it outside")


def _placed(session, spec, structure, results, lanes, n):
    """The value, its lanes along the axes that out_axes gives."""
    def put(x, axis: int | None, has_lanes: bool):
        if axis is None:
            if has_lanes:
                raise TypeFault("out_axes None for a result that differs between the lanes",
                                "an int: where its lanes go")
            return x
        x = x if has_lanes else spread(n, session.lift(x))
        to = checked_axis("out_axes", axis, x.type.ndim, x.type)
        order = list(range(1, x.type.ndim))
        order.insert(to, 0)
        return x if to == 0 else shape.transpose(x, perm=tuple(order))

    entries = along(spec, structure, "out_axes")
    placed, known = {}, []
    for leaf, axis in zip(leaves_of(structure), entries, strict=True):
        if isinstance(leaf, Slot):
            placed[leaf.index] = put(results[leaf.index], axis, lanes[leaf.index])
            known.append(leaf)
        elif slots_in(leaf):
            raise TypeFault(f"a function that is vmapped returns {describe(leaf)}",
                            "call it inside, or make it outside of vmap")
        elif isinstance(leaf, (bool, int, float)) and axis is not None:
            known.append(fill(TensorType(arith.type_of(leaf).dtype, (n,)), leaf))
        else:
            known.append(leaf)
    rest = iter(known)
    return unflatten(rebuilt(structure, lambda _: next(rest)), placed, made=session.owned.add)
