"""examples/tree_lstm.py against NumPy's recursion and central differences."""

import numpy as np
import pytest
import tree_lstm

import cellc
from cellc import Tensor, context


def logistic(x):
    return 1 / (1 + np.exp(-x))


def encoded(network, node, symbols, left, right):
    """(state, memory) of the tree under a node."""
    of_symbol, of_left, of_right = (p.asnumpy() for p in (
        network.of_symbol, network.of_left, network.of_right))
    h1 = c1 = h2 = c2 = np.zeros(network.hidden)
    if left[node] >= 0:
        h1, c1 = encoded(network, left[node], symbols, left, right)
        h2, c2 = encoded(network, right[node], symbols, left, right)
    enter, keep1, keep2, show, new = np.split(
        of_symbol[symbols[node]] + h1 @ of_left + h2 @ of_right, 5)
    c = (logistic(enter) * np.tanh(new) + logistic(keep1 + 1) * c1 + logistic(keep2 + 1) * c2)
    return logistic(show) * np.tanh(c), c


def leaning(n: int):
    """One tree whose left child is always a leaf: as deep as can be."""
    symbols = np.full((1, 2 * n - 1), tree_lstm.AND, np.int32)
    left, right = (np.full((1, 2 * n - 1), tree_lstm.NONE, np.int32) for _ in range(2))
    for i in range(n - 1):
        left[0, 2 * i], right[0, 2 * i] = 2 * i + 1, 2 * i + 2
        symbols[0, 2 * i + 1] = tree_lstm.TRUE
    symbols[0, -1] = tree_lstm.FALSE
    return tuple(map(Tensor, (symbols, left, right)))


@pytest.mark.parametrize("count, most", [(9, 6), (2, 1), (1, 12)])
def test_values_against_numpy(mode, count, most):
    network = tree_lstm.TreeLSTM(5, dtype=cellc.float64)
    *rows, _ = tree_lstm.trees(np.random.default_rng(4), count, most)
    found = network(*rows).asnumpy()
    head = network.head.asnumpy()
    for i, tree in enumerate(zip(*(x.asnumpy() for x in rows), strict=True)):
        assert found[i] == pytest.approx(encoded(network, 0, *tree)[0] @ head, rel=1e-12)


def test_a_deep_tree():
    """As deep as Python's own recursion goes, and deeper."""
    context.set_context(mode=context.GRAPH_MODE)
    try:
        network = tree_lstm.TreeLSTM(3, dtype=cellc.float64)
        for depth in (50, 5000):
            value, gradient = cellc.value_and_grad(network, None, network.head)(*leaning(depth))
            assert np.isfinite(value.asnumpy()).all()
            assert (gradient.asnumpy() @ network.head.asnumpy()) == pytest.approx(
                float(value[0]), rel=1e-9)
    finally:
        context.set_context(mode=context.PYNATIVE_MODE)


def test_gradients_against_central_differences():
    context.set_context(mode=context.GRAPH_MODE)
    try:
        loss = tree_lstm.Loss(tree_lstm.TreeLSTM(4, dtype=cellc.float64))
        *rows, truth = tree_lstm.trees(np.random.default_rng(5), 9, 7)
        args = *rows, Tensor(truth.asnumpy(), cellc.float64)
        weights = loss.trainable_params()
        _, found = cellc.value_and_grad(loss, None, weights)(*args)
        random = np.random.default_rng(6)
        for p, gradient in zip(weights, found, strict=True):
            first = p.asnumpy().copy()
            direction = random.standard_normal(first.shape)
            ends = []
            for side in (1, -1):
                p.set_data(Tensor(first + side * 1e-5 * direction))
                ends.append(float(loss(*args)))
            p.set_data(Tensor(first))
            assert (gradient.asnumpy() * direction).sum() == pytest.approx(
                (ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-9)
    finally:
        context.set_context(mode=context.PYNATIVE_MODE)


def test_it_learns(main_in):
    losses, text = main_in(tree_lstm, "graph", "--steps", 250, "--batch-size", 32)
    assert losses[-1] < 0.05 < 0.5 < losses[0]
    assert float(text.split("right about ")[1].split("%")[0]) > 95


def test_both_modes_have_the_same_losses(main_in):
    arguments = "--steps", 3, "--batch-size", 10, "--hidden", 4, "--leaves", 3
    found, same = (main_in(tree_lstm, mode, *arguments)[0] for mode in ("graph", "eager"))
    np.testing.assert_allclose(found, same, rtol=1e-4)
