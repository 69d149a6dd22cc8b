"""examples/ode.py against SciPy's RK45, central differences, and itself in eager mode."""

import numpy as np
import ode
import pytest

import cellc

ARGS = (5.0, 1e-9)


def test_values_against_scipy():
    integrate = pytest.importorskip("scipy.integrate")
    a, b, c, d = ode.PARAMETERS
    expected = integrate.solve_ivp(
        lambda t, s: [a * s[0] - b * s[0] * s[1], c * s[0] * s[1] - d * s[1]],
        (0, 15), ode.START, method="RK45", rtol=1e-11, atol=1e-11).y[:, -1]
    steps, rejected = cellc.jit(ode.solve)(ode.START, ode.PARAMETERS, 15.0, 1e-11)
    np.testing.assert_allclose(steps[-1][1], expected, rtol=1e-8)
    assert len(steps) > 500 and rejected >= 5
    times = [time for time, _ in steps]
    assert times == sorted(times) and times[0] == 0.0 and times[-1] == 15.0


def test_a_tolerance_costs_steps():
    """The method is of order 5: a tolerance smaller by 1000 costs about 4 times the steps."""
    solve = cellc.jit(ode.solve)
    few, many = (len(solve(ode.START, ode.PARAMETERS, 10.0, x)[0]) for x in (1e-6, 1e-9))
    assert 3 < many / few < 5


def test_gradient_against_central_differences():
    gradient = cellc.jit(cellc.grad(ode.foxes))(ode.PARAMETERS, *ARGS)
    expected = ode.differences(cellc.jit(ode.foxes), ode.PARAMETERS, *ARGS)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
    by_end = cellc.jit(cellc.grad(ode.foxes, 1))(ode.PARAMETERS, *ARGS)
    steps, _ = cellc.jit(ode.solve)(ode.START, ode.PARAMETERS, *ARGS)
    assert by_end == pytest.approx(ode.field(steps[-1][1], ode.PARAMETERS)[1], rel=1e-6)


def test_the_mean_and_its_gradient():
    mean = cellc.jit(ode.mean_foxes)
    assert mean(ode.PARAMETERS, 200.0, 1e-9) == pytest.approx(1.5, rel=1e-2)    # a / b
    gradient = cellc.jit(cellc.grad(ode.mean_foxes))(ode.PARAMETERS, *ARGS)
    expected = ode.differences(mean, ode.PARAMETERS, *ARGS)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_both_modes(main_in):
    (state, gradients), text = main_in(ode, "graph", "--end", 1, "--tolerance", 1e-4)
    (same, too), other = main_in(ode, "eager", "--end", 1, "--tolerance", 1e-4)
    np.testing.assert_allclose(state, same, rtol=1e-12)
    np.testing.assert_allclose(gradients, too, rtol=1e-9)
    steps = [t.split("(")[1].split(")")[0] for t in (text, other)]
    assert steps[0] == steps[1] and "rejected" in steps[0]


def test_it_is_one_loop(primitives):
    names = primitives(ode.solve, ode.START, ode.PARAMETERS, *ARGS)
    assert names.count("while") == 1
