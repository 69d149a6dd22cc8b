"""Imports go one way, and no file or function outgrows what one person can hold.

The order is the order a program travels in (docs/architecture.md). It is read from the source by
`ast`, so an import hidden inside a function counts as well.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "cellc"

# What each part may import of cellc, beside itself. A part is a folder or a module at the top.
LEAVES = {"errors", "config", "epoch", "record"}
IR = LEAVES | {"ir"}
FRONT = IR | {"passes", "parser"}
# What users hold and call; a tensor has methods that are operations, so this is one floor.
VALUES = {"dtype", "context", "tensor", "eager", "parameter", "ops"}
# The driver: it alone knows the whole way. `ops` calls it where a gradient is asked for by Python.
DRIVER = {"binding", "build", "compile", "fingerprint", "lax", "native", "parses", "programs",
          "signature", "startup"}
MIDDLE = FRONT | VALUES
ALL_BELOW = MIDDLE | DRIVER | {"kernels"}
TOP = ALL_BELOW | {"inspection", "nans", "nn", "train"}
MAY_IMPORT = {
    "errors": set(),
    "config": {"errors", "record"},
    "epoch": set(),
    "record": set(),
    "ir": {"errors", "record"},
    "kernels": IR,
    "passes": IR | {"kernels"},  # fusion asks what one loop nest can hold
    "parser": FRONT,
    "dtype": IR,
    "context": IR,
    "tensor": MIDDLE,
    "eager": MIDDLE,
    "parameter": MIDDLE,
    "ops": MIDDLE | {"compile"},
    "signature": MIDDLE,
    "lax": MIDDLE,  # the driver gives it the class that compiles
    "binding": ALL_BELOW,
    "native": ALL_BELOW,
    "programs": ALL_BELOW,
    "parses": ALL_BELOW,
    "fingerprint": FRONT,
    "startup": ALL_BELOW,
    "build": ALL_BELOW,
    "compile": ALL_BELOW,
    "inspection": ALL_BELOW,
    "nans": ALL_BELOW,
    "nn": TOP,
    "common": TOP,  # MindSpore's names for what lives in nn
    "train": TOP,
    "__init__": None,  # the front door names everything
    "__main__": None,
}

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
# path or path::function -> why it is longer. An entry that is no longer needed fails the test.
LONG_ON_PURPOSE: dict[str, str] = {
    "cellc/kernels/vecmath/tables.py": "numbers, written by benchmarks/fit_minimax.py",
    "cellc/kernels/native_match.py::_emit_match_row": "one switch: a few lines a kind",
}


def sources():
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    inside = path.relative_to(PACKAGE).parts
    return inside[0].removesuffix(".py")


def imported_parts(path: Path):
    """(line, part, text) for each import of cellc in a file, wherever it stands."""
    package = ("cellc", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            # `from cellc import nn` names a part last, `from cellc.nn import Cell` first.
            names = [module]
            if module == "cellc":
                names = [f"cellc.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "cellc":
                yield node.lineno, parts[1] if len(parts) > 1 else "__init__", name


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    part = part_of(path)
    assert part in MAY_IMPORT, f"{part} has no place in the layers: add it to MAY_IMPORT"
    allowed = MAY_IMPORT[part]
    if allowed is None:
        return
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {part} imports {name}; it may import only itself"
        f" and {', '.join(sorted(allowed)) or 'nothing'}"
        for line, target, name in imported_parts(path)
        if target != part and target not in allowed
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def long_things():
    """What exceeds the limits now: name -> lines."""
    found = {}
    for path in sources():
        name = str(path.relative_to(ROOT))
        text = path.read_text(encoding="utf-8")
        if (lines := text.count("\n")) > MAX_FILE_LINES:
            found[name] = lines
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    found[f"{name}::{node.name}"] = lines
    return found


def test_files_and_functions_stay_short():
    too_long = {name: n for name, n in long_things().items() if name not in LONG_ON_PURPOSE}
    assert not too_long, (
        f"over {MAX_FILE_LINES} lines a file or {MAX_FUNCTION_LINES} a function "
        f"(split it, or say why in LONG_ON_PURPOSE): {too_long}"
    )


def test_the_list_of_long_things_is_current():
    stale = set(LONG_ON_PURPOSE) - set(long_things())
    assert not stale, f"no longer long: remove from LONG_ON_PURPOSE: {sorted(stale)}"


def modules() -> set[str]:
    """Every module as docs/layout.md calls it: a file, or a folder with its `__init__.py`."""
    names = {path.relative_to(PACKAGE).as_posix() for path in sources()}
    return {name.removesuffix("__init__.py") or name for name in names}


def test_the_layout_names_every_module():
    text = (ROOT / "docs" / "layout.md").read_text(encoding="utf-8")
    named = re.findall(r"^- `([^`]+)` \S", text, re.MULTILINE)
    assert len(named) == len(set(named)), "named twice in docs/layout.md"
    missing, gone = modules() - set(named), set(named) - modules()
    assert not missing, f"give each a line in docs/layout.md: {sorted(missing)}"
    assert not gone, f"docs/layout.md names what is not there: {sorted(gone)}"


def test_every_part_with_a_place_is_there():
    assert MAY_IMPORT.keys() - {"__main__"} <= {part_of(path) for path in sources()}


def test_the_walk_sees_imports_of_every_form(tmp_path, monkeypatch):
    """A layer test that sees nothing would pass for ever."""
    inside = tmp_path / "ir"
    inside.mkdir()
    (inside / "x.py").write_text(
        "import cellc.nn.cell\n"
        "from cellc import ops\n"
        "def f():\n    from ..passes.grad import run\n    from .types import Tensor\n"
        "from .. import parser\n",
        encoding="utf-8",
    )
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    seen = [part for _, part, _ in imported_parts(inside / "x.py")]
    assert sorted(seen) == ["ir", "nn", "ops", "parser", "passes"]
