"""A `yield` inside a larger expression: the statement as several, each with at most one `yield`.

    x = f(a, (yield b)) + (yield c)         t0 = f; t1 = a; t2 = yield b; t3 = t0(t1, t2)
                                            t4 = yield c; x = t3 + t4

What Python computes before a `yield` gets a name first, so the order is Python's; `and`, `or` and
`a if c else b` become `if` statements.
"""

from __future__ import annotations

import copy
from functools import partial

import gast

_YIELDS = (gast.Yield, gast.YieldFrom)
_FUNCTIONS = (gast.FunctionDef, gast.AsyncFunctionDef, gast.Lambda, gast.GeneratorExp)
_COMPREHENSIONS = (gast.ListComp, gast.SetComp, gast.DictComp)
_FIELDS = {gast.Expr: "value", gast.Assign: "value", gast.AnnAssign: "value", gast.Return: "value",
           gast.AugAssign: "value", gast.If: "test", gast.For: "iter", gast.Match: "subject",
           gast.Raise: "exc", gast.Assert: "test"}


_COMPUTED = (gast.expr, gast.keyword, gast.Slice)


class NotTaken(Exception):
    """This `yield` stands where its statement cannot be divided."""


def yields(node) -> bool:
    """Is there a `yield` in this statement (not in a function defined inside)?"""
    found = getattr(node, "_yields", None)
    if found is None:
        found = node._yields = isinstance(node, _YIELDS) or not isinstance(
            node, _FUNCTIONS) and any(map(yields, gast.iter_child_nodes(node)))
    return found


def divided(frame, node) -> list:
    """The statement as statements of which each is a `yield` or has none in its expressions."""
    found = getattr(node, "_divided", None)
    if found is None:
        found = node._divided = _Division(frame.source).statement(node)
    return found


class _Division:
    def __init__(self, source):
        self.source, self.statements = source, []

    def statement(self, node) -> list:
        field = _FIELDS.get(type(node))
        value = getattr(node, field) if field else None
        inside = ("body", "orelse", "cases")    # of what is run later
        if value is None or not yields(value) or any(
                yields(part) for name, child in gast.iter_fields(node)
                if name not in (field, *inside) for part in _nodes(child)):
            raise NotTaken
        if isinstance(node, gast.AugAssign):
            return self._augmented(node)
        if isinstance(value, _YIELDS) and type(node) in (
                gast.Expr, gast.Assign, gast.AnnAssign, gast.Return):
            value = _changed(value, value=self.expression(value.value))
        else:
            value = self.expression(value)
        return [*self.statements, _changed(node, **{field: value})]

    def _augmented(self, node) -> list:
        """`x += yield y`: x is read before."""
        if not isinstance(node.target, gast.Name):
            raise NotTaken
        read = self.named(_changed(node.target, ctx=gast.Load()))
        value = self.expression(node.value)
        self.statements.append(_changed(node, target=_changed(read, ctx=gast.Store()), value=value))
        return [*self.statements, _assignment(node.target, read)]

    def named(self, value):
        """A name for the value, as it is at this place."""
        name = f"$yield{value.lineno}.{value.col_offset}.{len(self.statements)}"
        self.source.locals.add(name)
        target = gast.copy_location(gast.Name(name, gast.Store(), None, None), value)
        self.statements.append(_assignment(target, value))
        return _changed(target, ctx=gast.Load())

    def expression(self, node):
        """The expression without a `yield`, behind the statements that this adds."""
        if node is None or not yields(node):
            return node
        if isinstance(node, _YIELDS):
            return self.named(_changed(node, value=self.expression(node.value)))
        if isinstance(node, gast.BoolOp):
            return self._boolean(node)
        if isinstance(node, gast.IfExp):
            return self._choice(node)
        if isinstance(node, _COMPREHENSIONS) or isinstance(node, gast.Compare) and any(
                map(yields, node.comparators[1:])):
            raise NotTaken
        return self._in_order(node)

    def _in_order(self, node):
        parts = list(_parts(node))
        last = max(i for i, (_, child) in enumerate(parts) if yields(child))
        new = _changed(node, **{name: list(child) for name, child in gast.iter_fields(node)
                                if isinstance(child, list)})
        for i, (put, child) in enumerate(parts[:last + 1]):
            put(new, self.expression(child) if i == last else self._kept(child))
        return new

    def _kept(self, node):
        """A part that is computed before a later `yield`."""
        if isinstance(node, gast.Constant):
            return node
        if isinstance(node, gast.Starred):
            all_of_it = gast.copy_location(gast.Tuple([_changed(
                node, value=self.expression(node.value))], gast.Load()), node)
            return _changed(node, value=self.named(all_of_it))
        if isinstance(node, (gast.keyword, gast.FormattedValue)):
            return _changed(node, value=self._kept(node.value))
        if isinstance(node, gast.Slice):
            raise NotTaken
        return self.named(self.expression(node))

    def _within(self, node, target) -> list:
        """Statements that give the target the value of the node."""
        outer, self.statements = self.statements, []
        value = self.expression(node)
        found = [*self.statements, _assignment(_changed(target, ctx=gast.Store()), value)]
        self.statements = outer
        return found

    def _choice(self, node):
        test = self.expression(node.test)
        target = self.named(gast.copy_location(gast.Constant(None, None), node))
        self.statements.append(gast.copy_location(gast.If(
            test, self._within(node.body, target), self._within(node.orelse, target)), node))
        return target

    def _boolean(self, node):
        target = self.named(self.expression(node.values[0]))
        for value in node.values[1:]:
            test = target if isinstance(node.op, gast.And) else gast.copy_location(
                gast.UnaryOp(gast.Not(), target), node)
            self.statements.append(gast.copy_location(gast.If(
                test, self._within(value, target), []), node))
        return target


def _assignment(target, value):
    return gast.copy_location(gast.Assign([target], value, None), value)


def _changed(node, **fields):
    """The node with other fields; what was noted on it is not true of that."""
    new = copy.copy(node)
    for name in [name for name in vars(new) if name.startswith("_") and name != "_depth"]:
        delattr(new, name)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _nodes(child) -> list:
    return [x for x in (child if isinstance(child, list) else [child]) if isinstance(x, gast.AST)]


def _parts(node):
    """The expressions in a node in the order in which they are computed, and how each is put."""
    if isinstance(node, gast.Dict):
        for i, (key, value) in enumerate(zip(node.keys, node.values, strict=True)):
            if key is not None:
                yield partial(_put_at, "keys", i), key
            yield partial(_put_at, "values", i), value
        return
    for name, child in gast.iter_fields(node):
        if isinstance(child, list):
            for i, part in enumerate(child):
                if isinstance(part, _COMPUTED):
                    yield partial(_put_at, name, i), part
        elif isinstance(child, _COMPUTED):
            yield partial(_put, name), child


def _put(name: str, node, value) -> None:
    setattr(node, name, value)


def _put_at(name: str, i: int, node, value) -> None:
    getattr(node, name)[i] = value
