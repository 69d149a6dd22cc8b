"""MindSpore programs that cellc runs unchanged; see surface.py. PROGRAMS is the table of all."""

from mindspore_programs.surface import PROGRAMS, Program, encode

__all__ = ["PROGRAMS", "Program", "encode"]

for _part in ("gradients", "bprops", "training", "layers", "losses", "values", "statements",
              "cells", "models"):
    __import__(f"mindspore_programs.{_part}")
