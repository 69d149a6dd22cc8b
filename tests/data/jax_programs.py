"""Programs of transforms that mean the same in JAX and in cellc: `m` is either library.

`make_jax_expected.py` records what JAX gives; `tests/ops/test_against_jax.py` compares.
"""

import numpy as np

X = np.linspace(-1.5, 2.0, 6).reshape(2, 3)
V = np.cos(np.arange(6.0)).reshape(2, 3)
W = np.sin(np.arange(12.0)).reshape(3, 4)
P = np.array([0.3, 1.7, 2.4, 0.9])


def layer(m, x, w):
    return m.tanh(m.matmul(x, w))


def energy(m, x):
    return m.sum(m.exp(-x * x) * m.sin(3.0 * x)) + m.sum(x) ** 3


def product(x):
    return x[0] * x[1] * x[1] + x[2] / x[3]


def forward(m, x, w, v):
    return m.jvp(lambda x: layer(m, x, w), (x,), (v,))


def forward_two(m, x, w, v):
    return m.jvp(lambda x, w: {"y": layer(m, x, w), "s": m.sum(w)}, (x, w), (v, w))


def backward(m, x, w):
    y, pull = m.vjp(lambda x, w: layer(m, x, w), x, w)
    return y, pull(y * 2.0)


def linear(m, x, w, v):
    y, lin = m.linearize(lambda x: layer(m, x, w), x)
    return y, lin(v), lin(v * 3.0)


def jacobian_forward(m, x, w):
    return m.jacfwd(lambda x, w: layer(m, x, w), argnums=(0, 1))(x, w)


def jacobian_backward(m, x, w):
    return m.jacrev(lambda x, w: (layer(m, x, w), m.sum(x)), argnums=(0, 1))(x, w)


def second(m, x):
    return m.hessian(lambda x: energy(m, x))(x)


def second_of_products(m, p):
    return m.hessian(product)(p), m.jacrev(m.jacfwd(product))(p)


def third(m, p):
    return m.jacfwd(m.jacrev(m.jacfwd(product)))(p)


def lanes_in_and_out(m, x, w):
    rows = m.vmap(lambda r, w: m.matmul(r, w), in_axes=(0, None), out_axes=1)(x, w)
    columns = m.vmap(lambda x, c: m.matmul(x, c), in_axes=(None, 1), out_axes=-1)(x, w)
    return rows, columns


def lanes_of_dicts(m, x, p):
    def one(d, k):
        return {"a": d["x"] * k, "b": m.sum(d["x"]) + d["p"]}

    return m.vmap(one, in_axes=({"x": 1, "p": None}, 0), out_axes={"a": 1, "b": 0})(
        {"x": x, "p": p}, p[1:])


def lanes_of_lanes(m, x, v):
    return m.vmap(m.vmap(lambda a, b: m.sum(a * b), (None, 0)), (0, None))(x, v)


def per_example(m, x, w):
    return m.vmap(m.grad(lambda w, x: m.sum(layer(m, x, w) ** 2)), in_axes=(None, 0))(w, x)


def gradient_of_lanes(m, x):
    return m.grad(lambda x: m.sum(m.vmap(lambda r: energy(m, r) ** 2)(x)))(x)


def hessian_vector(m, x, v):
    return m.jvp(m.grad(lambda x: energy(m, x)), (x,), (v,))[1]


def lanes_of_hessians(m, x):
    return m.vmap(m.hessian(lambda r: energy(m, r)))(x)


def with_aux(m, x):
    def f(x):
        return energy(m, x), x * 2.0

    value, pull, aux = m.vjp(f, x, has_aux=True)
    return value, pull(1.0), aux, m.jacrev(f, has_aux=True)(x)


PROGRAMS = {
    forward: (X, W, V), forward_two: (X, W, V), backward: (X, W), linear: (X, W, V),
    jacobian_forward: (X, W), jacobian_backward: (X, W), second: (X,), second_of_products: (P,),
    third: (P,), lanes_in_and_out: (X, W), lanes_of_dicts: (X, P), lanes_of_lanes: (X, V),
    per_example: (X, W), gradient_of_lanes: (X,), hessian_vector: (X, V), lanes_of_hessians: (X,),
    with_aux: (X,),
}


def structured(value, leaf):
    """The value with `leaf` of each array, in plain lists and dicts."""
    if isinstance(value, dict):
        return {key: structured(x, leaf) for key, x in value.items()}
    if isinstance(value, (tuple, list)):
        return [structured(x, leaf) for x in value]
    return leaf(value)
