"""What is measured: the inputs and constants of every workload, in NumPy alone.

Every peer is given these same arrays, so that all compute the same thing, from the same start.
"""

from dataclasses import dataclass

import numpy as np

BATCH_MLP, MLP_SIZES = 128, (784, 512, 256, 10)
BATCH_LENET = 64
CLASSES = 10
BLOCK_BATCH, BLOCK_WIDTH = 32, 64        # a block's inner width is four times that
PENDULUMS, PENDULUM_STEPS = 128_000, 300
LSTM_STEPS, LSTM_BATCH, LSTM_WIDTH = 64, 32, 128
# Control flow that depends on data, in f64: the argument differentiated by first, then a count.
LOOPS = {
    "newton": (1.5, 150_000), "sine": (1.0, 1_000_000), "euler": (1.0, 10_000),
    "kept": (1.0, 1_000_000), "rk45": (1.5, 1.0, 3.0, 1.0), "nested_sines": (0.7, 10_000),
}  # fmt: skip
# Layers in f32: kind -> the shapes of the arguments.
ROWS, WIDTH, SQUARE, SIDE, CHANNELS = 4096, 768, 2048, 56, 64
MODEL = 256
_IMAGE = (4, CHANNELS, SIDE, SIDE)
_PIXELS = 4.0 * SIDE * SIDE
RESNET_BATCH, RESNET_SIDE, RESNET_WIDTHS = 8, 224, (64, 128, 256, 512)


def _resnet() -> tuple[tuple[int, ...], ...]:
    """ResNet-18: images, the stem, two blocks for each width, and a dense layer. Behind each
    convolution come gamma and beta of a batch norm. The first block of all widths but the first
    halves the image and has a shortcut."""
    def normed(n_out: int, n_in: int, taps: int) -> list[tuple[int, ...]]:
        return [(n_out, n_in, taps, taps), (n_out,), (n_out,)]

    shapes, n_in = [(RESNET_BATCH, 3, RESNET_SIDE, RESNET_SIDE), *normed(64, 3, 7)], 64
    for n in RESNET_WIDTHS:
        shapes += normed(n, n_in, 3) + normed(n, n, 3)
        shapes += normed(n, n_in, 1) if n != n_in else []
        shapes += normed(n, n, 3) + normed(n, n, 3)
        n_in = n
    return *shapes, (n_in, 1000), (1000,)


def _resnet_stem_flops() -> float:
    return 2.0 * RESNET_BATCH * 64 * 3 * 49 * (RESNET_SIDE // 2) ** 2


def _resnet_flops() -> float:
    side, n_in, terms = RESNET_SIDE // 4, 64, 0
    for n in RESNET_WIDTHS:
        terms += side**2 * (9 * n * (n_in + 3 * n) + (n * n_in if n != n_in else 0))
        side, n_in = side // 2, n
    return 2.0 * RESNET_BATCH * terms + _resnet_stem_flops()


LAYERS = {
    "norms": ((ROWS, WIDTH), (WIDTH,), (WIDTH,)),
    "logsumexp": ((SQUARE, SQUARE),), "variance": ((SQUARE, SQUARE),),
    "matmul_nt": ((1024, 1024), (1024, 1024)), "matmul_tn": ((1024, 1024), (1024, 1024)),
    "dense": ((1024, 1024), (1024, 1024), (1024,)), "gemv": ((1, 1024), (1024, 4096)),
    "batched": ((32, 128, 64), (32, 64, 128)),
    "conv": (_IMAGE, (CHANNELS, CHANNELS, 3, 3), (CHANNELS,), (CHANNELS,)),
    "depthwise": (_IMAGE, (CHANNELS, 1, 3, 3)), "pointwise": (_IMAGE, (CHANNELS, CHANNELS, 1, 1)),
    "transformer": ((8, 128, MODEL), (MODEL, 3 * MODEL), (MODEL, MODEL), (MODEL, 4 * MODEL),
                    (4 * MODEL, MODEL), (MODEL,), (MODEL,), (MODEL,), (MODEL,)),
    "resnet": _resnet(),
}  # fmt: skip
LAYER_GRADIENTS = {f"{name}_grad": name for name in ("norms", "conv", "transformer", "resnet")}
_TRANSFORMER_FLOPS = 2.0 * 8 * 128 * MODEL * (12 * MODEL + 2 * 128)
LAYER_BOUNDS = {
    "norms": ("bytes", 8.0 * ROWS * WIDTH), "norms_grad": ("bytes", 12.0 * ROWS * WIDTH),
    "logsumexp": ("bytes", 4.0 * SQUARE**2), "variance": ("bytes", 4.0 * SQUARE**2),
    "matmul_nt": ("flops", 2.0 * 1024**3), "matmul_tn": ("flops", 2.0 * 1024**3),
    "dense": ("flops", 2.0 * 1024**3), "gemv": ("bytes", 4.0 * 1024 * 4096),
    "batched": ("flops", 2.0 * 32 * 128 * 64 * 128),
    "conv": ("flops", 18.0 * _PIXELS * CHANNELS**2), "conv_grad": (
        "flops", 54.0 * _PIXELS * CHANNELS**2),
    "depthwise": ("bytes", 8.0 * _PIXELS * CHANNELS), "pointwise": (
        "flops", 2.0 * _PIXELS * CHANNELS**2),
    "transformer": ("flops", _TRANSFORMER_FLOPS), "transformer_grad": (
        "flops", 3 * _TRANSFORMER_FLOPS),
    "resnet": ("flops", _resnet_flops()),
    "resnet_grad": ("flops", 3 * _resnet_flops() - _resnet_stem_flops()),
}
TANH_ORDERS = 6
LOOP_GRADIENTS = {f"{name}_grad" for name in LOOPS}
# Small, because one batch is stepped on thousands of times: the loss must not reach the denormals.
ADAM_RATE, MOMENTUM_RATE, MOMENTUM = 1e-4, 1e-3, 0.9


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    `kind` is what a peer implements; `size` its one parameter. `bound` names the machine limit a
    call can at best reach: ("flops", n) or ("bytes", n). `tolerance` is relative to the largest
    magnitude of the result.
    """

    name: str
    kind: str
    size: int = 0
    bound: tuple[str, float] | None = None
    tolerance: float = 1e-5
    # A training step returns its loss, and stepping changes the state: it agrees by its losses.
    trains: bool = False


def _mlp_flops() -> float:
    forward = sum(a * b for a, b in zip(MLP_SIZES, MLP_SIZES[1:], strict=False))
    to_the_data = MLP_SIZES[0] * MLP_SIZES[1]  # whose gradient nobody asks for
    return 2.0 * BATCH_MLP * (3 * forward - to_the_data)


def _lenet_flops() -> float:
    conv1, conv2 = 28 * 28 * 6 * 25, 10 * 10 * 16 * 6 * 25
    dense = 400 * 120 + 120 * 84 + 84 * 10
    return 2.0 * BATCH_LENET * (3 * (conv1 + conv2 + dense) - conv1)


def _lstm_flops() -> float:
    return 2.0 * LSTM_STEPS * LSTM_BATCH * 2 * LSTM_WIDTH * 4 * LSTM_WIDTH


def _blocks_flops(count: int) -> float:
    product = 2.0 * BLOCK_BATCH * BLOCK_WIDTH * 4 * BLOCK_WIDTH
    return product * (6 * count - 1)        # nobody asks for the gradient of the data


def _all() -> list[Workload]:
    rows = [Workload("gradnet", "gradnet")]
    for label, n in (("1e3", 10**3), ("1e5", 10**5), ("1e7", 10**7)):
        bound = ("bytes", 8.0 * n) if n >= 10**7 else None
        # Looser than needed for the others: MindSpore's exp and tanh are good to 3e-5, its
        # gradient to 2e-4.
        rows.append(Workload(f"elementwise-{label}", "elementwise", n, bound, 1e-4))
        rows.append(Workload(f"elementwise-grad-{label}", "elementwise_grad", n, bound, 4e-4))
    for n in (64, 256, 1024, 2048):
        rows.append(Workload(f"matmul-{n}", "matmul", n, ("flops", 2.0 * n**3)))
    rows += [Workload(kind, kind) for kind in ("jacobian", "hessian", "per-example")]
    rows += [Workload(f"{kind}-{n}", kind, n) for kind in ("lanes", "lanes-sin") for n in (1000,)]
    rows += [Workload(f"tanh-grad-{n}", "tanh_grad", n) for n in (1, TANH_ORDERS)]
    # One ReLU of a network that changes sides changes its gradient by as much as 1e-2.
    rows += [Workload(kind.replace("_", "-"), kind, 0, bound, 2e-2 if kind == "resnet_grad" else
                      1e-3) for kind, bound in LAYER_BOUNDS.items()]
    rows.append(Workload("mlp", "mlp", 0, ("flops", _mlp_flops()), 1e-4, trains=True))
    rows.append(Workload("lenet", "lenet", 0, ("flops", _lenet_flops()), 1e-4, trains=True))
    # What many equal cells cost beside one, in the first call too.
    rows += [Workload(f"blocks-{n}-grad", "blocks_grad", n, ("flops", _blocks_flops(n)), 1e-3)
             for n in (1, 48)]
    for kind in LOOPS:
        name = kind.replace("_", "-")
        rows.append(Workload(f"loop-{name}", kind, tolerance=1e-8))
        rows.append(Workload(f"loop-{name}-grad", f"{kind}_grad", tolerance=1e-6))
    rows.append(Workload("loop-mandelbrot", "mandelbrot", tolerance=1e-3))
    rows.append(Workload("loop-lstm", "lstm", 0, ("flops", _lstm_flops()), 1e-4))
    rows.append(Workload("loop-lstm-grad", "lstm_grad", 0, ("flops", 2.5 * _lstm_flops()), 1e-3))
    rows.append(Workload("loop-pendulums", "pendulums", tolerance=1e-4))
    rows.append(Workload("loop-pendulums-grad", "pendulums_grad", tolerance=1e-3))
    rows.append(Workload("loop-3000-grad", "rows_grad", 3000, tolerance=1e-5))
    return rows


WORKLOADS = {workload.name: workload for workload in _all()}


def inputs(workload: Workload) -> tuple[np.ndarray, ...]:
    """The arrays a call takes; the same in every process."""
    random = np.random.default_rng(7)
    match workload.kind:
        case "gradnet":
            x = np.array([[0.5, 0.6, 0.4], [1.2, 1.3, 1.1]], np.float32)
            y = np.array([[0.01, 0.3, 1.1], [0.1, 0.2, 1.3], [2.1, 1.2, 3.3]], np.float32)
            return x, y
        case "elementwise" | "elementwise_grad":
            x = random.standard_normal(workload.size, np.float32) * 2
            return (np.where(x == 0, np.float32(1), x),)  # peers differ on the slope of abs at 0
        case "matmul":
            x, y = random.standard_normal((2, workload.size, workload.size), np.float32)
            return x, y
        case "jacobian" | "hessian":        # of tanh(x w1) w2, and of its squares' sum
            x, w1, w2 = (random.standard_normal(s, np.float32) for s in ((64,), (64, 64), (64, 10)))
            return x, w1 * np.float32(0.1), w2 * np.float32(0.1)
        case "per-example":                 # gradients by both weights, for each of 256
            x, w1, w2 = (random.standard_normal(s, np.float32) for s in (
                (256, 64), (64, 64), (64, 10)))
            return x, w1 * np.float32(0.1), w2 * np.float32(0.1)
        case "lanes" | "lanes-sin":         # as many rounds as each lane asks for, 1 to 10^4
            rounds = np.exp(random.uniform(0, np.log(1e4), workload.size)).astype(np.int64)
            return random.standard_normal(workload.size, np.float32), rounds
        case "mlp":
            x = random.standard_normal((BATCH_MLP, MLP_SIZES[0]), np.float32)
            return x, random.integers(0, CLASSES, BATCH_MLP).astype(np.int32)
        case "lenet":
            x = random.standard_normal((BATCH_LENET, 1, 28, 28), np.float32)
            return x, random.integers(0, CLASSES, BATCH_LENET).astype(np.int32)
        case "blocks_grad":
            return (random.standard_normal((BLOCK_BATCH, BLOCK_WIDTH), np.float32),)
        case "lstm" | "lstm_grad":
            x = random.standard_normal((LSTM_STEPS, LSTM_BATCH, LSTM_WIDTH), np.float32)
            weights = random.standard_normal((2, LSTM_WIDTH, 4 * LSTM_WIDTH), np.float32)
            return x, *(weights / np.float32(LSTM_WIDTH) ** 0.5), np.zeros(
                4 * LSTM_WIDTH, np.float32)
        case "pendulums" | "pendulums_grad":
            return tuple(random.standard_normal((2, PENDULUMS), np.float32))
        case "rows_grad":
            return (random.standard_normal((workload.size, 8), np.float32),)
        case "mandelbrot":
            return ()
        case "tanh_grad":
            return (np.array(0.4, np.float32),)
        case kind if LAYER_GRADIENTS.get(kind, kind) in LAYERS:
            return layer_arguments(LAYER_GRADIENTS.get(kind, kind))
        case kind if kind.removesuffix("_grad") in LOOPS:
            return tuple(map(np.float64, LOOPS[kind.removesuffix("_grad")]))
    raise ValueError(f"no workload of kind {workload.kind!r}")


def differentiated(kind: str) -> tuple[int, ...]:
    """The arguments of a layer that its gradient is for: all, but nobody asks a network for that
    of its images."""
    name = LAYER_GRADIENTS[kind]
    return tuple(range(name == "resnet", len(LAYERS[name])))


def layer_arguments(kind: str) -> tuple[np.ndarray, ...]:
    """Data as from a unit normal, weights scaled by their inputs, vectors near one."""
    random, made = np.random.default_rng(5), []
    for i, shape in enumerate(LAYERS[kind]):
        x = random.standard_normal(shape, np.float32)
        if len(shape) == 1:
            x = 1 + np.float32(0.1) * x
        elif i:
            x /= np.float32(np.prod(shape[1:]) if len(shape) == 4 else shape[-2]) ** 0.5
        made.append(x)
    return tuple(made)


def _weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """He-normal weights and small biases, by name, in the order of the layers."""
    random = np.random.default_rng(11)
    made = {}
    for name, shape in shapes.items():
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        made[name] = (random.standard_normal(shape) * scale).astype(np.float32)
    return made


def mlp_weights() -> dict[str, np.ndarray]:
    """Dense layers fc1..fc3: weight [out, in] and bias [out]."""
    shapes = {}
    for i, (n_in, n_out) in enumerate(zip(MLP_SIZES, MLP_SIZES[1:], strict=False), 1):
        shapes[f"fc{i}.weight"], shapes[f"fc{i}.bias"] = (n_out, n_in), (n_out,)
    return _weights(shapes)


def lenet_weights() -> dict[str, np.ndarray]:
    """Convolutions conv1, conv2 [out, in, 5, 5], dense layers fc1..fc3 [out, in], their biases."""
    layers = {
        "conv1": (6, 1, 5, 5), "conv2": (16, 6, 5, 5),
        "fc1": (120, 400), "fc2": (84, 120), "fc3": (10, 84),
    }  # fmt: skip
    shapes = {}
    for name, shape in layers.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    return _weights(shapes)


def blocks_weights(count: int) -> dict[str, np.ndarray]:
    """Blocks in order: norm.gamma, norm.beta, and dense layers up and down, [out, in]."""
    n, shapes = BLOCK_WIDTH, {}
    for i in range(count):
        shapes |= {
            f"blocks.{i}.norm.gamma": (n,), f"blocks.{i}.norm.beta": (n,),
            f"blocks.{i}.up.weight": (4 * n, n), f"blocks.{i}.up.bias": (4 * n,),
            f"blocks.{i}.down.weight": (n, 4 * n), f"blocks.{i}.down.bias": (n,),
        }  # fmt: skip
    made = _weights(shapes)
    return {name: x + np.float32(name.endswith("gamma")) for name, x in made.items()}


def gradnet_scale() -> np.ndarray:
    """The Parameter z of the GradNet."""
    return np.array([1.0], np.float32)
