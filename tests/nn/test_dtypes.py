"""Layers and losses in every float dtype and in odd shapes: graph mode against eager mode, values,
gradients, effects and random numbers; narrow floats against the same layer in f64."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, context, nn
from tests.agreement import difference

DRAW = np.random.default_rng(5)
# Through whole layers, in graph mode and eager mode: roundings add up.
BOUNDS = {"f16": (1e-2, 2e-2), "bf16": (6e-2, 1e-1), "f32": (2e-5, 2e-5), "f64": (1e-11, 1e-11)}
FLOATS = ["float16", "bfloat16", "float32", "float64"]

# name, dtype -> layer, shape of its input
LAYERS = [
    ("Dense", lambda d: nn.Dense(5, 3, dtype=d), (4, 5)),
    ("Dense one row", lambda d: nn.Dense(5, 1, dtype=d), (1, 5)),
    ("Dense no rows", lambda d: nn.Dense(5, 3, dtype=d), (0, 5)),
    ("Conv2d one channel", lambda d: nn.Conv2d(1, 3, 3, dtype=d), (2, 1, 5, 6)),
    ("Conv2d odd", lambda d: nn.Conv2d(3, 5, (1, 3), has_bias=True, dtype=d), (1, 3, 7, 5)),
    ("Conv2d tall", lambda d: nn.Conv2d(3, 1, (3, 1), 2, "valid", dtype=d), (2, 3, 5, 1)),
    ("Conv2d no images", lambda d: nn.Conv2d(2, 3, 3, dtype=d), (0, 2, 5, 5)),
    ("Conv2d of one pixel", lambda d: nn.Conv2d(2, 3, 1, dtype=d), (2, 2, 1, 1)),
    ("Conv1d", lambda d: nn.Conv1d(3, 5, 3, dtype=d), (2, 3, 7)),
    ("MaxPool2d", lambda d: nn.MaxPool2d((1, 2), 2), (1, 3, 5, 5)),
    ("AvgPool2d", lambda d: nn.AvgPool2d((3, 2), 1), (2, 1, 5, 3)),
    ("AdaptiveAvgPool2d", lambda d: nn.AdaptiveAvgPool2d((3, 1)), (1, 3, 5, 7)),
    ("BatchNorm1d", lambda d: nn.BatchNorm1d(3, dtype=d).set_train(), (5, 3)),
    ("BatchNorm2d", lambda d: nn.BatchNorm2d(1, dtype=d).set_train(), (3, 1, 3, 5)),
    ("BatchNorm2d one image", lambda d: nn.BatchNorm2d(3, dtype=d).set_train(), (1, 3, 5, 1)),
    ("BatchNorm2d known", lambda d: nn.BatchNorm2d(3, dtype=d), (0, 3, 5, 1)),
    ("LayerNorm", lambda d: nn.LayerNorm((7,), dtype=d), (3, 7)),
    ("LayerNorm no rows", lambda d: nn.LayerNorm((7,), dtype=d), (0, 7)),
    ("GroupNorm", lambda d: nn.GroupNorm(3, 3, dtype=d), (1, 3, 5, 1)),
    ("Dropout", lambda d: nn.Dropout(p=0.4).set_train(), (7, 9)),
    ("PReLU", lambda d: nn.PReLU(1), (3, 5)),
    ("GELU", lambda d: nn.GELU(), (3, 5)),
    ("Softmax", lambda d: nn.Softmax(), (3, 1)),
    ("LogSoftmax", lambda d: nn.LogSoftmax(), (0, 5)),
]
# name, loss, shape of the logits, how the labels are made
LOSSES = [
    ("MSELoss", lambda: nn.MSELoss(), (1, 3), "like"),
    ("MSELoss of nothing", lambda: nn.MSELoss("sum"), (0, 3), "like"),
    ("L1Loss", lambda: nn.L1Loss(), (5, 1), "like"),
    ("HuberLoss", lambda: nn.HuberLoss(), (5, 3), "like"),
    ("SmoothL1Loss", lambda: nn.SmoothL1Loss(), (5, 3), "like"),
    ("BCEWithLogitsLoss", lambda: nn.BCEWithLogitsLoss(), (5, 3), "chances"),
    ("CrossEntropyLoss", lambda: nn.CrossEntropyLoss(), (5, 3), "labels"),
    ("CrossEntropyLoss one class", lambda: nn.CrossEntropyLoss(), (5, 1), "labels"),
    ("CrossEntropyLoss one row", lambda: nn.CrossEntropyLoss(), (1, 7), "labels"),
    ("CrossEntropyLoss of nothing", lambda: nn.CrossEntropyLoss(reduction="sum"), (0, 7),
     "labels"),
    ("CrossEntropyLoss smooth", lambda: nn.CrossEntropyLoss(label_smoothing=0.1), (5, 3),
     "labels"),
    ("SoftmaxCrossEntropy", lambda: nn.SoftmaxCrossEntropyWithLogits(True, "mean"), (6, 5),
     "labels"),
]


def in_both_modes(run) -> list:
    results = []
    for mode in (context.PYNATIVE_MODE, context.GRAPH_MODE):
        context.set_context(mode=mode)
        cellc.set_seed(7)
        results.append(run())
    return results


def labels(how: str, shape, dtype: str):
    if how == "labels":
        return Tensor(DRAW.integers(0, shape[1], shape[0]), "int32")
    return Tensor(DRAW.random(shape) if how == "chances" else DRAW.normal(size=shape), dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name, make, shape", LAYERS, ids=[case[0] for case in LAYERS])
def test_layers(name, make, shape, dtype):
    x = Tensor(DRAW.normal(size=shape), dtype)
    sens = None

    def run():
        nonlocal sens
        cell = make(dtype)
        y = cell(x)
        if sens is None:
            sens = Tensor(DRAW.normal(size=y.shape), y.dtype)
        weights = cell.trainable_params()
        cellc.set_seed(9)
        gradients = cellc.GradOperation(get_all=True, get_by_list=bool(weights), sens_param=True)(
            cell, weights or None)(x, sens)
        return y, gradients, [Tensor(p) for p in cell.get_parameters()]

    assert difference(*in_both_modes(run), BOUNDS) is None


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name, make, shape, how", LOSSES, ids=[case[0] for case in LOSSES])
def test_losses(name, make, shape, how, dtype):
    x, y = Tensor(DRAW.normal(size=shape), dtype), labels(how, shape, dtype)

    def run():
        loss = make()
        return loss(x, y), cellc.value_and_grad(loss)(x, y)

    eager, graph = in_both_modes(run)
    assert difference(eager, graph, BOUNDS) is None
    assert graph[0].dtype == x.dtype
    if dtype != "float64":
        wide = make()(Tensor(x, "float64"), Tensor(y, "float64") if how != "labels" else y)
        found, exact = graph[0].asnumpy().astype(np.float64), wide.asnumpy()
        relative, absolute = BOUNDS[x.dtype.name]
        np.testing.assert_allclose(found, exact, relative, absolute)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("make", [
    lambda d: nn.LayerNorm((64,), dtype=d), lambda d: nn.BatchNorm1d(64, dtype=d).set_train(),
    lambda d: nn.GroupNorm(2, 64, dtype=d)], ids=["LayerNorm", "BatchNorm1d", "GroupNorm"])
def test_a_large_mean_costs_no_digits(make, dtype):
    x = Tensor(DRAW.normal(size=(8, 64)) + 1000, dtype)
    exact = make("float64")(Tensor(x, "float64")).asnumpy()
    relative, absolute = BOUNDS[x.dtype.name]
    for found in in_both_modes(lambda: make(dtype)(x)):
        np.testing.assert_allclose(found.asnumpy().astype(np.float64), exact, relative,
                                   max(absolute, 1e-3))
