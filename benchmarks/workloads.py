"""Benchmark inputs: synthetic pictures, folders and videos, identical on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Picture = npt.NDArray[np.uint8]

FOLDER_SIZES_PX = ((96, 128), (180, 320), (240, 240), (270, 480), (333, 217), (360, 640))
VIDEO_FRAMES = 300


@dataclass(frozen=True)
class Workload:
    """Pictures of one size, or a folder or a video of them."""

    name: str
    """Name on the command line."""
    height: int
    """Height of a source picture, pixels."""
    width: int
    """Width of a source picture, pixels."""
    kind: str = "pictures"
    """`pictures` (arrays), `folder` (files of mixed sizes) or `video` (frames)."""


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("tile", 256, 256),
        Workload("180p", 180, 320),
        Workload("360p", 360, 640),
        Workload("720p", 720, 1280),
        Workload("1080p", 1080, 1920),
        Workload("folder", 360, 640, "folder"),
        Workload("video", 360, 640, "video"),
    )
}


def picture(height: int, width: int, seed: int = 0) -> Picture:
    """Make a (height, width, 3) uint8 picture: shapes of many sizes, edges, texture, some noise.

    Dead leaves (Lee, Mumford and Huang, 2001): the statistics of photographs, without a photograph.
    """
    random = np.random.default_rng(seed)
    canvas = np.full((height, width, 3), 128, np.float32)
    smallest, largest = 4, max(min(height, width) / 3, 8)
    for _ in range(400):
        # radii follow an inverse cube law
        u = random.random()
        radius = 1 / np.sqrt(u / largest**2 + (1 - u) / smallest**2)
        y, x = random.random() * height, random.random() * width
        rows = slice(max(int(y - radius), 0), int(y + radius) + 1)
        columns = slice(max(int(x - radius), 0), int(x + radius) + 1)
        yy, xx = np.ogrid[rows, columns][0], np.ogrid[rows, columns][1]
        part = canvas[rows, columns]
        yy, xx = yy[: part.shape[0]], xx[:, : part.shape[1]]
        inside = (yy - y) ** 2 + (xx - x) ** 2 < radius**2
        stripes = 20 * np.sin((xx * random.normal() + yy * random.normal()) * 0.7)
        part[inside] = (random.random(3) * 255 + stripes[..., None])[inside]
    canvas += random.normal(0, 3, canvas.shape)
    result: Picture = np.clip(canvas, 0, 255).astype(np.uint8)
    return result


def pictures(workload: Workload, count: int) -> list[Picture]:
    """Make `count` different pictures of a workload."""
    return [picture(workload.height, workload.width, seed) for seed in range(count)]


def write_folder(folder: Path) -> list[Path]:
    """Write pictures of mixed sizes and formats into a folder; return their paths."""
    paths = []
    for seed, (height, width) in enumerate(FOLDER_SIZES_PX):
        path = folder / f"{seed}.{('png', 'jpg')[seed % 2]}"
        Image.fromarray(picture(height, width, seed)).save(path)
        paths.append(path)
    return paths


def frames(workload: Workload, count: int = VIDEO_FRAMES) -> Iterator[Picture]:
    """Yield frames: a window that moves over one large picture, so that a codec has work to do."""
    scene = picture(workload.height + 64, workload.width + 64)
    for index in range(count):
        y, x = (int(32 + 31 * f(index / 20)) for f in (np.sin, np.cos))
        yield scene[y : y + workload.height, x : x + workload.width]
