"""Strings of values known only when the program runs: however they are spelt, what is printed and
raised is what Python prints and raises."""

import contextlib
import io
from dataclasses import dataclass

import pytest
from same import in_mode

import cellc
from cellc import context, ops
from cellc.errors import CellcError


@dataclass
class Point:
    a: object
    b: object


def percent(x, n):
    print("%d and %.2f" % (n, x), "%s" % x, "%(k)s" % {"k": n}, "%5d|" % n, "%*d" % (5, n))
    print("%s" % [n, x], "%r" % ((n, x),), "%s has %d" % ("a", n))


def formats(x, n):
    print("{} {:.2f} {k!r:>8}".format(n, x, k=n), format(x, ".3f"), "{0[n]}".format({"n": n}))
    print(f"{(n, x)} {n:>4} {x!r}", f"{n}" f"{x:+.1f}")


def plain(x, n):
    print(str(n), repr(x), str(x) + "!", "a" + str(n) + "b", str([n, x]), str({"n": n}))
    said = "n=" + str(n)
    said += f" x={x}"
    print(said, sep=str(n))


def joined(x, n):
    print(", ".join([str(n), f"{x:.1f}", "k"]), "-".join(str(n + i) for i in range(3)))
    print(str(n).join(["a", "b"]))


def methods(x, n):
    said = str(n) * 2 + 3 * f"{x} " + "-" * 3
    print(said.strip().upper(), str(n).rjust(5), str(x).replace(".", ","), str(n).zfill(4))
    print((f"{n}" + " of {}").format(x), (str(n) + "%d") % n)


def grown(x, n):
    said = ""
    for i in range(3):
        said = said + f"{n + i} "
    print(said.rstrip())


def tensors(x, n):
    t = ops.ones((2,)) * x
    print("%s" % t, str(t), f"{t}", "t=" + str(t), "{!r}".format(t), f"{Point(t[0], n)}")


def snapshots(x, n):
    held, point, t = [x], Point(n, [n]), ops.ones((2,)) * x
    before = str(held), f"{point.b}", str(point), "%s" % t
    held.append(1.0)
    point.a = 2
    point.b.append(n)
    t[0] = 9.0
    print(*before, held, point, t)


def in_branches(x, n):
    if x > 1.0:
        print("more: " + str(x))
    else:
        print("less: %s" % x)
    for i in range(n):
        print("round %d of " % i + str(n))


PRINTED = [percent, formats, plain, joined, methods, grown, tensors, snapshots, in_branches]


def raises_percent(x, n):
    if x > 0:
        raise ValueError("bad %d" % n)


def raises_sum(x, n):
    raise KeyError("bad " + str(n), n)


def raises_joined(x, n):
    if x > 0:
        raise RuntimeError("; ".join([str(x), str(n)]).upper())


def asserts(x, n):
    assert x < 0, "bad " + "{}".format(n)


RAISED = [raises_percent, raises_sum, raises_joined, asserts]


def outcome(fn, *args):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            fn(*args)
        except Exception as error:
            return printed.getvalue(), error
    return printed.getvalue(), None


@pytest.mark.parametrize("fn", PRINTED + RAISED, ids=lambda fn: fn.__name__)
def test_as_python_has_it(fn):
    compiled = cellc.jit(fn)
    for args in ((1.5, 3), (0.25, 1)):
        printed, error = in_mode(context.PYNATIVE_MODE, outcome, (fn, *args))
        found, raised = outcome(compiled, *args)
        assert found == printed
        assert (error is None) == (raised is None) == (fn in PRINTED), raised
        if isinstance(error, AssertionError):
            assert isinstance(raised, AssertionError) and str(error).split("\n")[0] in str(raised)
        elif error is not None:
            assert (type(raised), raised.args) == (type(error), error.args)


def length(x):
    return len(str(x))


def equal(x):
    return 1.0 if str(x) == "1.0" else 2.0


def parts(x):
    return f"{x} a".split()[1]


def truth(x):
    return 1.0 if str(x) else 2.0


def found(x):
    return "1" in str(x)


@pytest.mark.parametrize("fn", [length, equal, parts, truth, found], ids=lambda fn: fn.__name__)
def test_what_would_look_at_them_is_refused(fn):
    with pytest.raises(CellcError) as caught:
        cellc.jit(fn)(1.0)
    assert caught.value.loc.line == fn.__code__.co_firstlineno + 1
    assert "known only when the program runs" in str(caught.value), str(caught.value)
