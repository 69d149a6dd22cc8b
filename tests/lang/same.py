"""`@same_everywhere(args, ...)`: an ordinary Python function as a test of the language.

The function is called as Python calls it, on eager tensors and numbers; parsed and interpreted; and
compiled. All must give the same structure, types and values.
"""

import functools

import numpy as np
import pytest

import cellc
from cellc import Tensor, context
from cellc.ir.check import check
from cellc.ir.interpret import interpret
from cellc.ir.types import ScalarType, TensorType, dtype
from cellc.parser.trace import trace
from cellc.parser.values import Leaf, unflatten


def leaf_type(value):
    """The type of a traced argument; None for a known one."""
    if isinstance(value, (Tensor, np.ndarray)):
        return TensorType(dtype(value.dtype), tuple(value.shape))
    if isinstance(value, (bool, int, float)):
        return ScalarType(dtype(type(value)))
    return None


def with_leaves(value, found: list):
    """The argument with markers for what is traced, which is appended to `found`."""
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(with_leaves(x, found) for x in value)
    if isinstance(value, (tuple, list)):
        return type(value)(with_leaves(x, found) for x in value)
    if isinstance(value, dict):
        return {k: with_leaves(x, found) for k, x in value.items()}
    type_ = leaf_type(value)
    if type_ is None:
        return value
    found.append(value)
    return Leaf(type_)


def as_array(value):
    return np.asarray(value._array) if isinstance(value, Tensor) else value


def parse(fn, *args, **kwargs):
    """(Traced, the values of its traced arguments)."""
    values = []
    given = with_leaves(args, values)
    named = with_leaves(kwargs, values)
    traced = trace(fn, given, named, getattr(fn, "__name__", type(fn).__name__))
    check(traced.graph)
    return traced, values


def interpreted(fn, *args, **kwargs):
    """What the parsed function returns, by the interpreter; assigned Parameters are set."""
    return run_traced(*parse(fn, *args, **kwargs))


def run_traced(traced, values):
    """What a parsed function returns for the values of its traced arguments."""
    arrays = [as_array(x) for x in (*values, *traced.captured)]
    found = interpret(traced.graph, *arrays)
    results = list(found) if len(traced.graph.results) != 1 or isinstance(found, tuple) else [found]
    results = [to_value(x, node.type)
               for x, node in zip(results, traced.graph.results, strict=True)]
    for parameter, index in traced.assigned:
        parameter.set_data(results[index])
    return unflatten(traced.structure, results)


def to_value(array, type):
    if isinstance(type, ScalarType):
        return np.asarray(array).item()
    return Tensor(np.asarray(array))


def assert_same(found, expected, where="the result", relative=1e-12, absolute=0.0):
    """The same structure, types and values; the tolerances are those of Python's floats."""
    close = relative, absolute
    if isinstance(expected, Tensor):
        assert isinstance(found, Tensor), f"{where}: {found!r} is no tensor"
        assert found.type == expected.type, f"{where}: {found.type}, expected {expected.type}"
        np.testing.assert_allclose(found.asnumpy(), expected.asnumpy(), rtol=2e-6, atol=1e-6,
                                   err_msg=where)
    elif isinstance(expected, (tuple, list)):
        assert type(found) is type(expected), f"{where}: {found!r}, expected {expected!r}"
        assert len(found) == len(expected), f"{where}: {found!r}, expected {expected!r}"
        for i, (a, b) in enumerate(zip(found, expected)):
            assert_same(a, b, f"{where}[{i}]", *close)
    elif isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}[{key!r}]", *close)
    else:
        # Two branches give one type: an int in one and a float in the other are floats in both.
        widened = type(found) is float and type(expected) is int
        assert widened or type(found) is type(expected), f"{where}: {found!r}, not {expected!r}"
        if isinstance(expected, float):
            np.testing.assert_allclose(found, expected, relative, absolute, err_msg=where)
        else:
            assert found == expected, f"{where}: {found!r}, expected {expected!r}"


def in_mode(mode, fn, args):
    """Call in a mode, and put back the one that was."""
    before = context.get_context("mode")
    context.set_context(mode=mode)
    try:
        return fn(*args)
    finally:
        context.set_context(mode=before)


def same_everywhere(*cases, compiled=True):
    """Decorator: the function on each tuple of arguments (or one argument that is none)."""
    def decorate(fn):
        @pytest.mark.parametrize("args", [c if isinstance(c, tuple) else (c,) for c in cases],
                                 ids=lambda args: "-".join(map(short, args)))
        def test(args):
            expected = in_mode(context.PYNATIVE_MODE, fn, args)
            assert_same(interpreted(fn, *args), expected, "interpreted")
            if compiled:
                assert_same(in_mode(context.GRAPH_MODE, functools.partial(cellc.jit(fn)), args),
                            expected, "compiled")

        test.__doc__ = fn.__doc__
        return test

    return decorate


def gradient_agrees(fn, *args):
    """The gradients of a scalar function by all float tensors: graph mode against the tape."""
    at = tuple(i for i, x in enumerate(args) if isinstance(x, Tensor))
    gradient = cellc.grad(fn, at)
    expected = in_mode(context.PYNATIVE_MODE, gradient, args)
    assert_same(in_mode(context.GRAPH_MODE, gradient, args), expected, "the gradient")
    arrays = [expected] if isinstance(expected, Tensor) else expected
    assert any(np.any(x.asnumpy()) for x in arrays), "a gradient of zero shows nothing"


def short(value) -> str:
    if isinstance(value, Tensor):
        return str(value.type)
    return str(value)[:20]


def f32(*shape, low=-2.0, high=2.0, seed=0):
    """A float32 tensor of different values."""
    draw = np.random.default_rng(seed + sum(shape)).uniform
    return Tensor(draw(low, high, shape).astype(np.float32))


def i32(*shape, low=0, high=10):
    return Tensor(np.random.default_rng(sum(shape)).integers(low, high, shape).astype(np.int32))
