"""Bodies under gravity, written as plain nested loops over single elements; energy and a gradient.

    python examples/nbody.py                    # compiled
    python examples/nbody.py --mode eager --bodies 8 --steps 2

Each body pulls at each other one; leapfrog (kick, drift, kick) moves them. The energy should stay
what it was: how far it drifts is printed. Then the gradient of where a body ends by where another
one's flight began goes back through all steps, pairs and elements; it is compared with central
differences.
"""

from __future__ import annotations

import numpy as np
from harness import arguments, program, report

import cellc
from cellc import Tensor, ops

SOFTENING = 0.05        # squared distances get its square, so that no two bodies are too near


def accelerations(places, masses):
    """What pulls at each body: [n, 3]."""
    n = len(masses)
    found = ops.zeros_like(places)
    for i in range(n):
        x, y, z = 0.0, 0.0, 0.0
        for j in range(n):
            if i != j:
                dx = places[j, 0] - places[i, 0]
                dy = places[j, 1] - places[i, 1]
                dz = places[j, 2] - places[i, 2]
                square = dx * dx + dy * dy + dz * dz + SOFTENING * SOFTENING
                pull = masses[j] / (square * ops.sqrt(square))
                x, y, z = x + pull * dx, y + pull * dy, z + pull * dz
        found[i, 0], found[i, 1], found[i, 2] = x, y, z
    return found


def simulate(places, speeds, masses, steps, h):
    """(places, speeds) after so many steps of length h."""
    pulls = accelerations(places, masses)
    for _ in range(steps):
        speeds = speeds + 0.5 * h * pulls
        places = places + h * speeds
        pulls = accelerations(places, masses)
        speeds = speeds + 0.5 * h * pulls
    return places, speeds


def energy(places, speeds, masses):
    """Kinetic and potential energy of all bodies together."""
    n = len(masses)
    total = 0.0
    for i in range(n):
        square = 0.0
        for k in range(3):
            square = square + speeds[i, k] ** 2
        total = total + 0.5 * masses[i] * square
        for j in range(i):
            square = SOFTENING * SOFTENING
            for k in range(3):
                square = square + (places[i, k] - places[j, k]) ** 2
            total = total - masses[i] * masses[j] / ops.sqrt(square)
    return total


def end_of_first(speeds, places, masses, steps, h):
    """The first coordinate of the first body at the end."""
    return simulate(places, speeds, masses, steps, h)[0][0, 0]


def bodies(n: int, seed: int):
    """(places, speeds, masses) of a cloud that holds together, its centre at rest."""
    random = np.random.default_rng(seed)
    masses = random.uniform(0.5, 1.5, n) / n
    places = random.standard_normal((n, 3))
    speeds = 0.4 * random.standard_normal((n, 3))
    speeds -= np.average(speeds, axis=0, weights=masses)
    return Tensor(places), Tensor(speeds), Tensor(masses)


def difference(function, speeds, at, *args, width=1e-5):
    """The derivative of the function by one element of the speeds, by central differences."""
    ends = []
    for side in (1, -1):
        moved = speeds.asnumpy().copy()
        moved[at] += side * width
        ends.append(float(function(Tensor(moved), *args)))
    return (ends[0] - ends[1]) / (2 * width)


def main(given=None):
    options = arguments(
        __doc__, given,
        ("--bodies", int, 64, "at least 2", lambda n: n >= 2),
        ("--steps", int, 100, "at least 1", lambda n: n >= 1),
        ("--step-length", float, 0.01, "above 0", lambda h: h > 0),
        ("--seed", int, 1, "at least 0", lambda n: n >= 0))
    places, speeds, masses = bodies(options.bodies, options.seed)
    args = masses, options.steps, options.step_length
    of = program(energy, options)
    before = of(places, speeds, masses)
    end, last = report("simulation", program(simulate, options), places, speeds, *args)
    after = of(end, last, masses)
    print(f"energy before and after: {before:.9f}, {after:.9f} "
          f"(drift {abs(after / before - 1):.1e})")

    gradient = report("gradient by all first speeds", program(cellc.grad(end_of_first), options),
                      speeds, places, *args)
    found = float(gradient[1, 0])
    expected = difference(program(end_of_first, options), speeds, (1, 0), places, *args)
    print(f"d x[0] at the end / d v[1] at the start: {found:.9f}, by differences {expected:.9f}")
    return end.asnumpy(), gradient.asnumpy()


if __name__ == "__main__":
    main()
