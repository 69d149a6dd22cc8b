"""The examples do what they say: the digits are learnt in both modes to the same losses."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(name, *arguments, cwd, ok=True):
    done = subprocess.run([sys.executable, str(ROOT / "examples" / name), *arguments], cwd=cwd,
                          capture_output=True, text=True, timeout=300,
                          env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(cwd),
                               "CELLC_CACHE_DIR": "0", "MPLBACKEND": "Agg"})
    assert (done.returncode == 0) is ok, done.stderr[-2000:]
    return done


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_digits_are_learnt(tmp_path, optimizer):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    done = run("train_digits.py", "--optimizer", optimizer, cwd=tmp_path)
    accuracy = float(re.search(r"held-out accuracy: ([\d.]+)%", done.stdout)[1])
    assert accuracy >= 98
    assert "compilation included" in done.stdout and "img/s" in done.stderr
    assert (tmp_path / "digits_output/confusion.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "digits_output/lenet.safetensors").stat().st_size > 100_000


def test_both_modes_have_the_same_losses(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    losses = [re.search(r"last epoch: ([\d.]+), ([\d.]+)", run(
        "train_digits.py", "--epochs", "2", "--mode", mode, cwd=tmp_path).stdout).groups()
        for mode in ("graph", "eager")]
    for graph, eager in zip(*losses):
        assert float(graph) == pytest.approx(float(eager), abs=1e-4)


@pytest.mark.parametrize("arguments, message", [
    (["--epochs", "0"], "--epochs is 0, expected at least 1"),
    (["--batch-size", "5000"], "--batch-size is 5000, expected 1 to 1437"),
    (["--seed", "-1"], "--seed is -1"),
    (["--device", "TPU"], "device_target is 'TPU'"),
    (["--mode", "fast"], "invalid choice: 'fast'"),
    (["--optimizer", "sgdd"], "invalid choice: 'sgdd'"),
])
def test_wrong_arguments(tmp_path, arguments, message):
    done = run("train_digits.py", *arguments, cwd=tmp_path, ok=False)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_three_styles_end_alike(tmp_path):
    done = run("three_styles.py", cwd=tmp_path)
    rows = [list(map(float, re.findall(r"(-?\d\.\d+)", line)))
            for line in done.stdout.splitlines()[:3]]
    assert len(rows) == 3 and all(len(row) == 4 for row in rows)
    for row in rows[1:]:
        assert row == pytest.approx(rows[0], abs=1e-5)


@pytest.mark.parametrize("arguments", [[], ["eager"]])
def test_the_gradient_of_the_small_net(tmp_path, arguments):
    done = run("grad_net.py", *arguments, cwd=tmp_path)
    found = list(map(float, re.findall(r"\d+\.\d+", done.stdout)))
    assert found == pytest.approx([1.41, 1.6, 6.6] * 2, rel=1e-6)


@pytest.mark.parametrize("mode", ["graph", "eager"])
def test_newton_as_a_program(tmp_path, mode):
    """The others, and what they compute: tests/examples."""
    done = run("newton.py", "--mode", mode, "--planets", "30", cwd=tmp_path)
    assert float(re.search(r"implicit function theorem: (\S+)", done.stdout)[1]) < 1e-9
    assert "E = 1.384412720202 after 6 rounds" in done.stdout
