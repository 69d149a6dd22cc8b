"""axes: which axes of a program's values run together.

    %z = dot(%h: f32[32,128], %u: f32[128,512])       the first axes of %h and %z are one, so are
    %s = add(%z, %x: f32[32,512])                     the two summed ones, and those of %s and %x

Two axes are in one class where an apply reads element i of one for element i of the other. A class
is *fixed* where an apply looks at several elements of it for one, at some by their number, or gives
it another order. One that is not can be cut: what becomes of a stretch of it depends on this
stretch alone. Sums over a class are listed, not fixed: they are sums of what the stretches give.
The classes are kept by union and find (Tarjan, 1975).
"""

from __future__ import annotations

from cellc.ir.graph import Apply, Constant, Graph, Node
from cellc.ir.prims.contraction import free_axes
from cellc.ir.types import TensorType, TupleType

Value = tuple       # (node, number of the item): an item of an apply that gives several values
Axis = tuple        # (value, axis), or any other key


def value_of(x: Node) -> Value:
    """The apply that gave a value, and as which of its items."""
    while isinstance(x, Apply) and x.prim.name == "item":
        x, index = x.operands[0], x.attrs["index"]
        if isinstance(x, Apply) and x.prim.name == "tuple":
            x = x.operands[index]
            continue
        return x, index
    return x, 0


def shape_of(x: Node) -> tuple:
    """The shape of an array; numbers and tapes have no axes."""
    return x.type.shape if isinstance(x.type, TensorType) else ()


class Axes:
    """The classes of axes of the graphs that were walked."""

    def __init__(self):
        self.above: dict[Axis, Axis] = {}
        self.fixed: set[Axis] = set()
        self.sums: list[tuple[Apply, Axis]] = []

    def of(self, x: Node, axis: int) -> Axis:
        """The class of an axis: equal for axes that run together."""
        return self.find((value_of(x), axis))

    def at(self, x: Node, name: Axis) -> list[int]:
        """Where a value has axes of a class."""
        return [i for i in range(len(shape_of(x))) if self.of(x, i) == name]

    def find(self, key: Axis) -> Axis:
        path = []
        while key in self.above:
            path.append(key)
            key = self.above[key]
        for other in path:
            self.above[other] = key
        return key

    def join(self, a: Axis, b: Axis) -> None:
        a, b = self.find(a), self.find(b)
        if a != b:
            self.above[b] = a
            if b in self.fixed:
                self.fixed.add(a)

    def together(self, x: Node, i: int, y: Node, j: int) -> None:
        self.join((value_of(x), i), (value_of(y), j))

    def same(self, x: Node, y: Node) -> None:
        """All axes of two values of one shape run together."""
        for i in range(len(shape_of(x))):
            self.together(x, i, y, i)

    def fix(self, x: Node, axes=None) -> None:
        for i in range(len(shape_of(x))) if axes is None else axes:
            self.fixed.add(self.of(x, i))

    def is_fixed(self, name: Axis) -> bool:
        return self.find(name) in self.fixed

    def walk(self, graph: Graph) -> None:
        """Add the classes of a graph's values; what is inside loops and branches is fixed."""
        for node in graph.body:
            _RULES.get(node.prim.name, _BY_KIND.get(node.prim.kind, _all_fixed))(self, node)
            for x in node.operands:
                if isinstance(x, Constant) and not x.is_fill:
                    self.fix(x)


# -- rules -----------------------------------------------------------------------------------------

def _all_fixed(axes: Axes, node: Apply) -> None:
    for x in node.operands:
        axes.fix(x)
    types = node.type.items if isinstance(node.type, TupleType) else (node.type,)
    for index, t in enumerate(types):
        for i in range(len(getattr(t, "shape", ()))):
            axes.fixed.add(axes.find(((node, index), i)))


def _elementwise(axes: Axes, node: Apply) -> None:
    if not node.operands:
        axes.fix(node)
    for x in node.operands:
        if len(shape_of(x)) == len(shape_of(node)):
            axes.same(x, node)


def _reduce(axes: Axes, node: Apply) -> None:
    x, reduced = node.operands[0], node.attrs.get("axes")
    if reduced is None:                 # argmax, argmin
        _all_fixed(axes, node)
        return
    for j, i in enumerate(i for i in range(x.ndim) if i not in reduced):
        axes.together(x, i, node, j)
    if node.prim.name == "reduce_sum":
        axes.sums += [(node, (value_of(x), i)) for i in reduced]
    else:
        axes.fix(x, reduced)


def _dot(axes: Axes, node: Apply) -> None:
    (a, b), contract, batch = node.operands, node.attrs["contract"], node.attrs["batch"]
    place = 0
    for i, j in zip(*batch, strict=True):
        axes.together(a, i, node, place)
        axes.together(b, j, node, place)
        place += 1
    for x, which in ((a, 0), (b, 1)):
        for i in free_axes(x.ndim, contract[which], batch[which]):
            axes.together(x, i, node, place)
            place += 1
    for i, j in zip(*contract, strict=True):
        axes.together(a, i, b, j)
        axes.sums.append((node, (value_of(a), i)))


def _broadcast(axes: Axes, node: Apply) -> None:
    x = node.operands[0]
    for i, j in enumerate(node.attrs["dims"]):
        if x.shape[i] == node.shape[j]:
            axes.together(x, i, node, j)


def _transpose(axes: Axes, node: Apply) -> None:
    for j, i in enumerate(node.attrs["perm"]):
        axes.together(node.operands[0], i, node, j)


def _flip(axes: Axes, node: Apply) -> None:
    axes.same(node.operands[0], node)
    axes.fix(node, node.attrs["axes"])


def _reshape(axes: Axes, node: Apply) -> None:
    """Axes that are axes of the other shape as well, but for those of one element."""
    x = node.operands[0]
    theirs = {axis: i for i, axis in _strides(x.shape)}
    for j, axis in _strides(node.shape):
        i = theirs.pop(axis, None)
        if i is None:
            axes.fix(node, [j])
        else:
            axes.together(x, i, node, j)
    axes.fix(x, theirs.values())


def _strides(shape) -> list[tuple[int, tuple]]:
    """The axes of more than one element, as (axis, (elements behind it, its size))."""
    found, behind = [], 1
    for i, n in reversed(list(enumerate(shape))):
        if n != 1:
            found.append((i, (behind, n)))
        behind = behind * n
    return found


def _slice(axes: Axes, node: Apply) -> None:
    x = node.operands[0]
    for i, part in enumerate(zip(node.attrs["starts"], node.attrs["stops"], node.attrs["steps"],
                                 strict=True)):
        _joined_or_fixed(axes, x, node, i, part == (0, x.shape[i], 1))


def _pad(axes: Axes, node: Apply) -> None:
    attrs = node.attrs
    interior = attrs.get("interior") or (0,) * node.ndim
    for i, part in enumerate(zip(attrs["low"], attrs["high"], interior, strict=True)):
        _joined_or_fixed(axes, node.operands[0], node, i, not any(part))


def _concat(axes: Axes, node: Apply) -> None:
    for x in node.operands:
        for i in range(node.ndim):
            _joined_or_fixed(axes, x, node, i, i != node.attrs["axis"])


def _joined_or_fixed(axes: Axes, x: Node, y: Node, i: int, joined: bool) -> None:
    if joined:
        axes.together(x, i, y, i)
    else:
        axes.fix(x, [i])
        axes.fix(y, [i])


def _read(axes: Axes, node: Apply) -> None:
    x, *index = node.operands
    _block(axes, x, node, len(index))


def _put(axes: Axes, node: Apply) -> None:
    x, v, *index = node.operands
    axes.same(x, node)
    _block(axes, x, v, len(index))


def _block(axes: Axes, x: Node, block: Node, lead: int) -> None:
    axes.fix(x, range(lead))
    for i in range(len(shape_of(block))):
        axes.together(x, lead + i, block, i)


def _nothing(axes: Axes, node: Apply) -> None:
    """It gives values on."""


_BY_KIND = {"elementwise": _elementwise, "reduce": _reduce}
_RULES = {"dot": _dot, "broadcast": _broadcast, "transpose": _transpose, "flip": _flip,
          "reshape": _reshape, "slice": _slice, "pad": _pad, "concat": _concat, "read": _read,
          "write": _put, "accumulate": _put, "item": _nothing, "tuple": _nothing,
          "push": _nothing, "pop": _nothing}
