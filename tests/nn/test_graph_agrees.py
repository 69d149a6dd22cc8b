"""Graph mode agrees with eager mode for every layer, loss and optimiser, gradients included."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, nn
from tests.nn.table import LAYERS, LOSSES, OPTIMIZERS, ROWS, floats, labels

pytest.importorskip("cellc.compile")

# Sums are taken in another order and functions differ by a few ulp; nothing else may differ. Where
# terms as large as the largest result cancel, the rest is off by a part of these.
RELATIVE, OF_THE_LARGEST = 2e-5, 2e-6


def flat(result):
    if isinstance(result, (tuple, list)):
        return [x for item in result for x in flat(item)]
    return [np.asarray(result)]


def in_both_modes(run):
    """What `run` gives in eager and in graph mode, from the same seed."""
    results = []
    for mode in (context.PYNATIVE_MODE, context.GRAPH_MODE):
        context.set_context(mode=mode)
        cellc.set_seed(7)
        results.append(flat(run()))
    return results


def agree(run):
    eager, graph = in_both_modes(run)
    assert len(eager) == len(graph)
    for a, b in zip(eager, graph):
        assert a.dtype == b.dtype and a.shape == b.shape
        largest = max(1.0, np.abs(a, dtype=float).max(initial=0, where=np.isfinite(a)))
        np.testing.assert_allclose(b, a, RELATIVE, OF_THE_LARGEST * largest)


CASES = LAYERS + LOSSES


@pytest.mark.parametrize("name, make, inputs", CASES, ids=[c[0] for c in CASES])
def test_value(name, make, inputs):
    def run():
        cell = make()
        return cell(*inputs), [p.asnumpy() for p in cell.get_parameters()]

    agree(run)


@pytest.mark.parametrize("name, make, inputs", CASES, ids=[c[0] for c in CASES])
def test_gradient(name, make, inputs):
    shape = make()(*inputs).shape
    sens = Tensor(np.random.default_rng(1).normal(size=shape).astype(np.float32))

    def run():
        cell = make()
        weights = cell.trainable_params()
        return cellc.GradOperation(get_all=True, get_by_list=bool(weights), sens_param=True)(
            cell, weights or None)(*inputs, sens)

    agree(run)


@pytest.mark.parametrize("name, make", OPTIMIZERS, ids=[o[0] for o in OPTIMIZERS])
def test_training(name, make):
    y = labels(3, 6)

    def run():
        net = nn.SequentialCell(nn.Dense(5, 4), nn.Tanh(), nn.Dense(4, 3))
        loss = nn.WithLossCell(net, nn.CrossEntropyLoss())
        step = nn.TrainOneStepCell(loss, make(net.trainable_params()))
        losses = [step(ROWS, y) for _ in range(4)]
        return losses, [p.asnumpy() for p in step.get_parameters()]

    agree(run)


def test_dropout_draws_anew_at_each_call_and_starts_over_with_the_seed():
    drop = nn.Dropout(p=0.5).set_train()
    first, again = in_both_modes(lambda: (drop(ROWS), drop(ROWS)))
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    assert (first[0] != first[1]).any()


def test_a_changed_flag_changes_the_compiled_result():
    context.set_context(mode=context.GRAPH_MODE)
    drop = nn.Dropout(p=0.5)
    np.testing.assert_array_equal(drop(ROWS).asnumpy(), ROWS.asnumpy())
    drop.set_train()
    assert (drop(ROWS).asnumpy() == 0).any()
    drop.set_train(False)
    np.testing.assert_array_equal(drop(ROWS).asnumpy(), ROWS.asnumpy())


class Hinted(nn.Cell):
    def construct(self, x: Tensor["f32[n,4]"], y: Tensor["f32[4,n]"]):  # noqa: F821
        return x @ y


def test_hints_of_shapes_are_promises():
    context.set_context(mode=context.GRAPH_MODE)
    cell = Hinted()
    assert cell(cellc.ops.ones((2, 4)), cellc.ops.ones((4, 2))).shape == (2, 2)
    with pytest.raises(cellc.errors.ShapeFault, match="y"):
        cell(cellc.ops.ones((2, 4)), cellc.ops.ones((4, 3)))
    with pytest.raises(cellc.errors.CellcError, match="x"):
        cell(cellc.ops.ones((2, 5)), cellc.ops.ones((5, 2)))


class Small(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.pool, self.flatten = nn.MaxPool2d(2, 2), nn.Flatten()
        self.dense, self.drop = nn.Dense(64, 10), nn.Dropout(p=0.2)

    def construct(self, x):
        x = self.pool(cellc.ops.relu(self.norm(self.conv(x))))
        return self.dense(self.drop(self.flatten(x)))


def test_batches_of_many_sizes_share_one_program():
    sizes = (4, 7, 9, 16, 3, 33, 5)
    images = [floats(n, 1, 8, 8) for n in sizes]
    targets = [labels(10, n) for n in sizes]
    steps = []

    def run():
        net = Small()
        step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.CrossEntropyLoss()),
                                   nn.Momentum(net.trainable_params(), 0.01, 0.9)).set_train()
        steps.append(step)
        return [step(x, y) for x, y in zip(images, targets)]

    agree(run)
    assert len(vars(steps[1])["_cellc_compiled"][None].variants) <= 3
