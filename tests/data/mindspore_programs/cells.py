"""What a Cell is beside its construct: names, children, flags, printing, checkpoints."""

import tempfile
from collections import OrderedDict
from pathlib import Path

from mindspore_programs.surface import (
    Parameter,
    ParameterTuple,
    Tensor,
    data,
    error,
    fill,
    ms,
    mstype,
    nn,
    np,
    ops,
    program,
)


class Block(nn.Cell):
    def __init__(self, n):
        super().__init__()
        self.dense = nn.Dense(n, n)
        self.norm = nn.BatchNorm1d(n)
        self.scale = Parameter(Tensor(np.ones(n, np.float32)), name="scale")

    def construct(self, x):
        return self.norm(self.dense(x)) * self.scale


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, has_bias=True)
        self.offset = Parameter(Tensor(np.zeros(2, np.float32)), name="my_offset")
        self.blocks = nn.CellList([Block(2), Block(2)])
        self.head = nn.SequentialCell(nn.Dense(2, 3), nn.ReLU(), nn.Dense(3, 1))
        self.frozen = Parameter(Tensor([1.0], mstype.float32), requires_grad=False)

    def construct(self, x):
        return x


def names(parameters):
    return [(p.name, list(p.shape), p.requires_grad) for p in parameters]


@program()
def cell_parameters():
    net = Net()
    return ([(path, p.name) for path, p in net.parameters_and_names()],
            names(net.trainable_params()), names(net.untrainable_params()),
            names(net.get_parameters()), names(net.get_parameters(expand=False)),
            list(net.parameters_dict()),
            [path for path, _ in net.parameters_and_names(name_prefix="net")],
            [path for path, _ in net.parameters_and_names(expand=False)])


@program()
def cell_children():
    net = Net()
    return ([(name, type(cell).__name__) for name, cell in net.cells_and_names()],
            [type(cell).__name__ for cell in net.cells()],
            [(name, type(cell).__name__) for name, cell in net.name_cells().items()],
            type(net.name_cells()).__name__)


@program()
def cell_shared():
    """One cell under two names, one Parameter under two."""
    class Shared(nn.Cell):
        def __init__(self):
            super().__init__()
            self.a = nn.Dense(2, 2)
            self.b = self.a
            self.weight = self.a.weight

    net = Shared()
    return ([name for name, _ in net.cells_and_names()], [name for name in net.name_cells()],
            len(net.trainable_params()))


@program()
def cell_repr():
    class Plain(nn.Cell):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(p=0.3)
            self.pool = nn.MaxPool2d(2, 2)
            self.inner = nn.SequentialCell([nn.Dense(2, 3, activation="relu"), nn.Sigmoid()])

    class Described(nn.Cell):
        def __init__(self, deep):
            super().__init__()
            if deep:
                self.child = Described(False)

        def extend_repr(self):
            return "first=1, second=2"

    return (repr(Plain()), repr(nn.ReLU()), repr(Described(False)), repr(Described(True)),
            str(nn.CellList([nn.Tanh()])), repr(nn.Dense(3, 4, has_bias=False)))


@program()
def cell_repr_of_layers():
    return [repr(layer) for layer in (
        nn.Dense(2, 3), nn.GroupNorm(2, 4), nn.BatchNorm2d(3), nn.BatchNorm1d(4),
        nn.Dropout(p=0.5), nn.MaxPool2d(3, 2), nn.AvgPool2d(2, 1, "same"), nn.Flatten(),
        nn.Softmax(), nn.GELU(), nn.Tanh(), nn.AdaptiveAvgPool2d(2))]


@program()
def cell_repr_of_parameter():
    return str(Parameter(Tensor([[1.0]], mstype.float32), name="w")), repr(nn.Dense(2, 2).bias)


@program()
def cell_set_train():
    net = Net()
    before = [cell.training for _, cell in net.cells_and_names()]
    same = net.set_train() is net
    during = [cell.training for _, cell in net.cells_and_names()]
    net.blocks.set_train(False)
    after = [cell.training for _, cell in net.cells_and_names()]
    return before, same, during, after, net.set_grad() is net


@program()
def cell_update_parameters_name():
    net = Net()
    net.update_parameters_name("outer.")
    block = Block(2)
    block.update_parameters_name("inner.", recurse=False)
    return [p.name for p in net.get_parameters()], [p.name for p in block.get_parameters()]


@program()
def cell_insert_child():
    net = nn.Cell()
    net.insert_child_to_cell("child", nn.Dense(2, 2))
    net.insert_child_to_cell("other", nn.ReLU())
    return ([name for name, _ in net.cells_and_names()], repr(net), len(net.trainable_params()),
            error(net.insert_child_to_cell, 3, nn.ReLU()),
            error(net.insert_child_to_cell, "more", 3))


@program()
def cell_insert_parameter():
    net = nn.Cell()
    net.insert_param_to_cell("w", Parameter(Tensor([1.0], mstype.float32), name="other"))
    net.insert_param_to_cell("v", Parameter(Tensor([1.0], mstype.float32)))
    return ([(path, p.name) for path, p in net.parameters_and_names()],
            error(net.insert_param_to_cell, "a.b", Parameter(Tensor([1.0], mstype.float32))))


@program()
def cell_parameter_names():
    """A Parameter without a name takes the attribute's; a child's get the child's in front."""
    class Named(nn.Cell):
        def __init__(self):
            super().__init__()
            self.a = Parameter(Tensor([1.0], mstype.float32))
            self.b = Parameter(Tensor([1.0], mstype.float32), name="beta")
            self.inner = Inner()

    class Inner(nn.Cell):
        def __init__(self):
            super().__init__()
            self.c = Parameter(Tensor([1.0], mstype.float32), name="gamma")
            self.deep = nn.Dense(1, 1)

    class WithoutPrefix(nn.Cell):
        def __init__(self):
            super().__init__(auto_prefix=False)
            self.inner = Inner()

    return ([p.name for p in Named().get_parameters()],
            [p.name for p in WithoutPrefix().get_parameters()])


@program(instead={"tuple": ["ValueError", "ValueError"]},
         note="MindSpore says so only when a cell is compiled")
def cell_duplicate_names():
    class Twice(nn.Cell):
        def __init__(self):
            super().__init__()
            self.a = Parameter(Tensor([1.0], mstype.float32), name="same")
            self.b = Parameter(Tensor([2.0], mstype.float32), name="same")

    class TwoCells(nn.Cell):
        def __init__(self):
            super().__init__(auto_prefix=False)
            self.a = nn.Dense(1, 1)
            self.b = nn.Dense(1, 1)

    return error(Twice), error(TwoCells)


@program()
def cell_without_super():
    class Forgot(nn.Cell):
        def __init__(self):
            self.dense = nn.Dense(1, 1)

    return error(Forgot) != "", error(lambda: nn.ReLU().missing), error(nn.Cell(), 1) != ""


@program()
def cell_parameter_surface():
    p = Parameter(Tensor([[1.0, 2.0]], mstype.float32), name="w")
    p.set_data(Tensor([[3.0, 4.0]], mstype.float32))
    q = Parameter(Tensor([1.0], mstype.float32), name="q", requires_grad=False)
    both = ParameterTuple((p, q))
    copy = p.clone()
    copied = both.clone(prefix="copy", init="zeros")
    copy.set_data(Tensor([[0.0, 0.0]], mstype.float32))
    return (p, p.name, p.requires_grad, q.requires_grad, len(both),
            [c.name for c in copied], list(copied), copy,
            p + 1, isinstance(p, Tensor), isinstance(p + 1, Parameter))


@program()
def cell_parameter_assigned():
    class Counter(nn.Cell):
        def __init__(self):
            super().__init__()
            self.count = Parameter(Tensor([0.0], mstype.float32), name="count")
            self.total = Parameter(Tensor(np.zeros(3, np.float32)), name="total")

        def construct(self, x):
            self.count = self.count + 1
            ops.assign(self.total, self.total + x)
            self.total += 1
            return self.total * self.count

    net = Counter()
    return [net(data(3, seed=i)) for i in range(3)], net.count, net.total


@program()
def cell_list():
    cells = nn.CellList([nn.Dense(2, 3), nn.ReLU()])
    cells.append(nn.Dense(3, 3))
    cells.insert(1, nn.Tanh())
    cells.extend([nn.Sigmoid(), nn.Dense(3, 1)])
    before = [type(c).__name__ for c in cells]
    del cells[0]
    cells[0] = nn.GELU()
    return (before, [type(c).__name__ for c in cells], len(cells), repr(cells[1:3]),
            [p.name for p in cells.get_parameters()], type(cells[-1]).__name__,
            [name for name in cells.name_cells()], error(lambda: cells[9]),
            error(lambda: cells["a"]), error(cells.append, 3))


@program()
def cell_list_names():
    """The names of Parameters follow the places of their cells."""
    class Stack(nn.Cell):
        def __init__(self):
            super().__init__()
            self.layers = nn.CellList()
            for _ in range(2):
                self.layers.append(nn.Dense(2, 2))

    return [p.name for p in Stack().get_parameters()]


@program()
def cell_list_called():
    class Chain(nn.Cell):
        def __init__(self):
            super().__init__()
            self.layers = nn.CellList([nn.Dense(3, 3), nn.Tanh(), nn.Dense(3, 2)])

        def construct(self, x):
            for i, layer in enumerate(self.layers):
                x = layer(x) + i
            return x + len(self.layers) * self.layers[1](x).sum()

    return fill(Chain())(data(2, 3))


@program()
def cell_sequential():
    cells = nn.SequentialCell(nn.Dense(2, 3), nn.ReLU(), nn.Dense(3, 1))
    cells.append(nn.Sigmoid())
    first = cells[:2]
    del cells[1]
    cells[0] = nn.Dense(2, 3, has_bias=False)
    return (repr(cells), repr(first), len(cells), [p.name for p in cells.get_parameters()],
            fill(cells)(data(4, 2)), type(cells[-1]).__name__, error(lambda: cells[7]))


@program()
def cell_sequential_named():
    cells = nn.SequentialCell(OrderedDict([("conv", nn.Conv2d(1, 2, 1)), ("act", nn.ReLU())]))
    return ([name for name in cells.name_cells()], [p.name for p in cells.get_parameters()],
            fill(cells)(data(1, 1, 2, 2)), type(cells[0]).__name__)


@program()
def cell_sequential_in_cell():
    class Outer(nn.Cell):
        def __init__(self):
            super().__init__()
            layers = [nn.Dense(3, 4), nn.LayerNorm((4,)), nn.GELU()]
            self.body = nn.SequentialCell(*layers)
            self.more = nn.SequentialCell([nn.Dense(4, 2)])

        def construct(self, x):
            return self.more(self.body(x))

    net = fill(Outer())
    return net(data(2, 3)), [p.name for p in net.get_parameters()]


@program()
def cell_dict():
    cells = nn.CellDict({"a": nn.Dense(2, 3), "b": nn.ReLU()})
    cells["c"] = nn.Dense(3, 1)
    del cells["b"]
    cells.update({"d": nn.Tanh()})
    return (list(cells.keys()), len(cells), "a" in cells,
            [type(c).__name__ for c in cells.values()], [p.name for p in cells.get_parameters()],
            [name for name, _ in cells.items()])


@program()
def cell_apply():
    seen = []
    Net().apply(lambda cell: seen.append(type(cell).__name__))
    return seen


@program()
def cell_checkpoint():
    net, other = fill(Block(2)), Block(2)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "net.ckpt")
        ms.save_checkpoint(net, path)
        loaded = dict(sorted(ms.load_checkpoint(path).items()))
        missing = ms.load_param_into_net(other, loaded)
        absent = error(ms.load_checkpoint, str(Path(folder) / "other.ckpt"))
    return (list(loaded), list(loaded.values()), missing, list(other.get_parameters()),
            other(data(3, 2)), absent != "", type(next(iter(loaded.values()))).__name__)


@program(instead={"tuple": ["ValueError", "ValueError", 0.0]},
         note="MindSpore loads nothing, says so in its log, and goes on")
def cell_checkpoint_of_another_net():
    net = fill(nn.Dense(2, 2))
    renamed = nn.SequentialCell(nn.Dense(2, 2, weight_init="zeros"))
    return (error(ms.load_param_into_net, renamed, net.parameters_dict()),
            error(ms.load_param_into_net, nn.Dense(3, 2), net.parameters_dict()),
            float(renamed[0].weight.asnumpy().sum()))


@program()
def cell_checkpoint_in_part():
    """What is not in the checkpoint is reported and stays."""
    net, other = fill(nn.Dense(2, 2)), nn.Dense(2, 2, bias_init="ones")
    return (ms.load_param_into_net(other, {"weight": net.weight}), list(other.get_parameters()),
            ms.load_param_into_net(other, {"weight": net.weight, "more": Parameter(
                Tensor([1.0], mstype.float32), name="more")}))


@program()
def cell_methods_and_properties():
    class Rich(nn.Cell):
        scale = 2.0

        def __init__(self):
            super().__init__()
            self.w = Parameter(Tensor([1.0, 2.0], mstype.float32), name="w")
            self.function = ops.tanh
            self.operator = ops.ReLU()
            self.options = {"k": 3}
            self.table = Tensor([0.5, 0.25], mstype.float32)

        @property
        def doubled(self):
            return self.w * 2

        @staticmethod
        def shifted(x, by=1):
            return x + by

        def helper(self, x, *more, **named):
            for other in more:
                x = x + other
            return x * named.get("k", 1)

        def construct(self, x, y=None, *, flag=True):
            x = self.helper(x, self.w, self.table, k=self.options["k"])
            x = self.shifted(x, by=2) * self.scale + self.doubled
            if y is not None:
                x = x - y
            return self.function(x) if flag else self.operator(x)

    class Derived(Rich):
        scale = 0.5

        def construct(self, x, y=None):
            return super().construct(x, y) + 1

    net, x = Rich(), data(2)
    return net(x), net(x, data(2, seed=1)), Derived()(x), net.helper(x, x)


@program()
def cell_wrong_arguments():
    class Two(nn.Cell):
        def construct(self, x, y):
            return x + y

    net, x = Two(), data(2)
    return error(net, x), error(net, x, x, x)
