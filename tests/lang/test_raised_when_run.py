"""What Python raises in work on known values, in a branch that the program may not take."""

import pytest
from same import in_mode

import cellc
from cellc import context
from cellc.errors import CellcError


def key(x):
    table = {"a": 1.0}
    if x > 0:
        return table["b"] * x
    return x


def index(x):
    xs = [1.0, 2.0]
    return xs[5] if x > 0 else xs[1] * x


def value(x):
    xs = [1, 2]
    if x > 0:
        xs.remove(7)
    return len(xs) * x


def unpacked(x):
    if x > 0:
        a, b = [x]
        return a + b
    return x


def number(x):
    n = 0.0
    if x > 0:
        n = int("1x")
    return x + n


def divided(x, known=0):
    if x > 0:
        x = x * (7 // known)
    return x


def in_a_callee(x):
    def look(table, name):
        return table[name]

    y = 2.0
    if x > 0:
        y = look({"a": 1.0}, "c")
    return x * y


def in_a_loop(x):
    xs, total, i = [1.0, 2.0, 3.0], 0.0, 0
    while True:
        if total > x + 3.0:
            break
        total = total + xs[i]
        i = i + 1
    return total


def within_a_loop(x):
    total = 0.0
    for i in range(50):
        if i > x + 49.5:
            total = total + {"a": 1.0}["b"]
        total = total + i
    return total


def caught(x):
    y = 0.0
    try:
        if x > 0:
            y = {"a": 1.0}["b"]
        y = y + 1.0
    except KeyError as error:
        y = 5.0 if error.args == ("b",) else 6.0
    return x * y


PROGRAMS = [key, index, value, unpacked, number, divided, in_a_callee, in_a_loop, within_a_loop,
            caught]


def outcome(fn, x):
    try:
        return fn(x)
    except Exception as error:
        kind = next(k for k in type(error).__mro__ if k.__module__ == "builtins")
        # What is known for these arguments is reported while compiling, in words of cellc's.
        return kind, None if isinstance(error, CellcError) else error.args


@pytest.mark.parametrize("fn", PROGRAMS, ids=lambda fn: fn.__name__)
def test_as_python_has_it(fn):
    compiled = cellc.jit(fn)
    found = [in_mode(context.PYNATIVE_MODE, outcome, (fn, x)) for x in (1.5, -1.5, 7.0)]
    for x, expected in zip((1.5, -1.5, 7.0), found, strict=True):
        given = outcome(compiled, x)
        assert given == expected or fn is in_a_loop and given == (expected[0], None)
    assert fn is caught or any(isinstance(x, tuple) for x in found)
    assert any(isinstance(x, float) for x in found)


def test_gradients():
    gradient = cellc.jit(lambda x: cellc.grad(key)(x))
    assert gradient(-2.0) == 1.0
    with pytest.raises(KeyError):
        gradient(2.0)


def name(x):
    if x > 0:
        return xx * 2.0     # noqa: F821
    return x


def attribute(x):
    if x > 0:
        return [x].lenght
    return x


def kind(x):
    if x > 0:
        return "a" + 1
    return x


@pytest.mark.parametrize("fn", [name, attribute, kind], ids=lambda fn: fn.__name__)
def test_slips_are_reported_at_once(fn):
    with pytest.raises(CellcError) as found:
        cellc.jit(fn)(-1.0)
    assert found.value.loc.line == fn.__code__.co_firstlineno + 2
