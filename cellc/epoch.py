"""The epoch: a number that grows whenever an attribute of any Cell is set.

A compiled call is guarded by it: while it stands still, no `net.k = 2` can have happened, and a
single comparison replaces looking at every attribute the program read. The number itself lives in
native memory; the compiler's driver binds the function that raises it once there is something to
guard.
"""

from __future__ import annotations

from collections.abc import Callable


def _nothing_compiled() -> None:
    """Before the first compilation nobody looks at the epoch."""


_bump: list[Callable[[], None]] = [_nothing_compiled]


def bind(raise_epoch: Callable[[], None]) -> None:
    """From now on `bump` calls this function."""
    _bump[0] = raise_epoch


def bump() -> None:
    """Say that some Cell has changed."""
    _bump[0]()
