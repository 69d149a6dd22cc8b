"""Which variables can still be read after a branch, and from round to round."""

import gast
import pytest
from same import f32, parse, same_everywhere

from cellc.parser.source import source_of


def plain(a, b):
    if a:               # after it: b
        c = b
        a = c
    return b


def overwritten(a, n):
    while n > 0:        # head: a n; after: a
        t = a * 2
        if t > 3:       # after: a n t
            u = t
            a = u - 1
        n = n - t
    t = 0
    return a + t


def left_by_break(a, n, c):
    for i in range(n):      # head: a c; after: a c
        if a > i:           # after: a
            a = a - i
        else:
            break
        c = 2.0
    return a + c


def with_else(a, b, c):
    for x in a:         # head: b c; after: b
        if x > b:       # after: b c
            b = x
    else:
        b = b + c
    return b


def by_a_target(a, b):
    for b in a:         # head: b; after: b
        if b:           # after:
            continue
        b = 0
    return b


def in_try(a, b, c):
    try:
        if a:           # after: a b c
            b = a
        c = a + 1
    except ValueError:
        return b
    finally:
        a = c
    return a


@pytest.mark.parametrize("function", [
    plain, overwritten, left_by_break, with_else, by_a_target, in_try])
def test_what_is_live(function):
    """Each comment behind an `if` or a loop says what is."""
    source = source_of(function)
    for node in gast.walk(source.node):
        if isinstance(node, (gast.If, gast.For, gast.While)):
            said = source.lines[node.lineno - 1].partition("#")[2]
            for part in said.strip().split(";"):
                where, _, names = part.strip().partition(":")
                live = node._live_head if where == "head" else node._live_after
                assert live & source.locals == set(names.split()), (node.lineno, where)


def states(function, *args):
    """The number of values that each loop of the graph carries, invariants left out."""
    graph = parse(function, *args)[0].graph
    return [len(x.attrs["body"].results) for g in graph.reachable() for x in g.body
            if x.prim.name == "while"]


def test_what_only_a_round_reads_is_no_state():
    def f(xs, n):
        total = 0.0
        for i in range(n):
            if i != 3:
                d = xs[i % 4] - xs[0]
                e = d * d
                total = total + e
        return total

    assert states(f, f32(4), 20) == [2]         # total, and the number of the round
    assert states(overwritten, 2.0, 20.0) == [2]


@same_everywhere((1.0, 5, 3.0), (9.0, 5, 3.0), (1.0, 20, 3.0), (200.0, 20, 3.0))
def test_a_break_reads_more_than_the_end_of_the_branch(a, n, c):
    for i in range(n):
        if a > i:
            a = a - i
        else:
            break
        c = 2.0
    return a + c


@same_everywhere((1.0, 2.0), (-1.0, 2.0))
def test_what_is_read_in_a_function_inside_stays(a, b):
    def f():
        return b * c

    c = 2.0
    if a > 0:
        b = a + 5
        c = b
    a = f()
    b = 7.0
    return a + b
