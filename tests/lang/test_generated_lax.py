"""Generated programs with statements that only Python can run: LAX against Python.

The programs of `test_generated` (branches, loops, early exits, try, with, match, generators, a list
that is changed on the way), with calls in between that no compiler takes, second names of the list,
and functions defined inside. Under LAX nothing is refused: values and exceptions are Python's.
"""

import json
import warnings

import numpy as np
import pytest
from test_generated import Guarded, Own, adding, half, steps

import cellc
from cellc import Tensor, context


class Divided(Guarded):
    """A program in which Python has to run something, at the top of the body or deep inside."""

    def statement(self, depth, loops):
        pad, v = "    " * depth, self.random.choice("abc")
        kind = self.random.randrange(14 if depth == 1 else 40)
        if kind == 0:
            self.lines.append(f"{pad}{v} = opaque({self.expression()})")
        elif kind == 1:
            self.lines.append(f"{pad}touch(xs, {self.random.randrange(2)}, {self.expression()})")
        elif kind == 2:
            self.lines.append(f"{pad}ys = xs")
            self.lines.append(f"{pad}ys[{self.random.randrange(2)}] = opaque({self.expression()})")
        elif kind == 3:
            self.lines.append(f"{pad}def g(y): return y + {v} * xs[1]")
            self.lines.append(f"{pad}{v} = g(opaque(xs[0]))")
        elif kind == 4:
            self.lines.append(f"{pad}xs = [opaque({v}), {self.number()}]")
        else:
            super().statement(depth, loops)


def opaque(x):
    return json.loads(json.dumps([float(x)]))[0] * 0.5


def touch(xs, i, v):
    xs[i] = json.loads(json.dumps(float(v))) + xs[1 - i]


@pytest.fixture(autouse=True)
def lax():
    context.set_context(mode=context.GRAPH_MODE, jit_syntax_level=context.LAX)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cellc.LaxWarning)
        yield


def result(fn, args):
    try:
        return fn(*args)
    except (Own, LookupError) as error:
        return error


KINDS = {"numbers": float, "tensors": lambda x: Tensor(np.float64(x))}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("seed", range(60))
def test_lax_equals_python(seed, kind, tmp_path):
    path = tmp_path / f"divided_{seed}.py"
    path.write_text("\n".join(Divided(seed).lines) + "\n")
    scope = {"half": half, "__name__": "generated", "Own": Own, "adding": adding, "steps": steps,
             "opaque": opaque, "touch": touch}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    jitted = cellc.jit(scope["f"])
    for numbers in ((0.5, -1.5, 2.0), (-1.0, 3.0, 0.25), (2.0, 0.1, -3.0)):
        args = tuple(map(kind, numbers))
        expected, found = result(scope["f"], args), result(jitted, args)
        if isinstance(expected, Exception):
            assert isinstance(found, type(expected)), f"{path.read_text()}\n{found!r}"
            continue
        assert not isinstance(found, Exception), f"{path.read_text()}\n{found}"
        assert [float(x) for x in found] == pytest.approx([float(x) for x in expected], rel=1e-9,
                                                          nan_ok=True), path.read_text()
