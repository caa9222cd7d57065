"""The files of a folder: what each is taken for, and which calls it goes through."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

VIDEOS = frozenset([
    ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".mxf", ".ogv", ".ts", ".webm", ".wmv", ".y4m",
])  # fmt: skip
MODELS = frozenset([".onnx", ".ort"])
OTHER_MODELS = frozenset([".engine", ".plan", ".pt", ".pth", ".safetensors"])
"""Files for GPUs or for the export: on a CPU they are refused."""
BACKENDS = ("openvino", "onnxruntime")
TARGETS = (".jpg", ".webp", ".tiff", ".avif")
"""Formats other than PNG that half of the pictures are also written in."""


@dataclass(frozen=True)
class File:
    """One file of a corpus."""

    folder: Path
    """The folder that the path is relative to."""
    path: str
    """Relative, with `/`."""
    kind: str
    """`picture`, `video` or `model` by its suffix; `other` is tried as a picture."""
    size_bytes: int
    sha256: str
    """Empty for what is no regular file or cannot be read."""

    @property
    def location(self) -> Path:
        """The path to open."""
        return self.folder / self.path

    @property
    def key(self) -> tuple[str, int, str]:
        """What a later run recognizes the file by."""
        return self.path, self.size_bytes, self.sha256

    @property
    def calls(self) -> tuple[str, ...]:
        """The calls that the file goes through, the same in each run."""
        if self.kind == "video":
            return ("video.mkv",)
        if self.kind == "model":
            own = self.location.suffix.lower() in MODELS
            return tuple(f"model {name}" for name in installed()) if own else ("model auto",)
        if self.kind == "other":
            return ("picture.png",)
        choice = hashlib.sha256(f"{self.path} {self.sha256}".encode(errors="replace")).digest()
        if choice[0] % 2:
            return ("picture.png",)
        others = (*(f"picture{suffix}" for suffix in TARGETS), "array")
        return ("picture.png", others[choice[1] % len(others)])


def installed() -> tuple[str, ...]:
    """Return the CPU backends that are installed."""
    return tuple(name for name in BACKENDS if importlib.util.find_spec(name) is not None)


def paths(folder: Path, closed: Callable[[OSError], None]) -> Iterator[str]:
    """Yield all files below a folder, relative and sorted; pipes and dangling links too.

    Args:
        folder: where to look.
        closed: called with the error of each folder that cannot be entered.
    """
    for at, folders, names in os.walk(folder, onerror=closed):
        folders.sort()
        for name in sorted(names):
            yield (Path(at) / name).relative_to(folder).as_posix()


def identify(folder: Path, path: str) -> File:
    """Read a file's size and hash, and say what it is taken for."""
    location = folder / path
    suffix = location.suffix.lower()
    kind = "picture" if suffix in Image.registered_extensions() else "other"
    if suffix in VIDEOS:
        kind = "video"
    elif suffix in MODELS or suffix in OTHER_MODELS:
        kind = "model"
    size_bytes, sha256 = 0, ""
    if location.is_file():
        size_bytes = location.stat().st_size
        try:
            with location.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:
            pass  # what cannot be read is tried all the same
    return File(folder, path, kind, size_bytes, sha256)
