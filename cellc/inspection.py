"""Looking at what the compiler made: `cellc.inspect(net, *args)` and `cellc.explain(net)`."""

from __future__ import annotations

from dataclasses import dataclass

from cellc import compile as driver
from cellc.ir.graph import Graph
from cellc.signature import flatten, plain


@dataclass(frozen=True)
class Inspection:
    """Every stage of one compiled signature.

    signature  the types of the traced arguments
    stages     name of the pass -> graph after it, in order, "parse" first
    groups     the fused groups, each a small graph that becomes one kernel
    llvm       the LLVM text of the whole program
    seconds    time for each stage, "total" last
    arena      bytes of scratch memory a call needs (for each unit of a symbolic dimension)
    """

    signature: tuple
    stages: dict[str, Graph]
    groups: list[Graph]
    llvm: str
    seconds: dict[str, float]
    arena: dict[str, int]

    @property
    def graph(self) -> Graph:
        """The graph that was compiled."""
        return list(self.stages.values())[-1]

    def __str__(self) -> str:
        times = "\n".join(f"  {name:<10} {value * 1e3:8.2f} ms"
                          for name, value in self.seconds.items())
        return (f"signature: {', '.join(map(str, self.signature))}\n\n"
                f"parsed:\n{self.stages['parse']}\n\nfused:\n{self.graph}\n\n"
                f"{len(self.groups)} groups, {len(self.llvm.splitlines())} lines of LLVM\n\n"
                f"times:\n{times}")

    __repr__ = __str__


def inspect(fn, *args, **kwargs) -> Inspection:
    """Compile `fn` (a cell, a function, a gradient) for these arguments and show every stage.

    Nothing is run. A signature that is compiled already is shown as it is.
    """
    leaves: list = []
    structure = flatten((args, kwargs), leaves)
    variant, _ = driver.compiled(fn).variant(structure, [plain(x) for x in leaves])
    stages: dict[str, Graph] = {}
    for name, _, graph in variant.stages.rows:
        stages[name if name not in stages else f"{name}.2"] = graph
    groups = [node.attrs["graph"] for node in variant.graph.body if node.prim.name == "fused"]
    return Inspection(variant.types, stages, groups, variant.llvm, dict(variant.seconds),
                      dict(variant.program.arena))


@dataclass(frozen=True)
class Explanation:
    """Why a callable has the compiled signatures it has; `str` is for reading."""

    name: str
    signatures: list[tuple]
    notes: list[str]
    guards: list[str]
    splits: list[str]
    pieces: int = 0

    def __str__(self) -> str:
        pieces = f", {self.pieces} compiled piece(s)" if self.splits else ""
        lines = [f"{self.name}: {len(self.signatures)} compiled signature(s){pieces}"]
        lines += [f"  ({', '.join(map(str, s))})" for s in self.signatures]
        lines += [f"  because {note}" for note in self.notes]
        lines += [f"  run by Python: {split}" for split in self.splits]
        if self.guards:
            lines.append(f"  compiled again when one of these changes: {', '.join(self.guards)}")
        return "\n".join(lines)

    __repr__ = __str__


def explain(fn) -> Explanation:
    """The compiled signatures of a cell, function or gradient, the reasons for each beyond the
    first, and the outside facts whose change compiles again; under jit_syntax_level=LAX also what
    Python runs of it, why, and what that costs."""
    made = driver.compiled(fn)
    guards = dict.fromkeys(str(g) for v in made.variants for g in v.traced.guards)
    plans = {id(plan): plan for plan in made.plans.values()}.values()
    return Explanation(made.name, [v.types for v in made.variants], list(dict.fromkeys(made.notes)),
                       list(guards), [str(r) for plan in plans for r in plan.reports],
                       sum(plan.pieces() for plan in plans))
