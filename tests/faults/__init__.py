"""Fault tests: stop processes at random moments; not collected by pytest (docs/survival.md)."""
