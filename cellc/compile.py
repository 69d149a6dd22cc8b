"""compile: the driver. The only module that knows the whole way from a call to its machine code.

A `Compiled` stands behind each cell, function or gradient that is called in graph mode. Its `call`
is the native entry; where no compiled variant fits the arguments, the entry comes here:

    arguments ─ signature ─▶ trace (parser) ─▶ passes ─▶ host and kernels ─▶ LLVM ─▶ a new variant

Threads may call at once, the same callable or others, and compile one at a time; a call that takes
some 10 us or more lets other threads run. Calls that assign the same Parameters must not overlap:
nothing breaks then, but one of two updates may be lost. Whoever else holds a Parameter's buffer (a
view of it, a call that reads it in another thread) keeps the values it had.

A variant is guarded by everything outside its arguments that parsing read. A guard that fails sends
the call here as well; facts that still hold are looked at again, and only a changed one compiles.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from types import MethodType

import numpy as np

from cellc import binding, config, context, eager, lax, native, startup
from cellc.errors import CellcError, SymbolicFault, TypeFault, ValueFault, caller
from cellc.ir.graph import Graph, Input, KnownFault, building, current_builder
from cellc.kernels import entry
from cellc.kernels.front import Front
from cellc.kernels.group import describe
from cellc.kernels.host import Program
from cellc.native import MachineCode, machine_code
from cellc.parser.trace import Traced, trace
from cellc.parser.transforms import LinearProgram, Transform
from cellc.parser.values import Leaf, unflatten
from cellc.passes import Stages
from cellc.passes import run as run_passes
from cellc.record import changed, fresh, record
from cellc.signature import (
    covers,
    fix,
    flatten,
    leaf_type,
    plain,
    quick_key,
    rebuild,
    symbolic,
    without_text,
)
from cellc.tensor import Tensor

MAX_VARIANTS = 64           # of one callable; the oldest goes
MANY_TEXTS = 4              # plans that differ in strings only, after which all have the last one
SYMBOLIC_AFTER = 2          # sizes of a leading dimension before one program is made for all


@record(eq=False)
class Variant:
    """One compiled signature of a callable: the program, and all that was made on the way."""

    structure: object              # of the arguments, known ones included
    types: tuple                   # of the traced leaves
    traced: Traced
    program: Program
    stages: Stages
    seconds: dict[str, float]
    result: entry.Out | None            # how the entry builds it; None where only Python can
    spec: entry.VariantSpec | None      # takes the leaves as plain arrays and numbers, unguarded
    direct: dict[tuple, entry.VariantSpec] = fresh(dict)    # by the leaves' classes: guarded forms

    @property
    def assigned(self) -> list:
        """The Parameters that a call changes."""
        return [parameter for parameter, _ in self.traced.assigned]

    @property
    def llvm(self) -> str:
        """The text of the program and of all its kernels."""
        kernels = (f"; {unit.name}\n{unit.text}" for unit in self.program.units)
        return "\n".join([self.program.text, *kernels])

    @property
    def graph(self) -> Graph:
        """The graph that was compiled."""
        return self.stages.rows[-1][2]

    def current(self) -> bool:
        """Whether everything that parsing read is still so."""
        uses = zip(self.traced.captured, self.traced.graph.inputs[len(self.types):], strict=True)
        return (all(g.holds() for g in self.traced.guards)
                and all(x.type == i.type for x, i in uses))

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
        made = entry.Entry(self.run if self.assigned else _impossible, _raise_fault)
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


class Compiled:
    """A callable in graph mode: its native entry, its variants, and the reasons for them."""

    def __init__(self, fn: Callable):
        self.fn = fn
        self.name = getattr(fn, "__name__", None) or type(fn).__name__
        self.variants: list[Variant] = []             # newest first
        self.notes: list[str] = []
        self._fixed: dict[object, frozenset] = {}     # structure -> leaves known for their values
        self._static: set = set()                     # structures for which "n" was refused
        self.plans: dict[object, lax.Plan] = {}       # signature -> how the refused ones run
        self._quick: dict[tuple, lax.Plan] = {}       # the same, for simple arguments
        self._alike: dict[tuple, list] = {}           # the same, for arguments but for texts
        self._busy = threading.local()
        self.entry: entry.Entry | None = None
        self.front: Front | None = None               # of a jitted method
        self.call: Callable = self._miss              # the entry's, once there is a program

    def _miss(self, *args, **kwargs):
        """A call that no variant of the entry fits: find or make one, then run it."""
        quick = quick_key(args) if self.plans and context.is_lax() and not kwargs else None
        if quick in self._quick:
            return self._quick[quick].run(args, kwargs)
        leaves: list = []
        try:
            given = flatten((args, kwargs), leaves)
            arrays = [plain(x) for x in leaves]
        except TypeFault as fault:
            raise fault.at(caller()) from None
        plan = self._plan(given, arrays) if context.is_lax() else None
        if plan is not None:
            quick = None if kwargs else quick_key(args)
            if quick is not None:
                self._quick[quick] = plan
            return plan.run(args, kwargs)
        moment = entry.epoch()      # what is found to hold now, holds until the epoch moves
        with startup.compiling:
            try:
                variant, traced = self.variant(given, arrays)
            except CellcError as fault:     # it names the user's line: the compiler's own are noise
                if config.level("CHECK") < 2:
                    fault = fault.with_traceback(None)
                raise fault from fault.__cause__
            if self.entry is None:
                self.entry = entry.Entry(self._miss, _raise_fault)
                self.call = self.entry.call
            known = self._fixed.get(given, frozenset())
            kinds = tuple(type(x) for i, x in enumerate(leaves) if i not in known)
            again = getattr(self._busy, "on", False)
            if kwargs or again or not all(map(binding.taken_as_is, leaves, arrays)):
                direct = None
            else:
                direct = variant.guarded(kinds, moment)
            if direct is not None:
                if variant.direct.get(kinds) in self.entry.variants:    # no longer true
                    self.entry.clear()
                variant.direct[kinds] = direct
                self.entry.add(direct)
        if direct is None:
            return variant.call_flat(traced)
        for parameter in variant.assigned:
            parameter.keep_alone()
        self._busy.on = True
        try:
            return self.entry.call(*args)
        finally:
            self._busy.on = False

    def _plan(self, given, leaves: list) -> lax.Plan | None:
        """How to run a signature of which not everything can be compiled; sizes do not matter."""
        kinds = tuple([(t.dtype, getattr(t, "ndim", None)) for t in map(leaf_type, leaves)])
        key = given, kinds
        if key not in self.plans:
            alike = self._alike.setdefault((without_text(given), kinds), [])
            if len(alike) >= MANY_TEXTS:
                return alike[-1]
            with startup.compiling:
                try:
                    self.variant(given, leaves)
                    return None
                except CellcError as fault:
                    plan = lax.plan_of(self.fn, fault, Compiled)
                    if plan is None:
                        raise
            if len(self.plans) >= MAX_VARIANTS:
                self.plans.clear()
                self._quick.clear()
                self._alike.clear()
            self.plans[key] = plan
            alike.append(plan)
        return self.plans[key]

    def variant(self, given, leaves: list) -> tuple[Variant, list]:
        """The variant for these arguments, compiled if need be, and its traced leaves."""
        while True:
            structure, kept = fix(given, leaves, self._fixed.get(given, frozenset()))
            types = tuple(map(leaf_type, kept))
            for v in self.variants:
                if v.structure == structure and covers(v.types, types) and v.current():
                    return v, kept
            try:
                return self._make(structure, types), kept
            except KnownFault as fault:
                self._fix(given, leaves, fault)

    @property
    def compiles_numbers(self) -> bool:
        """Whether numbers among the arguments are compiled for their values."""
        return any(self._fixed.values())

    def _fix(self, given, leaves: list, fault: KnownFault) -> None:
        """A number was needed while compiling: the ints, then the floats, become known values."""
        before = self._fixed.get(given, frozenset())
        for kind in (int, float):
            more = {i for i, x in enumerate(leaves) if type(x) is kind} - before
            if more:
                self._fixed[given] = before | more
                self.notes.append(f"{kind.__name__} arguments are compiled for their values: "
                                  f"{fault.message} ({fault.loc})")
                return
        raise fault

    def _make(self, structure, types: tuple) -> Variant:
        general = self._general(structure, types)
        if general is not None:
            try:
                return self._keep(build(self.fn, self.name, structure, general))
            except SymbolicFault as fault:
                self._static.add(structure)
                self.notes.append(f"one program for each size of the leading dimension: "
                                  f"{fault.message} ({fault.loc})")
        return self._keep(build(self.fn, self.name, structure, types))

    def _general(self, structure, types: tuple) -> tuple | None:
        """Leaf types with a symbolic leading dimension, once enough sizes of it were seen."""
        if structure in self._static:
            return None
        found = [s for v in self.variants if v.structure == structure
                 and (s := symbolic(v.types, types)) is not None]
        return found[0] if len(found) >= SYMBOLIC_AFTER else None

    def _keep(self, variant: Variant) -> Variant:
        self.variants.insert(0, variant)
        if len(self.variants) > MAX_VARIANTS:
            self.variants.pop()
            if self.entry is not None:
                self.entry.clear()
        return variant


# -- one signature, all the way ------------------------------------------------------------------

@startup.uncollected()
def build(fn: Callable, name: str, structure, types: tuple) -> Variant:
    """Parse, run the passes, emit, compile and load the program for one signature."""
    startup.begin()                     # where graph mode was not chosen before, as with `jit`
    stages, clock = Stages(), time.perf_counter
    start = clock()
    args, kwargs = rebuild(structure, iter([Leaf(t) for t in types]))
    traced = trace(fn, args, kwargs, name)
    in_place = _updates(traced, len(types))
    stages.add("parse", clock() - start, traced.graph)
    graph = run_passes(traced.graph, stages)

    machine = machine_code(graph, in_place)
    seconds = stages.seconds() | machine.seconds | {"total": clock() - start}
    variant = Variant(structure, types, traced, machine.program, stages, seconds, None, None)
    _bind(variant, machine, graph, in_place)
    _show(name, variant)
    return variant


def _updates(traced: Traced, explicit: int) -> dict[int, int]:
    """Result index -> input index for every assigned Parameter; inputs are added where a Parameter
    is assigned but never read."""
    graph = traced.graph
    place = {id(x): explicit + i for i, x in enumerate(traced.captured)}
    found = {}
    for parameter, result in traced.assigned:
        if id(parameter) not in place:
            place[id(parameter)] = len(graph.inputs)
            traced.captured.append(parameter)
            graph = Graph(graph.name, (*graph.inputs, Input(parameter.type, parameter.name)),
                          graph.body, graph.result)
        found[result] = place[id(parameter)]
    traced.graph = graph
    return found


def _bind(variant: Variant, machine: MachineCode, graph: Graph, in_place: dict[int, int]) -> None:
    """Describe the program to the native entry, for plain leaves and, in part, for whole arguments.
    """
    traced, symbols = variant.traced, variant.program.symbols
    args = [binding.leaf_arg(t, symbols) for t in variant.types]
    tensor_arg, result_out = functools.cache(entry.TensorArg), functools.cache(binding.result_out)
    written = set(in_place.values())
    lifted = [entry.Lifted(x, tensor_arg(x.dtype.numpy, x.shape, type(x),
                                         writable=len(variant.types) + i in written))
              for i, x in enumerate(traced.captured)]
    outs = [result_out(r.type, symbols) for i, r in enumerate(graph.results) if i not in in_place]
    variant.spec = entry.VariantSpec(args=args, lifted=lifted, tag=variant, **machine.spec(),
                                     outputs=entry.TupleOut(tuple(outs)))
    order: list[int] = []
    result = binding.structured_out(traced.structure, outs, order)
    if binding.natively_checked(traced.guards) and order == list(range(len(outs))):
        variant.result = result


def _impossible(*leaves):
    raise AssertionError("the entry refused the leaves that its variant was chosen for")


def _raise_fault(spec: entry.VariantSpec, record: tuple[int, ...]):
    native.raise_fault(spec.tag.program, record)


# -- what users see ------------------------------------------------------------------------------

def compiled(fn: Callable) -> Compiled:
    """The Compiled behind a cell, a function, a method or a gradient, made when first asked for.

    It is kept on the object itself, so it goes when the object goes.
    """
    owner, key = _owner(fn)
    table = _table(owner)
    if table is None:
        table = owner.__dict__["_cellc_compiled"] = _Table(owner)
    return table.get(key) or table.setdefault(key, Compiled(fn))    # another thread may be first


class _Table(dict):
    """The Compileds of an object."""

    def __init__(self, owner: object):
        self.owner = owner


def _table(owner: object) -> _Table | None:
    """The table of an object itself: `functools.wraps`, among others, copies what it has."""
    found = getattr(owner, "__dict__", _NOTHING).get("_cellc_compiled")
    return None if found is None or found.owner is not owner else found


_NOTHING: dict = {}


def _owner(fn: Callable) -> tuple[object, object]:
    """The object on which the Compiled of `fn` is kept, and the key it has there."""
    if isinstance(fn, Transform) and not isinstance(fn, LinearProgram):
        owner, key = _owner(fn.fn)
        return owner, (type(fn), fn.options, key)
    if isinstance(fn, MethodType):
        return fn.__self__, fn.__func__
    if not hasattr(fn, "__dict__"):
        raise TypeFault(f"found {type(fn).__name__} where a cell or a function was expected",
                        "wrap it in a function of your own")
    return fn, None


def call(fn: Callable, args: tuple, kwargs: dict):
    """Call a cell or a gradient in graph mode, where nothing is being parsed."""
    known = compiled(fn)
    if fn.__dict__.get("_cellc_front") is None and not isinstance(fn, LinearProgram):
        _put_front(fn, known, _BUSY)
    return known.call(*args, **kwargs)


# What is going on that a call may have to do with. A jitted function is compiled in any mode, and
# recorded where its arguments are.
_BUSY = (building, context.pynative, context.eager_threads)
_BUSY_JITTED = (building, eager.differentiating)


def _put_front(value, known: Compiled, busy: tuple[list, ...], taped: type | None = None) -> None:
    """Have calls of an object come straight to its entry, if this is not the first of them."""
    if "_cellc_front" not in value.__dict__:
        value.__dict__["_cellc_front"] = None         # many a gradient is made for one call
    elif known.entry is not None:
        Front(known.entry, value._cellc_aside, busy, taped).stand_before(value)


_OF_THIS_PROCESS = ("_cellc_compiled", "_cellc_front")


class Jitted:
    """What `jit` returns: a function, or a method of whatever object it is looked up on."""

    def __init__(self, fn: Callable):
        functools.update_wrapper(self, fn)
        for name in _OF_THIS_PROCESS:       # fn's own, and copied
            self.__dict__.pop(name, None)
        self.fn = fn

    def _cellc_aside(self, *args, **kwargs):
        if current_builder() is not None or eager.is_taping(args):
            return self.fn(*args, **kwargs)
        known = compiled(self.fn)
        if self.__dict__.get("_cellc_front") is None:
            _put_front(self, known, _BUSY_JITTED, Tensor)
        return known.call(*args, **kwargs)

    __call__ = _cellc_aside       # and machine code, once it was compiled: see kernels/front.py

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key not in _OF_THIS_PROCESS}

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        table = _table(instance)
        made = table.get(self.fn) if table else None
        if made is not None and made.front is not None:
            return made.front.call
        return functools.partial(_call_method, MethodType(self.fn, instance))


def _call_method(method: MethodType, *args, **kwargs):
    if current_builder() is not None or eager.is_taping(args):
        return method(*args, **kwargs)
    known = compiled(method)
    if known.entry is not None and known.front is None:
        known.front = Front(known.entry, functools.partial(_call_method, method), _BUSY_JITTED,
                            Tensor)
    return known.call(*args, **kwargs)


def jit(fn: Callable | None = None, **options):
    """Compile one function or method, whatever the mode: `@cellc.jit` or `cellc.jit(f)`.

    Arguments: tensors, arrays and numbers are traced, tuples, lists and dicts of them too; anything
               else is known, and another value compiles again.
    Errors:    SyntaxFault for what the compiler does not take, SourceFault without source text.
    Gradient:  `cellc.grad` of it, or of anything that calls it. While eager mode records a tape
               (an argument requires a gradient), it runs eagerly and is recorded.
    """
    if options:
        raise ValueFault(f"jit has no option {', '.join(options)}", "use @cellc.jit alone")
    return jit if fn is None else Jitted(fn)


def _show(name: str, variant: Variant) -> None:
    """CELLC_SHOW: 1 times, 2 the fused graph, 3 its groups as loops and products, 4 LLVM text."""
    level = config.level("SHOW")
    if level >= 1:
        times = ", ".join(f"{k} {v * 1e3:.1f} ms" for k, v in variant.seconds.items())
        print(f"cellc: compiled {name} for {', '.join(map(str, variant.types))}: {times}")
    if level >= 2:
        print(variant.graph)
    if level >= 3:
        groups = (node for graph in variant.graph.reachable() for node in graph.body
                  if node.prim.name == "fused")
        print(*(describe(node, native.target()) for node in groups), sep="\n")
    if level >= 4:
        print(variant.llvm)
