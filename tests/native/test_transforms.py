"""The batch and jvp of every primitive, compiled, against the interpreter."""

import itertools

import numpy as np
import pytest

from cellc.ir.graph import Builder
from cellc.ir.interpret import interpret
from cellc.ir.prims import control
from cellc.native import run_graph
from cellc.passes.jvp import jvp_graph
from cellc.passes.vmap import batch_graph
from tests.native.test_primitives import close
from tests.passes.test_vmap import CASES, N, lanes_of
from tests.prims import cases

BY_NAME = {name: [case for _, case in group] for name, group in itertools.groupby(
    CASES.items(), key=lambda item: item[1][0].name)}


def transformed(prim, operands, attrs, own):
    """(graph, arrays): the primitive on lanes; and with tangents, where all have lanes."""
    graph = cases.graph_of(prim, operands, attrs)
    arrays = [lanes_of(x, N, i) if has else x
              for i, (x, has) in enumerate(zip(operands, own, strict=True))]
    lanes = batch_graph(graph, own, N).graph
    yield lanes, arrays
    wrt = tuple(i for i, x in enumerate(operands) if x.dtype == np.float64)
    if all(own) and wrt and prim.jvp is not None and graph.type.dtype.is_float:
        draw = np.random.default_rng(1).normal
        yield jvp_graph(lanes, wrt, (0,)), [*arrays, *(draw(size=arrays[i].shape) for i in wrt)]


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_compiled_equals_interpreted(name):
    """All cases of a primitive are one graph, so that they compile side by side."""
    chosen = [each for case in BY_NAME[name] for each in transformed(*case)]
    with Builder(name) as b:
        values, expected = [], []
        for graph, arrays in chosen:
            value = control.call(*(b.input(x.type, "x") for x in graph.inputs), graph=graph)
            found = interpret(graph, *arrays)
            many = isinstance(found, tuple)
            values += [control.item(value, index=i) for i in range(len(found))] if many else [value]
            expected += found if many else [found]
        whole = b.finish(control.tuple(*values))
    found = run_graph(whole, *(x for _, arrays in chosen for x in arrays))
    size = max(x.size for _, arrays in chosen for x in arrays)
    for a, e in zip(found, expected, strict=True):
        close(np.asarray(a), np.asarray(e), 16 * size)
