"""MindSpore in graph mode: the same programs as cellc's."""

import os

import mindspore as ms
from mindspore import nn
from mindspore.ops import operations as P
from mindspore.ops.composite import GradOperation

from benchmarks.peers import cells

VERSION = ms.__version__
VARIANTS = ("graph",)


def prepare(variant):
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    if cache := os.environ.get("BENCHMARK_CACHE"):
        ms.set_context(enable_compile_cache=True, compile_cache_path=cache)


def wait(result):
    ms.runtime.synchronize()


def array(result):
    return result.asnumpy()


def make(workload, variant):
    return cells.make(workload, nn, P, GradOperation, ms.Tensor, ms.Parameter,
                      ms.ParameterTuple)
