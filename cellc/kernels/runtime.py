"""The runtime: what compiled programs call, itself LLVM text, compiled once and kept on disk.

Exported to programs (`symbols()` gives the addresses for `engine.load`):

- `void cellc_parallel(ptr fn, ptr ctx, i64 n)` runs `void fn(ptr ctx, i64 task, i64 n)` for every
  task in 0..n-1 on the pool and returns when all are done. A call from inside a task, or while
  another thread is inside a region, runs its tasks in order on the calling thread.
- `void cellc_parallel_awake(ptr fn, ptr ctx, i64 n)` does so where workers are awake, and else runs
  all of the work as one task, `fn(ctx, 0, 1)`.
- `void cellc_polled_parallel(ptr fn, ptr ctx, i64 n, ptr error)`: as the first, where tasks poll.
- `i64 cellc_threads()` is the number of threads a region may use.
- `ptr cellc_alloc(i64 bytes)`, `void cellc_free(ptr)`: 64-byte aligned blocks, recycled, so that a
  program called again touches no fresh pages. Null when there is no memory.
- `cellc_tape_new`, `cellc_tape_end`, `cellc_tape_drop`: see `tape_memory.py`.
- `cellc_poll`: see `interrupts.py`.
- `cellc_message`: Python's own part, see `message.py`.

The threads start with the first region. After a fork the child starts its own.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from cellc.kernels import (
    engine,
    interrupts,
    memory,
    message,
    native_entry,
    native_front,
    native_layout,
    pool,
    tape_memory,
)
from cellc.kernels.target import default_threads
from cellc.kernels.text import Module
from cellc.record import record

FOR_PROGRAMS = ("cellc_parallel", "cellc_parallel_awake", "cellc_polled_parallel", "cellc_threads",
                "cellc_alloc", "cellc_free", *tape_memory.EXPORTS, *interrupts.EXPORTS)
OWN = ("cellc_set_threads", "cellc_pool_forked", "cellc_trim", "cellc_memory_forked",
       "memory_in_use", "memory_cached", "memory_fresh", "memory_limit", "main_thread")
ENTRIES = (*native_entry.EXPORTS, *native_front.EXPORTS)
KEPT_MEMORY_AT_MOST = 2 << 30
OPTIMISATION, CODEGEN = 1, 1        # calls are as fast as at level 2 (0: 20% slower)


@record(frozen=True)
class Memory:
    """Bytes handed out, bytes kept for reuse, blocks ever taken from the system."""
    in_use: int
    kept: int
    taken: int


def texts(machine: str, system: str) -> tuple[str, str]:
    """The LLVM texts of the runtime, as long as one another, to be compiled side by side: threads
    and memory, and the entries of calls. `machine` is as platform.machine() says it, `system` as
    sys.platform."""
    module, linux = Module("runtime"), system.startswith("linux")
    pool.emit(module, machine, system)
    memory.emit(module, linux)
    tape_memory.emit(module, linux)
    interrupts.emit(module)
    entries = Module("entries")
    native_entry.emit(entries)
    native_front.emit(entries)
    return module.text(), entries.text()


class Runtime:
    """The loaded runtime, with its functions as Python callables."""

    def __init__(self, cache_dir: str | Path | None, under_way: Callable[[], None]):
        own, entries = texts(platform.machine(), sys.platform)
        how = {"opt": OPTIMISATION, "cache_dir": cache_dir, "codegen": CODEGEN}
        aside = engine.submit(entries, **how)
        data = engine.compile_text(own, under_way=under_way, **how)
        self.loaded = [engine.load(data, native_layout.python_symbols(), FOR_PROGRAMS + OWN)]
        # Nobody may be there to compile aside: this may be the only thread that compiles.
        data = engine.compile_text(entries, **how) if aside.cancel() else aside.result()
        called = {name: self.loaded[0].address(name) for name in ("cellc_alloc", "cellc_free")}
        self.loaded.append(engine.load(data, native_layout.python_symbols() | called, ENTRIES))
        # Sleeping workers return into this code and arrays point to its destructor: it never goes.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.loaded))
        self.set_threads = self._function("cellc_set_threads", None, ctypes.c_int32)
        self.threads = self._function("cellc_threads", ctypes.c_int64)
        self.trim = self._function("cellc_trim", None)
        self.alloc = self._function("cellc_alloc", ctypes.c_void_p, ctypes.c_int64)
        self.free = self._function("cellc_free", None, ctypes.c_void_p)
        self.set_threads(default_threads())
        self.cell("memory_limit").value = _default_limit()
        self.cell("main_thread").value = threading.main_thread().ident
        self._survive_fork()

    def address(self, name: str) -> int:
        """Where a function or a counter is."""
        return self.loaded[name in ENTRIES].address(name)

    def _function(self, name: str, result, *arguments):
        return ctypes.PYFUNCTYPE(result, *arguments)(self.address(name))

    def cell(self, name: str) -> ctypes.c_int64:
        """A counter of the runtime."""
        return ctypes.c_int64.from_address(self.address(name))

    def _survive_fork(self) -> None:
        if not hasattr(os, "register_at_fork"):
            return
        # Nothing is locked before the fork: other threads could wait for it with the GIL in hand.
        for name in ("cellc_pool_forked", "cellc_memory_forked"):
            os.register_at_fork(after_in_child=self._function(name, None))
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self.cell("main_thread").value = threading.get_ident()


def _default_limit() -> int:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return KEPT_MEMORY_AT_MOST // 4
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(KEPT_MEMORY_AT_MOST, physical // 8)


_cache_dir: str | Path | None = None
_loaded: list[Runtime] = []
_loading = threading.Lock()


def use_cache_dir(directory: str | Path | None) -> None:
    """Where the runtime's own code is remembered; said before the first `load`."""
    global _cache_dir
    _cache_dir = directory


def cache_dir() -> str | Path | None:
    """Where it is remembered, and what belongs to it."""
    return _cache_dir


def load(under_way: Callable[[], None] = lambda: None) -> Runtime:
    """The runtime of this process; `under_way` is for whoever is the first to ask for it (see
    `engine.compile_text`)."""
    with _loading:      # who measures schedules may ask for it while another thread makes it
        if not _loaded:
            _loaded.append(Runtime(_cache_dir, under_way))
    return _loaded[0]


@functools.cache
def symbols() -> dict[str, int]:
    """Addresses of what programs may call."""
    return {name: load().address(name) for name in FOR_PROGRAMS} | {
        "cellc_message": message.address()}


def set_threads(n: int) -> None:
    """How many threads a parallel region uses from now on, the caller included."""
    if n < 1:
        raise ValueError(f"a region needs at least one thread, not {n}")
    load().set_threads(n)


def get_threads() -> int:
    """How many threads a parallel region uses."""
    return load().threads()


def trim() -> None:
    """Give the memory kept for reuse back to the system."""
    load().trim()


def set_cache_limit(n_bytes: int) -> None:
    """How much memory is kept for reuse; by default an eighth of the machine's, at most 2 GiB."""
    load().cell("memory_limit").value = n_bytes
    if memory_use().kept > n_bytes:
        trim()


def memory_use() -> Memory:
    """What the runtime's memory is doing."""
    runtime = load()
    return Memory(*(runtime.cell(f"memory_{name}").value for name in ("in_use", "cached", "fresh")))
