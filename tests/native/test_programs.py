"""Programs remembered between processes: the same program as without, or a new one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cellc
from cellc import Tensor, ops, programs
from cellc.config import config
from cellc.kernels import engine

ROOT = Path(__file__).resolve().parent.parent.parent
REPORT = """
import json, sys
import cellc
from cellc.compile import compiled
from cellc.kernels import engine

def report(fn, result, *args):
    variant = compiled(fn).variants[0]
    print(json.dumps({"result": result, "seconds": sorted(variant.seconds),
                      "compiled": engine.timings().compiled, "llvm": variant.llvm,
                      "stages": [name for name, *_ in variant.stages.rows]}))
"""
ELEMENT = REPORT + """
import numpy as np
from cellc import Tensor

@cellc.jit
def pick(x, i):
    y = x * SCALE + 1.0
    return y[i]

x = Tensor(np.arange(4, dtype=np.float32))
try:
    result = float(pick(x, int(sys.argv[1])))
except IndexError as fault:
    result = str(fault)
report(pick, result)
"""
TRAINING = REPORT + """
import numpy as np
from cellc import Tensor, nn, ops, context
context.set_context(mode=context.GRAPH_MODE)

class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(3, 2, weight_init="ones")

    def construct(self, x):
        h = self.dense(x)
        while h.sum() > 100.0:
            h = ops.tanh(h * 0.01) * 50.0
        return (h * h).mean()

net = Net()
step = nn.TrainOneStepCell(net, nn.Adam(net.trainable_params(), 0.1))
step.set_train()
x = Tensor(np.arange(12, dtype=np.float32).reshape(4, 3))
report(step, [float(step(x)) for _ in range(3)])
"""


def run(folder: Path, source: str, *arguments: str) -> dict:
    script = folder / "script.py"
    script.write_text(source)
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False,
        env=os.environ | {"CELLC_CACHE_DIR": str(folder / "cache"), "CELLC_CHECK": "1",
                          "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def recalled(answer: dict) -> bool:
    """Whether the process linked a program that it did not make: it compiled nothing, nor did it
    write anything before it was asked for the text."""
    assert ("emit" in answer["seconds"]) != ("link" in answer["seconds"])
    return "link" in answer["seconds"] and answer["compiled"] == 0


@pytest.mark.parametrize("source, arguments", [
    (ELEMENT.replace("SCALE", "2.0"), ["3"]), (TRAINING, [])])
def test_the_second_process_has_the_program_of_the_first(tmp_path, source, arguments):
    first, second = (run(tmp_path, source, *arguments) for _ in range(2))
    assert not recalled(first) and recalled(second)
    for what in ("result", "llvm", "stages"):
        assert first[what] == second[what]
    assert "fuse" in second["stages"]


def test_a_changed_program_is_another(tmp_path):
    assert run(tmp_path, ELEMENT.replace("SCALE", "2.0"), "3")["result"] == 7.0
    changed = run(tmp_path, ELEMENT.replace("SCALE", "3.0"), "3")
    assert changed["result"] == 10.0 and not recalled(changed)


def test_faults_name_the_line_as_it_is_now(tmp_path):
    source = ELEMENT.replace("SCALE", "2.0")
    line = source.split("\n").index("    return y[i]") + 1
    run(tmp_path, source, "1")
    later = run(tmp_path, source, "9")
    assert recalled(later) and f"script.py:{line}:" in later["result"]
    moved = run(tmp_path, "\n\n" + source, "9")
    assert not recalled(moved) and f"script.py:{line + 2}:" in moved["result"]


def test_where_an_object_is_gone_the_program_is_made_again(tmp_path):
    source = ELEMENT.replace("SCALE", "2.0")
    first = run(tmp_path, source, "3")
    runtime_and_program = sorted((tmp_path / "cache").iterdir(), key=lambda p: p.stat().st_size)
    for path in runtime_and_program[1:-1]:              # not the list of them, nor the runtime
        path.unlink()
    again = run(tmp_path, source, "3")
    assert not recalled(again) and again["result"] == first["result"]
    assert recalled(run(tmp_path, source, "3"))


def scaled(factor):
    @cellc.jit
    def f(x):
        return ops.exp(x) * factor

    return f


def test_in_one_process_equal_functions_are_one_program():
    x = Tensor(np.linspace(0, 1, 7, dtype=np.float32))
    first, second, other = scaled(2.5), scaled(2.5), scaled(3.5)
    with config(CHECK=1):
        found = [cellc.inspect(f, x) for f in (first, second, other)]
    assert ["link" in f.seconds for f in found] == [False, True, False]
    assert found[0].llvm == found[1].llvm != found[2].llvm
    assert (first(x).asnumpy() == second(x).asnumpy()).all()
    assert not (first(x).asnumpy() == other(x).asnumpy()).any()


def key_of(fn, *args):
    return programs.key_of(cellc.inspect(fn, *args).stages["parse"], {}, False)


def test_what_the_text_does_not_say_is_not_remembered():
    x = Tensor(np.ones(3, np.float32))

    def shows(x):
        print(x)
        return x + 1.0

    many = np.arange(2.0 * programs.MOST_NUMBERS)

    def long(x):
        return x.sum() + Tensor(many).sum()

    assert key_of(lambda x: x + 1.0, x) is not None
    assert key_of(shows, x) is None
    assert key_of(long, x) is None or cellc.inspect(long, x).stages["parse"].inputs[1:]


def test_where_stages_are_looked_at_they_are_made():
    x = Tensor(np.ones(3, np.float32))
    for level in (1, 2):
        with config(CHECK=level):
            assert "emit" in cellc.inspect(scaled(4.5), x).seconds


def test_an_object_is_found_by_its_key(tmp_path):
    text = "define i32 @f() {\n  ret i32 7\n}\n"
    key = engine.object_key(text)
    assert engine.find(key, tmp_path) is None
    data = engine.compile_text(text, cache_dir=tmp_path)
    engine.forget()
    assert engine.find(key, tmp_path) == data
