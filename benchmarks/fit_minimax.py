"""Where the coefficients of `cellc/kernels/vecmath/tables.py` come from.

Every table entry is the polynomial P of given degree which makes the largest value of
|weight(x) (target(x) - P(variable(x)))| on an interval smallest. Remez's exchange algorithm finds
it on a fine Chebyshev grid in 60-digit arithmetic; the coefficients are then rounded to the element
type. The targets leave out the leading terms (the x of sin x = x + x^3 S(x^2)), so rounding a
coefficient costs a small fraction of an ulp.

    python benchmarks/fit_minimax.py > cellc/kernels/vecmath/tables.py
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Callable

import mpmath as mp
import numpy as np

mp.mp.dps = 60
GRID_POINTS_PER_COEFFICIENT = 24


@dataclasses.dataclass
class Fit:
    """One polynomial: `target(x)` as a polynomial in `variable(x)` for x in [low, high]."""

    name: str
    target: Callable
    weight: Callable
    low: float
    high: float
    degrees: dict[str, int]                 # element type -> degree
    variable: Callable = lambda x: x


def square(x):
    return x * x


def cut(series: Callable, tiny: str = "1e-20"):
    """A quotient that is 0/0 at the origin is taken a little beside it, at higher precision."""
    def value(x):
        with mp.workdps(140):
            return series(x if abs(x) > mp.mpf(tiny) else mp.mpf(tiny))
    return value


def remez(fit: Fit, degree: int) -> tuple[list, float]:
    """The minimax coefficients, lowest first, and the largest weighted error."""
    count = (degree + 2) * GRID_POINTS_PER_COEFFICIENT
    middle, half = (mp.mpf(fit.high) + fit.low) / 2, (mp.mpf(fit.high) - fit.low) / 2
    grid = [middle - half * mp.cos(mp.pi * k / (count - 1)) for k in range(count)]
    points = np.array([fit.variable(x) for x in grid])
    values = np.array([mp.mpf(fit.target(x)) for x in grid])
    weights = np.array([abs(mp.mpf(fit.weight(x))) + mp.mpf("1e-18") for x in grid])
    chosen = [round(k * (count - 1) / (degree + 1)) for k in range(degree + 2)]
    for _ in range(60):
        rows = [[points[i] ** p for p in range(degree + 1)] + [(-1) ** k / weights[i]]
                for k, i in enumerate(chosen)]
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([values[i] for i in chosen]))
        coefficients = list(solution)[:-1]
        errors = weights * (values - horner(coefficients, points))
        largest = max(abs(errors))
        if largest <= abs(solution[degree + 1]) * mp.mpf("1.001"):
            break
        chosen = exchange(errors, degree + 2)
    return coefficients, float(largest)


def horner(coefficients: list, points):
    total = points * 0 + coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        total = total * points + coefficient
    return total


def exchange(errors, wanted: int) -> list[int]:
    """Indices of `wanted` extrema of alternating sign, the largest ones."""
    peaks: list[int] = []
    for i, error in enumerate(errors):
        if peaks and (errors[peaks[-1]] > 0) == (error > 0):
            if abs(error) > abs(errors[peaks[-1]]):
                peaks[-1] = i
        else:
            peaks.append(i)
    while len(peaks) > wanted:
        if len(peaks) == wanted + 1:          # one too many: an end must go, the alternation stays
            peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
            continue
        pairs = [max(abs(errors[a]), abs(errors[b])) for a, b in itertools.pairwise(peaks)]
        weakest = min(range(len(pairs)), key=pairs.__getitem__)
        del peaks[weakest:weakest + 2]
    if len(peaks) < wanted:
        raise ArithmeticError(f"only {len(peaks)} of {wanted} extrema: a degree too high")
    return peaks


HALF_LN2 = 0.34658
SQRT_HALF, SQRT_TWO = 0.70710678, 1.41421357
QUARTER_PI = 0.785399
GAMMA_STIRLING = 6.0                   # lgamma and digamma use their asymptotic series from here


def log1p_tail(f):
    return (mp.log1p(f) - f + f * f / 2) / f**3


def scaled_erfcx(x):
    """e^(x^2) erfc(x), times 1 + 2x to keep it near 1 (Shepherd and Laframboise, 1981)."""
    return (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x)


def erfinv_quotient(w):
    """erfinv(x) / x for w = -log(1 - x^2)."""
    with mp.workdps(100):
        x = mp.sqrt(-mp.expm1(-max(mp.mpf(w), mp.mpf("1e-40"))))
        y = mp.erfinv(mp.mpf(mp.nstr(x, 60)))
        return y / x


def odd_tail(function: Callable):
    """(f(x)/x - 1)/x^2 of an odd function with f'(0) = 1, and the weight of f = x + x^3 P(x^2)."""
    return (cut(lambda x: (function(x) / x - 1) / x**2), cut(lambda x: x**3 / function(x)))


def lgamma_quotient(x):
    """lgamma without its zeros at 1 and 2."""
    with mp.workdps(100):
        x = mp.mpf(x)
        if min(abs(x - 1), abs(x - 2)) < mp.mpf("1e-20"):
            x += mp.mpf("1e-20")
        return mp.loggamma(x) / ((x - 1) * (x - 2))


def lgamma_remainder(u):
    """What Stirling's formula leaves at x = 1/u, times x."""
    x = 1 / u
    return (mp.loggamma(x) - (x - mp.mpf(1) / 2) * mp.log(x) + x - mp.log(2 * mp.pi) / 2) * x


def digamma_remainder(u):
    x = 1 / u
    return (mp.digamma(x) - mp.log(x) + u / 2) * x * x


def fits() -> list[Fit]:
    """What is fitted. Each weight makes the error relative to the function finally returned."""
    return [
        Fit("EXP", cut(lambda r: (mp.expm1(r) - r) / r**2), lambda r: r**2 / mp.exp(r),
            -HALF_LN2, HALF_LN2, {"float": 4, "double": 9}),
        Fit("EXPM1", cut(lambda r: (mp.expm1(r) - r) / r**2),
            cut(lambda r: r**2 / mp.expm1(r)), -HALF_LN2, HALF_LN2, {"float": 4, "double": 9}),
        Fit("EXP2", cut(lambda r: mp.expm1(r * mp.ln(2)) / r), lambda r: r / mp.mpf(2) ** r,
            -0.5, 0.5, {"float": 5, "double": 10}),
        Fit("EXP2_WIDE", cut(lambda r: mp.expm1(r * mp.ln(2)) / r), lambda r: r / mp.mpf(2) ** r,
            -0.5, 0.5, {"double": 5}),
        Fit("LOG1P", cut(log1p_tail), cut(lambda f: f**3 / mp.log1p(f)),
            SQRT_HALF - 1, SQRT_TWO - 1, {"float": 8}),
        Fit("LOG2_WIDE", cut(lambda f: mp.log1p(f) / f / mp.ln(2)), lambda f: 1,
            SQRT_HALF - 1, SQRT_TWO - 1, {"double": 13}),
        Fit("ATANH", cut(lambda s: (2 * mp.atanh(s) / s - 2) / s**2),
            cut(lambda s: s**3 / mp.atanh(s)), 0, 0.17158, {"double": 6}, square),
        Fit("ATANH_TAIL", cut(lambda s: (mp.atanh(s) / s - 1 - s * s / 3) / s**4),
            cut(lambda s: s**5 / mp.atanh(s)), 0, 0.17158, {"double": 6}, square),
        Fit("SIN", *odd_tail(mp.sin), 0, QUARTER_PI, {"float": 2, "double": 5}, square),
        Fit("COS", cut(lambda r: (mp.cos(r) - 1 + r * r / 2) / r**4),
            lambda r: r**4 / mp.cos(r), 0, QUARTER_PI, {"float": 2, "double": 5}, square),
        Fit("ERF", cut(lambda x: mp.erf(x) / x - 1), cut(lambda x: x / mp.erf(x)),
            0, 1.0001, {"float": 6, "double": 11}, square),
        Fit("ERF_FAR", lambda t: -mp.erfc(t), lambda t: 1 / mp.erf(t), 1.0, 3.93, {"float": 14},
            lambda t: t - 2.5),
        Fit("ERFCX", scaled_erfcx, lambda x: 1 / scaled_erfcx(x), 0.5, 10.2, {"float": 10},
            lambda x: (x - 3) / (x + 3)),
        Fit("ERFCX", scaled_erfcx, lambda x: 1 / scaled_erfcx(x), 0.5, 27.5, {"double": 22},
            lambda x: (x - 4) / (x + 4)),
        Fit("ERFINV", erfinv_quotient, lambda w: 1 / erfinv_quotient(w), 0, 5, {"float": 9}),
        Fit("ERFINV", erfinv_quotient, lambda w: 1 / erfinv_quotient(w), 0, 6.25,
            {"double": 24}),
        Fit("ERFINV_FAR", lambda s: erfinv_quotient(s * s), lambda s: 1 / erfinv_quotient(s * s),
            2.236, 4.0, {"float": 9}, lambda s: s - 3),
        Fit("ERFINV_FAR", lambda s: erfinv_quotient(s * s), lambda s: 1 / erfinv_quotient(s * s),
            2.5, 4.0, {"double": 20}, lambda s: s - 3.25),
        Fit("ERFINV_FURTHER", lambda s: erfinv_quotient(s * s),
            lambda s: 1 / erfinv_quotient(s * s), 4.0, 6.01, {"double": 18}, lambda s: s - 5),
        Fit("SINH", *odd_tail(mp.sinh), 0, 1.0001, {"float": 3, "double": 6}, square),
        Fit("ASIN", *odd_tail(mp.asin), 0, 0.5001, {"float": 4, "double": 11}, square),
        Fit("ATAN", *odd_tail(mp.atan), 0, 0.5001, {"float": 4, "double": 11}, square),
        Fit("SINPI", cut(lambda x: mp.sin(mp.pi * x) / x), lambda x: 1, 0, 0.5, {"double": 8},
            square),
        Fit("LGAMMA_QUOTIENT", lgamma_quotient, lambda x: 1 / lgamma_quotient(x), 1.0, 2.0,
            {"double": 20}, lambda x: x - 1.5),
        Fit("LGAMMA_STIRLING", lgamma_remainder, lambda u: u, 1e-8, 1 / GAMMA_STIRLING,
            {"double": 7}, square),
        Fit("DIGAMMA_STIRLING", digamma_remainder, lambda u: u * u, 1e-8, 1 / GAMMA_STIRLING,
            {"double": 7}, square),
    ]


# Pieces of the line, such that the last one reaches to where erf rounds to 1: how many there are in
# a unit, and the degree.
ERF_PIECES = {16: (3.94, 5), 8: (1.905, 6)}


def erf_pieces(count: int) -> tuple[list[list], float]:
    """erf(x)/x about the middles of so many pieces, and the largest relative error: for each
    coefficient, those of all pieces. The first is the value in the middle, in two numbers."""
    a_unit, degree = ERF_PIECES[count]
    unit, rows, worst = float(np.float32(a_unit)), [], 0.0
    for piece in range(count):
        def quotient(d, piece=piece):
            x = abs(d + piece) / mp.mpf(unit)
            return cut(lambda x: mp.erf(x) / x)(x)

        fit = Fit("ERF_PIECES", quotient, lambda d, q=quotient: 1 / q(d), -0.5 if piece else 0.0,
                  0.5, {"float": degree})
        (middle, *slopes), error = remez(fit, degree)
        first = float(np.float32(float(middle)))
        rows.append([first, middle - first, *slopes])
        worst = max(worst, error)
    return list(zip(*rows, strict=True)), worst


def print_erf_pieces() -> None:
    print("ERF_PIECES = {         # how many: those of a unit, and a row for each coefficient")
    for count, (a_unit, _) in ERF_PIECES.items():
        rows, error = erf_pieces(count)
        print(f"    {count}: ({a_unit}, (         # 2^{np.log2(float(error)):.1f}")
        for row in rows:
            texts = [literal(value, "float") for value in row]
            for start in range(0, count, 4):
                print(f"        {'(' if not start else ' '}" + ", ".join(texts[start:start + 4])
                      + (")," if start == count - 4 else ","))
        print("    )),")
    print("}")


def constants() -> dict[str, tuple]:
    """Name -> value, and how many numbers represent it."""
    return {
        "LN2": (mp.ln(2), 2), "ONE_OVER_LN2": (1 / mp.ln(2), 2),
        "ONE_OVER_LN10": (1 / mp.ln(10), 2), "HALF_PI": (mp.pi / 2, 3),
        "THIRD": (mp.mpf(1) / 3, 2), "SHORT_LN2": (mp.ln(2), 2), "LOG10_2": (mp.log10(2), 2),
    }


def split(name: str, value, count: int, element: str) -> tuple[float, ...]:
    """`value` as a sum of rounded parts.

    Those of pi/2 are truncated, hence positive: -0.0 minus 0 times each is -0.0. The first part of
    a short one times any exponent of two is exact.
    """
    direction = "d" if name == "HALF_PI" else "n"
    precisions = [{"float": 24, "double": 53}[element]] * count
    if name in ("SHORT_LN2", "LOG10_2"):
        precisions[0] = {"float": 15, "double": 42}[element]
    parts = []
    for precision in precisions:
        parts.append(float(mp.fadd(value, 0, prec=precision, rounding=direction)))
        value -= mp.mpf(parts[-1])
    return tuple(parts)


def two_over_pi_chunks(count: int) -> list[int]:
    with mp.workprec(53 * count + 64):
        bits = int(mp.floor(2 / mp.pi * mp.mpf(2) ** (53 * count)))
    return [bits >> (53 * (count - 1 - k)) & (2**53 - 1) for k in range(count)]


def literal(value, element: str) -> str:
    return str(np.float32(float(value))) if element == "float" else repr(float(value))


HEADER = '''"""Numbers for the vector mathematics, written by `benchmarks/fit_minimax.py`.

Polynomials have their lowest coefficient first; the comment gives the largest weighted error
before rounding. Constants in more than one number are unevaluated sums, largest first.
"""

from __future__ import annotations


def of(name: str, x) -> tuple[float, ...]:
    """The polynomial `name` in the precision of the lanes x."""
    return globals()[name + {"float": "_F32", "double": "_F64"}[x.element]]


def split(name: str, x) -> tuple[float, ...]:
    """The constant `name` as a sum of numbers in the precision of the lanes x."""
    return SUMS[name][x.element]

'''


def main() -> None:
    print(HEADER)
    print(f"ONE_OVER_LN2 = {float(1 / mp.ln(2))!r}")
    print(f"TWO_OVER_PI = {float(2 / mp.pi)!r}")
    print(f"PI = {float(mp.pi)!r}")
    print(f"LOG_PI = {float(mp.log(mp.pi))!r}")
    print(f"HALF_LOG_TWO_PI = {float(mp.log(2 * mp.pi) / 2)!r}")
    print("SUMS = {")
    for name, (value, count) in constants().items():
        print(f'    "{name}": {{')
        for element in ("float", "double"):
            print(f'        "{element}": {split(name, value, count, element)},')
        print("    },")
    print("}")
    for fit in fits():
        for element, degree in fit.degrees.items():
            coefficients, error = remez(fit, degree)
            suffix = {"float": "F32", "double": "F64"}[element]
            print(f"{fit.name}_{suffix} = (                # 2^{np.log2(error):.1f}")
            for coefficient in coefficients:
                print(f"    {literal(coefficient, element)},")
            print(")")
            print(f"{fit.name} {element} 2^{np.log2(error):.1f}", file=sys.stderr)
    print_erf_pieces()
    print("# 2/pi is the sum of chunk * 2^(-53 (k + 1)): its bits in groups of 53.")
    print("TWO_OVER_PI_CHUNKS = (")
    for chunk in two_over_pi_chunks(22):
        print(f"    {chunk},")
    print(")")


if __name__ == "__main__":
    main()
