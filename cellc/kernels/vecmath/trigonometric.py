"""Trigonometric functions and their inverses."""

from __future__ import annotations

from cellc.kernels.text import Function, constant
from cellc.kernels.vecmath import tables
from cellc.kernels.vecmath.exponential import round_to_integer
from cellc.kernels.vecmath.lanes import (
    Lanes,
    absolute,
    copysign,
    fma,
    intrinsic,
    polynomial,
    replace_rare,
    select,
    splat,
    two_sum,
)
from cellc.kernels.vecmath.logarithm import INF, NAN

SHORT_ENOUGH = {"float": 2.0**15, "double": 2.0**29}     # |x| below: three parts of pi/2 suffice

# 2/pi as doubles of 53 consecutive bits, times 2^CHUNK_SCALE so that none is subnormal; how many
# reach past the largest number's last bit and the closest it comes to a multiple of pi/2.
CHUNK_BITS, CHUNK_SCALE = 53, 200
CHUNKS = {"float": 4, "double": 22}


# -- reduction by pi/2 -------------------------------------------------------------------------
def quarter_turns(x: Lanes) -> list[Lanes]:
    """r and integer q (modulo 4) with x = q pi/2 + r, |r| <= pi/4 and a little."""
    parts = tables.split("HALF_PI", x)
    q_float, q = round_to_integer(x, tables.TWO_OVER_PI)
    r = x
    for part in parts:
        r = fma(q_float, -part, r)
    return replace_rare(absolute(x) > SHORT_ENOUGH[x.element], [r, q],
                        lambda: quarter_turns_of_huge(x))


def quarter_turns_of_huge(x: Lanes) -> list[Lanes]:
    """`quarter_turns` for any size of x, after Payne and Hanek, in doubles.

    x 2/pi is summed chunk by chunk. Each exact product p + e drops its multiples of 4 at once, and
    the sum its integers: what cancels near a multiple of pi/2 has cancelled before the small
    chunks arrive.
    """
    f = x.f
    wide = x if x.element == "double" else x.convert("fpext", "double")
    wide = wide * 2.0**-CHUNK_SCALE
    array, zero = two_over_pi_chunks(f), wide.like(0.0).text
    with f.loop("0", str(CHUNKS[x.element]), 1, [(wide.ty, zero)] * 3) as loop:
        high, low, turns = (Lanes(f, wide.ty, text) for text in loop.carried)
        address = f.gep("double", array, loop.index)
        chunk = splat(Lanes(f, "double", f.load("double", address)), wide.ty)
        product = wide * chunk
        for term in (product, fma(wide, chunk, -product)):
            below_four = fma(intrinsic("rint", term * 0.25), -4.0, term)
            high, error = two_sum(high, below_four)
            low = low + error
            whole = intrinsic("rint", high)
            high, turns = high - whole, turns + whole
        loop.next = [high.text, low.text, turns.text]
    high, low, turns = (Lanes(f, wide.ty, text) for text in loop.results)
    high, low = two_sum(high, low)
    whole = intrinsic("rint", high)
    high, turns = high - whole, turns + whole
    half_pi = tables.split("HALF_PI", wide)
    r = fma(high, half_pi[0], fma(high, half_pi[1], low * half_pi[0]))
    if x.element == "float":
        r, turns = r.convert("fptrunc", "float"), turns.convert("fptrunc", "float")
    return [r, round_to_integer(turns, 1.0)[1]]


def two_over_pi_chunks(f: Function) -> str:
    """The name of a global array of the chunks in the module of `f`."""
    chunks = [bits * 2.0 ** (CHUNK_SCALE - CHUNK_BITS * (k + 1))
              for k, bits in enumerate(tables.TWO_OVER_PI_CHUNKS)]
    literals = ", ".join(f"double {constant(chunk, 'double')}" for chunk in chunks)
    definition = (f"@cellc.two_over_pi = private unnamed_addr constant "
                  f"[{len(chunks)} x double] [{literals}]")
    if definition not in f.module.globals:
        f.module.globals.append(definition)
    return "@cellc.two_over_pi"


# -- sine, cosine, tangent ---------------------------------------------------------------------
def sin_cos_reduced(r: Lanes) -> tuple[Lanes, Lanes]:
    """sin r and cos r for |r| <= pi/4."""
    z = r * r
    sin_r = fma(r * z, polynomial(z, tables.of("SIN", r)), r)
    cos_r = fma(z, fma(z, polynomial(z, tables.of("COS", r)), -0.5), 1.0)
    return copysign(sin_r, r), cos_r


def sine_of_quarters(x: Lanes, extra: int) -> Lanes:
    """sin(x + extra pi/2): an odd number of quarter turns takes the cosine, two change the sign."""
    r, q = quarter_turns(x)
    q = q + extra if extra else q
    sin_r, cos_r = sin_cos_reduced(r)
    unsigned = select((q & 1).is_zero(), sin_r, cos_r)
    return (unsigned.bits() ^ ((q & 2) << (x.format.width - 2))).from_bits(x.ty)


def sin(x: Lanes) -> Lanes:
    return sine_of_quarters(x, 0)


def cos(x: Lanes) -> Lanes:
    return sine_of_quarters(x, 1)


def tan(x: Lanes) -> Lanes:
    """sin/cos of the reduced argument, or -cos/sin after an odd number of quarter turns."""
    r, q = quarter_turns(x)
    sin_r, cos_r = sin_cos_reduced(r)
    even = (q & 1).is_zero()
    return select(even, sin_r, -cos_r) / select(even, cos_r, sin_r)


# -- inverses ----------------------------------------------------------------------------------
def asin(x: Lanes) -> Lanes:
    """Near 0 a polynomial; beyond 1/2 by asin t = pi/2 - 2 asin sqrt((1 - t)/2)."""
    t = absolute(x)
    outer, s, bend = asin_parts(t)
    half_pi = tables.split("HALF_PI", x)
    far = fma(s, -2.0, half_pi[0]) + fma(bend, -2.0, half_pi[1])
    return copysign(select(outer, far, s + bend), x)


def acos(x: Lanes) -> Lanes:
    t = absolute(x)
    outer, s, bend = asin_parts(t)
    half_pi = tables.split("HALF_PI", x)
    middle = half_pi[0] - (copysign(s, x) - (half_pi[1] - copysign(bend, x)))
    right = (s + bend) * 2.0
    left = half_pi[0] * 2.0 - (right - half_pi[1] * 2.0)
    return select(outer, select(x < 0.0, left, right), middle)


def asin_parts(t: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """Whether t > 1/2, s = t or there sqrt((1 - t)/2), and asin(s) - s; NaN where t > 1."""
    outer = t > 0.5
    z = select(outer, fma(t, -0.5, 0.5), t * t)
    s = select(outer, intrinsic("sqrt", z), t)
    return outer, s, s * z * polynomial(z, tables.of("ASIN", t))


def atan(x: Lanes) -> Lanes:
    return copysign(angle(absolute(x), x.like(1.0)), x)


def angle(a: Lanes, b: Lanes) -> Lanes:
    """atan(a / b) for a, b >= 0, not both 0 or both infinite.

    Turned back by 0, pi/4 or pi/2 to leave |r| <= 1/2; one division serves the three cases.
    """
    half_pi = tables.split("HALF_PI", a)
    steep, middle = a > b * 2.0, a > b * 0.5
    numerator = select(steep, -b, select(middle, a - b, a))
    denominator = select(steep, a, select(middle, a + b, b))
    r = numerator / denominator
    z = r * r
    rest = fma(r * z, polynomial(z, tables.of("ATAN", r)), r)
    high = select(steep, a.like(half_pi[0]), select(middle, a.like(half_pi[0] / 2), 0.0))
    low = select(steep, a.like(half_pi[1]), select(middle, a.like(half_pi[1] / 2), 0.0))
    return high + (rest + low)


def atan2(y: Lanes, x: Lanes) -> Lanes:
    """The angle of (|x|, |y|), mirrored at the axes as the signs, also of zeros, ask."""
    a, b = absolute(y), absolute(x)
    infinite = a.equals(INF) | b.equals(INF)
    a, b = (select(infinite, select(side.equals(INF), side.like(1.0), 0.0), side)
            for side in (a, b))
    factor = select(a > 2.0 ** (x.format.bias - 2), a.like(0.25), 1.0)       # a + b may overflow
    b = select(a.equals(0.0), 1.0, b)
    result = angle(a * factor, b * factor)
    half_pi = tables.split("HALF_PI", x)
    left = half_pi[0] * 2.0 - (result - half_pi[1] * 2.0)
    result = select(copysign(x.like(1.0), x) < 0.0, left, result)
    return select(x.is_nan() | y.is_nan(), NAN, copysign(result, y))
