"""Generators, with, try and objects within cells: weights, gradients, sharing, guards."""

import contextlib
from dataclasses import dataclass

import numpy as np
import pytest
from same import assert_same, f32, in_mode, interpreted, parse

import cellc
from cellc import Parameter, ParameterTuple, Tensor, context, nn, ops
from cellc.errors import CellcError


class Missing(KeyError):
    pass


@dataclass
class State:
    value: object
    seen: int = 0

    def advance(self, by):
        self.seen += 1
        self.value = self.value * by
        return self


class Block(nn.Cell):
    def __init__(self, seed, kind="tanh"):
        super().__init__()
        draw = np.random.default_rng(seed).normal(size=(3, 3)).astype(np.float32)
        self.w = Parameter(Tensor(draw), name=f"w{seed}")
        self.kind = kind
        self.table = {"tanh": ops.tanh, "relu": ops.relu}

    def activation(self):
        try:
            return self.table[self.kind]
        except KeyError as error:
            raise Missing(self.kind) from error

    def construct(self, x):
        return self.activation()(x @ self.w)


class Net(nn.Cell):
    def __init__(self, *kinds):
        super().__init__()
        self.blocks = nn.CellList([Block(i, kind) for i, kind in enumerate(kinds)])
        self.steps = Parameter(Tensor(0.0), name="steps")
        self.depth = 0

    def outputs(self, x):
        for block in self.blocks:
            x = block(x)
            yield x

    @contextlib.contextmanager
    def counted(self):
        self.steps += 1
        yield self.blocks[0].w
        self.steps += 0.5

    def construct(self, x):
        state = State(1.0)
        with self.counted() as w:
            for i, y in enumerate(self.outputs(x)):
                if y.sum() > 4:
                    y = y * 0.5
                state.advance(y.mean() + w.sum())
        match state:
            case State(value=v, seen=2):
                return v * y
            case State(value=v):
                return v + y


def both(net, x, work):
    """What `work` gives in both modes, from the same weights."""
    before = [(p, p.asnumpy().copy()) for p in net.get_parameters()]
    found = []
    for mode in (context.PYNATIVE_MODE, context.GRAPH_MODE):
        for parameter, held in before:
            parameter.set_data(Tensor(held))
        found.append(in_mode(mode, work, (x,)))
    return found


@pytest.mark.parametrize("kinds", [("tanh",), ("relu", "tanh"), ("tanh", "relu", "tanh")])
def test_values_weights_and_gradients(kinds):
    net, x = Net(*kinds), f32(2, 3)
    expected, found = both(net, x, lambda x: (net(x), net.steps.value()))
    assert_same(found, expected)
    weights = ParameterTuple(net.trainable_params())
    gradient = ops.GradOperation(get_all=True, get_by_list=True)(net, weights)
    expected, found = both(net, x, gradient)
    assert_same(found, expected)
    assert any(np.any(g.asnumpy()) for g in found[1])


def test_blocks_share_one_graph():
    traced, _ = parse(Net("tanh", "tanh", "tanh"), f32(2, 3))
    graphs = {node.attrs["graph"].name for node in traced.graph.body if node.prim.name == "call"}
    assert graphs == {"Block"}


def test_exceptions_of_a_cell_come_out():
    net = Net("tanh", "unknown")
    with pytest.raises(Missing, match="unknown") as info:
        in_mode(context.GRAPH_MODE, net, (f32(2, 3),))
    assert isinstance(info.value.__cause__, KeyError)


def test_changes_outside_are_noticed():
    net, x = Net("tanh", "relu"), f32(2, 3)
    in_mode(context.GRAPH_MODE, net, (x,))
    net.blocks[1].kind = "tanh"
    expected, found = both(net, x, net)
    assert_same(found, expected)
    net.blocks[0].table["tanh"] = ops.sigmoid
    expected, found = both(net, x, net)
    assert_same(found, expected)


SCALES = [1.0, 2.0]


def scales():
    yield from SCALES


@contextlib.contextmanager
def scaled(x):
    yield x * SETTINGS["k"]


SETTINGS = {"k": 3.0}


@cellc.jit
def uses_globals(x):
    try:
        k = SETTINGS["shift"]
    except KeyError:
        k = 0.0
    with scaled(x) as y:
        return sum(y * s for s in scales()) + k


def test_globals_read_in_generators_are_noticed():
    x = f32(3)
    for change in (lambda: None, lambda: SCALES.append(5.0), lambda: SETTINGS.update(k=-1.0),
                   lambda: SETTINGS.update(shift=7.0), lambda: SETTINGS.pop("shift")):
        change()
        expected = x.asnumpy() * SETTINGS["k"] * sum(SCALES) + SETTINGS.get("shift", 0.0)
        found = in_mode(context.GRAPH_MODE, uses_globals, (x,))
        np.testing.assert_allclose(found.asnumpy(), expected, rtol=1e-6)


class Lossy(nn.Cell):
    def __init__(self):
        super().__init__()
        self.count = Parameter(Tensor(0.0), name="count")

    def construct(self, x):
        self.count += 1
        raise Missing("after")


LOSSY = Lossy()


def catches_what_is_lost(x):
    try:
        return LOSSY(x)
    except Missing:
        return x


def test_an_effect_that_would_be_lost():
    with pytest.raises(CellcError, match="after it has printed or assigned") as info:
        parse(catches_what_is_lost, f32(3))
    assert info.value.hint


def test_a_generator_does_not_cross_into_a_cell():
    class Takes(nn.Cell):
        def construct(self, values):
            return sum(values)

    takes = Takes()

    def f(x):
        values = (x * i for i in range(3))
        return takes(values)

    with pytest.raises(CellcError, match="made outside this cell"):
        parse(f, f32(3))


def test_per_example_gradients_by_a_generator():
    def f(x):
        def gradients():
            for i in range(2):
                yield cellc.grad(lambda v, k=i: (v ** (k + 2)).sum())(x)

        return list(gradients())

    x = f32(3)
    first, second = interpreted(f, x)
    np.testing.assert_allclose(first.asnumpy(), 2 * x.asnumpy(), rtol=1e-6)
    np.testing.assert_allclose(second.asnumpy(), 3 * x.asnumpy() ** 2, rtol=1e-6)
