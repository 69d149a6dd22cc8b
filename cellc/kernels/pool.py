"""The thread pool, as LLVM text.

A *region* runs `fn(ctx, task, n)` for every task in 0..n-1. The caller publishes it and takes part;
workers join as they wake. The tasks are cut into as many ranges as there are threads for them, and
each thread starts with the range of its own number: in the next region of as many tasks it meets
the memory that it has just used. Then it goes on with what is left of the others' ranges. A *slot*,
a 64-bit word in a cache line of its own, counts the claims of a range: the number of the region,
and above how many of its tasks are taken.

    caller   fn, ctx, done = 0, limits = (region, ranges, n), epoch = region; wake
    anyone   slot = (region, taken) -> (region, taken + 1) where a task is left: run it, done++;
             a slot of an earlier region counts as (region, 0)
    caller   wait until done = n

A claim is a compare-and-swap. Where it succeeds, a task of that region was left, so the region goes
on until this task is done, and `fn` and `ctx` cannot change meanwhile. Where a worker comes late,
the slots of its region are spent, or say a later one. It therefore runs nothing, and nobody waits
for sleepers to wake.

Waiting is a spin of at most some 20 us, then a sleep (`waiting.py`): a pool that spins longer costs
its neighbours a scheduler slice, and one that never spins pays a wake at every region. Work too
short to wake anyone for is shared with those who are awake (`cellc_parallel_awake`), or else is one
task of the caller. But of such work that nobody shared each 64th piece wakes the others. If more of
it follows at once they stay awake, and if not, the wake has cost it a hundredth. One region runs at
a time: a call from inside a task or from a second thread runs its tasks itself, in order. Where
there are no POSIX threads (Windows) every region runs so.

Linux likes to wake a thread on the CPU of the one that wakes it. There the two would take turns,
and go on so: whoever sleeps again after 20 us is not there when the scheduler balances its load. So
a worker that finds itself on the caller's CPU moves to another, where it is woken from then on as
long as that is idle. It may be moved back: where the other CPUs are busy, a caller that waits for a
worker leaves its own CPU to it.
"""

from __future__ import annotations

from cellc.kernels import waiting
from cellc.kernels.imperative import Procedure, cell
from cellc.kernels.interrupts import PERIOD
from cellc.kernels.text import Module

SPIN_TICKS = 40_000         # of the time stamp counter: 10-20 us at 2-4 GHz
SPIN_ROUNDS = 2_000         # where there is no such counter
ALONE = 64                  # short regions that one thread does before it wakes the others
SLOTS = 256                 # ranges at most; threads beyond help with those of others
LINE = 64                   # bytes of a cache line
CPU_SET_BYTES = 128         # a set of CPUs as libc has it: 1024 of them
TASK_BITS = 23              # of `limits`, below 9 for the ranges and 32 for the region
MAX_TASKS = (1 << TASK_BITS) - 1
FRESHENED = 1 << 30         # regions after which no slot may be older
ALL = 0x7FFFFFFF
POLLED = [("ptr", "fn"), ("ptr", "ctx"), ("i64", "n"), ("ptr", "error")]


def emit(module: Module, machine: str, system: str) -> None:
    """Add `cellc_parallel`, `cellc_parallel_awake`, `cellc_polled_parallel`, `cellc_threads`,
    `cellc_set_threads` and `cellc_pool_forked`.

    `machine` is as platform.machine() says it, `system` as sys.platform.
    """
    threads, linux = waiting.has_threads(system), system.startswith("linux")
    cell(module, "pool_size", "i32", "1")           # threads of a region, the caller included
    cell(module, "pool_region", "i32", line=True)   # 1 while a region runs
    with Procedure(module, "void", "cellc_parallel", POLLED[:3], "define") as p:
        p.call("void", "cellc_polled_parallel", *((ty, f"%{name}") for ty, name in POLLED[:3]),
               ("ptr", "null"))
        p.give()
    with Procedure(module, "void", "cellc_parallel_awake", POLLED[:3], "define") as p:
        _emit_awake(p, threads)
    _emit_serial(module)
    _emit_size(module, "%n" if threads else "1")
    if not threads:
        _emit_parallel_without_threads(module)
        return
    cell(module, "pool_started", "i32")
    cell(module, "pool_limits", "i64", line=True)
    cell(module, "pool_fn", "ptr", "null")
    cell(module, "pool_ctx", "ptr", "null")
    cell(module, "pool_slots", f"[{SLOTS * LINE // 8} x i64]", "zeroinitializer", line=True)
    cell(module, "pool_done", "i32", line=True)
    cell(module, "pool_caller_sleeps", "i32")
    cell(module, "pool_epoch", "i32", line=True)
    cell(module, "pool_sleepers", "i32")
    cell(module, "pool_alone", "i32")
    cell(module, "pool_caller_cpu", "i32", "-1")
    waiting.emit(module, machine, system)
    _emit_spin(module, machine)
    _emit_work(module)
    if linux:
        _emit_part(module)
    _emit_worker(module, linux)
    _emit_start(module, "2" if linux else "3")
    _emit_parallel(module, linux)
    _emit_forked(module)


def _emit_awake(p: Procedure, threads: bool) -> None:
    """The region, where a worker spins, and at times to wake them; else `fn(ctx, 0, 1)`."""
    if threads:
        started = p.load_atomic("i32", "@pool_started")
        awake = p.lt(p.op(f"sext i32 {p.load_atomic('i32', '@pool_sleepers')} to i64"),
                     p.op(f"sext i32 {started} to i64"))
        with p.when(awake):
            _emit_shared(p)
        alone = p.op(f"and i32 {p.fetch('add', 'i32', '@pool_alone', '1')}, {ALONE - 1}")
        with p.when(p.eq("i32", alone, str(ALONE - 1))):
            _emit_shared(p)
    p.do("call void %fn(ptr %ctx, i64 0, i64 1)")
    p.give()


def _emit_shared(p: Procedure) -> None:
    p.call("void", "cellc_polled_parallel", *((ty, f"%{name}") for ty, name in POLLED[:3]),
           ("ptr", "null"))
    p.give()


def _emit_serial(module: Module) -> None:
    arguments = [("ptr", "fn"), ("ptr", "ctx"), ("i64", "n")]
    with Procedure(module, "void", "pool_serial", arguments) as p:
        with p.loop("0", "%n") as task:
            p.do(f"call void %fn(ptr %ctx, i64 {task.index}, i64 %n)")
        p.give()


def _emit_size(module: Module, settable: str) -> None:
    with Procedure(module, "i64", "cellc_threads", [], "define") as p:
        p.give(p.op(f"zext i32 {p.load_atomic('i32', '@pool_size')} to i64"))
    with Procedure(module, "void", "cellc_set_threads", [("i32", "n")], "define") as p:
        p.store_atomic("i32", settable, "@pool_size")
        p.give()


def _emit_parallel_without_threads(module: Module) -> None:
    with Procedure(module, "void", "cellc_polled_parallel", POLLED, "define") as p:
        p.call("void", "pool_serial", ("ptr", "%fn"), ("ptr", "%ctx"), ("i64", "%n"))
        p.give()
    with Procedure(module, "void", "cellc_pool_forked", [], "define") as p:
        p.give()


def _emit_spin(module: Module, machine: str) -> None:
    """`i1 pool_spin(word, value)`: wait for the word to differ from `value`; did it in time?"""
    x86 = machine == "x86_64"
    with Procedure(module, "i1", "pool_spin", [("ptr", "word"), ("i32", "value")]) as p:
        rounds = p.variable("i64", "0")
        start = p.call("i64", "llvm.readcyclecounter") if x86 else "0"
        with p.forever() as late:
            now = p.load_atomic("i32", "%word", "acquire")
            p.return_if(p.ne("i32", now, "%value"), "true")
            rounds.set(p.add(rounds.get(), "1"))
            if x86:
                p.call("void", "llvm.x86.sse2.pause")
                spent = p.op(f"sub i64 {p.call('i64', 'llvm.readcyclecounter')}, {start}")
                p.leave_if(p.lt(str(SPIN_TICKS), spent), late)
            else:
                if machine in ("aarch64", "arm64"):
                    p.call("void", "llvm.aarch64.hint", ("i32", "1"))
                p.leave_if(p.lt(str(SPIN_ROUNDS), rounds.get()), late)
        p.give("false")


def _emit_work(module: Module) -> None:
    """Claim and run tasks until there are none, those of range `own` first."""
    with Procedure(module, "void", "pool_work", [("i64", "own")]) as p:
        limits = p.load_atomic("i64", "@pool_limits", "acquire")
        n = p.op(f"and i64 {limits}, {MAX_TASKS}")
        parts = p.op(f"and i64 {p.op(f'lshr i64 {limits}, {TASK_BITS}')}, 511")
        fresh = p.op(f"and i64 {limits}, -4294967296")
        with p.loop("0", parts) as other:
            part = p.op(f"urem i64 {p.add('%own', other.index)}, {parts}")
            slot = p.gep("i8", "@pool_slots", p.mul(part, str(LINE)))
            begin, end = (p.op(f"udiv i64 {p.mul(x, n)}, {parts}")
                          for x in (part, p.add(part, "1")))
            with p.forever() as none_left:
                seen = p.load_atomic("i64", slot)
                # Earlier regions count as none taken of this one; later ones are beyond its end.
                ahead = p.op(f"sub i64 {seen}, {fresh}")
                taken = p.op(f"select i1 {p.lt(ahead, '0')}, i64 0, i64 {ahead}")
                p.leave_if(p.op(f"icmp sge i64 {taken}, {p.op(f'sub i64 {end}, {begin}')}"),
                           none_left)
                claimed = p.swap("i64", slot, seen, p.add(fresh, p.add(taken, "1")))
                with p.when(claimed):
                    fn, ctx = p.load("ptr", "@pool_fn"), p.load("ptr", "@pool_ctx")
                    p.do(f"call void {fn}(ptr {ctx}, i64 {p.add(begin, taken)}, i64 {n})")
                    _emit_done(p, n)
        p.give()


def _emit_done(p: Procedure, n: str) -> None:
    """One task more is done; the caller may be asleep until the last one is."""
    before = p.op(f"zext i32 {p.fetch('add', 'i32', '@pool_done', '1')} to i64")
    last = p.eq("i64", p.add(before, "1"), n)
    sleeps = p.ne("i32", p.load_atomic("i32", "@pool_caller_sleeps"), "0")
    with p.when(p.op(f"and i1 {last}, {sleeps}")):
        p.call("void", "pool_wake", ("ptr", "@pool_done"), ("i32", "1"), ("ptr", "null"))


def _emit_part(module: Module) -> None:
    """Where this worker is on the caller's CPU: move to another one of `allowed`."""
    with Procedure(module, "void", "pool_part", [("ptr", "allowed")]) as p:
        cpu = p.call("i32", "sched_getcpu")
        p.return_if(p.ne("i32", cpu, p.load_atomic("i32", "@pool_caller_cpu")))
        p.return_if(p.op(f"icmp uge i32 {cpu}, {CPU_SET_BYTES * 8}"))       # -1 for unknown
        number = p.op(f"zext i32 {cpu} to i64")
        word = p.gep("i64", "%allowed", p.op(f"lshr i64 {number}, 6"))
        every = p.load("i64", word)
        bit = p.op(f"shl i64 1, {p.op(f'and i64 {number}, 63')}")
        p.store("i64", p.op(f"and i64 {every}, {p.op(f'xor i64 {bit}, -1')}"), word)
        # Refused, and without effect, where this was the only one.
        move = ("sched_setaffinity", ("i32", "0"), ("i64", str(CPU_SET_BYTES)), ("ptr", "%allowed"))
        p.call("i32", *move)
        p.store("i64", every, word)
        p.call("i32", *move)
        p.give()


def _emit_worker(module: Module, linux: bool) -> None:
    """The life of thread number `index`; it sleeps while the pool is set to fewer threads."""
    with Procedure(module, "ptr", "pool_worker", [("ptr", "index")]) as p:
        index = p.op("ptrtoint ptr %index to i64")
        if linux:
            allowed = p.op(f"alloca [{CPU_SET_BYTES} x i8], align 8")
            p.store(f"[{CPU_SET_BYTES} x i8]", "zeroinitializer", allowed)
            p.call("i32", "sched_getaffinity", ("i32", "0"), ("i64", str(CPU_SET_BYTES)),
                   ("ptr", allowed))
        with p.forever():
            seen = p.load_atomic("i32", "@pool_epoch", "acquire")
            size = p.call("i64", "cellc_threads")
            wanted = p.lt(p.add(index, "1"), size)
            with p.when(wanted):
                if linux:
                    p.call("void", "pool_part", ("ptr", allowed))
                p.call("void", "pool_work", ("i64", p.add(index, "1")))
                p.call("i1", "pool_spin", ("ptr", "@pool_epoch"), ("i32", seen))
            now = p.load_atomic("i32", "@pool_epoch", "acquire")
            with p.when(p.eq("i32", now, seen)):
                p.fetch("add", "i32", "@pool_sleepers", "1")
                p.call("void", "pool_wait", ("ptr", "@pool_epoch"), ("i32", seen), ("ptr", "null"))
                p.fetch("sub", "i32", "@pool_sleepers", "1")
        p.give("null")


def _emit_start(module: Module, set_mask: str) -> None:
    """Start workers up to the size; a refused thread makes the pool smaller. Signals stay out:
    `set_mask` is what the system calls SIG_SETMASK."""
    with Procedure(module, "void", "pool_start", []) as p:
        thread = p.op("alloca i64")
        every, old = p.op("alloca [128 x i8], align 8"), p.op("alloca [128 x i8], align 8")
        with p.when(p.eq("i32", p.load("i32", "@pool_started"), "0")):
            p.call("void", "pool_waiting_begins")
        p.call("i32", "sigfillset", ("ptr", every))
        p.call("i32", "pthread_sigmask", ("i32", set_mask), ("ptr", every), ("ptr", old))
        with p.forever() as enough:
            started = p.load("i32", "@pool_started")
            count = p.op(f"sext i32 {started} to i64")
            p.leave_if(p.op(f"icmp sge i64 {p.add(count, '1')}, {p.call('i64', 'cellc_threads')}"),
                       enough)
            number = p.op(f"inttoptr i64 {count} to ptr")
            refused = p.call("i32", "pthread_create", ("ptr", thread), ("ptr", "null"),
                             ("ptr", "@pool_worker"), ("ptr", number))
            more = p.op(f"add i32 {started}, 1")
            with p.when(p.ne("i32", refused, "0")):
                p.store_atomic("i32", more, "@pool_size")
            p.leave_if(p.ne("i32", refused, "0"), enough)
            p.call("i32", "pthread_detach", ("i64", p.load("i64", thread)))
            p.store("i32", more, "@pool_started")
        p.call("i32", "pthread_sigmask", ("i32", set_mask), ("ptr", old), ("ptr", "null"))
        p.give()


def _emit_parallel(module: Module, linux: bool) -> None:
    with Procedure(module, "void", "cellc_polled_parallel", POLLED, "define") as p:
        serial, alone, parallel = (p.label(hint) for hint in ("serial", "free", "parallel"))
        size = p.call("i64", "cellc_threads")
        few = p.op(f"or i1 {p.lt('%n', '2')}, {p.lt(str(MAX_TASKS), '%n')}")
        p.branch_if(p.op(f"or i1 {few}, {p.lt(size, '2')}"), serial, alone)
        p.start(alone)
        taken = p.fetch("xchg", "i32", "@pool_region", "1")
        p.branch_if(p.ne("i32", taken, "0"), serial, parallel)
        p.start(serial)
        p.call("void", "pool_serial", ("ptr", "%fn"), ("ptr", "%ctx"), ("i64", "%n"))
        p.give()
        p.start(parallel)
        started = p.op(f"sext i32 {p.load('i32', '@pool_started')} to i64")
        with p.when(p.lt(p.add(started, "1"), size)):
            p.call("void", "pool_start")
        _publish(p, linux)
        p.call("void", "pool_work", ("i64", "0"))
        _wait_for_all(p)
        p.store_atomic("i32", "0", "@pool_region", "release")
        p.give()


def _publish(p: Procedure, linux: bool) -> None:
    region = p.op(f"add i32 {p.load('i32', '@pool_epoch')}, 1")
    high = p.op(f"shl i64 {p.op(f'zext i32 {region} to i64')}, 32")
    again = p.eq("i32", p.op(f"and i32 {region}, {FRESHENED - 1}"), "0")
    with p.when(again), p.loop("0", str(SLOTS)) as slot:
        # So that by its number each slot is told to be earlier or later than any region.
        p.store_atomic("i64", high, p.gep("i8", "@pool_slots", p.mul(slot.index, str(LINE))))
    p.store("ptr", "%fn", "@pool_fn")
    p.store("ptr", "%ctx", "@pool_ctx")
    threads = p.call("i64", "cellc_threads")
    parts = p.intrinsic("smin", "i64", "%n", threads)
    parts = p.intrinsic("smin", "i64", parts, str(SLOTS))
    if linux:
        p.store_atomic("i32", p.call("i32", "sched_getcpu"), "@pool_caller_cpu")
    p.store_atomic("i32", "0", "@pool_done", "release")
    low = p.op(f"or i64 %n, {p.op(f'shl i64 {parts}, {TASK_BITS}')}")
    p.store_atomic("i64", p.op(f"or i64 {high}, {low}"), "@pool_limits", "release")
    p.store_atomic("i32", region, "@pool_epoch")
    with p.when(p.ne("i32", p.load_atomic("i32", "@pool_sleepers"), "0")):
        # Where some workers are not wanted (a smaller size), a few wakes might reach only those.
        helpers = p.op("sub i64 %n, 1")
        started = p.op(f"sext i32 {p.load('i32', '@pool_started')} to i64")
        all_wanted = p.lt(started, p.call("i64", "cellc_threads"))
        wakes = p.op(f"select i1 {all_wanted}, i64 {helpers}, i64 {ALL}")
        p.call("void", "pool_wake", ("ptr", "@pool_epoch"),
               ("i32", p.op(f"trunc i64 {wakes} to i32")), ("ptr", "null"))


def _wait_for_all(p: Procedure) -> None:
    """Where `error` is not null, the caller polls while it waits: what the others run may go on
    until they see that it is over (`interrupts.py`)."""
    some_time = p.op("alloca [2 x i64]")
    p.put("i64", "0", some_time)
    p.put("i64", str(PERIOD), some_time, 8)
    at_most = p.op(f"select i1 {p.is_null('%error')}, ptr null, ptr {some_time}")
    with p.forever() as finished:
        done = p.load_atomic("i32", "@pool_done")
        p.leave_if(p.eq("i64", p.op(f"zext i32 {done} to i64"), "%n"), finished)
        changed = p.call("i1", "pool_spin", ("ptr", "@pool_done"), ("i32", done))
        with p.when(p.op(f"xor i1 {changed}, true")):
            p.store_atomic("i32", "1", "@pool_caller_sleeps")
            again = p.load_atomic("i32", "@pool_done")
            with p.when(p.eq("i32", again, done)):
                p.call("void", "pool_wait", ("ptr", "@pool_done"), ("i32", done), ("ptr", at_most))
            p.store_atomic("i32", "0", "@pool_caller_sleeps")
            with p.when(p.op(f"xor i1 {p.is_null('%error')}, true")):
                p.call("i1", "cellc_poll", ("ptr", "%error"))


def _emit_forked(module: Module) -> None:
    """In a child after fork: no worker came along, and whoever held the region is gone."""
    with Procedure(module, "void", "cellc_pool_forked", [], "define") as p:
        for name in ("region", "started", "sleepers", "caller_sleeps"):
            p.store_atomic("i32", "0", f"@pool_{name}")
        p.store_atomic("i64", "0", "@pool_limits")      # no worker is to go on with what it left
        p.give()
