"""Assignments, loops on known values, assert, match, containers."""

import math
from collections import namedtuple
from dataclasses import dataclass, field, replace

from same import f32, same_everywhere

from cellc import ops

Pair = namedtuple("Pair", "a b")


@same_everywhere((f32(3), f32(3)))
def test_assignment(x, y):
    a = b = x
    a, b = b, y
    c: float = 2.0
    d: int  # noqa: F842
    (e, *f), g = [1, 2, 3], x
    a += y
    a *= 2
    return a, b, c, e, f, g


@same_everywhere((f32(4),))
def test_setting_items_of_a_tensor(x):
    y = x * 2
    z = y
    y[1] = 5.0
    y[2:] += 1
    return y, z, x


@same_everywhere((f32(3),))
def test_lists_and_dicts(x):
    xs = [x]
    xs += [x * 2]
    xs.append(x * 3)
    xs.insert(0, 1)
    last = xs.pop()
    xs[0] = 7
    xs.extend(range(2))
    del xs[-1]
    named = dict(a=x, b=2)
    named["c"] = 3
    named.update(d=x)
    got = named.get("z", 5)
    named.setdefault("e", []).append(x)
    copied = list(xs)
    copied.reverse()
    return xs, last, named, got, copied, list(named), [k for k, v in named.items()]


@same_everywhere((f32(2, 3),))
def test_loops(x):
    total = 0
    for i in range(3):
        for name, w in {"a": 1, "b": 2}.items():
            if name == "b" and i == 1:
                continue
            total = total + x[:, i] * w
        if i == 5:
            break
    else:
        total = total + 1
    for i, (a, b) in enumerate(zip([1, 2], (x, x + 1)), start=1):
        total = total + a * b[:, 0] * i
    for row in x:
        total = total + row.sum()
    n = 0
    while n < 3:
        n += 1
        if n == 2:
            break
    else:
        n = 100
    return total, n


@same_everywhere((f32(3),))
def test_unrolled_loop_over_functions(x):
    for f in (ops.tanh, lambda v: v * 2, math.floor):
        if f is not math.floor:
            x = f(x)
    return x


@dataclass
class Config:
    scale: float = 2.0
    shifts: list = field(default_factory=lambda: [1, 2])

    def apply(self, x):
        return x * self.scale + self.shifts[0]

    @property
    def twice(self):
        return self.scale * 2


CONFIG = Config(3.0)


@same_everywhere((f32(3),))
def test_objects(x):
    made = Config(scale=0.5)
    made.scale = made.scale + 1
    changed = replace(made, scale=4.0)
    p = Pair(x, b=2)
    return CONFIG.apply(x), made.apply(x) * CONFIG.twice, p.a * p.b, changed.scale, p


class Vector:
    def __init__(self, x, y=0.0):
        self.x, self.y = x, y

    def __add__(self, other):
        return Vector(self.x + other.x, self.y + other.y)

    def __getitem__(self, i):
        return (self.x, self.y)[i]

    def __len__(self):
        return 2

    @staticmethod
    def unit():
        return Vector(1.0, 1.0)

    @classmethod
    def zero(cls):
        return cls(0.0)


@same_everywhere((f32(3),))
def test_classes_of_the_user(x):
    v = Vector(x) + Vector(1.0, 2.0) + Vector.unit() + Vector.zero()
    return v.x, v.y, v[0], len(v), isinstance(v, Vector)


@same_everywhere((f32(3),))
def test_assert_and_pass(x):
    assert x.shape == (3,), "three"
    assert x.ndim == 1
    pass
    """A string alone is a statement too."""
    return x


@same_everywhere((f32(3),))
def test_match(x):
    def size(n):
        match n:
            case 0:
                return 0.0
            case 1 | 2:
                return 1.0
            case (a, *rest) if len(rest) == 1:
                return a * 1.0
            case None:
                return -1.0
            case other:
                return 5.0 + other

    return x * size(2), size(0), size((7, 8)), size(None), size(9)


@same_everywhere((f32(3),))
def test_delete(x):
    y = x * 2
    z = {"a": y, "b": 1}
    del y, z["b"]
    y = x
    return y, z


@same_everywhere((f32(3),))
def test_import_of_the_standard_library(x):
    import math as m
    from functools import reduce

    return x * m.pi, reduce(lambda a, b: a + b, [x, x, x])
