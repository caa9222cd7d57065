"""Upscale damaged videos in a process with limits; prints one JSON line per file.

`python -m tests.srsdk.video.hostile FOLDER SEED COUNT` changes the clips in FOLDER at random.
"""

from __future__ import annotations

import io
import json
import logging
import random
import shutil
import sys
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from srsdk.errors import OutputError, PictureError
from srsdk.video import transcode
from tests.corpora import limits
from tests.srsdk.video import clips
from tests.srsdk.video.clips import Clip

ADDRESS_BYTES = 6 << 30
BARE = {"sound": False, "subtitles": False, "chapters": False}
KINDS: dict[str, dict[str, Any]] = {
    "mkv": {},
    "mp4": {"subtitles": False},
    "mov": {},
    "webm": {"codec": "libvpx-vp9", "sound": False, "subtitles": False},
    "avi": {"codec": "mpeg4", "subtitles": False, "chapters": False},
    "ts": {"subtitles": False, "chapters": False},
    "gif": {"codec": "gif", "pixel": "rgb8", **BARE},
}
SPECIAL = (0x00, 0x01, 0x7F, 0x80, 0xFF)
"""Bytes that make lengths and numbers extreme."""


class _Manifest:
    channels, multiple_px, radius_px, size_px, family = 3, 1, 0, None, "gan"
    tiling = "exact"

    def to_dict(self) -> dict[str, Any]:
        return {}


class Nearest:
    """Repeats pixels: only what reads and writes videos is tested, not the model."""

    scale, ahead, manifest, device = 2, 2, _Manifest(), "cpu"

    def submit(self, rgb: Any) -> Future[Any]:
        """Return a future that is done."""
        future: Future[Any] = Future()
        future.set_result(np.repeat(np.repeat(rgb, 2, 0), 2, 1))
        return future


def make_clips(folder: Path) -> None:
    """Write one small clip in each container."""
    for suffix, settings in KINDS.items():
        clips.make(folder / f"clip.{suffix}", Clip(frames=6, **settings))


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Cut, shorten, or change some bytes, more often near the beginning."""
    changed = bytearray(data)
    at = chance.randrange(len(data))
    end = min(len(data), at + chance.randrange(1, 2000))
    match chance.randrange(6):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + data[end:]
        case 2:
            changed[at:end] = bytes(end - at)
        case _:
            span = chance.choice((64, 400, 2000, len(data)))
            for _ in range(chance.choice((1, 1, 2, 4, 16))):
                here = chance.randrange(min(span, len(data)))
                changed[here] = chance.choice((*SPECIAL, changed[here] ^ 1 << chance.randrange(8)))
    return bytes(changed)


class OnePass(io.FileIO):
    """A file that cannot be read again, as a pipe."""

    def seekable(self) -> bool:
        """Return False."""
        return False


def outcome(source: Path, target: Path, way: str) -> str:
    """Return `done` or the error's message; anything but an error of one sentence is raised.

    `way` is `name`, or `pipe` to read the video once, or `y4m` to write frames into memory.
    """
    up: Any = Nearest()
    try:
        with ExitStack() as stack:
            given: Any = stack.enter_context(OnePass(source)) if way == "pipe" else source
            transcode.upscale(up, given, io.BytesIO() if way == "y4m" else target, drop=True)
    except (PictureError, OutputError) as error:
        return str(error)
    target.unlink(missing_ok=way == "y4m")
    return "done"


def report(value: dict[str, Any]) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run and report."""
    folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    limits.limit(ADDRESS_BYTES)
    logging.getLogger("srsdk").setLevel(logging.CRITICAL)
    chance = random.Random(seed)
    originals = [folder / f"clip.{suffix}" for suffix in KINDS]
    for number in range(count):
        original = chance.choice(originals)
        work = folder / "work"
        work.mkdir()
        source = work / f"in{original.suffix}"
        source.write_bytes(damaged(original.read_bytes(), chance))
        report({"number": number, "name": original.name})
        way = chance.choice(("name", "name", "pipe", "y4m"))
        said = outcome(source, work / chance.choice(("out.mkv", "out.mp4")), way)
        left = sorted(path.name for path in work.iterdir() if path != source)
        report({"number": number, "said": said, "left": left})
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
