"""`python -m cellc.parser` prints the language that is taken: docs/language.md."""

from __future__ import annotations

from cellc.parser import calls, syntax
from cellc.parser import trace as _trace  # noqa: F401  (fills the tables)

_INTRODUCTION = """\
# The language

What of Python a compiled function may contain. This page is printed by `python -m cellc.parser`
from the tables of `cellc/parser/syntax.py`; a test compares the two.

A value is *known* while compiling (numbers that are constants, strings, None, shapes, dtypes,
containers, functions, cells, objects) or *traced*: known only when the program runs (tensors, and
numbers that are arguments). Work on known values is done by Python, once, while compiling; work on
traced values becomes the program. Graph mode gives what eager mode gives, or an error that names
the place, what was found and what to write instead.

What the compiled call makes may be changed in it: lists, dicts, sets, objects of the user's
classes. What was made outside is read, and looked at again at the next call, but not changed; a
Parameter is assigned at each call. Results may be tensors, numbers, strings, None, and tuples,
lists, dicts, namedtuples and dataclasses of them. Functions, generators and iterators made inside
stay inside."""

_FUNCTIONS = """\
## Functions of Python and its library

These take traced values, or functions that the user wrote, and mean what they mean in Python. Other
functions of `builtins`, `math`, `operator`, `functools`, `itertools`, `collections`, `copy`,
`dataclasses`, `string`, `re`, `bisect`, `heapq`, `statistics`, `fractions`, `decimal`, `enum`,
`numpy` run while compiling, on known values. Whatever reaches into the world (files, time, random
numbers of Python's own) is refused by name."""

_CLASSES = """\
## Classes

Classes are defined outside, and their objects may be made, changed and used in a compiled call:
plain classes, dataclasses (frozen, with slots, defaults, `__post_init__`), namedtuples, enums. Read
as Python reads them are inheritance and `super()`, properties, static and class methods, class
attributes, slots, descriptors, cached properties, `__getattr__`, `__setattr__`, `__call__`; and the
special methods behind operators, comparison, `len`, `bool`, `abs`, `round`, `float`, `in`, `for`,
`reversed`, indexing, `with`, `str`, `repr` and `format`. A class with its own `__new__` or a
metaclass makes its objects outside."""


_LAX = """\
## What Python runs instead, where it is asked to

`context.set_context(jit_syntax_level=context.LAX)` (the default is `STRICT`): a statement that the
compiler does not take is run by Python, between two compiled pieces, and its values flow in and
out. It is the statement of the compiled function itself, also where the reason lies in a function
that it calls, and as a whole where it is compound (`if`, `for`, `while`, `with`, `try`). So are the
statements that use what only Python can hold, such as an array, a file, or an object of a class
defined inside: make a tensor or a number of it early. A cell that is called from there is compiled
by itself, and so is a function of a module that is given tensors and numbers. Variables, the order
of effects, exceptions and tracebacks are Python's.

A function that cannot be divided (a generator, one without source) is run by Python as a whole. A
gradient (or `jvp`, `vmap`, ...) of what has to be divided is taken in eager mode: every operation
runs alone, on the tape. As there, it does not flow through `asnumpy()`, and `float(x)` of what is
being differentiated is refused.

Each such statement is reported once, as a `cellc.LaxWarning` with the place, the reason, the time
it took and what to write instead; `cellc.explain(net)` lists them with the time for each call.
What is wrong with the program itself (shapes that do not fit, a name without a value) is an error
as before."""


def language() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for title, table in (("Statements", syntax.STATEMENTS), ("Expressions", syntax.EXPRESSIONS),
                         ("Patterns", syntax.PATTERNS), ("Operators", syntax.OPERATORS),
                         ("Parts of these", syntax.PARTS)):
        rows = [("node", "how it is taken"), *table.items()]
        parts.append(f"## {title}\n\n{_table(rows)}")
    parts += [_CLASSES, f"{_FUNCTIONS}\n\n{_functions()}"]
    rows = [("what", "why", "instead"), *syntax.LIMITS]
    parts.append(f"## What must be known while compiling\n\n{_table(rows)}")
    rows = [("node", "as written", "why not", "instead")]
    for name, (reason, remedy) in syntax.REFUSED.items():
        rows.append((name, f"`{syntax.WORDS[name]}`", reason, remedy))
    parts.append(f"## What is refused\n\n{_table(rows)}")
    parts.append(_LAX)
    return "\n\n".join(parts)


def _table(rows) -> str:
    head, *body = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
                   for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


def _functions() -> str:
    by_module: dict[str, set[str]] = {}
    for module, name in calls.named:
        by_module.setdefault(module, set()).add(name)
    return _table([("of", "functions"), *(
        (f"`{module}`", ", ".join(f"`{name}`" for name in sorted(names)))
        for module, names in sorted(by_module.items()))])


if __name__ == "__main__":
    print(language())
