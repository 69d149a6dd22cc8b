"""Generated programs on tensors of many shapes: compiled, they give what eager mode gives in f64.

Two kinds: loop nests (elementwise work, broadcasts, reductions and scans along any axes,
transposes, which fuse in many ways), and chains of products with rows between them, masked and
scaled. Sizes are such that vectors have tails, blocks of rows have rests, and tasks share. A
program is chosen by a number, the same each time; CELLC_SEEDS=1500, as `.ci/run` has it, asks for
so many of each kind.
"""

import os
import random

import numpy as np
import pytest

import cellc
from cellc import Tensor, context
from tests.agreement import define

SEEDS = int(os.environ.get("CELLC_SEEDS") or 60)
TOGETHER = 20
SIZES = (1, 2, 3, 4, 5, 7, 8, 16, 17, 33, 64, 100)
MOST = 60_000               # elements of an array
LEFT_OVER = 1e-2            # where all is smaller, it has cancelled: what f32 has left is rounding

SAME_SHAPE = [
    "ops.exp(-{x} * {x})", "ops.tanh({x})", "ops.relu({x})", "ops.sigmoid({x})", "{x} * {x}",
    "{x} * 0.5 + 1", "ops.abs({x})", "ops.sin({x})", "ops.erf({x})", "ops.sqrt(ops.abs({x}) + 1)",
    "ops.log({x} * {x} + 1)", "-{x}", "ops.cumsum({x}, {a})", "ops.flip({x}, {a})",
    "ops.where({x} > 0, {x}, {x} * 0.1)", "ops.softmax({x}, {a})", "{x} + {x}.sum()",
    "{x} - {x}.mean({a}, keepdims=True)", "{x} - {x}.mean(({a}, {b}), keepdims=True)",
    "{x} / (1 + ({x} * {x}).sum({a}, keepdims=True))", "{x} * {x}.max({a}, keepdims=True)",
    "ops.swapaxes(ops.exp(ops.swapaxes({x}, {a}, {b}) * 0.1), {a}, {b})"]
TURNED, SUMMED = "ops.swapaxes({x}, {a}, {b})", "{x}.sum({a}, keepdims=True)"
OF_TWO = ["{x} + {y}", "{x} * {y}", "{x} - {y}", "ops.maximum({x}, {y})", "{x} * ops.tanh({y})",
          "{x} / (1 + {y} * {y})", "ops.exp(-({x} - {y}) * ({x} - {y}))"]
RESULTS = ["{o}", "{o}", "{o}.sum({a})", "{o}.max()", "{o}.sum((0, {a} or 1))", "{o}.mean()"]


def nest(seed: int) -> tuple[dict, list[str], str]:
    """Inputs with their shapes, lines, and what is returned."""
    r = random.Random(seed)
    axes = r.choice((2, 3, 3, 4))
    full = [r.choice(SIZES) for _ in range(axes)]
    while np.prod(full) > MOST:
        full[r.randrange(axes)] = 2
    inputs = {f"x{i}": tuple(n if r.random() < 0.7 else 1 for n in full)
              for i in range(r.randint(1, 3))}
    shapes, names, lines = dict(inputs), list(inputs), []
    for i in range(r.randint(2, 7)):
        x, (a, b) = r.choice(names[-3:]), r.sample(range(axes), 2)
        shape = list(shapes[x])
        if r.random() < 0.5 and len(names) > 1:
            y = r.choice(names)
            form = r.choice(OF_TWO)
            try:
                shape = np.broadcast_shapes(tuple(shape), shapes[y])
            except ValueError:
                continue
            text = form.format(x=x, y=y)
        else:
            form = r.choice([*SAME_SHAPE, TURNED, SUMMED])
            text = form.format(x=x, a=a, b=b)
            if form == TURNED:
                shape[a], shape[b] = shape[b], shape[a]
            elif form == SUMMED:
                shape[a] = 1
        shapes[f"t{i}"] = tuple(shape)
        lines.append(f"t{i} = {text}")
        names.append(f"t{i}")
    results = [r.choice(RESULTS).format(o=o, a=r.randrange(axes))
               for o in (names[-1], *([r.choice(names)] if r.random() < 0.5 else ()))]
    return inputs, lines, ", ".join(results)


BEFORE = ["s = s * 0.25", "s = s + a", "s = s * b", "s = ops.where(a > 0, s, -10.0)",
          "s = ops.tanh(s)", "s = s + g"]
BETWEEN = ["s = ops.softmax(s, -1)", "s = s / (1 + (s * s).sum(-1, keepdims=True))",
           "s = s - s.max(-1, keepdims=True)",
           "s = ops.exp(s - s.max(-1, keepdims=True)) * b"]
AFTER = ["s = s * a", "s = s * (b > 0)", "s = s * 2 - 1", "s = ops.relu(s)", "s = s * g"]
AT_LAST = ["y = y + c", "y = ops.tanh(y)", "y = y * 0.5"]


def chain(seed: int) -> tuple[dict, list[str], str]:
    """Attention and its like; heads may stand before the steps or behind them."""
    r = random.Random(seed)
    lead = tuple(r.choice((1, 2, 3)) for _ in range(r.choice((0, 1, 2))))
    m, n = r.choice((32, 33, 40, 65, 100, 129, 200)), r.choice((1, 8, 33, 64, 70, 128, 500))
    d, e = r.choice((1, 7, 16, 64)), r.choice((1, 5, 16, 64, 100))
    inside = len(lead) == 2 and r.random() < 0.5

    def held(rows, columns):
        return (lead[0], rows, lead[1], columns) if inside else (*lead, rows, columns)

    def some(*shape):
        return tuple(x if r.random() < 0.6 else 1 for x in shape)

    inputs = {"q": held(m, d), "k": held(n, d), "v": held(n, e), "a": some(*lead, m, n),
              "b": some(*lead, m, n), "c": some(*lead, m, e), "g": (n,)}
    lines = ["q, k, v = (ops.swapaxes(x, 1, 2) for x in (q, k, v))"] if inside else []
    lines += ["s = ops.matmul(q, ops.swapaxes(k, -1, -2))", *r.sample(BEFORE, r.randint(0, 2)),
              r.choice(BETWEEN), *r.sample(AFTER, r.randint(0, 2))]
    lines += [r.choice(BETWEEN)] if r.random() < 0.3 else []
    lines += ["y = ops.matmul(s, v)", *r.sample(AT_LAST, r.randint(0, 2))]
    lines += ["y = ops.swapaxes(y, 1, 2)"] if inside else []
    return inputs, lines, "y"


def source(made) -> str:
    inputs, lines, result = made
    arguments = ", ".join(inputs)
    body = "".join(f"    {line}\n" for line in lines)
    return (f"def program({arguments}):\n{body}    return {result}\n\n"
            f"def loss({arguments}):\n{body}    total = 0.0\n"
            f"    for y in ({result},):\n        total = total + (y * y).mean()\n"
            "    return total\n")


def several(result) -> list[np.ndarray]:
    return [x.asnumpy() for x in (result if isinstance(result, tuple) else (result,))]


def check(made, seed: int, gradient: bool) -> None:
    text = source(made)
    arrays = [np.random.default_rng(seed).standard_normal(s) for s in made[0].values()]
    values = [("program", np.float64, 1e-9), ("program", np.float32, 3e-3)]
    values += [("loss", np.float64, 1e-7)] * gradient
    for name, dtype, bits in values:
        function = define(text, name)
        if name == "loss":
            function = cellc.grad(function, tuple(range(len(arrays))))
        found = []
        for mode, kind in ((context.PYNATIVE_MODE, np.float64), (context.GRAPH_MODE, dtype)):
            context.set_context(mode=mode)
            call = cellc.jit(function) if name == "program" and mode == 0 else function
            found.append(several(call(*(Tensor(x.astype(kind)) for x in arrays))))
        for exact, got in zip(*found, strict=True):
            scale = abs(exact).max()
            if dtype is np.float32 and scale < LEFT_OVER:
                continue
            scale = max(scale, LEFT_OVER)
            assert got.shape == exact.shape, f"seed {seed}, {name}:\n{text}"
            np.testing.assert_allclose(got, exact, bits, bits * scale,
                                       err_msg=f"seed {seed}, {name} in {dtype.__name__}:\n{text}")


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_nests(first):
    for seed in range(first, first + TOGETHER):
        check(nest(seed), seed, gradient=True)


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_chains(first):
    for seed in range(first, first + TOGETHER):
        check(chain(seed), seed, gradient=False)
