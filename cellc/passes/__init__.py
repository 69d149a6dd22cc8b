"""Passes: graph to graph, one file each. `pipeline.py` runs those that every program goes through;
the parser asks for gradients and maps when it meets them. Nothing is imported here: a process that
remembers its programs needs few of them."""
