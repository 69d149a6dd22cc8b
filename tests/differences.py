"""Gradients against central differences, in f64, along a random direction."""

import numpy as np

import cellc
from cellc import Tensor


def check_gradient(function, *arrays, tolerance=1e-6, step=1e-5, seed=0):
    """The gradient of a function by all its f64 arguments, against the difference of its value.

    Its elements are weighted at random and summed; both are taken along one random direction.
    """
    draw = np.random.default_rng(seed)
    arrays = [np.asarray(a, np.float64) for a in arrays]
    weights = draw.normal(size=function(*map(Tensor, arrays)).shape)

    def value(*tensors):
        return cellc.ops.sum(function(*tensors) * Tensor(weights))

    places = tuple(range(len(arrays)))
    gradients = cellc.grad(value, argnums=places)(*map(Tensor, arrays))
    directions = [draw.normal(size=a.shape) for a in arrays]
    found = sum(float((g.asnumpy() * d).sum()) for g, d in zip(gradients, directions))
    plus = value(*(Tensor(a + step * d) for a, d in zip(arrays, directions)))
    minus = value(*(Tensor(a - step * d) for a, d in zip(arrays, directions)))
    expected = (plus.item() - minus.item()) / (2 * step)
    assert abs(found - expected) <= tolerance * max(1.0, abs(expected)), (found, expected)
