"""named: the kernels that are not one loop nest."""

from __future__ import annotations


def find(graph):
    """The emitter of a group that is no loop nest, or None."""
    return
