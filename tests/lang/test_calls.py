"""Calls: arguments, closures, decorators, recursion, partial, builtins."""

import functools
import math
import operator

from same import f32, i32, same_everywhere

from cellc import ops


def helper(a, b=2, *rest, scale=1.0, **named):
    total = a * b * scale
    for r in rest:
        total = total + r
    for key in named:
        total = total + named[key]
    return total


@same_everywhere((f32(3),))
def test_arguments(x):
    args, named = (x, 1), {"scale": 2.0}
    return (helper(x), helper(x, 3), helper(x, 3, x, 4), helper(a=x, b=x), helper(*args, **named),
            helper(x, k=x, j=1), helper(b=4, a=x, scale=3))


def positional(a, /, b, *, c):
    return a + b * c


@same_everywhere((f32(3),))
def test_positional_and_keyword_only(x):
    return positional(x, 2, c=3), positional(x, b=1, c=x)


@same_everywhere((f32(3),))
def test_closures(x):
    k = 2

    def make(n):
        def inner(v, m=k):
            return v * n + m

        return inner

    add = make(3)
    k = 5
    return add(x), make(1)(x, 7), (lambda v, w=k: v + w)(x)


def counter():
    n = 0

    def step():
        nonlocal n
        n += 1
        return n

    return step


@same_everywhere((f32(3),))
def test_nonlocal(x):
    n = 0

    def step():
        nonlocal n
        n = n + 1
        return n

    step()
    step()
    return x * n


def doubled(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        return f(*args, **kwargs) * 2

    return wrapper


def scaled(k):
    def decorator(f):
        def wrapper(x):
            return f(x) * k

        return wrapper

    return decorator


@doubled
@scaled(3)
def decorated(x):
    return x + 1


@same_everywhere((f32(3),))
def test_decorators(x):
    @doubled
    def inner(v):
        return v - 1

    return decorated(x), inner(x)


def power(x, n):
    return 1.0 if n == 0 else x * power(x, n - 1)


@same_everywhere((f32(3),))
def test_recursion_on_known_values(x):
    def fact(n):
        return 1 if n < 2 else n * fact(n - 1)

    return power(x, 5), fact(10)


lambdas = [lambda v: v * 1, lambda v: v * 2, lambda v: (lambda w: w * v)(v), lambda v: v]


@same_everywhere((f32(3),))
def test_lambdas(x):
    return [f(x) for f in lambdas], (lambda v: v - 1)(x)


@same_everywhere((f32(3),))
def test_partial_and_operator(x):
    add = functools.partial(helper, b=5)
    return add(x), functools.partial(ops.tanh)(x), operator.mul(x, x), functools.reduce(
        operator.add, [x, x, 1])


@same_everywhere((f32(2, 3),))
def test_builtins_on_sequences(x):
    xs = [x[:, i] for i in range(x.shape[1])]
    return (len(xs), len(x), sum(xs), list(map(lambda v: v * 2, xs)), tuple(reversed(xs)),
            list(zip(xs, range(2))), sorted([3, 1, 2], key=lambda n: -n),
            list(filter(None, [0, 1])), all([True, 1]), any([]), max(3, 1), min([2, 5]),
            list(enumerate("ab")),
            [k for k in dict(a=1)], abs(-3), round(2.567, 2), divmod(7, 2), pow(2, 5), int("7"))


@same_everywhere((1.5, 2.5), (-2.5, 0.5), (3, 4), (2.0, 1))
def test_builtins_on_numbers(x, y):
    return (max(x, y), min(x, y), abs(x), sum([x, y]), round(x), divmod(x, y), pow(x, 2), int(x),
            float(y), bool(x), any([x > y, False]), all([x > y, x > 0]), max([x, y, 0]))


@same_everywhere((f32(), f32(1)), (i32(), i32(1)))
def test_builtins_on_tensors_of_one_element(x, y):
    return float(x), int(y), bool(x), abs(x), len(y)


@same_everywhere(0.5, 1.5)
def test_math_on_numbers(x):
    return (math.sqrt(x), math.exp(x), math.log(x), math.tanh(x), math.floor(x), math.ceil(x),
            math.atan2(x, 2), math.pow(x, 3), math.sin(x) + math.pi, math.log(x, 2))


@same_everywhere((f32(3), 2.0))
def test_isinstance_and_getattr(x, s):
    from cellc import Tensor

    return (isinstance(x, Tensor), isinstance(s, float), isinstance(s, (int, str)),
            hasattr(x, "shape"), hasattr(x, "nothing"), getattr(x, "nothing", 3),
            getattr(x, "ndim"), isinstance([x], list), type(x) is Tensor)


def varied(*xs, key=None):
    return sum(xs) if key is None else max(xs, key=key)


@same_everywhere((f32(3),))
def test_key_functions(x):
    return varied(x, x), varied(1, -5, 3, key=abs), max("abc", "d", key=len), min(
        [(2, "b"), (1, "a")], key=lambda p: p[0])


@same_everywhere((f32(3),))
def test_generator_expressions(x):
    return sum(x * i for i in range(4)), tuple(i * i for i in range(3)), max(i for i in (1, 5, 2))


@same_everywhere(({"a": f32(3), "b": [1.0, f32(2)]},), ((f32(2), (1, 2.0)),))
def test_nested_arguments(tree):
    if isinstance(tree, dict):
        return {k: v for k, v in reversed(list(tree.items()))}, tree["a"] * tree["b"][0]
    a, (b, c) = tree
    return a * b + c
