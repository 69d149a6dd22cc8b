"""Functions as values: partial, reduce, map, closures, nonlocal, defaults, stars, decorators."""

import functools
import itertools
import operator

from same import f32, gradient_agrees, same_everywhere

from cellc import ops


@same_everywhere((f32(3), 2.0))
def test_map_and_filter(x, s):
    return (list(map(lambda a, b: a * b, [x, s], (s, x))), list(map(operator.add, [1, 2], [x, s,
            3])),
            list(filter(lambda k: k % 2, range(5))), list(map(str, [1, 2])), sum(map(abs, [s, -1])),
            [*map(ops.tanh, (x, x * 2))], dict(zip("ab", map(lambda v: v + 1, (x, s)))),
            list(filter(None, [0, 1, ""])), list(map(lambda *a: len(a), "ab", "cd")))


@same_everywhere((f32(3), 2.0))
def test_partial_and_reduce(x, s):
    def combine(a, b, c=1, *, k=2):
        return a * b + c * k

    twice = functools.partial(combine, s, k=3)
    nested = functools.partial(functools.partial(combine, x), c=s)
    return (twice(x), twice(x, 5), twice(x, k=x), nested(2), functools.reduce(combine, [x, s, 1]),
            functools.reduce(lambda a, b: a + [b], [1, 2], []), twice.args, twice.keywords["k"],
            functools.reduce(operator.mul, [s, s, s], 1.0))


@same_everywhere((f32(3), 2.0))
def test_functions_passed_and_returned(x, s):
    def twice(f):
        return lambda v: f(f(v))

    def compose(*fs):
        return functools.reduce(lambda f, g: lambda v: g(f(v)), fs)

    table = {"sq": lambda v: v * v, "tanh": ops.tanh}
    chosen = table["sq"]
    return (twice(chosen)(x), compose(ops.tanh, chosen, twice(lambda v: v + s))(x),
            [f(s) for f in (chosen, lambda v, k=s: v + k)], twice(twice)(lambda v: v * 2)(x))


@same_everywhere((f32(3), 2.0))
def test_nonlocal_over_traced_values(x, s):
    total, count = 0.0, 0

    def add(v):
        nonlocal total, count
        total = total + v
        count += 1

        def inner():
            nonlocal total
            total *= 2

        inner()
        return count

    counts = [add(s), add(s * 2), add(1)]
    return total, count, counts


@same_everywhere((f32(3), 2.0), (f32(3), -2.0))
def test_nonlocal_in_branches(x, s):
    best = 0.0

    def see(v):
        nonlocal best
        if v > best:
            best = v

    for v in (s, s * 2, 1.0):
        see(v)
    return best, x * best


@same_everywhere((f32(3), 2.0))
def test_traced_defaults(x, s):
    def f(a, b=x, *, c=s):
        return a + b * c

    x = x * 2
    return f(1), f(1, 2), f(x, c=1), (lambda q=s: q)()


@same_everywhere((f32(3), 2.0))
def test_stars_everywhere(x, s):
    def f(a, b=1, *rest, k=0, **named):
        return a, b, rest, k, named

    pos, kw = [x, s], {"k": x, "z": 1}
    return (f(*pos, **kw), f(x, *(1, 2), 3, *[4]), f(*(), a=x), f(**{"a": s, "b": 2}, q=x), f(*pos,
            1, k=2),
            print.__name__, max(*pos[1:], 3), (lambda *a, **k: (len(a), sorted(k)))(*pos, **kw))


def logged(log):
    def decorator(f):
        @functools.wraps(f)
        def wrapper(*args, **kwargs):
            log.append(f.__name__)
            return f(*args, **kwargs)

        return wrapper

    return decorator


class Scale:
    """A decorator with state."""

    def __init__(self, k):
        self.k = k

    def __call__(self, f):
        def wrapper(v):
            return f(v) * self.k

        return wrapper


@same_everywhere((f32(3), 2.0))
def test_decorators(x, s):
    log = []

    @logged(log)
    @Scale(s)
    def f(v):
        """Doubles."""
        return v * 2

    @functools.partial
    def g():
        return x

    return f(x), g(), log, f.__name__


@same_everywhere((f32(3), 2.0))
def test_recursion_on_known_conditions(x, s):
    def tree(depth, v):
        if depth == 0:
            return [v]
        return tree(depth - 1, v * 2) + tree(depth - 1, v + s)

    def even(n):
        return True if n == 0 else odd(n - 1)

    def odd(n):
        return False if n == 0 else even(n - 1)

    def flatten(t):
        if isinstance(t, (list, tuple)):
            return [y for part in t for y in flatten(part)]
        return [t]

    return tree(2, x), even(10), flatten([x, [s, (1, [2])]])


@same_everywhere((f32(3), 2.0))
def test_closures_in_loops(x, s):
    late = [lambda v: v * i for i in range(3)]
    early = [lambda v, i=i: v * i for i in range(3)]
    made = []
    for k in (1, s):
        def f(v):
            return v + k

        made.append(f)
    return [f(x) for f in late], [f(x) for f in early], [f(x) for f in made]


@same_everywhere((f32(3), 2.0))
def test_itertools(x, s):
    return (list(itertools.chain([x], (s, 1))), list(itertools.product([1, 2], "ab")), list(
        itertools.islice(itertools.count(3), 2)), list(itertools.accumulate([1, s, x])),
        list(itertools.starmap(lambda a, b: a * b, [(x, 2), (s, 3)])), list(itertools.repeat(s, 2)),
        list(itertools.takewhile(lambda k: k < 3, itertools.count())), list(itertools.zip_longest(
            [x], [1, s], fillvalue=0)), list(itertools.permutations([1, 2])),
            list(itertools.pairwise([x, s, 1])),
        list(itertools.chain.from_iterable([[x], [s]])), list(itertools.combinations([1, x, s], 2)),
        list(itertools.islice(itertools.cycle([x, s]), 3)),
        list(itertools.dropwhile(lambda k: k < 2, [1, 2, 1])),
        [(k, list(g)) for k, g in itertools.groupby([1, 1, 2])], list(itertools.compress([x, s],
        [0, 1])))


@same_everywhere((f32(3), 2.0))
def test_operator_functions(x, s):
    pair = {"a": x, "b": s}
    return (operator.itemgetter("a")(pair), operator.itemgetter(0, 1)([x, s]),
            operator.attrgetter("shape")(x),
            operator.methodcaller("sum")(x), operator.neg(s), operator.not_(0),
            operator.contains([1], 1),
            operator.truth([]), operator.abs(s), operator.concat([1], [x]), operator.iadd([1], [s]))


def test_gradients_through_functions():
    def f(x):
        total = 0.0

        def add(v):
            nonlocal total
            total = total + v
            return total

        list(map(add, [x, x * x]))
        return (functools.reduce(lambda a, b: a * b, [total, x]) + functools.partial(pow,
                x)(3)).sum()

    gradient_agrees(f, f32(3))
