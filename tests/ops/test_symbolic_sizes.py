"""Every function of cellc.ops and method of a Tensor on several sizes of the leading dimension.

The third size makes a program for all of them, or, where an operation needs the size while it is
compiled, a program for each; either must give what eager mode gives, and a reason.
"""

import pytest

import cellc
from cellc.compile import compiled
from cellc.errors import CellcError
from tests.agreement import difference
from tests.ops.expressions import inputs, lines
from tests.ops.test_ops_compiled import FAMILIES, program

SHAPES = {"elementwise": (5,), "broadcast": (5,), "reductions": (5,), "shapes": (5,),
          "indexing": (5,), "linalg": (5, 4), "images": (3, 7, 6), "losses": (5,), "methods": (5,)}
SIZES = (3, 4, 6, 7)


def faults(line: str, given: list[dict]) -> list[str]:
    """What differs between the modes for one expression, and what a size was refused for."""
    found, graph = [], cellc.jit(program([line], list(given[0])))
    for arguments in given:
        cellc.set_seed(3)
        try:
            expected = program([line], list(arguments))(**arguments)[0]
        except CellcError:
            return []
        cellc.set_seed(3)
        try:
            differs = difference(expected, graph(*arguments.values())[0])
        except CellcError as fault:
            differs = repr(fault)
        if differs:
            found.append(f"{line}: {differs}")
    found += [f"{line}: {note}" for note in compiled(graph).notes
              if note.startswith("one program") and "the program needs" not in note]
    return found


@pytest.mark.parametrize("family", SHAPES)
def test_sizes_of_the_leading_dimension(family):
    expressions = lines(FAMILIES[family][0])
    given = [inputs(family, "float32", (n, *SHAPES[family])) for n in SIZES]
    found = [fault for line in expressions for fault in faults(line, given)]
    assert found == []
