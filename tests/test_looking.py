"""Looking at the compiler: switches, dumps, inspect, explain."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

import cellc
from cellc import Tensor, ops
from cellc import config as switches
from cellc.config import config
from cellc.ir.text import read

X = Tensor(np.float32([[1.0, 2.0], [3.0, 4.0]]))
ARCHITECTURE = pathlib.Path(__file__).parent.parent / "docs" / "architecture.md"


def curve(x):
    return ops.exp(x) * 2.0 + ops.exp(x)


def test_the_documentation_lists_the_switches():
    printed = subprocess.run([sys.executable, "-m", "cellc.config"], capture_output=True, text=True,
                             check=True).stdout
    assert printed.strip() in ARCHITECTURE.read_text(encoding="utf-8")
    assert len(switches.SWITCHES) < 10


def test_no_other_module_reads_the_environment_for_a_switch():
    folder = pathlib.Path(cellc.__file__).parent
    for path in folder.rglob("*.py"):
        if path.name != "config.py":
            assert "CELLC_" not in "".join(
                line for line in path.read_text(encoding="utf-8").splitlines()
                if "environ" in line), path


def test_dump_writes_every_pass(tmp_path):
    with config(DUMP="all", DUMP_DIR=tmp_path):
        cellc.jit(lambda x: curve(x))(X)
    files = sorted(p.name for p in (tmp_path / "lambda").iterdir())
    assert files[0] == "00_parse.ir" and any(name.endswith("_fuse.ir") for name in files)
    texts = {name: (tmp_path / "lambda" / name).read_text(encoding="utf-8") for name in files}
    assert read(texts["00_parse.ir"]).name == "lambda"
    assert "(unchanged)\n" in texts.values()


def test_dump_of_one_pass(tmp_path):
    with config(DUMP="cse", DUMP_DIR=tmp_path):
        cellc.jit(lambda x: curve(x))(X)
    assert [p.name.split("_")[1] for p in (tmp_path / "lambda").iterdir()] == ["cse.ir"]


@pytest.mark.parametrize("level, shown", [(1, "cellc: compiled"), (2, "fused("), (3, "schedule:"),
                                          (4, "define")])
def test_show(level, shown, capsys):
    with config(SHOW=level):
        cellc.jit(lambda x: curve(x))(X)
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize("level, frames", [(1, range(2, 8)), (2, range(9, 200))])
def test_the_compiler_hides_its_own_frames_in_tracebacks(level, frames):
    with config(CHECK=level), pytest.raises(cellc.errors.ShapeFault) as caught:
        cellc.jit(lambda x: curve(x) @ X)(Tensor(np.ones((2, 3), np.float32)))
    assert len(caught.traceback) in frames


def test_an_unknown_switch():
    with pytest.raises(ValueError, match="unknown switch SPEED; known are DUMP"):
        with config(SPEED=1):
            pass


def test_inspect_gives_every_stage():
    found = cellc.inspect(curve, X)
    assert list(found.stages)[0] == "parse" and found.graph is list(found.stages.values())[-1]
    assert [n.prim.name for n in found.stages["parse"].body].count("exp") == 2
    assert [n.prim.name for n in found.stages["cse"].body].count("exp") == 1
    assert len(found.groups) == 1 and "define" in found.llvm
    assert found.seconds["total"] > 0
    assert "signature: f32[2,2]" in str(found) and "graph @curve" in str(found)


def test_explain_names_what_was_read():
    f = cellc.jit(curve)
    f(X)
    f(Tensor(np.float32([1.0])))
    text = str(cellc.explain(curve))
    assert "curve: 2 compiled signature(s)" in text and "f32[2,2]" in text and "ops" in text


def test_a_jitted_function_is_explained_as_what_it_wraps():
    @cellc.jit
    def twice(x):
        return x * 2.0

    assert "0 compiled" in str(cellc.explain(twice))
    twice(Tensor(np.ones(3, np.float32)))
    assert "1 compiled signature(s)\n  (f32[3])" in str(cellc.explain(twice))
    assert cellc.inspect(twice, Tensor(np.ones(3, np.float32))).groups
    assert len(cellc.explain(twice).signatures) == 1
