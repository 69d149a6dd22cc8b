"""Gradients with a rule of their own: a cell's bprop, custom_vjp, recompute; graph against eager.

The rules are not the derivatives, so that a result shows which of the two was used, and how often.
"""

import numpy as np
import pytest
from same import assert_same, f32, in_mode, parse, same_everywhere

import cellc
from cellc import Parameter, Tensor, context, custom_vjp, grad, nn, ops, recompute, value_and_grad
from cellc.errors import TypeFault, ValueFault


class TimesSeven(nn.Cell):
    def construct(self, x, y):
        return x * x * y

    def bprop(self, x, y, out, dout):
        return dout * x * 7.0, out * dout


seven = TimesSeven()


@same_everywhere((f32(3), f32(3, seed=1)), (2.0, 3.0))
def test_a_bprop_to_order_three(x, y):
    def squared(u, v):
        out = seven(u, v)
        return (out * out * out).sum() if hasattr(out, "shape") else out * out * out

    def total(f):
        return lambda u, v: f(u, v).sum() if hasattr(u, "shape") else f(u, v)

    first = grad(squared, 0)
    second = grad(total(first), 0)
    return (seven(x, y), grad(total(seven), (0, 1))(x, y), first(x, y), second(x, y),
            grad(total(second), (0, 1))(x, y))


@same_everywhere((f32(3), f32(3, seed=1)))
def test_the_value_has_the_rule_at_the_next_order(x, y):
    return grad(lambda u: value_and_grad(lambda a: seven(a, y).sum())(u)[0])(x)


@same_everywhere((f32(2, 3),))
def test_a_bprop_in_branches_and_of_either(x):
    def f(v):
        if v.sum() > 0:
            return (seven(v, v) * 2.0).sum()
        return (seven(v * 2.0, v) + seven(v, v)).sum()

    return grad(f)(x), grad(f)(-x), grad(lambda v: grad(f)(v).sum())(x)


class Structured(nn.Cell):
    """Tuples and dicts in, dicts and numbers out; an argument that is no tensor; a default."""

    def construct(self, x, pair, k=3):
        return {"a": x * pair[0], "n": k, "b": (x + pair[1]).sum()}, 2.0

    def bprop(self, x, pair, k, out, dout):
        first = dout[0]
        return (first["a"] * 10.0 + first["b"],
                (first["a"] * x, ops.ones_like(pair[1]) * first["b"] * k), None)


structured = Structured()


@same_everywhere((f32(3), f32(3, seed=1)))
def test_structures(x, y):
    def f(u, pair):
        found, _ = structured(u, pair)
        return (found["a"] * found["a"]).sum() + found["b"]

    def half(u, pair):
        return structured(u, pair, k=7)[0]["a"].sum()

    return grad(f, (0, 1))(x, (y, x)), grad(half, (0, 1))(x, (y, x))


class Scaled(nn.Cell):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        self.offset = Parameter(Tensor(np.float32([1, 2, 3])), name="offset", requires_grad=False)

    def construct(self, x):
        return x * self.scale

    def bprop(self, x, out, dout):
        return (dout * self.scale * 100.0 + self.offset,)


class Two(nn.Cell):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = Scaled(2.0), Scaled(2.0), Scaled(3.0)

    def construct(self, x):
        return self.third(self.second(self.first(x))).sum()


two = Two()


@same_everywhere((f32(3),))
def test_instances_with_parameters_of_their_own(x):
    return grad(two)(x), two(x)


def test_equal_instances_share_their_graphs():
    traced, _ = parse(grad(two), f32(3))
    rules = {g.name for g in traced.graph.reachable() if "bprop" in g.name}
    assert rules == {"Scaled.bprop", "Scaled.bprop.1"}, "one for each scale"


class Rounded(nn.Cell):
    """A straight-through estimator: what it computes has no derivative at all."""

    def construct(self, x):
        return ops.round(x)

    def bprop(self, x, out, dout):
        return dout


rounded = Rounded()


@same_everywhere((f32(4),), 2.3)
def test_straight_through(x):
    def cubed(v):
        y = rounded(v)
        return (y * y * y).sum() if hasattr(y, "shape") else y * y * y

    return grad(cubed)(x), grad(lambda v: grad(cubed)(v).sum() if hasattr(v, "shape")
                                else grad(cubed)(v))(x)


class Inner(nn.Cell):
    """A rule that takes gradients, calls cells with rules and branches."""

    def construct(self, x):
        return ops.tanh(x)

    def bprop(self, x, out, dout):
        slope = grad(lambda v: (rounded(v) * ops.sin(v)).sum())(x)
        if slope.sum() > 0:
            return dout * slope
        return dout * seven(slope, out)


inner = Inner()


@same_everywhere((f32(4),), (f32(4, seed=5),))
def test_a_rule_is_any_code(x):
    return grad(lambda v: inner(v).sum())(x), grad(lambda v: grad(
        lambda u: inner(u).sum())(v).sum())(x)


def test_inference_reads_no_rule():
    """Without a gradient around it, a bprop is not even parsed."""
    class Odd(nn.Cell):
        def construct(self, x):
            return x * 2.0

        def bprop(self, x, out, dout):
            yield dout

    odd = Odd()
    assert_same(in_mode(context.GRAPH_MODE, cellc.jit(lambda v: odd(v) + 1.0), (f32(3),)),
                f32(3) * 2.0 + 1.0)


# -- custom_vjp ------------------------------------------------------------------------------------

@custom_vjp
def doubled_exp(x):
    return ops.exp(x)


def exp_fwd(x):
    y = doubled_exp(x)
    return y, {"y": y, "k": 2.0}


doubled_exp.defvjp(exp_fwd, lambda kept, g: (g * kept["y"] * kept["k"],))


@same_everywhere((f32(3),), 0.5)
def test_custom_vjp_to_order_three(x):
    def total(f):
        return lambda v: f(v).sum() if hasattr(v, "shape") else f(v)

    first = grad(total(doubled_exp))
    second = grad(total(first))
    return doubled_exp(x), first(x), second(x), grad(total(second))(x)


@custom_vjp
def weighted(x, y, scale=2.0):
    return x * y * scale, (x + y).sum()


def weighted_fwd(x, y, scale):
    return weighted(x, y, scale), (x, y, scale)


def weighted_bwd(kept, g):
    x, y, scale = kept
    return g[0] * y * scale * 10.0, g[1] + x * 0.0, None


weighted.defvjp(weighted_fwd, weighted_bwd)


@same_everywhere((f32(3), f32(3, seed=1)))
def test_several_results_keywords_and_defaults(x, y):
    def f(u, v):
        a, b = weighted(u, y=v)
        return (a * a).sum() * b

    return grad(f, (0, 1))(x, y), grad(lambda u: weighted(u, y, 3.0)[1])(x)


def apply_rule(f, x):
    return f(x) * 1.0


applied = custom_vjp(apply_rule, nondiff_argnums=(0,))
applied.defvjp(lambda f, x: (f(x), x), lambda f, x, g: (g * f(x) * 3.0,))


@same_everywhere((f32(3),))
def test_arguments_without_gradient_come_first(x):
    return (grad(lambda v: applied(ops.sin, v).sum())(x),
            grad(lambda v: applied(lambda u: u * u, v).sum())(x))


def test_a_rule_that_changes_compiles_again():
    rate = custom_vjp(lambda x: x * 1.0)
    rate.defvjp(lambda x: (x, None), lambda kept, g: (g * 2.0,))

    def f(x):
        return grad(lambda v: rate(v).sum())(x)

    compiled = cellc.jit(f)
    x = Tensor(np.float32([1, 2]))
    assert compiled(x).asnumpy().tolist() == [2, 2]
    rate.defvjp(lambda x: (x, None), lambda kept, g: (g * 5.0,))
    assert compiled(x).asnumpy().tolist() == [5, 5]


def test_a_method_with_a_rule():
    class Net(nn.Cell):
        @custom_vjp
        def half(self, x):
            return x * 0.5

        half.defvjp(lambda self, x: (x * 0.5, None), lambda self_or_kept, g: (None, g * 9.0))

        def construct(self, x):
            return self.half(x).sum()

    net = Net()
    for mode in (context.PYNATIVE_MODE, context.GRAPH_MODE):
        assert in_mode(mode, grad(net), (f32(3),)).asnumpy().tolist() == [9, 9, 9]


@custom_vjp
def sine_times(x, y):
    return ops.sin(x) * y


sine_times.defvjp(lambda x, y: (sine_times(x, y), (ops.exp(x), ops.sin(x), y)),
                  lambda kept, g: (g * kept[0] * kept[2], g * kept[1] * 3.0))


@pytest.mark.parametrize("mode", [context.PYNATIVE_MODE, context.GRAPH_MODE])
def test_as_jax(mode):
    """What JAX 0.10 gives for the same programs, in float64."""
    x, y = Tensor(np.array([0.3, 1.2])), Tensor(np.array([2.0, -1.0]))
    applied = custom_vjp(lambda fn, x, k: fn(x) * k, nondiff_argnums=(0, 2))
    applied.defvjp(lambda fn, x, k: (fn(x) * k, (x,)),
                   lambda fn, k, kept, g: (g * fn(kept[0]) * k * 7.0,))

    def first(x, y):
        return grad(lambda v: sine_times(v, y).sum())(x)

    def by_rule(x):
        return grad(lambda v: applied(ops.sin, v, 2.0).sum())(x)

    expected = {
        first: [2.6997176151520064, -3.3201169227365472],
        (lambda x, y: grad(lambda v: sine_times(x, v).sum())(y)):
            [0.8865606199840186, 2.796117257901679],
        (lambda x, y: grad(lambda v: first(x, v).sum())(y)):
            [1.3498588075760032, 3.3201169227365472],
        (lambda x, y: grad(lambda v: first(v, y).sum())(x)):
            [2.6997176151520064, -3.3201169227365472],
        (lambda x, y: by_rule(x)): [4.137282893258754, 13.048547203541169],
        (lambda x, y: grad(lambda v: by_rule(v).sum())(x)):
            [13.374710847758484, 5.073008562673431],
    }
    for function, values in expected.items():
        run = cellc.jit(function) if mode == context.GRAPH_MODE else function
        np.testing.assert_allclose(in_mode(mode, run, (x, y)).asnumpy(), values, rtol=1e-12)


# -- recompute -------------------------------------------------------------------------------------

@recompute
def deep(x, w):
    for _ in range(3):
        x = ops.tanh(x * w) + ops.sin(x)
    return x, (x * w).sum()


def shallow(x, w):
    return deep.fn(x, w)


@same_everywhere((f32(3), f32(3, seed=1)))
def test_recompute_changes_no_gradient(x, w):
    def f(function):
        def value(u, v):
            a, b = function(u, v)
            return (function(a, v)[0] * b).sum()
        return value

    def orders(function):
        first = grad(function, (0, 1))
        second = grad(lambda u, v: first(u, v)[0].sum() * first(u, v)[1].sum())
        return first(x, w), second(x, w), grad(lambda u: second(u, w).sum())(x)

    return orders(f(deep)), orders(f(shallow))


class Block(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(p=0.4)

    def construct(self, x):
        return self.drop(self.norm(ops.tanh(self.dense(x)))) + x


class Trained(nn.Cell):
    def __init__(self, again):
        super().__init__()
        self.blocks = nn.SequentialCell([Block().recompute(again) for _ in range(3)])
        self.blocks.set_train()
        self.weights = cellc.ParameterTuple(self.trainable_params())

    def construct(self, x):
        loss, gradients = value_and_grad(
            lambda v: (self.blocks(v) ** 2).mean(), None, self.weights)(x)
        for w, g in zip(self.weights, gradients):
            ops.assign(w, w - 0.1 * g)
        return loss


@pytest.mark.parametrize("mode", [context.PYNATIVE_MODE, context.GRAPH_MODE])
def test_training_with_random_numbers_and_running_averages(mode):
    """What is computed again sees the same random numbers, and moves no running average twice."""
    def run(again):
        cellc.set_seed(1)
        net = Trained(again)
        losses = [in_mode(mode, net, (f32(8, 4),)) for _ in range(3)]
        return losses, [p.asnumpy() for p in net.get_parameters()]

    (losses, plain), (again, recomputed) = run(False), run(True)
    assert_same(again, losses)
    for a, b in zip(plain, recomputed):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@same_everywhere((f32(4),))
def test_rules_under_vmap_and_vmap_under_rules(x):
    rules = (doubled_exp, lambda v: seven(v, v), recompute(lambda v: ops.tanh(v) * v))
    return [(cellc.vmap(grad(f))(x), grad(lambda v, f=f: cellc.vmap(f)(v).sum())(x),
             cellc.vmap(grad(grad(f)))(x)) for f in rules]


@same_everywhere((f32(3), 4))
def test_rules_in_loops(x, n):
    def f(v):
        k = n
        while k > 0:
            v = seven(doubled_exp(v * 0.1), again(v))
            k = k - 1
        return v.sum()

    again = recompute(lambda v: ops.tanh(v * 1.5))
    return grad(f)(x), grad(lambda v: grad(f)(v).sum())(x)


# -- refusals --------------------------------------------------------------------------------------

class Wrong(nn.Cell):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def construct(self, x, y):
        return (x * y).sum()

    def bprop(self, x, y, out, dout):
        if self.how == "count":
            return (x,)
        if self.how == "shape":
            return y, x
        if self.how == "dtype":
            return ops.cast(x, cellc.float16), None
        if self.how == "none":
            return None
        if self.how == "number":
            return 1.0, y
        return x, "a"


BPROP_LINE = Wrong.bprop.__code__.co_firstlineno


@pytest.mark.parametrize("mode", [context.PYNATIVE_MODE, context.GRAPH_MODE])
@pytest.mark.parametrize("how, message", [
    ("count", "returns 1 gradient, expected 2, by x, y"),
    ("shape", r"gives f32\[2,3\] for the gradient by x, expected f32\[3\]"),
    ("dtype", r"gives f16\[3\] for the gradient by x, expected f32\[3\]"),
    ("none", "returns None, expected a tuple of 2 gradients, by x, y"),
    ("number", r"gives f64 for the gradient by x, expected f32\[3\]"),
    ("string", r"gives 'a' for the gradient by y, expected f32\[2,3\]"),
])
def test_what_a_bprop_may_not_give(mode, how, message):
    with pytest.raises(TypeFault, match=f"bprop of Wrong {message}") as caught:
        in_mode(mode, grad(Wrong(how), (0, 1)), (f32(3), f32(2, 3)))
    assert (caught.value.loc.line, caught.value.loc.col) == (BPROP_LINE, 5)
    assert "def bprop(self, x, y, out, dout)" in str(caught.value)


class Weighted(nn.Cell):
    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor(np.float32([3, 4, 5])), name="w")

    def construct(self, x):
        return (x * self.w).sum()

    def bprop(self, x, out, dout):
        return dout * self.w * 2.0


@pytest.mark.parametrize("mode", [context.PYNATIVE_MODE, context.GRAPH_MODE])
def test_weights_have_no_rule(mode):
    net = Weighted()
    assert in_mode(mode, grad(net), (f32(3),)).asnumpy().tolist() == [6, 8, 10]
    with pytest.raises(TypeFault, match=r"gives no gradient by w \(f32\[3\]\)") as caught:
        in_mode(mode, grad(net, None, net.trainable_params()), (f32(3),))
    assert caught.value.loc.line > Weighted.construct.__code__.co_firstlineno


@pytest.mark.parametrize("mode", [context.PYNATIVE_MODE, context.GRAPH_MODE])
def test_what_a_custom_vjp_may_not_be(mode):
    empty = custom_vjp(lambda x: x * 1.0)
    with pytest.raises(ValueFault, match="without a rule"):
        in_mode(mode, grad(lambda x: empty(x).sum()), (f32(3),))
    bare = custom_vjp(lambda x: x * 1.0)
    bare.defvjp(lambda x: x, lambda kept, g: (g,))
    with pytest.raises(TypeFault, match="returns no pair"):
        in_mode(mode, grad(lambda x: bare(x).sum()), (f32(3),))
    with pytest.raises(TypeFault, match="expected a function"):
        custom_vjp(3)


def test_fwd_gives_what_the_function_gives():
    other = custom_vjp(lambda x: x * 1.0)
    other.defvjp(lambda x: (x.sum(), x), lambda kept, g: (g,))
    with pytest.raises(TypeFault, match=r"fwd of .* gives f32\[\], and .* itself f32\[3\]"):
        in_mode(context.GRAPH_MODE, grad(lambda x: other(x).sum()), (f32(3),))


def test_a_rule_has_no_effects():
    class Counting(nn.Cell):
        def __init__(self):
            super().__init__()
            self.n = Parameter(Tensor(np.float32(0)), name="n", requires_grad=False)

        def construct(self, x):
            return x * 2.0

        def bprop(self, x, out, dout):
            ops.assign(self.n, self.n + 1)
            return dout

    net = Counting()
    with pytest.raises(TypeFault, match="bprop of Counting assigns a Parameter or prints"):
        in_mode(context.GRAPH_MODE, grad(lambda x: net(x).sum()), (f32(3),))
