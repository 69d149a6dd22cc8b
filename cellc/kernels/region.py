"""region: the applies of one graph as instructions of a host function, in order.

A `cond` is a branch, a `while` a loop, a `call` a call of the function of its graph, made once; a
group of applies is a call of its kernel. Numbers and 0-d tensors are registers, and arithmetic on
them is done here, so that a loop over numbers is a loop over registers. A tape is the address of
its top.
"""

from __future__ import annotations

from cellc.ir.graph import Apply, Constant, Graph, Node
from cellc.ir.prims.control import state_size
from cellc.ir.types import Dim, TapeType
from cellc.kernels import polling, rows
from cellc.kernels.addresses import Address, Pointers, constants
from cellc.kernels.effects import Effects, failing_apply
from cellc.kernels.frame import Frame, register_type
from cellc.kernels.places import (
    NO_KERNEL,
    Places,
    Slot,
    changed_operand,
    done_in_registers,
    fills_place,
    in_register,
    needs_kernel,
    result_types,
)
from cellc.kernels.plan_memory import Block, byte_size
from cellc.kernels.program import ERROR_INDEX, SITE
from cellc.kernels.register_ops import RegisterOps
from cellc.kernels.scalar_ops import Element, ScalarOps
from cellc.kernels.tapes import Tapes
from cellc.kernels.text import constant


class Region(Places, Effects, Tapes):
    """The places of one graph's arrays, and its emission into a frame."""

    def __init__(self, host, graph: Graph, in_place: dict[int, int], owned=frozenset(),
                 swappable: bool = False, written_after: int = -1,
                 sized: dict[int, str] | None = None):
        """`sized`: the results whose memory is taken when their size is found; their targets are
        where its address goes."""
        self.host, self.sized = host, sized or {}
        self.inner: dict[Node, list[Region]] = {}
        self.inner_blocks: dict[Node, dict[str, Block]] = {}
        self.scratch: dict[Node, Block] = {}
        self.made: dict[Node, object] = {}
        super().__init__(graph, in_place, owned, swappable, written_after)

    # -- planning ------------------------------------------------------------------------------
    def place_inner(self, node: Apply, position: int) -> None:
        name = node.prim.name
        if name == "call":
            region = self.host.function(node.attrs["graph"])[1]
            self._place_regions(node, position, [region] if region else [])
        elif name == "cond":
            taken = {r: k - 1 for r in range(len(result_types(node)))
                     if (k := self._in_place(node, r)) is not None}
            self._place_regions(node, position, [
                Region(self.host, node.attrs[key], taken, frozenset(taken.values()))
                for key in ("then", "orelse")])
        elif name == "while":
            arrays = [i for i, t in enumerate(result_types(node)) if not in_register(t)]
            body = Region(self.host, node.attrs["body"], {i: i for i in arrays},
                          frozenset(arrays), swappable=True)
            self._place_regions(node, position, [Region(self.host, node.attrs["test"], {}), body])
            for i in body.swapped:
                self.spares[node, i] = (self.slots[node, i], self.temporary(
                    *byte_size(result_types(node)[i]), position))
        elif needs_kernel(node):
            unit = self.made[node] = self.host.kernel(node)
            if unit.kernel.scratch:
                self.scratch[node] = self.temporary(unit.kernel.scratch_unit,
                                                     unit.kernel.scratch, position)

    def may_lie_over(self, maker: Apply, operand: int) -> bool:
        return super().may_lie_over(maker, operand) or operand in self.made[maker].kernel.over

    def _in_place(self, node: Apply, result: int) -> int | None:
        """The operand whose place a result took over."""
        if in_register(result_types(node)[result]):
            return None
        k = changed_operand(node, result)
        if k is None or isinstance(node.operands[k], Constant):
            return None
        return k if self.slots[node, result] is self.slot(node.operands[k]) else None

    def _place_regions(self, node: Apply, position: int, regions: list[Region]) -> None:
        self.inner[node] = regions
        self.inner_blocks[node] = {
            unit: self.temporary(unit, max((r.totals.get(unit, 0) for r in regions), default=0),
                                 position)
            for unit in self.host.units}

    # -- emission ------------------------------------------------------------------------------
    def emit(self, frame: Frame, inputs: list[str], targets: dict[int, str]) -> dict[int, str]:
        """Write the applies in order; returns the registers of the results that are in registers.

        `inputs` are registers, or the addresses of arrays; `targets` addresses for results."""
        self.registers: dict[tuple[Node, int], str] = {
            (x, 0): register for x, register in zip(self.graph.inputs, inputs, strict=True)
            if in_register(x.type)}
        self.pointers = Pointers(frame.addresses)
        for slot in self.inputs.values():
            self.pointers[id(slot)] = inputs[slot.input]
        self.targets = dict(targets)
        self.settle_places(frame, None)
        for slot in self.slots.values():
            if slot.goes is not None and slot.goes.prim.name == "write":
                x, _, *index = slot.goes.operands
                self.pointers[id(slot)] = self._address(frame, slot.goes, x, index)
        for node in dict.fromkeys(slot.goes for slot in self.slots.values()):
            if node is not None and node.prim.name == "push":
                self.begin_record(frame, node)
        for node in self.graph.body:
            self._emit(frame, node)
        for slot, _, through in self.copies:
            if through:
                frame.copy(slot.type, self.pointers[id(slot)], self.pointers[id(through)])
        for slot, r, through in sorted(self.copies, key=lambda c: c[2] is not None):
            frame.copy(slot.type, self.pointers[id(through or slot)],
                       frame.register(self.targets[r]))
        return {r: self.register(x) for r, x in enumerate(self.graph.results)
                if in_register(x.type)}

    def settle_places(self, frame: Frame, found: str | None) -> None:
        """The addresses of all arrays, and what constants hold: of those of a size that has just
        been found, or of all others."""
        for slot in [*self.slots.values(), *(t for *_, t in self.copies if t)]:
            if self.found and found != self._found_size(slot):
                continue
            if slot.target is not None:
                self.pointers[id(slot)] = self.targets[slot.target]
            elif slot.block is not None:
                self.pointers[id(slot)] = _address(frame, slot.block)
        for slot in self.constants:
            if not self.found or found == self._found_size(slot):
                frame.fill(slot.constant, self.pointers[id(slot)])

    def _found_size(self, slot: Slot) -> str | None:
        """The size of an array that this graph finds, where it is one."""
        unit = byte_size(slot.type)[0]
        return unit if unit in self.found else None

    def _at(self, frame: Frame, block: Block) -> str:
        return frame.register(_address(frame, block))

    def pointer(self, x: Node) -> str:
        return self.pointers[id(self.slot(x))]

    def register(self, x: Node) -> str:
        """The register (or literal) of a number, 0-d tensor or tape."""
        index = 0
        if isinstance(x, Apply) and x.prim.name == "item":
            source, index = x.operands[0], x.attrs["index"]
            if isinstance(source, Apply) and source.prim.name == "tuple":
                return self.register(source.operands[index])
            x = source
        if isinstance(x, Constant):
            value = x.value.item() if hasattr(x.value, "item") else x.value
            return constant(value, register_type(x.type))
        return self.registers[x, index]

    def _inputs(self, operands) -> list[str]:
        return [self.register(x) if in_register(x.type) else self.pointer(x) for x in operands]

    def _emit(self, frame: Frame, node: Apply) -> None:
        name = node.prim.name
        special = getattr(self, f"_emit_{name}", None)
        if special is not None:
            special(frame, node)
        elif done_in_registers(node):
            self.registers[node, 0] = self._arithmetic(frame, node)
        elif name not in NO_KERNEL:
            self._emit_kernel(frame, node)

    def _arithmetic(self, frame: Frame, node: Apply) -> str:
        operands = [self.register(x) for x in node.operands]
        if node.prim.kind == "view":        # of one element
            return operands[0]
        ops = RegisterOps(frame.f, self.host.target.has_fma)
        elements = [Element(text, x.type.dtype, 1)
                    for text, x in zip(operands, node.operands, strict=True)]
        made = node.prim.scalar(ops, *elements, **node.attrs)
        dtype = node.type.dtype
        if dtype is not dtype.compute:      # an f16 is rounded where eager mode rounds it
            made = ops.round_to(made, dtype)
        return made.text

    def _emit_empty(self, frame: Frame, node: Apply) -> None:
        if isinstance(node.type, TapeType):
            self.registers[node, 0] = "null"
        elif in_register(node.type):
            self.registers[node, 0] = constant(0, register_type(node.type))

    def _emit_dim_size(self, frame: Frame, node: Apply) -> None:
        d = node.attrs["dim"]
        self.registers[node, 0] = (frame.f.mul(str(d.coef), frame.dim(d.name))
                                   if isinstance(d, Dim) else str(d))

    def _emit_barrier(self, frame: Frame, node: Apply) -> None:
        if in_register(node.type):
            self.registers[node, 0] = self.register(node.operands[0])

    def _emit_reshape(self, frame: Frame, node: Apply) -> None:
        """Between a register and an array of one element; other reshapes are names."""
        x = node.operands[0]
        if in_register(x.type) and in_register(node.type):
            self.registers[node, 0] = self.register(x)
        elif in_register(node.type):
            self.registers[node, 0] = frame.load_element(node.type.dtype, self.pointer(x))
        elif in_register(x.type):
            frame.store_element(x.type.dtype, self.register(x), self.pointer(node))

    # -- kernels -------------------------------------------------------------------------------
    def _emit_kernel(self, frame: Frame, node: Apply) -> None:
        f, unit = frame.f, self.made[node]
        pointers = [frame.spilled(x.type, self.register(x)) if in_register(x.type)
                    else self.pointer(x) for x in node.operands]
        cells = {}
        for i, t in enumerate(result_types(node)):
            if in_register(t):
                cells[i] = frame.alloca("i64")
                pointers.append(cells[i])
            else:
                pointers.append(self.pointers[id(self.slots[node, i])])
        scratch = self.scratch.get(node)
        pointers += [self._at(frame, scratch) if scratch else "null", frame.dims, "%error"]
        context = frame.alloca(f"[{len(pointers)} x ptr], align 16")
        for i, pointer in enumerate(pointers):
            f.store("ptr", pointer, f.gep("ptr", context, str(i)))
        for function, tasks in unit.kernel.phases:
            name = f"{unit.name}.{function}"
            if tasks == 1 or frame.alone:
                f.call("void", name, ("ptr", context), ("i64", "0"), ("i64", "1"))
            else:
                f.module.declare(f"void @{name}(ptr, i64, i64)")
                parallel = "cellc_parallel_awake" if unit.kernel.short else "cellc_parallel"
                f.call("void", parallel, ("ptr", f"@{name}"), ("ptr", context),
                       ("i64", frame.tasks(tasks, unit.kernel.alone_below)))
        failing = failing_apply(node)
        if failing is not None:
            self._site(frame, failing.loc or node.loc)
            frame.fail_if(f.op(f"icmp ne i64 {f.load('i64', '%error')}, 0"))
        for i, cell in cells.items():
            self.registers[node, i] = frame.load_register(result_types(node)[i], cell)

    def _site(self, frame: Frame, loc) -> None:
        """Say whose fault it will be, if there is one."""
        f = frame.f
        f.store("i64", str(len(self.host.sites)), f.gep("i64", "%error", str(SITE)))
        self.host.sites.append(loc)

    def _fail(self, frame: Frame, condition: str, loc, *words: str) -> None:
        """Where the condition holds, leave a record of these words and end the program."""
        f = frame.f
        with frame.failing(condition):
            for i, word in enumerate(words):
                f.store("i64", word, f.gep("i64", "%error", str(i)))
            self._site(frame, loc)

    # -- elements ------------------------------------------------------------------------------
    def _address(self, frame: Frame, node: Apply, x: Node, index) -> str:
        """Where the element or block of x at an index is."""
        f, linear = frame.f, "0"
        for i, n in zip(index, x.shape, strict=False):
            at = self.register(i)
            size = frame.extent(n)
            if node.attrs.get("checked", True):
                self._fail(frame, f.op(f"icmp uge i64 {at}, {size}"), node.loc,
                           str(ERROR_INDEX), "0", at, size)
            linear = f.add(f.mul(linear, size), at)
        for n in x.shape[len(index):]:
            linear = f.mul(linear, frame.extent(n))
        base = self.pointer(x) if node.prim.name == "read" else self.pointers[id(
            self.slots[node, 0])]
        return f.gep("i8", base, f.mul(linear, str(x.type.dtype.itemsize)))

    def _emit_read(self, frame: Frame, node: Apply) -> None:
        x, *index = node.operands
        address = self._address(frame, node, x, index)
        if in_register(node.type):
            self.registers[node, 0] = frame.load_element(node.type.dtype, address)
        elif self._is_found(node):
            self.pointers[id(self.slots[node, 0])] = address
        else:
            frame.copy(node.type, address, self.pointer(node))

    def settle(self, frame: Frame, node: Apply, operand: int, target: str) -> None:
        """Have the operand in the place of the result, if it is not there already."""
        x = node.operands[operand]
        if isinstance(x, Constant):
            frame.fill(x, target)
        elif not fills_place(node, operand) and self.pointer(x) != target:
            frame.copy(x.type, self.pointer(x), target)

    def _emit_write(self, frame: Frame, node: Apply) -> None:
        x, v, *index = node.operands
        self.settle(frame, node, 0, self.pointers[id(self.slots[node, 0])])
        if not in_register(v.type) and self.slot(v).goes is node:
            return                              # it was made there
        address = self._address(frame, node, x, index)
        if in_register(v.type):
            frame.store_element(v.type.dtype, self.register(v), address)
        else:
            frame.copy(v.type, self.pointer(v), address)

    def _emit_accumulate(self, frame: Frame, node: Apply) -> None:
        x, v, *index = node.operands
        f, dtype = frame.f, x.type.dtype
        self.settle(frame, node, 0, self.pointers[id(self.slots[node, 0])])
        address = self._address(frame, node, x, index)
        ops = ScalarOps(f, lanes=1)

        def add(place: str, value: str) -> None:
            total = ops.add(Element(frame.load_element(dtype, place), dtype), Element(value, dtype))
            frame.store_element(dtype, total.text, place)

        if in_register(v.type):
            add(address, self.register(v))
            return
        unit, size = byte_size(v.type)
        count = f.op(f"udiv i64 {frame.size(unit, size)}, {dtype.itemsize}")
        source = self.pointer(v)
        with f.loop("0", count) as loop:
            offset = f.mul(loop.index, str(dtype.itemsize))
            add(f.gep("i8", address, offset),
                frame.load_element(dtype, f.gep("i8", source, offset)))

    # -- control -------------------------------------------------------------------------------
    def _emit_call(self, frame: Frame, node: Apply) -> None:
        f = frame.f
        name, region, fails = self.host.function(node.attrs["graph"])
        blocks = self.inner_blocks[node] if region else {}
        given = [f"ptr {frame.dims}", "ptr %error",
                 *(f"ptr {self._at(frame, b)}" for b in blocks.values())]
        types = result_types(node)
        slots = [self.slot(x) for x in node.operands if not in_register(x.type)]
        slots += [self.slots[node, i] for i, t in enumerate(types) if not in_register(t)]
        if slots:
            numbers = [frame.addresses.entry(self.pointers.held[id(slot)]) for slot in slots]
            given += ["ptr %places", f"ptr {constants(f.module, 'i32', numbers)}"]
        given += [f"{register_type(x.type)} {self.register(x)}" for x in node.operands
                  if in_register(x.type)]
        cells = {i: frame.alloca("i64") for i, t in enumerate(types) if in_register(t)}
        given += [f"ptr {cell}" for cell in cells.values()]
        status = f.op(f"call i32 @{name}({', '.join(given)})")
        if fails:
            frame.fail_if(f.op(f"icmp ne i32 {status}, 0"))
        for i, cell in cells.items():
            self.registers[node, i] = frame.load_register(types[i], cell)

    def inside(self, frame: Frame, node: Apply, region: Region, inputs, targets) -> dict[int, str]:
        """Emit an inner region with its part of the arena."""
        bases = frame.bases
        frame.bases = {u: self._at(frame, b) for u, b in self.inner_blocks[node].items()}
        found = region.emit(frame, inputs, targets)
        frame.bases = bases
        return found

    def _emit_cond(self, frame: Frame, node: Apply) -> None:
        f, types = frame.f, result_types(node)
        inputs = self._inputs(node.operands[1:])
        targets = {i: self.pointers[id(self.slots[node, i])] for i, t in enumerate(types)
                   if not in_register(t)}
        labels = [f.label("then"), f.label("else")]
        done = f.label("join")
        f.branch_if(self.register(node.operands[0]), *labels)
        found, ends = [], []
        for label, region in zip(labels, self.inner[node], strict=True):
            f.start(label)
            found.append(self.inside(frame, node, region, inputs, targets))
            ends.append(f.block)
            f.branch(done)
        f.start(done)
        for i, t in enumerate(types):
            if in_register(t):
                ways = ", ".join(f"[ {v[i]}, %{b} ]" for v, b in zip(found, ends, strict=True))
                self.registers[node, i] = f.op(f"phi {register_type(t)} {ways}")

    def _emit_while(self, frame: Frame, node: Apply) -> None:
        test, body = self.inner[node]
        shared = None if body.swapped else rows.independent_counter(node)
        if shared is not None:
            rows.emit(self, frame, node, *shared)
            return
        f, types, n = frame.f, result_types(node), state_size(node)
        homes = {i: self.pointers[id(self.slots[node, i])] for i in range(n)
                 if not in_register(types[i])}
        for i, home in homes.items():
            self.settle(frame, node, i, home)
        spares = {i: self._at(frame, self.spares[node, i][1]) for i in body.swapped}
        first = [self.register(x) if in_register(x.type) else homes[i]
                 for i, x in enumerate(node.operands[:n])]
        rest = self._inputs(node.operands[n:])
        head, again, done = (f.label(f"while.{part}") for part in ("head", "body", "done"))
        stretches = None if spares else polling.Stretches.of(node)
        if stretches is not None:
            first = stretches.begin(self, frame, first, rest, types)
        before = f.block
        f.branch(head)
        f.start(head)
        state = [f.fresh("state") if in_register(types[i]) or i in spares else homes[i]
                 for i in range(n)]
        others = {i: f.fresh("other") for i in spares}
        hole = len(f.lines)
        f.lines.append("")
        if stretches is not None:
            stretches.branch(frame, node, state, again, done)
        else:
            more = self.inside(frame, node, test, [*state, *rest], {})[0]
            f.branch_if(more, again, done)
        f.start(again)
        targets = {i: others.get(i, home) for i, home in homes.items()}
        found = self.inside(frame, node, body, [*state, *rest], targets)
        if stretches is None:
            polling.count(frame, polling.cost(node.attrs["body"]))
        end = f.block
        f.branch(head)
        phis = []
        for i in range(n):
            if in_register(types[i]):
                phis.append((state[i], register_type(types[i]), first[i], found[i]))
            elif i in spares:
                phis.append((state[i], "ptr", homes[i], others[i]))
                phis.append((others[i], "ptr", spares[i], state[i]))
        f.lines[hole] = "\n".join(f"  {phi} = phi {ty} [ {start}, %{before} ], [ {new}, %{end} ]"
                                  for phi, ty, start, new in phis)
        if stretches is not None:
            stretches.end(frame, node, state, done)
        else:
            f.start(done)
        self.host.has_loops = True
        self._after_loop(frame, node, state, homes, spares)

    def _after_loop(self, frame: Frame, node: Apply, state, homes, spares) -> None:
        """The loop's results are its state; one that changes sides is where it is, or brought home
        where others look for it."""
        f = frame.f
        for i, type in enumerate(result_types(node)):
            if in_register(type):
                self.registers[node, i] = state[i]
                continue
            slot = self.slots[node, i]
            if i in spares and slot.block is not None:
                self.pointers[id(slot)] = state[i]
            elif i in spares:
                with f.when(f.op(f"icmp ne ptr {state[i]}, {homes[i]}")):
                    frame.copy(type, state[i], homes[i])


def _address(frame: Frame, block: Block) -> Address:
    """Where a block is; a size that the program finds is known in this place, not at the beginning
    of the function."""
    if block.unit.startswith("?"):
        return frame.f.gep("i8", frame.bases[block.unit], frame.size(block.unit, block.offset))
    return ("bytes", frame.bases[block.unit], block.unit, block.offset)
