"""`match`: every pattern, on known and on traced values."""

import enum
from collections import namedtuple
from dataclasses import dataclass

import pytest
from same import f32, gradient_agrees, parse, same_everywhere

from cellc import Tensor
from cellc.errors import CellcError


@dataclass
class Point:
    x: object
    y: object = 0


@dataclass
class Circle:
    centre: Point
    radius: object


class Plain:
    __match_args__ = ("a",)

    def __init__(self, a, b):
        self.a, self.b = a, b


Pair = namedtuple("Pair", "a b")


class Kind(enum.Enum):
    A = 1
    B = 2


def describe(v):
    match v:
        case None:
            return "none"
        case True | False:
            return "bool"
        case int(n) if n > 100:
            return "big", n
        case int() | float():
            return "number"
        case str("a" | "b" as s):
            return "letter", s
        case str():
            return "text"
        case Kind.A:
            return "kind a"
        case Point(0, y=0):
            return "origin"
        case Point(x=0, y=n) | Point(n, 0):
            return "on an axis", n
        case Circle(Point(a, b), radius=r):
            return "circle", a, b, r
        case Pair(a=p, b=q):
            return "pair", p, q
        case Plain(a, b=b):
            return "plain", a, b
        case []:
            return "empty"
        case [n]:
            return "one", n
        case [first, *_, last] if first == last:
            return "ring", first
        case [Point(), *rest]:
            return "points", rest
        case (1, (2, [*inner])):
            return "nested", inner
        case {"op": "add", "args": [a, b]}:
            return "add", a + b
        case {"op": str(op), **rest}:
            return op, rest
        case {}:
            return "mapping"
        case Tensor(shape=(n, *_), ndim=d):
            return "tensor", n, d
        case _:
            return "other"


@same_everywhere((f32(3),))
def test_patterns_on_known_values(x):
    return [describe(v) for v in (
        None, True, 500, 3, 2.5, "a", "xyz", Kind.A, Kind.B, Point(0, 0), Point(0, 5), Point(5),
        Point(1, 2), Circle(Point(1, x), 2.0), Pair(x, 1), Plain(x, 2), [], [x], [1, 2, 1],
        [Point(1), 2, 3], (1, (2, [3, 4])), {"op": "add", "args": [x, x]}, {"op": "neg", "k": x},
        {"z": 1}, x, {1}, (3, 2))]


@same_everywhere(0, 1, 2, 3, 4, 7)
def test_literals_on_a_traced_number(n):
    match n:
        case 0:
            y = 10
        case 1 | 2:
            y = n * 2
        case 3:
            return -1
        case k if k > 5:
            y = k + 100
        case _:
            y = 0
    return y + n


@same_everywhere((0.5, 1), (1.5, 2), (-1.0, 1), (-1.0, 3), (0.0, 5))
def test_patterns_with_traced_parts(s, n):
    match (s, n):
        case (0.0, k):
            y = k * 1.0
        case (v, 1) if v > 0:
            y = v
        case (v, 1 | 2):
            y = v * 10
        case _:
            y = 7.0
    match Point(s, {"k": n}):
        case Point(x=0.0):
            z = 1
        case Point(v, {"k": 1}) if v > 0:
            z = 2
        case Point(v, {"k": k}):
            z = k + 3
    match n:
        case float():
            w = 1
        case int(m):
            w = m
    return y, z, w


@same_everywhere((1,), (2,), (3,))
def test_captures_after_a_traced_match(n):
    k = 0
    match n:
        case 1:
            pass
        case k if k == 2:
            pass
        case _:
            k = -1
    return k


@same_everywhere((1,), (2,), (3,))
def test_in_loops(n):
    total = 0
    for i in range(4):
        match i + n:
            case 3:
                continue
            case 5:
                break
            case j:
                total = total + j
    return total


def test_gradients():
    def f(x, n):
        match n:
            case 0:
                y = x * x
            case 1 | 2 if x.sum() > 0:
                y = x * 3
            case _:
                y = x ** 3
        return y.sum()

    for n in (0, 1, 5):
        gradient_agrees(f, f32(3), n)


def too_many(x):
    match Point(1, 2):
        case Point(a, b, c):
            return x, a, b, c


def no_class(x):
    match x:
        case POINT():
            return x


def two_bindings(x):
    match (x.sum(), 2):
        case (0.0, k) | (k, 2):
            return x * k


POINT = 3


@pytest.mark.parametrize("fn, words", [
    (too_many, "accepts 2 positional"), (no_class, "as the class of a pattern"),
    (two_bindings, "which alternative binds k")], ids=lambda v: getattr(v, "__name__", ""))
def test_refusals(fn, words):
    with pytest.raises(CellcError) as info:
        parse(fn, f32(3))
    fault = info.value
    assert words in str(fault) and fault.hint
    assert fault.loc.line == fn.__code__.co_firstlineno + 2
