"""Tensor: a NumPy array with a type, operators, methods, and a place for its gradient.

A Tensor is a value: nothing changes its array in place, except that a Parameter is assigned.
Compiled code makes Tensors itself, slot by slot; so the class has no invariant beyond its slots.
Methods are one line each over the functions of `cellc.ops`: the compiler calls them with graph
nodes as `self`, and they then build graph instead.
"""

from __future__ import annotations

import functools
from types import GenericAlias

import numpy as np

from cellc.errors import TypeFault, ValueFault
from cellc.ir import arith, numerics
from cellc.ir.types import DType, ScalarType, TensorType, bf16, dtype, f32, f64

# What the slots beside `_array` hold in a fresh tensor.
SLOT_DEFAULTS = {"requires_grad": False, "grad": None, "_record": None, "_type": None}


class Tensor(arith.Operators):
    """An n-dimensional array of one dtype.

    Tensor(data, dtype=None, requires_grad=False): `data` is a number, a nested list, an array or a
    tensor; it is copied. Python floats become float32, ints int64, arrays keep their dtype.

    Fields: `shape`, `dtype`, `ndim`, `size`, `type`; `requires_grad` and `grad` for the tape.
    Errors: TypeFault for data or a dtype that is none; ValueFault for ragged lists.
    """

    __slots__ = ("_array", *SLOT_DEFAULTS, "__weakref__")
    __class_getitem__ = classmethod(GenericAlias)       # the type hint Tensor["f32[n,4]"]

    def __init__(self, input_data=None, dtype=None, requires_grad=False):
        self._array = to_array(input_data, dtype)
        self.requires_grad, self.grad, self._record, self._type = False, None, None, None
        if requires_grad:
            if not self.dtype.is_float:
                raise TypeFault(f"a gradient for a tensor of dtype {self.dtype}",
                                "make it a float tensor: dtype=cellc.float32")
            self.requires_grad = True

    # -- what it is ------------------------------------------------------------------------------

    @property
    def type(self) -> TensorType:
        found = self._type
        if found is None:
            array = self._array
            found = self._type = TensorType(dtype(array.dtype), array.shape)
        return found

    @property
    def dtype(self) -> DType:
        return self.type.dtype

    @property
    def shape(self) -> tuple:
        return self.type.shape

    @property
    def ndim(self) -> int:
        return len(self.type.shape)

    @property
    def size(self) -> int:
        return self.type.size

    @property
    def itemsize(self) -> int:
        return self.type.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.itemsize * self.size

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded operation made it."""
        return self._record is None

    @property
    def T(self):
        return ops.transpose(self)

    @property
    def mT(self):
        return ops.swapaxes(self, -2, -1)

    @property
    def data(self):
        """The same values, off the tape."""
        return ops.stop_gradient(self)

    @data.setter
    def data(self, value):
        self._array, self._record, self._type = to_array(value, self.dtype), None, None

    # -- to Python and NumPy -----------------------------------------------------------------------

    def asnumpy(self) -> np.ndarray:
        """The values as an array that shares memory with the tensor (bfloat16: as float32)."""
        return to_float32(self._array) if self.dtype is bf16 else self._array

    def numpy(self) -> np.ndarray:
        return self.asnumpy()

    def __array__(self, dtype=None, copy=None):
        array = self.asnumpy()
        if dtype is not None and array.dtype != dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __dlpack__(self, **options):
        if self.dtype is bf16:
            raise TypeFault("NumPy has no bfloat16 to hand over", "x.astype(cellc.float32)")
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()

    def item(self, *index):
        """One element as a Python number.

        Errors: TypeFault within cellc.grad for what is differentiated: a Python number is constant.
        """
        if self.requires_grad:
            from cellc.eager import refuse_constant

            refuse_constant(self)
        return self._element(*index)

    def _element(self, *index):
        array = self.asnumpy()
        if not index and array.size != 1:
            raise ValueFault(f"item() of a tensor of shape {list(self.shape)}",
                             "x[i].item(), or x.tolist() for all")
        return array.item(*index)

    def tolist(self):
        return self.asnumpy().tolist()

    def __bool__(self):
        if self._array.size != 1:
            raise ValueFault(f"the truth of a tensor of shape {list(self.shape)}",
                             "x.any() or x.all()")
        return bool(self.asnumpy().item())

    def __int__(self):
        return int(self._element())

    def __float__(self):
        return float(self.item())

    def __index__(self):
        if self.dtype.is_float or self._array.size != 1:
            raise TypeFault(f"found {self.type} where an index was expected")
        return int(self._array.item())

    def __len__(self):
        if self.ndim == 0:
            raise TypeFault("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self):
        """The items of the first axis, as they are now: what is assigned meanwhile is not seen."""
        return iter([self[i] for i in range(len(self))])

    def __contains__(self, value):
        return bool(np.any(self.asnumpy() == np.asarray(value)))

    def __repr__(self):
        if isinstance(self.type, ScalarType):
            return repr(self._array.item())
        name = self.dtype.long_name
        name = "BFloat16" if name == "bfloat16" else name.capitalize()
        values = np.array2string(self.asnumpy(), separator=", ")
        line = "\n" if self.ndim else ""
        extra = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor(shape={list(self.shape)}, dtype={name}, value={line}{values}{extra})"

    def __format__(self, spec):
        return format(self._element(), spec) if spec else str(self)

    def __copy__(self):
        return Tensor(self)

    def __deepcopy__(self, memo):
        return Tensor(self, requires_grad=self.requires_grad)

    def __reduce__(self):
        return (_rebuild, (self._array, self.dtype, self.requires_grad))

    # -- the tape ----------------------------------------------------------------------------------

    def backward(self, gradient=None, retain_graph=False, create_graph=False):
        """Add d(self)/d(leaf) * gradient to `leaf.grad` of every leaf that requires a gradient.

        `gradient` may be left out where self is a single number. Eager mode only. The records are
        freed unless `retain_graph`; with `create_graph` the gradients can be differentiated again.
        Errors: ValueFault where nothing requires a gradient or the records are freed; ShapeFault.
        """
        from cellc.eager import backward

        backward(self, gradient, retain_graph, create_graph)

    def detach(self):
        return ops.stop_gradient(self)

    def requires_grad_(self, requires_grad=True):
        self.requires_grad = requires_grad
        return self

    def copy(self):
        return ops.identity(self)

    clone = copy

    # -- operators that nodes and numbers do not share ---------------------------------------------

    __hash__ = object.__hash__

    def __eq__(self, other):
        return arith.equal(self, other) if _is_value(other) else NotImplemented

    def __ne__(self, other):
        return arith.not_equal(self, other) if _is_value(other) else NotImplemented

    def __lt__(self, other):
        return arith.less(self, other)

    def __le__(self, other):
        return arith.less_equal(self, other)

    def __gt__(self, other):
        return arith.greater(self, other)

    def __ge__(self, other):
        return arith.greater_equal(self, other)

    def __floordiv__(self, other):
        return arith.floordiv(self, other)

    def __rfloordiv__(self, other):
        return arith.floordiv(other, self)

    def __mod__(self, other):
        return arith.mod(self, other)

    def __rmod__(self, other):
        return arith.mod(other, self)

    def __divmod__(self, other):
        return arith.floordiv(self, other), arith.mod(self, other)

    def __rpow__(self, other):
        return arith.pow(other, self)

    def __matmul__(self, other):
        return ops.matmul(self, other)

    def __rmatmul__(self, other):
        return ops.matmul(other, self)

    def __and__(self, other):
        return arith.bitwise_and(self, other)

    def __rand__(self, other):
        return arith.bitwise_and(other, self)

    def __or__(self, other):
        return arith.bitwise_or(self, other)

    def __ror__(self, other):
        return arith.bitwise_or(other, self)

    def __xor__(self, other):
        return arith.bitwise_xor(self, other)

    def __rxor__(self, other):
        return arith.bitwise_xor(other, self)

    def __lshift__(self, other):
        return arith.left_shift(self, other)

    def __rlshift__(self, other):
        return arith.left_shift(other, self)

    def __rshift__(self, other):
        return arith.right_shift(self, other)

    def __rrshift__(self, other):
        return arith.right_shift(other, self)

    def __invert__(self):
        return ops.bitwise_not(self)

    def __pos__(self):
        return self

    def __abs__(self):
        return ops.abs(self)

    def __getitem__(self, index):
        return ops.getitem(self, index)

    def __setitem__(self, index, value):
        """Take the value with the place replaced: seen under every name of this tensor."""
        from cellc.eager import state

        if self.requires_grad and self._record is None and state.recording:
            raise ValueFault("setting part of a leaf that requires a gradient",
                             "work on a copy, x = x.copy(), or under cellc.no_grad()")
        keep = self.requires_grad and self._record is None
        new = ops.setitem(self, index, value)
        self._replace(new)
        self._record, self.requires_grad = new._record, keep or new.requires_grad

    def _replace(self, new):
        """Take over the array of `new`."""
        self._array = new._array

    def _inplace(self, new):
        """`a -= b` changes a leaf under `no_grad`; everywhere else it makes a new tensor."""
        from cellc.eager import state

        if not (self.requires_grad and self._record is None) or state.recording:
            return new
        new = ops.cast(new, self.dtype)
        if new.shape != self.shape:
            raise ValueFault(f"a leaf of shape {list(self.shape)} was updated to {list(new.shape)}")
        self._replace(new)
        return self

    def __iadd__(self, other):
        return self._inplace(arith.add(self, other))

    def __isub__(self, other):
        return self._inplace(arith.sub(self, other))

    def __imul__(self, other):
        return self._inplace(arith.mul(self, other))

    def __itruediv__(self, other):
        return self._inplace(arith.div(self, other))


def _is_value(x) -> bool:
    return isinstance(x, (bool, int, float, np.generic, np.ndarray)) or hasattr(x, "type")


def _deferring(method, reflected: str):
    """The operator, which leaves an object of the user's to that object's own reflected one."""
    @functools.wraps(method)
    def operate(self, other):
        try:
            return method(self, other)
        except TypeFault:
            if _is_value(other) or not hasattr(type(other), reflected):
                raise
            return NotImplemented

    return operate


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or",
              "xor", "lshift", "rshift"):
    setattr(Tensor, f"__{_name}__", _deferring(getattr(Tensor, f"__{_name}__"), f"__r{_name}__"))


def _rebuild(array, kind, requires_grad):
    x = wrap(array, TensorType(kind, array.shape))
    x.requires_grad = requires_grad
    return x


def wrap(array: np.ndarray, type) -> Tensor:
    """A Tensor around an array that nobody else holds."""
    x = Tensor.__new__(Tensor)
    x._array, x._type = array, type
    x.requires_grad, x.grad, x._record = False, None, None
    return x


# -- from data ------------------------------------------------------------------------------------


def to_float32(array: np.ndarray) -> np.ndarray:
    """The values of a bfloat16 array in float32."""
    return numerics.to_compute(array)


def to_array(data, kind=None) -> np.ndarray:
    """A fresh C-contiguous array of the data in a dtype (by default its own; see Tensor)."""
    kind = None if kind is None else dtype(kind)
    if isinstance(data, Tensor):
        own, array = data.dtype, data._array
    else:
        array = _from_python(data)
        own = dtype(array.dtype)
        if _is_python(data):
            own = f32 if own is f64 and kind is not f64 else own
    kind = kind or own
    if dtype(array.dtype) is kind:
        return np.array(array, order="C")
    return np.array(numerics.cast(array, kind), order="C")


def _from_python(data) -> np.ndarray:
    if isinstance(data, (list, tuple)):
        data = _unwrap(data)
    try:
        array = np.asarray(data)
    except (ValueError, TypeError) as error:
        raise ValueFault(f"no array can be made of these values: {error}",
                         "lists must have equal lengths at each level") from None
    if array.dtype.kind in "OUSmMcV" and array.dtype != bf16.numpy:
        raise TypeFault(f"found {type(data).__name__} where the data of a tensor was expected",
                        "numbers, nested lists of numbers, or an array")
    return array.astype(np.float32) if isinstance(data, list) and array.size == 0 else array


def _unwrap(data):
    """Nested lists with the tensors in them as arrays."""
    if isinstance(data, (list, tuple)):
        return [_unwrap(x) for x in data]
    return data.asnumpy() if isinstance(data, Tensor) else data


def _is_python(data) -> bool:
    """Whether the data is Python's own numbers rather than an array's."""
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return type(data) in (bool, int, float)


# -- methods -----------------------------------------------------------------------------------


def _method(name: str, function_name: str = ""):
    """A method that calls a function of cellc.ops, found only then: ops imports this file."""
    function_name = function_name or name

    def method(self, *args, **kwargs):
        return getattr(ops, function_name)(self, *args, **kwargs)

    method.__name__ = name
    method.__qualname__ = f"Tensor.{name}"
    method.__doc__ = f"See cellc.ops.{function_name}."
    return method


_SAME_NAME = """
abs neg sign floor ceil trunc round square sqrt rsqrt exp expm1 exp2 log log1p log2 log10 sin cos
tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc erfinv sigmoid relu reciprocal isnan
isinf isfinite softmax log_softmax gelu clip pow add sub mul div floordiv mod equal not_equal less
less_equal greater greater_equal maximum minimum logical_not logical_and logical_or logical_xor
atan2 lerp addcmul isclose masked_fill cast sum mean prod var std amax amin all any
argmax argmin cumsum logsumexp norm reshape view ravel transpose permute swapaxes moveaxis
expand_dims unsqueeze squeeze broadcast_to expand expand_as tile repeat repeat_interleave flip roll
split chunk unbind tril triu diagonal matmul mm bmm dot outer take gather index_select
gather_elements scatter_add sort argsort topk nonzero masked_select zeros_like ones_like
""".split()  # noqa: SIM905  (a list of that many quoted words is harder to read)
_OTHER_NAME = {
    "astype": "cast", "to": "cast", "type_as": "cast_as", "bool": "to_bool", "int": "to_int",
    "long": "to_long", "half": "to_half", "float": "to_float", "double": "to_double",
    "clamp": "clip", "multiply": "mul", "subtract": "sub", "divide": "div", "true_divide": "div",
    "negative": "neg", "absolute": "abs", "eq": "equal", "ne": "not_equal", "lt": "less",
    "le": "less_equal", "gt": "greater", "ge": "greater_equal", "unstack": "unbind",
    "max": "amax", "min": "amin", "where": "keep_where", "flatten": "flatten_all",
}
for _name in _SAME_NAME:
    setattr(Tensor, _name, _method(_name))
for _name, _function in _OTHER_NAME.items():
    setattr(Tensor, _name, _method(_name, _function))

from cellc import ops  # noqa: E402  (ops is made of Tensors: it comes last)
