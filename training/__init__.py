"""Train super-resolution networks from high-resolution pictures alone.

Run as ``python -m training RECIPE.toml --data DIR --out RUN``. The package is not needed to *use*
a model and is not part of the wheel.
"""
