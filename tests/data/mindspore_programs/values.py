"""Tensors: their methods and operators, the functions and operator classes of ops."""

from mindspore_programs.surface import (
    GradOperation,
    P,
    Tensor,
    data,
    mstype,
    nn,
    np,
    ops,
    program,
)


class Function(nn.Cell):
    """A function as a cell, so that it is compiled in graph mode."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def construct(self, *inputs):
        return self.function(*inputs)


def values(*makers, grad=False, **options):
    """Record what a function of tensors gives, and with `grad` its gradient by the first."""

    def register(function):
        def run():
            given = [make() for make in makers] if makers else [data(3, 4), data(3, 4, seed=1)]
            net = Function(function)
            result = net(*given)
            return (result, GradOperation()(net)(*given)) if grad else result

        program(f"values_{function.__name__}", **options)(run)
        return function

    return register


def counts(*shape):
    return lambda: data(*shape, low=-5, high=6, dtype=np.int32)


def floats(*shape, seed=0):
    return lambda: data(*shape, seed=seed)


# -- operators ------------------------------------------------------------------------------------


@values()
def arithmetic(x, y):
    return (x + y, x - y, x * y, x / y, x // y, x % y, -x, +x, abs(x))


@values(grad=True)
def power(x, y):
    return (x**2, x**3, 2.0**x, abs(x) ** y, abs(x) ** 0.5)


@values()
def numbers(x, y):
    return (x + 1, 1 - x, x * 2.5, 1 / (x * x + 1), x // 0.3, x % 0.7, 2 - x * y)


@values()
def comparisons(x, y):
    return (x < y, x <= y, x > y, x >= y, x == y, x != y, x > 0, 0.5 >= y)


@values(counts(3, 4), counts(4))
def integers(x, y):
    return (
        x + y,
        x - y,
        x * y,
        x // (y * y + 1),
        x % (y * y + 1),
        x / 2,
        x * 2,
        x**2,
        -x,
        x > y,
        x + 1.5,
    )


@values(counts(10))
def integer_division(x):
    return (x // 3, x % 3, x // -3, x % -3, x / 4)


@values(counts(3, 4), counts(3, 4))
def bits(x, y):
    return (x & y, x | y, x ^ y)


@values(
    instead={
        "tuple": [
            {"dtype": "float32", "shape": [2], "values": [1.5, 1.5]},
            {"dtype": "int64", "shape": [], "values": [3]},
        ]
    },
    note="in graph mode MindSpore's full makes a float an integer, and argmax takes the last axis",
)
def full_and_flat(x, y):
    return (ops.full((2,), 1.5), (x * 0 + ops.arange(4) * (1 - ops.arange(3)[:, None])).argmax())


@values(
    lambda: Tensor([5, -1, 0], mstype.int32),
    instead={"dtype": "int32", "shape": [3], "values": [-6, 0, -1]},
    note="MindSpore gives `not x` for ~x of integers",
)
def inverted(x):
    return ~x


@values(lambda: data(5) > 0, lambda: data(5, seed=1) > 0)
def bools(x, y):
    return (x.logical_and(y), x.logical_or(y), x.logical_not(), x ^ y, x & y)


@values(grad=True)
def matmul(x, y):
    return (x @ y.T, ops.matmul(x.T, y), x.matmul(y.swapaxes(0, 1)))


@values(floats(2, 3, 4), floats(4, 2), grad=True)
def matmul_batched(x, y):
    return x @ y


@values(floats(3, 4), floats(4), grad=True)
def matmul_vector(x, y):
    return (x @ y, y @ x.T)


@values(floats(3, 1), floats(2, 1, 4), grad=True)
def broadcast(x, y):
    return (x + y, x * y, ops.maximum(x, y))


@values(floats(4), counts(4), lambda: Tensor([True, False, True, True]))
def promotion(x, n, b):
    return (x + n, n + 1.5, b + 1, n * b, x * b, n + n)


@values(lambda: data(4, dtype=np.float16), floats(4), counts(4), rtol=1e-3)
def half_and_single(h, x, n):
    return (h + x, h * 2, h + n, h / 3)


@values()
def inplace_name(x, y):
    return _augmented(x, y)


def _augmented(x, y):
    z = x * 1
    z += y
    z *= 2
    z -= x
    z /= 3
    return z, x


# -- methods --------------------------------------------------------------------------------------


@values()
def reductions(x, y):
    return (x.sum(), x.mean(), x.max(), x.min(), x.prod(), x.std(), x.var())


@values(grad=True)
def reductions_axis(x, y):
    return (
        x.sum(0),
        x.sum(axis=1),
        x.sum(axis=1, keepdims=True),
        x.mean(0),
        x.mean(1, keep_dims=True),
        x.prod(1),
        x.mean((0, 1)),
    )


@values(grad=False)
def extremes_axis(x, y):
    return (x.max(0), x.min(axis=1), x.argmax(1), x.max(1, keepdims=True))


@values()
def argmax(x, y):
    # positions are i64 here; MindSpore gives i32 for some
    positions = (ops.argmax(x), ops.argmax(x, 1), ops.argmin(x, 0), x.argmin(1))
    return [i.astype(mstype.int64) for i in positions]


@values()
def all_any(x, y):
    return ((x > 0).all(), (x > 0).any(), (x > 0).all(0), (x > 0).any(axis=1))


@values()
def shapes(x, y):
    return (x.shape, x.ndim, x.size, x.dtype == mstype.float32, len(x))


@values(grad=True)
def reshaping(x, y):
    return (
        x.reshape(2, 6),
        x.reshape((4, 3)),
        x.reshape(-1),
        x.view(2, -1),
        x.flatten(),
        x.ravel(),
        x.T,
        x.transpose(1, 0),
        x.transpose((1, 0)),
        x.swapaxes(0, 1),
        x.expand_dims(1),
        x.unsqueeze(0),
        x.unsqueeze(-1),
    )


@values(floats(1, 3, 1))
def squeezing(x):
    return (x.squeeze(), x.squeeze(0), x.squeeze(axis=2))


@values(floats(2, 3, 4))
def permute(x):
    return (x.permute(2, 0, 1), ops.transpose(x, (1, 2, 0)), x.swapaxes(-1, 0))


@values()
def casts(x, y):
    return (
        x.astype(mstype.int32),
        x.astype(mstype.float16),
        x.to(mstype.float64),
        x.int(),
        x.bool(),
        (x > 0).float(),
        ops.cast(x, mstype.int64),
        x.half(),
    )


@values(grad=True)
def elementwise_methods(x, y):
    return (
        x.abs(),
        x.exp(),
        x.tanh(),
        x.sigmoid(),
        x.sin(),
        x.cos(),
        x.square(),
        x.erf(),
        x.floor(),
        x.ceil(),
        x.round(),
        x.sign(),
        x.neg(),
        x.abs().sqrt(),
        x.abs().log(),
        x.abs().rsqrt(),
        x.pow(2),
    )


@values(grad=True)
def clipping(x, y):
    return (
        x.clip(-0.5, 0.5),
        x.clamp(-1, 1),
        ops.clamp(x, min=0.0),
        x.clamp(max=0.2),
        ops.clip_by_value(x, -0.3, 0.3),
    )


@values(floats(2, 4))
def broadcast_to(x):
    return (
        x.broadcast_to((3, 2, 4)),
        x.expand_as(ops.ones((3, 2, 4))),
        x.tile((1, 2)),
        ops.tile(x, (2, 1, 1)),
    )


@values(grad=True)
def joining(x, y):
    return (
        ops.cat((x, y)),
        ops.cat((x, y), 1),
        ops.concat([x, y], axis=-1),
        ops.stack((x, y)),
        ops.stack([x, y], axis=1),
    )


@values()
def splitting(x, y):
    return (ops.split(x, 2, axis=1), x.split(1), ops.chunk(x, 2, axis=1), ops.unstack(x))


@values(grad=True)
def selecting(x, y):
    return (
        ops.where(x > 0, x, y),
        ops.select(x > y, x, y),
        x.masked_fill(x > 0, 0.0),
        ops.where(x > 0, 1.0, 0.0),
        x.where(x > 0, y),
    )


@values(grad=True)
def gathering(x, y):
    return (
        ops.gather(x, Tensor([2, 0], mstype.int32), 0),
        x.take(Tensor([1, 3], mstype.int32), 1),
        ops.gather_elements(x, 1, Tensor([[0, 1], [1, 2], [3, 0]], mstype.int32)),
    )


@values(grad=True)
def cumulative(x, y):
    return (x.cumsum(0), ops.cumsum(x, 1))


@values()
def filling(x, y):
    return (
        ops.zeros_like(x),
        ops.ones_like(x),
        ops.zeros((2, 3), mstype.int32),
        ops.ones(3, mstype.float32),
        ops.full((2, 2), 1.5, dtype=mstype.float32),
        ops.eye(2, 3, mstype.float32),
        ops.arange(5),
        ops.arange(1, 4),
        ops.full_like(x, 2),
    )


@values(grad=True)
def triangles(x, y):
    return (ops.tril(x), ops.triu(x, 1), x.tril(-1))


@values()
def flips(x, y):
    return (ops.flip(x, (0,)), ops.flip(x, (0, 1)), x.flip((1,)))


@values(grad=True)
def norms(x, y):
    return (ops.norm(x), ops.norm(x, dim=1))


@values(grad=True)
def softmaxes(x, y):
    return (ops.softmax(x), ops.log_softmax(x, 0), ops.logsumexp(x, 1))


@values(grad=True)
def functions(x, y):
    return (
        ops.relu(x),
        ops.gelu(x),
        ops.tanh(x),
        ops.sigmoid(x),
        ops.erf(x),
        ops.square(x),
        ops.exp(x),
        ops.log1p(ops.abs(x)),
        ops.expm1(x),
        ops.maximum(x, y),
        ops.minimum(x, y),
        ops.atan2(x, y),
        ops.addcmul(x, x, y, 0.5),
        ops.lerp(x, y, 0.3),
    )


@values()
def operator_classes(x, y):
    return (
        P.Add()(x, y),
        P.Sub()(x, y),
        P.Mul()(x, y),
        P.RealDiv()(x, y),
        P.ReduceSum()(x, 1),
        P.ReduceMean(keep_dims=True)(x, 0),
        P.MatMul(transpose_b=True)(x, y),
        P.Reshape()(x, (2, 6)),
        P.Transpose()(x, (1, 0)),
        P.Exp()(x),
        P.Tanh()(x),
        P.Sigmoid()(x),
        P.ReLU()(x),
        P.Square()(x),
        P.Softmax(axis=1)(x),
        P.Concat(axis=1)((x, y)),
        P.Stack(axis=0)([x, y]),
        P.Cast()(x, mstype.int32),
        P.ExpandDims()(x, 0),
        P.Maximum()(x, y),
        P.Greater()(x, y),
        P.Select()(x > y, x, y),
        P.Shape()(x),
        P.ZerosLike()(x),
        P.OnesLike()(x),
        P.Squeeze(0)(P.ExpandDims()(x, 0)),
        P.Neg()(x),
        P.Abs()(x),
        P.Sqrt()(P.Abs()(x)),
        P.Log()(P.Abs()(x)),
        P.Pow()(P.Abs()(x), 1.5),
        P.Tile()(x, (2, 1)),
        P.ReduceMax()(x, 1),
        P.Equal()(x, y),
        P.LogicalNot()(x > y),
        P.Sign()(x),
        P.Floor()(x),
    )


@values(floats(2, 3, 4), floats(2, 4, 5), grad=True)
def batch_matmul(x, y):
    return (
        P.BatchMatMul()(x, y),
        P.BatchMatMul(transpose_a=True)(x.swapaxes(1, 2), y),
        ops.bmm(x, y),
    )


@values(lambda: Tensor([0, 2, 1], mstype.int32))
def one_hot(n):
    return (
        ops.one_hot(n, 4, Tensor(1.0, mstype.float32), Tensor(0.0, mstype.float32)),
        P.OneHot()(n, 3, Tensor(2.0, mstype.float32), Tensor(-1.0, mstype.float32)),
    )


@values()
def topk_free_functions(x, y):
    return (
        ops.mean(x, 1),
        ops.sum(x, 0),
        ops.prod(x),
        ops.amax(x, 1),
        ops.amin(x, 0),
        ops.std(x),
        ops.var(x, 1),
    )


@values(lambda: Tensor([1.0, float("nan"), float("inf"), -float("inf")], mstype.float32))
def isnan(x):
    return (ops.isnan(x), ops.isfinite(x), ops.isinf(x))
