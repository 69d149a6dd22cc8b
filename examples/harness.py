"""What the examples share: their arguments, compiled or not, and how long calls take."""

from __future__ import annotations

import argparse
import time

import cellc
from cellc import context


def arguments(doc: str, given, *wanted):
    """The options of an example, `--mode` among them.

    wanted: (name, type, default, help, a test that the value must pass) for each; the mode is set.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--mode", choices=("graph", "eager"), default="graph")
    for name, kind, default, help, _ in wanted:
        parser.add_argument(name, type=kind, default=default, help=f"{help} (default {default})")
    options = parser.parse_args(given)
    for name, _, _, help, is_right in wanted:
        value = getattr(options, name[2:].replace("-", "_"))
        if not is_right(value):
            parser.error(f"{name} is {value}, expected {help}")
    context.set_context(
        mode=context.GRAPH_MODE if options.mode == "graph" else context.PYNATIVE_MODE)
    return options


def program(function, options):
    """The function compiled in graph mode, and as it is in eager mode."""
    return cellc.jit(function) if options.mode == "graph" else function


def report(name: str, function, *args, seconds=0.5):
    """Call it, print how long the first call and the best of the later ones took; its result."""
    started = time.perf_counter()
    result = function(*args)
    first = time.perf_counter() - started
    best, until = first, time.perf_counter() + min(seconds, 20 * first)
    while time.perf_counter() < until:
        started = time.perf_counter()
        function(*args)
        best = min(best, time.perf_counter() - started)
    print(f"{name}: first call {spelled(first)}, then {spelled(best)}")
    return result


def spelled(seconds: float) -> str:
    for unit, size in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"
