"""`with`: classes and generators of the user's, contextlib, no_grad; every way out."""

import contextlib
import threading

import numpy as np
import pytest
from same import f32, gradient_agrees, in_mode, parse, same_everywhere

import cellc
from cellc import context
from cellc.errors import CellcError


class Logged:
    def __init__(self, log, name, catches=()):
        self.log, self.name, self.catches = log, name, catches

    def __enter__(self):
        self.log.append("enter " + self.name)
        return self.name

    def __exit__(self, kind, error, trace):
        self.log.append(("exit " + self.name, None if kind is None else kind.__name__,
                         str(error)))
        return kind is not None and issubclass(kind, self.catches)


@contextlib.contextmanager
def logged(log, name, catch=None):
    log.append("enter " + name)
    try:
        yield name
        log.append("good " + name)
    except ValueError as error:
        if catch is None:
            raise
        log.append(f"{catch} {error}")
    finally:
        log.append("exit " + name)


@same_everywhere((f32(3),))
def test_enter_and_exit(x):
    log = []
    with Logged(log, "a") as a, logged(log, "b") as b:
        log.append(a + b)
    with logged(log, "c"):
        with Logged(log, "d"):
            x = x * 2
    with (Logged(log, "e") as (f,), Logged(log, "g")):
        pass
    manager = Logged(log, "h")
    with manager:
        with manager as h:
            log.append(h)
    return x, log, f


@same_everywhere((f32(3),))
def test_ways_out(x):
    log = []

    def returns():
        with Logged(log, "r"):
            return log.append("value") or len(log)

    for i in range(4):
        with logged(log, str(i)):
            if i == 1:
                continue
            if i == 2:
                break
            log.append("body")
    return x, returns(), log


@same_everywhere((f32(3),))
def test_exceptions(x):
    log = []
    with Logged(log, "a", KeyError):
        raise KeyError("caught")
    with logged(log, "b", catch="caught"):
        raise ValueError("v")
    try:
        with Logged(log, "c"), logged(log, "d"):
            raise ValueError("through")
    except ValueError as error:
        log.append(str(error))
    try:
        with Logged(log, "e", ValueError):
            with Logged(log, "f"):
                {}["missing"]
    except KeyError as error:
        log.append(error.args)
    return x, log


class Tuned:
    """A manager whose state is a traced value."""

    scale = 1.0

    def __init__(self, k):
        self.k = k

    def __enter__(self):
        self.before, self.scale = self.scale, self.scale * self.k
        return self

    def __exit__(self, *about):
        self.scale = self.before

    @contextlib.contextmanager
    def doubled(self):
        self.scale = self.scale * 2
        yield self.scale
        self.scale = self.scale / 2


@same_everywhere((f32(3), 2.0), (f32(3), -2.0))
def test_traced_state(x, s):
    tuned = Tuned(s)
    with tuned as t, t.doubled() as d:
        if s > 0:
            x = x * t.scale
        else:
            x = x + d
    return x, tuned.scale


@same_everywhere((f32(3), 2.0), (f32(3), -2.0), (f32(3), 0.5))
def test_return_under_a_traced_condition(x, s):
    log = []
    left = [0.0]

    @contextlib.contextmanager
    def counting(k):
        try:
            yield
        finally:
            left[0] = left[0] + k

    def f(v):
        with counting(1.0), counting(10.0):
            if v > 1:
                return v * 2
            v = v + 1
            with counting(100.0):
                if v > 0:
                    return v
        left[0] = left[0] + 1000
        return -v

    return f(s), left[0], x, log


@same_everywhere((2.0,), (-2.0,))
def test_break_under_a_traced_condition(s):
    left = [0.0]

    @contextlib.contextmanager
    def counting():
        yield
        left[0] = left[0] + 1

    total = 0.0
    for i in range(3):
        with counting():
            if s > 0:
                break
            total = total + i
        total = total + 10
    return total, left[0]


@same_everywhere((f32(3),))
def test_contextlib(x):
    log = []
    with contextlib.nullcontext(x * 2) as y, contextlib.suppress(KeyError, ValueError):
        log.append("before")
        raise ValueError
    with contextlib.ExitStack() as stack:
        names = [stack.enter_context(Logged(log, n)) for n in "ab"]
        stack.enter_context(logged(log, "c"))
        stack.callback(log.append, "called")
        stack.callback(lambda *a, k: log.append((a, k)), 1, k=2)
        stack.push(lambda kind, error, trace: log.append(kind is None))
        log.append(names)
    with contextlib.suppress(KeyError):
        with contextlib.ExitStack() as stack:
            stack.enter_context(Logged(log, "d"))
            kept = stack.pop_all()
            raise KeyError("k")
    kept.close()

    class_free = Logged(log, "closed")
    class_free.close = lambda: log.append("close")
    with contextlib.closing(class_free) as c:
        log.append(c.name)
    with contextlib.ExitStack() as stack:
        stack.enter_context(Logged(log, "e", ValueError))
        stack.enter_context(Logged(log, "f"))
        raise ValueError("stacked")
    return y, log


@contextlib.contextmanager
def nested(log):
    with logged(log, "inner") as name:
        yield name + "!"


@same_everywhere((f32(3),))
def test_managers_of_managers(x):
    log = []
    with nested(log) as name:
        log.append(name)
    with contextlib.suppress(ValueError), nested(log):
        raise ValueError("v")
    return x, log


def test_no_grad():
    def f(x):
        with cellc.no_grad():
            y = x * x
            with cellc.enable_grad():
                z = x * 3
        return (x * y + z).sum()

    gradient_agrees(f, f32(3))


def test_no_grad_with_branches_and_ways_out():
    def f(x, s):
        def inner(v):
            with cellc.no_grad():
                if s > 0:
                    w = v * v
                    if s > 1:
                        return w
                else:
                    w = v
            return w * v

        return (inner(x) + x * x).sum()

    for s in (0.5, 2.0, -1.0):
        gradient_agrees(f, f32(3), s)


def test_gradients():
    def f(x):
        tuned = Tuned(x)
        with tuned, contextlib.ExitStack() as stack:
            stack.enter_context(tuned.doubled())
            y = x * tuned.scale
        return (y * tuned.scale).sum()

    gradient_agrees(f, f32(3))


def test_no_grad_around_a_gradient():
    def f(x):
        with cellc.no_grad():
            return cellc.grad(lambda v: (v * v).sum())(x)

    x = f32(3)
    found = in_mode(context.GRAPH_MODE, cellc.jit(f), (x,))
    np.testing.assert_allclose(found.asnumpy(), 2 * x.asnumpy())


LOCK = threading.Lock()


def with_a_lock(x):
    with LOCK:
        return x


def with_a_number(x):
    with 3:
        return x


def never_yields(x):
    @contextlib.contextmanager
    def empty():
        return 3

    with empty():
        return x


@contextlib.contextmanager
def twice():
    yield
    yield


def yields_twice(x):
    with twice():
        x = x + 1
    return x


@pytest.mark.parametrize("fn, kind, at, words", [
    (with_a_lock, SyntaxError, "LOCK", "would be entered once, while compiling"),
    (with_a_number, TypeError, "3", "no context manager"),
    (never_yields, TypeError, "empty()", "does not yield"),
], ids=lambda v: getattr(v, "__name__", ""))
def test_refusals(fn, kind, at, words):
    with pytest.raises(kind) as info:
        parse(fn, f32(3))
    fault = info.value
    assert isinstance(fault, CellcError) and words in str(fault), str(fault)
    line = open(__file__).read().splitlines()[fault.loc.line - 1]
    assert line[fault.loc.col - 1:].startswith(at), line
    assert fault.hint


def test_a_generator_that_does_not_stop():
    with pytest.raises(RuntimeError, match="didn't stop"):
        parse(yields_twice, f32(3))
