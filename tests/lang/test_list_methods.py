"""Methods and operators of lists whose length only the running program knows, against Python's."""

import pytest
from same import same_everywhere
from test_lists import STARTS, halves

import cellc
from cellc import Tensor, ops
from cellc.errors import IndexFault, TypeFault


def orbit(n):
    seen, k = [], n
    while k not in seen:
        seen.append(k)
        k = (k * 7 + 3) % 11
    return seen, k


@same_everywhere(*STARTS)
def test_copies_are_lists_of_their_own(x, eps):
    a = halves(x, eps)
    b, c, d, e = list(a), a.copy(), a[:], a + []
    a.append(1.0)
    b.append(2.0)
    c += [3.0, 4.0]
    return a, b, c, d, e


@same_everywhere(*STARTS)
def test_slices(x, eps):
    a = halves(x, eps)
    n = len(a) // 2
    return (a[1:3], a[-2:], a[::-1], a[:-1], a[1::2], a[-1:0:-2], a[5:2], a[100:], a[-100:2],
            a[:n], a[n:], a[n - 3:n + 1], a[n::-1])


@same_everywhere(*STARTS)
def test_joined(x, eps):
    a, b = halves(x, eps), halves(x, eps * 2)
    known = [5.0]
    known.extend(a)
    known += b
    b.extend(b)
    b += a
    return a + b, a + [1.0], [2.0, 3.0] + a, a + a, known, b


@same_everywhere(*STARTS)
def test_items_taken_out(x, eps):
    a, y = halves(x, eps), 0.0
    if len(a) > 3:
        y = a.pop(0) + 2 * a.pop(-2)
        del a[1], a[-1]
        y += a.pop(len(a) // 2)
    return a, y


@same_everywhere(*STARTS)
def test_items_put_in(x, eps):
    a = halves(x, eps)
    a.insert(0, x)
    a.insert(100, 7.0)
    a.insert(-1, 8.0)
    a.insert(-100, 9.0)
    a.insert(len(a) // 2, -1.0)
    return a


@same_everywhere(*STARTS)
def test_turned_and_sorted(x, eps):
    a = halves(x, eps)
    a.insert(2, 2.0)
    b = sorted(a, key=lambda v: (v - 1.0) ** 2)
    c = sorted(a, reverse=True)
    a.reverse()
    d = a[:]
    a.sort()
    return a, b, c, d


@same_everywhere((0,), (1,), (7,), (40,))
def test_sorting_is_stable(n):
    a = []
    while len(a) < n:
        a.append((len(a) * 7 % 5, len(a)))
    b = sorted(a, key=lambda p: p[0])
    a.sort(key=lambda p: p[0], reverse=True)
    return a, b


@same_everywhere((4,), (9,), (2,))
def test_looked_for(n):
    seen, k = orbit(n)
    at = seen.index(k)
    return seen, at, seen.count(k), k in seen, 100 in seen, 100 not in seen


@same_everywhere((4,), (9,))
def test_removed(n):
    seen, k = orbit(n)
    seen.remove(k)
    return seen, seen.count(k)


@same_everywhere(*STARTS)
def test_compared(x, eps):
    a = halves(x, eps)
    return (a == a[:], a == [x], a == halves(x, eps / 2), a != [x * 0.7], [x * 0.7] == a,
            a == (1.0,))


@same_everywhere((9,), (2,))
def test_a_queue(n):
    todo, order = [n], []
    while todo:
        k = todo.pop(0)
        order.append(k)
        if k > 1:
            todo.append(k // 2)
            todo.append(k - k // 2 - 1)
    return order


# -- of known length, by numbers of the program ----------------------------------------------------

@same_everywhere((0.5, 1), (0.5, 2), (0.5, 3))
def test_parts_of_a_known_list(x, n):
    ys, none = [x, x * 2, 3.0, 4.0], []
    return ys[n:], ys[:n], ys[-n:3], ys[::-1][n:], none[n:], [(x, 1), (2.0, 2), (3.0, 3)][n - 1:]


@same_everywhere((0.5, 1), (0.5, 2), (0.5, 3))
def test_a_known_list_changed(x, n):
    ys, none = [1, 2, 3], []
    ys.insert(n, 7)
    y = ys.pop(n - 1)
    del ys[n - 2]
    none.insert(n, x)
    return ys, y, none


@same_everywhere((Tensor([0.5, 2.0]), 1), (Tensor([0.5, 2.0]), 2))
def test_parts_of_known_tensors(x, n):
    ys = [x, x * x, x + 1]
    return ops.stack(ys[:n]), sum(ys[n:], ops.zeros_like(x))


# -- of tensors ------------------------------------------------------------------------------------

@same_everywhere((Tensor([0.5, 2.0, -1.0]), 3), (Tensor([0.5, 2.0, -1.0]), 5))
def test_of_tensors(x, n):
    a = []
    while len(a) < n:
        x = ops.sin(x * 1.5)
        a.append(x)
    b = a[::-1] + a[1:]
    b.insert(1, x * 2)
    b.sort(key=lambda v: v[0])
    y = b.pop(0)
    return ops.stack(b), y, ops.stack(a[-2:])


@same_everywhere((Tensor(3.0), 0.1), (Tensor(3.0), 1.5))
def test_compared_with_tensors(x, eps):
    a = halves(x, eps)
    return a == [x * 0.7, x * 0.7 * 0.7], a == [x], [x * 0.7] == a[:1], a == a[:]


# -- gradients -------------------------------------------------------------------------------------

def all_of_them(x, eps):
    a = halves(x, eps)
    b, c = sorted(a), a[2:-1]
    a.insert(1, x * x)
    a.reverse()
    d = [x * 0.5] + a
    return (sum([i * v for i, v in enumerate(b)], 0.0) + sum([v * v for v in c], 0.0)
            + sum([v * (i + 2) for i, v in enumerate(d)], 0.0) + 3 * a.pop(1) * x)


def test_gradients():
    def slope(f, h=1e-6):
        return (float(f(3.0 + h, 0.1)) - float(f(3.0 - h, 0.1))) / (2 * h)

    first = cellc.jit(cellc.grad(all_of_them))
    second = cellc.jit(cellc.grad(cellc.grad(all_of_them)))
    assert float(first(3.0, 0.1)) == pytest.approx(slope(all_of_them), rel=1e-6)
    assert float(second(3.0, 0.1)) == pytest.approx(slope(first), rel=1e-6)


# -- faults ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, change", [
    ("pop from empty list", lambda a: a[:0].pop(0)),
    ("pop index out of range", lambda a: a.pop(20)),
    ("pop index out of range", lambda a: a.pop(-20)),
    ("list assignment index out of range", lambda a: a.__delitem__(20)),
    ("not in list", lambda a: a.index(-1.0)),
    ("not in list", lambda a: a.remove(-1.0)),
], ids=range(6))
def test_faults_of_the_running_program(text, change):
    def fn(x, eps):
        return change(halves(x, eps))

    with pytest.raises((IndexError, ValueError, IndexFault), match=text):
        fn(3.0, 0.1)
    with pytest.raises((IndexError, ValueError, IndexFault), match=text):
        cellc.jit(fn)(Tensor(3.0), 0.1)


def alias_in_a_loop(x, n):
    ys, i = [], 0
    zs = ys
    while i < n:
        i += 1
        if x > 0.1:
            ys.append(x)
            x = x * 0.9
        else:
            x = x * 1.5
            ys = [x]
    return x + sum(zs, 0.0)


def alias_in_a_branch(x, n):
    ys = []
    zs = ys
    if x > 0.5:
        ys = [x, x]
    ys.pop()
    return x + sum(zs, 0.0)


def alias_that_is_stored_to(x, n):
    ys = halves(x, 0.1)
    zs = ys
    if x > 0.5:
        ys = [x, x, x]
    ys[0] = 2.0
    return x + sum(zs, 0.0)


@pytest.mark.parametrize("fn", [alias_in_a_loop, alias_in_a_branch, alias_that_is_stored_to])
def test_a_change_of_what_may_be_another_list(fn):
    with pytest.raises(TypeFault, match="zs may be the same object") as caught:
        cellc.jit(fn)(0.9, 3)
    assert "copy" in caught.value.hint


def test_refused_with_a_remedy():
    def stored(x):
        a = halves(x.sum(), 0.1)
        a[1:3] = [1.0]
        return a

    def by_a_step(x):
        return halves(x.sum(), 0.1)[::len(halves(x.sum(), 0.1))]

    for fn, text in ((stored, "an assignment to a slice"), (by_a_step, "a step of")):
        with pytest.raises(TypeFault, match=text) as caught:
            cellc.jit(fn)(Tensor(3.0))
        assert caught.value.loc is not None and caught.value.hint
