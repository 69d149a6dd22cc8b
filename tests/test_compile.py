"""Graph mode means what the code says: guards, traced numbers, symbolic sizes, calls, errors."""

import sys
from collections import namedtuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cellc
from cellc import Parameter, Tensor, context, nn, ops
from cellc.compile import compiled
from cellc.errors import IndexFault

X = Tensor(np.float32([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]]))


@pytest.fixture(autouse=True)
def graph_mode():
    context.set_context(mode=context.GRAPH_MODE)


def variants(fn):
    return len(compiled(fn).variants)


# -- what changes between two calls --------------------------------------------------------------

class Scaled(nn.Cell):
    def __init__(self, k):
        super().__init__()
        self.k = k
        self.sizes = [1.0, 2.0]

    def construct(self, x):
        return x * self.k


class Outer(nn.Cell):
    def __init__(self):
        super().__init__()
        self.inner = Scaled(2.0)

    def construct(self, x):
        return self.inner(x) + 1.0


class ReadsList(Scaled):
    def construct(self, x):
        for size in self.sizes:
            x = x + size
        return x


factor = 3.0


def reads_global(x):
    return x * factor


def test_an_attribute():
    net = Scaled(2)
    assert np.array_equal(net(X).asnumpy(), X.asnumpy() * 2)
    net.k = 5
    assert np.array_equal(net(X).asnumpy(), X.asnumpy() * 5)
    net.k = 2
    assert np.array_equal(net(X).asnumpy(), X.asnumpy() * 2)
    assert variants(net) == 2, "the first program serves again"


def test_an_attribute_of_an_inner_cell():
    net = Outer()
    assert np.allclose(net(X).asnumpy(), X.asnumpy() * 2 + 1)
    net.inner.k = 4.0
    assert np.allclose(net(X).asnumpy(), X.asnumpy() * 4 + 1)
    net.inner = Scaled(7.0)
    assert np.allclose(net(X).asnumpy(), X.asnumpy() * 7 + 1)


def test_a_list_that_an_attribute_holds():
    net = ReadsList(1)
    assert np.allclose(net(X).asnumpy(), X.asnumpy() + 3)
    net.sizes.append(10.0)
    assert np.allclose(net(X).asnumpy(), X.asnumpy() + 13)


def test_a_global(monkeypatch):
    f = cellc.jit(reads_global)
    assert np.allclose(f(X).asnumpy(), X.asnumpy() * 3)
    monkeypatch.setitem(globals(), "factor", 4.0)
    assert np.allclose(f(X).asnumpy(), X.asnumpy() * 4)


def test_a_closure_cell():
    k = 2.0

    @cellc.jit
    def f(x):
        return x * k

    assert np.allclose(f(X).asnumpy(), X.asnumpy() * 2)
    k = 6.0
    assert np.allclose(f(X).asnumpy(), X.asnumpy() * 6)


def test_a_default():
    def f(x, k=2.0):
        return x * k

    g = cellc.jit(f)
    assert np.allclose(g(X).asnumpy(), X.asnumpy() * 2)
    f.__defaults__ = (8.0,)
    assert np.allclose(g(X).asnumpy(), X.asnumpy() * 8)


def test_a_parameter_with_new_data():
    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.w = Parameter(Tensor(np.float32([1, 2, 3])), name="w")

        def construct(self, x):
            return x * self.w

    net = Net()
    assert np.allclose(net(X).asnumpy(), X.asnumpy() * [1, 2, 3])
    net.w.set_data(Tensor(np.float32([4, 5, 6])))
    assert np.allclose(net(X).asnumpy(), X.asnumpy() * [4, 5, 6])
    assert variants(net) == 1


# -- numbers and sizes ---------------------------------------------------------------------------

def scale_by(x, s):
    return x * s


def scale_by_item(x, pair):
    return x * pair[1]


def scale_by_key(x, options):
    return x * options["s"]


@pytest.mark.parametrize("function, wrap", [
    (scale_by, lambda s: s), (scale_by_item, lambda s: (1.0, s)),
    (scale_by_key, lambda s: {"s": s})], ids=["plain", "in a tuple", "in a dict"])
def test_a_thousand_floats_need_one_program(function, wrap):
    f = cellc.jit(lambda x, s: function(x, s))
    for s in np.linspace(-3, 3, 1000).tolist():
        assert np.array_equal(f(X, wrap(s)).asnumpy(), X.asnumpy() * np.float32(s))
    assert variants(f.fn) <= 2


def rows(x, n):
    return ops.reshape(x, (n, -1))


def test_a_size_is_known_and_says_so():
    f = cellc.jit(rows)
    assert f(X, 3).shape == (3, 2)
    assert f(X, 6).shape == (6, 1)
    assert "compiled for their values" in str(cellc.explain(rows))


class Mlp(nn.Cell):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Dense(3, 8)
        self.fc2 = nn.Dense(8, 2)

    def construct(self, x):
        return self.fc2(ops.relu(self.fc1(x))).mean()


def test_two_hundred_leading_dimensions_share_a_symbolic_one():
    net = Mlp()
    rng = np.random.default_rng(0)
    for n in range(1, 201):
        x = rng.normal(size=(n, 3)).astype(np.float32)
        found = net(Tensor(x))
        if n % 20 == 0:
            context.set_context(mode=context.PYNATIVE_MODE)
            expected = net(Tensor(x))
            context.set_context(mode=context.GRAPH_MODE)
            assert np.allclose(found.asnumpy(), expected.asnumpy(), rtol=1e-5, atol=1e-6)
    assert variants(net) <= 5


def product_of_rows(a, b):
    return ops.matmul(a, b) * 2.0 + a.sum(-1, keepdims=True)


SIZES = st.sampled_from([0, 1, 2, 3, 5])


@settings(max_examples=25, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(SIZES, SIZES, SIZES, st.booleans()), min_size=4, max_size=8))
def test_sizes_in_any_order_give_what_numpy_gives(calls):
    """A symbolic program stands among those of other sizes, and serves what it covers."""
    f = cellc.jit(product_of_rows)
    rng = np.random.default_rng(0)
    for m, k, n, wide in calls:
        dtype = np.float64 if wide else np.float32
        a, b = (rng.integers(-3, 4, size).astype(dtype) for size in ((m, k), (k, n)))
        found = f(Tensor(a), Tensor(b)).asnumpy()
        assert found.dtype == dtype
        assert np.array_equal(found, a @ b * 2 + a.sum(-1, keepdims=True))


def needs_the_size(x):
    return x[: x.shape[0] - 1] * 2.0


def test_a_program_that_needs_the_size_says_so():
    f = cellc.jit(needs_the_size)
    for n in range(3, 8):
        x = np.arange(n, dtype=np.float32)
        assert np.array_equal(f(Tensor(x)).asnumpy(), x[:-1] * 2)
    assert "leading dimension" in str(cellc.explain(needs_the_size))


# -- the call ------------------------------------------------------------------------------------

def test_no_python_runs_inside_a_compiled_call():
    net = Mlp()
    net(X)
    call = compiled(net).call
    events = []
    sys.setprofile(lambda frame, event, arg: events.append((event, frame.f_code.co_name)))
    call(X)
    sys.setprofile(None)
    assert [e for e in events if e[0] == "call"] == []
    assert sum(e[0] == "c_call" for e in events) <= 2    # the entry, and setprofile itself


Pair = namedtuple("Pair", "first second")


def structures(x, options):
    return {"sum": x + options["bias"], "pair": Pair(x * 2.0, None), "list": [x, (1, "one")]}


def test_structures_in_and_out():
    f = cellc.jit(structures)
    found = f(X, {"bias": 1.5})
    assert np.allclose(found["sum"].asnumpy(), X.asnumpy() + 1.5)
    assert isinstance(found["pair"], Pair) and found["pair"].second is None
    assert np.allclose(found["pair"].first.asnumpy(), X.asnumpy() * 2)
    assert found["list"][1] == (1, "one")


def test_scalars_come_back_as_numbers():
    f = cellc.jit(lambda a, b: (a + b, a < b, a // 2))
    assert f(7, 9.5) == (16.5, True, 3)
    assert [type(v) for v in f(7, 9.5)] == [float, bool, int]


def test_arrays_that_are_not_contiguous():
    f = cellc.jit(scale_by)
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert np.array_equal(f(x, 2.0).asnumpy(), x * 2)


def test_equal_cells_compile_once():
    class Block(nn.Cell):
        def __init__(self):
            super().__init__()
            self.fc = nn.Dense(16, 16)
            self.norm = nn.LayerNorm((16,))

        def construct(self, x):
            return x + ops.gelu(self.fc(self.norm(x)))

    class Deep(nn.Cell):
        def __init__(self, n):
            super().__init__()
            self.blocks = nn.CellList([Block() for _ in range(n)])

        def construct(self, x):
            for block in self.blocks:
                x = block(x)
            return x

    x = Tensor(np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32))
    one, many = cellc.inspect(Deep(1), x), cellc.inspect(Deep(24), x)
    assert len(many.llvm) < 3 * len(one.llvm)

    programs = []
    for n in (40, 80):
        net = Deep(n)
        gradient = cellc.grad(lambda x, net=net: (net(x) ** 2).mean(), None,
                              net.trainable_params())
        gradient(x)
        programs.append(compiled(gradient).variants[0].program)
    few, many = programs
    assert len(few.units) == len(many.units), "kernels are shared by all cells"
    lines = many.text.count("\n") - few.text.count("\n")
    assert lines < 40 * 10, "a further cell is two calls, each on a list of numbers"


# -- bad input -----------------------------------------------------------------------------------

class Lookup(nn.Cell):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(4, 2)
        self.count = Parameter(Tensor(np.float32([0.0])), name="count")

    def construct(self, ids):
        self.count = self.count + 1.0
        return self.table(ids)


def test_an_index_out_of_range_changes_nothing():
    net = Lookup()
    net(Tensor(np.int32([0, 3])))
    assert net.count.asnumpy()[0] == 1
    with pytest.raises(IndexFault, match="index 9 is out of range for a size of 4") as raised:
        net(Tensor(np.int32([0, 9])))
    assert raised.value.loc.file == __file__ and "self.table(ids)" in str(raised.value)
    assert net.count.asnumpy()[0] == 1
    net(Tensor(np.int32([1, 2])))
    assert net.count.asnumpy()[0] == 2


def test_a_label_out_of_range_names_the_line_of_the_loss():
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    logits = Tensor(np.zeros((2, 3), np.float32))
    assert loss(logits, Tensor(np.int32([0, 2]))).asnumpy() == pytest.approx(np.log(3))
    with pytest.raises(IndexFault, match="index 3 is out of range") as raised:
        loss(logits, Tensor(np.int32([0, 3])))  # <- here
    assert raised.value.loc.file == __file__ and "# <- here" in str(raised.value)


def test_a_compiled_function_on_the_tape_is_recorded():
    f = cellc.jit(lambda x: ops.tanh(x) * 2.0)
    context.set_context(mode=context.PYNATIVE_MODE)
    x = Tensor(np.float32([0.5, -1.0]), requires_grad=True)
    (f(x) + x).sum().backward()
    expected = 2 / np.cosh(np.float32([0.5, -1.0])) ** 2 + 1
    assert np.allclose(x.grad.asnumpy(), expected)
    assert np.allclose(cellc.grad(lambda v: f(v).sum())(X).asnumpy(),
                       2 / np.cosh(X.asnumpy()) ** 2, rtol=1e-6)
    with cellc.no_grad():
        assert not f(x).requires_grad


class Descent(nn.Cell):
    """A parameter updated by a product, which the compiler computes in one kernel."""

    def __init__(self, n):
        super().__init__()
        self.w = Parameter(np.ones((n, n), np.float32), name="w")

    def construct(self, a, b):
        self.w = self.w - 0.5 * ops.matmul(a, b)
        return a.shape[1]


@pytest.mark.parametrize("n, k", [(256, 2048), (64, 300), (50, 20)])
def test_an_update_by_a_product_reads_the_old_value(n, k):
    a, b = (np.random.default_rng(0).normal(size=s).astype(np.float32) for s in ((n, k), (k, n)))
    net = Descent(n)
    net(Tensor(a), Tensor(b))
    assert np.allclose(net.w.asnumpy(), 1 - 0.5 * (a @ b), atol=1e-3)
