"""The rules of linear primitives are their adjoints: <A x, w> == <x, A' w>, whatever the shapes."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cellc.ir.graph import PRIMITIVES
from cellc.ir.interpret import interpret
from cellc.passes.grad import value_and_grad_graph
from tests.prims.cases import graph_of

sizes = st.integers(0, 4)
few = settings(max_examples=40, deadline=None)


def adjoint(name, operands, attrs, at=(0,), seed=0):
    """Check the operands `at` of a primitive that is linear in them, taken together."""
    rng = np.random.default_rng(seed)
    graph = graph_of(PRIMITIVES[name], operands, attrs)
    w = rng.normal(size=graph.type.shape)
    y, *back = interpret(value_and_grad_graph(graph, at, sens=True), *operands, w)
    assert [b.shape for b in back] == [operands[i].shape for i in at]
    expected = sum(np.vdot(operands[i], b) for i, b in zip(at, back, strict=True))
    np.testing.assert_allclose(np.vdot(y, w), expected, rtol=1e-9, atol=1e-9)


def normal(shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape)


@few
@given(st.lists(st.tuples(sizes, st.integers(0, 2), st.integers(0, 2), st.integers(0, 3)),
                max_size=3))
def test_pad(axes):
    n, low, high, gaps = zip(*axes, strict=True) if axes else ((), (), (), ())
    adjoint("pad", [normal(n)], {"low": low, "high": high, "value": 0, "interior": gaps})


@few
@given(st.lists(st.tuples(sizes, sizes, sizes, st.integers(1, 4)), max_size=3))
def test_slice(axes):
    """Sizes before, inside and after the part that is kept."""
    starts = tuple(a for a, _, _, _ in axes)
    stops = tuple(a + b for a, b, _, _ in axes)
    shape = tuple(a + b + c for a, b, c, _ in axes)
    adjoint("slice", [normal(shape)], {"starts": starts, "stops": stops,
                                       "steps": tuple(s for _, _, _, s in axes)})


@few
@given(st.lists(sizes, max_size=4).flatmap(lambda shape: st.tuples(
    st.just(tuple(shape)), st.permutations(range(len(shape))))))
def test_transpose(case):
    shape, perm = case
    adjoint("transpose", [normal(shape)], {"perm": tuple(perm)})


@few
@given(st.lists(st.tuples(sizes, st.sampled_from(["new", "one", "same"])), max_size=4))
def test_broadcast(axes):
    shape = tuple(n for n, _ in axes)
    dims = tuple(i for i, (_, how) in enumerate(axes) if how != "new")
    own = tuple(1 if how == "one" else n for n, how in axes if how != "new")
    adjoint("broadcast", [normal(own)], {"shape": shape, "dims": dims})


@few
@given(st.lists(sizes, max_size=1), st.lists(st.tuples(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 4)), min_size=1,
    max_size=2))
def test_windows(lead, axes):
    """Window size, stride, dilation, and how much longer the axis is than the window."""
    k, strides, dilations, more = (tuple(column) for column in zip(*axes, strict=True))
    shape = tuple((size - 1) * d + 1 + m for size, d, m in zip(k, dilations, more, strict=True))
    x = normal((*lead, *shape))
    attrs = {"strides": strides, "dilations": dilations}
    adjoint("windows", [x], {"sizes": k, **attrs})
    w = PRIMITIVES["windows"].eval(x, sizes=k, **attrs)
    adjoint("windows_add", [normal(w.shape)], {"shape": shape, **attrs})


@few
@given(sizes, sizes, sizes, sizes, st.randoms(use_true_random=False))
def test_dot(batch, left, right, inner, random):
    """Two contracted axes, one batch axis, one free axis a side, in any order."""
    names_a, names_b = list("bixy"), list("bjxy")
    random.shuffle(names_a), random.shuffle(names_b)
    size = {"b": batch, "i": left, "j": right, "x": inner, "y": 2}
    pairs = [(names_a.index(n), names_b.index(n)) for n in random.sample("xy", 2)]
    attrs = {"contract": tuple(zip(*pairs, strict=True)),
             "batch": ((names_a.index("b"),), (names_b.index("b"),))}
    a, b = (normal([size[n] for n in names], seed) for seed, names in ((1, names_a), (2, names_b)))
    graph = graph_of(PRIMITIVES["dot"], [a, b], attrs)
    expected = np.einsum(f"{''.join(names_a)},{''.join(names_b)}->bij", a, b)
    np.testing.assert_allclose(interpret(graph, a, b), expected, atol=1e-12)
    adjoint("dot", [a, b], attrs, (0,))
    adjoint("dot", [a, b], attrs, (1,))


@few
@given(st.lists(sizes, max_size=2), st.integers(1, 4), st.lists(sizes, max_size=1),
       st.lists(sizes, max_size=2), st.integers(0, 99))
def test_gather_and_scatter(lead, n, tail, index_shape, seed):
    index = np.random.default_rng(seed).integers(0, n, index_shape)
    adjoint("gather", [normal((*lead, n, *tail)), index], {"axis": len(lead)})
    adjoint("scatter_add", [index, normal((*lead, *index_shape, *tail))],
            {"axis": len(lead), "size": n}, (1,))


@few
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.data())
def test_sums_and_running_sums(shape, data):
    axes = data.draw(st.lists(st.sampled_from(range(len(shape))), unique=True))
    adjoint("reduce_sum", [normal(shape)], {"axes": tuple(axes)})
    adjoint("cumsum", [normal(shape)], {"axis": data.draw(st.integers(0, len(shape) - 1)),
                                        "reverse": data.draw(st.booleans())})


@few
@given(st.lists(sizes, min_size=1, max_size=3), sizes, st.integers(0, 1))
def test_concat_flip_and_reshape(parts, other, axis):
    xs = [normal((n, other), i) for i, n in enumerate(parts)]
    adjoint("concat", xs, {"axis": 0}, tuple(range(len(xs))))
    adjoint("flip", [xs[0]], {"axes": (axis,)})
    adjoint("reshape", [xs[0]], {"shape": (other, parts[0])})
