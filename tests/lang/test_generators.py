"""Generators: bodies run up to each `yield`, in Python's order, and what consumes them."""

import itertools

import pytest
from same import f32, gradient_agrees, parse, same_everywhere

from cellc.errors import CellcError


def scaled(x, n, log=None):
    for i in range(n):
        if log is not None:
            log.append(i)
        yield x * i
    if log is not None:
        log.append("end")


@same_everywhere((f32(3), 2.0))
def test_what_consumes_one(x, s):
    a, b, c = scaled(x, 3)
    first, *rest = scaled(s, 4)
    total = 0
    for v in scaled(s, 3):
        total = total + v
    return (list(scaled(x, 2)), tuple(scaled(s, 3)), sum(scaled(s, 4)), a + b + c, first, rest,
            total, list(zip(scaled(x, 2), scaled(s, 5))), next(scaled(s, 2)), [*scaled(s, 2), 7],
            list(enumerate(scaled(s, 2), 5)), max(*scaled(s, 3)), [v + 1 for v in scaled(s, 2)],
            dict(zip("ab", scaled(x, 2))), list(map(lambda v: v * 2, scaled(s, 2))),
            (lambda *v: len(v))(*scaled(x, 3)), any(v is x for v in scaled(x, 2)),
            sorted(scaled(3, 3), reverse=True), list(reversed(list(scaled(s, 2)))))


@same_everywhere((f32(3), 2.0))
def test_order_of_effects(x, s):
    log = []
    for v in scaled(s, 3, log):
        log.append(v)
    it = scaled(s, 2, log)
    log.append("made")
    first = next(it)
    log.append("asked")
    left = list(it)
    pairs = list(zip(scaled(1, 2, log), scaled(2, 3, log)))
    return log, first, left, next(it, "default"), pairs


def countdown(n):
    while n > 0:
        got = yield n
        n -= 1 if got is None else got
    return "done"


def delegating(n, log):
    result = yield from countdown(n)
    log.append(result)
    yield from [10, 20]
    nothing = yield from ()
    log.append(nothing)
    return 3


@same_everywhere((f32(3),))
def test_while_yield_from_and_return(x):
    log = []
    found = list(delegating(3, log))
    it = countdown(6)
    sent = [next(it), it.send(3), it.send(None)]
    try:
        while True:
            next(it)
    except StopIteration as end:
        sent.append(end.value)
    return x, found, log, sent


def endless(x):
    n = 0
    while True:
        yield x * n
        n += 1


@same_everywhere((f32(3), 2.0))
def test_endless_ones(x, s):
    taken = []
    for v in endless(s):
        if len(taken) == 3:
            break
        taken.append(v)
    a, b = itertools.islice(endless(x), 2)
    it = endless(s)
    return taken, a + b, [next(it) for _ in range(3)], list(zip(endless(s), range(2))), list(
        itertools.takewhile(lambda k: k < 5, endless(2)))


def tree(node):
    if isinstance(node, (list, tuple)):
        for part in node:
            yield from tree(part)
    elif isinstance(node, dict):
        for key in sorted(node):
            yield key, node[key]
    else:
        yield node


@same_everywhere(([f32(3), [2.0, (f32(2), [1.0])], {"b": 1.0, "a": f32(1)}],))
def test_recursion(t):
    return list(tree(t))


class Bag:
    def __init__(self, *items):
        self.items = list(items)

    def __iter__(self):
        for item in self.items:
            yield item

    def pairs(self):
        yield from zip(self.items, self.items[1:])

    @property
    def doubled(self):
        return (item * 2 for item in self.items)


class Countdown:
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return self

    def __next__(self):
        if self.n == 0:
            raise StopIteration
        self.n -= 1
        return self.n


class Indexed:
    def __getitem__(self, i):
        if i > 2:
            raise IndexError(i)
        return i * i


@same_everywhere((f32(3), 2.0))
def test_methods_and_iterators_of_the_user(x, s):
    bag = Bag(x, s, 1)
    down = Countdown(4)
    first = next(down)
    return (list(bag), list(bag.pairs()), list(bag.doubled), sum(Bag(s, s)), first, list(down),
            list(Indexed()), 4 in Indexed(), s in Bag(1.0, s), [*Countdown(2)],
            dict(enumerate(bag)))


@same_everywhere((f32(3), 2.0))
def test_expressions(x, s):
    k = 1
    later = (v * k for v in (x, s))
    k = 3
    nested = (a + b for a in range(3) if a != 1 for b in (s, 10) if a)
    log = []
    lazy = (log.append(i) or i for i in range(3))
    log.append("before")
    first = next(lazy)
    return (list(later), list(nested), first, log, list(lazy), log, sum(i * s for i in range(3)),
            ",".join(str(i) for i in range(3)), all(i for i in (1, 0)), {i for i in (1, 1)} == {1},
            list((i, j) for i in range(2) for j in range(i + 1)), max(i * i for i in (-3, 2)))


@same_everywhere((f32(3), 2.0))
def test_iterators(x, s):
    it = iter([x, s, 1, 2, 3])
    a = next(it)
    pairs = list(zip(it, it))
    values = iter([3, 1, 4])
    until = list(iter(lambda: next(values), 4))
    both = iter("ab")
    return a, pairs, until, list(both), list(both), list(iter({"k": 1})), next(iter((s,)))


@same_everywhere((f32(3), 1.0), (f32(3), 3.0), (f32(3), 20.0))
def test_a_loop_left_under_a_traced_condition(x, limit):
    total = 0.0
    log = []
    for v in scaled(2.0, 4):
        if total > limit:
            break
        total = total + v
        x = x + 1
    else:
        total = total + 100
    return x, total, log


@same_everywhere((1.0, 1.0), (1.0, -1.0), (-1.0, 1.0))
def test_nested_ways_out_of_a_loop(x, y):
    total = 0.0
    for v in scaled(1.0, 3):
        if x > 0:
            if y > 0:
                break
            total = total + 10
        total = total + v
        if total > 12:
            return total
    return total - 1


@same_everywhere((1.0,), (-1.0,))
def test_branches_that_consume_alike(s):
    it = iter([1.0, 2.0, 3.0])
    if s > 0:
        a = next(it)
    else:
        a = next(it) * s
    made = scaled(s, 4)
    next(made)
    if s > 0:
        b = next(made)
    else:
        b = next(made) - 1
    return a, next(it), b, list(made)


@same_everywhere((1.0,), (-1.0,))
def test_branches_that_make_and_consume_their_own(s):
    if s > 0:
        found = list(scaled(s, 2))
    else:
        found = [v + 1 for v in scaled(s, 2)]
    return found, sum(scaled(s, 3)) if s > 0 else 0.0


@same_everywhere((f32(3), 1.0), (f32(3), -1.0))
def test_traced_branches_within(x, s):
    def signs(values):
        total = 0.0
        for v in values:
            if v > 0:
                total = total + v
                sign = 1.0
            else:
                sign = -1.0
            yield sign * v if total > 1 else sign

    return list(signs([s, s * 2, -s])), x


def closing(log):
    try:
        log.append("open")
        yield 1
        yield 2
    except ValueError as error:
        log.append(str(error))
        yield 3
    finally:
        log.append("closed")


@same_everywhere((f32(3),))
def test_try_within(x):
    log = []
    all_of_it = list(closing(log))
    it = closing(log)
    next(it)
    thrown = it.throw(ValueError("thrown"))
    rest = list(it)
    other = closing(log)
    next(other)
    other.close()
    return x, all_of_it, thrown, rest, log, list(other)


def fails():
    yield 1
    raise KeyError("k")


@same_everywhere((f32(3),))
def test_exceptions_come_out(x):
    found = []
    try:
        for v in fails():
            found.append(v)
    except KeyError as error:
        found.append(error.args)
    bad = (next(iter(())) for _ in range(1))
    try:
        next(bad)
    except RuntimeError as error:
        found.append(str(error))
    return x, found


@same_everywhere((f32(3), 2.0))
def test_closures_and_nonlocal(x, s):
    count = 0

    def produce():
        nonlocal count
        for k in range(3):
            count += 1
            yield lambda v: v * k

    functions = list(produce())
    late = [f(x) for f in functions]
    return late, count, [f(s) for f in produce()]


@same_everywhere((f32(3),))
def test_match_within(x):
    def kinds(items):
        for item in items:
            match item:
                case int():
                    yield item * 2
                case [a, b]:
                    yield a
                    yield b
                case _:
                    got = yield
                    yield got

    return x, list(kinds([1, [2, 3], "a"]))


def test_gradients():
    def f(x):
        total = 0.0
        for i, v in enumerate(scaled(x, 4)):
            total = total + (v * x if i % 2 else v)
        return (total * sum(w * w for w in Bag(x, 2.0))).sum()

    gradient_agrees(f, f32(3))


def test_nothing_is_left_in_the_program():
    def f(x):
        return sum(scaled(x, 3))

    def g(x):
        total = x * 0
        for i in (1, 2):
            total = total + x * i
        return total

    assert [a.prim.name for a in parse(f, f32(3))[0].graph.body] == [
        a.prim.name for a in parse(g, f32(3))[0].graph.body]


REFUSED = {
    "returns a generator": lambda x: scaled(x, 2),
    "returns a generator or iterator": lambda x: iter([x]),
    "at this place of an expression": lambda x: list(larger(x)),
    "left within a `with` or `try": lambda x: next(held(x)),
    "the number of items must be known": lambda x: list(picked(x)),
    "the number of its values must be known": lambda x: list(left(x)),
    "different numbers of items": lambda x: uneven(x),
    "would use it up once": lambda x: list(OUTSIDE) + [x],
}
OUTSIDE = iter([1, 2])


def larger(x):
    while (yield x):
        pass


def held(x):
    try:
        yield x
    finally:
        pass


def picked(x):
    if x.sum() > 0:
        yield x


def left(x):
    for _ in range(2):
        if x.sum() > 0:
            return
        yield x


def uneven(x):
    it = iter([1, 2, 3])
    if x.sum() > 0:
        next(it)
    return next(it)


@pytest.mark.parametrize("words", REFUSED)
def test_refusals(words):
    with pytest.raises(CellcError) as info:
        parse(REFUSED[words], f32(3))
    assert words in str(info.value)
    assert info.value.loc is not None and info.value.hint
