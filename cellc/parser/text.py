"""Strings made of values that are known only when the program runs.

They can be printed, or be the text of a fault, and nothing else: the parser keeps how the string is
made as a message (ir/prims/effect.py), and the program has it made when the values are there.
"""

from __future__ import annotations

from typing import Any

from cellc.errors import AssertionFault, TypeFault
from cellc.ir.prims import effect
from cellc.ir.types import ScalarType
from cellc.parser import hooks
from cellc.parser.values import flatten, need_sizes, traced_in, unflatten
from cellc.record import fresh, record

_CONVERSIONS = {-1: lambda x: x, 115: str, 114: repr, 97: ascii}      # none, !s, !r, !a


@record(eq=False)
class Text:
    """`how`: "%" (template % args), "format" (template.format(*args)), "join" (parts in a row),
    "method" (the method of that name of args[0], with the others), "*" (args[0] * args[1])."""

    how: str
    template: Any
    args: Any
    kwargs: dict[str, Any] = fresh(dict)
    holds_traced = True

    def make(self) -> str:
        """The string, once all values in it are known."""
        args = _made(self.args)
        if self.how == "%":
            return self.template % args
        if self.how == "format":
            return self.template.format(*args, **_made(self.kwargs))
        if self.how == "method":
            return getattr(str, self.template)(*args, **_made(self.kwargs))
        return args[0] * args[1] if self.how == "*" else "".join(args)

    def __add__(self, other):
        return _in_a_row(self, other)

    def __radd__(self, other):
        return _in_a_row(other, self)

    def __mul__(self, n):
        return text("*", "", (self, n)) if isinstance(n, int) else NotImplemented

    __rmul__ = __mul__

    def __len__(self):
        raise unseen()

    __iter__ = __getitem__ = __len__

    def __mod__(self, args):
        return text("method", "__mod__", (self, args))


@record(eq=False)
class Piece:
    """One `{value!conversion:spec}` of an f-string."""

    value: Any
    conversion: int
    spec: str
    holds_traced = True

    def make(self) -> str:
        return format(_CONVERSIONS[self.conversion](_made(self.value)), self.spec)


@record(frozen=True)
class TextMethod:
    """A method of a string that is made later, which gives another."""

    owner: Text
    name: str

    def call_parsed(self, session, args: list, kwargs: dict) -> Text:
        return text("method", self.name, (self.owner, *args), kwargs)


# What gives a string, and looks at nothing that would have to be known.
METHODS = frozenset([
    "capitalize", "casefold", "center", "expandtabs", "format", "join", "ljust", "lower", "lstrip",
    "removeprefix", "removesuffix", "replace", "rjust", "rstrip", "strip", "swapcase", "title",
    "upper", "zfill",
])


def unseen() -> TypeFault:
    """The fault of what would have to know what such a string holds."""
    return TypeFault("found a string with values known only when the program runs; it can be "
                     "printed or raised, and not looked at", "decide on the values themselves")


def text(how: str, template, args, kwargs: dict | None = None) -> Text:
    """A string to be made of what the containers among the arguments hold now."""
    return Text(how, template, *_as_it_is((args, kwargs or {})))


def _as_it_is(value):
    """The value, with copies of what can be changed."""
    leaves: list = []
    return unflatten(flatten(value, leaves, lambda x: x), leaves)


def _in_a_row(*parts):
    if not all(isinstance(x, (str, Text)) for x in parts):
        return NotImplemented
    return Text("join", "", list(parts))


class Message:
    """What a program says to the user, made of values of these types when it is said.

    `content` is a structure, whose slots count the values.
    """

    def __init__(self, session, content):
        self.leaves: list = []
        self.content = flatten_text(content, self.leaves, session.lift)
        self.types = tuple(x.type for x in self.leaves)

    def made(self, values):
        """The content with the values, as the user knows them, in place."""
        known = [_as_user_has_it(t, x) for t, x in zip(self.types, values, strict=True)]
        return _made(unflatten_text(self.content, known))


class Printed(Message):
    """One `print` of the user's; its content is (arguments, keyword arguments)."""

    def show(self, values) -> None:
        args, kwargs = self.made(values)
        print(*args, **kwargs)


class Failed(Message):
    """An `assert` that does not hold; its content is the message, or None."""

    def fault(self, values) -> AssertionFault:
        text = self.made(values)
        return AssertionFault("the assertion does not hold" if text is None else str(text))


class Raised(Message):
    """A `raise` under a condition; its content is (the class, the arguments)."""

    def fault(self, values) -> BaseException:
        kind, args = self.made(values)
        return kind(*args)


def say(session, message: Message) -> None:
    """Append a print to the program."""
    effect.show(*message.leaves, message=session.message(message))


def check(session, condition, message: Message) -> None:
    """Append a check to the program: where the condition fails, the call ends with the fault."""
    effect.check(condition, *message.leaves, message=session.message(message))


def _as_user_has_it(type, value):
    """A program's value as a Python number or a Tensor."""
    if isinstance(type, ScalarType):
        return value.item() if hasattr(value, "item") else value
    return hooks.Tensor(value, type.dtype)


def format_piece(value, conversion: int, spec: str) -> str | Piece:
    """The piece as a string where all is known, else to be made later."""
    need_sizes(value, "the text")
    piece = Piece(_as_it_is(value), conversion, spec)
    return piece if traced_in(value) else piece.make()


def join_pieces(pieces: list) -> str | Text:
    """An f-string of its pieces."""
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    return Text("join", "", pieces)


def _made(value):
    """The value with every string in it made."""
    if isinstance(value, (Text, Piece)):
        return value.make()
    if type(value) in (tuple, list):
        return type(value)(map(_made, value))
    if type(value) is dict:
        return {key: _made(item) for key, item in value.items()}
    return value


def flatten_text(value, leaves: list, lift):
    """`flatten`, through the strings to be made as well."""
    if isinstance(value, Text):
        return Text(value.how, value.template, flatten_text(value.args, leaves, lift),
                    flatten_text(value.kwargs, leaves, lift))
    if isinstance(value, Piece):
        return Piece(flatten_text(value.value, leaves, lift), value.conversion, value.spec)
    if type(value) in (tuple, list):
        return type(value)([flatten_text(x, leaves, lift) for x in value])
    if type(value) is dict:
        return {key: flatten_text(x, leaves, lift) for key, x in value.items()}
    return flatten(value, leaves, lift)


def unflatten_text(value, leaves):
    """The inverse of flatten_text."""
    if isinstance(value, Text):
        return Text(value.how, value.template, unflatten_text(value.args, leaves),
                    unflatten_text(value.kwargs, leaves))
    if isinstance(value, Piece):
        return Piece(unflatten_text(value.value, leaves), value.conversion, value.spec)
    if type(value) in (tuple, list):
        return type(value)([unflatten_text(x, leaves) for x in value])
    if type(value) is dict:
        return {key: unflatten_text(x, leaves) for key, x in value.items()}
    return unflatten(value, leaves)
