"""Graph mode beside eager mode: source text made functions, and results compared."""

import itertools
import linecache

import numpy as np

import cellc
from cellc import Tensor, ops

_numbers = itertools.count()
# (relative, absolute): f16 and bf16 are rounded after every primitive in eager mode, and once for
# every fused group in graph mode; sums are taken in another order; functions differ by a few ulp.
BOUNDS = {"f16": (4e-3, 1e-2), "bf16": (3e-2, 8e-2), "f32": (1e-5, 2e-5), "f64": (1e-12, 1e-12)}


def define(source: str, name: str = "program"):
    """The function of that name, with its source where tracebacks and the parser look for it."""
    file = f"<agreement {next(_numbers)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    scope = {"ops": ops, "cellc": cellc}
    exec(compile(source, file, "exec"), scope)
    return scope[name]


def flat(result) -> list:
    if isinstance(result, dict):
        result = list(result.values())
    if isinstance(result, (tuple, list)):
        return [x for item in result for x in flat(item)]
    return [result]


def kind(x):
    return (x.dtype.name, x.shape) if isinstance(x, Tensor) else type(x)


def difference(eager, graph, bounds=BOUNDS) -> str | None:
    """What differs first: structure, types, or a value by more than its dtype's bound."""
    eager, graph = flat(eager), flat(graph)
    if [kind(x) for x in eager] != [kind(x) for x in graph]:
        return f"eager gives {[kind(x) for x in eager]}, graph {[kind(x) for x in graph]}"
    for a, b in zip(eager, graph, strict=True):
        x, y = np.asarray(a), np.asarray(b)
        wrong = x != y
        if x.dtype.kind == "f":
            relative, absolute = bounds[a.dtype.name] if isinstance(a, Tensor) else bounds["f32"]
            wrong = ~np.isclose(y.astype(np.float64), x.astype(np.float64), relative, absolute,
                                equal_nan=True)
        if wrong.any():
            place = tuple(np.argwhere(wrong)[0].tolist())
            return (f"{wrong.sum()} of {wrong.size} differ: at {place} eager has {x[place]!r}, "
                    f"graph {y[place]!r}")
    return None
