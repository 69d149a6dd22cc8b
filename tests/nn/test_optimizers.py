"""Optimisers against their formulas; rates, groups, decay; what is refused. Initialisers."""

import math

import numpy as np
import pytest

import cellc
from cellc import Parameter, Tensor, nn
from cellc.errors import ShapeFault, TypeFault, ValueFault
from cellc.nn import initializer as init

DRAW = np.random.default_rng(0)
START = DRAW.normal(size=(2, 3))
GRADIENTS = [DRAW.normal(size=(2, 3)) for _ in range(4)]


def run(make, name="w"):
    """The parameter after all gradients, in f64."""
    p = Parameter(Tensor(START), name=name)
    optimizer = make([p])
    for g in GRADIENTS:
        optimizer((Tensor(g),))
    assert optimizer.global_step.item() == len(GRADIENTS)
    return p.asnumpy()


def sgd(lr=0.1, momentum=0.0, dampening=0.0, nesterov=False, decay=0.0):
    p, v = START.copy(), None
    for g in GRADIENTS:
        g = g + decay * p
        v = g if v is None else momentum * v + (1 - dampening) * g
        p = p - lr * (g + momentum * v if nesterov else v if momentum else g)
    return p


def adam(lr=0.1, b1=0.9, b2=0.999, eps=1e-8, decay=0.0, decoupled=0.0, amsgrad=False, hat=True):
    p, m, v, top = START.copy(), 0.0, 0.0, 0.0
    for t, g in enumerate(GRADIENTS, 1):
        g = g + decay * p
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        top = np.maximum(top, v) if amsgrad else v
        c1, c2 = (1 - b1 ** t, 1 - b2 ** t) if hat else (1, 1)
        if decoupled:
            p = p - lr * (m / c1 / (np.sqrt(v / c2) + eps) + decoupled * p)
        else:
            p = p - lr * math.sqrt(c2) / c1 * m / (np.sqrt(top) + eps)
    return p


def rmsprop(lr=0.1, decay=0.9, momentum=0.0, eps=1e-10, centered=False):
    p, s, v, mean = START.copy(), 1.0, 0.0, 0.0
    for g in GRADIENTS:
        s, mean = decay * s + (1 - decay) * g * g, decay * mean + (1 - decay) * g
        v = momentum * v + lr * g / np.sqrt(s + eps - (mean ** 2 if centered else 0))
        p = p - v
    return p


@pytest.mark.parametrize("make, expected", [
    (lambda p: nn.SGD(p, 0.1), sgd()),
    (lambda p: nn.SGD(p, 0.1, momentum=0.9, weight_decay=0.1), sgd(momentum=0.9, decay=0.1)),
    (lambda p: nn.SGD(p, 0.1, momentum=0.9, dampening=0.3), sgd(momentum=0.9, dampening=0.3)),
    (lambda p: nn.SGD(p, 0.1, momentum=0.9, nesterov=True), sgd(momentum=0.9, nesterov=True)),
    (lambda p: nn.Momentum(p, 0.1, 0.9), sgd(momentum=0.9)),
    (lambda p: nn.Momentum(p, 0.1, 0.9, use_nesterov=True), sgd(momentum=0.9, nesterov=True)),
    (lambda p: nn.Adam(p, 0.1), adam()),
    (lambda p: nn.Adam(p, 0.1, weight_decay=0.2), adam(decay=0.2)),
    (lambda p: nn.Adam(p, 0.1, use_amsgrad=True), adam(amsgrad=True)),
    (lambda p: nn.AdamW(p, 0.1, weight_decay=0.2), adam(decoupled=0.2)),
    (lambda p: nn.AdamWeightDecay(p, 0.1, weight_decay=0.2),
     adam(decoupled=0.2, hat=False, eps=1e-6)),
    (lambda p: nn.RMSProp(p, 0.1), rmsprop()),
    (lambda p: nn.RMSProp(p, 0.1, momentum=0.5, centered=True),
     rmsprop(momentum=0.5, centered=True)),
])
def test_formula(make, expected):
    # the rate is kept in f32: 0.1 is 1e-8 off
    np.testing.assert_allclose(run(make), expected, rtol=1e-6, atol=1e-7)


def test_the_loss_scale_is_divided_out():
    p = Parameter(Tensor(START), name="w")
    optimizer = nn.SGD([p], 0.1, loss_scale=8.0)
    optimizer((Tensor(GRADIENTS[0] * 8),))
    np.testing.assert_allclose(p.asnumpy(), START - 0.1 * GRADIENTS[0], rtol=1e-6)


def test_decay_spares_norms_unless_grouped():
    plain = sgd()
    decayed = sgd(decay=0.1)
    np.testing.assert_allclose(run(lambda p: nn.SGD(p, 0.1, weight_decay=0.1), "bn.gamma"), plain,
                               rtol=1e-6)
    grouped = run(lambda p: nn.SGD([{"params": p, "weight_decay": 0.1}], 0.1), "bn.gamma")
    np.testing.assert_allclose(grouped, decayed, rtol=1e-6)


def test_groups_have_their_own_rates():
    a, b = Parameter(Tensor([1.0]), name="a"), Parameter(Tensor([1.0]), name="b")
    optimizer = nn.SGD([{"params": [a], "lr": 0.5}, {"params": [b]}, {"order_params": [b, a]}], 0.1)
    optimizer((Tensor([1.0]), Tensor([1.0])))
    assert a.item() == 0.5 and b.item() == pytest.approx(0.9)
    assert [p.name for p in optimizer.parameters] == ["a", "b"]


def test_state_is_named_after_the_parameters():
    net = nn.SequentialCell(nn.Dense(2, 2))
    names = list(nn.Adam(net.trainable_params()).parameters_dict())
    assert "moment1.0.weight" in names and "moment2.0.bias" in names and "global_step" in names
    assert list(nn.Momentum(net.trainable_params(), 0.1, 0.9).parameters_dict())[-1] == (
        "moments.0.bias")
    assert not [p for p in nn.Adam(net.trainable_params()).trainable_params()
                if p.name.startswith("moment")]


@pytest.mark.parametrize("schedule, rates", [
    ([0.4, 0.2, 0.1], [0.4, 0.2, 0.1, 0.1]),
    (Tensor([0.4, 0.2]), [0.4, 0.2, 0.2, 0.2]),
    (nn.ExponentialDecayLR(0.4, 0.5, 2), [0.4 * 0.5 ** (i / 2) for i in range(4)]),
    (nn.ExponentialDecayLR(0.4, 0.5, 2, True), [0.4, 0.4, 0.2, 0.2]),
    (nn.NaturalExpDecayLR(0.4, 0.5, 2), [0.4 * math.exp(-0.5 * i) for i in range(4)]),
    (nn.InverseDecayLR(0.4, 0.5, 2), [0.4 / (1 + 0.5 * i / 2) for i in range(4)]),
    (nn.CosineDecayLR(0.1, 0.5, 2), [0.5, 0.3, 0.1, 0.1]),
    (nn.PolynomialDecayLR(0.5, 0.1, 2, 2.0), [0.5, 0.2, 0.1, 0.1]),
    (nn.PolynomialDecayLR(0.5, 0.1, 2, 1.0, True), [0.5, 0.3, 0.1, 0.2]),
    (nn.WarmUpLR(0.4, 2), [0.0, 0.2, 0.4, 0.4]),
])
def test_schedules(schedule, rates):
    p = Parameter(Tensor(0.0), name="w")
    optimizer = nn.SGD([p], schedule)
    for rate in rates:
        before = p.item()
        optimizer((Tensor(1.0),))
        assert before - p.item() == pytest.approx(rate, rel=1e-5, abs=1e-7)


def test_lists_of_rates():
    assert nn.piecewise_constant_lr([2, 4], [0.1, 0.05]) == [0.1, 0.1, 0.05, 0.05]
    assert nn.warmup_lr(0.4, 4, 1, 2) == [0.0, 0.2, 0.4, 0.4]
    assert nn.exponential_decay_lr(0.4, 0.5, 4, 2, 1) == [0.4, 0.4, 0.2, 0.2]
    assert nn.cosine_decay_lr(0.0, 1.0, 3, 1, 2) == pytest.approx([1.0, 0.5, 0.0])
    assert nn.polynomial_decay_lr(0.5, 0.1, 3, 1, 2, 1.0) == pytest.approx([0.5, 0.3, 0.1])


W = Parameter(Tensor([1.0]), name="w")


@pytest.mark.parametrize("make, fault, message", [
    (lambda: nn.SGD([], 0.1), ValueFault, "no parameters"),
    (lambda: nn.SGD([W, W], 0.1), ValueFault, "given to the optimizer twice"),
    (lambda: nn.SGD([Tensor([1.0])], 0.1), TypeFault, "found Tensor among"),
    (lambda: nn.SGD([W], -0.1), ValueFault, "learning_rate is -0.1"),
    (lambda: nn.SGD([W], "fast"), TypeFault, "learning_rate is 'fast'"),
    (lambda: nn.SGD([W], [[0.1]]), ShapeFault, r"shape \[1, 1\]"),
    (lambda: nn.SGD([W], nn.ReLU()), TypeFault, "found ReLU for learning_rate"),
    (lambda: nn.SGD([W], 0.1, nesterov=True), ValueFault, "nesterov needs"),
    (lambda: nn.SGD([{"params": [W], "rate": 1}], 0.1), ValueFault, "unknown key rate"),
    (lambda: nn.Adam([W], beta1=1.0), ValueFault, "beta1 is 1.0"),
    (lambda: nn.Adam([W], eps=0), ValueFault, "eps is 0"),
    (lambda: nn.Adam([W], weight_decay=-1), ValueFault, "weight_decay is -1"),
    (lambda: nn.Momentum([W], 0.1, -1), ValueFault, "momentum is -1"),
    (lambda: nn.SGD([W], 0.1)((Tensor([1.0]), Tensor([1.0]))), ShapeFault, "2 gradients for 1"),
    (lambda: nn.CosineDecayLR(0.5, 0.1, 3), ValueFault, "min_lr is 0.5"),
    (lambda: nn.WarmUpLR(0.1, 0), ValueFault, "warmup_steps is 0"),
])
def test_what_is_refused(make, fault, message):
    with pytest.raises(fault, match=message):
        make()


# -- initialisers ---------------------------------------------------------------------------------

SHAPE = (64, 32, 3, 3)
FAN_IN, FAN_OUT = 32 * 9, 64 * 9


@pytest.mark.parametrize("made, deviation, bound", [
    (init.Normal(0.5), 0.5, None), (init.Uniform(0.3), 0.3 / math.sqrt(3), 0.3),
    (init.TruncatedNormal(0.5), 0.44, 1.0),
    (init.XavierUniform(), math.sqrt(2 / (FAN_IN + FAN_OUT)), math.sqrt(6 / (FAN_IN + FAN_OUT))),
    (init.XavierNormal(2.0), 2 * math.sqrt(2 / (FAN_IN + FAN_OUT)), None),
    (init.HeUniform(), math.sqrt(2 / FAN_IN), math.sqrt(6 / FAN_IN)),
    (init.HeNormal(mode="fan_out", nonlinearity="relu"), math.sqrt(2 / FAN_OUT), None),
])
def test_distributions(made, deviation, bound):
    cellc.set_seed(3)
    values = init.initializer(made, SHAPE).asnumpy()
    assert values.dtype == np.float32 and values.shape == SHAPE
    assert values.std() == pytest.approx(deviation, rel=0.03)
    assert abs(values.mean()) < 4 * deviation / math.sqrt(values.size)
    if bound:
        assert np.abs(values).max() <= bound * (1 + 1e-6)
    cellc.set_seed(3)
    np.testing.assert_array_equal(init.initializer(made, SHAPE).asnumpy(), values)


def test_fixed_initialisers():
    assert init.initializer("ones", (2,), "int32").tolist() == [1, 1]
    assert init.initializer(3, (2,)).tolist() == [3, 3]
    assert init.initializer("identity", (2, 2)).tolist() == [[1, 0], [0, 1]]
    q = init.initializer(init.Orthogonal(), (4, 6), "float64").asnumpy()
    np.testing.assert_allclose(q @ q.T, np.eye(4), atol=1e-12)
    given = Tensor([1.0, 2.0])
    assert init.initializer(given, (2,)).tolist() == [1, 2]
    with pytest.raises(ShapeFault, match=r"of shape \[2\] for shape \[3\]"):
        init.initializer(given, (3,))
    with pytest.raises(ShapeFault, match="no fan-in"):
        init.initializer("he_normal", (3,))
    with pytest.raises(TypeFault, match="found list"):
        init.initializer([1.0], (1,))


def test_seeds():
    for bad, fault in ((1.5, TypeFault), (True, TypeFault), (-1, ValueFault), (2**64, ValueFault)):
        with pytest.raises(fault, match="found seed"):
            cellc.set_seed(bad)
