"""The dtypes under the names users know: `import cellc.dtype as mstype; mstype.float32`."""

import numpy as np

from cellc.ir.types import (
    DTYPES,
    DType,
    bf16,
    boolean,
    dtype,
    f16,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    u8,
    u16,
    u32,
    u64,
)

bool_ = boolean
int8, int16, int32, int64 = i8, i16, i32, i64
uint8, uint16, uint32, uint64 = u8, u16, u32, u64
float16, bfloat16, float32, float64 = f16, bf16, f32, f64
half, single, double = f16, f32, f64
byte, short, intc, intp, int_ = i8, i16, i32, i64, i64
float_ = f64

float_type = tuple(d for d in DTYPES if d.is_float)
int_type = tuple(d for d in DTYPES if d.kind == "i")
uint_type = tuple(d for d in DTYPES if d.kind == "u")
number_type = int_type + uint_type + float_type


def dtype_to_nptype(given) -> np.dtype:
    """How NumPy stores a dtype (bfloat16: a structured dtype of one u2 field)."""
    return dtype(given).numpy


def pytype_to_dtype(given) -> DType:
    """The dtype of Python's bool, int or float."""
    return dtype(given)


__all__ = [
    "DType", "dtype", "bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
    "uint64", "float16", "bfloat16", "float32", "float64", "half", "single", "double", "byte",
    "short", "intc", "intp", "int_", "float_", "float_type", "int_type", "uint_type", "number_type",
    "dtype_to_nptype", "pytype_to_dtype",
]
