"""How programs run: compiled (GRAPH_MODE) or operation by operation (PYNATIVE_MODE), and where.

    context.set_context(mode=context.GRAPH_MODE, device_target="CPU")
"""

from __future__ import annotations

from collections.abc import Callable

from cellc.errors import ValueFault

GRAPH_MODE = 0
PYNATIVE_MODE = 1
STRICT = 0          # jit_syntax_level: what the compiler does not take is refused

when_graph: list[Callable[[], None]] = []    # called when graph mode is chosen

_settings = {"mode": PYNATIVE_MODE, "device_target": "CPU", "jit_syntax_level": STRICT}


def _check_mode(value) -> int:
    if isinstance(value, bool) or value not in (GRAPH_MODE, PYNATIVE_MODE):
        raise ValueFault(f"mode is {value!r}",
                         "context.GRAPH_MODE (0) or context.PYNATIVE_MODE (1)")
    return value


def _check_device(value) -> str:
    if value in ("GPU", "CUDA", "cuda", "gpu"):
        raise ValueFault(f"device_target is {value!r}, and this cellc has no CUDA back end",
                         'device_target="CPU"')
    if value not in ("CPU", "cpu"):
        raise ValueFault(f"device_target is {value!r}", 'device_target="CPU"')
    return "CPU"


def _check_level(value) -> int:
    if isinstance(value, bool) or value not in (STRICT, "STRICT"):
        raise ValueFault(f"jit_syntax_level is {value!r}; only STRICT (0) is offered",
                         "jit_syntax_level=context.STRICT")
    return STRICT


_CHECKS = {"mode": _check_mode, "device_target": _check_device, "jit_syntax_level": _check_level}


def set_context(**settings) -> None:
    """Change settings: mode, device_target, jit_syntax_level. All are checked before any is set.

    Errors: ValueFault for an unknown setting or a value that is not allowed.
    """
    unknown = settings.keys() - _CHECKS.keys()
    if unknown:
        raise ValueFault(f"unknown setting {', '.join(sorted(unknown))}",
                         f"one of {', '.join(_CHECKS)}")
    checked = {name: _CHECKS[name](value) for name, value in settings.items()}
    _settings.update(checked)
    if checked.get("mode") == GRAPH_MODE:
        for begin in when_graph:
            begin()


def get_context(name: str):
    """The value of a setting; ValueFault for an unknown one."""
    if name not in _settings:
        raise ValueFault(f"unknown setting {name!r}", f"one of {', '.join(_settings)}")
    return _settings[name]


def set_mode(mode: int) -> None:
    """Shorthand for `set_context(mode=mode)`."""
    set_context(mode=mode)


def is_graph() -> bool:
    """Whether calls of cells are compiled."""
    return _settings["mode"] == GRAPH_MODE
