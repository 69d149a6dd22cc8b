"""product: a group around one `dot` as a call of the matrix product of `gemm.py`.

Views above the operands become strides: operand b of `dot(w, windows(transpose(x)))` is read in
place through an affine map, so that a convolution is a product like any other. Elementwise work on
the result becomes the product's epilogue, and a transposition of the result the strides of C.

The axes of the product are those of the dot: batch, rows (free of a), columns (free of b), and the
contracted ones. Axes of b alone that lie outside the rows in C are handed over as batch axes.
"""

from __future__ import annotations

from collections.abc import Sequence

from cellc.errors import SymbolicFault
from cellc.ir.graph import Apply, Constant, Graph, Input, Node, once
from cellc.ir.types import Dim, ScalarType, f32, f64
from cellc.kernels import gemm, gemm_direct_plan
from cellc.kernels.emit import ARGUMENTS
from cellc.kernels.emit_values import Context
from cellc.kernels.gemm_plan import arrange, cycles, seconds_alone, shares
from cellc.kernels.loops import COST
from cellc.kernels.program import Kernel
from cellc.kernels.scalar_ops import Element, ScalarOps, llvm_type
from cellc.kernels.schedule import PARALLEL_SECONDS
from cellc.kernels.target import Target
from cellc.kernels.text import Function, Module, lanes
from cellc.kernels.vectors import vector
from cellc.kernels.views import (
    MAX_SPLITS,
    Affine,
    Axis,
    NeedSplit,
    NotAffine,
    linear,
    operand_index,
    result_index,
)
from cellc.record import fresh, record

CODEGEN = 1         # level 2 takes a tenth longer and wins at most 1% at any size from 256 to 2048
DTYPES = ("f32", "f64", "f16", "bf16")        # those of integers are loop nests, except
BYTES = ("i8", "u8")                          # these, where they are summed in i32


class NoProduct(Exception):
    """The group cannot be one matrix product with an epilogue."""


@record
class Parts:
    """A product's axes, each kind outermost first."""

    batch: list[Axis] = fresh(list)
    rows: list[Axis] = fresh(list)
    cols: list[Axis] = fresh(list)
    summed: list[Axis] = fresh(list)


@record
class Product:
    """Where a product reads and writes; `loads` are the epilogue's operands."""

    dot: Apply
    parts: Parts
    a: tuple[Input, Affine]
    b: tuple[Input, Affine]
    c: Affine
    result: Node
    epilogue: list[Apply]
    loads: dict[Node, Affine | None]         # input -> its place; None for a scalar
    edges: tuple[gemm.Edge, ...] = ()        # where b is padded with zeros

    def __str__(self) -> str:
        kinds = [f"{kind} {' '.join(f'{a}:{a.extent}' for a in axes)}" for kind, axes in
                 vars(self.parts).items() if axes]
        ending = " ".join(node.prim.name for node in self.epilogue) or "nothing"
        padded = ", zeros around it" if self.edges else ""
        return (f"product over {', '.join(kinds)}\n  a = {self.a[0].name}[{self.a[1]}]\n"
                f"  b = {self.b[0].name}[{self.b[1]}]{padded}\n  out[{self.c}], then {ending}")


@once
def product_of(graph: Graph) -> Product:
    """The product that a group's graph is; NoProduct where it is none."""
    dots = [node for node in graph.body if node.prim.name == "dot"]
    if len(dots) != 1 or len(graph.results) != 1:
        raise NoProduct("not one product with one result")
    of, sums = dots[0].operands[0].dtype.name, dots[0].dtype.name
    if of not in DTYPES and not (of in BYTES and sums == "i32"):
        raise NoProduct(f"no product of {of} in {sums}")
    cuts: dict[str, int] = {}
    for _ in range(MAX_SPLITS):
        reading = Reading(graph, dots[0], cuts)
        try:
            return reading.run()
        except NeedSplit as need:
            cuts[need.axis.name] = need.inner
        except (NotAffine, SymbolicFault) as fault:
            raise NoProduct(str(fault)) from fault
    raise NoProduct("too many axes would have to be cut")


class Reading:
    """One attempt to read a graph as a product, with axes cut as `cuts` says: by their names, which
    are numbers, those of pieces what they are pieces of. The operand that has windows becomes b."""

    def __init__(self, graph: Graph, dot: Apply, cuts: dict[str, int]):
        self.graph, self.dot, self.cuts = graph, dot, cuts
        self.made = 0
        self.parts = Parts()
        self.bounds: list[tuple[Affine, int]] = []      # b is padded where such an index is outside

    def run(self) -> Product:
        dot, (a, b) = self.dot, self.dot.operands
        contract, batch = dot.attrs["contract"], dot.attrs["batch"]
        index_a: list = [None] * a.ndim
        index_b: list = [None] * b.ndim
        result: list[Affine] = []
        for i, j in zip(*batch, strict=True):
            index_a[i] = index_b[j] = self.axis(a.shape[i], self.parts.batch)
            result.append(index_a[i])
        for i, j in zip(*contract, strict=True):
            index_a[i] = index_b[j] = self.axis(a.shape[i], self.parts.summed)
        kinds = [self.parts.rows, self.parts.cols]
        swapped = has_windows(a) and not has_windows(b)     # b is what has them
        if swapped:
            kinds.reverse()
        for x, index, kind in ((a, index_a, kinds[0]), (b, index_b, kinds[1])):
            for i in range(x.ndim):
                if index[i] is None:
                    index[i] = self.axis(x.shape[i], kind)
                    result.append(index[i])
        if swapped:
            (a, index_a), (b, index_b) = (b, index_b), (a, index_a)
        read_b = self.source(b, index_b, self.bounds)
        read_a = self.source(a, index_a, None, self.parts.summed if self.bounds else ())
        at = self.forward(result)
        final = self.graph.results[0]
        place = linear(at[final], final.shape)
        if any(isinstance(c, int) and c < 0 for c in place.terms.values()):
            raise NoProduct("a flipped result")
        wanted = {axis for kind in (self.parts.batch, self.parts.rows, self.parts.cols)
                  for axis in kind}
        if final.size != dot.size or set(place.terms) != wanted:
            raise NoProduct("the result is not the product's elements, once each")
        epilogue = [n for n in self.graph.body if n in at and n is not dot
                    and n.prim.kind == "elementwise"]
        product = Product(dot, self.parts, read_a, read_b, place, final, epilogue, {})
        self.collect(product, at)
        self.outer_columns(product)
        product.edges = tuple(self.edge(index, size) for index, size in self.bounds)
        if product.edges and not gemm_direct_plan.is_possible(*operands_of(product), product.edges):
            raise NoProduct("padded windows of another form")
        return product

    def axis(self, extent, kind: list[Axis], name: str = "") -> Affine:
        """A new axis of a kind, cut as decided; its index. A piece of one is given its name."""
        if not name:
            letter = next(x for x, axes in zip("bmnk", vars(self.parts).values(), strict=True)
                          if axes is kind)
            name = f"{letter}{self.made}"
            self.made += 1
        inner = self.cuts.get(name)
        if inner is not None:
            outside = self.axis(extent // inner, kind, name + "o")
            return outside * inner + self.axis(inner, kind, name + "i")
        axis = Axis(name, extent)
        if extent != 1:
            kind.append(axis)
        return Affine.of(axis)

    def source(self, x: Node, index: list[Affine], bounds: list[tuple[Affine, int]] | None,
               flipped: Sequence[Axis] = ()) -> tuple[Input, Affine]:
        """The input under a chain of views, and the place at which it is read, backwards along axes
        of `flipped` at most. Where it may be padded, `bounds` takes which index has to be within
        which size."""
        while isinstance(x, Apply):
            inner = x.operands[0] if x.operands else None
            if x.prim.name == "pad" and bounds is not None and pads_with_zeros(x):
                index = [i + -low for i, low in zip(index, x.attrs["low"], strict=True)]
                around = zip(index, inner.shape, x.attrs["low"], x.attrs["high"], strict=True)
                bounds += [(i, n) for i, n, low, high in around if low or high]
            elif x.prim.kind != "view":
                raise NoProduct(f"{x.prim.name} under a product")
            elif x.prim.name == "reshape" and isinstance(inner, Input):
                return inner, self._ahead(linear(index, x.shape), flipped)
            else:
                index = operand_index(x, index)
            x = inner
        if not isinstance(x, Input):
            raise NoProduct("a constant under a product")
        return x, self._ahead(linear(index, x.shape), flipped)

    def edge(self, index: Affine, size: int) -> gemm.Edge:
        """Where windows lie at the edge of an axis that has `size` elements."""
        cols = [a for a in index.terms if a in self.parts.cols]
        taps = [a for a in index.terms if a in self.parts.summed]
        if len(cols) != 1 or len(taps) != 1 or len(index.terms) != 2 or not all(
                isinstance(n, int) for n in (size, index.const, *index.terms.values())):
            raise NoProduct(f"{index} within {size} at the edge of windows")
        return gemm.Edge(self.parts.cols.index(cols[0]), self.parts.summed.index(taps[0]),
                         index.terms[cols[0]], index.terms[taps[0]], -index.const, size)

    def _ahead(self, place: Affine, flipped: Sequence[Axis]) -> Affine:
        if any(isinstance(c, int) and c < 0 and a not in flipped for a, c in place.terms.items()):
            raise NoProduct("a flipped operand")
        return place

    def forward(self, result: list[Affine]) -> dict[Node, list[Affine]]:
        """The index of the dot and of everything computed from it."""
        at = {self.dot: result}
        for node in self.graph.body:
            known = [x for x in node.operands if x in at]
            if not known or node is self.dot:
                continue
            if node.prim.kind == "elementwise":
                index = at[known[0]]
                if any(at[x] != index for x in known) or node.shape != known[0].shape:
                    raise NoProduct("the epilogue reads the product at two places")
            else:
                index = result_index(node, at[known[0]]) if node.prim.kind == "view" else None
                if index is None:
                    raise NoProduct(f"{node.prim.name} of a product")
            at[node] = index
        return at

    def collect(self, product: Product, at) -> None:
        """The inputs that the epilogue reads, each at one place."""
        sums = f64 if self.dot.dtype.compute is f64 else f32
        if (product.epilogue and not self.dot.dtype.is_float) or (
                product.result.dtype.compute is not self.dot.dtype.compute):
            raise NoProduct("an epilogue of another dtype than the sums")

        def visit(x: Node, index) -> None:
            if x in at or isinstance(x, Constant):
                return
            if isinstance(x, Input):
                if isinstance(x.type, ScalarType):
                    product.loads[x] = None
                    return
                place = linear(index, x.shape)
                if x.dtype.compute is not sums or product.loads.setdefault(x, place) != place:
                    raise NoProduct(f"the epilogue reads {x}")
                if any(isinstance(c, int) and c < 0 for c in place.terms.values()):
                    raise NoProduct("the epilogue reads backwards")
                return
            if x.prim.kind == "view":
                visit(x.operands[0], operand_index(x, index))
            elif x.prim.kind == "elementwise" and x.prim.name not in ("iota", "dim_size"):
                for y in x.operands:
                    visit(y, index if y.shape else [])
            else:
                raise NoProduct(f"{x.prim.name} in an epilogue")

        for node in product.epilogue:
            for x in node.operands:
                visit(x, at[node] if x.shape else [])

    def outer_columns(self, product: Product) -> None:
        """Columns that lie outside all rows in C are batch axes of which A knows nothing."""
        parts, c = product.parts, product.c
        inner = [c.terms[a] for a in parts.rows]
        if not all(isinstance(n, int) for n in inner) or not inner:
            return
        outside = [a for a in parts.cols
                   if not isinstance(c.terms[a], int) or c.terms[a] > max(inner)]
        if len(outside) < len(parts.cols):
            parts.batch += outside
            parts.cols = [a for a in parts.cols if a not in outside]


def has_windows(x: Node) -> bool:
    """Whether an operand reads windows."""
    while isinstance(x, Apply) and (x.prim.kind == "view" or x.prim.name == "pad"):
        if x.prim.name == "windows":
            return True
        x = x.operands[0]
    return False


def pads_with_zeros(x: Apply) -> bool:
    """Whether a pad puts zeros around, and none between."""
    return x.attrs["value"] == 0 and not any(x.attrs.get("interior") or ())


# -- emission --------------------------------------------------------------------------------------
def size_name(extent):
    """What gemm calls a size: an int, or the name of an argument, in LLVM's letters."""
    if not isinstance(extent, Dim):
        return extent
    return f"{extent.name.replace('?', '$')}.{extent.coef}"


def operand(dtype, parts: Parts, place: Affine, rows: list[Axis], cols: list[Axis]):
    def axes(kind: list[Axis]):
        return tuple(gemm.Axis(size_name(a.extent), size_name(place.coef(a))) for a in kind)

    return gemm.Operand(dtype.name, axes(parts.batch), axes(rows), axes(cols))


def operands_of(p: Product) -> tuple[gemm.Operand, gemm.Operand, gemm.Operand]:
    """A, B and C as the generator of products sees them."""
    parts = p.parts
    return (operand(p.a[0].dtype, parts, p.a[1], parts.rows, parts.summed),
            operand(p.b[0].dtype, parts, p.b[1], parts.summed, parts.cols),
            operand(p.result.dtype, parts, p.c, parts.rows, parts.cols))


def better_padded(p: Product, materialised: Product, target: Target) -> bool:
    """Whether the product had better leave out its padding than read it from memory."""
    otherwise = cycles(arrange(*operands_of(materialised), target), target)
    return gemm_direct_plan.is_worth(*operands_of(p), p.edges, otherwise, target)


def write_product(module: Module, name: str, p: Product, target: Target) -> gemm.GemmPlan:
    """The function of a product; without the places' constants, which its caller adds."""
    epilogue = Epilogue(p) if p.epilogue else None
    return gemm.emit_gemm(module, name, *operands_of(p), epilogue, target, p.edges)


def emit_product(module: Module, name: str, graph: Graph, target: Target,
                 symbols: tuple[str, ...]) -> Kernel:
    """The kernel of a product: the generated function and one that fetches its arguments."""
    p = product_of(graph)
    plan = write_product(module, f"{name}.product", p, target)
    if any(isinstance(n, str) for n in plan.partial_extents):
        raise SymbolicFault("a product whose partial sums have a symbolic size")
    tasks = min(plan.max_tasks, shares(plan.flops, plan.bytes, target))
    phases = []
    for suffix, function in (("", plan.name), (".reduce", plan.reduce_name)):
        if function is not None:
            _emit_caller(module, name + suffix, function, graph, p, plan, symbols)
            phases.append((name + suffix, tasks))
    over = tuple(i for i, x in enumerate(graph.inputs) if plan.written_once
                 and p.loads.get(x) == p.c and x.dtype is p.result.dtype
                 and x not in (p.a[0], p.b[0]))
    short = seconds_alone(plan.flops, plan.bytes, target) <= PARALLEL_SECONDS and not plan.symbols
    return Kernel(phases, plan.scratch_bytes(max(tasks, target.threads)), plan.flops, plan.bytes,
                  codegen=CODEGEN, short=short, over=over)


def _emit_caller(module: Module, name: str, function: str, graph: Graph, p: Product, plan,
                 symbols: tuple[str, ...]) -> None:
    """`void @name(ctx, task, n_tasks)` calls the product on the pointers of the context."""
    f = Function(module, "void", name, ARGUMENTS)
    slots = len(graph.inputs) + 1
    context = Context(f, slots, symbols)
    context.load_sizes()
    slot = {x: i for i, x in enumerate(graph.inputs)}
    pointers = [_pointer(context, slot[p.a[0]], p.a[0], p.a[1]),
                _pointer(context, slot[p.b[0]], p.b[0], p.b[1]),
                context.slot(len(graph.inputs)), "null"]
    if p.loads:
        pointers[3] = f.op(f"alloca [{len(p.loads)} x ptr]")
        for i, (x, place) in enumerate(p.loads.items()):
            f.store("ptr", _pointer(context, slot[x], x, place or Affine()),
                    f.gep("ptr", pointers[3], str(i)))
    pointers.append(context.slot(slots))
    arguments = [("ptr", x) for x in pointers] + [("i64", "%task"), ("i64", "%n_tasks")]
    for symbol in plan.symbols:
        dim, coef = symbol.rsplit(".", 1)
        arguments.append(("i64", f.mul(context.sizes[dim.replace("$", "?")], coef)))
    f.call("void", function, *arguments)
    f.ret()
    f.close()


def _pointer(context: Context, slot: int, x: Input, place: Affine) -> str:
    pointer = context.slot(slot)
    if place.const == 0:
        return pointer
    ty = f"i{x.dtype.itemsize * 8}"
    return context.f.gep(ty, pointer, context.number(place.const))


class Epilogue:
    """What gemm calls with finished sums: the group's elementwise work on one vector."""

    def __init__(self, p: Product):
        self.p = p
        self.number = {x: i for i, x in enumerate(p.loads)}
        self.cost = sum(COST.get(node.prim.name, 1) for node in p.epilogue)

    def __call__(self, f: Function, ty: str, sums: str, coords) -> str:
        ops, n = ScalarOps(f), lanes(ty)
        env: dict[Node, Element] = {self.p.dot: Element(_single(f, ty, sums), self.p.dot.dtype, n)}

        def value(x: Node) -> Element:
            if isinstance(x, Constant):
                return ops.const(x.value, x.dtype)
            if x not in env:
                env[x] = self._load(ops, x, coords) if isinstance(x, Input) else compute(x)
            return env[x]

        def compute(node: Apply) -> Element:
            if node.prim.kind == "view":
                return value(node.operands[0])
            return node.prim.scalar(ops, *map(value, node.operands), **node.attrs)

        last = ops.spread(value(self.p.result), n)
        if ty == f"<1 x {last.ty}>":
            return f.op(f"insertelement {ty} poison, {last.ty} {last.text}, i64 0")
        return last.text

    def _load(self, ops: ScalarOps, x: Input, coords) -> Element:
        pointer, place = coords.extra(self.number[x]), self.p.loads[x]
        if place is None:
            if x.dtype.kind == "b":
                return ops.from_memory(ops.f.load("i8", pointer), x.dtype, 1)
            return Element(ops.f.load(llvm_type(x.dtype), pointer), x.dtype, 1)
        parts = self.p.parts
        text = coords.load(pointer, operand(x.dtype, parts, place, parts.rows, parts.cols))
        ty = vector(llvm_type(x.dtype.compute), coords.lanes)
        return Element(_single(ops.f, ty if coords.lanes > 1 else f"<1 x {ty}>", text), x.dtype,
                       coords.lanes)


def _single(f: Function, ty: str, value: str) -> str:
    """A vector of one lane as the scalar that an Element of one lane is."""
    return f.op(f"extractelement {ty} {value}, i64 0") if ty.startswith("<1 ") else value
