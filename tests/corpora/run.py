"""All files of some folders, shared out between several children."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.corpora.files import identify, paths
from tests.corpora.ledger import Ledger
from tests.corpora.report import failed
from tests.corpora.worker import Settings, Stopped, Worker

PROGRESS_S = 5.0


class Run:
    """One pass over the files.

    Args:
        settings: limits of the children.
        ledger: earlier records, and where new ones go.
        scratch: an empty folder.
        jobs: number of children.
    """

    def __init__(self, settings: Settings, ledger: Ledger, scratch: Path, jobs: int) -> None:
        self._ledger = ledger
        self._stop = threading.Event()
        self._workers = [
            Worker(settings, scratch / str(number), self._stop.is_set)
            for number in range(max(1, jobs))
        ]
        self._waiting: queue.SimpleQueue[tuple[Path, str]] = queue.SimpleQueue()
        self._error: Exception | None = None
        self.records: list[dict[str, Any]] = []
        """Of all files, those tried earlier too."""
        self.tried = 0
        self.closed: list[OSError] = []
        """Folders that could not be entered."""
        self.exits: list[str] = []
        """What went wrong when children exited."""
        self.interrupted = False

    def execute(self, folders: Sequence[Path]) -> None:
        """Try all files; Ctrl-C ends the run and keeps what is done.

        Raises:
            NotStarted: the children do not start.
        """
        for folder in folders:
            for path in paths(folder, self.closed.append):
                self._waiting.put((folder, path))
        total = self._waiting.qsize()
        threads = [threading.Thread(target=self._work, args=(each,)) for each in self._workers]
        for thread in threads:
            thread.start()
        try:
            self._watch(threads, total)
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        if self._error is not None:
            raise self._error
        if not self.interrupted:
            self.exits = [problem for each in self._workers if (problem := each.finish())]

    def close(self) -> None:
        """End the children."""
        for worker in self._workers:
            worker.close()

    def _work(self, worker: Worker) -> None:
        while not self._stop.is_set():
            try:
                folder, path = self._waiting.get_nowait()
            except queue.Empty:
                return
            file = identify(folder, path)
            record = self._ledger.earlier(file)
            if record is None:
                try:
                    record = worker.try_file(file)
                except Stopped:
                    return
                except Exception as error:  # raised again where the run was called
                    self._error = error
                    self._stop.set()
                    return
                self._ledger.add(record)
                self.tried += 1
            self.records.append(record)

    def _watch(self, threads: Sequence[threading.Thread], total: int) -> None:
        """Write progress until the threads end."""
        shown_s = time.monotonic()
        told = False
        while any(thread.is_alive() for thread in threads):
            next(thread for thread in threads if thread.is_alive()).join(0.1)
            if not told and (missing := self._workers[0].missing):
                told = True
                sys.stderr.write(f"this system has no limit of: {', '.join(missing)}\n")
            if time.monotonic() - shown_s >= PROGRESS_S:
                shown_s = time.monotonic()
                self._show(total)
        self._show(total)

    def _show(self, total: int) -> None:
        done, found = len(self.records), failed(self.records)
        sys.stderr.write(f"{done} of {total} files, {found} with findings\n")
        sys.stderr.flush()
