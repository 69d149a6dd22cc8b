"""Elementwise mathematics. Tensors of any shape give the same shape; Python numbers give numbers.

Unless said otherwise: dtypes f16, bf16, f32, f64 -> same (integer tensors are a TypeFault, integer
numbers are taken as floats); the gradient is the textbook derivative, given with each primitive in
`cellc/ir/prims/elementwise.py`.
"""

from __future__ import annotations

from cellc.ir import arith
from cellc.ir.prims import elementwise as e
from cellc.ir.types import ScalarType, boolean, dtype, f32, f64, i64
from cellc.ops.common import floating, tensor_of, widened


def abs(x):
    """The absolute value. Dtypes: integers and floats. Gradient: g * sign(x), 0 at 0."""
    if arith.type_of(x).dtype.kind == "b":
        return arith.cast(x, dtype(int)) if isinstance(arith.type_of(x), ScalarType) else x
    return e.abs(x)


def neg(x):
    """-x. Errors: TypeFault for bool tensors."""
    return arith.negative(x)


def sign(x):
    """-1, 0 or 1. Dtypes: integers and floats. Gradient: none."""
    return e.sign(x)


def _rounding(prim):
    def function(x):
        t = arith.type_of(x)
        return prim(x) if t.dtype.is_float else x

    function.__name__ = prim.name
    function.__doc__ = f"{prim.doc} Integers are returned as they are. Gradient: none."
    return function


floor, ceil, trunc = _rounding(e.floor), _rounding(e.ceil), _rounding(e.trunc)
_round = _rounding(e.round)


def round(x, *, decimals=0):
    """To the nearest whole number (or multiple of 10**-decimals), ties to even. Gradient: none."""
    if decimals == 0:
        return _round(x)
    scale = 10.0 ** decimals
    wide = widened(x)
    return arith.cast(arith.div(e.round(arith.mul(wide, scale)), scale), arith.type_of(x).dtype)


def square(x):
    """x * x. Dtypes: all but bool."""
    return arith.mul(x, x)


def _unary(prim):
    def function(x):
        return prim(floating(x))

    function.__name__ = prim.name
    function.__doc__ = prim.doc
    return function


sqrt, rsqrt = _unary(e.sqrt), _unary(e.rsqrt)
exp, expm1, log, log1p = _unary(e.exp), _unary(e.expm1), _unary(e.log), _unary(e.log1p)
sin, cos, tan = _unary(e.sin), _unary(e.cos), _unary(e.tan)
asin, acos, atan = _unary(e.asin), _unary(e.acos), _unary(e.atan)
sinh, cosh, tanh = _unary(e.sinh), _unary(e.cosh), _unary(e.tanh)
asinh, acosh, atanh = _unary(e.asinh), _unary(e.acosh), _unary(e.atanh)
erf, erfc, erfinv = _unary(e.erf), _unary(e.erfc), _unary(e.erfinv)
lgamma, digamma = _unary(e.lgamma), _unary(e.digamma)
sigmoid = _unary(e.logistic)
isfinite = _unary(e.is_finite)


def reciprocal(x):
    """1 / x; integers divide in f32."""
    return arith.div(1.0, x)


def log2(x):
    """The logarithm to base 2."""
    return arith.mul(log(x), 1.4426950408889634)


def log10(x):
    """The logarithm to base 10."""
    return arith.mul(log(x), 0.4342944819032518)


def exp2(x):
    """2 to the power x."""
    return arith.pow(2.0, floating(x))


def isnan(x):
    """Where x is not a number -> bool."""
    return e.ne(x, x)


def isinf(x):
    """Where x is infinite -> bool."""
    x = floating(x)
    return e.bit_and(e.bit_not(e.is_finite(x)), e.eq(x, x))


def atan2(y, x):
    """The angle of the point (x, y), quadrant included; operands broadcast."""
    return e.atan2(*arith.meet(y, x, dtype=_float_meeting(y, x)))


def _float_meeting(*xs):
    types = [arith.type_of(x) for x in xs]
    found = arith.result_dtype(*types)
    if found.is_float or not all(isinstance(t, ScalarType) for t in types):
        return found
    return f64


def logaddexp(x, y):
    """log(exp(x) + exp(y)) without overflow; operands broadcast."""
    larger, smaller = arith.maximum(x, y), arith.minimum(x, y)
    return arith.add(larger, log1p(exp(arith.sub(smaller, larger))))


def clip(x, min=None, max=None):
    """x held between min and max; either may be None, a number or a tensor that broadcasts.

    Gradient: g where x lies between, 0 outside; half at a bound.
    """
    t = arith.type_of(x)
    if min is not None:
        x = arith.maximum(x, _in_kind(min, t))
    return x if max is None else arith.minimum(x, _in_kind(max, t))


clamp = clip


def _in_kind(bound, t):
    """A whole float bound for an integer tensor is taken as the integer."""
    if isinstance(bound, float) and bound.is_integer() and not t.dtype.is_float:
        return int(bound)
    return bound


def fmod(x, y):
    """The remainder with the sign of x (C's fmod); operands broadcast."""
    x, y = arith.meet(x, y)
    remainder = e.mod(e.abs(x), e.abs(y))
    return e.mul(e.sign(x), remainder)


def lerp(start, end, weight):
    """start + weight * (end - start); operands broadcast."""
    return arith.add(start, arith.mul(weight, arith.sub(end, start)))


def addcmul(x, a, b, value=1):
    """x + value * a * b."""
    return arith.add(x, arith.mul(arith.mul(a, b), value))


def addcdiv(x, a, b, value=1):
    """x + value * a / b."""
    return arith.add(x, arith.mul(arith.div(a, b), value))


# -- bits and truth -------------------------------------------------------------------------------


def bitwise_not(x):
    """Every bit flipped; logical not for bool. Dtypes: integers, bool."""
    return e.bit_not(x)


def _truth(x):
    return arith.cast(x, boolean)


def logical_not(x):
    """Where x is zero or false -> bool."""
    return e.bit_not(_truth(x))


def logical_and(x, y):
    """Where both are nonzero -> bool; operands broadcast."""
    return arith.bitwise_and(_truth(x), _truth(y))


def logical_or(x, y):
    """Where one is nonzero -> bool; operands broadcast."""
    return arith.bitwise_or(_truth(x), _truth(y))


def logical_xor(x, y):
    """Where just one is nonzero -> bool; operands broadcast."""
    return arith.bitwise_xor(_truth(x), _truth(y))


def isclose(x, y, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Where abs(x - y) <= atol + rtol * abs(y) -> bool; equal infinities are close."""
    x, y = arith.meet(x, y, dtype=_float_meeting(x, y))
    bound = arith.add(atol, arith.mul(rtol, e.abs(y)))
    near = e.bit_and(arith.less_equal(e.abs(e.sub(x, y)), bound), e.is_finite(y))
    near = e.bit_or(near, e.eq(x, y))
    if equal_nan:
        near = e.bit_or(near, e.bit_and(isnan(x), isnan(y)))
    return near


# -- choosing and converting ----------------------------------------------------------------------


def cast(x, dtype_):
    """x in another dtype. Float to integer truncates, saturates, NaN gives 0; to bool: x != 0.

    A number becomes a 0-d tensor, unless it is cast to a dtype of Python's numbers.
    """
    kind = dtype(dtype_)
    return arith.cast(x if kind in (boolean, i64, f64) else tensor_of(x), kind)


def identity(x):
    """x, as a value of its own."""
    return e.cast(x, dtype=arith.type_of(x).dtype)


def select(condition, x, y):
    """x where condition holds, else y; all three broadcast. Two float numbers make an f32."""
    kinds = [arith.type_of(v) for v in (condition, x, y)]
    numbers = [isinstance(t, ScalarType) for t in kinds]
    if numbers == [False, True, True] and (kinds[1].dtype.is_float or kinds[2].dtype.is_float):
        x, y = arith.cast(tensor_of(x), f32), arith.cast(tensor_of(y), f32)
    return arith.where(condition, x, y)


where = select


def keep_where(x, condition, y):
    """x where condition holds, else y: `where` as a method, which comes after its tensor."""
    return select(condition, x, y)


def masked_fill(x, mask, value):
    """value where mask holds, else x; in the dtype of x. Gradient: g where it does not hold."""
    x = tensor_of(x)
    return arith.where(mask, arith.cast(tensor_of(value), x.dtype), x)


def stop_gradient(x):
    """x, but no gradient flows into what made it."""
    return e.stop_gradient(x)


def depend(value, *_):
    """value; the other operands are computed before it, as they are anyway: order is kept."""
    return value


def cast_as(x, other):
    """x in the dtype of another tensor."""
    return cast(x, arith.type_of(other).dtype)


def _to(name: str):
    def function(x):
        return cast(x, name)

    function.__name__ = f"to_{name}"
    function.__doc__ = f"x as {name}; see cast."
    return function


to_bool, to_int, to_long = _to("bool"), _to("int32"), _to("int64")
to_half, to_float, to_double = _to("float16"), _to("float32"), _to("float64")
