"""Random numbers: Philox counters under one global key.

The state is a Parameter (seed, offset): each draw reads it and adds one to the offset. Compiled,
that is an ordinary effect of the program, so the same seed gives the same numbers in both modes,
in any order of threads. `set_seed` starts over; the `seed` of a single draw is MindSpore's, and
changes nothing. Discrete and uniform draws have no gradient; a normal draw is constant plus scale,
so its mean and deviation have.
"""

from __future__ import annotations

import math

import numpy as np

from cellc.errors import TypeFault, ValueFault
from cellc.ir import arith
from cellc.ir.graph import fill
from cellc.ir.prims import elementwise as e
from cellc.ir.prims.random import random_bits
from cellc.ir.types import TensorType, bf16, dtype, f16, f32, f64, i64, u32
from cellc.ops.common import constant, known_int, tensor_of
from cellc.ops.indexing import argsort
from cellc.ops.shape import full, shape_args
from cellc.parameter import Parameter, assign
from cellc.tensor import Tensor

state = Parameter(Tensor(np.array([0, 0], np.uint64)), name="random_state", requires_grad=False)
_numpy: dict[str, object] = {"seed": 0, "generator": None}


def set_seed(seed: int) -> None:
    """Start all random numbers over from a seed: those of programs and those of initialisers.

    Errors: TypeFault unless it is an int; ValueFault unless 0 <= seed < 2**64.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeFault(f"found seed {seed!r}, expected an int")
    if not 0 <= seed < 2**64:
        raise ValueFault(f"found seed {seed}, expected 0 <= seed < 2**64")
    state.set_data(Tensor(np.array([seed, 0], np.uint64)))
    _numpy.update(seed=int(seed), generator=None)


def numpy_generator() -> np.random.Generator:
    """The generator of initial weights, made late because np.random takes time to import."""
    if _numpy["generator"] is None:
        _numpy["generator"] = np.random.Generator(np.random.Philox(_numpy["seed"]))
    return _numpy["generator"]


def bits(shape):
    """Uniform 32-bit words -> u32; advances the state."""
    words = random_bits(state, shape=shape)
    assign(state, arith.add(state, constant(np.array([0, 1], np.uint64))))
    return words


def _unit(shape, kind, open_below=False):
    """Uniform in [0, 1), or in (0, 1] with `open_below`: multiples of 2**-24 (f64: 2**-53)."""
    if kind is f64:
        high = e.cast(e.shr(bits(shape), _filled(shape, 5)), dtype=f64)
        low = e.cast(e.shr(bits(shape), _filled(shape, 6)), dtype=f64)
        whole, step = arith.add(arith.mul(high, 2.0**26), low), 2.0**-53
    else:
        whole, step = e.cast(e.shr(bits(shape), _filled(shape, 8)), dtype=f32), 2.0**-24
    return arith.mul(arith.add(whole, 1.0) if open_below else whole, step)


def _filled(shape, value):
    return fill(TensorType(u32, shape), value)


def _float_kind(given):
    kind = dtype(given) if given is not None else f32
    if not kind.is_float:
        raise TypeFault(f"random floats of dtype {kind}", "use randint")
    return kind


def rand(*size, dtype=None):
    """Uniform in [0, 1)."""
    kind = _float_kind(dtype)
    y = _unit(shape_args(size), kind)
    if kind in (f16, bf16):      # rounding up must not give 1
        y = arith.minimum(arith.cast(y, kind), 1 - 2.0 ** (-11 if kind is f16 else -8))
    return arith.cast(y, kind)


def uniform(shape, minval=0.0, maxval=1.0, seed=None, dtype=None):
    """Uniform in [minval, maxval)."""
    kind = _float_kind(dtype)
    y = _unit(shape_args((shape,)), kind)
    return arith.cast(arith.add(arith.mul(y, arith.sub(maxval, minval)), minval), kind)


def randn(*size, dtype=None):
    """Normal with mean 0 and deviation 1. Source: Box and Muller, 1958."""
    kind = _float_kind(dtype)
    shape = shape_args(size)
    radius = e.sqrt(arith.mul(e.log(_unit(shape, kind, open_below=True)), -2.0))
    angle = arith.mul(_unit(shape, kind), 2 * math.pi)
    return arith.cast(arith.mul(radius, e.cos(angle)), kind)


def normal(shape, mean=0.0, stddev=1.0, seed=None, dtype=None):
    """Normal with a mean and a deviation."""
    return arith.add(arith.mul(randn(shape_args((shape,)), dtype=dtype), stddev), mean)


standard_normal = randn


def randint(low, high, size, dtype=None):
    """Whole numbers in [low, high) -> i64 by default; known bounds, less than 2**32 apart."""
    low, high = known_int(low, "low"), known_int(high, "high")
    if not 0 < high - low < 2**32:
        raise ValueFault(f"randint: found {low} to {high}, expected low < high < low + 2**32")
    shape = shape_args((size,))
    scaled = e.mulhi(bits(shape), _filled(shape, high - low))     # floor(word * n / 2**32)
    return arith.cast(arith.add(e.cast(scaled, dtype=i64), low), globals()["dtype"](dtype or i64))


def randperm(n):
    """0 to n - 1 in a random order -> i64."""
    return argsort(e.cast(bits((known_int(n, "n"),)), dtype=i64))


def bernoulli(x, p=0.5):
    """1 with chance p (a number or a tensor), else 0, in the shape and dtype of x."""
    x = tensor_of(x)
    chance = p if not hasattr(p, "shape") else arith.broadcast_to(tensor_of(p), x.shape)
    return arith.cast(arith.less(_unit(x.shape, f32), chance), x.dtype)


def dropout(x, p=0.5, training=True, seed=None):
    """x with each element zero with chance p, the others divided by 1 - p; x if not training.

    Dtypes:   floats -> same. p is a known number, 0 <= p <= 1.
    Errors:   ValueFault for p outside.
    Gradient: g where the element was kept, divided by 1 - p.
    Source:   Srivastava et al., Dropout, 2014.
    """
    if not isinstance(p, (int, float)) or isinstance(p, bool) or not 0 <= p <= 1:
        raise ValueFault(f"dropout: found p {p!r}, expected a known number from 0 to 1")
    if not training or p == 0:
        return x
    x = tensor_of(x)
    if p == 1:
        return full(x.shape, 0, dtype=x.dtype)
    keep = e.ge(bits(x.shape), _filled(x.shape, round(p * 2**32) if p < 1 else 2**32 - 1))
    return e.select(keep, arith.mul(x, 1.0 / (1.0 - p)), fill(arith.type_of(x), 0))
