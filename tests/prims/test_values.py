"""The meaning of primitives against plain Python: math functions, loops over indices, vectors."""

import itertools
import math

import numpy as np
import pytest

from cellc.errors import IndexFault
from cellc.ir import numerics as num
from cellc.ir.graph import PRIMITIVES
from cellc.ir.prims.random import philox, philox_element
from cellc.ir.types import bf16, f16, f32, f64
from tests.prims.cases import as_dtype, samples
from tests.prims.scalar_numpy import NumpyOps


def logistic(x):
    return 1 / (1 + math.exp(-x))


PYTHON = {
    "neg": lambda x: -x, "abs": abs, "sign": lambda x: (x > 0) - (x < 0), "floor": math.floor,
    "ceil": math.ceil, "round": round, "trunc": math.trunc, "sqrt": math.sqrt,
    "rsqrt": lambda x: 1 / math.sqrt(x), "exp": math.exp, "expm1": math.expm1, "log": math.log,
    "log1p": math.log1p, "sin": math.sin, "cos": math.cos, "tan": math.tan, "asin": math.asin,
    "acos": math.acos, "atan": math.atan, "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh,
    "asinh": math.asinh, "acosh": math.acosh, "atanh": math.atanh, "logistic": logistic,
    "erf": math.erf, "erfc": math.erfc, "lgamma": math.lgamma, "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y, "mul": lambda x, y: x * y, "div": lambda x, y: x / y,
    "floordiv": lambda x, y: x // y, "mod": lambda x, y: x % y, "min": min, "max": max, "pow": pow,
    "atan2": math.atan2, "eq": lambda x, y: x == y, "ne": lambda x, y: x != y,
    "lt": lambda x, y: x < y, "le": lambda x, y: x <= y, "gt": lambda x, y: x > y,
    "ge": lambda x, y: x >= y, "is_finite": math.isfinite, "stop_gradient": lambda x: x,
    "select": lambda c, x, y: x if c else y,
}


def cases_of(*names):
    return [pytest.param(name, operands, attrs, id=f"{name}-{i}")
            for name, i, operands, attrs in samples() if name in names]


@pytest.mark.parametrize("name, operands, attrs", cases_of(*PYTHON))
def test_elementwise_against_python(name, operands, attrs):
    expected = [PYTHON[name](*(x.item() for x in point))
                for point in zip(*(x.reshape(-1) for x in operands), strict=True)]
    found = PRIMITIVES[name].eval(*operands)
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-14, atol=1e-15)


def test_gamma_functions_far_and_wide():
    from scipy import special

    x = np.array([-7.5, -2.5, 1e-8, 0.3, 1.4616, 2.0, 30.0, 1e5])
    for name, reference in (("lgamma", special.gammaln), ("digamma", special.digamma)):
        np.testing.assert_allclose(PRIMITIVES[name].eval(x), reference(x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["digamma", "polygamma"])
def test_polygammas_against_scipy(name):
    from scipy import special

    for operands, attrs in PRIMITIVES[name].samples():
        found = PRIMITIVES[name].eval(*operands, **attrs)
        x, n = operands[0], attrs.get("n", 0)
        expected = special.polygamma(n, x) if n else special.digamma(x)
        known = np.isfinite(expected) | (x > 0)       # SciPy knows no reflection for n > 0
        np.testing.assert_allclose(np.where(known, found, 0), np.where(known, expected, 0),
                                   rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_polygamma_below_zero_by_its_recurrence(n):
    """psi_n(x + 1) = psi_n(x) + (-1)^n n! / x^(n+1), from where SciPy knows it."""
    from scipy import special

    x = np.array([-0.3, -1.5, -7.25, -0.999])
    steps = sum((-1) ** n * math.factorial(n) / (x + k) ** (n + 1) for k in range(9))
    expected = special.polygamma(n, x + 9) - steps
    np.testing.assert_allclose(PRIMITIVES["polygamma"].eval(x, n=n), expected, rtol=1e-9)


@pytest.mark.parametrize("name, operands, attrs", cases_of(*PYTHON))
@pytest.mark.parametrize("dtype", [f16, bf16, f32], ids=str)
def test_narrow_floats_round_once(name, operands, attrs, dtype):
    """From exact operands, the result is the f64 result but for one rounding (and f32's own)."""
    narrow = as_dtype(name, operands, dtype)
    wide = [num.to_compute(x).astype(np.float64) if x.dtype.kind in "fV" else x for x in narrow]
    found = num.to_compute(PRIMITIVES[name].eval(*narrow))
    expected = PRIMITIVES[name].eval(*wide)
    if name in ("floordiv", "mod"):
        return      # they jump: the f32 quotient may lie on the other side
    limit = {f16: 2.0**-10, bf16: 2.0**-7, f32: 1e-6}[dtype]
    np.testing.assert_allclose(found, expected, rtol=limit, atol=1e-6)


# -- special values ----------------------------------------------------------------------------

@pytest.mark.parametrize("name, x, expected", [
    ("sign", [-0.0, np.nan, -np.inf], [0.0, np.nan, -1.0]),
    ("round", [0.5, 1.5, 2.5, -0.5], [0.0, 2.0, 2.0, 0.0]),
    ("rsqrt", [0.0, np.inf, -1.0], [np.inf, 0.0, np.nan]),
    ("logistic", [-800.0, 800.0, np.nan], [0.0, 1.0, np.nan]),
    ("lgamma", [0.0, -1.0, np.inf, -np.inf], [np.inf] * 4),
    ("digamma", [0.0, -2.0, np.inf], [-np.inf, np.nan, np.inf]),
    ("log", [0.0, -1.0], [-np.inf, np.nan]),
    ("is_finite", [0.0, np.inf, np.nan], [True, False, False]),
])
def test_special_values(name, x, expected):
    np.testing.assert_array_equal(PRIMITIVES[name].eval(np.array(x)), expected)


def test_min_and_max_pass_nan_on():
    x, y = np.array([np.nan, 1.0, 2.0]), np.array([1.0, np.nan, 1.0])
    for name, last in (("min", 1.0), ("max", 2.0)):
        np.testing.assert_array_equal(PRIMITIVES[name].eval(x, y), [np.nan, np.nan, last])


def test_integer_division_and_power_have_no_undefined_cases():
    x, y = np.array([7, -7, 7, -7, 5, -128], np.int8), np.array([2, 2, -2, -2, 0, -1], np.int8)
    assert PRIMITIVES["floordiv"].eval(x, y).tolist() == [3, -4, -4, 3, 0, -128]
    assert PRIMITIVES["mod"].eval(x, y).tolist() == [1, 1, -1, -1, 0, 0]
    x, y = np.array([2, 1, -1, -1, 0, 3, 2]), np.array([-1, -5, -3, -4, -1, 4, 64])
    assert PRIMITIVES["pow"].eval(x, y).tolist() == [0, 1, -1, 1, 0, 81, 0]


@pytest.mark.parametrize("to, x, expected", [
    ("i8", [3.9, -3.9, 300.0, -300.0, np.nan, np.inf], [3, -3, 127, -128, 0, 127]),
    ("u8", [-1.0, 255.9, 256.0], [0, 255, 255]),
    ("i64", [2.0**63, -(2.0**63), 1e300], [2**63 - 1, -(2**63), 2**63 - 1]),
    ("u64", [2.0**64, 2.0**63, -5.0], [2**64 - 1, 2**63, 0]),
    ("bool", [0.0, -0.0, 0.5, np.nan], [False, False, True, True]),
    ("f16", [65519.0, 65520.0, 1e-9], [65504.0, np.inf, 0.0]),
])
def test_casts_from_float(to, x, expected):
    assert num.cast(np.array(x), num.dtype(to)).tolist() == expected


def test_casts_between_integers_wrap():
    assert num.cast(np.array([300, -1, 2**40]), num.dtype("u8")).tolist() == [44, 255, 0]


def test_bf16_rounds_to_nearest_even_and_once():
    """Against a search of all bf16; f64 beside a tie goes wrong if rounded to f32 first."""
    finite = (np.arange(0x7F80, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)
    ties = (finite[100:-1:61] + finite[101::61][: len(finite[100:-1:61])]) / 2
    x = np.concatenate([ties, ties * (1 + 1e-13), ties * (1 - 1e-13), [0.0, 1e-300, np.inf]])
    found = num.from_compute(x, bf16)["bfloat16"]
    for value, bits in zip(x[:-1], found[:-1], strict=True):
        at = np.searchsorted(finite, value)
        low, high = max(at - 1, 0), min(at, len(finite) - 1)
        nearest = min((abs(finite[i] - value), i % 2, i) for i in (low, high))
        assert bits == nearest[2]
    special = num.to_compute(num.from_compute(np.array([np.nan, -np.inf, np.inf]), bf16))
    np.testing.assert_array_equal(special, [np.nan, -np.inf, np.inf])


def test_every_bf16_and_f16_survives_the_way_to_f32_and_back():
    bits = np.arange(2**16, dtype=np.uint16)
    brain = np.zeros(2**16, bf16.numpy)
    brain["bfloat16"] = bits
    kept = num.from_compute(num.to_compute(brain), bf16)["bfloat16"]
    number = ~np.isnan(num.to_compute(brain))
    assert np.array_equal(kept[number], bits[number])
    half = bits.view(np.float16)
    assert np.array_equal(num.from_compute(num.to_compute(half), f16), half, equal_nan=True)


# -- reductions and contractions ---------------------------------------------------------------

FOLDS = {"reduce_sum": (lambda a, b: a + b, 0.0), "reduce_prod": (lambda a, b: a * b, 1.0),
         "reduce_max": (max, -math.inf), "reduce_min": (min, math.inf),
         "reduce_and": (lambda a, b: a and b, True), "reduce_or": (lambda a, b: a or b, False)}


@pytest.mark.parametrize("name, operands, attrs", cases_of(*FOLDS))
def test_reductions_against_a_loop(name, operands, attrs):
    (x,), axes = operands, attrs["axes"]
    combine, start = FOLDS[name]
    kept = [n for i, n in enumerate(x.shape) if i not in axes]
    expected = np.full(kept, start, x.dtype)
    for at in np.ndindex(*x.shape):
        place = tuple(k for i, k in enumerate(at) if i not in axes)
        expected[place] = combine(expected[place], x[at])
    found = PRIMITIVES[name].eval(x, axes=axes)
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)


def test_sums_are_accurate():
    """0.1 a million times: f32 added up naively is off by a percent."""
    x = np.full((10**6, 1), 0.1, np.float32)
    assert PRIMITIVES["reduce_sum"].eval(x, axes=(0,))[0] == np.float32(
        1e6 * float(np.float32(0.1)))
    half = np.full(4096, 1, np.float16)
    assert PRIMITIVES["reduce_sum"].eval(half, axes=(0,)) == 4096
    assert PRIMITIVES["cumsum"].eval(half, axis=0)[-1] == 4096


@pytest.mark.parametrize("name, best", [("argmax", max), ("argmin", min)])
def test_positions_are_the_first_and_nan_wins(name, best):
    x = np.array([[1.0, 3.0, 3.0, 0.0, 0.0], [2.0, np.nan, 9.0, np.nan, -9.0]])
    found = PRIMITIVES[name].eval(x, axis=1)
    assert found.tolist() == [x[0].tolist().index(best(x[0])), 1]


@pytest.mark.parametrize("name, operands, attrs", cases_of("dot"))
def test_dot_against_a_loop(name, operands, attrs):
    a, b = operands
    (contract_a, contract_b), (batch_a, batch_b) = attrs["contract"], attrs["batch"]
    free_a = [i for i in range(a.ndim) if i not in contract_a + batch_a]
    free_b = [i for i in range(b.ndim) if i not in contract_b + batch_b]
    shape = [a.shape[i] for i in batch_a + tuple(free_a)] + [b.shape[i] for i in free_b]
    expected = np.zeros(shape)
    for at in np.ndindex(*shape):
        lead, left = at[: len(batch_a)], at[len(batch_a):len(batch_a) + len(free_a)]
        right = at[len(batch_a) + len(free_a):]
        for k in itertools.product(*(range(a.shape[i]) for i in contract_a)):
            of_a = dict(zip((*batch_a, *free_a, *contract_a), (*lead, *left, *k), strict=True))
            of_b = dict(zip((*batch_b, *free_b, *contract_b), (*lead, *right, *k), strict=True))
            expected[at] += a[tuple(of_a[i] for i in range(a.ndim))] * b[
                tuple(of_b[i] for i in range(b.ndim))]
    np.testing.assert_allclose(PRIMITIVES["dot"].eval(a, b, **attrs), expected, rtol=1e-13,
                               atol=1e-14)


def test_dot_of_f16_accumulates_in_f32():
    ones = np.ones(4096, np.float16)
    assert PRIMITIVES["dot"].eval(ones, ones, contract=((0,), (0,)), batch=((), ())) == 4096


@pytest.mark.parametrize("name, operands, attrs", cases_of("cumsum"))
def test_cumsum_against_a_loop(name, operands, attrs):
    (x,), axis = operands, attrs["axis"]
    found = np.moveaxis(PRIMITIVES["cumsum"].eval(x, **attrs), axis, 0)
    rows = np.moveaxis(x, axis, 0)
    for i in range(len(rows)):
        part = rows[i:] if attrs["reverse"] else rows[: i + 1]
        np.testing.assert_allclose(found[i], part.sum(0))


# -- shapes: where each element of the result comes from ---------------------------------------

def source_slice(at, x, starts, stops, steps):
    return tuple(start + i * step for i, start, step in zip(at, starts, steps, strict=True))


def source_broadcast(at, x, shape, dims):
    return tuple(0 if n == 1 else at[d] for n, d in zip(x.shape, dims, strict=True))


def source_windows(at, x, sizes, strides, dilations):
    k, lead = len(sizes), x.ndim - len(sizes)
    return at[:lead] + tuple(at[lead + i] * strides[i] + at[lead + k + i] * dilations[i]
                             for i in range(k))


def source_pad(at, x, low, high, value, interior=None):
    """None where the place is padding."""
    gaps = interior or (0,) * x.ndim
    found = [divmod(i - a, gap + 1) for i, a, gap in zip(at, low, gaps, strict=True)]
    inside = all(left == 0 and 0 <= i < n for (i, left), n in zip(found, x.shape, strict=True))
    return tuple(i for i, _ in found) if inside else None


SOURCES = {
    "transpose": lambda at, x, perm: tuple(at[perm.index(i)] for i in range(x.ndim)),
    "flip": lambda at, x, axes: tuple(x.shape[i] - 1 - k if i in axes else k
                                      for i, k in enumerate(at)),
    "slice": source_slice, "broadcast": source_broadcast, "windows": source_windows,
    "pad": source_pad,
}


@pytest.mark.parametrize("name, operands, attrs", cases_of(*SOURCES))
def test_views_against_index_arithmetic(name, operands, attrs):
    (x,) = operands
    found = PRIMITIVES[name].eval(x, **attrs)
    for at in np.ndindex(*found.shape):
        source = SOURCES[name](at, x, **attrs)
        assert found[at] == (attrs["value"] if source is None else x[source])


@pytest.mark.parametrize("name, operands, attrs", cases_of("reshape"))
def test_reshape_keeps_the_order(name, operands, attrs):
    found = PRIMITIVES[name].eval(*operands, **attrs)
    assert list(found.flat) == list(operands[0].flat)


@pytest.mark.parametrize("name, operands, attrs", cases_of("windows_add", "scatter_add"))
def test_adjoints_against_their_forward(name, operands, attrs):
    """<A x, w> == <x, A' w>, with A x computed by the other primitive of the pair."""
    w = operands[-1]
    result = PRIMITIVES[name].eval(*operands, **attrs)
    x = np.random.default_rng(0).normal(size=result.shape)
    if name == "windows_add":
        sizes = w.shape[w.ndim - len(attrs["shape"]):]
        forward = PRIMITIVES["windows"].eval(x, sizes=sizes, strides=attrs["strides"],
                                             dilations=attrs["dilations"])
    else:
        forward = PRIMITIVES["gather"].eval(x, operands[0], axis=attrs["axis"])
    assert np.vdot(forward, w) == pytest.approx(np.vdot(x, result))


def test_gather_takes_the_elements_at_the_indices():
    x = np.arange(24.0).reshape(2, 3, 4)
    index = np.array([[2, 0], [1, 1]])
    found = PRIMITIVES["gather"].eval(x, index, axis=1)
    for i, j, k, m in np.ndindex(2, 2, 2, 4):
        assert found[i, j, k, m] == x[i, index[j, k], m]


@pytest.mark.parametrize("index", [[3], [-1], [0, 2**40]])
def test_an_index_outside_is_a_fault(index):
    with pytest.raises(IndexFault, match="is out of range for a size of 3"):
        PRIMITIVES["gather"].eval(np.zeros(3), np.array(index), axis=0)
    with pytest.raises(IndexFault, match="is out of range for a size of 3"):
        PRIMITIVES["scatter_add"].eval(np.array(index), np.zeros(len(index)), axis=0, size=3)


def test_concat_and_iota():
    a, b = np.ones((2, 1)), np.zeros((2, 2))
    assert PRIMITIVES["concat"].eval(a, b, axis=1).tolist() == [[1, 0, 0]] * 2
    assert PRIMITIVES["iota"].eval(shape=(2, 3), axis=1, dtype=f64).tolist() == [[0, 1, 2]] * 2


def test_bitcast_reads_the_same_bits():
    x = np.array([1.0, -0.0], np.float32)
    bits = PRIMITIVES["bitcast"].eval(x, dtype=num.dtype("u32"))
    assert [hex(b) for b in bits] == ["0x3f800000", "0x80000000"]
    assert PRIMITIVES["bitcast"].eval(x[::-1], dtype=num.dtype("i32"))[1] == 0x3F800000


def test_mulhi_against_python():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 2**32, (2, 100), np.uint32)
    found = PRIMITIVES["mulhi"].eval(x, y)
    assert found.tolist() == [int(a) * int(b) >> 32 for a, b in zip(x, y, strict=True)]


# -- random bits -------------------------------------------------------------------------------

# From the paper's own library, Random123 (kat_vectors): counter, key, result.
KNOWN = [
    ((0,) * 4, (0,) * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize("counter, key, expected", KNOWN)
def test_philox_known_answers(counter, key, expected):
    assert " ".join(f"{int(word):08x}" for word in philox(counter, key)) == expected


def test_random_bits_count_blocks():
    key = np.array([0, 0], np.uint64)
    bits = PRIMITIVES["random_bits"].eval(key, shape=(2, 5))
    assert [f"{b:08x}" for b in bits.flat[:4]] == KNOWN[0][2].split()
    block = philox((1, 0, 0, 0), (0, 0))
    assert bits.flat[4:8].tolist() == [int(w) for w in block]
    key = np.array([2**32 + 5, 2**33 + 2], np.uint64)
    many = PRIMITIVES["random_bits"].eval(key, shape=(40_001,))
    for block in (0, 4095, 4096, 10_000):
        words = [int(w) for w in philox((block, 0, 2, 2), (5, 1))]
        assert many[4 * block:4 * block + 4].tolist() == words[: len(many) - 4 * block]
    one, bits = PRIMITIVES["random_bits"].eval(key, shape=()), many
    assert one.shape == () and one == bits.flat[0], "an element does not depend on the shape"


def test_random_bits_by_element_with_a_back_ends_operations():
    seed, offset = 0xA4093822_299F31D0, 2**40 + 5
    bits = PRIMITIVES["random_bits"].eval(np.array([seed, offset], np.uint64), shape=(11,))
    index = np.arange(11, dtype=np.uint64)
    found = philox_element(NumpyOps(), index, np.full(11, seed, np.uint64),
                           np.full(11, offset, np.uint64))
    assert found.tolist() == bits.tolist()


def test_random_bits_look_uniform():
    bits = PRIMITIVES["random_bits"].eval(np.array([42, 0], np.uint64), shape=(100_000,))
    ones = np.unpackbits(bits.view(np.uint8)).mean()
    assert abs(ones - 0.5) < 1e-3
    other = PRIMITIVES["random_bits"].eval(np.array([42, 1], np.uint64), shape=(100_000,))
    assert not np.intersect1d(bits[:100], other[:100]).size
