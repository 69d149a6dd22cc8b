"""What this machine can at best do: multiply-adds a second, bytes copied a second.

Measured, not looked up: clock rates move and neighbours interfere. `python -m benchmarks.limits`.
"""

import ctypes
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import llvmlite.binding as llvm

REPEATS = 15
FMA_ROUNDS = 2_000_000
CHAINS = 12  # more than latency times width anywhere, and few enough for 16 vector registers
COPY_BYTES = 128 << 20


def threads() -> int:
    """How many this process may run at once."""
    return len(os.sched_getaffinity(0))


def measure() -> dict[str, float]:
    """{"flops": a second, "bytes": a second, read plus written} on all threads together."""
    return {"flops": fma_peak(), "bytes": copy_bandwidth()}


def fma_peak() -> float:
    lanes = _lanes()
    with _compiled(_fma_source(lanes)) as address:
        run = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64)(address)  # releases the GIL
        seconds = _fastest(lambda: run(FMA_ROUNDS))
    return 2.0 * lanes * CHAINS * FMA_ROUNDS * threads() / seconds


def copy_bandwidth() -> float:
    def buffers():
        pair = ctypes.create_string_buffer(COPY_BYTES), ctypes.create_string_buffer(COPY_BYTES)
        for buffer in pair:
            ctypes.memset(buffer, 1, COPY_BYTES)  # every page is there before the clock runs
        return pair

    pairs = [buffers() for _ in range(threads())]
    copy = ctypes.CDLL(None).memcpy
    copy.argtypes, copy.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t], None
    seconds = _fastest(lambda to, source: copy(to, source, COPY_BYTES), pairs)
    return 2.0 * COPY_BYTES * threads() / seconds


def _fastest(work: Callable, arguments: list[tuple] | None = None) -> float:
    """Seconds of the quickest repeat of `work` on every thread at once."""
    arguments = arguments or [()] * threads()
    took = []
    with ThreadPoolExecutor(len(arguments)) as pool:
        for _ in range(REPEATS):
            start = time.perf_counter()
            for done in [pool.submit(work, *each) for each in arguments]:
                done.result()
            took.append(time.perf_counter() - start)
    return min(took)


def _lanes() -> int:
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx2") else 4


def _fma_source(lanes: int) -> str:
    """float @peak(i64 rounds): independent chains of x = x * 0.5 + 0.5, which stay normal."""
    vector = f"<{lanes} x float>"
    half = f"<{', '.join(['float 0.5'] * lanes)}>"
    chains = range(CHAINS)
    entering = "\n".join(
        f"  %x{i} = phi {vector} [ zeroinitializer, %entry ], [ %y{i}, %loop ]" for i in chains
    )
    steps = "\n".join(
        f"  %y{i} = call {vector} @llvm.fma.v{lanes}f32({vector} %x{i}, {vector} {half}, "
        f"{vector} {half})"
        for i in chains
    )
    total = "\n".join(
        f"  %s{i + 1} = fadd {vector} %s{i}, %y{i}" if i else f"  %s1 = fadd {vector} %y0, %y0"
        for i in chains
    )
    return f"""
declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})
define float @peak(i64 %rounds) {{
entry:
  br label %loop
loop:
  %n = phi i64 [ 0, %entry ], [ %next, %loop ]
{entering}
{steps}
  %next = add i64 %n, 1
  %more = icmp slt i64 %next, %rounds
  br i1 %more, label %loop, label %done
done:
{total}
  %first = extractelement {vector} %s{CHAINS}, i64 0
  ret float %first
}}
"""


@contextmanager
def _compiled(source: str):
    """The address of @peak, good while the engine that owns it is open."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=1
    )
    with llvm.create_mcjit_compiler(llvm.parse_assembly(source), machine) as engine:
        engine.finalize_object()
        yield engine.get_function_address("peak")


if __name__ == "__main__":
    print(json.dumps({"threads": threads(), **measure()}))
