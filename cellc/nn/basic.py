"""Dense, Embedding, Flatten, Dropout, Identity, OneHot, Pad."""

from __future__ import annotations

import math

from cellc import ops
from cellc.errors import ShapeFault, TypeFault, ValueFault
from cellc.nn.activation import activation_cell
from cellc.nn.cell import Cell
from cellc.nn.initializer import HeUniform, Uniform, initializer
from cellc.parameter import Parameter


def positive(name: str, value) -> int:
    """A size; ValueFault unless it is an int of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeFault(f"{name} is {value!r}, expected an int")
    if value < 1:
        raise ValueFault(f"{name} is {value}, expected at least 1")
    return value


class Dense(Cell):
    """activation(x @ weight^T + bias).

    Shapes: x [..., in_channels] -> [..., out_channels]; weight [out_channels, in_channels].
    """

    def __init__(self, in_channels, out_channels, weight_init=None, bias_init=None, has_bias=True,
                 activation=None, dtype="float32"):
        super().__init__()
        self.in_channels = positive("in_channels", in_channels)
        self.out_channels = positive("out_channels", out_channels)
        shape = (out_channels, in_channels)
        weight = HeUniform(math.sqrt(5)) if weight_init is None else weight_init
        self.weight = Parameter(initializer(weight, shape, dtype), name="weight")
        self.has_bias = bool(has_bias)
        self.bias = None
        if has_bias:
            bias = Uniform(1 / math.sqrt(in_channels)) if bias_init is None else bias_init
            self.bias = Parameter(initializer(bias, (out_channels,), dtype), name="bias")
        self.activation = activation_cell(activation)

    def construct(self, x):
        y = ops.linear(x, self.weight, self.bias)
        return y if self.activation is None else self.activation(y)

    def extend_repr(self):
        bias = ", has_bias=True" if self.has_bias else ""
        activation = "" if self.activation is None else f", activation={self.activation}"
        return (f"input_channels={self.in_channels}, output_channels={self.out_channels}"
                f"{bias}{activation}")


class Embedding(Cell):
    """Rows of a table at integer ids.

    Shapes: ids [...] -> [..., embedding_size].
    Errors: IndexFault for an id outside 0..vocab_size-1.
    """

    def __init__(self, vocab_size, embedding_size, use_one_hot=False, embedding_table="normal",
                 dtype="float32", padding_idx=None):
        super().__init__()
        self.vocab_size = positive("vocab_size", vocab_size)
        self.embedding_size = positive("embedding_size", embedding_size)
        self.use_one_hot, self.padding_idx = bool(use_one_hot), padding_idx
        table = initializer(embedding_table, (vocab_size, embedding_size), dtype)
        if padding_idx is not None:
            if not 0 <= padding_idx < vocab_size:
                raise ValueFault(f"padding_idx is {padding_idx}, expected 0 to {vocab_size - 1}")
            table[padding_idx] = 0.0
        self.embedding_table = Parameter(table, name="embedding_table")

    def construct(self, ids):
        if self.use_one_hot:
            return ops.matmul(ops.one_hot(ids, self.vocab_size, 1.0, 0.0), self.embedding_table)
        return ops.embedding(ids, self.embedding_table)

    def extend_repr(self):
        return f"vocab_size={self.vocab_size}, embedding_size={self.embedding_size}"


class Flatten(Cell):
    """The axes from start_dim to end_dim made one: [n, c, h, w] -> [n, c * h * w] by default.

    Errors: ShapeFault for an axis that is not there, or start_dim behind end_dim.
    """

    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def construct(self, x):
        return ops.flatten(x, self.start_dim, self.end_dim)


class Dropout(Cell):
    """In training each element is zero with chance p and the others are divided by 1 - p.

    Dropout(p=0.5) or, as older programs say, Dropout(keep_prob=0.5).
    """

    def __init__(self, keep_prob=None, p=None, dtype="float32"):
        super().__init__()
        if p is None:
            p = 0.5 if keep_prob is None else 1.0 - keep_prob
        elif keep_prob is not None:
            raise ValueFault("Dropout takes p or keep_prob, not both")
        if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 1:
            raise ValueFault(f"Dropout: found p {p!r}, expected a number from 0 to 1")
        self.p = float(p)

    def construct(self, x):
        return ops.dropout(x, self.p, self.training)

    def extend_repr(self):
        return f"p={self.p}"


class Identity(Cell):
    """x."""

    def construct(self, x):
        return x


class OneHot(Cell):
    """`on_value` at the index along a new axis of size depth, `off_value` elsewhere.

    Shapes: indices [...] -> [..., depth], the new axis at `axis`. Dtypes: integers -> `dtype`.
    """

    def __init__(self, axis=-1, depth=1, on_value=1.0, off_value=0.0, dtype="float32"):
        super().__init__()
        self.axis, self.depth, self.dtype = axis, positive("depth", depth), dtype
        self.on_value, self.off_value = on_value, off_value

    def construct(self, indices):
        return ops.one_hot(indices, self.depth, self.on_value, self.off_value, self.axis,
                           dtype_=self.dtype)


class Pad(Cell):
    """Zeros around: `paddings` has (before, after) for each axis."""

    def __init__(self, paddings, mode="CONSTANT"):
        super().__init__()
        if mode.upper() != "CONSTANT":
            raise ValueFault(f"Pad: found mode {mode!r}", 'mode="CONSTANT"')
        if any(len(pair) != 2 for pair in paddings):
            raise ShapeFault(f"Pad: found paddings {paddings}, expected pairs (before, after)")
        self.paddings = tuple(n for pair in reversed(tuple(paddings)) for n in pair)

    def construct(self, x):
        return ops.pad(x, self.paddings)
