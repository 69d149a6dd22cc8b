"""Prints, checks, raises, assignments of Parameters in branches and loops: in order, and once."""

import numpy as np
import pytest
from same import in_mode, parse, run_traced

import cellc
from cellc import Parameter, Tensor, context, nn, ops
from cellc.errors import AssertionFault, CellcError, IndexFault


def transcript(run, *args, capsys):
    """What a call prints and gives: a value, or the kind and text of its error."""
    capsys.readouterr()
    try:
        found = run(*args)
    except AssertionError as error:
        text = error.message if isinstance(error, CellcError) else str(error)
        found = "AssertionError", text.split("\n")[0]      # pytest adds to those of this file
    except Exception as error:
        found = type(error).__name__, str(error)
    return found, capsys.readouterr().out


def printed_in_loops(x, n):
    print("start", n)
    for i in range(n):
        if i % 2 == 0:
            print("even", i, x > 1.0, sep="-")
        else:
            print("odd", f"{i:03d} {x:.2f}", end=";\n")
        x = x * 1.25
    else:
        print("done")
    return x


def printed_with_formats(x, n):
    print(f"{x:8.3f}|{x:+.1e}|{n:>5}|{n:x}|{x!r}|{n}", True, None, n == 3, (n, x))
    print("{:.1f} and {}".format(x, n))
    return x


def printed_in_order_with_a_raise(x, n):
    for i in range(n):
        print("round", i)
        if i == 3:
            print("raising")
            raise ValueError(f"at {i}: {n}")
    print("end")
    return x


def asserted_in_a_loop(x, n):
    for i in range(n):
        print(i)
        assert i < 4, f"{i} is too large, of {n}"
    return x


def asserted_in_a_branch(x, n):
    if n > 2:
        assert x > 1.0, "x is small"
        print("fine")
    return x


def raised_after_all(x, n):
    print("before", n)
    if n > 2:
        raise KeyError("large")
    raise ValueError(f"small {n}")


def helper(x, n):
    if n > 3:
        raise ValueError("in the helper")
    raise TypeError("in the helper")


def raised_in_a_helper(x, n):
    if n > 0:
        x = x + helper(x, n)
    return x


def raised_from_the_test(x, n):
    while x < 3 and (n > 0 or helper(x, n)):
        print(n)
        x = x + 1
        n -= 1
    return x


@pytest.mark.parametrize("n", [0, 1, 3, 5, 12])
@pytest.mark.parametrize("program", [
    printed_in_loops, printed_with_formats, printed_in_order_with_a_raise, asserted_in_a_loop,
    asserted_in_a_branch, raised_after_all, raised_in_a_helper, raised_from_the_test],
    ids=lambda f: f.__name__)
def test_effects(program, n, capsys):
    compiled = cellc.jit(program)
    traced = parse(program, 1.0, 3)[0]
    for x in (0.5, 1.5):
        expected = transcript(in_mode, context.PYNATIVE_MODE, program, (x, n), capsys=capsys)
        assert transcript(compiled, x, n, capsys=capsys) == expected
        assert transcript(run_traced, traced, (x, n), capsys=capsys) == expected


def test_what_is_printed_of_tensors(capsys):
    def program(x, n):
        for i in range(n):
            print(x, x.sum(), x.shape)
            x = x * 2
        return x

    x = Tensor(np.array([[1.0, 2.0]], np.float32))
    expected = transcript(program, x, 12, capsys=capsys)[1]
    assert transcript(cellc.jit(program), x, 12, capsys=capsys)[1] == expected


def test_a_failed_check_names_its_line():
    def program(x, n):
        for i in range(n):
            assert i < 10, "too many"
        return x

    with pytest.raises(AssertionFault) as caught:
        cellc.jit(program)(1.0, 20)
    line = program.__code__.co_firstlineno + 2
    assert f"{__file__}:{line}:" in str(caught.value)
    assert 'assert i < 10, "too many"' in str(caught.value)


@pytest.mark.parametrize("bad", [12, -5, 1 << 40])
def test_an_index_error_in_a_loop_names_its_line(bad):
    def program(x, n, bad):
        total = 0.0
        for i in range(n):
            k = bad if i == 7 else i % 4
            total = total + float(x[k])
        return total

    x = Tensor(np.arange(4.0))
    compiled = cellc.jit(program)
    assert compiled(x, 10, 3) == program(x, 10, 3)
    with pytest.raises(IndexFault) as caught:
        compiled(x, 10, bad)
    line = program.__code__.co_firstlineno + 4
    assert f"{__file__}:{line}:" in str(caught.value), str(caught.value)
    with pytest.raises(IndexError):
        program(x, 10, bad)


def test_an_index_error_of_a_write_in_a_loop():
    def program(x, n, bad):
        x = x.copy()
        for i in range(n):
            x[bad if i == 7 else i % 4] = 1.0
        return x

    compiled = cellc.jit(program)
    assert compiled(Tensor(np.arange(4.0)), 10, 0).asnumpy().tolist() == [1.0] * 4
    with pytest.raises(IndexFault) as caught:
        compiled(Tensor(np.arange(4.0)), 10, 4)
    assert f"{__file__}:{program.__code__.co_firstlineno + 3}:" in str(caught.value)


# -- Parameters ------------------------------------------------------------------------------------

class Counter(nn.Cell):
    def __init__(self):
        super().__init__()
        self.count = Parameter(Tensor(np.float32(0.0)), name="count")
        self.total = Parameter(Tensor(np.zeros(2, np.float32)), name="total")

    def construct(self, x, n):
        for i in range(n):
            self.count += 1
            if i % 3 == 0:
                self.total = self.total + x
            elif i % 3 == 1:
                ops.assign(self.total, self.total * 0.5)
            else:
                continue
            if self.count > 20:
                break
        if n > 4:
            self.total -= 1
        return self.total * self.count


@pytest.mark.parametrize("n", [0, 1, 2, 5, 30])
def test_parameters_assigned_in_loops(n):
    x = Tensor(np.array([1.0, -2.0], np.float32))
    found = []
    for mode in (context.PYNATIVE_MODE, context.GRAPH_MODE):
        cell = Counter()
        results = [in_mode(mode, cell, (x, n)).asnumpy() for _ in range(2)]
        found.append([*results, cell.count.asnumpy(), cell.total.asnumpy()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_failed_call_leaves_parameters_as_they_were():
    class Failing(nn.Cell):
        def __init__(self):
            super().__init__()
            self.p = Parameter(Tensor(np.ones(3, np.float32)), name="p")

        def construct(self, n):
            for i in range(n):
                self.p = self.p * 2
                assert i < 4, "too many"
            return self.p.sum()

    cell = Failing()
    before = context.get_context("mode")
    context.set_context(mode=context.GRAPH_MODE)
    try:
        assert cell(2).item() == 12.0
        with pytest.raises(AssertionFault):
            cell(20)
        assert cell.p.asnumpy().tolist() == [4.0] * 3
    finally:
        context.set_context(mode=before)
