"""The public calls of srsdk that a file goes through; they run in the child."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

import srsdk
from srsdk.options import Backend

CHECKED_PX = 30_000_000
"""Of larger results only the header is read again."""


class Unreadable(Exception):  # noqa: N818 - an outcome of its own, no error of srsdk
    """A call that returned, but whose result is no picture."""


class Late(Exception):  # noqa: N818 - an outcome of its own, no error of srsdk
    """A video that was stopped when its time was over."""


class Calls:
    """All calls, with one Upscaler for the pictures and videos.

    Args:
        settings: `model`, `memory_bytes` and `seconds` (the deadline of each call).
    """

    refusals = (srsdk.SrsdkError,)
    late = (srsdk.DeadlineExceeded, Late)

    def __init__(self, settings: dict[str, Any]) -> None:
        self._seconds = float(settings["seconds"])
        self._budget = srsdk.Budget(memory_bytes=int(settings["memory_bytes"]))
        self._up = srsdk.Upscaler(settings["model"], budget=self._budget)
        self._up(np.zeros((16, 16, 3), np.uint8))

    def run(self, call: str, path: Path, folder: Path) -> Path | None:
        """Make a call; return the file that was asked for, if any."""
        kind, _, suffix = call.partition(".")
        target = folder / f"result.{suffix}"
        if kind == "picture":
            self._up.upscale_file(path, target, timeout=self._seconds)
        elif kind == "video":
            self._upscale_video(path, target)
        elif kind == "array":
            self._up(path, timeout=self._seconds)
            return None
        else:
            self._open_model(path, cast("Backend", kind.removeprefix("model ")))
            return None
        return target

    def check(self, call: str, path: Path, target: Path | None) -> None:
        """Read the result again.

        Raises:
            Unreadable: it is missing or no picture.
        """
        if target is None:
            return
        if not target.is_file() or not target.stat().st_size:
            raise Unreadable("the result is missing or empty")
        if not call.startswith("picture"):
            return
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            _read(target)
        except Exception as error:  # libraries raise many types for a damaged file
            raise Unreadable(f"the result cannot be read: {error!r}") from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit

    def _upscale_video(self, path: Path, target: Path) -> None:
        from srsdk import video

        end_s = time.monotonic() + self._seconds

        def progress(done: int, total: int) -> None:
            if time.monotonic() > end_s:
                raise Late(f"{done} of {total} frames in {self._seconds:g} s")

        video.upscale(self._up, path, target, progress=progress)

    def _open_model(self, path: Path, backend: Backend) -> None:
        with srsdk.Upscaler(path, backend=backend, budget=self._budget) as up:
            channels = np.zeros((16, 16, 3), np.uint8)
            up(channels, timeout=self._seconds)


def _read(path: Path) -> None:
    """Decode a picture with Pillow, or with libvips what Pillow does not know (16-bit alpha)."""
    try:
        with Image.open(path) as image:
            if image.width * image.height <= CHECKED_PX:
                image.load()
    except UnidentifiedImageError:
        if importlib.util.find_spec("pyvips") is None and path.suffix == ".tiff":
            return
        import pyvips

        pyvips.Image.new_from_file(str(path), access="sequential", fail_on="error").avg()
