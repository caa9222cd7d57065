"""Training recipes: all settings of a run, read from TOML and checked.

Uses: nothing.
"""
