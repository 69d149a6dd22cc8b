"""What is generated for 64-bit Arm compiles to machine code of its own, with vectors."""

import functools

import llvmlite.binding as llvm
import numpy as np
import pytest

import cellc
from cellc import Tensor, context, ops
from cellc.kernels import runtime
from cellc.kernels.group import emit_group
from cellc.kernels.target import TARGETS
from cellc.kernels.text import Module
from tests.native.test_chains import attention
from tests.native.test_totals import scale_and_shift

ELF_AARCH64 = b"\xb7\x00"          # e_machine, at byte 18
TRIPLE = "aarch64-unknown-linux-gnu"


@functools.cache
def machine():
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = TARGETS["aarch64"]
    return llvm.Target.from_triple(TRIPLE).create_target_machine(
        cpu=target.name, features=target.features, opt=2)


def compiled(text: str) -> str:
    """The assembly of LLVM text, after an object could be made of it as well."""
    module = llvm.parse_assembly(text)
    module.triple = TRIPLE
    module.verify()
    assert machine().emit_object(module)[18:20] == ELF_AARCH64
    return machine().emit_assembly(module)


def dense(x, w, b):
    return ops.gelu(ops.matmul(x, w) + b)


def norms(x, w, b):
    return ops.softmax(ops.exp(-x * x), -1)


def special(x, w, b):
    return ops.lgamma(x) + ops.erfinv(ops.sin(x)) + ops.atan2(x, ops.log1p(x * x))


def halves(x, w, b):
    return ops.matmul(x.astype(cellc.float16), w.astype(cellc.float16))


def integers(x, w, b):
    return ops.matmul(x.astype(cellc.int32), w.astype(cellc.int32)).cumsum(0)


def of_bytes(x, w, b):
    return ops.matmul(x.astype(cellc.int8).astype(cellc.int32),
                      w.astype(cellc.int8).astype(cellc.int32))


def large_norms(x):
    return ops.gelu(ops.softmax(x, -1))


def convolution(x, w, b):
    return ops.conv2d(x.reshape(2, 5, 10, 40), w.reshape(-1)[:8 * 5 * 9].reshape(8, 5, 3, 3))


SHAPES = ((50, 80), (80, 70), (70,))
CASES = [(f, SHAPES) for f in (dense, norms, special, halves, integers, of_bytes, convolution)]
CASES += [(attention, ((2, 3, 65, 16),) * 3), (scale_and_shift, ((4096, 80), (80,))),
          (large_norms, ((4096, 768),))]


@pytest.mark.parametrize("function, shapes", CASES)
def test_kernels(function, shapes):
    arrays = [Tensor(np.ones(s, np.float32)) for s in shapes]
    context.set_context(mode=context.GRAPH_MODE)
    made = cellc.inspect(function, *arrays)
    groups = [node for node in made.graph.body if node.prim.name in ("fused", "cumsum", "concat")]
    assert groups
    for node in groups:
        module = Module("arm")
        emit_group(module, "k", node, TARGETS["aarch64"])
        text = compiled(module.text())
        products = any(x.prim.name == "dot" for x in getattr(
            node.attrs.get("graph"), "body", ()))
        if products and (function is of_bytes
                         or node.attrs["graph"].results[0].dtype.is_float):
            assert ".4s" in text and "fmla" in text
        if function is large_norms:
            assert "prfm" in text           # the next row is asked for


@pytest.mark.parametrize("system, waits", [("linux", "syscall"), ("darwin", "pthread_cond_wait")])
def test_the_runtime(system, waits):
    text = "".join(map(compiled, runtime.texts("aarch64", system)))
    assert "pthread_create" in text and waits in text
