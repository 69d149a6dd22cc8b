"""programs: what parsed graphs became, remembered between processes.

A program is known by the text of its parsed graph, the user's places in it included. Whatever comes
after parsing follows from that text, from the compiler's own files and from the machine; so a
process that meets a known graph runs no pass and writes no kernel. What is kept is what the driver
must know of the program, with the keys of its objects, beside these (`kernels/objectcache.py`).
Whether the user's source must be parsed to come to that graph, `parses.py` knows.
"""

from __future__ import annotations

import functools
import hashlib
import marshal
import os
import sys

import numpy as np

from cellc import native, startup
from cellc.errors import Loc
from cellc.ir.graph import Constant, Graph
from cellc.ir.text import print_graph
from cellc.ir.types import Dim, DType, Type
from cellc.kernels import engine, llvm, tape_memory
from cellc.kernels.program import Kernel, Program, Unit
from cellc.kernels.target import stack_bytes
from cellc.native import MachineCode, Objects

MOST_NUMBERS = 4096         # of an array in a graph's text
PLAIN = (bool, int, float, str, type(None), DType, Dim, Type, Graph)


def key_of(graph: Graph, in_place: dict[int, int], fast_math: bool) -> str | None:
    """The name of a parsed graph's program; None where the text does not say everything."""
    if identity() is None:
        return None
    reachable = graph.reachable()
    nodes = [node for g in reachable for node in g.body]
    for node in nodes:
        arrays = (x.value for x in node.operands if isinstance(x, Constant) and not x.is_fill)
        # The number of a message means something in this process only.
        if "message" in node.attrs or not all(map(_is_plain, node.attrs.values())) or any(
                a.size > MOST_NUMBERS for a in arrays):
            return None
    gradients = [node.loc.gradients if node.loc else None for node in nodes]
    said = "\n".join([identity(), str(fast_math), str(sorted(in_place.items())), str(gradients),
                      print_graph(graph)])
    return hashlib.sha256(said.encode()).hexdigest()


def _is_plain(value) -> bool:
    """Does the text of an attribute say all of it?"""
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    return isinstance(value, (*PLAIN, np.generic))


@functools.cache
def _compiler() -> str | None:
    """The compiler's own files, by their times and sizes; None where they are none of their own."""
    top = os.path.dirname(__file__)
    found = []
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for file in files:
            status = os.stat(os.path.join(folder, file))
            found.append((folder[len(top):], file, status.st_mtime_ns, status.st_size))
    return f"{sys.version}\n{np.__version__}\n{sorted(found)}" if found else None


def identity() -> str | None:
    """What a program depends on besides its graph; None where that is not known."""
    compiler = _compiler()
    return compiler and "\n".join([compiler, llvm.identity(), repr(native.target()),
                                   str(stack_bytes()), str(tape_memory.most_bytes())])


# -- keeping and finding ---------------------------------------------------------------------------
def keep(key: str, machine: MachineCode) -> None:
    """Remember a program under its name."""
    p, objects = machine.program, machine.objects
    sites = [loc and (loc.file, loc.line, loc.col, loc.gradients) for loc in p.sites]
    engine.keep(key, marshal.dumps((
        p.symbols, p.arena, p.flops, p.bytes, p.optimise, p.unbounded, p.found, sites,
        objects.host, objects.kernels, objects.runtime)), startup.cache_dir())


def recall(key: str) -> MachineCode | None:
    """The program of a name, linked; None where it, or one of its objects, is not remembered."""
    folder = startup.cache_dir()
    data = engine.find(key, folder)
    if data is None:
        return None
    (symbols, arena, flops, bytes_, optimise, unbounded, found, sites,
     *objects) = marshal.loads(data)
    objects = Objects(*objects)
    code = {k: engine.find(k, folder) for k in objects.all_keys}
    if None in code.values():
        return None
    units = [Unit(name, Kernel([(f, 1) for f in functions]), "", None)
             for name, functions, _ in objects.kernels]
    program = Program("program", symbols, arena, flops, bytes_, units=units,
                      sites=[at and Loc(*at) for at in sites], optimise=optimise,
                      unbounded=unbounded, found=found)
    return native.link(program, objects, code.__getitem__)
