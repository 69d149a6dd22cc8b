"""Cells: attributes, Parameters as effects, one graph for all instances, what makes them differ."""

import numpy as np
from same import assert_same, f32, interpreted, parse

import cellc
from cellc import Parameter, Tensor, nn, ops


class Linear(nn.Cell):
    def __init__(self, n, m, scale=1.0, seed=0):
        super().__init__()
        draw = np.random.default_rng(seed).normal(size=(n, m)).astype(np.float32)
        self.w = Parameter(Tensor(draw), name=f"w{seed}")
        self.scale = scale
        self.options = {"bias": [1.0, 2.0]}

    def construct(self, x):
        return self.shifted(x @ self.w) * self.scale

    def shifted(self, x):
        return x + self.options["bias"][1]

    @property
    def double(self):
        return self.scale * 2


class Two(nn.Cell):
    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def construct(self, x):
        return self.second(ops.tanh(self.first(x))) * self.first.double


def eager(net, *args):
    """What construct says, read by hand: cells in eager mode."""
    return net(*args)


def calls(traced):
    return [node for node in traced.graph.body if node.prim.name == "call"]


def test_a_cell():
    net = Linear(3, 4)
    x = f32(2, 3)
    assert_same(interpreted(net, x), eager(net, x))


def test_equal_cells_share_one_graph():
    net = Two(Linear(3, 3, seed=1), Linear(3, 3, seed=2))
    x = f32(2, 3)
    traced, _ = parse(net, x)
    graphs = [node.attrs["graph"] for node in calls(traced)]
    assert len(graphs) == 2 and graphs[0] is graphs[1]
    assert traced.captured == [net.first.w, net.second.w]
    assert_same(interpreted(net, x), eager(net, x))


def test_cells_that_read_different_values_do_not():
    net = Two(Linear(3, 3, seed=1), Linear(3, 3, scale=3.0, seed=2))
    x = f32(2, 3)
    traced, _ = parse(net, x)
    first, second = calls(traced)
    assert first.attrs["graph"] is not second.attrs["graph"]
    assert_same(interpreted(net, x), eager(net, x))


def test_contents_of_containers_are_compared():
    net = Two(Linear(3, 3, seed=1), Linear(3, 3, seed=2))
    net.second.options["bias"][1] = 5.0
    x = f32(2, 3)
    assert_same(interpreted(net, x), eager(net, x))


def test_one_instance_twice():
    shared = Linear(3, 3, seed=4)
    net = Two(shared, shared)
    x = f32(2, 3)
    traced, _ = parse(net, x)
    assert len(traced.captured) == 1
    assert_same(interpreted(net, x), eager(net, x))


class Tied(nn.Cell):
    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    def construct(self, x):
        return x * self.a + self.b


class Pair(nn.Cell):
    def __init__(self):
        super().__init__()
        p, q, r = (Parameter(Tensor(np.float32([k])), name=f"p{k}") for k in (1, 2, 3))
        self.one, self.two = Tied(p, p), Tied(q, r)

    def construct(self, x):
        return self.one(x) + self.two(x)


def test_tied_weights_are_no_untied_ones():
    net = Pair()
    assert_same(interpreted(net, f32(3)), eager(net, f32(3)))


class Chain(nn.Cell):
    def __init__(self, n):
        super().__init__()
        self.layers = nn.CellList([Linear(3, 3, seed=i) for i in range(n)])

    def construct(self, x):
        for i, layer in enumerate(self.layers):
            x = layer(x) if i else layer(x) + len(self.layers)
        return x + self.layers[0](x)


def test_cell_list():
    net = Chain(4)
    x = f32(2, 3)
    traced, _ = parse(net, x)
    assert len({id(node.attrs["graph"]) for node in calls(traced)}) == 1
    assert_same(interpreted(net, x), eager(net, x))


class Counter(nn.Cell):
    def __init__(self):
        super().__init__()
        self.count = Parameter(Tensor(np.float32(0)), name="count", requires_grad=False)
        self.total = Parameter(Tensor(np.zeros(3, np.float32)), name="total", requires_grad=False)

    def construct(self, x):
        self.count += 1
        old = self.total + 0
        ops.assign(self.total, self.total + x)
        self.total = self.total * self.count
        return old, self.total * 1


class Outer(nn.Cell):
    def __init__(self):
        super().__init__()
        self.a, self.b = Counter(), Counter()

    def construct(self, x):
        first = self.a(x)
        second = self.b(x * 2)
        third = self.a(x)
        return first, second, third, self.a.count * 1


def test_parameters_are_state():
    for make, x in ((Counter, f32(3)), (Outer, f32(3))):
        graph, plain = make(), make()
        for _ in range(3):
            assert_same(interpreted(graph, x), eager(plain, x))
        for p, q in zip(graph.get_parameters(), plain.get_parameters()):
            assert_same(Tensor(p), Tensor(q))


class Conditional(nn.Cell):
    def __init__(self):
        super().__init__()
        self.seen = Parameter(Tensor(np.float32(0)), name="seen", requires_grad=False)

    def construct(self, x):
        if x.sum() > 0:
            self.seen = self.seen + 1
            return x * self.seen
        return x


def test_parameters_assigned_in_a_branch():
    graph, plain = Conditional(), Conditional()
    for x in (f32(3) * 0 + 1, f32(3) * 0 - 1, f32(3) * 0 + 2):
        assert_same(interpreted(graph, x), eager(plain, x))
        assert graph.seen.asnumpy() == plain.seen.asnumpy()


class Base(nn.Cell):
    k = 2

    def construct(self, x):
        return x * self.k

    @staticmethod
    def twice(x):
        return x + x

    @classmethod
    def shift(cls, x):
        return x + cls.k


class Derived(Base):
    def __init__(self):
        super(Derived, self).__init__()
        self.__hidden = 3

    def construct(self, x, y=None, *, z=1.0):
        x = super().construct(x) + super(Derived, self).construct(x)
        if y is not None:
            x = x + y
        return self.shift(self.twice(x)) * self.__hidden * z


def test_inheritance():
    net = Derived()
    assert_same(interpreted(net, f32(3)), eager(net, f32(3)))
    assert_same(interpreted(net, f32(3), f32(3)), eager(net, f32(3), f32(3)))
    assert_same(interpreted(net, f32(3), z=2.0), net(f32(3), z=2.0))


class Dropping(nn.Cell):
    def construct(self, x):
        if self.training:
            return x * 0
        return x


def test_a_reused_graph_is_guarded_on_every_instance():
    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.a, self.b = Dropping(), Dropping()

        def construct(self, x):
            return self.a(x) + self.b(x)

    net = Net()
    traced, _ = parse(net, f32(3))
    owners = [g.owner for g in traced.guards if g.name == "training"]
    assert net.a in owners and net.b in owners


def test_print_inside_cells(capsys):
    class Shouting(nn.Cell):
        def construct(self, x, k):
            print("sum", x.sum(), f"{x.sum():.3f} {k}", sep="|")
            print("%d and %.1f" % (k, x.sum()))
            return x

    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.a = Shouting()

        def construct(self, x):
            y = self.a(x, 1)
            print("between")
            return self.a(y * 2, 2)

    x = Tensor(np.float32([1, 2]))
    Net()(x)
    expected = capsys.readouterr().out
    interpreted(Net(), x)
    assert capsys.readouterr().out == expected


def test_cells_as_arguments_and_values():
    def apply(cell, x, n):
        for _ in range(n):
            x = cell(x)
        return x

    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.layers = {"a": Linear(3, 3, seed=1), "b": Linear(3, 3, seed=2)}

        def construct(self, x):
            return apply(self.layers["a"], x, 2) + apply(lambda v: self.layers["b"](v) * 2, x, 1)

    net = Net()
    assert_same(interpreted(net, f32(2, 3)), eager(net, f32(2, 3)))


def test_functions_of_cells():
    net = Linear(3, 4)

    def loss(x):
        return (net(x) ** 2).mean()

    assert_same(interpreted(loss, f32(2, 3)), loss(f32(2, 3)))
    assert cellc.float32 is net.w.dtype
