"""waiting: a thread of the pool sleeps until a word changes.

    void pool_wait(ptr word, i32 value, ptr at_most)    until the word is not `value`, or sooner
    void pool_wake(ptr word, i32 count, ptr null)       those who wait for it
    void pool_waiting_begins()                          before the first wait, and in a child

On Linux these are futex calls. Elsewhere one mutex and one condition variable of pthreads serve all
words: whoever wakes holds the mutex for a moment, so nobody who has found a word unchanged falls
asleep behind its change. Whoever waits looks again afterwards, since all are woken.
"""

from __future__ import annotations

from cellc.kernels.imperative import Procedure
from cellc.kernels.text import Module

FUTEX_SYSCALL = {"x86_64": 202, "aarch64": 98}
FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE = 128, 129
PTHREAD_BYTES = 256         # of a mutex or a condition variable, anywhere
POLL_MICROSECONDS = 200     # a wait that must end looks so often
ARGUMENTS = [("ptr", "word"), ("i32", "value"), ("ptr", "at_most")]


def has_threads(system: str) -> bool:
    """Whether there are POSIX threads; `system` is as sys.platform says it."""
    return system != "win32"


def emit(module: Module, machine: str, system: str) -> None:
    if system.startswith("linux") and machine in FUTEX_SYSCALL:
        _emit_futex(module, FUTEX_SYSCALL[machine])
    else:
        _emit_pthread(module)


def _emit_futex(module: Module, number: int) -> None:
    module.declare("i64 @syscall(i64, ...)")
    for name, operation in [("wait", FUTEX_WAIT_PRIVATE), ("wake", FUTEX_WAKE_PRIVATE)]:
        with Procedure(module, "void", f"pool_{name}", ARGUMENTS) as p:
            p.op(f"call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i64 {operation}, "
                 "i32 %value, ptr %at_most)")
            p.give()
    with Procedure(module, "void", "pool_waiting_begins", []) as p:
        p.give()


def _emit_pthread(module: Module) -> None:
    for name in ("mutex", "condition"):
        module.globals.append(f"@pool_{name} = global [{PTHREAD_BYTES} x i8] zeroinitializer, "
                              "align 16")
    mutex, condition = ("ptr", "@pool_mutex"), ("ptr", "@pool_condition")
    with Procedure(module, "void", "pool_waiting_begins", []) as p:
        p.call("i32", "pthread_mutex_init", mutex, ("ptr", "null"))
        p.call("i32", "pthread_cond_init", condition, ("ptr", "null"))
        p.give()
    with Procedure(module, "void", "pool_wait", ARGUMENTS) as p:
        p.call("i32", "pthread_mutex_lock", mutex)
        unchanged = p.eq("i32", p.load_atomic("i32", "%word"), "%value")
        with p.when(p.op(f"and i1 {unchanged}, {p.is_null('%at_most')}")):
            p.call("i32", "pthread_cond_wait", condition, mutex)
        p.call("i32", "pthread_mutex_unlock", mutex)
        with p.when(p.op(f"xor i1 {p.is_null('%at_most')}, true")):
            p.call("i32", "usleep", ("i32", str(POLL_MICROSECONDS)))
        p.give()
    with Procedure(module, "void", "pool_wake", ARGUMENTS) as p:
        p.call("i32", "pthread_mutex_lock", mutex)
        p.call("i32", "pthread_cond_broadcast", condition)
        p.call("i32", "pthread_mutex_unlock", mutex)
        p.give()
