"""The programs of `benchmarks/programs.py`: graph mode gives what eager mode gives in f64."""

import numpy as np
import pytest

import cellc
from benchmarks import programs
from cellc import Tensor, ops
from cellc.passes import fuse


@pytest.fixture(autouse=True)
def written_with_cellc(monkeypatch):
    monkeypatch.setattr(programs, "xp", ops)


def refuse(clusters, group):
    raise AssertionError(f"no kernel: {clusters.refusal[group]}")


@pytest.mark.parametrize("program", programs.PROGRAMS, ids=lambda p: p.__name__)
@pytest.mark.parametrize("of", ["values", "gradients"])
def test_as_in_eager_mode(program, of, monkeypatch):
    """Every group that fusion forms is a kernel: none is taken apart again."""
    monkeypatch.setattr(fuse.Clusters, "breaking", refuse)

    def loss(*args):
        y = program(*args)
        return (y * y).sum()

    given = programs.operands(program)
    floats = tuple(i for i, x in enumerate(given) if x.dtype.kind == "f")
    function = cellc.grad(loss, floats) if of == "gradients" else program
    found = cellc.jit(function)(*map(Tensor, given))
    cellc.context.set_context(mode=cellc.PYNATIVE_MODE)
    exact = function(*(Tensor(x.astype(np.float64) if x.dtype.kind == "f" else x) for x in given))
    for a, b in zip(_arrays(found), _arrays(exact), strict=True):
        assert a.dtype == np.float32 and a.shape == b.shape
        np.testing.assert_allclose(a, b, 2e-3, 2e-4 * max(abs(b).max(), 1e-6))


def _arrays(found) -> list[np.ndarray]:
    return [x.asnumpy() for x in (found if isinstance(found, tuple) else (found,))]
