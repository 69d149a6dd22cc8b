"""The fence: for every class of Python's AST, whether it is taken; if not, what to write instead.

`HANDLED` says how that is taken which the dispatch tables of the parser have a function for, or
which such a function looks at as a part. `REFUSED` gives for all others the reason and the remedy.
A test checks that the two cover `ast` completely, without overlap, and that HANDLED and the
dispatch tables agree. docs/language.md is made of these tables (`python -m cellc.parser`).
"""

from __future__ import annotations

from collections.abc import Callable

import gast

from cellc.errors import SyntaxFault

STATEMENTS: dict[str, str] = {
    "Assign": "`a = b = x`, `a, (b, *c) = x`, `x.a = y`, `x[i] = y`; `x[i] = y` of a tensor "
              "changes it under every name and in every container, as in Python",
    "AugAssign": "`x += y` and the like; a list, dict or set changes in place, a Parameter is "
                 "assigned at each call",
    "AnnAssign": "`x: T = y`; the annotation is not looked at",
    "Expr": "an expression as a statement",
    "Return": "`return x`, also under a condition known only when the program runs: what follows "
              "is the other branch",
    "Pass": "nothing",
    "If": "on a known condition its branch is taken; otherwise both become branches of the "
          "program, and variables that are read later get one type",
    "For": "over a container or iterator: the rounds are unrolled; over a range or the rows of a "
           "tensor, of more than a few rounds (`@cellc.unroll(n)` says how many): a loop of the "
           "program; `break`, `continue` and "
           "`return` also under a condition known only when the program runs; `else`",
    "While": "on a known condition: a few rounds are unrolled; otherwise a loop of the program; "
             "`else`",
    "Break": "leaves the loop", "Continue": "goes on with the next round",
    "Assert": "of what is known, while compiling; of the program's values, when it runs",
    "Raise": "the user's exceptions, with `from`; alone it raises the handled one again; under a "
             "condition known only when the program runs it ends the call then",
    "Try": "`except`, `else`, `finally`, for what is raised while compiling: by `raise`, and by "
           "Python in work on known values. What is wrong with a tensor (its shape, its dtype) is "
           "caught where its class is named, and not by `except Exception`; what the compiler "
           "does not take is never caught. What one branch of an `if` raises is caught in "
           "that branch, in the same function; what nobody catches there (a KeyError, IndexError, "
           "ValueError or ZeroDivisionError of known values, too) the program raises if it takes "
           "the branch, and a name, attribute or type that is wrong is reported at once",
    "With": "classes with `__enter__` and `__exit__`, `@contextmanager` functions, nullcontext, "
            "suppress, closing, ExitStack, cellc.no_grad and enable_grad",
    "Delete": "`del x`, `del x[i]`, `del x.a` of what the compiled call made",
    "FunctionDef": "functions within functions, with closures, defaults, decorators; a function "
                   "with `yield` makes a generator",
    "Global": "names of the module can be read", "Nonlocal": "a variable of the function around",
    "Import": "of the standard library, NumPy and cellc",
    "ImportFrom": "of the standard library, NumPy and cellc",
    "Match": "every pattern; on what is known only when the program runs, as `if` and `elif`",
}
EXPRESSIONS: dict[str, str] = {
    "Name": "local, enclosing, global and builtin names; a change of what was read outside is "
            "noticed at the next call",
    "Constant": "numbers, strings, bytes, True, False, None, ...",
    "Attribute": "`x.a`: of tensors, cells, modules and objects; properties, descriptors and "
                 "`__getattr__` are interpreted",
    "Subscript": "`x[i]`: of tensors with all of NumPy's basic and integer indexing; of containers "
                 "with a known index",
    "Call": "functions and methods of the user, interpreted in place; cells; operations of cellc; "
            "classes; builtins (see below); `*args` and `**kwargs`",
    "BinOp": "`x + y` and the like; special methods of the user's classes",
    "UnaryOp": "`-x`, `+x`, `~x`, `not x`", "BoolOp": "`x and y`, `x or y`; the right side is "
    "computed only where it counts",
    "Compare": "`a < b <= c`, `is`, `in`", "IfExp": "`a if c else b`",
    "Tuple": "`(a, *b)`",
    "List": "`[a, *b]`; a list that grows as data decide lies in the program's memory",
    "Dict": "`{k: v, **d}` with known keys",
    "Set": "`{a, *b}` of known items", "Slice": "`a:b:c`", "Lambda": "`lambda x: y`",
    "ListComp": "`[f(x) for x in xs if c]`", "SetComp": "`{f(x) for x in xs}`",
    "DictComp": "`{k: f(x) for k, x in xs}`",
    "GeneratorExp": "`(f(x) for x in xs)`, computed when it is gone through",
    "Yield": "`yield x`, `y = yield x`, `f((yield x), 1 + (yield y))`: the generator is run while "
             "compiling, in Python's order; how many values come must be known; not in the test of "
             "a `while`, nor in a target",
    "YieldFrom": "`yield from x`, as `yield`",
    "JoinedStr": "f-strings; as `%`, `format`, `str`, `+`, `join` and methods that give strings, "
                 "also with values known only when the program runs: to be printed, or the message "
                 "of an exception",
    "NamedExpr": "`(n := x)`", "Starred": "`*x` in calls, displays and assignments",
}
PATTERNS: dict[str, str] = {
    "MatchValue": "`case 1`, `case Kind.A`", "MatchSingleton": "`case None`",
    "MatchSequence": "`case [a, b]`", "MatchStar": "`case [a, *rest]`",
    "MatchAs": "`case x`, `case _`, `case [a, b] as pair`", "MatchOr": "`case 1 | 2`",
    "MatchMapping": '`case {"op": op, **rest}`',
    "MatchClass": "`case Point(x, y=0)`, `case int(n)`",
}
OPERATORS: dict[str, str] = {
    "Add": "`+`", "Sub": "`-`", "Mult": "`*`", "Div": "`/`", "FloorDiv": "`//`", "Mod": "`%`",
    "Pow": "`**`", "MatMult": "`@`", "LShift": "`<<`", "RShift": "`>>`", "BitAnd": "`&`",
    "BitOr": "`|`", "BitXor": "`^`", "UAdd": "`+x`", "USub": "`-x`", "Not": "`not x`",
    "Invert": "`~x`", "And": "`and`", "Or": "`or`", "Eq": "`==`", "NotEq": "`!=`", "Lt": "`<`",
    "LtE": "`<=`", "Gt": "`>`", "GtE": "`>=`", "Is": "`is`", "IsNot": "`is not`", "In": "`in`",
    "NotIn": "`not in`",
}
PARTS: dict[str, str] = {
    "Load": "a name that is read", "Store": "a name that is bound", "Del": "a name that is deleted",
    "Param": "a parameter", "arg": "a parameter", "arguments": "positional-only, keyword-only, "
    "default, `*args` and `**kwargs` parameters", "keyword": "`f(k=x)`, `f(**d)`",
    "comprehension": "`for x in xs if c`", "alias": "`import a as b`",
    "match_case": "`case p if c:`", "FormattedValue": "`{x!r:>8}`",
    "ExceptHandler": "`except E as e:`", "withitem": "`with a as b, c as d:`",
}
# What never reaches the parser: whole programs, and what Python's own parser no longer makes.
# The last two lines are the abstract bases.
_ABSENT = """
    Module Interactive Expression FunctionType TypeIgnore Suite AugLoad AugStore Index ExtSlice Num
    Str Bytes NameConstant Ellipsis
    AST mod stmt expr expr_context boolop operator unaryop cmpop excepthandler pattern slice
    type_ignore type_param
"""
ABSENT = frozenset(_ABSENT.split())

HANDLED: dict[str, str] = STATEMENTS | EXPRESSIONS | PATTERNS | OPERATORS | PARTS

_ASYNC = ("asynchronous code has no place in one compiled call",
          "write a plain function and call the compiled function from the asynchronous one")
_GROUPS = ("groups of exceptions come from concurrent work, which a compiled call has none of",
           "catch the exceptions one by one with except")
_TYPES = ("type parameters and type aliases have no meaning at run time",
          "define them outside the compiled function")
_TEMPLATE = ("template strings are not read yet", "use an f-string")

REFUSED: dict[str, tuple[str, str]] = {
    "AsyncFunctionDef": _ASYNC, "AsyncFor": _ASYNC, "AsyncWith": _ASYNC, "Await": _ASYNC,
    "TryStar": _GROUPS,
    "ClassDef": ("a class would be made anew at every call",
                 "define the class outside the function"),
    "TypeAlias": _TYPES, "TypeVar": _TYPES, "ParamSpec": _TYPES, "TypeVarTuple": _TYPES,
    "TemplateStr": _TEMPLATE, "Interpolation": _TEMPLATE,
}

# What is taken only where it is known: (what, why, what to write instead).
LIMITS: tuple[tuple[str, str, str], ...] = (
    ("how many items filter(), a generator, or a comprehension of a set or dict gives",
     "they are run while compiling", "a list, or keep all items and use ops.where"),
    ("the index into a tuple or a list of known length, but of at most 32 numbers; a slice, pop, "
     "insert or del of a list of items of several types; the key of a dict or set",
     "their items have types of their own", "ops.stack them, and index the tensor"),
    ("a list whose length only the program knows, whose items are tensors and numbers of one type, "
     "or tuples of them: all at once in a tuple, a set, `f(*xs)`, `[*xs]`, a text, or where a "
     "slice is assigned to", "its items lie in the program's memory",
     "the methods and operators of list, sorted, sum, min, max, a `for`, ops.stack; return it"),
    ("a dict or object, or a list of items of several types, that one branch changes in another "
     "way than the other, and that is read afterwards", "what follows is compiled once",
     "make both branches leave the same parts"),
    ("whether a tensor, list or object that is changed is the same as another that is read "
     "afterwards (`old = y`, `y = y * 2 if c else y`, `y[0] = 1`)", "Python changes both or one, "
     "as data have it", "make a copy where the two part: old = y.copy(), list(y)"),
    ("where an iterator stands after an `if`, and in the rounds of a loop of the program",
     "its items were made while compiling", "go through a list, or take the items before"),
    ("whether a function raises an exception that a `try` or `with` of its caller would catch; "
     "whether an assert holds that one around it would catch", "the program ends the call where "
     "it raises", "put the `try` into the function; raise under an `if`, instead of assert"),
    ("the message of an exception caught while compiling", "it is made while compiling",
     "leave traced values out of it"),
    ("the order of sorted(), .sort(), min() and max() with a key, of what has a known length",
     "they move values about while compiling", "put them into a tensor: ops.sort, ops.minimum"),
    ("what a string of traced values holds: its length, its parts, whether it equals another",
     "it is made when it is printed or raised", "decide on the values; return them, and make the "
     "string outside"),
)

WORDS = {
    "AsyncFunctionDef": "async def", "AsyncFor": "async for", "AsyncWith": "async with",
    "Await": "await", "TryStar": "try ... except*", "ClassDef": "class", "TypeAlias": "type",
    "TypeVar": "[T]", "ParamSpec": "[**P]", "TypeVarTuple": "[*Ts]",
    "TemplateStr": "t-string", "Interpolation": "t-string",
}


def refusal(node: gast.AST) -> SyntaxFault:
    """The fault for a node outside the fence."""
    name = type(node).__name__
    reason, remedy = REFUSED.get(name, (f"{name} is not read", "write it in other words"))
    return SyntaxFault(f"`{WORDS.get(name, name)}` is not taken by the compiler: {reason}", remedy)


class Table(dict):
    """Node class -> function; a class outside the fence gives one that refuses it by name."""

    def handles(self, *kinds: type) -> Callable:
        """Decorator: the function handles these classes of node."""
        def enter(function):
            for kind in kinds:
                self[kind] = function
            return function

        return enter

    def __missing__(self, kind: type) -> Callable:
        def refuse(frame, node, *_):
            raise refusal(node).at(frame.loc(node))

        return refuse


evaluators = Table()    # expression class -> (frame, node) -> value
executors = Table()     # statement class -> (frame, node, rest) -> Outcome
