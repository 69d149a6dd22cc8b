"""The fence covers Python's AST: every class is taken or refused with a reason and a remedy."""

import ast
from pathlib import Path

import gast

from cellc.parser import syntax, trace  # noqa: F401  (fills the dispatch tables)
from cellc.parser.__main__ import language
from cellc.parser.syntax import (
    ABSENT,
    EXPRESSIONS,
    HANDLED,
    LIMITS,
    REFUSED,
    STATEMENTS,
    WORDS,
    evaluators,
    executors,
)


def classes():
    return {name for name, value in vars(ast).items()
            if isinstance(value, type) and issubclass(value, ast.AST) and name[0] != "_"}


def test_every_class_is_on_one_side():
    assert classes() - HANDLED.keys() - REFUSED.keys() - ABSENT == set()
    assert HANDLED.keys() & REFUSED.keys() == set()


def test_the_tables_handle_what_the_fence_says():
    named = {kind.__name__ for kind in (*evaluators, *executors)}
    assert named == STATEMENTS.keys() | EXPRESSIONS.keys() - {"Starred"}


def test_refusals_say_why_and_what_instead():
    for name, (reason, remedy) in REFUSED.items():
        assert len(reason) > 10 and len(remedy) > 10, name
        assert name in WORDS, "as the user writes it"
    assert all(len(part) > 10 for row in LIMITS for part in row)


def test_what_the_compiler_refuses_has_a_remedy():
    """Each SyntaxFault and KnownFault of the parser, and each fault about what is known only when
    the program runs, is made with a hint. (A mistake, such as an argument that is missing, says
    what was expected.)"""
    found, bare = 0, []
    for path in sorted(Path(syntax.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            kind = node.func.id
            words = ast.unparse(node.args[0]) if node.args else ""
            if kind == "unknown":
                hinted = len(node.args) == 3
            elif kind == "SyntaxFault" or kind.endswith("Fault") and "only when" in words:
                hinted = len(node.args) >= 2
            else:
                continue
            found += 1
            if not hinted:
                bare.append(f"{path.name}:{node.lineno}: {words}")
    assert found > 60
    assert not bare, "\n".join(bare)


def test_gast_knows_them_too():
    assert all(hasattr(gast, name) for name in STATEMENTS | EXPRESSIONS)


def test_the_document_is_what_is_generated():
    """Write it anew with `python -m cellc.parser > docs/language.md`."""
    path = Path(__file__).resolve().parents[2] / "docs" / "language.md"
    assert path.read_text("utf-8") == language() + "\n"
    for name in HANDLED.keys() | REFUSED.keys():
        assert f"| {name} |" in language()
