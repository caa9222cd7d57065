"""The command line: train by a recipe, list recipes, score and publish what came out.

Uses: data, distributed, evaluation, loop, packing, recipe, start, tensorboard, usage.
"""

from __future__ import annotations

from training.cli.entry import main

__all__ = ["main"]
