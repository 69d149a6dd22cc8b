"""fuse: what becomes one group, what must not, and that the meaning stays, made-up graphs too."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellc.errors import SymbolicFault
from cellc.ir.check import check
from cellc.ir.graph import Apply, Graph
from cellc.ir.interpret import interpret, resolve
from cellc.ir.prims import contraction, control, gather, shape
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import reduce as r
from cellc.ir.prims import shape as s
from cellc.ir.text import print_graph, read
from cellc.ir.types import Dim, TensorType, f32, i64
from cellc.kernels.lower import lower
from cellc.passes import fuse
from tests.kernel_runner import Compiled, as_tuple, build, close, random_array


def t(*sizes, of=f32):
    return TensorType(of, sizes)


def rows(x, like, *dims):
    return s.broadcast(x, shape=like.shape, dims=dims)


def groups(graph):
    """The primitives of each apply at the top, groups as tuples of their members' names."""
    found = []
    for node in graph.body:
        if node.prim.name == "fused":
            found.append(tuple(m.prim.name for m in node.attrs["graph"].body
                               if m.prim.name != "tuple"))
        elif node.prim.name not in ("item", "tuple"):
            found.append(node.prim.name)
    return found


def run(graph, arrays, dims=None):
    """The fused graph with each kernel compiled."""
    env = dict(zip(graph.inputs, arrays, strict=True))
    for node in graph.body:
        operands = [env[x] if x in env else interpret_constant(x) for x in node.operands]
        name = node.prim.name
        if name in ("tuple", "item", "reshape", "dim_size"):
            attrs = {key: resolve(value, dims or {}) for key, value in node.attrs.items()}
            env[node] = node.prim.eval(*operands, **attrs)
        else:
            env[node] = Compiled(node, symbols=tuple(dims or ()))(*operands, dims=dims)
    return env[graph.result]


def interpret_constant(x):
    return interpret(Graph("c", (), (), x))


def same(graph, compiled=True, tolerance=1e-4):
    """Fused, printed and read back, interpreted and compiled, the graph gives the same."""
    fused = fuse.run(graph)
    check(fused)
    assert print_graph(read(print_graph(fused))) == print_graph(fused)
    arrays = [random_array(x.type, i) for i, x in enumerate(graph.inputs)]
    wanted = interpret(graph, *arrays)
    found = [interpret(fused, *arrays)] + ([run(fused, arrays)] if compiled else [])
    for values in found:
        for got, right in zip(as_tuple(values), as_tuple(wanted), strict=True):
            close(got, right, tolerance)
    return groups(fused)


def dot(a, b):
    return contraction.dot(a, b, contract=((1,), (0,)), batch=((), ()))


def softmax(x):
    powers = e.exp(x - rows(r.reduce_max(x, axes=(1,)), x, 0))
    return powers / rows(r.reduce_sum(powers, axes=(1,)), x, 0)


def test_softmax_is_one_group():
    assert len(same(build(softmax, t(10, 7)))) == 1


def test_one_walk_gives_the_gradient_and_its_column_sums():
    def bias_gradient(x, y):
        g = e.select(e.gt(x, y), x, x * 0.0)
        return g, r.reduce_sum(g, axes=(0,))

    assert len(same(build(bias_gradient, t(10, 7), t(10, 7)))) == 1


def test_a_product_takes_bias_and_activation():
    found = same(build(lambda x, w, b: e.tanh(dot(x, w) + rows(b, dot(x, w), 1)), t(5, 7), t(7, 6),
                       t(6)))
    assert ("dot", "broadcast", "add", "tanh") in found


def test_a_branching_epilogue():
    def gelu(x, w):
        y = dot(x, w)
        return y * 0.5 * (e.erf(y * 0.7) + 1.0)

    assert len(same(build(gelu, t(5, 7), t(7, 6)))) == 1


def test_what_is_read_twice_stays_out_of_the_epilogue():
    def both(x, w):
        y = dot(x, w)
        return e.tanh(y), y

    found = same(build(both, t(5, 7), t(7, 6)))
    assert ("dot",) in found and ("tanh",) in found


def test_convolution_with_bias_is_one_product():
    def convolution(x, w, b):
        y = contraction.dot(w, s.windows(x, sizes=(3, 3), strides=(1, 1), dilations=(1, 1)),
                            contract=((1, 2, 3), (1, 4, 5)), batch=((), ()))
        y = s.transpose(y, perm=(1, 0, 2, 3))
        return e.tanh(y + rows(b, y, 1))

    assert len(same(build(convolution, t(2, 3, 6, 7), t(4, 3, 3, 3), t(4)))) == 1


def test_heads_are_read_in_place():
    def scores(q, k):
        q, k = (s.transpose(s.reshape(x, shape=(2, 5, 3, 4)), perm=(0, 2, 1, 3)) for x in (q, k))
        return contraction.dot(q, k, contract=((3,), (3,)), batch=((0, 1), (0, 1)))

    assert len(same(build(scores, t(2, 5, 12), t(2, 5, 12)))) == 1


def test_other_reductions_get_groups_of_their_own():
    assert len(same(build(lambda x: (r.reduce_sum(x * 2.0, axes=(0,)),
                                     r.reduce_sum(x * 2.0, axes=(1,))), t(5, 6)))) >= 2


def test_kernels_and_control_stay():
    def mixed(x, i):
        return shape.concat(e.exp(x), gather.gather(x, i, axis=0), axis=0)

    found = same(build(mixed, t(9, 6), t(3, of=i64)))
    assert "concat" in found and ("exp",) in found


def looked_up(x, i):
    """What a loss does with the logits of labels: reads some, and sums all."""
    flat = gather.gather(s.reshape(x, shape=(x.size,)), i, axis=0)
    return e.mul(flat, r.reduce_sum(e.exp(x), axes=(1,)))


def test_a_lookup_reads_through_reshapes():
    types = t(9, 6), t(9, of=i64)
    assert groups(fuse.run(build(looked_up, *types))) == [
        ("reshape", "gather", "exp", "reduce_sum", "mul")]
    same(build(lambda x, i: looked_up(x, e.mod(i, i * 0 + 54)), *types))


def test_a_lookup_in_what_is_computed_waits_for_it():
    types = t(9, 6), t(9, of=i64)
    found = same(build(lambda x, i: looked_up(e.tanh(x), e.mod(i, i * 0 + 54)), *types))
    assert found[1:] == [("tanh", "exp", "reduce_sum"), ("reshape", "gather", "mul")]


@pytest.mark.parametrize("build_parts", [
    lambda x: shape.concat(s.slice(x, starts=(0, 6), stops=(9, 8), steps=(1, 1)),
                           s.slice(x, starts=(0, 0), stops=(9, 6), steps=(1, 1)), axis=1),
    lambda x: shape.concat(s.transpose(x, perm=(1, 0)),
                           s.flip(s.transpose(x, perm=(1, 0)), axes=(1,)), axis=0),
    lambda x: shape.concat(s.flip(x, axes=(0,)), x, s.slice(
        x, starts=(1, 0), stops=(9, 8), steps=(3, 1)), axis=0),
])
def test_a_concat_copies_from_where_views_point(build_parts):
    [group] = same(build(build_parts, t(9, 8)))
    assert "concat" in group


def test_a_concat_of_reshapes_that_cut_axes():
    def parts(x):
        turned = s.transpose(x, perm=(1, 0))
        return shape.concat(s.reshape(turned, shape=(6, 12)), s.reshape(x, shape=(6, 12)), axis=0)

    assert same(build(parts, t(9, 8)))


def test_no_cycle_through_an_unfusable_node():
    """b = kernel(a) read together with a: a and the reader cannot be one group."""
    def crossing(x):
        a = e.exp(x)
        b = r.cumsum(a, axis=0)
        return e.mul(a, b)

    assert len(same(build(crossing, t(5, 6)))) == 3


def test_a_graph_of_reshapes_has_no_kernels():
    found = same(build(lambda x: s.reshape(s.reshape(x, shape=(6, 5)), shape=(3, 10)), t(5, 6)))
    assert all(g == "reshape" for g in found)


def test_a_pool_and_its_mask_are_one_group():
    def pool(x):
        x = e.max(x, x * 0.0)
        tiles = s.reshape(x, shape=(2, 3, 4, 2, 5, 2))
        best = r.reduce_max(tiles, axes=(3, 5))
        return best, e.eq(tiles, rows(best, tiles, 0, 1, 2, 4))

    assert len(same(build(pool, t(2, 3, 8, 10)))) == 1


def test_results_that_are_views_are_stored():
    same(build(lambda x: (s.transpose(x, perm=(1, 0)), e.exp(x), s.flip(x, axes=(0,))), t(5, 6)))


def test_nothing_fused_is_right_too(monkeypatch):
    """What the pass falls back on when a group turns out not to be a nest."""
    monkeypatch.setattr(fuse, "ATTEMPTS", 1)
    assert len(same(build(softmax, t(10, 7)))) == 7


# -- sizes known at run time -----------------------------------------------------------------------
N = Dim("n")


def test_of_a_refused_group_one_member_is_left_out(monkeypatch):
    def chain(x):
        return e.exp(e.neg(e.tanh(e.neg(e.exp(x)))))

    def without_tanh(graph):
        if len(graph.body) > 1 and any(node.prim is e.tanh for node in graph.body):
            raise fuse.NotFusable("as told")
        return lower(graph)

    monkeypatch.setattr(fuse, "lower", without_tanh)
    assert same(build(chain, t(9, 6))) == [("exp", "neg"), ("tanh",), ("neg", "exp")]


def shortest_ways(x):
    """Each round reads the last one's result at three places."""
    for k in range(30):
        column = s.slice(x, starts=(0, k % 9), stops=(9, k % 9 + 1), steps=(1, 1))
        row = s.slice(x, starts=(k % 9, 0), stops=(k % 9 + 1, 9), steps=(1, 1))
        x = e.min(x, e.add(rows(column, x, 0, 1), rows(row, x, 0, 1)))
    return x


def residual_products(w, x):
    """A vector times a matrix is a sum of products here: what it gives is read along columns."""
    for _ in range(4):
        x = e.add(x, e.tanh(r.reduce_sum(e.mul(w, rows(x, w, 1)), axes=(1,))))
    return x


def scaled_both_ways(x):
    for _ in range(4):
        x = e.div(x, rows(r.reduce_sum(x, axes=(0,)), x, 1))
        x = e.sub(x, rows(r.reduce_max(x, axes=(1,)), x, 0))
    return x


def shifted_sums(x):
    for _ in range(12):
        shifted = s.slice(x, starts=(1, 0), stops=(9, 9), steps=(1, 1))
        x = e.add(x, s.pad(shifted, low=(0, 0), high=(1, 0), value=0.0))
    return x


@pytest.mark.parametrize("function, types", [
    (shortest_ways, [t(9, 9)]), (residual_products, [t(9, 9), t(9)]),
    (scaled_both_ways, [t(9, 9)]), (shifted_sums, [t(9, 9)])])
def test_little_is_made_again(function, types, monkeypatch):
    """Groups that read one another elsewhere stay apart, so that code grows with the program."""
    monkeypatch.setattr(fuse.Clusters, "breaking", None)        # none is refused
    graph = build(function, *types)
    same(graph)
    nests = [lower(node.attrs["graph"]) for node in fuse.run(graph).body
             if node.prim.name == "fused"]
    assert sum(len(nest.values()) for nest in nests) < 6 * len(graph.body)


def mlp_with_gradient(x, w, b, w2, labels):
    h = dot(x, w)
    h = e.tanh(h + rows(b, h, 1))
    p = softmax(dot(h, w2))
    d = p - labels
    dh = contraction.dot(d, w2, contract=((1,), (1,)), batch=((), ())) * (1 - h * h)
    return (r.reduce_sum(p, axes=(0, 1)), r.reduce_sum(dh, axes=(0,)),
            contraction.dot(x, dh, contract=((0,), (0,)), batch=((), ())))


def convolution_and_pool(x, w, b):
    x = s.pad(x, low=(0, 0, 1, 1), high=(0, 0, 1, 1), value=0.0)
    y = contraction.dot(w, s.windows(x, sizes=(3, 3), strides=(1, 1), dilations=(1, 1)),
                        contract=((1, 2, 3), (1, 4, 5)), batch=((), ()))
    y = s.transpose(y, perm=(1, 0, 2, 3))
    y = e.tanh(y + rows(b, y, 1))
    return s.reshape(r.reduce_max(s.reshape(y, shape=(N, 4, 4, 2, 4, 2)), axes=(3, 5)),
                     shape=(N, 64))


SYMBOLIC = {
    "mlp": (mlp_with_gradient, t(N, 12), t(12, 20), t(20), t(20, 5), t(N, 5)),
    "convolution": (convolution_and_pool, t(N, 3, 8, 8), t(4, 3, 3, 3), t(4)),
    "concat": (lambda x, y: shape.concat(e.exp(x), y, axis=1), t(N, 3), t(N, 5)),
    "running sums": (lambda x: r.cumsum(x, axis=0), t(N, 3)),
    "embedding": (lambda x, i, g: (gather.gather(x, e.mod(i, i * 0 + 9), axis=0),
                                   gather.scatter_add(e.mod(i, i * 0 + 9), g, axis=0, size=9)),
                  t(9, 6), t(N, of=i64), t(N, 6)),
    "transpose": (lambda x: e.exp(s.transpose(x, perm=(1, 0))), t(N, 3)),
    "windows": (lambda w: s.windows_add(w, shape=(9, 9), strides=(2, 2), dilations=(1, 1)),
                t(N, 2, 4, 4, 3, 3)),
}


@pytest.mark.parametrize("name", SYMBOLIC)
def test_one_program_for_many_sizes(name):
    function, *types = SYMBOLIC[name]
    graph = build(function, *types)
    fused = fuse.run(graph)
    for n in (2, 17):
        dims = {"n": n}
        arrays = [random_array(resolve(x.type, dims), i) for i, x in enumerate(graph.inputs)]
        wanted, found = interpret(graph, *arrays, dims=dims), run(fused, arrays, dims)
        for got, right in zip(as_tuple(found), as_tuple(wanted), strict=True):
            close(got, right, 1e-3)


def test_what_depends_on_a_size_is_said():
    with pytest.raises(SymbolicFault):
        fuse.run(build(lambda x: s.flip(x, axes=(0,)), t(N, 3)))


# -- graphs made up by hypothesis ------------------------------------------------------------------
UNARY = [e.neg, e.exp, e.tanh, e.abs, e.logistic]
BINARY = [e.add, e.sub, e.mul, e.max]


@st.composite
def programs(draw):
    """A list of choices that `make` turns into a graph over f32 tensors of up to three axes."""
    return draw(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 50), st.integers(0, 50),
                                   st.integers(0, 50)), min_size=2, max_size=14))


def make(choices, sizes=(3, 4, 5)):
    def function(x, y, v):
        values = [x, y, v]
        for kind, a, b, c in choices:
            made = step(values, kind, values[a % len(values)], b, c)
            if made is not None and made.size <= 200000:
                values.append(made)
        results = values[3:][-3:] or [e.exp(x)]
        return tuple(e.tanh(n) if i % 2 else n for i, n in enumerate(results))

    return build(function, t(*sizes), t(*sizes[1:]), t(*sizes[2:]))


def step(values, kind, x, b, c):
    """One more value; None where the choice does not fit x."""
    if kind <= 1:
        return UNARY[b % len(UNARY)](e.tanh(x))
    if kind <= 3:
        same_shape = [y for y in values if y.shape == x.shape]
        return BINARY[c % len(BINARY)](x, same_shape[b % len(same_shape)])
    if x.ndim == 0:
        return None
    axis = b % x.ndim
    if kind in (4, 5):
        prim = (r.reduce_sum, r.reduce_max)[c % 2]
        y = prim(x, axes=(axis,) if c % 3 else tuple(range(axis, x.ndim)))
        kept = tuple(range(axis)) + (tuple(range(axis + 1, x.ndim)) if c % 3 else ())
        return e.sub(x, rows(y, x, *kept)) if c % 5 else y
    if kind == 6:
        return s.transpose(x, perm=tuple((i + b) % x.ndim for i in range(x.ndim)))
    if kind == 7:
        return s.reshape(x, shape=((x.shape[0], x.size // x.shape[0]), (x.size,),
                                   (x.shape[0], 1, x.size // x.shape[0]))[b % 3])
    if kind == 8:
        return s.broadcast(x, shape=(2, *x.shape), dims=tuple(range(1, x.ndim + 1)))
    if kind == 9:
        return s.pad(x, low=(1,) * x.ndim, high=(c % 2,) * x.ndim, value=0.5)
    if kind > 10:
        return kernel_step(values, kind, x, axis, c)
    n = x.shape[axis]
    cut = tuple(slice(c % 2, n, 1 + b % 2) if i == axis else slice(0, m, 1)
                for i, m in enumerate(x.shape))
    if n <= c % 2:
        return None
    return s.slice(x, starts=tuple(k.start for k in cut), stops=tuple(k.stop for k in cut),
                   steps=tuple(k.step for k in cut))


def kernel_step(values, kind, x, axis, c):
    """A value made by something that is, or holds, a kernel of its own."""
    n = x.shape[axis]
    if kind == 11:
        others = [(y, k) for y in values for k in range(y.ndim) if y.shape[k] == n]
        y, k = others[c % len(others)]
        return e.tanh(contraction.dot(x, y, contract=((axis,), (k,)), batch=((), ())))
    if kind == 12:
        return shape.concat(x, e.exp(e.tanh(x)), axis=axis)
    if kind == 13:
        return r.cumsum(x, axis=axis, reverse=bool(c % 2))
    if kind == 14 and x.shape[-1] >= 2:
        stride = 1 + c % 2
        w = s.windows(x, sizes=(2,), strides=(stride,), dilations=(1,))
        return w if c % 3 else s.windows_add(e.tanh(w), shape=(x.shape[-1],), strides=(stride,),
                                             dilations=(1,))
    if kind == 15:
        if c % 3 == 0:
            x, axis, n = s.reshape(x, shape=(x.size,)), 0, x.size
        at = s.iota(shape=(3,), axis=0, dtype=i64)
        return gather.gather(x, e.mod(at * (1 + c), at * 0 + n), axis=axis)
    return None


@settings(max_examples=150, deadline=None, derandomize=True,
          suppress_health_check=list(HealthCheck))
@given(programs())
def test_made_up_graphs_keep_their_meaning(choices):
    same(make(choices), compiled=False, tolerance=1e-3)


@settings(max_examples=25, deadline=None, derandomize=True,
          suppress_health_check=list(HealthCheck))
@given(programs())
def test_made_up_graphs_compiled(choices):
    same(make(choices), tolerance=1e-3)


def test_the_interpreter_runs_groups():
    graph = fuse.run(build(softmax, t(3, 4)))
    assert isinstance(graph.result, Apply) and graph.result.prim is control.fused
    with pytest.raises(ValueError):
        interpret(graph, np.zeros((3, 5), np.float32))
