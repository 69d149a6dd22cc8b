"""python -m benchmarks.operations --torch PYTHON: single operations, compiled, beside PyTorch's.

No row of the big table, but what programs are made of. Every operation is one expression, of `x`
f32[n, n], `v` f32[n] in rising order, `i` i32[n] of indices, `k` i32[n, n] and `im` f32[8, 16, n/8,
n/8]; where PyTorch says it in another way there is a second one. The two take turns, in processes
of their own; each number is the median of the medians of a turn. Ratios below 1: cellc is ahead.
"""

import argparse
import importlib.util
import inspect
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TURNS = 3
SECONDS = 0.1

# name -> (parameters, cellc's expression, PyTorch's; None where they are the same but for the name)
OPERATIONS = {
    "sin": ("x", "ops.sin(x)", None),
    "erf": ("x", "ops.erf(x)", None),
    "gelu": ("x", "ops.gelu(x)", "F.gelu(x)"),
    "pow": ("x", "ops.pow(ops.abs(x) + 0.1, 1.7)", None),
    "floor": ("x", "ops.floor(x * 10)", None),
    "x / (|x| + 1)": ("x", "x / (ops.abs(x) + 1)", None),
    "where": ("x", "ops.where(x > 0, x, 0.1 * x)", None),
    "clamp": ("x", "ops.clamp(x, -1.0, 1.0)", None),
    "lerp": ("x", "ops.lerp(x, x * 2, 0.3)", None),
    "isfinite": ("x", "ops.isfinite(x)", None),
    "masked_fill": ("x", "ops.masked_fill(x, x > 0, 0.0)", None),
    "to f16": ("x", "x.astype('float16')", "x.half()"),
    "k + 3 k": ("k", "k + k * 3", None),
    "k // 7": ("k", "k // 7", "torch.div(k, 7, rounding_mode='floor')"),
    "k % 7": ("k", "k % 7", None),
    "x * v + v": ("x, v", "x * v + v", None),
    "outer": ("v", "ops.outer(v, v)", None),
    "x @ v": ("x, v", "ops.matmul(x, v)", None),
    "sum of all": ("x", "x.sum()", None),
    "sum of columns": ("x", "x.sum(0)", None),
    "sum of rows": ("x", "x.sum(1)", None),
    "product of rows": ("x", "ops.prod(x, 1)", None),
    "maximum of rows": ("x", "x.max(1)", "torch.amax(x, 1)"),
    "argmax of rows": ("x", "ops.argmax(x, 1)", None),
    "argmax of columns": ("x", "ops.argmax(x, 0)", None),
    "any of rows": ("x", "(x > 3).any(1)", None),
    "variance of rows": ("x", "x.var(1)", "x.var(1, unbiased=False)"),
    "variance of columns": ("x", "x.var(0)", "x.var(0, unbiased=False)"),
    "norm": ("x", "ops.norm(x)", None),
    "softmax of columns": ("x", "ops.softmax(x, 0)", None),
    "log_softmax of rows": ("x", "ops.log_softmax(x, 1)", None),
    "cumsum along rows": ("x", "ops.cumsum(x, 1)", None),
    "cumsum along columns": ("x", "ops.cumsum(x, 0)", None),
    "sort rows": ("x", "ops.sort(x, 1)[0]", None),
    "argsort rows": ("x", "ops.argsort(x, 1)", None),
    "top 10 of rows": ("x", "ops.topk(x, 10)[0]", None),
    "transpose": ("x", "ops.transpose(x, (1, 0))", "x.t().contiguous()"),
    "x + x transposed": ("x", "x + x.T", None),
    "distances of rows": (
        "x", "((x[:250, None, :64] - x[None, :250, :64]) ** 2).sum(-1)", None),
    "concat": ("x", "ops.concat((x, x), 1)", "torch.cat((x, x), 1)"),
    "stack": ("x", "ops.stack((x, x), 0)", None),
    "tile": ("x", "ops.tile(x, (2, 2))", None),
    "repeat_interleave": ("x", "ops.repeat_interleave(x, 2, 1)", None),
    "flip": ("x", "ops.flip(x, (1,))", None),
    "roll": ("x", "ops.roll(x, 3, 1)", None),
    "pad": ("x", "ops.pad(x, (1, 1, 1, 1))", "F.pad(x, (1, 1, 1, 1))"),
    "triu": ("x", "ops.triu(x)", None),
    "x[:, ::2] + x[:, 1::2]": ("x", "x[:, ::2] + x[:, 1::2]", None),
    "x[:, 1:] - x[:, :-1]": ("x", "x[:, 1:] - x[:, :-1]", None),
    "gather rows": ("x, i", "ops.gather(x, i, 0)", "torch.index_select(x, 0, i)"),
    "gather columns": ("x, i", "ops.gather(x, i, 1)", "torch.index_select(x, 1, i)"),
    "one_hot": ("i", "ops.one_hot(i, 1000)", "F.one_hot(i.long(), 1000)"),
    "max_pool2d": ("im", "ops.max_pool2d(im, 2, 2)", "F.max_pool2d(im, 2, 2)"),
    "avg_pool2d": ("im", "ops.avg_pool2d(im, 2, 2)", "F.avg_pool2d(im, 2, 2)"),
    "normalise images": (
        "im", "(im - im.mean((0, 2, 3), keepdims=True)) * ops.rsqrt(im.var((0, 2, 3), "
        "keepdims=True) + 1e-5)", "F.batch_norm(im, None, None, training=True)"),
}  # fmt: skip


def inputs(n: int) -> dict[str, np.ndarray]:
    r = np.random.default_rng(0)
    return {
        "x": r.standard_normal((n, n)).astype(np.float32),
        "v": np.sort(r.standard_normal(n)).astype(np.float32),
        "i": r.integers(0, n, n).astype(np.int32),
        "k": r.integers(-100, 100, (n, n)).astype(np.int32),
        "im": r.standard_normal((8, 16, n // 8, n // 8)).astype(np.float32),
    }


def module(of_torch: bool, directory: str):
    """The expressions as functions of a module; cellc reads their source."""
    lines = ["from cellc import ops"]
    if of_torch:
        lines = ["import torch", "import torch.nn.functional as F"]
    for number, (parameters, mine, theirs) in enumerate(OPERATIONS.values()):
        text = (theirs or mine.replace("ops.", "torch.")) if of_torch else mine
        lines.append(f"\n\ndef operation_{number}({parameters}):\n    return {text}")
    path = Path(directory) / "operations_written_out.py"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def work(peer: str, n: int) -> None:
    """A turn of one peer: prints {name: seconds, or why there are none}."""
    if peer == "torch":
        import torch

        compiled, tensor = (lambda function: function), torch.from_numpy
    else:
        from cellc import Tensor, jit

        compiled, tensor = jit, Tensor
    given = {name: tensor(array) for name, array in inputs(n).items()}
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        functions = module(peer == "torch", directory)
        for number, name in enumerate(OPERATIONS):
            function = getattr(functions, f"operation_{number}")
            arguments = [given[x] for x in inspect.signature(function).parameters]
            try:
                found[name] = timed(compiled(function), arguments)
            except Exception as fault:
                found[name] = f"{type(fault).__name__}: {fault}"
    print(json.dumps(found))


def timed(function, arguments) -> float:
    """The median of calls, after two that compile and fetch."""
    function(*arguments), function(*arguments)
    samples, until = [], time.perf_counter() + SECONDS
    while len(samples) < 3 or time.perf_counter() < until:
        start = time.perf_counter()
        function(*arguments)
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def turn(module: str, peer: str, python: str, *options: str) -> dict:
    """What `python -m module --turn peer` prints, run by an interpreter with an empty cache."""
    from benchmarks.runner import Peer, environment  # needs what PyTorch's interpreter has not

    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [python, "-m", module, "--turn", peer, *options], capture_output=True, text=True,
            env=environment(Peer(peer, peer, "", python), None) | {"CELLC_CACHE_DIR": cache},
            check=True)  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operations", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter that can import torch")
    parser.add_argument("--size", type=int, default=1000, help="n; default: 1000")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        work(options.turn, options.size)
        return
    peers = {"cellc": sys.executable} | ({"torch": options.torch} if options.torch else {})
    turns = [{peer: turn("benchmarks.operations", peer, python, "--size", str(options.size))
              for peer, python in peers.items()} for _ in range(TURNS)]
    print(f"| operation | {' | '.join(peers)} | ratio |")
    print("| --- | --: |" + " --: |" * len(peers))
    for name in OPERATIONS:
        times = {peer: [each[peer][name] for each in turns] for peer in peers}
        cells = [next((t for t in ts if isinstance(t, str)), None) or statistics.median(ts)
                 for ts in times.values()]
        known = len(cells) == 2 and not any(isinstance(c, str) for c in cells)
        cells = [c if isinstance(c, str) else f"{c * 1e6:.1f} µs" for c in cells] + [
            f"{cells[0] / cells[1]:.2f}" if known else "–"]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
