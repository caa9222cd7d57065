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
MIXED = 24
"""Pictures of the workload `mixed`; each size occurs once, and 4 of them twice."""
_USUAL_PX = (
    *((150, 150), (120, 160), (180, 240), (200, 200), (240, 320), (225, 300), (128, 128)),
    *((360, 480), (400, 600), (480, 640), (512, 512), (427, 640), (375, 500), (333, 500)),
    *((576, 768), (450, 800), (576, 1024)),
)
"""(height, width) of usual thumbnails and web pictures, landscape."""


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
    """`pictures` (arrays), `mixed` (arrays of many sizes), `folder` (files of mixed sizes) or
    `video` (frames)."""


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("tile", 256, 256),
        Workload("180p", 180, 320),
        Workload("360p", 360, 640),
        Workload("720p", 720, 1280),
        Workload("1080p", 1080, 1920),
        Workload("mixed", 360, 640, "mixed"),
        Workload("folder", 360, 640, "folder"),
        Workload("video", 360, 640, "video"),
        Workload("video540", 540, 960, "video"),
        Workload("screen", 360, 640, "video"),
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


def mixed_sizes(count: int = MIXED, seed: int = 0) -> list[tuple[int, int]]:
    """Draw (height, width) as a server receives them: thumbnails and web pictures in random order.

    Two in three are thumbnails, one in three is portrait, and most are cropped by a few pixels, so
    that hardly a size occurs twice.
    """
    random = np.random.default_rng(seed)
    thumbnails = [size for size in _USUAL_PX if size[0] <= 240]
    others = [size for size in _USUAL_PX if size[0] > 240]
    found: list[tuple[int, int]] = []
    while len(found) < count - count // 6:
        usual = (thumbnails, thumbnails, others)[int(random.integers(3))]
        height, width = usual[int(random.integers(len(usual)))]
        cropped = int(height - random.integers(24)), int(width - random.integers(32))
        size = cropped[::-1] if random.random() < 1 / 3 else cropped
        if size not in found:
            found.append(size)
    again = [found[int(index)] for index in random.choice(len(found), count // 6, replace=False)]
    sizes = found + again
    random.shuffle(sizes)
    return [(height, width) for height, width in sizes]


def mixed_pictures(seed: int = 0) -> list[Picture]:
    """Make the pictures of the workload `mixed`."""
    sizes = enumerate(mixed_sizes(seed=seed))
    return [picture(height, width, number) for number, (height, width) in sizes]


def write_folder(folder: Path) -> list[Path]:
    """Write pictures of mixed sizes and formats into a folder; return their paths."""
    paths = []
    for seed, (height, width) in enumerate(FOLDER_SIZES_PX):
        path = folder / f"{seed}.{('png', 'jpg')[seed % 2]}"
        Image.fromarray(picture(height, width, seed)).save(path)
        paths.append(path)
    return paths


def frames(workload: Workload, count: int = VIDEO_FRAMES) -> Iterator[Picture]:
    """Yield the frames of a video workload."""
    make = _screen if workload.name == "screen" else _moving
    return make(workload, count)


def _moving(workload: Workload, count: int) -> Iterator[Picture]:
    """Yield a window that moves over one large picture, so that a codec has work to do."""
    scene = picture(workload.height + 64, workload.width + 64)
    for index in range(count):
        y, x = (int(32 + 31 * f(index / 20)) for f in (np.sin, np.cos))
        yield scene[y : y + workload.height, x : x + workload.width]


def _screen(workload: Workload, count: int) -> Iterator[Picture]:
    """Yield a screen recording: a page with text and a picture, a moving pointer, typed text.

    Every third second the page scrolls for ten frames.
    """
    page, top = _page(2 * workload.height, workload.width), 0
    for index in range(count):
        if index % 75 >= 65:
            top = (top + 4) % workload.height
        shown = page[top : top + workload.height].copy()
        shown[294:316, 36 : workload.width - 100] = 250
        typed = (index // 3) % 60
        for letter in range(typed):
            shown[300:310, 40 + 8 * letter : 46 + 8 * letter] = _letter(letter)
        y = int(workload.height / 2 + workload.height / 3 * np.sin(index / 15))
        x = int(workload.width / 2 + workload.width / 3 * np.cos(index / 23))
        shown[y : y + 16, x : x + 10] = (20, 20, 20)
        yield shown


def _page(height: int, width: int) -> Picture:
    page: Picture = np.full((height, width, 3), 250, np.uint8)
    for row in range(20, height - 20, 18):
        for column in range(40, width // 2, 8):
            if (row * 31 + column) % 7:
                page[row : row + 10, column : column + 6] = _letter(row + column)
    page[40:240, width // 2 + 30 : width // 2 + 280] = picture(200, 250, seed=1)
    return page


def _letter(code: int) -> Picture:
    random = np.random.default_rng(code % 26)
    ink = random.random((10, 6, 1)) < 0.45
    return np.where(ink, 30, 250).astype(np.uint8)
