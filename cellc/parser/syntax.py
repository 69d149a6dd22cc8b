"""The fence: for every class of Python's AST, whether it is taken; if not, what to write instead.

`HANDLED` names what the dispatch tables of the parser have a function for, or what such a function
looks at as a part. `REFUSED` gives for all others the reason and the remedy. A test checks that the
two cover `ast` completely, without overlap, and that HANDLED and the dispatch tables agree.
"""

from __future__ import annotations

from collections.abc import Callable

import gast

from cellc.errors import SyntaxFault

STATEMENTS = frozenset([
    "Assign", "AugAssign", "AnnAssign", "Expr", "Return", "Pass", "If", "For", "While",
    "Break", "Continue", "Assert", "Raise", "Delete", "FunctionDef", "Global", "Nonlocal",
    "Import", "ImportFrom", "Match",
])
EXPRESSIONS = frozenset([
    "Name", "Constant", "Attribute", "Subscript", "Call", "BinOp", "UnaryOp", "BoolOp",
    "Compare", "IfExp", "Tuple", "List", "Dict", "Set", "Slice", "Lambda", "ListComp",
    "SetComp", "DictComp", "GeneratorExp", "JoinedStr", "NamedExpr", "Starred",
])
PATTERNS = frozenset([
    "MatchValue", "MatchSingleton", "MatchSequence", "MatchStar", "MatchAs", "MatchOr",
])
OPERATORS = frozenset([
    "Add", "Sub", "Mult", "Div", "FloorDiv", "Mod", "Pow", "MatMult", "LShift", "RShift",
    "BitAnd", "BitOr", "BitXor", "UAdd", "USub", "Not", "Invert", "And", "Or", "Eq",
    "NotEq", "Lt", "LtE", "Gt", "GtE", "Is", "IsNot", "In", "NotIn",
])
PARTS = frozenset([
    "Load", "Store", "Del", "Param", "arg", "arguments", "keyword", "comprehension",
    "alias", "match_case", "FormattedValue",
])
# What never reaches the parser: whole programs, and what Python's own parser no longer makes.
# The last two lines are the abstract bases.
_ABSENT = """
    Module Interactive Expression FunctionType TypeIgnore Suite AugLoad AugStore Index ExtSlice Num
    Str Bytes NameConstant Ellipsis
    AST mod stmt expr expr_context boolop operator unaryop cmpop excepthandler pattern slice
    type_ignore type_param
"""
ABSENT = frozenset(_ABSENT.split())

HANDLED = STATEMENTS | EXPRESSIONS | PATTERNS | OPERATORS | PARTS

_ASYNC = ("asynchronous code has no place in one compiled call",
          "write a plain function and call the compiled function from the asynchronous one")
_YIELD = ("a generator gives its values one by one, a compiled call all at once",
          "build a list and return it")
_TRY = ("an error inside a compiled call ends the call, so nothing can be caught in it",
        "put the try around the compiled call, or test the condition with an if")
_TYPES = ("type parameters and type aliases have no meaning at run time",
          "define them outside the compiled function")
_TEMPLATE = ("template strings are not read yet", "use an f-string")

REFUSED: dict[str, tuple[str, str]] = {
    "AsyncFunctionDef": _ASYNC, "AsyncFor": _ASYNC, "AsyncWith": _ASYNC, "Await": _ASYNC,
    "Yield": _YIELD, "YieldFrom": _YIELD,
    "Try": _TRY, "TryStar": _TRY, "ExceptHandler": _TRY,
    "With": ("a context manager would be entered once, while compiling, and not at each call",
             "enter it around the compiled call"),
    "withitem": ("a context manager would be entered once, while compiling, and not at each call",
                 "enter it around the compiled call"),
    "ClassDef": ("a class would be made anew at every call",
                 "define the class outside the function"),
    "MatchMapping": ("a mapping pattern is not read yet", "compare the items with if and elif"),
    "MatchClass": ("a class pattern is not read yet", "use isinstance with if and elif"),
    "TypeAlias": _TYPES, "TypeVar": _TYPES, "ParamSpec": _TYPES, "TypeVarTuple": _TYPES,
    "TemplateStr": _TEMPLATE, "Interpolation": _TEMPLATE,
}

_WORDS = {
    "AsyncFunctionDef": "async def", "AsyncFor": "async for", "AsyncWith": "async with",
    "Await": "await", "Yield": "yield", "YieldFrom": "yield from", "Try": "try", "TryStar": "try",
    "ExceptHandler": "except", "With": "with", "withitem": "with", "ClassDef": "class",
    "MatchMapping": "case {...}", "MatchClass": "case Class(...)", "TypeAlias": "type",
    "TemplateStr": "t-string", "Interpolation": "t-string",
}


def refusal(node: gast.AST) -> SyntaxFault:
    """The fault for a node outside the fence."""
    name = type(node).__name__
    reason, remedy = REFUSED.get(name, (f"{name} is not read", "write it in other words"))
    return SyntaxFault(f"`{_WORDS.get(name, name)}` is not taken by the compiler: {reason}", remedy)


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
