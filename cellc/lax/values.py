"""What flows between the parts of a divided function."""

from __future__ import annotations

import enum
import sys
from types import ModuleType

import numpy as np

from cellc.ir.types import DType
from cellc.parser import hooks
from cellc.parser.values import SIMPLE
from cellc.tensor import Tensor


def with_tensors(value):
    """An argument as the compiled call takes it: NumPy's arrays are tensors."""
    if isinstance(value, np.ndarray):
        return Tensor(value)
    if type(value) in (tuple, list) and any(
            isinstance(x, (np.ndarray, tuple, list, dict)) for x in value):
        return type(value)(map(with_tensors, value))
    if type(value) is dict:
        return {k: with_tensors(v) for k, v in value.items()}
    return value


def can_be_given(value) -> bool:
    """Can a compiled piece be given it, again at the next call?"""
    if isinstance(value, (*SIMPLE, Tensor, hooks.Cell, DType, ModuleType, enum.Enum)):
        return not isinstance(value, np.generic)        # np.float64 is a float
    if type(value) in (tuple, list) or isinstance(value, tuple) and hasattr(value, "_fields"):
        return all(map(can_be_given, value))
    if type(value) is dict:
        return all(map(can_be_given, value.values())) and all(map(can_be_given, value))
    name = getattr(value, "__qualname__", None)
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    return name is not None and getattr(module, name, None) is value


def described(value) -> str:
    """What a value is that no piece can be given, or not for each of its many values."""
    kind = type(value)
    if kind in (str, bytes, int, float):
        return f"another {kind.__name__} at each call"
    if kind in (list, dict, tuple):
        return f"a {kind.__name__} that holds such an object"
    where = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"an object of the class {where}{kind.__qualname__}"


def mutable_parts(values, found: list) -> None:
    """Append the ids of all lists and dicts in the values, at any depth."""
    for x in values:
        if isinstance(x, (list, dict)):
            found.append(id(x))
            mutable_parts(x.values() if isinstance(x, dict) else x, found)
        elif isinstance(x, tuple):
            mutable_parts(x, found)
