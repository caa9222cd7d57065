"""Load for an hour; not collected by pytest (docs/survival.md)."""
