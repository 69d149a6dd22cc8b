"""Ctrl-C while a loop runs: the program asks Python from time to time whether a signal came.

Python notes a signal and handles it when its main thread next runs Python code, which a compiled
loop does not. So loops count their rounds (`polling.py`), and every few thousand of them, fewer
where a round is long, call `i1 cellc_poll(ptr error)`. That looks at the clock; after a tenth of a
second it takes the GIL, on the main thread only, and lets Python run its handlers. Where one
raises, as that of SIGINT does, the program ends as it does when a check fails, with the exception
set. So do the other threads of a parallel loop, which see the error record.

The words of the record beyond those that Python sees: the thread's state while the GIL is not held;
when Python was last asked; rounds of recursion left.
"""

from __future__ import annotations

from cellc.kernels.imperative import Procedure, cell
from cellc.kernels.native_layout import ERROR_WORDS
from cellc.kernels.text import Module

EXPORTS = ("cellc_poll",)
THREAD, ASKED, CALLS = (ERROR_WORDS + i for i in range(3))
ERROR_INTERRUPT = 5         # word 0 of the record
PERIOD = 100_000_000        # ns
COARSE_CLOCK = 6            # Linux: CLOCK_MONOTONIC_COARSE, read in 3 ns; macOS: CLOCK_MONOTONIC


def emit(module: Module) -> None:
    """Add `cellc_poll`."""
    cell(module, "main_thread", "i64")
    with Procedure(module, "i1", "cellc_poll", [("ptr", "error")], "define") as p:
        time = p.op("alloca [2 x i64]")
        stopped = p.load_atomic("i64", "%error", "monotonic")
        p.return_if(p.eq("i64", stopped, str(ERROR_INTERRUPT)), "true")
        p.call("i32", "clock_gettime", ("i32", str(COARSE_CLOCK)), ("ptr", time))
        now = p.add(p.mul(p.load("i64", time), "1000000000"), p.get("i64", time, 8))
        asked = p.get("i64", "%error", 8 * ASKED)
        with p.when(p.eq("i64", asked, "0")):
            p.put("i64", now, "%error", 8 * ASKED)
            p.return_if("true", "false")
        p.return_if(p.lt(p.op(f"sub i64 {now}, {asked}"), str(PERIOD)), "false")
        here = p.call("i64", "pthread_self")
        p.return_if(p.ne("i64", here, p.load("i64", "@main_thread")), "false")
        p.put("i64", now, "%error", 8 * ASKED)
        thread = p.get("ptr", "%error", 8 * THREAD)
        p.return_if(p.is_null(thread), "false")
        p.call("void", "PyEval_RestoreThread", ("ptr", thread))
        raised = p.call("i32", "PyErr_CheckSignals")
        p.call("ptr", "PyEval_SaveThread")
        p.return_if(p.eq("i32", raised, "0"), "false")
        p.store_atomic("i64", str(ERROR_INTERRUPT), "%error", "release")
        p.give("true")
