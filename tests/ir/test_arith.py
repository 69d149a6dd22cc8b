"""Promotion and broadcasting, in graphs: the dtype two operands meet in, and the shape."""

import numpy as np
import pytest

from cellc.errors import ShapeFault, TypeFault
from cellc.ir import arith
from cellc.ir.check import check
from cellc.ir.graph import Builder
from cellc.ir.interpret import interpret
from cellc.ir.types import Dim, ScalarType, TensorType, dtype, f32, f64, i64


def built(function, *types, arrays=None):
    """The graph of function on inputs of these types, checked."""
    with Builder("f") as b:
        graph = b.finish(function(*(b.input(t, f"x{i}") for i, t in enumerate(types))))
    check(graph)
    return graph


def tensor(name, *shape):
    return TensorType(dtype(name), shape)


PROMOTIONS = [
    ("bool", "i8", "i8"), ("u8", "i8", "i16"), ("u16", "i8", "i32"), ("u32", "i32", "i64"),
    ("u8", "i32", "i32"), ("u8", "u32", "u32"), ("i8", "i64", "i64"), ("i64", "f16", "f16"),
    ("i64", "bf16", "bf16"), ("f16", "bf16", "f32"), ("f16", "f32", "f32"), ("f32", "f64", "f64"),
    ("u64", "f32", "f32"),
]


@pytest.mark.parametrize("a, b, expected", PROMOTIONS)
def test_two_tensors_meet(a, b, expected):
    for x, y in ((a, b), (b, a)):
        assert built(arith.add, tensor(x, 2), tensor(y, 2)).type == tensor(expected, 2)


def test_no_dtype_holds_u64_and_a_signed_one():
    with pytest.raises(TypeFault, match="no dtype holds both u64 and i32"):
        built(arith.add, tensor("u64"), tensor("i32"))


@pytest.mark.parametrize("of, number, expected", [
    ("f16", 2.5, "f16"), ("f16", 2, "f16"), ("i8", 2, "i8"), ("i8", 2.5, "f32"), ("u8", 1, "u8"),
    ("bf16", 1.5, "bf16"), ("f64", 1, "f64"),
])
def test_numbers_are_weak(of, number, expected):
    assert built(lambda x: x * number, tensor(of, 3)).type == tensor(expected, 3)
    assert built(lambda x: number + x, tensor(of, 3)).type == tensor(expected, 3)
    traced = ScalarType(f64 if isinstance(number, float) else i64)
    assert built(arith.sub, tensor(of, 3), traced).type == tensor(expected, 3)


def test_numbers_among_themselves_follow_python():
    integer, real, truth = ScalarType(i64), ScalarType(f64), ScalarType(dtype(bool))
    assert built(arith.add, integer, real).type == real
    assert built(arith.div, integer, integer).type == real
    assert built(arith.add, truth, truth).type == integer
    assert interpret(built(arith.floordiv, integer, integer), -7, 2) == -4


def test_true_division_of_integers_is_in_f32():
    graph = built(arith.div, tensor("i32", 2), tensor("i32", 2))
    assert graph.type == tensor("f32", 2)
    one, two = np.ones(2, np.int32), np.full(2, 2, np.int32)
    assert interpret(graph, one, two).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("a, b, expected", [
    ((3, 1), (4,), (3, 4)), ((), (2,), (2,)), ((1,), (1,), (1,)), ((0,), (1,), (0,)),
    ((Dim("n"), 4), (4,), (Dim("n"), 4)), ((Dim("n"), 1), (1, 3), (Dim("n"), 3)),
])
def test_shapes_broadcast(a, b, expected):
    assert built(arith.mul, TensorType(f32, a), TensorType(f32, b)).type.shape == expected


def test_shapes_that_do_not():
    with pytest.raises(ShapeFault, match=r"shapes \[2, 3\] and \[2\] do not broadcast: sizes 3"):
        built(arith.mul, tensor("f32", 2, 3), tensor("f32", 2))
    with pytest.raises(ShapeFault, match=r"shape \[3\] does not broadcast to \[2\]"):
        built(lambda x: arith.broadcast_to(x, (2,)), tensor("f32", 3))


@pytest.mark.parametrize("function", [arith.add, arith.sub, arith.mul, arith.negative])
def test_arithmetic_of_truth_values_is_refused(function):
    count = 1 if function is arith.negative else 2
    with pytest.raises(TypeFault, match="bool tensor"):
        built(function, *[tensor("bool", 2)] * count)


def test_where_broadcasts_all_three():
    graph = built(arith.where, tensor("bool", 2, 1), tensor("f32", 3), tensor("i32"))
    assert graph.type == tensor("f32", 2, 3)
    found = interpret(graph, np.array([[True], [False]]), np.float32([1, 2, 3]), np.array(7, "i4"))
    assert found.tolist() == [[1, 2, 3], [7, 7, 7]]
    assert built(lambda c, x: arith.where(c, x, 0.0), ScalarType(dtype(bool)),
                 tensor("f32", 3)).type == tensor("f32", 3)


@pytest.mark.parametrize("power, prims", [
    (1, []), (2, ["mul"]), (3, ["mul"] * 2), (4.0, ["mul"] * 2), (5, ["mul"] * 3), (6, ["mul"] * 3),
    (7, ["pow"]), (-1, ["div"]), (-2, ["div", "mul"]), (0.5, ["sqrt"]), (-0.5, ["sqrt", "div"])])
def test_small_powers_are_products(power, prims):
    graph = built(lambda x: x ** power, tensor("f32", 3))
    assert [node.prim.name for node in graph.body] == prims
    x = np.float32([1, 2, -3 if power == int(power) else 3])
    np.testing.assert_allclose(interpret(graph, x), x**power, 3e-7)
