"""host: the fused graph as one LLVM function that calls its kernels in order.

    i32 program(ptr args, ptr outs, ptr dims, ptr arena, ptr error)

Arrays live where they are wanted: a result straight in the caller's buffer, a parameter's new value
in the parameter where nobody still needs the old one, everything else at a planned offset of the
arena. Scalars live in registers, `cond` is a branch, `call` calls the function of its graph, made
once however often it is called. A kernel that can fail (an index out of range) leaves its record in
`error`, and the program returns 1 at once; what updates parameters in place therefore runs last.

Functions of called graphs take `bases`, one arena pointer for each unit (bytes, then bytes for each
symbolic dimension), in the place of `arena`.
"""

from __future__ import annotations

from collections.abc import Callable

from cellc.ir.graph import Apply, Constant, Graph, Input, Node
from cellc.ir.types import Dim, ScalarType, TensorType, TupleType
from cellc.kernels.frame import Frame
from cellc.kernels.loops import Kernel
from cellc.kernels.plan_memory import Block, byte_size, plan
from cellc.kernels.scalar_ops import ScalarOps, llvm_type
from cellc.kernels.structure import structure
from cellc.kernels.text import Function, Module, constant
from cellc.record import fresh, record

SIGNATURE = [("ptr", "args"), ("ptr", "outs"), ("ptr", "dims"), ("ptr", "bases"), ("ptr", "error")]
SITE = 7        # the place in the error record that says which apply failed
NO_KERNEL = ("tuple", "item", "reshape", "empty", "dim_size", "to_scalar", "call", "cond",
             "barrier")

_SAME_MEMORY = ("reshape", "barrier")       # the array that their operand is


@record(frozen=True)
class Unit:
    """A kernel as a module of its own, so that equal kernels of all programs are one object.

    The program calls its function `f` as `name.f`; `compiled` is what `written` gave for its text.
    """

    name: str
    kernel: Kernel
    text: str
    compiled: object

    @property
    def functions(self) -> list[str]:
        return [function for function, _ in self.kernel.phases]


@record
class Program:
    """What the driver needs to know of an emitted program."""

    name: str
    symbols: tuple[str, ...]                 # names of the dims array, in order
    arena: dict[str, int]                    # bytes for each unit, "" first
    flops: float = 0.0
    bytes: float = 0.0
    text: str = ""                           # of the host function
    units: list[Unit] = fresh(list)
    sites: list = fresh(list)   # the user's place of every apply that can fail


@record(eq=False)
class Slot:
    """Where an array lives: input `input`, result buffer `target`, or a block of the arena."""

    type: TensorType
    block: Block | None = None
    input: int | None = None
    target: int | None = None
    constant: Constant | None = None


class Host:
    """Emits one program. `emit_group` (kernels/group.py) makes a kernel, and `written` is told the
    text of each, and the level of code generation it needs, as soon as it is there, so that it can
    be compiled meanwhile."""

    def __init__(self, emit_group: Callable, symbols: tuple[str, ...], target,
                 written: Callable[[str, int], object]):
        self.module = Module("program")
        self.emit_group, self.symbols, self.target = emit_group, symbols, target
        self.written = written
        self.units = ("", *symbols)
        self.kernels: dict[tuple, Unit] = {}
        self.functions: dict[int, tuple[Graph, str, Region]] = {}
        self.sites: list = []
        self.flops = self.bytes = 0.0

    def program(self, graph: Graph, name: str, in_place: dict[int, int]) -> Program:
        """Emit `graph`; result r of `in_place` goes to the buffer of input in_place[r] instead of
        a buffer in `outs`, where the remaining results go in order."""
        graph = _updates_last(graph, set(in_place))
        region = Region(self, graph, in_place)
        f = Function(self.module, "i32", name, [*SIGNATURE[:3], ("ptr", "arena"), SIGNATURE[4]])
        frame = Frame(f, self.symbols)
        frame.bases = self._split_arena(f, region.totals)
        inputs = [frame.argument(i, x.type) for i, x in enumerate(graph.inputs)]
        outs = [i for i in range(len(graph.results)) if i not in in_place]
        targets = {r: inputs[i] for r, i in in_place.items()}
        targets |= {r: frame.out_pointer(k) for k, r in enumerate(outs)}
        self._finish(frame, region, inputs, targets)
        return Program(name, self.symbols, {u: region.totals.get(u, 0) for u in self.units},
                       self.flops, self.bytes, self.module.text(), list(self.kernels.values()),
                       self.sites)

    def function(self, graph: Graph) -> tuple[str, Region]:
        """The name and plan of a called graph's function, emitted at the first call."""
        if id(graph) not in self.functions:
            name = f"graph.{len(self.functions)}"
            region = Region(self, graph, {})
            self.functions[id(graph)] = (graph, name, region)
            f = Function(self.module, "i32", name, SIGNATURE, linkage="define internal")
            frame = Frame(f, self.symbols)
            frame.bases = {u: f.load("ptr", f.gep("ptr", "%bases", str(i)))
                           for i, u in enumerate(self.units)}
            inputs = [frame.argument(i, x.type) for i, x in enumerate(graph.inputs)]
            targets = {r: frame.out_pointer(r) for r in range(len(graph.results))}
            self._finish(frame, region, inputs, targets)
        return self.functions[id(graph)][1:]

    def _finish(self, frame: Frame, region: Region, inputs: list[str], targets) -> None:
        """The body of a function: everything in the region, then its scalar results."""
        for r, value in region.emit(frame, inputs, targets).items():
            frame.store_scalar(region.graph.results[r].type, value, targets[r])
        frame.close()

    def kernel(self, node: Apply) -> Unit:
        """The kernel of a group; groups of one structure share one."""
        key = structure(node)
        if key not in self.kernels:
            module = Module("kernel")
            kernel = self.emit_group(module, "kernel", node, self.target, self.symbols)
            text = module.text()
            self.kernels[key] = Unit(f"kernel.{len(self.kernels)}", kernel, text,
                                     self.written(text, kernel.codegen))
        unit = self.kernels[key]
        self.flops += unit.kernel.flops
        self.bytes += unit.kernel.bytes
        return unit

    def _split_arena(self, f: Function, totals: dict[str, int]) -> dict[str, str]:
        bases, offset = {}, "0"
        for unit in self.units:
            bases[unit] = f.gep("i8", "%arena", offset)
            size = str(totals.get(unit, 0))
            if unit:
                size = f.mul(size, f.load("i64", f.gep("i64", "%dims",
                                                       str(self.symbols.index(unit)))))
            offset = f.add(offset, size)
        return bases


class Region:
    """The plan of one graph (where its arrays live) and its emission into a frame."""

    def __init__(self, host: Host, graph: Graph, in_place: dict[int, int]):
        self.host, self.graph = host, graph
        self.slots: dict[tuple[Node, int], Slot] = {}
        self.inputs = {x: Slot(x.type, input=i) for i, x in enumerate(graph.inputs)}
        self.inner: dict[Node, list[Region]] = {}
        self.inner_blocks: dict[Node, dict[str, Block]] = {}
        self.scratch: dict[Node, Block] = {}
        self.made: dict[Node, Unit] = {}
        self.constants: list[Slot] = []
        self.blocks: list[Block] = []
        self.copies: list[tuple[Slot, int, Slot | None]] = []
        self._place(in_place)
        self.totals = plan([b for b in self.blocks if b.size])

    # -- planning ------------------------------------------------------------------------------
    def slot(self, node: Node, index: int = 0) -> Slot:
        """Where an array value lives; `item`, `reshape`, `barrier` are names for their operand."""
        if isinstance(node, Input):
            return self.inputs[node]
        if isinstance(node, Constant):
            key = (node, 0)
            if key not in self.slots:
                self.slots[key] = Slot(node.type, self._block(node.type, 0), constant=node)
                self.constants.append(self.slots[key])
            return self.slots[key]
        name = node.prim.name
        if name == "item":
            source = node.operands[0]
            if isinstance(source, Apply) and source.prim.name == "tuple":
                return self.slot(source.operands[node.attrs["index"]])
            return self.slot(source, node.attrs["index"])
        return self.slot(node.operands[0]) if name in _SAME_MEMORY else self.slots[node, index]

    def _block(self, type: TensorType, start: int) -> Block:
        unit, size = byte_size(type)
        block = Block(unit, size, start, start)
        self.blocks.append(block)
        return block

    def _temporary(self, unit: str, size: int, position: int) -> Block:
        block = Block(unit, size, position, position)
        self.blocks.append(block)
        return block

    def _place(self, in_place: dict[int, int]) -> None:
        """Give every array value a slot with its lifetime, then decide where results live."""
        end = len(self.graph.body)
        last_use: dict[int, int] = {}            # input index -> last position that reads it
        for position, node in enumerate(self.graph.body):
            for x in node.operands:
                if isinstance(x.type, TensorType) and node.prim.name not in ("tuple", "item"):
                    self._use(x, position, last_use)
            if node.prim.name not in ("tuple", "item", *_SAME_MEMORY):
                for i, t in enumerate(result_types(node)):
                    if isinstance(t, TensorType):
                        self.slots[node, i] = Slot(t, self._block(t, position))
            if node.prim.name in ("call", "cond"):
                self._place_inner(node, position)
            elif node.prim.name not in NO_KERNEL and not is_scalar(node):
                unit = self.made[node] = self.host.kernel(node)
                if unit.kernel.scratch:
                    self.scratch[node] = self._temporary("", unit.kernel.scratch, position)
        self._place_results(in_place, end, last_use)

    def _use(self, x: Node, position: int, last_use: dict[int, int]) -> None:
        slot = self.slot(x)
        if slot.input is not None:
            last_use[slot.input] = position
        else:
            slot.block.end = max(slot.block.end, position)

    def _place_inner(self, node: Apply, position: int) -> None:
        if node.prim.name == "call":
            regions = [self.host.function(node.attrs["graph"])[1]]
        else:
            regions = [Region(self.host, node.attrs[k], {}) for k in ("then", "orelse")]
        self.inner[node] = regions
        self.inner_blocks[node] = {
            unit: self._temporary(unit, max(r.totals.get(unit, 0) for r in regions), position)
            for unit in self.host.units}

    def _place_results(self, in_place: dict[int, int], end: int, last_use: dict[int, int]) -> None:
        arrays = [(r, x) for r, x in enumerate(self.graph.results)
                  if isinstance(x.type, TensorType)]
        wanted = [(r, self.slot(x)) for r, x in arrays]
        for _, slot in wanted:
            if slot.input is not None:
                last_use[slot.input] = end
        position = {node: i for i, node in enumerate(self.graph.body)}
        makers = {id(slot): node for (node, _), slot in self.slots.items()}
        for r, slot in wanted:
            free = slot.input is None and slot.constant is None and slot.target is None
            if free and r in in_place:
                maker = makers[id(slot)]
                free = self._may_overwrite(maker, position[maker], in_place[r], last_use)
            if free:
                slot.target = r
                self.blocks.remove(slot.block)
                continue
            through = None
            if slot.input is not None and slot.input in in_place.values():
                through = Slot(slot.type, self._temporary(*byte_size(slot.type), end))
            if slot.block is not None:
                slot.block.end = end
            self.copies.append((slot, r, through))

    def _may_overwrite(self, maker: Apply, position: int, index: int, last_use) -> bool:
        """Whether `maker` may write its result over input `index`: nobody reads the old value
        later, and maker itself reads it at no other place than the one it writes."""
        last = last_use.get(index, -1)
        if last != position:
            return last < position
        if maker.prim.name != "fused" or maker.operands.count(self.graph.inputs[index]) != 1:
            return False
        body = maker.attrs["graph"]
        return _pointwise(body, body.inputs[maker.operands.index(self.graph.inputs[index])])

    # -- emission ------------------------------------------------------------------------------
    def emit(self, frame: Frame, inputs: list[str], targets: dict[int, str]) -> dict[int, str]:
        """Write the applies in order; returns the registers of the scalar results."""
        self.pointers: dict[int, str] = {}
        for slot in [*self.slots.values(), *(t for *_, t in self.copies if t)]:
            if slot.target is not None:
                self.pointers[id(slot)] = targets[slot.target]
            else:
                self.pointers[id(slot)] = self._at(frame, slot.block)
        for slot in self.inputs.values():
            self.pointers[id(slot)] = inputs[slot.input]
        self.scalars: dict[Node, str] = {
            x: inputs[i] for i, x in enumerate(self.graph.inputs) if isinstance(x.type, ScalarType)}
        self.tuples: dict[tuple[Node, int], str] = {}
        for slot in self.constants:
            frame.fill(slot.constant, self.pointers[id(slot)])
        for node in self.graph.body:
            self._emit(frame, node)
        for slot, _, through in self.copies:
            if through:
                frame.copy(slot.type, self.pointers[id(slot)], self.pointers[id(through)])
        for slot, r, through in sorted(self.copies, key=lambda c: c[2] is not None):
            frame.copy(slot.type, self.pointers[id(through or slot)], targets[r])
        return {r: self._scalar(frame, x) for r, x in enumerate(self.graph.results)
                if isinstance(x.type, ScalarType)}

    def _at(self, frame: Frame, block: Block) -> str:
        return frame.f.gep("i8", frame.bases[block.unit], frame.size(block.unit, block.offset))

    def _scalar(self, frame: Frame, x: Node) -> str:
        if isinstance(x, Constant):
            return constant(x.value, llvm_type(x.type.dtype))
        if isinstance(x, Apply) and x.prim.name == "item":
            source, index = x.operands[0], x.attrs["index"]
            if isinstance(source, Apply) and source.prim.name == "tuple":
                return self._scalar(frame, source.operands[index])
            return self.tuples[source, index]
        return self.scalars[x]

    def _emit(self, frame: Frame, node: Apply) -> None:
        name = node.prim.name
        if name in ("tuple", "item", *_SAME_MEMORY):
            if name == "barrier" and is_scalar(node):
                self.scalars[node] = self._scalar(frame, node.operands[0])
            return
        if name == "empty":
            if isinstance(node.type, ScalarType):
                self.scalars[node] = constant(0, llvm_type(node.type.dtype))
        elif name == "dim_size":
            d = node.attrs["dim"]
            self.scalars[node] = (frame.f.mul(str(d.coef), frame.dim(d.name))
                                  if isinstance(d, Dim) else str(d))
        elif name == "to_scalar":
            self.scalars[node] = self._to_scalar(frame, node)
        elif name == "call":
            self._emit_call(frame, node)
        elif name == "cond":
            self._emit_cond(frame, node)
        elif is_scalar(node):
            ops = ScalarOps(frame.f, lanes=1)
            self.scalars[node] = ops.apply(node, [self._scalar(frame, x) for x in node.operands])
        else:
            self._emit_kernel(frame, node)

    def _to_scalar(self, frame: Frame, node: Apply) -> str:
        x = node.operands[0]
        ops = ScalarOps(frame.f, lanes=1)
        value = ops.load(x.type.dtype, self.pointers[id(self.slot(x))])
        return ops.convert(value, x.type.dtype, node.type.dtype)

    def _spilled(self, frame: Frame, x: Node) -> str:
        """The address of 8 bytes holding a scalar."""
        place = frame.alloca("i64")
        frame.store_scalar(x.type, self._scalar(frame, x), place)
        return place

    def _emit_kernel(self, frame: Frame, node: Apply) -> None:
        f, unit = frame.f, self.made[node]
        pointers = [self.pointers[id(self.slot(x))] if isinstance(x.type, TensorType)
                    else self._spilled(frame, x) for x in node.operands]
        pointers += [self.pointers[id(self.slots[node, i])]
                     for i in range(len(result_types(node)))]
        scratch = self.scratch.get(node)
        pointers += [self._at(frame, scratch) if scratch else "null", "%dims", "%error"]
        context = frame.alloca(f"[{len(pointers)} x ptr], align 16")
        for i, pointer in enumerate(pointers):
            f.store("ptr", pointer, f.gep("ptr", context, str(i)))
        for function, tasks in unit.kernel.phases:
            name = f"{unit.name}.{function}"
            if tasks == 1:
                f.call("void", name, ("ptr", context), ("i64", "0"), ("i64", "1"))
            else:
                f.module.declare(f"void @{name}(ptr, i64, i64)")
                f.call("void", "cellc_parallel", ("ptr", f"@{name}"), ("ptr", context),
                       ("i64", frame.tasks(tasks, unit.kernel.alone_below)))
        if may_fail(node):
            f.store("i64", str(len(self.host.sites)), f.gep("i64", "%error", str(SITE)))
            self.host.sites.append(_failing(node).loc or node.loc)
            frame.fail_if(f.op(f"icmp ne i64 {f.load('i64', '%error')}, 0"))

    def _emit_call(self, frame: Frame, node: Apply) -> None:
        f = frame.f
        name, _ = self.host.function(node.attrs["graph"])
        arguments = frame.alloca(f"[{max(1, len(node.operands))} x i64]")
        for i, x in enumerate(node.operands):
            place = f.gep("i64", arguments, str(i))
            if isinstance(x.type, TensorType):
                f.store("ptr", self.pointers[id(self.slot(x))], place)
            else:
                frame.store_scalar(x.type, self._scalar(frame, x), place)
        types = result_types(node)
        outs = frame.alloca(f"[{max(1, len(types))} x ptr]")
        cells = {}
        for i, t in enumerate(types):
            if isinstance(t, TensorType):
                pointer = self.pointers[id(self.slots[node, i])]
            else:
                pointer = cells[i] = frame.alloca("i64")
            f.store("ptr", pointer, f.gep("ptr", outs, str(i)))
        bases = frame.alloca(f"[{len(self.host.units)} x ptr]")
        for i, unit in enumerate(self.host.units):
            f.store("ptr", self._at(frame, self.inner_blocks[node][unit]),
                    f.gep("ptr", bases, str(i)))
        status = f.op(f"call i32 @{name}(ptr {arguments}, ptr {outs}, ptr %dims, ptr {bases}, "
                      "ptr %error)")
        frame.fail_if(f.op(f"icmp ne i32 {status}, 0"))
        for i, cell in cells.items():
            self._set_scalar(node, i, frame.load_scalar(types[i], cell))

    def _emit_cond(self, frame: Frame, node: Apply) -> None:
        f, types = frame.f, result_types(node)
        inputs = [self.pointers[id(self.slot(x))] if isinstance(x.type, TensorType)
                  else self._scalar(frame, x) for x in node.operands[1:]]
        targets = {i: self.pointers[id(self.slots[node, i])] for i, t in enumerate(types)
                   if isinstance(t, TensorType)}
        labels = [f.label("then"), f.label("else")]
        done = f.label("join")
        f.branch_if(self._scalar(frame, node.operands[0]), *labels)
        bases, found, ends = frame.bases, [], []
        for label, region in zip(labels, self.inner[node], strict=True):
            f.start(label)
            frame.bases = {u: self._at(frame, b)
                           for u, b in self.inner_blocks[node].items()}
            found.append(region.emit(frame, inputs, targets))
            ends.append(f.block)
            f.branch(done)
            frame.bases = bases
        f.start(done)
        for i, t in enumerate(types):
            if isinstance(t, ScalarType):
                ways = ", ".join(f"[ {v[i]}, %{b} ]" for v, b in zip(found, ends, strict=True))
                self._set_scalar(node, i, f.op(f"phi {llvm_type(t.dtype)} {ways}"))

    def _set_scalar(self, node: Apply, index: int, value: str) -> None:
        self.tuples[node, index] = value
        if isinstance(node.type, ScalarType):
            self.scalars[node] = value


def result_types(node: Node) -> tuple:
    """The types of an apply's results: the items of a tuple type, else the one type."""
    return node.type.items if isinstance(node.type, TupleType) else (node.type,)


def is_scalar(node: Apply) -> bool:
    """Arithmetic that the host function does in registers."""
    return isinstance(node.type, ScalarType)


def _failing(node: Apply) -> Apply | None:
    """The apply in a group (or the apply itself) whose kernel checks indices."""
    if node.prim.name in ("gather", "scatter_add"):
        return node
    body = node.attrs.get("graph")
    return next((x for x in body.body if x.prim.name == "gather"), None) if body else None


def may_fail(node: Apply) -> bool:
    return _failing(node) is not None


def _pointwise(body: Graph, x: Input) -> bool:
    """Whether a group reads x only at the place it writes, before it writes there: whatever depends
    on x is elementwise of x's shape, and there is no reduction and no product, whose result holds
    unfinished sums before the rest of the group is computed."""
    if any(node.prim.kind == "reduce" or node.prim.name == "dot" for node in body.body):
        return False
    dependent: set[Node] = {x}
    for node in body.body:
        if node.prim.name != "tuple" and any(o in dependent for o in node.operands):
            if node.prim.kind != "elementwise" or node.type.shape != x.type.shape:
                return False
            dependent.add(node)
    return True


def _updates_last(graph: Graph, updated: set[int]) -> Graph:
    """Where something can fail, the applies that only make results listed in `updated` go last."""
    if not updated or not any(may_fail(node) for node in graph.body):
        return graph
    states = {x for r, x in enumerate(graph.results) if r in updated}
    kept = {x for r, x in enumerate(graph.results) if r not in updated}
    users: dict[Node, list[Apply]] = {}
    for node in graph.body:
        for x in node.operands:
            users.setdefault(x, []).append(node)

    def only_state(x: Node) -> bool:
        return x in states and x not in kept and all(u is graph.result for u in users.get(x, ()))

    late: set[Node] = set()
    for node in graph.body:
        items = users.get(node, ()) if isinstance(node.type, TupleType) else (node,)
        if node.prim.name == "fused" and all(map(only_state, items)):
            late.update((node, *items))
    order = sorted(graph.body, key=lambda node: (node is graph.result, node in late))
    return Graph(graph.name, graph.inputs, order, graph.result)
