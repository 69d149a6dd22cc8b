"""The pipeline: one straight list of passes, each graph to graph, each run once.

    inline      small and single-use calls become their applies
    ranges      comparisons and index checks that loops decide
    simplify    algebra, constant folding, views of views
    cse         equal applies once
    prune       what loops and branches carry and nobody needs goes
    sums        what branches and loops add to an array is added there
    blocks      loops over independent rows go through all rounds block by block
    hoist       what is the same in all rounds of a loop is computed before it
    delay       products of few terms that rounds add to an array are made for several at once
    phases      windows with a stride added up after a product, phase by phase
    strides     windows with a stride that are cheap to make, added up in one kernel
    adjoint     windows added up after a product become windows read by one
    winograd    convolutions with fewer multiplications, where fast mathematics is asked for
    thin        products in which nothing is used twice become multiplications and sums
    dead_code   what nobody uses goes
    fuse        clusters of applies become `fused` groups, one kernel each
    chain       two products and what stands between them become one group
    dead_code   what fusion left without users goes
    tape_ends   a tape that is dropped comes to its end there

`grad` is not in the list: the parser asks for it when it meets a gradient. Memory is planned by
`kernels/plan_memory.py` when the host function is written, since that makes offsets, not a graph.
"""

from __future__ import annotations

import os
import time

from cellc import config
from cellc.errors import IRFault
from cellc.ir.check import check, same
from cellc.ir.graph import Graph
from cellc.ir.text import print_graph, read
from cellc.passes import (
    adjoint,
    blocks,
    chain,
    cse,
    dead_code,
    delay,
    fuse,
    hoist,
    inline,
    phases,
    prune,
    ranges,
    simplify,
    strides,
    sums,
    tape_ends,
    thin,
    winograd,
)
from cellc.record import fresh, record

PIPELINE = (
    ("inline", inline.run),
    ("ranges", ranges.run),
    ("simplify", simplify.run),
    ("cse", cse.run),
    ("prune", prune.run),
    ("sums", sums.run),
    ("blocks", blocks.run),
    ("hoist", hoist.run),
    ("delay", delay.run),
    ("phases", phases.run),
    ("strides", strides.run),
    ("adjoint", adjoint.run),
    ("winograd", winograd.run),
    ("thin", thin.run),
    ("dead_code", dead_code.run),
    ("fuse", fuse.run),
    ("chain", chain.run),
    ("dead_code", dead_code.run),
    ("tape_ends", tape_ends.run),
)


@record
class Stages:
    """What the pipeline did to one program: (name, seconds, graph after it) for each stage."""

    rows: list[tuple[str, float, Graph]] = fresh(list)

    def add(self, name: str, seconds: float, graph: Graph) -> None:
        previous = self.rows[-1][2] if self.rows else None
        self.rows.append((name, seconds, graph))
        _dump(len(self.rows) - 1, name, graph, previous)
        _verify(name, graph)

    def seconds(self) -> dict[str, float]:
        total: dict[str, float] = {}
        for name, seconds, _ in self.rows:
            total[name] = total.get(name, 0.0) + seconds
        return total


FAST = ("winograd",)        # what changes results more than by rounding them otherwise


def run(graph: Graph, stages: Stages | None = None, fast_math: bool = False) -> Graph:
    """Run the pipeline on a parsed graph; returns the fused graph."""
    stages = stages if stages is not None else Stages()
    for name, step in PIPELINE:
        if name in FAST and not fast_math:
            continue
        start = time.perf_counter()
        graph = step(graph)
        stages.add(name, time.perf_counter() - start, graph)
    return graph


def _verify(name: str, graph: Graph) -> None:
    """CELLC_CHECK: 1 checks at the borders of the pipeline, 2 after each pass, by text as well."""
    level = config.level("CHECK")
    if level == 0 or (level == 1 and name not in ("parse", "fuse")):
        return
    check(graph)
    if level >= 2:
        again = read(print_graph(graph))
        if not same(again, graph):
            raise IRFault(f"after {name}: the graph's text reads back to another graph\n{graph}\n"
                          f"--- read back:\n{again}")


def _dump(index: int, name: str, graph: Graph, previous: Graph | None) -> None:
    """CELLC_DUMP: write NN_pass.ir, or one line where the pass changed nothing."""
    wanted = config.get("DUMP")
    if not wanted or (wanted != "all" and name not in wanted.split(",")):
        return
    folder = os.path.join(config.get("DUMP_DIR"), graph.name)
    os.makedirs(folder, exist_ok=True)
    text = print_graph(graph)
    if previous is not None and print_graph(previous) == text:
        text = "(unchanged)\n"
    with open(os.path.join(folder, f"{index:02d}_{name}.ir"), "w", encoding="utf-8") as file:
        file.write(text)
