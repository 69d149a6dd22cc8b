"""axes: what becomes of an element along an axis that is not fixed depends on that one alone."""

import numpy as np
import pytest

from cellc.ir.graph import PRIMITIVES, Builder
from cellc.ir.interpret import interpret
from cellc.ir.prims import control, element, shape
from cellc.ir.prims import elementwise as e
from cellc.ir.prims.contraction import dot
from cellc.ir.prims.reduce import reduce_max, reduce_sum
from cellc.ir.types import TensorType, boolean, f64, i64
from cellc.passes.axes import Axes
from tests.prims.cases import OWN_DTYPES, as_dtype, graph_of, kinds_taken, samples

DTYPES = {"biu": boolean, "iu": i64, "b": boolean}      # of the data, where it may not be f64


def of_a_dtype(name, operands):
    """The sample's operands with data that the primitive takes."""
    return operands if name in OWN_DTYPES else as_dtype(
        name, operands, DTYPES.get(kinds_taken(name), f64))


CASES = [(name, i, of_a_dtype(name, operands), attrs) for name, i, operands, attrs in samples()
         if operands and PRIMITIVES[name].eval is not None and all(x.size for x in operands)]


def at(array, axes, i):
    """The elements at i along these axes."""
    return array[tuple(i if k in axes else slice(None) for k in range(np.ndim(array)))]


@pytest.mark.parametrize("name, number, operands, attrs", CASES,
                         ids=[f"{name}-{i}" for name, i, *_ in CASES])
def test_what_is_not_fixed_runs_apart(name, number, operands, attrs):
    """All other elements of the operands become zero; sums over the class are left out."""
    graph = graph_of(PRIMITIVES[name], operands, attrs)
    axes = Axes()
    axes.walk(graph)
    values = [*graph.inputs, graph.result]
    classes = {axes.of(x, a) for x in values for a in range(x.ndim)
               if x.size} - axes.fixed
    with np.errstate(all="ignore"):
        before = interpret(graph, *operands)
        for one in classes:
            if any(axes.find(key) == one for _, key in axes.sums):
                continue
            changed = [np.array(x) for x in operands]
            for x, array in zip(graph.inputs, changed, strict=True):
                for a in axes.at(x, one):
                    for i in range(1, array.shape[a]):
                        array[tuple(i if k == a else slice(None)
                                    for k in range(array.ndim))] = 0
            after = interpret(graph, *changed)
            where = axes.at(graph.result, one)
            np.testing.assert_array_equal(at(after, where, 0), at(before, where, 0))


def classes_of(make, *shapes):
    """For each operand and the result: its axes, as letters; capital where they are fixed, and in
    brackets where something is summed over them."""
    with Builder("f") as b:
        inputs = [b.input(TensorType(f64, s), "x") for s in shapes]
        graph = b.finish(make(*inputs))
    axes = Axes()
    axes.walk(graph)
    letters, summed = {}, {axes.find(key) for _, key in axes.sums}

    def letter(x, a):
        found = letters.setdefault(axes.of(x, a), "abcdefgh"[len(letters)])
        found = found.upper() if axes.is_fixed(axes.of(x, a)) else found
        return f"({found})" if axes.of(x, a) in summed else found

    return " ".join("".join(letter(x, a) for a in range(x.ndim))
                    for x in (*inputs, graph.result))


def write_row(x, v):
    return element.write(x, v, 0, checked=False)


TABLE = [
    (e.add, [(2, 3), (2, 3)], "ab ab ab"),
    (lambda x, y: dot(x, y, contract=((1,), (0,)), batch=((), ())), [(2, 3), (3, 4)],
     "a(b) (b)c ac"),
    (lambda x, y: dot(x, y, contract=((2,), (2,)), batch=((0,), (0,))), [(5, 2, 3), (5, 4, 3)],
     "ab(c) ad(c) abd"),
    (lambda x: dot(x, x, contract=((1,), (1,)), batch=((), ())), [(2, 3)], "a(b) aa"),
    (lambda x: shape.broadcast(x, shape=(2, 3, 4), dims=(1, 2)), [(3, 1)], "ab cad"),
    (lambda x: shape.transpose(x, perm=(2, 0, 1)), [(2, 3, 4)], "abc cab"),
    (lambda x: shape.reshape(x, shape=(2, 12)), [(2, 3, 4)], "aBC aD"),
    (lambda x: shape.reshape(x, shape=(2, 1, 3)), [(1, 2, 3)], "abc bdc"),
    (lambda x: shape.reshape(x, shape=(3, 2)), [(2, 3)], "AB CD"),
    (lambda x: shape.flip(x, axes=(1,)), [(2, 3)], "aB aB"),
    (lambda x: shape.slice(x, starts=(0, 1), stops=(2, 3), steps=(1, 1)), [(2, 3)], "aB aC"),
    (lambda x: shape.slice(x, starts=(0, 0), stops=(2, 3), steps=(1, 2)), [(2, 3)], "aB aC"),
    (lambda x: shape.pad(x, low=(0, 1), high=(0, 0), value=0, interior=(0, 0)), [(2, 3)], "aB aC"),
    (lambda x, y: shape.concat(x, y, axis=1), [(2, 3), (2, 3)], "aB aC aD"),
    (lambda x: reduce_sum(x, axes=(0,)), [(2, 3)], "(a)b b"),
    (lambda x: reduce_max(x, axes=(0,)), [(2, 3)], "Ab b"),
    (lambda x: element.read(x, 0, checked=False), [(2, 3)], "Ab b"),
    (write_row, [(2, 3), (3,)], "Ab b Ab"),
    (lambda x: PRIMITIVES["cumsum"](x, axis=0), [(2, 3)], "AB CD"),
    (lambda x: e.add(x, shape.iota(shape=(3,), axis=0, dtype=f64)), [(3,)], "A A"),
]


@pytest.mark.parametrize("make, shapes, expected", TABLE, ids=[t[2] for t in TABLE])
def test_classes(make, shapes, expected):
    assert classes_of(make, *shapes) == expected


def test_numbers_have_no_axes():
    with Builder("f") as b:
        n, x = b.input(element.INDEX, "n"), b.input(TensorType(i64, (3,)), "x")
        graph = b.finish(control.tuple(e.add(n, n), e.add(x, x)))
    axes = Axes()
    axes.walk(graph)
    assert axes.at(graph.results[0], axes.of(x, 0)) == []
    assert axes.at(graph.results[1], axes.of(x, 0)) == [0]
