"""Small programs that were once compiled wrongly: found by generated ones (test_generated_loops).

Each says what went wrong. They are run in eager mode, interpreted and compiled.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from same import f32, same_everywhere

import cellc
from cellc import Tensor


@dataclass
class Body:
    a: object
    b: object


@same_everywhere(2.0, -2.0)
def test_a_list_made_and_changed_in_one_branch(x):
    """It was joined with what the other branch had of it, which is nothing."""
    if x > 0:
        made = [x]
        made.append(x)
        y = made[0] + made[1]
    else:
        y = 0.0
    return y


@same_everywhere((-1.0, True), (-1.0, False), (1.0, False))
def test_an_outer_value_as_the_right_side(x, p):
    """Its operand was captured after the list of operands had been made."""
    q = p and x < 5.0
    return x > 0 or q, x > 0 and q


@same_everywhere((2.0, 1), (2.0, 0), (-2.0, 3))
def test_a_dict_of_before_returned_by_the_only_branch_that_ends(x, n):
    """It was returned as it had been before the branch."""
    d = {"n": 5}
    if x > -5:
        d["n"] = n
        return x, d
    raise ValueError("never")


@same_everywhere((2.0, 1), (-2.0, 3))
def test_an_object_of_before_in_the_only_branch_that_ends(x, n):
    """A copy of it was joined, and changes were lost."""
    body = Body(x, 1.0)
    for i in range(n):
        if x > 10:
            raise ValueError("never")
        else:
            other = body
            other.b = other.b * 2
    body.a = 7.0
    return body.a, body.b


@same_everywhere(*((x, n) for x in (1.0, -1.0) for n in (0, 1, 5)))
def test_a_list_whose_item_is_state_in_some_attempts_only(x, n):
    """A node of a round that had been given up stayed in the list."""
    k, q = 1, False
    xs = [x, 0.25]
    while n > 0:
        n -= 1
        if x > 0:
            q = n
        else:
            for m in range(n):
                if x < -5:
                    xs[1] = x
                else:
                    k += k
            else:
                assert n >= 0, "never"
                q = q or n > 2
    return xs, k, bool(q)


def always_fails(x, n):
    if n > 3:
        raise KeyError(n)
    raise ValueError("small")


@pytest.mark.parametrize("n", [0, 1, 9])
def test_a_call_that_never_returns(n):
    """It gave None, with which the code behind it went on."""
    def program(x, n):
        if n > 0:
            x = x + always_fails(x, n)
        return x

    compiled = cellc.jit(program)
    if n == 0:
        assert compiled(1.0, n) == 1.0
    else:
        with pytest.raises(KeyError if n > 3 else ValueError):
            compiled(1.0, n)


@pytest.mark.parametrize("n", [0, 1, 9])
def test_every_way_fails(n, capsys):
    """What was printed before an unconditional raise was lost; its message had to be known."""
    def program(x, n):
        print("before", n)
        for i in range(n):
            print(i)
            if i == 4:
                raise KeyError(f"four of {n}")
        raise ValueError(f"at {n}: {x:.1f}")

    said = []
    for run in (program, cellc.jit(program)):
        with pytest.raises((KeyError, ValueError)) as caught:
            run(0.5, n)
        said.append((caught.type, str(caught.value), capsys.readouterr().out))
    assert said[0] == said[1]


@same_everywhere(*((x, n, f32(2, 2)) for x in (0.5, 2.0) for n in (0, 1, 3)))
def test_a_loop_there_only_for_its_check(x, n, w):
    """prune took what its other states were made of, and left the states."""
    w, q, items = w * 1.0, False, 0.0
    for m in range(n):
        if x < 1.0:
            w[1, 1] *= x
            while x > 5.0 and n > 0:
                assert n > 100, f"{m}"
                n -= 1
                items = x       # noqa: F841
            q = True
    return q


@same_everywhere(*((x, n) for x in (0.5, 2.0) for n in (0, 1, 3)))
def test_an_object_of_known_values_in_the_only_branch_that_ends(x, n):
    """The copy of it did not count as made here, and could not meet what was before the loop."""
    body = Body(x, -0.5)
    for i in range(n):
        for j in range(i):
            if x > 1e9:
                raise ValueError("never")
            else:
                body = Body(-0.5, 1.5)
                continue
    return body.a, body.b


@pytest.mark.parametrize(("x", "n"), [(1.0, 2), (-1.0, 9), (1.0, 9)])
def test_a_loop_without_state(x, n):
    """prune asked for its first."""
    def program(x, n):
        total = 0.0
        for i in range(n):
            if x > 0:
                while n > 5:
                    raise ValueError(f"at {i}")
            total += i
        return total

    compiled = cellc.jit(program)
    if x > 0 and n > 5:
        with pytest.raises(ValueError, match="at 0"):
            compiled(x, n)
    else:
        assert compiled(x, n) == program(x, n)


@same_everywhere(*((x, n) for x in (0.5, 2.0) for n in (0, 1, 3)))
def test_containers_made_in_the_only_branch_that_ends(x, n):
    for i in range(n):
        if x > 1e9:
            raise ValueError("never")
        else:
            made = [x, [i, x]]
        made[1].append(x)
        x = x + made[1][0]
    return x


# -- gradients -------------------------------------------------------------------------------------

def check_orders(program, x, y, orders=(1, 2, 3), h=1e-5):
    def derivative(order, last):
        fn = program
        for i in range(order):
            fn = cellc.grad(fn, argnums=last if i == order - 1 else 0)
        return cellc.jit(fn)

    for order in orders:
        below = derivative(order - 1, 0)
        expected = (float(below(x, y + h)) - float(below(x, y - h))) / (2 * h)
        assert float(derivative(order, 1)(x, y)) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_a_tape_that_both_branches_of_a_backward_half_take():
    """It went in once for each, and the third order had two cotangents of it to add."""
    def program(x, y):
        for i in range(10):
            if i == 0:
                x, y = y, x
            else:
                for j in range(i):
                    x = x * 0.9 + 0.1 * y * y
        return x

    check_orders(program, 0.6, 0.8)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_a_number_written_into_a_tensor(compiled):
    """The mask of the cotangent stayed a tensor where the cotangent became a number."""
    def program(x, v):
        v = v.copy()
        v[0] = x * 0.5
        v[1] = max(x, v[2] + x)
        return (v * v).sum()

    gradient = cellc.grad(program, argnums=(0, 1))
    if compiled:
        gradient = cellc.jit(lambda x, v: cellc.grad(program, argnums=(0, 1))(x, v))
    dx, dv = gradient(0.4, Tensor(np.array([1.0, 2.0, 3.0])))
    assert float(dx) == pytest.approx(0.2 + 2 * 3.4)
    np.testing.assert_allclose(dv.asnumpy(), [0.0, 0.0, 2 * 3.4 + 6.0])


def test_a_number_through_a_mask_in_a_branch():
    start = Tensor(np.array([0.2, 0.7]))

    def program(x, y):
        v = start * y
        for i in range(12):
            v = v * 1.0
            v[i % 2] = v[(i + 1) % 2] * x if y > 0 else x * y
        return v.sum()

    check_orders(program, 0.6, 0.8, (1, 2))


@same_everywhere((3.0, 1), (0.1, 3))
def test_a_list_that_a_branch_uses_which_raises(x, n):
    """The other branch would have ended the list's tape, which is used behind the `if`."""
    ys = []
    while x > 0.5:
        ys.append(x)
        x = x * 0.7
    if n > 3:
        ys.append(1.0)
        raise ValueError(f"at {ys[0]}")
    return ys, len(ys)
