"""The examples as modules, and what their tests share."""

import sys
from pathlib import Path

import pytest

import cellc
from cellc import context

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))


@pytest.fixture
def main_in(capsys):
    """main_in(example, mode, *arguments): what its main returns, and what it printed."""
    def run(example, mode, *arguments):
        found = example.main(["--mode", mode, *map(str, arguments)])
        return found, capsys.readouterr().out

    yield run
    context.set_context(mode=context.PYNATIVE_MODE)


@pytest.fixture
def primitives():
    """primitives(function, *args): the names of all primitives of its graphs, with repetitions."""
    def names(function, *args):
        graph = cellc.inspect(function, *args).graph
        return [x.prim.name for g in graph.reachable() for x in g.body]

    return names


@pytest.fixture(params=["graph", "eager"])
def mode(request):
    context.set_context(mode=context.GRAPH_MODE if request.param == "graph"
                        else context.PYNATIVE_MODE)
    yield request.param
    context.set_context(mode=context.PYNATIVE_MODE)
