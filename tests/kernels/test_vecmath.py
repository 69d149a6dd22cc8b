"""Every function of `vecmath` stays inside its stated error bound, and treats special values as IEEE 754 asks."""

import ctypes
import functools
import warnings

import llvmlite.binding as llvm
import mpmath as mp
import numpy as np
import pytest
import scipy.special

from cellc.kernels import vecmath
from cellc.kernels.text import Function, Module, element_type, lanes

DTYPES = {"float": np.float32, "double": np.float64}
VECTORS = {"float": "<16 x float>", "double": "<8 x double>"}

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()


class Compiled:
    """result[i] = name(operands[i]) over arrays, `lanes(ty)` elements at a time."""

    def __init__(self, name: str, ty: str):
        self.lanes, self.dtype = lanes(ty), DTYPES[element_type(ty)]
        arguments = [f"x{k}" for k in range(vecmath.NAMES[name])]
        module = Module()
        f = Function(module, "void", "sweep",
                     [("ptr", a) for a in [*arguments, "out"]] + [("i64", "n")])
        size, align = element_type(ty), np.dtype(self.dtype).itemsize
        with f.loop("0", "%n", self.lanes) as loop:
            values = [f.load(ty, f.gep(size, f"%{a}", loop.index), align) for a in arguments]
            result = vecmath.emit(f, name, ty, *values)
            f.store(ty, result, f.gep(size, "%out", loop.index), align)
        f.ret()
        f.close()
        self.text = module.text()
        parsed = llvm.parse_assembly(self.text)
        parsed.verify()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2)
        self.engine = llvm.create_mcjit_compiler(parsed, machine)
        self.engine.finalize_object()
        self.native = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(arguments) + 1),
                                       ctypes.c_int64)(self.engine.get_function_address("sweep"))

    def __call__(self, *operands):
        n = len(operands[0])
        padded = -(-n // self.lanes) * self.lanes
        arrays = [np.resize(np.asarray(x, self.dtype), padded) for x in operands]
        out = np.empty(padded, self.dtype)
        self.native(*(a.ctypes.data for a in [*arrays, out]), padded)
        return out[:n]


compiled = functools.cache(Compiled)


def ulp_errors(got: np.ndarray, exact: np.ndarray, dtype) -> np.ndarray:
    """|got - exact| in units of the last place of `exact` rounded to dtype; inf where only one is finite or a number.

    `exact` is of a wider type. A result may round to infinity, or stay finite, in the last place before overflow.
    """
    info = np.finfo(dtype)
    exact_wide = exact.astype(np.longdouble) if dtype == np.float64 else exact.astype(np.float64)
    with np.errstate(all="ignore"):
        rounded = exact_wide.astype(dtype)
        _, exponent = np.frexp(exact_wide)
        exponent = np.clip(exponent, info.minexp + 1, info.maxexp)
        unit = np.ldexp(exact_wide.dtype.type(1), exponent - info.nmant - 1)
        limit = exact_wide.dtype.type(info.max) + unit
        got_wide = got.astype(exact_wide.dtype)
        finite_got = np.where(np.isinf(got_wide), np.copysign(limit, got_wide), got_wide)
        error = np.abs(finite_got - exact_wide) / unit
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    error = np.where(np.isnan(error), np.inf, error)
    return np.where(same & (np.isinf(rounded) | np.isnan(rounded)), 0.0, error)


FLOAT_REFERENCE = {      # in double, for single precision
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh,
    "logistic": scipy.special.expit, "erf": scipy.special.erf, "erfc": scipy.special.erfc, "sin": np.sin, "cos": np.cos,
    "tan": np.tan, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "pow": np.power,
}


def float_patterns(stride: int, start: int = 0):
    """Every stride-th single-precision number, in pieces that fit the cache."""
    for first in range(start, 2**32, stride << 17):
        bits = np.arange(first, min(2**32, first + (stride << 17)), stride, dtype=np.uint64)
        yield bits.astype(np.uint32).view(np.float32)


def worst_float_error(name: str, stride: int) -> tuple[float, float]:
    function, worst = compiled(name, VECTORS["float"]), (0.0, 0.0)
    for x in float_patterns(stride):
        with np.errstate(all="ignore"):
            exact = FLOAT_REFERENCE[name](x.astype(np.float64))
        errors = ulp_errors(function(x), exact, np.float32)
        at = int(np.argmax(errors))
        worst = max(worst, (float(errors[at]), float(x[at])))
    return worst


@pytest.mark.parametrize("name", sorted(FLOAT_REFERENCE.keys() - {"pow"}))
def test_float_error_over_all_patterns(name):
    error, at = worst_float_error(name, 1259)
    assert error <= vecmath.ULP[name]["float"], f"{error} ulp at {at!r}"
