"""cellc in graph mode: the same programs as MindSpore's, by another import."""

import cellc
from benchmarks.peers import cells
from cellc import Parameter, Tensor, context, nn
from cellc.ops import operations as P
from cellc.ops.composite import GradOperation

VERSION = cellc.__version__
VARIANTS = ("graph",)


def prepare(variant):
    context.set_context(mode=context.GRAPH_MODE, device_target="CPU")


def wait(result):
    """A compiled call has computed its result when it returns."""


def array(result):
    return result.asnumpy()


def make(workload, variant):
    return cells.make(workload, nn, P, GradOperation, Tensor, Parameter)
