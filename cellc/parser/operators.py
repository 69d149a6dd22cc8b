"""Python's operators on known and traced values, truth, equality and membership."""

from __future__ import annotations

import operator
from types import FunctionType

import gast
import numpy as np

from cellc.errors import TypeFault
from cellc.ir import arith
from cellc.ir.graph import Constant, Node, scalar
from cellc.ir.prims import elementwise, shape
from cellc.ir.types import Dim, ScalarType, TensorType, boolean
from cellc.parser import hooks, list_methods, lists
from cellc.parser.exceptions import ends_branch
from cellc.parser.frame import Ended
from cellc.parser.guards import is_steady, look
from cellc.parser.text import Piece, Raised, Text, check, text, unseen
from cellc.parser.values import SIMPLE, describe, need_sizes, traced_in, unknown

BINARY = {
    gast.Add: (operator.add, arith.add, "__add__", "+"),
    gast.Sub: (operator.sub, arith.sub, "__sub__", "-"),
    gast.Mult: (operator.mul, arith.mul, "__mul__", "*"),
    gast.Div: (operator.truediv, arith.div, "__truediv__", "/"),
    gast.FloorDiv: (operator.floordiv, arith.floordiv, "__floordiv__", "//"),
    gast.Mod: (operator.mod, arith.mod, "__mod__", "%"),
    gast.Pow: (operator.pow, arith.pow, "__pow__", "**"),
    gast.LShift: (operator.lshift, arith.left_shift, "__lshift__", "<<"),
    gast.RShift: (operator.rshift, arith.right_shift, "__rshift__", ">>"),
    gast.BitAnd: (operator.and_, arith.bitwise_and, "__and__", "&"),
    gast.BitOr: (operator.or_, arith.bitwise_or, "__or__", "|"),
    gast.BitXor: (operator.xor, arith.bitwise_xor, "__xor__", "^"),
    gast.MatMult: (operator.matmul, None, "__matmul__", "@"),
}
ORDER = {
    gast.Lt: (operator.lt, arith.less, "__lt__", "<"),
    gast.LtE: (operator.le, arith.less_equal, "__le__", "<="),
    gast.Gt: (operator.gt, arith.greater, "__gt__", ">"),
    gast.GtE: (operator.ge, arith.greater_equal, "__ge__", ">="),
}
_IN_PLACE = {gast.Add: operator.iadd, gast.Mult: operator.imul, gast.BitOr: operator.ior,
             gast.BitAnd: operator.iand, gast.BitXor: operator.ixor, gast.Sub: operator.isub}
_PLAIN = frozenset((int, float, bool, str))


def is_traced(value) -> bool:
    return isinstance(value, hooks.traced)


def binary(session, kind: type, x, y):
    """`x op y`."""
    known, traced, method, symbol = BINARY[kind]
    if type(x) in _PLAIN and type(y) in _PLAIN:
        try:
            return known(x, y)
        except ZeroDivisionError as error:
            if not ends_branch(session):
                raise
            _divides_by_zero(session, scalar(False), session.conditions, error)
            raise Ended from None
    found = _by_user(session, method, x, y)
    if found is not NotImplemented:
        return found
    if kind is gast.Mod and (isinstance(x, str) and traced_in(y) or isinstance(x, Text)):
        return x % y if isinstance(x, Text) else text("%", x, y)
    if is_traced(x) or is_traced(y):
        if kind in (gast.FloorDiv, gast.Mod) and _is_int(x) and _is_int(y):
            _check_divisor(session, y)
        return _traced(session, traced, symbol, x, y)
    if isinstance(x, Dim) or isinstance(y, Dim) or isinstance(x, str) and not isinstance(y, Text):
        return _with_sizes(known, symbol, x, y)
    if kind is gast.Add and type(x) is type(y) is list and _on_tape(x, y):
        return list_methods.together(session, x, y)
    session.look_at(x), session.look_at(y)
    session.look_into(*(v for v in (x, y) if not isinstance(v, (list, tuple, dict))))
    result = known(x, y)
    if isinstance(result, (list, dict, set)):
        session.owned.add(result)
    return result


def _on_tape(*values) -> bool:
    return any(lists.on_tape(x) is not None for x in values)


def _is_int(value) -> bool:
    """Is it a Python int or bool, known or traced?"""
    if is_traced(value):
        return isinstance(value.type, ScalarType) and not value.type.dtype.is_float
    return isinstance(value, int)


def _check_divisor(session, y) -> None:
    """Python has no integer to divide by zero with; numbers of other kinds follow IEEE 754."""
    if is_traced(y) or y == 0:
        _divides_by_zero(session, arith.not_equal(y, 0) if is_traced(y) else scalar(False),
                         [session.lift(y)], ZeroDivisionError("integer division or modulo by zero"))


def _divides_by_zero(session, unless, conditions: list, error: ZeroDivisionError) -> None:
    """The program raises the error, unless the condition holds."""
    session.check_uncaught(ZeroDivisionError, session.builder.loc, *conditions[-1:])
    check(session, unless, Raised(session, (ZeroDivisionError, error.args)))


def _with_sizes(known, symbol: str, x, y):
    """An operator on a symbolic size; SymbolicFault where only numbers have it (n / 2, n ** k)."""
    if isinstance(x, str):
        need_sizes(y, "the text")
        return known(x, y)
    try:
        return known(x, y)
    except TypeError:
        need_sizes((x, y), f"{symbol} with the number")
        raise


def in_place(session, kind: type, x, y):
    """`x op= y`: the same list, dict or set changed; anything else as `x op y`."""
    from cellc.parser.iteration import items_of

    if kind is gast.Add and isinstance(x, list) and _on_tape(x, y):
        list_methods.extend(session, x, y)
        return x
    if isinstance(x, (list, dict, set)) and kind in _IN_PLACE:
        session.look_at(x)
        session.about_to_change(x, f"{BINARY[kind][3]}=")
        return _IN_PLACE[kind](x, items_of(session, y) if isinstance(x, list) and kind is gast.Add
                               else y)
    function = user_special(x, f"__i{BINARY[kind][2][2:]}")
    if function is not None:
        found = session.call(function, [x, y])
        if found is not NotImplemented:
            return found
    return binary(session, kind, x, y)


def _traced(session, function, symbol: str, x, y):
    for value, other in ((x, y), (y, x)):
        if isinstance(value, (list, tuple, str)) and is_traced(other) and symbol == "*":
            raise unknown(session.lift(other), f"a {type(value).__name__} is repeated a number of "
                          "times known only when the program runs", "use a known number")
        if not _is_operand(value):
            raise TypeFault(f"found {describe(x)} {symbol} {describe(y)}",
                            "both operands must be tensors or numbers")
    x, y = (v if is_traced(v) or type(v) in _PLAIN else as_number(session, v) for v in (x, y))
    if function is not None:
        return function(x, y)
    for node in (x, y):
        if not is_traced(node) or isinstance(node.type, ScalarType):
            raise TypeFault(f"found {describe(x)} @ {describe(y)}", "use * to scale by a number")
    return hooks.Tensor.__matmul__(x, y)


def _is_operand(value) -> bool:
    """Is it a tensor, a number or an array?"""
    return is_traced(value) or isinstance(value, (bool, int, float, Dim)) or hasattr(
        value, "__array_interface__")


def as_number(session, value):
    """A known value in arithmetic with a traced one: a size as a number, an array as a tensor."""
    if isinstance(value, Dim):
        return arith.size_number(value)
    for kind in (bool, int, float):     # a member of an IntEnum
        if isinstance(value, kind) and not isinstance(value, np.generic):
            return kind(value)
    return session.lift(value)


_REFLECTED = {"__lt__": "__gt__", "__gt__": "__lt__", "__le__": "__ge__", "__ge__": "__le__",
              "__eq__": "__eq__", "__ne__": "__ne__"}


def _by_user(session, method: str, x, y):
    """What the operator of a user's class gives, interpreted; NotImplemented where there is none.

    The right operand comes first where its class is derived from the left one's.
    """
    reflected = _REFLECTED.get(method, f"__r{method[2:]}")
    order = [(x, y, method), (y, x, reflected)]
    if type(y) is not type(x) and isinstance(y, type(x)):
        order.reverse()
    for owner, other, name in order:
        if type(x) is type(y) and name not in (method, *_REFLECTED):
            continue            # objects of one class are not asked the other way round
        function = user_special(owner, name)
        if function is not None:
            found = session.call(function, [owner, other])
            if found is not NotImplemented:
                return found
    return NotImplemented


def user_special(value, name: str) -> FunctionType | None:
    """The Python function a user's class has under a special name."""
    kind = type(value)
    if kind in SIMPLE or kind in (list, tuple, dict) or is_steady(kind.__module__):
        return None
    function = getattr(kind, name, None)
    return function if isinstance(function, FunctionType) and not is_steady(
        function.__module__) else None


def unary(session, kind: type, x):
    """`+x`, `-x`, `~x`."""
    if isinstance(x, hooks.traced):
        if kind is gast.USub:
            return arith.negative(x)
        if kind is gast.UAdd:
            return session.lift(x)
        if isinstance(x.type, ScalarType):
            return invert_scalar(x)
        return hooks.Tensor.__invert__(x)
    name, known = {gast.USub: ("__neg__", operator.neg), gast.UAdd: ("__pos__", operator.pos),
                   gast.Invert: ("__invert__", operator.invert)}[kind]
    function = user_special(x, name)
    session.look_into(x)
    return session.call(function, [x]) if function else known(x)


def invert_scalar(x: Node) -> Node:
    """Python's ~ of a number: of a bool too it is that of an int."""
    return arith.sub(-1, x)


# -- truth -----------------------------------------------------------------------------------------

def truth(session, value):
    """The truth of a value: a Python bool, or a node of scalar bool type."""
    if isinstance(value, hooks.traced):
        return traced_truth(session.lift(value))
    if lists.on_tape(value) is not None:
        return arith.greater(lists.length(session, value), 0)
    session.look_at(value)
    if isinstance(value, (Text, Piece)):
        raise unseen()
    function = user_special(value, "__bool__") or user_special(value, "__len__")
    if function is not None:
        return truth(session, session.call(function, [value]))
    session.look_over(value)
    return bool(value)


def traced_truth(value: Node) -> Node | bool:
    if isinstance(value, Constant) and value.is_fill:
        return bool(value.value)
    if isinstance(value.type, TensorType):
        if value.type.size != 1:
            raise TypeFault(f"found {value.type} where one true or false is needed",
                            "use .any() or .all(), or select elementwise with ops.where")
        value = shape.to_scalar(shape.reshape(value, shape=()) if value.type.shape else value)
    if value.type.dtype is boolean:
        return value
    return arith.not_equal(value, 0)


def negate(value):
    """`not` of a bool or a node of scalar bool type."""
    return elementwise.bit_not(value) if isinstance(value, Node) else not value


def both(x, y):
    """The conjunction of two truths that are both at hand."""
    if isinstance(x, bool):
        return y if x else False
    if isinstance(y, bool):
        return x if y else False
    return elementwise.bit_and(x, y)


def either(x, y):
    """The disjunction of two truths that are both at hand."""
    if isinstance(x, bool):
        return True if x else y
    if isinstance(y, bool):
        return True if y else x
    return elementwise.bit_or(x, y)


# -- comparison ------------------------------------------------------------------------------------

def compare(session, kind: type, x, y):
    """One comparison `x op y`."""
    if kind not in (gast.Is, gast.IsNot) and (isinstance(x, Text) or isinstance(y, Text)):
        raise unseen()
    if kind in ORDER:
        known, traced, method, symbol = ORDER[kind]
        found = _by_user(session, method, x, y)
        if found is not NotImplemented:
            return found
        if is_traced(x) or is_traced(y):
            return _traced(session, traced, symbol, x, y)
        session.look_into(x, y)
        return known(x, y)
    if kind is gast.Eq:
        return equal(session, x, y)
    if kind is gast.NotEq:
        found = _by_user(session, "__ne__", x, y)
        if found is not NotImplemented:
            return found
        if is_traced(x) or is_traced(y):
            return equal(session, x, y, arith.not_equal)
        return negate(truth(session, equal(session, x, y)))
    if kind is gast.Is:
        return _identical(session, x, y)
    if kind is gast.IsNot:
        return negate(_identical(session, x, y))
    found = contains(session, y, x)
    return found if kind is gast.In else negate(found)


def _identical(session, x, y):
    """`x is y`; of a traced bool and True or False, which there are only one of, equality."""
    for value, other in ((x, y), (y, x)):
        if type(other) is bool and isinstance(value, Node) and value.type == arith.type_of(True):
            return value if other else negate(value)
    if session.aliases.may_be_one(x, y):
        raise TypeFault("whether these are the same object is known only when the program runs",
                        "keep in a variable which of the two it is")
    return session.aliases.itself(x) is session.aliases.itself(y)


def equal(session, x, y, function=arith.equal):
    """`x == y`: a tensor where one of them is traced; known where both are."""
    found = _by_user(session, "__eq__", x, y)
    if found is not NotImplemented:
        return found
    if isinstance(x, Text) or isinstance(y, Text):
        raise unseen()
    if is_traced(x) or is_traced(y):
        if not (_is_operand(x) and _is_operand(y)):
            return function is not arith.equal      # never equal, as Python has it
        return _traced(session, function, "==", x, y)
    if isinstance(x, Dim) or isinstance(y, Dim):
        return _equal_sizes(x, y)
    if type(x) is type(y) is list and _on_tape(x, y):
        return list_methods.equal(session, x, y)
    if isinstance(x, (tuple, list)) and type(x) is type(y):
        session.look_at(x), session.look_at(y)
        if len(x) != len(y):
            return False
        result = True
        for a, b in zip(x, y, strict=True):
            if a is not b:
                result = both(result, truth(session, equal(session, a, b)))
            if result is False:
                return False
        return result
    if isinstance(x, dict) and isinstance(y, dict) and (traced_in(x) or traced_in(y)):
        if x.keys() != y.keys():
            return False
        return equal(session, list(x.values()), [y[key] for key in x])
    if user_special(x, "__eq__") or user_special(y, "__eq__"):
        return x is y           # both have said NotImplemented
    session.look_into(x, y)
    return x == y


def _equal_sizes(x, y) -> bool:
    """Equality with a symbolic size, where it can be known for every size."""
    size, other = (x, y) if isinstance(x, Dim) else (y, x)
    if isinstance(other, Dim) and other.name != size.name:
        return size._refuse(f"comparing {size} with {other}")
    if not isinstance(other, (int, float, Dim)) or isinstance(other, Dim):
        return size == other
    return not (size > other or size < other)


def contains(session, container, value):
    """`value in container`, a bool or a node of scalar bool type."""
    from cellc.parser.iteration import iterate

    if isinstance(container, hooks.traced):
        raise TypeFault(f"found `in` with {describe(container)} on the right",
                        "use (x == value).any()")
    function = user_special(container, "__contains__")
    if function is not None:
        return truth(session, session.call(function, [container, value]))
    if _on_tape(container):
        return list_methods.contains(session, container, value)
    through = isinstance(container, (tuple, list)) or hasattr(type(container), "restore") or (
        user_special(container, "__iter__") or user_special(container, "__getitem__"))
    if through:
        result = False
        for item in iterate(session, container):
            found = True if item is value else truth(session, equal(session, value, item))
            result = either(result, found)
            if result is True:
                return True
        return result
    if is_traced(value):
        raise unknown(session.lift(value), f"{describe(value)} is looked up in a "
                      f"{type(container).__name__}, and what is looked up must be known",
                      "compare with the items of a tuple or list")
    if isinstance(container, hooks.Cell):
        session.read("contents", container, "", look("contents", container, ""))
    if not isinstance(container, (str, range)):
        need_sizes(value, "a key")
        session.look_over(container)
    return value in container
