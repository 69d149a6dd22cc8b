"""Gradients of gradients to order six, in both modes, as a user nests them: exact to rounding."""

import mpmath
import numpy as np
import pytest

import cellc
from cellc import Tensor, context, ops

KINDS = {"float": (float, 1e-10), "f64": (lambda v: Tensor(np.float64(v)), 1e-10),
         "f32": (lambda v: Tensor(np.float32(v)), 1e-5)}


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [0.3, -1.2, 2.0])
def test_tanh_to_order_six(mode, kind, at):
    make, tolerance = KINDS[kind]
    before = context.get_context("mode")
    context.set_context(mode=mode)
    try:
        x, derivative = make(at), ops.tanh
        exactly = x if isinstance(x, float) else float(x.asnumpy())
        for order in range(1, 7):
            derivative = cellc.grad(derivative)
            found = derivative(x)
            found = found if isinstance(found, float) else float(found.asnumpy())
            expected = float(mpmath.diff(mpmath.tanh, exactly, order))
            assert found == pytest.approx(expected, rel=tolerance), order
    finally:
        context.set_context(mode=before)
