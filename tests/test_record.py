"""Records behave as dataclasses do, in all that the compiler uses of them."""

import pytest

from cellc.record import changed, fresh, record


@record(frozen=True)
class Point:
    x: int
    y: int = 2


@record
class Bag:
    name: str
    items: list = fresh(list)


@record(eq=False)
class Thing:
    value: int


def test_fields_defaults_and_repr():
    assert (Point(1).x, Point(1).y, Point(y=5, x=3).y) == (1, 2, 5)
    assert repr(Point(1)) == "Point(x=1, y=2)"
    with pytest.raises(TypeError):
        Point()
    with pytest.raises(TypeError):
        Point(1, z=3)


def test_equality_and_hash():
    assert Point(1) == Point(1, 2) != Point(2)
    assert Point(1) != (1, 2)
    assert hash(Point(1)) == hash(Point(1, 2))
    assert Thing(1) != Thing(1)
    assert len({Thing(1), Thing(1)}) == 2
    with pytest.raises(TypeError):
        hash(Bag("a"))


def test_a_frozen_record_does_not_change():
    point = Point(1)
    with pytest.raises(AttributeError):
        point.x = 2
    with pytest.raises(AttributeError):
        del point.x
    assert changed(point, x=4) == Point(4)


def test_fresh_defaults_are_not_shared():
    one, other = Bag("a"), Bag("b")
    one.items.append(1)
    assert other.items == [] and Bag("c", [3]).items == [3]


@record(eq=False)
class Tagged(Thing):
    tag: str = "none"

    def __post_init__(self):
        self.both = (self.value, self.tag)


def test_inherited_fields_come_first():
    assert Tagged(1).both == (1, "none")
    assert Tagged(tag="a", value=2).both == (2, "a")
    assert repr(Tagged(1)) == "Tagged(value=1, tag='none')"
    assert changed(Tagged(1, "b"), value=3).both == (3, "b")


def test_patterns():
    match Point(1, 7):
        case Point(x, y):
            assert (x, y) == (1, 7)
