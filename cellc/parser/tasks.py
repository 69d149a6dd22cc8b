"""What is still to be done in a generator: tasks, of which its stack is made.

Statements without a `yield` inside are run as everywhere else; those with one put tasks on the
stack. A task is run when it is on top. `left` asks what it makes of a `return`, `break` or
`continue` that passes it, `failed` of an exception: each gives a signal (an Outcome or an
exception) to be passed on down the stack, or None where it ends here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gast

from cellc.errors import SyntaxFault
from cellc.parser import control, exceptions, managers
from cellc.parser.control import Outcome
from cellc.parser.frame import UserRaise
from cellc.parser.iteration import Iterator, iterate
from cellc.parser.syntax import evaluators
from cellc.parser.values import unknown
from cellc.parser.yields import NotTaken, divided, yields

_YIELDS = (gast.Yield, gast.YieldFrom)


@dataclass(frozen=True)
class Yielded:
    value: Any


@dataclass(frozen=True)
class NoRest:
    """After a statement that one branch has left early: how many values come is then unknown."""

    node: gast.AST

    def resume(self, frame, outcome, target):
        raise unknown(frame.session.conditions[-1],
                      "this leaves a generator, or one of its loops, under a condition known only "
                      "when the program runs, and the number of its values must be known",
                      "yield in every case, and choose the value with ops.where or `a if c else b`"
                      ).at(frame.loc(self.node))


@evaluators.handles(gast.Yield, gast.YieldFrom)
def eval_yield(frame, node):
    raise nested_yield(frame, node)


def nested_yield(frame, node) -> SyntaxFault:
    place = next(part for part in gast.walk(node) if isinstance(part, _YIELDS))
    return SyntaxFault("a `yield` at this place of an expression is not taken by the compiler",
                       "give it a line of its own: value = yield ...").at(frame.loc(place))


# -- tasks -----------------------------------------------------------------------------------------

class _Task:
    holds = False       # must something still be done when the block below is left?
    guards = False      # is something done about exceptions?

    def may_catch(self, gen, kind: type) -> bool:
        return False

    def left(self, gen, outcome):
        gen.pop()
        return outcome

    def failed(self, gen, error):
        gen.pop()
        return error


@dataclass(frozen=True)
class Body(_Task):
    """The statements of a block from `start` on."""

    nodes: list
    start: int = 0

    def run(self, gen):
        gen.pop()
        if self.start == len(self.nodes):
            return None
        gen.push(Body(self.nodes, self.start + 1))
        return gen.execute(self.nodes[self.start])


class Loop(_Task):
    def left(self, gen, outcome):
        again = control.continue_of(self.node._depth)
        if outcome.rank == again:
            return None
        gen.pop()
        return None if outcome.rank == again + 1 else outcome


@dataclass(frozen=True)
class For(Loop):
    node: gast.For
    items: Iterator

    def run(self, gen):
        from cellc.parser.statements import assign

        try:
            item = next(self.items)
        except StopIteration:
            gen.pop()
            gen.push(Body(self.node.orelse))
            return
        assign(gen.frame, self.node.target, item, self.node)
        gen.push(Body(self.node.body))


@dataclass(frozen=True)
class _While(Loop):
    node: gast.While

    def run(self, gen):
        if _known(gen.frame, self.node.test):
            gen.push(Body(self.node.body))
        else:
            gen.pop()
            gen.push(Body(self.node.orelse))


@dataclass(frozen=True)
class _Receive(_Task):
    """Behind a `yield`: what was sent goes where the statement says."""

    node: gast.AST

    def run(self, gen):
        gen.pop()
        sent, gen.sent = gen.sent, None
        return _bind(gen, self.node, sent)


@dataclass(frozen=True)
class _Delegate(_Task):
    """`yield from`: its values are those of another iterator, to which goes what is sent."""

    node: gast.AST
    items: Iterator

    def run(self, gen):
        sent, gen.sent = gen.sent, None
        send = getattr(self.items, "send", None)
        return self._passed(gen, lambda: next(self.items) if sent is None else send(sent))

    def failed(self, gen, error):
        if isinstance(error, UserRaise) and hasattr(self.items, "throw"):
            if isinstance(error.error, GeneratorExit):
                self.items.close()
            elif self.items.stack is not None:
                return self._passed(gen, lambda: self.items.throw(error.error))
        gen.pop()
        return error

    def _passed(self, gen, work):
        try:
            return Yielded(work())
        except StopIteration as end:
            gen.pop()
            return _bind(gen, self.node, end.value)


@dataclass(frozen=True, eq=False)
class _Exit(_Task):
    """The end of a `with` item."""

    manager: Any
    node: gast.AST
    holds = guards = True

    def may_catch(self, gen, kind: type) -> bool:
        return self.manager.may_catch(kind)

    def run(self, gen):
        gen.pop()
        self.manager.exit(None)

    def left(self, gen, outcome):
        gen.pop()
        self.manager.exit(None)
        return outcome

    def failed(self, gen, error):
        gen.pop()
        caught = exceptions.visible(error)
        return None if caught is not None and self.manager.exit(caught) else error


@dataclass(frozen=True)
class _Enter(_Task):
    """The items of a `with` from `i` on, then its body."""

    node: gast.With
    i: int = 0

    def run(self, gen):
        gen.pop()
        if self.i == len(self.node.items):
            gen.push(Body(self.node.body))
            return
        item = self.node.items[self.i]
        manager = managers.manager_of(gen.frame, item)
        value = manager.enter()
        gen.push(_Exit(manager, item), _Enter(self.node, self.i + 1))
        managers.bind_item(gen.frame, item, value)


@dataclass(frozen=True)
class _Except(_Task):
    """The handlers of a `try`, above which is its block."""

    node: gast.Try
    guards = True

    def may_catch(self, gen, kind: type) -> bool:
        return exceptions.handles(gen.frame, self.node, kind)

    def run(self, gen):
        gen.pop()
        gen.push(Body(self.node.orelse))

    def failed(self, gen, error):
        gen.pop()
        handler, caught = exceptions.handler_for(gen.frame, self.node, error)
        if handler is None:
            return error
        exceptions.bind_error(gen.frame, handler, caught)
        gen.push(Handler(handler, caught), Body(handler.body))
        return None


@dataclass(frozen=True, eq=False)
class Handler(_Task):
    """The end of an `except` clause: its name is unbound."""

    node: gast.ExceptHandler
    error: BaseException

    def run(self, gen):
        gen.pop()
        exceptions.unbind_error(gen.frame, self.node)

    def left(self, gen, outcome):
        self.run(gen)
        return outcome

    def failed(self, gen, error):
        self.run(gen)
        return error


@dataclass(frozen=True)
class _Finally(_Task):
    """The `finally` of a `try`, above which is the rest of it."""

    node: gast.Try
    holds = guards = True

    def may_catch(self, gen, kind: type) -> bool:
        return True

    def run(self, gen):
        gen.pop()
        gen.push(Body(self.node.finalbody))

    def left(self, gen, outcome):
        gen.pop()
        gen.push(_Then(outcome), Body(self.node.finalbody))

    failed = left


@dataclass(frozen=True, eq=False)
class _Then(_Task):
    """What a `finally` interrupted: an Outcome or an exception, which now goes on."""

    signal: Any
    holds = True

    def run(self, gen):
        gen.pop()
        return self.signal


# -- statements with a `yield` in them -------------------------------------------------------------

def _start_expression(gen, node):
    value = getattr(node, "value", None)
    if not isinstance(value, _YIELDS) or any(
            yields(part) for part in gast.iter_child_nodes(node) if part is not value) or (
            value.value is not None and yields(value.value)):
        return divide(gen, node)
    found = None if value.value is None else gen.frame.eval(value.value)
    if type(value) is gast.YieldFrom:
        gen.push(_Delegate(node, iterate(gen.session, found)))
        return None
    gen.push(_Receive(node))
    return Yielded(found)


def divide(gen, node) -> None:
    """Go on with a statement that has a `yield` within an expression as several statements."""
    try:
        gen.push(Body(divided(gen.frame, node)))
    except NotTaken:
        raise nested_yield(gen.frame, node) from None


def _bind(gen, node, value):
    """The end of the statement around a `yield` that gave `value`."""
    from cellc.parser.statements import assign

    kind = type(node)
    if kind is gast.Return:
        return Outcome(control.RETURN, value, gen.frame.loc(node))
    if kind in (gast.Assign, gast.AnnAssign):
        for target in getattr(node, "targets", None) or [node.target]:
            assign(gen.frame, target, value, node)
    return None


def _start_for(gen, node):
    if yields(node.iter) or yields(node.target):
        divide(gen, node)
    else:
        gen.push(For(node, iterate(gen.session, gen.frame.eval(node.iter))))


def _start_while(gen, node):
    gen.push(_While(node))


def _start_if(gen, node):
    if yields(node.test):
        divide(gen, node)
    else:
        gen.push(Body(node.body if _known(gen.frame, node.test) else node.orelse))


def _known(frame, test) -> bool:
    if yields(test):
        raise nested_yield(frame, test)
    found = control.test(frame, test)
    if not isinstance(found, bool):
        raise unknown(found, "whether this item is kept or yielded is known only when the program "
                      "runs, and the number of items must be known",
                      "keep all items, and choose their values with ops.where or `a if c else b`"
                      ).at(frame.loc(test))
    return found


def _start_with(gen, node):
    gen.push(_Enter(node))


def _start_try(gen, node):
    if node.finalbody:
        gen.push(_Finally(node))
    if node.handlers:
        gen.push(_Except(node), Body(node.body))
    else:
        gen.push(Body(node.body))


def _start_match(gen, node):
    if yields(node.subject):
        divide(gen, node)
        return
    from cellc.parser import matching

    for case in matching.known_case(gen.frame, node):
        gen.push(Body(case.body))


STARTERS = {gast.Expr: _start_expression, gast.Assign: _start_expression,
             gast.AnnAssign: _start_expression, gast.Return: _start_expression,
             gast.For: _start_for, gast.While: _start_while, gast.If: _start_if,
             gast.With: _start_with, gast.Try: _start_try, gast.Match: _start_match}
