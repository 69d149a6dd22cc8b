"""What can still be seen after an `if` of what its branches have changed.

A list to which one branch has appended, and the other not, has no one value. Where the function
returns, or does not read the list any more, and nobody else holds it, none is needed.
"""

from __future__ import annotations

from functools import partial
from types import FunctionType, MethodType

import gast

from cellc.ir.graph import Apply, Constant, Input
from cellc.parser import branches
from cellc.parser.iteration import Items, Iterator
from cellc.parser.liveness import readable
from cellc.parser.session import fields_of
from cellc.parser.values import LISTS, Closure, Maybe, OnTape


def is_dead(session, frame, node, value, sides, leaving: bool) -> bool:
    """Was the container or object made since `frame` was entered, and can nobody see it any more?

    `sides` are the branches before their join, `node` is the `if`.
    """
    if isinstance(node, gast.expr):         # parts of the expression around it may be held already
        return False
    if frame.entered is None or not session.owned.is_made_since(value, frame.entered):
        return False
    roots = [getattr(side.returned, "value", side.returned) for side in sides]
    for other in session.frames:
        roots += [outer.variables for outer in _chain(other) if outer is not frame]
        roots += other.handling
    if not leaving:
        roots += [x for side in sides for name, x in side.view(frame.variables).items()
                  if branches.is_live(frame, node, name)]
    roots += [x for x in session.owned.of_kind(Iterator) if not _is_at_end(x)]
    roots += session.managers
    return not _reaches(frame, roots, value, sides)


def may_be_seen(session, written, test) -> str | None:
    """What a program that goes on from here can see that the test holds of: the name of a variable
    that it is, or is in. `written` is the statement that has just been done, if one has been."""
    roots = []
    for depth, frame in enumerate(reversed(session.frames)):
        for outer in _chain(frame):
            live = readable(outer, None if depth else written)
            # What a loop is left with (`$value`) is not seen by its rounds: it has ended then.
            roots += [(name, x) for name, x in outer.variables.items()
                      if not name.startswith("$value") and (
                          live is None or name in live or name in outer.source.captured
                          or name.startswith("$"))]
        roots += [("an exception", error) for error in frame.handling]
    roots += [("an iterator", x) for x in session.owned.of_kind(Iterator) if not _is_at_end(x)]
    roots += [("a context manager", x) for x in session.managers]
    seen: set[int] = set()
    for name, root in roots:
        todo = [root]
        while todo:
            found = todo.pop()
            if id(found) in seen:
                continue
            seen.add(id(found))
            if test(found):
                return name if found is root else f"what {name} holds"
            todo += _parts(None, found, session)
    return None


def holders(session):
    """The containers, objects, iterators and functions that can still be seen, each once, as far as
    the code of this graph has made them: what can hold a tensor that has changed."""
    todo: list = [x.variables for frame in session.frames for x in _chain(frame)]
    todo += session.owned.held
    todo += [x for x in session.owned.of_kind(Iterator) if not _is_at_end(x)]
    todo += [x for frame in session.frames for x in frame.handling] + session.managers
    seen: set[int] = set()
    while todo:
        found = todo.pop()
        if type(found) in _PLAIN or id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, (Iterator, Closure)) or found in session.owned:
            yield found
        todo += _parts(None, found, session)


def _chain(frame):
    """The frame and those that its function was defined in."""
    while frame is not None:
        yield frame
        frame = frame.parent


def _is_at_end(iterator) -> bool:
    return isinstance(iterator, Items) and iterator.index >= len(iterator.items)


def _reaches(frame, roots: list, value, sides) -> bool:
    todo, seen = list(roots), set()
    while todo:
        found = todo.pop()
        if found is value:
            return True
        if id(found) in seen:
            continue
        seen.add(id(found))
        todo += _parts(frame, found, frame.session)
        for side in sides:
            after = side.after(found)
            if after is not None:
                todo += after.values() if isinstance(after, dict) else after
    return False


_PLAIN = frozenset([Apply, Input, Constant, int, float, bool, str, type(None), type, FunctionType])


def _parts(frame, value, session) -> list:
    """What one gets at through a value; of the frame itself the roots have what is still read."""
    if isinstance(value, (tuple, *LISTS, set, frozenset)):
        return list(value)
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, Closure):
        return [*(f.variables for f in _chain(value.frame)), value.defaults, value.kw_defaults]
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, Maybe):
        return [value.value]
    if isinstance(value, OnTape):
        return [value.tape]
    if isinstance(value, BaseException):
        return [value.args, value.__cause__, value.__context__, vars(value)]
    if isinstance(value, Iterator):
        inside = list(vars(value).values())
        outer = _chain(getattr(value, "frame", None))       # of a generator
        return [*inside, *(f.variables for f in outer if f is not frame)]
    return list(fields_of(value).values()) if value in session.owned else []
