"""Tapes in programs written by hand: pushed and popped in loops and recursion, and given back."""

from pathlib import Path

import numpy as np
import pytest

from cellc.errors import CellcError
from cellc.ir.interpret import interpret
from cellc.ir.text import read
from cellc.kernels import runtime
from cellc.native import run_graph

IR = Path(__file__).parent.parent / "ir"
ARRAYS = """\
graph @left(%x: f32[5], %tape: tape, %k: i64, %n: i64) -> bool {
  %more = lt(%k, %n) : bool
  return %more
}

graph @round(%x: f32[5], %tape: tape, %k: i64, %n: i64) -> (f32[5], tape, i64) {
  %h = mul(%x, 0.5:f32[5]) : f32[5]
  %even = eq(%k, 2:i64) : bool
  %longer = push(%tape, %h, %even, %k, %x) : tape
  %y = add(%h, 1.0:f32[5]) : f32[5]
  %k.1 = add(%k, 1:i64) : i64
  %state = tuple(%y, %longer, %k.1) : (f32[5], tape, i64)
  return %state
}

graph @back(%sum: f32[5], %tape: tape, %k: i64, %count: i64) -> (f32[5], tape, i64, i64) {
  %pop = pop(%tape) {types=(f32[5], bool, i64, f32[5])} : (tape, f32[5], bool, i64, f32[5])
  %shorter = item(%pop) {index=0} : tape
  %h = item(%pop) {index=1} : f32[5]
  %even = item(%pop) {index=2} : bool
  %i = item(%pop) {index=3} : i64
  %x = item(%pop) {index=4} : f32[5]
  %half = mul(%sum, 0.25:f32[5]) : f32[5]
  %d = sub(%x, %h) : f32[5]
  %sum.1 = add(%half, %d) : f32[5]
  %one = cast(%even) {dtype=i64} : i64
  %some = add(%one, %i) : i64
  %count.1 = add(%count, %some) : i64
  %k.1 = sub(%k, 1:i64) : i64
  %state = tuple(%sum.1, %shorter, %k.1, %count.1) : (f32[5], tape, i64, i64)
  return %state
}

graph @some(%sum: f32[5], %tape: tape, %k: i64, %count: i64) -> bool {
  %more = gt(%k, 0:i64) : bool
  return %more
}

graph @main(%x: f32[5], %n: i64) -> (f32[5], i64) {
  %tape = tape_new() : tape
  %while = while(%x, %tape, 0:i64, %n) {test=@left, body=@round} : (f32[5], tape, i64)
  %y = item(%while) {index=0} : f32[5]
  %full = item(%while) {index=1} : tape
  %rounds = item(%while) {index=2} : i64
  %again = while(%y, %full, %rounds, 0:i64) {test=@some, body=@back} : (f32[5], tape, i64, i64)
  %sum = item(%again) {index=0} : f32[5]
  %empty = item(%again) {index=1} : tape
  %count = item(%again) {index=3} : i64
  %end = tape_end(%empty) : ()
  %both = tuple(%sum, %count) : (f32[5], i64)
  return %both
}
"""


@pytest.mark.parametrize("n", [0, 1, 2, 7, 100])
def test_arrays_and_numbers(n):
    graph, x = read(ARRAYS), np.arange(5, dtype=np.float32)
    expected, found = (run(graph, x, n) for run in (interpret, run_graph))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    assert int(found[1]) == int(expected[1])


def test_an_array_that_is_pushed_twice():
    graph = read(ARRAYS.replace("%even, %k, %x) : tape", "%even, %k, %h) : tape"))
    x = np.arange(5, dtype=np.float32) + 1
    for found, expected in zip(run_graph(graph, x, 7), interpret(graph, x, 7), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert "push(%tape, %h, %even, %k, %h)" in str(graph)


@pytest.mark.parametrize("n", [1, 2, 30])
def test_a_graph_that_calls_itself(n):
    text = (IR / "read_loops.ir").read_text(encoding="utf-8").partition("\n---\n")[0]
    graph = read(text)
    for run in (interpret, run_graph):
        assert float(run(graph, 0.7, n)) == pytest.approx(0.7)


def test_a_long_tape_is_given_back():
    graph, x = read(ARRAYS), np.arange(5, dtype=np.float32)
    run_graph(graph, x, 10)
    before = runtime.memory_use().in_use
    for _ in range(3):
        found = run_graph(graph, x, 1_000_000)
        assert int(found[1]) == 1_000_000 * 999_999 // 2 + 1
    assert runtime.memory_use().in_use == before


def test_many_tapes_at_once():
    """Each lies in a region of its own; they are taken from and go back to one list."""
    parts = [line for line in ARRAYS.split("graph @main")[0].rstrip().split("\n")]
    lines = ["graph @main(%x: f32[5], %n: i64) -> i64 {"]
    for i in range(20):
        lines += [
            f"  %t{i} = tape_new() : tape",
            f"  %w{i} = while(%x, %t{i}, 0:i64, %n) {{test=@left, body=@round}} "
            ": (f32[5], tape, i64)",
            f"  %y{i} = item(%w{i}) {{index=0}} : f32[5]",
            f"  %f{i} = item(%w{i}) {{index=1}} : tape",
            f"  %r{i} = item(%w{i}) {{index=2}} : i64",
        ]
    for i in reversed(range(20)):
        lines += [
            f"  %a{i} = while(%y{i}, %f{i}, %r{i}, 0:i64) {{test=@some, body=@back}} "
            ": (f32[5], tape, i64, i64)",
            f"  %e{i} = item(%a{i}) {{index=1}} : tape",
            f"  %c{i} = item(%a{i}) {{index=3}} : i64",
            f"  %end{i} = tape_end(%e{i}) : ()",
        ]
    total = "%c0"
    for i in range(1, 20):
        lines.append(f"  %s{i} = add({total}, %c{i}) : i64")
        total = f"%s{i}"
    graph = read("\n".join([*parts, "", *lines, f"  return {total}", "}", ""]))
    x = np.arange(5, dtype=np.float32)
    before = runtime.memory_use().in_use
    for _ in range(3):
        assert int(run_graph(graph, x, 100)) == 20 * (100 * 99 // 2 + 1)
    assert runtime.memory_use().in_use == before


def test_a_failure_in_the_middle_gives_all_back():
    text = ARRAYS.replace("  %y = add(%h, 1.0:f32[5]) : f32[5]\n",
                          "  %place = read(%h, %k) : f32[]\n"
                          "  %y.1 = add(%h, 1.0:f32[5]) : f32[5]\n"
                          "  %y = write(%y.1, %place, %k) : f32[5]\n")
    graph, x = read(text), np.arange(5, dtype=np.float32)
    assert int(run_graph(graph, x, 5)[1]) == 11
    before = runtime.memory_use().in_use
    for _ in range(200):
        with pytest.raises(CellcError):
            run_graph(graph, x, 6)
    assert runtime.memory_use().in_use == before
    assert int(run_graph(graph, x, 5)[1]) == 11
