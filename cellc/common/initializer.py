# ruff: noqa: F401  (names for others to import)
"""The initialisers of `cellc.nn.initializer`, under MindSpore's name."""

from cellc.nn.initializer import (
    Constant,
    HeNormal,
    HeUniform,
    Identity,
    Initializer,
    Normal,
    One,
    Orthogonal,
    TruncatedNormal,
    Uniform,
    XavierNormal,
    XavierUniform,
    Zero,
    initializer,
)
