"""MindSpore programs, unchanged but for their imports, give here what MindSpore gives.

The programs are in data/mindspore_programs, MindSpore's own results in
data/mindspore_expected.json (recorded by data/make_mindspore_expected.py, in graph mode). Each
runs in graph mode and in eager mode. Structures, dtypes, shapes and texts have to be the same,
values within the tolerance of the program. Where MindSpore's answer is wrong the table says what
Python gives instead, and why.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cellc import context

DATA = Path(__file__).parent / "data"
sys.path.insert(0, str(DATA))

from mindspore_programs import PROGRAMS, encode  # noqa: E402

RECORD = json.loads((DATA / "mindspore_expected.json").read_text(encoding="utf-8"))
EXPECTED = RECORD["results"]


@pytest.fixture(params=["graph", "eager"])
def mode(request):
    before = context.get_context("mode")
    context.set_mode(context.GRAPH_MODE if request.param == "graph" else context.PYNATIVE_MODE)
    yield
    context.set_mode(before)


@pytest.mark.parametrize("name", PROGRAMS)
def test_same_as_mindspore(name, mode):
    program = PROGRAMS[name]
    expected = program.instead
    if expected is None or isinstance(expected, str) and expected in EXPECTED:
        expected = EXPECTED[expected or name]
    compare(encode(program.run()), expected, program.rtol, "result")


def compare(found, expected, rtol, where):
    """Two encoded results are the same; `where` is the path to them."""
    if not isinstance(expected, dict):
        if isinstance(expected, float) and isinstance(found, float):
            assert found == pytest.approx(expected, rel=rtol, abs=rtol, nan_ok=True), where
        else:
            assert type(found) is type(expected) and found == expected, where
        return
    assert isinstance(found, dict) and found.keys() == expected.keys(), f"{where}: {found}"
    if "dtype" in expected:
        compare_arrays(found, expected, rtol, where)
        return
    (kind, items), = expected.items()
    assert len(found[kind]) == len(items), f"{where}: a {kind} of {len(found[kind])}"
    for i, (one, other) in enumerate(zip(found[kind], items, strict=True)):
        if kind == "dict":
            compare(one[0], other[0], rtol, f"{where} key {i}")
            compare(one[1], other[1], rtol, f"{where}[{other[0]!r}]")
        else:
            compare(one, other, rtol, f"{where}[{i}]")


def compare_arrays(found, expected, rtol, where):
    kinds = [(x["dtype"], x["shape"]) for x in (found, expected)]
    assert kinds[0] == kinds[1], f"{where}: found {kinds[0]}, expected {kinds[1]}"
    one, other = (np.array(x["values"]) for x in (found, expected))
    finite = other[np.isfinite(other)] if other.dtype.kind == "f" else ()
    scale = max(map(abs, finite), default=0.0)
    np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * scale, err_msg=where)


def test_the_record_is_of_these_programs():
    """Every program has an answer, and no answer is left over."""
    wanted = {name for name, program in PROGRAMS.items() if program.instead is None}
    assert wanted == set(EXPECTED)


def test_departures_from_mindspore_say_why():
    assert all(program.note for program in PROGRAMS.values() if program.instead is not None)


def test_the_comparison_sees_differences():
    """A comparison that sees nothing would pass for ever."""
    array = {"dtype": "float32", "shape": [2], "values": [1.0, 2.0]}
    for other in ({**array, "dtype": "float64"}, {**array, "values": [1.0, 2.1]},
                  {**array, "shape": [2, 1]}, {"tuple": [array]}, 1.0):
        with pytest.raises(AssertionError):
            compare(array, other, 2e-5, "here")
    with pytest.raises(AssertionError):
        compare({"tuple": [array]}, {"list": [array]}, 2e-5, "here")
