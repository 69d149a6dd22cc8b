"""`yield` inside larger expressions: in the order in which Python computes their parts."""

import pytest
from same import same_everywhere

import cellc
from cellc import ops
from cellc.errors import SyntaxFault

NUMBERS = (1.5, -0.5)


def driven(generator, *sent):
    """What it yields for what is sent, and what it returns."""
    found = [next(generator)]
    for value in sent:
        try:
            found.append(generator.send(value))
        except StopIteration as end:
            found.append(("returned", end.value))
            break
    return found


@same_everywhere(*NUMBERS)
def test_in_arithmetic_and_calls(x):
    def pair(*args, **named):
        return args, named

    def g(y):
        a = 1.0 + (yield y)
        b = pair((yield a), *[a, y], (yield a * 2.0), k=(yield b"x") and y, m=[(yield 4), y])
        c = -(yield b[0][0]) * (yield y + 1.0) + y
        d = {(yield "k"): (yield c), "m": (yield 5.0)}
        e = f"{(yield 1)}-{(yield 2)}"
        return a, b, c, d, e, (yield (yield y)), [1.0, 2.0][(yield 7)], [y, 2.0][(yield 8):]

    return driven(g(x), x, 2.0, x * 3.0, True, 8.0, x, 0.5, "n", 7.0, 9.0, 1, 2, x, 3.0, 1, 1)


@same_everywhere(*NUMBERS)
def test_what_was_computed_before(x):
    seen = []

    def note(value):
        seen.append(value)
        return value

    def g(y):
        z = y
        total = note(y) + (yield 1.0) * note(2.0)
        first = (z, (z := y * 2.0), (yield z), z)
        y += (yield y)
        held = [y]
        held += [(yield 3.0)]
        t = ops.ones((2,)) * y
        changed = t + (yield t)
        return total, first, y, held, changed

    g = g(x)
    return driven(g, x, 4.0, 5.0, 6.0, 7.0), seen


@same_everywhere(*NUMBERS)
def test_where_it_may_not_be_reached(x):
    def g(y, c):
        a = (yield 1.0) if c else (yield 2.0)
        b = c and (yield 3.0)
        d = c or (yield 4.0) or (yield 5.0)
        e = 0 < (yield 6.0) < 9.0
        return a, b, d, e, y

    return (driven(g(x, True), x, 0.5, 3.0), driven(g(x, False), x, 0.0, 4.0, 10.0),
            driven(g(x, False), x, 2.0, 4.0))


@same_everywhere(*NUMBERS)
def test_in_tests_of_statements(x):
    def g(y):
        found = []
        if (yield 1) + 1 == 2:
            found.append((yield 2) * y)
        for t in [y, (yield 3)]:
            found.append(t + (yield t))
        match (yield 4):
            case 5:
                found.append("five")
            case n:
                found.append(n)
        assert (yield 6), "no"
        try:
            raise ValueError((yield 7))
        except ValueError as error:
            found.append(error.args[0])
        return found

    return driven(g(x), 1, 2.0, x, 4.0, 5.0, 5, True, "sent")


@same_everywhere(*NUMBERS)
def test_delegation_inside(x):
    def inner(y):
        got = yield y
        return got * 2.0

    def g(y):
        return 1.0 + (yield from inner(y)) + (yield from inner(y + 1.0))

    return driven(g(x), 2.0, x)


@pytest.mark.parametrize("line", [
    "while (yield 1): pass", "a = [(yield 1)][0] < x < (yield 2)", "del [[x]][(yield 0)][0]",
    "[x][(yield 0)] = x", "a = f(x)[0:1, (yield 2)]"])
def test_where_it_is_refused(line, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(f"def program(x):\n    def g():\n        {line}\n    return next(g())\n")
    scope = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    with pytest.raises(SyntaxFault, match="a line of its own") as caught:
        cellc.jit(scope["program"])(1.0)
    assert caught.value.loc.line == 3
