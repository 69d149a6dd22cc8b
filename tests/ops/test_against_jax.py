"""Transforms give what JAX gives: recorded by `tests/data/make_jax_expected.py`, in f64."""

import json
from pathlib import Path

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, ops
from tests.data.jax_programs import PROGRAMS, structured

EXPECTED = json.loads((Path(__file__).parents[1] / "data" / "jax_expected.json").read_text(
    encoding="utf-8"))["results"]


class m:
    """The names that the programs use."""

    jvp, vjp, linearize, grad, vmap = cellc.jvp, cellc.vjp, cellc.linearize, cellc.grad, cellc.vmap
    jacfwd, jacrev, hessian = cellc.jacfwd, cellc.jacrev, cellc.hessian
    tanh, matmul, sum, exp, sin = ops.tanh, ops.matmul, ops.sum, ops.exp, ops.sin


def array(x):
    return np.asarray(x.asnumpy() if isinstance(x, Tensor) else x, np.float64)


def compare(found, expected, where):
    if isinstance(expected, dict) and "numbers" in expected:
        assert list(found.shape) == expected["shape"], where
        np.testing.assert_allclose(found.reshape(-1), expected["numbers"], rtol=1e-9, atol=1e-12,
                                   err_msg=where)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            compare(found[key], expected[key], f"{where}[{key!r}]")
    else:
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            compare(a, b, f"{where}[{i}]")


@pytest.mark.parametrize("way", ["compiled", "eager"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_as_jax(program, way):
    context.set_context(mode=context.PYNATIVE_MODE)
    args = tuple(map(Tensor, PROGRAMS[program]))
    call = cellc.jit(lambda *args: program(m, *args)) if way == "compiled" else (
        lambda *args: program(m, *args))
    compare(structured(call(*args), array), EXPECTED[program.__name__], program.__name__)


def test_every_program_is_recorded():
    assert {p.__name__ for p in PROGRAMS} == EXPECTED.keys()
