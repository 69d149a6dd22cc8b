"""Containers that two branches have made different things of: dead ones, and all ways to be alive.

Whatever can still be seen must be as Python has it, or refused; what cannot does not matter.
"""

import contextlib
from functools import partial

import pytest
from same import assert_same, f32, in_mode, interpreted, same_everywhere

from cellc import context
from cellc.errors import CellcError

SIGNS = (1.0, -1.0)


class Log:
    def __init__(self):
        self.items = []
        self.count = 0

    def note(self, s):
        if s > 0:
            return 1.0
        self.items.append(s)
        self.extra = s
        return 2.0

    def __enter__(self):
        return self

    def __exit__(self, *about):
        self.count += len(self.items)


@same_everywhere(*SIGNS)
def test_a_local_list_and_an_early_return(s):
    log = []
    if s > 0:
        return s
    log.append(s * 2)
    log.append(1.0)
    return log[0] + log[1]


@same_everywhere(*SIGNS)
def test_local_dicts_and_objects(s):
    table, log = {}, Log()
    if s > 0:
        return 1.0
    table["k"] = s
    log.extra = [s]
    return table["k"] + log.extra[0]


@same_everywhere((0.25,), (1.0,), (-1.0,))
def test_a_list_that_grows_in_a_loop_that_returns(s):
    out = []
    for i in range(3):
        if s * i > 1:
            return s
        out.append(i * s)
    return sum(out)


@same_everywhere(*SIGNS)
def test_a_list_made_and_grown_in_a_branch(s):
    if s > 0:
        out = [s * i for i in range(2)]
        out.append(s)
        y = sum(out)
    else:
        y = s
    return y


@same_everywhere(*SIGNS)
def test_a_list_not_read_any_more(s):
    log = []
    total = s
    if s > 0:
        log.append(s)
        total = total + log[0]
    return total


@same_everywhere(*SIGNS)
def test_within_functions_and_generators(s):
    def values(v):
        seen = []
        if v > 0:
            seen.append(v)
            v = v + seen[-1]
        yield v

    def f(v):
        stack = [v]
        if v > 0:
            return v
        stack.append(1.0)
        return stack.pop() + stack.pop()

    return f(s), sum(values(s))


ALIVE = []


def alive(fn):
    ALIVE.append(fn)
    return fn


def grow(log, s):
    if s > 0:
        return 1.0
    log.append(s)
    return 2.0


@alive
def in_the_callers_variable(s):
    log = []
    y = grow(log, s)
    return y, len(log)


@alive
def in_the_callers_container(s):
    logs = {"a": []}
    y = grow(logs["a"], s)
    return y, logs


@alive
def in_the_result(s):
    log = []
    if s > 0:
        return log
    log.append(s)
    return log


@alive
def in_a_closure_that_is_returned(s):
    def make():
        log = []

        def get():
            return len(log)

        if s > 0:
            return get
        log.append(s)
        return get

    return make()()


@alive
def in_a_closure_stored_outside(s):
    kept = []

    def make():
        log = []
        kept.append(lambda: len(log))
        if s > 0:
            return 1.0
        log.append(s)
        return 2.0

    return make(), kept[0]()


@alive
def in_an_object_of_the_caller(s):
    log = Log()
    y = log.note(s)
    return y, len(log.items), hasattr(log, "extra")


@alive
def in_a_manager(s):
    with Log() as log:
        y = log.note(s)
    return y, log.count


@alive
def in_a_generator(s):
    def values():
        log = []
        grow(log, s)
        yield 1.0
        yield len(log)

    return list(values())


@alive
def in_a_generator_that_waits(s):
    log = []

    def values():
        yield 1.0
        yield len(log)

    def f():
        if s > 0:
            return 1.0
        log.append(s)
        return 2.0

    it = values()
    return next(it), f(), next(it)


@alive
def in_a_partial(s):
    def make():
        log = []
        got = partial(len, log)
        if s > 0:
            return got
        log.append(s)
        return got

    return make()()


@alive
def in_a_bound_method(s):
    def make():
        log = Log()
        put = log.note
        if s > 0:
            return put
        log.extra = 1.0
        return put

    return hasattr(make().__self__, "extra")


@alive
def in_an_exception(s):
    def f():
        log = []
        error = ValueError(log)
        grow(log, s)
        raise error

    try:
        f()
    except ValueError as error:
        return len(error.args[0])


@alive
def in_an_iterator(s):
    log = [1.0]
    total = 0.0
    for v in log:
        total = total + v
        if s < 0 and len(log) < 3:
            log.append(v + 1)
    return total


@alive
def in_an_exit_stack(s):
    log, found = [], []
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: found.append(len(log)))

        def f():
            if s > 0:
                return 1.0
            log.append(s)
            return 2.0

        y = f()
    return y, found


@alive
def in_a_default(s):
    def make():
        log = []

        def get(kept=log):
            return len(kept)

        if s > 0:
            return get
        log.append(s)
        return get

    return make()()


@alive
def through_a_container_changed_alike(s):
    kept = []

    def f():
        log = []
        if s > 0:
            kept.append(log)
            return 1.0
        log.append(s)
        kept.append(log)
        return 2.0

    return f(), len(kept[0])


@alive
def in_an_argument_already_computed(s):
    def size(items, y):
        return len(items), y

    return size(log := [], (log.append(s) or 1.0) if s > 0 else 2.0)


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("fn", ALIVE, ids=lambda fn: fn.__name__)
def test_what_can_be_seen_is_right_or_refused(fn, sign):
    expected = in_mode(context.PYNATIVE_MODE, fn, (sign,))
    try:
        found = interpreted(fn, sign)
    except CellcError as fault:
        assert "changed in one branch" in str(fault) or "no one type" in str(fault) or (
            "known only when the program runs" in str(fault)), str(fault)
    else:
        assert_same(found, expected)


def test_tensors_too():
    def f(x):
        parts = []
        if x.sum() > 0:
            return x
        parts.append(x * 2)
        return sum(parts)

    for x in (f32(3), f32(3) * -1):
        assert_same(interpreted(f, x), in_mode(context.PYNATIVE_MODE, f, (x,)))
