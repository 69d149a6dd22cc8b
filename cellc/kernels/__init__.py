"""From a group of the fused graph to machine code; `docs/layout.md` says which file does what."""
