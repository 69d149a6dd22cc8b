"""`with` and `try`: blocks after which something is done however they are left.

They are run while compiling; `exceptions` says what is caught, `managers` what is entered.

A `return`, `break` or `continue` under a condition known only when the program runs leaves the
block in one branch only. What follows is then built in the other (`control`), and that passes
through `ExitRest`, which does there what the end of the block does; `Outcome.left` says for which
blocks a branch has done it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gast

from cellc.errors import SyntaxFault
from cellc.parser.control import AT_END, END, NEVER, NOWHERE, Outcome, go_on, run_block
from cellc.parser.exceptions import (
    as_raised,
    bind_error,
    check_crossing,
    ends_branch,
    handler_for,
    handles,
    raise_when_run,
    unbind_error,
    visible,
)
from cellc.parser.frame import UserRaise
from cellc.parser.managers import bind_item, manager_of
from cellc.parser.syntax import executors
from cellc.parser.values import unknown


class Block:
    """One `with` item or part of a `try` while its block is run.

    `leave` does what is done when the block ends or is left without an exception, `failed` what is
    done about one. `inside` is false while what follows the block is run.
    """

    inside = guards = True

    def __init__(self, frame, rest):
        self.frame, self.rest = frame, rest

    def may_catch(self, kind: type) -> bool:
        """Could something be done about an exception of this class?"""
        return False

    def leave(self, outcome: Outcome) -> Outcome:
        raise NotImplementedError

    def failed(self, error: Exception) -> Outcome:
        raise NotImplementedError

    def run(self, work) -> Outcome:
        """`work(rest)` as the block, `rest` being what follows it."""
        frame = self.frame
        frame.pinned += 1
        self.condition = _condition(frame.session)
        frame.session.blocks.append(self)
        try:
            outcome = work(ExitRest(self, self.rest))
        except Exception as error:
            if not self.inside or self in getattr(error, "behind", ()):
                raise
            caught = error
        else:
            if self not in outcome.left:
                return self.leave(outcome)
            return replace(outcome, left=tuple(x for x in outcome.left if x is not self))
        finally:
            frame.session.blocks.pop()
            frame.pinned -= 1
        try:
            return self.failed(caught)
        except UserRaise as error:
            if not ends_branch(frame.session):
                raise
            raise_when_run(frame.session, error)
            return NOWHERE


@dataclass(frozen=True, slots=True)
class ExitRest:
    """The end of a block, then what follows it."""

    block: Block
    outer: Any

    def resume(self, frame, outcome: Outcome, target: int) -> Outcome:
        block = self.block
        inside, block.inside = block.inside, False
        try:
            if block not in outcome.left:       # by a branch within, which another goes beyond
                outcome = block.leave(outcome)
            if END <= outcome.rank < target:
                outcome = go_on(frame, self.outer, outcome, target)
        except Exception as error:
            _note_behind(error, block)
            raise
        finally:
            block.inside = inside
        return replace(outcome, left=tuple(dict.fromkeys((block, *outcome.left))))


def _note_behind(error: Exception, block: Block) -> None:
    """The error is none of this block's: raised behind it, or dealt with by it already."""
    error.behind = (*getattr(error, "behind", ()), block)


class _Here:
    """A block as it stands around the code of a traced branch within it."""

    inside = guards = True

    def __init__(self, block: Block, condition):
        self.may_catch, self.condition = block.may_catch, condition


def catching(frame, rest, work, outcome: Outcome, target: int) -> Outcome:
    """Do `work` in a traced branch; what it raises is caught there by the blocks around the `if`.

    The branch then goes on behind the block, until an outcome of rank `target`. `outcome` is what
    the branch had come to before.
    """
    session = frame.session
    exits = [exit for exit in _exits(rest) if exit.block.inside
             and exit.block not in outcome.left]
    if not exits:
        try:
            return _also_left(work(), outcome.left)
        except Exception as error:
            raised = as_raised(error)
            if raised is error or not ends_branch(session):
                raise
            raise_when_run(session, raised)
            return NOWHERE
    n = len(session.blocks)
    session.blocks += [_Here(exit.block, _condition(session)) for exit in reversed(exits)]
    try:
        return _also_left(work(), outcome.left)
    except Exception as error:
        caught = error
    finally:
        del session.blocks[n:]
    for i, exit in enumerate(exits):
        block = exit.block
        if block in getattr(caught, "behind", ()):
            continue
        try:
            found = block.failed(caught)
        except Exception as again:
            _note_behind(again, block)
            caught = again
            continue
        behind = (inner.block for inner in exits[:i + 1])   # it has passed through all of them
        found = _also_left(found, (*outcome.left, *behind))
        if found.rank == NEVER or found.rank >= target:
            return found
        further = partial(exit.resume, frame, found, target)
        return catching(frame, rest, further, found, target)
    raised = as_raised(caught)
    if isinstance(raised, UserRaise) and ends_branch(session):
        raise_when_run(session, raised)
        return NOWHERE
    raise caught


def _also_left(outcome: Outcome, blocks) -> Outcome:
    return replace(outcome, left=tuple(dict.fromkeys((*blocks, *outcome.left))))


def _exits(rest):
    """The ends of blocks that come after a statement, the innermost first."""
    while rest is not None:
        if isinstance(rest, ExitRest):
            yield rest
        rest = getattr(rest, "outer", None)


@dataclass(frozen=True, slots=True)
class PendingRest:
    """After a `finally`: what it interrupted goes on."""

    pending: Outcome
    outer: Any

    def resume(self, frame, outcome: Outcome, target: int) -> Outcome:
        if outcome.rank == END:
            outcome = self.pending
        if outcome.rank >= target or outcome.rank == NEVER:
            return outcome
        return go_on(frame, self.outer, outcome, target)


def _condition(session):
    """The innermost traced condition around here."""
    return session.conditions[-1] if session.conditions else None


# -- try -------------------------------------------------------------------------------------------

class _Except(Block):
    """A block with its handlers and its `else`."""

    def __init__(self, frame, rest, node):
        super().__init__(frame, rest)
        self.node = node

    def may_catch(self, kind: type) -> bool:
        return handles(self.frame, self.node, kind)

    def leave(self, outcome: Outcome) -> Outcome:
        if outcome.rank != END or not self.node.orelse:
            return outcome
        return run_block(self.frame, self.node.orelse, self.rest)

    def failed(self, error: Exception) -> Outcome:
        frame = self.frame
        handler, caught = handler_for(frame, self.node, error)
        if handler is None:
            raise error
        bind_error(frame, handler, caught)
        end = _HandlerEnd(frame, self.rest, handler)
        return end.run(lambda rest: run_block(frame, handler.body, rest))


class _HandlerEnd(Block):
    """The body of an `except` clause."""

    def __init__(self, frame, rest, handler):
        super().__init__(frame, rest)
        self.handler = handler

    def leave(self, outcome: Outcome) -> Outcome:
        self.frame.session.journal(self.frame.variables)
        unbind_error(self.frame, self.handler)
        return outcome

    def failed(self, error: Exception) -> Outcome:
        unbind_error(self.frame, self.handler)
        raise error


class _Finally(Block):
    """A `try` with a `finally`, which may have a way out of its own."""

    def __init__(self, frame, rest, body: list):
        super().__init__(frame, rest)
        self.body = body

    def may_catch(self, kind: type) -> bool:
        return True

    def leave(self, outcome: Outcome) -> Outcome:
        with self.frame.session.owned.holding(outcome.value) as held:
            found = run_block(self.frame, self.body, PendingRest(outcome, self.rest))
            outcome = replace(outcome, value=held[0])
        if found.rank == END:
            return outcome
        if outcome.rank != END and self.frame.rolled:
            raise SyntaxFault("a `finally` with a way out of its own, in a loop that the program "
                              "runs", "leave the loop after the try")
        return found

    def failed(self, error: Exception) -> Outcome:
        if visible(error) is None:
            raise error
        found = run_block(self.frame, self.body, _Refuse(self.frame, error))
        if found.rank == END:
            raise error
        check_crossing(error)
        return found


@dataclass(frozen=True, slots=True)
class _Refuse:
    """After a `finally` that an exception runs through: nothing, so one branch cannot go on."""

    frame: Any
    error: Exception

    def resume(self, frame, outcome, target):
        raise unknown(_condition(frame.session), "a `finally` leaves under a condition known only "
                      "when the program runs, while an exception passes through it",
                      "leave the function after the try")


@executors.handles(gast.Try)
def run_try(frame, node, rest) -> Outcome:
    def block(rest) -> Outcome:
        if not node.handlers:
            return run_block(frame, node.body, rest)
        part = _Except(frame, rest, node)
        return part.run(lambda inner: run_block(frame, node.body, inner))

    if not node.finalbody:
        return block(rest)
    return _Finally(frame, rest, node.finalbody).run(block)


# -- with ------------------------------------------------------------------------------------------

class _With(Block):
    """A block with one context manager."""

    def __init__(self, frame, rest, item, manager):
        super().__init__(frame, rest)
        self.item, self.manager = item, manager

    def may_catch(self, kind: type) -> bool:
        return self.manager.may_catch(kind)

    def leave(self, outcome: Outcome) -> Outcome:
        self.frame.here(self.item.context_expr)
        self.manager.exit(None)
        return outcome

    def failed(self, error: Exception) -> Outcome:
        caught = visible(error)
        if caught is None or not self.manager.exit(caught):
            raise error
        check_crossing(error)
        return AT_END


@executors.handles(gast.With)
def run_with(frame, node, rest, i: int = 0) -> Outcome:
    if i == len(node.items):
        return run_block(frame, node.body, rest)
    item = node.items[i]
    manager = manager_of(frame, item)
    value = frame.guarded(manager.enter, item.context_expr)

    def work(inner) -> Outcome:
        bind_item(frame, item, value)
        return run_with(frame, node, inner, i + 1)

    return _With(frame, rest, item, manager).run(work)
