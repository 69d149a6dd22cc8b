"""Cells in order and cells by name."""

from __future__ import annotations

from collections import OrderedDict

from cellc.errors import IndexFault, KeyFault, TypeFault, ValueFault
from cellc.nn.cell import Cell


class _Ordered(Cell):
    """Children named "0", "1", ...; indexing, iteration and change as a list has them."""

    def __init__(self, *args, **kwargs):
        super().__init__(**kwargs)
        if len(args) == 1 and isinstance(args[0], dict):
            for name, cell in args[0].items():
                self.insert_child_to_cell(name, cell)
            return
        if len(args) == 1 and isinstance(args[0], (list, tuple)):
            args = args[0]
        self.extend(args)

    def _items(self) -> list:
        return [(name, value) for name, value in self.__dict__.items() if isinstance(value, Cell)]

    def __len__(self):
        return len(self._items())

    def __iter__(self):
        return iter([cell for _, cell in self._items()])

    def __getitem__(self, index):
        items = self._items()
        if isinstance(index, slice):
            chosen = items[index]
            return type(self)(OrderedDict(chosen)) if self._named() else type(self)(
                [cell for _, cell in chosen])
        return items[self._at(index)][1]

    def _named(self) -> bool:
        return any(name != str(i) for i, (name, _) in enumerate(self._items()))

    def _at(self, index) -> int:
        n = len(self)
        if isinstance(index, bool) or not isinstance(index, int):
            raise TypeFault(f"found the index {index!r}, expected an int")
        if not -n <= index < n:
            raise IndexFault(f"index {index} of {n} cells")
        return index % n

    def __setitem__(self, index, cell):
        setattr(self, self._items()[self._at(index)][0], _checked(cell))

    def __delitem__(self, index):
        kept = self._items()
        del kept[index if isinstance(index, slice) else self._at(index)]
        self._rebuild([cell for _, cell in kept])

    def _rebuild(self, cells: list) -> None:
        for name, _ in self._items():
            delattr(self, name)
        for i, cell in enumerate(cells):
            setattr(self, str(i), cell)

    def append(self, cell):
        """Add a cell at the end; returns self."""
        setattr(self, str(len(self)), _checked(cell))
        return self

    def extend(self, cells):
        """Add cells at the end; returns self."""
        for cell in list(map(_checked, cells)):
            self.append(cell)
        return self

    def insert(self, index, cell):
        """Add a cell before the one at `index`."""
        cells = list(self)
        cells.insert(index, _checked(cell))
        self._rebuild(cells)


def _checked(cell) -> Cell:
    if not isinstance(cell, Cell):
        raise TypeFault(f"found {type(cell).__name__} among cells")
    return cell


class SequentialCell(_Ordered):
    """Cells called one after another: SequentialCell(a, b), ([a, b]) or (OrderedDict(...))."""

    def construct(self, x):
        for cell in self:
            x = cell(x)
        return x


class CellList(_Ordered):
    """Cells in a list: CellList([a, b]). `for` over it, or index it; it is not called itself."""


class CellDict(Cell):
    """Cells by name: CellDict({"a": cell})."""

    def __init__(self, cells=None, **kwargs):
        super().__init__(**kwargs)
        self.update(cells or {})

    def update(self, cells):
        """Set cells from a dict, a CellDict or pairs."""
        pairs = cells.items() if hasattr(cells, "items") else cells
        for name, cell in pairs:
            self[name] = cell

    def __setitem__(self, name, cell):
        if not isinstance(name, str) or not name:
            raise TypeFault(f"found the key {name!r}, expected a nonempty str")
        if hasattr(type(self), name):
            raise ValueFault(f"the key {name!r} is the name of a method")
        setattr(self, name, _checked(cell))

    def __getitem__(self, name):
        if name not in self.name_cells():
            raise KeyFault(f"no cell {name!r}", f"one of {', '.join(self.keys())}")
        return self.name_cells()[name]

    def __delitem__(self, name):
        self[name]
        delattr(self, name)

    def __len__(self):
        return len(self.name_cells())

    def __iter__(self):
        return iter(self.keys())

    def __contains__(self, name):
        return name in self.name_cells()

    def keys(self):
        """The names, in order."""
        return list(self.name_cells())

    def values(self):
        """The cells, in order."""
        return list(self.name_cells().values())

    def items(self):
        """(name, cell) pairs, in order."""
        return list(self.name_cells().items())

    def pop(self, name):
        """Remove a cell and return it."""
        cell = self[name]
        delattr(self, name)
        return cell

    def clear(self):
        """Remove all cells."""
        for name in self.keys():
            delattr(self, name)
