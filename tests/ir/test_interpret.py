"""The interpreter: arguments, symbolic sizes, control, and faults with the user's place."""

import numpy as np
import pytest

from cellc.errors import IndexFault, IRFault, Loc, ShapeFault, TypeFault
from cellc.ir.graph import PRIMITIVES, Builder
from cellc.ir.interpret import interpret
from cellc.ir.text import read
from cellc.ir.types import Dim, TensorType, f32, i64

MEAN = read("""
graph @mean(%x: f32[n,3], %w: f32[3]) -> (f32[3], i64) {
  %s = reduce_sum(%x) {axes=(0,)} : f32[3]
  %n = dim_size() {dim=n} : i64
  %f = cast(%n) {dtype=f32} : f32
  %t = from_scalar(%f) : f32[]
  %b = broadcast(%t) {shape=(3,), dims=()} : f32[3]
  %m = div(%s, %b) : f32[3]
  %y = mul(%m, %w) : f32[3]
  %r = tuple(%y, %n) : (f32[3], i64)
  return %r
}""")


def test_symbolic_sizes_are_those_of_the_arguments():
    w = np.ones(3, np.float32)
    for n in (2, 5):
        x = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
        mean, size = interpret(MEAN, x, w)
        assert np.allclose(mean, x.mean(0)) and size == n


def test_symbolic_sizes_have_to_agree():
    graph = read("graph @f(%x: f32[n], %y: f32[2*n]) -> f32[n] { return %x }")
    two, four, five = (np.zeros(n, np.float32) for n in (2, 4, 5))
    assert interpret(graph, two, four).shape == (2,)
    with pytest.raises(ShapeFault, match=r"found shape \[2\] for y, expected f32\[2\*n\]"):
        interpret(graph, two, two)
    with pytest.raises(ShapeFault, match=r"found shape \[5\] for y"):
        interpret(graph, two, five)
    with pytest.raises(ShapeFault, match=r"found shape \[2\] for x"):
        interpret(graph, two, four, dims={"n": 3})


def test_a_size_nobody_tells_is_a_fault():
    graph = read("graph @f() -> i64 { %n = dim_size() {dim=n} : i64 return %n }")
    assert interpret(graph, dims={"n": 7}) == 7
    with pytest.raises(IRFault, match="dimension n, whose size no input tells"):
        interpret(graph)


def test_arguments_have_just_the_inputs_type():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(TypeFault, match="found 1 arguments, expected 2"):
        interpret(MEAN, x)
    with pytest.raises(TypeFault, match=r"found f64 for w, expected f32\[3\]"):
        interpret(MEAN, x, np.zeros(3))
    with pytest.raises(ShapeFault, match=r"found shape \[4\] for w, expected f32\[3\]"):
        interpret(MEAN, x, np.zeros(4, np.float32))
    with pytest.raises(ShapeFault, match=r"found shape \[\] for w"):
        interpret(MEAN, x, np.float32(1))


def test_only_the_branch_taken_is_run():
    graph = read("""
graph @bad(%x: f32[2], %i: i64[]) -> f32[] {
  %y = gather(%x, 5:i64[]) {axis=0} : f32[]
  return %y
}
graph @good(%x: f32[2], %i: i64[]) -> f32[] {
  %y = gather(%x, %i) {axis=0} : f32[]
  return %y
}
graph @main(%p: bool, %x: f32[2], %i: i64[]) -> f32[] {
  %y = cond(%p, %x, %i) {then=@good, orelse=@bad} : f32[]
  return %y
}""")
    x, i = np.array([3, 4], np.float32), np.array(1)
    assert interpret(graph, True, x, i) == 4
    with pytest.raises(IndexFault, match="index 5 is out of range for a size of 2"):
        interpret(graph, False, x, i)


def test_faults_while_running_name_the_users_place():
    with Builder("f") as b:
        x, i = b.input(TensorType(f32, (Dim("n"),)), "x"), b.input(TensorType(i64, (1,)), "i")
        b.loc = Loc("net.py", 3, 9)
        graph = b.finish(PRIMITIVES["gather"](x, i, axis=0))
    with pytest.raises(IndexFault) as fault:
        interpret(graph, np.zeros(2, np.float32), np.array([2]))
    assert str(fault.value).startswith("net.py:3:9: index 2 is out of range")


def test_a_meaning_that_breaks_its_type_rule_is_noticed(monkeypatch):
    monkeypatch.setattr(PRIMITIVES["neg"], "eval", lambda x: x.astype(np.float64))
    graph = read("graph @f(%x: f32[2]) -> f32[2] { %y = neg(%x) : f32[2] return %y }")
    with pytest.raises(IRFault, match=r"neg gave f64\[2\], its type is f32\[2\]"):
        interpret(graph, np.zeros(2, np.float32))


def test_constants_of_every_dtype():
    for name in ("bool", "i8", "u64", "f16", "bf16", "f32", "f64"):
        value = "True" if name == "bool" else "2" if name[0] in "iu" else "2.0"
        graph = read(f"graph @f() -> {name}[2] {{ return {value}:{name}[2] }}")
        array = interpret(graph)
        assert array.shape == (2,) and array.dtype == graph.type.dtype.numpy
