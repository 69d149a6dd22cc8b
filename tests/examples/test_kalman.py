"""examples/kalman.py against a NumPy filter, SciPy's optimum and published figures."""

import kalman
import numpy as np
import pytest

import cellc
from cellc import Tensor

NILE = np.array(kalman.NILE.split(), np.float64)


def likelihood(logs, series, goes_on, observed):
    """The filter in NumPy, by the density of each observation given those before."""
    d = len(observed)
    noise, steps = np.exp(logs[0]), np.diag(np.exp(logs[1:]))
    state, spread, total = np.zeros(d), kalman.VAGUE * np.eye(d), 0.0
    for i, y in enumerate(series):
        state, spread = goes_on @ state, goes_on @ spread @ goes_on.T + steps
        variance = observed @ spread @ observed + noise
        surprise = y - observed @ state
        if i >= d:
            total -= 0.5 * (np.log(2 * np.pi * variance) + surprise ** 2 / variance)
        gain = spread @ observed / variance
        state, spread = state + gain * surprise, spread - np.outer(gain, observed @ spread)
    return total


def setting(model):
    goes_on, observed = map(np.array, kalman.MODELS[model])
    series = NILE if model == "level" else kalman.wandering(60, 3)
    logs = np.array([9.0, 7.0]) if model == "level" else np.array([0.3, -1.0, -4.0])
    return logs, series, goes_on, observed


@pytest.mark.parametrize("model", kalman.MODELS)
def test_likelihood_and_gradient(model, mode):
    logs, *rest = setting(model)
    function = cellc.value_and_grad(kalman.log_likelihood)
    value, gradient = (cellc.jit(function) if mode == "graph" else function)(
        Tensor(logs), *map(Tensor, rest))
    assert float(value) == pytest.approx(likelihood(logs, *rest), rel=1e-8)
    for i in range(len(logs)):
        ends = [likelihood(logs + side * 1e-3 * np.eye(len(logs))[i], *rest) for side in (1, -1)]
        assert gradient.asnumpy()[i] == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-4)


def test_the_nile_as_published(main_in):
    (logs, _), _ = main_in(kalman, "graph")
    noise, steps = np.exp(logs)
    assert noise == pytest.approx(15099, abs=1) and steps == pytest.approx(1469.1, abs=0.1)


@pytest.mark.parametrize("model", kalman.MODELS)
def test_the_optimum_against_scipy(main_in, model):
    optimize = pytest.importorskip("scipy.optimize")
    arguments = ["--model", model, "--length", 60, "--seed", 3]
    (logs, value), _ = main_in(kalman, "graph", *arguments)
    _, *rest = setting(model)
    best = optimize.minimize(lambda x: -likelihood(x, *rest), logs + 0.3, method="Nelder-Mead",
                             options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000})
    assert value == pytest.approx(-best.fun, abs=1e-5)
    assert value >= -best.fun - 1e-6


def test_it_is_one_loop(primitives):
    logs, *rest = setting("trend")
    names = primitives(kalman.log_likelihood, Tensor(logs), *map(Tensor, rest))
    assert names.count("while") == 1 and len(names) < 150
