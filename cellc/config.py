"""All switches: name, values, one sentence. No other module reads the environment.

`python -m cellc.config` prints the table. A switch is set by the environment variable CELLC_<NAME>
before the import, or in a scope:

    from cellc.config import config
    with config(DUMP="parse,fuse"):
        net(x)
"""

from __future__ import annotations

import contextlib
import os

from cellc.errors import ValueFault
from cellc.record import record


@record(frozen=True)
class Switch:
    name: str
    default: str
    values: str
    doc: str


SWITCHES = {s.name: s for s in (
    Switch("DUMP", "", "pass names separated by commas, or all",
           "write the graph after each named pass as NN_pass.ir"),
    Switch("DUMP_DIR", "cellc_dump", "a folder", "where dumps are written"),
    Switch("CHECK", "1", "0, 1 or 2",
           "check graphs never, at stage borders, or after every pass with a text round trip; "
           "2 keeps the compiler's own frames in tracebacks"),
    Switch("SHOW", "0", "0 to 4",
           "print the pipeline with times, the final graph, the groups, the LLVM text"),
    Switch("CACHE_DIR", "", "a folder, or 0 for none",
           "where compiled objects are kept between processes (default: the user's cache folder)"),
    Switch("CPU", "", "an LLVM CPU name", "generate code for this CPU instead of the host's"),
    Switch("THREADS", "", "a number",
           "the most threads a program uses (default: the CPUs it may use)"),
)}

_overrides: dict[str, str] = {}


def get(name: str) -> str:
    """The value of a switch, as text."""
    if name in _overrides:
        return _overrides[name]
    return os.environ.get(f"CELLC_{name}", SWITCHES[name].default)


def level(name: str) -> int:
    """The value of a numeric switch; ValueFault names the switch where it is no number."""
    text = get(name)
    if not text.isdigit():
        raise ValueFault(f"CELLC_{name} is {text!r}; expected {SWITCHES[name].values}")
    return int(text)


@contextlib.contextmanager
def config(**values):
    """Set switches for the length of a `with` block."""
    unknown = values.keys() - SWITCHES.keys()
    if unknown:
        raise ValueFault(f"unknown switch {', '.join(sorted(unknown))}; "
                         f"known are {', '.join(SWITCHES)}")
    before = dict(_overrides)
    _overrides.update({name: str(value) for name, value in values.items()})
    try:
        yield
    finally:
        _overrides.clear()
        _overrides.update(before)


def main() -> None:
    for s in SWITCHES.values():
        print(f"CELLC_{s.name:<10} {s.values:<42} {s.doc}")


if __name__ == "__main__":
    main()
