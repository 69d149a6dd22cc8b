"""Generated programs in lanes: branches, loops and early exits that each lane takes its own way.

The programs are those of `test_generated.py`, some of whose loops are made to depend on
data. Compiled, all lanes at once; expected, eager mode on one lane after another.
"""

import numpy as np
import pytest
from test_generated import Program, half

import cellc
from cellc import Tensor, ops

LANES = np.random.default_rng(0).uniform(-3, 3, (3, 7))
ROUNDS = {"range(1)": "range(ops.cast(ops.abs(b), cellc.int64))",
          "range(2)": "range(ops.cast(ops.abs(a) * 0.5 + 1.0, cellc.int64))"}


def define(seed, path):
    text = "\n".join(Program(seed).lines) + "\n"
    for known, data in ROUNDS.items():
        text = text.replace(known, data)
    path.write_text(text, encoding="utf-8")
    scope = {"half": half, "ops": ops, "cellc": cellc, "__name__": "generated"}
    exec(compile(text, str(path), "exec"), scope)
    return scope["f"]


def floats(values):
    return [float(x.asnumpy() if isinstance(x, Tensor) else x) for x in values]


def each(function, lanes):
    """One column for each lane, by eager mode."""
    return np.array([floats(function(*map(Tensor, lane))) for lane in lanes.T]).T


def columns(values):
    return np.stack([np.broadcast_to(x.asnumpy() if isinstance(x, Tensor) else x, 7)
                     for x in values])


@pytest.mark.parametrize("seed", [1, 3, 5, 8, 11, 17])
def test_lanes_of_programs_and_of_their_derivatives(seed, tmp_path):
    f = define(seed, tmp_path / f"generated_{seed}.py")
    lanes = tuple(map(Tensor, LANES))
    near = {"rtol": 1e-8, "atol": 1e-10, "err_msg": (tmp_path / f"generated_{seed}.py").read_text()}
    found = cellc.jit(lambda *xs: cellc.vmap(f)(*xs))(*lanes)
    np.testing.assert_allclose(columns(found), each(f, LANES), **near)
    shared = np.stack([LANES[0], np.full(7, LANES[1, 2]), LANES[2]])
    found = cellc.jit(lambda a, b, c: cellc.vmap(f, (0, None, 0))(a, b, c))(
        lanes[0], lanes[1][2], lanes[2])
    np.testing.assert_allclose(columns(found), each(f, shared), **near)

    def total(a, b, c):
        values = f(a, b, c)
        return values[0] + 2.0 * values[1] + 3.0 * values[2] + values[4]

    slopes = cellc.grad(total, argnums=(0, 1, 2))
    expected = each(slopes, LANES)
    found = cellc.jit(lambda *xs: cellc.vmap(slopes)(*xs))(*lanes)
    np.testing.assert_allclose(columns(found), expected, **near)
    found = cellc.jit(lambda *xs: cellc.grad(
        lambda *xs: ops.sum(cellc.vmap(total)(*xs)), argnums=(0, 1, 2))(*xs))(*lanes)
    np.testing.assert_allclose(columns(found), expected, **near)
    along = cellc.jit(lambda *xs: cellc.vmap(
        lambda *x: cellc.jvp(total, x, (1.0, -2.0, 0.5))[1])(*xs))(*lanes)
    np.testing.assert_allclose(along.asnumpy(), np.array([1.0, -2.0, 0.5]) @ expected, **near)
