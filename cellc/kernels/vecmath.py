"""Elementwise mathematics for the CPU back end, emitted inline for scalars and vectors alike.

`emit(f, "exp", "<16 x float>", x)` appends straight-line code (sin, cos, tan: plus one rarely taken branch) and returns
the register of the result. Only portable LLVM operations are used, so one formula serves every target that has a
fused multiply-add. NaN, infinities, subnormal numbers and -0.0 are treated as IEEE 754 asks. Error bounds are in `ULP`.

Each function cuts its argument down to a small interval, evaluates a minimax polynomial there (`vecmath_tables`, from
`benchmarks/fit_minimax.py`) and puts the pieces together such that only the last additions round visibly.
"""

from __future__ import annotations

from . import vecmath_tables as tables
from .lanes import (FORMATS, Lanes, absolute, at_least, at_most, copysign, fma, intrinsic,
                    is_integer, polynomial, select)
from .text import Function, constant, element_type, mangled

INF, NAN = float("inf"), float("nan")


def table(name: str, x: Lanes) -> tuple[float, ...]:
    """The coefficients `name` in the precision of x."""
    return getattr(tables, name + {"float": "_F32", "double": "_F64"}[x.format.name])


def split(x: Lanes, name: str) -> tuple[float, ...]:
    """A constant as an unevaluated sum of numbers in the precision of x, largest first."""
    return SPLIT[name][x.format.name]


SPLIT = {
    "ln2": {"float": (0.6931471824645996, -1.9046542121259336e-09),
            "double": (0.6931471805599453, 2.3190468138462996e-17)},
    "short ln2": {"double": (0.6931471805598903, 5.497923018708371e-14)},      # n * short is exact
    "1/3": {"double": (0.3333333333333333, 1.850371707708594e-17)},
    "pi/2": {"float": (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
             "double": (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)},
}


# -- exponentials ------------------------------------------------------------------------------
def round_to_integer(x: Lanes, factor: float) -> tuple[Lanes, Lanes]:
    """x * factor rounded to the nearest integer, as a float and as an integer; |x * factor| is small.

    Adding 1.5 * 2^mantissa leaves the integer in the low bits: no conversion, and NaN is harmless.
    """
    magic = x.like(x.format.round_magic)
    shifted = fma(x, factor, magic)
    return shifted - magic, shifted.bits() - magic_bits(x)


def magic_bits(x: Lanes) -> int:
    """The bits of `round_magic` as an integer."""
    return ((x.format.bias + x.format.mantissa) << x.format.mantissa) + (1 << (x.format.mantissa - 1))


def power_of_two(n: Lanes, ty: str) -> Lanes:
    """2^n for integers n in the normal range."""
    fmt = FORMATS[element_type(ty)]
    return ((n << fmt.mantissa) + fmt.one_bits).from_bits(ty)


def scale(y: Lanes, n: Lanes) -> Lanes:
    """y * 2^n for y around 1, in two steps as 2^n alone may overflow or vanish; rounded once."""
    half = n >> 1
    return y * power_of_two(half, y.ty) * power_of_two(n - half, y.ty)


def exp_parts(x: Lanes, rest: Lanes | float = 0.0) -> tuple[Lanes, Lanes]:
    """p and n with e^(x + rest) = 2^n (1 + p), -0.3 < p < 0.42; p keeps its relative accuracy near 0.

    `rest` is what x lost when it was rounded.
    """
    ln2 = split(x, "ln2")
    n_float, n = round_to_integer(x, 1.44269504088896340736)
    high = fma(n_float, -ln2[0], x)
    r = high + fma(n_float, -ln2[1], rest) if isinstance(rest, Lanes) else fma(n_float, -ln2[1], high)
    return fma(r * r, polynomial(r, table("EXPM1", x)), r), n


EXP_RANGE = {"float": (-104.0, 89.0), "double": (-746.0, 710.0)}    # outside: 0 and infinity
EXPM1_FLOOR = {"float": -18.0, "double": -38.0}                     # below: -1


def exp(x: Lanes) -> Lanes:
    low, high = EXP_RANGE[x.format.name]
    p, n = exp_parts(at_least(at_most(x, high), low))
    return scale(p + 1.0, n)


def expm1_bounded(x: Lanes) -> Lanes:
    """e^x - 1 for x which neither overflows nor lies below EXPM1_FLOOR; loses the sign of -0.0."""
    p, n = exp_parts(x)
    power = power_of_two(n, x.ty)
    return fma(power, p, power - 1.0)


def expm1(x: Lanes) -> Lanes:
    """2^n p + (2^n - 1), computed at half size so that 2^n does not overflow before the result does."""
    p, n = exp_parts(at_least(at_most(x, EXP_RANGE[x.format.name][1]), EXPM1_FLOOR[x.format.name]))
    power = power_of_two(n - 1, x.ty)
    result = fma(power, p, power - 0.5) * 2.0
    return select(absolute(x) < 2.0**-60, x, result)


def tanh(x: Lanes) -> Lanes:
    """e / (e + 2) with e = expm1(2|x|); beyond the bound the quotient is 1 to the last bit."""
    bound = {"float": 18.4, "double": 40.0}[x.format.name]
    e = expm1_bounded(at_most(absolute(x) * 2.0, bound))
    return copysign(e / (e + 2.0), x)


def logistic(x: Lanes) -> Lanes:
    """1 / (1 + e^-|x|), or for negative x e^-|x| / (1 + e^-|x|): that keeps the small tail accurate."""
    e = exp(-absolute(x))
    return select(x < 0.0, e, 1.0) / (e + 1.0)


# -- logarithms --------------------------------------------------------------------------------
SQRT_HALF_BITS = {"float": 0x3F3504F3, "double": 0x3FE6A09E667F3BCD}


def log_parts(x: Lanes) -> tuple[Lanes, Lanes]:
    """n (a float) and f with x = 2^n (1 + f), 1 + f in [sqrt(1/2), sqrt(2)); any x > 0, finite."""
    fmt = x.format
    subnormal = x < fmt.smallest_normal
    lifted = select(subnormal, x * 2.0 ** (fmt.mantissa + 2), x)
    n, mantissa = exponent_and_mantissa(lifted)
    bias = select(subnormal, x.like(fmt.round_magic + (fmt.mantissa + 2)), fmt.round_magic)
    return (n + magic_bits(x)).from_bits(x.ty) - bias, mantissa - 1.0


def exponent_and_mantissa(x: Lanes) -> tuple[Lanes, Lanes]:
    """Integer n and m in [sqrt(1/2), sqrt(2)) with x = 2^n m, for normal positive x."""
    start = SQRT_HALF_BITS[x.format.name]
    offset = x.bits() - start
    mantissa = ((offset & ((1 << x.format.mantissa) - 1)) + start).from_bits(x.ty)
    return offset >> x.format.mantissa, mantissa


def log1p_reduced(f: Lanes, n: Lanes) -> Lanes:
    """n ln 2 + log(1 + f) for f as `log_parts` gives it."""
    ln2 = split(f, "ln2")
    if f.format.name == "float":
        square = f * f
        tail = fma(square * f, polynomial(f, table("LOG1P", f)), n * ln2[1])
        return fma(n, ln2[0], fma(square, -0.5, tail) + f)
    # log(1+f) = 2 atanh(s) with s = f/(2+f), written as f - (f^2/2 - s (f^2/2 + R)), R = 2 atanh(s)/s - 2
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    bend = fma(s, fma(z, polynomial(z, table("ATANH", f)), half_square), n * ln2[1])
    return fma(n, ln2[0], f - (half_square - bend))


def log_specials(x: Lanes, result: Lanes) -> Lanes:
    """log at and outside the ends of its domain."""
    result = select(x < INF, result, x)
    result = select(x.equals(0.0), -INF, result)
    return select(x < 0.0, NAN, result)


def log(x: Lanes) -> Lanes:
    n, f = log_parts(x)
    return log_specials(x, log1p_reduced(f, n))


def log1p(x: Lanes) -> Lanes:
    """log of 2^n (1 + f), where 1 + x rounded gives n, and f = x 2^-n + (2^-n - 1) is rounded once.

    Where 2^-n would be subnormal, x itself has long absorbed the 1.
    """
    total = x + 1.0
    n, mantissa = exponent_and_mantissa(total)
    shrink = power_of_two(0 - n, x.ty)
    f = select(x < 2.0**64, fma(x, shrink, shrink - 1.0), mantissa - 1.0)
    n_float = (n + magic_bits(x)).from_bits(x.ty) - x.format.round_magic
    return copysign(log_specials(total, log1p_reduced(f, n_float)), x)


# -- the error function ------------------------------------------------------------------------
def erf(x: Lanes) -> Lanes:
    return copysign({"float": erf_f32, "double": erf_f64}[x.format.name](x), x)


def erf_f32(x: Lanes) -> Lanes:
    """x + x P(x^2) near 0, further out 1 - e^(-t Q(t)); both up to sign."""
    t = at_most(absolute(x), 4.0)
    near = fma(t, polynomial(x * x, tables.ERF_F32), t)
    far = -expm1_bounded(-t * polynomial(t, tables.ERF_TAIL_F32))
    return select(t < 0.93, near, far)


def erf_f64(x: Lanes) -> Lanes:
    t = absolute(x)
    near = fma(t, polynomial(x * x, tables.ERF_F64), t)
    return select(t < 1.0, near, 1.0 - erfc_tail(at_most(t, 7.0)))


def erfc(x: Lanes) -> Lanes:
    """1 - erf near 0; far out e^(-x^2) times a polynomial, and 2 minus that on the left."""
    t = absolute(x)
    near = 1.0 - fma(x, polynomial(x * x, table("ERF", x)), x)
    tail = erfc_tail(at_most(t, {"float": 10.5, "double": 28.0}[x.format.name]))
    return select(t < 0.5, near, select(x < 0.0, 2.0 - tail, tail))


def erfc_tail(t: Lanes) -> Lanes:
    """erfc(t), t >= 1/2, as e^(-t^2) P(q) / (1 + 2t) with q = (t - k)/(t + k)."""
    center = {"float": 3.0, "double": 4.0}[t.format.name]
    square = t * t
    p, n = exp_parts(-square, fma(t, -t, square))
    shape = polynomial((t - center) / (t + center), table("ERFCX", t)) / fma(t, 2.0, 1.0)
    return scale(fma(p, shape, shape), n)


# -- trigonometry ------------------------------------------------------------------------------
TWO_OVER_PI = 0.636619772367581343076
REDUCED_EXACTLY = {"float": 2.0**15, "double": 2.0**29}       # |x| below: three parts of pi/2 suffice


def quarter_turns(x: Lanes) -> tuple[Lanes, Lanes]:
    """r and integer q with x = q pi/2 + r, |r| <= pi/4 and a little."""
    parts = split(x, "pi/2")
    q_float, q = round_to_integer(x, TWO_OVER_PI)
    r = fma(q_float, -parts[0], x)
    for part in parts[1:]:
        r = fma(q_float, -part, r)
    return replace_rare(absolute(x) > REDUCED_EXACTLY[x.format.name], [r, q],
                        lambda: quarter_turns_of_huge(x))


def replace_rare(condition: Lanes, common: list[Lanes], rare) -> list[Lanes]:
    """`common`, but in lanes where `condition` holds what `rare()` gives; skipped if there are none."""
    f = condition.f
    some = condition.text
    if condition.ty != "i1":
        some = f.call("i1", f"llvm.vector.reduce.or.{mangled(condition.ty)}",
                      (condition.ty, condition.text))
    before, then, done = f.block, f.label("rare"), f.label("common")
    f.branch_if(some, then, done)
    f.start(then)
    replaced = [select(condition, new, old) for new, old in zip(rare(), common, strict=True)]
    after = f.block
    f.branch(done)
    f.start(done)
    return [Lanes(f, old.ty, f.op(f"phi {old.ty} [ {old.text}, %{before} ], [ {new.text}, %{after} ]"))
            for old, new in zip(common, replaced, strict=True)]


CHUNK_BITS, CHUNK_SCALE = 53, 200
CHUNKS = {"float": 4, "double": 22}       # enough bits of 2/pi for the largest number and the closest miss


def two_over_pi_chunks(f: Function) -> str:
    """A global array: 2/pi times 2^CHUNK_SCALE as an exact sum of doubles of 53 consecutive bits."""
    chunks = [bits * 2.0 ** (CHUNK_SCALE - CHUNK_BITS * (k + 1))
              for k, bits in enumerate(tables.TWO_OVER_PI_CHUNKS)]
    literals = ", ".join(f"double {constant(chunk, 'double')}" for chunk in chunks)
    definition = (f"@cellc.two_over_pi = private unnamed_addr constant [{len(chunks)} x double] "
                  f"[{literals}]")
    if definition not in f.module.globals:
        f.module.globals.append(definition)
    return "@cellc.two_over_pi"


def quarter_turns_of_huge(x: Lanes) -> tuple[Lanes, Lanes]:
    """`quarter_turns` for any size of x, after Payne and Hanek, in doubles.

    x 2/pi is summed chunk by chunk; each exact product p + e drops its multiples of 4 at once, and the sum its integers,
    so what cancels near a multiple of pi/2 has cancelled before the small chunks arrive.
    """
    f = x.f
    wide = x if x.format.name == "double" else x.convert("fpext", "double")
    wide = wide * 2.0**-CHUNK_SCALE
    array, zero = two_over_pi_chunks(f), wide.like(0.0)
    with f.loop("0", str(CHUNKS[x.format.name]), 1,
                [(wide.ty, zero.text)] * 3) as loop:
        high, low, turns = (Lanes(f, wide.ty, text) for text in loop.carried)
        chunk = splat(Lanes(f, "double", f.load("double", f.gep("double", array, loop.index))),
                      wide.ty)
        product = wide * chunk
        for term in (product, fma(wide, chunk, -product)):
            term = fma(intrinsic("rint", term * 0.25), -4.0, term)
            high, error = two_sum(high, term)
            low = low + error
            whole = intrinsic("rint", high)
            high, turns = high - whole, turns + whole
        loop.next = [high.text, low.text, turns.text]
    high, low, turns = (Lanes(f, wide.ty, text) for text in loop.results)
    high, low = two_sum(high, low)
    whole = intrinsic("rint", high)
    high, turns = high - whole, turns + whole
    half_pi = split(wide, "pi/2")
    r = fma(high, half_pi[0], fma(high, half_pi[1], low * half_pi[0]))
    if x.format.name == "float":
        r, turns = r.convert("fptrunc", "float"), turns.convert("fptrunc", "float")
    return r, round_to_integer(turns, 1.0)[1]


def two_sum(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """a + b and its rounding error, exactly (Knuth)."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def splat(x: Lanes, ty: str) -> Lanes:
    """The scalar x in every lane of `ty`."""
    if ty == x.ty:
        return x
    single = x.f.op(f"insertelement {ty} poison, {x.ty} {x.text}, i32 0")
    mask = f"<{ty[1:].split(' x ')[0]} x i32> zeroinitializer"
    return Lanes(x.f, ty, x.f.op(f"shufflevector {ty} {single}, {ty} poison, {mask}"))


def sin_cos_reduced(r: Lanes) -> tuple[Lanes, Lanes]:
    """sin r and cos r for |r| <= pi/4."""
    z = r * r
    sin_r = fma(r * z, polynomial(z, table("SIN", r)), r)
    cos_r = fma(z, fma(z, polynomial(z, table("COS", r)), -0.5), 1.0)
    return copysign(sin_r, r), cos_r


def sine_of_quarters(x: Lanes, extra: int) -> Lanes:
    """sin(x + extra pi/2)."""
    r, q = quarter_turns(x)
    q = q + extra if extra else q
    sin_r, cos_r = sin_cos_reduced(r)
    unsigned = select((q & 1).equals(0), sin_r, cos_r)
    return (unsigned.bits() ^ ((q & 2) << (x.format.width - 2))).from_bits(x.ty)


def sin(x: Lanes) -> Lanes:
    return sine_of_quarters(x, 0)


def cos(x: Lanes) -> Lanes:
    return sine_of_quarters(x, 1)


def tan(x: Lanes) -> Lanes:
    """sin/cos of the reduced argument, or -cos/sin after an odd number of quarter turns."""
    r, q = quarter_turns(x)
    sin_r, cos_r = sin_cos_reduced(r)
    even = (q & 1).equals(0)
    return select(even, sin_r, -cos_r) / select(even, cos_r, sin_r)


# -- powers ------------------------------------------------------------------------------------
def sqrt(x: Lanes) -> Lanes:
    return intrinsic("sqrt", x)


def rsqrt(x: Lanes) -> Lanes:
    return 1.0 / intrinsic("sqrt", x)


def power(x: Lanes, y: Lanes) -> Lanes:
    """|x|^y by logarithms in higher precision, then the cases of IEEE 754 in the order they override."""
    largest = {"float": 1e30, "double": 1e300}[x.format.name]       # finite, and any power is 0, 1 or inf
    base, exponent = absolute(x), at_least(at_most(y, largest), -largest)
    result = {"float": power_f32, "double": power_f64}[x.format.name](base, exponent)
    flip = select(y < 0.0, x.like(INF).bits(), 0)                            # 0 <-> infinity
    result = select(base.equals(0.0) | base.equals(INF), (base.bits() ^ flip).from_bits(x.ty),
                    result)
    whole = is_integer(y)
    result = select(whole & ~is_integer(y * 0.5), copysign(result, x), result)
    result = select((x < 0.0) & (x > -INF) & ~whole, NAN, result)
    result = select(x.is_nan() | y.is_nan(), NAN, result)
    return select(x.equals(1.0) | y.equals(0.0), 1.0, result)


def power_f32(base: Lanes, exponent: Lanes) -> Lanes:
    """2^(y log2 x) in doubles: log2(1 + f) = f P(f), 2^r = 1 + r Q(r); any overflow rounds to infinity."""
    wide, y = base.convert("fpext", "double"), exponent.convert("fpext", "double")
    n, mantissa = exponent_and_mantissa(wide)
    n_float = (n + magic_bits(wide)).from_bits(wide.ty) - wide.format.round_magic
    f = mantissa - 1.0
    logarithm = fma(f, polynomial(f, tables.LOG2_WIDE_F64), n_float)
    product = at_least(at_most(y * logarithm, 200.0), -200.0)
    whole, whole_bits = round_to_integer(product, 1.0)
    r = product - whole
    fraction = fma(r, polynomial(r, tables.EXP2_WIDE_F64), 1.0)
    return (fraction * power_of_two(whole_bits, wide.ty)).convert("fptrunc", "float")


def power_f64(base: Lanes, exponent: Lanes) -> Lanes:
    """e^(y log x) with log x and the product as sums of two doubles."""
    high, low = log_double_double(base)
    product = exponent * high
    rest = fma(exponent, high, -product) + exponent * low
    floor, ceiling = EXP_RANGE["double"]
    rest = select(absolute(product) < -floor, rest, 0.0)
    p, n = exp_parts(at_least(at_most(product, ceiling), floor), rest)
    return scale(p + 1.0, n)


def log_double_double(x: Lanes) -> tuple[Lanes, Lanes]:
    """log x, x > 0 and finite, as an unevaluated sum with about 68 good bits.

    With s = f/(2+f): log(1+f) = 2s (1 + T), T = s^2/3 + s^4 R(s^2). Only R is evaluated in plain doubles.
    """
    n, f = log_parts(x)
    denominator = f + 2.0
    denominator_low = f - (denominator - 2.0)
    inverse = 1.0 / denominator
    s = f * inverse
    s_low = (fma(-s, denominator, f) - s * denominator_low) * inverse
    z = s * s
    z_low = fma(s, s, -z) + s * 2.0 * s_low
    third, third_low = split(x, "1/3")
    cubic = z * third
    cubic_low = fma(z, third, -cubic) + fma(z, third_low, z_low * third)
    t, t_low = fast_two_sum(cubic, z * z * polynomial(z, tables.ATANH_TAIL_F64))
    t_low = t_low + cubic_low
    double_s, double_s_low = s * 2.0, s_low * 2.0
    bend = double_s * t
    bend_low = fma(double_s, t, -bend) + fma(double_s, t_low, double_s_low * t)
    high, low = fast_two_sum(double_s, bend)
    low = low + (double_s_low + bend_low)
    short_ln2, rest_of_ln2 = split(x, "short ln2")
    high, error = fast_two_sum(n * short_ln2, high)
    return fast_two_sum(high, fma(n, rest_of_ln2, low) + error)


def fast_two_sum(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """a + b and its rounding error, exactly, where |a| >= |b| or a is 0 (Dekker)."""
    total = a + b
    return total, b - (total - a)


# -- the table of functions --------------------------------------------------------------------
FUNCTIONS = {
    "exp": exp, "expm1": expm1, "log": log, "log1p": log1p, "tanh": tanh, "logistic": logistic,
    "erf": erf, "erfc": erfc, "sin": sin, "cos": cos, "tan": tan, "sqrt": sqrt, "rsqrt": rsqrt, "pow": power,
}

NAMES = {name: function.__code__.co_argcount for name, function in FUNCTIONS.items()}

# The largest error in units of the last place, over all arguments.
ULP = {
    "exp": {"float": 1.0, "double": 1.0}, "expm1": {"float": 1.5, "double": 1.5},
    "log": {"float": 1.0, "double": 1.0}, "log1p": {"float": 1.5, "double": 1.5},
    "tanh": {"float": 2.5, "double": 2.5}, "logistic": {"float": 2.5, "double": 2.5},
    "erf": {"float": 1.0, "double": 1.5}, "erfc": {"float": 3.5, "double": 3.5},
    "sin": {"float": 1.6, "double": 1.6}, "cos": {"float": 1.6, "double": 1.6},
    "tan": {"float": 3.0, "double": 3.0}, "sqrt": {"float": 0.5, "double": 0.5},
    "rsqrt": {"float": 1.5, "double": 1.5}, "pow": {"float": 0.6, "double": 1.0},
}


def emit(f: Function, name: str, ty: str, *operands: str) -> str:
    """Append the code of function `name` on registers of type `ty`; the register of the result.

    Shapes: ty is float, double or a vector of either; operands and result have it.
    Errors: KeyError for a name not in NAMES, TypeError for a wrong number of operands.
    """
    return FUNCTIONS[name](*(Lanes(f, ty, operand) for operand in operands)).text
