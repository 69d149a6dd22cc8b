"""How programs run: compiled (GRAPH_MODE) or operation by operation (PYNATIVE_MODE), and where.

    context.set_context(mode=context.GRAPH_MODE, device_target="CPU")
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import contextmanager

from cellc import epoch
from cellc.errors import ValueFault
from cellc.ir.graph import current_builder

GRAPH_MODE = 0
PYNATIVE_MODE = 1
STRICT = 0          # jit_syntax_level: what the compiler does not take is refused
LAX = 2             # it is run by Python between two compiled pieces, and reported

MOST_THREADS = 1024

when_graph: list[Callable[[], None]] = []    # called when graph mode is chosen
when_threads: list[Callable[[], None]] = []  # called when a number of threads is chosen

# What calls of compiled objects look at first (kernels/front.py); both are empty in graph mode.
pynative: list[None] = [None]
eager_threads: list[None] = []      # an item for each `eagerly` block of any thread

# What holds now; only set_context changes it. A compiled function that asks is guarded by it.
settings = {"mode": PYNATIVE_MODE, "device_target": "CPU", "jit_syntax_level": STRICT,
            "max_device_threads": 0, "fast_math": False, "autotune": False}


def _check_mode(value) -> int:
    if isinstance(value, bool) or value not in (GRAPH_MODE, PYNATIVE_MODE):
        raise ValueFault(f"mode is {value!r}",
                         "context.GRAPH_MODE (0) or context.PYNATIVE_MODE (1)")
    return value


def _check_device(value) -> str:
    if value in ("GPU", "CUDA", "cuda", "gpu"):
        raise ValueFault(f"device_target is {value!r}, and this cellc has no CUDA back end",
                         'device_target="CPU"')
    if value not in ("CPU", "cpu"):
        raise ValueFault(f"device_target is {value!r}", 'device_target="CPU"')
    return "CPU"


def _check_level(value) -> int:
    if isinstance(value, bool) or value not in (STRICT, LAX, "STRICT", "LAX"):
        raise ValueFault(f"jit_syntax_level is {value!r}", "context.STRICT (0): what the compiler "
                         "does not take is refused, or context.LAX (2): Python runs it, between "
                         "compiled pieces")
    return LAX if value in (LAX, "LAX") else STRICT


def _check_threads(value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_THREADS:
        raise ValueFault(f"max_device_threads is {value!r}",
                         f"an int from 1 to {MOST_THREADS}, or 0 for as many as there are CPUs")
    return value


def _check_bool(name: str) -> Callable[[object], bool]:
    def check(value) -> bool:
        if not isinstance(value, bool):
            raise ValueFault(f"{name} is {value!r}", "True or False")
        return value

    return check


_CHECKS = {"mode": _check_mode, "device_target": _check_device, "jit_syntax_level": _check_level,
           "max_device_threads": _check_threads, "fast_math": _check_bool("fast_math"),
           "autotune": _check_bool("autotune")}


def set_context(**wanted) -> None:
    """Change settings. All are checked before any is set.

    mode                GRAPH_MODE or PYNATIVE_MODE
    device_target       "CPU"
    jit_syntax_level    STRICT or LAX
    max_device_threads  the most threads that a program uses, its caller's included; 0, the default,
                        for what CELLC_THREADS or OMP_NUM_THREADS say, or else as many as there are
                        CPUs that the process may use. Results do not depend on it.
    fast_math           whether compiled programs may give up accuracy for speed. True has 3x3
                        convolutions of f32 (stride 1, many channels) and their gradients take a
                        quarter of the multiplications, by Winograd's F(4x4, 3x3). Errors become
                        some four times as large and relative to the largest values of a 6x6 tile,
                        not to the element's own; a NaN or an infinity is in all 4x4 pixels of its
                        tiles. Nothing else changes. Programs are compiled for either value.
    autotune            whether programs that are compiled from now on have the schedules of their
                        matrix products and convolutions measured: some ten are tried of each, in a
                        second or less for most (none of products that take a quarter of a second
                        or a gigabyte). What is found is kept beside the compiled code, so this is
                        done once for a product and a machine. Results do not depend on it.

    Errors: ValueFault for an unknown setting or a value that is not allowed.
    """
    unknown = wanted.keys() - _CHECKS.keys()
    if unknown:
        raise ValueFault(f"unknown setting {', '.join(sorted(unknown))}",
                         f"one of {', '.join(_CHECKS)}")
    checked = {name: _CHECKS[name](value) for name, value in wanted.items()}
    fast_before = settings["fast_math"]
    settings.update(checked)
    if settings["fast_math"] is not fast_before:
        epoch.bump()            # what is compiled was compiled for the other value
    if "max_device_threads" in checked:
        for use in when_threads:
            use()
    pynative[:] = [None] if settings["mode"] == PYNATIVE_MODE else []
    if checked.get("mode") == GRAPH_MODE:
        for begin in when_graph:
            begin()


def get_context(name: str):
    """The value of a setting; ValueFault for an unknown one."""
    if name not in settings:
        raise ValueFault(f"unknown setting {name!r}", f"one of {', '.join(settings)}")
    session = getattr(current_builder(), "session", None)
    if session is not None:     # asked by what is being compiled
        session.read("global", settings, name, settings[name])
    return settings[name]


def set_mode(mode: int) -> None:
    """Shorthand for `set_context(mode=mode)`."""
    set_context(mode=mode)


def is_graph() -> bool:
    """Whether calls of cells are compiled."""
    return settings["mode"] == GRAPH_MODE and not (eager_threads and _here.eager)


def is_lax() -> bool:
    """Whether Python runs what the compiler does not take."""
    return settings["jit_syntax_level"] == LAX


class _Here(threading.local):
    eager = 0           # how many `eagerly` blocks this thread is in


_here = _Here()


@contextmanager
def eagerly():
    """Within the block, this thread is in eager mode, whatever the mode of the program."""
    eager_threads.append(None)
    _here.eager += 1
    try:
        yield
    finally:
        _here.eager -= 1
        eager_threads.pop()
