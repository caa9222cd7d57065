"""Processes that are stopped at random moments; not collected by pytest (docs/survival.md)."""
