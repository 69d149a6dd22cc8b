"""Derivatives of higher order along a curve: MindSpore's `jet` and `derivative`.

The arguments become a curve x(t) = x + s1 t + s2 t^2 / 2! + ..., and fn(x(t)) is differentiated by
the number t at 0, forwards, as often as asked; each order goes on from those before it.
"""

from __future__ import annotations

from cellc.errors import ShapeFault, TypeFault, ValueFault
from cellc.ir import arith
from cellc.ir.types import f32
from cellc.ops.common import tensor_of
from cellc.ops.indexing import getitem
from cellc.ops.shape import stack
from cellc.ops.transforms import JvpFunction
from cellc.parser.structures import leaves_of, rebuilt
from cellc.parser.transformed import Transform, call_function


class JetFunction(Transform):
    """`jet` of a function, called with primals and series; with an `order` its `derivative`, called
    with primals."""

    kind = "composed"

    def __init__(self, fn, order: int | None):
        if not callable(fn):
            raise TypeFault(f"a derivative of {type(fn).__name__}, expected a function or a cell")
        self.fn, self.order, self.options = fn, order, (order,)
        self.__name__ = f"jet of {getattr(fn, '__name__', type(fn).__name__)}"

    def composed(self, args, kwargs):
        primals = [_floating(x) for x in _listed(args[0])]
        if self.order is None:
            rows = _rows(primals, _listed(args[1]))
            value, *found = self._orders(primals, rows, len(rows[0]))
            columns = zip(*map(leaves_of, found), strict=True)
            series = iter([stack([tensor_of(x) for x in column]) for column in columns])
            return value, rebuilt(value, lambda _: next(series))
        value, *found = self._orders(primals, [[1.0]] * len(primals), self.order)
        return value, found[-1]

    def _orders(self, primals: list, rows: list, n: int) -> tuple:
        """fn at the primals, and its first n derivatives along the curve."""
        def value(t):
            return (call_function(self.fn, *(_along(x, row, t) for x, row in zip(
                primals, rows, strict=True))),)

        orders = value
        for _ in range(n):
            orders = _one_more(orders)
        return orders(0.0)

    def eager(self, args, kwargs):
        return self.composed(args, kwargs)


def _one_more(orders):
    """A function of t that gives what `orders` gives, and the derivative of the last of it."""
    def more(t):
        values, slopes = JvpFunction(orders, False)((t,), (1.0,))
        return (*values, slopes[-1])

    return more


def _along(x, row: list, t):
    """x + row[0] t + row[1] t^2 / 2! + ..."""
    moved = 0.0
    for k, s in reversed(list(enumerate(row, 1))):
        moved = arith.mul(arith.div(t, float(k)), arith.add(s, moved))
    return arith.add(x, moved)


def _listed(given) -> list:
    return list(given) if isinstance(given, (tuple, list)) else [given]


def _floating(x):
    return x if arith.type_of(x).dtype.is_float else arith.cast(x, f32)


def _rows(primals: list, series: list) -> list:
    """The series of each primal, order by order."""
    if len(series) != len(primals):
        raise ValueFault(f"jet: found {len(series)} series for {len(primals)} primals")
    found = []
    for x, s in zip(primals, series, strict=True):
        own, shape = arith.type_of(x).shape, tuple(s.shape)
        if not shape or shape[1:] != tuple(own) or shape[0] != series[0].shape[0]:
            raise ShapeFault(f"jet: found a series of {arith.type_of(s)} for {arith.type_of(x)}, "
                             f"expected [orders, {', '.join(map(str, own))}]",
                             "give each primal a derivative for each order")
        found.append([getitem(s, k) for k in range(shape[0])])
    return found


def jet(fn, primals, series):
    """(fn at the primals, its derivatives along a curve): Taylor mode, in MindSpore's form.

    primals: a tensor, or a tuple with one for each argument of fn; integers become f32.
    series:  likewise; series[k] is the (k + 1)-th derivative of the primal along the curve. Ones
             and then zeros give the derivatives of an elementwise fn.
    Shapes:  primal p, series [n, *p]; result r gives [n, *r]: its derivatives from first to n-th.
    Errors:  ShapeFault for a series that does not fit its primal.
    """
    return JetFunction(fn, None)(primals, series)


def derivative(fn, primals, order):
    """(fn at the primals, its `order`-th derivative as all primals grow alike), MindSpore's form.

    For an elementwise fn of one argument that is its derivative, element by element.
    Errors:  ValueFault unless order is an int of at least 1.

        cellc.ops.derivative(cellc.ops.sin, 0.0, 3)         # (0.0, -1.0)
    """
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise ValueFault(f"derivative: found order {order!r}, expected an int of at least 1")
    return JetFunction(fn, order)(primals)
