"""Thousands of generated programs, the same each time. `.ci/run` asks for them: CELLC_SEEDS=1500.

They are those of test_generated_loops.py, chosen by a number instead of by hypothesis, so that a
run says of each number what every other run does. What fails here becomes a test with a name.
"""

import os
import random

import pytest
from program_strategy import Writer
from test_generated_loops import check_gradients, check_values

SEEDS = int(os.environ.get("CELLC_SEEDS") or 0)
TOGETHER = 25
pytestmark = pytest.mark.skipif(not SEEDS, reason="CELLC_SEEDS=1500 asks for them")


def source(seed: int, size: int, differentiable: bool) -> str:
    choose = random.Random(seed).randrange
    return Writer(choose, size, differentiable, raises=not differentiable).program()


def check_all(check, first: int, size: int, differentiable: bool) -> None:
    for seed in range(first, first + TOGETHER):
        text = source(seed, size, differentiable)
        try:
            check(text)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}:\n{text}\n{error}") from error


@pytest.mark.parametrize("first", range(0, max(SEEDS, 1), TOGETHER))
def test_values(first):
    check_all(check_values, first, 12, False)


@pytest.mark.parametrize("first", range(0, max(SEEDS // 3, 1), TOGETHER))
def test_gradients(first):
    check_all(check_gradients, first, 8, True)


@pytest.mark.parametrize("first", range(0, max(SEEDS // 10, 1), TOGETHER))
def test_gradients_of_gradients(first):
    check_all(lambda text: check_gradients(text, order=2), first, 5, True)
