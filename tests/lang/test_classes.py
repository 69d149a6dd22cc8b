"""Classes of the user's: instances made, changed and called in compiled code, special methods."""

import enum
import functools
from collections import namedtuple
from dataclasses import dataclass, field
from typing import NamedTuple

from same import f32, gradient_agrees, same_everywhere

from cellc import ops


class Base:
    scale = 2.0

    def __init__(self, x):
        self.x = x
        self.log = []

    def value(self):
        return self.x * self.scale

    @property
    def half(self):
        return self.x * 0.5

    @half.setter
    def half(self, new):
        self.log.append("half")
        self.x = new * 2

    @staticmethod
    def shift(v, by=1):
        return v + by

    @classmethod
    def of(cls, *parts):
        return cls(sum(parts))

    def __call__(self, k):
        return self.value() * k


class Derived(Base):
    scale = 3.0

    def __init__(self, x, y):
        super().__init__(x)
        self.y = y

    def value(self):
        return super().value() + self.y

    @classmethod
    def of(cls, *parts):
        made = super().of(*parts, 0)
        made.y = 1.0
        return made

    @property
    def half(self):
        return super().half + 1


class Third(Derived):
    def __init__(self, x):
        super(Third, self).__init__(x, 1.0)


@same_everywhere((f32(3), 2.0))
def test_methods_and_inheritance(x, s):
    a, b, c = Base(x), Derived(x, s), Third(s)
    return (a.value(), b.value(), c.value(), a(3), b.half, a.half, Base.shift(x), b.shift(x, by=2),
            Base.of(x, x, 1).x, isinstance(c, Base), type(b) is Derived, issubclass(Third, Base))


@same_everywhere((f32(3), 2.0))
def test_attributes_set_and_read(x, s):
    a = Base(x)
    a.half = x + s
    a.x += 1
    a.extra = {"k": s}
    a.extra["k"] = a.extra["k"] + 1
    setattr(a, "named", 3)
    del a.named
    found = hasattr(a, "named")
    a.scale = 5.0
    return a.x, a.extra, a.log, a.value(), Base.scale, getattr(a, "half"), found, vars(a)["scale"]


class Vec:
    """Every operator."""

    def __init__(self, *parts):
        self.parts = list(parts)

    def __len__(self):
        return len(self.parts)

    def __iter__(self):
        return iter(self.parts)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return Vec(*self.parts[i])
        return self.parts[i]

    def __setitem__(self, i, value):
        self.parts[i] = value

    def __delitem__(self, i):
        del self.parts[i]

    def __contains__(self, value):
        return any(value is part for part in self.parts)

    def __add__(self, other):
        if not isinstance(other, Vec):
            return NotImplemented
        return Vec(*[a + b for a, b in zip(self, other)])

    def __radd__(self, other):
        return Vec(*[other + a for a in self])

    def __mul__(self, k):
        return Vec(*[a * k for a in self])

    __rmul__ = __mul__

    def __rsub__(self, other):
        return Vec(*[other - a for a in self])

    def __neg__(self):
        return self * -1

    def __abs__(self):
        return Vec(*[abs(a) for a in self])

    def __matmul__(self, other):
        return sum(a * b for a, b in zip(self, other))

    def __iadd__(self, other):
        for i, b in enumerate(other):
            self.parts[i] = self.parts[i] + b
        return self

    def __eq__(self, other):
        return isinstance(other, Vec) and len(self) == len(other)

    def __lt__(self, other):
        return len(self) < len(other)

    def __bool__(self):
        return len(self) > 1

    def __str__(self):
        return f"Vec of {len(self)}"

    def __repr__(self):
        return "Vec()"

    def __hash__(self):
        return 7

    def __index__(self):
        return 1

    def __pow__(self, n):
        return Vec(*[a ** n for a in self])

    def __reversed__(self):
        return reversed(self.parts)

    def __format__(self, spec):
        return f"<{spec}>"

    def __float__(self):
        return float(len(self.parts))

    def __round__(self, n=None):
        return 11


@same_everywhere((f32(3), 2.0))
def test_operators(x, s):
    v, w = Vec(x, s), Vec(1.0, x)
    both = v + w
    scaled, left, below = v * s, s * v, 3 * v
    w += v
    return (both.parts, scaled.parts, left.parts, below.parts, (-v).parts, v @ w, w.parts,
            (s - v).parts, (v ** 2).parts, abs(Vec(-1.0, s)).parts, (s + v).parts, (x * v).parts)


@same_everywhere((f32(3), 2.0))
def test_containers(x, s):
    v = Vec(x, s, 1)
    v[2] = x * 2
    first, *rest = v
    del v[1]
    return (first, rest, len(v), x in v, s in v, v[1], list(v), [*v, 1], v[:1].parts,
            list(reversed(v)), tuple(a for a in v), dict(enumerate(v)))


@same_everywhere((f32(3), 2.0))
def test_truth_comparison_and_text(x, s):
    v, w = Vec(x), Vec(x, s)
    picked = "more" if w else "one"
    return (v == w, v != w, v == Vec(1), v < w, v > w, bool(v), not w, picked, str(v), repr(w),
            f"{v}", f"{w!r}", f"{w:wide}", "%s" % v, "{}".format(w), max(v, w).parts,
            sorted([w, v])[0].parts, v and s, v or s, [3, 4][v], float(w), round(w), int("4"))


class Missing:
    def __init__(self, table):
        self.table = table

    def __getattr__(self, name):
        if name.startswith("get_"):
            return lambda: self.table[name[4:]]
        raise AttributeError(name)


@same_everywhere((f32(3),))
def test_getattr(x):
    m = Missing({"x": x * 2})
    return m.get_x(), hasattr(m, "other"), getattr(m, "other", 3), m.table["x"]


class Setter:
    def __init__(self):
        self.changes = 0

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)
        if name != "changes":
            object.__setattr__(self, "changes", self.changes + 1)


@same_everywhere((f32(3),))
def test_setattr(x):
    made = Setter()
    made.x = x
    made.y = x * 2
    return made.x + made.y, made.changes


class Slots:
    __slots__ = ("a", "b")

    def __init__(self, a):
        self.a = a
        self.b = 0


@same_everywhere((f32(3), 1.0), (f32(3), -1.0))
def test_slots(x, s):
    made = Slots(x)
    if s > 0:
        made.b = s
    else:
        made.b = s * 2
    return made.a, made.b


class Positive:
    """A descriptor."""

    def __set_name__(self, owner, name):
        self.name = "_" + name

    def __get__(self, instance, owner):
        if instance is None:
            return self
        return getattr(instance, self.name) * 2

    def __set__(self, instance, value):
        setattr(instance, self.name, value + 1)


class Described:
    size = Positive()

    def __init__(self, size):
        self.size = size


@same_everywhere((f32(3),))
def test_descriptors(x):
    made = Described(x)
    made.size = made.size + 1
    return made.size, Described.size.name


class Cached:
    def __init__(self, x):
        self.x, self.count = x, 0

    @functools.cached_property
    def square(self):
        self.count += 1
        return self.x * self.x


@same_everywhere((f32(3),))
def test_cached_property(x):
    c = Cached(x)
    return c.square + c.square, c.count


@dataclass
class Shape:
    name: str
    sides: list = field(default_factory=list)
    scale: float = 1.0

    def __post_init__(self):
        self.n = len(self.sides)

    def area(self):
        return self.scale * 2.0


@dataclass(order=True)
class Square(Shape):
    side: object = 2.0
    tag: str = field(default="t", compare=False, repr=False)

    def area(self):
        return super().area() + self.side * self.side


@dataclass(frozen=True)
class Frozen:
    a: object
    b: int = 3

    def plus(self, k):
        return Frozen(self.a + k, self.b)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tight:
    a: object
    b: int = 2


@dataclass
class WithInit:
    a: object

    def __init__(self, a):
        self.a = a * 2


@same_everywhere((f32(3), 2.0))
def test_dataclasses(x, s):
    q = Square("q", [1, 2], side=x)
    q.sides.append(3)
    f = Frozen(x).plus(s)
    t = Tight(a=x)
    same = Shape("a", [1]) == Shape("a", [1]), Shape("a") == Shape("b"), Frozen(1) == Frozen(1)
    return (q.area(), q.n, q.sides, q.scale, f.a, f.b, t.a * t.b, same, WithInit(x).a,
            str(Shape("a")), Square("a", side=1) < Square("b", side=0), q.tag,
            Shape("z").sides)


@same_everywhere((f32(3),))
def test_dataclass_functions(x):
    from dataclasses import asdict, astuple, fields, is_dataclass, replace

    f = Frozen(x, b=4)
    return (replace(f, b=5).b, [g.name for g in fields(f)], is_dataclass(f), asdict(Frozen(1)),
            astuple(f)[1])


Pair = namedtuple("Pair", "a b", defaults=[1])


class Typed(NamedTuple):
    x: object
    n: int = 2

    @property
    def twice(self):
        return self.x * self.n

    def plus(self, k):
        return self._replace(x=self.x + k)


@same_everywhere((f32(3), 2.0))
def test_namedtuples(x, s):
    p, t = Pair(x), Typed(x, n=3)
    a, b = p
    q = p._replace(b=s)
    return (p, q, a * b, t.twice, t.plus(s), q._asdict(), Pair._make([s, x]), p[0], len(p),
            Pair._fields)


class Kind(enum.Enum):
    RELU = "relu"
    TANH = "tanh"

    def apply(self, x):
        return ops.relu(x) if self is Kind.RELU else ops.tanh(x)

    @property
    def short(self):
        return self.value[:1]


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 5


class Mask(enum.Flag):
    A = 1
    B = 2


@same_everywhere((f32(3),))
def test_enums(x):
    table = {Kind.RELU: 1.0, Kind.TANH: 2.0}
    return ([k.apply(x) * table[k] for k in Kind], Kind("relu").name, Kind["TANH"].value,
            Kind.RELU.short, x * Level.HIGH.value, Level.LOW < Level.HIGH, len(Kind),
            Kind.RELU == Kind.TANH, Kind.RELU in (Kind.RELU,), bool(Mask.A & (Mask.A | Mask.B)))


class Node:
    """A linked structure over traced values."""

    def __init__(self, value, rest=None):
        self.value, self.rest = value, rest


@same_everywhere((f32(3),))
def test_linked_objects(x):
    node = None
    for i in range(4):
        node = Node(x * i, node)
    total = 0
    while node is not None:
        total = total + node.value
        node = node.rest
    return total


@same_everywhere((f32(3), 1.0), (f32(3), -1.0))
def test_objects_changed_in_branches(x, s):
    v = Vec(x, s)
    a = Base(x)
    if s > 0:
        v[0] = x * 2
        a.x = a.x + 1
    else:
        v.parts[1] = 3.0
        a.x = x * 3
    return v.parts, a.x, v @ v


class Counter:
    total = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


@same_everywhere((f32(3),))
def test_class_attributes_and_constants(x):
    c = Counter()
    c.total += 1
    return c.total, Counter.total, c.__class__ is Counter, Counter.__name__, type(c).__name__


def test_gradients_through_objects():
    def f(x):
        v = Vec(x, 2.0) + Vec(1.0, x)
        q = Square("q", side=v[0])
        return (v @ v + Derived(q.area(), x).value()).sum()

    gradient_agrees(f, f32(3))
