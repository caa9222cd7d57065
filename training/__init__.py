"""Train super-resolution networks from high-resolution pictures alone.

Run as ``python -m training RECIPE.toml --data DIR --out RUN``. Nothing here is needed to *use* a
model; nothing here goes into the wheel.
"""
