"""Elementwise functions and activations against NumPy and SciPy; gradients against differences."""

import numpy as np
import pytest
import scipy.special as special

from cellc import Tensor, jit, ops
from cellc.errors import ShapeFault, TypeFault, ValueFault
from tests.differences import check_gradient


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def gelu(x):
    return x * 0.5 * (1 + special.erf(x / np.sqrt(2)))


# name, NumPy's meaning, low, high (away from kinks and poles for the gradient)
FUNCTIONS = [
    ("abs", np.abs, -3, 3), ("square", np.square, -3, 3), ("sqrt", np.sqrt, 0.1, 4),
    ("rsqrt", lambda x: 1 / np.sqrt(x), 0.1, 4), ("exp", np.exp, -3, 3), ("expm1", np.expm1, -2, 2),
    ("exp2", np.exp2, -3, 3), ("log", np.log, 0.1, 5), ("log1p", np.log1p, -0.5, 5),
    ("log2", np.log2, 0.1, 5), ("log10", np.log10, 0.1, 5), ("sin", np.sin, -3, 3),
    ("cos", np.cos, -3, 3), ("tan", np.tan, -1, 1), ("asin", np.arcsin, -0.9, 0.9),
    ("acos", np.arccos, -0.9, 0.9), ("atan", np.arctan, -3, 3), ("sinh", np.sinh, -2, 2),
    ("cosh", np.cosh, -2, 2), ("tanh", np.tanh, -3, 3), ("asinh", np.arcsinh, -3, 3),
    ("acosh", np.arccosh, 1.1, 4), ("atanh", np.arctanh, -0.9, 0.9), ("erf", special.erf, -3, 3),
    ("erfc", special.erfc, -3, 3), ("erfinv", special.erfinv, -0.95, 0.95),
    ("lgamma", special.gammaln, 0.3, 6),
    ("digamma", special.digamma, 0.3, 6), ("sigmoid", special.expit, -6, 6),
    ("reciprocal", lambda x: 1 / x, 0.3, 3), ("relu", lambda x: np.maximum(x, 0), -3, 3),
    ("relu6", lambda x: np.clip(x, 0, 6), -3, 8), ("leaky_relu", leaky, -3, 3),
    ("elu", lambda x: np.where(x > 0, x, np.expm1(x)), -3, 3),
    ("selu", lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
     -3, 3),
    ("celu", lambda x: np.where(x > 0, x, np.expm1(x)), -3, 3), ("gelu", gelu, -3, 3),
    ("silu", lambda x: x * special.expit(x), -3, 3),
    ("softplus", lambda x: np.log1p(np.exp(x)), -6, 6),
    ("logsigmoid", special.log_expit, -6, 6),
    ("mish", lambda x: x * np.tanh(np.log1p(np.exp(x))), -4, 4),
    ("hsigmoid", lambda x: np.clip(x + 3, 0, 6) / 6, -2.9, 2.9),
    ("hswish", lambda x: x * np.clip(x + 3, 0, 6) / 6, -2.9, 2.9),
    ("hardtanh", lambda x: np.clip(x, -1, 1), -3, 3),
    ("softsign", lambda x: x / (1 + abs(x)), -3, 3),
    ("tanhshrink", lambda x: x - np.tanh(x), -3, 3),
    ("hardshrink", lambda x: np.where(abs(x) > 0.5, x, 0), -3, 3),
    ("softshrink", lambda x: np.sign(x) * np.maximum(abs(x) - 0.5, 0), -3, 3),
]


def values(low, high, shape=(3, 7), seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape)


@pytest.mark.parametrize("name, meaning, low, high", FUNCTIONS, ids=[f[0] for f in FUNCTIONS])
def test_function(name, meaning, low, high):
    x = values(low, high)
    y = getattr(ops, name)(Tensor(x))
    assert y.dtype.name == "f64" and y.shape == x.shape
    np.testing.assert_allclose(y.asnumpy(), meaning(x), rtol=1e-12, atol=1e-12)
    y32 = getattr(ops, name)(Tensor(x, "float32"))
    assert y32.dtype.name == "f32"
    np.testing.assert_allclose(y32.asnumpy(), meaning(x.astype(np.float32)), rtol=2e-5, atol=1e-5)
    check_gradient(getattr(ops, name), x)


@pytest.mark.parametrize("name, meaning, low, high", FUNCTIONS, ids=[f[0] for f in FUNCTIONS])
def test_function_of_a_number(name, meaning, low, high):
    x = float(values(low, high, ()))
    y = getattr(ops, name)(x)
    assert type(y) is float
    assert y == pytest.approx(float(meaning(np.float64(x))), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", ["tanh", "exp", "sigmoid", "gelu", "softplus"])
def test_extremes_do_not_overflow(name):
    x = np.array([-1e4, -100.0, 0.0, 100.0], np.float32)
    y = getattr(ops, name)(Tensor(x)).asnumpy()
    assert not np.isnan(y).any()


def test_integers_are_refused_where_only_floats_make_sense():
    with pytest.raises(TypeFault, match="tanh: found i64"):
        ops.tanh(Tensor([1, 2]))
    assert ops.tanh(1) == pytest.approx(np.tanh(1))


def test_half_precision_stays_half():
    for name in ("float16", "bfloat16"):
        y = ops.sigmoid(Tensor([0.5, -1.0], name))
        assert y.dtype.long_name == name
        np.testing.assert_allclose(y.asnumpy().astype(np.float32), [0.6225, 0.2689], atol=4e-3)


def test_clip_where_and_masks():
    x = Tensor([-2.0, 0.5, 3.0])
    np.testing.assert_array_equal(ops.clip(x, -1, 1).asnumpy(), [-1, 0.5, 1])
    np.testing.assert_array_equal(ops.clip(x, None, 1.0).asnumpy(), [-2, 0.5, 1])
    np.testing.assert_array_equal(ops.clip(Tensor([1, 5]), 2.0, 4).asnumpy(), [2, 4])
    np.testing.assert_array_equal(ops.where(x > 0, x, 0.0).asnumpy(), [0, 0.5, 3])
    np.testing.assert_array_equal(ops.masked_fill(x, x > 0, -1).asnumpy(), [-2, -1, -1])
    check_gradient(lambda v: ops.masked_fill(v, Tensor([True, False, True]), 7.0), [1.0, 2, 3])


def test_questions():
    x = Tensor(np.array([1.0, np.nan, np.inf, -np.inf], np.float32))
    np.testing.assert_array_equal(ops.isnan(x).asnumpy(), [False, True, False, False])
    np.testing.assert_array_equal(ops.isinf(x).asnumpy(), [False, False, True, True])
    np.testing.assert_array_equal(ops.isfinite(x).asnumpy(), [True, False, False, False])
    np.testing.assert_array_equal(ops.logical_and(x, Tensor([0, 1, 1, 0])).asnumpy(),
                                  [False, True, True, False])
    assert bool(ops.isclose(Tensor([1.0]), Tensor([1.0 + 1e-7])).item())


def test_remainders_and_rounding():
    x, y = np.array([-7, 7, -7, 7.5]), np.array([3, -3, -3, 2])
    np.testing.assert_array_equal(ops.mod(Tensor(x), Tensor(y)).asnumpy(), np.mod(x, y))
    np.testing.assert_array_equal(ops.fmod(Tensor(x), Tensor(y)).asnumpy(), np.fmod(x, y))
    np.testing.assert_array_equal(ops.floordiv(Tensor([-7, 7]), 2).asnumpy(), [-4, 3])
    np.testing.assert_array_equal(ops.round(Tensor([0.5, 1.5, -0.5])).asnumpy(), [0, 2, 0])
    np.testing.assert_allclose(ops.round(Tensor([1.256]), decimals=2).asnumpy(), [1.26], rtol=1e-6)
    assert ops.floor(Tensor([3])).dtype.name == "i64"


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_division_by_known_numbers(dtype):
    """Powers of two become shifts, other positive numbers products; as Python's // and %."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    draw = np.random.default_rng(1)
    x = np.concatenate([draw.integers(low, high, 300, dtype, endpoint=True),
                        np.arange(-40, 40).astype(dtype), np.array([low, low + 1, high], dtype)])
    known = [1, 2, 3, 7, 8, 10, 64, 100, -1, -3, -8, low, high, high // 2 + 1,
             *(int(n) for n in draw.integers(1, high, 4))]
    for n in known:
        quotient, rest = jit(lambda x, n=n: (x // n, x % n))(Tensor(x))
        exact = [divmod(int(v), n) for v in x]
        wrapped = [low if q > high else q for q, _ in exact]     # the lowest // -1
        np.testing.assert_array_equal(quotient.asnumpy(), wrapped, str(n))
        np.testing.assert_array_equal(rest.asnumpy(), [r for _, r in exact], str(n))
    numbers = jit(lambda x: (x // 8, x % 8, x // 7, x % 7))
    for v in (low, -9, -8, -7, -1, 0, 7, 8, high):
        assert numbers(int(v)) == (v // 8, v % 8, v // 7, v % 7)


@pytest.mark.parametrize("dtype, ulp", [(np.float16, 1.3), (np.float32, 3.2), (np.float64, 3.2)])
@pytest.mark.parametrize("n", [-4, -3, -2, -1, -0.5, 0.5, 2, 3, 4, 4.0, 5, 6, 7, 2.5])
def test_known_powers(dtype, ulp, n):
    x = values(0.02, 9, (500,)).astype(dtype)
    x = np.concatenate([x, -x]) if n == int(n) else x
    with np.errstate(over="ignore"):
        exact = np.power(x.astype(np.longdouble), n)
        near = exact.astype(dtype)
    use = np.isfinite(near) & (abs(near) > np.finfo(dtype).tiny)
    for found in (jit(lambda x: x ** n)(Tensor(x)), Tensor(x) ** n):
        error = abs(found.asnumpy() - exact)[use] / np.spacing(abs(near[use]))
        assert found.asnumpy().dtype == dtype and error.max() <= ulp
    check_gradient(lambda v: v ** n, values(0.3, 2, (5,)))


def test_known_powers_at_the_edges():
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, 1e-30, -1e-20], np.float32)
    with np.errstate(all="ignore"):
        for n in (-3, -2, -1, 2, 3, 4, 5, 6):
            np.testing.assert_allclose((Tensor(x) ** n).asnumpy(), x ** n, 1e-6, err_msg=str(n))


def test_two_operands_broadcast_and_meet():
    x, y = values(0.5, 2, (3, 1)), values(0.5, 2, (4,), seed=1)
    for name, meaning in (("atan2", np.arctan2), ("logaddexp", np.logaddexp), ("pow", np.power),
                          ("maximum", np.maximum), ("div", np.divide)):
        np.testing.assert_allclose(getattr(ops, name)(Tensor(x), Tensor(y)).asnumpy(),
                                   meaning(x, y), rtol=1e-12)
        check_gradient(getattr(ops, name), x, y)
    check_gradient(ops.lerp, x, y, y)
    with pytest.raises(ShapeFault, match="do not broadcast"):
        ops.add(Tensor(np.ones(2)), Tensor(np.ones(3)))


def test_prelu_takes_one_weight_or_one_a_channel():
    x = values(-2, 2, (2, 3, 4))
    for w in ([0.1], [0.1, 0.2, 0.3]):
        expected = np.where(x > 0, x, x * np.array(w).reshape(1, -1, 1))
        np.testing.assert_allclose(ops.prelu(Tensor(x), Tensor(np.array(w))).asnumpy(), expected)
        check_gradient(ops.prelu, x, w)
    with pytest.raises(ShapeFault, match="one number or one for each"):
        ops.prelu(Tensor(x), Tensor([0.1, 0.2]))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_family(axis):
    x = values(-3, 3, (3, 4, 5))
    np.testing.assert_allclose(ops.softmax(Tensor(x), axis).asnumpy(), special.softmax(x, axis))
    np.testing.assert_allclose(ops.log_softmax(Tensor(x), axis).asnumpy(),
                               special.log_softmax(x, axis), atol=1e-14)
    np.testing.assert_allclose(ops.softmin(Tensor(x), axis).asnumpy(), special.softmax(-x, axis))
    check_gradient(lambda v: ops.softmax(v, axis), x)
    check_gradient(lambda v: ops.log_softmax(v, axis), x)


def test_softmax_of_huge_values_and_a_bad_axis():
    np.testing.assert_allclose(ops.softmax(Tensor([1e4, 1e4 - 1])).asnumpy(),
                               special.softmax([1.0, 0.0]), rtol=1e-5)
    with pytest.raises(ShapeFault, match="axis 2 of a 1-d tensor"):
        ops.softmax(Tensor([1.0, 2.0]), 2)


def test_wrong_approximation():
    with pytest.raises(ValueFault, match="approximate 'sigmoid'"):
        ops.gelu(Tensor([1.0]), "sigmoid")
    x = values(-3, 3)
    assert np.abs(ops.gelu(Tensor(x), "tanh").asnumpy() - gelu(x)).max() < 1e-3
