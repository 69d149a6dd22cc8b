"""Programs made line by line: what eager mode can run on small arrays is kept, and compiled.

So the lines may be of any kind (indices, sorts, views, products, sums, loops over rows, branches on
data): whether shapes fit is seen by running them. Values and gradients are those of eager mode in
f64. A program is chosen by a number; CELLC_SEEDS=200, as `.ci/run` has it, asks for so many.
"""

import os
import random

import numpy as np
import pytest

import cellc
from cellc import Tensor, context
from cellc.errors import CellcError
from tests.agreement import define

SEEDS = int(os.environ.get("CELLC_SEEDS") or 40)
TOGETHER = 20
LARGEST = 30.0              # what grows beyond this would make rounding errors large as well

OF_ONE = [
    "ops.tanh({x})", "ops.gelu({x})", "ops.exp(-ops.abs({x}))", "ops.log1p({x} * {x})", "-{x}",
    "ops.clip({x}, -0.5, 0.5)", "ops.where({x} > 0.1, {x}, {x} * 0.3)", "1 / (2 + ops.abs({x}))",
    "{x}.sum({a})", "{x}.mean({a}, keepdims=True)", "{x}.max({a})", "ops.softmax({x}, {a})",
    "ops.logsumexp({x}, {a})", "ops.var({x}, {a})", "ops.cumsum({x}, {a}) * 0.4",
    "ops.sort({x}, {a})[0]", "ops.flip({x}, ({a},))", "ops.roll({x}, 1, {a})",
    "ops.prod({x} * 0.5 + 1, {a})", "ops.topk({x}, 2, {a})[0]", "ops.chunk({x}, 2, {a})[0]",
    "ops.concat(({x}, {x} * 0.5), {a})", "ops.stack(({x}, -{x}), {a})", "ops.swapaxes({x}, {a}, 0)",
    "ops.repeat_interleave({x}, 2, {a})", "ops.index_select({x}, {a}, i)", "ops.take({x}, i, {a})",
    "ops.gather_elements({x}, {a}, ops.argsort({x}, {a}))", "{x}[0]", "{x}[1:]", "{x}[..., ::2]",
    "{x}[..., ::-1]", "{x}[:, 1]", "{x}[:, None]", "{x}[i]", "{x}[i, i]", "{x}[..., i]", "{x}[k]",
    "{x}[..., k]", "{x}.T", "{x}.reshape(-1)", "{x}.reshape((2, -1))", "{x}.reshape((3, -1, 2))",
    "ops.tril({x})", "ops.diagonal({x})", "ops.tile({x}, (2, 1))", "ops.pad({x}, (1, 2))",
    "ops.pad({x}, (-1, 1))", "ops.transpose({x}, (2, 0, 1))", "ops.matmul({x}, {x}.T) * 0.2",
    "ops.layer_norm({x}, {x}.shape[-1:])", "ops.max_pool2d({x}[None], 2)[0]", "{x}.sum()",
    "cellc.vmap(lambda r: r * r.max())({x})", "cellc.grad(lambda r: (r ** 3).sum())({x})"]
OF_TWO = [
    "{x} + {y}", "{x} * {y}", "{x} / (2 + {y} * {y})", "ops.maximum({x}, {y})", "{x} @ {y} * 0.3",
    "ops.where({x} > {y}, {x}, {y} * 0.2)", "ops.concat(({x}, {y}), -1)", "ops.atan2({x}, {y})",
    "ops.tensordot({x}, {y}, 1) * 0.3", "ops.logaddexp({x}, {y})", "{x} - {y}.mean()"]
WRITTEN = ["{t}[0] = {t}[1] * 0.5", "{t}[1:] += {t}[:-1]", "{t}[i] += 0.25", "{t}[k] = {t}[0]",
           "{t}[..., ::2] = {t}[..., :1]", "{t}[{t} > 0.4] = 0.2"]
OF_ROWS = ["row * 2", "row * row.sum()", "ops.softmax(row, -1)", "h * row", "row.max()", "row[i]",
           "ops.sin(row * h.sum())", "row - row.mean(-1, keepdims=True)", "row @ c * 0.4"]
CARRIED = ["ops.tanh(h + row)", "h * 0.5 + row", "row * h", "0.9 * h", "h"]


class Maker:
    """Draws lines and keeps those that eager mode can run."""

    def __init__(self, seed: int):
        self.choose = random.Random(seed)
        draw = np.random.default_rng(seed)
        rows = self._shape()
        shapes = {"a": rows, "b": rows if seed % 2 else self._shape(), "c": (rows[-1], 4)}
        self.inputs = {name: Tensor(draw.standard_normal(shape) * 0.6)
                       for name, shape in shapes.items()}
        self.inputs |= {"i": Tensor(np.array([1, 0, 1])), "k": 1}
        self.known = dict(self.inputs)
        self.floats = list(shapes)
        self.lines: list[str] = []

    def _shape(self) -> tuple[int, ...]:
        return tuple(self.choose.choices((2, 3, 4, 5, 6, 17), k=self.choose.choice((1, 2, 2, 3))))

    def expression(self) -> str:
        x, y = self.choose.choice(self.floats[-4:]), self.choose.choice(self.floats)
        axis = self.choose.choice((-1, 0, self.known[x].ndim - 1))
        return self.choose.choice(self.choose.choice((OF_ONE, OF_ONE, OF_TWO))).format(
            x=x, y=y, a=axis)

    def statement(self, t: str) -> list[str]:
        """Lines that give a value to `t`."""
        pick, x = self.choose.choice, self.choose.choice(self.floats)
        kind = self.choose.randrange(6)
        if kind == 0:
            return [f"{t} = {x} * 1.0", pick(WRITTEN).format(t=t)]
        if kind == 1:
            return [f"{t} = {x} * 1.0", f"for _ in range({pick((3, 20))}):",
                    f"    u = {self.expression()}",
                    f"    {t} = {t} * 0.6 + ops.tanh(u.mean()) * {x}"]
        if kind == 2:
            return [f"{t} = {self.expression()}", f"if {x}.sum() > 0.1:",
                    f"    {t} = {t} * 0.5 + {pick(self.floats)}.sum() * 0.1"]
        if kind == 3:
            return ["found = []", f"h = {x}[0] * 0.5", f"for row in {x}:",
                    f"    found.append({pick(OF_ROWS)})", f"    h = {pick(CARRIED)}",
                    f"{t} = ops.stack(found) * h.mean()"]
        return [f"{t} = {self.expression()}"]

    def add(self, t: str) -> bool:
        lines = self.statement(t)
        scope = self.known | {"ops": cellc.ops, "cellc": cellc}
        try:
            exec("\n".join(lines), scope)
        except (CellcError, TypeError, ValueError, IndexError):
            return False
        value = scope[t].asnumpy()
        if value.dtype != np.float64 or not 0 < value.size < 3000 or not (
                np.isfinite(value).all() and abs(value).max() < LARGEST):
            return False
        self.known[t] = scope[t]
        self.floats.append(t)
        self.lines += lines
        return True


def program(seed: int) -> tuple[str, list]:
    """A function as text, and what it is called with."""
    with context.eagerly():
        maker = Maker(seed)
        for n in range(maker.choose.randint(3, 8)):
            any(maker.add(f"t{n}") for _ in range(12))
    body = "".join(f"    {line}\n" for line in maker.lines)
    results = ", ".join(maker.floats[-3:])
    names = ", ".join(maker.inputs)
    text = (f"def program({names}):\n{body}    return {results}\n\n"
            f"def loss({names}):\n{body}    total = 0.0\n    for x in ({results},):\n"
            "        total = total + (x * x).mean()\n    return total\n")
    return text, list(maker.inputs.values())


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_as_in_eager_mode(first):
    context.set_context(mode=context.GRAPH_MODE)
    for seed in range(first, first + TOGETHER):
        text, given = program(seed)
        gradient = cellc.grad(define(text, "loss"), (0, 1, 2))
        for function in (define(text), gradient):
            with context.eagerly():
                expected = function(*given)
            for found, exact in zip(cellc.jit(function)(*given), expected, strict=True):
                exact = exact.asnumpy()
                np.testing.assert_allclose(found.asnumpy(), exact, 1e-7,
                                           1e-9 * max(1, abs(exact).max()),
                                           err_msg=f"seed {seed}:\n{text}")
