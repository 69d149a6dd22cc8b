"""examples/nbody.py against NumPy and central differences."""

import nbody
import numpy as np
import pytest

import cellc
from cellc import Tensor


def pulls(places, masses):
    apart = places[None] - places[:, None]
    square = (apart ** 2).sum(-1) + nbody.SOFTENING ** 2
    return (masses[None, :, None] * apart / square[..., None] ** 1.5).sum(1)


def simulated(places, speeds, masses, steps, h):
    for _ in range(steps):
        speeds = speeds + 0.5 * h * pulls(places, masses)
        places = places + h * speeds
        speeds = speeds + 0.5 * h * pulls(places, masses)
    return places, speeds


def energy(places, speeds, masses):
    apart = ((places[None] - places[:, None]) ** 2).sum(-1) + nbody.SOFTENING ** 2
    pairs = masses[:, None] * masses / np.sqrt(apart)
    return 0.5 * (masses * (speeds ** 2).sum(-1)).sum() - np.tril(pairs, -1).sum()


@pytest.mark.parametrize("n, steps", [(11, 30), (2, 3)])
def test_simulation_and_energy(n, steps):
    arrays = [x.asnumpy() for x in nbody.bodies(n, 2)]
    places, speeds, masses = map(Tensor, arrays)
    found = cellc.jit(nbody.simulate)(places, speeds, masses, steps, 0.01)
    expected = simulated(*arrays, steps, 0.01)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.asnumpy(), b, rtol=1e-10, atol=1e-12)
    assert float(cellc.jit(nbody.energy)(*found, masses)) == pytest.approx(
        energy(*expected, arrays[2]), rel=1e-11)


def test_gradient_against_central_differences():
    places, speeds, masses = nbody.bodies(10, 3)
    args = places, masses, 25, 0.02
    gradient = cellc.jit(cellc.grad(nbody.end_of_first))(speeds, *args).asnumpy()
    end = cellc.jit(nbody.end_of_first)
    for at in ((0, 0), (1, 0), (9, 2), (4, 1)):
        assert gradient[at] == pytest.approx(
            nbody.difference(end, speeds, at, *args, width=1e-4), rel=1e-5, abs=1e-9)


def test_both_modes(main_in):
    arguments = "--bodies", 3, "--steps", 2, "--step-length", 0.1
    found, text = main_in(nbody, "graph", *arguments)
    same, _ = main_in(nbody, "eager", *arguments)
    for a, b in zip(found, same, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)
    assert "drift" in text


def test_it_is_loops(primitives):
    places, speeds, masses = nbody.bodies(50, 1)
    for function in (nbody.simulate, cellc.grad(nbody.simulate)):
        names = primitives(function, places, speeds, masses, 1000, 0.01)
        assert names.count("while") >= 3 and len(names) < 1500
