# ruff: noqa: F401  (names for others to import)
"""Where MindSpore keeps what everybody uses: `from cellc.common.initializer import Normal`."""

from cellc import dtype
from cellc.common import initializer
from cellc.ops.random import set_seed
from cellc.parameter import Parameter, ParameterTuple
from cellc.tensor import Tensor
