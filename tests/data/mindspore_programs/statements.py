"""Indexing, statements and Python values in a construct, and what MindSpore gets wrong there."""

from mindspore_programs.surface import P, Tensor, data, error, mstype, nn, np, ops, program
from mindspore_programs.values import Function, counts, floats, values

# -- indexing -------------------------------------------------------------------------------------


@values(floats(2, 3, 4), grad=True)
def index_numbers(x):
    return (x[0], x[-1], x[1, 2], x[0, -1, 1], x[1][0])


@values(floats(2, 3, 4), grad=True)
def index_slices(x):
    return (x[:1], x[:, 1:], x[..., 0])


@values(floats(2, 3, 4))
def index_slice_and_number(x):
    # without the gradients, in which MindSpore runs out of its memory
    return (x[0, ..., 1:3], x[1:, 0], x[:, 1, ::2], x[:, -2:, 1], x[-1:], x[:, ::2])


@values(floats(2, 3))
def index_none(x):
    return (x[None], x[:, None], x[..., None], x[None, 0, :, None])


@values(counts(3, 4), lambda: data(3, 4, low=0, high=2, dtype=np.int32) > 0)
def integer_sums(x, b):
    sums = (x.sum(), ops.sum(x, 1), x.prod(0), ops.prod(x), b.sum(), ops.cumsum(x, 0))
    return (*sums, P.ReduceSum()(x, 0), P.ReduceProd()(x, 1), ops.sum(x * 1.0, 1))


@values(floats(2, 3, 4), grad=True)
def flattened(x):
    return (ops.flatten(x), x.flatten(), P.Flatten()(x), ops.flatten(x, start_dim=0, end_dim=1))


@values()
def diagonals(x, y):
    return (ops.diagonal(x), (x @ y.T).diagonal(), ops.diagonal(x.T))


@values(lambda: Tensor([0, 2, 1], mstype.int32))
def one_hot_defaults(n):
    return (ops.one_hot(n, 4), ops.one_hot(n, 3, 2.0, -1.0), nn.OneHot(depth=3)(n))


@values()
def sizes(x, y):
    return (ops.shape(x), ops.rank(x), ops.size(x), P.Shape()(x), P.Rank()(x), ops.numel(x))


@values(floats(4, 3))
def deviations(x):
    return (x.std(), x.var(0), ops.std(x, 1), ops.var(x, 0, 1), x.std(ddof=1))


@values(floats(4, 3), rtol=1e-4)
def clipped_norms(x):
    parts = (x, x * 2)
    return (ops.clip_by_global_norm(parts, 1.0), ops.clip_by_norm(x, 0.5),
            ops.clip_by_value(parts, -0.5, 0.5), ops.clip_by_norm(x, 100.0))


@values()
def largest_with_place(x, y):
    return (ops.max(x)[0], ops.max(x, 1), ops.min(x, axis=0, keepdims=True), x.max(axis=1), x.min())


@values(floats(4, 5))
def index_negative_step(x):
    return (x[::-1], x[:, ::-2])


@values(floats(3, 3, 2), lambda: Tensor([2, 0, 1], mstype.int32), grad=True)
def index_tensors(x, i):
    return (x[i], x[:, i], x[i, i], x[i, 1], x[0, i])


@values(floats(4, 2), lambda: Tensor([[0, 3], [1, -1]], mstype.int64), grad=True)
def index_tensor_2d(x, i):
    return x[i]


@values(floats(3, 3))
def index_lists(x):
    return (x[[0, 2]], x[:, [1, 0]], x[[0, 1], [2, 0]])


@values()
def index_set(x, y):
    return _set(x, y)


@values(floats(4, 3), lambda: Tensor([2, 0], mstype.int32))
def index_set_tensor(x, i):
    return _set_by_tensor(x, i)


@values()
def index_iteration(x, y):
    return _rows(x)


def _set(x, y):
    z = x * 1.0
    z[0] = 5.0
    z[1, 2] = 7.0
    z[:, 1] = y[:, 0]
    z[2, ...] = y[0]
    z[1:, :1] = -1.0
    return z, x


def _set_by_tensor(x, i):
    z = x * 1.0
    z[i] = 9.0
    w = x * 1.0
    w[x > 0] = 0.0
    return z, w


def _rows(x):
    total = 0.0
    for row in x:
        total = total + row * row[0]
    return total


# -- statements and Python values -----------------------------------------------------------------


@values()
def structures(x, y):
    return ({"sum": x + y, "list": [x, y]}, (x, (y, 1, "text")), [x], None)


@values()
def unpacking(x, y):
    return _unpacked(x, y)


@values()
def comprehension(x, y):
    return _comprehended(x, y)


@values()
def branches(x, y):
    return (_sign_of(x.sum()), _sign_of(x.sum() * 0 - 1), _sign_of(x[0, 0] * 0))


@values()
def named_arguments(x, y):
    return _keywords(x, k=2, other=y)


@values()
def formatted_error(x, y):
    return _checked_rank(x)


@values()
def chained(x, y):
    return (
        1 if 0 < x.ndim <= 2 else 2,
        x.shape[0] if len(x.shape) > 1 else 0,
        x is None,
        y is not None,
        x.ndim in (1, 2),
        not x.shape,
    )


@values(
    instead={"tuple": [6, 5, 2, 3, {"tuple": [3, 1]}, 3, 32, 2, 3, -4, 2, False, 3, 2.0, "12"]},
    note="MindSpore refuses round(2.6)",
)
def python_math(x, y):
    return (
        sum([1, 2, 3]),
        max(1, 5),
        min([4, 2]),
        abs(-3),
        divmod(7, 2),
        round(2.6),
        pow(2, 5),
        len((x, y)),
        7 // 2,
        -7 // 2,
        -7 % 3,
        bool(0),
        int(3.9),
        float(2),
        str(12),
    )


@values()
def global_names(x, y):
    return x * SCALE + HELPER(y)


SCALE = 3


def HELPER(x):
    return x - 1


def _unpacked(x, y):
    (a, b), *rest = (x, y), x + 1, y + 1
    first, second = rest
    return a * second, b * first, *rest


def _comprehended(x, y):
    parts = [v * i for i, v in enumerate((x, y, x + y)) if i != 1]
    total = {k: v for k, v in zip(("a", "b"), parts)}
    return parts, total["b"], sum([p.sum() for p in parts])


def _sign_of(x):
    if x > 0:
        return x * 2
    elif x < 0:
        return -x
    else:
        return x + 10


def _keywords(x, *, k=1, other=None, scale=0.5):
    if other is None:
        return x
    return x * k + other * scale


def _checked_rank(x):
    if x.ndim != 2:
        raise ValueError(f"expected two axes, found {x.ndim}")
    assert x.shape[0] == 3, "three rows"
    return x


@program()
def values_raised_errors():
    def checked(x):
        if x.ndim != 1:
            raise ValueError(f"expected one axis, found {x.ndim}")
        return x

    net = Function(checked)
    return error(net, data(2, 3)), error(net, data(2)), error(net)


@program()
def values_bad_operands():
    def added(a, b):
        return a + b

    def product(a, b):
        return ops.matmul(a, b)

    def reshaped(a):
        return a.reshape(7)

    x, y = data(2, 3), data(4, 5)
    return (
        error(Function(added), x, y) != "",
        error(Function(product), x, y) != "",
        error(Function(reshaped), x) != "",
    )


@program()
def values_tensor_surface():
    """What a Tensor is outside of a cell."""
    x = Tensor([[1, 2], [3, 4]], mstype.float32)
    return (
        x.shape,
        x.ndim,
        x.size,
        x.dtype == mstype.float32,
        x.asnumpy().tolist(),
        len(x),
        float(x[0, 1]),
        int(x[1, 0]),
        bool(x[0, 0]),
        x.itemsize,
        x.nbytes,
        x.tolist(),
        [r.shape for r in x],
    )


@program()
def values_tensor_dtypes():
    """The dtype a Tensor takes from Python and from NumPy."""
    return [
        Tensor(v)
        for v in (
            1,
            2.5,
            True,
            [1, 2],
            [1.0, 2],
            np.arange(3),
            np.ones(2),
            np.float16(1),
            np.ones((2, 2), np.float32),
            [[True, False]],
        )
    ]


@program()
def values_mutable_numbers():
    def scaled(x, k):
        return x * k + k

    net = Function(scaled)
    return [net(data(3), k) for k in (1, 2, 2.5, -0.5)]


@program()
def values_attribute_of_the_cell():
    class Scaled(nn.Cell):
        def __init__(self, k):
            super().__init__()
            self.k = k
            self.table = {"a": 1, "b": [2, 3]}

        def construct(self, x):
            return x * self.k + self.table["b"][1]

    return Scaled(2)(data(3)), Scaled(0.5)(data(3))


@program(
    instead={"tuple": [{"list": [2.0, 4.0]}, {"list": [3.0, 6.0]}]},
    note="MindSpore does not see that an attribute has changed after the first call",
)
def values_changed_attribute():
    class Scaled(nn.Cell):
        def __init__(self):
            super().__init__()
            self.k = 2

        def construct(self, x):
            return x * self.k

    net, x = Scaled(), Tensor([1.0, 2.0], mstype.float32)
    first = net(x).asnumpy().tolist()
    net.k = 3
    return first, net(x).asnumpy().tolist()


@program(
    instead={"list": [True, False, True]},
    note="MindSpore gives False for a tensor in a list of numbers",
)
def values_tensor_in_list():
    def known(x):
        return x in [1, 2, 3]

    net = Function(known)
    return [bool(net(Tensor(n, mstype.float32))) for n in (2, 5, 3)]


@program(instead="00312", note="MindSpore drops the format")
def values_format_specification():
    class Formatted(nn.Cell):
        def construct(self, x):
            return f"{3:03d}" + f"{x.ndim}2"

    return Formatted()(data(3))


@program(
    instead={"dtype": "float32", "shape": [2], "values": [4.0, 8.0]},
    note="MindSpore ignores the decorator of a function that construct calls",
)
def values_decorated_function():
    return Function(_doubled)(Tensor([1.0, 2.0], mstype.float32))


def _twice(function):
    def wrapper(x):
        return function(x) * 2

    return wrapper


@_twice
def _doubled(x):
    return x * 2


@program(
    instead={"tuple": [{"list": [2.0, 3.0]}, {"list": [1.0, 2.0]}]},
    note="MindSpore changes the caller's tensor; Python's += on a cell's argument, which is a "
    "name bound anew, does not",
)
def values_augmented_argument():
    class Added(nn.Cell):
        def construct(self, x):
            x += 1
            return x

    x = Tensor([1.0, 2.0], mstype.float32)
    return Added()(x).asnumpy().tolist(), x.asnumpy().tolist()
