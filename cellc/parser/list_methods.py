"""The methods and operators of lists whose length only the running program knows: see lists.py.

An item at the end is a push, a pop or a read. All else is written in Python (list_code.py) and
parsed where it is used; what can go wrong is checked here, so that the error is about the user's
line.
"""

from __future__ import annotations

from cellc.errors import TypeFault
from cellc.ir import arith
from cellc.ir.types import TensorType
from cellc.parser import hooks, list_code, lists
from cellc.parser.lists import is_place, length, must_hold, whole
from cellc.parser.values import Slot, describe, on_tape


def _in_python(session, function, *args):
    from cellc.parser import calls

    return calls.interpret(session, function, list(args), {})


def pop(session, xs: list, index=-1):
    """`xs.pop(index)`."""
    if isinstance(index, int) and index == -1:
        return lists.pop(session, xs)
    n = length(session, xs)
    must_hold(session, arith.greater(n, 0), IndexError("pop from empty list"))
    return _popped(session, xs, index, n, "pop index out of range")


def delete(session, xs: list, index) -> None:
    """`del xs[index]`."""
    _popped(session, xs, index, length(session, xs), "list assignment index out of range")


def _popped(session, xs: list, index, n, message: str):
    index = whole(session, index)
    must_hold(session, is_place(index, n), IndexError(message))
    return _in_python(session, list_code.popped, xs, index)


def extend(session, xs: list, items) -> None:
    """`xs.extend(items)`, of a list on a tape or by one."""
    from cellc.parser.iteration import items_of

    if on_tape(items) is None:
        for one in items_of(session, items):
            lists.append(session, xs, one)
    else:
        others = copied(session, xs) if items is xs else items
        _in_python(session, list_code.extended, xs, others)


def clear(session, xs: list) -> None:
    """`xs.clear()`."""
    lists.to_change(session, xs)
    xs.clear()


def insert(session, xs: list, index, item) -> None:
    """`xs.insert(index, item)`."""
    _in_python(session, list_code.inserted, xs, _end(session, index), item)


def reverse(session, xs: list) -> None:
    """`xs.reverse()`."""
    _in_python(session, list_code.turned, xs)


def index(session, xs: list, value):
    """`xs.index(value)`."""
    place = _in_python(session, list_code.place_of, xs, value)
    must_hold(session, arith.greater_equal(place, 0),
               ValueError("list.index(x): x not in list"))
    return place


def remove(session, xs: list, value) -> None:
    """`xs.remove(value)`."""
    place = _in_python(session, list_code.place_of, xs, value)
    must_hold(session, arith.greater_equal(place, 0),
               ValueError("list.remove(x): x not in list"))
    _in_python(session, list_code.popped, xs, place)


def count(session, xs: list, value):
    """`xs.count(value)`."""
    return _in_python(session, list_code.count, xs, value)


def copied(session, xs: list) -> list:
    """`xs.copy()`, `list(xs)`."""
    return _in_python(session, list_code.copied, xs)


def ordered(session, xs: list, key=None, reverse=False) -> list:
    """`sorted(xs, key=key, reverse=reverse)`."""
    return _in_python(session, list_code.ordered, xs, key, reverse)


def sort(session, xs: list, **how) -> None:
    """`xs.sort(key=key, reverse=reverse)`."""
    found = ordered(session, xs, **how)
    clear(session, xs)
    _in_python(session, list_code.extended, xs, found)


METHODS = {"append": lists.append, "pop": pop, "extend": extend, "clear": clear, "insert": insert,
           "reverse": reverse, "index": index, "remove": remove, "count": count, "copy": copied,
           "sort": sort}


def together(session, first: list, second: list) -> list:
    """`first + second`."""
    return _in_python(session, list_code.together, first, second)


def equal(session, first: list, second: list):
    """`first == second`."""
    return _in_python(session, list_code.equal, *(
        (first, second) if on_tape(first) is not None else (second, first)))


def contains(session, xs: list, value):
    """`value in xs`."""
    return _in_python(session, list_code.holds, xs, value)


def by_a_number(session, name: str, xs: list, args: list) -> bool:
    """Is this a pop or insert of a list of known length by a number of the program, and can the
    list lie on a tape? Then it does."""
    if name not in ("pop", "insert") or not args or not isinstance(args[0], hooks.traced):
        return False
    session.about_to_change(xs, f".{name}()")
    if name == "pop" and not xs:
        raise IndexError("pop from empty list")
    return lists.put_on_tape(session, xs, args[1:])


def part_by_numbers(session, xs: list, at: slice) -> list | None:
    """`xs[start:stop:step]` of a list of known length by numbers of the program; None where it
    cannot lie on a tape."""
    if not xs:
        return session.owned.add([])
    made = lists.laid_out(session, xs)
    return None if made is None else part(session, session.owned.add([made]), at)


def part(session, xs: list, at: slice) -> list:
    """`xs[start:stop:step]`."""
    step = 1 if at.step is None else at.step
    if not isinstance(step, int) or step == 0:
        raise TypeFault(f"a list is sliced with a step of {describe(step)}",
                        "use a known step that is not 0")
    ends = [x if x is None else _end(session, x) for x in (at.start, at.stop)]
    return _in_python(session, list_code.part, xs, *ends, step)


def _end(session, place):
    return int(place) if isinstance(place, int) else whole(session, place)


def total(session, xs: list, start=0):
    """`sum(xs, start)`: of numbers one after the other, as Python adds; of tensors all at once."""
    on = lists.held(session, xs)
    if on.item == Slot(0) and isinstance(on.types[0], TensorType):
        return arith.add(hooks.Tensor.sum(lists.rows(session, xs)[0], 0), start)
    return _in_python(session, list_code.added, xs, start)


def extreme(session, xs: list, function):
    """`min(xs)` or `max(xs)`, of numbers."""
    name = function.__name__
    must_hold(session, arith.greater(length(session, xs), 0),
               ValueError(f"{name}() arg is an empty sequence"))
    return _in_python(session, list_code.best, xs, function)
