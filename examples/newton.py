"""Newton's method as a `while` on data, and its derivative: Kepler's equation E - e sin E = M.

    python examples/newton.py                    # compiled
    python examples/newton.py --mode eager       # the same functions, operation by operation
    python examples/newton.py --eccentricity 0.97 --planets 100000

A planet on an ellipse of eccentricity e is found by solving for the anomaly E at a mean anomaly M
(time, as an angle). The loop runs until a step is small, so how many rounds it takes depends on the
data. `cellc.grad` differentiates that loop; the result is compared with what the implicit function
theorem says: dE/dM = 1 / (1 - e cos E), dE/de = sin E / (1 - e cos E).

The second part solves for many planets: a loop over the elements of a tensor, with Newton's loop
inside, and the gradient of the sum of all E by e.
"""

from __future__ import annotations

import math

import numpy as np
from harness import arguments, program, report

import cellc
from cellc import Tensor, ops

TOLERANCE = 1e-12


def kepler(mean, e):
    """(the anomaly E, the rounds it took) for floats."""
    x = mean + e * ops.sin(mean)
    step = 1.0
    rounds = 0
    while abs(step) > TOLERANCE and rounds < 100:
        step = (x - e * ops.sin(x) - mean) / (1.0 - e * ops.cos(x))
        x = x - step
        rounds += 1
    return x, rounds


def anomaly(mean, e):
    return kepler(mean, e)[0]


def all_anomalies(means, e):
    """The anomaly at each mean anomaly of a tensor, one after the other."""
    found = ops.zeros_like(means)
    for i in range(len(means)):
        found[i] = anomaly(float(means[i]), e)
    return found


def total(means, e):
    return ops.sum(all_anomalies(means, e))


def check(options):
    """E, its derivatives, and how far these are from the theorem."""
    e, mean = options.eccentricity, options.mean_anomaly
    x, rounds = program(kepler, options)(mean, e)
    by_mean, by_e = program(cellc.grad(anomaly, (0, 1)), options)(mean, e)
    slope = 1 - e * math.cos(x)
    errors = abs(by_mean - 1 / slope), abs(by_e - math.sin(x) / slope)
    return x, rounds, by_mean, by_e, max(errors)


def main(given=None):
    options = arguments(
        __doc__, given,
        ("--eccentricity", float, 0.9, "0 <= e < 1", lambda e: 0 <= e < 1),
        ("--mean-anomaly", float, 0.5, "radians", math.isfinite),
        ("--planets", int, 10_000, "how many to solve for in the second part", lambda n: n >= 1))
    x, rounds, by_mean, by_e, error = check(options)
    print(f"E = {x:.12f} after {rounds} rounds")
    print(f"dE/dM = {by_mean:.12f}, dE/de = {by_e:.12f}")
    print(f"largest difference from the implicit function theorem: {error:.1e}")

    means = Tensor(np.linspace(0, 2 * math.pi, options.planets))
    e = options.eccentricity
    found = report("all planets", program(all_anomalies, options), means, e)
    gradient = report("gradient of their sum by e", program(cellc.grad(total, 1), options),
                      means, e)
    print(f"sum of E = {found.asnumpy().sum():.9f}, its derivative by e = {gradient:.9f}")
    return found, gradient


if __name__ == "__main__":
    main()
