"""Soak test: an hour of load; not collected by pytest (docs/survival.md)."""
