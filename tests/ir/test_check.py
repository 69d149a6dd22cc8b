"""The checker: one graph of each defect it is there to find."""

import numpy as np
import pytest

from cellc.errors import IRFault
from cellc.ir import arith  # noqa: F401  (fills the table)
from cellc.ir.check import check
from cellc.ir.graph import PRIMITIVES, Apply, Builder, Constant, Graph, Input, Primitive
from cellc.ir.types import ScalarType, TensorType, TupleType, f32, f64, i64

T = TensorType(f32, (2,))
NEG = PRIMITIVES["neg"]


def apply(prim, *operands, type=None, **attrs):
    return Apply(prim, operands, attrs, type, "y")


def defects():
    x, outside = Input(T, "x"), Input(T, "z")
    y = apply(NEG, x)
    yield "uses what comes later", Graph("f", [x], [apply(NEG, y), y], y), "not defined before"
    yield "uses another graph's input", Graph("f", [x], [apply(NEG, outside)], x), "%z: f32.2., w"
    yield "result of another graph", Graph("f", [x], [], outside), "its result: found %z"
    yield "apply twice", Graph("f", [x], [y, y], y), "a second time"
    yield "input twice", Graph("f", [x, x], [], x), "among the inputs"
    wrong = apply(NEG, x, type=TensorType(f64, (2,)))
    yield "wrong type", Graph("f", [x], [wrong], wrong), r"found type f64\[2\], its operands give"
    bad = apply(PRIMITIVES["add"], x, Constant(TensorType(f64, (2,)), 1.0), type=T)
    yield "bad operands", Graph("f", [x], [bad], bad), "expected one dtype"
    few = apply(PRIMITIVES["add"], x, type=T)
    yield "too few operands", Graph("f", [x], [few], few), "add: "
    stray = Primitive("stray", "x", doc="", kind="elementwise", types=lambda x: x, eval=None,
                      vjp=None)
    made = apply(stray, x)
    yield "not in the table", Graph("f", [x], [made], made), "stray, which is not in the table"
    hidden = apply(NEG, x, type=T, extra=x)
    yield "node as attribute", Graph("f", [x], [hidden], hidden), "a node among the attributes"
    inner = Graph("g", [x], [], outside)
    call = Apply(PRIMITIVES["call"], (x,), {"graph": inner}, T, "y")
    yield "inside a sub-graph", Graph("f", [x], [call], call), "graph g, its result"
    narrow = Graph("g", [a := Input(TensorType(f32, (3,)), "a")], [], a)
    call = Apply(PRIMITIVES["call"], (x,), {"graph": narrow}, narrow.type, "y")
    yield "sub-graph's signature", Graph("f", [x], [call], call), r"found f32\[2\] for a of g"
    for name, type, value in [
            ("bool as int", ScalarType(i64), True), ("int as float", ScalarType(f64), 1),
            ("float as int", ScalarType(i64), 1.0), ("text", ScalarType(f64), "1"),
            ("array of another dtype", T, np.zeros(2)),
            ("array of another shape", T, np.zeros(3, np.float32)),
            ("tuple", TupleType((T,)), 1.0)]:
        yield f"constant: {name}", Graph("f", [], [], Constant(type, value)), "its result: found"


@pytest.mark.parametrize("graph, message", [row[1:] for row in defects()],
                         ids=[row[0] for row in defects()])
def test_defects_are_found(graph, message):
    with pytest.raises(IRFault, match=message):
        check(graph)


def test_a_good_graph_passes():
    with Builder("g") as b:
        g = b.finish(NEG(b.input(T, "x")))
    with Builder("f") as b:
        x = b.input(T, "x")
        y = PRIMITIVES["call"](x, graph=g)
        check(b.finish(PRIMITIVES["call"](y * 2.0, graph=g)))
