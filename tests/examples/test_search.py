"""examples/search.py against the same searches over lists in NumPy."""

import numpy as np
import pytest
import search

from cellc import Tensor


def logistic(x):
    return 1 / (1 + np.exp(-x))


class Spelling:
    """The network in NumPy, one state at a time."""

    def __init__(self, speller):
        self.of_letter, self.of_state, self.to_letter = (
            p.asnumpy().astype(np.float64)
            for p in (speller.of_letter, speller.of_state, speller.to_letter))

    def start(self):
        return np.zeros(len(self.of_state))

    def step(self, letter, state):
        given = np.split(self.of_letter[letter], 3)
        kept = np.split(state @ self.of_state, 3)
        reset, update = logistic(given[0] + kept[0]), logistic(given[1] + kept[1])
        state = update * state + (1 - update) * np.tanh(given[2] + reset * kept[2])
        logits = state @ self.to_letter
        return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum()), state


def greedy(network, first):
    letters, state, score = [first], network.start(), 0.0
    while letters[-1] != search.END and len(letters) < search.LONGEST:
        likely, state = network.step(letters[-1], state)
        letters.append(int(np.argmax(likely)))
        score += likely[letters[-1]]
    return letters, score


def beam(network, first, size):
    """[(score, letters)], the best first."""
    held = [(0.0, [first], network.start())]
    while any(letters[-1] != search.END for _, letters, _ in held) and max(
            len(letters) for _, letters, _ in held) < search.LONGEST:
        longer = []
        for score, letters, state in held:
            if letters[-1] == search.END and len(letters) > 1:
                longer.append((score, letters, state))
                continue
            likely, new = network.step(letters[-1], state)
            longer += [(score + likely[i], [*letters, i], new) for i in range(len(likely))]
        held = sorted(longer, key=lambda found: -found[0])[:size]
    return [(score, letters) for score, letters, _ in held]


@pytest.mark.parametrize("arguments", [
    ("--steps", 120),
    ("--steps", 30, "--first", "s", "--beams", 7, "--hidden", 16, "--seed", 5),
    ("--steps", 2, "--first", "z", "--beams", 1),       # knows nothing: words do not end
])
def test_searches(main_in, arguments):
    (speller, found, beams), text = main_in(search, "graph", *arguments)
    network, first = Spelling(speller), search.LETTERS.index(
        dict(zip(arguments[::2], arguments[1::2])).get("--first", "t"))
    letters, score = greedy(network, first)
    assert found[0].asnumpy()[:found[1] + 1].tolist() == letters
    assert float(found[2]) == pytest.approx(score, rel=1e-4)

    expected = beam(network, first, len(beams[1]))
    assert beams[1].asnumpy() == pytest.approx([s for s, _ in expected], rel=1e-4)
    for row, (_, letters) in zip(beams[0].asnumpy().tolist(), expected, strict=True):
        assert row == letters + [0] * (search.LONGEST - len(letters))
    assert f"beam:   {expected[0][0]:8.4f}"[:-2] in text


def test_what_a_beam_finds_is_no_less_likely_for_a_word(main_in):
    """After training the words are numbers, and the beam's best is at least greedy's."""
    (_, found, beams), _ = main_in(search, "graph", "--steps", 200)
    for letters in beams[0].asnumpy():
        assert search.spelled(letters) in search.NUMBERS
    assert float(beams[1][0]) >= float(found[2]) - 1e-4


def test_both_modes(mode):
    speller = search.Speller(8, 3)
    first = Tensor(np.int32(7))
    network = Spelling(speller)
    letters, n, score = search.Greedy(speller)(first)
    expected = greedy(network, 7)
    assert letters.asnumpy()[:int(n) + 1].tolist() == expected[0]
    found, scores = search.Beam(speller, 3)(first)
    expected = beam(network, 7, 3)
    assert scores.asnumpy() == pytest.approx([s for s, _ in expected], rel=1e-4)
    assert found.asnumpy()[0][:len(expected[0][1])].tolist() == expected[0][1]


def test_each_is_one_loop(primitives):
    speller, first = search.Speller(8, 3), Tensor(np.int32(7))
    for cell in (search.Greedy(speller), search.Beam(speller, 4)):
        names = primitives(cell, first)
        assert names.count("while") == 1 and len(names) < 300
