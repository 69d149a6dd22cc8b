"""simplify, cse, dead_code and inline: text in, text out."""

import numpy as np
import pytest

from cellc.ir.check import check, same
from cellc.ir.interpret import interpret
from cellc.ir.text import print_graph, read, read_all
from cellc.passes import cse, dead_code, inline, simplify


def rewritten(run, body, result, inputs="%x: f32[3], %y: f32[3]", of="f32[3]"):
    return run(read(f"graph @f({inputs}) -> {of} {{\n{body}\n  return {result}\n}}"))


def names(graph):
    return [node.prim.name for node in graph.body]


SIMPLIFIED = [
    ("%a = neg(%x) : f32[3]\n %b = neg(%a) : f32[3]", "%b", []),
    ("%a = mul(%x, 1.0:f32[3]) : f32[3]", "%a", []),
    ("%a = add(%x, 0.0:f32[3]) : f32[3]", "%a", ["add"]),           # -0.0 + 0.0 is 0.0
    ("%a = sub(%x, 0.0:f32[3]) : f32[3]", "%a", []),
    ("%a = mul(%x, 0.0:f32[3]) : f32[3]", "%a", ["mul"]),          # nan * 0 is nan
    ("%a = neg(%y) : f32[3]\n %b = add(%x, %a) : f32[3]", "%b", ["sub"]),
    ("%a = reshape(%x) {shape=(3, 1)} : f32[3,1]\n %b = reshape(%a) {shape=(3,)} : f32[3]",
     "%b", []),
    ("%a = cast(%x) {dtype=f64} : f64[3]\n %b = cast(%a) {dtype=f32} : f32[3]", "%b", []),
    ("%a = cast(%x) {dtype=f16} : f16[3]\n %b = cast(%a) {dtype=f32} : f32[3]", "%b",
     ["cast", "cast"]),
    ("%a = mul(2.0:f32[3], 3.0:f32[3]) : f32[3]\n %b = add(%x, %a) : f32[3]", "%b", ["add"]),
    ("%t = tuple(%x, %y) : (f32[3], f32[3])\n %a = item(%t) {index=1} : f32[3]", "%a", []),
]


@pytest.mark.parametrize("body, result, left", SIMPLIFIED)
def test_simplify(body, result, left):
    graph = rewritten(simplify.run, body, result)
    check(graph)
    assert names(dead_code.run(graph)) == left


def test_simplify_integers_may_drop_a_zero():
    graph = rewritten(simplify.run, "%a = add(%n, 0:i64[2]) : i64[2]", "%a", "%n: i64[2]", "i64[2]")
    assert names(graph) == []


def test_permutations_compose():
    graph = rewritten(simplify.run, "%a = transpose(%x) {perm=(1, 2, 0)} : f32[3,4,2]\n"
                      "%b = transpose(%a) {perm=(2, 0, 1)} : f32[2,3,4]", "%b",
                      "%x: f32[2,3,4]", "f32[2,3,4]")
    assert graph.result is graph.inputs[0]


def test_sums_of_sums_merge():
    graph = rewritten(simplify.run, "%a = reduce_sum(%x) {axes=(1,)} : f32[2,4]\n"
                      "%b = reduce_sum(%a) {axes=(1,)} : f32[2]", "%b", "%x: f32[2,3,4]", "f32[2]")
    assert [n.attrs["axes"] for n in dead_code.run(graph).body] == [(1, 2)]


def test_every_rule_keeps_the_type():
    """A rule whose two sides could differ in type is refused where it would apply."""
    graph = rewritten(simplify.run, "%a = cast(%x) {dtype=f64} : f64[3]", "%a", of="f64[3]")
    assert names(graph) == ["cast"]


def test_cse_shares_equal_applies_and_keeps_others():
    graph = rewritten(cse.run, "%a = exp(%x) : f32[3]\n %b = exp(%x) : f32[3]\n"
                      "%c = exp(%y) : f32[3]\n %d = mul(%a, %b) : f32[3]\n"
                      "%e = mul(%d, %c) : f32[3]", "%e")
    assert names(graph) == ["exp", "exp", "mul", "mul"]
    assert graph.body[2].operands[0] is graph.body[2].operands[1]


def test_cse_tells_signed_zeros_apart():
    graph = rewritten(cse.run, "%a = add(%x, 0.0:f32[3]) : f32[3]\n"
                      "%b = add(%x, -0.0:f32[3]) : f32[3]\n %c = div(%a, %b) : f32[3]", "%c")
    assert names(graph) == ["add", "add", "div"]


def test_dead_code():
    graph = rewritten(dead_code.run, "%a = exp(%x) : f32[3]\n %b = tanh(%x) : f32[3]", "%b")
    assert names(graph) == ["tanh"]
    unchanged = rewritten(lambda g: g, "%b = tanh(%x) : f32[3]", "%b")
    assert dead_code.run(unchanged) is unchanged


CALLS = """
graph @g(%a: f32[3]) -> f32[3] {
  %b = exp(%a) : f32[3]
  return %b
}
graph @f(%x: f32[3]) -> f32[3] {
  %y = call(%x) {graph=@g} : f32[3]
  %z = call(%y) {graph=@g} : f32[3]
  return %z
}
"""


def test_inline_small_graphs():
    graph = read_all(CALLS)["f"]
    inlined = inline.run(graph)
    assert names(inlined) == ["exp", "exp"]
    x = np.float32([0.5, 1.0, 1.5])
    assert np.array_equal(interpret(inlined, x), interpret(graph, x))


def test_large_shared_graphs_stay_calls():
    steps = "\n".join(f"  %b{i} = exp(%b{i - 1}) : f32[3]" for i in range(1, 200))
    text = CALLS.replace("%b = exp(%a) : f32[3]", f"%b0 = exp(%a) : f32[3]\n{steps}").replace(
        "return %b", "return %b199")
    graph = inline.run(read_all(text)["f"])
    assert names(graph) == ["call", "call"]
    assert graph.body[0].attrs["graph"] is graph.body[1].attrs["graph"]
    assert same(read(print_graph(graph)), graph)


def test_the_gradient_of_a_relu_asks_its_result():
    graph = rewritten(simplify.run, "%m = gt(%x, 0.0:f32[3]) : bool[3]\n"
                      "%r = select(%m, %x, 0.0:f32[3]) : f32[3]\n"
                      "%e = exp(%r) : f32[3]\n"
                      "%g = select(%m, %e, 0.0:f32[3]) : f32[3]", "%g")
    mask, relu, again, _, last = graph.body
    assert names(graph) == ["gt", "select", "gt", "exp", "select"]
    assert relu.operands[0] is mask and again.operands[0] is relu and last.operands[0] is again
    for x in ([1.0, -1.0, 0.0], [np.nan, -0.0, np.inf]):
        m = np.float32(x) > 0
        expected = np.where(m, np.exp(np.where(m, np.float32(x), 0)), 0)
        assert np.array_equal(interpret(graph, np.float32(x), np.float32(x)), expected)
