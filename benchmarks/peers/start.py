"""From process start to the first loss: imports, builds the net, steps once, prints.

    python -m benchmarks.peers.start MODULE VARIANT WORKLOAD

Prints {"first": seconds of the first call, "loss": ..., "bytes": peak, "version": ...}. The whole
time is taken by whoever started the process, from before it existed to this line.
"""

import importlib
import json
import sys
import time

from benchmarks.peers.worker import peak_memory, private_stdout
from benchmarks.workloads import WORKLOADS


def main() -> None:
    module, variant, workload = sys.argv[1:4]
    answers = private_stdout()
    peer = importlib.import_module(f"benchmarks.peers.{module}")
    peer.prepare(variant)
    call = peer.make(WORKLOADS[workload], variant)
    start = time.perf_counter()
    loss = float(peer.array(call()))
    first = time.perf_counter() - start
    answer = {"first": first, "loss": loss, "bytes": peak_memory(), "version": peer.VERSION}
    print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
