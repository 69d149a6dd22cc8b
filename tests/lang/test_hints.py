"""Type hints are read: an argument that contradicts one is an error, with both sides named."""

from __future__ import annotations

import pytest
from same import f32, parse, same_everywhere

import cellc
from cellc import Tensor
from cellc.errors import ShapeFault, TypeFault


def rows(x: Tensor["f32[n,4]"], y: Tensor["f32[n]"], k: int = 2) -> Tensor:  # noqa: F821
    return x.sum(axis=1) * y * k


def half(x: cellc.float16, name: str = "h"):
    return x


def number(x: float):
    return x * 2


@same_everywhere((f32(3, 4), f32(3)), (f32(2, 4), f32(2), 3))
def test_hints_that_hold(x, y, k=1):
    return rows(x, y), rows(x, y, k), number(k)


@pytest.mark.parametrize("fn, args, kind, words", [
    (rows, (f32(3, 5), f32(3)), ShapeFault, r"x is f32\[3,5\], its hint says f32\[n,4\]"),
    (rows, (f32(3, 4), f32(2)), ShapeFault, r"y is f32\[2\], its hint says f32\[n\], n is 3"),
    (rows, (f32(3, 4), f32(3).astype("float64")), TypeFault, "its hint says f32"),
    (rows, (f32(3, 4), 2.0), TypeFault, "y is f64, its hint says"),
    (rows, (f32(3, 4), f32(3), 2.5), TypeFault, "k is f64, its hint says int"),
    (half, (f32(3),), TypeFault, "x is f32.3., its hint says f16"),
    (number, (f32(3),), TypeFault, "x is f32.3., its hint says float"),
])
def test_contradictions(fn, args, kind, words):
    with pytest.raises(kind, match=words):
        parse(lambda *xs: fn(*xs), *args)
