"""Every example says what it takes, and refuses what it cannot."""

import importlib
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = ("newton", "ode", "lstm", "tree_lstm", "search", "mandelbrot", "nbody", "kalman")


@pytest.mark.parametrize("name", PROGRAMS)
def test_help(name, capsys):
    example = importlib.import_module(name)
    with pytest.raises(SystemExit) as left:
        example.main(["--help"])
    text = capsys.readouterr().out
    assert left.value.code == 0 and "--mode {graph,eager}" in text
    assert example.__doc__.splitlines()[0] in " ".join(text.split())
    assert f"python examples/{name}.py" in example.__doc__


@pytest.mark.parametrize("name, arguments, message", [
    ("newton", ["--eccentricity", "1"], "--eccentricity is 1.0, expected 0 <= e < 1"),
    ("ode", ["--tolerance", "2"], "--tolerance is 2.0, expected relative and absolute"),
    ("ode", ["--end", "-1"], "--end is -1.0"),
    ("lstm", ["--longest", "3"], "--longest is 3, expected the longest sequence, at least 4"),
    ("tree_lstm", ["--leaves", "1"], "--leaves is 1"),
    ("search", ["--first", "é"], "--first is é, expected one letter, a to z"),
    ("search", ["--beams", "29"], "--beams is 29, expected 1 to 28"),
    ("mandelbrot", ["--width", "0"], "--width is 0, expected at least 1"),
    ("nbody", ["--bodies", "1"], "--bodies is 1, expected at least 2"),
    ("kalman", ["--model", "tide"], "--model is tide, expected level or trend"),
    ("kalman", ["--mode", "fast"], "invalid choice: 'fast'"),
    ("kalman", ["--length", "many"], "invalid int value: 'many'"),
])
def test_wrong_arguments(name, arguments, message, capsys):
    with pytest.raises(SystemExit) as left:
        importlib.import_module(name).main(arguments)
    assert left.value.code == 2 and message in capsys.readouterr().err


def test_all_programs_are_here():
    others = {"harness", "grad_net", "three_styles", "train_digits"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*PROGRAMS, *others}
