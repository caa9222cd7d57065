"""Cache of decoded pictures: a memory-mapped file that later runs reuse.

One folder per set: `pixels.u8` holds all pictures one after another, `index.json` their offsets.
The folder's name is a hash of the files' names, sizes and times and of the options, so that a
changed picture or option makes another set. A rename creates it when its data is on the disk, so it
is complete or missing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from training.checkpoint import publish
from training.data import cifar
from training.data.pictures import DataError, Pair, decode, find_pictures, make_pair, refuse
from training.data.resize import Picture

log = logging.getLogger(__name__)

LAYOUT = 1
"""Version of the stored format; raise it on every change, so that older files are not read."""
PIXELS = "pixels.u8"
INDEX = "index.json"
AHEAD = 32
"""Pictures decoded at a time, which bounds memory for large sets."""


def default_folder() -> Path:
    """Return the platform's user cache folder for decoded pictures."""
    root = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(root) if root else Path.home() / ".cache") / "srsdk-training"


def pairs(
    folder: Path, scale: int, *, min_px: int = 1, gray: bool = True, cache: Path | None = None
) -> list[Pair]:
    """Return the pictures below `folder` with their bicubic reductions, decoded at most once.

    Args:
        folder: pictures of any size, nested; or CIFAR-10's python batches.
        scale: factor of the reduction; 1 pairs each picture with itself.
        min_px: pictures with a shorter side are skipped.
        gray: keep pictures without color.
        cache: folder of decoded sets; the user's cache folder if not given.

    Returns:
        Pairs named by their path below `folder`; read-only views of a memory-mapped file.

    Raises:
        DataError: nothing usable was found, or the cache cannot be written (the disk is full).
    """
    files = cifar.find_batches(folder) or find_pictures(folder)
    options = {"layout": LAYOUT, "scale": scale, "min_px": min_px, "gray": gray}
    stored = (cache or default_folder()) / _key(folder, files, options)
    if not (stored / INDEX).is_file():
        small = cifar.find_batches(folder)
        made = (
            (make_pair(picture, scale, name) for name, picture in cifar.read(small, min_px=min_px))
            if small
            else _decoded(folder, files, scale, min_px=min_px, gray=gray)
        )
        try:
            _write(stored, made)
        except OSError as error:
            raise DataError(f"{stored}: cannot be written: {error}; see --cache") from error
        log.info("%s: decoded into %s", folder, stored)
    return _read(stored)


def _key(folder: Path, files: list[Path], options: dict[str, Any]) -> str:
    """Hash everything that determines the contents."""
    facts = [
        (p.relative_to(folder).as_posix(), p.stat().st_size, p.stat().st_mtime_ns) for p in files
    ]
    text = json.dumps([str(folder.resolve()), facts, options])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _decoded(
    folder: Path, files: list[Path], scale: int, *, min_px: int, gray: bool
) -> Iterator[Pair]:
    def load(path: Path) -> Pair | str:
        picture = decode(path, min_px=min_px, gray=gray)
        if isinstance(picture, str):
            return picture
        return make_pair(picture, scale, path.relative_to(folder).as_posix())

    reasons: dict[Path, str] = {}
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), AHEAD):
            some = files[start : start + AHEAD]
            for path, made in zip(some, pool.map(load, some), strict=True):
                if isinstance(made, Pair):
                    yield made
                else:
                    reasons[path] = made
    refuse(folder, reasons, len(files))


def _write(stored: Path, made: Iterable[Pair]) -> None:
    """Write a set under a temporary name and rename it."""
    temporary = stored.with_name(f".{stored.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True, exist_ok=True)
    try:
        index = []
        with (temporary / PIXELS).open("wb") as file:
            for pair in made:
                same = pair.lr is pair.hr
                hr = _append(file, pair.hr)
                index.append(
                    {"name": pair.name, "hr": hr, "lr": hr if same else _append(file, pair.lr)}
                )
        (temporary / INDEX).write_text(json.dumps(index), encoding="utf-8")
        try:
            publish(temporary, stored)
        except OSError:
            # another run was faster: the same name means the same contents
            if not (stored / INDEX).is_file():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _append(file: BinaryIO, picture: Picture) -> list[int]:
    """Write a picture and return its offset, height and width."""
    offset = file.tell()
    file.write(np.ascontiguousarray(picture).data)
    return [offset, *picture.shape[:2]]


def _read(stored: Path) -> list[Pair]:
    pixels = np.memmap(stored / PIXELS, np.uint8, "r")
    index = json.loads((stored / INDEX).read_text(encoding="utf-8"))
    if not index:
        raise DataError(f"{stored}: the cached set is empty; delete this folder")

    def view(offset: int, height: int, width: int) -> Picture:
        count = math.prod((height, width, 3))
        picture: Picture = np.asarray(pixels[offset : offset + count]).reshape(height, width, 3)
        return picture

    return [Pair(entry["name"], view(*entry["lr"]), view(*entry["hr"])) for entry in index]
