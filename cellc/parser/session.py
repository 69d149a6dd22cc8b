"""One parse: the builder being appended to, what was read, what was made, what is printed."""

from __future__ import annotations

from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from cellc.errors import SyntaxFault, TypeFault
from cellc.ir import arith
from cellc.ir.arith import is_found
from cellc.ir.graph import Apply, Builder, Graph, Input, Node, calling_themselves, has_effect
from cellc.ir.prims import control, effect
from cellc.ir.prims.elementwise import stop_gradient
from cellc.ir.prims.tape import TAPE
from cellc.ir.types import Dim, TupleType, boolean
from cellc.parser import hooks
from cellc.parser.aliases import Aliases
from cellc.parser.frame import NeedsTape
from cellc.parser.guards import (
    MISSING,
    Guard,
    Record,
    is_steady,
    items_in,
    look,
    place_of,
    slots_of,
)
from cellc.parser.source import Source, source_of
from cellc.parser.values import LISTS, Owned, describe, on_tape, refuse_whole, unknown
from cellc.passes.rebuild import copy_body, found_sizes, renamed

MAX_DEPTH = 300         # calls within calls of parsed functions
MAX_UNROLLED = 100_000  # rounds of one unrolled loop


class TraceBuilder(Builder):
    """A builder that knows the Parameters assigned so far: reading one gives what was assigned."""

    def __init__(self, name: str):
        super().__init__(name)
        self.assigned: dict[int, tuple[Any, Node]] = {}
        self.modes: dict[str, bool] | None = None       # of the session, where it is being run
        self.session: Session | None = None         # whose parse appends to it

    def lift(self, value) -> Node:
        if self.assigned and not isinstance(value, Node):
            found = self.assigned.get(id(value))
            if found is not None:
                return found[1]
        return super().lift(value)

    def capture(self, value) -> Node:
        node = super().capture(value)
        if self.session is not None:
            self.session.aliases.captured(node, value)
        return node

    def assign(self, parameter, value) -> Node:
        """From here on the Parameter has this value: cast to its dtype, broadcast to its shape."""
        type = parameter.type
        value = arith.cast(self.lift(value), type.dtype)
        node = self.lift(arith.broadcast_to(value, type.shape))
        self.assigned[id(parameter)] = (parameter, node)
        return node

    def append(self, node: Apply) -> Apply:
        node = super().append(node)
        if self.modes and self.modes["detached"] and not _passes_on(node):
            return super().append(Apply(stop_gradient, (node,), {}, None, "", self.loc))
        return node


def _passes_on(node: Apply) -> bool:
    """Is it no float, or a result of branches or loops, which have decided about gradients?"""
    if not getattr(node.type, "dtype", boolean).is_float:
        return True
    source = node.operands[0] if node.prim is control.item else node
    return source.prim in (control.cond, control.while_)


class Session:
    """What is known while one callable is parsed."""

    def __init__(self, name: str):
        self.builder = TraceBuilder(name)
        # Under no_grad(); a dict, so that traced branches put it back as they do the user's.
        self.modes = self.builder.modes = {"detached": False, "outside": False}
        self.builder.session = self
        self.record = Record()
        self.records: list[Record] = [self.record]
        self.journals: list[dict[int, tuple[Any, Any]]] = []
        self.owned = Owned(self.journals)
        self.messages: list[Any] = []       # what the program says; kept as long as it is
        self.conditions: list[Node] = []    # of the traced branches around here, in this graph
        self.traced_depth = 0               # how many there are, in all graphs around here
        self.pending: list[Any] = []        # functions that are becoming graphs: see recursion.py
        self.recursions: dict[Any, tuple] = {}      # those that have become graphs
        self.checkpoint: str | None = None  # how the gradients of loops save memory
        self.growing: dict[int, list] = {}  # lists that may only be appended to: see growing.py
        self.frames: list[Any] = []
        self.builders: list[TraceBuilder] = []      # those around here
        self.aliases = Aliases()            # what may be one object
        self.blocks: list[Any] = []         # for each `with` and `try`: the condition around it
        self.generators: list[Any] = []     # all that were made
        self.managers: list[Any] = []       # what was entered by `with`
        self.cell_graphs: dict[Any, list[Any]] = {}
        self.continuations: dict[Any, Any] = {}     # graphs of code after branches, and of what:
        self.shared: dict[int, Any] = {}            # see control.go_on
        self.handed: dict[int, Any] = {}    # containers that stand here for arguments
        self.gradients = 0          # how many functions around here are being differentiated
        self.rules = 0              # how many calls with a rule for their gradient were met
        self.sizes = 0              # how many the program finds
        self.untaped = False        # is a loop around here tried without lists on tapes?
        self.constants: list[Any] = []      # the Tensors that were made of known values
        self.codes: set[CodeType] = set()   # of the user's functions that were interpreted
        self.library: set[tuple[str, str]] = set()      # what was taken of the library's modules
        self._names: dict[str, int] = {}
        self._arrays: dict[int, tuple[Any, Any]] = {}

    # -- graphs ----------------------------------------------------------------------------------

    def graph_name(self, base: str) -> str:
        """A name no other graph of this parse has."""
        n = self._names[base] = self._names.get(base, -1) + 1
        return f"{base}.{n}" if n else base

    @contextmanager
    def building(self, builder: TraceBuilder):
        """Append to another builder for a while."""
        outer, self.builder = self.builder, builder
        builder.loc, builder.session = outer.loc, self
        self.builders.append(outer)
        try:
            with builder:
                yield builder
        finally:
            self.builder = self.builders.pop()

    @contextmanager
    def running(self, builder: TraceBuilder):
        """`building`, while the user's code is run: gradients flow as it has said."""
        builder.modes = self.modes
        try:
            with self.building(builder):
                yield builder
        finally:
            builder.modes = None

    @contextmanager
    def closed(self, builder: TraceBuilder):
        """Build a graph of its own: outer branches do not count."""
        outer = self.conditions, self.journals, self.owned, self.modes
        self.conditions, self.journals = [], []
        self.owned = Owned(self.journals)
        self.modes = {"detached": False, "outside": any(self.modes.values())}
        try:
            with self.running(builder):
                yield builder
        except Exception as error:
            if builder.assigned or any(map(has_effect, builder.body)):
                error.lost = True       # they are gone with the graph: see `exceptions`
            raise
        finally:
            self.conditions, self.journals, self.owned, self.modes = outer

    @contextmanager
    def attempt(self, frame, fails):
        """What ends in `fails` has never been: variables, containers and the graph are put back.

        Another exception is the user's, who may catch it.
        """
        builder, journal, n = self.builder, {}, len(self.generators)
        length, assigned = len(builder.body), dict(builder.assigned)
        variables, bound_at = frame.variables, dict(frame.bound_at)
        self.journals.append(journal)
        self.journal(variables)
        try:
            yield
        except fails:
            for value, held in journal.values():
                restore(value, held)
            del builder.body[length:]
            del self.generators[n:]
            builder.assigned, frame.bound_at = assigned, bound_at
            journal.clear()
            raise
        finally:
            self.journals.pop()
            journal.pop(id(variables), None)    # a branch of that frame has them already
            if self.journals:
                self.owned.adopt(journal)
                for key, entry in journal.items():
                    if not self.owned.is_of_this_branch(entry[0]):
                        self.journals[-1].setdefault(key, entry)

    @contextmanager
    def without_tapes(self, frame):
        """An attempt that ends in NeedsTape where a list would come to lie on a tape: in a loop
        that can be unrolled, what is known of lists is worth more."""
        if self.untaped:
            yield
            return
        self.untaped = True
        try:
            with self.attempt(frame, NeedsTape):
                yield
        finally:
            self.untaped = False

    def append_call(self, graph: Graph, operands: list, rule: dict | None = None) -> list[Node]:
        """Append `call` of the graph, perhaps with a rule; its results as separate nodes.

        What finds sizes is copied instead: a result may have such a size, which is another at each
        call. That of a function that calls itself has none to show.
        """
        if TAPE in (x.type for x in graph.inputs):
            raise TypeFault("a list whose length is known only when the program runs is passed to "
                            "another cell, or to a recursive or differentiated function",
                            "pass ops.stack of it")
        sizes = found_sizes(graph)
        if sizes and id(graph) in calling_themselves(graph.reachable()):
            if any(is_found(n) and n.name in sizes for r in graph.results
                   for n in getattr(r.type, "shape", ())):
                raise TypeFault("a function that calls itself gives a tensor whose size is known "
                                "only when the program runs",
                                "reduce it in the function, for instance to a sum")
        elif sizes:
            names = {name: self.fresh_size().name for name in sizes}
            graph = renamed(graph, names)
            rule = {key: renamed(x, names) if isinstance(x, Graph) else x
                    for key, x in (rule or {}).items()}
            if not rule:
                result = copy_body(self.builder, graph, map(self.builder.lift, operands))
                return self.parts(result, len(graph.results))
        return self.parts(control.call(*operands, graph=graph, **rule or {}), len(graph.results))

    def parts(self, node: Node, n: int) -> list[Node]:
        """The n results that a `call` or `cond` gives: itself, or its items."""
        if not isinstance(node.type, TupleType):
            return [node]
        return control.items(node)[:n]

    def fresh_size(self) -> Dim:
        """A size for the program to find."""
        self.sizes += 1
        return Dim(f"?n{self.sizes}")

    def lift(self, value) -> Node:
        """The node of a traced value, known number or NumPy array in the current graph."""
        if isinstance(value, np.ndarray):
            value = self.tensor_of(value)
        return self.builder.lift(value)

    def lift_anywhere(self, value) -> Node:
        """The node of a traced value, of whatever graph it is."""
        return value if isinstance(value, Node) else self.lift(value)

    def source_of(self, function: FunctionType) -> Source:
        """The Source of a function that is interpreted."""
        if not is_steady(function.__globals__.get("__name__")):
            self.codes.add(function.__code__)
        return source_of(function)

    def hand(self, value) -> None:
        """Remember a container or object that was made here to stand for an argument."""
        self.handed[id(value)] = value

    def constant(self, kind: type, *args, **kwargs):
        """A Tensor made of known values."""
        self.constants.append(kind(*args, **kwargs))
        return self.constants[-1]

    def tensor_of(self, array):
        """The Tensor that stands for a NumPy array from the user's code; one for each array."""
        found = self._arrays.get(id(array))
        if found is None:
            found = self._arrays[id(array)] = (array, self.constant(hooks.Tensor, array))
        return found[1]

    # -- what is read and changed ------------------------------------------------------------------

    def read(self, kind: str, owner, name: str, value) -> None:
        """Note a read of something outside; what holds a traced value was made here."""
        if isinstance(value, Node):
            return
        guard = Guard(kind, owner, name, value)
        for record in self.records:
            record.add(guard)
        self.observe(value)

    def replay(self, reads: list[Guard]) -> None:
        """Note the reads that a reused graph stands for."""
        for guard in reads:
            for record in self.records:
                record.add(guard)

    def observe(self, value) -> None:
        """Note the contents of a container from outside: its items can change unseen."""
        if isinstance(value, tuple):
            for item in value:
                self.observe(item)
        elif value is not None and place_of(value) is value and self._is_outside(value):
            known = ("contents", id(value), "") in self.records[-1].seen
            self._note_contents(value)
            if not known:
                for item in items_in(value):
                    self.observe(item)

    def look_into(self, *values) -> None:
        """Note all that objects and containers from outside hold, and what that holds: code which
        is not interpreted will look at it."""
        met: dict[int, Any] = {}
        todo = list(values)
        while todo:
            value = todo.pop()
            if id(value) in met:
                continue
            met[id(value)] = value
            is_outside = self._is_outside(value)
            place = place_of(value)
            if place is not None:
                if is_outside:
                    self._note_contents(place)
                todo.extend(items_in(place))
            elif isinstance(value, (tuple, frozenset)):
                todo.extend(value)
            for name in slots_of(type(value)):
                found = getattr(value, name, MISSING)
                if is_outside:
                    self.read("attr", value, name, found)
                todo.append(found)

    def look_over(self, value) -> None:
        """Note which items an object or container from outside holds, and not what they hold: code
        which is not interpreted will go through them or count them."""
        if place_of(value) is value:
            self.observe(value)
        else:
            self.look_into(value)

    def _is_outside(self, value) -> bool:
        return value not in self.owned and id(value) not in self.handed

    def _note_contents(self, place) -> None:
        guard = Guard("contents", place, "", look("contents", place, ""))
        for record in self.records:
            record.add(guard)

    def is_made_here(self, value) -> bool:
        """Did the parsed code make this tensor, so that changing an item is its own business?"""
        return value in self.owned or (isinstance(value, Node) and not isinstance(value, Input))

    def look_at(self, value) -> None:
        """Refuse to look at all of a list whose length is not known here."""
        if (on := on_tape(value)) is not None:
            refuse_whole(on.tape, "a use of all items")
        if self.growing and id(value) in self.growing:
            raise TypeFault("a list that grows in a loop is read in it, and its length there is "
                            "known only when the program runs",
                            "keep what is read in a variable of its own")

    def about_to_change(self, value, what: str) -> None:
        """Refuse to change what the parsed code did not make; remember it for the other branch."""
        if value not in self.owned:
            raise TypeFault(
                f"{what} would change {_kind(value)} made outside the compiled call, which happens "
                "once, while compiling, and not at each call",
                "work on a copy made here, such as list(x) or dict(x), and return it")
        self.aliases.check(self, value, f"{_kind(value)} is changed")
        self.journal(value)

    def journal(self, value) -> None:
        """Remember the contents of a container before a traced branch changes it."""
        if self.journals and id(value) not in self.journals[-1] and (
                not self.owned.is_of_this_branch(value)):
            self.journals[-1][id(value)] = (value, contents(value))

    def check_uncaught(self, kind: type, loc, condition=None) -> None:
        """Refuse an exception that the running program may raise, where something would catch it.
        """
        if condition is None and self.conditions:
            condition = self.conditions[-1]
        for block in self.blocks:
            if block.inside and block.may_catch(kind):
                raise unknown(condition, f"whether {kind.__name__} is raised here is known only "
                              "when the program runs, where nothing can be caught, and a `try` or "
                              "`with` around it would", "test the condition with an if and go on "
                              "without raising, or leave out the try").at(loc)

    # -- calls -------------------------------------------------------------------------------------

    def call(self, function, args=(), kwargs=None):
        """Call any value of the parsed code."""
        from cellc.parser import calls

        return calls.call(self, function, list(args), dict(kwargs or {}))

    def enter(self, frame) -> None:
        if len(self.frames) >= MAX_DEPTH:
            raise SyntaxFault(
                f"{frame.source.name} calls itself more than {MAX_DEPTH} levels deep",
                "recursion must end on a known condition (a shape, a plain number); "
                "write a loop over a known range instead")
        if frame.entered is None:       # a generator is entered again and again
            frame.entered = len(self.owned)
        self.frames.append(frame)
        self.owned.add(frame.variables)

    def message(self, message) -> int:
        """The number by which the program knows a message."""
        self.messages.append(message)
        return effect.register(message)


def contents(value):
    """A copy of what a container or object holds."""
    if isinstance(value, (*LISTS, dict, set)):
        return value.copy()
    if hasattr(type(value), "restore"):     # an iterator
        return value.state()
    return fields_of(value)


def fields_of(value) -> dict:
    """The attributes an object holds itself, in its dictionary or in slots."""
    held = dict(getattr(value, "__dict__", ()))
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                held[name] = object.__getattribute__(value, name)
    return held


def restore(value, held) -> None:
    """Put back what `contents` copied."""
    if isinstance(value, list):
        value[:] = held
    elif isinstance(value, LISTS):
        value.clear()
        value.extend(held)
    elif isinstance(value, (dict, set)):
        value.clear()
        value.update(held)
    elif hasattr(type(value), "restore"):
        value.restore(held)
    else:
        for name in fields_of(value).keys() - held.keys():
            object.__delattr__(value, name)
        for name, part in held.items():
            object.__setattr__(value, name, part)


def _kind(value) -> str:
    if isinstance(value, (list, dict, set)):
        return f"a {type(value).__name__}"
    return describe(value)
