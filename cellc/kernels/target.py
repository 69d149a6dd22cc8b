"""What the generators need to know of a CPU: register file, caches, cores.

`host()` describes the machine this process runs on; the named entries of `TARGETS` describe others,
so that their code can be looked at (and compiled to objects) anywhere.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from pathlib import Path

KIB = 1024
TASK_SECONDS = 2e-6             # work of a task; shorter ones cost more than they share


@dataclasses.dataclass(frozen=True)
class Target:
    """One CPU as a schedule sees it."""

    name: str                      # LLVM's name of the CPU
    features: str                  # LLVM's feature string, "+avx2,+fma,..."
    vector_bits: int               # the widest vectors worth using
    vector_registers: int
    l1_bytes: int                  # per core
    l2_bytes: int                  # per core
    l3_bytes: int                  # shared
    cores: int                     # that this process may use; says how long sums are cut
    threads: int = 1               # among which programs share their work
    tuned: bool = False            # are schedules to be measured?
    flops_per_second: float = 1e11        # f32, one core; only to guess how long work takes
    bytes_per_second: float = 2e10        # one core, from memory

    def lanes(self, bits: int) -> int:
        """How many elements of `bits` bits one vector holds."""
        return self.vector_bits // bits

    @property
    def masks(self) -> bool:
        """Whether loads and stores under a mask cost no more than plain ones."""
        return "+avx512f" in self.features.split(",")

    @property
    def chains(self) -> int:
        """How many sums at once hide what a multiply-add waits for the one before: 4 cycles, in
        which CPUs begin two vectors each, or one of 512 bits."""
        return 4 if self.vector_bits == 512 else 8

    @property
    def has_fma(self) -> bool:
        """Whether it multiplies and adds in one instruction."""
        return not {"+fma", "+neon"}.isdisjoint(self.features.split(","))


TARGETS = {
    "x86-64": Target("x86-64", "", 128, 16, 32 * KIB, 256 * KIB, 4096 * KIB, 1,
                     flops_per_second=2e10),
    "x86-64-v3": Target("x86-64-v3", "+avx2,+fma,+f16c,+bmi2", 256, 16, 32 * KIB, 512 * KIB,
                        8192 * KIB, 1),
    "x86-64-v4": Target("x86-64-v4", "+avx2,+fma,+f16c,+bmi2,"
                        "+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl",
                        512, 32, 32 * KIB, 1024 * KIB, 16384 * KIB, 1),
    "aarch64": Target("generic", "+neon", 128, 32, 64 * KIB, 512 * KIB, 8192 * KIB, 1,
                      flops_per_second=4e10),
}


def usable_cores() -> int:
    """The CPUs this process may run on; a container often owns fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_threads() -> int:
    """OMP_NUM_THREADS, which users set for all numeric libraries at once, else the usable cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(asked) if asked.isdigit() and int(asked) else usable_cores()


def cache_bytes(level: int, otherwise: int) -> int:
    """The size of the first CPU's data cache of `level` as Linux tells it, else `otherwise`."""
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        kind, at, size = (_line(index / name) for name in ("type", "level", "size"))
        if at == str(level) and kind in ("Data", "Unified") and size.endswith("K"):
            return int(size[:-1]) * KIB
    return otherwise


def _line(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:                     # no such file outside Linux and in some sandboxes
        return ""


def from_features(name: str, features: str) -> Target:
    """A target by LLVM's feature string, with the caches and cores of this machine."""
    has = set(features.split(","))
    if "+avx512f" in has and "+avx512vl" in has:
        like = TARGETS["x86-64-v4"]
    elif "+avx2" in has and "+fma" in has:
        like = TARGETS["x86-64-v3"]
    elif "+neon" in has:
        like = TARGETS["aarch64"]
    else:
        like = TARGETS["x86-64"]
    return dataclasses.replace(
        like, name=name, features=features, cores=usable_cores(),
        l1_bytes=cache_bytes(1, like.l1_bytes), l2_bytes=cache_bytes(2, like.l2_bytes),
        l3_bytes=cache_bytes(3, like.l3_bytes))


@functools.cache
def host(cpu: str | None = None, threads: int = 0, tuned: bool = False) -> Target:
    """The machine this process runs on, or the entry of `TARGETS` called `cpu`, for programs of so
    many threads; 0 for as many as they have by default."""
    threads = threads or default_threads()
    if cpu:
        return dataclasses.replace(TARGETS[cpu], cores=usable_cores(), threads=threads,
                                   tuned=tuned)
    import llvmlite.binding as llvm

    found = from_features(llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())
    return dataclasses.replace(found, threads=threads, tuned=tuned)


def stack_bytes() -> int:
    """How much of the stack a program may use that calls itself: three quarters of what there is
    in a thread made in the usual way."""
    try:
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    except ImportError:                     # not a Unix
        soft = 1 << 20
    if not 0 < soft < 1 << 30:              # unlimited: threads get 2 MB then
        soft = 2 << 20
    return soft * 3 // 4
