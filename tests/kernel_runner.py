"""Build small graphs and run one kernel on NumPy arrays, as the host function would."""

from __future__ import annotations

import ctypes
import dataclasses

import numpy as np
import pytest

from cellc.ir import numerics as num
from cellc.ir.graph import Builder
from cellc.ir.interpret import interpret, resolve
from cellc.ir.prims import control
from cellc.ir.types import ScalarType, TupleType
from cellc.kernels import chunks, engine, schedule
from cellc.kernels.group import body_of, emit_group
from cellc.kernels.target import host
from cellc.kernels.text import Module

TOLERANCE = {"f16": 4e-3, "bf16": 3e-2, "f32": 2e-5, "f64": 1e-11}


def build(function, *types):
    """The graph of a function of nodes; a tuple of nodes makes several results."""
    with Builder("g") as b:
        made = function(*(b.input(t, f"x{i}") for i, t in enumerate(types)))
        return b.finish(control.tuple(*made) if isinstance(made, tuple) else made)


class Compiled:
    """A compiled group: call it with arrays; `error` is the record it left."""

    def __init__(self, node, target=None, symbols=()):
        self.graph, self.symbols = body_of(node), symbols
        module = Module()
        self.kernel = emit_group(module, "k", node, target or host(), symbols)
        self.text = module.text()
        self.loaded = engine.load(engine.compile_text(self.text, cache_dir=""))
        self.error = np.zeros(8, np.int64)

    def __call__(self, *arrays, n_tasks=None, dims=None):
        dims = dims or {}
        operands = [_operand(a, x.type) for a, x in zip(arrays, self.graph.inputs, strict=True)]
        many = isinstance(self.graph.type, TupleType)
        types = self.graph.type.items if many else (self.graph.type,)
        results = [np.zeros(t.shape, t.dtype.numpy) for t in (resolve(t, dims) for t in types)]
        for r in results:
            r.view(np.uint8).fill(0x55) if r.ndim and r.size else None
        self.error[:] = 0
        units = dims.get(self.kernel.scratch_unit, 1)
        scratch = np.zeros(self.kernel.scratch * units + 128, np.uint8)
        scratch = scratch[-scratch.ctypes.data % 64:]       # as plan_memory.py places it
        sizes = np.array([dims[s] for s in self.symbols], np.int64)
        self.keep = [*operands, *results, scratch, sizes, self.error]
        context = (ctypes.c_void_p * len(self.keep))(*(a.ctypes.data for a in self.keep))
        for phase, tasks in self.kernel.phases:
            n = min(n_tasks, tasks) if n_tasks else tasks
            for task in reversed(range(n)):
                self.function(phase)(ctypes.addressof(context), task, n)
        return tuple(results) if many else results[0]

    def function(self, name):
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        return kind(self.loaded.address(name))


def _operand(array, type_):
    if isinstance(type_, ScalarType):
        return np.array([array], np.float64 if type_.dtype.kind == "f" else np.int64)
    return np.array(array, copy=True, order="C")


def random_array(type_, seed=0):
    """Values an operation of any kind can take, the same for the same seed."""
    rng = np.random.default_rng(seed)
    if isinstance(type_, ScalarType):
        return {"f": 0.75, "i": 3, "b": True}[type_.dtype.kind]
    if type_.dtype.kind == "f":
        return num.from_compute(rng.standard_normal(type_.shape), type_.dtype)
    if type_.dtype.kind == "b":
        return rng.random(type_.shape) < 0.5
    return rng.integers(0, 9, type_.shape).astype(type_.dtype.numpy)


def agree(graph, *arrays, tolerance=None, dims=None, symbols=(), shared=False, target=None):
    """The kernel gives what the interpreter gives; `shared`: also when its work is shared by tasks,
    as if it were much, and then bit for bit the same however many there are."""
    arrays = arrays or [random_array(x.type, i) for i, x in enumerate(graph.inputs)]
    wanted = interpret(graph, *arrays, dims=dims)
    compiled = Compiled(graph, target, symbols)
    compare(compiled(*arrays, dims=dims), wanted, tolerance)
    if shared:
        with pytest.MonkeyPatch.context() as patch:
            for module in (schedule, chunks):
                patch.setattr(module, "PARALLEL_SECONDS", 0.0)
            patch.setattr(chunks, "CHUNK_ELEMENTS", 50)
            many = Compiled(graph, dataclasses.replace(host(), threads=4), symbols)
        first = many(*arrays, dims=dims)
        compare(first, wanted, tolerance)
        for n_tasks in (1, 3):
            again = many(*arrays, dims=dims, n_tasks=n_tasks)
            for x, y in zip(*map(as_tuple, (first, again)), strict=True):
                np.testing.assert_array_equal(x, y, f"{n_tasks} tasks differ from four")
    return compiled


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


def compare(found, wanted, tolerance=None):
    for got, right in zip(as_tuple(found), as_tuple(wanted), strict=True):
        close(got, right, tolerance)


def close(got, right, tolerance=None):
    of = num.dtype_of(right)
    got, right = num.to_compute(got), num.to_compute(right)
    if of.is_float:
        allowed = tolerance or TOLERANCE[of.name]
        np.testing.assert_allclose(got, right, rtol=allowed, atol=allowed)
    else:
        np.testing.assert_array_equal(got, right)
