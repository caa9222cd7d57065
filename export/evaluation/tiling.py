"""Measure on real pictures what tiles cost a network with global context."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import onnx

import srsdk
from export.evaluation.memory import bytes_per_px
from export.graph.session import session_run
from export.protocol import Batch, Facts, Run
from training.data.color import in_channels
from training.data.pictures import find_pictures, read_rgb
from training.data.resize import Picture, imresize

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]

OVERLAPS_PX = (8, 16, 32, 64)
TILE_PX, PICTURE_PX, PICTURES = 128, 320, 4
"""Pictures are reduced as a whole, so that tiles differ from them as the corners of a photograph
differ from all of it: a tile has a sixth of the area, as 1024x1024 px have of 6 megapixels."""
LARGE_WEIGHTS, PICTURE_PX_OF_LARGE, PICTURES_OF_LARGE = 4_000_000, 256, 2
"""A picture and its tiles are 131,000 pixels: with 16 million weights, 42 s at 100 GFLOP/s."""
ENOUGH_DB = 0.1
"""A larger overlap that gains no more than this is not worth its time."""
LEAST_DB = 30.0
"""Below this, tiles differ from the whole by 8 levels on average: seams are seen at once."""
EQUAL_DB = 99.0
"""Stands for equal results."""
SAMPLE = Path(srsdk.__file__).parent / "serving" / "astronaut.png"


@dataclass(frozen=True)
class Cost:
    """What tiles cost."""

    tiling: str
    """`bounded`, or `none`: less than `LEAST_DB` with every overlap."""
    radius_px: int
    """Smallest overlap that is within `ENOUGH_DB` of the best."""
    psnr_db: MappingProxyType[str, float]
    """PSNR of tiles against the whole picture, by overlap in px."""


def with_cost(facts: Facts, model: onnx.ModelProto, folders: Sequence[Path]) -> Facts:
    """Return the facts with what tiles cost, and how much memory the whole picture takes.

    Only a network with global context, of any input size, has such a cost; the facts of others,
    and of a source that was measured before, are returned as they are.

    Args:
        facts: of the network.
        model: its float32 graph with a uint8 boundary.
        folders: of pictures; empty: the picture that srsdk ships.

    Raises:
        DataError: a folder holds no picture.
        ExportError: the graph does not run.
    """
    if facts.size_px is not None:
        return _within(facts, min(facts.size_px))
    if facts.tiling != "bounded" or facts.tiling_db:
        return facts
    log.info("measuring what tiles cost")
    cost = measure_cost(session_run(model), facts, folders)
    return dataclasses.replace(
        facts,
        tiling=cost.tiling,
        radius_px=cost.radius_px,
        tiling_db=cost.psnr_db,
        bytes_per_px=bytes_per_px(model, facts.channels, facts.multiple_px),
    )


def _within(facts: Facts, side_px: int) -> Facts:
    """Return the facts with an overlap that leaves something of tiles of the only size."""
    if 2 * facts.radius_px + facts.multiple_px <= side_px:
        return facts
    return dataclasses.replace(
        facts, tiling="bounded", radius_px=side_px // 4, radius_measured=True
    )


def measure_cost(run: Run, facts: Facts, folders: Sequence[Path]) -> Cost:
    """Compare the four corner tiles of some pictures with the whole picture, at every overlap.

    Args:
        run: upscales (N, H, W, C) uint8.
        facts: of a network with global context that accepts any size.
        folders: of pictures; empty: the picture that srsdk ships.

    Raises:
        DataError: a folder holds no picture.
    """
    squares: dict[int, list[float]] = {overlap: [] for overlap in OVERLAPS_PX}
    for picture in _pictures(facts, folders):
        whole = run(picture).astype(np.float64)
        for corner, tile in _corners(picture, facts.multiple_px):
            result = run(tile).astype(np.float64)
            for overlap, found in squares.items():
                found.append(_mean_square(result, whole, corner, overlap * facts.scale))
    psnr = {overlap: _psnr_db(float(np.mean(found))) for overlap, found in squares.items()}
    best = max(psnr.values())
    radius = min(overlap for overlap, db in psnr.items() if db >= best - ENOUGH_DB)
    by_text = MappingProxyType({str(overlap): db for overlap, db in psnr.items()})
    return Cost("bounded" if best >= LEAST_DB else "none", radius, by_text)


def _pictures(facts: Facts, folders: Sequence[Path]) -> list[Batch]:
    """Return pictures, (1, H, W, C), reduced to the size that they are compared in."""
    is_large = facts.weights > LARGE_WEIGHTS
    side = PICTURE_PX_OF_LARGE if is_large else PICTURE_PX
    side = max(_up(side, facts.multiple_px), _up(2 * TILE_PX, facts.multiple_px))
    paths = [path for folder in folders for path in find_pictures(folder)]
    if not paths:
        log.warning("no pictures are named: what tiles cost is measured on %s only", SAMPLE.name)
        paths = [SAMPLE]
    wanted = PICTURES_OF_LARGE if is_large else PICTURES
    chosen = paths[:: -(-len(paths) // wanted)]
    return [_prepared(read_rgb(path), side, facts.channels) for path in chosen]


def _prepared(rgb: Picture, side: int, channels: int) -> Batch:
    """Reduce (H, W, 3) to cover a square of `side`, and cut that out of its center."""
    reduced = imresize(rgb, side / min(rgb.shape[:2]))
    top, left = ((length - side) // 2 for length in reduced.shape[:2])
    square = reduced[top : top + side, left : left + side]
    if channels == 4:
        square = np.dstack([square, square[..., 1]])
    return np.ascontiguousarray(in_channels(square, channels)[None])


def _corners(picture: Batch, multiple_px: int) -> list[tuple[tuple[bool, bool], Batch]]:
    """Return ((is at the bottom, is at the right), tile) of each corner."""
    tile = _up(TILE_PX, multiple_px)
    found = []
    for corner in ((False, False), (False, True), (True, False), (True, True)):
        rows, columns = (slice(-tile, None) if end else slice(0, tile) for end in corner)
        found.append((corner, np.ascontiguousarray(picture[:, rows, columns])))
    return found


def _mean_square(result: Floats, whole: Floats, corner: tuple[bool, bool], border: int) -> float:
    """Return the mean square error of a tile without the border at its two cut sides."""
    height, width = result.shape[1:3]
    rows, columns = (
        slice(border - side, None) if end else slice(0, side - border)
        for end, side in zip(corner, (height, width), strict=True)
    )
    there = whole[:, -height:] if corner[0] else whole[:, :height]
    there = there[:, :, -width:] if corner[1] else there[:, :, :width]
    return float(np.mean((result[:, rows, columns] - there[:, rows, columns]) ** 2))


def _psnr_db(mean_square: float) -> float:
    if mean_square == 0:
        return EQUAL_DB
    return round(min(EQUAL_DB, 10 * float(np.log10(255**2 / mean_square))), 2)


def _up(side_px: int, multiple_px: int) -> int:
    return -(-side_px // multiple_px) * multiple_px
