"""compile: the driver, which stands between a call and its machine code.

A `Compiled` stands behind each cell, function or gradient that is called in graph mode. Its `call`
is the native entry; where no compiled variant fits the arguments, the entry comes here:

    arguments ─ signature ─▶ build (trace ─▶ passes ─▶ host and kernels ─▶ LLVM) ─▶ a new variant

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
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING

from cellc import binding, config, context, eager, startup
from cellc.build import Variant, build, raise_fault
from cellc.errors import CellcError, TypeFault, ValueFault, caller
from cellc.ir.graph import KnownFault, building, current_builder
from cellc.kernels import entry
from cellc.kernels.front import Front
from cellc.parser.transformed import LinearProgram, Transform
from cellc.signature import (
    covers,
    fix,
    flatten,
    leaf_type,
    plain,
    quick_key,
    symbolic,
    without_text,
)
from cellc.tensor import Tensor

if TYPE_CHECKING:
    from cellc import lax

MAX_VARIANTS = 64           # of one callable; the oldest goes
MANY_TEXTS = 4              # plans that differ in strings only, after which all have the last one
SYMBOLIC_AFTER = 2          # sizes of a leading dimension before one program is made for all


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
                self.entry = entry.Entry(self._miss, raise_fault)
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
                    from cellc import lax  # here: where all is compiled nothing needs it

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
            except KnownFault:
                raise
            except CellcError as fault:     # what is wrong with all sizes is so with this one
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


# -- what users see ------------------------------------------------------------------------------

def compiled(fn: Callable) -> Compiled:
    """The Compiled behind a cell, a function, a method or a gradient, made when first asked for;
    behind a jitted function that of the function itself.

    It is kept on the object itself, so it goes when the object goes.
    """
    fn = fn.fn if isinstance(fn, Jitted) else fn
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
