"""The concepts a reader has to hold are few, and one more is a decision.

A class added to the language (`cellc/ir`), to the loop form or to the index arithmetic fails here
until it is added to the list below, where a reviewer sees it. Private classes are a file's own.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "cellc"

IR = {
    # a program
    "Graph", "Node", "Input", "Constant", "Apply", "Primitive",
    # types
    "DType", "Dim", "TensorType", "ScalarType", "TupleType", "TapeType",
    # building and reading one
    "Builder", "Operators", "KnownFault", "Token",
}
LOOP_FORM = {
    # a kernel
    "Nest", "Buffer", "Guard",
    # values, and what becomes of them
    "Value", "Literal", "Index", "Inside", "Load", "ScalarOp", "Checked", "Reduction", "Store",
}
AFFINE = {"Axis", "Affine", "NotAffine", "NeedSplit"}
FAULTS = {
    "Loc", "CellcError", "SyntaxFault", "TypeFault", "ShapeFault", "ValueFault", "NameFault",
    "AttributeFault", "IndexFault", "KeyFault", "SourceFault", "AssertionFault", "CheckpointFault",
    "MemoryFault", "RecursionFault",
    "IRFault", "SymbolicFault",
}
PASSES = ("inline", "ranges", "simplify", "cse", "prune", "sums", "blocks", "hoist", "delay",
          "phases", "strides", "adjoint", "winograd", "thin", "dead_code", "fuse", "chain",
          "dead_code", "tape_ends")


def classes(place: str) -> set[str]:
    """The public classes at the top of a file, or of all files below a folder."""
    path = PACKAGE / place
    files = [path] if path.is_file() else path.rglob("*.py")
    return {node.name for file in files for node in ast.parse(file.read_text("utf-8")).body
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_")}


@pytest.mark.parametrize("place, listed", [
    ("ir", IR), ("kernels/loops.py", LOOP_FORM), ("kernels/views.py", AFFINE),
    ("errors.py", FAULTS)])
def test_the_list_of_concepts_is_closed(place, listed):
    found = classes(place)
    assert found == listed, f"new: {sorted(found - listed)}; gone: {sorted(listed - found)}"


def test_the_pipeline_is_one_straight_list():
    from cellc.passes.pipeline import PIPELINE

    assert tuple(name for name, _ in PIPELINE) == PASSES


def test_kinds_of_primitives():
    """How a primitive is lowered is one of these."""
    import cellc.ir.prims  # noqa: F401  (fills the table)
    from cellc.ir.graph import PRIMITIVES, Primitive

    kinds = {prim.kind for prim in PRIMITIVES.values()}
    assert kinds == {"elementwise", "reduce", "view", "kernel", "control"}
    assert all(kind in Primitive.__doc__ for kind in kinds)
