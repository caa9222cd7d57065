"""Write several files atomically: all appear complete, or none does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType


class Staging:
    """Write to temporary names beside the final ones; `with` removes unpublished files."""

    def __init__(self) -> None:
        self._staged: dict[Path, Path] = {}

    def path(self, final: Path) -> Path:
        """Return the temporary name for `final`, with the same suffix."""
        temporary = final.with_name(f".{final.stem}.{os.getpid()}.tmp{final.suffix}")
        self._staged[final] = temporary
        return temporary

    def publish(self) -> None:
        """Rename every file to its final name, replacing existing files; signals are deferred."""
        with _signals_deferred():
            for final, temporary in self._staged.items():
                os.replace(temporary, final)
            self._staged.clear()

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for temporary in self._staged.values():
            temporary.unlink(missing_ok=True)


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Defer SIGINT (Ctrl-C) and SIGTERM (containers) until the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread
        return
    received = []

    def keep(number: int, _: FrameType | None) -> None:
        received.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, keep) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received:
        raise KeyboardInterrupt
