"""Rolled loops: one `while` of the program, whatever the number of its rounds.

A round is parsed as one graph, from a state to a state. The state is what a round changes and can
still be read: variables, the contents of containers, Parameters. It is found by parsing the round
until nothing new changes: a known number that differs after a round becomes a number of the
program, and so on, until types settle. What cannot settle is a Conflict, an error where it is read.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gast

from cellc.errors import Loc, TypeFault
from cellc.ir import arith
from cellc.ir.graph import Graph, Input, Node, has_effect, scalar
from cellc.ir.prims import control as c
from cellc.ir.prims.tape import TAPE
from cellc.ir.types import Dim
from cellc.parser import branches, choices, control, lists, meeting, operators
from cellc.parser.changes import LoopObjects
from cellc.parser.exits import Exits
from cellc.parser.frame import Ended
from cellc.parser.growing import Growing
from cellc.parser.guards import MISSING
from cellc.parser.sequence import Sequence
from cellc.parser.session import contents, restore
from cellc.parser.values import (
    Conflict,
    Maybe,
    Side,
    Slot,
    is_instance_of_dataclass,
    unflatten,
)
from cellc.record import record

MOST_ATTEMPTS = 12      # at finding what a loop's state is


@record(frozen=True)
class RoundRest:
    """What follows a statement at the end of a round: the end of the round."""

    depth: int

    def resume(self, frame, outcome, target: int):
        again = control.continue_of(self.depth)
        return control.Outcome(again) if outcome.rank < again else outcome


@record(eq=False)
class Place:
    """One part of a loop's state: kind is variable, contents (of a container) or parameter."""

    kind: str
    owner: Any              # the variable's name, the container, the Parameter
    structure: Any          # its value over slots that count all the loop's state

    @property
    def key(self) -> tuple:
        return self.kind, self.owner if self.kind == "variable" else id(self.owner)


class _Before:
    """The side of a join that a round begins with: what the places were bound to."""

    returned, never_ends = None, False

    def __init__(self, loop: Rolled, body: branches.Branch):
        self.loop, self.body = loop, body

    def knew(self, value) -> bool:
        return self.body.knew(value)

    def view(self, value):
        bound = self.loop.bound.get(("contents", id(value)), MISSING)
        return contents(value) if bound is MISSING else bound

    def variables(self) -> dict:
        bound = {name: x for (kind, name), x in self.loop.bound.items() if kind == "variable"}
        return self.loop.frame.variables | bound

    def place(self, name: str) -> Loc | None:
        found = self.loop.frame.bound_at.get(name)
        return self.loop.frame.loc(found) if found is not None else self.loop.loc


class Rolled:
    """One loop on its way to be a `while`."""

    def __init__(self, frame, node, sequence: Sequence | None = None, start: int = 0):
        self.frame, self.node, self.session = frame, node, frame.session
        self.sequence, self.start = sequence, start
        self.depth, self.loc = node._depth, frame.loc(node)
        self.word = "for" if sequence is not None else "while"
        self.index = f"$index{self.depth}"
        self.exits = Exits(frame, self.depth, self._is_live)
        self.test_inside = any(isinstance(x, gast.NamedExpr) for x in gast.walk(
            node.test)) if sequence is None else False
        self.places: list[Place] = []
        self.types: list = []
        self.own: list[int] = []                # slots of what the parsed code made itself
        self.bound: dict[tuple, Any] = {}       # what the places are bound to in this attempt
        self.growing = Growing(self)
        self.objects = LoopObjects(self.session)

    def run(self, rest):
        """Parse it all; returns how the loop ends."""
        frame = self.frame
        self.exits.begin()
        if self.sequence is not None:
            frame.variables[self.index] = self.start
        body, results = self._settle()
        test = self._test()
        if test is None:                        # it changes something: part of the round
            self.test_inside = True
            body, results = self._settle()
            test = self._test()
        self._append(test, body, results)
        return self._after(rest)

    # -- a round -----------------------------------------------------------------------------------
    def leave(self, outcome):
        """What an outcome is within a round: its end, with a note of what it was."""
        again = control.continue_of(self.depth)
        if outcome.rank <= again:
            return outcome
        self.exits.take(outcome)
        return control.Outcome(again)

    def _test_says_no(self):
        self.exits.take(control.AT_END)
        return control.Outcome(control.continue_of(self.depth))

    def _inside(self, label: str, work):
        """Do `work` with the state bound to inputs of a graph of its own: (the branch, its value).
        """
        frame = self.frame
        branch = branches.Branch(frame, self.node, scalar(True), label)
        frame.loops.append(self.node)
        frame.rolled.append(self)
        growing = dict(self.session.growing)
        try:
            return branch, branch.run(lambda: (self._bind(), work())[1])
        finally:
            self.session.growing = growing
            frame.loops.pop()
            frame.rolled.pop()

    def _bind(self) -> None:
        """Give every place an input of the graph being built."""
        session, builder = self.session, self.session.builder
        inputs = [builder.input(type, self._name_of(i)) for i, type in enumerate(self.types)]
        for i in self.own:
            session.owned.add(inputs[i])
        self.bound, shared = {}, {}
        for place in self.places:
            value = unflatten(place.structure, inputs, made=session.owned.add, keep=True,
                              shared=shared, anew=self.objects.ids())
            if place.kind == "variable":
                self.frame.variables[place.owner] = self.bound[place.key] = value
            elif place.kind == "contents":
                session.journal(place.owner)
                restore(place.owner, value)
                self.bound[place.key] = contents(place.owner)
            else:
                builder.assigned[id(place.owner)] = (place.owner, value)
                self.bound[place.key] = value
        self.objects.note(inputs, shared)
        for _, made in shared.values():
            if not isinstance(made, (tuple, frozenset)):
                self.bound["contents", id(made)] = contents(made)
        self.growing.bind()

    def _name_of(self, slot: int) -> str:
        for place in self.places:
            if slot in _slots(place.structure):
                name = place.owner if place.kind == "variable" else getattr(
                    place.owner, "name", "items")
                return str(name).lstrip("$")
        return "state"

    def _round(self) -> bool:
        """Parse a round; does it ever end?"""
        frame, variables = self.frame, self.frame.variables
        self.exits.taken.clear()
        work = partial(control.run_block, frame, self.node.body, RoundRest(self.depth))
        if self.sequence is not None:
            from cellc.parser.statements import assign

            at = variables[self.index]
            variables[self.index] = arith.add(at, 1)
            frame.here(self.node.target)
            assign(frame, self.node.target, self.sequence.item(at), self.node)
        elif self.test_inside:
            more = control.test(frame, self.node.test)
            done = self._test_says_no
            if isinstance(more, bool):
                work = work if more else done
            else:
                work = partial(control.run_either, frame, self.node, more, work, done,
                               RoundRest(self.depth))
        try:
            outcome = work()
        except Ended:
            outcome = control.NOWHERE
        return outcome.rank != control.NEVER

    # -- the state ---------------------------------------------------------------------------------
    def _settle(self):
        """Parse rounds until one leaves just the state it was given: (its branch, the values)."""
        for _ in range(MOST_ATTEMPTS):
            body, ends = self._inside("round", self._round)
            body.never_ends = not ends
            joiner = branches.Joiner(self.session, _Before(self, body), body, self.loc, self.word,
                                     {id(x) for x in body.builder.inputs})
            places = self._changed(joiner, body)
            types = [pair[2] for pair in joiner.pairs]
            renamed = [p for p in places if p.kind == "variable" and isinstance(
                p.structure, Conflict) and self.exits.bound_to_others(p.owner)]
            settled = (self.objects.settled(joiner, [p.structure for p in places],
                                            self.growing.leaves())
                       and not renamed and types == self.types and self.growing.settled()
                       and [p.key for p in places] == [p.key for p in self.places]
                       and all(_alike(p.structure, q.structure) for p, q in
                               zip(places, self.places, strict=True)))
            if settled:
                return body, [pair[1] for pair in joiner.pairs]
            self.places, self.types = [p for p in places if p not in renamed], types
            self.own = [i for i, x in self._values_now().items() if self.session.is_made_here(x)]
        raise TypeFault("the variables of this loop do not come to have one type each",
                        "give them the dtype and shape that they have in later rounds before the "
                        "loop").at(self.loc)

    def _changed(self, joiner, body) -> list[Place]:
        """The places that a round changes, or that an earlier attempt found, as structures."""
        known = {place.key for place in self.places}
        found = []
        variables = self.frame.variables
        after = body.view(variables)
        for name in variables | after:
            now = self._bound_now(("variable", name), variables.get(name, MISSING))
            later = after.get(name, MISSING)
            if ("variable", name) not in known and (
                    now is later or not self._is_live(name)) or self.exits.is_over(name):
                continue
            found.append(Place("variable", name, self._variable(joiner, now, later, name)))
        for key, value in body.changed().items():
            if value is variables:
                continue
            now, later = joiner.then.view(value), body.view(value)
            if hasattr(type(value), "joined"):
                _check_iterator(now, later)
                continue
            if self.growing.takes(value, now, later):
                continue
            if ("contents", key) in known or not _same_contents(now, later):
                what = f"a {type(value).__name__} changed in a loop"
                joined = self._joined(joiner, now, later, what)
                joiner.forget(now, later)
                if isinstance(joined, Conflict):
                    joined.refuse(what)
                found.append(Place("contents", value, joined))
        for parameter, later in body.builder.assigned.values():
            now = self._bound_now(("parameter", id(parameter)), None)
            if now is None:
                now = self.session.builder.lift(parameter)
            found.append(Place("parameter", parameter, joiner.pair(now, later)))
        order = {key: i for i, key in enumerate(p.key for p in self.places)}
        return sorted(found, key=lambda place: order.get(place.key, len(order)))

    def _is_live(self, name: str) -> bool:
        """Can it be read in a further round, or behind the loop?"""
        node = self.node
        return branches.is_live(self.frame, node, name, node._live_head | node._live_after)

    def _bound_now(self, key: tuple, otherwise):
        found = self.bound.get(key, MISSING)
        return otherwise if found is MISSING else found

    def _variable(self, joiner, now, later, name: str):
        if now is MISSING and later is MISSING:
            return MISSING
        if name == self.index and isinstance(now, int):
            return joiner.pair(now, later)
        return self._joined(joiner, now, later, name) if now is later else joiner.variable(
            now, later, name)

    def _joined(self, joiner, now, later, name: str):
        """Both values as a structure; of what a round leaves as it was, the leaves as well."""
        return joiner.value(now, later, name) if now is not later else joiner.as_it_is(now)

    # -- putting it together -----------------------------------------------------------------------
    def _test(self):
        """The branch of the test and its value; None where the test does more than ask."""
        branch, found = self._inside("test", self._more)
        changed = any(not _same_contents(branch.view(value), self.bound.get(
            ("contents", key), contents(value))) for key, value in branch.changed().items()
            if value is not self.frame.variables)
        if self.sequence is None and not self.test_inside and (
                changed or any(map(has_effect, branch.builder.body)) or self._assigns(branch)):
            return None
        with self.session.building(branch.builder):
            return branch, self.session.builder.lift(found)

    def _assigns(self, branch) -> bool:
        after = branch.view(self.frame.variables)
        return any(after.get(p.owner, MISSING) is not self.bound[p.key]
                   for p in self.places if p.kind == "variable")

    def _more(self):
        """Does the loop go on? In the test's graph."""
        goes_on = self.frame.variables[self.exits.name]
        goes_on = goes_on == 0 if isinstance(goes_on, int) else arith.equal(goes_on, 0)
        if self.sequence is not None:
            return operators.both(goes_on, arith.less(
                self.frame.variables[self.index], self._number(self.sequence.length)))
        if self.test_inside:
            return goes_on
        ask = partial(control.test, self.frame, self.node.test)
        if isinstance(goes_on, bool):
            return ask()
        return choices.conjunction(self.frame, self.node, goes_on, ask)

    def _number(self, n):
        return operators.as_number(self.session, n) if isinstance(n, Dim) else n

    def _append(self, test, body, results) -> None:
        """Append the `while`, and bind what it leaves."""
        session, frame = self.session, self.frame
        first = [*self._first_values(), *self.growing.empty()]
        with session.building(body.builder):
            after = [meeting.in_type(session, x, t)
                     for x, t in zip(results, self.types, strict=True)]
            after += self.growing.written()
            result = after[0] if len(after) == 1 else c.tuple(*after)
        outside = {key: value for branch in (test[0], body)
                   for key, (value, _) in branch.builder.captured.items()}
        graphs = [self._graph(branch.builder, outside, value)
                  for branch, value in (test, (body, result))]
        frame.here(self.node)
        operands = [*first, *map(session.builder.lift, outside.values())]
        on_tape = TAPE in self.types        # a list, of which no early state can be kept
        how = {"checkpoint": session.checkpoint} if session.checkpoint and not on_tape else {}
        node = c.while_(*operands, test=graphs[0], body=graphs[1], **how)
        leaves = session.parts(node, len(first)) if first else []
        self._leave_state(leaves[:len(self.types)], body)
        self.growing.leave(leaves[len(self.types):])

    def _graph(self, builder, outside: dict, result: Node) -> Graph:
        """A closed graph of the state, then of all that either graph captured."""
        inputs = builder.inputs[:len(self.types) + self.growing.size()]
        for key, value in outside.items():
            found = builder.captured.get(key)
            inputs.append(found[1] if found else Input(
                value.type, getattr(value, "name", None) or "unused"))
        return Graph(self.session.graph_name(builder.name), inputs, builder.body, result)

    def _first_values(self) -> list[Node]:
        """The state before the first round, in the loop's types."""
        values = self._values_now()
        return [meeting.in_type(self.session, values[i], t) for i, t in enumerate(self.types)]

    def _values_now(self) -> dict[int, Any]:
        """What the variables, containers and Parameters around the loop have at each slot."""
        values: dict[int, Any] = {}
        for place in self.places:
            if place.kind == "variable":
                now = self.frame.variables.get(place.owner, MISSING)
            elif place.kind == "contents":
                now = contents(place.owner)
            else:
                now = self.session.builder.lift(place.owner)
            _spread(place.structure, now, values)
        return values

    def _leave_state(self, leaves: list[Node], body) -> None:
        session, variables, shared = self.session, self.frame.variables, {}
        session.journal(variables)
        for place in self.places:
            value = unflatten(place.structure, leaves, made=session.owned.add, keep=True,
                              shared=shared)
            if place.kind == "variable":
                if value is MISSING:
                    variables.pop(place.owner, None)
                else:
                    variables[place.owner] = value
            elif place.kind == "contents":
                session.journal(place.owner)
                restore(place.owner, value)
            else:
                session.builder.assigned[id(place.owner)] = (place.owner, value)
        self.objects.note(leaves, shared, behind=True)
        self.frame.bound_at |= body._bound_at

    # -- behind the loop ---------------------------------------------------------------------------
    def _after(self, rest):
        """How the loop ended: by its test, or as what left it did."""
        frame, variables = self.frame, self.frame.variables
        variables.pop(self.index, None)
        exit, ways = self.exits.behind()
        leave = control.continue_of(self.depth) + 1
        ways = [way for way in ways if way[1] != control.END and (
            self.node.orelse or way[1] != leave)]

        def go(i: int):
            if i == len(ways):
                if not self.node.orelse:
                    return control.AT_END
                return control.run_block(frame, self.node.orelse, rest)
            number, rank, value = ways[i]

            def left():
                if rank == leave:
                    return control.AT_END
                return control.leave(frame, control.Outcome(
                    rank, self.exits.returned(value), self.loc))

            if isinstance(exit, int):
                return left() if exit == number else go(i + 1)
            frame.here(self.node)
            return control.run_either(frame, self.node, arith.equal(exit, number), left,
                                      lambda: go(i + 1), rest)

        return go(0)


def _check_iterator(now, later) -> None:
    """Refuse an iterator from before the loop that each round takes items from."""
    if later is None or now[0] != later[0]:
        raise TypeFault("an iterator made before this loop is asked for items in its rounds, and "
                        "how many those are is known only when the program runs",
                        "go through it with a `for`, or use an index into a tensor")


# -- structures ------------------------------------------------------------------------------------

def _slots(structure) -> dict[int, tuple | None]:
    """The slots of a structure, and what the items are made of where one is a list's tape."""
    found: dict[int, Any] = {}
    _spread(structure, structure, found)
    return {i: getattr(x, "types", None) for i, x in found.items()}


def _spread(structure, value, found: dict[int, Any]) -> None:
    """What `value` has at each slot of the structure; NOTHING where it has nothing."""
    missing = value is MISSING or value is meeting.NOTHING
    if isinstance(structure, Slot):
        found[structure.index] = meeting.NOTHING if missing else value
    elif isinstance(structure, Maybe):
        inside = value.value if isinstance(value, Maybe) else value
        flag = value.flag if isinstance(value, Maybe) else not missing
        _spread(structure.value, inside, found)
        _spread(structure.flag, flag, found)
    elif (on := lists.on_tape(structure)) is not None and isinstance(on.tape, Slot):
        found[on.tape.index] = meeting.NOTHING if missing else Side(value, on.types)
    elif isinstance(structure, (tuple, list)):
        for i, part in enumerate(structure):
            _spread(part, MISSING if missing else value[i], found)
    elif isinstance(structure, dict):
        for key, part in structure.items():
            _spread(part, MISSING if missing else value[key], found)
    elif is_instance_of_dataclass(structure):
        for name, part in vars(structure).items():
            _spread(part, MISSING if missing else getattr(value, name), found)


def _alike(a, b) -> bool:
    """Have two structures the same slots in the same places?"""
    return a is b or _slots(a) == _slots(b) and isinstance(a, Conflict) == isinstance(b, Conflict)


def _same_contents(a, b) -> bool:
    """Do two copies of a container's contents hold the same objects?"""
    if len(a) != len(b) or type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return all(key in b and b[key] is value for key, value in a.items())
    if isinstance(a, set):
        return a == b
    return all(x is y for x, y in zip(a, b, strict=True))
