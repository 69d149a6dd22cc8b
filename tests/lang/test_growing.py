"""Lists that grow in loops, and first rounds that make of a number what it is from then on."""

import numpy as np

import cellc
from cellc import Tensor, context, ops
from cellc.compile import compiled
from tests.lang.same import same_everywhere

X = Tensor(np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32))
W = Tensor(np.random.default_rng(1).standard_normal((3, 3)).astype(np.float32) * 0.5)


@same_everywhere((X, W))
def test_outputs_of_a_recurrence(x, w):
    h = ops.zeros((3,), cellc.float32)
    outputs, notes = [], []
    for t in range(20):
        h = ops.tanh(ops.matmul(w, h) + x[t])
        outputs.append(h)
        notes.append((t, h.sum()))
    return ops.stack(outputs), notes[3][1], notes[19][0], len(outputs), outputs[-1]


@same_everywhere((X, W))
def test_the_sum_begins_as_a_number(x, w):
    total = 0
    for row in x:
        total = total + row
    return total


@same_everywhere((X, W))
def test_a_list_that_is_read_while_it_grows(x, w):
    outputs = [x[0]]
    for t in range(1, 20):
        outputs.append(ops.matmul(w, outputs[-1]) * 0.1 + x[t])
    return ops.stack(outputs)


@same_everywhere((X, W))
def test_what_a_loop_made_is_gone_through_backwards(x, w):
    rows, total = [], ops.zeros((3,), cellc.float32)
    for t in range(20):
        rows.append(x[t] * t)
    for i in reversed(range(20)):
        total = total * 0.5 + rows[i]
    return total, len(rows)


@same_everywhere((X, W))
def test_two_items_in_every_round_of_nested_loops(x, w):
    found = []
    for i in range(9):
        for j in range(10):
            found.append(x[i] * j)
            found.append(x[j] - i)
    return found[7], found[170], ops.stack(found).sum()


def loss(x, w):
    h = ops.zeros((3,), cellc.float32)
    outputs = []
    for t in range(20):
        h = ops.tanh(ops.matmul(w, h) + x[t])
        outputs.append(h)
    return (ops.stack(outputs) ** 2).sum()


def test_gradients_and_that_the_loop_is_one():
    found = {}
    for mode in (context.PYNATIVE_MODE, context.GRAPH_MODE):
        context.set_context(mode=mode)
        gradient = cellc.grad(loss, (0, 1))
        found[mode] = [g.asnumpy() for g in gradient(X, W)]
    for a, b in zip(*found.values()):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    graph = compiled(gradient).variants[0].graph
    assert sum(node.prim.name == "while" for node in graph.body) == 2       # there and back
    assert not any(node.prim.name == "concat" for g in graph.reachable() for node in g.body)
