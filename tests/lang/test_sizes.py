"""Symbolic sizes: what is the same for every size is parsed once, the rest asks for the number."""

import math

import numpy as np
import pytest

from cellc import Tensor
from cellc.errors import SymbolicFault
from cellc.ir.interpret import interpret
from cellc.ir.types import Dim, TensorType, f32
from cellc.parser.trace import trace
from cellc.parser.values import Leaf

X = Leaf(TensorType(f32, (Dim("n"), 4)))

FOR_EVERY_SIZE = [
    lambda x: x.reshape(x.shape[0] * 4) * x.shape[0],
    lambda x: x.reshape(x.shape[0], 2, 2).sum(axis=0) / len(x),
    lambda x: x * 2 if x.shape[1] == 4 and x.shape[0] > 1 else x,
    lambda x: x.sum() / (x.shape[0] * x.shape[1]),
    lambda x: x.reshape(-1, 2) if isinstance(x.shape[0], int) else x,
    lambda x: (x * int(x.shape[0]), x.shape, type(x.shape[0]) is int),
    lambda x: x.reshape(math.prod(x.shape)),
]

FOR_ONE_SIZE = [
    (lambda x: x * 2 if x.shape[0] == 4 else x, "comparing n with 4"),
    (lambda x: x if x.shape == (4, 4) else x + 1, "comparing n with 4"),
    (lambda x: x * (x.shape[0] in (1, 3)), "comparing n with 3"),
    (lambda x: sum(row for row in x), "the number n"),
    (lambda x: x / float(x.shape[0]), "the number n"),
    (lambda x: x * (1 / x.shape[0]), "/ with the number of n"),
    (lambda x: x * (x.shape[0] ** 0.5), "** with the number of n"),
    (lambda x: x * math.sqrt(x.shape[0]), "the number n"),
    (lambda x: x * np.ones(x.shape), "numpy.ones of n"),
    (lambda x: x * {4: 1}.get(x.shape[0], 2), "a key of n"),
    (lambda x: x * {4: 1}[x.shape[0]], "a key of n"),
    (lambda x: x if x.shape[0] in {4: 1} else x + 1, "a key of n"),
    (lambda x: x * len(f"{x.shape[0]}"), "the text of n"),
    (lambda x: print(x.shape), "the text of n"),
]


@pytest.mark.parametrize("fn", FOR_EVERY_SIZE)
def test_one_program_for_every_size(fn):
    traced = trace(fn, (X,), {}, "f")
    for n in (2, 3):
        x = np.arange(4.0 * n, dtype=np.float32).reshape(n, 4)
        found = interpret(traced.graph, x)
        expected = fn(Tensor(x))
        first = expected[0] if isinstance(expected, tuple) else expected
        np.testing.assert_allclose(found[0] if isinstance(found, tuple) else found, first.asnumpy())
        if isinstance(expected, tuple):
            assert found[1] == n


@pytest.mark.parametrize("fn, words", FOR_ONE_SIZE)
def test_the_number_is_asked_for(fn, words):
    with pytest.raises(SymbolicFault) as info:
        trace(fn, (X,), {}, "f")
    assert words in info.value.message
    assert info.value.loc is not None
