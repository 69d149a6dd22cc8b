"""Arithmetic as users write it: promotion and broadcasting over the strict primitives.

Primitives take operands of one dtype and one shape. The functions here take nodes, tensors and
Python numbers in any mixture and insert the casts and broadcasts. They serve user code (eagerly and
when it is parsed), the operations library and the gradient rules alike.

Promotion: Python's own numbers are weak (they take the tensor's dtype unless that cannot hold their
kind: a float with an integer tensor gives f32); two tensors take the higher kind (bool < unsigned,
signed < float) and within a kind the wider; f16 with bf16 gives f32; u64 with a signed type is
refused, because no integer type holds both. Two Python numbers follow Python.
"""

from __future__ import annotations

from cellc.errors import ShapeFault, TypeFault
from cellc.ir.graph import Constant, Node, fill
from cellc.ir.prims import elementwise as e
from cellc.ir.prims import shape as s
from cellc.ir.prims.size import resized
from cellc.ir.types import (
    Dim,
    DType,
    ScalarType,
    Shape,
    TensorType,
    bf16,
    boolean,
    f16,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    u64,
)

_RANK = {"b": 0, "u": 1, "i": 1, "f": 2}       # the higher kind wins
_NUMBER = {bool: ScalarType(boolean), int: ScalarType(i64), float: ScalarType(f64),
           Dim: ScalarType(i64)}


def type_of(x):
    """The TensorType or ScalarType of a node, a tensor, a Python number, a size or a NumPy scalar.
    """
    found = _NUMBER.get(type(x))
    if found is None:
        found = getattr(x, "type", None)
    if isinstance(found, (TensorType, ScalarType)):
        return found
    if hasattr(x, "dtype") and hasattr(x, "shape"):      # np.generic, np.ndarray
        from cellc.ir.types import dtype

        return TensorType(dtype(x.dtype), tuple(x.shape))
    raise TypeFault(f"found {type(x).__name__} where a tensor or number was expected")


def promote(a: DType, b: DType) -> DType:
    """The dtype two tensors meet in."""
    if a is b:
        return a
    if _RANK[a.kind] != _RANK[b.kind]:
        return a if _RANK[a.kind] > _RANK[b.kind] else b
    if {a, b} == {f16, bf16}:
        return f32
    if a.kind == b.kind:
        return a if a.bits >= b.bits else b
    signed, unsigned = (a, b) if a.kind == "i" else (b, a)
    if unsigned is u64:
        raise TypeFault(f"no dtype holds both {a} and {b}", "cast one of them")
    wider = {8: i16, 16: i32, 32: i64}[unsigned.bits]
    return signed if signed.bits > unsigned.bits else wider


def result_dtype(*types) -> DType:
    """The dtype in which operands of these types meet; scalars are weak."""
    tensors = [t.dtype for t in types if isinstance(t, TensorType)]
    scalars = [t.dtype for t in types if isinstance(t, ScalarType)]
    if not tensors:
        return max(scalars, key=lambda d: _RANK[d.kind])
    found = tensors[0]
    for other in tensors[1:]:
        found = promote(found, other)
    for weak in scalars:
        if _RANK[weak.kind] > _RANK[found.kind]:
            found = f32 if weak.kind == "f" else i64
    return found


def is_found(n) -> bool:
    """Is it a size that the program finds?"""
    return isinstance(n, Dim) and n.is_found


def broadcast_shapes(*shapes: Shape) -> Shape:
    """NumPy's rule: align at the right; sizes are equal or one of them is 1. One that the program
    finds is the other it meets, which is checked when it runs."""
    ndim = max(map(len, shapes))
    result = []
    for axis in range(-ndim, 0):
        sizes = [shape[axis] for shape in shapes if len(shape) >= -axis]
        proper = sorted((n for n in sizes if n != 1), key=is_found)
        if any(n != proper[0] and not is_found(n) for n in proper[1:]):
            listed = " and ".join(str(list(shape)) for shape in shapes)
            raise ShapeFault(f"shapes {listed} do not broadcast: sizes "
                             f"{' and '.join(map(str, dict.fromkeys(proper)))} at axis {axis}",
                             "reshape or transpose one operand so that the sizes match or are 1")
        result.append(proper[0] if proper else 1)
    return tuple(result)


def broadcast_to(x, shape: Shape):
    """x repeated along new leading axes and axes of size 1 up to `shape`."""
    own = type_of(x).shape
    if own == tuple(shape):
        return x
    offset = len(shape) - len(own)
    met = tuple(m if n != 1 and (is_found(n) or is_found(m)) else n
                for n, m in zip(own, shape[max(offset, 0):], strict=False))
    if offset >= 0 and met != own:
        x, own = resized(x, shape=met), met
    if offset < 0 or any(n != 1 and n != m for n, m in zip(own, shape[offset:], strict=True)):
        raise ShapeFault(f"shape {list(own)} does not broadcast to {list(shape)}")
    if isinstance(x, Constant) and x.is_fill:
        return fill(TensorType(x.type.dtype, tuple(shape)), x.value)
    return s.broadcast(x, shape=tuple(shape), dims=tuple(range(offset, len(shape))))


def size_number(size: Dim):
    """A symbolic size as a number of the program."""
    n = s.dim_size(dim=Dim(size.name))
    return n if size.coef == 1 else mul(n, size.coef)


def cast(x, dtype: DType):
    """x in another dtype; nothing where it has it already."""
    x = size_number(x) if isinstance(x, Dim) else x
    if isinstance(x, (bool, int, float)):
        t = _NUMBER[type(x)]
        return x if t.dtype is dtype else e.cast(x, dtype=dtype)
    return x if type_of(x).dtype is dtype else e.cast(x, dtype=dtype)


def meet(*xs, dtype: DType | None = None) -> list:
    """The operands in one dtype and one shape; a list of Python numbers alone stays scalar."""
    xs = [size_number(x) if isinstance(x, Dim) else x for x in xs]
    types = [type_of(x) for x in xs]
    dtype = dtype or result_dtype(*types)
    if all(isinstance(t, ScalarType) for t in types):
        return [cast(x, dtype) for x in xs]
    shape = broadcast_shapes(*(t.shape for t in types))
    met = []
    for x, t in zip(xs, types, strict=True):
        if isinstance(x, (bool, int, float)):
            met.append(fill(TensorType(dtype, shape), x))
            continue
        if isinstance(t, ScalarType):       # first a tensor: scalars are never f16 or bf16
            x = s.from_scalar(x)
        met.append(broadcast_to(cast(x, dtype), shape))
    return met


def conform(x, t):
    """x as a value of type t: in its dtype, repeated to its shape; a number where t is one.

    ShapeFault where it does not broadcast.
    """
    is_number = isinstance(type_of(x), ScalarType)
    if isinstance(t, ScalarType):
        return cast(x if is_number else s.to_scalar(x), t.dtype)
    return broadcast_to(cast(s.from_scalar(x) if is_number else x, t.dtype), t.shape)


def _float(xs) -> DType:
    """The dtype in which a true division or a transcendental function of xs is computed."""
    found = result_dtype(*map(type_of, xs))
    if found.is_float:
        return found
    return f64 if all(isinstance(type_of(x), ScalarType) for x in xs) else f32


def _binary(prim):
    def function(x, y):
        return prim(*meet(x, y))

    function.__name__ = prim.name
    function.__doc__ = prim.doc
    return function


def _no_bool(prim, instead: str):
    def function(x, y):
        if result_dtype(type_of(x), type_of(y)).kind == "b":
            if all(isinstance(type_of(v), ScalarType) for v in (x, y)):
                return prim(*(cast(v, i64) for v in (x, y)))
            raise TypeFault(f"{prim.name} of two bool tensors", f"use {instead}")
        return prim(*meet(x, y))

    function.__name__ = prim.name
    function.__doc__ = prim.doc
    return function


add = _no_bool(e.add, "| for a logical or, or cast to an integer first")
sub = _no_bool(e.sub, "^ for a logical difference, or cast to an integer first")
mul = _no_bool(e.mul, "& for a logical and, or cast to an integer first")
floordiv = _no_bool(e.floordiv, "integers")
mod = _no_bool(e.mod, "integers")
minimum, maximum = _binary(e.min), _binary(e.max)
equal, not_equal = _binary(e.eq), _binary(e.ne)
less, less_equal = _binary(e.lt), _binary(e.le)
greater, greater_equal = _binary(e.gt), _binary(e.ge)
bitwise_and, bitwise_or, bitwise_xor = _binary(e.bit_and), _binary(e.bit_or), _binary(e.bit_xor)
left_shift, right_shift = _binary(e.shl), _binary(e.shr)


def div(x, y):
    """True division; integers divide in f32 (Python's own numbers in f64)."""
    return e.div(*meet(x, y, dtype=_float((x, y))))


def pow(x, y):
    """x to the power y. A small known power becomes multiplications, a division or a root."""
    t = type_of(x)
    known = isinstance(y, (int, float)) and not isinstance(y, bool)
    if known and isinstance(t, TensorType) and (
            t.dtype.is_float or t.dtype.is_int and isinstance(y, int)):
        made = _known_power(x, y, t.dtype)
        if made is not None:
            return made
    dtype = result_dtype(type_of(x), type_of(y))
    if dtype.kind == "b":
        dtype = i64 if isinstance(type_of(x), ScalarType) else i8
    return e.pow(*meet(x, y, dtype=dtype))


def _known_power(x, y, dtype):
    """x to a known power where that is a few instructions and about 3 ulp at most; else None."""
    if y in (1, 2, 3):
        return x if y == 1 else e.mul(_known_power(x, y - 1, dtype), x)
    if not dtype.is_float or dtype.bits < 32:   # a rounding of half precision is too many already
        return None
    if y == 0.5:
        return e.sqrt(x)
    if y == -0.5:
        return div(1.0, e.sqrt(x))
    if y in (-1, -2, -3):
        return _known_power(div(1.0, x), -y, dtype)     # the power of x might be out of range
    if y in (4, 6):
        return _known_power(_known_power(x, y // 2, dtype), 2, dtype)
    return e.mul(_known_power(x, 4, dtype), x) if y == 5 else None


def negative(x):
    """-x; a bool tensor is refused."""
    if type_of(x).dtype.kind == "b" and isinstance(type_of(x), TensorType):
        raise TypeFault("negative of a bool tensor", "use ~ for a logical not")
    return e.neg(x)


def where(condition, x, y):
    """x where condition holds, else y; all three broadcast."""
    x, y = meet(x, y)
    shape = broadcast_shapes(type_of(condition).shape, type_of(x).shape)
    if isinstance(type_of(x), ScalarType) and isinstance(type_of(condition), ScalarType):
        return e.select(condition, x, y)
    if isinstance(type_of(condition), ScalarType):
        condition = s.from_scalar(condition)
    x, y = (s.from_scalar(v) if isinstance(type_of(v), ScalarType) else v for v in (x, y))
    return e.select(broadcast_to(cast(condition, boolean), shape), broadcast_to(x, shape),
                    broadcast_to(y, shape))


class Operators:
    """Python's operators for tensors and nodes. No `==`: nodes are compared by identity."""

    __slots__ = ()
    __array_ufunc__ = None      # NumPy arrays on the left give way to __radd__ and the like

    def __add__(self, other):
        return add(self, other)

    def __radd__(self, other):
        return add(other, self)

    def __sub__(self, other):
        return sub(self, other)

    def __rsub__(self, other):
        return sub(other, self)

    def __mul__(self, other):
        return mul(self, other)

    def __rmul__(self, other):
        return mul(other, self)

    def __truediv__(self, other):
        return div(self, other)

    def __rtruediv__(self, other):
        return div(other, self)

    def __neg__(self):
        return negative(self)

    def __pow__(self, other):
        return pow(self, other)


# Nodes get the operators here, not in graph.py, because the operators are made of primitives.
for _name, _method in vars(Operators).items():
    if _name.startswith("__") and callable(_method) and _name not in ("__init__", "__slots__"):
        setattr(Node, _name, _method)
