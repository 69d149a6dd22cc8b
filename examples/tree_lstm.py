"""A Tree-LSTM by recursion: the shape of each tree is data, and so is how deep the calls go.

    python examples/tree_lstm.py                    # compiled
    python examples/tree_lstm.py --mode eager --steps 3 --batch-size 8

Tai, Socher and Manning, 2015: the state of a node of a tree is made of its symbol and the states of
its children, by gates that forget each child by itself. Here the trees are formulas of `and`, `or`,
`xor`, and of true and false; the network learns whether a formula is true. A tree is three rows of
numbers: each node's symbol, and which nodes are its children. One program serves all trees.
"""

from __future__ import annotations

import time

import numpy as np
from harness import arguments, spelled

import cellc
from cellc import Parameter, Tensor, nn, ops

FALSE, TRUE, AND, OR, XOR = range(5)
NONE = -1               # the child of a leaf
HOLDS = {AND: lambda a, b: a and b, OR: lambda a, b: a or b, XOR: lambda a, b: a != b}


class TreeLSTM(nn.Cell):
    """Whether formulas are true, as logits: symbols, left, right [trees, nodes] -> [trees].

    Node 0 is the root.
    """

    def __init__(self, hidden: int, seed: int = 1, dtype=cellc.float32):
        super().__init__()
        random = np.random.default_rng(seed)

        def weight(*shape):
            return Parameter(Tensor(random.standard_normal(shape) * hidden ** -0.5, dtype))

        self.hidden, self.dtype = hidden, dtype
        self.of_symbol = weight(5, 5 * hidden)
        self.of_left, self.of_right = weight(hidden, 5 * hidden), weight(hidden, 5 * hidden)
        self.head = weight(hidden)

    def encode(self, node, symbols, left, right):
        """(state, memory) of the tree under a node."""
        h1 = c1 = h2 = c2 = ops.zeros((self.hidden,), dtype=self.dtype)
        if left[node] != NONE:
            h1, c1 = self.encode(left[node], symbols, left, right)
            h2, c2 = self.encode(right[node], symbols, left, right)
        gates = self.of_symbol[symbols[node]] + ops.matmul(h1, self.of_left) + ops.matmul(
            h2, self.of_right)
        enter, keep1, keep2, show, new = ops.chunk(gates, 5)
        c = (ops.sigmoid(enter) * ops.tanh(new) + ops.sigmoid(keep1 + 1) * c1
             + ops.sigmoid(keep2 + 1) * c2)
        return ops.sigmoid(show) * ops.tanh(c), c

    def construct(self, symbols, left, right):
        n = len(symbols)
        logits = ops.zeros((n,), dtype=self.dtype)
        for i in range(n):
            h, _ = self.encode(0, symbols[i], left[i], right[i])
            logits[i] = ops.sum(h * self.head)
        return logits


class Loss(nn.Cell):
    """The mean cross entropy."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, symbols, left, right, truth):
        logits = self.network(symbols, left, right)
        return ops.binary_cross_entropy_with_logits(logits, truth)


def grow(random, leaves: int, rows: list) -> tuple[int, bool]:
    """Append a random formula of so many leaves to `rows`; its root's place, and its truth."""
    at = len(rows)
    if leaves == 1:
        truth = bool(random.integers(2))
        rows.append((TRUE if truth else FALSE, NONE, NONE))
        return at, truth
    rows.append(None)
    of_left = int(random.integers(1, leaves))
    (first, a), (second, b) = (grow(random, n, rows) for n in (of_left, leaves - of_left))
    symbol = int(random.integers(AND, XOR + 1))
    rows[at] = (symbol, first, second)
    return at, HOLDS[symbol](a, b)


def trees(random, count: int, most: int):
    """(symbols, left, right [count, 2 most - 1], truth [count]) of random formulas.

    They have 1 to `most` leaves.
    """
    found = np.full((3, count, 2 * most - 1), NONE, np.int32)
    truth = np.zeros(count, np.float32)
    for i in range(count):
        rows = []
        truth[i] = grow(random, int(random.integers(1, most + 1)), rows)[1]
        found[:, i, :len(rows)] = np.array(rows).T
    return (*map(Tensor, found), Tensor(truth))


def main(given=None):
    options = arguments(
        __doc__, given,
        ("--steps", int, 300, "of training, at least 1", lambda n: n >= 1),
        ("--batch-size", int, 64, "trees in a step, at least 1", lambda n: n >= 1),
        ("--leaves", int, 8, "the most of a tree, at least 2", lambda n: n >= 2),
        ("--hidden", int, 24, "size of the state, at least 1", lambda n: n >= 1),
        ("--seed", int, 1, "at least 0", lambda n: n >= 0))
    random = np.random.default_rng(options.seed)
    network = TreeLSTM(options.hidden, options.seed)
    step = nn.TrainOneStepCell(Loss(network), nn.Adam(network.trainable_params(), 1e-2)).set_train()
    losses, seconds = [], []
    for _ in range(options.steps):
        batch = trees(random, options.batch_size, options.leaves)
        started = time.perf_counter()
        losses.append(float(step(*batch)))
        seconds.append(time.perf_counter() - started)
    print(f"training step: first call {spelled(seconds[0])}, then {spelled(min(seconds))}")
    print(f"loss of the first and the last step: {losses[0]:.5f}, {losses[-1]:.5f}")

    network.set_train(False)
    symbols, left, right, truth = trees(random, 500, 2 * options.leaves)
    right_ones = (network(symbols, left, right).asnumpy() > 0) == (truth.asnumpy() > 0)
    print(f"right about {right_ones.mean():.1%} of 500 new formulas of up to {2 * options.leaves} "
          "leaves")
    return losses


if __name__ == "__main__":
    main()
