"""Simple statements: assignment in all forms, definitions, assert, raise, del, import."""

from __future__ import annotations

import gast

from cellc.errors import AssertionFault, CellcError, SyntaxFault, TypeFault, ValueFault
from cellc.ir.graph import Apply, scalar
from cellc.parser import attributes, changes, control, hooks, operators
from cellc.parser.exceptions import ends_branch, handled
from cellc.parser.frame import UserRaise
from cellc.parser.guards import is_steady
from cellc.parser.source import analyse
from cellc.parser.syntax import executors, refusal
from cellc.parser.text import Failed, Raised, Text, check
from cellc.parser.values import Closure, describe

# -- assignment ------------------------------------------------------------------------------------


@executors.handles(gast.Assign)
def run_assign(frame, node, rest) -> None:
    value = frame.eval(node.value)
    for target in node.targets:
        assign(frame, target, value, node)


@executors.handles(gast.AnnAssign)
def run_annotated(frame, node, rest) -> None:
    if node.value is not None:
        assign(frame, node.target, frame.eval(node.value), node)


def assign(frame, target, value, node) -> None:
    """Bind a target: a name, a tuple of targets, an attribute or an item."""
    kind = type(target)
    if kind is gast.Name:
        if type(value) is Apply and not value.name:
            value.name = target.id
        frame.store(target.id, value, node)
    elif kind in (gast.Tuple, gast.List):
        unpack(frame, target, value, node)
    elif kind is gast.Attribute:
        frame.here(target)
        owner = frame.eval(target.value)
        attributes.store(frame.session, owner, mangled(frame, target.attr), value)
    elif kind is gast.Subscript:
        assign_item(frame, target, value, node)
    else:
        raise refusal(target).at(frame.loc(target))


def unpack(frame, target, value, node) -> None:
    """`a, *b, c = value`."""
    if not isinstance(value, (tuple, list, str, range, dict)) and not isinstance(
            value, hooks.traced) and not hasattr(value, "__iter__"):
        raise TypeFault(f"found {describe(value)} where {len(target.elts)} values are unpacked")
    items = control.items_of(frame.session, value)
    starred = [i for i, part in enumerate(target.elts) if type(part) is gast.Starred]
    n = len(target.elts)
    if len(items) != n if not starred else len(items) < n - 1:
        wanted = f"at least {n - 1}" if starred else n
        fault = ValueFault(f"found {len(items)} values to unpack, expected {wanted}")
        few = len(items) < (n - 1 if starred else n)
        fault.python = ValueError(f"not enough values to unpack (expected {wanted}, got "
                                  f"{len(items)})" if few else f"too many values to unpack "
                                  f"(expected {wanted})")
        raise fault
    if starred:
        i = starred[0]
        end = len(items) - (n - 1 - i)
        middle = frame.session.owned.add(items[i:end])
        items = [*items[:i], middle, *items[end:]]
    for part, item in zip(target.elts, items, strict=True):
        assign(frame, part.value if type(part) is gast.Starred else part, item, node)


def assign_item(frame, target, value, node) -> None:
    """`container[index] = value`; a tensor gets a new value, under every name it has."""
    container = frame.eval(target.value)
    index = frame.eval(target.slice)
    frame.here(node)
    if isinstance(container, hooks.traced):
        replace_tensor(frame, target.value, container,
                       hooks.setitem(frame.session.lift(container), index, value), target)
    else:
        attributes.store_item(frame.session, container, index, value)


def replace_tensor(frame, place, old, new, written) -> None:
    """The tensor `old`, which the expression `place` gave, has changed into `new`.

    Tensors are values in the program: all that is `old` becomes `new`.
    """
    session = frame.session
    old = session.aliases.itself(old)
    if isinstance(old, hooks.Parameter):
        attributes.assign(session, old, new)
        return
    if not session.aliases.is_made_here(session, old):
        what = "what may be a tensor" if session.is_made_here(old) else "a tensor"
        raise TypeFault(f"an item of {what} made outside is assigned, which would change the "
                        "caller's tensor", "work on a copy: x = x.copy()")
    if any(other.home is not session.owned and held is old
           for other in session.frames for held in other.variables.values()):
        raise TypeFault("an item of a tensor made outside this cell or differentiated function is "
                        "assigned", "work on a copy: x = x.copy()")
    session.aliases.check(session, old, "an item of a tensor is assigned", written)
    session.aliases.changed(old, new)
    changes.replace(session, old, new)


@executors.handles(gast.AugAssign)
def run_augmented(frame, node, rest) -> None:
    target, session = node.target, frame.session
    kind = type(target)
    if kind is gast.Name:
        old = frame.load(target.id)
        operand = frame.eval(node.value)
        frame.here(node)
        new = operators.in_place(session, type(node.op), old, operand)
        if isinstance(old, hooks.Parameter):
            attributes.assign(session, old, new)
            return
        assign(frame, target, new, node)
    elif kind is gast.Attribute:
        owner = frame.eval(target.value)
        name = mangled(frame, target.attr)
        old = attributes.load(session, owner, name)
        operand = frame.eval(node.value)
        frame.here(node)
        new = operators.in_place(session, type(node.op), old, operand)
        if new is not old:
            attributes.store(session, owner, name, new)
    else:
        container, index = frame.eval(target.value), frame.eval(target.slice)
        frame.here(node)
        old = attributes.load_item(session, container, index)
        operand = frame.eval(node.value)
        frame.here(node)
        new = operators.in_place(session, type(node.op), old, operand)
        if isinstance(container, hooks.traced):
            replace_tensor(frame, target.value, container,
                           hooks.setitem(session.lift(container), index, new), node)
        elif new is not old:
            attributes.store_item(session, container, index, new)


def mangled(frame, name: str) -> str:
    """`__x` inside a class means `_Class__x`."""
    if name.startswith("__") and not name.endswith("__") and frame.source.class_name:
        return f"_{frame.source.class_name}{name}"
    return name


@executors.handles(gast.Delete)
def run_delete(frame, node, rest) -> None:
    for target in node.targets:
        if type(target) is gast.Name:
            frame.load(target.id)
            del frame.owner_of(target.id).variables[target.id]
        elif type(target) is gast.Subscript:
            attributes.delete_item(frame.session, frame.eval(target.value),
                                   frame.eval(target.slice))
        else:
            owner = frame.eval(target.value)
            attributes.delete(frame.session, owner, mangled(frame, target.attr))


# -- the rest --------------------------------------------------------------------------------------

@executors.handles(gast.Expr)
def run_expression(frame, node, rest) -> None:
    frame.eval(node.value)


@executors.handles(gast.Pass, gast.Global, gast.Nonlocal)
def run_nothing(frame, node, rest) -> None:
    """`global` and `nonlocal` say where names belong, which `Source` has read already."""


@executors.handles(gast.FunctionDef)
def run_def(frame, node, rest) -> None:
    value = define(frame, node, node.name)
    for decorator in reversed(node.decorator_list):
        function = frame.eval(decorator)
        frame.here(decorator)
        value = frame.session.call(function, [value])
    frame.store(node.name, value, node)


def define(frame, node, name: str) -> Closure:
    """The function that a `def` or `lambda` makes; its defaults are computed now."""
    source = getattr(node, "_source", None)
    if source is None:
        source = node._source = analyse(node, frame.source.file, frame.source.lines, name)
        source.class_name = frame.source.class_name
    defaults = tuple(map(frame.eval, node.args.defaults))
    named = [(arg.id, default) for arg, default in zip(
        node.args.kwonlyargs, node.args.kw_defaults, strict=True) if default is not None]
    return Closure(source, frame, defaults, {arg: frame.eval(default) for arg, default in named})


@executors.handles(gast.Assert)
def run_assert(frame, node, rest):
    condition = control.test(frame, node.test)
    if not isinstance(condition, bool):
        frame.session.check_uncaught(AssertionError, frame.loc(node), condition)
        content = None if node.msg is None else frame.eval(node.msg)
        frame.here(node)
        check(frame.session, condition, Failed(frame.session, content))
        return None
    if not condition:
        if ends_branch(frame.session):
            frame.session.check_uncaught(AssertionError, frame.loc(node))
            content = None if node.msg is None else frame.eval(node.msg)
            check(frame.session, scalar(False), Failed(frame.session, content))
            return control.NOWHERE
        message = None if node.msg is None else frame.eval(node.msg)
        if isinstance(message, Text) and not frame.session.blocks:
            check(frame.session, scalar(False), Failed(frame.session, message))
            return control.NOWHERE
        text = "the assertion does not hold" if message is None else str(message)
        fault = AssertionFault(text, loc=frame.loc(node))
        fault.python = AssertionError() if message is None else AssertionError(message)
        raise fault
    return None


@executors.handles(gast.Raise)
def run_raise(frame, node, rest):
    session = frame.session
    if ends_branch(session):
        return _raise_when_run(frame, node)
    before = handled(session)
    if node.exc is None:
        if before is None:
            raise SyntaxFault("`raise` alone has nothing to raise again", "name the exception")
        raise before if isinstance(before, CellcError) else UserRaise(before, frame.loc(node))
    error = frame.eval(node.exc)
    if isinstance(error, type) and issubclass(error, BaseException):
        error = frame.session.call(error)
    if not isinstance(error, BaseException):
        raise TypeFault(f"found {describe(error)} after raise, expected an exception")
    if any(isinstance(arg, Text) for arg in error.args):
        if not session.blocks and node.cause is None:
            check(session, scalar(False), Raised(session, (type(error), error.args)))
            return control.NOWHERE
        raise SyntaxFault("the message of this exception has values known only when the program "
                          "runs", "leave them out")
    if node.cause is not None:
        cause = frame.eval(node.cause)
        error.__cause__ = cause() if isinstance(cause, type) else cause
    if before is not None and before is not error:
        error.__context__ = before
    if isinstance(error, CellcError):
        raise error         # gets its place on the way out, like cellc's own
    loc = frame.loc(node)
    if loc is not None:
        error.add_note(f"raised at {loc}{loc.snippet()}")
    raise UserRaise(error, loc)


def _raise_when_run(frame, node):
    """A `raise` that the program comes to or not: the call ends there."""
    made = node.exc
    if made is None or node.cause is not None:
        raise SyntaxFault("`raise` alone, or with `from`, under a condition known only when the "
                          "program runs", "raise a new exception")
    if type(made) is gast.Call and not made.keywords:
        kind, args = frame.eval(made.func), tuple(map(frame.eval, made.args))
    else:
        kind, args = frame.eval(made), ()
    if isinstance(kind, BaseException):
        kind, args = type(kind), kind.args
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise TypeFault(f"found {describe(kind)} after raise, expected an exception")
    frame.session.check_uncaught(kind, frame.loc(node))
    frame.here(node)
    check(frame.session, scalar(False), Raised(frame.session, (kind, args)))
    return control.NOWHERE


@executors.handles(gast.Import, gast.ImportFrom)
def run_import(frame, node, rest) -> None:
    import importlib

    if type(node) is gast.Import:
        for alias in node.names:
            _check_steady(alias.name)
            module = importlib.import_module(alias.name)
            top = importlib.import_module(alias.name.partition(".")[0])
            frame.store(alias.asname or top.__name__, module if alias.asname else top, node)
        return
    if node.level or node.module is None:
        _check_steady("." * node.level + (node.module or ""))
    _check_steady(node.module)
    module = importlib.import_module(node.module)
    for alias in node.names:
        frame.store(alias.asname or alias.name,
                    attributes.load(frame.session, module, alias.name), node)


def _check_steady(name: str) -> None:
    if not is_steady(name):
        raise SyntaxFault(f"`import {name}` inside the function would import once, while compiling",
                          "import it at the top of the file")
