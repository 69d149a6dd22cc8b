"""Expressions: names, operators, indexing, displays, comprehensions, strings."""

import pytest
from same import f32, i32, same_everywhere

import cellc
from cellc import ops

K = 3
TABLE = {"scale": 2.0, "shift": (1, 2)}
WEIGHTS = [0.5, 1.5, 2.5]


@same_everywhere((f32(2, 3), f32(2, 3)), (f32(3), f32(2, 3)), (2.0, 3.0), (f32(2), 3.0),
                 (f32(2), 3))
def test_arithmetic(x, y):
    return x + y, x - y, x * y, x / (y + 10), -x, +y, x ** 2, (x * x + 1) ** 0.5


@same_everywhere((7, 3), (-7, 3), (7, -3), (i32(5, low=-9), 4), (i32(5), i32(5, low=1)))
def test_integers(x, y):
    return x // y, x % y, x & 3, x | 4, x ^ 5, ~x, x << 1, x >> 1, x / y


@same_everywhere((f32(2, 3), f32(3, 4)), (f32(5, 2, 3), f32(3, 4)))
def test_matmul(x, y):
    return x @ y


@same_everywhere((f32(3), f32(3)), (1.5, 2), (2, 2), (f32(), 0.5))
def test_comparisons(x, y):
    return x < y, x <= y, x > y, x >= y, x == y, x != y


@same_everywhere((1.0, 2.0, 3.0), (1.0, 3.0, 2.0), (3, 1, 2))
def test_chained_comparison(x, y, z):
    return x < y < z, 0 < x < 2, x < y, x == y == z


@same_everywhere((1.0, 2.0), (-1.0, 2.0), (-1.0, -2.0), (True, False), (False, False))
def test_boolean_operators(x, y):
    return x > 0 and y > 0, x > 0 or y > 0, not x > 0, x > 0 and True, False or y > 0


@same_everywhere(0.0, 2.0)
def test_boolean_operators_give_operands(x):
    return x or 5.0, x and 7.0, x or 1.0 and x


@same_everywhere((f32(3),))
def test_boolean_operators_on_known_values(x):
    empty, name = [], "name"
    return (empty or x), (name and x), (None or name), not empty


@same_everywhere(1.0, -1.0)
def test_conditional_expression(x):
    y = x * 2 if x > 0 else x - 1
    return y, (1 if x > 0 else 2.5), ("a" if K == 3 else x)


@same_everywhere((f32(4, 5, 6),))
def test_indexing(x):
    return (x[0], x[-1], x[1:3], x[:, 2], x[..., 0], x[None], x[1, 2:4, ::2], x[:, None, 1],
            x[0, 1, 2], x[1:][0], x[::-1])


@same_everywhere((f32(4, 5), i32(3, high=4)))
def test_indexing_by_a_tensor(x, i):
    return x[i], x[i, 1], x[[0, 2]], ops.gather(x, i, 0)


@same_everywhere((f32(3), f32(3)))
def test_displays(x, y):
    pair = (x, y)
    both = [*pair, x + y]
    named = {"x": x, **{"y": y}, "n": 3}
    first, *rest = both
    (a, b), c = pair, named["n"]
    return both, named, rest, a - b + c, first, len(both), (*pair, 1)


@same_everywhere((f32(2, 3),))
def test_comprehensions(x):
    squares = [x * i for i in range(3) if i != 1]
    pairs = [(i, j) for i in range(3) for j in range(i)]
    named = {k: x * v for k, v in (("a", 1), ("b", 2))}
    kinds = {i % 2 for i in range(5)}
    total = sum(x[:, i] * w for i, w in enumerate(WEIGHTS))
    return squares, pairs, named, sorted(kinds), total


@same_everywhere((f32(3),))
def test_comprehension_variables_stay_inside(x):
    i = 10
    made = [i * x for i in range(2)]
    return made, i


@same_everywhere((f32(3),))
def test_walrus(x):
    if (n := x.shape[0]) > 2:
        return x * n
    made = [(last := k) for k in range(3)]
    return x, made, last


@same_everywhere((f32(3),))
def test_known_values(x):
    shape = x.shape
    name = f"{shape[0]:03d}-{'a' * 2!r}"
    parts = "a,b,c".split(",")
    parts.append("%s=%d" % ("d", 4))
    text = "{}:{k}".format(1, k=2) + "-".join(parts)
    return x * len(parts), name, text.upper(), parts[::-1], K ** 2 // 2, TABLE["shift"][1]


@same_everywhere((f32(3),))
def test_globals(x):
    return x * K + TABLE["scale"] * WEIGHTS[-1], "scale" in TABLE, K in (1, 3), 4 not in WEIGHTS


@same_everywhere(2, 5)
def test_membership_of_a_traced_number(n):
    return n in (1, 2, 3), n not in [1, 2]


@same_everywhere((f32(2, 3),))
def test_attributes_and_methods_of_tensors(x):
    return (x.T, x.sum(), x.mean(axis=0), x.reshape(3, 2), x.max(), x.shape, x.ndim, x.size,
            x.astype("float16"))


@same_everywhere((f32(3),))
def test_is_and_none(x):
    y = None
    return x is None, y is None, y is not None, x is x, True is not False


@same_everywhere((f32(3), 2.0))
def test_dtypes_are_known(x, s):
    if x.dtype == cellc.float32 and x.dtype in (cellc.float32, cellc.float16):
        return x * s
    return x


@pytest.mark.parametrize("operation", [
    lambda x, y: x // y, lambda x, y: x % y, lambda x, y: divmod(x, y)[1]],
    ids=["//", "%", "divmod"])
def test_division_of_whole_numbers_by_zero(operation):
    compiled = cellc.jit(operation)
    assert [compiled(x, 2) for x in (7, -7)] == [operation(x, 2) for x in (7, -7)]
    with pytest.raises(ZeroDivisionError) as caught:
        compiled(7, 0)
    assert __file__ in caught.value.__notes__[0]
    assert compiled(7, 3) == operation(7, 3)


@pytest.mark.parametrize("zero", [0, False])
def test_division_by_a_known_zero(zero):
    with pytest.raises(ZeroDivisionError):
        cellc.jit(lambda x: x // zero)(7)
    assert cellc.jit(lambda x, n: 0 if n == 0 else x // n)(7, 0) == 0
    assert cellc.jit(lambda x, n: n != 0 and x // n > 1)(7, 0) is False


@same_everywhere((-1.0,), (-0.5,))
def test_division_by_a_known_zero_where_the_program_does_not_come(x):
    total = 0
    for k in range(3):
        if x > k:
            total += 6 % k
    return total + (1 // 0 if x > 1 else 2)
