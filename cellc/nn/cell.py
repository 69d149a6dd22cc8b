"""Cell: a part of a network, with parameters, child cells and a `construct` method.

    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.dense = nn.Dense(3, 4)

        def construct(self, x):
            return ops.relu(self.dense(x))

Calling a cell runs `construct`: compiled in graph mode, as ordinary Python in eager mode. Children
and Parameters are ordinary attributes; what the methods below list is found among the attributes,
in the order in which they were set. Setting any attribute raises the epoch (`cellc/epoch.py`), so
that compiled programs look again; reading is free.
"""

from __future__ import annotations

from collections import OrderedDict

from cellc import context, epoch
from cellc.errors import AttributeFault, KeyFault, TypeFault, ValueFault, caller
from cellc.ir.graph import current_builder
from cellc.parameter import DEFAULT_NAME, Parameter, ParameterTuple, check_names
from cellc.parser import hooks
from cellc.tensor import Tensor

_is_graph = context.is_graph
_OF_THIS_PROCESS = {"_cellc_compiled", "_cellc_front"}


class Cell:
    """The base of all cells.

    auto_prefix   whether the names of a child's Parameters get the child's attribute name in front
    training      set by `set_train`; Dropout and BatchNorm look at it

    Errors: AttributeFault for an attribute that was never set, or for a child set before
    `super().__init__()`; ValueFault where two Parameters of one tree would have one name.
    """

    def __init__(self, auto_prefix=True, flags=None):
        vars(self).update(flags or {}, _auto_prefix=bool(auto_prefix), training=False,
                          requires_grad=False, _recomputed=False)

    # -- calling -----------------------------------------------------------------------------------

    def construct(self, *args, **kwargs):
        """What the cell computes: every cell that is called defines it."""
        raise AttributeFault(f"{type(self).__name__} has no construct method",
                             "def construct(self, x): ...")

    def _cellc_aside(self, *args, **kwargs):
        if _is_graph() and current_builder() is None:
            from cellc import compile

            return compile.call(self, args, kwargs)
        try:
            if self.__dict__.get("_recomputed") or hasattr(type(self), "bprop"):
                return self._call_by_rule(args, kwargs)
            return self.construct(*args, **kwargs)
        except TypeError as error:
            if isinstance(error, TypeFault) or error.__traceback__.tb_next is not None:
                raise
            # raised while binding: before the first line of construct ran
            raise TypeFault(str(error).replace("construct()", f"{type(self).__name__}.construct()"),
                            "call it with the arguments construct takes") from None

    __call__ = _cellc_aside       # and machine code, once it was compiled: see kernels/front.py

    def _call_by_rule(self, args, kwargs):
        """A call in eager mode of a cell whose gradient is its own."""
        from cellc.ops import custom

        if current_builder() is not None:
            return self.construct(*args, **kwargs)
        if hasattr(type(self), "bprop"):
            return custom.with_bprop(self, args, kwargs)
        return custom.recomputing(self.construct, args, kwargs)

    # -- attributes --------------------------------------------------------------------------------

    def __setattr__(self, name, value):
        epoch.bump()
        held = self.__dict__.get(name)
        if isinstance(value, Parameter):
            self._set_parameter(name, value)
        elif isinstance(value, Cell):
            self._set_cell(name, value)
        elif isinstance(held, Parameter) and isinstance(value, (Tensor, int, float)):
            held.set_data(value)
        elif isinstance(value, ParameterTuple):
            self._checked(name, value)
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name):
        epoch.bump()
        if name not in self.__dict__:
            raise AttributeFault(f"{type(self).__name__} has no attribute {name}")
        object.__delattr__(self, name)

    def __getattr__(self, name):
        # reached only where the attribute is not there
        raise AttributeFault(f"{type(self).__name__} has no attribute {name}",
                             f"set self.{name} in __init__")

    def _set_parameter(self, name: str, value: Parameter) -> None:
        before = value.name
        if value.name == DEFAULT_NAME:
            value.name = name
        try:
            self._checked(name, value)
        except ValueFault:
            value.name = before
            raise

    def _set_cell(self, name: str, value: Cell) -> None:
        if "training" not in self.__dict__:
            raise AttributeFault(f"{type(self).__name__} sets the cell {name} before "
                                 "super().__init__()", "call super().__init__() first").at(caller())
        before = [(p, p.name) for p in value.get_parameters()]
        if self._auto_prefix:
            value.update_parameters_name(f"{name}.")
        try:
            self._checked(name, value)
        except ValueFault:
            for parameter, old in before:
                parameter.name = old
            raise

    def _checked(self, name: str, value) -> None:
        """Set the attribute, but not where that gives two Parameters one name."""
        if "training" not in self.__dict__:
            raise AttributeFault(f"{type(self).__name__} sets {name} before super().__init__()",
                                 "call super().__init__() first").at(caller())
        missing = object()
        before = self.__dict__.get(name, missing)
        object.__setattr__(self, name, value)
        try:
            check_names(self.parameters_and_names())
        except ValueFault as fault:
            if before is missing:
                object.__delattr__(self, name)
            else:
                object.__setattr__(self, name, before)
            raise fault.at(caller()) from None

    def __getstate__(self):
        return {key: value for key, value in self.__dict__.items() if key not in _OF_THIS_PROCESS}

    # -- cells -------------------------------------------------------------------------------------

    def name_cells(self) -> OrderedDict:
        """The children by attribute name, each once."""
        found, seen = OrderedDict(), set()
        for name, value in self.__dict__.items():
            if isinstance(value, Cell) and id(value) not in seen:
                seen.add(id(value))
                found[name] = value
        return found

    def cells(self):
        """The children, each once."""
        return self.name_cells().values()

    def cells_and_names(self, cells=None, name_prefix=""):
        """(path, cell) for this cell (path "") and all below it, each once, parents first."""
        cells = set() if cells is None else cells
        if id(self) in cells:
            return
        cells.add(id(self))
        yield name_prefix, self
        for name, child in self.name_cells().items():
            path = f"{name_prefix}.{name}" if name_prefix else name
            yield from child.cells_and_names(cells, path)

    def insert_child_to_cell(self, child_name, child_cell):
        """Add a child by name, as setting the attribute does.

        Errors: KeyFault for a name that is empty or taken; TypeFault for what is no Cell or no str.
        """
        self._check_new(child_name, child_cell, Cell)
        setattr(self, child_name, child_cell)

    def insert_param_to_cell(self, param_name, param, check_name_contain_dot=True):
        """Add a Parameter by name, as setting the attribute does."""
        if check_name_contain_dot and "." in str(param_name):
            raise KeyFault(f"the name {param_name!r} has a dot in it")
        self._check_new(param_name, param, Parameter)
        setattr(self, param_name, param)

    def _check_new(self, name, value, kind) -> None:
        if not isinstance(name, str):
            raise TypeFault(f"found the name {name!r}, expected a str")
        if not name:
            raise KeyFault("found an empty name")
        if not isinstance(value, kind):
            raise TypeFault(f"found {type(value).__name__} for {name}, expected a {kind.__name__}")
        if name in self.__dict__:
            raise KeyFault(f"{type(self).__name__} has an attribute {name} already")

    def apply(self, fn):
        """Call `fn` on every cell below and then on this one; returns self."""
        for child in self.cells():
            child.apply(fn)
        fn(self)
        return self

    # -- parameters --------------------------------------------------------------------------------

    def _own_parameters(self):
        for name, value in self.__dict__.items():
            if isinstance(value, Parameter):
                yield name, value
            elif isinstance(value, ParameterTuple):
                for parameter in value:
                    yield parameter.name, parameter

    def parameters_and_names(self, name_prefix="", expand=True):
        """(path, Parameter) for all Parameters here and (with `expand`) below, each once."""
        seen = set()
        cells = self.cells_and_names(name_prefix=name_prefix) if expand else [(name_prefix, self)]
        for path, cell in cells:
            for name, parameter in cell._own_parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield (f"{path}.{name}" if path else name), parameter

    def get_parameters(self, expand=True):
        """All Parameters here and (with `expand`) below, each once."""
        for _, parameter in self.parameters_and_names(expand=expand):
            yield parameter

    def trainable_params(self, recurse=True) -> list:
        """The Parameters that require a gradient."""
        return [p for p in self.get_parameters(recurse) if p.requires_grad]

    def untrainable_params(self, recurse=True) -> list:
        """The Parameters that do not."""
        return [p for p in self.get_parameters(recurse) if not p.requires_grad]

    def parameters_dict(self, recurse=True) -> OrderedDict:
        """The Parameters by name."""
        return OrderedDict((p.name, p) for p in self.get_parameters(recurse))

    def update_parameters_name(self, prefix="", recurse=True):
        """Name every Parameter by its path in this cell, with a prefix."""
        if not isinstance(prefix, str):
            raise TypeFault(f"found the prefix {prefix!r}, expected a str")
        for path, parameter in list(self.parameters_and_names(expand=recurse)):
            parameter.name = prefix + path

    def register_buffer(self, name, tensor):
        """A tensor that belongs to the cell and is saved with it, but is not trained."""
        setattr(self, name, None if tensor is None else Parameter(tensor, name, False))

    # -- flags -------------------------------------------------------------------------------------

    def set_train(self, mode=True):
        """Training (or inference) for this cell and all below; returns self."""
        for _, cell in self.cells_and_names():
            cell.training = bool(mode)
        return self

    def set_grad(self, requires_grad=True):
        """Say that this cell's gradient will be taken (a note to the reader); returns self."""
        self.requires_grad = bool(requires_grad)
        return self

    def recompute(self, mode=True):
        """Compute this cell again in the backward pass, where only its arguments are kept, in place
        of what it computes on the way; returns self."""
        self._recomputed = bool(mode)
        return self

    # -- printing ----------------------------------------------------------------------------------

    def extend_repr(self) -> str:
        """What a subclass shows of itself in the tree."""
        return ""

    def __repr__(self):
        extra, children = self.extend_repr(), self.name_cells()
        if not children:
            return f"{type(self).__name__}({extra})"
        lines = [extra] if extra else []
        lines += [f"({name}): {child!r}" for name, child in children.items()]
        body = "\n".join(lines).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {body}\n)"


hooks.register_cell(Cell)
