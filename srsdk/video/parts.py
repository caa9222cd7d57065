"""Keep finished parts of a video on disk, so that a stopped run can resume.

Each part is a complete video file. When it is written and synced it gets its final name, and then a
record of its length and SHA-256, against which a resumed run reads it back. All parts of a run have
the same number of frames, even after interruptions, so a run that was stopped and resumed gives the
same frames as an undisturbed one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from srsdk.errors import OutputError, UsageError
from srsdk.system import durable, locks
from srsdk.system.paths import discard
from srsdk.video.run_files import (
    FORMAT,
    LOCK,
    OURS,
    PART,
    PARTIAL,
    STATE,
    UNFINISHED,
    folder_of,
    read_record,
    short,
)

log = logging.getLogger("srsdk")

PART_FRAMES = 300
"""Frames per part. With more, a power loss costs more; with fewer, the encoder looks ahead less."""
_START_OVER = "overwrite=True without resume=True starts over"


@dataclass(frozen=True)
class Part:
    """A complete video file that holds some of the frames."""

    path: Path
    number: int
    frames: int


class Parts:
    """The folder of parts next to the target.

    Args:
        target: the video file to write.
        key: everything that the parts depend on; a run with another key cannot be resumed.
    """

    def __init__(self, target: Path, key: dict[str, Any]) -> None:
        self.length = PART_FRAMES
        self.folder = folder_of(target)
        # through JSON, to compare with what is read back
        text = json.dumps({**key, "part_frames": self.length}, default=str, sort_keys=True)
        self._key = json.loads(text)
        self._run = hashlib.sha256(text.encode()).hexdigest()
        self._frames: dict[int, int] = {}
        self._made_folder = self._prepared = False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder if it is missing, and keep other runs out of it.

        Afterwards a folder without a finished part or a partial file is removed.

        Raises:
            UsageError: another run has the same target.
            OutputError: the folder cannot be created or locked.
        """
        lock = self._lock()
        try:
            yield
        finally:
            if self._prepared and not self._frames and not (self.folder / PARTIAL).exists():
                self._clear()
            lock.release()
            if self._prepared or self._made_folder:
                self._remove_folder()

    def check(self, *, resume: bool, overwrite: bool) -> bool:
        """Return whether there is a run to resume; the folder is locked, nothing is changed.

        Raises:
            UsageError: an interrupted run exists, but neither `resume` nor `overwrite` is set; or
                it is damaged, or has another video, model or setting.
            OutputError: the folder holds files that srsdk did not write.
        """
        names = [name for name in os.listdir(self.folder) if not UNFINISHED.fullmatch(name)]
        foreign = self._foreign()
        if foreign and (STATE not in names or (overwrite and not resume)):
            raise OutputError(
                f"{self.folder} holds {foreign[0]!r}, which no run of srsdk wrote; move it away, "
                "because the folder is removed after the run"
            )
        if names == [LOCK]:
            return False
        if resume:
            self._check_same()
        elif not overwrite:
            raise UsageError(
                f"{self.folder} holds parts of an interrupted run; resume=True continues it, "
                "overwrite=True starts over"
            )
        return resume

    def prepare(self, *, resume: bool) -> None:
        """Read the parts of the interrupted run back against their records, or start a new run.

        Raises:
            OutputError: the folder cannot be written.
        """
        self._prepared = True
        with self._translated():
            if resume:
                self._verify()
                return
            self._clear(keep_partial=True)
            durable.write_record(self.folder / STATE, self._key)

    def holds(self, index: int) -> bool:
        """Return whether a finished part holds the frame with this index."""
        return index % self.length < self._frames.get(index // self.length, 0)

    @property
    def frames(self) -> int:
        """Number of frames in the finished parts."""
        return sum(self._frames.values())

    def beginning(self) -> list[Part]:
        """Return the finished parts, in order, up to the first that is missing."""
        found: list[Part] = []
        while (number := len(found)) in self._frames:
            found.append(Part(self.path(number), number, self._frames[number]))
        return found

    def path(self, number: int) -> Path:
        """Return the path of a part, which may not exist yet."""
        return self.folder / f"{number:06d}.{FORMAT}"

    def keep(self, temporary: Path, number: int, frames: int) -> None:
        """Give a complete part its name, and then its record.

        Raises:
            OutputError: the folder cannot be written.
        """
        path = self.path(number)
        with self._translated():
            durable.rename(temporary, path)
            facts = {"bytes": path.stat().st_size, "sha256": durable.digest_of(path)}
            record = {"run": self._run, "part": number, "frames": frames, **facts}
            durable.write_record(path.with_suffix(".json"), record)
        self._frames[number] = frames

    def made(self, partial: Path) -> bool:
        """Return whether a partial file was written by this run or the one that it replaces."""
        try:
            found = partial.stat()
        except OSError:
            return False
        return [found.st_size, found.st_mtime_ns] in self._partials()

    def note(self, temporary: Path) -> None:
        """Remember a complete file that becomes the partial file.

        Raises:
            OutputError: the folder cannot be written.
        """
        found = temporary.stat()
        with self._translated():
            # the one before too, which stays if the power fails now
            known = [*self._partials()[-1:], [found.st_size, found.st_mtime_ns]]
            durable.write_record(self.folder / PARTIAL, known)

    def remove(self) -> None:
        """Remove all parts and records; `locked` removes the folder."""
        self._frames = {}
        self._clear()

    def _lock(self) -> locks.Lock:
        while True:
            self._made_folder |= not self.folder.exists()
            try:
                durable.make_folder(self.folder)
            except FileExistsError as error:
                raise OutputError(f"{self.folder} is not a folder; move it away") from error
            except OSError as error:
                raise OutputError(f"{self.folder} cannot be written: {error.strerror}") from error
            try:
                lock = locks.acquire(self.folder / LOCK)
            except FileNotFoundError:
                continue  # the run that had it has just removed the folder
            except OSError as error:
                raise OutputError(f"{self.folder} cannot be locked: {error.strerror}") from error
            if lock is None:
                raise UsageError(
                    f"another run writes into {self.folder} at this moment; wait for it, or choose "
                    "another target"
                )
            return lock

    def _remove_folder(self) -> None:
        """Remove the folder, unless it holds parts to resume, or files of the user's."""
        with suppress(OSError):
            self.folder.rmdir()
        if not self._frames and (left := self._foreign()):
            log.warning("%s stays, because it holds %s", self.folder, left[0])

    def _foreign(self) -> list[str]:
        """Return the names in the folder that no run of srsdk gives."""
        with suppress(FileNotFoundError):
            names = os.listdir(self.folder)
            return sorted(name for name in names if not OURS.fullmatch(name))
        return []

    def _check_same(self) -> None:
        previous = read_record(self.folder / STATE)
        if not isinstance(previous, dict):
            raise UsageError(f"{self.folder / STATE} is damaged or missing; {_START_OVER}")
        for name in sorted({*previous, *self._key}):
            if previous.get(name) != self._key.get(name):
                raise UsageError(
                    f"{self.folder} was made with {name} {short(previous.get(name))}, this run "
                    f"has {short(self._key.get(name))}; {_START_OVER}"
                )

    def _verify(self) -> None:
        found = [PART.fullmatch(name) for name in os.listdir(self.folder)]
        numbers = {int(match[1]) for match in found if match}
        for number in numbers:
            if frames := self._verified(number):
                self._frames[number] = frames
        # a number in a name may be anything; one in a good record is real
        whole = range(max(self._frames, default=-1) + 1)
        bad = {*numbers, *whole} - set(self._frames)
        for number in bad:
            discard(self.path(number).with_suffix(".json"))
            discard(self.path(number))
        self._clear(UNFINISHED)
        if bad:
            count, total = len(bad), len(bad) + len(self._frames)
            log.warning(
                "%s: %d of %d parts are damaged or missing; their frames, up to %d, are computed "
                "again", self.folder, count, total, count * self.length,
            )  # fmt: skip

    def _verified(self, number: int) -> int:
        """Return the number of frames in a part, or 0 if it is not what its record says."""
        path = self.path(number)
        record = read_record(path.with_suffix(".json"))
        if not isinstance(record, dict):
            return 0
        frames, size, digest = (record.get(name) for name in ("frames", "bytes", "sha256"))
        is_ours = record.get("run") == self._run and record.get("part") == number
        if not is_ours or not isinstance(frames, int) or not 0 < frames <= self.length:
            return 0
        with suppress(OSError):
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) and found.st_size == size:
                return frames if durable.digest_of(path) == digest else 0
        return 0

    def _partials(self) -> list[Any]:
        known = read_record(self.folder / PARTIAL)
        return known if isinstance(known, list) else []

    def _clear(self, only: re.Pattern[str] | None = None, *, keep_partial: bool = False) -> None:
        """Remove our own files, and nothing else."""
        kept = {LOCK, PARTIAL} if keep_partial else {LOCK}
        for name in set(os.listdir(self.folder)) - kept:
            if (only or OURS).fullmatch(name):
                with suppress(OSError):  # what cannot be removed is not ours, such as a folder
                    (self.folder / name).unlink()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be written: {error.strerror}") from error
