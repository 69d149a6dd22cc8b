"""fingerprint: what a value is, as a text that two processes can compare.

A text says all that code which is given the value can find out: of an object its class and its
attributes, of a class its bases and its methods, of a function its code, defaults and closure, of
an array its elements, of a Parameter its type. The values of global variables are not in it, nor
are the elements of tensors.

Objects are numbered in the order in which they are met. So equal texts mean more than values that
look alike: what is one object in two places here is one object in the same two places there.
`objects` has them by number, and so the dictionaries, closure cells and global scopes that hold
what they hold: what one process says of an object by its number, another finds.

Where something is met of which a text would not say all (a lock, an open file, an object of a
library written in C), there is none: Indescribable.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import operator
import re
import sys
import threading
import types
from collections import defaultdict, deque, namedtuple
from types import CodeType
from weakref import WeakKeyDictionary

import numpy as np

from cellc.ir.graph import Primitive
from cellc.ir.types import Dim, DType, ScalarType, TapeType, TensorType, TupleType
from cellc.parser import hooks
from cellc.parser.guards import MISSING, is_steady

MOST_PARTS = 200_000        # of a text: an eighth of a second
MOST_BYTES = 1 << 20        # of an array or a string
DEEPEST = 200               # objects within objects
OF_THIS_PROCESS = frozenset(["_cellc_compiled", "_cellc_front"])
_OF_NO_MEANING = frozenset([        # in the dictionary of a class
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__",
    "__abstractmethods__", "_abc_impl", "__static_attributes__", "__firstlineno__",
    "__annotate_func__", "__annotations_cache__", *OF_THIS_PROCESS])


class Indescribable(Exception):
    """A value of which a text would not say all."""


class Fingerprint:
    """A text that grows with each value that it is told to `say`."""

    def __init__(self):
        self.objects: list = []
        self.numbers: dict[int, int] = {}
        self.codes: set[CodeType] = set()       # of the functions met, and of those within them
        self._parts: list[str] = []
        self._begin = 0                         # of what no digest has taken in
        self._depth = 0

    def copy(self) -> Fingerprint:
        """One that can go on another way."""
        other = Fingerprint()
        other.objects, other.numbers = self.objects[:], dict(self.numbers)
        other.codes, other._parts = set(self.codes), self._parts[:]
        other._begin = self._begin
        return other

    def digest(self) -> bytes:
        """A hash of what was said since the last one was taken."""
        said = "\0".join(self._parts[self._begin:])
        self._begin = len(self._parts)
        return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=20).digest()

    def meet(self, value) -> int:
        """The number of an object, met here at the latest, of which nothing need be said."""
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.objects)
            self.objects.append(value)
        return number

    def number_of(self, value) -> int:
        """The number of an object that was met; Indescribable for another."""
        number = self.numbers.get(id(value))
        if number is None:
            raise Indescribable(f"an object of {type(value).__name__} that was not met")
        return number

    def say(self, value) -> None:
        """Go on with a value."""
        kind = type(value)
        if kind in _PLAIN:
            if kind in (str, bytes) and len(value) > MOST_BYTES:
                raise Indescribable("a long text")
            self.write(repr(value))
        elif id(value) in self.numbers:
            self.write(f"#{self.numbers[id(value)]}")
        elif self._depth == DEEPEST:
            raise Indescribable("nested too deeply")
        else:
            self.meet(value)
            self._depth += 1
            if issubclass(kind, hooks.Tensor):
                self._tensor(value)
            else:
                next(rule for base in kind.__mro__ if (rule := _RULES.get(base)))(self, value)
            self._depth -= 1

    def say_all(self, values) -> None:
        """Go on with some values, in order."""
        values = list(values)
        self.write(f"{len(values)}:")
        for value in values:
            self.say(value)

    def write(self, part: str) -> None:
        """Go on with a text that says all there is to say."""
        self._parts.append(part)
        if len(self._parts) > MOST_PARTS:
            raise Indescribable("too large")

    def _say_named(self, items, but: frozenset[str] = OF_THIS_PROCESS) -> None:
        items = [item for item in list(items) if item[0] not in but]
        self.write(f"{len(items)}:")
        for name, value in items:
            self.say(name)
            self.say(value)

    def _dictionary(self, value) -> None:
        found = _held(value, "__dict__")
        if found is not MISSING:
            self.meet(found)
            self._say_named(found.items())

    def _attributes(self, value) -> None:
        """What an object holds in its dictionary and its slots."""
        self._dictionary(value)
        for name in _slots(type(value)):
            self.say(_held(value, name))

    # -- code --------------------------------------------------------------------------------------

    def _function(self, f) -> None:
        self.write(f"function {f.__module__}.{f.__qualname__} {f.__code__.co_firstlineno}")
        self.meet(f.__globals__)
        for cell in f.__closure__ or ():
            self.meet(cell)
            try:
                self.say(cell.cell_contents)
            except ValueError:
                self.write("empty")
        self.say_all((f.__defaults__, f.__kwdefaults__))
        if not is_steady(f.__globals__.get("__name__")):
            self.write(code_text(f.__code__))
            self.codes.update(_codes_in(f.__code__))
            self._say_named(f.__annotations__.items())
            self._say_named(vars(f).items())

    def _class(self, cls: type) -> None:
        self.write(f"class {cls.__module__}.{cls.__qualname__}")
        if is_steady(cls.__module__):
            if "<locals>" in cls.__qualname__:
                raise Indescribable("one of several classes of a name")
            if issubclass(cls, hooks.Cell):         # someone may have put another there
                self.say(cls.construct)
        else:
            self.say_all((type(cls), *cls.__bases__))
            self._say_named(vars(cls).items(), _OF_NO_MEANING)

    def _module(self, module) -> None:
        self.write(f"module {module.__name__}")
        self.meet(vars(module))

    def _by_name(self, value) -> None:
        """What Python or a library has under a name."""
        owner = getattr(value, "__objclass__", None) or getattr(value, "__self__", None)
        name = value.__name__
        if isinstance(owner, (type(None), types.ModuleType)):
            owner = getattr(value, "__module__", None) or getattr(owner, "__name__", "numpy")
            name = getattr(value, "__qualname__", name)
            try:
                if operator.attrgetter(name)(sys.modules[owner]) is not value:
                    raise Indescribable(f"another {name}")
            except (KeyError, AttributeError):
                raise Indescribable(f"{owner}.{name}, which is not there") from None
        self.write(f"{type(value).__name__} {name}")
        self.say(owner)

    # -- values ------------------------------------------------------------------------------------

    def _tensor(self, value) -> None:
        self.say(type(value))
        self.write(f"{value.type} {value.requires_grad} {getattr(value, 'name', None)!r}")
        self._dictionary(value)

    def _items(self, value) -> None:
        self.say(type(value))
        self.say_all(value)
        self._attributes(value)

    def _deque(self, value) -> None:
        self.say(value.maxlen)
        self._items(value)

    def _mapping(self, value) -> None:
        self.say(type(value))
        if isinstance(value, defaultdict):
            self.say(value.default_factory)
        self.say_all(value)
        self.say_all(value.values())
        self._attributes(value)

    def _unordered(self, value) -> None:
        self.say(type(value))
        if not all(type(x) in _PLAIN for x in value):
            raise Indescribable("a set of objects, in no order")
        self.write(repr(sorted(map(repr, value))))
        self._attributes(value)

    def _array(self, value: np.ndarray) -> None:
        if value.dtype.hasobject or value.nbytes > MOST_BYTES:
            raise Indescribable("an array that is large, or of objects")
        self.say(type(value))
        elements = hashlib.sha256(np.ascontiguousarray(value)).hexdigest()
        self.write(f"{value.dtype.str} {value.shape} {elements}")
        self._attributes(value)

    def _object(self, value) -> None:
        """An instance of a class written in Python."""
        cls = type(value)
        if any((base.__module__.partition(".")[0], base.__name__) in _SAID_BY_REPR
               for base in cls.__mro__):
            self.say(cls)
            self.write(repr(value))
            return
        if not _is_all_attributes(cls) or hasattr(cls, "call_parsed"):
            raise Indescribable(f"an object of {cls.__module__}.{cls.__qualname__}")
        self.say(cls)
        self._attributes(value)


def _parts(*names: str):
    """The rule for objects of which these attributes say all."""
    def rule(self, value):
        self.say(type(value))
        self.say_all(getattr(value, name) for name in names)
        self._dictionary(value)
    return rule


def _said_by(text):
    """The rule for immutable objects of which a text says all, and for what is derived from them.
    """
    def rule(self, value):
        self.say(type(value))
        self.write(text(value))
        self._attributes(value)
    return rule


_SAID_BY_REPR = {("decimal", "Decimal"), ("pathlib", "PurePath")}     # not imported for this
_Field = namedtuple("_Field", "x")
_PLAIN = frozenset([int, float, str, bool, type(None), complex, bytes, type(...), range])
_RULES = {
    object: Fingerprint._object, type: Fingerprint._class, types.ModuleType: Fingerprint._module,
    types.FunctionType: Fingerprint._function, types.MethodType: _parts("__func__", "__self__"),
    list: Fingerprint._items, tuple: Fingerprint._items, deque: Fingerprint._deque,
    dict: Fingerprint._mapping, types.MappingProxyType: Fingerprint._mapping,
    set: Fingerprint._unordered, frozenset: Fingerprint._unordered, np.ndarray: Fingerprint._array,
    property: _parts("fget", "fset", "fdel"), staticmethod: _parts("__func__"),
    classmethod: _parts("__func__"),
    functools.cached_property: lambda self, x: self.say_all((type(x), x.func)),
    functools.partial: _parts("func", "args", "keywords"), slice: _parts("start", "stop", "step"),
    types.GenericAlias: _parts("__origin__", "__args__"), types.UnionType: _parts("__args__"),
    re.Pattern: _parts("pattern", "flags"), Primitive: _said_by(lambda x: x.name),
    functools._lru_cache_wrapper: _parts("__wrapped__"), CodeType: _said_by(lambda x: code_text(x)),
    threading.local: _parts(), type(_Field.x): _said_by(lambda x: repr(x.__reduce__()))}
_RULES |= dict.fromkeys((
    types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType,
    types.MethodWrapperType, types.ClassMethodDescriptorType, types.GetSetDescriptorType,
    types.MemberDescriptorType, np.ufunc, type(np.sum)), Fingerprint._by_name)
_RULES |= {kind: _said_by(kind.__repr__) for kind in (
    int, float, str, complex, bytes, TensorType, ScalarType, TupleType, TapeType, Dim, DType,
    np.dtype, datetime.date, datetime.timedelta, datetime.time)}
_RULES[np.generic] = _said_by(lambda x: f"{x.dtype.str} {x.tobytes()!r}")


def _held(value, name: str):
    """An attribute, whatever the object's class says of attributes."""
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return MISSING


# -- classes and code ------------------------------------------------------------------------------

def _slots(cls: type) -> tuple[str, ...]:
    """The attributes that objects of a class written in Python keep outside of a dictionary."""
    found = _slots_of.get(cls)
    if found is None:
        found = _slots_of[cls] = tuple(
            name for base in cls.__mro__ if base.__flags__ & _OF_PYTHON
            for name, held in vars(base).items() if isinstance(held, types.MemberDescriptorType))
    return found


_slots_of: WeakKeyDictionary[type, tuple[str, ...]] = WeakKeyDictionary()
_OF_PYTHON = 1 << 9         # Py_TPFLAGS_HEAPTYPE: it is no static type of C code


def _is_all_attributes(cls: type) -> bool:
    """Do a dictionary and slots hold all that an object holds? One of C code has room for more."""
    word = object.__basicsize__ // 2
    known = len(_slots(cls)) + (cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0)
    return cls.__basicsize__ <= object.__basicsize__ + word * known


def _codes_in(code: CodeType):
    yield code
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from _codes_in(value)


@functools.cache
def code_text(code: CodeType) -> str:
    """A hash of all that a code object says: what it does, and where its source is."""
    consts = [code_text(x) if isinstance(x, CodeType) else _constant(x) for x in code.co_consts]
    said = (code.co_filename, code.co_qualname, code.co_firstlineno, code.co_argcount,
            code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags, code.co_names,
            code.co_varnames, code.co_freevars, code.co_cellvars, code.co_code, code.co_linetable,
            code.co_exceptiontable, consts)
    return hashlib.sha256(repr(said).encode("utf-8", "surrogatepass")).hexdigest()


def _constant(value) -> str:
    if isinstance(value, frozenset):        # of which the order is another in each process
        return f"frozenset {sorted(map(_constant, value))}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_constant, value))})"
    return repr(value)
