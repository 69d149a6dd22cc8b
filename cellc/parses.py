"""parses: what calls were parsed to, remembered between processes, so that the same is not parsed.

A call is known by what its callable and its known arguments hold (`fingerprint.py`) and by the
types of its traced ones. Kept of it are the reads that parsing did of the world outside, in order,
each with a hash of what was found; the program that the graph became; and which objects are the
program's Parameters. Objects go by their numbers in the fingerprint.

In another process, or for another cell like it, every read is done again. Where one finds something
else, or something was read that has no number or no fingerprint, the call is parsed. Where all find
the same, parsing would as well: it sees nothing else (whatever code it interprets is of a function
that the fingerprint has met, or of cellc, whose files are part of the key).
"""

from __future__ import annotations

import hashlib
import importlib
import marshal
import sys

import numpy as np

from cellc import context, programs, startup
from cellc.errors import Loc, remade
from cellc.fingerprint import Fingerprint, Indescribable
from cellc.ir.graph import KnownFault
from cellc.ir.types import Dim, ScalarType, TensorType, Type, dtype
from cellc.kernels import engine
from cellc.ops import random
from cellc.parser.guards import MISSING, Guard
from cellc.parser.traced import Traced
from cellc.parser.values import Listed, Slot
from cellc.record import record
from cellc.signature import Container, Known
from cellc.tensor import Tensor

MOST_KEPT = 8               # of one call: with other values of global variables
MOST_BYTES = 1 << 16        # of a constant tensor


@record(eq=False)
class Call:
    """A call to be compiled: its name, and the fingerprint of all that it is given."""

    key: str
    text: Fingerprint


def call_of(fn, structure, types: tuple, fast_math: bool) -> Call | None:
    """What a call is known by; None where something of it cannot be described."""
    text = Fingerprint()
    for known in (context.settings, random.state):
        text.meet(known)
    try:
        text.say(fn)
        _say_structure(text, structure)
    except Indescribable:
        return None
    identity = programs.identity()
    if identity is None:
        return None
    said = "\n".join(["call", identity, str(sys.flags.optimize), str(fast_math),
                      ", ".join(map(str, types)), text.digest().hex()])
    return Call(hashlib.sha256(said.encode()).hexdigest(), text)


def _say_structure(text: Fingerprint, structure) -> None:
    if isinstance(structure, Container):
        text.say(structure.kind)
        text.say_all(structure.keys)
        for item in structure.items:
            _say_structure(text, item)
    elif isinstance(structure, Known):
        text.say(structure.value)
    else:
        text.write("traced")


# -- keeping and finding ---------------------------------------------------------------------------

def keep(call: Call, traced: Traced, program: str | KnownFault) -> None:
    """Remember what a call was parsed to, and the key of the program it became, if all that
    parsing read can be said. A KnownFault, at which parsing ended, is remembered likewise."""
    text = call.text.copy()
    try:
        reads = [_read(text, guard) for guard in traced.guards]
        reads += [_taken(text, *place) for place in sorted(traced.library)]
        if not traced.codes <= text.codes:
            return              # code was interpreted that the fingerprint has not met
        entry = (reads, _program(program), traced.in_place,
                 [_input(text, traced, x) for x in traced.captured],
                 [(text.number_of(x), i) for x, i in traced.assigned],
                 _result(text, traced.structure),
                 list(map(_type, traced.inputs)), list(map(_type, traced.results)))
    except Indescribable:
        return
    old = engine.find(call.key, startup.cache_dir())
    kept = [entry, *(marshal.loads(old) if old else ())][:MOST_KEPT]
    engine.keep(call.key, marshal.dumps(kept), startup.cache_dir())


def recall(call: Call) -> tuple[Traced, str] | None:
    """What a call was parsed to, but for the graph, and the key of the program that this became;
    None where something that was read then is another now. Raises the KnownFault that is
    remembered."""
    data = engine.find(call.key, startup.cache_dir())
    for reads, program, in_place, captured, assigned, structure, *types in (
            marshal.loads(data) if data else ()):
        text = call.text.copy()
        try:
            guards = _read_again(text, reads)
        except Indescribable:
            continue
        if guards is not None:
            objects = text.objects
            inputs, results = [tuple(map(_type_again, said)) for said in types]
            return Traced(guards, None, inputs, results,
                          [_input_again(x, objects) for x in captured],
                          [(objects[n], i) for n, i in assigned], in_place,
                          _result_again(structure, objects)), _program_again(program)
    return None


def _program(program: str | KnownFault) -> str | tuple:
    if isinstance(program, str):
        return program
    loc = program.loc
    return program.message, program.hint, loc and (loc.file, loc.line, loc.col, loc.gradients)


def _program_again(said: str | tuple) -> str:
    if isinstance(said, str):
        return said
    message, hint, loc = said
    raise remade(KnownFault, (message,), {"message": message, "hint": hint,
                                          "loc": loc and Loc(*loc)})


def _read(text: Fingerprint, guard: Guard) -> tuple:
    """A read: how and on what it was done, and a hash of what it gave."""
    owner = text.number_of(guard.owner)
    text.say(guard.value)
    return guard.kind, owner, guard.name, text.digest()


def _taken(text: Fingerprint, module: str, name: str) -> tuple:
    """What a module of the library has under a name: the same, unless someone has put something
    else there."""
    text.say(getattr(importlib.import_module(module), name, MISSING))
    return "library", module, name, text.digest()


def _read_again(text: Fingerprint, reads: list[tuple]) -> list[Guard] | None:
    """The same reads, done now; None from where one gives something else."""
    guards = []
    for kind, owner, name, found in reads:
        if kind == "library":
            again = _taken(text, owner, name)
        elif owner < len(text.objects):
            guards.append(Guard(kind, text.objects[owner], name, None).again())
            again = _read(text, guards[-1])
        else:
            return None
        if again[-1] != found:
            return None
    return guards


def _input(text: Fingerprint, traced: Traced, value) -> int | tuple:
    """An object that a program takes in: by its number, or by what is in it where the parsed code
    made it of known values."""
    if not any(value is x for x in traced.constants):
        return text.number_of(value)
    array = value.asnumpy()
    if array.nbytes > MOST_BYTES or array.dtype != value.dtype.numpy:
        raise Indescribable("a large constant")
    return array.dtype.str, array.shape, array.tobytes()


def _input_again(said, objects: list):
    if isinstance(said, int):
        return objects[said]
    kind, shape, data = said
    return Tensor(np.frombuffer(data, kind).reshape(shape))


def _result(text: Fingerprint, structure) -> tuple:
    """The structure of a result, in what `marshal` writes."""
    kind = type(structure)
    if kind is Slot:
        return "slot", structure.index
    if kind in _WRITTEN:
        return "value", structure
    if kind in _CONTAINERS.values():
        items = structure.values() if kind is dict else structure
        keys = [_result(text, key) for key in structure] if kind is dict else []
        return kind.__name__, keys, [_result(text, x) for x in items]
    if kind is Listed:
        return ("listed", list(map(_type, structure.types)),
                [_result(text, structure.item), _result(text, structure.rows)])
    if hasattr(structure, "_make"):
        return "named", text.number_of(kind), [_result(text, x) for x in structure]
    return "object", text.number_of(structure)


def _result_again(said: tuple, objects: list):
    kind, *parts = said
    if kind == "slot":
        return Slot(*parts)
    if kind == "value":
        return parts[0]
    if kind == "object":
        return objects[parts[0]]
    first, items = parts
    items = [_result_again(x, objects) for x in items]
    if kind == "listed":
        item, rows = items
        return Listed(item, tuple(map(_type_again, first)), rows)
    if kind == "named":
        return objects[first]._make(items)
    if kind == "dict":
        return dict(zip((_result_again(x, objects) for x in first), items, strict=True))
    return _CONTAINERS[kind](items)


_WRITTEN = frozenset([int, float, str, bool, type(None), complex, bytes, type(...)])
_CONTAINERS = {kind.__name__: kind for kind in (tuple, list, dict)}


def _type(type: Type) -> tuple:
    if not isinstance(type, (TensorType, ScalarType)):
        raise Indescribable(f"a result of type {type}")
    if isinstance(type, ScalarType):
        return type.dtype.name, None
    shape = [(d.name, d.coef) if isinstance(d, Dim) else d for d in type.shape]
    return type.dtype.name, tuple(shape)


def _type_again(said: tuple) -> Type:
    name, shape = said
    if shape is None:
        return ScalarType(dtype(name))
    return TensorType(dtype(name), tuple(Dim(*d) if isinstance(d, tuple) else d for d in shape))
