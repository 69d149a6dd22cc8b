"""Train a small convolutional network on handwritten digits, and look at its mistakes.

    python examples/train_digits.py                    # compiled
    python examples/train_digits.py --mode eager       # the same cells, operation by operation

scikit-learn's 1,797 real 8x8 images of digits; a fifth of them is held out. The run prints the
compile time, a progress bar with loss and images per second, and the held-out accuracy; it writes
a confusion matrix (PNG) and the weights, loads these into a second network and checks that it
predicts the same.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

import cellc
from cellc import Tensor, context, nn, ops


class LeNet(nn.Cell):
    """Two convolutions with pooling, then three dense layers: LeCun et al. 1998, for 8x8 images.

    Dropout before the dense layers, because 1,437 images are few.
    """

    def __init__(self, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, pad_mode="same", has_bias=True)
        self.conv2 = nn.Conv2d(32, 64, 3, pad_mode="same", has_bias=True)
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(p=0.4)
        self.fc1 = nn.Dense(64 * 2 * 2, 120)
        self.fc2 = nn.Dense(120, 84)
        self.fc3 = nn.Dense(84, classes)

    def construct(self, x):
        x = self.pool(ops.relu(self.conv1(x)))
        x = self.pool(ops.relu(self.conv2(x)))
        x = self.dropout(self.flatten(x))
        x = ops.relu(self.fc1(x))
        x = ops.relu(self.fc2(x))
        return self.fc3(x)


class Predict(nn.Cell):
    """The most likely class of each image."""

    def __init__(self, network):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, x):
        return ops.argmax(self.network(x), axis=1)


def load_data(seed: int):
    """(training images, labels, held-out images, labels), the images [n, 1, 8, 8] from 0 to 1."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        sys.exit("this example needs scikit-learn: pip install 'cellc[examples]'")
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int32)
    x, held_x, y, held_y = train_test_split(images, labels, test_size=0.2, stratify=labels,
                                            random_state=seed)
    return x, y, held_x, held_y


def make_optimizer(name: str, parameters, steps: int):
    """Adam or Momentum, with a rate that falls to nearly nothing over the run."""
    if name == "adam":
        return nn.Adam(parameters, nn.CosineDecayLR(1e-5, 3e-3, steps))
    return nn.Momentum(parameters, nn.CosineDecayLR(1e-4, 5e-2, steps), momentum=0.9)


def train(step, x, y, epochs: int, batch_size: int, seed: int) -> tuple[float, list[float]]:
    """Run all epochs; returns the seconds of the first step and the mean loss of each epoch."""
    from tqdm import tqdm

    order = np.random.default_rng(seed)
    batches = len(x) // batch_size
    first, means = None, []
    with tqdm(total=epochs * batches * batch_size, unit="img", unit_scale=True) as bar:
        for epoch in range(epochs):
            places = order.permutation(len(x))[:batches * batch_size].reshape(batches, batch_size)
            losses = []
            for batch in places:
                started = time.perf_counter()
                losses.append(step(Tensor(x[batch]), Tensor(y[batch])))
                first = time.perf_counter() - started if first is None else first
                bar.update(batch_size)
            means.append(float(np.mean([float(loss) for loss in losses])))
            bar.set_postfix(epoch=epoch + 1, loss=f"{means[-1]:.4f}")
    return first, means


def confusion(labels: np.ndarray, predicted: np.ndarray, classes=10) -> np.ndarray:
    """How often each digit (row) was taken for each (column)."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def draw(matrix: np.ndarray, path: Path, accuracy: float) -> None:
    """The confusion matrix as a picture."""
    try:
        import matplotlib
    except ImportError:
        sys.exit("the picture needs matplotlib: pip install 'cellc[examples]'")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 5.4), layout="constrained")
    shown = axes.imshow(matrix / np.maximum(matrix.sum(1, keepdims=True), 1), cmap="Blues",
                        vmin=0, vmax=1)
    figure.colorbar(shown, label="share of the digit")
    for (i, j), n in np.ndenumerate(matrix):
        if n:
            axes.text(j, i, str(n), ha="center", va="center", fontsize=9,
                      color="white" if i == j else "firebrick")
    axes.set(xlabel="predicted", ylabel="digit", xticks=range(len(matrix)),
             yticks=range(len(matrix)), title=f"Held-out digits: {accuracy:.2%} right")
    figure.savefig(path, dpi=130)


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=("graph", "eager"), default="graph")
    parser.add_argument("--device", default="CPU", help="CPU (default)")
    parser.add_argument("--optimizer", choices=("adam", "momentum"), default="adam")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("digits_output"),
                        help="folder for the picture and the weights")
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error(f"--epochs is {options.epochs}, expected at least 1")
    if not 1 <= options.batch_size <= 1437:
        parser.error(f"--batch-size is {options.batch_size}, expected 1 to 1437")
    if not 0 <= options.seed < 2**32:
        parser.error(f"--seed is {options.seed}, expected 0 to {2**32 - 1}")
    try:
        context.set_context(device_target=options.device)
    except cellc.errors.ValueFault as fault:
        parser.error(f"--device: {fault}")
    return options


def main(arguments=None) -> float:
    options = parse_arguments(arguments)
    started = time.perf_counter()
    context.set_context(
        mode=context.GRAPH_MODE if options.mode == "graph" else context.PYNATIVE_MODE)
    cellc.set_seed(options.seed)
    x, y, held_x, held_y = load_data(options.seed)

    net = LeNet()
    with_loss = nn.WithLossCell(net, nn.SoftmaxCrossEntropyWithLogits(sparse=True,
                                                                      reduction="mean"))
    steps = options.epochs * (len(x) // options.batch_size)
    optimizer = make_optimizer(options.optimizer, net.trainable_params(), steps)
    step = nn.TrainOneStepCell(with_loss, optimizer).set_train()
    first, losses = train(step, x, y, options.epochs, options.batch_size, options.seed)
    print(f"first step ({'compilation included' if options.mode == 'graph' else 'eager'}): "
          f"{first:.2f} s")
    print(f"mean loss of the first and the last epoch: {losses[0]:.5f}, {losses[-1]:.5f}")

    net.set_train(False)
    predicted = Predict(net)(Tensor(held_x)).asnumpy()
    accuracy = float((predicted == held_y).mean())

    options.out.mkdir(parents=True, exist_ok=True)
    weights, picture = options.out / "lenet.safetensors", options.out / "confusion.png"
    cellc.save_checkpoint(net, weights)
    again = LeNet()
    cellc.load_param_into_net(again, cellc.load_checkpoint(weights), strict_load=True)
    same = bool((Predict(again)(Tensor(held_x)).asnumpy() == predicted).all())
    if not same:
        sys.exit("the loaded network predicts otherwise than the saved one")
    draw(confusion(held_y, predicted), picture, accuracy)

    print(f"weights saved to {weights}, loaded back, same predictions")
    print(f"confusion matrix: {picture}")
    print(f"held-out accuracy: {accuracy:.2%} ({int((predicted == held_y).sum())} of "
          f"{len(held_y)} images)")
    print(f"whole run: {time.perf_counter() - started:.1f} s")
    return accuracy


if __name__ == "__main__":
    main()
