"""`python -m cellc.ir prims`: the table of primitives, with what is missing from each record."""

from __future__ import annotations

import sys

import cellc.ir.prims  # noqa: F401  (fills the table)
from cellc.ir.graph import PRIMITIVES, Primitive


def row(prim: Primitive) -> str:
    """One line: call form, kind, which of e, g, j, b, s, r (see `main`) the record has, doc."""
    has = "".join(letter if getattr(prim, field) is not None else "-" for letter, field in (
        ("e", "eval"), ("g", "vjp"), ("j", "jvp"), ("b", "batch"), ("s", "scalar"),
        ("r", "reduce")))
    form = f"{prim.name}({', '.join(prim.operands)})"
    return f"{form:<28} {prim.kind:<12} {has}  {prim.doc}"


def main(arguments: list[str]) -> int:
    if arguments != ["prims"]:
        print("usage: python -m cellc.ir prims", file=sys.stderr)
        return 2
    print(f"{len(PRIMITIVES)} primitives; e: meaning in NumPy, g: gradient rule, "
          "j: forward rule, b: batches, s: scalar form, r: reduction\n")
    print("\n".join(row(prim) for prim in PRIMITIVES.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
