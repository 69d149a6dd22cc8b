"""An adaptive Runge-Kutta method (Dormand-Prince 5(4)), and gradients through all its steps.

    python examples/ode.py                    # compiled
    python examples/ode.py --mode eager       # the same functions, operation by operation

Foxes and rabbits after Lotka and Volterra: x' = a x - b x y, y' = c x y - d y. The solver estimates
the error of each step, rejects a step that is too long, and chooses the next one by it; so the
number of steps is known only when the program runs, and the list of them grows with it. The
gradients by the four parameters of the final number of foxes, and of their mean over the time, go
back through every step and every choice of a length, and are compared with central differences.
Volterra's law: in the long run the mean is a / b, whatever c and d are.

Coefficients: Dormand and Prince, J. Comp. Appl. Math. 6, 1980. Step control: Hairer, Norsett and
Wanner, Solving Ordinary Differential Equations I, II.4.
"""

from __future__ import annotations

from harness import arguments, program, report

import cellc
from cellc import ops

# One row a stage; the last row is the solution of order 5 as well.
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
# Order 5 less order 4.
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)

START = (10.0, 5.0)                             # rabbits, foxes
PARAMETERS = (1.5, 1.0, 1.0, 3.0)               # a, b, c, d


def field(state, parameters):
    """The right side of the equations."""
    x, y = state
    a, b, c, d = parameters
    return (a * x - b * x * y, c * x * y - d * y)


def combined(coefficients, slopes):
    """The sum of the slopes by these coefficients, component by component."""
    return [sum(c * k for c, k in zip(coefficients, component, strict=False) if c != 0)
            for component in zip(*slopes, strict=True)]


def step(state, slope, h, parameters):
    """(the state after h, the slope there, the estimated error of each component)."""
    slopes = [slope]
    for row in STAGES:
        new = tuple(x + h * dx for x, dx in zip(state, combined(row, slopes), strict=True))
        slopes.append(field(new, parameters))
    return new, slopes[-1], [h * e for e in combined(ERROR, slopes)]


def size_of(error, old, new, tolerance):
    """The error as a multiple of what is allowed: the root mean square over the components."""
    parts = [e / (tolerance + tolerance * max(abs(a), abs(b)))
             for e, a, b in zip(error, old, new, strict=True)]
    return ops.sqrt(sum(p * p for p in parts) / len(parts))


def solve(state, parameters, end, tolerance):
    """(the steps taken up to the time `end`, each a time and a state; how many were rejected)."""
    time, h, rejected = 0.0, 0.01, 0
    steps = [(time, state)]
    slope = field(state, parameters)
    while time < end:
        h = min(h, end - time)
        new, new_slope, error = step(state, slope, h, parameters)
        size = size_of(error, state, new, tolerance)
        if size <= 1:
            time, state, slope = time + h, new, new_slope
            steps.append((time, state))
        else:
            rejected += 1
        h = h * min(10.0, max(0.2, 0.9 * max(size, 1e-10) ** -0.2))
    return steps, rejected


def foxes(parameters, end, tolerance):
    """How many foxes there are at the end."""
    steps, _ = solve(START, parameters, end, tolerance)
    _, (_, y) = steps[-1]
    return y


def mean_foxes(parameters, end, tolerance):
    """Their mean over the time, by the trapezoidal rule over the steps."""
    steps, _ = solve(START, parameters, end, tolerance)
    before, area = 0.0, 0.0
    last = START[1]
    for time, (_, y) in steps:
        area += (time - before) * (y + last) / 2
        before, last = time, y
    return area / end


def differences(function, parameters, *args, width=1e-5):
    """The gradient by central differences."""
    found = []
    for i, p in enumerate(parameters):
        ends = [function((*parameters[:i], p + side * width, *parameters[i + 1:]), *args)
                for side in (1, -1)]
        found.append((ends[0] - ends[1]) / (2 * width))
    return found


def main(given=None):
    options = arguments(
        __doc__, given,
        ("--end", float, 10.0, "the time to solve up to, above 0", lambda t: t > 0),
        ("--tolerance", float, 1e-8, "relative and absolute, 1e-13 to 1",
         lambda x: 1e-13 <= x <= 1))
    args = (options.end, options.tolerance)
    steps, rejected = report("solution", program(solve, options), START, PARAMETERS, *args)
    _, state = steps[-1]
    print(f"rabbits, foxes at t = {options.end}: {state[0]:.10f}, {state[1]:.10f} "
          f"({len(steps) - 1} steps, {rejected} rejected)")
    print(f"foxes, mean over the time: {program(mean_foxes, options)(PARAMETERS, *args):.6f}")

    gradients = []
    for name, function in (("foxes", foxes), ("mean", mean_foxes)):
        gradient = report(f"gradient of {name} by the parameters",
                          program(cellc.grad(function), options), PARAMETERS, *args)
        print(f"d {name} / d (a, b, c, d): " + ", ".join(f"{g:.8f}" for g in gradient))
        expected = differences(program(function, options), PARAMETERS, *args)
        error = max(abs(g - e) / (1 + abs(e)) for g, e in zip(gradient, expected, strict=True))
        print(f"largest relative difference from central differences: {error:.1e}")
        gradients.append(gradient)
    return state, gradients


if __name__ == "__main__":
    main()
