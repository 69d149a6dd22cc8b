"""Functions made of functions: `jvp`, `vjp`, `linearize`, `jacfwd`, `jacrev`, `hessian`, `vmap`.

As in JAX, and with MindSpore's ways of calling them where those are not JAX's. All nest in one
another and in `grad`, in any order, in graph mode, in eager mode, and inside compiled functions.
Arguments and results may be tuples, lists and dicts of tensors and numbers, nested.

A derivative of what has none (an integer, a result that does not depend on the argument) is zero;
of what is no value (None, a string) it is None.
"""

from __future__ import annotations

from contextlib import contextmanager

from cellc.errors import TypeFault
from cellc.ir import arith
from cellc.ir.graph import fill
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import shape as s
from cellc.ir.types import ScalarType, i64, u64
from cellc.ops import random, tape
from cellc.ops.composite import UNSET, listed, position_of, weights_of
from cellc.parser.structures import leaves_of, rebuilt
from cellc.parser.transformed import LinearFunction, Transform


def _check(fn, what: str):
    if not callable(fn):
        raise TypeFault(f"{what} of {type(fn).__name__}, expected a function or a cell")
    return fn


def _name(fn) -> str:
    return getattr(fn, "__name__", type(fn).__name__)


def _arguments(given) -> tuple:
    """Several arguments in a tuple or list; anything else is one argument."""
    return tuple(given) if type(given) in (tuple, list) else (given,)


class JvpFunction(Transform):
    """Called with (primals, tangents): what `jvp` returns."""

    kind = "jvp"

    def __init__(self, fn, has_aux: bool):
        self.fn, self.has_aux = _check(fn, "jvp"), bool(has_aux)
        self.options, self.__name__ = (self.has_aux,), f"jvp of {_name(fn)}"

    def arguments(self, args):
        primals, tangents = args
        if type(primals) not in (tuple, list):
            tangents = (tangents,)
        return _arguments(primals), tangents

    def eager(self, args, kwargs):
        return tape.jvp(self, args, kwargs)


class VjpFunction(Transform):
    """Called with primals: what `vjp` returns. argnums: by which of them; None for all floats."""

    kind = "vjp"

    def __init__(self, fn, has_aux: bool, weights=None, argnums: tuple | None = None):
        self.fn, self.has_aux = _check(fn, self.kind), bool(has_aux)
        self.weights, self.argnums = weights_of(weights), argnums
        self.weight_list = listed(self.weights)
        self.options = (self.has_aux, argnums, tuple(map(id, self.weight_list)),
                        type(self.weights))
        self.__name__ = f"{self.kind} of {_name(fn)}"

    def arguments(self, args) -> tuple:
        return tuple(args)

    def positions(self, args: tuple) -> tuple[int, ...]:
        if self.argnums is None:
            return tuple(range(len(args)))
        for i in self.argnums:
            if not -len(args) <= i < len(args):
                raise TypeFault(f"a derivative by argument {i} of a call with {len(args)} "
                                "positional arguments", "pass what is differentiated by position")
        return tuple(i % len(args) for i in self.argnums)

    def eager(self, args, kwargs):
        return tape.linear(self, args, kwargs)


class LinearizeFunction(VjpFunction):
    """Called with primals: what `linearize` returns."""

    kind = "linearize"


class VmapFunction(Transform):
    """`vmap(fn)`."""

    kind = "vmap"
    random_state = random.state

    def __init__(self, fn, in_axes, out_axes, axis_size):
        self.fn, self.in_axes, self.out_axes = _check(fn, "vmap"), in_axes, out_axes
        self.axis_size = axis_size
        self.options = (_frozen(in_axes), _frozen(out_axes), axis_size)
        self.__name__ = f"vmap of {_name(fn)}"

    def _cellc_aside(self, *args, **kwargs):
        if not isinstance(self.fn, LinearFunction):
            return super()._cellc_aside(*args, **kwargs)
        # Its residuals as arguments: what is compiled serves all functions of one program.
        axes = self.in_axes if isinstance(self.in_axes, (tuple, list)) else (
            self.in_axes,) * len(args)
        shared = VmapFunction(self.fn.program, (None, *axes), self.out_axes, self.axis_size)
        return shared(self.fn.residuals, *args, **kwargs)

    __call__ = _cellc_aside

    def random_states(self, n):
        """A state of the random numbers for each lane, drawn from the one there is."""
        words = e.cast(random.bits((n, 2)), dtype=u64)
        low, high = (s.slice(words, starts=(0, i), stops=(n, i + 1), steps=(1, 1))
                     for i in range(2))
        seed = e.bit_or(low, e.shl(high, fill(high.type, 32)))
        return s.concat(seed, e.zero(seed), axis=1)

    @contextmanager
    def random_lanes(self, n: int):
        """Run lanes one after another: gives a function that is told which one begins.

        The state moves on only if a lane has drawn from it, as it does when compiled.
        """
        state, before = random.state, random.state.asnumpy().copy()
        states = self.random_states(n).asnumpy()
        after, drawn = state.asnumpy().copy(), [False]
        state.set_data(before)

        def begin(i: int) -> None:
            drawn[0] |= i > 0 and state.asnumpy()[1] != 0
            state.set_data(states[i])

        try:
            yield begin
            drawn[0] |= state.asnumpy()[1] != 0
        finally:
            state.set_data(after if drawn[0] else before)

    def eager(self, args, kwargs):
        return tape.vmap(self, args, kwargs)


def _frozen(axes):
    """Axes as a key."""
    if isinstance(axes, (tuple, list)):
        return (type(axes), *map(_frozen, axes))
    if isinstance(axes, dict):
        return (dict, *((key, _frozen(x)) for key, x in axes.items()))
    return axes


class JacobianFunction(Transform):
    """`jacfwd(fn)` or `jacrev(fn)`: a linear function on each vector of a basis, in lanes."""

    kind = "composed"

    def __init__(self, fn, argnums, has_aux: bool, forward: bool):
        self.fn, self.argnums = _check(fn, "the Jacobian"), argnums
        self.has_aux, self.forward = bool(has_aux), forward
        self.options = (argnums, self.has_aux, forward)
        self.__name__ = f"{'jacfwd' if forward else 'jacrev'} of {_name(fn)}"

    def composed(self, args, kwargs):
        one = not isinstance(self.argnums, tuple)
        at = (self.argnums,) if one else self.argnums
        make = LinearizeFunction if self.forward else VjpFunction
        value, linear, *aux = make(self.fn, self.has_aux, argnums=at)(*args, **kwargs)
        inputs = tuple(args[i] for i in at)
        part = value
        rows = (_forward if self.forward else _backward)(linear, inputs, part)
        found = iter(rows)
        jacobian = rebuilt(part, lambda y: _unwrapped(
            rebuilt(inputs, lambda x: next(found)), one))
        return (jacobian, *aux) if self.has_aux else jacobian

    def eager(self, args, kwargs):
        return self.composed(args, kwargs)


def _unwrapped(parts: tuple, one: bool):
    return parts[0] if one else parts


def _basis(values: list) -> list:
    """For tensors and numbers taken together as one vector: each one's part of all unit vectors."""
    types = [arith.type_of(x) for x in values]
    n = sum(t.size for t in types)
    found, start = [], 0
    for t in types:
        shape = (n, t.size)
        row, column = (s.iota(shape=shape, axis=axis, dtype=i64) for axis in range(2))
        unit = arith.equal(row, arith.add(column, start))
        found.append(s.reshape(e.cast(unit, dtype=t.dtype), shape=(n, *t.shape)))
        start = start + t.size
    return found


def _lanes_of(linear, basis: list, structure):
    """The linear function on each of the unit vectors, given as one argument of that structure."""
    order = iter(basis)
    vectors = rebuilt(structure, lambda _: next(order))
    return VmapFunction(linear, 0, 0, None)(*vectors)


def _forward(linear, inputs: tuple, part) -> list:
    """For each result and argument its part of the Jacobian, from one tangent in each lane."""
    xs, ys = leaves_of(inputs), leaves_of(part)
    columns = leaves_of(_lanes_of(linear, _basis(xs), inputs))
    found = []
    for y, lanes in zip(ys, columns, strict=True):
        shape = arith.type_of(y).shape
        start = 0
        for x in xs:
            t = arith.type_of(x)
            piece = _rows(lanes, start, start + t.size)
            piece = s.transpose(piece, perm=(*range(1, len(shape) + 1), 0))
            found.append(_number(s.reshape(piece, shape=(*shape, *t.shape)), x, y))
            start = start + t.size
    return found


def _backward(linear, inputs: tuple, part) -> list:
    """For each result and argument its part of the Jacobian, from one cotangent in each lane."""
    xs, ys = leaves_of(inputs), leaves_of(part)
    rows = leaves_of(_lanes_of(linear, _basis(ys), (part,)))
    found, start = [], 0
    for y in ys:
        t = arith.type_of(y)
        for x, lanes in zip(xs, rows, strict=True):
            piece = _rows(lanes, start, start + t.size)
            shape = (*t.shape, *arith.type_of(x).shape)
            found.append(_number(s.reshape(piece, shape=shape), x, y))
        start = start + t.size
    return found


def _rows(x, start, stop):
    rest = tuple(x.shape[1:])
    return s.slice(x, starts=(start, *(0 for _ in rest)), stops=(stop, *rest),
                   steps=(1,) * (1 + len(rest)))


def _number(piece, x, y):
    """The derivative of a number by a number is a number."""
    both = all(isinstance(arith.type_of(v), ScalarType) for v in (x, y))
    return s.to_scalar(piece) if both else piece


# -- what users call -------------------------------------------------------------------------------


def jvp(fn, primals, tangents, has_aux=False):
    """(fn(*primals), its derivative along the tangents): forward mode.

    primals, tangents: tuples or lists, one entry for each argument of fn; MindSpore's single tensor
             stands for a tuple of it. A tangent is built like its primal and is cast and broadcast
             to it; None is zero, and what integers must have.
    has_aux: fn returns (value, aux); the result is (value, derivative of it, aux).
    Errors:  TypeFault for tangents of integers, or built otherwise than the primals.
    Cost:    fn itself and about twice as much; in eager mode a backward pass more.

        cellc.jvp(cellc.ops.tanh, (0.5,), (1.0,))            # (0.46211715, 0.78644773)
    """
    return JvpFunction(fn, has_aux)(primals, tangents)


def vjp(fn, *primals, weights=None, has_aux=False):
    """(fn(*primals), pullback): reverse mode. `pullback(cotangent)` gives a tuple with the gradient
    by each primal, of the value weighted by the cotangent; it can be called many times.

    cotangent: built like the value, cast and broadcast to it; None is zero. MindSpore gives the
             parts of a tuple as arguments of their own: that is taken too.
    weights: a Parameter or several; the pullback then gives (by primals, by weights).
    has_aux: fn returns (value, aux); the result is (value, pullback, aux).
    Source:  MindSpore's vjp before 2.0, `vjp(fn, inputs, v)`, could not be told from two primals:
             write `vjp(fn, *inputs)[1](v)`.

        y, pullback = cellc.vjp(lambda x, y: x * y, 2.0, 3.0)
        pullback(1.0)                                        # (3.0, 2.0)
    """
    return VjpFunction(fn, has_aux, weights)(*primals)


def linearize(fn, *primals, has_aux=False):
    """(fn(*primals), the derivative there as a linear function of tangents).

    The function repeats nothing of what depends on the primals alone (a loop whose number of rounds
    is found while it runs is an exception): it is what to use for many tangents at one point.
    primals: as arguments; MindSpore's one tuple of all of them is taken where fn has more than one
             parameter without a default. Its tangents may be given in one tuple likewise.
    has_aux: fn returns (value, aux); the result is (value, linear function, aux).

        y, derivative = cellc.linearize(cellc.ops.sin, 0.0)
        derivative(2.0)                                      # 2.0
    """
    if len(primals) == 1 and isinstance(primals[0], (tuple, list)) and _takes_several(fn):
        primals = tuple(primals[0])
    return LinearizeFunction(fn, has_aux)(*primals)


def _takes_several(fn) -> bool:
    """Whether a function must be given more than one argument."""
    import inspect

    fn = getattr(fn, "function", fn)                # one that is being compiled
    fn = getattr(fn, "construct", fn)
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return False
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in plain and p.default is p.empty for p in parameters) > 1


def jacfwd(fn, grad_position=UNSET, has_aux=False, *, argnums=UNSET):
    """The Jacobian of fn by some of its arguments, column by column: forward mode.

    Shapes:  for a result of shape r and an argument of shape x, r + x. A result that is a tuple,
             list or dict gives one of Jacobians, an argument that is one, one in its place.
    grad_position, argnums: as in `grad`.
    has_aux: fn returns (value, aux); the result is (Jacobian, aux).
    Cost:    one forward pass, and one linear pass for each element of the arguments, all in lanes.

        cellc.jacfwd(lambda x: x * x)(cellc.Tensor([1.0, 2.0]))    # [[2, 0], [0, 4]]
    """
    return JacobianFunction(fn, _by(argnums, grad_position), has_aux, forward=True)


def jacrev(fn, grad_position=UNSET, has_aux=False, *, argnums=UNSET):
    """The Jacobian of fn by some of its arguments, row by row: reverse mode.

    As `jacfwd`; one linear pass for each element of the result: for fewer results than arguments.
    """
    return JacobianFunction(fn, _by(argnums, grad_position), has_aux, forward=False)


def hessian(fn, grad_position=UNSET, has_aux=False, *, argnums=UNSET):
    """The second derivatives of fn by some of its arguments: jacfwd(jacrev(fn)).

    Shapes:  for a result of shape r and arguments of shapes x and z, r + x + z.

        cellc.hessian(lambda x: (x ** 3).sum())(cellc.Tensor([1.0, 2.0]))   # [[6, 0], [0, 12]]
    """
    by = _by(argnums, grad_position)
    return JacobianFunction(JacobianFunction(fn, by, has_aux, forward=False), by, has_aux,
                            forward=True)


def _by(argnums, grad_position):
    found = position_of(argnums, grad_position)
    if found is None:
        raise TypeFault("a Jacobian by no argument", "argnums=0")
    return found


def vmap(fn, in_axes=0, out_axes=0, axis_size=None):
    """fn on every lane of its arguments at once, the results beside one another.

    in_axes: which axis of the arguments are the lanes: an int for all; None for those that all
             lanes share; a tuple with an entry for each argument, and in the place of an argument
             that is a tuple, list or dict one entry for all of it or one built like it. Arguments
             by name have theirs first.
    out_axes: where the lanes go in the results, likewise; None for what is the same in all lanes.
    axis_size: how many lanes, where no argument has any.
    Numbers: Python numbers have no axes (None); one that fn returns becomes a tensor of its dtype.
    Branches: an `if` that lanes answer differently runs both branches, each only if some lane takes
             it; lanes that do not take it can not fail in it.
    Loops:   each lane takes the rounds it asks for, and the cost is that of their sum.
    Random:  lanes draw independent numbers.
    Modes:   compiled, all lanes at once; in eager mode one after another, so that fn may look at
             its values: for speed, cellc.jit what contains the vmap.
    Errors:  ShapeFault for lanes of different counts; SyntaxFault (compiled) for a print and for
             an assignment to a Parameter.

        cellc.vmap(cellc.ops.dot, (0, None))(a, b)          # each row of a times b
    """
    return VmapFunction(fn, in_axes, out_axes, axis_size)
