"""winograd: convolutions of 3x3 windows with a quarter of the multiplications.

    dot(%w, windows(pad(%x)))    ->    join_tiles(dot(tiles(%w) by G, tiles(%x) by B), A)

Four outputs of three taps are a product of polynomials, which is known from its values at six
points: six multiplications instead of twelve, so 36 for a tile of 4x4 pixels instead of 144. The
same points serve the gradient by the weights, whose four taps (the pixels of a tile of the
cotangent) have three outputs; the one by the input is a convolution (adjoint.py). At each of the 36
places within tiles the sum over channels is a matrix product.

What it costs is accuracy: sums of a tile meet, so an error is relative to the largest values of the
tile, some four times that of the plain sum, and a NaN or an infinity is in all 16 pixels. Hence
this runs only where the user has asked for fast mathematics.

Source: Winograd, Arithmetic complexity of computations, 1980; Lavin and Gray, Fast algorithms for
convolutional neural networks, 2016.
"""

from __future__ import annotations

import functools
import math
from fractions import Fraction

from cellc.ir.graph import PRIMITIVES, Apply, Builder, Graph, Node
from cellc.ir.prims.contraction import free_axes
from cellc.ir.types import f32
from cellc.passes.rebuild import everywhere, renew, touched, use_counts
from cellc.record import record

TAPS, OUT = 3, 4
SIZE = TAPS + OUT - 1
# Their powers stay near one, so little is lost when values are added up: less than half of what
# the points 0, 1, -1, 2, -2 lose.
POINTS = (Fraction(0), Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2))

# In multiply-adds that take as long: making or joining a tile of one channel, the same of one pair
# of channels' weights; and what a multiplication costs in so many smaller products.
TILE_COST, WEIGHT_COST, PRODUCT_COST = 700, 800, 1.4
WORTH = 0.8             # of what the convolution takes

Matrix = tuple[tuple[float, ...], ...]


@record(frozen=True)
class Basis:
    """y = A (G w * B x) for four outputs of three taps, and with `taps` and `out` exchanged the
    other way round: G for each number of taps, A for each number of outputs."""

    pixels: Matrix                  # B, 6x6
    weights: dict[int, Matrix]      # G, 6x3 and 6x4
    outputs: dict[int, Matrix]      # A, 4x6 and 3x6


@functools.cache
def basis() -> Basis:
    """Of a product s of two polynomials the values s(p) at the points, and its leading coefficient,
    are those of the factors, multiplied. It is the sum of s(p) N_p / N_p(p), where N_p is the
    product of (x - q) for all points q but p, and of the leading coefficient times that of all. The
    transpose of this is the correlation.
    """
    through = [_polynomial([q for q in POINTS if q != p]) for p in POINTS]
    pixels = [[*row, Fraction(0)] for row in through] + [_polynomial(POINTS)]
    scale = [sum(c * p**i for i, c in enumerate(row)) for p, row in zip(POINTS, through,
                                                                         strict=True)]

    def values(k: int) -> list[list[Fraction]]:
        return [[p**i for i in range(k)] for p in POINTS] + [[Fraction(i == k - 1)
                                                             for i in range(k)]]

    both = TAPS, OUT
    weights = {k: [[v / by for v in row] for row, by in zip(values(k), [*scale, 1], strict=True)]
               for k in both}
    outputs = {k: list(zip(*values(k), strict=True)) for k in both}
    return Basis(_floats(pixels), {k: _floats(m) for k, m in weights.items()},
                 {k: _floats(m) for k, m in outputs.items()})


def _polynomial(roots) -> list[Fraction]:
    """The coefficients, lowest first, of the product of (x - root)."""
    made = [Fraction(1)]
    for root in roots:
        made = [a - root * b for a, b in zip([Fraction(0), *made], [*made, Fraction(0)],
                                             strict=True)]
    return made


def _floats(rows) -> Matrix:
    return tuple(tuple(map(float, row)) for row in rows)


# -- what can be transformed -----------------------------------------------------------------------
@record(eq=False)
class Convolution:
    """A product of windows with something, in the product's own axes.

    `by_weights`: the taps stay and the pixels are summed, which is a gradient by the weights.
    """

    dot: Apply
    side: int                           # the operand that is windows
    by_weights: bool
    source: Node                        # what the windows are cut from, without padding
    low: tuple[int, int]                # zeros before it
    order: tuple[int, ...]              # its leading axes: those summed and the others ...
    summed: int                         # ... of which the first are so many


def run(graph: Graph) -> Graph:
    return everywhere(graph, _transformed)


def _transformed(graph: Graph) -> Graph:
    found = {node: c for node in graph.body if (c := _convolution(node)) and _is_worth(c)}
    if not found:
        return graph
    uses = use_counts(graph)
    ends = {}                           # the transposition that alone reads such a product
    for node in graph.body:
        if node.prim.name == "transpose" and node.operands[0] in found and (
                uses[node.operands[0]] == 1):
            ends[node.operands[0]] = node
    make = Maker(Builder(graph.name, graph.inputs))
    made_at = {end: found[dot] for dot, end in ends.items()}
    made_at |= {dot: c for dot, c in found.items() if dot not in ends}
    for node in graph.body:
        if node in ends:
            continue
        if node in made_at:
            make.env[node] = make.product(made_at[node], node)
            continue
        new = make.builder.append(renew(node, make.env) if touched(node, make.env) else node)
        if new is not node:
            make.env[node] = new
    return Graph(graph.name, graph.inputs, make.builder.body,
                 make.env.get(graph.result, graph.result))


def _convolution(node: Apply) -> Convolution | None:
    if node.prim.name != "dot" or node.dtype is not f32 or node.attrs["batch"] != ((), ()) or not (
            all(isinstance(n, int) and n > 0 for x in node.operands for n in x.shape)):
        return None
    contract = node.attrs["contract"]
    for side, x in enumerate(node.operands):
        if not isinstance(x, Apply) or x.prim.name != "windows" or x.attrs != {
                "sizes": (TAPS, TAPS), "strides": (1, 1), "dilations": (1, 1)} or (
                node.operands[1 - side].dtype is not f32):
            continue
        k = x.ndim - 4
        pixels, taps = {k, k + 1}, {k + 2, k + 3}
        mine = set(contract[side])
        by_weights = pixels <= mine
        if mine & (pixels | taps) not in (pixels, taps) or not mine - pixels - taps:
            continue
        summed = [i for i in contract[side] if i < k]
        source, low, moved = _under(x.operands[0])
        lead = (*summed, *(i for i in range(k) if i not in mine))
        return Convolution(node, side, by_weights, source, low,
                           tuple(moved[i] for i in lead), len(summed))
    return None


def _under(x: Node) -> tuple[Node, tuple[int, int], tuple[int, ...]]:
    """What stands under a padding of the last two axes with zeros and transpositions of the others;
    the zeros before it, and which of its axes each leading axis is."""
    k, low = x.ndim - 2, (0, 0)
    moved = tuple(range(k))
    while isinstance(x, Apply):
        attrs = x.attrs
        if x.prim.name == "transpose" and tuple(attrs["perm"][k:]) == (k, k + 1):
            moved = tuple(attrs["perm"][i] for i in moved)
        elif x.prim.name == "pad" and attrs["value"] == 0 and not any(
                attrs.get("interior") or ()) and not any((*attrs["low"][:k], *attrs["high"][:k])) \
                and min((*attrs["low"], *attrs["high"])) >= 0:
            low = tuple(a + b for a, b in zip(low, attrs["low"][k:], strict=True))
        else:
            break
        x = x.operands[0]
    return x, low, moved


def _is_worth(c: Convolution) -> bool:
    """Does it take clearly less time? Both have many products, this one tiles and their joining."""
    windows, other = c.dot.operands[c.side], c.dot.operands[1 - c.side]
    tall, wide = _tiles_of(c)
    pixels = math.prod(windows.shape[-4:-2])
    sizes = [c.source.shape[i] for i in c.order]
    summed, kept = math.prod(sizes[:c.summed]), math.prod(sizes[c.summed:])
    batch, inside = (summed, kept) if c.by_weights else (kept, summed)
    contract = c.dot.attrs["contract"][1 - c.side]
    outside = math.prod(n for i, n in enumerate(other.shape) if i not in contract)
    tiles, pairs = batch * tall * wide, inside * outside
    cost = WEIGHT_COST * pairs + tiles * (
        PRODUCT_COST * SIZE**2 * pairs + TILE_COST * (inside + outside))
    return cost < WORTH * batch * pixels * TAPS**2 * pairs


def _tiles_of(c: Convolution) -> tuple[int, int]:
    pixels = c.dot.operands[c.side].shape[-4:-2]
    return -(-pixels[0] // OUT), -(-pixels[1] // OUT)


# -- what is made of it ----------------------------------------------------------------------------
class Maker:
    """Appends what products become. Tiles that several of them read are made once."""

    def __init__(self, builder: Builder):
        self.builder = builder
        self.env: dict[Node, Node] = {}
        self.known: dict[tuple, Node] = {}
        self.at: Apply | None = None

    def apply(self, name: str, *operands: Node, **attrs) -> Node:
        key = name, operands, tuple(sorted(attrs.items()))
        if key not in self.known:
            self.known[key] = self.builder.append(Apply(
                PRIMITIVES[name], operands, attrs, None, self.at.name, self.at.loc))
        return self.known[key]

    def product(self, c: Convolution, wanted: Apply) -> Node:
        """The applies of one; `wanted` is the product, or the transposition of it."""
        self.at = wanted
        return self.join(c, self.multiplied(c), wanted)

    def multiplied(self, c: Convolution) -> Node:
        """[6, 6, free axes of the other operand, those of the windows, tiles if they are kept]."""
        counts, by = _tiles_of(c), basis()
        summed_first, kept_first = c.order, c.order[c.summed:] + c.order[:c.summed]
        pixels = self.apply("tiles", self.env.get(c.source, c.source), matrix=by.pixels, step=OUT,
                            counts=counts, low=c.low,
                            lead=kept_first if c.by_weights else summed_first)
        other, summed = self._spatial_last(c)
        if c.by_weights:
            free = [i for i in range(other.ndim - 2) if i not in summed]
            other, low, moved = _under(other)
            weights = self.apply("tiles", other, matrix=by.weights[OUT], step=OUT, counts=counts,
                                 low=low, lead=tuple(moved[i] for i in (*free, *summed)))
            sums = len(summed) + 2          # leading axes and those of tiles, all at the end
            return self.apply("dot", weights, pixels, batch=((0, 1), (0, 1)), contract=tuple(
                tuple(range(x.ndim - sums, x.ndim)) for x in (weights, pixels)))
        weights = self.apply("tiles", other, matrix=by.weights[TAPS], step=OUT, counts=(1, 1),
                             low=(0, 0), lead=tuple(range(other.ndim - 2)))
        weights = self.apply("reshape", weights, shape=weights.shape[:-2])
        return self.apply("dot", weights, pixels, batch=((0, 1), (0, 1)), contract=(
            tuple(i + 2 for i in summed), tuple(range(2, 2 + c.summed))))

    def _spatial_last(self, c: Convolution) -> tuple[Node, list[int]]:
        """The other operand with the axes of pixels or taps last; which of its leading axes are
        summed, in the order of those of the windows."""
        x = c.dot.operands[1 - c.side]
        x = self.env.get(x, x)
        contract = c.dot.attrs["contract"]
        pairs = list(zip(contract[c.side], contract[1 - c.side], strict=True))
        summed = [theirs for mine, theirs in pairs if mine < len(c.order)]
        last = [theirs for mine, theirs in sorted(pairs) if mine >= len(c.order)]
        perm = (*(i for i in range(x.ndim) if i not in last), *last)
        if perm != tuple(range(x.ndim)):
            x = self.apply("transpose", x, perm=perm)
        return x, [perm.index(i) for i in summed]

    def join(self, c: Convolution, product: Node, wanted: Apply) -> Node:
        """The pixels, or taps, in the axes of what is wanted."""
        other, windows = c.dot.operands[1 - c.side], c.dot.operands[c.side]
        contract = c.dot.attrs["contract"]
        theirs = len(free_axes(other.ndim, contract[1 - c.side], ()))
        ours = len(free_axes(windows.ndim, contract[c.side], ())) - 2
        size, shape = OUT, windows.shape[-4:-2]
        if c.by_weights:
            size, shape = TAPS, (TAPS, TAPS)
            product = self.apply("reshape", product, shape=(*product.shape, 1, 1))
        # Of the product's axes in the order of the plain one's: which are they here?
        lead = [*range(theirs, theirs + ours), "tall", "wide", *range(theirs)]
        if c.side == 1:
            lead = [*range(theirs + ours), "tall", "wide"]
        if wanted is not c.dot:
            lead = [lead[i] for i in wanted.attrs["perm"]]
        order = tuple(i for i in lead if isinstance(i, int))
        made = self.apply("join_tiles", product, matrix=basis().outputs[size], shape=shape,
                          lead=order)
        now = [*order, "tall", "wide"]
        perm = tuple(now.index(i) for i in lead)
        return made if perm == tuple(range(len(perm))) else self.apply("transpose", made, perm=perm)
