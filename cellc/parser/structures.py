"""Nested tuples, lists, dicts and dataclasses, walked alike whatever their leaves are.

The leaves are values, slots or types. A dataclass that holds nothing traced, and one that is a
function, is a leaf itself.
"""

from __future__ import annotations

from dataclasses import fields

from cellc.errors import TypeFault
from cellc.parser.values import Slot, describe, is_instance_of_dataclass, slots_in, traced_in


def _fields(value) -> dict | None:
    """The fields of a dataclass that is walked into."""
    if not is_instance_of_dataclass(value) or callable(value) or isinstance(value, Slot) or not (
            slots_in(value) or traced_in(value)):
        return None
    return {f.name: getattr(value, f.name) for f in fields(value)}


def rebuilt(structure, function):
    """The function on every leaf; containers of the same kinds around what it gives."""
    if isinstance(structure, (tuple, list)):
        items = [rebuilt(x, function) for x in structure]
        return structure._make(items) if hasattr(structure, "_make") else type(structure)(items)
    if isinstance(structure, dict):
        return {key: rebuilt(x, function) for key, x in structure.items()}
    parts = _fields(structure)
    if parts is None:
        return function(structure)
    new = object.__new__(type(structure))
    for name, x in parts.items():
        object.__setattr__(new, name, rebuilt(x, function))
    return new


def leaves_of(structure) -> list:
    """The leaves, in order."""
    found: list = []
    rebuilt(structure, found.append)
    return found


def slots_of(structure) -> list[int]:
    """The indices of a structure's slots, in order."""
    return [x.index for x in leaves_of(structure) if isinstance(x, Slot)]


def pairs(structure, given, what: str) -> list[tuple]:
    """(leaf, part of `given` at its place) for every leaf; all below a None of `given` is None.

    TypeFault where `given` has not the containers of the structure: `what` says what it is.
    """
    if (parts := _fields(structure)) is not None and type(given) is type(structure):
        return [pair for key, part in parts.items()
                for pair in pairs(part, getattr(given, key), what)]
    if given is None or (
            parts is None and not isinstance(structure, (tuple, list, dict))):
        return [(leaf, given) for leaf in leaves_of(structure)]
    kind = dict if isinstance(structure, dict) else (tuple, list)
    if parts is not None or not isinstance(given, kind) or len(given) != len(structure) or (
            kind is dict and given.keys() != structure.keys()):
        raise TypeFault(f"{what} is {describe(given)}, which is not built like the "
                        f"{_shape_of(structure)} it belongs to",
                        "give one part for each, in the same tuples, lists and dicts")
    if kind is dict:
        return [pair for key, part in structure.items() for pair in pairs(part, given[key], what)]
    return [pair for part, own in zip(structure, given, strict=True)
            for pair in pairs(part, own, what)]


def along(spec, structure, what: str) -> list:
    """For every leaf of the structure its entry of `spec`, one entry of which may stand for all
    the leaves of a part: 0, or (0, None), or ({"a": 0, "b": None}, 1).
    """
    if isinstance(spec, (tuple, list, dict)):
        if not isinstance(structure, dict if isinstance(spec, dict) else (tuple, list)) or len(
                spec) != len(structure) or (isinstance(spec, dict)
                                            and spec.keys() != structure.keys()):
            raise TypeFault(f"{what}: found {spec!r} for the {_shape_of(structure)} it is about",
                            "give one entry for each part, or one int or None for all of them")
        if isinstance(spec, dict):
            return [entry for key, part in structure.items()
                    for entry in along(spec[key], part, what)]
        return [entry for own, part in zip(spec, structure, strict=True)
                for entry in along(own, part, what)]
    if spec is not None and (isinstance(spec, bool) or not isinstance(spec, int)):
        raise TypeFault(f"{what}: found {spec!r}, expected an int or None")
    return [spec] * len(leaves_of(structure))


def _shape_of(structure) -> str:
    """A container in words."""
    if _fields(structure) is not None:
        return type(structure).__name__
    if isinstance(structure, dict):
        return f"dict with keys {', '.join(map(repr, structure))}"
    if isinstance(structure, (tuple, list)):
        return f"{type(structure).__name__} of {len(structure)}"
    return "single value"
