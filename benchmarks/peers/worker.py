"""One peer, in a process of its own, answering one JSON object a line.

    python -m benchmarks.peers.worker MODULE VARIANT

    {"do": "setup", "workload": NAME}  -> {"ok": true}, or {"ok": false} where it has no such thing
    {"do": "first"}                    -> {"seconds": s}: the first call, tracing and compiling too
    {"do": "values", "path": FILE}     -> saves the first result, or the first losses, as .npy
    {"do": "time", "seconds": s}       -> {"samples": [...]}: seconds a call, about s in all
    {"do": "memory"}                   -> {"bytes": n}: the most this process ever held

The first line, before any question, is {"version": text}; a failure is answered {"error": text}.
Between questions the process is blocked reading, so it disturbs nobody's measurement.
"""

import importlib
import json
import os
import resource
import sys
import time
import traceback

import numpy as np

from benchmarks.workloads import WORKLOADS

LOSSES_COMPARED = 5
# A sample shorter than this would measure the clock; quicker calls are timed several at once.
SHORTEST_SAMPLE = 1e-3


class Session:
    """The state between questions: a workload made, its first results."""

    def __init__(self, module: str, variant: str):
        self.peer = importlib.import_module(f"benchmarks.peers.{module}")
        self.variant = variant
        self.peer.prepare(variant)
        self.workload = self.call = None
        self.results = []

    def setup(self, workload: str) -> dict:
        self.workload = WORKLOADS[workload]
        self.call = self.peer.make(self.workload, self.variant)
        return {"ok": self.call is not None}

    def first(self) -> dict:
        start = time.perf_counter()
        result = self.call()
        self.peer.wait(result)
        seconds = time.perf_counter() - start
        self.results = [self.peer.array(result)]
        return {"seconds": seconds}

    def values(self, path: str) -> dict:
        if self.workload.trains:
            while len(self.results) < LOSSES_COMPARED:
                self.results.append(self.peer.array(self.call()))
            np.save(path, np.array([float(loss) for loss in self.results]))
        else:
            np.save(path, np.asarray(self.results[0]))
        self.results = []
        return {}

    def time(self, seconds: float) -> dict:
        call, wait = self.call, self.peer.wait
        calls = max(1, round(SHORTEST_SAMPLE / self._one(call, wait)))
        samples, until = [], time.perf_counter() + seconds
        while not samples or time.perf_counter() < until:
            start = time.perf_counter()
            for _ in range(calls):
                wait(call())
            samples.append((time.perf_counter() - start) / calls)
        return {"samples": samples}

    @staticmethod
    def _one(call, wait) -> float:
        """About what a call takes: the quickest of three, after one that wakes the threads."""
        took = []
        for _ in range(4):
            start = time.perf_counter()
            wait(call())
            took.append(time.perf_counter() - start)
        return max(min(took[1:]), 1e-8)

    @staticmethod
    def memory() -> dict:
        return {"bytes": peak_memory()}


def peak_memory() -> int:
    """Bytes. Not ru_maxrss where the kernel says better: that one remembers the parent's peak."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except FileNotFoundError:
        pass  # not Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def private_stdout():
    """A stream on the real stdout; whatever else prints goes to stderr, below Python too."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def main() -> None:
    module, variant = sys.argv[1:3]
    answers = private_stdout()

    def answer(**fields):
        print(json.dumps(fields), file=answers, flush=True)

    try:
        session = Session(module, variant)
    except Exception:
        answer(error=traceback.format_exc(limit=-3))
        return
    answer(version=session.peer.VERSION)
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer(**getattr(session, question.pop("do"))(**question))
        except Exception:
            answer(error=traceback.format_exc(limit=-3))


if __name__ == "__main__":
    main()
