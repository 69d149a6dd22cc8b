"""Which variables can still be read: after each `if`, and from round to round of each loop.

    live before x = e       (live after - x) + what e reads
    live before an `if`     what the test reads + live before either side
    live at a loop's head   what the test reads + live before a round + live behind the loop,
                            where a round ends at the head again: repeated until nothing is added

Noted on the nodes: `_live_after` on each statement, `_live_head` on each loop. What a loop returns
is live behind it. What may be left
in the midst (`try`, `with`) keeps alive within it what is read where it goes on, `_live_anywhere`;
and what is bound in a pattern, by `with` or by `:=` is not taken for bound, which errs on the safe
side.
"""

from __future__ import annotations

import gast

from cellc.record import record

NOTHING: frozenset[str] = frozenset()
_DEFINITIONS = (gast.FunctionDef, gast.AsyncFunctionDef, gast.ClassDef)


@record(frozen=True)
class Ways:
    """What is live where `break` and `continue` go on, and where anything may."""

    broken: frozenset[str] = NOTHING
    again: frozenset[str] = NOTHING
    anywhere: frozenset[str] = NOTHING


def note(body: list) -> None:
    """Note on the statements of a function what is live."""
    _block(body, NOTHING, Ways())


def _block(body: list, live: frozenset, ways: Ways) -> frozenset:
    for node in reversed(body):
        live = _before(node, live, ways) | ways.anywhere
    return live


def _before(node, live: frozenset, ways: Ways) -> frozenset:
    """What is live before a statement, from what is live after it."""
    kind = type(node)
    node._live_after = live | ways.anywhere
    if kind is gast.If:
        node._live_after, node._live_anywhere = live, ways.anywhere
        return _reads(node.test) | _block(node.body, live, ways) | _block(node.orelse, live, ways)
    if kind in (gast.For, gast.AsyncFor, gast.While):
        return _before_loop(node, live, ways)
    if kind is gast.Break:
        return ways.broken
    if kind is gast.Continue:
        return ways.again
    if kind in (gast.Return, gast.Raise):
        return _reads(node)
    if kind in (gast.Assign, gast.AnnAssign):
        targets = node.targets if kind is gast.Assign else [node.target]
        if node.value is not None:
            live = live - set().union(*map(_bound, targets))
        return live | _reads(node)
    if kind in _DEFINITIONS:
        return (live - {node.name}) | _reads(node)
    return _before_other(node, live, ways)


def _before_loop(node, live: frozenset, ways: Ways) -> frozenset:
    # What is returned from within is noted by name: see `exits`.
    node._live_after = live.union(*(_reads(x) for x in gast.walk(node) if type(x) is gast.Return))
    node._live_anywhere = ways.anywhere
    left = _block(node.orelse, live, ways)
    target = NOTHING if type(node) is gast.While else _bound(node.target)
    head = left | (_reads(node.test) if type(node) is gast.While else _reads(node.target))
    while True:
        inside = Ways(live, head, ways.anywhere)
        more = head | (_block(node.body, head, inside) - target)
        if more == head:
            break
        head = more
    node._live_head = head
    return head if type(node) is gast.While else head | _reads(node.iter)


def _before_other(node, live: frozenset, ways: Ways) -> frozenset:
    """Statements that hold blocks which may be left anywhere or not be entered, and plain ones."""
    if isinstance(node, gast.Match):
        found = live | _reads(node.subject)
        for case in node.cases:
            guard = NOTHING if case.guard is None else _reads(case.guard)
            found |= _block(case.body, live, ways) | guard | _reads(case.pattern)
        return found
    if isinstance(node, (gast.With, gast.AsyncWith)):
        inside = Ways(ways.broken, ways.again, ways.anywhere | live)
        return _block(node.body, live, inside).union(*map(_reads, node.items))
    if isinstance(node, (gast.Try, getattr(gast, "TryStar", gast.Try))):
        last = _block(node.finalbody, live, ways)
        other = last | ways.broken | ways.again
        handled = other.union(*(_block(h.body, other, ways) | _reads(h) for h in node.handlers))
        inside = Ways(ways.broken, ways.again, ways.anywhere | handled)
        return _block(node.body + node.orelse, handled, inside)
    return live | _reads(node)


def readable(frame, written) -> frozenset[str] | None:
    """The names that can be read after what the frame's statement is doing now; None: all. Where
    it is `written` that has been assigned to, an only target, the statement is done."""
    node = frame.node
    live = getattr(node, "_live_after", None)
    if live is None or frame.comprehension:
        return None
    done = isinstance(node, gast.AugAssign) or (
        isinstance(node, gast.Assign) and len(node.targets) == 1)
    if written is not None and done and written in (node, *getattr(node, "targets", ())):
        return live
    return live | _reads(node)


def _reads(node) -> frozenset[str]:
    """Every name that is read somewhere in it; an augmented or deleted one is."""
    found = set()
    for part in gast.walk(node):
        if type(part) is gast.Name and not isinstance(part.ctx, gast.Store):
            found.add(part.id)
        elif type(part) is gast.AugAssign and type(part.target) is gast.Name:
            found.add(part.target.id)
    return frozenset(found)


def _bound(target) -> frozenset[str]:
    """The names that an assignment to the target binds for certain."""
    if type(target) is gast.Name:
        return frozenset([target.id])
    if type(target) is gast.Starred:
        return _bound(target.value)
    if type(target) in (gast.Tuple, gast.List):
        return NOTHING.union(*map(_bound, target.elts))
    return NOTHING
