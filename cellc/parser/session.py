"""One parse: the builder being appended to, what was read, what was made, what is printed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import numpy as np

from cellc.errors import SyntaxFault, TypeFault
from cellc.ir import arith
from cellc.ir.graph import Builder, Graph, Input, Node
from cellc.ir.prims import control, effect
from cellc.parser import hooks
from cellc.parser.guards import Guard, Record, look
from cellc.parser.values import Owned, describe

MAX_DEPTH = 300         # calls within calls of parsed functions
MAX_UNROLLED = 100_000  # rounds of one unrolled loop


class TraceBuilder(Builder):
    """A builder that knows the Parameters assigned so far: reading one gives what was assigned."""

    def __init__(self, name: str):
        super().__init__(name)
        self.assigned: dict[int, tuple[Any, Node]] = {}

    def lift(self, value) -> Node:
        if self.assigned and not isinstance(value, Node):
            found = self.assigned.get(id(value))
            if found is not None:
                return found[1]
        return super().lift(value)

    def assign(self, parameter, value) -> Node:
        """From here on the Parameter has this value: cast to its dtype, broadcast to its shape."""
        type = parameter.type
        value = arith.cast(self.lift(value), type.dtype)
        node = self.lift(arith.broadcast_to(value, type.shape))
        self.assigned[id(parameter)] = (parameter, node)
        return node


class Session:
    """What is known while one callable is parsed."""

    def __init__(self, name: str):
        self.builder = TraceBuilder(name)
        self.record = Record()
        self.records: list[Record] = [self.record]
        self.owned = Owned()
        self.journals: list[dict[int, tuple[Any, Any]]] = []
        self.messages: list[Any] = []       # what the program says; kept as long as it is
        self.conditions: list[Node] = []    # of the traced branches around here, in this graph
        self.traced_depth = 0               # how many there are, in all graphs around here
        self.pending: list[Any] = []        # functions that are becoming graphs: see recursion.py
        self.frames: list[Any] = []
        self.cell_graphs: dict[Any, list[Any]] = {}
        self.continuations: dict[Any, Any] = {}     # graphs of code after branches, and of what:
        self.shared: dict[int, Any] = {}            # see control.go_on
        self.gradients = 0          # how many functions around here are being differentiated
        self.rules = 0              # how many calls with a rule for their gradient were met
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
        builder.loc = outer.loc
        try:
            with builder:
                yield builder
        finally:
            self.builder = outer

    @contextmanager
    def closed(self, builder: TraceBuilder):
        """Build a graph of its own: outer branches do not count."""
        outer = self.conditions, self.journals, self.owned
        self.conditions, self.journals, self.owned = [], [], Owned()
        try:
            with self.building(builder):
                yield builder
        finally:
            self.conditions, self.journals, self.owned = outer

    @contextmanager
    def attempt(self, variables: dict):
        """What fails in here has never been: variables, containers and the graph are put back."""
        builder, journal = self.builder, {}
        length, assigned = len(builder.body), dict(builder.assigned)
        self.journals.append(journal)
        self.journal(variables)
        try:
            yield
        except BaseException:
            for value, held in journal.values():
                restore(value, held)
            del builder.body[length:]
            builder.assigned = assigned
            raise
        finally:
            self.journals.pop()
        if self.journals:
            for key, entry in journal.items():
                self.journals[-1].setdefault(key, entry)

    def append_call(self, graph: Graph, operands: list, rule: dict | None = None) -> list[Node]:
        """Append `call` of the graph, perhaps with a rule; its results as separate nodes."""
        return self.parts(control.call(*operands, graph=graph, **rule or {}), len(graph.results))

    def parts(self, node: Node, n: int) -> list[Node]:
        """The n results that a `call` or `cond` gives: itself, or its items."""
        return [node] if n == 1 else [control.item(node, index=i) for i in range(n)]

    def lift(self, value) -> Node:
        """The node of a traced value, known number or NumPy array in the current graph."""
        if isinstance(value, np.ndarray):
            value = self.tensor_of(value)
        return self.builder.lift(value)

    def lift_anywhere(self, value) -> Node:
        """The node of a traced value, of whatever graph it is."""
        return value if isinstance(value, Node) else self.lift(value)

    def tensor_of(self, array):
        """The Tensor that stands for a NumPy array from the user's code; one for each array."""
        found = self._arrays.get(id(array))
        if found is None:
            found = self._arrays[id(array)] = (array, hooks.Tensor(array))
        return found[1]

    # -- what is read and changed ------------------------------------------------------------------

    def read(self, kind: str, owner, name: str, value) -> None:
        """Note a read of something outside."""
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
        if isinstance(value, (list, dict, set, np.ndarray)) and value not in self.owned:
            guard = Guard("contents", value, "", look("contents", value, ""))
            known = ("contents", id(value), "") in self.records[-1].seen
            for record in self.records:
                record.add(guard)
            if known or isinstance(value, np.ndarray):
                return
            for item in value.values() if isinstance(value, dict) else value:
                self.observe(item)
        elif isinstance(value, tuple):
            for item in value:
                self.observe(item)

    def is_made_here(self, value) -> bool:
        """Did the parsed code make this tensor, so that changing an item is its own business?"""
        return value in self.owned or (isinstance(value, Node) and not isinstance(value, Input))

    def about_to_change(self, value, what: str) -> None:
        """Refuse to change what the parsed code did not make; remember it for the other branch."""
        if value not in self.owned:
            raise TypeFault(
                f"{what} would change {_kind(value)} made outside the compiled call, which happens "
                "once, while compiling, and not at each call",
                "work on a copy made here, such as list(x) or dict(x), and return it")
        self.journal(value)

    def journal(self, value) -> None:
        """Remember the contents of a container before a traced branch changes it."""
        if self.journals and id(value) not in self.journals[-1]:
            self.journals[-1][id(value)] = (value, contents(value))

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
        self.frames.append(frame)

    def message(self, message) -> int:
        """The number by which the program knows a message."""
        self.messages.append(message)
        return effect.register(message)


def contents(value):
    """A copy of what a container or object holds."""
    if isinstance(value, (list, dict, set)):
        return value.copy()
    return dict(vars(value))


def restore(value, held) -> None:
    """Put back what `contents` copied."""
    if isinstance(value, list):
        value[:] = held
    elif isinstance(value, (dict, set)):
        value.clear()
        value.update(held)
    else:
        vars(value).clear()
        vars(value).update(held)


def _kind(value) -> str:
    if isinstance(value, (list, dict, set)):
        return f"a {type(value).__name__}"
    return describe(value)
