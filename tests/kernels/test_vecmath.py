"""Every function of `vecmath` stays inside its stated error bound and treats special values right.

Single precision is compared with double over a sweep of all bit patterns, double precision with
60-digit arithmetic at random, log-spaced and awkward points.
"""

import ctypes
import functools

import llvmlite.binding as llvm
import mpmath as mp
import numpy as np
import pytest
import scipy.special

from cellc.kernels import vecmath
from cellc.kernels.text import Function, Module, element_type, lanes

DTYPES = {"float": np.float32, "double": np.float64}
VECTORS = {"float": "<16 x float>", "double": "<8 x double>"}
UNARY = sorted(name for name, arity in vecmath.NAMES.items() if arity == 1)
STRIDE = 401                # between the bit patterns swept; 61 was used to find the bounds

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()


def sweep_module(name: str, ty: str, features: str = "") -> str:
    """LLVM text of `sweep(x..., out, n)`: out[i] = name(x[i]...), `lanes(ty)` elements a round."""
    arguments = [f"x{k}" for k in range(vecmath.NAMES[name])]
    element, align = element_type(ty), np.dtype(DTYPES[element_type(ty)]).itemsize
    module = Module(features=features)
    f = Function(module, "void", "sweep",
                 [("ptr", a) for a in [*arguments, "out"]] + [("i64", "n")])
    with f.loop("0", "%n", lanes(ty)) as loop:
        values = [f.load(ty, f.gep(element, f"%{a}", loop.index), align) for a in arguments]
        result = vecmath.emit(f, name, ty, *values)
        f.store(ty, result, f.gep(element, "%out", loop.index), align)
    f.ret()
    f.close()
    return module.text()


class Compiled:
    """The function `name` on arrays, compiled for this machine without mid-level passes."""

    def __init__(self, name: str, ty: str, features: str):
        self.lanes, self.dtype = lanes(ty), DTYPES[element_type(ty)]
        parsed = llvm.parse_assembly(sweep_module(name, ty, features))
        parsed.verify()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2)
        self.engine = llvm.create_mcjit_compiler(parsed, machine)
        self.engine.finalize_object()
        pointers = [ctypes.c_void_p] * (vecmath.NAMES[name] + 1)
        self.native = ctypes.CFUNCTYPE(None, *pointers, ctypes.c_int64)(
            self.engine.get_function_address("sweep"))

    def __call__(self, *operands):
        n = len(operands[0])
        padded = -(-n // self.lanes) * self.lanes
        arrays = [np.resize(np.asarray(x, self.dtype), padded) for x in operands]
        out = np.empty(padded, self.dtype)
        self.native(*(a.ctypes.data for a in [*arrays, out]), padded)
        return out[:n]


HERE = llvm.get_host_cpu_features().flatten()


@functools.cache
def compiled(name: str, ty: str, features: str = HERE) -> Compiled:
    """With what this machine has, or with less."""
    return Compiled(name, ty, features)


# -- single precision --------------------------------------------------------------------------
def lgamma_in_double(x):
    """SciPy's has other values at -infinity and at the smallest subnormal numbers."""
    with np.errstate(all="ignore"):
        result = np.where(np.abs(x) < 1e-300, -np.log(np.abs(x)), scipy.special.gammaln(x))
        return np.where(np.isinf(x), np.inf, result)


IN_DOUBLE = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "logistic": scipy.special.expit,
    "tanh": np.tanh, "log": np.log, "log1p": np.log1p, "log2": np.log2, "log10": np.log10,
    "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "erf": scipy.special.erf, "erfc": scipy.special.erfc,
    "erfinv": lambda x: np.copysign(scipy.special.erfinv(x), x),       # SciPy: 0.0 of -0.0
    "sin": np.sin,
    "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "lgamma": lgamma_in_double,
    "digamma": scipy.special.digamma, "atan2": np.arctan2, "pow": np.power,
}


def float_errors(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|got - exact| in units of the last place of `exact` (double) in single precision.

    Infinity counts as the number after the largest finite one; a NaN where none belongs, or none
    where one does, is an infinite error.
    """
    past_largest = 2.0**128
    clipped = np.clip(exact, -past_largest, past_largest)
    _, exponent = np.frexp(clipped)
    unit = np.ldexp(1.0, np.clip(exponent, -125, 128) - 24)
    error = np.abs(np.clip(got.astype(np.float64), -past_largest, past_largest) - clipped) / unit
    return np.where(np.isnan(got) | np.isnan(exact),
                    np.where(np.isnan(got) & np.isnan(exact), 0.0, np.inf), error)


def worst_float_error(name: str, *operands: np.ndarray, features=HERE) -> tuple[float, tuple]:
    with np.errstate(all="ignore"):
        exact = IN_DOUBLE[name](*(x.astype(np.float64) for x in operands))
        errors = float_errors(compiled(name, VECTORS["float"], features)(*operands), exact)
    at = int(np.argmax(errors))
    return float(errors[at]), tuple(float(x[at]) for x in operands)


def float_patterns(stride: int):
    """Every stride-th single-precision number, in pieces that fit the cache."""
    piece = stride << 16
    for first in range(0, 2**32, piece):
        bits = np.arange(first, min(2**32, first + piece), stride, dtype=np.uint64)
        yield bits.astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("name", UNARY)
def test_single_precision_over_all_patterns(name):
    error, at = max(worst_float_error(name, x) for x in float_patterns(STRIDE))
    assert error <= vecmath.ULP[name]["float"], f"{error} ulp at {at}"


@pytest.mark.parametrize("features", ["", "+avx2"])
@pytest.mark.parametrize("name", ["exp", "exp2", "sinh", "cosh", "erf", "erfc"])
def test_single_precision_without_avx512(name, features):
    """What has another formula there."""
    if features not in HERE:
        pytest.skip("this machine has no AVX2")
    error, at = max(worst_float_error(name, x, features=features) for x in float_patterns(STRIDE))
    assert error <= vecmath.ULP[name]["float"], f"{error} ulp at {at}"


def test_single_precision_pow():
    draw = np.random.default_rng(1)
    for base in (2 ** draw.uniform(-149, 128, 1 << 18), draw.uniform(0.5, 2, 1 << 18)):
        x = base.astype(np.float32)
        with np.errstate(divide="ignore"):
            y = (draw.uniform(-151, 129, x.size) / np.log2(x)).astype(np.float32)
        error, at = worst_float_error("pow", x, y)
        assert error <= vecmath.ULP["pow"]["float"], f"{error} ulp at {at}"


def test_single_precision_atan2():
    draw = np.random.default_rng(2)
    x, y = draw.integers(0, 2**32, (2, 1 << 18), dtype=np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        close = (x * draw.uniform(-4, 4, x.size)).astype(np.float32)
    for left in (y, close):
        error, at = worst_float_error("atan2", left, x)
        assert error <= vecmath.ULP["atan2"]["float"], f"{error} ulp at {at}"


# -- double precision --------------------------------------------------------------------------
IN_60_DIGITS = {
    "exp": mp.exp, "exp2": lambda x: mp.mpf(2) ** x, "expm1": mp.expm1,
    "logistic": lambda x: 1 / (1 + mp.exp(-x)), "tanh": mp.tanh, "log": mp.log, "log1p": mp.log1p,
    "log2": lambda x: mp.log(x) / mp.ln(2), "log10": lambda x: mp.log(x) / mp.ln(10),
    "sinh": mp.sinh, "cosh": mp.cosh, "asinh": mp.asinh, "acosh": mp.acosh, "atanh": mp.atanh,
    "erf": mp.erf, "erfc": mp.erfc, "erfinv": mp.erfinv, "sin": mp.sin, "cos": mp.cos,
    "tan": mp.tan, "asin": mp.asin, "acos": mp.acos, "atan": mp.atan, "sqrt": mp.sqrt,
    "rsqrt": lambda x: 1 / mp.sqrt(x),
    "lgamma": lambda x: mp.re(mp.loggamma(x)), "digamma": mp.digamma, "atan2": mp.atan2,
    "pow": mp.power,
}
EVERYWHERE = (-1e308, 1e308)
DOMAIN = {      # where arguments are drawn; outside, the result is 0, 1, an infinity or NaN
    "exp": (-746, 710), "exp2": (-1076, 1024), "expm1": (-60, 710), "logistic": (-746, 60),
    "tanh": (-30, 30), "log": (5e-324, 1e308), "log1p": (-1 + 2**-53, 1e308),
    "log2": (5e-324, 1e308), "log10": (5e-324, 1e308), "sinh": (-711, 711), "cosh": (-711, 711),
    "acosh": (1, 1e308), "atanh": (-1 + 2**-53, 1 - 2**-53), "erf": (-7, 7), "erfc": (-7, 27.5),
    "erfinv": (-1 + 2**-53, 1 - 2**-53),
    "asin": (-1, 1), "acos": (-1, 1), "sqrt": (5e-324, 1e308), "rsqrt": (5e-324, 1e308),
    "lgamma": (-40, 1e305), "digamma": (-40, 1e305),
}
ABSOLUTE_AT_ZEROS = ("lgamma", "digamma")   # bounds in ulp of max(1, |f(x)|, |f(|x|)|)


def double_points(low: float, high: float, count: int) -> np.ndarray:
    """Points of every size, near the small integers and multiples of pi/2, and the ends."""
    draw = np.random.default_rng(3)
    sign = draw.choice([-1.0, 1.0], count)
    near = draw.integers(-12, 13, count) * draw.choice([0.5, 1.0, np.pi / 2], count)
    groups = [sign * 2 ** draw.uniform(-1074, 1023, count),
              sign * 2 ** draw.uniform(-12, 10, count),
              draw.uniform(-2, 2, count), near + sign * 2 ** draw.uniform(-55, -2, count),
              draw.uniform(max(low, -1e3), min(high, 1e3), count), np.array([low, high])]
    points = np.concatenate(groups)
    return points[(points >= low) & (points <= high)]


def double_error(got: float, exact, floor: int = -1074) -> float:
    """|got - exact| in units of the last place, none smaller than 2^floor; infinity is 2^1024."""
    if got != got:
        return float("inf")
    exact = max(min(exact, mp.mpf(2) ** 1024), -mp.mpf(2) ** 1024)
    unit = mp.mpf(2) ** max(mp.frexp(exact)[1] - 53, floor) if exact else mp.mpf(2) ** floor
    got = mp.mpf(got) if abs(got) != float("inf") else mp.sign(got) * mp.mpf(2) ** 1024
    return float(abs(got - exact) / unit)


def worst_double_error(name: str, *operands: np.ndarray) -> tuple[float, tuple]:
    got = compiled(name, VECTORS["double"])(*operands)
    worst, floor, function = (0.0, ()), -1074, IN_60_DIGITS[name]
    with mp.workdps(60):
        for result, *x in zip(got.tolist(), *(o.tolist() for o in operands), strict=True):
            if name in ABSOLUTE_AT_ZEROS:
                if x[0] <= 0 and x[0] == int(x[0]):
                    continue                                            # a pole
                floor = mp.frexp(max(1, abs(function(mp.mpf(abs(x[0]))))))[1] - 53
            exact = function(*map(mp.mpf, x))
            worst = max(worst, (double_error(result, exact, floor), tuple(x)))
    return worst


@pytest.mark.parametrize("name", UNARY)
def test_double_precision(name):
    points = double_points(*DOMAIN.get(name, EVERYWHERE), count=150)
    error, at = worst_double_error(name, points)
    assert error <= vecmath.ULP[name]["double"], f"{error} ulp at {at}"


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_double_precision_closest_to_a_multiple_of_half_pi(name):
    """No double comes closer than the first; the others are large and small near misses."""
    points = np.array([6381956970095103.0 * 2.0**797, 5319372648326541.0 * 2.0**-46, 1e22,
                       2.0**1000, 710.0 / 226 * 1e9])
    error, at = worst_double_error(name, np.concatenate([points, -points]))
    assert error <= vecmath.ULP[name]["double"], f"{error} ulp at {at}"


def test_double_precision_pow():
    draw = np.random.default_rng(4)
    x = np.concatenate([2 ** draw.uniform(-1000, 1000, 700), draw.uniform(0.5, 2, 700)])
    y = draw.uniform(-1075, 1024, x.size) / np.log2(x)
    error, at = worst_double_error("pow", x, y)
    assert error <= vecmath.ULP["pow"]["double"], f"{error} ulp at {at}"


def test_double_precision_atan2():
    draw = np.random.default_rng(5)
    x, y = draw.choice([-1.0, 1.0], (2, 1400)) * 2 ** draw.uniform(-1074, 1023, (2, 1400))
    y[::2] = x[::2] * draw.uniform(-4, 4, 700)
    error, at = worst_double_error("atan2", y, x)
    assert error <= vecmath.ULP["atan2"]["double"], f"{error} ulp at {at}"


# -- special values and other types ------------------------------------------------------------
def special_values(dtype) -> np.ndarray:
    info = np.finfo(dtype)
    positive = [0.0, info.smallest_subnormal, info.tiny, 0.5, 1.0, 1.5, 2.0, 3.0, 2.0**23 + 1,
                info.max, np.inf]
    return np.array(positive + [-v for v in positive] + [np.nan], dtype)


def assert_alike(got, expected, *operands, near_zero):
    """Equal up to rounding; NaN, infinity and the sign of zero exactly."""
    info = np.finfo(got.dtype)
    close = np.isclose(got, expected, rtol=8 * info.eps, atol=near_zero * info.eps)
    wrong = (np.isnan(got) != np.isnan(expected)) | ~(close | np.isnan(got))
    wrong |= (got == 0) & (expected == 0) & (np.signbit(got) != np.signbit(expected))
    assert not wrong.any(), [(*(o[k] for o in operands), got[k], expected[k])
                             for k in np.flatnonzero(wrong)]


@pytest.mark.parametrize("element", DTYPES)
@pytest.mark.parametrize("name", sorted(vecmath.NAMES))
def test_special_values(name, element):
    dtype = DTYPES[element]
    operands = [special_values(dtype)]
    if vecmath.NAMES[name] == 2:
        operands = [grid.ravel() for grid in np.meshgrid(operands[0], operands[0])]
    with np.errstate(all="ignore"):
        expected = IN_DOUBLE[name](*(x.astype(np.float64) for x in operands)).astype(dtype)
    assert_alike(compiled(name, VECTORS[element])(*operands), expected, *operands,
                 near_zero=8 * (name in ABSOLUTE_AT_ZEROS))


@pytest.mark.parametrize("ty", ["float", "double", "<8 x float>", "<4 x double>", "<32 x float>",
                                "<16 x double>"])
@pytest.mark.parametrize("name", sorted(vecmath.NAMES))
def test_other_types_give_the_same_bits(name, ty):
    draw = np.random.default_rng(6)
    dtype = DTYPES[element_type(ty)]
    shape = (vecmath.NAMES[name], 512 * np.dtype(dtype).itemsize)
    bits = draw.integers(0, 256, shape, dtype=np.uint8)
    operands = [np.concatenate([row.view(dtype), draw.normal(0, 2, 512).astype(dtype)])
                for row in bits]
    np.testing.assert_array_equal(compiled(name, ty)(*operands),
                                  compiled(name, VECTORS[element_type(ty)])(*operands))


@pytest.mark.parametrize("triple, cpu, ty", [
    ("x86_64-unknown-linux-gnu", "x86-64-v3", "<8 x float>"),
    ("x86_64-unknown-linux-gnu", "x86-64-v3", "<4 x double>"),
    ("aarch64-unknown-linux-gnu", "generic", "<4 x float>"),
    ("aarch64-unknown-linux-gnu", "generic", "<2 x double>"),
])
def test_needs_no_library_on_other_processors(triple, cpu, ty):
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=2)
    for name in vecmath.NAMES:
        parsed = llvm.parse_assembly(sweep_module(name, ty))
        parsed.triple = triple
        mnemonics = [line.split()[0] for line in machine.emit_assembly(parsed).splitlines()
                     if line.startswith("\t")]
        assert not {"callq", "call", "bl"} & set(mnemonics), name
