"""Tiles and back: against the interpreter, in rows of tiles that fill vectors and that do not."""

import dataclasses

import numpy as np
import pytest

from cellc.errors import ShapeFault, SymbolicFault
from cellc.ir.graph import Apply, Graph, Input
from cellc.ir.prims.tiles import join_tiles, tiles
from cellc.ir.types import Dim, TensorType, dtype
from cellc.kernels import tiles as module
from cellc.kernels.target import TARGETS, host
from cellc.passes.winograd import basis
from tests.kernel_runner import Compiled, agree, random_array

HOSTS = [host(), *(dataclasses.replace(TARGETS[name], cores=host().cores)
                   for name in ("x86-64", "x86-64-v3", "x86-64-v4"))]
RUN = [t for t in HOSTS if set(filter(None, t.features.split(","))) <= set(
    host().features.split(","))]
BY = basis()

# name -> image, tiles of a row and column, zeros before, order of the leading axes
IMAGES = {
    "rows of whole vectors": ((2, 3, 12, 64), (3, 16), (0, 0), (1, 0)),
    "some rows in a buffer": ((3, 2, 22, 47), (6, 12), (1, 1), (1, 0)),
    "longer than a buffer": ((1, 2, 9, 401), (3, 101), (1, 1), (0, 1)),
    "as long as one": ((2, 7, 256), (2, 64), (0, 1), (0,)),
    "narrow": ((2, 5, 14, 14), (4, 4), (1, 1), (1, 0)),
    "one tile": ((9, 5, 3, 3), (1, 1), (0, 0), (0, 1)),
    "one tile each, turned": ((4, 3, 6, 4), (1, 1), (1, 0), (1, 0)),
    "nothing leads": ((31, 70), (8, 18), (2, 3), ()),
    "three axes lead": ((2, 3, 2, 8, 9), (2, 3), (1, 1), (2, 0, 1)),
    "mostly outside": ((2, 3, 2, 2), (2, 20), (5, 1), (1, 0)),
    "no image": ((0, 3, 8, 8), (2, 2), (1, 1), (1, 0)),
    "no tiles": ((2, 3, 8, 8), (2, 0), (1, 1), (1, 0)),
    "no pixels": ((2, 3, 0, 8), (1, 2), (1, 1), (1, 0)),
}


def forth(case, of="f32", matrix=BY.pixels, step=4):
    shape, counts, low, lead = IMAGES[case]
    x = Input(TensorType(dtype(of), shape), "x")
    node = Apply(tiles, (x,), {"matrix": matrix, "step": step, "counts": counts, "low": low,
                               "lead": lead})
    return Graph("forth", [x], [node], node)


def back(case, of="f32", matrix=BY.outputs[4], less=1):
    shape, counts, _, lead = IMAGES[case]
    n, size = len(matrix[0]), len(matrix)
    x = Input(TensorType(dtype(of), (n, n, *(shape[i] for i in lead), *counts)), "x")
    node = Apply(join_tiles, (x,), {
        "matrix": matrix, "lead": tuple(np.argsort(lead).tolist()),
        "shape": tuple(max(c * size - less, 0) for c in counts)})
    return Graph("back", [x], [node], node)


@pytest.mark.parametrize("target", RUN, ids=lambda t: f"{t.name} {t.vector_bits}")
@pytest.mark.parametrize("case", IMAGES)
def test_every_image(case, target):
    for graph in (forth(case), forth(case, matrix=BY.weights[4]), forth(case, step=7),
                  back(case), back(case, less=0), back(case, matrix=BY.outputs[3], less=2)):
        agree(graph, target=target)


@pytest.mark.parametrize("of", ["f64", "f16", "bf16"])
@pytest.mark.parametrize("case", ["some rows in a buffer", "narrow", "one tile"])
def test_every_dtype(case, of):
    tolerance = {"f64": 1e-12, "f16": 0.1, "bf16": 0.8}[of]     # of sums of numbers as large as 40
    agree(forth(case, of), tolerance=tolerance)
    agree(back(case, of), tolerance=tolerance)


@pytest.mark.parametrize("case", ["narrow", "one tile", "mostly outside", "three axes lead"])
def test_places_of_large_images(case, monkeypatch):
    monkeypatch.setattr(module, "LARGE", 1)
    agree(forth(case))
    agree(back(case))


@pytest.mark.parametrize("make", [forth, back])
def test_any_number_of_tasks(make):
    for case in ("some rows in a buffer", "longer than a buffer", "narrow"):
        graph = make(case)
        compiled = Compiled(graph, dataclasses.replace(host(), threads=7))
        (phase, _), = compiled.kernel.phases
        compiled.kernel.phases[:] = [(phase, 7)]
        x = random_array(graph.inputs[0].type)
        first = compiled(x, n_tasks=1)
        for n in (2, 3, 7):
            np.testing.assert_array_equal(compiled(x, n_tasks=n), first)


def test_large_work_is_shared():
    x = Input(TensorType(dtype("f32"), (8, 64, 56, 56)), "x")
    node = Apply(tiles, (x,), {"matrix": BY.pixels, "step": 4, "counts": (14, 14), "low": (1, 1),
                               "lead": (1, 0)})
    kernel = Compiled(Graph("g", [x], [node], node), dataclasses.replace(host(), threads=5)).kernel
    assert [tasks for _, tasks in kernel.phases] == [5] and not kernel.short


def test_a_nan_stays_in_its_tile():
    graph = forth("rows of whole vectors")
    x = random_array(graph.inputs[0].type)
    x[1, 2, 5, 21] = np.nan                     # of rows 0-5 and 4-9, columns 16-21 and 20-25
    y = Compiled(graph)(x)
    at = {tuple(i) for i in np.argwhere(np.isnan(y).any((0, 1))).tolist()}
    assert at == {(2, 1, row, column) for row in (0, 1) for column in (4, 5)}


@pytest.mark.parametrize("attrs, what", [
    ({"lead": (0, 0)}, "expected each axis once"), ({"lead": (0,)}, "leading axes"),
    ({"step": 0}, "step 0"), ({"counts": (1,)}, "two of each"), ({"low": (-1, 0)}, "0 or more"),
    ({"matrix": ((1.0,), (1.0, 2.0))}, "rows of lengths")])
def test_tiles_are_checked(attrs, what):
    x = TensorType(dtype("f32"), (2, 3, 8, 8))
    with pytest.raises(ShapeFault, match=what):
        tiles.types(x, **{"matrix": ((1.0,),), "step": 1, "counts": (1, 1), "low": (0, 0),
                          "lead": (0, 1)} | attrs)


@pytest.mark.parametrize("shape, attrs", [
    ((3, 2, 5, 2, 2), {}), ((2, 2, 5, 2, 2), {"shape": (7, 2)}), ((2, 2, 5, 2), {}),
    ((2, 2, 5, 2, 2), {"lead": (1,)}), ((2, 2, 5, 2, 2), {"shape": (2,)})])
def test_joins_are_checked(shape, attrs):
    with pytest.raises(ShapeFault):
        join_tiles.types(TensorType(dtype("f32"), shape), **{
            "matrix": ((1.0, 0.0),) * 3, "shape": (6, 6), "lead": (0,)} | attrs)


def test_symbolic_sizes_are_refused():
    x = Input(TensorType(dtype("f32"), (Dim("n"), 8, 8)), "x")
    node = Apply(tiles, (x,), {"matrix": BY.pixels, "step": 4, "counts": (2, 2), "low": (0, 0),
                               "lead": (0,)})
    with pytest.raises(SymbolicFault):
        Compiled(Graph("g", [x], [node], node), symbols=("n",))
