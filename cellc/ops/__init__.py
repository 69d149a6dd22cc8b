# ruff: noqa: F401  (names for others to import)
"""Operations: plain functions over the primitives, the same in eager mode and in compiled code.

The families: elementwise, reduce, shape, indexing, linalg, conv, pool, normalization, activation,
loss, random. `functional` gathers their functions, `operations` has MindSpore's operator classes
(P.MatMul()), `composite` the gradients. All of them are here as well: ops.relu, ops.MatMul,
ops.GradOperation.
"""

from cellc import eager as _eager
from cellc.ops import composite, functional, operations, transforms
from cellc.ops.composite import GradFunction, GradOperation
from cellc.ops.functional import *  # noqa: F403
from cellc.ops.operations import *  # noqa: F403
from cellc.parser import hooks as _hooks
from cellc.tensor import Tensor as _Tensor

_hooks.register_tensor(_Tensor, functional.getitem, functional.setitem)
_hooks.register_recording(_eager.no_grad, _eager.enable_grad)
