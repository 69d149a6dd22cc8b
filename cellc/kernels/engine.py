"""From LLVM text to machine code in memory.

    data = compile_text(text)                       # object code, from a cache where possible
    loaded = load(data, {"cellc_parallel": address})
    loaded.address("main")                          # valid as long as `loaded` lives

The text is already vectorised and scheduled, so no mid-level passes run on it: they would cost
more than code generation does and change nothing. `opt` says what other text needs: 1 turns the
variables of handwritten code into registers, 2 and 3 run LLVM's pipelines O2 and O3, which
vectorise scalar loops.

Object code is remembered by a hash of the text, the CPU, its features and the LLVM version: in
memory, and in a directory private to the user. Objects are linked by ORC, one library each, so that
names in different objects never meet and a library can be unloaded; a shared MCJIT engine links
faster (0.06 ms against 0.2) but does neither.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from cellc.kernels import llvm
from cellc.kernels.objectcache import ObjectCache
from cellc.kernels.target import usable_cores
from cellc.record import record

CODEGEN_LEVEL = 2           # 0 is five times as quick and good enough for code that only calls
MEMORY_CACHE_BYTES = 64 << 20


class CompileFault(RuntimeError):
    """LLVM refused a text that cellc wrote: a bug in cellc, never in the user's program."""


@record
class Timings:
    """Seconds spent and objects counted since the process began."""
    parse: float = 0.0
    passes: float = 0.0
    codegen: float = 0.0
    load: float = 0.0
    compiled: int = 0
    memory_hits: int = 0
    disk_hits: int = 0


_timings = Timings()
_lock = threading.Lock()
_remembered: OrderedDict[str, bytes] = OrderedDict()
_disk: dict[str, ObjectCache] = {}
_library_numbers = itertools.count()


def timings() -> Timings:
    """A copy of the counters."""
    with _lock:
        return Timings(**vars(_timings))


# -- compiling -------------------------------------------------------------------------------------
def _generate(ir_text: str, opt: int, check: bool, codegen: int,
              under_way: Callable[[], None] = lambda: None) -> bytes:
    """Object code of a text, from LLVM."""
    machine = llvm.machine(codegen)
    started = time.perf_counter()
    try:
        with llvm.module(ir_text, check or opt > 1) as module:
            parsed = time.perf_counter()
            llvm.run_passes(machine, module, opt)
            passed = time.perf_counter()
            under_way()
            data = llvm.emit(machine, module)
            done = time.perf_counter()
    except RuntimeError as fault:
        raise CompileFault(str(fault)) from None
    with _lock:
        _timings.parse += parsed - started
        _timings.passes += passed - parsed
        _timings.codegen += done - passed
        _timings.compiled += 1
    return data


def object_key(ir_text: str, opt: int = 0, codegen: int = CODEGEN_LEVEL) -> str:
    """The name under which the object code of a text is remembered."""
    return hashlib.sha256(f"{llvm.identity()}\n{opt} {codegen}\n{ir_text}".encode()).hexdigest()


def compile_text(ir_text: str, opt: int = 0, cache_dir: str | Path | None = None,
                 check: bool = False, codegen: int = CODEGEN_LEVEL,
                 under_way: Callable[[], None] = lambda: None) -> bytes:
    """Object code of one module of LLVM text.

    `opt` is 0, 1, 2 or 3 (see the module), `codegen` the level of LLVM's code generator;
    `cache_dir` is where the object is kept for other processes, None for nowhere; `check` runs
    LLVM's verifier on a text that is compiled; `under_way` is called where code is generated, when
    from there on nothing needs the GIL. Raises CompileFault with LLVM's message.
    """
    key = object_key(ir_text, opt, codegen)
    data = find(key, cache_dir)
    if data is None:
        data = _generate(ir_text, opt, check, codegen, under_way)
        keep(key, data, cache_dir)
    return data


def find(key: str, cache_dir: str | Path | None = None) -> bytes | None:
    """What is remembered under a key, in memory or in the directory; None where nothing is."""
    with _lock:
        if (data := _remembered.get(key)) is not None:
            _remembered.move_to_end(key)
            _timings.memory_hits += 1
            return data
    cache = _disk_cache(cache_dir)
    if cache is None or (data := cache.read(key)) is None:
        return None
    with _lock:
        _timings.disk_hits += 1
    _remember(key, data)
    return data


def keep(key: str, data: bytes, cache_dir: str | Path | None = None) -> None:
    """Remember data under a key, in memory and in the directory."""
    cache = _disk_cache(cache_dir)
    if cache is not None:
        cache.write(key, data)
    _remember(key, data)


@functools.cache
def _compilers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(usable_cores(), "cellc compile")


if hasattr(os, "register_at_fork"):      # a child has the pool's memory and none of its threads
    os.register_at_fork(after_in_child=lambda: (_compilers.cache_clear(), _aside.clear()))


_aside: set[Future] = set()


def run_aside(function: Callable, *args, **kwargs) -> Future:
    """Run `function` on one of the threads that compile."""
    future = _compilers().submit(function, *args, **kwargs)
    _aside.add(future)
    future.add_done_callback(_aside.discard)
    return future


def wait_for_aside() -> None:
    """Until the threads that compile have nothing to do."""
    wait(tuple(_aside))


def submit(ir_text: str, **options) -> Future[bytes]:
    """`compile_text` on a thread of its own, while the caller goes on writing text."""
    return run_aside(compile_text, ir_text, **options)


def _remember(key: str, data: bytes) -> None:
    with _lock:
        _remembered[key] = data
        total = sum(map(len, _remembered.values()))
        while total > MEMORY_CACHE_BYTES and len(_remembered) > 1:
            total -= len(_remembered.popitem(last=False)[1])


def forget() -> None:
    """Empty the cache in memory (the one on disk stays)."""
    with _lock:
        _remembered.clear()


def default_cache_dir() -> str:
    """Where objects are kept unless the user names another directory."""
    return str(Path("~/.cache/cellc").expanduser())


def _disk_cache(cache_dir: str | Path | None) -> ObjectCache | None:
    if not cache_dir:
        return None
    path = str(Path(cache_dir).expanduser())
    with _lock:
        if path not in _disk:
            _disk[path] = ObjectCache(Path(path))
        return _disk[path]


# -- loading ---------------------------------------------------------------------------------------
class Loaded:
    """Linked machine code; it is unmapped when this object goes."""

    def __init__(self, tracker, library: str, exports: Iterable[str]):
        self._trackers = [tracker]
        self._library = library
        self._addresses = {name: tracker[name] for name in exports}

    def address(self, name: str) -> int:
        """Where a function or global of the object is."""
        if name not in self._addresses:
            try:
                tracker = _linker().lookup(self._library, name)
            except RuntimeError as fault:
                raise CompileFault(f"{name}: {fault}") from None
            self._trackers.append(tracker)      # dropping it would unload the library
            self._addresses[name] = tracker[name]
        return self._addresses[name]


@functools.cache
def _linker():
    linker = llvm.binding().create_lljit_compiler(llvm.new_machine(CODEGEN_LEVEL))
    # Pool threads sleep in code it owns until the process ends, so it must never be disposed of.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(linker))
    return linker


def load(data: bytes, symbols: Mapping[str, int] | None = None,
         exports: Iterable[str] = ()) -> Loaded:
    """Link one object.

    Names it uses are looked up in `symbols`, then in the process (libc, libm, libpython). `exports`
    are resolved at once, other names when first asked for.
    """
    started = time.perf_counter()
    library = f"cellc.{next(_library_numbers)}"
    builder = llvm.binding().JITLibraryBuilder().add_object_img(data).add_current_process()
    for name, address in (symbols or {}).items():
        builder.import_symbol(name, address)
    exports = list(exports)
    for name in exports:
        builder.export_symbol(name)
    try:
        tracker = builder.link(_linker(), library)
    except RuntimeError as fault:
        raise CompileFault(str(fault)) from None
    with _lock:
        _timings.load += time.perf_counter() - started
    return Loaded(tracker, library, exports)
