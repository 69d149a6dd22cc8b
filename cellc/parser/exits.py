"""The ways out of a loop that the program runs.

`break`, and `return`, `break` and `continue` that lead out of more than one loop, end the round and
note in a hidden variable, `$exit`, which way it was; the loop's test looks at it, and so does the
code behind the loop. What is returned is in a hidden variable of that way, `$value`.

A list on a tape that a variable holds is noted by the variable's name. A way of the round that goes
on may bind the variable to another list, and the two are joined to one behind it; noted as itself
the list would then lie in two places of the loop's state, and a tape can lie in one.
"""

from __future__ import annotations

from typing import Any

from cellc.parser import control
from cellc.parser.guards import MISSING
from cellc.parser.values import HeldBy, Maybe, on_tape, same_kind


class Exits:
    """Those of one loop: each has a number, which `$exit` is after it was taken; 0 is none."""

    def __init__(self, frame, depth: int, is_live):
        """`is_live(name)`: can the variable be read behind the loop?"""
        self.frame, self.is_live = frame, is_live
        self.name, self._value = f"$exit{depth}", f"$value{depth}."
        self.numbers: dict[tuple, int] = {}         # of (rank, names of lists that are returned)
        self.taken: set[int] = set()                # in the round that was parsed last
        self._held: dict[str, HeldBy | None] = {}   # by variables; None: other ways have no list

    def begin(self) -> None:
        """Before the first round."""
        variables = self.frame.variables
        variables[self.name] = 0
        for name in [x for x in variables if x.startswith(self._value)]:
            del variables[name]

    def take(self, outcome) -> None:
        """The round ends here, and the loop as the outcome says."""
        value, names = self._named(outcome.value)
        number = self.numbers.setdefault((outcome.rank, names), len(self.numbers) + 1)
        self.frame.variables[self.name] = number
        self.taken.add(number)
        if outcome.is_return:
            self.frame.variables[f"{self._value}{number}"] = value

    def _named(self, value) -> tuple[Any, tuple[str, ...]]:
        """What is returned, and the names of the variables that stand in it for what they hold."""
        if isinstance(value, tuple):
            found = [self._named(x) for x in value]
            names = sum((names for _, names in found), ())
            return (same_kind(value, [x for x, _ in found]), names) if names else (value, ())
        if on_tape(value) is not None and not self.frame.session.blocks:   # `finally` may rebind it
            for name, held in self.frame.variables.items():
                if held is value and self.is_live(name):
                    by = self._held.setdefault(name, HeldBy(name))
                    return (value, ()) if by is None else (by, (name,))
        return value, ()

    def bound_to_others(self, name: str) -> bool:
        """The variable has no one type at the end of a round; was it to stand for its value?"""
        found = self._held.get(name) is not None
        if found:
            self._held[name] = None
        return found

    def is_over(self, name: str) -> bool:
        """Is it the value of a way that only an earlier attempt at a round has taken?"""
        return name.startswith(self._value) and int(name[len(self._value):]) not in self.taken

    def read_after(self, variables: dict) -> tuple[str, ...] | None:
        """Where the loop returns for certain, the variables that are still read; else None."""
        number = variables.get(self.name)
        if isinstance(number, int) and number and not self.frame.session.blocks:
            for (rank, names), known in self.numbers.items():
                if known == number and rank == control.RETURN:
                    return names
        return None

    def behind(self) -> tuple[Any, list[tuple[int, int, Any]]]:
        """Behind the loop: what `$exit` is, and the ways there are: number, rank, what returns."""
        variables, ways = self.frame.variables, []
        for (rank, _), number in self.numbers.items():
            value = variables.pop(f"{self._value}{number}", MISSING)
            if number in self.taken and (rank != control.RETURN or value is not MISSING):
                ways.append((number, rank, value.value if isinstance(value, Maybe) else value))
        return variables.pop(self.name), ways

    def returned(self, value):
        """The value of a `return`, with what the variables hold that it names."""
        if isinstance(value, tuple):
            return same_kind(value, [self.returned(x) for x in value])
        return value.within(self.frame.variables) if type(value) is HeldBy else value
