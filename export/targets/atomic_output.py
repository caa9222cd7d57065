"""Write several files atomically: all appear complete, or none does.

A power cut between two renames leaves some of them, each complete; the same command makes the rest.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType

from srsdk.system.durable import make_folder, sync, sync_folder


class Staging:
    """Write to temporary names beside the final ones; `with` removes unpublished files.

    Missing folders are created, and removed again if nothing is published.
    """

    def __init__(self) -> None:
        self._staged: dict[Path, Path] = {}
        self._made: list[Path] = []
        self.published = False
        """Whether the files have their final names; true before an interrupt can be raised."""

    def path(self, final: Path) -> Path:
        """Return the temporary name for `final`, with the same suffix.

        A file is named before what belongs to it, such as its hash: `publish` renames it last, so
        that it never stands alone.
        """
        self._make_folder(final.parent)
        temporary = final.with_name(f".{final.stem}.{os.getpid()}.tmp{final.suffix}")
        self._staged[final] = temporary
        return temporary

    def publish(self) -> None:
        """Sync every file, then rename it, replacing existing files, then sync the folders.

        Signals are deferred from the first rename on.
        """
        for temporary in self._staged.values():
            sync(temporary)
        with signals_deferred():
            for final, temporary in reversed(self._staged.items()):
                os.replace(temporary, final)
            for folder in {final.parent for final in self._staged}:
                sync_folder(folder)
            self._staged.clear()
            self._made.clear()
            self.published = True

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
        for folder in self._made:
            with suppress(OSError):  # somebody else has put a file there
                folder.rmdir()

    def _make_folder(self, folder: Path) -> None:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        make_folder(folder)
        self._made += missing


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Defer SIGINT (Ctrl-C) and SIGTERM (containers) until the end of the block.

    Raises:
        KeyboardInterrupt: one of them arrived; the block was executed completely.
    """
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
