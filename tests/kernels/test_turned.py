"""Arrays that are read along one axis and written along another."""

import numpy as np
import pytest

from cellc.ir.prims import elementwise as e
from cellc.ir.prims import shape as s
from cellc.ir.types import TensorType, bf16, boolean, f16, f32, f64, i8, i32, i64
from cellc.kernels.group import describe
from cellc.kernels.target import TARGETS, host
from tests.kernel_runner import agree, build


def t(*sizes, dtype=f32):
    return TensorType(dtype, sizes)


def turned(x):
    return s.transpose(x, perm=(1, 0))


def of_both_kinds(x, y):
    """One operand read across, one along."""
    return e.sub(turned(x), y)


def written_across(x, y):
    """Two results, of which one lies across the other."""
    z = e.mul(x, y)
    return z, e.add(turned(z), turned(x))


SHAPES = ((32, 32), (40, 33), (33, 2048), (130, 47), (600, 650), (16, 96))
DTYPES = (f32, f64, i32, i64, f16, bf16, i8, boolean)


@pytest.mark.parametrize("cpu", [None, "x86-64-v3", "x86-64"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_transposes(shape, dtype, cpu):
    agree(build(turned, t(*shape, dtype=dtype)), shared=True,
          target=None if cpu is None else TARGETS[cpu])


@pytest.mark.parametrize("cpu", [None, "x86-64-v3"])
@pytest.mark.parametrize("dtype", [f32, f64, i32], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_lies_along_and_across(shape, dtype, cpu):
    target = None if cpu is None else TARGETS[cpu]
    agree(build(of_both_kinds, t(*shape, dtype=dtype), t(*shape[::-1], dtype=dtype)), shared=True,
          target=target)
    agree(build(written_across, t(*shape, dtype=dtype), t(*shape, dtype=dtype)), shared=True,
          target=target)


@pytest.mark.parametrize("perm", [(0, 2, 1), (2, 0, 1), (1, 2, 0), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("sizes", [(3, 40, 50), (35, 3, 48), (64, 32, 5), (1, 530, 64)])
def test_permutations(perm, sizes):
    agree(build(lambda x: e.exp(s.transpose(x, perm=perm)), t(*sizes)), shared=True)


def test_part_of_an_array():
    """Reversed, from inside, with steps."""
    x = np.random.default_rng(1).standard_normal((70, 90)).astype(np.float32)
    for start, stop, step in (((3, 5), (68, 85), (1, 1)), ((0, 1), (70, 90), (1, 2)),
                              ((5, 0), (70, 89), (2, 1))):
        agree(build(lambda x, a=start, b=stop, c=step: turned(s.slice(
            x, starts=a, stops=b, steps=c)), t(70, 90)), x)
    agree(build(lambda x: turned(s.flip(x, axes=(0,))), t(70, 90)), x)
    agree(build(lambda x: turned(s.flip(x, axes=(1,))), t(70, 90)), x)
    agree(build(lambda x: turned(s.pad(x, low=(1, 2), high=(0, 3), value=0.0)), t(70, 90)), x)


def test_large_ones_are_walked_in_tiles_beside_one_another():
    assert "i0m i0i" in describe(build(turned, t(2048, 2048)), host())
    assert "i0m" not in describe(build(turned, t(128, 128)), host())
