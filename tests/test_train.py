"""Checkpoints: there and back, and every way in which a file can be wrong."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, load_checkpoint, load_param_into_net, nn, save_checkpoint
from cellc.errors import CheckpointFault, TypeFault, ValueFault


def net():
    return nn.SequentialCell(nn.Dense(3, 4), nn.BatchNorm1d(4), nn.Dense(4, 2))


def test_weights_and_statistics_come_back(tmp_path):
    first, second = net(), net()
    first[1].moving_mean.set_data(Tensor([1.0, 2.0, 3.0, 4.0]))
    save_checkpoint(first, tmp_path / "net")
    loaded = load_checkpoint(tmp_path / "net.safetensors")
    assert list(loaded) == sorted(p.name for p in first.get_parameters())
    assert load_param_into_net(second, loaded) == ([], [])
    for p, q in zip(first.get_parameters(), second.get_parameters(), strict=True):
        assert p.name == q.name
        np.testing.assert_array_equal(p.asnumpy(), q.asnumpy())


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "bfloat16", "float64"])
def test_every_kind_of_dtype(tmp_path, dtype):
    x = Tensor([[1, 0, 1]], dtype)
    save_checkpoint({"x": x, "empty": Tensor(np.zeros((0, 2)))}, tmp_path / "x.safetensors")
    found = load_checkpoint(tmp_path / "x.safetensors")
    assert found["x"].dtype is x.dtype and found["x"].tolist() == x.tolist()
    assert found["empty"].shape == (0, 2)


def test_other_readers_understand_the_file(tmp_path):
    from safetensors.numpy import load_file

    save_checkpoint([{"name": "w", "data": Tensor([1.0, 2.0])}], tmp_path / "w.safetensors",
                    append_dict={"epoch": 3})
    found = load_file(tmp_path / "w.safetensors")
    assert found["w"].tolist() == [1, 2] and int(found["epoch"]) == 3


def test_filter_and_partial_loading(tmp_path):
    save_checkpoint(net(), tmp_path / "net")
    some = load_checkpoint(tmp_path / "net", filter_prefix=("0.", "1."))
    assert set(some) == {"2.weight", "2.bias"}
    target = net()
    missing, unused = load_param_into_net(target, {**some, "other": some["2.bias"]})
    assert "0.weight" in missing and unused == ["other"]
    with pytest.raises(CheckpointFault, match="the checkpoint lacks 0.weight"):
        load_param_into_net(target, some, strict_load=True)


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b[:20], lambda b: b"", lambda b: (
    b"\xff" * 8 + b[8:]), lambda b: b[:8] + b"[" + b[9:]])
def test_a_damaged_file(tmp_path, damage):
    path = tmp_path / "net.safetensors"
    save_checkpoint(net(), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointFault, match="net.safetensors is no whole checkpoint"):
        load_checkpoint(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointFault, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "absent")


@pytest.mark.parametrize("other, message", [
    (lambda: nn.SequentialCell(nn.Dense(3, 4), nn.BatchNorm1d(4), nn.Dense(4, 5)),
     r"2.weight has the shape \[2, 4\], in the checkpoint \[5, 4\]"),
    (lambda: nn.Conv2d(1, 2, 3), "no parameter of the net is in the checkpoint"),
])
def test_a_checkpoint_of_another_net_changes_nothing(tmp_path, other, message):
    save_checkpoint(other(), tmp_path / "other")
    target = net()
    before = [p.asnumpy() for p in target.get_parameters()]
    with pytest.raises(CheckpointFault, match=message):
        load_checkpoint(tmp_path / "other", net=target)
    for old, p in zip(before, target.get_parameters(), strict=True):
        np.testing.assert_array_equal(old, p.asnumpy())


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    import os

    path = tmp_path / "w.safetensors"
    save_checkpoint({"w": Tensor([1.0])}, path)

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint({"w": Tensor([2.0])}, path)
    assert load_checkpoint(path)["w"].tolist() == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_things_that_cannot_be_saved(tmp_path):
    with pytest.raises(TypeFault, match="save_checkpoint of int"):
        save_checkpoint(3, tmp_path / "x")
    with pytest.raises(TypeFault, match="found 'w': list"):
        save_checkpoint({"w": [1.0]}, tmp_path / "x")
    with pytest.raises(ValueFault, match="append_dict"):
        save_checkpoint({"w": Tensor([1.0])}, tmp_path / "x", append_dict={"w": 1})
    with pytest.raises(TypeFault, match="load_param_into_net into int"):
        load_param_into_net(3, {})


def test_the_optimiser_goes_on_where_it_stopped(tmp_path):
    x, y = Tensor(np.ones((4, 3), np.float32)), Tensor(np.array([0, 1, 0, 1]))

    def make():
        cellc.set_seed(5)
        model = nn.Dense(3, 2)
        return nn.TrainOneStepCell(nn.WithLossCell(model, nn.CrossEntropyLoss()),
                                   nn.Adam(model.trainable_params(), 0.1))

    whole, half = make(), make()
    expected = [float(whole(x, y)) for _ in range(6)]
    found = [float(half(x, y)) for _ in range(3)]
    save_checkpoint(half, tmp_path / "half")
    again = make()
    load_checkpoint(tmp_path / "half", net=again, strict_load=True)
    assert found + [float(again(x, y)) for _ in range(3)] == expected
