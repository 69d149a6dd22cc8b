"""Runs workloads on cellc and its peers in turns, each in a process of its own.

Turns, because a shared machine is never twice the same: one sample of each, then the next of each,
so that a disturbance meets all alike. While one is timed the others are blocked reading stdin.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.limits import threads
from benchmarks.workloads import LOOPS, WORKLOADS, Workload

ROOT = Path(__file__).resolve().parent.parent
# Thread pools spin a little before they sleep; the next one is timed after that.
SETTLE_SECONDS = 0.02
# No single question takes this long; a worker that does is ended, and its peer has failed.
PATIENCE_SECONDS = 300


@dataclass(frozen=True, eq=False)
class Peer:
    """A column of the table: a package run one way."""

    label: str
    module: str
    variant: str
    python: str
    # Set for its processes, beside the threads.
    environment: dict[str, str] = field(default_factory=dict)
    # Where only some kinds of workload make sense.
    kinds: frozenset[str] | None = None
    # Whether a fresh process leaves compiled code on disk by default. Where not, a cold start
    # runs without the cache that it can be asked for, since that is what users meet.
    caches_by_default: bool = True


# name on the command line -> its columns: (label, variant, further fields of Peer)
COLUMNS = {
    "torch": [
        ("PyTorch", "eager", {}), ("PyTorch compile", "compile", {}),
        ("PyTorch library", "library", {"kinds": frozenset({"lstm", "lstm_grad"})}),
    ],
    "jax": [("JAX", "jit", {"caches_by_default": False})],
    "mindspore": [("MindSpore", "graph", {"caches_by_default": False})],
    "numba": [
        ("Numba", "parallel", {"kinds": frozenset(
            {"elementwise", "mandelbrot", "pendulums", *LOOPS})}),
    ],
    "numpy": [
        ("NumPy", "plain", {"kinds": frozenset({"elementwise", "matmul", "pendulums"})}),
        (
            "NumPy SkylakeX",  # OpenBLAS does not know every AVX-512 machine by itself
            "skylakex",
            {
                "kinds": frozenset({"matmul"}),
                "environment": {"OPENBLAS_CORETYPE": "SkylakeX"},
            },
        ),
    ],
}
CELLC = "cellc"
# --avx2: what holds each of them to 256-bit vectors, as far as it can be held.
AVX2 = {
    "CELLC_CPU": "x86-64-v3", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2", "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    "OPENBLAS_CORETYPE": "Haswell", "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
}  # fmt: skip
held_to: dict[str, str] = {}        # further variables of every worker


def columns(pythons: dict[str, str], cellc: bool = True) -> list[Peer]:
    """The peers of a run, cellc first: it is what the others are compared with."""
    found = [Peer(CELLC, "cellc_peer", "graph", sys.executable)] if cellc else []
    for name, python in pythons.items():
        if name not in COLUMNS:
            raise ValueError(f"no peer {name!r}; there are {', '.join(COLUMNS)}")
        if not shutil.which(python):
            raise ValueError(f"peer {name}: {python} cannot be run")
        for label, variant, more in COLUMNS[name]:
            found.append(Peer(label, f"{name}_peer", variant, python, **more))
    return found


def environment(peer: Peer, cache: Path | None) -> dict[str, str]:
    """A worker's environment: the same threads for all, caches where `cache` says or nowhere."""
    ours = ("CELLC_", "PYTHON", "JAX_", "XLA_", "TORCH", "NUMBA_", "OPENBLAS_", "OMP_", "MKL_")
    made = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    for name in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        made[f"{name}_NUM_THREADS"] = str(threads())
    if cache is not None:
        made["CELLC_CACHE_DIR"] = made["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
        made["NUMBA_CACHE_DIR"] = str(cache)
        if not peer.caches_by_default:
            made["JAX_COMPILATION_CACHE_DIR"] = made["BENCHMARK_CACHE"] = str(cache)
    return made | {"TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_v": "3"} | peer.environment | held_to


class Failed(Exception):
    """A worker answered with an error, or not at all."""


class Worker:
    """A peer's process; `ask` puts one question and waits for its answer."""

    def __init__(self, peer: Peer):
        self.peer = peer
        self._cache = tempfile.TemporaryDirectory(prefix="benchmark-cache-")
        # A cold cache: for those that keep one without being asked, an empty one.
        cache = Path(self._cache.name) if peer.caches_by_default else None
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [peer.python, "-m", "benchmarks.peers.worker", peer.module, peer.variant],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            cwd=ROOT, env=environment(peer, cache), text=True,
        )  # fmt: skip
        try:
            self.version = self._answer()["version"]
        except Failed:
            self.close()
            raise

    def ask(self, do: str, **arguments) -> dict:
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"{self.peer.label}: its process is gone") from None
        return self._answer()

    def _answer(self) -> dict:
        watchdog = threading.Timer(PATIENCE_SECONDS, self._process.kill)
        watchdog.start()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            self._errors.seek(0)
            raise Failed(f"{self.peer.label}: no answer\n{self._errors.read()[-2000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(f"{self.peer.label}: {answer['error']}")
        return answer

    def close(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()
        self._cache.cleanup()


def run_steady(workload: Workload, peers: Iterable[Peer], rounds: int, seconds: float) -> dict:
    """First call, agreement, calls in turns, peak memory of one workload: results by label."""
    race = Race(workload)
    try:
        for peer in peers:
            if peer.kinds is None or workload.kind in peer.kinds:
                race.enter(peer)
        race.compare()
        race.take_turns(rounds, seconds)
        return race.finish()
    finally:
        race.close()


class Race:
    """The workers of one workload. One that fails leaves, and its result says so."""

    def __init__(self, workload: Workload):
        self.workload = workload
        self.workers: dict[str, Worker] = {}
        self.results: dict[str, dict] = {}

    def enter(self, peer: Peer) -> None:
        """Starts a peer, takes the time of its first call, and keeps what it computed."""
        try:
            worker = self.workers[peer.label] = Worker(peer)
            if not worker.ask("setup", workload=self.workload.name)["ok"]:
                self.workers.pop(peer.label).close()
                return
            first = worker.ask("first")["seconds"]
            with tempfile.TemporaryDirectory(prefix="benchmark-values-") as directory:
                path = Path(directory) / "values.npy"
                worker.ask("values", path=str(path))
                values = np.load(path)
        except Failed as failure:
            self.leave(peer.label, failure)
        else:
            self.results[peer.label] = {
                "version": worker.version, "first": first, "values": values, "samples": [],
            }  # fmt: skip

    def leave(self, label: str, failure: Failed) -> None:
        print(failure, file=sys.stderr)
        self.results[label] = {"failed": str(failure).splitlines()[-1]}
        if worker := self.workers.pop(label, None):
            worker.close()

    def compare(self) -> None:
        _compare(self.results, self.workload.tolerance)

    def take_turns(self, rounds: int, seconds: float) -> None:
        for i in range(rounds):
            labels = list(self.workers)
            start = i % max(1, len(labels))  # nobody always follows the same neighbour
            for label in labels[start:] + labels[:start]:
                time.sleep(SETTLE_SECONDS)
                try:
                    answer = self.workers[label].ask("time", seconds=seconds)
                except Failed as failure:
                    self.leave(label, failure)
                else:
                    self.results[label]["samples"] += answer["samples"]

    def finish(self) -> dict[str, dict]:
        for label, worker in list(self.workers.items()):
            try:
                memory = worker.ask("memory")
            except Failed as failure:
                self.leave(label, failure)
                continue
            samples = self.results[label].pop("samples")
            self.results[label] |= memory | {
                "median": statistics.median(samples), "min": min(samples), "count": len(samples),
            }  # fmt: skip
        return self.results

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()


def _compare(results: dict, tolerance: float) -> None:
    """Replaces each peer's values by their difference from the first one's."""
    agreed = [result for result in results.values() if "values" in result]
    base = agreed[0]["values"].astype(np.float64) if agreed else None
    for result in agreed:
        values = result.pop("values")
        if values.shape != base.shape:
            raise ValueError(f"results of shapes {values.shape} and {base.shape}")
        difference = np.abs(values - base).max() / max(np.abs(base).max(), 1e-30)
        result["difference"] = float(difference)
        result["agrees"] = bool(difference <= tolerance)


def run_start(workload: Workload, peers: Iterable[Peer], repeats: int) -> dict:
    """Process start to first loss, medians of `repeats` processes by label.

    Cold: nothing on the disk. Warm: after a process that was allowed to leave what it compiled.
    """
    taken: dict[str, dict[str, list]] = {}
    failed: dict[str, dict] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-cache-") as directory:
        caches = {peer: Path(directory) / str(i) for i, peer in enumerate(peers)}
        for i in range(repeats + 1):
            for peer, cache in caches.items():
                if peer.label in failed or (peer.kinds and workload.kind not in peer.kinds):
                    continue
                try:
                    warm = _start(peer, workload, cache)
                    cold = _cold_start(peer, workload) if i else None
                except Failed as failure:
                    print(failure, file=sys.stderr)
                    failed[peer.label] = {"failed": str(failure).splitlines()[-1]}
                    continue
                if i:  # the process before has filled the cache
                    kept = taken.setdefault(peer.label, {"cold": [], "warm": []})
                    kept["cold"].append(cold)
                    kept["warm"].append(warm)
    results = {
        label: {
            f"{state} {what}": statistics.median(each[what] for each in runs)
            for state, runs in kept.items()
            for what in ("process", "first", "bytes")
        }
        | {"version": kept["cold"][0]["version"]}
        for label, kept in taken.items()
    }
    return results | failed


def _cold_start(peer: Peer, workload: Workload) -> dict:
    with tempfile.TemporaryDirectory(prefix="benchmark-cache-") as empty:
        return _start(peer, workload, Path(empty) if peer.caches_by_default else None)


def _start(peer: Peer, workload: Workload, cache: Path | None) -> dict:
    time.sleep(SETTLE_SECONDS)
    command = [peer.python, "-m", "benchmarks.peers.start", peer.module, peer.variant]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, workload.name], cwd=ROOT, env=environment(peer, cache), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    line = process.stdout.readline()
    seconds = time.perf_counter() - start
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    if not line:
        raise Failed(f"{peer.label}: no loss\n{errors[-2000:]}")
    return {"process": seconds, **json.loads(line)}


def chosen(patterns: Iterable[str]) -> list[str]:
    """Names of rows for what was asked: a name, or the beginning of some up to a dash."""
    starts = [f"start-{name}" for name, workload in WORKLOADS.items() if workload.trains]
    known = [*WORKLOADS, *starts]
    wanted = []
    for pattern in patterns:
        hits = [name for name in known if name == pattern or name.startswith(f"{pattern}-")]
        if not hits:
            raise ValueError(f"no workload {pattern!r}; there are {', '.join(known)}")
        wanted += hits
    return list(dict.fromkeys(wanted)) or known
