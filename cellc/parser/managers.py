"""Context managers: what `with` enters and leaves.

The user's classes and `@contextmanager` functions are interpreted. Of the library there are those
that only do something about exceptions or other managers; of cellc `no_grad` and `enable_grad`,
under which values are made without, or with, a gradient. Others would be entered once, while
compiling, and not at each call: they are refused.
"""

from __future__ import annotations

import contextlib

from cellc.errors import SyntaxFault, TypeFault
from cellc.parser import calls, hooks, operators
from cellc.parser.exceptions import is_caught
from cellc.parser.frame import UserRaise
from cellc.parser.iteration import Iterator
from cellc.parser.values import describe


class Manager:
    """What `with` needs: `enter` gives the value after `as`, `exit` says whether to go on."""

    def __init__(self, session):
        self.session = session
        session.owned.add(self)
        session.managers.append(self)

    def enter(self):
        return None

    def exit(self, error: BaseException | None) -> bool:
        return False

    def may_catch(self, kind: type) -> bool:
        """Could `exit` do something about an exception of this class?"""
        return True


class _OfUser(Manager):
    """An object of a class with `__enter__` and `__exit__`."""

    def __init__(self, session, value):
        super().__init__(session)
        self.value = value

    def enter(self):
        function = operators.user_special(self.value, "__enter__")
        return self.value if function is None else self.session.call(function, [self.value])

    def exit(self, error: BaseException | None) -> bool:
        function = operators.user_special(self.value, "__exit__")
        about = (None, None, None) if error is None else (type(error), error, None)
        found = operators.truth(self.session, self.session.call(function, [self.value, *about]))
        if error is not None and not isinstance(found, bool):
            raise TypeFault("whether __exit__ catches the exception is known only when the "
                            "program runs", "return a known value")
        return found is True


class _OfGenerator(Manager):
    """What a `@contextmanager` function gives: its generator up to the `yield`, and from there."""

    def __init__(self, session, generator):
        super().__init__(session)
        self.generator = generator

    def enter(self):
        try:
            return next(self.generator)
        except StopIteration:
            raise RuntimeError("generator didn't yield") from None

    def exit(self, error: BaseException | None) -> bool:
        try:
            next(self.generator) if error is None else self.generator.throw(error)
        except StopIteration:
            return error is not None
        except UserRaise as raised:
            if error is None or raised.error is not error:
                raise
            return False
        raise RuntimeError("generator didn't stop")


class _Null(Manager):
    """`nullcontext(value)`."""

    def __init__(self, session, enter_result=None):
        super().__init__(session)
        self.value = enter_result

    def enter(self):
        return self.value

    def may_catch(self, kind: type) -> bool:
        return False


class _Suppress(Manager):
    """`suppress(*exceptions)`."""

    def __init__(self, session, *kinds):
        super().__init__(session)
        self.kinds = kinds

    def exit(self, error: BaseException | None) -> bool:
        return error is not None and is_caught(error, self.kinds)

    def may_catch(self, kind: type) -> bool:
        return issubclass(kind, self.kinds)


class _Closing(Manager):
    """`closing(thing)`."""

    def __init__(self, session, thing):
        super().__init__(session)
        self.thing = thing

    def enter(self):
        return self.thing

    def exit(self, error: BaseException | None) -> bool:
        from cellc.parser import attributes

        self.session.call(attributes.load(self.session, self.thing, "close"))
        return False


class ExitStack(Manager):
    """`ExitStack()`: managers and functions, left in reverse order."""

    def __init__(self, session):
        super().__init__(session)
        self.exits: tuple = ()

    def enter(self):
        return self

    def exit(self, error: BaseException | None) -> bool:
        given, new = error, None        # `new`: raised by one of the exits
        while self.exits:
            self.session.journal(self)
            self.exits, last = self.exits[:-1], self.exits[-1]
            try:
                if last.exit(error):
                    error = new = None
            except UserRaise as raised:
                error, new = raised.error, raised
        if new is not None:
            raise new
        return given is not None and error is None

    def _push(self, manager) -> None:
        self.session.journal(self)
        self.exits = (*self.exits, manager)

    def enter_context(self, value):
        manager = manager_for(self.session, value)
        entered = manager.enter()
        self._push(manager)
        return entered

    def push(self, value):
        is_manager = isinstance(value, Manager) or operators.user_special(value, "__exit__")
        self._push(manager_for(self.session, value) if is_manager
                   else _Function(self.session, value, None))
        return value

    def callback(self, function, /, *args, **kwargs):
        self._push(_Function(self.session, function, (args, kwargs)))
        return function

    def pop_all(self):
        other = ExitStack(self.session)
        self.session.journal(self)
        other.exits, self.exits = self.exits, ()
        return other

    def close(self) -> None:
        self.exit(None)


class _Function(Manager):
    """A function that an ExitStack calls: as `__exit__`, or as a callback with its arguments."""

    def __init__(self, session, function, arguments):
        super().__init__(session)
        self.function, self.arguments = function, arguments

    def exit(self, error: BaseException | None) -> bool:
        if self.arguments is not None:
            self.session.call(self.function, *self.arguments)
            return False
        about = (None, None, None) if error is None else (type(error), error, None)
        return operators.truth(self.session, self.session.call(self.function, about)) is True


class _Recording(Manager):
    """`no_grad()` and `enable_grad()`: whether gradients flow through what is computed."""

    def __init__(self, session, on: bool):
        super().__init__(session)
        self.on = on

    def enter(self):
        if self.on and self.session.modes["outside"]:
            raise SyntaxFault("enable_grad() in a cell or function that is called under no_grad()",
                              "leave the no_grad() block before the call")
        self.before = self.session.modes["detached"]
        self._set(not self.on)

    def exit(self, error: BaseException | None) -> bool:
        self._set(self.before)
        return False

    def may_catch(self, kind: type) -> bool:
        return False

    def _set(self, detached: bool) -> None:
        self.session.journal(self.session.modes)
        self.session.modes["detached"] = detached


def manager_for(session, value) -> Manager:
    """The Manager that a value is; SyntaxFault where it is none that a compiled call can enter."""
    if isinstance(value, Manager):
        return value
    if operators.user_special(value, "__exit__") is not None:
        return _OfUser(session, value)
    if not hasattr(type(value), "__enter__"):
        raise TypeFault(f"found {describe(value)} after with, which is no context manager",
                        "give its class __enter__ and __exit__")
    raise SyntaxFault(f"`with` of {describe(value)} would be entered once, while compiling, and "
                      "not at each call", "enter it around the compiled call")


def manager_of(frame, item):
    """The context manager that an item of a `with` names."""
    value = frame.eval(item.context_expr)
    frame.here(item.context_expr)
    return frame.guarded(lambda: manager_for(frame.session, value), item.context_expr)


def bind_item(frame, item, value) -> None:
    from cellc.parser.statements import assign

    if item.optional_vars is not None:
        frame.guarded(lambda: assign(frame, item.optional_vars, value, item.optional_vars),
                      item.optional_vars)


def call_context_function(session, function, args: list, kwargs: dict) -> Manager:
    """A call of a `@contextmanager` function: nothing of its body has run yet."""
    generator = session.call(function, args, kwargs)
    if not isinstance(generator, Iterator):
        raise TypeFault("@contextmanager of a function that does not yield", "add a yield")
    return _OfGenerator(session, generator)


for _function, _on in hooks.recording.items():
    calls.handle(lambda session, args, kwargs, on=_on: _Recording(session, on), _function)
for _made, _class in {contextlib.nullcontext: _Null, contextlib.suppress: _Suppress,
                      contextlib.closing: _Closing, contextlib.ExitStack: ExitStack}.items():
    calls.handle(lambda session, args, kwargs, c=_class: c(session, *args, **kwargs), _made)


class _ContextFunction:
    """What `@contextmanager` makes of a function defined in parsed code."""

    def __init__(self, function):
        self.function = function

    def call_parsed(self, session, args: list, kwargs: dict) -> Manager:
        return call_context_function(session, self.function, args, kwargs)


calls.handle(lambda session, args, kwargs: _ContextFunction(*args, **kwargs),
             contextlib.contextmanager)
