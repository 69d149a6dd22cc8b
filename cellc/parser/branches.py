"""Two branches under a condition known only when the program runs, and their join.

Each branch is built by a builder of its own, starting from the same variables and containers: what
one changes is put back before the other runs (`Session.journals` remember it). The join compares
what the two have made of each variable, container, Parameter and returned value. What is the same
in both stays as it is. Where both give a number or tensor, the pair becomes one result of a `cond`,
in one type: Python's numbers take the other's type as they do in arithmetic, tensors must agree.
Tuples, lists and dicts are joined item by item. A variable that one of them has not bound becomes a
Maybe, and is checked where it is read; what does not meet becomes a Conflict, which is an error
where it is read. A branch that never ends (it raises) takes what the other has made.
"""

from __future__ import annotations

from dataclasses import fields

from cellc.errors import Loc
from cellc.ir.graph import Graph, Input, Node, has_effect
from cellc.ir.prims import control
from cellc.ir.prims.tape import TAPE
from cellc.ir.types import TapeType, TensorType, Type
from cellc.parser import lists
from cellc.parser.frame import Ended, NeedsTape, Unsettled
from cellc.parser.guards import MISSING, same
from cellc.parser.meeting import NOTHING, in_type, is_number, meeting_type
from cellc.parser.session import TraceBuilder, contents, restore
from cellc.parser.values import (
    LISTS,
    Conflict,
    HeldBy,
    Itself,
    Maybe,
    OnTape,
    Side,
    Slot,
    Unbound,
    describe,
    flatten,
    is_instance_of_dataclass,
    on_tape,
    same_kind,
    same_object,
    unflatten,
)


class Branch:
    """One side of a traced `if`: its builder, and what it made of the containers it changed."""

    def __init__(self, frame, node, condition: Node, label: str):
        self.condition = condition
        self.frame, self.session = frame, frame.session
        self.loc = frame.loc(node)
        self.builder = TraceBuilder(f"{frame.source.name}.{label}")
        self.returned = None            # an Outcome, or the value of an expression
        self.never_ends = self.is_unsettled = False
        self._journal: dict[int, tuple] = {}
        self._after: dict[int, tuple] = {}
        self._bound_at: dict[str, object] = {}

    def run(self, work):
        """Do `work` as this branch; called again, it goes on from where the branch was left."""
        session, frame = self.session, self.frame
        session.journals.append(self._journal)
        session.journal(frame.variables)
        for value, held in self._after.values():
            restore(value, held)
        outer_places, frame.bound_at = frame.bound_at, frame.bound_at | self._bound_at
        session.conditions.append(self.condition)
        session.traced_depth += 1
        frame.depth += 1
        try:
            with session.running(self.builder):
                return work()
        except Exception as error:
            error.crossed = self.condition      # so that nothing outside catches it: `exceptions`
            raise
        finally:
            session.traced_depth -= 1
            session.conditions.pop()
            frame.depth -= 1
            session.journals.pop()
            self._bound_at, frame.bound_at = frame.bound_at, outer_places
            self._after = {key: (value, contents(value))
                           for key, (value, _) in self._journal.items()}
            for value, held in self._journal.values():
                restore(value, held)

    def run_if_known(self, work):
        """`run`; a branch whose result is not known yet is one that never ends."""
        try:
            return self.run(work)
        except Unsettled as reason:
            self.never_ends, self.is_unsettled = True, not isinstance(reason, Ended)
            return None

    def changed(self):
        """The containers this branch may have changed, by id."""
        return {key: value for key, (value, _) in self._journal.items()}

    def view(self, value):
        """What a container holds at the end of this branch."""
        found = self._after.get(id(value))
        return found[1] if found else contents(value)

    def variables(self) -> dict:
        """The frame's variables at the end of this branch."""
        return self.view(self.frame.variables)

    def knew(self, value) -> bool:
        """Is this a container of the parsed code that was there before the branch?"""
        owned = self.session.owned
        return value in owned and not owned.made_in(value, self._journal)

    def after(self, value):
        """What a container holds at the end of this branch; None where it was not changed."""
        found = self._after.get(id(value))
        return found[1] if found else None

    def place(self, name: str) -> Loc:
        """Where this branch (or the code before it) bound a variable."""
        node = self._bound_at.get(name)
        return self.frame.loc(node) if node is not None else self.loc

    def finish(self, values: list[Node], outside: list) -> Graph:
        """The branch's graph, taking all of `outside` as inputs in that order."""
        with self.session.building(self.builder) as b:
            result = b.lift(values[0]) if len(values) == 1 else control.tuple(*values)
        inputs = []
        for value in outside:
            found = b.captured.get(id(value))
            inputs.append(found[1] if found else Input(
                value.type, getattr(value, "name", None) or "unused"))
        return Graph(self.session.graph_name(b.name), inputs, b.body, result)


def join(frame, node, condition: Node, then: Branch, orelse: Branch, leaving: bool = False,
         live: frozenset | None = None):
    """Append the `cond` of both branches; their changes happen here, and the joined value returns.

    `leaving`: the function returns here, so that its variables do not matter any more. `live`: the
    only ones that do, where that is known.
    """
    from cellc.parser import reach

    session = frame.session
    joiner = Joiner(session, then, orelse, frame.loc(node))
    returned = joiner.value(_value(then), _value(orelse), "the returned value", strict=True)
    parameters = _assigned(then, orelse)
    assigned = [joiner.pair(then.builder.lift(p), orelse.builder.lift(p)) for p in parameters]
    changes = []
    for value in (then.changed() | orelse.changed()).values():
        if value is frame.variables:
            if not leaving:
                changes.append((value, joiner.variables(frame, node, value, live)))
        else:
            joined = joiner.container(value)
            if not isinstance(joined, Conflict):
                changes.append((value, joined))
            elif not reach.is_dead(session, frame, node, value, (then, orelse), leaving):
                joined.refuse(f"a {type(value).__name__} changed in one branch")
    leaves = joiner.append(condition)
    shared: dict = {}

    def fill(structure):
        return unflatten(structure, leaves, made=session.owned.add, keep=True, shared=shared)

    for value, joined in changes:
        session.journal(value)
        restore(value, fill(joined))
    for parameter, slot in zip(parameters, assigned, strict=True):
        session.builder.assigned[id(parameter)] = (parameter, leaves[slot.index])
    returned = fill(returned)
    for value, a, b in joiner.objects(leaves, shared):
        session.aliases.joined(value, a, b)
    return returned


def _value(branch: Branch):
    return getattr(branch.returned, "value", branch.returned)


def _assigned(then: Branch, orelse: Branch) -> list:
    """The Parameters that either branch assigned, each once, in order."""
    both = then.builder.assigned | orelse.builder.assigned
    return [parameter for parameter, _ in both.values()]


class Joiner:
    """Pairs of values from two branches: what is joined becomes a structure over the pairs kept.

    `what` is the statement that has them: `if`, or a loop, whose branches are what was there before
    and what a round makes of it.
    """

    def __init__(self, session, then: Branch, orelse: Branch, loc: Loc, what: str = "if",
                 state=frozenset()):
        """`state`: ids of the nodes that stand for the state of a loop in the round joined."""
        self.session, self.then, self.orelse, self.loc, self.what = session, then, orelse, loc, what
        self.state = state
        self.pairs: list[tuple] = []        # (then value, else value, type)
        self._slots: dict[tuple, Slot] = {}
        self._containers: dict[tuple, tuple] = {}   # ids of two -> (their structure, the two)
        self._left: dict[str, dict] = {"values": {}, "structures": {}, "made": {}}
        self._leaves: list = []             # of what only one side has, and
        self._pairs: list = []              # their pairs

    def pair(self, a, b, type: Type | None = None) -> Slot:
        """The slot of a pair; two tensors, or tapes, that are the same in both stay one."""
        type = type or meeting_type(a, b)
        if not isinstance(type, (TensorType, TapeType)):
            self.pairs.append((a, b, type))
            return Slot(len(self.pairs) - 1)
        itself = self.session.aliases.itself
        key = (*(id(itself(x.held() if isinstance(x, Side) else x)) for x in (a, b)), type)
        if key not in self._slots:
            self.pairs.append((a, b, type))
            self._slots[key] = Slot(len(self.pairs) - 1)
        return self._slots[key]

    def forget(self, a, b) -> None:
        """These two are copies of what a container holds, and nobody else's."""
        self._containers.pop((id(a), id(b)), None)

    def containers(self) -> list:
        """(structure, container, container) of those that were joined."""
        return list(self._containers.values())

    def objects(self, leaves: list[Node], shared: dict):
        """What the pairs have become, with what they were in both: tensors and containers."""
        for leaf, (a, b, type) in zip(leaves, self.pairs, strict=False):
            if isinstance(type, (TensorType, TapeType)):
                yield leaf, *(None if x is NOTHING else x for x in (a, b))
        for structure, a, b in self.containers():
            yield shared.get(id(structure), (None, structure))[1], a, b

    def variables(self, frame, node, held: dict, live: frozenset | None) -> dict:
        """The variables after the `if`: only those that can still be read."""
        first, second = self.then.view(held), self.orelse.view(held)
        exits = frame.rolled[-1].exits if frame.rolled else None
        read = [exits.read_after(side) if exits else None for side in (first, second)]
        joined = {}
        for name in first | second:
            a, b = first.get(name, MISSING), second.get(name, MISSING)
            if a is b:
                joined[name] = a
            elif is_live(frame, node, name, live):
                needed = [names is None or name in names or name.startswith("$") for names in read]
                value = self.variable(a, b, name) if needed[0] is needed[1] else self._of_one(
                    b if needed[1] else a, needed[1])
                if value is not MISSING:
                    joined[name] = value
        return joined

    def _of_one(self, value, in_second: bool):
        """A variable's value on the only side where it is read afterwards."""
        if isinstance(value, Maybe):
            flag = value.flag
            return Maybe(self.one_sided(value.value, in_second), flag if isinstance(
                flag, bool) else self.one_sided(flag, in_second), value.unbound)
        return value if value is MISSING or isinstance(value, Conflict) else self.one_sided(
            value, in_second)

    def variable(self, a, b, name: str):
        """A variable's value in both, either of which may have none."""
        if a is MISSING and self.then.never_ends or b is MISSING and self.orelse.never_ends:
            return self.one_sided(b if a is MISSING else a, a is MISSING)
        if a is not MISSING and b is not MISSING and not isinstance(
                a, Maybe) and not isinstance(b, Maybe):
            return self.value(a, b, name)
        known = next(x for x in (a, b) if x is not MISSING)
        if isinstance(known, Conflict):
            return known
        unbound = next((x.unbound for x in (a, b) if isinstance(x, Maybe)), None)
        if unbound is None:
            side = self.then if b is MISSING else self.orelse
            unbound = Unbound(name, self.what, side.place(name), self.loc)
        flags = [x is not MISSING and (x.flag if isinstance(x, Maybe) else True) for x in (a, b)]
        flag = self.unchanged(flags[0]) if flags[0] is flags[1] else self.pair(*flags)
        a, b = (x.value if isinstance(x, Maybe) else x for x in (a, b))
        if a is MISSING or b is MISSING:
            return Maybe(self.one_sided(known if not isinstance(known, Maybe) else known.value,
                                        a is MISSING), flag, unbound)
        joined = self.value(a, b, name)
        return joined if isinstance(joined, Conflict) else Maybe(joined, flag, unbound)

    def one_sided(self, value, in_second: bool):
        """A value that only one side has: the other gives anything."""
        session, memo = self.session, self._left
        side = self.orelse if in_second else self.then
        value = as_left(side, value, session.owned.add, memo["values"])
        structure = flatten(value, self._leaves, session.lift_anywhere, memo["structures"])
        for x in self._leaves[len(self._pairs):]:
            outside = session.aliases.itself(x)
            if self.what == "if" and x.type != TAPE and not side.builder.owns(outside):
                self._pairs.append(outside)     # it was there before: no result of the branch
            else:
                self._pairs.append(self.pair(*((NOTHING, x) if in_second else (x, NOTHING)),
                                             x.type))
        return unflatten(structure, self._pairs, made=session.owned.add, shared=memo["made"])

    def unchanged(self, value):
        """What both have alike: itself, but what is state of a loop is so in all its rounds."""
        if id(value) in self.state:
            return self.pair(value, value, value.type)
        if not self.state or not isinstance(value, (tuple, *LISTS, dict)) and (
                not is_instance_of_dataclass(value)):
            return value
        if not isinstance(value, tuple) and self.orelse.knew(value):
            return value
        leaves: list = []
        flatten(value, leaves, self.session.lift_anywhere)
        return self.as_it_is(value) if any(id(x) in self.state for x in leaves) else value

    def as_it_is(self, value):
        """The structure of what both have alike, with a pair for each traced part of it."""
        leaves: list = []
        flat: dict = {}
        made: dict = {}
        structure = flatten(value, leaves, self.session.lift_anywhere, flat)
        slots = [self.pair(x, x, x.type) for x in leaves]
        found = unflatten(structure, slots, made=self.session.owned.add, keep=True, shared=made)
        for held, inner in flat.values():
            if not isinstance(held, (tuple, frozenset)):
                inner = made.get(id(inner), (None, inner))[1]
                self._containers.setdefault((id(held), id(held)), (inner, held, held))
        return found

    def container(self, value):
        """A list, dict, set or object that was there before the `if`; perhaps a Conflict."""
        first, second = self.then.view(value), self.orelse.view(value)
        if hasattr(type(value), "joined"):      # an iterator
            return value.joined(first, second, self)
        return self.value(first, second, f"a {type(value).__name__} changed in one branch")

    def value(self, a, b, name: str, strict: bool = False):
        """One value of both, as a structure; a Conflict where there is none."""
        joined = self._value(a, b, name)
        if strict and isinstance(joined, Conflict):
            joined.refuse(name)
        return joined

    def _value(self, a, b, name: str):
        if self.then.never_ends or self.orelse.never_ends:
            return self.one_sided(*((b, True) if self.then.never_ends else (a, False)))
        if a is b or same(a, b):
            return self.unchanged(a)
        if is_number(a) and is_number(b):
            if meeting_type(a, b) is None:
                return self._conflict(a, b, name)
            return self.pair(a, b)
        if isinstance(a, Conflict) or isinstance(b, Conflict):
            return a if isinstance(a, Conflict) else b
        if isinstance(a, HeldBy) or isinstance(b, HeldBy):
            return self._value(*(x.within(side.variables()) if isinstance(x, HeldBy) else x
                                 for side, x in ((self.then, a), (self.orelse, b))), name)
        if type(a) is not type(b):
            return self._conflict(a, b, name)
        if (id(a), id(b)) in self._containers:
            return self._containers[id(a), id(b)][0]
        joined = self._container(a, b, name)
        if not isinstance(joined, (tuple, frozenset, Conflict)):
            self._containers[id(a), id(b)] = joined, a, b
        return joined

    def _container(self, a, b, name: str):
        if type(a) is type(b) is list:
            first, second = self._held(self.then, a), self._held(self.orelse, b)
            met = lists.meeting(self.session, first, second)
            if met is not None:
                if self.session.untaped and on_tape(first) is on_tape(second) is None:
                    raise NeedsTape
                sides = (Side(x, met[1]) for x in (first, second))
                return self._made([OnTape(self.pair(*sides, TAPE), *met)])
        if isinstance(a, (tuple, *LISTS)):
            items = self._items(self._held(self.then, a), self._held(self.orelse, b), name)
            if items is None:
                return self._conflict(a, b, name)
            return self._made(same_kind(a, items))
        if isinstance(a, dict):
            first, second = self.then.view(a), self.orelse.view(b)
            if list(first) != list(second):
                return self._conflict(a, b, name)
            items = self._items(first.values(), second.values(), name)
            return self._conflict(a, b, name) if items is None else self._made(
                dict(zip(first, items, strict=True)))
        if isinstance(a, (set, frozenset)):
            items = self._held(self.then, a)
            if items != self._held(self.orelse, b):
                return self._conflict(a, b, name)
            return a if isinstance(a, frozenset) else self._made(set(items))
        if is_instance_of_dataclass(a) and a in self.session.owned and b in self.session.owned:
            first, second = self.then.view(a), self.orelse.view(b)
            names = [f.name for f in fields(a)]
            items = self._items([first[n] for n in names], [second[n] for n in names], name)
            if items is not None:
                new = object.__new__(type(a))
                for field_name, item in zip(names, items, strict=True):
                    object.__setattr__(new, field_name, item)
                return self._made(new)
        return self._conflict(a, b, name)

    def _made(self, value):
        return value if isinstance(value, tuple) else self.session.owned.add(value)

    def _held(self, branch: Branch, value):
        return branch.view(value) if isinstance(value, (*LISTS, set)) else value

    def _items(self, first, second, name: str) -> list | None:
        first, second = list(first), list(second)
        if len(first) != len(second):
            return None
        joined = [self._value(a, b, name) for a, b in zip(first, second, strict=True)]
        return None if any(isinstance(x, Conflict) for x in joined) else joined

    def _conflict(self, a, b, name: str) -> Conflict:
        places = [getattr(side.returned, "loc", None) or side.place(name)
                  for side in (self.then, self.orelse)]
        return Conflict(self.what, describe(a), places[0], describe(b), places[1])

    def append(self, condition: Node) -> list[Node]:
        """The `cond` with one result for each pair; nothing where there is none."""
        if not self.pairs and not any(has_effect(node) for branch in (self.then, self.orelse)
                                      for node in branch.builder.body):
            return []
        results = []
        for side, branch in enumerate((self.then, self.orelse)):
            with self.session.building(branch.builder):
                results.append([self._in_type(pair[side], pair[2]) for pair in self.pairs])
        outside = {key: value for branch in (self.then, self.orelse)
                   for key, (value, _) in branch.builder.captured.items()}
        outside = list(outside.values())
        graphs = [branch.finish(values, outside)
                  for branch, values in zip((self.then, self.orelse), results, strict=True)]
        node = control.cond(condition, *outside, then=graphs[0], orelse=graphs[1])
        return self.session.parts(node, len(self.pairs))

    def _in_type(self, value, type: Type) -> Node:
        return in_type(self.session, value, type)


def as_left(side: Branch, value, made, memo: dict):
    """The value with what its containers hold at the end of a side of the join; those that were
    there before it stay themselves. `memo` knows the containers met before."""
    if isinstance(value, tuple):
        items = [as_left(side, x, made, memo) for x in value]
        return same_kind(value, items)
    if not isinstance(value, (*LISTS, dict)) and not is_instance_of_dataclass(value):
        return value
    if side.knew(value):
        return Itself(value)
    if id(value) not in memo:
        held = side.view(value)
        if isinstance(value, LISTS):
            left = same_kind(value, [as_left(side, x, made, memo) for x in held])
        else:
            items = {key: as_left(side, x, made, memo) for key, x in held.items()}
            left = items if isinstance(value, dict) else made(same_object(value, items))
        memo[id(value)] = value, left
    return memo[id(value)][1]


def is_live(frame, node, name: str, live: frozenset | None = None) -> bool:
    """Can the variable still be read? It is one of `live`, or else, for what that does not say, it
    is read behind `node`; within a loop the next round comes behind it too."""
    source = frame.source
    if name in source.captured or name.startswith("$"):
        return True
    if live is not None:
        return name in live
    last = source.last_read.get(name)
    if last is None:
        return False
    if frame.loops:
        outermost = frame.loops[0]
        return last >= (outermost.lineno, outermost.col_offset)
    return last > (node.end_lineno, node.end_col_offset - 1)
