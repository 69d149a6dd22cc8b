"""An LSTM written as a Python loop, on sequences of different lengths.

    python examples/lstm.py                    # compiled
    python examples/lstm.py --mode eager       # the same cells, operation by operation

The adding problem of Hochreiter and Schmidhuber, 1997: each sequence holds random numbers, two of
them are marked, and the network is to say the sum of these two. The loop runs up to the longest
sequence of the batch; each sequence stops changing its state at its own length. Both are data: one
program serves all batches.
"""

from __future__ import annotations

import time

import numpy as np
from harness import arguments, spelled

import cellc
from cellc import Parameter, Tensor, nn, ops


class LSTM(nn.Cell):
    """The last state of each sequence: x [time, batch, features], lengths [batch] gives
    [batch, hidden].

    The four gates (input, forget, cell, output) lie side by side in the weights, as in PyTorch.
    """

    def __init__(self, features: int, hidden: int, dtype=cellc.float32):
        super().__init__()
        self.hidden, self.dtype = hidden, dtype
        random = np.random.default_rng(0)
        bound = hidden ** -0.5

        def weight(*shape):
            return Parameter(Tensor(random.uniform(-bound, bound, shape), dtype))

        self.of_input = weight(features, 4 * hidden)
        self.of_state = weight(hidden, 4 * hidden)
        self.bias = weight(4 * hidden)

    def construct(self, x, lengths):
        state = ops.zeros((x.shape[1], self.hidden), dtype=self.dtype)
        cell = ops.zeros((x.shape[1], self.hidden), dtype=self.dtype)
        given = ops.matmul(x, self.of_input) + self.bias
        for t in range(ops.amax(lengths)):
            gates = given[t] + ops.matmul(state, self.of_state)
            enter, keep, new, show = ops.split(gates, self.hidden, axis=1)
            changed = ops.sigmoid(keep) * cell + ops.sigmoid(enter) * ops.tanh(new)
            shown = ops.sigmoid(show) * ops.tanh(changed)
            goes_on = ops.expand_dims(t < lengths, 1)
            cell = ops.where(goes_on, changed, cell)
            state = ops.where(goes_on, shown, state)
        return state


class Adder(nn.Cell):
    """The number that a sequence stands for."""

    def __init__(self, hidden: int, dtype=cellc.float32):
        super().__init__()
        self.lstm = LSTM(2, hidden, dtype)
        self.head = Parameter(Tensor(np.full((hidden, 1), 0.1), dtype))

    def construct(self, x, lengths):
        return ops.matmul(self.lstm(x, lengths), self.head)[:, 0]


class Loss(nn.Cell):
    """The mean squared error."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, x, lengths, sums):
        return ops.mean((self.network(x, lengths) - sums) ** 2)


def batch_of(random, size: int, longest: int):
    """(x [longest, size, 2], lengths, sums): numbers, and ones where they are marked."""
    lengths = random.integers(longest // 2, longest + 1, size)
    x = np.zeros((longest, size, 2), np.float32)
    sums = np.zeros(size, np.float32)
    for i, n in enumerate(lengths):
        x[:n, i, 0] = random.random(n)
        marked = random.choice(n, 2, replace=False)
        x[marked, i, 1] = 1
        sums[i] = x[marked, i, 0].sum()
    return Tensor(x), Tensor(lengths.astype(np.int32)), Tensor(sums)


def train(step, random, options) -> tuple[list[float], list[float]]:
    """The losses of all steps, and the seconds that each took."""
    losses, seconds = [], []
    for _ in range(options.steps):
        batch = batch_of(random, options.batch_size, options.longest)
        started = time.perf_counter()
        losses.append(float(step(*batch)))
        seconds.append(time.perf_counter() - started)
    return losses, seconds


def main(given=None):
    options = arguments(
        __doc__, given,
        ("--steps", int, 400, "at least 1", lambda n: n >= 1),
        ("--batch-size", int, 64, "at least 1", lambda n: n >= 1),
        ("--longest", int, 20, "the longest sequence, at least 4", lambda n: n >= 4),
        ("--hidden", int, 32, "size of the state, at least 1", lambda n: n >= 1),
        ("--seed", int, 1, "at least 0", lambda n: n >= 0))
    network = Adder(options.hidden)
    step = nn.TrainOneStepCell(Loss(network), nn.Adam(network.trainable_params(), 1e-2))
    losses, seconds = train(step.set_train(), np.random.default_rng(options.seed), options)
    tenth = max(1, options.steps // 10)
    print(f"training step: first call {spelled(seconds[0])}, then {spelled(min(seconds))}")
    print(f"mean loss of the first and the last tenth: {np.mean(losses[:tenth]):.5f}, "
          f"{np.mean(losses[-tenth:]):.5f} (always saying 1 gives about 0.167)")
    return losses


if __name__ == "__main__":
    main()
