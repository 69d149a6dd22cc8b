"""`itertools` as generators, which the parser interprets like the user's own.

So they take their items one by one, call the user's functions as the user would, and can be put
back by a traced branch. What is not here goes through all of its items at once.
"""

from __future__ import annotations

import itertools
import operator

from cellc.parser import calls


def chain(*iterables):
    for iterable in iterables:
        yield from iterable


def chain_from_iterable(iterables):
    for iterable in iterables:
        yield from iterable


def count(start=0, step=1):
    while True:
        yield start
        start = start + step


def cycle(iterable):
    seen = []
    for item in iterable:
        seen.append(item)
        yield item
    while seen:
        yield from seen


def repeat(item, times=None):
    if times is None:
        while True:
            yield item
    for _ in range(times):
        yield item


def accumulate(iterable, func=operator.add, *, initial=None):
    items = iter(iterable)
    total = initial
    if initial is None:
        for total in items:  # noqa: B007
            break
        else:
            return
    yield total
    for item in items:
        total = func(total, item)
        yield total


def starmap(function, iterable):
    for args in iterable:
        yield function(*args)


def takewhile(predicate, iterable):
    for item in iterable:
        if not predicate(item):
            break
        yield item


def dropwhile(predicate, iterable):
    items = iter(iterable)
    for item in items:
        if not predicate(item):
            yield item
            break
    yield from items


def filterfalse(predicate, iterable):
    for item in iterable:
        if not (item if predicate is None else predicate(item)):
            yield item


def compress(data, selectors):
    for item, selected in zip(data, selectors, strict=False):
        if selected:
            yield item


def pairwise(iterable):
    items = iter(iterable)
    for before in items:  # noqa: B007
        break
    else:
        return
    for item in items:
        yield before, item
        before = item


def islice(iterable, *limits):
    s = slice(*limits)
    start, step, at = s.start or 0, s.step or 1, 0
    items = iter(iterable)
    while at < start:
        at += 1
        for _ in items:
            break
        else:
            return
    wanted = start
    while s.stop is None or at < s.stop:
        for item in items:  # noqa: B007
            break
        else:
            return
        if at == wanted:
            yield item
            wanted += step
        at += 1


def groupby(iterable, key=None):
    group, before = [], None
    for item in iterable:
        this = item if key is None else key(item)
        if group and this != before:
            yield before, iter(group)
            group = []
        group.append(item)
        before = this
    if group:
        yield before, iter(group)


def zip_longest(*iterables, fillvalue=None):
    parts = [iter(x) for x in iterables]
    missing = object()
    while True:
        row = [next(part, missing) for part in parts]
        if all(item is missing for item in row):
            return
        yield tuple([fillvalue if item is missing else item for item in row])


def _interpreted(function):
    return lambda session, args, kwargs: calls.interpret(session, function, args, kwargs)


for _known, _function in {
        itertools.chain: chain, itertools.count: count, itertools.cycle: cycle,
        itertools.repeat: repeat, itertools.accumulate: accumulate, itertools.starmap: starmap,
        itertools.takewhile: takewhile, itertools.dropwhile: dropwhile,
        itertools.filterfalse: filterfalse, itertools.compress: compress,
        itertools.pairwise: pairwise, itertools.islice: islice, itertools.groupby: groupby,
        itertools.zip_longest: zip_longest}.items():
    calls.handle(_interpreted(_function), _known)
calls.class_methods[itertools.chain, "from_iterable"] = _interpreted(chain_from_iterable)
