"""Generated programs with loops, branches and calls: three ways of running them, and gradients.

`program_strategy.py` writes them. Eager mode, which is Python itself, says what is right: values,
what is printed, and the kind of error a program ends with. CELLC_GENERATED=5000 asks for more of
them than the normal run has.
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
import pytest
from hypothesis import HealthCheck, given, settings
from program_strategy import programs
from same import assert_same, in_mode, parse, run_traced

import cellc
from cellc import Tensor, context, ops
from cellc.errors import CellcError

_numbers = itertools.count()
CASES = int(os.environ.get("CELLC_GENERATED", 60))
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
    if isinstance(found[0], Ended) or isinstance(expected[0], Ended):
        assert type(found[0]) is type(expected[0]) and found[0] == expected[0], (
            f"{where}: {found[0]!r}, expected {expected[0]!r}")
    assert found[1] == expected[1], f"{where} printed"
    assert_same(found[0], expected[0], where)


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


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs())
def test_values(source):
    check_values(source)
