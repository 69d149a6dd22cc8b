"""Generated programs with loops, branches and calls: three ways of running them, and gradients.

`program_strategy.py` writes them. Eager mode, which is Python itself, says what is right: values,
what is printed, and the kind of error a program ends with. CELLC_GENERATED=5000 asks for others
than the usual run has, and for more of them.
"""

import contextlib
import functools
import io
import itertools
import linecache
import os
import sys
import types

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from program_strategy import programs
from same import as_array, assert_same, in_mode, parse, run_traced

import cellc
from cellc import Tensor, context
from cellc.errors import CellcError

_numbers = itertools.count()
ASKED = os.environ.get("CELLC_GENERATED")
CASES = int(ASKED or 100)
# The usual run takes the same programs each time, and does not spend minutes on making one smaller.
RUN = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": not ASKED,
       "phases": [Phase.explicit, Phase.generate] + [Phase.reuse, Phase.shrink] * bool(ASKED)}
ARGUMENTS = ((0.3, -0.7, 2, 3, True), (-0.45, 0.6, 4, 1, False), (0.9, 0.85, 0, 7, True))
BUILTIN = (NameError, IndexError, AssertionError, ValueError, TypeError, ZeroDivisionError,
           RecursionError)


def load(source: str):
    """The function `program` of a module's text, which tracebacks and the parser find."""
    name = f"generated_{next(_numbers)}"
    file = f"<{name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    module = types.ModuleType(name)
    sys.modules[name] = module          # dataclasses look their module up
    try:
        exec(compile(source, file, "exec"), vars(module))
    finally:
        del sys.modules[name]
    return module.program


def arguments(numbers, dtype=np.float64) -> tuple:
    draw = np.random.default_rng(len(str(numbers)))
    return (*numbers, Tensor(draw.uniform(-1, 1, 3)),
            Tensor(draw.uniform(-1, 1, (2, 2)).astype(dtype)))


def outcome(run, *args):
    """(what it gives, or the kind of its error and what it says; what it prints)."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            found = run(*args)
        except CellcError as fault:
            found = Ended(kind(fault), fault)
        except BUILTIN as error:
            found = Ended(kind(error), error)
    return found, printed.getvalue()


class Ended(tuple):
    """The kind of an error, and what it says where that is the user's own."""

    def __new__(cls, name: str, error: Exception):
        said = str(error) if type(error) is ValueError else ""
        return super().__new__(cls, (name, said))

    def __init__(self, name: str, error: Exception):
        self.error = error

    def __repr__(self):
        return f"{self.error!r}: {self.error}"


def kind(error) -> str:
    return next((c for c in BUILTIN if isinstance(error, c)), type(error)).__name__


def compare(found, expected, where: str):
    if isinstance(found[0], Ended) and "read before anything is assigned" in str(found[0].error):
        return      # no way to there binds the variable: refused while compiling
    if isinstance(found[0], Ended) or isinstance(expected[0], Ended):
        assert type(found[0]) is type(expected[0]) and found[0] == expected[0], (
            f"{where}: {found[0]!r}, expected {expected[0]!r}")
    assert found[1] == expected[1], f"{where} printed"
    assert_same(found[0], expected[0], where, 1e-5, 1e-6)       # some are made of f32


def check_values(source: str, dtype=np.float32):
    """Eager mode, the interpreter and graph mode agree, for a few arguments."""
    program = load(source)
    compiled = cellc.jit(program)
    cases = [arguments(numbers, dtype) for numbers in ARGUMENTS]
    parsed = functools.cache(lambda: parse(program, *cases[0])[0])
    for args in cases:
        expected = outcome(lambda *a: in_mode(context.PYNATIVE_MODE, program, a), *args)
        compare(outcome(lambda *a: run_traced(parsed(), a), *args), expected, "interpreted")
        compare(outcome(compiled, *args), expected, "compiled")


@settings(max_examples=CASES, **RUN)
@given(programs())
def test_values(source):
    check_values(source)


# -- gradients -------------------------------------------------------------------------------------

LOSS = """

def loss(x, y, v, w, n, m, p):
    a, i, b, s, v, w, pair, xs, d, pt, g, ys = program(x, y, n, m, p, v, w)
    return (0.7 * a + 0.3 * s + ops.reduce_sum(v * v) - 0.6 * ops.reduce_sum(w * w) + 1.1 * pair.a
            - 0.2 * xs[0] + 0.8 * xs[1] + 0.4 * d["a"] - 0.5 * pt[0] * pt[1] + g
            + 0.3 * sum(ys, 0.0))


def slope(x, y, v, w, n, m, p):
    dx, dy, dv, dw = cellc.grad(loss, argnums=(0, 1, 2, 3))(x, y, v, w, n, m, p)
    return 0.9 * dx * dx + 0.7 * dy + ops.reduce_sum(dv) * 0.3 + ops.reduce_sum(dw * dw)
"""


def check_gradients(source: str, order: int = 1):
    """Reverse mode in graph mode and on eager mode's tape, against central differences."""
    module = load(source.replace("from cellc import ops", "import cellc\nfrom cellc import ops")
                  + LOSS).__globals__
    target = module["loss" if order == 1 else "slope"]

    def gradient(*args):
        return cellc.grad(target, argnums=(0, 1, 2, 3))(*args)

    compiled = cellc.jit(gradient)
    value = target if order == 1 else cellc.jit(target)
    for x, y, n, m, p, v, w in map(arguments, ARGUMENTS):
        args = (x, y, v, w, n, m, p)
        expected = outcome(lambda *a: in_mode(context.PYNATIVE_MODE, gradient, a), *args)[0]
        found = outcome(compiled, *args)[0]
        if isinstance(expected, Ended) or isinstance(found, Ended):
            compare((found, ""), (expected, ""), "the gradient")
            continue
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(as_array(a), as_array(b), rtol=1e-7, atol=1e-9,
                                       err_msg="graph and eager mode")
        along, differences = slopes(value, args, found)
        assert any(abs(along - d) <= 1e-5 * max(1.0, abs(d)) for d in differences), (
            f"along a direction {along}, by differences {differences}")


def slopes(value, args, gradient):
    """The slope along a random direction by a gradient, and by differences of two steps."""
    draw = np.random.default_rng(0)
    directions = [draw.normal(size=np.shape(as_array(a))) for a in args[:4]]
    along = sum(float(np.sum(as_array(g) * d)) for g, d in zip(gradient, directions, strict=True))

    def at(step: float) -> float:
        moved = [Tensor(a.asnumpy() + step * d) if isinstance(a, Tensor) else float(a + step * d)
                 for a, d in zip(args[:4], directions, strict=True)]
        return float(outcome(value, *moved, *args[4:])[0])

    return along, [(at(h) - at(-h)) / (2 * h) for h in (1e-5, 1e-6, 3e-5)]


@settings(max_examples=CASES, **RUN)
@given(programs(differentiable=True, raises=False))
def test_gradients(source):
    check_gradients(source)


@settings(max_examples=max(1, CASES // 4), **RUN)
@given(programs(size=5, differentiable=True, raises=False))
def test_gradients_of_gradients(source):
    check_gradients(source, order=2)
