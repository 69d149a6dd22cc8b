"""Text to text: each `*.ir` file here names a pass, says why, and shows a graph before and after.

    # pass: simplify
    # why: what the file is there to show
    graph ...
    ---
    graph ...                     (or `fault: message` where the pass refuses)

`pytest --update-golden` writes what the pass gives now; read the difference before keeping it.
"""

from pathlib import Path

import pytest

from cellc.errors import CellcError
from cellc.ir.check import check
from cellc.ir.graph import Graph
from cellc.ir.text import print_graph, read
from cellc.passes import cse, dead_code, inline, prune, simplify
from cellc.passes.grad import value_and_grad_graph

FILES = sorted(Path(__file__).parent.glob("*.ir"))


def read_only(graph: Graph) -> Graph:
    return graph


def checked(graph: Graph) -> Graph:
    check(graph)
    return graph


PASSES = {
    "read": read_only, "check": checked, "inline": inline.run, "simplify": simplify.run,
    "cse": cse.run, "dead_code": dead_code.run, "prune": prune.run,
    "grad": lambda graph: value_and_grad_graph(graph, tuple(
        i for i, x in enumerate(graph.inputs) if x.type.dtype.is_float)),
}


def after(text: str) -> str:
    """What the pass that the text names makes of it."""
    name = text.split("\n", 1)[0].removeprefix("# pass: ")
    try:
        graph = PASSES[name](read(text))
        check(graph)
        return print_graph(graph)
    except CellcError as fault:
        return f"fault: {fault}\n"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_golden(file, request):
    before, _, expected = file.read_text(encoding="utf-8").partition("\n---\n")
    head = before.split("\n")
    assert head[0].startswith("# pass: ") and head[1].startswith("# why: ")
    found = after(before)
    if request.config.getoption("--update-golden"):
        file.write_text(f"{before}\n---\n{found}", encoding="utf-8")
    else:
        assert found == expected


def test_every_pass_has_a_case_where_it_does_nothing():
    idle = set()
    for file in FILES:
        before, _, expected = file.read_text(encoding="utf-8").partition("\n---\n")
        if before.split("\n", 2)[2].strip() == expected.strip():
            idle.add(before.split("\n", 1)[0].removeprefix("# pass: "))
    assert idle >= {"read", "inline", "simplify", "cse", "dead_code", "prune"}
