"""Sanitize text from outside: file names, messages of libraries."""

from __future__ import annotations


def plain(text: str) -> str:
    """Escape characters that would control a terminal, such as an escape in a file name."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
