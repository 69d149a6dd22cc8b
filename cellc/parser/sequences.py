"""Python's builtin functions that go through sequences, and those that make containers."""

from __future__ import annotations

import copy
import functools

from cellc.errors import TypeFault
from cellc.ir import arith
from cellc.parser import control, hooks, list_methods, lists, operators, sequence
from cellc.parser.builtins import builtin
from cellc.parser.guards import look
from cellc.parser.iteration import Calls, Enumerate, Filter, Items, Iterator, Map, Rows, Zip
from cellc.parser.values import describe, flatten, traced_in, unflatten, unknown


def _items(session, args) -> list:
    return control.items_of(session, args[0])


@builtin(len)
def call_len(session, args, kwargs):
    value = args[0]
    if lists.on_tape(value) is not None:
        return lists.length(session, value)
    session.look_at(value)
    if operators.is_traced(value):
        node = session.lift(value)
        if node.type.ndim == 0:
            raise TypeFault(f"len() of {describe(value)}", "it has no axes")
        return node.type.shape[0]
    if isinstance(value, hooks.Cell):
        session.read("contents", value, "", look("contents", value, ""))
    function = operators.user_special(value, "__len__")
    if function is not None:
        return session.call(function, [value])
    session.look_over(value)
    return len(value)


@builtin(range)
def call_range(session, args, kwargs):
    if any(operators.is_traced(x) or arith.is_found(x) for x in args):
        return sequence.traced_range(session, args)
    return range(*args)


@builtin(enumerate)
def call_enumerate(session, args, kwargs):
    start = args[1] if len(args) > 1 else kwargs.get("start", 0)
    rolled = sequence.sequence_of(session, args[0])
    if rolled is not None:
        return Rows(session, sequence.enumerated(rolled, start))
    return Enumerate(session, control.iterate(session, args[0]), start)


@builtin(zip)
def call_zip(session, args, kwargs):
    rolled = [sequence.sequence_of(session, x) for x in args]
    if rolled and None not in rolled and not kwargs.get("strict"):
        return Rows(session, sequence.zipped(rolled))
    return Zip(session, [control.iterate(session, x) for x in args], **kwargs)


@builtin(map)
def call_map(session, args, kwargs):
    function, *parts = args
    found = Map(session, lambda *row: session.call(function, row),
                *(control.iterate(session, x) for x in parts))
    found.about = function
    return found


@builtin(filter)
def call_filter(session, args, kwargs):
    function, items = args
    found = Filter(session, lambda x: _known_truth(
        session, x if function is None else session.call(function, [x])),
        control.iterate(session, items))
    found.about = function
    return found


def _known_truth(session, value) -> bool:
    found = operators.truth(session, value)
    if not isinstance(found, bool):
        raise unknown(found, "whether filter() keeps an item is known only when the program runs, "
                      "and the number of items must be known", "keep all items and use ops.where")
    return found


@builtin(all)
def call_all(session, args, kwargs):
    found = True
    for item in control.iterate(session, args[0]):
        found = operators.both(found, operators.truth(session, item))
        if found is False:
            break
    return found


@builtin(any)
def call_any(session, args, kwargs):
    found = False
    for item in control.iterate(session, args[0]):
        found = operators.either(found, operators.truth(session, item))
        if found is True:
            break
    return found


@builtin(reversed)
def call_reversed(session, args, kwargs):
    function = operators.user_special(args[0], "__reversed__")
    if function is not None:
        return control.iterate(session, session.call(function, args))
    if isinstance(args[0], Iterator):
        raise TypeFault("reversed() of an iterator", "reversed(list(...)) goes through it first")
    rolled = sequence.sequence_of(session, args[0])
    if rolled is not None:
        return Rows(session, sequence.backwards(rolled))
    return Items(session, tuple(_items(session, args)[::-1]))


@builtin(sorted)
def call_sorted(session, args, kwargs):
    if lists.on_tape(args[0]) is not None:
        return list_methods.ordered(session, *args, **kwargs)
    items = _items(session, args)
    key = kwargs.get("key")
    keys = items if key is None else [session.call(key, [x]) for x in items]
    if any(map(traced_in, keys)):
        raise TypeFault("sorted() of values known only when the program runs",
                        "put them into one tensor and use ops.sort")
    order = sorted(range(len(items)), key=keys.__getitem__, reverse=bool(kwargs.get("reverse")))
    return session.owned.add([items[i] for i in order])


@builtin(tuple)
def call_tuple(session, args, kwargs):
    return tuple(_items(session, args)) if args else ()


@builtin(list)
def call_list(session, args, kwargs):
    if args and lists.on_tape(args[0]) is not None:
        return list_methods.copied(session, args[0])
    return session.owned.add(_items(session, args) if args else [])


@builtin(set)
def call_set(session, args, kwargs):
    return session.owned.add(set(_known_items(session, args)))


@builtin(frozenset)
def call_frozenset(session, args, kwargs):
    return frozenset(_known_items(session, args))


def _known_items(session, args) -> list:
    items = _items(session, args) if args else []
    if any(map(traced_in, items)):
        raise TypeFault("found a value known only when the program runs as an item of a set",
                        "use a list or a tuple")
    return items


@builtin(dict)
def call_dict(session, args, kwargs):
    result = {}
    if args:
        result.update(args[0] if isinstance(args[0], dict) else _items(session, args))
    result.update(kwargs)
    return session.owned.add(result)


@builtin(iter)
def call_iter(session, args, kwargs):
    if len(args) == 2:
        return Calls(session, functools.partial(session.call, args[0]), args[1])
    return control.iterate(session, *args)


@builtin(next)
def call_next(session, args, kwargs):
    source = args[0]
    if not isinstance(source, Iterator):
        if operators.user_special(source, "__next__") is None:
            raise TypeFault(f"next() of {describe(source)}, which is no iterator",
                            "next(iter(x)) takes its first item")
        source = control.iterate(session, source)
    return next(source, *args[1:])


@builtin(functools.reduce)
def call_reduce(session, args, kwargs):
    items = control.items_of(session, args[1])
    if len(args) < 3 and not items:
        raise TypeFault("reduce() of no items with no initial value")
    total, rest = (args[2], items) if len(args) > 2 else (items[0], items[1:])
    for item in rest:
        total = session.call(args[0], [total, item])
    return total


@builtin(functools.wraps)
def call_wraps(session, args, kwargs):
    """`@wraps(f)` copies a name and a docstring, which matter to no result."""
    return _as_it_is


@builtin(functools.update_wrapper)
def call_update_wrapper(session, args, kwargs):
    return args[0]


def _as_it_is(function):
    return function


@builtin(copy.copy, copy.deepcopy)
def call_copy(session, args, kwargs):
    value, leaves = args[0], []
    if isinstance(value, hooks.traced):
        return session.lift(value)
    if lists.on_tape(value) is not None:
        return list_methods.copied(session, value)
    structure = flatten(value, leaves, session.lift)
    lists.refuse_tapes(leaves, "a copy")
    return unflatten(structure, leaves, made=session.owned.add)
