"""structure: what makes two groups the same kernel, so that it is emitted and compiled once."""

from __future__ import annotations

from cellc.ir.graph import Apply, Constant, Graph, Node


def structure(node: Apply) -> tuple:
    """What makes two groups the same kernel: everything but names and places."""
    return (node.prim.name, tuple(map(_operand, node.operands)), _attributes(node))


def _operand(x: Node):
    return (x.type, repr(x.value)) if isinstance(x, Constant) else x.type


def _attributes(node: Apply) -> tuple:
    return tuple((key, _graph_structure(value) if isinstance(value, Graph) else value)
                 for key, value in sorted(node.attrs.items()))


def _graph_structure(graph: Graph) -> tuple:
    number: dict[Node, int] = {x: i for i, x in enumerate(graph.inputs)}
    rows: list = [tuple(x.type for x in graph.inputs)]

    def reference(x: Node):
        return (x.type, repr(x.value)) if isinstance(x, Constant) else number[x]

    for node in graph.body:
        rows.append((node.prim.name, tuple(map(reference, node.operands)), _attributes(node)))
        number[node] = len(number)
    return (*rows, reference(graph.result))
