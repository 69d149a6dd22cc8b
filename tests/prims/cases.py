"""The samples of the table of primitives as test cases, and graphs of one apply for them."""

import numpy as np

import cellc.ir.prims  # noqa: F401  (fills the table)
from cellc.ir import numerics as num
from cellc.ir.graph import PRIMITIVES, Builder
from cellc.ir.prims import control
from cellc.ir.types import DTYPES, ScalarType, TensorType, i64

DIMS = {"n": 3}          # for the samples with a symbolic size

# Which kinds of dtype (DType.kind) the operand that carries the data may have: said once more,
# independently of the records. What is not listed takes everything.
TAKES = {
    kinds: names.split() for kinds, names in {
        "f": "sqrt rsqrt exp expm1 log log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh "
             "atanh logistic erf erfc erfinv lgamma digamma polygamma div atan2 floor ceil round "
             "trunc is_finite tiles join_tiles",
        "iuf": "neg abs sign add sub mul floordiv mod min max pow reduce_sum reduce_max reduce_min "
               "reduce_prod argmax argmin cumsum dot scatter_add windows_add",
        "biu": "bit_and bit_or bit_xor bit_not",
        "iu": "shl shr",
        "b": "reduce_and reduce_or",
    }.items()
}
# The operands whose dtype is the data's, where it is not all of them.
DATA = {"select": (1, 2), "gather": (0,), "scatter_add": (1,)}
# Their samples have dtypes of their own; tested one by one.
OWN_DTYPES = ("mulhi", "random_bits", "cast", "bitcast", "dim_size", "iota",
              "last_entry")


def kinds_taken(name: str) -> str:
    return next((kinds for kinds, names in TAKES.items() if name in names), "biuf")


def samples():
    """(name, number of the sample, operands, attrs) for every sample of the table."""
    for name, prim in PRIMITIVES.items():
        for i, (operands, attrs) in enumerate(prim.samples() if prim.samples else ()):
            yield name, i, [np.asarray(x) for x in operands], attrs


def as_dtype(name: str, operands, dtype):
    """The sample's operands with the data in `dtype`."""
    at = DATA.get(name, range(len(operands)))
    return [num.cast(x, dtype) if i in at else x for i, x in enumerate(operands)]


def type_of(array) -> TensorType:
    return TensorType(num.dtype_of(array), array.shape)


def graph_of(prim, operands, attrs):
    """The graph of one apply on inputs like these arrays."""
    with Builder(prim.name) as b:
        return b.finish(prim(*(b.input(type_of(x), f"x{i}") for i, x in enumerate(operands)),
                             **attrs))


def runnable():
    """Every sample in each dtype that the primitive takes: (id, primitive, operands, attrs)."""
    for name, i, operands, attrs in samples():
        prim = PRIMITIVES[name]
        if name in OWN_DTYPES:
            yield f"{name}-{i}", prim, operands, attrs
            continue
        for dtype in DTYPES:
            if dtype.kind in kinds_taken(name):
                yield f"{name}-{i}-{dtype}", prim, as_dtype(name, operands, dtype), attrs


def more_graphs():
    """Graphs with the primitives that have no samples: scalars, tuples, control."""
    x, n = ScalarType(num.dtype("f64")), ScalarType(i64)
    with Builder("double") as b:
        double = b.finish(b.input(x, "x") * 2.0)
    with Builder("same") as b:
        unchanged = b.finish(b.input(x, "x"))
    with Builder("main") as b:
        y, p = b.input(x, "y"), b.input(ScalarType(num.dtype("bool")), "p")
        both = control.tuple(control.cond(p, y, then=double, orelse=unchanged),
                             control.call(y, graph=double), control.fused(y, graph=double))
        blank = control.empty(type=TensorType(i64, (2,)))
        result = control.tuple(PRIMITIVES["from_scalar"](control.item(both, index=0)), blank,
                               PRIMITIVES["to_scalar"](PRIMITIVES["from_scalar"](y)))
        yield b.finish(result)
    with Builder("count") as b:
        yield b.finish(b.input(n, "n") + 1)
