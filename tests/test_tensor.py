"""Tensor: making, converting, operators, and the tape; Parameter; dtypes; context."""

import copy
import pickle

import numpy as np
import pytest

import cellc
import cellc.dtype as mstype
from cellc import Parameter, ParameterTuple, Tensor, context, nn, ops
from cellc.errors import ShapeFault, TypeFault, ValueFault


@pytest.mark.parametrize("data, dtype", [
    (1.5, "f32"), ([1.0, 2.0], "f32"), ([1, 2], "i64"), (True, "bool"), ([], "f32"),
    (np.float64(2), "f64"), (np.ones(2), "f64"), (np.ones(2, np.int8), "i8"),
    ([np.ones(2), np.ones(2)], "f64"), ([[1, 2.5]], "f32"),
])
def test_the_dtype_of_data(data, dtype):
    assert Tensor(data).dtype.name == dtype


@pytest.mark.parametrize("dtype", [d.long_name for d in (
    *mstype.float_type, *mstype.int_type, *mstype.uint_type, mstype.bool_)])
def test_every_dtype_goes_there_and_back(dtype):
    x = Tensor([[0, 1], [1, 0]], dtype)
    assert x.dtype.long_name == dtype and x.shape == (2, 2) and x.size == 4 and x.ndim == 2
    assert x.astype("float64").tolist() == [[0, 1], [1, 0]]
    assert x.asnumpy().tolist() == [[0, 1], [1, 0]]
    assert x.nbytes == 4 * x.dtype.itemsize


def test_bad_data():
    with pytest.raises(TypeFault, match="found str"):
        Tensor("abc")
    with pytest.raises(ValueFault, match="lists must have equal lengths"):
        Tensor([[1], [1, 2]])
    with pytest.raises(TypeFault, match="where a dtype was expected"):
        Tensor([1], "float7")
    with pytest.raises(TypeFault, match="gradient for a tensor of dtype i64"):
        Tensor([1], requires_grad=True)


def test_a_tensor_is_a_copy_of_its_data():
    array = np.zeros(2, np.float32)
    x = Tensor(array)
    array[0] = 5
    assert x.tolist() == [0, 0]


def test_to_numpy_python_and_others():
    x = Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert np.asarray(x).dtype == np.float32 and np.array(x, np.float64).sum() == 10
    assert np.from_dlpack(x).tolist() == x.tolist()
    assert x.sum().item() == 10 and float(x[0, 0]) == 1 and int(x[1, 1]) == 4 and len(x) == 2
    assert [row.tolist() for row in x] == x.tolist() and 3.0 in x
    assert list(range(3))[Tensor(1)] == 1
    assert f"{x[0, 1]:.2f}" == "2.00"
    with pytest.raises(ValueFault, match=r"truth of a tensor of shape \[2, 2\]"):
        bool(x)
    with pytest.raises(ValueFault, match=r"item\(\)"):
        x.item()
    with pytest.raises(TypeFault, match=r"len\(\) of a 0-d"):
        len(Tensor(1.0))


def test_repr():
    assert repr(Tensor([[1.0, 2.0]])) == "Tensor(shape=[1, 2], dtype=Float32, value=\n[[1., 2.]])"
    assert repr(Tensor(3)) == "Tensor(shape=[], dtype=Int64, value=3)"
    assert "requires_grad=True" in repr(Tensor(1.0, requires_grad=True))


def test_copies_and_pickles():
    x = Tensor([1.0, 2.0], "bfloat16")
    for y in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x)), x.copy()):
        assert y is not x and y.dtype is x.dtype and y.tolist() == [1, 2]
    p = Parameter(Tensor([1.0]), name="w", requires_grad=False)
    for q in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert (q.name, q.requires_grad, q.tolist()) == ("w", False, [1])


def test_operators():
    x, y = Tensor([7, -7]), Tensor([2, 2])
    expected = {
        "+": [9, -5], "-": [5, -9], "*": [14, -14], "/": [3.5, -3.5], "//": [3, -4], "%": [1, 1],
        "**": [49, 49], "<": [False, True], "<=": [False, True], ">": [True, False],
        ">=": [True, False], "==": [False, False], "!=": [True, True], "&": [2, 0], "|": [7, -5],
        "^": [5, -5], "<<": [28, -28], ">>": [1, -2],
    }
    for operator, result in expected.items():
        for right in (y, 2):
            assert eval(f"x {operator} right").tolist() == result, operator
    for operator in "+ - * / // % **".split():
        left = eval(f"3.0 {operator} Tensor([2.0, 4.0])").tolist()
        assert left == pytest.approx([eval(f"3.0 {operator} v") for v in (2.0, 4.0)]), operator
    assert (~Tensor([True, False])).tolist() == [False, True] and (-x).tolist() == [-7, 7]
    assert abs(x).tolist() == [7, 7] and (+x) is x
    assert (np.ones(2) + Tensor([1.0, 2.0])).dtype.name == "f64"
    assert (Tensor([1.0]) == None) is False and (Tensor([1.0]) != "a") is True  # noqa: E711
    assert len({x: 1, y: 2}) == 2


def test_promotion():
    def meets(a, b):
        return (Tensor([1], a) + Tensor([1], b)).dtype.long_name

    assert meets("int32", "float16") == "float16" and meets("float16", "bfloat16") == "float32"
    assert meets("uint8", "int8") == "int16" and meets("float32", "float64") == "float64"
    assert (Tensor([1], "float16") * 2.5).dtype.long_name == "float16"
    assert (Tensor([1]) * 2.5).dtype.long_name == "float32"
    with pytest.raises(TypeFault, match="no dtype holds both"):
        meets("uint64", "int8")


def test_every_method_is_an_operation():
    x = Tensor(np.random.default_rng(0).uniform(0.1, 0.9, (2, 3)))
    for name in ("exp log sqrt tanh sigmoid relu abs sum mean max min std var argmax argmin prod T "
                 "flatten squeeze softmax cumsum all any isnan round floor sign").split():
        found = getattr(x, name)
        found = found if name == "T" else found(0) if name == "cumsum" else found()
        assert isinstance(found, Tensor), name
    assert x.view(3, 2).shape == (3, 2) == x.permute(1, 0).shape == x.transpose((1, 0)).shape
    assert x.unsqueeze(0).shape == (1, 2, 3) and x.clamp(0.2, 0.3).max().item() == 0.3
    assert x.to("int32").dtype is mstype.int32 and x.float().dtype is mstype.float32
    assert x.matmul(x.T).shape == (2, 2) and x.split(2, 1)[1].shape == (2, 1)
    assert x.repeat(2, 1).shape == (4, 3) and x.masked_fill(x > 0, 0.0).sum().item() == 0


# -- the tape -------------------------------------------------------------------------------------


def test_backward_adds_to_the_leaves():
    a, b = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
    c = Tensor([5.0, 6.0])
    (a * b * c + a).sum().backward()
    assert a.grad.tolist() == [16, 25] and b.grad.tolist() == [5, 12] and c.grad is None
    (a * 2.0).sum().backward()
    assert a.grad.tolist() == [18, 27]
    assert a.is_leaf and not (a * b).is_leaf


def test_backward_of_a_vector_needs_a_gradient():
    a = Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(ShapeFault, match="starts at one number"):
        (a * a).backward()
    (a * a).backward(Tensor([1.0, 10.0]))
    assert a.grad.tolist() == [2, 40]
    with pytest.raises(TypeFault, match="gradient of type f32"):
        (a * a).backward(Tensor([1.0]))
    with pytest.raises(ValueFault, match="does not depend on any"):
        Tensor(1.0).backward()


def test_the_records_are_freed_unless_retained():
    a = Tensor(2.0, requires_grad=True)
    y = a * a
    y.backward(retain_graph=True)
    y.backward()
    assert a.grad.item() == 8
    with pytest.raises(ValueFault, match="freed by an earlier backward"):
        y.backward()


def test_create_graph_gives_second_derivatives():
    a = Tensor(2.0, requires_grad=True)
    (a ** 3).backward(create_graph=True)
    first, a.grad = a.grad, None
    first.backward()
    assert first.item() == 12 and a.grad.item() == 12


def test_the_tape_remembers_values_that_change_later():
    a, p = Tensor(2.0, requires_grad=True), Parameter(Tensor(3.0))
    y = a * a * p
    with cellc.no_grad():
        a -= 1.0
    ops.assign(p, 100.0)
    y.backward()
    assert a.grad.item() == 12 and p.grad.item() == 4


def test_no_grad_detach_and_integers():
    a = Tensor([1.0, 2.0], requires_grad=True)
    with cellc.no_grad():
        assert not (a * 2).requires_grad
        with cellc.enable_grad():
            assert (a * 2).requires_grad
    assert not a.detach().requires_grad and not (a > 1).requires_grad and not a.data.requires_grad
    (a.detach() * a).sum().backward()
    assert a.grad.tolist() == [1, 2]


def test_a_leaf_is_updated_in_place_under_no_grad_only():
    a = Tensor([1.0, 2.0], requires_grad=True)
    same = a
    with cellc.no_grad():
        a -= 0.5
    assert a is same and same.tolist() == [0.5, 1.5] and a.requires_grad
    a += 1.0
    assert a is not same and same.tolist() == [0.5, 1.5]
    with pytest.raises(ValueFault, match="leaf that requires a gradient"):
        same[0] = 1.0


def test_setting_an_item_is_differentiated():
    a, v = Tensor([1.0, 2.0, 3.0], requires_grad=True), Tensor(5.0, requires_grad=True)
    x = a * 2.0
    x[1] = v
    (x * x).sum().backward()
    assert a.grad.tolist() == [8, 0, 24] and v.grad.item() == 10


def test_a_polynomial_fits_the_sine():
    x = np.linspace(-np.pi, np.pi, 200, dtype=np.float32)
    a, b, c, d = (Tensor(0.0, requires_grad=True) for _ in range(4))
    first = None
    for _ in range(300):
        y_pred = a + b * Tensor(x) + c * Tensor(x) ** 2 + d * Tensor(x) ** 3
        loss = (y_pred - Tensor(np.sin(x))).pow(2).sum()
        first = first or loss.item()
        loss.backward()
        with cellc.no_grad():
            for p in (a, b, c, d):
                p -= 1e-5 * p.grad
                p.grad = None
    assert loss.item() < 0.25 * first


def test_a_long_chain_needs_no_recursion():
    x = y = Tensor(1.0, requires_grad=True)
    for _ in range(20_000):
        y = y + 1.0
    y.backward()
    assert x.grad.item() == 1
    del y


# -- Parameter ------------------------------------------------------------------------------------


def test_set_data_keeps_the_buffer():
    p = Parameter(Tensor([1.0, 2.0]), name="p")
    buffer = id(p._array)
    p.set_data(Tensor([3.0, 4.0]))
    assert id(p._array) == buffer and p.tolist() == [3, 4]
    with pytest.raises(ShapeFault, match=r"Parameter p of shape \[2\] was given data of"):
        p.set_data(Tensor([1.0, 2, 3]))
    assert p.tolist() == [3, 4]
    p.set_data(Tensor([1.0, 2, 3]), slice_shape=True)
    assert p.shape == (3,)
    with pytest.raises(TypeFault, match="was given floats"):
        Parameter(Tensor([1])).set_data(Tensor([0.5]))


def test_assign_in_eager_mode():
    p = Parameter(Tensor([1.0, 2.0]))
    view, before = p.reshape((2, 1)), p.asnumpy()
    ops.assign(p, p * 2)
    p += 1.0
    assert p.tolist() == [3, 5] and view.tolist() == [[1], [2]] and before.tolist() == [1, 2]
    ops.assign(p, 0)
    assert p.tolist() == [0, 0] and isinstance(p, Parameter)
    with pytest.raises(TypeFault, match="expected a Parameter"):
        ops.assign(Tensor([1.0]), 1.0)


def test_parameter_tuples():
    a, b = Parameter(Tensor([1.0]), name="a"), Parameter(Tensor([1.0]), name="b")
    copies = ParameterTuple([a, b]).clone("m", "zeros")
    assert [p.name for p in copies] == ["m.a", "m.b"] and copies[0].tolist() == [0]
    with pytest.raises(ValueFault, match="the name 'a' is given to two Parameters"):
        ParameterTuple([a, Parameter(Tensor([2.0]), name="a")])
    with pytest.raises(TypeFault, match="found Tensor"):
        ParameterTuple([Tensor([1.0])])


def test_integers_are_never_trained():
    assert not Parameter(Tensor([1])).requires_grad


# -- context --------------------------------------------------------------------------------------


def test_context():
    assert context.get_context("mode") == context.PYNATIVE_MODE
    try:
        context.set_context(mode=context.GRAPH_MODE, device_target="CPU")
        assert context.is_graph()
        with pytest.raises(ValueFault, match="mode is 7"):
            context.set_context(device_target="CPU", mode=7)
    finally:
        context.set_mode(context.PYNATIVE_MODE)
    with pytest.raises(ValueFault, match="no CUDA back end"):
        context.set_context(device_target="GPU")
    with pytest.raises(ValueFault, match="unknown setting colour"):
        context.set_context(colour="red")
    assert isinstance(nn.Dense(2, 2)(Tensor([[1.0, 2.0]])), Tensor)


def test_a_python_number_of_what_is_differentiated():
    """Compiled, float(x) has a gradient; in eager mode it cannot have one, and is no silent 0."""
    x = Tensor([1.0, 2.0])
    for number in (lambda x: float(x[0]) * 3, lambda x: x[1].item() * x[0]):
        with pytest.raises(TypeFault, match="its gradient would be lost") as found:
            cellc.grad(number)(x)
        assert "ops.stop_gradient" in str(found.value)
        assert cellc.jit(cellc.grad(number))(x).asnumpy().any()
    held = cellc.grad(lambda x: float(ops.stop_gradient(x[0])) * x)(x)
    np.testing.assert_array_equal(held, [1, 1])
    assert float(Tensor(2.0, requires_grad=True)) == 2
    shown = []
    assert cellc.grad(lambda x: (shown.append(f"{x:.2f}"), x * x)[1])(1.5) == 3
    assert shown == ["1.50"]
