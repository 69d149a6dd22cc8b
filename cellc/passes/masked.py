"""Cotangents that know where they are zero by structure.

    where(x > 0, sqrt(x), 0)      at x = 0 has the gradient 0, and not 0 * inf

The cotangent of a `select`'s branch is zero where the other branch was taken, whatever the rules of
the branch multiply it with. So it is kept apart as (value, mask): the value is right where the mask
holds and means zero elsewhere (`dirty`). A chain of elementwise rules works on the value, and at
its end, where a sum, a product or the result takes it, one `select` puts the zeros in. That select
stands in the place of the one that `select`'s own rule makes: where no rule lies between, the graph
is the same, and where nothing was selected, nothing is added.

- Rules that move, repeat and sum cotangents (those of `reshape`, `reduce_sum`, `broadcast`) take
  the mask along; it is computed only if a rule behind them could make a nan of a zero. Products
  drop it. Behind those that only move, zeros need not be in place before: of a pooling and the relu
  ahead of it one mask is left.
- Two contributions have the mask that holds where either does.
- A call whose result is selected from becomes its applies first (`expose`), so that the mask gets
  into it.
- `select(x > 0, x, 0)`, a relu, asks about x itself. It is masked at once, and what comes after is
  masked again only behind rules with a pole, or with a factor that has one (`weak`): a network of
  relus stays what it is.

Used by graph mode (`passes/grad.py`, on nodes) and by the tape (`cellc/eager.py`, on tensors).
"""

from __future__ import annotations

from collections.abc import Callable

from cellc.ir import arith
from cellc.ir.graph import Apply, Builder, Constant, Graph, Node, calling_themselves
from cellc.ir.prims import elementwise as e
from cellc.ir.prims.shape import from_scalar
from cellc.passes.rebuild import copy_body, renew

# Rules that give zero for a zero cotangent, whatever the operands.
_KEEP_ZEROS = frozenset(["add", "sub", "neg", "cast", "min", "max"])
# Rules that give a nan for a zero cotangent where the operands are finite.
_POLES = frozenset(["div", "sqrt", "rsqrt", "log", "log1p", "pow", "asin", "acos", "acosh", "atanh",
                    "tan", "erfinv", "lgamma", "digamma", "polygamma", "atan2", "mod"])
_GROW = frozenset(["exp", "expm1", "sinh", "cosh", "tan"])
WALK = 32           # steps up from a factor that are looked at
# Rules that give every element of the cotangent, moved or repeated, and add none up.
_REARRANGES = frozenset(["reduce_sum", "reshape", "transpose", "flip", "concat", "pad", "to_scalar",
                         "from_scalar"])
# Rules that move elements and nothing else: what is no zero yet may come along.
_MOVES = frozenset(["reshape", "transpose", "flip"])
# Rules that add some up, or put zeros between them.
_SUMS = frozenset(["broadcast", "slice", "gather", "cumsum"])
# Elementwise, and yet the mask of the result is none of the operand.
_OTHER_SHAPE = frozenset(["stop_gradient", "from_scalar", "to_scalar"])
_QUESTIONS = frozenset(["gt", "ge", "lt", "le", "eq", "ne"])


class Mask:
    """Where a cotangent is not zero by structure: a bool node, made when it is asked for.

    key   equal for masks that hold in the same places
    weak  matters only where there is a pole
    of    the masks that it is made of
    """

    __slots__ = ("key", "weak", "of", "_make", "_made")

    def __init__(self, key: tuple, make: Callable, weak: bool = False, of: tuple = ()):
        self.key, self.weak, self.of, self._make, self._made = key, weak, of, make, None

    def node(self):
        if self._made is None:
            self._made = self._make()
        return self._made

    def choose(self, value, other):
        """value where the mask holds, else other."""
        return e.select(self.node(), value, other)


class Literal(Mask):
    """Where a condition holds, or where it does not."""

    __slots__ = ("condition", "holds")

    def __init__(self, condition, holds: bool, weak: bool):
        super().__init__(("if", id(condition), holds),
                         lambda: condition if holds else e.bit_not(condition), weak)
        self.condition, self.holds = condition, holds

    def choose(self, value, other):
        return (e.select(self.condition, value, other) if self.holds
                else e.select(self.condition, other, value))


def both(outer: Mask | None, inner: Literal) -> Mask:
    """Where both hold."""
    if outer is None:
        return inner
    if outer.key == inner.key or outer.key[0] == "and" and outer.of[1].key == inner.key:
        return outer if inner.weak else _strong(outer)
    return Mask(("and", outer.key, inner.key), lambda: e.bit_and(outer.node(), inner.node()),
                outer.weak and inner.weak, (outer, inner))


def _strong(mask: Mask) -> Mask:
    return Mask(mask.key, mask.node, False, mask.of) if mask.weak else mask


def either(first: Mask | None, second: Mask | None) -> Mask | None:
    """Where one of two holds; None for everywhere."""
    if first is None or second is None or _opposite(first.key, second.key):
        return None
    if first.key == second.key:
        return second if first.weak else first
    return Mask(("or", first.key, second.key), lambda: e.bit_or(first.node(), second.node()),
                first.weak and second.weak, (first, second))


def _opposite(a: tuple, b: tuple) -> bool:
    return a[0] == b[0] == "if" and a[1] == b[1] and a[2] != b[2]


class Adjoint:
    """A cotangent: `value`, to be read through `clean` where `dirty`; `mask` None: everywhere."""

    __slots__ = ("value", "mask", "dirty", "_clean")

    def __init__(self, value, mask: Mask | None = None, dirty: bool = False):
        self.value, self.mask, self.dirty, self._clean = value, mask, dirty, None

    def clean(self):
        """The cotangent with its zeros in place."""
        if not self.dirty:
            return self.value
        if self._clean is None:
            self._clean = self.mask.choose(self.value, e.zero(self.value))
        return self._clean

    def plus(self, other: Adjoint) -> Adjoint:
        mask = either(self.mask, other.mask)
        if mask is not None and self.mask.key == other.mask.key:
            return Adjoint(arith.add(self.value, other.value), mask, self.dirty or other.dirty)
        return Adjoint(arith.add(self.clean(), other.clean()), mask)


def pull(prim, g: Adjoint, y, operands, attrs: dict) -> list[Adjoint | None]:
    """What a primitive's rule gives for each operand, from the cotangent of its result."""
    if prim.name == "select":
        return _through_select(g, y, *operands)
    mask = g.mask
    if mask is None:
        return [_adjoint(dx) for dx in prim.vjp(g.value, y, *operands, **attrs)]
    if prim.kind == "elementwise" and prim.name not in _OTHER_SHAPE:
        dirty = g.dirty or _makes_nan(prim.name, mask, operands)
        return [None if dx is None else g if dx is g.value else Adjoint(dx, mask, dirty)
                for dx in prim.vjp(g.value, y, *operands, **attrs)]
    dirty = g.dirty and prim.name in _MOVES
    found = prim.vjp(g.value if dirty else g.clean(), y, *operands, **attrs)
    if prim.name not in _REARRANGES:
        mask = _behind_sum(mask) if prim.name in _SUMS else None
    if mask is None:
        return [_adjoint(dx) for dx in found]

    def behind(i: int, dx) -> Adjoint:
        return Adjoint(dx, _moved(mask, prim, i, y, operands, attrs, dx), dirty)

    return [None if dx is None else behind(i, dx) for i, dx in enumerate(found)]


def _adjoint(value) -> Adjoint | None:
    return None if value is None else Adjoint(value)


def _makes_nan(name: str, mask: Mask, operands) -> bool:
    """Whether a zero may come out of the rule as a nan."""
    if name in _KEEP_ZEROS or name == "mul" and any(map(_is_number, operands)) or (
            name == "div" and _is_number(operands[1])):
        return False
    return not mask.weak or name in _POLES or any(map(_is_wild, operands))


def _is_wild(x) -> bool:
    """Whether elementwise steps made x that can give an infinity of finite numbers."""
    pending, steps = [x], 0
    while pending and steps < WALK:
        x, steps = pending.pop(), steps + 1
        if isinstance(x, Apply) and x.prim.kind == "elementwise":
            if x.prim.name in _POLES or x.prim.name in _GROW:
                return True
            pending.extend(x.operands)
    return False


def _is_number(x) -> bool:
    return isinstance(x, Constant) and x.is_fill


def _through_select(g: Adjoint, y, condition, x, other) -> list[Adjoint | None]:
    found = [None]
    for branch, holds in ((x, True), (other, False)):
        if _is_number(branch):
            found.append(None)
            continue
        literal = Literal(condition, holds, _asks_about(condition, branch))
        made = Adjoint(g.value, both(g.mask, literal), True)
        if _compares(condition, "random_bits"):         # dropout guards nothing
            made = Adjoint(literal.choose(g.clean(), e.zero(g.value)), g.mask)
        elif literal.weak:
            made = Adjoint(made.clean(), made.mask)
        found.append(made)
    return found


def _compares(condition, name: str) -> bool:
    """Whether a condition compares what the primitive of this name gives."""
    return (isinstance(condition, Apply) and condition.prim.name in _QUESTIONS
            and any(isinstance(x, Apply) and x.prim.name == name for x in condition.operands))


def _asks_about(condition, x) -> bool:
    """Whether a condition compares just x with a number."""
    return (isinstance(condition, Apply) and condition.prim.name in _QUESTIONS
            and any(a is x and _is_number(b) for a, b in (
                condition.operands, condition.operands[::-1])))


def _behind_sum(mask: Mask) -> Mask | None:
    """What of a mask can still hold nowhere along a whole row that is added up.

    One place of a row equals its label: `place == label` masks no row.
    """
    if mask.weak or isinstance(mask, Literal) and _compares(mask.condition, "iota"):
        return None
    if mask.key[0] == "and":
        outer, inner = map(_behind_sum, mask.of)
        return mask if outer and inner else outer or inner
    return mask


def _moved(mask: Mask, prim, i: int, y, operands, attrs: dict, dx) -> Mask:
    """The mask behind a rule that moves and sums values: where the rule gives more than nothing for
    ones in its places."""

    def make():
        if prim.name == "to_scalar":        # its rule is a cast as well
            return from_scalar(mask.node())
        if prim.name in _REARRANGES:
            return prim.vjp(mask.node(), y, *operands, **attrs)[i]
        ones = e.cast(mask.node(), dtype=dx.type.dtype)
        moved = prim.vjp(ones, y, *operands, **attrs)[i]
        return e.gt(moved, e.zero(moved))

    return Mask(("moved", mask.key, prim.name, i, tuple(map(id, operands)), id(y)), make, mask.weak,
                (mask,))


EXPOSED = 16        # calls within calls that are opened


def expose(graph: Graph, levels: int = EXPOSED) -> Graph:
    """The graph with calls opened that a select's branch is made by, or from whose results it is
    made by elementwise steps and views."""
    under: set[Node] = set()
    calls = set()
    for node in reversed(graph.body):
        name = node.prim.name
        if name == "select":
            condition, *branches = node.operands
            under.update(x for x in branches if not _asks_about(condition, x))
        if node not in under:
            continue
        if name == "call" and "bwd" not in node.attrs:
            calls.add(node)
        elif name == "item" or node.prim.kind in ("elementwise", "view") or name in _REARRANGES:
            under.update(node.operands)
    if calls:
        again = calling_themselves(graph.reachable())
        calls = {node for node in calls if id(node.attrs["graph"]) not in again}
    if not calls or not levels:
        return graph
    builder = Builder(graph.name, graph.inputs)
    env: dict[Node, Node] = {}
    for node in graph.body:
        if node in calls:
            operands = [env.get(x, x) for x in node.operands]
            env[node] = copy_body(builder, node.attrs["graph"], operands)
        else:
            env[node] = builder.append(renew(node, env))
    opened = Graph(graph.name, graph.inputs, builder.body, env.get(graph.result, graph.result))
    return expose(opened, levels - 1)
