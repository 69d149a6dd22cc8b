"""What Python's own code reads of outside objects while parsing is guarded as well."""

import argparse
import copy
import dataclasses
import functools
import operator
import os
import sys
import types
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, deque
from dataclasses import dataclass, field

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, ops
from cellc.compile import compiled

NAME = "CELLC_TEST_OF_GUARDS"


@dataclass
class Part:
    k: float = 2.0
    sizes: list = field(default_factory=lambda: [1.0, 2.0])


@dataclass(slots=True)
class Slotted:
    k: float = 2.0


class Number:
    def __init__(self):
        self.k = 2.0

    def __float__(self):
        return self.k

    def __str__(self):
        return "x" * int(self.k)


class Table(UserDict):
    pass


def world():
    def scaled(x):
        return x

    scaled.k = 2.0
    return types.SimpleNamespace(
        part=Part(), slotted=Slotted(), number=Number(), function=scaled,
        args=argparse.Namespace(k=2.0), queue=deque([2.0, 3.0]), table=Table(k=2.0),
        items=UserList([2.0]), ordered=OrderedDict(k=2.0), many=Counter(a=2),
        chain=ChainMap({"k": 2.0}), parts=[Part(), Part()], inner=types.SimpleNamespace(
            deep=types.SimpleNamespace(k=2.0)))


# what is computed with w and x, and what changes its value
READS = {
    "a namespace": (lambda w, x: x * w.args.k, lambda w: setattr(w.args, "k", 5.0)),
    "within namespaces": (lambda w, x: x * w.inner.deep.k,
                          lambda w: setattr(w.inner.deep, "k", 5.0)),
    "a missing one": (lambda w, x: x * (3.0 if hasattr(w.args, "new") else 2.0),
                      lambda w: setattr(w.args, "new", 5.0)),
    "a function's": (lambda w, x: x * w.function.k, lambda w: setattr(w.function, "k", 5.0)),
    "asdict": (lambda w, x: x * dataclasses.asdict(w.part)["k"],
               lambda w: setattr(w.part, "k", 5.0)),
    "asdict of slots": (lambda w, x: x * dataclasses.asdict(w.slotted)["k"],
                        lambda w: setattr(w.slotted, "k", 5.0)),
    "astuple": (lambda w, x: x * dataclasses.astuple(w.part)[1][0],
                lambda w: w.part.sizes.insert(0, 5.0)),
    "replace": (lambda w, x: x * dataclasses.replace(w.part).k,
                lambda w: setattr(w.part, "k", 5.0)),
    "copy": (lambda w, x: x * copy.copy(w.part).k, lambda w: setattr(w.part, "k", 5.0)),
    "equality": (lambda w, x: x * (3.0 if w.part == w.parts[1] else 2.0),
                 lambda w: setattr(w.parts[1], "k", 5.0)),
    "in a list": (lambda w, x: x * w.parts.count(w.part), lambda w: w.parts[0].sizes.append(3.0)),
    "text": (lambda w, x: x * len(str(w.part)), lambda w: setattr(w.part, "k", 5000.0)),
    "text of parts": (lambda w, x: x * len(f"{w.parts}"), lambda w: setattr(w.parts[1], "k", 5e9)),
    "a format": (lambda w, x: x * len("{0.k}".format(w.part)),
                 lambda w: setattr(w.part, "k", 5000.0)),
    "float": (lambda w, x: x * float(w.number), lambda w: setattr(w.number, "k", 5.0)),
    "a deque": (lambda w, x: x * w.queue[0], lambda w: w.queue.appendleft(5.0)),
    "of a deque": (lambda w, x: x * sum(w.queue), lambda w: w.queue.append(5.0)),
    "in a deque": (lambda w, x: x * (2.0 if 5.0 in w.queue else 3.0),
                   lambda w: w.queue.append(5.0)),
    "length": (lambda w, x: x * len(w.queue), lambda w: w.queue.append(5.0)),
    "truth": (lambda w, x: x if w.queue else -x, lambda w: w.queue.clear()),
    "a count": (lambda w, x: x * w.queue.count(5.0), lambda w: w.queue.append(5.0)),
    "a UserDict": (lambda w, x: x * w.table["k"], lambda w: w.table.update(k=5.0)),
    "a UserList": (lambda w, x: x * sum(w.items), lambda w: w.items.append(5.0)),
    "its length": (lambda w, x: x * len(w.items), lambda w: w.items.append(5.0)),
    "ordered": (lambda w, x: x * list(w.ordered.values())[0], lambda w: w.ordered.update(k=5.0)),
    "a Counter": (lambda w, x: x * w.many["a"], lambda w: w.many.update("a")),
    "a ChainMap": (lambda w, x: x * w.chain["k"], lambda w: w.chain.update(k=5.0)),
    "itemgetter": (lambda w, x: x * operator.itemgetter(0)(w.queue),
                   lambda w: w.queue.appendleft(5.0)),
    "attrgetter": (lambda w, x: x * operator.attrgetter("deep.k")(w.inner),
                   lambda w: setattr(w.inner.deep, "k", 5.0)),
    "the environment": (lambda w, x: x * float(os.environ[NAME]),
                        lambda w: os.environ.update({NAME: "5"})),
    "not in it": (lambda w, x: x * (3.0 if NAME + "X" in os.environ else 2.0),
                  lambda w: os.environ.update({NAME + "X": "5"})),
    "the command line": (lambda w, x: x * len(sys.argv[-1]), lambda w: sys.argv.append("a" * 99)),
    "the context": (lambda w, x: x * (1 + context.get_context("max_device_threads")),
                    lambda w: context.set_context(max_device_threads=1)),
}


@pytest.mark.parametrize("name", READS)
def test_a_change_is_seen(name, monkeypatch):
    read, change = READS[name]
    monkeypatch.setenv(NAME, "2")
    monkeypatch.delenv(NAME + "X", raising=False)
    monkeypatch.setattr(sys, "argv", ["program", "argument"])
    w, x = world(), Tensor(np.array([1.0, 2.0], np.float32))

    @cellc.jit
    def f(x):
        return ops.neg(read(w, x))

    try:
        before = -read(w, x).asnumpy()
        np.testing.assert_array_equal(f(x).asnumpy(), before)
        np.testing.assert_array_equal(f(x).asnumpy(), before)
        change(w)
        after = -read(w, x).asnumpy()
        assert not np.array_equal(before, after), "the change changes nothing"
        np.testing.assert_array_equal(f(x).asnumpy(), after)
    finally:
        context.set_context(max_device_threads=0)
        monkeypatch.delenv(NAME + "X", raising=False)


# what is computed without a look at what the objects hold, of which something then changes
NOT_READ = {
    "appended": lambda w, x: x * len(appended([], w.part)),
    "counted": lambda w, x: x * len(w.parts) if w.parts else x,
    "joined": lambda w, x: x * len(w.parts + [w.part]),
    "passed on": lambda w, x: functools.partial(lambda part, x: x * 2.0, w.part)(x),
    "held": lambda w, x: x * len(OrderedDict(a=w.part)),
    "compared": lambda w, x: x if w.part is w.parts[0] else -x,
    "of its class": lambda w, x: x if isinstance(w.part, Part) else -x,
    "an argument": lambda w, x: takes(x, w.parts),
}


def appended(items, value):
    items.append(value)
    return items


def takes(x, parts):
    return x * len(parts)


@pytest.mark.parametrize("name", NOT_READ)
def test_what_is_not_read_is_not_guarded(name):
    read, w, x = NOT_READ[name], world(), Tensor(np.array([1.0, 2.0], np.float32))

    @cellc.jit
    def f(x):
        return read(w, x) + 0.0

    for k in range(3):
        w.part.k = w.parts[0].k = w.number.k = float(k)
        np.testing.assert_array_equal(f(x).asnumpy(), read(w, x).asnumpy())
    assert len(compiled(f).variants) == 1


def test_containers_among_the_arguments_need_no_guard():
    x = Tensor(np.array([1.0, 2.0], np.float32))

    @cellc.jit
    def f(xs, named):
        return xs[0] * len(xs) * sum(named["k"]) + named["w"] + max([1.0, 2.0])

    f([x, x], {"k": [1.0, 2.0], "w": x})
    guards = compiled(f).variants[0].traced.guards
    assert not any(g.kind == "contents" for g in guards)
