"""Expressions of which a part is computed where data ask for it: `a if c else b`, `and`, `or`."""

from __future__ import annotations

from functools import partial

import gast

from cellc.ir import arith
from cellc.ir.graph import Node
from cellc.parser import operators
from cellc.parser.branches import Branch, join
from cellc.parser.exceptions import as_raised, ends_branch, raise_when_run
from cellc.parser.frame import Ended, Unsettled
from cellc.passes.rebuild import copy_body

_CHEAP_APPLIES = 8
_CHEAP_SIZE = 16


def choose(frame, node, condition: Node, first, second):
    """The joined value of two pieces of work, of which one is done when the program runs."""
    then, orelse = (Branch(frame, node, condition, label) for label in ("then", "else"))
    values = [side.run_if_known(partial(_raising, frame.session, work))
              for side, work in ((then, first), (orelse, second))]
    if then.never_ends and orelse.never_ends and (then.is_unsettled or orelse.is_unsettled):
        raise Unsettled
    then.returned, orelse.returned = map(_Made, values)
    frame.here(node)
    value = join(frame, node, condition, then, orelse)
    if then.never_ends and orelse.never_ends:
        raise Ended
    return value


def _raising(session, work):
    """The value of the work; what Python raises in it is raised by the program."""
    try:
        return work()
    except Exception as error:
        raised = as_raised(error)
        if raised is error or not ends_branch(session):
            raise
        raise_when_run(session, raised)
        raise Ended from None


class _Made:
    """The value of an expression, where a statement's branch has an Outcome."""

    def __init__(self, value):
        self.value, self.loc = value, None


def short_circuit(frame, node: gast.BoolOp, evaluate):
    """`a and b and ...` or `a or b or ...`: Python's meaning, whatever is known when.

    A right side that is a few scalar operations is computed in any case, which costs less than a
    branch; anything longer is computed only where the left side asks for it.
    """
    stop_at = isinstance(node.op, gast.Or)
    value = evaluate(frame, node.values[0])
    for right in node.values[1:]:
        frame.here(node)
        known = operators.truth(frame.session, value)
        if isinstance(known, bool):
            if known is stop_at:
                return value
            value = evaluate(frame, right)
            continue
        value = _either_side(frame, node, known, value, right, evaluate, stop_at)
    return value


def conjunction(frame, node, known: Node, work):
    """`known and work()` in a comparison chain: `work` does the comparisons after `known`."""
    return _either_side(frame, node, known, known, node, lambda *_: work(), stop_at=False)


def _either_side(frame, node, known: Node, value, right, evaluate, stop_at: bool):
    branch, other = Branch(frame, right, known, "then"), Branch(frame, node, known, "else")
    found = branch.run_if_known(lambda: evaluate(frame, right))
    frame.here(node)
    if not branch.never_ends and value is known and _is_truth(found) and _is_cheap(branch):
        if isinstance(found, Node):
            graph = branch.builder.finish(found)        # this captures, too
            outside = [frame.session.builder.lift(x) for x, _ in branch.builder.captured.values()]
            found = copy_body(frame.session.builder, graph, outside)
        return (operators.either if stop_at else operators.both)(known, found)
    branch.returned, other.returned = _Made(found), _Made(other.run(lambda: value))
    if stop_at:
        return join(frame, node, known, other, branch)
    return join(frame, node, known, branch, other)


def _is_truth(value) -> bool:
    return isinstance(value, bool) or (
        isinstance(value, Node) and value.type == arith.type_of(True))


def _is_cheap(branch: Branch) -> bool:
    """A few scalar operations that cannot fail and change nothing."""
    body = branch.builder.body
    variables = branch.frame.variables
    return (len(body) <= _CHEAP_APPLIES and not branch.builder.assigned
            and set(branch.changed()) <= {id(variables)}
            and all(value is variables.get(name) for name, value in branch.view(variables).items())
            and all(x.prim.kind in ("elementwise", "view") and isinstance(x.type.size, int)
                    and x.type.size <= _CHEAP_SIZE for x in body))
