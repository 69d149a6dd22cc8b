"""Generated programs on numbers: branches, loops, early exits, containers, try, with, generators.

Graph mode is compared with Python.

Conditions are on arguments, so every `if` is one that only the running program decides, and every
way out of a block meets every other. Python itself says what is right.
"""

import contextlib
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


class Guarded(Program):
    """One with `try`, `with` and generators as well, left in every way."""

    def statement(self, depth, loops):
        kind = self.random.randrange(13)
        if kind > 6 or self.budget <= 0 or depth > 4:
            super().statement(depth, loops)
            return
        self.budget -= 1
        pad = "    " * depth
        if kind < 2:
            self.guard(pad, depth, loops)
        elif kind == 2:
            self.lines.append(f"{pad}with adding(xs, {self.random.randrange(2)}, {self.number()}) "
                              f"as w{depth}:")
            self.lines.append(f"{pad}    {self.random.choice(VARIABLES)} += w{depth}")
            self.inside(depth + 1, loops)
        elif kind == 3:
            self.lines.append(f"{pad}for v{depth} in steps({self.number()}, "
                              f"{self.random.randint(1, 3)}, xs):")
            self.lines.append(f"{pad}    {self.random.choice(VARIABLES)} += v{depth}")
            self.inside(depth + 1, loops + 1)
        elif kind == 4:
            self.lines.append(f"{pad}match {self.number()}:")
            self.lines.append(f"{pad}    case {self.random.choice(('0.5', '2.0 | -1.0', '0.25'))}:")
            self.inside(depth + 2, loops)
            self.lines.append(f"{pad}    case m{depth} if {self.condition()}:")
            self.lines.append(f"{pad}        {self.random.choice(VARIABLES)} = m{depth} + 1")
            self.inside(depth + 2, loops)
            if self.random.random() < 0.5:
                self.lines.append(f"{pad}    case _:")
                self.inside(depth + 2, loops)
        elif kind == 5:
            self.lines.append(f"{pad}n{depth} = 0")
            self.lines.append(f"{pad}while n{depth} < 3 and n{depth} < {self.number()}:")
            self.lines.append(f"{pad}    n{depth} += 1")
            self.inside(depth + 1, loops + 1)
        else:
            self.lines.append(f"{pad}xs[0] += sum(v * 0.5 for v in steps({self.number()}, 2, xs))")

    def inside(self, depth, loops):
        self.block(depth, loops)
        self.leave(depth, loops)

    def guard(self, pad, depth, loops):
        self.lines.append(f"{pad}try:")
        self.inside(depth + 1, loops)
        if self.random.random() < 0.4:
            self.lines.append(f"{pad}    {self.random.choice(('raise Own', '{}[3]', '[][1]'))}")
        handlers = self.random.random() < 0.6
        if handlers:
            self.lines.append(f"{pad}except {self.random.choice(('Own', 'LookupError'))}:")
            self.inside(depth + 1, loops)
            if self.random.random() < 0.5:
                self.lines.append(f"{pad}except Exception as e{depth}:")
                self.inside(depth + 1, loops)
            if self.random.random() < 0.5:
                self.lines.append(f"{pad}else:")
                self.inside(depth + 1, loops)
        if not handlers or self.random.random() < 0.5:
            self.lines.append(f"{pad}finally:")
            self.lines.append(f"{pad}    xs[1] = xs[1] + 3")
            self.block(depth + 1, loops)


class Own(Exception):
    pass


@contextlib.contextmanager
def adding(xs, i, k):
    xs[i] = xs[i] + k
    try:
        yield xs[1 - i]
    finally:
        xs[i] = xs[i] * 0.5 - k


def steps(x, n, xs):
    for i in range(n):
        xs[1] = xs[1] + i
        yield x * i


def half(x):
    if x > 1:
        return x * 0.5
    return x + 0.25


def compare(program, path):
    path.write_text("\n".join(program.lines) + "\n")
    scope = {"half": half, "__name__": "generated", "Own": Own, "adding": adding, "steps": steps}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    for args in ((0.5, -1.5, 2.0), (-1.0, 3.0, 0.25), (2.0, 0.1, -3.0)):
        try:
            expected = scope["f"](*args)
        except (Own, LookupError) as error:
            expected = error
        try:
            found = interpreted(scope["f"], *args)
        except (Own, LookupError, CellcError) as fault:
            undecided = hasattr(fault, "crossed") or any(w in str(fault) for w in UNDECIDED)
            alike = isinstance(expected, (Own, LookupError)) and isinstance(fault, type(expected))
            assert undecided or alike, f"{path.read_text()}\n{fault}"
        else:
            assert found == pytest.approx(expected, rel=1e-9, nan_ok=True), path.read_text()


# What the running program would decide, and is refused.
UNDECIDED = ("raised under a condition known only", "is raised here is known only",
             "`raise` under a condition")


@pytest.mark.parametrize("seed", range(150))
def test_graph_equals_python(seed, tmp_path):
    compare(Program(seed), tmp_path / f"generated_{seed}.py")


@pytest.mark.parametrize("seed", (*range(300), 23298, 23943, 20730, 6231, 7520, 7608, 7848, 21758))
def test_graph_equals_python_with_guards(seed, tmp_path):
    compare(Guarded(seed), tmp_path / f"guarded_{seed}.py")
