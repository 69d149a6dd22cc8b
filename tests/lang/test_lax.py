"""jit_syntax_level=LAX: what the compiler does not take is run by Python between compiled pieces.

Each case is an ordinary function with a line marked `# <--`, at which STRICT refuses it. Under LAX
graph mode gives what eager mode gives, twice in a row, and says so once, at the marked statement.
"""

import dataclasses
import inspect
import io
import json
import random
import tempfile
import threading
import warnings

import numpy as np
import pytest

import cellc
from cellc import LaxWarning, Parameter, Tensor, context, nn, ops
from cellc.errors import CellcError, SyntaxFault
from tests.lang.same import assert_same, f32, in_mode

CASES = []
TEMPORARY = tempfile.mkdtemp()


@pytest.fixture(autouse=True)
def lax():
    context.set_context(jit_syntax_level=context.LAX)
    cellc.lax.report._said.clear()
    yield
    context.set_context(jit_syntax_level=context.STRICT)


def case(*args, parts=None):
    """Decorator: the function is a case on these arguments. `parts`: what runs, P for a compiled
    piece and S for a statement of Python's."""
    def enter(fn):
        CASES.append(pytest.param(fn, args, parts, id=fn.__name__))
        return fn

    return enter


def fresh(fn):
    """The function, as it was before it was compiled."""
    vars(fn).pop("_cellc_compiled", None)
    return fn


def reported(work):
    """(the value of `work()`, the LaxWarnings on the way)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = work()
    return value, [w for w in caught if issubclass(w.category, LaxWarning)]


def shape_of(fn) -> str:
    """The parts of the only plan of a callable, in order."""
    (plan,) = cellc.compile.compiled(fn).plans.values()

    def walk(part):
        if not hasattr(part, "pieces"):
            return "S"
        return "P" if part.parts is None else "".join(map(walk, part.parts))

    return walk(plan.root)


def marked_lines(fn) -> list[int]:
    lines, first = inspect.getsourcelines(fn)
    return [first + i for i, line in enumerate(lines) if "# <--" in line]


@pytest.mark.parametrize("fn, args, parts", CASES)
def test_case(fn, args, parts):
    expected = [in_mode(context.PYNATIVE_MODE, fn, args) for _ in range(2)]
    jitted = cellc.jit(fresh(fn))
    found, said = reported(lambda: [in_mode(context.GRAPH_MODE, jitted, args) for _ in range(2)])
    for a, b in zip(found, expected, strict=True):
        assert_same(a, b)
    assert [w.lineno for w in said] == marked_lines(fn), "\n".join(str(w.message) for w in said)
    assert all(w.filename == __file__ for w in said)
    if parts is not None:
        assert shape_of(fn) == parts
    context.set_context(jit_syntax_level=context.STRICT)
    with pytest.raises(CellcError):
        in_mode(context.GRAPH_MODE, jitted, args)


# -- one statement ---------------------------------------------------------------------------------

X = f32(4)
M = f32(3, 4)


@case(X, parts="PSP")
def in_the_middle(x):
    y = ops.tanh(x) * 2.0
    m = float(np.median(y.asnumpy()))  # <--
    return ops.sum(y - m)


@case(X, parts="SP")
def first(x):
    n = len(x.tolist())  # <--
    return x * n


@case(X, parts="PS")
def last(x):
    y = x * 2.0
    return y.asnumpy().tolist()  # <--


@case(X, parts="PSPSP")
def two_of_them(x):
    y = x + 1.0
    a = float(y.asnumpy()[0])  # <--
    z = y * a
    b = float(z.asnumpy()[1])  # <--
    return z - b, a, b


@case(X)
def neighbours(x):
    a = float(x.asnumpy()[0])  # <--
    b = float(x.asnumpy()[1])  # <--
    return x * a + b


@case(X, 3)
def loop_within(x, n):
    total = x
    for i in range(n):  # <--
        total = total * float(np.cos(i)) + float(x.asnumpy()[i])
    return ops.sum(total)


@case(X)
def branch_within(x):
    if ops.sum(x) > 0.0:  # <--
        scale = json.loads("[2.0]")[0]
    else:
        scale = json.loads("[3.0]")[0]
    return x * scale


@case(X)
def try_around(x):
    y = x * 2.0
    try:  # <--
        np.linalg.inv(np.zeros((2, 2)) * y.asnumpy()[0])
    except np.linalg.LinAlgError:
        y = y + 1.0
    finally:
        z = y - 0.5
    return y, z


@case(X)
def random_module(x):
    random.seed(3)  # <--
    a = random.random()  # <--
    return x * a


@case(X)
def reads_a_file(x):
    with open(__file__) as file:  # <--
        line = file.readline()
    n = len(line)
    return x * n


@case(X)
def print_into(x):
    out = io.StringIO()  # <--
    print("sum", float(ops.sum(x)) > -100.0, file=out)  # <--
    return x, out.getvalue()  # <--


@case(X)
def class_inside(x):
    class Scale:  # <--
        def __init__(self, factor):
            self.factor = factor

        def apply(self, x):
            return x * self.factor

    y = x + 1.0
    return Scale(3.0).apply(y)  # <--


@case(f32(3, low=0.9, high=1.1))
def size_from_values(x):
    n = int(ops.round(ops.sum(x)))
    y = ops.zeros((n, 2))  # <--
    return y + 1.0


@case(X)
def key_from_values(x):
    groups = {0: [], 1: []}
    for i in range(4):  # <--
        groups[int(x[i] > 0.0)].append(x[i])
    return len(groups[0]), ops.stack(groups[1])


@case(X)
def array_flows_on(x):
    a = np.sort(x.asnumpy())  # <--
    b = a * 2  # <--
    y = Tensor(b)  # <--
    return ops.tanh(y)


@case(X)
def numpy_number_flows_on(x):
    m = np.mean(x.asnumpy())  # <--
    d = x - Tensor(m)  # <--
    return ops.sum(d * d)


@case(X)
def text_of_values(x):
    y = x * 2.0
    return f"{float(ops.sum(y)):.3f}"  # <--


@case(X)
def types_that_do_not_meet(x):
    if ops.sum(x) > 0.0:  # <--
        return "positive"
    return x


# -- what flows, and how ---------------------------------------------------------------------------

@case(X)
def early_return(x):
    y = x * 2.0
    if ops.sum(x) > 1e6:  # <--
        return y
    a = float(y.asnumpy()[0])  # <--
    return y * a


@case(X, False)
def known_early_return(x, early):
    y = x * 2.0
    if early:
        return y
    a = float(y.asnumpy()[0])  # <--
    return y * a


@case(X)
def python_returns(x):
    y = x * 2.0
    for value in y.tolist():  # <--
        if value > -100.0:
            return value
    return 0.0


@case(X)
def a_list_changed_by_python(x):
    found = [x, x * 2.0]
    found.append(x.tolist()[0])  # <--
    return found[0] + found[1] * found[2], len(found)


@case(X)
def two_names_of_one_list(x):
    a = [x * 1.0]
    b = a
    b.append(x.tolist()[1])  # <--
    return len(a), a[1]


@case(X)
def a_list_within_a_list(x):
    a = [x * 1.0]
    b = [a, 2.0, x, (a, a)]
    a.append(x.tolist()[1])  # <--
    return len(b[0]), b[0][1], b[3][1]  # <--


@case(X)
def two_names_of_one_tensor(x):
    y = x * 2.0
    z = y
    w = x.copy()
    z[0] = float(np.float32(7.0))
    w[int(np.argmin(x.asnumpy()))] = 5.0  # <--
    return y, z, w


@case(X)
def unbound_on_one_way(x):
    if ops.sum(x) > -100.0:  # <--
        y = x * 2.0
    a = float(x.asnumpy()[0])  # <--
    return y * a


@case(X)
def deleted(x):
    y, z = x * 2.0, 1.0
    del z
    a = float(y.asnumpy()[0]) + ("z" in locals())  # <--
    z = 3.0
    return y * a * z


@case(X)
def function_inside(x):
    def scaled(y):
        return y * factor

    factor = 2.0
    a = float(scaled(x).asnumpy()[0])  # <--
    factor = 3.0
    return scaled(x) * a


@case(X)
def function_that_counts(x):
    n = 0

    def count(y):  # <--
        nonlocal n
        n += 1
        return y * n

    y = count(x)  # <--
    a = float(y.asnumpy()[0])  # <--
    return count(y) * a, n  # <--


@case(X)
def late_binding(x):
    k = 1.0
    scale = [lambda: k]  # <--
    a = float(x.asnumpy()[0])  # <--
    k = 5.0
    return x * scale[0]() * a  # <--


@case(X)
def comprehension_and_walrus(x):
    values = [v for v in x.tolist() if (last := v) < 100.0]  # <--
    return x * last, len(values)


@case(X, {"a": 2.0, "b": [1.0, 3.0]})
def structures(x, options):
    y = x * options["a"]
    s = sum(y.tolist())  # <--
    pair = (y, {"s": s, "more": options["b"]})
    n = len(json.dumps(pair[1]["more"]))  # <--
    return pair[0] * n, pair[1]["s"]


@case(X)
def star_arguments(x, *rest, k=2.0, **more):
    y = x * k
    n = len(str(y.tolist())) * 0 + len(rest) + len(more)  # <--
    return y + n


@case(X)
def import_inside(x):
    import zlib

    y = x + 1.0
    n = zlib.crc32(b"a") % 7  # <--
    return y * n


SCALE = {"a": 2.0}


@case(X)
def globals_are_read(x):
    global COUNT
    COUNT = 4.0  # <--
    return x * SCALE["a"] * COUNT


@dataclasses.dataclass
class Pair:
    a: object
    b: object


@case(X)
def objects_pass_through_python(x):
    pair = Pair(x * 2.0, 1.0)  # <--
    pair.b = float(pair.a.asnumpy()[0])  # <--
    return pair.a * pair.b  # <--


# -- called functions ------------------------------------------------------------------------------

def median(x):
    return float(np.median(x.asnumpy()))


@case(X, parts="PSP")
def in_a_called_function(x):
    y = x * 2.0
    m = median(y)  # <--
    return y - m


@case(X, 4)
def recursion(x, n):
    if n == 0:  # <--
        return x
    a = float(x.asnumpy()[n - 1])  # <--
    return recursion(x * a, n - 1)  # <--


def test_the_call_of_what_is_refused_names_both_places():
    jitted = cellc.jit(fresh(in_a_called_function))
    _, said = reported(lambda: in_mode(context.GRAPH_MODE, jitted, (X,)))
    (warning,) = said
    text = str(warning.message)
    line = inspect.getsourcelines(median)[1] + 1
    assert f"{__file__}:{line}:28" in text
    assert "m = median(y)" in text and ".asnumpy needs the values of a tensor" in text
    assert "because: " in text and "cost: " in text and "try: " in text


def update(w, rate):
    for _ in range(3):
        w = w - rate * ops.tanh(w)
    return w


def same_again(w):
    return w


def looks(w):
    return w * float(w.asnumpy()[0])


@case(X, [0.5, 0.25])
def calls_from_python(x, rates):
    w = x * 1.0
    kept = []
    for line in json.dumps(rates)[1:-1].split(","):  # <--
        w = update(w, float(line))
        w = looks(same_again(w))
        kept.append(w)
    same = same_again(kept[1])
    same[0] = 4.0  # <--
    return w, kept[1]


def test_functions_called_from_there_are_compiled():
    in_mode(context.GRAPH_MODE, cellc.jit(fresh(calls_from_python)), (X, [0.5, 0.25]))
    made = cellc.lax.calls._made
    assert [len(v.types) for v in made[update].variants] == [2]
    assert made[looks] is None and made[same_again] is None


def test_strings_from_a_file_do_not_compile_for_ever():
    def fn(x, path):
        y = x * 2.0
        name = open(path).readline()
        if name == "half":
            y = y * 0.25
        return ops.tanh(y)

    jitted = cellc.jit(fn)
    texts = ["half", *map(str, range(14))]
    for text in texts:
        path = f"{TEMPORARY}/name.txt"
        with open(path, "w") as file:
            file.write(text)
        assert_same(in_mode(context.GRAPH_MODE, jitted, (X, path)), fn(X, path))
    (plan,) = cellc.compile.compiled(fn).plans.values()
    assert len(plan.reports) == 2       # the second is `if name == ...`


def test_sizes_from_python_do_not_compile_for_ever():
    def fn(x, text):
        y = x * 2.0
        n = len(json.loads(text))
        z = ops.tanh(y)
        return ops.zeros((n, 2)) + ops.sum(z)

    jitted = cellc.jit(fn)
    for n in range(2, 14):
        text = json.dumps([0] * n)
        assert_same(in_mode(context.GRAPH_MODE, jitted, (X, text)), fn(X, text))
    made = cellc.compile.compiled(fn)
    assert len(made.plans) == 4
    plan = list(made.plans.values())[-1]
    assert [type(part).__name__ for part in plan.root.parts] == ["_Section", "_Step", "_Section"]
    last = plan.root.parts[2]
    assert [type(part).__name__ for part in last.parts] == ["_Section", "_Step"]
    assert [len(piece.variants) for piece in last.pieces.values()] == [8]


class Remembering(nn.Cell):
    """Python leaves an array in the cell, which the piece after it reads."""

    def construct(self, x):
        self.seen = x.asnumpy() * 2.0
        y = x * Tensor(self.seen)
        return ops.tanh(y)


def test_what_is_read_outside_does_not_compile_for_ever():
    net = Remembering()
    for i in range(40):
        x = X * (1.0 + i)
        assert_same(in_mode(context.GRAPH_MODE, net, (x,)),
                    in_mode(context.PYNATIVE_MODE, Remembering(), (x,)))
    assert "compiled 32 times" in "".join(cellc.explain(net).splits)


def test_threads():
    net = Counting()
    expected = in_mode(context.PYNATIVE_MODE, through, (X,))
    jitted, errors = cellc.jit(fresh(through)), []
    context.set_context(mode=context.GRAPH_MODE)

    def work():
        try:
            for _ in range(20):
                assert_same(jitted(X), expected)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    context.set_context(mode=context.PYNATIVE_MODE)
    assert not errors
    assert net.n is not None


def test_a_cell_of_cellc_around_what_is_refused():
    class Inner(nn.Cell):
        def construct(self, x):
            return x * float(x.asnumpy().max())

    net = nn.SequentialCell([nn.Dense(4, 4, "ones", "zeros"), Inner(), nn.ReLU()])
    found, said = reported(lambda: in_mode(context.GRAPH_MODE, net, (M,)))
    assert_same(found, in_mode(context.PYNATIVE_MODE, net, (M,)))
    assert [str(w.message).count("return x * float(x.asnumpy().max())") for w in said] == [1, 1]
    assert "what SequentialCell does around this" in str(said[1].message)
    loss = nn.WithLossCell(net, lambda a, b: ops.mean(ops.abs(a - b)) * looks(M[0]).shape[0])
    found, said = reported(lambda: in_mode(context.GRAPH_MODE, loss, (M, M)))
    assert_same(found, in_mode(context.PYNATIVE_MODE, loss, (M, M)))
    assert said


def test_a_function_whose_source_is_gone():
    scope = {"np": np}
    exec("def hidden(x):\n    return x * float(np.median(x.asnumpy()))", scope)
    hidden = scope["hidden"]

    def fn(x):
        y = hidden(x + 1.0)
        return y * 2.0

    found, said = reported(lambda: in_mode(context.GRAPH_MODE, cellc.jit(fn), (X,)))
    assert_same(found, fn(X))
    assert "source" in str(said[0].message)
    assert_same(in_mode(context.GRAPH_MODE, cellc.jit(hidden), (X,)), hidden(X))


def test_generators_and_lambdas_run_as_a_whole():
    def rounds(x):
        for i in range(2):
            yield x * i

    found, said = reported(lambda: in_mode(context.GRAPH_MODE, cellc.jit(rounds), (X,)))
    assert_same(list(found), list(rounds(X)))
    assert "as a whole" in str(said[0].message)
    listed = cellc.jit(lambda x: x.tolist())
    assert in_mode(context.GRAPH_MODE, listed, (X,)) == X.tolist()


# -- cells -----------------------------------------------------------------------------------------

class Counting(nn.Cell):
    """Assigns a Parameter before, in and after what Python runs."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 4, "ones", "zeros")
        self.n = Parameter(Tensor(0.0), name="n", requires_grad=False)

    def construct(self, x):
        self.n += 1.0
        h = ops.tanh(self.dense(x))
        if float(np.max(h.asnumpy())) > 0.5:  # <--
            self.n = self.n * 2.0
        self.n += 0.5
        return ops.sum(h * self.n)


class Nested(nn.Cell):
    def __init__(self, child):
        super().__init__()
        self.child, self.__factor = child, 2.0

    def construct(self, x):
        y = self.child(x * self.__factor)
        return y + float(np.sum(np.ones(2))) * super().name_cells().__len__() * self.__factor


def test_cells_and_the_order_of_effects():
    eager, graph = Counting(), Counting()
    for x in (M, M * -1.0, M):
        expected = in_mode(context.PYNATIVE_MODE, eager, (x,))
        assert_same(in_mode(context.GRAPH_MODE, graph, (x,)), expected)
        assert_same(Tensor(graph.n), Tensor(eager.n))


def test_a_cell_within_a_cell_is_divided_where_it_stands():
    net = Nested(Counting())
    expected = in_mode(context.PYNATIVE_MODE, Nested(Counting()), (M,))
    found, said = reported(lambda: in_mode(context.GRAPH_MODE, net, (M,)))
    assert_same(found, expected)
    inner = marked_lines(Counting.construct)[0]
    assert inner in [w.lineno for w in said]
    assert shape_of(net.child) == "PSP"


def test_private_names_and_super():
    class Base(nn.Cell):
        def scale(self):
            return 3.0

    class Derived(Base):
        def __init__(self):
            super().__init__()
            self.__factor = 2.0

        def scale(self):
            return 100.0

        def construct(self, x):
            y = x * self.__factor
            a = float(y.asnumpy()[0]) * super().scale() * self.__factor
            return y * a

    assert_same(in_mode(context.GRAPH_MODE, Derived(), (X,)),
                in_mode(context.PYNATIVE_MODE, Derived(), (X,)))


def test_methods_of_objects():
    class Model:
        def __init__(self):
            self.calls = []

        @cellc.jit
        def run(self, x):
            y = x * 2.0
            self.calls.append(1)
            return y * len(self.calls)

    a, b = Model(), Model()
    for _ in range(2):
        expected = in_mode(context.PYNATIVE_MODE, lambda x: Model.run.fn(a, x), (X,))
        assert_same(in_mode(context.GRAPH_MODE, b.run, (X,)), expected)


# -- gradients -------------------------------------------------------------------------------------

def through(x):
    y = ops.tanh(x) * 2.0
    m = float(np.median(y.asnumpy()))
    return ops.sum(y * y * m)


def strict_equivalent(x, m):
    y = ops.tanh(x) * 2.0
    return ops.sum(y * y * m)


def chosen_by_python(x):
    y = x * x
    if json.loads("true") and float(np.max(y.asnumpy())) > 0.0:
        y = y * x
    return ops.sum(y)


def rounds_by_python(x):
    y = x
    while float(np.abs(y.asnumpy()).max()) > 0.5:
        y = y * 0.5
    return ops.sum(y * y)


@pytest.mark.parametrize("fn", [through, chosen_by_python, rounds_by_python, in_a_called_function,
                                loop_within, late_binding, class_inside])
@pytest.mark.parametrize("order", [1, 2])
def test_gradients(fn, order):
    """As eager mode has them, and as central differences of what Python holds fixed would be."""
    def scalar(x):
        return ops.sum(fn(x, 3) if fn is loop_within else fn(x))

    g = cellc.grad(scalar)
    if order == 2:
        inner = g
        g = cellc.grad(lambda x: ops.sum(inner(x) * inner(x)))
    expected = in_mode(context.PYNATIVE_MODE, g, (X,))
    found, said = reported(lambda: in_mode(context.GRAPH_MODE, g, (X,)))
    assert_same(found, expected, "the gradient")
    assert any("on the eager tape" in str(w.message) for w in said)


def test_gradients_against_a_strict_equivalent():
    m = float(np.median(np.tanh(X.asnumpy()) * 2.0))
    found = in_mode(context.GRAPH_MODE, cellc.grad(through), (X,))
    context.set_context(jit_syntax_level=context.STRICT)
    assert_same(found, in_mode(context.GRAPH_MODE, cellc.grad(strict_equivalent), (X, m)))


def test_gradients_against_central_differences():
    x = Tensor(np.linspace(0.6, 1.9, 4))
    found = in_mode(context.GRAPH_MODE, cellc.grad(rounds_by_python), (x,)).asnumpy()
    for i in range(4):
        step = np.eye(4)[i] * 1e-6
        high, low = (float(in_mode(context.GRAPH_MODE, cellc.jit(rounds_by_python),
                                   (Tensor(x.asnumpy() + s),))) for s in (step, -step))
        np.testing.assert_allclose(found[i], (high - low) / 2e-6, rtol=1e-7)


def test_gradients_by_weights_and_training():
    def losses(mode):
        net = Counting()
        optimizer = nn.Momentum(net.trainable_params(), 0.01, 0.9)
        step = nn.TrainOneStepCell(net, optimizer)
        step.set_train()
        return [float(in_mode(mode, step, (M,))) for _ in range(3)], net.dense.weight

    eager, graph = losses(context.PYNATIVE_MODE), losses(context.GRAPH_MODE)
    np.testing.assert_allclose(graph[0], eager[0], rtol=1e-5)
    assert_same(Tensor(graph[1]), Tensor(eager[1]))
    assert graph[0][0] != graph[0][2]


def test_a_number_made_of_what_is_differentiated_is_refused_as_in_eager_mode():
    def fn(x):
        json.dumps(1)
        return ops.sum(x) * float(ops.sum(x))

    for mode in (context.PYNATIVE_MODE, context.GRAPH_MODE):
        with pytest.raises(TypeError, match="becomes a Python number while it is differentiated"):
            in_mode(mode, cellc.grad(fresh(fn)), (X,))
    assert_same(in_mode(context.GRAPH_MODE, cellc.jit(fn), (X,)), fn(X))


def test_other_transforms():
    for transform in (lambda f: cellc.jvp(f, (X,), (X,)), lambda f: cellc.jacrev(f)(X),
                      lambda f: cellc.vmap(f)(M), lambda f: cellc.value_and_grad(f)(X),
                      lambda f: cellc.GradOperation(get_all=True)(f)(X)):
        expected = in_mode(context.PYNATIVE_MODE, transform, (through,))
        assert_same(in_mode(context.GRAPH_MODE, transform, (through,)), expected)


def test_no_grad_and_backward():
    def detached(x):
        with cellc.no_grad():
            y = ops.tanh(x)
            m = float(y.asnumpy()[0])
        return ops.sum(x * y * m)

    assert_same(in_mode(context.GRAPH_MODE, cellc.grad(detached), (X,)),
                in_mode(context.PYNATIVE_MODE, cellc.grad(detached), (X,)))
    x = Tensor(X, requires_grad=True)
    in_mode(context.GRAPH_MODE, cellc.compile.compiled(through).call, (x,)).backward()
    assert_same(x.grad, in_mode(context.PYNATIVE_MODE, cellc.grad(through), (X,)))
    assert not in_mode(context.GRAPH_MODE, Counting(), (M,)).requires_grad


# -- what is said, and when ------------------------------------------------------------------------

def test_nothing_is_said_of_what_compiles():
    def plain(x):
        return ops.tanh(x) * 2.0

    found, said = reported(lambda: in_mode(context.GRAPH_MODE, cellc.jit(plain), (X,)))
    assert_same(found, plain(X))
    assert not said
    assert not cellc.explain(plain).splits


def test_the_warning():
    _, said = reported(lambda: in_mode(context.GRAPH_MODE, cellc.jit(fresh(in_the_middle)), (X,)))
    (warning,) = said
    line = marked_lines(in_the_middle)[0]
    text = str(warning.message).splitlines()
    assert text[0] == (f"{__file__}:{line}:5: this statement is run by Python, between compiled "
                       "pieces (jit_syntax_level=LAX)")
    assert text[1] == "        m = float(np.median(y.asnumpy()))  # <--".replace("    ", "    ", 1)
    assert text[3].startswith("  because: .asnumpy needs the values of a tensor")
    assert text[4].startswith("  cost: ") and " at this first call" in text[4]
    assert text[5] == "  try: return the tensor and call asnumpy() on the result"


def test_the_warning_of_a_compound_statement_says_what_is_still_compiled():
    _, said = reported(lambda: in_mode(context.GRAPH_MODE, cellc.jit(fresh(loop_within)), (X, 3)))
    assert "functions of a module, that are called there: these are compiled" in str(
        said[0].message)


def test_explain_lists_what_python_runs():
    fresh(two_of_them)
    for _ in range(3):
        in_mode(context.GRAPH_MODE, cellc.jit(two_of_them), (X,))
    made = cellc.explain(two_of_them)
    lines = marked_lines(two_of_them)
    assert len(made.splits) == 2
    for split, line in zip(sorted(made.splits), lines, strict=True):
        assert split.startswith(f"{__file__}:{line}:5: ") and "3 call(s)" in split
    assert str(made).count("run by Python: ") == 2
    assert made.pieces == 3 and "3 compiled piece(s)" in str(made)


def test_a_filter_can_make_errors_of_it():
    with warnings.catch_warnings():
        warnings.simplefilter("error", LaxWarning)
        for _ in range(2):
            with pytest.raises(LaxWarning):
                in_mode(context.GRAPH_MODE, cellc.jit(first), (X,))


def test_strict_again_after_lax():
    jitted = cellc.jit(fresh(in_the_middle))
    in_mode(context.GRAPH_MODE, jitted, (X,))
    context.set_context(jit_syntax_level=context.STRICT)
    with pytest.raises(CellcError, match="asnumpy needs the values"):
        in_mode(context.GRAPH_MODE, jitted, (X,))
    context.set_context(jit_syntax_level="LAX")
    assert_same(in_mode(context.GRAPH_MODE, jitted, (X,)), in_the_middle(X))


def test_errors_of_the_program_stay_its_own():
    def wrong_shapes(x):
        a = float(x.asnumpy()[0])
        return ops.matmul(x * a, ops.ones((7, 7)))

    def raises(x):
        y = x * 2.0
        if float(y.asnumpy()[0]) < 1e9:
            raise LookupError("nothing there")
        return y

    with pytest.raises(ValueError, match="matmul"):
        in_mode(context.GRAPH_MODE, cellc.jit(wrong_shapes), (X,))
    with pytest.raises(LookupError, match="nothing there") as info:
        in_mode(context.GRAPH_MODE, cellc.jit(raises), (X,))
    line = inspect.getsourcelines(raises)[1] + 3
    assert any(entry.lineno + 1 == line for entry in info.traceback)
    with pytest.raises(TypeError, match="argument"):
        in_mode(context.GRAPH_MODE, cellc.jit(first), (X, X))


@pytest.mark.parametrize("wrong, words", [
    (lambda x: ops.tanh(Tensor([1, 2])) + x, "tanh"),
    (lambda x: ops.matmul(x, ops.ones((7, 7))), "matmul"),
    (lambda x: ops.reshape(x, ("a",)), "reshape"),
])
def test_mistakes_are_what_they_are_in_strict(wrong, words):
    def fn(x):
        y = x * 2.0
        return wrong(y)

    context.set_context(mode=context.GRAPH_MODE)
    found = []
    for level in (context.LAX, context.STRICT):
        context.set_context(jit_syntax_level=level)
        with pytest.raises(CellcError, match=words) as info, warnings.catch_warnings():
            warnings.simplefilter("error", LaxWarning)
            cellc.jit(fresh(fn))(X)
        found.append((type(info.value), str(info.value)))
    context.set_context(mode=context.PYNATIVE_MODE)
    assert found[0] == found[1]


def test_pieces_are_compiled_once():
    def fn(x, scale):
        y = ops.tanh(x) * scale
        m = float(y.asnumpy()[0])
        return y * m + ops.exp(y)

    jitted = cellc.jit(fn)
    for scale in (1.0, 2.0, 3.0):
        assert_same(in_mode(context.GRAPH_MODE, jitted, (X, scale)), fn(X, scale))
    (plan,) = cellc.compile.compiled(fn).plans.values()
    pieces = [c for part in plan.root.parts if hasattr(part, "pieces")
              for c in part.pieces.values()]
    assert [len(c.variants) for c in pieces] == [1, 1]


def test_a_refusal_that_only_some_arguments_meet():
    def fn(x, careful):
        y = x * 2.0
        if careful:
            y = y + float(np.max(y.asnumpy()))
        return ops.tanh(y)

    jitted = cellc.jit(fn)
    for careful in (False, True, False):
        assert_same(in_mode(context.GRAPH_MODE, jitted, (X, careful)), fn(X, careful))
    made = cellc.compile.compiled(fn)
    assert len(made.variants) == 1 and len(made.plans) == 1


def test_the_setting():
    assert context.get_context("jit_syntax_level") == context.LAX == cellc.LAX
    with pytest.raises(CellcError, match="jit_syntax_level"):
        context.set_context(jit_syntax_level=1)
    assert issubclass(LaxWarning, UserWarning)
    assert issubclass(SyntaxFault, SyntaxError)
