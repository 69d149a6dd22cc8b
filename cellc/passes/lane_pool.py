"""lane_pool: loops that each lane leaves at a time of its own, many lanes in step.

W lanes at a time take their rounds together, as vectors. When a quarter of them are done, their
states are written to their places, and the next lanes take their seats; when none are waiting any
more and few are left, those finish one after another. So nearly all of the work is done by full
vectors, and the rounds of all lanes are added up, whatever they are.

    next = 0, seats empty
    while next < n or many seats are taken:
        while more than 3/4 W seats are taken (W/16 where no lane is waiting):
            one round of all seats; who is done keeps the state it has
        write the states of those who are done; give their seats to lanes next, next + 1, ...
    for each seat: the rounds that are left, by itself

Taken where a round has nothing that could fail for a lane that is done, and something for which
many lanes at once are worth the trouble:

    a function like exp, on a state of a few numbers     W is 128, n at least 4 W
    a product of matrices                                W is 32, or n / 8 if less; n at least 64

Measured (Zen 4, one core, rounds from 1 to 1e4): `sin` on a number 3.7 ns a round, 17 to 49 one
lane after another; a product of 32 x 32 100 ns instead of 280.
"""

from __future__ import annotations

from cellc.ir import arith
from cellc.ir.graph import Apply, Builder, Graph, Node, fill
from cellc.ir.prims import control, element, elementwise, gather, reduce, shape
from cellc.ir.prims.rules import choose
from cellc.ir.types import ScalarType, TensorType, boolean, i64
from cellc.passes.uneven import with_lanes

SEATS, ROWS = 128, 32
_SMALL = 8              # numbers of a state
# What makes vectors worth while: numbers in registers are added as fast.
_COSTLY = frozenset([
    "div", "sqrt", "rsqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tan", "asin", "acos",
    "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "logistic", "erf", "erfc", "erfinv",
    "lgamma", "digamma", "polygamma", "pow", "atan2",
])


def seats(node: Apply, test: Graph, body: Graph, n) -> int:
    """How many lanes of this loop are to be in step; 0 where they are not to be run this way.

    A symbolic n refuses to be compared: there is one program for each number of lanes then.
    """
    state = node.operands[:control.state_size(node)]
    names = {inner.prim.name for inner in body.body}
    if not all(_cannot_fail(inner) for g in (test, body) for inner in g.body) or not all(
            isinstance(x.type.size, int) for x in state):
        return 0
    if "dot" in names:
        return min(ROWS, 1 << (n.bit_length() - 4)) if n >= 2 * ROWS else 0
    few = sum(x.type.size for x in state) <= _SMALL
    return SEATS if few and names & _COSTLY and n >= 4 * SEATS else 0


def _cannot_fail(node: Apply) -> bool:
    return node.prim.kind in ("elementwise", "view", "reduce") or node.prim.name in (
        "tuple", "item", "dot")


def loop(node: Apply, operands, own, n: int, seats: int, test: Graph, body: Graph) -> list[Node]:
    """The state of all n lanes, one of whose operands has lanes where `own`. `test` and `body` are
    the loop's graphs on so many lanes of the state and of the invariants that have lanes."""
    return _Pool(node, operands, own, n, seats, test, body).run()


class _Pool:
    def __init__(self, node: Apply, operands, own, n: int, seats: int, test: Graph, body: Graph):
        self.node, self.n, self.w, self.test, self.body = node, n, seats, test, body
        m = control.state_size(node)
        self.first = operands[:m]                       # the state of all lanes
        self.own = own[m:]
        self.rest = operands[m:]                        # invariants, with lanes or shared
        self.laned = [i for i, has in enumerate(self.own) if has]
        types = [x.type for x in node.operands]
        self.seats = [with_lanes(seats, t) for t in types[:m]]
        self.own_seats = [with_lanes(seats, types[m + i]) for i in self.laned]
        self.outs = [with_lanes(n + 1, t) for t in types[:m]]       # the last row is nobody's
        self.scalar = [isinstance(t, ScalarType) for t in types]

    def run(self) -> list[Node]:
        m = len(self.first)
        begin = [0, self._row(self.n), fill(TensorType(boolean, (self.w,)), 0),
                 *(fill(t, 0) for t in (*self.seats, *self.own_seats, *self.outs))]
        shared = [*self.first, *self.rest]
        found = control.while_(*begin, *shared, test=self._graph("more", begin, shared, self._more),
                               body=self._graph("turn", begin, shared, self._turn))
        _, lane, _, *held = (control.item(found, index=i) for i in range(len(begin)))
        states, own, outs = _split(held, m, len(self.laned))
        held = [*states, *own, lane, *self.rest]
        left = control.while_(
            0, *outs, *held, test=self._graph("seat", [0, *outs], held, lambda k, *_: arith.less(
                k, self.w)), body=self._graph("finish", [0, *outs], held, self._finish))
        return [_rows(control.item(left, index=1 + i), self.n) for i in range(m)]

    def _graph(self, name: str, state, rest, work) -> Graph:
        with Builder(f"lanes.{name}") as b:
            given = [b.input(arith.type_of(x), f"x{i}") for i, x in enumerate([*state, *rest])]
            return b.finish(work(*given))

    def _row(self, value: int) -> Node:
        """One number for each seat."""
        return fill(TensorType(i64, (self.w,)), value)

    # -- the outer loop ------------------------------------------------------------------------
    def _more(self, following, lane, live, *_):
        return elementwise.bit_or(arith.less(following, self.n),
                                  arith.greater(_count(live), self.w // 16))

    def _turn(self, following, lane, live, *given):
        m, k = len(self.first), len(self.laned)
        states, own, rest = _split(given, m, k)
        outs, first, invariants = _split(rest, m, m)
        low = elementwise.select(arith.less(following, self.n), 3 * self.w // 4, self.w // 16)
        state, held = [live, *states], [*own, *self._only_shared(invariants), low]
        found = control.while_(*state, *held, test=self._graph("taken", state, held, self._taken),
                               body=self._graph("round", state, held, self._round))
        live, *states = (control.item(found, index=i) for i in range(1 + m))
        target = elementwise.select(live, self._row(self.n), lane)
        held = [target, *states]
        written = control.while_(
            0, *outs, *held, test=self._graph("seat", [0, *outs], held, lambda k, *_: arith.less(
                k, self.w)), body=self._graph("leave", [0, *outs], held, self._leave))
        outs = [control.item(written, index=1 + i) for i in range(m)]
        return self._seat(following, lane, live, states, own, outs, first, invariants)

    def _seat(self, following, lane, live, states, own, outs, first, invariants):
        """Those who are done leave; the next lanes sit down."""
        done = elementwise.bit_not(live)
        place = arith.add(reduce.cumsum(elementwise.cast(done, dtype=i64), axis=0),
                          arith.sub(following, 1))
        fresh = elementwise.bit_and(done, arith.less(place, self.n))
        index = elementwise.select(fresh, place, self._row(0))
        lane = elementwise.select(fresh, place, elementwise.select(
            live, lane, self._row(self.n)))

        def seated(whole, held):
            return choose(fresh, gather.gather(whole, index, axis=0), held)

        states = list(map(seated, first, states))
        own = [seated(invariants[i], x) for i, x in zip(self.laned, own, strict=True)]
        asked = self._ask(states, own, self._only_shared(invariants))
        live = elementwise.select(fresh, asked, live)
        return control.tuple(arith.add(following, _count(fresh)), lane, live, *states, *own, *outs)

    def _leave(self, k, *given):
        """Write the state of seat k to its lane's place."""
        outs, (target, *states) = given[:len(self.first)], given[len(self.first):]
        at = shape.to_scalar(element.read(target, k, checked=False))
        return control.tuple(arith.add(k, 1), *(
            element.write(y, element.read(x, k, checked=False), at, checked=False)
            for y, x in zip(outs, states, strict=True)))

    # -- the inner loop ------------------------------------------------------------------------
    def _taken(self, live, *given):
        return arith.greater(_count(live), given[-1])

    def _round(self, live, *given):
        states, own, (*shared, _) = _split(given, len(self.first), len(self.laned))
        value = control.call(*self._arguments(states, own, shared), graph=self.body)
        new = [value] if not hasattr(value.type, "items") else [
            control.item(value, index=i) for i in range(len(states))]
        states = [choose(live, y, x) for x, y in zip(states, new, strict=True)]
        asked = self._ask(states, own, shared)
        return control.tuple(elementwise.bit_and(live, asked), *states)

    def _ask(self, states, own, shared) -> Node:
        return control.call(*self._arguments(states, own, shared), graph=self.test)

    def _arguments(self, states, own, shared) -> list[Node]:
        own, shared = iter(own), iter(shared)
        return [*states, *(next(own) if has else next(shared) for has in self.own)]

    def _only_shared(self, invariants) -> list[Node]:
        return [x for x, has in zip(invariants, self.own, strict=True) if not has]

    # -- the rest ------------------------------------------------------------------------------
    def _finish(self, k, *given):
        """What is left of the rounds of seat k."""
        m = len(self.first)
        outs, states, rest = _split(given, m, m)
        own, lane, invariants = rest[:len(self.laned)], rest[len(self.laned)], rest[-len(
            self.own):] if self.own else []
        own = iter([element.read(x, k, checked=False) for x in own])
        xs = [element.read(x, k, checked=False) for x in states]
        xs += [next(own) if has else x for x, has in zip(invariants, self.own, strict=True)]
        xs = [shape.to_scalar(x) if is_number and not isinstance(x.type, ScalarType) else x
              for x, is_number in zip(xs, self.scalar, strict=True)]
        value = self.node.prim(*xs, **self.node.attrs)
        found = [value] if not hasattr(value.type, "items") else [
            control.item(value, index=i) for i in range(m)]
        at = shape.to_scalar(element.read(lane, k, checked=False))
        return control.tuple(arith.add(k, 1), *(
            element.write(y, shape.from_scalar(x) if isinstance(x.type, ScalarType) else x, at,
                          checked=False) for y, x in zip(outs, found, strict=True)))


def _split(values, a: int, b: int) -> tuple[list, list, list]:
    return list(values[:a]), list(values[a:a + b]), list(values[a + b:])


def _count(mask: Node) -> Node:
    return shape.to_scalar(reduce.reduce_sum(elementwise.cast(mask, dtype=i64), axes=(0,)))


def _rows(x: Node, n: int) -> Node:
    rest = x.shape[1:]
    return shape.slice(x, starts=(0,) * len(x.shape), stops=(n, *rest), steps=(1,) * len(x.shape))
