"""Calls remembered between processes: not parsed where nothing that was read has changed, parsed
where anything has, and with the same result either way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cellc
from cellc import Parameter, Tensor, nn, ops
from cellc.config import config

ROOT = Path(__file__).resolve().parent.parent.parent
HELPER = """
STEP = 0.5

def helped(x):
    return x + STEP
"""
WORLD = """
import argparse, dataclasses, os, sys
import numpy as np
from cellc import Parameter, Tensor, nn, ops
import cellc, helper

RATE = 2.0
RATES = 3.0
TABLE = {"rates": [1.0, 2.0]}
ARGS = argparse.Namespace(k=2.0)
WEIGHTS = np.arange(3, dtype=np.float32)
CONSTANT = Tensor(np.float32([1, 2, 3]))
SHIFT = Parameter(Tensor(np.float32([1, 2, 3])), name="shift")

@dataclasses.dataclass
class Config:
    k: float = 2.0
    def scaled(self, x): return x * self.k

CONFIG = Config()

class Base(nn.Cell):
    factor = 1.5
    def scale(self, x): return x * self.factor

class Net(Base):
    def __init__(self):
        super().__init__()
        self.k = 2.0
        self.inner = nn.CellList([nn.Dense(3, 3, weight_init="ones") for _ in range(2)])
        self.seen = Parameter(Tensor(np.float32(0.0)), name="seen", requires_grad=False)

    def construct(self, x):
        self.seen = self.seen + 1.0
        for cell in self.inner:
            x = ops.tanh(cell(x))
        return self.scale(x) * self.k, {"name": "net", "parts": [x, 3]}

def closure(k):
    def inner(x): return x * k
    return inner

def square(x): return x * x
def loss(x): return square(x).sum()
def called(x): return square(x) + 1.0
def by_default(x, k=2.0): return x * k
def calls_default(x): return by_default(x)
def halves(x):
    found, x = [], x.sum()
    while x > 1.0: found.append((x, x * x)); x = x / 2.0
    return found
def sized(x, n): return ops.ones((n, 3)) * x * RATES
def known(x, how): return x * 2.0 if how == "twice" else x

CASES = {
    "global": [lambda x: x * RATE],
    "contents": [lambda x: x * TABLE["rates"][1]],
    "namespace": [lambda x: x * ARGS.k],
    "array": [lambda x: x * Tensor(WEIGHTS)],
    "constant": [lambda x: x * CONSTANT],
    "parameter": [lambda x: x + SHIFT],
    "object": [lambda x: CONFIG.scaled(x)],
    "asdict": [lambda x: x * dataclasses.asdict(CONFIG)["k"]],
    "cell": [Net()],
    "closure": [closure(2.0)],
    "callee": [called],
    "gradient": [cellc.grad(loss)],
    "default": [calls_default],
    "module": [lambda x: helper.helped(x)],
    "known": [known, "twice"],
    "size": [sized, 2],
    "list": [halves],
    "environment": [lambda x: x * float(os.environ["TEST_OF_PARSES"])],
    "random": [lambda x: x + ops.dropout(x, 0.5) * 0.0],
    "branch": [lambda x: x if x.sum() > 1.0 else -x],
}
"""
SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import cellc, world
from cellc import Tensor, context
from cellc.compile import compiled

x = Tensor(np.float32([1, 2, 3]))
found = {}

def plain(value):
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value.asnumpy().tolist() if isinstance(value, Tensor) else value

for name, (fn, *rest) in world.CASES.items():
    with context.eagerly():
        expected = plain(fn(x, *rest))
    context.set_context(mode=context.GRAPH_MODE)
    called = fn if hasattr(fn, "construct") or hasattr(fn, "kind") else cellc.jit(fn)
    results = [plain(called(x, *rest)) for _ in range(2)]
    variant = compiled(called).variants[0]
    found[name] = {"parsed": "parse" in variant.seconds, "results": results, "expected": expected,
                   "assigned": [p.name for p in variant.assigned], "count": len(
                       compiled(called).variants)}
found["cell"]["imported"] = sorted({"gast", "cellc.parser.trace"} & sys.modules.keys())
found["cell"]["seen"] = float(world.CASES["cell"][0].seen.asnumpy())
print(json.dumps(found))
"""


def run(folder: Path, *edits: tuple[str, str], environment: str = "2") -> dict:
    """What a process says of all cases, with the user's files edited."""
    world, helper = WORLD, HELPER
    for old, new in edits:
        assert world.count(old) + helper.count(old) == 1, old
        world, helper = world.replace(old, new), helper.replace(old, new)
    (folder / "world.py").write_text(world)
    (folder / "helper.py").write_text(helper)
    same = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    done = subprocess.run(
        [sys.executable, "-B", "-c", SCRIPT, str(folder)], capture_output=True, text=True,
        check=False, env=same | {"CELLC_CACHE_DIR": str(folder / "cache"), "CELLC_CHECK": "1",
                                 "PYTHONPATH": str(ROOT), "TEST_OF_PARSES": environment})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_results(found: dict) -> None:
    for name, case in found.items():
        assert case["count"] == 1, name
        for result in case["results"]:
            assert_close(result, case["expected"], name)
    assert found["cell"]["assigned"] == ["seen"] and found["cell"]["seen"] == 3.0


def assert_close(found, expected, name: str) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), name
        found, expected = list(found.values()), list(expected.values())
    if isinstance(expected, list) and not all(isinstance(x, float) for x in expected):
        assert len(found) == len(expected), name
        for a, b in zip(found, expected, strict=True):
            assert_close(a, b, name)
    elif isinstance(expected, str):
        assert found == expected, name
    else:
        np.testing.assert_allclose(found, expected, rtol=2e-6, err_msg=name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a first process has left what it parsed."""
    folder = tmp_path_factory.mktemp("parses")
    first = run(folder)
    check_results(first)
    assert all(case["parsed"] for case in first.values())
    return folder


def test_a_second_process_parses_nothing(folder):
    second = run(folder)
    check_results(second)
    assert [name for name, case in second.items() if case["parsed"]] == []
    assert second["cell"]["imported"] == []


# an edit of the user's files, and which calls it concerns
EDITS = {
    "a global number": ([("RATE = 2.0", "RATE = 3.0")], {"global"}),
    "a global of what has a size": ([("RATES = 3.0", "RATES = 4.0")], {"size"}),
    "what a list gets": ([("found.append((x, x * x))", "found.append((x, x + x))")], {"list"}),
    "a number's type": ([("RATE = 2.0", "RATE = 2")], {"global"}),
    "the sign of zero": ([("RATE = 2.0", "RATE = -0.0")], {"global"}),
    "within containers": ([("[1.0, 2.0]}", "[1.0, 5.0]}")], {"contents"}),
    "a namespace": ([("Namespace(k=2.0)", "Namespace(k=5.0)")], {"namespace"}),
    "an array": ([("WEIGHTS = np.arange(3,", "WEIGHTS = 1 + np.arange(3,")], {"array"}),
    "a constant's values": ([("CONSTANT = Tensor(np.float32([1,",
                              "CONSTANT = Tensor(np.float32([7,")], set()),
    "a constant's type": ([("CONSTANT = Tensor(np.float32(", "CONSTANT = Tensor(np.float64(")],
                          {"constant"}),
    "a Parameter's values": ([("SHIFT = Parameter(Tensor(np.float32([1,",
                               "SHIFT = Parameter(Tensor(np.float32([9,")], set()),
    "a Parameter's shape": ([("SHIFT = Parameter(Tensor(np.float32([1, 2, 3])",
                              "SHIFT = Parameter(Tensor(np.float32([1])")], {"parameter"}),
    "a field": ([("CONFIG = Config()", "CONFIG = Config(5.0)")], {"object", "asdict"}),
    "a method": ([("def scaled(self, x): return x * self.k",
                   "def scaled(self, x): return x / self.k")], {"object", "asdict"}),
    "a cell's field": ([("self.k = 2.0", "self.k = 3.0")], {"cell"}),
    "a class attribute": ([("factor = 1.5", "factor = 2.5")], {"cell"}),
    "a method of the base": ([("x * self.factor", "x / self.factor")], {"cell"}),
    "how many cells": ([("in range(2)])", "in range(3)])")], {"cell"}),
    "the body": ([("x = ops.tanh(cell(x))", "x = ops.relu(cell(x))")], {"cell"}),
    "a closure": ([("closure(2.0)", "closure(3.0)")], {"closure"}),
    "what is called": ([("def square(x): return x * x", "def square(x): return x * 3")],
                       {"callee", "gradient"}),
    "a default": ([("by_default(x, k=2.0)", "by_default(x, k=3.0)")], {"default"}),
    "another module": ([("return x + STEP", "return x - STEP")], {"module"}),
    "its global": ([("STEP = 0.5", "STEP = 0.25")], {"module"}),
    "a known argument": ([('[known, "twice"]', '[known, "once"]')], {"known"}),
    "a cell of the library": ([("import cellc, helper", "import cellc, helper; "
                                "nn.Dense.construct = lambda self, x: x * 2.0")], {"cell"}),
    "a function of the library": ([("import cellc, helper", "import cellc, helper; "
                                    "ops.tanh = ops.relu")], {"cell"}),
    "a comment": ([("return square(x) + 1.0", "return square(x) + 1.0      # one more")], set()),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_concerns_what_reads_it(folder, name):
    edits, concerned = EDITS[name]
    for _ in range(2):          # what was parsed anew is remembered beside what was there
        found = run(folder, *edits)
        check_results(found)
        assert {case for case in found if found[case]["parsed"]} == concerned
        concerned = set()
    assert not any(case["parsed"] for case in run(folder).values())


def test_the_environment_is_read(folder):
    found = run(folder, environment="3")
    check_results(found)
    assert [name for name, case in found.items() if case["parsed"]] == ["environment"]


# -- in one process --------------------------------------------------------------------------------

class Scale(nn.Cell):
    def __init__(self, k, w=3):
        super().__init__()
        self.k = k
        self.w = Parameter(Tensor(np.full(w, k, np.float32)), name="w")

    def construct(self, x):
        return x * self.w + self.k


class Sum(nn.Cell):
    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def construct(self, x):
        return self.first(x) + self.second(x)


def parsed(fn, *args) -> bool:
    with config(CHECK=1):
        return "parse" in cellc.inspect(fn, *args).seconds


def test_a_cell_like_another_is_not_parsed():
    x = Tensor(np.ones(3, np.float32))
    first, like, other = Scale(2.25), Scale(2.25), Scale(3.25)
    assert [parsed(cell, x) for cell in (first, like, other)] == [True, False, True]
    like.w.set_data(Tensor(np.zeros(3, np.float32)))
    with config(CHECK=1):
        got = [cellc.jit(lambda x, c=c: c(x))(x).asnumpy() for c in (first, like, other)]
    np.testing.assert_allclose(got, [[4.5] * 3, [2.25] * 3, [6.5] * 3])


def test_what_is_one_object_twice_is_not_like_two_objects():
    x = Tensor(np.ones(3, np.float32))
    one = Scale(1.75)
    assert parsed(Sum(one, one), x) and parsed(Sum(Scale(1.75), Scale(1.75)), x)
    assert not parsed(Sum(*[Scale(1.75)] * 2), x) and not parsed(Sum(Scale(1.75), Scale(1.75)), x)


def test_the_graph_of_what_was_not_parsed_is_there_to_be_looked_at():
    x = Tensor(np.ones(3, np.float32))
    with config(CHECK=1):
        first, second = (cellc.inspect(cell, x) for cell in (Scale(4.25), Scale(4.25)))
    assert "parse" not in second.seconds
    assert first.stages.keys() == second.stages.keys() and first.llvm == second.llvm
    assert str(first.graph) == str(second.graph)


def test_nan_trace_of_what_was_not_parsed():
    def root(x):
        return ops.sqrt(x - 1.5).sum()

    x = Tensor(np.ones(3, np.float32))
    with config(CHECK=1):
        cells = [cellc.jit(lambda x, f=root: f(x)) for _ in range(2)]
        found = [cellc.nan_trace(cell, x) for cell in cells]
        assert not parsed(cells[1], x)
    assert str(found[0]) == str(found[1]) and found[1].operation == "sqrt"


def test_what_cannot_be_described_is_parsed_each_time(tmp_path):
    x = Tensor(np.ones(3, np.float32))
    for held in (open(tmp_path / "file", "w"), (i for i in range(3)), np.random.default_rng(0)):
        cells = [Scale(5.25), Scale(5.25)]
        for cell in cells:
            cell.held = held
        assert all(parsed(cell, x) for cell in cells)


def test_what_a_program_says_is_said_each_time(capsys):
    def says(x):
        print("sum", x.sum())
        return x

    x = Tensor(np.ones(3, np.float32))
    with config(CHECK=1):
        for _ in range(2):
            cellc.jit(lambda x: ops.neg(says(x)))(x)
    assert capsys.readouterr().out.count("sum") == 2
