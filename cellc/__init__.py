# ruff: noqa: F401  (names for others to import)
"""cellc: a compiler from Python neural-network source to one native program, gradients included.

    from cellc import Tensor, nn, ops, context
    context.set_context(mode=context.GRAPH_MODE)
"""

from __future__ import annotations

import importlib

from cellc import context, dtype, errors, startup, tensor

from cellc import nn, ops  # isort: skip
from cellc.context import GRAPH_MODE, LAX, PYNATIVE_MODE, STRICT, get_context, set_context
from cellc.dtype import (
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from cellc.eager import enable_grad, no_grad
from cellc.nn.cell import Cell
from cellc.ops.composite import GradOperation, grad, mutable, value_and_grad
from cellc.ops.custom import custom_vjp, recompute
from cellc.ops.elementwise import stop_gradient
from cellc.ops.random import set_seed
from cellc.ops.transforms import hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from cellc.parameter import Parameter, ParameterTuple
from cellc.tensor import Tensor

context.when_graph.append(startup.begin)
context.when_threads.append(startup.use_threads)

__version__ = "0.1.0"

# Found when first asked for, so that `import cellc` loads neither the compiler nor safetensors.
_LATER = {
    "jit": "cellc.compile",
    "unroll": "cellc.parser.loops",
    "LaxWarning": "cellc.lax",
    "explain": "cellc.inspection",
    "inspect": "cellc.inspection",
    "nan_trace": "cellc.nans",
    "save_checkpoint": "cellc.train.serialization",
    "load_checkpoint": "cellc.train.serialization",
    "load_param_into_net": "cellc.train.serialization",
    "train": "cellc.train",
    "common": "cellc.common",
}


def __getattr__(name: str):
    if name not in _LATER:
        raise AttributeError(f"module 'cellc' has no attribute {name!r}")
    module = importlib.import_module(_LATER[name])
    value = module if _LATER[name] == f"cellc.{name}" and not hasattr(module, name) else getattr(
        module, name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *_LATER})
