"""Exceptions of the export tool."""

from __future__ import annotations


class ExportError(RuntimeError):
    """Base class of export errors; the message states what was found and what was expected."""


class UsageError(ExportError):
    """Invalid or contradictory options."""


class GateError(ExportError):
    """A file differs from its network by more than its gate allows; it is not written."""
