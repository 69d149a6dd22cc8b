"""Tensors and containers that are one object: `y[i] = v` is seen under every name, as in Python.

Where it depends on data whether two are one, a change of one is refused, never done to one alone.
"""

from collections import deque
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from same import assert_same, f32, in_mode, interpreted, same_everywhere
from test_generated_loops import CASES, RUN, load

import cellc
from cellc import Parameter, Tensor, context, nn, ops
from cellc.errors import TypeFault

FLOATS = ((1.5, 0.2), (1.5, 0.8), (-0.5, 0.8))
COUNTS = ((1.5, 0), (1.5, 1), (1.5, 6))


def new(x, n=3):
    return ops.zeros((n,), dtype=cellc.float64) + x


@dataclass
class Pair:
    a: object
    b: object


class Same(nn.Cell):
    def construct(self, x):
        return x


class Chosen(nn.Cell):
    def construct(self, x, c):
        if c > 0.5:
            return x
        return x * 2.0


class Twice(nn.Cell):
    def construct(self, x):
        y = x * 2.0
        return y, [y]


class Weight(nn.Cell):
    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor(np.ones(3)), name="w")

    def construct(self):
        return self.w


SAME, CHOSEN, TWICE = Same(), Chosen(), Twice()
SEQUENCE = nn.SequentialCell([Same(), Same()])
DROPOUT = nn.Dropout(p=0.5)
DROPOUT.set_train(False)


def set_first(y):
    y[0] = 7.0
    return 1.0


# -- one object for certain ------------------------------------------------------------------------

@same_everywhere(*FLOATS)
def test_every_container_that_holds_it(x, c):
    y = new(x)
    held = [y]
    nested = [(y, {"a": y}), Pair(y, 1.0)]
    both = deque([y, y * 2.0])
    y[0] = 9.0
    held[0][1] = 8.0
    nested[0][1]["a"][2] = c
    return y, held, nested[0], nested[1].a, both[0], both[1]


@same_everywhere(*FLOATS)
def test_what_functions_share(x, c):
    def make():
        y = new(x)

        def get():
            return y

        return y, get

    y, get = make()
    total = partial(ops.sum, y)
    method = y.sum

    def by_default(a=y):
        return a

    pair = iter((y, y))
    next(pair)
    y[0] = c
    return y, get(), total(), method(), by_default(), next(pair)


@same_everywhere(*FLOATS)
def test_changed_in_one_branch(x, c):
    y = new(x)
    old, held = y, [y]
    if c > 0.5:
        y[1] = 7.0
    y[0] = 9.0
    return old, y, held


@same_everywhere(*FLOATS)
def test_changed_in_both_branches(x, c):
    y = new(x)
    w = y
    if c > 0.5:
        w[0] = 9.0
    else:
        w = w * 2.0
        w[1] = 3.0
    return y, w


@same_everywhere(*COUNTS)
def test_changed_in_a_loop(x, n):
    y = new(x, 30)
    old, held = y, {"y": y}
    for i in range(n):
        y[i] = 2.0
        held["y"][i + 1] = 3.0
    y[0] = 9.0
    return old, y, held


@same_everywhere(*COUNTS)
def test_changed_in_a_function_in_a_loop(x, n):
    def step(s):
        s[0] = s[0] + 1.0
        return s

    y = new(x)
    old = y
    for _ in range(n):
        y = step(y)
    return old, y


@same_everywhere(*FLOATS)
def test_made_alike_in_both_branches(x, c):
    if c > 0.5:
        a = [x]
        b = a
        y = new(x)
        z = y
    else:
        a = [x * 2.0]
        b = a
        y = new(c)
        z = y
    a[0] = 5.0
    y[0] = 6.0
    return a, b, y, z


@same_everywhere(*FLOATS)
def test_made_in_the_branch_that_goes_on(x, c):
    y = new(x)
    if c > 5.0:
        raise ValueError("never")
    else:
        a = [x]
        b = a
        z = y
    a[0] = 5.0
    z[0] = 6.0
    return a, b, y, z


@same_everywhere(*COUNTS)
def test_containers_made_anew_in_every_round(x, n):
    a = [x]
    b = a
    for _ in range(n):
        a = [a[0] + 1.0]
        b = a
    a[0] = a[0] * 5.0
    return a, b


@same_everywhere(*FLOATS)
def test_returned_by_cells(x, c):
    y, z = new(x), new(c)
    same, through, kept = SAME(y), SEQUENCE(z), DROPOUT(z)
    one, (other,) = TWICE(y)
    same[0] = 5.0
    through[0] = 6.0
    kept[1] = 7.0
    one[0] = 8.0
    return y, z, same, through, kept, one, other


@same_everywhere(*FLOATS)
def test_changed_while_an_expression_is_computed(x, c):
    y, z, w = new(x), new(x), new(x)
    total = y + set_first(y)
    listed = [z, set_first(z)]
    less = w < set_first(w)
    return total, listed, less, (y, set_first(y))


@same_everywhere(*FLOATS)
def test_a_loop_over_what_its_rounds_change(x, c):
    y = new(x)
    seen = []
    for t in (y, y * 2.0, y):
        y[0] = y[0] + c
        seen.append(t + 0.0)
    return seen


@same_everywhere(*FLOATS)
def test_code_after_branches_within_branches(x, c):
    y = new(x)
    old = y
    if c > 0.1:
        if c > 0.7:
            x = x + 1.0
        elif c > 0.5:
            return y
        else:
            if c > 0.3:
                return old
            x = x + 3.0
    y[0] = x
    return old + y


@same_everywhere(*COUNTS)
def test_buffers_that_change_places(x, n):
    y, z = new(x), new(0.0)
    for _ in range(n):
        z[0] = z[0] + y[1]
        y[1] = z[0] * 0.5
        y, z = z, y
    return y, z


@same_everywhere(*COUNTS)
def test_the_round_before(x, n):
    y = new(x)
    for _ in range(n):
        old = y
        y = new(0.0)
        for i in range(3):
            y[i] = old[i] + old[(i + 1) % 3]
    return y


@same_everywhere(1.5, -0.5)
def test_lists_that_grow_by_what_is_changed(x):
    y, h, rows = new(x), new(x), []
    for i in range(20):
        h = h * 1.5
        h[0] = i
        rows.append(h)
    rows[3] = y
    y[0] = 8.0
    return rows


@same_everywhere(*FLOATS)
def test_a_deque_in_branches(x, c):
    d = deque([x, c], 2)
    if c > 0.5:
        d.append(1.0)
    else:
        d.append(x * 2.0)
    return d[0] + 3.0 * d[1]


@same_everywhere(*FLOATS)
def test_identity(x, c):
    y = new(x)
    old = y
    y[0] = 1.0
    return old is y, y is not y * 1.0


def test_a_parameter_that_a_cell_returns():
    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.weight = Weight()

        def construct(self, x):
            with cellc.no_grad():
                w = self.weight()
                w[0] = x
            return self.weight() * 1.0

    found = []
    for mode in (context.PYNATIVE_MODE, context.GRAPH_MODE):
        net = Net()
        found.append((in_mode(mode, net, (4.0,)), net.weight.w.asnumpy().tolist()))
    assert_same(found[1], found[0])
    assert found[0][1] == [4.0, 1.0, 1.0]


@pytest.mark.parametrize("n", [0, 1, 20])
def test_gradients(n):
    def loss(x, n):
        y = new(x, 4)
        old, held = y, [y]
        for i in range(n):
            y[i % 4] = y[i % 4] * x + 0.1
        if x > 0.0:
            held[0][1] = x * x * 3.0
        SAME(old)[2] = x * x
        return ops.sum(old * y) + ops.sum(held[0])

    exact = (in_mode(context.PYNATIVE_MODE, loss, (0.7 + 1e-6, n)).item()
             - in_mode(context.PYNATIVE_MODE, loss, (0.7 - 1e-6, n)).item()) / 2e-6
    for mode in (context.PYNATIVE_MODE, context.GRAPH_MODE):
        np.testing.assert_allclose(in_mode(mode, cellc.grad(loss), (0.7, n)), exact, rtol=1e-6)


# -- perhaps one object ----------------------------------------------------------------------------

def refused(line, *cases):
    """Decorator: the function is refused for a change in this line of it, counted from `def`."""
    def decorate(fn):
        @pytest.mark.parametrize("args", cases, ids=str)
        def test(args):
            in_mode(context.PYNATIVE_MODE, fn, args)
            with pytest.raises(TypeFault) as caught:
                cellc.jit(fn)(*args)
            message = str(caught.value)
            assert "may be the same object" in message or "made outside" in message
            assert "copy" in message
            assert caught.value.loc.line == fn.__code__.co_firstlineno + 1 + line

        return test

    return decorate


@refused(4, *FLOATS)
def test_refused_after_a_choice(x, c):
    y = new(x)
    old = y
    y = y * 1.0 if c > 0.5 else y
    y[0] = 9.0
    return old, y


@refused(5, *FLOATS)
def test_refused_after_an_if(x, c):
    y = new(x)
    held = [y]
    if c > 0.5:
        y = y * 1.0
    held[0][0] = 9.0
    return y


@refused(4, *COUNTS)
def test_refused_in_a_loop_that_rebinds(x, n):
    y = new(x)
    best = y
    for i in range(n):
        y[i % 3] = 2.0
        if i > 2:
            best = y * 1.0
    return best, y


@refused(6, *FLOATS)
def test_refused_after_a_while_loop(x, c):
    y = new(x)
    old = y
    while c < 0.5:
        y = y * 2.0
        c = c + 0.1
    y[1] = 8.0
    return old, y


@refused(8, *FLOATS)
def test_refused_of_what_a_function_chose(x, c):
    def pick(a):
        if c > 0.5:
            return a
        return a * 1.0

    y = new(x)
    z = pick(y)
    z[0] = 9.0
    return y, z


@refused(3, *FLOATS)
def test_refused_of_what_a_cell_chose(x, c):
    y = new(x)
    z = CHOSEN(y, c)
    z[0] = 9.0
    return y, z


def walk(a, n):
    if n < 1:
        return a
    return walk(a, n - 1)


@refused(3, *COUNTS)
def test_refused_of_what_recursion_gives(x, n):
    y = new(x)
    z = walk(y, n)
    z[0] = 9.0
    return y, z


@refused(3, *FLOATS)
def test_refused_for_a_list(x, c):
    q = [1.0]
    r = q if c > 0.5 else [2.0]
    q[0] = x
    return r, q


@refused(3, *FLOATS)
def test_refused_for_an_object(x, c):
    q = Pair(1.0, x)
    r = q if c > 0.5 else Pair(2.0, c)
    r.a = x
    return q.a


@refused(3, *FLOATS)
def test_refused_within_containers(x, c):
    p = {"a": [x]}
    q = p if c > 0.5 else {"a": [x * 2.0]}
    p["a"].append(x)
    return q["a"]


@refused(5, *FLOATS)
def test_refused_for_a_list_that_grows(x, c):
    y, rows = new(x), []
    for _ in range(200):
        y = y * 1.5
        rows.append(y)
    y[0] = c
    return rows[3], rows[199]


@refused(2, (f32(3), 0.2), (f32(3), 0.8))
def test_refused_of_what_may_be_an_argument(x, c):
    y = x if c > 2.0 else x * 2.0
    y[0] = 1.0
    return y


@same_everywhere(*FLOATS)
def test_a_copy_where_they_part(x, c):
    y = new(x)
    old = y
    y = y * 1.0 if c > 0.5 else y.copy()
    y[0] = 9.0
    q = [1.0]
    r = list(q) if c > 0.5 else [2.0]
    q[0] = x
    return old, y, r, q


@same_everywhere(*FLOATS)
def test_what_is_not_read_again(x, c):
    y = new(x)
    old = y
    y = y * 1.0 if c > 0.5 else y
    total = ops.sum(old)
    y[0] = 9.0
    old = y
    y[1] = 3.0
    return old, y, total


# -- generated -------------------------------------------------------------------------------------

NAMES = st.sampled_from("abc")
PLACES = st.sampled_from(["a", "b", "c", "l[0]", "l[1]", "d['k']", "p.a"])
CONDITIONS = st.sampled_from(["x > 0.5", "a[0] > b[1]", "n > 2", "i > 1"])


@st.composite
def statements(draw, depth=0):
    kind = draw(st.integers(0, 9 if depth < 2 else 6))
    if kind < 2:
        return [f"{draw(PLACES)} = {draw(PLACES)}"]
    if kind < 4:
        return [f"{draw(PLACES)}[{draw(st.integers(0, 2))}] = {draw(NAMES)}[1] * 0.5 + {kind}"]
    if kind == 4:
        return [f"{draw(PLACES)} = {draw(NAMES)} * 1.5"]
    if kind == 5:
        return [draw(st.sampled_from([
            "l = [b, a]", "d = {'k': c}", "p = Pair(a, b)", "a, b = b, a", "a = SAME(b)",
            "c = touch(a)", "l = l if x > 0.5 else [a, b]", "b = a if x > 0.5 else c"]))]
    if kind == 6:
        return ["s = s + ops.sum(a * 0.5 + b - c) + l[0][1] + d['k'][2] - p.a[0]"]
    body = draw(blocks(depth + 1))
    if kind == 7:
        other = draw(blocks(depth + 1))
        return [f"if {draw(CONDITIONS)}:", *body, "else:", *other]
    if kind == 8:
        return [f"for i in range({draw(st.sampled_from(['n', '2', '12']))}):", *body]
    k = f"k{depth}"
    return [f"{k} = 0", f"while {k} < n and {draw(CONDITIONS)}:", *body, f"    {k} = {k} + 1"]


@st.composite
def blocks(draw, depth=0):
    parts = draw(st.lists(statements(depth), min_size=1, max_size=4 if depth else 7))
    return [f"    {line}" for part in parts for line in part]


HEAD = """
import cellc
from cellc import nn, ops
from dataclasses import dataclass

@dataclass
class Pair:
    a: object
    b: object

class Same(nn.Cell):
    def construct(self, x):
        return x

SAME = Same()

def touch(a):
    a[2] = a[2] * 0.25
    return a

def program(x, n):
    one = ops.ones((3,), dtype=cellc.float64)
    a, b, c = one * x, one * 2.0 + x, one * 3.0
    l, d, p, s, i = [a, b], {'k': b}, Pair(c, a), a[0] * 0.0, 0
"""


@settings(max_examples=CASES, **RUN)
@given(blocks())
def test_generated(body):
    program = load("\n".join([HEAD, *body, "    return a, b, c, l, d, p.a, p.b, s"]))
    compiled = cellc.jit(program)
    for args in ((0.3, 0), (0.7, 3), (0.9, 5)):
        expected = in_mode(context.PYNATIVE_MODE, program, args)
        try:
            found = compiled(*args)
        except TypeFault as fault:
            said = str(fault)
            assert "may be the same object" in said or "iterator" in said, said
            return
        assert_same(found, expected, "compiled", 1e-9, 1e-9)
        assert_same(interpreted(program, *args), expected, "interpreted", 1e-9, 1e-9)


@same_everywhere(*((x, n) for x in (0.3, 0.7) for n in (0, 3)))
def test_two_results_of_one_array(x, n):
    """Of the branches' two results only one may be written over the array that they come from."""
    a = new(x)
    z = a
    if x > 0.5:
        k = 0
        while k < n and x > 0.5:
            z = a * 1.5
            k = k + 1
    else:
        a[0] = 5.0
    return a, z


@same_everywhere(*COUNTS)
def test_a_list_that_is_changed_and_made_anew(x, n):
    held = [x, 1.0]
    k = 0
    while k < n and n > 2:
        held[1] = x
        held = [2.0, x]
        k = k + 1
    m = [1.0]
    for _ in range(n):
        m[0] = x
        m = [2.0]
    return held, m


@same_everywhere((f32(2, 2), 3), (f32(2, 2), 0))
def test_what_a_loop_returns_is_not_seen_by_its_rounds(x, n):
    w = x.copy()
    for i in range(n):
        w[0, 1] *= 0.5
        if w.sum() > 100.0:
            return w, i
        for j in range(n):
            w[j % 2, 0] += 1.0
            if w.sum() > 4.0 + i:
                return w, j
    return w, -1
