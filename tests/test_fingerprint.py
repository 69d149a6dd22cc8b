"""Fingerprints: equal for what is built alike, different for whatever code could tell apart."""

import dataclasses
import datetime
import enum
import functools
import gc
import itertools
import os
import re
import subprocess
import sys
import threading
import types
import weakref
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

import cellc
from cellc import Parameter, Tensor, nn, ops
from cellc.fingerprint import Fingerprint, Indescribable

ROOT = Path(__file__).resolve().parent.parent
Pair = namedtuple("Pair", "a b")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Thing:
    def __init__(self, **fields):
        vars(self).update(fields)


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a):
        self.a = a


class Listed(list):
    pass


class Whole(int):
    pass


@dataclasses.dataclass(frozen=True)
class Data:
    a: int = 1
    b: list = dataclasses.field(default_factory=list)


def function(constant=1, default=2, closed=3, annotation=int, name="f"):
    """A function that differs in what is given."""
    scope: dict = {"__name__": "tests.made"}
    exec(compile(f"def make(closed):\n def {name}(x: annotation = default):\n"
                 f"  return x * closed + {constant}\n return {name}\n", "made.py", "exec"),
         scope | {"annotation": annotation, "default": default}, scope)
    return scope["make"](closed)


def derived(base=object, **fields):
    return type("Derived", (base,), fields | {"__module__": "tests.made"})


def cell(units=3, bias=True, training=False, extra=None):
    net = nn.SequentialCell([nn.Dense(2, units, has_bias=bias), nn.ReLU()])
    net.set_train(training)
    net.extra = extra
    return net


def shared(same: bool):
    first = Thing()
    return [first, first if same else Thing()]


def looped():
    thing = Thing()
    thing.itself = thing
    return thing


def partial_with_an_attribute():
    made = functools.partial(function(), 1)
    made.k = 1
    return made


# values no two of which are alike, made anew at each call
MADE = [
    lambda: 1, lambda: 1.0, lambda: True, lambda: "1", lambda: b"1", lambda: 1j, lambda: None,
    lambda: 0.0, lambda: -0.0, lambda: float("nan"), lambda: 2**70, lambda: ..., lambda: Whole(1),
    lambda: (1,), lambda: [1], lambda: Listed([1]), lambda: {1}, lambda: frozenset([1]),
    lambda: {1: 1}, lambda: OrderedDict({1: 1}), lambda: defaultdict(int, {1: 1}),
    lambda: defaultdict(float, {1: 1}), lambda: Counter({1: 1}),
    lambda: deque([1]), lambda: deque([1], 5),
    lambda: ((1,), 2), lambda: (1, (2,)), lambda: ((1, 2),), lambda: (1, 2), lambda: ("1, 2",),
    lambda: {1: 2, 3: 4}, lambda: {3: 4, 1: 2}, lambda: {"1": 1}, lambda: range(3),
    lambda: slice(1, 2), lambda: slice(1, 2, 1), lambda: Pair(1, 2), lambda: Pair(1, 3),
    lambda: Colour.RED, lambda: Colour.BLUE, lambda: Colour,
    lambda: Thing(), lambda: Thing(a=1), lambda: Thing(b=1), lambda: Thing(a=2),
    lambda: Slotted(1), lambda: Slotted(2), lambda: Data(), lambda: Data(2), lambda: Data(b=[1]),
    lambda: shared(True), lambda: shared(False), looped, lambda: Thing(itself=None),
    lambda: types.SimpleNamespace(a=1), lambda: types.SimpleNamespace(a=2),
    lambda: np.ones(3), lambda: np.ones(4), lambda: np.ones((3, 1)), lambda: np.zeros(3),
    lambda: np.ones(3, np.float32), lambda: np.ones(3, ">f8"), lambda: np.float64(1),
    lambda: np.float32(1), lambda: np.dtype("f4"), lambda: np.dtype("f8"), lambda: np.add,
    lambda: np.multiply, lambda: np.sum, lambda: np.mean, lambda: np.float32, lambda: cellc.float32,
    lambda: cellc.float16, lambda: Tensor(np.ones(3)), lambda: Tensor(np.ones(4)),
    lambda: Tensor(np.ones(3, np.float32)), lambda: Parameter(Tensor(np.ones(3)), name="w"),
    lambda: Parameter(Tensor(np.ones(3)), name="v"),
    lambda: Parameter(Tensor(np.ones(3)), name="w", requires_grad=False),
    cell, lambda: cell(4), lambda: cell(bias=False), lambda: cell(training=True),
    lambda: cell(extra=1), lambda: nn.ReLU(), lambda: nn.Tanh(), lambda: nn.Dropout(p=0.5),
    lambda: nn.Dropout(p=0.25),
    function, lambda: function(constant=2), lambda: function(default=3),
    lambda: function(closed=4), lambda: function(annotation=float), lambda: function(name="g"),
    lambda: function(closed=function()), lambda: function(closed=function(2)),
    lambda: types.MethodType(function(), 1), lambda: types.MethodType(function(), 2),
    lambda: functools.partial(function(), 1), lambda: functools.partial(function(), 2),
    lambda: functools.partial(function(), x=1), partial_with_an_attribute,
    lambda: functools.lru_cache(function()),
    derived, lambda: derived(int), lambda: derived(a=1), lambda: derived(a=2),
    lambda: derived(f=function()), lambda: derived(f=function(2)),
    lambda: derived(f=property(function())), lambda: derived(f=staticmethod(function())),
    lambda: derived(f=functools.cached_property(function())),
    lambda: derived(f=functools.cached_property(function(2))),
    lambda: derived(f=classmethod(function())), lambda: derived(derived()),
    lambda: derived(a=1)(), lambda: derived(a=2)(), lambda: ops.relu, lambda: ops.tanh,
    lambda: cellc.grad(function()), lambda: cellc.grad(function(2)),
    lambda: cellc.grad(function(), argnums=(0,)), lambda: cellc.vmap(function()),
    lambda: cellc.jit(function()), lambda: len, lambda: sum, lambda: [].append,
    lambda: [1].append, lambda: str.upper, lambda: str.lower, lambda: np, lambda: sys,
    lambda: re.compile("a"), lambda: re.compile("b"), lambda: re.compile("a", re.I),
    lambda: Decimal("1.0"), lambda: Decimal("1.00"), lambda: Fraction(1, 2), lambda: Fraction(1, 3),
    lambda: datetime.date(2020, 1, 1), lambda: datetime.date(2020, 1, 2),
    lambda: datetime.timedelta(1), lambda: PurePosixPath("a"), lambda: PurePosixPath("b"),
    lambda: list[int], lambda: list[str], lambda: int | str, lambda: int | None,
]


def digest(value) -> bytes:
    found = Fingerprint()
    found.say(value)
    return found.digest()


def test_alike_and_unlike():
    first, again = ([digest(make()) for make in MADE] for _ in range(2))
    assert first == again
    alike = [(i, j) for (i, a), (j, b) in itertools.combinations(enumerate(first), 2) if a == b]
    assert alike == []


@pytest.mark.parametrize("make", [
    lambda: open(os.devnull), threading.Lock, lambda: (i for i in range(3)), lambda: iter([1]),
    lambda: np.random.default_rng(0), lambda: np.array([object()]), lambda: {Thing()},
    lambda: np.zeros(1 << 20), lambda: np.frompyfunc(len, 1, 1), lambda: memoryview(b"1"),
    lambda: list(range(300_000)), lambda: Thing(held=[threading.Lock()]),
    lambda: functools.reduce(lambda held, _: [held], range(1000), 1),
    lambda: function(closed=threading.Lock()), lambda: "long" * (1 << 19)], ids=range(15))
def test_of_what_a_text_would_not_say_all_there_is_none(make):
    with pytest.raises(Indescribable):
        Fingerprint().say(make())


def test_classes_are_not_kept():
    cls = derived(a=1)
    digest(cls())
    gone = weakref.ref(cls)
    del cls
    gc.collect()
    assert gone() is None


def test_objects_have_numbers():
    x, found = Thing(a=[1], f=function()), Fingerprint()
    found.say([x, x.f])
    for held in (x, vars(x), x.a, x.f, x.f.__globals__, x.f.__closure__[0]):
        assert found.objects[found.number_of(held)] is held
    with pytest.raises(Indescribable):
        found.number_of(Thing())
    assert x.f.__code__ in found.codes


def test_what_follows_goes_on_from_what_was_said():
    first, second = Fingerprint(), Fingerprint()
    thing = Thing()
    first.say(thing)
    second.say(thing)
    assert first.digest() == second.digest()
    other = first.copy()
    first.say(thing)
    second.say(thing)
    other.say(Thing())
    assert first.digest() == second.digest() != other.digest()


def test_other_seeds_of_hashes_change_nothing():
    text = ("import sys; sys.path.insert(0, sys.argv[1])\n"
            "from cellc.fingerprint import Fingerprint\n"
            "found = Fingerprint()\n"
            "def f(x): return x in {'a', 'b', 'c', 'd', 'e', 'f'}\n"
            "found.say([f, {'a', 'b', 'c', 'd', 'e'}, frozenset('vwxyz'), {'b': 1, 'a': 2}])\n"
            "print(found.digest().hex())")
    texts = {subprocess.run([sys.executable, "-c", text, str(ROOT)], text=True, check=True,
                            capture_output=True, env=os.environ | {"PYTHONHASHSEED": seed}).stdout
             for seed in "123"}
    assert len(texts) == 1 and len(texts.pop()) == 41
