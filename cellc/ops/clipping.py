"""Values and gradients held within bounds, one tensor or several at once."""

from __future__ import annotations

from cellc.ir import arith
from cellc.ops.common import narrowed, widened
from cellc.ops.elementwise import clip, sqrt, square
from cellc.ops.reduce import norm, sum
from cellc.ops.shape import concat, reshape


def _each(function, x):
    """The function on a tensor, or on each of a tuple or list of them."""
    return type(x)([function(v) for v in x]) if isinstance(x, (tuple, list)) else function(x)


def clip_by_value(x, clip_value_min=None, clip_value_max=None):
    """x held between the two, either of which may be None; of a tuple or list, each; see clip."""
    return _each(lambda v: clip(v, clip_value_min, clip_value_max), x)


def _over(total, bound):
    """total / bound where that is more than 1, else 1."""
    return arith.maximum(arith.div(total, bound), 1.0)


def _divided(x, by):
    """x / by in the dtype of x, where `by` may be of a wider one."""
    return narrowed(arith.div(x, by), x.dtype)


def clip_by_norm(x, max_norm, norm_type=2.0):
    """x scaled so that its norm is at most max_norm; several tensors by their common norm."""
    parts = x if isinstance(x, (tuple, list)) else (x,)
    total = norm(concat([reshape(widened(v), -1) for v in parts]), norm_type)
    return _each(lambda v: _divided(v, _over(total, max_norm)), x)


def clip_by_global_norm(x, clip_norm=1.0, use_norm=None):
    """The tensors of a tuple or list, all scaled so that their common norm is at most clip_norm.

    `use_norm`: the norm, where it is known already. Returns a tuple.
    Source: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent networks, 2013.
    """
    total = use_norm
    if total is None:
        squares = [sum(square(widened(v))) for v in x]
        total = squares[0]
        for other in squares[1:]:
            total = arith.add(total, other)
        total = sqrt(total)
    return tuple([_divided(v, _over(total, clip_norm)) for v in x])
