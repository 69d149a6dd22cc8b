"""Elementwise mathematics for the CPU back end, emitted inline for scalars and vectors alike.

`emit(f, "exp", "<16 x float>", x)` appends straight-line code (where an argument is reduced by
pi/2: plus one rarely taken branch) and returns the register of the result. Formulas are made of
portable LLVM operations and serve every target that has a fused multiply-add; where AVX2 or AVX-512
has an instruction for a part of one (`lanes.lookup`, `lanes.scaled`) it is taken. NaN, infinities,
subnormal numbers and -0.0 are treated as IEEE 754 asks; error bounds are in `ULP`.

Each function cuts its argument down to a small interval, evaluates a minimax polynomial there
(`tables`, from `benchmarks/fit_minimax.py`) and puts the pieces together such that only the last
additions round visibly. Formulas are written with `lanes`, in both precisions at once.
"""

from __future__ import annotations

from cellc.kernels.text import Function
from cellc.kernels.vecmath import (
    error_function,
    exponential,
    gamma,
    hyperbolic,
    logarithm,
    power,
    trigonometric,
)
from cellc.kernels.vecmath.lanes import Lanes

FUNCTIONS = {
    "exp": exponential.exp, "exp2": exponential.exp2, "expm1": exponential.expm1,
    "logistic": exponential.logistic, "tanh": exponential.tanh,
    "log": logarithm.log, "log1p": logarithm.log1p, "log2": logarithm.log2,
    "log10": logarithm.log10,
    "sinh": hyperbolic.sinh, "cosh": hyperbolic.cosh, "asinh": hyperbolic.asinh,
    "acosh": hyperbolic.acosh, "atanh": hyperbolic.atanh,
    "erf": error_function.erf, "erfc": error_function.erfc, "erfinv": error_function.erfinv,
    "sin": trigonometric.sin, "cos": trigonometric.cos, "tan": trigonometric.tan,
    "asin": trigonometric.asin, "acos": trigonometric.acos, "atan": trigonometric.atan,
    "atan2": trigonometric.atan2,
    "sqrt": power.sqrt, "rsqrt": power.rsqrt, "pow": power.pow,
    "lgamma": gamma.lgamma, "digamma": gamma.digamma,
}

NAMES = {name: function.__code__.co_argcount for name, function in FUNCTIONS.items()}

# The largest error over all arguments, in units of the last place of the result. In double
# precision lgamma and digamma, which cross zero where nothing short stays relatively exact, are
# measured in units of the last place of the largest of 1, |f(x)| and |f(|x|)|.
ULP = {
    "exp": {"float": 0.92, "double": 1.1},
    "exp2": {"float": 1.0, "double": 1.2},
    "expm1": {"float": 1.6, "double": 1.7},
    "logistic": {"float": 2.5, "double": 2.5},
    "tanh": {"float": 2.5, "double": 2.5},
    "log": {"float": 0.9, "double": 0.9},
    "log1p": {"float": 1.4, "double": 1.4},
    "log2": {"float": 0.7, "double": 0.7},
    "log10": {"float": 0.7, "double": 0.7},
    "sinh": {"float": 1.7, "double": 1.7},
    "cosh": {"float": 1.5, "double": 1.5},
    "asinh": {"float": 2.0, "double": 2.0},
    "acosh": {"float": 2.5, "double": 2.5},
    "atanh": {"float": 2.1, "double": 2.1},
    "erf": {"float": 1.1, "double": 1.2},
    "erfc": {"float": 4.5, "double": 3.5},
    "erfinv": {"float": 3.0, "double": 3.0},
    "sin": {"float": 1.6, "double": 1.6},
    "cos": {"float": 1.6, "double": 1.6},
    "tan": {"float": 3.2, "double": 3.2},
    "asin": {"float": 2.1, "double": 2.1},
    "acos": {"float": 1.2, "double": 1.2},
    "atan": {"float": 1.7, "double": 1.7},
    "atan2": {"float": 2.0, "double": 2.0},
    "sqrt": {"float": 0.5, "double": 0.5},
    "rsqrt": {"float": 1.5, "double": 1.5},
    "pow": {"float": 0.6, "double": 1.1},
    "lgamma": {"float": 0.6, "double": 4.0},
    "digamma": {"float": 0.6, "double": 8.0},
}


def emit(f: Function, name: str, ty: str, *operands: str) -> str:
    """Append the code of function `name` on registers of type `ty`; the register of the result.

    Shapes: ty is float, double or a vector of either; operands and result have it.
    Errors: KeyError for a name not in NAMES, TypeError for a wrong number of operands.
    """
    return FUNCTIONS[name](*(Lanes(f, ty, operand) for operand in operands)).text
