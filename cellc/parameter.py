"""Parameter: a tensor that a Cell owns, with a name, and that is assigned in place.

Its buffer stays the same array as long as dtype and shape do, so that compiled code and everyone
who holds the Parameter see the new values.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager

import numpy as np

from cellc import epoch
from cellc.errors import ShapeFault, TypeFault, ValueFault
from cellc.ir import arith
from cellc.ir.graph import current_builder
from cellc.parser import hooks
from cellc.tensor import Tensor, to_array

DEFAULT_NAME = "Parameter"
_probe = Tensor(0.0)
_SOLE_OWNER = sys.getrefcount(_probe._array)        # of an array that only a slot holds
_slot = Tensor.requires_grad        # the slot under the property that Parameter puts over it


class Parameter(Tensor):
    """A weight: Parameter(data, name=None, requires_grad=True).

    Set as an attribute of a Cell it is found by `get_parameters()`, and without a name takes the
    attribute's. `set_data` and `ops.assign` change its values; `requires_grad=False` keeps it out
    of `trainable_params()` (running statistics, frozen layers).
    """

    __slots__ = ("name", "layerwise_parallel", "parallel_optimizer")

    def __init__(self, default_input, name=None, requires_grad=True, layerwise_parallel=False,
                 parallel_optimizer=True):
        super().__init__(default_input)
        if name is not None and (not isinstance(name, str) or not name):
            raise TypeFault(f"a Parameter's name is {name!r}", "a nonempty str, or None")
        self.name = name or DEFAULT_NAME
        self.layerwise_parallel, self.parallel_optimizer = layerwise_parallel, parallel_optimizer
        self.requires_grad = requires_grad and self.dtype.is_float

    @property
    def requires_grad(self) -> bool:
        """Whether it is trained. Setting it makes compiled programs look again."""
        return _slot.__get__(self)

    @requires_grad.setter
    def requires_grad(self, wanted):
        _slot.__set__(self, bool(wanted))
        epoch.bump()

    def set_data(self, data, slice_shape=False):
        """Take over the values of `data`, cast to this dtype; returns self.

        With `slice_shape` the shape may change as well (and the buffer then is a new one).
        Errors: ShapeFault for another shape; TypeFault for data that is no tensor or number, or
                for floats into an integer Parameter. Nothing is changed then.
        """
        array = to_array(data)
        if array.dtype.kind == "f" and self.dtype.is_int:
            raise TypeFault(f"the Parameter {self.name} of dtype {self.dtype} was given floats",
                            "cast them first")
        array = to_array(array, self.dtype)
        if array.shape != self.shape:
            if array.ndim == 0 and not isinstance(data, Tensor):
                array = np.broadcast_to(array, self.shape)
            elif not slice_shape:
                raise ShapeFault(f"the Parameter {self.name} of shape {list(self.shape)} was given "
                                 f"data of shape {list(array.shape)}",
                                 "slice_shape=True lets set_data change the shape")
        if _journal.held is not None:
            _journal.held.setdefault(id(self), (self, self._array.copy()))
        if array.shape == self.shape and sys.getrefcount(self._array) == _SOLE_OWNER:
            self._array[...] = array
        elif array.shape == self.shape:         # a view, or a record of the tape, keeps the old
            self._array = np.array(array, order="C")
        else:
            self._array, self._type = array, None
            epoch.bump()
        return self

    def keep_alone(self) -> None:
        """Let go of whoever shares the buffer (a view, a running call): they keep the old one."""
        if sys.getrefcount(self._array) != _SOLE_OWNER:
            self._array = np.array(self._array, order="C")

    def _replace(self, new):
        self.set_data(new)

    def _inplace(self, new):
        """`p += v` assigns."""
        return self.set_data(new)

    @property
    def data(self):
        """The Parameter itself."""
        return self

    @data.setter
    def data(self, value):
        self.set_data(value)

    def asnumpy(self) -> np.ndarray:
        """A copy of the values (bfloat16 as float32)."""
        return np.array(super().asnumpy())

    def value(self) -> Tensor:
        """The values as a tensor of its own."""
        return Tensor(self)

    def clone(self, init="same"):
        """A new Parameter of the same name: a copy, or filled with "zeros", "ones" or a number."""
        if init == "same":
            return Parameter(self, self.name, self.requires_grad)
        value = {"zeros": 0, "ones": 1}.get(init, init)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueFault(f"clone: found init {init!r}", '"same", "zeros", "ones" or a number')
        filled = Tensor(np.full(self.shape, value), self.dtype)
        return Parameter(filled, self.name, self.requires_grad)

    def __copy__(self):
        return self.clone()

    def __deepcopy__(self, memo):
        memo[id(self)] = new = self.clone()
        return new

    def __reduce__(self):
        return (_rebuild, (self._array, self.dtype.name, self.name, self.requires_grad))

    def __repr__(self):
        return (f"Parameter (name={self.name}, shape={self.shape}, "
                f"dtype={self.dtype.long_name.capitalize()}, requires_grad={self.requires_grad})")

    __str__ = __repr__


def _rebuild(array, kind, name, requires_grad):
    return Parameter(Tensor(array, kind), name, requires_grad)


class ParameterTuple(tuple):
    """Parameters in order: weights to differentiate by, or the moments of an optimiser.

    Errors: TypeFault for a member that is no Parameter; ValueFault where two different ones have
            one name.
    """

    def __new__(cls, parameters=()):
        items = (parameters,) if isinstance(parameters, Parameter) else tuple(parameters)
        for item in items:
            if not isinstance(item, Parameter):
                raise TypeFault(f"found {type(item).__name__} in a ParameterTuple",
                                "net.trainable_params() gives a list of Parameters")
        check_names((p.name, p) for p in items)
        return super().__new__(cls, items)

    def clone(self, prefix, init="same"):
        """Copies named `prefix.name`, initialised anew unless init is "same"."""
        copies = []
        for parameter in self:
            copy = parameter.clone(init)
            copy.name = f"{prefix}.{parameter.name}"
            copies.append(copy)
        return ParameterTuple(copies)

    def __reduce__(self):
        return (ParameterTuple, (tuple(self),))


def check_names(named) -> None:
    """ValueFault where two different Parameters among (path, Parameter) pairs have one name."""
    seen: dict[str, tuple[str, Parameter]] = {}
    for path, parameter in named:
        first_path, first = seen.setdefault(parameter.name, (path, parameter))
        if first is not parameter and parameter.name != DEFAULT_NAME:
            places = f"{first_path} and {path}" if first_path != path else "two Parameters"
            raise ValueFault(f"the name {parameter.name!r} is given to two Parameters: {places}",
                             "give one of them another name=")


def assign(parameter, value):
    """Give a Parameter a value: an effect of the program when compiled, at once in eager mode.

    The value is cast to the Parameter's dtype and broadcast to its shape. Returns the new value.
    Errors: TypeFault where `parameter` is none; ShapeFault where the shapes do not fit.
    """
    if not isinstance(parameter, Parameter):
        raise TypeFault(f"assign to {type(parameter).__name__}, expected a Parameter",
                        "self.w = Parameter(...) in __init__")
    builder = current_builder()
    if builder is not None:
        return builder.assign(parameter, value)
    if not isinstance(value, Tensor):
        value = Tensor(value, parameter.dtype)
    value = arith.cast(value, parameter.dtype)
    return parameter.set_data(arith.broadcast_to(value, parameter.shape))


class _Journal(threading.local):
    held: dict | None = None        # id of a Parameter -> it and its array before its assignment


_journal = _Journal()


@contextmanager
def noting_assignments():
    """Within the block, keep what the Parameters held that are assigned; gives the notes."""
    outer, _journal.held = _journal.held, {}
    try:
        yield _journal.held
    finally:
        notes, _journal.held = _journal.held, outer
        if outer is not None:
            for key, note in notes.items():
                outer.setdefault(key, note)


@contextmanager
def as_before(notes: dict):
    """Within the block, the Parameters hold what they did before; assignments there are undone."""
    now = [(parameter, parameter._array.copy()) for parameter, _ in notes.values()]
    for parameter, array in notes.values():
        parameter.set_data(array)
    try:
        yield
    finally:
        for parameter, array in now:
            parameter.set_data(array)


hooks.register_parameter(Parameter)
