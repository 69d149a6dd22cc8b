"""Generators: a function's body that is run up to its next `yield`.

What is still to be done is a stack of tasks (`tasks`): the rest of a block, the further rounds of a
loop, the end of a `with` or `try`. The stack is made of tuples, so the place of a generator is one
value, which a traced branch puts back (`iteration`). Nothing of this is left in the program.
"""

from __future__ import annotations

from typing import Any

import gast

from cellc.parser import control
from cellc.parser.control import Outcome
from cellc.parser.frame import UserRaise, noted
from cellc.parser.iteration import Iterator, iterate
from cellc.parser.syntax import refusal
from cellc.parser.tasks import (
    STARTERS,
    Body,
    For,
    Handler,
    Loop,
    NoRest,
    Yielded,
    divide,
)
from cellc.parser.yields import yields


class Generator(Iterator):
    """A call of a generator function, or a generator expression."""

    def __init__(self, session, frame, body: list):
        super().__init__(session)
        self.frame, self.stack = frame, (Body(body), None)
        self.sent: Any = None
        self.running = self.held_when_lost = False
        session.generators.append(self)

    # -- the place ---------------------------------------------------------------------------------

    def place(self):
        return self.stack, dict(self.frame.variables)

    def put(self, place) -> None:
        self.stack, variables = place
        self.frame.variables.clear()
        self.frame.variables.update(variables)

    def within(self) -> tuple:
        return tuple(task.items for task in self.tasks() if hasattr(task, "items"))

    def joined(self, first, second, joiner):
        if first is None or second is None or first[0][0] != second[0][0]:
            self.held_when_lost |= any(state is not None and _is_held(state[0][0])
                                       for state in (first, second))
            return None
        if first[0][0] is None:         # both have come to its end
            return (None, {}), []
        variables = joiner.value(first[0][1], second[0][1], "the generator")
        return ((first[0][0], variables), []) if isinstance(variables, dict) else None

    def tasks(self):
        return _tasks(self.stack)

    # -- what users call ---------------------------------------------------------------------------

    def advance(self):
        return self.go_on(None)

    def send(self, value):
        """Go on with `value` as what the `yield` gives."""
        self.arrive()
        if value is not None and self.stack is not None and isinstance(self.stack[0], Body):
            raise TypeError("can't send non-None value to a just-started generator")
        return self.go_on(value)

    def throw(self, error, *_):
        """Go on as if the `yield` had raised."""
        self.arrive()
        error = error() if isinstance(error, type) else error
        if self.stack is None:
            raise UserRaise(error)
        return self.go_on(None, UserRaise(error))

    def close(self) -> None:
        """End it where it stands; its `finally` clauses are run."""
        try:
            self.throw(GeneratorExit())
        except UserRaise as raised:
            if not isinstance(raised.error, (GeneratorExit, StopIteration)):
                raise
        except StopIteration:
            pass
        else:
            raise RuntimeError("generator ignored GeneratorExit")

    def is_held(self) -> bool:
        """Does it stand within a `with` or `try`, whose end is still to come?"""
        return self.held_when_lost if self.lost else _is_held(self.stack)

    # -- running -----------------------------------------------------------------------------------

    def push(self, *tasks) -> None:
        """Put tasks on the stack, the last on top."""
        for task in tasks:
            self.stack = (task, self.stack)

    def pop(self) -> None:
        self.stack = self.stack[1]

    def go_on(self, sent, signal=None):
        """The next value; StopIteration with what it returns at its end."""
        if self.running:
            raise ValueError("generator already executing")
        self.sent, self.running = sent, True
        self.session.enter(self.frame)
        held = _Held(self)
        self.session.blocks.append(held)
        try:
            while self.stack is not None:
                signal = self.step() if signal is None else self.unwind(signal)
                if isinstance(signal, Yielded):
                    return signal.value
        finally:
            self.running = False
            self.session.blocks.remove(held)
            self.session.frames.pop()
        if isinstance(signal, UserRaise) and isinstance(signal.error, StopIteration):
            error = RuntimeError("generator raised StopIteration")
            error.__cause__ = signal.error
            raise UserRaise(noted(error, self.frame.loc(self.frame.source.node)))
        if isinstance(signal, BaseException):
            raise signal
        raise StopIteration(signal.value if isinstance(signal, Outcome) else None)

    def step(self):
        """Run the task on top; a signal for what is below, a value, or None."""
        self.frame.loops = [task.node for task in self.tasks() if isinstance(task, Loop)][::-1]
        self.frame.handling = [task.error for task in self.tasks()
                               if isinstance(task, Handler)][::-1]
        task = self.stack[0]
        self.frame.node = None
        try:
            return task.run(self)
        except Exception as error:
            return self._placed(error, task)

    def unwind(self, signal):
        task = self.stack[0]
        try:
            if isinstance(signal, Outcome):
                return task.left(self, signal)
            return task.failed(self, signal)
        except Exception as error:
            return self._placed(error, task)

    def _placed(self, error: Exception, task) -> Exception:
        node = getattr(task, "node", None)
        if node is None or not hasattr(node, "lineno"):
            return error
        fault = self.frame.fault_of(error, node)
        if fault is not error:
            fault.__cause__ = error
        return fault

    def execute(self, node):
        """Run a statement; a signal, a value, or None."""
        if not yields(node):
            outcome = self.frame.execute(node, NoRest(node))
            return None if outcome is None or outcome.rank == control.END else outcome
        start = STARTERS.get(type(node))
        start = start or divide
        return self.frame.guarded(lambda: start(self, node), node)


def _tasks(stack):
    while stack is not None:
        task, stack = stack
        yield task


def _is_held(stack) -> bool:
    return any(task.holds for task in _tasks(stack))


class _Held:
    """What stands around the statements of a generator, as `session.blocks` has it."""

    inside = True

    def __init__(self, generator: Generator):
        self.generator = generator
        conditions = generator.session.conditions
        self.condition = conditions[-1] if conditions else None

    @property
    def guards(self) -> bool:
        return any(task.guards for task in self.generator.tasks())

    def may_catch(self, kind: type) -> bool:
        return any(task.may_catch(self.generator, kind) for task in self.generator.tasks())


# -- making one ------------------------------------------------------------------------------------

def of_call(session, frame) -> Generator:
    """What a call of a generator function gives; nothing of it has run yet."""
    return Generator(session, frame, frame.source.node.body)


def of_expression(frame, node, first) -> Generator:
    """A generator expression as the loops it stands for; `first` is what its first `for` reads."""
    if any(generator.is_async for generator in node.generators):
        raise refusal(gast.AsyncFor()).at(frame.loc(node))
    body = getattr(node, "_body", None)
    if body is None:
        body = node._body = as_loops(node, gast.Expr(gast.copy_location(
            gast.Yield(node.elt), node)))
    made = Generator(frame.session, frame, body)
    made.stack = (For(body[0], iterate(frame.session, first)), None)
    return made


def as_loops(node, of_an_item) -> list:
    """The loops of a comprehension, around what is done with an item."""
    body = [gast.copy_location(of_an_item, node)]
    for depth, part in reversed(list(enumerate(node.generators, 1))):
        for test in reversed(part.ifs):
            body = [gast.copy_location(gast.If(test, body, []), test)]
        loop = gast.copy_location(gast.For(part.target, part.iter, body, [], None), part.target)
        loop._depth = depth
        body = [loop]
    return body
