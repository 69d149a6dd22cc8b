"""Every function of cellc.ops and every method of a Tensor: graph mode gives what eager mode gives.

Values and types over dtypes and shapes, gradients of a weighted sum, inputs that are hard for
floating point, and refusals: what eager mode refuses graph mode refuses by the same fault.
"""

import re

import numpy as np
import pytest

import cellc
from cellc import Tensor, ops
from cellc.errors import CellcError, TypeFault
from cellc.ops import functional
from tests.agreement import define, difference, flat
from tests.ops import expressions
from tests.ops.expressions import inputs, lines

INTEGERS = "uint8 int8 int16 int32 int64 uint16 uint32 uint64".split()
FLOATS = "float16 bfloat16 float32 float64".split()
DTYPES = ["bool", *INTEGERS, *FLOATS]
USUAL = ["bool", "uint8", "int32", "int64", *FLOATS]
EXACT = ["int32", "float32", "float64"]         # for long sums: narrow floats cancel too much
# family: (expressions, shapes with the dtypes they are run in)
FAMILIES = {
    "elementwise": (expressions.ELEMENTWISE, {
        (7, 129): DTYPES, (): USUAL, (0, 4): ["bool", "int32", "float32", "bfloat16"],
        (1,): ["int64", "float16"], (70000,): ["uint8", "int32", "float16", "float32"]}),
    "broadcast": (expressions.BROADCAST, {
        (3, 5): USUAL, (1, 4): ["float32"], (4, 1): ["float32"], (0, 4): ["int32", "float32"],
        (300, 257): EXACT}),
    "reductions": (expressions.REDUCTIONS, {
        (3, 5): DTYPES, (7, 129): USUAL, (1, 4): ["int32", "float32"],
        (0, 4): ["bool", "int32", "float16", "float32"], (3, 0): ["int32", "float32"]}),
    "long reductions": ([e for e in expressions.REDUCTIONS if "prod" not in e and "sort" not in e
                         and "topk" not in e], {(300, 257): EXACT}),
    "shapes": (expressions.SHAPES, {
        (3, 5): USUAL, (1, 4): ["float32"], (4, 1): ["int32"], (0, 4): ["float32", "bool"],
        (33, 257): ["float32", "uint8"]}),
    "indexing": (expressions.INDEXING, {
        (3, 5): USUAL, (7, 129): ["float32", "int32"], (1, 4): ["float32"],
        (0, 4): ["float32", "bool"]}),
    "linalg": (expressions.LINALG, {
        (3, 5, 4): DTYPES, (1, 1, 1): ["float32"], (3, 0, 2): ["float32", "int64"],
        (0, 3, 2): ["float32", "int32", "bfloat16"], (33, 65, 17): FLOATS}),
    "images": (expressions.IMAGES, {
        (2, 3, 7, 6): USUAL, (1, 1, 5, 5): FLOATS, (0, 2, 5, 4): ["float32", "bfloat16"],
        (3, 5, 17, 19): ["float32"]}),
    "losses": (expressions.LOSSES, {
        (6, 5): FLOATS, (7, 1): ["float32"], (0, 4): ["float32", "bfloat16"],
        (1000, 10): ["float32", "float16"]}),
    "created": (expressions.CREATED, {(): USUAL}),
    "drawn": (expressions.DRAWN, {(): FLOATS}),
    "methods": (expressions.METHODS, {(3, 5): USUAL, (7, 129): ["float32"]}),
}
VALUES = [(family, dtype, shape) for family, (_, shapes) in FAMILIES.items()
          for shape, dtypes in shapes.items() for dtype in dtypes]
TOGETHER = 40       # expressions in one compiled program


def program(given: list[str], names):
    """The function of these names that returns all the expressions."""
    listed = "".join(f"        {line},\n" for line in given)
    return define(f"def program({', '.join(names)}):\n    return (\n{listed}    )\n")


def gradients(given: list[str], names):
    """The function that returns the gradients of the weighted sum of each expression's floats.

    Its last argument is the list of weights, as many as the largest result has elements.
    """
    wanted = tuple(i for i, name in enumerate(names) if name in FLOAT_NAMES)
    names = ", ".join(names)
    listed = "".join(f"        cellc.grad(lambda {names}: weighed({line}, weights), "
                     f"argnums={wanted})({names}),\n" for line in given)
    return define(f"""
def weighed(y, weights):
    if isinstance(y, (tuple, list)):
        return sum([weighed(part, weights) for part in y])
    if isinstance(y, cellc.Tensor) and y.dtype in {FLOAT_DTYPES}:
        return ops.sum(y * ops.reshape(ops.cast(weights[:y.size], y.dtype), y.shape))
    return 0.0


def program({names}, weights):
    return (
{listed}    )
""")


FLOAT_NAMES = set("x y row column one a b stack_a stack_b w v q t p r".split())
FLOAT_DTYPES = "(" + ", ".join(f"cellc.{name}" for name in FLOATS) + ")"


def refused(run, given):
    """What each expression gives eagerly, and the faults of those that are refused."""
    results, faults = {}, {}
    for line in given:
        cellc.set_seed(3)
        try:
            results[line] = run([line])[0]
        except CellcError as fault:
            faults[line] = fault
    return results, faults


def disagreements(write, given: list[str], arguments: dict, together=TOGETHER) -> list[str]:
    """The expressions that `write` makes a function of, run in both modes: which differ and how."""
    def run(some, mode=lambda function: function):
        return mode(write(some, [name for name in arguments if name != "weights"]))(**arguments)

    results, faults = refused(run, given)
    found, accepted = [], list(results)
    for start in range(0, len(accepted), together):
        part = accepted[start:start + together]
        cellc.set_seed(3)
        for line, graph in zip(part, run(part, cellc.jit), strict=True):
            differs = difference(results[line], graph)
            if differs:
                found.append(f"{line}: {differs}")
    for line, fault in faults.items():
        with pytest.raises(type(fault)):
            run([line], cellc.jit)
    return found


def names_of(cases):
    return [f"{family}-{dtype}-{'x'.join(map(str, shape))}" for family, dtype, shape in cases]


def quick(family, dtype, shape) -> bool:
    """Whether a case is run without asking for slow ones: one of each kind."""
    shapes = list(FAMILIES[family][1])
    return dtype == "float32" and 0 in shape or shape == shapes[0] and dtype in (
        "int32", "float32", "bfloat16")


def cases(listed, is_quick):
    return [pytest.param(*case, id=name, marks=[] if is_quick(*case) else pytest.mark.slow)
            for case, name in zip(listed, names_of(listed), strict=True)]


@pytest.mark.parametrize("family, dtype, shape", cases(VALUES, quick))
def test_values(family, dtype, shape):
    # What an expression draws depends on how much was drawn before it.
    together = 1 if family == "drawn" else TOGETHER
    given = inputs(family, dtype, shape)
    assert not disagreements(program, lines(FAMILIES[family][0]), given, together)


GRADIENTS = [(family, dtype, shape) for family, shapes in {
    "elementwise": [(3, 5), (), (7, 129), (0, 4)], "broadcast": [(3, 5), (1, 4), (7, 129)],
    "reductions": [(3, 5), (1, 4), (0, 4)], "shapes": [(3, 5), (4, 1), (0, 4)],
    "indexing": [(3, 5), (4, 2)], "linalg": [(3, 5, 4), (1, 1, 1), (0, 3, 2)],
    "images": [(2, 3, 7, 6), (1, 1, 5, 5), (0, 2, 5, 4)], "losses": [(6, 5), (7, 1), (0, 4)],
}.items() for shape in shapes for dtype in (["float32", "float64"] if shape == shapes[0]
                                           else ["float32"])]


@pytest.mark.parametrize("family, dtype, shape", cases(
    GRADIENTS, lambda family, dtype, shape: dtype == "float32" and shape[:1] in ((2,), (3,), (6,))))
def test_gradients(family, dtype, shape):
    given = inputs(family, dtype, shape)
    weights = Tensor(np.random.default_rng(4).normal(size=20000), "float64")
    assert not disagreements(gradients, lines(FAMILIES[family][0]), given | {"weights": weights},
                             12)


# -- hard inputs ----------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")
HARD_INPUTS = {
    "large": [[1e4, -1e4, 500, -500, 0], [88.8, -88.8, 104, -104, 1], [1e4] * 5, [-1e4] * 5],
    "huge": [[1e30, -1e30, 3e38, -3e38, 1], [1e20] * 5, [2**31, -2**31, 2**63, -2**63, 255.5],
             [128, -129, 65504, 65520, 70000]],
    "tiny": [[1e-30] * 5, [1e-8, -1e-8, 1e-4, -1e-4, 0], [0.0, -0.0, 0.0, -0.0, 0.0],
             [6e-8, -6e-8, 3e-8, 1e-38, -1e-38]],
    "far from zero": [[10000.1, 10000.2, 9999.9, 10000.0, 10000.3], [4096.5] * 5,
                      [1e6, 1e6 + 1, 1e6 + 2, 1e6 - 1, 1e6], [-5e3, -5001, -4999, -5e3, -5e3]],
    "NaN": [[NAN, 1, 2, 3, -1], [1, NAN, -INF, INF, 0], [NAN] * 5, [5, 4, 3, 2, NAN]],
    "infinite": [[INF, 1, 2, 3, -1], [-INF, 1, 0, -1, 2], [INF] * 5, [INF, -INF, 0, INF, -INF]],
}


@pytest.mark.parametrize("dtype", [
    dtype if dtype in ("float16", "float32") else pytest.param(dtype, marks=pytest.mark.slow)
    for dtype in FLOATS])
@pytest.mark.parametrize("name", HARD_INPUTS)
def test_hard_inputs(name, dtype):
    with np.errstate(over="ignore"):
        x = Tensor(np.array(HARD_INPUTS[name]), dtype)
    given = {"x": x, "l": Tensor([0, 1, 2, 3], "int32"),
             "p": Tensor(np.random.default_rng(0).dirichlet(np.ones(5), 4), dtype)}
    assert not disagreements(program, lines(expressions.HARD), given)
    if dtype in ("float32", "float64"):
        weights = Tensor(np.random.default_rng(4).normal(size=25), "float64")
        assert not disagreements(gradients, lines(expressions.HARD_GRADIENTS),
                                 given | {"weights": weights}, 12)


@pytest.mark.parametrize("expression", [
    "ops.softmax(x)", "ops.log_softmax(x)", "ops.logsumexp(x, -1)", "ops.cross_entropy(x, l)",
    "ops.binary_cross_entropy_with_logits(x, p)", "ops.gelu(x)", "ops.logsigmoid(x)",
    "ops.softplus(x)", "ops.mish(x)", "ops.silu(x)", "ops.elu(x)", "ops.tanh(x)",
    "ops.layer_norm(x)", "ops.std(x, -1)", "ops.norm(x, 2, -1)", "ops.normalize(x)",
    "ops.huber_loss(x, p)", "ops.kl_div(ops.log_softmax(x), p)",
    "ops.binary_cross_entropy(ops.sigmoid(x), p)"])
@pytest.mark.parametrize("name", ["large", "far from zero", "tiny"])
def test_values_and_gradients_stay_finite(expression, name):
    x = Tensor(np.array(HARD_INPUTS[name]) if name != "tiny" else np.zeros((4, 5)), "float32")
    given = {"x": x, "l": Tensor([0, 1, 2, 3], "int32"), "p": Tensor(np.full((4, 5), 0.2))}
    given["p"] = ops.cast(given["p"], cellc.float32)
    weights = Tensor(np.random.default_rng(4).normal(size=25), "float64")
    for found in (program([expression], given)(**given),
                  gradients([expression], given)(**given, weights=weights)):
        assert all(np.isfinite(part.asnumpy()).all() for part in flat(found))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_floats_are_summed_and_squared_without_overflow(dtype):
    x = Tensor(np.full((400, 400), 500.0), dtype)
    for mode in (lambda function: function, cellc.jit):
        mean, deviation, norm, pooled = mode(lambda x: (
            ops.mean(x), ops.std(x), ops.norm(x[:1, :16]), ops.avg_pool2d(x[None, None], 400)))(x)
        assert mean.item() == 500 and deviation.item() == 0 and norm.item() == 2000
        assert pooled.item() == 500


# -- the table itself -----------------------------------------------------------------------------

def test_every_function_and_method_is_in_the_table():
    text = "\n".join(line for given, _ in FAMILIES.values() for line in lines(given))
    elsewhere = {"assign", "grad", "value_and_grad", "custom_vjp", "recompute", "set_seed",
                 "masked_select", "nonzero", "jvp", "vjp", "linearize", "jacfwd", "jacrev",
                 "hessian", "vmap", "derivative", "jet"}
    missing = [name for name in functional.__all__
               if callable(getattr(functional, name)) and not re.search(rf"ops\.{name}\(", text)]
    assert set(missing) <= elsewhere
    methods = {name for name, value in vars(Tensor).items()
               if callable(value) and not name.startswith("_")}
    eager_only = {"asnumpy", "numpy", "tolist", "backward", "requires_grad_", "masked_select",
                  "nonzero"}
    missing = [name for name in sorted(methods - eager_only)
               if not re.search(rf"\.{name}\(", expressions.METHODS)]
    assert not missing


@pytest.mark.parametrize("expression", ["ops.nonzero(x)", "ops.masked_select(x, x > 0)"])
def test_results_whose_size_depends_on_values_are_eager(expression):
    function = program([expression], ["x"])
    x = Tensor([1.0, 0.0, 2.0])
    assert function(x)[0].size == 2
    with pytest.raises(TypeFault, match="compiled code"):
        cellc.jit(function)(x)
