"""Ctrl-C, and other signals, while the machine code of a loop runs: it ends within a second, as a
call that fails does. Each of these loops would run for hours."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import cellc
from cellc import Parameter, Tensor, context, nn, ops
from cellc.kernels import runtime

HOURS = 1 << 50
SOON, BOUND = 0.25, 5.0         # seconds; the machine may be busy


def counted(n):
    s = 0.5
    for i in range(n):
        s = s * 0.999 + 1.0 * i
    return s


def with_break(n):
    s = 0.0
    for i in range(n):
        s = s * 0.5 + i
        if s < -1.0:
            break
    return s


def counted_by_three(n):
    i, s = 0, 1.0
    while i < n and s > 0.5:
        s = s * 0.5 + 0.75
        i += 3
    return s


def counted_down(n):
    s = 0.0
    while n > 3 and s > -1.0:
        s = s * 0.5 + 1.0 * n
        n -= 2
    return s


def endless(n):
    y = 2.0
    while y * n > 0.5:
        y = 1.0 / y
    return y


def endless_inside(n):
    s = 0.0
    for i in range(10):
        y = 1.0 + i
        while y * n > 0.01:
            y = 1.0 / y
        s = s + y
    return s


def short_inside(n):
    s = 0.0
    for i in range(n):
        for j in range(5):
            s = s * 0.5 + j * i
    return s


def kernels_inside(n):
    x = ops.ones((3, 300), cellc.float32)
    for _ in range(n):
        x = ops.tanh(x + 1.0)
    return x


def in_blocks(n):
    """All threads go through all rounds, each with a part of x."""
    x = ops.ones((1 << 17,), cellc.float32)
    for _ in range(n):
        x = ops.tanh(x + 1.0)
    return x


def lists(n):
    x = ops.zeros((100,), cellc.float64)
    for i in range(n):
        x[i % 100] = 1.0 * i
    return x


def rows(n):
    out = ops.zeros((300, 4), cellc.float64)
    for i in range(300):
        for j in range(4):
            y = 1.0 + i + j
            while y * n > 0.001:
                y = 1.0 / y
            out[i, j] = y
    return out


def one_row(n):
    """All threads but one are done, whichever that is."""
    out = ops.zeros((300, 4), cellc.float64)
    for i in range(300):
        for j in range(4):
            y = 2.0
            while y * (n if i == 299 else 0) > 0.001:
                y = 1.0 / y
            out[i, j] = y
    return out


def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def recursive(n):
    return fibonacci(90 + n // n)


def backwards(n):
    def power(x):
        while x * n > 0.5:
            x = ops.sin(x) + 1.0
        return x

    return cellc.grad(power)(1.0)


def lanes(n):
    def until(x):
        while x * n > 0.5:
            x = 1.0 / x
        return x

    return cellc.vmap(until)(ops.ones((8,), cellc.float64))


LOOPS = [counted, with_break, counted_by_three, counted_down, endless, endless_inside,
         short_inside, kernels_inside, in_blocks, lists, rows, one_row, recursive, lanes]


class Interrupt:
    """A signal soon, from another thread."""

    def __init__(self, number=signal.SIGINT, after=SOON, times=1):
        self.number, self.after, self.times = number, after, times

    def __enter__(self):
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.begun = time.monotonic()
        self.thread.start()

    def run(self):
        for _ in range(self.times):
            if not self.stopped.wait(self.after):
                os.kill(os.getpid(), self.number)

    def __exit__(self, *_):
        assert time.monotonic() - self.begun < self.after * self.times + BOUND
        self.stopped.set()
        self.thread.join()


@pytest.mark.parametrize("loop", LOOPS, ids=lambda f: f.__name__)
def test_it_ends_the_loop(loop):
    f = cellc.jit(loop)
    cellc.inspect(f, 2)                 # compiled by now
    before = runtime.memory_use().in_use
    for _ in range(2):
        with Interrupt(), pytest.raises(KeyboardInterrupt):
            f(HOURS)
    assert runtime.memory_use().in_use == before


def test_tapes_are_given_back():
    f = cellc.jit(backwards)
    cellc.inspect(f, 2)
    before = runtime.memory_use().in_use
    with Interrupt(after=0.1), pytest.raises(KeyboardInterrupt):
        f(HOURS)
    assert runtime.memory_use().in_use == before
    assert cellc.jit(counted)(3) == pytest.approx(counted(3))


class Trained(nn.Cell):
    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor(np.ones(4, np.float32)), name="w")
        self.v = Parameter(Tensor(np.ones(4, np.float32)), name="v")

    def construct(self, n):
        v = self.v * 0.5 + 1.0
        self.v = v
        self.w = self.w - v * self.w
        y = 2.0
        while y * n > 0.5:
            y = 1.0 / y
        made = self.w * 2.0
        for i in range(4):
            made[i] = made[i] + y
        self.w = made
        return y * v.sum()


def test_parameters_are_as_before():
    mode = context.get_context("mode")
    context.set_mode(context.GRAPH_MODE)
    try:
        net = Trained()
        eager = Trained()
        net(-1)
        with context.eagerly():
            eager(-1)
        before = [p.asnumpy().copy() for p in net.get_parameters()]
        for x, p in zip(before, eager.get_parameters(), strict=True):
            np.testing.assert_allclose(x, p.asnumpy())
        with Interrupt(), pytest.raises(KeyboardInterrupt):
            net(HOURS)
        for x, p in zip(before, net.get_parameters(), strict=True):
            np.testing.assert_array_equal(x, p.asnumpy())
        net(-1)
        with context.eagerly():
            eager(-1)
        for p, q in zip(net.get_parameters(), eager.get_parameters(), strict=True):
            np.testing.assert_allclose(p.asnumpy(), q.asnumpy())
    finally:
        context.set_mode(mode)


class Checked(nn.Cell):
    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor(np.ones(4, np.float32)), name="w")

    def construct(self, x, n):
        made = self.w * 2.0
        for i in range(n):
            made[i % 4] = made[i % 4] + 1.0
            if x[i] > 0.5:
                raise ValueError("too much")
        self.w = made
        return made.sum()


def test_parameters_are_as_before_a_loop_that_fails():
    mode = context.get_context("mode")
    context.set_mode(context.GRAPH_MODE)
    try:
        net = Checked()
        net(Tensor(np.zeros(20, np.float32)), 20)
        before = net.w.asnumpy().copy()
        assert before.tolist() == [7.0] * 4
        with pytest.raises(ValueError, match="too much"):
            net(Tensor(np.arange(20, dtype=np.float32) / 20), 20)
        np.testing.assert_array_equal(net.w.asnumpy(), before)
    finally:
        context.set_mode(mode)


@pytest.fixture
def alarm():
    """A handler of SIGALRM: what it does is set by the test."""
    what = []

    def handle(*_):
        what[0]()

    before = signal.signal(signal.SIGALRM, handle)
    yield what
    signal.signal(signal.SIGALRM, before)


def test_a_handler_of_the_users(alarm):
    def late():
        raise TimeoutError("late")

    alarm.append(late)
    f = cellc.jit(endless)
    with Interrupt(signal.SIGALRM), pytest.raises(TimeoutError, match="late"):
        f(HOURS)


def test_a_handler_that_raises_nothing(alarm):
    seen = []
    f = cellc.jit(counted)

    def handle():
        seen.append(cellc.jit(counted)(10))         # it may call what it likes
        if len(seen) == 3:
            raise KeyboardInterrupt

    alarm.append(handle)
    with Interrupt(signal.SIGALRM, times=3), pytest.raises(KeyboardInterrupt):
        f(HOURS)
    assert seen == pytest.approx([counted(10)] * 3)


def test_a_loop_on_another_thread_goes_on():
    f, found = cellc.jit(counted), []
    n = 400_000_000
    f(3)
    thread = threading.Thread(target=lambda: found.append(f(n)))
    thread.start()
    with Interrupt(after=0.1), pytest.raises(KeyboardInterrupt):
        time.sleep(BOUND)
    thread.join()
    assert len(found) == 1


def test_in_a_child():
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    f = cellc.jit(counted)
    f(3)
    child = os.fork()
    if child == 0:
        try:
            signal.setitimer(signal.ITIMER_REAL, 20)        # in case it does not work
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            f(HOURS)
        except KeyboardInterrupt:
            os._exit(7)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


# -- loops in stretches do what loops do -----------------------------------------------------------

def up(start, stop):
    i, s = start, 0
    while i < stop:
        s = s ^ (i * 7)
        i += 1
    return s, i


def up_by_five(start, stop):
    i, s = start, 0
    while stop > i and s != -1:
        s = s ^ (i * 7)
        i = 5 + i
    return s, i


def down(start, stop):
    i, s = stop, 0
    while i > start:
        s = s ^ (i * 7)
        i -= 1
    return s, i


def down_by_three(start, stop):
    i, s = stop, 0
    while s != -1 and start < i:
        s = s ^ (i * 7)
        i = i + -3
    return s, i


def left_early(start, stop):
    s = 0
    for i in range(start, stop):
        s = s ^ (i * 7)
        if i == 262_144 or i == 262_143 and s % 2 == 0:
            break
    return s, i


def inner(start, stop):
    s = 0
    for j in range(3):
        for i in range(start, stop):
            s = s ^ (i * 7 + j)
    return s, stop


ENDS = [(0, 0), (0, 1), (5, 2), (-3, 4), (0, 262_143), (0, 262_144), (0, 262_145), (7, 262_153),
        (-262_145, 262_150), (1000, 525_291)]


@pytest.mark.parametrize("loop", [up, up_by_five, down, down_by_three, left_early, inner],
                         ids=lambda f: f.__name__)
def test_loops_in_stretches(loop):
    f = cellc.jit(loop)
    assert "@cellc_poll" in cellc.inspect(f, 0, 5).llvm
    for start, stop in ENDS:
        if loop is left_early and start >= stop:
            continue        # i is not bound
        assert f(start, stop) == loop(start, stop), (start, stop)


def test_at_the_ends_of_64_bits():
    most = (1 << 63) - 1

    def near(start, stop):
        i, s = start, 0
        while i < stop:
            s = s ^ i
            i += 1
        return s, i

    f = cellc.jit(near)
    for start, stop in [(most - 5, most), (-most - 1, -most + 5), (-most - 1, -most - 1)]:
        assert f(start, stop) == near(start, stop)
    g = cellc.jit(down)
    assert g(-most - 1, -most + 5)[1] == -most - 1


def test_short_loops_look_at_nothing():
    def short(x):
        i = 0
        while i < 1000 and x < 1e9:
            x = x * 1.5 + 1.0
            i += 1
        return x

    assert "@cellc_poll" not in cellc.inspect(cellc.jit(short), 1.0).llvm
    assert cellc.jit(short)(1.0) == pytest.approx(short(1.0))
