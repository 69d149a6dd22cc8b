"""Record what JAX gives for `jax_programs.py`: `python -m tests.data.make_jax_expected`, with JAX.

Written into `jax_expected.json`: for each program its results, nested as they are, each array as
its shape and its numbers.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from tests.data.jax_programs import PROGRAMS, structured

PLACE = Path(__file__).with_name("jax_expected.json")


def library():
    functions = (jax.jvp, jax.vjp, jax.linearize, jax.jacfwd, jax.jacrev, jax.hessian, jax.vmap,
                 jax.grad, jnp.tanh, jnp.matmul, jnp.sum, jnp.exp, jnp.sin)
    return SimpleNamespace(**{f.__name__: f for f in functions})


def recorded(x):
    x = np.asarray(x, np.float64)
    return {"shape": list(x.shape), "numbers": [float(v) for v in x.reshape(-1)]}


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    m = library()
    found = {program.__name__: structured(program(m, *map(jnp.asarray, args)), recorded)
             for program, args in PROGRAMS.items()}
    PLACE.write_text(json.dumps({"jax": jax.__version__, "results": found}, indent=1) + "\n",
                     encoding="utf-8")
