"""Generated programs: graph mode gives what eager mode gives, values and gradients.

Hypothesis draws small Python functions as source text (assignments, operators, calls, known and
data-dependent `if`, loops over known ranges, tuples), and both modes run them on the same inputs.
"""

import itertools
import linecache
import textwrap

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cellc
from cellc import Tensor, ops
from cellc.errors import CellcError

_numbers = itertools.count()
SHAPES = {"a": (3, 4), "b": (4,), "c": (3, 1), "s": ()}
UNARY = ("ops.tanh({})", "ops.sigmoid({})", "ops.relu({})", "ops.abs({})", "-{}",
         "ops.exp(-({} * {}))", "ops.sin({})", "{} ** 2")
BINARY = ("({} + {})", "({} - {})", "({} * {})", "ops.maximum({}, {})", "({} / (1.0 + {} * {}))",
          "ops.where({} > {}, {} + 0.0 * s, {})")     # of two numbers it would be an f32
REDUCE = ("ops.reduce_sum({}, -1, True)", "ops.mean({}, 0)", "ops.amax({}, -1, True)")


@st.composite
def expressions(draw, names, depth=2):
    """An expression over the names in scope; every one broadcasts with every other."""
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from([*names, "0.5", "2", "k"]))
    form = draw(st.sampled_from(UNARY + BINARY))
    parts = [draw(expressions(names, depth - 1)) for _ in range(form.count("{}"))]
    return form.format(*parts)


@st.composite
def blocks(draw, names, depth=2, targets=None):
    """Statements that may rebind names in scope, and the names in scope after them.

    `targets` are the names that a branch may rebind: those of one shape on both sides.
    """
    lines = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["assign"] * 4 + ["if", "if_data", "for", "reduce"]))
        target = draw(st.sampled_from(targets or [*names, "t", "u"]))
        if kind == "assign" or depth == 0:
            lines.append(f"{target} = {draw(expressions(names))} + 0.0 * a")
        elif kind == "reduce":
            source = draw(expressions(names))
            reduced = draw(st.sampled_from(REDUCE)).format(f"({source} + 0.0 * a)")
            lines.append(f"{target} = {reduced} + 0.0 * a")
        elif kind == "for":
            body, _ = draw(blocks(names, 0, targets))
            lines.append(f"for i in range({draw(st.integers(0, 3))}):")
            lines.append(textwrap.indent(body, "    "))
            continue
        else:
            condition = ("k > 1" if kind == "if"
                         else f"ops.reduce_sum({draw(st.sampled_from(names))}) > 0.0")
            then, _ = draw(blocks(names, 0, ["a", "t", "u"]))
            other, _ = draw(blocks(names, 0, ["a", "t", "u"]))
            # What a branch alone defines is out of scope behind it: every name is bound before.
            lines.append(f"t = u = a\nif {condition}:")
            lines.append(textwrap.indent(then, "    "))
            lines.append("else:")
            lines.append(textwrap.indent(other, "    "))
            names = sorted({*names, "t", "u"})
            continue
        names = sorted({*names, target})
    return "\n".join(lines), names


@st.composite
def programs(draw):
    body, names = draw(blocks(["a", "b", "c", "s"]))
    result = draw(expressions(names))
    return (f"def program(a, b, c, s, k=2):\n    t = u = a\n{textwrap.indent(body, '    ')}\n"
            f"    return ops.reduce_sum(({result}) * a)\n")


def define(source):
    """The function, with its source where tracebacks and the parser look for it."""
    name = f"<generated {next(_numbers)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    scope = {"ops": ops}
    exec(compile(source, name, "exec"), scope)
    return scope["program"]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs(), st.integers(0, 2**32 - 1))
def test_graph_mode_gives_what_eager_mode_gives(source, seed):
    program = define(source)
    rng = np.random.default_rng(seed)
    inputs = [Tensor(rng.normal(size=shape)) for shape in SHAPES.values()]     # f64
    try:
        eager = program(*inputs)
    except CellcError as fault:                         # then graph mode refuses it as well
        with pytest.raises(type(fault)):
            cellc.jit(program)(*inputs)
        return
    compiled = cellc.jit(program)(*inputs)
    assert np.allclose(compiled.asnumpy(), eager.asnumpy(), rtol=1e-9, atol=1e-9, equal_nan=True)

    expected = cellc.grad(program, argnums=(0, 1, 2))(*inputs)
    found = cellc.jit(lambda *xs: cellc.grad(program, argnums=(0, 1, 2))(*xs))(*inputs)
    for e, f in zip(expected, found, strict=True):
        assert np.allclose(f.asnumpy(), e.asnumpy(), rtol=1e-8, atol=1e-8, equal_nan=True)
