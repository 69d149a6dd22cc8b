"""Random chains of views, and random loops whose states are arrangements of one another: as in
eager mode, value and gradient.

A chain of reshapes and transposes is one address, for which the axes of a loop nest are cut, some
of them more than once; and a state is made over the old one only where each element is read before
it is written, whatever the other states read. CELLC_SEEDS=1500 asks for so many.
"""

import os
import random

import numpy as np
import pytest

import cellc
from cellc import Tensor, context
from tests.agreement import define, difference

SEEDS = int(os.environ.get("CELLC_SEEDS") or 40)
TOGETHER = 10
SHAPES = {24: ["(24,)", "(4, 6)", "(6, 4)", "(2, 3, 4)", "(4, 3, 2)", "(2, 2, 6)", "(2, 2, 2, 3)"],
          60: ["(60,)", "(5, 12)", "(4, 15)", "(3, 4, 5)", "(6, 5, 2)", "(2, 5, 2, 3)"],
          144: ["(12, 12)", "(4, 3, 12)", "(2, 6, 6, 2)", "(3, 4, 4, 3)", "(16, 9)"]}


def chain(r: random.Random, x: str, size: int, shape: str) -> str:
    """The elements of x in another order."""
    for _ in range(r.randint(1, 4)):
        shape = r.choice(SHAPES[size]) if r.random() < 0.8 else shape
        axes = list(range(len(eval(shape))))
        r.shuffle(axes)
        x = f"{x}.reshape({shape}).transpose({tuple(axes)})"
        shape = str(tuple(eval(shape)[i] for i in axes))
        if r.random() < 0.2:
            x = f"ops.flip({x}, ({r.randrange(len(axes))},))"
    return x


def expression(r: random.Random, names: list[str], size: int, shape: str, depth: int = 3) -> str:
    if depth == 0 or r.random() < 0.15:
        return r.choice(names)

    def inner():
        return expression(r, names, size, shape, depth - 1)

    match r.randrange(6):
        case 0 | 1:
            return f"({inner()} * 0.5 + 0.4 * {inner()})"
        case 2:
            return f"ops.tanh({inner()} * {inner()})"
        case 3:
            return f"(0.8 * {inner()} + 0.1 * {inner()}[1:2])"
        case _:
            return f"{chain(r, inner(), size, shape)}.reshape({shape})"


def source(seed: int) -> tuple[str, int, tuple]:
    r = random.Random(seed)
    size = r.choice(sorted(SHAPES))
    shape = r.choice([s for s in SHAPES[size] if len(eval(s)) > 1])
    names = ["a", "b", "c"][:r.randint(1, 3)]
    states, lines = ", ".join(names), []
    known = list(names)
    for k in range(r.randrange(3)):
        lines.append(f"t{k} = {expression(r, known, size, shape, 2)}")
        known.append(f"t{k}")
    lines.append(f"{states} = {', '.join(expression(r, known, size, shape) for _ in names)}")
    return "\n".join([f"def program({states}):", f"    for _ in range({r.choice([1, 20])}):",
                      *(f"        {line}" for line in lines), f"    return {states}"]), len(
                          names), eval(shape)


def check(seed: int) -> None:
    text, count, shape = source(seed)
    program = define(text)

    def loss(*xs):
        found = program(*xs)
        return sum((x * x).mean() for x in (found if count > 1 else (found,)))

    rng = np.random.default_rng(seed)
    arguments = [Tensor(rng.normal(size=shape) * 0.5) for _ in range(count)]
    for function in (program, cellc.grad(loss, tuple(range(count)))):
        with context.eagerly():
            expected = function(*arguments)
        found = cellc.jit(function)(*arguments)
        wrong = difference(expected, found, bounds={"f64": (1e-7, 1e-9)})
        assert wrong is None, f"seed {seed}: {wrong}\n{text}"


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_views(first):
    for seed in range(first, first + TOGETHER):
        check(seed)
