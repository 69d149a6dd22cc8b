"""JAX: everything under jax.jit, the state of a training step donated."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import layers
from benchmarks.workloads import (
    ADAM_RATE,
    LAYER_GRADIENTS,
    LAYERS,
    LOOPS,
    MOMENTUM,
    MOMENTUM_RATE,
    PENDULUM_STEPS,
    blocks_weights,
    differentiated,
    gradnet_scale,
    inputs,
    lenet_weights,
    mlp_weights,
)

VERSION = jax.__version__
VARIANTS = ("jit",)


def prepare(variant):
    # A second process may reuse what the first compiled, small programs too.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def wait(result):
    result.block_until_ready()


def array(result):
    return np.asarray(result)


def chain(x):
    return jnp.tanh(x) * jax.nn.sigmoid(x) + jnp.exp(-x * x) * 0.5 - jnp.sqrt(jnp.abs(x) + 1)


def net(x, w1, w2):
    return jnp.matmul(jnp.tanh(jnp.matmul(x, w1)), w2)


def energy(x, w1, w2):
    return (net(x, w1, w2) ** 2).sum()


def rounds(of_sin, x, n):
    def step(state):
        i, x = state
        return i + 1, jnp.sin(x) * 1.01 + 0.1 if of_sin else x * 0.999 + 0.1

    return jax.lax.while_loop(lambda state: state[0] < n, step, (0, x))[1]


def normalized(x, gamma, beta, axes, shape):
    x = x - x.mean(axes, keepdims=True)
    x = x * jax.lax.rsqrt((x * x).mean(axes, keepdims=True) + 1e-5)
    return x * gamma.reshape(shape) + beta.reshape(shape)


def same_conv(x, w, groups):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", feature_group_count=groups)


def halving_conv(x, w):
    around = [(n // 2, n // 2) for n in w.shape[2:]]
    return jax.lax.conv_general_dilated(x, w, (2, 2), around)


def max_pool(x):
    around = ((0, 0), (0, 0), (1, 1), (1, 1))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 3, 3), (1, 1, 2, 2), around)


LAYER = layers.define(SimpleNamespace(
    matmul=jnp.matmul, softmax=jax.nn.softmax, relu=jax.nn.relu, reshape=jnp.reshape,
    gelu=partial(jax.nn.gelu, approximate=False), swap=jnp.swapaxes, mean=jnp.mean,
    logsumexp=lambda x: jax.nn.logsumexp(x, 1), variance=lambda x: jnp.var(x, 0),
    layer_norm=lambda x, gamma, beta: normalized(x, gamma, beta, -1, -1), conv=same_conv,
    halving=halving_conv, max_pool=max_pool,
    batch_norm=lambda x, gamma, beta: normalized(x, gamma, beta, (0, 2, 3), (-1, 1, 1))))


def tanh_gradient(order):
    function = jnp.tanh
    for _ in range(order):
        function = jax.grad(function)
    return function


def make(workload, variant):
    arrays = [jnp.asarray(array) for array in inputs(workload)]
    match workload.kind:
        case kind if kind in LAYERS:
            function = jax.jit(getattr(LAYER, kind))
        case kind if kind in LAYER_GRADIENTS:
            loss = getattr(LAYER, f"{LAYER_GRADIENTS[kind]}_loss")
            gradient = jax.jit(jax.grad(loss, differentiated(kind)))
            return lambda: gradient(*arrays)[1]
        case "tanh_grad":
            function = jax.jit(tanh_gradient(workload.size))
        case "gradnet":
            z = jnp.asarray(gradnet_scale())
            gradient = jax.jit(jax.grad(lambda x, y, z: jnp.matmul(x * z, y).sum()))
            return lambda: gradient(*arrays, z)
        case "elementwise":
            function = jax.jit(chain)
        case "elementwise_grad":
            function = jax.jit(jax.grad(lambda x: chain(x).sum()))
        case "matmul":
            function = jax.jit(jnp.matmul)
        case "jacobian" | "hessian" | "per-example":
            function = jax.jit({
                "jacobian": jax.jacrev(net), "hessian": jax.hessian(energy),
                "per-example": jax.vmap(jax.grad(energy, (1, 2)), (0, None, None)),
            }[workload.kind])
            if workload.kind == "per-example":
                return lambda: function(*arrays)[0]
        case "lanes" | "lanes-sin":
            function = jax.jit(jax.vmap(partial(rounds, workload.kind == "lanes-sin")))
        case "mlp":
            return training(mlp, as_jax(mlp_weights()), adam, *arrays)
        case "lenet":
            return training(lenet, as_jax(lenet_weights()), momentum, *arrays)
        case "blocks_grad":
            weights = as_jax(blocks_weights(workload.size))
            gradient = jax.jit(jax.grad(partial(blocks, workload.size)))
            # as PyTorch and MindSpore keep it, [out, in]
            return lambda: gradient(weights, *arrays)["blocks.0.up.weight"].T
        case "lstm":
            function = jax.jit(lstm)
        case "lstm_grad":
            gradient = jax.jit(jax.grad(lambda *a: (lstm(*a) ** 2).mean(), (1, 2, 3)))
            return lambda: gradient(*arrays)[1]
        case "pendulums":
            function = jax.jit(pendulums)
        case "pendulums_grad":
            function = jax.jit(jax.grad(lambda q, p: (pendulums(q, p) ** 2).sum()))
        case "rows_grad":
            function = jax.jit(jax.grad(rows))
        case kind if kind in LOOPS:
            if kind not in JAX_LOOPS:
                return None
            jax.config.update("jax_enable_x64", True)
            function, arguments = jax.jit(JAX_LOOPS[kind]), LOOPS[kind]
            return lambda: function(*arguments)
        case "sine_grad":       # by a scan, whose number of rounds is fixed when it is compiled
            jax.config.update("jax_enable_x64", True)
            function, (x, count) = jax.jit(jax.grad(sine_scanned), static_argnums=1), LOOPS["sine"]
            return lambda: function(x, count)
        case _:
            return None
    return lambda: function(*arrays)


def lstm(x, w, u, b):
    """A Python loop, which JAX unrolls."""
    h = c = jnp.zeros((x.shape[1], u.shape[0]), x.dtype)
    outputs = []
    for t in range(x.shape[0]):
        i, f, g, o = jnp.split(x[t] @ w + h @ u + b, 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        outputs.append(h)
    return jnp.stack(outputs)


def pendulums(q, p):
    def step(_, state):
        q, p = state
        p = p - 0.01 * jnp.sin(q)
        return q + 0.01 * p, p

    return jax.lax.fori_loop(0, PENDULUM_STEPS, step, (q, p))[0]


def rows(x):
    step = jax.lax.scan(lambda h, row: (jnp.tanh(h * 0.9 + row), None), jnp.zeros(8, x.dtype), x)
    return step[0].sum()


def newton(first, count):
    def root(k, total):
        x = first + 0.001 * k
        y = jax.lax.while_loop(lambda y: jnp.abs(y * y - x) > 1e-12 * x,
                               lambda y: 0.5 * (y + x / y), x)
        return total + y

    return jax.lax.fori_loop(0, count, root, 0.0)


def sine(x, count):
    return jax.lax.fori_loop(0, count, lambda i, x: x * 0.999999 + 1e-6 * jnp.sin(x), x)


def sine_scanned(x, count):
    return jax.lax.scan(lambda x, _: (x * 0.999999 + 1e-6 * jnp.sin(x), None), x, None, count)[0]


def euler(y, count):
    def goes_on(state):
        y, v, i = state
        return (i < count) & ((i == 0) | (y * y + v * v >= 1e-3))

    def step(state):
        y, v, i = state
        return y + 0.001 * v, v - 0.001 * (y + 0.1 * v), i + 1

    return jax.lax.while_loop(goes_on, step, (y, 0.0, 0))[0]


JAX_LOOPS = {"newton": newton, "sine": sine, "euler": euler}


def as_jax(weights):
    """Dense weights as [in, out], convolutions as HWIO: the forms JAX's own libraries use."""
    made = {}
    for name, array in weights.items():
        if array.ndim == 2:
            array = array.T
        elif array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        made[name] = jnp.asarray(np.ascontiguousarray(array))
    return made


def dense(w, name, x):
    return x @ w[f"{name}.weight"] + w[f"{name}.bias"]


def mlp(w, x):
    x = jax.nn.relu(dense(w, "fc1", x))
    return dense(w, "fc3", jax.nn.relu(dense(w, "fc2", x)))


def blocks(count, w, x):
    for i in range(count):
        name = f"blocks.{i}"
        y = x - x.mean(-1, keepdims=True)
        y = y / jnp.sqrt((y * y).mean(-1, keepdims=True) + 1e-5)
        y = y * w[f"{name}.norm.gamma"] + w[f"{name}.norm.beta"]
        y = jax.nn.gelu(dense(w, f"{name}.up", y), approximate=False)
        x = x + dense(w, f"{name}.down", y)
    return (x * x).mean()


def conv(w, name, x, padding):
    numbers = ("NHWC", "HWIO", "NHWC")
    kernel = w[f"{name}.weight"]
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=numbers)
    return y + w[f"{name}.bias"]


def max_pool(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def lenet(w, x):
    x = x.transpose(0, 2, 3, 1)
    x = max_pool(jax.nn.relu(conv(w, "conv1", x, "SAME")))
    x = max_pool(jax.nn.relu(conv(w, "conv2", x, "VALID")))
    x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
    x = jax.nn.relu(dense(w, "fc1", x))
    return dense(w, "fc3", jax.nn.relu(dense(w, "fc2", x)))


def adam(w, grads, state, b1=0.9, b2=0.999, eps=1e-8):
    t, m, v = state if state else (jnp.float32(0), zeros_like(w), zeros_like(w))
    t = t + 1
    m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, grads)
    v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, v, grads)
    rate, scale = ADAM_RATE / (1 - b1**t), 1 / jnp.sqrt(1 - b2**t)
    w = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) * scale + eps), w, m, v)
    return w, (t, m, v)


def momentum(w, grads, state):
    state = jax.tree.map(lambda v, g: MOMENTUM * v + g, state or zeros_like(w), grads)
    return jax.tree.map(lambda w, v: w - MOMENTUM_RATE * v, w, state), state


def zeros_like(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def training(net, weights, optimiser, x, labels):
    def loss_of(w, x, labels):
        picked = jnp.take_along_axis(jax.nn.log_softmax(net(w, x)), labels[:, None], 1)
        return -picked.mean()

    @partial(jax.jit, donate_argnums=(0, 1))
    def train(w, state, x, labels):
        loss, grads = jax.value_and_grad(loss_of)(w, x, labels)
        return loss, *optimiser(w, grads, state)

    start = (jnp.float32(0), zeros_like(weights), zeros_like(weights))
    held = [weights, start if optimiser is adam else zeros_like(weights)]

    def step():
        loss, held[0], held[1] = train(*held, x, labels)
        return loss

    return step
