"""Dtypes, symbolic sizes and types: what is answered, and what cannot be for every size."""

import pickle

import numpy as np
import pytest

from cellc.errors import ShapeFault, SymbolicFault, TypeFault
from cellc.ir.types import (
    DTYPES,
    Dim,
    ScalarType,
    TensorType,
    TupleType,
    bf16,
    dtype,
    f16,
    f32,
    f64,
    i64,
    u8,
)

N = Dim("n")


@pytest.mark.parametrize("given, expected", [
    ("f32", f32), ("float32", f32), (np.float32, f32), (np.dtype("<f8"), f64), (float, f64),
    (int, i64), (bf16, bf16), ("bfloat16", bf16), (bf16.numpy, bf16), (np.uint8, u8),
])
def test_what_a_dtype_is_called(given, expected):
    assert dtype(given) is expected


@pytest.mark.parametrize("given", ["float31", np.complex64, object, [1], None, 3])
def test_what_is_no_dtype(given):
    with pytest.raises(TypeFault, match="where a dtype was expected"):
        dtype(given)


def test_dtypes_are_themselves_after_a_journey():
    assert all(pickle.loads(pickle.dumps(d)) is d for d in DTYPES)
    assert (f16.compute, bf16.compute, f64.compute) == (f32, f32, f64)


def test_arithmetic_of_symbolic_sizes():
    assert 4 * N == Dim("n", 4) and N * 0 == 0 and N + 0 == N and 0 + N == N
    assert 4 * N // 2 == 2 * N and 4 * N // N == 4 and 4 * N % 2 == 0 and N + N == 2 * N
    assert N - N == 0 and 3 * N - N == 2 * N and N - 0 == N
    assert N != 1 and N != Dim("m") and N == Dim("n")
    assert N > 1 and N >= 0 and not N < 2 * N - N and N <= 2 * N and 1 < N and 2 * N > N
    assert (N, 4) == (Dim("n"), 4) and hash(N) == hash(Dim("n"))


@pytest.mark.parametrize("question", [
    lambda: N + 1, lambda: N - 1, lambda: N * N, lambda: N // 2, lambda: N % 2, lambda: N > 3,
    lambda: N < Dim("m"), lambda: range(N), lambda: int(N), lambda: N + Dim("m"),
])
def test_what_depends_on_the_size(question):
    with pytest.raises(SymbolicFault, match="depends on the size of dimension n"):
        question()


def test_types_say_themselves():
    assert str(TensorType(f32, (2 * N, 4))) == "f32[2*n,4]" and str(TensorType(f32, ())) == "f32[]"
    assert str(TupleType((ScalarType(f64), TensorType(i64, (3,))))) == "(f64, i64[3])"
    assert str(TupleType((ScalarType(f64),))) == "(f64,)" and str(TupleType(())) == "()"
    assert TensorType(f32, (N, 4)).size == 4 * N and ScalarType(f64).size == 1
    with pytest.raises(ShapeFault, match="a scalar has no shape"):
        ScalarType(f64).with_shape((2,))
