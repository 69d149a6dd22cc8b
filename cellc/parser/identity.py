"""Which objects a closed graph returns: an argument, a Parameter, or one object twice.

A graph's results are values of their own. What Python returns may be the very tensor that was
given, so that a change of the one is a change of the other: where that is certain the call gives
that tensor back, and where it depends on data they may be one (see `aliases`).
"""

from __future__ import annotations

from cellc.ir.types import TensorType
from cellc.parser import hooks
from cellc.parser.session import fields_of
from cellc.parser.values import LISTS, flatten, is_instance_of_dataclass


class Identity:
    """What one parse of a closed graph has found of its results."""

    def __init__(self, session, inputs: list, given, value):
        self.aliases = session.aliases
        found: list = []
        flatten(value, found, lambda x: x)
        self.results = list(map(self.aliases.itself, found))
        self.origins = [self.aliases.related(self.aliases.origins(x)) for x in self.results]
        self.inputs = {id(x): i for i, x in enumerate(inputs)}
        containers = list(_containers(value))
        numbers: dict[int, int] = {}
        self.repeated = [numbers.setdefault(id(x), len(numbers)) for x in containers]
        theirs = {id(x) for x in _containers(given)}
        self.returns_given = any(id(x) in theirs for x in containers)

    def relate_containers(self, session, value) -> None:
        """A container that is returned twice is another each time; or may be one that was given."""
        if len(set(self.repeated)) == len(self.repeated):
            return
        first: dict[int, object] = {}
        for number, x in zip(self.repeated, _containers(value), strict=False):
            other = first.setdefault(number, x)
            if other is not x:
                session.aliases.relate_values(other, x)


def _containers(value):
    """The containers and objects in a value, in order, as often as they occur."""
    if isinstance(value, tuple):
        parts = value
    elif isinstance(value, (*LISTS, dict)) or is_instance_of_dataclass(value):
        yield value
        parts = value.values() if isinstance(value, dict) else value if isinstance(
            value, LISTS) else fields_of(value).values()
    else:
        return
    for part in parts:
        yield from _containers(part)


def of_call(session, closed, leaves: list, results: list, known, extra: int = 0) -> list:
    """The results of a call of a closed graph as the objects that Python returns; the last `extra`
    are gradients, which are new."""
    n = len(results) - len(closed.assigned) - extra
    if closed.identity is None:         # of a function that calls itself: not known
        relate_all(session, [*leaves, *closed.captured], results[:n])
        return results
    identity, aliases = closed.identity, session.aliases
    own = list(results)
    operands = [aliases.itself(x) for x in leaves]
    outside = {id(x): x for x in closed.captured}
    for i, was in enumerate(identity.results):
        if i >= len(own) or not isinstance(getattr(was, "type", None), TensorType):
            continue
        exact = None
        if id(was) in identity.inputs:
            exact = operands[identity.inputs[id(was)]]
        elif id(was) in outside or isinstance(was, hooks.Parameter):
            exact = known(was)
        else:
            exact = next((own[j] for j in range(i) if identity.results[j] is was), None)
        if exact is not None and not closed.rule:
            own[i] = exact
        elif exact is not None:
            aliases.relate_values(own[i], exact)
        for origin in identity.origins[i]:
            if origin in identity.inputs:
                aliases.relate_values(own[i], operands[identity.inputs[origin]])
            elif origin in outside:
                aliases.relate_values(own[i], known(outside[origin]))
        for j in range(i):
            if identity.results[j] is not was and identity.origins[i] & identity.origins[j]:
                aliases.relate_values(own[i], own[j])
    return own


def relate_given(session, closed, given, value):
    """The value of a call, in which containers may be those that were given."""
    if closed.identity is not None and closed.identity.returns_given:
        for x in _containers(value):
            for other in _containers(given):
                session.aliases.relate_values(x, other)
    return value


def relate_all(session, given: list, results: list) -> None:
    """Any tensor returned may be any that was given, or returned beside it."""
    tensors = [x for x in results if isinstance(x.type, TensorType)]
    for i, x in enumerate(tensors):
        for other in (*given, *tensors[:i]):
            if getattr(other, "type", None) == x.type:
                session.aliases.relate_values(x, other)
