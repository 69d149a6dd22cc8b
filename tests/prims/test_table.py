"""What holds for every record of the table: types, refusals, text, scalar forms, closure."""

import numpy as np
import pytest

from cellc.errors import TypeFault
from cellc.ir import numerics as num
from cellc.ir.__main__ import main
from cellc.ir.check import check, same
from cellc.ir.graph import PRIMITIVES, Apply, Builder
from cellc.ir.interpret import interpret
from cellc.ir.text import print_graph, read
from cellc.ir.types import DTYPES, ScalarType, TensorType, f64
from tests.prims.cases import (
    DATA,
    DIMS,
    OWN_DTYPES,
    as_dtype,
    graph_of,
    kinds_taken,
    more_graphs,
    runnable,
    samples,
    type_of,
)
from tests.prims.scalar_numpy import NumpyOps

CASES = {case[0]: case[1:] for case in runnable()}
# Float results that are flat or cut off on purpose: no gradient rule.
FLAT = {"sign", "floor", "ceil", "round", "trunc", "floordiv", "stop_gradient", "bitcast", "iota"}


def equal(a, b) -> bool:
    """Equal arrays; NaN equals NaN, and any dtype is compared as it computes."""
    return np.array_equal(num.to_compute(a), num.to_compute(b), equal_nan=a.dtype.kind in "fV")


@pytest.mark.parametrize("case", CASES)
def test_the_meaning_gives_the_type_and_text_reads_back(case):
    """`interpret` compares dtype and shape of what `eval` gives with what `types` said."""
    prim, operands, attrs = CASES[case]
    graph = graph_of(prim, operands, attrs)
    check(graph)
    again = read(print_graph(graph))
    assert same(graph, again)
    result = interpret(graph, *operands, dims=DIMS)
    assert equal(result, interpret(again, *operands, dims=DIMS))


def test_graphs_of_scalars_tuples_and_control_read_back():
    for graph in more_graphs():
        check(graph)
        text = print_graph(graph)
        assert same(graph, read(text)) and print_graph(read(text)) == text


def test_control_means_what_it_says():
    graph = next(more_graphs())
    first, blank, last = interpret(graph, 3.0, True)
    assert first == 6.0 and last == 3.0
    assert blank.tolist() == [np.iinfo(np.int64).max] * 2, "an `empty` that is read must show"
    assert interpret(graph, 3.0, False)[0] == 3.0


@pytest.mark.parametrize("name", [n for n, p in PRIMITIVES.items() if p.samples
                                  and n not in OWN_DTYPES])
def test_dtypes_are_taken_or_refused(name):
    """Against the list in cases.py; a refusal names the primitive and the type it found."""
    operands, attrs = PRIMITIVES[name].samples()[0]
    operands = [np.asarray(x) for x in operands]
    for dtype in DTYPES:
        arrays = as_dtype(name, operands, dtype)
        types = [type_of(x) for x in arrays]
        if dtype.kind in kinds_taken(name):
            PRIMITIVES[name].types(*types, **attrs)
            continue
        with pytest.raises(TypeFault) as fault:
            PRIMITIVES[name].types(*types, **attrs)
        data = types[DATA.get(name, (0,))[0]]
        assert f"{name}: found {data}, expected" in str(fault.value)


@pytest.mark.parametrize("name", [n for n, p in PRIMITIVES.items() if p.samples
                                  and len(p.samples()[0][0]) > 1 and p.kind != "control"])
def test_mixed_dtypes_are_refused(name):
    operands, attrs = PRIMITIVES[name].samples()[0]
    types = [type_of(np.asarray(x)) for x in operands]
    types[-1] = types[-1].with_dtype(num.dtype("i8"))
    if kinds_taken(name) == "biuf" and name == "gather":
        types = [types[0], types[1].with_dtype(f64)]
    if name == "scatter_add":
        types[0] = types[0].with_dtype(num.dtype("u8"))
    with pytest.raises(TypeFault):
        PRIMITIVES[name].types(*types, **attrs)


@pytest.mark.parametrize("name", [n for n, p in PRIMITIVES.items() if p.kind == "elementwise"
                                  and p.operands
                                  and n not in ("from_scalar", "to_scalar", "mulhi")])
def test_elementwise_takes_scalars_but_no_mixture(name):
    prim = PRIMITIVES[name]
    operands, attrs = prim.samples()[0]
    types = [type_of(np.asarray(x)) for x in operands]
    kinds = kinds_taken(name)
    of = {"f": "f64", "b": "bool"}.get(kinds[-1], "i64")
    scalars = [ScalarType(num.dtype("bool" if name == "select" and i == 0 else of))
               for i in range(len(types))]
    if name == "bitcast":
        attrs = {"dtype": num.dtype("u64")}
    assert isinstance(prim.types(*scalars, **attrs), ScalarType)
    if len(types) > 1:
        tensors = [TensorType(s.dtype, (2,)) for s in scalars]
        with pytest.raises(TypeFault, match="both tensors or both numbers"):
            prim.types(*tensors[:-1], scalars[-1], **attrs)


# -- scalar forms ------------------------------------------------------------------------------

SCALAR_CASES = [name for name, (prim, operands, _) in CASES.items()
                if prim.scalar and not name.endswith(("f16", "bf16"))]


@pytest.mark.parametrize("case", SCALAR_CASES)
def test_scalar_forms_agree_with_the_meaning(case):
    prim, operands, attrs = CASES[case]
    with np.errstate(all="ignore"):
        found = prim.scalar(NumpyOps(), *operands, **attrs)
    expected = prim.eval(*operands, **attrs)
    assert found.dtype == expected.dtype
    if expected.dtype.kind == "f":
        limit = 1e-6 if expected.dtype == np.float32 else 1e-13
        np.testing.assert_allclose(found, expected, rtol=limit, atol=limit)
    else:
        assert equal(np.asarray(found), expected)


@pytest.mark.parametrize("name, of", [("shl", "i8"), ("shr", "i8"), ("shl", "u8"), ("shr", "u8")])
def test_shifts_out_of_range(name, of):
    x, y = np.meshgrid(np.array([-128, -3, 0, 5, 127]).astype(of.replace("i8", "int8").replace(
        "u8", "uint8")), np.array([0, 1, 7, 8, 100]).astype(of.replace("i8", "int8").replace(
            "u8", "uint8")))
    expected = PRIMITIVES[name].eval(x, y)
    assert equal(PRIMITIVES[name].scalar(NumpyOps(), x, y), expected)
    big = np.asarray(x, object) * 2 ** np.asarray(y, object) if name == "shl" else np.asarray(
        x, object) // 2 ** np.asarray(y, object)
    assert equal(np.array(big % 256, np.uint8).view(x.dtype), expected)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_polygamma_far_and_wide(n):
    x = np.array([-7.5, -1e-3, 0.0, 1e-3, 0.3, 1.4616, 30.0, 1e5, np.inf])
    with np.errstate(all="ignore"):
        found = PRIMITIVES["polygamma"].scalar(NumpyOps(), x, n=n)
    np.testing.assert_allclose(found, PRIMITIVES["polygamma"].eval(x, n=n), rtol=1e-11)
    assert np.isnan(found[2]) and np.isfinite(np.delete(found, 2)).all()


# -- gradients are closed ----------------------------------------------------------------------

def test_every_primitive_a_rule_emits_has_a_rule():
    """Or its result is no float, or it is flat; so any order of derivative exists."""
    emitted = {}
    for name, _, operands, attrs in samples():
        prim = PRIMITIVES[name]
        if prim.vjp is None:
            continue
        with Builder(name) as b:
            xs = [b.input(type_of(x), f"x{i}") for i, x in enumerate(operands)]
            y = prim(*xs, **attrs)
            if not y.dtype.is_float:
                continue
            g = b.input(y.type, "g")
            cotangents = prim.vjp(g, y, *xs, **attrs)
            assert len(cotangents) == len(xs)
            for x, dx in zip(xs, cotangents, strict=True):
                assert dx is None or dx.type == x.type, name
                assert (dx is None) == (not x.dtype.is_float), name
            graph = b.finish(y)
        for node in graph.body:
            emitted.setdefault(node.prim.name, (name, node))
    assert len(emitted) > 40
    for name, (user, node) in emitted.items():
        closed = (isinstance(node, Apply) and node.prim.vjp is not None
                  or not node.dtype.is_float or name in FLAT)
        assert closed, f"the rule of {user} uses {name}, which has none"


def test_what_has_no_rule_is_flat_or_no_float_or_late():
    without = {name for name, prim in PRIMITIVES.items() if prim.vjp is None
               and prim.kind != "control"}
    whole = {"eq", "ne", "lt", "le", "gt", "ge", "is_finite", "bit_and", "bit_or", "bit_xor",
             "bit_not", "shl", "shr", "mulhi", "reduce_and", "reduce_or", "argmax", "argmin",
             "argsort", "last_entry", "random_bits", "dim_size"}
    late = {"tiles", "join_tiles"}      # made by a pass behind all gradients
    assert without == whole | FLAT | late


def test_the_table_prints(capsys):
    assert main(["prims"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n{name}(" in text for name in PRIMITIVES)
    assert main([]) == 2
