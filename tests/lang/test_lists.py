"""Lists whose length only the running program knows: what they can do, what is refused, and that
each is let go."""

from collections import namedtuple

import numpy as np
import pytest
from same import f32, interpreted, same_everywhere

import cellc
from cellc import Tensor, context, nn, ops
from cellc.compile import compiled
from cellc.errors import CellcError, IndexFault, ShapeFault, SymbolicFault, TypeFault
from cellc.kernels import runtime

Step = namedtuple("Step", "place speed")
STARTS = ((3.0, 0.1), (3.0, 2.5), (0.05, 0.1))      # some rounds, one, none


def halves(x, eps):
    found = []
    while x > eps:
        x = x * 0.7
        found.append(x)
    return found


# -- numbers ---------------------------------------------------------------------------------------

@same_everywhere(*STARTS)
def test_returned(x, eps):
    return halves(x, eps)


@same_everywhere(*STARTS)
def test_length_and_truth(x, eps):
    found = halves(x, eps)
    return len(found), 1 if found else 2, len(found) > 3


@same_everywhere(*STARTS)
def test_gone_through(x, eps):
    total, places = 0.0, 0
    for i, v in enumerate(halves(x, eps)):
        total += v * v
        places += i
    for v in reversed(halves(x, eps)):
        total = total * 0.5 + v
    return total, places


@same_everywhere(*STARTS)
def test_two_side_by_side(x, eps):
    up, down, total = [], [], 0.0
    while x > eps:
        x = x * 0.7
        up.append(x)
        down.append((len(up), -x))
    for a, (n, b) in zip(up, down):
        total += a * b * n
    return total


@same_everywhere((3.0, 0.1), (3.0, 0.9))
def test_items(x, eps):
    found = halves(x, eps)
    total = found[0] + found[-1] * 2 + found[1] * 3 + found[-2] * 4
    for i in range(len(found)):
        total += found[i] * found[-1 - i] * found[len(found) // 2]
    return total


@same_everywhere(1, 2, 7, 50)
def test_a_stack_of_work(n):
    todo, total, seen = [(n, 0)], 0, 0
    while todo:
        k, depth = todo.pop()
        seen += 1
        total += k * depth
        if k > 1:
            todo.append((k // 2, depth + 1))
            todo.append((k - k // 2 - 1, depth + 1))
    return total, seen


@same_everywhere(2, 3, 60)
def test_primes(n):
    found, i = [], 2
    while i < n:
        for p in found:
            if i % p == 0:
                break
        else:
            found.append(i)
        i += 1
    return found, len(found)


@same_everywhere(3, 20)
def test_a_queue_that_grows_while_it_is_gone_through(n):
    todo, total = [1], 0
    for k in todo:
        total += k
        if k * 2 < n:
            todo.append(k * 2)
        if k * 3 < n:
            todo.append(k * 3)
    return total, len(todo)


@same_everywhere((3.0, 0.1), (3.0, 2.9))
def test_read_while_it_grows(x, eps):
    found = [x]
    while found[-1] > eps:
        found.append(found[-1] * 0.6 - found[len(found) // 2] * 0.01)
    return found


@same_everywhere((0.5, 3), (-0.5, 3), (0.5, 0))
def test_changed_in_branches(x, n):
    found = [0.0]
    i = 0
    while i < n:
        if x > 0:
            found.append(x)
            found.append(x * i)
        elif len(found) > 1:
            found.pop()
        else:
            found.extend([x, x - 1.0, x - 2.0])
        x = -x * 1.5
        i += 1
    found += [7.0]
    return found


@same_everywhere((0.5,), (-0.5,))
def test_an_if_alone_makes_one(x):
    found = [1.0, 2.0]
    if x > 0:
        found.append(x)
    else:
        found.clear()
    other = [x, x] if x > 0.2 else [x]
    return found, len(other), other[0]


@same_everywhere((5, 3), (0, 3))
def test_in_every_round_anew(n, m):
    total, i = 0, 0
    while i < n:
        found, k = [], i
        while k < m + i:
            found.append(k * i)
            k += 1
        if found:
            total += found[-1] + len(found)
        i += 1
    return total


@same_everywhere((4.0, 0.5))
def test_early_ends(x, eps):
    found = []
    for i in range(50):
        x = x * 0.7
        if x < eps:
            break
        if i == 2:
            continue
        found.append((i, x))
    return found


def nested(found, x, depth):
    if depth > 0:
        found.append(x * depth)
        nested(found, x + 1.0, depth - 1)


@same_everywhere((1.0, 0.2), (-1.0, 0.2))
def test_passed_to_functions(x, eps):
    found = halves(x, eps)
    nested(found, x, 3)
    grow = found.append
    grow(x)
    table = {"all": found}
    table["all"].append(2.0)
    return found


@same_everywhere((2.0, 0.3))
def test_records(x, eps):
    steps, flags = [], []
    while x > eps:
        steps.append(Step(x, x * 2))
        flags.append(x > 1.0)
        x = x * 0.6
    last = steps.pop()
    return steps, last.speed, flags


@same_everywhere((3.0, 0.1), (3.0, 0.9))
def test_items_assigned(x, eps):
    found = halves(x, eps)
    found[0] = x * 7
    for i in range(len(found)):
        found[i] = found[i] + found[-1] * i
    found[-1] = 2
    return found


@same_everywhere(*STARTS)
def test_sums_and_extremes(x, eps):
    found = [x]
    while x > eps:
        x = x * 0.7
        found.append(x - 1.0)
    return sum(found), sum(found, 2.5), max(found), min(found)


@same_everywhere(*STARTS)
def test_comprehensions(x, eps):
    found = halves(x, eps)
    return ([v * 2 for v in found], [v for v in found if v > 0.5],
            [(i, a + b) for i, a in enumerate(found) for b in found if i < 2 or b > a])


@same_everywhere(3, 0, 20)
def test_comprehensions_over_a_range_of_data(n):
    squares = [i * i for i in range(n)]
    return squares, sum([i for i in squares if i % 3 == 1]), len(squares)


@same_everywhere(f32(20), f32(1))
def test_what_data_select(x):
    kept = [v for v in x if v > 0]
    return len(kept), sum([v for v in kept]) if kept else x.sum() * 0


@same_everywhere(*((x, i) for x in (0.5, -0.5) for i in (0, 2, -1, -3)))
def test_one_of_a_few_numbers(x, i):
    few, steps = [x, 2, x * 3], (1, 2, 4)
    chosen, step = few[i], steps[i]
    few[i] = x + 10
    few[i] += steps[-1]
    return chosen, step, few


@cellc.jit
def one_of_three(x, i):
    return [x, 2.0, 3.0][i]


@same_everywhere(0.5)
def test_what_can_be_unrolled_keeps_its_length(x):
    """So that all can be done with it."""
    evens, many = [], []
    for i in range(30):
        if i % 2 == 0:
            evens.append(x * i)
    while len(many) < 12:
        many.append(x * len(many))
    return evens[3:5], tuple(many), [*many, *evens][20], max(evens[1:], key=abs) if x is None else 0


# -- tensors ---------------------------------------------------------------------------------------

def path(x, eps):
    found = []
    while ops.norm(x) > eps:
        x = x * 0.7
        found.append(x)
    return found


ENDS = ((f32(3), 0.5), (f32(3), 1e-6))


@same_everywhere(*ENDS)
def test_stacked(x, eps):
    y = ops.stack(path(x, eps))
    return (y, len(y), y.shape[1], y[0], y[-1], y.sum(0), y.max(1), y.mean(), ops.tanh(y) * 2,
            y.reshape(-1), ops.transpose(y, (1, 0)), ops.softmax(y, 0), y.std(1))


@same_everywhere(*ENDS)
def test_along_another_axis(x, eps):
    found = path(x, eps)
    return ops.stack(found, axis=1), ops.stack(found, -1).sum(1), ops.stack(found)


@same_everywhere(*ENDS)
def test_joined(x, eps):
    found = path(x, eps)
    return ops.concat(found), ops.cat([v.reshape(1, 3) for v in found], axis=1), sum(found)


@same_everywhere(*ENDS)
def test_lists_of_one_length_meet(x, eps):
    xs, norms = [], []
    while ops.norm(x) > eps:
        x = x * 0.7
        xs.append(x)
        norms.append(ops.norm(x))
    y, n = ops.stack(xs), ops.stack(norms)
    return y / n.reshape(-1, 1), (y.sum(1) * n + n).sum(), ops.where(n > 1.0, y.sum(1), n)


@same_everywhere(*((x, w, eps) for x, eps in ENDS for w in (f32(3, 5),)))
def test_products(x, w, eps):
    y = ops.stack(path(x, eps))
    return ops.matmul(y, w), ops.matmul(ops.transpose(y, (1, 0)), y), ops.matmul(y, x)


@same_everywhere(*ENDS)
def test_rows_in_loops(x, eps):
    y, total = ops.stack(path(x, eps)), 0.0
    for row in y:
        total = total * 0.5 + row.sum()
    for i in range(len(y)):
        total = total + y[i, 0] * i
    return total


@same_everywhere(*ENDS)
def test_an_array_popped_stays_what_it_was(x, eps):
    found = path(x, eps)
    last = found.pop()
    first = found[0]
    found.append(x * 100)
    found.append(x * 200)
    return last, first, found[-1]


@same_everywhere((f32(3), 3), (f32(3), 1))
def test_stacked_in_branches_and_rounds(x, n):
    total, i = x.sum() * 0, 0
    while i < n:
        found, k = [], 0
        while k <= i * 2:
            found.append(x * k)
            k += 1
        y = ops.stack(found)
        if i % 2 == 0:
            total = total + (y * y).sum() + len(found)
        else:
            total = total - ops.stack([y.sum(0), x]).sum()
        i += 1
    return total


class Solver(nn.Cell):
    def construct(self, x, eps):
        return ops.stack(path(x, eps))


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.solve, self.dense = Solver(), nn.Dense(3, 4)

    def construct(self, x, eps):
        return self.dense(self.solve(x, eps)).sum() + self.solve(x * 2, eps).sum()


def test_in_cells_that_are_used_twice():
    net = Net()
    found = {}
    for mode in (context.PYNATIVE_MODE, context.GRAPH_MODE):
        context.set_context(mode=mode)
        found[mode] = [net(f32(3), 0.1).asnumpy(), cellc.grad(net)(f32(3), 0.1).asnumpy()]
    for a, b in zip(*found.values()):
        np.testing.assert_allclose(a, b, rtol=1e-4)


@same_everywhere((f32(3), 3))
def test_items_that_are_changed_before_or_as_copies(x, n):
    found = []
    while len(found) < n:
        y = x * len(found)
        y[0] = -1.0
        found.append(y)
    last = found.pop().copy()
    last[1] = 7.0
    first = found[0].copy()
    first[2] = 9.0
    return ops.stack(found), last, first


# -- what goes wrong while the program runs --------------------------------------------------------

@cellc.jit
def third(x, eps):
    return halves(x, eps)[3]


@cellc.jit
def last_but(x, eps):
    return halves(x, eps)[-4]


@cellc.jit
def emptied(x, eps):
    found = halves(x, eps)
    while x > 0.0:
        found.pop()
    return len(found)


@cellc.jit
def stacked(x, eps):
    return ops.stack(halves(x, eps))


@cellc.jit
def unequal(x, eps):
    return ops.stack(halves(x, eps)) + ops.stack(halves(x, eps * 4))


@cellc.jit
def against_known(x, eps):
    return ops.stack(halves(x, eps)) * Tensor(np.arange(4.0))


@pytest.mark.parametrize("fn, args, kind, text", [
    (third, (3.0, 2.5), IndexFault, "index 3 is out of range for a size of 1"),
    (last_but, (3.0, 2.5), IndexFault, "out of range for a size of 1"),
    (emptied, (3.0, 0.1), IndexError, "pop from empty list"),
    (stacked, (0.1, 0.5), TypeFault, "at least one"),
    (one_of_three, (0.1, 3), IndexError, "list index out of range"),
    (one_of_three, (0.1, -4), IndexError, "list index out of range"),
    (unequal, (3.0, 0.1), ShapeFault, "sizes .* do not meet"),
    (against_known, (3.0, 0.1), ShapeFault, "do not meet")])
def test_faults_of_the_running_program(fn, args, kind, text):
    before = runtime.memory_use().in_use
    for _ in range(3):
        with pytest.raises(kind, match=text):
            fn(*args)
    assert runtime.memory_use().in_use == before


def test_a_size_that_meets_a_known_one():
    found = against_known(3.0, 0.9)
    np.testing.assert_allclose(found.asnumpy(), np.asarray(halves(3.0, 0.9)) * np.arange(4.0))


# -- what is refused -------------------------------------------------------------------------------

def fixed(x):
    return tuple(halves(x.sum(), 0.1))


def repeated(x):
    return halves(x.sum(), 0.1) * 2


def of_two_types(x):
    found = [1.0]
    while x.sum() > 0.1:
        x = x * 0.5
        found.append((x, x))
    return found


def of_lists(x):
    found = []
    while x.sum() > 0.1:
        x = x * 0.5
        found.append([x])
    return found


def printed(x):
    print(halves(x.sum(), 0.1))


def test_a_number_may_be_compiled_for_instead():
    """As where other things must be known: the list has a known length then."""
    def fixed(x, eps):
        return tuple(halves(x, eps))

    fn = cellc.jit(fixed)
    assert fn(3.0, 0.1) == fixed(3.0, 0.1)
    assert compiled(fixed).compiles_numbers


def that_leaves_its_round(x):
    y = ops.zeros((3,), cellc.float64)
    while x.sum() > 0.1:
        y = ops.stack(halves(x.sum(), 0.1))
        x = x * 0.5
    return y


def of_a_size_that_is_needed(x):
    y = ops.stack(halves(x.sum(), 0.1))
    return ops.ones((len(y) + 1,)) if len(y) > 3 else ops.eye(len(y))


def squeezed(x):
    return ops.squeeze(ops.stack(halves(x.sum(), 0.1)))


def of_one_tensor_changed_in_each_round(x):
    found, y = [], ops.zeros((3,))
    while len(found) < x:
        y[0] = float(len(found))
        found.append(y)
    return ops.stack(found)


def of_what_is_changed_afterwards(x):
    found, y = [], ops.zeros((3,))
    while len(found) < x:
        found.append(y * len(found))
    first = found[0]
    first[1] = 5.0
    return ops.stack(found)


@pytest.mark.parametrize("fn, kind, text", [
    (squeezed, SymbolicFault, "known only when it runs"),
    (of_one_tensor_changed_in_each_round, TypeFault, "may be the same object"),
    (of_what_is_changed_afterwards, TypeFault, "may be the same object"),
    (fixed, CellcError, "known only when the program runs"),
    (repeated, TypeFault, "a use of all items of a list whose length"),
    (of_two_types, TypeFault, "no one type|changed in a loop"),
    (of_lists, TypeFault, "no one type"), (printed, TypeFault, "part of a text"),
    (that_leaves_its_round, TypeFault, "no one type"),
    (of_a_size_that_is_needed, SymbolicFault, "known only when it runs")])
def test_refused_with_place_and_remedy(fn, kind, text):
    with pytest.raises(kind, match=text) as caught:
        cellc.jit(fn)(Tensor(3.0))
    assert caught.value.loc is not None and caught.value.hint


def test_vmap_goes_through_the_lanes():
    """Each has a list of its own length; a tensor of that size has no place in a batch."""
    def of_each(v):
        found, total = halves(v, 0.1), 0.0
        for i, a in enumerate(found):
            total += a * i
        return len(found), total, (ops.stack(found) ** 2).sum()

    x = Tensor(np.arange(1.0, 4.0))
    found = cellc.jit(lambda x: cellc.vmap(of_each)(x))(x)
    each = [of_each(float(v)) for v in x.asnumpy()]
    for a, b in zip(found, zip(*each)):
        np.testing.assert_allclose(a.asnumpy(), b)
    with pytest.raises(TypeFault, match="vmap"):
        cellc.jit(lambda x: cellc.vmap(lambda v: ops.stack(halves(v, 0.1)))(x))(x)


# -- memory ----------------------------------------------------------------------------------------

def test_lists_are_let_go():
    """More of them than there are addresses for at once; read, dropped, and popped to the end."""
    @cellc.jit
    def many(n):
        total, i = 0, 0
        while i < n:
            read, dropped, emptied = [], [], [i]
            k = 0
            while k < 3:
                read.append(k * i)
                dropped.append(k)
                k += 1
            while emptied:
                total += emptied.pop()
            for v in read:
                total += v
            if i % 2 == 0:
                dropped.append(1)
            i += 1
        return total

    assert many(5000) == many.fn(5000)


def test_large_results_are_handed_over():
    @cellc.jit
    def long(n, x):
        found, i = [], 0
        while i < n:
            found.append(x + i)
            i += 1
        return ops.stack(found), ops.stack(found) * 2

    before = runtime.memory_use().in_use
    a, b = long(100_000, Tensor(np.arange(3.0)))
    assert a.shape == b.shape == (100_000, 3)
    np.testing.assert_array_equal(a.asnumpy()[-1], np.arange(3.0) + 99_999)
    np.testing.assert_array_equal(b.asnumpy(), a.asnumpy() * 2)
    assert runtime.memory_use().in_use > before
    del a, b
    assert runtime.memory_use().in_use == before


def test_one_program_for_all_lengths():
    fn = cellc.jit(stacked.fn)
    for eps in (0.1, 0.01, 2.0, 0.5):
        np.testing.assert_allclose(fn(3.0, eps).asnumpy(), halves(3.0, eps))
    assert len(compiled(stacked.fn).variants) == 1


def test_interpreted_too():
    assert interpreted(halves, 3.0, 0.5) == halves(3.0, 0.5)
