"""named: the kernels that are not one loop nest."""

from __future__ import annotations

from cellc.kernels.product import NoProduct, emit_product, product_of


def find(graph):
    """The emitter of a group that is no loop nest, or None."""
    if any(node.prim.name == "dot" for node in graph.body):
        try:
            product_of(graph)
        except NoProduct:
            return None
        return emit_product
    return None
