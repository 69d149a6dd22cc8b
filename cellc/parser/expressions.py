"""What each kind of expression means."""

from __future__ import annotations

import gast

from cellc.errors import SyntaxFault, TypeFault
from cellc.ir.graph import Apply, KnownFault
from cellc.parser import (
    attributes,
    calls,
    choices,
    control,
    generators,
    hooks,
    liveness,
    loops,
    operators,
)
from cellc.parser.frame import Frame
from cellc.parser.statements import assign, define, mangled
from cellc.parser.syntax import evaluators
from cellc.parser.text import format_piece, join_pieces
from cellc.parser.values import describe, need_sizes, traced_in, unknown


@evaluators.handles(gast.Constant)
def eval_constant(frame, node):
    return node.value


@evaluators.handles(gast.Name)
def eval_name(frame, node):
    return frame.load(node.id, node)


@evaluators.handles(gast.Attribute)
def eval_attribute(frame, node):
    value = frame.eval(node.value)
    frame.here(node)
    return attributes.load(frame.session, value, mangled(frame, node.attr))


@evaluators.handles(gast.Subscript)
def eval_subscript(frame, node):
    value = frame.eval(node.value)
    index = frame.eval(node.slice)
    frame.here(node)
    return attributes.load_item(frame.session, value, index)


@evaluators.handles(gast.Slice)
def eval_slice(frame, node):
    return slice(*(None if part is None else frame.eval(part)
                   for part in (node.lower, node.upper, node.step)))


@evaluators.handles(gast.Call)
def eval_call(frame, node):
    function = frame.eval(node.func)
    if function is bool and len(node.args) == 1 and type(node.args[0]) is gast.BoolOp:
        return control.test(frame, node.args[0])    # its parts need no one type
    args, kwargs = _arguments(frame, node) if _may_change(node) else _plain_arguments(frame, node)
    frame.here(node)
    if function is super and not args:
        return _super(frame)
    return calls.call(frame.session, function, args, kwargs)


def _arguments(frame, node):
    """The arguments, of which a later one may change an earlier one: a tensor is an object."""
    with frame.session.owned.holding() as args, frame.session.owned.holding() as named:
        return _plain_arguments(frame, node, args, named)


def _plain_arguments(frame, node, args: list | None = None, named: list | None = None):
    args = [] if args is None else args
    named = [] if named is None else named
    names: list[str] = []
    for arg in node.args:
        if type(arg) is gast.Starred:
            args.extend(control.items_of(frame.session, frame.eval(arg.value)))
        else:
            args.append(frame.eval(arg))
    for keyword in node.keywords:
        value = frame.eval(keyword.value)
        if keyword.arg is None and not isinstance(value, dict):
            raise TypeFault(f"found {describe(value)} after **, expected a dict")
        given = {keyword.arg: value} if keyword.arg is not None else value
        for name, x in given.items():
            if name in names:
                raise TypeFault(f"the argument {name} is given twice")
            names.append(name)
            named.append(x)
    return args, dict(zip(names, named, strict=True))


def _may_change(node) -> bool:
    """May computing a later part of the expression change what an earlier part has given? Only a
    function can."""
    found = getattr(node, "_may_change", None)
    if found is None:
        parts = list(gast.iter_child_nodes(node))
        if type(node) is gast.Call:
            parts = parts[1:]
        found = node._may_change = any(
            isinstance(inner, gast.Call) for part in parts[1:] for inner in gast.walk(part))
    return found


def _super(frame):
    """`super()` without arguments: the class the method is written in, and its first argument."""
    root = frame.root()
    if "__class__" not in root.cells:
        raise TypeFault("super() outside a method", "name the class and the object")
    first = root.function.__code__.co_varnames[0]
    return super(root.cells["__class__"].cell_contents, root.load(first))


# -- operators -------------------------------------------------------------------------------------

@evaluators.handles(gast.BinOp)
def eval_binary(frame, node):
    if _may_change(node):
        x, y = _items(frame, (node.left, node.right))
    else:
        x, y = frame.eval(node.left), frame.eval(node.right)
    frame.here(node)
    return operators.binary(frame.session, type(node.op), x, y)


@evaluators.handles(gast.UnaryOp)
def eval_unary(frame, node):
    if type(node.op) is gast.Not:
        return control.test(frame, node)
    value = frame.eval(node.operand)
    frame.here(node)
    return operators.unary(frame.session, type(node.op), value)


@evaluators.handles(gast.BoolOp)
def eval_boolean(frame, node):
    return choices.short_circuit(frame, node, Frame.eval)


@evaluators.handles(gast.Compare)
def eval_compare(frame, node):
    left = frame.eval(node.left)
    if len(node.ops) == 1:
        if _may_change(node):
            with frame.session.owned.holding(left) as held:
                right = frame.eval(node.comparators[0])
                left = held[0]
        else:
            right = frame.eval(node.comparators[0])
        frame.here(node)
        return operators.compare(frame.session, type(node.ops[0]), left, right)
    return _chain(frame, node, left, 0)


def _chain(frame, node, left, i: int):
    """`a < b < c`: the first comparison, and where it holds those after it; b is computed once."""
    right = frame.eval(node.comparators[i])
    frame.here(node)
    found = operators.compare(frame.session, type(node.ops[i]), left, right)
    if i + 1 == len(node.ops):
        return found
    known = operators.truth(frame.session, found)
    if known is False:
        return found
    if known is True:
        return _chain(frame, node, right, i + 1)
    return choices.conjunction(frame, node, known, lambda: _chain(frame, node, right, i + 1))


@evaluators.handles(gast.IfExp)
def eval_choice(frame, node):
    condition = control.test(frame, node.test)
    if isinstance(condition, bool):
        return frame.eval(node.body if condition else node.orelse)
    return choices.choose(frame, node, condition, lambda: frame.eval(node.body),
                           lambda: frame.eval(node.orelse))


@evaluators.handles(gast.NamedExpr)
def eval_walrus(frame, node):
    value = frame.eval(node.value)
    name = node.target.id
    if type(value) is Apply and not value.name:
        value.name = name
    while frame.comprehension:      # it binds in the function around a comprehension
        frame = frame.parent
    frame.session.journal(frame.variables)
    frame.store(name, value, node)
    return value


# -- displays --------------------------------------------------------------------------------------

def _items(frame, nodes) -> list:
    """The values one after another; what is computed later may change an earlier one."""
    with frame.session.owned.holding() as items:
        return _plain_items(frame, nodes, items)


def _plain_items(frame, nodes, items: list) -> list:
    for node in nodes:
        if type(node) is gast.Starred:
            items.extend(control.items_of(frame.session, frame.eval(node.value)))
        else:
            items.append(frame.eval(node))
    return items


@evaluators.handles(gast.Tuple)
def eval_tuple(frame, node):
    return tuple(_items(frame, node.elts))


@evaluators.handles(gast.List)
def eval_list(frame, node):
    return frame.session.owned.add(_items(frame, node.elts))


@evaluators.handles(gast.Set)
def eval_set(frame, node):
    items = _items(frame, node.elts)
    return frame.session.owned.add(set(_known_keys(items, "a set")))


@evaluators.handles(gast.Dict)
def eval_dict(frame, node):
    result = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            merged = frame.eval(value)
            if not isinstance(merged, dict):
                raise TypeFault(f"found {describe(merged)} after **, expected a dict")
            result.update(merged)
        else:
            name = frame.eval(key)
            _known_keys([name], "a dict")
            result[name] = frame.eval(value)
    return frame.session.owned.add(result)


def _known_keys(keys: list, what: str) -> list:
    need_sizes(keys, "a key")
    for key in keys:
        if traced_in(key):
            raise TypeFault(f"found {describe(key)} as a key of {what}: keys must be known",
                            "use strings, numbers or tuples of them as keys")
    return keys


# -- comprehensions --------------------------------------------------------------------------------

def _rounds(frame, generators, first, i: int = 0):
    """Frames in which the comprehension's variables are bound, one for each round."""
    generator = generators[i]
    if generator.is_async:
        raise SyntaxFault("`async for` is not taken by the compiler", "use a plain for").at(
            frame.loc(generator.target))
    items = first if i == 0 else frame.eval(generator.iter)
    for item in control.iterate(frame.session, items):
        assign(frame, generator.target, item, generator.target)
        if not all(_known_test(frame, condition) for condition in generator.ifs):
            continue
        if i + 1 < len(generators):
            yield from _rounds(frame, generators, None, i + 1)
        else:
            yield frame


def _known_test(frame, node) -> bool:
    found = control.test(frame, node)
    if not isinstance(found, bool):
        raise unknown(found, "whether this item is kept is known only when the program runs, and "
                      "the number of items must be known", "keep all items and use ops.where"
                      ).at(frame.loc(node))
    return found


def _inner(frame, node):
    """The frame of a comprehension's own variables, and what its first `for` goes through."""
    names = {ITEMS}
    for generator in node.generators:
        for part in gast.walk(generator.target):
            if type(part) is gast.Name and isinstance(part.ctx, gast.Store):
                names.add(part.id)
    return (Frame(frame.session, frame.source, parent=frame, names=names, comprehension=True),
            frame.eval(node.generators[0].iter))


@evaluators.handles(gast.ListComp)
def eval_list_comprehension(frame, node):
    session, (inner, first) = frame.session, _inner(frame, node)
    try:
        with session.attempt(inner, KnownFault):
            return session.owned.add(
                [f.eval(node.elt) for f in _rounds(inner, node.generators, first)])
    except KnownFault:
        return _appended(inner, node, first)


ITEMS = "$items"


def _appended(frame, node, first) -> list:
    """The list as the loops that the comprehension stands for append to it: how many items there
    are may be known only when the program runs."""
    body = getattr(node, "_body", None)
    if body is None:
        items = gast.Attribute(gast.Name(ITEMS, gast.Load(), None, None), "append", gast.Load())
        append = gast.Expr(gast.Call(items, [node.elt], []))
        for part in gast.walk(append):
            if not hasattr(part, "lineno"):
                gast.copy_location(part, node.elt)
        body = node._body = generators.as_loops(node, append)
        liveness.note(body)
    items = frame.variables[ITEMS] = frame.session.owned.add([])
    loops.run_for(frame, body[0], first, control.FunctionRest())
    return items


@evaluators.handles(gast.SetComp)
def eval_set_comprehension(frame, node):
    inner, first = _inner(frame, node)
    items = [f.eval(node.elt) for f in _rounds(inner, node.generators, first)]
    return frame.session.owned.add(set(_known_keys(items, "a set")))


@evaluators.handles(gast.DictComp)
def eval_dict_comprehension(frame, node):
    inner, first = _inner(frame, node)
    result = {}
    for f in _rounds(inner, node.generators, first):
        key = f.eval(node.key)
        _known_keys([key], "a dict")
        result[key] = f.eval(node.value)
    return frame.session.owned.add(result)


@evaluators.handles(gast.GeneratorExp)
def eval_generator(frame, node):
    inner, first = _inner(frame, node)
    return generators.of_expression(inner, node, first)


# -- functions and strings -------------------------------------------------------------------------

@evaluators.handles(gast.Lambda)
def eval_lambda(frame, node):
    return define(frame, node, "<lambda>")


@evaluators.handles(gast.JoinedStr)
def eval_fstring(frame, node):
    pieces = []
    for part in node.values:
        if type(part) is gast.Constant:
            pieces.append(part.value)
            continue
        value = frame.eval(part.value)
        spec = "" if part.format_spec is None else frame.eval(part.format_spec)
        if isinstance(value, hooks.traced) or not isinstance(spec, str) or traced_in(value):
            pieces.append(format_piece(value, part.conversion, spec))
        else:
            text = _as_text(frame.session, value, part.conversion, spec)
            pieces.append(format_piece(text, -1 if text is not value else part.conversion,
                                       "" if text is not value else spec))
    return join_pieces(pieces)


def _as_text(session, value, conversion: int, spec: str):
    """What a user's class makes of `{value!conversion:spec}`; the value where it says nothing."""
    function = operators.user_special(value, "__format__") if conversion == -1 else None
    if function is not None:
        return session.call(function, [value, spec])
    as_repr = conversion == ord("r")
    function = operators.user_special(value, "__repr__" if as_repr else "__str__")
    if function is not None:
        return format(session.call(function, [value]), spec)
    session.look_into(value)
    return value
