"""What the parser refuses: for each the class of the error, its line and column, and its words.

A case is a function whose offending line has `# <--`; `at` is the text on it that is pointed to.
"""

import array
import asyncio
import datetime
import inspect
import io
import linecache
import math
import os
import pickle
import random
import threading
from dataclasses import dataclass

import numpy as np
import pytest

from cellc import Parameter, Tensor, context, nn, ops
from cellc.errors import (
    AssertionFault,
    AttributeFault,
    CellcError,
    IndexFault,
    KeyFault,
    NameFault,
    ShapeFault,
    SourceFault,
    SyntaxFault,
    TypeFault,
    ValueFault,
)
from cellc.ir.types import ScalarType, TensorType, f32, f64, i64
from cellc.parser.trace import trace
from cellc.parser.values import Leaf

CASES = []
X = Leaf(TensorType(f32, (3,)))
M = Leaf(TensorType(f32, (2, 4)))
S = Leaf(ScalarType(f64))
N = Leaf(ScalarType(i64))


def refused(kind, words, at, *args):
    """Decorator: parsing the function with these arguments fails so."""
    def enter(fn):
        CASES.append(pytest.param(fn, args, kind, words, at, id=fn.__name__))
        return fn

    return enter


@pytest.mark.parametrize("fn, args, kind, words, at", CASES)
def test_refusal(fn, args, kind, words, at):
    with pytest.raises(kind) as info:
        trace(fn, args, {}, fn.__name__)
    fault = info.value
    lines, first = inspect.getsourcelines(fn)
    marked = [i for i, line in enumerate(lines) if "# <--" in line]
    assert len(marked) == 1, "a case marks one line"
    assert words in str(fault)
    assert fault.loc.file == __file__
    assert fault.loc.line == first + marked[0]
    assert fault.loc.col == lines[marked[0]].index(at) + 1
    assert str(fault).startswith(f"{__file__}:{fault.loc.line}:{fault.loc.col}: ")
    assert lines[marked[0]].strip() in str(fault)


# -- statements outside the fence ------------------------------------------------------------------

@refused(SyntaxFault, "`try ... except*` is not taken", "try", X)
def try_star(x):
    try:  # <--
        return x
    except* ValueError:
        pass


LOCK = threading.Lock()


@refused(SyntaxFault, "would be entered once, while compiling", "LOCK", X)
def with_of_the_library(x):
    with LOCK:  # <--
        return x


@refused(SyntaxFault, "a `yield` at this place", "yield", X)
def nested_yield(x):
    def inner():
        while (yield x):  # <--
            pass

    return list(inner())


@refused(TypeFault, "whether ValueError is raised here is known only", "raise", X)
def raise_of_one_branch(x):
    def f(v):
        if v.sum() > 0:
            raise ValueError  # <--
        return v

    try:
        return f(x)
    except ValueError:
        return x * 2


@refused(TypeFault, "whether KeyError is raised here is known only when", '{}["k"]', X)
def fault_of_one_branch(x):
    def f(v):
        if v.sum() > 0:
            v = {}["k"]  # <--
        return v

    try:
        return f(x)
    except KeyError:
        return x * 2


@refused(TypeFault, "the number of items must be known", "x.sum()", X)
def traced_yield(x):
    def inner():
        if x.sum() > 0:  # <--
            yield x

    return list(inner())


@refused(TypeFault, "different numbers of items from this iterator", "next", X)
def iterator_of_two_places(x):
    it = iter([1, 2, 3])
    if x.sum() > 0:
        next(it)
    return next(it)  # <--


OUTSIDE_ITERATOR = iter([1, 2])


@refused(TypeFault, "would use it up once, while compiling", "OUTSIDE_ITERATOR", X)
def iterator_from_outside(x):
    for k in OUTSIDE_ITERATOR:  # <--
        x = x * k
    return x


@refused(SyntaxFault, "`class` is not taken", "class", X)
def class_statement(x):
    class Inner:  # <--
        pass

    return x


@refused(SyntaxFault, "`async def` is not taken", "async", X)
async def coroutine(x):  # <--
    await asyncio.sleep(0)
    return x


@refused(SyntaxFault, "`async def` is not taken", "async", X)
def inner_coroutine(x):
    async def inner():  # <--
        return x

    return inner()


@refused(SyntaxFault, "import it at the top", "import", X)
def import_of_a_user_module(x):
    import conftest  # <--

    return conftest


@refused(TypeFault, "`global counter`", "counter", X)
def global_assignment(x):
    global counter
    counter = 1  # <--
    return x


@refused(TypeFault, "range() of f64", "range", S)
def traced_range(n):
    for _ in range(n):  # <--
        pass
    return n


@refused(TypeFault, "whether this item is kept", "v.sum()", X)
def traced_filter(x):
    return {i: v for i, v in enumerate((x, x + 1)) if v.sum() > 0}  # <--


@refused(TypeFault, "accepts 0 positional sub-patterns", "nn.Cell", X)
def class_pattern(x):
    match NET:
        case nn.Cell(a):  # <--
            return x, a


# -- names, attributes, items ----------------------------------------------------------------------

@refused(NameFault, "the name undefined_name is not defined", "undefined_name", X)
def undefined(x):
    return x + undefined_name  # <--  # noqa: F821


@refused(NameFault, "did you mean ops?", "opz", X)
def misspelt(x):
    return opz.tanh(x)  # <--  # noqa: F821


@refused(NameFault, "y is read before anything is assigned to it", "y", X)
def read_before_assignment(x):
    z = x + y  # <--  # noqa: F821
    y = z
    return y


@refused(TypeFault, "the two branches give y no one type: f32[3]", "y", X)
def branches_of_two_types(x):
    if x.sum() > 0:
        y = x
    else:
        y = None
    return y  # <--


@refused(TypeFault, "the two branches give y no one type: f32[3] at", "y", X)
def branches_of_two_shapes(x):
    if x.sum() > 0:
        y = x
    else:
        y = x.sum()
    return y  # <--


@refused(TypeFault, "the rounds of the `while` give k no one type: i32[] before it, at", "k", X)
def rounds_of_two_types(x):
    k = x.argmin().astype("int32")
    while x.sum() > 0:
        x = x - x[k]  # <--
        k = x.argmax()
    return x


@refused(TypeFault, "the returned value no one type", "if", X)
def returns_of_two_types(x):
    if x.sum() > 0:  # <--
        return x
    return None


@refused(AttributeFault, "did you mean .reshape?", "x.reshpe", X)
def missing_method(x):
    return x.reshpe(3)  # <--


@refused(AttributeFault, "a number (f64) has no attribute sum", "s.sum", S)
def method_of_a_number(s):
    return s.sum()  # <--


@refused(TypeFault, ".asnumpy needs the values", "x.asnumpy", X)
def asnumpy(x):
    return x.asnumpy()  # <--


@refused(IndexFault, "index 5 of a list of 2 items", "[x, x][5]", X)
def index_of_a_list(x):
    return [x, x][5]  # <--  # noqa: PLE0643


@refused(KeyFault, "no key 'b' in the dict", '{"a"', X)
def missing_key(x):
    return {"a": x}["b"]  # <--


@refused(TypeFault, "a list is indexed by a number known only", "[x, x]", X, N)
def traced_index(x, n):
    return [x, x][n]  # <--


@refused(TypeFault, "keys must be known", '{x: 1}', X)
def traced_key(x):
    return {x: 1}  # <--


@refused(ValueFault, "found 3 values to unpack, expected 2", "a, b", X)
def unpacking(x):
    a, b = x, x, x  # <--
    return a + b


# -- operations ------------------------------------------------------------------------------------

@refused(ShapeFault, "do not broadcast", "x + y", X, M)
def shapes(x, y):
    z = (x + y) * 2  # <--
    return z


@refused(ShapeFault, "", "x @ y", M, M)
def matmul(x, y):
    return ops.tanh(x @ y)  # <--


@refused(TypeFault, "found f32[3] + 'a'", "x +", X)
def operand(x):
    return x + "a"  # <--


@refused(TypeFault, "one true or false is needed", "x > 0", X)
def truth_of_a_tensor(x):
    if x > 0:  # <--
        return x
    return -x


@refused(TypeFault, "use ops.tanh", "np.tanh", X)
def numpy_function(x):
    return np.tanh(x)  # <--


@refused(TypeFault, "math.sqrt takes a number", "math.sqrt", X)
def math_function(x):
    return math.sqrt(x)  # <--


@refused(SyntaxFault, "runs in Python", "time.time", X)
def impure_function(x):
    import time
    return x + time.time()  # <--


@refused(SyntaxFault, "reaches into Python", "open", X)
def builtin_with_effects(x):
    open("f")  # <--
    return x


@refused(TypeFault, "float() argument must be", "float", X)
def python_error(x):
    return x * float([])  # <--


@refused(ValueFault, "invalid literal for int()", "int", X)
def python_value_error(x):
    return x * int("three")  # <--


@refused(AssertionFault, "three rows", "assert", X)
def failed_assertion(x):
    assert x.shape[0] == 4, "three rows"  # <--
    return x


# -- calls -----------------------------------------------------------------------------------------

def two(a, b):
    return a + b


@refused(TypeFault, "two is called without its argument b", "two", X)
def too_few(x):
    return two(x)  # <--


@refused(TypeFault, "two takes 2 arguments, found 3", "two", X)
def too_many(x):
    return two(x, x, x)  # <--


@refused(TypeFault, "two has no argument c", "two", X)
def unknown_keyword(x):
    return two(x, c=x)  # <--


@refused(TypeFault, "given the argument a twice", "two", X)
def repeated_argument(x):
    return two(x, a=x)  # <--


@refused(TypeFault, "is called, and is no function", "3", X)
def call_of_a_number(x):
    return 3(x)  # <--


def endless(x):
    return endless(x + 1)  # <--


CASES.append(pytest.param(endless, (X,), SyntaxFault, "levels deep", "endless", id="recursion"))


@pytest.mark.parametrize("args, words", [
    ((), "construct is called without its argument x"),
    ((Tensor([1.0]),) * 2, "construct takes 1 argument, found 2"),
])
def test_a_call_that_does_not_fit_names_the_line_of_the_call(args, words):
    context.set_context(mode=context.GRAPH_MODE)
    try:
        with pytest.raises(TypeFault, match=words) as info:
            Net()(*args)  # here
    finally:
        context.set_context(mode=context.PYNATIVE_MODE)
    line = linecache.getline(__file__, info.value.loc.line)
    assert info.value.loc.file == __file__ and line.rstrip().endswith("# here")
    assert info.value.loc.col == line.index("Net()(") + 1


# -- what is outside must not change ---------------------------------------------------------------

OUTSIDE = [1, 2]
SETTINGS = {"k": 1}


@dataclass
class Options:
    k: int = 1


OPTIONS = Options()


@refused(TypeFault, "would change a list made outside", "OUTSIDE.append", X)
def append_outside(x):
    OUTSIDE.append(3)  # <--
    return x


@refused(TypeFault, "would change a dict made outside", "SETTINGS", X)
def item_outside(x):
    SETTINGS["k"] = 2  # <--
    return x


@refused(TypeFault, "is assigned inside the compiled call", "OPTIONS.k", X)
def attribute_outside(x):
    OPTIONS.k = 2  # <--
    return x


@refused(TypeFault, "work on a copy: x = x.copy()", "x[0]", X)
def item_of_an_argument(x):
    x[0] = 1.0  # <--
    return x


class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.k = 1
        self.steps = []
        self.w = Parameter(Tensor(np.ones(3, np.float32)), name="w")
        self.dense = nn.Dense(3, 2) if hasattr(nn, "Dense") else None

    def construct(self, x):
        return x * self.w


NET = Net()


@refused(TypeFault, "is assigned inside the compiled call", "NET.k", X)
def attribute_of_a_cell(x):
    NET.k = 2  # <--
    return x


@refused(TypeFault, "would change a list made outside", "NET.steps.append", X)
def list_of_a_cell(x):
    NET.steps.append(x)  # <--
    return x


@refused(AttributeFault, "has no attribute dens", "NET.dens", X)
def missing_attribute_of_a_cell(x):
    return NET.dens(x)  # <--


@refused(SyntaxFault, "changes the cell", "NET.set_train", X)
def change_of_a_cell(x):
    NET.set_train()  # <--
    return x


@refused(SyntaxFault, "a Parameter is made inside", "Parameter", X)
def parameter_inside(x):
    return x * Parameter(Tensor(1.0))  # <--


@refused(SyntaxFault, "is made inside the compiled call", "Net()", X)
def cell_inside(x):
    return Net()(x)  # <--


@refused(TypeFault, "construct is called without its argument x", "NET()", X)
def cell_without_argument(x):
    return NET() + x  # <--


@refused(ShapeFault, "", "NET.dense", M)
def error_inside_a_layer(x):
    return NET.dense(x)  # <--


# -- hints -----------------------------------------------------------------------------------------

def takes_int(n: int, t: Tensor):
    return t * n


@refused(TypeFault, "its hint says int", "takes_int", X, S)
def hint_of_a_number(x, s):
    return takes_int(s, x)  # <--


@refused(TypeFault, "its hint says a Tensor", "takes_int", X, N)
def hint_of_a_tensor(x, n):
    return takes_int(n, n)  # <--


# -- source ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("known", [
    None, "import sys\n", "def f(x):\n    return x + 1.0\n", "def f(x, y):\n    return x\n"])
def test_source_from_exec(known, monkeypatch):
    """From 3.13 on linecache has the text of `python -c`, under the name of every other string."""
    if known is None:
        monkeypatch.delitem(linecache.cache, "<string>", raising=False)
    else:
        monkeypatch.setitem(linecache.cache, "<string>",
                            (len(known), None, known.splitlines(True), "<string>"))
    scope = {}
    exec("def f(x):\n    return x", scope)
    with pytest.raises(SourceFault, match="the source of the function f .* cannot be found"):
        trace(scope["f"], (X,), {}, "f")


def test_source_from_the_command_line(monkeypatch):
    text = "import sys\ndef f(x):\n    return x.reshpe(3)\n"
    monkeypatch.setitem(linecache.cache, "<string>",
                        (len(text), None, text.splitlines(True), "<string>"))
    scope = {}
    exec(text, scope)
    with pytest.raises(AttributeFault) as info:
        trace(scope["f"], (X,), {}, "f")
    assert str(info.value.loc) == "<string>:3:12"


def test_source_from_the_repl():
    """A terminal that keeps its lines in linecache, as IPython does, is a file like any other."""
    text = "def f(x):\n    return x.reshpe(3)\n"
    linecache.cache["<input-1>"] = (len(text), None, text.splitlines(True), "<input-1>")
    scope = {"__name__": "repl"}
    exec(compile(text, "<input-1>", "exec"), scope)
    with pytest.raises(AttributeFault) as info:
        trace(scope["f"], (X,), {}, "f")
    assert str(info.value.loc) == "<input-1>:2:12"


def test_changed_source(tmp_path):
    path = tmp_path / "changed.py"
    path.write_text("def f(x):\n    return x\n")
    scope = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    path.write_text("def g(x):\n    return x\n")
    with pytest.raises(SourceFault, match="has changed"):
        trace(scope["f"], (X,), {}, "f")


def test_users_exceptions_reach_python():
    class Own(Exception):
        pass

    def fails(x):
        if x.ndim != 2:
            raise Own(f"found {x.ndim} axes")
        return x

    with pytest.raises(Own, match="found 1 axes") as info:
        trace(fails, (X,), {}, "fails")
    assert any("test_refusals.py" in note for note in info.value.__notes__)


def test_division_by_zero_keeps_its_class():
    def divides(x):
        return x * (1 // 0)

    with pytest.raises(ZeroDivisionError) as info:
        trace(divides, (X,), {}, "divides")
    assert "test_refusals.py" in info.value.__notes__[0]


def test_columns_count_characters():
    def accented(x):
        é = "ü" * x.shape[0]; return (é, x.éé)  # noqa: E702

    with pytest.raises(AttributeFault) as info:
        trace(accented, (X,), {}, "accented")
    line = linecache.getline(__file__, info.value.loc.line)
    assert info.value.loc.col == line.index("x.éé") + 1


def test_every_class_is_also_pythons():
    for kind, python in (
            (SyntaxFault, SyntaxError), (TypeFault, TypeError), (ShapeFault, ValueError),
            (NameFault, NameError), (AttributeFault, AttributeError), (IndexFault, IndexError),
            (KeyFault, KeyError), (SourceFault, OSError), (AssertionFault, AssertionError),
            (ValueFault, ValueError)):
        assert issubclass(kind, python) and issubclass(kind, CellcError)


# -- the world outside, in any guise ---------------------------------------------------------------

@refused(SyntaxFault, "Random.random runs in Python", "random", X)
def a_random_number_of_pythons(x):
    return x * random.random()  # <--


@refused(SyntaxFault, "numpy.load runs in Python", "np", X)
def reads_a_file(x):
    return x + Tensor(np.load("weights.npy"))  # <--


@refused(SyntaxFault, "datetime.datetime.now runs in Python", "datetime", X)
def the_time_by_a_class_method(x):
    return x * datetime.datetime.now().second  # <--


@refused(SyntaxFault, "io.StringIO runs in Python", "io", X)
def a_file_in_memory(x):
    file = io.StringIO("5")  # <--
    return x * len(file.read())


@refused(SyntaxFault, "_Environ.get runs in Python", "os", X)
def the_environment(x):
    return x * float(os.environ.get("SCALE", 1.0))  # <--


@refused(SyntaxFault, "array.append runs in Python", "LOG", X)
def a_container_in_c_that_changes(x):
    LOG.append(1.0)  # <--
    return x


LOG = array.array("d")


@pytest.mark.parametrize("fn", [try_star, lambda x: ops.zeros((int(x.sum()),))],
                         ids=["SyntaxFault", "KnownFault"])
def test_faults_can_be_sent_to_another_process(fn):
    with pytest.raises(CellcError) as info:
        trace(fn, (X,), {}, "fn")
    again = pickle.loads(pickle.dumps(info.value))
    assert type(again) is type(info.value)
    assert str(again) == str(info.value) and again.loc == info.value.loc
