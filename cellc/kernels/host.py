"""host: the fused graph as one LLVM function that calls its kernels in order.

    i32 program(ptr args, ptr outs, ptr dims, ptr arena, ptr error)

Arrays live where they are wanted (`places.py`): a result straight in the caller's buffer, a
parameter's new value in the parameter where nobody still needs the old one, everything else at a
planned offset of the arena. `region.py` writes the instructions. What can fail (an index out of
range) leaves its record in `error`, and the program returns 1 at once; what updates parameters in
place therefore runs last.

    i32 graph.N(ptr dims, ptr error, ptr base..., ptr given, ptr table, number..., ptr number...)

Functions of called graphs take one arena pointer for each unit (bytes, then bytes for each symbolic
dimension); in `given` the addresses of arrays, of which `table` lists those they are to read and to
write, in order (`addresses.py`); numbers in registers, and places for those they return. A graph
that calls itself is called to a depth that only the data know: its function takes an arena of its
own at each call, and checks how much of the stack is left.

The kernels are emitted before anything else, so that they are compiled while the host function is
written.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from cellc.ir.graph import Apply, Graph, Node, calling_themselves, subgraphs
from cellc.ir.types import Dim, TensorType, TupleType
from cellc.kernels import polling
from cellc.kernels.addresses import Addresses
from cellc.kernels.effects import may_end
from cellc.kernels.frame import Frame, register_type
from cellc.kernels.interrupts import CALLS
from cellc.kernels.places import in_register, needs_kernel
from cellc.kernels.program import ERROR_DEPTH, ERROR_MEMORY, LIMIT, Program, Unit
from cellc.kernels.region import Region
from cellc.kernels.structure import structure
from cellc.kernels.target import stack_bytes
from cellc.kernels.text import Function, Module

SIGNATURE = [("ptr", "args"), ("ptr", "outs"), ("ptr", "dims"), ("ptr", "arena"), ("ptr", "error")]


class Host:
    """Emits one program. `emit_group` (kernels/group.py) makes a kernel, and `written` is told the
    text of each, and the level of code generation it needs, as soon as it is there, so that it can
    be compiled meanwhile."""

    def __init__(self, emit_group: Callable, symbols: tuple[str, ...], target,
                 written: Callable[[str, int], object]):
        self.module = Module("program", target.features)
        self.emit_group, self.symbols, self.target = emit_group, symbols, target
        self.written = written
        self.units = ("", *symbols)
        self.kernels: dict[tuple, Unit] = {}
        self.unit_of: dict[Node, Unit] = {}
        self.functions: dict[int, tuple[Graph, str, Region | None, bool]] = {}
        self.sites: list = []
        self.flops = self.bytes = 0.0
        self.has_loops = self.has_tapes = False
        self._numbers = itertools.count()
        self.themselves: set[int] = set()

    def program(self, graph: Graph, name: str, in_place: dict[int, int]) -> Program:
        """Emit `graph`; result r of `in_place` goes to the buffer of input in_place[r] instead of
        a buffer in `outs`, where the remaining results go in order."""
        graph = _updates_last(graph, set(in_place))
        self._write_kernels(graph, set())
        self.themselves = calling_themselves(graph.reachable())
        outs = [i for i in range(len(graph.results)) if i not in in_place]
        sized = {r: unit for r in outs if (unit := found_unit(graph.results[r].type)) is not None}
        region = Region(self, graph, in_place, sized=sized,
                        written_after=_last_ending(graph) if in_place else -1)
        f = Function(self.module, "i32", name, SIGNATURE)
        frame = Frame(f, self.symbols)
        frame.bases = self._split_arena(f, region.totals, "%arena")
        if self.themselves:
            self._set_limit(f)
        frame.addresses = Addresses(frame, {"%args": len(graph.inputs), "%outs": len(outs)})
        inputs = [frame.argument(i, x.type) for i, x in enumerate(graph.inputs)]
        targets = {r: ("word", "%args", i) for r, i in in_place.items()}
        targets |= {r: ("word", "%outs", k) for k, r in enumerate(outs)}
        self._finish(frame, region, inputs, targets)
        unbounded = self.has_loops or bool(self.themselves)
        return Program(name, self.symbols, {u: region.totals.get(u, 0) for u in self.units},
                       self.flops, self.bytes, self.module.text(), list(self.kernels.values()),
                       self.sites, optimise=2 if unbounded else 0, unbounded=unbounded,
                       found=sum(s.startswith("?") for s in self.symbols))

    def function(self, graph: Graph) -> tuple[str, Region | None, bool]:
        """The name of a called graph's function, emitted at the first call, its plan, and whether
        it can fail; None for the plan where it takes its own arena."""
        if id(graph) not in self.functions:
            name = f"graph.{len(self.functions)}"
            own_arena = id(graph) in self.themselves
            self.functions[id(graph)] = (graph, name, None, True)
            region = Region(self, graph, {})
            bases = {} if own_arena else {u: f"base{i}" for i, u in enumerate(self.units)}
            f = Function(self.module, "i32", name, [
                ("ptr", "dims"), ("ptr", "error"), *(("ptr", b) for b in bases.values()),
                *_parameters(graph)], linkage="define internal")
            frame = Frame(f, self.symbols)
            inputs, targets = _received(f, graph)
            if own_arena:
                self.take_arena(frame, region.totals)      # first: whatever fails gives it back
                self._check_limit(frame)
                polling.count(frame, polling.SHORT, f.gep("i64", "%error", str(CALLS)))
            else:
                frame.bases = {u: f"%{b}" for u, b in bases.items()}
            if region.found:
                frame.own_dims()
            frame.addresses = Addresses(frame, {}, [*inputs, *targets.values()])
            self._finish(frame, region, inputs, targets)
            self.functions[id(graph)] = (graph, name, None if own_arena else region, frame.fails)
        return self.functions[id(graph)][1:]

    def fresh_number(self) -> int:
        """For the name of a function."""
        return next(self._numbers)

    def _finish(self, frame: Frame, region: Region, inputs: list[str], targets) -> None:
        """The body of a function: everything in the region, then the results in registers."""
        for r, value in region.emit(frame, inputs, targets).items():
            frame.store_register(region.graph.results[r].type, value, frame.register(targets[r]))
        frame.drops_tapes = frame.f.name == "program" and self.has_tapes
        frame.close()

    def _write_kernels(self, graph: Graph, done: set[Graph]) -> None:
        """The kernels of a graph and of those it runs, each once."""
        done.add(graph)
        for node in graph.body:
            if needs_kernel(node) and node not in self.unit_of:
                self.unit_of[node] = self._written_once(node)
            elif node.prim.name in ("call", "cond", "while"):
                for inner in subgraphs(node).values():
                    if inner not in done:
                        self._write_kernels(inner, done)

    def _written_once(self, node: Apply) -> Unit:
        """The kernel of a group; groups of one structure share one."""
        key = structure(node)
        if key not in self.kernels:
            module = Module("kernel", self.target.features)
            kernel = self.emit_group(module, "kernel", node, self.target, self.symbols)
            text = module.text()
            self.kernels[key] = Unit(f"kernel.{len(self.kernels)}", kernel, text,
                                     self.written(text, kernel.codegen))
        return self.kernels[key]

    def kernel(self, node: Apply) -> Unit:
        """The kernel of a group, once more."""
        unit = self.unit_of[node]
        self.flops += unit.kernel.flops
        self.bytes += unit.kernel.bytes
        return unit

    def _split_arena(self, f: Function, totals: dict[str, int], arena: str) -> dict[str, str]:
        bases, offset = {}, "0"
        for unit in self.units:
            bases[unit] = f.gep("i8", arena, offset)
            offset = f.add(offset, self._unit_size(f, totals, unit))
        return bases

    def _unit_size(self, f: Function, totals: dict[str, int], unit: str) -> str:
        size = str(totals.get(unit, 0))
        if not unit:
            return size
        return f.mul(size, f.load("i64", f.gep("i64", "%dims", str(self.symbols.index(unit)))))

    # -- graphs that call themselves -------------------------------------------------------------
    def _set_limit(self, f: Function) -> None:
        """Note how far the stack may grow."""
        here = f.call("ptr", "llvm.frameaddress.p0", ("i32", "0"))
        lowest = f.op(f"getelementptr i8, ptr {here}, i64 -{stack_bytes()}")
        f.store("ptr", lowest, f.gep("i64", "%error", str(LIMIT)))

    def _check_limit(self, frame: Frame) -> None:
        f = frame.f
        here = f.call("ptr", "llvm.frameaddress.p0", ("i32", "0"))
        lowest = f.load("ptr", f.gep("i64", "%error", str(LIMIT)))
        with frame.failing(f.op(f"icmp ult ptr {here}, {lowest}")):
            f.store("i64", str(ERROR_DEPTH), "%error")

    def take_arena(self, frame: Frame, totals: dict[str, int]) -> None:
        f, size = frame.f, "0"
        for unit in self.units:
            size = f.add(size, self._unit_size(f, totals, unit))
        arena = "null"
        if size != "0":
            arena = f.call("ptr", "cellc_alloc", ("i64", size))
            with frame.failing(f.op(f"icmp eq ptr {arena}, null")):
                f.store("i64", str(ERROR_MEMORY), "%error")
            frame.owned.append(arena)
        frame.bases = self._split_arena(f, totals, arena)


def found_unit(type) -> str | None:
    """The size of an array that the program itself finds, where it is one."""
    if not isinstance(type, TensorType):
        return None
    return next((n.name for n in type.shape if isinstance(n, Dim) and n.is_found), None)


def _parameters(graph: Graph) -> list[tuple[str, str]]:
    """What the function of a graph takes behind the bases."""
    values = [*graph.inputs, *graph.results]
    tables = [] if all(in_register(x.type) for x in values) else [("ptr", "given"),
                                                                  ("ptr", "table")]
    return [*tables,
            *((register_type(x.type), f"x{i}") for i, x in enumerate(graph.inputs)
              if in_register(x.type)),
            *(("ptr", f"r{i}") for i, r in enumerate(graph.results) if in_register(r.type))]


def _received(f: Function, graph: Graph) -> tuple[list[str], dict[int, str]]:
    """The registers and addresses of the inputs, and the addresses of the results."""
    numbers = itertools.count()

    def array() -> str:
        at = f.load("i32", f.gep("i32", "%table", str(next(numbers))))
        return f.load("ptr", f.op(f"getelementptr ptr, ptr %given, i32 {at}", "p"))

    inputs = [f"%x{i}" if in_register(x.type) else array() for i, x in enumerate(graph.inputs)]
    return inputs, {i: f"%r{i}" if in_register(r.type) else array()
                    for i, r in enumerate(graph.results)}


def _last_ending(graph: Graph) -> int:
    """The position of the last apply that can end the program; -1 where none can."""
    return max((i for i, node in enumerate(graph.body) if may_end(node)), default=-1)


def _updates_last(graph: Graph, updated: set[int]) -> Graph:
    """Where something can end the program, the applies that only make results listed in `updated`,
    and what only these need, go last."""
    if not updated or _last_ending(graph) < 0:
        return graph
    states = {x for r, x in enumerate(graph.results) if r in updated}
    kept = {x for r, x in enumerate(graph.results) if r not in updated}
    users: dict[Node, list[Apply]] = {}
    for node in graph.body:
        for x in node.operands:
            users.setdefault(x, []).append(node)

    def only_state(x: Node) -> bool:
        return x not in kept and all(u in late or u is graph.result and x in states
                                     for u in users.get(x, ()))

    late: set[Node] = set()
    for node in reversed(graph.body):
        items = users.get(node, ()) if isinstance(node.type, TupleType) else (node,)
        if node.prim.name == "fused" and all(map(only_state, items)):
            late.update((node, *items))
    order = sorted(graph.body, key=lambda node: (node is graph.result, node in late))
    return Graph(graph.name, graph.inputs, order, graph.result)
