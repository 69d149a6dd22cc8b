"""try, except, else, finally and raise on what is known while compiling."""

import contextlib

import pytest
from same import assert_same, f32, gradient_agrees, in_mode, parse, same_everywhere

import cellc
from cellc import Tensor, context, nn, ops
from cellc.errors import CellcError, ShapeFault


class Own(Exception):
    def __init__(self, code, text="own"):
        super().__init__(text)
        self.code = code


class Special(Own):
    pass


def fail(kind, *args):
    raise kind(*args)


@same_everywhere((f32(3),))
def test_what_is_raised_and_caught(x):
    log = []
    for kind, args in ((ValueError, ("v",)), (Own, (3,)), (Special, (4, "s")), (KeyError, ("k",))):
        try:
            fail(kind, *args)
            log.append("not reached")
        except Special as error:
            log.append(("special", error.code, str(error)))
        except (Own, ValueError) as error:
            log.append((type(error).__name__, error.args))
        except Exception as error:
            log.append(("other", str(error), isinstance(error, LookupError)))
        else:
            log.append("not reached either")
    return x * len(log), log


@same_everywhere((f32(3),))
def test_what_python_raises(x):
    log = []

    def attempt(work):
        try:
            log.append(work())
        except (KeyError, IndexError) as error:
            log.append(("lookup", type(error).__name__))
        except ZeroDivisionError as error:
            log.append(str(error))
        except (ValueError, TypeError, AttributeError, AssertionError) as error:
            log.append(type(error).__name__)
        except StopIteration as error:
            log.append(("stop", error.value))

    def asserts(n):
        assert n > 0, "positive"
        return n

    def unpack():
        a, b = [1, 2, 3]
        return a + b

    attempt(lambda: {"a": 1}["b"])
    attempt(lambda: [1][3])  # noqa: PLE0643
    attempt(lambda: 1 // 0)
    attempt(lambda: 1.0 % 0)
    attempt(lambda: int("three"))
    attempt(lambda: (1).nothing)
    attempt(lambda: next(iter([])))
    attempt(lambda: asserts(0))
    attempt(lambda: asserts(2))
    attempt(lambda: [1].index(2))
    attempt(unpack)
    attempt(lambda: {}.pop("a"))
    attempt(lambda: float("x"))
    attempt(lambda: "a" + 1)
    return x, log


@same_everywhere((f32(3),))
def test_the_exception_is_pythons_own(x):
    try:
        {"a": 1}["b"]
    except KeyError as error:
        first = error.args, str(error), type(error) is KeyError
    try:
        [][0]  # noqa: PLE0643
    except IndexError as error:
        second = str(error)
    return x, first, second


@same_everywhere((f32(3), 1), (f32(3), 0))
def test_else_and_finally(x, _):
    log = []

    def f(n):
        try:
            log.append("body")
            if n == 0:
                raise ValueError
            if n == 1:
                return "returned"
        except ValueError:
            log.append("except")
        else:
            log.append("else")
            return "from else"
        finally:
            log.append("finally")
        return "after"

    return x, [f(0), f(1), f(2)], log


@same_everywhere((f32(3),))
def test_finally_and_ways_out_of_loops(x):
    log = []
    for i in range(5):
        try:
            if i == 1:
                continue
            if i == 3:
                break
            log.append(i)
        finally:
            log.append(-i)

    def overrides():
        for _ in range(2):
            try:
                return "body"
            finally:
                break
        return "after"

    def returns():
        try:
            raise KeyError("lost")
        finally:
            return "finally"

    return x, log, overrides(), returns()


@same_everywhere((f32(3),))
def test_raise_again_and_from(x):
    log = []
    try:
        try:
            raise ValueError("first")
        except ValueError as error:
            log.append(str(error))
            raise
    except ValueError as error:
        log.append(("again", str(error)))
    try:
        try:
            raise KeyError("k")
        except KeyError as error:
            raise Own(5) from error
    except Own as error:
        log.append((error.code, type(error.__cause__).__name__))
    try:
        try:
            raise KeyError("k")
        except KeyError:
            raise Own(6)
    except Own as error:
        log.append(type(error.__context__).__name__)
    try:
        try:
            raise KeyError("outer")
        finally:
            log.append("passing")
    except LookupError as error:
        log.append(error.args[0])
    return x, log


@same_everywhere((f32(3),))
def test_nested_handlers_and_scopes(x):
    found = None
    error = "kept"
    try:
        try:
            raise Own(1)
        except KeyError:
            found = "wrong"
        finally:
            found = "inner"
    except Own as own:
        found = (found, own.code)
    try:
        pass
    except ValueError as error:  # noqa: F841
        pass
    return x, found, error


@same_everywhere((f32(3), 1.0), (f32(3), -1.0))
def test_traced_branches_in_a_try(x, s):
    log = []
    try:
        if s > 0:
            y = x * 2
        else:
            y = x * 3
        y = y + {"a": 1}["b"]
    except KeyError:
        y = y + 10
    finally:
        log.append(1)
    return y, log


@same_everywhere((f32(3), 1.0), (f32(3), -1.0), (f32(3), 7.0))
def test_return_under_a_traced_condition(x, s):
    log = [0.0]

    def f(v):
        try:
            if v > 5:
                return v * 2
            elif v > 0:
                v = v + 1
            log[0] = log[0] + v
        except ValueError:
            return 100.0
        else:
            v = v * 3
        finally:
            log[0] = log[0] + 50
        log[0] = log[0] + 1000
        return v

    return f(s), log[0], f(s * 2), log[0], x


@same_everywhere((1.0,), (-1.0,), (0.25,))
def test_ways_out_of_a_loop_under_a_traced_condition(s):
    count, total = 0.0, 0.0
    for i in range(3):
        try:
            if s > 0.5:
                continue
            if s < 0:
                total = total + 1
                break
            total = total + i
        finally:
            count = count + 1
        total = total + 10
    return count, total


@same_everywhere((1.0,), (-1.0,))
def test_a_try_within_a_traced_branch(s):
    if s > 0:
        try:
            y = s * {"a": 2.0}["b"]
        except KeyError:
            y = s * 3
        try:
            raise Own(1)
        except Own as error:
            y = y + error.code
    else:
        y = s
    return y


@same_everywhere((1.0,), (-1.0,))
def test_what_follows_a_try_is_not_in_it(s):
    found = 1.0
    try:
        if s > 0:
            return found
    except KeyError:
        return 3.0
    try:
        {}["b"]
    except KeyError:
        found = found * 2
    return found


class Guarded(nn.Cell):
    def __init__(self, table):
        super().__init__()
        self.table = table

    def construct(self, x, key):
        try:
            return x * self.table[key]
        except KeyError:
            raise Own(9) from None


NET = Guarded({"a": 2.0})


@same_everywhere((f32(3),))
def test_exceptions_out_of_cells(x):
    try:
        y = NET(x, "missing")
    except Own as error:
        y = NET(x, "a") * error.code
    return y


@same_everywhere((f32(2, 3),))
def test_faults_of_tensors_by_their_class(x):
    found = []
    try:
        y = x @ x
    except ValueError:
        y = x @ x.T
    try:
        x + ops.ones((7,), x.dtype)
    except ShapeFault:
        found.append("shape")
    try:
        x.nothing
    except AttributeError:
        found.append("attribute")
    return y, found


@same_everywhere((2.0, 1.0), (0.5, 1.0), (0.5, -1.0))
def test_a_block_left_by_branches_within_branches(a, b):
    total = 0.0
    for _ in range(1):
        try:
            match a:
                case 2.0 | -1.0:
                    break
                case m if b > m:
                    total = total + 10
                case _:
                    continue
        finally:
            total = total + 1
    return total


@same_everywhere(*((s,) for s in (1.0, -1.0)))
def test_a_finally_with_a_way_out_of_its_own(s):
    total = s
    for _ in range(2):
        try:
            if s > 0:
                continue
            return -1.0
        finally:
            total = total + 1
            break
    for _ in range(2):
        try:
            if s > 0:
                return total
        finally:
            total = total + 10
            continue
    return total


@same_everywhere((1.0,), (-1.0,))
def test_state_changed_before_an_exception_stays_changed(s):
    xs = [0.0, 0.0]
    n = 0
    try:
        while n < 2:
            n += 1
            if s > 0:
                xs[0] = xs[0] + s
            try:
                xs[1] = xs[1] + 1
                if n == 2:
                    {}["k"]
            finally:
                xs[1] = xs[1] * 2
    except LookupError:
        xs[0] = xs[0] + 100
    return xs, n


@same_everywhere((1.0,), (-1.0,), (9.0,))
def test_exceptions_of_one_branch_are_caught_in_it(s):
    log = [0.0]

    def f(v):
        try:
            v = v + 1
            if v > 5:
                raise Own(3)
            if v > 1:
                v = v * {"a": 2.0}["b"]
            log[0] = log[0] + 1
        except KeyError:
            v = v - 100
        except Own as error:
            return v * error.code
        else:
            v = v + 1000
        finally:
            log[0] = log[0] * 2 + 0.5
        return v + 0.25

    with contextlib.suppress(Own):
        if s > 0:
            raise Own(1)
        log[0] = log[0] + 7
    return f(s), log[0]


@same_everywhere((1.0,), (-1.0,), (0.25,))
def test_exceptions_of_one_branch_in_loops(s):
    total = 0.0
    for i in range(12):
        try:
            if i * s > 6:
                break
            if i > 3:
                if s < 0:
                    raise Own(i)
            total = total + i
            {}["k"]
        except KeyError:
            total = total + 0.5
        except Own as error:
            total = total + error.code * 10
            continue
        finally:
            total = total + 0.125
        total = total * 1.5
    return total


def test_gradients_through_what_is_caught():
    def f(x, s):
        try:
            if s > 0:
                raise Own(2)
            y = x * x
        except Own as error:
            y = x ** (error.code + 1)
        return y.sum()

    for s in (1.0, -1.0):
        gradient_agrees(f, f32(3), s)


def raises(x, limit):
    """What the running program raises, though there are blocks that only matter to the compiler."""
    def values():
        yield x
        if x.sum() > limit:
            raise Own(int(3), "too much")
        yield x * 2

    with cellc.no_grad():
        total = sum(values())
    try:
        if total.sum() > limit * 5:
            try:
                raise KeyError("inner")
            except KeyError as error:
                raise Special(4, "far too much") from error
    except ZeroDivisionError:
        total = total + 1
    return total


def test_exceptions_of_the_running_program():
    compiled = cellc.jit(raises)
    x = Tensor([1.0, 2.0])
    for mode in (context.PYNATIVE_MODE, context.GRAPH_MODE):
        call = compiled if mode == context.GRAPH_MODE else raises
        assert_same(in_mode(mode, call, (x, 5.0)), x * 3)
        with pytest.raises(Own, match="^too much"):
            in_mode(mode, call, (x, 2.0))
        with pytest.raises(Special, match="far too much"):
            in_mode(mode, call, (x * -1, -2.0))


def caught_when_run(x):
    try:
        assert x.sum() > 0
    except AssertionError:
        return x
    return x * 2


def function_when_run(x):
    def f(v):
        if v.sum() > 0:
            raise Own(1)
        return v

    try:
        return f(x)
    except Own:
        return x * 2


@pytest.mark.parametrize("fn, kind", [
    (caught_when_run, "AssertionError"), (function_when_run, "Own")],
    ids=lambda v: getattr(v, "__name__", ""))
def test_what_only_the_program_raises_is_not_caught(fn, kind):
    with pytest.raises(CellcError, match=f"whether {kind} is raised here") as info:
        parse(fn, f32(3))
    assert info.value.hint and info.value.loc.file == __file__


def test_gradients():
    def f(x):
        total = 0.0
        for key in "abc":
            try:
                total = total + x * {"a": 2.0, "c": x}[key]
            except KeyError:
                total = total * x
            finally:
                total = total + x
        return total.sum()

    gradient_agrees(f, f32(3))


def broad(x):
    try:
        return x @ ops.ones((7, 7), x.dtype)
    except Exception:
        return x


def own_limits(x):
    try:
        return [x, (x,)][x.sum().astype("int32")]
    except Exception:
        return x


def crossing(x):
    def f(v):
        return v * {}["a"] if v.sum() > 0 else v

    try:
        return f(x)
    except KeyError:
        return x * 2


def raise_alone(x):
    raise  # noqa: PLE0704


def no_class(x):
    try:
        raise ValueError
    except 3:
        return x


def groups(x):
    try:
        return x
    except* ValueError:
        pass


REFUSED = [
    (broad, ShapeFault, "x @ ops", "(7, 7)"), (own_limits, TypeError, "[x, (x,)]", "is indexed by"),
    (crossing, TypeError, '{}["a"]', "whether KeyError is raised here"),
    (raise_alone, SyntaxError, "raise", "nothing to raise again"),
    (no_class, TypeError, "3", "expected an exception class"),
    (groups, SyntaxError, "try", "`try ... except*` is not taken"),
]


@pytest.mark.parametrize("fn, kind, at, words", REFUSED, ids=lambda v: getattr(v, "__name__", ""))
def test_refusals(fn, kind, at, words):
    with pytest.raises(kind) as info:
        parse(fn, f32(3))
    fault = info.value
    assert isinstance(fault, CellcError) and words in str(fault), str(fault)
    line = open(__file__).read().splitlines()[fault.loc.line - 1]
    assert line[fault.loc.col - 1:].startswith(at), line
    assert fn.__code__.co_firstlineno < fault.loc.line < fn.__code__.co_firstlineno + 8


def test_uncaught_exceptions_come_out_with_their_place():
    def f(x):
        try:
            raise Own(1)
        finally:
            x = x + 1

    with pytest.raises(Own) as info:
        parse(f, f32(3))
    assert any("raised at" in note and "raise Own(1)" in note for note in info.value.__notes__)
    assert info.value.__context__ is None
