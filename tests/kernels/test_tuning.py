"""Schedules by measurement: all that are tried give the same bits, the fastest is remembered."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, ops
from cellc.errors import ValueFault
from cellc.kernels import engine, runtime, tuning
from cellc.kernels.gemm_plan import Tile, arrange, schedule
from cellc.kernels.gemm_view import Axis, Operand
from cellc.kernels.target import TARGETS, host
from cellc.record import changed

TARGET = dataclasses.replace(host(), tuned=True)


def matrix(dtype, batch, rows, cols):
    return Operand(dtype, *(tuple(Axis(*axis) for axis in axes) for axes in (batch, rows, cols)))


def plain(m, n, k, dtype="f32"):
    return (matrix(dtype, (), [(m, k)], [(k, 1)]), matrix(dtype, (), [(k, n)], [(n, 1)]),
            matrix(dtype, (), [(m, n)], [(n, 1)]))


def turned(m, n, k):
    return (matrix("f32", (), [(m, 1)], [(k, m)]), matrix("f32", (), [(k, 1)], [(n, k)]),
            matrix("f32", (), [(m, n)], [(n, 1)]))


def windows(images, channels, out, size):
    """A 3x3 convolution of padded images."""
    wide = size + 2
    return (matrix("f32", [(images, 0)], [(out, 9 * channels)], [(9 * channels, 1)]),
            matrix("f32", [(images, channels * wide**2)],
                   [(channels, wide**2), (3, wide), (3, 1)], [(size, wide), (size, 1)]),
            matrix("f32", [(images, out * size**2)], [(out, size**2)], [(size, size), (size, 1)]))


def bytes_(m, n, k):
    a, b, c = plain(m, n, k, "i8")
    return a, b, changed(c, dtype="i32")


PRODUCTS = {
    "small": plain(10, 30, 20), "odd": plain(77, 130, 401), "long": plain(40, 48, 5000),
    "in halves": plain(33, 100, 64, "f16"), "in f64": plain(50, 70, 90, "f64"),
    "turned": turned(60, 128, 96), "windows": windows(2, 5, 24, 14), "bytes": bytes_(40, 64, 70),
    "a row": plain(1, 300, 200), "a column": plain(64, 1, 100),
    "batch": (matrix("f32", [(6, 800)], [(20, 40)], [(40, 1)]),
              matrix("f32", [(6, 1600)], [(40, 40)], [(40, 1)]),
              matrix("f32", [(6, 800)], [(20, 40)], [(40, 1)])),
}


def planned(name, target=TARGET):
    p = arrange(*PRODUCTS[name], target)
    return p, schedule(p, target)


def result(p, s, target) -> bytes:
    """What a schedule computes of values that do not depend on it."""
    trial = tuning.Trial(p, s, target)
    r = np.random.default_rng(0)
    for view, array in zip((p.b, p.a) if p.arrangement.swapped else (p.a, p.b), trial.arrays,
                           strict=False):
        kind = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "i8": np.int8}[view.dtype]
        values = array.view(kind)
        values[:] = r.integers(-99, 99, values.size) if kind is np.int8 else r.normal(
            size=values.size)
    trial.run()
    if s.partial:                       # sums of parts, which another function adds up
        size = s.parts * p.batches * p.m * p.n * (8 if p.sum_dtype == "f64" else 4)
        return trial.arrays[3][:size].tobytes()
    return trial.arrays[2].tobytes()


@pytest.mark.parametrize("name", PRODUCTS)
def test_all_that_is_tried_gives_the_same_bits(name):
    targets = [TARGET]
    if "+avx2" in host().features:
        targets.append(dataclasses.replace(TARGETS["x86-64-v3"], cores=TARGET.cores, tuned=True))
    for target in targets:
        p, model = planned(name, target)
        right = result(p, model, target)
        tried = 0
        for others in (tuning.tiles, tuning.copies, tuning.blocks):
            for s in others(p, model, target):
                tried += 1
                assert s.block_n % s.width == 0
                assert result(p, s, target) == right, s
        assert tried >= 3


# -- choosing --------------------------------------------------------------------------------------
@pytest.fixture
def clock(monkeypatch):
    """A machine on which a run takes what `cost` says of its schedule; and the schedules run."""
    class Clock:
        ran: list = []

        @staticmethod
        def cost(s) -> float:
            return 1.0

    class Trial:
        def __init__(self, p, s, target):
            self.schedule = s

        def seconds(self, runs):
            Clock.ran.append(self.schedule)
            return Clock.cost(self.schedule)

    Clock.ran = []
    monkeypatch.setattr(tuning, "Trial", Trial)
    monkeypatch.setattr(runtime, "cache_dir", lambda: None)
    engine.forget()
    return Clock


def test_the_fastest_is_taken(clock):
    p, model = planned("odd")
    wanted = list(tuning.tiles(p, model, TARGET))[3].tile

    def cost(s):
        tile = 0.5 if s.tile == wanted else 1.0
        return tile * (0.5 if s.pack_a == "rows" else 1.0) * (1 + s.block_n / 1e2)

    clock.cost = staticmethod(cost)
    found = tuning.best(p, model, TARGET)
    assert found.tile == wanted and found.pack_a == "rows"
    assert found.block_n == tuning.with_columns(found, model.block_n // 2).block_n


def test_what_is_hardly_faster_is_not(clock):
    p, model = planned("odd")
    clock.cost = staticmethod(lambda s: 1.0 if s == model else 0.98)
    assert tuning.best(p, model, TARGET) == model


def test_it_is_measured_once(clock):
    p, model = planned("turned")
    clock.cost = staticmethod(lambda s: float(s.tile.rows * s.tile.vectors))
    first = tuning.best(p, model, TARGET)
    assert clock.ran and first != model
    clock.ran.clear()
    assert tuning.best(p, model, TARGET) == first and not clock.ran
    for other in (dataclasses.replace(TARGET, threads=TARGET.threads + 1),
                  dataclasses.replace(TARGET, l2_bytes=1 << 18)):
        tuning.best(p, model, other)
        assert clock.ran, "another machine is measured for itself"
        clock.ran.clear()
    tuning.best(p, changed(model, tile=Tile(3, 1, 1.0)), TARGET)
    assert clock.ran, "another model is as well"


@pytest.mark.parametrize("shape", [(20000, 20000, 20000), (1, 100_000, 4000)])
def test_large_products_are_left_to_the_model(clock, shape):
    p = arrange(*plain(*shape), TARGET)
    model = schedule(p, TARGET)
    assert tuning.best(p, model, TARGET) is model and not clock.ran


# -- the setting -----------------------------------------------------------------------------------
def product(x, w):
    return ops.relu(ops.matmul(x, w) + 1.0)


def test_only_where_it_is_asked_for(monkeypatch):
    seen = []
    measured = tuning._measured
    monkeypatch.setattr(tuning, "_measured", lambda *a: seen.append(a) or measured(*a))
    r = np.random.default_rng(0)
    x, w = (Tensor(r.normal(size=s).astype(np.float32)) for s in ((45, 70), (70, 210)))
    plain_ = cellc.jit(lambda x, w: product(x, w))(x, w).asnumpy()
    assert not seen
    context.set_context(autotune=True)
    tuned = cellc.jit(lambda x, w: product(x, w))(x, w).asnumpy()
    assert len(seen) == 1
    assert tuned.tobytes() == plain_.tobytes()


def test_sizes_that_are_not_known_are_left_to_the_model():
    context.set_context(autotune=True)
    fn = cellc.jit(lambda x, w: product(x, w))
    w = Tensor(np.ones((8, 24), np.float32))
    for n in (3, 5, 7, 9):
        np.testing.assert_array_equal(fn(Tensor(np.ones((n, 8), np.float32)), w).asnumpy(), 9.0)
    assert fn(Tensor(np.ones((0, 8), np.float32)), w).shape == (0, 24)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_autotune_is_yes_or_no(value):
    with pytest.raises(ValueFault, match="autotune is "):
        context.set_context(autotune=value)


PROCESS = """
import numpy as np
import cellc
from cellc import Tensor, context, ops
from cellc.kernels import tuning

context.set_context(mode=context.GRAPH_MODE, autotune=True)
x = Tensor(np.ones((45, 70), np.float32))
def f(x):
    return ops.matmul(x, ops.transpose(x, (1, 0)))
cellc.jit(f)(x)
measured = []
tuning._measured = lambda *a: measured.append(a)
def g(x):
    return ops.matmul(x, ops.transpose(x, (1, 0))) * 2.0
cellc.jit(g)(x)
print(len(measured))
"""


def test_it_is_remembered_between_processes(tmp_path):
    file = tmp_path / "program.py"
    env = {**os.environ, "CELLC_CACHE_DIR": str(tmp_path / "cache"), "CELLC_CHECK": "1"}
    for text in (PROCESS, PROCESS.replace("cellc.jit(f)(x)\n", "")):
        file.write_text(text)
        run = subprocess.run([sys.executable, file], capture_output=True, text=True, env=env)
        assert run.stdout.split() == ["0"], run.stderr
