"""Files that appear together, whole, or not at all."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType


class Staging:
    """Temporary names beside the final ones; `with` removes what was not published."""

    def __init__(self) -> None:
        self._staged: dict[Path, Path] = {}

    def path(self, final: Path) -> Path:
        """Return the temporary name under which to write `final`, of the same suffix."""
        temporary = final.with_name(f".{final.stem}.{os.getpid()}.tmp{final.suffix}")
        self._staged[final] = temporary
        return temporary

    def publish(self) -> None:
        """Give every file its final name, replacing what is there; signals wait for the last."""
        with _undisturbed():
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
def _undisturbed() -> Iterator[None]:
    """Keep Ctrl-C, and what stops a container, until the end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread
        return
    came = []

    def keep(number: int, _: FrameType | None) -> None:
        came.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, keep) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt
