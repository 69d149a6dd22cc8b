"""Calls in a compiled program: what is handed on by table, by register, in loops and branches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellc import native
from cellc.ir.graph import PRIMITIVES, Builder, scalar
from cellc.ir.interpret import interpret
from cellc.ir.prims import control
from cellc.ir.types import Dim, ScalarType, TensorType, boolean, f32, f64, i64
from cellc.kernels.plan_memory import Block, plan
from cellc.passes import cse, dead_code, inline, pipeline, prune, ranges, simplify, sums

P = PRIMITIVES
ARRAY, NUMBER, COUNT = TensorType(f32, (5, 3)), ScalarType(f64), ScalarType(i64)
POINT, FLAG = TensorType(f32, ()), ScalarType(boolean)


@pytest.fixture(autouse=True)
def calls_stay(monkeypatch):
    monkeypatch.setattr(inline, "GROWTH", -1)


def built(name, types, body):
    """The graph of a function of nodes."""
    with Builder(name) as b:
        return b.finish(control.tuple(*body(*(b.input(t, f"x{i}") for i, t in enumerate(types)))))


def call(graph, *operands):
    """The results of a call."""
    whole = control.call(*operands, graph=graph)
    return [control.item(whole, index=i) for i in range(len(graph.results))]


def spread_out(x, number):
    return P["broadcast"](P["from_scalar"](P["cast"](number, dtype=f32)), shape=x.shape, dims=())


def mixed(type=ARRAY):
    """Arrays and numbers in, arrays and numbers out; one result is an input as it is."""
    def body(x, number, y, flag, count):
        scaled = P["mul"](x, spread_out(x, number))
        return (P["add"](scaled, y), P["mul"](number, scalar(0.5)), y, P["sub"](scaled, y),
                P["add"](count, scalar(1)), P["bit_not"](flag))

    return built("mixed", (type, NUMBER, type, FLAG, COUNT), body)


INPUTS = (ARRAY, NUMBER, ARRAY, FLAG, COUNT)


def in_a_row(*xs):
    """Results of one call are operands of the next, in the arena and in the results."""
    g, given = mixed(), list(xs)
    kept = []
    for _ in range(4):
        a, number, _, b, count, flag = call(g, *given)
        kept.append(b)
        given = [a, number, b, flag, count]
    return [*given, *kept[:2]]


def one_array_twice(x, number, y, flag, count):
    return call(mixed(), x, number, x, flag, count)


def of_a_constant(x, number, y, flag, count):
    with Builder("") as b:
        ones = b.lift(simplify.fill(ARRAY, 1.0))
    return call(mixed(), ones, number, y, flag, count)


def calls_in_calls(*xs):
    outer = built("outer", INPUTS, lambda *ys: in_a_row(*ys)[:5])
    a, number, b, flag, count = call(outer, *xs)
    return call(outer, b, number, a, flag, count)


def in_branches(x, number, y, flag, count):
    g = mixed()
    then = built("then", INPUTS, lambda *ys: call(g, *ys)[:2])
    orelse = built("orelse", INPUTS, lambda *ys: call(g, ys[2], ys[1], ys[0], *ys[3:])[:2])
    whole = control.cond(flag, x, number, y, flag, count, then=then, orelse=orelse)
    first = [control.item(whole, index=i) for i in (0, 1)]
    return [*first, *call(g, first[0], first[1], x, flag, count)]


def in_a_loop(x, number, y, flag, count):
    """The arrays change sides in every round."""
    g = mixed()
    with Builder("test") as b:
        state = [b.input(t, f"s{i}") for i, t in enumerate(INPUTS)]
        test = b.finish(P["lt"](state[4], scalar(7)))

    def round_(x, number, y, flag, count):
        a, number, _, b, count, flag = call(g, x, number, y, flag, count)
        return a, number, b, flag, count

    whole = control.while_(x, number, y, flag, count, test=test,
                           body=built("round", INPUTS, round_))
    return [control.item(whole, index=i) for i in range(5)]


def arrays_of(shape):
    random = np.random.default_rng(3)
    return [random.standard_normal(shape).astype(np.float32) for _ in range(2)]


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("body", [in_a_row, one_array_twice, of_a_constant, calls_in_calls,
                                  in_branches, in_a_loop], ids=lambda f: f.__name__)
def test_compiled_calls(body, flag):
    graph = built(body.__name__, INPUTS, body)
    x, y = arrays_of((5, 3))
    given = (x, 1.25, y, flag, 2)
    assert "call i32 @graph." in native.machine_code(pipeline.run(graph), {}).program.text
    compared(native.run_graph(graph, *given), interpret(graph, *given))


def test_calls_on_symbolic_sizes():
    type = TensorType(f32, (Dim("n"), 3))
    types = (type, NUMBER, type, FLAG, COUNT)

    def body(x, number, y, flag, count):
        g = mixed(type)
        a, number, b, c, count, flag = call(g, x, number, y, flag, count)
        return call(g, c, number, a, flag, count)

    graph = built("symbolic", types, body)
    for n in (2, 9):
        x, y = arrays_of((n, 3))
        compared(native.run_graph(graph, x, 0.75, y, True, 1),
                 interpret(graph, x, 0.75, y, True, 1))


def compared(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-6)


@pytest.mark.parametrize("step", [inline, ranges, simplify, cse, prune, sums, dead_code],
                         ids=lambda m: m.__name__.rpartition(".")[2])
def test_a_pass_that_changes_nothing_gives_the_same_graph(step):
    graph = built("outer", INPUTS, calls_in_calls)
    done = dead_code.run(cse.run(simplify.run(graph)))
    assert step.run(done) is done


lives = st.tuples(st.integers(1, 500), st.integers(0, 12), st.integers(0, 6))


@given(st.lists(lives, max_size=30))
def test_blocks_that_live_at_once_share_no_bytes(wanted):
    blocks = [Block("", size, start, start + length) for size, start, length in wanted]
    total = plan(blocks).get("", 0)
    for i, a in enumerate(blocks):
        assert a.offset % 64 == 0 and a.offset + a.size <= total
        for b in blocks[:i]:
            together = a.start <= b.end and b.start <= a.end
            assert not together or (a.offset + a.size <= b.offset or b.offset + b.size <= a.offset)
