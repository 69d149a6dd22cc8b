"""What a loop's gradient needs is made on the tape, rows of arrays are read where they are: the
results are those of eager mode, and little is copied."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, context
from tests.agreement import define, difference

PROGRAMS = {
    "recurrence": """
        for i in range(x.shape[0]):
            h = ops.tanh(h * w + x[i])
        return (h * h).sum()""",
    "written in part": """
        for i in range(x.shape[0]):
            u = h * w
            u[1] = x[i, 0] * u[2]
            h = ops.tanh(u) + u
        return h.sum()""",
    "carried and kept": """
        s = h
        for i in range(x.shape[0]):
            g = ops.exp(h * 0.1)
            h = g * w + x[i]
            s = s * 0.5 + g * g
        return (s * h).sum()""",
    "kept by two": """
        for i in range(x.shape[0]):
            g = ops.sin(h)
            h = g * g * w + g * x[i] + ops.exp(g)
        return h.sum()""",
    "kept twice": """
        for i in range(x.shape[0]):
            g = ops.exp(h * 0.1)
            h = g * g * ops.tanh(h * 1.5) * w
        return h.sum()""",
    "loops in a loop": """
        for i in range(x.shape[0]):
            g = h * x[i]
            for j in range(9):
                g = ops.sin(g * w + x[j % 4])
            h = h * 0.5 + g
        return (h * h).sum()""",
    "a branch in a loop": """
        for i in range(x.shape[0]):
            if h.sum() > x[i, 0]:
                u = ops.exp(-h) * x[i]
            else:
                u = ops.tanh(h * w)
            h = u * w + x[i] * 0.1
        return h.sum()""",
    "rows that change": """
        y = x * 1.0
        for i in range(x.shape[0]):
            row = y[i]
            y[i] = row * w + h
            h = ops.tanh(row * h + y[i])
        return (y * y).sum() + h.sum()""",
    "rows read before and after": """
        y = x * 1.0
        for i in range(x.shape[0]):
            before = y[i]
            y[i] = before * before
            h = h * before + y[i]
        return h.sum()""",
    "changing sides": """
        a = h * 2.0
        for i in range(x.shape[0]):
            a, h = h, ops.sin(a) * w + x[i]
        return (a * h).sum()""",
    "left by data": """
        i = 0
        while i < x.shape[0]:
            h = ops.tanh(h * w) + x[i]
            if h.sum() > 3.0:
                break
            i = i + 1
        return (h * h).sum() + i""",
    "rows kept as they are": """
        s = h
        for i in range(x.shape[0]):
            row = x[i]
            s = s * row
            h = row
        return (s * h).sum()""",
    "rows of products": """
        m = ops.exp(x * 0.1)
        for i in range(x.shape[0]):
            h = ops.tanh((h.reshape(1, 5) @ (x.T @ x) * 0.1).reshape(5) + m[i] * w)
        return h.sum()""",
}


def arguments():
    rng = np.random.default_rng(3)
    return [Tensor(rng.normal(size=shape) * 0.7) for shape in ((12, 5), (5,), (5,))]


def made(name: str):
    return define("def program(x, w, h):\n" + PROGRAMS[name].strip("\n"))


def in_mode(mode: int, fn):
    before = context.get_context("mode")
    context.set_context(mode=mode)
    try:
        return fn(*arguments())
    finally:
        context.set_context(mode=before)


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_are_those_of_eager_mode(name):
    program = made(name)
    gradient = cellc.grad(program, argnums=(0, 1, 2))

    def second(x, w, h):
        return cellc.grad(lambda x, w: sum((g * g).sum() for g in gradient(x, w, h)),
                          argnums=(0, 1))(x, w)

    for fn in (program, gradient, second):
        eager, graph = (in_mode(mode, fn) for mode in (context.PYNATIVE_MODE, context.GRAPH_MODE))
        assert difference(eager, graph) is None


def inspected(name: str):
    """The gradient of a program, as it was compiled."""
    program = made(name)
    return cellc.inspect(lambda x, w, h: cellc.grad(program, argnums=(0, 1, 2))(x, w, h),
                         *arguments())


def test_little_is_copied():
    """Of the recurrence to the tape only the state that a round begins with; otherwise what loops
    begin with, and what comes home."""
    few, more = (inspected(name).llvm.count("call void @llvm.memcpy")
                 for name in ("recurrence", "carried and kept"))
    assert few <= 3 and more <= 5, (few, more)


def test_a_row_is_not_on_the_tape():
    text = str(inspected("recurrence").stages["parse"])
    popped = [line for line in text.splitlines() if " pop(" in line]
    assert len(popped) == 1 and "f64[5]" in popped[0]
    assert popped[0].count("f64[5]") <= 2 * 2, popped        # the state, and the new one
