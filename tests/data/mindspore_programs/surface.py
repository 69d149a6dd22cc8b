"""What the programs import: MindSpore where its answers are recorded, cellc where it is tested.

    from mindspore_programs.surface import Tensor, nn, ops, program

Everything below this file is a MindSpore program, unchanged but for this line of imports. The
environment variable PROGRAMS_OF names the framework; nothing else differs between the two.
"""

import os
from dataclasses import dataclass
from typing import Callable

import numpy as np

FRAMEWORK = os.environ.get("PROGRAMS_OF", "cellc")

if FRAMEWORK == "mindspore":
    import mindspore as ms
    import mindspore.common.dtype as mstype
    from mindspore import Parameter, ParameterTuple, Tensor, context, nn, ops
    from mindspore.common.initializer import initializer
    from mindspore.ops import functional as F
    from mindspore.ops import operations as P
    from mindspore.ops.composite import GradOperation
else:
    import cellc as ms
    import cellc.dtype as mstype
    from cellc import Parameter, ParameterTuple, Tensor, context, nn, ops
    from cellc.common.initializer import initializer
    from cellc.ops import functional as F
    from cellc.ops import operations as P
    from cellc.ops.composite import GradOperation

__all__ = ["F", "GradOperation", "P", "Parameter", "ParameterTuple", "Tensor", "context", "data",
           "error", "fill", "initializer", "ms", "mstype", "nn", "np", "ops", "program"]


@dataclass
class Program:
    """One program: `run()` gives a structure of tensors, numbers and texts to compare.

    instead   what Python gives where MindSpore's own answer is wrong, as `note` says: either the
              encoded result, or the name of another program, which MindSpore does get right
    rtol      of each array, relative to its largest element
    """

    name: str
    run: Callable
    note: str = ""
    instead: object = None
    rtol: float = 2e-5


PROGRAMS: dict[str, Program] = {}


def program(name=None, **options):
    """Put a function into the table, under its own name or another."""
    def register(run):
        known = name or run.__name__
        assert known not in PROGRAMS, f"two programs are called {known}"
        PROGRAMS[known] = Program(known, run, **options)
        return run

    return register


def data(*shape, seed=0, low=None, high=None, dtype=np.float32):
    """A tensor of normal numbers, or of even ones between `low` and `high`; the same everywhere."""
    source = np.random.RandomState(seed + 17 * len(shape))
    if low is None:
        return Tensor(source.standard_normal(shape).astype(dtype))
    if np.issubdtype(dtype, np.integer):
        return Tensor(source.randint(low, high, shape).astype(dtype))
    return Tensor(source.uniform(low, high, shape).astype(dtype))


def fill(net, scale=0.5):
    """Give every trained Parameter of a cell the same values in both frameworks; returns it."""
    for i, parameter in enumerate(net.trainable_params()):
        values = np.random.RandomState(100 + i).standard_normal(parameter.shape) * scale
        parameter.set_data(Tensor(values.astype(np.float32)))
    return net


def error(function, *args):
    """The name of the builtin class of what the call raises; "" where it raises nothing."""
    try:
        function(*args)
    except Exception as raised:
        return next(c.__name__ for c in type(raised).__mro__ if c.__module__ == "builtins")
    return ""


def encode(value):
    """A result as what json can hold, types and structure included."""
    if isinstance(value, Tensor):
        array = value.asnumpy()
        return {"dtype": array.dtype.name, "shape": list(array.shape),
                "values": [_number(x) for x in array.ravel().tolist()]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, (tuple, list)):
        return {type(value).__name__: [encode(item) for item in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a program gave {type(value).__name__}, which is not compared")


def _number(x):
    return float(f"{x:.9g}") if isinstance(x, float) else x
