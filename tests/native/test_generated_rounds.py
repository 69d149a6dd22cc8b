"""Random loops over the rows of an array: value, gradient and second gradient as in eager mode.

What a round's gradient needs is made on the tape, pushed once or twice, carried, changed in part or
left in a branch: which, the program decides. It is chosen by a number, the same each time;
CELLC_SEEDS=1500 asks for so many.
"""

import os
import random

import numpy as np
import pytest

import cellc
from cellc import Tensor, context
from tests.agreement import define, difference

SEEDS = int(os.environ.get("CELLC_SEEDS") or 20)
TOGETHER = 10
FORMS = ["ops.tanh({})", "ops.sin({})", "ops.exp({} * 0.1)", "({} * {})", "({} * 0.5)", "(-{})"]
BOUNDS = {"f64": (1e-9, 1e-10), "f32": (1e-5, 1e-5)}


def expression(r: random.Random, names: list[str], depth: int = 0) -> str:
    if depth > 2 or r.random() < 0.25:
        return r.choice(names)
    if r.random() < 0.45:
        return r.choice(FORMS).replace("{}", expression(r, names, depth + 1))
    left, right = (expression(r, names, depth + 1) for _ in range(2))
    return f"({left} {r.choice('+-*')} {right})"


def statement(r: random.Random, names: list[str]) -> list[str]:
    kind, e = r.random(), lambda: expression(r, names)
    if kind < 0.15:
        return [f"y[i] = {e()} * 0.2"]
    if kind < 0.3:
        return [f"if {r.choice(names)}.sum() > 0.3:", f"    h = {e()} * 0.3",
                "else:", f"    h = {e()} * 0.4"]
    if kind < 0.4:
        return ["for j in range(10):", f"    s = ops.sin(s * 0.7 + {e()} * 0.1)"]
    if kind < 0.5:
        return ["h, s = s, h"]
    target = r.choice("abhs")
    line = f"{target} = {e()} * 0.5"
    if target not in names:
        names.append(target)
    return [line]


def source(seed: int) -> str:
    r = random.Random(seed)
    names, rolled = ["h", "w", "s", "x[i]"], r.random() < 0.6
    body = []
    if r.random() < 0.5:
        body.append("row = x[i]")
        names.append("row")
    if r.random() < 0.4:
        names.append("y[i]")
    for _ in range(r.randint(1, 4)):
        body += statement(r, names)
    body += ["h = ops.tanh(h)", "s = ops.sin(s)"] + ["i = i + 1"] * (not rolled)
    head = ["for i in range(x.shape[0]):"] if rolled else ["i = 0", "while i < x.shape[0]:"]
    lines = ["s = h * 0.3", "y = x * 1.0", *head, *(f"    {line}" for line in body),
             "return (h * s).sum() + (y * y).sum() * 0.1"]
    return "\n".join(["def program(x, w, h):", *(f"    {line}" for line in lines)])


def check(seed: int) -> None:
    text = source(seed)
    program = define(text)
    rng = np.random.default_rng(seed)
    arguments = [Tensor(rng.normal(size=shape) * 0.7) for shape in ((10, 5), (5,), (5,))]
    gradient = cellc.grad(program, argnums=(0, 1, 2))

    def second(x, w, h):
        return cellc.grad(lambda x, w: sum((g * g).sum() for g in gradient(x, w, h)),
                          argnums=(0, 1))(x, w)

    for function in (program, gradient, second):
        found = []
        for mode in (context.PYNATIVE_MODE, context.GRAPH_MODE):
            context.set_context(mode=mode)
            compiled = function is program and mode == context.GRAPH_MODE
            found.append((cellc.jit(function) if compiled else function)(*arguments))
        assert difference(*found, bounds=BOUNDS) is None, f"seed {seed}\n{text}"


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_rounds(first):
    for seed in range(first, first + TOGETHER):
        check(seed)
