"""Calls that do what a file's name says, so that the runner itself can be tested."""

from __future__ import annotations

import atexit
import os
import tempfile
import time
from pathlib import Path
from typing import Any

HUGE_BYTES = 1 << 40


class Refusal(Exception):  # noqa: N818 - stands for `SrsdkError`
    """What a call may raise."""


class Deadline(Refusal):
    """What a call raises after its deadline."""


class Calls:
    """`done.png` is done, `foreign.png` raises `ValueError`, and so on."""

    refusals = (Refusal,)
    late = (Deadline,)

    def __init__(self, settings: dict[str, Any]) -> None:
        self._seconds = float(settings["seconds"])
        self._kept: dict[str, Any] = {}

    def run(self, call: str, path: Path, folder: Path) -> Path | None:
        """Do what the name says, then write the result."""
        action = getattr(self, f"_{path.stem}", None)
        if action is not None:
            action(path)
        target = folder / "result.png"
        target.write_bytes(path.read_bytes())
        return target

    def check(self, call: str, path: Path, target: Path | None) -> None:
        """Raise for a result that the name says is bad."""
        if path.stem == "unreadable":
            raise ValueError("no picture")

    def _refused(self, _: Path) -> None:
        raise Refusal("not today")

    def _foreign(self, _: Path) -> None:
        raise ValueError("two\nlines")

    def _crashed(self, _: Path) -> None:
        os.abort()

    def _exited(self, _: Path) -> None:
        os._exit(0)

    def _hangs(self, _: Path) -> None:
        time.sleep(600)

    def _slow(self, _: Path) -> None:
        time.sleep(1.2 * self._seconds)

    def _late(self, _: Path) -> None:
        time.sleep(1.2 * self._seconds)
        raise Deadline("too long")

    def _aborts(self, path: Path) -> None:
        """Be late, and leave work behind that ends the process."""
        atexit.register(os.abort)
        self._late(path)

    def _left(self, _: Path) -> None:
        descriptor, _name = tempfile.mkstemp(suffix=".part")
        os.close(descriptor)

    def _changed(self, path: Path) -> None:
        path.write_bytes(path.read_bytes() + b"more")

    def _leaked(self, path: Path) -> None:
        self._kept[f"{time.monotonic()}"] = path.open("rb")

    def _opens(self, path: Path) -> None:
        """Keep one descriptor, at the first call only."""
        self._kept.setdefault("log", path.open("rb"))

    def _large(self, _: Path) -> None:
        time.sleep(0.1)  # so that the memory is seen by systems that sample it
        self._kept["large"] = b"1" * 300_000_000
        del self._kept["large"]

    def _huge(self, _: Path) -> None:
        bytes(HUGE_BYTES)

    def _noisy(self, _: Path) -> None:
        os.write(1, b"a library prints\n")
        os.write(2, b"a library complains\n")
