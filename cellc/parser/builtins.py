"""Python's builtin functions: on known values as they are, on traced values as operations."""

from __future__ import annotations

import builtins
import math
import operator

import gast

from cellc.errors import SyntaxFault, TypeFault
from cellc.ir import arith
from cellc.ir.graph import Node
from cellc.ir.prims import elementwise, shape
from cellc.ir.types import Dim, ScalarType, TensorType, boolean, f64, i64
from cellc.parser import (
    attributes,
    calls,
    control,
    hooks,
    list_methods,
    lists,
    meeting,
    operators,
)
from cellc.parser.text import Printed, Text, say, text
from cellc.parser.values import Closure, describe, need_sizes, traced_in, unknown


def builtin(*functions, taken: bool = True):
    """Decorator: the handler (session, args, kwargs) of these builtins."""
    return lambda handler: calls.handle(handler, *functions, taken=taken)


def natively(session, function, args, kwargs):
    """Python's own answer."""
    session.look_into(*args, *kwargs.values())
    return function(*args, **kwargs)


# -- numbers ---------------------------------------------------------------------------------------

def as_scalar(session, value) -> Node:
    """A traced number, or a tensor of one element, as a node of scalar type."""
    node = session.lift(value)
    if isinstance(node.type, TensorType):
        if node.type.size != 1:
            raise TypeFault(f"found {node.type} where one number is needed",
                            "take one element, x[i], or a sum or mean")
        node = shape.to_scalar(shape.reshape(node, shape=()) if node.type.shape else node)
    return node


@builtin(int)
def call_int(session, args, kwargs):
    if args and isinstance(args[0], Dim):
        return args[0]
    if not args or not operators.is_traced(args[0]):
        return natively(session, int, args, kwargs)
    node = as_scalar(session, args[0])
    if node.type.dtype.is_float:
        node = elementwise.trunc(node)
    return arith.cast(node, i64)


@builtin(float)
def call_float(session, args, kwargs):
    if not args or not operators.is_traced(args[0]):
        return natively(session, float, args, kwargs)
    return arith.cast(as_scalar(session, args[0]), f64)


@builtin(bool)
def call_bool(session, args, kwargs):
    return operators.truth(session, args[0]) if args else False


@builtin(abs)
def call_abs(session, args, kwargs):
    value = args[0]
    if operators.is_traced(value):
        node = session.lift(value)
        if node.type.dtype is boolean:
            return arith.cast(node, i64) if isinstance(node.type, ScalarType) else node
        return elementwise.abs(node)
    function = operators.user_special(value, "__abs__")
    return session.call(function, [value]) if function else abs(value)


@builtin(round)
def call_round(session, args, kwargs):
    value, digits = args[0], args[1] if len(args) > 1 else kwargs.get("ndigits")
    if not operators.is_traced(value):
        return natively(session, round, args, kwargs)
    node = session.lift(value)
    if not node.type.dtype.is_float:
        return node
    if digits is not None:
        if operators.is_traced(digits):
            raise unknown(session.lift(digits), "round() to a number of digits known only when the "
                          "program runs", "give a known number of digits")
        scale = 10.0 ** digits
        return arith.div(elementwise.round(arith.mul(node, scale)), scale)
    node = elementwise.round(node)
    return arith.cast(node, i64) if isinstance(node.type, ScalarType) else node


@builtin(pow)
def call_pow(session, args, kwargs):
    if len(args) == 2 and not kwargs:
        return operators.binary(session, gast.Pow, *args)
    if traced_in([args, kwargs]):
        raise TypeFault("pow() with a modulus takes known values", "write pow(x, y) % n")
    return natively(session, pow, args, kwargs)


@builtin(divmod)
def call_divmod(session, args, kwargs):
    x, y = args
    return (operators.binary(session, gast.FloorDiv, x, y),
            operators.binary(session, gast.Mod, x, y))


@builtin(sum)
def call_sum(session, args, kwargs):
    start = args[1] if len(args) > 1 else kwargs.get("start", 0)
    if lists.on_tape(args[0]) is not None:
        return list_methods.total(session, args[0], start)
    total = start
    for item in control.iterate(session, args[0]):
        if total is start and type(start) is int and start == 0 and operators.is_traced(item):
            total = session.lift(item)      # 0 + x is x
            if total.type == ScalarType(boolean):
                total = arith.cast(total, i64)
        else:
            total = operators.binary(session, gast.Add, total, item)
    return total


def _extreme(function, better: type):
    @builtin(function)
    def handler(session, args, kwargs):
        if len(args) == 1 and not kwargs and lists.on_tape(args[0]) is not None:
            return list_methods.extreme(session, args[0], function)
        items = control.items_of(session, args[0]) if len(args) == 1 else list(args)
        if not items:
            return function(items, **kwargs)
        key = kwargs.get("key")
        keys = items if key is None else [session.call(key, [x]) for x in items]
        best, most = items[0], keys[0]
        for item, this in zip(items[1:], keys[1:], strict=True):
            is_better = operators.truth(session, operators.compare(session, better, this, most))
            if isinstance(is_better, bool):
                best, most = (item, this) if is_better else (best, most)
            elif key is None:
                best = most = _pick(is_better, item, best)
            else:
                raise unknown(is_better, f"{function.__name__}() by a key known only when the "
                              "program runs", "compare the values with ops.where")
        return best

    return handler


def _pick(condition: Node, x, y):
    """x where the condition holds, else y: two numbers in one type."""
    if meeting.meeting_type(x, y) is None:
        raise TypeFault(f"found {describe(x)} and {describe(y)} where two numbers are compared",
                        "use ops.maximum or ops.minimum for tensors")
    return arith.where(condition, x, y)


call_min, call_max = _extreme(min, gast.Lt), _extreme(max, gast.Gt)


def _math(function, operation):
    """A function of `math`, of a traced number: the operation of that name."""
    @builtin(function)
    def handler(session, args, kwargs):
        if not any(map(operators.is_traced, args)):
            return natively(session, function, args, kwargs)
        numbers = []
        for value in args:
            if not operators.is_traced(value):
                numbers.append(float(value))
                continue
            node = session.lift(value)
            if not isinstance(node.type, ScalarType):
                raise TypeFault(f"math.{function.__name__} takes a number, found {node.type}",
                                f"use ops.{operation.name}")
            numbers.append(arith.cast(node, f64))
        result = operation(*numbers)
        whole = function in (math.floor, math.ceil, math.trunc)
        return arith.cast(result, i64) if whole else result

    return handler


for _function, _name in {
        math.sqrt: "sqrt", math.exp: "exp", math.expm1: "expm1", math.log1p: "log1p",
        math.sin: "sin", math.cos: "cos", math.tan: "tan", math.asin: "asin", math.acos: "acos",
        math.atan: "atan", math.sinh: "sinh", math.cosh: "cosh", math.tanh: "tanh",
        math.asinh: "asinh", math.acosh: "acosh", math.atanh: "atanh", math.erf: "erf",
        math.erfc: "erfc", math.fabs: "abs", math.floor: "floor", math.ceil: "ceil",
        math.trunc: "trunc", math.atan2: "atan2", math.pow: "pow", math.lgamma: "lgamma"}.items():
    _math(_function, getattr(elementwise, _name))


@builtin(math.log)
def call_log(session, args, kwargs):
    if not any(map(operators.is_traced, args)):
        return natively(session, math.log, args, kwargs)
    x, *base = (arith.cast(as_scalar(session, v), f64) if operators.is_traced(v) else float(v)
                for v in args)
    top = elementwise.log(x)
    return arith.div(top, elementwise.log(base[0])) if base else top


_IN_PLACE = {
    operator.iadd: gast.Add, operator.isub: gast.Sub, operator.imul: gast.Mult,
    operator.itruediv: gast.Div, operator.ifloordiv: gast.FloorDiv, operator.imod: gast.Mod,
    operator.ipow: gast.Pow, operator.imatmul: gast.MatMult, operator.iand: gast.BitAnd,
    operator.ior: gast.BitOr, operator.ixor: gast.BitXor, operator.ilshift: gast.LShift,
    operator.irshift: gast.RShift}
_UNARY = {operator.neg: gast.USub, operator.pos: gast.UAdd, operator.invert: gast.Invert}
_OPERATORS = {
    operator.add: gast.Add, operator.sub: gast.Sub, operator.mul: gast.Mult,
    operator.truediv: gast.Div, operator.floordiv: gast.FloorDiv, operator.mod: gast.Mod,
    operator.pow: gast.Pow, operator.matmul: gast.MatMult, operator.and_: gast.BitAnd,
    operator.or_: gast.BitOr, operator.xor: gast.BitXor, operator.lshift: gast.LShift,
    operator.rshift: gast.RShift}
_COMPARISONS = {
    operator.eq: gast.Eq, operator.ne: gast.NotEq, operator.lt: gast.Lt, operator.le: gast.LtE,
    operator.gt: gast.Gt, operator.ge: gast.GtE, operator.is_: gast.Is, operator.is_not: gast.IsNot}
for _function, _kind in _OPERATORS.items():
    builtin(_function)(lambda session, args, kwargs, k=_kind: operators.binary(session, k, *args))
for _function, _kind in _COMPARISONS.items():
    builtin(_function)(lambda session, args, kwargs, k=_kind: operators.compare(session, k, *args))


for _function, _kind in _IN_PLACE.items():
    builtin(_function)(lambda session, args, kwargs, k=_kind: operators.in_place(session, k, *args))
for _function, _kind in _UNARY.items():
    builtin(_function)(lambda session, args, kwargs, k=_kind: operators.unary(session, k, *args))
builtin(operator.concat)(lambda session, args, kwargs: operators.binary(session, gast.Add, *args))
builtin(operator.abs)(call_abs)
builtin(operator.getitem)(lambda session, args, kwargs: attributes.load_item(session, *args))
builtin(operator.setitem)(lambda session, args, kwargs: attributes.store_item(session, *args))
builtin(operator.delitem)(lambda session, args, kwargs: attributes.delete_item(session, *args))
builtin(operator.truth)(lambda session, args, kwargs: operators.truth(session, *args))
builtin(operator.contains)(lambda session, args, kwargs: operators.contains(session, *args))
builtin(operator.not_)(
    lambda session, args, kwargs: operators.negate(operators.truth(session, *args)))


# -- objects ---------------------------------------------------------------------------------------

@builtin(isinstance)
def call_isinstance(session, args, kwargs):
    value, kinds = args
    if isinstance(value, Dim):
        value = 1
    if not operators.is_traced(value):
        if isinstance(value, Closure):
            value = call_isinstance         # a plain function
        return isinstance(value, kinds)
    return issubclass(class_of(value), kinds)


def class_of(value) -> type:
    """The class that a traced value has when it is there."""
    if isinstance(value, hooks.Tensor):
        return type(value)
    if isinstance(value.type, ScalarType):
        return {"b": bool, "i": int, "f": float}[value.type.dtype.kind]
    return hooks.Tensor


@builtin(type)
def call_type(session, args, kwargs):
    if len(args) != 1:
        raise SyntaxFault("type() with three arguments makes a class", "define it outside")
    value = args[0]
    if operators.is_traced(value):
        return class_of(value)
    return int if isinstance(value, Dim) else type(value)


@builtin(getattr)
def call_getattr(session, args, kwargs):
    value, name = args[:2]
    if len(args) > 2 and not attributes.exists(session, value, name):
        return args[2]
    return attributes.load(session, value, name)


@builtin(hasattr)
def call_hasattr(session, args, kwargs):
    return attributes.exists(session, *args)


@builtin(setattr)
def call_setattr(session, args, kwargs):
    attributes.store(session, *args)


@builtin(delattr)
def call_delattr(session, args, kwargs):
    attributes.delete(session, *args)


@builtin(object.__setattr__)
def call_object_setattr(session, args, kwargs):
    attributes.store_plainly(session, *args)


@builtin(vars)
def call_vars(session, args, kwargs):
    value, = args
    if value not in session.owned:
        raise SyntaxFault("vars() of an object made outside the compiled call",
                          "read its attributes by name")
    return dict(vars(value))


@builtin(callable)
def call_callable(session, args, kwargs):
    return callable(args[0])


@builtin(super)
def call_super(session, args, kwargs):
    return super(*args)


@builtin(id, hash, taken=False)
def call_identity(session, args, kwargs):
    raise SyntaxFault("id() and hash() of values differ from run to run",
                      "compare with `is` or ==")


@builtin(builtins.eval, builtins.exec, builtins.compile, globals, locals, open, input,
         builtins.__import__, breakpoint, dir, memoryview, taken=False)
def call_refused(session, args, kwargs):
    raise SyntaxFault("this builtin reaches into Python while the program runs, which a compiled "
                      "call does not do", "call it outside, and pass in its result")


# -- text ------------------------------------------------------------------------------------------

@builtin(print)
def call_print(session, args, kwargs):
    need_sizes((args, kwargs), "the text")
    say(session, Printed(session, (tuple(args), dict(kwargs))))


@builtin(str)
def call_str(session, args, kwargs):
    need_sizes(args, "the text")
    if args and traced_in(args[0]):
        return args[0] if isinstance(args[0], Text) else text("format", "{}", (args[0],))
    function = operators.user_special(args[0], "__str__") if args else None
    return session.call(function, [args[0]]) if function else natively(session, str, args, kwargs)


@builtin(repr)
def call_repr(session, args, kwargs):
    need_sizes(args, "the text")
    if traced_in(args[0]):
        return text("format", "{!r}", (args[0],))
    function = operators.user_special(args[0], "__repr__")
    return session.call(function, [args[0]]) if function else natively(session, repr, args, kwargs)


@builtin(format)
def call_format(session, args, kwargs):
    need_sizes(args, "the text")
    if traced_in(args[0]):
        return text("format", "{:" + (args[1] if len(args) > 1 else "") + "}", (args[0],))
    return natively(session, format, args, kwargs)


@builtin(slice)
def call_slice(session, args, kwargs):
    return slice(*args)
