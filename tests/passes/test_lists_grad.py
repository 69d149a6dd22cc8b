"""Gradients through lists whose length only the running program knows, to order 3 and forward."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, ops


def stacked(x, y, n):
    found = []
    while n > 0:
        x = ops.sin(x * y) + 0.3 * x
        found.append(x)
        n -= 1
    found.append(y)
    z = ops.stack(found)
    return (z * z).sum() + z[0] * z[-1]


def gone_through(x, y, n):
    found, total = [], 0.0
    while n > 0:
        x = x * y + 0.1
        found.append((x, n, y * n))
        n -= 1
    for a, k, b in found:
        total += a * b * k
    return total + x


def read_by_index(x, y, n):
    found = [x, x * y]
    while len(found) < n + 2:
        found.append(found[-1] * y + found[len(found) // 2] * 0.3)
    return found[-1] * found[0] + found[n // 2]


def read_more_than_once(x, y, n):
    found = [x]
    for i in range(n):
        found.append(found[0] * found[-1] * 0.5 + y * i)
    return found[-1] + found[0]


def worklist(x, y, n):
    todo, total = [(n, x)], 0.0
    while todo:
        k, v = todo.pop()
        total += ops.tanh(v * y)
        if k > 0:
            todo.append((k - 1, v * 0.6 + y))
            if k > 2:
                todo.append((k - 2, v * v))
    return total


def left_over(x, y, n):
    todo = []
    for i in range(n):
        todo.append(x * i + y)
        if todo[-1] > 1.9:
            break
    last = todo.pop() if todo else x * y
    return last * x


def changed_in_branches(x, y, n):
    found = [1.0]
    for i in range(n):
        if x > 0.5:
            found.append(x * y)
            x = x * 0.7
        elif len(found) > 1:
            x = x + found.pop() * y
        else:
            found.clear()
            found.append(x * x)
    total = x * 0.0
    for v in found:
        total = total * 0.9 + v
    return total


def stacked_in_rounds(x, y, n):
    total = x * 0.0
    for i in range(n):
        found, v = [], x
        while v * v < 4.0 + i:
            v = v * 1.4 + 0.1 * y
            found.append(v)
        if found:
            z = ops.stack(found)
            total = total + (ops.tanh(z) * z).sum() * y
    return total


def stacked_in_a_branch(x, y, n):
    found = []
    for i in range(n + 1):
        if i % 3 < 2:
            found.append(x * i + y)
    z = (ops.stack(found) ** 2).sum() if x > 0.1 else ops.stack(found).max()
    return z * y


def lengths_alone(x, y, n):
    found = []
    while n > 0:
        found.append(x * n)
        n -= 1
    return x * len(found) * y


def path(x):
    found = []
    while x * x > 0.1:
        x = x * 0.7
        found.append(x)
    return ops.stack(found)


def recomputed(x, y, n):
    """A tensor of a size that each call finds, through calls with a rule for their gradient."""
    total = (cellc.recompute(path)(x + 1.0) ** 2).sum() * y
    for i in range(n):
        if i % 3 < 2:
            total = total + (cellc.recompute(path)(x * y + i + 1.0) ** 3).sum()
    return total


def in_a_recursion(x, y, n):
    found = []
    while len(found) < n:
        x = ops.sin(x * y) + 0.2 * x
        found.append(x)
    part = (ops.stack(found) ** 2).sum() if found else x * y
    return part + in_a_recursion(x, y * 0.9, n - 2) if n > 0 else part


PROGRAMS = (recomputed, in_a_recursion, stacked, gone_through, read_by_index, read_more_than_once,
            worklist, left_over, changed_in_branches, stacked_in_rounds, stacked_in_a_branch,
            lengths_alone)


def derivative(fn, order, argnums):
    for _ in range(order):
        fn = cellc.grad(fn, argnums=argnums)
    return fn


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_orders(program):
    """The derivative by y of the (order - 1)-th derivative by x, against central differences."""
    x, y, h = 0.6, 0.8, 1e-5
    for order in (1, 2, 3):
        below = cellc.jit(derivative(program, order - 1, 0))
        above = cellc.jit(cellc.grad(derivative(program, order - 1, 0), argnums=1))
        for n in (0, 1, 4, 9):
            expected = (float(below(x, y + h, n)) - float(below(x, y - h, n))) / (2 * h)
            assert float(above(x, y, n)) == pytest.approx(expected, rel=2e-5, abs=1e-7), (order, n)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_both_modes_and_forward(program):
    reverse = cellc.jit(lambda x, y, n: cellc.value_and_grad(program, (0, 1))(x, y, n))
    forward = cellc.jit(lambda x, y, n, a, b: cellc.jvp(
        lambda x, y: program(x, y, n), (x, y), (a, b)))
    for n in (0, 1, 6):
        value, (dx, dy) = cellc.value_and_grad(program, (0, 1))(0.6, 0.8, n)
        found, (gx, gy) = reverse(0.6, 0.8, n)
        assert [float(found), gx, gy] == pytest.approx([float(value), dx, dy], rel=1e-9, abs=1e-12)
        _, moved = forward(0.6, 0.8, n, 0.3, -0.4)
        assert float(moved) == pytest.approx(0.3 * dx - 0.4 * dy, rel=1e-9, abs=1e-12)


def trajectory(x, w, eps):
    found = []
    while ops.norm(x) > eps:
        x = ops.tanh(ops.matmul(w, x))
        found.append(x)
    found.append(x)
    y = ops.stack(found)
    return (ops.matmul(y, w) * y).sum() + y[-1, 0]


@pytest.mark.parametrize("eps", (0.2, 0.9, 50.0))
def test_tensors(eps):
    draw = np.random.default_rng(1)
    x, w = draw.normal(size=3), draw.normal(size=(3, 3)) * 0.5
    gradient = cellc.jit(lambda x, w: cellc.grad(trajectory, (0, 1))(x, w, eps))
    found = gradient(Tensor(x), Tensor(w))
    eager = cellc.grad(trajectory, (0, 1))(Tensor(x), Tensor(w), eps)
    for a, b in zip(found, eager, strict=True):
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=1e-9, atol=1e-12)


def test_recompute_and_checkpoint_keep_the_gradient():
    expected = cellc.jit(cellc.grad(gone_through))(0.6, 0.8, 9)
    for how in ({}, {"checkpoint": "log"}):
        again = cellc.jit(cellc.grad(lambda x, y, n, how=how: cellc.recompute(
            gone_through, **how)(x, y, n)))
        assert again(0.6, 0.8, 9) == pytest.approx(expected, rel=1e-12)
