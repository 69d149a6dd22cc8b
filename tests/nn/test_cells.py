"""Cell and its containers: finding, naming, printing, changing; what is refused, and where."""

import copy
import pickle

import numpy as np
import pytest

from cellc import Parameter, ParameterTuple, Tensor, nn, ops
from cellc.errors import AttributeFault, IndexFault, KeyFault, TypeFault, ValueFault


class Block(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(3, 3)
        self.norm = nn.BatchNorm1d(3)

    def construct(self, x):
        return self.norm(self.dense(x))


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.scale = Parameter(Tensor(2.0), name="own_name")
        self.blocks = nn.CellList([Block(), Block()])
        self.head = nn.Dense(3, 2, has_bias=False)

    def construct(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x) * self.scale


NAMES = ["own_name", "blocks.0.dense.weight", "blocks.0.dense.bias", "blocks.0.norm.moving_mean",
         "blocks.0.norm.moving_variance", "blocks.0.norm.gamma", "blocks.0.norm.beta"]


def test_parameters_by_path():
    net = Net()
    assert [p.name for p in net.get_parameters()][:7] == NAMES
    assert [n for n, _ in net.parameters_and_names()][:2] == ["scale", NAMES[1]]
    assert len(net.trainable_params()) == 10 and len(net.untrainable_params()) == 4
    assert list(net.parameters_dict())[-1] == "head.weight"
    assert [p.name for p in net.get_parameters(expand=False)] == ["own_name"]
    net.update_parameters_name("net.")
    assert net.scale.name == "net.scale" and net.head.weight.name == "net.head.weight"


def test_cells_by_path():
    net = Net()
    assert list(net.name_cells()) == ["blocks", "head"] and list(net.cells()) == [
        net.blocks, net.head]
    assert [n for n, _ in net.cells_and_names()] == [
        "", "blocks", "blocks.0", "blocks.0.dense", "blocks.0.norm", "blocks.1", "blocks.1.dense",
        "blocks.1.norm", "head"]
    names = []
    net.apply(lambda cell: names.append(type(cell).__name__))
    assert names[0] == "Dense" and names[-1] == "Net"


def test_a_cell_shared_by_two_places_counts_once():
    shared = nn.Dense(2, 2)
    net = nn.SequentialCell(shared, nn.ReLU(), shared)
    assert len(net.trainable_params()) == 2 and len(net) == 3
    assert net(Tensor(np.ones((1, 2), np.float32))).shape == (1, 2)


def test_flags_reach_all_cells():
    net = Net().set_train()
    assert all(cell.training for _, cell in net.cells_and_names())
    assert net.set_train(False) is net and not net.blocks[1].norm.training
    assert net.set_grad().requires_grad


def test_repr():
    assert repr(Block()) == (
        "Block(\n"
        "  (dense): Dense(input_channels=3, output_channels=3, has_bias=True)\n"
        f"  (norm): BatchNorm1d({Block().norm.extend_repr()})\n"
        ")")
    assert repr(nn.ReLU()) == "ReLU()"
    assert "  (blocks): CellList(\n    (0): Block(\n      (dense)" in repr(Net())


def test_a_parameter_is_assigned_not_replaced():
    net = Net()
    before = net.scale
    net.scale = Tensor(5.0)
    assert net.scale is before and before.item() == 5
    net.scale = Parameter(Tensor(1.0), name="new")
    assert net.scale is not before
    net.extra = ParameterTuple([Parameter(Tensor(1.0), name="in_tuple")])
    assert "in_tuple" in net.parameters_dict()
    net.register_buffer("mask", Tensor([1.0]))
    assert not net.mask.requires_grad
    del net.mask
    assert not hasattr(net, "mask")


def test_two_parameters_of_one_name():
    class Twice(nn.Cell):
        def __init__(self):
            super().__init__()
            self.a = Parameter(Tensor(1.0), name="w")
            self.b = Parameter(Tensor(2.0), name="w")

    with pytest.raises(ValueFault) as caught:
        Twice()
    fault = caught.value
    assert fault.message == "the name 'w' is given to two Parameters: a and b"
    assert fault.loc.file == __file__ and "self.b = Parameter" in fault.loc.snippet()
    assert fault.loc.col == 13

    outer = nn.WithLossCell(nn.Dense(2, 2), nn.MSELoss())
    with pytest.raises(ValueFault, match="'weight' is given to two Parameters"):
        outer.second = nn.Dense(2, 2)
    assert "second" not in vars(outer)


def test_super_init_comes_first():
    class Late(nn.Cell):
        def __init__(self):
            self.dense = nn.Dense(2, 2)
            super().__init__()

    with pytest.raises(AttributeFault, match="before super") as caught:
        Late()
    assert "self.dense = nn.Dense(2, 2)" in caught.value.loc.snippet()


def test_what_is_missing_is_said():
    with pytest.raises(AttributeFault, match="Net has no attribute dense"):
        Net().dense
    with pytest.raises(AttributeFault, match="CellList has no construct method"):
        nn.CellList([nn.ReLU()])(Tensor([1.0]))
    with pytest.raises(TypeFault, match=r"ReLU.construct\(\) missing 1 required"):
        nn.ReLU()()
    with pytest.raises(TypeFault, match="takes 2 positional arguments but 3"):
        nn.ReLU()(Tensor([1.0]), Tensor([1.0]))


def test_a_type_error_of_the_users_own_stays_itself():
    class Wrong(nn.Cell):
        def construct(self, x):
            return len(3)

    with pytest.raises(TypeError, match="has no len") as caught:
        Wrong()(Tensor([1.0]))
    assert not isinstance(caught.value, TypeFault)


def test_children_by_name():
    net = nn.Cell()
    net.insert_child_to_cell("a", nn.Dense(2, 2))
    assert net.a.weight.name == "a.weight"
    for name, cell, fault in (("a", nn.ReLU(), KeyFault), ("", nn.ReLU(), KeyFault),
                              ("b", 3, TypeFault)):
        with pytest.raises(fault):
            net.insert_child_to_cell(name, cell)
    net.insert_param_to_cell("w", Parameter(Tensor(1.0)))
    assert net.w.name == "w"
    with pytest.raises(KeyFault, match="has a dot"):
        net.insert_param_to_cell("x.y", Parameter(Tensor(1.0)))


def test_copies_are_their_own():
    net = Net()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net.blocks))):
        assert [p.name for p in other.get_parameters()][-3:]
        other.set_train()
    twin = copy.deepcopy(net)
    twin.scale.set_data(Tensor(9.0))
    assert net.scale.item() == 2


def test_setting_an_attribute_raises_the_epoch(monkeypatch):
    from cellc import epoch

    raised = []
    monkeypatch.setattr(epoch, "_bump", [lambda: raised.append(1)])
    net = Net()
    raised.clear()
    net.k = 1
    net.set_train()
    assert len(raised) > 5
    raised.clear()
    assert net.k == 1 and net.training
    assert not raised


def test_lists_of_cells():
    cells = nn.CellList([nn.Dense(1, 1), nn.ReLU()])
    cells.append(nn.Tanh()).extend([nn.Sigmoid()])
    assert [type(c).__name__ for c in cells] == ["Dense", "ReLU", "Tanh", "Sigmoid"]
    cells.insert(0, nn.Softmax())
    del cells[1]
    cells[-1] = nn.Dense(2, 2)
    assert [type(c).__name__ for c in cells] == ["Softmax", "ReLU", "Tanh", "Dense"]
    assert list(cells.parameters_dict()) == ["3.weight", "3.bias"]
    assert isinstance(cells[1:3], nn.CellList) and len(cells[1:3]) == 2
    with pytest.raises(IndexFault, match="index 9 of 4 cells"):
        cells[9]
    with pytest.raises(TypeFault, match="found int among cells"):
        cells.append(3)


def test_sequences_of_cells():
    from collections import OrderedDict

    net = nn.SequentialCell(OrderedDict(first=nn.Dense(2, 3), act=nn.ReLU()))
    assert net.first is net[0] and list(net.parameters_dict())[0] == "first.weight"
    assert (net(Tensor(np.ones((1, 2), np.float32))).asnumpy() >= 0).all()
    assert nn.SequentialCell([nn.ReLU()])(Tensor([-1.0])).tolist() == [0]


def test_dicts_of_cells():
    cells = nn.CellDict({"a": nn.ReLU(), "b": nn.Tanh()})
    cells["c"] = nn.Dense(1, 1)
    assert cells.keys() == ["a", "b", "c"] and "b" in cells and len(cells) == 3
    assert cells.pop("a") is not None and [k for k, _ in cells.items()] == ["b", "c"]
    with pytest.raises(KeyFault, match="no cell 'x'"):
        cells["x"]
    with pytest.raises(ValueFault, match="name of a method"):
        cells["keys"] = nn.ReLU()
    cells.clear()
    assert not cells.values()


@pytest.mark.parametrize("make, fault, message", [
    (lambda: nn.Dense(0, 2), ValueFault, "in_channels is 0"),
    (lambda: nn.Dense(2, 2.5), TypeFault, "out_channels is 2.5"),
    (lambda: nn.Dense(2, 2, activation="rleu"), ValueFault, "unknown activation 'rleu'"),
    (lambda: nn.Dense(2, 2, weight_init="norml"), ValueFault, "unknown initializer 'norml'"),
    (lambda: nn.Conv2d(2, 2, 3, pad_mode="full"), ValueFault, "pad_mode is 'full'"),
    (lambda: nn.Conv2d(3, 2, 3, group=2), ValueError, "2 groups do not divide"),
    (lambda: nn.Dropout(p=1.5), ValueFault, "found p 1.5"),
    (lambda: nn.BatchNorm2d(3, momentum=2), ValueFault, "momentum is 2"),
    (lambda: nn.BatchNorm2d(3)(ops.ones((2, 3))), ValueError, "batch norm of a 2-d"),
    (lambda: nn.MSELoss("average"), ValueFault, "reduction is 'average'"),
    (lambda: nn.GroupNorm(2, 3), ValueError, "2 groups do not divide 3"),
    (lambda: nn.Embedding(3, 2)(Tensor([3])), IndexFault, "index 3 is out of range for a size"),
    (lambda: nn.MaxPool2d(2, return_indices=True), ValueFault, "return_indices"),
    (lambda: nn.TrainOneStepCell(nn.ReLU(), 3), TypeFault, "found int for the optimizer"),
])
def test_layers_that_make_no_sense(make, fault, message):
    with pytest.raises(fault, match=message):
        make()


def test_wrappers():
    net, x, y = nn.Dense(2, 1), Tensor(np.ones((3, 2), np.float32)), ops.ones((3, 1))
    loss, outputs, label = nn.WithEvalCell(net, nn.MSELoss())(x, y)
    assert label is y and loss.item() == pytest.approx(float(((outputs - y) ** 2).mean()))
    assert nn.WithLossCell(net, nn.MSELoss()).backbone_network is net
    value, (dw, db) = nn.ForwardValueAndGrad(net, get_by_list=True)(x)
    assert value.shape == (3, 1) and dw.shape == (1, 2) and db.tolist() == [3]


def test_batch_norm_keeps_running_statistics():
    x = np.random.default_rng(0).normal(3, 2, (8, 3)).astype(np.float32)
    norm = nn.BatchNorm1d(3).set_train()
    y = norm(Tensor(x)).asnumpy()
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(norm.moving_mean.asnumpy(), 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm.moving_variance.asnumpy(), 0.9 + 0.1 * x.var(0, ddof=1),
                               rtol=1e-5)
    norm.set_train(False)
    before = norm.moving_mean.asnumpy()
    expected = (x - before) / np.sqrt(norm.moving_variance.asnumpy() + 1e-5)
    np.testing.assert_allclose(norm(Tensor(x)).asnumpy(), expected, rtol=1e-5)
    np.testing.assert_array_equal(norm.moving_mean.asnumpy(), before)


def test_activations_by_name():
    for name in ("relu", "gelu", "tanh", "logsoftmax"):
        assert isinstance(nn.get_activation(name), nn.Cell)
    x = Tensor([[-1.0, 2.0]])
    assert nn.Dense(2, 2, weight_init="identity", bias_init="zeros", activation=nn.ReLU)(
        x).tolist() == [[0, 2]]
    assert nn.Dense(2, 2, weight_init="identity", bias_init=1.0, activation=ops.relu)(
        x).tolist() == [[0, 3]]
