"""The text form: names, constants, nested graphs, and what the reader refuses, with its place."""

import numpy as np
import pytest

from cellc.errors import IRFault, Loc
from cellc.ir import arith  # noqa: F401  (fills the table)
from cellc.ir.check import check, same
from cellc.ir.graph import PRIMITIVES, Builder, Constant, Graph, Input
from cellc.ir.numerics import from_compute
from cellc.ir.text import print_graph, read, read_all
from cellc.ir.types import (
    Dim,
    ScalarType,
    TensorType,
    TupleType,
    bf16,
    boolean,
    f16,
    f32,
    f64,
    i64,
    u8,
)

BRANCHES = """\
graph @double(%x: f32[n,4]) -> f32[n,4] {
  %y = mul(%x, 2.0:f32[n,4]) : f32[n,4]
  return %y
}

graph @same(%x: f32[n,4]) -> f32[n,4] {
  return %x
}

graph @main(%p: bool, %x: f32[n,4]) -> (f32[n,4], i64) {
  %h = cond(%p, %x) {then=@double, orelse=@same} : f32[n,4]
  %n = dim_size() {dim=2*n} : i64
  %tuple = tuple(%h, %n) : (f32[n,4], i64)
  return %tuple
}
"""


def unchanged(text: str) -> Graph:
    """The graph of a text that prints as it was read."""
    graph = read(text)
    check(graph)
    assert print_graph(graph) == text
    assert same(graph, read(print_graph(graph)))
    return graph


def test_nested_graphs_come_first_and_once():
    graph = unchanged(BRANCHES)
    assert list(read_all(BRANCHES)) == ["double", "same", "main"]
    assert graph.inputs[1].type == TensorType(f32, (Dim("n"), 4))
    assert graph.body[0].attrs["then"].name == "double"
    assert graph.body[1].attrs["dim"] == Dim("n", 2)
    assert repr(graph) == BRANCHES


def test_names_are_the_users_and_made_unique():
    with Builder("f") as b:
        h = b.input(TensorType(f32, (2,)), "h")
        for _ in range(2):
            h = b.apply(PRIMITIVES["neg"], [h], {}, name="h")
        odd = b.apply(PRIMITIVES["neg"], [h], {}, name="self.w[0]")
        graph = b.finish(PRIMITIVES["exp"](odd))
    text = print_graph(graph)
    assert [line.split(" = ")[0].strip() for line in text.splitlines()[1:-2]] == [
        "%h.1", "%h.2", "%self.w_0_", "%exp"]
    unchanged(text)


def test_graphs_of_one_name_are_told_apart():
    def inner():
        with Builder("g") as b:
            return b.finish(b.input(ScalarType(f64), "x"))

    with Builder("g") as b:
        x = b.input(ScalarType(f64), "x")
        first = PRIMITIVES["call"](x, graph=inner())
        graph = b.finish(PRIMITIVES["call"](first, graph=inner()))
    text = print_graph(graph)
    assert text.splitlines()[-5].startswith("graph @g("), "the outermost keeps its name"
    assert set(read_all(text)) == {"g", "g.1", "g.2"}
    unchanged(text)


def test_places_are_comments_and_ignored():
    with Builder("f") as b:
        x = b.input(TensorType(f32, (2,)), "x")
        b.loc = Loc("net.py", 14, 12)
        graph = b.finish(PRIMITIVES["exp"](x))
    line = print_graph(graph).splitlines()[1]
    assert line.index("# net.py:14:12") > 70
    again = read(print_graph(graph))
    assert again.body[0].loc is None and same(graph, again)


CONSTANTS = [
    (f32, (2,), 0.1, "0.1:f32[2]"), (f64, (), -0.0, "-0.0:f64[]"),
    (f16, (3,), np.inf, "inf:f16[3]"), (bf16, (), -np.inf, "-inf:bf16[]"),
    (f32, (), np.nan, "nan:f32[]"), (i64, (2,), -3, "-3:i64[2]"),
    (boolean, (2,), True, "True:bool[2]"), (f64, (2,), 1e-300, "1e-300:f64[2]"),
    (i64, (2, 2), np.array([[1, 2], [3, -4]]), "[[1, 2], [3, -4]]:i64[2,2]"),
    (f32, (3,), np.array([0.1, -np.inf, np.nan], np.float32), "[0.1, -inf, nan]:f32[3]"),
    (bf16, (2,), from_compute(np.array([1.5, 3e38]), bf16), "[1.5, 3.0040553e+38]:bf16[2]"),
    (f16, (1,), np.array([np.inf], np.float16), "[inf]:f16[1]"),
    (boolean, (2,), np.array([True, False]), "[True, False]:bool[2]"),
    (u8, (0, 3), np.zeros((0, 3), np.uint8), "[]:u8[0,3]"),
]


@pytest.mark.parametrize("dtype, shape, value, text", CONSTANTS, ids=[row[3] for row in CONSTANTS])
def test_constants(dtype, shape, value, text):
    graph = Graph("f", (), (), Constant(TensorType(dtype, shape), value))
    assert f"return {text}\n" in print_graph(graph)
    assert same(graph, unchanged(print_graph(graph)))


@pytest.mark.parametrize("value, text", [(2.0, "2.0:f64"), (-7, "-7:i64"), (False, "False:bool"),
                                         (np.nan, "nan:f64")])
def test_scalar_constants(value, text):
    kind = {"f64": f64, "i64": i64, "bool": boolean}[text.split(":")[1]]
    graph = Graph("f", (), (), Constant(ScalarType(kind), value))
    assert f"return {text}\n" in print_graph(graph)
    assert same(graph, unchanged(print_graph(graph)))


def test_attributes_of_every_kind():
    """`fused` takes any further attributes."""
    with Builder("g") as b:
        g = b.finish(b.input(TensorType(f32, ()), "x"))
    given = {"a": 1, "b": -2.5, "c": "it's", "d": (), "e": (1,), "f": (1, (2, 3)), "g": None,
             "h": True, "i": f16, "j": Dim("m"), "k": (Dim("m", 4), 2), "l": float("inf"),
             "m": 1e-7}
    with Builder("f") as b:
        x = b.input(TensorType(f32, ()), "x")
        graph = b.finish(PRIMITIVES["fused"](x, graph=g, **given))
    assert read(print_graph(graph)).body[0].attrs.items() >= given.items()
    unchanged(print_graph(graph))


@pytest.mark.parametrize("type", [
    ScalarType(f64), TensorType(f32, (2, Dim("n", 3))), TupleType(()),
    TupleType((ScalarType(i64),)),
    TupleType((TensorType(bf16, ()), TupleType((ScalarType(boolean), ScalarType(f64))))),
], ids=str)
def test_types_read_back(type):
    graph = Graph("f", (x := Input(type, "x"),), (), x)
    assert unchanged(print_graph(graph)).type == type
    with Builder("g") as b:
        graph = b.finish(PRIMITIVES["empty"](type=type))
    assert unchanged(print_graph(graph)).body[0].attrs["type"] == type


def body(*lines):
    """The text of a graph of x: f32[2] with these lines; its result is %y. Lines count from 2."""
    return "\n".join(["graph @f(%x: f32[2]) -> f32[2] {", *lines, "  return %y", "}"])


@pytest.mark.parametrize("text, line, col, message", [
    ("", 1, 1, "found no graph"),
    ("graph f", 1, 7, "found f, expected the graph's name"),
    ("graph @f(%x: f33[2]) -> f32[2] {}", 1, 14, "found f33, expected a type"),
    ("graph @f(%x: f32[2) -> f32[2] {}", 1, 19, "found ), expected ]"),
    ("graph @f(%x: f32[1.5]) -> f32[2] {}", 1, 18, "found 1.5, expected a whole number"),
    ("graph @f(%x: f32[], %x: f32[]) -> f32[] {", 1, 21, "found %x defined a second time"),
    (body("  ?"), 2, 3, "found '?', which begins nothing"),
    (body("  %y = exp(%z) : f32[2]"), 2, 12, "found %z, which is not defined before"),
    (body("  %y = expo(%x) : f32[2]"), 2, 8, "found expo, which is no primitive"),
    (body("  %x = exp(%x) : f32[2]"), 2, 3, "found %x defined a second time"),
    (body("", "  %y = exp(%x) : f32[3]"), 3, 18, "type f32[2], declared is f32[3]"),
    (body("  %y = exp(%x) : f64[2]"), 2, 18, "found type f32[2], declared is f64[2]"),
    (body("  %y = add(%x, 1:i64[2]) : f32[2]"), 2, 8, "f32[2] and i64[2], expected one dtype"),
    (body("  %y = add(%x) : f32[2]"), 2, 8, "add: "),
    (body("  %y = exp(%x) {speed=3} : f32[2]"), 2, 8, "exp: "),
    (body("  %y = add(%x, 1.5:i64[2]) : f32[2]"), 2, 16, "found 1.5 for i64[2]"),
    (body("  %y = add(%x, True:f32[2]) : f32[2]"), 2, 16, "found True for f32[2]"),
    (body("  %y = add(%x, [1]:f32[2]) : f32[2]"), 2, 16, "shape [1] for f32[2]"),
    (body("  %y = add(%x, [[1], [1, 2]]:f32[2]) : f32[2]"), 2, 16, "an array that is no f32[2]"),
    (body("  %y = gather(%x, [300]:u8[1]) {axis=0} : f32[1]"), 2, 19, "an array that is no u8[1]"),
    (body("  %y = call(%x) {graph=@g} : f32[2]"), 2, 24, "found @g, which is not defined"),
    (body("  %y = exp(%x) {a=} : f32[2]"), 2, 19, "found }, expected the value of an attribute"),
    (body("  %y = exp(%x : f32[2]"), 2, 15, "found :, expected )"),
    (body(), 2, 10, "found %y, which is not defined before"),
    ("graph @f(%x: f32[2]) -> f32[3] {\n  return %x\n}", 2, 10, "result of type f32[2], declared"),
    ("graph @f(%x: f32[2]) -> f32[2] {\n  return %x\n", 3, 1, "found the end, expected }"),
    ("graph @f() -> f32 { return 1.0:f32 } graph @f() -> f32 {", 1, 44, "graph @f a second time"),
])
def test_refusals_have_a_place(text, line, col, message):
    with pytest.raises(IRFault) as fault:
        read(text, "some.ir")
    assert str(fault.value.loc) == f"some.ir:{line}:{col}"
    assert message in fault.value.message
    assert str(fault.value).startswith(f"some.ir:{line}:{col}: ")


def test_same_is_not_blind():
    """Each small change makes another graph."""
    for old, new in [("2.0:", "3.0:"), ("mul", "add"), ("then=@double", "then=@same"),
                     ("2*n}", "n}"), ("tuple(%h, %n) : (f32[n,4], i64)", "tuple(%h, 1:i64) : "
                                      "(f32[n,4], i64)"), ("n,4", "n,5")]:
        assert old in BRANCHES
        assert not same(read(BRANCHES), read(BRANCHES.replace(old, new))), old
    assert not same(read("graph @f() -> f64[] { return 0.0:f64[] }"),
                    read("graph @f() -> f64[] { return -0.0:f64[] }"))
    two = "graph @f(%x: f64, %y: f64) -> f64 {{ %z = sub({}) : f64 return %z }}"
    assert not same(read(two.format("%x, %y")), read(two.format("%y, %x")))
