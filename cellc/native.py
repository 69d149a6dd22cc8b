"""native: a fused graph as loaded machine code.

`machine_code` has each kernel compiled on a thread of its own as soon as its text is written, then
links them to the host function. `run_graph` runs any graph of the IR this way, without source,
guards or tensors: the compiled counterpart of `ir.interpret`.
"""

from __future__ import annotations

import signal
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np

from cellc import binding, config, context, startup
from cellc.errors import CellcError, IndexFault, MemoryFault, RecursionFault, caller
from cellc.ir.graph import Graph
from cellc.ir.prims.size import sizes_differ
from cellc.ir.types import Dim, ScalarType, TensorType, TupleType
from cellc.kernels import engine, entry, message
from cellc.kernels.program import (
    ERROR_DEPTH,
    ERROR_MEMORY,
    ERROR_MESSAGE,
    ERROR_SIZE,
    SITE,
    Program,
)
from cellc.kernels.target import host as host_target
from cellc.record import record

RELEASE_SECONDS = 10e-6     # estimated work above which other Python threads may run
FLOPS, BYTES = 5e10, 2e10   # a second, for that estimate


@record
class Objects:
    """The object code that a program is linked from, by the keys of `engine`: the host function's,
    and that of each kernel with its name and its functions; and what it calls of the runtime."""

    host: str
    kernels: list[tuple[str, list[str], str]]
    runtime: list[str]

    @property
    def all_keys(self) -> list[str]:
        return [self.host, *(key for *_, key in self.kernels)]


@record
class MachineCode:
    """A program, linked: `loaded` owns the code, the host function's first."""

    program: Program
    objects: Objects
    loaded: list[engine.Loaded]
    seconds: dict[str, float]

    def spec(self) -> dict:
        """What every VariantSpec of this program says of it."""
        program = self.program
        work = program.flops / FLOPS + program.bytes / BYTES
        return {"program": self.loaded[0].address("program"), "keep": self.loaded,
                "symbols": (2,) * (len(program.symbols) - program.found), "found": program.found,
                "arena": binding.arena_size(program.arena, program.symbols),
                "release_gil": (work > RELEASE_SECONDS or program.unbounded
                                or bool(program.symbols))}


@contextmanager
def _uninterrupted():
    """Keep an interrupt (Ctrl-C) until the end. LLVM's binding and the pool of threads take locks
    in Python code: an exception between two of its lines would leave them taken for ever."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    came: list[tuple] = []
    signal.signal(signal.SIGINT, lambda *at: came.append(at))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            handler(*came[0])


def machine_code(graph: Graph, in_place: dict[int, int]) -> MachineCode:
    """Emit, compile and link a fused graph; result r goes to the memory of input in_place[r]."""
    with _uninterrupted():
        start = time.perf_counter()
        program = write(graph, in_place, _compile)
        host = _compile(program.text, program.optimise, program.optimise)
        kernels = [(unit.name, unit.functions, engine.object_key(
            unit.text, codegen=unit.kernel.codegen)) for unit in program.units]
        objects = Objects(
            engine.object_key(program.text, program.optimise, program.optimise), kernels,
            [name for name in startup.runtime_symbols() if f"@{name}(" in program.text])
        code = {key: unit.compiled for (*_, key), unit in zip(kernels, program.units, strict=True)}
        code[objects.host] = host
        written = time.perf_counter()
        machine = link(program, objects, lambda key: code[key].result())
        machine.seconds = {"emit": written - start, "llvm": time.perf_counter() - written}
    return machine


def write(graph: Graph, in_place: dict[int, int], written) -> Program:
    """The text of a fused graph's program and of its kernels, each of which `written` is told."""
    from cellc.kernels.group import emit_group  # here: `programs.recall` needs none of it
    from cellc.kernels.host import Host

    return Host(emit_group, _symbols(graph), target(), written).program(graph, "program", in_place)


def _symbols(graph: Graph) -> tuple[str, ...]:
    """The sizes that inputs tell, then those that the program finds."""
    from cellc.passes.rebuild import found_sizes

    told = {d.name: None for x in graph.inputs for d in x.type.shape if isinstance(d, Dim)}
    return (*told, *found_sizes(graph))


def target():
    """The CPU that code is generated for, and the threads that are to share its work."""
    return host_target(config.get("CPU") or None, startup.threads(),
                       context.get_context("autotune"))


def _compile(text: str, codegen: int, opt: int = 0):
    """Machine code of a kernel, made while the next one is written."""
    return engine.submit(text, opt=opt, cache_dir=startup.cache_dir(),
                         check=config.level("CHECK") > 1, codegen=codegen)


_loaded: weakref.WeakValueDictionary[str, engine.Loaded] = weakref.WeakValueDictionary()


def link(program: Program, objects: Objects, code: Callable[[str], bytes]) -> MachineCode:
    """Link the kernels, each once however many programs call it, and the host function to them;
    `code` gives the object code of a key."""
    start = time.perf_counter()
    runtime = startup.runtime_symbols()
    symbols = {name: runtime[name] for name in objects.runtime}
    kept = []
    with _uninterrupted():
        for name, functions, key in objects.kernels:
            loaded = _loaded.get(key)
            if loaded is None:
                loaded = _loaded[key] = engine.load(code(key), {}, functions)
            kept.append(loaded)
            symbols |= {f"{name}.{f}": loaded.address(f) for f in functions}
        host = engine.load(code(objects.host), symbols, ["program"])
    return MachineCode(program, objects, [host, *kept], {"link": time.perf_counter() - start})


def raise_fault(program: Program, record: tuple[int, ...]):
    """The fault an error record tells of: [what, _, index, size, _, _, _, site]."""
    what, _, index, size, *_ = record
    loc = program.sites[record[SITE]] if program.sites else None
    if what == ERROR_MESSAGE:
        fault = message.taken()
        if isinstance(fault, CellcError):
            fault = fault.at(loc)
        elif loc is not None and not hasattr(fault, "__notes__"):
            fault.add_note(f"{loc}{loc.snippet()}")
        raise fault
    if what == ERROR_MEMORY:
        raise MemoryFault("a list, or what a loop leaves for its gradient, is more than there is "
                          "memory for", "fewer rounds, or cellc.recompute the body",
                          loc or caller())
    if what == ERROR_DEPTH:
        raise RecursionFault("the recursion goes deeper than the stack allows",
                             "write it as a loop, or stop it earlier", caller())
    if what == ERROR_SIZE:
        raise sizes_differ(index, size).at(loc or caller())
    raise IndexFault(f"index {index} is out of range for a size of {size}",
                     f"indices from 0 to {size - 1}", loc or caller())


def run_graph(graph: Graph, *arrays):
    """Compile a graph and run it on arrays and Python numbers: an array, or a tuple of results."""
    from cellc.passes import pipeline

    machine = machine_code(pipeline.run(graph), {})
    symbols = machine.program.symbols
    given = [a if isinstance(x.type, ScalarType) else np.ascontiguousarray(a).reshape(np.shape(a))
             for a, x in zip(arrays, graph.inputs, strict=True)]
    args = [binding.leaf_arg(x.type, symbols) for x in graph.inputs]
    outs = [entry.TensorOut(r.type.dtype.numpy, binding.dims(r.type.shape, symbols), np.ndarray)
            if isinstance(r.type, TensorType) else binding.result_out(r.type, symbols)
            for r in graph.results]
    call = entry.Entry(_refused, lambda spec, record: raise_fault(machine.program, record))
    call.add(entry.VariantSpec(args=args, outputs=entry.TupleOut(tuple(outs)), **machine.spec()))
    values = call.call(*given)
    return values if isinstance(graph.type, TupleType) else values[0]


def _refused(*arrays):
    raise TypeError("the arrays are not of the types of the graph's inputs")
