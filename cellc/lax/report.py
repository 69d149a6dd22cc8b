"""What is said of a statement that Python runs: once, and on demand by `cellc.explain`."""

from __future__ import annotations

import time
import warnings

from cellc.errors import CellcError, Loc


class LaxWarning(UserWarning):
    """The compiler does not take a statement, and under jit_syntax_level=LAX Python runs it.

    Said once for each statement of a callable, with the reason, what it costs, and what to write
    instead. `warnings.simplefilter("error", cellc.LaxWarning)` makes errors of them.
    """


_said: set[tuple] = set()       # what was reported: by function and place


class Report:
    """One thing that Python runs: what, where, why, how often and for how long."""

    def __init__(self, key: tuple, what: str, loc: Loc | None, fault: CellcError, cost: str):
        self.key, self.what, self.loc, self.cost = key, what, loc, cost
        # not the fault itself: its trail and traceback hold all of the parse
        self.because, self.at, self.hint = fault.message, fault.loc, fault.hint
        self.calls, self.seconds = 0, 0.0

    def measured(self, work, *args):
        """`work(*args)`, counted, timed, and reported after the first time.

        An error that is the refusal itself was a mistake of the program's, and no reason to report
        anything: it gets the place that the compiler has seen.
        """
        start, mistaken = time.perf_counter(), False
        try:
            return work(*args)
        except Exception as error:
            mistaken = getattr(error, "message", str(error)) == self.because
            if mistaken and isinstance(error, CellcError):
                error.at(self.at)
            raise
        finally:
            seconds = time.perf_counter() - start
            self.calls += 1
            if self.calls > 1:          # the first may have compiled what is called from there
                self.seconds += seconds
            if self.loc is not None and self.key not in _said and not mistaken:
                warnings.warn_explicit(self.message(seconds), LaxWarning, self.loc.file,
                                       self.loc.line)
                _said.add(self.key)     # not before: a filter may have made an error of it

    @property
    def reason(self) -> str:
        """Why the compiler does not take it, and where that is if it is elsewhere."""
        elsewhere = self.at is not None and self.at != self.loc
        return f"{self.because}{f' ({self.at})' if elsewhere else ''}"

    def message(self, seconds: float) -> str:
        """The text of the warning."""
        hint = f"\n  try: {self.hint}" if self.hint else ""
        return (f"{self.loc}: {self.what} (jit_syntax_level=LAX){self.loc.snippet()}\n"
                f"  because: {self.reason}\n"
                f"  cost: {_time(seconds)} at this first call; {self.cost}{hint}")

    def __str__(self) -> str:
        """A line for `cellc.explain`."""
        again = self.calls - 1
        cost = f"{self.calls} call(s)"
        if again > 0:
            cost += f", {_time(self.seconds / again)} each after the first"
        return f"{self.loc or 'library code'}: {self.what}: {self.reason}; {cost}"


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"
