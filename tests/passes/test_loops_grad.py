"""Gradients through loops: against central differences, to order 3, and what stays in memory."""

from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest

import cellc
from cellc import Tensor, ops
from cellc.errors import CellcError
from cellc.kernels import runtime

State = namedtuple("State", "place steps")


@dataclass
class Body:
    place: object
    speed: object


def while_of_numbers(x, y, n):
    i = 0
    while i < n:
        x = ops.sin(x * y) + 0.3 * x
        i += 1
    return x * y


def exit_on_data(x, y, n):
    while x * x < 4.0 and n > 0:
        x = x * 1.3 + 0.1 * y
        n -= 1
    return x * x


def break_and_else(x, y, n):
    for i in range(n):
        x = x * 0.8 + 0.2 * y * i
        if x > 1.7:
            x = x * y
            break
        if x < 0.4:
            continue
        y = y + 0.1 * x
    else:
        x = x * x
    return x + y


def return_from_nested(x, y, n):
    for i in range(n):
        for j in range(i + 1):
            x = ops.tanh(x + 0.3 * y)
            if x > 0.93:
                return x * y * (i + 1)
        y = y * 0.9
    return x - y


def triple(x, y, n):
    total = x * 0.0
    for i in range(n):
        k = i
        while k > 0:
            for j in range(k):
                x = x * 0.9 + 0.1 * ops.cos(y * (j + 1))
            total = total + x * y
            k -= 2
    return total


def tuples(x, y, n):
    state = State(x, 0)
    while state.steps < n:
        state = State(ops.sin(state.place) * y, state.steps + 1)
    return state.place


def objects(x, y, n):
    body, d = Body(x, y), {"energy": 0.0 * x}
    for i in range(n):
        body.speed = body.speed - 0.1 * body.place
        body.place = body.place + 0.1 * body.speed
        d["energy"] = d["energy"] + body.speed * body.speed
    return body.place + d["energy"]


def a_value_that_starts_known(x, y, n):
    z = 1
    for i in range(n):
        z = z * 0.5 + x * y
    return z * x


def branches_in_rounds(x, y, n):
    for i in range(n):
        if x > y:
            x = x * 0.7
        elif i % 3 == 0:
            x, y = y + 0.1, x
        else:
            for j in range(i % 3):
                x = x + 0.05 * y * y
    return x * y


def unused_state(x, y, n):
    z, w = x, y
    for i in range(n):
        z = z * 1.0001 + w
        w = w * 1.5
        x = x * 0.9
    return x + 0.0 * z


def swapped(x, y, n):
    for i in range(n):
        x, y = y, x * 1.1
    return x + 2.0 * y


def recursion(x, y, n):
    if n <= 0:
        return x
    for i in range(n % 3):
        x = x + 0.1 * y
    return ops.sin(recursion(x * y, y, n - 1)) + x


def helper(v, n):
    for i in range(n):
        v = v * v * 0.5 + 0.1
        if v > 2.0:
            return v - 1.0
    return v


def helpers(x, y, n):
    for i in range(n):
        x = helper(x, i) + 0.1 * helper(y, 2)
    return x * y


PROGRAMS = [while_of_numbers, exit_on_data, break_and_else, return_from_nested, triple, tuples,
            objects, a_value_that_starts_known, branches_in_rounds, unused_state, swapped,
            recursion, helpers]


def derivative(fn, order):
    """d^order fn / dx^(order-1) dy, as a function of x, y and n."""
    for i in range(order):
        fn = cellc.grad(fn, argnums=1 if i == order - 1 else 0)
    return fn


@pytest.mark.parametrize("n", [0, 1, 3, 11])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_orders(program, n):
    x, y, h = 0.6, 0.8, 1e-5
    below = cellc.jit(program)
    for order in (1, 2, 3):
        above = cellc.jit(derivative(program, order))
        last = (cellc.jit(derivative_in_x(program, order - 1)) if order > 1 else below)
        expected = (float(last(x, y + h, n)) - float(last(x, y - h, n))) / (2 * h)
        assert float(above(x, y, n)) == pytest.approx(expected, rel=2e-5, abs=1e-7), order


def derivative_in_x(fn, order):
    for _ in range(order):
        fn = cellc.grad(fn, argnums=0)
    return fn


@pytest.mark.parametrize("n", [0, 1, 3, 11])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_both_modes(program, n):
    def gradient(x, y):
        return cellc.value_and_grad(program, (0, 1))(x, y, n)

    value, (dx, dy) = gradient(0.6, 0.8)
    found, (gx, gy) = cellc.jit(lambda x, y, n: cellc.value_and_grad(program, (0, 1))(x, y, n))(
        0.6, 0.8, n)
    assert [float(found), gx, gy] == pytest.approx([float(value), dx, dy], rel=1e-9, abs=1e-12)


# -- tensors ---------------------------------------------------------------------------------------

def rows(x, w):
    h = x[0] * 0.0
    for row in x:
        h = ops.tanh(row + h @ w)
    return (h * h).sum()


def written(x, w):
    x = x.copy()
    for i in range(1, 5):
        for j in range(3):
            x[i, j] = x[i - 1, j] * w[j, j] + x[i, j] * 0.5
    return (x * x).sum()


def written_and_still_used(x, w):
    y = x * 1.0
    for i in range(5):
        old = y
        y = y * 1.0
        y[i] = w[0] * old[i] * old[(i + 1) % 5]
        y = y + 0.1 * old
    return (y * x).sum()


def elements(x, w):
    total = 0.0
    for i in range(5):
        for j in range(3):
            if x[i, j] > 0:
                total = total + x[i, j] * w[j, i % 3]
            else:
                total = total - x[i, j] * x[i, j]
    return total


def known_bound(x, w):
    for i in range(40):
        x = ops.tanh(x @ w + 0.1 * i)
    return x.sum()


@pytest.mark.parametrize("program", [rows, written, written_and_still_used, elements, known_bound],
                         ids=lambda f: f.__name__)
def test_tensors(program):
    draw = np.random.default_rng(1)
    x, w = draw.normal(size=(5, 3)), draw.normal(size=(3, 3)) * 0.7
    compiled = cellc.jit(lambda x, w: cellc.grad(program, (0, 1))(x, w))
    found = compiled(Tensor(x), Tensor(w))
    eager = cellc.grad(program, (0, 1))(Tensor(x), Tensor(w))
    for a, b in zip(found, eager, strict=True):
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=1e-9, atol=1e-12)
    value = cellc.jit(program)
    for which, direction in ((0, draw.normal(size=x.shape)), (1, draw.normal(size=w.shape))):
        def at(h):
            moved = [x, w]
            moved[which] = moved[which] + h * direction
            return float(value(*map(Tensor, moved)))

        expected = (at(1e-6) - at(-1e-6)) / 2e-6
        assert float((found[which].asnumpy() * direction).sum()) == pytest.approx(
            expected, rel=1e-6, abs=1e-8)


def test_hessian_of_a_loop_over_rows():
    draw = np.random.default_rng(2)
    x, w = draw.normal(size=(5, 3)), draw.normal(size=(3, 3)) * 0.7
    d = draw.normal(size=(3, 3))

    def along(x, w, d):
        return (cellc.grad(rows, 1)(x, w) * d).sum()

    found = cellc.jit(lambda x, w, d: cellc.grad(along, 1)(x, w, d))(*map(Tensor, (x, w, d)))
    first = cellc.jit(lambda x, w: cellc.grad(rows, 1)(x, w))
    h = 1e-6
    expected = (first(Tensor(x), Tensor(w + h * d)).asnumpy()
                - first(Tensor(x), Tensor(w - h * d)).asnumpy()) / (2 * h)
    np.testing.assert_allclose(found.asnumpy(), expected, rtol=1e-5, atol=1e-8)


# -- what the gradient costs -----------------------------------------------------------------------

def decay(x, n):
    i = 0
    while i < n:
        x = x * 0.999999 + 1e-6 * ops.sin(x)
        i += 1
    return x


def test_a_million_rounds():
    gradient = cellc.jit(lambda x, n: cellc.grad(decay)(x, n))
    x, h, n = 0.5, 1e-4, 1_000_000
    value = cellc.jit(decay)
    expected = (value(x + h, n) - value(x - h, n)) / (2 * h)
    gradient(x, n)
    before = runtime.memory_use().in_use
    assert gradient(x, n) == pytest.approx(expected, rel=1e-6)
    assert runtime.memory_use().in_use == before


def resident() -> int:
    """Bytes of this process that lie in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def failing(x, n):
    for i in range(n):
        x = x * 0.99 + ops.sin(x)
        assert i < 50_000, "too many"
    return x


def test_memory_comes_back_after_failures():
    gradient = cellc.jit(lambda x, n: cellc.grad(failing)(x, n))
    assert np.isfinite(gradient(0.5, 1000))
    for _ in range(3):
        with pytest.raises(AssertionError):
            gradient(0.5, 100_000)
    before, held = runtime.memory_use().in_use, resident()
    for _ in range(1000):
        with pytest.raises(CellcError):
            gradient(0.5, 60_000)
    assert runtime.memory_use().in_use == before
    assert resident() - held < 32 << 20
    assert np.isfinite(gradient(0.5, 1000))


def test_memory_comes_back_after_calls():
    gradient = cellc.jit(lambda x, n: cellc.grad(decay)(x, n))
    for _ in range(5):
        gradient(0.5, 10_000)
    before, held = runtime.memory_use().in_use, resident()
    for n in range(300):
        gradient(0.5, 10_000 + n)
    assert runtime.memory_use().in_use == before
    assert resident() - held < 16 << 20


# -- what a round keeps ----------------------------------------------------------------------------

def turned_weight(h, w, m):
    for _ in range(30):
        h = ops.tanh(ops.matmul(h, w.T))
    return (h * h).sum()


def repeated_mask(h, w, m):
    for _ in range(30):
        h = 0.9 * h * m + ops.matmul(h, w)
    return (h * h).sum()


def turned_state(h, w, m):
    for _ in range(30):
        h = ops.tanh(ops.matmul(h.T.reshape((4, 3)).reshape((4, 3)).T, w))
    return (h * h).sum()


def a_number_for_all(h, w, m):
    for _ in range(30):
        h = ops.tanh(h * h.max()) * 0.5
    return (h * h).sum()


@pytest.mark.parametrize("f, kept", [
    (turned_weight, [(3, 4), (3, 4)]),      # tanh's result and h, not w
    (repeated_mask, [(3, 4), (3, 4)]),      # h and 0.9 h, not m
    (turned_state, [(3, 4), (3, 4)]),
    (a_number_for_all, [(3, 4), (3, 4), ()])])
def test_of_a_view_what_it_looks_at_is_kept(f, kept):
    args = [Tensor(np.random.default_rng(i).standard_normal(shape) * 0.4)
            for i, shape in enumerate([(3, 4), (4, 4), (4,)])]
    grad = cellc.grad(f, (0, 1, 2))
    stages = cellc.inspect(grad, *args).stages
    pushes = [node for g in stages["sums"].reachable() for node in g.body
              if node.prim.name == "push"]
    assert sorted(x.type.shape for push in pushes for x in push.operands[1:]
                  if hasattr(x.type, "shape")) == sorted(kept)
    with cellc.context.eagerly():
        expected = grad(*args)
    for found, want in zip(cellc.jit(grad)(*args), expected, strict=True):
        np.testing.assert_allclose(found.asnumpy(), want.asnumpy(), 1e-9, 1e-12)
