"""Eager mode: each primitive at once on NumPy arrays, and the tape that `backward` walks.

Evaluation. `evaluate(prim, operands, attrs)` checks the operands by the primitive's own type rule,
runs its NumPy meaning and wraps the result: a Tensor, or a Python number where the type is scalar.

The tape. Where an operand requires a gradient, the result keeps a Record: primitive, operands,
attributes and the result's array. Records form a graph that points backwards in time, so nothing
but the results a program still holds keeps it alive. `pullback` collects the records reachable
from some outputs, goes through them from the youngest to the oldest, and applies each primitive's
`vjp`. With recording on while it does so, the gradient is itself on the tape and can be
differentiated again.

A number that requires a gradient (the argument in `cellc.grad(f)(2.0)`) is a Tensor whose type is
scalar: it promotes weakly, as the Python number does that it stands for. Inside a `vjp` all numbers
are such tensors, so that rules may ask for their type and divide by zero.
"""

from __future__ import annotations

import itertools
import threading
from contextlib import contextmanager

import numpy as np

from cellc.errors import ShapeFault, TypeFault, ValueFault
from cellc.ir import arith, numerics
from cellc.ir.graph import Constant, set_eager
from cellc.ir.types import ScalarType, boolean, f64, i64
from cellc.passes.masked import Adjoint, pull
from cellc.tensor import Tensor, wrap

_NUMBER = {
    bool: (ScalarType(boolean), np.bool_),
    int: (ScalarType(i64), np.int64),
    float: (ScalarType(f64), np.float64),
}


class _State(threading.local):
    recording = True        # whether operations on tensors that require gradients are recorded
    in_vjp = False          # whether numbers stay tensors of scalar type
    depth = 0               # how many functional gradients are being computed around here


state = _State()
differentiating: list[None] = []        # an item for each such gradient of any thread
_clock = itertools.count()


def is_taping(args: tuple) -> bool:
    """Whether what is computed from these arguments now has to be on the tape."""
    if not state.recording:
        return False
    if state.depth > 0:
        return True
    for x in args:      # noqa: SIM110  (each call of a jitted function asks: a loop is fastest)
        if isinstance(x, Tensor) and x.requires_grad:
            return True
    return False


def refuse_constant(x) -> None:
    """Within a functional gradient, a Python number made of what is differentiated is an error:
    compiled, float(x) has a gradient."""
    if state.depth > 0 and not state.in_vjp:
        raise TypeFault(f"{x.type} becomes a Python number while it is differentiated: in eager "
                        "mode its gradient would be lost", "compute with the tensor itself, or "
                        "say ops.stop_gradient(x) if no gradient is wanted")


class Record:
    """One application of a primitive: what its `vjp` needs, where it came from, and when.

    `sources` has for each operand the Record that made it, the leaf that it is, or None where no
    gradient flows. `operands` are the values as they were: a tensor that is changed later (`x[0] =
    1`, `a -= b`) was another value then.
    """

    __slots__ = ("prim", "operands", "sources", "attrs", "array", "type", "time")

    def __init__(self, prim, operands, attrs, array, type):
        self.prim, self.attrs = prim, attrs
        self.array, self.type, self.time = array, type, next(_clock)
        self.sources = tuple([source_of(x) for x in operands])
        self.operands = tuple([as_it_is(x) for x in operands])

    def pull(self, g: Adjoint, useful: set[int]) -> list[Adjoint | None]:
        """The cotangents of the operands, from that of the result."""
        y = wrap(self.array, self.type)
        y.requires_grad, y._record = True, self
        operands = [linked(x, source) for x, source in zip(self.operands, self.sources,
                                                           strict=True)]
        return pull(self.prim, g, y, operands, self.attrs)


class Joint:
    """One application of a function whose gradient has a rule of its own, with all its results.

    `rule(cotangents, useful)` gives a cotangent (or None) for each source, from a dict of those of
    the results by number. Each result has a Part for its record, which hands its cotangent on.
    """

    __slots__ = ("rule", "operands", "sources", "time")

    def __init__(self, rule, operands, sources):
        self.rule, self.operands, self.sources = rule, operands, tuple(sources)
        self.time = next(_clock)

    def pull(self, g: dict, useful: set[int]) -> list[Adjoint | None]:
        found = self.rule({i: x.clean() for i, x in g.items()}, useful)
        return [None if dx is None else Adjoint(_number(dx)) for dx in found]

    def part(self, index: int, y: Tensor) -> Tensor:
        """The result y, as one of this application's."""
        new = wrap(y._array, y.type)
        new.requires_grad, new._record = True, Part(self, index)
        return new


class Part:
    """One of several results of a Joint."""

    __slots__ = ("index", "operands", "sources", "time")

    def __init__(self, joint: Joint, index: int):
        self.index, self.operands, self.sources = index, (), (joint,)
        self.time = next(_clock)

    def pull(self, g: Adjoint, useful: set[int]) -> list:
        return [{self.index: g}]


def source_of(x):
    if not isinstance(x, Tensor) or not x.requires_grad:
        return None
    return x._record or x


def as_it_is(x):
    """The value of a tensor, apart from the tensor itself."""
    if not isinstance(x, Tensor):
        return x
    value = wrap(x._array, x.type)
    value.requires_grad, value._record = x.requires_grad, x._record
    return value


def evaluate(prim, operands, attrs):
    """The result of a primitive on tensors, arrays and Python numbers, now."""
    types, arrays, traced = [], [], False
    for x in operands:
        if isinstance(x, Tensor):
            types.append(x.type)
            arrays.append(x._array)
            traced = traced or x.requires_grad
        elif type(x) in _NUMBER:
            of_type, as_numpy = _NUMBER[type(x)]
            types.append(of_type)
            arrays.append(_to_numpy(x, as_numpy))
        elif isinstance(x, Constant):
            types.append(x.type)
            arrays.append(_constant_array(x))
        else:
            types.append(arith.type_of(x))
            arrays.append(np.asarray(x))
    result = prim.types(*types, **attrs)
    array = prim.eval(*arrays, **attrs)
    traced = (traced and state.recording and prim.vjp is not None and result.dtype.is_float)
    if isinstance(result, ScalarType) and not traced and not state.in_vjp:
        return array.item()
    array = np.ascontiguousarray(array).reshape(result.shape)
    if prim.kind == "view":
        array = _own(array, operands)
    y = wrap(array, result)
    if traced:
        y.requires_grad = True
        y._record = Record(prim, operands, attrs, array, result)
    return y


def _to_numpy(x, as_numpy):
    try:
        return as_numpy(x)
    except OverflowError:
        raise ValueFault(f"the integer {x} does not fit 64 bits", "use a float") from None


def _constant_array(x: Constant) -> np.ndarray:
    """The array of a constant; one value is repeated without memory."""
    if not x.is_fill:
        return x.value
    return numerics.full(x.type.shape, x.value, x.type.dtype)


def filled(t, value) -> np.ndarray:
    """A new array of the type, with one value in all places."""
    return np.array(numerics.full(t.shape, value, t.dtype))


def to_value(x):
    """What users get: a Tensor, or a Python number for a scalar that is not on the tape."""
    if isinstance(x, Constant):
        x = wrap(np.array(_constant_array(x), order="C"), x.type)
    if isinstance(x, Tensor) and isinstance(x.type, ScalarType) and not x.requires_grad:
        return x._array.item()
    return x


def _own(array, operands):
    """A view of a Parameter's buffer is copied, because that buffer changes in place."""
    for x in operands:
        if type(x) is not Tensor and np.may_share_memory(array, np.asarray(x._array)):
            return array.copy()
    return array


set_eager(evaluate)


# -- recording switched off and on ----------------------------------------------------------------


@contextmanager
def no_grad():
    """Within the block, operations are not recorded: `with cellc.no_grad(): a -= lr * a.grad`."""
    with _recording(False):
        yield


@contextmanager
def enable_grad():
    """Within the block, operations are recorded again (inside a `no_grad`)."""
    with _recording(True):
        yield


@contextmanager
def _recording(on: bool):
    before, state.recording = state.recording, on
    try:
        yield
    finally:
        state.recording = before


# -- backwards ------------------------------------------------------------------------------------


def _key(x: Tensor) -> int:
    """What a cotangent belongs to: the record that made the value, else the leaf itself."""
    return id(x._record or x)


def reachable(outputs, stop: set[int]):
    """Records and leaves below `outputs`, not going below those in `stop`."""
    records, leaves = {}, {}
    todo = [source_of(y) for y in outputs]
    while todo:
        source = todo.pop()
        if source is None or id(source) in stop or id(source) in records or id(source) in leaves:
            continue
        if isinstance(source, Tensor):
            leaves[id(source)] = source
            continue
        records[id(source)] = source
        if source.operands is None:
            raise ValueFault("backward goes through a graph whose records were freed by an "
                             "earlier backward", "pass retain_graph=True to the earlier one")
        todo.extend(source.sources)
    return records, leaves


def _useful(records: list[Record], wanted: set[int]) -> set[int]:
    """The records through which one of `wanted` is reached; `records` from old to young."""
    found = set(wanted)
    for record in records:
        if any(source is not None and id(source) in found for source in record.sources):
            found.add(id(record))
    return found


def pullback(outputs, cotangents, wanted=None, create_graph=False, retain_graph=True):
    """Cotangents of `wanted` (a list of Tensors), or a dict {leaf: cotangent} where that is None.

    `outputs` with their `cotangents` start the walk. An entry of the list is None where the
    outputs do not depend on that tensor. With `create_graph` the walk itself is recorded; with
    `retain_graph` false the records let go of what they hold.
    """
    stop = set() if wanted is None else {_key(x) for x in wanted}
    records, leaves = reachable(outputs, stop)
    if wanted is None:
        stop = set(leaves)
    order = sorted(records.values(), key=lambda r: r.time)
    useful = _useful(order, stop)
    sums: dict[int, object] = {}        # Adjoints; of a Joint, a dict of them
    with _recording(create_graph), _vjp(True):
        for y, g in zip(outputs, cotangents, strict=True):
            if isinstance(y, Tensor) and y.requires_grad:
                _accumulate(sums, _key(y), Adjoint(_number(g)))
        for record in reversed(order):
            g = sums.pop(id(record), None)
            if g is not None and id(record) in useful:
                _push(record, g, useful, sums)
            if not retain_graph:
                record.operands, record.sources = None, ()
        sums = {key: g.clean() for key, g in sums.items() if isinstance(g, Adjoint)}
    if wanted is None:
        return {leaf: to_value(sums[key]) for key, leaf in leaves.items() if key in sums}
    found = [sums.get(_key(x)) for x in wanted]
    return [None if g is None else to_value(g) for g in found]


def _push(record, g, useful: set[int], sums: dict) -> None:
    """Send the cotangent of a record's result on to its operands."""
    sources = record.sources
    for source, dx in zip(sources, record.pull(g, useful), strict=True):
        if dx is not None and source is not None and id(source) in useful:
            _accumulate(sums, id(source), dx)


def linked(x, source):
    """An operand as a rule takes it: a leaf itself, so that its gradient can be differentiated."""
    if not isinstance(source, Tensor):
        return _number(x)
    if source._array is x._array:
        return source
    if state.recording:
        raise ValueFault("a second derivative by a leaf that was changed in between",
                         "take the gradient before changing it")
    return x


def _number(x):
    """A Python number as a tensor of scalar type."""
    if type(x) not in _NUMBER:
        return x
    of_type, as_numpy = _NUMBER[type(x)]
    return wrap(np.asarray(as_numpy(x)), of_type)


@contextmanager
def _vjp(inside: bool):
    before, state.in_vjp = state.in_vjp, inside
    try:
        yield
    finally:
        state.in_vjp = before


def outside_vjp():
    """Within the block, code of the user's runs in the midst of a gradient."""
    return _vjp(False)


def _accumulate(sums: dict, key: int, g) -> None:
    """Add a cotangent, or those of several results, to what is there."""
    held = sums.get(key)
    if held is None:
        sums[key] = g
    elif isinstance(g, dict):
        both = held.keys() & g.keys()
        sums[key] = held | g | {i: held[i].plus(g[i]) for i in both}
    else:
        sums[key] = held.plus(g)


def ones_like(y):
    """The cotangent 1 for an output."""
    t = arith.type_of(y)
    if isinstance(t, ScalarType):
        return 1.0
    return wrap(filled(t, 1), t)


def zeros_like(x):
    """The gradient of what an output does not depend on: zeros of the type of x."""
    t = arith.type_of(x)
    if isinstance(t, ScalarType):
        return t.dtype.numpy.type(0).item()
    return wrap(filled(t, 0), t)


def backward(y: Tensor, gradient=None, retain_graph=False, create_graph=False) -> None:
    """See Tensor.backward."""
    if not y.requires_grad:
        raise ValueFault("backward of a tensor that does not depend on any that requires a "
                         "gradient", "make one with Tensor(..., requires_grad=True)")
    if gradient is None:
        if y.type.size != 1:
            raise ShapeFault(f"backward starts at one number, found {y.type}",
                             "sum or average it first, or pass `gradient`")
        gradient = ones_like(y)
    elif arith.type_of(gradient) != y.type:
        raise TypeFault(f"backward of {y.type} was given a gradient of type "
                        f"{arith.type_of(gradient)}", "pass one of the same dtype and shape")
    found = pullback([y], [gradient], create_graph=create_graph,
                     retain_graph=retain_graph or create_graph)
    for leaf, g in found.items():
        leaf.grad = g if leaf.grad is None else arith.add(leaf.grad, g)
