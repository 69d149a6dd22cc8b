"""The native entry: what matches, what comes back, what is counted, held and let go."""

import ctypes
import gc
import sys
import threading
import time
import tracemalloc
import weakref
from types import CellType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellc.kernels import engine, native_layout, runtime
from cellc.kernels.entry import (
    MISSING,
    ArgumentOut,
    AttributeGuard,
    BoolArg,
    BoolOut,
    CellGuard,
    DictGuard,
    Entry,
    EpochGuard,
    FloatArg,
    FloatOut,
    IgnoredArg,
    IntArg,
    IntOut,
    ItemsGuard,
    KnownArg,
    Lifted,
    ObjectOut,
    SequenceArg,
    Size,
    Symbol,
    TensorArg,
    TensorOut,
    TupleOut,
    VariantSpec,
    bump_epoch,
    epoch,
    epoch_address,
    register_tensor,
)

SHARED = object()


class Held:
    """A tensor class as the entry wants it: the array in a slot."""
    __slots__ = ("__weakref__", "_array", "extra", "unset")

    def __init__(self, array):
        self._array = np.asarray(array)


class SubHeld(Held):
    __slots__ = ()


# The programs. @fill writes 1, 2, 3... as floats into out 0, whose length is dims[0].
TEXT = """
declare i32 @usleep(i32)

define i32 @nothing(ptr %args, ptr %outs, ptr %dims, ptr %arena, ptr %error) {
  ret i32 0
}

define i32 @add4(ptr %args, ptr %outs, ptr %dims, ptr %arena, ptr %error) {
  %a = load ptr, ptr %args
  %at = getelementptr ptr, ptr %args, i64 1
  %b = load ptr, ptr %at
  %o = load ptr, ptr %outs
  %x = load <4 x float>, ptr %a, align 4
  %y = load <4 x float>, ptr %b, align 4
  %z = fadd <4 x float> %x, %y
  store <4 x float> %z, ptr %o, align 4
  ret i32 0
}

define i32 @echo(ptr %args, ptr %outs, ptr %dims, ptr %arena, ptr %error) {
  %x = load i64, ptr %args
  %o = load ptr, ptr %outs
  store i64 %x, ptr %o
  ret i32 0
}

define i32 @echo3(ptr %args, ptr %outs, ptr %dims, ptr %arena, ptr %error) {
  %v = load <3 x i64>, ptr %args, align 8
  %p = load <3 x ptr>, ptr %outs, align 8
  %o0 = extractelement <3 x ptr> %p, i64 0
  %o1 = extractelement <3 x ptr> %p, i64 1
  %o2 = extractelement <3 x ptr> %p, i64 2
  %v0 = extractelement <3 x i64> %v, i64 0
  %v1 = extractelement <3 x i64> %v, i64 1
  %v2 = extractelement <3 x i64> %v, i64 2
  store i64 %v0, ptr %o0
  store i64 %v1, ptr %o1
  store i64 %v2, ptr %o2
  ret i32 0
}

define i32 @fill(ptr %args, ptr %outs, ptr %dims, ptr %arena, ptr %error) {
entry:
  %n = load i64, ptr %dims
  %o = load ptr, ptr %outs
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  %p = getelementptr float, ptr %o, i64 %i
  %j = add i64 %i, 1
  %f = sitofp i64 %j to float
  store float %f, ptr %p
  %c = icmp slt i64 %j, %n
  br i1 %c, label %loop, label %done
done:
  ret i32 0
}

define i32 @arena(ptr %args, ptr %outs, ptr %dims, ptr %arena, ptr %error) {
  %o = load ptr, ptr %outs
  %a = ptrtoint ptr %arena to i64
  store i64 %a, ptr %o
  ret i32 0
}

define i32 @fail(ptr %args, ptr %outs, ptr %dims, ptr %arena, ptr %error) {
  %p = getelementptr i64, ptr %error, i64 7
  store i64 -5, ptr %error
  store i64 99, ptr %p
  ret i32 1
}

define i32 @sleep(ptr %args, ptr %outs, ptr %dims, ptr %arena, ptr %error) {
  %r = call i32 @usleep(i32 100000)
  ret i32 0
}

; writes its argument into the arena, dawdles, and fails unless it is still there
define i32 @mark(ptr %args, ptr %outs, ptr %dims, ptr %arena, ptr %error) {
entry:
  %x = load i64, ptr %args
  store i64 %x, ptr %arena
  %r = call i32 @usleep(i32 50)
  %y = load volatile i64, ptr %arena
  %c = icmp ne i64 %x, %y
  %s = zext i1 %c to i32
  ret i32 %s
}
"""


@pytest.fixture(scope="module", autouse=True)
def program():
    register_tensor(Held, "_array", {"extra": SHARED})
    register_tensor(SubHeld, "_array")
    loaded = engine.load(engine.compile_text(TEXT, 0, check=True))
    return loaded.address


class Missed(Exception):
    pass


def on_miss(*args, **kwargs):
    raise Missed(args, kwargs)


def on_error(spec, record):
    raise ArithmeticError(spec, record)


def entry_of(*specs):
    entry = Entry(on_miss, on_error)
    for spec in specs:
        entry.add(spec)
    return entry


def accepts(program, arg, *symbols, lifted=(), guards=()):
    """A call of one argument that answers whether it matched."""
    spec = VariantSpec([arg], ObjectOut("matched"), program("nothing"), lifted=lifted,
                       guards=guards, symbols=symbols)
    call = entry_of(spec).call

    def matches(value):
        try:
            return call(value) == "matched"
        except Missed:
            return False
    return matches


def held(*shape, dtype=np.float32):
    return Held(np.zeros(shape, dtype))


@pytest.fixture
def add(program):
    arg = TensorArg(np.float32, (4,), Held)
    return entry_of(VariantSpec([arg, arg], TensorOut(np.float32, (4,), Held), program("add4")))


# -- tensors ---------------------------------------------------------------------------------------
def test_tensors_in_a_tensor_out(add):
    result = add.call(Held(np.arange(4, dtype=np.float32)), Held(np.ones(4, np.float32)))
    assert type(result) is Held
    assert result._array.tolist() == [1, 2, 3, 4]
    assert result._array.dtype == np.float32 and result._array.flags.writeable
    assert result.extra is SHARED
    with pytest.raises(AttributeError):
        _ = result.unset


def test_arrays_in_an_array_out(program):
    arg = TensorArg(np.float32, (4,), np.ndarray)
    call = entry_of(VariantSpec([arg, arg], TensorOut(np.float32, (4,), np.ndarray),
                                program("add4"))).call
    result = call(np.ones(4, np.float32), np.ones(4, np.float32))
    assert type(result) is np.ndarray and result.tolist() == [2, 2, 2, 2]


def test_no_python_function_runs_in_a_matched_call(add):
    a, b, seen = held(4), held(4), []
    sys.setprofile(lambda frame, event, arg: seen.append((event, arg)))
    try:
        add.call(a, b)
    finally:
        sys.setprofile(None)
    events = [(event, arg) for event, arg in seen if arg is not sys.setprofile]
    assert [event for event, _ in events] == ["c_call", "c_return"]
    assert events[0][1] is add.call


class Array(np.ndarray):
    pass


def tensors_that_do_not_match():
    misaligned = np.zeros(4 * 4 + 1, np.uint8)[1:].view(np.float32)
    unset = object.__new__(Held)
    other = held(4)
    other._array = [0.0] * 4
    inherited = held(4)
    inherited._array = np.zeros(4, np.float32).view(Array)
    return {
        "dtype": held(4, dtype=np.float64),
        "same size": held(4, dtype=np.int32),
        "byte order": held(4, dtype=np.dtype(np.float32).newbyteorder()),
        "shape": held(5),
        "rank": held(4, 1),
        "no rank": held(),
        "strides": Held(np.zeros(8, np.float32)[::2]),
        "alignment": Held(misaligned),
        "subclass": SubHeld(np.zeros(4, np.float32)),
        "bare array": np.zeros(4, np.float32),
        "unset slot": unset,
        "slot of another kind": other,
        "array subclass": inherited,
        "None": None,
        "number": 4,
    }


@pytest.mark.parametrize("why", list(tensors_that_do_not_match()))
def test_a_tensor_of_another_kind_misses(program, why):
    matches = accepts(program, TensorArg(np.float32, (4,), Held))
    assert matches(held(4))
    assert not matches(tensors_that_do_not_match()[why])


def test_equivalent_dtypes_match(program):
    """C's long and long long are different dtypes of one kind; so is a second structured one."""
    longs = accepts(program, TensorArg(np.int64, (2,), Held))
    assert longs(held(2, dtype=np.dtype("l"))) and longs(held(2, dtype=np.dtype("q")))
    assert not longs(held(2, dtype=np.uint64))
    record = accepts(program, TensorArg(np.dtype([("bits", np.uint16)]), (2,), Held))
    assert record(held(2, dtype=np.dtype([("bits", np.uint16)])))
    assert not record(held(2, dtype=np.uint16))


def test_a_writable_argument_may_be_written(program):
    frozen = held(4)
    frozen._array.flags.writeable = False
    assert accepts(program, TensorArg(np.float32, (4,), Held))(frozen)
    matches = accepts(program, TensorArg(np.float32, (4,), Held, writable=True))
    assert matches(held(4)) and not matches(frozen)


def test_wrong_count_and_keywords_go_to_the_slow_path(add):
    a = held(4)
    for args, kwargs in [((), {}), ((a,), {}), ((a, a, a), {}), ((a,), {"b": a})]:
        with pytest.raises(Missed) as missed:
            add.call(*args, **kwargs)
        assert missed.value.args == (args, kwargs)


def test_the_slow_path_gives_the_result(program):
    entry = Entry(lambda *args, **kwargs: (args, kwargs), on_error)
    assert entry.call(1, x=2) == ((1,), {"x": 2})


# -- symbolic dimensions ---------------------------------------------------------------------------
def test_a_symbol_is_equal_wherever_it_occurs(program):
    n = Symbol(0)
    spec = VariantSpec([TensorArg("f4", (n, 3), Held), TensorArg("f4", (n, n), Held)],
                       ObjectOut(True), program("nothing"), symbols=(2,))
    call = entry_of(spec).call
    assert call(held(4, 3), held(4, 4)) and call(held(2, 3), held(2, 2))
    for first, second in [((4, 3), (4, 5)), ((4, 3), (5, 5)), ((4, 4), (4, 4)), ((1, 3), (1, 1))]:
        with pytest.raises(Missed):
            call(held(*first), held(*second))


def test_output_sizes_follow_the_symbols(program):
    n, m = Symbol(0), Symbol(1)
    dims = (n, Size.of(n, m, 2), Size(((1, (0,)), (-1, ())), divisor=2, offset=1),
            Size(((3, (0,)), (1, (1,)))), 5)
    spec = VariantSpec([TensorArg("f4", (n, m), Held)], TensorOut("i2", dims, np.ndarray),
                       program("nothing"), symbols=(0, 0))
    call = entry_of(spec).call
    for a, b in [(1, 1), (2, 3), (7, 4)]:
        assert call(held(a, b)).shape == (a, 2 * a * b, (a - 1) // 2 + 1, 3 * a + b, 5)
    assert call(held(0, 3)).shape == (0, 0, (0 - 1) // 2 + 1, 3, 5)


def test_a_program_is_told_the_symbols(program):
    spec = VariantSpec([TensorArg("f4", (Symbol(0),), Held)],
                       TensorOut("f4", (Symbol(0),), np.ndarray), program("fill"), symbols=(1,))
    call = entry_of(spec).call
    for n in (1, 10, 40_000):
        assert np.array_equal(call(held(n)), np.arange(1, n + 1, dtype=np.float32))


def test_a_spec_with_unknown_symbols_is_refused(program):
    x = TensorArg("f4", (Symbol(0),), Held)
    for args, out, symbols in [
            ([x], ObjectOut(None), ()), ([], ObjectOut(None), (0,)),
            ([x], TensorOut("f4", (Symbol(1),), Held), (0,))]:
        with pytest.raises(ValueError, match="symbol"):
            entry_of(VariantSpec(args, out, program("nothing"), symbols=symbols))


# -- scalars and known objects ---------------------------------------------------------------------
@pytest.mark.parametrize("value", [0.0, -2.5, 1e308, float("inf")])
def test_floats(program, value):
    call = entry_of(VariantSpec([FloatArg()], FloatOut(), program("echo"))).call
    assert call(value) == value
    for other in (1, True, np.float64(1.0), None):
        with pytest.raises(Missed):
            call(other)


@pytest.mark.parametrize("value", [0, -1, 10**9, 2**63 - 1, -(2**63)])
def test_ints(program, value):
    call = entry_of(VariantSpec([IntArg()], IntOut(), program("echo"))).call
    assert call(value) == value
    for other in (2**63, -(2**63) - 1, 10**40, 1.0, True, np.int64(1)):
        with pytest.raises(Missed):
            call(other)


def test_bools(program):
    call = entry_of(VariantSpec([BoolArg()], BoolOut(), program("echo"))).call
    assert call(True) is True and call(False) is False
    for other in (1, 0, None, np.True_):
        with pytest.raises(Missed):
            call(other)


def test_known_objects(program):
    big, nan, thing = 10**6, float("nan"), object()
    for known, same, others in [
            (None, [None], [0, False]), (thing, [thing], [object()]),
            (3, [3], [3.0, 4, True]), (big, [int("1000000")], [big + 1, 10**30]),
            (True, [True], [1, False]), (0.0, [0.0], [-0.0, 0, nan]), (nan, [nan], [1.0]),
            ("sum", ["sum", "".join(["s", "um"])], ["mean", "sun", b"sum"]),
            (10**30, [], [3]), (np.float32, [np.float32], [np.float64])]:
        matches = accepts(program, KnownArg(known))
        assert all(matches(value) for value in same), known
        assert not any(matches(value) for value in others), known


def test_an_ignored_argument_may_be_anything(program):
    matches = accepts(program, IgnoredArg())
    assert all(matches(value) for value in (None, 1, object(), held(3)))


@pytest.mark.parametrize("kind", [tuple, list])
def test_sequences(program, kind):
    arg = SequenceArg((IntArg(), SequenceArg((FloatArg(), BoolArg()), tuple)), kind)
    out = TupleOut((IntOut(), FloatOut(), BoolOut()))
    call = entry_of(VariantSpec([arg], out, program("echo3"))).call
    assert call(kind((7, (0.5, True)))) == (7, 0.5, True)
    wrong = list if kind is tuple else tuple
    for other in (wrong((7, (0.5, True))), kind((7,)), kind((7, (0.5, True), 1)),
                  kind((7, (0.5,))), kind((7, [0.5, True])), kind(()), None):
        with pytest.raises(Missed):
            call(other)


# -- lifted objects and guards ---------------------------------------------------------------------
def test_lifted_objects_are_looked_at_at_every_call(program):
    weight = Held(np.full(4, 2, np.float32))
    arg = TensorArg("f4", (4,), Held)
    call = entry_of(VariantSpec([arg], TensorOut("f4", (4,), Held), program("add4"),
                                lifted=[Lifted(weight, arg)])).call
    assert call(held(4))._array.tolist() == [2] * 4
    weight._array = np.full(4, 3, np.float32)
    assert call(held(4))._array.tolist() == [3] * 4
    weight._array = np.zeros(5, np.float32)
    with pytest.raises(Missed):
        call(held(4))


def test_the_epoch(program):
    matches = accepts(program, IgnoredArg(), guards=[EpochGuard()])
    assert matches(1)
    before = epoch()
    bump_epoch()
    assert not matches(1)
    assert not accepts(program, IgnoredArg(), guards=[EpochGuard(before)])(1)
    assert accepts(program, IgnoredArg(), guards=[EpochGuard(epoch())])(1)
    assert ctypes.c_int64.from_address(epoch_address()).value == epoch()


def test_dict_guards(program):
    names = {"there": SHARED}
    matches = accepts(program, IgnoredArg(), guards=[DictGuard(names, "there", SHARED),
                                                     DictGuard(names, "absent", MISSING)])
    assert matches(1)
    names["absent"] = 1
    assert not matches(1)
    del names["absent"]
    assert matches(1)
    names["there"] = object()
    assert not matches(1)
    del names["there"]
    assert not matches(1)


def test_items_guards(program):
    options = {"a": SHARED, "b": 2.5}
    matches = accepts(program, IgnoredArg(),
                      guards=[ItemsGuard(options, tuple(options.items()))])
    assert matches(1)
    options["c"] = 1
    assert not matches(1)
    del options["c"]
    assert matches(1)
    options["a"] = options.pop("a")                  # the same items in another order
    assert not matches(1)
    options["b"] = options.pop("b")
    assert matches(1)
    del options["b"]
    assert not matches(1)
    options.clear()
    assert not matches(1)
    assert accepts(program, IgnoredArg(), guards=[ItemsGuard(options, ())])(1)
    with pytest.raises(TypeError):
        entry_of(VariantSpec([], ObjectOut(1), 0, guards=[ItemsGuard([], ())]))


class Net:
    training = True

    def __init__(self):
        self.fault = None

    @property
    def risky(self):
        if self.fault is not None:
            raise self.fault
        return SHARED


def test_attribute_guards(program):
    net = Net()
    matches = accepts(program, IgnoredArg(), guards=[AttributeGuard(net, "training", True),
                                                     AttributeGuard(net, "risky", SHARED)])
    assert matches(1)
    net.training = False
    assert not matches(1)
    net.training = True
    net.fault = ValueError("an attribute that cannot be had is no match")
    assert not matches(1)
    net.fault = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        matches(1)
    net.fault = None
    assert matches(1)


def test_cell_guards(program):
    cell = CellType(SHARED)
    matches = accepts(program, IgnoredArg(), guards=[CellGuard(cell, SHARED)])
    assert matches(1)
    cell.cell_contents = 2
    assert not matches(1)
    del cell.cell_contents
    assert not matches(1)
    assert accepts(program, IgnoredArg(), guards=[CellGuard(cell, MISSING)])(1)


# -- results ---------------------------------------------------------------------------------------
def test_nested_results(program):
    thing = object()
    out = TupleOut((IntOut(), TupleOut((ArgumentOut((3,)), ObjectOut(thing), FloatOut()), list),
                    TupleOut(()), BoolOut(), ObjectOut(None), ArgumentOut((4, 1))))
    args = [IntArg(), FloatArg(), BoolArg(), IgnoredArg(), SequenceArg((IgnoredArg(),) * 2)]
    call = entry_of(VariantSpec(args, out, program("echo3"))).call
    marker, second = object(), object()
    result = call(5, 2.5, True, marker, (1, second))
    assert result == (5, [marker, thing, 2.5], (), True, None, second)


def test_tensor_results_of_every_size(program):
    for shape in [(), (0,), (3, 0, 2), (1000,), (200, 300)]:
        out = TupleOut((TensorOut("f4", shape, Held), TensorOut("i8", shape, np.ndarray)))
        tensor, array = entry_of(VariantSpec([], out, program("nothing"))).call()
        assert tensor._array.shape == array.shape == shape
        assert array.dtype == np.int64 and array.flags.c_contiguous and array.flags.writeable
        array[...] = 7
        assert (array == 7).all()


def test_big_results_are_recycled(program):
    spec = VariantSpec([TensorArg("f4", (Symbol(0),), Held)],
                       TensorOut("f4", (Symbol(0),), Held), program("fill"), symbols=(1,))
    call, x = entry_of(spec).call, held(1 << 20)
    runtime.trim()
    before = runtime.memory_use().in_use
    first = call(x)
    address = first._array.ctypes.data
    view = first._array[5:]
    del first
    assert view[0] == 6 and runtime.memory_use().in_use > before
    del view
    assert runtime.memory_use().in_use == before
    taken = runtime.memory_use().taken
    for _ in range(20):
        assert call(x)._array.ctypes.data == address
    assert runtime.memory_use().taken == taken


def test_a_recycled_loop_takes_no_page_faults(program):
    resource = pytest.importorskip("resource")
    spec = VariantSpec([TensorArg("f4", (Symbol(0),), Held)], TensorOut("f4", (Symbol(0),), Held),
                       program("fill"), symbols=(1,), arena=Size.of(Symbol(0), 4))
    call, x = entry_of(spec).call, held(1 << 19)
    for _ in range(3):
        call(x)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        call(x)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 50


def test_the_arena_is_aligned_and_its_size_follows(program):
    for size in (0, 1, 1000, 1 << 20, Size.of(Symbol(0), 100)):
        spec = VariantSpec([TensorArg("f4", (Symbol(0),), Held)], IntOut(), program("arena"),
                           symbols=(0,), arena=size)
        call = entry_of(spec).call
        for n in (0, 3, 5000):
            before = runtime.memory_use().in_use
            address = call(held(n))
            assert runtime.memory_use().in_use == before
            needs = size if isinstance(size, int) else 100 * n
            assert address % 64 == 0 and (address != 0) == (needs != 0)


def test_too_large_an_output_is_a_memory_error_and_leaks_nothing(program):
    n = Symbol(0)
    x = held(1 << 20)
    huge = TensorOut("f4", (n, n, n, n), Held)
    out = TupleOut((TensorOut("f4", (n,), Held), huge))
    args = [TensorArg("f4", (n,), Held)]
    call = entry_of(VariantSpec(args, out, program("nothing"), symbols=(0,))).call
    before, references = runtime.memory_use().in_use, sys.getrefcount(x._array)
    for _ in range(3):
        with pytest.raises((MemoryError, ValueError)):
            call(x)
    assert runtime.memory_use().in_use == before
    after = sys.getrefcount(x._array)       # outside the assertion, which holds what it shows
    assert after == references
    call = entry_of(VariantSpec(args, out.items[0], program("nothing"), symbols=(0,),
                                arena=Size.of(n, n, n))).call
    with pytest.raises(MemoryError):
        call(x)
    assert runtime.memory_use().in_use == before


def test_absurd_sizes_of_empty_arrays_do_not_wrap_around(program):
    """Two dimensions of 2**40 have a product of 0 modulo 2**64 once another factor is even."""
    n, m = Symbol(0), Symbol(1)
    args = [TensorArg("f4", (n, 0), Held), TensorArg("f4", (m, 0), Held)]
    absurd = held(1 << 40, 0)
    for dims, arena in [((Size.of(n, m),), 0), ((n, m), 0), ((1,), Size.of(n, m)),
                        ((Size(((1, (0, 1)), (1, (0, 1)), (1, (0, 1)), (1, (0, 1)))),), 0)]:
        call = entry_of(VariantSpec(args, TensorOut("f4", dims, Held), program("nothing"),
                                    symbols=(0, 0), arena=arena)).call
        assert call(held(2, 0), held(3, 0))._array.size in (1, 6, 24)
        with pytest.raises((MemoryError, ValueError)):
            call(absurd, absurd)


# -- errors ----------------------------------------------------------------------------------------
def test_a_failing_program_tells_its_record(program):
    out = TupleOut((TensorOut("f4", (100_000,), Held), FloatOut()))
    spec = VariantSpec([TensorArg("f4", (4,), Held)], out, program("fail"), tag="mine")
    entry, x = entry_of(spec), held(4)
    before, references = runtime.memory_use().in_use, sys.getrefcount(x._array)
    for _ in range(3):
        with pytest.raises(ArithmeticError) as fault:
            entry.call(x)
        assert fault.value.args == (spec, (-5, 0, 0, 0, 0, 0, 0, 99))
        assert fault.value.args[0].tag == "mine"
    assert runtime.memory_use().in_use == before
    after = sys.getrefcount(x._array)       # outside the assertion, which holds what it shows
    assert after == references


def test_an_error_handler_may_give_the_result(program):
    entry = Entry(on_miss, lambda spec, record: ("instead", record[0]))
    entry.add(VariantSpec([], FloatOut(), program("fail")))
    assert entry.call() == ("instead", -5)


def test_unregistered_classes_and_bad_descriptions_are_refused(program):
    class Other:
        __slots__ = ("_array",)
    for args, out in [([TensorArg("f4", (1,), Other)], ObjectOut(1)),
                      ([], TensorOut("f4", (1,), Other)), ([SequenceArg((), set)], ObjectOut(1)),
                      ([], TupleOut((), set)), ([TensorArg("f4", (-1,), Held)], ObjectOut(1))]:
        with pytest.raises(ValueError):
            entry_of(VariantSpec(args, out, program("nothing")))
    with pytest.raises(TypeError):
        entry_of(VariantSpec([3], ObjectOut(1), program("nothing")))


def test_an_unknown_object_layout_is_refused(monkeypatch):
    native_layout.check_layout()
    for name in ("ARRAY_DATA", "ARRAY_DIMS", "OB_SIZE", "TUPLE_ITEMS", "BYTES_VALUE"):
        with monkeypatch.context() as patch:
            patch.setattr(native_layout, name, getattr(native_layout, name) + 8)
            with pytest.raises(RuntimeError, match="lays out"):
                native_layout.check_layout()


# -- the chain of variants -------------------------------------------------------------------------
def test_the_newest_variant_comes_first_and_a_match_moves_up(program):
    specs = [VariantSpec([KnownArg(n)], ObjectOut(n), program("nothing")) for n in range(5)]
    entry = entry_of(*specs)
    assert entry.variants == tuple(reversed(specs))
    for n in (0, 3, 3, 1, 4, 2, 0, 4):
        assert entry.call(n) == n
        assert entry.chain()[0] is specs[n]
        assert set(map(id, entry.chain())) == set(map(id, specs))
    entry.add(VariantSpec([IgnoredArg()], ObjectOut("new"), program("nothing")))
    assert entry.call(3) == "new"
    entry.clear()
    assert entry.variants == () and entry.chain() == ()
    with pytest.raises(Missed):
        entry.call(3)


def test_a_guard_may_change_the_chain(program):
    """Python code run by a guard clears, adds and calls while the chain is being walked."""
    class Meddler:
        act = staticmethod(lambda: None)

        @property
        def value(self):
            self.act()
            return SHARED
    meddler = Meddler()

    def spec(n):
        return VariantSpec([KnownArg(n)], ObjectOut(n), program("nothing"),
                           guards=[AttributeGuard(meddler, "value", SHARED)])
    entry = entry_of(*(spec(n) for n in range(4)))

    def clear_and_add():
        meddler.act = lambda: None
        entry.clear()
        gc.collect()
        entry.add(spec(9))

    def call_another():
        meddler.act = lambda: None
        assert entry.call(9) == 9
    for act in (clear_and_add, call_another, clear_and_add):
        for n in range(4):
            entry.add(spec(n))
        meddler.act = act
        assert entry.call(1) == 1
        assert entry.call(9) == 9
        assert sorted(map(id, entry.chain())) == sorted(map(id, entry.variants))


def test_clearing_during_a_call_keeps_what_runs(program):
    entry = Entry(on_miss, on_error)
    kept = held(4)
    alive = weakref.ref(kept)
    entry.add(VariantSpec([], ObjectOut("slept"), program("sleep"), release_gil=True, keep=kept))
    del kept
    results = []
    sleeper = threading.Thread(target=lambda: results.append(entry.call()))
    sleeper.start()
    while not entry.running():
        pass
    entry.clear()
    gc.collect()
    assert alive() is not None
    sleeper.join()
    assert results == ["slept"]
    entry.clear()
    gc.collect()
    assert alive() is None


def test_the_gil_is_released_where_asked(program):
    entry = entry_of(VariantSpec([], ObjectOut(1), program("sleep"), release_gil=True))
    sleepers = [threading.Thread(target=entry.call) for _ in range(4)]
    began = time.perf_counter()
    for sleeper in sleepers:
        sleeper.start()
    for sleeper in sleepers:
        sleeper.join()
    assert time.perf_counter() - began < 0.35        # one after another takes 0.4 s


def test_concurrent_calls_have_arenas_of_their_own(program):
    entry = entry_of(VariantSpec([IntArg()], ObjectOut("kept"), program("mark"), arena=64,
                                 release_gil=True))
    faults = []

    def caller(mark):
        try:
            for _ in range(200):
                assert entry.call(mark) == "kept"
        except BaseException as fault:
            faults.append(fault)
    callers = [threading.Thread(target=caller, args=(mark,)) for mark in range(6)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert not faults


# -- references ------------------------------------------------------------------------------------
def test_references_are_balanced(program):
    weight, known, item = held(4), object(), object()
    arg = TensorArg(np.float32, (4,), Held)
    out = TupleOut((TensorOut(np.float32, (4,), Held), TensorOut(np.float32, (20_000,), Held),
                    ObjectOut(known), ArgumentOut((1, 0)), FloatOut(), TupleOut((), list)))
    spec = VariantSpec([arg, SequenceArg((IgnoredArg(),)), KnownArg("x")], out, program("nothing"),
                       lifted=[Lifted(weight, arg)], guards=[AttributeGuard(np, "pi", np.pi)])
    entry, x, items = entry_of(spec), held(4), (item,)
    watched = [x, x._array, weight, weight._array, known, item, items, Held, SHARED, entry,
               np.dtype(np.float32), np.pi, None, np.ndarray]

    def counts():
        return [sys.getrefcount(value) for value in watched]
    entry.call(x, items, "x")
    before = counts()
    for _ in range(100):
        entry.call(x, items, "x")
        for wrong in (x, 3):
            with pytest.raises(Missed):
                entry.call(wrong, items, "y")
    gc.collect()
    assert [abs(a - b) < 20 for a, b in zip(counts(), before, strict=True)] == [True] * len(before)


def test_memory_does_not_grow(add):
    a, b = held(4), held(4)
    for _ in range(1000):
        add.call(a, b)
    gc.collect()
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]
        for _ in range(5000):
            add.call(a, b)
        assert tracemalloc.get_traced_memory()[0] - start < 5000
    finally:
        tracemalloc.stop()


def test_results_are_seen_by_the_garbage_collector(add):
    result = add.call(held(4), held(4))
    alive = weakref.ref(result)
    assert gc.is_tracked(result)
    result.unset = result
    del result
    gc.collect()
    assert alive() is None


def test_an_entry_and_what_it_holds_go_together(program):
    kept = held(1)
    entry = entry_of(VariantSpec([], ObjectOut(kept), program("nothing"), keep=kept))
    gone = weakref.ref(entry), weakref.ref(kept)
    call = entry.call
    del entry, kept
    gc.collect()
    assert type(call()) is Held                      # the function alone keeps it all
    del call
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_an_array_dropped_during_the_call_is_held(program):
    """Another thread replaces the tensor's array while the program sleeps without the GIL."""
    entry = entry_of(VariantSpec([TensorArg("f4", (4,), Held)], ObjectOut(1), program("sleep"),
                                 release_gil=True))
    x = held(4)
    alive = weakref.ref(x._array)
    sleeper = threading.Thread(target=entry.call, args=(x,))
    sleeper.start()
    while not entry.running():
        pass
    x._array = None
    assert alive() is not None
    sleeper.join()
    assert alive() is None


def test_the_words_of_a_record_lie_where_native_code_looks():
    offsets, size = native_layout.record("a", "b", "c")
    assert offsets == {"a": 0, "b": 8, "c": 16} and size == 24
    assert ctypes.sizeof(ctypes.c_void_p) == 8


# -- against a model -------------------------------------------------------------------------------
DTYPES = ["f4", "f8", "i8", "?"]
SIZES = st.sampled_from([0, 1, 2, 3])
tensor_args = st.builds(
    TensorArg, st.sampled_from(DTYPES), st.lists(SIZES | st.builds(Symbol, st.just(0)), max_size=3)
    .map(tuple), st.sampled_from([Held, np.ndarray]))
leaf_args = tensor_args | st.sampled_from([FloatArg(), IntArg(), BoolArg(), IgnoredArg()]) | \
    st.builds(KnownArg, st.sampled_from([None, 1, 2.0, "a", True]))
all_args = st.recursive(leaf_args, lambda inner: st.builds(
    SequenceArg, st.lists(inner, max_size=3).map(tuple), st.sampled_from([tuple, list])))
values = st.recursive(
    st.sampled_from([None, 1, 2, 2.0, 0.5, "a", "b", True, False, 10**30])
    | st.builds(lambda dims, dtype, wrap: wrap(np.zeros(dims, dtype)), st.lists(SIZES, max_size=3),
                st.sampled_from(DTYPES), st.sampled_from([Held, np.asarray])),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple))


@st.composite
def matching_value(draw, arg, n):
    """A value that `arg` accepts where Symbol(0) is n; nine times in ten, else anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(values)
    match arg:
        case TensorArg():
            dims = [n if isinstance(dim, Symbol) else dim for dim in arg.dims]
            array = np.zeros(dims, arg.dtype)
            return array if arg.type is np.ndarray else Held(array)
        case FloatArg():
            return draw(st.floats())
        case IntArg():
            return draw(st.integers(-(2**63), 2**63 - 1))
        case BoolArg():
            return draw(st.booleans())
        case KnownArg(value):
            return value
        case SequenceArg():
            return arg.type(draw(matching_value(item, n)) for item in arg.items)
        case _:
            return draw(values)


def model(arg, value, sizes):
    """What the entry is meant to accept; `sizes` collects what Symbol(0) stands for."""
    match arg:
        case TensorArg():
            if type(value) is not arg.type:
                return False
            array = value._array if arg.type is Held else value
            if array.dtype != arg.dtype or array.ndim != len(arg.dims):
                return False
            for dim, size in zip(arg.dims, array.shape, strict=True):
                if isinstance(dim, Symbol):
                    sizes.add(size)
                elif dim != size:
                    return False
            return True
        case FloatArg():
            return type(value) is float
        case IntArg():
            return type(value) is int and -(2**63) <= value < 2**63
        case BoolArg():
            return type(value) is bool
        case KnownArg(known):
            return type(known) is type(value) and known == value
        case SequenceArg():
            return (type(value) is arg.type and len(value) == len(arg.items)
                    and all(model(a, v, sizes) for a, v in zip(arg.items, value, strict=True)))
        case _:
            return True


def has_symbol(arg):
    if isinstance(arg, SequenceArg):
        return any(map(has_symbol, arg.items))
    return isinstance(arg, TensorArg) and Symbol(0) in arg.dims


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_matching_agrees_with_the_model(program, data):
    args = data.draw(st.lists(all_args, max_size=4))
    symbols = (1,) if any(map(has_symbol, args)) else ()
    entry = entry_of(VariantSpec(args, ObjectOut("matched"), program("nothing"), symbols=symbols))
    for _ in range(3):
        n = data.draw(SIZES)
        called = [data.draw(matching_value(arg, n)) for arg in args]
        sizes: set[int] = set()
        expected = all(model(arg, value, sizes) for arg, value in zip(args, called, strict=True))
        expected = expected and len(sizes) <= 1 and all(size >= 1 for size in sizes)
        try:
            matched = entry.call(*called) == "matched"
        except Missed:
            matched = False
        assert matched == expected
