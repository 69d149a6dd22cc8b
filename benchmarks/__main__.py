"""python -m benchmarks: cellc beside its peers, on the same inputs, in the same run."""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from tqdm import tqdm

from benchmarks import limits, report, runner
from benchmarks.workloads import WORKLOADS


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "workload", nargs="*",
        help="rows to run, or the beginning of some (`matmul`, `elementwise-grad`, `start`); all\n"
        "if none is named. There are " + ", ".join(WORKLOADS) + ",\nand start-mlp, start-lenet.",
    )  # fmt: skip
    parser.add_argument(
        "--peers", default="", metavar="NAME=PYTHON,...",
        help="interpreters that can import each peer; names: " + ", ".join(runner.COLUMNS),
    )  # fmt: skip
    parser.add_argument("--threads", type=int, default=0, help="default: every core allowed")
    parser.add_argument("--avx2", action="store_true", help="hold everyone to 256-bit vectors")
    parser.add_argument("--quick", action="store_true", help="fewer, shorter turns")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything there")
    parser.add_argument("--no-cellc", action="store_true", help="the peers alone")
    return parser.parse_args()


def use_threads(count: int) -> None:
    """Keeps this process and all it starts to `count` cores; every peer obeys that."""
    allowed = sorted(os.sched_getaffinity(0))
    if not 0 <= count <= len(allowed):
        raise ValueError(f"--threads {count}: this machine offers {len(allowed)}")
    if count:
        os.sched_setaffinity(0, allowed[:count])


def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except FileNotFoundError:
        pass  # not Linux
    return platform.machine()


def run(options: argparse.Namespace) -> dict:
    pythons = dict(pair.split("=", 1) for pair in options.peers.split(",") if pair)
    peers = runner.columns(pythons, cellc=not options.no_cellc)
    rows = runner.chosen(options.workload)
    use_threads(options.threads)
    if options.avx2:
        runner.held_to.update(runner.AVX2)
    rounds, seconds, repeats = (5, 0.05, 1) if options.quick else (15, 0.1, 5)
    measured, versions = {}, {}
    bounds = limits.measure()
    for name in (bar := tqdm(rows, unit="row", file=sys.stderr)):
        bar.set_description(name)
        if name in WORKLOADS:
            row = runner.run_steady(WORKLOADS[name], peers, rounds, seconds)
        else:
            row = runner.run_start(WORKLOADS[name.removeprefix("start-")], peers, repeats)
        for label, result in row.items():
            if version := result.pop("version", None):
                versions[label] = version
        measured[name] = row
    return {
        "cpu": cpu_name() + " (AVX2)" * options.avx2, "threads": limits.threads(),
        "python": platform.python_version(),
        "limits": bounds, "versions": versions, "workloads": measured,
    }  # fmt: skip


def main() -> int:
    options = arguments()
    try:
        result = run(options)
    except ValueError as mistake:
        print(f"benchmarks: {mistake}", file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(report.markdown(result))
    everyone = [each for row in result["workloads"].values() for each in row.values()]
    return int(any("failed" in each or not each.get("agrees", True) for each in everyone))


if __name__ == "__main__":
    sys.exit(main())
