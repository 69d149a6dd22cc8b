"""Greedy and beam search over a small recurrent network, each a `while` that ends on an end token.

    python examples/search.py                    # compiled
    python examples/search.py --mode eager       # the same cells, operation by operation
    python examples/search.py --first e --beams 8

A network learns to spell the numbers from one to ninety nine, letter by letter. Then it is asked
how a number goes on that begins with some letter. Greedy search takes the likeliest letter each
time; beam search keeps the likeliest few beginnings, as rows of tensors. Both stop when what they
have found has ended, so how long they run depends on the data.
"""

from __future__ import annotations

import numpy as np
from harness import arguments, report

import cellc
from cellc import Parameter, Tensor, nn, ops

LETTERS = ". abcdefghijklmnopqrstuvwxyz"
END = 0
LONGEST = 16
UNITS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
         "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
NUMBERS = [*UNITS, *TEENS, *(f"{ten} {unit}".strip() for ten in TENS for unit in ("", *UNITS))]


class Speller(nn.Cell):
    """How likely each letter is after those so far, for which the state [rows, hidden] stands."""

    def __init__(self, hidden: int, seed: int):
        super().__init__()
        random = np.random.default_rng(seed)
        n = len(LETTERS)

        def weight(*shape):
            return Parameter(Tensor(random.standard_normal(shape) * hidden ** -0.5, cellc.float32))

        self.of_letter, self.of_state = weight(n, 3 * hidden), weight(hidden, 3 * hidden)
        self.to_letter = weight(hidden, n)
        self.hidden = hidden

    def construct(self, letters, state):
        """(logarithms of the likelihoods [rows, letters], the new state): a gated unit."""
        given = ops.chunk(self.of_letter[letters], 3, axis=1)
        kept = ops.chunk(ops.matmul(state, self.of_state), 3, axis=1)
        reset, update = ops.sigmoid(given[0] + kept[0]), ops.sigmoid(given[1] + kept[1])
        new = ops.tanh(given[2] + reset * kept[2])
        state = update * state + (1 - update) * new
        return ops.log_softmax(ops.matmul(state, self.to_letter), axis=1), state


class Loss(nn.Cell):
    """How unlikely the words are, per letter: words [time, batch], padded with END."""

    def __init__(self, speller):
        super().__init__(auto_prefix=False)
        self.speller = speller

    def construct(self, words):
        state = ops.zeros((words.shape[1], self.speller.hidden))
        total = 0.0
        ended = words[0] == END
        for t in range(1, len(words)):
            likely, state = self.speller(words[t - 1], state)
            own = ops.gather_elements(likely, 1, ops.expand_dims(words[t], 1))[:, 0]
            total = total - ops.sum(ops.where(ended, 0.0, own))
            ended = ended | (words[t] == END)
        return total / words.shape[1]


class Greedy(nn.Cell):
    """The likeliest letter each time: (letters, how many, the logarithm of their likelihood)."""

    def __init__(self, speller):
        super().__init__(auto_prefix=False)
        self.speller = speller

    def construct(self, first):
        letters = ops.zeros((LONGEST,), dtype="int32")
        state = ops.zeros((1, self.speller.hidden))
        letter, n, score = first, 0, 0.0
        letters[0] = letter
        while letter != END and n < LONGEST - 1:
            likely, state = self.speller(ops.reshape(letter, (1,)), state)
            letter = ops.argmax(likely[0]).astype(cellc.int32)
            score = score + likely[0, letter]
            n += 1
            letters[n] = letter
        return letters, n, score


class Beam(nn.Cell):
    """The likeliest `beams` words found: (letters [beams, LONGEST], logarithms of likelihoods)."""

    def __init__(self, speller, beams: int):
        super().__init__(auto_prefix=False)
        self.speller, self.beams = speller, beams

    def construct(self, first):
        size, n_letters = self.beams, len(LETTERS)
        only_end = ops.where(ops.arange(n_letters) == END, 0.0, -1e9)
        letters = ops.zeros((size, LONGEST), dtype="int32")
        letters[:, 0] = first
        scores = ops.where(ops.arange(size) == 0, 0.0, -1e9)      # all begin alike: one is enough
        state = ops.zeros((size, self.speller.hidden))
        ended = ops.zeros((size,), dtype="bool")
        n = 0
        while n < LONGEST - 1 and not ops.all(ended):
            likely, state = self.speller(letters[:, n], state)
            likely = ops.where(ops.expand_dims(ended, 1), only_end, likely)
            totals = ops.reshape(ops.expand_dims(scores, 1) + likely, (-1,))
            scores, places = ops.topk(totals, size)
            parents, chosen = places // n_letters, places % n_letters
            n += 1
            letters, state = letters[parents], state[parents]
            letters[:, n] = chosen
            ended = ended[parents] | (chosen == END)
        return letters, scores


def encoded(words) -> np.ndarray:
    """Letters as numbers [time, words], padded with END."""
    found = np.full((LONGEST, len(words)), END, np.int32)
    for i, word in enumerate(words):
        found[:len(word), i] = [LETTERS.index(letter) for letter in word]
    return found


def spelled(letters) -> str:
    """The word up to its end."""
    return "".join(LETTERS[i] for i in letters).split(LETTERS[END])[0]


def trained(options) -> Speller:
    """A network that has seen all the numbers so often."""
    speller = Speller(options.hidden, options.seed)
    optimizer = nn.Adam(speller.trainable_params(), 1e-2)
    step = nn.TrainOneStepCell(Loss(speller), optimizer).set_train()
    words = Tensor(encoded(NUMBERS))
    first = report("training step", step, words, seconds=0)
    for _ in range(options.steps - 1):
        last = step(words)
    print(f"loss of the first and the last step: {float(first):.4f}, {float(last):.4f}")
    return speller


def main(given=None):
    options = arguments(
        __doc__, given,
        ("--first", str, "t", "one letter, a to z",
         lambda letter: len(letter) == 1 and letter in LETTERS[2:]),
        ("--beams", int, 4, "1 to 28", lambda n: 1 <= n <= len(LETTERS)),
        ("--steps", int, 200, "of training, at least 2", lambda n: n >= 2),
        ("--hidden", int, 32, "size of the state, at least 1", lambda n: n >= 1),
        ("--seed", int, 1, "at least 0", lambda n: n >= 0))
    speller = trained(options)
    first = Tensor(np.int32(LETTERS.index(options.first)))
    greedy = report("greedy search", Greedy(speller), first)
    beam = report("beam search", Beam(speller, options.beams), first)
    print(f"greedy: {float(greedy[2]):8.4f}  {spelled(greedy[0].asnumpy())}")
    for letters, score in zip(beam[0].asnumpy(), beam[1].asnumpy(), strict=True):
        print(f"beam:   {score:8.4f}  {spelled(letters)}")
    return speller, greedy, beam


if __name__ == "__main__":
    main()
