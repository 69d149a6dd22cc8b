"""Writes to single elements in loops: in place where nobody sees the old value, on a copy else."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, ops
from cellc.errors import IndexFault

N = 1000


def written(x, n):
    x = x.copy()
    for i in range(n):
        x[i] = x[i] * 0.5 + 1.0
    return x


def blocks_written(x, n):
    x = x.copy()
    for i in range(n):
        x[i] = x[n - 1 - i] + 1.0
    return x


def nested(x, n):
    x = x.copy()
    for i in range(n):
        for j in range(n):
            x[i, j] = x[j, i] + 0.5
            x[j, i] += 1.0
    return x


def written_in_a_branch(x, n):
    x = x.copy()
    for i in range(n):
        if x[i] > 0:
            x[i] = -x[i]
        elif i % 2 == 0:
            x[i] = 1.0
            if x[i - 1] < -1:
                break
        else:
            continue
        x[i] += 0.25
    return x


def two_that_change_sides(x, n):
    x, y = x.copy(), x * 2.0
    for i in range(n):
        x[i] = y[i] + 1.0
        x, y = y, x
    return x, y


def kept_by_a_second_name(x, n):
    x = x.copy()
    old = x * 1.0
    for i in range(n):
        old = x * 1.0
        x[i] = old[i] + 1.0
    return x, old


def old_value_used_later(x, n):
    total = 0.0
    for i in range(n):
        y = x * 1.0
        y[i] = 5.0
        total = total + y[i] - x[i]
    return total, x * 1.0


def written_and_the_first_value_kept(x, n):
    first = x * 1.0
    y = first * 1.0
    for i in range(n):
        y[i] = first[i] * 2
    return first, y


def a_parameter_of_a_helper(x, n):
    def put(v, i):
        v = v.copy()
        v[i] = 7.0
        return v

    y = put(x, n - 1)
    for i in range(n):
        y = put(y, i)
    return x * 1.0, y


PROGRAMS = {written: (N,), blocks_written: (N, 3), nested: (30, 30), written_in_a_branch: (N,),
            two_that_change_sides: (N,), kept_by_a_second_name: (N,), old_value_used_later: (N,),
            written_and_the_first_value_kept: (N,), a_parameter_of_a_helper: (N,)}


@pytest.mark.parametrize("n", [1, 2, 7, 25])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_values(program, n):
    x = Tensor(np.random.default_rng(0).normal(size=PROGRAMS[program]))
    before = x.asnumpy().copy()
    expected, found = program(x, n), cellc.jit(program)(x, n)
    assert (x.asnumpy() == before).all()
    for a, b in zip(*[r if isinstance(r, tuple) else (r,) for r in (found, expected)], strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-12)


def copies_in_the_loop(program, shape) -> int:
    """How many copies of a whole array stand within the program's loops."""
    lines = cellc.inspect(program, Tensor(np.zeros(shape)), 3).llvm.split("\n")
    starts = [i for i, line in enumerate(lines) if line.startswith("while.head")]
    ends = [i for i, line in enumerate(lines) if line.startswith("while.done")]
    return sum("@llvm.memcpy" in line and f"i64 {8 * np.prod(shape)}," in line
               for line in lines[min(starts):max(ends)])


@pytest.mark.parametrize("program", [written, blocks_written, nested, written_in_a_branch,
                                     written_and_the_first_value_kept], ids=lambda f: f.__name__)
def test_nothing_is_copied(program):
    assert copies_in_the_loop(program, PROGRAMS[program]) == 0


def test_what_is_still_used_is_copied():
    """What shows that the count above can be something else."""
    def program(x, n):
        y = x * 1.0
        for i in range(n):
            old = y
            y = y.copy()
            y[i] = old[n - 1] + y[0]
            y[0] = y[0] + old[i]
        return y

    x = Tensor(np.arange(20.0))
    np.testing.assert_allclose(cellc.jit(program)(x, 15).asnumpy(), program(x, 15).asnumpy())
    assert copies_in_the_loop(program, (20,)) > 0


@pytest.mark.parametrize("program", [written, blocks_written, nested, written_in_a_branch],
                         ids=lambda f: f.__name__)
def test_the_arena_has_no_second_array(program):
    shape = PROGRAMS[program]
    arena = cellc.inspect(program, Tensor(np.zeros(shape)), 3).arena
    assert sum(arena.values()) < 8 * np.prod(shape)


def test_a_write_beyond_the_end_is_an_error():
    compiled = cellc.jit(written)
    x = Tensor(np.zeros(N))
    assert compiled(x, N).asnumpy().tolist() == [1.0] * N
    with pytest.raises(IndexFault) as caught:
        compiled(x, N + 1)
    assert f"{__file__}:{written.__code__.co_firstlineno + 3}:" in str(caught.value)
    assert compiled(x, N).asnumpy().tolist() == [1.0] * N


# -- results over what a group reads ---------------------------------------------------------------

def swapped_parts(x, y):
    """One result is another arrangement of what the other is made of."""
    for _ in range(20):
        z = y.reshape((12, 2, 2)) * 0.5
        x, y = (z * 1.5).reshape((12, 4)), 0.5 * x + z.transpose((0, 2, 1)).reshape((12, 4))
    return x, y


def turned(x, y):
    for _ in range(20):
        z = ops.tanh(y)
        x, y = z * 0.5, x + ops.flip(z, (1,))
    return x, y


def halves_exchanged(x, y):
    for _ in range(20):
        z = y + 1.0
        x, y = z * 0.5, 0.5 * x + ops.concat((z[:, 2:], z[:, :2]), 1)
    return x, y


def side_by_side(x, y):
    for _ in range(20):
        x, y = y * 0.5, x + 0.25 * y
    return x, y


def arranged_when_read(x, y):
    for _ in range(20):
        x, y = 0.5 * ops.flip(y, (1,)), x + 0.25 * ops.flip(y, (0,))
    return x, y


@pytest.mark.parametrize("f", [swapped_parts, turned, halves_exchanged, side_by_side,
                               arranged_when_read])
def test_a_result_over_what_another_reads(f):
    rng = np.random.default_rng(0)
    args = [Tensor(rng.standard_normal((12, 4))) for _ in range(2)]
    with cellc.context.eagerly():
        expected = f(*args)
    for found, want in zip(cellc.jit(f)(*args), expected, strict=True):
        np.testing.assert_allclose(found.asnumpy(), want.asnumpy(), 1e-9, 1e-12)


def rows_turned(x, w):
    """In its gradient's rounds one product is given on, the other turned and added to it."""
    h = x[0]
    for t in range(17):
        h = h.reshape((12, 2, 2)) * x[t].reshape((12, 2, 2)).transpose((0, 2, 1))
        h = h.reshape((12, 4))
        h = h * 0.5 + 0.1 * ops.reduce_sum(h, 0, keepdims=True)
        h = 0.5 * ops.matmul(h, w) + x[t]
    return (h * h).mean()


def test_a_gradient_over_what_another_reads():
    args = [Tensor(np.random.default_rng(0).standard_normal(shape) * 0.3)
            for shape in ((17, 12, 4), (4, 4))]
    grad = cellc.grad(rows_turned, (0, 1))
    with cellc.context.eagerly():
        expected = grad(*args)
    for found, want in zip(cellc.jit(grad)(*args), expected, strict=True):
        np.testing.assert_allclose(found.asnumpy(), want.asnumpy(), 1e-9, 1e-12)
