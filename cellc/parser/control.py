"""Blocks, branches and loops, and where a branch goes on that another has left.

A block runs statement by statement and ends with an Outcome: it reached its end, or a `continue`,
`break` or `return`. Under a condition that is known only when the program runs, both branches of an
`if` are built, each as a graph. Where both end alike the code after the `if` is built once, after
their join. Where they do not (one returns early), the one that ended first is what the code after
the `if` belongs to: it is built on as a continuation inside that branch, up to the place where both
end alike: the end of the loop's round, the end of the loop, or the end of the function.

`rest` is that continuation: what follows a statement, a chain of BlockRest, LoopRest, FunctionRest.
Branches within branches can need the same one several times; it is then made a graph of the
variables, once, and called (`go_on`), so that code never grows exponentially.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gast

from cellc.errors import Loc, SyntaxFault, TypeFault
from cellc.ir.graph import Node
from cellc.parser import branches, cells, choices, loops, operators
from cellc.parser.frame import Ended, Unsettled
from cellc.parser.guards import MISSING
from cellc.parser.iteration import Items, Rows, items_of, iterate  # noqa: F401
from cellc.parser.session import MAX_UNROLLED
from cellc.parser.syntax import executors
from cellc.parser.values import flatten


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a block ended. `rank` orders them by how far out they lead: NEVER, where the program ends
    in it, END, then `continue` and `break` of the innermost loop, those of the loop around it, and
    so on, then RETURN."""

    rank: int
    value: Any = None
    loc: Loc | None = None
    left: tuple = ()        # the `with` and `try` blocks left on the way: see `protected`

    def result(self):
        """The value of the call that ended like this."""
        if self.rank == NEVER:
            raise Ended
        return self.value

    @property
    def is_return(self) -> bool:
        return self.rank == RETURN


NEVER, END, RETURN = -1, 0, 1_000_000
AT_END = Outcome(END)
NOWHERE = Outcome(NEVER)        # it raises


def continue_of(depth: int) -> int:
    """The rank of a `continue` of the loop at this depth of nesting; its `break` is one more."""
    return RETURN - 2 * depth


def run_block(frame, body: list, rest, start: int = 0) -> Outcome:
    """The statements from `start` on; `rest` is what follows the block."""
    for i in range(start, len(body)):
        node = body[i]
        after = BlockRest(body, i + 1, rest) if type(node) in COMPOUND else None
        outcome = frame.execute(node, after)
        if outcome is not None and outcome.rank != END:
            return outcome
    return AT_END


COMPOUND = (gast.If, gast.For, gast.While, gast.Match, gast.With, gast.Try)


# -- continuations ---------------------------------------------------------------------------------

@dataclass(frozen=True, slots=True)
class FunctionRest:
    """After a function's last statement: it returns None."""

    def resume(self, frame, outcome: Outcome, target: int) -> Outcome:
        return outcome if outcome.rank in (RETURN, NEVER) else Outcome(RETURN)


@dataclass(frozen=True, slots=True)
class BlockRest:
    """The statements of a block from `start` on, then what follows the block."""

    body: list
    start: int
    outer: Any

    def resume(self, frame, outcome: Outcome, target: int) -> Outcome:
        """Go on from `outcome` until one of rank `target` or higher is reached."""
        if outcome.rank == END:
            outcome = run_block(frame, self.body, self.outer, self.start)
        if outcome.rank >= target or outcome.rank == NEVER:
            return outcome
        return go_on(frame, self.outer, outcome, target)


@dataclass(frozen=True, slots=True)
class LoopRest:
    """The further rounds of an unrolled loop, its `else`, then what follows the loop.

    `run_rest()` runs rounds and `else` and gives how that ended.
    """

    node: gast.For | gast.While
    run_rest: Callable[[], Outcome]
    outer: Any

    def resume(self, frame, outcome: Outcome, target: int) -> Outcome:
        again = continue_of(self.node._depth)
        leave = again + 1
        if outcome.rank <= again:
            if target <= again:
                return Outcome(again)
            outcome = self.run_rest()
            if outcome.rank == NEVER:
                return outcome
        elif outcome.rank == leave:
            outcome = AT_END
        if outcome.rank == END and target <= leave:
            return Outcome(leave)       # where a break leads as well: behind the loop and its else
        if outcome.rank >= target:
            return outcome
        return go_on(frame, self.outer, outcome, target)


NESTED = 2      # a branch within a branch


def go_on(frame, rest, outcome: Outcome, target: int, leaving: bool = True) -> Outcome:
    """Go on with `rest`, by a call of a graph where it is needed more than once.

    It is where a branch within a branch, or such a graph, leaves (`leaving`) the block it stands
    in: the other side of the outer `if` needs the same code. With changeable containers among the
    variables, or variables of a frame around this one, the code is built again all the same.
    """
    session, variables = frame.session, frame.variables
    shared = (leaving and frame.depth >= NESTED) or id(rest) in session.shared
    if not shared or target != RETURN or outcome.is_return or isinstance(rest, FunctionRest):
        return rest.resume(frame, outcome, target)
    if frame.parent is not None or frame.pinned or any(
            _is_changeable(session, x) for x in variables.values()) or (
            frame.source.assigns_items and any(
                session.is_made_here(x) for x in variables.values() if isinstance(x, Node))):
        return rest.resume(frame, outcome, target)
    session.shared[id(rest)] = rest         # kept, so that the id stays its own
    leaves: list = []
    structure = flatten(variables, leaves, session.lift)
    key = (id(rest), outcome.rank, cells.key_of(session, structure),
           tuple(x.type for x in leaves))

    def work(inner: dict):
        depth, frame.depth, frame.variables = frame.depth, NESTED, inner
        try:
            return rest.resume(frame, outcome, target).result()
        finally:
            frame.depth, frame.variables = depth, variables

    if key not in session.continuations:
        closed = cells.close(session, f"{frame.source.name}.rest", structure, leaves, work)
        session.continuations[key] = closed
    closed = session.continuations[key]
    return Outcome(RETURN, cells.use(session, closed, leaves, lambda value: value))


def _is_changeable(session, value) -> bool:
    if isinstance(value, tuple):
        return any(_is_changeable(session, x) for x in value)
    return isinstance(value, (list, dict, set)) or value in session.owned


# -- if --------------------------------------------------------------------------------------------

@executors.handles(gast.If)
def run_if(frame, node, rest) -> Outcome:
    condition = test(frame, node.test)
    if isinstance(condition, bool):
        return run_block(frame, node.body if condition else node.orelse, rest)
    return run_either(frame, node, condition, lambda: run_block(frame, node.body, rest),
                      lambda: run_block(frame, node.orelse, rest), rest)


def run_either(frame, node, condition, first, second, rest) -> Outcome:
    """Do one of two pieces of work, each of which ends with an Outcome, when the program runs."""
    from cellc.parser.protected import catching

    then = branches.Branch(frame, node, condition, "then")
    orelse = branches.Branch(frame, node, condition, "else")
    pair = (then, orelse)
    outcomes = [side.run_if_known(partial(catching, frame, rest, work, AT_END, RETURN))
                for side, work in ((then, first), (orelse, second))]
    if then.never_ends and orelse.never_ends and (then.is_unsettled or orelse.is_unsettled):
        raise Unsettled
    while True:
        outcomes = [NOWHERE if side.never_ends else outcome
                    for side, outcome in zip(pair, outcomes, strict=True)]
        if NEVER in (outcomes[0].rank, outcomes[1].rank):
            gone = 0 if outcomes[0].rank == NEVER else 1
            if outcomes[1 - gone].rank == NEVER:
                branches.join(frame, node, condition, then, orelse, leaving=True)
                return NOWHERE
            pair[gone].never_ends = True
            outcomes[gone] = outcomes[1 - gone]
        behind = 0 if outcomes[0].rank < outcomes[1].rank else 1
        outcome, other = outcomes[behind], outcomes[1 - behind]
        if outcome.rank != other.rank:
            further = partial(go_on, frame, rest, outcome, other.rank, leaving=False)
            outcomes[behind] = pair[behind].run_if_known(
                partial(catching, frame, rest, further, outcome, other.rank))
        elif set(outcome.left) != set(other.left):
            blocks = (*outcome.left, *other.left)
            outcomes = [branch.run(partial(leave_blocks, o, blocks))
                        for branch, o in zip(pair, outcomes, strict=True)]
        else:
            break
    frame.here(node)
    if not outcomes[0].is_return:
        live = _live_at(frame, node, outcomes[0].rank)
        branches.join(frame, node, condition, then, orelse, live=live)
        return outcomes[0]
    then.returned, orelse.returned = outcomes
    value = branches.join(frame, node, condition, then, orelse, leaving=True)
    return Outcome(RETURN, value, frame.loc(node), outcomes[0].left)


def _live_at(frame, node, rank: int) -> frozenset | None:
    """What can still be read where both branches of `node` end so; None where it is not known."""
    if rank == END:
        return getattr(node, "_live_after", None)
    depth = (RETURN - rank + 1) // 2
    loop = next((x for x in frame.loops if x._depth == depth), None)
    if loop is None or not hasattr(node, "_live_anywhere"):
        return None
    live = loop._live_after | node._live_anywhere
    return live | loop._live_head if rank == continue_of(depth) else live


def leave_blocks(outcome: Outcome, blocks) -> Outcome:
    """Leave those of the `with` and `try` blocks that this branch has not left yet."""
    for block in dict.fromkeys(blocks):
        if block not in outcome.left:
            left = (*outcome.left, block)
            outcome = replace(block.leave(replace(outcome, left=())), left=left)
    return outcome


def test(frame, node):
    """The truth of a condition: a Python bool or a node of scalar bool type."""
    if type(node) is gast.UnaryOp and type(node.op) is gast.Not:
        found = test(frame, node.operand)
        frame.here(node)
        return operators.negate(found)
    if type(node) is gast.BoolOp:
        return choices.short_circuit(frame, node, test)
    value = frame.eval(node)
    if value is True or value is False:
        return value
    frame.here(node)
    try:
        return operators.truth(frame.session, value)
    except (TypeFault, SyntaxFault) as fault:
        raise fault.at(frame.loc(node)) from None


# -- loops -----------------------------------------------------------------------------------------

@executors.handles(gast.For)
def run_for(frame, node, rest) -> Outcome:
    return loops.run_for(frame, node, frame.eval(node.iter), rest)


def run_rounds(frame, node, items: list, rest, start: int, most: int | None = None) -> Outcome:
    """The rounds from `start` on, one after another; TooLong where they append more than `most`
    applies."""
    from cellc.parser.statements import assign

    leave = continue_of(node._depth) + 1
    frame.loops.append(node)
    try:
        for i in range(start, len(items)):
            assign(frame, node.target, items[i], node)
            after = LoopRest(node, partial(run_rounds, frame, node, items, rest, i + 1), rest)
            outcome = run_block(frame, node.body, after)
            if outcome.rank >= leave or outcome.rank == NEVER:
                return AT_END if outcome.rank == leave else outcome
            if most is not None and len(frame.session.builder.body) > most and i + 1 < len(items):
                raise loops.TooLong(node)
    finally:
        frame.loops.pop()
    return run_block(frame, node.orelse, rest) if node.orelse else AT_END


def run_lazily(frame, node, items, rest, state=0) -> Outcome:
    """`run_rounds` over an iterator: what comes next is found after each round, as Python does."""
    from cellc.parser.statements import assign

    if state != 0:          # another branch may have gone on from here already
        frame.session.journal(items)
        items.restore(state)
    leave = continue_of(node._depth) + 1
    pinned = not isinstance(items, (Items, Rows))
    frame.loops.append(node)
    frame.pinned += pinned
    try:
        for _ in range(MAX_UNROLLED):
            item = next(items, MISSING)
            if item is MISSING:
                break
            assign(frame, node.target, item, node)
            again = partial(run_lazily, frame, node, items, rest, items.state())
            outcome = run_block(frame, node.body, LoopRest(node, again, rest))
            if outcome.rank >= leave or outcome.rank == NEVER:
                return AT_END if outcome.rank == leave else outcome
        else:
            raise SyntaxFault(f"a loop of more than {MAX_UNROLLED} rounds is not unrolled",
                              "use operations on whole tensors instead")
    finally:
        frame.loops.pop()
        frame.pinned -= pinned
    return run_block(frame, node.orelse, rest) if node.orelse else AT_END


@executors.handles(gast.While)
def run_while(frame, node, rest) -> Outcome:
    return loops.run_while(frame, node, rest)


@executors.handles(gast.Break)
def run_break(frame, node, rest) -> Outcome:
    return leave(frame, Outcome(continue_of(node._depth) + 1))


@executors.handles(gast.Continue)
def run_continue(frame, node, rest) -> Outcome:
    return leave(frame, Outcome(continue_of(node._depth)))


@executors.handles(gast.Return)
def run_return(frame, node, rest) -> Outcome:
    value = None if node.value is None else frame.eval(node.value)
    return leave(frame, Outcome(RETURN, value, frame.loc(node)))


def leave(frame, outcome: Outcome) -> Outcome:
    """The outcome, which in a loop that the program runs is the end of a round that notes it."""
    return frame.rolled[-1].leave(outcome) if frame.rolled else outcome
