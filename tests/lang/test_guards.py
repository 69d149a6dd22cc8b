"""What a parse reads of the world outside is in its guards, and a change there breaks one."""

import types
from dataclasses import dataclass, field

import numpy as np
import pytest
from same import assert_same, f32, in_mode, parse

import cellc
from cellc import Parameter, Tensor, context, nn, ops

GLOBAL = 2.0
NESTED = {"a": [1.0, {"b": (2.0, [3.0])}]}
TABLE = np.arange(3.0, dtype=np.float32)


@dataclass
class Config:
    k: float = 2.0
    sizes: list = field(default_factory=lambda: [1, 2])

    def scaled(self, x):
        return x * self.k


CONFIG = Config()


class Net(nn.Cell):
    kind = "plain"

    def __init__(self):
        super().__init__()
        self.k = 2.0
        self.sizes = [1, 2]
        self.inner = nn.CellList([Scale(1.0), Scale(2.0)])
        self.w = Parameter(Tensor(np.ones(3, np.float32)), name="w")

    def construct(self, x):
        for cell in self.inner:
            x = cell(x)
        return x * self.k * len(self.sizes) + self.w + (1 if self.kind == "plain" else 2)


class Scale(nn.Cell):
    def __init__(self, k):
        super().__init__()
        self.k = k

    def construct(self, x, y=1.0):
        return x * self.k * y


def uses_default(x, k=2.0, *, options=(1, [2])):
    return x * k + options[1][0]


def make(k):
    def inner(x):
        return x * k

    def set(value):
        nonlocal k
        k = value

    return inner, set


def fresh():
    """Functions and objects that a change in one test leaves alone in the next."""
    inner, set_k = make(2.0)
    net, scope = Net(), dict(globals())
    scope["CONFIG"], scope["NESTED"] = Config(), {"a": [1.0, {"b": (2.0, [3.0])}]}

    def copy(f):
        return types.FunctionType(f.__code__, scope, f.__name__, f.__defaults__, f.__closure__)

    def reads_globals(x):
        return x * GLOBAL + NESTED["a"][1]["b"][1][0] + len(NESTED)

    def reads_config(x):
        return CONFIG.scaled(x) + CONFIG.sizes[0]

    def calls_default(x):
        return uses_default(x)

    return types.SimpleNamespace(net=net, scope=scope, inner=inner, set_k=set_k,
                                 globals=copy(reads_globals), config=copy(reads_config),
                                 default=calls_default)


# what is parsed, and a change that must be noticed
CHANGES = [
    ("globals", lambda w: w.scope.update(GLOBAL=3.0)),
    ("globals", lambda w: w.scope["NESTED"].update(c=1)),
    ("globals", lambda w: w.scope["NESTED"]["a"][1]["b"][1].append(4.0)),
    ("globals", lambda w: w.scope["NESTED"]["a"][1]["b"][1].__setitem__(0, 4.0)),
    ("globals", lambda w: w.scope.update(len=lambda x: 7)),
    ("config", lambda w: setattr(w.scope["CONFIG"], "k", 3.0)),
    ("config", lambda w: w.scope["CONFIG"].sizes.insert(0, 9)),
    ("config", lambda w: setattr(w.scope["CONFIG"], "scaled", lambda x: x)),
    ("inner", lambda w: w.set_k(5.0)),
    ("net", lambda w: setattr(w.net, "k", 3.0)),
    ("net", lambda w: setattr(w.net, "kind", "other")),
    ("net", lambda w: w.net.sizes.append(3)),
    ("net", lambda w: setattr(w.net.inner[1], "k", 7.0)),
    ("net", lambda w: setattr(w.net, "w", Parameter(Tensor(np.zeros(3, np.float32)), name="w"))),
    ("net", lambda w: w.net.inner.append(Scale(3.0))),
]


@pytest.mark.parametrize("name, change", CHANGES)
def test_a_change_breaks_a_guard(name, change):
    world = fresh()
    traced, _ = parse(getattr(world, name), f32(3))
    assert all(guard.holds() for guard in traced.guards)
    change(world)
    assert not all(guard.holds() for guard in traced.guards)


@pytest.mark.parametrize("name, change", CHANGES)
def test_a_change_changes_the_result(name, change):
    """Compiled as in eager mode, never a stale value."""
    world, x = fresh(), f32(3)
    fn = getattr(world, name)
    compiled = fn if isinstance(fn, nn.Cell) else cellc.jit(fn)
    assert_same(in_mode(context.GRAPH_MODE, compiled, (x,)), fn(x))
    change(world)
    assert_same(in_mode(context.GRAPH_MODE, compiled, (x,)), fn(x))


def test_changed_arrays_sets_and_class_methods():
    mask, chosen = np.ones(3, np.float32), {1, 2}

    class Rule:
        @classmethod
        def factor(cls):
            return 2.0

        def shift(self):
            return 3.0

    rule = Rule()

    @cellc.jit
    def f(x):
        return x * mask * len(chosen) * rule.factor() + rule.shift()

    def change_method():
        rule.shift = lambda: 1.0

    x = f32(3)
    for change in (lambda: None, lambda: mask.__setitem__(0, 9), lambda: chosen.add(7),
                   lambda: setattr(Rule, "factor", classmethod(lambda cls: 5.0)), change_method):
        change()
        expected = x.asnumpy() * mask * len(chosen) * rule.factor() + rule.shift()
        np.testing.assert_allclose(f(x).asnumpy(), expected, rtol=1e-6)


def test_a_changed_default_breaks_a_guard():
    traced, _ = parse(fresh().default, f32(3))
    before = uses_default.__defaults__, uses_default.__kwdefaults__
    try:
        uses_default.__defaults__ = (3.0,)
        assert not all(guard.holds() for guard in traced.guards)
        uses_default.__defaults__ = before[0]
        uses_default.__kwdefaults__["options"][1][0] = 5
        assert not all(guard.holds() for guard in traced.guards)
    finally:
        uses_default.__defaults__ = before[0]
        uses_default.__kwdefaults__["options"][1][0] = 2
    assert all(guard.holds() for guard in traced.guards)


def test_a_changed_class_attribute_breaks_a_guard():
    class Local(Net):
        kind = "local"

    net = Local()
    traced, _ = parse(net, f32(3))
    Local.kind = "plain"
    assert not all(guard.holds() for guard in traced.guards)


def test_equal_values_keep_guards():
    world = fresh()
    traced, _ = parse(world.net, f32(3))
    world.net.k = 1.0 + 1.0
    world.net.sizes[0] = 2 - 1
    assert all(guard.holds() for guard in traced.guards)


def test_arrays_are_looked_into():
    def uses_array(x):
        return x * Tensor(TABLE) + TABLE.sum()

    traced, _ = parse(uses_array, f32(3))
    before = TABLE[1]
    try:
        TABLE[1] = 7.0
        assert not all(guard.holds() for guard in traced.guards)
    finally:
        TABLE[1] = before
    assert all(guard.holds() for guard in traced.guards)


def test_the_library_needs_no_guards():
    def uses_library(x):
        return ops.tanh(x) * np.pi

    traced, _ = parse(uses_library, f32(3))
    assert sorted(guard.name for guard in traced.guards) == ["np", "ops"]


def test_what_is_made_inside_needs_no_guards():
    def makes(x):
        made = [1, {"a": 2}]
        c = made[1]
        c["a"] = 3
        return x * c["a"]

    traced, _ = parse(makes, f32(3))
    assert traced.guards == []
