"""What `except` catches in a compiled call.

Exceptions are raised and caught while compiling: those that the user's code raises, and those that
Python raises in work on known values, as Python has it. What the compiled program raises (a `raise`
or `assert` on its own values that no `try` is around) ends the call; where only a `try` of a
calling function would catch it, it is refused. Of cellc's own faults:

- what is wrong with a tensor whatever its values are (a shape, a dtype) is the same in eager mode,
  and is caught by a handler that names its class, such as `except ValueError`, but not by
  `except Exception`, which would turn a mistake into another branch unseen;
- what the compiler does not take, or must know, is never caught.

An exception under a condition known only when the program runs is caught in its branch, where the
`try` and the `if` are of one function (`protected.catching`); out of a function it is not caught.
"""

from __future__ import annotations

import copy

from cellc.errors import (
    AssertionFault,
    AttributeFault,
    CellcError,
    IndexFault,
    IRFault,
    KeyFault,
    SourceFault,
    SymbolicFault,
    SyntaxFault,
    TypeFault,
    ValueFault,
)
from cellc.ir.graph import KnownFault, scalar
from cellc.parser.frame import Signal, UserRaise
from cellc.parser.text import Raised, check
from cellc.parser.values import describe, traced_in, unknown

_COMPILERS = (KnownFault, SyntaxFault, SymbolicFault, SourceFault, IRFault)
_AS_PYTHON = (AttributeFault, IndexFault, KeyFault, ValueFault, AssertionFault)
_BROAD = (Exception, BaseException)
_RAISED_WHEN_RUN = (KeyError, IndexError, ValueError, ZeroDivisionError, OverflowError)


def visible(error: Exception) -> BaseException | None:
    """The exception as the user's code sees it; None for what only the compiler has to say."""
    if isinstance(error, UserRaise):
        return error.error
    if not isinstance(error, CellcError):
        return None if isinstance(error, (RecursionError, Signal)) else error
    if isinstance(error, _COMPILERS):
        return None
    if hasattr(error, "python"):
        return error.python
    cause = error.__cause__ or error.__context__
    if isinstance(cause, Exception) and not isinstance(cause, (CellcError, UserRaise)) and (
            isinstance(error, type(cause))):
        return cause            # Python's own, which the fault stands for
    if not _of_the_parser(error):
        return error            # an operation's, about a tensor
    return _as_python(error) if isinstance(error, _AS_PYTHON) else None


def _as_python(fault: CellcError) -> Exception:
    """The exception that Python itself raises there; the same one each time it is asked for."""
    kind = next(k for k in type(fault).__mro__ if k.__module__ == "builtins")
    fault.python = kind(fault.message)
    return fault.python


def _of_the_parser(error: CellcError) -> bool:
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_globals["__name__"].startswith("cellc.parser")


def is_caught(error: BaseException, kinds: tuple) -> bool:
    """Does a clause that names these classes catch it?"""
    if isinstance(error, CellcError):
        kinds = tuple(kind for kind in kinds if kind not in _BROAD)
    return isinstance(error, kinds)


def check_crossing(error: Exception) -> None:
    """Refuse to catch what one branch of a traced `if` raised outside of that branch."""
    if getattr(error, "lost", False):
        raise SyntaxFault("an exception leaves a cell or a differentiated function after it has "
                          "printed or assigned a Parameter, and is caught outside of it",
                          "catch it inside")
    condition = getattr(error, "crossed", None)
    if condition is not None:
        raise unknown(condition, f"{type(visible(error)).__name__}, raised under a condition known "
                      "only when the program runs, is caught outside of it",
                      "put the try inside the branch, or choose values with ops.where"
                      ).at(getattr(error, "loc", None))


def conditional(condition, loc) -> CellcError:
    """The fault for an exception that only the running program could decide to raise."""
    return unknown(condition, "`raise` under a condition known only when the program runs",
                   "check shapes and attributes here, and values outside").at(loc)


def ends_branch(session) -> bool:
    """Is this a traced branch, with no `try` or `with` around here in it? Or else a place that the
    program comes to after it has said something, or could have failed?"""
    if not session.conditions:
        return bool(session.messages) and not session.blocks
    around = next((block for block in reversed(session.blocks) if block.guards), None)
    return around is None or around.condition is not session.conditions[-1]


def as_raised(error: Exception) -> Exception:
    """Python's own exception about known values as if the user's code had raised it: in a traced
    branch it is the program that raises it, if it comes there. What is mostly a slip of the pen (a
    name, an attribute, a type) is reported at once."""
    seen = visible(error)
    if isinstance(error, UserRaise) or type(seen) not in _RAISED_WHEN_RUN or traced_in(
            list(seen.args)):
        return error
    return UserRaise(seen, getattr(error, "loc", None))


def raise_when_run(session, error: UserRaise) -> None:
    """What no `try` of a traced branch has caught is raised by the running program."""
    if traced_in([error.error.args, vars(error.error)]):
        raise conditional(session.conditions[-1], error.loc)
    session.check_uncaught(type(error.error), error.loc)
    session.builder.loc = error.loc or session.builder.loc
    check(session, scalar(False), Raised(session, (_again, (error.error,))))


def _again(error: BaseException) -> BaseException:
    """Another exception like this one, for each call that raises it."""
    try:
        return copy.copy(error)
    except TypeError:           # its class takes other arguments than it has kept
        return error


def handler_for(frame, node, error: Exception):
    """(the handler that catches the error, the exception it sees), or (None, None)."""
    caught = visible(error)
    if caught is None:
        return None, None
    for handler in node.handlers:
        kinds = _BROAD if handler.type is None else _classes(frame, handler.type)
        if is_caught(caught, kinds):
            check_crossing(error)
            return handler, caught
    return None, None


def handles(frame, node, kind: type) -> bool:
    """Could a handler of this `try` catch an exception of this class?"""
    return any(handler.type is None or issubclass(kind, _classes(frame, handler.type))
               for handler in node.handlers)


def _classes(frame, node) -> tuple:
    found = frame.eval(node)
    kinds = found if isinstance(found, tuple) else (found,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeFault(f"found {describe(kind)} after except, expected an exception class"
                            ).at(frame.loc(node))
    return kinds


def bind_error(frame, handler, caught: BaseException) -> None:
    frame.handling.append(caught)
    if handler.name is not None:
        frame.store(handler.name.id, caught, handler)


def unbind_error(frame, handler) -> None:
    """An `except` clause unbinds its name at its end."""
    if frame.handling:
        frame.handling.pop()
    if handler.name is not None:
        frame.variables.pop(handler.name.id, None)


def handled(session) -> BaseException | None:
    """The exception that is being handled, which `raise` alone raises again."""
    return next((frame.handling[-1] for frame in reversed(session.frames) if frame.handling), None)
