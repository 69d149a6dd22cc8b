"""The scalar operations of a back end, on NumPy arrays: runs a primitive's `scalar` form.

A second, independent way to the same values, and the list of what a back end must offer.
"""

import numpy as np
from scipy import special

from cellc.ir import numerics as num
from cellc.ir.graph import PRIMITIVES
from cellc.ir.types import u32

NUMPY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
    "abs": np.abs, "min": np.minimum, "max": np.maximum, "floor": np.floor, "ceil": np.ceil,
    "round": np.rint, "trunc": np.trunc, "sqrt": np.sqrt, "exp": np.exp, "expm1": np.expm1,
    "log": np.log, "log1p": np.log1p, "tanh": np.tanh, "logistic": special.expit,
    "erf": special.erf, "erfc": special.erfc, "erfinv": special.erfinv,
    "lgamma": special.gammaln, "digamma": special.psi,
    "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "atan2": np.arctan2,
    "rsqrt": lambda x: 1 / np.sqrt(x), "fma": lambda x, y, z: x * y + z,
    "floordiv": np.floor_divide, "mod": np.remainder, "bit_and": np.bitwise_and,
    "bit_or": np.bitwise_or, "bit_xor": np.bitwise_xor, "bit_not": np.invert,
}
QUESTIONS = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
             "gt": np.greater, "ge": np.greater_equal, "is_finite": np.isfinite}


class NumpyOps:
    """`b` in a primitive's scalar form; an element is an array of any shape."""

    def __getattr__(self, name):
        if name in NUMPY:
            return num.rounded(NUMPY[name])
        if name in QUESTIONS:
            return num.asked(QUESTIONS[name])
        raise AttributeError(f"{name} is not a scalar operation")

    def dtype(self, x):
        return num.dtype_of(x)

    def const(self, value, dtype):
        return num.full((), value, dtype)

    def select(self, c, x, y):
        assert num.dtype_of(x) is num.dtype_of(y)
        return np.where(c, x, y)

    def cast(self, x, dtype):
        return num.cast(x, dtype)

    def bitcast(self, x, dtype):
        return x.view(dtype.numpy)

    def pow(self, x, y):
        return PRIMITIVES["pow"].eval(x, y)

    def mulhi(self, x, y):
        assert num.dtype_of(x) is num.dtype_of(y) is u32
        return (np.multiply(x, y, dtype=np.uint64) >> np.uint64(32)).astype(np.uint32)

    def _shift(self, function, x, y):
        bits = num.dtype_of(x).bits
        assert np.all((y >= 0) & (y < bits)), "a back end's shifts take amounts in range only"
        return function(x, y).astype(x.dtype)

    def shl(self, x, y):
        return self._shift(np.left_shift, x, y)

    def shr(self, x, y):
        return self._shift(np.right_shift, x, y)
