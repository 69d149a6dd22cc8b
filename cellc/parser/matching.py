"""`match`: patterns on what is known, and on values known only when the program runs.

A pattern is a condition like any other. Where it depends on a traced number, the cases become a
chain of branches as `if` and `elif` would make: the case's body in one, the further cases in the
other. What a pattern captures is bound where the pattern holds.
"""

from __future__ import annotations

import gast

from cellc.errors import AttributeFault, TypeFault
from cellc.parser import attributes, choices, control, operators
from cellc.parser.builtins import class_of
from cellc.parser.control import AT_END, run_block, run_either
from cellc.parser.syntax import executors, refusal
from cellc.parser.values import describe, need_sizes, unknown

# A pattern with one part, such as int(x), captures the value itself.
_OF_ITSELF = (bool, bytearray, bytes, dict, float, frozenset, int, list, set, str, tuple)


@executors.handles(gast.Match)
def run_match(frame, node, rest):
    return _run_cases(frame, node, rest, frame.eval(node.subject), 0)


def _run_cases(frame, node, rest, subject, first: int):
    for i in range(first, len(node.cases)):
        case = node.cases[i]
        found, bound = _holds(frame, case, subject)
        if found is False:
            continue
        if found is True:
            return run_block(frame, case.body, rest)

        def body(case=case, bound=bound):
            _bind(frame, case, bound)
            return run_block(frame, case.body, rest)

        return run_either(frame, _place(case), found, body,
                          lambda i=i: _run_cases(frame, node, rest, subject, i + 1), rest)
    return AT_END


def known_case(frame, node) -> list:
    """The one case that is run, in a list, where which one it is must be known."""
    subject = frame.eval(node.subject)
    for case in node.cases:
        found, _ = _holds(frame, case, subject)
        if not isinstance(found, bool):
            raise unknown(found, "which case is run, with a `yield` in it, is known only when the "
                          "program runs", "yield in every case, and choose the value before"
                          ).at(frame.loc(_place(case)))
        if found:
            return [case]
    return []


def _holds(frame, case, subject):
    """(is this case the one, what its pattern captures); where that is known it is bound."""
    bound: dict = {}
    frame.here(_place(case))
    found = frame.guarded(lambda: matches(frame, case.pattern, subject, bound), _place(case))
    if found is False:
        return False, bound
    if found is True:
        _bind(frame, case, bound)
        return (True if case.guard is None else control.test(frame, case.guard)), bound
    if case.guard is None:
        return found, bound

    def guard():
        _bind(frame, case, bound)
        return control.test(frame, case.guard)

    return operators.truth(frame.session, choices.conjunction(frame, case.guard, found, guard)
                           ), bound


def _place(case):
    """The part of a case that has a place in the source."""
    return case.pattern


def _bind(frame, case, bound: dict) -> None:
    for name, value in bound.items():
        frame.store(name, value, _place(case))


def matches(frame, pattern, value, bound: dict):
    """Does a value have this form, a truth? Names it binds go into `bound`."""
    return _MATCHERS[type(pattern)](frame, pattern, value, bound)


def _all(parts):
    """The conjunction of truths that are found one after the other, up to a known False."""
    found = True
    for part in parts:
        found = operators.both(found, part)
        if found is False:
            return False
    return found


def _as(frame, pattern, value, bound):
    found = True
    if pattern.pattern is not None:
        found = matches(frame, pattern.pattern, value, bound)
    if found is not False and pattern.name is not None:
        bound[pattern.name] = value
    return found


def _or(frame, pattern, value, bound):
    found = False
    for part in pattern.patterns:
        inner: dict = {}
        this = matches(frame, part, value, inner)
        if this is False:
            continue
        for name, captured in inner.items():
            if bound.setdefault(name, captured) is not captured:
                raise unknown(found, f"which alternative binds {name} is known only when the "
                              "program runs", "write two cases").at(frame.loc(part))
        found = operators.either(found, this)
        if found is True:
            return True
    return found


def _singleton(frame, pattern, value, bound):
    return value is pattern.value


def _value(frame, pattern, value, bound):
    return operators.truth(frame.session, operators.equal(
        frame.session, value, frame.eval(pattern.value)))


def _sequence(frame, pattern, value, bound):
    if not isinstance(value, (tuple, list)):
        return False
    frame.session.look_at(value)
    parts, items = pattern.patterns, list(value)
    star = next((i for i, part in enumerate(parts) if type(part) is gast.MatchStar), None)
    if star is None:
        return len(parts) == len(items) and _all(
            matches(frame, part, item, bound) for part, item in zip(parts, items, strict=True))
    after = len(parts) - star - 1
    if len(items) < star + after:
        return False
    end = len(items) - after
    if parts[star].name is not None:
        bound[parts[star].name] = frame.session.owned.add(items[star:end])
    return _all(matches(frame, part, item, bound) for part, item in zip(
        [*parts[:star], *parts[star + 1:]], [*items[:star], *items[end:]], strict=True))


def _mapping(frame, pattern, value, bound):
    if not isinstance(value, dict):
        return False
    keys = [frame.eval(key) for key in pattern.keys]
    need_sizes(keys, "a key")
    if not all(key in value for key in keys):
        return False
    found = _all(matches(frame, part, value[key], bound)
                 for key, part in zip(keys, pattern.patterns, strict=True))
    if found is not False and pattern.rest is not None:
        bound[pattern.rest] = frame.session.owned.add(
            {key: item for key, item in value.items() if key not in keys})
    return found


def _class(frame, pattern, value, bound):
    kind = frame.eval(pattern.cls)
    if not isinstance(kind, type):
        raise TypeFault(f"found {describe(kind)} as the class of a pattern", "name a class")
    if not issubclass(class_of(value) if operators.is_traced(value) else type(value), kind):
        return False
    parts = list(zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True))
    if pattern.patterns and kind in _OF_ITSELF:
        if len(pattern.patterns) > 1:
            raise TypeFault(f"{kind.__name__}() accepts 1 positional sub-pattern")
        parts.insert(0, (None, pattern.patterns[0]))
    elif pattern.patterns:
        names = getattr(kind, "__match_args__", ())
        if len(names) < len(pattern.patterns):
            raise TypeFault(f"{kind.__name__}() accepts {len(names)} positional sub-patterns",
                            "name the attributes, or give the class __match_args__")
        parts[:0] = zip(names, pattern.patterns, strict=False)
    return _all(_part(frame, value, name, part, bound) for name, part in parts)


def _part(frame, value, name: str | None, pattern, bound):
    """One attribute of a class pattern."""
    if name is not None:
        try:
            value = attributes.load(frame.session, value, name)
        except AttributeFault:
            return False
    return matches(frame, pattern, value, bound)


def _refused(frame, pattern, value, bound):
    raise refusal(pattern).at(frame.loc(pattern))


_MATCHERS = {
    gast.MatchAs: _as, gast.MatchOr: _or, gast.MatchSingleton: _singleton,
    gast.MatchValue: _value, gast.MatchSequence: _sequence, gast.MatchMapping: _mapping,
    gast.MatchClass: _class, gast.MatchStar: _refused,
}
