"""thin: which products become sums of products of elements, and that these are the same numbers."""

import numpy as np
import pytest

from cellc.ir.check import check
from cellc.ir.interpret import interpret
from cellc.ir.text import read
from cellc.passes import thin

# shapes of both, contracted axes, batch axes, what it becomes
PRODUCTS = [
    ((5,), (7,), ((), ()), ((), ()), "mul"),                            # an outer product
    ((5, 1), (1, 7), ((1,), (0,)), ((), ()), "mul"),
    ((3, 5), (7, 3), ((), ()), ((0,), (1,)), "mul"),
    ((9,), (9, 50), ((0,), (0,)), ((), ()), "sum"),
    ((50, 9), (9,), ((1,), (0,)), ((), ()), "sum"),
    ((9,), (9,), ((0,), (0,)), ((), ()), "sum"),
    ((6, 1, 3, 3), (3, 2, 6, 4, 3), ((2, 3), (0, 4)), ((0,), (2,)), "sum"),
    ((8, 3, 3), (4, 8, 5, 3, 3), ((1, 2), (3, 4)), ((0,), (1,)), "sum"),    # depthwise
    ((2, 9), (9, 50), ((1,), (0,)), ((), ()), "dot"),                   # B is used twice
    ((1, 100), (100, 50), ((1,), (0,)), ((), ()), "dot"),               # a long sum
    ((1, 0), (0, 5), ((1,), (0,)), ((), ()), "dot"),                    # an empty one
]
DTYPES = ["f32", "f64", "i32", "f16"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("a, b, contract, batch, wanted", PRODUCTS)
def test_thin_products(a, b, contract, batch, wanted, dtype):
    free = [[n for i, n in enumerate(x) if i not in contract[k] and i not in batch[k]]
            for k, x in enumerate((a, b))]
    shape = [a[i] for i in batch[0]] + free[0] + free[1]
    left, right, result = (f"{dtype}[{','.join(map(str, s))}]" for s in (a, b, shape))
    graph = read(f"graph @f(%x: {left}, %y: {right}) -> {result} {{\n  %z = dot(%x, %y) "
                 f"{{contract={contract}, batch={batch}}} : {result}\n  return %z\n}}")
    new = thin.run(graph)
    check(new)
    if wanted == "sum" and dtype == "f16":      # it would be rounded term by term
        wanted = "dot"
    names = {node.prim.name for node in new.body}
    assert ("dot" in names, "reduce_sum" in names) == (wanted == "dot", wanted == "sum")
    rng = np.random.default_rng(1)
    numbers = [(rng.uniform(-4, 4, s)).astype(np.dtype(dtype.replace("i", "int").replace(
        "f", "float"))) for s in (a, b)]
    np.testing.assert_allclose(interpret(new, *numbers), interpret(graph, *numbers), rtol=2e-6)
