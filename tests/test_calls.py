"""A call goes straight to machine code where that is what it means, and nowhere else.

Every object is called often enough to have its front (kernels/front.py) before it is looked at.
"""

import copy
import functools
import gc
import pickle
import sys
import threading
import weakref

import numpy as np
import pytest

import cellc
from cellc import Parameter, Tensor, context, nn, ops
from cellc.compile import compiled
from cellc.eager import no_grad
from cellc.ir.graph import Builder
from cellc.kernels.entry import Entry
from cellc.kernels.front import Front
from cellc.kernels.native_layout import SCALARS


@pytest.fixture
def graph_mode():
    before = context.get_context("mode")
    context.set_mode(context.GRAPH_MODE)
    yield
    context.set_mode(before)


@cellc.jit
def halved(x):
    return x * 0.5


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.scale = 2.0

    def construct(self, x):
        return x * self.scale


class Counting(Net):
    def __call__(self, x):
        return super().__call__(x) + 1.0


class WithMethod:
    def __init__(self, scale):
        self.scale = scale

    @cellc.jit
    def scaled(self, x):
        return x * self.scale


def warm(f, *args):
    for _ in range(3):
        f(*args)
    return f


def has_front(x):
    return x.__dict__.get("_cellc_front") is not None


def squared(x):
    return x * x


def test_jitted_functions_cells_and_gradients_have_fronts(graph_mode):
    made = [halved, Net(), cellc.grad(squared), cellc.value_and_grad(squared), cellc.vmap(squared),
            cellc.jit(cellc.grad(squared)), cellc.jit(Net())]
    for f in made:
        x = Tensor([3.0]) if getattr(f, "kind", "") == "vmap" else 3.0
        warm(f, x)
        assert has_front(f), f
        assert type(type(f).__call__).__name__ == "method_descriptor"
    assert halved(3.0) == 1.5 and made[1](3.0) == 6.0 and made[2](3.0) == 6.0
    assert made[3](3.0) == (9.0, 6.0) and made[5](3.0) == 6.0 and made[6](3.0) == 6.0


def test_a_gradient_made_for_one_call_makes_none(graph_mode):
    once = cellc.grad(squared)
    assert once(2.0) == 4.0 and not has_front(once)


def test_a_jitted_function_is_a_part_of_what_calls_it():
    warm(halved, 3.0)

    @cellc.jit
    def outer(x):
        return halved(x) + halved(3.0)

    assert outer(1.0) == 2.0
    assert "0.5" in str(cellc.inspect(outer, 1.0))
    with Builder("f") as b:
        x = b.input(cellc.ir.types.ScalarType(cellc.ir.types.f64), "x")
        y = halved(x)
    assert y.type == x.type and b.body


def test_a_cell_is_a_part_of_what_calls_it(graph_mode):
    net = warm(Net(), 1.0)
    net.inner = warm(Net(), 1.0)
    outer = cellc.jit(lambda x: net.inner(x) + net(x))
    assert outer(1.0) == 4.0


def test_while_another_thread_parses():
    warm(halved, 3.0)
    found, go, done = [], threading.Event(), threading.Event()

    def parses():
        with Builder("f"):
            go.set()
            done.wait(10)

    thread = threading.Thread(target=parses)
    thread.start()
    go.wait(10)
    found += [halved(3.0), halved(5.0)]
    done.set()
    thread.join()
    assert found == [1.5, 2.5]
    assert not cellc.ir.graph.building


def test_arguments_on_the_tape_are_recorded():
    warm(halved, Tensor([1.0, 2.0]))
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = halved(x)
    assert y.requires_grad
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.asnumpy(), [0.5, 0.5])
    p = Parameter(Tensor([1.0, 2.0]), requires_grad=True)
    assert warm(halved, p)(p).requires_grad
    with no_grad():
        assert not halved(x).requires_grad
    assert not halved(Tensor([1.0, 2.0])).requires_grad


def test_a_subclass_of_tensor_is_recorded():
    class Mine(Tensor):
        __slots__ = ()

    x = Mine([1.0, 2.0], requires_grad=True)
    warm(halved, Tensor([1.0, 2.0]))
    assert halved(x).requires_grad


def test_within_a_gradient_of_eager_mode():
    warm(halved, 3.0)
    x = Tensor([3.0])
    assert cellc.grad(lambda y: (halved(y) * y).sum())(x).asnumpy()[0] == 3.0
    assert cellc.grad(lambda w: ops.sum(halved(x) * w))(x).asnumpy()[0] == 1.5
    assert not cellc.eager.differentiating


def test_the_mode_is_looked_at(graph_mode):
    net, seen = Net(), []

    class Seen(nn.Cell):
        def construct(self, x):
            seen.append(1)
            return x

    warm(net, 1.0)
    context.set_mode(context.PYNATIVE_MODE)
    warm(seeing := Seen(), 1.0)
    assert len(seen) == 3 and not has_front(seeing)
    x = Tensor([1.0], requires_grad=True)
    assert net(x).requires_grad                     # on the tape: eager mode
    context.set_mode(context.GRAPH_MODE)
    assert not net(x).requires_grad
    with context.eagerly():
        assert net(x).requires_grad
    assert not net(x).requires_grad


def test_keywords_and_wrong_arguments(graph_mode):
    warm(halved, 3.0)
    assert halved(x=3.0) == 1.5
    net = warm(Net(), 3.0)
    assert net(x=3.0) == 6.0
    for f in (halved, net):
        with pytest.raises(TypeError):
            f()
        with pytest.raises(TypeError):
            f(1.0, 2.0)
        with pytest.raises(TypeError):
            f(y=1.0)


def test_what_changes_outside_is_seen(graph_mode):
    net = warm(Net(), 3.0)
    net.scale = 5.0
    assert warm(net, 3.0)(3.0) == 15.0
    with pytest.raises(TypeError):
        net(object())
    assert net(3.0) == 15.0


def test_calls_by_way_of_the_class(graph_mode):
    net = warm(Counting(), 3.0)
    assert net(3.0) == 7.0
    assert nn.Cell.__call__(net, 3.0) == 6.0 and net.__call__(3.0) == 7.0
    assert Net().__call__(3.0) == 6.0
    assert cellc.compile.Jitted.__call__(halved, 3.0) == 1.5


def test_methods():
    a, b = WithMethod(2.0), WithMethod(3.0)
    for _ in range(4):
        assert a.scaled(1.0) == 2.0 and b.scaled(1.0) == 3.0
    assert type(a.scaled).__name__ == "builtin_function_or_method"
    c = copy.copy(a)
    c.scale = 5.0
    assert c.scaled(1.0) == 5.0 and a.scaled(1.0) == 2.0
    x = Tensor([1.0], requires_grad=True)
    assert a.scaled(x).requires_grad


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy,
                                   lambda x: pickle.loads(pickle.dumps(x))],
                         ids=["copy", "deepcopy", "pickle"])
def test_copies_have_their_own(graph_mode, again):
    net = warm(Net(), 3.0)
    other = again(net)
    assert not has_front(other)
    other.scale = 10.0
    assert warm(other, 3.0)(3.0) == 30.0 and net(3.0) == 6.0
    slope = warm(cellc.grad(squared), 3.0)
    assert warm(again(slope), 3.0)(3.0) == 6.0
    if again is not copy.deepcopy:      # pickled by name
        assert warm(again(warm(cellc.jit(squared), 3.0)), 3.0)(3.0) == 9.0


def test_a_copied_dictionary_is_another_object(graph_mode):
    net = warm(Net(), 3.0)
    other = Net()
    other.__dict__.update(net.__dict__)
    other.scale = 10.0
    assert warm(other, 3.0)(3.0) == 30.0 and net(3.0) == 6.0

    warm(f := cellc.jit(squared), 3.0)

    @functools.wraps(squared)
    def g(x):
        return squared(x) + 1.0

    assert warm(cellc.jit(g), 3.0)(3.0) == 10.0 and f(3.0) == 9.0
    slope = warm(cellc.grad(squared), 3.0)
    x = Tensor([1.0], requires_grad=True)
    context.set_mode(context.PYNATIVE_MODE)
    assert cellc.jit(slope)(x).requires_grad        # not straight to what the gradient has


def test_whatever_else_is_called_front(graph_mode):
    net = warm(Net(), 3.0)
    net.__dict__["_cellc_front"] = 7
    assert net(3.0) == 6.0


def test_a_front_that_goes_while_it_is_used():
    class Held:
        def _cellc_aside(self, x):
            return 0.0

        __call__ = _cellc_aside

    def dropped(x):
        held.__dict__.clear()
        gc.collect(0)
        return x

    class Gone:
        def __call__(self, x):
            return dropped(x)

    held = Held()
    for _ in range(20):
        Front(Entry(dropped, print), print).stand_before(held)
        assert held(3.0) == 3.0         # the entry misses
        Front(Entry(print, print), Gone(), [[1]]).stand_before(held)
        assert held(4.0) == 4.0 and held(5.0) == 0.0


def test_nothing_is_held(graph_mode):
    net = warm(Net(), Tensor(np.ones(3, np.float32)))
    x = Tensor(np.ones(3, np.float32))
    front = net.__dict__["_cellc_front"]
    warm(net, x)
    net(x=x)
    gc.collect()
    counts = [sys.getrefcount(v) for v in (net, x, front, front.call, Net)]
    for _ in range(100):
        net(x)
        net(x=x)
    gc.collect()
    assert [sys.getrefcount(v) for v in (net, x, front, front.call, Net)] == counts
    gone = weakref.ref(net)
    del net, front
    gc.collect()
    assert gone() is None


# -- NumPy's numbers ---------------------------------------------------------------------------

def python_calls(f, *args):
    """The Python functions that run in a call of f."""
    found = []

    def profile(frame, event, arg):
        if event == "call":
            found.append(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        f(*args)
    finally:
        sys.setprofile(None)
    return found


def same(a, b):
    assert type(a) is type(b)
    if isinstance(a, (tuple, list)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, Tensor):
        assert a.type == b.type
        np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())
    else:
        assert a == b


@pytest.mark.parametrize("kind", SCALARS, ids=lambda k: k.__name__)
def test_numbers_of_numpy_are_tensors_without_axes(kind):
    def mixed(x):
        return (x + 1, x == x, ops.cast(x, cellc.float32) / 3,
                ops.zeros((2, 2), cellc.float32) + x)

    f = cellc.jit(mixed if kind is not np.bool_ else lambda x: (ops.logical_not(x), x))
    for value in (1, 0, 1):
        x = kind(value)
        expected = f(Tensor(np.asarray(x)))
        same(warm(f, x)(x), expected)
        same(f(np.asarray(x)), expected)
    assert len(compiled(f.fn).variants) == 1
    assert len(compiled(f.fn).entry.variants) == 3
    assert python_calls(f, kind(1)) == []


def test_numbers_of_numpy_among_others():
    f = cellc.jit(lambda a, b, c: (a + b, [b * 2.0, c[0] + c[1]], c[2]))
    given = [(1.0, np.float64(2.0), (3.0, np.int64(4), "s")),
             (np.float64(1.0), 2.0, (np.float32(3.0), 4, "s"))]
    for _ in range(3):
        for a, b, c in given:
            as_tensors = [x if isinstance(x, (float, int, str)) and not isinstance(x, np.generic)
                          else Tensor(np.asarray(x)) for x in (a, b, *c)]
            same(f(a, b, c), f(*as_tensors[:2], tuple(as_tensors[2:])))
    assert len(compiled(f.fn).variants) == 2
    for args in given:
        assert python_calls(f, *args) == []


def test_a_float_of_numpy_is_not_a_float():
    """np.float64 is a float to Python; here it is a tensor of float64, as in eager mode."""
    f = cellc.jit(lambda x: x * Tensor([1.0]))
    assert warm(f, np.float64(2.0))(np.float64(2.0)).dtype is cellc.float64
    assert warm(f, 2.0)(2.0).dtype is cellc.float32
    assert (np.float64(2.0) * Tensor([1.0])).dtype is cellc.float64


def test_other_numbers_of_numpy():
    class Mine(np.float64):
        pass

    f = cellc.jit(lambda x: x + 1)
    for x in (Mine(2.0), np.longlong(2)):
        assert warm(f, x)(x).item() == 3
    with pytest.raises(TypeError, match="complex128"):
        f(np.complex128(1.0))


def test_in_gradients_and_cells(graph_mode):
    net, slope, x = Net(), cellc.grad(squared), np.float64(3.0)
    for f in (net, slope):
        warm(f, x)
        assert f(x).type == f(Tensor(np.asarray(x))).type and f(x).item() == 6.0
        assert python_calls(f, x) == []


def test_names_of_the_users_are_theirs(graph_mode):
    class Named(nn.Cell):
        def __init__(self):
            super().__init__()
            self._front, self._compiled = 2.0, 3.0

        def construct(self, x):
            return x * self._front + self._aside()

        def _aside(self):
            return self._compiled

    net = warm(Named(), 1.0)
    assert net(1.0) == 5.0 and net(x=1.0) == 5.0 and has_front(net)
