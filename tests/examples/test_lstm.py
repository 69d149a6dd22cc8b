"""examples/lstm.py against PyTorch's nn.LSTM on packed sequences, and central differences."""

import lstm
import numpy as np
import pytest

import cellc
from cellc import Tensor, context, nn


def batch(seed=0, size=5, longest=9):
    x, lengths, sums = lstm.batch_of(np.random.default_rng(seed), size, longest)
    return Tensor(x.asnumpy(), cellc.float64), lengths, Tensor(sums.asnumpy(), cellc.float64)


def gradients_of(loss, *args):
    """The loss, and its gradients by all Parameters, by their names."""
    weights = loss.trainable_params()
    value, found = cellc.value_and_grad(loss, None, weights)(*args)
    return float(value), {p.name: g.asnumpy() for p, g in zip(weights, found, strict=True)}


def test_against_pytorch(mode):
    torch = pytest.importorskip("torch")
    loss = lstm.Loss(lstm.Adder(6, cellc.float64))
    x, lengths, sums = batch()
    value, found = gradients_of(loss, x, lengths, sums)

    own = loss.network.lstm
    theirs = torch.nn.LSTM(2, 6).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(torch.tensor(own.of_input.asnumpy().T))
        theirs.weight_hh_l0.copy_(torch.tensor(own.of_state.asnumpy().T))
        theirs.bias_ih_l0.copy_(torch.tensor(own.bias.asnumpy()))
        theirs.bias_hh_l0.zero_()
    head = torch.tensor(loss.network.head.asnumpy(), requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.tensor(x.asnumpy()), torch.tensor(lengths.asnumpy()), enforce_sorted=False)
    last = theirs(packed)[1][0][0]
    error = ((last @ head)[:, 0] - torch.tensor(sums.asnumpy())).pow(2).mean()
    error.backward()
    assert value == pytest.approx(error.item(), rel=1e-12)
    for name, expected in (("lstm.of_input", theirs.weight_ih_l0.grad.T),
                           ("lstm.of_state", theirs.weight_hh_l0.grad.T),
                           ("lstm.bias", theirs.bias_ih_l0.grad),
                           ("head", head.grad)):
        np.testing.assert_allclose(found[name], expected.numpy(), rtol=1e-9, atol=1e-13)


def test_against_central_differences():
    context.set_context(mode=context.GRAPH_MODE)
    try:
        loss = lstm.Loss(lstm.Adder(3, cellc.float64))
        args = batch(1, size=4, longest=12)
        _, found = gradients_of(loss, *args)
        random = np.random.default_rng(2)
        for p in loss.trainable_params():
            first = p.asnumpy().copy()
            direction = random.standard_normal(first.shape)
            ends = []
            for side in (1, -1):
                p.set_data(Tensor(first + side * 1e-5 * direction))
                ends.append(float(loss(*args)))
            p.set_data(Tensor(first))
            assert (found[p.name] * direction).sum() == pytest.approx(
                (ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-9)
    finally:
        context.set_context(mode=context.PYNATIVE_MODE)


def test_a_sequence_stops_at_its_length(mode):
    """What stands behind the end of a sequence changes nothing, nor does a longer neighbour."""
    network = lstm.LSTM(2, 4)
    x, lengths, _ = lstm.batch_of(np.random.default_rng(3), 6, 10)
    spoilt = x.asnumpy().copy()
    for i, n in enumerate(lengths.asnumpy()):
        spoilt[n:, i] = 1e6
    found = network(x, lengths).asnumpy()
    np.testing.assert_array_equal(network(Tensor(spoilt), lengths).asnumpy(), found)
    for i, n in enumerate(lengths.asnumpy()):
        alone = network(Tensor(x.asnumpy()[:, i:i + 1]), Tensor(np.array([n], np.int32)))
        np.testing.assert_allclose(alone.asnumpy()[0], found[i], rtol=1e-5, atol=1e-6)


def test_it_learns(main_in):
    losses, text = main_in(lstm, "graph", "--steps", 300)
    assert np.mean(losses[-20:]) < 0.03 < 0.15 < np.mean(losses[:20])
    assert "first call" in text


def test_both_modes_have_the_same_losses(main_in):
    arguments = "--steps", 8, "--batch-size", 5, "--longest", 12, "--hidden", 7
    found, same = (main_in(lstm, mode, *arguments)[0] for mode in ("graph", "eager"))
    np.testing.assert_allclose(found, same, rtol=1e-4)


def test_one_program_serves_all_lengths(primitives):
    network = lstm.Adder(4)
    step = nn.TrainOneStepCell(lstm.Loss(network), nn.SGD(network.trainable_params(), 0.1))
    x, lengths, sums = lstm.batch_of(np.random.default_rng(0), 3, 1000)
    names = primitives(step, x, lengths, sums)
    assert names.count("while") == 2 and len(names) < 400
