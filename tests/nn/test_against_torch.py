"""Layers, losses and optimisers against PyTorch, where it is installed: values and gradients."""

import numpy as np
import pytest

import cellc
from cellc import Tensor, nn, ops

torch = pytest.importorskip("torch")
F = torch.nn.functional
DRAW = np.random.default_rng(0)


def close(found, expected):
    np.testing.assert_allclose(np.asarray(found), expected.detach().numpy(), rtol=1e-9, atol=1e-10)


FUNCTIONS = [
    ("conv2d", lambda x, w, b: ops.conv2d(x, w, b, 2, "pad", 1, 1, 2),
     lambda x, w, b: F.conv2d(x, w, b, 2, 1, 1, 2), [(2, 4, 7, 6), (6, 2, 3, 3), (6,)]),
    ("conv2d_dilated", lambda x, w: ops.conv2d(x, w, None, 1, "pad", 2, 2),
     lambda x, w: F.conv2d(x, w, None, 1, 2, 2), [(2, 4, 7, 6), (3, 4, 3, 3)]),
    ("conv1d", lambda x, w: ops.conv1d(x, w, None, 2, "pad", 1),
     lambda x, w: F.conv1d(x, w, None, 2, 1), [(2, 4, 9), (3, 4, 3)]),
    ("max_pool2d", lambda x: ops.max_pool2d(x, 3, 2, 1), lambda x: F.max_pool2d(x, 3, 2, 1),
     [(2, 3, 7, 8)]),
    ("max_pool2d_ceil", lambda x: ops.max_pool2d(x, 2, 2, 0, 1, True),
     lambda x: F.max_pool2d(x, 2, 2, 0, 1, True), [(2, 3, 7, 7)]),
    ("avg_pool2d", lambda x: ops.avg_pool2d(x, 3, 2, 1), lambda x: F.avg_pool2d(x, 3, 2, 1),
     [(2, 3, 7, 8)]),
    ("adaptive", lambda x: ops.adaptive_avg_pool2d(x, (2, 4)),
     lambda x: F.adaptive_avg_pool2d(x, (2, 4)), [(2, 3, 4, 8)]),
    ("layer_norm", lambda x, w, b: ops.layer_norm(x, (5,), w, b),
     lambda x, w, b: F.layer_norm(x, (5,), w, b), [(3, 5), (5,), (5,)]),
    ("group_norm", lambda x, w, b: ops.group_norm(x, 2, w, b),
     lambda x, w, b: F.group_norm(x, 2, w, b), [(3, 4, 5), (4,), (4,)]),
    ("gelu", ops.gelu, F.gelu, [(3, 5)]), ("silu", ops.silu, F.silu, [(3, 5)]),
    ("mish", ops.mish, F.mish, [(3, 5)]), ("selu", ops.selu, F.selu, [(3, 5)]),
    ("softplus", ops.softplus, F.softplus, [(3, 5)]), ("glu", ops.glu, F.glu, [(3, 6)]),
    ("logsigmoid", ops.logsigmoid, F.logsigmoid, [(3, 5)]),
    ("softmax", ops.softmax, lambda x: F.softmax(x, -1), [(3, 5)]),
    ("huber", lambda x, y: ops.huber_loss(x, y, "mean", 0.5),
     lambda x, y: F.huber_loss(x, y, delta=0.5), [(3, 5), (3, 5)]),
    ("smooth_l1", lambda x, y: ops.smooth_l1_loss(x, y, 0.5, "sum"),
     lambda x, y: F.smooth_l1_loss(x, y, beta=0.5, reduction="sum"), [(3, 5), (3, 5)]),
    ("cross_entropy", lambda x: ops.cross_entropy(x, Tensor([0, 4, -100]), label_smoothing=0.2),
     lambda x: F.cross_entropy(x, torch.tensor([0, 4, -100]), label_smoothing=0.2), [(3, 5)]),
    ("logsumexp", lambda x: ops.logsumexp(x, 1), lambda x: torch.logsumexp(x, 1), [(3, 5)]),
    ("prod", lambda x: ops.prod(x, 1), lambda x: torch.prod(x, 1), [(3, 5)]),
]


@pytest.mark.parametrize("name, ours, theirs, shapes", FUNCTIONS, ids=[f[0] for f in FUNCTIONS])
def test_function(name, ours, theirs, shapes):
    arrays = [DRAW.normal(size=shape) for shape in shapes]
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = theirs(*tensors)
    sens = DRAW.normal(size=expected.shape)
    expected.backward(torch.tensor(sens))
    close(ours(*map(Tensor, arrays)), expected)
    gradients = cellc.GradOperation(get_all=True, sens_param=True)(ours)(
        *map(Tensor, arrays), Tensor(sens))
    for found, t in zip(gradients, tensors):
        close(found, t.grad)


OPTIMIZERS = [
    ("SGD", lambda p: nn.SGD(p, 0.125, 0.9, 0.0, 0.25, True),
     lambda p: torch.optim.SGD(p, 0.125, 0.9, 0.0, 0.25, True)),
    ("Momentum", lambda p: nn.Momentum(p, 0.125, 0.9), lambda p: torch.optim.SGD(p, 0.125, 0.9)),
    ("AdamW", lambda p: nn.AdamW(p, 0.125, weight_decay=0.25),
     lambda p: torch.optim.AdamW(p, 0.125, weight_decay=0.25)),
]


@pytest.mark.parametrize("name, ours, theirs", OPTIMIZERS, ids=[o[0] for o in OPTIMIZERS])
def test_optimizer(name, ours, theirs):
    start = DRAW.normal(size=(3, 4))
    p = cellc.Parameter(Tensor(start), name="p")
    t = torch.tensor(start, requires_grad=True)
    mine, other = ours([p]), theirs([t])
    for _ in range(5):
        gradient = DRAW.normal(size=(3, 4))
        mine((Tensor(gradient),))
        t.grad = torch.tensor(gradient)
        other.step()
    close(p.asnumpy(), t)
