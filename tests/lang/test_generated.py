"""Generated programs: branches, loops, early exits and containers on numbers, graph against Python.

Conditions are on arguments, so every `if` is one that only the running program decides, and every
way out of a block meets every other. Python itself says what is right.
"""

import random

import pytest
from same import interpreted

from cellc.errors import CellcError

VARIABLES = ("a", "b", "c")


class Program:
    """A random function of three floats, as text."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.lines = ["def f(a, b, c):", "    xs = [a, 1.0]"]
        self.budget = 14
        self.block(1, loops=0)
        self.lines.append("    return a, b, c, xs[0], xs[1]")

    def number(self):
        return self.random.choice([*VARIABLES, "xs[0]", "xs[1]", "0.5", "2.0"])

    def expression(self):
        kind = self.random.randrange(6)
        x, y = self.number(), self.number()
        if kind < 3:
            return f"{x} {self.random.choice('+-*')} {y}"
        if kind == 3:
            return f"({x} if {self.condition()} else {y})"
        if kind == 4:
            return f"max({x}, {y})"
        return f"half({x})"

    def condition(self):
        kind = self.random.randrange(5)
        test = f"{self.number()} {self.random.choice('<>')} {self.number()}"
        if kind == 0:
            return f"{test} and {self.number()} > 0"
        if kind == 1:
            return f"not ({test} or {self.number()} < 1)"
        if kind == 2:
            return f"-1 < {self.number()} < {self.number()}"
        return test

    def block(self, depth, loops):
        for _ in range(self.random.randint(1, 3)):
            self.statement(depth, loops)

    def statement(self, depth, loops):
        self.budget -= 1
        pad = "    " * depth
        kind = self.random.randrange(10 if self.budget > 0 and depth < 5 else 4)
        if kind < 2:
            self.lines.append(f"{pad}{self.random.choice(VARIABLES)} = {self.expression()}")
        elif kind == 2:
            self.lines.append(f"{pad}xs[{self.random.randrange(2)}] = {self.expression()}")
        elif kind == 3:
            self.lines.append(f"{pad}{self.random.choice(VARIABLES)} += {self.number()}")
        elif kind < 7:
            self.lines.append(f"{pad}if {self.condition()}:")
            self.block(depth + 1, loops)
            self.leave(depth + 1, loops)
            if self.random.random() < 0.5:
                self.lines.append(f"{pad}else:")
                self.block(depth + 1, loops)
                self.leave(depth + 1, loops)
        else:
            self.lines.append(f"{pad}for i{depth} in range({self.random.randint(1, 3)}):")
            self.block(depth + 1, loops + 1)
            if self.random.random() < 0.3:
                self.lines.append(f"{pad}else:")
                self.block(depth + 1, loops)

    def leave(self, depth, loops):
        pad = "    " * depth
        kind = self.random.randrange(8)
        if kind == 0:
            self.lines.append(f"{pad}return {', '.join(self.number() for _ in range(5))}")
        elif kind == 1 and loops:
            self.lines.append(f"{pad}break")
        elif kind == 2 and loops:
            self.lines.append(f"{pad}continue")


def half(x):
    if x > 1:
        return x * 0.5
    return x + 0.25


@pytest.mark.parametrize("seed", range(150))
def test_graph_equals_python(seed, tmp_path):
    program = Program(seed)
    path = tmp_path / f"generated_{seed}.py"
    path.write_text("\n".join(program.lines) + "\n")
    scope = {"half": half, "__name__": "generated"}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    for args in ((0.5, -1.5, 2.0), (-1.0, 3.0, 0.25), (2.0, 0.1, -3.0)):
        expected = scope["f"](*args)
        try:
            found = interpreted(scope["f"], *args)
        except CellcError as fault:
            pytest.fail(f"{path.read_text()}\n{fault}")
        assert found == pytest.approx(expected, rel=1e-9), path.read_text()
