"""A Kalman filter's likelihood, a loop over time, maximised by its gradient.

    python examples/kalman.py                    # compiled
    python examples/kalman.py --mode eager       # the same functions, operation by operation
    python examples/kalman.py --model trend --length 2000

The level model says that a level wanders and each observation is the level and noise. For the flow
of the Nile at Aswan, 1871 to 1970, Durbin and Koopman (Time Series Analysis by State Space Methods,
2nd edition, 2.2.5) report the variances 15099 of the noise and 1469.1 of the level's steps. The
trend model gives the level a slope that wanders too; it is fitted to a series of its own making.

`cellc.value_and_grad` of the likelihood, by the logarithms of the variances, drives BFGS.
"""

from __future__ import annotations

import math

import numpy as np
from harness import arguments, program, report

import cellc
from cellc import Tensor, ops

NILE = """
1120 1160 963 1210 1160 1160 813 1230 1370 1140 995 935 1110 994 1020 960 1180 799 958 1140 1100
1210 1150 1250 1260 1220 1030 1100 774 840 874 694 940 833 701 916 692 1020 1050 969 831 726 456 824
702 1120 1100 832 764 821 768 845 864 862 698 845 744 796 1040 759 781 865 845 944 984 897 822 1010
771 676 649 846 812 742 801 1040 860 874 848 890 744 749 838 1050 918 986 797 923 975 815 1020 906
901 1170 912 746 919 718 714 740
"""
# name -> (how the state goes on, what of it is observed)
MODELS = {"level": ([[1.0]], [1.0]), "trend": ([[1.0, 1.0], [0.0, 1.0]], [1.0, 0.0])}
VAGUE = 1e8             # the variance of each part of the state before anything is observed


def log_likelihood(logs, series, goes_on, observed):
    """The logarithm of the likelihood of a series: logs [1 + d] are those of the noise's variance
    and of the variances of what is added to each part of the state at each time.

    The first d observations only find out where the state is.
    """
    d = len(observed)
    noise, steps = ops.exp(logs[0]), ops.exp(logs[1:])
    state = ops.zeros((d,), dtype="float64")
    spread = VAGUE * ops.eye(d, dtype="float64")
    total = 0.0
    for i, y in enumerate(series):
        state = ops.matmul(goes_on, state)
        spread = ops.matmul(ops.matmul(goes_on, spread), goes_on.T) + ops.eye(
            d, dtype="float64") * steps
        surprise = y - ops.sum(observed * state)
        toward = ops.matmul(spread, observed)
        variance = ops.sum(observed * toward) + noise
        if i >= d:
            total = total - 0.5 * (ops.log(2 * math.pi * variance) + surprise ** 2 / variance)
        gain = toward / variance
        state = state + gain * surprise
        spread = spread - ops.outer(gain, toward)
    return total


def bfgs(function, x, most=100, tolerance=1e-6):
    """(x, value) where the function, which gives (value, gradient), is greatest.

    Quasi-Newton steps (Nocedal and Wright, Numerical Optimization, algorithm 6.1), halved until
    the value grows enough.
    """
    value, gradient = function(x)
    inverse = np.eye(len(x)) / max(1.0, float(np.linalg.norm(gradient)))
    for _ in range(most):
        if np.linalg.norm(gradient) < tolerance:
            break
        direction = inverse @ gradient
        length, gain = 1.0, float(gradient @ direction)
        while True:
            new = x + length * direction
            new_value, new_gradient = function(new)
            if new_value >= value + 1e-4 * length * gain or length < 1e-12:
                break
            length /= 2
        step, change = new - x, gradient - new_gradient
        x, value, gradient = new, new_value, new_gradient
        if step @ change > 1e-12:
            rho = 1 / (step @ change)
            left = np.eye(len(x)) - rho * np.outer(step, change)
            inverse = left @ inverse @ left.T + rho * np.outer(step, step)
    return x, value


def wandering(length: int, seed: int) -> np.ndarray:
    """A series of the trend model, with variances 1, 0.1 and 0.001."""
    random = np.random.default_rng(seed)
    slopes = np.cumsum(random.normal(0, 0.001 ** 0.5, length))
    level = np.cumsum(slopes + random.normal(0, 0.1 ** 0.5, length))
    return level + random.normal(0, 1, length)


def data_of(options):
    """The series, and the model's matrices, as the likelihood takes them."""
    series = (np.array(NILE.split(), np.float64) if options.model == "level"
              else wandering(options.length, options.seed))
    goes_on, observed = MODELS[options.model]
    return series, Tensor(np.array(goes_on)), Tensor(np.array(observed))


def main(given=None):
    options = arguments(
        __doc__, given,
        ("--model", str, "level", "level or trend", lambda name: name in MODELS),
        ("--length", int, 500, "of the trend model's series, at least 10", lambda n: n >= 10),
        ("--seed", int, 1, "at least 0", lambda n: n >= 0))
    series, goes_on, observed = data_of(options)
    both = program(cellc.value_and_grad(log_likelihood), options)
    args = Tensor(series), goes_on, observed

    def function(logs):
        value, gradient = both(Tensor(logs), *args)
        return float(value), gradient.asnumpy()

    start = np.full(1 + len(observed), math.log(series.var() / 2))
    report("likelihood and gradient", function, start)
    logs, value = bfgs(function, start)
    print(f"greatest log-likelihood: {value:.6f}")
    print("variances: " + ", ".join(f"{v:.6g}" for v in np.exp(logs)))
    return logs, value


if __name__ == "__main__":
    main()
