"""What lies outside the call: Parameters that are also arguments, results that stay apart, dicts,
lists and classes that change between two calls."""

from collections import OrderedDict

import numpy as np
import pytest

import cellc
from cellc import Parameter, Tensor, context, nn, ops
from cellc.compile import compiled
from cellc.errors import IndexFault

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture(autouse=True)
def graph_mode():
    context.set_context(mode=context.GRAPH_MODE)


class Times(nn.Cell):
    def construct(self, x, k):
        return x * k


class Counted(nn.Cell):
    """Doubles its Parameter, and uses both its old and its new values."""

    def __init__(self):
        super().__init__()
        self.p = Parameter(Tensor(np.float32([1, 2, 3, 4])), name="p")

    def construct(self, x):
        self.p = self.p * 2
        return x + self.p, x * 1


def native_calls(fn, *args) -> bool:
    """Does a second call stay in the native entry?"""
    fn(*args)
    target, missed = compiled(fn), []
    usual, handlers = target.variant, target.entry.chain()
    target.variant = lambda *a: missed.append(a) or usual(*a)
    fn(*args)
    del target.variant
    return bool(handlers) and not missed


# -- aliases -------------------------------------------------------------------------------------

def in_both_modes(calls):
    found = []
    for mode in (context.PYNATIVE_MODE, context.GRAPH_MODE):
        context.set_context(mode=mode)
        found.append([[np.asarray(v).tolist() for v in values] for values in calls()])
    assert found[0] == found[1]
    return found[1]


def test_the_assigned_parameter_is_an_argument():
    def calls():
        net = Counted()
        for _ in range(3):
            yield *net(net.p), net.p

    assert in_both_modes(calls)[0][0] == [4, 8, 12, 16]


def test_a_view_of_the_assigned_parameter_is_an_argument():
    def calls():
        net = Counted()
        for _ in range(3):
            view = net.p._array
            for given in (view, view[::-1], Tensor(view)):
                yield *net(given), net.p, view

    in_both_modes(calls)


def test_a_parameter_to_assign_is_an_argument():
    @cellc.jit
    def step(w, g):
        ops.assign(w, w - g)
        return w * 1

    p, q = (Parameter(Tensor(np.float32([k, k])), name=f"w{k}") for k in (3, 7))
    g = Tensor(np.float32([1, 2]))
    for i in range(1, 4):
        for w, start in ((p, 3), (q, 7)):
            assert step(w, g).asnumpy().tolist() == [start - i, start - 2 * i]
            assert w.asnumpy().tolist() == [start - i, start - 2 * i]


def test_one_tensor_twice():
    x = Tensor(X)
    net = Times()
    for args in ((x, x), (x, Tensor(X)), (X, X), (x, X)):
        np.testing.assert_array_equal(net(*args).asnumpy(), X * X)


def test_results_are_independent():
    constant = np.float32([1, 2])

    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.p = Parameter(Tensor(np.float32([3, 4])), name="p")

        def construct(self, x):
            return x, x, self.p, (x, constant * 1), ops.ones((2,)), x.reshape((2, 1))

    net, x = Net(), Tensor(np.float32([5, 6]))
    for _ in range(3):
        a, b, p, (c, d), ones, column = net(x)
        for value, wanted in ((a, [5, 6]), (b, [5, 6]), (p, [3, 4]), (c, [5, 6]), (d, [1, 2]),
                              (ones, [1, 1]), (column, [[5], [6]])):
            array = np.asarray(value)
            assert array.tolist() == wanted
            array[:] = -1
        assert x.asnumpy().tolist() == [5, 6] and net.p.asnumpy().tolist() == [3, 4]


def test_a_fault_on_the_way_changes_nothing():
    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.n = Parameter(Tensor(np.zeros(4, np.float32)), name="n")
            self.table = nn.Embedding(10, 4)

        def construct(self, i):
            self.n = self.n + 1
            return self.table(i).sum() + self.n

    net = Net()
    net(Tensor(np.int32([1, 2])))
    for _ in range(2):
        with pytest.raises(IndexFault, match="index 200 is out of range"):
            net(Tensor(np.int32([1, 200])))
        assert net.n.asnumpy().tolist() == [1, 1, 1, 1]


def test_a_parameter_of_another_shape():
    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.p = Parameter(Tensor(np.ones(4, np.float32)), name="p")

        def construct(self, x):
            return (self.p * x).sum()

    net = Net()
    for n in (4, 8, 4, 8):
        net.p.set_data(Tensor(np.ones(n, np.float32)), slice_shape=True)
        assert [float(net(2.0)) for _ in range(2)] == [2 * n] * 2
    assert len(compiled(net).variants) == 2


# -- what was read outside -----------------------------------------------------------------------

class Options(nn.Cell):
    kind = 1.0

    def __init__(self, options):
        super().__init__()
        self.options = options

    def construct(self, x):
        for value in self.options.values() if isinstance(self.options, dict) else self.options:
            x = x * value + self.kind
        return x


def expected(net):
    x, options = X, net.options
    for value in options.values() if isinstance(options, dict) else options:
        x = x * np.float32(value) + np.float32(net.kind)
    return x


def test_a_dict_that_changes():
    net = Options({"a": 2.0, "b": 3.0})
    assert native_calls(net, Tensor(X))
    d = net.options
    for change in (lambda: d.update(c=4.0), lambda: d.pop("c"), lambda: d.update(a=d.pop("a")),
                   lambda: d.update(b=7.0), d.clear, lambda: d.update(z=1.5)):
        change()
        for _ in range(2):
            np.testing.assert_allclose(net(Tensor(X)).asnumpy(), expected(net))
        assert native_calls(net, Tensor(X))


@pytest.mark.parametrize("kind", [OrderedDict, type("Mapping", (dict,), {})])
def test_a_dict_with_an_order_of_its_own(kind):
    net = Options(kind(a=2.0, b=3.0))
    np.testing.assert_allclose(net(Tensor(X)).asnumpy(), expected(net))
    if kind is OrderedDict:
        net.options.move_to_end("a")
    else:
        net.options["c"] = 5.0
    np.testing.assert_allclose(net(Tensor(X)).asnumpy(), expected(net))


def test_a_list_subclass():
    net = Options(type("Sizes", (list,), {})([1.0, 2.0]))
    np.testing.assert_allclose(net(Tensor(X)).asnumpy(), expected(net))
    net.options.append(10.0)
    np.testing.assert_allclose(net(Tensor(X)).asnumpy(), expected(net))


def test_what_a_class_holds(monkeypatch):
    class Net(Options):
        @property
        def twice(self):
            return 2.0

        def construct(self, x):
            return x * self.kind * self.twice

    net = Net([])
    assert native_calls(net, Tensor(X))
    np.testing.assert_array_equal(net(X).asnumpy(), X * 2)
    monkeypatch.setattr(Options, "kind", 5.0)
    np.testing.assert_array_equal(net(X).asnumpy(), X * 10)
    Net.twice = property(lambda self: 3.0)
    np.testing.assert_array_equal(net(X).asnumpy(), X * 15)
    Net.construct = lambda self, x: x - 1
    np.testing.assert_array_equal(net(X).asnumpy(), X - 1)
