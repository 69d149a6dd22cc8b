"""build: one signature of a callable, all the way from its source to linked machine code.

    types ─▶ known? ─▶ trace ─▶ known? ─▶ passes ─▶ host, kernels ─▶ LLVM ─▶ link ─▶ Variant
                │                  └─────────────── programs ─────────────────▶┤
                └───────────────── parses ────────────────────────────────────▶┘

A call that was parsed before, in this process or another that used the same cache, is not parsed
where it reads what it read then; a parsed graph that became a program is linked at once.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cellc import binding, config, context, native, parses, programs, startup
from cellc.ir.graph import Graph, KnownFault
from cellc.ir.types import ScalarType
from cellc.kernels import entry
from cellc.kernels.program import Program
from cellc.native import MachineCode, machine_code
from cellc.parser.traced import Traced
from cellc.parser.values import Leaf, unflatten
from cellc.record import changed, fresh, record
from cellc.signature import rebuild

if TYPE_CHECKING:
    from cellc.passes.pipeline import Stages


@record(eq=False)
class Variant:
    """One compiled signature of a callable: the program, and all that was made on the way."""

    structure: object              # of the arguments, known ones included
    types: tuple                   # of the traced leaves
    traced: Traced
    program: Program
    seconds: dict[str, float]
    parse: Callable[[], Traced]
    result: entry.Out | None            # how the entry builds it; None where only Python can
    spec: entry.VariantSpec | None      # takes the leaves as plain arrays and numbers, unguarded
    fast_math: bool                     # what the context said
    direct: dict[tuple, entry.VariantSpec] = fresh(dict)    # by the leaves' classes: guarded forms

    @property
    def assigned(self) -> list:
        """The Parameters that a call changes."""
        return [parameter for parameter, _ in self.traced.assigned]

    @functools.cached_property
    def parsed(self) -> Graph:
        """The graph that parsing gave; it is parsed once more where the call was remembered."""
        return self.traced.graph or self.parse().graph

    @functools.cached_property
    def stages(self) -> Stages:
        """What each pass made; done once more where the program was remembered."""
        start = time.perf_counter()
        graph = self.parsed
        seconds = time.perf_counter() - start
        return run_passes(graph, self.seconds.get("parse", seconds), self.fast_math)

    @functools.cached_property
    def llvm(self) -> str:
        """The text of the program and of all its kernels; written once more where the program was
        remembered."""
        program = self.program
        if not program.text:
            program = native.write(self.graph, self.traced.in_place, lambda text, codegen: None)
        kernels = (f"; {unit.name}\n{unit.text}" for unit in program.units)
        return "\n".join([program.text, *kernels])

    @property
    def graph(self) -> Graph:
        """The graph that was compiled."""
        return self.stages.rows[-1][2]

    def current(self) -> bool:
        """Whether everything that parsing read is still so."""
        uses = zip(self.traced.captured, self.traced.inputs[len(self.types):], strict=True)
        return (self.fast_math is context.get_context("fast_math")
                and all(g.holds() for g in self.traced.guards)
                and all(x.type == t for x, t in uses))

    def guarded(self, kinds: tuple, moment: int) -> entry.VariantSpec | None:
        """The form that takes the user's arguments, with leaves of these classes, as long as what
        is outside is what is there now; None where the entry cannot pass or check something."""
        if self.result is None:
            return None
        flat = self.spec
        symbols = self.program.symbols
        args = binding.structured_args(self.structure.items[0], (
            binding.leaf_arg(t, symbols, k) for t, k in zip(self.types, kinds, strict=True)))
        if args is None:
            return None
        guards, watched = binding.native_guards(self.traced.guards, moment)
        return changed(flat, args=args, outputs=self.result, guards=guards,
                       lifted=[*flat.lifted, *watched])

    @functools.cached_property
    def flat(self) -> entry.Entry:
        """The entry of `spec`, which most programs never call: theirs takes the user's arguments.
        """
        made = entry.Entry(self.run if self.assigned else _impossible, raise_fault)
        made.add(self.spec)
        return made

    def call_flat(self, leaves: list):
        """Run on leaves, then let Python put the result together."""
        values = self.run(*leaves)
        return unflatten(self.traced.structure, values, known=_independent)

    def run(self, *leaves) -> tuple:
        """The results of the program. The entry comes back here where it refuses a Parameter that
        a call in another thread has just taken hold of."""
        for parameter in self.assigned:
            parameter.keep_alone()          # a leaf may be a view of it
        return self.flat.call(*leaves)


def _independent(value):
    """A known part of the result that the caller may change, as one of its own."""
    return value.copy() if isinstance(value, (np.ndarray, set)) else value


@startup.uncollected()
def build(fn: Callable, name: str, structure, types: tuple) -> Variant:
    """Parse, run the passes, emit, compile and load the program for one signature."""
    startup.begin()                     # where graph mode was not chosen before, as with `jit`
    clock = time.perf_counter
    start = clock()
    looking = config.get("DUMP") or config.level("CHECK") > 1
    fast_math = context.get_context("fast_math")
    parse = functools.partial(_parse, fn, name, structure, types)
    call = None if looking else parses.call_of(fn, structure, types, fast_math)
    traced, program = call and parses.recall(call) or (None, None)
    machine, stages, seconds = program and programs.recall(program), None, {}
    if not machine:
        try:
            traced = parse()
        except KnownFault as fault:
            if call and any(isinstance(t, ScalarType) for t in types):      # it can be answered
                parses.keep(call, fault.traced, fault)
            raise
        seconds["parse"] = clock() - start
        program = None if looking else programs.key_of(traced.graph, traced.in_place, fast_math)
        machine = program and programs.recall(program)
        if not machine:
            stages = run_passes(traced.graph, seconds["parse"], fast_math)
            seconds = stages.seconds()
            machine = machine_code(stages.rows[-1][2], traced.in_place)
            if program:
                programs.keep(program, machine)
        if call and program:
            parses.keep(call, traced, program)
    seconds |= machine.seconds | {"total": clock() - start}
    variant = Variant(structure, types, traced, machine.program, seconds, parse, None, None,
                      fast_math)
    if stages is not None:
        variant.stages = stages
    _bind(variant, machine)
    _show(name, variant)
    return variant


def _parse(fn: Callable, name: str, structure, types: tuple) -> Traced:
    from cellc.parser.trace import trace  # here: a call that is remembered needs none of it

    args, kwargs = rebuild(structure, iter([Leaf(t) for t in types]))
    return trace(fn, args, kwargs, name)


def run_passes(graph: Graph, seconds: float, fast_math: bool) -> Stages:
    """What each pass makes of a graph that was parsed in `seconds`."""
    from cellc.passes import pipeline  # here: a program that is remembered needs none of it

    stages = pipeline.Stages()
    stages.add("parse", seconds, graph)
    pipeline.run(graph, stages, fast_math)
    return stages


def _bind(variant: Variant, machine: MachineCode) -> None:
    """Describe the program to the native entry, for plain leaves and, in part, for whole arguments.
    """
    traced, symbols, in_place = variant.traced, variant.program.symbols, variant.traced.in_place
    args = [binding.leaf_arg(t, symbols) for t in variant.types]
    tensor_arg, result_out = functools.cache(entry.TensorArg), functools.cache(binding.result_out)
    written = set(in_place.values())
    lifted = [entry.Lifted(x, tensor_arg(x.dtype.numpy, x.shape, type(x),
                                         writable=len(variant.types) + i in written))
              for i, x in enumerate(traced.captured)]
    outs = [result_out(type, symbols) for i, type in enumerate(traced.results)
            if i not in in_place]
    variant.spec = entry.VariantSpec(args=args, lifted=lifted, tag=variant, **machine.spec(),
                                     outputs=entry.TupleOut(tuple(outs)))
    order: list[int] = []
    result = binding.structured_out(traced.structure, outs, order)
    if binding.natively_checked(traced.guards) and order == list(range(len(outs))):
        variant.result = result


def _impossible(*leaves):
    raise AssertionError("the entry refused the leaves that its variant was chosen for")


def raise_fault(spec: entry.VariantSpec, record: tuple[int, ...]):
    native.raise_fault(spec.tag.program, record)


def _show(name: str, variant: Variant) -> None:
    """CELLC_SHOW: 1 times, 2 the fused graph, 3 its groups as loops and products, 4 LLVM text."""
    level = config.level("SHOW")
    if level >= 1:
        times = ", ".join(f"{k} {v * 1e3:.1f} ms" for k, v in variant.seconds.items())
        print(f"cellc: compiled {name} for {', '.join(map(str, variant.types))}: {times}")
    if level >= 2:
        print(variant.graph)
    if level >= 3:
        from cellc.kernels.group import describe

        groups = (node for graph in variant.graph.reachable() for node in graph.body
                  if node.prim.name == "fused")
        print(*(describe(node, native.target()) for node in groups), sep="\n")
    if level >= 4:
        print(variant.llvm)
