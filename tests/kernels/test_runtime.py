"""The thread pool runs every task once, whoever calls; memory is aligned, recycled and bounded."""

import ctypes
import os
import platform
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellc.kernels import engine, memory, pool, runtime
from cellc.kernels.text import Module

TASKS = """
declare void @cellc_parallel(ptr, ptr, i64)
declare void @cellc_parallel_awake(ptr, ptr, i64)

define void @awake(ptr %ctx, i64 %task, i64 %n) {
  call void @cellc_parallel_awake(ptr @count_n, ptr %ctx, i64 8)
  ret void
}

define void @region_then_awake(ptr %ctx, ptr %other) {
  call void @cellc_parallel(ptr @work, ptr %other, i64 8)
  call void @cellc_parallel_awake(ptr @count_n, ptr %ctx, i64 8)
  ret void
}

define void @count(ptr %ctx, i64 %task, i64 %n) {
  %p = getelementptr i64, ptr %ctx, i64 %task
  %old = atomicrmw add ptr %p, i64 1 seq_cst
  ret void
}

define void @count_n(ptr %ctx, i64 %task, i64 %n) {
  %p = getelementptr i64, ptr %ctx, i64 %task
  store i64 %n, ptr %p
  ret void
}

define void @nested(ptr %ctx, i64 %task, i64 %n) {
  %row = mul i64 %task, 16
  %p = getelementptr i64, ptr %ctx, i64 %row
  call void @cellc_parallel(ptr @count, ptr %p, i64 16)
  ret void
}

define void @work(ptr %ctx, i64 %task, i64 %n) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  %x = phi double [ 1.0, %entry ], [ %y, %loop ]
  %y = fdiv double %x, 1.5
  %j = add i64 %i, 1
  %c = icmp eq i64 %j, 20000
  br i1 %c, label %done, label %loop
done:
  %p = getelementptr i64, ptr %ctx, i64 %task
  %bits = bitcast double %y to i64
  %old = atomicrmw add ptr %p, i64 1 seq_cst
  ret void
}
"""

SHARED_CPU = f"""
import ctypes, os, time
from cellc.kernels import engine, runtime
tasks = engine.load(engine.compile_text('''{TASKS}'''), runtime.symbols())
parallel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
parallel = parallel(runtime.symbols()["cellc_parallel"])
def region():
    parallel(tasks.address("work"), ctypes.addressof((ctypes.c_int64 * 64)()), 64)

runtime.set_threads(2)
cpus = os.sched_getaffinity(0)
here = min(cpus)
before = set(os.listdir("/proc/self/task"))
region()
[worker] = map(int, set(os.listdir("/proc/self/task")) - before)
os.sched_setaffinity(0, [here])
os.sched_setaffinity(worker, [here])
until = time.monotonic() + 30
while os.sched_getaffinity(worker) != cpus and time.monotonic() < until:
    time.sleep(0.01)        # the worker sleeps as well
    region()
assert os.sched_getaffinity(worker) == cpus
"""


@pytest.fixture(scope="module", params=["own", "darwin"])
def tasks(request):
    """The tasks, on this system's pool or on one that sleeps as it would on other systems."""
    symbols = runtime.symbols()
    if request.param != "own":
        symbols = symbols | _pool(request.param)
    made = engine.load(engine.compile_text(TASKS), symbols)
    made.symbols = symbols
    return made


def _pool(system):
    """The addresses of a pool's functions; its workers sleep in its code, so that never goes."""
    module = Module("pool")
    pool.emit(module, platform.machine(), system)
    names = ("cellc_parallel", "cellc_parallel_awake", "cellc_threads", "cellc_set_threads",
             "cellc_pool_forked")
    needed = {"cellc_poll": runtime.symbols()["cellc_poll"]}
    loaded = engine.load(engine.compile_text(module.text(), 1), needed, names)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(loaded))
    os.register_at_fork(after_in_child=ctypes.CFUNCTYPE(None)(loaded.address("cellc_pool_forked")))
    return {name: loaded.address(name) for name in names}


@pytest.fixture
def threads(tasks):
    before = get_threads(tasks)
    own = runtime.load().address("cellc_set_threads")
    set_threads = ctypes.CFUNCTYPE(None, ctypes.c_int32)(
        tasks.symbols.get("cellc_set_threads", own))
    yield set_threads
    set_threads(before)


def get_threads(tasks):
    return ctypes.CFUNCTYPE(ctypes.c_int64)(tasks.symbols["cellc_threads"])()


def run(tasks, name, ctx, n):
    """Through a ctypes function that releases the GIL, as a compiled program may."""
    parallel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    parallel(tasks.symbols["cellc_parallel"])(tasks.address(name), ctypes.addressof(ctx), n)


def zeros(n):
    return (ctypes.c_int64 * n)()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_task_runs_once(tasks, threads, size):
    threads(size)
    assert get_threads(tasks) == size
    for n in [*range(9), 64, 1000]:
        for _ in range(20):
            counts = zeros(max(n, 1))
            run(tasks, "count", counts, n)
            assert list(counts)[:n] == [1] * n


def test_regions_are_told_apart_when_their_numbers_come_again():
    """A slot that no region used for long is neither taken for spent nor for a later region's."""
    tasks = engine.load(engine.compile_text(TASKS), runtime.symbols())
    tasks.symbols = runtime.symbols()
    epoch = ctypes.c_uint32.from_address(runtime.load().address("pool_epoch"))
    size = get_threads(tasks)
    runtime.set_threads(6)

    def regions(*sizes):
        for n in sizes:
            counts = zeros(n)
            run(tasks, "count", counts, n)
            assert list(counts) == [1] * n

    try:
        regions(6, 64)
        time.sleep(0.01)                    # workers are asleep
        for quarter in (1, 2, 3, 4, 5):
            epoch.value = (quarter << 30) - 3
            regions(2, 2, 2, 2, 2)
            if quarter in (3, 4):
                regions(6, 40)
    finally:
        runtime.set_threads(size)


def test_a_task_is_told_how_many_there_are(tasks, threads):
    threads(2)
    seen = zeros(7)
    run(tasks, "count_n", seen, 7)
    assert list(seen) == [7] * 7


def test_short_work_is_shared_with_those_awake(tasks, threads):
    """Right after a region there are tasks for all; when all sleep, one for the caller."""
    threads(2)
    both = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
    both = both(tasks.address("region_then_awake"))
    found, until = set(), time.monotonic() + 30
    while 8 not in found and time.monotonic() < until:
        seen, counts = zeros(8), zeros(8)
        both(ctypes.addressof(seen), ctypes.addressof(counts))
        assert list(counts) == [1] * 8
        assert list(seen) in ([8] * 8, [1] + [0] * 7)
        found.add(seen[0])
    assert 8 in found
    for _ in range(100):
        time.sleep(0.002)
        seen = zeros(8)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
            tasks.address("awake"))(ctypes.addressof(seen), 0, 1)
        if list(seen) == [1] + [0] * 7:
            return
    raise AssertionError("a worker never sleeps")


def test_much_short_work_wakes_the_others(tasks, threads):
    """One of 64 in a row, though all sleep."""
    threads(2)
    time.sleep(0.05)
    awake = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
        tasks.address("awake"))
    shared = 0
    for _ in range(64):
        seen = zeros(8)
        awake(ctypes.addressof(seen), 0, 1)
        assert list(seen) in ([8] * 8, [1] + [0] * 7)
        shared += seen[0] == 8
    assert shared


def test_regions_after_a_pause_wake_sleeping_workers(tasks, threads):
    threads(3)
    for pause in (0, 1e-5, 1e-4, 1e-2):
        for _ in range(5):
            counts = zeros(6)
            run(tasks, "work", counts, 6)
            assert list(counts) == [1] * 6
            time.sleep(pause)


def test_a_smaller_size_leaves_workers_asleep_and_a_larger_one_wakes_them(tasks, threads):
    for size in (4, 1, 2, 4, 3, 2):
        threads(size)
        for _ in range(30):
            counts = zeros(16)
            run(tasks, "work", counts, 16)
            assert list(counts) == [1] * 16
            time.sleep(1e-4)


def test_a_region_inside_a_task_runs_in_order(tasks, threads):
    threads(2)
    counts = zeros(8 * 16)
    run(tasks, "nested", counts, 8)
    assert list(counts) == [1] * 128


def test_two_callers_at_once(tasks, threads):
    threads(2)
    results = [zeros(50) for _ in range(3)]

    def caller(counts):
        for _ in range(40):
            run(tasks, "work", counts, 50)
    callers = [threading.Thread(target=caller, args=(counts,)) for counts in results]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert [list(counts) for counts in results] == [[40] * 50] * 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_a_worker_leaves_the_cpu_of_the_caller():
    """In a process of its own, where the thread that appears with the first region is the worker:
    it is bound to the caller's CPU, and meets it there when it wakes. Where it moves away, it is
    bound no longer."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPUs")
    subprocess.run([sys.executable, "-c", SHARED_CPU], check=True, timeout=60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def ends_well(child):
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended[0] == 0:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    assert os.waitstatus_to_exitcode(ended[1]) == 0


def test_a_forked_child_starts_its_own_workers(tasks, threads):
    threads(2)
    run(tasks, "count", zeros(8), 8)
    child = os.fork()
    if child == 0:
        counts = zeros(64)
        for _ in range(10):
            run(tasks, "work", counts, 64)
        block = runtime.load().alloc(1 << 20)
        runtime.load().free(block)
        os._exit(0 if list(counts) == [10] * 64 and block else 1)
    ends_well(child)
    counts = zeros(8)
    run(tasks, "count", counts, 8)
    assert list(counts) == [1] * 8


def test_a_child_does_not_go_on_with_a_region_of_its_parent(tasks, threads):
    threads(2)
    busy = zeros(3000)
    parent = threading.Thread(target=run, args=(tasks, "work", busy, 3000))
    parent.start()
    while not any(busy):
        time.sleep(0.001)
    child = os.fork()
    if child == 0:
        before, counts = list(busy), zeros(64)
        for _ in range(10):
            run(tasks, "work", counts, 64)
        os._exit(0 if list(counts) == [10] * 64 and list(busy) == before else 1)
    ends_well(child)
    parent.join()
    assert list(busy) == [1] * 3000


def test_a_pool_has_at_least_one_thread():
    with pytest.raises(ValueError, match="at least one"):
        runtime.set_threads(0)


# -- memory ----------------------------------------------------------------------------------------
@pytest.fixture
def blocks():
    native = runtime.load()
    runtime.trim()
    yield native
    runtime.trim()


@given(st.integers(0, 1 << 45))
def test_a_class_holds_its_request_with_at_most_a_quarter_to_spare(size):
    held = memory.class_bytes(memory.size_class(size))
    assert size <= held
    assert held <= max(64, size * 5 / 4)


@given(st.integers(0, 1 << 22))
@settings(deadline=None, max_examples=60)
def test_blocks_are_aligned_and_as_large_as_asked(size):
    native = runtime.load()
    before = runtime.memory_use().in_use
    block = native.alloc(size)
    assert block % 64 == 0
    assert runtime.memory_use().in_use - before == memory.class_bytes(memory.size_class(size))
    ctypes.memset(block, 0xFF, size)
    native.free(block)
    assert runtime.memory_use().in_use == before


def test_a_freed_block_is_used_again(blocks):
    first = blocks.alloc(100_000)
    blocks.free(first)
    taken = runtime.memory_use().taken
    assert blocks.alloc(99_000) == first
    assert runtime.memory_use().taken == taken
    blocks.free(first)


def test_blocks_in_use_are_distinct(blocks):
    held = [blocks.alloc(5000) for _ in range(50)]
    assert len(set(held)) == 50
    assert all(abs(a - b) >= 5000 for a in held for b in held if a != b)
    for block in held:
        blocks.free(block)


def test_blocks_start_at_different_lines_of_a_page(blocks):
    held = [blocks.alloc(1 << 20) for _ in range(16)]
    assert len({block % 4096 for block in held}) >= 8
    for block in held:
        blocks.free(block)


def test_kept_memory_is_bounded(blocks):
    limit = blocks.cell("memory_limit").value
    try:
        runtime.set_cache_limit(1 << 20)
        held = [blocks.alloc(300_000) for _ in range(20)]
        for block in held:
            blocks.free(block)
        assert runtime.memory_use().kept <= 1 << 20
        big = blocks.alloc(8 << 20)
        blocks.free(big)
        assert runtime.memory_use().kept <= 1 << 20
    finally:
        runtime.set_cache_limit(limit)


def test_trim_gives_everything_back(blocks):
    for size in (100, 70_000, 5 << 20):
        blocks.free(blocks.alloc(size))
    assert runtime.memory_use().kept > 5 << 20
    runtime.trim()
    assert runtime.memory_use().kept == 0


@pytest.mark.parametrize("size", [(1 << 46) + 1, 1 << 62, -1])
def test_impossible_requests_give_null(blocks, size):
    before = runtime.memory_use().in_use
    assert blocks.alloc(size) is None
    assert runtime.memory_use().in_use == before


def test_freeing_null_does_nothing(blocks):
    before = runtime.memory_use()
    blocks.free(None)
    assert runtime.memory_use() == before


def test_many_threads_allocate_at_once(blocks):
    alloc = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)(runtime.symbols()["cellc_alloc"])
    free = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(runtime.symbols()["cellc_free"])
    before = runtime.memory_use().in_use
    faults = []

    def churn(mark):
        for n in range(2000):
            size = 64 << (n * mark % 9)
            block = alloc(size)
            ctypes.memset(block, mark, size)
            if ctypes.string_at(block, size) != bytes([mark]) * size:
                faults.append(n)
            free(block)
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        churners = [threading.Thread(target=churn, args=(mark,)) for mark in (1, 2, 3, 4)]
        for thread in churners:
            thread.start()
        for thread in churners:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert not faults
    assert runtime.memory_use().in_use == before
