"""Every primitive, compiled, against its NumPy meaning: all samples, in all its dtypes."""

import itertools

import numpy as np
import pytest

from cellc.errors import CellcError
from cellc.ir.graph import Builder
from cellc.ir.interpret import interpret
from cellc.ir.numerics import dtype_of, to_compute
from cellc.ir.prims import control
from cellc.native import run_graph
from tests.prims import cases

EPSILON = {"f16": 1e-3, "bf16": 8e-3, "f32": 1.2e-7, "f64": 2.3e-16}
BY_NAME = {name: list(group) for name, group in itertools.groupby(
    cases.runnable(), key=lambda case: case[1].name)}


def close(found, expected, size):
    assert dtype_of(found) is dtype_of(expected) and found.shape == expected.shape
    dtype = dtype_of(expected)
    if not dtype.is_float:
        assert np.array_equal(found, expected)
        return
    # An error of some ulp in each element, growing slowly with the number of terms of a sum.
    found, expected = to_compute(found), to_compute(expected)
    tolerance = EPSILON[dtype.name] * (8 + np.sqrt(size))
    finite = np.abs(expected[np.isfinite(expected)])
    scale = min(1.0, finite.max(initial=0.0))
    assert np.allclose(found, expected, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def meaning(prim, operands, attrs):
    """The graph of one case and its value, or None where the meaning itself refuses it."""
    graph = cases.graph_of(prim, operands, attrs)
    try:
        with np.errstate(all="ignore"):
            return np.asarray(interpret(graph, *operands, dims=cases.DIMS))
    except CellcError:
        return None


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_compiled_equals_meaning(name):
    """All cases of a primitive are one graph, so that they compile side by side."""
    chosen = []
    for _, prim, operands, attrs in BY_NAME[name]:
        value = meaning(prim, operands, attrs)
        if value is not None and "Dim" not in repr([type(v) for v in attrs.values()]):
            chosen.append((prim, operands, attrs, value))
    if not chosen:
        pytest.skip("its samples have symbolic sizes")
    with Builder(name) as b:
        results = [prim(*(b.input(cases.type_of(x), "x") for x in operands), **attrs)
                   for prim, operands, attrs, _ in chosen]
        graph = b.finish(control.tuple(*results))
    found = run_graph(graph, *(x for _, operands, _, _ in chosen for x in operands))
    for value, (_, operands, attrs, expected) in zip(found, chosen, strict=True):
        try:
            close(np.asarray(value), expected, max((x.size for x in operands), default=1))
        except AssertionError:
            raise AssertionError(f"{name} {attrs} of {operands}\ngave {value}\n"
                                 f"not  {expected}") from None
