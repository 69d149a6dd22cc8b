"""Elementwise mathematics for the CPU back end, emitted inline for scalars and vectors alike.

`emit(f, "exp", "<16 x float>", x)` appends straight-line code (where an argument is reduced by
pi/2: plus one rarely taken branch) and returns the register of the result. Only portable LLVM
operations are used, so one formula serves every target that has a fused multiply-add. NaN,
infinities, subnormal numbers and -0.0 are treated as IEEE 754 asks; error bounds are in `ULP`.

Each function cuts its argument down to a small interval, evaluates a minimax polynomial there
(`tables`, from `benchmarks/fit_minimax.py`) and puts the pieces together such that only the last
additions round visibly. Formulas are written with `lanes`, in both precisions at once.
"""

from __future__ import annotations

from ..text import Function
from . import error_function, exponential, gamma, hyperbolic, logarithm, power, trigonometric
from .lanes import Lanes

FUNCTIONS = {
    "exp": exponential.exp, "exp2": exponential.exp2, "expm1": exponential.expm1,
    "logistic": exponential.logistic, "tanh": exponential.tanh,
    "log": logarithm.log, "log1p": logarithm.log1p, "log2": logarithm.log2,
    "log10": logarithm.log10,
    "sinh": hyperbolic.sinh, "cosh": hyperbolic.cosh, "asinh": hyperbolic.asinh,
    "acosh": hyperbolic.acosh, "atanh": hyperbolic.atanh,
    "erf": error_function.erf, "erfc": error_function.erfc,
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
    "exp": {"float": 1.0, "double": 1.0}, "exp2": {"float": 1.0, "double": 1.0},
    "expm1": {"float": 1.7, "double": 1.7},
    "logistic": {"float": 2.5, "double": 2.5}, "tanh": {"float": 2.5, "double": 2.5},
    "log": {"float": 1.0, "double": 1.0}, "log1p": {"float": 1.5, "double": 1.5},
    "log2": {"float": 1.0, "double": 1.0}, "log10": {"float": 1.0, "double": 1.0},
    "sinh": {"float": 2.0, "double": 2.0}, "cosh": {"float": 2.0, "double": 2.0},
    "asinh": {"float": 3.0, "double": 3.0}, "acosh": {"float": 3.0, "double": 3.0},
    "atanh": {"float": 3.0, "double": 3.0},
    "erf": {"float": 1.1, "double": 1.5}, "erfc": {"float": 4.5, "double": 4.5},
    "sin": {"float": 1.6, "double": 1.6}, "cos": {"float": 1.6, "double": 1.6},
    "tan": {"float": 3.0, "double": 3.0}, "asin": {"float": 2.0, "double": 2.0},
    "acos": {"float": 2.0, "double": 2.0}, "atan": {"float": 2.0, "double": 2.0},
    "atan2": {"float": 2.0, "double": 2.0},
    "sqrt": {"float": 0.5, "double": 0.5}, "rsqrt": {"float": 1.5, "double": 1.5},
    "pow": {"float": 0.6, "double": 1.0},
    "lgamma": {"float": 1.0, "double": 6.0}, "digamma": {"float": 1.0, "double": 6.0},
}


def emit(f: Function, name: str, ty: str, *operands: str) -> str:
    """Append the code of function `name` on registers of type `ty`; the register of the result.

    Shapes: ty is float, double or a vector of either; operands and result have it.
    Errors: KeyError for a name not in NAMES, TypeError for a wrong number of operands.
    """
    return FUNCTIONS[name](*(Lanes(f, ty, operand) for operand in operands)).text
