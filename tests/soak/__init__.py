"""Soak test: an hour of every kind of load at once; not collected by pytest (docs/survival.md)."""
