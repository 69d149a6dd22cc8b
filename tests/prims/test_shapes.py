"""Shapes: what is refused and in which words, empty and size-one axes, symbolic sizes."""

import math

import numpy as np
import pytest

from cellc.errors import IRFault, ShapeFault, SymbolicFault, TypeFault
from cellc.ir.check import check, same
from cellc.ir.graph import PRIMITIVES, Builder
from cellc.ir.interpret import interpret
from cellc.ir.text import print_graph, read
from cellc.ir.types import Dim, ScalarType, TensorType, TupleType, boolean, f32, f64, i64, u64
from cellc.passes.grad import value_and_grad_graph
from tests.prims.cases import graph_of

N = Dim("n")


def t(*shape, of=f32):
    return TensorType(of, shape)


NO_BATCH = {"contract": ((1,), (0,)), "batch": ((), ())}
WINDOW = {"strides": (1,), "dilations": (1,)}

REFUSED = [
    ("add", (t(3), t(4)), {}, "found f32[3] and f32[4], expected one shape"),
    ("add", (t(3), t(3, of=f64)), {}, "found f32[3] and f64[3], expected one dtype"),
    ("add", (t(), ScalarType(f32)), {}, "expected both tensors or both numbers"),
    ("add", (TupleType((t(),)), t()), {}, "found (f32[],), expected a tensor or number"),
    ("select", (t(3, of=boolean), t(2), t(2)), {}, "expected one shape"),
    ("select", (t(2), t(2), t(2)), {}, "found f32[2], expected bool"),
    ("mulhi", (t(2, of=i64), t(2, of=i64)), {}, "found i64[2], expected dtype u32"),
    ("bitcast", (t(2),), {"dtype": f64}, "found f32[2] for f64, expected dtypes of the same width"),
    ("reshape", (t(2, 3),), {"shape": (4,)}, "expected 4 elements and found 6"),
    ("reshape", (t(2, 3),), {"shape": (-1, 6)}, "expected sizes of 0 or more"),
    ("reshape", (ScalarType(f64),), {"shape": ()}, "found the number type f64, expected a tensor"),
    ("transpose", (t(2, 3),), {"perm": (0,)}, "expected all 2 axes"),
    ("transpose", (t(2, 3),), {"perm": (0, 0)}, "expected each axis once"),
    ("transpose", (t(2, 3),), {"perm": (0, 2)}, "found axis 2 of f32[2,3], expected 0 to 1"),
    ("transpose", (t(2, 3),), {"perm": (0, -1)}, "found axis -1"),
    ("broadcast", (t(3),), {"shape": (2, 4), "dims": (1,)}, "expected sizes that are equal or 1"),
    ("broadcast", (t(3),), {"shape": (3,), "dims": ()}, "expected 1 of them"),
    ("broadcast", (t(2, 3),), {"shape": (3, 2), "dims": (1, 0)}, "expected them in order"),
    ("flip", (t(2),), {"axes": (1,)}, "found axis 1 of f32[2]"),
    ("slice", (t(4),), {"starts": (0,), "stops": (5,), "steps": (1,)}, "found 0:5 of an axis of"),
    ("slice", (t(4),), {"starts": (3,), "stops": (2,), "steps": (1,)}, "found 3:2"),
    ("slice", (t(4),), {"starts": (0,), "stops": (4,), "steps": (0,)}, "found step 0"),
    ("slice", (t(4),), {"starts": (), "stops": (), "steps": ()}, "expected 1 of them"),
    ("pad", (t(4),), {"low": (-1,), "high": (0,), "value": 0}, "expected nothing negative"),
    ("pad", (t(4, of=i64),), {"low": (1,), "high": (0,), "value": -math.inf}, "a whole number"),
    ("windows", (t(4),), {"sizes": (5,), **WINDOW}, "found a window of 5 in an axis of 4"),
    ("windows", (t(4),), {"sizes": (2,), "strides": (0,), "dilations": (1,)}, "at least 1"),
    ("windows", (t(4),), {"sizes": (), "strides": (), "dilations": ()}, "expected 1 to 1 of them"),
    ("windows_add", (t(3, 2),), {"shape": (5,), **WINDOW}, "expected [4] windows for shape [5]"),
    ("windows_add", (t(3),), {"shape": (3,), **WINDOW}, "expected at least 2 axes"),
    ("concat", (), {"axis": 0}, "expected at least one"),
    ("concat", (t(2, 3), t(3, 3)), {"axis": 1}, "expected shapes that differ in axis 1 only"),
    ("concat", (t(2), t(2, 1)), {"axis": 0}, "expected shapes that differ in axis 0 only"),
    ("concat", (t(2), t(2, of=f64)), {"axis": 0}, "expected one dtype"),
    ("from_scalar", (t(),), {}, "found f32[], expected a number"),
    ("to_scalar", (t(1),), {}, "expected a tensor without axes"),
    ("iota", (), {"shape": (2,), "axis": 1, "dtype": f32}, "found axis 1"),
    ("iota", (), {"shape": (2,), "axis": 0, "dtype": boolean}, "expected an integer or float"),
    ("reduce_sum", (t(2),), {"axes": (1,)}, "found axis 1 of f32[2], expected 0 to 0"),
    ("reduce_sum", (t(),), {"axes": (0,)}, "expected none: a 0-d tensor has no axes"),
    ("reduce_sum", (t(2),), {"axes": (0, 0)}, "expected each axis once"),
    ("reduce_sum", (t(2),), {"axes": (True,)}, "found axis True, expected an int"),
    ("reduce_max", (t(0, 2),), {"axes": (0,)}, "expected at least one element"),
    ("argmax", (t(2, 0),), {"axis": 1}, "expected at least one element"),
    ("cumsum", (t(2),), {"axis": 1}, "found axis 1"),
    ("gather", (t(2), t(1)), {"axis": 0}, "found index f32[1], expected i32 or i64"),
    ("gather", (t(2), t(1, of=i64)), {"axis": 1}, "found axis 1"),
    ("scatter_add", (t(3, of=i64), t(2)), {"axis": 0, "size": 4}, "the index's shape at axis 0"),
    ("scatter_add", (t(3, of=i64), t(3)), {"axis": 1, "size": 4}, "expected 0 to 0"),
    ("dot", (t(2, 3), t(4, 5)), NO_BATCH, "axis 1 of the first (size 3) as long as axis 0"),
    ("dot", (t(2, 3), t(3, 5, of=f64)), NO_BATCH, "expected one dtype"),
    ("dot", (t(2, 3), t(3)), {"contract": ((1,), ()), "batch": ((), ())}, "as many of each"),
    ("dot", (t(2, 2), t(2, 2)), {"contract": ((0,), (0,)), "batch": ((0,), (1,))}, "axis once"),
    ("random_bits", (t(2, of=i64),), {"shape": (2,)}, "found key i64[2], expected u64[2]"),
    ("random_bits", (t(2, of=u64),), {"shape": (-2,)}, "expected sizes of 0 or more"),
    ("item", (t(2),), {"index": 0}, "found f32[2], expected a tuple"),
    ("item", (TupleType((t(),)),), {"index": 1}, "expected 0 to 0"),
]


@pytest.mark.parametrize("name, types, attrs, message", REFUSED,
                         ids=[f"{row[0]}-{i}" for i, row in enumerate(REFUSED)])
def test_refusals_say_what_was_found_and_expected(name, types, attrs, message):
    with pytest.raises((TypeFault, ShapeFault, IRFault)) as fault:
        PRIMITIVES[name].types(*types, **attrs)
    assert fault.value.message.startswith(f"{name}: found ")
    assert message in fault.value.message


def test_control_compares_signatures():
    with Builder("g") as b:
        g = b.finish(PRIMITIVES["neg"](b.input(t(3), "x")))
    with Builder("h") as b:
        h = b.finish(PRIMITIVES["reduce_sum"](b.input(t(3), "x"), axes=(0,)))
    with pytest.raises(TypeFault, match=r"call: found f32\[4\] for x of g, expected f32\[3\]"):
        PRIMITIVES["call"].types(t(4), graph=g)
    with pytest.raises(TypeFault, match="call: found 0 operands for g, expected 1"):
        PRIMITIVES["call"].types(graph=g)
    with pytest.raises(TypeFault, match=r"branches of an if give different types: f32\[3\] and"):
        PRIMITIVES["cond"].types(ScalarType(boolean), t(3), then=g, orelse=h)
    with pytest.raises(TypeFault, match=r"the condition f32\[\], expected a bool"):
        PRIMITIVES["cond"].types(t(), t(3), then=g, orelse=g)


# -- empty and size-one axes -------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(0,), (1, 1), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("name", [n for n, p in PRIMITIVES.items() if p.kind == "elementwise"
                                  and p.operands and n not in ("from_scalar", "to_scalar")])
def test_elementwise_on_few_elements(name, shape):
    operands, attrs = PRIMITIVES[name].samples()[0]
    arrays = [np.full(shape, np.asarray(x).flat[0]) for x in operands]
    if name.startswith("bit_") or name in ("shl", "shr"):
        arrays = [x.astype(np.int64) for x in arrays]
    graph = graph_of(PRIMITIVES[name], arrays, attrs)
    found = interpret(graph, *arrays)
    whole = PRIMITIVES[name].eval(*(x.astype(arrays[i].dtype) for i, x in enumerate(operands)),
                                  **attrs)
    np.testing.assert_array_equal(found, np.full(shape, whole.flat[0]))


@pytest.mark.parametrize("name, of, neutral", [
    ("reduce_sum", "float32", 0.0), ("reduce_prod", "int64", 1), ("reduce_and", "bool", True),
    ("reduce_or", "bool", False)])
def test_reductions_of_nothing_give_the_neutral_element(name, of, neutral):
    x = np.zeros((0, 2), of)
    found = interpret(graph_of(PRIMITIVES[name], [x], {"axes": (0,)}), x)
    assert found.tolist() == [neutral, neutral]
    op, start = PRIMITIVES[name].reduce
    assert start(PRIMITIVES[name].types(t(2, of=boolean if of == "bool" else f32), axes=())
                 .dtype) == neutral


def test_an_extremum_along_another_axis_of_an_empty_tensor_is_empty():
    x = np.zeros((0, 2))
    found = interpret(graph_of(PRIMITIVES["reduce_max"], [x], {"axes": (1,)}), x)
    assert found.shape == (0,)
    assert PRIMITIVES["reduce_max"].reduce[1](f32) == -math.inf
    assert PRIMITIVES["reduce_min"].reduce[1](i64) == 2**63 - 1


def test_gradients_on_empty_tensors():
    x = np.zeros((0, 3))
    for name, attrs in (("reduce_sum", {"axes": (0,)}), ("reduce_prod", {"axes": (0,)}),
                        ("slice", {"starts": (0, 1), "stops": (0, 3), "steps": (2, 2)}),
                        ("pad", {"low": (1, 0), "high": (0, 0), "value": 0})):
        graph = value_and_grad_graph(graph_of(PRIMITIVES[name], [x], attrs), (0,), sens=True)
        y = interpret(graph_of(PRIMITIVES[name], [x], attrs), x)
        assert interpret(graph, x, np.ones_like(y))[1].shape == (0, 3)


# -- symbolic sizes ----------------------------------------------------------------------------

SYMBOLIC = [
    ("exp", (t(N, 4),), {}, (N, 4)),
    ("reshape", (t(N, 4),), {"shape": (4 * N,)}, (4 * N,)),
    ("reshape", (t(4 * N),), {"shape": (N, 2, 2)}, (N, 2, 2)),
    ("transpose", (t(N, 4),), {"perm": (1, 0)}, (4, N)),
    ("broadcast", (t(4),), {"shape": (N, 4), "dims": (1,)}, (N, 4)),
    ("broadcast", (t(1, 4),), {"shape": (N, 4), "dims": (0, 1)}, (N, 4)),
    ("broadcast", (t(N),), {"shape": (N, 4), "dims": (0,)}, (N, 4)),
    ("slice", (t(N, 5),), {"starts": (0, 1), "stops": (N, 5), "steps": (1, 2)}, (N, 2)),
    ("pad", (t(N, 4),), {"low": (0, 1), "high": (0, 1), "value": 1.0}, (N, 6)),
    ("flip", (t(N, 4),), {"axes": (0,)}, (N, 4)),
    ("windows", (t(N, 5),), {"sizes": (3,), "strides": (2,), "dilations": (1,)}, (N, 2, 3)),
    ("windows_add", (t(N, 2, 3),), {"shape": (5,), "strides": (2,), "dilations": (1,)}, (N, 5)),
    ("concat", (t(N, 2), t(N, 3)), {"axis": 1}, (N, 5)),
    ("concat", (t(N, 2), t(2 * N, 2)), {"axis": 0}, (3 * N, 2)),
    ("reduce_sum", (t(N, 4),), {"axes": (0,)}, (4,)),
    ("reduce_sum", (t(N, 4),), {"axes": (1,)}, (N,)),
    ("reduce_max", (t(N, 4),), {"axes": (0, 1)}, ()),
    ("argmax", (t(N, 4),), {"axis": 1}, (N,)),
    ("cumsum", (t(N, 4),), {"axis": 0, "reverse": False}, (N, 4)),
    ("dot", (t(N, 4), t(4, 3)), NO_BATCH, (N, 3)),
    ("dot", (t(4, N), t(N, 3)), NO_BATCH, (4, 3)),
    ("gather", (t(7, 4), t(N, of=i64)), {"axis": 0}, (N, 4)),
    ("gather", (t(N, 4), t(2, of=i64)), {"axis": 1}, (N, 2)),
    ("scatter_add", (t(N, of=i64), t(N, 4)), {"axis": 0, "size": 7}, (7, 4)),
    ("iota", (), {"shape": (N, 2), "axis": 0, "dtype": f32}, (N, 2)),
    ("random_bits", (t(2, of=u64),), {"shape": (N,)}, (N,)),
]


@pytest.mark.parametrize("name, types, attrs, shape", SYMBOLIC,
                         ids=[f"{row[0]}-{i}" for i, row in enumerate(SYMBOLIC)])
def test_symbolic_sizes(name, types, attrs, shape):
    """Types, text and meaning, and the same of the gradient."""
    prim = PRIMITIVES[name]
    with Builder(name) as b:
        graph = b.finish(prim(*(b.input(x, f"x{i}") for i, x in enumerate(types)), **attrs))
    assert graph.type.shape == shape
    wrt = tuple(i for i, x in enumerate(types) if x.dtype is f32)
    if prim.vjp and wrt:
        graph = value_and_grad_graph(graph, wrt)
    check(graph)
    assert same(graph, read(print_graph(graph)))
    rng = np.random.default_rng(0)
    for n in (2, 3):
        dims = {"n": n}
        arrays = [rng.integers(0, 2, [n * s.coef if isinstance(s, Dim) else s for s in x.shape])
                  .astype(x.dtype.numpy) for x in types]
        interpret(graph, *arrays, dims=dims)      # it compares every result with its type


def test_a_stepped_slice_of_a_symbolic_axis_asks_for_the_size_in_its_gradient():
    """Its adjoint puts gaps between n elements, which makes 2 n - 1: no multiple of n."""
    attrs = {"starts": (0,), "stops": (4 * N,), "steps": (2,)}
    assert PRIMITIVES["slice"].types(t(4 * N), **attrs) == t(2 * N)
    with Builder("f") as b:
        graph = b.finish(PRIMITIVES["slice"](b.input(t(4 * N), "x"), **attrs))
    with pytest.raises(SymbolicFault, match="2\\*n - 1"):
        value_and_grad_graph(graph, (0,))


@pytest.mark.parametrize("name, types, attrs", [
    ("slice", (t(N),), {"starts": (0,), "stops": (3,), "steps": (1,)}),
    ("slice", (t(N),), {"starts": (0,), "stops": (N,), "steps": (2,)}),
    ("pad", (t(N),), {"low": (1,), "high": (0,), "value": 0}),
    ("concat", (t(N), t(2)), {"axis": 0}),
    ("windows", (t(N),), {"sizes": (3,), **WINDOW}),
    ("reshape", (t(N, N),), {"shape": (4,)}),
])
def test_what_depends_on_the_size_asks_for_it(name, types, attrs):
    with pytest.raises(SymbolicFault, match="depends on the size of dimension n"):
        PRIMITIVES[name].types(*types, **attrs)
