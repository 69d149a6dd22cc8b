"""Threads, forks, interrupts and the interpreter's end: right results, no deadlock, no crash."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, nn, ops
from cellc.compile import compiled
from cellc.errors import ValueFault

INPUTS = [np.random.default_rng(i).normal(size=(64, 16)).astype(np.float32) for i in range(4)]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.fixture(autouse=True)
def graph_mode():
    context.set_context(mode=context.GRAPH_MODE)


class Mlp(nn.Cell):
    def __init__(self, n=16):
        super().__init__()
        self.first, self.second = nn.Dense(n, n), nn.Dense(n, n)

    def construct(self, x):
        return self.second(ops.tanh(self.first(x))).sum(axis=1)

    def expected(self, x):
        a, b, c, d = (p.asnumpy() for p in self.get_parameters())
        return (np.tanh(x @ a.T + b) @ c.T + d).sum(1)


class Scaled(nn.Cell):
    def __init__(self):
        super().__init__()
        self.k = 1.0

    def construct(self, x):
        return x * self.k


def check(net, x):
    np.testing.assert_allclose(net(Tensor(x)).asnumpy(), net.expected(x), rtol=1e-3, atol=1e-4)


def at_once(*works):
    """Run the works, each on a thread of its own; the first exception comes out."""
    raised = []

    def run(work):
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "deadlock"
    if raised:
        raise raised[0]


def in_a_child(work, seconds=20.0):
    """Fork, and run the work in the child."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0
            return
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")


def in_a_new_process(tmp_path, text):
    """Run a program of its own; its output."""
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(text))
    done = subprocess.run([sys.executable, "-X", "faulthandler", str(file)], capture_output=True,
                          text=True, timeout=60, env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- threads -------------------------------------------------------------------------------------

def test_one_cell_in_many_threads():
    net = Mlp()
    check(net, INPUTS[0])

    def work():
        for i in range(100):
            check(net, INPUTS[i % 4])

    at_once(*[work] * 4)


def test_cells_are_compiled_at_once():
    nets = [Mlp() for _ in range(4)]
    at_once(*[lambda n=n, x=x: check(n, x) for n, x in zip(nets, INPUTS, strict=True)])
    shared = Mlp()
    at_once(*[lambda x=x: check(shared, x) for x in INPUTS])
    assert len(compiled(shared).variants) == 1


def test_sizes_arrive_at_once():
    net = Mlp()

    def work(first):
        for n in range(first, 24, 4):
            check(net, INPUTS[0][:n])

    at_once(*[lambda i=i: work(2 + i) for i in range(4)])
    assert len(compiled(net).variants) == 3


def test_an_attribute_changes_while_others_call():
    net, x = Scaled(), np.float32([1.0])
    done = threading.Event()

    def call():
        while not done.is_set():
            assert net(Tensor(x)).asnumpy()[0] in (1.0, 2.0)

    def change():
        try:
            for i in range(300):
                net.k = 1.0 + i % 2
        finally:
            done.set()

    at_once(call, call, change)
    assert net(Tensor(x)).asnumpy()[0] == net.k


def training():
    net = Mlp()
    step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()),
                               nn.Adam(net.trainable_params(), 1e-3))
    y = Tensor(np.zeros(64, np.float32))
    return net, lambda: [step(Tensor(x), y) for x in INPUTS * 10]


def test_two_trainings_that_share_parameters_do_not_crash():
    net, train = training()
    at_once(train, train, train)
    assert all(np.isfinite(p.asnumpy()).all() for p in net.get_parameters())
    check(net, INPUTS[0])


def test_evaluation_beside_training():
    net, train = training()
    at_once(train, lambda: [net(Tensor(x)) for x in INPUTS * 20])
    check(net, INPUTS[0])


# -- forks ---------------------------------------------------------------------------------------

def compile_something_new():
    k = float(os.getpid())
    fresh = cellc.jit(lambda x: ops.tanh(x) @ ops.exp(x).T + k)
    x = INPUTS[0]
    np.testing.assert_allclose(fresh(Tensor(x)).asnumpy(), np.tanh(x) @ np.exp(x).T + k, rtol=1e-4)


@forks
def test_a_child_calls_and_compiles():
    net = Mlp()
    check(net, INPUTS[0])
    large = Tensor(np.ones((512, 512), np.float32))
    square = cellc.jit(lambda a: a @ a)
    square(large)

    def work():
        check(net, INPUTS[1])
        assert (square(large).asnumpy() == 512).all()
        compile_something_new()
        at_once(lambda: check(net, INPUTS[2]), lambda: check(Mlp(12), INPUTS[2][:, :12].copy()))

    in_a_child(work)
    work()


@forks
@pytest.mark.parametrize("busy", ["calling", "compiling"])
def test_forks_while_a_thread_is_busy(busy):
    net, done = Mlp(), threading.Event()
    check(net, INPUTS[0])

    def keep_busy():
        x, n = np.ones((40, 40), np.float32), 0
        scaled = cellc.jit(lambda x, name: ops.exp(x) * len(name))
        while not done.is_set():
            n += 1
            net(Tensor(INPUTS[0])) if busy == "calling" else scaled(x, "n" * n)

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        for _ in range(4):
            in_a_child(lambda: (check(net, INPUTS[1]), compile_something_new()))
    finally:
        done.set()
        thread.join()


def _sum_in_worker(i):
    return float(net_of_workers(Tensor(INPUTS[i])).asnumpy().sum())


net_of_workers = Scaled()


@forks
def test_a_pool_of_forked_processes():
    wanted = [float(net_of_workers(Tensor(x)).asnumpy().sum()) for x in INPUTS]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(_sum_in_worker, range(4)).get(30) == wanted


# -- interrupts and the end ------------------------------------------------------------------------

def test_an_interrupt_during_calls_is_not_lost(tmp_path):
    assert in_a_new_process(tmp_path, """
        import os, signal, threading, time
        import numpy as np
        import cellc
        from cellc import Tensor

        f = cellc.jit(lambda a: a @ a @ a @ a)
        x = Tensor(np.full((700, 700), 1 / 700, np.float32))
        before = f(x).asnumpy()
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            while True:
                f(x)
        except KeyboardInterrupt:
            print("interrupted", np.array_equal(f(x).asnumpy(), before))
    """).split() == ["interrupted", "True"]


def test_an_interrupt_while_compiling_leaves_nothing_half_done(tmp_path):
    assert in_a_new_process(tmp_path, """
        import os, signal, threading
        import numpy as np
        import cellc
        from cellc import Tensor, ops

        hits, kept = 0, []      # dropped code could take an interrupt: a destructor raises nothing
        for i in range(8):
            x = np.full((4, 4 + i), 0.5, np.float32)
            f = cellc.jit(lambda a: ops.tanh(a).sum(axis=0) * ops.exp(a) + i)
            kept.append(f)
            timer = threading.Timer(0.002 * i, os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                f(x)
                timer.join()
                for _ in range(1000):
                    pass
            except KeyboardInterrupt:
                hits += 1
            wanted = np.tanh(x).sum(0) * np.exp(x) + i
            assert np.allclose(f(x).asnumpy(), wanted)
        print("done", hits)
    """).split() == ["done", "8"]


def test_daemon_threads_at_the_end(tmp_path):
    for _ in range(3):
        assert in_a_new_process(tmp_path, """
            import threading, time
            import numpy as np
            import cellc
            from cellc import Tensor

            f = cellc.jit(lambda a: a @ a)
            x = Tensor(np.ones((300, 300), np.float32))
            f(x)

            def call():
                while True:
                    f(x)

            def compile():
                n = 2
                while True:
                    n += 1
                    f(Tensor(np.ones((n, n), np.float32)))

            for work in (call, call, compile):
                threading.Thread(target=work, daemon=True).start()
            time.sleep(0.1)
            print("end")
        """).split() == ["end"]


THREADS = """
import sys
import numpy as np
import cellc
from cellc import Tensor, context, ops

chosen, late = int(sys.argv[1]), sys.argv[2] == "late"
if not late:
    context.set_context(max_device_threads=chosen)
context.set_context(mode=context.GRAPH_MODE)
f = cellc.jit(lambda x: ops.tanh(x) @ x)
x = Tensor(np.linspace(-1, 1, 512 * 512, dtype=np.float32).reshape(512, 512))
if late:
    context.set_context(max_device_threads=chosen)
y = f(x)
from cellc.kernels import runtime
print(runtime.get_threads(), float(abs(y.asnumpy()).sum()))
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_max_device_threads(when, tmp_path):
    """So many threads run, chosen before the runtime is there or after, and results are equal."""
    (tmp_path / "program.py").write_text(THREADS)
    found = {}
    for chosen in ("1", "3", "0"):
        done = subprocess.run(
            [sys.executable, tmp_path / "program.py", chosen, when], capture_output=True, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "2", "PYTHONPATH": os.getcwd()})
        assert not done.returncode, done.stderr
        found[chosen] = done.stdout.split()
    assert [found[n][0] for n in ("1", "3", "0")] == ["1", "3", "2"]
    assert found["1"][1] == found["3"][1] == found["0"][1]


@pytest.mark.parametrize("value", [-1, 1.5, True, "2", 100_000])
def test_max_device_threads_is_a_number(value):
    with pytest.raises(ValueFault, match="max_device_threads is "):
        context.set_context(max_device_threads=value)
