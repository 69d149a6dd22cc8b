"""Transformed functions at once, in eager mode: on the tape of `cellc/eager.py`.

Reverse:  the function runs once with its arguments as leaves of the tape, `pullback` walks back.
Forward:  the pullback is linear in its cotangent u; so it runs with recording on, at u = 0, and the
          pullback of that, from u, is the forward derivative. Once recorded it can be repeated.
Lanes:    one after another. Each is an ordinary run of the function, which may look at its values
          and branch on them; graph mode computes all lanes at once.

All of these may run inside one another: an argument that is on a tape already stays linked to it.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

from cellc.errors import TypeFault, ValueFault
from cellc.ir import arith
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import shape as s
from cellc.ir.types import ScalarType
from cellc.parser import transformed
from cellc.parser.structures import along, leaves_of, pairs, rebuilt
from cellc.parser.values import Slot


@contextmanager
def _deeper(weights=()):
    """Within the block one more function is being differentiated, by these Parameters too."""
    from cellc import eager

    frozen = [w for w in weights if not w.requires_grad and w.dtype.is_float]
    eager.differentiating.append(None)
    eager.state.depth += 1
    try:
        for w in frozen:
            w.requires_grad = True
        with eager.enable_grad():
            yield
    finally:
        eager.state.depth -= 1
        eager.differentiating.pop()
        for w in frozen:
            w.requires_grad = False


def _is_nested(leaves) -> bool:
    """Whether what is computed now is itself being differentiated."""
    from cellc import eager

    return eager.state.recording and (
        eager.state.depth > 0 or any(outer for outer, _ in leaves))


def refuse(record, args: tuple) -> None:
    """ValueFault where what a compiled linear function is called with is being recorded."""
    from cellc import eager

    found = [x for x in leaves_of(args) if getattr(x, "requires_grad", False)]
    if found and eager.is_taping(tuple(found)):
        raise ValueFault(f"an eager gradient through the {record.__name__}, which a compiled call "
                         "returned", "compile the whole function, or nothing of it")


# -- gradients -------------------------------------------------------------------------------------


def gradient(record, args: tuple, kwargs: dict):
    """A call of a GradFunction."""
    from cellc import eager

    args, sens = record.split(args)
    at = record.positions(args)
    leaves: list = []
    marked = list(args)
    for i in at:
        marked[i] = rebuilt(args[i], lambda v: _mark(v, leaves, bool(record.get_all)))
    nested = _is_nested(leaves)
    weights = record.weight_list
    with _deeper(weights):
        result = record.fn(*marked, **kwargs)
        outputs, cotangents = _outputs(record, result, sens)
        wanted = [new for _, new in leaves] + list(weights)
        found = eager.pullback(outputs, cotangents, wanted, create_graph=nested)
    found = [eager.zeros_like(x) if g is None else g for g, x in zip(found, wanted, strict=True)]
    if not nested:
        result = rebuilt(result, _off_tape)
    rest = iter(found)
    inputs = tuple(rebuilt(args[i], lambda v: next(rest)) for i in at)
    return record.arrange(result, inputs, tuple(rest))


def _mark(x, leaves: list, integers: bool = False):
    """A stand-in for an argument, on the tape and linked to it if it is on the tape itself.

    Appends (whether it is, the stand-in) to `leaves`. Integer tensors are refused unless allowed:
    GradOperation(get_all=True) gives zeros for them.
    """
    from cellc.eager import filled, state
    from cellc.tensor import Tensor, wrap

    t = arith.type_of(x)
    if not t.dtype.is_float and (isinstance(t, ScalarType) or not integers):
        raise TypeFault(f"a gradient by an argument of type {t}, expected a float",
                        "pass a float, or differentiate by another argument")
    own = x if isinstance(x, Tensor) else None
    linked = own is not None and own.requires_grad and state.recording
    if linked:
        new = e.cast(own, dtype=t.dtype)
    else:
        array = own._array if own is not None else (
            filled(t, x) if isinstance(t, ScalarType) else Tensor(x)._array)
        new = wrap(array, t)
        new.requires_grad = t.dtype.is_float
    leaves.append((linked, new))
    return new


def _outputs(record, result, sens):
    """What is differentiated, and its cotangents: ones, or sens."""
    from cellc.eager import ones_like

    outputs = leaves_of(transformed.main_part(record, result))
    for y in outputs:
        if not arith.type_of(y).dtype.is_float:
            raise TypeFault(f"the gradient of a result of type {arith.type_of(y)}",
                            "return a float; other results can be passed on with has_aux=True")
    if sens is None:
        return outputs, [ones_like(y) for y in outputs]
    given = leaves_of(sens)
    if len(given) != len(outputs):
        raise TypeFault(f"sens has {len(given)} parts for {len(outputs)} results")
    return outputs, [_conformed(g, y) for g, y in zip(given, outputs, strict=True)]


def _conformed(g, x):
    """A tangent or cotangent as a value of the type of x."""
    from cellc.tensor import Tensor

    return arith.conform(Tensor(g) if isinstance(g, (np.ndarray, np.generic)) else g,
                         arith.type_of(x))


def _off_tape(x):
    """A result without its record."""
    from cellc.eager import to_value
    from cellc.parameter import Parameter
    from cellc.tensor import Tensor, wrap

    if isinstance(x, Parameter) or not isinstance(x, Tensor) or not x.requires_grad:
        return x
    return to_value(wrap(x._array, x.type))


# -- jvp, vjp, linearize ---------------------------------------------------------------------------


class _Linear:
    """The linear function that `vjp` or `linearize` returns: see transformed.LinearProgram."""

    def __init__(self, what: str, given, matters: list[bool], function):
        self.what, self.given, self.matters, self.function = what, given, matters, function

    def __call__(self, *vectors):
        parts = transformed.vectors_of(self.given, self.what, vectors)
        return self.function([
            _conformed(v, x) if matters and v is not None else None
            for (x, v), matters in zip(parts, self.matters, strict=True)])


class _Run:
    """One run of a function with some leaves of its arguments on the tape."""

    def __init__(self, record, args: tuple, kwargs: dict, chosen: list[bool], weights=()):
        leaves: list = []
        order = iter(chosen)
        marked = rebuilt(args, lambda x: _mark(x, leaves) if next(order) else x)
        self.nested = _is_nested(leaves)
        with _deeper(weights):
            self.result = record.fn(*marked, **kwargs)
        self.part = transformed.main_part(record, self.result)
        self.outputs = leaves_of(self.part)
        self.leaves = [new for _, new in leaves]
        self.weights = list(weights)

    def value(self):
        return self.result if self.nested else rebuilt(self.result, _off_tape)

    def pull(self, cotangents: list) -> list:
        """Cotangents of the leaves and weights, from those of the outputs; None is zero."""
        from cellc import eager

        given = [(y, g) for y, g in zip(self.outputs, cotangents, strict=True) if g is not None]
        with _weights_on_tape(self.weights):
            return eager.pullback([y for y, _ in given], [g for _, g in given],
                                  [*self.leaves, *self.weights], create_graph=self._again(given))

    def forward(self):
        """The function from tangents of the leaves to those of the outputs; None is zero."""
        from cellc import eager
        from cellc.tensor import Tensor, wrap

        live = [i for i, y in enumerate(self.outputs) if isinstance(y, Tensor) and y.requires_grad]
        seeds = []
        for i in live:
            t = self.outputs[i].type
            seeds.append(wrap(eager.filled(t, 0), t))
            seeds[-1].requires_grad = True
        with _deeper():
            back = eager.pullback([self.outputs[i] for i in live], seeds, self.leaves,
                                  create_graph=True)

        def push(tangents: list) -> list:
            given = [(g, dx) for g, dx in zip(back, tangents, strict=True)
                     if g is not None and dx is not None]
            found = eager.pullback([g for g, _ in given], [dx for _, dx in given], seeds,
                                   create_graph=self._again(given))
            by_output = dict(zip(live, found, strict=True))
            return [by_output.get(i) for i in range(len(self.outputs))]

        return push

    def _again(self, given) -> bool:
        """Whether the walk must be recorded."""
        from cellc import eager

        return eager.state.recording and (self.nested or eager.state.depth > 0 or any(
            getattr(v, "requires_grad", False) for _, v in given))


@contextmanager
def _weights_on_tape(weights):
    """Frozen Parameters that were differentiated by count as leaves once more."""
    frozen = [w for w in weights if not w.requires_grad]
    for w in frozen:
        w.requires_grad = True
    try:
        yield
    finally:
        for w in frozen:
            w.requires_grad = False


def _derivative(structure, found: list):
    """The derivatives of the leaves of a structure in their places, zeros for None."""
    from cellc.eager import zeros_like

    order = iter(found)

    def part(x):
        dx = next(order)
        if dx is not None:
            return dx
        return zeros_like(x) if _is_value(x) and type(x) is not bool else None

    return rebuilt(structure, part)


def _is_value(x) -> bool:
    """A tensor, array or number, rather than a leaf of another kind."""
    return isinstance(x, (bool, int, float, np.ndarray, np.generic)) or hasattr(x, "_array")


def _is_float(x) -> bool:
    return _is_value(x) and arith.type_of(x).dtype.is_float


def jvp(record, args: tuple, kwargs: dict):
    """A call of a JvpFunction."""
    primals, tangents = record.arguments(args)
    transformed.check_tangents(primals, tangents)
    along = [dx for _, dx in pairs(primals, tangents, "the tangent")]
    run = _Run(record, primals, kwargs, [dx is not None for dx in along])
    given = [_conformed(dx, x) for dx, x in
             zip([dx for dx in along if dx is not None], run.leaves, strict=True)]
    return transformed.apart(record, run.value(), _derivative(run.part, run.forward()(given)))


def linear(record, args: tuple, kwargs: dict):
    """A call of a VjpFunction or a LinearizeFunction."""
    primals = record.arguments(args)
    at = record.positions(primals)
    chosen = [own in at and (_is_float(x) or record.argnums is not None)
              for own, primal in enumerate(primals) for x in leaves_of(primal)]
    run = _Run(record, primals, kwargs, chosen, record.weight_list)
    inputs = tuple(primals[i] for i in at)
    matters = [_is_float(x) for x in leaves_of(inputs)]

    def spread(found):
        order = iter(found)
        return [next(order) if has else None for has in matters]

    if record.kind == "linearize":
        push = run.forward()
        function = _Linear("tangent", inputs, matters, lambda given: _derivative(
            run.part, push([g for g, has in zip(given, matters, strict=True) if has])))
        return transformed.apart(record, run.value(), function)

    def back(cotangents):
        found = run.pull(cotangents)
        n = len(run.leaves)
        of_inputs = _derivative(inputs, spread(found[:n]))
        if record.weights is None:
            return of_inputs
        of_weights = _derivative(tuple(run.weights), found[n:])
        return of_inputs, of_weights if isinstance(record.weights, tuple) else of_weights[0]

    function = _Linear("cotangent", run.part, [_is_float(y) for y in run.outputs], back)
    return transformed.apart(record, run.value(), function)


# -- vmap ------------------------------------------------------------------------------------------


def vmap(record, args: tuple, kwargs: dict):
    """A call of a VmapFunction, lane after lane."""
    from cellc.parser import lanes
    from cellc.tensor import Tensor

    types: list = []

    def slot(x):
        if not isinstance(x, (Tensor, np.ndarray)):
            return x
        types.append(arith.type_of(x))
        return Slot(len(types) - 1)

    axes = lanes.lane_axes(record.in_axes, rebuilt((args, kwargs), slot), types)
    n = lanes.lane_count(axes, types, record.axis_size)
    if n == 0:
        raise ValueFault("vmap over 0 lanes in eager mode, where no lane tells what it would give",
                         "compile it: graph mode, or cellc.jit")

    def lane(i: int):
        count = iter(range(len(types)))

        def part(x):
            axis = axes.get(next(count)) if isinstance(x, (Tensor, np.ndarray)) else None
            return x if axis is None else _one(x if isinstance(x, Tensor) else Tensor(x), axis, i)

        return rebuilt((args, kwargs), part)

    found = []
    with record.random_lanes(n) as begin:
        for i in range(n):
            own_args, own_kwargs = lane(i)
            begin(i)
            found.append(record.fn(*own_args, **own_kwargs))
    return _beside(record.out_axes, found)


def _one(x, axis: int, i: int):
    """Lane i of a tensor."""
    shape = x.shape
    row = s.slice(x, starts=tuple(i if a == axis else 0 for a in range(len(shape))),
                  stops=tuple(i + 1 if a == axis else size for a, size in enumerate(shape)),
                  steps=(1,) * len(shape))
    return s.reshape(row, shape=(*shape[:axis], *shape[axis + 1:]))


def _beside(spec, found: list):
    """The lanes' results as one, the lanes along the axes that out_axes gives."""
    from cellc.ops.common import tensor_of
    from cellc.ops.shape import stack
    from cellc.parser import lanes

    columns = list(zip(*map(leaves_of, found), strict=True))
    joined = []
    for column, axis in zip(columns, along(spec, found[0], "out_axes"), strict=True):
        if not _is_value(column[0]):
            joined.append(column[0])
        elif axis is None:
            if any(not np.array_equal(_array(x), _array(column[0]), equal_nan=_is_float(x))
                   for x in column):
                raise TypeFault("out_axes None for a result that differs between the lanes",
                                "an int: where its lanes go")
            joined.append(column[0])
        else:
            ys = [tensor_of(x) for x in column]
            to = lanes.checked_axis("out_axes", axis, len(ys[0].shape) + 1, ys[0].type)
            joined.append(stack(ys, to))
    order = iter(joined)
    return rebuilt(found[0], lambda _: next(order))


def _array(x):
    return x.asnumpy() if hasattr(x, "_array") else np.asarray(x)
