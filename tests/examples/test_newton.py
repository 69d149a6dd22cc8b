"""examples/newton.py against NumPy and the implicit function theorem."""

import newton
import numpy as np
import pytest

import cellc
from cellc import Tensor


def solved(means, e):
    """Newton's method on all at once."""
    x = means + e * np.sin(means)
    for _ in range(50):
        x = x - (x - e * np.sin(x) - means) / (1 - e * np.cos(x))
    return x


@pytest.mark.parametrize("e, planets", [(0.9, 40), (0.3, 7), (0.0, 12)])
def test_values_and_gradient(main_in, e, planets):
    x = solved(np.linspace(0, 2 * np.pi, planets), e)
    expected = (np.sin(x) / (1 - e * np.cos(x))).sum()
    for mode in ("graph", "eager"):
        (found, gradient), text = main_in(newton, mode, "--eccentricity", e, "--planets", planets)
        np.testing.assert_allclose(found.asnumpy(), x, rtol=1e-10, atol=1e-12)
        assert gradient == pytest.approx(expected, abs=1e-9)
        assert float(text.split("theorem: ")[1].split()[0]) < 1e-9


def test_second_derivative_and_rounds():
    """d2E/dM2 = -e sin E / (1 - e cos E)^3; the rounds are as many as eager mode takes."""
    for mean, e in ((0.5, 0.9), (2.0, 0.5)):
        x = solved(np.float64(mean), e)
        second = cellc.jit(cellc.grad(cellc.grad(newton.anomaly)))(mean, e)
        assert second == pytest.approx(-e * np.sin(x) / (1 - e * np.cos(x)) ** 3, rel=1e-8)
        (value, rounds), (same, too) = cellc.jit(newton.kepler)(mean, e), newton.kepler(mean, e)
        assert value == pytest.approx(same, rel=1e-15) and rounds == too > 3


def test_it_is_a_loop_in_a_loop(primitives):
    for function in (newton.all_anomalies, cellc.grad(newton.total, 1)):
        names = primitives(function, Tensor(np.linspace(0, 6, 1000)), 0.5)
        assert names.count("while") >= 2 and len(names) < 500
