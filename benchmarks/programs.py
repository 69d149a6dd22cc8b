"""python -m benchmarks.programs --jax PYTHON: programs as people write them, beside JAX's jit.

Each is written once, of what `cellc.ops` and `jax.numpy` have in common, and run forward and for
the gradients of all its floating operands. The two take turns, in processes of their own; a number
is the median of the medians of three turns. Ratios below 1: cellc is ahead. Last come the first
calls of both, forward and gradient together, with nothing cached: what has to be waited for once.
"""

import argparse
import json
import statistics
import sys
import time

import numpy as np

from benchmarks.operations import timed, turn

TURNS = 3
xp = None           # the operations of the peer that runs


def sigmoid(x):
    return 1.0 / (1.0 + xp.exp(-x))


def relu(x):
    return xp.maximum(x, 0.0)


def cdf(x):
    """Nearly the distribution function of a normal variable."""
    return 0.5 * (1.0 + xp.tanh(0.79788456 * (x + 0.044715 * x**3)))


# -- layers and losses -----------------------------------------------------------------------------

def batch_norm(x, g, b):
    d = x - x.mean(0)
    return relu(d / xp.sqrt((d * d).mean(0) + 1e-5) * g + b)


def layer_norm(x, g, b):
    d = x - x.mean(-1, keepdims=True)
    return d / xp.sqrt((d * d).mean(-1, keepdims=True) + 1e-5) * g + b


def group_norm(x, g):
    y = x.reshape(16, 8, -1)
    d = y - y.mean(-1, keepdims=True)
    y = d / xp.sqrt((d * d).mean(-1, keepdims=True) + 1e-5)
    return y.reshape(16, 32, 28, 28) * g[:, None, None]


def rotary(x, w, c, s):
    x = x / xp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w
    a, b = x[..., :32], x[..., 32:]
    return xp.concat([a * c - b * s, a * s + b * c], axis=-1)


def attention(q, k, v, bias):
    i = xp.arange(128)
    s = q @ xp.swapaxes(k, -1, -2) / 8.0 + bias[i[:, None] - i[None, :] + 127]
    s = xp.where(i[:, None] >= i[None, :], s, -1e9)
    p = xp.exp(s - s.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True) @ v


def mlp(x, w, v):
    h = x @ w
    return h * cdf(h) @ v


def mixture_of_experts(x, gate, w):
    s = x @ gate
    p = xp.exp(s - s.max(1, keepdims=True))
    p = p / p.sum(1, keepdims=True)
    y = 0.0
    for k in range(4):
        y = y + p[:, k:k + 1] * relu(x @ w[k])
    return y


def gru(x, w, u, h):
    for t in range(12):
        g, q = x[t] @ w, h @ u
        z = sigmoid(g[:, :128] + q[:, :128])
        r = sigmoid(g[:, 128:256] + q[:, 128:256])
        h = (1 - z) * h + z * xp.tanh(g[:, 256:] + r * q[:, 256:])
    return h


def embedding_bag(table, ids):
    return table[ids].mean(1)


def cross_entropy(x, labels):
    m = x.max(1, keepdims=True)
    return (xp.log(xp.exp(x - m).sum(1)) + m[:, 0] - x[xp.arange(256), labels]).mean()


def contrastive(a, b):
    a = a / xp.sqrt((a * a).sum(1, keepdims=True))
    b = b / xp.sqrt((b * b).sum(1, keepdims=True))
    s, i = a @ b.T * 10.0, xp.arange(256)
    rows = xp.log(xp.exp(s).sum(1)) - s[i, i]
    columns = xp.log(xp.exp(s).sum(0)) - s[i, i]
    return (rows + columns).mean()


def focal(x, y):
    p = xp.where(y > 0, sigmoid(x), sigmoid(-x))
    return -((1 - p) ** 2 * xp.log(p + 1e-8)).mean()


def elbo(mean, spread, x, y):
    kl = -0.5 * (1 + spread - mean * mean - xp.exp(spread)).sum(1)
    p = sigmoid(x)
    return (kl - (y * xp.log(p + 1e-7) + (1 - y) * xp.log(1 - p + 1e-7)).sum(1)).mean()


def overlaps(a):
    low = xp.maximum(a[:, None, :2], a[None, :, :2])
    high = xp.minimum(a[:, None, :2] + 1.0, a[None, :, :2] + 1.0)
    both = relu(high[..., 0] - low[..., 0]) * relu(high[..., 1] - low[..., 1])
    return (both / (2.0 - both)).mean(1)


# -- statistics ------------------------------------------------------------------------------------

def moments(x):
    d = x - x.mean(0)
    z = d / xp.sqrt((d * d).mean(0))
    return (z**3).mean(0) + (z**4).mean(0)


def covariance(x):
    d = x - x.mean(0)
    return d.T @ d / 4000.0


def mixture(x, mean, spread, weight):
    z = (x[:, None, :] - mean) / xp.exp(spread)
    p = -0.5 * (z * z).sum(-1) - spread.sum(-1) + weight
    m = p.max(-1, keepdims=True)
    return (xp.log(xp.exp(p - m).sum(-1)) + m[:, 0]).sum()


def gaussian_kernel(x, y):
    return xp.exp(x @ y.T - 0.5 * (x * x).sum(1)[:, None] - 0.5 * (y * y).sum(1)[None, :])


def regression(w, x, y):
    for _ in range(10):
        w = w - 0.1 * (x.T @ (sigmoid(x @ w) - y)) / 2000.0
    return w


def transport(c):
    k = xp.exp(-0.5 * c * c)
    u = v = 1.0 + 0.0 * c[0]
    for _ in range(10):
        u = 1.0 / (k @ v)
        v = 1.0 / (k.T @ u)
    return (u[:, None] * k * v * c).sum()


def prices(s, k, t):
    s, k, t = s * s + 1.0, k * k + 1.0, t * t + 0.1
    a = (xp.log(s / k) + 0.05 * t) / (0.2 * xp.sqrt(t))
    return s * cdf(a) - k * xp.exp(-0.03 * t) * cdf(a - 0.2 * xp.sqrt(t))


# -- arrays that are images, waves and fields ------------------------------------------------------

def diffusion(u):
    for _ in range(20):
        inner = 0.25 * (u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:])
        middle = xp.concat([u[1:-1, :1], inner, u[1:-1, -1:]], axis=1)
        u = xp.concat([u[:1], middle, u[-1:]], axis=0)
    return u


def shortest_ways(d):
    for k in range(20):
        d = xp.minimum(d, d[:, k:k + 1] + d[k:k + 1, :])
    return d


def filtered(x, w):
    s = 0.0
    for i in range(5):
        for j in range(5):
            s = s + w[i, j] * x[i:i + 508, j:j + 508]
    return s


def bilinear(image, y, x):
    y, x = 250.0 + 100.0 * xp.tanh(y), 250.0 + 100.0 * xp.tanh(x)
    i, j = y.astype("int32"), x.astype("int32")
    v, u = y - i.astype("float32"), x - j.astype("float32")
    top = image[i, j] * (1 - u) + image[i, j + 1] * u
    return top * (1 - v) + (image[i + 1, j] * (1 - u) + image[i + 1, j + 1] * u) * v


def total_variation(x):
    return ((x[1:] - x[:-1]) ** 2).sum() + xp.abs(x[:, 1:] - x[:, :-1]).sum()


def moving_average(x):
    c = xp.cumsum(x, 1)
    return (c[:, 16:] - c[:, :-16]) / 16.0


def tracing(origin, direction):
    t = 0.0 * origin[:, 0]
    for _ in range(15):
        p = origin + 3.0 + t[:, None] * direction
        t = t + 0.5 * (xp.sqrt((p * p).sum(1)) - 1.0 + 0.1 * xp.sin(p[:, 0]) * xp.sin(p[:, 1]))
    return t


def residual(x, w, b, v):
    """Of a differential equation whose solution is a net of one layer."""
    t = xp.tanh(x[:, None] * w + b)
    second = (-2.0 * t * (1 - t * t) * w * w * v).sum(1)
    return ((second + (t * v).sum(1)) ** 2).mean()


PROGRAMS = {
    batch_norm: ((4096, 128), (128,), (128,)), layer_norm: ((1024, 512), (512,), (512,)),
    group_norm: ((16, 32, 28, 28), (32,)), rotary: ((512, 8, 64), (64,), (512, 1, 32),
                                                    (512, 1, 32)),
    attention: ((8, 128, 64), (8, 128, 64), (8, 128, 64), (255,)),
    mlp: ((64, 256), (256, 512), (512, 256)),
    mixture_of_experts: ((256, 64), (64, 4), (4, 64, 128)),
    gru: ((12, 16, 64), (64, 384), (128, 384), (16, 128)),
    embedding_bag: ((5000, 64), ("index", 5000, (512, 20))),
    cross_entropy: ((256, 5000), ("index", 5000, (256,))), contrastive: ((256, 128), (256, 128)),
    focal: ((100_000,), (100_000,)), elbo: ((256, 32), (256, 32), (256, 784), (256, 784)),
    overlaps: ((600, 2),), moments: ((10_000, 32),), covariance: ((4000, 64),),
    mixture: ((2000, 8), (20, 8), (20, 8), (20,)), gaussian_kernel: ((500, 20), (500, 20)),
    regression: ((64,), (2000, 64), (2000,)), transport: ((300, 300),),
    prices: ((500_000,), (500_000,), (500_000,)), diffusion: ((300, 300),),
    shortest_ways: ((150, 150),), filtered: ((512, 512), (5, 5)),
    bilinear: ((512, 512), (300, 300), (300, 300)), total_variation: ((800, 800),),
    moving_average: ((500, 2000),), tracing: ((20_000, 3), (20_000, 3)),
    residual: ((2000,), (64,), (64,), (64,)),
}  # fmt: skip


def operands(program) -> list[np.ndarray]:
    """A tenth of standard normal numbers, or indices."""
    draw = np.random.default_rng(0)
    return [draw.integers(0, of[1], of[2]).astype(np.int32) if of[0] == "index" else
            0.1 * draw.standard_normal(of, np.float32) for of in PROGRAMS[program]]


def work(peer: str) -> None:
    """A turn of one peer: prints {program: [forward, gradient, first calls], in seconds}."""
    global xp
    if peer == "jax":
        import jax
        import jax.numpy as xp

        array, jit, gradient = xp.asarray, jax.jit, jax.grad
        finished = jax.block_until_ready
    else:
        import cellc
        from cellc import ops as xp

        array, jit, gradient = cellc.Tensor, cellc.jit, cellc.grad
        finished = tuple
    found = {}
    for program in PROGRAMS:
        given = [array(x) for x in operands(program)]

        def loss(*args, program=program):
            y = program(*args)
            return (y * y).sum()

        floats = tuple(i for i, x in enumerate(operands(program)) if x.dtype.kind == "f")
        times, first = [], 0.0
        for function in (jit(program), jit(gradient(loss, floats))):
            def call(*args, function=function):
                return finished((function(*args),))

            start = time.perf_counter()
            call(*given)
            first += time.perf_counter() - start
            times.append(timed(call, given))
        found[program.__name__] = [*times, first]
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.programs", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jax", metavar="PYTHON", help="an interpreter that can import jax")
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        work(options.turn)
        return
    peers = {"cellc": sys.executable} | ({"jax": options.jax} if options.jax else {})
    turns = {peer: [] for peer in peers}
    for _ in range(TURNS):
        for peer, python in peers.items():
            turns[peer].append(turn("benchmarks.programs", peer, python))
    print("| program | forward | ratio | gradient | ratio | first calls |\n"
          "| --- | --: | --: | --: | --: | --: |")
    for program in PROGRAMS:
        each = [[statistics.median(found[program.__name__][i] for found in turns[peer])
                 for peer in peers] for i in range(3)]
        cells = []
        for mine, *theirs in each[:2]:
            cells += [f"{mine * 1e3:.3f} ms", f"{mine / theirs[0]:.2f}" if theirs else "–"]
        cells.append(" / ".join(f"{seconds:.2f}" for seconds in each[2]) + " s")
        print(f"| {program.__name__.replace('_', ' ')} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
