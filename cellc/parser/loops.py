"""Which loops are unrolled, and which the program runs.

A loop over a container is unrolled. A `while` whose condition depends on data, and a `for` over a
range or the rows of a tensor, is one `while` of the program (rolled.py). Rounds that are few are
unrolled as well, since they can be fused with each other, and so are those that need what is known
of them: the number of the round as an index into a tuple, a list that grows. `@cellc.unroll(n)`
says what few is in the loops of one function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

from cellc.errors import CellcError, SyntaxFault, TypeFault
from cellc.parser import control, lists
from cellc.parser.frame import NeedsTape, Signal
from cellc.parser.iteration import rounds_of
from cellc.parser.rolled import Rolled
from cellc.parser.sequence import sequence_of
from cellc.parser.session import MAX_UNROLLED

FEW_ROUNDS = 8          # of a loop that is unrolled although it need not be
MOST_APPLIES = 200      # that its rounds may be together; nested loops multiply


def unroll(rounds: int) -> Callable[[Callable], Callable]:
    """A decorator: loops of at most so many rounds are unrolled in this function.

        @cellc.unroll(16)
        def horner(x, coefficients): ...

    Each round of an unrolled loop is compiled by itself and fused with its neighbours, which runs
    faster and compiles slower. Without it, loops over ranges and tensors and a `while` on a known
    condition are unrolled up to 8 rounds, if those are small; with 0, none is that need not be. A
    loop whose number of rounds only the running program knows is never unrolled.

    Errors: TypeFault where `rounds` is no int of 0 or more, or what is decorated is no function.
    """
    if not isinstance(rounds, int) or isinstance(rounds, bool) or rounds < 0:
        raise TypeFault(f"unroll takes a number of rounds, found {rounds!r}",
                        "@cellc.unroll(16) before the function")

    def decorate(fn):
        function = inspect.unwrap(fn)
        if not inspect.isfunction(function):
            raise TypeFault(f"found {type(fn).__name__} where unroll expects a function",
                            "decorate a function, or a cell's construct")
        function._few_rounds = rounds
        return fn

    return decorate


def _few(frame) -> int | None:
    """What `unroll` said for the function that is being run, or one that it is nested in."""
    while frame is not None:
        found = getattr(frame.function, "_few_rounds", None)
        if found is not None:
            return found
        frame = frame.parent
    return None


class NeedsRolling(Signal):
    """A round of an unrolled `while` goes on in one branch of a traced `if` only."""

    def __init__(self, node):
        self.node = node
        super().__init__()


class TooLong(Signal):
    """The rounds of an unrolled loop are more than is worth it."""

    def __init__(self, node):
        self.node = node
        super().__init__()


def run_for(frame, node, value, rest):
    """A `for` over a value."""
    wanted = _few(frame)
    sequence = sequence_of(frame.session, value)
    if sequence is None:
        try:
            with frame.session.attempt(frame, lists.Grown):
                return _through(frame, node, value, rest)
        except lists.Grown as grown:
            if grown.xs is not value or not lists.put_on_tape(frame.session, value):
                raise
        sequence = sequence_of(frame.session, value)
    length = sequence.length
    if not isinstance(length, int):
        return _rolled(frame, node, sequence, rest)
    if length <= (FEW_ROUNDS if wanted is None else wanted):
        most = None if wanted else len(frame.session.builder.body) + MOST_APPLIES
        try:
            with frame.session.attempt(frame, TooLong):
                return control.run_rounds(frame, node, list(sequence), rest, 0, most)
        except TooLong as long:
            if long.node is not node:
                raise
    try:
        with frame.session.without_tapes(frame):
            return _of_known_length(frame, node, sequence, rest)
    except NeedsTape:
        pass
    try:
        return _rolled(frame, node, sequence, rest)
    except CellcError as fault:
        return _all_rounds(frame, node, sequence, rest, fault)


def _through(frame, node, value, rest):
    """Through a container, round by round."""
    items = frame.guarded(lambda: rounds_of(frame.session, value), node.iter)
    run = control.run_rounds if isinstance(items, list) else control.run_lazily
    with frame.session.owned.holding(items):    # what a round changes, a later one sees
        frame.session.owned.add(items)
        return run(frame, node, items, rest, 0)


def _of_known_length(frame, node, sequence, rest):
    """Rolled, or with the first round by itself, or else unrolled."""
    first = None
    for peeled in (0, 1):
        try:
            with frame.session.attempt(frame, (CellcError, NeedsRolling, NeedsTape)):
                if peeled:
                    _first_round(frame, node, sequence, rest)
                return Rolled(frame, node, sequence, peeled).run(rest)
        except NeedsRolling as needs:
            if needs.node is not node:
                raise
        except NeedsTape:
            if sequence.length > MAX_UNROLLED:
                raise
            break
        except CellcError as fault:
            first = first or fault
    return _all_rounds(frame, node, sequence, rest, first)


def _all_rounds(frame, node, sequence, rest, rolling: CellcError | None):
    """Unrolled; `rolling` is why it cannot be rolled."""
    if rolling is not None and sequence.length > MAX_UNROLLED:
        raise rolling
    try:
        return control.run_rounds(frame, node, list(sequence), rest, 0)
    except CellcError as fault:
        raise fault from rolling


def _rolled(frame, node, sequence, rest):
    with frame.session.attempt(frame, (CellcError, NeedsTape)):
        return Rolled(frame, node, sequence).run(rest)


def _first_round(frame, node, sequence, rest) -> None:
    """Run the first round by itself: it may make of a number the tensor that it is from then on."""
    from cellc.parser.statements import assign

    frame.loops.append(node)
    try:
        assign(frame, node.target, sequence.item(0), node)
        after = control.LoopRest(node, partial(_more_rounds, node), rest)
        outcome = control.run_block(frame, node.body, after)
    finally:
        frame.loops.pop()
    if outcome.rank not in (control.END, control.continue_of(node._depth)):
        raise NeedsRolling(node)


class StartAgain(NeedsRolling):
    """Some rounds were unrolled before one needed rolling: better to roll all. `known`: they could
    be unrolled further, but are many."""

    def __init__(self, node, known: bool):
        super().__init__(node)
        self.known = known


def run_while(frame, node, rest):
    """A `while`: unrolled where its condition is known and its rounds are few, else rolled."""
    try:
        with frame.session.attempt(frame, StartAgain):
            return _unrolled(frame, node, rest, None, True)
    except StartAgain as needs:
        if needs.node is not node:
            raise
        known = needs.known
    if known:
        try:
            with frame.session.without_tapes(frame):
                return _many_rounds(frame, node, rest)
        except NeedsTape:
            pass
    return _many_rounds(frame, node, rest)


def _many_rounds(frame, node, rest):
    """A `while` from the beginning: rolled, or unrolled until that is possible."""
    reason = None
    try:
        return _rolled(frame, node, None, rest)
    except CellcError as fault:
        reason = fault
    except NeedsTape:
        pass
    return _unrolled(frame, node, rest, reason, False)


def _unrolled(frame, node, rest, rolling: CellcError | None, again: bool):
    """Round by round; `rolling` is why it cannot be rolled from the beginning."""
    leave, wanted = control.continue_of(node._depth) + 1, _few(frame)
    few = FEW_ROUNDS if wanted is None else wanted
    frame.loops.append(node)
    try:
        for i in range(MAX_UNROLLED):
            try:
                with frame.session.attempt(frame, NeedsRolling):
                    condition = control.test(frame, node.test)
                    if not isinstance(condition, bool):
                        raise NeedsRolling(node)
                    if not condition:
                        break
                    if i == few and again:
                        raise StartAgain(node, True)
                    after = control.LoopRest(node, partial(_more_rounds, node), rest)
                    outcome = control.run_block(frame, node.body, after)
            except NeedsRolling as needs:
                if needs.node is not node or isinstance(needs, StartAgain):
                    raise
                if again and i:
                    raise StartAgain(node, False) from None
                frame.loops.pop()               # Rolled enters it itself
                try:
                    return _rolled(frame, node, None, rest)
                except CellcError as fault:
                    raise rolling or fault from None
                finally:
                    frame.loops.append(node)
            if outcome.rank >= leave or outcome.rank == control.NEVER:
                return control.AT_END if outcome.rank == leave else outcome
        else:
            raise SyntaxFault(f"a `while` of more than {MAX_UNROLLED} rounds is not unrolled",
                              "use operations on whole tensors instead") from rolling
    finally:
        frame.loops.pop()
    return control.run_block(frame, node.orelse, rest) if node.orelse else control.AT_END


def _more_rounds(node):
    raise NeedsRolling(node)
