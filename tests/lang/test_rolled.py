"""Loops that depend on data: state of every kind, ways out, ranges, what is not bound."""

from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
from same import assert_same, f32, i32, interpreted, parse, same_everywhere

import cellc
from cellc import Tensor, nn, ops
from cellc.errors import NameFault, TypeFault
from cellc.ir.graph import subgraphs

COUNTS = (0, 1, 2, 5, 20)


def loops_of(fn, *args) -> int:
    """How many loops the program of a call has, wherever they are."""
    def count(graph, seen):
        if id(graph) in seen:
            return 0
        seen.add(id(graph))
        return sum((node.prim.name == "while") + sum(
            count(g, seen) for g in subgraphs(node).values()) for node in graph.body)

    return count(parse(fn, *args)[0].graph, set())


# -- state -----------------------------------------------------------------------------------------

@same_everywhere(*COUNTS)
def test_numbers(n):
    i, total, even = 0, 0.0, True
    while i < n:
        i += 1
        total += i * 0.5
        even = not even
    return i, total, even


@same_everywhere(*((f32(3), n) for n in COUNTS))
def test_tensors(x, n):
    y = x
    while n > 0:
        n -= 1
        x, y = ops.tanh(x + y), x
    return x, y, n


@same_everywhere(*COUNTS)
def test_an_int_that_becomes_a_float(n):
    x = 1
    for i in range(n):
        x = x * 1.5
    return x * 1.0


@same_everywhere(*COUNTS)
def test_a_bool_that_becomes_traced(n):
    found = False
    for i in range(n):
        if i == 3:
            found = True
    return found


Pair = namedtuple("Pair", "first second")


@dataclass
class Body:
    place: object
    speed: float
    steps: int = 0


@same_everywhere(*((f32(2), n) for n in COUNTS))
def test_tuples(x, n):
    state = (x, (0, 1.0))
    while state[1][0] < n:
        a, (i, s) = state
        state = (a * 0.5, (i + 1, s * 2))
    return state


@same_everywhere(*((f32(2), n) for n in COUNTS))
def test_named_tuples(x, n):
    state = Pair(x, 0)
    while state.second < n:
        state = Pair(state.first + 1, state.second + 1)
    return state, state.first


@same_everywhere(*((f32(2), n) for n in COUNTS))
def test_dataclasses(x, n):
    body = Body(x, 0.5)
    other = body
    while body.steps < n:
        body.place = body.place + body.speed
        body.speed *= 0.9
        body.steps += 1
    return other.place, other.speed, other.steps


@same_everywhere(*((f32(2), n) for n in COUNTS))
def test_dataclasses_made_anew(x, n):
    body = Body(x, 0.5)
    while body.steps < n:
        body = Body(body.place * body.speed, body.speed + 0.1, body.steps + 1)
    return body.place, body.speed, body.steps


@same_everywhere(*((f32(2), n) for n in COUNTS))
def test_dicts_and_lists(x, n):
    d, xs = {"x": x, "n": 0}, [0.0, [1, 2.0]]
    inner = xs[1]
    for i in range(n):
        d["x"] = d["x"] + 1
        d["n"] += i
        xs[0] += 1.0
        inner[1] = inner[1] * 0.5
    return d, xs


@same_everywhere(*COUNTS)
def test_a_list_changed_in_one_branch_of_a_round(n):
    xs = [0.0, 0.25]
    k = 1
    for i in range(n):
        if i % 2 == 0:
            xs[1] = xs[1] + i
        else:
            k += k
    return xs, k


@same_everywhere(*((n, x) for n in COUNTS for x in (0.5, -0.5)))
def test_a_container_that_the_branch_of_a_return_has_changed(n, x):
    d = {"n": 2}
    if x > 0:
        d["n"] = n
        return d, x
    d["n"] = n + 1
    return d, x


@same_everywhere(1.0, 2.0)
def test_an_alias_made_in_the_branch_that_goes_on(x):
    q = Body(x, 1.0)
    if x > 0:
        r = q
    else:
        raise ValueError("never")
    q.speed = 4.0
    return r.speed


@same_everywhere(*((f32(3), n) for n in COUNTS))
def test_closures_and_helpers(x, n):
    scale = 1.0

    def step(v):
        return v * scale + 1

    for i in range(n):
        scale = scale * 0.5
        x = step(x)
    return x, scale


def counted(n):
    total = 0
    for i in range(n):
        if i == 7:
            return total
        total += i
    return total


@same_everywhere(*((n, x) for n in COUNTS for x in (1.0, -1.0)))
def test_loops_of_helpers_in_branches(n, x):
    if x > 0:
        x = x * counted(n)
    else:
        x = x - counted(n + 1)
    return x


# -- ways out --------------------------------------------------------------------------------------

@same_everywhere(*((n, x) for n in (0, 3, 10, 30) for x in (0.5, 1.5, 100.0)))
def test_break_and_else(n, x):
    y = 1.0
    for i in range(n):
        y = y * 1.1
        if y > x:
            break
    else:
        y = -y
    return y, n


@same_everywhere(*COUNTS)
def test_continue(n):
    total = 0
    i = 0
    while i < n:
        i += 1
        if i % 3 == 0:
            continue
        total += i
    return total


@same_everywhere(*((n, x) for n in (0, 4, 12) for x in (0.1, 2.5, 1e9)))
def test_return_from_three_loops(n, x):
    total = 0.0
    for i in range(n):
        for j in range(i):
            k = 0
            while k < j:
                k += 1
                total += k * 0.25
                if total > x:
                    return i, j, k, total
    return -1, -1, -1, total


@same_everywhere(*((n, m) for n in (0, 1, 4, 9) for m in (0, 2, 5)))
def test_every_way_out_of_nested_loops(n, m):
    log = 0
    for i in range(n):
        for j in range(m):
            if j == 3:
                break
            for k in range(3):
                if k > i:
                    break
                if (i + j + k) % 4 == 3:
                    continue
                log = log * 3 % 1009 + k
            else:
                log += 100
                if log > 800:
                    return log, i
        else:
            log += 7
            continue
        log += 1
        if i == 6:
            break
    else:
        log = -log
    return log, 99


@same_everywhere(*COUNTS)
def test_a_loop_that_is_left_in_its_first_round(n):
    while n > 3:
        return n * 2
    return n


@same_everywhere(0.5, 3.5, 7.0)
def test_while_true(x):
    n = 0
    while True:
        x = x * 0.5
        n += 1
        if x < 0.1:
            break
    return x, n


@same_everywhere(*((x, n) for x in (0.5, -0.5) for n in (0, 5)))
def test_loops_in_branches_in_loops(x, n):
    for i in range(n):
        if x > 0:
            for j in range(i):
                x = x - 0.1 * j
                if x < -1:
                    break
        elif i % 2 == 0:
            while x < 0.3:
                x = x + 0.25
        else:
            x = -x
    return x


@same_everywhere(*((x, n) for x in (1.0, -1.0) for n in (0, 4)))
def test_a_test_that_changes_variables(x, n):
    total = 0.0
    while (n := n - 1) >= 0 and (x := x * 0.5) > -0.2:
        total += x
    return total, n, x


@same_everywhere(*COUNTS)
def test_the_variable_of_a_loop_afterwards(n):
    i = -1
    for i in range(n):
        pass
    return i


@same_everywhere(*COUNTS)
def test_the_variable_of_a_loop_assigned_in_it(n):
    total = 0
    for i in range(n):
        i = i * 2
        total += i
    return total


# -- what is gone through --------------------------------------------------------------------------

RANGES = [(0, 5, 1), (5, 0, -1), (3, 3, 1), (10, 0, 3), (0, 10, 3), (0, 10, -3), (-7, 8, 4),
          (8, -7, -5), (2, 9, 100), (9, 2, -100)]


@same_everywhere(*RANGES)
def test_ranges(a, b, step):
    total, count, last = 0, 0, -99
    for i in range(a, b, step):
        total, count, last = total * 2 + i, count + 1, i
    return total, count, last


@same_everywhere(*RANGES)
def test_ranges_backwards(a, b, step):
    total = 0
    for i in reversed(range(a, b, step)):
        total = total * 2 + i
    for j, i in enumerate(range(a, b, step), 5):
        total += i * j
    return total


@pytest.mark.parametrize("n", [0, 5])
def test_a_step_of_zero(n):
    def program(step):
        total = 0
        for i in range(0, 5, step):
            total += i
        return total

    with pytest.raises(ValueError):
        program(0)
    with pytest.raises(ValueError):
        cellc.jit(program)(0)


@same_everywhere((f32(0, 2),), (f32(1, 2),), (f32(20, 2),))
def test_rows(x):
    total = ops.zeros((2,), cellc.float32)
    for row in x:
        total = total * 0.5 + row
    return total


@same_everywhere((f32(20, 2), i32(12), 5), (f32(3, 2), i32(12), 30))
def test_zip_and_enumerate(x, y, n):
    total = 0.0
    for i, (row, k, j) in enumerate(zip(x, y, range(n))):
        total = total + row[0] * k * (i + j)
    for k in reversed(y):
        total = total * 0.5 + k
    return total


@same_everywhere((f32(12),))
def test_rows_are_those_of_when_the_loop_began(x):
    x = x.copy()
    total = 0.0
    for i, row in enumerate(x):
        total = total * 0.5 + row
        x[(i + 1) % 12] = 0.0
    return total, x


@same_everywhere((f32(3, 4), 2, 1), (f32(3, 4), 0, 3))
def test_elements_read_and_written(x, n, m):
    x = x.copy()
    old = x * 1.0
    for i in range(3):
        for j in range(m):
            x[i, j] = x[n, j] * 0.5 + i
            x[i, j] += 1.0
    return x, old


def test_a_long_range_is_one_loop():
    def program(x, n):
        for i in range(100_000):
            x = x * 0.999 + 1e-4
        for i in range(n):
            x = x + 1
        return x

    assert loops_of(program, 1.0, 5) == 2
    assert cellc.jit(program)(1.0, 5) == pytest.approx(program(1.0, 5), rel=1e-9)


def test_an_index_that_must_be_known_unrolls_the_loop():
    def program(x):
        parts = ((x, 1), (2 * x, 2), (3 * x, 3)) * 4
        for i in range(12):
            x = x + parts[i][0]
        return x

    assert loops_of(program, 1.0) == 0
    assert cellc.jit(program)(1.0) == program(1.0)


# -- what is bound on some ways only ---------------------------------------------------------------

def bound_in_a_loop(n):
    for i in range(n):
        last = i * 2
    return last


def bound_in_a_branch(n):
    if n > 3:
        value = 1.0
    n = n + 1
    return value * n


def bound_in_a_branch_of_a_loop(n):
    for i in range(n):
        if i == 4:
            seen = i
    return seen


def the_loops_own_variable(n):
    for i in range(n):
        pass
    return i


@pytest.mark.parametrize("program", [
    bound_in_a_loop, bound_in_a_branch, bound_in_a_branch_of_a_loop, the_loops_own_variable],
    ids=lambda f: f.__name__)
def test_unbound_variables(program):
    compiled = cellc.jit(program)
    assert compiled(9) == program(9)
    assert_same(interpreted(program, 9), program(9))
    with pytest.raises(UnboundLocalError):
        program(0)
    with pytest.raises(NameFault) as caught:
        compiled(0)
    first = program.__code__.co_firstlineno
    text = str(caught.value)
    named = {int(part.split(":")[1]) - first for part in text.split(__file__)[1:]}
    assert len(named) >= 2, text            # where it is read, and where it would be bound
    assert compiled(9) == program(9)


@pytest.mark.parametrize("rounds", [2, "n"], ids=["known", "traced"])
def test_a_variable_that_only_an_earlier_round_binds(rounds):
    def program(x, n):
        for _ in range(2 if rounds == 2 else n):
            if x > 100.0:
                u = x * 2
                x = 60.0
            elif x > 50.0:
                x = x + u
        return x

    compiled = cellc.jit(program)
    for x in (200.0, 1.0):
        assert compiled(x, 2) == program(x, 2)
        assert_same(interpreted(program, x, 2), program(x, 2))
    assert cellc.grad(program)(200.0, 2) == 2.0
    with pytest.raises(NameFault, match="u is read, and has no value: it is bound only in"):
        compiled(60.0, 2)


def test_an_unbound_variable_that_is_not_read():
    def program(n):
        if n > 3:
            value = 1.0
        if n > 5:
            return value
        return 0.0

    compiled = cellc.jit(program)
    assert [compiled(n) for n in (0, 4, 9)] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(("first", "second"), [(1.0, "a"), (f32(2), f32(3)), (None, 1.0)],
                         ids=["a number and a string", "two shapes", "None and a number"])
def test_a_loop_variable_of_two_types(first, second):
    def program(n):
        x = first
        for i in range(n):
            x = second
        return x

    with pytest.raises(TypeFault) as caught:
        cellc.jit(program)(20)
    assert "x" in str(caught.value) and __file__ in str(caught.value)


# -- short circuits --------------------------------------------------------------------------------

@same_everywhere(*((n, k) for n in (0, 3) for k in (0, 2, 7)))
def test_the_right_side_is_not_evaluated(n, k):
    x = Tensor(np.arange(3.0))
    a = k != 0 and 6 // k > 1
    b = k == 0 or 6 % k == 0
    c = k < 3 and float(x[k]) > 0.5
    d = 6 // k if k != 0 else -1
    e = float(x[k]) if k < 3 and not k < 0 else -1.0
    f = n > 0 and k > 0 and 12 // (n * k) > 1 or n == k
    return bool(a), bool(b), bool(c), d, e, bool(f), not (k != 0 and 6 // k > 1)


@same_everywhere(*((n, k) for n in (0, 3, 12) for k in (0, 2)))
def test_short_circuits_as_the_test_of_a_loop(n, k):
    x = Tensor(np.arange(10.0))
    i = 0
    while i < 10 and float(x[i]) < n and not (k != 0 and i // k > 2):
        i += 1
    return i


# -- @cellc.unroll ---------------------------------------------------------------------------------

def of_a_range(n):
    def program(x):
        for i in range(n):
            x = x * 1.5 + i
        return x
    return program


def of_a_count(n):
    def program(x):
        i = 0
        while i < n:
            x = x * 1.5 + i
            i += 1
        return x
    return program


@pytest.mark.parametrize("make", [of_a_range, of_a_count])
@pytest.mark.parametrize(("n", "few", "rolled"), [
    (12, None, True), (12, 12, False), (12, 11, True), (3, None, False), (3, 0, True),
    (0, 0, False)])
def test_how_many_rounds_are_unrolled(make, n, few, rolled):
    program = make(n)
    plain = program(0.5)
    program = program if few is None else cellc.unroll(few)(program)
    compiled = cellc.jit(program)
    assert compiled(0.5) == plain
    assert cellc.grad(program)(0.5) == 1.5 ** n
    text = str(cellc.inspect(program, 0.5).stages["parse"])
    assert (" while(" in text) == rolled


def test_unroll_holds_for_functions_within_and_for_methods():
    class Net(nn.Cell):
        @cellc.unroll(20)
        def construct(self, x):
            def within(x):
                for _ in range(15):
                    x = x + ops.sin(x)
                return x
            return within(x)

    assert " while(" not in str(cellc.inspect(Net(), f32(2)).stages["parse"])


@pytest.mark.parametrize("wrong", [-1, 2.0, True, None, "8"])
def test_unroll_takes_a_number(wrong):
    with pytest.raises(TypeFault, match="unroll takes a number of rounds, found"):
        cellc.unroll(wrong)


def test_unroll_takes_a_function():
    with pytest.raises(TypeFault, match="found int where unroll expects a function"):
        cellc.unroll(8)(3)
