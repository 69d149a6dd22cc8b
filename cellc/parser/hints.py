"""Type hints of parameters, read as promises: an argument that contradicts one is an error.

Read are `float`, `int`, `bool`, dtypes (`mstype.float32`: a tensor of that dtype), `Tensor`, and
`Tensor["f32[n,4]"]`, in which a name stands for one size throughout the call. Other hints say
nothing about a dtype or shape, and are left alone.
"""

from __future__ import annotations

import re
from types import FunctionType

from cellc.errors import ShapeFault, TypeFault
from cellc.ir.types import Dim, DType, ScalarType, TensorType
from cellc.ir.types import dtype as dtype_of
from cellc.parser import hooks
from cellc.parser.values import describe

_TENSOR = re.compile(r"\s*(\w+)\s*(?:\[([^\]]*)\])?\s*$")
_hints: dict[FunctionType, dict] = {}


def check(function: FunctionType, variables: dict) -> None:
    """TypeFault or ShapeFault for the first argument that contradicts its hint."""
    hints = _hints.get(function)
    if hints is None:
        hints = _hints[function] = {name: _resolved(hint, function)
                                    for name, hint in function.__annotations__.items()}
    sizes: dict[str, object] = {}
    for name, hint in hints.items():
        if name != "return" and name in variables:
            _check_one(name, hint, variables[name], sizes)


def _resolved(hint, function: FunctionType):
    """The hint as an object; `from __future__ import annotations` makes it a string."""
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, function.__globals__)
    except Exception:       # a name that only a type checker can see says nothing to us
        return None


def _check_one(name: str, hint, value, sizes: dict) -> None:
    if hint in (float, int, bool) and isinstance(hint, type):
        _check_number(name, hint, value)
    elif isinstance(hint, DType):
        if isinstance(value, hooks.traced) and value.type.dtype is not hint:
            raise TypeFault(f"the argument {name} is {describe(value)}, its hint says {hint}",
                            f"pass {name}.astype({hint.long_name}), or change the hint")
    elif isinstance(hint, type) and issubclass(hint, hooks.Tensor):
        if not isinstance(value, hooks.traced) or isinstance(value.type, ScalarType):
            raise TypeFault(f"the argument {name} is {describe(value)}, its hint says a Tensor",
                            f"pass Tensor({name}), or change the hint")
    elif getattr(hint, "__origin__", None) is hooks.Tensor:
        _check_tensor(name, hint.__args__[0], value, sizes)


def _check_number(name: str, hint: type, value) -> None:
    if isinstance(value, Dim):
        found = "i"
    elif isinstance(value, (bool, int, float)):
        found = {bool: "b", int: "i", float: "f"}[type(value)]
    elif isinstance(value, hooks.traced):
        if isinstance(value.type, TensorType):
            raise TypeFault(f"the argument {name} is {describe(value)}, its hint says "
                            f"{hint.__name__}", "pass a number, or hint it as a Tensor")
        found = value.type.dtype.kind
    else:
        return
    if found not in {float: "fib", int: "ib", bool: "b"}[hint]:
        raise TypeFault(f"the argument {name} is {describe(value)}, its hint says {hint.__name__}",
                        f"pass {hint.__name__}({name}), or change the hint")


def _check_tensor(name: str, text: str, value, sizes: dict) -> None:
    form = _TENSOR.match(getattr(text, "__forward_arg__", text))
    if form is None:
        raise TypeFault(f"the hint of {name}, Tensor[{text!r}], is no type",
                        'write it as Tensor["f32[n,4]"]')
    if not isinstance(value, hooks.traced) or isinstance(value.type, ScalarType):
        raise TypeFault(f"the argument {name} is {describe(value)}, its hint says {text}",
                        "pass a tensor of that type, or change the hint")
    dtype = dtype_of(form[1])
    if value.type.dtype is not dtype:
        raise TypeFault(f"the argument {name} is {describe(value)}, its hint says {text}",
                        f"pass {name}.astype({dtype.long_name}), or change the hint")
    if form[2] is None:
        return
    wanted = [part.strip() for part in form[2].split(",")] if form[2].strip() else []
    shape = value.type.shape
    fits = len(wanted) == len(shape) and all(
        (size == int(part)) if part.isdigit() else sizes.setdefault(part, size) == size
        for part, size in zip(wanted, shape, strict=True))
    if not fits:
        known = "".join(f", {k} is {v}" for k, v in sizes.items() if k in wanted)
        raise ShapeFault(f"the argument {name} is {describe(value)}, its hint says {text}{known}",
                         "pass another shape, or change the hint")
