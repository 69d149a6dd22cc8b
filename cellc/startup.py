"""startup: the runtime, made on a thread of its own as soon as graph mode is chosen.

Its code is generated (in 0.1 s, where the cache on disk does not hold it) while the user's program
builds its net and the first callable is parsed. Whoever chose graph mode waits until LLVM is at
work: the imports that this needs come no later for it, since one thread at a time runs Python,
while LLVM, which needs none, starts that much earlier. The driver is imported next, on another
thread, and where nothing was found on disk also what parses and emits programs. What compiling
asks of the process is here as well: one at a time, and no collection of cycles meanwhile.
"""

from __future__ import annotations

import gc
import importlib
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cellc import config

if TYPE_CHECKING:
    from concurrent.futures import Future

EMISSION = ("cellc.parser.trace", "cellc.passes.pipeline", "cellc.kernels.group",
            "cellc.kernels.host")
compiling = threading.RLock()       # held while anything is compiled
_lock = threading.Lock()
_started: list[_Starting] = []


@contextmanager
def uncollected():
    """Without the collection of cycles, of which compiling makes few, among its many objects.

    What was made is kept, so it goes where old objects are at once, unless someone has put objects
    of his own aside: the young ones would be looked through as soon as collection goes on.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
            gc.enable()


class _Starting(threading.Thread):
    """The thread, and what it found: the addresses of what programs may call, or a fault."""

    def __init__(self):
        super().__init__(name="cellc start")
        self.symbols: dict[str, int] = {}
        self.fault: BaseException | None = None
        self.under_way = threading.Event()

    def run(self) -> None:
        try:
            self.symbols = _start(self.under_way)
        except BaseException as fault:      # whoever asks for the symbols gets it
            self.fault = fault
        finally:
            self.under_way.set()


def begin() -> None:
    """Start the thread, if it was not started before, and see LLVM at work."""
    _thread().under_way.wait()


def runtime_symbols() -> dict[str, int]:
    """The addresses of what programs may call, once they are there."""
    thread = _thread()
    thread.join()
    if thread.fault is not None:
        raise thread.fault
    return thread.symbols


def use_threads() -> None:
    """Let programs use as many threads as the context says; where the runtime is not there yet, it
    will be told."""
    if _started:
        runtime_symbols()
        _use_threads()


def threads() -> int:
    """How many threads programs use, as the context, a switch or the environment says."""
    from cellc import context
    from cellc.kernels.target import default_threads

    wanted = context.get_context("max_device_threads")
    if not wanted and config.get("THREADS"):
        wanted = config.level("THREADS")
    return wanted or default_threads()


def _use_threads() -> None:
    from cellc.kernels import runtime

    runtime.set_threads(threads())


def _thread() -> _Starting:
    with _lock:
        if not _started:
            thread = _Starting()
            _started.append(thread)
            thread.start()
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(before=thread.join)     # a child would have half a runtime
        return _started[0]


def cache_dir() -> str | None:
    """Where objects are kept between processes; None for nowhere."""
    from cellc.kernels import engine

    folder = config.get("CACHE_DIR")
    return None if folder == "0" else folder or engine.default_cache_dir()


def _start(under_way: threading.Event) -> dict[str, int]:
    # Imported here, on the thread: none of it is needed to build a net.
    from cellc import epoch
    from cellc.kernels import engine, entry, runtime
    from cellc.parameter import Parameter
    from cellc.tensor import SLOT_DEFAULTS, Tensor

    driver: list[Future] = []

    def at_work(modules=("cellc.compile", *EMISSION)) -> None:
        if not driver:
            driver.append(engine.run_aside(_load, modules))
            under_way.set()

    runtime.use_cache_dir(cache_dir())
    runtime.load(at_work)
    at_work(("cellc.compile",))     # the code was found on disk: the user's program may be as well
    _use_threads()
    entry.register_tensor(Tensor, "_array", SLOT_DEFAULTS)
    entry.register_tensor(Parameter, "_array")
    epoch.bind(entry.bump_epoch)
    symbols = runtime.symbols()
    if hasattr(os, "register_at_fork"):
        _compile_or_fork()
    driver[0].result()      # a fork waits for this thread: a child could not end the import
    return symbols


def _load(modules: tuple[str, ...]) -> None:
    for name in modules:
        importlib.import_module(name)
    from cellc import programs

    programs.identity()         # some hundred files are looked at: not while a call waits for it


def _compile_or_fork() -> None:
    """A fork waits for a compilation to end: a child would have locks that nobody releases."""
    waited: list[None] = []         # empty in a fork that began before this was registered

    def before() -> None:
        compiling.acquire()
        waited.append(None)

    def after() -> None:
        if waited:
            waited.pop()
            compiling.release()

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=after)
