"""The text of a graph, and back: `read(print_graph(g))` is the same graph as g.

    graph @relu(%x: f32[n,4]) -> f32[n,4] {
      %y = max(%x, 0.0:f32[n,4]) : f32[n,4]          # net.py:14:12
      return %y
    }

A graph's text holds the graphs it uses, each once, before it (or after it, where graphs call each
other). Names are those of the user's
variables (`%h`, `%h.1`), of the primitive where there is none. Constants carry their type; an array
is a nested list: `[1, 2]:i64[2]`. In attributes a bare name is a dtype or a symbolic size, `@name`
a graph; the attribute `type` is a type, and `types` several. A comment, here the user's place, ends
with its line.
"""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

import numpy as np

from cellc.errors import CellcError, IRFault, Loc
from cellc.ir import numerics as num
from cellc.ir.graph import PRIMITIVES, Apply, Constant, Graph, Input, Node
from cellc.ir.types import DTYPES, Dim, DType, ScalarType, TapeType, TensorType, TupleType, Type

COMMENT_COLUMN = 72
_DTYPES = {d.name: d for d in DTYPES}
_WORDS = {"True": True, "False": False, "None": None}

# -- printing ----------------------------------------------------------------------------------


def print_graph(graph: Graph) -> str:
    """The text of the graph and, before it, of every graph it uses."""
    names = _graph_names(graph)
    return "\n".join(_one_graph(g, names) for g in names)


def _graph_names(graph: Graph) -> dict[Graph, str]:
    """Every graph reachable from `graph`, inner ones first, with names of their own."""
    order = graph.reachable()
    taken: dict[str, int] = {}
    # The outermost graph keeps its name whatever the inner ones are called.
    names = {g: _unique(g.name, taken) for g in reversed(order)}
    return {g: names[g] for g in order}


def _unique(wanted: str, taken: dict[str, int]) -> str:
    """`wanted`, in letters the reader knows, with .1, .2, ... where it is taken; then taken.

    `taken` tells for each name the last number that was put behind it.
    """
    name = base = re.sub(r"[^\w.]", "_", wanted) or "_"
    while name in taken:
        taken[base] += 1
        name = f"{base}.{taken[base]}"
    taken[name] = 0
    return name


def _one_graph(graph: Graph, graphs: dict[Graph, str]) -> str:
    taken: dict[str, int] = {}
    names: dict[Node, str] = {x: "%" + _unique(x.name, taken) for x in graph.inputs}
    for node in graph.body:
        names[node] = "%" + _unique(node.name or node.prim.name, taken)

    def operand(x: Node) -> str:
        if isinstance(x, Constant):
            return _constant(x)
        return names.get(x, f"%{x.name}?")      # one of another graph shows, and does not read back

    inputs = ", ".join(f"{names[x]}: {x.type}" for x in graph.inputs)
    lines = [f"graph @{graphs[graph]}({inputs}) -> {graph.type} {{"]
    for node in graph.body:
        attrs = ", ".join(f"{key}={_attribute(value, graphs)}" for key, value in
                          node.attrs.items())
        line = (f"  {names[node]} = {node.prim.name}({', '.join(map(operand, node.operands))})"
                f"{f' {{{attrs}}}' if attrs else ''} : {node.type}")
        lines.append(f"{line:<{COMMENT_COLUMN}}  # {node.loc}" if node.loc else line)
    return "\n".join([*lines, f"  return {operand(graph.result)}", "}", ""])


def _attribute(value, graphs: dict[Graph, str]) -> str:
    if isinstance(value, Graph):
        return f"@{graphs[value]}"
    if isinstance(value, (tuple, list)):
        inside = ", ".join(_attribute(v, graphs) for v in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, (DType, Dim, Type)):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    return repr(value)


def _constant(x: Constant) -> str:
    value = x.value
    if isinstance(value, np.ndarray):
        value = _nested(num.to_compute(value))
    elif isinstance(value, np.generic):
        value = value.item()
    return f"{value}:{x.type}"


def _nested(array: np.ndarray) -> str:
    """A nested list; each number as short as its dtype allows."""
    if array.ndim == 0:
        return str(array[()])
    return f"[{', '.join(map(_nested, array))}]"


# -- reading -----------------------------------------------------------------------------------


def read(text: str, source: str = "<ir>") -> Graph:
    """The last graph of a text. IRFault, with line and column, for what is no graph text."""
    return list(read_all(text, source).values())[-1]


def read_all(text: str, source: str = "<ir>") -> dict[str, Graph]:
    """All graphs of a text by name; each may use those before it."""
    reader = _Reader(text, source)
    if reader.here.kind == "end":
        reader.fault("found no graph")
    reader.declare_all()
    found = {}
    while reader.here.kind != "end":
        graph = reader.graph()
        found[graph.name] = graph
    return found


class Token(NamedTuple):
    """One word of a text: its kind (number, node, graph, word, string, mark, end), text, place."""

    kind: str
    text: str
    line: int
    col: int


_TOKEN = re.compile(r"""
    (?P<skip>   [ \t\r]+ | \#[^\n]* )          | (?P<newline> \n )
  | (?P<number> -? (?: (?: \d+ \.? \d* | \. \d+ ) (?: [eE] [+-]? \d+ )? | inf\b | nan\b ) )
  | (?P<node>   % [\w.]+ )                     | (?P<graph>   @ [\w.]+ )
  | (?P<word>   \?? [^\W\d] \w* )              | (?P<mark>    -> | [()\[\]{},:=*] )
  | (?P<string> '(?:[^'\\\n]|\\.)*' | "(?:[^"\\\n]|\\.)*" )
    """, re.VERBOSE)


def tokens(text: str, source: str = "<ir>") -> list[Token]:
    """The words of a text, without spaces and comments, and one of kind `end`."""
    found, line, start, at = [], 1, 0, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise IRFault(f"found {text[at]!r}, which begins nothing",
                          loc=Loc(source, line, at - start + 1))
        if match.lastgroup == "newline":
            line, start = line + 1, match.end()
        elif match.lastgroup != "skip":
            found.append(Token(match.lastgroup, match.group(), line, at - start + 1))
        at = match.end()
    return [*found, Token("end", "the end", line, at - start + 1)]


class _Reader:
    """Recursive descent over the tokens: one method for each thing the text is made of."""

    def __init__(self, text: str, source: str):
        self.source, self.tokens, self.at = source, tokens(text, source), 0
        self.lines = text.split("\n")
        self.graphs: dict[str, Graph] = {}
        self.nodes: dict[str, Node] = {}

    # -- tokens --------------------------------------------------------------------------------
    @property
    def here(self) -> Token:
        return self.tokens[self.at]

    def fault(self, message: str, token: Token | None = None):
        token = token or self.here
        line = self.lines[token.line - 1].strip()
        raise IRFault(f"{message}, in `{line}`", loc=Loc(self.source, token.line, token.col))

    def take(self, kind: str, expected: str) -> Token:
        token = self.here
        if token.kind != kind:
            self.fault(f"found {token.text}, expected {expected}")
        self.at += 1
        return token

    def mark(self, text: str) -> None:
        if self.here.text != text or self.here.kind not in ("mark", "word"):
            self.fault(f"found {self.here.text}, expected {text}")
        self.at += 1

    def accept(self, text: str) -> bool:
        if self.here.kind == "mark" and self.here.text == text:
            self.at += 1
            return True
        return False

    def sequence(self, opening: str, closing: str, item) -> list:
        """Items between two marks, separated by commas; a comma may follow the last."""
        self.mark(opening)
        found = []
        while not self.accept(closing):
            found.append(item())
            if not self.accept(","):
                self.mark(closing)
                break
        return found

    # -- types ---------------------------------------------------------------------------------
    def type(self) -> Type:
        if self.here.text == "(":
            return TupleType(tuple(self.sequence("(", ")", self.type)))
        word = self.take("word", "a type")
        if word.text == "tape":
            return TapeType()
        if word.text not in _DTYPES:
            self.fault(f"found {word.text}, expected a type", word)
        if self.here.text != "[":
            return ScalarType(_DTYPES[word.text])
        return TensorType(_DTYPES[word.text], tuple(self.sequence("[", "]", self.size)))

    def size(self):
        """`3`, `n` or `3*n`."""
        if self.here.kind == "word":
            return Dim(self.take("word", "a size").text)
        number = self.integer()
        return Dim(self.take("word", "a dimension").text, number) if self.accept("*") else number

    def integer(self) -> int:
        token = self.take("number", "a whole number")
        try:
            return int(token.text)
        except ValueError:
            return self.fault(f"found {token.text}, expected a whole number", token)

    # -- values --------------------------------------------------------------------------------
    def number(self):
        text = self.take("number", "a number").text
        return float(text) if re.search(r"[.enE]", text) else int(text)

    def attribute(self):
        """The value of an attribute: number, string, name, graph, tuple."""
        token = self.here
        if token.kind == "number":
            value = self.number()
            return Dim(self.take("word", "a dimension").text, value) if self.accept("*") else value
        if token.text == "(":
            return tuple(self.sequence("(", ")", self.attribute))
        self.at += 1
        if token.kind == "string":
            return ast.literal_eval(token.text)
        if token.kind == "graph":
            if token.text[1:] not in self.graphs:
                self.fault(f"found {token.text}, which is not defined", token)
            return self.graphs[token.text[1:]]
        if token.kind != "word":
            self.fault(f"found {token.text}, expected the value of an attribute", token)
        if token.text in _WORDS:
            return _WORDS[token.text]
        return _DTYPES.get(token.text) or Dim(token.text)

    def keyed_attribute(self) -> tuple:
        key = self.take("word", "the name of an attribute").text
        self.mark("=")
        if key == "types":
            return key, tuple(self.sequence("(", ")", self.type))
        return key, self.type() if key == "type" else self.attribute()

    def operand(self) -> Node:
        token = self.here
        if token.kind != "node":
            return self.constant()
        self.at += 1
        if token.text not in self.nodes:
            self.fault(f"found {token.text}, which is not defined before", token)
        return self.nodes[token.text]

    def literal(self):
        if self.here.text == "[":
            return self.sequence("[", "]", self.literal)
        if self.here.text in ("True", "False"):
            return self.take("word", "a truth value").text == "True"
        return self.number()

    def constant(self) -> Constant:
        token, value = self.here, self.literal()
        self.mark(":")
        type = self.type()
        if isinstance(type, (TupleType, TapeType)):
            self.fault(f"found a constant of type {type}", token)
        if isinstance(value, list):
            return Constant(type, self.array(token, value, type))
        kinds = {"b": bool, "f": (int, float)}.get(type.dtype.kind, int)
        if not isinstance(value, kinds) or (isinstance(value, bool) and type.dtype.kind != "b"):
            self.fault(f"found {value} for {type}", token)
        return Constant(type, float(value) if type.dtype.is_float else value)

    def array(self, token: Token, value: list, type: Type) -> np.ndarray:
        dtype = type.dtype
        try:
            array = np.array(value, np.float64 if dtype.is_float else dtype.numpy)
            if array.size == 0:
                array = array.reshape(type.shape)
        except (ValueError, OverflowError):
            return self.fault(f"found an array that is no {type}", token)
        if array.shape != type.shape:
            self.fault(f"found an array of shape {list(array.shape)} for {type}", token)
        return num.from_compute(array, dtype)

    # -- graphs --------------------------------------------------------------------------------
    def declare_all(self) -> None:
        """Declare every graph of the text, because graphs may call each other."""
        for at, token in enumerate(self.tokens):
            if token.kind == "word" and token.text == "graph" and (
                    self.tokens[at + 1].kind == "graph"):
                self.at = at
                head, graph = self.head()
                if graph.name in self.graphs:
                    self.fault(f"found graph @{graph.name} a second time", head)
                self.graphs[graph.name] = graph
        self.at = 0

    def head(self) -> tuple[Token, Graph]:
        """`graph @name(%x: f32[3]) -> f32[3]`: a graph without a body."""
        self.mark("graph")
        name = self.take("graph", "the graph's name")
        self.nodes = {}
        inputs = self.sequence("(", ")", self.input)
        self.mark("->")
        return name, Graph.declare(name.text[1:], inputs, self.type())

    def graph(self) -> Graph:
        self.mark("graph")
        made = self.graphs[self.take("graph", "the graph's name").text[1:]]
        self.nodes = {f"%{x.name}": x for x in made.inputs}
        self.sequence("(", ")", lambda: (self.take("node", "an input"), self.mark(":"),
                                         self.type()))
        self.mark("->")
        declared = self.type()
        self.mark("{")
        body = []
        while self.here.kind == "node":
            body.append(self.apply())
        self.mark("return")
        token, result = self.here, self.operand()
        if result.type != declared:
            self.fault(f"found a result of type {result.type}, declared is {declared}", token)
        self.mark("}")
        return made.define(body, result)

    def define(self, token: Token, node: Node) -> None:
        if token.text in self.nodes:
            self.fault(f"found {token.text} defined a second time", token)
        self.nodes[token.text] = node

    def input(self) -> Input:
        token = self.take("node", "an input")
        self.mark(":")
        node = Input(self.type(), token.text[1:])
        self.define(token, node)
        return node

    def apply(self) -> Apply:
        target = self.take("node", "a name")
        self.mark("=")
        word = self.take("word", "a primitive")
        prim = PRIMITIVES.get(word.text)
        if prim is None:
            return self.fault(f"found {word.text}, which is no primitive", word)
        operands = tuple(self.sequence("(", ")", self.operand))
        attrs = dict(self.sequence("{", "}", self.keyed_attribute)) if self.here.text == "{" else {}
        self.mark(":")
        token, declared = self.here, self.type()
        try:
            node = Apply(prim, operands, attrs, None, target.text[1:])
        except CellcError as fault:
            return self.fault(fault.message, word)
        except TypeError as error:       # too few operands, an unknown attribute
            return self.fault(f"{prim.name}: {error}", word)
        if node.type != declared:
            self.fault(f"found type {node.type}, declared is {declared}", token)
        self.define(target, node)
        return node
