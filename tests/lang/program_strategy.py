"""A hypothesis strategy of Python functions as text, for tests of control flow.

`programs(...)` draws a function `program(x, y, n, m, p, v, w)` of two floats, two ints, a bool and
two tensors, with helper functions and a recursive one beside it. Every loop is bounded, every value
tame: an expression of floats stays within -1 and 1 whatever its parts are, so that nothing grows in
a loop and differences of the program are meaningful. A name has one kind throughout, except
`g`, which is an int or a float; and `u`, which is bound on some ways only.
"""

from __future__ import annotations

import re
import textwrap

from hypothesis import strategies as st

HEAD = '''\
import math
from collections import namedtuple
from dataclasses import dataclass

from cellc import ops

Pair = namedtuple("Pair", "a n")
FLAG = True


@dataclass
class Point:
    a: float
    b: float


'''
START = '''\
v, w = v.copy(), w.copy()
a, k, q, g = 0.5, 1, x < y, 0
s = ops.reduce_sum(v) / 3.0
pair, xs, d = Pair(x, n), [x, 0.25], {"a": y, "n": 2}
pt = Point(y, -0.5)
ys = []
'''
RESULT = "{F}, {I}, bool({B}), s, v, w, pair, xs, d, (pt.a, pt.b), 0.2 * g, ys"

FLOATS, INTS, BOOLS = ("x", "y", "a"), ("n", "m", "k"), ("p", "q")
CONSTANTS = ("0.5", "-0.25", "0.75", "1.0", "0.0", "-0.6")

# Forms of expressions: letters of their parts are kinds. F float, I int, B condition, S 0-d tensor,
# V f64[3], W [2,2]; {t} is `math` or `ops`.
FORMS = {
    "F": ("{t}.tanh({F} + {F})", "{t}.sin({F})", "0.5 * ({F} + {F})", "{F} * {F}", "-{F}",
          "0.5 * ({F} - {F})", "max({F}, {F})", "min({F}, {F})", "abs({F})",
          "({F} if {B} else {F})", "{F} / (2.0 + {F})", "0.2 * ({I} % 5)", "({I} % 5) / 5",
          "{F} ** 2", "pair.a", "xs[0]", "xs[1]", 'd["a"]', "pt.a", "pt.b", "0.2 * g",
          "(ys[-1] if ys else {F})", "(ys[{I} % len(ys)] if ys else {F})",
          "sum([b * 0.5 for b in ys if b < {F}], 0.0) / (1 + len(ys))"),
    "I": ("({I} + {I}) % 5", "({I} * {I}) % 5", "{I} // 2", "({I} - {I}) % 4", "({I} - {I}) // 2",
          "max({I}, {I})", "abs({I} - 2)", "-{I} % 3", "{I} // {I}", "{I} % {I}",
          "({I} if {B} else {I})", "pair.n", 'd["n"]', "len(xs)", "({I} & 3)", "len(ys) % 5"),
    "B": ("{F} < {F}", "{F} > 0.123", "-0.4 < {F} < {F}", "{I} == {I}", "{I} % 2 == 0",
          "{I} < {I} + 1 <= 4", "not {B}", "({B} and {B})", "({B} or {B})", "FLAG",
          "({I} != 0 and 6 // ({I} or 1) > 2)", "({k} < 3 and v[{k} % 3] > {F})",
          "({k} != 0 and 6 // {k} > 1)", "v[{I} % 3] > {F}", "ops.reduce_sum(w) < {F}",
          "bool(ys)", "(len(ys) > {I} or ys and ys[-1] < {F})"),
    "S": ("v[{I} % 3]", "ops.reduce_sum(v) / 3.0", "{S} * {F}", "0.5 * ({S} + {F})", "-{S}",
          "ops.tanh({S})", "ops.tanh({S} + {S})"),
    "V": ("ops.tanh({V} + {F})", "{V} * {S}", "0.5 * ({V} + {V})",
          "ops.where({V} > {F}, {V}, -{V})", "{V} * {V}", "-{V}", "{V} / (2.0 + {V})",
          "ops.maximum({V}, {F})", "v[::-1]"),
    "W": ("0.5 * ({W} + {F})", "{W} * {F}", "ops.tanh({W})", "0.5 * ops.matmul({W}, {W})",
          "ops.where({W} > {F}, {W}, 0.5 * {W})"),
}
CUT_FORMS = ("float(v[{I} % 3])", "float(w[{I} % 2, {I} % 2])", "float({S})")   # off the eager tape
ATOMS = {"F": (*FLOATS, *FLOATS, *CONSTANTS), "I": (*INTS, *INTS, "0", "1", "3"),
         "B": (*BOOLS, "x > y", "n > m"), "S": ("s",), "V": ("v",), "W": ("w",)}
# What a statement may be; each line is as likely as any other.
SCALAR_STATEMENTS = (
    ("x = {F}", "y = {F}", "a = {F}"), ("n = {I}", "m = {I}", "k = {I}"),
    ("x *= {F}", "y *= {F}", "k += {I} % 2"), ("x, y = {F}, {F}", "a, x = x, {F}"),
    ("p = bool({B})", "q = bool({B})"),
)
STATEMENTS = (
    *SCALAR_STATEMENTS, *SCALAR_STATEMENTS[:2], ("s = {S}", "v = {V}", "w = {W}"),
    ("v[{I} % 3] = {F}", "v[{I} % 3] = s", "v[{I} % 3] *= {F}"),
    ("w[{I} % 2, {I} % 2] = {F}", "w[{I} % 2, {I} % 2] *= {F}", "w[{I} % 2] = 0.5 * w[{I} % 2]"),
    ("pair = Pair({F}, {I})", "pt = Point({F}, {F})", "xs = [{F}, {F}]"),
    ("xs[0] = {F}", "xs[1] = {F}", "pt.a = {F}", "pt.b = {F}", 'd["a"] = {F}', 'd["n"] = {I}'),
    ("ys.append({F})", "ys.append({F})", "ys += [{F}, {F}]"),
    ("x = ys.pop() if ys else {F}", "ys = [{F}]", "ys = [b * x for b in ys]", "ys.clear()"),
    ("x = ys.pop(0) if ys else {F}", "ys.insert({I}, {F})", "ys = ys[{I}:]", "ys.reverse()",
     "ys = ys[::2] + [{F}]"),
    ("g = {F}", "g = {I} % 5", "g = 1"), ("u = {F}", "x = {F}"),
    ('print("at", {I}, p, f"{x:.4f}")', 'print(q, {I}, f"{y:.3f}", k)'),     # last: see program()
)
FAILURES = ('raise ValueError(f"at {n}")', 'assert {B}, f"at {m} {p}"')
HELPER_START = "a, k, q, p, m = y, 2, x > 0.1, n > 1, n % 3"
DEEP = f"""\
def deep(x, y, n):
    {HELPER_START}
    if n <= 0 or {{B}}:
        return {{F}}
    return {{t}}.tanh(deep(@, {{F}}, n % 5 - 1) + y)


"""
OUTSIDE = re.compile(r"\{[SVW]\}|\b(v|w|pair|xs|ys|d|pt|g)\b")


class Writer:
    """Writes a program; `choose(n)` gives a number below n, the smaller the simpler.

    `differentiable` ones use only what eager mode's tape sees.
    """

    def __init__(self, choose, size: int, differentiable: bool, raises: bool):
        self.choose, self.budget, self.raises = choose, size, raises
        self.module = "ops" if differentiable else self.pick("math", "ops")
        self.prints_floats = not differentiable     # what is on the tape is no plain number
        self.forms = FORMS if differentiable else FORMS | {"F": FORMS["F"] + CUT_FORMS}
        self.counters = 0
        self.helpers: list[str] = []
        self.bound_u = False

    def pick(self, *options):
        return options[self.choose(len(options))]

    def chance(self, n: int) -> bool:
        """One time in n."""
        return self.choose(n) == n - 1

    # -- expressions -------------------------------------------------------------------------------
    def make(self, kind: str, depth: int = 2) -> str:
        if depth == 0 or self.chance(3):
            return self.pick(*ATOMS[kind])
        called = [f"{name}({{F}}, {{F}}, {{I}})" for name in self.helpers] * (kind == "F")
        return self.fill(self.pick(*self.forms[kind], *called), depth - 1)

    def fill(self, form: str, depth: int = 1) -> str:
        """The form with expressions of the kinds it names."""
        form = form.replace("{t}", self.module).replace("{k}", self.pick(*INTS))
        return re.sub(r"\{([A-Z])\}", lambda found: self.make(found[1], depth), form)

    # -- statements --------------------------------------------------------------------------------
    def block(self, loops: int, depth: int) -> list[str]:
        return [line for _ in range(1 + self.choose(3)) for line in self.statement(loops, depth)]

    def statement(self, loops: int, depth: int) -> list[str]:
        self.budget -= 1
        if self.budget > 0 and depth > 0 and self.chance(2):
            return self.pick(self.branch, self.counted, self.loop)(loops, depth - 1)
        return self.simple()

    def simple(self) -> list[str]:
        made = self.fill(self.pick(*self.pick(*self.statements)), 2)
        if self.bound_u and self.chance(8):
            return [made, f"x = 0.5 * (u + {self.make('F')})"]
        self.bound_u = self.bound_u or made.startswith("u =")
        return [made]

    def branch(self, loops: int, depth: int) -> list[str]:
        lines = [f"if {self.make('B')}:", *self.inside(loops, depth)]
        if self.chance(3):
            lines += [f"elif {self.make('B')}:", *self.inside(loops, depth)]
        if self.chance(2):
            lines += ["else:", *self.inside(loops, depth)]
        return lines

    def counted(self, loops: int, depth: int) -> list[str]:
        """A `while` with a counter of its own."""
        self.counters += 1
        c = f"c{self.counters}"
        most = self.pick("3", "n % 4", "m % 5", "2" if loops else "10")
        condition = self.pick(f"{c} < {most}", f"{c} < {most} and {self.make('B')}",
                              f"{c} < 4 and not ({self.make('B')})")
        return [f"{c} = 0", f"while {condition}:", f"    {c} += 1",
                *self.inside(loops + 1, depth), *self.otherwise(loops, depth)]

    def loop(self, loops: int, depth: int) -> list[str]:
        i = self.pick(*INTS)
        j = self.pick(*(name for name in INTS if name != i))
        ranges = [f"range({self.make('I', 1)} % 4)", f"range({i} % 4, -1, -1)", "range(3)",
                  f"range(1, {i} % 5, {j} % 2 + 1)", f"range({self.make('I', 1)} % 4 + 1)",
                  f"reversed(range({j} % 4))", *["range(10)"] * (not loops)]
        rows = ["s in v", f"{i}, s in enumerate(v)", f"s, {i} in zip(v, {ranges[4]})"]
        head = self.pick(*(f"{i} in {r}" for r in ranges), *rows * self.tensors,
                         f"{i}, {j} in zip(range(2, 9), range(n % 4))")
        return [f"for {head}:", *self.inside(loops + 1, depth), *self.otherwise(loops, depth)]

    def otherwise(self, loops: int, depth: int) -> list[str]:
        return ["else:", *self.inside(loops, depth)] if self.chance(4) else []

    def inside(self, loops: int, depth: int) -> list[str]:
        """An indented block, which may end in leaving it."""
        lines = self.block(loops, depth)
        if self.chance(3):
            ways = ["return", *["break", "continue"] * 2 * bool(loops), *FAILURES * self.raises]
            way = self.pick(*ways)
            lines.append(self.leave() if way == "return" else self.fill(way))
        return [f"    {line}" for line in lines]

    def leave(self) -> str:
        return "return " + self.fill(self.result)

    # -- functions ---------------------------------------------------------------------------------
    def function(self, head: str, start: str, depth: int) -> str:
        self.bound_u = False
        lines = [*start.splitlines(), *self.block(0, depth), self.leave()]
        return f"{head}:\n{textwrap.indent(chr(10).join(lines), '    ')}\n"

    def program(self) -> str:
        text = HEAD
        everything, size = self.forms, self.budget
        self.tensors, self.result, self.statements = False, "{F}", SCALAR_STATEMENTS
        self.forms = {kind: [f for f in self.forms[kind] if not OUTSIDE.search(f)]
                      for kind in "FIB"}
        for i in range(self.choose(3)):
            self.budget = 5
            text += self.function(f"def helper{i}(x, y, n)", HELPER_START, 2) + "\n\n"
            self.helpers.append(f"helper{i}")
        if self.chance(3):
            text += self.fill(DEEP).replace("@", self.pick("0.5 * (x + y)", "y", "x * y"))
            self.helpers.append("deep")
        self.forms, self.budget = everything, size
        self.tensors, self.result, self.statements = True, RESULT, STATEMENTS
        if not self.prints_floats:
            self.statements = STATEMENTS[:-1] + (('print("at", {I}, k)',),)
        return text + self.function("def program(x, y, n, m, p, v, w)", START, 4)


@st.composite
def programs(draw, size: int = 10, differentiable: bool = False, raises: bool = True):
    """Source text of a module with a function `program`."""
    return Writer(lambda n: draw(st.integers(0, n - 1)), size, differentiable, raises).program()
