"""Short programs of all kinds: eager mode, the interpreter and compiled code give the same."""

import abc
import collections
import contextlib
import copy
import functools
import itertools
import math
import operator
import typing
from dataclasses import dataclass, field

import pytest
from same import assert_same, f32, in_mode, interpreted

import cellc
from cellc import Tensor, context

CASES = []
X = f32(3)


def case(*args):
    def enter(fn):
        CASES.append(pytest.param(fn, args, id=f"{fn.__name__}-{len(CASES)}"))
        return fn

    return enter


def both(fn):
    return case(X, 1.0)(case(X, -1.0)(fn))


class Abstract(abc.ABC):
    @abc.abstractmethod
    def f(self, x): ...
    def g(self, x):
        return self.f(x) + 1


class Concrete(Abstract):
    def f(self, x):
        return x * 2


@case(X)
def abc_classes(x):
    return Concrete().g(x)


T = typing.TypeVar("T")


class Box(typing.Generic[T]):
    def __init__(self, v: T):
        self.v = v

    def map(self, f):
        return Box(f(self.v))


@case(X)
def generic(x):
    return Box(x).map(lambda v: v * 3).v, Box[int](3).v


class Proto(typing.Protocol):
    def f(self, x): ...


class Impl(Proto):
    def __init__(self, k):
        self.k = k

    def f(self, x):
        return x * self.k


@case(X)
def protocol(x):
    return Impl(3).f(x)


class MyList(list):
    def total(self):
        return sum(self)


class Config(dict):
    def __getattr__(self, k):
        return self[k]


@case(X)
def container_subclasses(x):
    m = MyList([x, x])
    m.append(1)
    c = Config(a=x, b=2)
    c["z"] = 3
    return m.total(), list(m), c.a * c.b, c["z"], len(m)


class Single:
    _it = None

    def __new__(cls, *a):
        o = super().__new__(cls)
        o.tag = 1
        return o

    def __init__(self, x):
        self.x = x


@case(X)
def own_new(x):
    s = Single(x)
    return s.x * s.tag


class Err(Exception):
    def __init__(self, x, code):
        super().__init__("msg")
        self.x = x
        self.code = code


@case(X)
def exc_with_traced(x):
    try:
        raise Err(x * 2, 3)
    except Err as e:
        return e.x * e.code, str(e)


@case(X)
def exc_args(x):
    try:
        raise ValueError("a", 1)
    except ValueError as e:
        return e.args, x


@case(X, 1.0)
@case(X, -1.0)
def iter_in_branch(x, s):
    if s > 0:
        g = (x * i for i in range(3))
        return sum(g)
    return x


@case(X)
def dict_iter_views(x):
    d = {"a": x, "b": 2}
    ks = d.keys()
    d["c"] = 1
    return list(ks), [v for v in d.values()], "c" in ks, list(d.items())[2], len(d.items())


@case(X)
def zip_strict(x):
    try:
        return list(zip([1], [1, 2], strict=True))
    except ValueError as e:
        return str(e)


@case(X)
def zip_strict2(x):
    try:
        return list(zip([1, 2], [1], strict=True))
    except ValueError as e:
        return str(e)


@case(X)
def unpack_err(x):
    out = []
    for v in ([1], [1, 2, 3]):
        try:
            a, b = v
        except ValueError as e:
            out.append(str(e))
    return out


@case(X)
def nested_functions_gen(x):
    def outer():
        def inner(n):
            yield n
            if n:
                yield from inner(n - 1)

        for v in inner(3):
            yield v * x

    return list(outer())


@case(X)
def lambda_default_gen(x):
    fs = [lambda v, k=k: v * k for k in range(3)]
    return [f(x) for f in fs]


@case(X)
def while_else(x):
    n = 0
    while n < 3:
        n += 1
        if n == 5:
            break
    else:
        n = 100
    return n


@case(X)
def star_expr_gen(x):
    def g():
        yield 1
        yield x

    a, *b = g()
    return a, b, [*g(), *g()], {*[1, 2]} == {1, 2}


@case(X)
def chained_cmp_objs(x):
    return (1 < 2 < 3) is True, [1, 2] < [1, 3] < [2]


@case(X)
def string_building(x):
    out = ""
    for i, c in enumerate("abc"):
        out += f"{i}{c}"
    return out, out.split("1"), "%s %r" % ("a", "b"), "{0}{1[0]}{2.real}".format(1, [2], 3)


@case(X)
def slices(x):
    xs = list(range(10))
    s = slice(1, 5, 2)
    xs[s] = [0, 0]
    return xs[s], xs[-3:], xs[::-2], s.indices(10), x[s]


@case(X)
def int_methods(x):
    return (
        (5).bit_length(),
        (2.5).is_integer(),
        int("ff", 16),
        10**3,
        divmod(-7, 2),
        round(2.5),
        complex(1, 2).real,
    )


@case(X)
def sets_ops(x):
    s = set()
    s |= {1}
    s ^= {1, 2}
    s -= {5}
    s &= {2, 3}
    return s, {1} < {1, 2}, frozenset("ab") == {"a", "b"}


@case(X)
def global_fn(x):
    return helper(x)(2)


def helper(x):
    def f(n):
        return x * n

    return f


@case(X)
def method_refs(x):
    f = x.sum
    g = str.upper
    return f(), g("a"), list(map(str.strip, [" a "])), sorted(["B", "a"], key=str.lower)


@case(X)
def class_as_value(x):
    kinds = {"a": Concrete}
    return (
        kinds["a"]().f(x),
        list(map(Box, [x]))[0].v,
        isinstance(Concrete(), (Abstract, int)),
        issubclass(Concrete, Abstract),
    )


@dataclass
class Tree:
    v: object
    kids: list = field(default_factory=list)

    def walk(self):
        yield self.v
        for k in self.kids:
            yield from k.walk()

    def __iter__(self):
        return self.walk()


@case(X)
def trees(x):
    t = Tree(x, [Tree(x * 2), Tree(x * 3, [Tree(1.0)])])
    return sum(t), len(list(t)), [v for v in t][3]


@case(X)
def returns_dc(x):
    return Tree(x, [1]).v, copy.copy(Tree(x)).v, copy.deepcopy([x, [x]])


@case(X, 2)
def traced_int_ops(x, n):
    return n // 2, n % 3, -n, n**2, abs(n - 5), float(n), n == 2, bool(n), x * n


@case(X, True)
def traced_bool(x, b):
    return not b, b and 1.0, x * b, int(b), b + 1, b is True


@case(X)
def finally_order(x):
    log = []

    def f():
        try:
            try:
                log.append(1)
                return log.append(2)
            finally:
                log.append(3)
        finally:
            log.append(4)

    f()
    return log


@case(X)
def exitstack_order(x):
    log = []
    with contextlib.ExitStack() as st:
        for i in range(3):
            st.callback(log.append, i)
    return log


@case(X)
def gen_throw(x):
    def g():
        while True:
            try:
                yield
            except ValueError as e:
                yield str(e)

    it = g()
    next(it)
    return it.throw(ValueError("z")), x


@case(X)
def reduce_init(x):
    return functools.reduce(lambda a, b: a * b, [1, 2, x], 2.0), functools.reduce(max, [3, 1])


@case(X)
def lru(x):
    return fact(5) * x


@functools.lru_cache
def fact(n):
    return 1 if n < 2 else n * fact(n - 1)


@case(X)
def nt(x):
    return collections.ChainMap({"a": 1}, {"b": 2})["b"], collections.OrderedDict(a=x)["a"]


@case(X)
def single_dispatch(x):
    return sd(3), sd("a"), x


@functools.singledispatch
def sd(v):
    return "other"


@sd.register
def _(v: int):
    return "int"


@case(X)
def property_on_base(x):
    class_ = type(Concrete())
    return class_.__name__, Concrete.f(Concrete(), x)


@case(X)
def try_in_loop_else(x):
    out = []
    for i in range(4):
        try:
            if i == 1:
                raise KeyError
            if i == 2:
                continue
        except KeyError:
            out.append("k")
            continue
        else:
            out.append("e")
        finally:
            out.append("f")
        out.append(i)
    else:
        out.append("done")
    return out


@case(X)
def walrus_gen(x):
    return [y for v in range(4) if (y := v * 2) > 2], any((hit := v) > 1 for v in range(4)), hit


@case(X)
def dict_methods(x):
    d = dict(a=1)
    e = d | {"b": x}
    return (
        {k: v for k, v in sorted(e.items(), key=lambda p: p[0])},
        d.items() <= e.items() if False else 1,
        e.pop("zz", None),
        list(e),
    )


@case(X)
def format_specs(x):
    return f"{3.14159:.2f} {5:>3} {'a':^5} {1000:,} {0.5:%} {255:#x} {x.shape!r} {x.ndim=}"


@case(X)
def bytes_(x):
    return b"ab"[0], b"a" + b"b", "é".encode(), bytes([1, 2])


@case(X)
def ellipsis_none(x):
    return x[..., None].shape, ... is Ellipsis


@case(X, 0.5)
@case(X, 1.5)
def nested_match(x, s):
    match {"op": "scale", "by": s}:
        case {"op": "scale", "by": b} if b > 1:
            return x * b
        case {"op": "scale", "by": b}:
            return x - b


@case(X)
def type_checks(x):
    return (
        type(3) is int,
        type(x).__name__,
        isinstance(x, (list, Tensor)),
        callable(helper),
        hasattr([], "append"),
    )


@case(X)
def math_known(x):
    return (
        math.prod([1, 2, 3]),
        math.gcd(4, 6),
        math.isclose(1, 1),
        math.inf > 1,
        math.comb(4, 2),
        math.hypot(3, 4),
    )


@case(X)
def enumerate_zip_nested(x):
    return [(i, a, b) for i, (a, b) in enumerate(zip("ab", [x, 1]))]


@case(X)
def del_things(x):
    a = [1, 2, 3]
    del a[0], a[0:1]
    d = {"a": 1}
    del d["a"]
    return a, d


@case(X)
def multi_assign(x):
    a = b = []
    a.append(1)
    i = 0
    i, a2 = 1, [0, 0]
    a2[i] = 5
    return b, a2, a is b


@case(X)
def swap_index(x):
    a = [0, 1, 2]
    i = 0
    i, a[i] = 1, 9
    return a, i


@case(X)
def aug_eval_order(x):
    log = []

    def f(v):
        log.append(v)
        return v

    a = [1, 2, 3]
    a[f(0)] += f(10)
    log.append({f("k"): f("v")}["k"])
    (lambda *p, **k: 0)(f(1), *[f(2)], k=f(3))
    f(1) < f(2) < f(0) < f(9)
    return log, a


class Acc:
    def __init__(self):
        self.t = 0.0
        self.n = 0

    def add(self, v):
        if v > 0:
            self.t = self.t + v
        else:
            self.t = self.t - v * 2
        self.n += 1
        return self

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.t = self.t * 2

    def __len__(self):
        return self.n

    def __bool__(self):
        return self.t > 1


@both
def acc(x, s):
    a = Acc()
    for v in (s, s * 2, 1.0):
        a.add(v)
    return a.t, a.n


@both
def acc_bool(x, s):
    a = Acc().add(s)
    if a:
        return 1.0
    return a.t


@both
def acc_with_return(x, s):
    a = Acc()

    def f():
        with a as b:
            b.add(s)
            if s > 0:
                return b.t
            b.add(3.0)
        return -b.t

    return f(), a.t, a.n if s is None else 0


@both
def gen_in_branch_created_before(x, s):
    g = iter([1.0, 2.0, 3.0])
    if s > 0:
        a = next(g) + next(g)
    else:
        a = next(g) * 5 + next(g)
    return a, next(g)


@both
def nested_gen_traced(x, s):
    def clip(vs):
        for v in vs:
            if v > 1:
                v = 1.0
            yield v

    def double(vs):
        for v in vs:
            yield v * 2

    return sum(clip(double([s, s + 1, 0.25])))


@both
def exception_in_function_in_branch(x, s):
    def f(k):
        return {"a": 1.0}[k]

    def g(k):
        try:
            return f(k)
        except KeyError:
            return 5.0

    if s > 0:
        y = g("a")
    else:
        y = g("b")
    return y


@both
def finally_changes_variable(x, s):
    y = s
    try:
        if s > 0:
            y = y * 3
        else:
            y = y * 4
    finally:
        y = y + 1
    return y


@both
def loop_with_try_and_traced_continue(x, s):
    t = 0.0
    for i in range(3):
        try:
            if s * i > 0.5:
                continue
            t = t + 1
        finally:
            t = t + 0.125
    return t


@both
def match_class_traced(x, s):
    class_ = (s, [x, s])
    match class_:
        case (float(v), [t, w]) if w > 0:
            return t * v
        case (v, _):
            return x * v - 1


@both
def suppress_in_branch(x, s):
    if s > 0:
        with contextlib.suppress(KeyError):
            {}["a"]
        y = s + 1
    else:
        y = s
    return y


@both
def exitstack_in_branch(x, s):
    a = Acc()
    with contextlib.ExitStack() as st:
        st.enter_context(a)
        if s > 0:
            a.add(1.0)
        else:
            a.add(2.0)
    return a.t


@both
def return_in_finally_traced(x, s):
    def f():
        try:
            if s > 0:
                return 1.0
            y = 2.0
        finally:
            z = s
            if z < 0:
                return 7.0
        return y

    return f()


@both
def except_then_traced_return(x, s):
    def f():
        try:
            raise KeyError("k")
        except KeyError as e:
            if s > 0:
                return 1.0
            y = len(e.args) * 1.0
        return y + 1

    return f()


@both
def except_name_scope(x, s):
    def f():
        e = 3
        try:
            raise KeyError
        except KeyError:
            if s > 0:
                return 1.0
        try:
            return e
        except NameError:
            return 2.0

    return f() if s < 0 else 1.0


@both
def break_out_of_with_in_loop(x, s):
    a = Acc()
    for i in range(3):
        with a:
            if s > 0 and i == 1:
                break
            a.add(1.0)
    return a.t


@both
def while_known_with_traced_break(x, s):
    n = 0
    t = 0.0
    while n < 4:
        n += 1
        if t > s * 2:
            break
        t = t + 1.5
    else:
        t = t + 100
    return t


@both
def generator_over_branches(x, s):
    def g():
        y = s
        if s > 0:
            y = y + 1
        yield y
        if s > 0:
            y = y * 2
        else:
            y = y * 3
        yield y

    a, b = g()
    return a, b


@both
def zip_longest_traced(x, s):
    return list(itertools.zip_longest([s], [1, 2], fillvalue=s))


@both
def accumulate_max(x, s):
    return list(itertools.accumulate([s, 2.0, -1.0], max)), list(
        itertools.accumulate([1, s], lambda a, b: a * b, initial=2.0)
    )


@both
def nonlocal_gen_branch(x, s):
    t = 0.0

    def g():
        nonlocal t
        for i in range(2):
            if s > 0:
                t = t + 1
            yield t

    return list(g()), t


@both
def sort_of_objects(x, s):
    vs = [(2, "b", s), (1, "c", x), (1, "a", 3)]
    vs.sort(key=operator.itemgetter(0, 1))
    return [v[2] for v in vs], sorted(vs, key=lambda v: (-v[0], v[1]))[0][2]


@both
def conditional_objects(x, s):
    a = Acc()
    a.add(s)
    b = a if s is None else Acc()
    b.add(1.0)
    return a.t + b.t


@both
def closure_cell_shared(x, s):
    def make():
        v = s

        def get():
            return v

        def put(k):
            nonlocal v
            v = k

        return get, put

    get, put = make()
    if s > 0:
        put(5.0)
    else:
        put(s * 2)
    return get()


@both
def dict_of_lists_branch(x, s):
    d = {"a": [1.0, s], "b": (s,)}
    if s > 0:
        d["a"][0] = s * 2
    else:
        d["a"][1] = 9.0
    return d


@pytest.mark.parametrize("fn, args", CASES)
def test_snippet(fn, args):
    expected = in_mode(context.PYNATIVE_MODE, fn, args)
    assert_same(interpreted(fn, *args), expected, "interpreted")
    assert_same(in_mode(context.GRAPH_MODE, cellc.jit(fn), args), expected, "compiled")
