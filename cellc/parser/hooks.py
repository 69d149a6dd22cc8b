"""What upper layers tell the parser about themselves, since it must not import them.

`cellc/tensor.py`, `parameter.py`, `nn/cell.py` and `ops` register their classes and the few
functions that syntax needs (indexing). All else of theirs is found as users find it: by attribute.
"""

from __future__ import annotations

from collections.abc import Callable

from cellc.ir.graph import Node


class _Nothing:
    """No class is registered yet, so nothing is an instance of it."""


Tensor: type = _Nothing
Parameter: type = _Nothing
Cell: type = _Nothing
Transform: type = _Nothing
CustomVjp: type = _Nothing
Recomputed: type = _Nothing
getitem: Callable | None = None     # (x, index) -> x[index]
setitem: Callable | None = None     # (x, index, value) -> a new x with value put at index
recording: dict[Callable, bool] = {}    # the functions that switch gradients on and off
outside: Callable | None = None     # see register_outside
traced: tuple[type, ...] = (Node,)  # what stands for a value known only when the program runs


def register_tensor(tensor: type, getitem_: Callable, setitem_: Callable) -> None:
    """The class whose methods nodes have, and what `x[i]` and `x[i] = v` call."""
    global Tensor, getitem, setitem, traced
    Tensor, getitem, setitem = tensor, getitem_, setitem_
    traced = (Node, tensor)


def register_parameter(parameter: type) -> None:
    """The class of weights: a subclass of Tensor whose assignment is an effect of the program."""
    global Parameter
    Parameter = parameter


def register_cell(cell: type) -> None:
    """The class whose instances are called by interpreting `construct`."""
    global Cell
    Cell = cell


def register_recording(no_grad: Callable, enable_grad: Callable) -> None:
    """The context managers under which values are computed without, or with, gradients."""
    recording.update({no_grad: False, enable_grad: True})


def register_transform(transform: type) -> None:
    """The class of what `grad(f)`, `vmap(f)` and the like return: see `transformed.Transform`."""
    global Transform
    Transform = transform


def register_outside(outside_: Callable) -> None:
    """What a call of a Transform is outside of compiled code: (transform, args, kwargs) -> value.
    """
    global outside
    outside = outside_


def register_rules(custom_vjp: type, recomputed: type) -> None:
    """Functions with a rule for their gradient: what `custom_vjp` and `recompute` return."""
    global CustomVjp, Recomputed
    CustomVjp, Recomputed = custom_vjp, recomputed
