"""Run one kernel on NumPy arrays, as the host function would."""

from __future__ import annotations

import ctypes

import numpy as np

from cellc.ir.types import ScalarType, TupleType
from cellc.kernels import engine
from cellc.kernels.group import emit_group, body_of
from cellc.kernels.target import host
from cellc.kernels.text import Module
from cellc.ir.interpret import resolve


class Compiled:
    """A compiled group: call it with arrays; `error` is the record it left."""

    def __init__(self, node, target=None, symbols=()):
        self.graph = body_of(node)
        self.symbols = symbols
        module = Module()
        self.kernel = emit_group(module, "k", node, target or host(), symbols)
        self.text = module.text()
        self.loaded = engine.load(engine.compile_text(self.text))
        self.error = np.zeros(8, np.int64)

    def __call__(self, *arrays, n_tasks=None, dims=None):
        dims = dims or {}
        kinds = [x.type for x in self.graph.inputs]
        operands = [self._operand(a, t) for a, t in zip(arrays, kinds, strict=True)]
        type_ = self.graph.type
        types = type_.items if isinstance(type_, TupleType) else (type_,)
        types = [resolve(t, dims) for t in types]
        results = [np.full(t.shape, 77, t.dtype.numpy) if t.dtype.name != "bf16"
                   else np.zeros(t.shape, t.dtype.numpy) for t in types]
        self.error[:] = 0
        scratch = np.zeros(self.kernel.scratch + 64, np.uint8)
        sizes = np.array([dims[s] for s in self.symbols], np.int64)
        everything = [*operands, *results, scratch, sizes, self.error]
        context = (ctypes.c_void_p * len(everything))(*(a.ctypes.data for a in everything))
        for phase, tasks in self.kernel.phases:
            n = n_tasks or tasks
            run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
                self.loaded.address(phase))
            for task in range(n):
                run(ctypes.addressof(context), task, n)
        self.keep = everything
        return tuple(results) if isinstance(type_, TupleType) else results[0]

    def _operand(self, array, type_):
        if isinstance(type_, ScalarType):
            kind = {"f": np.float64, "i": np.int64, "b": np.int64}[type_.dtype.kind]
            return np.array([array], kind)
        return np.array(array, copy=True, order="C")
