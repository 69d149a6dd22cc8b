"""The table of primitives, `cellc.ir.graph.PRIMITIVES`: importing this package fills it.

One file a family; one record a primitive. `python -m cellc.ir prims` prints the table.
"""

import cellc.ir.arith  # noqa: F401  (gradient rules use the operators it puts on nodes)
from cellc.ir.prims import (  # noqa: F401
    contraction,
    control,
    effect,
    element,
    elementwise,
    gather,
    random,
    reduce,
    shape,
    size,
    tape,
    tiles,
)
