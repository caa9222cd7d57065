"""Refuse what would wait for itself: an `Upscaler` used from its own callbacks.

While `progress` runs, its call holds the slots that a second call would wait for. A worker thread
cannot wait for its own end, nor for a picture that no other worker may be free to compute.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from srsdk.errors import UsageError
from srsdk.scheduling.context import Progress


class _Marks(threading.local):
    reporting: tuple[object, ...] = ()
    """Whose progress callbacks this thread is in."""
    serving: tuple[object, ...] = ()
    """Whose worker this thread is, or whom it is closing."""


_marks = _Marks()


def marked(progress: Progress | None, *owners: object) -> Progress | None:
    """Return a callback during which the thread is known to be in one of `owners`."""
    if progress is None:
        return None

    def report(done: int, total: int) -> None:
        before = _marks.reporting
        _marks.reporting = (*before, *owners)
        try:
            progress(done, total)
        finally:
            _marks.reporting = before

    return report


@contextmanager
def serving(owner: object) -> Iterator[None]:
    """Mark this thread as a worker of `owner`, or as the thread that closes it."""
    before = _marks.serving
    _marks.serving = (*before, owner)
    try:
        yield
    finally:
        _marks.serving = before


def check_call(*owners: object) -> None:
    """Refuse a call from the owners' own progress callbacks.

    Raises:
        UsageError: the call would wait for itself.
    """
    if any(owner in _marks.reporting for owner in owners):
        raise UsageError(
            "this Upscaler is called from its own progress callback and would wait for itself: "
            "submit() the picture there and use the result after the call"
        )


def check_wait(owner: object) -> None:
    """Refuse to wait for a submitted picture in the owner's own callbacks and workers.

    Raises:
        UsageError: the thread would wait for itself.
    """
    if owner in _marks.reporting or owner in _marks.serving:
        raise UsageError(
            "the result of a submitted picture is waited for in a callback of the same Upscaler, "
            "which would wait for itself: submit it and use the result after the call"
        )


def check_close(*owners: object) -> None:
    """Refuse to close the owners from their own callbacks and workers.

    Raises:
        UsageError: the thread would wait for its own end.
    """
    if any(owner in _marks.reporting or owner in _marks.serving for owner in owners):
        raise UsageError(
            "close() is called from a callback of the same Upscaler and would wait for itself: "
            "close it after the call"
        )
