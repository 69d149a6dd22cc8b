# ruff: noqa: F401  (names for others to import)
"""Training: saving and loading weights."""

from cellc.train import serialization
from cellc.train.serialization import load_checkpoint, load_param_into_net, save_checkpoint
