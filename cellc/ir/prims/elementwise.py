"""Elementwise primitives: one result element from the operands' elements at the same place.

Operands are tensors of one dtype and shape, or all of them scalars. `scalar` is the same over the
scalar operations of a back end `b`; where it is one operation of the primitive's own name, `op`
makes it. A back end offers these operations (on elements; `b.dtype(x)` tells an element's DType):

    add sub mul div neg abs min max floor ceil round trunc sqrt rsqrt exp expm1 log log1p tanh
    logistic erf erfc erfinv lgamma digamma sin cos tan asin acos atan sinh cosh asinh acosh atanh
    pow atan2 fma, floordiv mod (Python's signs; integers: x // 0 = x % 0 = 0), bit_and bit_or
    bit_xor bit_not shl shr (amounts in range), mulhi (u32), eq ne lt le gt ge is_finite (-> bool),
    select(c, x, y), cast(x, dtype), bitcast(x, dtype), const(value, dtype)

Gradients at edges: abs' at 0 is 0; sqrt' at 0 is inf; min and max share ties evenly; pow's exponent
gets 0 where the base is not positive.
"""

from __future__ import annotations

import math

import numpy as np

from cellc.errors import TypeFault
from cellc.ir import numerics as num
from cellc.ir.graph import Constant, fill, primitive
from cellc.ir.prims import gamma
from cellc.ir.prims.checks import ANY, BITS, BOOL, FLOAT, INTEGER, NUMBER, alike, takes
from cellc.ir.prims.rules import diagonal, each
from cellc.ir.types import DType, boolean, u32


def op(name: str):
    """The scalar form that is one operation of a back end."""
    return lambda b, *elements: getattr(b, name)(*elements)


# -- samples for the generated tests: f64 operands; the tests cast them ---------------------------

def spread(low: float, high: float, n: int = 1, whole: bool = False):
    """Three shapes of values between low and high, different in each of n operands."""

    def samples():
        made = []
        for seed, shape in enumerate([(2, 3), (), (5,)]):
            draw = np.random.default_rng(seed).uniform
            operands = [draw(low, high, shape) for _ in range(n)]
            made.append(([np.round(x) for x in operands] if whole else operands, {}))
        return made

    return samples


def elementwise(name: str, operands: str, vjp, jvp=None, **fields):
    """A primitive of this family: its forward derivative and its batches follow from the rest."""
    return primitive(name, operands, kind="elementwise", vjp=vjp, jvp=jvp or diagonal(vjp),
                     batch=each(name), **fields)


def unary(name: str, doc: str, eval, vjp, kinds: str = FLOAT, scalar=None, samples=None,
          tolerance=None):
    """A primitive from one element to one of the same dtype."""
    return elementwise(
        name, "x", doc=doc, types=lambda x: takes(name, x, kinds),
        eval=num.rounded(eval), vjp=vjp, scalar=scalar or op(name),
        samples=samples or spread(-3, 3), tolerance=tolerance)


def binary(name: str, doc: str, eval, vjp, kinds: str = NUMBER, scalar=None, samples=None):
    """A primitive from two elements to one of the same dtype."""
    return elementwise(
        name, "x y", doc=doc, types=lambda x, y: alike(name, x, y, kinds=kinds),
        eval=num.rounded(eval), vjp=vjp, scalar=scalar or op(name),
        samples=samples or spread(-3, 3, 2))


def comparison(name: str, doc: str, eval):
    """A primitive from two elements to a bool; its result has no gradient."""
    return elementwise(
        name, "x y", doc=doc,
        types=lambda x, y: alike(name, x, y).with_dtype(boolean),
        eval=num.asked(eval), vjp=None, scalar=op(name), samples=spread(-2, 2, 2, whole=True))


def zero(x):
    """The constant 0 of the type of x."""
    return fill(x.type, 0)


# -- signs and rounding; the roundings and sign are flat, so their gradient is zero: None ----------

neg = unary("neg", "The negative.", np.negative, lambda g, y, x: [-g], NUMBER)
abs = unary("abs", "The absolute value.", np.abs, lambda g, y, x: [g * sign(x)], NUMBER)


def _sign(b, x):
    of = b.dtype(x)
    below = b.select(b.lt(x, b.const(0, of)), b.const(-1, of), x) if of.kind != "u" else x
    return b.select(b.gt(x, b.const(0, of)), b.const(1, of), below)


sign = unary("sign", "-1, 0 or 1; NaN stays NaN.", np.sign, None, NUMBER, scalar=_sign)
floor = unary("floor", "The largest whole number not above x.", np.floor, None)
ceil = unary("ceil", "The smallest whole number not below x.", np.ceil, None)
round = unary("round", "The nearest whole number, ties to even.", np.rint, None)
trunc = unary("trunc", "The whole part, toward zero.", np.trunc, None)

# -- powers and logarithms -------------------------------------------------------------------------

sqrt = unary("sqrt", "The square root.", np.sqrt, lambda g, y, x: [g / (y + y)],
             samples=spread(0.1, 9))
rsqrt = unary("rsqrt", "One over the square root.", lambda x: 1 / np.sqrt(x),
              lambda g, y, x: [g * -0.5 * (y / x)], samples=spread(0.1, 9))
exp = unary("exp", "e to the power x.", np.exp, lambda g, y, x: [g * y])
expm1 = unary("expm1", "exp(x) - 1, accurate near 0.", np.expm1, lambda g, y, x: [g * (y + 1)])
log = unary("log", "The natural logarithm.", np.log, lambda g, y, x: [g / x],
            samples=spread(0.1, 9))
log1p = unary("log1p", "log(1 + x), accurate near 0.", np.log1p, lambda g, y, x: [g / (x + 1)],
              samples=spread(-0.9, 5))

# -- trigonometric and hyperbolic functions --------------------------------------------------------

sin = unary("sin", "The sine.", np.sin, lambda g, y, x: [g * cos(x)])
cos = unary("cos", "The cosine.", np.cos, lambda g, y, x: [-(g * sin(x))])
tan = unary("tan", "The tangent.", np.tan, lambda g, y, x: [g * (y * y + 1)],
            samples=spread(-1.4, 1.4))
asin = unary("asin", "The angle in [-pi/2, pi/2] whose sine is x.", np.arcsin,
             lambda g, y, x: [g * rsqrt((1 - x) * (1 + x))], samples=spread(-0.9, 0.9))
acos = unary("acos", "The angle in [0, pi] whose cosine is x.", np.arccos,
             lambda g, y, x: [-(g * rsqrt((1 - x) * (1 + x)))], samples=spread(-0.9, 0.9))
atan = unary("atan", "The angle in (-pi/2, pi/2) whose tangent is x.", np.arctan,
             lambda g, y, x: [g / (x * x + 1)])
sinh = unary("sinh", "The hyperbolic sine.", np.sinh, lambda g, y, x: [g * cosh(x)])
cosh = unary("cosh", "The hyperbolic cosine.", np.cosh, lambda g, y, x: [g * sinh(x)])
tanh = unary("tanh", "The hyperbolic tangent.", np.tanh, lambda g, y, x: [g * (1 - y * y)])
asinh = unary("asinh", "The inverse of sinh.", np.arcsinh, lambda g, y, x: [g * rsqrt(x * x + 1)])
acosh = unary("acosh", "The inverse of cosh, on x >= 1.", np.arccosh,
              lambda g, y, x: [g * rsqrt((x - 1) * (x + 1))], samples=spread(1.1, 5))
atanh = unary("atanh", "The inverse of tanh.", np.arctanh,
              lambda g, y, x: [g / ((1 - x) * (1 + x))], samples=spread(-0.9, 0.9))

# -- error, logistic and gamma functions -----------------------------------------------------------

logistic = unary("logistic", "1 / (1 + exp(-x)).", lambda x: 1 / (1 + np.exp(-x)),
                 lambda g, y, x: [g * (y * (1 - y))])
erf = unary("erf", "The error function.", num.erf,
            lambda g, y, x: [g * (exp(-(x * x)) * (2 / math.sqrt(math.pi)))])
erfc = unary("erfc", "1 - erf(x), accurate for large x.", num.erfc,
             lambda g, y, x: [g * (exp(-(x * x)) * (-2 / math.sqrt(math.pi)))])
erfinv = unary("erfinv", "The y with erf(y) = x; infinite at 1 and -1, NaN beyond.", num.erfinv,
               lambda g, y, x: [g * (exp(y * y) * (math.sqrt(math.pi) / 2))],
               samples=spread(-0.95, 0.95))
lgamma = unary("lgamma", "The logarithm of the absolute value of the gamma function.", num.lgamma,
               lambda g, y, x: [g * digamma(x)], samples=spread(-2.9, 6))
digamma = unary("digamma", "The derivative of lgamma.", num.digamma,
                lambda g, y, x: [g * polygamma(x, n=1)],
                samples=spread(-3, 12))


def _polygamma_samples():
    return [(operands, {"n": n}) for n in (1, 2) for operands, _ in spread(-3, 12)()]


polygamma = elementwise(
    "polygamma", "x", doc="The n-th derivative of digamma, n >= 1; NaN at its poles.",
    types=lambda x, n: takes("polygamma", x, FLOAT),
    eval=num.rounded(num.polygamma), vjp=lambda g, y, x, n: [g * polygamma(x, n=n + 1)],
    scalar=gamma.polygamma, samples=_polygamma_samples)

# -- arithmetic of two operands --------------------------------------------------------------------

add = binary("add", "x + y.", np.add, lambda g, z, x, y: [g, g])
sub = binary("sub", "x - y.", np.subtract, lambda g, z, x, y: [g, -g])
mul = binary("mul", "x * y.", np.multiply, lambda g, z, x, y: [g * y, g * x])


def _div_vjp(g, z, x, y):
    share = g / y
    return [share, -(share * z)]


div = binary("div", "x / y, for floats.", np.divide, _div_vjp, FLOAT, samples=spread(0.5, 3, 2))
floordiv = binary("floordiv", "floor(x / y), Python's //; for integers 0 where y is 0.",
                  np.floor_divide, None, samples=spread(1, 9, 2))   # flat: no gradient
mod = binary("mod", "x - floor(x / y) * y, Python's %; for integers 0 where y is 0.", np.remainder,
             lambda g, z, x, y: [g, -(g * floordiv(x, y))], samples=spread(1, 9, 2))


def _extremum_vjp(wins):
    """The cotangent goes to the operand that wins; a tie shares it evenly."""

    def vjp(g, z, x, y):
        tie, half, none = eq(x, y), g * 0.5, zero(g)
        return [select(wins(x, y), g, select(tie, half, none)),
                select(wins(y, x), g, select(tie, half, none))]

    return vjp


min = binary("min", "The smaller; NaN where either is NaN.", np.minimum,
             _extremum_vjp(lambda x, y: lt(x, y)))
max = binary("max", "The larger; NaN where either is NaN.", np.maximum,
             _extremum_vjp(lambda x, y: gt(x, y)))


def _pow(x, y):
    return num.integer_power(x, y) if x.dtype.kind in "iu" else np.power(x, y)


def _pow_vjp(g, z, x, y):
    """y * x**(y-1), where 0**0 is flat; z * log(x), where x is positive."""
    if isinstance(y, Constant) and y.is_fill:
        n = y.value
        return [g * (pow(x, fill(y.type, n - 1)) * n) if n else None, None]
    flat = bit_and(eq(x, zero(x)), eq(y, zero(y)))
    power = pow(x, select(flat, zero(y), y - 1))
    positive = gt(x, zero(x))
    slope = z * log(select(positive, x, fill(x.type, 1)))
    return [g * (y * power), g * select(positive, slope, zero(x))]


pow = binary("pow", "x to the power y; integers wrap, and truncate negative powers.", _pow,
             _pow_vjp, samples=spread(0.2, 3, 2))
atan2 = binary("atan2", "The angle of the point (y, x), quadrant included.", np.arctan2,
               lambda g, z, x, y: [g * y / (x * x + y * y), -(g * x / (x * x + y * y))], FLOAT)

# -- bits: integers, no gradient -------------------------------------------------------------------

_whole = spread(0, 7, 2, whole=True)
bit_not = unary("bit_not", "Every bit flipped; logical not for bool.", np.invert, None, BITS,
                samples=spread(0, 7, whole=True))
bit_and = binary("bit_and", "Bits set in both; logical and for bool.", np.bitwise_and, None, BITS,
                 samples=_whole)
bit_or = binary("bit_or", "Bits set in either; logical or for bool.", np.bitwise_or, None, BITS,
                samples=_whole)
bit_xor = binary("bit_xor", "Bits set in just one; logical difference for bool.", np.bitwise_xor,
                 None, BITS, samples=_whole)


def _in_range(b, y):
    of = b.dtype(y)
    below = b.lt(y, b.const(of.bits, of))
    return below if of.kind == "u" else b.bit_and(b.ge(y, b.const(0, of)), below)


def _shl(b, x, y):
    nothing, inside = b.const(0, b.dtype(x)), _in_range(b, y)
    return b.select(inside, b.shl(x, b.select(inside, y, nothing)), nothing)


def _shr(b, x, y):
    of, inside = b.dtype(x), _in_range(b, y)
    nothing = b.const(0, of)
    out = nothing if of.kind == "u" else b.select(b.lt(x, nothing), b.const(-1, of), nothing)
    return b.select(inside, b.shr(x, b.select(inside, y, nothing)), out)


shl = binary("shl", "x * 2**y, wrapping; 0 where y is not in 0..bits-1.", np.left_shift, None,
             INTEGER, scalar=_shl, samples=_whole)
shr = binary("shr", "floor(x / 2**y); the sign alone where y is not in 0..bits-1.",
             np.right_shift, None, INTEGER, scalar=_shr, samples=_whole)


def _mulhi_types(x, y):
    if alike("mulhi", x, y).dtype is not u32:
        raise TypeFault(f"mulhi: found {x}, expected dtype u32")
    return x


mulhi = elementwise(
    "mulhi", "x y", doc="The high 32 bits of the 64-bit product of two u32.",
    types=_mulhi_types, vjp=None, scalar=op("mulhi"),
    eval=lambda x, y: np.asarray((np.multiply(x, y, dtype=np.uint64) >> np.uint64(32)),
                                 np.uint32),
    samples=lambda: [([np.array([2**32 - 1, 7, 2**31], np.uint32),
                       np.array([2**32 - 1, 9, 6], np.uint32)], {})])

# -- questions -------------------------------------------------------------------------------------

eq = comparison("eq", "x == y; NaN equals nothing.", np.equal)
ne = comparison("ne", "x != y.", np.not_equal)
lt = comparison("lt", "x < y.", np.less)
le = comparison("le", "x <= y.", np.less_equal)
gt = comparison("gt", "x > y.", np.greater)
ge = comparison("ge", "x >= y.", np.greater_equal)
is_finite = elementwise(
    "is_finite", "x", doc="Neither infinite nor NaN.",
    types=lambda x: takes("is_finite", x, FLOAT).with_dtype(boolean),
    eval=num.asked(np.isfinite), vjp=None, scalar=op("is_finite"),
    samples=lambda: [([np.array([1.0, np.inf, np.nan])], {})])

# -- choosing and converting -----------------------------------------------------------------------


def _select_types(c, x, y):
    result = alike("select", x, y)
    takes("select", c, BOOL)
    alike("select", c.with_dtype(result.dtype), x)
    return result


def _select_vjp(g, z, c, x, y):
    return [None, select(c, g, zero(g)), select(c, zero(g), g)]


def _select_jvp(dxs, z, c, x, y):
    _, dx, dy = dxs
    return select(c, zero(x) if dx is None else dx, zero(y) if dy is None else dy)


select = elementwise(
    "select", "c x y", doc="x where c holds, else y.", types=_select_types,
    eval=lambda c, x, y: np.asarray(np.where(c, x, y)), vjp=_select_vjp, jvp=_select_jvp,
    scalar=op("select"),
    samples=lambda: [([np.array([True, False, True]), np.array([1.0, 2, 3]),
                       np.array([4.0, 5, 6])], {}),
                     ([np.array(False), np.array(1.0), np.array(2.0)], {})])


def _cast_types(x, dtype: DType):
    return takes("cast", x).with_dtype(dtype)


def _cast_vjp(g, y, x, dtype: DType):
    return [cast(g, dtype=x.dtype) if x.dtype.is_float and dtype.is_float else None]


cast = elementwise(
    "cast", "x", doc="x in another dtype; float to integer truncates and saturates, NaN gives 0.",
    types=_cast_types, eval=lambda x, dtype: num.cast(x, dtype),
    vjp=_cast_vjp, jvp=lambda dxs, y, x, dtype: cast(dxs[0], dtype=dtype),
    scalar=lambda b, x, dtype: b.cast(x, dtype),
    samples=lambda: [([np.array([1.5, -2.25, 3.0])], {"dtype": num.dtype(name)})
                     for name in ("f64", "f32", "i64", "bool")])


def _bitcast_types(x, dtype: DType):
    if takes("bitcast", x, NUMBER).dtype.bits != dtype.bits or dtype is boolean:
        raise TypeFault(f"bitcast: found {x} for {dtype}, expected dtypes of the same width")
    return x.with_dtype(dtype)


def _bitcast(x, dtype: DType):
    return np.ascontiguousarray(x).view(dtype.numpy).reshape(np.shape(x))


bitcast = elementwise(
    "bitcast", "x", doc="The same bits read as another dtype of the same width.",
    types=_bitcast_types, eval=_bitcast, vjp=None,
    scalar=lambda b, x, dtype: b.bitcast(x, dtype),
    samples=lambda: [([np.array([1, 2**52, 7], np.uint64)], {"dtype": num.dtype("f64")}),
                     ([np.array([1.5, -2.0])], {"dtype": num.dtype("i64")})])

stop_gradient = elementwise(
    "stop_gradient", "x", doc="x, without a gradient.",
    types=lambda x: takes("stop_gradient", x, ANY), eval=np.asarray, vjp=None,
    scalar=lambda b, x: x, samples=spread(-3, 3))
