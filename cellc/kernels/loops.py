"""The loop form of a kernel: what is read, computed and written for each point of a loop nest.

A `Nest` has row axes and reduced axes. For each row it makes one or more *sweeps* over the reduced
axes (or one without any); a value that depends on a reduction belongs to a later sweep than the
reduction. Values are Loads, ScalarOps, Indices, Literals and Reductions; results are Stores.
Nothing here knows of a target: the order of loops, vectors and threads are a `Schedule`.

    rows i:4096; sweeps over j:768
      sweep 0:
        %0 = x[768*i + j]
        %1 = max over j of %0
      sweep 1:
        %2 = sub(%0, %1)
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cellc.errors import SymbolicFault
from cellc.ir.types import DType
from cellc.kernels.views import Affine, Axis
from cellc.record import record

# What an operation costs, in vector instructions; what is not listed costs one.
COST = {
    "div": 8, "sqrt": 8, "rsqrt": 10, "exp": 16, "expm1": 22, "log": 24, "log1p": 28, "tanh": 28,
    "logistic": 26, "erf": 34, "erfc": 60, "erfinv": 60, "sin": 24, "cos": 24, "tan": 34,
    "asin": 30, "acos": 30, "atan": 30, "atan2": 40, "sinh": 30, "cosh": 30,
    "asinh": 40, "acosh": 40, "atanh": 40, "pow": 60, "lgamma": 150, "digamma": 120,
    "polygamma": 200, "random_bits": 200, "floordiv": 12, "mod": 14,
}
EXPENSIVE = 8               # an operation of this cost is not done twice where a load would do


@record(eq=False)
class Buffer:
    """A dense array the kernel is given: its place in the context, element type and count."""

    name: str
    slot: int
    dtype: DType
    size: object
    scalar: bool = False         # 8 bytes holding one of Python's own numbers
    offset: int = 0              # bytes into the scratch memory


@record(frozen=True)
class Guard:
    """The condition 0 <= place < extent."""

    place: Affine
    extent: object

    @property
    def key(self) -> tuple:
        return self.place.key(), self.extent

    def stretch(self, axis: Axis) -> tuple[int, int] | None:
        """[low, high) of an axis that counts up in it, where it holds wherever the other axes are;
        None where that depends on sizes unknown."""
        step, others = self.place.coef(axis), dict(self.place.terms)
        known = isinstance(step, int) and isinstance(self.extent, int)
        if not known or step <= 0 or not isinstance(self.place.const, int):
            return None
        del others[axis]
        try:
            least, most = Affine(self.place.const, others).bounds()
        except SymbolicFault:
            return None
        return -(least // step), -((most - self.extent) // step)

    def __str__(self) -> str:
        return f"0 <= {self.place} < {self.extent}"


@record(eq=False)
class Value:
    """One element for each point of its `axes`. `sweep`: the first in which it is known."""

    dtype: DType

    def operands(self) -> tuple[Value, ...]:
        return ()

    def affines(self) -> Iterable[Affine]:
        return ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def __post_init__(self) -> None:
        axes = {a for expression in self.affines() for a in expression.terms}
        for x in self.operands():
            axes |= x.axes
        self.axes = frozenset(axes)
        self.sweep = max((x.sweep for x in self.operands()), default=0)


@record(eq=False)
class Literal(Value):
    value: object

    def __str__(self) -> str:
        return f"{self.value}:{self.dtype}"


@record(eq=False)
class Index(Value):
    """An affine expression of the loop axes as a number."""

    place: Affine

    def affines(self):
        return (self.place,)

    def __str__(self) -> str:
        return f"index {self.place}"


@record(eq=False)
class Inside(Value):
    """Whether all guards hold."""

    guards: tuple[Guard, ...]

    def affines(self):
        return (g.place for g in self.guards)

    def __str__(self) -> str:
        return "inside " + " and ".join(map(str, self.guards))


@record(eq=False)
class Load(Value):
    """An element of a buffer; where a guard fails, nothing is read and the value is arbitrary.

    `dynamic` adds value * stride elements to the address (an index read from memory, checked).
    """

    buffer: Buffer
    place: Affine
    guards: tuple[Guard, ...] = ()
    dynamic: tuple[Value, object] | None = None

    def operands(self):
        return (self.dynamic[0],) if self.dynamic else ()

    def affines(self):
        return (self.place, *(g.place for g in self.guards))

    def __str__(self) -> str:
        extra = f" + %*{self.dynamic[1]}" if self.dynamic else ""
        where = " if " + " and ".join(map(str, self.guards)) if self.guards else ""
        return f"{self.buffer.name}[{self.place}{extra}]{where}"


@record(eq=False)
class ScalarOp(Value):
    """An operation on elements: `make(b, *elements)` builds it from a back end's operations."""

    name: str
    make: Callable
    inputs: tuple[Value, ...]

    def operands(self):
        return self.inputs

    @property
    def cost(self) -> int:
        return COST.get(self.name, 1)

    def __str__(self) -> str:
        return self.name


@record(eq=False)
class Checked(Value):
    """An index from memory, clamped into 0 .. extent-1; outside, an error record is left."""

    index: Value
    extent: object
    site: int
    guards: tuple[Guard, ...] = ()

    def operands(self):
        return (self.index,)

    def affines(self):
        return (g.place for g in self.guards)

    def __str__(self) -> str:
        return f"checked < {self.extent}"


@record(eq=False)
class Reduction(Value):
    """The combination of `operand` over the reduced axes; `position` for argmax and argmin."""

    op: str                              # add mul max min bit_and bit_or argmax argmin
    operand: Value
    neutral: object
    over: tuple[Axis, ...]
    position: Affine | None = None

    def operands(self):
        return (self.operand,)

    def __post_init__(self) -> None:
        self.axes = self.operand.axes - frozenset(self.over)
        self.sweep = self.operand.sweep + 1

    def __str__(self) -> str:
        return f"{self.op} over {','.join(map(str, self.over))}"


@record(eq=False)
class Store:
    """Write (or add) a value to a buffer, where all guards hold. A `total` is the sum over the row
    axes that `place` does not have: see `totals`."""

    buffer: Buffer
    place: Affine
    value: Value
    guards: tuple[Guard, ...] = ()
    dynamic: tuple[Value, object] | None = None
    add: bool = False
    total: bool = False

    @property
    def sweep(self) -> int:
        return max(self.value.sweep, self.dynamic[0].sweep if self.dynamic else 0)

    @property
    def axes(self) -> frozenset:
        axes = self.value.axes | frozenset(self.place.terms)
        for guard in self.guards:
            axes |= frozenset(guard.place.terms)
        return axes | self.dynamic[0].axes if self.dynamic else axes

    def __str__(self) -> str:
        extra = f" + %*{self.dynamic[1]}" if self.dynamic else ""
        where = " if " + " and ".join(map(str, self.guards)) if self.guards else ""
        how = "+=" if self.add or self.total else "="
        return f"{self.buffer.name}[{self.place}{extra}] {how}{where}"


@record(eq=False)
class Nest:
    """Row axes, reduced axes (both outermost first) and what is stored."""

    rows: list[Axis]
    reduced: list[Axis]
    stores: list[Store]

    def values(self) -> list[Value]:
        """All values, operands first."""
        found: dict[Value, None] = {}

        def visit(value: Value) -> None:
            if value in found:
                return
            for x in value.operands():
                visit(x)
            found[value] = None

        for store in self.stores:
            visit(store.value)
            if store.dynamic:
                visit(store.dynamic[0])
        return list(found)

    def full(self, value) -> bool:
        """Whether a value (or store) changes along the reduced axes."""
        return not value.axes.isdisjoint(self.reduced)

    @property
    def sweeps(self) -> int:
        """How often each row is walked; 1 where nothing is reduced."""
        last = [v.sweep for v in self.values() if isinstance(v, Reduction)]
        last += [s.sweep + 1 for s in self.stores if self.full(s)]
        return max(last, default=1)

    def __str__(self) -> str:
        names = {v: f"%{i}" for i, v in enumerate(self.values())}
        lines = [f"rows {_axes(self.rows)}"
                 + (f"; sweeps over {_axes(self.reduced)}" if self.reduced else "")]

        def told(v) -> str:
            inside = v.operands() if isinstance(v, Value) else (v.value,)
            text = ", ".join(names[x] for x in inside)
            return f"{v}({text})" if isinstance(v, ScalarOp) else f"{v} {text}".rstrip()

        everything = [*self.values(), *self.stores]
        for sweep in range(max(v.sweep for v in everything) + 1):
            lines.append(f"  sweep {sweep}:")
            for v in everything:
                at = v.sweep - 1 if isinstance(v, Reduction) else v.sweep
                if at == sweep:
                    lines.append(f"    {names[v]} = {told(v)}" if v in names else f"    {told(v)}")
        return "\n".join(lines)


def _axes(axes: list[Axis]) -> str:
    return " ".join(f"{a}:{a.extent}" for a in axes)
